/* rows.h - what the sampler builders share; private to this folder. Formulas and traps: docs/samplers.md. */
#ifndef DC_SCHEDULER_ROWS_H
#define DC_SCHEDULER_ROWS_H
#include "scheduler/sampler.h"

/* ---- noise.c: the training schedule */
typedef struct noise_table {
    int n;
    double *ac, *sigma, *log_sigma; /* alphas_cumprod, Karras sigma and its log at each training timestep */
} noise_table;
/* floor_last: zero terminal SNR, held at 2^-24 for samplers that cannot take sigma = infinity. */
dc_status noise_table_make(noise_table *t, const dc_noise_config *c, bool floor_last, dc_error *e);
void noise_table_free(noise_table *t);
/* Timestep of a sigma (fractional, linear in log sigma), and sigma of a timestep (linear in sigma, as diffusers' sigma-space classes). */
double noise_t_of_sigma(const noise_table *t, double sigma);
double noise_sigma_of_t(const noise_table *t, double timestep);

/* ---- levels: x = a x0 + s eps, a*a + s*s = 1, and the timestep that the model is told. */
typedef struct level {
    double a, s, t;
} level;
static inline double level_sigma(level l) { return l.s / l.a; }
level level_of_sigma(double sigma, double t);
level level_of_t(const noise_table *t, double timestep); /* at a whole timestep */
double level_lambda(level l);                            /* log(a/s) */

/* ---- rows.c: building a plan row by row. Terms of a row, by name; P1 is the output kept last, P2 the one before, P3. */
enum { T_X, T_O, T_P1, T_P2, T_P3, T_S, T_Z, TERMS };
typedef struct terms {
    double k[TERMS];
} terms;
typedef enum wanted { WANT_X0, WANT_EPS, WANT_RAW } wanted; /* what O is */

typedef struct builder {
    dc_plan *plan;
    dc_prediction prediction;
    const noise_table *table;
    int slot[3], kept; /* slots of kept outputs, newest first */
    int room;
    bool failed; /* memory ran out */
} builder;

typedef struct row_spec {
    wanted want;
    terms x;
    const terms *s; /* NULL: S stays */
    bool keep;      /* O is kept */
    bool draw;      /* a noise is drawn even if its factor is 0 */
    bool inner;     /* not the first row of its step */
} row_spec;
void builder_row(builder *b, level at, row_spec r);
/* Scales and sums of terms. */
terms terms_sum(double f, terms a, double g, terms b);

/* Level `to` split for ancestral steps: down*down + up*up = to.s*to.s. */
void level_split(level from, level to, double eta, double *down, double *up);
/* a' x0 + s' eps written over x (or S) and x0. */
terms move_terms(level from, double to_a, double to_s, int base);
/* x'/a' = base/a + (sum of the eps terms), the latter to be filled in by the caller times to.a. */
terms ode_terms(level from, level to, int base);

/* ---- the samplers: one builder each; L holds n levels and the final one, L[n] */
typedef struct build {
    builder *b;
    const dc_noise_config *c;
    const dc_sampler_request *q;
    level *L;
    const level *all;                                          /* levels of the whole schedule; L begins at all[full - n] */
    int n;                                                     /* steps that are run */
    int full;                                                  /* steps of the whole schedule (img2img runs its last n) */
    const level *target;                                       /* DDIM: where step i leads, when that is not L[i+1] */
    int ratio;                                                 /* DDIM, PNDM: training steps between two steps */
    level (*final_at)(const struct build *x, double timestep); /* level at a timestep, below 0 the final one */
    level final;
} build;
void build_first_order(build *x); /* euler, ddim */
void build_ancestral(build *x);   /* euler_a */
void build_heun(build *x);
void build_lms(build *x);
void build_dpmpp_2m(build *x);
void build_unipc(build *x);
void build_pndm(build *x);
void build_lcm(build *x);

#endif
