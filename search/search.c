/* search.c - an index opened, and asked. */
#include "base/checked.h"
#include "base/file.h"
#include "base/half.h"
#include "search/index.h"
#include "search/query.h"
#include "search/vector.h"
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What a row's length differs from 1 by being rounded to half precision: 2^-11 at most, and a score with it. So many more are taken, and decided
 * by cosines in double. */
#define MARGIN     0x1p-10
#define AUTO_LEAST 2.0 /* deviations above the mean that a score is at least, to be a result of --auto */
#define AUTO_MOST  100

void dc_give_error(diffc_error *to, const dc_error *from)
{
    if (!to) return;
    to->code = (diffc_status)from->code;
    memcpy(to->text, from->text, sizeof to->text);
    memcpy(to->hint, from->hint, sizeof to->hint);
}

static diffc_status give(diffc_error *to, const dc_error *from)
{
    dc_give_error(to, from);
    return (diffc_status)from->code;
}

/* ---- opening ----------------------------------------------------------------------------------------------------------- */

static void pass_log(void *user, dc_log_level level, const char *line)
{
    diffc_index *x = user;
    x->log_fn(x->log_user, (diffc_log_level)level, line);
}

/* ".diffc" in `from` or in the nearest folder around it, as a path that leads there from where the program is: "../../.diffc". */
static dc_status find_index(const char *from, char **folder, char **root, dc_error *e)
{
    struct stat st, above;
    char *at = dc_strdup(from);
    for (int i = 0; at && i < 128; i++) {
        char *index = dc_path_join(at, DC_INDEX_FOLDER), *up = dc_path_join(at, "..");
        bool there = index && dc_is_folder(index),
             top = !up || stat(at, &st) || stat(up, &above) || (st.st_dev == above.st_dev && st.st_ino == above.st_ino);
        if (there) {
            free(up);
            *folder = index;
            *root = at;
            return DC_OK;
        }
        free(index);
        free(at);
        at = up;
        if (top) break;
    }
    bool memory = !at;
    free(at);
    if (memory) return dc_fail_memory(e, from, strlen(from));
    dc_status s = dc_fail(e, DC_NO_INPUT, "%s: index: found no %s there or in a folder around it", from, DC_INDEX_FOLDER);
    dc_hint(e, "`diffc index FOLDER` makes one of a folder of pictures; --index FOLDER names one that is elsewhere.");
    return s;
}

/* Where the pictures of an index that was named are: as it says, or around it. */
static dc_status root_of(diffc_index *x, dc_error *e)
{
    const char *root = dc_store_about(x->store)->is.root, *last = strrchr(x->folder, '/');
    if (root) x->root = dc_strdup(root);
    else x->root = strcmp(last ? last + 1 : x->folder, DC_INDEX_FOLDER) ? dc_path_join(x->folder, "..") : dc_path_folder(x->folder);
    return x->root ? DC_OK : dc_fail_memory(e, x->folder, 0);
}

static dc_status open_index(diffc_index *x, const char *folder, const char *from, const diffc_options *o, dc_error *e)
{
    static const diffc_options none;
    if (!o) o = &none;
    x->log_fn = o->log;
    x->log_user = o->log_user;
    if (o->log) x->log = (dc_log){pass_log, x};
    const dc_device_options how = {.name = "cpu", /* the rows are in its memory */ .threads = o->threads, .cpu_level = o->cpu_level, .log = &x->log};
    dc_status s = DC_OK;
    if (!folder) s = find_index(from ? from : ".", &x->folder, &x->root, e);
    else if (!(x->folder = dc_strdup(folder))) s = dc_fail_memory(e, folder, strlen(folder));
    if (!s) s = dc_store_open(&x->store, x->folder, e);
    if (!s && !x->root) s = root_of(x, e);
    if (!s) s = dc_store_dead(x->store, &x->dead, e);
    return s ? s : dc_device_open(&x->device, &how, e);
}

diffc_status diffc_index_open(diffc_index **out, const char *folder, const char *from, const diffc_options *options, diffc_error *error)
{
    dc_error e = {0};
    diffc_index *x = calloc(1, sizeof *x);
    dc_status s = x ? open_index(x, folder, from, options, &e) : dc_fail_memory(&e, "an index", sizeof *x);
    if (s) diffc_index_close(x);
    *out = s ? NULL : x;
    return give(error, &e);
}

void diffc_index_close(diffc_index *x)
{
    if (!x) return;
    dc_device_close(x->device);
    dc_store_close(x->store);
    free(x->dead);
    free(x->folder);
    free(x->root);
    free(x);
}

/* ---- about it ------------------------------------------------------------------------------------------------------------ */

typedef struct counting {
    uint64_t n, failed;
    bool (*each)(void *user, const char *path, const char *reason);
    void *user;
} counting;

