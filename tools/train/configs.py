"""The shapes of the shipped model, as diffusers and transformers write them."""
LENGTH = 24             # tokens of a prompt
MERGES = 7678           # the first so many of CLIP's merges: a vocabulary of 8192

VAE = dict(in_channels=3, out_channels=3, latent_channels=4, block_out_channels=[32, 32, 64, 96], layers_per_block=1, norm_num_groups=8,
           down_block_types=['DownEncoderBlock2D'] * 4, up_block_types=['UpDecoderBlock2D'] * 4, act_fn='silu', sample_size=128, scaling_factor=1.0)

TEXT = dict(vocab_size=MERGES + 514, hidden_size=192, num_hidden_layers=4, num_attention_heads=3, intermediate_size=768, max_position_embeddings=LENGTH,
            hidden_act='quick_gelu', layer_norm_eps=1e-5, projection_dim=192, bos_token_id=MERGES + 512, eos_token_id=MERGES + 513, pad_token_id=MERGES + 513)

UNET = dict(sample_size=16, in_channels=4, out_channels=4, block_out_channels=[64, 128, 192], layers_per_block=1, norm_num_groups=16, cross_attention_dim=192,
            attention_head_dim=[2, 4, 6], down_block_types=['CrossAttnDownBlock2D'] * 3, up_block_types=['CrossAttnUpBlock2D'] * 3,
            mid_block_type='UNetMidBlock2DCrossAttn', act_fn='silu', flip_sin_to_cos=True, freq_shift=0, norm_eps=1e-5, use_linear_projection=True)

SCHEDULER = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear', prediction_type='v_prediction', clip_sample=False,
                 set_alpha_to_one=True, steps_offset=1, timestep_spacing='trailing', rescale_betas_zero_snr=True)

DEFAULTS = dict(steps=12, guidance_scale=1.5, sampler='ddim')

TINY = dict(in_channels=3, out_channels=3, encoder_block_out_channels=[24] * 4, decoder_block_out_channels=[24] * 4, num_decoder_blocks=[3, 3, 2, 1], latent_channels=4,
            scaling_factor=1.0)

CLIP = dict(projection_dim=128, logit_scale_init_value=2.66,
            text_config=dict(TEXT, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512, projection_dim=128),
            vision_config=dict(hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512, image_size=96, patch_size=24, projection_dim=128,
                               hidden_act='quick_gelu', layer_norm_eps=1e-5))
