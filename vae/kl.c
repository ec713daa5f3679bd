/* kl.c - AutoencoderKL: the VAE of Stable Diffusion. Ref: Rombach et al. 2021 (arXiv:2112.10752), app. E; diffusers
 * models/autoencoders/{autoencoder_kl,vae}.py. */
#include "base/checked.h"
#include "vae/layers.h"
#include "vae/strips.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- tensors -------------------------------------------------------------------------------------------------------- */

/* I: in, O: out. */
static const dc_bind resnet_binds[] = {
    {"norm1", offsetof(kl_resnet, norm1), "I", 0},
    {"conv1", offsetof(kl_resnet, conv1), "O I 3 3", 0},
    {"norm2", offsetof(kl_resnet, norm2), "O", 0},
    {"conv2", offsetof(kl_resnet, conv2), "O O 3 3", 0},
    {"conv_shortcut", offsetof(kl_resnet, shortcut), "O I 1 1", DC_BIND_AS_LINEAR}, /* only if I != O */
};
/* C: width, Q: 3 C. */
static const dc_bind attention_binds[] = {
    {"group_norm", offsetof(kl_attention, norm), "C", 0},
    {"to_q|to_k|to_v", offsetof(kl_attention, qkv), "Q C", DC_BIND_AS_LINEAR},
    {"to_out.0", offsetof(kl_attention, out), "C C", DC_BIND_AS_LINEAR},
};
static const dc_bind old_attention_binds[] = {
    {"group_norm", offsetof(kl_attention, norm), "C", 0},
    {"query|key|value", offsetof(kl_attention, qkv), "Q C", DC_BIND_AS_LINEAR},
    {"proj_attn", offsetof(kl_attention, out), "C C", DC_BIND_AS_LINEAR},
};
static const dc_bind downsampler_bind = {"downsamplers.0.conv", offsetof(kl_level, sampler), "C C 3 3", 0};
static const dc_bind upsampler_bind = {"upsamplers.0.conv", offsetof(kl_level, sampler), "C C 3 3", 0};
/* I: in, O: out, S: width at the start, E: width at the end. */
static const dc_bind outer_binds[] = {
    {"conv_in", offsetof(kl_half, conv_in), "S I 3 3", 0},
    {"conv_norm_out", offsetof(kl_half, norm_out), "E", 0},
    {"conv_out", offsetof(kl_half, conv_out), "O E 3 3", 0},
};
static const dc_bind quant_bind = {"quant_conv", offsetof(kl_half, quant), "L L 1 1", DC_BIND_AS_LINEAR};
static const dc_bind post_quant_bind = {"post_quant_conv", offsetof(kl_half, quant), "L L 1 1", DC_BIND_AS_LINEAR};

static void bind_resnet(kl_resnet *m, dc_binder *b, const char *prefix, int index, int in, int out)
{
    dc_bind_layers(b, m, resnet_binds, in == out ? 4 : 5, (dc_dims){.I = in, .O = out}, "%s.resnets.%d", prefix, index);
}

static void bind_mid(kl_half *m, dc_binder *b, const dc_vae_config *c, const char *prefix)
{
    int width = c->width[c->levels - 1];
    bool old = dc_bind_has(b, "%s.attentions.0.query.weight", prefix);
    const dc_bind *rows = old ? old_attention_binds : attention_binds;
    for (int j = 0; j < 2; j++) bind_resnet(&m->mid[j], b, prefix, j, width, width);
    if (c->mid_attention) dc_bind_layers(b, &m->attention, rows, 3, (dc_dims){.C = width, .Q = 3 * width}, "%s.attentions.0", prefix);
}

static bool bind_level(kl_level *m, dc_binder *b, const char *prefix, int n, int in, int out, const dc_bind *sampler)
{
    m->n = n;
    m->resnets = dc_calloc((size_t)n, sizeof *m->resnets);
    if (!m->resnets) return false;
    for (int j = 0; j < n; j++) bind_resnet(&m->resnets[j], b, prefix, j, j ? out : in, out);
    if (sampler) dc_bind_layers(b, m, sampler, 1, (dc_dims){.C = out}, "%s", prefix);
    return true;
}

bool kl_bind_decoder(kl_half *m, dc_binder *b, const dc_vae_config *c)
{
    int last = c->levels - 1;
    if (c->post_quant_conv) dc_bind_layers(b, m, &post_quant_bind, 1, (dc_dims){.L = c->latent_channels}, "%s", "");
    dc_bind_layers(b, m, outer_binds, 3, (dc_dims){.I = c->latent_channels, .S = c->width[last], .E = c->width[0], .O = c->image_channels},
                   "decoder");
    bind_mid(m, b, c, "decoder.mid_block");
    for (int i = 0; i < c->levels; i++) {
        char prefix[48];
        snprintf(prefix, sizeof prefix, "decoder.up_blocks.%d", i);
        int at = last - i, in = c->width[i ? at + 1 : at];
        if (!bind_level(&m->level[i], b, prefix, c->layers + 1, in, c->width[at], at ? &upsampler_bind : NULL)) return false;
    }
    return true;
}

