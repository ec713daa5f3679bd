"""Optional stage: a vision tower for search, contrastive against the trained text tower (which stays as it is). vision.py --data D --run R;
reads R/unet.pt, writes R/vision.pt: CLIPVisionModelWithProjection, and the text tower's projection."""
import argparse
import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection
import captions
import common
import configs
import data
from tokenizer import Tokenizer


class Towers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**configs.VISION))
        self.text_projection = torch.nn.Linear(configs.TEXT['hidden_size'], configs.VISION['projection_dim'], bias=False)
        self.logit_scale = torch.nn.Parameter(torch.tensor(2.66))

    def image(self, x):
        return F.normalize(self.vision(x).image_embeds.float(), dim=-1)

    def words(self, pooled):
        return F.normalize(self.text_projection(pooled).float(), dim=-1)


def augment(x, rng):
    """Moved by up to 8 pixels, and half of the white backgrounds tinted."""
    dy, dx = rng.integers(-8, 9, 2)
    x = F.pad(x, (8, 8, 8, 8), value=1.0)[:, :, 8 + dy:8 + dy + data.SIZE, 8 + dx:8 + dx + data.SIZE]
    white = ((x.min(1, keepdim=True).values + 1) / 2) ** 8
    tint = torch.rand(len(x), 3, 1, 1, device=x.device) * 2 - 1
    return torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, x, x * (1 - white) + tint * white)


def main():
    p = common.options(argparse.ArgumentParser(description=__doc__), ema=0.999, every=500)
    p.add_argument('--batch', type=int, default=192)
    p.add_argument('--muon', type=float, default=0.01)
    p.add_argument('--adam', type=float, default=1e-3)
    p.add_argument('--split', default='train', choices=['all', 'train'])
    a = p.parse_args()
    rng = common.machine(a.seed)
    rows, pixels = data.load(a.data, skin_tones=False)
    tokens = Tokenizer()
    text = common.place(CLIPTextModel(CLIPTextConfig(**configs.TEXT)).eval().requires_grad_(False))
    text.load_state_dict({k[5:]: v for k, v in common.read(f'{a.run}/unet.pt')['ema'].items() if k.startswith('text.')})
    parts = {s: [r for r in rows if r['split'] == s or a.split == 'all'] for s in ('train', 'test')}

    @torch.no_grad()
    def pooled(said):
        return text(torch.tensor([tokens(c) for c in said]).to(common.DEVICE)).pooler_output.float()

    train, towers = parts['train'], common.place(Towers())
    opt = common.optimiser([towers], a.muon, a.adam, ('patch_embedding', 'projection'))

    def pick(row):
        said = captions.of(row)
        odds = np.array([w for _, w in said])
        return said[rng.choice(len(said), p=odds / odds.sum())][0]

    def loss_of(step):
        idx = rng.choice(len(train), a.batch, replace=False)
        x = augment(common.place(data.batch(pixels, [train[i]['pixels'] for i in idx])), rng)
        with common.amp():
            v, t = towers.image(x), towers.words(pooled([pick(train[i]) for i in idx]))
        s = towers.logit_scale.exp().clamp(max=100) * t @ v.t()
        concept = np.array([train[i]['concept'] for i in idx])
        twin = torch.from_numpy((concept[:, None] == concept[None]) & ~np.eye(len(idx), dtype=bool)).to(s.device)
        s, y = s.masked_fill(twin, -1e4), torch.arange(len(idx), device=s.device)
        return (F.cross_entropy(s, y) + F.cross_entropy(s.t(), y)) / 2, len(idx)

    shadow = common.place(Towers().eval())

    def show(state, step):
        shadow.load_state_dict(state)
        for name, part in parts.items():
            part = [part[i] for i in np.random.default_rng(0).permutation(len(part))[:500]]
            with torch.no_grad():
                v = torch.cat([shadow.image(common.place(data.batch(pixels, [r['pixels'] for r in part[i:i + 50]]))) for i in range(0, len(part), 50)])
                t = shadow.words(pooled([captions.of(r)[0][0] for r in part]))
            found = ((t @ v.t()).argmax(1).cpu() == torch.arange(len(part))).float().mean()
            print(f'vision {step}: {name} recall@1 of {len(part)}: {found:.3f}', flush=True)

    common.fit(a.run, 'vision', towers, opt, loss_of, rng, a, show)


if __name__ == '__main__':
    main()
