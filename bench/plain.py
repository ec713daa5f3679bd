"""Stable Diffusion's parts in plain PyTorch, and files of random weights of the real sizes: for machines that have torch and nothing else.

Modules are named as single files name them (CompVis), so that a file's tensors are their state. The names and shapes of the files come from
tests/golden/weights. Neither numpy nor safetensors is needed.
"""
import gzip
import json
import math
import os
import struct

import torch
import torch.nn as nn
import torch.nn.functional as F

LISTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "weights", "file-%s.json.gz")
PREFIXES = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.")


# ---- the UNet ------------------------------------------------------------------------------------------------------------

class Res(nn.Module):
    def __init__(self, i, o, time=1280):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, i), nn.SiLU(), nn.Conv2d(i, o, 3, 1, 1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, o))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, o), nn.SiLU(), nn.Identity(), nn.Conv2d(o, o, 3, 1, 1))
        if i != o:
            self.skip_connection = nn.Conv2d(i, o, 1)

    def forward(self, x, t, c):
        y = self.out_layers(self.in_layers(x) + self.emb_layers(t)[:, :, None, None])
        return y + (self.skip_connection(x) if hasattr(self, "skip_connection") else x)


class Attention(nn.Module):
    def __init__(self, n, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = nn.Linear(n, n, False), nn.Linear(context, n, False), nn.Linear(context, n, False)
        self.to_out = nn.Sequential(nn.Linear(n, n))

    def forward(self, x, c):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.to_q(x), self.to_k(c), self.to_v(c)))
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Gated(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.proj = nn.Linear(i, 2 * o)

    def forward(self, x):
        x, gate = self.proj(x).chunk(2, -1)
        return x * F.gelu(gate)


class Block(nn.Module):
    def __init__(self, n, context, heads):
        super().__init__()
        self.attn1, self.attn2 = Attention(n, n, heads), Attention(n, context, heads)
        self.ff = nn.Module()
        self.ff.net = nn.Sequential(Gated(n, 4 * n), nn.Identity(), nn.Linear(4 * n, n))
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(n), nn.LayerNorm(n), nn.LayerNorm(n)

    def forward(self, x, c):
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), c)
        return x + self.ff.net(self.norm3(x))


class Transformer(nn.Module):
    def __init__(self, n, context, heads, depth, linear):
        super().__init__()
        self.norm, self.linear = nn.GroupNorm(32, n, 1e-6), linear
        self.proj_in, self.proj_out = (nn.Linear(n, n) if linear else nn.Conv2d(n, n, 1) for _ in range(2))
        self.transformer_blocks = nn.ModuleList(Block(n, context, heads) for _ in range(depth))

    def forward(self, x, t, c):
        n, _, h, w = x.shape
        y = self.norm(x)
        y = self.proj_in(y.flatten(2).transpose(1, 2)) if self.linear else self.proj_in(y).flatten(2).transpose(1, 2)
        for b in self.transformer_blocks:
            y = b(y, c)
        y = self.proj_out(y).transpose(1, 2).unflatten(2, (h, w)) if self.linear else self.proj_out(y.transpose(1, 2).unflatten(2, (h, w)))
        return x + y


