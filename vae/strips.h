/* strips.h - a picture's activation as strips of rows, each a tensor of its own: an op after the other runs over all strips, so that a strip's
 * memory is free as soon as the next op has read it and its neighbours, and a level holds one activation in place of three. Group norms add up
 * sums over all strips first. Private to this folder.
 *
 * Strips begin at multiples of 4 rows (Winograd's tiles) and of dc_norm_rows (the blocks of a norm's sums): so every op gives the bytes that it
 * gives for the whole picture. */
#ifndef DC_VAE_STRIPS_H
#define DC_VAE_STRIPS_H
#include "vae/vae.h"

enum { MOST_STRIPS = 64 };
#define KL_EPS 1e-6f /* of every group norm; not in the config */

/* From top to bottom; n == 1: the whole, also of several pictures. */
typedef struct strips {
    dc_tensor at[MOST_STRIPS];
    int n, height; /* height: rows of all of them */
} strips;

/* Views into x of `rows` rows each, the last one of what is left; rows 0: x as a whole. */
strips strips_cut(dc_tensor x, int rows);
dc_tensor strips_join(dc_run *r, const strips *x);
/* Strip i of a convolution's result; a resize is to twice the strip's size. */
dc_tensor strips_conv(dc_run *r, const strips *x, int i, const dc_param *k, dc_conv_opt o);
/* Group norm and SiLU, the prologue of what reads x; or in two steps, where a strip is there for a while only: sums of each, then the prologue. */
dc_pre strips_norm(dc_run *r, const strips *x, const dc_param *norm, int groups);
dc_tensor strips_sums(dc_run *r, const strips *x, int i);
dc_pre strips_norm_of(dc_run *r, const strips *x, const dc_tensor *sums, const dc_param *norm, int groups);

#endif
