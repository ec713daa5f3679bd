"""Stage 1: the autoencoder (AutoencoderKL, f8). vae.py --data D --run R; writes R/vae.pt and R/vae.png (pictures above, what comes back below).

Later, with --decoder: the decoder alone goes on from R/vae-folded.pt, into R/decoder.pt. The latents stay what they are, so a trained UNet stays good.
With --stored it learns whole pictures from R/latents.pt: no time for the encoder, and the statistics are those of use."""
import argparse
import math
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
import common
import configs
import data

WEIGHT = {'fluent flat': 6.0, 'twemoji': 1.5, 'noto': 1.0, 'fluent color': 1.0, 'clip art': 0.4}     # the house style first


def edges(x):
    s = torch.tensor([[-1., 0, 1], [-2, 0, 2], [-1, 0, 1]]).view(1, 1, 3, 3).repeat(3, 1, 1, 1).to(x.device)
    return torch.cat([F.conv2d(x, s, groups=3), F.conv2d(x, s.transpose(2, 3), groups=3)], 1)


def psnr(vae, pixels, places):
    """Mean over pictures of the PSNR of 8-bit pictures, decoded from the latents' means."""
    total, back = 0.0, []
    with torch.no_grad(), common.amp():
        for i in range(0, len(places), 16):
            x = common.place(data.batch(pixels, places[i:i + 16]))
            y = vae.decode(vae.encode(x).latent_dist.mean).sample.float().clamp(-1, 1)
            y8, x8 = ((y + 1) * 127.5).round(), ((x + 1) * 127.5).round()
            total += (10 * torch.log10(255 ** 2 / (y8 - x8).square().mean((1, 2, 3)).clamp(min=0.01))).sum().item()
            back.append(y.cpu())
    return total / len(places), torch.cat(back)


def main():
    p = common.options(argparse.ArgumentParser(description=__doc__), ema=0.995)
    p.add_argument('--batch', type=int, default=16)
    p.add_argument('--crop', type=int, default=64)
    p.add_argument('--kl', type=float, default=1e-4)
    p.add_argument('--muon', type=float, default=0.02)
    p.add_argument('--adam', type=float, default=2e-3)
    p.add_argument('--decoder', action='store_true', help='train the decoder alone, with the latents as they are')
    p.add_argument('--stored', action='store_true', help='with --decoder: whole pictures from the latents of latents.pt')
    p.add_argument('--begin', help='checkpoint whose averaged weights a first sitting of --decoder begins from (default: vae-folded.pt)')
    a = p.parse_args()
    stage = 'decoder' if a.decoder else 'vae'
    rng = common.machine(a.seed)
    rows, pixels = data.load(a.data)
    train = [r for r in rows if r['split'] == 'train']
    test = [r for r in rows if r['split'] == 'test']
    weight = np.array([WEIGHT[r['style']] * (0.3 if r['skin_tone'] else 1) for r in train])
    places, weight = np.array([r['pixels'] for r in train]), weight / weight.sum()
    shown = [next(r['pixels'] for r in test if r['style'] == s) for s in data.STYLES] + [r['pixels'] for r in test[::37]][:11]
    checked = [r['pixels'] for r in test[::13]]

    vae = common.place(AutoencoderKL(**configs.VAE))
    if a.decoder:
        vae.load_state_dict(common.read(a.begin or f'{a.run}/vae-folded.pt')['ema'])
        vae.encoder.requires_grad_(False), vae.quant_conv.requires_grad_(False)
    opt = common.optimiser([vae], a.muon, a.adam, ('conv_in', 'conv_out', 'quant_conv'))

    if a.stored:
        stored = torch.load(f'{a.run}/latents.pt', weights_only=False)
        where = {place: i for i, place in enumerate(stored['places'])}
        known = np.array([i in where for i in places])
        places, weight = places[known], weight[known] / weight[known].sum()

    def loss_of(step):
        if a.stored:
            idx = rng.choice(places, a.batch, p=weight)
            x, z = common.place(data.batch(pixels, idx)), common.place(torch.stack([stored['latents'][where[i]] for i in idx]).float())
            with common.amp():
                y = vae.decode(z + 0.03 * torch.randn_like(z)).sample.float()
            return F.l1_loss(y, x) + 4 * F.mse_loss(y, x) + 0.1 * F.l1_loss(edges(y), edges(x)), len(x)
        x = common.place(data.crops(pixels, rng.choice(places, a.batch, p=weight), a.crop, rng))
        with common.amp():
            with torch.set_grad_enabled(not a.decoder):
                d = vae.encode(x).latent_dist
            y = vae.decode(d.mean.float() + d.std.float() * torch.randn_like(d.mean, dtype=torch.float32)).sample.float()
        kl = 0.5 * (d.mean.float() ** 2 + d.var.float() - 1 - d.logvar.float()).mean()
        return F.l1_loss(y, x) + 4 * F.mse_loss(y, x) + 0.1 * F.l1_loss(edges(y), edges(x)) + a.kl * kl, len(x)

    shadow = common.place(AutoencoderKL(**configs.VAE).eval())

    def show(state, step):
        shadow.load_state_dict(state)
        value, _ = psnr(shadow, pixels, checked)
        print(f'{stage} {step}: {value:.2f} dB on {len(checked)} unseen pictures', flush=True)
        _, back = psnr(shadow, pixels, shown)
        data.sheet(torch.cat([data.batch(pixels, shown), back]), f'{a.run}/{stage}.png', len(shown))

    common.fit(a.run, stage, vae, opt, loss_of, rng, a, show)


if __name__ == '__main__':
    main()
