#!/usr/bin/env python3
"""diffc beside another program on the same weights, in turn, in one run; see README.md here.

    python run.py unet|vae|taesd|clip-text|clip-image --diffc DIFFC -m MODEL -x EXPORTS [--peer openvino-f32] [--batch B] [--isa avx2]
    python run.py index --diffc DIFFC -m MODEL -x EXPORTS --pictures FOLDER [--peer torch-f32]
    python run.py e2e --diffc DIFFC -m MODEL -x EXPORTS [--peer openvino-f32] [--steps 4]
    python run.py e2e --diffc DIFFC -m MODEL -x EXPORTS --peer sd.cpp --sd SD-CLI --sd-model FILE

The ratio is the peer's seconds / diffc's seconds: above 1, diffc is faster.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time

import check
import sides

CALM_PEAK, CALM_OTHERS = 0.95, 0.08  # of the best peak of the run, at least; of the CPU time of a turn taken by others, at most


def interval(values, draws=2000):
    """95 % bootstrap interval of the median."""
    g = random.Random(0)
    medians = sorted(statistics.median(g.choices(values, k=len(values))) for _ in range(draws))
    return [medians[int(0.025 * draws)], medians[int(0.975 * draws) - 1]]


def peak_now(a):
    time.sleep(0.5)  # the peer's threads may spin a little after their pass
    return json.loads(subprocess.check_output([a.peak, str(a.threads)] + ([a.isa] if a.isa else [])))


def busy_seconds():
    """CPU seconds that all CPUs together were not idle, what the host took from a virtual machine among them."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, soft, steal = map(int, f.readline().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def one_turn(side):
    """Seconds of a turn, and the part of the machine's CPU time meanwhile that neither this side nor this program took."""
    busy, own, began = busy_seconds(), sum(os.times()[:2]), time.perf_counter()
    seconds = side.time()
    busy, own, wall = busy_seconds() - busy, sum(os.times()[:2]) - own, time.perf_counter() - began
    return seconds, max(0, busy - own - side.cpu_seconds) / (wall * os.cpu_count())


def measure(a, ours, peer, expected):
    """Pairs in the order A B B A: what drifts slowly meets both alike. The peak is taken around every turn, and the CPU time of others in it:
    a pair with less than 95 % of the run's best float32 peak beside it, or more than 8 % taken by others, was disturbed and does not count,
    unless all were."""
    pairs, peaks, errors = [], [peak_now(a)], {}
    for i in range(a.first, a.first + a.pairs):
        turn = {"others": {}}
        for name, side in (("diffc", ours), ("peer", peer))[::1 if i % 2 == 0 else -1]:
            turn[name], turn["others"][name] = one_turn(side)
            errors[name] = check.hold(side.name, side.precision, a.what, side.answer, expected)
            peaks.append(peak_now(a))
        pairs.append(turn)
        print(f"# diffc {turn['diffc']:.4f} s, {a.peer} {turn['peer']:.4f} s; others took {100 * turn['others']['diffc']:.1f} and "
              f"{100 * turn['others']['peer']:.1f} %; peak f32 {[p['f32'] for p in peaks[-3:]]}", flush=True)
    best = {k: max(p[k] for p in peaks) for k in peaks[0]}
    calm = [t for i, t in enumerate(pairs) if min(p["f32"] for p in peaks[2 * i:2 * i + 3]) >= CALM_PEAK * best["f32"]
            and max(t["others"].values()) <= CALM_OTHERS]
    kept = calm or pairs
    ratios = [t["peer"] / t["diffc"] for t in kept]
    result = {name: dict(name=side.name, precision=side.precision, seconds=statistics.median(t[name] for t in kept), peak_gib=side.peak_gib,
                         error=errors[name]) for name, side in (("diffc", ours), ("peer", peer))}
    return dict(what=a.what, batch=a.batch, width=a.width, height=a.height, threads=a.threads, isa=a.isa, ratios=ratios,
                ratio=statistics.median(ratios), interval=interval(ratios), gflop=ours.gflop, peak=best, pairs=pairs, peaks=peaks, calm=len(calm), **result)


