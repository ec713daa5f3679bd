#!/usr/bin/env python3
"""previews.py TOKENIZER OUT ASSETS: what diffusers' schedulers say the finished latent would be (pred_original_sample; of the solvers x0 by
convert_model_output) at the last evaluation of every step but the last, as the RGB pixels of a preview: by stable-diffusion.cpp's factors
(latent-preview.h), by fainter ones, by those of ASSETS/default/preview.json, or (of one step, some pixels) by AutoencoderTiny and AutoencoderKL.
Models are those of OUT/models and ASSETS/default; TOKENIZER as for pipelines.py, whose functions this uses. Writes OUT/previews.json and, one case
behind the other, OUT/previews.npy: bytes [steps, h, w, 3]. Needs torch, diffusers 0.42, transformers, Pillow."""
import json, sys
import numpy as np
import torch
import pipelines as P
from diffusers import (AutoencoderTiny, DDIMScheduler, DPMSolverMultistepScheduler, DiffusionPipeline, HeunDiscreteScheduler, StableDiffusionImg2ImgPipeline,
                       StableDiffusionInpaintPipeline)
from PIL import Image

out, assets = sys.argv[2:4]
BASE = json.load(open(f"{out}/models/sd1/scheduler/scheduler_config.json"))
P.SCHEDULERS["sd1"] = P.SCHEDULERS["sd1-inpaint"] = {k: v for k, v in BASE.items() if k not in ("skip_prk_steps", "_diffusers_version")}
P.CLASSES.update({"heun": HeunDiscreteScheduler, "dpm++2m": DPMSolverMultistepScheduler})
SD = dict(factors=[[0.337366, 0.216344, 0.257386], [0.165636, 0.386828, 0.046994], [-0.267803, 0.237036, 0.223517], [-0.178022, -0.200862, -0.678514]],
          bias=[-0.017478, -0.055834, -0.105825])
XL = dict(factors=[[0.258303, 0.277640, 0.329699], [-0.299701, 0.105446, 0.014194], [0.050522, 0.186163, -0.143257], [-0.211938, -0.149892, -0.080036]],
          bias=[0.144381, -0.033313, 0.007061])
CASES = [dict(model="sd1-v", sampler="ddim", steps=4), dict(model="sd1", sampler="heun", steps=4, faint=20), dict(model="sd1", sampler="dpm++2m", steps=5, width=72, height=56, faint=20),
         dict(model="sd1-zsnr", sampler="ddim", steps=3), dict(model="sdxl", sampler="euler", steps=4, cfg=4.0), dict(model="sd1", sampler="euler", steps=3, cfg=1.0),
         dict(model="sd1", sampler="ddim", steps=5, init="sd1/img2img-ddim", strength=0.6),
         dict(model="sd1-inpaint", sampler="ddim", steps=4, init="sd1-inpaint/inpaint-ddim", mask=True, strength=1.0),
         dict(model="default", sampler="ddim", steps=3, width=128, height=128),
         dict(model="default", sampler="ddim", steps=3, width=128, height=128, preview="tae", only=1, every=8),
         dict(model="sd1-v", sampler="ddim", steps=4, preview="vae", only=2, every=4)]


def record(scheduler, estimates, evaluations):
    """The estimate of each evaluation: its level is that of the sample it came from."""
    step, n = scheduler.step, [0]
    def recorded(*a, return_dict=True, **k):
        o = step(*a, return_dict=True, **k)
        n[0] += 1
        x0 = o.pred_original_sample if "pred_original_sample" in o.keys() else scheduler.model_outputs[-1]
        if (n[0] % evaluations == 0): estimates.append(x0.double())
        return (o.prev_sample,)
    scheduler.step = recorded


def run(c, dtype):
    estimates = []
    if c["model"] == "default":
        p = DiffusionPipeline.from_pretrained(f"{assets}/default", torch_dtype=torch.float32).to(dtype)
        p.set_progress_bar_config(disable=True)
    else:
        p = P.pipeline(c["model"], c["sampler"], dtype)
    call = dict(prompt="a red apple" if c["model"] == "default" else P.PROMPT, negative_prompt=None if c["model"] == "default" else P.NEGATIVE, num_inference_steps=c["steps"],
                guidance_scale=c["cfg"], generator=torch.Generator("cpu").manual_seed(c["seed"]), output_type="latent")
    if "init" in c:
        kind = StableDiffusionInpaintPipeline if c.get("mask") else StableDiffusionImg2ImgPipeline
        p = kind(**p.components, requires_safety_checker=False)
        p.set_progress_bar_config(disable=True)
        call.update(image=Image.open(f"{out}/txt2img/{c['init']}/init.png"), strength=c["strength"])
        if c.get("mask"): call.update(mask_image=Image.open(f"{out}/txt2img/{c['init']}/mask.png"), width=c["width"], height=c["height"])
    else:
        call.update(width=c["width"], height=c["height"])
    record(p.scheduler, estimates, 2 if c["sampler"] == "heun" else 1)
    randn = torch.randn
    torch.randn = lambda *a, **k: randn(*a, **{**k, "dtype": torch.float32}).to(k.get("dtype") or torch.float32)  # the same numbers in both
    p(**call)
    torch.randn = randn
    return p, estimates


def pixels(c, p, estimates, dtype):
    if c["preview"] == "proj":
        f = json.load(open(f"{assets}/default/preview.json")) if c["model"] == "default" else XL if c["model"] == "sdxl" else SD
        if "faint" in c: f = c["own"] = dict(factors=[[round(v / c["faint"], 6) for v in row] for row in f["factors"]], bias=f["bias"])  # random models say much
        rgb = np.stack([np.einsum("chw,ck->hwk", x[0].numpy(), np.array(f["factors"])) + f["bias"] for x in estimates])
    else:
        x = estimates[c["only"] - 1].to(dtype)
        if c["preview"] == "tae": rgb = P.net(AutoencoderTiny, f"{assets}/default/taesd").to(dtype).decode(x).sample
        else: rgb = p.vae.decode(x / p.vae.config.scaling_factor).sample
        rgb = rgb.double().numpy().transpose(0, 2, 3, 1)[:, ::c["every"], ::c["every"]]
    return (rgb / 2 + 0.5).clip(0, 1) * 255


def main():
    every, told = [], []
    for changes in CASES:
        c = {"cfg": 7.5, "seed": 42, "width": 64, "height": 64, "preview": "proj", **changes}
        (p, a), (q, b) = run(c, torch.float32), run(c, torch.float64)
        # Heun's last step has one evaluation: it makes no whole step and is not in the list
        last = len(a) if c["sampler"] == "heun" else len(a) - 1
        x, y = pixels(c, p, a[:last], torch.float32), pixels(c, q, b[:last], torch.float64)
        print(c, x.shape, "float32 to float64: %.3g levels; at 0 or 255: %.2f" % (abs(x - y).max(), ((y <= 0) | (y >= 255)).mean()))
        every.append(np.rint(y).astype(np.uint8).ravel())
        told.append({**c, "shape": y.shape[:3]})
    np.save(f"{out}/previews.npy", np.concatenate(every))
    P.write(f"{out}/previews.json", told)


main()
