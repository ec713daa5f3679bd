/* field.c - the text of a field as bytes, and what edits do to it. */
#include "apps/viewer/field.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- characters ------------------------------------------------------------------------------------------------------------ */

/* One code point of n > 0 bytes; its length, 0 where there is none (surrogates and long forms are none). */
static size_t decode(const char *s, size_t n, utf8proc_int32_t *c)
{
    const utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, c);
    return k > 0 ? (size_t)k : 0;
}

/* The boundary behind `at`, which is one: no rule looks back over a boundary. */
static size_t boundary_behind(const char *s, size_t n, size_t at)
{
    utf8proc_int32_t before, c, state = 0;
    if (at >= n) return n;
    at += decode(s + at, n - at, &before);
    while (at < n) {
        const size_t k = decode(s + at, n - at, &c);
        if (utf8proc_grapheme_break_stateful(before, c, &state)) break;
        before = c;
        at += k;
    }
    return at;
}

/* The last boundary before `at` <= n, which need not be one; 0 at the start. They can be told only from the start of the text on. */
static size_t boundary_before(const char *s, size_t n, size_t at)
{
    size_t here = 0;
    for (size_t next; (next = boundary_behind(s, n, here)) < at;) here = next;
    return here;
}

static size_t boundary_from(const char *s, size_t n, size_t at) /* the first that is not before `at` */
{
    size_t here = 0;
    while (here < at && here < n) here = boundary_behind(s, n, here);
    return here;
}

typedef enum kind { BLANK, LETTERS, SIGNS } kind;

static kind kind_at(const char *s, size_t n, size_t at)
{
    utf8proc_int32_t c;
    decode(s + at, n - at, &c);
    const utf8proc_category_t k = utf8proc_category(c);
    if (k == UTF8PROC_CATEGORY_ZS) return BLANK;
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NO) || k == UTF8PROC_CATEGORY_PC ? LETTERS : SIGNS;
}

/* Over blanks and then a run of one kind. */
static size_t word_behind(const char *s, size_t n, size_t at)
{
    while (at < n && kind_at(s, n, at) == BLANK) at = boundary_behind(s, n, at);
    if (at >= n) return n;
    const kind k = kind_at(s, n, at);
    while (at < n && kind_at(s, n, at) == k) at = boundary_behind(s, n, at);
    return at;
}

/* The start of the run of one kind that ends at `to`, or of blanks and the run before them: the last start of a run that is no blank. */
static size_t word_before(const char *s, size_t n, size_t to)
{
    size_t start = 0;
    kind before = BLANK;
    for (size_t here = 0; here < to; here = boundary_behind(s, n, here)) {
        const kind k = kind_at(s, n, here);
        if (k != before && k != BLANK) start = here;
        before = k;
    }
    return start;
}

/* A copy that a field may have, of at most `max` bytes; NULL when memory is out. The caller frees. */
static char *cleaned(const char *s, size_t max, size_t *length)
{
    const size_t n = strlen(s);
    char *out = malloc(n + 1);
    if (!out) return NULL;
    size_t to = 0;
    for (size_t at = 0, k; at < n; at += k ? k : 1) {
        utf8proc_int32_t c;
        k = decode(s + at, n - at, &c);
        if (!k || (c == '\n' && at && s[at - 1] == '\r')) continue;
        const utf8proc_category_t what = utf8proc_category(c);
        const bool line = (c >= '\t' && c <= '\r') || c == 0x85 || what == UTF8PROC_CATEGORY_ZL || what == UTF8PROC_CATEGORY_ZP;
        if (line) {
            out[to++] = ' ';
        } else if (what != UTF8PROC_CATEGORY_CC) {
            memcpy(out + to, s + at, k);
            to += k;
        }
    }
    if (to > max) to = boundary_before(out, to, max + 1);
    out[to] = 0;
    *length = to;
    return out;
}

/* ---- changes ----------------------------------------------------------------------------------------------------------------- */

