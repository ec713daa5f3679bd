#!/usr/bin/env python3
"""narrow.py GOLDEN: how far PyTorch in bfloat16 is from the goldens of whole models, into GOLDEN/modules/bf16.json.

Error: root mean square of the difference over that of the golden. diffc's bf16 is held against it: a bound that is not of diffc's own making.
Needs torch, diffusers, transformers."""
import json
import os
import sys

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

BF16 = torch.bfloat16


def error(got, want):
    got, want = got.double(), want.double()
    return ((got - want).square().mean() / want.square().mean()).sqrt().item()


def unet(folder, g):
    m = UNet2DConditionModel.from_pretrained(folder, torch_dtype=BF16)
    added = {k: g["in." + k].to(BF16) for k in ("text_embeds", "time_ids") if "in." + k in g}
    return {"out": error(m(g["in.sample"].to(BF16), g["in.timestep"], g["in.encoder_hidden_states"].to(BF16), added_cond_kwargs=added).sample, g["out"])}


def vae(folder, g):
    m = AutoencoderKL.from_pretrained(folder, torch_dtype=BF16)
    latent = (g["decode.in.scaled_latent"] / m.config.scaling_factor).to(BF16)
    return {"decode.out": error(m.decode(latent).sample, g["decode.out"]),
            "encode.mean": error(m.encode(g["encode.in.image"].to(BF16)).latent_dist.mean, g["encode.mean"])}


def text(folder, g):
    m = (CLIPTextModelWithProjection if folder.endswith("_2") else CLIPTextModel).from_pretrained(folder, torch_dtype=BF16)
    return {"last_hidden_state": error(m(g["input_ids"]).last_hidden_state, g["last_hidden_state"])}


def main():
    golden, out = sys.argv[1], {}
    for part, what in {"sd1/unet": unet, "sdxl/unet": unet, "sd1/vae": vae, "sd1/text": text, "sdxl/text_2": text}.items():
        folder = os.path.join(golden, "models", part.replace("text", "text_encoder"))
        with torch.no_grad():
            numbers = what(folder, load_file(os.path.join(golden, "modules", part + ".safetensors")))
        out[part] = {k: float(f"{v:.3g}") for k, v in numbers.items()}
    with open(os.path.join(golden, "modules", "bf16.json"), "w") as f:
        json.dump(out, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
