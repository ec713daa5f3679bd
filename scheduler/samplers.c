/* samplers.c - the one-step samplers and the simple multistep ones, each as rows. */
#include "scheduler/rows.h"
#include <math.h>

/* ---- first order: euler, euler_a, ddim. Ref: Song et al. 2021 eq. 12; Karras et al. 2022 algorithm 2 --------------- */

static void first_order(build *x, double eta, bool always_draw)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->target ? x->target[i] : x->L[i + 1];
        double down, up;
        level_split(from, to, eta, &down, &up);
        terms t = move_terms(from, to.a, down, T_X);
        t.k[T_Z] = up;
        builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = t, .draw = always_draw});
    }
}

/* euler, and DDIM, which draws at every step as soon as eta is not 0 */
void build_first_order(build *x) { first_order(x, x->eta, x->eta > 0); }

void build_ancestral(build *x) { first_order(x, x->eta, true); }

/* ---- heun. Ref: Karras et al. 2022, algorithm 1 ------------------------------------------------------------------------ */

void build_heun(build *x)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        double step = level_sigma(to) - level_sigma(from);
        x->b->kept = 0;
        terms t = ode_terms(from, to, T_X);
        t.k[T_O] = to.a * step;
        if (to.s == 0) {
            builder_row(x->b, from, (row_spec){.want = WANT_EPS, .x = t});
            continue;
        }
        builder_row(x->b, from, (row_spec){.want = WANT_EPS, .x = t, .s = &terms_x, .keep = true});
        t = ode_terms(from, to, T_S);
        t.k[T_O] = t.k[T_P1] = to.a * step / 2;
        builder_row(x->b, to, (row_spec){.want = WANT_EPS, .x = t, .inner = true});
    }
}

/* ---- lms: linear multistep, order 4. Ref: Katherine Crowson's k-diffusion sample_lms; coefficients are exact integrals ----- */

/* Integral over [0, h] of the j-th Lagrange polynomial through the p nodes. */
static double lagrange_integral(const double *node, int p, int j, double h)
{
    double poly[4] = {1, 0, 0, 0}, scale = 1, sum = 0; /* lowest power first */
    for (int k = 0, degree = 0; k < p; k++) {
        if (k == j) continue;
        for (int i = ++degree; i >= 0; i--) poly[i] = (i > 0 ? poly[i - 1] : 0) - node[k] * (i < degree ? poly[i] : 0);
        scale *= node[j] - node[k];
    }
    for (int i = p - 1; i >= 0; i--) sum = sum * h + poly[i] / (i + 1);
    return sum * h / scale;
}

void build_lms(build *x)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        int p = i + 1 < 4 ? i + 1 : 4;
        double node[4];
        for (int j = 0; j < p; j++) node[j] = level_sigma(x->L[i - j]) - level_sigma(from);
        terms t = ode_terms(from, to, T_X);
        for (int j = 0; j < p; j++) t.k[term_of_output(j)] = to.a * lagrange_integral(node, p, j, level_sigma(to) - level_sigma(from));
        builder_row(x->b, from, (row_spec){.want = WANT_EPS, .x = t, .keep = true});
    }
}

/* ---- dpm++2m: DPM-Solver++ multistep, orders 1 to 3. Ref: Lu et al. 2022b, algorithm 2; diffusers DPMSolverMultistep --------- */

/* Order of step i. Ref: diffusers' lower_order_final, euler_at_final; the full schedule's length decides. */
static int multistep_order(const build *x, int i, int order)
{
    int p = i + 1 < order ? i + 1 : order;
    bool lower = x->c->lower_order_final != 0 && x->full < 15;
    if (i == x->n - 1 && (x->L[x->n].s == 0 || x->c->euler_at_final == 1 || lower)) return 1;
    if (i == x->n - 2 && lower && p > 2) return 2;
    return p;
}

void build_dpmpp_2m(build *x)
{
    bool heun = x->c->solver_type[0] == 'h';
    int order = x->c->solver_order ? x->c->solver_order : 2;
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        terms t = {0};
        if (to.s == 0 || level_same(from, to)) {
            t.k[to.s == 0 ? T_O : T_X] = to.s == 0 ? to.a : 1;
            builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = t, .keep = true});
            continue;
        }
        int p = multistep_order(x, i, order);
        double h = level_lambda(to) - level_lambda(from), e = -expm1(-h), phi2 = 1 - e / h;
        t.k[T_X] = to.s / from.s;
        t.k[T_O] = to.a * e;
        if (p >= 2) {
            double r0 = (level_lambda(from) - level_lambda(x->L[i - 1])) / h;
            terms d0 = {{[T_O] = 1 / r0, [T_P1] = -1 / r0}}, d1 = d0;
            if (p == 3) {
                double r1 = (level_lambda(x->L[i - 1]) - level_lambda(x->L[i - 2])) / h;
                terms back = {{[T_P1] = 1 / r1, [T_P2] = -1 / r1}}, dd = terms_sum(1, d0, -1, back);
                d1 = terms_sum(1, d0, r0 / (r0 + r1), dd);
                t = terms_sum(1, t, to.a * (0.5 - phi2 / h) / (r0 + r1), dd);
            }
            t = terms_sum(1, t, to.a * (p == 2 && !heun ? 0.5 * e : phi2), d1);
        }
        builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = t, .keep = true});
    }
}

/* ---- lcm. Ref: Luo et al. 2023, sec. 4; diffusers LCMScheduler ------------------------------------------------------------------ */

void build_lcm(build *x)
{
    const double sigma_data = 0.5;
    for (int i = 0; i < x->n; i++) {
        double T = x->L[i].t * x->c->timestep_scaling;
        double c_skip = sigma_data * sigma_data / (T * T + sigma_data * sigma_data), c_out = T / sqrt(T * T + sigma_data * sigma_data);
        level to = i < x->n - 1 ? x->L[i + 1] : (level){1, 0, 0}; /* the last row returns the boundary-scaled x0 */
        terms t = {{[T_X] = to.a * c_skip, [T_O] = to.a * c_out, [T_Z] = to.s}};
        builder_row(x->b, x->L[i], (row_spec){.want = WANT_X0, .x = t});
    }
}
