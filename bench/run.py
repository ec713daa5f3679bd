#!/usr/bin/env python3
"""diffc beside another program on the same weights, in turn, in one run; see README.md here.

    python run.py unet|vae|taesd|clip-text --diffc DIFFC -m MODEL -x EXPORTS [--peer openvino-f32] [--batch B]
    python run.py e2e --diffc DIFFC -m MODEL -x EXPORTS [--peer openvino-f32] [--steps 4]

The ratio is the peer's seconds / diffc's seconds: above 1, diffc is faster.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "peers.py")


def whole_process(command):
    """(seconds, peak GiB, what it printed) of a program from start to end."""
    with tempfile.TemporaryFile("w+") as out:
        began = time.perf_counter()
        p = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(p.pid, 0)
        seconds = time.perf_counter() - began
        p.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if p.returncode:
        sys.exit(f"{' '.join(command)}\n{text[-2000:]}")
    return seconds, usage.ru_maxrss / 2**20, text


class Diffc:
    """A fresh process each time, as its bench loads, packs and warms up by itself; the seconds are its median pass."""

    def __init__(self, a):
        self.peak_gib, self.gflop = 0, 0
        part = "taesd" if a.what == "taesd" else None
        self.command = [a.diffc, "bench", a.what, "-m", a.model, "--batch-size", str(a.batch), "-W", str(a.width), "-H", str(a.height),
                        "--precision", a.precision, "-t", str(a.threads), "--seconds", str(a.seconds), "--json"]
        self.command += ["--taesd", os.path.join(a.model, part)] if part else []

    def time(self):
        _, gib, text = whole_process(self.command)
        d = json.loads(text[text.index("{"):])
        self.gflop, self.peak_gib = d["gflop"], max(self.peak_gib, gib)
        return d["median"]


class Peer:
    """A process of peers.py that stays loaded and warm between its turns."""

    def __init__(self, a):
        self.peak_gib = 0
        self.p = subprocess.Popen([sys.executable, PEERS, "serve", "-m", a.model, "-x", a.exports, "--peer", a.peer, "--what", a.what,
                                   "--batch", str(a.batch), "--width", str(a.width), "--height", str(a.height), "--threads", str(a.threads)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not self.answer()["finite"]:
            sys.exit(f"{a.peer}: numbers that are not finite")

    def answer(self):
        for line in self.p.stdout:
            if line.startswith("{"):
                return json.loads(line)
        sys.exit("the peer has ended; its error is above")

    def time(self):
        self.p.stdin.write("go\n")
        self.p.stdin.flush()
        d = self.answer()
        self.peak_gib = max(self.peak_gib, d["peak_gib"])
        return d["seconds"]


class Whole:
    """A whole picture from process start to PNG."""

    def __init__(self, command):
        self.command, self.peak_gib, self.gflop = command, 0, 0

    def time(self):
        seconds, gib, _ = whole_process(self.command)
        self.peak_gib = max(self.peak_gib, gib)
        return seconds


def whole_pictures(a, folder):
    sizes, common = [str(a.width), str(a.height)], ["--steps", str(a.steps), "--threads", str(a.threads)]
    ours = Whole([a.diffc, "txt2img", "a photo of a cat", "-m", a.model, "-W", sizes[0], "-H", sizes[1], "--cfg-scale", "7", "--sampling-method", "euler",
                  "-s", "1", "--precision", a.precision, "-q", "-o", os.path.join(folder, "diffc.png")] + common)
    return ours, Whole([sys.executable, PEERS, "txt2img", "-x", a.exports, "--peer", a.peer, "--width", sizes[0], "--height", sizes[1],
                        "-o", os.path.join(folder, "peer.png")] + common)


def interval(values, draws=2000):
    """95 % bootstrap interval of the median."""
    g = random.Random(0)
    medians = sorted(statistics.median(g.choices(values, k=len(values))) for _ in range(draws))
    return [medians[int(0.025 * draws)], medians[int(0.975 * draws) - 1]]


def peak_now(a):
    time.sleep(0.5)  # the peer's threads may spin a little after their pass
    return json.loads(subprocess.check_output([a.peak, str(a.threads)]))


def measure(a, ours, peer):
    """Pairs in the order A B B A: what drifts slowly meets both alike. The peak is taken around every turn; a pair with less than 95 % of
    the run's best float32 peak beside it met another program and does not count, unless all did."""
    pairs, peaks = [], [peak_now(a)]
    for i in range(a.first, a.first + a.pairs):
        turn = {}
        for side in ("diffc", "peer") if i % 2 == 0 else ("peer", "diffc"):
            turn[side] = (ours if side == "diffc" else peer).time()
            peaks.append(peak_now(a))
        pairs.append(turn)
        print(f"# diffc {turn['diffc']:.4f} s, {a.peer} {turn['peer']:.4f} s, peak f32 {[p['f32'] for p in peaks[-3:]]}", flush=True)
    best = {k: max(p[k] for p in peaks) for k in peaks[0]}
    calm = [t for i, t in enumerate(pairs) if min(p["f32"] for p in peaks[2 * i:2 * i + 3]) >= 0.95 * best["f32"]]
    kept = calm or pairs
    ratios = [t["peer"] / t["diffc"] for t in kept]
    return dict(what=a.what, batch=a.batch, width=a.width, height=a.height, threads=a.threads, precision=a.precision, peer=a.peer, ratios=ratios,
                ratio=statistics.median(ratios), interval=interval(ratios), gflop=ours.gflop, peak=best, pairs=pairs, peaks=peaks, calm=len(calm),
                diffc=dict(seconds=statistics.median(t["diffc"] for t in kept), peak_gib=ours.peak_gib),
                other=dict(seconds=statistics.median(t["peer"] for t in kept), peak_gib=peer.peak_gib))


