/* plan.c - where the tensors of a pass lie: memory is shared in place where an op allows it, then every block gets the
 * best-fitting gap among those that live at the same time, in the order that takes least. */
#include "backends/run.h"
#include <stdlib.h>

/* y may take x's memory when x is last used by the very op that makes y, is of the same size, and nobody else took it. */
static void share_in_place(run_slot *slots, int n)
{
    for (int i = 0; i < n; i++) {
        run_slot *y = &slots[i];
        y->root = i;
        y->owned_until = y->last;
        y->given = false;
    }
    for (int i = 0; i < n; i++) { /* a chain's earlier slots come first, so their roots are known */
        run_slot *y = &slots[i];
        for (int k = 0; k < y->n_instead && y->root == i; k++) {
            run_slot *x = &slots[y->instead[k]];
            if (x->state || x->given || x->last != y->first || x->size != y->size) continue;
            y->root = x->root;
            x->given = true;
            slots[x->root].owned_until = y->last;
        }
    }
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

/* In which blocks find their places: none is best for all passes. */
typedef enum place_order {
    LARGE_AND_OLD,     /* larger blocks first, then older ones */
    LARGE_AND_LASTING, /* larger blocks first, then those that end later: strips that replace each other one by one */
    BYTES_BY_OPS,      /* size times life */
    PLACE_ORDERS
} place_order;

static uint64_t weight(const run_slot *s) { return s->bytes * (uint64_t)((int64_t)s->owned_until - s->first + 1); }

static bool comes_first(const run_slot *s, int a, int b, place_order how)
{
    const run_slot *x = &s[a], *y = &s[b];
    if (how == BYTES_BY_OPS) return weight(x) != weight(y) ? weight(x) > weight(y) : a < b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes;
    return how == LARGE_AND_LASTING && x->owned_until != y->owned_until ? x->owned_until > y->owned_until : a < b;
}

static void sift_down(int *order, int n, int at, const run_slot *s, place_order how)
{
    for (int child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && comes_first(s, order[child], order[child + 1], how)) child++;
        if (!comes_first(s, order[at], order[child], how)) return;
        int held = order[at];
        order[at] = order[child];
        order[child] = held;
    }
}

/* Heap sort: the C library's qsort takes no context. */
static void sort(int *order, int n, const run_slot *s, place_order how)
{
    for (int i = n / 2 - 1; i >= 0; i--) sift_down(order, n, i, s, how);
    for (int end = n - 1; end > 0; end--) {
        int held = order[0];
        order[0] = order[end];
        order[end] = held;
        sift_down(order, end, 0, s, how);
    }
}

/* ---- places -------------------------------------------------------------------------------------------------------- */

static bool live_together(const run_slot *a, const run_slot *b) { return a->first <= b->owned_until && b->first <= a->owned_until; }

/* The smallest gap that holds x among the `count` placed blocks (in the order of their offsets), else the end. */
static uint64_t best_fit(const run_slot *s, const int *placed, int count, const run_slot *x)
{
    uint64_t end = 0, best = UINT64_MAX, best_gap = UINT64_MAX;
    for (int i = 0; i < count; i++) {
        const run_slot *y = &s[placed[i]];
        if (!live_together(x, y)) continue;
        if (y->offset > end && y->offset - end >= x->bytes && y->offset - end < best_gap) {
            best = end;
            best_gap = y->offset - end;
        }
        if (y->offset + y->bytes > end) end = y->offset + y->bytes;
    }
    return best == UINT64_MAX ? end : best;
}

/* The bytes of all together. order: the slots, sorted here; placed: room for n. */
static uint64_t place(run_slot *s, int *order, int n, int *placed, place_order how)
{
    uint64_t total = 0;
    sort(order, n, s, how);
    for (int count = 0; count < n; count++) {
        run_slot *x = &s[order[count]];
        x->offset = best_fit(s, placed, count, x);
        if (x->offset + x->bytes > total) total = x->offset + x->bytes;
        int at = count;
        for (; at > 0 && s[placed[at - 1]].offset > x->offset; at--) placed[at] = placed[at - 1];
        placed[at] = order[count];
    }
    return total;
}

dc_status run_assign(run_slot *s, int n, uint64_t *bytes, uint64_t *state_bytes, dc_error *e)
{
    int *order = malloc(sizeof *order * (size_t)(2 * n + 1)), roots = 0;
    if (!order) return dc_fail_memory(e, "a plan", sizeof *order * 2ull * (unsigned)n);
    share_in_place(s, n);
    *state_bytes = 0;
    for (int i = 0; i < n; i++) {
        if (s[i].state) {
            s[i].offset = *state_bytes;
            *state_bytes += s[i].bytes;
        } else if (s[i].root == i) {
            order[roots++] = i;
        }
    }
    place_order best = 0;
    for (place_order how = 0; how < PLACE_ORDERS; how++) {
        const uint64_t total = place(s, order, roots, order + n, how);
        if (how && total >= *bytes) continue;
        *bytes = total;
        best = how;
    }
    place(s, order, roots, order + n, best);
    for (int i = 0; i < n; i++) s[i].offset = s[s[i].root].offset;
    free(order);
    return DC_OK;
}
