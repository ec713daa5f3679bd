/* test_ops_params.c - sets of parameters: prepared, dropped, prepared again; non-finite weights found and named; numbers of every storage
 * type; devices by name; views. */
#include "backends/backend.h"
#include "cpu_cases.h"

static dc_device *open_device(const char *name)
{
    dc_device *d = NULL;
    assert_int_equal(dc_device_open(&d, &(dc_device_options){.name = name}, NULL), DC_OK);
    return d;
}

/* ---- non-finite weights ------------------------------------------------------------------------------------------ */

typedef struct bad_weight {
    dc_dtype type;
    uint64_t bits;
    int64_t at;
    const char *shown;
} bad_weight;

/* out x 10 weights of this type at an odd address, all 1 but for number b->at. */
static void check_bad(const bad_weight *b, int out, dc_device *d)
{
    static const uint64_t one[DC_DTYPES] = {[DC_F32] = 0x3f800000, [DC_F16] = 0x3c00,   [DC_BF16] = 0x3f80, [DC_F64] = 0x3ff0000000000000,
                                            [DC_F8_E4M3] = 0x38,   [DC_F8_E5M2] = 0x3c, [DC_I8] = 1};
    const size_t size = dc_dtype_size(b->type), n = (size_t)out * 10;
    uint8_t *data = malloc(n * size + 1);
    char expected[200];
    dc_error e = {0};
    for (size_t i = 0; i < n; i++) memcpy(data + 1 + i * size, (int64_t)i == b->at ? &b->bits : &one[b->type], size); /* little-endian */
    dc_params *p = dc_params_new(d, "test");
    dc_params_add(p, &(dc_param_desc){.name = "m.safetensors: down.to_q",
                                      .kind = DC_PARAM_LINEAR,
                                      .out = out,
                                      .in = 10,
                                      .kh = 1,
                                      .kw = 1,
                                      .n_weight = 1,
                                      .weight = {{data + 1, b->type, out}}});
    const dc_status s = dc_params_prepare(p, NULL, NULL, &e);
    assert_int_equal(s, b->shown ? DC_DATA : DC_OK);
    assert_int_equal(dc_params_ready(p), !b->shown);
    if (b->shown) {
        snprintf(expected, sizeof expected, "m.safetensors: down.to_q.weight: found a non-finite value at index %d (%s), expected finite weights",
                 (int)b->at, b->shown);
        const char *sign = strstr(e.text, "(-nan"); /* the sign of a NaN is nobody's business */
        if (sign) memmove((char *)sign + 1, sign + 2, strlen(sign + 1));
        assert_string_equal(e.text, expected);
        assert_true(e.hint[0]);
    }
    dc_params_free(p);
    free(data);
}

static void test_non_finite(void **state)
{
    (void)state;
    static const bad_weight kinds[] = {
        {DC_F32, 0x7fc00000, 0, "nan"},
        {DC_F32, 0x7f800001, 0, "nan"},
        {DC_F32, 0x7f800000, 0, "inf"},
        {DC_F32, 0xff800000, 0, "-inf"},
        {DC_F32, 0x7f7fffff, 0, NULL},
        {DC_F32, 0x00000001, 0, NULL},
        {DC_F16, 0x7e00, 0, "nan"},
        {DC_F16, 0xfc00, 0, "-inf"},
        {DC_F16, 0x7bff, 0, NULL},
        {DC_BF16, 0x7f81, 0, "nan"},
        {DC_BF16, 0x7f80, 0, "inf"},
        {DC_BF16, 0x7f7f, 0, NULL},
        {DC_F64, 0x7ff8000000000000, 0, "nan"},
        {DC_F64, 0xfff0000000000000, 0, "-inf"},
        {DC_F64, 0x47f0000000000000, 0, "inf"}, /* 2^128: too large for a float */
        {DC_F64, 0x47efffffe0000000, 0, NULL},
        {DC_F8_E4M3, 0x7f, 0, "nan"},
        {DC_F8_E4M3, 0xff, 0, "nan"},
        {DC_F8_E4M3, 0x7e, 0, NULL},
        {DC_F8_E5M2, 0x7c, 0, "inf"},
        {DC_F8_E5M2, 0x7d, 0, "nan"},
        {DC_F8_E5M2, 0x7b, 0, NULL},
        {DC_I8, 0xff, 0, NULL},
    };
    static const int64_t places[] = {0, 1, 9, 255, 256, 257, 511, 2047, 2048, 2999, 3000 - 10};
    dc_device *d = open_device("cpu");
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            bad_weight b = kinds[k];
            b.at = places[i];
            check_bad(&b, 300, d);
            if (b.at < 30) check_bad(&b, 3, d); /* shorter than a block */
        }
    dc_device_close(d);
}

