/* knn.c - the rows most like some queries. Scores are made block by block, by all threads; one thread keeps what may be among the best. */
#include "search/knn.h"
#include "base/checked.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES (1 << 20) /* of scores, so that they are still in the cache when they are looked at */

/* What is known of one query on the way. */
typedef struct best {
    dc_hits *out;
    float bound, margin; /* scores below are not wanted */
    int64_t top, full;   /* full: so many hits, and it is time to raise the bound */
    double sum, square;
} best;

static int by_score(const void *a, const void *b)
{
    const dc_hit *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return (x->row > y->row) - (x->row < y->row);
}

/* Drops what is below the score of the last one wanted; ties stay. */
static void raise_bound(best *b)
{
    dc_hits *h = b->out;
    if (b->top && h->n > b->top) {
        qsort(h->hit, (size_t)h->n, sizeof *h->hit, by_score);
        const float bound = h->hit[b->top - 1].score - b->margin;
        if (bound > b->bound) b->bound = bound;
        while (h->hit[h->n - 1].score < b->bound) h->n--;
    }
    b->full = 2 * (int64_t)h->n + 4096;
}

enum { STRIDE = 16 }; /* a constant, so that the comparisons become vectors */

static bool none_reaches(const float *score, float bound)
{
    int reach = 0;
    for (int i = 0; i < STRIDE; i++) reach |= score[i] >= bound;
    return !reach;
}

static dc_status look(best *b, const dc_knn *k, const float *score, int64_t first, int64_t n, dc_error *e)
{
    dc_hits *h = b->out;
    for (int64_t i = 0; i < n; i++) {
        if (!k->statistics && i + STRIDE <= n && none_reaches(score + i, b->bound)) { /* nearly all of them */
            i += STRIDE - 1;
            continue;
        }
        const float s = score[i];
        const int64_t row = first + i;
        if (!k->statistics && !(s >= b->bound)) continue;
        if (!isfinite(s) || (k->dead && k->dead[row >> 3] >> (row & 7) & 1)) continue;
        b->sum += s;
        b->square += (double)s * s;
        h->live++;
        if (s < b->bound) continue;
        if (!dc_grow((void **)&h->hit, &h->room, h->n, sizeof *h->hit)) return dc_fail_memory(e, "results", sizeof *h->hit * (size_t)h->n);
        h->hit[h->n++] = (dc_hit){s, row};
        if (h->n >= b->full) raise_bound(b);
    }
    return DC_OK;
}

static dc_status run(const dc_knn *k, best *b, float *score, int64_t block, dc_error *e)
{
    for (int64_t at = 0; at < k->n; at += block) {
        const int64_t n = k->n - at < block ? k->n - at : block;
        const dc_dots_args a = {k->rows + at * k->width, n, k->query, k->queries, k->width, score, block};
        dc_status s = dc_dots(k->device, &a, e);
        for (int q = 0; q < k->queries && !s; q++) s = look(&b[q], k, score + q * block, at, n, e);
        if (s) return s;
    }
    return DC_OK;
}

dc_status dc_knn_run(const dc_knn *k, dc_hits *out, dc_error *e)
{
    memset(out, 0, sizeof *out * (size_t)k->queries);
    int64_t block = BLOCK_BYTES / 4 / (k->queries > 0 ? k->queries : 1) / 256 * 256;
    if (block < 1024) block = 1024;
    float *score = dc_calloc((size_t)block * (size_t)k->queries, sizeof *score);
    best *b = dc_calloc((size_t)k->queries, sizeof *b);
    dc_status s = score && b ? DC_OK : dc_fail_memory(e, "scores", sizeof *score * (uint64_t)block * (unsigned)k->queries);
    for (int q = 0; q < k->queries && !s; q++) {
        b[q] =
            (best){.out = &out[q], .top = k->top, .bound = (float)(k->threshold - k->margin), .margin = (float)k->margin, .full = 2 * k->top + 4096};
    }
    if (!s) s = run(k, b, score, block, e);
    for (int q = 0; q < k->queries && !s; q++) {
        dc_hits *h = &out[q];
        raise_bound(&b[q]);
        if (h->n) qsort(h->hit, (size_t)h->n, sizeof *h->hit, by_score);
        h->mean = h->live ? b[q].sum / (double)h->live : 0;
        const double variance = h->live ? b[q].square / (double)h->live - h->mean * h->mean : 0;
        h->deviation = variance > 0 ? sqrt(variance) : 0;
    }
    for (int q = 0; q < k->queries && s; q++) {
        free(out[q].hit);
        out[q] = (dc_hits){0};
    }
    free(score);
    free(b);
    return s;
}
