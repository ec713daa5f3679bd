/* mixture.h - what the scheduler tests share: golden files, a denoiser that is known (the posterior mean of a mixture of Gaussians), and the
 * loop over a plan's rows in float64. */
#ifndef TESTS_SCHEDULER_MIXTURE_H
#define TESTS_SCHEDULER_MIXTURE_H
#include "base/json.h"
#include "base/npy.h"
#include "scheduler/sampler.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TEST_DATA "/golden/scheduler/"
#define DIM    16
#define ROWS   2

static json_t *read_json(const char *name)
{
    dc_error e = {0};
    json_t *root = NULL;
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (dc_json_read(&root, path, 64u << 20, &e)) fail_msg("%s", e.text);
    return root;
}

static dc_npy read_npy(const char *name)
{
    dc_error e = {0};
    dc_npy n;
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (dc_npy_read(&n, path, &e)) fail_msg("%s", e.text);
    return n;
}

static void compare_list(const char *what, const char *label, const json_t *want, const double *got, int n, double relative, double absolute)
{
    if ((int)json_array_size(want) != n) fail_msg("%s: %s: %d values, want %zu", label, what, n, json_array_size(want));
    for (int i = 0; i < n; i++) {
        double w = json_number_value(json_array_get(want, (size_t)i));
        if (!(fabs(got[i] - w) <= relative * fabs(w) + absolute)) fail_msg("%s: %s[%d]: %.9g, want %.9g", label, what, i, got[i], w);
    }
}

/* ---- the analytic denoiser: a mixture of Gaussians ------------------------------------------------------------------ */

typedef struct mixture {
    int n;
    double log_w[64], mu[64][DIM], v[64][DIM];
} mixture;

static mixture read_mixture(void)
{
    static mixture m;
    json_t *root = read_json("mixture.json"), *w = json_object_get(root, "w");
    double sum = 0;
    m.n = (int)json_array_size(w);
    assert_true(m.n <= 64);
    for (int k = 0; k < m.n; k++) sum += json_number_value(json_array_get(w, (size_t)k));
    for (int k = 0; k < m.n; k++) {
        m.log_w[k] = log(json_number_value(json_array_get(w, (size_t)k)) / sum);
        for (int j = 0; j < DIM; j++) {
            m.mu[k][j] = json_number_value(json_array_get(json_array_get(json_object_get(root, "mu"), (size_t)k), (size_t)j));
            m.v[k][j] = json_number_value(json_array_get(json_array_get(json_object_get(root, "v"), (size_t)k), (size_t)j));
        }
    }
    json_decref(root);
    return m;
}

/* The optimal eps, v or x0 ('e', 'v', 's': the first letter of prediction_type) for x = a x0 + s eps. */
static void denoise(const mixture *m, const double *x, double a, double s, char what, double *out)
{
    double r[64], most = -INFINITY, sum = 0;
    for (int k = 0; k < m->n; k++) {
        r[k] = m->log_w[k];
        for (int j = 0; j < DIM; j++) {
            double c = a * a * m->v[k][j] + s * s, d = x[j] - a * m->mu[k][j];
            r[k] -= 0.5 * (d * d / c + log(c));
        }
        most = fmax(most, r[k]);
    }
    for (int k = 0; k < m->n; k++) sum += r[k] = exp(r[k] - most);
    for (int j = 0; j < DIM; j++) {
        double x0 = 0, eps = 0;
        for (int k = 0; k < m->n; k++) {
            double c = a * a * m->v[k][j] + s * s, d = x[j] - a * m->mu[k][j];
            x0 += r[k] / sum * (m->mu[k][j] + a * m->v[k][j] / c * d);
            eps += r[k] / sum * s / c * d;
        }
        out[j] = what == 'v' ? a * eps - s * x0 : what == 's' ? x0 : eps;
    }
}

typedef double states[ROWS][DIM];

