/* test_cpu_attention.c - attention at every instruction set of this machine against softmax in double. */
#include "base/half.h"
#include "cpu_cases.h"

/* Levels, and whether by pairs of bf16. */
static const struct kernel {
    const char *level, *precision;
} kernels[] = {{"portable", "f32"}, {"avx2", "f32"}, {"avx512", "f32"}, {"avx512bf16", "bf16"}};
enum { KERNELS = sizeof kernels / sizeof *kernels };

static dc_device *open_kernel(int i, int threads, const atomic_int *cancel)
{
    return cpu_open_with(
        &(dc_device_options){.name = "cpu", .threads = threads, .cpu_level = kernels[i].level, .precision = kernels[i].precision, .cancel = cancel});
}
static bool is_bf16(int i) { return kernels[i].precision[0] == 'b'; }

typedef struct attn_case {
    const char *name;
    int64_t n, tq, tk, heads, d;
    int64_t kn; /* batch of k and v */
    int extra;  /* unused channels on either side: q, k, v are slices of wider rows */
    bool causal;
    int keys;          /* 0: all */
    float scale, size; /* softmax scale (0: default), size of the numbers in q and k */
} attn_case;

static const attn_case cases[] = {
    {"one number", 1, 1, 1, 1, 1, 1, 0, false, 0, 0, 1},
    {"SD text encoder", 2, 77, 77, 12, 64, 2, 0, true, 0, 0, 2},
    {"CLIP B/32 vision", 2, 50, 50, 12, 64, 2, 64, false, 0, 0, 2},
    {"257 tokens", 1, 257, 257, 3, 64, 1, 0, false, 0, 0, 2},
    {"64x64 level, part", 1, 500, 700, 2, 40, 1, 0, false, 0, 0, 3},
    {"32x32 level, part", 2, 130, 260, 2, 80, 2, 8, false, 0, 0, 2},
    {"8x8 level", 2, 64, 64, 8, 160, 2, 0, false, 0, 0, 2},
    {"cross attention, shared text", 3, 200, 77, 8, 40, 1, 4, false, 0, 0, 2},
    {"VAE", 1, 150, 300, 1, 512, 1, 0, false, 0, 0, 2},
    {"head 8", 1, 100, 300, 4, 8, 1, 0, false, 0, 0, 4},
    {"head 7, odd everything", 1, 53, 131, 3, 7, 1, 5, false, 0, 0, 2},
    {"head 1", 1, 29, 130, 5, 1, 1, 0, false, 0, 0, 2},
    {"head 37, causal, fewer queries than keys", 2, 131, 333, 2, 37, 2, 3, true, 0, 0, 2},
    {"causal over several tiles", 1, 450, 450, 1, 16, 1, 0, true, 0, 0, 2},
    {"causal, more queries than keys", 1, 300, 129, 1, 20, 1, 0, true, 0, 0, 2},
    {"33 queries: two vectors and one", 1, 33, 70, 2, 12, 1, 0, false, 0, 0, 2},
    {"50 causal: two queries in the last group", 1, 50, 50, 2, 12, 1, 0, true, 0, 0, 2},
    {"small scores, one head of 4", 1, 100, 128, 1, 4, 1, 0, false, 0, 0, 0.8f},
    {"key limit", 2, 77, 77, 2, 64, 2, 0, false, 9, 0, 2},
    {"key limit and causal", 1, 77, 77, 2, 64, 1, 0, true, 40, 0, 2},
    {"own scale", 1, 40, 50, 1, 24, 1, 0, false, 0, 0.7f, 1},
    {"scores of thousands", 1, 60, 200, 1, 64, 1, 0, false, 0, 0, 40},
    {"equal scores", 1, 60, 200, 1, 40, 1, 0, false, 0, 0, 0},
    {"head 640, wider than any model's", 1, 50, 140, 1, 640, 1, 0, false, 0, 0, 1},
};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct attn_data {
    const attn_case *c;
    float *q, *k, *v, *y;
} attn_data;

static int64_t width(const attn_case *c) { return c->heads * c->d + 2 * c->extra; }

