/* spacing.c - timesteps as diffusers' classes space them, and the shapes of sigma lists. Ref: set_timesteps of the classes. */
#include "scheduler/rows.h"
#include <math.h>
#include <string.h>

/* numpy rounds halves to even; the default rounding mode of C's rint does too */
static double round_even(double x) { return rint(x); }

/* ---- timesteps -------------------------------------------------------------------------------------------------------- */

/* Point i of `points` from 0 to T-1, counted from the end. TRAP: numpy multiplies by a step that is already rounded; 15 * (999/30) is
 * below 499.5, so that a class that rounds gets 499 and not 500. */
static double linspace(int T, int points, int i)
{
    int k = points - 1 - i;
    if (points == 1) return 0;
    return i == 0 ? T - 1 : k * ((double)(T - 1) / (points - 1));
}

/* numpy's arange(T, 0, -T/n)[i]: multiples of the difference of its first two values. */
static double down_from(int T, int n, int i)
{
    double step = (T - (double)T / n) - T;
    return T + i * step;
}

bool spacing_known(const char *name) { return !strcmp(name, "leading") || !strcmp(name, "trailing") || !strcmp(name, "linspace"); }

const char *spacing_of(const sampler_class *s, const dc_noise_config *c)
{
    return *c->spacing && (s->flags & READS_SPACING) ? c->spacing : s->spacing;
}

void spaced_timesteps(double *t, const sampler_class *s, const dc_noise_config *c, int n)
{
    const char *spacing = spacing_of(s, c);
    int T = c->train_steps, points = n + (s->family == ROUNDED);
    /* as many steps as the training had: every timestep once (n + 1 points would repeat some, which no multistep formula survives) */
    if (points > T && s->family == ROUNDED) {
        for (int i = 0; i < n; i++) t[i] = T - 1 - i;
        return;
    }
    int ratio = T / points, offset = c->steps_offset, last = T - 1 - (points - 1) * ratio;
    if (offset > last) offset = last; /* the table ends there */
    for (int i = 0; i < n; i++) {
        if (!strcmp(spacing, "linspace")) t[i] = s->family == SIGMA_SPACE ? linspace(T, points, i) : round_even(linspace(T, points, i));
        else if (!strcmp(spacing, "leading")) t[i] = (points - 1 - i) * ratio + offset;
        else t[i] = round_even(down_from(T, n, i)) - 1;
    }
}

/* Ref: Luo et al. 2023; diffusers LCMScheduler.set_timesteps: n of the `original` distillation steps, evenly by index. */
dc_status distilled_timesteps(double *t, const dc_noise_config *c, int n, dc_error *e)
{
    int original = c->original_steps, k = c->train_steps / original;
    if (n > original) return dc_fail(e, DC_USAGE, "steps: found %d, expected at most %d, the steps of the model's distillation", n, original);
    for (int i = 0; i < n; i++) t[i] = (original - (int)floor((double)i * original / n)) * k - 1;
    return DC_OK;
}

/* ---- the beta distribution ---------------------------------------------------------------------------------------------- */

/* The incomplete beta function's continued fraction. Ref: DLMF 8.17.22, evaluated by Lentz's method; x < (a+1)/(a+b+2). */
static double beta_fraction(double x, double a, double b)
{
    double c = 1, d = 1 / (1 - (a + b) * x / (a + 1)), h = d;
    for (int m = 1; m < 300; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 / (1 + even * d);
        c = 1 + even / c;
        h *= c * d;
        d = 1 / (1 + odd * d);
        c = 1 + odd / c;
        h *= c * d;
        if (fabs(c * d - 1) < 1e-16) break;
    }
    return h;
}

/* Quantile of the symmetric beta distribution B(a, a), 0 <= p <= 1, by bisection; the upper half by symmetry. */
double beta_quantile(double p, double a)
{
    if (p <= 0 || p >= 1) return p <= 0 ? 0 : 1;
    if (p == 0.5) return 0.5; /* exactly, for it is rounded to a timestep */
    if (p > 0.5) return 1 - beta_quantile(1 - p, a);
    double low = 0, high = 0.5, norm = tgamma(2 * a) / (tgamma(a) * tgamma(a) * a);
    for (int i = 0; i < 200 && low < high; i++) {
        double x = 0.5 * (low + high);
        if (x == low || x == high) break;
        if (norm * pow(x, a) * pow(1 - x, a) * beta_fraction(x, a, a) < p) low = x;
        else high = x;
    }
    return high;
}

/* ---- shapes ---------------------------------------------------------------------------------------------------------------- */

void shaped_sigmas(double *sigma, shape how, double high, double low, double rho, int n)
{
    for (int i = 0; i < n; i++) {
        double u = n > 1 ? (double)i / (n - 1) : 0;
        if (how == SHAPE_KARRAS) { /* Ref: Karras et al. 2022, eq. 5 */
            double a = pow(high, 1.0 / rho), b = pow(low, 1.0 / rho);
            sigma[i] = pow(a + u * (b - a), rho);
        } else if (how == SHAPE_BETA) { /* Ref: Lee et al. 2024, "Beta Sampling is All You Need" */
            sigma[i] = low + beta_quantile(1 - u, 0.6) * (high - low);
        } else { /* evenly in log sigma; Lu's lambdas are the same numbers */
            sigma[i] = exp(log(high) + u * (log(low) - log(high)));
        }
    }
}

double whole_timestep(double t, shape how, const sampler_class *s, const dc_noise_config *c)
{
    if (s->family != ROUNDED) return how == SHAPE_KARRAS && (s->flags & ROUNDS_KARRAS) ? round_even(t) : t;
    /* diffusers casts to integers, which cuts off; only these two shapes are rounded before, and not by the cosine schedule's DPM-Solver */
    bool rounds = how == SHAPE_KARRAS || how == SHAPE_LU || how == SHAPE_CUSTOM;
    if ((s->flags & READS_LU) && !strcmp(c->beta_schedule, "squaredcos_cap_v2")) rounds = false;
    return rounds ? round_even(t) : trunc(t);
}
