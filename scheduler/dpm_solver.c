/* dpm_solver.c - DPM-Solver and DPM-Solver++, multistep and singlestep, with and without noise. Ref: Lu et al. 2022a, 2022b; k-diffusion
 * sample_dpmpp_2m, _2m_sde, _3m_sde; diffusers DPMSolverMultistep, DPMSolverSinglestep. h: a step in lambda = log(a/s). */
#include "scheduler/rows.h"
#include <math.h>

/* Order of step i of a multistep solver. Ref: diffusers' lower_order_final, euler_at_final; the full schedule's length decides. */
int multistep_order(const build *x, int i, int order)
{
    int p = i + 1 < order ? i + 1 : order;
    bool lower = x->c->lower_order_final != 0 && x->full < 15;
    if (i == x->n - 1 && (x->L[x->n].s == 0 || x->c->euler_at_final == 1 || lower)) return 1;
    if (i == x->n - 2 && lower && p > 2) return 2;
    return p;
}

/* D1 and, for order 3, the second difference dd of the outputs, as terms. r0, r1: the steps before in units of this one. */
typedef struct differences {
    terms d1, dd;
    double r0, r1;
} differences;

static differences make_differences(const build *x, int i, int p, double h)
{
    differences d = {.r0 = (level_lambda(x->L[i]) - level_lambda(x->L[i - 1])) / h};
    d.d1 = (terms){{[T_O] = 1 / d.r0, [T_P1] = -1 / d.r0}};
    if (p < 3) return d;
    d.r1 = (level_lambda(x->L[i - 1]) - level_lambda(x->L[i - 2])) / h;
    terms back = {{[T_P1] = 1 / d.r1, [T_P2] = -1 / d.r1}};
    d.dd = terms_sum(1 / (d.r0 + d.r1), d.d1, -1 / (d.r0 + d.r1), back);
    d.d1 = terms_sum(1, d.d1, d.r0, d.dd);
    return d;
}

/* ---- DPM-Solver++ multistep: exponential integrator in x0 ------------------------------------------------------------ */

/* How a step of order 2 and 3 weighs the differences. half: TRAP, 1/2 is right; diffusers' third-order SDE has -1/2, which a model whose
 * file asks for that class and order gets too. */
typedef struct integrator {
    double eta, half;
    bool heun; /* second order with phi2 instead of the midpoint */
} integrator;

/* x' = (s'/s) e^(-eta h) x + a'(1 - e^-H) D + noise, H = (1 + eta) h, from an x and a D that are given. */
static terms exponential_terms(level from, level to, double eta, int base, int output)
{
    double h = level_lambda(to) - level_lambda(from);
    terms t = {0};
    t.k[base] = to.s / from.s * exp(-eta * h);
    t.k[output] = -to.a * expm1(-(1 + eta) * h);
    if (eta > 0) t.k[T_Z] = to.s * sqrt(-expm1(-2 * eta * h));
    return t;
}

static terms multistep_terms(const build *x, int i, int p, integrator m)
{
    level from = x->L[i], to = x->L[i + 1];
    if (to.s == 0) return (terms){{[T_O] = to.a}};
    if (level_same(from, to)) return terms_x;
    terms t = exponential_terms(from, to, m.eta, T_X, T_O);
    if (p < 2) return t;
    double h = level_lambda(to) - level_lambda(from), H = (1 + m.eta) * h, e = -expm1(-H), phi2 = 1 - e / H;
    differences d = make_differences(x, i, p, h);
    t = terms_sum(1, t, to.a * (p == 2 && !m.heun ? e / 2 : phi2), d.d1);
    return p == 3 ? terms_sum(1, t, to.a * (m.half - phi2 / H), d.dd) : t;
}

/* The row of step i, whose output is kept. */
static void noisy_row(build *x, int i, terms t, bool draws)
{
    builder_row(x->b, x->L[i],
                (row_spec){.want = WANT_X0, .x = t, .keep = true, .draw = draws, .from = level_sigma(x->L[i]), .to = level_sigma(x->L[i + 1])});
}

static void dpmpp_multistep(build *x, int order, integrator m, bool draws)
{
    for (int i = 0; i < x->n; i++) {
        terms t = multistep_terms(x, i, multistep_order(x, i, order), m);
        noisy_row(x, i, t, draws && !(x->k && x->L[i + 1].s == 0));
    }
}

/* A heuristic of sd.cpp (first proposed to A1111) for uneven steps: the exponential of the mean of two steps, the ratio taken upside down
 * where the step shrinks. Ref: sd.cpp DPMPP2Mv2. */
