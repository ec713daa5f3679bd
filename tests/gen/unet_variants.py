"""Tiny random UNets of every shape that a config can ask for, and what diffusers computes with them.

    python3 tests/gen/unet_variants.py tests/golden/unet        (torch, diffusers)

Writes NAME.json (config, tolerances) and NAME.safetensors: the weights (float16, exactly what the reference ran with),
in.* (float32), out and tap.MODULE. Tolerance: 32 times the distance between float32 and float64 arithmetic, at most 2 % of
the RMS, at least 2e-5 of it."""
import json, math, os, sys
import torch, diffusers
from diffusers import UNet2DConditionModel, LatentConsistencyModelPipeline
from safetensors.torch import save_file

diffusers.logging.set_verbosity_error()
torch.set_grad_enabled(False)
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def reinit(model, seed):
    """unit-size activations, strong attention; every value exact in float16"""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        r = torch.randn(p.shape, generator=g)
        if p.ndim >= 2:
            r *= (1.6 if any(s in name for s in ('to_q', 'to_k', 'time', 'add_embedding', 'cond_proj')) else 1) / math.sqrt(p[0].numel())
        else:
            r = 1 + 0.2 * r if name.endswith('weight') else 0.1 * r
        p.copy_(r.half().float())
    return model.eval()


def run(model, dtype, inputs, names):
    taps, hooks = {}, []
    for n, m in model.named_modules():
        if n in names:
            hooks.append(m.register_forward_hook(lambda mod, i, o, n=n: taps.__setitem__('tap.' + n, (o[0] if isinstance(o, tuple) else getattr(o, 'sample', o)).float())))
    model = model.to(dtype)
    kw = {'encoder_hidden_states': inputs['encoder_hidden_states'].to(dtype)}
    if 'time_ids' in inputs:
        kw['added_cond_kwargs'] = {'text_embeds': inputs['text_embeds'].to(dtype), 'time_ids': inputs['time_ids'].to(dtype)}
    if 'guidance' in inputs:
        w = inputs['guidance']
        kw['timestep_cond'] = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, w, embedding_dim=model.config.time_cond_proj_dim).to(dtype)
    out = model(inputs['sample'].to(dtype), inputs['timestep'], **kw).sample.float()
    for h in hooks:
        h.remove()
    model.float()
    return {'out': out, **taps}


def tolerance(a, b):
    d, rms = (a.double() - b.double()).abs().max().item(), a.double().pow(2).mean().sqrt().item()
    return float('%.3g' % max(min(32 * d, 0.02 * rms), 2e-5 * rms))


C, D, CU, U = 'CrossAttnDownBlock2D', 'DownBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'
BASE = dict(sample_size=8, block_out_channels=[4, 8], down_block_types=[C, D], up_block_types=[U, CU], layers_per_block=1, norm_num_groups=2,
            cross_attention_dim=6, attention_head_dim=2)
XL = dict(addition_embed_type='text_time', addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + 10, use_linear_projection=True)
CASES = {  # name: (config, batch, height, width, timesteps, all taps)
    'per-level': (dict(BASE, block_out_channels=[4, 8, 8], down_block_types=[C, C, D], up_block_types=[U, CU, CU], attention_head_dim=[1, 2, 4], use_linear_projection=True,
                       upcast_attention=True), 1, 6, 8, [601.0], True),
    'odd-size': (dict(BASE, block_out_channels=[4, 4, 8], down_block_types=[C, C, D], up_block_types=[U, CU, CU]), 2, 9, 7, [11.0, 951.5], False),
    'lcm': (dict(BASE, time_cond_proj_dim=8), 1, 6, 6, [759.0], False),
    'nested-depths': (dict(BASE, **XL, block_out_channels=[4, 4, 8], down_block_types=[D, C, C], up_block_types=[CU, CU, U], layers_per_block=2, attention_head_dim=[1, 2, 4],
                           transformer_layers_per_block=[1, [2, 1], [1, 2]], reverse_transformer_layers_per_block=[[2, 1, 3], [1, 1, 2], 1], mid_block_type='UNetMidBlock2D'), 2, 6, 8, [400.0], False),
    'no-mid': (dict(BASE, block_out_channels=[4, 4, 8], down_block_types=[C, C, C], up_block_types=[CU, CU, CU], mid_block_type=None, layers_per_block=[1, 2, 1]), 1, 5, 6, [1.0], False),
    'only-cross': (dict(BASE, block_out_channels=[4, 8, 8], down_block_types=[C, C, C], up_block_types=[CU, CU, CU], only_cross_attention=[True, False, True]), 1, 6, 6, [77.0], False),
    'eight-channels': (dict(BASE, in_channels=8, only_cross_attention=True), 2, 8, 6, [999.0], False),
    'kernels': (dict(BASE, downsample_padding=0, conv_in_kernel=5, conv_out_kernel=1, flip_sin_to_cos=False, freq_shift=1, time_embedding_dim=20, norm_eps=1e-2, act_fn='swish'), 1, 7, 9, [321.0], False),
}


def tapped(model, everything):
    tops = ('time_proj', 'time_embedding', 'add_embedding', 'conv_in', 'mid_block', 'conv_norm_out', 'conv_out')
    for n, _ in model.named_modules():
        p = n.split('.')
        if n in tops or (p[0] in ('down_blocks', 'up_blocks') and len(p) == 2) or (everything and p[-1] in ('attn1', 'attn2', 'ff')) or \
           (everything and len(p) in (3, 4) and p[-2] in ('resnets', 'attentions', 'downsamplers', 'upsamplers')):
            yield n


def main(folder):
    os.makedirs(folder, exist_ok=True)
    for i, (name, (config, n, h, w, t, everything)) in enumerate(CASES.items()):
        model = reinit(UNet2DConditionModel(**config), 100 + i)
        g = torch.Generator().manual_seed(200 + i)
        draw = lambda *shape: torch.randn(shape, generator=g).half().float()
        x = {'sample': draw(n, model.config.in_channels, h, w), 'timestep': torch.tensor(t), 'encoder_hidden_states': draw(n, 5, config['cross_attention_dim'])}
        if 'addition_embed_type' in config:
            x.update(text_embeds=draw(n, 10), time_ids=torch.tensor([[64., 48., 0., 8., 64., 48.]] * n))
        if 'time_cond_proj_dim' in config:
            x['guidance'] = torch.tensor([7.0])
        names = set(tapped(model, everything)) - ({'time_proj', 'time_embedding'} if len(t) < n else set())  # we keep one row for all images
        a, b = run(model, torch.float32, x, names), run(model, torch.float64, x, names)
        tensors = {k: v.half() for k, v in model.state_dict().items()}
        tensors.update({'in.' + k: v.float() for k, v in x.items()})
        tensors.update(a)
        save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, f'{folder}/{name}.safetensors')
        os.chmod(f'{folder}/{name}.safetensors', 0o644)
        full = {k: v for k, v in model.config.items() if not k.startswith('_') and k != 'decay'}
        with open(f'{folder}/{name}.json', 'w') as f:
            json.dump({'versions': {'torch': torch.__version__.split('+')[0], 'diffusers': diffusers.__version__}, 'config': {'_class_name': 'UNet2DConditionModel', **full},
                       'tolerance': {k: tolerance(a[k], b[k]) for k in a}}, f, indent=1)
            f.write('\n')
        print(name, sum(p.numel() for p in model.parameters()), 'rms', round(a['out'].pow(2).mean().sqrt().item(), 3), 'tolerance', tolerance(a['out'], b['out']))


main(sys.argv[1])
