/* first_order.c - samplers of one evaluation a step without memory: euler, euler_a, ddim, ddpm, and the distilled models' lcm and tcd. */
#include "scheduler/rows.h"
#include <math.h>

/* Ref: Song et al. 2021 eq. 12 and 16; Karras et al. 2022 algorithm 2. An ancestral Euler step, a DDIM step of any eta and a DDPM step are
 * the same formula. A noise is drawn, needed or not, at timesteps above `draws_above`. */
static void first_order(build *x, double eta, double draws_above)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->target ? x->target[i] : x->L[i + 1];
        double down, up;
        level_split(from, to, eta, &down, &up);
        terms t = move_terms(from, to.a, down, T_X);
        t.k[T_Z] = up;
        builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = t, .draw = from.t > draws_above, .from = level_sigma(from), .to = level_sigma(to)});
    }
}

/* DDIM, which draws at every step as soon as eta is not 0 */
void build_first_order(build *x) { first_order(x, x->eta, x->eta > 0 ? -1 : INFINITY); }

void build_ancestral(build *x) { first_order(x, x->eta, x->k ? INFINITY : -1); }

/* A churned step of diffusers' Euler class. TRAP: it adds the noise behind the evaluation: the output belongs to the x and the sigma
 * without it, and is read as the prediction of one with it. */
static void late_churn(build *x, int i, double gamma)
{
    level from = x->L[i], to = x->L[i + 1];
    double sigma = level_sigma(from), hat = sigma * (1 + gamma), rho = (level_sigma(to) - hat) / hat, noise = sigma * sqrt(gamma * (2 + gamma));
    dc_prediction have = x->b->prediction;
    terms t = ode_terms(from, to, T_X);
    t.k[T_O] = to.a * rho * (have == DC_PREDICT_EPSILON ? hat : sigma);
    t.k[T_Z] = to.a * noise * (have == DC_PREDICT_EPSILON ? 1 : have == DC_PREDICT_V ? 1 + rho - rho / (1 + sigma * sigma) : 1 + rho);
    builder_row(x->b, from, (row_spec){.want = WANT_EPS, .x = t, .from = sigma, .to = hat});
}

/* Ref: Karras et al. 2022, algorithm 2 without its correction. */
void build_euler(build *x)
{
    for (int i = 0; i < x->n; i++) {
        double sigma = level_sigma(x->L[i]), gamma = fmin(x->s_churn / x->full, M_SQRT2 - 1);
        if (!x->k && gamma > 0 && sigma >= x->s_tmin && sigma <= x->s_tmax) {
            late_churn(x, i, gamma);
            continue;
        }
        level from = x->k ? churned(x, i) : x->L[i], to = x->L[i + 1];
        builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = move_terms(from, to.a, to.s, T_X)});
    }
}

/* Ref: Ho et al. 2020 with the lower of the two variances; unlike DDIM's, its steps lead to the next timestep of the list. diffusers keeps
 * the variance above 1e-20, which moves the last step by 1e-10. */
void build_ddpm(build *x)
{
    x->target = NULL;
    first_order(x, 1, 0);
}

/* Ref: Luo et al. 2023, sec. 4; diffusers LCMScheduler. A1111 scales the x of sigma space, ComfyUI has no boundary condition. */
void build_lcm(build *x)
{
    const double sigma_data = 0.5;
    for (int i = 0; i < x->n; i++) {
        double T = x->L[i].t * x->c->timestep_scaling;
        double c_skip = sigma_data * sigma_data / (T * T + sigma_data * sigma_data), c_out = T / sqrt(T * T + sigma_data * sigma_data);
        if (x->who == DC_A1111) c_skip /= x->L[i].a;
        else if (x->k) c_skip = 0, c_out = 1;
        level to = i < x->n - 1 ? x->L[i + 1] : (level){1, 0, 0}; /* the last row returns the boundary-scaled x0 */
        terms t = {{[T_X] = to.a * c_skip, [T_O] = to.a * c_out, [T_Z] = to.s}};
        builder_row(x->b, x->L[i], (row_spec){.want = WANT_X0, .x = t, .from = level_sigma(x->L[i]), .to = level_sigma(to)});
    }
}

/* Ref: Zheng et al. 2024; diffusers TCDScheduler, which calls gamma eta. Each step leads below its target, to floor((1 - gamma) t'), and
 * comes up again with noise. The last target is timestep 0, whose little noise stays. */
void build_tcd(build *x)
{
    for (int i = 0; i < x->n; i++) {
        bool last = i == x->n - 1;
        level to = last ? level_of_t(x->b->table, 0) : x->L[i + 1], low = level_of_t(x->b->table, floor((1 - x->eta) * to.t));
        double r = x->eta > 0 && !last ? to.a / low.a : 1;
        terms t = move_terms(x->L[i], low.a, low.s, T_X);
        t = terms_sum(r, t, 0, t);
        t.k[T_Z] = sqrt(fmax(0, 1 - r * r));
        builder_row(x->b, x->L[i],
                    (row_spec){.want = WANT_X0, .x = t, .draw = x->eta > 0 && !last, .from = level_sigma(x->L[i]), .to = level_sigma(to)});
    }
}