static void test_non_finite_part(void **state)
{
    (void)state;
    float good[20] = {0}, bad[20] = {[13] = NAN};
    dc_device *d = open_device("ref");
    dc_error e = {0};
    dc_params *p = dc_params_new(d, "test");
    dc_params_add(p, &(dc_param_desc){.name = "F: qkv",
                                      .kind = DC_PARAM_LINEAR,
                                      .out = 6,
                                      .in = 10,
                                      .kh = 1,
                                      .kw = 1,
                                      .n_weight = 3,
                                      .weight = {{good, DC_F32, 2}, {bad, DC_F32, 2}, {good, DC_F32, 2}}});
    assert_int_equal(dc_params_prepare(p, NULL, NULL, &e), DC_DATA);
    assert_non_null(strstr(e.text, "F: qkv.weight (part 2 of 3): found a non-finite value at index 13"));
    dc_params_free(p);
    e = (dc_error){0};
    p = dc_params_new(d, "test");
    dc_params_add(p, &(dc_param_desc){.name = "F: norm",
                                      .kind = DC_PARAM_NORM,
                                      .out = 20,
                                      .in = 1,
                                      .kh = 1,
                                      .kw = 1,
                                      .n_weight = 1,
                                      .n_bias = 1,
                                      .weight = {{good, DC_F32, 20}},
                                      .bias = {{bad, DC_F32, 20}}});
    assert_int_equal(dc_params_prepare(p, NULL, NULL, &e), DC_DATA);
    assert_non_null(strstr(e.text, "F: norm.bias: found a non-finite value at index 13"));
    dc_params_free(p);
    dc_device_close(d);
}

/* ---- a set's life ------------------------------------------------------------------------------------------------------ */

typedef struct life {
    dc_param *k;
    float *x, *y;
} life;
static void multiply(void *ctx, dc_run *r)
{
    life *l = ctx;
    dc_download(r, dc_linear(r, dc_upload(r, DC_F32, 2, DIMS(7, 40), l->x), l->k, (dc_linear_opt){0}), l->y);
}

typedef struct progress {
    int calls;
    uint64_t done, total;
    atomic_int *cancel;
} progress;
static void on_progress(void *user, uint64_t done, uint64_t total)
{
    progress *p = user;
    assert_true(done >= p->done && done <= total);
    p->calls++;
    p->done = done;
    p->total = total;
    if (p->cancel) atomic_store(p->cancel, 1);
}

static dc_param *add(dc_params *p, int out, int in, const float *data)
{
    return dc_params_add(p, &(dc_param_desc){.name = "k",
                                             .kind = DC_PARAM_LINEAR,
                                             .out = out,
                                             .in = in,
                                             .kh = 1,
                                             .kw = 1,
                                             .n_weight = 1,
                                             .n_bias = 1,
                                             .weight = {{data, DC_F32, out}},
                                             .bias = {{data, DC_F32, out}}});
}

