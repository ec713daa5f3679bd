/* knn.h - the rows most like some queries, exactly: every row is looked at. Private to this folder. */
#ifndef DC_SEARCH_KNN_H
#define DC_SEARCH_KNN_H
#include "backends/ops.h"
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct dc_hit {
    float score;
    int64_t row;
} dc_hit;

/* hit: by score, then by row; all that may be wanted are among them (ties with the last one, or nearer than the margin): who asks has other ways to
 * decide which to keep. */
typedef struct dc_hits {
    dc_hit *hit;
    int n, room;
    double mean, deviation; /* of the scores of all live rows */
    int64_t live;
} dc_hits;

typedef struct dc_knn {
    dc_device *device;
    const uint16_t *rows;
    int64_t n;
    int width;           /* numbers of a row, a multiple of 32 */
    const uint8_t *dead; /* a bit a row; may be NULL */
    const float *query;  /* queries * width */
    int queries;
    int64_t top;      /* wanted of each; 0: all */
    double threshold; /* least score */
    double margin;    /* also those that are so much below the last one wanted, or the threshold */
    bool statistics;  /* fill in mean, deviation and live */
} dc_knn;
/* out: one a query, hit for the caller to free; zeroed first. A score that is not finite counts as none. Errors: NO_MEMORY, CANCELLED. */
dc_status dc_knn_run(const dc_knn *k, dc_hits *out, dc_error *e);

#endif
