/* ops.c - the ops' shape rules: what is checked, what shape comes out, what may share memory; then the device's function.
 *
 * Every op is the same four steps: begin; check (a message says what was found and expected); note what is read and make what is
 * written; run, unless the pass is only planned. */
#include "backends/run.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- checking ------------------------------------------------------------------------------------------------- */

typedef struct shape_text {
    char text[96];
} shape_text;

/* "2x64x64x320" */
static shape_text shape_of(dc_tensor t)
{
    shape_text s = {"nothing"};
    size_t at = 0;
    for (int i = 0; i < t.rank && at < sizeof s.text; i++)
        at += (size_t)snprintf(s.text + at, sizeof s.text - at, "%s%lld", i ? "x" : "", (long long)t.dim[i]);
    return s;
}
#define SHAPE(t) (shape_of(t).text)

/* The first error of an op: its input `what` is not as expected. Always DC_NONE. */
static dc_tensor refuse(dc_run *r, const char *op, const char *what, dc_tensor found, const char *expected)
{
    const char *type = dc_is_none(found) ? "" : dc_dtype_name((dc_dtype)found.dtype), *strided = "";
    if (!dc_is_none(found) && found.stride != dc_channels(found)) strided = " (a channel slice)";
    dc_run_fail(r, DC_INTERNAL, "%s: %s: found %s %s%s, expected %s", op, what, SHAPE(found), type, strided, expected);
    return DC_NONE;
}

/* The types that activations may have, here: float32, and on devices that compute with halves those. */
static bool is_real(const dc_run *r, dc_tensor t)
{
    return !dc_is_none(t) && (t.dtype == DC_F32 || (r->device->type != DC_F32 && (t.dtype == DC_F16 || t.dtype == DC_BF16)));
}
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
    if (a.rank != b.rank) return false;
    a.dim[a.rank - 1] = b.dim[b.rank - 1] = 0;
    return same_shape(a, b);
}

/* A tensor of this shape, for comparing. */
static dc_tensor like(int rank, const int64_t *dim)
{
    dc_tensor t = {.rank = (uint8_t)rank, .id = -1};
    memcpy(t.dim, dim, sizeof *dim * (size_t)rank);
    t.stride = dim[rank - 1];
    return t;
}

static bool is_kind(const dc_param *p, dc_param_kind kind) { return p && p->desc.kind == kind; }

/* Checks the prologue of an op on x and notes what it reads; the channels that come out of it, or -1. */
static int64_t check_pre(dc_run *r, const char *op, dc_tensor x, const dc_pre *pre)
{
    int64_t C = dc_channels(x) + dc_channels(pre->x2);
    if (!dc_is_none(pre->x2) && (!is_real(r, pre->x2) || !same_rows(x, pre->x2))) {
        refuse(r, op, "second input", pre->x2, SHAPE(x));
        return -1;
    }
    const dc_param *norm = pre->norm;
    if (norm && (!is_kind(norm, DC_PARAM_NORM) || norm->desc.out != C || pre->groups < 1 || C % pre->groups || x.rank < 3)) {
        dc_run_fail(r, DC_INTERNAL, "%s: group norm before it: found an input of %s with %lld channels in all, expected [N,..,%d] in %d groups", op,
                    SHAPE(x), (long long)C, norm->desc.out, pre->groups);
        return -1;
    }
    const dc_tensor scale = pre->scale;
    if (!dc_is_none(scale) && (norm || scale.dtype != DC_F32 || !is_dense(scale) || !same_shape(scale, like(3, (int64_t[3]){x.dim[0], 2, C})))) {
        refuse(r, op, "scale", scale, "F32 [N,2,C] in place of a norm");
        return -1;
    }
    run_use(r, pre->x2);
    run_use(r, scale);
    return C;
}

/* Another input that looks into the same tensor as x. */
static bool looks_into(dc_tensor other, dc_tensor x) { return !dc_is_none(other) && other.id >= 0 && other.id == x.id; }

