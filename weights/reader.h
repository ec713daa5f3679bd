/* reader.h - what a container reader hands to weights.c; private to this folder. */
#ifndef DC_WEIGHTS_READER_H
#define DC_WEIGHTS_READER_H
#include "base/file.h"
#include "weights/weights.h"

#define DC_MAX_TENSORS  262144
#define DC_MAX_NAME     1024
#define DC_MAX_METADATA 65536
#define DC_MAX_HEADER   100000000u

typedef struct dc_pair {
    const char *key, *value;
} dc_pair;

/* One mapped file and the tensors in it. Names and metadata live in `header`, shapes in `dims`; tensors that could not be used in the file
 * as they lie there, in `copies`. */
typedef struct dc_container {
    dc_map map;
    dc_stored *tensor; /* in name order, names unique */
    int n_tensors;
    dc_pair *metadata; /* in key order, keys unique */
    int n_metadata;
    char *header;
    uint64_t header_bytes;
    int64_t *dims;
    void *copies;
    const char *format; /* "safetensors", "torch", "gguf" */
} dc_container;

/* Open a file with every check of its format; on error nothing is left open. */
dc_status dc_safetensors_open(dc_container *k, const char *path, dc_error *e);
dc_status dc_gguf_open(dc_container *k, const char *path, dc_error *e);
/* Opens a checkpoint of torch.save, of today's zip format or of the one before; on error nothing is left open. */
dc_status dc_torch_open(dc_container *k, const char *path, dc_error *e);
/* Do a file's first bytes (n of them, of DC_HEAD_BYTES) say that it is one of torch's, or a pickle? */
bool dc_torch_is(const uint8_t *head, size_t n);
#define DC_HEAD_BYTES 512
void dc_container_close(dc_container *k);

/* Tensors and metadata into their order. DATA for a name that is there twice; metadata: what its list is called ("__metadata__"). */
dc_status dc_container_sort(dc_container *k, const char *metadata, dc_error *e);
/* DATA, "FILE: tensor NAME: ..."; names are cut at 200 bytes, so that what is wrong with them still fits. */
dc_status dc_bad_tensor(dc_error *e, const char *path, const char *name, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Orders by name; for qsort and bsearch over dc_stored. */
int dc_stored_by_name(const void *a, const void *b);
/* scaled.c: gives fp8 weights the factors that lie beside them; tensors in name order. Errors: DATA (more than one factor, not finite), NO_MEMORY. */
dc_status dc_take_scales(dc_stored *tensor, int n, dc_error *e);
bool dc_is_scale(const char *name); /* such a factor, or a mark of files that have them */

/* Tensors that live in `of`, under other names: takes over `tensor` (orders it by name), and `names` and `dims`, which it points into.
 * Errors: DATA (two of one name), NO_MEMORY; then, too, all three are freed. */
dc_status dc_weights_view(dc_weights **out, const dc_weights *of, dc_stored *tensor, int n, char *names, int64_t *dims, dc_error *e);

#endif
