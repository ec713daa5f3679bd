/* port.h - vectors that were made elsewhere, into an index that is open for writing. Private to this folder. */
#ifndef DC_SEARCH_PORT_H
#define DC_SEARCH_PORT_H
#include "search/update.h"

typedef struct dc_import {
    dc_store *store;
    const char *root, *npy, *paths;
    dc_status (*look_up)(void *ctx, const uint8_t hash[DC_HASH_BYTES], int64_t *row, dc_error *e);
    void *ctx;
    void (*on_failure)(void *user, const char *path, const char *reason); /* may be NULL */
    void *user;
} dc_import;
/* All or nothing. Errors: DATA (shape, type, number of paths, rows that are no vectors), NO_INPUT, NO_MEMORY, IO. */
dc_status dc_import_run(const dc_import *p, char end, diffc_index_summary *sum, dc_error *e);

#endif
