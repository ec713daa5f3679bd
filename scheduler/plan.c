/* plan.c - a sampler, a schedule and a step count become rows, with the defaults of diffusers' scheduler classes. */
#include "base/checked.h"
#include "base/text.h"
#include "scheduler/rows.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where a class's levels come from. */
typedef enum family {
    SIGMA_SPACE, /* n points, fractional timesteps, starts at noise * sigma (Euler, Heun, LMS)   */
    ROUNDED,     /* n+1 points of which the last is dropped, whole timesteps (DPM-Solver, UniPC) */
    TIMESTEPS,   /* levels at whole timesteps, next step by t - T/n (DDIM, PNDM)                 */
    LCM          /* timesteps of the distillation                                                */
} family;

typedef struct sampler_row {
    const char *name;
    family family;
    const char *spacing; /* the class's default */
    bool alpha_to_one;   /* the class's default of set_alpha_to_one */
    void (*make)(build *x);
} sampler_row;

static const sampler_row samplers[] = {
    {"euler", SIGMA_SPACE, "linspace", false, build_first_order},
    {"euler_a", SIGMA_SPACE, "linspace", false, build_ancestral},
    {"heun", SIGMA_SPACE, "linspace", false, build_heun},
    {"lms", SIGMA_SPACE, "linspace", false, build_lms},
    {"dpm++2m", ROUNDED, "linspace", false, build_dpmpp_2m},
    {"unipc", ROUNDED, "linspace", false, build_unipc},
    {"ddim", TIMESTEPS, "leading", true, build_first_order},
    {"pndm", TIMESTEPS, "leading", false, build_pndm},
    {"lcm", LCM, "leading", true, build_lcm},
};

/* numpy rounds halves to even; the default rounding mode of C's rint does too */
static double round_even(double x) { return rint(x); }

/* ---- timesteps. Ref: set_timesteps of the scheduler classes ------------------------------------------------------------ */

static void spaced(double *t, const sampler_row *s, const dc_noise_config *c, int n)
{
    const char *spacing = *c->spacing ? c->spacing : s->spacing;
    int T = c->train_steps, more = s->family == ROUNDED;
    for (int i = 0; i < n; i++) {
        if (!strcmp(spacing, "linspace")) {
            int points = n + more;
            t[i] = points > 1 ? (double)(T - 1) * (points - 1 - i) / (points - 1) : 0;
            if (points == 1) t[i] = 0;
            if (s->family != SIGMA_SPACE) t[i] = round_even(t[i]);
        } else if (!strcmp(spacing, "leading")) {
            t[i] = (double)(n + more - 1 - i) * (T / (n + more)) + c->steps_offset;
        } else {
            t[i] = round_even(T - i * ((double)T / n)) - 1;
        }
    }
}

/* Ref: Luo et al. 2023; diffusers LCMScheduler.set_timesteps: n of the `original` distillation steps, evenly by index. */
static dc_status lcm_timesteps(double *t, const dc_noise_config *c, int n, dc_error *e)
{
    int original = c->original_steps, k = c->train_steps / original;
    if (n > original) return dc_fail(e, DC_USAGE, "steps: found %d, expected at most %d with lcm", n, original);
    for (int i = 0; i < n; i++) t[i] = (original - (int)floor((double)i * original / n)) * k - 1;
    return DC_OK;
}

/* ---- noise levels --------------------------------------------------------------------------------------------------------- */

/* Ref: Karras et al. 2022, eq. 5, rho 7. */
static void karras(double *sigma, double high, double low, int n)
{
    double a = pow(high, 1.0 / 7), b = pow(low, 1.0 / 7);
    for (int i = 0; i < n; i++) sigma[i] = pow(a + (n > 1 ? (double)i / (n - 1) : 0) * (b - a), 7);
}

static void exponential(double *sigma, double high, double low, int n)
{
    for (int i = 0; i < n; i++) sigma[i] = exp(log(high) + (n > 1 ? (double)i / (n - 1) : 0) * (log(low) - log(high)));
}

typedef enum shape { MODEL, KARRAS, EXPONENTIAL, CUSTOM } shape;

static dc_status find_shape(shape *out, const dc_noise_config *c, const dc_sampler_request *q, const sampler_row *s, dc_error *e)
{
    const char *name = q->schedule ? q->schedule : "model";
    *out = MODEL;
    if (q->n_sigmas > 0) *out = CUSTOM;
    else if (!strcmp(name, "karras") || (!strcmp(name, "model") && c->use_karras)) *out = KARRAS;
    else if (!strcmp(name, "exponential") || (!strcmp(name, "model") && c->use_exponential)) *out = EXPONENTIAL;
    else if (strcmp(name, "model")) return dc_fail(e, DC_USAGE, "scheduler: found %s, expected model, karras or exponential", name);
    bool sigma_based = s->family == SIGMA_SPACE || s->family == ROUNDED;
    if (*out == MODEL || sigma_based) return DC_OK;
    if (q->n_sigmas == 0 && !strcmp(name, "model")) { /* a flag in the model's file that this class does not read */
        *out = MODEL;
        return DC_OK;
    }
    dc_status st = dc_fail(e, DC_USAGE, "scheduler: found %s with the sampler %s, which has its own timesteps",
                           *out == CUSTOM ? "custom sigmas" : name, s->name);
    dc_hint(e, "Samplers that take it: euler, euler_a, heun, lms, dpm++2m, unipc.");
    return st;
}

