/* update.c - one run of bringing an index up to date: the folder is walked and held against the index; what is new or changed is read ahead by
 * threads (reader.c), encoded in batches and committed batch by batch; what is gone is dropped at the end.
 *
 * Memory does not grow with the folder but for 8 bytes a picture (which ones were seen): the paths to be read wait in a temporary file. */
#include "search/update.h"
#include "base/clock.h"
#include "base/checked.h"
#include "base/text.h"
#include "search/vector.h"
#include "search/walk.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH      32
#define MOST_BATCH 1024
#define NO_VECTOR  "vector: found numbers that are not finite, or all 0"
#define MOST_LIGHT 512 /* jobs without a picture in a batch: known contents, failures */

typedef struct run {
    const dc_update *u;
    diffc_index_summary sum;
    int64_t *seen; /* ids */
    int n_seen, room_seen;
    char **blind; /* folders and files that cannot be read */
    int n_blind, room_blind;
    FILE *pending;
    bool no_memory; /* for a path of it: nothing is read from there any more */
    uint64_t n_pending, done;
    dc_reader *reader;
    dc_job **job; /* the batch */
    int n_jobs, n_pictures, batch;
    float *pixels, *vectors;
    double began, stage;
} run;

static dc_status tell(const run *r, diffc_index_stage stage, dc_error *e)
{
    const diffc_index_options *o = r->u->options;
    if (!o->on_progress) return DC_OK;
    diffc_index_progress p = {.stage = stage, .failed = r->sum.failed, .seconds = dc_seconds() - r->stage, .eta = -1};
    p.done = stage == DIFFC_INDEX_SCAN ? r->sum.found : r->done;
    p.total = stage == DIFFC_INDEX_SCAN ? 0 : r->n_pending;
    p.rate = p.seconds > 0 ? (double)p.done / p.seconds : 0;
    if (p.total && p.rate > 0 && p.done) p.eta = (double)(p.total - p.done) / p.rate;
    return o->on_progress(o->user, &p) ? dc_fail(e, DC_CANCELLED, "stopped") : DC_OK;
}

/* ---- the folder beside the index -------------------------------------------------------------------------------------- */

static dc_status on_file(void *ctx, const char *path, const struct stat *st, dc_error *e)
{
    run *r = ctx;
    dc_record known;
    if (!dc_index_path_ok(path)) return DC_OK; /* too long to be opened */
    dc_status s = dc_store_find(r->u->store, path, &known, e);
    if (s) return s;
    if (known.id) {
        if (!dc_grow((void **)&r->seen, &r->room_seen, r->n_seen, sizeof *r->seen))
            return dc_fail_memory(e, "pictures seen", 8ull * (unsigned)r->n_seen);
        r->seen[r->n_seen++] = known.id;
    }
    if ((++r->sum.found & 511) == 1 && (s = tell(r, DIFFC_INDEX_SCAN, e)) != DC_OK) return s;
    const bool same =
        known.id && known.modified >= 0 && known.size == st->st_size && known.modified == st->st_mtim.tv_sec * 1000000000ll + st->st_mtim.tv_nsec;
    if (same) {
        r->sum.unchanged++;
        return DC_OK;
    }
    r->n_pending++;
    const uint32_t head[2] = {(uint32_t)strlen(path), known.id != 0};
    if (fwrite(head, sizeof head, 1, r->pending) == 1 && fwrite(path, head[0], 1, r->pending) == 1) return DC_OK;
    return dc_fail(e, DC_IO, "a temporary file: writing failed: %s", strerror(errno));
}

static dc_status on_folder(void *ctx, const char *path, dc_error *e)
{
    run *r = ctx;
    return r->u->folder ? r->u->folder(r->u->folder_ctx, path, e) : DC_OK;
}

