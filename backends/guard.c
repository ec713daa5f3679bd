/* guard.c - what tests switch on to catch an op that writes where it must not, or reads what nobody wrote: patterns around every
 * tensor, and NaN in everything that is not alive. Works on devices whose memory the host can touch. */
#include "backends/run.h"
#include <string.h>

enum { PATTERN = 0xa5, POISON = 0xff /* as float a NaN, as an id -1 */ };

void dc_run_set_guard(dc_run *r, bool on) { r->wants_guard = on; }

static uint8_t *block(const dc_run *r, const run_slot *s) { return (s->state ? r->state : r->buffer) + s->offset; }

static void set_pattern(const dc_run *r, const run_slot *s)
{
    memset(block(r, s), PATTERN, RUN_GUARD);
    memset(block(r, s) + RUN_GUARD + s->size, PATTERN, s->bytes - RUN_GUARD - s->size);
}

static bool pattern_is_whole(const dc_run *r, const run_slot *s)
{
    const uint8_t *at = block(r, s);
    for (uint64_t i = 0; i < s->bytes; i++) {
        if (i == RUN_GUARD) i += s->size;
        if (at[i] != PATTERN) return false;
    }
    return true;
}

void run_guard_begin(dc_run *r)
{
    if (r->buffer) memset(r->buffer, POISON, r->bytes);
    for (int i = 0; i < r->n_slots; i++)
        if (r->slots[i].state) set_pattern(r, &r->slots[i]);
}

void run_guard_new(dc_run *r, int id)
{
    const run_slot *s = &r->slots[id];
    if (s->state || s->root != id) return; /* has a content already */
    set_pattern(r, s);
    memset(block(r, s) + RUN_GUARD, POISON, s->size);
}

void run_guard_end(dc_run *r, int op)
{
    for (int i = 0; i < r->n_slots; i++) {
        const run_slot *s = &r->slots[i];
        if (!s->state && (s->first > op || s->last < op)) continue;
        if (!pattern_is_whole(r, s)) {
            dc_run_fail(r, DC_INTERNAL, "%s (op %d) wrote outside of its tensors, next to tensor %d of %llu bytes", r->ops[op].name, op, i,
                        (unsigned long long)s->size);
            return;
        }
        if (s->last == op && !s->given) memset(block(r, s) + RUN_GUARD, POISON, s->size);
    }
}
