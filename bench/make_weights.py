#!/usr/bin/env python3
"""Stable Diffusion 1.5 of the real size with random weights: python make_weights.py FOLDER [--seed N]

Writes a diffusers folder in fp16 with unet/, vae/, text_encoder/, scheduler/ and, beside them, taesd/. Each layer has torch's own
initialisation for its kind, so that activations stay of ordinary size; what that leaves all zero becomes small random numbers, so that no
layer is without effect. Same seed, same torch: same files.
"""
import argparse
import json
import os

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel


def unet():
    return UNet2DConditionModel(
        sample_size=64, block_out_channels=(320, 640, 1280, 1280), layers_per_block=2, cross_attention_dim=768, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)


def vae():
    return AutoencoderKL(
        sample_size=512, block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, scaling_factor=0.18215,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)


def text_encoder():
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=77,
        hidden_act="quick_gelu", projection_dim=768, bos_token_id=49406, eos_token_id=49407))


PARTS = {"unet": unet, "vae": vae, "text_encoder": text_encoder, "taesd": AutoencoderTiny}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    for i, (name, make) in enumerate(PARTS.items()):
        torch.manual_seed(a.seed + i)
        m = make()
        with torch.no_grad():
            for t in m.parameters():
                if not t.any():
                    t.normal_(0, 0.01)
        m.half().save_pretrained(os.path.join(a.folder, name), max_shard_size="100GB")
        print(f"{name}: {sum(t.numel() for t in m.parameters()) / 1e6:.1f} M")
    EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1).save_pretrained(
        os.path.join(a.folder, "scheduler"))
    index = dict(_class_name="StableDiffusionPipeline", unet=["diffusers", "UNet2DConditionModel"], vae=["diffusers", "AutoencoderKL"],
                 text_encoder=["transformers", "CLIPTextModel"], scheduler=["diffusers", "EulerDiscreteScheduler"])
    with open(os.path.join(a.folder, "model_index.json"), "w") as f:
        json.dump(index, f, indent=1)


if __name__ == "__main__":
    main()