static dc_status on_unreadable(void *ctx, const char *path, int number, dc_error *e)
{
    run *r = ctx;
    if (!*path) return dc_fail(e, DC_NO_INPUT, "%s: folder: cannot be read: %s", r->u->root, strerror(number));
    char *copy = dc_strdup(path);
    if (!copy || !dc_grow((void **)&r->blind, &r->room_blind, r->n_blind, sizeof *r->blind)) {
        free(copy);
        return dc_fail_memory(e, "folders that cannot be read", 0);
    }
    r->blind[r->n_blind++] = copy;
    r->sum.unreadable++;
    if (r->u->options->on_failure) r->u->options->on_failure(r->u->options->user, path, strerror(number));
    return DC_OK;
}

static bool next_pending(void *ctx, char **path, bool *known)
{
    run *r = ctx;
    uint32_t head[2];
    if (r->no_memory || fread(head, sizeof head, 1, r->pending) != 1) return false;
    *path = calloc(1, head[0] + 1u);
    *known = head[1];
    if (*path && fread(*path, head[0], 1, r->pending) == 1) return true;
    r->no_memory = !*path;
    free(*path);
    return false; /* the run then sees fewer than it expects, and says so */
}

static dc_status look_up(void *ctx, const uint8_t hash[DC_HASH_BYTES], int64_t *row, dc_error *e)
{
    run *r = ctx;
    return dc_store_find_hash(r->u->store, hash, row, e);
}

/* ---- a batch ----------------------------------------------------------------------------------------------------------- */

static const dc_job *same_content(const run *r, const dc_job *j)
{
    for (int i = 0; i < r->n_jobs; i++)
        if (r->job[i]->pixels && !memcmp(r->job[i]->hash, j->hash, DC_HASH_BYTES)) return r->job[i];
    return NULL;
}

static dc_status take_size(void *ctx, const dc_record *r, dc_error *e)
{
    (void)e;
    dc_job *j = ctx;
    j->width = r->width;
    j->height = r->height;
    return DC_OK;
}

/* Row, vector and record of one job; counts it. */
static dc_status record(run *r, dc_job *j, const float *vector, dc_error *e)
{
    dc_store *store = r->u->store;
    const diffc_index_options *o = r->u->options;
    dc_record old;
    dc_status s = dc_store_find(store, j->path, &old, e);
    if (s) return s;
    const bool same = old.id && old.row >= 0 && !memcmp(old.hash, j->hash, DC_HASH_BYTES);
    if (!j->error && j->row < 0) s = dc_store_find_hash(store, j->hash, &j->row, e); /* twice in this batch */
    if (!s && !j->error && j->row < 0 && !j->pixels && !(j->error = dc_strdup(NO_VECTOR))) s = dc_fail_memory(e, "a message", 0);
    if (!s && !j->error && j->row < 0) {
        s = dc_store_add(store, j->hash, vector, &j->row, e);
        r->sum.embedded++;
    } else if (!s && !j->error) {
        if (!same) r->sum.reused++;
        if (!j->width) s = dc_store_each_of_row(store, j->row, take_size, j, e);
    }
    dc_record now = {.path = j->path,
                     .size = j->size,
                     .modified = j->modified,
                     .row = j->error ? -1 : j->row,
                     .width = j->width,
                     .height = j->height,
                     .error = j->error};
    memcpy(now.hash, j->hash, DC_HASH_BYTES);
    if (!s) s = dc_store_put(store, &now, e);
    if (s) return s;
    if (j->error) {
        r->sum.failed++;
        if (o->on_failure) o->on_failure(o->user, j->path, j->error);
    } else if (!j->known) r->sum.added++;
    else if (!same) r->sum.changed++;
    else r->sum.unchanged++;
    return DC_OK;
}

static void drop_jobs(run *r)
{
    for (int i = 0; i < r->n_jobs; i++) dc_job_free(r->job[i]);
    r->n_jobs = r->n_pictures = 0;
}

