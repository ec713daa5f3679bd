"""What all stages share: the loop with checkpoints, the optimisers, the averaged weights."""
import json
import os
import signal
import time
import numpy as np
import torch


DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def place(x):
    """A module or a batch of pictures, on the device, channels last."""
    return x.to(DEVICE, memory_format=torch.channels_last)


def machine(seed):
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', '2')))
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def has_bf16():
    """Whether bfloat16 products are fast here; a CPU without instructions for them emulates them, many times slower than float32."""
    return DEVICE == 'cuda' or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


BF16 = has_bf16()


def amp():
    return torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=BF16)


def orthogonal(g, steps=4):
    """Newton-Schulz: nearly the orthogonal factor of a matrix (Keller Jordan's coefficients).

    All steps are polynomials in the small product x x', so they are taken there, and the long matrix is multiplied twice only."""
    x = g.bfloat16() if BF16 and g.numel() > 1 << 14 else g.float()     # small ones gain nothing from bfloat16
    tall = x.shape[0] > x.shape[1]
    x = x.t() if tall else x
    x = x / (x.norm() + 1e-7)
    a, q = x @ x.t(), None
    for i in range(steps):
        p = torch.addmm(a, a, a, beta=-4.7750, alpha=2.0315)
        p.diagonal().add_(3.4445)
        q = p if q is None else p @ q
        if i + 1 < steps:
            a = p @ (p @ a)
    x = q @ x
    return (x.t() if tall else x).to(g.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, for the matrices and kernels inside the net; 'adam' groups get AdamW."""

    def __init__(self, matrices, others, lr, lr_adam, momentum=0.95, decay=0.01):
        super().__init__([dict(params=matrices, base=lr, kind='muon'), dict(params=others, base=lr_adam, kind='adam')], dict(lr=lr, momentum=momentum, decay=decay))

    @torch.no_grad()
    def step(self):
        for g in self.param_groups:
            for p in g['params']:
                if p.grad is None:
                    continue
                s = self.state[p]
                if g['kind'] == 'muon':
                    m = s.setdefault('m', torch.zeros_like(p))
                    m.lerp_(p.grad, 1 - g['momentum'])
                    u = p.grad.lerp(m, g['momentum']).reshape(len(p), -1)
                    u = orthogonal(u) * max(1, u.shape[0] / u.shape[1]) ** 0.5
                    p.mul_(1 - g['lr'] * g['decay']).add_(u.view(p.shape), alpha=-g['lr'])
                else:
                    if not s:
                        s.update(n=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                    s['n'] += 1
                    s['m'].lerp_(p.grad, 0.1)
                    s['v'].lerp_(p.grad.square(), 0.01)
                    d = (s['v'] / (1 - 0.99 ** s['n'])).sqrt_().add_(1e-8)
                    p.addcdiv_(s['m'], d, value=-g['lr'] / (1 - 0.9 ** s['n']))


def optimiser(modules, lr, lr_adam, first_last=()):
    """Muon for what multiplies inside the net; AdamW for embeddings, vectors, and the layers named in first_last."""
    matrices, others = [], []
    for m in modules:
        for name, p in m.named_parameters():
            if p.requires_grad:
                inside = p.dim() >= 2 and 'embedding.weight' not in name and not any(f in name for f in first_last)
                (matrices if inside else others).append(p)
    return Muon(matrices, others, lr, lr_adam)


class Average:
    """Exponential moving average of a module's state; short memory at first."""

    def __init__(self, module, decay):
        self.decay, self.state = decay, {k: v.clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module, step):
        d = min(self.decay, (1 + step) / (10 + step))
        for k, v in module.state_dict().items():
            self.state[k].lerp_(v, 1 - d) if v.dtype.is_floating_point else self.state[k].copy_(v)


def save(path, state):
    torch.save(state, path + '.tmp')
    os.replace(path + '.tmp', path)


def read(path):
    return torch.load(path, map_location=DEVICE, weights_only=False)


def begin(path, out, cooldown):
    """The state to go on from, and the step where its cool-down began; (None, 0): from nothing."""
    state = read(path) if os.path.exists(path) else None
    if cooldown and os.path.exists(out):
        cooled = read(out)
        if cooled['step'] - cooled['first'] < cooldown or state is None or state['step'] <= cooled['first']:
            return cooled, cooled['first']              # not finished, or nothing newer to cool down
    return state, state['step'] if state else 0


def fit(run, stage, module, opt, loss_of, rng, args, show=None):
    """Steps until args.steps, args.minutes or a SIGTERM/SIGINT; a checkpoint every args.save minutes, a look (show) every args.every steps.

    loss_of(step) returns (loss, number of samples). The state is RUN/STAGE.pt; with args.cooldown the learning rate falls to
    zero over that many steps and the state goes to RUN/STAGE-cool.pt, so that training goes on later from where it was steady."""
    path, out = f'{run}/{stage}.pt', f'{run}/{stage}-cool.pt' if args.cooldown else f'{run}/{stage}.pt'
    os.makedirs(run, exist_ok=True)
    average, step, samples, seconds = Average(module, args.ema), 0, 0, 0.0
    s, first = begin(path, out, args.cooldown)
    if s:
        base = [g['base'] for g in opt.param_groups]
        module.load_state_dict(s['model']); opt.load_state_dict(s['opt']); average.state = s['ema']
        for g, b in zip(opt.param_groups, base):            # the learning rate of this sitting, not of the last
            g['base'] = b
        step, samples, seconds = s['step'], s['samples'], s['seconds']
        torch.set_rng_state(s['torch_rng'].cpu()); rng.bit_generator.state = s['rng']
        print(f'{stage}: goes on at step {step}, {samples} samples, {seconds / 60:.1f} min', flush=True)
    stop = []
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: stop.append(1))
    start, last, saved, losses, count = time.time(), time.time(), time.time(), [], 0

    def checkpoint():
        save(out, dict(model=module.state_dict(), opt=opt.state_dict(), ema=average.state, step=step, samples=samples, first=first,
                       seconds=seconds + time.time() - start, torch_rng=torch.get_rng_state(), rng=rng.bit_generator.state, args=vars(args)))

    while not stop and time.time() - start < args.minutes * 60 and step < args.steps and not (args.cooldown and step - first >= args.cooldown):
        scale = min(1, (step + 1) / args.warmup) * (1 - (step - first) / args.cooldown if args.cooldown else 1)
        for g in opt.param_groups:
            g['lr'] = g['base'] * args.lr * scale
        loss, n = loss_of(step)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), args.clip)
        if DEVICE == 'cuda' or torch.isfinite(norm):        # on a GPU the question would wait for the step
            opt.step()
        step += 1; samples += n; count += n; losses.append(loss.detach())
        average.update(module, step)
        if step % args.log == 0:
            now = time.time()
            row = dict(stage=stage, step=step, samples=samples, minutes=round((seconds + now - start) / 60, 2), loss=round(torch.stack(losses).mean().item(), 5),
                       norm=round(float(norm), 3), rate=round(count / (now - last), 1), cpu=round(time.process_time(), 1), lr=round(scale * args.lr, 4),
                       clock=time.strftime('%H:%M:%S'))
            print(json.dumps(row), flush=True)
            with open(f'{run}/log.jsonl', 'a') as f:
                f.write(json.dumps(row) + '\n')
            losses, count, last = [], 0, now
        if time.time() - saved > args.save * 60:
            checkpoint(); saved = time.time()
        if step % args.every == 0 and show:
            show(average.state, step); last = time.time()
    checkpoint()
    if show and not stop:
        show(average.state, step)


def options(parser, ema=0.999, every=300, clip=1.0, log=50):
    """The options that all stages take."""
    parser.add_argument('--data', default='data', help='folder with images_128.u8 and captions.jsonl')
    parser.add_argument('--run', default='run', help='folder of checkpoints, logs and sheets')
    parser.add_argument('--minutes', type=float, default=1e9, help='stop after this time')
    parser.add_argument('--steps', type=int, default=1 << 60, help='stop at this step')
    parser.add_argument('--cooldown', type=int, default=0, help='let the learning rate fall to zero over so many steps, into STAGE-cool.pt')
    parser.add_argument('--lr', type=float, default=1.0, help='factor on the learning rates')
    parser.add_argument('--warmup', type=int, default=100)
    parser.add_argument('--ema', type=float, default=ema)
    parser.add_argument('--every', type=int, default=every, help='steps between sheets')
    parser.add_argument('--save', type=float, default=4, help='minutes between checkpoints')
    parser.add_argument('--log', type=int, default=log)
    parser.add_argument('--clip', type=float, default=clip)
    parser.add_argument('--seed', type=int, default=0)
    return parser
