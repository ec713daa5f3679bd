#!/usr/bin/env python3
"""How exact diffc's arithmetic is, beside PyTorch's in float32 and bfloat16; see README.md here.

    python accuracy.py forward  --diffc DIFFC -m MODEL [--size 256] [--seeds 1]     # one pass of each part, against float64
    python accuracy.py sampling --diffc DIFFC -m MODEL [--steps 20] [--seeds 2]     # whole runs, against float32 of the same program
    python accuracy.py layers   --diffc DIFFC -m MODEL [--size 256] [--seeds 1]     # which layers int8 costs most in, simulated in float64

MODEL is a diffusers folder of Stable Diffusion 1.x shape (no SDXL). Error: root mean square of the difference over that of the reference.
"""
import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel

WAYS = {"diffc f32": ["--precision", "f32"], "diffc f32 --exact": ["--precision", "f32", "--exact"], "diffc bf16": ["--precision", "bf16"],
        "diffc int8": ["--precision", "int8"]}
TORCH = {"torch float32": torch.float32, "torch bfloat16": torch.bfloat16}
PARTS = {"text": (CLIPTextModel, "text_encoder"), "unet": (UNet2DConditionModel, "unet"), "vae": (AutoencoderKL, "vae")}
PROMPTS = ["red heart, noto style", "sun, noto style", "green apple, noto style", "cat face, noto style"]


# ---- diffc ------------------------------------------------------------------------------------------------------------------------------


def diffc(a, *args):
    p = subprocess.run([a.diffc, *args], capture_output=True, text=True)
    if p.returncode:
        sys.exit(f"diffc {' '.join(args)}\n{p.stderr}")
    return p.stdout


def picture(a, folder, way, prompt, seed, *args):
    """Final latent and pixels of a run."""
    latent, png = os.path.join(folder, "latent.npy"), os.path.join(folder, "picture.png")
    diffc(a, "txt2img", prompt, "-m", a.model, "-s", str(seed), "-W", str(a.size), "-H", str(a.size), "-t", str(a.threads), "-q", "--save-latent",
          latent, "-o", png, *WAYS[way], *args)
    return np.load(latent), np.array(Image.open(png))


def noise(a, seed, shape):
    """What a run with this seed starts from: torch's own numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def padded_ids(a, prompt):
    """The prompt's token ids, filled up as diffc fills them. A folder without a tokenizer has CLIP's own."""
    config = json.load(open(os.path.join(a.model, "text_encoder", "config.json")))
    own = os.path.isdir(os.path.join(a.model, "tokenizer"))
    ids = json.loads(diffc(a, "tokenize", *(["-m", a.model] if own else []), prompt))
    pad = config["pad_token_id"] if own else ids[-1]
    return torch.tensor([ids + [pad] * (config["max_position_embeddings"] - len(ids))])


def traced(a, way, prompt, seed):
    """{part: (inputs, output)} of the first passes of a run, as --trace wrote them. DDIM's first input is the noise as it is."""
    with tempfile.TemporaryDirectory() as folder:
        latent, _ = picture(a, folder, way, prompt, seed, "--sampler", "ddim", "--steps", "2", "--cfg-scale", "1", "--trace", folder)

        def tap(name):
            return torch.from_numpy(np.load(os.path.join(folder, name + ".npy")))

        text, step = tap("text_encoder/last_hidden_state"), "unet/step-000/"
        return {"text": ((padded_ids(a, prompt),), text),
                "unet": ((noise(a, seed, latent.shape), tap(step + "time_proj"), text), tap(step + "conv_out")),
                "vae": ((torch.from_numpy(latent),), tap("vae/decoder.conv_out"))}


# ---- PyTorch ----------------------------------------------------------------------------------------------------------------------------


class Torch:
    """A part in one type. The sinusoids of the timestep are an input: a formula of float32 by definition, in float64 as well."""

    def __init__(self, a, part, dtype):
        kind, folder = PARTS[part]
        self.part, self.dtype = part, dtype
        self.m = kind.from_pretrained(os.path.join(a.model, folder), torch_dtype=dtype).eval()

    def __call__(self, inputs):
        x, rest = inputs[0], [t.to(self.dtype) for t in inputs[1:]]
        with torch.no_grad():
            if self.part == "text":
                return self.m(x).last_hidden_state.double()
            if self.part == "vae":
                return self.m.decode((x.double() / self.m.config.scaling_factor).to(self.dtype)).sample.double()
            sines, context = rest
            self.m.time_proj.forward = lambda timestep: sines
            return self.m(x.to(self.dtype), 0, context).sample.double()


