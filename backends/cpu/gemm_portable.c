/* gemm_portable.c - matrix kernels for any machine: rows gathered into a block, OpenBLAS for the product (one thread, per tile). */
#include "backends/cpu/act.h"
#include "backends/cpu/gemm.h"
#include <cblas.h>
#include <string.h>

#define INLINE static inline

static void gemm_block(const cpu_block *s)
{
    enum { GATHER = 64 };
    float a[GATHER][CPU_BLOCK_K];
    for (int r = 0; r < s->rows; r += GATHER) {
        int n = s->rows - r < GATHER ? s->rows - r : GATHER;
        for (int i = 0; i < n; i++) memcpy(a[i], s->row[r + i] + s->offset, (size_t)s->k * sizeof(float));
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, s->width, s->k, 1.0f, a[0], CPU_BLOCK_K, s->b, s->width, s->add ? 1.0f : 0.0f,
                    s->acc + (size_t)r * (size_t)s->width, s->width);
    }
}

static void gemm_widen(const void *from, dc_dtype t, int64_t n, float *to)
{
    dc_source s = {from, t, n};
    dc_source_floats(&s, 0, n, to);
}

#include "backends/cpu/gemm_finish.h"

const cpu_gemm cpu_gemm_portable = {16, CPU_PANEL, gemm_block, gemm_widen, gemm_finish, gemm_finish_geglu};
