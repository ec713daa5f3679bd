#!/usr/bin/env python3
"""JPEG files of about a megapixel (1152x864) to index: python make_pictures.py FOLDER [N]. Waves, blotches and noise of seeds that are the files' numbers,
quality 88: about 330 KB each, and as much work for a decoder as photographs of that size."""
import os
import sys

import numpy as np
from PIL import Image

W, H = 1152, 864


def picture(i):
    g = np.random.default_rng(i)
    y, x = np.mgrid[0:H, 0:W].astype(np.float32)
    m = np.zeros((H, W, 3), np.float32)
    for c in range(3):
        for _ in range(4):
            f = g.uniform(0.002, 0.08, 2)
            m[..., c] += np.sin(f[0] * x + f[1] * y + g.uniform(0, 6))
    m = m * 30 + 128 + np.kron(g.normal(0, 18, (H // 4, W // 4, 3)), np.ones((4, 4, 1))) + g.normal(0, 5, m.shape)
    return Image.fromarray(m.clip(0, 255).astype(np.uint8))


def main():
    folder, n = sys.argv[1], int((sys.argv + ["96"])[2])
    os.makedirs(folder, exist_ok=True)
    for i in range(n):
        picture(i).save(os.path.join(folder, f"{i:04d}.jpg"), quality=88)


if __name__ == "__main__":
    main()