enum { CLOSED, TYPED, ERASED };

const char *field_text(const field *f) { return f->text ? f->text : ""; }

bool field_selection(const field *f, size_t *from, size_t *to)
{
    *from = f->caret < f->anchor ? f->caret : f->anchor;
    *to = f->caret < f->anchor ? f->anchor : f->caret;
    return *from < *to;
}

size_t field_next(const field *f, size_t at) { return boundary_behind(field_text(f), f->length, at); }

static bool make_room(field *f, size_t length)
{
    if (f->text && length < f->room) return true;
    const size_t room = length + length / 2 + 64;
    char *text = realloc(f->text, room);
    if (!text) return false;
    text[f->length] = 0;
    f->text = text;
    f->room = room;
    return true;
}

/* There is room. */
static void replace(field *f, size_t from, size_t to, const char *bytes, size_t n)
{
    memmove(f->text + from + n, f->text + to, f->length - to + 1);
    memcpy(f->text + from, bytes, n);
    f->length += n - (to - from);
    f->version++;
}

static bool go(field *f, size_t caret, size_t anchor)
{
    const bool moved = f->caret != caret || f->anchor != anchor;
    f->caret = caret;
    f->anchor = anchor;
    f->open = CLOSED;
    return moved;
}

/* Does a change go on with the one before: letters of a word, with the blanks behind it; graphemes that are erased one after the other? */
static bool joins(const field *f, const field_change *last, size_t from, size_t to, const char *bytes, size_t n, int open)
{
    if (open == CLOSED || open != f->open) return false;
    if (open == ERASED) return to == last->at || from == last->at;
    return from == last->at + last->inserted && !(f->text[from - 1] == ' ' && kind_at(bytes, n, 0) != BLANK);
}

static bool join(field_change *last, const char *text, size_t from, size_t to, const char *bytes, size_t n)
{
    const size_t had = last->removed + last->inserted, more = to - from;
    char *grown = realloc(last->bytes, had + more + n);
    if (!grown) return false;
    last->bytes = grown;
    if (n) { /* typed: nothing was removed */
        memcpy(grown + had, bytes, n);
        last->inserted += n;
    } else if (to == last->at) {
        memmove(grown + more, grown, had);
        memcpy(grown, text + from, more);
        last->at = from;
        last->removed += more;
    } else {
        memcpy(grown + had, text + from, more);
        last->removed += more;
    }
    return true;
}

static bool note(field *f, size_t from, size_t to, const char *bytes, size_t n, int open)
{
    while (f->n_changes > f->n_done) free(f->change[--f->n_changes].bytes);
    field_change *last = f->n_done ? &f->change[f->n_done - 1] : NULL;
    if (last && joins(f, last, from, to, bytes, n, open)) return join(last, f->text, from, to, bytes, n);
    char *copy = malloc(to - from + n);
    if (!copy) return false;
    memcpy(copy, f->text + from, to - from);
    memcpy(copy + (to - from), bytes, n);
    if (f->n_changes == FIELD_UNDO) {
        free(f->change[0].bytes);
        memmove(f->change, f->change + 1, (FIELD_UNDO - 1) * sizeof *f->change);
        f->n_changes = --f->n_done;
    }
    f->change[f->n_changes++] = (field_change){from, to - from, n, f->caret, f->anchor, copy};
    f->n_done = f->n_changes;
    return true;
}

/* n bytes in the place of those from `from` to `to`; the caret goes behind them, and behind what has grown together with what follows. */
static bool splice(field *f, size_t from, size_t to, const char *bytes, size_t n, int open)
{
    if (from == to && !n) return false;
    if (!make_room(f, f->length - (to - from) + n) || !note(f, from, to, bytes, n, open)) return false;
    replace(f, from, to, bytes, n);
    const size_t caret = boundary_from(f->text, f->length, from + n);
    go(f, caret, caret);
    f->open = open;
    return true;
}

