/* golden.h - for the tests of models: tensors and tolerances of a golden file, and taps compared with it. */
#ifndef TESTS_UNET_GOLDEN_H
#define TESTS_UNET_GOLDEN_H
#include "backends/run.h"
#include "base/json.h"
#include "weights/weights.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* wants those above first */

typedef struct golden {
    dc_weights *w;
    json_t *root;            /* case.json, or NULL */
    const json_t *tolerance; /* name -> largest allowed difference */
    char prefix[64];         /* of tap names in the file: "tap.", "decode.tap." */
    const char *way;         /* how it is computed: try_device's argument */
    int compared;
} golden;

static inline void must(dc_status s, const dc_error *e)
{
    if (s || e->code) fail_msg("status %d: %s", s, e->text);
}

static inline const dc_stored *golden_find(const golden *g, const char *name)
{
    const dc_stored *t = dc_weights_find(g->w, name);
    if (!t) fail_msg("the golden file has no %s", name);
    return t;
}

static inline const float *golden_data(const golden *g, const char *name) { return golden_find(g, name)->data; }

static inline void compare(golden *g, const char *name, const float *got, const dc_stored *want, double tolerance)
{
    const float *w = want->data;
    size_t n = want->bytes / 4;
    double max = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)w[i]);
        if (!(d <= max)) max = isnan(d) ? INFINITY : d;
    }
    g->compared++;
    if (!(max <= tolerance)) fail_msg("%s on %s: differs by %.3g, allowed are %.3g", name, g->way, max, tolerance);
}

static inline double tolerance_of(const golden *g, const char *name)
{
    const json_t *t = json_object_get(g->tolerance, name);
    if (!json_is_number(t)) fail_msg("no tolerance for %s", name);
    return json_number_value(t);
}

/* A dc_tap_fn: compares what the golden file has. */
static inline void golden_tap(void *user, const char *name, const float *data, int rank, const int64_t *dim)
{
    golden *g = user;
    char full[256];
    if (!strncmp(name, "decoder.", 8) || !strncmp(name, "encoder.", 8)) name += 8; /* the scopes of the VAE's halves */
    snprintf(full, sizeof full, "%s%s", g->prefix, name);
    const dc_stored *want = dc_weights_find(g->w, full);
    if (!want) return;
    assert_int_equal(rank, want->rank);
    for (int i = 0; i < rank; i++) assert_int_equal(dim[i], want->dim[i]);
    compare(g, full, data, want, tolerance_of(g, full));
}

static inline int golden_count(const golden *g)
{
    int n = 0;
    for (int i = 0; i < dc_weights_count(g->w); i++) n += !strncmp(dc_weights_at(g->w, i)->name, g->prefix, strlen(g->prefix));
    return n;
}

/* Golden tensors are [N,C,H,W]; ours [N,H,W,C]. `from` with `count` channels of `all`. */
static inline float *to_nhwc(const float *x, int64_t n, int64_t all, int64_t h, int64_t w, int64_t from, int64_t count)
{
    float *y = malloc((size_t)(n * h * w * count) * sizeof *y);
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < count; c++)
            for (int64_t p = 0; p < h * w; p++) y[(i * h * w + p) * count + c] = x[(i * all + from + c) * h * w + p];
    return y;
}

static inline float *to_nchw(const float *x, int64_t n, int64_t c, int64_t h, int64_t w)
{
    float *y = malloc((size_t)(n * h * w * c) * sizeof *y);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t p = 0; p < h * w; p++) y[(i * c + k) * h * w + p] = x[(i * h * w + p) * c + k];
    return y;
}

static inline json_t *read_json(const char *path)
{
    json_t *root = NULL;
    dc_error e = {0};
    must(dc_json_read(&root, path, DC_JSON_CONFIG_LIMIT, &e), &e);
    return root;
}

/* A way to compute: a device and what is forced on it, in any order: a CPU level, a precision, "exact" (no Winograd, which is what the device
 * takes by itself where that pays; the goldens' sizes have both). NULL when this machine has no such level. */
static inline dc_device *try_device(const char *way)
{
    dc_device *d = NULL;
    dc_error e = {0};
    char words[64], *rest = NULL;
    snprintf(words, sizeof words, "%s", way);
    dc_device_options o = {.name = strtok_r(words, " ", &rest), .threads = 2};
    for (char *word; (word = strtok_r(NULL, " ", &rest));) {
        if (!strcmp(word, "exact")) o.exact = true;
        else if (!strcmp(word, "bf16") || !strcmp(word, "f16") || !strcmp(word, "f32") || !strcmp(word, "int8")) o.precision = word;
        else o.cpu_level = word;
    }
    dc_status s = dc_device_open(&d, &o, &e);
    if (s != DC_UNAVAILABLE) must(s, &e);
    return d;
}

static inline dc_device *open_device(const char *way)
{
    dc_device *d = try_device(way);
    if (!d) fail_msg("no device \"%s\"", way);
    return d;
}

/* A test that runs one way, and is named after it; it asks way_of for the way. */
#define ON(test, way)                                                                                                                                \
    {                                                                                                                                                \
        .name = #test " on " way, .test_func = test, .initial_state = way                                                                            \
    }
#ifdef TEST_CUDA /* beside the module of the CUDA device */
#define ON_EVERY_LEVEL(test) ON(test, "cuda f32")
#define ON_NARROW(test)      ON(test, "cuda f16"), ON(test, "cuda bf16")
#else
#define ON_NARROW(test) ON(test, "cpu bf16")
#define ON_EVERY_LEVEL(test)                                                                                                                         \
    ON(test, "ref"), ON(test, "cpu portable"), ON(test, "cpu portable exact"), ON(test, "cpu avx2"), ON(test, "cpu avx2 exact"),                     \
        ON(test, "cpu avx512"), ON(test, "cpu avx512 exact")
#endif

/* The way of a test made by ON; on a machine that has it not the test ends here, as left out. */
static inline const char *way_of(void **state)
{
    dc_device *d = try_device(*state);
    if (!d) skip();
    dc_device_close(d);
    return *state;
}

/* The end of a model at bf16 or int8, `part` of the goldens: at most `times` as far from the golden as PyTorch in bfloat16 is
 * (tests/gen/narrow.py), in the root mean square. */
static inline void compare_narrow(golden *g, const char *part, const char *name, const float *got, double times)
{
    const dc_stored *want = golden_find(g, name);
    const float *w = want->data;
    json_t *torch = read_json(TEST_DATA "/golden/modules/bf16.json");
    const json_t *allowed = json_object_get(json_object_get(torch, part), name);
    if (!json_is_number(allowed)) fail_msg("no error of PyTorch for %s of %s", name, part);
    double off = 0, all = 0;
    for (size_t i = 0; i < want->bytes / 4; i++) {
        off += ((double)got[i] - (double)w[i]) * ((double)got[i] - (double)w[i]);
        all += (double)w[i] * (double)w[i];
    }
    double ratio = sqrt(off / all) / json_number_value(allowed);
    if (!(ratio <= times)) fail_msg("%s of %s on %s: %.3g times PyTorch's error in bfloat16, allowed are %.3g", name, part, g->way, ratio, times);
    json_decref(torch);
}

/* Plans, reserves and runs one pass, in memory full of NaN. */
static inline void run_once(dc_run *r, dc_pass_fn *pass, void *ctx)
{
    dc_error e = {0};
    dc_run_set_guard(r, true);
    must(dc_run_plan(r, pass, ctx, &e), &e);
    must(dc_run_reserve(r, &e), &e);
    must(dc_run_pass(r, pass, ctx, &e), &e);
}

#endif
