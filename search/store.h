/* store.h - an index on disk: one folder with a SQLite database of files and one file of vectors. docs/search.md has the format and what is
 * promised. Private to this folder.
 *
 *     index.sqlite        meta, files, vectors (what a row of the file is of), dead (rows that no file has)
 *     vectors.GENERATION  64 bytes of header, then rows of half-precision numbers: row i is at 64 + i * 2 * width
 *     lock                held by the one writer
 *
 * Rows are appended, and are in the file and synced before the transaction that counts them: what lies behind the counted ones was never
 * promised. A row is never written again; when a quarter is dead the rest goes into a new file, under another generation. Readers see one
 * transaction from open to close, whatever a writer does meanwhile. */
#ifndef DC_SEARCH_STORE_H
#define DC_SEARCH_STORE_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DC_INDEX_FOLDER ".diffc"
#define DC_HASH_BYTES   16

typedef struct dc_store dc_store;

/* What an index is of. model: identifies what made the vectors, others cannot be compared with them. */
typedef struct dc_store_identity {
    const char *model;
    int dims;
    const char *root;       /* absolute path of the pictures; NULL: the folder around the index, wherever that is moved */
    const char *model_path; /* where the model was found, "" for the one that comes with diffc; only a convenience */
} dc_store_identity;

typedef struct dc_store_info {
    dc_store_identity is; /* strings live as long as the store */
    int width;            /* numbers of a row in the file: dims rounded up to a multiple of 32, the rest zeros */
    int64_t rows, dead;
} dc_store_info;

/* A file as the index knows it. */
typedef struct dc_record {
    int64_t id;             /* 0: not known */
    int64_t size, modified; /* modified: ns since 1970; -1: to be looked at again in any case */
    int64_t row;            /* -1: no vector; error says why */
    uint8_t hash[DC_HASH_BYTES];
    int width, height;
    const char *path, *error; /* error: NULL when there is a vector. From a store: valid during the call */
} dc_record;

/* For reading. Errors: NO_INPUT (no index there), DATA (malformed, or of another version), NO_MEMORY, IO. */
dc_status dc_store_open(dc_store **out, const char *folder, dc_error *e);
/* As the only writer; makes the folder and an empty index where there is none. rebuild: throws away what is there, whatever it is. Errors also:
 * UNAVAILABLE (another writer), USAGE (an index of another model), NO_CREATE. */
dc_status dc_store_write(dc_store **out, const char *folder, const dc_store_identity *is, bool rebuild, dc_error *e);
void dc_store_close(dc_store *s); /* NULL is fine; what was not committed is dropped */
const dc_store_info *dc_store_about(const dc_store *s);

/* Counted rows, mapped; NULL when there are none. They hold once dc_store_lost has been asked after reading: then zeros may have been read. */
const uint16_t *dc_store_rows(const dc_store *s);
dc_status dc_store_lost(const dc_store *s, dc_error *e);
/* A bit a row, set for dead ones; the caller frees. NULL when none is dead. */
dc_status dc_store_dead(dc_store *s, uint8_t **bits, dc_error *e);

/* out->id == 0: not there. */
dc_status dc_store_find(dc_store *s, const char *path, dc_record *out, dc_error *e);
/* The row of a content, dead or not; -1: none. */
dc_status dc_store_find_hash(dc_store *s, const uint8_t hash[DC_HASH_BYTES], int64_t *row, dc_error *e);
/* Every file in order of id, every one with an error, or those of one row in order of path. `each` must not change the store; non-zero stops. */
typedef dc_status dc_store_each_fn(void *ctx, const dc_record *r, dc_error *e);
dc_status dc_store_each(dc_store *s, dc_store_each_fn *each, void *ctx, dc_error *e);
dc_status dc_store_each_failed(dc_store *s, dc_store_each_fn *each, void *ctx, dc_error *e);
dc_status dc_store_each_of_row(dc_store *s, int64_t row, dc_store_each_fn *each, void *ctx, dc_error *e);

/* Writing, between begin and commit or abandon. After an error: abandon. */
dc_status dc_store_begin(dc_store *s, dc_error *e);
dc_status dc_store_commit(dc_store *s, dc_error *e);
void dc_store_abandon(dc_store *s);
/* A new row: `unit` has dims numbers, of length 1. */
dc_status dc_store_add(dc_store *s, const uint8_t hash[DC_HASH_BYTES], const float *unit, int64_t *row, dc_error *e);
/* Puts r->path in, or in the place of what it was; r->id is not looked at. */
dc_status dc_store_put(dc_store *s, const dc_record *r, dc_error *e);
dc_status dc_store_forget(dc_store *s, const dc_record *r, dc_error *e);
/* Outside of a transaction, at the end of a complete run: contents that no file has are forgotten, and the file of vectors is written anew when
 * that saves a quarter of it. */
dc_status dc_store_sweep(dc_store *s, dc_error *e);

/* Reads everything: SQLite's own check, each row's checksum, and that files, vectors and dead rows agree. DATA tells the first fault. */
dc_status dc_store_check(dc_store *s, dc_error *e);

/* Can this be a path in an index: relative, no "..", no empty part? */
bool dc_index_path_ok(const char *path);

#endif
