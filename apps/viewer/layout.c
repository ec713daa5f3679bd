/* layout.c - where things are in the window, and one frame of it. */
#include "apps/viewer/state.h"
#include <stdio.h>
#include <string.h>

bool inside(const SDL_Rect *r, int x, int y) { return x >= r->x && y >= r->y && x < r->x + r->w && y < r->y + r->h; }

void view_layout(view *v)
{
    const draw *d = &v->d;
    int w, h;
    SDL_GetRendererOutputSize(d->renderer, &w, &h);
    bool alone = v->full_screen || v->watched;
    const int line = text_height(d, LETTER_NORMAL), status = text_height(d, LETTER_SMALL) + px(d, 14), gap = px(d, 10);
    const int panel = alone ? 0 : SDL_min(px(d, 330), w / 2), low = v->full_screen ? 0 : SDL_min(px(d, 84), h / 6);
    v->status_at = (SDL_Rect){0, h - status, w, status};
    v->panel_at = (SDL_Rect){w - panel, 0, panel, h - status};
    v->strip_at = (SDL_Rect){0, h - status - low, w - panel, low};
    v->canvas_at = (SDL_Rect){0, 0, w - panel, h - status - low};
    int x = w - panel + gap, width = panel - 2 * gap, y = gap + text_height(d, LETTER_SMALL);
    v->prompt_at = (SDL_Rect){x, y, width, 5 * line + px(d, 12)};
    y += v->prompt_at.h + gap + text_height(d, LETTER_SMALL);
    v->negative_at = (SDL_Rect){x, y, width, 3 * line + px(d, 12)};
    y += v->negative_at.h + gap;
    v->rows_at = (SDL_Rect){x, y, width, SDL_max(0, v->panel_at.h - y - gap / 2)};
    if (!alone) rows_show(v);
    if (v->strip.n) strip_choose(v, v->strip.chosen);
    v->dirty = true;
}

/* ---- the status line ------------------------------------------------------------------------------------------------ */

static const char *stage_name(diffc_stage s)
{
    static const char *const names[] = {"loading", "reading the prompt", "encoding", "sampling", "decoding", "writing"};
    return (size_t)s < SDL_arraysize(names) ? names[s] : "";
}

/* "sampling 5/20   3.1 it/s   0:05 left" */
static void tell_progress(const view *v, char *out, size_t size)
{
    const diffc_progress *p = &v->progress;
    int n = snprintf(out, size, "%s", stage_name(p->stage));
    if (p->stage != DIFFC_STAGE_SAMPLE || n < 0) return;
    if (p->total) n += snprintf(out + n, size - (size_t)n, " %llu/%llu", (unsigned long long)p->done, (unsigned long long)p->total);
    if (p->images > 1) n += snprintf(out + n, size - (size_t)n, "   picture %d of %d", p->image + 1, p->images);
    if (p->done && p->seconds > 0) {
        double rate = (double)p->done / p->seconds;
        n += snprintf(out + n, size - (size_t)n, rate >= 1 ? "   %.1f it/s" : "   %.1f s/it", rate >= 1 ? rate : 1 / rate);
    }
    if (p->eta >= 0) snprintf(out + n, size - (size_t)n, "   %d:%02d left", (int)(p->eta + 0.5) / 60, (int)(p->eta + 0.5) % 60);
}

static void tell_picture(const view *v, char *out, size_t size)
{
    const picture *p = strip_picture(v);
    if (!p) {
        snprintf(out, size, "%s", v->setup ? diffc_model_summary(v->setup->model) : "");
        return;
    }
    const diffc_result *r = &p->kept.result;
    snprintf(out, size, "%d of %d   seed %llu   %dx%d   %d steps   %.2f s%s%.300s", v->strip.chosen + 1, v->strip.n, (unsigned long long)r->seed,
             p->kept.image.width, p->kept.image.height, r->steps, p->seconds, *p->path ? "   " : "   not saved", p->path);
}

static void status_draw(view *v)
{
    draw *d = &v->d;
    char text[1024];
    const SDL_Rect *at = &v->status_at;
    const int x = at->x + px(d, 10), y = at->y + px(d, 8);
    draw_fill(d, *at, INK_PANEL);
    if (v->running && v->progress.stage == DIFFC_STAGE_SAMPLE && v->progress.total) {
        int w = (int)((double)at->w * (double)v->progress.done / (double)v->progress.total);
        draw_fill(d, (SDL_Rect){at->x, at->y, w, px(d, 4)}, INK_ACCENT);
    }
    const char *keys = v->watched ? "F1 keys" : v->live ? "live   F1 keys" : v->locked ? "seed kept   F1 keys" : "F1 keys";
    int width = text_width(d, LETTER_SMALL, keys, strlen(keys)), room = at->w - width - px(d, 40);
    text_print(d, LETTER_SMALL, INK_DIM, at->x + at->w - width - px(d, 10), y, 0, "%s", keys);
    if (*v->message) {
        text_print(d, LETTER_SMALL, v->message_bad ? INK_ERROR : INK_TEXT, x, y, room, "%s", v->message);
        return;
    }
    if (v->running) tell_progress(v, text, sizeof text);
    else tell_picture(v, text, sizeof text);
    text_print(d, LETTER_SMALL, INK_TEXT, x, y, room, "%s", text);
}