static dc_status check_sigmas(const dc_sampler_request *q, dc_error *e)
{
    for (int i = 0; i < q->n_sigmas; i++)
        if (!(q->sigmas[i] > 0 && q->sigmas[i] < 1e6) || (i && !(q->sigmas[i] < q->sigmas[i - 1])))
            return dc_fail(e, DC_USAGE, "sigmas: value %d: found %.10g, expected positive numbers, each below the one before", i + 1, q->sigmas[i]);
    return DC_OK;
}

/* Sigmas and timesteps of the n levels. */
static void sigma_levels(const sampler_row *s, shape how, const dc_noise_config *c, const noise_table *T, const dc_sampler_request *q, int n,
                         double *t, double *sigma)
{
    spaced(t, s, c, n);
    for (int i = 0; i < n; i++) sigma[i] = noise_sigma_of_t(T, t[i]);
    if (how == MODEL) return;
    bool own = s->family == SIGMA_SPACE; /* between the first and last level of the spacing, else of the whole table */
    double high = own ? sigma[0] : T->sigma[T->n - 1], low = own ? sigma[n - 1] : T->sigma[0];
    if (how == KARRAS) karras(sigma, high, low, n);
    else if (how == EXPONENTIAL) exponential(sigma, high, low, n);
    else memcpy(sigma, q->sigmas, (size_t)n * sizeof *sigma);
    for (int i = 0; i < n; i++) {
        t[i] = noise_t_of_sigma(T, sigma[i]);
        if (!own) t[i] = how == EXPONENTIAL ? trunc(t[i]) : round_even(t[i]); /* diffusers casts here and rounds there */
    }
}

static level level_or_final(const build *x, double t) { return t >= 0 ? level_of_t(x->b->table, t) : x->final; }

/* ---- lists for `diffc schedule` ---------------------------------------------------------------------------------------------- */

/* One timestep a model evaluation; sigmas as the class lists them (Heun repeats the inner ones). */
static dc_status make_lists(dc_plan *p, const build *x, const double *sigma, double end, bool heun, dc_error *e)
{
    p->timesteps = dc_calloc((size_t)p->n_rows, sizeof(double));
    p->sigmas = dc_calloc((size_t)(2 * x->n + 1), sizeof(double));
    if (!p->timesteps || !p->sigmas) return dc_fail_memory(e, "a schedule", (unsigned long long)p->n_rows * 8);
    p->n_timesteps = p->n_rows;
    for (int i = 0; i < p->n_rows; i++) p->timesteps[i] = p->rows[i].t;
    for (int i = 0; i < x->n; i++)
        for (int k = 0; k < (heun && i ? 2 : 1); k++) p->sigmas[p->n_sigmas++] = sigma[i];
    p->sigmas[p->n_sigmas++] = end;
    return DC_OK;
}

/* ---- the whole -------------------------------------------------------------------------------------------------------------------- */

static const sampler_row *find_sampler(const char *name)
{
    for (size_t i = 0; i < sizeof samplers / sizeof *samplers; i++)
        if (!strcmp(samplers[i].name, name)) return &samplers[i];
    return NULL;
}

/* The tail of the schedule that image-to-image runs. Ref: diffusers get_timesteps. */
static int tail(int n, const dc_sampler_request *q)
{
    if (!q->image_start) return n;
    int run = (int)(n * q->strength);
    return run > n ? n : run;
}

/* Everything of one call that must be freed. */
typedef struct work {
    noise_table table;
    double *t, *sigma;
    level *L, *target;
} work;

static void work_free(work *w)
{
    noise_table_free(&w->table);
    free(w->t);
    free(w->sigma);
    free(w->L);
    free(w->target);
}

