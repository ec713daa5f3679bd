/* prompt.c - text to what the UNet is conditioned on: tokens, the text towers' passes, SDXL's two joined. */
#include "base/checked.h"
#include "pipeline/model.h"
#include <stdlib.h>
#include <string.h>

void conditioning_free(conditioning *c)
{
    free(c->context);
    free(c->pooled);
    *c = (conditioning){0};
}

/* What one text encoder's pass needs; also where its results go. */
typedef struct text_pass {
    const text_encoder *t;
    const int32_t *ids; /* [n, length] */
    int n, skip;
    bool normed, want_pooled;
    bool apart;                   /* the negative prompt keeps the model's own layer. Ref: diffusers' SDXL encode_prompt */
    int hidden_size, pooled_size; /* numbers of one text's results */
    float *hidden, *pooled;       /* host, or NULL while planning */
} text_pass;

static void run_texts(const text_pass *p, dc_run *r, int first, int n, int skip)
{
    const int32_t *ids = p->ids ? p->ids + (size_t)first * (size_t)p->t->length : NULL;
    dc_clip_text_out out = dc_clip_text_forward(p->t->model, r, ids, n, p->t->length, skip, p->normed, p->want_pooled);
    dc_download(r, out.hidden, p->hidden ? p->hidden + (size_t)first * (size_t)p->hidden_size : NULL);
    if (p->want_pooled) dc_download(r, out.pooled, p->pooled ? p->pooled + (size_t)first * (size_t)p->pooled_size : NULL);
}

static void run_text(void *ctx, dc_run *r)
{
    const text_pass *p = ctx;
    if (!p->apart) {
        run_texts(p, r, 0, p->n, p->skip);
        return;
    }
    run_texts(p, r, 0, 1, 1);
    run_texts(p, r, 1, 1, p->skip);
}

/* SD 1.x / 2.x take the last layer through the final norm; with two encoders (SDXL) it is the layer before the last,
 * without. Clip skip N counts from 1 = last. Ref: diffusers encode_prompt of both pipelines. */
static text_pass describe_pass(const job *j, int i)
{
    const diffc_model *m = j->m;
    bool two = m->n_text > 1 || dc_unet_configuration(m->unet)->text_time;
    int skip = j->clip_skip > 0 ? j->clip_skip - 1 : two ? 1 : 0;
    const dc_clip_text_config *c = dc_clip_text_configuration(m->text[i].model);
    return (text_pass){.t = &m->text[i],
                       .ids = j->ids[i],
                       .n = j->cond.n,
                       .skip = skip,
                       .normed = !two,
                       .apart = two && skip != 1 && j->cond.n == 2,
                       .hidden_size = m->text[i].length * c->width,
                       .pooled_size = c->projection ? c->projection : c->width,
                       .want_pooled = dc_unet_configuration(m->unet)->text_time && i == m->n_text - 1};
}

static dc_status tokenize(job *j, int i)
{
    const text_encoder *t = &j->m->text[i];
    int n = j->cond.n, length = t->length;
    j->ids[i] = dc_calloc((size_t)n * (size_t)length, sizeof(int32_t));
    if (!j->ids[i]) return dc_fail_memory(j->e, "token ids", (unsigned long long)length * 4);
    dc_status s = DC_OK;
    for (int k = 0; !s && k < n; k++) {
        bool negative = n == 2 && k == 0;
        const char *text = negative ? j->q->negative : j->q->prompt;
        int cut = 0;
        s = dc_tokenize_padded(t->tokenizer, text ? text : "", length, j->ids[i] + (size_t)k * (size_t)length, &cut, j->e);
        if (!s && cut > 0 && i == 0)
            dc_log_write(&j->m->log, DC_LOG_WARNING, "%s: the last %d of %d tokens do not fit the model's %d and were cut off",
                         negative ? "negative prompt" : "prompt", cut, cut + length - 2, length - 2);
    }
    return s;
}

dc_status text_plan(job *j)
{
    const diffc_model *m = j->m;
    dc_status s = DC_OK;
    j->cond.tokens = 0;
    for (int i = 0; !s && i < m->n_text; i++) {
        s = tokenize(j, i);
        j->text_run[i] = s ? NULL : dc_run_new(m->device);
        if (!s && !j->text_run[i]) s = dc_fail_memory(j->e, "a pass", 0);
        text_pass p = describe_pass(j, i);
        if (!s) trace_attach(j, j->text_run[i]);
        if (!s) s = dc_run_plan(j->text_run[i], run_text, &p, j->e);
        const dc_clip_text_config *c = dc_clip_text_configuration(m->text[i].model);
        if (!s && i > 0 && m->text[i].length != j->cond.tokens)
            s = dc_fail(j->e, DC_DATA, "%s: prompt lengths: found %d and %d tokens, expected the same for both text encoders", m->path,
                        j->cond.tokens, m->text[i].length);
        j->cond.tokens = m->text[i].length;
        j->cond.width += c->width;
        if (p.want_pooled) j->cond.pooled_width = c->projection ? c->projection : c->width;
    }
    return s;
}

/* Encoder i's hidden states [n,T,width] into their columns of the context [n,T,all widths]. */
static void place_columns(conditioning *c, const float *hidden, int from, int width)
{
    for (int row = 0; row < c->n * c->tokens; row++)
        memcpy(c->context + (size_t)row * (size_t)c->width + from, hidden + (size_t)row * (size_t)width, (size_t)width * sizeof(float));
}

dc_status text_run(job *j)
{
    const diffc_model *m = j->m;
    conditioning *c = &j->cond;
    size_t rows = (size_t)c->n * (size_t)c->tokens;
    c->context = dc_calloc(rows * (size_t)c->width, sizeof(float));
    c->pooled = dc_calloc((size_t)c->n * (size_t)(c->pooled_width ? c->pooled_width : 1), sizeof(float));
    float *hidden = dc_calloc(rows * (size_t)c->width, sizeof(float));
    dc_status s = c->context && c->pooled && hidden ? DC_OK : dc_fail_memory(j->e, "text features", rows * (size_t)c->width * 8);
    for (int i = 0, from = 0; !s && i < m->n_text; i++) {
        text_pass p = describe_pass(j, i);
        int width = dc_clip_text_configuration(m->text[i].model)->width;
        p.hidden = hidden;
        p.pooled = c->pooled;
        trace_part(j, m->text[i].name, -1);
        s = job_prepare(j, dc_clip_text_params(m->text[i].model), m->text[i].weights, "text encoder");
        if (!s) s = dc_run_reserve(j->text_run[i], j->e);
        if (!s) s = dc_run_pass(j->text_run[i], run_text, &p, j->e);
        if (!s) s = dc_weights_check(m->text[i].weights, j->e); /* tables are read from the file in the pass */
        dc_run_release(j->text_run[i]);
        job_drop(j, dc_clip_text_params(m->text[i].model));
        place_columns(c, hidden, from, width);
        from += width;
    }
    free(hidden);
    /* SDXL conditions an absent negative prompt on zeros. Ref: force_zeros_for_empty_prompt. */
    if (!s && c->n == 2 && !j->q->negative && m->zero_empty_negative) {
        memset(c->context, 0, (size_t)c->tokens * (size_t)c->width * sizeof(float));
        memset(c->pooled, 0, (size_t)c->pooled_width * sizeof(float));
    }
    return s;
}
