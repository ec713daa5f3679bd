/* conv_store.h - found plans of convolutions on disk: one JSON file a GPU and version of cuDNN. It holds engines and knobs, no code: whatever
 * it says, the library is asked whether it can. */
#ifndef DC_BACKENDS_CUDA_CONV_STORE_H
#define DC_BACKENDS_CUDA_CONV_STORE_H
#include "backends/cuda/conv_graph.h"
#include <jansson.h>

typedef struct conv_store {
    json_t *root; /* NULL: not read yet */
    bool closed;  /* it cannot be written: told once */
} conv_store;

/* Is this shape in it? Nothing ever is when g has no folder for plans. */
bool conv_store_find(gpu *g, conv_store *s, const gpu_conv_shape *shape, conv_way *way, bool *whole);
/* Notes it and writes the file anew (its folder, too, if only that is missing); a failure is told in the log. */
void conv_store_add(gpu *g, conv_store *s, const gpu_conv_shape *shape, const conv_way *way, bool whole, double seconds);
void conv_store_free(conv_store *s);

#endif
