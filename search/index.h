/* index.h - an index that is open for reading: its store and what compares. Private to this folder. */
#ifndef DC_SEARCH_INDEX_H
#define DC_SEARCH_INDEX_H
#include "backends/ops.h"
#include "base/log.h"
#include "base/text.h"
#include "include/diffc.h"
#include "search/knn.h"
#include "search/store.h"

struct diffc_index {
    dc_store *store;
    dc_device *device;
    char *folder, *root;
    uint8_t *dead; /* a bit a row, or NULL */
    dc_log log;
    void (*log_fn)(void *user, diffc_log_level level, const char *line);
    void *log_user;
};

/* Results with paths of their own, added one after the other. After a failed allocation `failed` stays set. */
typedef struct dc_match_list {
    diffc_match *at; /* path: its place in text until dc_match_list_end */
    int n, room;
    dc_text text;
    bool failed;
} dc_match_list;
void dc_match_add(dc_match_list *l, const dc_record *r, float score);
dc_status dc_match_list_end(dc_match_list *l, diffc_matches *out, dc_error *e); /* takes over what l has, or frees it */

/* The rows as queries: `n` of them from `first` on, widened, each times scale[i] (NULL: 1), into out[n][width]. */
void dc_widen_rows(const diffc_index *x, int64_t first, int n, const float *scale, float *out);
void dc_give_error(diffc_error *to, const dc_error *from);

#endif
