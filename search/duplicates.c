/* duplicates.c - pictures that are the same, and those that are nearly so. Every pair of rows is compared, in blocks: n^2/2 products, memory that
 * grows with n alone. */
#include "base/checked.h"
#include "search/index.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define QUERIES 96   /* rows that are held against the others at a time */
#define BLOCK   4096 /* of those others */

/* Rows linked so far: a forest, in which a root is the smallest row of its tree. */
typedef struct links {
    diffc_index *x;
    int n;
    int *up;
    float *norm; /* of rows: half precision is not exactly of length 1 */
    int *files;  /* of a row, 2: more than one */
} links;

static int root_of(links *l, int i)
{
    while (l->up[i] != i) i = l->up[i] = l->up[l->up[i]];
    return i;
}

static void join(links *l, int a, int b)
{
    a = root_of(l, a);
    b = root_of(l, b);
    if (a < b) l->up[b] = a;
    else l->up[a] = b;
}

static bool is_dead(const diffc_index *x, int64_t row) { return x->dead && x->dead[row >> 3] >> (row & 7) & 1; }

/* ---- comparing --------------------------------------------------------------------------------------------------------- */

static dc_status measure(links *l, dc_error *e)
{
    const int width = dc_store_about(l->x->store)->width;
    float *row = dc_calloc((size_t)width, sizeof *row);
    if (!row) return dc_fail_memory(e, "a vector", (unsigned)width * sizeof *row);
    for (int i = 0; i < l->n; i++) {
        double sum = 0;
        dc_widen_rows(l->x, i, 1, NULL, row);
        for (int k = 0; k < width; k++) sum += (double)row[k] * row[k];
        l->norm[i] = (float)sqrt(sum);
        l->up[i] = i;
    }
    free(row);
    return DC_OK;
}

/* Rows [first, first + n) against all behind them. */
static dc_status compare(links *l, int first, int n, double least, float *query, float *score, dc_error *e)
{
    const diffc_index *x = l->x;
    const int width = dc_store_about(x->store)->width;
    dc_widen_rows(x, first, n, NULL, query);
    for (int at = first; at < l->n; at += BLOCK) {
        const int rows = l->n - at < BLOCK ? l->n - at : BLOCK;
        const dc_dots_args a = {dc_store_rows(x->store) + (int64_t)at * width, rows, query, n, width, score, BLOCK};
        dc_status s = dc_dots(x->device, &a, e);
        if (s) return s;
        for (int q = 0; q < n; q++) {
            if (is_dead(x, first + q)) continue;
            const float *of = score + (size_t)q * BLOCK;
            const double mine = least * l->norm[first + q];
            const int from = at > first + q ? 0 : first + q + 1 - at;
            for (int r = from; r < rows; r++)
                if (of[r] >= (float)(mine * l->norm[at + r]) && !is_dead(x, at + r)) join(l, first + q, at + r);
        }
    }
    return DC_OK;
}

static dc_status compare_all(links *l, double least, bool (*on_progress)(void *user, double part), void *user, dc_error *e)
{
    const size_t width = (size_t)dc_store_about(l->x->store)->width;
    float *query = dc_calloc(QUERIES * width, sizeof *query), *score = dc_calloc((size_t)QUERIES * BLOCK, sizeof *score);
    dc_status s = query && score ? measure(l, e) : dc_fail_memory(e, "scores", sizeof *score * QUERIES * BLOCK);
    for (int at = 0; at < l->n && !s; at += QUERIES) {
        const double left = 1 - (double)at / l->n;
        if (on_progress && on_progress(user, 1 - left * left)) s = dc_fail(e, DC_CANCELLED, "stopped");
        if (!s) s = compare(l, at, l->n - at < QUERIES ? l->n - at : QUERIES, least, query, score, e);
    }
    free(query);
    free(score);
    return s ? s : dc_store_lost(l->x->store, e);
}

/* ---- groups ---------------------------------------------------------------------------------------------------------------- */

typedef struct groups {
    dc_match_list list;
    size_t *first;
    int n, room;
    float score; /* of the row under way */
} groups;

static dc_status add(void *ctx, const dc_record *r, dc_error *e)
{
    (void)e;
    groups *g = ctx;
    dc_match_add(&g->list, r, g->score);
    return DC_OK;
}

static dc_status count_file(void *ctx, const dc_record *r, dc_error *e)
{
    (void)e;
    links *l = ctx;
    if (r->row >= 0 && r->row < l->n && l->files[r->row] < 2) l->files[r->row]++;
    return DC_OK;
}

static dc_status begin_group(groups *g, dc_error *e)
{
    if (!dc_grow((void **)&g->first, &g->room, g->n + 1, sizeof *g->first)) return dc_fail_memory(e, "groups", sizeof *g->first * (unsigned)g->n);
    g->first[g->n++] = (size_t)g->list.n;
    return DC_OK;
}

/* Cosine of two rows, in double. */
static float cosine(const links *l, int a, int b, float *room)
{
    const int width = dc_store_about(l->x->store)->width;
    double sum = 0;
    dc_widen_rows(l->x, a, 1, NULL, room);
    dc_widen_rows(l->x, b, 1, NULL, room + width);
    for (int k = 0; k < width; k++) sum += (double)room[k] * room[width + k];
    return (float)(sum / ((double)l->norm[a] * l->norm[b]));
}

typedef struct member {
    int root, row;
} member;
static int by_root(const void *a, const void *b)
{
    const member *x = a, *y = b;
    return x->root != y->root ? (x->root > y->root) - (x->root < y->root) : (x->row > y->row) - (x->row < y->row);
}