void build_dpmpp_2m_v2(build *x)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        terms t = multistep_terms(x, i, 1, (integrator){.half = 0.5});
        if (i > 0 && to.s > 0) {
            double h = level_lambda(to) - level_lambda(from), last = level_lambda(from) - level_lambda(x->L[i - 1]);
            double r = fmax(h, last) / fmin(h, last), b = -to.a * expm1(-(h + last) / 2);
            t.k[T_O] = b * (1 + 1 / (2 * r));
            t.k[T_P1] = -b / (2 * r);
        }
        noisy_row(x, i, t, false);
    }
}

static int order_of_file(const build *x) { return x->c->solver_order ? x->c->solver_order : 2; }
static bool heun_of_file(const build *x) { return x->c->solver_type[0] == 'h'; }

void build_dpmpp_2m(build *x) { dpmpp_multistep(x, order_of_file(x), (integrator){.half = 0.5, .heun = heun_of_file(x)}, false); }

static void dpmpp_2m_sde(build *x, bool heun)
{
    dpmpp_multistep(x, order_of_file(x), (integrator){x->eta, x->eta > 0 && !x->k ? -0.5 : 0.5, heun}, x->eta > 0);
}
void build_dpmpp_2m_sde(build *x) { dpmpp_2m_sde(x, heun_of_file(x)); }
void build_dpmpp_2m_sde_heun(build *x) { dpmpp_2m_sde(x, true); }

/* As k-diffusion has it: always order 3, its start-up step with phi2, no lower orders at the end but into sigma 0. */
void build_dpmpp_3m_sde(build *x)
{
    for (int i = 0; i < x->n; i++) {
        terms t = multistep_terms(x, i, i < 2 ? i + 1 : 3, (integrator){x->eta, 0.5, true});
        noisy_row(x, i, t, x->eta > 0 && x->L[i + 1].s > 0);
    }
}

/* ---- DPM-Solver multistep: the same in epsilon ---------------------------------------------------------------------------- */

void build_dpm_solver(build *x)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        int p = multistep_order(x, i, order_of_file(x));
        terms t = ode_terms(from, to, T_X);
        double dt = level_sigma(to) - level_sigma(from), h = level_lambda(to) - level_lambda(from);
        t.k[T_O] = to.a * dt;
        if (p >= 2 && !level_same(from, to)) {
            differences d = make_differences(x, i, p, h);
            double psi2 = -to.s * (expm1(h) / h - 1);
            t = terms_sum(1, t, p == 2 && !heun_of_file(x) ? to.a * dt / 2 : psi2, d.d1);
            if (p == 3) t = terms_sum(1, t, -to.s * ((expm1(h) - h) / (h * h) - 0.5), d.dd);
        }
        builder_row(x->b, from, (row_spec){.want = WANT_EPS, .x = t, .keep = true});
    }
}

/* ---- DPM-Solver++ singlestep on the schedule's own levels ------------------------------------------------------------------- */

/* 1 2 3 1 2 3 ... with a first order step at the end where the file (absent: no), the schedule's length or sigma 0 asks for it;
 * image-to-image cannot look back beyond its own first step. */
static int singlestep_order(const build *x, int i, int order)
{
    int at = x->full - x->n + i, p = at % order + 1;
    if (at == x->full - 1 && (x->L[x->n].s == 0 || (x->c->lower_order_final == 1 && x->full % order == 0))) p = 1;
    return p < i + 1 ? p : i + 1;
}

/* A row of order p restarts from x and output of p - 1 rows ago. */
static void singlestep(build *x, int order)
{
    for (int i = 0; i < x->n; i++) {
        int p = singlestep_order(x, i, order), base = p == 1 ? T_X : T_S, first = term_of_output(p - 1);
        level begin = x->L[i - p + 1], from = x->L[i], to = x->L[i + 1];
        terms t = {{[T_O] = to.a}};
        if (p == 1) x->b->kept = 0;
        if (to.s > 0) t = exponential_terms(begin, to, x->eta, base, first);
        if (to.s > 0 && p > 1) {
            double h = level_lambda(to) - level_lambda(begin), H = (1 + x->eta) * h, e = -expm1(-H);
            double w = to.a * (p == 2 ? e / 2 : 1 - e / H) / ((level_lambda(from) - level_lambda(begin)) / h);
            t.k[T_O] += w;
            t.k[first] -= w;
        }
        builder_row(x->b, from,
                    (row_spec){.want = WANT_X0,
                               .x = t,
                               .s = p == 1 ? &terms_x : NULL,
                               .keep = true,
                               .draw = x->eta > 0,
                               .from = level_sigma(begin),
                               .to = level_sigma(to)});
    }
}
void build_dpmpp_2s(build *x) { singlestep(x, order_of_file(x)); }
void build_dpmpp_3s(build *x) { singlestep(x, 3); }
