/* clip.c - texts and pictures to vectors: batches through the towers, rows of length 1. */
#include "pipeline/clip.h"
#include "base/checked.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

diffc_status diffc_clip_open(diffc_clip **out, const diffc_options *o, diffc_error *error)
{
    static const diffc_options none;
    dc_error e = {0};
    clip_open(out, o ? o : &none, &e);
    return give_error(error, &e);
}

void diffc_clip_close(diffc_clip *m) { clip_close(m); }
void diffc_clip_cancel(diffc_clip *m) { atomic_store(&m->cancel, 1); }
const diffc_clip_info *diffc_clip_about(const diffc_clip *m) { return &m->info; }

/* ---- passes ---------------------------------------------------------------------------------------------------------------- */

/* Weights are prepared at the first use and kept. */
static dc_status prepare(dc_params *p, const dc_weights *from, dc_error *e)
{
    if (dc_params_ready(p)) return DC_OK;
    dc_status s = dc_params_prepare(p, NULL, NULL, e);
    if (!s && (s = dc_weights_check(from, e)) != DC_OK) dc_params_drop(p);
    return s;
}

/* A pass through *run, which is planned anew when `planned` is not what is wanted. */
static dc_status run_pass(diffc_clip *m, dc_run **run, bool planned, dc_pass_fn *pass, void *ctx, dc_error *e)
{
    if (!*run && !(*run = dc_run_new(m->device))) return dc_fail_memory(e, "a pass", 0);
    dc_status s = planned ? DC_OK : dc_run_plan(*run, pass, ctx, e);
    if (!s) s = dc_run_reserve(*run, e);
    return s ? s : dc_run_pass(*run, pass, ctx, e);
}

/* Each row to length 1. */
static dc_status normalise(const diffc_clip *m, float *rows, int n, dc_error *e)
{
    const size_t D = (size_t)m->info.dims;
    for (int i = 0; i < n; i++, rows += D) {
        double sum = 0;
        for (size_t k = 0; k < D; k++) sum += (double)rows[k] * (double)rows[k];
        if (!isfinite(sum)) return dc_fail(e, DC_INTERNAL, "%s: found a vector that is not finite, expected numbers", m->path);
        const double scale = sum > 0 ? 1 / sqrt(sum) : 0;
        for (size_t k = 0; k < D; k++) rows[k] = (float)(rows[k] * scale);
    }
    return DC_OK;
}

/* The end of every public function that computes: a cancelled one is over. */
static diffc_status finish(diffc_clip *m, const dc_error *e, diffc_error *error)
{
    atomic_store(&m->cancel, 0);
    return give_error(error, e);
}

static dc_status no_encoder(const diffc_clip *m, const char *what, dc_error *e)
{
    return dc_fail(e, DC_USAGE, "%s: found no encoder of %s in it, expected a model that has one", m->path, what);
}

/* ---- texts ----------------------------------------------------------------------------------------------------------------- */

typedef struct text_pass {
    const diffc_clip *m;
    const int32_t *ids; /* [n,t] */
    int n, t;
    float *out;
} text_pass;

static void run_texts(void *ctx, dc_run *r)
{
    const text_pass *p = ctx;
    dc_download(r, dc_clip_text_forward(p->m->text, r, p->ids, p->n, p->t, 0, false, true).pooled, p->out);
}

/* Tokens that matter: no token sees later ones, so what is behind the end token need not be computed. In eights, to plan less often. */
static int used_tokens(const diffc_clip *m, const int32_t *ids, int n)
{
    const int pad = dc_tokenizer_pad(m->tokenizer);
    int used = 0;
    for (int i = 0; i < n; i++)
        for (int k = m->tokens; k-- > used;)
            if (ids[i * m->tokens + k] != pad) used = k + 1;
    used = (used + 1 + 7) / 8 * 8; /* padding may be with the end token */
    return used < m->tokens ? used : m->tokens;
}

