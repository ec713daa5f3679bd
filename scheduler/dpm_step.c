/* dpm_step.c - DPM-Solver singlestep on levels of its own: dpm_fast, and dpm_adaptive, which chooses its steps as it goes. Ref: Lu et al.
 * 2022a, algorithms 1, 2, 4 and appendix C; k-diffusion DPMSolver. */
#include "scheduler/rows.h"
#include "base/checked.h"
#include <math.h>
#include <stdlib.h>

/* One step of order p, p evaluations; with `low` S' becomes the embedded solution of order p - 1. Then noise lifts x up to `lift`. */
typedef struct dpm_step {
    level from, to, lift;
    int p;
    bool low, draw;
} dpm_step;

static level between(const builder *b, dpm_step s, double r)
{
    return level_between(b->table, pow(level_sigma(s.from), 1 - r) * pow(level_sigma(s.to), r));
}

/* base + dt [(1 - 1/(2 r)) e + 1/(2 r) e1] */
static terms second_order(dpm_step s, double r, int e, int e1)
{
    terms t = ode_terms(s.from, s.to, T_S);
    double dt = level_sigma(s.to) - level_sigma(s.from);
    t.k[e] = s.to.a * dt * (1 - 1 / (2 * r));
    t.k[e1] = s.to.a * dt / (2 * r);
    return t;
}

static void last_row(builder *b, dpm_step s, level at, terms x, const terms *low, bool inner)
{
    double to = level_sigma(s.to), lift = level_sigma(s.lift);
    x = terms_sum(s.lift.a / s.to.a, x, 0, x);
    x.k[T_Z] = s.lift.a * sqrt(fmax(0, lift * lift - to * to));
    builder_row(b, at, (row_spec){.want = WANT_EPS, .x = x, .s = low, .draw = s.draw, .inner = inner, .from = level_sigma(s.from), .to = lift});
}

static void add_step(builder *b, dpm_step s)
{
    double h = level_lambda(s.to) - level_lambda(s.from), dt = level_sigma(s.to) - level_sigma(s.from), r1 = s.p == 2 ? 1.0 / 2 : 1.0 / 3,
           r2 = 2.0 / 3;
    b->kept = 0;
    if (s.p == 1) {
        terms t = ode_terms(s.from, s.to, T_X);
        t.k[T_O] = s.to.a * dt;
        last_row(b, s, s.from, t, NULL, false);
        return;
    }
    level m1 = between(b, s, r1), m2 = between(b, s, r2);
    terms t = ode_terms(s.from, m1, T_X);
    t.k[T_O] = m1.a * (level_sigma(m1) - level_sigma(s.from));
    builder_row(b, s.from, (row_spec){.want = WANT_EPS, .x = t, .s = &terms_x, .keep = true});
    if (s.p == 2) {
        terms low = ode_terms(s.from, s.to, T_S);
        low.k[T_P1] = s.to.a * dt;
        last_row(b, s, m1, second_order(s, r1, T_P1, T_O), s.low ? &low : NULL, true);
        return;
    }
    double c = -level_sigma(m2) * (r2 / r1) * (expm1(r2 * h) / (r2 * h) - 1);
    t = ode_terms(s.from, m2, T_S);
    t.k[T_P1] = m2.a * (level_sigma(m2) - level_sigma(s.from) - c);
    t.k[T_O] = m2.a * c;
    builder_row(b, m1, (row_spec){.want = WANT_EPS, .x = t, .keep = s.low, .inner = true});
    int e = s.low ? T_P2 : T_P1;
    c = -level_sigma(s.to) / r2 * (expm1(h) / h - 1);
    t = ode_terms(s.from, s.to, T_S);
    t.k[e] = s.to.a * (dt - c);
    t.k[T_O] = s.to.a * c;
    terms low = second_order(s, r1, T_P2, T_P1);
    last_row(b, s, m2, t, s.low ? &low : NULL, true);
}

/* Where a step from `from` towards sigma aims: below it, so that eta's noise fits, but not below the end. The end is in units of x0. */
static void aim(const noise_table *table, dpm_step *s, double sigma, double end, double eta)
{
    double down = sigma, from = level_sigma(s->from);
    if (eta > 0) {
        double up = fmin(sigma, eta * sigma * sqrt(fmax(0, 1 - sigma * sigma / (from * from))));
        down = fmax(end, sqrt(fmax(0, sigma * sigma - up * up)));
    }
    s->to = level_between(table, down);
    s->lift = sigma <= end ? (level){1, end, 0} : level_between(table, sigma);
}

/* The lowest sigma above 0 of those that are run; of one alone, the table's. */
static double lowest(const build *x)
{
    if (x->L[x->n].s > 0) return level_sigma(x->L[x->n]);
    return x->n > 1 ? level_sigma(x->L[x->n - 1]) : x->b->table->sigma[0];
}

