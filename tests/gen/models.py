#!/usr/bin/env python3
"""models.py REFERENCE OUT: the tiny reference models (diffusers folders) with float16 weights, and the module taps.

REFERENCE holds models/ and cases/ as the reference set is laid out; OUT becomes tests/golden. Every weight of the reference
models is exactly representable in float16 (the script checks), so nothing changes but the size. Needs numpy."""
import json, os, shutil, struct, sys
import numpy as np

# What the tests in this tree need, and no more: the whole set is 4 times as large.
FOLDERS = ["sd1", "sdxl/unet", "sdxl/text_encoder_2", "taesd"]
LEFT_OUT = ("tokenizer",)  # its vocabulary is CLIP's own, which is among the assets
MODULES = {"sd1": ["case.json", "text.safetensors", "unet.safetensors", "vae.safetensors"], "sdxl": ["case.json", "text_2.safetensors", "unet.safetensors"], "taesd": ["case.json", "taesd.safetensors"]}
TXT2IMG = {"sd1": ["ddim-72x56-odd", "dpmpp2m-karras-64x64", "euler-64x64", "euler-64x64-nocfg", "euler_a-64x64", "heun-64x64", "lcm-64x64", "lms-64x64",
                   "pndm-64x64", "unipc-64x64", "img2img-ddim", "img2img-euler"]}


def read(path):
    b = open(path, "rb").read()
    n = struct.unpack("<Q", b[:8])[0]
    return json.loads(b[8:8 + n]), b[8 + n:]


def to_f16(path, out):
    head, data = read(path)
    new, blobs, at = {}, [], 0
    for k, v in head.items():
        if k == "__metadata__":
            continue
        a, e = v["data_offsets"]
        raw = data[a:e]
        if v["dtype"] == "F32":
            x = np.frombuffer(raw, "<f4")
            h = x.astype("<f2")
            assert (h.astype("<f4") == x).all(), (path, k)
            raw, dtype = h.tobytes(), "F16"
        else:
            dtype = v["dtype"]
        new[k] = {"dtype": dtype, "shape": v["shape"], "data_offsets": [at, at + len(raw)]}
        blobs.append(raw)
        at += len(raw)
    text = json.dumps(new, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(out, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def copy(src, dst):
    """files copied, weights as float16"""
    os.makedirs(dst, exist_ok=True)
    for name in sorted(set(os.listdir(src)) - set(LEFT_OUT)):
        s, d = f"{src}/{name}", f"{dst}/{name}"
        if os.path.isdir(s):
            copy(s, d)
        elif name.endswith(".safetensors"):
            to_f16(s, d)
        else:
            shutil.copyfile(s, d)


def main():
    src, out = sys.argv[1:3]
    for m in FOLDERS:
        copy(f"{src}/models/{m}", f"{out}/models/{m}")
    for m, files in MODULES.items():
        os.makedirs(f"{out}/modules/{m}", exist_ok=True)
        for f in files:
            shutil.copyfile(f"{src}/cases/{m}/modules/{f}", f"{out}/modules/{m}/{f}")
    for m, cases in TXT2IMG.items():
        for c in cases:
            os.makedirs(f"{out}/txt2img/{m}/{c}", exist_ok=True)
            case = json.load(open(f"{src}/cases/{m}/{c}/case.json"))
            with open(f"{out}/txt2img/{m}/{c}/case.json", "w") as f:  # what a run needs to know
                json.dump({k: case[k] for k in ("kind", "args", "model", "prompt", "negative", "steps", "cfg", "seed", "sampler", "strength", "tolerance") if k in case}, f, indent=1)
            for f in ("latent.npy", "image.png", "init.png", "mask.png"):
                if os.path.exists(f"{src}/cases/{m}/{c}/{f}"):
                    shutil.copyfile(f"{src}/cases/{m}/{c}/{f}", f"{out}/txt2img/{m}/{c}/{f}")


main()
