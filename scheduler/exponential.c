/* exponential.c - two more multistep samplers in x0: res_multistep, er_sde. */
#include "scheduler/rows.h"
#include <math.h>

/* Ref: Zhang et al. 2023, "Improved Order Analysis and Design of Exponential Integrator for Diffusion Models Sampling"; ComfyUI
 * sample_res_multistep. Second order towards the level that leaves room for eta's noise. TRAP: its node c2 is measured from where the step
 * before aimed at, which with noise is not where x is. */
void build_res_multistep(build *x)
{
    level aimed = {0};
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        double down, up;
        level_split(from, to, x->eta, &down, &up);
        level low = {to.a, down, to.t};
        terms t = move_terms(from, to.a, down, T_X);
        if (i > 0 && down > 0) {
            double h = level_lambda(low) - level_lambda(from), c2 = (level_lambda(x->L[i - 1]) - level_lambda(aimed)) / h;
            double phi1 = expm1(-h) / -h, phi2 = (phi1 - 1) / -h;
            t.k[T_P1] = to.a * h * phi2 / c2;
            t.k[T_O] = to.a * h * phi1 - t.k[T_P1];
        }
        t.k[T_Z] = up;
        bool draw = to.s > 0 && x->eta > 0;
        builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = t, .keep = true, .draw = draw, .from = level_sigma(from), .to = level_sigma(to)});
        aimed = low;
    }
}

/* ER-SDE-Solver-3's noise scale, and its integrals over [to, from] of 1/scale and of (sigma - from)/scale by ComfyUI's 200 points. */
static double er_scale(double sigma) { return sigma * (exp(pow(sigma, 0.3)) + 10); }

static void er_integrals(double from, double to, double *s, double *su)
{
    double step = (from - to) / 200;
    *s = *su = 0;
    for (int i = 0; i < 200; i++) {
        double at = to + i * step, scale = er_scale(at);
        *s += step / scale;
        *su += step * (at - from) / scale;
    }
}

/* Ref: Cui et al. 2023, "Elucidating the Solution Space of Extended Reverse-Time SDE for Diffusion Models"; ComfyUI sample_er_sde. */
void build_er_sde(build *x)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        if (to.s == 0) {
            builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = {{[T_O] = to.a}}});
            continue;
        }
        double h = level_sigma(from), l = level_sigma(to), r = er_scale(l) / er_scale(h), dt = l - h, s, su;
        er_integrals(h, l, &s, &su);
        terms t = ode_terms(from, to, T_X);
        t.k[T_X] *= r;
        t.k[T_O] = to.a * (1 - r);
        t.k[T_Z] = to.a * sqrt(fmax(0, l * l - h * h * r * r));
        if (i > 0) {
            double h1 = level_sigma(x->L[i - 1]);
            terms d = {{[T_O] = 1 / (h - h1), [T_P1] = -1 / (h - h1)}};
            t = terms_sum(1, t, to.a * (dt + s * er_scale(l)), d);
            if (i > 1) {
                double h2 = level_sigma(x->L[i - 2]), f = to.a * (dt * dt / 2 + su * er_scale(l)) / ((h - h2) / 2);
                t = terms_sum(1, t, f, d);
                t = terms_sum(1, t, -f / (h1 - h2), (terms){{[T_P1] = 1, [T_P2] = -1}});
            }
        }
        builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = t, .keep = true, .from = h, .to = l});
    }
}
