/* Weights in blocks, and in 8-bit floats: a layer has the same bytes as with the same numbers in float32, whatever reads them, on every
 * device, level and precision. What the numbers are is held against the reference by tests/weights/test_gguf.c. */
#include "backends/backend.h"
#include "cpu_cases.h"

static const dc_dtype types[] = {DC_Q4_0, DC_Q4_1, DC_Q5_0, DC_Q5_1, DC_Q8_0, DC_Q2_K, DC_Q3_K, DC_Q4_K, DC_Q5_K, DC_Q6_K, DC_F8_E4M3, DC_F8_E5M2};
enum { TYPES = sizeof types / sizeof *types };

/* Where the halves of a block are. */
static int halves_at(dc_dtype t) { return t == DC_Q2_K ? 80 : t == DC_Q3_K ? 108 : t == DC_Q6_K ? 208 : 0; }
static int halves_of(dc_dtype t) { return t == DC_Q4_1 || t == DC_Q5_1 || t == DC_Q2_K || t == DC_Q4_K || t == DC_Q5_K ? 2 : t < DC_Q4_0 ? 0 : 1; }

/* n numbers of any bytes but for the halves, which are of this size; at an odd address. The caller frees what is one below. */
static uint8_t *random_blocks(dc_dtype t, int64_t n, uint64_t seed)
{
    const size_t size = dc_dtype_size(t), blocks = (size_t)(n / dc_dtype_block(t));
    assert_int_equal(n % dc_dtype_block(t), 0);
    uint8_t *all = malloc(blocks * size + 1), *at = all + 1;
    for (size_t i = 0; i < blocks * size; i++) at[i] = (uint8_t)((int)(random_float(&seed) * 128) + 128);
    for (size_t b = 0; b < blocks; b++)
        for (int h = 0; h < halves_of(t); h++) at[b * size + (size_t)(halves_at(t) + 2 * h) + 1] = 0x1c | (at[b * size] & 0x81); /* 0.004 and 0.005 */
    for (size_t i = 0; t < DC_Q4_0 && i < blocks; i++) at[i] = at[i] & 0xb7;                                                     /* below 2: no NaN */
    return at;
}

/* ---- stretches ------------------------------------------------------------------------------------------------------ */

/* Any stretch holds what the whole holds there, and single numbers too. */
static void test_stretches(void **state)
{
    (void)state;
    enum { N = 2048 };
    float whole[N], some[N];
    uint64_t seed = 3;
    for (int t = 0; t < TYPES; t++) {
        uint8_t *data = random_blocks(types[t], N, 7);
        const dc_source s = {data, types[t], 1, 0};
        dc_source_floats(&s, 0, N, whole);
        for (int i = 0; i < 300; i++) {
            const int64_t from = (int64_t)((random_float(&seed) + 1) / 2 * N) % N, n = (int64_t)((random_float(&seed) + 1) / 2 * (float)(N - from));
            some[n] = -77;
            dc_source_floats(&s, from, n, some);
            assert_memory_equal(some, whole + from, sizeof(float) * (size_t)n);
            if (n < N) assert_true(some[n] == -77);
            assert_true(dc_source_value(&s, from) == whole[from]);
        }
        free(data - 1);
    }
}

/* ---- layers --------------------------------------------------------------------------------------------------------------- */

typedef struct layer {
    const char *what;
    dc_param_kind kind;
    int out, in, k, parts;
    bool geglu, transposed, int8, bias;
} layer;
static const layer layers[] = {
    {"linear", DC_PARAM_LINEAR, 40, 96, 1, 1, false, false, false, false},
    {"stacked linear", DC_PARAM_LINEAR, 48, 96, 1, 3, false, false, false, false},
    {"geglu", DC_PARAM_LINEAR, 64, 96, 1, 1, true, false, false, false},
    {"transposed linear", DC_PARAM_LINEAR, 80, 96, 1, 1, false, true, false, false},
    {"biased linear", DC_PARAM_LINEAR, 256, 130, 1, 1, false, false, true, true},
    {"int8 geglu", DC_PARAM_LINEAR, 128, 200, 1, 2, true, false, true, false},
    {"1x1 convolution", DC_PARAM_CONV, 32, 72, 1, 1, false, false, true, false},
    {"3x3 convolution", DC_PARAM_CONV, 32, 72, 3, 1, false, false, false, false},
    {"int8 3x3 convolution", DC_PARAM_CONV, 32, 72, 3, 1, false, false, true, false},
    {"16x16 convolution", DC_PARAM_CONV, 8, 3, 16, 1, false, false, false, false},
    {"32x32 convolution", DC_PARAM_CONV, 8, 3, 32, 1, false, false, false, false},
    {"norm", DC_PARAM_NORM, 256, 1, 1, 1, false, false, false, true},
    {"table", DC_PARAM_TABLE, 64, 72, 1, 2, false, false, false, false},
};
enum { LAYERS = sizeof layers / sizeof *layers, MOST = 1 << 16 };

