/* field.h - a line of text that is edited: caret, selection, an input method's composition, undo, history. Without a window.
 *
 * Text is strict UTF-8 of one line. What a caret passes, and a backspace takes, is a grapheme as utf8proc has them (Unicode Standard Annex 29): a
 * letter with its accents, a flag, a family. Zero-initialise a field and set `max`; read its members, change it by the functions below. They return
 * whether there is something to draw anew; where memory is out, the field stays as it is, and they say false. */
#ifndef DC_VIEWER_FIELD_H
#define DC_VIEWER_FIELD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FIELD_UNDO = 200, FIELD_HISTORY = 200 }; /* changes, and texts, that are remembered */

/* `bytes`: those that were taken away, then those that came in their place, at `at`; caret and anchor as they were before. */
typedef struct field_change {
    size_t at, removed, inserted, caret, anchor;
    char *bytes;
} field_change;

typedef struct field {
    size_t max;           /* bytes the text may have, without the 0 at its end */
    char *text;           /* NULL before anything was in it: field_text */
    size_t length, room;  /* bytes */
    size_t caret, anchor; /* bytes, on boundaries of graphemes; what is between them is selected */
    uint64_t version;     /* another one after each change of the text */

    char *composed;                                            /* shown at the caret, not part of the text; NULL: none */
    size_t composed_length, composed_caret, composed_selected; /* bytes: all, before its caret, selected behind that */

    field_change change[FIELD_UNDO];
    int n_changes, n_done; /* those behind n_done are undone */
    int open;              /* kind of the last change, while the next may join it; 0: closed */

    char *history[FIELD_HISTORY];
    int n_history, at_history; /* n_history: the draft */
    char *draft;
} field;

/* What a key does. The first six move the caret; the others take no notice of `select`. */
typedef enum edit {
    EDIT_LEFT,
    EDIT_RIGHT,
    EDIT_WORD_LEFT,
    EDIT_WORD_RIGHT,
    EDIT_HOME,
    EDIT_END,
    EDIT_BACKSPACE,
    EDIT_DELETE,
    EDIT_WORD_BACKSPACE,
    EDIT_WORD_DELETE,
    EDIT_ERASE_HOME,
    EDIT_ERASE_END,
    EDIT_SELECT_ALL,
    EDIT_UNDO,
    EDIT_REDO,
    EDIT_HISTORY_BACK,
    EDIT_HISTORY_FORWARD
} edit;

void field_free(field *f); /* also resets it to the zero state */
const char *field_text(const field *f);
/* What is selected, as bytes; false: nothing (*from and *to are the caret). */
bool field_selection(const field *f, size_t *from, size_t *to);
/* The boundary behind `at`, which is one: for walking over the graphemes. */
size_t field_next(const field *f, size_t at);

/* Does what a key means. select: the anchor stays where it is. */
bool field_edit(field *f, edit what, bool select);
/* In the selection's place. Line ends and tabs become blanks; other control characters and bytes that are no UTF-8 are dropped; what is too long is cut
 * between two graphemes. Single graphemes that follow each other are undone as words. It ends a composition. */
bool field_insert(field *f, const char *text);
/* All of the text; can be undone. */
bool field_set(field *f, const char *text);
/* The caret to a place in the text, or to the start of the grapheme that it is in. */
bool field_place(field *f, size_t at, bool select);
/* The run of letters, of signs or of blanks that `at` is in. */
bool field_select_word(field *f, size_t at);
/* What is selected, for the caller to free; NULL: nothing, or memory is out. Cutting takes it out of the text. */
char *field_copy(const field *f);
char *field_cut(field *f);

/* What an input method has so far, "" or NULL to end it; its caret and selection in characters (code points), as SDL tells them. */
bool field_compose(field *f, const char *text, int caret, int selected);
/* The composition becomes text, as when the field is left. */
bool field_commit(field *f);

/* Remembers a text that was sent off: not "" and not the last one again. The oldest goes when there are too many. EDIT_HISTORY_BACK and FORWARD walk over
 * them; what is left behind and is none of them is the draft, at the end of the walk. */
void field_history_add(field *f, const char *text);

#endif