/* Trees of more than one row; m: room for l->n. */
static dc_status near_groups(links *l, groups *g, member *m, float *room, dc_error *e)
{
    int n = 0;
    dc_status s = DC_OK;
    for (int i = 0; i < l->n; i++)
        if (!is_dead(l->x, i) && l->files[i]) m[n++] = (member){root_of(l, i), i};
    qsort(m, (size_t)n, sizeof *m, by_root);
    for (int i = 0, end; i < n && !s; i = end) {
        for (end = i + 1; end < n && m[end].root == m[i].root; end++) {}
        if (end == i + 1) continue;
        s = begin_group(g, e);
        for (int k = i; k < end && !s; k++) {
            g->score = k == i ? 1 : cosine(l, m[i].row, m[k].row, room);
            s = dc_store_each_of_row(l->x->store, m[k].row, add, g, e);
        }
    }
    return s;
}

static dc_status find(links *l, double distance, bool (*on_progress)(void *user, double part), void *user, groups *g, size_t *exact, dc_error *e)
{
    const size_t n = (size_t)l->n, width = (size_t)dc_store_about(l->x->store)->width;
    l->up = dc_calloc(n, sizeof *l->up);
    l->norm = dc_calloc(n, sizeof *l->norm);
    l->files = dc_calloc(n, sizeof *l->files);
    member *m = dc_calloc(n, sizeof *m);
    float *room = dc_calloc(2 * width, sizeof *room);
    dc_status s = l->up && l->norm && l->files && m && room ? DC_OK : dc_fail_memory(e, "rows to compare", n * sizeof *m);
    if (!s) s = dc_store_each(l->x->store, count_file, l, e);
    if (!s) s = compare_all(l, 1 - distance, on_progress, user, e);
    g->score = 1;
    for (int i = 0; i < l->n && !s; i++)
        if (l->files[i] > 1) {
            s = begin_group(g, e);
            if (!s) s = dc_store_each_of_row(l->x->store, i, add, g, e);
        }
    *exact = (size_t)g->n;
    if (!s) s = near_groups(l, g, m, room, e);
    if (!s) s = begin_group(g, e); /* the end of the last one */
    free(l->up);
    free(l->norm);
    free(l->files);
    free(m);
    free(room);
    return s;
}

/* ---- in order -------------------------------------------------------------------------------------------------------------- */

typedef struct span {
    const diffc_match *at;
    size_t n;
} span;
static int by_path(const void *a, const void *b) { return strcmp(((const diffc_match *)a)->path, ((const diffc_match *)b)->path); }
static int by_first_path(const void *a, const void *b) { return by_path(((const span *)a)->at, ((const span *)b)->at); }
static int by_score(const void *a, const void *b)
{
    const diffc_match *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score) : by_path(a, b);
}

/* Groups [from, to) by the path of their first; members by score, then by path. */
static dc_status order(diffc_duplicates *d, size_t from, size_t to, diffc_match *copy, dc_error *e)
{
    span *g = dc_calloc(to - from, sizeof *g);
    if (!g) return dc_fail_memory(e, "groups", (to - from) * sizeof *g);
    const size_t begin = d->first[from], end = d->first[to];
    for (size_t i = from; i < to; i++) {
        const size_t n = d->first[i + 1] - d->first[i];
        if (n) qsort(d->matches.match + d->first[i], n, sizeof *copy, by_score);
        g[i - from] = (span){copy + (d->first[i] - begin), n};
    }
    if (end > begin) memcpy(copy, d->matches.match + begin, (end - begin) * sizeof *copy);
    if (to > from) qsort(g, to - from, sizeof *g, by_first_path);
    size_t at = begin;
    for (size_t i = from; i < to; i++) {
        d->first[i] = at;
        memcpy(d->matches.match + at, g[i - from].at, g[i - from].n * sizeof *copy);
        at += g[i - from].n;
    }
    free(g);
    return DC_OK;
}

static dc_status finish(groups *g, size_t exact, diffc_duplicates *out, dc_error *e)
{
    dc_status s = dc_match_list_end(&g->list, &out->matches, e);
    if (s) {
        free(g->first);
        return s;
    }
    out->first = g->first;
    out->n_groups = (size_t)g->n - 1;
    out->n_exact = exact;
    diffc_match *copy = dc_calloc(out->matches.n, sizeof *copy);
    s = copy ? order(out, 0, exact, copy, e) : dc_fail_memory(e, "groups", out->matches.n * sizeof *copy);
    if (!s) s = order(out, exact, out->n_groups, copy, e);
    free(copy);
    return s;
}

diffc_status diffc_index_duplicates(diffc_index *x, double distance, bool (*on_progress)(void *user, double part), void *user, diffc_duplicates *out,
                                    diffc_error *error)
{
    dc_error e = {0};
    const dc_store_info *i = dc_store_about(x->store);
    groups g = {0};
    size_t exact = 0;
    links l = {.x = x, .n = (int)i->rows};
    *out = (diffc_duplicates){0};
    dc_status s = DC_OK;
    if (!(distance >= 0 && distance <= 2)) s = dc_fail(&e, DC_USAGE, "distance: found %g, expected 0 to 2", distance);
    else if (i->rows > INT32_MAX) s = dc_fail(&e, DC_USAGE, "duplicates: found %lld vectors, expected fewer", (long long)i->rows);
    if (!s) s = find(&l, distance, on_progress, user, &g, &exact, &e);
    if (s) {
        g.list.failed = true;
        dc_match_list_end(&g.list, &out->matches, &e);
        free(g.first);
    } else if (finish(&g, exact, out, &e)) {
        diffc_duplicates_free(out);
    }
    dc_give_error(error, &e);
    return (diffc_status)e.code;
}

void diffc_duplicates_free(diffc_duplicates *d)
{
    if (!d) return;
    diffc_matches_free(&d->matches);
    free(d->first);
    *d = (diffc_duplicates){0};
}
