"""Names and shapes of every tensor of published models, from diffusers' classes built without data.

    python3 tests/gen/unet_shapes.py tests/golden        (torch, diffusers)

Writes unet/shapes-NAME.txt and vae/shapes-vae.txt. Line 1: the number of parameters; line 2: the config, with the keys that the published file has; then a
tensor a line, in name order: how many characters its name shares with the one before, the rest of the name, the dimensions."""
import json, os, sys
import torch, diffusers
from diffusers import UNet2DConditionModel, AutoencoderKL

diffusers.logging.set_verbosity_error()
C, D, CU, U = 'CrossAttnDownBlock2D', 'DownBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'
SD1 = dict(_class_name='UNet2DConditionModel', sample_size=64, in_channels=4, out_channels=4, center_input_sample=False, flip_sin_to_cos=True, freq_shift=0,
           down_block_types=[C, C, C, D], up_block_types=[U, CU, CU, CU], block_out_channels=[320, 640, 1280, 1280], layers_per_block=2, downsample_padding=1,
           mid_block_scale_factor=1, act_fn='silu', norm_num_groups=32, norm_eps=1e-5, cross_attention_dim=768, attention_head_dim=8)
SD2 = dict(SD1, sample_size=96, attention_head_dim=[5, 10, 20, 20], cross_attention_dim=1024, use_linear_projection=True, dual_cross_attention=False,
           num_class_embeds=None, only_cross_attention=False, upcast_attention=True)
XL = dict(SD2, sample_size=128, attention_head_dim=[5, 10, 20], block_out_channels=[320, 640, 1280], cross_attention_dim=2048, down_block_types=[D, C, C],
          up_block_types=[CU, CU, U], transformer_layers_per_block=[1, 2, 10], addition_embed_type='text_time', addition_embed_type_num_heads=64,
          addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816, class_embed_type=None, mid_block_type='UNetMidBlock2DCrossAttn',
          num_attention_heads=None, time_cond_proj_dim=None, resnet_out_scale_factor=1.0, resnet_skip_time_act=False, upcast_attention=None)
THREE = dict(block_out_channels=[320, 640, 1280], down_block_types=[C, C, C], up_block_types=[CU, CU, CU])
VAE = dict(_class_name='AutoencoderKL', act_fn='silu', block_out_channels=[128, 256, 512, 512], down_block_types=['DownEncoderBlock2D'] * 4, in_channels=3,
           latent_channels=4, layers_per_block=2, norm_num_groups=32, out_channels=3, sample_size=512, up_block_types=['UpDecoderBlock2D'] * 4)
MODELS = {
    'sd15': SD1,
    'sd21': SD2,
    'sdxl': XL,
    'ssd-1b': dict(XL, mid_block_type='UNetMidBlock2D', transformer_layers_per_block=[1, [2, 2], [4, 4]], reverse_transformer_layers_per_block=[[4, 4, 10], [2, 1, 1], 1]),
    'vega': dict(XL, mid_block_type='UNetMidBlock2D', transformer_layers_per_block=[1, [1, 1], [2, 2]], reverse_transformer_layers_per_block=[[2, 2, 2], [1, 1, 1], 1]),
    'bk-sdm-small': dict(SD1, layers_per_block=1, mid_block_type=None),
    'tiny-sd': dict(SD1, **THREE, layers_per_block=1, mid_block_type=None),
    'vae': VAE,
}


def main(folder):
    for name, config in MODELS.items():
        with torch.device('meta'):
            model = (AutoencoderKL if name == 'vae' else UNet2DConditionModel)(**{k: v for k, v in config.items() if k != '_class_name'})
        count, lines, before = sum(p.numel() for p in model.parameters()), [], ''
        for key, t in sorted(model.state_dict().items()):
            n = len(os.path.commonprefix([before, key]))
            lines.append(' '.join([str(n), key[n:], *map(str, t.shape)]))
            before = key
        with open(f'{folder}/{"vae" if name == "vae" else "unet"}/shapes-{name}.txt', 'w') as f:
            f.write(f'{count}\n{json.dumps(config)}\n' + '\n'.join(lines) + '\n')
        print(name, count, len(lines))


if __name__ == '__main__':
    main(sys.argv[1])