bool kl_bind_encoder(kl_half *m, dc_binder *b, const dc_vae_config *c)
{
    int last = c->levels - 1, moments = 2 * c->latent_channels;
    if (c->quant_conv) dc_bind_layers(b, m, &quant_bind, 1, (dc_dims){.L = moments}, "%s", "");
    dc_bind_layers(b, m, outer_binds, 3, (dc_dims){.I = c->image_channels, .S = c->width[0], .E = c->width[last], .O = moments}, "encoder");
    bind_mid(m, b, c, "encoder.mid_block");
    for (int i = 0; i < c->levels; i++) {
        char prefix[48];
        snprintf(prefix, sizeof prefix, "encoder.down_blocks.%d", i);
        if (!bind_level(&m->level[i], b, prefix, c->layers, c->width[i ? i - 1 : 0], c->width[i], i < last ? &downsampler_bind : NULL)) return false;
    }
    return true;
}

void kl_free(kl_half *m)
{
    for (int i = 0; i < DC_VAE_LEVELS; i++) free(m->level[i].resnets);
}

/* ---- layers ------------------------------------------------------------------------------------------------------------ */

static dc_tensor first_conv(const kl_resnet *m, dc_run *r, strips *x, int i, dc_pre norm)
{
    strips_need(r, x, i + 1);
    return strips_conv(r, x, i, m->conv1, (dc_conv_opt){.pre = norm, .pad = {1, 1, 1, 1}});
}

static dc_tensor residual(const kl_resnet *m, dc_run *r, const strips *x, int i)
{
    return m->shortcut ? dc_conv2d(r, x->at[i], m->shortcut, (dc_conv_opt){0}) : x->at[i];
}

/* x [N,H,W,I] -> [N,H,W,O]. Ref: diffusers ResnetBlock2D without time embedding.
 * In strips the second norm waits for the first convolution of all of them. Its strips, and the residual's, take the place of x's as these are
 * read; or (again) they are computed once for their sums and once more as they are needed, which leaves one activation: x, then y in its place. */
static void resnet(const kl_resnet *m, dc_run *r, const dc_vae_config *c, bool again, strips *x)
{
    const int n = x->n;
    const dc_pre first = strips_norm(r, x, m->norm1, c->groups);
    strips h = {.n = n, .height = x->height}, y = h;
    dc_tensor sums[MOST_STRIPS];
    again = again && n > 1;
    for (int i = 0; i < n; i++) {
        h.at[i] = first_conv(m, r, x, i, first);
        sums[i] = strips_sums(r, &h, i);
        if (!again) y.at[i] = residual(m, r, x, i);
    }
    const dc_pre then = strips_norm_of(r, &h, sums, m->norm2, c->groups);
    strips_rewind(x);
    for (int i = 0; i < n; i++) {
        for (int k = i ? i + 1 : 0; again && k <= i + 1 && k < n; k++) h.at[k] = first_conv(m, r, x, k, first);
        if (again) y.at[i] = residual(m, r, x, i);
        y.at[i] = strips_conv(r, &h, i, m->conv2, (dc_conv_opt){.pre = then, .pad = {1, 1, 1, 1}, .residual = y.at[i]});
    }
    *x = y;
}

static void upsample(const dc_param *k, dc_run *r, strips *x)
{
    strips y = {.n = x->n, .height = 2 * x->height};
    for (int i = 0; i < y.n; i++) y.at[i] = strips_up(r, x, i, k);
    *x = y;
}

/* TRAP: the encoder pads at the bottom and right only, the UNet on all sides. */
static void downsample(const dc_param *k, dc_run *r, strips *x)
{
    strips y = {.n = x->n, .height = x->height / 2};
    for (int i = 0; i < y.n; i++) y.at[i] = strips_conv(r, x, i, k, (dc_conv_opt){.stride = 2, .pad = {0, 0, 1, 1}});
    *x = y;
}

/* A whole activation; there are no strips when somebody taps. */
static void tap(dc_run *r, const char *name, const strips *x)
{
    if (x->n == 1) dc_tap(r, name, x->at[0]);
}

