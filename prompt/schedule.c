/* schedule.c - AND, edits and alternations. One pass with a stack finds the brackets that mean something; the text of a step is copied out of
 * the prompt around what they leave out. */
#include "prompt/schedule.h"
#include "base/checked.h"
#include "base/text.h"
#include "prompt/scan.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- AND ------------------------------------------------------------------------------------------------------------ */

/* "text : 0.5 " -> "text", 0.5 */
static dc_prompt_part read_part(const char *s, size_t from, size_t n)
{
    dc_prompt_part p = {from, scan_trimmed(s + from, n), 1.0, false};
    const char *colon = memrchr(s + from, ':', n);
    if (colon && scan_number(colon + 1, n - (size_t)(colon + 1 - s - from), false, &p.weight)) {
        p.n = scan_trimmed(s + from, (size_t)(colon - s) - from);
        p.weighed = true;
    }
    return p;
}

dc_status dc_prompt_parts(dc_prompt_part part[DC_PROMPT_PARTS], int *n, const char *prompt, dc_error *e)
{
    size_t size = strlen(prompt), from = 0, at;
    *n = 0;
    do {
        at = scan_word(prompt, size, from, "AND");
        if (*n == DC_PROMPT_PARTS)
            return dc_fail(e, DC_USAGE, "prompt: byte %zu: found more than %d prompts joined by AND, expected fewer", from, DC_PROMPT_PARTS);
        part[(*n)++] = read_part(prompt, from, at - from);
        from = at + 3;
    } while (at < size);
    return DC_OK;
}

/* ---- brackets ----------------------------------------------------------------------------------------------------------------- */

typedef enum kind { LITERAL, EDIT, ALTERNATION } kind;

/* A bracket, colon or bar that no backslash precedes. */
typedef struct mark {
    size_t at;
    kind kind; /* of an opening bracket */
    int when, cuts;
    int next;  /* mark: of an opening bracket the first cut (colon or bar) in it, of a cut the next one; then its closing bracket */
    int close; /* mark: closing bracket */
} mark;

typedef struct open {
    int mark, colons, bars, last; /* last: mark of the last cut, or the bracket itself */
} open;

typedef struct reading {
    const char *text;
    size_t n;
    int steps;
    mark *marks;
    open *stack;
    int n_marks, depth, room;
    bool alternates;
} reading;

/* Everything open is no bracket after all. A bar among it has no place then. */
static bool give_up(reading *r)
{
    for (; r->depth; r->depth--)
        if (r->stack[r->depth - 1].bars) return false;
    return true;
}

/* `when` of [a:b: 0.5 ], as a step. */
static bool read_when(const reading *r, size_t from, size_t to, int *when)
{
    double v;
    if (!scan_number(r->text + from, to - from, true, &v)) return false;
    if (memchr(r->text + from, '.', to - from)) v *= r->steps;
    *when = v >= r->steps ? r->steps : v <= -r->steps ? -r->steps : (int)v;
    return true;
}

/* The bracket at mark m closes what is open; false: the text stays as it is. */
static bool close_bracket(reading *r, int m)
{
    if (!r->depth) return true;
    open o = r->stack[r->depth - 1];
    mark *begin = &r->marks[o.mark];
    bool round = r->text[r->marks[m].at] == ')';
    if ((r->text[begin->at] == '(') != round) return give_up(r);
    if (round) {
        if (o.bars || o.colons > 1) return give_up(r);
    } else if (o.bars) {
        if (o.colons) return false;
        begin->kind = ALTERNATION;
        r->alternates = true;
    } else if (o.colons) {
        if (o.colons > 2 || !read_when(r, r->marks[o.last].at + 1, r->marks[m].at, &begin->when)) return give_up(r);
        begin->kind = EDIT;
    }
    begin->cuts = o.colons + o.bars;
    begin->close = m;
    r->marks[o.last].next = m;
    r->depth--;
    return true;
}

/* A colon or bar. */
static bool cut(reading *r, int m, bool bar)
{
    if (!r->depth) return !bar;
    open *o = &r->stack[r->depth - 1];
    r->marks[o->last].next = m;
    o->last = m;
    if (bar) o->bars++;
    else o->colons++;
    return true;
}

static dc_status add_mark(reading *r, size_t at, dc_error *e)
{
    if (r->n_marks == r->room) {
        int room = r->room ? 2 * r->room : 64;
        mark *marks = realloc(r->marks, (size_t)room * sizeof *marks);
        if (marks) r->marks = marks;
        open *stack = marks ? realloc(r->stack, (size_t)room * sizeof *stack) : NULL;
        if (!stack) return dc_fail_memory(e, "a prompt's brackets", (unsigned long long)room * sizeof(mark));
        r->stack = stack;
        r->room = room;
    }
    r->marks[r->n_marks++] = (mark){.at = at};
    return DC_OK;
}

/* *fine: the text has a grammar. */
static dc_status find_brackets(reading *r, bool *fine, dc_error *e)
{
    *fine = true;
    for (size_t i = 0; *fine && i < r->n; i++) {
        char c = r->text[i];
        if (c == '\\') {
            *fine = ++i < r->n && r->text[i] != '\n';
        } else if (strchr("[]():|", c)) {
            if (add_mark(r, i, e)) return e->code;
            int m = r->n_marks - 1;
            if (c == '[' || c == '(') r->stack[r->depth++] = (open){.mark = m, .last = m};
            else *fine = c == ']' || c == ')' ? close_bracket(r, m) : cut(r, m, c == '|');
        }
    }
    *fine = *fine && give_up(r);
    return DC_OK;
}

