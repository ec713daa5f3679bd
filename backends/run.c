/* run.c - a pass: planned once without data, then repeated with data at the planned addresses. */
#include "backends/run.h"
#include "base/text.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ALIGN 64u
#define GUARD 64u
#define FOREVER INT32_MAX

/* One allocation of the plan. Slots that share memory (in place) form a chain that ends in its root. */
typedef struct slot {
    uint64_t bytes, offset;
    int32_t  first, last; /* ops between which it lives */
    int32_t  root;        /* slot whose memory it takes; itself when it has its own */
    int32_t  instead;     /* candidate to share with, or -1 */
    bool     state, taken; /* taken: somebody shares its memory already */
} slot;

/* One op of the plan, to check the real pass against. */
typedef struct planned_op { const char *name; int32_t slots; } planned_op;

typedef enum mode { IDLE, PLANNING, RUNNING } mode;

struct dc_run {
    dc_device      *device;
    dc_error        err;
    mode            mode;
    bool            planned, guard, profiling;
    slot           *slots;
    int             n_slots, slot_room, next_slot;
    planned_op     *ops;
    int             n_ops, op_room, next_op; /* next_op - 1 is the op under way */
    uint64_t        bytes, state_bytes, flops;
    uint8_t        *buffer, *state;
    dc_tap_fn      *tap;
    void           *tap_user;
    char            scope[160];
    int             scope_end[16], scopes;
    dc_profile_row *profile; /* one an op */
    double          op_began;
};

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

bool       dc_run_ok(const dc_run *r) { return r->err.code == DC_OK; }
bool       dc_run_planning(const dc_run *r) { return r->mode == PLANNING; }
uint64_t   dc_run_bytes(const dc_run *r) { return r->bytes + r->state_bytes; }
uint64_t   dc_run_flops(const dc_run *r) { return r->flops; }
dc_device *run_device(dc_run *r) { return r->device; }
bool       run_executes(const dc_run *r) { return r->mode == RUNNING && r->err.code == DC_OK; }
void       dc_run_set_guard(dc_run *r, bool on) { r->guard = on; }

void dc_run_fail(dc_run *r, dc_status code, const char *format, ...)
{
    char    text[768];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    dc_fail(&r->err, code, "%s%s%s", text, *r->scope ? " in " : "", r->scope);
}

/* ---- recording --------------------------------------------------------------------------------------------------- */

