/* run.c - a pass: planned once without data, then repeated with data at the planned addresses. */
#include "backends/run.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- life ---------------------------------------------------------------------------------------------------- */

dc_run *dc_run_new(dc_device *d)
{
    dc_run *r = calloc(1, sizeof *r);
    if (r) r->device = d;
    return r;
}

void dc_run_free(dc_run *r)
{
    if (!r) return;
    dc_run_release(r);
    free(r->slots);
    free(r->ops);
    free(r->profile);
    free(r);
}

void dc_run_release(dc_run *r)
{
    if (!r) return;
    if (r->buffer) r->device->be->free(r->device, r->buffer, r->bytes);
    if (r->state) r->device->be->free(r->device, r->state, r->state_bytes);
    r->buffer = r->state = NULL;
}

bool dc_run_ok(const dc_run *r) { return r->err.code == DC_OK; }
bool dc_run_planning(const dc_run *r) { return r->mode == RUN_PLANNING; }
uint64_t dc_run_bytes(const dc_run *r) { return r->bytes + r->state_bytes; }
uint64_t dc_run_flops(const dc_run *r) { return r->flops; }

void dc_run_fail(dc_run *r, dc_status code, const char *format, ...)
{
    char text[768];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    dc_fail(&r->err, code, "%s%s%s", text, *r->scope ? ", in " : "", r->scope);
}

/* ---- ops and tensors ------------------------------------------------------------------------------------------- */

