"""Tiny random autoencoders of the shapes that configs and old files ask for, and what diffusers computes with them.

    python3 tests/gen/vae_variants.py tests/golden/vae        (torch, diffusers)

Writes NAME.json (config, tolerances) and NAME.safetensors: the weights (float16, exactly what the reference ran with), the
inputs decode.in (scaled latent) and encode.in (picture in [-1,1]), and decode.out, encode.mean, encode.logvar. Tolerance: 32
times the distance between float32 and float64 arithmetic, at most 2 % of the RMS, at least 2e-5 of it.

AutoencoderKL knows no shift_factor itself: pipelines compute latent / scaling_factor + shift_factor, and so does this."""
import json, math, os, sys
import torch, diffusers
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import save_file

diffusers.logging.set_verbosity_error()
torch.set_grad_enabled(False)
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def reinit(model, seed):
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        r = torch.randn(p.shape, generator=g)
        if p.ndim >= 2:
            r *= (2 if 'to_q' in name or 'to_k' in name else 1) / math.sqrt(p[0].numel())
        else:
            r = 1 + 0.2 * r if name.endswith('weight') else 0.1 * r
        p.copy_(r.half().float())
    return model.eval()


def run(model, dtype, x, tiled):
    c = model.config
    model = model.to(dtype)
    if tiled:
        model.enable_tiling()
    r = {'decode.out': model.decode(x['decode.in'].to(dtype) / c.scaling_factor + (c.shift_factor or 0)).sample.float()}
    if isinstance(model, AutoencoderTiny):
        r['encode.mean'] = model.encode(x['encode.in'].to(dtype)).latents.float() * c.scaling_factor
    else:
        d = model.encode(x['encode.in'].to(dtype)).latent_dist
        r.update({'encode.mean': d.mean.float(), 'encode.logvar': d.logvar.float()})
    model.float()
    return r


def tolerance(a, b):
    d, rms = (a.double() - b.double()).abs().max().item(), a.double().pow(2).mean().sqrt().item()
    return float('%.3g' % max(min(32 * d, 0.02 * rms), 2e-5 * rms))


def old_names(k, v):
    """attention as files of 2022 have it; its weights as 1x1 convolutions, as single files have them"""
    for new, old in (('to_q', 'query'), ('to_k', 'key'), ('to_v', 'value'), ('to_out.0', 'proj_attn')):
        if f'attentions.0.{new}.' in k:
            return k.replace(new, old), v[:, :, None, None] if v.ndim == 2 and 'encoder' in k else v
    return k, v


def original_names(k, v):
    """the decoder of a taesd_decoder.safetensors; the encoder is left out"""
    p = k.split('.')
    return (f'{int(p[2]) + 1}.' + '.'.join(p[3:]), v) if p[0] == 'decoder' else (None, v)


def kl(levels, **more):
    return dict(dict(_class_name='AutoencoderKL', block_out_channels=[4] * (levels - 1) + [8], down_block_types=['DownEncoderBlock2D'] * levels,
                up_block_types=['UpDecoderBlock2D'] * levels, norm_num_groups=2, layers_per_block=1, sample_size=64, scaling_factor=0.5), **more)


TINY = dict(_class_name='AutoencoderTiny', encoder_block_out_channels=[4] * 3, decoder_block_out_channels=[4] * 3, num_encoder_blocks=[1, 1, 2], num_decoder_blocks=[2, 1, 1])
CASES = {  # name: (config, latent height, width, naming, tiled)
    'bare': (kl(3, mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False, latent_channels=6, shift_factor=0.25), 5, 7, None, False),
    'old-names': (kl(2), 6, 5, old_names, False),
    'tiled': (kl(3, sample_size=32), 19, 13, None, True),
    'tiny': (dict(TINY, act_fn='silu', latent_channels=5), 6, 5, None, False),
    'tiny-original-names': (TINY, 5, 6, original_names, False),
}


def main(folder):
    os.makedirs(folder, exist_ok=True)
    for i, (name, (config, h, w, naming, tiled)) in enumerate(CASES.items()):
        cls = AutoencoderTiny if 'Tiny' in config['_class_name'] else AutoencoderKL
        model = reinit(cls(**{k: v for k, v in config.items() if k != '_class_name'}), 300 + i)
        f, L = 2 ** (len(model.config.block_out_channels) - 1), model.config.latent_channels
        g = torch.Generator().manual_seed(400 + i)
        x = {'decode.in': torch.randn(1, L, h, w, generator=g), 'encode.in': torch.rand(1, 3, h * f, w * f, generator=g) * 2 - 1}
        a, b = run(model, torch.float32, x, tiled), run(model, torch.float64, x, tiled)
        tensors = {}
        for k, v in model.state_dict().items():
            k, v = naming(k, v) if naming else (k, v)
            if k:
                tensors[k] = v.half()
        tensors.update(x)
        tensors.update(a)
        save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, f'{folder}/{name}.safetensors')
        os.chmod(f'{folder}/{name}.safetensors', 0o644)
        with open(f'{folder}/{name}.json', 'w') as out:
            json.dump({'versions': {'torch': torch.__version__.split('+')[0], 'diffusers': diffusers.__version__}, 'config': config, 'tolerance': {k: tolerance(a[k], b[k]) for k in a}}, out, indent=1)
            out.write('\n')
        print(name, {k: (list(v.shape), round(v.pow(2).mean().sqrt().item(), 3), tolerance(a[k], b[k])) for k, v in a.items()})


main(sys.argv[1])
