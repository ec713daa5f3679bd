#!/usr/bin/env python3
"""prompt_conditions.py MODULES TOKENIZER OUT: pictures of weighted, edited, composed and long prompts, as OUT/prompt/conditions.json.

The text encoders and UNets of OUT/models run in transformers and diffusers; what is between them is written here after the rules of
AUTOMATIC1111's web UI (modules/sd_emphasis.py, prompt_parser.py, sd_samplers_cfg_denoiser.py; its parser is run, see prompt_language.py) and
of ComfyUI (comfy/sd1_clip.py). Tolerances: 32 times the distance between float32 and float64 runs, at most 2 % and at least 2e-5 of the
RMS. Needs torch, diffusers, transformers, lark."""
import json, math, os, sys
import numpy as np
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from prompt_language import Chunker, comfy

modules, tokenizer_folder, out = sys.argv[1:4]
sys.path.insert(0, modules)
import prompt_parser

torch.set_grad_enabled(False)
torch.set_num_threads(1)
SCHEDULERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "heun": HeunDiscreteScheduler}
LONG = ", ".join(["a small wooden house by a lake", "tall dark trees", "a (red:1.3) boat", "a stone bridge over quiet water", "mountains far away"] * 5)
CASES = [
    dict(model="sd1", sampler="ddim", prompt="a (red:1.4) house [near a lake:by (the sea:0.6):0.5], ((sunset", negative="blurry, (ugly:1.3) [bad]"),
    dict(model="sd1", sampler="ddim", prompt="a house :0.7 AND a (lake) AND [sunset|dawn] over hills : 0.4", negative=""),
    dict(model="sd1", sampler="ddim", prompt=LONG + " BREAK oil on canvas", negative="blurry"),
    dict(model="sd1", sampler="ddim", prompt="a red apple", negative=LONG),
    dict(model="sd1", sampler="ddim", prompt="a house AND " + LONG + ":0.3", negative="[x:y:0.5]"),
    dict(model="sd1", sampler="ddim", prompt="a (red:1.4) ((house))", negative="(bad:0.5)", emphasis="no-norm"),
    dict(model="sd1", sampler="ddim", prompt="a (red:1.4) ((house))", negative="(bad:0.5)", emphasis="ignore"),
    dict(model="sd1", sampler="ddim", prompt="a (red:1.4) ((house))", negative="(bad:0.5)", emphasis="none"),
    dict(model="sd1", sampler="ddim", prompt="a (red:1.4) ((house)) [x]", negative="(bad:0.5)", syntax="comfyui"),
    dict(model="sd1", sampler="ddim", prompt="a (red:1.4) [house:lake:0.5] AND x", negative="((", syntax="plain"),
    dict(model="sd1", sampler="heun", prompt="a [house:lake:0.5] [tree|bush]", negative="[blurry::2]"),
    dict(model="sdxl", sampler="euler", prompt="a (red:1.4) [house|boat], " + LONG, negative="(bad:0.5)"),
    dict(model="sdxl", sampler="euler", prompt="a (red:1.4) house", negative=None, syntax="comfyui")]
STEPS, SCALE, SEED = 4, 5.0, 11