/* The scratch that the device wants for these args (NULL: it never wants any). */
#define SCRATCH(r, ask, args) run_scratch(r, dc_run_ok(r) && (ask) ? (ask)((r)->device, args) : 0)
/* Calls the device's function when the pass is a real one. */
#define EXECUTE(r, ...) (run_executes(r) ? (r)->device->be->__VA_ARGS__ : DC_OK)

/* What a table of layers says of the op under way besides its shape, while it is planned. */
#define DESCRIBE(r, ask, args, ...)                                                                                                                  \
    if (run_row(r)) {                                                                                                                                \
        snprintf(run_row(r)->detail, sizeof run_row(r)->detail, __VA_ARGS__);                                                                        \
        if (ask) (ask)((r)->device, args, &run_row(r)->choice);                                                                                      \
    }

/* ---- convolution and linear -------------------------------------------------------------------------------------- */

static bool conv_size(dc_run *r, dc_conv_args *a, int64_t dim[4])
{
    const dc_param_desc *d = &a->k->desc;
    const dc_conv_opt *o = &a->o;
    a->in_h = o->pre.h ? o->pre.h : (int)a->x.dim[1];
    a->in_w = o->pre.w ? o->pre.w : (int)a->x.dim[2];
    int64_t high = (int64_t)a->in_h + o->pad[0] + o->pad[2], wide = (int64_t)a->in_w + o->pad[1] + o->pad[3];
    if (high < d->kh || wide < d->kw) {
        dc_run_fail(r, DC_USAGE, "picture too small: found %dx%d where %s needs %dx%d at least", a->in_w, a->in_h, d->name, d->kw, d->kh);
        return false;
    }
    dim[0] = a->x.dim[0];
    dim[1] = (high - d->kh) / o->stride + 1;
    dim[2] = (wide - d->kw) / o->stride + 1;
    dim[3] = d->out;
    return true;
}

/* A strip's neighbours: as wide and deep as it. */
static bool strip_rule(dc_run *r, const dc_conv_args *a)
{
    const dc_strip *s = &a->o.strip;
    const dc_tensor near[2] = {s->above, s->below};
    if (!s->height && dc_is_none(s->above) && dc_is_none(s->below)) return true;
    if (!dc_is_none(a->o.pre.x2) || a->o.pre.norm || a->in_h % a->x.dim[1]) {
        refuse(r, "conv2d", "strip", a->x, "one input, a norm by its scale, a resize by a whole number");
        return false;
    }
    for (int i = 0; i < 2; i++) {
        dc_tensor t = near[i];
        run_use(r, t);
        if (t.rank == 4) t.dim[1] = a->x.dim[1];
        if (dc_is_none(t) || (is_real(r, t) && same_shape(t, a->x))) continue;
        refuse(r, "conv2d", "neighbour strip", near[i], SHAPE(a->x));
        return false;
    }
    return true;
}

static bool conv_rule(dc_run *r, dc_conv_args *a, int64_t dim[4])
{
    const dc_param_desc *d = &a->k->desc;
    const dc_conv_opt *o = &a->o;
    if (!is_real(r, a->x) || a->x.rank != 4) {
        refuse(r, "conv2d", "input", a->x, "F32 [N,H,W,C]");
        return false;
    }
    int64_t C = check_pre(r, "conv2d", a->x, &o->pre);
    if (C < 0) return false;
    if ((d->kind != DC_PARAM_CONV && d->kind != DC_PARAM_LINEAR) || d->geglu || d->in != C || o->stride < 1) {
        dc_run_fail(r, DC_INTERNAL, "conv2d: %s: found an input of %lld channels, expected %d", d->name, (long long)C, d->in);
        return false;
    }
    if (!conv_size(r, a, dim) || !strip_rule(r, a)) return false;
    dc_tensor y = like(4, dim), add = like(2, (int64_t[2]){dim[0], dim[3]});
    if (!dc_is_none(o->add) && (!is_real(r, o->add) || (!same_shape(o->add, add) && !same_shape(o->add, like(2, (int64_t[2]){1, dim[3]}))))) {
        refuse(r, "conv2d", "add", o->add, SHAPE(add));
        return false;
    }
    if (!dc_is_none(o->residual) && (!is_real(r, o->residual) || !same_shape(o->residual, y))) {
        refuse(r, "conv2d", "residual", o->residual, SHAPE(y));
        return false;
    }
    return true;
}

