/* pack.c - parameters as the CPU uses them: weights in panels in their storage type, norms as floats, tables left in the file. */
#include "backends/cpu/cpu.h"
#include "base/half.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LARGE (1u << 20)

void *cpu_memory(uint64_t bytes)
{
    if (bytes < LARGE) return aligned_alloc(64, (bytes + 63) / 64 * 64 + (bytes ? 0 : 64));
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, bytes, MADV_HUGEPAGE); /* fewer page faults and TLB misses; no matter if refused */
    return p;
}

void cpu_memory_free(void *p, uint64_t bytes)
{
    if (bytes < LARGE) free(p);
    else if (p) munmap(p, bytes);
}

/* ---- layout ------------------------------------------------------------------------------------------------------ */

/* The narrowest of our three types that holds all parts exactly. */
static dc_dtype panel_type(const dc_param_desc *d)
{
    dc_dtype t = DC_DTYPES;
    for (int i = 0; i < d->n_weight; i++) {
        dc_dtype one = d->weight[i].dtype;
        if (one == DC_F8_E4M3 || one == DC_F8_E5M2) one = DC_F16;
        if (one != DC_F16 && one != DC_BF16) one = DC_F32;
        t = t == DC_DTYPES || t == one ? one : DC_F32;
    }
    return t;
}

static cpu_panels layout(const cpu_device *c, const dc_param *p)
{
    const dc_param_desc *d = &p->desc;
    cpu_panels w = {.type = panel_type(d), .k = d->in * d->kh * d->kw, .outs = d->geglu ? d->out / 2 : d->out, .geglu = d->geglu};
    if (c->narrow && d->kh * d->kw == 1) {
        w.pairs = true;
        w.type = DC_F32;
        w.k = (d->in + 1) / 2;
    }
    w.full = d->geglu ? c->gemm->panel / 2 : c->gemm->panel;
    w.count = (w.outs + w.full - 1) / w.full;
    return w;
}

static uint64_t panel_bytes(const cpu_panels *w, const cpu_gemm *g)
{
    uint64_t columns = (uint64_t)(w->count - 1) * (uint64_t)g->panel + (uint64_t)cpu_panel_width(w, g, w->count - 1);
    return columns * (uint64_t)w->k * dc_dtype_size(w->type);
}

static uint64_t round64(uint64_t n) { return (n + 63) / 64 * 64; }
static bool is_matrix(const dc_param *p) { return p->desc.kind == DC_PARAM_LINEAR || p->desc.kind == DC_PARAM_CONV; }

/* header, bias, panels */
uint64_t cpu_param_bytes(dc_device *d, const dc_param *p)
{
    if (p->desc.kind == DC_PARAM_TABLE) return 0;
    if (p->desc.kind == DC_PARAM_NORM) return 2 * sizeof(float) * (uint64_t)p->desc.out;
    cpu_panels w = layout(cpu_of(d), p);
    return round64(sizeof(cpu_panels)) + (p->desc.n_bias ? round64(sizeof(float) * (uint64_t)p->desc.out) : 0) + panel_bytes(&w, cpu_of(d)->gemm);
}

void cpu_param_drop(dc_device *d, dc_param *p)
{
    (void)d;
    cpu_memory_free(p->form, p->form_bytes);
}

/* ---- packing --------------------------------------------------------------------------------------------------------- */

enum { PACK_CHANNELS = 64 }; /* a stretch of them at a time */

typedef struct packing {
    const dc_param *p;
    const cpu_panels *w;
    const cpu_gemm *g;
    char *data;
} packing;

/* The part that holds row `row` of the weight, and the row's number in it. */
static const dc_source *find_row(const dc_param_desc *d, int64_t *row)
{
    int i = 0;
    while (i + 1 < d->n_weight && *row >= d->weight[i].rows) *row -= d->weight[i++].rows;
    return &d->weight[i];
}

/* n elements with `step` elements between them, into every `width`-th place of `to`: same type both ends. */
#define SCATTER(type)                                                                                                                                \
    for (int i = 0; i < n; i++) {                                                                                                                    \
        type v;                                                                                                                                      \
        memcpy(&v, from + (size_t)i * step * sizeof v, sizeof v);                                                                                    \
        ((type *)to)[(size_t)i * width] = v;                                                                                                         \
    }

static void scatter(const dc_source *s, int64_t at, size_t step, int n, dc_dtype type, char *to, size_t width)
{
    const char *from = (const char *)s->data + (size_t)at * dc_dtype_size(s->dtype);
    if (s->dtype == type && type == DC_F32) {
        SCATTER(uint32_t)
    } else if (s->dtype == type) {
        SCATTER(uint16_t)
    } else {
        for (int i = 0; i < n; i++) {
            float v = dc_source_value(s, at + (int64_t)((size_t)i * step));
            if (type == DC_F32) ((float *)to)[(size_t)i * width] = v;
            else ((uint16_t *)to)[(size_t)i * width] = dc_f32_to_f16(v); /* fp8 only: exact */
        }
    }
}

