/* rows.c - the settings: a table of rows, each a number, a choice or a switch. */
#include "apps/viewer/state.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum row_kind { ROW_INT, ROW_REAL, ROW_SEED, ROW_CHOICE, ROW_SWITCH } row_kind;

typedef struct row {
    const char *name;
    row_kind kind;
    size_t offset;                       /* in view */
    double least, most, step;            /* of the slider and arrows */
    double typed_least, typed_most;      /* of what may be typed */
    const char *const *(*words)(int *n); /* of a choice, the first of which is NULL's */
    bool (*shown)(const view *v);        /* NULL: always */
    void (*changed)(view *v);
} row;

static const char *const *with_model(const char *const *names, int n, const char *first, const char **room, int most)
{
    room[0] = first;
    for (int i = 0; i < n && i + 1 < most; i++) room[i + 1] = names[i];
    return room;
}

enum { MOST_WORDS = 128 };
static const char *const *samplers(int *n)
{
    static const char *room[MOST_WORDS]; /* the window's thread alone fills and reads it */
    const char *const *names = diffc_sampler_names(n);
    *n = SDL_min(*n + 1, MOST_WORDS);
    return with_model(names, *n - 1, "the model's", room, MOST_WORDS);
}
static const char *const *schedules(int *n) { return diffc_schedule_names(n); } /* the first is "model" */

static bool has_start(const view *v) { return v->start != NULL; }
static bool has_preview(const view *v) { return v->request.preview && strcmp(v->request.preview, "none") != 0; }
static void live_changed(view *v) { view_set_live(v, v->live); }
static void seed_changed(view *v) { v->locked = true; }

#define AT(member) offsetof(view, member)
static const row rows[] = {
    {"Steps", ROW_INT, AT(request.steps), 1, 60, 1, 1, 1000, NULL, NULL, NULL},
    {"Guidance", ROW_REAL, AT(request.guidance), 0, 20, 0.5, 0, 100, NULL, NULL, NULL},
    {"Seed", ROW_SEED, AT(request.seed), 0, 0, 1, 0, 0, NULL, NULL, seed_changed},
    {"Keep the seed", ROW_SWITCH, AT(locked), 0, 0, 0, 0, 0, NULL, NULL, NULL},
    {"Sampler", ROW_CHOICE, AT(request.sampler), 0, 0, 0, 0, 0, samplers, NULL, NULL},
    {"Schedule", ROW_CHOICE, AT(request.schedule), 0, 0, 0, 0, 0, schedules, NULL, NULL},
    {"Width", ROW_INT, AT(request.width), 64, 1024, 64, 8, 4096, NULL, NULL, NULL},
    {"Height", ROW_INT, AT(request.height), 64, 1024, 64, 8, 4096, NULL, NULL, NULL},
    {"Pictures", ROW_INT, AT(request.count), 1, 16, 1, 1, 1000, NULL, NULL, NULL},
    {"Strength", ROW_REAL, AT(request.strength), 0.05, 1, 0.05, 0.01, 1, NULL, has_start, NULL},
    {"Preview", ROW_CHOICE, AT(request.preview), 0, 0, 0, 0, 0, diffc_preview_names, NULL, NULL},
    {"Preview every (0: as time allows)", ROW_INT, AT(request.preview_interval), 0, 10, 1, 0, 1000, NULL, has_preview, NULL},
    {"Live: draw as I type", ROW_SWITCH, AT(live), 0, 0, 0, 0, 0, NULL, NULL, live_changed},
};
enum { ROWS = (int)SDL_arraysize(rows) };

/* The k-th row that is shown; NULL: there is none. */
static const row *shown_row(const view *v, int k)
{
    for (int i = 0; i < ROWS; i++)
        if ((!rows[i].shown || rows[i].shown(v)) && k-- == 0) return &rows[i];
    return NULL;
}
static const row *focused(const view *v) { return v->focus < FOCUS_ROWS ? NULL : shown_row(v, v->focus - FOCUS_ROWS); }

