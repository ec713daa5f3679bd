/* encoder.h - the transformer layers that CLIP's text and picture towers are made of.
 * Ref: Radford et al. 2021; transformers CLIPEncoderLayer, open_clip ResidualAttentionBlock. */
#ifndef DC_CLIP_ENCODER_H
#define DC_CLIP_ENCODER_H
#include "backends/ops.h"
#include "base/json.h"
#include "weights/bind.h"

typedef struct dc_clip_layer {
    dc_param *norm1, *qkv, *out, *norm2, *fc1, *fc2;
} dc_clip_layer;

/* What the layers of a tower have in common. */
typedef struct dc_clip_block {
    int width, layers, heads, inner; /* 768, 12, 12, 3072 */
    float norm_eps;
    dc_act act; /* hidden_act: quick_gelu or gelu */
} dc_clip_block;

/* From a section of transformers' config.json: hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, layer_norm_eps,
 * hidden_act; what it does not say is as in *absent. Errors (sticky in f->e): DATA. */
void dc_clip_block_read(dc_clip_block *c, const dc_config *f, const dc_clip_block *absent);
/* The section `key` of a whole model's config.json, or root itself when it is a tower's own. Old files say it again under key_dict, which
 * wins. *inner: it is a section. Owned by root. */
const json_t *dc_clip_section(const json_t *root, const char *key, bool *inner);
bool dc_clip_has_architecture(const json_t *root, const char *name);

/* All layers below PREFIXencoder.layers. */
void dc_clip_layers_bind(dc_clip_layer *layers, const dc_clip_block *c, dc_binder *b, const char *prefix);
/* Pre-norm layer: x [N,T,C] -> [N,T,C]. causal: no token sees later ones. only (I32 [N], DC_NONE: all): the one token of each row that is
 * wanted: -> [N,1,C]; not with causal. */
dc_tensor dc_clip_layer_forward(const dc_clip_layer *m, const dc_clip_block *c, dc_run *r, dc_tensor x, bool causal, dc_tensor only);

#endif
