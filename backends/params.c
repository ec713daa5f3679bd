/* params.c - sets of parameters: a model's layers, prepared for a device and dropped again, together. */
#include "backends/backend.h"
#include "base/text.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct dc_params {
    dc_device *device;
    char      *name;
    dc_param **at;
    int        n, capacity;
    uint64_t   bytes, count;
    bool       ready;
};

dc_params *dc_params_new(dc_device *d, const char *name)
{
    dc_params *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->device = d;
    p->name   = dc_strdup(name);
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

static int64_t rows_of(const dc_source *s, int n)
{
    int64_t rows = 0;
    for (int i = 0; i < n; i++) rows += s[i].rows;
    return rows;
}

dc_param *dc_params_add(dc_params *p, const dc_param_desc *desc)
{
    assert(rows_of(desc->weight, desc->n_weight) == (desc->transposed ? desc->in : desc->out));
    assert(!desc->n_bias || rows_of(desc->bias, desc->n_bias) == desc->out);
    assert(!desc->geglu || desc->out % 2 == 0);
    if (p->n == p->capacity) {
        int        capacity = p->capacity ? 2 * p->capacity : 64;
        dc_param **at       = realloc(p->at, (size_t)capacity * sizeof *at);
        if (!at) return NULL;
        p->at       = at;
        p->capacity = capacity;
    }
    dc_param *k = calloc(1, sizeof *k);
    if (!k) return NULL;
    k->desc      = *desc;
    k->desc.name = dc_strdup(desc->name);
    if (!k->desc.name) {
        free(k);
        return NULL;
    }
    k->form_bytes = p->device->be->param_bytes(p->device, k);
    p->bytes += k->form_bytes;
    p->count += (uint64_t)desc->out * (uint64_t)desc->in * (uint64_t)desc->kh * (uint64_t)desc->kw + (desc->n_bias ? (uint64_t)desc->out : 0);
    p->at[p->n++] = k;
    p->ready      = false;
    return k;
}

/* ---- non-finite weights: found by their exponent bits, before they become a black picture -------------------------- */

#define ANY_BAD(type, mask)                                                                                                                                                        \
    {                                                                                                                                                                              \
        type bad = 0;                                                                                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                                                                                          \
            type v;                                                                                                                                                                \
            memcpy(&v, at + (size_t)i * sizeof v, sizeof v);                                                                                                                       \
            bad |= (type)((v & (mask)) == (mask));                                                                                                                                 \
        }                                                                                                                                                                          \
        return bad != 0;                                                                                                                                                           \
    }

static bool any_non_finite(const dc_source *s, int64_t from, int64_t n)
{
    const uint8_t *at = (const uint8_t *)s->data + (size_t)from * dc_dtype_size(s->dtype);
    switch (s->dtype) {
    case DC_F32: ANY_BAD(uint32_t, 0x7f800000u)
    case DC_F16: ANY_BAD(uint16_t, 0x7c00u)
    case DC_BF16: ANY_BAD(uint16_t, 0x7f80u)
    case DC_F64: ANY_BAD(uint64_t, 0x7ff0000000000000u)
    case DC_F8_E4M3: ANY_BAD(uint8_t, 0x7fu)
    case DC_F8_E5M2: ANY_BAD(uint8_t, 0x7cu)
    default: return false;
    }
}

static dc_status check_source(const char *name, const char *which, const dc_source *s, int64_t row, dc_error *e)
{
    for (int64_t r = 0; r < s->rows; r++) {
        if (!any_non_finite(s, r * row, row)) continue;
        int64_t i = r * row;
        while (!any_non_finite(s, i, 1)) i++;
        dc_status status = dc_fail(e, DC_DATA, "%s.%s: found a non-finite value at index %lld, expected finite weights", name, which, (long long)i);
        dc_hint(e, "The file is damaged or the training broke down; nothing sensible can be computed with it.");
        return status;
    }
    return DC_OK;
}

static dc_status check_finite(const dc_param *k, dc_error *e)
{
    const dc_param_desc *d   = &k->desc;
    int64_t              row = d->transposed ? d->out : (int64_t)d->in * d->kh * d->kw;
    dc_status            s   = DC_OK;
    for (int i = 0; !s && i < d->n_weight; i++) s = check_source(d->name, "weight", &d->weight[i], row, e);
    for (int i = 0; !s && i < d->n_bias; i++) s = check_source(d->name, "bias", &d->bias[i], 1, e);
    return s;
}

/* ---- prepare, drop ------------------------------------------------------------------------------------------------ */

dc_status dc_params_prepare(dc_params *p, void (*progress)(void *user, uint64_t done, uint64_t total), void *user, dc_error *e)
{
    uint64_t  done = 0;
    dc_status s    = DC_OK;
    if (p->ready) return DC_OK;
    for (int i = 0; !s && i < p->n; i++) {
        if (dc_cancelled(p->device)) s = dc_fail(e, DC_CANCELLED, "stopped");
        if (!s) s = check_finite(p->at[i], e);
        if (!s) s = p->device->be->param_prepare(p->device, p->at[i], e);
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

bool     dc_params_ready(const dc_params *p) { return p->ready; }
uint64_t dc_params_bytes(const dc_params *p) { return p->bytes; }
uint64_t dc_params_count(const dc_params *p) { return p->count; }
int      dc_param_out(const dc_param *p) { return p->desc.out; }
int      dc_param_in(const dc_param *p) { return p->desc.in; }
