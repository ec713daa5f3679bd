/* pane.c - the search pane: a query over an index, what it finds as thumbnails with their scores, one of them to start from. */
#include "apps/viewer/finder.h"
#include "apps/viewer/state.h"
#include <stdlib.h>
#include <string.h>

enum { MOST = 60 }; /* matches */

struct pane {
    finder *finder;
    field query;
    finder_result result;
    SDL_Texture *texture[MOST];
    uint64_t asked, shown; /* queries by number */
    int chosen, top;       /* top: first row of thumbnails */
    bool in_list;          /* keys move over the thumbnails, not in the query */
};

void pane_forget(view *v)
{
    for (int i = 0; v->pane && i < MOST; i++) {
        if (v->pane->texture[i]) SDL_DestroyTexture(v->pane->texture[i]);
        v->pane->texture[i] = NULL;
    }
}

void pane_open(view *v)
{
    if (v->watched) return;
    if (!v->pane && !(v->pane = calloc(1, sizeof *v->pane))) return;
    struct pane *p = v->pane;
    p->query.max = 2000;
    if (!p->finder) p->finder = finder_open(v->setup->index, v->setup->options, v->find_event);
    if (!p->finder) {
        view_say(v, true, "out of memory");
        return;
    }
    p->in_list = false;
    field_edit(&p->query, EDIT_SELECT_ALL, false);
    v->cover = COVER_FIND;
    v->dirty = true;
}

void pane_close(view *v)
{
    if (!v->pane) return;
    pane_forget(v);
    finder_close(v->pane->finder);
    finder_result_free(&v->pane->result);
    field_free(&v->pane->query);
    free(v->pane);
    v->pane = NULL;
}

void pane_take(view *v)
{
    struct pane *p = v->pane;
    if (!p || !finder_take(p->finder, &p->result)) return;
    if (p->result.query != p->shown) {
        pane_forget(v);
        p->chosen = p->top = 0;
        view_log(v, "found", json_pack("{s:i,s:s*}", "pictures", p->result.n, "error", p->result.error));
    }
    p->shown = p->result.query;
    v->dirty = true;
}

static void ask(struct pane *p)
{
    uint64_t number = finder_ask(p->finder, field_text(&p->query), MOST);
    if (number) p->asked = number;
}

/* ---- the picture of it ------------------------------------------------------------------------------------------------ */

static SDL_Rect page(const view *v) { return (SDL_Rect){v->canvas_at.x, v->canvas_at.y, v->canvas_at.w, v->canvas_at.h + v->strip_at.h}; }

static SDL_Rect query_at(const view *v)
{
    const int gap = px(&v->d, 12);
    return (SDL_Rect){v->canvas_at.x + gap, gap, v->canvas_at.w - 2 * gap, text_height(&v->d, LETTER_NORMAL) + px(&v->d, 14)};
}

static int cell_width(const view *v) { return px(&v->d, 132); }
static int cell_height(const view *v) { return px(&v->d, 116) + text_height(&v->d, LETTER_SMALL); }
static SDL_Rect grid_at(const view *v)
{
    const SDL_Rect q = query_at(v);
    int y = q.y + q.h + px(&v->d, 10);
    return (SDL_Rect){q.x, y, q.w, page(v).h - y - px(&v->d, 30)};
}
static int columns(const view *v) { return SDL_max(1, grid_at(v).w / cell_width(v)); }

static void draw_match(view *v, int i, SDL_Rect at)
{
    draw *d = &v->d;
    struct pane *p = v->pane;
    const finder_match *m = &p->result.match[i];
    const int h = text_height(d, LETTER_SMALL), gap = px(d, 6);
    const SDL_Rect room = {at.x + gap, at.y + gap, at.w - 2 * gap, at.h - h - 2 * gap};
    if (i == p->chosen) draw_fill(d, at, p->in_list ? INK_SELECT : INK_FIELD);
    if (!p->texture[i] && m->thumbnail.pixels) p->texture[i] = draw_texture(d, &m->thumbnail, true);
    if (p->texture[i]) {
        double x = (double)room.w / m->thumbnail.width, y = (double)room.h / m->thumbnail.height, by = x < y ? x : y;
        int w = (int)(m->thumbnail.width * by), tall = (int)(m->thumbnail.height * by);
        const SDL_Rect to = {room.x + (room.w - w) / 2, room.y + (room.h - tall) / 2, w, tall};
        SDL_RenderCopy(d->renderer, p->texture[i], NULL, &to);
    } else text_print(d, LETTER_SMALL, INK_DIM, room.x, room.y + room.h / 2, room.w, m->failed ? "cannot be read" : "...");
    char name[300];
    const char *slash = strrchr(m->path, '/');
    text_print(d, LETTER_SMALL, INK_DIM, room.x, at.y + at.h - h - gap / 2, room.w, "%.3f  %s", (double)m->score,
               diffc_escape(name, sizeof name, slash ? slash + 1 : m->path));
}

