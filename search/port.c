/* port.c - vectors out of an index and into one: a .npy file and a file of paths beside it. */
#include "base/checked.h"
#include "base/file.h"
#include "base/half.h"
#include "base/npy.h"
#include "search/index.h"
#include "search/port.h"
#include "search/vector.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- out ---------------------------------------------------------------------------------------------------------------- */

typedef struct exporting {
    diffc_index *x;
    float *vectors;
    int64_t n, room;
    dc_text paths;
    char end;
} exporting;

static dc_status count(void *ctx, const dc_record *r, dc_error *e)
{
    (void)e;
    ((exporting *)ctx)->room += r->row >= 0;
    return DC_OK;
}

static dc_status export_one(void *ctx, const dc_record *r, dc_error *e)
{
    exporting *x = ctx;
    const dc_store_info *i = dc_store_about(x->x->store);
    if (r->row < 0) return DC_OK;
    if (x->end && strchr(r->path, x->end)) {
        dc_status s = dc_fail(e, DC_USAGE, "paths: found a name with a newline, %s", r->path);
        dc_hint(e, "With -0 each path is ended by a zero byte.");
        return s;
    }
    const uint16_t *row = dc_store_rows(x->x->store) + r->row * i->width;
    float *to = x->vectors + x->n++ * i->is.dims;
    for (int k = 0; k < i->is.dims; k++) to[k] = dc_f16_to_f32(row[k]);
    dc_text_append(&x->paths, r->path, strlen(r->path));
    dc_text_append(&x->paths, &x->end, 1);
    return DC_OK;
}

static dc_status write_text(const char *path, const dc_text *t, dc_error *e)
{
    dc_out *o;
    dc_status s = dc_out_open(&o, path, false, NULL, e);
    if (s) return s;
    s = dc_out_write(o, t->at ? t->at : "", t->length, e);
    if (!s) return dc_out_commit(o, e);
    dc_out_abandon(o);
    return s;
}

static dc_status export(exporting *x, const char *npy, const char *paths, dc_error *e)
{
    const int dims = dc_store_about(x->x->store)->is.dims;
    dc_status s = dc_store_each(x->x->store, count, x, e);
    if (!s && !(x->vectors = dc_calloc((size_t)x->room, sizeof(float) * (size_t)dims)))
        s = dc_fail_memory(e, npy, (uint64_t)x->room * sizeof(float) * (unsigned)dims);
    if (!s) s = dc_store_each(x->x->store, export_one, x, e);
    if (!s && x->paths.failed) s = dc_fail_memory(e, paths, x->paths.length);
    if (!s) s = dc_store_lost(x->x->store, e);
    if (!s) s = dc_out_check(paths, e);
    if (!s) s = dc_npy_write_f32(npy, x->vectors, 2, (int64_t[]){x->n, dims}, e);
    return s ? s : write_text(paths, &x->paths, e);
}

diffc_status diffc_index_export(diffc_index *index, const char *npy, const char *paths, char end, diffc_error *error)
{
    dc_error e = {0};
    exporting x = {.x = index, .end = end};
    export(&x, npy, paths, &e);
    free(x.vectors);
    dc_text_free(&x.paths);
    dc_give_error(error, &e);
    return (diffc_status)e.code;
}

/* ---- in ------------------------------------------------------------------------------------------------------------------- */