/* One more element at the end of a growing array; false (and the error) when memory is out. */
static bool grow(dc_run *r, void **at, int *room, int n, size_t size)
{
    if (n < *room) return true;
    int   more = *room ? 2 * *room : 256;
    void *next = realloc(*at, (size_t)more * size);
    if (!next) return dc_fail_memory(&r->err, "a plan", (unsigned long long)more * size), false;
    *at   = next;
    *room = more;
    return true;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool run_begin_op(dc_run *r, const char *op)
{
    assert(r->mode != IDLE);
    if (r->err.code) return false;
    if (dc_cancelled(r->device)) {
        dc_fail(&r->err, DC_CANCELLED, "stopped");
        return false;
    }
    if (r->mode == PLANNING) {
        if (!grow(r, (void **)&r->ops, &r->op_room, r->n_ops, sizeof *r->ops)) return false;
        r->ops[r->n_ops++] = (planned_op){op, r->n_slots};
    } else if (r->next_op >= r->n_ops || strcmp(r->ops[r->next_op].name, op) || r->ops[r->next_op].slots != r->next_slot) {
        dc_run_fail(r, DC_INTERNAL, "pass differs from its plan at op %d: found %s, expected %s", r->next_op, op, r->next_op < r->n_ops ? r->ops[r->next_op].name : "the end");
        return false;
    }
    r->next_op++;
    if (r->profiling && r->mode == RUNNING) r->op_began = now();
    return true;
}

void run_use(dc_run *r, dc_tensor t)
{
    if (r->mode != PLANNING || dc_is_none(t) || t.id < 0) return;
    slot *s = &r->slots[t.id];
    if (s->last < r->next_op - 1) s->last = r->next_op - 1;
}

static uint64_t aligned(uint64_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }

/* The next allocation: planned, or looked up and compared. -1 on error. */
static int32_t next_slot(dc_run *r, uint64_t bytes, int32_t instead, bool state)
{
    bytes = aligned(bytes ? bytes : 1) + (r->guard ? GUARD : 0);
    if (r->mode == PLANNING) {
        if (!grow(r, (void **)&r->slots, &r->slot_room, r->n_slots, sizeof *r->slots)) return -1;
        int32_t op            = r->next_op - 1;
        r->slots[r->n_slots] = (slot){.bytes = bytes, .first = op, .last = state ? FOREVER : op, .root = r->n_slots, .instead = instead, .state = state};
        return r->n_slots++;
    }
    if (r->next_slot >= r->n_slots || r->slots[r->next_slot].bytes != bytes || r->slots[r->next_slot].state != state) {
        dc_run_fail(r, DC_INTERNAL, "pass differs from its plan at allocation %d: found %llu bytes, expected %llu", r->next_slot, (unsigned long long)bytes,
                    r->next_slot < r->n_slots ? (unsigned long long)r->slots[r->next_slot].bytes : 0ull);
        return -1;
    }
    return r->next_slot++;
}

static void *address(const dc_run *r, int32_t id)
{
    if (r->mode != RUNNING) return NULL;
    const slot *s = &r->slots[id];
    return (s->state ? r->state : r->buffer) + s->offset;
}

static dc_tensor make_tensor(dc_run *r, dc_dtype t, int rank, const int64_t *dim, int32_t instead, bool state)
{
    dc_tensor y = {.rank = (uint8_t)rank, .dtype = (uint8_t)t, .id = -1};
    uint64_t  n = dc_dtype_size(t);
    for (int i = 0; i < rank; i++) {
        y.dim[i] = dim[i];
        if (dim[i] < 0 || __builtin_mul_overflow(n, (uint64_t)dim[i], &n) || n > (1ull << 46)) {
            dc_run_fail(r, DC_NO_MEMORY, "tensor too large: %llu bytes and more", (unsigned long long)n);
            return DC_NONE;
        }
    }
    y.stride = dim[rank - 1];
    y.id     = next_slot(r, n, instead, state);
    if (y.id < 0) return DC_NONE;
    y.data = address(r, y.id);
    return y;
}

dc_tensor run_new(dc_run *r, dc_dtype t, int rank, const int64_t *dim, dc_tensor instead)
{
    return make_tensor(r, t, rank, dim, dc_is_none(instead) ? -1 : instead.id, false);
}

void *run_scratch(dc_run *r, uint64_t bytes)
{
    if (!bytes || r->err.code) return NULL;
    int32_t id = next_slot(r, bytes, -1, false);
    return id < 0 ? NULL : address(r, id);
}

static void describe(dc_run *r, dc_tensor y, uint64_t flops)
{
    dc_profile_row *rows = realloc(r->profile, (size_t)r->n_ops * sizeof *rows);
    if (!rows) return;
    r->profile          = rows;
    dc_profile_row *row = &rows[r->n_ops - 1];
    *row                = (dc_profile_row){.op = r->ops[r->n_ops - 1].name, .flops = flops};
    size_t at           = 0;
    for (int i = 0; i < y.rank; i++) at += (size_t)snprintf(row->shape + at, sizeof row->shape - at, "%s%lld", i ? "x" : "", (long long)y.dim[i]);
    snprintf(row->scope, sizeof row->scope, "%s", r->scope);
}

void run_end_op(dc_run *r, dc_status s, dc_tensor y, uint64_t flops)
{
    if (s && !r->err.code) {
        if (s == DC_CANCELLED) dc_fail(&r->err, s, "stopped");
        else dc_run_fail(r, s, "%s failed on %s", r->ops[r->next_op - 1].name, r->device->be->name);
    }
    if (r->mode == PLANNING) {
        r->flops += flops;
        if (r->profiling) describe(r, y, flops);
    } else if (r->profiling && r->profile) {
        if (r->device->be->sync) r->device->be->sync(r->device);
        r->profile[r->next_op - 1].seconds += now() - r->op_began;
        r->profile[r->next_op - 1].calls++;
    }
}

/* ---- assigning memory ------------------------------------------------------------------------------------------------ */

/* y may take x's memory when x dies in the very op that makes y, has the same size, and nobody else took it. */
static void share_in_place(dc_run *r)
{
    for (int i = 0; i < r->n_slots; i++) {
        slot *y = &r->slots[i];
        if (y->instead < 0 || y->state) continue;
        slot *x = &r->slots[y->instead];
        if (x->state || x->taken || x->last != y->first || x->bytes != y->bytes) continue;
        y->root  = x->root;
        x->taken = true;
        if (r->slots[x->root].last < y->last) r->slots[x->root].last = y->last;
    }
}

/* Order of two slots: larger first, then older first. */
static bool comes_first(const slot *s, int a, int b) { return s[a].bytes != s[b].bytes ? s[a].bytes > s[b].bytes : a < b; }

static void sift_down(int *order, int n, int at, const slot *s)
{
    for (int child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && comes_first(s, order[child], order[child + 1])) child++;
        if (!comes_first(s, order[at], order[child])) return;
        int held     = order[at];
        order[at]    = order[child];
        order[child] = held;
    }
}

