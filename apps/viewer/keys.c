/* keys.c - every key: one table, from which F1's page comes. Keys with Ctrl and function keys work everywhere, plain ones where no text is written. */
#include "apps/viewer/state.h"
#include <string.h>

/* ---- what keys do -------------------------------------------------------------------------------------------------- */

static void do_draw(view *v, int same)
{
    if (!same && v->running && !v->altered) return; /* Enter twice is no other picture */
    view_draw(v, !same);
}
static void do_seed(view *v, int by)
{
    v->request.seed += (uint64_t)(int64_t)by;
    v->locked = true;
    view_draw(v, false);
}
static void do_reroll(view *v, int unused)
{
    (void)unused;
    bool locked = v->locked;
    v->locked = false;
    view_draw(v, true);
    v->locked = locked;
}
static void do_lock(view *v, int unused)
{
    (void)unused;
    v->locked = !v->locked;
    view_say(v, false, v->locked ? "the seed stays %llu" : "a new seed each time; the last was %llu", (unsigned long long)v->request.seed);
}
static void do_live(view *v, int unused)
{
    (void)unused;
    view_set_live(v, !v->live);
}
static void do_save(view *v, int unused) { (void)unused, view_save(v); }
static void do_copy(view *v, int unused) { (void)unused, view_copy(v); }
static void do_start(view *v, int take)
{
    picture *p = strip_picture(v);
    if (take && !p) view_say(v, false, "there is no picture to start from yet");
    else if (take || v->start) view_take_start(v, take ? p : NULL);
}
static void do_choose(view *v, int by) { strip_choose(v, v->strip.chosen + by); }
static void do_mark(view *v, int unused)
{
    (void)unused;
    if (!v->strip.n) return;
    v->strip.marked = v->strip.marked == v->strip.chosen ? -1 : v->strip.chosen;
}
static void do_remove(view *v, int unused) { (void)unused, strip_remove(v, v->strip.chosen); }
static void do_recall(view *v, int unused) /* the chosen picture's own settings */
{
    (void)unused;
    const picture *p = strip_picture(v);
    diffc_error e = {0};
    recipe *r = p && p->kept.result.parameters ? SDL_calloc(1, sizeof *r) : NULL;
    if (!r) return;
    SDL_AtomicSet(&r->holders, 1);
    const char *text = p->kept.result.parameters;
    if (diffc_replay_memory(&r->replay, "this picture", text, strlen(text), &e)) view_say_error(v, &e);
    else view_take_recipe(v, r);
    recipe_drop(r);
}
static void do_zoom(view *v, int by)
{
    const SDL_Rect *at = &v->canvas_at;
    canvas_zoom(v, by > 0 ? 1.25 : 0.8, at->x + at->w / 2, at->y + at->h / 2);
}
static void do_fit(view *v, int zoom) { canvas_fit(v, zoom); }
static void do_pan_x(view *v, int by) { canvas_pan(v, px(&v->d, 40.0f) * by, 0); }
static void do_pan_y(view *v, int by) { canvas_pan(v, 0, px(&v->d, 40.0f) * by); }
static void do_full_screen(view *v, int unused)
{
    (void)unused;
    v->full_screen = !v->full_screen;
    SDL_SetWindowFullscreen(v->window, v->full_screen ? SDL_WINDOW_FULLSCREEN_DESKTOP : 0);
    view_layout(v);
}
static void do_theme(view *v, int unused)
{
    (void)unused;
    diffc_error e = {0};
    v->d.light = !v->d.light;
    draw_rescale(&v->d, v->d.scale, &e); /* texts are kept in their colours */
}
static void do_size(view *v, int by)
{
    diffc_error e = {0};
    draw_rescale(&v->d, SDL_clamp(v->d.scale * (by > 0 ? 1.1f : 1 / 1.1f), 0.5f, 4.0f), &e);
    view_layout(v);
}
static void do_preview(view *v, int unused)
{
    (void)unused;
    int n, k = 0;
    const char *const *kinds = diffc_preview_names(&n);
    for (int i = 0; i < n; i++)
        if (v->request.preview && !strcmp(kinds[i], v->request.preview)) k = i;
    v->request.preview = kinds[(k + 1) % n];
    view_say(v, false, "preview: %s, from the next run on", v->request.preview);
}
static void do_open(view *v, int unused)
{
    (void)unused;
    v->cover = COVER_OPEN;
    v->path.max = 511;
    field_edit(&v->path, EDIT_SELECT_ALL, false);
}
static void do_find(view *v, int unused) { (void)unused, pane_open(v); }
static void do_keys(view *v, int unused) { (void)unused, v->cover = COVER_KEYS; }
static void do_quit(view *v, int unused) { (void)unused, v->quit = true; }
static void do_focus(view *v, int by)
{
    int n = FOCUS_ROWS + rows_count(v);
    view_focus(v, (v->focus + by + n) % n);
}
static void do_escape(view *v, int unused)
{
    (void)unused;
    if (v->running) view_cancel(v);
    else if (v->message_bad) *v->message = 0, v->message_bad = false;
    else if (v->full_screen) do_full_screen(v, 0);
    else if (v->watched) v->quit = true;
    else view_focus(v, FOCUS_PICTURE);
}

