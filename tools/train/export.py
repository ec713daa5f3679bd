"""Writes the trained model as a diffusers folder: export.py --run R --out FOLDER (float16 safetensors, configs, tokenizer, scheduler)."""
import argparse
import json
import os
import torch
from diffusers import __version__
from safetensors.torch import save_file
import configs
from tokenizer import Tokenizer


def write(folder, name, content):
    os.makedirs(folder, exist_ok=True)
    with open(f'{folder}/{name}', 'w') as f:
        json.dump(content, f, indent=2)
        f.write('\n')


def weights(path, state):
    save_file({k: v.detach().half().contiguous() for k, v in state.items()}, path, metadata={'format': 'pt'})


def newest(run, *names):
    """The averaged weights of the first of these checkpoints that is there."""
    for n in names:
        if os.path.exists(f'{run}/{n}.pt'):
            s = torch.load(f'{run}/{n}.pt', map_location='cpu', weights_only=False)
            print(f'{n}: step {s.get("step", "-")}, {s.get("samples", "-")} samples')
            return s['ema']
    raise SystemExit(f'none of {names} in {run}')


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--run', default='run')
    p.add_argument('--out', required=True)
    p.add_argument('--steady', action='store_true', help='take unet.pt though there is a unet-cool.pt')
    a = p.parse_args()
    both = newest(a.run, *(['unet'] if a.steady else ['unet-cool', 'unet']))
    vae = newest(a.run, 'vae-folded')
    if os.path.exists(f'{a.run}/decoder.pt') or os.path.exists(f'{a.run}/decoder-cool.pt'):
        vae = newest(a.run, 'decoder-cool', 'decoder')
    write(f'{a.out}/vae', 'config.json', dict(_class_name='AutoencoderKL', force_upcast=False, **configs.VAE))
    weights(f'{a.out}/vae/diffusion_pytorch_model.safetensors', vae)
    write(f'{a.out}/unet', 'config.json', dict(_class_name='UNet2DConditionModel', **configs.UNET))
    weights(f'{a.out}/unet/diffusion_pytorch_model.safetensors', {k[5:]: v for k, v in both.items() if k.startswith('unet.')})
    write(f'{a.out}/text_encoder', 'config.json', dict(architectures=['CLIPTextModel'], model_type='clip_text_model', **configs.TEXT))
    text = {k[5:]: v for k, v in both.items() if k.startswith('text.') and not k.endswith('position_ids')}
    weights(f'{a.out}/text_encoder/model.safetensors', {k if k.startswith('text_model.') else f'text_model.{k}': v for k, v in text.items()})
    write(f'{a.out}/scheduler', 'scheduler_config.json', dict(_class_name='DDIMScheduler', trained_betas=None, **configs.SCHEDULER))
    Tokenizer().save(f'{a.out}/tokenizer')
    write(a.out, 'model_index.json', dict(
        _class_name='StableDiffusionPipeline', _diffusers_version=__version__, vae=['diffusers', 'AutoencoderKL'], unet=['diffusers', 'UNet2DConditionModel'],
        text_encoder=['transformers', 'CLIPTextModel'], tokenizer=['transformers', 'CLIPTokenizer'], scheduler=['diffusers', 'DDIMScheduler'],
        safety_checker=[None, None], feature_extractor=[None, None], requires_safety_checker=False, diffc_defaults=configs.DEFAULTS))
    total = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(a.out) for f in files)
    print(f'{a.out}: {total / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