static dc_status count(void *ctx, const dc_record *r, dc_error *e)
{
    (void)e;
    counting *c = ctx;
    c->n++;
    c->failed += r->row < 0;
    if (c->each && c->each(c->user, r->path, r->error ? r->error : "")) return DC_CANCELLED;
    return DC_OK;
}

diffc_status diffc_index_about(diffc_index *x, diffc_index_info *out, diffc_error *error)
{
    dc_error e = {0};
    counting c = {0};
    const dc_store_info *i = dc_store_about(x->store);
    dc_store_each(x->store, count, &c, &e);
    *out = (diffc_index_info){.folder = x->folder,
                              .root = x->root,
                              .model = i->is.model,
                              .model_path = i->is.model_path,
                              .dims = i->is.dims,
                              .fast_decode = dc_ends_with(i->is.model, DIFFC_ID_FAST),
                              .vectors = (uint64_t)(i->rows - i->dead),
                              .files = c.n,
                              .failed = c.failed};
    return give(error, &e);
}

diffc_status diffc_index_check(diffc_index *x, diffc_error *error)
{
    dc_error e = {0};
    counting c = {0};
    dc_status s = dc_store_check(x->store, &e);
    if (!s) dc_store_each(x->store, count, &c, &e); /* and every path is one */
    return give(error, &e);
}

diffc_status diffc_index_failures(diffc_index *x, bool (*each)(void *user, const char *path, const char *reason), void *user, diffc_error *error)
{
    dc_error e = {0};
    counting c = {.each = each, .user = user};
    dc_store_each_failed(x->store, count, &c, &e);
    return give(error, &e);
}

/* ---- results -------------------------------------------------------------------------------------------------------------- */

void dc_match_add(dc_match_list *l, const dc_record *r, float score)
{
    if (l->failed || !dc_grow((void **)&l->at, &l->room, l->n, sizeof *l->at)) {
        l->failed = true;
        return;
    }
    l->at[l->n++] = (diffc_match){.path = (const char *)(uintptr_t)l->text.length, .score = score, .width = r->width, .height = r->height};
    dc_text_append(&l->text, r->path, strlen(r->path) + 1);
    l->failed = l->text.failed;
}

dc_status dc_match_list_end(dc_match_list *l, diffc_matches *out, dc_error *e)
{
    *out = (diffc_matches){0};
    if (l->failed) {
        free(l->at);
        dc_text_free(&l->text);
        return dc_fail_memory(e, "results", (uint64_t)l->n * sizeof *l->at);
    }
    for (int i = 0; i < l->n; i++) l->at[i].path = l->text.at + (uintptr_t)l->at[i].path;
    *out = (diffc_matches){l->at, (size_t)l->n, l->text.at};
    return DC_OK;
}

void diffc_matches_free(diffc_matches *m)
{
    if (!m) return;
    free(m->match);
    free(m->text);
    *m = (diffc_matches){0};
}

void dc_widen_rows(const diffc_index *x, int64_t first, int n, const float *scale, float *out)
{
    const int width = dc_store_about(x->store)->width;
    const uint16_t *rows = dc_store_rows(x->store) + first * width;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < width; k++) out[(size_t)i * (size_t)width + (size_t)k] = dc_f16_to_f32(*rows++) * (scale ? scale[i] : 1);
}

/* ---- asking --------------------------------------------------------------------------------------------------------------- */

typedef struct adding {
    dc_match_list *list;
    float score;
} adding;

static dc_status add(void *ctx, const dc_record *r, dc_error *e)
{
    (void)e;
    adding *a = ctx;
    dc_match_add(a->list, r, a->score);
    return DC_OK;
}

static int by_score_then_path(const void *a, const void *b)
{
    const diffc_match *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return strcmp(x->path, y->path);
}

static int by_score(const void *a, const void *b)
{
    const dc_hit *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score) : (x->row > y->row) - (x->row < y->row);
}

/* Scores as cosines, the same on every machine; keeps those that are wanted, and all that have the last one's score. */
static void decide(const diffc_index *x, const float *query, double threshold, int64_t top, dc_hits *h)
{
    const int width = dc_store_about(x->store)->width;
    int n = 0;
    for (int i = 0; i < h->n; i++) {
        const uint16_t *row = dc_store_rows(x->store) + h->hit[i].row * width;
        double dot = 0, square = 0;
        for (int k = 0; k < width; k++) {
            const double v = (double)dc_f16_to_f32(row[k]);
            dot += v * (double)query[k];
            square += v * v;
        }
        h->hit[i].score = square > 0 ? (float)(dot / sqrt(square)) : 0;
        if ((double)h->hit[i].score >= threshold) h->hit[n++] = h->hit[i];
    }
    h->n = n;
    if (n) qsort(h->hit, (size_t)n, sizeof *h->hit, by_score);
    while (top && h->n > top && h->hit[h->n - 1].score < h->hit[top - 1].score) h->n--;
}

