/* cases_run.c - a case as parameters and a pass, on any device. */
#include "backends/cases.h"
#include <math.h>
#include <string.h>

typedef struct job {
    const dc_case *c;
    dc_param *k, *norm, *positions, *maker[4];
    float *out;
    dc_stats stats;
    uint8_t *bytes; /* to_rgb8: where its result is, in `out` itself */
} job;

/* ---- parameters ------------------------------------------------------------------------------------------------------ */

static dc_param *add_param(dc_params *set, const char *name, dc_param_kind kind, int64_t out, int64_t in, dc_dtype type, const void *weight,
                           const void *bias)
{
    return dc_params_add(set, &(dc_param_desc){.name = name,
                                               .kind = kind,
                                               .out = (int)out,
                                               .in = (int)in,
                                               .kh = 1,
                                               .kw = 1,
                                               .n_weight = 1,
                                               .n_bias = bias ? 1 : 0,
                                               .weight = {{weight, type, out, 0}},
                                               .bias = {{bias, type, out, 0}}});
}

/* The weight in `parts` sources, one behind the other. */
static dc_param *add_matrix(dc_params *set, const dc_case *c)
{
    const bool conv = c->kind == DC_CASE_CONV || c->kind == DC_CASE_STRIPS;
    dc_param_desc d = {.name = "k",
                       .kind = conv ? DC_PARAM_CONV : DC_PARAM_LINEAR,
                       .out = (int)c->o,
                       .in = (int)(c->c + c->c2),
                       .kh = conv ? c->kh : 1,
                       .kw = conv ? c->kw : 1,
                       .geglu = c->kind == DC_CASE_GEGLU,
                       .transposed = c->transposed,
                       .int8 = c->int8};
    const size_t size = dc_dtype_size(c->type), row = (size_t)d.in * (size_t)d.kh * (size_t)d.kw;
    d.n_weight = c->transposed ? 1 : c->parts;
    d.n_bias = c->bias ? d.n_weight : 0;
    for (int64_t i = 0, from = 0, n; i < d.n_weight; i++, from += n) {
        n = i + 1 < d.n_weight ? c->o / d.n_weight : c->o - from;
        d.weight[i] = (dc_source){c->source[0] + (size_t)from * row * size, c->type, c->transposed ? d.in : n, 0};
        d.bias[i] = (dc_source){c->source[1] + (size_t)from * size, c->type, n, 0};
    }
    return dc_params_add(set, &d);
}

/* Channels of input i, with those that are not looked at; 0: the op has no such input. */
static int64_t made_width(const dc_case *c, int i)
{
    if (c->kind == DC_CASE_ATTENTION) return i < 3 ? c->c + c->slice : 0;
    if (i == 0) return c->c + c->slice;
    if (i == 1) return c->kind == DC_CASE_RESCALE ? c->c : c->c2;
    if (i == 2) return c->add ? c->o : 0;
    return !c->residual ? 0 : (c->kind == DC_CASE_GEGLU ? c->o / 2 : c->o) + c->slice;
}

static int64_t made_of(const dc_case *c, int i) { return made_width(c, i) < DC_CASE_MADE_OF ? made_width(c, i) : DC_CASE_MADE_OF; }

static dc_status add_params(dc_params *set, job *j, dc_error *e)
{
    const dc_case *c = j->c;
    bool whole = true;
    if (c->kind == DC_CASE_EMBED) {
        whole = (j->k = add_param(set, "table", DC_PARAM_TABLE, c->o, c->c, c->type, c->source[0], NULL)) != NULL;
        if (c->bias) whole = whole && (j->positions = add_param(set, "positions", DC_PARAM_TABLE, c->h, c->c, c->type, c->source[1], NULL));
    } else if (c->o) {
        whole = (j->k = add_matrix(set, c)) != NULL;
    }
    if (c->norm || c->kind == DC_CASE_GROUP_NORM || c->kind == DC_CASE_LAYER_NORM)
        whole = whole && (j->norm = add_param(set, "norm", DC_PARAM_NORM, c->c + c->c2, 1, DC_F32, c->source[2], c->source[3]));
    for (int i = 0; i < 4; i++)
        if (c->made >> i & 1 && made_width(c, i))
            whole = whole && (j->maker[i] = add_param(set, "maker", DC_PARAM_LINEAR, made_width(c, i), made_of(c, i), DC_F32,
                                                      c->maker + i * DC_CASE_MADE_OF * dc_case_widest(c), NULL));
    return whole ? DC_OK : dc_fail_memory(e, "parameters", 0);
}

/* ---- the pass -------------------------------------------------------------------------------------------------------- */

/* Input i as it is uploaded, or made of some numbers. */
static dc_tensor bring(const job *j, dc_run *r, int i, int rank, const int64_t dim[4], const float *host)
{
    int64_t narrow[4];
    if (!j->maker[i]) return dc_upload(r, DC_F32, rank, dim, host);
    memcpy(narrow, dim, sizeof narrow);
    narrow[rank - 1] = made_of(j->c, i);
    return dc_linear(r, dc_upload(r, DC_F32, rank, narrow, host), j->maker[i], (dc_linear_opt){0});
}