typedef struct job {
    const layer *l;
    dc_param *k;
    float *x, *y;
    int64_t n;
} job;

static void pass(void *ctx, dc_run *r)
{
    static const int32_t ids[10] = {0, 63, 31, 32, 5, 5, 17, 62, 1, 33};
    job *j = ctx;
    const layer *l = j->l;
    const int64_t side = l->k > 3 ? 2 * l->k : 9;
    dc_tensor y;
    if (l->kind == DC_PARAM_TABLE) y = dc_embed(r, dc_upload(r, DC_I32, 2, DIMS(2, 5), ids), j->k, j->k);
    else if (l->kind == DC_PARAM_NORM) y = dc_layer_norm(r, dc_upload(r, DC_F32, 3, DIMS(1, 5, l->out), j->x), j->k, 1e-5f);
    else if (l->kind == DC_PARAM_LINEAR) y = dc_linear(r, dc_upload(r, DC_F32, 3, DIMS(1, 70, l->in), j->x), j->k, (dc_linear_opt){0});
    else
        y = dc_conv2d(r, dc_upload(r, DC_F32, 4, DIMS(1, side, side, l->in), j->x), j->k,
                      (dc_conv_opt){.stride = l->k > 3 ? l->k : 1, .pad = {l->k == 3, l->k == 3, l->k == 3, l->k == 3}});
    j->n = dc_numel(y);
    assert_true(j->n <= MOST);
    dc_download(r, y, j->y);
}

/* The layer with these sources, run once. */
static void run_layer(dc_device *d, job *j, const dc_source *weight, const dc_source *bias)
{
    const layer *l = j->l;
    dc_error e = {0};
    dc_params *p = dc_params_new(d, "test");
    dc_param_desc desc = {.name = "layer",
                          .kind = l->kind,
                          .out = l->out,
                          .in = l->in,
                          .kh = l->k,
                          .kw = l->k,
                          .geglu = l->geglu,
                          .transposed = l->transposed,
                          .int8 = l->int8,
                          .n_weight = l->parts,
                          .n_bias = l->bias};
    memcpy(desc.weight, weight, sizeof *weight * (size_t)l->parts);
    desc.bias[0] = *bias;
    j->k = dc_params_add(p, &desc);
    if (dc_params_prepare(p, NULL, NULL, &e)) fail_msg("%s", e.text);
    assert_int_equal(run_once(d, pass, j), DC_OK);
    dc_params_free(p);
}

