/* A field of text: graphemes, words, selection, undo, history, an input method; and random edits beside a plain model. */
#include "apps/viewer/field.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include <cmocka.h>

static field with(const char *text)
{
    field f = {.max = 1000};
    field_set(&f, text);
    return f;
}

/* The text with its caret as |, and its anchor as ^ where there is a selection. */
static const char *shown(const field *f)
{
    static char out[3000];
    char *to = out;
    for (size_t i = 0; i <= f->length; i++) {
        if (i == f->anchor && i != f->caret) *to++ = '^';
        if (i == f->caret) *to++ = '|';
        *to++ = field_text(f)[i];
    }
    return out;
}

static void type(field *f, const char *letters)
{
    for (; *letters; letters++) field_insert(f, (char[]){*letters, 0});
}

/* ---- graphemes --------------------------------------------------------------------------------------------------------------- */

#define FAMILY "\U0001F468\u200D\U0001F469\u200D\U0001F467\u200D\U0001F466"

/* Ends of graphemes by another program: Python's regex 2026.5.9, \X. */
static const struct {
    const char *text;
    size_t end[4];
} graphemes[] = {
    {"abc", {1, 2, 3}},
    {"e\u0301a\u0308\u0323x", {3, 8, 9}},
    {FAMILY "!", {25, 26}},
    {"\U0001F1E9\U0001F1EA\U0001F1EB\U0001F1F7\U0001F1EA", {8, 16, 20}}, /* two flags and a half */
    {"\U0001F44D\U0001F3FD\u2764\uFE0F", {8, 14}},
    {"\u1112\u1161\u11AB\uAC00\u11A8", {9, 15}}, /* Hangul */
    {"\u0E01\u0E33\u0E19", {6, 9}},              /* Thai */
    {"1\uFE0F\u20E3#", {7, 8}},
    {"a\u200Db", {4, 5}},
    {"\U0001F3F4\U000E0067\U000E0062\U000E007F.", {16, 17}},
    {"a\u200B\u0301b", {1, 4, 6, 7}},
    {"\u0915\u093F x", {6, 7, 8}}, /* Devanagari */
};

static void a_caret_passes_graphemes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof graphemes / sizeof *graphemes; i++) {
        field f = with(graphemes[i].text);
        const size_t *end = graphemes[i].end;
        int n = 0;
        while (n < 4 && end[n]) n++;
        assert_int_equal(end[n - 1], f.length);
        field_place(&f, 0, false);
        for (int k = 0; k < n; k++) {
            assert_int_equal(field_next(&f, f.caret), end[k]);
            assert_true(field_edit(&f, EDIT_RIGHT, false));
            assert_int_equal(f.caret, end[k]);
            assert_int_equal(f.anchor, end[k]);
            for (size_t at = k ? end[k - 1] : 0; at < end[k]; at++) { /* every byte of it is its place */
                field_place(&f, at, false);
                assert_int_equal(f.caret, k ? end[k - 1] : 0);
            }
            field_place(&f, end[k], false);
        }
        assert_false(field_edit(&f, EDIT_RIGHT, false));
        for (int k = n - 1; k >= 0; k--) {
            assert_true(field_edit(&f, EDIT_LEFT, false));
            assert_int_equal(f.caret, k ? end[k - 1] : 0);
        }
        assert_false(field_edit(&f, EDIT_LEFT, false));
        field_edit(&f, EDIT_END, false);
        for (int k = n - 1; k >= 0; k--) {
            assert_true(field_edit(&f, EDIT_BACKSPACE, false));
            assert_int_equal(f.length, k ? end[k - 1] : 0);
        }
        assert_false(field_edit(&f, EDIT_BACKSPACE, false));
        assert_true(field_edit(&f, EDIT_UNDO, false)); /* one change, as they followed each other */
        assert_string_equal(field_text(&f), graphemes[i].text);
        field_free(&f);
    }
}

