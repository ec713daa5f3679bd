"""Stage 2: latents of all pictures, once. latents.py --data D --run R; reads R/vae.pt (or R/vae-cool.pt), writes R/vae-folded.pt and R/latents.pt.

Every latent channel gets mean 0 and deviation 1 over the chosen styles by folding mean and scale into the two 1x1 convolutions: pictures stay the same,
and scaling_factor is 1."""
import argparse
import os
import torch
from diffusers import AutoencoderKL
import common
import configs
import data


def fold(vae, mean, deviation):
    q, p, c = vae.quant_conv, vae.post_quant_conv, len(mean)
    g = 1 / deviation
    with torch.no_grad():
        q.bias[:c] = (q.bias[:c] - mean) * g
        q.weight[:c] *= g.view(-1, 1, 1, 1)
        q.bias[c:] += 2 * g.log()                       # the log variance of what is scaled
        p.bias += p.weight[:, :, 0, 0] @ mean
        p.weight /= g.view(1, -1, 1, 1)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--data', default='data')
    p.add_argument('--run', default='run')
    p.add_argument('--styles', default=','.join(data.STYLES))
    p.add_argument('--concepts', help='file of names, semicolons between: these only, for a training that begins at once')
    p.add_argument('--plain', action='store_true', help='leave out the pictures that differ in skin tone only')
    p.add_argument('--measure', default='fluent flat,fluent color,noto,twemoji', help='the styles whose mean and deviation are folded')
    a = p.parse_args()
    common.machine(0)
    vae = common.place(AutoencoderKL(**configs.VAE).eval())
    folded = f'{a.run}/vae-folded.pt'
    source = f'{a.run}/vae-cool.pt' if os.path.exists(f'{a.run}/vae-cool.pt') else f'{a.run}/vae.pt'
    vae.load_state_dict(common.read(folded if os.path.exists(folded) else source)['ema'])
    rows, pixels = data.load(a.data, a.styles.split(','), skin_tones=not a.plain)
    rows = data.named(rows, a.concepts)
    places = [r['pixels'] for r in rows]
    out = []
    with torch.no_grad(), common.amp():
        for i in range(0, len(places), 32):
            out.append(vae.encode(common.place(data.batch(pixels, places[i:i + 32]))).latent_dist.mean.float())
    z = torch.cat(out)
    if not os.path.exists(folded):
        part = z[[r['style'] in a.measure.split(',') for r in rows]]
        mean, deviation = part.mean((0, 2, 3)), part.std((0, 2, 3))
        fold(vae, mean, deviation)
        z = (z - mean.view(1, -1, 1, 1)) / deviation.view(1, -1, 1, 1)
        common.save(folded, dict(ema=vae.state_dict(), mean=mean, deviation=deviation, source=source))
    common.save(f'{a.run}/latents.pt', dict(latents=z.half().cpu(), places=places))
    print(f'{len(places)} latents, mean {z.mean((0, 2, 3)).tolist()}, deviation {z.std((0, 2, 3)).tolist()}')


if __name__ == '__main__':
    main()
