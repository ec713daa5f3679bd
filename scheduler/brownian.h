/* brownian.h - the noise of k-diffusion's SDE samplers: one Brownian motion over sigma, looked at between two sigmas.
 *
 * The motion of a seed does not depend on where it is looked at: every halving of its range has a seed of its own, and with it the noise that
 * tells the two halves apart. So a sampler with other steps walks along the same path. Ref: Kidger et al. 2021 (Brownian Interval); torchsde's
 * BrownianTree as k-diffusion's BrownianTreeNoiseSampler calls it, tolerance 1e-6, pool of 24 words, no Levy area. */
#ifndef DC_SCHEDULER_BROWNIAN_H
#define DC_SCHEDULER_BROWNIAN_H
#include "scheduler/rng.h"
#include <stdbool.h>

/* A motion; plain data. */
typedef struct dc_brownian {
    dc_rng_kind kind; /* generator that draws each node's noise */
    uint64_t seed;
    float low, high; /* its range, float32 as torch's sigmas are; look-ups outside of it are moved to its ends */
} dc_brownian;

/* False: there is none over this range (an endless one, from zero terminal SNR). */
bool dc_brownian_make(dc_brownian *b, dc_rng_kind kind, uint64_t seed, double sigma_min, double sigma_max);
/* out[n] = (B(to) - B(from)) / sqrt(|to - from|), a unit noise; zeros where the range leaves nothing between the two. scratch [3 n]. In float32
 * as torch computes: the same up to the last bits of its logarithm, sine and cosine, and to the order of a sum. */
void dc_brownian_noise(const dc_brownian *b, double from, double to, float *out, size_t n, float *scratch);

#endif