static void what_grows_together_takes_the_caret_along(void **state)
{
    (void)state;
    field f = with("\u0301x");
    field_place(&f, 0, false);
    field_insert(&f, "e");
    assert_string_equal(shown(&f), "e\u0301|x");
    field_set(&f, "a\u200B\u0301b"); /* the accent stands alone until what is before it goes */
    field_place(&f, 1, false);
    field_edit(&f, EDIT_DELETE, false);
    assert_string_equal(shown(&f), "a\u0301|b");
    field_edit(&f, EDIT_UNDO, false);
    assert_string_equal(shown(&f), "a|\u200B\u0301b");
    field_free(&f);
}

static void only_text_comes_in(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"a\nb\r\nc\td", "a b c d"},
        {"a\u2028b\u2029c\xc2\x85"
         "d",
         "a b c d"},
        {"a\x01\x1b[31m\x7f\xc2\x9b", "a[31m"},
        {"\xff\xfe"
         "a\x80"
         "b\xc3",
         "ab"},
        {"\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80z", "z"}, /* a long form, a surrogate, too large */
        {"\xe2\x82(\xf0\x9f\x98", "("},
        {"\uFEFF\u200D\U0010FFFD", "\uFEFF\u200D\U0010FFFD"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        field f = {.max = 1000};
        assert_true(field_insert(&f, cases[i].in));
        assert_string_equal(field_text(&f), cases[i].out);
        field_free(&f);
    }
    field f = with("keep");
    field_edit(&f, EDIT_SELECT_ALL, false);
    assert_false(field_insert(&f, "\x01\xff"));
    assert_false(field_insert(&f, ""));
    assert_string_equal(shown(&f), "^keep|");
    field_free(&f);
}

static void too_long_is_cut_between_graphemes(void **state)
{
    (void)state;
    field f = {.max = 10};
    field_insert(&f, "e\u0301e\u0301e\u0301e\u0301");
    assert_int_equal(f.length, 9);
    assert_false(field_insert(&f, "e\u0301"));
    assert_true(field_insert(&f, "xy"));
    assert_int_equal(f.length, 10);
    assert_false(field_insert(&f, "z"));
    field_edit(&f, EDIT_SELECT_ALL, false);
    assert_true(field_insert(&f, "0123456789ab"));
    assert_string_equal(field_text(&f), "0123456789");
    field_set(&f, FAMILY);
    assert_string_equal(field_text(&f), "");
    field_free(&f);
}

/* ---- words and selection ----------------------------------------------------------------------------------------------------- */

static void words(void **state)
{
    (void)state;
    field f = with("a (re\u0301d car:1.2),  \u732B\u72AC x_1");
    static const char *const left[] = {"a (re\u0301d car:1.2),  \u732B\u72AC |x_1", "a (re\u0301d car:1.2),  |\u732B\u72AC x_1",
                                       "a (re\u0301d car:1.2|),  \u732B\u72AC x_1", "a (re\u0301d car:1.|2),  \u732B\u72AC x_1"};
    for (int i = 0; i < 4; i++) {
        field_edit(&f, EDIT_WORD_LEFT, false);
        assert_string_equal(shown(&f), left[i]);
    }
    field_edit(&f, EDIT_HOME, false);
    static const char *const right[] = {"a| (re\u0301d car:1.2),  \u732B\u72AC x_1", "a (|re\u0301d car:1.2),  \u732B\u72AC x_1",
                                        "a (re\u0301d| car:1.2),  \u732B\u72AC x_1", "a (re\u0301d car|:1.2),  \u732B\u72AC x_1"};
    for (int i = 0; i < 4; i++) {
        field_edit(&f, EDIT_WORD_RIGHT, false);
        assert_string_equal(shown(&f), right[i]);
    }
    field_edit(&f, EDIT_WORD_BACKSPACE, false);
    assert_string_equal(shown(&f), "a (re\u0301d |:1.2),  \u732B\u72AC x_1");
    field_edit(&f, EDIT_WORD_DELETE, false);
    field_edit(&f, EDIT_WORD_DELETE, false);
    assert_string_equal(shown(&f), "a (re\u0301d |.2),  \u732B\u72AC x_1");
    field_edit(&f, EDIT_ERASE_END, false);
    assert_string_equal(shown(&f), "a (re\u0301d |");
    field_edit(&f, EDIT_LEFT, false);
    field_edit(&f, EDIT_ERASE_HOME, false);
    assert_string_equal(shown(&f), "| ");
    assert_false(field_edit(&f, EDIT_ERASE_HOME, false));
    field_set(&f, "  ");
    field_edit(&f, EDIT_WORD_LEFT, false);
    assert_string_equal(shown(&f), "|  ");
    field_edit(&f, EDIT_WORD_RIGHT, false);
    assert_string_equal(shown(&f), "  |");

    field_set(&f, "one, two  three");
    static const struct {
        size_t at;
        const char *shown;
    } picks[] = {{0, "^one|, two  three"}, {2, "^one|, two  three"},  {3, "one^,| two  three"},  {5, "one, ^two|  three"},
                 {8, "one, two^  |three"}, {14, "one, two  ^three|"}, {15, "one, two  ^three|"}, {99, "one, two  ^three|"}};
    for (size_t i = 0; i < sizeof picks / sizeof *picks; i++) {
        field_select_word(&f, picks[i].at);
        assert_string_equal(shown(&f), picks[i].shown);
    }
    field_free(&f);
    assert_false(field_select_word(&f, 3));
    field_free(&f);
}

