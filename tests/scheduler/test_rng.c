/* Random numbers against torch (CPU) and the Philox definition (CUDA order). Golden: tests/gen/scheduler.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/npy.h"
#include "scheduler/rng.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TEST_DATA "/golden/scheduler/"

static void numbers_match_torch(void **state)
{
    (void)state;
    dc_error e = {0};
    json_t *all = NULL, *entry;
    size_t i;
    if (dc_json_read(&all, GOLDEN "rng.json", 1u << 20, &e)) fail_msg("%s", e.text);
    assert_true(json_array_size(all) > 8);
    json_array_foreach(all, i, entry)
    {
        char path[512];
        dc_npy want;
        dc_rng g;
        bool cpu = !strncmp(json_string_value(json_object_get(entry, "rng")), "cpu", 3);
        int calls = json_object_get(entry, "calls") ? (int)json_integer_value(json_object_get(entry, "calls")) : 1;
        snprintf(path, sizeof path, GOLDEN "%s", json_string_value(json_object_get(entry, "file")));
        if (dc_npy_read(&want, path, &e)) fail_msg("%s", e.text);
        size_t n = want.bytes / sizeof(float) / (size_t)calls;
        float *got = malloc(want.bytes);
        dc_rng_seed(&g, cpu ? DC_RNG_CPU : DC_RNG_CUDA, (uint64_t)json_integer_value(json_object_get(entry, "seed")));
        for (int k = 0; k < calls; k++) dc_rng_normal(&g, got + (size_t)k * n, n);
        /* below 16 numbers everything is double: exact. Above, torch uses its own vector log and sin: 3 ulp of values up to 4. */
        double allowed = cpu && n < 16 ? 0 : cpu ? 5e-7 : 1.6e-6;
        for (size_t k = 0; k < n * (size_t)calls; k++)
            if (!(fabs(got[k] - ((float *)want.data)[k]) <= allowed))
                fail_msg("%s: value %zu: %.9g, want %.9g", path, k, got[k], ((float *)want.data)[k]);
        free(got);
        free(want.data);
    }
    json_decref(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(numbers_match_torch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