/* ---- the table -------------------------------------------------------------------------------------------------------- */

typedef enum where { ANYWHERE, PICTURE, WATCHING } where; /* WATCHING: also anywhere, and while a run of txt2img is watched, too */
enum { CONTROL = 1, SHIFT = 2 };
static const struct {
    SDL_Keycode key;
    int held;
    where where;
    void (*act)(view *v, int x);
    int x;
    const char *shown, *says; /* shown NULL: another key for the row above */
} keys[] = {
    {SDLK_RETURN, 0, ANYWHERE, do_draw, 0, "Enter", "draw"},
    {SDLK_KP_ENTER, 0, ANYWHERE, do_draw, 0, NULL, NULL},
    {SDLK_RETURN, SHIFT, ANYWHERE, do_draw, 1, "Shift+Enter", "draw anew with the same seed"},
    {SDLK_ESCAPE, 0, WATCHING, do_escape, 0, "Esc", "stop drawing; leave a text, a page, full screen"},
    {SDLK_r, CONTROL, ANYWHERE, do_reroll, 0, "Ctrl+R, R", "draw with a new seed"},
    {SDLK_r, 0, PICTURE, do_reroll, 0, NULL, NULL},
    {SDLK_PLUS, 0, PICTURE, do_seed, 1, "+, -", "draw with the next seed, the one before"},
    {SDLK_EQUALS, 0, PICTURE, do_seed, 1, NULL, NULL},
    {SDLK_KP_PLUS, 0, PICTURE, do_seed, 1, NULL, NULL},
    {SDLK_MINUS, 0, PICTURE, do_seed, -1, NULL, NULL},
    {SDLK_KP_MINUS, 0, PICTURE, do_seed, -1, NULL, NULL},
    {SDLK_l, CONTROL, ANYWHERE, do_lock, 0, "Ctrl+L, L", "keep the seed, or not"},
    {SDLK_l, 0, PICTURE, do_lock, 0, NULL, NULL},
    {SDLK_F2, 0, ANYWHERE, do_live, 0, "F2", "live: draw while I type"},
    {SDLK_s, CONTROL, ANYWHERE, do_save, 0, "Ctrl+S, S", "save the picture, with how it was made"},
    {SDLK_s, 0, PICTURE, do_save, 0, NULL, NULL},
    {SDLK_c, CONTROL | SHIFT, ANYWHERE, do_copy, 0, "C, Ctrl+Shift+C", "copy the picture"},
    {SDLK_c, 0, PICTURE, do_copy, 0, NULL, NULL},
    {SDLK_c, CONTROL, PICTURE, do_copy, 0, NULL, NULL},
    {SDLK_o, CONTROL, ANYWHERE, do_open, 0, "Ctrl+O", "open a picture: its settings, or to start from it (or drop one here)"},
    {SDLK_i, CONTROL, ANYWHERE, do_start, 1, "Ctrl+I, I", "start from this picture"},
    {SDLK_i, 0, PICTURE, do_start, 1, NULL, NULL},
    {SDLK_u, 0, PICTURE, do_start, 0, "U", "start from noise again"},
    {SDLK_F3, 0, ANYWHERE, do_find, 0, "F3, Ctrl+F", "search pictures of an index"},
    {SDLK_f, CONTROL, ANYWHERE, do_find, 0, NULL, NULL},
    {SDLK_F4, 0, ANYWHERE, do_preview, 0, "F4", "preview: none, proj, tae, vae"},
    {SDLK_LEFT, 0, PICTURE, do_choose, -1, "Left, Right", "the picture before, the next (also PgUp, PgDn)"},
    {SDLK_RIGHT, 0, PICTURE, do_choose, 1, NULL, NULL},
    {SDLK_PAGEUP, 0, WATCHING, do_choose, -1, NULL, NULL},
    {SDLK_PAGEDOWN, 0, WATCHING, do_choose, 1, NULL, NULL},
    {SDLK_HOME, 0, PICTURE, do_choose, -1000000, "Home, End", "the first picture, the last"},
    {SDLK_END, 0, PICTURE, do_choose, 1000000, NULL, NULL},
    {SDLK_SPACE, 0, PICTURE, NULL, 0, "Space (held)", "compare with the marked picture, or the one before"},
    {SDLK_m, 0, PICTURE, do_mark, 0, "M", "mark this picture to compare with"},
    {SDLK_RETURN, CONTROL, ANYWHERE, do_recall, 0, "Ctrl+Enter", "take this picture's settings back"},
    {SDLK_DELETE, 0, PICTURE, do_remove, 0, "Delete", "take the picture off the strip (a saved file stays)"},
    {SDLK_UP, SHIFT, PICTURE, do_pan_y, 1, "Shift+arrows", "move the picture (or drag it)"},
    {SDLK_DOWN, SHIFT, PICTURE, do_pan_y, -1, NULL, NULL},
    {SDLK_LEFT, SHIFT, PICTURE, do_pan_x, 1, NULL, NULL},
    {SDLK_RIGHT, SHIFT, PICTURE, do_pan_x, -1, NULL, NULL},
    {SDLK_EQUALS, CONTROL, WATCHING, do_zoom, 1, "Ctrl++, Ctrl+-, wheel", "zoom"},
    {SDLK_PLUS, CONTROL, WATCHING, do_zoom, 1, NULL, NULL},
    {SDLK_KP_PLUS, CONTROL, WATCHING, do_zoom, 1, NULL, NULL},
    {SDLK_MINUS, CONTROL, WATCHING, do_zoom, -1, NULL, NULL},
    {SDLK_KP_MINUS, CONTROL, WATCHING, do_zoom, -1, NULL, NULL},
    {SDLK_0, CONTROL, WATCHING, do_fit, 0, "Ctrl+0, Ctrl+1", "as large as fits; a pixel a pixel"},
    {SDLK_1, CONTROL, WATCHING, do_fit, 1, NULL, NULL},
    {SDLK_F11, 0, WATCHING, do_full_screen, 0, "F11, F", "full screen: the picture alone"},
    {SDLK_f, 0, PICTURE, do_full_screen, 0, NULL, NULL},
    {SDLK_t, CONTROL, WATCHING, do_theme, 0, "Ctrl+T", "dark, light"},
    {SDLK_F9, 0, WATCHING, do_size, -1, "F9, F10", "everything smaller, larger"},
    {SDLK_F10, 0, WATCHING, do_size, 1, NULL, NULL},
    {SDLK_TAB, 0, ANYWHERE, do_focus, 1, "Tab, Shift+Tab", "go on to the next field, back"},
    {SDLK_TAB, SHIFT, ANYWHERE, do_focus, -1, NULL, NULL},
    {SDLK_F1, 0, WATCHING, do_keys, 0, "F1", "this page"},
    {SDLK_q, CONTROL, WATCHING, do_quit, 0, "Ctrl+Q", "close the window"},
};

