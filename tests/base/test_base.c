/* The small things everything stands on: text, numbers, JSON, .npy, threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h> /* wants those above first */

#include "base/checked.h"
#include "base/half.h"
#include "base/json.h"
#include "base/npy.h"
#include "base/parallel.h"
#include "base/status.h"
#include "base/text.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- text ---------------------------------------------------------------------------------------------------------------- */

static void messages_cannot_drive_a_terminal(void **state)
{
    (void)state;
    dc_error e = {0};
    assert_int_equal(dc_fail(&e, DC_DATA, "%s: bad", "a\x1b[2Jb\n\xff\xe2\x80\xae"), DC_DATA);
    assert_string_equal(e.text, "a\\x1b[2Jb\\x0a\\xff\\xe2\\x80\\xae: bad");
    dc_fail(&e, DC_IO, "second");
    assert_int_equal(e.code, DC_DATA); /* the first one wins */
    char small[12];
    assert_string_equal(dc_escape(small, sizeof small, "a long line"), "a long l...");
    assert_int_equal(dc_fail(NULL, DC_IO, "nobody listens"), DC_IO);
}

static void near_misses_are_found(void **state)
{
    (void)state;
    static const char *const names[] = {"euler", "euler_a", "dpm++2m", "heun", "karras", "--steps"};
    static const struct {
        const char *word, *want;
    } rows[] = {{"eulre", "euler"}, {"dpm++2n", "dpm++2m"}, {"--stepz", "--steps"}, {"kar", "karras"}, {"HEUN", "heun"}};
    char near[128];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        dc_nearest_names(near, sizeof near, rows[i].word, names, 6);
        if (strncmp(near, rows[i].want, strlen(rows[i].want)) != 0) fail_msg("%s: %s", rows[i].word, near);
    }
    dc_nearest_names(near, sizeof near, "zzzzzzz", names, 6);
    assert_string_equal(near, "");
}