dc_tensor dc_conv2d(dc_run *r, dc_tensor x, const dc_param *k, dc_conv_opt o)
{
    if (!run_begin_op(r, "conv2d")) return DC_NONE;
    if (!o.stride) o.stride = 1;
    const dc_backend *be = r->device->be;
    dc_conv_args a = {.x = x, .k = k, .o = o};
    int64_t dim[4];
    if (!conv_rule(r, &a, dim)) return DC_NONE;
    run_use(r, x);
    run_use(r, o.add);
    run_use(r, o.residual);
    a.y = run_new(r, k->type, 4, dim);
    if (!be->conv_apart && !looks_into(x, o.residual) && !looks_into(o.pre.x2, o.residual) && !looks_into(o.add, o.residual) &&
        !looks_into(o.strip.above, o.residual) && !looks_into(o.strip.below, o.residual))
        run_may_take(r, a.y, o.residual);
    void *scratch = SCRATCH(r, be->conv2d_scratch, &a);
    DESCRIBE(r, be->conv2d_choice, &a, "%dx%d of %d channels", k->desc.kh, k->desc.kw, k->desc.in)
    uint64_t flops = 2ull * (uint64_t)dc_numel(a.y) * (uint64_t)k->desc.in * (uint64_t)k->desc.kh * (uint64_t)k->desc.kw;
    run_end_op(r, EXECUTE(r, conv2d(r->device, &a, scratch)), a.y, flops);
    return a.y;
}

static bool linear_rule(dc_run *r, const dc_linear_args *a, dc_tensor *y)
{
    const dc_param_desc *d = &a->k->desc;
    if (!is_real(r, a->x) || a->x.rank < 2) {
        refuse(r, "linear", "input", a->x, "F32 [..,C]");
        return false;
    }
    int64_t C = check_pre(r, "linear", a->x, &a->o.pre);
    if (C < 0) return false;
    if ((d->kind != DC_PARAM_LINEAR && !(d->kind == DC_PARAM_CONV && d->kh == 1 && d->kw == 1)) || d->in != C) {
        dc_run_fail(r, DC_INTERNAL, "linear: %s: found an input of %lld channels, expected %d", d->name, (long long)C, d->in);
        return false;
    }
    *y = a->x;
    y->dim[y->rank - 1] = d->geglu ? d->out / 2 : d->out;
    if (dc_is_none(a->o.residual) || (is_real(r, a->o.residual) && same_shape(a->o.residual, *y))) return true;
    refuse(r, "linear", "residual", a->o.residual, SHAPE(*y));
    return false;
}

dc_tensor dc_linear(dc_run *r, dc_tensor x, const dc_param *k, dc_linear_opt o)
{
    if (!run_begin_op(r, "linear")) return DC_NONE;
    const dc_backend *be = r->device->be;
    dc_linear_args a = {.x = x, .k = k, .o = o};
    dc_tensor y;
    if (!linear_rule(r, &a, &y)) return DC_NONE;
    run_use(r, x);
    run_use(r, o.residual);
    a.y = run_new(r, k->type, y.rank, y.dim);
    if (!looks_into(x, o.residual) && !looks_into(o.pre.x2, o.residual)) run_may_take(r, a.y, o.residual);
    void *scratch = SCRATCH(r, be->linear_scratch, &a);
    DESCRIBE(r, be->linear_choice, &a, "of %d channels%s", k->desc.in, k->desc.geglu ? ", gated" : "")
    run_end_op(r, EXECUTE(r, linear(r->device, &a, scratch)), a.y, 2ull * (uint64_t)dc_rows(x) * (uint64_t)k->desc.out * (uint64_t)k->desc.in);
    return a.y;
}