static bool undo(field *f)
{
    if (!f->n_done) return false;
    const field_change *c = &f->change[--f->n_done];
    replace(f, c->at, c->at + c->inserted, c->bytes, c->removed);
    go(f, c->caret, c->anchor);
    return true;
}

static bool redo(field *f)
{
    if (f->n_done == f->n_changes) return false;
    const field_change *c = &f->change[f->n_done++];
    replace(f, c->at, c->at + c->removed, c->bytes + c->removed, c->inserted);
    const size_t caret = boundary_from(f->text, f->length, c->at + c->inserted);
    go(f, caret, caret);
    return true;
}

/* ---- history --------------------------------------------------------------------------------------------------------------- */

void field_history_add(field *f, const char *text)
{
    size_t n;
    char *copy = cleaned(text, f->max, &n);
    if (copy && n && !(f->n_history && !strcmp(f->history[f->n_history - 1], copy))) {
        if (f->n_history == FIELD_HISTORY) {
            free(f->history[0]);
            memmove(f->history, f->history + 1, (size_t)--f->n_history * sizeof *f->history);
        }
        f->history[f->n_history++] = copy;
        copy = NULL;
    }
    free(copy);
    free(f->draft);
    f->draft = NULL;
    f->at_history = f->n_history;
}

static bool walk(field *f, int way)
{
    const char *text = field_text(f);
    int to = f->at_history + way;
    while (to >= 0 && to < f->n_history && !strcmp(f->history[to], text)) to += way; /* that would look like a dead key */
    if (to < 0 || to > f->n_history) return false;
    if (f->at_history == f->n_history || strcmp(f->history[f->at_history], text)) {
        char *draft = strdup(text);
        if (!draft) return false;
        free(f->draft);
        f->draft = draft;
    }
    const char *there = to < f->n_history ? f->history[to] : f->draft ? f->draft : "";
    const bool other = strcmp(there, text);
    if (other && !splice(f, 0, f->length, there, strlen(there), CLOSED)) return false;
    f->at_history = to;
    return other;
}

/* ---- edits ----------------------------------------------------------------------------------------------------------------- */

static bool uncompose(field *f)
{
    const bool had = f->composed;
    free(f->composed);
    f->composed = NULL;
    f->composed_length = f->composed_caret = f->composed_selected = 0;
    return had;
}

static bool move(field *f, size_t to, bool select) { return go(f, to, select ? f->anchor : to); }

/* A selection, or else what is between the caret and `to`. */
static bool erase(field *f, size_t to, bool one)
{
    size_t from, end;
    if (field_selection(f, &from, &end)) return splice(f, from, end, "", 0, CLOSED);
    return to < f->caret ? splice(f, to, f->caret, "", 0, one ? ERASED : CLOSED) : splice(f, f->caret, to, "", 0, one ? ERASED : CLOSED);
}

static bool apply(field *f, edit what, bool select)
{
    const char *s = field_text(f);
    const size_t n = f->length, at = f->caret;
    size_t from, to;
    const bool leave = field_selection(f, &from, &to) && !select; /* a step out of a selection goes to its end */
    switch (what) {
    case EDIT_LEFT: return move(f, leave ? from : boundary_before(s, n, at), select);
    case EDIT_RIGHT: return move(f, leave ? to : boundary_behind(s, n, at), select);
    case EDIT_WORD_LEFT: return move(f, word_before(s, n, at), select);
    case EDIT_WORD_RIGHT: return move(f, word_behind(s, n, at), select);
    case EDIT_HOME: return move(f, 0, select);
    case EDIT_END: return move(f, n, select);
    case EDIT_BACKSPACE: return erase(f, boundary_before(s, n, at), true);
    case EDIT_DELETE: return erase(f, boundary_behind(s, n, at), true);
    case EDIT_WORD_BACKSPACE: return erase(f, word_before(s, n, at), false);
    case EDIT_WORD_DELETE: return erase(f, word_behind(s, n, at), false);
    case EDIT_ERASE_HOME: return erase(f, 0, false);
    case EDIT_ERASE_END: return erase(f, n, false);
    case EDIT_SELECT_ALL: return go(f, n, 0);
    case EDIT_UNDO: return undo(f);
    case EDIT_REDO: return redo(f);
    case EDIT_HISTORY_BACK: return walk(f, -1);
    case EDIT_HISTORY_FORWARD: return walk(f, 1);
    }
    return false;
}

