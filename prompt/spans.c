/* spans.c - brackets to weights, in both dialects without recursion. */
#include "prompt/spans.h"
#include "base/text.h"
#include "prompt/scan.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct reading {
    const char *text;
    size_t n;
    dc_text out;
    dc_prompt_span *at;
    int count, room;
    int stack[2][DC_PROMPT_NESTING], depth[2]; /* spans at which ( and [ opened */
    dc_error *e;
} reading;

static dc_status add(reading *r, const char *text, size_t n, double weight)
{
    if (r->count == r->room) {
        int room = r->room ? 2 * r->room : 16;
        dc_prompt_span *at = realloc(r->at, (size_t)room * sizeof *at);
        if (!at) return dc_fail_memory(r->e, "a prompt", (unsigned long long)room * sizeof *at);
        r->at = at;
        r->room = room;
    }
    r->at[r->count++] = (dc_prompt_span){r->out.length, n, weight};
    dc_text_append(&r->out, text, n);
    return DC_OK;
}

static dc_status too_deep(reading *r, size_t at)
{
    return dc_fail(r->e, DC_USAGE, "prompt: byte %zu: found brackets nested deeper than %d, expected less", at, DC_PROMPT_NESTING);
}

static dc_status no_weight(reading *r, const char *from, size_t n)
{
    return dc_fail(r->e, DC_USAGE, "prompt: byte %zu: weight: found \"%.*s\", expected a finite number", (size_t)(from - r->text),
                   (int)(n < 40 ? n : 40), from);
}

/* ---- A1111 ------------------------------------------------------------------------------------------------------------- */

enum { ROUND, SQUARE };

static dc_status open_bracket(reading *r, int which, size_t at)
{
    if (r->depth[0] + r->depth[1] == DC_PROMPT_NESTING) return too_deep(r, at);
    r->stack[which][r->depth[which]++] = r->count;
    return DC_OK;
}

/* The weights of all spans from `from` on. Every span is within DC_PROMPT_NESTING brackets at most, so this is linear work in all. */
static void multiply(reading *r, int from, double by)
{
    for (int i = from; i < r->count; i++) r->at[i].weight *= by;
}

/* Text up to the next bracket, colon or backslash, around the word BREAK. */
static dc_status add_text(reading *r, const char *s, size_t n)
{
    dc_status status = DC_OK;
    for (size_t from = 0;;) {
        size_t at = scan_word(s, n, from, "BREAK");
        if (at == n) return status ? status : add(r, s + from, n - from, 1);
        status = add(r, s + from, scan_trimmed(s + from, at - from), 1);
        if (!status) status = add(r, "BREAK", 5, -1);
        if (status) return status;
        from = at + 5 + scan_space(s + at + 5, n - at - 5);
    }
}

/* ":1.2)" at s: bytes of it, and the weight's place; 0: something else is there. */
static size_t weight_there(const char *s, size_t n, const char **digits, size_t *size)
{
    size_t i = 1 + scan_space(s + 1, n - 1), from = i;
    if (i < n && (s[i] == '+' || s[i] == '-')) i++;
    size_t run = i;
    while (i < n && (s[i] == '.' || (s[i] >= '0' && s[i] <= '9'))) i++;
    if (i == run) return 0;
    *digits = s + from;
    *size = i - from;
    i += scan_space(s + i, n - i);
    return i < n && s[i] == ')' ? i + 1 : 0;
}

/* One piece of the pattern re_attention; *used: its bytes. */
static dc_status read_piece(reading *r, size_t at, size_t *used)
{
    const char *s = r->text + at, *digits;
    size_t n = r->n - at, size;
    *used = 1;
    switch (*s) {
    case '\\': *used = n > 1 && strchr("()[]\\", s[1]) ? 2 : 1; return add(r, s + 1, *used - 1, 1);
    case '(': return open_bracket(r, ROUND, at);
    case '[': return open_bracket(r, SQUARE, at);
    case ')':
        if (!r->depth[ROUND]) break;
        multiply(r, r->stack[ROUND][--r->depth[ROUND]], 1.1);
        return DC_OK;
    case ']':
        if (!r->depth[SQUARE]) break;
        multiply(r, r->stack[SQUARE][--r->depth[SQUARE]], 1 / 1.1);
        return DC_OK;
    case ':': {
        size_t all = weight_there(s, n, &digits, &size);
        double weight;
        if (!all) break;
        *used = all;
        if (!r->depth[ROUND]) break;
        if (!scan_number(digits, size, false, &weight)) return no_weight(r, digits, size);
        multiply(r, r->stack[ROUND][--r->depth[ROUND]], weight);
        return DC_OK;
    }
    default: *used = strcspn(s, "\\()[]:"); *used = *used < n ? *used : n;
    }
    return add_text(r, s, *used);
}

static dc_status read_a1111(reading *r)
{
    dc_status s = DC_OK;
    for (size_t at = 0, used; !s && at < r->n; at += used) s = read_piece(r, at, &used);
    for (int which = ROUND; which <= SQUARE; which++)
        for (int i = 0; i < r->depth[which]; i++) multiply(r, r->stack[which][i], which == ROUND ? 1.1 : 1 / 1.1);
    return s;
}

