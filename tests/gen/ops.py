"""Small cases of every op and option, computed in float64.

    python3 tests/gen/ops.py tests/golden/backends        (torch, diffusers)

Writes ops.json (the cases), ops.safetensors (what must come out, float64 rounded to float32, channels last) and in it the codes of the narrow
storage types. Inputs and weights are not stored: both sides compute them from a seed (`numbers`), exactly.

Tolerance of a case, relative to the RMS of the result: 4 times what the same arithmetic in torch's float32 is off by, at least 2.5e-7
(a few roundings), and for a sum of K products what adding them one after the other costs: the roundings of a random walk,
2^-24 sqrt(K / 6)."""
import json, os, sys
import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from safetensors.torch import save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

cases, store = [], {}
BITS = {'F32': 24, 'F64': 40, 'F16': 11, 'BF16': 8, 'F8_E4M3': 4, 'F8_E5M2': 3}
NARROW = {'F16': torch.float16, 'BF16': torch.bfloat16, 'F8_E4M3': torch.float8_e4m3fn, 'F8_E5M2': torch.float8_e5m2}
for name, dtype in NARROW.items():  # code of (k - half) / half
    half = 2 ** (BITS[name] - 1)
    values = torch.arange(-half, half, dtype=torch.float64) / half
    codes = values.to(dtype)
    assert (codes.double() == values).all()
    store['codes.' + name] = codes.view(torch.uint8).reshape(len(values), -1).clone()


def numbers(seed, n, bits=24):
    """n fractions in [-1, 1) with `bits` bits (splitmix64)"""
    with np.errstate(over='ignore'):
        z = (np.uint64(seed) << np.uint64(32)) + np.arange(1, n + 1, dtype=np.uint64)
        z *= np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(64 - bits)).astype(np.int64) - 2 ** (bits - 1)).astype(np.float64) / 2 ** (bits - 1)


seed = 0


def fresh():
    global seed
    seed += 1
    return seed


class Tensor:
    """values in channels-last order; `wide`: uploaded as a slice [from, from + C) of rows of `wide` channels, NaN around it;
    `rows`: rows of an image from there on are NaN"""

    def __init__(self, *dims, scale=1, shift=0, wide=None, rows=None):
        self.spec = {'seed': fresh(), 'dims': dims, 'scale': scale, 'shift': shift}
        if wide: self.spec['slice'] = wide  # [from, wide]
        if rows: self.spec['rows'] = rows
        v = numbers(self.spec['seed'], int(np.prod(dims))) * scale + shift
        self.value = torch.from_numpy(v.astype(np.float32).astype(np.float64)).reshape(dims)


class Param:
    """parts: [(rows, type), ...] stacked along the first axis"""

    def __init__(self, kind, out, inp=1, kh=1, kw=1, parts=None, bias=True, scale=1, shift=0, bias_scale=1, geglu=False, transposed=False):
        rows = inp if transposed else out
        parts = [(rows, parts or 'F32')] if not isinstance(parts, list) else parts
        bias_parts = [] if not bias else [(out, 'F32')] if bias is True else [(out, bias)] if isinstance(bias, str) else bias
        row = out if transposed else inp * kh * kw
        self.spec = {'kind': kind, 'out': out, 'in': inp, 'kh': kh, 'kw': kw}
        if geglu: self.spec['geglu'] = True
        if transposed: self.spec['transposed'] = True
        self.w = self.read('weight', parts, row, scale, shift)
        self.b = self.read('bias', bias_parts, 1, bias_scale, 0).reshape(-1) if bias_parts else torch.zeros(out, dtype=torch.float64)
        if transposed: self.w = self.w.T
        self.geglu = geglu
        if kind == 'conv': self.w = self.w.reshape(out, inp, kh, kw)
        if kind == 'norm': self.w = self.w.reshape(out)

    def read(self, which, parts, row, scale, shift):
        self.spec[which], values = [], []
        for rows, dtype in parts:
            s = fresh()
            self.spec[which].append({'seed': s, 'rows': rows, 'dtype': dtype, 'scale': scale, 'shift': shift})
            v = numbers(s, rows * row, BITS[dtype]) * scale + shift
            values.append(torch.from_numpy(v.astype(np.float32).astype(np.float64) if dtype == 'F32' else v).reshape(rows, row))
        return torch.cat(values)