static dc_status embed_texts(diffc_clip *m, const char *const *texts, int n, float *out, dc_error *e)
{
    int32_t *ids = dc_calloc((size_t)CLIP_BATCH * (size_t)m->tokens, sizeof *ids);
    dc_status s = ids ? prepare(dc_clip_text_params(m->text), m->text_part, e) : dc_fail_memory(e, "token ids", (size_t)m->tokens * sizeof *ids);
    const size_t length = (size_t)m->tokens;
    for (int first = 0; !s && first < n; first += CLIP_BATCH) {
        text_pass p = {.m = m, .ids = ids, .n = n - first < CLIP_BATCH ? n - first : CLIP_BATCH, .out = out + (size_t)first * (size_t)m->info.dims};
        for (int i = 0; !s && i < p.n; i++) {
            int cut = 0;
            s = dc_tokenize_padded(m->tokenizer, texts[first + i], m->tokens, ids + (size_t)i * length, &cut, e);
            if (!s && cut > 0)
                dc_log_write(&m->log, DC_LOG_WARNING, "text %d: the last %d of its tokens do not fit the model's %d and were cut off", first + i + 1,
                             cut, m->tokens - 2);
        }
        p.t = s ? 1 : used_tokens(m, ids, p.n);
        for (int i = 1; !s && i < p.n; i++) memmove(ids + (size_t)i * (size_t)p.t, ids + (size_t)i * length, (size_t)p.t * sizeof *ids);
        const bool planned = m->text_planned[0] == p.n && m->text_planned[1] == p.t;
        m->text_planned[0] = 0;
        if (!s) s = run_pass(m, &m->text_run, planned, run_texts, &p, e);
        if (!s) s = dc_weights_check(m->text_part, e); /* tables are read from the file in the pass */
        if (!s) s = normalise(m, p.out, p.n, e);
        if (!s) m->text_planned[0] = p.n, m->text_planned[1] = p.t;
    }
    free(ids);
    return s;
}

diffc_status diffc_clip_embed_text(diffc_clip *m, const char *const *texts, int n, float *out, diffc_error *error)
{
    dc_error e = {0};
    if (!m->text) no_encoder(m, "texts", &e);
    else embed_texts(m, texts, n, out, &e);
    return finish(m, &e, error);
}

/* ---- prompts by templates -------------------------------------------------------------------------------------------------- */

/* The template with the text in place of each {}; NULL when memory is out. */
static char *fill_template(const char *template, const char *text)
{
    dc_text t = {0};
    for (const char *gap; (gap = strstr(template, "{}")); template = gap + 2) {
        dc_text_append(&t, template, (size_t)(gap - template));
        dc_text_append(&t, text, strlen(text));
    }
    dc_text_append(&t, template, strlen(template) + 1);
    if (t.failed) dc_text_free(&t);
    return t.at;
}

/* One row: the mean over the templates. */
static dc_status embed_prompt(diffc_clip *m, const char *text, const char *const *templates, int n, float *rows, float *out, dc_error *e)
{
    const size_t D = (size_t)m->info.dims;
    char **filled = dc_calloc((size_t)n, sizeof *filled);
    dc_status s = filled ? DC_OK : dc_fail_memory(e, "prompts", (size_t)n * sizeof *filled);
    for (int i = 0; !s && i < n; i++)
        if (!(filled[i] = fill_template(templates[i], text))) s = dc_fail_memory(e, "a prompt", strlen(templates[i]) + strlen(text));
    if (!s) s = embed_texts(m, (const char *const *)filled, n, rows, e);
    for (size_t k = 0; !s && k < D; k++) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += rows[(size_t)i * D + k];
        out[k] = (float)(sum / n);
    }
    for (int i = 0; filled && i < n; i++) free(filled[i]);
    free(filled);
    return s ? s : normalise(m, out, 1, e);
}

diffc_status diffc_clip_embed_prompts(diffc_clip *m, const char *const *texts, int n, const char *const *templates, int n_templates, float *out,
                                      diffc_error *error)
{
    dc_error e = {0};
    if (!n_templates) return diffc_clip_embed_text(m, texts, n, out, error);
    float *rows = m->text ? dc_calloc((size_t)n_templates * (size_t)m->info.dims, sizeof *rows) : NULL;
    dc_status s = rows ? DC_OK : m->text ? dc_fail_memory(&e, "vectors", (size_t)n_templates * sizeof *rows) : no_encoder(m, "texts", &e);
    for (int i = 0; !s && i < n; i++) s = embed_prompt(m, texts[i], templates, n_templates, rows, out + (size_t)i * (size_t)m->info.dims, &e);
    free(rows);
    return finish(m, &e, error);
}