static void merge_equal(reading *r)
{
    int kept = 0;
    for (int i = 1; i < r->count; i++) {
        if (r->at[i].weight == r->at[kept].weight) r->at[kept].n += r->at[i].n; /* they follow each other in `out` */
        else r->at[++kept] = r->at[i];
    }
    r->count = kept + 1;
}

/* ---- ComfyUI ---------------------------------------------------------------------------------------------------------------- */

/* Text that is cut at its outermost brackets; those within an item are cut in a level of their own. */
typedef struct level {
    size_t at, end, item; /* item: where the one under way began */
    long nesting;
    double weight;
} level;

/* A bracket behind a backslash is none. */
static bool is_bracket(const reading *r, size_t at, char c) { return r->text[at] == c && !(at && r->text[at - 1] == '\\'); }

/* The next item of l, [*from, *to); false: there is none. */
static bool next_item(const reading *r, level *l, size_t *from, size_t *to)
{
    for (; l->at < l->end; l->at++) {
        bool ends = false;
        size_t behind = l->at;
        if (is_bracket(r, l->at, '(')) ends = l->nesting++ == 0 && l->item < l->at;
        else if (is_bracket(r, l->at, ')')) ends = --l->nesting == 0, behind++;
        if (!ends) continue;
        *from = l->item;
        *to = l->item = behind;
        l->at++;
        return true;
    }
    *from = l->item;
    *to = l->item = l->end;
    return *from < *to;
}

static dc_status add_unescaped(reading *r, size_t from, size_t to, double weight)
{
    dc_status s = add(r, "", 0, weight);
    for (size_t i = from; !s && i < to; i++)
        if (!(r->text[i] == '\\' && i + 1 < r->n && strchr("()", r->text[i + 1]))) dc_text_append(&r->out, r->text + i, 1);
    if (!s) r->at[r->count - 1].n = r->out.length - r->at[r->count - 1].from;
    return s;
}

/* "(x:1.2)": the level within, its weight in the place of the one around; "(x)" multiplies. */
static dc_status step_in(reading *r, level *inner, size_t from, size_t to, double weight)
{
    *inner = (level){from + 1, to - 1, from + 1, 0, weight * 1.1};
    const char *colon = memrchr(r->text + from + 1, ':', to - from - 2);
    if (colon && colon > r->text + from + 1 && scan_number(colon + 1, (size_t)(r->text + to - 2 - colon), true, &inner->weight))
        inner->end = (size_t)(colon - r->text);
    return DC_OK;
}

static dc_status read_comfyui(reading *r)
{
    level stack[DC_PROMPT_NESTING];
    int depth = 1;
    size_t from, to;
    dc_status s = DC_OK;
    stack[0] = (level){0, r->n, 0, 0, 1};
    while (!s && depth) {
        level *l = &stack[depth - 1];
        if (!next_item(r, l, &from, &to)) depth--;
        else if (to - from < 2 || !is_bracket(r, from, '(') || !is_bracket(r, to - 1, ')')) s = add_unescaped(r, from, to, l->weight);
        else if (depth == DC_PROMPT_NESTING) s = too_deep(r, from);
        else s = step_in(r, &stack[depth++], from, to, l->weight);
    }
    return s;
}

/* ---- the face ------------------------------------------------------------------------------------------------------------------- */

dc_status dc_prompt_spans_make(dc_prompt_spans *s, const char *text, size_t n, dc_prompt_syntax syntax, dc_error *e)
{
    reading *r = calloc(1, sizeof *r);
    *s = (dc_prompt_spans){0};
    if (!r) return dc_fail_memory(e, "a prompt", sizeof *r);
    *r = (reading){.text = text, .n = n, .e = e};
    dc_status status = syntax == DC_PROMPT_A1111 ? read_a1111(r) : syntax == DC_PROMPT_COMFYUI ? read_comfyui(r) : add(r, text, n, 1);
    if (!status && !r->count) status = add(r, "", 0, 1);
    if (!status && !r->out.at && !r->out.failed) dc_text_printf(&r->out, "%s", "");
    if (!status && (r->out.failed || !r->out.at)) status = dc_fail_memory(e, "a prompt", n);
    if (!status && syntax == DC_PROMPT_A1111) merge_equal(r);
    for (int i = 0; !status && i < r->count; i++)
        if (!isfinite(r->at[i].weight)) status = dc_fail(e, DC_USAGE, "prompt: weights: found a product that is not finite, expected smaller ones");
    if (status) {
        dc_text_free(&r->out);
        free(r->at);
    } else {
        *s = (dc_prompt_spans){r->out.at, r->at, r->count};
    }
    free(r);
    return status;
}

void dc_prompt_spans_free(dc_prompt_spans *s)
{
    free(s->text);
    free(s->at);
    *s = (dc_prompt_spans){0};
}

bool dc_prompt_is_break(const dc_prompt_spans *s, int i)
{
    return s->at[i].weight == -1 && s->at[i].n == 5 && !memcmp(s->text + s->at[i].from, "BREAK", 5);
}
