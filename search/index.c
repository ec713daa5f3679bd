/* index.c - the public functions that write an index: update, watch, import. */
#include "base/file.h"
#include "base/text.h"
#include "search/index.h"
#include "search/port.h"
#include "search/update.h"
#include "search/watch.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* An index open for one of the functions below. */
typedef struct writing {
    dc_update u;
    char *folder, *absolute; /* absolute: of the root, where the index is not in it */
} writing;

static void close_writing(writing *w)
{
    dc_store_close(w->u.store);
    free(w->folder);
    free(w->absolute);
}

static dc_status open_writing(writing *w, const diffc_index_options *o, const diffc_embedder *m, dc_error *e)
{
    *w = (writing){.u = {.options = o, .embedder = m, .root = o->root ? o->root : "."}};
    if (!dc_is_folder(w->u.root)) {
        dc_status s = dc_fail(e, DC_NO_INPUT, "%s: folder: found %s", w->u.root, dc_is_file(w->u.root) ? "a file" : "none of that name");
        return s;
    }
    w->folder = o->index ? dc_strdup(o->index) : dc_path_join(w->u.root, DC_INDEX_FOLDER);
    if (o->index) w->absolute = realpath(w->u.root, NULL);
    if (!w->folder || (o->index && !w->absolute)) return dc_fail_memory(e, w->u.root, 0);
    const dc_store_identity is = {.model = m->model, .dims = m->dims, .root = w->absolute, .model_path = o->model_path};
    dc_status s = dc_store_write(&w->u.store, w->folder, &is, o->rebuild, e);
    const char *of = s ? NULL : dc_store_about(w->u.store)->is.root;
    if (!s && o->index && of && strcmp(of, w->absolute) != 0) {
        s = dc_fail(e, DC_USAGE, "%s: index: found one of %s, expected one of %s", w->folder, of, w->absolute);
        dc_hint(e, "An index is of one folder. --rebuild makes it one of this folder.");
    }
    return s;
}

diffc_status diffc_index_update(const diffc_index_options *o, const diffc_embedder *m, diffc_index_summary *out, diffc_error *error)
{
    dc_error e = {0};
    writing w;
    diffc_index_summary none;
    dc_status s = open_writing(&w, o, m, &e);
    memset(out ? out : &none, 0, sizeof none);
    if (!s) dc_update_run(&w.u, out ? out : &none, &e);
    close_writing(&w);
    dc_give_error(error, &e);
    return (diffc_status)e.code;
}

diffc_status diffc_index_watch(const diffc_index_options *o, const diffc_embedder *m, diffc_error *error)
{
    dc_error e = {0};
    writing w;
    dc_status s = open_writing(&w, o, m, &e);
    if (!s) dc_watch_run(&w.u, &e);
    close_writing(&w);
    dc_give_error(error, &e);
    return (diffc_status)e.code;
}

static dc_status look_up(void *ctx, const uint8_t hash[DC_HASH_BYTES], int64_t *row, dc_error *e) { return dc_store_find_hash(ctx, hash, row, e); }

diffc_status diffc_index_import(const diffc_index_options *o, const diffc_embedder *m, const char *npy, const char *paths, char end,
                                diffc_index_summary *out, diffc_error *error)
{
    dc_error e = {0};
    writing w;
    diffc_index_summary sum = {0};
    dc_status s = open_writing(&w, o, m, &e);
    const dc_import p = {.store = w.u.store,
                         .root = w.u.root,
                         .npy = npy,
                         .paths = paths,
                         .look_up = look_up,
                         .ctx = w.u.store,
                         .on_failure = o->on_failure,
                         .user = o->user};
    if (!s) dc_import_run(&p, end, &sum, &e);
    if (out) *out = sum;
    close_writing(&w);
    dc_give_error(error, &e);
    return (diffc_status)e.code;
}
