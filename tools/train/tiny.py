"""Optional stage: a tiny autoencoder for previews (AutoencoderTiny, as TAESD) of the same latents. tiny.py --data D --run R; reads R/vae-folded.pt, writes R/tiny.pt.

The decoder learns the pictures from the latents, the encoder the latents from the pictures."""
import argparse
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny
import common
import configs
import data


def main():
    p = common.options(argparse.ArgumentParser(description=__doc__), ema=0.995)
    p.add_argument('--batch', type=int, default=16)
    p.add_argument('--crop', type=int, default=64)
    p.add_argument('--muon', type=float, default=0.01)
    p.add_argument('--adam', type=float, default=1e-3)
    a = p.parse_args()
    rng = common.machine(a.seed)
    rows, pixels = data.load(a.data)
    places = np.array([r['pixels'] for r in rows if r['split'] == 'train'])
    vae = common.place(AutoencoderKL(**configs.VAE).eval().requires_grad_(False))
    vae.load_state_dict(common.read(f'{a.run}/vae-folded.pt')['ema'])
    tiny = common.place(AutoencoderTiny(**configs.TINY))
    opt = common.optimiser([tiny], a.muon, a.adam, ('encoder.layers.0.', 'decoder.layers.18.', 'decoder.layers.0.'))

    def loss_of(step):
        x = common.place(data.crops(pixels, rng.choice(places, a.batch), a.crop, rng))
        with common.amp():
            z = vae.encode(x).latent_dist.mean.float()
            guess = tiny.encode(x).latents.float()
            y = tiny.decode(z + 0.05 * torch.randn_like(z)).sample.float()
        return F.l1_loss(y, x) + 2 * F.mse_loss(y, x) + 0.1 * F.smooth_l1_loss(guess, z), len(x)

    shadow = common.place(AutoencoderTiny(**configs.TINY).eval())

    def show(state, step):
        shadow.load_state_dict(state)
        x = common.place(data.batch(pixels, places[::len(places) // 16][:16]))
        with torch.no_grad():
            data.sheet(torch.cat([x, shadow.decode(vae.encode(x).latent_dist.mean).sample]).cpu(), f'{a.run}/tiny.png', 16)

    common.fit(a.run, 'tiny', tiny, opt, loss_of, rng, a, show)


if __name__ == '__main__':
    main()
