/* bench_knn.c - exact search over an index, beside a plain read of the same bytes by as many threads.
 *
 *     ninja bench_knn && ./bench_knn [threads [rows [width]]]
 *
 * Rows are mapped in small pages, as a file in the page cache is. Prints one line of JSON: seconds of one query and of 32, GB/s, and the medians of
 * the parts of the read's rate taken before and after each (reading, query, reading, ...). */
#include "base/half.h"
#include "base/parallel.h"
#include "base/clock.h"
#include "search/knn.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROUNDS = 15, MANY = 32, TOP = 10 };

static void fail(const char *what)
{
    fprintf(stderr, "bench_knn: %s\n", what);
    exit(1);
}

static uint64_t state = 1;
static uint32_t bits(void)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(state >> 32);
}

typedef struct reading {
    const uint64_t *word;
    size_t each; /* words of a task */
    uint64_t sum[64];
} reading;

static void read_share(void *ctx, int64_t i, int thread)
{
    reading *r = ctx;
    const uint64_t *w = r->word + (size_t)i * r->each;
    uint64_t s = 0;
    for (size_t k = 0; k < r->each; k++) s += w[k];
    r->sum[thread] += s; /* so that the reading is not left out */
}

enum { SHARES = 256 };

/* GB/s. */
static double read_rate(dc_pool *p, reading *r)
{
    const double start = dc_seconds();
    dc_parallel_for(p, SHARES, read_share, r, NULL);
    return (double)r->each * SHARES * 8 / (dc_seconds() - start) * 1e-9;
}

static double search_seconds(const dc_knn *k)
{
    dc_hits hits[MANY];
    dc_error e = {0};
    const double start = dc_seconds();
    if (dc_knn_run(k, hits, &e)) fail(e.text);
    const double s = dc_seconds() - start;
    for (int q = 0; q < k->queries; q++) {
        if (hits[q].n < TOP) fail("fewer hits than asked for");
        free(hits[q].hit);
    }
    return s;
}

static int ascending(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

static double median(double *v)
{
    qsort(v, ROUNDS, sizeof *v, ascending);
    return v[ROUNDS / 2];
}

int main(int argc, char **argv)
{
    const int threads = argc > 1 ? atoi(argv[1]) : (int)sysconf(_SC_NPROCESSORS_ONLN), width = argc > 3 ? atoi(argv[3]) : 512;
    const int64_t rows = argc > 2 ? atoll(argv[2]) : 1000000;
    if (threads < 1 || threads > 64 || rows < 1024 || width < 32 || width % 32) fail("expected 1 to 64 threads, 1024 rows or more, a multiple of 32");
    const size_t bytes = (size_t)rows * (size_t)width * 2;
    const int file = memfd_create("rows", 0);
    uint16_t *row = file < 0 || ftruncate(file, (off_t)bytes) ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    float *query = malloc(sizeof *query * MANY * (size_t)width);
    if (row == MAP_FAILED || !query) fail("no memory");
    for (size_t i = 0; i < bytes / 2; i++) row[i] = (uint16_t)((bits() & 0x83ff) | 0x2800); /* 0.03 to 0.06, of both signs */
    for (int i = 0; i < MANY * width; i++) query[i] = dc_f16_to_f32(row[i]);

    dc_error e = {0};
    dc_device *d = NULL;
    dc_pool *pool = dc_pool_new(threads);
    if (!pool || dc_device_open(&d, &(dc_device_options){.name = "cpu", .threads = threads}, &e)) fail(pool ? e.text : "no threads");
    reading r = {.word = (const uint64_t *)row, .each = bytes / 8 / SHARES};
    dc_knn one = {.device = d, .rows = row, .n = rows, .width = width, .query = query, .queries = 1, .top = TOP, .threshold = -2}, many = one;
    many.queries = MANY;
    double seconds[2][ROUNDS], part[ROUNDS], read[ROUNDS];
    read_rate(pool, &r);
    for (int i = 0; i < ROUNDS; i++) {
        const double before = read_rate(pool, &r);
        seconds[0][i] = search_seconds(&one);
        const double after = read_rate(pool, &r);
        seconds[1][i] = search_seconds(&many);
        read[i] = (before + after) / 2;
        part[i] = (double)bytes / seconds[0][i] * 1e-9 / read[i];
    }
    printf("{\"threads\": %d, \"rows\": %lld, \"width\": %d, \"read\": %.2f, \"one\": %.4f, \"part\": %.3f, \"many\": %.4f, \"queries\": %d}\n",
           threads, (long long)rows, width, median(read), median(seconds[0]), median(part), median(seconds[1]), MANY);
    dc_device_close(d);
    dc_pool_free(pool);
    return r.sum[0] == 42;
}
