/* write.h - safetensors files, written from tensors that lie in others: renamed, stacked, turned and rounded on the way, never as a whole
 * in memory.
 *
 *     dc_write_list l = {0};
 *     dc_write_add(&l, "conv_in.weight", &stored, 1, e);          // as it is; its fields may be changed then
 *     dc_safetensors_write("out.safetensors", &l, &(dc_write_options){.type = DC_WRITE_F16}, e);
 *     dc_write_list_free(&l); */
#ifndef DC_WEIGHTS_WRITE_H
#define DC_WEIGHTS_WRITE_H
#include "weights/parts.h"
#include "weights/reader.h"

/* What becomes of real numbers; whole numbers stay as they are. AUTO: f32, f16 and bf16 as stored, wider ones as f32, narrower as f16. */
typedef enum dc_write_type { DC_WRITE_AUTO, DC_WRITE_F32, DC_WRITE_F16, DC_WRITE_BF16 } dc_write_type;

/* A tensor to be written: the rows of up to three, which have one shape and type, one behind the other. */
typedef struct dc_write_item {
    char *name;
    const dc_stored *from[3];
    int n_from;
    int rank;
    int64_t dim[DC_MAX_RANK]; /* as written */
    bool turned;              /* the matrix is written transposed (one tensor only) */
} dc_write_item;

typedef struct dc_write_list {
    dc_write_item *item;
    int n, room;
} dc_write_list;

/* Adds a tensor made of n_from (0: an empty one, a mark) others, which must outlive the list; NULL with NO_MEMORY. Valid until the next. */
dc_write_item *dc_write_add(dc_write_list *l, const char *name, const dc_stored *const *from, int n_from, dc_error *e);
void dc_write_list_free(dc_write_list *l);
/* Bytes of the items from `at` on, as they will be written. */
uint64_t dc_write_bytes(const dc_write_list *l, int at, dc_write_type type);

/* How single files name a model's text encoder; the other parts have one name everywhere. */
typedef enum dc_file_kind { DC_FILE_SD1, DC_FILE_SD2, DC_FILE_XL } dc_file_kind;
/* Adds a part, whose tensors have diffusers' names, under the names that every program reads in a single file: CompVis' for UNet and VAE,
 * transformers' and open_clip's for text. *left_out: tensors that have no name there, but for counters. Errors: DATA, NO_MEMORY. (names.c) */
dc_status dc_write_add_part(dc_write_list *l, const dc_weights *part, dc_part p, dc_file_kind kind, int *left_out, dc_error *e);

typedef struct dc_write_options {
    dc_write_type type;
    const dc_pair *metadata; /* beside "format": "pt" */
    int n_metadata;
    /* Told the bytes written since the last time; what it returns stops the writing. May be NULL. */
    dc_status (*tick)(void *ctx, uint64_t bytes, dc_error *e);
    dc_status (*check)(void *ctx, dc_error *e); /* asked when all is written, before it takes its name. May be NULL */
    void *ctx;
} dc_write_options;
/* Orders the list as the reference writer does (wide types first, then by name) and writes it, atomically (base/file.h).
 * Errors: DATA (a value that is not finite, or too large for the type: the tensor and where; two tensors of one name), NO_CREATE, IO,
 * NO_MEMORY, and what tick and check say. */
dc_status dc_safetensors_write(const char *path, dc_write_list *l, const dc_write_options *o, dc_error *e);

#endif
