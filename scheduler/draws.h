/* draws.h - where the noises of a batch of pictures come from: which generators, seeded how, drawn in what order.
 *
 * Every program has rules of its own; pictures of a seed are the same only where all of them are. docs/noise.md has the table. */
#ifndef DC_SCHEDULER_DRAWS_H
#define DC_SCHEDULER_DRAWS_H
#include "base/status.h"
#include "scheduler/brownian.h"
#include "scheduler/sampler.h"

typedef struct dc_convention {
    const char *name, *aliases; /* '|' between the latter */
    dc_rng_kind start;          /* generator of the start noise */
    bool whole_batch; /* one generator, seeded as the batch's first picture, draws [n,C,h,w] at once; else each picture has one, seeded seed + i */
    bool apart;       /* noises of steps come from a generator of their own, seeded seed + steps_delta; else from the start noise's, which goes on */
    dc_rng_kind steps;
    uint64_t steps_delta;
    bool brownian;      /* the SDE samplers take their noises from a Brownian motion ... */
    dc_rng_kind tree;   /* ... drawn by this generator: one a picture, or with whole_batch one for all */
    bool posterior;     /* latents of a start image are drawn from the encoder's distribution, first of all; else its mean is taken */
    dc_program program; /* whose schedules and starts go with it */
    const char *label;  /* "RNG" in A1111's text; NULL: its own default, which it leaves out */
} dc_convention;
const dc_convention *dc_convention_find(const char *name); /* NULL: unknown */
const char *const *dc_convention_names(int *n);            /* canonical, for messages */

/* What a request says about its noises. */
typedef struct dc_noise_wish {
    const dc_convention *convention;
    uint64_t seed; /* of picture 0 */
    /* A1111's variation: start noise turned from that of `seed` (then the same for all pictures) towards that of variation_seed + i by the share
     * variation_strength; 0: none. Not with whole_batch, nor are the next two. */
    uint64_t variation_seed;
    double variation_strength;
    int from_w, from_h; /* A1111's seed resize: start noise of that latent size in the middle; 0: none */
    int64_t ensd;       /* A1111's eta noise seed delta: after the start noise, generators begin anew with seed + ensd; 0: they go on */
} dc_noise_wish;
/* Seeds of picture i in batches of `batch`: what its generators begin with. */
uint64_t dc_wish_seed(const dc_noise_wish *q, int i, int batch);
uint64_t dc_wish_variation_seed(const dc_noise_wish *q, int i);

/* The noises of pictures first .. first + n - 1, one batch. */
typedef struct dc_draws {
    dc_noise_wish wish;
    int first, n, channels, w, h;
    size_t latent;       /* numbers a picture */
    dc_rng *rng, *apart; /* [n], or [1] with whole_batch; [1]: with convention->apart */
    bool moves;          /* noises of steps are a Brownian motion's */
    dc_brownian *motion; /* as many as rng */
    float *scratch;      /* 3 draws */
} dc_draws;
/* sigma_min, sigma_max: range of the Brownian motion, for samplers that k-diffusion gives one (0, 0: it does not). Errors: NO_MEMORY. */
dc_status dc_draws_make(dc_draws *s, const dc_noise_wish *q, int first, int n, int channels, int h, int w, double sigma_min, double sigma_max,
                        dc_error *e);
void dc_draws_free(dc_draws *s);
/* Each gives unit noises [n,C,h,w], in this order: the posterior's (only where convention->posterior; all pictures the same with whole_batch), the
 * start noise, then one a row that draws, living between two sigmas (the same twice: a noise that is no part of a motion); and, where a pipeline has them, further posteriors' at any time. */
void dc_draws_posterior(dc_draws *s, float *out);
void dc_draws_start(dc_draws *s, float *out);
void dc_draws_step(dc_draws *s, double from, double to, float *out);

#endif
