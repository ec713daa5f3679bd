/* sampler.h - a sampler is data: rows of coefficients, one row a model evaluation, run by one loop.
 *
 * Levels: x = a x0 + s eps with a*a + s*s = 1 (states are kept at unit variance, so c_in is 1). Registers:
 *   X current x, where the model is evaluated · O converted output · H0 H1 H2 kept outputs · S one saved x · Z fresh noise
 * Loop, all from the old registers: M = model(X, t); O = kx X + km M; x0 preview = px X + pm M; Z if draw;
 *   X' = x . (X O H0 H1 H2 S Z);  S' = s . (same), or unchanged when save is false;  H[slot] = O. */
#ifndef DC_SCHEDULER_SAMPLER_H
#define DC_SCHEDULER_SAMPLER_H
#include "base/json.h"
#include "base/status.h"
#include <stdbool.h>

enum { DC_REG_X, DC_REG_O, DC_REG_H0, DC_REG_H1, DC_REG_H2, DC_REG_S, DC_REG_Z, DC_REGS };

typedef struct dc_row {
    double t;     /* what the model is told; may be fractional                          */
    double sigma; /* Karras sigma of this evaluation (information; infinity at zero SNR) */
    double c_in;  /* the model is given c_in * X (1 for unit-variance states)            */
    double kx, km, px, pm;
    double x[DC_REGS], s[DC_REGS];
    int slot;                    /* 0..2, or -1: O is not kept                                          */
    bool save;                   /* S' is written                                                       */
    bool draw;                   /* one unit noise is taken from the generator                          */
    bool begins_step;            /* first row of a step: progress and previews count these              */
    double sigma_from, sigma_to; /* with draw: the Karras sigmas between which k-diffusion asks its noise sampler for this noise */
} dc_row;

typedef enum dc_prediction { DC_PREDICT_EPSILON, DC_PREDICT_V, DC_PREDICT_SAMPLE } dc_prediction;

/* The model's noise schedule and defaults: scheduler_config.json. A key that is absent keeps `has_* == false`
 * or its marker, since each scheduler class has its own default for it. */
typedef struct dc_noise_config {
    char class_name[64]; /* "_class_name": decides the default sampler; "" when absent */
    int train_steps;     /* 1000 */
    double beta_start, beta_end;
    char beta_schedule[32]; /* "scaled_linear", "linear", "squaredcos_cap_v2" */
    dc_prediction prediction;
    char spacing[16];     /* "leading", "trailing", "linspace"; "": the class's default */
    int steps_offset;     /* 0 when absent */
    int set_alpha_to_one; /* 0, 1; -1: absent */
    int skip_prk_steps;   /* 0, 1; -1 */
    bool rescale_zero_snr, use_karras, use_exponential, use_beta, use_lu;
    double sigma_min, sigma_max; /* Euler's range of shaped sigmas; 0: that of the timesteps */
    int original_steps;          /* original_inference_steps (LCM), 50 */
    double timestep_scaling;     /* LCM, 10 */
    int solver_order;            /* 0: absent */
    char solver_type[16], final_sigmas_type[16], algorithm_type[24];
    int lower_order_final, euler_at_final; /* -1: absent */
    bool predict_x0;                       /* UniPC; true when absent                   */
    uint64_t uncorrected;                  /* UniPC's disable_corrector: a bit per step */
    bool clip_sample, thresholding;
    double *trained_betas; /* NULL, or train_steps values (owned) */
} dc_noise_config;
void dc_noise_config_default(dc_noise_config *c); /* as published with Stable Diffusion 1.5 */
dc_status dc_noise_config_read(dc_noise_config *c, const json_t *root, const char *path, dc_error *e);
void dc_noise_config_free(dc_noise_config *c);
/* Another prediction than the file's: "epsilon" (eps), "v" (v_prediction), "sample"; NULL leaves it. Errors: USAGE. */
dc_status dc_prediction_set(dc_noise_config *c, const char *name, dc_error *e);

/* Sampler and schedule names: canonical ("dpm++2m"), with A1111, ComfyUI, sd.cpp and diffusers class spellings as aliases
 * ("DPM++ 2M Karras" names both). Returns the canonical name, or NULL; *schedule is set when the spelling carries one. */
const char *dc_sampler_find(const char *name, const char **schedule);
const char *dc_schedule_find(const char *name);
const char *dc_sampler_label(const char *canonical);  /* A1111's spelling, "DPM++ 2M" */
const char *dc_schedule_label(const char *canonical); /* "Karras" */
const char *const *dc_sampler_names(int *n);          /* canonical, for --help and near-miss hints */
const char *const *dc_schedule_names(int *n);
const char *dc_sampler_of_class(const char *class_name); /* "PNDMScheduler" -> "pndm"; NULL: unknown */

typedef struct dc_sampler_request {
    const char *sampler;  /* canonical; NULL: the model's own */
    const char *schedule; /* "model" (NULL), "karras", ... */
    int steps;            /* 1..1000 */
    bool image_start;     /* img2img: X starts from image and noise, not from noise alone */
    double strength;      /* with image_start: share of the schedule that is run, (0,1] */
    double eta;           /* < 0: the sampler's default; above 0 only where the sampler adds noise */
    const double *sigmas; /* custom sigmas, descending, n_sigmas of them (without the final 0); NULL */
    int n_sigmas;
} dc_sampler_request;

typedef struct dc_plan {
    dc_row *rows;
    int n_rows;
    int steps;                        /* rows that begin a step */
    double c_image, c_noise, c_churn; /* START: X = c_image image + c_noise noise (+ c_churn noise2) */
    double init_sigma;                /* diffusers' init_noise_sigma (information) */
    double *timesteps, *sigmas;       /* as the scheduler class lists them: n_timesteps, n_sigmas (information, `diffc schedule`) */
    int n_timesteps, n_sigmas;
    bool brownian;                  /* k-diffusion takes this sampler's noises from a Brownian tree by default ... */
    double sigma_min, sigma_max;    /* ... over these sigmas: the lowest above 0 and the highest of those that are run */
    const char *sampler, *schedule; /* canonical names of what was built */
} dc_plan;
/* Pure and in float64. Errors: USAGE (unknown or impossible combination, steps out of range), NO_MEMORY. */
dc_status dc_plan_build(dc_plan *p, const dc_noise_config *c, const dc_sampler_request *q, dc_error *e);
void dc_plan_free(dc_plan *p);

#endif