void build_dpm_fast(build *x)
{
    int nfe = x->n, m = nfe / 3 + 1;
    double high = log(level_sigma(x->L[0])), end = lowest(x), low = log(end);
    level from = x->L[0];
    for (int i = 0; i < m; i++) {
        int p = i < m - 2 || (i == m - 2 && nfe % 3) ? 3 : i == m - 2 ? 2 : nfe % 3 ? nfe % 3 : 1;
        dpm_step s = {.from = from, .p = p, .draw = true};
        aim(x->b->table, &s, i == m - 1 ? end : exp(high + (i + 1) * (low - high) / m), end, x->eta);
        add_step(x->b, s);
        from = s.lift;
    }
}

/* ---- dpm_adaptive ------------------------------------------------------------------------------------------------------------- */

#define MAX_TRIALS 2000

struct dc_adaptive {
    noise_table table;
    dc_prediction prediction;
    double eta, s_noise;
    double begin, lambda, end, h; /* where x was, is and goes to, the step that is tried; lambda = -log sigma */
    int order, trials;
    level first, at;
    dpm_step step;
};

static dc_status next_trial(dc_plan *p, dc_error *e)
{
    struct dc_adaptive *a = p->adaptive;
    p->n_rows = p->steps = 0;
    p->trial.progress = fmin(1, (a->lambda - a->begin) / (a->end - a->begin));
    if (a->lambda >= a->end - 1e-5) return DC_OK;
    if (++a->trials > MAX_TRIALS) return dc_fail(e, DC_INTERNAL, "dpm_adaptive: found no end after %d trials, expected some dozens", MAX_TRIALS);
    double end = exp(-a->end), sigma = a->lambda + a->h >= a->end ? end : exp(-(a->lambda + a->h));
    builder b = {.plan = p, .prediction = a->prediction, .table = &a->table, .room = p->row_room, .s_noise = 1};
    a->step = (dpm_step){.from = a->at, .p = a->order, .low = true};
    aim(&a->table, &a->step, sigma, end, a->eta);
    level lift = a->step.lift;
    a->step.lift = a->step.to; /* the noise waits until the trial is accepted */
    add_step(&b, a->step);
    a->step.lift = lift;
    p->row_room = b.room;
    double top = level_sigma(lift), low = level_sigma(a->step.to);
    p->trial.a = a->step.to.a;
    p->trial.keep = lift.a / a->step.to.a;
    p->trial.noise = a->s_noise * lift.a * sqrt(fmax(0, top * top - low * low));
    p->trial.sigma_from = level_sigma(a->at);
    p->trial.sigma_to = top;
    return b.failed ? dc_fail_memory(e, "the sampler's rows", sizeof(dc_row) * 4) : DC_OK;
}

void build_dpm_adaptive(build *x)
{
    struct dc_adaptive *a = dc_calloc(1, sizeof *a);
    size_t n = (size_t)x->b->table->n;
    double *copy = dc_calloc(n, 3 * sizeof(double));
    if (!a || !copy) {
        free(a);
        free(copy);
        x->b->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++) copy[i] = x->b->table->ac[i], copy[n + i] = x->b->table->sigma[i], copy[2 * n + i] = x->b->table->log_sigma[i];
    a->table = (noise_table){.n = (int)n, .ac = copy, .sigma = copy + n, .log_sigma = copy + 2 * n, .nearest = x->b->table->nearest};
    a->prediction = x->b->prediction;
    a->eta = x->eta;
    a->s_noise = x->b->s_noise;
    a->first = x->L[0];
    a->begin = -log(level_sigma(a->first));
    a->end = -log(lowest(x));
    a->order = x->c->solver_order == 2 ? 2 : 3;
    dc_plan *p = x->b->plan;
    p->adaptive = a;
    if (dc_plan_rewind(p, NULL)) x->b->failed = true;
}

dc_status dc_plan_rewind(dc_plan *p, dc_error *e)
{
    struct dc_adaptive *a = p->adaptive;
    a->at = a->first;
    a->lambda = a->begin;
    a->h = 0.05;
    a->trials = 0;
    p->trial = (dc_trial){.a_before = a->at.a, .rtol = 0.05, .atol = 0.0078};
    return next_trial(p, e);
}

/* Ref: Soederlind 2003 as k-diffusion's PIDStepSizeController has it, with its integral term alone. */
dc_status dc_plan_next(dc_plan *p, double error, bool *accepted, dc_error *e)
{
    struct dc_adaptive *a = p->adaptive;
    double factor = 1 + atan(pow(1 / (error + 1e-8), 1 / (a->eta > 0 ? 1.5 : a->order)) - 1);
    *accepted = factor >= 0.81;
    a->h *= factor;
    if (*accepted) {
        a->at = a->step.lift;
        a->lambda = -log(level_sigma(a->at));
        p->trial.a_before = p->trial.a;
    }
    return next_trial(p, e);
}

double dc_trial_error(const dc_trial *t, const float *high, const float *low, const float *before, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double delta = fmax(t->atol, t->rtol * fmax(fabs(low[i] / t->a), fabs(before[i] / t->a_before)));
        double d = ((double)low[i] - high[i]) / t->a / delta;
        sum += d * d;
    }
    return sqrt(sum / (double)n);
}

void adaptive_free(struct dc_adaptive *a)
{
    if (a) noise_table_free(&a->table);
    free(a);
}
