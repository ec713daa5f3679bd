/* params.c - sets of parameters: a model's layers, prepared for a device and dropped again, together. */
#include "backends/backend.h"
#include "base/text.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dc_params {
    dc_device *device;
    char *name;
    dc_param **at;
    int n, capacity;
    uint64_t bytes, count;
    bool ready, wide;
};

dc_params *dc_params_new(dc_device *d, const char *name)
{
    dc_params *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->device = d;
    p->name = dc_strdup(name);
    if (p->name) return p;
    free(p);
    return NULL;
}

void dc_params_free(dc_params *p)
{
    if (!p) return;
    dc_params_drop(p);
    for (int i = 0; i < p->n; i++) {
        free((char *)p->at[i]->desc.name);
        free(p->at[i]);
    }
    free(p->at);
    free(p->name);
    free(p);
}

void dc_params_wide(dc_params *p) { p->wide = true; }

static int64_t rows_of(const dc_source *s, int n)
{
    int64_t rows = 0;
    for (int i = 0; i < n; i++) rows += s[i].rows;
    return rows;
}

dc_param *dc_params_add(dc_params *p, const dc_param_desc *desc)
{
    assert(desc->n_weight >= 1 && desc->n_weight <= DC_MAX_PARTS && desc->n_bias >= 0 && desc->n_bias <= DC_MAX_PARTS);
    assert(desc->out > 0 && desc->in > 0 && desc->kh > 0 && desc->kw > 0);
    assert(desc->kind == DC_PARAM_CONV || (desc->kh == 1 && desc->kw == 1));
    assert(desc->kind != DC_PARAM_NORM || desc->in == 1);
    assert((!desc->geglu && !desc->transposed) || desc->kind == DC_PARAM_LINEAR);
    assert(!desc->transposed || desc->n_weight == 1);
    assert(rows_of(desc->weight, desc->n_weight) == (desc->transposed ? desc->in : desc->out));
    assert(!desc->n_bias || rows_of(desc->bias, desc->n_bias) == desc->out);
    assert(!desc->geglu || desc->out % 2 == 0);
    if (p->n == p->capacity) {
        int capacity = p->capacity ? 2 * p->capacity : 64;
        dc_param **at = realloc(p->at, (size_t)capacity * sizeof *at);
        if (!at) return NULL;
        p->at = at;
        p->capacity = capacity;
    }
    dc_param *k = calloc(1, sizeof *k);
    if (!k) return NULL;
    k->desc = *desc;
    k->desc.name = dc_strdup(desc->name);
    if (!k->desc.name) {
        free(k);
        return NULL;
    }
    k->type = p->wide && p->device->type == DC_F16 ? DC_BF16 : p->device->type;
    k->form_bytes = p->device->be->param_bytes(p->device, k);
    p->bytes += k->form_bytes;
    p->count += (uint64_t)desc->out * (uint64_t)desc->in * (uint64_t)desc->kh * (uint64_t)desc->kw + (desc->n_bias ? (uint64_t)desc->out : 0);
    p->at[p->n++] = k;
    p->ready = false;
    return k;
}

/* ---- non-finite weights: found by their exponent bits, before they become a black picture -------------------------- */

/* Blocks of a fixed length, because compilers vectorise those at every level of optimisation; the file may be unaligned. */
enum { BLOCK = 256, POLL = 1 << 20 };

#define ANY_BAD(type, mask)                                                                                                                          \
    static bool any_bad_##type##_##mask(const uint8_t *at)                                                                                           \
    {                                                                                                                                                \
        type bad = 0, v[BLOCK];                                                                                                                      \
        memcpy(v, at, sizeof v);                                                                                                                     \
        for (int i = 0; i < BLOCK; i++) bad |= (type)((v[i] & mask) == mask);                                                                        \
        return bad != 0;                                                                                                                             \
    }
ANY_BAD(uint32_t, 0x7f800000u)
ANY_BAD(uint16_t, 0x7c00u)
ANY_BAD(uint16_t, 0x7f80u)
ANY_BAD(uint8_t, 0x7fu)
ANY_BAD(uint8_t, 0x7cu)

static bool any_bad(dc_dtype type, const uint8_t *at)
{
    switch (type) {
    case DC_F32: return any_bad_uint32_t_0x7f800000u(at);
    case DC_F16: return any_bad_uint16_t_0x7c00u(at);
    case DC_BF16: return any_bad_uint16_t_0x7f80u(at);
    case DC_F8_E4M3: return any_bad_uint8_t_0x7fu(at);
    case DC_F8_E5M2: return any_bad_uint8_t_0x7cu(at);
    default: return type == DC_F64; /* looked at one by one: may be finite and still too large for a float */
    }
}

