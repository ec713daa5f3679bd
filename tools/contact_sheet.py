#!/usr/bin/env python3
"""contact_sheet.py OUT.png COLUMNS PICTURE...: pictures side by side, 128 pixels each. Needs Pillow."""
import sys
from PIL import Image

out, columns, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
sheet = Image.new("RGB", (columns * 136, (len(names) + columns - 1) // columns * 136), "white")
for i, name in enumerate(names):
    sheet.paste(Image.open(name).resize((128, 128), Image.BICUBIC), (i % columns * 136 + 4, i // columns * 136 + 4))
sheet.save(out, optimize=True)
