/* gpu_emulated.c - gpu.h by plain loops on the CPU, sums in double. With the kernels compiled for the emulator (emulate.h) the whole CUDA device
 * runs where there is no GPU, but for NVIDIA's libraries; it asks of its caller what they ask: alignments, channels in eights, what may not
 * overlap. New memory is NaN. */
#include "tests/cuda/gpu_emulated.h"
#include "backends/backend.h"
#include "base/half.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- now, or in a graph --------------------------------------------------------------------------------------------------- */

typedef struct step {
    gpu_step *run;
    void *args;
} step;

struct gpu_graph {
    step *at;
    int n;
};

struct gpu_conv_plan {
    gpu_conv_shape shape;
    bool whole;
    gpu_conv_plan *next;
};

struct gpu {
    gpu_info about;
    gpu_graph *recording;
    gpu_conv_plan *plans;
    int64_t allocations;
};

dc_status gpu_do(gpu *g, gpu_step *run, const void *args, size_t bytes)
{
    if (!g || !g->recording) return run(args);
    gpu_graph *r = g->recording;
    step *more = realloc(r->at, sizeof *more * (size_t)(r->n + 1));
    void *copy = malloc(bytes);
    if (!more || !copy) abort();
    r->at = more;
    r->at[r->n++] = (step){run, memcpy(copy, args, bytes)};
    return DC_OK;
}

dc_status gpu_record(gpu *g) { return (g->recording = calloc(1, sizeof *g->recording)) ? DC_OK : DC_NO_MEMORY; }

dc_status gpu_record_end(gpu *g, gpu_graph **out)
{
    *out = g->recording;
    g->recording = NULL;
    return DC_OK;
}

dc_status gpu_replay(gpu *g, gpu_graph *graph)
{
    (void)g;
    dc_status s = DC_OK;
    for (int i = 0; !s && i < graph->n; i++) s = graph->at[i].run(graph->at[i].args);
    return s;
}

void gpu_graph_free(gpu *g, gpu_graph *graph)
{
    (void)g;
    for (int i = 0; graph && i < graph->n; i++) free(graph->at[i].args);
    if (graph) free(graph->at);
    free(graph);
}

/* ---- device and memory ------------------------------------------------------------------------------------------------------- */

dc_status gpu_open(gpu **out, const gpu_options *o, dc_error *e)
{
    (void)o;
    gpu *g = *out = calloc(1, sizeof *g);
    if (!g) return dc_fail_memory(e, "a GPU", sizeof *g);
    g->about = (gpu_info){.name = "emulated", .libraries = "plain loops", .capability = 90, .multiprocessors = 1, .memory = 1 << 30, .free = 1 << 30};
    return DC_OK;
}