static void test_life(void **state)
{
    (void)state;
    float *data = random_floats(60 * 40, 1, 0, 1), *x = random_floats(7 * 40, 1, 0, 2), first[7 * 60], y[7 * 60];
    dc_device *d = open_device("cpu");
    dc_params *p = dc_params_new(d, "test");
    progress done = {0};
    life l = {.x = x, .y = first};
    dc_params_free(NULL);
    l.k = add(p, 60, 40, data);
    add(p, 5, 7, data);
    assert_false(dc_params_ready(p));
    assert_int_equal(dc_params_count(p), 60 * 40 + 60 + 5 * 7 + 5);
    assert_int_equal(dc_param_out(l.k), 60);
    assert_int_equal(dc_param_in(l.k), 40);
    const uint64_t bytes = dc_params_bytes(p);
    assert_true(bytes >= 4 * dc_params_count(p));
    const void *form = NULL;
    for (int round = 0; round < 3; round++) {
        done = (progress){0};
        assert_int_equal(dc_params_prepare(p, on_progress, &done, NULL), DC_OK);
        assert_true(dc_params_ready(p));
        if (round == 2) assert_ptr_equal(l.k->form, form); /* not made twice */
        form = l.k->form;
        if (round < 2) assert_true(done.calls == 2 && done.done == bytes && done.total == bytes && dc_params_bytes(p) == bytes);
        assert_int_equal(run_once(d, multiply, &l), DC_OK);
        if (round) assert_memory_equal(first, y, sizeof y);
        l.y = y;
        if (round == 0) dc_params_drop(p);
        if (round == 1) { /* one more, while the others are prepared */
            add(p, 1, 1, data);
            assert_false(dc_params_ready(p));
            assert_true(dc_params_bytes(p) > bytes);
        }
    }
    dc_params_free(p);
    dc_device_close(d);
    free(data), free(x);
}

static void test_cancel(void **state)
{
    (void)state;
    float data[400] = {0};
    atomic_int cancel = 0;
    progress done = {.cancel = &cancel};
    dc_error e = {0};
    dc_device *d = cpu_open("portable", 2, &cancel);
    dc_params *p = dc_params_new(d, "test");
    for (int i = 0; i < 5; i++) add(p, 20, 20, data);
    assert_int_equal(dc_params_prepare(p, on_progress, &done, &e), DC_CANCELLED);
    assert_int_equal(done.calls, 1);
    assert_false(dc_params_ready(p));
    cancel = 0;
    done.cancel = NULL;
    done.done = 0;
    assert_int_equal(dc_params_prepare(p, on_progress, &done, NULL), DC_OK);
    dc_params_free(p);
    dc_device_close(d);
}

/* ---- numbers as files store them -------------------------------------------------------------------------------------- */

static void test_sources(void **state)
{
    (void)state;
    static const struct {
        dc_dtype type;
        uint64_t bits;
        float value;
    } values[] = {
        {DC_F32, 0x40490fdb, 3.14159274f},
        {DC_F16, 0x3555, 0.333251953125f},
        {DC_F16, 0x8001, -0x1p-24f},
        {DC_F16, 0x7bff, 65504},
        {DC_BF16, 0xc0a0, -5},
        {DC_F64, 0xbfe0000000000000, -0.5f},
        {DC_F64, 0x3ff0000010000000, 1},
        {DC_F64, 0x3ff0000010000001, 1.00000012f},
        {DC_F8_E4M3, 0x7e, 448},
        {DC_F8_E4M3, 0x01, 0x1p-9f},
        {DC_F8_E4M3, 0xb8, -1},
        {DC_F8_E5M2, 0x7b, 57344},
        {DC_F8_E5M2, 0x01, 0x1p-16f},
        {DC_I64, (uint64_t)-7, -7},
        {DC_I32, (uint64_t)-7, -7},
        {DC_I16, (uint64_t)-300, -300},
        {DC_I8, (uint64_t)-128, -128},
        {DC_U8, 200, 200},
        {DC_BOOL, 1, 1},
        {DC_BOOL, 0, 0},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        uint8_t at[3 * 8 + 1] = {0};
        float three[3];
        const size_t size = dc_dtype_size(values[i].type);
        memcpy(at + 1 + size, &values[i].bits, size); /* the second of three, unaligned */
        const dc_source s = {at + 1, values[i].type, 3, 0};
        dc_source_floats(&s, 0, 3, three);
        if (three[0] != 0 || three[1] != values[i].value || three[2] != 0 || dc_source_value(&s, 1) != values[i].value)
            fail_msg("%s %llx: found %.9g, expected %.9g", dc_dtype_name(values[i].type), (unsigned long long)values[i].bits, three[1],
                     values[i].value);
    }
}

