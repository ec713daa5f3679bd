/* textbox.c - text fields on the screen: lines broken at blanks, caret, selection, an input method's composition. */
#include "apps/viewer/state.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_LINES = 400 };

/* A field as it is shown: its text with the composition at the caret, in lines. */
typedef struct shown {
    char *s;
    size_t n, caret, from, to; /* from..to: selected */
    size_t composed, composed_end;
    size_t line[MOST_LINES + 1]; /* where each begins; then the end */
    int lines, top;              /* top: the first one shown */
} shown;

static SDL_Rect inner(const view *v, SDL_Rect at)
{
    const int x = px(&v->d, 8), y = px(&v->d, 6);
    return (SDL_Rect){at.x + x, at.y + y, at.w - 2 * x, at.h - 2 * y};
}

static int line_of(const shown *s, size_t at)
{
    int k = 0;
    while (k + 1 < s->lines && s->line[k + 1] <= at) k++;
    return k;
}

static void break_lines(view *v, shown *s, int width)
{
    size_t at = 0;
    s->lines = 0;
    do {
        s->line[s->lines++] = at;
        size_t k = text_fit(&v->d, LETTER_NORMAL, s->s + at, s->n - at, width);
        if (at + k < s->n) { /* behind the last blank, if there is one */
            size_t blank = k;
            while (blank && s->s[at + blank - 1] != ' ') blank--;
            if (blank) k = blank;
            while (at + k < s->n && s->s[at + k] == ' ') k++; /* blanks hang over the edge */
            if (!k) k = 1;
            while (at + k < s->n && ((uint8_t)s->s[at + k] & 0xc0) == 0x80) k++;
        }
        at += k;
    } while (at < s->n && s->lines < MOST_LINES);
    s->line[s->lines] = s->n;
}

/* False when memory is out; free s->s. */
static bool show(view *v, SDL_Rect at, const field *f, shown *s)
{
    const char *text = field_text(f);
    const SDL_Rect in = inner(v, at);
    *s = (shown){.n = f->length + f->composed_length, .s = malloc(f->length + f->composed_length + 1)};
    if (!s->s) return false;
    memcpy(s->s, text, f->caret);
    if (f->composed) memcpy(s->s + f->caret, f->composed, f->composed_length);
    memcpy(s->s + f->caret + f->composed_length, text + f->caret, f->length - f->caret);
    s->s[s->n] = 0;
    s->caret = f->caret + (f->composed ? f->composed_caret : 0);
    s->composed = f->caret;
    s->composed_end = f->caret + f->composed_length;
    if (!field_selection(f, &s->from, &s->to) || f->composed) s->from = s->to = 0;
    break_lines(v, s, in.w);
    int rows = in.h / text_height(&v->d, LETTER_NORMAL), caret = line_of(s, s->caret);
    if (rows < 1) rows = 1;
    s->top = caret < rows ? 0 : caret - rows + 1;
    return true;
}

static int x_of(view *v, const shown *s, int line, size_t at) { return text_width(&v->d, LETTER_NORMAL, s->s + s->line[line], at - s->line[line]); }

/* What of from..to is in the line, as a bar from y to y + h. */
static void mark(view *v, const shown *s, int line, size_t from, size_t to, SDL_Rect at, ink i)
{
    size_t a = from > s->line[line] ? from : s->line[line], b = to < s->line[line + 1] ? to : s->line[line + 1];
    if (a >= b) return;
    int x = x_of(v, s, line, a);
    draw_fill(&v->d, (SDL_Rect){at.x + x, at.y, x_of(v, s, line, b) - x, at.h}, i);
}

void textbox_draw(view *v, SDL_Rect at, const field *f, bool focus, const char *when_empty)
{
    draw *d = &v->d;
    shown s;
    const SDL_Rect in = inner(v, at);
    const int h = text_height(d, LETTER_NORMAL);
    draw_fill(d, at, INK_FIELD);
    draw_frame(d, at, focus ? INK_ACCENT : INK_LINE, px(d, focus ? 2 : 1));
    if (!show(v, at, f, &s)) return;
    draw_clip(d, &at);
    if (!s.n) text_draw(d, LETTER_NORMAL, INK_DIM, in.x, in.y, in.w, when_empty, strlen(when_empty));
    for (int k = s.top; k < s.lines && in.y + (k - s.top) * h < in.y + in.h; k++) {
        const SDL_Rect row = {in.x, in.y + (k - s.top) * h, in.w, h}, below = {in.x, row.y + h - px(d, 2), in.w, px(d, 1)};
        mark(v, &s, k, s.from, s.to, row, INK_SELECT);
        text_draw(d, LETTER_NORMAL, INK_TEXT, row.x, row.y, 0, s.s + s.line[k], s.line[k + 1] - s.line[k]);
        mark(v, &s, k, s.composed, s.composed_end, below, INK_ACCENT);
    }
    int line = line_of(&s, s.caret);
    const SDL_Rect caret = {in.x + x_of(v, &s, line, s.caret), in.y + (line - s.top) * h, px(d, 2), h};
    if (focus) {
        draw_fill(d, caret, INK_ACCENT);
        SDL_SetTextInputRect(&caret); /* where an input method shows its choices; in window units, which are pixels but for scaled desktops */
    }
    draw_clip(d, NULL);
    free(s.s);
}

