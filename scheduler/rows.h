/* rows.h - what the sampler builders share; private to this folder. Formulas and traps: docs/samplers.md. */
#ifndef DC_SCHEDULER_ROWS_H
#define DC_SCHEDULER_ROWS_H
#include "scheduler/sampler.h"

/* ---- noise.c: the training schedule */
typedef struct noise_table {
    int n;
    double *ac, *sigma, *log_sigma; /* alphas_cumprod, Karras sigma and its log at each training timestep */
    bool nearest;                   /* a sigma's timestep is the nearest whole one (ComfyUI) */
} noise_table;
/* What becomes of "rescale_betas_zero_snr": the last level without any signal, the same held at 2^-24 for samplers that cannot take
 * sigma = infinity, or nothing, for classes that do not know the key; K: floored as A1111 and ComfyUI do. */
typedef enum zero_snr { ZERO_SNR_IGNORED, ZERO_SNR_KEPT, ZERO_SNR_FLOORED, ZERO_SNR_K } zero_snr;
dc_status noise_table_make(noise_table *t, const dc_noise_config *c, zero_snr zero, dc_error *e);
void noise_table_free(noise_table *t);
/* Timestep of a sigma (fractional, linear in log sigma, unless `nearest`), and sigma of a timestep (linear in sigma, as diffusers' sigma-space
 * classes, or in log sigma, as k-diffusion). */
double noise_t_of_sigma(const noise_table *t, double sigma);
double noise_sigma_of_t(const noise_table *t, double timestep);
double noise_log_linear(const noise_table *t, double timestep);

/* ---- levels: x = a x0 + s eps, a*a + s*s = 1 (but for a final one, see plan.c), and the timestep that the model is told. */
typedef struct level {
    double a, s, t;
} level;
static inline double level_sigma(level l) { return l.s / l.a; }
level level_of_sigma(double sigma, double t);
level level_of_t(const noise_table *t, double timestep);     /* at a whole timestep */
level level_between(const noise_table *table, double sigma); /* with the timestep found in the table */
double level_lambda(level l);                                /* log(a/s) */
static inline bool level_same(level x, level y) { return x.a == y.a && x.s == y.s; }

/* ---- rows.c: building a plan row by row. Terms of a row, by name; P1 is the output kept last, P2 the one before, P3. */
enum { T_X, T_O, T_P1, T_P2, T_P3, T_S, T_Z, T_U, TERMS };
/* The j-th newest output as a term: the present one, then the kept ones. */
static inline int term_of_output(int j) { return j == 0 ? T_O : T_P1 + j - 1; }
typedef struct terms {
    double k[TERMS];
} terms;
typedef enum wanted { WANT_X0, WANT_EPS, WANT_RAW } wanted; /* what O is */

typedef struct builder {
    dc_plan *plan;
    dc_prediction prediction;
    const noise_table *table;
    int slot[3], kept;    /* slots of kept outputs, newest first */
    double s_noise;       /* scales every Z */
    double lifted, churn; /* START: what X is multiplied with, and the factor of its second noise */
    int room;
    bool failed; /* memory ran out */
} builder;