int rows_count(const view *v)
{
    int n = 0;
    for (int i = 0; i < ROWS; i++) n += !rows[i].shown || rows[i].shown(v);
    return n;
}

static void *place(view *v, const row *r) { return (char *)v + r->offset; }

/* ---- values ------------------------------------------------------------------------------------------------------ */

static double number_of(view *v, const row *r)
{
    if (r->kind == ROW_INT) return *(int *)place(v, r);
    return r->kind == ROW_REAL ? *(double *)place(v, r) : 0;
}

static int choice_of(view *v, const row *r)
{
    int n;
    const char *const *words = r->words(&n), *value = *(const char **)place(v, r);
    for (int i = 1; value && i < n; i++)
        if (!strcmp(words[i], value)) return i;
    return 0;
}

static void print_value(view *v, const row *r, char *out, size_t size)
{
    int n;
    if (r->kind == ROW_INT) snprintf(out, size, "%d", *(int *)place(v, r));
    if (r->kind == ROW_REAL) snprintf(out, size, "%.4g", number_of(v, r));
    if (r->kind == ROW_SEED) snprintf(out, size, "%llu", (unsigned long long)*(uint64_t *)place(v, r));
    if (r->kind == ROW_SWITCH) snprintf(out, size, "%s", *(bool *)place(v, r) ? "on" : "off");
    if (r->kind == ROW_CHOICE) {
        const char *value = *(const char **)place(v, r), *const *words = r->words(&n);
        int k = choice_of(v, r);
        snprintf(out, size, "%s", k == 0 && value && strcmp(value, words[0]) != 0 ? value : words[k]);
    }
}

static void changed(view *v, const row *r)
{
    v->dirty = true;
    if (r->changed) r->changed(v);
    view_changed(v);
}

static void set_number(view *v, const row *r, double x)
{
    if (number_of(v, r) == x) return;
    if (r->kind == ROW_INT) *(int *)place(v, r) = (int)lround(x);
    else *(double *)place(v, r) = x;
    changed(v, r);
}

static void set_choice(view *v, const row *r, int k)
{
    int n;
    const char *const *words = r->words(&n);
    if (k < 0 || k >= n || k == choice_of(v, r)) return;
    *(const char **)place(v, r) = k ? words[k] : NULL;
    changed(v, r);
}

/* An arrow key, or the wheel: by so many steps. */
static void step_value(view *v, const row *r, int by)
{
    if (r->kind == ROW_SEED) {
        *(uint64_t *)place(v, r) += (uint64_t)(int64_t)by;
        changed(v, r);
    } else if (r->kind == ROW_SWITCH) {
        if (*(bool *)place(v, r) == (by > 0)) return;
        *(bool *)place(v, r) = by > 0;
        changed(v, r);
    } else if (r->kind == ROW_CHOICE) set_choice(v, r, choice_of(v, r) + by);
    else { /* to the next multiple of the step */
        double x = number_of(v, r), to = by > 0 ? floor(x / r->step + 1e-9) * r->step : ceil(x / r->step - 1e-9) * r->step;
        to += by * r->step;
        set_number(v, r, SDL_clamp(to, SDL_min(r->least, x), SDL_max(r->most, x)));
    }
}

/* ---- typed numbers -------------------------------------------------------------------------------------------------- */

bool rows_text(view *v, const char *text)
{
    const row *r = focused(v);
    if (!r || (r->kind != ROW_INT && r->kind != ROW_REAL && r->kind != ROW_SEED) || !strchr("0123456789.", *text)) return false;
    if (!v->typing) {
        field_free(&v->entry);
        v->entry.max = 24;
    }
    v->typing = true;
    field_insert(&v->entry, text);
    return v->dirty = true;
}

