/* canvas.c - the picture, or its preview: fitted or zoomed, moved, compared with another. */
#include "apps/viewer/state.h"
#include <math.h>

/* Pixels of the window a pixel of a picture of that size. */
static double zoom_of(const view *v, int w, int h)
{
    double x = (double)v->canvas_at.w / w, y = (double)v->canvas_at.h / h;
    return v->canvas.zoom > 0 ? v->canvas.zoom : x < y ? x : y;
}

/* Size of what is shown, in the finished picture's pixels: a preview may be smaller than what it stands for. */
static bool size_shown(const view *v, int *w, int *h)
{
    const picture *p = strip_picture(v);
    if (v->canvas.preview) {
        *w = v->request.width, *h = v->request.height;
        if (!*w || !*h) SDL_QueryTexture(v->canvas.preview, NULL, NULL, w, h);
        return true;
    }
    if (!p) return false;
    *w = p->kept.image.width, *h = p->kept.image.height;
    return true;
}

void canvas_preview(view *v, const diffc_image *m)
{
    if (v->canvas.preview) SDL_DestroyTexture(v->canvas.preview);
    v->canvas.preview = m && !v->canvas.looking ? draw_texture(&v->d, m, true) : NULL;
    v->canvas_dirty = true;
}

void canvas_forget(view *v) { canvas_preview(v, NULL); }

static SDL_Rect place(const view *v, int w, int h)
{
    double z = zoom_of(v, w, h);
    double x = v->canvas.zoom > 0 ? v->canvas.x : 0.5, y = v->canvas.zoom > 0 ? v->canvas.y : 0.5;
    const SDL_Rect *at = &v->canvas_at;
    return (SDL_Rect){at->x + at->w / 2 - (int)lround(x * w * z), at->y + at->h / 2 - (int)lround(y * h * z), (int)lround(w * z), (int)lround(h * z)};
}

static void hint(view *v)
{
    static const char *const lines[] = {"Type what the picture shall show, then press Enter.",
                                        "F1 lists all keys. Drop a picture here to draw it again, or to start from it."};
    draw *d = &v->d;
    int y = v->canvas_at.y + v->canvas_at.h / 2 - text_height(d, LETTER_LARGE);
    for (int i = 0; i < 2; i++) {
        text_size size = i ? LETTER_NORMAL : LETTER_LARGE;
        int w = text_width(d, size, lines[i], SDL_strlen(lines[i]));
        if (w > v->canvas_at.w) w = v->canvas_at.w;
        text_print(d, size, INK_DIM, v->canvas_at.x + (v->canvas_at.w - w) / 2, y, w, "%s", lines[i]);
        y += text_height(d, size) + px(d, 6);
    }
}

void canvas_draw(view *v)
{
    draw *d = &v->d;
    int w, h, other = v->strip.marked >= 0 ? v->strip.marked : v->strip.chosen - 1;
    draw_fill(d, v->canvas_at, INK_BACK);
    if (!size_shown(v, &w, &h)) {
        if (!v->running && !v->watched) hint(v);
        return;
    }
    SDL_Texture *t = v->canvas.preview ? v->canvas.preview : strip_texture(v, v->strip.chosen);
    bool comparing = v->canvas.held && other >= 0 && other < v->strip.n;
    if (comparing) {
        const diffc_image *m = &v->strip.item[other].picture->kept.image;
        t = strip_texture(v, other), w = m->width, h = m->height;
    }
    if (!t) return;
    const SDL_Rect to = place(v, w, h);
    SDL_SetTextureScaleMode(t, v->canvas.zoom >= 4 ? SDL_ScaleModeNearest : SDL_ScaleModeLinear);
    draw_clip(d, &v->canvas_at);
    SDL_RenderCopy(d->renderer, t, NULL, &to);
    if (comparing) {
        const SDL_Rect label = {v->canvas_at.x + px(d, 8), v->canvas_at.y + px(d, 8), px(d, 240), text_height(d, LETTER_SMALL) + px(d, 6)};
        draw_fill(d, label, INK_SHADE);
        text_print(d, LETTER_SMALL, INK_ACCENT, label.x + px(d, 6), label.y + px(d, 3), label.w - px(d, 12), "picture %d, seed %llu", other + 1,
                   (unsigned long long)v->strip.item[other].picture->kept.result.seed);
    }
    draw_clip(d, NULL);
}

static void keep_inside(view *v)
{
    v->canvas.x = SDL_clamp(v->canvas.x, 0.0, 1.0);
    v->canvas.y = SDL_clamp(v->canvas.y, 0.0, 1.0);
    v->dirty = true;
}

void canvas_zoom(view *v, double factor, int x, int y)
{
    int w, h;
    if (!size_shown(v, &w, &h)) return;
    double old = zoom_of(v, w, h), zoom = SDL_clamp(old * factor, 0.05, 64.0);
    const SDL_Rect at = place(v, w, h);
    double px_x = (x - at.x) / (w * old), px_y = (y - at.y) / (h * old); /* the picture's point that stays */
    v->canvas.zoom = zoom;
    v->canvas.x = px_x - (x - v->canvas_at.x - v->canvas_at.w / 2) / (w * zoom);
    v->canvas.y = px_y - (y - v->canvas_at.y - v->canvas_at.h / 2) / (h * zoom);
    keep_inside(v);
}

void canvas_fit(view *v, double zoom)
{
    v->canvas.zoom = zoom;
    v->canvas.x = v->canvas.y = 0.5;
    v->dirty = true;
}

void canvas_pan(view *v, int dx, int dy)
{
    int w, h;
    if (!size_shown(v, &w, &h)) return;
    double z = zoom_of(v, w, h);
    if (v->canvas.zoom <= 0) v->canvas.zoom = z, v->canvas.x = v->canvas.y = 0.5;
    v->canvas.x -= dx / (w * z);
    v->canvas.y -= dy / (h * z);
    keep_inside(v);
}