/* How many of the sorted scores to keep: those before the largest fall among the ones that stand out at all. */
static int automatic_end(const dc_hits *h)
{
    int n = 0, end;
    const double least = h->mean + AUTO_LEAST * h->deviation;
    while (n < h->n && n < AUTO_MOST && h->hit[n].score >= least) n++;
    if (!n) return h->n ? 1 : 0;
    end = n;
    double fall = -1;
    for (int i = 0; i < n; i++) {
        const double next = i + 1 < h->n ? h->hit[i + 1].score : h->mean;
        if (h->hit[i].score - next > fall) {
            fall = h->hit[i].score - next;
            end = i + 1;
        }
    }
    return end;
}

static dc_status matches_of(diffc_index *x, const diffc_query *q, const dc_hits *h, diffc_matches *out, dc_error *e)
{
    dc_match_list list = {0};
    const int n = q->automatic ? automatic_end(h) : h->n;
    dc_status s = DC_OK;
    for (int i = 0; i < n && !s; i++) s = dc_store_each_of_row(x->store, h->hit[i].row, add, &(adding){&list, h->hit[i].score}, e);
    if (s) list.failed = true;
    s = dc_match_list_end(&list, out, e);
    if (s) return s;
    if (out->n) qsort(out->match, out->n, sizeof *out->match, by_score_then_path);
    if (q->top > 0 && out->n > (size_t)q->top) out->n = (size_t)q->top;
    return DC_OK;
}

static dc_status check_embedder(const diffc_index *x, const diffc_embedder *m, dc_error *e)
{
    const dc_store_identity *is = &dc_store_about(x->store)->is;
    if (!strcmp(is->model, m->model) && is->dims == m->dims) return DC_OK;
    dc_status s = dc_fail(e, DC_USAGE, "%s: model: found an index of %s, %d numbers a picture; expected one of %s, %d", x->folder, is->model,
                          is->dims, m->model, m->dims);
    dc_hint(e, "Name the index's own model with -m, or make the index anew: diffc index --rebuild.");
    return s;
}

/* Rows to find for a query; 0: all. */
static int64_t wanted(const diffc_query *q) { return q->automatic && q->top <= AUTO_MOST ? AUTO_MOST + 1 : q->top; }

static dc_status search(diffc_index *x, const diffc_embedder *m, const diffc_query *queries, int n, dc_hits *hits, diffc_matches *out, dc_error *e)
{
    const dc_store_info *i = dc_store_about(x->store);
    float *vectors = dc_calloc((size_t)n * (size_t)i->width, sizeof *vectors);
    if (!vectors) return dc_fail_memory(e, "queries", (uint64_t)n * (uint64_t)i->width * sizeof *vectors);
    dc_knn k = {.device = x->device,
                .rows = dc_store_rows(x->store),
                .n = i->rows,
                .width = i->width,
                .dead = x->dead,
                .query = vectors,
                .queries = n,
                .threshold = queries[0].threshold,
                .margin = MARGIN};
    dc_status s = DC_OK;
    for (int q = 0; q < n && !s; q++) {
        const int64_t top = wanted(&queries[q]);
        k.top = !q ? top : !top || !k.top ? 0 : top > k.top ? top : k.top;
        k.statistics |= queries[q].automatic;
        if (queries[q].threshold < k.threshold) k.threshold = queries[q].threshold;
        s = dc_query_vector(&queries[q], m, vectors + (size_t)q * (size_t)i->width, e);
    }
    if (!s && k.n) s = dc_knn_run(&k, hits, e);
    for (int q = 0; q < n && !s && k.n; q++) decide(x, vectors + (size_t)q * (size_t)i->width, queries[q].threshold, wanted(&queries[q]), &hits[q]);
    if (!s) s = dc_store_lost(x->store, e);
    for (int q = 0; q < n && !s; q++) s = matches_of(x, &queries[q], &hits[q], &out[q], e);
    free(vectors);
    return s;
}

diffc_status diffc_search(diffc_index *x, const diffc_embedder *m, const diffc_query *queries, int n, diffc_matches *out, diffc_error *error)
{
    dc_error e = {0};
    if (n > 0) memset(out, 0, sizeof *out * (size_t)n);
    dc_hits *hits = dc_calloc((size_t)(n > 0 ? n : 1), sizeof *hits);
    dc_status s = hits ? check_embedder(x, m, &e) : dc_fail_memory(&e, "queries", sizeof *hits * (size_t)n);
    if (!s && n > 0) s = search(x, m, queries, n, hits, out, &e);
    for (int q = 0; q < n && hits; q++) free(hits[q].hit);
    for (int q = 0; q < n && s; q++) diffc_matches_free(&out[q]);
    free(hits);
    return give(error, &e);
}