/* [n,h,w,c] (or [n,h*w,c]), the last c of slice + c channels. */
static dc_tensor up(const job *j, dc_run *r, int i, int64_t h, int64_t w, int64_t channels, int slice, const float *host)
{
    dc_tensor t = bring(j, r, i, 4, (int64_t[4]){j->c->n, h, w, channels + slice}, host);
    t = dc_view_channels(t, slice, channels);
    return j->c->tokens ? dc_view_tokens(t) : t;
}

static dc_tensor input(const job *j, dc_run *r) { return up(j, r, 0, j->c->h, j->c->w, j->c->c, j->c->slice, j->c->in[0]); }

/* Of what comes out of the same input: its size is told by a number of rows and columns. */
static int64_t out_of(const dc_case *c, bool rows)
{
    const int64_t in = rows ? (c->up_h ? c->up_h : c->h) : c->up_w ? c->up_w : c->w;
    return (in + c->pad[!rows] + c->pad[2 + !rows] - (rows ? c->kh : c->kw)) / c->stride + 1;
}

static dc_conv_opt conv_options(const job *j, dc_run *r)
{
    const dc_case *c = j->c;
    dc_conv_opt o = {.pre = {.act = c->pre_act, .h = c->up_h, .w = c->up_w}, .stride = c->stride, .act = c->act};
    memcpy(o.pad, c->pad, sizeof o.pad);
    if (c->add) o.add = bring(j, r, 2, 2, (int64_t[4]){c->shared ? 1 : c->n, c->o}, c->in[2]);
    if (c->residual) o.residual = up(j, r, 3, out_of(c, true), out_of(c, false), c->o, c->slice, c->in[3]);
    return o;
}

static dc_tensor conv(const job *j, dc_run *r)
{
    const dc_case *c = j->c;
    const dc_tensor x = input(j, r);
    dc_conv_opt o = conv_options(j, r);
    if (j->norm) o.pre.norm = j->norm, o.pre.groups = c->groups, o.pre.eps = 1e-5f;
    if (c->c2) o.pre.x2 = up(j, r, 1, c->h, c->w, c->c2, 0, c->in[1]);
    return dc_conv2d(r, x, j->k, o);
}

/* Strip by strip, straight to the host. */
static void strips(const job *j, dc_run *r)
{
    enum { MOST = 32 };
    const dc_case *c = j->c;
    const dc_tensor x = input(j, r);
    dc_tensor at[MOST], sums[MOST];
    int n = 0;
    dc_conv_opt o = conv_options(j, r);
    const dc_tensor residual = o.residual;
    for (int64_t y = 0; y < c->h && n < MOST; y += c->strip) at[n++] = dc_view_rows(x, y, c->strip < c->h - y ? c->strip : c->h - y);
    for (int i = 0; j->norm && i < n; i++) sums[i] = dc_group_sums(r, at[i], c->h);
    if (j->norm) o.pre.scale = dc_group_scale(r, sums, n, j->norm, c->groups, 1e-5f, c->h * c->w);
    o.strip.height = (int)out_of(c, true);
    float *out = j->out;
    for (int64_t i = 0, from = 0; i < n && dc_run_ok(r); i++) {
        const int64_t rows = at[i].dim[1] * (c->up_h ? 2 : 1) / c->stride;
        o.strip.above = i > 0 ? at[i - 1] : DC_NONE;
        o.strip.below = i + 1 < n ? at[i + 1] : DC_NONE;
        if (c->up_h) o.pre.h = 2 * (int)at[i].dim[1];
        if (c->residual) o.residual = dc_view_rows(residual, from, rows);
        const dc_tensor y = dc_conv2d(r, at[i], j->k, o);
        dc_download(r, y, out);
        out += dc_numel(y);
        from += rows;
    }
}

static dc_tensor linear(const job *j, dc_run *r)
{
    const dc_case *c = j->c;
    dc_linear_opt o = {.pre = {.norm = j->norm, .groups = c->groups, .eps = 1e-5f, .act = c->pre_act}, .act = c->act};
    const dc_tensor x = input(j, r);
    if (c->c2) o.pre.x2 = up(j, r, 1, c->h, c->w, c->c2, 0, c->in[1]);
    if (c->residual) o.residual = up(j, r, 3, c->h, c->w, c->kind == DC_CASE_GEGLU ? c->o / 2 : c->o, c->slice, c->in[3]);
    return dc_linear(r, x, j->k, o);
}

static dc_tensor attention(const job *j, dc_run *r)
{
    const dc_case *c = j->c;
    dc_tensor t[3];
    for (int i = 0; i < 3; i++) {
        t[i] = bring(j, r, i, 3, (int64_t[4]){c->n, i ? c->w : c->h, c->c + c->slice}, c->in[i]);
        t[i] = dc_view_channels(t[i], i == 2 ? 0 : c->slice, c->c);
        if (i && c->shared) t[i] = dc_view_batch(t[i], c->n - 1, 1);
    }
    return dc_attention(r, t[0], t[1], t[2], (dc_attention_opt){.heads = c->heads, .causal = c->causal, .keys = c->keys});
}