/* ---- norms and attention -------------------------------------------------------------------------------------------- */

static dc_tensor norm(dc_run *r, const char *op, dc_norm_args a)
{
    if (!run_begin_op(r, op)) return DC_NONE;
    const dc_backend *be = r->device->be;
    int64_t C = dc_channels(a.x);
    if (!is_real(r, a.x) || (a.groups && a.x.rank < 3)) return refuse(r, op, "input", a.x, "F32 [N,..,C]");
    if (!is_kind(a.norm, DC_PARAM_NORM) || a.norm->desc.out != C || a.groups < 0 || (a.groups && C % a.groups)) {
        dc_run_fail(r, DC_INTERNAL, "%s: input: found %s, expected [..,%d] in %d groups", op, SHAPE(a.x), a.norm ? a.norm->desc.out : 0, a.groups);
        return DC_NONE;
    }
    run_use(r, a.x);
    a.y = run_new(r, (dc_dtype)a.x.dtype, a.x.rank, a.x.dim);
    run_may_take(r, a.y, a.x);
    void *scratch = SCRATCH(r, be->norm_scratch, &a);
    run_end_op(r, EXECUTE(r, norm(r->device, &a, scratch)), a.y, 0);
    return a.y;
}

dc_tensor dc_group_norm(dc_run *r, dc_tensor x, const dc_param *p, int groups, float eps, dc_act act)
{
    return norm(r, "group_norm", (dc_norm_args){.x = x, .norm = p, .groups = groups ? groups : -1, .eps = eps, .act = act});
}

dc_tensor dc_group_sums(dc_run *r, dc_tensor x, int64_t height)
{
    if (!run_begin_op(r, "group_sums")) return DC_NONE;
    if (!is_real(r, x) || x.rank != 4 || height < x.dim[1]) return refuse(r, "group_sums", "input", x, "F32 [N,H,W,C], no higher than the whole");
    run_use(r, x);
    dc_group_sums_args a = {.x = x, .rows = dc_norm_rows(height)};
    a.y = run_new(r, DC_F64, 4, (int64_t[4]){x.dim[0], (x.dim[1] + a.rows - 1) / a.rows, 2, dc_channels(x)});
    run_end_op(r, EXECUTE(r, group_sums(r->device, &a)), a.y, 0);
    return a.y;
}

dc_tensor dc_group_scale(dc_run *r, const dc_tensor *sums, int n, const dc_param *p, int groups, float eps, int64_t pixels)
{
    if (!run_begin_op(r, "group_scale")) return DC_NONE;
    const int64_t C = is_kind(p, DC_PARAM_NORM) ? p->desc.out : 0, N = n > 0 ? sums[0].dim[0] : 0;
    if (!C || groups < 1 || C % groups || pixels < 1 || N < 1)
        return refuse(r, "group_scale", "sums", n > 0 ? sums[0] : DC_NONE, "those of a norm's channels in whole groups");
    for (int i = 0; i < n; i++) {
        if (sums[i].dtype != DC_F64 || !same_shape(sums[i], like(4, (int64_t[4]){N, sums[i].dim[1], 2, C})))
            return refuse(r, "group_scale", "sums", sums[i], "F64 [N,blocks,2,C]");
        run_use(r, sums[i]);
    }
    dc_group_scale_args a = {.sums = sums, .n = n, .norm = p, .groups = groups, .eps = eps, .pixels = pixels};
    a.y = run_new(r, DC_F32, 3, (int64_t[3]){N, 2, C});
    run_end_op(r, EXECUTE(r, group_scale(r->device, &a)), a.y, 0);
    return a.y;
}