size_t textbox_at(view *v, SDL_Rect at, const field *f, int x, int y)
{
    shown s;
    const SDL_Rect in = inner(v, at);
    if (f->composed || !show(v, at, f, &s)) return f->caret;
    int k = s.top + (y - in.y) / text_height(&v->d, LETTER_NORMAL);
    k = k < 0 ? 0 : k >= s.lines ? s.lines - 1 : k;
    size_t n = s.line[k + 1] - s.line[k], place = text_at(&v->d, LETTER_NORMAL, s.s + s.line[k], n, x - in.x);
    if (place == n && k + 1 < s.lines && place) place--; /* the line's end, not the next one's beginning */
    place += s.line[k];
    free(s.s);
    return place;
}

bool textbox_line(view *v, SDL_Rect at, field *f, int by, bool select)
{
    shown s;
    if (f->composed || !show(v, at, f, &s)) return false;
    int k = line_of(&s, s.caret), to = k + by;
    bool there = to >= 0 && to < s.lines;
    size_t place = 0;
    if (there) {
        size_t n = s.line[to + 1] - s.line[to];
        place = text_at(&v->d, LETTER_NORMAL, s.s + s.line[to], n, x_of(v, &s, k, s.caret));
        if (place == n && to + 1 < s.lines && place) place--;
        place += s.line[to];
    }
    free(s.s);
    return there && field_place(f, place, select);
}

/* ---- keys --------------------------------------------------------------------------------------------------------- */

static const struct {
    SDL_Keycode key;
    bool control;
    edit what;
} edits[] = {
    {SDLK_LEFT, false, EDIT_LEFT},
    {SDLK_RIGHT, false, EDIT_RIGHT},
    {SDLK_LEFT, true, EDIT_WORD_LEFT},
    {SDLK_RIGHT, true, EDIT_WORD_RIGHT},
    {SDLK_HOME, false, EDIT_HOME},
    {SDLK_END, false, EDIT_END},
    {SDLK_HOME, true, EDIT_HOME},
    {SDLK_END, true, EDIT_END},
    {SDLK_BACKSPACE, false, EDIT_BACKSPACE},
    {SDLK_DELETE, false, EDIT_DELETE},
    {SDLK_BACKSPACE, true, EDIT_WORD_BACKSPACE},
    {SDLK_DELETE, true, EDIT_WORD_DELETE},
    {SDLK_w, true, EDIT_WORD_BACKSPACE},
    {SDLK_u, true, EDIT_ERASE_HOME},
    {SDLK_k, true, EDIT_ERASE_END},
    {SDLK_a, true, EDIT_SELECT_ALL},
    {SDLK_z, true, EDIT_UNDO},
    {SDLK_y, true, EDIT_REDO},
    {SDLK_UP, true, EDIT_HISTORY_BACK},
    {SDLK_DOWN, true, EDIT_HISTORY_FORWARD},
};

static bool clipboard_key(field *f, SDL_Keycode key)
{
    char *text = key == SDLK_v ? SDL_GetClipboardText() : key == SDLK_x ? field_cut(f) : field_copy(f);
    if (text && key == SDLK_v) field_insert(f, text);
    else if (text) SDL_SetClipboardText(text);
    if (key == SDLK_v) SDL_free(text);
    else free(text);
    return true;
}

bool textbox_key(view *v, SDL_Rect at, field *f, SDL_Keysym k)
{
    bool control = (k.mod & KMOD_CTRL) != 0, shift = (k.mod & KMOD_SHIFT) != 0;
    if (k.mod & (KMOD_ALT | KMOD_GUI)) return false;
    if (f->composed && !control) return true; /* the input method's */
    if (control && (k.sym == SDLK_c || k.sym == SDLK_x || k.sym == SDLK_v)) return clipboard_key(f, k.sym);
    if (shift && k.sym == SDLK_INSERT) return clipboard_key(f, SDLK_v);
    if (control && shift && k.sym == SDLK_z) return field_edit(f, EDIT_REDO, false), true;
    for (size_t i = 0; i < SDL_arraysize(edits); i++)
        if (edits[i].key == k.sym && edits[i].control == control) return field_edit(f, edits[i].what, shift), true;
    if (control || (k.sym != SDLK_UP && k.sym != SDLK_DOWN)) return false;
    int by = k.sym == SDLK_UP ? -1 : 1; /* through the lines, then through the history */
    if (!textbox_line(v, at, f, by, shift) && !shift) field_edit(f, by < 0 ? EDIT_HISTORY_BACK : EDIT_HISTORY_FORWARD, false);
    return true;
}
