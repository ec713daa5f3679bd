"""Optional stage: a tiny autoencoder for previews (AutoencoderTiny, as TAESD) of the same latents. tiny.py --data D --run R; reads R/latents.pt, writes R/tiny.pt.

The decoder learns the pictures from the stored latents, the encoder the latents from the pictures, both on windows; what a window lacks of its surroundings is left out of the loss.
With --judge nothing is trained: the decoder's distance from the VAE's own, and from the pictures, is printed."""
import argparse
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny
import common
import configs
import data
import export
from vae import WEIGHT, edges

GRID = 16           # latents a side


def windows(z, pixels, where, places, size, margin, rng, tries=2):
    """Windows of size latents a side at random places, of several the one with most ink: latents, pictures, and where both count (all but margin latents at cuts)."""
    zs, xs, masks = [], [], []
    for place in places:
        best = None
        for _ in range(tries):
            y, x = rng.integers(0, GRID - size + 1, 2)
            c = pixels[place, y * 8:(y + size) * 8, x * 8:(x + size) * 8]
            ink = c[::4, ::4].std()
            if best is None or ink > best[0]:
                best = ink, y, x, c
        _, y, x, c = best
        m = np.ones((1, size, size), np.float32)
        for cut, part in ((y > 0, np.s_[:, :margin]), (y + size < GRID, np.s_[:, size - margin:]), (x > 0, np.s_[:, :, :margin]), (x + size < GRID, np.s_[:, :, size - margin:])):
            if cut:
                m[part] = 0
        zs.append(z[where[place]][:, y:y + size, x:x + size]), xs.append(c), masks.append(m)
    x = (torch.from_numpy(np.stack(xs)).float() / 127.5 - 1).permute(0, 3, 1, 2)
    return torch.stack(zs).float(), x, torch.from_numpy(np.stack(masks))


def decibel(x, y):
    """Mean PSNR of 8-bit pictures."""
    x, y = (((v.clamp(-1, 1) + 1) * 127.5).round() for v in (x, y))
    return (10 * torch.log10(255 ** 2 / (x - y).square().mean((1, 2, 3)).clamp(min=0.01))).mean().item()


@torch.no_grad()
def judge(run, tiny, pixels, rows):
    vae = common.place(AutoencoderKL(**configs.VAE).eval())
    vae.load_state_dict(export.autoencoder(run))
    for name, part in (('all styles', rows[::13]), ('fluent flat', [r for r in rows if r['style'] == 'fluent flat'][::4])):
        x, got = data.batch(pixels, [r['pixels'] for r in part]), [[], []]
        lat = torch.cat([vae.encode(common.place(x[i:i + 16])).latent_dist.mean for i in range(0, len(part), 16)])
        for i in range(0, len(part), 16):
            for out, net in zip(got, (tiny, vae)):
                out.append(net.decode(lat[i:i + 16]).sample.cpu())
        small, large = (torch.cat(g) for g in got)
        guess = torch.cat([tiny.encode(common.place(x[i:i + 16])).latents for i in range(0, len(part), 16)])
        print(f'tiny: {len(part)} unseen pictures, {name}: {decibel(small, large):.2f} dB from the decoder of the VAE; from the pictures {decibel(small, x):.2f}, the VAE {decibel(large, x):.2f} dB; '
              f'encoder: {(guess - lat).square().mean():.4f} from the latents', flush=True)


def main():
    p = common.options(argparse.ArgumentParser(description=__doc__), ema=0.99, every=200)
    p.add_argument('--batch', type=int, default=8)
    p.add_argument('--window', type=int, default=10, help='latents a side')
    p.add_argument('--margin', type=int, default=1)
    p.add_argument('--muon', type=float, default=0.01)
    p.add_argument('--adam', type=float, default=1e-3)
    p.add_argument('--judge', action='store_true')
    a = p.parse_args()
    rng = common.machine(a.seed)
    rows, pixels = data.load(a.data)
    train, test = ([r for r in rows if r['split'] == s] for s in ('train', 'test'))
    weight = np.array([WEIGHT[r['style']] * (0.3 if r['skin_tone'] else 1) for r in train])
    places, weight = np.array([r['pixels'] for r in train]), weight / weight.sum()
    shadow = common.place(AutoencoderTiny(**configs.TINY).eval())
    if a.judge:
        shadow.load_state_dict(export.newest(a.run, 'tiny-cool', 'tiny'))
        return judge(a.run, shadow, pixels, test)
    stored = torch.load(f'{a.run}/latents.pt', weights_only=False)
    z, where = stored['latents'], {place: i for i, place in enumerate(stored['places'])}
    known = np.array([i in where for i in places])
    places, weight = places[known], weight[known] / weight[known].sum()
    tiny = common.place(AutoencoderTiny(**configs.TINY))
    opt = common.optimiser([tiny], a.muon, a.adam, ('encoder.layers.0.', 'encoder.layers.14.', 'decoder.layers.0.', 'decoder.layers.17.'))

    def loss_of(step):
        lat, x, mask = (common.place(v) for v in windows(z, pixels, where, rng.choice(places, a.batch, p=weight), a.window, a.margin, rng))
        wide = F.interpolate(mask, scale_factor=8)
        with common.amp():
            y = tiny.decode(lat + 0.05 * torch.randn_like(lat)).sample.float()
            guess = tiny.encode(x).latents.float() if step % 4 == 0 else None       # the encoder is wanted less
        d, inner = y - x, wide[..., 1:-1, 1:-1]
        loss = (d * wide).abs().mean() + 4 * (d * wide).square().mean() + 0.1 * (edges(d) * inner).abs().mean()
        return (loss if guess is None else loss + 0.3 * ((guess - lat) * mask).square().mean()), a.batch

    vae = common.place(AutoencoderKL(**configs.VAE).eval())
    vae.load_state_dict(common.read(f'{a.run}/vae-folded.pt')['ema'])

    def show(state, step):
        shadow.load_state_dict(state)
        judge(a.run, shadow, pixels, test)
        shown = [next(r['pixels'] for r in test if r['style'] == s) for s in data.STYLES] + [r['pixels'] for r in test[::37]][:11]
        with torch.no_grad():
            x = common.place(data.batch(pixels, shown))
            back = shadow.decode(vae.encode(x).latent_dist.mean).sample
        data.sheet(torch.cat([x, back]).cpu(), f'{a.run}/tiny.png', 16)

    common.fit(a.run, 'tiny', tiny, opt, loss_of, rng, a, show)


if __name__ == '__main__':
    main()
