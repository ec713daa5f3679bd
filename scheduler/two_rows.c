/* two_rows.c - samplers of two evaluations a step: heun, its kin restart and heunpp2 (three), dpm2 and its ancestral form, dpm++2s_a,
 * dpm++sde. The step to sigma 0 is always one first-order row. */
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

/* Ref: Karras et al. 2022, algorithm 2: noise that lifts x, a finished one, to a higher sigma. A term of the row before, so that X is always
 * where the model is evaluated. */
level churned(build *x, int i)
{
    level at = x->L[i];
    double sigma = level_sigma(at), gamma = fmin(x->s_churn / (x->k ? x->n : x->full), M_SQRT2 - 1);
    if (!(gamma > 0)) return at;
    if (sigma < x->s_tmin || sigma > x->s_tmax) {
        if (x->who == DC_A1111) builder_draw(x->b, at);
        return at;
    }
    level hat = level_between(x->b->table, sigma * (1 + gamma));
    builder_lift(x->b, at, hat);
    return hat;
}

/* Ref: Karras et al. 2022, algorithm 1. */
static void heun_step(build *x, level from, level to)
{
    bool last = to.s == 0;
    x->b->kept = 0;
    terms t = euler_terms(from, to, level_sigma(to), T_X);
    builder_row(x->b, from, (row_spec){.want = WANT_EPS, .x = t, .s = last ? NULL : &terms_x, .keep = !last});
    if (last) return;
    t = euler_terms(from, to, level_sigma(to), T_S);
    t.k[T_O] = t.k[T_P1] = t.k[T_O] / 2;
    builder_row(x->b, to, (row_spec){.want = WANT_EPS, .x = t, .inner = true});
}

void build_heun(build *x)
{
    for (int i = 0; i < x->n; i++) heun_step(x, churned(x, i), x->L[i + 1]);
}

/* Index of the level of L[0..n] whose sigma is nearest. */
static int nearest_level(const level *L, int n, double sigma)
{
    int best = 0;
    for (int i = 1; i <= n; i++)
        if (fabs(level_sigma(L[i]) - sigma) < fabs(level_sigma(L[best]) - sigma)) best = i;
    return best;
}

/* Point i of n Karras sigmas between two levels. */
static level karras_level(const build *x, level high, level low, int i, int n)
{
    if (i == 0 || i == n - 1) return i == 0 ? high : low;
    double a = pow(level_sigma(high), 1.0 / 7), b = pow(level_sigma(low), 1.0 / 7);
    return level_between(x->b->table, pow(a + (double)i / (n - 1) * (b - a), 7));
}

/* Ref: Xu et al. 2023, "Restart Sampling for Improving Generative Processes", with A1111's choice of restarts: from 20 steps on, part of
 * them goes from sigma 0.1 up to 2 by noise and down again. */
void build_restart(build *x)
{
    int n = x->n, times = n >= 36 ? 2 : n >= 20 ? 1 : 0, part = n >= 36 ? n / 4 : 9, main = n - part * times;
    level high = x->L[0], low = x->L[n - 1], end = x->L[n];
    if (times)
        for (int i = 0; i < main; i++) x->L[i] = karras_level(x, high, low, i, main);
    x->L[main] = end;
    int bottom = nearest_level(x->L, main, 0.1), top = nearest_level(x->L, main, 2);
    for (int i = 0; i < main; i++) {
        heun_step(x, x->L[i], x->L[i + 1]);
        if (i + 1 != bottom || top >= bottom) continue;
        level from = x->L[top], to = x->L[bottom];
        for (int k = 0; k < times; k++) {
            builder_lift(x->b, to, from);
            for (int j = 0; j + 1 < part + 1; j++) heun_step(x, karras_level(x, from, to, j, part + 1), karras_level(x, from, to, j + 1, part + 1));
        }
    }
}

/* Heun with a third look at the step after the next, each slope weighted by its sigma. Ref: ComfyUI sample_heunpp2. */
void build_heunpp2(build *x)
{
    double first = level_sigma(x->L[0]);
    for (int i = 0; i < x->n; i++) {
        level from = churned(x, i), to = x->L[i + 1];
        double dt = level_sigma(to) - level_sigma(from);
        terms t = euler_terms(from, to, level_sigma(to), T_X);
        bool last = i == x->n - 1;
        x->b->kept = 0;
        builder_row(x->b, from, (row_spec){.want = WANT_EPS, .x = t, .s = last ? NULL : &terms_x, .keep = !last});
        if (last) continue;
        bool three = i < x->n - 2;
        level next = x->L[i + 2];
        double w2 = level_sigma(to) / ((three ? 3 : 2) * first), w3 = three ? level_sigma(next) / (3 * first) : 0;
        if (three)
            builder_row(x->b, to, (row_spec){.want = WANT_EPS, .x = euler_terms(to, next, level_sigma(next), T_X), .keep = true, .inner = true});
        t = ode_terms(from, to, T_S);
        t.k[three ? T_P2 : T_P1] = to.a * dt * (1 - w2 - w3);
        t.k[three ? T_P1 : T_O] = to.a * dt * w2;
        if (three) t.k[T_O] = to.a * dt * w3;
        builder_row(x->b, three ? next : to, (row_spec){.want = WANT_EPS, .x = t, .inner = true});
    }
}

/* DPM-Solver-2 (Lu et al. 2022a) with its midpoint in log sigma, towards the level under `to` that leaves room for eta's noise. Ref:
 * k-diffusion sample_dpm_2, sample_dpm_2_ancestral; diffusers KDPM2. */
static void dpm2(build *x, double eta, bool draws)
{
    for (int i = 0; i < x->n; i++) {
        level from = churned(x, i), to = x->L[i + 1];
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

/* The sigmas between which the noises of a step live: k-diffusion makes them from logarithms in float32, ComfyUI the middle one only, and a Brownian
 * motion moves by the root of what that rounds off. */
static void noise_sigmas(const build *x, level from, level to, double at[3])
{
    float high = (float)level_sigma(from), low = (float)level_sigma(to), begin = -logf(high), end = -logf(low);
    bool exact = x->who == DC_COMFYUI;
    at[0] = exact ? high : expf(-begin);
    at[1] = expf(-(begin + (end - begin) * 0.5f));
    at[2] = exact ? low : expf(-end);
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
        double down, up, at[3];
        noise_sigmas(x, from, to, at);
        level_split(from, mid, x->eta, &down, &up);
        terms t = move_terms(from, mid.a, down, T_X);
        t.k[T_Z] = up;
        builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = t, .s = &terms_x, .draw = true, .from = at[0], .to = at[1]});
        level_split(from, to, x->eta, &down, &up);
        t = move_terms(from, to.a, down, T_S);
        t.k[T_Z] = up;
        builder_row(x->b, mid, (row_spec){.want = WANT_X0, .x = t, .draw = true, .inner = true, .from = at[0], .to = at[2]});
    }
}
