/* multistep.c - linear multistep samplers on epsilon: x'/a' = x/a + sum of w_j eps_(i-j). They differ in where w comes from. */
#include "scheduler/rows.h"
#include <math.h>

#define LAGS 4

/* One step of given weights; w[0] belongs to the present output. */
static void weighted_row(build *x, int i, const double *w, int p)
{
    level from = x->L[i], to = x->L[i + 1];
    terms t = ode_terms(from, to, T_X);
    for (int j = 0; j < p; j++) t.k[term_of_output(j)] = to.a * w[j];
    builder_row(x->b, from, (row_spec){.want = WANT_EPS, .x = t, .keep = true});
}

/* Coefficients, lowest power first, of the j-th Lagrange polynomial through p nodes. */
static void lagrange(const double *node, int p, int j, double poly[LAGS])
{
    double scale = 1;
    poly[0] = 1;
    for (int i = 1; i < LAGS; i++) poly[i] = 0;
    for (int k = 0, degree = 0; k < p; k++) {
        if (k == j) continue;
        for (int i = ++degree; i >= 0; i--) poly[i] = (i > 0 ? poly[i - 1] : 0) - node[k] * (i < degree ? poly[i] : 0);
        scale *= node[j] - node[k];
    }
    for (int i = 0; i < p; i++) poly[i] /= scale;
}

/* lms: the polynomial through the last four outputs, in sigma. Ref: Katherine Crowson's k-diffusion sample_lms; the integrals are exact,
 * about the present sigma to keep digits. */
void build_lms(build *x)
{
    for (int i = 0; i < x->n; i++) {
        int p = i + 1 < LAGS ? i + 1 : LAGS;
        double node[LAGS], w[LAGS], h = level_sigma(x->L[i + 1]) - level_sigma(x->L[i]);
        for (int j = 0; j < p; j++) node[j] = level_sigma(x->L[i - j]) - level_sigma(x->L[i]);
        for (int j = 0; j < p; j++) {
            double poly[LAGS], sum = 0;
            lagrange(node, p, j, poly);
            for (int k = p - 1; k >= 0; k--) sum = sum * h + poly[k] / (k + 1);
            w[j] = sum * h;
        }
        weighted_row(x, i, w, p);
    }
}

const double adams_bashforth[4][4] = {
    {1, 0, 0, 0}, {3.0 / 2, -1.0 / 2, 0, 0}, {23.0 / 12, -16.0 / 12, 5.0 / 12, 0}, {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24}};

/* ipndm: Adams-Bashforth's fixed weights, as if the steps were even. Ref: Liu et al. 2022; Zhang & Chen 2023, sec. 4. */
void build_ipndm(build *x)
{
    for (int i = 0; i < x->n; i++) {
        int p = i + 1 < LAGS ? i + 1 : LAGS;
        double w[LAGS], h = level_sigma(x->L[i + 1]) - level_sigma(x->L[i]);
        for (int j = 0; j < p; j++) w[j] = h * adams_bashforth[p - 1][j];
        weighted_row(x, i, w, p);
    }
}

/* deis: the polynomial in u = log sigma, integrated over sigma = e^u. Ref: Zhang & Chen 2023 (tAB-DEIS); diffusers DEISMultistep. */
void build_deis(build *x)
{
    int order = x->c->solver_order ? x->c->solver_order : 2;
    for (int i = 0; i < x->n; i++) {
        int p = multistep_order(x, i, order);
        double node[LAGS], w[LAGS], from = level_sigma(x->L[i]), u = log(level_sigma(x->L[i + 1]) / from), e = exp(u);
        const double moment[3] = {expm1(u), (u - 1) * e + 1, (u * u - 2 * u + 2) * e - 2}; /* integrals of u^k e^u from 0 */
        for (int j = 0; j < p; j++) node[j] = log(level_sigma(x->L[i - j]) / from);
        for (int j = 0; j < p; j++) {
            double poly[LAGS];
            lagrange(node, p, j, poly);
            w[j] = 0;
            for (int k = 0; k < p; k++) w[j] += from * poly[k] * moment[k];
        }
        weighted_row(x, i, w, p);
    }
}
