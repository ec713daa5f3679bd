#!/usr/bin/env python3
"""float8.py GOLDEN: all codes of torch's 8-bit floats and what they are in float32, into GOLDEN/weights/float8.safetensors. Needs torch, safetensors."""
import os
import sys

import torch
from safetensors.torch import save_file

codes = torch.arange(256, dtype=torch.int16).to(torch.uint8)
out = {}
for name, t in (("e4m3", torch.float8_e4m3fn), ("e5m2", torch.float8_e5m2)):
    out[name] = codes.clone().view(t)
    out[name + ".float"] = codes.view(t).to(torch.float32)
save_file(out, os.path.join(sys.argv[1], "weights", "float8.safetensors"))
