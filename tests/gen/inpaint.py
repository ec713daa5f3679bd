#!/usr/bin/env python3
"""inpaint.py SD1 OUT: a tiny 9-channel inpaint UNet with random weights beside the text encoder and VAE of the reference model SD1 (a
diffusers folder with its tokenizer), and what diffusers' inpaint pipeline makes of it. Writes OUT/models/sd1-inpaint and
OUT/txt2img/sd1-inpaint. Tolerances: 32 times the distance between float32 and float64 runs, at least 2e-5 of the RMS.
Needs torch, diffusers 0.42, transformers, Pillow."""
import json, math, os, sys
import numpy as np
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionInpaintPipeline, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file

sd1, out = sys.argv[1:3]
PROMPT, NEGATIVE = "a photograph of a small wooden house by a lake at sunset", "blurry, low quality"
CONFIG = dict(sample_size=8, in_channels=9, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16, attention_head_dim=2,
              down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))


def link(name):
    path = f"{out}/models/sd1-inpaint/{name}"
    os.path.lexists(path) and os.remove(path)
    os.symlink(f"../sd1/{name}", path)


def main():
    torch.manual_seed(9)
    unet = UNet2DConditionModel(**CONFIG).eval()
    state = {k: v.half().float() for k, v in unet.state_dict().items()}
    unet.load_state_dict(state)
    folder = f"{out}/models/sd1-inpaint"
    os.makedirs(f"{folder}/unet", exist_ok=True)
    os.makedirs(f"{folder}/scheduler", exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in state.items()}, f"{folder}/unet/diffusion_pytorch_model.safetensors")
    unet.save_config(f"{folder}/unet")
    for f in ("scheduler/scheduler_config.json", "model_index.json"):
        open(f"{folder}/{f}", "w").write(open(f"{sd1}/{f}").read())
    link("text_encoder"), link("vae")

    base = StableDiffusionPipeline.from_pretrained(sd1, safety_checker=None, torch_dtype=torch.float32)
    rng = np.random.default_rng(3)
    start = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((64, 64), Image.BICUBIC)
    mask = Image.fromarray(np.pad(np.full((32, 24), 255, np.uint8), ((16, 16), (8, 32))))
    for name, cls, strength in (("inpaint-ddim", DDIMScheduler, 1.0), ("inpaint-euler", EulerDiscreteScheduler, 1.0), ("inpaint-euler-strength", EulerDiscreteScheduler, 0.6)):
        got = {}
        for dtype in (torch.float32, torch.float64):
            p = StableDiffusionInpaintPipeline(unet=unet.to(dtype), vae=base.vae.to(dtype), text_encoder=base.text_encoder.to(dtype), tokenizer=base.tokenizer,
                                               scheduler=cls.from_config(json.load(open(f"{sd1}/scheduler/scheduler_config.json"))), safety_checker=None, feature_extractor=None,
                                               requires_safety_checker=False)
            p.set_progress_bar_config(disable=True)
            randn = torch.randn
            torch.randn = lambda *a, **k: randn(*a, **{**k, "dtype": torch.float32}).to(k.get("dtype") or torch.float32)  # the same numbers in both
            latent = p(prompt=PROMPT, negative_prompt=NEGATIVE, image=start, mask_image=mask, width=64, height=64, num_inference_steps=10, guidance_scale=5.0, strength=strength,
                       generator=torch.Generator("cpu").manual_seed(21), output_type="latent").images
            torch.randn = randn
            got[dtype] = (latent.double().detach().numpy(), p.vae.decode(latent.to(dtype) / p.vae.config.scaling_factor).sample.double().detach().numpy())
        (a, x), (b, y) = got[torch.float32], got[torch.float64]
        tol = [max(32 * abs(u - v).max(), 2e-5 * math.sqrt((u ** 2).mean())) for u, v in ((a, b), (x, y))]
        d = f"{out}/txt2img/sd1-inpaint/{name}"
        os.makedirs(d, exist_ok=True)
        np.save(f"{d}/latent.npy", a.astype("<f4"))
        Image.fromarray(np.clip(np.rint((x[0].transpose(1, 2, 0) / 2 + 0.5).clip(0, 1) * 255), 0, 255).astype(np.uint8)).save(f"{d}/image.png")
        start.save(f"{d}/init.png"), mask.save(f"{d}/mask.png")
        json.dump({"kind": "inpaint", "model": "models/sd1-inpaint", "prompt": PROMPT, "negative": NEGATIVE, "steps": 10, "cfg": 5.0, "seed": 21,
                   "sampler": "ddim" if cls is DDIMScheduler else "euler", "strength": strength,
                   "tolerance": {"latent": tol[0], "image": tol[1], "png_levels": 1 + math.ceil(127.5 * tol[1]), "png_share": min(1.0, 0.02 + 127.5 * tol[1])}},
                  open(f"{d}/case.json", "w"), indent=1)
        print(name, tol, math.sqrt((a ** 2).mean()))


main()
