/* update.h - bringing an index up to date with its folder. Private to this folder. */
#ifndef DC_SEARCH_UPDATE_H
#define DC_SEARCH_UPDATE_H
#include "base/status.h"
#include "include/diffc.h"
#include "search/store.h"

/* One run, over a store that is open for writing. folder: told of every folder that is read (watching); may be NULL. */
typedef struct dc_update {
    const diffc_index_options *options;
    const diffc_embedder *embedder;
    dc_store *store;
    const char *root;
    dc_status (*folder)(void *ctx, const char *path, dc_error *e);
    void *folder_ctx;
} dc_update;
dc_status dc_update_run(const dc_update *u, diffc_index_summary *out, dc_error *e);

/* A picture as it was found, read and prepared. */
typedef struct dc_job {
    char *path; /* owned */
    bool known; /* to the index, maybe with another content */
    int64_t size, modified;
    uint8_t hash[DC_HASH_BYTES];
    int width, height;
    int64_t row;   /* of this content; -1: not known yet */
    float *pixels; /* owned; NULL: not needed, or error */
    char *error;   /* owned; why it has no vector */
} dc_job;
void dc_job_free(dc_job *j); /* NULL is fine */

/* Pictures read on threads of their own, some ahead of whoever takes them. */
typedef struct dc_reader dc_reader;
typedef struct dc_reader_options {
    const char *root;
    const diffc_embedder *embedder;
    double max_megapixels;
    int threads, ahead;
    /* The next path and whether it is known: false at the end. Called by one thread at a time. */
    bool (*next)(void *ctx, char **path, bool *known);
    /* Is this content known? Called by one thread at a time. */
    dc_status (*look_up)(void *ctx, const uint8_t hash[DC_HASH_BYTES], int64_t *row, dc_error *e);
    void *ctx;
} dc_reader_options;
dc_status dc_reader_new(dc_reader **out, const dc_reader_options *o, dc_error *e);
/* *out: the next one, for dc_job_free, in no order; NULL with *end false: none came for a fifth of a second. Errors: of look_up, NO_MEMORY. */
dc_status dc_reader_take(dc_reader *r, dc_job **out, bool *end, dc_error *e);
/* Around what must not happen at the same time as look_up. */
void dc_reader_lock(dc_reader *r);
void dc_reader_unlock(dc_reader *r);
void dc_reader_free(dc_reader *r); /* stops; NULL is fine */

/* Reads and hashes one file, and prepares it when its content is not known. NULL when memory is out (path is then freed too). */
dc_job *dc_job_read(const dc_reader_options *o, char *path, bool known, dc_reader *lock, dc_error *e);
/* The same without preparing: o->embedder is NULL. */
static inline dc_job *dc_job_hash(const dc_reader_options *o, char *path, dc_error *e) { return dc_job_read(o, path, false, NULL, e); }

#endif
