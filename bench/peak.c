/* peak.c - what this machine can do at most, as one line of JSON: GOP/s (2 a multiply-add) in float32, bfloat16 and int8, and GB/s of memory
 * read, on all threads at once.
 *
 *     ninja bench_peak && ./bench_peak [threads [avx2]]
 *
 * Best of several short passes; 0 where the CPU, or the compiler, or the level (avx2: what a CPU without AVX-512 could do), lacks the
 * instructions. run.py calls it between its rounds. */
#include "base/parallel.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 12, STEPS = 1000000, PASSES = 5 }; /* 12 sums: 2 units with 4 to 5 cycles of latency, and room */
static const size_t READ_BYTES = 256u << 20;       /* more than a last-level cache */

/* ---- arithmetic: independent sums in registers, x and y never change ------------------------------------------------- */

#if defined(__x86_64__)
#include <immintrin.h>
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define CHAIN(name, features, type, reg, zero, start, step)                                                                                          \
    __attribute__((target(features))) static void name(void *ctx, int64_t i, int thread)                                                             \
    {                                                                                                                                                \
        (void)ctx, (void)i, (void)thread;                                                                                                            \
        type c[CHAINS];                                                                                                                              \
        start;                                                                                                                                       \
        UNROLL for (int j = 0; j < CHAINS; j++) c[j] = zero;                                                                                         \
        for (int k = 0; k < STEPS; k++) UNROLL for (int j = 0; j < CHAINS; j++)                                                                      \
            {                                                                                                                                        \
                c[j] = step;                                                                                                                         \
                __asm__ volatile("" : "+" reg(c[j]));                                                                                                \
            }                                                                                                                                        \
    }

CHAIN(f32_256, "avx2,fma", __m256, "x", _mm256_setzero_ps(), __m256 x = _mm256_set1_ps(1.0000001f), _mm256_fmadd_ps(x, x, c[j]))
CHAIN(f32_512, "avx512f", __m512, "v", _mm512_setzero_ps(), __m512 x = _mm512_set1_ps(1.0000001f), _mm512_fmadd_ps(x, x, c[j]))
#if __GNUC__ >= 10 || __clang_major__ >= 9
#define HAVE_NARROW 1
CHAIN(bf16_512, "avx512f,avx512bw,avx512vl,avx512bf16", __m512, "v", _mm512_setzero_ps(),
      __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1), _mm512_set1_ps(1)), _mm512_dpbf16_ps(c[j], x, x))
CHAIN(int8_512, "avx512f,avx512bw,avx512vnni", __m512i, "v", _mm512_setzero_si512(), __m512i x = _mm512_set1_epi8(1), _mm512_dpbusd_epi32(c[j], x, x))
#endif

/* GOP/s of `ops` operations an instruction. */
static double rate(dc_pool *p, dc_task *chain, int ops)
{
    const int threads = dc_pool_threads(p);
    double best = 0;
    for (int r = 0; r < PASSES; r++) {
        double start = dc_seconds();
        dc_parallel_for(p, threads, chain, NULL, NULL);
        double x = 1e-9 * threads * (double)STEPS * CHAINS * ops / (dc_seconds() - start);
        best = x > best ? x : best;
    }
    return best;
}

static double peak_f32(dc_pool *p, bool wide)
{
    if (wide && __builtin_cpu_supports("avx512f")) return rate(p, f32_512, 32);
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? rate(p, f32_256, 16) : 0;
}
#endif

#ifdef HAVE_NARROW
static double peak_bf16(dc_pool *p) { return __builtin_cpu_supports("avx512bf16") ? rate(p, bf16_512, 64) : 0; }
static double peak_int8(dc_pool *p) { return __builtin_cpu_supports("avx512vnni") ? rate(p, int8_512, 128) : 0; }
#else
static double peak_bf16(dc_pool *p) { return (void)p, 0; }
static double peak_int8(dc_pool *p) { return (void)p, 0; }
#endif
#if !defined(__x86_64__)
static double peak_f32(dc_pool *p, bool wide) { return (void)p, (void)wide, 0; }
#endif

/* ---- memory ----------------------------------------------------------------------------------------------------------- */

typedef struct reading {
    const uint64_t *words;
    size_t each;
    uint64_t *sums; /* one a task: what makes the reads count */
} reading;

static void read_part(void *ctx, int64_t i, int thread)
{
    const reading *r = ctx;
    const uint64_t *w = r->words + (size_t)i * r->each;
    uint64_t s[8] = {0};
    (void)thread;
    for (size_t k = 0; k + 8 <= r->each; k += 8)
        for (size_t j = 0; j < 8; j++) s[j] += w[k + j];
    r->sums[i] = s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
}

/* GB/s; 0 when memory is out. */
static double peak_read(dc_pool *p)
{
    const size_t threads = (size_t)dc_pool_threads(p), words = READ_BYTES / 8;
    uint64_t *data = malloc(READ_BYTES), *sums = calloc(threads, sizeof *sums), check = 0;
    double best = 0;
    if (data && sums) {
        for (size_t i = 0; i < words; i++) data[i] = i;
        reading r = {data, words / threads, sums};
        for (int k = 0; k < PASSES; k++) {
            double start = dc_seconds();
            dc_parallel_for(p, (int64_t)threads, read_part, &r, NULL);
            double x = 1e-9 * 8.0 * (double)(r.each * threads) / (dc_seconds() - start);
            best = x > best ? x : best;
        }
        for (size_t i = 0; i < threads; i++) check += sums[i];
    }
    free(data);
    free(sums);
    return check ? best : 0;
}

int main(int argc, char **argv)
{
    dc_pool *p = dc_pool_new(argc > 1 ? atoi(argv[1]) : 0);
    const bool wide = argc <= 2 || strcmp(argv[2], "avx2") != 0;
    if (!p) return fprintf(stderr, "peak: no threads\n"), 1;
    printf("{\"threads\": %d, \"f32\": %.1f, \"bf16\": %.1f, \"int8\": %.1f, \"read\": %.2f}\n", dc_pool_threads(p), peak_f32(p, wide),
           wide ? peak_bf16(p) : 0, wide ? peak_int8(p) : 0, peak_read(p));
    dc_pool_free(p);
    return 0;
}
