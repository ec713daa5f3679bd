/* taps.c - data in and out of a pass: named activations, uploads, downloads, states, what is kept. */
#include "backends/run.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- named activations ------------------------------------------------------------------------------------------ */

void dc_run_set_tap(dc_run *r, dc_tap_fn *fn, void *user)
{
    r->tap = fn;
    r->tap_user = user;
}

bool dc_tapping(const dc_run *r) { return r->tap != NULL; }

void dc_scope(dc_run *r, const char *format, ...)
{
    size_t at = strlen(r->scope);
    va_list args;
    assert(r->scopes < (int)(sizeof r->scope_end / sizeof *r->scope_end));
    r->scope_end[r->scopes++] = (int)at;
    if (at && at + 2 < sizeof r->scope) r->scope[at++] = '.';
    va_start(args, format);
    vsnprintf(r->scope + at, sizeof r->scope - at, format, args);
    va_end(args);
}

void dc_scope_end(dc_run *r)
{
    assert(r->scopes > 0);
    r->scope[r->scope_end[--r->scopes]] = 0;
}

/* [N,H,W,C] to [N,C,H,W]; other ranks as they are. */
static void to_nchw(const float *in, dc_tensor t, float *out, int64_t *dim)
{
    memcpy(dim, t.dim, sizeof t.dim);
    if (t.rank != 4) {
        memcpy(out, in, (size_t)dc_numel(t) * sizeof *out);
        return;
    }
    int64_t C = t.dim[3], area = t.dim[1] * t.dim[2];
    for (int64_t n = 0; n < t.dim[0]; n++)
        for (int64_t p = 0; p < area; p++)
            for (int64_t c = 0; c < C; c++) out[(n * C + c) * area + p] = in[(n * area + p) * C + c];
    dim[1] = C;
    dim[2] = t.dim[1];
    dim[3] = t.dim[2];
}

/* t to host memory without gaps, as it is. */
static dc_status download_as_is(dc_run *r, dc_tensor t, void *host)
{
    dc_device *d = r->device;
    size_t size = dc_dtype_size((dc_dtype)t.dtype), row = (size_t)dc_channels(t) * size;
    dc_status s = DC_OK;
    if (t.stride == dc_channels(t)) return d->be->download(d, host, t.data, (uint64_t)dc_numel(t) * size);
    for (int64_t i = 0; !s && i < dc_rows(t); i++)
        s = d->be->download(d, (char *)host + (size_t)i * row, (const char *)t.data + (size_t)(i * t.stride) * size, row);
    return s;
}

/* The same, halves as floats. */
static dc_status download(dc_run *r, dc_tensor t, void *host)
{
    if (t.dtype != DC_F16 && t.dtype != DC_BF16) return download_as_is(r, t, host);
    const size_t bytes = (size_t)dc_numel(t) * dc_dtype_size((dc_dtype)t.dtype);
    void *raw = malloc(bytes + 1);
    if (!raw) return dc_fail_memory(&r->err, "an activation", bytes);
    dc_status s = download_as_is(r, t, raw);
    if (!s) dc_source_floats(&(dc_source){.data = raw, .dtype = (dc_dtype)t.dtype}, 0, dc_numel(t), host);
    free(raw);
    return s;
}

static dc_status call_tap(dc_run *r, const char *name, dc_tensor t)
{
    size_t bytes = (size_t)dc_numel(t) * sizeof(float);
    float *raw = malloc(2 * bytes + 1), *out = raw + dc_numel(t);
    char full[240];
    int64_t dim[4];
    if (!raw) return dc_fail_memory(&r->err, "a named activation", 2 * bytes);
    dc_status s = download(r, t, raw);
    if (!s) {
        to_nchw(raw, t, out, dim);
        snprintf(full, sizeof full, "%s%s%s", r->scope, *r->scope && *name ? "." : "", name);
        r->tap(r->tap_user, full, out, t.rank, dim);
    }
    free(raw);
    return s;
}

void dc_tap(dc_run *r, const char *name, dc_tensor t)
{
    if (!r->tap || dc_is_none(t) || t.dtype > DC_BF16 || !run_begin_op(r, "tap")) return;
    run_use(r, t);
    run_end_op(r, run_executes(r) ? call_tap(r, name, t) : DC_OK, t, 0);
}

/* ---- in and out --------------------------------------------------------------------------------------------------- */

dc_tensor dc_upload(dc_run *r, dc_dtype t, int rank, const int64_t *dim, const void *host)
{
    if (!run_begin_op(r, "upload")) return DC_NONE;
    dc_device *d = r->device;
    dc_tensor y = run_new(r, t, rank, dim);
    run_end_op(r, run_executes(r) ? d->be->upload(d, y.data, host, (uint64_t)dc_numel(y) * dc_dtype_size(t)) : DC_OK, y, 0);
    return y;
}

void dc_download(dc_run *r, dc_tensor t, void *host)
{
    if (dc_is_none(t) || !run_begin_op(r, "download")) return;
    run_use(r, t);
    run_end_op(r, run_executes(r) ? download(r, t, host) : DC_OK, t, 0);
}

dc_tensor dc_new(dc_run *r, dc_dtype t, int rank, const int64_t *dim)
{
    if (!run_begin_op(r, "new")) return DC_NONE;
    dc_tensor y = run_new(r, t, rank, dim);
    run_end_op(r, DC_OK, y, 0);
    return y;
}

dc_tensor dc_state(dc_run *r, dc_dtype t, int rank, const int64_t *dim)
{
    if (!run_begin_op(r, "state")) return DC_NONE;
    dc_tensor y = run_new_state(r, t, rank, dim);
    run_end_op(r, DC_OK, y, 0);
    return y;
}

void dc_keep(dc_run *r, dc_tensor t)
{
    if (r->mode == RUN_PLANNING && !r->err.code && t.id >= 0) r->slots[t.id].last = RUN_FOREVER;
}
