/* strips.h - a picture's activation as strips of rows, each a tensor of its own: an op after the other runs over all strips, so that a strip's
 * memory is free as soon as the next op has read it and its neighbours, and a level holds one activation in place of three. Group norms add up
 * sums over all strips first. In still less memory, what a norm or a residual asks for once more is computed again instead of kept. Private to this folder.
 *
 * Strips begin at multiples of 4 rows (Winograd's tiles) and of dc_norm_rows (the blocks of a norm's sums): so every op gives the bytes that it
 * gives for the whole picture. */
#ifndef DC_VAE_STRIPS_H
#define DC_VAE_STRIPS_H
#include "vae/vae.h"

enum { MOST_STRIPS = 64 };
#define KL_EPS 1e-6f /* of every group norm; not in the config */

/* From top to bottom; n == 1: the whole, also of several pictures. With `low` they are not kept: an upsampling convolution of those makes them,
 * in turn, as they are asked for, each time that somebody goes through them. */
typedef struct strips {
    dc_tensor at[MOST_STRIPS];
    int n, height; /* height: rows of all of them */
    const struct strips *low;
    const dc_param *up;
    int made; /* in this turn */
} strips;

/* Views into x of `rows` rows each, the last one of what is left; rows 0: x as a whole. */
strips strips_cut(dc_tensor x, int rows);
dc_tensor strips_join(dc_run *r, const strips *x);
/* Strip i of a convolution's result; a resize is to twice the strip's size. */
dc_tensor strips_conv(dc_run *r, const strips *x, int i, const dc_param *k, dc_conv_opt o);
/* Strip i of twice the size: the nearest of 2x2 pixels, then a convolution. */
dc_tensor strips_up(dc_run *r, const strips *x, int i, const dc_param *k);
/* Strips up to i are there. Their turn begins again after strips_norm and strips_rewind. */
void strips_need(dc_run *r, strips *x, int i);
static inline void strips_rewind(strips *x) { x->made = 0; }
/* Group norm and SiLU, the prologue of what reads x; or in two steps, where a strip is there for a while only: sums of each, then the prologue. */
dc_pre strips_norm(dc_run *r, strips *x, const dc_param *norm, int groups);
dc_tensor strips_sums(dc_run *r, const strips *x, int i);
dc_pre strips_norm_of(dc_run *r, const strips *x, const dc_tensor *sums, const dc_param *norm, int groups);

#endif
