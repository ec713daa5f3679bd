"""Writes the trained model as a diffusers folder: export.py --run R --out FOLDER (float16 safetensors, configs, tokenizer, scheduler)."""
import argparse
import json
import os
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny, __version__
from safetensors.torch import save_file
import clip
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


def autoencoder(run):
    """The autoencoder's weights, with the better decoder where one was trained."""
    later = [n for n in ('decoder-cool', 'decoder') if os.path.exists(f'{run}/{n}.pt')]
    return newest(run, *later, 'vae-folded')


def preview(run, vae, count=600):
    """The linear map from latents to the mean colours of 8x8 pixels that fits best (least squares over pictures): 3 factors a latent channel, and a bias."""
    stored = torch.load(f'{run}/latents.pt', weights_only=False)
    z = stored['latents'].float()
    z = z[torch.linspace(0, len(z) - 1, min(count, len(z))).long()]
    with torch.no_grad():
        rgb = torch.cat([F.avg_pool2d(vae.decode(part).sample.clamp(-1, 1), 8) for part in z.split(16)])
    flat = lambda x: x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).double()
    a = torch.cat([flat(z), torch.ones(len(z) * z.shape[2] * z.shape[3], 1, dtype=torch.float64)], 1)
    fit = torch.linalg.lstsq(a, flat(rgb)).solution
    left = (a @ fit - flat(rgb)).square().mean()
    print(f'preview factors: {10 * torch.log10(4 / left):.2f} dB from the mean colours of 8x8 pixels')
    return dict(factors=[[round(v, 5) for v in row] for row in fit[:-1].tolist()], bias=[round(v, 5) for v in fit[-1].tolist()])


def towers(run, folder):
    """A CLIPModel with its tokenizer and how pictures are made ready, as transformers writes them."""
    both = clip.model()
    both.load_state_dict(newest(run, 'clip-cool', 'clip'))
    both.half().save_pretrained(folder)
    Tokenizer().save(folder)
    side, channels = configs.CLIP['vision_config']['image_size'], [0.5] * 3
    write(folder, 'preprocessor_config.json', dict(
        image_processor_type='CLIPImageProcessor', do_convert_rgb=True, do_resize=True, size={'shortest_edge': side}, resample=3, do_center_crop=True,
        crop_size={'height': side, 'width': side}, do_rescale=True, rescale_factor=1 / 255, do_normalize=True, image_mean=channels, image_std=channels))


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--run', default='run')
    p.add_argument('--out', required=True)
    p.add_argument('--steady', action='store_true', help='take unet.pt though there is a unet-cool.pt')
    a = p.parse_args()
    both = newest(a.run, *(['unet'] if a.steady else ['unet-cool', 'unet']))
    few = not a.steady and os.path.exists(f'{a.run}/few-cool.pt')
    net = newest(a.run, 'few-cool') if few else {k[5:]: v for k, v in both.items() if k.startswith('unet.')}
    vae = autoencoder(a.run)
    write(f'{a.out}/vae', 'config.json', dict(_class_name='AutoencoderKL', force_upcast=False, **configs.VAE))
    weights(f'{a.out}/vae/diffusion_pytorch_model.safetensors', vae)
    write(f'{a.out}/unet', 'config.json', dict(_class_name='UNet2DConditionModel', **configs.UNET))
    weights(f'{a.out}/unet/diffusion_pytorch_model.safetensors', net)
    write(f'{a.out}/text_encoder', 'config.json', dict(architectures=['CLIPTextModel'], model_type='clip_text_model', **configs.TEXT))
    text = {k[5:]: v for k, v in both.items() if k.startswith('text.') and not k.endswith('position_ids')}
    weights(f'{a.out}/text_encoder/model.safetensors', {k if k.startswith('text_model.') else f'text_model.{k}': v for k, v in text.items()})
    write(f'{a.out}/scheduler', 'scheduler_config.json', dict(_class_name='DDIMScheduler', trained_betas=None, **configs.SCHEDULER))
    Tokenizer().save(f'{a.out}/tokenizer')
    whole = AutoencoderKL(**configs.VAE).eval()
    whole.load_state_dict(vae)
    write(a.out, 'preview.json', preview(a.run, whole))
    if any(os.path.exists(f'{a.run}/{n}.pt') for n in ('tiny', 'tiny-cool')):
        small = AutoencoderTiny(**configs.TINY)
        small.load_state_dict(newest(a.run, 'tiny-cool', 'tiny'))
        small.half().save_pretrained(f'{a.out}/taesd')
    if any(os.path.exists(f'{a.run}/{n}.pt') for n in ('clip', 'clip-cool')):
        towers(a.run, f'{a.out}/clip')
    write(a.out, 'model_index.json', dict(
        _class_name='StableDiffusionPipeline', _diffusers_version=__version__, vae=['diffusers', 'AutoencoderKL'], unet=['diffusers', 'UNet2DConditionModel'],
        text_encoder=['transformers', 'CLIPTextModel'], tokenizer=['transformers', 'CLIPTokenizer'], scheduler=['diffusers', 'DDIMScheduler'],
        safety_checker=[None, None], feature_extractor=[None, None], requires_safety_checker=False, diffc_defaults=configs.DEFAULTS))
    total = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(a.out) for f in files)
    print(f'{a.out}: {total / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
