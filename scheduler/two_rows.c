/* two_rows.c - samplers of two evaluations a step: heun, dpm2 and its ancestral form, dpm++2s_a, dpm++sde. The step to sigma 0 is always
 * one first-order row. */
#include "scheduler/rows.h"
#include <math.h>

/* The level at which the model is asked between two others, the timestep looked up. */
static level middle(const build *x, level from, double sigma_to) { return level_between(x->b->table, sqrt(level_sigma(from) * sigma_to)); }

/* x'/a' = base/a + (sigma' - sigma) O */
static terms euler_terms(level from, level to, double sigma_to, int base)
{
    terms t = ode_terms(from, to, base);
    t.k[T_O] = to.a * (sigma_to - level_sigma(from));
    return t;
}

/* Ref: Karras et al. 2022, algorithm 1. */
void build_heun(build *x)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        bool last = to.s == 0;
        x->b->kept = 0;
        terms t = euler_terms(from, to, level_sigma(to), T_X);
        builder_row(x->b, from, (row_spec){.want = WANT_EPS, .x = t, .s = last ? NULL : &terms_x, .keep = !last});
        if (last) continue;
        t = euler_terms(from, to, level_sigma(to), T_S);
        t.k[T_O] = t.k[T_P1] = t.k[T_O] / 2;
        builder_row(x->b, to, (row_spec){.want = WANT_EPS, .x = t, .inner = true});
    }
}

/* DPM-Solver-2 (Lu et al. 2022a) with its midpoint in log sigma, towards the level under `to` that leaves room for eta's noise. Ref:
 * k-diffusion sample_dpm_2, sample_dpm_2_ancestral; diffusers KDPM2. */
static void dpm2(build *x, double eta, bool draws)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        double down, up;
        level_split(from, to, eta, &down, &up);
        if (down == 0) {
            builder_row(x->b, from, (row_spec){.want = WANT_EPS, .x = euler_terms(from, to, 0, T_X)});
            continue;
        }
        double sigma = down / to.a;
        level mid = middle(x, from, sigma);
        builder_row(x->b, from, (row_spec){.want = WANT_EPS, .x = euler_terms(from, mid, level_sigma(mid), T_X), .s = &terms_x});
        terms t = euler_terms(from, to, sigma, T_S);
        t.k[T_Z] = up;
        builder_row(x->b, mid, (row_spec){.want = WANT_EPS, .x = t, .draw = draws, .inner = true, .from = level_sigma(from), .to = level_sigma(to)});
    }
}
void build_dpm2(build *x) { dpm2(x, 0, false); }
void build_dpm2_ancestral(build *x) { dpm2(x, x->eta, true); }

/* Ref: Lu et al. 2022b, DPM-Solver++(2S) with r = 1/2; k-diffusion sample_dpmpp_2s_ancestral. */
void build_dpmpp_2s_ancestral(build *x)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        double down, up;
        level_split(from, to, x->eta, &down, &up);
        if (down == 0) {
            builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = {{[T_O] = to.a}}});
            continue;
        }
        level mid = middle(x, from, down / to.a);
        builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = move_terms(from, mid.a, mid.s, T_X), .s = &terms_x});
        terms t = move_terms(from, to.a, down, T_S);
        t.k[T_Z] = up;
        builder_row(x->b, mid, (row_spec){.want = WANT_X0, .x = t, .draw = true, .inner = true, .from = level_sigma(from), .to = level_sigma(to)});
    }
}

/* Ref: Lu et al. 2022b, SDE-DPM-Solver++(2S), r = 1/2, for which the second row does not need the first output; k-diffusion
 * sample_dpmpp_sde. The middle carries noise of its own, so the start of the step must be kept. */
void build_dpmpp_sde(build *x)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        if (to.s == 0) {
            builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = {{[T_O] = to.a}}});
            continue;
        }
        level mid = middle(x, from, level_sigma(to));
        double down, up;
        level_split(from, mid, x->eta, &down, &up);
        terms t = move_terms(from, mid.a, down, T_X);
        t.k[T_Z] = up;
        builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = t, .s = &terms_x, .draw = true, .from = level_sigma(from), .to = level_sigma(mid)});
        level_split(from, to, x->eta, &down, &up);
        t = move_terms(from, to.a, down, T_S);
        t.k[T_Z] = up;
        builder_row(x->b, mid, (row_spec){.want = WANT_X0, .x = t, .draw = true, .inner = true, .from = level_sigma(from), .to = level_sigma(to)});
    }
}