typedef struct row_spec {
    wanted want;
    terms x;
    const terms *s;  /* NULL: S stays */
    bool keep;       /* O is kept */
    bool keep_u;     /* or U */
    bool draw;       /* a noise is drawn even if its factor is 0 */
    bool inner;      /* not the first row of its step */
    double from, to; /* with a noise: sigmas between which it lives */
} row_spec;
void builder_row(builder *b, level at, row_spec r);
/* Noise that lifts the x that the last row leaves (the start, before the first) at level `from` up to `to`. */
void builder_lift(builder *b, level from, level to);
/* The same, drawn but without effect: k-diffusion draws where it does not churn. */
void builder_draw(builder *b, level at);
extern const terms terms_x; /* 1 X: what S is given when it is a copy */
/* f a + g b */
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
    double eta; /* as asked, or the sampler's own */
    dc_program who;
    bool k; /* k-diffusion's rules: levels by A1111's or ComfyUI's, or of one of their schedules */
    double s_churn, s_tmin, s_tmax;
    level *L;
    const level *all;                                          /* levels of the whole schedule; L begins at all[full - n] */
    int n;                                                     /* steps that are run */
    int full;                                                  /* steps of the whole schedule (img2img runs its last n) */
    const level *target;                                       /* DDIM: where step i leads, when that is not L[i+1] */
    int ratio;                                                 /* DDIM, PNDM: training steps between two steps */
    level (*final_at)(const struct build *x, double timestep); /* level at a timestep, below 0 the final one */
    level final;
} build;
int multistep_order(const build *x, int i, int order); /* dpm_solver.c */
level churned(build *x, int i);                        /* two_rows.c: where step i is evaluated, its L[i] lifted by the churn */
extern const double adams_bashforth[4][4];             /* [order - 1][newest first] */
void build_first_order(build *x);                      /* first_order.c: ddim */
void build_euler(build *x);
void build_ancestral(build *x); /* euler_a */
void build_ddpm(build *x);
void build_lcm(build *x);
void build_tcd(build *x);
void build_heun(build *x); /* two_rows.c */
void build_heunpp2(build *x);
void build_restart(build *x);
void build_dpm2(build *x);
void build_dpm2_ancestral(build *x);
void build_dpmpp_2s_ancestral(build *x);
void build_dpmpp_sde(build *x);
void build_lms(build *x); /* multistep.c */
void build_ipndm(build *x);
void build_ipndm_v(build *x);
void build_gradient_estimation(build *x);
void build_plms(build *x);
void build_deis(build *x);
void build_dpmpp_2m(build *x); /* dpm_solver.c */
void build_dpmpp_2m_v2(build *x);
void build_dpmpp_2m_sde(build *x);
void build_dpmpp_2m_sde_heun(build *x);
void build_dpmpp_3m_sde(build *x);
void build_dpm_solver(build *x);
void build_dpmpp_2s(build *x);
void build_dpmpp_3s(build *x);
void build_res_multistep(build *x); /* exponential.c */
void build_er_sde(build *x);
void build_euler_cfg_pp(build *x); /* cfg_pp.c */
void build_dpmpp_2m_cfg_pp(build *x);
void build_dpmpp_2s_a_cfg_pp(build *x);
void build_dpm_fast(build *x); /* dpm_step.c */
void build_dpm_adaptive(build *x);
void adaptive_free(struct dc_adaptive *a);
void build_unipc(build *x);
void build_pndm(build *x);

/* ---- plan.c's table of samplers: what the diffusers class of each does with the model's file */
typedef enum family {
    SIGMA_SPACE, /* n points, fractional timesteps, starts at noise * sigma (Euler, Heun, LMS)   */
    ROUNDED,     /* n+1 points of which the last is dropped, whole timesteps (DPM-Solver, UniPC) */
    TIMESTEPS,   /* levels at whole timesteps, next step by t - T/n (DDIM, PNDM)                 */
    DISTILLED    /* timesteps of the distillation (LCM)                                          */
} family;
enum {
    READS_ZERO_SNR = 1 << 0, /* keys of the model's file that the class knows */
    READS_FINAL_SIGMA = 1 << 1,
    READS_SIGMA_RANGE = 1 << 2,
    READS_LU = 1 << 3,
    READS_SPACING = 1 << 4,
    READS_ALPHA_TO_ONE = 1 << 5,
    READS_SDE = 1 << 6,
    ALPHA_TO_ONE = 1 << 7,    /* defaults that differ: the final level is a picture without noise */
    FINAL_SIGMA_MIN = 1 << 8, /* the final level is always the table's lowest */
    ROUNDS_KARRAS = 1 << 9,   /* a sigma-space class with whole timesteps for karras */
    NEEDS_EPS_OR_V = 1 << 10, /* what it cannot do */
    LISTS_INNER = 1 << 11,    /* its list of sigmas names each inner one twice */
    LISTS_ROWS = 1 << 22,     /* its steps are not the schedule's */
    LISTS_ENDS = 1 << 12,     /* and the final one three times */
    BROWNIAN = 1 << 13,       /* k-diffusion's noise for it is a Brownian tree */
    CHURNS = 1 << 14,         /* options that it takes */
    TAKES_ORDER = 1 << 15,
    TAKES_HEUN = 1 << 16,     /* midpoint or heun */
    TAKES_BH = 1 << 17,       /* bh1 or bh2 */
    OWN_LEVELS = 1 << 18,     /* of the schedule it takes the range alone */
    A1111_DISCARDS = 1 << 19, /* leaves out the last sigma above 0 */
    COMFY_DISCARDS = 1 << 20,
    A1111_TIMESTEPS = 1 << 21 /* A1111 has it with timesteps of its own */
};
typedef struct sampler_class {
    const char *name;
    family family;
    const char *spacing; /* the class's default */
    unsigned flags;      /* keys that the class knows, READS_*; what it cannot do; defaults that differ */
    double eta;          /* the default; below 0: the sampler has none */
    void (*make)(build *x);
    const char *automatic; /* A1111's schedule for it when none is chosen; NULL: uniform */
} sampler_class;

