#!/usr/bin/env python3
"""pipelines.py TOKENIZER OUT: whole models put together from parts that OUT/models has already (sd1, and sdxl's UNet and second text encoder),
and what diffusers makes of them: SDXL (both text encoders, size conditioning, no negative prompt as zeros), v-prediction, zero
terminal SNR, one step without guidance. Writes OUT/models/{sdxl,sd1-v,sd1-zsnr,sd1-turbo} and OUT/txt2img/... TOKENIZER is a CLIPTokenizer
folder of the full vocabulary, padding with the end token (also for SDXL's second encoder, as diffc does without tokenizer folders).
Tolerances: 32 times the distance between float32 and float64 runs, at most 2 % and at least 2e-5 of the RMS.
Needs torch, diffusers 0.42, transformers, Pillow."""
import json, math, os, sys
import numpy as np
import torch
from diffusers import (AutoencoderKL, DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline,
                       UNet2DConditionModel)
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

tokenizer_folder, out = sys.argv[1:3]
torch.set_grad_enabled(False)
PROMPT, NEGATIVE = "a photograph of a small wooden house by a lake at sunset", "blurry, low quality"
BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, steps_offset=1, trained_betas=None)
SCHEDULERS = {  # as published for SDXL, SD 2.1, its zero-SNR descendants and SD-Turbo
    "sdxl": dict(_class_name="EulerDiscreteScheduler", **BETAS, interpolation_type="linear", prediction_type="epsilon", timestep_spacing="leading", use_karras_sigmas=False),
    "sd1-v": dict(_class_name="DDIMScheduler", **BETAS, clip_sample=False, prediction_type="v_prediction", set_alpha_to_one=False),
    "sd1-zsnr": dict(_class_name="DDIMScheduler", **BETAS, clip_sample=False, prediction_type="v_prediction", rescale_betas_zero_snr=True, set_alpha_to_one=True,
                     timestep_spacing="trailing"),
    "sd1-turbo": dict(_class_name="EulerDiscreteScheduler", **BETAS, interpolation_type="linear", prediction_type="epsilon", timestep_spacing="trailing", use_karras_sigmas=False)}
CLASSES = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "euler_a": EulerAncestralDiscreteScheduler}
CASES = [("sdxl", "euler-64x64", dict(steps=5, cfg=4.0)), ("sdxl", "euler-72x56-no-negative", dict(steps=4, cfg=4.0, negative=None, width=72, height=56, seed=45)),
         ("sd1-v", "ddim-64x64", dict(sampler="ddim")), ("sd1-v", "euler-64x64", dict(seed=44)), ("sd1-zsnr", "ddim-64x64", dict(sampler="ddim")),
         ("sd1-turbo", "euler_a-64x64-1step", dict(sampler="euler_a", steps=1, cfg=0.0, negative=""))]


