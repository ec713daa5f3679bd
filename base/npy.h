/* npy.h - NumPy's array files, versions 1 to 3: what --save-latent, --trace and embed write and tests read. */
#ifndef DC_BASE_NPY_H
#define DC_BASE_NPY_H
#include "base/status.h"
#include <stdint.h>
#include <stddef.h>

#define DC_NPY_MAX_RANK 8

typedef struct dc_npy {
    int rank;
    int64_t dim[DC_NPY_MAX_RANK];
    char kind[4]; /* "f4", "f8", "i8", ... */
    void *data;
    size_t bytes;
} dc_npy;

/* float32, C order, written atomically ("-" is stdout). */
dc_status dc_npy_write_f32(const char *path, const float *data, int rank, const int64_t *dim, dc_error *e);
/* Little-endian, C order; any of f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1. n->data is owned by the caller (free).
 * Errors: NO_INPUT, DATA (with what is wrong), NO_MEMORY. */
dc_status dc_npy_read(dc_npy *n, const char *path, dc_error *e);

#endif