/* What a model of Stable Diffusion takes a timestep for: its table at whole ones, log-linear in sigma between. */
static void level_told(double t, double *a, double *s)
{
    double product = 1, low = 0, high = 0;
    int whole = (int)fmin(floor(t), 998);
    for (int i = 0; i <= whole + 1; i++) {
        double root = sqrt(0.00085) + i / 999.0 * (sqrt(0.012) - sqrt(0.00085));
        product *= 1 - root * root;
        low = high;
        high = 0.5 * log((1 - product) / product);
    }
    double sigma = exp(low + (t - whole) * (high - low));
    *a = 1 / hypot(1, sigma);
    *s = sigma * *a;
}

/* START; returns the noises drawn. */
static int start(const dc_plan *p, const float *noise, states x)
{
    const float *image = noise + 63 * ROWS * DIM; /* half the last noise: tests/gen/scheduler_runs.py */
    for (int k = 0; k < ROWS * DIM; k++)
        ((double *)x)[k] = p->c_noise * (double)noise[k] + p->c_image * 0.5 * (double)image[k] + p->c_churn * (double)noise[ROWS * DIM + k];
    return 1 + p->draw_churn;
}

/* What the model is taken to have at a row: `levels` [rows][2]; or what it makes of the row's t; or the row's own sigma. */
typedef struct oracle {
    const json_t *levels;
    bool told;
    char what; /* of denoise */
} oracle;

/* The one loop of scheduler/sampler.h, in float64, from the x and s in reg. Keeps X before every row and the last one in out; *used counts noises. */
static void run_rows(const dc_plan *p, oracle by, const mixture *m, const float *noise, int *used, states reg[DC_REGS], states *out)
{
    mixture *half = malloc(sizeof *half); /* the model without a prompt: tests/gen/k_runs.py */
    *half = *m;
    half->n /= 2;
    for (int i = 0; i < p->n_rows; i++) {
        const dc_row *row = &p->rows[i];
        const json_t *level = json_array_get(by.levels, (size_t)i);
        double a = 1 / hypot(1, row->sigma), s = row->sigma * a;
        if (by.levels) a = json_number_value(json_array_get(level, 0)), s = json_number_value(json_array_get(level, 1));
        else if (by.told) level_told(row->t, &a, &s);
        states x = {{0}}, saved = {{0}};
        memcpy(out[i], reg[DC_REG_X], sizeof(states));
        for (int n = 0; n < ROWS; n++) {
            double M[DIM], U[DIM];
            denoise(m, reg[DC_REG_X][n], a, s, by.what, M);
            if (p->unconditional) denoise(half, reg[DC_REG_X][n], a, s, by.what, U);
            for (int j = 0; j < DIM; j++) {
                reg[DC_REG_O][n][j] = row->kx * reg[DC_REG_X][n][j] + row->km * M[j];
                if (p->unconditional) reg[DC_REG_U][n][j] = row->kx * reg[DC_REG_X][n][j] + row->km * U[j];
            }
        }
        if (row->draw) {
            for (int k = 0; k < ROWS * DIM; k++) ((double *)reg[DC_REG_Z])[k] = noise[*used % 64 * ROWS * DIM + k]; /* there are 64 */
            ++*used;
        }
        for (int q = 0; q < DC_REGS; q++)
            for (int n = 0; n < ROWS; n++)
                for (int j = 0; j < DIM; j++) {
                    if (row->x[q] != 0) x[n][j] += row->x[q] * reg[q][n][j];
                    if (row->s[q] != 0) saved[n][j] += row->s[q] * reg[q][n][j];
                }
        if (row->slot >= 0) memcpy(reg[DC_REG_H0 + row->slot], reg[row->keep_u ? DC_REG_U : DC_REG_O], sizeof(states));
        memcpy(reg[DC_REG_X], x, sizeof(states));
        if (row->save) memcpy(reg[DC_REG_S], saved, sizeof(states));
    }
    memcpy(out[p->n_rows], reg[DC_REG_X], sizeof(states));
    free(half);
}

/* A whole plan; returns the noises drawn. */
static int run(const dc_plan *p, oracle by, const mixture *m, const float *noise, states *out)
{
    states *reg = calloc(DC_REGS, sizeof *reg);
    int used = start(p, noise, reg[DC_REG_X]);
    run_rows(p, by, m, noise, &used, reg, out);
    free(reg);
    return used - 1;
}

#endif
