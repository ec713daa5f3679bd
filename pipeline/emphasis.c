/* emphasis.c - weights of words: what a text encoder made of the chunks becomes what the UNet looks at. Ref: A1111 modules/sd_emphasis.py;
 * ComfyUI comfy/sd1_clip.py, encode_token_weights. */
#include "pipeline/model.h"
#include <math.h>
#include <string.h>

/* Columns of one encoder in the texts of a strand. */
typedef struct columns {
    conditioning *c;
    const strand *s;
    int encoder, from, width;
    const float *hidden; /* [rows, length, width] */
} columns;

static const dc_prompt_chunks *chunks_of(const columns *k, const encoded_text *t) { return &t->chunks[k->encoder]; }

static const float *hidden_of(const columns *k, int row)
{
    return k->hidden + (size_t)row * (size_t)k->c->text[0].chunks[k->encoder].length * (size_t)k->width;
}

/* Weight of a token of chunk i; 1 in the chunks that fill a shorter text up. */
static float weight_of(const columns *k, const encoded_text *t, int i, int token)
{
    const dc_prompt_chunks *c = chunks_of(k, t);
    return c->weighted && i < c->n ? c->weights[(size_t)i * (size_t)c->length + (size_t)token] : 1.0f;
}

/* What all numbers are multiplied with so that their mean stays what it was. TRAP: the web UI encodes all texts that a prompt has over the
 * steps as one batch, and this is the mean of them all, each counted once an entry of its schedule. */
static float restoring(const columns *k, int i)
{
    double before = 0, after = 0;
    bool weighted = false;
    for (int t = 0; t < k->s->schedule.n; t++) {
        const encoded_text *x = &k->c->text[k->s->first + t];
        const float *z = hidden_of(k, x->row[i]);
        double sum = 0, weighed = 0;
        weighted = weighted || (chunks_of(k, x)->weighted && i < chunks_of(k, x)->n);
        for (int token = 0; token < chunks_of(k, x)->length; token++) {
            double one = 0;
            for (int c = 0; c < k->width; c++) one += z[token * k->width + c];
            sum += one;
            weighed += one * (double)weight_of(k, x, i, token);
        }
        int times = dc_prompt_schedule_count(&k->s->schedule, t);
        before += times * sum;
        after += times * weighed;
    }
    double by = before / after;
    return weighted && isfinite(by) ? (float)by : 1.0f;
}

/* One token: [width] numbers. */
static void weigh(const columns *k, const float *z, float weight, float by, const float *empty, float *out)
{
    for (int c = 0; c < k->width; c++) {
        if (weight == 1.0f) out[c] = z[c] * by;
        else if (empty) out[c] = (z[c] - empty[c]) * weight + empty[c];
        else out[c] = z[c] * weight * by;
    }
}

static void fill_chunk(const columns *k, encoded_text *t, int i, float by)
{
    int length = chunks_of(k, t)->length, side = k->s->negative;
    const float *z = hidden_of(k, t->row[i]),
                *empty = k->c->syntax == DC_PROMPT_COMFYUI && k->c->empty[side] >= 0 ? hidden_of(k, k->c->empty[side]) : NULL;
    for (int token = 0; token < length; token++) {
        float weight = k->c->emphasis == EMPHASIS_IGNORE ? 1.0f : weight_of(k, t, i, token);
        float *out = t->context + (size_t)(i * length + token) * (size_t)k->c->width + (size_t)k->from;
        weigh(k, z + (size_t)token * (size_t)k->width, weight, by, empty ? empty + (size_t)token * (size_t)k->width : NULL, out);
    }
}

/* A text that is shorter than another part of its prompt goes on with its last token. Ref: modules/prompt_parser.py, stack_conds. */
static void repeat_last(const columns *k, encoded_text *t)
{
    int have = k->s->chunks * chunks_of(k, t)->length, want = k->c->tokens[k->s->negative];
    float *at = t->context + k->from;
    size_t width = (size_t)k->c->width;
    for (int i = have; i < want; i++) memcpy(at + (size_t)i * width, at + (size_t)(have - 1) * width, (size_t)k->width * sizeof(float));
}

void emphasis_apply(conditioning *c, int i, const float *hidden, int from, int width)
{
    for (int s = 0; s < c->n; s++) {
        const columns k = {c, &c->strand[s], i, from, width, hidden};
        for (int chunk = 0; chunk < k.s->chunks; chunk++) {
            float by = c->syntax == DC_PROMPT_A1111 && c->emphasis == EMPHASIS_ORIGINAL ? restoring(&k, chunk) : 1.0f;
            for (int t = 0; t < k.s->schedule.n; t++) fill_chunk(&k, &c->text[k.s->first + t], chunk, by);
        }
        for (int t = 0; t < k.s->schedule.n; t++) repeat_last(&k, &c->text[k.s->first + t]);
    }
}
