"""The contact sheet: eval.py --model FOLDER --out sheet.png [--diffc PROGRAM | with diffusers]. Prompts from eval_prompts.txt, seed 0, the model's own settings.

With --compare both run, and the largest difference of the final latents is printed (float32 both)."""
import argparse
import json
import os
import subprocess
import tempfile
import numpy as np
import torch
from PIL import Image, ImageDraw

HERE = os.path.dirname(os.path.abspath(__file__))


def by_diffc(program, model, prompts, folder, latents=False):
    for i, p in enumerate(prompts):
        more = ['--save-latent', f'{folder}/{i}.npy'] if latents else []
        subprocess.run([program, 'txt2img', p, '-m', model, '-s', '0', '-q', '-o', f'{folder}/{i}.png'] + more, check=True)
    return [Image.open(f'{folder}/{i}.png').convert('RGB') for i in range(len(prompts))]


def pipeline(model):
    from diffusers import StableDiffusionPipeline
    pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe, json.load(open(f'{model}/model_index.json'))['diffc_defaults']


def by_diffusers(model, prompts):
    pipe, d = pipeline(model)
    run = lambda p: pipe(p, num_inference_steps=d['steps'], guidance_scale=d['guidance_scale'], generator=torch.Generator().manual_seed(0)).images[0]
    return [run(p) for p in prompts]


def compare(program, model, prompts):
    pipe, d = pipeline(model)
    with tempfile.TemporaryDirectory() as folder:
        by_diffc(program, model, prompts, folder, latents=True)
        for i, p in enumerate(prompts):
            theirs = pipe(p, num_inference_steps=d['steps'], guidance_scale=d['guidance_scale'], generator=torch.Generator().manual_seed(0), output_type='latent').images.numpy()
            ours = np.load(f'{folder}/{i}.npy')
            print(f'{p}: largest difference of the latents {np.abs(ours.reshape(theirs.shape) - theirs).max():.2e} (largest value {np.abs(theirs).max():.2f})')


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--model', required=True)
    p.add_argument('--out', default='sheet.png')
    p.add_argument('--diffc', help='the program to draw with; without it, diffusers draws')
    p.add_argument('--compare', type=int, default=0, help='compare the latents of so many prompts of diffc and diffusers')
    p.add_argument('--prompts', default=f'{HERE}/eval_prompts.txt')
    p.add_argument('--columns', type=int, default=10)
    a = p.parse_args()
    prompts = [l.strip() for l in open(a.prompts) if l.strip() and not l.startswith('#')]
    torch.set_num_threads(2)
    if a.compare:
        return compare(a.diffc, a.model, prompts[:a.compare])
    if a.diffc:
        with tempfile.TemporaryDirectory() as folder:
            pictures = by_diffc(a.diffc, a.model, prompts, folder)
    else:
        pictures = by_diffusers(a.model, prompts)
    w, h = 136, 148
    sheet = Image.new('RGB', (a.columns * w, (len(prompts) + a.columns - 1) // a.columns * h), 'white')
    draw = ImageDraw.Draw(sheet)
    for i, (text, picture) in enumerate(zip(prompts, pictures)):
        x, y = i % a.columns * w, i // a.columns * h
        sheet.paste(picture, (x + 4, y))
        draw.text((x + 4, y + 130), text[:24], fill='black')
    sheet.save(a.out, optimize=True)


if __name__ == '__main__':
    main()