static dc_status embed(run *r, dc_error *e)
{
    const diffc_embedder *m = r->u->embedder;
    diffc_error why = {0};
    int n = 0;
    for (int i = 0; i < r->n_jobs; i++)
        if (r->job[i]->pixels) memcpy(r->pixels + (size_t)n++ * m->pixels, r->job[i]->pixels, m->pixels * sizeof(float));
    if (n && m->embed_pixels(m->self, r->pixels, n, r->vectors, &why)) return dc_take_error(e, &why);
    n = 0;
    for (int i = 0; i < r->n_jobs; i++)
        if (r->job[i]->pixels && !dc_unit(r->vectors + (size_t)n++ * (size_t)m->dims, m->dims)) {
            r->job[i]->error = dc_strdup(NO_VECTOR);
            if (!r->job[i]->error) return dc_fail_memory(e, "a message", 0);
        }
    return DC_OK;
}

static dc_status flush(run *r, dc_error *e)
{
    if (!r->n_jobs) return DC_OK;
    dc_status s = embed(r, e);
    if (s) return s;
    dc_reader_lock(r->reader);
    s = dc_store_begin(r->u->store, e);
    int n = 0;
    for (int i = 0; i < r->n_jobs && !s; i++) {
        const bool picture = r->job[i]->pixels != NULL;
        s = record(r, r->job[i], r->vectors + (size_t)n * (size_t)r->u->embedder->dims, e);
        n += picture;
    }
    if (!s) s = dc_store_commit(r->u->store, e);
    if (s) dc_store_abandon(r->u->store);
    dc_reader_unlock(r->reader);
    drop_jobs(r);
    return s;
}

/* Into the batch. A content that is in it already, or has got a row meanwhile, is not encoded again. */
static dc_status collect(run *r, dc_job *j, dc_error *e)
{
    dc_status s = DC_OK;
    if (j->pixels) {
        dc_reader_lock(r->reader);
        s = dc_store_find_hash(r->u->store, j->hash, &j->row, e);
        dc_reader_unlock(r->reader);
        if (j->row >= 0 || same_content(r, j)) {
            free(j->pixels);
            j->pixels = NULL;
        } else {
            r->n_pictures++;
        }
    }
    r->job[r->n_jobs++] = j;
    return s;
}

static dc_status read_pending(run *r, dc_error *e)
{
    const diffc_index_options *o = r->u->options;
    const diffc_embedder *m = r->u->embedder;
    const dc_reader_options how = {.root = r->u->root,
                                   .embedder = m,
                                   .max_megapixels = o->max_megapixels,
                                   .threads = o->threads,
                                   .ahead = 2 * r->batch,
                                   .next = next_pending,
                                   .look_up = look_up,
                                   .ctx = r};
    if (fflush(r->pending) || fseek(r->pending, 0, SEEK_SET)) return dc_fail(e, DC_IO, "a temporary file: writing failed: %s", strerror(errno));
    r->job = dc_calloc((size_t)(r->batch + MOST_LIGHT), sizeof *r->job);
    r->pixels = dc_calloc((size_t)r->batch * m->pixels, sizeof(float));
    r->vectors = dc_calloc((size_t)(r->batch + 1) * (size_t)m->dims, sizeof(float)); /* one more: record is handed the one behind the last */
    if (!r->job || !r->pixels || !r->vectors) return dc_fail_memory(e, "a batch of pictures", (unsigned)r->batch * m->pixels * sizeof(float));
    dc_status s = dc_reader_new(&r->reader, &how, e);
    double committed = dc_seconds();
    for (bool end = false; !s && !end;) {
        dc_job *j;
        s = dc_reader_take(r->reader, &j, &end, e);
        if (!s && j) {
            r->done++;
            s = collect(r, j, e);
        }
        const double now = dc_seconds();
        if (!s && (r->n_pictures == r->batch || r->n_jobs == r->batch + MOST_LIGHT || end || now - committed > 5)) {
            s = flush(r, e);
            committed = now;
        }
        if (!s) s = tell(r, DIFFC_INDEX_EMBED, e);
    }
    if (!s && r->done < r->n_pending && r->no_memory) s = dc_fail_memory(e, "a path", 0);
    if (!s && r->done < r->n_pending) s = dc_fail(e, DC_IO, "a temporary file: reading failed");
    return s;
}

