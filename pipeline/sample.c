/* sample.c - the sampling loop: one planned pass a row of the sampler (scheduler/sampler.h), registers on the device. */
#include "base/checked.h"
#include "pipeline/model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Everything one pass reads; while planning all host pointers are NULL and row is a stand-in with every term present. */
typedef struct step {
    const job *j;
    const dc_row *row;
    int n;                     /* pictures in the batch; the UNet sees cond.n times as many (with guidance the negative part first, as diffusers) */
    float first;               /* 1: X comes from `start`, 0: from the pass before */
    int rows_done, steps_done; /* for the trace, for previews */
    bool uses[DC_REGS];
    const float *start; /* [n,h,w,C] X of the first row */
    const float *noise; /* [n,h,w,C] Z of this row */
    const float *pooled, *time_ids, *extra;
    float t, lcm_w;
    float *latent; /* [n,h,w,C] X after this row */
    float *saved;  /* the same of S, where trials are measured */
    float *x0;     /* the same of the denoised estimate, where there are previews; j->preview.kind says so also while planning */
    dc_stats *stats;
} step;

static dc_tensor upload(dc_run *r, int rank, int64_t a, int64_t b, int64_t c, int64_t d, const float *host)
{
    return dc_upload(r, DC_F32, rank, (int64_t[4]){a, b, c, d}, host);
}

/* Has the negative prompt more or fewer chunks than the prompt? */
static bool two_lengths(const job *j) { return j->guided && j->cond.tokens[0] != j->cond.tokens[1]; }

/* negative + sum of scale * weight * (part - negative), for n pictures. Ref: A1111 sd_samplers_cfg_denoiser.py, combine_denoised. */
static dc_tensor mix_parts(const job *j, dc_run *r, dc_tensor out, dc_tensor negative, int n)
{
    enum { TERMS = 8 };
    const conditioning *c = &j->cond;
    double all = 0, scale = j->scale * j->plan.guidance_factor;
    for (int k = 1; k < c->n; k++) all += c->strand[k].weight;
    dc_term term[TERMS] = {{1.0f - (float)(scale * all), negative}};
    for (int k = 1, terms = 1; k < c->n; k++) {
        term[terms++] = (dc_term){(float)(scale * c->strand[k].weight), dc_view_batch(out, (int64_t)k * n, n)};
        if (terms < TERMS && k + 1 < c->n) continue;
        term[0] = (dc_term){1.0f, dc_lincomb(r, term, terms)};
        terms = 1;
    }
    return term[0].x;
}

/* The model's raw output for X, after guidance: [n,h,w,C]; and without the prompt (the same where there is no guidance). */
static dc_tensor guided_output(const step *s, dc_run *r, dc_tensor X, dc_tensor *unconditional)
{
    const job *j = s->j;
    const dc_unet_config *u = dc_unet_configuration(j->m->unet);
    const conditioning *c = &j->cond;
    int n = s->n, N = c->n * n;

    dc_tensor scaled = dc_lincomb(r, &(dc_term){(float)s->row->c_in, X}, 1);
    dc_unet_in in = {.n = N, .x = scaled, .timestep = upload(r, 1, 1, 0, 0, 0, &s->t), .text = j->unet_text};
    if (two_lengths(j)) in.text_first = j->unet_text + dc_unet_texts(j->m->unet);
    int extra = u->in_channels - u->out_channels;
    if (extra) in.extra = upload(r, 4, n, j->h, j->w, extra, s->extra);
    if (u->text_time) {
        in.pooled = upload(r, 2, N, c->pooled_width, 0, 0, s->pooled);
        in.time_ids = upload(r, 2, N, 6, 0, 0, s->time_ids);
    }
    if (u->time_cond) in.guidance = upload(r, 1, 1, 0, 0, 0, &s->lcm_w);

    dc_tensor out = *unconditional = dc_unet_forward(j->m->unet, r, in);
    if (!j->guided || !dc_run_ok(r)) return out;
    dc_tensor negative = *unconditional = dc_view_batch(out, 0, n), positive = dc_view_batch(out, n, n);
    dc_tensor mixed = mix_parts(j, r, out, negative, n);
    return j->rescale > 0 ? dc_rescale_std(r, mixed, positive, (float)j->rescale) : mixed; /* of several parts, to the first */
}