def report(r):
    print(f"{r['what']}, batch {r['batch']}, {r['width']}x{r['height']}, {r['threads']} threads; peak f32 {r['peak']['f32']:.0f} GFLOP/s")
    print(f"{'':16}{'seconds':>10}{'GFLOP/s':>10}{'of peak':>9}{'peak GiB':>10}")
    for name, precision, x in (("diffc " + r["precision"], r["precision"], r["diffc"]), (r["peer"], r["peer"].split("-")[1], r["other"])):
        rate, peak = r["gflop"] / x["seconds"], r["peak"].get(precision, 0)
        part = f"{100 * rate / peak:8.1f}%" if rate and peak else f"{'-':>9}"
        print(f"{name:16}{x['seconds']:10.4f}{f'{rate:.1f}' if rate else '-':>10}{part}{x['peak_gib']:10.2f}")
    low, high = r["interval"]
    print(f"{r['peer']} / diffc {r['precision']}: {r['ratio']:.3f} ({low:.3f} to {high:.3f}, {len(r['ratios'])} pairs; {r['calm']} of {len(r['pairs'])} undisturbed)")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=("unet", "vae", "taesd", "clip-text", "e2e"))
    p.add_argument("--diffc", required=True, help="the program; bench_peak is looked for beside it")
    p.add_argument("--peak", help="bench_peak, where it lies elsewhere")
    p.add_argument("-m", "--model", required=True, help="folder of make_weights.py")
    p.add_argument("-x", "--exports", required=True, help="folder of peers.py export")
    p.add_argument("--peer", default="openvino-f32", help="openvino or torch, -f32 or -bf16")
    p.add_argument("--precision", default="f32", help="of diffc")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("-W", "--width", type=int, default=512)
    p.add_argument("-H", "--height", type=int, default=512)
    p.add_argument("--steps", type=int, default=4, help="e2e: steps, each a pass of two for guidance")
    p.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--pairs", type=int, default=6, help="pairs of turns; even numbers keep the order balanced")
    p.add_argument("--first", type=int, default=0, help="number of the first pair: 1 begins with the peer")
    p.add_argument("--seconds", type=float, default=1, help="of each turn of diffc, after its warm-up: at least 3 passes, 1 with 0")
    p.add_argument("--json", help="append the result to this file, one line a run")
    a = p.parse_args()
    a.peak = a.peak or os.path.join(os.path.dirname(a.diffc), "bench_peak")
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = whole_pictures(a, folder) if a.what == "e2e" else (Diffc(a), Peer(a))
        r = measure(a, ours, peer)
    report(r)
    if a.json:
        with open(a.json, "a") as f:
            f.write(json.dumps(r) + "\n")


if __name__ == "__main__":
    main()
