#!/usr/bin/env python3
"""Stable Diffusion 1.5 or XL, or CLIP ViT-B/32, of the real size with random weights: python make_weights.py FOLDER [--kind sd15|sdxl|clip] [--seed N]

Writes a diffusers folder in fp16 with unet/, vae/, text_encoder/ (XL: and text_encoder_2/), scheduler/ and, for 1.5, taesd/ beside them. 2.1 and 6.9 GB; of CLIP
transformers' folder in fp32, 0.6 GB. Each layer has torch's own
initialisation for its kind, so that activations stay of ordinary size; what that leaves all zero becomes small random numbers, so that no
layer is without effect. Same seed, same torch: same files.
"""
import argparse
import json
import os

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection


def unet():
    return UNet2DConditionModel(
        sample_size=64, block_out_channels=(320, 640, 1280, 1280), layers_per_block=2, cross_attention_dim=768, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)


def unet_xl():
    return UNet2DConditionModel(
        sample_size=128, block_out_channels=(320, 640, 1280), layers_per_block=2, cross_attention_dim=2048, attention_head_dim=(5, 10, 20),
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
        transformer_layers_per_block=(1, 2, 10), use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816)


def vae(sample_size=512, scaling_factor=0.18215):
    return AutoencoderKL(
        sample_size=sample_size, block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, scaling_factor=scaling_factor,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)


def text_encoder():
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=77,
        hidden_act="quick_gelu", projection_dim=768, bos_token_id=49406, eos_token_id=49407))


def text_encoder_2():
    return CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=49408, hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, max_position_embeddings=77,
        hidden_act="gelu", projection_dim=1280, bos_token_id=49406, eos_token_id=49407))


def clip():
    both = dict(num_hidden_layers=12, hidden_act="quick_gelu", projection_dim=512)
    text = dict(both, vocab_size=49408, hidden_size=512, intermediate_size=2048, num_attention_heads=8, max_position_embeddings=77, bos_token_id=49406,
                eos_token_id=49407)
    vision = dict(both, hidden_size=768, intermediate_size=3072, num_attention_heads=12, image_size=224, patch_size=32)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512))


SD15 = {"unet": unet, "vae": vae, "text_encoder": text_encoder, "taesd": AutoencoderTiny}
SDXL = {"unet": unet_xl, "vae": lambda: vae(1024, 0.13025), "text_encoder": text_encoder, "text_encoder_2": text_encoder_2}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--kind", choices=("sd15", "sdxl", "clip"), default="sd15")
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    if a.kind == "clip":
        torch.manual_seed(a.seed)
        clip().save_pretrained(a.folder)
        return
    xl = a.kind == "sdxl"
    torch.set_default_dtype(torch.float16 if xl else torch.float32)  # XL in floats would take 10 GB
    for i, (name, make) in enumerate((SDXL if xl else SD15).items()):
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
    index = dict(_class_name="StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline", unet=["diffusers", "UNet2DConditionModel"], vae=["diffusers", "AutoencoderKL"],
                 text_encoder=["transformers", "CLIPTextModel"], scheduler=["diffusers", "EulerDiscreteScheduler"])
    if xl:
        index.update(text_encoder_2=["transformers", "CLIPTextModelWithProjection"], force_zeros_for_empty_prompt=True)
    with open(os.path.join(a.folder, "model_index.json"), "w") as f:
        json.dump(index, f, indent=1)


if __name__ == "__main__":
    main()