static attn_data make(const attn_case *c)
{
    attn_data a = {.c = c};
    a.q = random_floats(c->n * c->tq * width(c), c->size, 0, 1);
    a.k = random_floats(c->kn * c->tk * width(c), c->size, 0, 2);
    a.v = random_floats(c->kn * c->tk * width(c), 1, 0.25f, 3);
    a.y = random_floats(c->n * c->tq * c->heads * c->d, 1, 0, 4);
    return a;
}

static void drop(attn_data *a) { free(a->q), free(a->k), free(a->v), free(a->y); }

static void attend(void *ctx, dc_run *r)
{
    attn_data *a = ctx;
    const attn_case *c = a->c;
    dc_tensor q = dc_upload(r, DC_F32, 3, DIMS(c->n, c->tq, width(c)), a->q);
    dc_tensor k = dc_upload(r, DC_F32, 3, DIMS(c->kn, c->tk, width(c)), a->k);
    dc_tensor v = dc_upload(r, DC_F32, 3, DIMS(c->kn, c->tk, width(c)), a->v);
    const int64_t C = c->heads * c->d;
    q = dc_view_channels(q, c->extra, C), k = dc_view_channels(k, c->extra, C), v = dc_view_channels(v, c->extra, C);
    const dc_attention_opt o = {.heads = (int)c->heads, .scale = c->scale, .causal = c->causal, .keys = c->keys};
    dc_download(r, dc_attention(r, q, k, v, o), a->y);
}

static void round_to_bf16(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = dc_bf16_to_f32(dc_f32_to_bf16(x[i]));
}

/* Queries, keys and values as bf16 can hold them. */
static void round_inputs(attn_data *a)
{
    const attn_case *c = a->c;
    round_to_bf16(a->q, c->n * c->tq * width(c));
    round_to_bf16(a->k, c->kn * c->tk * width(c));
    round_to_bf16(a->v, c->kn * c->tk * width(c));
}

/* What a query's result is, and what bounds its error: the largest |score|; for each channel the mean of |v - out| under the weights. */
static double expected_row(const attn_data *a, int64_t n, int64_t h, int64_t i, double *out, double *spread)
{
    const attn_case *c = a->c;
    const int64_t w = width(c), kn = c->kn == 1 ? 0 : n, from = c->extra + h * c->d;
    const double scale = c->scale != 0 ? c->scale : 1 / sqrt((double)c->d);
    int64_t keys = c->keys ? c->keys : c->tk;
    if (c->causal && i + 1 < keys) keys = i + 1;
    double *p = malloc(sizeof(double) * (size_t)keys), most = -INFINITY, sum = 0, size = 0;
    for (int64_t j = 0; j < keys; j++) {
        p[j] = 0;
        for (int64_t e = 0; e < c->d; e++) p[j] += (double)a->q[(n * c->tq + i) * w + from + e] * a->k[(kn * c->tk + j) * w + from + e];
        p[j] *= scale;
        most = fmax(most, p[j]);
        size = fmax(size, fabs(p[j]));
    }
    for (int64_t j = 0; j < keys; j++) sum += p[j] = exp(p[j] - most);
    for (int64_t e = 0; e < c->d; e++) {
        out[e] = 0;
        for (int64_t j = 0; j < keys; j++) out[e] += p[j] / sum * a->v[(kn * c->tk + j) * w + from + e];
        spread[e] = 0;
        for (int64_t j = 0; j < keys; j++) spread[e] += p[j] / sum * fabs(a->v[(kn * c->tk + j) * w + from + e] - out[e]);
    }
    free(p);
    return size;
}

/* Every query of every head. A score s is a float sum, so it is known to about |s| * 2^-22; errors of the weights follow. Weights rounded to
 * bf16 are off by up to 2^-8 of themselves (their exponential by 8e-5 before): that moves a result by no more than its spread times so much. */
