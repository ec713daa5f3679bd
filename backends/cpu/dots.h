/* dots.h - inner products of half-precision rows with queries, one function an instruction set. dots_LEVEL.c includes dots_kernel.h. */
#ifndef DC_BACKENDS_CPU_DOTS_H
#define DC_BACKENDS_CPU_DOTS_H
#include <stdint.h>

enum { DOTS_ROWS = 8 }; /* most rows that are widened at a time */

/* y[q * stride + r] = rows[r] . query[q] for n rows and `queries` queries of `width` numbers, a multiple of 16. room: DOTS_ROWS * width floats,
 * for rows widened once for all queries. A sum is one fused chain a lane, then the lanes from both ends: the same bytes for a pair whatever
 * else is asked with it. */
typedef void cpu_dots_fn(const uint16_t *rows, int64_t n, const float *query, int queries, int width, float *y, int64_t stride, float *room);

extern cpu_dots_fn cpu_dots_portable, cpu_dots_avx2, cpu_dots_avx512;

#endif
