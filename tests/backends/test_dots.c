/* Rows of half precision beside queries: against double at every level, the same bytes whatever is asked together, odd numbers of rows. */
#include "base/half.h"
#include "cpu_cases.h"

enum { WIDTH = 96, ROWS = 523, QUERIES = 11 };

static void near_double(void **state)
{
    (void)state;
    float *x = random_floats(ROWS * WIDTH, 1, 0, 1), *q = random_floats(QUERIES * WIDTH, 1, 0, 2);
    uint16_t *rows = malloc(ROWS * WIDTH * sizeof *rows);
    float *y = malloc(sizeof(float) * QUERIES * (ROWS + 1)), *alone = malloc(sizeof(float) * ROWS);
    assert_true(rows && y && alone);
    for (int i = 0; i < ROWS * WIDTH; i++) rows[i] = dc_f32_to_f16(i % 97 ? x[i] : x[i] * 1e-6f); /* some subnormal */
    for (size_t l = 0; l <= sizeof cpu_levels / sizeof *cpu_levels; l++) {
        const bool ref = l == sizeof cpu_levels / sizeof *cpu_levels;
        dc_device *d = NULL;
        if (ref) assert_int_equal(dc_device_open(&d, &(dc_device_options){.name = "ref"}, NULL), DC_OK);
        else d = cpu_open_with(&(dc_device_options){.name = "cpu", .threads = 3, .cpu_level = cpu_levels[l]});
        if (!d) continue;
        for (int i = 0; i < QUERIES * (ROWS + 1); i++) y[i] = NAN;
        dc_dots_args a = {rows, ROWS, q, QUERIES, WIDTH, y, ROWS + 1};
        assert_int_equal(dc_dots(d, &a, NULL), DC_OK);
        for (int k = 0; k < QUERIES; k++) {
            assert_true(isnan(y[k * (ROWS + 1) + ROWS])); /* nothing behind the rows */
            for (int r = 0; r < ROWS; r++) {
                double sum = 0, size = 0;
                for (int i = 0; i < WIDTH; i++) {
                    const double v = (double)dc_f16_to_f32(rows[r * WIDTH + i]) * q[k * WIDTH + i];
                    sum += v;
                    size += fabs(v);
                }
                /* WIDTH roundings at most, each of 2^-24 of what is summed so far; measured 3e-8 of `size` */
                assert_true(fabs(y[k * (ROWS + 1) + r] - sum) <= 2e-7 * size);
            }
            a = (dc_dots_args){rows + 5 * WIDTH, ROWS - 5, q + k * WIDTH, 1, WIDTH, alone, ROWS};
            assert_int_equal(dc_dots(d, &a, NULL), DC_OK);
            assert_memory_equal(alone, y + k * (ROWS + 1) + 5, sizeof(float) * (ROWS - 5));
        }
        dc_device_close(d);
    }
    free(x), free(q), free(rows), free(y), free(alone);
}

static void what_is_refused(void **state)
{
    (void)state;
    dc_device *d = cpu_open_with(&(dc_device_options){.name = "cpu", .threads = 1, .cpu_level = "portable"});
    const uint16_t row[32] = {0};
    const float query[32] = {0};
    float y = 5;
    assert_int_equal(dc_dots(d, &(dc_dots_args){row, 1, query, 1, 31, &y, 1}, NULL), DC_INTERNAL);
    assert_int_equal(dc_dots(d, &(dc_dots_args){row, 1, query, 1, DC_DOTS_WIDTH + 32, &y, 1}, NULL), DC_INTERNAL);
    assert_int_equal(dc_dots(d, &(dc_dots_args){NULL, 0, query, 1, 32, &y, 1}, NULL), DC_OK);
    assert_true(y == 5);
    assert_int_equal(dc_dots(d, &(dc_dots_args){row, 1, query, 1, 32, &y, 1}, NULL), DC_OK);
    assert_true(y == 0);
    dc_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(near_double), cmocka_unit_test(what_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