/* ---- what is gone -------------------------------------------------------------------------------------------------------- */

typedef struct gone {
    run *r;
    struct gone_one {
        int64_t id, row;
    } * at;
    int n, room;
} gone;

static int by_number(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static dc_status is_gone(void *ctx, const dc_record *known, dc_error *e)
{
    gone *g = ctx;
    const run *r = g->r;
    if (r->n_seen && bsearch(&known->id, r->seen, (size_t)r->n_seen, sizeof *r->seen, by_number)) return DC_OK;
    for (int i = 0; i < r->n_blind; i++) { /* nothing is known of what is below these */
        size_t n = strlen(r->blind[i]);
        if (!strncmp(known->path, r->blind[i], n) && (!known->path[n] || known->path[n] == '/')) return DC_OK;
    }
    if (!dc_grow((void **)&g->at, &g->room, g->n, sizeof *g->at)) return dc_fail_memory(e, "pictures that are gone", sizeof *g->at * (unsigned)g->n);
    g->at[g->n++] = (struct gone_one){known->id, known->row};
    return DC_OK;
}

/* Of what the index knew when the run began: new paths have ids that are not among the seen ones, so this comes before they are put in. */
static dc_status find_gone(gone *g, dc_error *e)
{
    run *r = g->r;
    if (r->n_seen) qsort(r->seen, (size_t)r->n_seen, sizeof *r->seen, by_number);
    dc_status s = dc_store_each(r->u->store, is_gone, g, e);
    free(r->seen);
    r->seen = NULL;
    return s;
}

static dc_status drop_gone(gone *g, dc_error *e)
{
    dc_store *store = g->r->u->store;
    if (!g->n) return DC_OK;
    dc_status s = dc_store_begin(store, e);
    for (int i = 0; i < g->n && !s; i++) s = dc_store_forget(store, &(dc_record){.id = g->at[i].id, .row = g->at[i].row}, e);
    if (!s) s = dc_store_commit(store, e);
    if (s) dc_store_abandon(store);
    g->r->sum.removed = (uint64_t)g->n;
    return s;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------ */

static dc_status run_all(run *r, dc_error *e)
{
    const diffc_index_options *o = r->u->options;
    gone g = {.r = r};
    const dc_walk walk = {.root = r->u->root,
                          .exclude = o->exclude,
                          .n_exclude = o->n_exclude,
                          .hidden = o->hidden,
                          .follow = o->follow,
                          .ctx = r,
                          .file = on_file,
                          .folder = on_folder,
                          .unreadable = on_unreadable};
    r->batch = o->batch < 1 ? BATCH : o->batch > MOST_BATCH ? MOST_BATCH : o->batch;
    r->pending = tmpfile();
    if (!r->pending) return dc_fail(e, DC_IO, "a temporary file: cannot be made: %s", strerror(errno));
    dc_status s = dc_walk_run(&walk, e);
    if (!s) s = tell(r, DIFFC_INDEX_SCAN, e);
    if (!s) s = find_gone(&g, e);
    r->stage = dc_seconds();
    if (!s && r->n_pending) s = read_pending(r, e);
    dc_reader_free(r->reader);
    r->reader = NULL;
    if (!s) s = drop_gone(&g, e);
    if (!s) s = dc_store_sweep(r->u->store, e);
    free(g.at);
    return s;
}

dc_status dc_update_run(const dc_update *u, diffc_index_summary *out, dc_error *e)
{
    run r = {.u = u};
    r.began = r.stage = dc_seconds();
    dc_status s = run_all(&r, e);
    drop_jobs(&r);
    for (int i = 0; i < r.n_blind; i++) free(r.blind[i]);
    free(r.blind);
    free(r.seen);
    free(r.job);
    free(r.pixels);
    free(r.vectors);
    if (r.pending) fclose(r.pending);
    r.sum.seconds = dc_seconds() - r.began;
    *out = r.sum;
    return s;
}
