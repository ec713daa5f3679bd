/* cfg_pp.c - CFG++: steps towards the guided x0 along the unconditional output. Ref: Chung et al. 2024, "CFG++: Manifold-constrained
 * Classifier Free Guidance for Diffusion Models"; ComfyUI's sample_*_cfg_pp. U is the unconditional x0. */
#include "scheduler/rows.h"
#include <math.h>

/* euler, euler_a, and in A1111's DDIM CFG++: a' x0 + d eps, with the unconditional eps. */
void build_euler_cfg_pp(build *x)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        double down, up;
        level_split(from, to, x->eta, &down, &up);
        terms t = move_terms(from, to.a, down, T_X);
        t.k[T_U] = t.k[T_O] - to.a;
        t.k[T_O] = to.a;
        t.k[T_Z] = up;
        builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = t, .from = level_sigma(from), .to = level_sigma(to)});
    }
}

/* Ref: ComfyUI sample_dpmpp_2m_cfg_pp. Its correction compares the guided output with the unconditional one before. */
void build_dpmpp_2m_cfg_pp(build *x)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        if (to.s == 0) {
            builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = {{[T_O] = to.a}}});
            continue;
        }
        double h = level_lambda(to) - level_lambda(from);
        terms t = {{[T_X] = to.s / from.s, [T_O] = to.a, [T_U] = -to.a * exp(-h)}};
        if (i > 0) {
            double w = -to.a * expm1(-h) * h / (2 * (level_lambda(from) - level_lambda(x->L[i - 1])));
            t.k[T_O] += w;
            t.k[T_P1] = -w;
        }
        builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = t, .keep_u = true});
    }
}

/* Ref: ComfyUI sample_dpmpp_2s_ancestral_cfg_pp as of October 2025: both rows from an x that the guidance is added to.
 * TRAP: in the second row that is the first guided output less the second unconditional one. */
void build_dpmpp_2s_a_cfg_pp(build *x)
{
    for (int i = 0; i < x->n; i++) {
        level from = x->L[i], to = x->L[i + 1];
        double down, up;
        level_split(from, to, x->eta, &down, &up);
        if (down == 0) {
            builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = {{[T_O] = to.a}}});
            continue;
        }
        level mid = level_between(x->b->table, sqrt(level_sigma(from) * down / to.a));
        terms guided = {{[T_X] = 1, [T_O] = from.a, [T_U] = -from.a}}, t = move_terms(from, mid.a, mid.s, T_X), u = move_terms(from, to.a, down, T_S);
        double base = t.k[T_X];
        t.k[T_X] = 0;
        t = terms_sum(1, t, base, guided);
        terms s = {{[T_X] = 1, [T_O] = from.a}};
        u.k[T_U] = -from.a * u.k[T_S];
        u.k[T_Z] = up;
        builder_row(x->b, from, (row_spec){.want = WANT_X0, .x = t, .s = &s});
        builder_row(x->b, mid, (row_spec){.want = WANT_X0, .x = u, .draw = true, .inner = true, .from = level_sigma(from), .to = level_sigma(to)});
    }
}