/* In a text: Up and Down walk through earlier prompts. Of the settings. */
static const char *const more[][2] = {
    {"Up, Down", "in a prompt: its lines, then earlier prompts"},
    {"Ctrl+A, X, C, V, Z, Y", "in a text: all, cut, copy, paste, undo, redo"},
    {"Left, Right, digits", "on a setting: change it, type it; Space opens its list"},
};

bool keys_down(view *v, const SDL_KeyboardEvent *e)
{
    int held = (e->keysym.mod & KMOD_CTRL ? CONTROL : 0) | (e->keysym.mod & KMOD_SHIFT ? SHIFT : 0);
    bool plain = v->focus == FOCUS_PICTURE || v->watched;
    for (size_t i = 0; i < SDL_arraysize(keys); i++) {
        bool shifted_sign = keys[i].held == 0 && held == SHIFT && keys[i].key == e->keysym.sym && strchr("+=-", (int)(e->keysym.sym & 0x7f));
        if (keys[i].key != e->keysym.sym || (keys[i].held != held && !shifted_sign)) continue;
        if (keys[i].where == PICTURE && !plain) continue;
        if (keys[i].where == ANYWHERE && v->watched) continue;
        if (!keys[i].act) {
            v->canvas.held = true; /* Space */
        } else if (!e->repeat || keys[i].act == do_choose || keys[i].act == do_pan_x || keys[i].act == do_pan_y || keys[i].act == do_zoom ||
                   keys[i].act == do_focus)
            keys[i].act(v, keys[i].x);
        return v->dirty = true;
    }
    return false;
}