def power(x):
    return float(np.sum(np.square(np.asarray(x, np.float64))))


class Error:
    """Of several differences from a reference: both powers summed up."""

    def __init__(self):
        self.error = self.signal = 0.0

    def add(self, got, want):
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        self.error += power(got - want)
        self.signal += power(want)

    def relative(self):
        return math.sqrt(self.error / self.signal)

    def db(self):
        return -20 * math.log10(self.relative()) if self.error else math.inf


# ---- the tables --------------------------------------------------------------------------------------------------------------------------


def forward(a):
    """One pass of each part. Runs of other ways make other texts and latents: each is compared with float64 on its own input."""
    runs = [{w: traced(a, w, a.prompts[s % len(a.prompts)], s) for w in WAYS} for s in range(a.seeds)]
    table = {}
    for part in a.parts:
        exact, known = Torch(a, part, torch.float64), {}

        def reference(inputs):
            key = tuple(t.numpy().tobytes() for t in inputs)
            if key not in known:
                known[key] = exact(inputs)
            return known[key]

        for w in WAYS:
            if part == "unet" or w != "diffc int8":  # int8 is the UNet's
                e = table[part, w] = Error()
                for r in runs:
                    e.add(r[w][part][1].double(), reference(r[w][part][0]))
        for inputs in [r["diffc f32"][part][0] for r in runs]:
            reference(inputs)
        del exact
        for name, dtype in TORCH.items():
            model, e = Torch(a, part, dtype), Error()
            for r in runs:
                inputs = r["diffc f32"][part][0]
                e.add(model(inputs), reference(inputs))
            table[part, name] = e
    print(f"{a.model}, {a.size}x{a.size}, {a.seeds} input(s): error of one pass against float64")
    print("| part | arithmetic | error | dB | of torch bfloat16's |\n|---|---|---|---|---|")
    for (part, name), e in table.items():
        print(f"| {part} | {name} | {e.relative():.3g} | {e.db():.1f} | {e.relative() / table[part, 'torch bfloat16'].relative():.3g} |")
    return {f"{part} {name}": e.relative() for (part, name), e in table.items()}


