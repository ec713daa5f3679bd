/* gemm.c - the driver of the matrix kernels: one tile of rows against a range of panels. */
#include "backends/cpu/gemm.h"

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
    return sizeof(float) * (uint64_t)(width < g->panel ? width : g->panel) * (uint64_t)(most_rows + 2 * CPU_BLOCK_K);
}

static size_t element(dc_dtype t) { return t == DC_F32 ? 4 : 2; }

/* A panel in memory. */
typedef struct packed {
    const char *data;
    int width;
    size_t line; /* bytes of a row */
} packed;

static packed panel_of(const cpu_product *p, int i)
{
    const int width = cpu_panel_width(p->w, p->g, i);
    const size_t size = element(p->w->type), each = (size_t)p->w->k * (size_t)p->g->panel * size;
    return (packed){(const char *)p->w->data + (size_t)i * each, width, (size_t)width * size};
}

/* Blocks of panels on their way to float: one in use, one that is filled beside it. */
typedef struct widening {
    float *block[2];
    int turn;
    bool ready; /* block[turn] holds what the next step wants */
} widening;

static int first_stretch(int left) { return left < CPU_BLOCK_K ? left : CPU_BLOCK_K; }

/* Sets what the step multiplies by and what it prepares: the block at `from` and the one at s->next. */
static void take_block(const cpu_product *p, widening *w, const char *from, int width, cpu_block *s)
{
    const dc_dtype type = p->w->type;
    s->b = (const float *)from;
    s->widened = NULL;
    if (type != DC_F32) {
        if (!w->ready) p->g->widen(from, type, (int64_t)s->k * width, w->block[w->turn]);
        s->b = w->block[w->turn];
        w->ready = s->next;
        w->turn ^= 1;
        s->next_type = type;
        if (s->next) s->widened = w->block[w->turn];
    }
}

/* All sums of one panel for all rows of the tile: acc [rows][width]. A stretch of channels runs through all taps before the next one, so that
 * its part of a patch stays in the cache. after: the panel that comes next, or NULL. */
static void sum_panel(const cpu_product *p, const cpu_tile *t, const packed *b, const packed *after, float *acc, widening *w)
{
    cpu_block s = {.row = t->row, .rows = t->rows, .width = b->width, .acc = acc};
    for (int k = 0; k < p->per_tap; k += CPU_BLOCK_K) {
        s.k = first_stretch(p->per_tap - k);
        for (int tap = 0; tap < p->taps; tap++, s.add = true) {
            const char *from = b->data + (size_t)(tap * p->per_tap + k) * b->line;
            const int left = p->per_tap - k - s.k; /* channels of the panel after this stretch */
            if (tap + 1 < p->taps) s.next = from + (size_t)p->per_tap * b->line, s.next_bytes = (size_t)s.k * b->line;
            else if (left) s.next = b->data + (size_t)(k + s.k) * b->line, s.next_bytes = (size_t)first_stretch(left) * b->line;
            else if (after) s.next = after->data, s.next_bytes = (size_t)first_stretch(p->per_tap) * after->line;
            else s.next = NULL, s.next_bytes = 0;
            s.offset = tap / p->taps_across * p->down + tap % p->taps_across * p->across + k;
            take_block(p, w, from, b->width, &s);
            p->g->block(&s);
        }
    }
}

static void finish_panel(const cpu_product *p, const cpu_tile *t, int panel, int width, const float *acc)
{
    const cpu_panels *w = p->w;
    const int first = panel * w->full;
    cpu_outputs o = {.acc = acc, .rows = t->rows, .width = width, .outs = cpu_panel_outs(w, panel), .act = p->act, .geglu = w->geglu};
    for (int half = 0; half < (w->geglu ? 2 : 1); half++) {
        const int row = half * w->outs + first;
        if (w->bias) o.bias[half] = w->bias + row;
        if (w->scale) o.scale[half] = w->scale + row, o.offset[half] = w->offset + row;
    }
    o.factor = t->factor;
    o.to = t->to;
    o.y = (float *)p->y.data + first;
    o.y_stride = p->y.stride;
    if (!dc_is_none(p->residual)) o.residual = (const float *)p->residual.data + first, o.residual_stride = p->residual.stride;
    if (t->add) o.add = t->add + first, o.add_rows = t->add_rows, o.add_stride = t->add_stride;
    p->g->finish(&o);
}

void cpu_product_tile(const cpu_product *p, const cpu_tile *t, int from, int to, void *scratch)
{
    float *acc = scratch;
    packed b = panel_of(p, from);
    widening w = {{acc + t->rows * b.width, acc + (t->rows + CPU_BLOCK_K) * b.width}, 0, false}; /* no later panel is wider */
    for (int i = from; i < to; i++) {
        const packed after = panel_of(p, i + 1 < to ? i + 1 : i);
        sum_panel(p, t, &b, i + 1 < to ? &after : NULL, acc, &w);
        finish_panel(p, t, i, b.width, acc);
        b = after;
    }
}
