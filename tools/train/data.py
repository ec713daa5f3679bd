"""The pictures and their captions: data/images_128.u8 (N, 128, 128, 3 bytes) and data/captions.jsonl, one row a picture."""
import json
import re
import numpy as np
import torch

SIZE = 128
STYLES = ['fluent flat', 'fluent color', 'noto', 'twemoji', 'clip art']


def load(folder, styles=STYLES, without=(), flags=True, skin_tones=True):
    """Rows (with 'pixels', their place in the pack) and the mapped pixels. Rows marked sensitive never come along."""
    rows = [json.loads(line) for line in open(f'{folder}/captions.jsonl')]
    pixels = np.memmap(f'{folder}/images_128.u8', np.uint8, 'r').reshape(-1, SIZE, SIZE, 3)
    keep = []
    for i, r in enumerate(rows):
        if r['sensitive'] or r['style'] not in styles or r['group'] in without:
            continue
        if (r['is_flag'] and not flags) or (not skin_tones and (r['skin_tone'] or 'skin tone' in r['name'])):
            continue
        keep.append(dict(r, pixels=i))
    return keep, pixels


def named(rows, path):
    """The rows whose names stand in a file (semicolons between, lines of # are comments), 'name*2' twice as often as others; all of them without a file."""
    if not path:
        return rows
    times = {}
    for line in open(path):
        for n in [] if line.startswith('#') else line.strip().split(';'):
            name, _, often = n.partition('*')
            times[name] = float(often or 1)
    return [dict(r, times=times[r['name']]) for r in rows if r['name'] in times]


def batch(pixels, places):
    """Pictures as floats in [-1, 1], (N, 3, H, W), channels last in memory."""
    x = torch.from_numpy(np.stack([pixels[i] for i in places]))
    return (x.float() / 127.5 - 1).permute(0, 3, 1, 2)


def crops(pixels, places, size, rng, tries=3):
    """Square crops, mirrored at random; of some random places the one with most ink, as most of a picture is white."""
    out = []
    for i in places:
        best = None
        for _ in range(tries):
            y, x = rng.integers(0, SIZE - size + 1, 2)
            c = pixels[i, y:y + size, x:x + size]
            ink = c[::4, ::4].std()
            if best is None or ink > best[0]:
                best = ink, c
        out.append(best[1][:, ::-1] if rng.random() < 0.5 else best[1])
    x = torch.from_numpy(np.stack(out))
    return (x.float() / 127.5 - 1).permute(0, 3, 1, 2)


def sheet(x, path, columns=8):
    """Writes pictures (N, 3, H, W) in [-1, 1] as one PNG."""
    from PIL import Image
    x = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    n, h, w, _ = x.shape
    out = np.full(((n + columns - 1) // columns * h, columns * w, 3), 255, np.uint8)
    for i in range(n):
        y, c = divmod(i, columns)
        out[y * h:y * h + h, c * w:c * w + w] = x[i]
    Image.fromarray(out).save(path)


def plain(name):
    """A picture's name as people type it: lower case, no colon, no quotation marks."""
    return re.sub(r'\s+', ' ', re.sub(r'[:“”"]', ' ', name.lower())).strip()
