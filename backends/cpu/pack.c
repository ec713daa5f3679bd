/* pack.c - parameters as the CPU uses them: weights in panels in their storage type, norms as floats, tables left in the file. */
#include "backends/cpu/cpu.h"
#include "base/half.h"
#include <math.h>
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

void cpu_source_floats(const cpu_gemm *g, const dc_source *s, int64_t from, int64_t n, float *out)
{
    if (s->dtype != DC_F16 && s->dtype != DC_BF16 && s->dtype != DC_F32) dc_source_floats(s, from, n, out);
    else g->widen((const char *)s->data + (size_t)from * dc_dtype_size(s->dtype), s->dtype, n, out);
}

/* ---- layout ------------------------------------------------------------------------------------------------------ */

/* The narrowest of our three types that holds all parts exactly. */
static dc_dtype panel_type(const dc_param_desc *d)
{
    dc_dtype t = DC_DTYPES;
    for (int i = 0; i < d->n_weight; i++) {
        dc_dtype one = d->weight[i].dtype;
        if ((one == DC_F8_E4M3 || one == DC_F8_E5M2) && d->weight[i].scale == 0) one = DC_F16;
        if (one != DC_F16 && one != DC_BF16) one = DC_F32;
        t = t == DC_DTYPES || t == one ? one : DC_F32;
    }
    return t;
}

