/* bench_gemm.c - the matrix layers of Stable Diffusion 1.5 on the CPU device, beside the machine's own peak.
 *
 *     ninja bench_gemm && ./bench_gemm [threads] [level] [part of a name] [f16: leaves float32 weights out, or all] [precision] [exact]
 *
 * Prints GFLOP/s (2 a multiply-add, best of several passes) and the part of the multiply-add peak measured around them in this run. Each
 * pass takes another copy of the weights, so that they come from memory as in a whole model, and the input is written just before. */
#include "backends/ops.h"
#include "base/half.h"
#include "base/parallel.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COPIES = 48, PASSES = 40, CHAINS = 12 };
static const size_t COLD_BYTES = 96u << 20; /* copies of a layer's weights together: more than a last-level cache */
static const double SECONDS_EACH = 1.5;

/* ---- the peak ------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#include <immintrin.h>
enum { PEAK_STEPS = 2000000 };
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define CHAIN(type, prefix, what)                                                                                                                    \
    type c[CHAINS], x = prefix##_set1_ps(1.0000001f), y = prefix##_set1_ps(1e-9f);                                                                   \
    UNROLL for (int j = 0; j < CHAINS; j++) c[j] = y;                                                                                                \
    for (int k = 0; k < PEAK_STEPS; k++) UNROLL for (int j = 0; j < CHAINS; j++)                                                                     \
        {                                                                                                                                            \
            c[j] = prefix##_fmadd_ps(x, y, c[j]);                                                                                                    \
            __asm__ volatile("" : "+" what(c[j]));                                                                                                   \
        }

__attribute__((target("avx512f"))) static void chains_512(void *ctx, int64_t i, int thread)
{
    (void)ctx, (void)i, (void)thread;
    CHAIN(__m512, _mm512, "v")
}
__attribute__((target("avx2,fma"))) static void chains_256(void *ctx, int64_t i, int thread)
{
    (void)ctx, (void)i, (void)thread;
    CHAIN(__m256, _mm256, "x")
}

__attribute__((target("avx512f,avx512bf16"))) static void chains_bf16(void *ctx, int64_t i, int thread)
{
    (void)ctx, (void)i, (void)thread;
    __m512 c[CHAINS];
    const __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    UNROLL for (int j = 0; j < CHAINS; j++) c[j] = _mm512_setzero_ps();
    for (int k = 0; k < PEAK_STEPS; k++) UNROLL for (int j = 0; j < CHAINS; j++)
        {
            c[j] = _mm512_dpbf16_ps(c[j], x, x);
            __asm__ volatile("" : "+v"(c[j]));
        }
}

__attribute__((target("avx512f,avx512vnni"))) static void chains_int8(void *ctx, int64_t i, int thread)
{
    (void)ctx, (void)i, (void)thread;
    __m512i c[CHAINS];
    const __m512i x = _mm512_set1_epi32(0x01010101);
    UNROLL for (int j = 0; j < CHAINS; j++) c[j] = _mm512_setzero_si512();
    for (int k = 0; k < PEAK_STEPS; k++) UNROLL for (int j = 0; j < CHAINS; j++)
        {
            c[j] = _mm512_dpbusd_epi32(c[j], x, x);
            __asm__ volatile("" : "+v"(c[j]));
        }
}

/* Of the vectors that this level uses and of the precision's products, per: channels in the place of a float; portable: of the widest, since OpenBLAS takes what it finds. 0: unknown. */
static double peak(dc_pool *p, const char *level, int per)
{
    const bool wide = __builtin_cpu_supports("avx512f") && strcmp(level, "avx2");
    double best = 0;
    if (!wide && !__builtin_cpu_supports("fma")) return 0;
    for (int r = 0; r < 5; r++) {
        double start = dc_seconds();
        dc_parallel_for(p, dc_pool_threads(p), per == 4 ? chains_int8 : per == 2 ? chains_bf16 : wide ? chains_512 : chains_256, NULL, NULL);
        double rate = (double)dc_pool_threads(p) * PEAK_STEPS * CHAINS * (per > 1 ? 32 * per : wide ? 32 : 16) / (dc_seconds() - start) * 1e-9;
        if (rate > best) best = rate;
    }
    return best;
}
#else
static double peak(dc_pool *p, const char *level, int per) { return (void)p, (void)level, (void)per, 0; }
#endif