dc_tensor dc_layer_norm(dc_run *r, dc_tensor x, const dc_param *p, float eps)
{
    return norm(r, "layer_norm", (dc_norm_args){.x = x, .norm = p, .eps = eps});
}

dc_tensor dc_attention(dc_run *r, dc_tensor q, dc_tensor k, dc_tensor v, dc_attention_opt o)
{
    if (!run_begin_op(r, "attention")) return DC_NONE;
    const dc_backend *be = r->device->be;
    if (!is_real(r, q) || q.rank != 3 || o.heads < 1 || dc_channels(q) % o.heads)
        return refuse(r, "attention", "queries", q, "F32 [N,Tq,C], heads dividing C");
    if (!is_real(r, k) || k.rank != 3 || (k.dim[0] != q.dim[0] && k.dim[0] != 1) || dc_channels(k) != dc_channels(q) || k.dim[1] < 1)
        return refuse(r, "attention", "keys", k, "F32 [N,Tk,C], N and C as the queries'");
    if (!is_real(r, v) || !same_shape(k, v)) return refuse(r, "attention", "values", v, SHAPE(k));
    if (o.keys < 0 || o.keys > k.dim[1]) return refuse(r, "attention", "keys that count", k, "as many keys");
    if (!o.keys) o.keys = (int)k.dim[1];
    if (o.scale == 0) o.scale = 1.0f / sqrtf((float)(dc_channels(q) / o.heads));
    dc_attention_args a = {.q = q, .k = k, .v = v, .o = o};
    run_use(r, q);
    run_use(r, k);
    run_use(r, v);
    a.y = run_new(r, (dc_dtype)q.dtype, 3, q.dim);
    void *scratch = SCRATCH(r, be->attention_scratch, &a);
    DESCRIBE(r, be->attention_choice, &a, "%d of %d channels, %d keys", o.heads, (int)(dc_channels(q) / o.heads), o.keys)
    uint64_t flops = 4ull * (uint64_t)dc_rows(q) * (uint64_t)o.keys * (uint64_t)dc_channels(q);
    run_end_op(r, EXECUTE(r, attention(r->device, &a, scratch)), a.y, flops);
    return a.y;
}

/* ---- gathering and embedding ------------------------------------------------------------------------------------------- */

/* A device said that an id lies outside of its table: which one? */
static void fail_id(dc_run *r, const char *op, const char *what, dc_tensor ids, int64_t limit)
{
    int64_t n = dc_numel(ids), i = 0;
    int32_t *host = malloc(sizeof *host * (size_t)n);
    if (host && !r->device->be->download(r->device, host, ids.data, sizeof *host * (uint64_t)n)) {
        while (i < n && host[i] >= 0 && host[i] < limit) i++;
        if (i < n) dc_run_fail(r, DC_DATA, "%s: %s %lld: found %d, expected 0 to %lld", op, what, (long long)i, host[i], (long long)limit - 1);
    }
    free(host);
}

dc_tensor dc_embed(dc_run *r, dc_tensor ids, const dc_param *table, const dc_param *positions)
{
    if (!run_begin_op(r, "embed")) return DC_NONE;
    if (ids.rank != 2 || ids.dtype != DC_I32 || !is_dense(ids)) return refuse(r, "embed", "ids", ids, "I32 [N,T]");
    if (!is_kind(table, DC_PARAM_TABLE)) return refuse(r, "embed", "table for ids", ids, "a table");
    if (positions && (!is_kind(positions, DC_PARAM_TABLE) || positions->desc.in != table->desc.in || positions->desc.out < ids.dim[1])) {
        dc_run_fail(r, DC_INTERNAL, "embed: positions: found %dx%d, expected %lldx%d at least", positions->desc.out, positions->desc.in,
                    (long long)ids.dim[1], table->desc.in);
        return DC_NONE;
    }
    run_use(r, ids);
    dc_embed_args a = {.ids = ids, .table = table, .positions = positions};
    a.y = run_new(r, table->type, 3, (int64_t[3]){ids.dim[0], ids.dim[1], table->desc.in});
    dc_status s = EXECUTE(r, embed(r->device, &a));
    if (s == DC_DATA) fail_id(r, "embed", "token", ids, table->desc.out);
    run_end_op(r, s, a.y, 0);
    return a.y;
}

