/* vae.h - AutoencoderKL and AutoencoderTiny (TAESD). Ref: diffusers models/autoencoders/. */
#ifndef DC_VAE_VAE_H
#define DC_VAE_VAE_H
#include "backends/ops.h"
#include "base/json.h"
#include "weights/bind.h"

#define DC_VAE_LEVELS 8

typedef struct dc_vae_config {
    bool tiny; /* AutoencoderTiny                                                   */
    int image_channels, latent_channels, levels;
    int width[DC_VAE_LEVELS];                                         /* block_out_channels / encoder_block_out_channels                    */
    int decoder_width[DC_VAE_LEVELS];                                 /* tiny only; else as width                                           */
    int layers;                                                       /* layers_per_block                                                   */
    int encoder_blocks[DC_VAE_LEVELS], decoder_blocks[DC_VAE_LEVELS]; /* tiny: blocks per level             */
    int groups;
    bool quant_conv, post_quant_conv, mid_attention, force_upcast;
    double scaling_factor, shift_factor; /* model latent = (vae latent - shift) * scaling                      */
    dc_act act;                          /* tiny: act_fn (relu)                                                */
    int factor;                          /* pixels per latent: 2^(levels-1)                                    */
    int sample_size;                     /* picture size it was trained at: the tile of vae/tile.h             */
} dc_vae_config;
/* The class is decided by `_class_name`, or by the keys. Absent keys have diffusers' defaults. Errors: DATA. */
dc_status dc_vae_config_read(dc_vae_config *c, const json_t *root, const char *path, dc_error *e);

typedef struct dc_vae dc_vae;
/* encoder: also bind the encoding half (img2img, inpaint); else only what decoding needs must be in the file. The names may be
 * diffusers', old (attention query/key/value/proj_attn) or new, or those of the original taesd_decoder.safetensors.
 * Errors: DATA, one message with everything that is missing; NO_MEMORY. */
dc_status dc_vae_open(dc_vae **out, const dc_vae_config *c, const dc_weights *w, bool encoder, dc_device *d, const dc_log *log, dc_error *e);
void dc_vae_close(dc_vae *m);
dc_params *dc_vae_params(dc_vae *m);         /* the decoding half */
dc_params *dc_vae_encoder_params(dc_vae *m); /* NULL without encoder */
const dc_vae_config *dc_vae_configuration(const dc_vae *m);

/* latent [N,h,w,L] in the model's (scaled) units -> picture [N,h*f,w*f,3], about [-1,1], unclamped.
 * Taps: diffusers' module names below the scope "decoder" ("encoder" in dc_vae_encode). */
dc_tensor dc_vae_decode(const dc_vae *m, dc_run *r, dc_tensor latent);
/* picture [N,H,W,3] in [-1,1] -> mean and logvar (clamped to [-30,20] by the caller that samples) [N,h,w,L], unscaled VAE
 * units; for tiny: mean = the latent in model units, logvar = DC_NONE. */
typedef struct dc_vae_moments {
    dc_tensor mean, logvar;
} dc_vae_moments;
dc_vae_moments dc_vae_encode(const dc_vae *m, dc_run *r, dc_tensor picture);

/* The same bytes in less memory: in strips of rows, one picture at a time (N = 1). */
typedef struct dc_vae_strips {
    int rows;   /* latent rows of a strip; 0 (also when somebody taps): the picture as a whole */
    bool again; /* part of what could be kept is computed again: a third more work in decoding, a seventh in encoding */
} dc_vae_strips;
/* *s as it takes the next less memory (first {0}), for latents of h rows. False: there is none; none at all for AutoencoderTiny. */
bool dc_vae_next_strips(const dc_vae_config *c, int h, bool encode, dc_vae_strips *s);
dc_tensor dc_vae_decode_strips(const dc_vae *m, dc_run *r, dc_tensor latent, dc_vae_strips how);
dc_vae_moments dc_vae_encode_strips(const dc_vae *m, dc_run *r, dc_tensor picture, dc_vae_strips how);

#endif