/* Factors and terms; with `into` the first term is also where the sum goes. */
static dc_tensor lincomb(const job *j, dc_run *r)
{
    const dc_case *c = j->c;
    static const float factor[8] = {0.3f, -1.7f, 1, 0.01f, 2.5f, -0.9f, 0.5f, -3};
    const int64_t all = c->n * c->h * c->w * (c->c + c->slice);
    dc_term term[8];
    for (int i = 0; i < c->terms; i++) {
        term[i] = (dc_term){i == 1 && c->bad ? 0 : factor[i], up(j, r, 0, c->h, c->w, c->c, c->slice, c->in[0] + i * all)};
        if (i && i + 1 == c->terms && c->shared) term[i].x = dc_view_batch(term[i].x, c->n - 1, 1);
    }
    if (!c->into) return dc_lincomb(r, term, c->terms);
    dc_lincomb_into(r, term[0].x, term, c->terms);
    return term[0].x;
}

static dc_tensor small_op(job *j, dc_run *r)
{
    const dc_case *c = j->c;
    switch (c->kind) {
    case DC_CASE_GROUP_NORM: return dc_group_norm(r, input(j, r), j->norm, c->groups, 1e-5f, c->act);
    case DC_CASE_LAYER_NORM: return dc_layer_norm(r, input(j, r), j->norm, 1e-5f);
    case DC_CASE_EMBED: return dc_embed(r, dc_upload(r, DC_I32, 2, (int64_t[2]){c->n, c->h}, c->ids), j->k, j->positions);
    case DC_CASE_GATHER: return dc_gather_rows(r, dc_view_tokens(input(j, r)), dc_upload(r, DC_I32, 1, &c->n, c->ids));
    case DC_CASE_TIMESTEP:
        return dc_timestep_embedding(r, dc_upload(r, DC_F32, 1, &c->n, c->in[0]),
                                     (dc_timestep_opt){.dim = (int)c->c, .flip_sin_to_cos = c->flip, .freq_shift = c->into ? 1 : 0});
    case DC_CASE_ACTIVATE: return dc_activate(r, input(j, r), c->act);
    case DC_CASE_RESCALE: return dc_rescale_std(r, input(j, r), up(j, r, 1, c->h, c->w, c->c, 0, c->in[1]), 0.7f);
    case DC_CASE_RGB8: return dc_to_rgb8(r, input(j, r));
    default: return lincomb(j, r);
    }
}

static void pass(void *ctx, dc_run *r)
{
    job *j = ctx;
    switch (j->c->kind) {
    case DC_CASE_STRIPS: strips(j, r); break;
    case DC_CASE_STATS: dc_stats_of(r, input(j, r), &j->stats); break;
    case DC_CASE_CONV: dc_download(r, conv(j, r), j->out); break;
    case DC_CASE_LINEAR:
    case DC_CASE_GEGLU: dc_download(r, linear(j, r), j->out); break;
    case DC_CASE_ATTENTION: dc_download(r, attention(j, r), j->out); break;
    default: dc_download(r, small_op(j, r), j->out);
    }
}

/* What is not floats becomes some. With numbers that are not finite, only their count is defined. */
static void to_floats(const job *j)
{
    const dc_stats s = j->stats;
    if (j->c->kind == DC_CASE_STATS) {
        const bool whole = !s.non_finite;
        const float v[4] = {whole ? (float)s.mean : 0, whole ? (float)s.deviation : 0, whole ? (float)s.absmax : 0, (float)s.non_finite};
        memcpy(j->out, v, sizeof v);
    }
    if (j->c->kind == DC_CASE_RGB8)
        for (int64_t i = dc_case_count(j->c); i-- > 0;) j->out[i] = (float)((const uint8_t *)j->out)[i] / 128; /* never behind the reading */
}

dc_status dc_case_run(dc_device *d, const dc_case *c, float *out, float *again, void (*before)(dc_run *r), dc_error *e)
{
    job j = {.c = c, .out = out};
    dc_params *set = dc_params_new(d, "a case");
    dc_run *r = dc_run_new(d);
    if (set && c->wide) dc_params_wide(set);
    dc_status s = set && r ? add_params(set, &j, e) : dc_fail_memory(e, "a case", 0);
    if (!s && before) before(r);
    if (!s) s = dc_params_prepare(set, NULL, NULL, e);
    if (!s) s = dc_run_plan(r, pass, &j, e);
    if (!s) s = dc_run_reserve(r, e);
    if (!s) s = dc_run_pass(r, pass, &j, e);
    if (!s) to_floats(&j);
    if (!s && again) {
        j.out = again, j.stats = (dc_stats){0};
        s = dc_run_pass(r, pass, &j, e);
        if (!s) to_floats(&j);
    }
    dc_run_free(r);
    dc_params_free(set);
    return s;
}
