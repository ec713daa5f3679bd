"""Optional stage 0: begin from the 64x64 model that was the default before. start.py --from FOLDER --run R; writes R/vae.pt and R/unet-start.pt.

Both models have 16x16 latents: f4 of 64 pixels there, f8 of 128 here. The autoencoder gets one more level on the outside, which begins as
halving and doubling the picture, so its latents are those of the old one and the old UNet and text tower are a start for the new ones."""
import argparse
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
import common
import configs
import unet


def widen(old):
    """The state of the f8 autoencoder from the f4 one's: level i becomes level i + 1 of the encoder, level i of the decoder."""
    new = AutoencoderKL(**configs.VAE).state_dict()
    for k, v in old.items():
        k = k.replace('.mid_block.attentions.0.query.', '.mid_block.attentions.0.to_q.')
        if k.startswith('encoder.down_blocks.'):
            i = int(k.split('.')[2])
            k = k.replace(f'down_blocks.{i}.', f'down_blocks.{i + 1}.', 1)
        if not k.startswith('encoder.conv_in.'):
            assert new[k].shape == v.shape, k
            new[k] = v.float()
    # Encoder: conv_in takes the 3x3 neighbours apart (27 of its 32 channels), and the new level's halving convolution puts them together as the old
    # conv_in did on pixels of 2x2; of its 6 rows of pixels the first falls outside the 5 that are reached, so its weight goes to the second.
    w, first, half = old['encoder.conv_in.weight'].float(), new['encoder.conv_in.weight'].zero_(), new['encoder.down_blocks.0.downsamplers.0.conv.weight'].zero_()
    new['encoder.conv_in.bias'].zero_()
    for c in range(3):
        for y in range(3):
            for x in range(3):
                first[c * 9 + y * 3 + x, c, y, x] = 1
    for oy in range(6):
        for ox in range(6):
            py, px = max(oy, 1) - 1, max(ox, 1) - 1                 # place among the 5x5 pixels that two 3x3 kernels reach
            ty, tx = min(py, 2), min(px, 2)                         # tap of the halving convolution, and the neighbour there
            half[:, [c * 9 + (py - ty) * 3 + px - tx for c in range(3)], ty, tx] += w[:, :, oy // 2, ox // 2] / 4
    new['encoder.down_blocks.0.downsamplers.0.conv.bias'] = old['encoder.conv_in.bias'].float()
    up = new['decoder.up_blocks.2.upsamplers.0.conv.weight'].zero_()
    up[range(len(up)), range(len(up)), 1, 1] = 1
    new['decoder.up_blocks.2.upsamplers.0.conv.bias'].zero_()
    for k in new:                                                   # the new residual blocks begin silent
        if k.startswith(('encoder.down_blocks.0.resnets', 'decoder.up_blocks.3.resnets')) and 'conv2' in k:
            new[k].zero_()
    return new


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--from', dest='source', required=True)
    p.add_argument('--run', default='run')
    a = p.parse_args()
    common.machine(0)
    common.save(f'{a.run}/vae.pt', dict(ema=widen(load_file(f'{a.source}/vae/diffusion_pytorch_model.safetensors'))))
    pair, state = unet.Pair(), {}
    own = pair.state_dict()
    text = load_file(f'{a.source}/text_encoder/model.safetensors')
    for k, v in load_file(f'{a.source}/unet/diffusion_pytorch_model.safetensors').items():
        state[f'unet.{k}'] = v.float().view(own[f'unet.{k}'].shape)         # 1x1 convolutions there are linear layers here
    for k, v in text.items():
        k = f'text.{k}' if f'text.{k}' in own else f"text.{k.removeprefix('text_model.')}"
        state[k] = v.float()
    left = [k for k in own if k not in state and not k.endswith('position_ids')]
    assert not left, left
    common.save(f'{a.run}/unet-start.pt', state)


if __name__ == '__main__':
    main()
