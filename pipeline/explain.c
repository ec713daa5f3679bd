/* explain.c - what a prompt comes to, for those who want to see it; and templates' public face. */
#include "pipeline/model.h"
#include "prompt/template.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct explaining {
    const dc_tokenizer *t;
    int length;
    dc_prompt_syntax syntax;
    emphasis emphasis;
    int steps;
    dc_error *e;
} explaining;

/* Into an array, or under a key of an object; memory that is out becomes the error. */
static void put(const explaining *x, json_t *into, const char *key, json_t *value)
{
    if (key ? json_object_set_new(into, key, value) : json_array_append_new(into, value)) dc_fail_memory(x->e, "a prompt's description", 0);
}

/* The chunk's tokens up to its end token. */
static json_t *chunk_json(const explaining *x, const dc_prompt_chunks *c, int k)
{
    const int32_t *ids = c->ids + (size_t)k * (size_t)c->length;
    const float *weights = c->weights + (size_t)k * (size_t)c->length;
    json_t *tokens = json_array();
    for (int i = 1; i < c->length && ids[i] != dc_tokenizer_end(x->t); i++) {
        const char *name = dc_tokenizer_token(x->t, ids[i]);
        json_array_append_new(
            tokens, json_pack("{s:i,s:s*,s:f}", "id", ids[i], "token", name, "weight", x->emphasis == EMPHASIS_IGNORE ? 1.0 : (double)weights[i]));
    }
    return json_pack("{s:i,s:o}", "room", c->length - 2, "tokens", tokens);
}

static dc_status text_json(const explaining *x, const char *text, json_t *into)
{
    dc_prompt_spans spans;
    dc_prompt_chunks c;
    dc_status s = dc_prompt_spans_make(&spans, text, strlen(text), x->emphasis == EMPHASIS_NONE ? DC_PROMPT_PLAIN : x->syntax, x->e);
    if (s) return s;
    s = dc_prompt_chunks_make(&c, &spans, x->syntax, x->t, x->length, x->e);
    dc_prompt_spans_free(&spans);
    if (s) return s;
    json_t *chunks = json_array();
    for (int k = 0; k < c.n; k++) put(x, chunks, NULL, chunk_json(x, &c, k));
    put(x, into, "chunks", chunks);
    put(x, into, "cut", json_integer(c.cut));
    dc_prompt_chunks_free(&c);
    return DC_OK;
}

/* Evaluations of the model, from 0, that text t is for, as ranges [first, last]. */
static json_t *ranges(const explaining *x, const dc_prompt_schedule *s, int t)
{
    json_t *a = json_array();
    for (int k = 0, from = -1; k <= x->steps; k++) {
        bool there = k < x->steps && dc_prompt_schedule_at(s, k) == t;
        if (there && from < 0) from = k;
        if (!there && from >= 0) put(x, a, NULL, json_pack("[i,i]", from, k - 1)), from = -1;
    }
    return a;
}

static dc_status part_json(const explaining *x, const char *text, size_t n, json_t *into)
{
    dc_prompt_schedule s;
    dc_status status = dc_prompt_schedule_make(&s, text, n, x->syntax == DC_PROMPT_A1111, x->steps, x->e);
    if (status) return status;
    json_t *texts = json_array();
    for (int t = 0; !status && t < s.n; t++) {
        json_t *one = json_pack("{s:s,s:o}", "text", s.text[t], "steps", ranges(x, &s, t));
        status = text_json(x, s.text[t], one);
        put(x, texts, NULL, one);
    }
    put(x, into, "texts", texts);
    dc_prompt_schedule_free(&s);
    return status;
}

static dc_status parts_json(const explaining *x, const char *prompt, json_t *root)
{
    dc_prompt_part part[DC_PROMPT_PARTS] = {{0, strlen(prompt), 1, false}};
    int n = 1;
    json_t *parts = json_array();
    dc_status s = x->syntax == DC_PROMPT_A1111 ? dc_prompt_parts(part, &n, prompt, x->e) : DC_OK;
    for (int i = 0; !s && i < n; i++) {
        json_t *one = json_pack("{s:f}", "weight", part[i].weight);
        s = part_json(x, prompt + part[i].from, part[i].n, one);
        put(x, parts, NULL, one);
    }
    put(x, root, "prompt", json_string(prompt));
    put(x, root, "parts", parts);
    return s;
}

diffc_status diffc_prompt_explain(const char *tokenizer, const char *prompt, const char *syntax, const char *kind, int steps, char **json,
                                  diffc_error *error)
{
    dc_error e = {0};
    dc_tokenizer *t = NULL;
    explaining x = {.steps = steps, .e = &e};
    json_t *root = json_object();
    *json = NULL;
    dc_status s = prompt_syntax(syntax, kind, &x.syntax, &x.emphasis, &e);
    if (!s) s = check_text("prompt", prompt, &e);
    if (!s && (steps < 1 || steps > 2000)) s = dc_fail(&e, DC_USAGE, "steps: found %d, expected 1 to 2000", steps);
    if (!s) s = find_tokenizer(&t, tokenizer, &e);
    if (!s) {
        x.t = t;
        x.length = dc_tokenizer_max_length(t);
        s = parts_json(&x, prompt, root);
    }
    if (!s) s = e.code;
    if (!s && !(*json = json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(7)))) s = dc_fail_memory(&e, "a prompt", 0);
    json_decref(root);
    dc_tokenizer_close(t);
    return give_error(error, &e);
}

bool diffc_prompt_is_template(const char *prompt) { return dc_prompt_is_template(prompt); }

diffc_status diffc_prompt_expand(const char *prompt, const char *folder, uint64_t seed, char **out, diffc_error *error)
{
    dc_error e = {0};
    *out = NULL;
    if (!check_text("prompt", prompt, &e)) dc_prompt_expand(out, prompt, folder, seed, &e);
    return give_error(error, &e);
}
