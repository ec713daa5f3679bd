/* 100,000 files: memory does not grow with them beyond 8 bytes each, and a run that finds nothing to do takes less than 2 s. With DIFFC_LONG=1; else
 * 3,000 of them. */
#include "fake.h"
#include <sys/resource.h>
#include <time.h>

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of this process, so that others on the machine do not count. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static long peak_kb(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

static void many_files(void **state)
{
    (void)state;
    const bool longer = getenv("DIFFC_LONG") != NULL;
    const int n = longer ? 100000 : 3000, each = 1000;
    for (int i = 0; i < n; i++) {
        char name[40], text[100];
        int k = 0;
        snprintf(name, sizeof name, "%03d", i / each);
        if (i % each == 0) put_folder(name);
        for (int at = i, bit = 0; bit < 16; bit++, at >>= 1)
            for (int times = 0; times <= (at & 1); times++) text[k++] = (char)('a' + bit);
        if (i >> 16) text[k++] = 'z';
        text[k] = 0;
        snprintf(name, sizeof name, "%03d/%06d.jpg", i / each, i);
        put(name, text);
    }
    fake f = {0};
    const long before = peak_kb();
    double t = seconds_now();
    diffc_index_summary s = update(&f);
    const double first = seconds_now() - t;
    const long after = peak_kb();
    t = seconds_now();
    const double cpu = cpu_seconds();
    s = update(&f);
    const double second = seconds_now() - t, worked = cpu_seconds() - cpu;
    printf("%d files: %.1f s, then %.2f s (%.2f s of a CPU); %ld kB more\n", n, first, second, worked, after - before);
    assert_int_equal(s.unchanged, n);
#ifndef __SANITIZE_ADDRESS__             /* which keeps what was freed */
    assert_true(after - before < 40000); /* SQLite's cache, stacks of threads, a batch */
#endif
    if (longer) assert_true(worked < 2);
    expect_index((uint64_t)n, 0);
    t = seconds_now();
    assert_string_equal(found("a", 1), "000/000001.jpg");
    printf("a query: %.3f s\n", seconds_now() - t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(many_files, folder_make, folder_remove)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
