/* conv.h - what the ways to convolve share: as a linear layer, as an implicit matrix product (conv.c), by Winograd (wino.c). */
#ifndef DC_BACKENDS_CPU_CONV_H
#define DC_BACKENDS_CPU_CONV_H
#include "backends/cpu/pre.h"

/* Columns [x, x + n) of input row y (after the resize) of an image, with the prologue applied, to `to` [n][in]; zero outside. */
void cpu_conv_fill_row(const dc_conv_args *a, const cpu_pre *pre, int64_t image, int y, int x, int n, float *to);

/* wino.c: 3x3 convolutions of stride 1 where it is faster by count of operations; depends on one image's shape and the level only.
 * cost: its operations beside those of the plain sums, or 0 where it cannot be. */
double cpu_wino_cost(dc_device *d, const dc_conv_args *a);
bool cpu_wino_suits(dc_device *d, const dc_conv_args *a);
uint64_t cpu_wino_scratch(dc_device *d, const dc_conv_args *a);
dc_status cpu_wino_conv2d(dc_device *d, const dc_conv_args *a, void *scratch);

#endif