def add_case(name, op, compute, tensors=None, params=None, dtype=torch.float32, tolerance=None, products=1, **options):
    """compute(type) -> result in that float type"""
    exact, single = compute(torch.float64), compute(torch.float32)
    case = {'name': name, 'op': op, **options}
    for k, t in (tensors or {}).items():
        if t is not None: case[k] = t.spec
    for k, p in (params or {}).items():
        if p is not None: case[k] = p.spec
    if tolerance is None:
        error = (single.double() - exact.double()).pow(2).mean().sqrt() / exact.double().pow(2).mean().sqrt()
        tolerance = max(2.5e-7, 4 * error.item(), 2 ** -24 * (products / 6) ** 0.5)
    case['tolerance'] = float('%.3g' % tolerance)
    assert name not in store and torch.isfinite(exact.double()).all(), name
    cases.append(case)
    store[name] = exact.to(dtype).contiguous().clone()


ACTS = {None: lambda x: x, 'silu': F.silu, 'gelu': F.gelu, 'quick_gelu': lambda x: x * torch.sigmoid(1.702 * x), 'relu': F.relu,
        'tanh3': lambda x: torch.tanh(x / 3) * 3}


def prologue(x, x2, norm, groups, eps, act, t):
    """channels last in and out"""
    x = x.value.to(t)
    if x2 is not None: x = torch.cat([x, x2.value.to(t)], -1)
    if norm is not None: x = F.group_norm(x.movedim(-1, 1), groups, norm.w.to(t), norm.b.to(t), eps).movedim(1, -1)
    return ACTS[act](x)


# ---- convolution ---------------------------------------------------------------------------------------------------

def conv(name, x, k, x2=None, norm=None, groups=0, eps=1e-5, pre_act=None, h=0, w=0, stride=1, pad=(0, 0, 0, 0), add=None, residual=None, act=None):
    def compute(t):
        v = prologue(x, x2, norm, groups, eps, pre_act, t).movedim(-1, 1)
        if h or w: v = F.interpolate(v, size=(h or v.shape[2], w or v.shape[3]), mode='nearest')
        v = F.pad(v, (pad[1], pad[3], pad[0], pad[2]))
        y = F.conv2d(v, k.w.to(t).reshape(k.w.shape[0], k.w.shape[1], k.spec['kh'], k.spec['kw']), k.b.to(t), stride=stride).movedim(1, -1)
        if add is not None: y = y + add.value.to(t)[:, None, None, :]
        if residual is not None: y = y + residual.value.to(t)
        return ACTS[act](y)
    add_case('conv-' + name, 'conv2d', compute, {'x': x, 'x2': x2, 'add': add, 'residual': residual}, {'param': k, 'norm': norm},
             groups=groups, eps=eps, pre_act=pre_act, h=h, w=w, stride=stride, pad=pad, act=act, products=k.w[0].numel())


def K(i, o, kh=3, kw=None, **kw_args): return Param('conv', o, i, kh, kw or kh, **kw_args)
def N(c, **kw): return Param('norm', c, scale=kw.pop('scale', 0.5), shift=kw.pop('shift', 1), bias_scale=0.5, **kw)
def X(*dims, fan=1, **kw): return Tensor(*dims, scale=2.0 ** -round(np.log2(fan) / 2 - 1), **kw)  # results of size about 1


