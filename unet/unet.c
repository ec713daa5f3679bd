/* unet.c - the whole network: down with skips, through the middle, up again. */
#include "unet/unet.h"
#include "unet/layers.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* The layers of one block. */
typedef struct unet_stage {
    unet_resnet resnets[DC_UNET_LAYERS];
    unet_transformer attentions[DC_UNET_LAYERS];
    dc_param *sampler; /* downsampler or upsampler; the last level of each direction has none */
} unet_stage;

enum { STAGES = 2 * DC_UNET_LEVELS + 1 };

struct dc_unet {
    dc_unet_config c;
    dc_params *params;
    unet_time time;
    dc_param *conv_in, *conv_norm_out, *conv_out;
    union {
        unet_stage all[STAGES]; /* those below, for what is done to each of them */
        struct {
            unet_stage down[DC_UNET_LEVELS], mid, up[DC_UNET_LEVELS];
        };
    };
    int texts; /* keys and values of the text */
};

/* ---- open and close ---------------------------------------------------------------------------------------------- */

/* I: in, O: out, T: top width, K and L: kernels. */
static const dc_bind outer_binds[] = {
    {"conv_in", offsetof(dc_unet, conv_in), "T I K K", 0},
    {"conv_norm_out", offsetof(dc_unet, conv_norm_out), "T", 0},
    {"conv_out", offsetof(dc_unet, conv_out), "O T L L", 0},
};
static const dc_bind downsampler_bind = {"downsamplers.0.conv", offsetof(unet_stage, sampler), "C C 3 3", DC_BIND_INT8};
static const dc_bind upsampler_bind = {"upsamplers.0.conv", offsetof(unet_stage, sampler), "C C 3 3", DC_BIND_INT8};

static bool bind_down(dc_unet *m, dc_binder *b, int i)
{
    const dc_unet_config *c = &m->c;
    const dc_unet_block *d = &c->down[i];
    unet_stage *s = &m->down[i];
    int in = c->width[i ? i - 1 : 0], out = c->width[i];
    bool fine = true;
    char prefix[32];
    snprintf(prefix, sizeof prefix, "down_blocks.%d", i);
    for (int j = 0; fine && j < d->resnets; j++) {
        unet_resnet_bind(&s->resnets[j], b, c, prefix, j, j ? out : in, out);
        if (d->attention) fine = unet_transformer_bind(&s->attentions[j], b, c, d, prefix, j, out);
    }
    if (i + 1 < c->levels) dc_bind_layers(b, s, &downsampler_bind, 1, (dc_dims){.C = out}, "%s", prefix);
    return fine;
}

/* The resnets of up block i take the skips of its level, last one first, and then the output of the level above. */
static bool bind_up(dc_unet *m, dc_binder *b, int i)
{
    const dc_unet_config *c = &m->c;
    const dc_unet_block *u = &c->up[i];
    unet_stage *s = &m->up[i];
    int at = c->levels - 1 - i, out = c->width[at];
    int below = c->width[i ? at + 1 : at], above = c->width[at ? at - 1 : 0];
    bool fine = true;
    char prefix[32];
    snprintf(prefix, sizeof prefix, "up_blocks.%d", i);
    for (int j = 0; fine && j < u->resnets; j++) {
        int x = j ? out : below, skip = j + 1 < u->resnets ? out : above;
        unet_resnet_bind(&s->resnets[j], b, c, prefix, j, x + skip, out);
        if (u->attention) fine = unet_transformer_bind(&s->attentions[j], b, c, u, prefix, j, out);
    }
    if (at) dc_bind_layers(b, s, &upsampler_bind, 1, (dc_dims){.C = out}, "%s", prefix);
    return fine;
}

static bool bind_mid(dc_unet *m, dc_binder *b)
{
    const dc_unet_config *c = &m->c;
    int width = c->width[c->levels - 1];
    for (int j = 0; j < c->mid.resnets; j++) unet_resnet_bind(&m->mid.resnets[j], b, c, "mid_block", j, width, width);
    return !c->mid.attention || unet_transformer_bind(&m->mid.attentions[0], b, c, &c->mid, "mid_block", 0, width);
}