static void selections(void **state)
{
    (void)state;
    field f = with("one two");
    size_t from, to;
    assert_null(field_copy(&f));
    assert_false(field_selection(&f, &from, &to));
    assert_true(field_edit(&f, EDIT_WORD_LEFT, true));
    assert_string_equal(shown(&f), "one |two^");
    assert_true(field_selection(&f, &from, &to));
    assert_true(from == 4 && to == 7);
    field_edit(&f, EDIT_RIGHT, false); /* to the end that it goes to, not beyond */
    assert_string_equal(shown(&f), "one two|");
    field_edit(&f, EDIT_LEFT, true);
    field_edit(&f, EDIT_LEFT, true);
    field_edit(&f, EDIT_RIGHT, true);
    assert_string_equal(shown(&f), "one tw|o^");
    field_edit(&f, EDIT_HOME, true);
    assert_string_equal(shown(&f), "|one two^");
    field_edit(&f, EDIT_LEFT, false);
    assert_string_equal(shown(&f), "|one two");
    field_place(&f, 3, true);
    assert_string_equal(shown(&f), "^one| two");
    char *cut = field_cut(&f);
    assert_string_equal(cut, "one");
    assert_string_equal(shown(&f), "| two");
    free(cut);
    field_edit(&f, EDIT_SELECT_ALL, false);
    char *copied = field_copy(&f);
    assert_string_equal(copied, " two");
    free(copied);
    field_insert(&f, "x");
    assert_string_equal(shown(&f), "x|");
    field_edit(&f, EDIT_UNDO, false);
    assert_string_equal(shown(&f), "^ two|");
    field_edit(&f, EDIT_BACKSPACE, false);
    assert_string_equal(shown(&f), "|");
    field_edit(&f, EDIT_UNDO, false);
    field_edit(&f, EDIT_WORD_DELETE, false); /* a selection goes as a whole, whatever erases */
    assert_string_equal(shown(&f), "|");
    field_free(&f);
}

/* ---- undo -------------------------------------------------------------------------------------------------------------------- */

static void words_are_undone(void **state)
{
    (void)state;
    field f = {.max = 1000};
    type(&f, "a red apple");
    static const char *const back[] = {"a red |", "a |", "|"}, *const forth[] = {"a |", "a red |", "a red apple|"};
    for (int i = 0; i < 3; i++) {
        assert_true(field_edit(&f, EDIT_UNDO, false));
        assert_string_equal(shown(&f), back[i]);
    }
    assert_false(field_edit(&f, EDIT_UNDO, false));
    for (int i = 0; i < 3; i++) {
        assert_true(field_edit(&f, EDIT_REDO, false));
        assert_string_equal(shown(&f), forth[i]);
    }
    assert_false(field_edit(&f, EDIT_REDO, false));
    field_edit(&f, EDIT_BACKSPACE, false);
    field_edit(&f, EDIT_BACKSPACE, false);
    field_edit(&f, EDIT_LEFT, false); /* the caret was moved: another change */
    field_edit(&f, EDIT_DELETE, false);
    field_edit(&f, EDIT_DELETE, false);
    assert_string_equal(shown(&f), "a red ap|");
    field_edit(&f, EDIT_UNDO, false);
    assert_string_equal(shown(&f), "a red ap|p");
    field_edit(&f, EDIT_UNDO, false);
    assert_string_equal(shown(&f), "a red apple|");
    type(&f, "s"); /* what was undone is gone */
    assert_false(field_edit(&f, EDIT_REDO, false));
    field_edit(&f, EDIT_UNDO, false);
    field_insert(&f, " and a pear"); /* pasted: by itself */
    type(&f, "!");
    field_edit(&f, EDIT_UNDO, false);
    assert_string_equal(shown(&f), "a red apple and a pear|");
    field_edit(&f, EDIT_UNDO, false);
    assert_string_equal(shown(&f), "a red apple|");
    const uint64_t version = f.version;
    field_edit(&f, EDIT_HOME, true);
    assert_int_equal(f.version, version);
    field_set(&f, "other");
    assert_true(f.version != version);
    assert_false(field_set(&f, "other"));
    field_edit(&f, EDIT_UNDO, false);
    assert_string_equal(shown(&f), "|a red apple^");
    field_free(&f);
}