void pane_draw(view *v)
{
    draw *d = &v->d;
    struct pane *p = v->pane;
    const SDL_Rect all = page(v), grid = grid_at(v);
    const int wide = columns(v), rows = SDL_max(1, grid.h / cell_height(v)), row = p->chosen / wide;
    draw_fill(d, all, INK_PANEL);
    textbox_draw(v, query_at(v), &p->query, !p->in_list, "search pictures: what they show, or @FILE");
    p->top = SDL_clamp(p->top, SDL_max(0, row - rows + 1), row);
    draw_clip(d, &grid);
    for (int i = p->top * wide; i < p->result.n && i < (p->top + rows) * wide; i++)
        draw_match(v, i, (SDL_Rect){grid.x + i % wide * cell_width(v), grid.y + (i / wide - p->top) * cell_height(v), cell_width(v), cell_height(v)});
    int y = grid.y;
    for (const char *line = p->result.error; line && *line; y += text_height(d, LETTER_NORMAL) + px(d, 4)) {
        size_t n = strcspn(line, "\n");
        text_draw(d, LETTER_NORMAL, line == p->result.error ? INK_ERROR : INK_TEXT, grid.x, y, grid.w, line, n);
        line += n + (line[n] == '\n');
    }
    draw_clip(d, NULL);
    const char *says = p->asked != p->shown           ? "searching ..."
                       : p->result.n                  ? "Enter opens the chosen picture, as one to start from; Down, Up move; Esc leaves"
                       : !p->result.error && p->shown ? "nothing found"
                                                      : "Esc leaves";
    text_print(d, LETTER_SMALL, INK_DIM, grid.x, all.y + all.h - px(d, 24), grid.w, "%s", says);
}

/* ---- keys and mouse ----------------------------------------------------------------------------------------------------- */

static void leave(view *v)
{
    v->cover = COVER_NONE;
    v->dirty = true;
}

static void open_chosen(view *v)
{
    struct pane *p = v->pane;
    if (p->chosen >= p->result.n) return;
    view_open_file(v, p->result.match[p->chosen].path);
    leave(v);
}

static void choose(view *v, int i)
{
    struct pane *p = v->pane;
    p->in_list = i >= 0 && p->result.n > 0;
    p->chosen = SDL_clamp(i, 0, SDL_max(0, p->result.n - 1));
    v->dirty = true;
}

bool pane_key(view *v, SDL_Keysym key)
{
    struct pane *p = v->pane;
    const int at = p->chosen, wide = columns(v);
    uint64_t version = p->query.version;
    v->dirty = true;
    switch (key.sym) {
    case SDLK_ESCAPE:
    case SDLK_F3: return leave(v), true;
    case SDLK_RETURN:
    case SDLK_KP_ENTER: return open_chosen(v), true;
    case SDLK_DOWN: return choose(v, p->in_list ? SDL_min(at + wide, p->result.n - 1) : at), true;
    case SDLK_UP:
        if (p->in_list) return choose(v, at - wide < 0 ? -1 : at - wide), true;
        break;
    case SDLK_LEFT:
        if (p->in_list) return choose(v, SDL_max(0, at - 1)), true;
        break;
    case SDLK_RIGHT:
        if (p->in_list) return choose(v, at + 1), true;
        break;
    case SDLK_TAB: return choose(v, p->in_list ? -1 : at), true;
    default: break;
    }
    bool taken = textbox_key(v, query_at(v), &p->query, key);
    if (p->query.version != version) ask(p);
    return taken || !(key.mod & KMOD_CTRL); /* Ctrl+Q and its like go on */
}

field *pane_field(view *v) { return &v->pane->query; }

void pane_text(view *v, const char *text)
{
    v->pane->in_list = false;
    if (field_insert(&v->pane->query, text)) ask(v->pane);
}

void pane_wheel(view *v, int by) { choose(v, SDL_clamp(v->pane->chosen - by * columns(v), 0, SDL_max(0, v->pane->result.n - 1))); }

void pane_click(view *v, int x, int y, int clicks)
{
    struct pane *p = v->pane;
    const SDL_Rect q = query_at(v), grid = grid_at(v), all = page(v);
    if (!inside(&all, x, y)) leave(v);
    else if (inside(&q, x, y)) {
        p->in_list = false;
        field_place(&p->query, textbox_at(v, q, &p->query, x, y), false);
    } else if (inside(&grid, x, y)) {
        int column = (x - grid.x) / cell_width(v), i = ((y - grid.y) / cell_height(v) + p->top) * columns(v) + column;
        if (column >= columns(v) || i >= p->result.n) return;
        choose(v, i);
        if (clicks == 2) open_chosen(v);
    }
    v->dirty = true;
}