static void take_typed(view *v)
{
    const row *r = focused(v);
    const char *text = field_text(&v->entry);
    char *end;
    v->typing = false;
    v->dirty = true;
    errno = 0;
    double x = strtod(text, &end);
    bool good = r && end != text && !*end && !errno;
    if (good && r->kind == ROW_SEED) {
        errno = 0;
        uint64_t seed = strtoull(text, &end, 10);
        if ((good = !*end && !errno)) *(uint64_t *)place(v, r) = seed;
        if (good) changed(v, r);
    } else if (good && (good = x >= r->typed_least && x <= r->typed_most && (r->kind == ROW_REAL || x == floor(x)))) set_number(v, r, x);
    if (good || !r) return;
    if (r->kind == ROW_SEED) view_say(v, true, "%s: found \"%s\", expected a whole number below 2^64", r->name, text);
    else
        view_say(v, true, "%s: found \"%s\", expected a%s number from %g to %g", r->name, text, r->kind == ROW_INT ? " whole" : "", r->typed_least,
                 r->typed_most);
}

/* ---- drawing ----------------------------------------------------------------------------------------------------------- */

static int row_height(const view *v) { return px(&v->d, 34); }

static SDL_Rect row_at(const view *v, int k)
{
    return (SDL_Rect){v->rows_at.x, v->rows_at.y + k * row_height(v) - v->row_scroll, v->rows_at.w, row_height(v)};
}

static SDL_Rect track_of(const view *v, SDL_Rect at)
{
    return (SDL_Rect){at.x + px(&v->d, 8), at.y + at.h - px(&v->d, 8), at.w - px(&v->d, 16), px(&v->d, 4)};
}

static void draw_slider(view *v, const row *r, SDL_Rect at)
{
    const SDL_Rect track = track_of(v, at);
    double part = (number_of(v, r) - r->least) / (r->most - r->least);
    draw_fill(&v->d, track, INK_FIELD);
    draw_fill(&v->d, (SDL_Rect){track.x, track.y, (int)(track.w * SDL_clamp(part, 0.0, 1.0)), track.h}, INK_ACCENT);
}

static void draw_row(view *v, const row *r, SDL_Rect at, bool focus)
{
    draw *d = &v->d;
    char value[256];
    const int x = at.x + px(d, 8), w = at.w - px(d, 16), y = at.y + px(d, 4), h = text_height(d, LETTER_NORMAL);
    if (focus) draw_fill(d, at, INK_FIELD);
    int named = text_print(d, LETTER_NORMAL, INK_DIM, x, y, w, "%s", r->name) + px(d, 10);
    if (focus && v->typing) {
        const SDL_Rect box = {x + named, at.y + px(d, 1), w - named, h + px(d, 12)};
        textbox_draw(v, box, &v->entry, true, "");
    } else {
        print_value(v, r, value, sizeof value);
        int width = SDL_min(text_width(d, LETTER_NORMAL, value, strlen(value)), w - named);
        bool switched = r->kind == ROW_SWITCH && *(bool *)place(v, r);
        text_print(d, LETTER_NORMAL, switched ? INK_ACCENT : INK_TEXT, x + w - width, y, w - named, "%s", value);
    }
    if (r->kind == ROW_INT || r->kind == ROW_REAL) draw_slider(v, r, at);
    if (focus) draw_frame(d, at, INK_ACCENT, px(d, 2));
}

void rows_draw(view *v)
{
    draw_clip(&v->d, &v->rows_at);
    for (int k = 0, n = rows_count(v); k < n; k++) {
        const SDL_Rect at = row_at(v, k);
        if (at.y + at.h > v->rows_at.y && at.y < v->rows_at.y + v->rows_at.h) draw_row(v, shown_row(v, k), at, v->focus == FOCUS_ROWS + k);
    }
    draw_clip(&v->d, NULL);
}

static void scroll_to(view *v, int y)
{
    int most = rows_count(v) * row_height(v) - v->rows_at.h;
    v->row_scroll = SDL_clamp(y, 0, SDL_max(0, most));
    v->dirty = true;
}