static void undo_is_bounded(void **state)
{
    (void)state;
    field f = {.max = 100000};
    for (int i = 0; i < FIELD_UNDO + 50; i++) field_insert(&f, "ab");
    int undone = 0;
    while (field_edit(&f, EDIT_UNDO, false)) undone++;
    assert_int_equal(undone, FIELD_UNDO);
    assert_int_equal(f.length, 100);
    while (field_edit(&f, EDIT_REDO, false)) undone--;
    assert_int_equal(undone, 0);
    assert_int_equal(f.length, 2 * FIELD_UNDO + 100);
    field_free(&f);
}

/* ---- history ----------------------------------------------------------------------------------------------------------------- */

static void history_keeps_the_draft(void **state)
{
    (void)state;
    field f = with("draft");
    assert_false(field_edit(&f, EDIT_HISTORY_BACK, false));
    assert_false(field_edit(&f, EDIT_HISTORY_FORWARD, false));
    static const char *const sent[] = {"one", "two", "two", "", "three"};
    for (int i = 0; i < 5; i++) field_history_add(&f, sent[i]);
    assert_int_equal(f.n_history, 3);
    static const char *const back[] = {"three|", "two|", "one|"}, *const forth[] = {"two|", "three|", "draft|"};
    for (int i = 0; i < 3; i++) {
        assert_true(field_edit(&f, EDIT_HISTORY_BACK, false));
        assert_string_equal(shown(&f), back[i]);
    }
    assert_false(field_edit(&f, EDIT_HISTORY_BACK, false));
    for (int i = 0; i < 3; i++) {
        assert_true(field_edit(&f, EDIT_HISTORY_FORWARD, false));
        assert_string_equal(shown(&f), forth[i]);
    }
    assert_false(field_edit(&f, EDIT_HISTORY_FORWARD, false));

    field_edit(&f, EDIT_HISTORY_BACK, false); /* what is changed on the way is the draft from then on; the history stays */
    field_edit(&f, EDIT_HISTORY_BACK, false);
    type(&f, "!");
    field_edit(&f, EDIT_HISTORY_BACK, false);
    assert_string_equal(shown(&f), "one|");
    field_edit(&f, EDIT_HISTORY_FORWARD, false);
    assert_string_equal(shown(&f), "two|");
    field_edit(&f, EDIT_HISTORY_FORWARD, false);
    field_edit(&f, EDIT_HISTORY_FORWARD, false);
    assert_string_equal(shown(&f), "two!|");
    field_edit(&f, EDIT_UNDO, false);
    assert_string_equal(shown(&f), "three|");

    field_set(&f, "four"); /* sent and still there: the first step back shows another text */
    field_history_add(&f, field_text(&f));
    field_edit(&f, EDIT_HISTORY_BACK, false);
    assert_string_equal(shown(&f), "three|");
    field_edit(&f, EDIT_HISTORY_FORWARD, false);
    assert_string_equal(shown(&f), "four|");
    assert_false(field_edit(&f, EDIT_HISTORY_FORWARD, false));

    for (int i = 0; i < FIELD_HISTORY + 10; i++) {
        char text[20];
        snprintf(text, sizeof text, "text %d\n", i);
        field_history_add(&f, text);
    }
    assert_int_equal(f.n_history, FIELD_HISTORY);
    assert_string_equal(f.history[0], "text 10 ");
    field_free(&f);
}

