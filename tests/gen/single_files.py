"""Published models as one file: the names and shapes of every tensor in CompVis' and open_clip's spelling, beside what diffusers makes of them.

    python3 tests/gen/single_files.py tests/golden        (torch, diffusers, transformers)

Writes weights/file-NAME.json.gz: {"file": {name: shape}, "parts": {folder: {"config": {..}, "tensors": {name: shape}}}}. The spelling is written here
(from CompVis' openaimodel.py and diffusionmodules/model.py, open_clip's transformer.py) and held against diffusers' own converters: what they make of the
file must be the state of the class, name by name and shape by shape, and (the fused ones too) from the right place."""
import gzip, json, os, sys
import torch, diffusers
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as official
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
sys.path.insert(0, os.path.dirname(__file__))
from unet_shapes import MODELS

diffusers.logging.set_verbosity_error()

CLIP_L = dict(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=77,
              hidden_act='quick_gelu', projection_dim=768, eos_token_id=49407)
CLIP_H = dict(CLIP_L, hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act='gelu', projection_dim=1024)
CLIP_G = dict(CLIP_L, hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, hidden_act='gelu', projection_dim=1280)
RESNET = {'norm1': 'in_layers.0', 'conv1': 'in_layers.2', 'time_emb_proj': 'emb_layers.1', 'norm2': 'out_layers.0', 'conv2': 'out_layers.3',
          'conv_shortcut': 'skip_connection'}
UNET_TOP = {'time_embedding.linear_1': 'time_embed.0', 'time_embedding.linear_2': 'time_embed.2', 'conv_in': 'input_blocks.0.0', 'conv_norm_out': 'out.0',
            'conv_out': 'out.2', 'add_embedding.linear_1': 'label_emb.0.0', 'add_embedding.linear_2': 'label_emb.0.2'}


def compvis_unet(state, layers):
    """Counts blocks as UNetModel.__init__ does: input block 0 is conv_in; a level is its layers and its downsampler."""
    out, levels = {}, 1 + max(int(k.split('.')[1]) for k in state if k.startswith('down_blocks.'))
    for key, t in state.items():
        stem, leaf = key.rsplit('.', 1)
        p = key.split('.')
        if stem in UNET_TOP:
            name = UNET_TOP[stem]
        elif p[0] == 'mid_block':
            name = f'middle_block.{2 * int(p[2])}.' + RESNET[p[3]] if p[1] == 'resnets' else 'middle_block.1.' + '.'.join(p[3:-1])
        else:
            level, kind, i, down = int(p[1]), p[2], int(p[3]), p[0] == 'down_blocks'
            block = 1 + level * (layers + 1) + i if down else level * (layers + 1) + i
            if kind == 'resnets':
                name = f'{block}.0.' + RESNET[p[4]]
            elif kind == 'attentions':
                name = f'{block}.1.' + '.'.join(p[4:-1])
            elif down:
                name = f'{block + layers}.0.op'
            else:
                attends = any(k.startswith(f'up_blocks.{level}.attentions') for k in state)
                name = f'{block + layers}.{2 if attends else 1}.conv'
            name = ('input_blocks.' if down else 'output_blocks.') + name
        assert f'{name}.{leaf}' not in out
        out[f'{name}.{leaf}'] = t
    return out


def compvis_vae(state, levels=4):
    out = {}
    for key, t in state.items():
        p = key.split('.')
        name = key
        if p[1:2] == ['mid_block']:
            inside = '.'.join(p[4:]) if p[2] == 'resnets' else '.'.join(p[4:]).replace('group_norm', 'norm').replace('to_out.0', 'proj_out').replace('to_', '')
            name = f'{p[0]}.mid.' + (f'block_{int(p[3]) + 1}.' if p[2] == 'resnets' else 'attn_1.') + inside
            t = t[:, :, None, None] if p[2] != 'resnets' and t.ndim == 2 else t
        elif p[1:2] == ['down_blocks'] or p[1:2] == ['up_blocks']:
            side = p[1][:-7]
            level = int(p[2]) if side == 'down' else levels - 1 - int(p[2])
            name = f'{p[0]}.{side}.{level}.' + (f'block.{p[4]}.' + '.'.join(p[5:]) if p[3] == 'resnets' else f'{side}sample.conv.{p[-1]}')
        out[name.replace('conv_norm_out', 'norm_out').replace('conv_shortcut', 'nin_shortcut')] = t
    return out