static cpu_panels layout(const cpu_device *c, const dc_param *p)
{
    const dc_param_desc *d = &p->desc;
    const cpu_gemm *g = cpu_gemm_of(c, d);
    cpu_panels w = {.type = g->per > 1 ? DC_F32 : panel_type(d), .outs = d->geglu ? d->out / 2 : d->out, .geglu = d->geglu};
    w.k = d->kh * d->kw * cpu_places(g, d->in);
    w.full = d->geglu ? g->panel / 2 : g->panel;
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

/* Bytes of one number for each row of the weight. */
static uint64_t column_bytes(const dc_param *p) { return round64(sizeof(float) * (uint64_t)p->desc.out); }

/* header, bias, in int8 scales and offsets, panels */
uint64_t cpu_param_bytes(dc_device *d, const dc_param *p)
{
    if (p->desc.kind == DC_PARAM_TABLE) return 0;
    if (p->desc.kind == DC_PARAM_NORM) return 2 * sizeof(float) * (uint64_t)p->desc.out;
    cpu_panels w = layout(cpu_of(d), p);
    const cpu_gemm *g = cpu_gemm_of(cpu_of(d), &p->desc);
    return round64(sizeof(cpu_panels)) + (p->desc.n_bias ? column_bytes(p) : 0) + (g->whole ? 2 * column_bytes(p) : 0) + panel_bytes(&w, g);
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
    float *scale; /* or NULL */
    int32_t *offset;
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

static void scatter(const char *from, size_t step, int n, size_t size, char *to, size_t width)
{
    if (size == sizeof(uint32_t)) {
        SCATTER(uint32_t)
    } else {
        SCATTER(uint16_t)
    }
}

/* Numbers on their way from a type of the file to another one of the panel. */
typedef union stretch {
    float f[PACK_CHANNELS * CPU_MOST_TAPS];
    uint16_t h[PACK_CHANNELS * CPU_MOST_TAPS];
} stretch;

static void convert(const packing *k, const dc_source *s, int64_t at, int n, stretch *out)
{
    cpu_source_floats(k->g, s, at, n, out->f);
    for (int i = 0; k->w->type != DC_F32 && i < n; i++) out->h[i] = dc_f32_to_f16(out->f[i]); /* fp8 only: exact */
}

/* pack_column for a type that the panel has not: in the order of the file, [channel][tap], as blocks are not to be taken apart. */
static void convert_column(const packing *k, const dc_source *s, char *panel, int width, int column, int64_t row, int from, int n)
{
    const dc_param_desc *d = &k->p->desc;
    const int taps = d->kh * d->kw, most = PACK_CHANNELS * CPU_MOST_TAPS / taps > 0 ? PACK_CHANNELS * CPU_MOST_TAPS / taps : 1;
    const size_t size = dc_dtype_size(k->w->type);
    for (int end = from + n; from < end; from += n) {
        n = end - from < most ? end - from : most;
        for (int tap = 0, together; tap < taps; tap += together) { /* all of them, but of kernels larger than the stretch */
            stretch v;
            together = taps - tap < PACK_CHANNELS * CPU_MOST_TAPS ? taps - tap : PACK_CHANNELS * CPU_MOST_TAPS;
            convert(k, s, (row * d->in + from) * taps + tap, n * together, &v);
            for (int t = 0; t < together; t++)
                scatter((char *)&v + (size_t)t * size, (size_t)together, n, size,
                        panel + ((size_t)((tap + t) * d->in + from) * (size_t)width + (size_t)column) * size, (size_t)width);
        }
    }
}

/* The same for `rows` columns of a transposed weight, which lie side by side in the file. */
static void convert_transposed(const packing *k, char *panel, int width, int column, int64_t row, int rows, int from, int n)
{
    const dc_param_desc *d = &k->p->desc;
    const size_t size = dc_dtype_size(k->w->type);
    for (int i = from; i < from + n; i++) {
        stretch v;
        convert(k, &d->weight[0], (int64_t)i * d->out + row, rows, &v);
        memcpy(panel + ((size_t)i * (size_t)width + (size_t)column) * size, &v, (size_t)rows * size);
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
    if (s->dtype != k->w->type) {
        convert_column(k, s, panel, width, column, row, from, n);
        return;
    }
    for (int tap = 0; tap < taps; tap++) {
        char *to = panel + ((size_t)(tap * d->in + from) * (size_t)width + (size_t)column) * size;
        int64_t at = d->transposed ? (int64_t)from * d->out + row : (row * d->in + from) * taps + tap;
        size_t step = d->transposed ? (size_t)d->out : (size_t)taps;
        scatter((const char *)s->data + (size_t)at * size, step, n, size, to, (size_t)width);
    }
}

/* n channels of a row of the weight with all their taps, [n][taps], as floats. */
static void read_row(const packing *k, int64_t row, int from, int n, float *to)
{
    const dc_param_desc *d = &k->p->desc;
    const dc_source *s = d->transposed ? &d->weight[0] : find_row(d, &row);
    const int64_t taps = d->kh * d->kw, at = (row * d->in + from) * taps;
    if (!d->transposed) cpu_source_floats(k->g, s, at, n * taps, to);
    else
        for (int i = 0; i < n; i++) to[i] = dc_source_value(s, (int64_t)(from + i) * d->out + row);
}

/* In int8: what 1 stands for in a row, the largest factor of its stretches. */
static void scale_row(const packing *k, int64_t row)
{
    float v[PACK_CHANNELS * CPU_MOST_TAPS], most = 0;
    for (int from = 0; from < k->p->desc.in; from += PACK_CHANNELS) {
        const int n = k->p->desc.in - from < PACK_CHANNELS ? k->p->desc.in - from : PACK_CHANNELS;
        read_row(k, row, from, n, v);
        most = fmaxf(most, k->g->factor(v, (int64_t)n * k->p->desc.kh * k->p->desc.kw));
    }
    k->scale[row] = most;
}

/* In int8: what a row of zeros of A comes to, by multiplying one. */
static void find_offsets(const packing *k, const char *panel, int width, int outs, int64_t first)
{
    const float none[CPU_BLOCK_K] = {0}, *zeros;
    float rounded[CPU_BLOCK_K + 1], sum[CPU_PANEL];
    zeros = rounded;
    for (int i = 0; i < CPU_BLOCK_K; i += CPU_BLOCK_K / k->g->per) k->g->narrow(none, CPU_BLOCK_K, 1, rounded + i);
    cpu_block s = {.row = &zeros, .rows = 1, .width = width, .acc = sum, .b = (const float *)panel};
    for (int at = 0; at < k->w->k; at += CPU_BLOCK_K, s.add = true, s.b += (size_t)CPU_BLOCK_K * (size_t)width) {
        s.k = k->w->k - at < CPU_BLOCK_K ? k->w->k - at : CPU_BLOCK_K;
        k->g->block(&s);
    }
    memcpy(k->offset + first, sum, sizeof *sum * (size_t)outs);
    if (k->w->geglu) memcpy(k->offset + k->w->outs + first, sum + width / 2, sizeof *sum * (size_t)outs);
}

/* A stretch of channels of `n` rows of the weight, from `row` on, as columns of places from `column` on. Via rows of places, so that both the
 * file and the panel are touched line by line. */
static void pack_places(const packing *k, char *panel, int width, int column, int64_t row, int rows, int from, int n)
{
    float all[PACK_CHANNELS * CPU_MOST_TAPS], v[PACK_CHANNELS], place[PACK_CHANNELS / 2];
    const int places = cpu_places(k->g, n), taps = k->p->desc.kh * k->p->desc.kw, per_tap = k->w->k / taps;
    for (int r = 0; r < rows; r++) {
        read_row(k, row + r, from, n, all);
        for (int tap = 0; tap < taps; tap++) {
            uint32_t *to = (uint32_t *)panel + (size_t)(tap * per_tap + from / k->g->per) * (size_t)width + (size_t)(column + r);
            for (int i = 0; i < n; i++) v[i] = all[i * taps + tap];
            k->g->narrow_weights(v, n, k->scale ? k->scale[row + r] : 1, place);
            for (int i = 0; i < places; i++) memcpy(&to[(size_t)i * (size_t)width], &place[i], sizeof *to);
        }
    }
}

static void pack_rows(const packing *k, char *panel, int width, int column, int64_t row, int rows, int from, int n)
{
    const dc_param_desc *d = &k->p->desc;
    if (k->g->per > 1) pack_places(k, panel, width, column, row, rows, from, n);
    else if (d->transposed && d->weight[0].dtype != k->w->type) convert_transposed(k, panel, width, column, row, rows, from, n);
    else
        for (int c = 0; c < rows; c++) pack_column(k, panel, width, column + c, row + c, from, n);
}

static void pack_panel(void *ctx, int64_t p, int thread)
{
    (void)thread;
    const packing *k = ctx;
    const cpu_panels *w = k->w;
    const int width = cpu_panel_width(w, k->g, (int)p), outs = cpu_panel_outs(w, (int)p), half = w->geglu ? width / 2 : width;
    const int64_t first = p * w->full;
    char *panel = k->data + (size_t)p * (size_t)w->k * (size_t)k->g->panel * dc_dtype_size(w->type);
    if (outs < half) memset(panel, 0, (size_t)w->k * (size_t)width * dc_dtype_size(w->type));
    for (int c = 0; k->scale && c < outs; c++) {
        scale_row(k, first + c);
        if (w->geglu) scale_row(k, w->outs + first + c);
    }
    for (int from = 0; from < k->p->desc.in; from += PACK_CHANNELS) {
        const int n = k->p->desc.in - from < PACK_CHANNELS ? k->p->desc.in - from : PACK_CHANNELS;
        pack_rows(k, panel, width, 0, first, outs, from, n);
        if (w->geglu) pack_rows(k, panel, width, half, w->outs + first, outs, from, n);
    }
    if (k->scale) find_offsets(k, panel, width, outs, first);
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
        form += column_bytes(p);
    }
    packing job = {.p = p, .w = w, .g = cpu_gemm_of(cpu_of(d), k)};
    if (job.g->whole) {
        w->scale = job.scale = (float *)form;
        w->offset = job.offset = (int32_t *)(form + column_bytes(p));
        form += 2 * column_bytes(p);
    }
    w->data = job.data = form;
    if (cpu_for(d, w->count, pack_panel, &job)) return dc_fail(e, DC_CANCELLED, "stopped");
    return DC_OK;
}
