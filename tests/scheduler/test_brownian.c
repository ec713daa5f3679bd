/* Brownian noise against torchsde as k-diffusion calls it. Golden: tests/gen/noises.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/npy.h"
#include "scheduler/brownian.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TEST_DATA "/golden/scheduler/"

static double real_at(const json_t *a, size_t i) { return json_number_value(json_array_get(a, i)); }

/* One case: each picture's motion, looked at in the order given. */
static double largest_error(const json_t *entry, const float *want)
{
    const json_t *seeds = json_object_get(entry, "seed"), *range = json_object_get(entry, "range"), *asked = json_object_get(entry, "intervals");
    size_t pictures = json_array_size(seeds), all = (size_t)json_integer_value(json_object_get(entry, "n")), n = all / pictures;
    dc_rng_kind kind = strcmp(json_string_value(json_object_get(entry, "rng")), "cpu") ? DC_RNG_CUDA : DC_RNG_CPU;
    float *out = malloc(n * sizeof *out), *scratch = malloc(3 * n * sizeof *scratch);
    double worst = 0;
    for (size_t p = 0; p < pictures; p++) {
        dc_brownian b;
        uint64_t seed = strtoull(json_string_value(json_array_get(seeds, p)), NULL, 10);
        assert_true(dc_brownian_make(&b, kind, seed, real_at(range, 0), real_at(range, 1)));
        for (size_t i = 0; i < json_array_size(asked); i++) {
            dc_brownian_noise(&b, real_at(json_array_get(asked, i), 0), real_at(json_array_get(asked, i), 1), out, n, scratch);
            for (size_t k = 0; k < n; k++) worst = fmax(worst, fabs(out[k] - want[i * all + p * n + k]));
        }
    }
    free(out);
    free(scratch);
    return worst;
}

static void noises_match_torchsde(void **state)
{
    (void)state;
    dc_error e = {0};
    json_t *all = NULL, *entry;
    dc_npy want;
    size_t i;
    if (dc_json_read(&all, GOLDEN "brownian.json", 1u << 20, &e) || dc_npy_read(&want, GOLDEN "brownian.npy", &e)) fail_msg("%s", e.text);
    assert_true(json_array_size(all) > 15);
    json_array_foreach(all, i, entry)
    {
        double worst = largest_error(entry, (const float *)want.data + json_integer_value(json_object_get(entry, "at")));
        if (getenv("DIFFC_PRINT")) printf("%2zu %.3g\n", i, worst);
        if (!(worst <= 3e-6)) fail_msg("case %zu: off by %g", i, worst);
    }
    free(want.data);
    json_decref(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(noises_match_torchsde)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
