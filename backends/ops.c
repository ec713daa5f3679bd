/* ops.c - the ops' shape rules: what is checked, what shape comes out, what may share memory; then the device's function. */
#include "backends/run.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- small things -------------------------------------------------------------------------------------------- */

/* "2x64x64x320" */
static const char *shape_text(dc_tensor t, char *out, size_t size)
{
    size_t at = 0;
    out[0]    = 0;
    for (int i = 0; i < t.rank && at < size; i++) at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? "x" : "", (long long)t.dim[i]);
    return out;
}
#define SHAPE(t) shape_text(t, (char[96]){0}, 96)

static bool refuse(dc_run *r, const char *op, const char *what, dc_tensor found, const char *expected)
{
    dc_run_fail(r, DC_INTERNAL, "%s: %s: found %s %s, expected %s", op, what, SHAPE(found), dc_is_none(found) ? "nothing" : dc_dtype_name((dc_dtype)found.dtype), expected);
    return false;
}

static bool is_f32(dc_tensor t) { return !dc_is_none(t) && t.dtype == DC_F32; }
static bool is_dense(dc_tensor t) { return t.stride == dc_channels(t); }

static bool same_shape(dc_tensor a, dc_tensor b)
{
    if (a.rank != b.rank) return false;
    for (int i = 0; i < a.rank; i++)
        if (a.dim[i] != b.dim[i]) return false;
    return true;
}

/* The same but for the last axis. */
static bool same_rows(dc_tensor a, dc_tensor b)
{
    a.dim[a.rank - 1] = b.dim[b.rank - 1] = 0;
    return same_shape(a, b);
}

static bool same_memory(dc_tensor a, dc_tensor b) { return !dc_is_none(a) && !dc_is_none(b) && a.id == b.id && a.id >= 0; }

static bool is_kind(const dc_param *p, dc_param_kind kind) { return p && p->desc.kind == kind; }

/* Checks the prologue of an op on x; the channels that come out of it, or -1. */
static int64_t check_pre(dc_run *r, const char *op, dc_tensor x, const dc_pre *pre)
{
    int64_t C = dc_channels(x);
    if (!dc_is_none(pre->x2)) {
        if (!is_f32(pre->x2) || !same_rows(x, pre->x2)) return refuse(r, op, "second input", pre->x2, SHAPE(x)), -1;
        C += dc_channels(pre->x2);
    }
    if (pre->norm) {
        if (!is_kind(pre->norm, DC_PARAM_NORM) || pre->norm->desc.out != C || pre->groups < 1 || C % pre->groups || x.rank < 3) {
            dc_run_fail(r, DC_INTERNAL, "%s: group norm of %d channels in %d groups over an input with %lld", op, pre->norm->desc.out, pre->groups, (long long)C);
            return -1;
        }
    }
    run_use(r, pre->x2);
    return C;
}

/* ---- convolution and linear -------------------------------------------------------------------------------------- */

static bool conv_rule(dc_run *r, dc_conv_args *a, int64_t dim[4])
{
    const dc_param_desc *d = &a->k->desc;
    const dc_conv_opt   *o = &a->o;
    if (!is_f32(a->x) || a->x.rank != 4) return refuse(r, "conv2d", "input", a->x, "F32 [N,H,W,C]");
    int64_t C = check_pre(r, "conv2d", a->x, &o->pre);
    if (C < 0) return false;
    if ((d->kind != DC_PARAM_CONV && d->kind != DC_PARAM_LINEAR) || d->in != C) {
        dc_run_fail(r, DC_INTERNAL, "conv2d: %s takes %d channels, found %lld", d->name, d->in, (long long)C);
        return false;
    }
    a->in_h = o->pre.h ? o->pre.h : (int)a->x.dim[1];
    a->in_w = o->pre.w ? o->pre.w : (int)a->x.dim[2];
    dim[0]  = a->x.dim[0];
    dim[1]  = (a->in_h + o->pad[0] + o->pad[2] - d->kh) / o->stride + 1;
    dim[2]  = (a->in_w + o->pad[1] + o->pad[3] - d->kw) / o->stride + 1;
    dim[3]  = d->out;
    if (a->in_h + o->pad[0] + o->pad[2] < d->kh || a->in_w + o->pad[1] + o->pad[3] < d->kw) {
        dc_run_fail(r, DC_USAGE, "conv2d: input %dx%d is smaller than the %dx%d kernel: a larger picture is needed", a->in_h, a->in_w, d->kh, d->kw);
        return false;
    }
    if (!dc_is_none(o->add) && (!is_f32(o->add) || o->add.rank != 2 || (o->add.dim[0] != dim[0] && o->add.dim[0] != 1) || o->add.dim[1] != dim[3])) return refuse(r, "conv2d", "add", o->add, "[N,O]");
    dc_tensor y = {.dim = {dim[0], dim[1], dim[2], dim[3]}, .rank = 4};
    if (!dc_is_none(o->residual) && (!is_f32(o->residual) || !same_shape(o->residual, y))) return refuse(r, "conv2d", "residual", o->residual, SHAPE(y));
    return true;
}