ONE, ZERO = (1, 1, 1, 1), (0, 0, 0, 0)
conv('1x1', X(2, 5, 7, 3), K(3, 5, 1))
conv('1x1-stride', X(1, 7, 6, 9), K(9, 4, 1), stride=2)
conv('1x1-no-bias', X(1, 3, 3, 33), K(33, 17, 1, bias=False))
conv('3x3', X(2, 9, 7, 4, fan=36), K(4, 16), pad=ONE)
conv('3x3-20-32', X(1, 6, 9, 20, fan=180), K(20, 32), pad=ONE)
conv('3x3-valid', X(1, 3, 3, 8), K(8, 3))
conv('3x3-one-pixel', X(1, 1, 1, 8), K(8, 6), pad=ONE)
conv('3x3-row', X(1, 1, 29, 5), K(5, 7), pad=ONE)
conv('3x3-column', X(1, 31, 1, 5), K(5, 7), pad=ONE)
conv('stride', X(2, 8, 8, 12, fan=108), K(12, 10), stride=2, pad=ONE)
conv('stride-odd', X(1, 9, 7, 12, fan=108), K(12, 10), stride=2, pad=ONE)
conv('stride-cut', X(1, 8, 6, 16, fan=144), K(16, 16), stride=2, pad=(0, 0, 1, 1))
conv('stride-cut-odd', X(1, 9, 7, 16, fan=144), K(16, 16), stride=2, pad=(0, 0, 1, 1))
conv('stride-3', X(1, 11, 13, 3), K(3, 5, 4), stride=3, pad=(2, 1, 0, 3))
conv('5x5', X(1, 6, 8, 4, fan=100), K(4, 6, 5), pad=(2, 2, 2, 2))
conv('1x3', X(1, 5, 6, 6), K(6, 7, 1, 3), pad=(0, 1, 0, 1))
conv('3x1', X(1, 5, 6, 6), K(6, 7, 3, 1), pad=(1, 0, 1, 0))
conv('7x7-small-input', X(1, 4, 3, 2), K(2, 3, 7), pad=(3, 3, 3, 3))
conv('patches', X(1, 12, 12, 3), K(3, 24, 4, bias=False), stride=4)
conv('4-320', X(1, 5, 4, 4), K(4, 320), pad=ONE)
conv('320-4', X(1, 5, 6, 320, fan=2880), K(320, 4), pad=ONE)
conv('640-640', X(1, 3, 4, 640, fan=5760), K(640, 640), pad=ONE)
conv('960-640-1x1', X(1, 3, 3, 640, fan=960), K(960, 640, 1), x2=X(1, 3, 3, 320, fan=960))
conv('joined', X(2, 5, 6, 20, fan=288), K(32, 24), x2=X(2, 5, 6, 12, fan=288), pad=ONE)
conv('joined-groups', X(2, 5, 6, 20, fan=2), K(32, 24), x2=X(2, 5, 6, 12, shift=0.5), norm=N(32), groups=4, pre_act='silu', pad=ONE)
conv('joined-groups-960', X(1, 4, 5, 640), K(960, 32), x2=X(1, 4, 5, 320, shift=0.25), norm=N(960), groups=32, pre_act='silu', pad=ONE)
conv('groups', X(2, 7, 5, 16, shift=1), K(16, 8), norm=N(16), groups=8, eps=1e-6, pad=ONE)
conv('groups-1x1', X(2, 7, 5, 16, shift=1), K(16, 8, 1), norm=N(16), groups=2, pre_act='silu')
conv('groups-stride', X(1, 7, 5, 16), K(16, 8), norm=N(16), groups=4, pre_act='gelu', stride=2, pad=ONE)
conv('pre-act', X(1, 4, 5, 10), K(10, 8), pre_act='relu', pad=ONE)
conv('up', X(1, 5, 4, 8), K(8, 6), h=10, w=8, pad=ONE)
conv('up-odd', X(2, 5, 4, 8), K(8, 6), h=9, w=7, pad=ONE)
conv('up-3', X(1, 3, 4, 8), K(8, 6), h=9, w=12, pad=ONE)
conv('up-wide-only', X(1, 4, 5, 8), K(8, 6), w=9, pad=ONE)
conv('up-high-only', X(1, 4, 5, 8), K(8, 6), h=7, pad=ONE)
conv('up-1x1', X(1, 5, 4, 8), K(8, 6, 1), h=9, w=7)
conv('up-to-down', X(1, 9, 7, 8), K(8, 6), h=5, w=4, pad=ONE)
conv('up-stride', X(1, 5, 4, 8), K(8, 6), h=9, w=7, stride=2, pad=ONE)
conv('up-groups', X(1, 5, 4, 16, shift=1), K(16, 6), norm=N(16), groups=4, pre_act='silu', h=9, w=7, pad=ONE)
conv('up-joined-groups', X(2, 5, 4, 10), K(16, 6), x2=X(2, 5, 4, 6), norm=N(16), groups=4, pre_act='silu', h=9, w=7, pad=ONE)
conv('add', X(3, 4, 4, 8), K(8, 9), pad=ONE, add=X(3, 9))
conv('add-one', X(2, 4, 4, 8), K(8, 9), pad=ONE, add=X(1, 9))
conv('add-slice', X(2, 4, 4, 8), K(8, 9), pad=ONE, add=X(2, 9, wide=(4, 40)))
conv('add-1x1', X(2, 4, 4, 8), K(8, 9, 1), add=X(2, 9))
conv('residual', X(2, 4, 5, 8), K(8, 9), pad=ONE, residual=X(2, 4, 5, 9))
conv('residual-slice', X(2, 4, 5, 8), K(8, 9), pad=ONE, residual=X(2, 4, 5, 9, wide=(3, 17)))
conv('input-slice', X(2, 4, 5, 8, wide=(5, 16)), K(8, 9), pad=ONE)
conv('inputs-slices', X(2, 4, 5, 8, wide=(0, 11)), K(14, 9), x2=X(2, 4, 5, 6, wide=(7, 13)), norm=N(14), groups=7, pre_act='silu', pad=ONE)
for a in ACTS:
    if a: conv('act-' + a, X(1, 4, 5, 8), K(8, 9), pad=ONE, act=a)
    if a: conv('pre-act-' + a, X(1, 4, 5, 8), K(8, 9, 1), pre_act=a)
