/* plan.c - a sampler, a schedule and a step count become rows, with the defaults of diffusers' scheduler classes. */
#include "base/checked.h"
#include "base/text.h"
#include "scheduler/rows.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPACED   READS_SPACING
#define SOLVER   (READS_SPACING | READS_ZERO_SNR | READS_FINAL_SIGMA)
#define TWO_ROWS (READS_SPACING | LISTS_INNER)
#define DPM2     (TWO_ROWS | LISTS_ENDS | ROUNDS_KARRAS | A1111_DISCARDS | COMFY_DISCARDS)
#define UNIPC    (SOLVER | TAKES_ORDER | TAKES_BH | COMFY_DISCARDS | A1111_TIMESTEPS)
#define DPMPP    (SOLVER | READS_LU | TAKES_ORDER | TAKES_HEUN)
static const sampler_class samplers[] = {
    {"euler", SIGMA_SPACE, "linspace", SOLVER | READS_SIGMA_RANGE | CHURNS, -1, build_euler, NULL},
    {"euler_a", SIGMA_SPACE, "linspace", SPACED | READS_ZERO_SNR, 1, build_ancestral, NULL},
    {"heun", SIGMA_SPACE, "linspace", TWO_ROWS | CHURNS, -1, build_heun, NULL},
    {"dpm2", SIGMA_SPACE, "linspace", DPM2 | CHURNS, -1, build_dpm2, "karras"},
    {"dpm2_a", SIGMA_SPACE, "linspace", DPM2, 1, build_dpm2_ancestral, "karras"},
    {"dpm++2s_a", SIGMA_SPACE, "linspace", SPACED, 1, build_dpmpp_2s_ancestral, "karras"},
    {"dpm++sde", SIGMA_SPACE, "linspace", SPACED | BROWNIAN, 1, build_dpmpp_sde, "karras"},
    {"dpm_fast", SIGMA_SPACE, "linspace", SPACED | OWN_LEVELS | LISTS_ROWS, 0, build_dpm_fast, NULL},
    {"dpm_adaptive", SIGMA_SPACE, "linspace", SPACED | OWN_LEVELS | LISTS_ROWS | TAKES_ORDER, 0, build_dpm_adaptive, NULL},
    {"restart", SIGMA_SPACE, "linspace", SPACED | LISTS_ROWS, -1, build_restart, "karras"},
    {"heunpp2", SIGMA_SPACE, "linspace", SPACED | CHURNS, -1, build_heunpp2, NULL},
    {"lms", SIGMA_SPACE, "linspace", SPACED, -1, build_lms, NULL},
    {"ipndm", SIGMA_SPACE, "linspace", SPACED, -1, build_ipndm, NULL},
    {"ipndm_v", SIGMA_SPACE, "linspace", SPACED, -1, build_ipndm_v, NULL},
    {"deis", ROUNDED, "linspace", SPACED | FINAL_SIGMA_MIN | TAKES_ORDER, -1, build_deis, NULL},
    {"dpm++2m", ROUNDED, "linspace", DPMPP, -1, build_dpmpp_2m, "karras"},
    {"dpm++2mv2", ROUNDED, "linspace", SOLVER | READS_LU, -1, build_dpmpp_2m_v2, "karras"},
    {"dpm++2m_sde", ROUNDED, "linspace", DPMPP | BROWNIAN, 1, build_dpmpp_2m_sde, "exponential"},
    {"dpm++2m_sde_heun", ROUNDED, "linspace", SOLVER | READS_LU | TAKES_ORDER | BROWNIAN, 1, build_dpmpp_2m_sde_heun, "exponential"},
    {"dpm++3m_sde", ROUNDED, "linspace", SOLVER | READS_LU | BROWNIAN | A1111_DISCARDS, 1, build_dpmpp_3m_sde, "exponential"},
    {"dpm++2s", ROUNDED, "linspace", READS_FINAL_SIGMA | READS_SDE | TAKES_ORDER, 0, build_dpmpp_2s, "karras"},
    {"dpm++3s", ROUNDED, "linspace", READS_FINAL_SIGMA | READS_SDE, 0, build_dpmpp_3s, "karras"},
    {"dpm_solver", ROUNDED, "linspace", DPMPP, -1, build_dpm_solver, "karras"},
    {"unipc", ROUNDED, "linspace", UNIPC, -1, build_unipc, NULL},
    {"unipc_bh2", ROUNDED, "linspace", UNIPC, -1, build_unipc, NULL},
    {"res_multistep", ROUNDED, "linspace", SOLVER, -1, build_res_multistep, NULL},
    {"res_multistep_a", ROUNDED, "linspace", SOLVER, 1, build_res_multistep, NULL},
    {"er_sde", ROUNDED, "linspace", SOLVER, 1, build_er_sde, NULL},
    {"gradient_estimation", SIGMA_SPACE, "linspace", SPACED, -1, build_gradient_estimation, NULL},
    {"euler_cfg_pp", SIGMA_SPACE, "linspace", SPACED | READS_ZERO_SNR, -1, build_euler_cfg_pp, NULL},
    {"euler_a_cfg_pp", SIGMA_SPACE, "linspace", SPACED | READS_ZERO_SNR, 1, build_euler_cfg_pp, NULL},
    {"dpm++2m_cfg_pp", SIGMA_SPACE, "linspace", SPACED, -1, build_dpmpp_2m_cfg_pp, "karras"},
    {"dpm++2s_a_cfg_pp", SIGMA_SPACE, "linspace", SPACED, 1, build_dpmpp_2s_a_cfg_pp, "karras"},
    {"ddim", TIMESTEPS, "leading", SPACED | READS_ZERO_SNR | READS_ALPHA_TO_ONE | ALPHA_TO_ONE | A1111_TIMESTEPS, 0, build_first_order, NULL},
    {"ddim_cfg_pp", TIMESTEPS, "leading", SPACED | READS_ZERO_SNR | READS_ALPHA_TO_ONE | ALPHA_TO_ONE | A1111_TIMESTEPS, 0, build_euler_cfg_pp, NULL},
    {"ddpm", TIMESTEPS, "leading", SPACED | READS_ZERO_SNR | ALPHA_TO_ONE, -1, build_ddpm, NULL},
    {"pndm", TIMESTEPS, "leading", SPACED | READS_ALPHA_TO_ONE | NEEDS_EPS_OR_V | A1111_TIMESTEPS, -1, build_pndm, NULL},
    {"lcm", DISTILLED, "leading", READS_ZERO_SNR | READS_ALPHA_TO_ONE | ALPHA_TO_ONE, -1, build_lcm, NULL},
    {"tcd", DISTILLED, "leading", READS_ZERO_SNR | READS_ALPHA_TO_ONE | ALPHA_TO_ONE, 0.3, build_tcd, NULL},
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
static bool takes_churn(const sampler_class *s) { return s->flags & CHURNS; }
static bool takes_order(const sampler_class *s) { return s->flags & TAKES_ORDER; }
static bool takes_heun(const sampler_class *s) { return s->flags & TAKES_HEUN; }
static bool takes_bh(const sampler_class *s) { return s->flags & TAKES_BH; }

/* An option that only some samplers have. */
static dc_status refuse_option(const sampler_class *s, const char *option, bool (*fits)(const sampler_class *s), dc_error *e)
{
    dc_status st = dc_fail(e, DC_USAGE, "%s: found it with the sampler %s, which does not have it, expected none", option, s->name);
    hint_samplers(e, "Samplers that take it", fits);
    return st;
}

static dc_status check_options(const sampler_class *s, const dc_sampler_request *q, dc_error *e)
{
    if (q->s_churn > 0 && !takes_churn(s)) return refuse_option(s, "s_churn", takes_churn, e);
    if (q->order && !takes_order(s)) return refuse_option(s, "solver-order", takes_order, e);
    if (q->order < 0 || q->order > 3) return dc_fail(e, DC_USAGE, "solver-order: found %d, expected 1 to 3", q->order);
    if (!q->solver) return DC_OK;
    bool heun = !strcmp(q->solver, "heun") || !strcmp(q->solver, "midpoint"), bh = !strcmp(q->solver, "bh1") || !strcmp(q->solver, "bh2");
    if (heun && !takes_heun(s)) return refuse_option(s, q->solver, takes_heun, e);
    if (bh && !takes_bh(s)) return refuse_option(s, q->solver, takes_bh, e);
    return heun || bh ? DC_OK : dc_fail(e, DC_USAGE, "solver-type: found %s, expected midpoint, heun, bh1 or bh2", q->solver);
}

static dc_status check_request(const sampler_class *s, const dc_noise_config *c, const dc_sampler_request *q, dc_error *e)
{
    if (q->eta > 0 && !takes_eta(s)) {
        dc_status st = dc_fail(e, DC_USAGE, "eta: found %.6g with the sampler %s, which adds no noise, expected none", q->eta, s->name);
        hint_samplers(e, "Samplers with an eta", takes_eta);
        return st;
    }
    dc_status options = check_options(s, q, e);
    if (options) return options;
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
    else if (spacing_known(name) && (s->flags & READS_SPACING)) *out = SHAPE_MODEL;
    else if (spacing_known(name)) return dc_fail(e, DC_USAGE, "scheduler: found %s with the sampler %s, which has one spacing only", name, s->name);
    else if (strcmp(name, "model") && !k_schedule_known(name)) return dc_fail(e, DC_USAGE, "scheduler: found %s, expected a known name", name);
    else if (k_schedule_known(name)) *out = SHAPE_CUSTOM; /* where k_asked has said no */
    if (*out == SHAPE_MODEL || sigma_based(s)) return DC_OK;
    dc_status st = dc_fail(e, DC_USAGE, "scheduler: found %s with the sampler %s, which has its own timesteps",
                           q->n_sigmas > 0 ? "custom sigmas" : name, s->name);
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
    else shaped_sigmas(sigma, how, high, low, 7, n);
    for (int i = 0; i < n; i++) t[i] = whole_timestep(noise_t_of_sigma(T, sigma[i]), how, s, c);
}

static level level_or_final(const build *x, double t) { return t >= 0 ? level_of_t(x->b->table, t) : x->final; }

/* ---- lists for `diffc schedule` ---------------------------------------------------------------------------------------------- */

/* One timestep a model evaluation; sigmas as the class lists them. */
static dc_status make_lists(dc_plan *p, const build *x, const double *sigma, double end, unsigned flags, dc_error *e)
{
    p->timesteps = dc_calloc((size_t)p->n_rows, sizeof(double));
    p->sigmas = dc_calloc((size_t)(2 * x->n + 3 + p->n_rows), sizeof(double));
    if (!p->timesteps || !p->sigmas) return dc_fail_memory(e, "a schedule", (unsigned long long)p->n_rows * 8);
    p->n_timesteps = p->n_rows;
    for (int i = 0; i < p->n_rows; i++) p->timesteps[i] = p->rows[i].t;
    for (int i = 0; (flags & LISTS_ROWS) && i < p->n_rows; i++)
        if (p->rows[i].begins_step) p->sigmas[p->n_sigmas++] = p->rows[i].sigma;
    for (int i = 0; !(flags & LISTS_ROWS) && i < x->n; i++)
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

dc_status work_allocate(work *w, int room, dc_error *e)
{
    w->t = dc_calloc((size_t)room, sizeof *w->t);
    w->sigma = dc_calloc((size_t)room, sizeof *w->sigma);
    w->L = dc_calloc((size_t)room + 1, sizeof *w->L);
    w->target = dc_calloc((size_t)room, sizeof *w->target);
    return w->t && w->sigma && w->L && w->target ? DC_OK : dc_fail_memory(e, "a schedule", (unsigned long long)room * 64);
}

static double eta_of(const sampler_class *s, const dc_noise_config *c, const dc_sampler_request *q, bool k)
{
    if (q->eta >= 0) return q->eta;
    if (q->program == DC_A1111 && (s->flags & OWN_LEVELS)) return 1; /* it hands its own default to all that have an eta */
    return !k && (s->flags & READS_SDE) && !strcmp(c->algorithm_type, "sde-dpmsolver++") ? 1 : fmax(s->eta, 0);
}

static zero_snr zero_snr_of(const sampler_class *s)
{
    if (!(s->flags & READS_ZERO_SNR)) return ZERO_SNR_IGNORED;
    return sigma_based(s) ? ZERO_SNR_FLOORED : ZERO_SNR_KEPT;
}

/* The levels as the diffusers class of the sampler has them; what k_fill is to the others. */
static dc_status class_fill(k_levels *k, work *w, build *x, const sampler_class *s, const dc_sampler_request *q, dc_error *e)
{
    int n = q->n_sigmas > 0 ? q->n_sigmas : q->steps;
    shape how = SHAPE_MODEL;
    *k = (k_levels){.n = n, .skip = n - tail(n, q), .schedule = q->n_sigmas > 0 ? "custom" : q->schedule ? q->schedule : "model"};
    dc_status st = find_shape(&how, x->c, q, s, e);
    if (!st) st = work_allocate(w, n, e);
    if (!st) st = fill_levels(w, x, s, q, how, n, &k->end, e);
    if (!st && k->skip == n)
        st = dc_fail(e, DC_USAGE, "strength: found %.6g, which leaves no step of %d, expected at least %.6g", q->strength, n, 1.0 / n);
    return st;
}

static void churn_start(dc_plan *p, const builder *b)
{
    p->c_image *= b->lifted;
    p->c_noise *= b->lifted;
    p->c_churn = b->churn;
}

static dc_status build_plan(dc_plan *p, work *w, const dc_noise_config *c, const dc_sampler_request *q, const sampler_class *s, dc_error *e)
{
    bool by_k = k_asked(s, q);
    k_levels k;
    dc_status st = check_request(s, c, q, e);
    if (!st) st = noise_table_make(&w->table, c, by_k ? ZERO_SNR_K : zero_snr_of(s), e);
    builder b = {.plan = p, .prediction = c->prediction, .table = &w->table, .s_noise = q->s_noise > 0 ? q->s_noise : 1, .lifted = 1};
    build x = {.b = &b,
               .c = c,
               .eta = eta_of(s, c, q, by_k),
               .who = q->program,
               .k = by_k,
               .s_churn = q->s_churn,
               .s_tmin = q->s_tmin,
               .s_tmax = q->s_tmax > 0 ? q->s_tmax : INFINITY,
               .final_at = level_or_final};
    if (!st) st = by_k ? k_fill(&k, w, s, c, q, e) : class_fill(&k, w, &x, s, q, e);
    if (st) return st;

    x.L = w->L + k.skip;
    x.all = w->L;
    x.target = !by_k && s->family == TIMESTEPS ? w->target + k.skip : NULL;
    x.n = k.n - k.skip;
    x.full = k.n;
    p->guidance_factor = !strcmp(s->name, "ddim_cfg_pp") ? 1 / 12.5 : 1; /* A1111 brings CFG++'s guidance to its usual scale */
    (k.make ? k.make : s->make)(&x);
    if (b.failed) return dc_fail_memory(e, "the sampler's rows", (unsigned long long)k.n * sizeof(dc_row));
    if (!by_k) set_start(p, &x, s, q, w->sigma);
    else p->c_image = k.c_image, p->c_noise = k.c_noise, p->init_sigma = w->sigma[k.skip];
    churn_start(p, &b);
    p->schedule = k.schedule;
    p->brownian = s->flags & BROWNIAN;
    p->sigma_max = w->sigma[q->program == DC_A1111 ? 0 : k.skip]; /* A1111 makes the tree for the whole schedule */
    p->sigma_min = k.end > 0 ? k.end : w->sigma[k.n - 1];
    st = check_finite(p, s, e);
    return st ? st : make_lists(p, &x, w->sigma + k.skip, k.end, by_k ? s->flags & LISTS_ROWS : s->flags, e);
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

/* The file's keys as the request changes them. Shares the betas with c. */
static dc_noise_config asked_config(const dc_noise_config *c, const sampler_class *s, const dc_sampler_request *q)
{
    dc_noise_config own = *c;
    if (k_asked(s, q)) k_config(&own, s, q);
    if (!strcmp(s->name, "unipc_bh2")) strcpy(own.solver_type, "bh2");
    if (q->order) own.solver_order = q->order;
    if (q->solver) snprintf(own.solver_type, sizeof own.solver_type, "%s", q->solver);
    if (q->schedule && spacing_known(q->schedule)) {
        snprintf(own.spacing, sizeof own.spacing, "%s", q->schedule);
        own.use_karras = own.use_lu = own.use_exponential = own.use_beta = false;
    }
    return own;
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
    dc_noise_config own = asked_config(c, s, q);
    work w = {0};
    dc_status st = build_plan(p, &w, &own, q, s, e);
    work_free(&w);
    p->sampler = s->name;
    if (q->n_sigmas > 0) p->schedule = "custom";
    if (st) dc_plan_free(p);
    return st;
}

void dc_plan_free(dc_plan *p)
{
    adaptive_free(p->adaptive);
    free(p->rows);
    free(p->timesteps);
    free(p->sigmas);
    *p = (dc_plan){0};
}