def report(r):
    print(f"{r['what']}, batch {r['batch']}, {r['width']}x{r['height']}, {r['threads']} threads{', both ' + r['isa'] if r['isa'] else ''}; "
          f"peak f32 {r['peak']['f32']:.0f} GFLOP/s")
    print(f"{'':16}{'seconds':>10}{'GFLOP/s':>10}{'of peak':>9}{'peak GiB':>10}{'error':>10}")
    for x in (r["diffc"], r["peer"]):
        rate, peak = r["gflop"] / x["seconds"], r["peak"].get(x["precision"], 0)
        part = f"{100 * rate / peak:8.1f}%" if rate and peak else f"{'-':>9}"
        print(f"{x['name']:16}{x['seconds']:10.4f}{f'{rate:.1f}' if rate else '-':>10}{part}{x['peak_gib']:10.2f}{x['error']:10.2g}")
    low, high = r["interval"]
    print(f"{r['peer']['name']} / {r['diffc']['name']}: {r['ratio']:.3f} ({low:.3f} to {high:.3f}, {len(r['ratios'])} pairs; "
          f"{r['calm']} of {len(r['pairs'])} undisturbed)")


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=("unet", "vae", "taesd", "clip-text", "clip-image", "index", "e2e"))
    p.add_argument("--diffc", required=True, help="the program; bench_peak is looked for beside it")
    p.add_argument("--peak", help="bench_peak, where it lies elsewhere")
    p.add_argument("-m", "--model", required=True, help="folder of make_weights.py")
    p.add_argument("-x", "--exports", required=True, help="folder of peers.py export; expected answers are kept there, too")
    p.add_argument("--peer", default="openvino-f32", choices=[f"{x}-{y}" for x in ("openvino", "torch") for y in ("f32", "bf16")] + ["sd.cpp"])
    p.add_argument("--precision", default="f32", help="of diffc")
    p.add_argument("--isa", choices=list(sides.LIMITS), default="", help="both sides without the instructions above this level")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("-W", "--width", type=int, default=512)
    p.add_argument("-H", "--height", type=int, default=512)
    p.add_argument("--pictures", help="index: a folder of JPEG files (make_pictures.py)")
    p.add_argument("--steps", type=int, default=4, help="e2e: steps, each a pass of two for guidance")
    p.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--pairs", type=int, default=6, help="pairs of turns; even numbers keep the order balanced")
    p.add_argument("--first", type=int, default=0, help="number of the first pair: 1 begins with the peer")
    p.add_argument("--seconds", type=float, default=1, help="of each turn of diffc, after its warm-up: at least 3 passes, 1 with 0")
    p.add_argument("--sd", default="sd-cli", help="e2e beside sd.cpp: stable-diffusion.cpp's program")
    p.add_argument("--sd-model", help="its weights: the same as MODEL's in one file, original names")
    p.add_argument("--sd-args", default="", help="more options for it, in one argument")
    p.add_argument("--prepare", action="store_true", help="only compute the expected answer, so that no measuring waits for it")
    p.add_argument("--json", help="append the result to this file, one line a run")
    a = p.parse_args()
    if a.peer == "sd.cpp" and (a.what != "e2e" or not a.sd_model or a.isa):
        p.error("sd.cpp: only e2e, with --sd-model, and at the level it was built for")
    if a.what == "index" and not a.pictures:
        p.error("index: found no folder of pictures, expected --pictures FOLDER")
    a.peak = a.peak or os.path.join(os.path.dirname(a.diffc), "bench_peak")
    return a


def main():
    a = options()
    with tempfile.TemporaryDirectory() as folder:
        expected = check.expected(a, folder)
        if a.prepare:
            return
        r = measure(a, *sides.both(a, folder), expected)
    report(r)
    if a.json:
        with open(a.json, "a") as f:
            f.write(json.dumps(r) + "\n")


if __name__ == "__main__":
    main()