/* One more element at the end of a growing array; false (and the error) when memory is out. */
static bool grow(dc_run *r, void **at, int *room, int n, size_t size)
{
    if (n < *room) return true;
    int more = *room ? 2 * *room : 256;
    void *next = realloc(*at, (size_t)more * size);
    if (!next) {
        dc_fail_memory(&r->err, "a plan", (unsigned long long)more * size);
        return false;
    }
    *at = next;
    *room = more;
    return true;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The real pass must ask for the same ops as the plan, and between them for as many tensors. */
static bool follows_plan(dc_run *r, const char *op)
{
    const run_op *planned = r->next_op < r->n_ops ? &r->ops[r->next_op] : NULL;
    if (planned && !strcmp(planned->name, op) && planned->slots == r->next_slot) return true;
    dc_run_fail(r, DC_INTERNAL, "pass differs from its plan at op %d: found %s, expected %s", r->next_op, op, planned ? planned->name : "the end");
    return false;
}

bool run_begin_op(dc_run *r, const char *op)
{
    assert(r->mode != RUN_IDLE);
    if (r->err.code) return false;
    if (dc_cancelled(r->device)) {
        dc_fail(&r->err, DC_CANCELLED, "stopped");
        return false;
    }
    if (r->mode == RUN_PLANNING) {
        if (!grow(r, (void **)&r->ops, &r->op_room, r->n_ops, sizeof *r->ops)) return false;
        if (r->profiling && !grow(r, (void **)&r->profile, &r->profile_room, r->n_profile, sizeof *r->profile)) return false;
        if (r->profiling) r->profile[r->n_profile++] = (dc_profile_row){.op = op};
        r->ops[r->n_ops++] = (run_op){op, r->n_slots};
    } else if (!follows_plan(r, op)) {
        return false;
    }
    r->next_op++;
    if (r->profiling && r->mode == RUN_RUNNING) r->op_began = now();
    return true;
}

void run_use(dc_run *r, dc_tensor t)
{
    if (r->mode != RUN_PLANNING || dc_is_none(t) || t.id < 0) return;
    run_slot *s = &r->slots[t.id];
    if (s->last < r->next_op - 1) s->last = r->next_op - 1;
}

/* The next allocation: noted, or looked up and compared. -1 on error. */
static int32_t next_slot(dc_run *r, uint64_t size, bool state)
{
    if (r->mode == RUN_PLANNING) {
        if (!grow(r, (void **)&r->slots, &r->slot_room, r->n_slots, sizeof *r->slots)) return -1;
        uint64_t bytes = ((size ? size : 1) + RUN_ALIGN - 1) / RUN_ALIGN * RUN_ALIGN + (r->guard ? 2 * RUN_GUARD : 0);
        int32_t op = r->next_op - 1;
        r->slots[r->n_slots] = (run_slot){.size = size, .bytes = bytes, .first = op, .last = state ? RUN_FOREVER : op, .state = state};
        return r->n_slots++;
    }
    const run_slot *s = r->next_slot < r->n_slots ? &r->slots[r->next_slot] : NULL;
    if (!s || s->size != size || s->state != state) {
        dc_run_fail(r, DC_INTERNAL, "pass differs from its plan at tensor %d: found %llu bytes, expected %llu", r->next_slot,
                    (unsigned long long)size, s ? (unsigned long long)s->size : 0ull);
        return -1;
    }
    if (r->guard) run_guard_new(r, r->next_slot);
    return r->next_slot++;
}

static void *address(const dc_run *r, int32_t id)
{
    if (r->mode != RUN_RUNNING) return NULL;
    const run_slot *s = &r->slots[id];
    return (s->state ? r->state : r->buffer) + s->offset + (r->guard ? RUN_GUARD : 0);
}

static dc_tensor make_tensor(dc_run *r, dc_dtype t, int rank, const int64_t *dim, bool state)
{
    dc_tensor y = {.rank = (uint8_t)rank, .dtype = (uint8_t)t, .id = -1};
    uint64_t n = dc_dtype_size(t);
    if (r->err.code) return DC_NONE;
    for (int i = 0; i < rank; i++) {
        y.dim[i] = dim[i];
        if (dim[i] < 0 || __builtin_mul_overflow(n, (uint64_t)dim[i], &n) || n > (1ull << 46)) {
            dc_run_fail(r, DC_NO_MEMORY, "out of memory: a tensor of more than %llu bytes", 1ull << 46);
            return DC_NONE;
        }
    }
    y.stride = dim[rank - 1];
    y.id = next_slot(r, n, state);
    if (y.id < 0) return DC_NONE;
    y.data = address(r, y.id);
    return y;
}

dc_tensor run_new(dc_run *r, dc_dtype t, int rank, const int64_t *dim) { return make_tensor(r, t, rank, dim, false); }
dc_tensor run_new_state(dc_run *r, dc_dtype t, int rank, const int64_t *dim) { return make_tensor(r, t, rank, dim, true); }

void run_may_take(dc_run *r, dc_tensor y, dc_tensor x)
{
    if (r->mode != RUN_PLANNING || dc_is_none(y) || dc_is_none(x) || x.id < 0) return;
    run_slot *s = &r->slots[y.id];
    if (s->n_instead < RUN_TAKE) s->instead[s->n_instead++] = x.id;
}

void *run_scratch(dc_run *r, uint64_t bytes)
{
    if (!bytes || r->err.code) return NULL;
    int32_t id = next_slot(r, bytes, false);
    return id < 0 ? NULL : address(r, id);
}

/* ---- the end of an op: status, profile, guards ------------------------------------------------------------------- */

static void describe(const dc_run *r, dc_profile_row *row, dc_tensor y, uint64_t flops)
{
    size_t at = 0;
    row->flops = flops;
    for (int i = 0; i < y.rank; i++) at += (size_t)snprintf(row->shape + at, sizeof row->shape - at, "%s%lld", i ? "x" : "", (long long)y.dim[i]);
    snprintf(row->scope, sizeof row->scope, "%s", r->scope);
}

void run_end_op(dc_run *r, dc_status s, dc_tensor y, uint64_t flops)
{
    if (s == DC_CANCELLED) dc_fail(&r->err, s, "stopped");
    else if (s) dc_run_fail(r, s, "%s failed on device %s", r->ops[r->next_op - 1].name, r->device->be->name);
    if (r->mode == RUN_PLANNING) {
        r->flops += flops;
        if (run_row(r)) describe(r, run_row(r), y, flops);
        return;
    }
    if (r->profiling && r->next_op <= r->n_profile) {
        if (r->device->be->sync) r->device->be->sync(r->device);
        r->profile[r->next_op - 1].seconds += now() - r->op_began;
        r->profile[r->next_op - 1].calls++;
    }
    if (r->guard && !r->err.code) {
        if (r->device->be->sync) r->device->be->sync(r->device);
        run_guard_end(r, r->next_op - 1);
    }
}

void dc_run_set_profile(dc_run *r, bool on) { r->profiling = on; }

int dc_run_profile(const dc_run *r, const dc_profile_row **rows)
{
    *rows = r->profile;
    return r->profiling ? r->n_profile : 0;
}

/* ---- passes -------------------------------------------------------------------------------------------------------- */

static void begin(dc_run *r, run_mode m)
{
    r->mode = m;
    r->err = (dc_error){0};
    r->next_op = r->next_slot = r->scopes = 0;
    r->scope[0] = 0;
}

static dc_status finish(dc_run *r, dc_error *e)
{
    r->mode = RUN_IDLE;
    if (r->err.code && e && !e->code) *e = r->err;
    return r->err.code;
}

dc_status dc_run_plan(dc_run *r, dc_pass_fn *pass, void *ctx, dc_error *e)
{
    dc_run_release(r);
    r->n_slots = r->n_ops = r->n_profile = 0;
    r->flops = r->bytes = r->state_bytes = 0;
    r->planned = false;
    r->guard = r->wants_guard;
    begin(r, RUN_PLANNING);
    pass(ctx, r);
    if (!r->err.code) run_assign(r->slots, r->n_slots, &r->bytes, &r->state_bytes, &r->err);
    r->planned = !r->err.code;
    return finish(r, e);
}

static dc_status fill_with_zeros(dc_device *d, uint8_t *to, uint64_t bytes)
{
    static const uint8_t zeros[4096];
    dc_status s = DC_OK;
    for (uint64_t at = 0; !s && at < bytes; at += sizeof zeros)
        s = d->be->upload(d, to + at, zeros, bytes - at < sizeof zeros ? bytes - at : sizeof zeros);
    return s;
}

dc_status dc_run_reserve(dc_run *r, dc_error *e)
{
    assert(r->planned);
    dc_device *d = r->device;
    dc_status s = DC_OK;
    if (!r->buffer && r->bytes) r->buffer = d->be->alloc(d, r->bytes);
    if (!r->state && r->state_bytes) {
        r->state = d->be->alloc(d, r->state_bytes);
        if (r->state) s = fill_with_zeros(d, r->state, r->state_bytes);
    }
    if ((r->bytes && !r->buffer) || (r->state_bytes && !r->state)) s = dc_fail_memory(e, "the working memory", dc_run_bytes(r));
    else if (s) dc_fail(e, s, "device %s: cannot write its memory", d->be->name);
    if (s) dc_run_release(r);
    return s;
}

dc_status dc_run_pass(dc_run *r, dc_pass_fn *pass, void *ctx, dc_error *e)
{
    assert(r->planned && (r->buffer || !r->bytes) && (r->state || !r->state_bytes));
    begin(r, RUN_RUNNING);
    if (r->guard) run_guard_begin(r);
    pass(ctx, r);
    if (!r->err.code && (r->next_op != r->n_ops || r->next_slot != r->n_slots))
        dc_run_fail(r, DC_INTERNAL, "pass differs from its plan: found %d ops, expected %d", r->next_op, r->n_ops);
    if (!r->err.code && r->device->be->sync) {
        dc_status s = r->device->be->sync(r->device);
        if (s) dc_run_fail(r, s, "device %s failed", r->device->be->name);
    }
    return finish(r, e);
}
