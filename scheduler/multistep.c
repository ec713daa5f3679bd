/* multistep.c - linear multistep samplers on epsilon: x'/a' = x/a + sum of w_j eps_(i-j). They differ in where w comes from. ComfyUI, whose
 * most of them are, ends all in a step of first order into sigma 0. */
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
        bool plain = x->who == DC_COMFYUI && x->L[i + 1].s == 0;
        int p = plain ? 1 : i + 1 < LAGS ? i + 1 : LAGS;
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

/* Order of step i of at most `order`; k-diffusion's forms take the last step into sigma 0 by itself, as ComfyUI does. */
static int order_up_to(const build *x, int i, int order)
{
    if (x->k && x->L[i + 1].s == 0) return 1;
    return i + 1 < order ? i + 1 : order;
}

/* ipndm: Adams-Bashforth's fixed weights, as if the steps were even. Ref: Liu et al. 2022; Zhang & Chen 2023, sec. 4. */
void build_ipndm(build *x)
{
    for (int i = 0; i < x->n; i++) {
        int p = order_up_to(x, i, LAGS);
        double w[LAGS], h = level_sigma(x->L[i + 1]) - level_sigma(x->L[i]);
        for (int j = 0; j < p; j++) w[j] = h * adams_bashforth[p - 1][j];
        weighted_row(x, i, w, p);
    }
}

/* ipndm_v: weights for uneven steps as published by Zhou et al. (zju-pi, diff-sampler) and used by ComfyUI and sd.cpp. Its second order is
 * Adams-Bashforth's; the higher ones only agree with it where the steps are even. h[j]: the step j steps ago. */
static void variable_weights(const double *h, int p, double *w)
{
    double q = h[0] / h[1], t1 = 0, t2 = 0, c = 0;
    w[0] = 1;
    if (p == 1) return;
    w[0] = 1 + q / 2, w[1] = -q / 2;
    if (p == 2) return;
    double r = h[1] / h[2], two = h[0] + h[1], back = h[1] + h[2];
    t1 = (1 - h[0] / (3 * two) * (h[0] * two) / (h[1] * back)) / 2;
    w[0] += t1, w[1] -= (1 + r) * t1, w[2] = t1 * r;
    if (p == 3) return;
    double three = two + h[2], far = h[1] * back / (h[2] * (h[2] + h[3]));
    t2 = ((1 - h[0] / (3 * two)) / 2 + (1 - h[0] / (2 * two)) * h[0] / (6 * three)) * (h[0] * two * three) / (h[1] * back * (back + h[3]));
    c = r + far;
    w[0] += t2, w[1] -= (1 + c) * t2, w[2] += (r + far * (1 + h[2] / h[3])) * t2, w[3] = -t2 * far * r;
}

void build_ipndm_v(build *x)
{
    for (int i = 0; i < x->n; i++) {
        int p = order_up_to(x, i, LAGS);
        double w[LAGS] = {0}, h[LAGS];
        for (int j = 0; j < p; j++) h[j] = level_sigma(x->L[i - j + 1]) - level_sigma(x->L[i - j]);
        variable_weights(h, p, w);
        for (int j = 0; j < p; j++) w[j] *= h[0];
        weighted_row(x, i, w, p);
    }
}

/* Ref: Permenter & Yuan 2024, "Interpreting and Improving Diffusion Models from an Optimization Perspective", with its gamma of 2. */
void build_gradient_estimation(build *x)
{
    const double gamma = 2;
    for (int i = 0; i < x->n; i++) {
        int p = i > 0 && x->L[i + 1].s > 0 ? 2 : 1;
        double h = level_sigma(x->L[i + 1]) - level_sigma(x->L[i]);
        weighted_row(x, i, (double[]){p == 2 ? gamma * h : h, (1 - gamma) * h}, p);
    }
}

/* plms on any levels, in epsilon: the first step is taken again with the mean of the outputs at both its ends. Ref: Liu et al. 2022 as
 * CompVis and A1111 have it. */
void build_plms(build *x)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        int p = i + 1 < LAGS ? i + 1 : LAGS;
        double w[LAGS], h = level_sigma(to) - level_sigma(from);
        for (int j = 0; j < p; j++) w[j] = h * adams_bashforth[p - 1][j];
        if (i > 0 || to.s == 0) { /* at sigma 0 there is nothing to look at */
            weighted_row(x, i, w, p);
            continue;
        }
        terms t = ode_terms(from, to, T_X), again = ode_terms(from, to, T_S);
        t.k[T_O] = to.a * h;
        again.k[T_O] = again.k[T_P1] = to.a * h / 2;
        builder_row(x->b, from, (row_spec){.want = WANT_EPS, .x = t, .s = &terms_x, .keep = true});
        builder_row(x->b, to, (row_spec){.want = WANT_EPS, .x = again, .inner = true});
    }
}

/* deis: the polynomial in u = log sigma, integrated over sigma = e^u. Ref: Zhang & Chen 2023 (tAB-DEIS); diffusers DEISMultistep. */
void build_deis(build *x)
{
    int order = x->c->solver_order ? x->c->solver_order : x->k ? 3 : 2;
    for (int i = 0; i < x->n; i++) {
        int p = multistep_order(x, i, order);
        if (x->L[i + 1].s == 0) {
            weighted_row(x, i, &(double){-level_sigma(x->L[i])}, 1);
            continue;
        }
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
