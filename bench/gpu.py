#!/usr/bin/env python3
"""diffc and PyTorch on one GPU, on the same random weights and inputs: what tools/gpu_check.sh runs.

    python gpu.py selftest -d FOLDER --diffc build/release/diffc
    python gpu.py weights -d FOLDER                     # sd15, sd21, sdxl, taesd.safetensors: 12 GB
    python gpu.py diffc -d FOLDER --diffc build/release/diffc
    python gpu.py torch -d FOLDER                       # eager, channels last, a CUDA graph of it; the peak; errors of both
    python gpu.py compile -d FOLDER                     # torch.compile: minutes
    python gpu.py summary -d FOLDER -o gpu_check.json

Rows go to FOLDER/rows.jsonl one by one: a section that is stopped leaves what it has.
"""
import argparse
import ast
import json
import os
import statistics
import struct
import subprocess
import sys
import time

# name, model, part, images of a pass, pixels. Images in a UNet's pass: two are one step with guidance
CASES = [("sd15 unet", "sd15", "unet", 2, 512), ("sd15 vae", "sd15", "vae", 1, 512), ("turbo unet", "sd21", "unet", 1, 512),
         ("taesd", "sd15", "taesd", 1, 512), ("sdxl unet", "sdxl", "unet", 2, 1024)]
WIDTHS = {"sd15": 768, "sd21": 1024, "sdxl": 2048}


def cases(a):
    for name, kind, part, n, size in CASES:
        if os.path.exists(file_of(a, kind)):
            yield name, kind, part, n, a.size or size


def file_of(a, kind):
    return os.path.join(a.folder, kind + ".safetensors")


def put(a, **row):
    with open(os.path.join(a.folder, "rows.jsonl"), "a") as f:
        f.write(json.dumps(row) + "\n")
    print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def weights(a):
    import plain

    for kind in a.kinds.split(","):
        began = time.perf_counter()
        if not os.path.exists(file_of(a, kind)):
            plain.write(file_of(a, kind) + ".part", kind, a.device)
            os.replace(file_of(a, kind) + ".part", file_of(a, kind))
        print(f"{kind}: {time.perf_counter() - began:.1f} s", flush=True)


# ---- diffc ---------------------------------------------------------------------------------------------------------------