/* ---- covers ------------------------------------------------------------------------------------------------------------ */

static void open_draw(view *v)
{
    draw *d = &v->d;
    int w, h;
    SDL_GetRendererOutputSize(d->renderer, &w, &h);
    const SDL_Rect page = {w / 8, h / 3, w * 3 / 4, text_height(d, LETTER_NORMAL) * 4 + px(d, 40)};
    const int x = page.x + px(d, 16), width = page.w - px(d, 32);
    draw_fill(d, (SDL_Rect){0, 0, w, h}, INK_SHADE);
    draw_fill(d, page, INK_PANEL);
    draw_frame(d, page, INK_ACCENT, px(d, 1));
    if (v->cover == COVER_OPEN) {
        text_print(d, LETTER_NORMAL, INK_TEXT, x, page.y + px(d, 12), width, "Open a picture (PNG, JPEG, WebP), or a text of parameters:");
        const SDL_Rect box = {x, page.y + px(d, 18) + text_height(d, LETTER_NORMAL), width, text_height(d, LETTER_NORMAL) + px(d, 12)};
        textbox_draw(v, box, &v->path, true, "file name");
        text_print(d, LETTER_SMALL, INK_DIM, x, box.y + box.h + px(d, 8), width, "Enter opens, Esc leaves");
        return;
    }
    static const char *const choices[] = {"R   draw with its settings", "I   start from the picture", "Esc   neither"};
    text_print(d, LETTER_NORMAL, INK_TEXT, x, page.y + px(d, 12), width, "%s", v->dropped);
    for (int i = 0; i < 3; i++)
        text_print(d, LETTER_NORMAL, i == 2 ? INK_DIM : INK_ACCENT, x, page.y + px(d, 20) + (i + 1) * (text_height(d, LETTER_NORMAL) + px(d, 3)),
                   width, "%s", choices[i]);
}

static void panel_draw(view *v)
{
    draw *d = &v->d;
    const int up = text_height(d, LETTER_SMALL) + px(d, 2);
    draw_fill(d, v->panel_at, INK_PANEL);
    text_print(d, LETTER_SMALL, INK_DIM, v->prompt_at.x, v->prompt_at.y - up, v->prompt_at.w, "Prompt");
    textbox_draw(v, v->prompt_at, &v->prompt, v->focus == FOCUS_PROMPT && !v->cover, "for example: a red apple");
    text_print(d, LETTER_SMALL, INK_DIM, v->negative_at.x, v->negative_at.y - up, v->negative_at.w, "What it shall not show");
    textbox_draw(v, v->negative_at, &v->negative, v->focus == FOCUS_NEGATIVE && !v->cover, "");
    rows_draw(v);
}

/* Draws what has changed; while a picture forms that is seldom everything. */
void view_frame(view *v)
{
    draw *d = &v->d;
    bool all = v->dirty || v->cover || v->full_screen || !v->keeps;
    d->now++;
    if (all) {
        SDL_Color back = ink_color(d, INK_BACK);
        SDL_SetRenderDrawColor(d->renderer, back.r, back.g, back.b, 255);
        SDL_RenderClear(d->renderer);
    }
    if (all || v->canvas_dirty) {
        canvas_draw(v);
        if (v->focus == FOCUS_PICTURE && v->panel_at.w && !v->cover) draw_frame(d, v->canvas_at, INK_LINE, px(d, 1));
    }
    if (all && v->strip_at.h) strip_draw(v);
    if (all && v->panel_at.w) panel_draw(v);
    if (!v->full_screen || v->running || *v->message) status_draw(v);
    if (v->cover == COVER_LIST) list_draw(v);
    if (v->cover == COVER_OPEN || v->cover == COVER_DROPPED) open_draw(v);
    if (v->cover == COVER_FIND) pane_draw(v);
    if (v->cover == COVER_KEYS) keys_draw(v);
    SDL_RenderPresent(d->renderer);
    v->dirty = v->canvas_dirty = v->status_dirty = false;
}