/* ---- layers ----------------------------------------------------------------------------------------------------- */

typedef struct layer {
    const char *name;
    int n, h, w, in, out, kernel, stride;
    bool geglu, norm, residual;
    int in2, up; /* joined channels; resize factor */
} layer;

static const layer layers[] = {
    {"conv 320 64x64", 1, 64, 64, 320, 320, 3, 1, false, true, true, 0, 1},
    {"conv 640 32x32", 1, 32, 32, 640, 640, 3, 1, false, true, true, 0, 1},
    {"conv 1280 16x16", 1, 16, 16, 1280, 1280, 3, 1, false, true, true, 0, 1},
    {"conv 1280 8x8", 1, 8, 8, 1280, 1280, 3, 1, false, true, true, 0, 1},
    {"conv 1280 8x8 batch 2", 2, 8, 8, 1280, 1280, 3, 1, false, true, true, 0, 1},
    {"conv 1280+640 32x32", 1, 32, 32, 1280, 640, 3, 1, false, true, false, 640, 1},
    {"conv 640+320 64x64", 1, 64, 64, 960, 320, 3, 1, false, true, false, 320, 1},
    {"conv 320 down 64x64", 1, 64, 64, 320, 320, 3, 2, false, false, false, 0, 1},
    {"conv 640 up 32x32", 1, 32, 32, 640, 640, 3, 1, false, false, false, 0, 2},
    {"conv 4 to 320", 1, 64, 64, 4, 320, 3, 1, false, false, false, 0, 1},
    {"conv 320 to 4", 1, 64, 64, 320, 4, 3, 1, false, true, false, 0, 1},
    {"vae conv 512 64x64", 1, 64, 64, 512, 512, 3, 1, false, true, true, 0, 1},
    {"vae conv 256 256x256", 1, 256, 256, 256, 256, 3, 1, false, true, true, 0, 1},
    {"vae conv 128 512x512", 1, 512, 512, 128, 128, 3, 1, false, true, true, 0, 1},
    {"taesd conv 64 512x512", 1, 512, 512, 64, 64, 3, 1, false, false, true, 0, 1},
    {"vae conv 128 to 3", 1, 512, 512, 128, 3, 3, 1, false, true, false, 0, 1},
    {"linear 4096x320 to 320", 1, 64, 64, 320, 320, 0, 1, false, false, true, 0, 1},
    {"linear 4096x320 to 960", 1, 64, 64, 320, 960, 0, 1, false, false, false, 0, 1},
    {"linear 4096x320 geglu", 1, 64, 64, 320, 2560, 0, 1, true, false, false, 0, 1},
    {"linear 4096x1280 to 320", 1, 64, 64, 1280, 320, 0, 1, false, false, true, 0, 1},
    {"linear 1024x640 geglu", 1, 32, 32, 640, 5120, 0, 1, true, false, false, 0, 1},
    {"linear 1024x2560 to 640", 1, 32, 32, 2560, 640, 0, 1, false, false, true, 0, 1},
    {"linear 256x1280 geglu", 1, 16, 16, 1280, 10240, 0, 1, true, false, false, 0, 1},
    {"linear 256x5120 to 1280", 1, 16, 16, 5120, 1280, 0, 1, false, false, true, 0, 1},
    {"linear 256x1280 to 1280", 1, 16, 16, 1280, 1280, 0, 1, false, false, true, 0, 1},
    {"linear 64x1280 to 1280", 1, 8, 8, 1280, 1280, 0, 1, false, false, true, 0, 1},
    {"linear 77x768 to 3072", 1, 7, 11, 768, 3072, 0, 1, false, false, false, 0, 1},
    {"vit linear 400x768 to 768", 1, 20, 20, 768, 768, 0, 1, false, false, true, 0, 1},
    {"vit linear 400x768 to 2304", 1, 20, 20, 768, 2304, 0, 1, false, false, false, 0, 1},
    {"vit linear 400x768 to 3072", 1, 20, 20, 768, 3072, 0, 1, false, false, false, 0, 1},
    {"vit linear 400x3072 to 768", 1, 20, 20, 3072, 768, 0, 1, false, false, true, 0, 1},
    {"linear 1x1280 to 1280", 1, 1, 1, 1280, 1280, 0, 1, false, false, false, 0, 1},
};