def open_clip(state, layers):
    """layers: the file's, of which the class may have fewer."""
    out = {'logit_scale': torch.zeros(())}
    get = lambda k: state[k]
    width = get('text_model.embeddings.position_embedding.weight').shape[1]
    out['token_embedding.weight'] = get('text_model.embeddings.token_embedding.weight')
    out['positional_embedding'] = get('text_model.embeddings.position_embedding.weight')
    for leaf in ('weight', 'bias'):
        out[f'ln_final.{leaf}'] = get(f'text_model.final_layer_norm.{leaf}')
    out['text_projection'] = state['text_projection.weight'].T if 'text_projection.weight' in state else torch.zeros(width, width)
    names = {'ln_1': 'layer_norm1', 'ln_2': 'layer_norm2', 'mlp.c_fc': 'mlp.fc1', 'mlp.c_proj': 'mlp.fc2', 'attn.out_proj': 'self_attn.out_proj'}
    for i in range(layers):
        of = f'text_model.encoder.layers.{min(i, layers - 1 if f"text_model.encoder.layers.{layers - 1}.mlp.fc1.weight" in state else layers - 2)}.'
        for leaf in ('weight', 'bias'):
            for old, new in names.items():
                out[f'transformer.resblocks.{i}.{old}.{leaf}'] = get(f'{of}{new}.{leaf}')
            out[f'transformer.resblocks.{i}.attn.in_proj_{leaf}'] = torch.cat([get(f'{of}self_attn.{x}_proj.{leaf}') for x in 'qkv'])
    return out


def build(cls, config):
    with torch.device('meta'):
        return cls(**{k: v for k, v in config.items() if k != '_class_name'}) if cls in (UNet2DConditionModel, AutoencoderKL) else cls(CLIPTextConfig(**config))


def text_state(model):
    state = {k: t for k, t in model.state_dict().items() if not k.endswith('position_ids')}
    return state if any(k.startswith('text_model.') for k in state) else {k if k.startswith('text_projection') else 'text_model.' + k: t for k, t in state.items()}


def shapes(state):
    return {k: list(t.shape) for k, t in sorted(state.items())}


def same(made, state, what):
    made = {k: v for k, v in made.items() if not k.endswith('position_ids')}
    a, b = {k: tuple(v.shape) for k, v in made.items()}, {k: tuple(v.shape) for k, v in state.items()}
    assert a.keys() == b.keys(), (what, sorted(a.keys() ^ b.keys())[:5])
    for k in a:
        assert torch.Size(a[k]).numel() == torch.Size(b[k]).numel(), (what, k, a[k], b[k])


def one(name, folder):
    config = MODELS[name]
    xl, two = 'addition_embed_type' in config, config['cross_attention_dim'] == 1024
    unet, vae = build(UNet2DConditionModel, config), build(AutoencoderKL, MODELS['vae'])
    parts = {'unet': (config, unet.state_dict()), 'vae': (dict(MODELS['vae'], scaling_factor=0.13025 if xl else 0.18215), vae.state_dict())}
    file = {'model.diffusion_model.' + k: t for k, t in compvis_unet(unet.state_dict(), config['layers_per_block']).items()}
    if name in ('sd15', 'sd21', 'sdxl'):  # its converter knows no others
        same(official.convert_ldm_unet_checkpoint(dict(file), dict(unet.config)), unet.state_dict(), 'unet')
    file |= {'first_stage_model.' + k: t for k, t in compvis_vae(vae.state_dict()).items()}
    same(official.convert_ldm_vae_checkpoint(dict(file), dict(vae.config)), vae.state_dict(), 'vae')
    position_ids = torch.zeros(1, 77, dtype=torch.int64)
    if two:
        text = text_state(build(CLIPTextModel, CLIP_H))
        parts['text_encoder'] = (CLIP_H, text)
        file |= {'cond_stage_model.model.' + k: t for k, t in open_clip(text, 24).items()}
    else:
        prefix = 'conditioner.embedders.0.transformer.' if xl else 'cond_stage_model.transformer.'
        text = text_state(build(CLIPTextModel, CLIP_L))
        parts['text_encoder'] = (CLIP_L, text)
        file |= {prefix + k: t for k, t in text.items()} | {prefix + 'text_model.embeddings.position_ids': position_ids}
        same(official.convert_ldm_clip_checkpoint(dict(file)), text, 'clip')
    if xl:
        model = build(CLIPTextModelWithProjection, CLIP_G)
        text = text_state(model)
        parts['text_encoder_2'] = (dict(CLIP_G, architectures=['CLIPTextModelWithProjection']), text)
        file |= {'conditioner.embedders.1.model.' + k: t for k, t in open_clip(text, 32).items()}
        real = {k: torch.zeros(t.shape) if k.startswith('conditioner.embedders.1.') and t.numel() < 1 << 24 else t for k, t in file.items()}
        made = official.convert_open_clip_checkpoint(model, real, prefix='conditioner.embedders.1.model.')
        fix = lambda k: k if k.startswith('text_') else 'text_model.encoder.' + k if k.startswith('layers') else k
        same({fix(k): v for k, v in made.items()}, text, 'open_clip')
    file |= {'alphas_cumprod': torch.zeros(1000)} | ({} if xl else {'model_ema.decay': torch.zeros(()), 'model_ema.num_updates': torch.zeros(())})
    out = {'file': shapes(file), 'parts': {k: {'config': c, 'tensors': shapes(s)} for k, (c, s) in sorted(parts.items())}}
    with gzip.GzipFile(f'{folder}/weights/file-{name}.json.gz', 'wb', 9, mtime=0) as f:
        f.write(json.dumps(out, separators=(',', ':')).encode())
    print(name, len(file), {k: len(s) for k, (_, s) in parts.items()})


for each in ('sd15', 'sd21', 'sdxl', 'ssd-1b', 'tiny-sd'):
    one(each, sys.argv[1])