dc_tensor dc_conv2d(dc_run *r, dc_tensor x, const dc_param *k, dc_conv_opt o)
{
    if (!run_begin_op(r, "conv2d")) return DC_NONE;
    if (!o.stride) o.stride = 1;
    dc_conv_args a = {.x = x, .k = k, .o = o};
    int64_t      dim[4];
    if (!conv_rule(r, &a, dim)) return DC_NONE;
    run_use(r, x), run_use(r, o.add), run_use(r, o.residual);
    bool in_place = !same_memory(o.residual, x) && !same_memory(o.residual, o.pre.x2) && !same_memory(o.residual, o.add) && is_dense(o.residual);
    a.y           = run_new(r, DC_F32, 4, dim, in_place ? o.residual : DC_NONE);
    const dc_backend *be      = run_device(r)->be;
    void             *scratch = run_scratch(r, be->conv2d_scratch && dc_run_ok(r) ? be->conv2d_scratch(run_device(r), &a) : 0);
    dc_status         s       = run_executes(r) ? be->conv2d(run_device(r), &a, scratch) : DC_OK;
    run_end_op(r, s, a.y, 2ull * (uint64_t)dc_numel(a.y) * (uint64_t)k->desc.in * (uint64_t)k->desc.kh * (uint64_t)k->desc.kw);
    return a.y;
}

dc_tensor dc_linear(dc_run *r, dc_tensor x, const dc_param *k, dc_linear_opt o)
{
    if (!run_begin_op(r, "linear")) return DC_NONE;
    dc_linear_args a = {.x = x, .k = k, .o = o};
    if (!is_f32(x) || x.rank < 2) return refuse(r, "linear", "input", x, "F32 [..,C]"), DC_NONE;
    int64_t C = check_pre(r, "linear", x, &o.pre);
    if (C < 0) return DC_NONE;
    if ((k->desc.kind != DC_PARAM_LINEAR && !(k->desc.kind == DC_PARAM_CONV && k->desc.kh == 1 && k->desc.kw == 1)) || k->desc.in != C) {
        dc_run_fail(r, DC_INTERNAL, "linear: %s takes %d channels, found %lld", k->desc.name, k->desc.in, (long long)C);
        return DC_NONE;
    }
    dc_tensor y      = x;
    y.dim[y.rank - 1] = k->desc.geglu ? k->desc.out / 2 : k->desc.out;
    if (!dc_is_none(o.residual) && (!is_f32(o.residual) || !same_shape(o.residual, y))) return refuse(r, "linear", "residual", o.residual, SHAPE(y)), DC_NONE;
    run_use(r, x), run_use(r, o.residual);
    bool in_place             = !same_memory(o.residual, x) && !same_memory(o.residual, o.pre.x2) && !dc_is_none(o.residual) && is_dense(o.residual);
    a.y                       = run_new(r, DC_F32, y.rank, y.dim, in_place ? o.residual : DC_NONE);
    const dc_backend *be      = run_device(r)->be;
    void             *scratch = run_scratch(r, be->linear_scratch && dc_run_ok(r) ? be->linear_scratch(run_device(r), &a) : 0);
    dc_status         s       = run_executes(r) ? be->linear(run_device(r), &a, scratch) : DC_OK;
    run_end_op(r, s, a.y, 2ull * (uint64_t)dc_rows(x) * (uint64_t)k->desc.out * (uint64_t)k->desc.in);
    return a.y;
}

