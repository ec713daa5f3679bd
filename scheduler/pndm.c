/* pndm.c - pseudo linear multistep (plms). Ref: Liu et al. 2022; diffusers PNDMScheduler: kept outputs are the raw ones. */
#include "scheduler/rows.h"
#include <math.h>

/* DDIM move with a mean of raw outputs: x' = P x + Q mean. A mean of v's is turned into epsilon with the start's level. */
static void transfer(level from, level to, bool v, double *P, double *Q)
{
    double g = to.a * (level_sigma(to) - level_sigma(from));
    *P = to.a / from.a + (v ? g * from.s : 0);
    *Q = g * (v ? from.a : 1);
}

/* The pseudo Runge-Kutta start of a step (skip_prk_steps false): four evaluations; M of the second row is recovered in the third from X
 * and S. diffusers counts half a step down from the present timestep for the first row and up from the next one for the others. */
static void runge_kutta(build *x, int k, bool v)
{
    double t = x->L[k].t, to = k + 1 < x->n ? x->L[k + 1].t : t - x->ratio, p1, q1, p2, q2, p3, q3;
    level from = x->final_at(x, t), down = x->final_at(x, t - x->ratio / 2), up = x->final_at(x, to + x->ratio / 2), next = x->final_at(x, to);
    transfer(from, down, v, &p1, &q1);
    transfer(from, up, v, &p2, &q2);
    transfer(from, next, v, &p3, &q3);
    builder_row(x->b, from, (row_spec){.want = WANT_RAW, .x = {{[T_X] = p1, [T_O] = q1}}, .s = &terms_x, .keep = true});
    builder_row(x->b, up, (row_spec){.want = WANT_RAW, .x = {{[T_S] = p2, [T_O] = q2}}, .inner = true});
    terms s = {{[T_S] = p3 - q3 / 3 / q2 * p2, [T_P1] = q3 / 6, [T_X] = q3 / 3 / q2, [T_O] = q3 / 3}};
    builder_row(x->b, up, (row_spec){.want = WANT_RAW, .x = {{[T_S] = p3, [T_O] = q3}}, .s = &s, .inner = true});
    builder_row(x->b, next, (row_spec){.want = WANT_RAW, .x = {{[T_S] = 1, [T_O] = q3 / 6}}, .inner = true});
}

/* Timestep of evaluation j. diffusers lists the second one twice, and image-to-image cuts that list of n + 1 off at its beginning. */
static double listed(const build *x, int j)
{
    int at = x->full - x->n + j;
    return x->all[at < 2 ? at : at - 1].t;
}

/* The transfer of evaluation j: the second one looks at the first step again, from where that began. */
static void plms_row(build *x, int j, bool v)
{
    double t = listed(x, j), P, Q, begin = j == 1 ? t + x->ratio : t;
    level at = x->final_at(x, t);
    transfer(x->final_at(x, begin), x->final_at(x, begin - x->ratio), v, &P, &Q);
    if (j == 0) {
        builder_row(x->b, at, (row_spec){.want = WANT_RAW, .x = {{[T_X] = P, [T_O] = Q}}, .s = &terms_x, .keep = true});
    } else if (j == 1) { /* its output is not kept */
        builder_row(x->b, at, (row_spec){.want = WANT_RAW, .x = {{[T_S] = P, [T_O] = Q / 2, [T_P1] = Q / 2}}, .inner = true});
    } else {
        const double *w = adams_bashforth[x->b->kept < 3 ? x->b->kept : 3];
        builder_row(x->b, at,
                    (row_spec){.want = WANT_RAW,
                               .x = {{[T_X] = P, [T_O] = Q * w[0], [T_P1] = Q * w[1], [T_P2] = Q * w[2], [T_P3] = Q * w[3]}},
                               .keep = true});
    }
}

void build_pndm(build *x)
{
    bool v = x->b->prediction == DC_PREDICT_V;
    if (x->c->skip_prk_steps == 1 || x->full < 4) { /* three steps alone have no end for the Runge-Kutta start to run to */
        for (int j = 0; j < (x->full > 1 ? x->n + 1 : 1); j++) plms_row(x, j, v);
        return;
    }
    int first = x->n < 3 ? x->n : 3;
    for (int k = 0; k < first; k++) runge_kutta(x, k, v);
    for (int k = first; k < x->n; k++) {
        double t = x->L[k].t, P, Q;
        const double *w = adams_bashforth[x->b->kept < 3 ? x->b->kept : 3];
        transfer(x->final_at(x, t), x->final_at(x, t - x->ratio), v, &P, &Q);
        builder_row(x->b, x->final_at(x, t),
                    (row_spec){.want = WANT_RAW,
                               .x = {{[T_X] = P, [T_O] = Q * w[0], [T_P1] = Q * w[1], [T_P2] = Q * w[2], [T_P3] = Q * w[3]}},
                               .keep = true});
    }
}