def write(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def link(model, name, target):
    path = f"{out}/models/{model}/{name}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.path.lexists(path) and os.remove(path)
    os.symlink(target, path)


def assemble(model):
    folder, xl = f"{out}/models/{model}", model == "sdxl"
    write(f"{folder}/scheduler/scheduler_config.json", SCHEDULERS[model])
    parts = {"scheduler": ["diffusers", SCHEDULERS[model]["_class_name"]], "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
             "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    if xl:
        parts.update(text_encoder_2=["transformers", "CLIPTextModelWithProjection"], tokenizer_2=["transformers", "CLIPTokenizer"], force_zeros_for_empty_prompt=True)
        config = json.load(open(f"{out}/models/sd1/vae/config.json"))
        write(f"{folder}/vae/config.json", {**config, "scaling_factor": 0.13025})
        link(model, "vae/diffusion_pytorch_model.safetensors", "../../sd1/vae/diffusion_pytorch_model.safetensors")
        link(model, "text_encoder", "../sd1/text_encoder")
    else:
        for part in ("text_encoder", "unet", "vae"):
            link(model, part, f"../sd1/{part}")
    write(f"{folder}/model_index.json", {"_class_name": "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline", "_diffusers_version": "0.42.1", **parts})


def text_encoder(folder):
    config = json.load(open(f"{folder}/config.json"))
    kind = CLIPTextModelWithProjection if config["architectures"][0].endswith("Projection") else CLIPTextModel
    m = kind(CLIPTextConfig(**{k: v for k, v in config.items() if k not in ("architectures", "torch_dtype", "dtype", "model_type")}))
    want, state = m.state_dict(), load_file(f"{folder}/model.safetensors")
    state = {k if k in want else k.removeprefix("text_model."): v.float() for k, v in state.items()}
    assert set(want) - set(state) <= {k for k in want if k.endswith("position_ids")}, set(want) - set(state)
    m.load_state_dict(state, strict=False)
    return m.eval()


def net(kind, folder):
    m = kind.from_config(kind.load_config(folder))
    m.load_state_dict({k: v.float() for k, v in load_file(f"{folder}/diffusion_pytorch_model.safetensors").items()})
    return m.eval()


def pipeline(model, sampler, dtype):
    folder = f"{out}/models/{model}"
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    scheduler = CLASSES[sampler].from_config({k: v for k, v in SCHEDULERS[model].items() if k != "_class_name"})
    parts = dict(vae=net(AutoencoderKL, f"{folder}/vae"), unet=net(UNet2DConditionModel, f"{folder}/unet"), text_encoder=text_encoder(f"{folder}/text_encoder"), tokenizer=tokenizer,
                 scheduler=scheduler)
    if model == "sdxl":
        p = StableDiffusionXLPipeline(**parts, text_encoder_2=text_encoder(f"{folder}/text_encoder_2"), tokenizer_2=tokenizer, add_watermarker=False)
    else:
        p = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    p.set_progress_bar_config(disable=True)
    return p.to(dtype)


def run(model, c, dtype):
    p, randn = pipeline(model, c["sampler"], dtype), torch.randn
    torch.randn = lambda *a, **k: randn(*a, **{**k, "dtype": torch.float32}).to(k.get("dtype") or torch.float32)  # the same numbers in both
    latent = p(prompt=PROMPT, negative_prompt=c["negative"], width=c["width"], height=c["height"], num_inference_steps=c["steps"], guidance_scale=c["cfg"],
               generator=torch.Generator("cpu").manual_seed(c["seed"]), output_type="latent").images
    torch.randn = randn
    return latent.double().numpy(), p.vae.decode(latent / p.vae.config.scaling_factor).sample.double().numpy()


def tolerance(a, b):
    d, rms = abs(a - b).max(), math.sqrt((a ** 2).mean())
    return float("%.3g" % max(min(32 * d, max(0.02 * rms, 8 * d)), 2e-5 * rms))


def main():
    for model in SCHEDULERS:
        assemble(model)
    for model, name, changes in CASES:
        c = {"steps": 8, "cfg": 7.5, "seed": 42, "width": 64, "height": 64, "sampler": "euler", "negative": NEGATIVE, **changes}
        (a, x), (b, y) = run(model, c, torch.float32), run(model, c, torch.float64)
        latent, image = tolerance(a, b), tolerance(x, y)
        d = f"{out}/txt2img/{model}/{name}"
        os.makedirs(d, exist_ok=True)
        np.save(f"{d}/latent.npy", a.astype("<f4"))
        Image.fromarray(np.rint((x[0].transpose(1, 2, 0) / 2 + 0.5).clip(0, 1) * 255).astype(np.uint8)).save(f"{d}/image.png")
        args = ["txt2img", "-m", f"models/{model}", "-p", PROMPT, *(["-n", c["negative"]] if c["negative"] is not None else []), "-W", str(c["width"]), "-H", str(c["height"]), "--steps", str(c["steps"]),
                "--cfg-scale", str(c["cfg"]), "--sampler", c["sampler"], "--scheduler", "model", "-s", str(c["seed"]), "--rng", "cpu"]
        write(f"{d}/case.json", {"kind": "txt2img", "args": args, "tolerance": {"latent": latent, "image": image, "png_levels": 1 + math.ceil(127.5 * image),
                                                                               "png_share": round(min(1.0, 0.02 + 127.5 * image), 4)}})
        print(model, name, "tolerance", latent, image, "rms", math.sqrt((a ** 2).mean()), math.sqrt((x ** 2).mean()))


if __name__ == "__main__":
    main()