/* ---- norms and attention -------------------------------------------------------------------------------------------- */

static dc_tensor norm(dc_run *r, const char *op, dc_norm_args a)
{
    if (!run_begin_op(r, op)) return DC_NONE;
    int64_t C = dc_is_none(a.x) ? 0 : dc_channels(a.x);
    if (!is_f32(a.x) || (a.groups && a.x.rank < 3)) return refuse(r, op, "input", a.x, "F32 [N,..,C]"), DC_NONE;
    if (!is_kind(a.norm, DC_PARAM_NORM) || a.norm->desc.out != C || (a.groups && C % a.groups)) {
        dc_run_fail(r, DC_INTERNAL, "%s: %d channels in %d groups over an input with %lld", op, a.norm ? a.norm->desc.out : 0, a.groups, (long long)C);
        return DC_NONE;
    }
    run_use(r, a.x);
    a.y                       = run_new(r, DC_F32, a.x.rank, a.x.dim, DC_NONE);
    const dc_backend *be      = run_device(r)->be;
    void             *scratch = run_scratch(r, be->norm_scratch && dc_run_ok(r) ? be->norm_scratch(run_device(r), &a) : 0);
    dc_status         s       = run_executes(r) ? be->norm(run_device(r), &a, scratch) : DC_OK;
    run_end_op(r, s, a.y, 0);
    return a.y;
}

dc_tensor dc_group_norm(dc_run *r, dc_tensor x, const dc_param *p, int groups, float eps, dc_act act)
{
    return norm(r, "group_norm", (dc_norm_args){.x = x, .norm = p, .groups = groups, .eps = eps, .act = act});
}

dc_tensor dc_layer_norm(dc_run *r, dc_tensor x, const dc_param *p, float eps) { return norm(r, "layer_norm", (dc_norm_args){.x = x, .norm = p, .eps = eps}); }

dc_tensor dc_attention(dc_run *r, dc_tensor q, dc_tensor k, dc_tensor v, dc_attention_opt o)
{
    if (!run_begin_op(r, "attention")) return DC_NONE;
    if (!is_f32(q) || q.rank != 3 || o.heads < 1 || dc_channels(q) % o.heads) return refuse(r, "attention", "queries", q, "F32 [N,Tq,C], heads dividing C"), DC_NONE;
    if (!is_f32(k) || k.rank != 3 || (k.dim[0] != q.dim[0] && k.dim[0] != 1) || dc_channels(k) != dc_channels(q)) return refuse(r, "attention", "keys", k, "F32 [N,Tk,C]"), DC_NONE;
    if (!is_f32(v) || !same_shape(k, v)) return refuse(r, "attention", "values", v, SHAPE(k)), DC_NONE;
    if (o.keys < 0 || o.keys > k.dim[1]) return refuse(r, "attention", "keys used", k, "at least as many keys"), DC_NONE;
    if (!o.keys) o.keys = (int)k.dim[1];
    if (o.scale == 0) o.scale = 1.0f / sqrtf((float)(dc_channels(q) / o.heads));
    dc_attention_args a = {.q = q, .k = k, .v = v, .o = o};
    run_use(r, q), run_use(r, k), run_use(r, v);
    a.y                       = run_new(r, DC_F32, 3, q.dim, DC_NONE);
    const dc_backend *be      = run_device(r)->be;
    void             *scratch = run_scratch(r, be->attention_scratch && dc_run_ok(r) ? be->attention_scratch(run_device(r), &a) : 0);
    dc_status         s       = run_executes(r) ? be->attention(run_device(r), &a, scratch) : DC_OK;
    run_end_op(r, s, a.y, 4ull * (uint64_t)(q.dim[0] * q.dim[1]) * (uint64_t)o.keys * (uint64_t)dc_channels(q));
    return a.y;
}

/* ---- gathering and embedding ------------------------------------------------------------------------------------------- */