typedef struct bench {
    const layer *l;
    const float *x, *x2, *residual;
    const dc_param *k, *norm;
} bench;

static void pass(void *ctx, dc_run *r)
{
    const bench *b = ctx;
    const layer *l = b->l;
    dc_tensor x = dc_upload(r, DC_F32, 4, (int64_t[]){l->n, l->h, l->w, l->in - l->in2}, b->x), residual = DC_NONE, y;
    dc_pre pre = {0};
    int64_t outs = l->geglu ? l->out / 2 : l->out, h = l->h * l->up / l->stride, w = l->w * l->up / l->stride;
    if (l->in2) pre.x2 = dc_upload(r, DC_F32, 4, (int64_t[]){l->n, l->h, l->w, l->in2}, b->x2);
    if (l->norm) pre.norm = b->norm, pre.groups = 32, pre.eps = 1e-5f, pre.act = DC_ACT_SILU;
    if (l->up > 1) pre.h = (int)h, pre.w = (int)w;
    if (l->residual) residual = dc_upload(r, DC_F32, 4, (int64_t[]){l->n, h, w, outs}, b->residual);
    if (l->kernel) y = dc_conv2d(r, x, b->k, (dc_conv_opt){.pre = pre, .stride = l->stride, .pad = {1, 1, 1, 1}, .residual = residual});
    else y = dc_linear(r, x, b->k, (dc_linear_opt){.pre = pre, .residual = residual});
    (void)y;
}

static uint64_t random_state = 1;
static float uniform(void)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (float)(int32_t)(random_state >> 32) * 0x1p-31f;
}

static float *floats(int64_t n)
{
    float *p = malloc(sizeof *p * (size_t)n);
    for (int64_t i = 0; p && i < n; i++) p[i] = uniform();
    if (!p) exit(1);
    return p;
}

static void *weights(int64_t n, dc_dtype t, float scale)
{
    float *v = floats(n);
    uint16_t *h = (uint16_t *)v; /* written behind the reading */
    for (int64_t i = 0; i < n; i++) {
        if (t == DC_F32) v[i] *= scale;
        else h[i] = t == DC_F16 ? dc_f32_to_f16(v[i] * scale) : dc_f32_to_bf16(v[i] * scale);
    }
    return v;
}

static void must(dc_status s, const dc_error *e)
{
    if (!s) return;
    fprintf(stderr, "%s\n", e->text);
    exit(1);
}

/* Seconds of the matrix op in the profile so far. */
static double op_seconds(const dc_run *r, uint64_t *flops)
{
    const dc_profile_row *rows;
    double s = 0;
    for (int i = 0, n = dc_run_profile(r, &rows); i < n; i++)
        if (rows[i].flops) {
            s += rows[i].seconds;
            *flops = rows[i].flops;
        }
    return s;
}