def torch_latents(a, dtype):
    """{(prompt, seed): final latent} of diffusers' pipeline in one type, from the same noise."""
    pipe = StableDiffusionPipeline.from_pretrained(a.model, torch_dtype=dtype, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    kind = {"ddim": "DDIMScheduler", "dpm++2m": "DPMSolverMultistepScheduler"}[a.sampler]
    pipe.scheduler = getattr(diffusers, kind).from_config(pipe.scheduler.config)
    factor = 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    shape = (1, pipe.unet.config.in_channels, a.size // factor, a.size // factor)
    return {(p, s): pipe(p, latents=noise(a, s, shape).to(dtype), num_inference_steps=a.steps, guidance_scale=a.cfg, output_type="latent")
            .images.double().numpy() for p in a.prompts for s in range(a.seeds)}


def sampling(a):
    """Final latents of whole runs, and the pictures, kept in --keep to be looked at."""
    cases = [(p, s) for p in a.prompts for s in range(a.seeds)]
    runs = {}
    for w in WAYS:
        for i, (p, s) in enumerate(cases):
            with tempfile.TemporaryDirectory() as folder:
                latent, pixels = picture(a, folder, w, p, s, "--sampler", a.sampler, "--steps", str(a.steps), "--cfg-scale", str(a.cfg))
            runs[w, p, s] = latent, pixels
            if a.keep:
                os.makedirs(a.keep, exist_ok=True)
                Image.fromarray(pixels).save(os.path.join(a.keep, f"{i:02d}-{w.replace(' ', '-')}.png"))
    peers = {n: torch_latents(a, d) for n, d in TORCH.items()}
    print(f"{a.model}, {a.size}x{a.size}, {a.steps} steps of {a.sampler}, guidance {a.cfg}, {len(cases)} runs: latents at the end")
    print("| run | beside | error | dB: all, worst to best | picture: mean difference in levels, share of values off by > 8 |\n|---|---|---|---|---|")
    results = {}

    def row(name, beside, got, want, pixels=None):
        e, each = Error(), []
        for c in cases:
            one = Error()
            for x in e, one:
                x.add(got(*c), want(*c))
            each.append(one.db())
        seen = ""
        if pixels:
            d = np.array([np.abs(runs[pixels, *c][1].astype(int) - runs["diffc f32", *c][1]) for c in cases])
            seen = f"{d.mean():.2f}, {100 * (d > 8).mean():.1f} %"
        print(f"| {name} | {beside} | {e.relative():.3g} | {e.db():.1f}, {min(each):.1f} to {max(each):.1f} | {seen} |")
        results[name] = {"error": e.relative(), "db": each}

    def own(way):
        return lambda p, s: runs[way, p, s][0]

    row("diffc f32", "torch float32", own("diffc f32"), lambda p, s: peers["torch float32"][p, s])
    for w in list(WAYS)[1:]:
        row(w, "diffc f32", own(w), own("diffc f32"), w)
    row("torch bfloat16", "torch float32", lambda p, s: peers["torch bfloat16"][p, s], lambda p, s: peers["torch float32"][p, s])
    return results


INT8 = {"proj_in": "proj_in", "proj_out": "proj_out", "attn1.to_q to_k to_v": r"attn1\.to_[qkv]", "attn1.to_out": r"attn1\.to_out\.0",
        "attn2.to_q": r"attn2\.to_q", "attn2.to_out": r"attn2\.to_out\.0", "ff.net.0.proj": r"ff\.net\.0\.proj", "ff.net.2": r"ff\.net\.2",
        "conv_shortcut": "conv_shortcut"}  # what DC_BIND_INT8 marks in unet/


def rounded(x, dim):
    """x to 8 bits as diffc does it: the largest of a row becomes 127."""
    step = x.abs().amax(dim, keepdim=True).clamp_min(1e-30) / 127
    return (x / step).round() * step


def layers(a):
    """One kind of layer at a time in int8, and all but one, the rest in float64: error of a UNet pass."""
    inputs = [traced(a, "diffc f32", a.prompts[s % len(a.prompts)], s)["unet"][0] for s in range(a.seeds)]
    model = Torch(a, "unet", torch.float64)
    want = [model(x) for x in inputs]
    plain = {n: m.weight.data.clone() for n, m in model.m.named_modules() if any(re.search(f"{k}$", n) for k in INT8.values())}
    places = {n: re.match(r"((?:down|up)_blocks\.\d+|mid_block)", n)[0] for n in plain}

    def error(chosen):
        """All modules for which chosen(name) is true in int8."""
        hooks = []
        for n, m in model.m.named_modules():
            if n not in plain:
                continue
            m.weight.data = rounded(plain[n], tuple(range(1, plain[n].dim()))) if chosen(n) else plain[n]
            if chosen(n):
                channels = 1 if isinstance(m, torch.nn.Conv2d) else -1
                hooks.append(m.register_forward_pre_hook(lambda m, x, c=channels: (rounded(x[0], c),)))
        e = Error()
        for x, w in zip(inputs, want):
            e.add(model(x), w)
        for h in hooks:
            h.remove()
        return e.relative()

    every = error(lambda n: True)
    print(f"{a.model}, {a.size}x{a.size}, {a.seeds} input(s): error of a UNet pass with int8 layers, the rest in float64; all of them: {every:.3g}")
    print("| layers | in int8 alone | all others in int8 |\n|---|---|---|")
    result = {"all": every}
    kinds = {k: (lambda n, k=k: bool(re.search(f"{INT8[k]}$", n))) for k in INT8}
    kinds |= {b: (lambda n, b=b: places[n] == b) for b in dict.fromkeys(places.values())}
    for k, is_k in kinds.items():
        result[k] = error(is_k), error(lambda n: not is_k(n))
        print(f"| {k} | {result[k][0]:.3g} | {result[k][1]:.3g} |", flush=True)
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=("forward", "sampling", "layers"))
    p.add_argument("--diffc", default="build/release/diffc")
    p.add_argument("-m", "--model", required=True)
    p.add_argument("--size", type=int, default=256, help="width and height of the picture")
    p.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="forward: which")
    p.add_argument("--seeds", type=int, default=1, help="forward: inputs; sampling: runs a prompt")
    p.add_argument("--prompts", nargs="+", default=PROMPTS)
    p.add_argument("--sampler", choices=("ddim", "dpm++2m"), default="ddim")
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--cfg", type=float, default=7.5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--keep", help="sampling: a folder for the pictures")
    p.add_argument("--json", help="a file for the results")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    results = {"forward": forward, "sampling": sampling, "layers": layers}[a.what](a)
    if a.json:
        with open(a.json, "w") as f:
            json.dump(results, f, indent=1)


if __name__ == "__main__":
    main()