dc_tensor dc_embed(dc_run *r, dc_tensor ids, const dc_param *table, const dc_param *positions)
{
    if (!run_begin_op(r, "embed")) return DC_NONE;
    if (ids.rank != 2 || ids.dtype != DC_I32) return refuse(r, "embed", "ids", ids, "I32 [N,T]"), DC_NONE;
    if (!is_kind(table, DC_PARAM_TABLE) || (positions && (!is_kind(positions, DC_PARAM_TABLE) || positions->desc.in != table->desc.in || positions->desc.out < ids.dim[1])))
        return refuse(r, "embed", "tables for ids", ids, "a table, and as many positions"), DC_NONE;
    run_use(r, ids);
    dc_embed_args a = {.ids = ids, .table = table, .positions = positions};
    a.y             = run_new(r, DC_F32, 3, (int64_t[4]){ids.dim[0], ids.dim[1], table->desc.in, 0}, DC_NONE);
    dc_status s     = run_executes(r) ? run_device(r)->be->embed(run_device(r), &a) : DC_OK;
    if (s == DC_DATA) dc_run_fail(r, s, "embed: a token id lies outside of the %d of %s", table->desc.out, table->desc.name);
    run_end_op(r, s, a.y, 0);
    return a.y;
}

dc_tensor dc_gather_rows(dc_run *r, dc_tensor x, dc_tensor index)
{
    if (!run_begin_op(r, "gather_rows")) return DC_NONE;
    if (!is_f32(x) || x.rank != 3) return refuse(r, "gather_rows", "input", x, "F32 [N,T,C]"), DC_NONE;
    if (index.rank != 1 || index.dtype != DC_I32 || index.dim[0] != x.dim[0]) return refuse(r, "gather_rows", "index", index, "I32 [N]"), DC_NONE;
    run_use(r, x), run_use(r, index);
    dc_gather_args a = {.x = x, .index = index};
    a.y              = run_new(r, DC_F32, 2, (int64_t[4]){x.dim[0], x.dim[2], 0, 0}, DC_NONE);
    dc_status s      = run_executes(r) ? run_device(r)->be->gather_rows(run_device(r), &a) : DC_OK;
    run_end_op(r, s, a.y, 0);
    return a.y;
}

dc_tensor dc_timestep_embedding(dc_run *r, dc_tensor t, dc_timestep_opt o)
{
    if (!run_begin_op(r, "timestep_embedding")) return DC_NONE;
    if (!is_f32(t) || t.rank != 1 || o.dim < 2) return refuse(r, "timestep_embedding", "timesteps", t, "F32 [N], dim 2 or more"), DC_NONE;
    run_use(r, t);
    dc_timestep_args a = {.t = t, .o = o};
    a.y                = run_new(r, DC_F32, 2, (int64_t[4]){t.dim[0], o.dim, 0, 0}, DC_NONE);
    dc_status s        = run_executes(r) ? run_device(r)->be->timestep_embedding(run_device(r), &a) : DC_OK;
    run_end_op(r, s, a.y, 0);
    return a.y;
}

/* ---- elementwise ----------------------------------------------------------------------------------------------------------- */

/* y's shape must be every term's, but for a first axis of 1 that is repeated. */
static bool lincomb_rule(dc_run *r, dc_tensor y, const dc_term *terms, int n)
{
    if (n < 0 || n > 8) return refuse(r, "lincomb", "output", y, "0 to 8 terms");
    for (int i = 0; i < n; i++) {
        dc_tensor x = terms[i].x;
        if (is_f32(x) && x.dim[0] == 1) x.dim[0] = y.dim[0];
        if (!is_f32(x) || !same_shape(x, y)) return refuse(r, "lincomb", "term", terms[i].x, SHAPE(y));
    }
    return true;
}

static void lincomb(dc_run *r, dc_tensor y, const dc_term *terms, int n)
{
    dc_lincomb_args a = {.y = y};
    for (int i = 0; i < n; i++)
        if (terms[i].k != 0) a.term[a.n++] = terms[i]; /* zero terms may hold NaN */
    dc_status s = run_executes(r) ? run_device(r)->be->lincomb(run_device(r), &a) : DC_OK;
    run_end_op(r, s, y, 0);
}

