#!/usr/bin/env python3
"""image_resize.py OUT: checksums of Pillow's resizes, many sizes and all filters, of pictures that a formula makes. Writes
OUT/resize_crc.json; and files with compressed text. Needs Pillow 13, numpy; OUT becomes tests/golden/image."""
import json, os, sys, zlib
import numpy as np
from PIL import Image, PngImagePlugin

FILTERS = {"box": Image.BOX, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS, "nearest": Image.NEAREST}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def picture(w, h, c, seed):
    i = np.arange(w * h * c, dtype=np.uint64)
    p = ((i * i * 31 + i * 7 + seed * 13) >> 3 & 255).astype(np.uint8).reshape(h, w, c)
    return Image.fromarray(p[..., 0] if c == 1 else p, MODES[c])


R = np.random.default_rng(7)
rows = []
for k in range(240):
    w, h, nw, nh = (int(v) for v in R.integers(1, (12, 100, 300)[k % 3], 4))
    c, name = (1, 3, 4)[k % 7 % 3], list(FILTERS)[k % 5]
    if k % 11 == 0: nw = w
    if k % 13 == 0: nh = h
    out = np.asarray(picture(w, h, c, k).resize((nw, nh), FILTERS[name]))
    rows.append([w, h, c, k, nw, nh, name, zlib.crc32(out.tobytes())])
for w, h, nw, nh in ((1500, 1000, 224, 149), (100, 3000, 50, 70), (16384, 2, 300, 3), (2, 2, 900, 900), (640, 480, 512, 512)):
    for name in FILTERS: rows.append([w, h, 3, 1, nw, nh, name, zlib.crc32(np.asarray(picture(w, h, 3, 1).resize((nw, nh), FILTERS[name])).tobytes())])
with open(f"{sys.argv[1]}/resize_crc.json", "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]\n")


def text_file(name, value, itxt):
    info = PngImagePlugin.PngInfo()
    (info.add_itxt if itxt else info.add_text)("parameters", value, zip=True)
    Image.new("L", (2, 2)).save(f"{sys.argv[1]}/text/{name}", pnginfo=info)


os.makedirs(f"{sys.argv[1]}/text", exist_ok=True)
text_file("ztxt.png", "a caf\u00e9, " * 40 + "\nSteps: 20", False)
text_file("itxt_compressed.png", "\u732b on a mat\nSteps: 20", True)
text_file("long_ztxt.png", "y" * 5000000, False)
