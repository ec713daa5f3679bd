/* unipc.c - UniPC with its corrector folded into the next row. Ref: Zhao et al. 2023; diffusers UniPCMultistepScheduler.
 *
 * The corrector starts from the same earlier x with the same factor as the predictor before it, so the corrected x is the predicted one
 * plus differences of weights, and the next prediction is a combination of that: one row, one output, no saved x. */
#include "scheduler/rows.h"
#include <math.h>
#include <string.h>

#define ORDER 3

/* Weights of a predictor or corrector step: factor of x, of the output at `from` and of older ones, and (corrector) of the one at `to`. */
typedef struct weights {
    double x, m[ORDER], at_to;
} weights;

/* Solves the n x n system R y = b (n <= 3) by elimination with pivoting. */
static void solve(int n, double R[ORDER][ORDER], double b[ORDER], double y[ORDER])
{
    for (int c = 0; c < n; c++) {
        int pivot = c;
        for (int r = c + 1; r < n; r++)
            if (fabs(R[r][c]) > fabs(R[pivot][c])) pivot = r;
        for (int k = 0; k < n; k++) {
            double held = R[c][k];
            R[c][k] = R[pivot][k];
            R[pivot][k] = held;
        }
        double held = b[c];
        b[c] = b[pivot];
        b[pivot] = held;
        for (int r = c + 1; r < n; r++) {
            double f = R[r][c] / R[c][c];
            for (int k = c; k < n; k++) R[r][k] -= f * R[c][k];
            b[r] -= f * b[c];
        }
    }
    for (int r = n - 1; r >= 0; r--) {
        y[r] = b[r];
        for (int k = r + 1; k < n; k++) y[r] -= R[r][k] * y[k];
        y[r] /= R[r][r];
    }
}

/* older[k]: the level k+1 steps before `from`. p: the order. With x0 the outputs are x0, else eps. */
static weights step_weights(level from, level to, const level *older, int p, bool x0, bool bh1, bool corrector)
{
    weights w = {0};
    if (to.s == 0) { /* first order only */
        w.x = x0 ? 0 : to.a / from.a;
        w.m[0] = x0 ? to.a : -to.a * level_sigma(from);
        return w;
    }
    if (level_same(from, to)) {
        w.x = 1;
        return w;
    }
    double h = level_lambda(to) - level_lambda(from), hh = x0 ? -h : h, em = expm1(hh), B = bh1 ? hh : em, F = x0 ? to.a : to.s;
    double node[ORDER], b[ORDER], rho[ORDER] = {0}, f = 1, g = em / hh - 1, R[ORDER][ORDER];
    for (int k = 0; k < p - 1; k++) node[k] = (level_lambda(older[-k]) - level_lambda(from)) / h;
    node[p - 1] = 1;
    for (int k = 0; k < p; k++) {
        b[k] = g * f / B;
        f *= k + 2;
        g = g / hh - 1 / f;
    }
    int n = corrector ? p : p - 1;
    for (int r = 0; r < n; r++)
        for (int c = 0; c < n; c++) R[r][c] = pow(node[c], r);
    if (n == 1) rho[0] = 0.5; /* diffusers takes 1/2 for the smallest systems */
    else if (n > 1) solve(n, R, b, rho);
    w.x = x0 ? to.s / from.s : to.a / from.a;
    w.m[0] = -F * em;
    for (int k = 0; k < p - 1; k++) {
        double c = -F * B * rho[k] / node[k];
        w.m[k + 1] += c;
        w.m[0] -= c;
    }
    if (corrector) {
        w.at_to = -F * B * rho[p - 1];
        w.m[0] -= w.at_to;
    }
    return w;
}

void build_unipc(build *x)
{
    int order = x->c->solver_order ? x->c->solver_order : 2, before = 0;
    bool bh1 = !strcmp(x->c->solver_type, "bh1"), lower = x->c->lower_order_final != 0, x0 = x->c->predict_x0;
    weights last = {0};
    for (int i = 0; i < x->n; i++) {
        level *L = x->L + i;
        int p = i + 1 < order ? i + 1 : order;
        if (lower && x->n - i < p) p = x->n - i;
        if (L[1].s == 0) p = 1;
        terms corrected = {{[T_X] = 1}};
        int at = x->full - x->n + i - 1;                          /* the step that is corrected */
        if (i > 0 && !(at < 64 && x->c->uncorrected >> at & 1)) { /* from L[-1] to L[0] again, now knowing the output here */
            weights c = step_weights(L[-1], L[0], L - 2, before, x0, bh1, true);
            corrected.k[T_O] += c.at_to;
            for (int k = 0; k < before; k++) corrected.k[T_P1 + k] += c.m[k] - last.m[k];
        }
        weights w = step_weights(L[0], L[1], L - 1, p, x0, bh1, false);
        terms t = terms_sum(w.x, corrected, 0, corrected);
        for (int k = 0; k < p; k++) t.k[term_of_output(k)] += w.m[k];
        builder_row(x->b, L[0], (row_spec){.want = x0 ? WANT_X0 : WANT_EPS, .x = t, .keep = true});
        last = w;
        before = p;
    }
}