conv('everything', X(2, 5, 4, 20), K(32, 24), x2=X(2, 5, 4, 12), norm=N(32), groups=4, eps=1e-6, pre_act='silu', h=9, w=7, stride=1, pad=ONE,
     add=X(2, 24), residual=X(2, 9, 7, 24), act='silu')
conv('everything-1x1', X(2, 5, 4, 20), K(32, 24, 1), x2=X(2, 5, 4, 12), norm=N(32), groups=4, pre_act='silu', add=X(2, 24), residual=X(2, 5, 4, 24), act='gelu')
conv('linear-parameter', X(1, 5, 4, 20), Param('linear', 24, 20))
for t in ('F16', 'BF16', 'F64', 'F8_E4M3', 'F8_E5M2'):
    conv('3x3-' + t, X(1, 6, 5, 20, fan=180), K(20, 40, parts=t, bias=t), pad=ONE)
    conv('groups-' + t, X(1, 6, 5, 20), K(20, 37, parts=t, bias=t), norm=Param('norm', 20, parts=t, bias=t), groups=5, pre_act='silu', pad=ONE)

# ---- linear ------------------------------------------------------------------------------------------------------------

def linear(name, x, k, x2=None, norm=None, groups=0, eps=1e-5, pre_act=None, residual=None, act=None):
    def compute(t):
        y = F.linear(prologue(x, x2, norm, groups, eps, pre_act, t), k.w.to(t).flatten(1), k.b.to(t))
        if k.geglu:
            value, gate = y.chunk(2, -1)
            y = value * F.gelu(gate)
        if residual is not None: y = y + residual.value.to(t)
        return ACTS[act](y)
    add_case('linear-' + name, 'linear', compute, {'x': x, 'x2': x2, 'residual': residual}, {'param': k, 'norm': norm},
             groups=groups, eps=eps, pre_act=pre_act, act=act, products=k.w[0].numel())


