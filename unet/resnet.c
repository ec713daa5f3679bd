/* resnet.c - the residual block: two convolutions behind group norms, the time embedding between them. */
#include "unet/layers.h"
#include <string.h>

/* I: in (both inputs), O: out, T: time embedding. */
static const dc_bind resnet_binds[] = {
    {"norm1", offsetof(unet_resnet, norm1), "I", 0},
    {"conv1", offsetof(unet_resnet, conv1), "O I 3 3", DC_BIND_INT8},
    {"time_emb_proj", offsetof(unet_resnet, time), "O T", 0},
    {"norm2", offsetof(unet_resnet, norm2), "O", 0},
    {"conv2", offsetof(unet_resnet, conv2), "O O 3 3", DC_BIND_INT8},
    {"conv_shortcut", offsetof(unet_resnet, shortcut), "O I 1 1", DC_BIND_AS_LINEAR | DC_BIND_INT8}, /* only if I != O */
};

void unet_resnet_bind(unet_resnet *m, dc_binder *b, const dc_unet_config *c, const char *prefix, int index, int in, int out)
{
    /* In int8 the convolutions next to input and output would make most of its error: those of the outermost level stay exact. */
    dc_bind rows[sizeof resnet_binds / sizeof *resnet_binds];
    memcpy(rows, resnet_binds, sizeof rows);
    if (out == c->width[0])
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) rows[i].flags &= ~(unsigned)DC_BIND_INT8;
    dc_bind_layers(b, m, rows, in == out ? 5 : 6, (dc_dims){.I = in, .O = out, .T = c->time_dim}, "%s.resnets.%d", prefix, index);
}

dc_tensor unet_resnet_forward(const unet_resnet *m, const unet_pass *p, dc_tensor x, dc_tensor skip)
{
    dc_run *r = p->r;
    if (p->temb.dim[0] != 1 || !dc_is_none(skip)) x = unet_each_half(p, x), skip = unet_each_half(p, skip);
    const dc_pre in = {.x2 = skip, .norm = m->norm1, .groups = p->c->groups, .eps = p->c->norm_eps, .act = DC_ACT_SILU};
    const dc_pre mid = {.norm = m->norm2, .groups = p->c->groups, .eps = p->c->norm_eps, .act = DC_ACT_SILU};
    dc_tensor time = dc_linear(r, p->temb, m->time, (dc_linear_opt){0});
    dc_tensor h = dc_conv2d(r, x, m->conv1, (dc_conv_opt){.pre = in, .pad = {1, 1, 1, 1}, .add = time});
    dc_tensor res = m->shortcut ? dc_conv2d(r, x, m->shortcut, (dc_conv_opt){.pre.x2 = skip}) : x;
    return dc_conv2d(r, h, m->conv2, (dc_conv_opt){.pre = mid, .pad = {1, 1, 1, 1}, .residual = res});
}