void keys_up(view *v, const SDL_KeyboardEvent *e)
{
    if (e->keysym.sym != SDLK_SPACE || !v->canvas.held) return;
    v->canvas.held = false;
    v->dirty = true;
}

/* ---- F1 ------------------------------------------------------------------------------------------------------------------ */

static int draw_key(view *v, int x, int y, int w, const char *shown, const char *says)
{
    draw *d = &v->d;
    int keyed = px(d, 190);
    text_print(d, LETTER_NORMAL, INK_ACCENT, x, y, keyed - px(d, 8), "%s", shown);
    text_print(d, LETTER_NORMAL, INK_TEXT, x + keyed, y, w - keyed, "%s", says);
    return y + text_height(d, LETTER_NORMAL) + px(d, 3);
}

void keys_draw(view *v)
{
    draw *d = &v->d;
    int w, h, rows = 0, k = 0;
    SDL_GetRendererOutputSize(d->renderer, &w, &h);
    for (size_t i = 0; i < SDL_arraysize(keys); i++) rows += keys[i].shown != NULL;
    rows += (int)SDL_arraysize(more);
    const int margin = px(d, 24), line = text_height(d, LETTER_NORMAL) + px(d, 3), top = margin * 2 + text_height(d, LETTER_LARGE);
    const int columns = rows * line > h - top - margin ? 2 : 1, each = (rows + columns - 1) / columns;
    const SDL_Rect page = {0, 0, w, h};
    const int width = (page.w - margin) / columns;
    draw_fill(d, page, INK_PANEL);
    draw_frame(d, page, INK_ACCENT, px(d, 1));
    text_print(d, LETTER_LARGE, INK_TEXT, page.x + margin / 2, page.y + margin / 2, width, "Keys");
    int y = top;
    for (size_t i = 0; i < SDL_arraysize(keys) + SDL_arraysize(more); i++) {
        bool other = i >= SDL_arraysize(keys);
        const char *shown = other ? more[i - SDL_arraysize(keys)][0] : keys[i].shown;
        if (!shown) continue;
        if (k && k % each == 0) y = top;
        y = draw_key(v, page.x + margin / 2 + k / each * width, y, width - margin / 2, shown,
                     other ? more[i - SDL_arraysize(keys)][1] : keys[i].says);
        k++;
    }
}