/* ---- the text of a step -------------------------------------------------------------------------------------------------------------- */

/* The piece of bracket m that step `step` takes: bytes [*from, *to). */
static void piece(const reading *r, int m, int step, size_t *from, size_t *to)
{
    const mark *b = &r->marks[m];
    int k = 0;
    if (b->kind == ALTERNATION) k = (step - 1) % (b->cuts + 1);
    else if (b->cuts == 2) k = step > b->when;
    else if (step <= b->when) k = -1; /* [to:when] begins with nothing */
    *from = *to = r->marks[b->close].at;
    if (k < 0) return;
    int begin = m;
    while (k--) begin = r->marks[begin].next;
    *from = r->marks[begin].at + 1;
    *to = r->marks[r->marks[begin].next].at;
}

/* Pieces within pieces: where each ends, and the mark behind its bracket. `held` has room for as many as there are marks. */
typedef struct inside {
    size_t end;
    int behind;
} inside;

static void text_at(const reading *r, int step, inside *held, dc_text *out)
{
    size_t at = 0;
    int m = 0, depth = 0;
    for (;;) {
        while (m < r->n_marks && (r->marks[m].at < at || r->marks[m].kind == LITERAL)) m++;
        size_t end = depth ? held[depth - 1].end : r->n;
        if (m < r->n_marks && r->marks[m].at < end) {
            dc_text_append(out, r->text + at, r->marks[m].at - at);
            held[depth].behind = r->marks[m].close;
            piece(r, m, step, &at, &held[depth].end);
            depth++;
            continue;
        }
        dc_text_append(out, r->text + at, end - at);
        if (!depth) return;
        m = held[--depth].behind;
        at = r->marks[m].at + 1;
    }
}

/* ---- the schedule ------------------------------------------------------------------------------------------------------------------------ */

/* The text's number; it is taken over, or freed when it is there already. */
static dc_status take_text(dc_prompt_schedule *s, dc_text *text, int *number, dc_error *e)
{
    if (!text->at && !text->failed) dc_text_append(text, "", 0);
    char *words = text->at ? text->at : text->failed ? NULL : dc_strdup("");
    if (!words || text->failed) {
        dc_text_free(text);
        return dc_fail_memory(e, "a prompt", text->length);
    }
    *text = (dc_text){0};
    for (*number = 0; *number < s->n; ++*number)
        if (!strcmp(s->text[*number], words)) {
            free(words);
            return DC_OK;
        }
    if (s->n == DC_PROMPT_TEXTS) {
        free(words);
        return dc_fail(e, DC_USAGE, "prompt: found more than %d different texts over the steps, expected fewer", DC_PROMPT_TEXTS);
    }
    s->text[s->n++] = words;
    return DC_OK;
}

static dc_status add_entry(dc_prompt_schedule *s, const reading *r, int end, inside *held, dc_error *e)
{
    dc_text text = {0};
    if (r) text_at(r, end, held, &text);
    int number = 0;
    dc_status status = take_text(s, &text, &number, e);
    if (!status) s->entry[s->entries++] = (dc_prompt_entry){end, number};
    return status;
}

static dc_status fill(dc_prompt_schedule *s, const reading *r, bool *ends, inside *held, dc_error *e)
{
    dc_status status = DC_OK;
    ends[r->steps] = true;
    for (int m = 0; m < r->n_marks; m++)
        if (r->marks[m].kind == EDIT && r->marks[m].when >= 1) ends[r->marks[m].when] = true;
    for (int i = 1; !status && i <= r->steps; i++)
        if (ends[i] || r->alternates) status = add_entry(s, r, i, held, e);
    return status;
}

dc_status dc_prompt_schedule_make(dc_prompt_schedule *s, const char *text, size_t n, bool edits, int steps, dc_error *e)
{
    reading r = {.text = text, .n = n, .steps = steps};
    bool fine = false;
    *s = (dc_prompt_schedule){0};
    dc_status status = edits ? find_brackets(&r, &fine, e) : DC_OK;
    if (!fine) r.n_marks = 0, r.alternates = false;
    bool *ends = dc_calloc((size_t)steps + 1, sizeof *ends);
    inside *held = dc_calloc((size_t)r.n_marks + 1, sizeof *held);
    s->text = dc_calloc(DC_PROMPT_TEXTS, sizeof *s->text);
    s->entry = dc_calloc((size_t)steps, sizeof *s->entry);
    if (!status && (!ends || !held || !s->text || !s->entry)) status = dc_fail_memory(e, "a prompt's steps", (unsigned long long)steps * 8);
    if (!status) status = fill(s, &r, ends, held, e);
    free(ends);
    free(held);
    free(r.marks);
    free(r.stack);
    if (status) dc_prompt_schedule_free(s);
    return status;
}

void dc_prompt_schedule_free(dc_prompt_schedule *s)
{
    for (int i = 0; i < s->n; i++) free(s->text[i]);
    free(s->text);
    free(s->entry);
    *s = (dc_prompt_schedule){0};
}

int dc_prompt_schedule_at(const dc_prompt_schedule *s, int k)
{
    int i = 0;
    while (i + 1 < s->entries && k > s->entry[i].end) i++;
    return s->entry[i].text;
}

int dc_prompt_schedule_count(const dc_prompt_schedule *s, int text)
{
    int n = 0;
    for (int i = 0; i < s->entries; i++) n += s->entry[i].text == text;
    return n;
}