/* What the text alone decides, for all rows of a batch. context: the negative texts [n,T0,width], then the others [cond.n n - n,T,width];
 * NULL while planning. */
typedef struct text_part {
    const job *j;
    int n;
    const float *context;
} text_part;

static void run_text_part(void *ctx, dc_run *r)
{
    const text_part *p = ctx;
    const conditioning *c = &p->j->cond;
    const dc_unet *unet = p->j->m->unet;
    int64_t n = p->n, N = n * c->n;
    if (!two_lengths(p->j)) {
        dc_unet_text_forward(unet, r, upload(r, 3, N, c->tokens[0], c->width, 0, p->context), p->j->unet_text);
        return;
    }
    const float *others = p->context ? p->context + (size_t)n * (size_t)c->tokens[1] * (size_t)c->width : NULL;
    dc_unet_text_forward(unet, r, upload(r, 3, n, c->tokens[1], c->width, 0, p->context), p->j->unet_text + dc_unet_texts(unet));
    dc_unet_text_forward(unet, r, upload(r, 3, N - n, c->tokens[0], c->width, 0, others), p->j->unet_text);
}

/* One row: M = model(X); O = kx X + km M; X' and S' from all old registers; H[slot] = O. */
static void run_step(void *ctx, dc_run *r)
{
    const step *s = ctx;
    const job *j = s->j;
    const dc_row *row = s->row;
    const int64_t dim[4] = {s->n, j->h, j->w, j->latent_channels};

    dc_tensor reg[DC_REGS] = {{0}};
    reg[DC_REG_X] = dc_state(r, DC_F32, 4, dim);
    for (int k = DC_REG_H0; k <= DC_REG_S; k++)
        if (s->uses[k]) reg[k] = dc_state(r, DC_F32, 4, dim);
    if (s->uses[DC_REG_Z]) reg[DC_REG_Z] = dc_upload(r, DC_F32, 4, dim, s->noise);
    dc_tensor X = reg[DC_REG_X], start = dc_upload(r, DC_F32, 4, dim, s->start);
    dc_lincomb_into(r, X, (dc_term[]){{1.0f - s->first, X}, {s->first, start}}, 2);

    dc_tensor U, M = guided_output(s, r, X, &U);
    reg[DC_REG_O] = dc_lincomb(r, (dc_term[]){{(float)row->kx, X}, {(float)row->km, M}}, 2);
    if (s->uses[DC_REG_U]) reg[DC_REG_U] = dc_lincomb(r, (dc_term[]){{(float)row->kx, X}, {(float)row->km, U}}, 2);
    if (j->preview.kind) dc_download(r, dc_lincomb(r, (dc_term[]){{(float)row->px, X}, {(float)row->pm, M}}, 2), s->x0);

    dc_term to_x[DC_REGS], to_s[DC_REGS];
    int n = 0;
    for (int k = 0; k < DC_REGS; k++) {
        if (k > DC_REG_O && !s->uses[k]) continue;
        to_x[n] = (dc_term){(float)row->x[k], reg[k]};
        to_s[n] = (dc_term){row->save ? (float)row->s[k] : (float)(k == DC_REG_S), reg[k]};
        n++;
    }
    dc_tensor next = dc_lincomb(r, to_x, n);
    if (s->uses[DC_REG_S]) {
        dc_tensor saved = dc_lincomb(r, to_s, n);
        dc_lincomb_into(r, reg[DC_REG_S], &(dc_term){1.0f, saved}, 1);
    }
    for (int k = 0; k < 3; k++) {
        float kept = row->slot == k ? 1.0f : 0.0f, kept_u = row->keep_u ? kept : 0.0f;
        dc_term terms[] = {{1.0f - kept, reg[DC_REG_H0 + k]}, {kept - kept_u, reg[DC_REG_O]}, {kept_u, reg[DC_REG_U]}};
        if (s->uses[DC_REG_H0 + k]) dc_lincomb_into(r, reg[DC_REG_H0 + k], terms, s->uses[DC_REG_U] ? 3 : 2);
    }
    dc_lincomb_into(r, X, &(dc_term){1.0f, next}, 1);
    dc_stats_of(r, X, s->stats);
    dc_download(r, X, s->latent);
    if (j->plan.adaptive) dc_download(r, reg[DC_REG_S], s->saved);
}

