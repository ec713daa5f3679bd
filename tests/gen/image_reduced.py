#!/usr/bin/env python3
"""image_reduced.py OUT: JPEGs decoded at 1/2, 1/4 and 1/8 as Pillow's Image.draft does it, turned upright. Reads OUT/files, writes OUT/reduced.json: file,
least side asked for, width, height, RGB in hexadecimal. Needs Pillow 13; OUT becomes tests/golden/image."""
import json
import os
import sys

from PIL import Image, ImageOps

OUT, rows = sys.argv[1], []
for name, sides in (("baseline444.jpg", (14, 3)), ("baseline420.jpg", (14, 7)), ("baseline422.jpg", (5,)), ("progressive.jpg", (4,)), ("gray.jpg", (14,)),
                    ("cmyk.jpg", (6,)), ("exif_orientation6.jpg", (14,))):
    for least in sides:
        m = Image.open(os.path.join(OUT, "files", name))
        m.draft(None, (least, least))
        m = ImageOps.exif_transpose(m).convert("RGB")
        rows.append([name, least, *m.size, m.tobytes().hex()])
with open(os.path.join(OUT, "reduced.json"), "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]\n")