/* ---- devices and views --------------------------------------------------------------------------------------------------- */

static void test_devices(void **state)
{
    (void)state;
    static const struct {
        const char *name, *level;
        dc_status status;
        const char *text;
    } wrong[] = {
        {"tpu", NULL, DC_USAGE, "device: found tpu, expected auto, cpu or cuda"},
        {"cpu", "mmx", DC_USAGE, "found mmx, expected auto, portable, avx2, avx512"},
        {"cuda", NULL, DC_UNAVAILABLE, "device cuda"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        dc_error e = {0};
        dc_device *d = (dc_device *)&e;
        assert_int_equal(dc_device_open(&d, &(dc_device_options){.name = wrong[i].name, .cpu_level = wrong[i].level}, &e), wrong[i].status);
        assert_null(d);
        assert_non_null(strstr(e.text, wrong[i].text));
    }
    dc_device *d = NULL;
    assert_int_equal(dc_device_open(&d, &(dc_device_options){.name = "auto", .threads = 2, .cpu_level = "portable"}, NULL), DC_OK);
    assert_string_equal(dc_device_name(d), "cpu");
    assert_string_equal(dc_device_summary(d), "cpu portable, 2 threads, f32");
    dc_device_close(d);
    dc_device_close(NULL);
}

static void test_views(void **state)
{
    (void)state;
    float data[2 * 3 * 4 * 5];
    const dc_tensor x = {.data = data, .dim = {2, 3, 4, 5}, .stride = 5, .id = 9, .rank = 4};
    dc_tensor t = dc_view_tokens(x);
    assert_true(t.rank == 3 && t.dim[0] == 2 && t.dim[1] == 12 && t.dim[2] == 5 && t.data == data && t.id == 9);
    t = dc_view_image(t, 3, 4);
    assert_true(t.rank == 4 && t.dim[1] == 3 && t.dim[2] == 4 && t.dim[3] == 5 && dc_numel(t) == 120 && dc_rows(t) == 24);
    t = dc_view_channels(x, 2, 3);
    assert_true(t.data == data + 2 && t.dim[3] == 3 && t.stride == 5 && dc_rows(t) == 24 && dc_channels(t) == 3);
    t = dc_view_batch(dc_view_tokens(t), 1, 1);
    assert_true(t.data == data + 2 + 60 && t.dim[0] == 1 && t.dim[1] == 12 && t.stride == 5);
    t = dc_view_flat(x);
    assert_true(t.rank == 2 && t.dim[0] == 2 && t.dim[1] == 60 && t.stride == 60);
    t = dc_view_batch(dc_view_flat(x), 1, 1);
    assert_true(t.data == data + 60 && t.dim[1] == 60);
    const dc_tensor v = {.data = data, .dim = {7}, .stride = 7, .id = 9, .rank = 1};
    t = dc_view_batch(v, 3, 2);
    assert_true(t.data == data + 3 && t.dim[0] == 2 && t.stride == 2);
    assert_int_equal(dc_borrow(x).id, -1);
    assert_true(dc_is_none(dc_view_tokens(DC_NONE)) && dc_is_none(dc_view_channels(DC_NONE, 0, 1)) && dc_is_none(dc_view_batch(DC_NONE, 0, 1)) &&
                dc_is_none(dc_view_flat(DC_NONE)) && dc_numel(DC_NONE) == 0 && dc_rows(DC_NONE) == 0 && dc_channels(DC_NONE) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_non_finite), cmocka_unit_test(test_non_finite_part), cmocka_unit_test(test_life),  cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_sources),    cmocka_unit_test(test_devices),         cmocka_unit_test(test_views),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
