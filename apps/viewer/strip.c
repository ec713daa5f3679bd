/* strip.c - the pictures of this run, in a row. */
#include "apps/viewer/state.h"
#include <stdlib.h>
#include <string.h>

enum { SMALL = 96 }; /* side of a thumbnail's longest, in pixels of the picture */

static uint64_t bytes_of(const picture *p) { return 3 * (uint64_t)p->kept.image.width * (uint64_t)p->kept.image.height; }

picture *strip_picture(const view *v) { return v->strip.n ? v->strip.item[v->strip.chosen].picture : NULL; }

/* The picture made small by averages, so that no pixels are skipped. NULL when memory is out. */
static SDL_Texture *make_small(view *v, const diffc_image *m)
{
    int longest = m->width > m->height ? m->width : m->height, side = longest < SMALL ? longest : SMALL;
    int w = SDL_max(1, m->width * side / longest), h = SDL_max(1, m->height * side / longest);
    diffc_image s = {w, h, 3, malloc(3 * (size_t)w * (size_t)h)};
    if (!s.pixels) return NULL;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            unsigned sum[3] = {0}, n = 0;
            for (int j = y * m->height / h; j < (y + 1) * m->height / h; j++)
                for (int i = x * m->width / w; i < (x + 1) * m->width / w; i++, n++)
                    for (int c = 0; c < 3; c++) sum[c] += m->pixels[3 * ((size_t)j * (size_t)m->width + (size_t)i) + (size_t)c];
            for (int c = 0; c < 3; c++) s.pixels[3 * ((size_t)y * (size_t)w + (size_t)x) + (size_t)c] = (uint8_t)(sum[c] / n);
        }
    SDL_Texture *t = draw_texture(&v->d, &s, true);
    free(s.pixels);
    return t;
}

static void forget_textures(strip_item *i)
{
    if (i->small) SDL_DestroyTexture(i->small);
    if (i->full) SDL_DestroyTexture(i->full);
    i->small = i->full = NULL;
}

void strip_forget(view *v, bool all)
{
    for (int i = 0; i < v->strip.n; i++) {
        forget_textures(&v->strip.item[i]);
        if (all) picture_drop(v->strip.item[i].picture);
    }
    if (!all) return;
    free(v->strip.item);
    v->strip = (strip){.marked = -1};
}

SDL_Texture *strip_texture(view *v, int i)
{
    strip *s = &v->strip;
    if (i < 0 || i >= s->n) return NULL;
    for (int k = 0; k < s->n; k++) /* large ones only of what may be looked at next */
        if (s->item[k].full && k != i && k != s->chosen && k != s->marked && abs(k - s->chosen) > 1) {
            SDL_DestroyTexture(s->item[k].full);
            s->item[k].full = NULL;
        }
    if (!s->item[i].full) s->item[i].full = draw_texture(&v->d, &s->item[i].picture->kept.image, true);
    return s->item[i].full;
}

void strip_remove(view *v, int i)
{
    strip *s = &v->strip;
    if (i < 0 || i >= s->n) return;
    forget_textures(&s->item[i]);
    s->bytes -= bytes_of(s->item[i].picture);
    picture_drop(s->item[i].picture);
    memmove(&s->item[i], &s->item[i + 1], sizeof *s->item * (size_t)(s->n - i - 1));
    s->n--;
    if (s->chosen > i || s->chosen == s->n) s->chosen = SDL_max(0, s->chosen - 1);
    s->marked = s->marked == i ? -1 : s->marked - (s->marked > i);
    v->dirty = true;
}

void strip_add(view *v, picture *p)
{
    strip *s = &v->strip;
    const uint64_t most = 512u << 20; /* bytes of pixels; then the oldest goes that nobody looks at */
    while (s->n > 1 && s->bytes + bytes_of(p) > most) strip_remove(v, s->chosen == 0 ? 1 : 0);
    if (s->n == s->room) {
        int room = s->room ? 2 * s->room : 32;
        strip_item *more = realloc(s->item, sizeof *more * (size_t)room);
        if (!more) {
            picture_drop(p);
            view_say(v, true, "out of memory: the picture is lost");
            return;
        }
        s->item = more;
        s->room = room;
    }
    s->item[s->n++] = (strip_item){.picture = p};
    s->bytes += bytes_of(p);
    strip_choose(v, s->n - 1);
}

static int cell(const view *v) { return v->strip_at.h - px(&v->d, 12); }
static int pitch(const view *v) { return cell(v) + px(&v->d, 8); }

void strip_choose(view *v, int i)
{
    strip *s = &v->strip;
    if (!s->n) return;
    s->chosen = SDL_clamp(i, 0, s->n - 1);
    int left = s->chosen * pitch(v), width = v->strip_at.w;
    if (left < s->scroll) s->scroll = left;
    if (left + 2 * pitch(v) > s->scroll + width) s->scroll = left + 2 * pitch(v) - width;
    s->scroll = SDL_clamp(s->scroll, 0, SDL_max(0, s->n * pitch(v) + px(&v->d, 8) - width));
    v->canvas.looking = v->running;
    v->dirty = true;
    canvas_preview(v, NULL);
}

void strip_draw(view *v)
{
    strip *s = &v->strip;
    draw *d = &v->d;
    draw_fill(d, v->strip_at, INK_PANEL);
    draw_clip(d, &v->strip_at);
    for (int i = 0; i < s->n; i++) {
        SDL_Rect at = {v->strip_at.x + px(d, 8) + i * pitch(v) - s->scroll, v->strip_at.y + px(d, 6), cell(v), cell(v)};
        if (at.x > v->strip_at.x + v->strip_at.w || at.x + at.w < v->strip_at.x) continue;
        const picture *p = s->item[i].picture;
        if (!s->item[i].small) s->item[i].small = make_small(v, &p->kept.image);
        int longest = SDL_max(p->kept.image.width, p->kept.image.height);
        int w = at.w * p->kept.image.width / longest, h = at.h * p->kept.image.height / longest;
        const SDL_Rect to = {at.x + (at.w - w) / 2, at.y + (at.h - h) / 2, w, h};
        if (s->item[i].small) SDL_RenderCopy(d->renderer, s->item[i].small, NULL, &to);
        if (i == s->chosen && (!v->running || v->canvas.looking)) draw_frame(d, at, INK_ACCENT, px(d, 2));
        if (i == s->marked) draw_fill(d, (SDL_Rect){at.x, at.y, px(d, 10), px(d, 10)}, INK_ERROR);
        if (*p->path) draw_fill(d, (SDL_Rect){at.x, at.y + at.h - px(d, 4), at.w, px(d, 4)}, INK_ACCENT); /* it is saved */
    }
    draw_clip(d, NULL);
}

void strip_click(view *v, int x, int y)
{
    (void)y;
    int i = (x - v->strip_at.x - px(&v->d, 8) + v->strip.scroll) / pitch(v);
    if (i >= 0 && i < v->strip.n) strip_choose(v, i);
}