static void check_layer(dc_device *d, const char *name, const layer *l, dc_dtype t)
{
    const int64_t row = (int64_t)(l->transposed ? l->out : l->in * l->k * l->k), rows = (l->transposed ? l->in : l->out) / l->parts;
    dc_source stored[DC_MAX_PARTS], floats[DC_MAX_PARTS], bias = {0}, float_bias = {0};
    job narrow = {.l = l, .x = random_floats(MOST, 1, 0, 5), .y = malloc(MOST * sizeof(float))}, wide = narrow;
    wide.y = malloc(MOST * sizeof(float));
    for (int i = 0; i <= l->parts; i++) {
        const bool is_bias = i == l->parts;
        const int64_t n = is_bias ? 256 : rows * row;
        dc_source s = {random_blocks(t, n, (uint64_t)i + 1), t, is_bias ? l->out : rows, 0};
        float *f = malloc(sizeof(float) * (size_t)n);
        dc_source_floats(&s, 0, n, f);
        *(is_bias ? &bias : &stored[i]) = s;
        *(is_bias ? &float_bias : &floats[i]) = (dc_source){f, DC_F32, s.rows, 0};
    }
    run_layer(d, &narrow, stored, &bias);
    run_layer(d, &wide, floats, &float_bias);
    for (int64_t i = 0; i < narrow.n; i++)
        if (memcmp(&narrow.y[i], &wide.y[i], sizeof(float)))
            fail_msg("%s, %s of %s: number %lld: found %.9g, expected %.9g", name, l->what, dc_dtype_name(t), (long long)i, (double)narrow.y[i],
                     (double)wide.y[i]);
    for (int i = 0; i < l->parts; i++) free((char *)stored[i].data - 1), free((void *)floats[i].data);
    free((char *)bias.data - 1), free((void *)float_bias.data);
    free(narrow.x), free(narrow.y), free(wide.y);
}

static void check_device(const dc_device_options *o)
{
    dc_device *d = NULL;
    dc_error e = {0};
    const dc_status s = dc_device_open(&d, o, &e);
    if (s == DC_UNAVAILABLE) return;
    assert_int_equal(s, DC_OK);
    for (int l = 0; l < LAYERS; l++)
        for (int t = 0; t < TYPES; t++) check_layer(d, dc_device_summary(d), &layers[l], types[t]);
    dc_device_close(d);
}

static void test_ref(void **state)
{
    (void)state;
    check_device(&(dc_device_options){.name = "ref"});
}

static void test_cpu(void **state)
{
    (void)state;
    static const char *const precisions[] = {"f32", "bf16", "int8"};
    for (size_t l = 0; l < sizeof cpu_levels / sizeof *cpu_levels; l++)
        for (int p = 0; p < 3; p++)
            check_device(&(dc_device_options){.name = "cpu", .threads = 1, .cpu_level = cpu_levels[l], .precision = precisions[p]});
    for (int p = 0; p < 3; p++) check_device(&(dc_device_options){.name = "cpu", .threads = 2, .precision = precisions[p]});
}

/* ---- non-finite scales --------------------------------------------------------------------------------------------------------- */

static void test_non_finite(void **state)
{
    (void)state;
    static const uint16_t bad[] = {0x7c00, 0xfc00, 0x7e00, 0x7c01};
    dc_device *d = NULL;
    assert_int_equal(dc_device_open(&d, &(dc_device_options){.name = "cpu", .threads = 1}, NULL), DC_OK);
    for (int t = 0; t < TYPES; t++)
        for (int h = 0; h < halves_of(types[t]); h++)
            for (int i = 0; i < 4; i++) {
                const int64_t block = dc_dtype_block(types[t]);
                uint8_t *data = random_blocks(types[t], 64 * 96, 4);
                dc_error e = {0};
                char says[80];
                memcpy(data + 5 * dc_dtype_size(types[t]) + halves_at(types[t]) + 2 * h, &bad[i], 2);
                dc_params *p = dc_params_new(d, "test");
                dc_params_add(p, &(dc_param_desc){.name = "F: layer",
                                                  .kind = DC_PARAM_LINEAR,
                                                  .out = 64,
                                                  .in = 96,
                                                  .kh = 1,
                                                  .kw = 1,
                                                  .n_weight = 1,
                                                  .weight = {{data, types[t], 64}}});
                assert_int_equal(dc_params_prepare(p, NULL, NULL, &e), DC_DATA);
                snprintf(says, sizeof says, "F: layer.weight: found a non-finite value at index %d (", (int)(5 * block));
                if (!strstr(e.text, says)) fail_msg("found \"%s\", expected \"%s\"", e.text, says);
                assert_false(dc_block_finite(types[t], data + 5 * dc_dtype_size(types[t])));
                assert_true(dc_block_finite(types[t], data));
                dc_params_free(p);
                free(data - 1);
            }
    dc_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stretches), cmocka_unit_test(test_ref), cmocka_unit_test(test_cpu),
                                       cmocka_unit_test(test_non_finite)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
