/* query.h - what is asked for, as one vector. Private to this folder. */
#ifndef DC_SEARCH_QUERY_H
#define DC_SEARCH_QUERY_H
#include "base/status.h"
#include "include/diffc.h"
#include <stdbool.h>

/* A term without its weight. */
typedef struct dc_term_of_query {
    double weight;
    bool image;
    const char *text; /* or the picture's path, "-": stdin; points into the word */
} dc_term_of_query;
/* Errors: USAGE (nothing behind a weight or '@', a weight that is not finite). */
dc_status dc_term_parse(const char *word, dc_term_of_query *out, dc_error *e);

/* out: m->dims numbers of length 1. Errors: USAGE (no terms, terms that cancel out, a template without {}), those of the embedder. */
dc_status dc_query_vector(const diffc_query *q, const diffc_embedder *m, float *out, dc_error *e);

#endif
