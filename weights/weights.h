/* weights.h - named tensors in mapped files: one file (safetensors, GGUF, a checkpoint of torch), several shards, or a component folder of
 * a diffusers model (other containers add one reader each); or a part of such a file under other names (parts.h). */
#ifndef DC_WEIGHTS_WEIGHTS_H
#define DC_WEIGHTS_WEIGHTS_H
#include "backends/ops.h"
#include "base/status.h"

#define DC_MAX_RANK 8

/* A tensor as stored. Strings and data belong to the dc_weights it came from. */
typedef struct dc_stored {
    const char *name;
    const char *file; /* path of the file that holds it, for messages */
    dc_dtype dtype;
    int rank;
    const int64_t *dim; /* rank of them, the last one the fastest */
    const void *data;   /* mapped, or a copy where the file has it in another order; not aligned */
    uint64_t bytes;
    bool transposed; /* a matrix [dim 0, dim 1] that lies as [dim 1, dim 0] */
    float scale;     /* fp8: what every number is to be multiplied by; 0: nothing */
} dc_stored;

typedef struct dc_weights dc_weights;

/* path: a weights file (its first bytes say of which format, not its name), or an index of shards (any *.json; the shards lie beside it or
 * below). All checks of the format are made
 * here, and that index and shards agree.
 * Errors: NO_INPUT, DATA (file, what, where, found, expected), DENIED (a shard name that leaves the folder), IO (also: a file changed
 * meanwhile), NO_MEMORY. */
dc_status dc_weights_open(dc_weights **out, const char *path, dc_error *e);
/* The weights of a diffusers component folder; stem "diffusion_pytorch_model" or "model". Taken is the first of STEM.safetensors,
 * STEM.fp16.safetensors, the only other STEM.VARIANT.safetensors, STEM.safetensors.index.json, its fp16 variant, its only other variant;
 * without any of these, the same with .bin (torch), where "model" is named "pytorch_model".
 * Errors as above; DATA for several variants of equal right, NO_INPUT when there is none (with what is there instead). */
dc_status dc_weights_open_folder(dc_weights **out, const char *folder, const char *stem, dc_error *e);
void dc_weights_close(dc_weights *w);
/* `view` (dc_weights_part) takes over the weights that it looks into, and closes them with itself. */
void dc_weights_adopt(dc_weights *view, dc_weights *w);
/* Asked after tensor data has been read: was all of it the files' as they were opened? IO (file) when one has been cut short or written to
 * meanwhile; what was read may be zeros then. */
dc_status dc_weights_check(const dc_weights *w, dc_error *e);
/* What was read of the files may leave this process's memory (it stays in the page cache and comes back when touched). */
void dc_weights_forget(const dc_weights *w);

int dc_weights_count(const dc_weights *w);
const dc_stored *dc_weights_at(const dc_weights *w, int i);              /* in name order */
const dc_stored *dc_weights_find(const dc_weights *w, const char *name); /* NULL: not there */
const char *dc_weights_path(const dc_weights *w);                        /* as opened */
const char *dc_weights_format(const dc_weights *w);                      /* "safetensors", "torch", "gguf": of the files */
/* The files that hold the tensors: one, or the shards in name order. */
int dc_weights_file_count(const dc_weights *w);
const char *dc_weights_file_at(const dc_weights *w, int i);
/* `__metadata__`: pair i, or the value of a key (NULL: not there). */
int dc_weights_metadata_count(const dc_weights *w);
void dc_weights_metadata_at(const dc_weights *w, int i, const char **key, const char **value);
const char *dc_weights_metadata(const dc_weights *w, const char *key);

/* What the names in the file look like: "a UNet", "a LoRA", ...; NULL: nothing we know. For messages and `inspect`. */
const char *dc_weights_looks_like(const dc_weights *w);

#endif