/* Registers that some row reads or writes. */
static void find_uses(step *s, const dc_plan *p)
{
    for (int i = 0; i < p->n_rows; i++) {
        const dc_row *row = &p->rows[i];
        for (int k = 0; k < DC_REGS; k++)
            if (row->x[k] != 0 || (row->save && row->s[k] != 0)) s->uses[k] = true;
        if (row->save) s->uses[DC_REG_S] = true;
        if (row->slot >= 0) s->uses[DC_REG_H0 + row->slot] = true;
        if (row->keep_u) s->uses[DC_REG_U] = true;
        if (row->draw) s->uses[DC_REG_Z] = true;
    }
}

static const dc_row every_term = {.t = 500,
                                  .c_in = 1,
                                  .kx = 1,
                                  .km = 1,
                                  .px = 1,
                                  .pm = 1,
                                  .x = {1, 1, 1, 1, 1, 1, 1, 1},
                                  .s = {1, 1, 1, 1, 1, 1, 1, 1},
                                  .keep_u = true,
                                  .slot = 0,
                                  .save = true,
                                  .draw = true};

/* The pass of a row, to r. It reads what the text's pass makes, which is planned before. */
static dc_status plan_rows(job *j, dc_run *r, int n)
{
    step s = {.j = j, .row = &every_term, .n = n, .first = 0.5f};
    find_uses(&s, &j->plan);
    return dc_run_plan(r, run_step, &s, j->e);
}

static dc_status plan_batch(job *j, int n)
{
    text_part text = {.j = j, .n = n};
    dc_status s = dc_run_plan(j->unet_text_run, run_text_part, &text, j->e);
    return s ? s : plan_rows(j, j->unet_run, n);
}

dc_status sample_plan(job *j)
{
    j->unet_run = dc_run_new(j->m->device);
    j->unet_text_run = dc_run_new(j->m->device);
    j->unet_text = dc_calloc(2 * (size_t)dc_unet_texts(j->m->unet) + 1, sizeof *j->unet_text);
    if (!j->unet_run || !j->unet_text_run || !j->unet_text) return dc_fail_memory(j->e, "a pass", 0);
    trace_attach(j, j->unet_run);
    dc_run_set_profile(j->unet_run, j->q->profile);
    dc_run_set_profile(j->unet_text_run, j->q->profile);
    return plan_batch(j, j->batch);
}

/* ---- host side of a batch --------------------------------------------------------------------------------- */

/* What a batch holds on the host while it is sampled. */
typedef struct batch {
    int first, n;
    size_t latent; /* numbers in one picture's latent */
    dc_draws draws;
    float *start, *noise, *x, *draw, *context, *pooled, *time_ids, *extra;
    int text[DC_PROMPT_PARTS + 1]; /* of each strand, now in context and pooled; -1: none yet */
} batch;

static void batch_free(batch *b)
{
    dc_draws_free(&b->draws);
    free(b->start);
    free(b->noise);
    free(b->x);
    free(b->draw);
    free(b->context);
    free(b->pooled);
    free(b->time_ids);
    free(b->extra);
}

/* b->draw [n][C,h,w], torch's order, to channels-last: out [n][h,w,C]. */
static void to_channels_last(const job *j, const batch *b, float *out)
{
    int C = j->latent_channels, area = j->h * j->w;
    for (int i = 0; i < b->n; i++) {
        const float *from = b->draw + (size_t)i * b->latent;
        float *to = out + (size_t)i * b->latent;
        for (int c = 0; c < C; c++)
            for (int p = 0; p < area; p++) to[(size_t)p * (size_t)C + (size_t)c] = from[(size_t)c * (size_t)area + (size_t)p];
    }
}