def L(i, o, **kw): return Param('linear', o, i, **kw)


linear('plain', X(2, 7, 20, fan=20), L(20, 12))
linear('one', X(1, 1), L(1, 1))
linear('rank-2', X(3, 33, fan=33), L(33, 5))
linear('rank-4', X(2, 3, 4, 10, fan=10), L(10, 70))
linear('one-row', X(1, 320, fan=320), L(320, 1280))
linear('one-output', X(1, 50, 64, fan=64), L(64, 1))
linear('320-960', X(1, 77, 320, fan=320), L(320, 77))
linear('1280-10240-in', X(1, 2, 1280, fan=1280), L(1280, 515))
linear('no-bias', X(1, 9, 17), L(17, 9, bias=False))
linear('residual', X(2, 5, 16), L(16, 20), residual=X(2, 5, 20))
linear('residual-slice', X(2, 5, 16), L(16, 20), residual=X(2, 5, 20, wide=(2, 24)))
linear('input-slice', X(2, 5, 16, wide=(32, 48)), L(16, 20))
linear('pre-act', X(2, 16), L(16, 20), pre_act='silu')
linear('joined', X(2, 5, 10), L(16, 20), x2=X(2, 5, 6))
linear('groups', X(2, 30, 16, shift=1), L(16, 20), norm=N(16), groups=4, eps=1e-6)
linear('groups-image', X(2, 5, 6, 16, shift=1), L(16, 20), norm=N(16), groups=4, eps=1e-6, pre_act='silu')
linear('joined-groups', X(2, 7, 10), L(16, 20), x2=X(2, 7, 6, wide=(1, 8)), norm=N(16), groups=4, pre_act='silu', residual=X(2, 7, 20), act='relu')
linear('geglu', X(2, 6, 32, fan=32), L(32, 80, geglu=True))
linear('geglu-residual', X(2, 6, 32, fan=32), L(32, 64, geglu=True), residual=X(2, 6, 32))
linear('geglu-odd', X(1, 5, 9), L(9, 2 * 23, geglu=True, bias=False))
linear('geglu-320', X(1, 26, 320, fan=320), L(320, 2 * 330, geglu=True))
linear('geglu-parts', X(1, 5, 9), L(9, 2 * 23, geglu=True, parts=[(23, 'F32'), (23, 'F16')], bias=[(23, 'F32'), (23, 'BF16')]))
linear('stacked', X(1, 7, 24), L(24, 60, parts=[(24, 'F32'), (12, 'F32'), (24, 'F32')], bias=[(20, 'F32'), (40, 'F32')]))
linear('stacked-F16', X(1, 7, 24), L(24, 72, parts=[(24, 'F16')] * 3, bias=False))
linear('stacked-mixed', X(1, 7, 24), L(24, 72, parts=[(24, 'F16'), (23, 'BF16'), (12, 'F32'), (13, 'F8_E4M3')], bias=False))
linear('stacked-halves', X(1, 7, 24), L(24, 48, parts=[(24, 'F16'), (24, 'BF16')]))
linear('stacked-f8', X(1, 7, 24), L(24, 48, parts=[(24, 'F8_E5M2'), (24, 'F8_E4M3')]))
linear('transposed', X(1, 7, 24), L(24, 37, transposed=True, bias=False))
linear('transposed-F16', X(1, 7, 33), L(33, 20, transposed=True, parts='F16'))
linear('conv-parameter', X(1, 7, 24), K(24, 31, 1))
for a in ACTS:
    if a: linear('act-' + a, X(1, 6, 8), L(8, 9), act=a)
for t in ('F16', 'BF16', 'F64', 'F8_E4M3', 'F8_E5M2'):
    linear(t, X(1, 9, 48, fan=48), L(48, 100, parts=t, bias=t))
    linear('geglu-' + t, X(1, 9, 48, fan=48), L(48, 100, parts=t, bias=t, geglu=True))

# ---- norms ---------------------------------------------------------------------------------------------------------------

