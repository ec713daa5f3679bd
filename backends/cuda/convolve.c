/* convolve.c - convolutions by cuDNN: for each shape the fastest of some ways that the library proposes, fused with what follows or alone. */
#include "backends/cuda/conv_store.h"
#include "backends/cuda/kernels.h"
#include "base/half.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(gpu_conv_shape) == 11 * sizeof(int32_t) + 4, "shapes are compared by their bytes");

struct gpu_conv_plan {
    struct gpu_conv_plan *next;
    gpu_conv_shape shape;
    conv_graph graph; /* kept as long as its plan */
    conv_plan plan;   /* plan.plan NULL: there is no way */
    bool whole;
    char name[48];
};
struct gpu_conv_found {
    gpu_conv_plan *first;
    conv_store store;
};

/* ---- trying --------------------------------------------------------------------------------------------------------- */

/* What a way is tried on: everything a convolution reads and writes, in one piece of device memory. */
typedef struct bench {
    void *all;
    gpu_conv_args args;
    k_finish_args finish; /* what a bare convolution needs behind it */
} bench;

#define FILL (1 << 20)

/* Random numbers in [-1,1): a product of zeros runs faster than any other. */
static dc_status fill(gpu *g, void *all, uint64_t bytes, uint8_t type)
{
    uint8_t *host = malloc(FILL);
    if (!host) return DC_NO_MEMORY;
    uint32_t x = 2463534242u;
    const size_t size = dc_dtype_size((dc_dtype)type);
    for (size_t i = 0; i < FILL / size; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5; /* Marsaglia's xorshift32 */
        const float f = (float)(int32_t)x / 2147483648.0f;
        const uint16_t h = type == DC_F16 ? dc_f32_to_f16(f) : dc_f32_to_bf16(f);
        if (type == DC_F32) memcpy(host + i * size, &f, size);
        else memcpy(host + i * size, &h, size);
    }
    uint64_t done = bytes < FILL ? bytes : FILL;
    dc_status s = gpu_write(g, all, host, done);
    free(host);
    for (uint64_t n; !s && done < bytes; done += n) {
        n = done < bytes - done ? done : bytes - done;
        s = gpu_copy(g, &(gpu_copy_args){.to = (char *)all + done, .from = all, .bytes = n});
    }
    return s;
}

static uint64_t rounded(uint64_t bytes) { return (bytes + 255) / 256 * 256; }

static dc_status bench_open(gpu *g, bench *b, const gpu_conv_shape *s, uint64_t workspace)
{
    const uint64_t size = dc_dtype_size((dc_dtype)s->type), k = (uint64_t)s->k, pixels = (uint64_t)conv_out_h(s) * (uint64_t)conv_out_w(s);
    const uint64_t x = rounded((uint64_t)s->n * (uint64_t)s->h * (uint64_t)s->w * (uint64_t)s->c * size),
                   y = rounded((uint64_t)s->n * pixels * k * size);
    const uint64_t w = rounded(k * (uint64_t)s->r * (uint64_t)s->s * (uint64_t)s->c * size), bias = rounded(4 * k),
                   add = rounded((uint64_t)s->add * k * size);
    const uint64_t inputs = x + w + bias + add + (s->residual ? y : 0);
    *b = (bench){.all = gpu_alloc(g, inputs + y + workspace)};
    if (!b->all) return DC_NO_MEMORY;
    char *at = b->all;
    b->args = (gpu_conv_args){.x = at, .weight = at + x, .bias = at + x + w, .add = at + x + w + bias, .residual = at + x + w + bias + add};
    b->args.y = at + inputs;
    b->args.workspace = at + inputs + y;
    const k_view out = {.data = b->args.y, .stride = s->k, .type = s->type};
    b->finish = (k_finish_args){.x = out,
                                .y = out,
                                .bias = s->bias ? (const float *)b->args.bias : NULL,
                                .rows = s->n * (int64_t)pixels,
                                .rows_of_image = (int64_t)pixels,
                                .c = s->k,
                                .add_images = s->add,
                                .act = s->act};
    if (s->add) b->finish.add = (k_view){.data = at + x + w + bias, .stride = s->k, .type = s->type};
    if (s->residual) b->finish.residual = (k_view){.data = at + x + w + bias + add, .stride = s->k, .type = s->type};
    return fill(g, b->all, inputs, s->type);
}