/* A fresh unit noise for every picture of the batch, living between two sigmas: out [n][h,w,C]. */
static void draw_noise(const job *j, batch *b, double from, double to, float *out)
{
    dc_draws_step(&b->draws, from, to, b->draw);
    to_channels_last(j, b, out);
}

/* Posterior sample of the encoder's moments: (mean + exp(logvar/2) draw) scaling, or its mean, where programs do not seed that draw.
 * Ref: DiagonalGaussianDistribution.sample. */
static void sample_posterior(const job *j, batch *b, const float *mean, const float *logvar, float *out)
{
    const dc_vae_config *v = dc_vae_configuration(j->m->vae);
    memset(out, 0, (size_t)b->n * b->latent * sizeof *out);
    if (logvar && j->noise.convention->posterior) {
        dc_draws_posterior(&b->draws, b->draw);
        to_channels_last(j, b, out);
    }
    for (int i = 0; i < b->n; i++)
        for (size_t k = 0; k < b->latent; k++) {
            float *to = &out[(size_t)i * b->latent + k];
            if (!logvar) *to = mean[k]; /* TAESD: already the latent */
            else *to = (float)(((double)(mean[k] + expf(0.5f * fminf(fmaxf(logvar[k], -30.0f), 20.0f)) * *to) - v->shift_factor) * v->scaling_factor);
        }
}

/* X of the first row, [n,h,w,C]; and the inpaint model's extra channels. Draws in the order of diffusers' pipelines: start image's
 * posterior, noise, masked image's posterior. */
static void make_start(const job *j, batch *b)
{
    size_t all = (size_t)b->n * b->latent;
    bool blended = j->plan.c_image != 0;
    float *image = b->x; /* free until the first row */
    if (blended) sample_posterior(j, b, j->moments.mean, j->moments.logvar, image);
    dc_draws_start(&b->draws, b->draw);
    to_channels_last(j, b, b->start);
    for (size_t k = 0; k < all; k++) b->start[k] = (float)(j->plan.c_noise * b->start[k] + (blended ? j->plan.c_image * image[k] : 0.0));
    if (j->plan.draw_churn) {
        draw_noise(j, b, 0, 0, b->noise);
        for (size_t k = 0; k < all; k++) b->start[k] += (float)(j->plan.c_churn * b->noise[k]);
    }
    if (!j->masked) return;
    sample_posterior(j, b, j->masked_moments.mean, j->masked_moments.logvar, b->noise);
    int C = j->latent_channels, area = j->h * j->w;
    for (int i = 0; i < b->n; i++)
        for (int p = 0; p < area; p++) {
            float *to = b->extra + ((size_t)i * (size_t)area + (size_t)p) * (size_t)(C + 1);
            to[0] = j->mask[p];
            memcpy(to + 1, b->noise + (size_t)i * b->latent + (size_t)p * (size_t)C, (size_t)C * sizeof(float));
        }
}

/* Brings the texts of evaluation k into context and pooled, once a picture of the batch. Have they changed? */
static bool take_texts(const job *j, batch *b, int k)
{
    const conditioning *c = &j->cond;
    bool changed = false;
    float *to = b->context;
    for (int s = 0; s < c->n; s++) {
        const strand *x = &c->strand[s];
        const encoded_text *t = &c->text[x->first + dc_prompt_schedule_at(&x->schedule, k)];
        const size_t size = (size_t)c->tokens[x->negative] * (size_t)c->width, P = (size_t)c->pooled_width;
        bool other = b->text[s] != (int)(t - c->text);
        for (int i = 0; i < b->n; i++, to += size) {
            if (!other) continue;
            memcpy(to, t->context, size * sizeof(float));
            memcpy(b->pooled + ((size_t)s * (size_t)b->n + (size_t)i) * P, t->pooled, P * sizeof(float));
        }
        b->text[s] = (int)(t - c->text);
        changed = changed || other;
    }
    return changed;
}