def group_norm(name, x, groups, eps=1e-5, act=None, norm=None):
    norm = norm or N(x.spec['dims'][-1])
    def compute(t): return prologue(x, None, norm, groups, eps, act, t)
    add_case('group-norm-' + name, 'group_norm', compute, {'x': x}, {'norm': norm}, groups=groups, eps=eps, act=act)


group_norm('image', X(2, 6, 7, 32), 8)
group_norm('tokens', X(2, 30, 32), 4, eps=1e-6)
group_norm('each-channel', X(1, 5, 5, 9), 9)
group_norm('all-channels', X(2, 5, 5, 9), 1)
group_norm('one-pixel', X(2, 1, 1, 40), 8)
group_norm('320', X(1, 5, 9, 320), 32, act='silu')
group_norm('shifted', X(1, 5, 9, 24, shift=6), 4)
group_norm('slice', X(2, 5, 9, 24, wide=(7, 33)), 4, act='silu')
group_norm('F16', X(1, 5, 9, 24), 4, norm=Param('norm', 24, parts='F16', bias='F16'))
for a in ACTS:
    if a: group_norm('act-' + a, X(1, 4, 4, 12), 3, act=a)


def layer_norm(name, x, eps=1e-5, norm=None):
    c = x.spec['dims'][-1]
    norm = norm or N(c)
    def compute(t): return F.layer_norm(x.value.to(t), (c,), norm.w.to(t), norm.b.to(t), eps)
    add_case('layer-norm-' + name, 'layer_norm', compute, {'x': x}, {'norm': norm}, eps=eps)


layer_norm('tokens', X(2, 9, 40))
layer_norm('320', X(1, 7, 320))
layer_norm('1280', X(1, 3, 1280, shift=3), eps=1e-6)
layer_norm('odd', X(2, 13, 7))
layer_norm('two', X(1, 13, 2))
layer_norm('rank-2', X(4, 24))
layer_norm('slice', X(2, 9, 40, wide=(3, 48)))
layer_norm('no-bias', X(2, 9, 40), norm=Param('norm', 40, bias=False))

# ---- attention --------------------------------------------------------------------------------------------------------------

def attention(name, heads, head, n, tq, tk, kv_batch=None, scale=0, causal=False, keys=0, size=2, wide=False):
    c = heads * head
    if wide == 'qkv':  # thirds of one projection, each in rows of its own
        q, k, v = (Tensor(n, tq, c, scale=size, wide=(i * c, 3 * c)) for i in range(3))
    else:
        q = Tensor(n, tq, c, scale=size)
        k, v = (Tensor(kv_batch or n, tk, c, scale=s, rows=keys or None, wide=wide and (i * c, 2 * c)) for i, s in ((0, size), (1, 1)))
    def compute(t):
        a, b, d = (x.value.to(t).reshape(x.value.shape[0], x.value.shape[1], heads, head).transpose(1, 2) for x in (q, k, v))
        b, d = (x[:, :, :keys or None].expand(n, -1, -1, -1) for x in (b, d))
        s = (a @ b.transpose(2, 3)) * (scale or head ** -0.5)
        if causal: s = s.masked_fill(torch.ones(s.shape[-2:], dtype=torch.bool).triu(1), -float('inf'))
        return (s.softmax(-1) @ d).transpose(1, 2).reshape(n, tq, c)
    add_case('attention-' + name, 'attention', compute, {'q': q, 'k': k, 'v': v}, heads=heads, scale=scale, causal=causal, keys=keys)


for d in (8, 40, 64, 80, 160):
    attention(f'{d}', 2, d, 1, 13, 11)
