/* plan.c - a sampler, a schedule and a step count become rows, with the defaults of diffusers' scheduler classes. */
#include "base/checked.h"
#include "base/text.h"
#include "scheduler/rows.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SPACED   READS_SPACING
#define SOLVER   (READS_SPACING | READS_ZERO_SNR | READS_FINAL_SIGMA)
#define TWO_ROWS (READS_SPACING | LISTS_INNER)
static const sampler_class samplers[] = {
    {"euler", SIGMA_SPACE, "linspace", SOLVER | READS_SIGMA_RANGE, -1, build_first_order},
    {"euler_a", SIGMA_SPACE, "linspace", SPACED | READS_ZERO_SNR, 1, build_ancestral},
    {"heun", SIGMA_SPACE, "linspace", TWO_ROWS, -1, build_heun},
    {"dpm2", SIGMA_SPACE, "linspace", TWO_ROWS | LISTS_ENDS | ROUNDS_KARRAS, -1, build_dpm2},
    {"dpm2_a", SIGMA_SPACE, "linspace", TWO_ROWS | LISTS_ENDS | ROUNDS_KARRAS, 1, build_dpm2_ancestral},
    {"dpm++2s_a", SIGMA_SPACE, "linspace", SPACED, 1, build_dpmpp_2s_ancestral},
    {"dpm++sde", SIGMA_SPACE, "linspace", SPACED | BROWNIAN, 1, build_dpmpp_sde},
    {"lms", SIGMA_SPACE, "linspace", SPACED, -1, build_lms},
    {"ipndm", SIGMA_SPACE, "linspace", SPACED, -1, build_ipndm},
    {"deis", ROUNDED, "linspace", SPACED | FINAL_SIGMA_MIN, -1, build_deis},
    {"dpm++2m", ROUNDED, "linspace", SOLVER | READS_LU, -1, build_dpmpp_2m},
    {"dpm++2m_sde", ROUNDED, "linspace", SOLVER | READS_LU | BROWNIAN, 1, build_dpmpp_2m_sde},
    {"dpm++3m_sde", ROUNDED, "linspace", SOLVER | READS_LU | BROWNIAN, 1, build_dpmpp_3m_sde},
    {"dpm++2s", ROUNDED, "linspace", READS_FINAL_SIGMA | READS_SDE, 0, build_dpmpp_2s},
    {"dpm++3s", ROUNDED, "linspace", READS_FINAL_SIGMA | READS_SDE, 0, build_dpmpp_3s},
    {"dpm_solver", ROUNDED, "linspace", SOLVER | READS_LU, -1, build_dpm_solver},
    {"unipc", ROUNDED, "linspace", SOLVER, -1, build_unipc},
    {"ddim", TIMESTEPS, "leading", SPACED | READS_ZERO_SNR | READS_ALPHA_TO_ONE | ALPHA_TO_ONE, 0, build_first_order},
    {"ddpm", TIMESTEPS, "leading", SPACED | READS_ZERO_SNR | ALPHA_TO_ONE, -1, build_ddpm},
    {"pndm", TIMESTEPS, "leading", SPACED | READS_ALPHA_TO_ONE | NEEDS_EPS_OR_V, -1, build_pndm},
    {"lcm", DISTILLED, "leading", READS_ZERO_SNR | READS_ALPHA_TO_ONE | ALPHA_TO_ONE, -1, build_lcm},
    {"tcd", DISTILLED, "leading", READS_ZERO_SNR | READS_ALPHA_TO_ONE | ALPHA_TO_ONE, 0.3, build_tcd},
};
enum { SAMPLERS = sizeof samplers / sizeof *samplers };

/* ---- what can be combined ----------------------------------------------------------------------------------------------- */

static bool sigma_based(const sampler_class *s) { return s->family == SIGMA_SPACE || s->family == ROUNDED; }

/* A hint that lists the samplers for which `fits` holds. */
static void hint_samplers(dc_error *e, const char *what, bool (*fits)(const sampler_class *s))
{
    dc_text all = {0};
    for (int i = 0; i < SAMPLERS; i++)
        if (fits(&samplers[i])) dc_text_printf(&all, "%s%s", all.length ? ", " : "", samplers[i].name);
    if (!all.failed && all.at) dc_hint(e, "%s: %s.", what, all.at);
    dc_text_free(&all);
}