/* The UNet's keys and values of the texts there are now. */
static dc_status make_keys(job *j, const batch *b)
{
    return dc_run_pass(j->unet_text_run, run_text_part, &(text_part){.j = j, .n = b->n, .context = b->context}, j->e);
}

static dc_status batch_make(const job *j, batch *b, int first, int n)
{
    const conditioning *c = &j->cond;
    size_t N = (size_t)n * (size_t)c->n, tokens = (size_t)c->tokens[0] * (size_t)(c->n - j->guided) + (size_t)c->tokens[1];
    *b = (batch){.first = first, .n = n, .latent = (size_t)j->h * (size_t)j->w * (size_t)j->latent_channels};
    size_t all = (size_t)n * b->latent;
    b->start = dc_calloc(all, sizeof(float));
    b->noise = dc_calloc(all, sizeof(float));
    b->x = dc_calloc(all, sizeof(float));
    b->draw = dc_calloc(all, sizeof(float));
    b->context = dc_calloc((size_t)n * tokens * (size_t)c->width, sizeof(float));
    b->pooled = dc_calloc(N * (size_t)(c->pooled_width + 1), sizeof(float));
    b->time_ids = dc_calloc(N * 6, sizeof(float));
    b->extra = dc_calloc(j->masked ? (size_t)n * (size_t)j->h * (size_t)j->w * (size_t)(j->latent_channels + 1) : 1, sizeof(float));
    if (!b->start || !b->noise || !b->x || !b->draw || !b->context || !b->pooled || !b->time_ids || !b->extra)
        return dc_fail_memory(j->e, "latents", all * sizeof(float));
    const dc_plan *p = &j->plan;
    dc_status s = dc_draws_make(&b->draws, &j->noise, first, n, j->latent_channels, j->h, j->w, p->brownian ? p->sigma_min : 0,
                                p->brownian ? p->sigma_max : 0, j->e);
    if (s) return s;
    for (int i = 0; i < c->n; i++) b->text[i] = -1;
    for (size_t i = 0; i < N; i++) { /* original size, crop, target size. Ref: StableDiffusionXLPipeline._get_add_time_ids */
        const float ids[6] = {(float)j->height, (float)j->width, 0, 0, (float)j->height, (float)j->width};
        memcpy(b->time_ids + 6 * i, ids, sizeof ids);
    }
    make_start(j, b);
    return DC_OK;
}

/* ---- the loop ------------------------------------------------------------------------------------------------ */

/* First module whose activation is not finite, found by repeating the row with taps. */
typedef struct culprit {
    char name[160];
} culprit;

static void look_for_culprit(void *user, const char *name, const float *data, int rank, const int64_t *dim)
{
    culprit *c = user;
    size_t n = 1;
    for (int i = 0; i < rank; i++) n *= (size_t)dim[i];
    for (size_t i = 0; i < n && !*c->name; i++)
        if (!isfinite(data[i])) snprintf(c->name, sizeof c->name, "%s", name);
}

static dc_status not_finite(job *j, step *s, const float *before, int row)
{
    culprit c = {""};
    dc_run *r = dc_run_new(j->m->device);
    dc_run_release(j->unet_run);
    s->first = 1;
    s->start = before;
    if (r) {
        dc_run_set_tap(r, look_for_culprit, &c);
        dc_error ignored = {0};
        if (plan_rows(j, r, s->n) == DC_OK && dc_run_reserve(r, &ignored) == DC_OK) dc_run_pass(r, run_step, s, &ignored);
        dc_run_free(r);
    }
    dc_status status = dc_fail(j->e, DC_INTERNAL, "%s: UNet: found non-finite values in row %d of %d (timestep %.6g), first in %s", j->m->path,
                               row + 1, j->plan.n_rows, s->row->t, *c.name ? c.name : "the sampler's own arithmetic");
    dc_hint(j->e, "The arithmetic was full float32 already; try another sampler or a lower --cfg-scale, or check the model with `diffc inspect`.");
    return status;
}