attention('512', 1, 512, 1, 10, 10)
attention('one-key', 2, 8, 2, 5, 1)
attention('one-query', 2, 8, 2, 1, 9)
attention('odd-head', 3, 7, 1, 9, 14)
attention('head-1', 4, 1, 1, 5, 6)
attention('cross', 8, 8, 2, 30, 77)
attention('self', 4, 16, 1, 150, 150)
attention('many-keys', 1, 8, 1, 7, 1100)
attention('causal', 3, 16, 2, 77, 77, causal=True, wide='qkv')
attention('causal-64', 2, 64, 1, 20, 20, causal=True)
attention('keys', 2, 16, 2, 6, 40, keys=23)
attention('keys-causal', 2, 16, 1, 40, 40, keys=23, causal=True)
attention('shared', 2, 16, 3, 6, 10, kv_batch=1)
attention('shared-keys-slice', 2, 40, 2, 6, 10, kv_batch=1, keys=7, wide=True)
attention('slices', 2, 40, 2, 9, 9, wide='qkv')
attention('scale', 2, 16, 1, 9, 12, scale=0.75)
attention('peaked', 2, 16, 1, 9, 12, size=16)

# ---- the rest --------------------------------------------------------------------------------------------------------------------

def embed(name, ids, table, positions=None):
    def compute(t):
        y = table.w.to(t)[torch.tensor(ids)]
        return y if positions is None else y + positions.w.to(t)[:y.shape[1]]
    add_case('embed-' + name, 'embed', compute, {}, {'table': table, 'positions': positions}, ids=ids, tolerance=1.2e-7)


def T(rows, c, **kw): return Param('table', rows, c, bias=False, **kw)


embed('plain', [[3, 0, 48], [7, 7, 1]], T(49, 20))
embed('positions', [[3, 0, 48, 5], [7, 7, 1, 2]], T(49, 20), T(6, 20))
embed('768', [[3, 0, 9]], T(10, 768, parts='F16'), T(3, 768, parts='BF16'))
embed('stacked', [[3, 0, 9, 10, 12]], T(13, 5, parts=[(10, 'F32'), (3, 'F16')]))
embed('F8_E4M3', [[3, 0, 9]], T(10, 9, parts='F8_E4M3'))


def gather(name, x, index):
    add_case('gather-' + name, 'gather_rows', lambda t: x.value.to(t)[torch.arange(len(index)), torch.tensor(index)], {'x': x}, index=index, tolerance=0)


gather('pool', X(3, 5, 20), [4, 0, 2])
gather('slice', X(2, 5, 20, wide=(3, 30)), [1, 3])


def timestep(name, times, dim, flip, shift):
    """Reference: diffusers' own float32 result; tolerance: 2 times its distance from float64 (frequencies are rounded to float, and
    phases are large)."""
    t = torch.tensor(times, dtype=torch.float32)
    y = get_timestep_embedding(t, dim, flip_sin_to_cos=flip, downscale_freq_shift=shift)
    half = dim // 2
    phase = t.double()[:, None] * torch.exp(-np.log(10000) * torch.arange(half, dtype=torch.float64) / (half - shift))[None]
    exact = torch.cat([phase.cos(), phase.sin()] if flip else [phase.sin(), phase.cos()], -1)
    error = (y[:, :2 * half].double() - exact).abs().max() / y.double().pow(2).mean().sqrt()
    add_case('timestep-' + name, 'timestep_embedding', lambda _: y, {}, times=times, dim=dim, flip=flip, shift=shift,
             tolerance=max(2.5e-7, 2 * error.item()))


timestep('flip', [0, 1, 500, 981.5], 320, True, 0)
timestep('plain', [999, 3], 64, False, 0)
timestep('shift', [999, 3], 64, False, 1)
timestep('flip-shift', [0.25, 999], 32, True, 1)
timestep('odd', [7, 999], 33, True, 0)


def lincomb(name, terms, into=False):
    """terms: [(k, tensor), ...]; `into`: y is the first term's memory. Coefficient 0: the tensor holds NaN."""
    def compute(t): return sum(float(np.float32(k)) * x.value.to(t) for k, x in terms if k) if any(k for k, _ in terms) else torch.zeros(terms[0][1].value.shape, dtype=t)
    add_case('lincomb-' + name, 'lincomb', compute, {}, terms=[{'k': k, 'nan': k == 0, **x.spec} for k, x in terms], into=into,
             tolerance=2.5e-7 if any(k for k, _ in terms) else 0)