static bool takes_eta(const sampler_class *s) { return s->eta >= 0; }

static dc_status check_request(const sampler_class *s, const dc_noise_config *c, const dc_sampler_request *q, dc_error *e)
{
    if (q->eta > 0 && !takes_eta(s)) {
        dc_status st = dc_fail(e, DC_USAGE, "eta: found %.6g with the sampler %s, which adds no noise, expected none", q->eta, s->name);
        hint_samplers(e, "Samplers with an eta", takes_eta);
        return st;
    }
    if ((s->flags & NEEDS_EPS_OR_V) && c->prediction == DC_PREDICT_SAMPLE)
        return dc_fail(e, DC_USAGE, "sampler: found %s with a model that predicts the sample, expected epsilon or v prediction", s->name);
    for (int i = 0; i < q->n_sigmas; i++)
        if (!(q->sigmas[i] > 0 && q->sigmas[i] < 1e6) || (i && !(q->sigmas[i] < q->sigmas[i - 1])))
            return dc_fail(e, DC_USAGE, "sigmas: value %d: found %.10g, expected positive numbers, each below the one before", i + 1, q->sigmas[i]);
    return DC_OK;
}

static shape shape_of_file(const dc_noise_config *c, const sampler_class *s)
{
    if (!sigma_based(s)) return SHAPE_MODEL; /* the class does not read such flags */
    if (c->use_karras) return SHAPE_KARRAS;
    if (c->use_lu && (s->flags & READS_LU)) return SHAPE_LU;
    if (c->use_exponential) return SHAPE_EXPONENTIAL;
    return c->use_beta ? SHAPE_BETA : SHAPE_MODEL;
}

static dc_status find_shape(shape *out, const dc_noise_config *c, const dc_sampler_request *q, const sampler_class *s, dc_error *e)
{
    const char *name = q->schedule ? q->schedule : "model";
    *out = shape_of_file(c, s);
    if (q->n_sigmas > 0) *out = SHAPE_CUSTOM;
    else if (!strcmp(name, "karras")) *out = SHAPE_KARRAS;
    else if (!strcmp(name, "exponential")) *out = SHAPE_EXPONENTIAL;
    else if (!strcmp(name, "beta")) *out = SHAPE_BETA;
    else if (strcmp(name, "model")) return dc_fail(e, DC_USAGE, "scheduler: found %s, expected model, karras, exponential or beta", name);
    if (*out == SHAPE_MODEL || sigma_based(s)) return DC_OK;
    dc_status st = dc_fail(e, DC_USAGE, "scheduler: found %s with the sampler %s, which has its own timesteps",
                           *out == SHAPE_CUSTOM ? "custom sigmas" : name, s->name);
    hint_samplers(e, "Samplers that take it", sigma_based);
    return st;
}

/* ---- levels ------------------------------------------------------------------------------------------------------------------ */

/* Sigmas and timesteps of the n levels. */
static void sigma_levels(const sampler_class *s, shape how, const dc_noise_config *c, const noise_table *T, const dc_sampler_request *q, int n,
                         double *t, double *sigma)
{
    spaced_timesteps(t, s, c, n);
    for (int i = 0; i < n; i++) sigma[i] = noise_sigma_of_t(T, t[i]);
    if (how == SHAPE_MODEL) return;
    bool own = s->family == SIGMA_SPACE; /* between the first and last level of the spacing, else of the whole table */
    double high = own ? sigma[0] : T->sigma[T->n - 1], low = own ? sigma[n - 1] : T->sigma[0];
    if ((s->flags & READS_SIGMA_RANGE) && c->sigma_max > 0) high = c->sigma_max;
    if ((s->flags & READS_SIGMA_RANGE) && c->sigma_min > 0) low = c->sigma_min;
    if (how == SHAPE_CUSTOM) memcpy(sigma, q->sigmas, (size_t)n * sizeof *sigma);
    else shaped_sigmas(sigma, how, high, low, n);
    for (int i = 0; i < n; i++) t[i] = whole_timestep(noise_t_of_sigma(T, sigma[i]), how, s, c);
}

static level level_or_final(const build *x, double t) { return t >= 0 ? level_of_t(x->b->table, t) : x->final; }

/* ---- lists for `diffc schedule` ---------------------------------------------------------------------------------------------- */