/* Every pixel looks at every other, one head. x [N,H,W,C] -> [N,H,W,C]. */
static dc_tensor attention(const kl_attention *m, dc_run *r, const dc_vae_config *c, dc_tensor x)
{
    const dc_pre norm = {.norm = m->norm, .groups = c->groups, .eps = KL_EPS};
    int64_t C = dc_channels(x);
    dc_tensor tokens = dc_view_tokens(x);
    dc_tensor qkv = dc_linear(r, tokens, m->qkv, (dc_linear_opt){.pre = norm});
    dc_tensor q = dc_view_channels(qkv, 0, C), k = dc_view_channels(qkv, C, C), v = dc_view_channels(qkv, 2 * C, C);
    dc_tensor h = dc_attention(r, q, k, v, (dc_attention_opt){.heads = 1});
    return dc_view_image(dc_linear(r, h, m->out, (dc_linear_opt){.residual = tokens}), x.dim[1], x.dim[2]);
}

static dc_tensor mid_block(const kl_half *m, dc_run *r, const dc_vae_config *c, dc_tensor whole)
{
    dc_scope(r, "mid_block");
    strips x = strips_cut(whole, 0);
    resnet(&m->mid[0], r, c, false, &x);
    if (c->mid_attention) {
        x.at[0] = attention(&m->attention, r, c, x.at[0]);
        tap(r, "attentions.0", &x);
    }
    resnet(&m->mid[1], r, c, false, &x);
    tap(r, "", &x);
    dc_scope_end(r);
    return x.at[0];
}

static void first(const kl_half *m, dc_run *r, strips *x)
{
    strips y = *x;
    for (int i = 0; i < x->n; i++) y.at[i] = strips_conv(r, x, i, m->conv_in, (dc_conv_opt){.pad = {1, 1, 1, 1}});
    tap(r, "conv_in", &y);
    *x = y;
}

/* Group norm, SiLU, convolution. */
static dc_tensor last(const kl_half *m, dc_run *r, const dc_vae_config *c, strips *x)
{
    strips y = *x;
    const dc_pre norm = strips_norm(r, x, m->norm_out, c->groups);
    if (dc_tapping(r)) dc_tap(r, "conv_norm_out", dc_group_norm(r, x->at[0], m->norm_out, c->groups, KL_EPS, DC_ACT_NONE)); /* before SiLU */
    for (int i = 0; i < x->n; i++) y.at[i] = strips_conv(r, x, i, m->conv_out, (dc_conv_opt){.pre = norm, .pad = {1, 1, 1, 1}});
    tap(r, "conv_out", &y);
    return strips_join(r, &y);
}

/* ---- the two ways --------------------------------------------------------------------------------------------------------- */

/* Once more in place of kept: the last level is the largest, and its first block has more channels to read than it puts out. */
dc_tensor kl_decode(const kl_half *m, dc_run *r, const dc_vae_config *c, dc_tensor z, dc_vae_strips how)
{
    if (m->quant) z = dc_conv2d(r, z, m->quant, (dc_conv_opt){0});
    strips low, x = strips_cut(z, 0);
    first(m, r, &x);
    x = strips_cut(mid_block(m, r, c, x.at[0]), how.rows);
    for (int i = 0; i < c->levels; i++) {
        const kl_level *level = &m->level[i];
        dc_scope(r, "up_blocks.%d", i);
        for (int j = 0; j < level->n; j++) resnet(&level->resnets[j], r, c, how.again && i + 1 == c->levels, &x);
        if (level->sampler && how.again && x.n > 1 && i + 2 == c->levels) {
            low = x;
            x = (strips){.n = low.n, .height = 2 * low.height, .low = &low, .up = level->sampler};
        } else if (level->sampler) {
            upsample(level->sampler, r, &x);
        }
        tap(r, "", &x);
        dc_scope_end(r);
    }
    return last(m, r, c, &x);
}

/* The first level is the largest, and its blocks keep their width. */
dc_tensor kl_encode(const kl_half *m, dc_run *r, const dc_vae_config *c, dc_tensor picture, dc_vae_strips how)
{
    strips x = strips_cut(picture, how.rows * c->factor);
    first(m, r, &x);
    for (int i = 0; i < c->levels; i++) {
        const kl_level *level = &m->level[i];
        dc_scope(r, "down_blocks.%d", i);
        for (int j = 0; j < level->n; j++) resnet(&level->resnets[j], r, c, how.again && i == 0, &x);
        if (level->sampler) downsample(level->sampler, r, &x);
        tap(r, "", &x);
        dc_scope_end(r);
    }
    x = strips_cut(mid_block(m, r, c, strips_join(r, &x)), 0);
    dc_tensor moments = last(m, r, c, &x);
    return m->quant ? dc_conv2d(r, moments, m->quant, (dc_conv_opt){0}) : moments;
}