void rows_show(view *v)
{
    int k = v->focus - FOCUS_ROWS, top = k * row_height(v), bottom = top + row_height(v) - v->rows_at.h;
    if (k >= 0) scroll_to(v, SDL_clamp(v->row_scroll, bottom, top));
    else scroll_to(v, v->row_scroll);
}

/* ---- keys and mouse ------------------------------------------------------------------------------------------------------ */

static void open_list(view *v)
{
    const row *r = focused(v);
    v->cover = COVER_LIST;
    v->list_row = v->focus;
    v->list_at = choice_of(v, r);
    v->list_scroll = -1;
    v->dirty = true;
}

bool rows_key(view *v, SDL_Keysym key)
{
    const row *r = focused(v);
    if (!r || (key.mod & (KMOD_CTRL | KMOD_ALT | KMOD_GUI))) return false;
    if (v->typing) {
        if (key.sym == SDLK_ESCAPE) return v->typing = false, v->dirty = true;
        if (key.sym == SDLK_RETURN || key.sym == SDLK_KP_ENTER) return take_typed(v), true;
        if (key.sym != SDLK_UP && key.sym != SDLK_DOWN && key.sym != SDLK_TAB && textbox_key(v, v->rows_at, &v->entry, key)) return v->dirty = true;
        if (key.sym == SDLK_UP || key.sym == SDLK_DOWN || key.sym == SDLK_TAB) take_typed(v);
    }
    switch (key.sym) {
    case SDLK_LEFT: return step_value(v, r, -1), true;
    case SDLK_RIGHT: return step_value(v, r, 1), true;
    case SDLK_PAGEUP: return step_value(v, r, 10), true;
    case SDLK_PAGEDOWN: return step_value(v, r, -10), true;
    case SDLK_UP: return view_focus(v, v->focus > FOCUS_ROWS ? v->focus - 1 : v->focus), true;
    case SDLK_DOWN: return view_focus(v, v->focus + 1 < FOCUS_ROWS + rows_count(v) ? v->focus + 1 : v->focus), true;
    case SDLK_SPACE:
        if (r->kind == ROW_CHOICE) return open_list(v), true;
        if (r->kind == ROW_SWITCH) return step_value(v, r, *(bool *)place(v, r) ? -1 : 1), true;
        return false;
    default: return false;
    }
}

static int row_under(const view *v, int x, int y)
{
    int k = inside(&v->rows_at, x, y) ? (y - v->rows_at.y + v->row_scroll) / row_height(v) : -1;
    return k < rows_count(v) ? k : -1;
}

static void drag_to(view *v, const row *r, int x)
{
    const SDL_Rect track = track_of(v, v->rows_at);
    double part = SDL_clamp((double)(x - track.x) / track.w, 0.0, 1.0);
    set_number(v, r, SDL_clamp(round((r->least + part * (r->most - r->least)) / r->step) * r->step, r->least, r->most));
}

void rows_click(view *v, int x, int y, int button)
{
    int k = row_under(v, x, y);
    if (k < 0) return;
    view_focus(v, FOCUS_ROWS + k);
    const row *r = focused(v);
    if (r->kind == ROW_CHOICE) open_list(v);
    if (r->kind == ROW_SWITCH) step_value(v, r, *(bool *)place(v, r) ? -1 : 1);
    if ((r->kind == ROW_INT || r->kind == ROW_REAL) && button == SDL_BUTTON_LEFT && y >= row_at(v, k).y + row_height(v) / 2) {
        v->dragged_row = k;
        drag_to(v, r, x);
    }
}

void rows_drag(view *v, int x)
{
    const row *r = shown_row(v, v->dragged_row);
    if (r) drag_to(v, r, x);
}

void rows_wheel(view *v, int x, int y, int by)
{
    int k = row_under(v, x, y);
    if (k >= 0 && v->focus == FOCUS_ROWS + k) step_value(v, shown_row(v, k), by);
    else scroll_to(v, v->row_scroll - by * row_height(v));
}