/* ---- pictures -------------------------------------------------------------------------------------------------------------- */

typedef struct vision_pass {
    const diffc_clip *m;
    int n;
    float *out;
} vision_pass;

static void run_pictures(void *ctx, dc_run *r)
{
    const vision_pass *p = ctx;
    dc_download(r, dc_clip_vision_forward(p->m->vision, r, p->m->patches, p->n), p->out);
}

/* m->patches of p->n pictures to vectors. */
static dc_status embed_patches(diffc_clip *m, vision_pass *p, dc_error *e)
{
    const bool planned = m->vision_planned == p->n;
    m->vision_planned = 0;
    dc_status s = run_pass(m, &m->vision_run, planned, run_pictures, p, e);
    if (!s) s = dc_weights_check(m->vision_part, e);
    if (!s) s = normalise(m, p->out, p->n, e);
    if (!s) m->vision_planned = p->n;
    return s;
}

/* From pictures or, where there are none, from pixels. */
static dc_status embed_pictures(diffc_clip *m, const diffc_image *images, const float *pixels, int n, float *out, dc_error *e)
{
    if (!m->vision) return no_encoder(m, "pictures", e);
    const dc_clip_vision_config *c = dc_clip_vision_configuration(m->vision);
    const size_t values = dc_clip_vision_patch_values(c);
    if (!m->patches) m->patches = dc_calloc(CLIP_BATCH * values, sizeof *m->patches);
    float *one = images ? dc_calloc(m->info.pixels, sizeof *one) : NULL;
    dc_status s = m->patches && (one || !images) ? DC_OK : dc_fail_memory(e, "pictures", CLIP_BATCH * values * sizeof(float));
    if (!s) s = prepare(dc_clip_vision_params(m->vision), m->vision_part, e);
    for (int first = 0; !s && first < n; first += CLIP_BATCH) {
        vision_pass p = {m, n - first < CLIP_BATCH ? n - first : CLIP_BATCH, out + (size_t)first * (size_t)m->info.dims};
        for (int i = 0; !s && i < p.n; i++) {
            const float *planes = images ? one : pixels + (size_t)(first + i) * m->info.pixels;
            if (images) {
                const diffc_image *x = &images[first + i];
                s = dc_clip_preprocess_run(&m->prepare, &(dc_image){x->width, x->height, x->channels, x->pixels}, one, e);
            }
            if (!s) dc_clip_vision_patches(c, planes, m->patches + (size_t)i * values);
        }
        if (!s) s = embed_patches(m, &p, e);
    }
    free(one);
    return s;
}

diffc_status diffc_clip_embed_images(diffc_clip *m, const diffc_image *images, int n, float *out, diffc_error *error)
{
    dc_error e = {0};
    embed_pictures(m, images, NULL, n, out, &e);
    return finish(m, &e, error);
}

diffc_status diffc_clip_embed_pixels(diffc_clip *m, const float *pixels, int n, float *out, diffc_error *error)
{
    dc_error e = {0};
    embed_pictures(m, NULL, pixels, n, out, &e);
    return finish(m, &e, error);
}

diffc_status diffc_clip_preprocess(const diffc_clip *m, const diffc_image *x, float *out, diffc_error *error)
{
    dc_error e = {0};
    if (!m->vision) no_encoder(m, "pictures", &e);
    else dc_clip_preprocess_run(&m->prepare, &(dc_image){x->width, x->height, x->channels, x->pixels}, out, &e);
    return give_error(error, &e);
}

diffc_status diffc_clip_image_read(const diffc_clip *m, diffc_image *out, const char *path, diffc_error *error)
{
    dc_error e = {0};
    dc_image read = {0};
    dc_image_read_reduced(&read, path, m->prepare.openclip ? DC_IMAGE_ALPHA : 0, m->fast_decode ? dc_clip_preprocess_least(&m->prepare) : 0, &e);
    *out = (diffc_image){read.width, read.height, read.channels, read.pixels};
    return give_error(error, &e);
}