/* The n levels and the final one, in the way of the sampler's family. */
static dc_status fill_levels(work *w, build *x, const sampler_row *s, shape how, int n, double *end, dc_error *e)
{
    const dc_noise_config *c = x->c;
    dc_status st = DC_OK;
    *end = 0;
    if (s->family == SIGMA_SPACE || s->family == ROUNDED) {
        sigma_levels(s, how, c, &w->table, x->q, n, w->t, w->sigma);
        if (s->family == ROUNDED && !strcmp(c->final_sigmas_type, "sigma_min")) *end = how == CUSTOM ? w->sigma[n - 1] : w->table.sigma[0];
        for (int i = 0; i < n; i++) w->L[i] = level_of_sigma(w->sigma[i], w->t[i]);
        w->L[n] = level_of_sigma(*end, 0);
        return DC_OK;
    }
    bool to_one = c->set_alpha_to_one < 0 ? s->alpha_to_one : c->set_alpha_to_one;
    x->final = to_one ? (level){1, 0, 0} : level_of_t(&w->table, 0);
    x->ratio = c->train_steps / n;
    if (s->family == LCM) st = lcm_timesteps(w->t, c, n, e);
    else spaced(w->t, s, c, n);
    for (int i = 0; !st && i < n; i++) {
        w->L[i] = level_of_t(&w->table, w->t[i]);
        w->sigma[i] = level_sigma(w->L[i]);
        w->target[i] = level_or_final(x, w->t[i] - x->ratio);
    }
    w->L[n] = x->final;
    *end = level_sigma(x->final);
    return st;
}

/* X = c_image image + c_noise noise. Text-to-image in sigma space starts at noise * init_sigma (in units of x0), image-to-image at the
 * level itself. */
static void set_start(dc_plan *p, const build *x, const sampler_row *s, const double *sigma)
{
    const char *spacing = *x->c->spacing ? x->c->spacing : s->spacing;
    level first = s->family == TIMESTEPS ? level_of_t(x->b->table, p->rows[0].t) : x->L[0]; /* pndm begins where its own list does */
    p->init_sigma = 1;
    if (s->family == SIGMA_SPACE) p->init_sigma = !strcmp(spacing, "leading") ? hypot(1, sigma[0]) : sigma[0];
    p->c_image = x->q->image_start ? first.a : 0;
    p->c_noise = x->q->image_start ? first.s : s->family == SIGMA_SPACE ? p->init_sigma * first.a : 1;
}

static dc_status build_plan(dc_plan *p, work *w, const dc_noise_config *c, const dc_sampler_request *q, const sampler_row *s, int n, dc_error *e)
{
    shape how;
    double end;
    dc_status st = find_shape(&how, c, q, s, e);
    if (!st) st = check_sigmas(q, e);
    if (!st) st = noise_table_make(&w->table, c, s->family == SIGMA_SPACE || s->family == ROUNDED, e);
    if (st) return st;
    w->t = dc_calloc((size_t)n, sizeof *w->t);
    w->sigma = dc_calloc((size_t)n, sizeof *w->sigma);
    w->L = dc_calloc((size_t)n + 1, sizeof *w->L);
    w->target = dc_calloc((size_t)n, sizeof *w->target);
    if (!w->t || !w->sigma || !w->L || !w->target) return dc_fail_memory(e, "a schedule", (unsigned long long)n * 64);

    builder b = {.plan = p, .prediction = c->prediction, .table = &w->table};
    build x = {.b = &b, .c = c, .q = q, .full = n, .final_at = level_or_final};
    st = fill_levels(w, &x, s, how, n, &end, e);
    if (st) return st;
    int skip = n - tail(n, q);
    if (skip == n) return dc_fail(e, DC_USAGE, "strength: found %.6g, which leaves no step of %d, expected at least %.6g", q->strength, n, 1.0 / n);
    x.L = w->L + skip;
    x.all = w->L;
    x.target = s->family == TIMESTEPS ? w->target + skip : NULL;
    x.n = n - skip;
    s->make(&x);
    if (b.failed) return dc_fail_memory(e, "the sampler's rows", (unsigned long long)n * sizeof(dc_row));
    set_start(p, &x, s, w->sigma + skip);
    return make_lists(p, &x, w->sigma + skip, end, !strcmp(s->name, "heun"), e);
}

dc_status dc_plan_build(dc_plan *p, const dc_noise_config *c, const dc_sampler_request *q, dc_error *e)
{
    *p = (dc_plan){0};
    const char *name = q->sampler ? q->sampler : dc_sampler_of_class(c->class_name);
    if (!name) name = "euler"; /* a class we do not have: the plainest sampler, told by the caller */
    const sampler_row *s = find_sampler(name);
    int n = q->n_sigmas > 0 ? q->n_sigmas : q->steps;
    if (!s) return dc_fail(e, DC_USAGE, "sampler: found %s, expected a known one", name);
    if (n < 1 || n > 1000 || n > c->train_steps)
        return dc_fail(e, DC_USAGE, "steps: found %d, expected 1 to %d", n, c->train_steps < 1000 ? c->train_steps : 1000);
    work w = {0};
    dc_status st = build_plan(p, &w, c, q, s, n, e);
    work_free(&w);
    p->sampler = s->name;
    p->schedule = q->n_sigmas > 0 ? "custom" : q->schedule ? q->schedule : "model";
    if (st) dc_plan_free(p);
    return st;
}

void dc_plan_free(dc_plan *p)
{
    free(p->rows);
    free(p->timesteps);
    free(p->sigmas);
    *p = (dc_plan){0};
}