/* Heap sort: the C library's qsort takes no context. */
static void sort_by_size(int *order, int n, const slot *s)
{
    for (int i = n / 2 - 1; i >= 0; i--) sift_down(order, n, i, s);
    for (int end = n - 1; end > 0; end--) {
        int held   = order[0];
        order[0]   = order[end];
        order[end] = held;
        sift_down(order, end, 0, s);
    }
}

static bool overlap(const slot *a, const slot *b) { return a->first <= b->last && b->first <= a->last; }

/* Largest first, each at the best-fitting gap among the blocks that live at the same time. `placed` is kept in offset order. */
static uint64_t place(slot *s, const int *order, int n, int *placed)
{
    uint64_t total = 0;
    int      count = 0;
    for (int k = 0; k < n; k++) {
        slot    *x = &s[order[k]];
        uint64_t end = 0, best = UINT64_MAX, best_gap = UINT64_MAX;
        for (int i = 0; i < count; i++) {
            const slot *y = &s[placed[i]];
            if (!overlap(x, y)) continue;
            if (y->offset > end && y->offset - end >= x->bytes && y->offset - end < best_gap) {
                best     = end;
                best_gap = y->offset - end;
            }
            if (y->offset + y->bytes > end) end = y->offset + y->bytes;
        }
        x->offset = best == UINT64_MAX ? end : best;
        if (x->offset + x->bytes > total) total = x->offset + x->bytes;
        int at = count++;
        for (; at > 0 && s[placed[at - 1]].offset > x->offset; at--) placed[at] = placed[at - 1];
        placed[at] = order[k];
    }
    return total;
}

static dc_status assign(dc_run *r)
{
    int *order = malloc(sizeof(int) * (size_t)(2 * r->n_slots + 1)), n = 0;
    if (!order) return dc_fail_memory(&r->err, "a plan", sizeof(int) * 2ull * (unsigned)r->n_slots);
    share_in_place(r);
    r->state_bytes = 0;
    for (int i = 0; i < r->n_slots; i++) {
        slot *s = &r->slots[i];
        if (s->state) {
            s->offset = r->state_bytes;
            r->state_bytes += s->bytes;
        } else if (s->root == i) {
            order[n++] = i;
        }
    }
    sort_by_size(order, n, r->slots);
    r->bytes = place(r->slots, order, n, order + r->n_slots);
    for (int i = 0; i < r->n_slots; i++) r->slots[i].offset = r->slots[r->slots[i].root].offset;
    free(order);
    return DC_OK;
}

/* ---- passes ------------------------------------------------------------------------------------------------------------- */

static void begin(dc_run *r, mode m)
{
    r->mode      = m;
    r->err       = (dc_error){0};
    r->next_op   = 0;
    r->next_slot = 0;
    r->scopes    = 0;
    r->scope[0]  = 0;
}

static dc_status finish(dc_run *r, dc_error *e)
{
    r->mode = IDLE;
    if (r->err.code && e && !e->code) *e = r->err;
    return r->err.code;
}

