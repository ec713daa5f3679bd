/* tiny.c - AutoencoderTiny, known as TAESD: a distilled VAE of plain 3x3 convolutions, for previews and small memory.
 * Ref: diffusers models/autoencoders/{autoencoder_tiny,vae}.py; github.com/madebyollin/taesd. */
#include "base/checked.h"
#include "vae/layers.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- tensors: a numbered sequence of layers --------------------------------------------------------------------------- */

/* Where we are in the sequence. diffusers numbers "decoder.layers.0"; the original files hold one half each, without a
 * prefix, and their decoder begins with the clamp as number 0. */
typedef struct sequence {
    dc_binder *b;
    const char *prefix;
    int index;
} sequence;

static sequence begin(dc_binder *b, const char *prefix, int original_first)
{
    bool original = !dc_bind_has(b, "%s0.weight", prefix) && dc_bind_has(b, "%d.weight", original_first);
    return original ? (sequence){b, "", original_first} : (sequence){b, prefix, 0};
}

/* C: width. */
static const dc_bind block_binds[] = {
    {"conv.0", offsetof(tiny_block, conv0), "C C 3 3", 0},
    {"conv.2", offsetof(tiny_block, conv2), "C C 3 3", 0},
    {"conv.4", offsetof(tiny_block, conv4), "C C 3 3", 0},
};

static bool bind_blocks(tiny_level *m, sequence *s, int n, int width)
{
    m->n = n;
    m->blocks = dc_calloc((size_t)n, sizeof *m->blocks);
    if (!m->blocks) return false;
    for (int j = 0; j < n; j++) dc_bind_layers(s->b, &m->blocks[j], block_binds, 3, (dc_dims){.C = width}, "%s%d", s->prefix, s->index++);
    return true;
}

static void bind_conv(dc_param **conv, sequence *s, int in, int out, bool bias)
{
    const dc_bind row = {"", 0, "O I 3 3", bias ? 0 : DC_BIND_NO_BIAS};
    dc_bind_layers(s->b, conv, &row, 1, (dc_dims){.I = in, .O = out}, "%s%d", s->prefix, s->index++);
}

/* y = scale x + shift for colour channels, as a layer of three. */
static dc_param *range_layer(dc_params *params, const float weight[9], const float bias[3])
{
    return dc_params_add(params, &(dc_param_desc){.name = "taesd: range",
                                                  .kind = DC_PARAM_LINEAR,
                                                  .out = 3,
                                                  .in = 3,
                                                  .kh = 1,
                                                  .kw = 1,
                                                  .n_weight = 1,
                                                  .n_bias = 1,
                                                  .weight = {{weight, DC_F32, 3}},
                                                  .bias = {{bias, DC_F32, 3}}});
}

bool tiny_bind_decoder(tiny_half *m, dc_binder *b, dc_params *params, const dc_vae_config *c)
{
    static const float twice[9] = {2, 0, 0, 0, 2, 0, 0, 0, 2}, minus_one[3] = {-1, -1, -1};
    sequence s = begin(b, "decoder.layers.", 1);
    bind_conv(&m->conv, &s, c->latent_channels, c->decoder_width[0], true);
    s.index++; /* the activation */
    for (int i = 0; i < c->levels; i++) {
        bool last = i + 1 == c->levels;
        int width = c->decoder_width[i];
        if (!bind_blocks(&m->level[i], &s, c->decoder_blocks[i], width)) return false;
        s.index += !last; /* the upsampling */
        bind_conv(&m->level[i].after, &s, width, last ? c->image_channels : width, last);
    }
    m->range = range_layer(params, twice, minus_one);
    return m->range != NULL;
}

bool tiny_bind_encoder(tiny_half *m, dc_binder *b, dc_params *params, const dc_vae_config *c)
{
    static const float half[9] = {0.5f, 0, 0, 0, 0.5f, 0, 0, 0, 0.5f}, plus_half[3] = {0.5f, 0.5f, 0.5f};
    sequence s = begin(b, "encoder.layers.", 0);
    for (int i = 0; i < c->levels; i++) {
        int width = c->width[i];
        bind_conv(&m->level[i].before, &s, i ? width : c->image_channels, width, i == 0);
        if (!bind_blocks(&m->level[i], &s, c->encoder_blocks[i], width)) return false;
    }
    bind_conv(&m->conv, &s, c->width[c->levels - 1], c->latent_channels, true);
    m->range = range_layer(params, half, plus_half);
    return m->range != NULL;
}

void tiny_free(tiny_half *m)
{
    for (int i = 0; i < DC_VAE_LEVELS; i++) free(m->level[i].blocks);
}

/* ---- forward -------------------------------------------------------------------------------------------------------------- */

static const dc_conv_opt SAME3 = {.pad = {1, 1, 1, 1}};

/* Three convolutions and the input, then ReLU whatever act_fn says. Ref: diffusers AutoencoderTinyBlock. */
static dc_tensor block(const tiny_block *m, dc_run *r, dc_act act, dc_tensor x)
{
    dc_conv_opt inner = SAME3, last = SAME3;
    inner.act = act;
    last.residual = x;
    last.act = DC_ACT_RELU;
    dc_tensor h = dc_conv2d(r, x, m->conv0, inner);
    h = dc_conv2d(r, h, m->conv2, inner);
    return dc_conv2d(r, h, m->conv4, last);
}

dc_tensor tiny_decode(const tiny_half *m, dc_run *r, const dc_vae_config *c, dc_tensor z)
{
    dc_conv_opt first = SAME3;
    first.act = c->act;
    dc_tensor x = dc_conv2d(r, dc_activate(r, z, DC_ACT_TANH3), m->conv, first);
    for (int i = 0; i < c->levels; i++) {
        const tiny_level *level = &m->level[i];
        for (int j = 0; j < level->n; j++) x = block(&level->blocks[j], r, c->act, x);
        dc_conv_opt after = SAME3;
        if (i + 1 < c->levels) after.pre = (dc_pre){.h = 2 * (int)x.dim[1], .w = 2 * (int)x.dim[2]};
        x = dc_conv2d(r, x, level->after, after);
    }
    return dc_linear(r, x, m->range, (dc_linear_opt){0});
}

dc_tensor tiny_encode(const tiny_half *m, dc_run *r, const dc_vae_config *c, dc_tensor picture)
{
    dc_tensor x = dc_linear(r, picture, m->range, (dc_linear_opt){0});
    for (int i = 0; i < c->levels; i++) {
        const tiny_level *level = &m->level[i];
        dc_conv_opt before = SAME3;
        before.stride = i ? 2 : 1;
        x = dc_conv2d(r, x, level->before, before);
        for (int j = 0; j < level->n; j++) x = block(&level->blocks[j], r, c->act, x);
    }
    return dc_conv2d(r, x, m->conv, SAME3);
}