static dc_status run_once(gpu *g, const bench *b, const gpu_conv_shape *s, const conv_plan *p, bool whole)
{
    dc_status status = conv_plan_run(g, p, whole, s, &b->args);
    return status || whole || !conv_has_more(s) ? status : k_finish(g, &b->finish);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of one round, as part of a graph: queued one by one, small ones would take as long as the CPU does. INFINITY: it fails, or cannot
 * be recorded. `best` so far: what is far behind it is tried but once. */
static double measure(gpu *g, const bench *b, const gpu_conv_shape *s, const conv_plan *p, bool whole, double best)
{
    enum { ROUNDS = 5 };
    gpu_graph *graph = NULL;
    if (run_once(g, b, s, p, whole) || gpu_wait(g)) return INFINITY;
    gpu_mark(g, 0);
    if (run_once(g, b, s, p, whole)) return INFINITY;
    gpu_mark(g, 1);
    const double first = gpu_seconds(g);
    if (!(first < 4 * best + 100e-6)) return first;
    const int times = first > 500e-6 ? 1 : (int)(500e-6 / (first + 10e-6)) + 1;
    dc_status status = gpu_record(g);
    if (status) return INFINITY;
    for (int i = 0; i < times && !status; i++) status = run_once(g, b, s, p, whole);
    const dc_status ended = gpu_record_end(g, &graph);
    double took[ROUNDS];
    if (!status) status = ended;
    if (!status) status = gpu_replay(g, graph);
    for (int i = 0; i < ROUNDS && !status; i++) {
        gpu_mark(g, 0);
        status = gpu_replay(g, graph);
        gpu_mark(g, 1);
        took[i] = gpu_seconds(g) / times;
    }
    gpu_graph_free(g, graph);
    if (status) return INFINITY;
    qsort(took, ROUNDS, sizeof *took, by_value);
    return took[ROUNDS / 2];
}

/* 0 in place of a measurement that nobody asked for: it runs. */
static double seconds_of(gpu *g, const bench *b, const gpu_conv_shape *s, const conv_plan *p, bool whole, double best)
{
    if (!g->deterministic) return measure(g, b, s, p, whole, best);
    return run_once(g, b, s, p, whole) || gpu_wait(g) ? INFINITY : 0;
}

/* ---- choosing ------------------------------------------------------------------------------------------------------- */

enum { PROPOSED = 64, OF_A_MODE = 6, WAYS = 8 };

/* Plans of the first ways that can be, at most `room`: OF_A_MODE of each heuristic, and the fallback's when there is none. */
static int gather(gpu *g, const gpu_conv_shape *s, const conv_graph *c, bool compile, conv_plan *out, int room)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK};
    int n = 0;
    for (int m = 0; c->graph && m < 3 && n < room && (m < 2 || !n); m++) {
        cudnnBackendDescriptor_t config[PROPOSED];
        const int proposed = conv_propose(g, c, modes[m], config, PROPOSED), limit = n + OF_A_MODE < room ? n + OF_A_MODE : room;
        for (int i = 0; i < proposed; i++)
            if (n == limit) cudnnBackendDestroyDescriptor(config[i]);
            else n += conv_plan_of_config(g, &out[n], s, config[i], compile, out, n);
    }
    return n;
}

typedef struct candidates {
    conv_graph graph[2]; /* bare, whole */
    conv_plan plan[2][WAYS];
    int n[2];
} candidates;

static void candidates_free(candidates *c)
{
    for (int w = 0; w < 2; w++) {
        for (int i = 0; i < c->n[w]; i++) conv_plan_free(&c->plan[w][i]);
        conv_graph_free(&c->graph[w]);
    }
    free(c);
}

/* Takes it out of the candidates. */
static void take(gpu_conv_plan *p, candidates *c, int whole, int i)
{
    p->graph = c->graph[whole];
    p->plan = c->plan[whole][i];
    p->whole = whole || !conv_has_more(&p->shape);
    c->graph[whole] = (conv_graph){0};
    c->plan[whole][i] = (conv_plan){0};
}

/* False: none of them runs. */
static bool try_all(gpu *g, gpu_conv_plan *p, candidates *c, conv_store *store)
{
    const gpu_conv_shape *s = &p->shape;
    double best = INFINITY;
    int best_whole = c->n[1] > 0, best_i = 0; /* the first one where nothing can be measured */
    uint64_t workspace = 0;
    bench b;
    bool runs = true;
    for (int w = 0; w < 2; w++)
        for (int i = 0; i < c->n[w]; i++)
            if (c->plan[w][i].workspace > workspace) workspace = c->plan[w][i].workspace;
    if (bench_open(g, &b, s, workspace)) dc_log_write(&g->log, DC_LOG_NOTE, "cuda: no memory to measure a convolution in: its way is guessed");
    else {
        for (int w = 1; w >= 0; w--)
            for (int i = 0; i < c->n[w] && best > 0; i++) {
                g->quiet = true; /* a way that fails is no error */
                const double took = seconds_of(g, &b, s, &c->plan[w][i], w || !conv_has_more(s), best);
                g->quiet = false;
                dc_log_write(&g->log, DC_LOG_DEBUG, "cuda: convolution %dx%dx%dx%d to %d, cudnn engine %lld%s: %.1f us", s->n, s->h, s->w, s->c, s->k,
                             (long long)c->plan[w][i].way.engine, w ? ", fused" : "", 1e6 * took);
                if (took < best) best = took, best_whole = w, best_i = i;
            }
        runs = best < INFINITY;
    }
    gpu_free(g, b.all);
    if (runs) take(p, c, best_whole, best_i);
    if (best < INFINITY) conv_store_add(g, store, s, &p->plan.way, p->whole, best);
    return runs;
}