dc_tensor dc_lincomb(dc_run *r, const dc_term *terms, int n)
{
    if (!run_begin_op(r, "lincomb")) return DC_NONE;
    dc_tensor like = n > 0 ? terms[0].x : DC_NONE;
    for (int i = 1; i < n; i++)
        if (!dc_is_none(terms[i].x) && terms[i].x.dim[0] > like.dim[0]) like = terms[i].x;
    if (dc_is_none(like) || !lincomb_rule(r, like, terms, n)) return refuse(r, "lincomb", "terms", like, "at least one"), DC_NONE;
    for (int i = 0; i < n; i++) run_use(r, terms[i].x);
    dc_tensor dies = DC_NONE; /* any term may give its memory: it is elementwise */
    for (int i = 0; i < n; i++)
        if (same_shape(terms[i].x, like) && is_dense(terms[i].x)) dies = terms[i].x;
    dc_tensor y = run_new(r, DC_F32, like.rank, like.dim, dies);
    lincomb(r, y, terms, n);
    return y;
}

void dc_lincomb_into(dc_run *r, dc_tensor y, const dc_term *terms, int n)
{
    if (!run_begin_op(r, "lincomb")) return;
    if (!is_f32(y)) {
        refuse(r, "lincomb", "output", y, "F32");
        return;
    }
    if (!lincomb_rule(r, y, terms, n)) return;
    for (int i = 0; i < n; i++) run_use(r, terms[i].x);
    run_use(r, y);
    lincomb(r, y, terms, n);
}

dc_tensor dc_activate(dc_run *r, dc_tensor x, dc_act act)
{
    if (!run_begin_op(r, "activate")) return DC_NONE;
    if (!is_f32(x)) return refuse(r, "activate", "input", x, "F32"), DC_NONE;
    run_use(r, x);
    dc_act_args a = {.y = run_new(r, DC_F32, x.rank, x.dim, is_dense(x) ? x : DC_NONE), .x = x, .act = act};
    dc_status   s = run_executes(r) ? run_device(r)->be->activate(run_device(r), &a) : DC_OK;
    run_end_op(r, s, a.y, 0);
    return a.y;
}

dc_tensor dc_rescale_std(dc_run *r, dc_tensor guided, dc_tensor cond, float phi)
{
    if (!run_begin_op(r, "rescale_std")) return DC_NONE;
    if (!is_f32(guided) || !is_dense(guided)) return refuse(r, "rescale_std", "guided", guided, "F32, dense"), DC_NONE;
    if (!is_f32(cond) || !is_dense(cond) || !same_shape(guided, cond)) return refuse(r, "rescale_std", "cond", cond, SHAPE(guided)), DC_NONE;
    run_use(r, guided), run_use(r, cond);
    dc_rescale_args a = {.y = run_new(r, DC_F32, guided.rank, guided.dim, DC_NONE), .guided = guided, .cond = cond, .phi = phi};
    dc_status       s = run_executes(r) ? run_device(r)->be->rescale_std(run_device(r), &a) : DC_OK;
    run_end_op(r, s, a.y, 0);
    return a.y;
}

void dc_stats_of(dc_run *r, dc_tensor x, dc_stats *host)
{
    if (!run_begin_op(r, "stats")) return;
    if (!is_f32(x) || !is_dense(x)) {
        refuse(r, "stats", "input", x, "F32, dense");
        return;
    }
    run_use(r, x);
    dc_stats_args a = {x, host};
    dc_status     s = run_executes(r) ? run_device(r)->be->stats(run_device(r), &a) : DC_OK;
    run_end_op(r, s, x, 0);
}

dc_tensor dc_to_rgb8(dc_run *r, dc_tensor x)
{
    if (!run_begin_op(r, "to_rgb8")) return DC_NONE;
    if (!is_f32(x) || x.rank != 4 || !is_dense(x)) return refuse(r, "to_rgb8", "picture", x, "F32 [N,H,W,C], dense"), DC_NONE;
    run_use(r, x);
    dc_rgb8_args a = {.y = run_new(r, DC_U8, 4, x.dim, DC_NONE), .x = x};
    dc_status    s = run_executes(r) ? run_device(r)->be->to_rgb8(run_device(r), &a) : DC_OK;
    run_end_op(r, s, a.y, 0);
    return a.y;
}