static void utf8(void **state)
{
    (void)state;
    assert_true(dc_utf8_valid("caf\xc3\xa9 \xf0\x9f\x8d\x8e", 10));
    static const char *const bad[] = {"\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x9f\x8d", "\xfe"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(dc_utf8_valid(bad[i], strlen(bad[i])));
}

/* ---- numbers --------------------------------------------------------------------------------------------------------------- */

static void narrow_floats(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) { /* every half and bfloat goes there and back */
        float f = dc_f16_to_f32((uint16_t)h), b = dc_bf16_to_f32((uint16_t)h);
        if (!isnan(f)) assert_int_equal(dc_f32_to_f16(f), h);
        if (!isnan(b)) assert_int_equal(dc_f32_to_bf16(b), h);
    }
    assert_true(isnan(dc_f16_to_f32(dc_f32_to_f16(NAN))) && isnan(dc_bf16_to_f32(dc_f32_to_bf16(NAN))));
    /* IEEE 754 facts: round to nearest even, overflow, smallest numbers */
    assert_int_equal(dc_f32_to_f16(65504.0f), 0x7bff);
    assert_int_equal(dc_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(dc_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(dc_f32_to_f16(1.0f + 0x1p-11f), 0x3c00);
    assert_int_equal(dc_f32_to_f16(1.0f + 3 * 0x1p-11f), 0x3c02);
    assert_int_equal(dc_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(dc_f32_to_f16(0x1.8p-25f), 1);
    assert_int_equal(dc_f32_to_bf16(1.0f + 0x1p-8f), 0x3f80);
    /* OCP 8-bit formats: largest numbers, smallest numbers, NaN, infinity */
    assert_true(dc_f8_e4m3_to_f32(0x7e) == 448.0f && dc_f8_e4m3_to_f32(0x01) == 0x1p-9f && isnan(dc_f8_e4m3_to_f32(0x7f)) &&
                dc_f8_e4m3_to_f32(0xb8) == -1.0f);
    assert_true(dc_f8_e5m2_to_f32(0x7b) == 57344.0f && dc_f8_e5m2_to_f32(0x01) == 0x1p-16f && isinf(dc_f8_e5m2_to_f32(0x7c)) &&
                isnan(dc_f8_e5m2_to_f32(0x7e)));
}

static void checked_arithmetic(void **state)
{
    (void)state;
    uint64_t v;
    assert_true(dc_mul_u64(1ull << 32, (1ull << 32) - 1, &v) && !dc_mul_u64(1ull << 32, 1ull << 32, &v));
    assert_true(!dc_add_u64(UINT64_MAX, 1, &v) && !dc_align_u64(UINT64_MAX - 3, 64, &v) && dc_align_u64(65, 64, &v) && v == 128);
    assert_true(dc_in_range(3, 5, 8) && !dc_in_range(4, 5, 8) && !dc_in_range(UINT64_MAX, 2, 8) && dc_in_range(8, 0, 8));
    assert_null(dc_calloc(SIZE_MAX / 4, 8));
}

/* ---- JSON -------------------------------------------------------------------------------------------------------------------- */

static void json_is_strict(void **state)
{
    (void)state;
    char deep[200];
    memset(deep, '[', 65);
    memset(deep + 65, ']', 65);
    deep[130] = 0;
    const char *const bad[] = {"{\"a\":1,\"a\":2}", "{\"a\":1} x", "{\"a\":\"\\ud800\"}", "{'a':1}", "", "[1,]", "{\"a\":NaN}", deep};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        dc_error e = {0};
        json_t *root = NULL;
        if (dc_json_parse(&root, "x", bad[i], strlen(bad[i]), &e) != DC_DATA) fail_msg("taken: %s", bad[i]);
        assert_null(root);
    }
    dc_error e = {0};
    json_t *root = NULL;
    assert_int_equal(dc_json_parse(&root, "x", deep + 1, 128, &e), DC_OK); /* 64 levels */
    json_decref(root);
}

static void config_values_are_checked(void **state)
{
    (void)state;
    dc_error e = {0};
    json_t *root = NULL;
    const char *text = "{\"n\": 5, \"r\": 1.5, \"b\": true, \"s\": \"x\", \"list\": [1, 2, 3], \"null\": null}";
    int list[4];
    assert_int_equal(dc_json_parse(&root, "c.json", text, strlen(text), &e), DC_OK);
    dc_config c = {root, "c.json", &e};
    assert_int_equal(dc_config_int(&c, "n", 0, 1, 10), 5);
    assert_int_equal(dc_config_int(&c, "null", 7, 1, 10), 7);
    assert_true(dc_config_real(&c, "r", 0, 0, 2) == 1.5 && dc_config_bool(&c, "b", false));
    assert_int_equal(dc_config_ints(&c, "list", list, 4, 0, 9), 3);
    assert_int_equal(dc_config_ints(&c, "n", list, 4, 0, 9), 1);
    assert_int_equal(list[3], 5);
    assert_int_equal(e.code, DC_OK);
    dc_config_int(&c, "n", 0, 6, 10);
    assert_string_equal(e.text, "c.json: n: found 5, expected 6 to 10");
    assert_int_equal(dc_config_int(&c, "n", 3, 1, 10), 3); /* after an error: defaults */
    e = (dc_error){0};
    dc_config_int(&c, "r", 0, 1, 10);
    assert_int_equal(e.code, DC_DATA);
    json_decref(root);
}

/* ---- .npy ---------------------------------------------------------------------------------------------------------------------- */

/* Files written by numpy 1.26.4. */
static void npy_files(void **state)
{
    (void)state;
    static const char *const good[] = {"f4_c", "f4_1d", "f4_scalar", "f4_empty", "f4_v2", "f4_v3", "f8_c", "f2_c", "i4", "b1"};
    static const char *const bad[] = {"bad_empty",          "bad_huge_shape",       "bad_magic",    "bad_negative_shape", "bad_object",
                                      "bad_truncated_data", "bad_truncated_header", "bad_version9", "f4_bigendian",       "f4_fortran"};
    char path[512];
    dc_npy n;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        dc_error e = {0};
        snprintf(path, sizeof path, TEST_DATA "/golden/base/%s.npy", good[i]);
        if (dc_npy_read(&n, path, &e)) fail_msg("%s", e.text);
        free(n.data);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        dc_error e = {0};
        snprintf(path, sizeof path, TEST_DATA "/golden/base/%s.npy", bad[i]);
        if (dc_npy_read(&n, path, &e) != DC_DATA) fail_msg("taken: %s", path);
        assert_true(strlen(e.text) > 10);
    }
    dc_error e = {0};
    snprintf(path, sizeof path, TEST_DATA "/golden/base/f4_c.npy");
    assert_int_equal(dc_npy_read(&n, path, &e), DC_OK);
    assert_true(n.rank == 3 && n.dim[0] == 3 && n.dim[1] == 4 && n.dim[2] == 2 && !strcmp(n.kind, "f4"));
    assert_true(((float *)n.data)[0] == -0.8019314408302307f && ((float *)n.data)[1] == -1.3243589401245117f);
    free(n.data);
}

static void npy_round_trip(void **state)
{
    (void)state;
    char path[] = "/tmp/diffc-test-XXXXXX";
    float data[6] = {1, -2, 3.5f, 0, 1e30f, -1e-30f};
    dc_error e = {0};
    dc_npy n;
    close(mkstemp(path));
    assert_int_equal(dc_npy_write_f32(path, data, 2, (int64_t[]){2, 3}, &e), DC_OK);
    assert_int_equal(dc_npy_read(&n, path, &e), DC_OK);
    assert_true(n.rank == 2 && n.dim[0] == 2 && n.dim[1] == 3);
    assert_memory_equal(n.data, data, sizeof data);
    free(n.data);
    unlink(path);
}

/* ---- threads ---------------------------------------------------------------------------------------------------------------------- */

typedef struct counting {
    int threads;
    atomic_int bad, count[1000];
    atomic_int *cancel;
} counting;

static void count(void *ctx, int64_t i, int thread)
{
    counting *c = ctx;
    if (thread < 0 || thread >= c->threads) atomic_fetch_add(&c->bad, 1);
    atomic_fetch_add(&c->count[i], 1);
    if (c->cancel && i == 10) atomic_store(c->cancel, 1);
}

static void every_task_runs_once(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 7};
    for (int k = 0; k < 4; k++) {
        dc_pool *p = dc_pool_new(threads[k]);
        assert_int_equal(dc_pool_threads(p), threads[k]);
        for (int round = 0; round < 200; round++) {
            static counting c;
            memset(&c, 0, sizeof c);
            c.threads = threads[k];
            int n = round % 5 == 0 ? 1000 : round % 7;
            dc_parallel_for(p, n, count, &c, NULL);
            for (int i = 0; i < 1000; i++) assert_int_equal(atomic_load(&c.count[i]), i < n);
            assert_int_equal(atomic_load(&c.bad), 0);
        }
        dc_pool_free(p);
    }
    assert_true(dc_cpu_count() >= 1);
}

static void cancelling_skips_the_rest(void **state)
{
    (void)state;
    static counting c;
    atomic_int cancel = 0;
    dc_pool *p = dc_pool_new(2);
    c.threads = 2;
    c.cancel = &cancel;
    dc_parallel_for(p, 1000, count, &c, &cancel);
    int ran = 0;
    for (int i = 0; i < 1000; i++) ran += atomic_load(&c.count[i]);
    assert_true(ran >= 11 && ran < 1000);
    dc_pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(messages_cannot_drive_a_terminal),
                                       cmocka_unit_test(near_misses_are_found),
                                       cmocka_unit_test(utf8),
                                       cmocka_unit_test(narrow_floats),
                                       cmocka_unit_test(checked_arithmetic),
                                       cmocka_unit_test(json_is_strict),
                                       cmocka_unit_test(config_values_are_checked),
                                       cmocka_unit_test(npy_files),
                                       cmocka_unit_test(npy_round_trip),
                                       cmocka_unit_test(every_task_runs_once),
                                       cmocka_unit_test(cancelling_skips_the_rest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