class Model:
    def __init__(self, name, double):
        folder, self.xl = f"{out}/models/{name}", name == "sdxl"
        kinds = [CLIPTextModel] + [CLIPTextModelWithProjection] * self.xl
        dtype = torch.float64 if double else torch.float32
        self.text = [k.from_pretrained(f"{folder}/text_encoder{'_2' * i}", torch_dtype=torch.float32).to(dtype) for i, k in enumerate(kinds)]
        self.unet = UNet2DConditionModel.from_pretrained(f"{folder}/unet", torch_dtype=torch.float32).to(dtype)
        self.scheduler = json.load(open(f"{folder}/scheduler/scheduler_config.json"))
        self.chunker, self.dtype = Chunker(CLIPTokenizer.from_pretrained(tokenizer_folder)), dtype

    def encode(self, i, ids):
        o = self.text[i](torch.tensor(ids), output_hidden_states=True)
        return (o.hidden_states[-2] if self.xl else o.last_hidden_state), (o[0] if self.xl and i else None)

    def texts(self, texts, syntax, emphasis):
        """[len(texts)] of (context, pooled): all encoded together, as the web UI does with the texts of one prompt over the steps"""
        spans = [[[t, 1.0]] if syntax == "plain" or emphasis == "none" else comfy(t) if syntax == "comfyui" else prompt_parser.parse_prompt_attention(t) for t in texts]
        chunks = [self.chunker.comfyui(s) if syntax == "comfyui" else self.chunker.a1111(s) for s in spans]
        if syntax == "plain":
            chunks = [[(c[0][0], c[0][1])] for c in chunks]
        n = max(map(len, chunks))
        empty = self.chunker.finish([])
        columns, pooled = [], None
        for i in range(len(self.text)):
            zs = []
            for k in range(n):
                rows = [c[k] if k < len(c) else empty for c in chunks]
                w = torch.tensor([r[1] for r in rows], dtype=self.dtype)[:, :, None]
                z, p = self.encode(i, [r[0] for r in rows])
                if syntax == "comfyui":
                    e = self.encode(i, [empty[0]])[0]
                    z = torch.where(w != 1, (z - e) * w + e, z)
                elif emphasis in ("original", "no-norm"):
                    before = z.mean()
                    z = z * w
                    if emphasis == "original": z = z * (before / z.mean())
                zs.append(z)
                if k == 0 and p is not None: pooled = p
            columns.append(torch.hstack(zs))
        context = torch.cat(columns, -1)
        return [(context[t], None if pooled is None else pooled[t]) for t in range(len(texts))]

    def strand(self, prompt, syntax, emphasis, total):
        schedule = prompt_parser.get_learned_conditioning_prompt_schedules([prompt], total)[0] if syntax == "a1111" else [[total, prompt]]
        return [(end, c) for (end, _), c in zip(schedule, self.texts([t for _, t in schedule], syntax, emphasis))]


def at(strand, k):
    for end, c in strand:
        if k <= end: return c
    return strand[0][1]


def picture(case, double):
    m = Model(case["model"], double)
    syntax, emphasis = case.get("syntax", "a1111"), case.get("emphasis", "original")
    total = STEPS * (2 if case["sampler"] == "heun" else 1)
    if syntax == "a1111":
        index, flat, _ = prompt_parser.get_multicond_prompt_list([case["prompt"]])
        parts = [(m.strand(flat[i], syntax, emphasis, total), w) for i, w in index[0]]
    else: parts = [(m.strand(case["prompt"], syntax, emphasis, total), 1.0)]
    negative = m.strand(case["negative"] or "", syntax, emphasis, total)
    if case["negative"] is None and m.xl: negative = [(total, (torch.zeros_like(negative[0][1][0]), torch.zeros_like(negative[0][1][1])))]
    s = SCHEDULERS[case["sampler"]].from_config(m.scheduler)
    s.set_timesteps(STEPS)
    x = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(SEED)).to(m.dtype) * s.init_noise_sigma
    for k, t in enumerate(s.timesteps):
        def eps(c):
            more = {"added_cond_kwargs": {"text_embeds": c[1][None], "time_ids": torch.tensor([[64, 64, 0, 0, 64, 64]], dtype=m.dtype)}} if m.xl else {}
            return m.unet(s.scale_model_input(x, t).to(m.dtype), t, encoder_hidden_states=c[0][None], **more).sample
        conds = [at(p, k) for p, _ in parts]
        longest = max(c[0].shape[0] for c in conds)
        conds = [(torch.vstack([c[0], c[0][-1:].repeat(longest - c[0].shape[0], 1)]), c[1]) for c in conds]
        u = eps(at(negative, k))
        e = u + sum((eps(c) - u) * (w * SCALE) for c, (_, w) in zip(conds, parts))
        x = s.step(e, t, x).prev_sample.to(m.dtype)
    return x[0].double().numpy()


cases = []
for case in CASES:
    single, double = picture(case, False), picture(case, True)
    rms = math.sqrt((single ** 2).mean())
    far = np.abs(single - double).max()
    tolerance = max(min(32 * far, .02 * rms), 2e-5 * rms)
    cases.append({**case, "steps": STEPS, "cfg": SCALE, "seed": SEED, "tolerance": float(f"{tolerance:.3g}"), "latent": [float(f"{v:.8g}") for v in single.ravel()]})
    print(case["prompt"][:50], "rms", round(rms, 3), "float32 to float64", far, "tolerance", tolerance)
with open(f"{out}/prompt/conditions.json", "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