/* The plan's rows, from the x in st->start; X goes to st->latent. `done` steps of the batches before are told with those of this one. */
static dc_status run_rows(job *j, batch *b, step *st, uint64_t *done)
{
    dc_status s = DC_OK;
    for (int i = 0; !s && i < j->plan.n_rows; i++) {
        const dc_row *row = &j->plan.rows[i];
        if (row->draw) draw_noise(j, b, row->sigma_from, row->sigma_to, b->noise);
        if (take_texts(j, b, st->rows_done)) s = make_keys(j, b);
        if (s) break;
        st->row = row;
        st->t = (float)row->t;
        st->first = i == 0 ? 1.0f : 0.0f;
        memcpy(b->x, i == 0 ? st->start : st->latent, (size_t)b->n * b->latent * sizeof(float));
        trace_part(j, "unet", st->rows_done++);
        s = dc_run_pass(j->unet_run, run_step, st, j->e);
        if (!s && st->stats->non_finite) s = not_finite(j, st, b->x, i);
        bool step_ends = i + 1 == j->plan.n_rows || j->plan.rows[i + 1].begins_step;
        if (!s && step_ends && !j->plan.adaptive) job_progress(j, DIFFC_STAGE_SAMPLE, "unet", ++*done, 0);
        if (!s) s = job_cancelled(j);
        if (!s && step_ends && !j->plan.adaptive) st->steps_done++, s = preview_step(j, b->first, b->n, st->steps_done, st->steps_done);
    }
    return s;
}

/* dpm_adaptive, which tries a step, measures it and goes on from where it was or from where it came to. The same pass for all trials. */
static dc_status run_trials(job *j, batch *b, step *st, uint64_t before)
{
    size_t all = (size_t)b->n * b->latent;
    float *coarse = dc_calloc(2 * all, sizeof(float)), *x = b->start;
    dc_status s = dc_plan_rewind(&j->plan, j->e);
    if (!s && !coarse) s = dc_fail_memory(j->e, "latents", all * sizeof(float));
    if (!s) memcpy(coarse, x, all * sizeof(float));
    st->saved = s ? NULL : coarse + all;
    while (!s && j->plan.n_rows > 0) {
        const dc_trial t = j->plan.trial;
        bool accepted = false;
        st->start = x;
        s = run_rows(j, b, st, NULL);
        if (!s) s = dc_plan_next(&j->plan, dc_trial_error(&t, st->latent, st->saved, coarse, all), &accepted, j->e);
        if (s || !accepted) continue;
        draw_noise(j, b, t.sigma_from, t.sigma_to, b->noise);
        for (size_t k = 0; k < all; k++) x[k] = (float)(t.keep * st->latent[k] + t.noise * b->noise[k]);
        memcpy(coarse, st->saved, all * sizeof(float));
        const int percents = (int)(j->plan.trial.progress * job_steps(j));
        job_progress(j, DIFFC_STAGE_SAMPLE, "unet", before + (uint64_t)percents, 0);
        s = job_cancelled(j);
        if (!s) s = preview_step(j, b->first, b->n, ++st->steps_done, j->plan.n_rows ? percents : job_steps(j));
    }
    memcpy(st->latent, x, all * sizeof(float));
    free(coarse);
    return s;
}

dc_status sample_run(job *j, int first, int n, float *latents)
{
    batch b;
    dc_stats stats = {0};
    dc_status s = batch_make(j, &b, first, n);
    if (!s && n != j->batch) s = plan_batch(j, n);
    if (!s) s = dc_run_reserve(j->unet_text_run, j->e);
    if (!s) s = dc_run_reserve(j->unet_run, j->e);

    step st = {.j = j,
               .n = n,
               .start = b.start,
               .noise = b.noise,
               .pooled = b.pooled,
               .time_ids = b.time_ids,
               .extra = b.extra,
               .lcm_w = (float)(j->guidance - 1.0),
               .latent = latents,
               .x0 = j->preview.x0,
               .stats = &stats};
    find_uses(&st, &j->plan);
    uint64_t done = (uint64_t)(first / j->batch) * (uint64_t)job_steps(j);
    if (!s) s = j->plan.adaptive ? run_trials(j, &b, &st, done) : run_rows(j, &b, &st, &done);
    batch_free(&b);
    return s;
}