static void check_case(const attn_data *a, const char *level, bool bf16)
{
    const attn_case *c = a->c;
    double out[1024], spread[1024];
    char what[160];
    for (int64_t n = 0; n < c->n; n++)
        for (int64_t h = 0; h < c->heads; h++)
            for (int64_t i = 0; i < c->tq; i++) {
                const double size = expected_row(a, n, h, i, out, spread);
                const float *y = a->y + ((n * c->tq + i) * c->heads + h) * c->d;
                snprintf(what, sizeof what, "%s, %s, image %d head %d query %d", level, c->name, (int)n, (int)h, (int)i);
                for (int64_t e = 0; e < c->d; e++)
                    check_close(what, y + e, out + e, 1, 0, 5e-7 + 2.5e-7 * size + (bf16 ? (0x1p-8 + 8e-5) * spread[e] : 0));
            }
}

static void test_values(void **state)
{
    (void)state;
    for (int l = 0; l < KERNELS; l++) {
        dc_device *d = open_kernel(l, 2, NULL);
        if (!d) continue;
        for (int i = 0; i < CASES; i++) {
            attn_data a = make(&cases[i]);
            if (is_bf16(l)) round_inputs(&a);
            assert_int_equal(run_once(d, attend, &a), DC_OK);
            check_case(&a, kernels[l].level, is_bf16(l));
            drop(&a);
        }
        dc_device_close(d);
    }
}

/* bf16 rounds its inputs to nearest even and is exact about what it then multiplies: rounding them before changes no byte. */
static void test_rounding(void **state)
{
    (void)state;
    dc_device *d = open_kernel(KERNELS - 1, 2, NULL);
    for (int i = 0; d && i < CASES; i++) {
        attn_data a = make(&cases[i]), b = make(&cases[i]);
        round_inputs(&b);
        assert_int_equal(run_once(d, attend, &a), DC_OK);
        assert_int_equal(run_once(d, attend, &b), DC_OK);
        assert_memory_equal(a.y, b.y, sizeof(float) * (size_t)(cases[i].n * cases[i].tq * cases[i].heads * cases[i].d));
        drop(&a), drop(&b);
    }
    if (d) dc_device_close(d);
}

/* The bytes do not depend on the number of threads (nor, with it, on the size of the query tiles). */
static void test_threads(void **state)
{
    (void)state;
    for (int l = 0; l < KERNELS; l++)
        for (int i = 0; i < CASES; i++) {
            dc_device *one = open_kernel(l, 1, NULL), *many = open_kernel(l, 5, NULL);
            if (!one) continue;
            attn_data a = make(&cases[i]), b = make(&cases[i]);
            assert_int_equal(run_once(one, attend, &a), DC_OK);
            assert_int_equal(run_once(many, attend, &b), DC_OK);
            assert_memory_equal(a.y, b.y, sizeof(float) * (size_t)(cases[i].n * cases[i].tq * cases[i].heads * cases[i].d));
            drop(&a), drop(&b);
            dc_device_close(one), dc_device_close(many);
        }
}

/* A NaN among the keys or queries shows in every result that it touches, and only there. */
static void test_nan_shows(void **state)
{
    (void)state;
    static const attn_case c = {"NaN", 1, 60, 150, 1, 16, 1, 0, true, 0, 0, 1};
    for (int l = 0; l < KERNELS; l++) {
        dc_device *d = open_kernel(l, 1, NULL);
        if (!d) continue;
        attn_data a = make(&c);
        a.k[20 * 16 + 3] = NAN;
        assert_int_equal(run_once(d, attend, &a), DC_OK);
        for (int64_t i = 0; i < c.tq; i++)
            for (int64_t e = 0; e < c.d; e++) assert_int_equal(isnan(a.y[i * c.d + e]) != 0, i >= 20);
        drop(&a);
        dc_device_close(d);
    }
}

static void test_cancel(void **state)
{
    (void)state;
    static const attn_case c = {"cancelled", 1, 64, 64, 1, 16, 1, 0, false, 0, 0, 1};
    atomic_int cancel = 1;
    dc_device *d = cpu_open("portable", 2, &cancel);
    attn_data a = make(&c);
    assert_int_equal(run_once(d, attend, &a), DC_CANCELLED);
    drop(&a);
    dc_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),    cmocka_unit_test(test_rounding), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_nan_shows), cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
