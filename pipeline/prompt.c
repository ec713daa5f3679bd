/* prompt.c - prompts to what the UNet is conditioned on: parts and texts, tokens, the text towers' passes, SDXL's two joined. */
#include "base/checked.h"
#include "pipeline/model.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 1024 }; /* different chunks in all */

void conditioning_free(conditioning *c)
{
    for (int t = 0; t < c->n_texts; t++) {
        for (int i = 0; i < MAX_TEXT; i++) dc_prompt_chunks_free(&c->text[t].chunks[i]);
        free(c->text[t].row);
        free(c->text[t].context);
        free(c->text[t].pooled);
    }
    free(c->text);
    for (int s = 0; s < c->n; s++) dc_prompt_schedule_free(&c->strand[s].schedule);
    for (int i = 0; i < MAX_TEXT; i++) free(c->ids[i]);
    *c = (conditioning){0};
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static int find_name(const char *name, const char *const *names, int n)
{
    int i = 0;
    while (i < n && strcmp(name, names[i])) i++;
    return i;
}

const char *const syntax_names[SYNTAXES] = {[DC_PROMPT_A1111] = "a1111", [DC_PROMPT_COMFYUI] = "comfyui", [DC_PROMPT_PLAIN] = "plain"};
const emphasis_name emphasis_names[EMPHASES] = {[EMPHASIS_ORIGINAL] = {"original", "Original"},
                                                [EMPHASIS_NO_NORM] = {"no-norm", "No norm"},
                                                [EMPHASIS_IGNORE] = {"ignore", "Ignore"},
                                                [EMPHASIS_NONE] = {"none", "None"}};

dc_status prompt_syntax(const char *syntax, const char *kind, dc_prompt_syntax *how, emphasis *weights, dc_error *e)
{
    if (!syntax) syntax = syntax_names[0];
    if (!kind) kind = emphasis_names[0].name;
    int s = find_name(syntax, syntax_names, SYNTAXES), k = 0;
    while (k < EMPHASES && strcmp(kind, emphasis_names[k].name)) k++;
    if (s == SYNTAXES) return dc_fail(e, DC_USAGE, "prompt-syntax: found %s, expected a1111, comfyui or plain", syntax);
    if (k == EMPHASES) return dc_fail(e, DC_USAGE, "emphasis: found %s, expected original, no-norm, ignore or none", kind);
    if (k && s) return dc_fail(e, DC_USAGE, "emphasis: found %s with the prompt syntax %s, expected that of a1111", kind, syntax);
    *how = (dc_prompt_syntax)s;
    *weights = (emphasis)k;
    return DC_OK;
}

/* Steps as the web UI counts them: evaluations of the model, two a step for samplers that need as many (sd_samplers_kdiffusion.py,
 * "second_order"). It counts all of an img2img's steps and begins at 0. */
static int schedule_steps(const job *j)
{
    static const char *const one[] = {"pndm", "dpm_fast", "dpm_adaptive"}; /* rows within a step, but counted as they are */
    int steps = j->q->n_sigmas > 0 ? j->q->n_sigmas : j->q->steps;
    bool inner = false;
    for (int i = 0; i < j->plan.n_rows; i++) inner = inner || !j->plan.rows[i].begins_step;
    return inner && find_name(j->plan.sampler, one, 3) == 3 ? 2 * steps : steps;
}

static dc_status add_strand(job *j, const char *text, size_t n, double weight, bool negative)
{
    conditioning *c = &j->cond;
    strand *s = &c->strand[c->n];
    *s = (strand){.weight = weight, .negative = negative, .first = c->n_texts};
    dc_status status = dc_prompt_schedule_make(&s->schedule, text, n, c->syntax == DC_PROMPT_A1111, schedule_steps(j), j->e);
    if (status) return status;
    c->n++;
    encoded_text *texts = realloc(c->text, (size_t)(c->n_texts + s->schedule.n) * sizeof *texts);
    if (!texts) return dc_fail_memory(j->e, "a prompt's texts", (unsigned long long)s->schedule.n * sizeof *texts);
    c->text = texts;
    memset(c->text + c->n_texts, 0, (size_t)s->schedule.n * sizeof *texts);
    c->n_texts += s->schedule.n;
    return DC_OK;
}

/* "aspect 16:9" has the weight 9 in the web UI, too, and few mean it so. */
static void tell_weight(const job *j, const dc_prompt_part *p, int n)
{
    if (n == 1 && p->weighed)
        dc_log_write(&j->m->log, DC_LOG_WARNING,
                     "prompt: the %g at its end, behind a colon, is the weight of the whole; with a full stop behind it it is text", p->weight);
}

dc_status prompt_begin(job *j)
{
    const char *prompt = j->q->prompt ? j->q->prompt : "", *negative = j->q->negative ? j->q->negative : "";
    dc_prompt_part part[DC_PROMPT_PARTS] = {{0, strlen(prompt), 1, false}};
    int n = 1;
    dc_status s = prompt_syntax(j->q->prompt_syntax, j->q->emphasis, &j->cond.syntax, &j->cond.emphasis, j->e);
    if (!s && j->cond.syntax == DC_PROMPT_A1111) s = dc_prompt_parts(part, &n, prompt, j->e);
    if (s) return s;
    tell_weight(j, part, n);
    bool asks_guidance = dc_unet_configuration(j->m->unet)->time_cond > 0; /* LCM: guidance is an input of the UNet: one pass a step */
    j->scale = asks_guidance ? 1.0 : j->guidance;
    j->guided = ((j->guidance > 1.0 || j->plan.unconditional) && !asks_guidance) || n > 1 ||
                part[0].weight != 1.0; /* parts are weighed against the negative prompt */
    if (j->guided) s = add_strand(j, negative, strlen(negative), 1, true);
    if (!s && j->guided) j->cond.strand[0].zeros = !j->q->negative && j->m->zero_empty_negative; /* Ref: force_zeros_for_empty_prompt */
    for (int i = 0; !s && i < n; i++) s = add_strand(j, prompt + part[i].from, part[i].n, part[i].weight, false);
    return s;
}

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

static dc_status tokenize(job *j, const strand *s, int text)
{
    conditioning *c = &j->cond;
    encoded_text *t = &c->text[s->first + text];
    const char *words = s->schedule.text[text];
    dc_prompt_spans spans;
    dc_status status = dc_prompt_spans_make(&spans, words, strlen(words), c->emphasis == EMPHASIS_NONE ? DC_PROMPT_PLAIN : c->syntax, j->e);
    if (status) return status;
    for (int i = 0; !status && i < j->m->n_text; i++)
        status = dc_prompt_chunks_make(&t->chunks[i], &spans, c->syntax, j->m->text[i].tokenizer, j->m->text[i].length, j->e);
    dc_prompt_spans_free(&spans);
    int cut = t->chunks[0].cut, room = j->m->text[0].length - 2;
    if (!status && cut > 0)
        dc_log_write(&j->m->log, DC_LOG_WARNING, "%s: the last %d of %d tokens do not fit the model's %d and were cut off",
                     s->negative ? "negative prompt" : "prompt", cut, cut + room, room);
    return status;
}

/* All texts of a strand are encoded to the same length. */
static dc_status tokenize_strand(job *j, strand *s)
{
    conditioning *c = &j->cond;
    dc_status status = DC_OK;
    for (int t = 0; !status && t < s->schedule.n; t++) {
        status = tokenize(j, s, t);
        for (int i = 0; !status && i < j->m->n_text; i++)
            if (c->text[s->first + t].chunks[i].n > s->chunks) s->chunks = c->text[s->first + t].chunks[i].n;
    }
    int tokens = s->chunks * j->m->text[0].length;
    if (tokens > c->tokens[s->negative]) c->tokens[s->negative] = tokens;
    return status;
}

/* The row of a chunk, empty ones among them; a new one if the strand's side has none of its tokens. */
static int find_row(job *j, const strand *s, const encoded_text *t, int chunk)
{
    conditioning *c = &j->cond;
    for (int i = 0; i < j->m->n_text; i++) {
        size_t length = (size_t)j->m->text[i].length;
        int32_t *ids = c->ids[i] + (size_t)c->n_rows * length;
        if (t && chunk < t->chunks[i].n) memcpy(ids, t->chunks[i].ids + (size_t)chunk * length, length * sizeof *ids);
        else dc_prompt_empty_chunk(j->m->text[i].tokenizer, (int)length, ids);
    }
    for (int row = s->negative ? 0 : c->n_negative; row < c->n_rows; row++) {
        bool same = true;
        for (int i = 0; same && i < j->m->n_text; i++) {
            size_t length = (size_t)j->m->text[i].length;
            same = !memcmp(c->ids[i] + (size_t)row * length, c->ids[i] + (size_t)c->n_rows * length, length * sizeof(int32_t));
        }
        if (same) return row;
    }
    if (s->negative) c->n_negative++;
    return c->n_rows++;
}

static dc_status number_rows(job *j)
{
    conditioning *c = &j->cond;
    size_t most = 2;
    for (int s = 0; s < c->n; s++) most += (size_t)c->strand[s].chunks * (size_t)c->strand[s].schedule.n;
    if (most > MOST_ROWS) return dc_fail(j->e, DC_USAGE, "prompt: found %zu chunks of text over all steps, expected at most %d", most, MOST_ROWS);
    for (int i = 0; i < j->m->n_text; i++) {
        c->ids[i] = dc_calloc((most + 1) * (size_t)j->m->text[i].length, sizeof(int32_t));
        if (!c->ids[i]) return dc_fail_memory(j->e, "token ids", most * (size_t)j->m->text[i].length * 4);
    }
    c->empty[0] = c->empty[1] = -1;
    for (int s = 0; s < c->n; s++) {
        const strand *x = &c->strand[s];
        for (int k = x->first; k < x->first + x->schedule.n; k++) {
            encoded_text *t = &c->text[k];
            if (!(t->row = dc_calloc((size_t)x->chunks, sizeof *t->row))) return dc_fail_memory(j->e, "a prompt's chunks", 0);
            for (int i = 0; i < x->chunks; i++) t->row[i] = find_row(j, x, t, i);
            if (c->syntax == DC_PROMPT_COMFYUI && t->chunks[0].weighted) c->empty[x->negative] = find_row(j, x, NULL, 0);
        }
    }
    return DC_OK;
}

/* ---- passes ------------------------------------------------------------------------------------------------------------ */

/* One pass of a text encoder over a few rows; also where its results go. */
typedef struct text_pass {
    const text_encoder *t;
    const int32_t *ids; /* [n, length] */
    int n, skip;
    bool normed, want_pooled;
    bool apart;                   /* the negative prompt keeps the model's own layer: its row is the first. Ref: diffusers' SDXL encode_prompt */
    int hidden_size, pooled_size; /* numbers of one row's results */
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

static bool two_encoders(const diffc_model *m) { return m->n_text > 1 || dc_unet_configuration(m->unet)->text_time; }

/* SD 1.x / 2.x take the last layer through the final norm; with two encoders (SDXL) it is the layer before the last,
 * without. Clip skip N counts from 1 = last. Ref: diffusers encode_prompt of both pipelines. */
static int skipped_layers(const job *j) { return j->clip_skip > 0 ? j->clip_skip - 1 : two_encoders(j->m) ? 1 : 0; }

static bool rows_apart(const job *j) { return j->guided && two_encoders(j->m) && skipped_layers(j) != 1; }

enum { PASS_ROWS = 2 };

static text_pass describe_pass(const job *j, int i)
{
    const diffc_model *m = j->m;
    const dc_clip_text_config *c = dc_clip_text_configuration(m->text[i].model);
    return (text_pass){.t = &m->text[i],
                       .n = j->cond.n_rows < PASS_ROWS ? j->cond.n_rows : PASS_ROWS,
                       .skip = skipped_layers(j),
                       .normed = !two_encoders(m),
                       .apart = rows_apart(j),
                       .hidden_size = m->text[i].length * c->width,
                       .pooled_size = c->projection ? c->projection : c->width,
                       .want_pooled = dc_unet_configuration(m->unet)->text_time && i == m->n_text - 1};
}

static int least(int a, int b) { return a < b ? a : b; }

int text_passes(const job *j)
{
    const conditioning *c = &j->cond;
    int positive = c->n_rows - c->n_negative;
    if (rows_apart(j)) return c->n_negative > positive ? c->n_negative : positive;
    return (c->n_rows + PASS_ROWS - 1) / PASS_ROWS;
}

/* The row that is row x of pass k; the last ones come again where a pass has more room than rows are left. */
static int row_of_pass(const job *j, int k, int x)
{
    const conditioning *c = &j->cond;
    if (!rows_apart(j)) return least(k * PASS_ROWS + x, c->n_rows - 1);
    return x ? least(c->n_negative + k, c->n_rows - 1) : least(k, c->n_negative - 1);
}

dc_status text_plan(job *j)
{
    const diffc_model *m = j->m;
    conditioning *c = &j->cond;
    dc_status s = DC_OK;
    for (int i = 1; !s && i < m->n_text; i++)
        if (m->text[i].length != m->text[0].length)
            s = dc_fail(j->e, DC_DATA, "%s: prompt lengths: found %d and %d tokens, expected the same for both text encoders", m->path,
                        m->text[0].length, m->text[i].length);
    for (int k = 0; !s && k < c->n; k++) s = tokenize_strand(j, &c->strand[k]);
    if (!s) s = number_rows(j);
    for (int i = 0; !s && i < m->n_text; i++) {
        j->text_run[i] = dc_run_new(m->device);
        if (!j->text_run[i]) return dc_fail_memory(j->e, "a pass", 0);
        text_pass p = describe_pass(j, i);
        trace_attach(j, j->text_run[i]);
        s = dc_run_plan(j->text_run[i], run_text, &p, j->e);
        c->width += dc_clip_text_configuration(m->text[i].model)->width;
        if (p.want_pooled) c->pooled_width = p.pooled_size;
    }
    return s;
}

/* All rows through encoder i: hidden [n_rows, length, width]; pooled [n_rows, pooled_size], of the last one. */
static dc_status encode_rows(job *j, int i, float *hidden, float *pooled)
{
    text_pass p = describe_pass(j, i);
    size_t length = (size_t)p.t->length, H = (size_t)p.hidden_size, P = (size_t)p.pooled_size;
    int32_t *ids = dc_calloc(PASS_ROWS * length, sizeof *ids);
    dc_status s = DC_OK;
    p.ids = ids;
    p.hidden = dc_calloc(PASS_ROWS * H, sizeof(float));
    p.pooled = dc_calloc(PASS_ROWS * P, sizeof(float));
    if (!ids || !p.hidden || !p.pooled) s = dc_fail_memory(j->e, "text features", PASS_ROWS * (H + P) * sizeof(float));
    for (int k = 0, passes = text_passes(j); !s && k < passes; k++) {
        trace_part(j, p.t->name, passes > 1 ? k : -1);
        for (int x = 0; x < p.n; x++) memcpy(ids + (size_t)x * length, j->cond.ids[i] + (size_t)row_of_pass(j, k, x) * length, length * sizeof *ids);
        s = dc_run_pass(j->text_run[i], run_text, &p, j->e);
        for (int x = 0; !s && x < p.n; x++) {
            size_t row = (size_t)row_of_pass(j, k, x);
            memcpy(hidden + row * H, p.hidden + (size_t)x * H, H * sizeof(float));
            if (p.want_pooled) memcpy(pooled + row * P, p.pooled + (size_t)x * P, P * sizeof(float));
        }
        if (!s) s = job_cancelled(j);
    }
    free(ids);
    free(p.hidden);
    free(p.pooled);
    return s;
}

static dc_status run_encoder(job *j, int i, float *hidden, float *pooled)
{
    const text_encoder *t = &j->m->text[i];
    dc_status s = job_prepare(j, dc_clip_text_params(t->model), t->weights, "text encoder");
    if (!s) s = dc_run_reserve(j->text_run[i], j->e);
    if (!s) s = encode_rows(j, i, hidden, pooled);
    if (!s) s = dc_weights_check(t->weights, j->e); /* tables are read from the file in the pass */
    dc_run_release(j->text_run[i]);
    job_drop(j, dc_clip_text_params(t->model));
    return s;
}

/* The pooled state is that of a text's first chunk. */
static dc_status make_texts(job *j)
{
    conditioning *c = &j->cond;
    for (int s = 0; s < c->n; s++)
        for (int k = 0; k < c->strand[s].schedule.n; k++) {
            encoded_text *t = &c->text[c->strand[s].first + k];
            t->context = dc_calloc((size_t)c->tokens[c->strand[s].negative] * (size_t)c->width, sizeof(float));
            t->pooled = dc_calloc((size_t)c->pooled_width + 1, sizeof(float));
            if (!t->context || !t->pooled) return dc_fail_memory(j->e, "text features", (unsigned long long)c->tokens[0] * (unsigned)c->width * 4);
        }
    return DC_OK;
}

/* SDXL conditions an absent negative prompt on zeros. */
static void finish_texts(conditioning *c, const float *pooled)
{
    for (int s = 0; s < c->n; s++)
        for (int k = 0; k < c->strand[s].schedule.n; k++) {
            const strand *x = &c->strand[s];
            encoded_text *t = &c->text[x->first + k];
            size_t P = (size_t)c->pooled_width;
            if (x->zeros) memset(t->context, 0, (size_t)c->tokens[x->negative] * (size_t)c->width * sizeof(float));
            else memcpy(t->pooled, pooled + (size_t)t->row[0] * P, P * sizeof(float));
        }
}

dc_status text_run(job *j)
{
    const diffc_model *m = j->m;
    conditioning *c = &j->cond;
    size_t numbers = (size_t)c->n_rows * (size_t)m->text[0].length * (size_t)c->width;
    float *hidden = dc_calloc(numbers, sizeof(float));
    float *pooled = dc_calloc((size_t)c->n_rows * (size_t)(c->pooled_width + 1), sizeof(float));
    dc_status s = hidden && pooled ? make_texts(j) : dc_fail_memory(j->e, "text features", numbers * sizeof(float));
    for (int i = 0, from = 0; !s && i < m->n_text; i++) {
        int width = dc_clip_text_configuration(m->text[i].model)->width;
        s = run_encoder(j, i, hidden, pooled);
        if (!s) emphasis_apply(c, i, hidden, from, width);
        from += width;
    }
    if (!s) finish_texts(c, pooled);
    free(hidden);
    free(pooled);
    return s;
}
