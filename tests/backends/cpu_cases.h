/* cpu_cases.h - what the tests of the CPU device share: random numbers, every level this machine has, and one pass. */
#ifndef TEST_CPU_CASES_H
#define TEST_CPU_CASES_H
#include "backends/ops.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Uniform in [-1, 1), the same everywhere. */
static inline float random_float(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (float)(int32_t)(*state >> 32) * 0x1p-31f;
}

static inline float *random_floats(int64_t n, float scale, float shift, uint64_t seed)
{
    float *p = malloc(sizeof(float) * (size_t)(n ? n : 1));
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++) p[i] = random_float(&seed) * scale + shift;
    return p;
}

static const char *const cpu_levels[] = {"portable", "avx2", "avx512"};

/* NULL when this machine has not what the options force. */
static inline dc_device *cpu_open_with(const dc_device_options *o)
{
    dc_device *d = NULL;
    dc_error e = {0};
    dc_status s = dc_device_open(&d, o, &e);
    if (s == DC_UNAVAILABLE && strcmp(o->cpu_level, "portable")) return NULL;
    assert_int_equal(s, DC_OK);
    return d;
}

static inline dc_device *cpu_open(const char *level, int threads, const atomic_int *cancel)
{
    return cpu_open_with(&(dc_device_options){.name = "cpu", .threads = threads, .cpu_level = level, .cancel = cancel});
}

/* How much farther off than plain sums Winograd's F(4x4, 3x3) may be. Its transforms multiply by up to 8 and subtract again: over 320 channels
 * the reference measurement (numpy against float64) has 3.2e-6 of the RMS where plain sums in float32 have 3.3e-7; single values at the far
 * end of a tile gain most. The plain sums of these tests' tolerances are themselves allowed twice their own error. */
#define WINOGRAD_LOSS 5

/* Plans, reserves and runs the pass once. */
static inline dc_status run_once(dc_device *d, dc_pass_fn *pass, void *ctx)
{
    dc_error e = {0};
    dc_run *r = dc_run_new(d);
    dc_status s = dc_run_plan(r, pass, ctx, &e);
    if (!s) s = dc_run_reserve(r, &e);
    if (!s) s = dc_run_pass(r, pass, ctx, &e);
    if (s && s != DC_CANCELLED && s != DC_DATA) print_message("%s\n", e.text);
    dc_run_free(r);
    return s;
}

#define DIMS(...) ((const int64_t[4]){__VA_ARGS__})

/* |found - expected| <= relative * |expected| + absolute for all i; NaN and infinities must be the same kind. */
static inline void check_close(const char *what, const float *found, const double *expected, int64_t n, double relative, double absolute)
{
    double worst = 0;
    int64_t at = -1, bad = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(expected[i]) && isnan(found[i])) continue;
        if (isinf((float)expected[i]) && found[i] == (float)expected[i]) continue;
        double excess = fabs(found[i] - expected[i]) / (relative * fabs(expected[i]) + absolute);
        if (!(excess <= 1)) bad++;
        if (!(excess <= worst)) {
            worst = excess;
            at = i;
        }
    }
    if (bad)
        fail_msg("%s: %lld of %lld wrong, worst at %lld: found %.9g, expected %.9g (%.2f of the tolerance)", what, (long long)bad, (long long)n,
                 (long long)at, found[at], expected[at], worst);
}

#endif