/* In blocks: the numbers of one are all finite, or none is. `from` is the beginning of one. */
static int64_t find_bad_block(const dc_source *s, int64_t from, int64_t to)
{
    const int64_t size = dc_dtype_block(s->dtype);
    for (int64_t at = from; at < to; at += size)
        if (!dc_block_finite(s->dtype, (const uint8_t *)s->data + (size_t)(at / size) * dc_dtype_size(s->dtype))) return at;
    return -1;
}

/* The first of values [from, to) that is not finite as a float, or -1. */
static int64_t find_bad(const dc_source *s, int64_t from, int64_t to)
{
    if (dc_dtype_block(s->dtype) > 1) return find_bad_block(s, from, to);
    size_t size = dc_dtype_size(s->dtype);
    bool integer = s->dtype >= DC_I64;
    for (int64_t at = from; !integer && at < to; at += BLOCK) {
        if (to - at >= BLOCK && !any_bad(s->dtype, (const uint8_t *)s->data + (size_t)at * size)) continue;
        for (int64_t i = at; i < at + BLOCK && i < to; i++)
            if (!isfinite(dc_source_value(s, i))) return i;
    }
    return -1;
}

/* All n values of part `part` of `parts` of d's weight or bias. */
static dc_status check_source(dc_device *device, const dc_param_desc *d, const char *which, const dc_source *s, int part, int parts, int64_t n,
                              dc_error *e)
{
    char where[48] = "";
    int64_t bad = -1;
    for (int64_t at = 0; bad < 0 && at < n; at += POLL) {
        if (dc_cancelled(device)) return dc_fail(e, DC_CANCELLED, "stopped");
        bad = find_bad(s, at, n - at < POLL ? n : at + POLL);
    }
    if (bad < 0) return DC_OK;
    if (parts > 1) snprintf(where, sizeof where, " (part %d of %d)", part + 1, parts);
    dc_status status = dc_fail(e, DC_DATA, "%s.%s%s: found a non-finite value at index %lld (%g), expected finite weights", d->name, which, where,
                               (long long)bad, (double)dc_source_value(s, bad));
    dc_hint(e, "The file is damaged, or its training broke down. Get it again, or use another one.");
    return status;
}

static dc_status check_finite(dc_device *device, const dc_param *k, dc_error *e)
{
    const dc_param_desc *d = &k->desc;
    int64_t row = d->transposed ? d->out : (int64_t)d->in * d->kh * d->kw;
    dc_status s = DC_OK;
    for (int i = 0; !s && i < d->n_weight; i++) s = check_source(device, d, "weight", &d->weight[i], i, d->n_weight, d->weight[i].rows * row, e);
    for (int i = 0; !s && i < d->n_bias; i++) s = check_source(device, d, "bias", &d->bias[i], i, d->n_bias, d->bias[i].rows, e);
    return s;
}

/* ---- prepare, drop ------------------------------------------------------------------------------------------------ */

static dc_status prepare_one(dc_device *device, dc_param *k, dc_error *e)
{
    if (k->form) return DC_OK; /* from before; others were added since */
    dc_status s = check_finite(device, k, e);
    if (!s) s = device->be->param_prepare(device, k, e);
    if (s) dc_fail(e, s, "%s: cannot be prepared on device %s", k->desc.name, device->be->name); /* unless a better message is there */
    return s;
}

dc_status dc_params_prepare(dc_params *p, void (*progress)(void *user, uint64_t done, uint64_t total), void *user, dc_error *e)
{
    uint64_t done = 0;
    dc_status s = DC_OK;
    if (p->ready) return DC_OK;
    for (int i = 0; !s && i < p->n; i++) {
        if (dc_cancelled(p->device)) s = dc_fail(e, DC_CANCELLED, "stopped");
        else s = prepare_one(p->device, p->at[i], e);
        done += p->at[i]->form_bytes;
        if (!s && progress) progress(user, done, p->bytes);
    }
    p->ready = !s;
    if (s) dc_params_drop(p);
    return s;
}

void dc_params_drop(dc_params *p)
{
    for (int i = 0; i < p->n; i++)
        if (p->at[i]->form) {
            p->device->be->param_drop(p->device, p->at[i]);
            p->at[i]->form = NULL;
        }
    p->ready = false;
}

bool dc_params_ready(const dc_params *p) { return p->ready; }
uint64_t dc_params_bytes(const dc_params *p) { return p->bytes; }
uint64_t dc_params_least(const dc_params *p)
{
    uint64_t fixed = 0, most = 0;
    for (int i = 0; i < p->n; i++) {
        const dc_param *k = p->at[i];
        if (k->desc.kind == DC_PARAM_NORM || k->desc.kind == DC_PARAM_TABLE) fixed += k->form_bytes;
        else if (k->form_bytes > most) most = k->form_bytes;
    }
    return fixed + most + DC_PIECE;
}
uint64_t dc_params_count(const dc_params *p) { return p->count; }
int dc_param_out(const dc_param *p) { return p->desc.out; }
int dc_param_in(const dc_param *p) { return p->desc.in; }