dc_status dc_run_plan(dc_run *r, dc_pass_fn *pass, void *ctx, dc_error *e)
{
    dc_run_release(r);
    r->n_slots = r->n_ops = 0;
    r->flops = r->bytes = r->state_bytes = 0;
    r->planned                           = false;
    begin(r, PLANNING);
    pass(ctx, r);
    if (!r->err.code) assign(r);
    r->planned = !r->err.code;
    return finish(r, e);
}

dc_status dc_run_reserve(dc_run *r, dc_error *e)
{
    assert(r->planned);
    if (!r->buffer && r->bytes) r->buffer = r->device->be->alloc(r->device, r->bytes);
    if (!r->state && r->state_bytes && (r->state = r->device->be->alloc(r->device, r->state_bytes)) != NULL) {
        static const uint8_t zeros[4096];
        for (uint64_t at = 0; at < r->state_bytes; at += sizeof zeros) {
            uint64_t n = r->state_bytes - at < sizeof zeros ? r->state_bytes - at : sizeof zeros;
            r->device->be->upload(r->device, r->state + at, zeros, n);
        }
    }
    if ((r->buffer || !r->bytes) && (r->state || !r->state_bytes)) return DC_OK;
    dc_run_release(r);
    return dc_fail_memory(e, "the activations", r->bytes + r->state_bytes);
}

/* Guards: the pattern behind every tensor must survive the pass. */
static void set_guards(dc_run *r)
{
    memset(r->buffer, 0xff, r->bytes); /* NaN everywhere */
    for (int i = 0; i < r->n_slots; i++)
        if (r->slots[i].state) memset(r->state + r->slots[i].offset + r->slots[i].bytes - GUARD, 0xa5, GUARD);
}

static void check_guards(dc_run *r)
{
    for (int i = 0; i < r->n_slots; i++) {
        const slot *s = &r->slots[i];
        if (!s->state) continue;
        const uint8_t *at = r->state + s->offset + s->bytes - GUARD;
        for (unsigned k = 0; k < GUARD; k++)
            if (at[k] != 0xa5) dc_run_fail(r, DC_INTERNAL, "something wrote behind state tensor %d", i);
    }
}

dc_status dc_run_pass(dc_run *r, dc_pass_fn *pass, void *ctx, dc_error *e)
{
    assert(r->planned && (r->buffer || !r->bytes));
    if (r->guard) set_guards(r);
    begin(r, RUNNING);
    pass(ctx, r);
    if (!r->err.code && (r->next_op != r->n_ops || r->next_slot != r->n_slots))
        dc_run_fail(r, DC_INTERNAL, "pass differs from its plan: found %d ops, expected %d", r->next_op, r->n_ops);
    if (!r->err.code && r->device->be->sync) {
        dc_status s = r->device->be->sync(r->device);
        if (s) dc_run_fail(r, s, "device %s failed", r->device->be->name);
    }
    if (r->guard && !r->err.code) check_guards(r);
    return finish(r, e);
}

void dc_run_set_profile(dc_run *r, bool on) { r->profiling = on; }

int dc_run_profile(const dc_run *r, const dc_profile_row **rows)
{
    *rows = r->profile;
    return r->profile && r->profiling ? r->n_ops : 0;
}

/* ---- taps --------------------------------------------------------------------------------------------------------------- */

void dc_run_set_tap(dc_run *r, dc_tap_fn *fn, void *user)
{
    r->tap      = fn;
    r->tap_user = user;
}

bool dc_tapping(const dc_run *r) { return r->tap != NULL; }

void dc_scope(dc_run *r, const char *format, ...)
{
    size_t  at = strlen(r->scope);
    va_list args;
    assert(r->scopes < (int)(sizeof r->scope_end / sizeof *r->scope_end));
    r->scope_end[r->scopes++] = (int)at;
    if (at && at + 2 < sizeof r->scope) r->scope[at++] = '.';
    va_start(args, format);
    vsnprintf(r->scope + at, sizeof r->scope - at, format, args);
    va_end(args);
}

void dc_scope_end(dc_run *r)
{
    assert(r->scopes > 0);
    r->scope[r->scope_end[--r->scopes]] = 0;
}