static bool bind_all(dc_unet *m, dc_binder *b)
{
    const dc_unet_config *c = &m->c;
    const dc_dims dims = {.I = c->in_channels, .O = c->out_channels, .T = c->width[0], .K = c->conv_in_kernel, .L = c->conv_out_kernel};
    dc_bind_layers(b, m, outer_binds, 3, dims, "%s", "");
    unet_time_bind(&m->time, b, c);
    bool fine = bind_mid(m, b);
    for (int i = 0; fine && i < c->levels; i++) fine = bind_down(m, b, i) && bind_up(m, b, i);
    return fine;
}

static void number_texts(dc_unet *m)
{
    for (int i = 0; i < STAGES; i++)
        for (int j = 0; j < DC_UNET_LAYERS; j++) m->texts = unet_transformer_number(&m->all[i].attentions[j], m->texts);
}

dc_status dc_unet_open(dc_unet **out, const dc_unet_config *c, const dc_weights *w, dc_device *d, const dc_log *log, dc_error *e)
{
    *out = NULL;
    dc_unet *m = calloc(1, sizeof *m);
    if (!m) return dc_fail_memory(e, "unet", sizeof *m);
    m->c = *c;
    m->params = dc_params_new(d, "unet");
    dc_binder *b = m->params ? dc_binder_new(w, m->params, "unet") : NULL;
    dc_status s = b ? DC_OK : dc_fail_memory(e, "unet", 0);
    if (!s && !bind_all(m, b)) s = dc_fail_memory(e, "unet", 0);
    if (b) {
        dc_status bound = dc_binder_finish(b, log, e); /* frees b, so always */
        if (!s) s = bound;
    }
    if (!s) number_texts(m);
    if (!s) *out = m;
    else dc_unet_close(m);
    return s;
}

void dc_unet_close(dc_unet *m)
{
    if (!m) return;
    for (int i = 0; i < STAGES; i++)
        for (int j = 0; j < DC_UNET_LAYERS; j++) unet_transformer_free(&m->all[i].attentions[j]);
    dc_params_free(m->params);
    free(m);
}

dc_params *dc_unet_params(dc_unet *m) { return m->params; }
const dc_unet_config *dc_unet_configuration(const dc_unet *m) { return &m->c; }

/* ---- the text's part, once a prompt ------------------------------------------------------------------------------- */

int dc_unet_texts(const dc_unet *m) { return m->texts; }

void dc_unet_text_forward(const dc_unet *m, dc_run *r, dc_tensor context, dc_tensor *text)
{
    for (int i = 0; i < STAGES; i++)
        for (int j = 0; j < DC_UNET_LAYERS; j++) unet_transformer_text_forward(&m->all[i].attentions[j], r, context, text);
    for (int i = 0; i < m->texts; i++) {
        dc_keep(r, text[i]);
        text[i] = dc_borrow(text[i]);
    }
}

/* ---- forward -------------------------------------------------------------------------------------------------------- */

dc_tensor unet_each_half(const unet_pass *p, dc_tensor x)
{
    const int64_t n = x.dim[0];
    if (dc_is_none(x) || n == p->n) return x;
    x.dim[0] = p->n;
    dc_tensor each = dc_new(p->r, (dc_dtype)x.dtype, x.rank, x.dim);
    x.dim[0] = n;
    for (int64_t at = 0; at < p->n; at += n) dc_lincomb_into(p->r, dc_view_batch(each, at, n), &(dc_term){1, x}, 1);
    return each;
}

void unet_tap(const unet_pass *p, const char *name, dc_tensor x)
{
    if (dc_tapping(p->r)) dc_tap(p->r, name, unet_each_half(p, x));
}

/* The outputs of the way down, in order; the way up takes them back from the end. */
typedef struct skips {
    dc_tensor at[DC_UNET_LEVELS * DC_UNET_LAYERS + 1];
    int n;
} skips;

static void push(skips *s, dc_tensor x)
{
    assert(s->n < (int)(sizeof s->at / sizeof *s->at));
    s->at[s->n++] = x;
}

static dc_tensor pop(skips *s)
{
    assert(s->n > 0);
    return s->at[--s->n];
}

/* Resnet j of a block, and the transformer behind it if there is one. */
static dc_tensor layer_forward(const unet_stage *s, const unet_pass *p, int j, bool attention, dc_tensor x, dc_tensor skip)
{
    dc_scope(p->r, "resnets.%d", j);
    x = unet_resnet_forward(&s->resnets[j], p, x, skip);
    unet_tap(p, "", x);
    dc_scope_end(p->r);
    if (!attention) return x;
    dc_scope(p->r, "attentions.%d", j);
    x = unet_transformer_forward(&s->attentions[j], p, x);
    unet_tap(p, "", x);
    dc_scope_end(p->r);
    return x;
}