class Down(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.op = nn.Conv2d(n, n, 3, 2, 1)

    def forward(self, x, t, c):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(n, n, 3, 1, 1)

    def forward(self, x, t, c):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class First(nn.Conv2d):
    def forward(self, x, t, c):
        return super().forward(x)


# widths, layers of transformers by level (0: none), of the middle; text width, channels of a head or number of heads, numbers of label_emb
KINDS = {"sd15": ((320, 640, 1280, 1280), (1, 1, 1, 0), 1, 768, (0, 8), False, 0),
         "sd21": ((320, 640, 1280, 1280), (1, 1, 1, 0), 1, 1024, (64, 0), True, 0),
         "sdxl": ((320, 640, 1280), (0, 2, 10), 10, 2048, (64, 0), True, 2816)}


class UNet(nn.Module):
    def __init__(self, kind):
        super().__init__()
        widths, depths, middle, context, (head, heads), linear, label = KINDS[kind]

        def transformer(n, depth):
            return [Transformer(n, context, heads or n // head, depth, linear)] if depth else []

        self.time_embed = nn.Sequential(nn.Linear(320, 1280), nn.SiLU(), nn.Linear(1280, 1280))
        if label:
            self.label_emb = nn.Sequential(nn.Sequential(nn.Linear(label, 1280), nn.SiLU(), nn.Linear(1280, 1280)))
        blocks, skips, n = [[First(4, 320, 3, 1, 1)]], [320], 320
        for i, w in enumerate(widths):
            for _ in range(2):
                blocks.append([Res(n, w)] + transformer(w, depths[i]))
                n = w
                skips.append(n)
            if i + 1 < len(widths):
                blocks.append([Down(n)])
                skips.append(n)
        self.input_blocks = nn.ModuleList(map(nn.ModuleList, blocks))
        self.middle_block = nn.ModuleList([Res(n, n)] + transformer(n, middle) + [Res(n, n)])
        blocks = []
        for i in reversed(range(len(widths))):
            for j in range(3):
                blocks.append([Res(n + skips.pop(), widths[i])] + transformer(widths[i], depths[i]))
                n = widths[i]
                if j == 2 and i:
                    blocks[-1].append(Up(n))
        self.output_blocks = nn.ModuleList(map(nn.ModuleList, blocks))
        self.out = nn.Sequential(nn.GroupNorm(32, n), nn.SiLU(), nn.Conv2d(n, 4, 3, 1, 1))

    def forward(self, x, t, c, y=None):
        """x [N,4,h,w], t [N], c [N,T,context], y [N,2816]: pooled text and six sinusoids of 256."""
        t = self.time_embed(sinusoids(t, 320).to(x.dtype))
        if y is not None:
            t = t + self.label_emb(y)
        kept = []
        for block in self.input_blocks:
            for m in block:
                x = m(x, t, c)
            kept.append(x)
        for m in self.middle_block:
            x = m(x, t, c)
        for block in self.output_blocks:
            x = torch.cat([x, kept.pop()], 1)
            for m in block:
                x = m(x, t, c)
        return self.out(x)


def sinusoids(t, n):
    """Cosines first, of angles in float32."""
    angle = t.float()[..., None] * torch.exp(-math.log(10000) * torch.arange(n // 2, dtype=torch.float32, device=t.device) / (n // 2))
    return torch.cat([angle.cos(), angle.sin()], -1)


# ---- decoders ------------------------------------------------------------------------------------------------------------

class VaeRes(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, i, 1e-6), nn.Conv2d(i, o, 3, 1, 1)
        self.norm2, self.conv2 = nn.GroupNorm(32, o, 1e-6), nn.Conv2d(o, o, 3, 1, 1)
        if i != o:
            self.nin_shortcut = nn.Conv2d(i, o, 1)

    def forward(self, x):
        y = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return y + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class VaeAttention(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.norm = nn.GroupNorm(32, n, 1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(n, n, 1) for _ in range(4))

    def forward(self, x):
        y = self.norm(x)
        q, k, v = (m(y).flatten(2).transpose(1, 2)[:, None] for m in (self.q, self.k, self.v))
        return x + self.proj_out(F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).unflatten(2, x.shape[2:]))


class Decoder(nn.Module):
    """Of the VAE, with post_quant_conv; latents as the VAE has them."""

    def __init__(self):
        super().__init__()
        self.post_quant_conv = nn.Conv2d(4, 4, 1)
        d = self.decoder = nn.Module()
        d.conv_in, d.mid, d.up = nn.Conv2d(4, 512, 3, 1, 1), nn.Module(), nn.ModuleList()
        d.mid.block_1, d.mid.attn_1, d.mid.block_2 = VaeRes(512, 512), VaeAttention(512), VaeRes(512, 512)
        for i, (n, w) in enumerate(((256, 128), (512, 256), (512, 512), (512, 512))):
            up = nn.Module()
            up.block = nn.Sequential(VaeRes(n, w), VaeRes(w, w), VaeRes(w, w))
            if i:
                up.upsample = nn.Module()
                up.upsample.conv = nn.Conv2d(w, w, 3, 1, 1)
            d.up.append(up)
        d.norm_out, d.conv_out = nn.GroupNorm(32, 128, 1e-6), nn.Conv2d(128, 3, 3, 1, 1)

    def forward(self, z):
        d = self.decoder
        x = d.mid.block_2(d.mid.attn_1(d.mid.block_1(d.conv_in(self.post_quant_conv(z)))))
        for up in reversed(d.up):
            x = up.block(x)
            if hasattr(up, "upsample"):
                x = up.upsample.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return d.conv_out(F.silu(d.norm_out(x)))


class TinyBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(*[m for _ in range(2) for m in (nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU())], nn.Conv2d(64, 64, 3, 1, 1))

    def forward(self, x):
        return F.relu(self.conv(x) + x)


class Soft(nn.Module):
    def forward(self, x):
        return torch.tanh(x / 3) * 3


def tiny_decoder():
    """TAESD's, 0 to 1."""
    level = [TinyBlock(), TinyBlock(), TinyBlock(), nn.Upsample(scale_factor=2), nn.Conv2d(64, 64, 3, 1, 1, bias=False)]
    more = [[TinyBlock(), TinyBlock(), TinyBlock(), nn.Upsample(scale_factor=2), nn.Conv2d(64, 64, 3, 1, 1, bias=False)] for _ in range(2)]
    return nn.Sequential(Soft(), nn.Conv2d(4, 64, 3, 1, 1), nn.ReLU(), *level, *more[0], *more[1], TinyBlock(), nn.Conv2d(64, 3, 3, 1, 1))


# ---- files ---------------------------------------------------------------------------------------------------------------

def shapes_of(kind):
    if kind == "taesd":
        return {k: list(v.shape) for k, v in tiny_decoder().state_dict().items()}
    with gzip.open(LISTS % kind) as f:
        return {k: v for k, v in json.load(f)["file"].items() if k.startswith(PREFIXES) and not k.endswith("position_ids")}


def draw(name, shape, to):
    """About what an untrained layer has, so that numbers stay of ordinary size; nothing is zero."""
    g = torch.Generator(device=to.device).manual_seed(sum(map(ord, name)))
    x = torch.rand(to.shape, generator=g, device=to.device, dtype=torch.float32) * 2 - 1
    if len(shape) > 1 and "embedding" not in name:
        to.copy_(x / math.sqrt(math.prod(shape[1:])))
    else:
        to.copy_(x * 0.03 + (1.0 if name.endswith("weight") and len(shape) == 1 else 0.0))


def write(path, kind, device):
    """A safetensors file in float16 of random numbers."""
    header, at = {}, 0
    for name, shape in shapes_of(kind).items():
        n = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + at)
    data = torch.from_file(path, shared=True, size=8 + len(text) + at, dtype=torch.uint8)[8 + len(text):].view(torch.float16)
    for name, t in header.items():
        a, b = (v // 2 for v in t["data_offsets"])
        x = torch.empty(b - a, dtype=torch.float16, device=device)
        draw(name, t["shape"], x)
        data[a:b].copy_(x)


def state(path, prefix):
    """Tensors of a file whose names begin with the prefix, without it."""
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(n))
    data = torch.from_file(path, shared=False, size=os.path.getsize(path), dtype=torch.uint8)[8 + n:]
    return {k[len(prefix):]: data[slice(*t["data_offsets"])].view(torch.float16).view(t["shape"])
            for k, t in header.items() if k.startswith(prefix)}


def load(kind, part, path):
    """part: unet, vae or taesd; on the meta device first, so that nothing is initialised in vain."""
    with torch.device("meta"):
        m = {"unet": lambda: UNet(kind), "vae": Decoder, "taesd": tiny_decoder}[part]()
    found = state(path, {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "taesd": ""}[part])
    m.load_state_dict({k: found[k] for k in m.state_dict()}, assign=True)
    return m.requires_grad_(False).eval()