/* ---- spacing.c: timesteps, and the shapes that sigmas can have */
bool spacing_known(const char *name);                                     /* leading, trailing, linspace */
const char *spacing_of(const sampler_class *s, const dc_noise_config *c); /* the file's, or the class's */
void spaced_timesteps(double *t, const sampler_class *s, const dc_noise_config *c, int n);
dc_status distilled_timesteps(double *t, const dc_noise_config *c, int n, dc_error *e); /* USAGE: more than the distillation has */
typedef enum shape { SHAPE_MODEL, SHAPE_KARRAS, SHAPE_EXPONENTIAL, SHAPE_BETA, SHAPE_LU, SHAPE_CUSTOM } shape;
/* n sigmas from high to low. Not for MODEL and CUSTOM. rho: of karras, 7. */
void shaped_sigmas(double *sigma, shape how, double high, double low, double rho, int n);
/* Quantile of the symmetric beta distribution B(a, a), 0 <= p <= 1. */
double beta_quantile(double p, double a);
/* A timestep looked up for a shaped sigma, made whole as the rounding classes make it. */
double whole_timestep(double t, shape how, const sampler_class *s, const dc_noise_config *c);

/* ---- k_schedules.c: sigmas of a schedule that k-diffusion's users have. Names that only they know; for the others "k_karras", ... */
bool k_schedule_known(const char *name);
/* `steps` of them asked for; at most max(steps, T->n) are made. Returns how many, *end is the last level's. */
int k_schedule(const noise_table *T, const char *name, const dc_sampler_request *q, int steps, double *sigma, double *end);

/* ---- plan.c: everything of one call that must be freed */
typedef struct work {
    noise_table table;
    double *t, *sigma;
    level *L, *target;
    int room; /* of t, sigma, target; L has one more */
} work;
dc_status work_allocate(work *w, int room, dc_error *e);

/* ---- k_levels.c: levels by the rules of A1111, ComfyUI, or (a schedule of theirs in diffusers' convention) of k-diffusion alone */
typedef struct k_levels {
    int n, skip;             /* levels made; those that image-to-image leaves out at the beginning */
    double end;              /* sigma of the last */
    double c_image, c_noise; /* START */
    const char *schedule;    /* the name of what was built */
    void (*make)(build *x);  /* instead of the sampler's own builder; NULL */
} k_levels;
/* Whether a request is theirs. */
bool k_asked(const sampler_class *s, const dc_sampler_request *q);
dc_status k_fill(k_levels *k, work *w, const sampler_class *s, const dc_noise_config *c, const dc_sampler_request *q, dc_error *e);
/* The file's keys as they see them: none but the betas; with the solver that they take. */
void k_config(dc_noise_config *own, const sampler_class *s, const dc_sampler_request *q);

#endif
