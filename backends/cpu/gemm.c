/* gemm.c - the driver of the matrix kernels: one tile of rows against a range of panels. */
#include "backends/cpu/gemm.h"
#include "base/half.h"
#include <string.h>

int cpu_panel_outs(const cpu_panels *w, int p)
{
    int left = w->outs - p * w->full;
    return left < w->full ? left : w->full;
}

int cpu_panel_width(const cpu_panels *w, const cpu_gemm *g, int p)
{
    int outs = (cpu_panel_outs(w, p) + g->lanes - 1) / g->lanes * g->lanes;
    return w->geglu ? 2 * outs : outs;
}

int cpu_panel_parts(int64_t tiles, int panels, int threads, bool copied)
{
    if (threads == 1 || tiles >= 4 * threads) return 1;
    const int64_t wanted = ((copied ? 4 : 16) * threads + tiles - 1) / tiles; /* the end of an op waits for one task at most */
    return (int)(wanted > panels ? panels : wanted);
}

uint64_t cpu_product_scratch(const cpu_gemm *g, const dc_param_desc *k, int most_rows)
{
    const int parts = k->geglu ? 2 : 1, width = parts * ((k->out / parts + g->lanes - 1) / g->lanes * g->lanes); /* if it is one panel */
    return sizeof(float) * (uint64_t)(width < g->panel ? width : g->panel) * (uint64_t)(most_rows + CPU_BLOCK_K);
}

static size_t element(dc_dtype t) { return t == DC_F32 ? 4 : 2; }

/* n (from an even one on) of a panel's channels, from pairs to float: for a 1x1 convolution that is no linear layer. */
static void widen_pairs(const char *from, int n, int width, float *to)
{
    for (int k = 0; k < n; k++)
        for (int i = 0; i < width; i++) {
            uint16_t v;
            memcpy(&v, from + ((size_t)(k / 2 * width + i) * 2 + (size_t)(k % 2)) * sizeof v, sizeof v);
            to[k * width + i] = dc_bf16_to_f32(v);
        }
}

/* All sums of one panel for all rows of the tile: acc [rows][width]. A stretch of channels runs through all taps before the next one, so that
 * its part of a patch stays in the cache. after: the panel that comes next, or NULL. */
static void sum_panel(const cpu_product *p, const cpu_tile *t, const char *panel, const char *after, int width, float *acc, float *block)
{
    const bool split = p->w->pairs && !p->g->narrow;
    const size_t line = (size_t)width * (split ? 2 : element(p->w->type)); /* bytes of a row of the panel */
    cpu_block s = {.row = t->row, .rows = t->rows, .width = width, .acc = acc};
    for (int k = 0; k < p->per_tap; k += CPU_BLOCK_K) {
        s.k = p->per_tap - k < CPU_BLOCK_K ? p->per_tap - k : CPU_BLOCK_K;
        for (int tap = 0; tap < p->taps; tap++, s.add = true) {
            const char *from = panel + (size_t)(tap * p->per_tap + k) * line;
            if (tap + 1 < p->taps) s.next = from + (size_t)p->per_tap * line;
            else s.next = k + s.k < p->per_tap ? panel + (size_t)(k + s.k) * line : after;
            s.next_bytes = s.next ? (size_t)s.k * line : 0; /* about: the step after a stretch may be shorter, or of another width */
            s.offset = tap / p->taps_across * p->down + tap % p->taps_across * p->across + k;
            s.b = (const float *)from;
            if (split) {
                widen_pairs(from, s.k, width, block);
                s.b = block;
            } else if (p->w->type != DC_F32) {
                p->g->widen(from, p->w->type, (int64_t)s.k * width, block);
                s.b = block;
            }
            p->g->block(&s);
        }
    }
}

/* Rows of y lie far apart: each is fetched for writing this many rows before its turn. */
enum { FINISH_AHEAD = 16 };

static void finish_panel(const cpu_product *p, const cpu_tile *t, int panel, int width, const float *acc)
{
    const cpu_panels *w = p->w;
    int outs = cpu_panel_outs(w, panel), first = panel * w->full;
    const float *bias = w->bias ? w->bias + first : NULL;
    for (int r = 0; r < t->rows; r++, acc += width) {
        if (r + FINISH_AHEAD < t->rows) {
            const float *later = (const float *)p->y.data + t->to[r + FINISH_AHEAD] * p->y.stride + first;
            for (int i = 0; i < outs; i += 16) __builtin_prefetch(later + i, 1);
        }
        float *y = (float *)p->y.data + t->to[r] * p->y.stride + first;
        const float *residual = dc_is_none(p->residual) ? NULL : (const float *)p->residual.data + t->to[r] * p->residual.stride + first;
        if (w->geglu) p->g->finish_geglu(y, acc, acc + width / 2, bias, bias ? bias + w->outs : NULL, residual, outs, p->act);
        else p->g->finish(y, acc, bias, t->add ? t->add + r / t->add_rows * t->add_stride + first : NULL, residual, outs, p->act);
    }
}

void cpu_product_tile(const cpu_product *p, const cpu_tile *t, int from, int to, void *scratch)
{
    float *acc = scratch, *block = acc + t->rows * cpu_panel_width(p->w, p->g, from); /* no later panel is wider */
    size_t each = (size_t)p->w->k * (size_t)p->g->panel * element(p->w->type);
    for (int panel = from; panel < to; panel++) {
        int width = cpu_panel_width(p->w, p->g, panel);
        const char *data = (const char *)p->w->data + (size_t)panel * each;
        sum_panel(p, t, data, panel + 1 < to ? data + each : NULL, width, acc, block);
        finish_panel(p, t, panel, width, acc);
    }
}