bool field_edit(field *f, edit what, bool select)
{
    const bool composing = uncompose(f);
    return apply(f, what, select) || composing;
}

bool field_insert(field *f, const char *text)
{
    const bool composing = uncompose(f);
    size_t from, to, n;
    const bool selected = field_selection(f, &from, &to);
    const size_t kept = f->length - (to - from);
    char *clean = cleaned(text, f->max > kept ? f->max - kept : 0, &n);
    const bool one = clean && !selected && boundary_behind(clean, n, 0) == n;
    const bool done = clean && n && splice(f, from, to, clean, n, one ? TYPED : CLOSED);
    free(clean);
    return done || composing;
}

bool field_set(field *f, const char *text)
{
    const bool composing = uncompose(f);
    size_t n;
    char *clean = cleaned(text, f->max, &n);
    const bool done = clean && strcmp(clean, field_text(f)) && splice(f, 0, f->length, clean, n, CLOSED);
    free(clean);
    return done || composing;
}

bool field_place(field *f, size_t at, bool select)
{
    const bool composing = uncompose(f);
    const size_t to = at < f->length ? boundary_before(field_text(f), f->length, at + 1) : f->length;
    return move(f, to, select) || composing;
}

bool field_select_word(field *f, size_t at)
{
    const bool composing = uncompose(f);
    const char *s = field_text(f);
    const size_t n = f->length;
    if (!n) return composing;
    at = boundary_before(s, n, at < n ? at + 1 : n);
    const kind k = kind_at(s, n, at);
    size_t from = 0, to = at;
    while (to < n && kind_at(s, n, to) == k) to = boundary_behind(s, n, to);
    for (size_t here = 0; here < at;) { /* from: behind the last of another kind */
        const bool other = kind_at(s, n, here) != k;
        here = boundary_behind(s, n, here);
        if (other) from = here;
    }
    return go(f, to, from) || composing;
}

char *field_copy(const field *f)
{
    size_t from, to;
    return field_selection(f, &from, &to) ? strndup(f->text + from, to - from) : NULL;
}

char *field_cut(field *f)
{
    char *text = field_copy(f);
    if (text) field_edit(f, EDIT_DELETE, false);
    return text;
}

/* ---- composition --------------------------------------------------------------------------------------------------------------- */

static size_t bytes_of(const char *s, size_t n, int characters)
{
    size_t at = 0;
    for (utf8proc_int32_t c; characters > 0 && at < n; characters--) at += decode(s + at, n - at, &c);
    return at;
}

bool field_compose(field *f, const char *text, int caret, int selected)
{
    size_t n = 0;
    char *clean = text && *text ? cleaned(text, f->max, &n) : NULL;
    const bool had = uncompose(f);
    f->open = CLOSED;
    if (!n) {
        free(clean);
        return had;
    }
    f->composed = clean;
    f->composed_length = n;
    f->composed_caret = bytes_of(clean, n, caret);
    f->composed_selected = bytes_of(clean + f->composed_caret, n - f->composed_caret, selected);
    return true;
}

bool field_commit(field *f)
{
    char *text = f->composed;
    const bool had = text;
    f->composed = NULL; /* inserting ends what there is */
    if (had) field_insert(f, text);
    free(text);
    return had;
}

void field_free(field *f)
{
    uncompose(f);
    for (int i = 0; i < f->n_changes; i++) free(f->change[i].bytes);
    for (int i = 0; i < f->n_history; i++) free(f->history[i]);
    free(f->draft);
    free(f->text);
    *f = (field){0};
}