/* ---- an input method --------------------------------------------------------------------------------------------------------- */

static void compositions(void **state)
{
    (void)state;
    field f = with("ab");
    field_edit(&f, EDIT_LEFT, false);
    const uint64_t version = f.version;
    assert_false(field_compose(&f, "", 0, 0));
    assert_true(field_compose(&f, "\u306B\u307B\u3093", 1, 2));
    assert_string_equal(f.composed, "\u306B\u307B\u3093");
    assert_true(f.composed_length == 9 && f.composed_caret == 3 && f.composed_selected == 6);
    assert_true(field_compose(&f, "\u65E5\n", 99, -1));
    assert_true(f.composed_length == 4 && f.composed_caret == 4 && f.composed_selected == 0);
    assert_string_equal(shown(&f), "a|b");
    assert_int_equal(f.version, version);
    assert_true(field_compose(&f, NULL, 0, 0));
    assert_null(f.composed);
    field_compose(&f, "\u65E5", 1, 0);
    field_insert(&f, "\u65E5\u672C"); /* what the input method sends when it is done */
    assert_null(f.composed);
    assert_string_equal(shown(&f), "a\u65E5\u672C|b");
    assert_false(field_commit(&f));
    field_compose(&f, "x\u0301", 1, 0);
    assert_true(field_commit(&f));
    assert_string_equal(shown(&f), "a\u65E5\u672Cx\u0301|b");
    field_compose(&f, "left", 1, 0);
    assert_true(field_edit(&f, EDIT_END, false));
    assert_null(f.composed);
    assert_false(field_compose(&f, "\x01", 0, 0));
    field_free(&f);
}

/* ---- random edits beside a plain model ------------------------------------------------------------------------------------------ */

static uint64_t random_state = 1;
static unsigned random_below(unsigned n)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)((random_state >> 33) % n);
}

/* Boundaries of all of a text, found in one go. */
typedef struct model {
    char text[4000];
    bool boundary[4001];
    size_t n, caret, anchor;
} model;

static void find_boundaries(model *m)
{
    utf8proc_int32_t last = 0, c, state = 0;
    memset(m->boundary, 0, sizeof m->boundary);
    for (size_t at = 0; at < m->n;) {
        const utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)m->text + at, (utf8proc_ssize_t)(m->n - at), &c);
        assert_true(k > 0); /* valid */
        m->boundary[at] = !at || utf8proc_grapheme_break_stateful(last, c, &state);
        last = c;
        at += (size_t)k;
    }
    m->boundary[m->n] = m->boundary[0] = true;
}

static size_t up(const model *m, size_t at)
{
    while (!m->boundary[at]) at++;
    return at;
}
static size_t down(const model *m, size_t at)
{
    while (!m->boundary[at]) at--;
    return at;
}

static void put(model *m, size_t from, size_t to, const char *text)
{
    char tail[4000];
    strcpy(tail, m->text + to);
    strcpy(m->text + from, text);
    strcat(m->text, tail);
    m->n = strlen(m->text);
    find_boundaries(m);
    m->caret = m->anchor = up(m, from + strlen(text));
}

static void expect(const field *f, const model *m)
{
    assert_int_equal(f->length, strlen(field_text(f)));
    assert_string_equal(field_text(f), m->text);
    assert_int_equal(f->caret, m->caret);
    assert_int_equal(f->anchor, m->anchor);
    assert_true(m->boundary[f->caret] && m->boundary[f->anchor]);
}

