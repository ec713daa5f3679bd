/* layers.h - the parts of a UNet; private to this folder. Each has a table of its tensors (bind) and a forward that
 * reads like its paper. Tensors are channels-last: images [N,H,W,C], tokens [N,H*W,C]. */
#ifndef DC_UNET_LAYERS_H
#define DC_UNET_LAYERS_H
#include "unet/unet.h"

/* One forward under way: what every part needs of it. */
typedef struct unet_pass {
    dc_run *r;
    const dc_unet_config *c;
    int64_t n;                   /* N: images that come out; x has M of them: a fraction, as long as the parts of guidance are the same */
    dc_tensor temb;              /* [N,time_dim] or [1,time_dim], already SiLU'd: every resnet begins with that */
    dc_tensor context;           /* [N,T,context], or                                                         */
    const dc_tensor *text;       /* keys and values made of it before                                     */
    const dc_tensor *text_first; /* of the first images, when theirs have another length; or NULL   */
} unet_pass;

/* ---- unet.c ---- */
/* x [M,..] for each part: [N,..]; x itself when M is N. (A negative zero becomes a positive one.) */
dc_tensor unet_each_half(const unet_pass *p, dc_tensor x);
/* dc_tap with N images, whatever x has. */
void unet_tap(const unet_pass *p, const char *name, dc_tensor x);

/* ---- time.c ---- */
typedef struct unet_mlp {
    dc_param *linear_1, *linear_2, *cond;
} unet_mlp; /* cond: only with time_cond */
typedef struct unet_time {
    unet_mlp time, add;
} unet_time; /* add: only with text_time  */

void unet_time_bind(unet_time *m, dc_binder *b, const dc_unet_config *c);
/* Timestep, size, pooled text and guidance -> the time embedding after SiLU, [N,time_dim], or [1,time_dim] when they are the
 * same for all images. Ref: UNet2DConditionModel.get_time_embed, get_aug_embed. */
dc_tensor unet_time_forward(const unet_time *m, dc_run *r, const dc_unet_config *c, const dc_unet_in *in);

/* ---- resnet.c ---- */
typedef struct unet_resnet {
    dc_param *norm1, *conv1, *time, *norm2, *conv2, *shortcut;
} unet_resnet; /* shortcut: when in != out */

/* prefix: "down_blocks.0", "mid_block" */
void unet_resnet_bind(unet_resnet *m, dc_binder *b, const dc_unet_config *c, const char *prefix, int index, int in, int out);
/* x [M,H,W,I1], skip [M,H,W,I2] (joined behind x) or DC_NONE -> [M,H,W,O]; [N,H,W,O] when the time embedding is an image's own.
 * Ref: diffusers ResnetBlock2D. */
dc_tensor unet_resnet_forward(const unet_resnet *m, const unet_pass *p, dc_tensor x, dc_tensor skip);

/* ---- transformer.c ---- */
/* One BasicTransformerBlock. Self attention has q, k, v in one stacked layer (qkv1); with only_cross attn1 is q1 and kv1. */
typedef struct unet_layer {
    dc_param *norm1, *qkv1, *q1, *kv1, *out1;
    dc_param *norm2, *q2, *kv2, *out2;
    dc_param *norm3, *ff1, *ff2;
    int text; /* place of kv2's result among all keys and values of the text; kv1's has the next */
} unet_layer;
typedef struct unet_transformer {
    dc_param *norm, *proj_in, *proj_out;
    int heads, depth;
    unet_layer *layers; /* owned */
} unet_transformer;

/* false: memory is out; the caller still frees. */
bool unet_transformer_bind(unet_transformer *m, dc_binder *b, const dc_unet_config *c, const dc_unet_block *block, const char *prefix, int index,
                           int width);
void unet_transformer_free(unet_transformer *m);
/* Gives the layers' keys and values of the text places from `first` on; the first place behind them. */
int unet_transformer_number(unet_transformer *m, int first);
/* Those keys and values, [N,T,2 C] each, to their places in `text`. */
void unet_transformer_text_forward(const unet_transformer *m, dc_run *r, dc_tensor context, dc_tensor *text);
/* x [M,H,W,C] -> [N,H,W,C] (depth 0: [M,..]). Ref: diffusers Transformer2DModel (continuous input). */
dc_tensor unet_transformer_forward(const unet_transformer *m, const unet_pass *p, dc_tensor x);

#endif