/* One timestep a model evaluation; sigmas as the class lists them. */
static dc_status make_lists(dc_plan *p, const build *x, const double *sigma, double end, unsigned flags, dc_error *e)
{
    p->timesteps = dc_calloc((size_t)p->n_rows, sizeof(double));
    p->sigmas = dc_calloc((size_t)(2 * x->n + 3), sizeof(double));
    if (!p->timesteps || !p->sigmas) return dc_fail_memory(e, "a schedule", (unsigned long long)p->n_rows * 8);
    p->n_timesteps = p->n_rows;
    for (int i = 0; i < p->n_rows; i++) p->timesteps[i] = p->rows[i].t;
    for (int i = 0; i < x->n; i++)
        for (int k = 0; k < (flags & LISTS_INNER && i ? 2 : 1); k++) p->sigmas[p->n_sigmas++] = sigma[i];
    for (int k = 0; k < (flags & LISTS_ENDS ? 3 : 1); k++) p->sigmas[p->n_sigmas++] = end;
    return DC_OK;
}

/* ---- the whole -------------------------------------------------------------------------------------------------------------------- */

static const sampler_class *find_sampler(const char *name)
{
    for (int i = 0; i < SAMPLERS; i++)
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
static dc_status fill_levels(work *w, build *x, const sampler_class *s, const dc_sampler_request *q, shape how, int n, double *end, dc_error *e)
{
    const dc_noise_config *c = x->c;
    dc_status st = DC_OK;
    *end = 0;
    if (sigma_based(s)) {
        sigma_levels(s, how, c, &w->table, q, n, w->t, w->sigma);
        bool above_zero = (s->flags & READS_FINAL_SIGMA) && !strcmp(c->final_sigmas_type, "sigma_min");
        if ((above_zero && w->table.sigma[0] <= w->sigma[n - 1]) || (s->flags & FINAL_SIGMA_MIN)) *end = w->table.sigma[0];
        for (int i = 0; i < n; i++) w->L[i] = level_of_sigma(w->sigma[i], w->t[i]);
        /* a class in sigma space hands out x0 + sigma eps, the others a x0 + s eps */
        w->L[n] = s->family == SIGMA_SPACE ? (level){1, *end, 0} : level_of_sigma(*end, 0);
        return DC_OK;
    }
    bool told = c->set_alpha_to_one >= 0 && (s->flags & READS_ALPHA_TO_ONE),
         to_one = told ? c->set_alpha_to_one != 0 : (s->flags & ALPHA_TO_ONE) != 0;
    x->final = to_one ? (level){1, 0, 0} : level_of_t(&w->table, 0);
    x->ratio = c->train_steps / n;
    if (s->family == DISTILLED) st = distilled_timesteps(w->t, c, n, e);
    else spaced_timesteps(w->t, s, c, n);
    for (int i = 0; !st && i < n; i++) {
        w->L[i] = level_of_t(&w->table, w->t[i]);
        w->sigma[i] = level_sigma(w->L[i]);
        w->target[i] = level_or_final(x, w->t[i] - x->ratio);
    }
    w->L[n] = x->final;
    *end = level_sigma(x->final);
    return st;
}

/* X = c_image image + c_noise noise. Image-to-image starts at the level itself, and so does a list of sigmas that only k-diffusion's form
 * of a sampler takes. Else text-to-image starts at noise * init_sigma, in sigma space in units of x0. sigma: of the whole schedule. */
static void set_start(dc_plan *p, const build *x, const sampler_class *s, const dc_sampler_request *q, const double *sigma)
{
    level first = s->family == TIMESTEPS ? level_of_t(x->b->table, p->rows[0].t) : x->L[0]; /* pndm begins where its own list does */
    p->init_sigma = 1;
    if (s->family == SIGMA_SPACE) p->init_sigma = !strcmp(spacing_of(s, x->c), "leading") ? hypot(1, sigma[0]) : sigma[0];
    bool at_level = q->image_start || (s->family == ROUNDED && q->n_sigmas > 0);
    p->c_image = q->image_start ? first.a : 0;
    p->c_noise = at_level ? first.s : s->family == SIGMA_SPACE ? p->init_sigma * first.a : 1;
}

/* The last guard: a division by zero that no rule above foresaw must not become a picture. */
static dc_status check_finite(const dc_plan *p, const sampler_class *s, dc_error *e)
{
    for (int i = 0; i < p->n_rows; i++) {
        const dc_row *r = &p->rows[i];
        double sum = r->kx + r->km + r->px + r->pm;
        for (int k = 0; k < DC_REGS; k++) sum += r->x[k] + r->s[k];
        if (isfinite(sum)) continue;
        dc_status st =
            dc_fail(e, DC_USAGE, "sampler: found %s, which divides by zero at timestep %.6g of this noise schedule, expected another", s->name, r->t);
        if (isinf(r->sigma)) dc_hint(e, "At zero terminal SNR the first level has no signal, which only v or sample prediction can express.");
        return st;
    }
    return DC_OK;
}

static dc_status allocate(work *w, int n, dc_error *e)
{
    w->t = dc_calloc((size_t)n, sizeof *w->t);
    w->sigma = dc_calloc((size_t)n, sizeof *w->sigma);
    w->L = dc_calloc((size_t)n + 1, sizeof *w->L);
    w->target = dc_calloc((size_t)n, sizeof *w->target);
    return w->t && w->sigma && w->L && w->target ? DC_OK : dc_fail_memory(e, "a schedule", (unsigned long long)n * 64);
}

static double eta_of(const sampler_class *s, const dc_noise_config *c, const dc_sampler_request *q)
{
    if (q->eta >= 0) return q->eta;
    return (s->flags & READS_SDE) && !strcmp(c->algorithm_type, "sde-dpmsolver++") ? 1 : fmax(s->eta, 0);
}

static zero_snr zero_snr_of(const sampler_class *s)
{
    if (!(s->flags & READS_ZERO_SNR)) return ZERO_SNR_IGNORED;
    return sigma_based(s) ? ZERO_SNR_FLOORED : ZERO_SNR_KEPT;
}

static dc_status build_plan(dc_plan *p, work *w, const dc_noise_config *c, const dc_sampler_request *q, const sampler_class *s, int n, dc_error *e)
{
    shape how = SHAPE_MODEL;
    double end;
    dc_status st = check_request(s, c, q, e);
    if (!st) st = find_shape(&how, c, q, s, e);
    if (!st) st = noise_table_make(&w->table, c, zero_snr_of(s), e);
    if (!st) st = allocate(w, n, e);
    builder b = {.plan = p, .prediction = c->prediction, .table = &w->table};
    build x = {.b = &b, .c = c, .eta = eta_of(s, c, q), .full = n, .final_at = level_or_final};
    if (!st) st = fill_levels(w, &x, s, q, how, n, &end, e);
    if (st) return st;

    int skip = n - tail(n, q);
    if (skip == n) return dc_fail(e, DC_USAGE, "strength: found %.6g, which leaves no step of %d, expected at least %.6g", q->strength, n, 1.0 / n);
    x.L = w->L + skip;
    x.all = w->L;
    x.target = s->family == TIMESTEPS ? w->target + skip : NULL;
    x.n = n - skip;
    s->make(&x);
    if (b.failed) return dc_fail_memory(e, "the sampler's rows", (unsigned long long)n * sizeof(dc_row));
    set_start(p, &x, s, q, w->sigma);
    p->brownian = s->flags & BROWNIAN;
    p->sigma_max = w->sigma[skip];
    p->sigma_min = end > 0 ? end : w->sigma[n - 1];
    st = check_finite(p, s, e);
    return st ? st : make_lists(p, &x, w->sigma + skip, end, s->flags, e);
}

/* The sampler that the model's file asks for. */
static const char *own_sampler(const dc_noise_config *c)
{
    const char *name = dc_sampler_of_class(c->class_name);
    if (!name) return "euler"; /* a class we do not have: the plainest sampler, told by the caller */
    if (strcmp(name, "dpm++2m") != 0) return name;
    if (!strcmp(c->algorithm_type, "sde-dpmsolver++")) return "dpm++2m_sde";
    return !strcmp(c->algorithm_type, "dpmsolver") ? "dpm_solver" : name;
}

dc_status dc_plan_build(dc_plan *p, const dc_noise_config *c, const dc_sampler_request *q, dc_error *e)
{
    *p = (dc_plan){0};
    const char *name = q->sampler ? q->sampler : own_sampler(c);
    const sampler_class *s = find_sampler(name);
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
