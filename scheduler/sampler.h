/* sampler.h - a sampler is data: rows of coefficients, one row a model evaluation, run by one loop.
 *
 * Levels: x = a x0 + s eps with a*a + s*s = 1 (states are kept at unit variance, so c_in is 1). Registers:
 *   X current x, where the model is evaluated · O converted output · H0 H1 H2 kept outputs · S one saved x · Z fresh noise
 *   U the unconditional output, converted as O is (O itself without guidance)
 * Loop, all from the old registers: M = model(X, t); O = kx X + km M; x0 preview = px X + pm M; Z if draw;
 *   X' = x . (X O H0 H1 H2 S Z U);  S' = s . (same), or unchanged when save is false;  H[slot] = O, or U with keep_u. */
#ifndef DC_SCHEDULER_SAMPLER_H
#define DC_SCHEDULER_SAMPLER_H
#include "base/json.h"
#include "base/status.h"
#include <stdbool.h>

enum { DC_REG_X, DC_REG_O, DC_REG_H0, DC_REG_H1, DC_REG_H2, DC_REG_S, DC_REG_Z, DC_REG_U, DC_REGS };

typedef struct dc_row {
    double t;     /* what the model is told; may be fractional                          */
    double sigma; /* Karras sigma of this evaluation (information; infinity at zero SNR) */
    double c_in;  /* the model is given c_in * X (1 for unit-variance states)            */
    double kx, km, px, pm;
    double x[DC_REGS], s[DC_REGS];
    int slot;                    /* 0..2, or -1: O is not kept                                          */
    bool keep_u;                 /* what is kept is U                                                   */
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

/* Whose rules build the levels. DIFFUSERS: the scheduler class of the sampler's name, with the keys of the model's file. The two others
 * are k-diffusion's: sigmas of the whole training table, x in its sigma space, timesteps found by log sigma (ComfyUI: the nearest whole
 * one), their own defaults, ranges and image-to-image rules; of the file only betas and prediction count. docs/samplers.md has them all. */
typedef enum dc_program { DC_DIFFUSERS, DC_A1111, DC_COMFYUI } dc_program;

typedef struct dc_sampler_request {
    const char *sampler;  /* canonical; NULL: the model's own */
    const char *schedule; /* "model" (NULL), "karras", ... */
    dc_program program;
    bool sdxl;                        /* which table "ays" means */
    int steps;                        /* 1..1000 */
    bool image_start;                 /* img2img: X starts from image and noise, not from noise alone */
    double strength;                  /* with image_start: share of the schedule that is run, (0,1] */
    double eta;                       /* < 0: the sampler's default; above 0 only where the sampler adds noise */
    double s_churn, s_tmin, s_tmax;   /* Karras et al. 2022: churn, between these sigmas (s_tmax 0: no limit) */
    double s_noise;                   /* scale of every noise a sampler adds; 0: 1 */
    double sigma_min, sigma_max, rho; /* range and exponent of k-diffusion's schedules that have them; 0: the table's, the schedule's own */
    int order;                        /* 1..3 for solvers that have a choice; 0: the model's or sampler's own */
    const char *solver;               /* "midpoint", "heun", "bh1", "bh2"; NULL: the model's or sampler's own */
    const double *sigmas;             /* custom sigmas, descending, n_sigmas of them (without the final 0); NULL */
    int n_sigmas;
} dc_sampler_request;

/* A trial of dpm_adaptive: what its rows leave in X' (the finer solution) and S' (the coarser). */
typedef struct dc_trial {
    double a, a_before, rtol, atol; /* for dc_trial_error */
    double keep, noise;             /* the x of an accepted trial is keep X' + noise Z; Z is drawn even for a factor of 0 */
    double sigma_from, sigma_to;    /* where that noise lives */
    double progress;                /* share of the way that is done, 0..1 */
} dc_trial;

typedef struct dc_plan {
    dc_row *rows;
    int n_rows;
    int steps;                        /* rows that begin a step; a schedule may have others than were asked for */
    bool unconditional;               /* U is read: the model must be asked without the prompt even at a guidance of 1 */
    double guidance_factor;           /* what the guidance is to be multiplied with: 1, but for ddim_cfg_pp */
    double c_image, c_noise, c_churn; /* START: X = c_image image + c_noise noise (+ c_churn noise2) */
    bool draw_churn;                  /* noise2 is drawn, even if its factor is 0 */
    double init_sigma;                /* diffusers' init_noise_sigma (information) */
    double *timesteps, *sigmas;       /* as the scheduler class lists them: n_timesteps, n_sigmas (information, `diffc schedule`) */
    int n_timesteps, n_sigmas;
    bool brownian;                  /* k-diffusion takes this sampler's noises from a Brownian tree by default ... */
    double sigma_min, sigma_max;    /* ... over these sigmas: the lowest above 0 and the highest of those that are run */
    const char *sampler, *schedule; /* canonical names of what was built */
    struct dc_adaptive *adaptive;   /* dpm_adaptive: rows are those of one trial, from x; dc_plan_next has the next. NULL */
    dc_trial trial;
    int row_room;
} dc_plan;
/* Pure and in float64. Errors: USAGE (unknown or impossible combination, steps out of range), NO_MEMORY. */
dc_status dc_plan_build(dc_plan *p, const dc_noise_config *c, const dc_sampler_request *q, dc_error *e);
void dc_plan_free(dc_plan *p);

/* dpm_adaptive after a trial's rows have run from x. error: their dc_trial_error. Accepted: x = keep X' + noise Z by the trial that was (read it
 * before), and its S' is `before` from now on; else x stays. Puts the next trial's rows into p; n_rows is 0 when sigma's end is reached.
 * Errors: INTERNAL (it does not converge), NO_MEMORY. */
dc_status dc_plan_next(dc_plan *p, double error, bool *accepted, dc_error *e);
dc_status dc_plan_rewind(dc_plan *p, dc_error *e); /* to the first trial again */
/* Root mean square of (low - high) by what is tolerated, in sigma space. before: S' of the trial accepted last, the start at first; n numbers. */
double dc_trial_error(const dc_trial *t, const float *high, const float *low, const float *before, size_t n);

#endif
