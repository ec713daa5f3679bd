/* layers.h - the two kinds of autoencoder; private to this folder. */
#ifndef DC_VAE_LAYERS_H
#define DC_VAE_LAYERS_H
#include "vae/vae.h"

/* One half of a model: encoder or decoder. */

/* ---- kl.c: AutoencoderKL ---- */
typedef struct kl_resnet {
    dc_param *norm1, *conv1, *norm2, *conv2, *shortcut;
} kl_resnet; /* shortcut: when in != out */
typedef struct kl_attention {
    dc_param *norm, *qkv, *out;
} kl_attention;
typedef struct kl_level {
    kl_resnet *resnets; /* owned */
    int n;
    dc_param *sampler; /* NULL on the last level */
} kl_level;
typedef struct kl_half {
    dc_param *conv_in, *norm_out, *conv_out, *quant; /* quant_conv or post_quant_conv, or NULL */
    kl_resnet mid[2];
    kl_attention attention;
    kl_level level[DC_VAE_LEVELS]; /* in the order they run */
} kl_half;

/* false: memory is out; the caller still frees. */
bool kl_bind_decoder(kl_half *m, dc_binder *b, const dc_vae_config *c);
bool kl_bind_encoder(kl_half *m, dc_binder *b, const dc_vae_config *c);
void kl_free(kl_half *m);
dc_tensor kl_decode(const kl_half *m, dc_run *r, const dc_vae_config *c, dc_tensor z, dc_vae_strips how);       /* [N,h,w,L] -> [N,h*f,w*f,3] */
dc_tensor kl_encode(const kl_half *m, dc_run *r, const dc_vae_config *c, dc_tensor picture, dc_vae_strips how); /* -> mean | logvar [N,h,w,2L] */

/* ---- tiny.c: AutoencoderTiny (TAESD) ---- */
typedef struct tiny_block {
    dc_param *conv0, *conv2, *conv4;
} tiny_block;
typedef struct tiny_level {
    dc_param *before;   /* encoder: the convolution that begins the level  */
    tiny_block *blocks; /* owned                                           */
    int n;
    dc_param *after; /* decoder: the convolution that ends the level    */
} tiny_level;
typedef struct tiny_half {
    dc_param *range; /* [-1,1] to [0,1] before the encoder, back behind the decoder */
    dc_param *conv;  /* encoder: the last convolution; decoder: the first           */
    tiny_level level[DC_VAE_LEVELS];
} tiny_half;

bool tiny_bind_decoder(tiny_half *m, dc_binder *b, dc_params *params, const dc_vae_config *c);
bool tiny_bind_encoder(tiny_half *m, dc_binder *b, dc_params *params, const dc_vae_config *c);
void tiny_free(tiny_half *m);
dc_tensor tiny_decode(const tiny_half *m, dc_run *r, const dc_vae_config *c, dc_tensor z);       /* [N,h,w,L] -> [N,h*f,w*f,3] */
dc_tensor tiny_encode(const tiny_half *m, dc_run *r, const dc_vae_config *c, dc_tensor picture); /* -> [N,h,w,L] */

#endif
