"""Optional stage: a small CLIP for search, both towers from nothing, contrastive on all pictures and their captions. clip.py --data D --run R; writes R/clip.pt.

With --cooldown N the learning rate falls to zero over N steps, from nothing too, into R/clip-cool.pt. Pictures of one concept are no negatives of each other."""
import argparse
import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel
import captions
import common
import configs
import data
from tokenizer import Tokenizer


def model():
    return CLIPModel(CLIPConfig(**configs.CLIP))


def images(clip, x):
    return F.normalize(clip.visual_projection(clip.vision_model(x).pooler_output).float(), dim=-1)


def ready(x):
    """Pictures in the tower's size, as Pillow's bicubic would make them."""
    side = configs.CLIP['vision_config']['image_size']
    return F.interpolate(x, (side, side), mode='bicubic', antialias=True).clamp(-1, 1)


def texts(clip, ids):
    ids = ids[:, :int((ids != ids[0, -1]).sum(1).max()) + 1]        # what follows the longest prompt's end tells nothing
    return F.normalize(clip.text_projection(clip.text_model(ids).pooler_output).float(), dim=-1)


def augment(x):
    """Turned, moved, larger or smaller; a third on another ground, a quarter blurred, half a little brighter or darker."""
    n, one = len(x), lambda low, high: low + (high - low) * torch.rand(len(x), 1, 1, 1, device=x.device)
    turn, size = one(-0.15, 0.15).flatten(), one(0.85, 1.3).flatten()
    move = torch.rand(n, 2, device=x.device) * 0.3 - 0.15
    theta = torch.stack([torch.stack([size * turn.cos(), -size * turn.sin(), move[:, 0]], 1), torch.stack([size * turn.sin(), size * turn.cos(), move[:, 1]], 1)], 1)
    x = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), padding_mode='border', align_corners=False)
    white = ((x.amin(1, keepdim=True) + 1) / 2).clamp(0, 1) ** 8
    tint = torch.rand(n, 3, 1, 1, device=x.device) * 2 - 1
    x = torch.where(one(0, 1) < 0.67, x, x * (1 - white) + tint * white)
    x = torch.where(one(0, 1) < 0.75, x, F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode='bilinear'))
    return torch.where(one(0, 1) < 0.5, x, (x * one(0.8, 1.0) + one(-0.1, 0.1)).clamp(-1, 1))


def pairs(row):
    """[(caption, weight)]: as captions.of, with keywords more often, and names without a style now and then."""
    said = captions.of(row)
    name, words = data.plain(row['caption'] or row['name']), [data.plain(k) for k in row['keywords'] or []][:8]
    return said + [(name, 0.15), (captions.article(name), 0.15)] + [(w, 0.1 / len(words)) for w in words]


def recall(clip, pixels, rows, tokens):
    """Share of captions whose own picture is the nearest of all these, and of pictures whose own caption is."""
    with torch.no_grad():
        v = torch.cat([images(clip, common.place(ready(data.batch(pixels, [r['pixels'] for r in rows[i:i + 50]])))) for i in range(0, len(rows), 50)])
        t = texts(clip, torch.tensor([tokens(captions.of(r)[0][0]) for r in rows]).to(common.DEVICE))
    s, own = (t @ v.t()).cpu(), torch.arange(len(rows))
    return (s.argmax(1) == own).float().mean().item(), (s.argmax(0) == own).float().mean().item(), (s.topk(5, 1).indices == own[:, None]).any(1).float().mean().item()


def main():
    p = common.options(argparse.ArgumentParser(description=__doc__), ema=0.998, every=200)
    p.add_argument('--batch', type=int, default=192)
    p.add_argument('--muon', type=float, default=0.01)
    p.add_argument('--adam', type=float, default=1e-3)
    p.add_argument('--split', default='train', choices=['all', 'train'])
    a = p.parse_args()
    rng = common.machine(a.seed)
    rows, pixels = data.load(a.data, skin_tones=False)
    tokens, train = Tokenizer(), [r for r in rows if r['split'] == 'train' or a.split == 'all']
    parts = {s: [r for r in rows if r['split'] == s] for s in ('train', 'test')}
    parts = {s: [part[i] for i in np.random.default_rng(0).permutation(len(part))[:500]] for s, part in parts.items()}
    said = [pairs(r) for r in train]
    ids = [torch.tensor([tokens(c) for c, _ in s]) for s in said]
    odds = [np.array([w for _, w in s]) / sum(w for _, w in s) for s in said]
    share = np.array([0.3 if r['is_flag'] else 1.0 for r in train])
    clip = common.place(model())
    opt = common.optimiser([clip], a.muon, a.adam, ('patch_embedding', 'projection'))
    print('%d pictures; parameters: text %d, vision %d' % (len(train), *(sum(q.numel() for q in m.parameters()) for m in (clip.text_model, clip.vision_model))), flush=True)

    def loss_of(step):
        idx = rng.choice(len(train), a.batch, replace=False, p=share / share.sum())
        x = common.place(augment(ready(data.batch(pixels, [train[i]['pixels'] for i in idx]).to(common.DEVICE))))
        words = torch.stack([ids[i][rng.choice(len(odds[i]), p=odds[i])] for i in idx]).to(common.DEVICE)
        with common.amp():
            v, t = images(clip, x), texts(clip, words)
        s = clip.logit_scale.exp().clamp(max=100) * t @ v.t()
        concept = np.array([train[i]['concept'] for i in idx])
        twin = torch.from_numpy((concept[:, None] == concept[None]) & ~np.eye(len(idx), dtype=bool)).to(s.device)
        s, y = s.masked_fill(twin, -1e4), torch.arange(len(idx), device=s.device)
        return (F.cross_entropy(s, y) + F.cross_entropy(s.t(), y)) / 2, len(idx)

    shadow = common.place(model().eval())

    def show(state, step):
        shadow.load_state_dict(state)
        for name, part in parts.items():
            print('clip %d: %s, %d pictures: text to picture recall@1 %.3f, picture to text %.3f, recall@5 %.3f' % (step, name, len(part), *(r for r in recall(shadow, pixels, part, tokens))), flush=True)

    common.fit(a.run, 'clip', clip, opt, loss_of, rng, a, show)


if __name__ == '__main__':
    main()
