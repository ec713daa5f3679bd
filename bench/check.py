"""Are the answers right? Every side is given the same inputs, and what comes out is held against torch in float32, which computes it once.

The inputs are those of `diffc bench`: torch's random numbers of fixed seeds, written by `diffc noise`, and fixed token ids.
"""
import json
import os
import subprocess
import sys
import zlib

import numpy as np

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers.py")
VOCABULARY, LENGTH, WIDTH = 49408, 77, 768

# Largest relative error (root of the squares' sums) of one pass; about 2.5 times the largest seen, torch's own bfloat16 among them. In float32
# it leaves room for constants that an export keeps in fp16, such as the frequencies of the time embedding.
TOLERANCE = {"f32": 7e-3, "bf16": 3e-2, "int8": 5e-2}
# A whole picture, in levels of 255 (mean of the absolute differences), likewise about 2.5 times the largest seen.
LEVELS = {"f32": 0.25, "f16": 0.25, "bf16": 3, "int8": 7}


def noise(a, seed, shape, folder):
    path = os.path.join(folder, "noise.npy")
    subprocess.check_call([a.diffc, "noise", "--rng", "cpu", "-s", str(seed), "--shape", ",".join(map(str, shape)), "-o", path])
    return np.load(path)


def make_inputs(a, folder):
    """What `diffc bench` computes on, as peers want it (channels first), in FOLDER/0.npy, 1.npy, ..; e2e: the first latent alone."""
    h, w = a.height // 8, a.width // 8
    if a.what == "clip-text":
        xs = [(np.arange(a.batch * LENGTH) * 37 % VOCABULARY).reshape(a.batch, LENGTH)]
    elif a.what == "clip-image":
        xs = [noise(a, 1, (a.batch, 3, 224, 224), folder)]
    elif a.what == "index":
        xs = [np.frombuffer(b"".join(open(os.path.join(a.pictures, f), "rb").read() for f in sorted(os.listdir(a.pictures))), np.uint8)]
    elif a.what == "e2e":
        xs = [noise(a, 1, (1, 4, h, w), folder)]
    else:
        xs = [noise(a, 1, (a.batch, h, w, 4), folder).transpose(0, 3, 1, 2)]
    if a.what == "vae":  # diffc's decoder divides by itself
        with open(os.path.join(a.model, "vae", "config.json")) as f:
            xs[0] = (xs[0] / json.load(f).get("scaling_factor", 0.18215)).astype(np.float32)
    if a.what == "unet":
        if a.batch % 2 == 0:  # guidance: the same latents in both halves
            xs[0] = np.concatenate(2 * [xs[0][:a.batch // 2]])
        xs += [np.full(a.batch, 500), noise(a, 2, (a.batch, LENGTH, WIDTH), folder)]
    for i, x in enumerate(xs if a.what != "index" else []):  # whose files are the inputs
        np.save(os.path.join(folder, f"{i}.npy"), np.ascontiguousarray(x))
    return zlib.crc32(b"".join(np.ascontiguousarray(x).tobytes() for x in xs))


def expected(a, folder):
    """torch's float32 answer to the inputs, computed once for these sizes and kept beside the exports: an array; e2e: the picture's path."""
    crc = make_inputs(a, folder)
    name = f"{a.what}-{a.batch}-{a.width}x{a.height}" + (f"-{a.steps}" if a.what == "e2e" else "")
    path = os.path.join(a.exports, "expected", f"{name}-{crc:08x}" + (".png" if a.what == "e2e" else ".npy"))
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        print(f"# torch computes {path}, once", flush=True)
        command = "txt2img" if a.what == "e2e" else "once"
        part = path.replace(name, "part-" + name)
        subprocess.check_call([sys.executable, PEERS, command, "-m", a.model, "-x", a.exports, "--peer", "torch-f32", "--inputs", folder, "-o", part,
                               "--width", str(a.width), "--height", str(a.height), "--steps", str(a.steps), "--threads", str(a.threads)]
                              + ([] if a.what == "e2e" else ["--what", a.what, "--batch", str(a.batch)])
                              + (["--pictures", a.pictures] if a.what == "index" else []))
        os.replace(part, path)
    return path


def relative_error(got, want):
    """Of arrays alike in shape; diffc's has its channels last."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    if got.ndim == 4 and got.shape != want.shape:
        got = got.transpose(0, 3, 1, 2)
    if got.shape != want.shape:
        sys.exit(f"found an answer of shape {got.shape}, expected {want.shape}")
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def picture_error(got, want):
    """Mean absolute difference of two PNG files, in levels of 255."""
    from PIL import Image

    a, b = (np.asarray(Image.open(p).convert("RGB"), np.float64) for p in (got, want))
    return float(np.abs(a - b).mean()) if a.shape == b.shape else sys.exit(f"{got}: found {a.shape}, expected {b.shape}")


def hold(name, precision, what, got, want):
    """The error of a side's answer (a file) against the expected one; stops the run where it is beyond the tolerance."""
    whole = what == "e2e"
    error = picture_error(got, want) if whole else relative_error(np.load(got), np.load(want))
    limit = (LEVELS if whole else TOLERANCE)[precision]
    if not error <= limit:  # also when it is not a number
        sys.exit(f"{name}: wrong answer: error {error:.3g}, expected at most {limit:g} ({'levels of 255' if whole else 'relative'})")
    return error