lincomb('one', [(-1.5, X(2, 3, 4, 5))])
lincomb('two', [(0.3, X(2, 3, 4, 5)), (0.7, X(2, 3, 4, 5))])
lincomb('skipped', [(0, X(2, 3, 4, 5)), (0.7, X(2, 3, 4, 5)), (0, X(2, 3, 4, 5))])
lincomb('none', [(0, X(2, 3, 5))])
lincomb('repeated', [(0.5, X(1, 3, 4, 5)), (2, X(3, 3, 4, 5))])
lincomb('repeated-last', [(2, X(3, 7)), (0.5, X(1, 7))])
lincomb('eight', [(0.1 * (i + 1), X(2, 40)) for i in range(8)])
lincomb('vector', [(2, X(11)), (-3, X(11))])
lincomb('slices', [(2, X(2, 9, 5, wide=(3, 11))), (-1, X(2, 9, 5, wide=(0, 7)))])
lincomb('into', [(0.25, X(2, 3, 4, 5)), (2, X(2, 3, 4, 5))], into=True)
lincomb('into-slice', [(0.25, X(2, 9, 5, wide=(3, 11))), (2, X(1, 9, 5))], into=True)
lincomb('into-skipped', [(0, X(2, 9, 5)), (2, X(2, 9, 5))], into=True)

for a in ACTS:
    x = Tensor(2, 9, 37, scale=8)
    add_case(f'act-{a}', 'activate', lambda t: ACTS[a](x.value.to(t)), {'x': x}, act=a)
x = Tensor(2, 9, 37, scale=8, wide=(5, 48))
add_case('act-slice', 'activate', lambda t: F.silu(x.value.to(t)), {'x': x}, act='silu')


def rescale(name, guided, cond, phi):
    """Lin et al. 2023, as diffusers' rescale_noise_cfg"""
    def compute(t):
        g, c = guided.value.to(t), cond.value.to(t)
        dims = list(range(1, g.ndim))
        return phi * (g * (c.std(dim=dims, keepdim=True) / g.std(dim=dims, keepdim=True))) + (1 - phi) * g
    add_case('rescale-' + name, 'rescale_std', compute, {'guided': guided, 'cond': cond}, phi=phi)


rescale('part', X(2, 5, 6, 4), X(2, 5, 6, 4, shift=2), 0.75)
rescale('whole', X(3, 5, 6, 4, shift=1), X(3, 5, 6, 4), 1.0)
rescale('none', X(1, 5, 6, 4), X(1, 5, 6, 4), 0.0)

for name, x in (('image', X(2, 7, 5, 4, shift=0.5)), ('large', Tensor(1, 50, 41, scale=1024, shift=-4096)), ('two', X(2, 1))):
    v = x.value.double()
    # mean, deviation, absmax, non-finite: float64 sums of the same floats; stored as float32
    add_case('stats-' + name, 'stats', lambda t: torch.stack([v.mean(), v.std(), v.abs().max(), torch.zeros(())]), {'x': x}, tolerance=1.2e-7)

x = Tensor(2, 13, 9, 3, scale=1.5)
add_case('rgb8', 'to_rgb8', lambda t: torch.from_numpy(np.round(255 * np.clip(x.value.numpy() / 2 + 0.5, 0, 1))), {'x': x}, dtype=torch.uint8, tolerance=0)

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
with open(os.path.join(folder, 'ops.json'), 'w') as f:
    f.write('[\n' + ',\n'.join(json.dumps({k: v for k, v in c.items() if v is not None}) for c in cases) + '\n]\n')
save_file(store, os.path.join(folder, 'ops.safetensors'))
print(len(cases), 'cases,', os.path.getsize(os.path.join(folder, 'ops.safetensors')), 'bytes; tolerances up to', max(c['tolerance'] for c in cases))
