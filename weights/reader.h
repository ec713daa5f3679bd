/* reader.h - what a container reader hands to weights.c; private to this folder. */
#ifndef DC_WEIGHTS_READER_H
#define DC_WEIGHTS_READER_H
#include "base/file.h"
#include "weights/weights.h"

#define DC_MAX_TENSORS 262144
#define DC_MAX_NAME 1024

typedef struct dc_pair { const char *key, *value; } dc_pair;

/* One mapped file and the tensors in it. Strings live in `strings`. */
typedef struct dc_container {
    dc_map     map;
    dc_stored *tensor; /* in name order, names unique */
    int        n_tensors;
    dc_pair   *metadata;
    int        n_metadata;
    char      *strings;
} dc_container;

/* Opens a safetensors file with every check of the format; on error nothing is left open. */
dc_status dc_safetensors_open(dc_container *c, const char *path, dc_error *e);
void      dc_container_close(dc_container *c);

#endif