dc_tensor dc_gather_rows(dc_run *r, dc_tensor x, dc_tensor index)
{
    if (!run_begin_op(r, "gather_rows")) return DC_NONE;
    if (!is_real(r, x) || x.rank != 3) return refuse(r, "gather_rows", "input", x, "F32 [N,T,C]");
    if (index.rank != 1 || index.dtype != DC_I32 || index.dim[0] != x.dim[0]) return refuse(r, "gather_rows", "index", index, "I32 [N]");
    run_use(r, x);
    run_use(r, index);
    dc_gather_args a = {.x = x, .index = index};
    a.y = run_new(r, (dc_dtype)x.dtype, 2, (int64_t[2]){x.dim[0], x.dim[2]});
    dc_status s = EXECUTE(r, gather_rows(r->device, &a));
    if (s == DC_DATA) fail_id(r, "gather_rows", "index", index, x.dim[1]);
    run_end_op(r, s, a.y, 0);
    return a.y;
}

dc_tensor dc_timestep_embedding(dc_run *r, dc_tensor t, dc_timestep_opt o)
{
    if (!run_begin_op(r, "timestep_embedding")) return DC_NONE;
    if (!is_real(r, t) || t.rank != 1) return refuse(r, "timestep_embedding", "timesteps", t, "F32 [N]");
    if (o.dim < 2 || (float)(o.dim / 2) <= o.freq_shift)
        return refuse(r, "timestep_embedding", "size", t, "2 or more, its half above the frequency shift");
    run_use(r, t);
    dc_timestep_args a = {.t = t, .o = o};
    a.y = run_new(r, DC_F32, 2, (int64_t[2]){t.dim[0], o.dim});
    run_end_op(r, EXECUTE(r, timestep_embedding(r->device, &a)), a.y, 0);
    return a.y;
}

/* ---- elementwise ----------------------------------------------------------------------------------------------------------- */

/* y's shape must be every term's, but for a first axis of 1 that is repeated. */
static bool lincomb_rule(dc_run *r, dc_tensor y, const dc_term *terms, int n)
{
    for (int i = 0; i < n; i++) {
        dc_tensor x = terms[i].x;
        if (is_real(r, x) && x.dim[0] == 1) x.dim[0] = y.dim[0];
        if (is_real(r, x) && same_shape(x, y)) continue;
        refuse(r, "lincomb", "term", terms[i].x, SHAPE(y));
        return false;
    }
    return true;
}

static void lincomb(dc_run *r, dc_tensor y, const dc_term *terms, int n)
{
    dc_lincomb_args a = {.y = y};
    for (int i = 0; i < n; i++)
        if (terms[i].k != 0) a.term[a.n++] = terms[i]; /* zero terms may hold NaN */
    run_end_op(r, EXECUTE(r, lincomb(r->device, &a)), y, 0);
}

/* Term i may give its memory to y: it has y's shape, and so has every other term that looks into it. Its coefficient does not matter: a
 * term that is 0 now may be another time. */
static bool may_give(const dc_term *terms, int n, int i, dc_tensor y)
{
    if (!same_shape(terms[i].x, y)) return false;
    for (int j = 0; j < n; j++)
        if (looks_into(terms[j].x, terms[i].x) && !same_shape(terms[j].x, y)) return false;
    return true;
}