static void random_edits(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a",          "B",      " ",      "\u0301", "\u200D", "\U0001F468", "\U0001F1E9",
                                         "\U0001F3FD", "\uFE0F", "\u1112", "\u1161", "\u11AB", "\u0915",     "\u093F",
                                         "\u200B",     ", ",     "\u732B", "word",   FAMILY,   "\u0600",     "e\u0301\u0323"};
    static model m;
    field f = {.max = 600};
    find_boundaries(&m);
    for (int i = 0; i < 40000; i++) {
        if (m.n > 500 || i % 5000 == 4999) {
            field_set(&f, "");
            put(&m, 0, m.n, "");
        }
        const size_t from = m.caret < m.anchor ? m.caret : m.anchor, to = m.caret + m.anchor - from;
        const bool select = random_below(2);
        const size_t back = m.caret ? down(&m, m.caret - 1) : 0, on = m.caret < m.n ? up(&m, m.caret + 1) : m.n;
        const size_t place = random_below((unsigned)m.n + 1);
        const char *piece = pieces[random_below(sizeof pieces / sizeof *pieces)];
        switch (random_below(12)) {
        case 0:
            field_edit(&f, EDIT_LEFT, select);
            m.caret = from < to && !select ? from : back;
            m.anchor = select ? m.anchor : m.caret;
            break;
        case 1:
            field_edit(&f, EDIT_RIGHT, select);
            m.caret = from < to && !select ? to : on;
            m.anchor = select ? m.anchor : m.caret;
            break;
        case 2:
            field_place(&f, place, select);
            m.caret = down(&m, place);
            m.anchor = select ? m.anchor : m.caret;
            break;
        case 3:
            field_edit(&f, EDIT_BACKSPACE, false);
            if (from < to) put(&m, from, to, "");
            else if (m.caret) put(&m, back, m.caret, "");
            break;
        case 4:
            field_edit(&f, EDIT_DELETE, false);
            if (from < to) put(&m, from, to, "");
            else if (m.caret < m.n) put(&m, m.caret, on, "");
            break;
        case 5:
            field_edit(&f, random_below(2) ? EDIT_WORD_LEFT : EDIT_WORD_RIGHT, select); /* where to: words() */
            assert_true(m.boundary[f.caret]);
            m.caret = f.caret;
            m.anchor = select ? m.anchor : m.caret;
            break;
        case 6:
            field_select_word(&f, place);
            assert_true(!m.n || (f.anchor <= down(&m, place) && f.caret >= down(&m, place)));
            m.caret = f.caret, m.anchor = f.anchor;
            break;
        default: field_insert(&f, piece); put(&m, from, to, piece);
        }
        expect(&f, &m);
    }
    field_free(&f);
}

/* Whatever was done: undone to the start it is what it was before, and done again it is what it was at the end. */
static void random_changes_are_undone(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", "b", "c", " ", "\u0301", "\U0001F468", "\u200D", "\U0001F1E9", "pasted text", "\n", "\xff"};
    for (int round = 0; round < 300; round++) {
        field f = {.max = 60};
        char last[100];
        for (unsigned i = 0, n = random_below(FIELD_UNDO); i < n; i++) {
            const unsigned what = random_below(EDIT_HISTORY_FORWARD + 12);
            if (what <= EDIT_HISTORY_FORWARD) field_edit(&f, (edit)what, random_below(2));
            else if (what % 8 == 7) field_history_add(&f, field_text(&f));
            else field_insert(&f, pieces[random_below(sizeof pieces / sizeof *pieces)]);
            model m = {.caret = f.caret, .anchor = f.anchor, .n = f.length};
            strcpy(m.text, field_text(&f));
            find_boundaries(&m);
            expect(&f, &m);
            assert_true(f.length <= f.max);
        }
        while (field_edit(&f, EDIT_REDO, false)) continue;
        strcpy(last, field_text(&f));
        while (field_edit(&f, EDIT_UNDO, false)) continue;
        assert_string_equal(shown(&f), "|");
        while (field_edit(&f, EDIT_REDO, false)) continue;
        assert_string_equal(field_text(&f), last);
        field_free(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_caret_passes_graphemes),
        cmocka_unit_test(what_grows_together_takes_the_caret_along),
        cmocka_unit_test(only_text_comes_in),
        cmocka_unit_test(too_long_is_cut_between_graphemes),
        cmocka_unit_test(words),
        cmocka_unit_test(selections),
        cmocka_unit_test(words_are_undone),
        cmocka_unit_test(undo_is_bounded),
        cmocka_unit_test(history_keeps_the_draft),
        cmocka_unit_test(compositions),
        cmocka_unit_test(random_edits),
        cmocka_unit_test(random_changes_are_undone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
