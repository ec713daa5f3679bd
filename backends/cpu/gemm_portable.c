/* gemm_portable.c - matrix kernels for any machine: rows gathered into a block, OpenBLAS for the product (one thread, per tile). */
#include "backends/cpu/act.h"
#include "backends/cpu/gemm.h"
#include "base/half.h"
#include <cblas.h>
#include <string.h>

#define INLINE static inline

/* As dc_f16_to_f32 for finite numbers (others are refused before), without branches, so that the loop below becomes vector code. */
INLINE float widen_f16(uint32_t h)
{
    const uint32_t u = (h & 0x7fffu) << 13;
    const float normal = dc_bits_f32(u + (112u << 23)), denormal = dc_bits_f32(u + (113u << 23)) - 0x1p-14f;
    return dc_bits_f32(dc_f32_bits(h & 0x7c00u ? normal : denormal) | (h & 0x8000u) << 16);
}

/* Files do not align their tensors. */
INLINE uint16_t number_at(const void *from, int64_t i)
{
    uint16_t v;
    memcpy(&v, (const char *)from + i * 2, sizeof v);
    return v;
}

static void gemm_widen(const void *from, dc_dtype t, int64_t n, float *to)
{
    if (t == DC_F16)
        for (int64_t i = 0; i < n; i++) to[i] = widen_f16(number_at(from, i));
    else if (t == DC_BF16)
        for (int64_t i = 0; i < n; i++) to[i] = dc_bf16_to_f32(number_at(from, i));
    else memcpy(to, from, (size_t)n * sizeof(float));
}

static void gemm_block(const cpu_block *s)
{
    enum { GATHER = 128 };
    float a[GATHER][CPU_BLOCK_K];
    for (int r = 0; r < s->rows; r += GATHER) {
        int n = s->rows - r < GATHER ? s->rows - r : GATHER;
        for (int i = 0; i < n; i++) memcpy(a[i], s->row[r + i] + s->offset, (size_t)s->k * sizeof(float));
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, s->width, s->k, 1.0f, a[0], CPU_BLOCK_K, s->b, s->width, s->add ? 1.0f : 0.0f,
                    s->acc + (size_t)r * (size_t)s->width, s->width);
    }
    if (s->widened) gemm_widen(s->next, s->next_type, (int64_t)(s->next_bytes / 2), s->widened);
}

enum { PANEL = CPU_PANEL };
#include "backends/cpu/gemm_finish.h"

/* Products come from several threads already. Left alone, OpenBLAS would put its own behind each: slower by half, and its threads take turns. */
void cpu_gemm_portable_begin(void) { openblas_set_num_threads(1); }

/* placed: OpenBLAS's kernels take some rows at a time and sum those left over in another order. */
const cpu_gemm cpu_gemm_portable = {16, CPU_PANEL, gemm_block, gemm_widen, gemm_finish, NULL, NULL, NULL, false, 1, true};
