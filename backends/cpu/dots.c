/* dots.c - inner products of many rows with some queries, split by rows. */
#include "backends/cpu/cpu.h"
#include "base/checked.h"
#include <stdlib.h>

typedef struct dots_job {
    const dc_dots_args *a;
    cpu_dots_fn *dots;
    float *room; /* [threads][DOTS_ROWS][width] */
} dots_job;

/* Whole tiles of every level; many enough tasks for all threads, and each of some hundred kilobytes. */
enum { CHUNK = 256 };

static void dots_task(void *ctx, int64_t i, int thread)
{
    const dots_job *j = ctx;
    const dc_dots_args *a = j->a;
    const int64_t at = i * CHUNK, n = a->n - at < CHUNK ? a->n - at : CHUNK;
    j->dots(a->rows + at * a->width, n, a->query, a->queries, a->width, a->y + at, a->stride,
            j->room ? j->room + (size_t)thread * DOTS_ROWS * (size_t)a->width : NULL);
}

dc_status cpu_dots(dc_device *d, const dc_dots_args *a)
{
    cpu_device *c = cpu_of(d);
    dots_job j = {a, c->dots, NULL};
    if (a->queries > 1) {
        j.room = dc_calloc((size_t)c->threads * DOTS_ROWS * (size_t)a->width, sizeof(float));
        if (!j.room) return DC_NO_MEMORY;
    }
    dc_status s = cpu_for(d, cpu_pieces(a->n, CHUNK), dots_task, &j);
    free(j.room);
    return s;
}
