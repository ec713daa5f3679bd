#!/usr/bin/env python3
"""image.py REFERENCE OUT: pictures and what Pillow makes of them, chosen from the reference set. OUT becomes tests/golden/image."""
import json, os, shutil, sys

src, out = sys.argv[1:3]
resize = [e for e in json.load(open(f"{src}/resize.json")) if e["mode"] in ("RGB", "RGBA", "L") and e["shape_hwc"][0] * e["shape_hwc"][1] <= 8000]
files = [e for e in json.load(open(f"{src}/files.json")) if e["file"].rsplit(".", 1)[-1] in ("png", "jpg", "jpeg")]
for name in sorted({e["source"] for e in resize} | {e["file"] for e in resize} | {e["file"] for e in files} | {e[k] for e in files for k in ("rgb",) if k in e}):
    os.makedirs(os.path.dirname(f"{out}/{name}"), exist_ok=True)
    shutil.copyfile(f"{src}/{name}", f"{out}/{name}")
for name, rows in (("resize", resize), ("files", files)):
    with open(f"{out}/{name}.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
