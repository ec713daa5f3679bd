/* rows.c - rows of coefficients from what a sampler's formula says. */
#include "scheduler/rows.h"
#include <math.h>
#include <stdlib.h>

const terms terms_x = {{[T_X] = 1}};

/* O = kx X + km M. Ref: with x = a x0 + s eps and v = a eps - s x0, a*a + s*s = 1. */
static void convert(dc_prediction have, wanted want, level l, double *kx, double *km)
{
    double a = l.a, s = l.s;
    *kx = 0, *km = 1;
    if (want == WANT_RAW || (have == DC_PREDICT_EPSILON && want == WANT_EPS) || (have == DC_PREDICT_SAMPLE && want == WANT_X0)) return;
    if (have == DC_PREDICT_EPSILON) *kx = 1 / a, *km = -s / a;
    else if (have == DC_PREDICT_V && want == WANT_X0) *kx = a, *km = -s;
    else if (have == DC_PREDICT_V) *kx = s, *km = a;
    else *kx = 1 / s, *km = -a / s;
}

/* Named terms to registers: kept outputs are looked up in their slots. */
static void to_registers(const builder *b, const terms *t, double out[DC_REGS])
{
    for (int i = 0; i < DC_REGS; i++) out[i] = 0;
    out[DC_REG_X] = t->k[T_X];
    out[DC_REG_O] = t->k[T_O];
    out[DC_REG_S] = t->k[T_S];
    out[DC_REG_Z] = t->k[T_Z] * b->s_noise;
    out[DC_REG_U] = t->k[T_U];
    for (int i = 0; i < 3; i++)
        if (t->k[T_P1 + i] != 0) out[DC_REG_H0 + b->slot[i]] += t->k[T_P1 + i];
}

/* Slot for the output of this row: a free one, else the oldest's. It becomes the newest. */
static int take_slot(builder *b)
{
    int slot = 0;
    if (b->kept == 3) {
        slot = b->slot[2];
        b->kept--;
    } else {
        for (int i = 0; i < b->kept; i++)
            if (b->slot[i] == slot) slot++, i = -1;
    }
    for (int i = b->kept; i > 0; i--) b->slot[i] = b->slot[i - 1];
    b->slot[0] = slot;
    b->kept++;
    return slot;
}

void builder_row(builder *b, level at, row_spec r)
{
    if (b->failed) return;
    if (b->plan->n_rows == b->room) {
        int room = b->room ? 2 * b->room : 64;
        dc_row *rows = realloc(b->plan->rows, (size_t)room * sizeof *rows);
        if (!rows) {
            b->failed = true;
            return;
        }
        b->plan->rows = rows;
        b->room = room;
    }
    dc_row *row = &b->plan->rows[b->plan->n_rows++];
    *row = (dc_row){.t = at.t, .sigma = at.a > 0 ? at.s / at.a : INFINITY, .c_in = 1, .slot = -1, .save = r.s != NULL, .begins_step = !r.inner};
    convert(b->prediction, r.want, at, &row->kx, &row->km);
    convert(b->prediction, WANT_X0, at, &row->px, &row->pm);
    to_registers(b, &r.x, row->x);
    if (r.s) to_registers(b, r.s, row->s);
    else row->s[DC_REG_S] = 1;
    row->draw = r.draw || r.x.k[T_Z] != 0;
    if (row->draw) row->sigma_from = r.from, row->sigma_to = r.to;
    if (r.keep || r.keep_u) row->slot = take_slot(b);
    row->keep_u = r.keep_u;
    if (r.keep_u || r.x.k[T_U] != 0 || (r.s && r.s->k[T_U] != 0)) b->plan->unconditional = true;
    b->plan->steps += !r.inner;
}

void builder_lift(builder *b, level from, level to)
{
    double sigma = level_sigma(from), hat = level_sigma(to), noise = to.a * b->s_noise * sqrt(fmax(0, hat * hat - sigma * sigma)),
           factor = to.a / from.a;
    if (b->plan->n_rows == 0) {
        b->lifted = factor;
        b->churn = noise;
        b->plan->draw_churn = true;
        return;
    }
    dc_row *row = &b->plan->rows[b->plan->n_rows - 1];
    for (int i = 0; i < DC_REGS; i++) row->x[i] *= factor;
    row->x[DC_REG_Z] += noise;
    row->draw = true;
    row->sigma_from = sigma;
    row->sigma_to = hat;
}

void builder_draw(builder *b, level at)
{
    if (b->plan->n_rows == 0) {
        b->plan->draw_churn = true;
        return;
    }
    dc_row *row = &b->plan->rows[b->plan->n_rows - 1];
    row->draw = true;
    row->sigma_from = row->sigma_to = level_sigma(at);
}

terms terms_sum(double f, terms a, double g, terms b)
{
    for (int i = 0; i < TERMS; i++) a.k[i] = f * a.k[i] + g * b.k[i];
    return a;
}

void level_split(level from, level to, double eta, double *down, double *up)
{
    *down = to.s;
    *up = 0;
    if (eta == 0 || to.s == 0) return;
    double ratio = to.s * from.a / (to.a * from.s); /* sigma'/sigma; 0 when the start is pure noise */
    *up = fmin(to.s, eta * to.s * sqrt(fmax(0, 1 - ratio * ratio)));
    *down = sqrt(fmax(0, to.s * to.s - *up * *up));
}

terms move_terms(level from, double to_a, double to_s, int base)
{
    terms t = {0};
    t.k[base] = to_s / from.s;
    t.k[T_O] = to_a - to_s * from.a / from.s;
    return t;
}

terms ode_terms(level from, level to, int base)
{
    terms t = {0};
    t.k[base] = to.a / from.a;
    return t;
}