def run(a, *words):
    done = subprocess.run([a.diffc, *words, "--device", a.device, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"FAILED with {done.returncode}: diffc {' '.join(words)}\n{done.stderr[-1000:]}", flush=True)
        return None
    return json.loads(done.stdout)


def diffc(a):
    for precision in a.precisions.split(","):
        for name, kind, part, n, size in cases(a):
            words = ["bench", part, "-m", file_of(a, kind), "--batch", str(n), "-W", str(size), "-H", str(size), "--seconds", str(a.seconds),
                     "--precision", precision, "-o", os.path.join(a.folder, f"{name}-{precision}.npy".replace(" ", "-"))]
            b = run(a, *words, *(["--taesd", file_of(a, "taesd")] if part == "taesd" else []))
            if b:
                put(a, case=name, program="diffc", variant=precision, seconds=b["median"], best=b["seconds"], rounds=b["rounds"], gflop=b["gflop"],
                    size=size, device=b["device"])
    if os.path.exists(file_of(a, "sd21")) or a.size:
        turbo(a)


def turbo(a):
    """Whole pictures of one step, without guidance, decoded by TAESD, as JPEG files: many, less one, so that loading does not count."""
    kind = "sd21" if os.path.exists(file_of(a, "sd21")) else "sd15"
    many = 3 if a.size else 41

    def seconds(n):
        t = run(a, "txt2img", "a red apple", "-m", file_of(a, kind), "--taesd", file_of(a, "taesd"), "--prediction", "epsilon", "--steps", "1", "-g", "1",
                "--size", "%dx%d" % (2 * (a.size or 512,)), "-s", "1", "-b", str(n), "-q", "-o", os.path.join(a.folder, "picture-{seed}.jpg"))
        return t and t["seconds"]

    seconds(1)  # files come from the disk, ways are chosen
    one, all_of_them = seconds(1), seconds(many)
    if one and all_of_them:
        put(a, case="turbo picture", program="diffc", variant="auto", seconds=(all_of_them - one) / (many - 1), loading=one, size=a.size or 512)


def selftest(a):
    """diffc selftest, its lines to be read and its numbers into a file."""
    path = os.path.join(a.folder, a.name + ".json")
    with open(path, "w") as f:
        code = subprocess.call([a.diffc, "selftest", "--device", a.device, "--json", *a.more.split()], stdout=f)
    try:
        with open(path) as f:
            t = json.load(f)
    except ValueError:
        sys.exit(code or 70)
    print(t["device"])
    for r in t["rows"]:
        error = "not finite" if r["error"] is None else f"{r['error']:.1e}"
        print(f"{r['name']:18} {r['cases']:4d} cases  error {error:>8}  bound {r['bound']:.1e}  {r['seconds']:7.2f} s  {'ok' if r['ok'] else 'FAILED'}")
        if not r["ok"]:
            print(f"    {r['wrong']} wrong, {r['unsteady']} with other bytes the second time; farthest: {r['farthest']}")
    print(f"{t['checks']} checks of {t['cases']} cases, {t['failed']} failed, {t['seconds']:.1f} s")
    sys.exit(code)


# ---- torch ---------------------------------------------------------------------------------------------------------------

def read_npy(path):
    import torch

    with open(path, "rb") as f:
        head = f.read(10)
        n = struct.unpack("<H", head[8:10])[0]
        shape = ast.literal_eval(f.read(n).decode())["shape"]
    data = torch.from_file(path, shared=False, size=os.path.getsize(path), dtype=torch.uint8)
    return data[10 + n:].clone().view(torch.float32).view(shape)


def inputs(kind, part, n, size):
    """What `diffc bench` computes on (bench/check.py), in float32."""
    import plain
    import torch

    def normal(seed, *shape):
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    x = normal(1, n if part != "unet" or n % 2 else n // 2, size // 8, size // 8, 4).permute(0, 3, 1, 2)
    if part != "unet":
        return [x / 0.18215 if part == "vae" else x]
    xs = [x.repeat(n // x.shape[0], 1, 1, 1), torch.full((n,), 500.0), normal(2, n, 77, WIDTHS[kind])]
    if kind == "sdxl":
        xs.append(torch.cat([normal(3, n, 1280), plain.sinusoids(normal(4, n, 6), 256).flatten(1)], 1))
    return xs


def synchronize(a):
    import torch

    if a.device == "cuda":
        torch.cuda.synchronize()


def time_it(a, f):
    """Median and best seconds of a call, and how many were timed: three to warm up, then for some seconds."""
    for _ in range(3):
        f()
    synchronize(a)
    took, began = [], time.perf_counter()
    while len(took) < 3 or (time.perf_counter() - began < a.seconds and len(took) < 500):
        t = time.perf_counter()
        f()
        synchronize(a)
        took.append(time.perf_counter() - t)
    return dict(seconds=statistics.median(took), best=min(took), rounds=len(took))


def peak(a):
    import torch

    n, gib = (8192, 4) if a.device == "cuda" else (512, 0.0625)
    kind = torch.bfloat16
    x, y = (torch.randn(n, n, device=a.device, dtype=kind) for _ in range(2))
    t = time_it(a, lambda: torch.mm(x, y))
    put(a, case="matrix product", program="torch", variant=f"{n} bf16", tflops=2e-12 * n**3 / t["best"], **t)
    x = torch.empty(int(gib * 2**30), device=a.device, dtype=torch.uint8)
    y = torch.empty_like(x)
    t = time_it(a, lambda: y.copy_(x))
    put(a, case="copy", program="torch", variant="device to device", gbytes_per_s=2e-9 * x.numel() / t["best"], **t)


def error(found, expected):
    d = (found.double() - expected.double()).norm() / expected.double().norm()
    return float(d) if bool(found.isfinite().all()) else float("nan")


def graph_of(m, xs):
    import torch

    s = torch.cuda.Stream()
    s.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(s):
        for _ in range(3):
            m(*xs)
    torch.cuda.current_stream().wait_stream(s)
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        y = m(*xs)
    return g.replay, lambda: y


def judge_diffc(a, name, part, expected):
    """Errors of what diffc gave, beside torch in float32."""
    for precision in a.precisions.split(","):
        path = os.path.join(a.folder, f"{name}-{precision}.npy".replace(" ", "-"))
        if os.path.exists(path):
            y = read_npy(path).permute(0, 3, 1, 2).to(expected.device)
            put(a, case=name, program="diffc", variant=precision, error=error((y + 1) / 2 if part == "taesd" else y, expected))


def on_torch(a):
    import plain
    import torch

    torch.set_grad_enabled(False)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    peak(a)
    kinds = {"f16": torch.float16, "bf16": torch.bfloat16} if a.device == "cuda" else {"f32": torch.float32}
    for name, kind, part, n, size in cases(a):
        m = plain.load(kind, part, file_of(a, "taesd" if part == "taesd" else kind)).to(a.device, torch.float32)
        xs = [x.to(a.device) for x in inputs(kind, part, n, size)]
        expected = m(*xs)
        judge_diffc(a, name, part, expected)
        for dtype, t in kinds.items():
            m, ys = m.to(t), [x.to(t) for x in xs]
            for layout in (torch.contiguous_format, torch.channels_last):
                m = m.to(memory_format=layout)
                ys[0] = ys[0].contiguous(memory_format=layout)
                variant = "eager " + dtype + (" channels last" if layout == torch.channels_last else "")
                put(a, case=name, program="torch", variant=variant, error=error(m(*ys), expected), size=size, **time_it(a, lambda: m(*ys)))
                if a.device == "cuda" and layout == torch.channels_last:
                    replay, _ = graph_of(m, ys)
                    put(a, case=name, program="torch", variant=variant + " graph", size=size, **time_it(a, replay))
        del m, xs, ys, expected
        if a.device == "cuda":
            torch.cuda.empty_cache()


def compiled(a):
    import plain
    import torch

    torch.set_grad_enabled(False)
    torch.backends.cudnn.benchmark = True
    t = torch.float16 if a.device == "cuda" else torch.float32
    for name, kind, part, n, size in cases(a):
        m = plain.load(kind, part, file_of(a, "taesd" if part == "taesd" else kind)).to(a.device, t).to(memory_format=torch.channels_last)
        xs = [x.to(a.device, t) for x in inputs(kind, part, n, size)]
        xs[0] = xs[0].contiguous(memory_format=torch.channels_last)
        began = time.perf_counter()
        f = torch.compile(m, mode="reduce-overhead")
        f(*xs)
        synchronize(a)
        took = time.perf_counter() - began
        put(a, case=name, program="torch", variant="compiled f16 channels last", compiling=took, size=size, **time_it(a, lambda: f(*xs)))


# ---- what came of it -----------------------------------------------------------------------------------------------------

def read_lines(a, name):
    path = os.path.join(a.folder, name)
    if not os.path.exists(path):
        return []
    with open(path) as f:
        return [json.loads(line) for line in f if line.strip()]


def summary(a):
    found, sections = read_lines(a, "rows.jsonl"), read_lines(a, "sections.jsonl")
    rows = {}
    for r in found:  # times and errors of the same thing may come apart
        rows.setdefault((r["case"], r["program"], r["variant"]), {}).update(r)
    rows = list(rows.values())
    best = {}  # of torch, by case
    for r in rows:
        if r["program"] == "torch" and "seconds" in r:
            best[r["case"]] = min(best.get(r["case"], r["seconds"]), r["seconds"])
    print(f"{'case':16} {'program':8} {'variant':34} {'ms':>9} {'1/s':>9} {'error':>8}  torch's best over it")
    for r in rows:
        s, e = r.get("seconds"), r.get("error")
        more = f"{r['tflops']:.0f} TFLOP/s" if "tflops" in r else f"{r['gbytes_per_s']:.0f} GB/s" if "gbytes_per_s" in r else ""
        if not more and s and r["case"] in best:
            more = f"{best[r['case']] / s:.2f}"
        print(f"{r['case']:16} {r['program']:8} {r['variant']:34} {f'{1e3 * s:.3f}' if s else '':>9} {f'{1 / s:.2f}' if s else '':>9} "
              f"{f'{e:.1e}' if e is not None else '':>8}  {more}")
    print()
    for s in sections:
        print(f"{s['section']:16} {'ok' if s['code'] == 0 else 'out of time' if s['code'] == 124 else 'FAILED with %d' % s['code']:16} {s['seconds']:4d} s")
    selftests = {}
    for name in sorted(os.listdir(a.folder)):
        if name.startswith("selftest") and name.endswith(".json"):
            try:
                with open(os.path.join(a.folder, name)) as f:
                    selftests[name[:-5]] = json.load(f)
            except ValueError:
                selftests[name[:-5]] = None  # it was stopped
    with open(a.output, "w") as f:
        json.dump(dict(machine=a.machine, sections=sections, rows=rows, selftests=selftests), f, indent=1)
    print(f"\nwritten to {a.output}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", choices=("selftest", "weights", "diffc", "torch", "compile", "summary"))
    p.add_argument("-d", "--folder", required=True)
    p.add_argument("--diffc", default="diffc")
    p.add_argument("--device", default="cuda")
    p.add_argument("--kinds", default="taesd,sd15,sd21,sdxl")
    p.add_argument("--precisions", default="auto", help="of diffc, separated by commas")
    p.add_argument("--size", type=int, default=0, help="pixels in place of each case's own: to try this out")
    p.add_argument("--seconds", type=float, default=2)
    p.add_argument("--name", default="selftest", help="selftest: of its file")
    p.add_argument("--more", default="", help="selftest: more options")
    p.add_argument("--machine", default="")
    p.add_argument("-o", "--output", default="gpu_check.json")
    a = p.parse_args()
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    {"selftest": selftest, "weights": weights, "diffc": diffc, "torch": on_torch, "compile": compiled, "summary": summary}[a.command](a)


if __name__ == "__main__":
    main()