dc_tensor dc_lincomb(dc_run *r, const dc_term *terms, int n)
{
    if (!run_begin_op(r, "lincomb")) return DC_NONE;
    if (n < 1 || n > 8) return refuse(r, "lincomb", "terms", DC_NONE, "1 to 8");
    dc_tensor largest = terms[0].x;
    for (int i = 1; i < n; i++)
        if (terms[i].x.rank == largest.rank && terms[i].x.dim[0] > largest.dim[0]) largest = terms[i].x;
    if (!lincomb_rule(r, largest, terms, n)) return DC_NONE;
    for (int i = 0; i < n; i++) run_use(r, terms[i].x);
    dc_dtype type = (dc_dtype)largest.dtype;
    for (int i = 0; i < n; i++)
        if (terms[i].x.dtype == DC_F32) type = DC_F32;
    dc_tensor y = run_new(r, type, largest.rank, largest.dim);
    for (int i = 0; i < n; i++)
        if (may_give(terms, n, i, y)) run_may_take(r, y, terms[i].x);
    lincomb(r, y, terms, n);
    return y;
}

void dc_lincomb_into(dc_run *r, dc_tensor y, const dc_term *terms, int n)
{
    if (!run_begin_op(r, "lincomb")) return;
    if (!is_real(r, y)) refuse(r, "lincomb", "output", y, "F32");
    else if (n < 0 || n > 8) refuse(r, "lincomb", "terms", DC_NONE, "0 to 8");
    if (!dc_run_ok(r) || !lincomb_rule(r, y, terms, n)) return;
    for (int i = 0; i < n; i++) run_use(r, terms[i].x);
    run_use(r, y);
    lincomb(r, y, terms, n);
}

dc_tensor dc_activate(dc_run *r, dc_tensor x, dc_act act)
{
    if (!run_begin_op(r, "activate")) return DC_NONE;
    if (!is_real(r, x)) return refuse(r, "activate", "input", x, "F32");
    run_use(r, x);
    dc_act_args a = {.y = run_new(r, (dc_dtype)x.dtype, x.rank, x.dim), .x = x, .act = act};
    run_may_take(r, a.y, x);
    run_end_op(r, EXECUTE(r, activate(r->device, &a)), a.y, 0);
    return a.y;
}

dc_tensor dc_rescale_std(dc_run *r, dc_tensor guided, dc_tensor cond, float phi)
{
    if (!run_begin_op(r, "rescale_std")) return DC_NONE;
    if (!is_real(r, guided) || !is_dense(guided) || guided.dim[0] < 1) return refuse(r, "rescale_std", "guided", guided, "F32 [N,..], dense");
    if (!is_real(r, cond) || !is_dense(cond) || !same_shape(guided, cond)) return refuse(r, "rescale_std", "cond", cond, SHAPE(guided));
    run_use(r, guided);
    run_use(r, cond);
    dc_rescale_args a = {.y = run_new(r, (dc_dtype)guided.dtype, guided.rank, guided.dim), .guided = guided, .cond = cond, .phi = phi};
    run_end_op(r, EXECUTE(r, rescale_std(r->device, &a)), a.y, 0);
    return a.y;
}

void dc_stats_of(dc_run *r, dc_tensor x, dc_stats *host)
{
    if (!run_begin_op(r, "stats")) return;
    if (!is_real(r, x) || !is_dense(x)) {
        refuse(r, "stats", "input", x, "F32, dense");
        return;
    }
    run_use(r, x);
    dc_stats_args a = {x, host};
    run_end_op(r, EXECUTE(r, stats(r->device, &a)), x, 0);
}

dc_tensor dc_to_rgb8(dc_run *r, dc_tensor x)
{
    if (!run_begin_op(r, "to_rgb8")) return DC_NONE;
    if (!is_real(r, x) || x.rank != 4 || dc_channels(x) != 3 || !is_dense(x)) return refuse(r, "to_rgb8", "picture", x, "F32 [N,H,W,3], dense");
    run_use(r, x);
    dc_rgb8_args a = {.y = run_new(r, DC_U8, 4, x.dim), .x = x};
    run_end_op(r, EXECUTE(r, to_rgb8(r->device, &a)), a.y, 0);
    return a.y;
}