/* A picture's record without encoding it: its content has the vector that is given. */
static dc_status import_one(const dc_import *p, const char *path, const float *vector, diffc_index_summary *sum, dc_error *e)
{
    const dc_reader_options how = {.root = p->root, .look_up = p->look_up, .ctx = p->ctx};
    const char *wrong = dc_index_path_ok(path) ? NULL : "path: found one that leaves the folder";
    dc_record old;
    dc_job *j = NULL;
    dc_status s = dc_store_find(p->store, path, &old, e);
    if (!s && !wrong) {
        char *copy = dc_strdup(path);
        j = copy ? dc_job_hash(&how, copy, e) : NULL;
        if (!j) return e->code ? e->code : dc_fail_memory(e, path, strlen(path));
        wrong = j->error;
    }
    if (wrong) {
        if (p->on_failure) p->on_failure(p->user, path, wrong);
        sum->failed++;
    } else if (!s) {
        if (j->row < 0) s = dc_store_add(p->store, j->hash, vector, &j->row, e);
        else sum->reused++;
        dc_record now = {.path = path, .size = j->size, .modified = j->modified, .row = j->row, .width = j->width, .height = j->height};
        memcpy(now.hash, j->hash, DC_HASH_BYTES);
        if (!s) s = dc_store_put(p->store, &now, e);
        if (!old.id) sum->added++;
        else if (old.row < 0 || memcmp(old.hash, j->hash, DC_HASH_BYTES) != 0) sum->changed++;
        else sum->unchanged++;
    }
    sum->found++;
    dc_job_free(j);
    return s;
}

/* Row i of an array of f4, f2 or f8. */
static void take_row(const dc_npy *a, int64_t i, float *out)
{
    const int64_t n = a->dim[1];
    for (int64_t k = i * n; k < (i + 1) * n; k++)
        *out++ = a->kind[1] == '2'   ? dc_f16_to_f32(((const uint16_t *)a->data)[k])
                 : a->kind[1] == '4' ? ((const float *)a->data)[k]
                                     : (float)((const double *)a->data)[k];
}

static dc_status import_rows(const dc_import *p, const dc_npy *a, const char *text, size_t size, char end, diffc_index_summary *sum, dc_error *e)
{
    float *row = dc_calloc((size_t)a->dim[1], sizeof *row);
    dc_status s = row ? dc_store_begin(p->store, e) : dc_fail_memory(e, "a vector", (uint64_t)a->dim[1] * sizeof *row);
    const char *at = text;
    for (int64_t i = 0; i < a->dim[0] && !s; i++) {
        const char *stop = memchr(at, end, (size_t)(text + size - at));
        if (!stop) stop = text + size;
        char *path = at < text + size ? strndup(at, (size_t)(stop - at)) : NULL;
        if (!path)
            s = at < text + size
                    ? dc_fail_memory(e, "a path", (size_t)(stop - at))
                    : dc_fail(e, DC_DATA, "%s: found %lld paths, expected the %lld of the vectors", p->paths, (long long)i, (long long)a->dim[0]);
        take_row(a, i, row);
        if (!s && !dc_unit(row, (int)a->dim[1]))
            s = dc_fail(e, DC_DATA, "%s: row %lld: found numbers that are not finite, or all 0", p->npy, (long long)i);
        if (!s) s = import_one(p, path, row, sum, e);
        free(path);
        at = stop < text + size ? stop + 1 : stop;
    }
    if (!s && at < text + size) s = dc_fail(e, DC_DATA, "%s: found more paths than the %lld vectors", p->paths, (long long)a->dim[0]);
    if (!s) s = dc_store_commit(p->store, e);
    else dc_store_abandon(p->store);
    free(row);
    return s;
}

dc_status dc_import_run(const dc_import *p, char end, diffc_index_summary *sum, dc_error *e)
{
    dc_npy a;
    char *text = NULL;
    size_t size = 0;
    const int dims = dc_store_about(p->store)->is.dims;
    dc_status s = dc_npy_read(&a, p->npy, e);
    if (!s && (a.rank != 2 || a.kind[0] != 'f' || a.dim[1] != dims))
        s = dc_fail(e, DC_DATA, "%s: found %s of rank %d and %lld numbers a row, expected floats [n, %d]", p->npy, a.kind, a.rank,
                    (long long)(a.rank > 1 ? a.dim[1] : 0), dims);
    if (!s) s = dc_read_file(p->paths, UINT32_MAX, &text, &size, e);
    if (!s) s = import_rows(p, &a, text, size, end, sum, e);
    if (!s) s = dc_store_sweep(p->store, e);
    free(a.data);
    free(text);
    return s;
}
