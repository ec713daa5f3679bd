/* test_ops_random.c - the CPU against the reference device on random shapes and options, at every instruction set; and the same bytes
 * whatever the number of threads, and once more. The reference device itself is judged by test_ops.c. And that the judgement of cases
 * notices what is wrong. */
#include "backends/cases.h"
#include "backends/run.h"
#include "cpu_cases.h"

enum { CASES = 500, LEVELS = 3, THREADS = 4 };
static const int thread_counts[THREADS] = {1, 2, 3, 7};
static const dc_case_kind often[] = {DC_CASE_CONV, DC_CASE_CONV, DC_CASE_CONV, DC_CASE_LINEAR, DC_CASE_ATTENTION, DC_CASE_ATTENTION};

static void guard(dc_run *r) { dc_run_set_guard(r, true); }

/* The result on d, into out; the same bytes when it is asked again. */
static void run_on(dc_device *d, const dc_case *c, float *out, float *again)
{
    dc_error e = {0};
    if (dc_case_run(d, c, out, again, guard, &e)) fail_msg("%s: %s", dc_device_summary(d), e.text);
}

static void test_random(void **state)
{
    (void)state;
    dc_device *ref = NULL, *cpu[LEVELS][THREADS];
    uint64_t rng = 20;
    double most = 0;
    int failed = 0;
    assert_int_equal(dc_device_open(&ref, &(dc_device_options){.name = "ref"}, NULL), DC_OK);
    for (int l = 0; l < LEVELS; l++)
        for (int t = 0; t < THREADS; t++) cpu[l][t] = cpu_open(cpu_levels[l], thread_counts[t], NULL);
    for (int i = 0; i < CASES; i++) {
        dc_case c;
        const int n_often = sizeof often / sizeof *often, kind = i % (n_often + DC_CASE_KINDS);
        dc_case_draw(&c, kind < n_often ? often[kind] : (dc_case_kind)(kind - n_often), &rng, DC_CASE_PRODUCTS);
        size_t bytes = sizeof(float) * (size_t)dc_case_count(&c);
        float *expected = malloc(bytes), *first = malloc(bytes), *other = malloc(bytes);
        char text[320];
        assert_int_equal(dc_case_make(&c, NULL), DC_OK);
        dc_case_describe(&c, text, sizeof text);
        run_on(ref, &c, expected, NULL);
        for (int l = 0; l < LEVELS; l++) {
            if (!cpu[l][0]) continue;
            run_on(cpu[l][0], &c, first, other);
            double share = dc_case_error(&c, first, expected) / dc_case_bound(&c, cpu[l][0]);
            if (!(share <= 1)) failed++, print_message("%s: %s: %.2f of the bound\n", cpu_levels[l], text, share);
            if (memcmp(first, other, bytes)) failed++, print_message("%s: %s: other bytes the second time\n", cpu_levels[l], text);
            most = fmax(most, share);
            for (int t = 1; t < THREADS; t++) {
                run_on(cpu[l][t], &c, other, NULL);
                if (memcmp(first, other, bytes))
                    failed++, print_message("%s: %s: other bytes with %d threads\n", cpu_levels[l], text, thread_counts[t]);
            }
        }
        free(expected), free(first), free(other);
        dc_case_free(&c);
    }
    print_message("%d cases, at most %.0f %% of the bound\n", CASES, 100 * most);
    for (int l = 0; l < LEVELS; l++)
        for (int t = 0; t < THREADS; t++) dc_device_close(cpu[l][t]);
    dc_device_close(ref);
    assert_int_equal(failed, 0);
}

/* By hand: numbers, and what the error is. */
static void test_error(void **state)
{
    (void)state;
    const float expected[4] = {3, -4, 0, 0}, near[4] = {3, -4, 0, 0.25f}, missing[4] = {3, -4, NAN, 0}, endless[4] = {3, -4, 0, INFINITY};
    const float nothing[2] = {NAN, INFINITY};
    assert_float_equal(dc_relative_error(expected, expected, 4, 0), 0, 0);
    assert_float_equal(dc_relative_error(near, expected, 4, 0), 0.05, 1e-12);      /* 0.25 beside 5 */
    assert_float_equal(dc_relative_error(near, expected, 4, 100), 0.00125, 1e-12); /* 0.125 beside 100 */
    assert_true(isinf(dc_relative_error(missing, expected, 4, 0)));
    assert_true(isinf(dc_relative_error(expected, missing, 4, 0)));
    assert_true(isinf(dc_relative_error(endless, expected, 4, 0)));
    assert_float_equal(dc_relative_error(nothing, nothing, 2, 0), 0, 0);

    /* one wrong number of very many: over all of them it would be little */
    enum { MANY = 1000000 };
    float *many = malloc(sizeof(float) * MANY), *other = malloc(sizeof(float) * MANY);
    for (int i = 0; i < MANY; i++) many[i] = other[i] = 1;
    other[MANY / 2] = 0;
    assert_float_equal(dc_relative_error(other, many, MANY, 0), 1.0 / 16, 1e-12);
    free(many), free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random), cmocka_unit_test(test_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