/* ---- the list of choices -------------------------------------------------------------------------------------------------- */

static int line_height(const view *v) { return text_height(&v->d, LETTER_NORMAL) + px(&v->d, 6); }

static SDL_Rect list_rect(const view *v, int n)
{
    int h = SDL_min(n * line_height(v) + px(&v->d, 8), v->panel_at.h - px(&v->d, 16));
    SDL_Rect at = row_at(v, v->list_row - FOCUS_ROWS);
    at.y += at.h;
    at.h = h;
    if (at.y + h > v->panel_at.y + v->panel_at.h - px(&v->d, 8)) at.y = v->panel_at.y + v->panel_at.h - px(&v->d, 8) - h;
    return at;
}

static int list_rows(const view *v, SDL_Rect at) { return (at.h - px(&v->d, 8)) / line_height(v); }

void list_draw(view *v)
{
    int n;
    draw *d = &v->d;
    const row *r = shown_row(v, v->list_row - FOCUS_ROWS);
    const char *const *words = r->words(&n);
    const SDL_Rect at = list_rect(v, n);
    int lines = list_rows(v, at);
    if (v->list_scroll < 0) v->list_scroll = v->list_at - lines / 2;
    v->list_scroll = SDL_clamp(v->list_scroll, SDL_max(0, v->list_at - lines + 1), v->list_at);
    v->list_scroll = SDL_clamp(v->list_scroll, 0, SDL_max(0, n - lines));
    draw_fill(d, at, INK_PANEL);
    for (int i = v->list_scroll; i < n && i < v->list_scroll + lines; i++) {
        const SDL_Rect line = {at.x + px(d, 4), at.y + px(d, 4) + (i - v->list_scroll) * line_height(v), at.w - px(d, 8), line_height(v)};
        if (i == v->list_at) draw_fill(d, line, INK_SELECT);
        text_print(d, LETTER_NORMAL, INK_TEXT, line.x + px(d, 8), line.y + px(d, 3), line.w - px(d, 16), "%s", words[i]);
    }
    draw_frame(d, at, INK_ACCENT, px(d, 1));
}

bool list_key(view *v, SDL_Keysym key)
{
    int n, at = v->list_at;
    const row *r = shown_row(v, v->list_row - FOCUS_ROWS);
    const char *const *words = r->words(&n);
    switch (key.sym) {
    case SDLK_UP: at--; break;
    case SDLK_DOWN: at++; break;
    case SDLK_PAGEUP: at -= 10; break;
    case SDLK_PAGEDOWN: at += 10; break;
    case SDLK_HOME: at = 0; break;
    case SDLK_END: at = n - 1; break;
    case SDLK_RETURN:
    case SDLK_KP_ENTER:
    case SDLK_SPACE: set_choice(v, r, at); /* fall through */
    case SDLK_ESCAPE: v->cover = COVER_NONE; break;
    default:
        for (int i = 1; i <= n && key.sym >= 'a' && key.sym <= 'z'; i++) /* the next that begins with the letter */
            if (words[(at + i) % n][0] == (char)key.sym) {
                at = (at + i) % n;
                break;
            }
    }
    v->list_at = SDL_clamp(at, 0, n - 1);
    return v->dirty = true;
}

void list_click(view *v, int x, int y)
{
    int n;
    const row *r = shown_row(v, v->list_row - FOCUS_ROWS);
    r->words(&n);
    const SDL_Rect at = list_rect(v, n);
    int i = (y - at.y - px(&v->d, 4)) / line_height(v) + v->list_scroll;
    if (inside(&at, x, y) && i >= 0 && i < n) set_choice(v, r, i);
    v->cover = COVER_NONE;
    v->dirty = true;
}

void list_wheel(view *v, int by)
{
    const SDL_Keysym key = {.sym = by > 0 ? SDLK_UP : SDLK_DOWN};
    list_key(v, key);
}