/* Column `column` of a panel: weight row `row`, in the order (ky, kx, channel). Done for a stretch of channels at a time, so that the
 * stretch of the panel being filled stays in the cache while its columns come one after the other. */
static void pack_column(const packing *k, char *panel, int width, int column, int64_t row, int from, int n)
{
    const dc_param_desc *d = &k->p->desc;
    int taps = d->kh * d->kw;
    size_t size = dc_dtype_size(k->w->type);
    const dc_source *s = d->transposed ? &d->weight[0] : find_row(d, &row);
    for (int tap = 0; tap < taps; tap++) {
        char *to = panel + ((size_t)(tap * d->in + from) * (size_t)width + (size_t)column) * size;
        int64_t at = d->transposed ? (int64_t)from * d->out + row : (row * d->in + from) * taps + tap;
        size_t step = d->transposed ? (size_t)d->out : (size_t)taps;
        scatter(s, at, step, n, k->w->type, to, (size_t)width);
    }
}

/* The same as pairs of bf16, rounded to nearest even. `from` and 64 are even, so that no pair is cut. */
static void pack_pairs(const packing *k, char *panel, int width, int column, int64_t row, int from, int n)
{
    const dc_param_desc *d = &k->p->desc;
    const dc_source *s = d->transposed ? &d->weight[0] : find_row(d, &row);
    float v[PACK_CHANNELS];
    if (!d->transposed) dc_source_floats(s, row * d->in + from, n, v);
    for (int i = 0; i < n; i++) {
        if (d->transposed) v[i] = dc_source_value(s, (int64_t)(from + i) * d->out + row);
        const int at = from + i;
        ((uint16_t *)panel)[((size_t)(at / 2) * (size_t)width + (size_t)column) * 2 + (size_t)(at % 2)] = dc_f32_to_bf16(v[i]);
    }
}

static void pack_panel(void *ctx, int64_t p, int thread)
{
    (void)thread;
    const packing *k = ctx;
    const cpu_panels *w = k->w;
    int width = cpu_panel_width(w, k->g, (int)p), outs = cpu_panel_outs(w, (int)p), half = w->geglu ? width / 2 : width;
    char *panel = k->data + (size_t)p * (size_t)w->k * (size_t)k->g->panel * dc_dtype_size(w->type);
    void (*pack)(const packing *, char *, int, int, int64_t, int, int) = w->pairs ? pack_pairs : pack_column;
    if (outs < half || (w->pairs && k->p->desc.in % 2)) memset(panel, 0, (size_t)w->k * (size_t)width * dc_dtype_size(w->type));
    for (int from = 0; from < k->p->desc.in; from += PACK_CHANNELS) {
        int n = k->p->desc.in - from < PACK_CHANNELS ? k->p->desc.in - from : PACK_CHANNELS;
        for (int c = 0; c < outs; c++) {
            int64_t row = p * w->full + c;
            pack(k, panel, width, c, row, from, n);
            if (w->geglu) pack(k, panel, width, half + c, w->outs + row, from, n);
        }
    }
}

static void read_parts(const dc_source *part, int n, float *out)
{
    for (int i = 0; i < n; out += part[i++].rows) dc_source_floats(&part[i], 0, part[i].rows, out);
}

dc_status cpu_param_prepare(dc_device *d, dc_param *p, dc_error *e)
{
    const dc_param_desc *k = &p->desc;
    if (k->kind == DC_PARAM_TABLE) return DC_OK;
    char *form = cpu_memory(p->form_bytes);
    if (!form) return dc_fail_memory(e, k->name, p->form_bytes);
    p->form = form;
    if (!is_matrix(p)) {
        float *scale = (float *)form;
        read_parts(k->weight, k->n_weight, scale);
        memset(scale + k->out, 0, sizeof(float) * (size_t)k->out);
        read_parts(k->bias, k->n_bias, scale + k->out);
        return DC_OK;
    }
    cpu_panels *w = (cpu_panels *)form;
    *w = layout(cpu_of(d), p);
    form += round64(sizeof *w);
    if (k->n_bias) {
        read_parts(k->bias, k->n_bias, (float *)form);
        w->bias = (const float *)form;
        form += round64(sizeof(float) * (uint64_t)k->out);
    }
    w->data = form;
    packing job = {p, w, cpu_of(d)->gemm, form};
    if (cpu_for(d, w->count, pack_panel, &job)) return dc_fail(e, DC_CANCELLED, "stopped");
    return DC_OK;
}