/* UNAVAILABLE: there is no way. NO_MEMORY. */
static dc_status search(gpu *g, gpu_conv_plan *p, conv_store *store)
{
    const gpu_conv_shape *s = &p->shape;
    const bool choice = !g->recording, more = conv_has_more(s);
    candidates *c = calloc(1, sizeof *c);
    if (!c) return DC_NO_MEMORY;
    conv_graph_build(g, &c->graph[0], s, false);
    if (more && conv_can_be_whole(s)) conv_graph_build(g, &c->graph[1], s, true);
    /* Kernels that are compiled first only where there are no others: they save a pass over the output, and cost a second in every run. */
    for (int compile = 0; compile < 2 && !(c->n[0] + c->n[1]); compile++) {
        c->n[1] = gather(g, s, &c->graph[1], compile, c->plan[1], choice ? WAYS : 1);
        if (choice || !c->n[1]) c->n[0] = gather(g, s, &c->graph[0], compile, c->plan[0], choice ? WAYS : 1);
    }
    bool found = c->n[0] + c->n[1] > 0;
    if (found && choice) found = try_all(g, p, c, store);
    else if (found) take(p, c, c->n[1] > 0, 0);
    candidates_free(c);
    return found ? DC_OK : DC_UNAVAILABLE;
}

/* As it was found in another run. */
static bool recall(gpu *g, gpu_conv_plan *p, conv_store *store)
{
    conv_way way;
    bool whole;
    if (!conv_store_find(g, store, &p->shape, &way, &whole)) return false;
    const bool more = conv_has_more(&p->shape), fused = whole && more;
    if ((fused && !conv_can_be_whole(&p->shape)) || !conv_graph_build(g, &p->graph, &p->shape, fused)) return false;
    p->whole = whole || !more;
    if (conv_plan_of_way(g, &p->plan, &p->shape, &p->graph, &way)) return true;
    conv_graph_free(&p->graph);
    return false;
}

/* ---- as others call it ---------------------------------------------------------------------------------------------- */

static dc_status find(gpu *g, const gpu_conv_shape *shape, gpu_conv_plan **out, dc_error *e)
{
    if (!g->found && !(g->found = calloc(1, sizeof *g->found))) return dc_fail_memory(e, "plans of convolutions", sizeof *g->found);
    for (*out = g->found->first; *out; *out = (*out)->next)
        if (!memcmp(&(*out)->shape, shape, sizeof *shape)) return DC_OK;
    gpu_conv_plan *p = calloc(1, sizeof *p);
    if (!p) return dc_fail_memory(e, "a plan of a convolution", sizeof *p);
    p->shape = *shape;
    const dc_status s = recall(g, p, &g->found->store) ? DC_OK : search(g, p, &g->found->store);
    if (s == DC_NO_MEMORY) {
        free(p);
        return dc_fail_memory(e, "plans of a convolution", sizeof(candidates));
    }
    if (!s)
        snprintf(p->name, sizeof p->name, "cudnn engine %lld%s", (long long)p->plan.way.engine, p->whole && conv_has_more(shape) ? ", fused" : "");
    p->next = g->found->first;
    *out = g->found->first = p;
    return DC_OK;
}

dc_status gpu_conv_find(gpu *g, const gpu_conv_shape *shape, const gpu_conv_plan **out, bool *whole, uint64_t *workspace, dc_error *e)
{
    gpu_conv_plan *p = NULL;
    dc_status s = find(g, shape, &p, e);
    *out = NULL;
    *whole = false;
    *workspace = 0;
    if (s) return s;
    if (!p->plan.plan)
        return dc_fail(e, DC_UNAVAILABLE, "cuDNN %d.%d.%d: found no way for a convolution [%d,%d,%d,%d] to %d channels by %dx%d in %s",
                       g->cudnn / 10000, g->cudnn / 100 % 100, g->cudnn % 100, shape->n, shape->h, shape->w, shape->c, shape->k, shape->r, shape->s,
                       dc_dtype_name((dc_dtype)shape->type));
    *out = p;
    *whole = p->whole;
    *workspace = p->plan.workspace;
    return DC_OK;
}

const char *gpu_conv_name(const gpu_conv_plan *p) { return p->name; }

dc_status gpu_conv(gpu *g, const void *args)
{
    const gpu_conv_args *a = args;
    dc_status s = conv_plan_run(g, &a->plan->plan, a->plan->whole, &a->plan->shape, a);
    if (s == DC_INTERNAL) dc_log_write(&g->log, DC_LOG_WARNING, "cuda: a convolution's data: found none, or an address that is no multiple of 16");
    return s;
}

void gpu_conv_found_free(gpu *g)
{
    if (!g->found) return;
    for (gpu_conv_plan *p = g->found->first, *next; p; p = next) {
        next = p->next;
        conv_plan_free(&p->plan);
        conv_graph_free(&p->graph);
        free(p);
    }
    conv_store_free(&g->found->store);
    free(g->found);
    g->found = NULL;
}
