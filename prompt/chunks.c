/* chunks.c - see chunks.h. */
#include "prompt/chunks.h"
#include "base/checked.h"
#include <stdlib.h>
#include <string.h>

enum { BACKTRACK = 20, LARGE_WORD = 8 };

/* The chunk under way lies behind the finished ones: [row, row + length). */
typedef struct filling {
    dc_prompt_chunks *c;
    const dc_tokenizer *t;
    int inner, n; /* tokens a chunk has room for, and has */
    int comma;    /* the place of the last comma in it; -1: none */
    int32_t comma_id;
    dc_error *e;
} filling;

static int32_t *ids_of(const filling *f, int chunk) { return f->c->ids + (size_t)chunk * (size_t)f->c->length; }
static float *weights_of(const filling *f, int chunk) { return f->c->weights + (size_t)chunk * (size_t)f->c->length; }

/* Room for one more chunk, of weight 1. */
static dc_status begin_chunk(filling *f)
{
    dc_prompt_chunks *c = f->c;
    if (c->n == DC_PROMPT_CHUNKS)
        return dc_fail(f->e, DC_USAGE, "prompt: found more than %d chunks of %d tokens, expected fewer", DC_PROMPT_CHUNKS, f->inner);
    size_t numbers = (size_t)(c->n + 1) * (size_t)c->length;
    int32_t *ids = realloc(c->ids, numbers * sizeof *ids);
    if (ids) c->ids = ids;
    float *weights = ids ? realloc(c->weights, numbers * sizeof *weights) : NULL;
    if (!weights) return dc_fail_memory(f->e, "a prompt's tokens", numbers * 8);
    c->weights = weights;
    for (int i = 0; i < c->length; i++) weights_of(f, c->n)[i] = 1;
    ids_of(f, c->n)[0] = dc_tokenizer_start(f->t);
    f->n = 0;
    f->comma = -1;
    return DC_OK;
}

/* Padding behind the tokens. TRAP: where it is another token than the end, it takes the place of all behind the first end token, also of one
 * that the prompt has. */
static void end_chunk(filling *f, dc_prompt_syntax syntax)
{
    int32_t *ids = ids_of(f, f->c->n), end = dc_tokenizer_end(f->t), pad = dc_tokenizer_pad(f->t);
    int from = f->n + 1;
    ids[from] = end;
    for (int i = 1; syntax == DC_PROMPT_A1111 && i < from; i++)
        if (ids[i] == end && pad != end) from = i;
    for (int i = from + 1; i < f->c->length; i++) ids[i] = pad;
    f->c->n++;
}

static dc_status next_chunk(filling *f, dc_prompt_syntax syntax)
{
    end_chunk(f, syntax);
    return begin_chunk(f);
}

static void put(filling *f, int32_t id, double weight)
{
    ids_of(f, f->c->n)[1 + f->n] = id;
    weights_of(f, f->c->n)[1 + f->n] = (float)weight;
    if ((float)weight != 1.0f) f->c->weighted = true;
    f->n++;
}

/* ---- A1111 ----------------------------------------------------------------------------------------------------------- */

/* The full chunk ends behind its last comma; what followed begins the next one. */
static dc_status move_behind_comma(filling *f)
{
    int kept = f->comma + 1, moved = f->n - kept, chunk = f->c->n;
    f->n = kept;
    int32_t ids[BACKTRACK];
    float weights[BACKTRACK];
    memcpy(ids, ids_of(f, chunk) + 1 + kept, (size_t)moved * sizeof *ids);
    memcpy(weights, weights_of(f, chunk) + 1 + kept, (size_t)moved * sizeof *weights);
    for (int i = 1 + kept; i < f->c->length; i++) weights_of(f, chunk)[i] = 1;
    dc_status s = next_chunk(f, DC_PROMPT_A1111);
    for (int i = 0; !s && i < moved; i++) put(f, ids[i], weights[i]);
    return s;
}

static dc_status add_token(filling *f, int32_t id, double weight)
{
    dc_status s = DC_OK;
    if (id == f->comma_id) f->comma = f->n;
    else if (f->n == f->inner && f->comma >= 0 && f->n - f->comma <= BACKTRACK) s = move_behind_comma(f);
    if (!s && f->n == f->inner) s = next_chunk(f, DC_PROMPT_A1111);
    if (!s) put(f, id, weight);
    return s;
}