/* [N,H,W,C] to [N,C,H,W]; other ranks as they are. */
static void to_nchw(const float *in, dc_tensor t, float *out, int64_t *dim)
{
    for (int i = 0; i < 4; i++) dim[i] = t.dim[i];
    if (t.rank != 4) {
        memcpy(out, in, (size_t)dc_numel(t) * sizeof(float));
        return;
    }
    int64_t C = t.dim[3], area = t.dim[1] * t.dim[2];
    for (int64_t n = 0; n < t.dim[0]; n++)
        for (int64_t p = 0; p < area; p++)
            for (int64_t c = 0; c < C; c++) out[(n * C + c) * area + p] = in[(n * area + p) * C + c];
    dim[1] = C;
    dim[2] = t.dim[1];
    dim[3] = t.dim[2];
}

static void call_tap(dc_run *r, const char *name, dc_tensor t)
{
    size_t  bytes = (size_t)dc_numel(t) * sizeof(float);
    float  *raw = malloc(bytes), *out = malloc(bytes);
    int64_t dim[4];
    char    full[240];
    if (!raw || !out) {
        dc_fail_memory(&r->err, "a named activation", 2 * bytes);
    } else {
        size_t row = (size_t)dc_channels(t) * sizeof(float);
        for (int64_t i = 0; i < dc_rows(t); i++) r->device->be->download(r->device, (char *)raw + (size_t)i * row, (const float *)t.data + i * t.stride, row);
        to_nchw(raw, t, out, dim);
        snprintf(full, sizeof full, "%s%s%s", r->scope, *r->scope && *name ? "." : "", name);
        r->tap(r->tap_user, full, out, t.rank, dim);
    }
    free(raw);
    free(out);
}

void dc_tap(dc_run *r, const char *name, dc_tensor t)
{
    if (!r->tap || dc_is_none(t) || t.dtype != DC_F32 || !run_begin_op(r, "tap")) return;
    run_use(r, t);
    if (run_executes(r)) call_tap(r, name, t);
    run_end_op(r, r->err.code, t, 0);
}

/* ---- in and out ------------------------------------------------------------------------------------------------------------ */

dc_tensor dc_upload(dc_run *r, dc_dtype t, int rank, const int64_t *dim, const void *host)
{
    if (!run_begin_op(r, "upload")) return DC_NONE;
    dc_tensor y = make_tensor(r, t, rank, dim, -1, false);
    dc_status s = DC_OK;
    if (run_executes(r)) s = r->device->be->upload(r->device, y.data, host, (uint64_t)dc_numel(y) * dc_dtype_size(t));
    run_end_op(r, s, y, 0);
    return y;
}

void dc_download(dc_run *r, dc_tensor t, void *host)
{
    if (dc_is_none(t) || !run_begin_op(r, "download")) return;
    run_use(r, t);
    dc_status s    = DC_OK;
    size_t    size = dc_dtype_size((dc_dtype)t.dtype), row = (size_t)dc_channels(t) * size;
    bool      dense = t.stride == dc_channels(t);
    if (run_executes(r) && dense) s = r->device->be->download(r->device, host, t.data, (uint64_t)dc_numel(t) * size);
    for (int64_t i = 0; !dense && !s && run_executes(r) && i < dc_rows(t); i++)
        s = r->device->be->download(r->device, (char *)host + (size_t)i * row, (const char *)t.data + (size_t)(i * t.stride) * size, row);
    run_end_op(r, s, t, 0);
}

dc_tensor dc_new(dc_run *r, dc_dtype t, int rank, const int64_t *dim)
{
    if (!run_begin_op(r, "new")) return DC_NONE;
    dc_tensor y = make_tensor(r, t, rank, dim, -1, false);
    run_end_op(r, DC_OK, y, 0);
    return y;
}

dc_tensor dc_state(dc_run *r, dc_dtype t, int rank, const int64_t *dim)
{
    if (!run_begin_op(r, "state")) return DC_NONE;
    dc_tensor y = make_tensor(r, t, rank, dim, -1, true);
    run_end_op(r, DC_OK, y, 0);
    return y;
}

void dc_keep(dc_run *r, dc_tensor t)
{
    if (r->mode == PLANNING && !r->err.code && t.id >= 0) r->slots[t.id].last = FOREVER;
}
