/* inside.h - what store.c (the database) and vectors.c (the file beside it) know of each other. */
#ifndef DC_SEARCH_INSIDE_H
#define DC_SEARCH_INSIDE_H
#include "base/file.h"
#include "search/store.h"
#include <sqlite3.h>

enum { STORE_DIMS = 16384, STORE_HEADER = 64 };

typedef enum statement {
    FIND,
    FIND_HASH,
    EACH,
    EACH_FAILED,
    OF_ROW,
    DEAD,
    ADD,
    PUT,
    FORGET,
    BURY,   /* a row that no file has any more */
    REVIVE, /* one that a file has again */
    SET,
    GET,
    COUNT_DEAD,
    STATEMENTS
} statement;

struct dc_store {
    char *folder, *name; /* with a '/' at its end; of the database, for messages too */
    sqlite3 *db;
    sqlite3_stmt *statement[STATEMENTS];
    bool writer, writing; /* writing: in a transaction of ours */
    int lock, vectors;    /* files of the writer */
    dc_map map;           /* of the reader */
    dc_store_info info;
    char *text[3];            /* what info.is points to */
    int64_t generation, next; /* next: the row to be added */
    uint16_t *row;            /* room for one */
};

/* ---- store.c */
dc_status store_failed(const dc_store *s, int code, dc_error *e); /* SQLite's code as one of ours */
dc_status store_damaged(const dc_store *s, const char *what, dc_error *e);
dc_status store_run(dc_store *s, const char *sql, dc_error *e);
sqlite3_stmt *store_ask(dc_store *s, statement which, dc_error *e); /* prepared and without values; NULL after an error */
/* row NULL: nothing is expected; else whether there is one, and then the caller resets. */
dc_status store_step(dc_store *s, sqlite3_stmt *q, bool *row, dc_error *e);
dc_status store_set(dc_store *s, const char *key, int64_t value, dc_error *e);

/* ---- vectors.c */
dc_status store_map(dc_store *s, bool *again, dc_error *e); /* again: the file of this generation is not there (any more) */
dc_status store_open_vectors(dc_store *s, dc_error *e);     /* for the writer: made when it is not there, cut to the counted rows */
dc_status store_append(dc_store *s, int64_t row, const float *unit, uint64_t *sum, dc_error *e);
dc_status store_sync(dc_store *s, dc_error *e);
dc_status store_wipe(dc_store *s, dc_error *e); /* removes everything but the lock */

#endif
