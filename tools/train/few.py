"""Optional stage after the UNet's cool-down: the same UNet for few steps. few.py --data D --run R --concepts FILE --cooldown N; reads R/unet-cool.pt, writes
R/few-cool.pt, which export.py prefers.

The model has one picture for a caption, so where a consistency model must end is known: at that picture. Steps are the trailing steps of 12, among which are those of 1, 2, 3, 4 and 6;
and half of the samples are not pictures with noise, but what DDIM makes of the net's own first step: so a second step learns to mend what the first left wrong.
Only a part of the UNet is trained (--train), the text tower not at all: the file of the new weights shares most of its bytes with the old one."""
import argparse
import os
import re
import numpy as np
import torch
from diffusers import AutoencoderKL
import captions
import common
import configs
import data
import unet
from tokenizer import Tokenizer

STEPS = configs.DEFAULTS['steps']
TIMES = [round(1000 - i * 1000 / STEPS) - 1 for i in range(STEPS)]
SHARE = np.array([6.0 if i == 0 else 2.0 if i * 4 % STEPS == 0 else 1.0 if i < STEPS - 2 else 0.5 for i in range(STEPS)])     # of the samples, by timestep
TRAIN = r'time_embedding|up_blocks\.0\.attentions|up_blocks\.[12]|conv_norm_out|conv_out'


@torch.no_grad()
def draw(net, context, steps, noise, ac, empty=None, guidance=1.0):
    """DDIM's trailing steps, as unet.sample, from contexts; with an empty prompt's context guided."""
    times, x = [round(1000 - i * 1000 / steps) - 1 for i in range(steps)], noise
    for i, t in enumerate(times):
        v = net(x, t, context).sample
        if guidance != 1:
            u = net(x, t, empty.expand_as(context)).sample
            v = u + guidance * (v - u)
        a, s = ac[t].sqrt(), (1 - ac[t]).sqrt()
        after = ac[times[i + 1]] if i + 1 < steps else torch.ones_like(a)
        x = after.sqrt() * (a * x - s * v) + (1 - after).sqrt() * (s * x + a * v)
    return x


def main():
    p = common.options(argparse.ArgumentParser(description=__doc__), ema=0.99, every=150, log=25)
    p.add_argument('--batch', type=int, default=24)
    p.add_argument('--concepts', help='file of names, semicolons between: those that the UNet knows')
    p.add_argument('--muon', type=float, default=0.004)
    p.add_argument('--adam', type=float, default=4e-4)
    p.add_argument('--empty', type=float, default=0.08, help='share of samples without a caption')
    p.add_argument('--own', type=float, default=0.5, help="share of the later timesteps' samples made from the net's own first step")
    p.add_argument('--train', default=TRAIN, help='the tensors that are trained, a regular expression of their names')
    a = p.parse_args()
    rng = common.machine(a.seed)
    tokens = Tokenizer()
    rows, _ = data.load(a.data, ['fluent flat'], ['People & Body', 'Flags'], skin_tones=False)
    rows = data.named(rows, a.concepts)
    stored = torch.load(f'{a.run}/latents.pt', weights_only=False)
    where = {place: i for i, place in enumerate(stored['places'])}
    z = stored['latents'][[where[r['pixels']] for r in rows]].float().to(common.DEVICE)
    pair = common.place(unet.Pair())
    pair.load_state_dict(common.read(f'{a.run}/unet-cool.pt')['ema'])
    said = [captions.of(r) for r in rows]
    odds = [np.array([w for _, w in s]) / sum(w for _, w in s) for s in said]
    with torch.no_grad():           # the text tower stays, so what it says of a caption does too
        told = [pair.text(torch.tensor([tokens(c) for c, _ in s]).to(common.DEVICE)).last_hidden_state for s in said]
        empty = pair.text(torch.tensor([tokens('')]).to(common.DEVICE)).last_hidden_state
    net, ac = pair.unet, unet.levels()
    for name, q in net.named_parameters():
        q.requires_grad_(bool(re.match(a.train, name)))
    opt = common.optimiser([net], a.muon, a.adam, ('conv_in', 'conv_out'))
    print(f'{len(rows)} pictures, {sum(map(len, said))} captions; {sum(q.numel() for q in net.parameters() if q.requires_grad)} parameters of {sum(q.numel() for q in net.parameters())}', flush=True)
    often = np.repeat(np.arange(len(rows)), [round(r.get('times', 1)) for r in rows])
    turn, turns = [], torch.tensor(TIMES)
    edges = np.cumsum(SHARE) / SHARE.sum()

    def loss_of(step):
        while len(turn) < a.batch:
            turn.extend(rng.permutation(often))             # every picture as often as any other, or as its name says
        idx, turn[:] = turn[:a.batch], turn[a.batch:]
        bare = rng.random(a.batch) < a.empty
        context = torch.stack([empty[0] if b else told[i][rng.choice(len(odds[i]), p=odds[i])] for i, b in zip(idx, bare)])
        x0 = z[torch.tensor(idx)].contiguous(memory_format=torch.channels_last)
        at = np.searchsorted(edges, (np.arange(a.batch) + rng.random(a.batch)) / a.batch)
        t = turns[torch.from_numpy(at)].to(common.DEVICE)
        own = torch.from_numpy((at > 0) & ~bare & (rng.random(a.batch) < a.own)).to(common.DEVICE)
        k, s = ac[t].sqrt().view(-1, 1, 1, 1), (1 - ac[t]).sqrt().view(-1, 1, 1, 1)
        e, seen = torch.randn_like(x0), x0.clone()
        if own.any():
            with torch.no_grad(), common.amp():
                seen[own] = -net(e[own], TIMES[0], context[own]).sample.float()
        x = k * seen + s * e
        with common.amp():
            v = net(x, t, context).sample.float()
        each = (v - (k * x - x0) / s).square().mean((1, 2, 3))
        return (torch.where(own, s.flatten().square(), 1.0) * each).mean(), a.batch

    shadow = common.place(unet.Pair().eval())
    vae = common.place(AutoencoderKL(**configs.VAE).eval())
    vae.load_state_dict(common.read(f'{a.run}/decoder-cool.pt')['ema'])
    some = list(range(0, len(rows), 5))
    noise = torch.randn(len(some), *z.shape[1:], generator=torch.Generator().manual_seed(1)).to(common.DEVICE)
    context = torch.stack([told[i][1] for i in some])

    def judge(unet_, who, ways):
        out = []
        for steps, guidance in ways:
            x = draw(unet_, context, steps, noise, ac, empty, guidance)
            out.append(x[:12])
            print(f'{who}: {steps} steps, guidance {guidance}: {(x - z[some]).square().mean():.4f} from the pictures of {len(some)}', flush=True)
        return out

    def show(state, step):
        shadow.unet.load_state_dict(state)
        x = judge(shadow.unet, f'few {step}', [(1, 1), (2, 1), (4, 1)])
        with torch.no_grad():
            data.sheet(vae.decode(torch.cat(x + [z[some[:12]]])).sample.cpu(), f'{a.run}/few.png', 12)

    if not os.path.exists(f'{a.run}/few-cool.pt'):
        judge(net, 'before', [(1, 1), (2, 1), (4, 1), (12, 1.5)])
    common.fit(a.run, 'few', net, opt, loss_of, rng, a, show)


if __name__ == '__main__':
    main()
