/* kl.c - AutoencoderKL: the VAE of Stable Diffusion. Ref: Rombach et al. 2021 (arXiv:2112.10752), app. E; diffusers
 * models/autoencoders/{autoencoder_kl,vae}.py. */
#include "base/checked.h"
#include "vae/layers.h"
#include <stdio.h>
#include <stdlib.h>

static const float EPS = 1e-6f; /* of every group norm; not in the config */

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

/* x [N,H,W,I] -> [N,H,W,O]. Ref: diffusers ResnetBlock2D without time embedding. */
static dc_tensor resnet(const kl_resnet *m, dc_run *r, const dc_vae_config *c, dc_tensor x)
{
    const dc_pre first = {.norm = m->norm1, .groups = c->groups, .eps = EPS, .act = DC_ACT_SILU};
    const dc_pre then = {.norm = m->norm2, .groups = c->groups, .eps = EPS, .act = DC_ACT_SILU};
    dc_tensor h = dc_conv2d(r, x, m->conv1, (dc_conv_opt){.pre = first, .pad = {1, 1, 1, 1}});
    dc_tensor res = m->shortcut ? dc_conv2d(r, x, m->shortcut, (dc_conv_opt){0}) : x;
    return dc_conv2d(r, h, m->conv2, (dc_conv_opt){.pre = then, .pad = {1, 1, 1, 1}, .residual = res});
}

/* Every pixel looks at every other, one head. x [N,H,W,C] -> [N,H,W,C]. */
static dc_tensor attention(const kl_attention *m, dc_run *r, const dc_vae_config *c, dc_tensor x)
{
    const dc_pre norm = {.norm = m->norm, .groups = c->groups, .eps = EPS};
    int64_t C = dc_channels(x);
    dc_tensor tokens = dc_view_tokens(x);
    dc_tensor qkv = dc_linear(r, tokens, m->qkv, (dc_linear_opt){.pre = norm});
    dc_tensor q = dc_view_channels(qkv, 0, C), k = dc_view_channels(qkv, C, C), v = dc_view_channels(qkv, 2 * C, C);
    dc_tensor h = dc_attention(r, q, k, v, (dc_attention_opt){.heads = 1});
    return dc_view_image(dc_linear(r, h, m->out, (dc_linear_opt){.residual = tokens}), x.dim[1], x.dim[2]);
}

static dc_tensor mid_block(const kl_half *m, dc_run *r, const dc_vae_config *c, dc_tensor x)
{
    dc_scope(r, "mid_block");
    x = resnet(&m->mid[0], r, c, x);
    if (c->mid_attention) {
        x = attention(&m->attention, r, c, x);
        dc_tap(r, "attentions.0", x);
    }
    x = resnet(&m->mid[1], r, c, x);
    dc_tap(r, "", x);
    dc_scope_end(r);
    return x;
}

/* Group norm, SiLU, convolution. */
static dc_tensor end(const kl_half *m, dc_run *r, const dc_vae_config *c, dc_tensor x)
{
    const dc_pre norm = {.norm = m->norm_out, .groups = c->groups, .eps = EPS, .act = DC_ACT_SILU};
    if (dc_tapping(r)) dc_tap(r, "conv_norm_out", dc_group_norm(r, x, m->norm_out, c->groups, EPS, DC_ACT_NONE)); /* before SiLU */
    x = dc_conv2d(r, x, m->conv_out, (dc_conv_opt){.pre = norm, .pad = {1, 1, 1, 1}});
    dc_tap(r, "conv_out", x);
    return x;
}

/* ---- the two ways --------------------------------------------------------------------------------------------------------- */

dc_tensor kl_decode(const kl_half *m, dc_run *r, const dc_vae_config *c, dc_tensor x)
{
    if (m->quant) x = dc_conv2d(r, x, m->quant, (dc_conv_opt){0});
    x = dc_conv2d(r, x, m->conv_in, (dc_conv_opt){.pad = {1, 1, 1, 1}});
    dc_tap(r, "conv_in", x);
    x = mid_block(m, r, c, x);
    for (int i = 0; i < c->levels; i++) {
        const kl_level *level = &m->level[i];
        dc_scope(r, "up_blocks.%d", i);
        for (int j = 0; j < level->n; j++) x = resnet(&level->resnets[j], r, c, x);
        const dc_pre twice = {.h = 2 * (int)x.dim[1], .w = 2 * (int)x.dim[2]};
        if (level->sampler) x = dc_conv2d(r, x, level->sampler, (dc_conv_opt){.pre = twice, .pad = {1, 1, 1, 1}});
        dc_tap(r, "", x);
        dc_scope_end(r);
    }
    return end(m, r, c, x);
}

dc_tensor kl_encode(const kl_half *m, dc_run *r, const dc_vae_config *c, dc_tensor x)
{
    x = dc_conv2d(r, x, m->conv_in, (dc_conv_opt){.pad = {1, 1, 1, 1}});
    dc_tap(r, "conv_in", x);
    for (int i = 0; i < c->levels; i++) {
        const kl_level *level = &m->level[i];
        dc_scope(r, "down_blocks.%d", i);
        for (int j = 0; j < level->n; j++) x = resnet(&level->resnets[j], r, c, x);
        /* TRAP: the encoder pads at the bottom and right only, the UNet on all sides. */
        if (level->sampler) x = dc_conv2d(r, x, level->sampler, (dc_conv_opt){.stride = 2, .pad = {0, 0, 1, 1}});
        dc_tap(r, "", x);
        dc_scope_end(r);
    }
    x = mid_block(m, r, c, x);
    x = end(m, r, c, x);
    return m->quant ? dc_conv2d(r, x, m->quant, (dc_conv_opt){0}) : x;
}