static dc_status fill_a1111(filling *f, const dc_prompt_spans *s)
{
    dc_status status = begin_chunk(f);
    for (int i = 0; !status && i < s->n; i++) {
        int32_t *ids = NULL;
        int n = 0;
        if (dc_prompt_is_break(s, i)) {
            status = next_chunk(f, DC_PROMPT_A1111);
            continue;
        }
        status = dc_tokenize(f->t, s->text + s->at[i].from, s->at[i].n, &ids, &n, f->e);
        for (int k = 0; !status && k < n; k++) status = add_token(f, ids[k], s->at[i].weight);
        free(ids);
    }
    if (!status && (f->n || !f->c->n)) end_chunk(f, DC_PROMPT_A1111);
    return status;
}

/* ---- ComfyUI ----------------------------------------------------------------------------------------------------------- */

/* A word goes to the next chunk as a whole, unless it is a large one: that fills this chunk first. */
static dc_status add_word(filling *f, const int32_t *ids, int n, double weight)
{
    bool large = n >= LARGE_WORD;
    dc_status s = DC_OK;
    while (!s && n) {
        int room = f->inner - f->n, taken = n <= room ? n : large ? room : 0;
        for (int i = 0; i < taken; i++) put(f, ids[i], weight);
        if (n > room) s = next_chunk(f, DC_PROMPT_COMFYUI);
        ids += taken;
        n -= taken;
    }
    return s;
}

static dc_status fill_comfyui(filling *f, const dc_prompt_spans *s)
{
    dc_status status = begin_chunk(f);
    for (int i = 0; !status && i < s->n; i++) {
        const char *at = s->text + s->at[i].from, *end = at + s->at[i].n;
        while (!status && at < end) {
            size_t n = 0;
            int32_t *ids = NULL;
            int count = 0;
            while (at + n < end && at[n] != ' ' && at[n] != '\n') n++;
            if (n) status = dc_tokenize(f->t, at, n, &ids, &count, f->e);
            if (!status) status = add_word(f, ids, count, s->at[i].weight);
            free(ids);
            at += n + 1;
        }
    }
    if (!status) end_chunk(f, DC_PROMPT_COMFYUI);
    return status;
}

/* ---- the face ------------------------------------------------------------------------------------------------------------ */

static dc_status fill_plain(filling *f, const dc_prompt_spans *s)
{
    dc_status status = begin_chunk(f);
    if (!status) status = dc_tokenize_padded(f->t, s->text, f->c->length, f->c->ids, &f->c->cut, f->e);
    if (!status) f->c->n = 1;
    return status;
}

static dc_status find_comma(filling *f)
{
    int32_t *ids = NULL;
    int n = 0;
    dc_status s = dc_tokenize(f->t, ",", 1, &ids, &n, f->e);
    f->comma_id = !s && n == 1 ? ids[0] : -1;
    free(ids);
    return s;
}

dc_status dc_prompt_chunks_make(dc_prompt_chunks *c, const dc_prompt_spans *s, dc_prompt_syntax syntax, const dc_tokenizer *t, int length,
                                dc_error *e)
{
    *c = (dc_prompt_chunks){.length = length};
    filling f = {.c = c, .t = t, .inner = length - 2, .e = e};
    dc_status status = find_comma(&f);
    if (!status) status = syntax == DC_PROMPT_A1111 ? fill_a1111(&f, s) : syntax == DC_PROMPT_COMFYUI ? fill_comfyui(&f, s) : fill_plain(&f, s);
    if (status) dc_prompt_chunks_free(c);
    return status;
}

void dc_prompt_chunks_free(dc_prompt_chunks *c)
{
    free(c->ids);
    free(c->weights);
    *c = (dc_prompt_chunks){0};
}

void dc_prompt_empty_chunk(const dc_tokenizer *t, int length, int32_t *ids)
{
    ids[0] = dc_tokenizer_start(t);
    ids[1] = dc_tokenizer_end(t);
    for (int i = 2; i < length; i++) ids[i] = dc_tokenizer_pad(t);
}