void gpu_close(gpu *g)
{
    for (gpu_conv_plan *p = g ? g->plans : NULL, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    free(g);
}

const gpu_info *gpu_about(const gpu *g) { return &g->about; }
void *gpu_stream(gpu *g) { return g; }

void *gpu_alloc(gpu *g, uint64_t bytes)
{
    (void)g;
    void *p = aligned_alloc(256, (bytes + 255) / 256 * 256);
    return p ? memset(p, 0xff, bytes) : NULL;
}
void gpu_free(gpu *g, void *p)
{
    (void)g;
    free(p);
}
void *gpu_alloc_host(gpu *g, uint64_t bytes) { return gpu_alloc(g, bytes); }
void gpu_free_host(gpu *g, void *p) { gpu_free(g, p); }
dc_status gpu_wait(gpu *g) { return g->recording ? DC_IO : DC_OK; }

dc_status gpu_write(gpu *g, void *to, const void *host, uint64_t bytes)
{
    memcpy(to, host, bytes);
    return gpu_wait(g);
}
dc_status gpu_read(gpu *g, void *host, const void *from, uint64_t bytes) { return gpu_write(g, host, from, bytes); }
void gpu_mark(gpu *g, int which) { (void)g, (void)which; }
double gpu_seconds(gpu *g) { return (void)g, 0; }

static dc_status copy(const void *args)
{
    const gpu_copy_args *a = args;
    memcpy(a->to, a->from, a->bytes);
    return DC_OK;
}
dc_status gpu_copy(gpu *g, const void *args) { return gpu_do(g, copy, args, sizeof(gpu_copy_args)); }

/* ---- numbers -------------------------------------------------------------------------------------------------------------------- */

static double load(const void *at, int type, int64_t i)
{
    switch (type) {
    case DC_F16: return dc_f16_to_f32(((const uint16_t *)at)[i]);
    case DC_BF16: return dc_bf16_to_f32(((const uint16_t *)at)[i]);
    default: return ((const float *)at)[i];
    }
}

static void store(void *at, int type, int64_t i, double v)
{
    switch (type) {
    case DC_F16: ((uint16_t *)at)[i] = dc_f32_to_f16((float)v); break;
    case DC_BF16: ((uint16_t *)at)[i] = dc_f32_to_bf16((float)v); break;
    default: ((float *)at)[i] = (float)v;
    }
}

static double activate(double x, int act)
{
    switch (act) {
    case DC_ACT_SILU: return x / (1 + exp(-x));
    case DC_ACT_GELU: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case DC_ACT_RELU: return x > 0 ? x : 0;
    default: return x;
    }
}

/* ---- matrix products --------------------------------------------------------------------------------------------------------------- */

/* Doubles of a weight or matrix b, column by column of the product: [inner][outer], so that compilers vectorise over the outer ones. */
static double *turned(const void *from, int type, int64_t inner, int64_t outer, int64_t step_inner, int64_t step_outer)
{
    double *to = malloc(sizeof *to * (size_t)(inner * outer + 1));
    if (!to) abort();
    for (int64_t i = 0; i < inner; i++)
        for (int64_t o = 0; o < outer; o++) to[i * outer + o] = load(from, type, i * step_inner + o * step_outer);
    return to;
}

static void add_scaled(double *sum, double x, const double *row, int64_t n)
{
    for (int64_t i = 0; i < n; i++) sum[i] += x * row[i];
}

static void one_product(const gpu_product_args *a, int64_t batch, double *sum)
{
    const char *from = (const char *)a->b + batch * a->step_b * (a->in == DC_F32 ? 4 : 2);
    double *b = turned(from, a->in, a->k, a->n, a->b_rows ? a->ldb : 1, a->b_rows ? 1 : a->ldb);
    for (int64_t i = 0; i < a->m; i++) {
        memset(sum, 0, sizeof *sum * (size_t)a->n);
        for (int64_t k = 0; k < a->k; k++) add_scaled(sum, load(a->a, a->in, batch * a->step_a + i * a->lda + k), b + k * a->n, a->n);
        for (int64_t j = 0; j < a->n; j++) {
            double v = sum[j] * a->scale;
            if (a->bias) v += load(a->bias, a->out, j);
            if (a->c) v += load(a->c, a->out, i * a->ldc + j);
            store(a->y, a->out, batch * a->step_y + i * a->ldy + j, v);
        }
    }
    free(b);
}

static dc_status product(const void *args)
{
    const gpu_product_args *a = args;
    if (a->batch < 1 || (a->batch > 1 && (a->bias || a->c)) || (a->out != a->in && a->out != DC_F32)) return DC_INTERNAL;
    double *sum = malloc(sizeof *sum * (size_t)(a->n + 1));
    if (!sum) return DC_NO_MEMORY;
    for (int64_t b = 0; b < a->batch; b++) one_product(a, b, sum);
    free(sum);
    return DC_OK;
}
dc_status gpu_product(gpu *g, const void *args) { return gpu_do(g, product, args, sizeof(gpu_product_args)); }

/* ---- convolutions --------------------------------------------------------------------------------------------------------------------- */

/* Whole plans and bare ones in turn, so that both are met. */
dc_status gpu_conv_find(gpu *g, const gpu_conv_shape *s, const gpu_conv_plan **out, bool *whole, uint64_t *workspace, dc_error *e)
{
    gpu_conv_plan *p = g->plans;
    if (s->c % 8 || s->k % 8 || g->recording) return dc_fail(e, DC_UNAVAILABLE, "convolution: no way takes it");
    while (p && memcmp(&p->shape, s, sizeof *s)) p = p->next;
    if (!p) {
        p = calloc(1, sizeof *p);
        if (!p) return dc_fail_memory(e, "a plan", sizeof *p);
        *p = (gpu_conv_plan){.shape = *s, .next = g->plans};
        p->whole = (s->c + s->k) / 8 % 2 && s->act != DC_ACT_TANH3 && s->act != DC_ACT_QUICK_GELU;
        g->plans = p;
    }
    *out = p;
    *whole = p->whole;
    *workspace = 100;
    return DC_OK;
}

const char *gpu_conv_name(const gpu_conv_plan *p) { return p->whole ? "loops, whole" : "loops"; }

static bool on_16(const void *p) { return (uintptr_t)p % 16 == 0; }

/* sum[k] of all k at place (y,x) of image n. */
static void window(const gpu_conv_shape *s, const void *input, const double *weight, int n, int y, int x, double *sum)
{
    memset(sum, 0, sizeof *sum * (size_t)s->k);
    for (int r = 0; r < s->r; r++)
        for (int t = 0; t < s->s; t++) {
            const int iy = y * s->stride + r - s->pad_h, ix = x * s->stride + t - s->pad_w;
            if (iy < 0 || iy >= s->h || ix < 0 || ix >= s->w) continue;
            const int64_t at = (((int64_t)n * s->h + iy) * s->w + ix) * s->c, w = ((int64_t)r * s->s + t) * s->c;
            for (int c = 0; c < s->c; c++) add_scaled(sum, load(input, s->type, at + c), weight + (w + c) * s->k, s->k);
        }
}

static dc_status convolve(const void *args)
{
    const gpu_conv_args *a = args;
    const gpu_conv_shape *s = &a->plan->shape;
    const bool whole = a->plan->whole;
    const int h = (s->h + 2 * s->pad_h - s->r) / s->stride + 1, w = (s->w + 2 * s->pad_w - s->s) / s->stride + 1;
    if (a->y == a->x || (a->residual && a->y == a->residual)) return DC_INTERNAL;
    if (!on_16(a->x) || !on_16(a->y) || !on_16(a->weight) || !on_16(a->residual) || !on_16(a->workspace)) return DC_INTERNAL;
    const int64_t inner = (int64_t)s->r * s->s * s->c;
    double *weight = turned(a->weight, s->type, inner, s->k, 1, inner), *sum = malloc(sizeof *sum * (size_t)s->k);
    if (!sum) abort();
    memset(a->workspace, 0xff, 100);
    for (int64_t p = 0; p < (int64_t)s->n * h * w; p++) {
        const int n = (int)(p / ((int64_t)h * w));
        window(s, a->x, weight, n, (int)(p / w % h), (int)(p % w), sum);
        for (int k = 0; k < s->k; k++) {
            double v = sum[k];
            if (whole && s->bias) v += load(a->bias, s->type, k);
            if (whole && s->add) v += load(a->add, s->type, (s->add == 1 ? 0 : (int64_t)n * s->k) + k);
            if (whole && s->residual) v += load(a->residual, s->type, p * s->k + k);
            store(a->y, s->type, p * s->k + k, whole ? activate(v, s->act) : v);
        }
    }
    free(weight);
    free(sum);
    return DC_OK;
}
dc_status gpu_conv(gpu *g, const void *args) { return gpu_do(g, convolve, args, sizeof(gpu_conv_args)); }