static dc_tensor downsample(const unet_stage *s, const unet_pass *p, dc_tensor x)
{
    int before = p->c->downsample_padding;
    dc_tensor y = dc_conv2d(p->r, x, s->sampler, (dc_conv_opt){.stride = 2, .pad = {before, before, 1, 1}});
    unet_tap(p, "downsamplers.0", y);
    return y;
}

/* TRAP: to the size of the next skip, not to twice its own: 9x7 went down to 5x4 and must come back as 9x7. */
static dc_tensor upsample(const unet_stage *s, const unet_pass *p, dc_tensor x, dc_tensor like)
{
    dc_pre to = {.h = (int)like.dim[1], .w = (int)like.dim[2]};
    dc_tensor y = dc_conv2d(p->r, x, s->sampler, (dc_conv_opt){.pre = to, .pad = {1, 1, 1, 1}});
    unet_tap(p, "upsamplers.0", y);
    return y;
}

static dc_tensor down_forward(const dc_unet *m, const unet_pass *p, int i, dc_tensor x, skips *skip)
{
    dc_scope(p->r, "down_blocks.%d", i);
    for (int j = 0; j < p->c->down[i].resnets; j++) {
        x = layer_forward(&m->down[i], p, j, p->c->down[i].attention, x, DC_NONE);
        push(skip, x);
    }
    if (i + 1 < p->c->levels) {
        x = downsample(&m->down[i], p, x);
        push(skip, x);
    }
    unet_tap(p, "", x);
    dc_scope_end(p->r);
    return x;
}

static dc_tensor mid_forward(const dc_unet *m, const unet_pass *p, dc_tensor x)
{
    if (!p->c->mid.resnets) return x;
    dc_scope(p->r, "mid_block");
    for (int j = 0; j < p->c->mid.resnets; j++) x = layer_forward(&m->mid, p, j, p->c->mid.attention && j == 0, x, DC_NONE);
    unet_tap(p, "", x);
    dc_scope_end(p->r);
    return x;
}

static dc_tensor up_forward(const dc_unet *m, const unet_pass *p, int i, dc_tensor x, skips *skip)
{
    dc_scope(p->r, "up_blocks.%d", i);
    for (int j = 0; j < p->c->up[i].resnets; j++) x = layer_forward(&m->up[i], p, j, p->c->up[i].attention, x, pop(skip));
    if (i + 1 < p->c->levels) x = upsample(&m->up[i], p, x, skip->at[skip->n - 1]);
    unet_tap(p, "", x);
    dc_scope_end(p->r);
    return x;
}

dc_tensor dc_unet_forward(const dc_unet *m, dc_run *r, dc_unet_in in)
{
    const dc_unet_config *c = &m->c;
    unet_pass p = {.r = r, .c = c, .n = in.n ? in.n : in.x.dim[0], .context = in.context, .text = in.text, .text_first = in.text_first};
    assert(!dc_run_ok(r) || p.n % in.x.dim[0] == 0);
    skips skip = {.n = 0};
    p.temb = unet_time_forward(&m->time, r, c, &in);

    int k = c->conv_in_kernel / 2;
    dc_tensor x = dc_conv2d(r, in.x, m->conv_in, (dc_conv_opt){.pre.x2 = in.extra, .pad = {k, k, k, k}});
    unet_tap(&p, "conv_in", x);
    push(&skip, x);

    for (int i = 0; i < c->levels; i++) x = down_forward(m, &p, i, x, &skip);
    x = mid_forward(m, &p, x);
    for (int i = 0; i < c->levels; i++) x = up_forward(m, &p, i, x, &skip);

    const dc_pre norm = {.norm = m->conv_norm_out, .groups = c->groups, .eps = c->norm_eps, .act = DC_ACT_SILU};
    if (dc_tapping(r)) unet_tap(&p, "conv_norm_out", dc_group_norm(r, x, norm.norm, norm.groups, norm.eps, DC_ACT_NONE)); /* before SiLU */
    k = c->conv_out_kernel / 2;
    x = dc_conv2d(r, x, m->conv_out, (dc_conv_opt){.pre = norm, .pad = {k, k, k, k}});
    unet_tap(&p, "conv_out", x);
    return unet_each_half(&p, x); /* still one part: there was no text to look at */
}