static void measure(dc_device *d, dc_pool *pool, const char *level, int per, const layer *l, dc_dtype t)
{
    dc_error e = {0};
    dc_params *set = dc_params_new(d, "bench");
    int K = l->in * (l->kernel ? l->kernel * l->kernel : 1), kernel = l->kernel ? l->kernel : 1;
    void *w = weights((int64_t)l->out * K, t, 1.0f / (float)K), *bias = weights(l->out, t, 1), *ones = weights(l->in, DC_F32, 1);
    size_t bytes = (size_t)l->out * (size_t)K * dc_dtype_size(t);
    int copies = (int)(COLD_BYTES / bytes) + 2;
    dc_param *k[MOST_COPIES];
    if (copies > MOST_COPIES) copies = MOST_COPIES;
    for (int i = 0; i < copies; i++)
        k[i] = dc_params_add(set, &(dc_param_desc){.name = "k",
                                                   .kind = l->kernel ? DC_PARAM_CONV : DC_PARAM_LINEAR,
                                                   .out = l->out,
                                                   .in = l->in,
                                                   .kh = kernel,
                                                   .kw = kernel,
                                                   .geglu = l->geglu,
                                                   .int8 = true,
                                                   .n_weight = 1,
                                                   .n_bias = 1,
                                                   .weight = {{w, t, l->out}},
                                                   .bias = {{bias, t, l->out}}});
    dc_param *norm = dc_params_add(set, &(dc_param_desc){.name = "norm",
                                                         .kind = DC_PARAM_NORM,
                                                         .out = l->in,
                                                         .in = 1,
                                                         .kh = 1,
                                                         .kw = 1,
                                                         .n_weight = 1,
                                                         .n_bias = 1,
                                                         .weight = {{ones, DC_F32, l->in}},
                                                         .bias = {{ones, DC_F32, l->in}}});
    double start = dc_seconds();
    must(dc_params_prepare(set, NULL, NULL, &e), &e);
    double packing = dc_seconds() - start, best = 1e9, top = peak(pool, level, per);
    int64_t pixels = (int64_t)l->n * l->h * l->w;
    bench b = {l, floats(pixels * l->in), l->in2 ? floats(pixels * l->in2) : NULL, floats(pixels * l->up * l->up * l->out), k[0], norm};
    dc_run *r = dc_run_new(d);
    uint64_t flops = 0;
    dc_run_set_profile(r, true);
    must(dc_run_plan(r, pass, &b, &e), &e);
    must(dc_run_reserve(r, &e), &e);
    start = dc_seconds();
    for (int i = 0; i < PASSES && (i < 4 || dc_seconds() - start < SECONDS_EACH); i++) {
        double before = op_seconds(r, &flops);
        b.k = k[i % copies];
        must(dc_run_pass(r, pass, &b, &e), &e);
        double took = op_seconds(r, &flops) - before;
        if (took < best) best = took;
    }
    double again = peak(pool, level, per), rate = (double)flops / best * 1e-9;
    if (again > top) top = again;
    printf("%-24s %-4s %8.3f ms %7.1f GFLOP/s %5.1f %% of %.0f   packed at %.2f GB/s\n", l->name, dc_dtype_name(t), best * 1e3, rate,
           top > 0 ? 100 * rate / top : 0, top, (double)bytes * copies / packing * 1e-9);
    fflush(stdout);
    dc_run_free(r);
    dc_params_free(set);
    free(w), free(bias), free(ones), free((void *)b.x), free((void *)b.x2), free((void *)b.residual);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    const char *level = argc > 2 ? argv[2] : "auto", *only = argc > 3 ? argv[3] : "";
    dc_device *d = NULL;
    dc_error e = {0};
    dc_pool *pool = dc_pool_new(threads);
    must(dc_device_open(
             &d,
             &(dc_device_options){.name = "cpu", .threads = threads, .cpu_level = level, .precision = argc > 5 ? argv[5] : NULL, .exact = argc > 6},
             &e),
         &e);
    const char *precision = argc > 5 ? argv[5] : "";
    const int per = !strcmp(precision, "int8") ? 4 : !strcmp(precision, "bf16") && strstr(dc_device_summary(d), "avx512bf16") ? 2 : 1;
    printf("%s\n", dc_device_summary(d));
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        if (strstr(layers[i].name, only)) {
            measure(d, pool, level, per, &layers[i], DC_F16);
            if (argc <= 4 || !strcmp(argv[4], "all")) measure(d, pool, level, per, &layers[i], DC_F32);
        }
    dc_device_close(d);
    dc_pool_free(pool);
    return 0;
}
