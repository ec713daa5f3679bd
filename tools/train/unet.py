"""Stage 3: UNet and text tower together. unet.py --data D --run R; reads R/latents.pt and R/vae-folded.pt, writes R/unet.pt and R/unet.png.

v-prediction on the scaled-linear schedule rescaled to zero terminal SNR. The weight of a timestep is min(SNR + 1, gamma + 1) / (SNR + 1): min-SNR for v,
with full weight where there is only noise, because the first step decides what the picture shows. Timesteps are drawn in proportion to it."""
import argparse
import os
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel
import captions
import common
import configs
import data
from tokenizer import Tokenizer

GAMMA = 5.0
SHOWN = ['a red apple', 'cat face', 'pizza', 'rocket', 'smiling face with sunglasses', 'blue heart', 'tree', 'dog', 'guitar', 'house', 'rainbow', 'fish',
         'sun', 'airplane', 'birthday cake', 'ghost', 'umbrella', 'a car', 'butterfly', 'a cup of coffee', 'soccer ball', 'crescent moon', 'rose', 'green apple']


class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.unet = UNet2DConditionModel(**configs.UNET)
        if common.DEVICE == 'cpu' and common.BF16:
            self.unet.set_attn_processor(AttnProcessor())   # plain products: faster there in bfloat16 than torch's fused attention, slower in float32
        self.text = CLIPTextModel(CLIPTextConfig(**configs.TEXT))
        for name, p in self.unet.named_parameters():    # residual branches start silent
            if name.endswith(('conv2.weight', 'conv2.bias')) or name.startswith('conv_out') or 'proj_out' in name:
                torch.nn.init.zeros_(p)

    def forward(self, x, t, ids):
        return self.unet(x, t, self.text(ids).last_hidden_state).sample


def levels():
    return DDIMScheduler(**configs.SCHEDULER).alphas_cumprod.float().to(common.DEVICE)


@torch.no_grad()
def sample(pair, tokens, prompts, steps=20, cfg=4.0, seed=0):
    """DDIM with trailing steps: what diffusers and diffc do, for a batch with one noise tensor after the other from one generator."""
    ids, empty = torch.tensor([tokens(p) for p in prompts]), torch.tensor([tokens('')]).repeat(len(prompts), 1)
    ac, x = levels(), torch.randn(len(prompts), 4, 16, 16, generator=torch.Generator().manual_seed(seed)).to(common.DEVICE)
    with common.amp():
        context = pair.text(torch.cat([ids, empty]).to(common.DEVICE)).last_hidden_state
    times = [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]
    for i, t in enumerate(times):
        with common.amp():
            v, u = pair.unet(torch.cat([x, x]), t, context).sample.float().chunk(2)
        v = u + cfg * (v - u)
        a, s = ac[t].sqrt(), (1 - ac[t]).sqrt()
        x0, e = a * x - s * v, s * x + a * v
        after = ac[times[i + 1]] if i + 1 < steps else torch.ones_like(a)
        x = after.sqrt() * x0 + (1 - after).sqrt() * e
    return x


def main():
    p = common.options(argparse.ArgumentParser(description=__doc__), ema=0.999, every=250)
    p.add_argument('--batch', type=int, default=64)
    p.add_argument('--styles', default='fluent flat', help='comma-separated; plain captions are of the house style')
    p.add_argument('--share', default='', help='weight of a style, as "noto=0.5,twemoji=0.5"')
    p.add_argument('--without', default='People & Body;Flags', help='groups left out, semicolons between')
    p.add_argument('--concepts', help='file of names, semicolons between: train on these only')
    p.add_argument('--split', default='all', choices=['all', 'train'])
    p.add_argument('--muon', type=float, default=0.01)
    p.add_argument('--adam', type=float, default=1e-3)
    p.add_argument('--late', type=float, default=0.0, help='0 to 1: draw timesteps of much noise more often; what a picture shows is learned there')
    p.add_argument('--empty', type=float, default=0.1, help='share of samples without a caption')
    a = p.parse_args()
    rng = common.machine(a.seed)
    tokens, styles = Tokenizer(), a.styles.split(',')
    rows, _ = data.load(a.data, styles, a.without.split(';'), skin_tones=False)
    rows = [r for r in rows if a.split == 'all' or r['split'] == 'train']
    rows = data.named(rows, a.concepts)
    stored = torch.load(f'{a.run}/latents.pt', weights_only=False)
    where = {place: i for i, place in enumerate(stored['places'])}
    z = stored['latents'][[where[r['pixels']] for r in rows]].float().to(common.DEVICE)
    share = {k: float(v) for k, v in (s.split('=') for s in a.share.split(',') if s)}
    weight = np.array([captions.weight(r) * share.get(r['style'], 1) * r.get('times', 1) for r in rows])
    weight /= weight.sum()
    said = [captions.of(r) for r in rows]
    ids = [torch.tensor([tokens(c) for c, _ in s]) for s in said]
    odds = [np.array([w for _, w in s]) / sum(w for _, w in s) for s in said]
    empty, ac = torch.tensor(tokens('')), levels()
    snr = ac.double() / (1 - ac.double())
    part = torch.clamp(snr + 1, max=GAMMA + 1) / (snr + 1)      # a timestep is drawn as often as its sample would weigh
    part = torch.cumsum(part * (1 - a.late + a.late * torch.arange(1000, device=common.DEVICE) / 1000), 0)
    part /= part[-1].clone()
    print(f'{len(rows)} pictures, {sum(map(len, said))} captions', flush=True)

    pair = common.place(Pair())
    if os.path.exists(f'{a.run}/unet-start.pt') and not os.path.exists(f'{a.run}/unet.pt'):
        pair.load_state_dict(common.read(f'{a.run}/unet-start.pt'), strict=False)
        print('begins from unet-start.pt', flush=True)
    opt = common.optimiser([pair], a.muon, a.adam, ('conv_in', 'conv_out'))
    print('parameters: unet %d, text %d' % tuple(sum(p.numel() for p in m.parameters()) for m in (pair.unet, pair.text)), flush=True)

    def loss_of(step):
        idx = rng.choice(len(rows), a.batch, p=weight)
        text = torch.stack([empty if rng.random() < a.empty else ids[i][rng.choice(len(odds[i]), p=odds[i])] for i in idx]).to(common.DEVICE)
        x = z[torch.from_numpy(idx)].contiguous(memory_format=torch.channels_last)
        u = torch.from_numpy((np.arange(a.batch) + rng.random(a.batch)) / a.batch).to(common.DEVICE)     # stratified
        t = torch.searchsorted(part, u).clamp(max=999)
        q = ac[t].view(-1, 1, 1, 1)
        e = torch.randn_like(x)
        with common.amp():
            v = pair(q.sqrt() * x + (1 - q).sqrt() * e, t, text)
        return (v.float() - (q.sqrt() * e - (1 - q).sqrt() * x)).square().mean(), a.batch

    shadow = common.place(Pair().eval())
    vae = common.place(AutoencoderKL(**configs.VAE).eval())
    vae.load_state_dict(common.read(f'{a.run}/vae-folded.pt')['ema'])

    def show(state, step):
        shadow.load_state_dict(state)
        with torch.no_grad():
            data.sheet(vae.decode(sample(shadow, tokens, SHOWN)).sample.cpu(), f'{a.run}/unet.png')

    common.fit(a.run, 'unet', pair, opt, loss_of, rng, a, show)


if __name__ == '__main__':
    main()
