/* run.h - the inside of a pass: what ops.c, plan.c and taps.c need of it. Private to this folder (and to tests). */
#ifndef DC_BACKENDS_RUN_H
#define DC_BACKENDS_RUN_H
#include "backends/backend.h"

/* ---- the plan ------------------------------------------------------------------------------------------------ */

#define RUN_ALIGN   64u
#define RUN_GUARD   64u /* guard bytes before and behind each tensor when guards are on */
#define RUN_TAKE    8
#define RUN_FOREVER INT32_MAX /* `last` of kept tensors and of states */

/* One allocation of the plan. Slots that share memory (in place) form a chain that ends in its root. */
typedef struct run_slot {
    uint64_t size;                        /* bytes asked for */
    uint64_t bytes, offset;               /* of the block: size rounded up to RUN_ALIGN, plus guards */
    int32_t first, last;                  /* ops between which it lives, both included */
    int32_t instead[RUN_TAKE], n_instead; /* slots whose memory it may take */
    int32_t root;                         /* slot whose memory it takes; itself when it has its own */
    int32_t owned_until;                  /* of a root: the last op of its chain */
    bool state, given;                    /* state: lives in an area of its own; given: another slot took its memory */
} run_slot;

/* Decides who shares memory and where everything lies; fills root, owned_until, given, offset.
 * *bytes: of the area of all slots but states, *state_bytes: of the states'. Errors: NO_MEMORY. */
dc_status run_assign(run_slot *s, int n, uint64_t *bytes, uint64_t *state_bytes, dc_error *e);

/* ---- the run --------------------------------------------------------------------------------------------------- */

/* One op of the plan, to check the real pass against. */
typedef struct run_op {
    const char *name;
    int32_t slots;
} run_op;

typedef enum run_mode { RUN_IDLE, RUN_PLANNING, RUN_RUNNING } run_mode;

struct dc_run {
    dc_device *device;
    dc_error err; /* of this pass; the first one stays */
    run_mode mode;
    bool planned, guard, wants_guard, profiling; /* guard: of the plan */
    run_slot *slots;
    run_op *ops;
    int n_slots, slot_room, next_slot;
    int n_ops, op_room, next_op; /* next_op - 1 is the op under way */
    uint64_t bytes, state_bytes, flops;
    uint8_t *buffer, *state;
    char scope[160];
    int scope_end[16], scopes; /* lengths of `scope` before each open one */
    dc_tap_fn *tap;
    void *tap_user;
    dc_profile_row *profile; /* one an op, begun with it */
    int n_profile, profile_room;
    double op_began;
};

/* Begins an op: false when the op must do nothing (an error is set, or the pass is cancelled). */
bool run_begin_op(dc_run *r, const char *op);
/* The op reads (or writes again) t: it must live until now. */
void run_use(dc_run *r, dc_tensor t);
/* A new tensor, made by the op under way. DC_NONE on error. */
dc_tensor run_new(dc_run *r, dc_dtype t, int rank, const int64_t *dim);
/* y, just made, may take the memory of x, which the op reads element by element, if x is last used here. Nothing happens when x is
 * DC_NONE, borrowed, or a part of a larger tensor (sizes are compared). The caller sees to it that no other input
 * looks into x in another way. */
void run_may_take(dc_run *r, dc_tensor y, dc_tensor x);
dc_tensor run_new_state(dc_run *r, dc_dtype t, int rank, const int64_t *dim);
/* Memory that lives for this op only. NULL while planning, or for 0 bytes. */
void *run_scratch(dc_run *r, uint64_t bytes);
/* Ends an op: while planning notes its cost; else takes the device's status. y describes its shape in the profile. */
void run_end_op(dc_run *r, dc_status s, dc_tensor y, uint64_t flops);
/* While a profiled pass is planned: the row of the op under way, for what run_end_op does not know. Else NULL. */
static inline dc_profile_row *run_row(const dc_run *r)
{
    return r->mode == RUN_PLANNING && r->profiling && !r->err.code ? &r->profile[r->n_profile - 1] : NULL;
}
/* True when the op is really to be executed now (not planning, no error). */
static inline bool run_executes(const dc_run *r) { return r->mode == RUN_RUNNING && r->err.code == DC_OK; }

/* ---- guards, for tests ------------------------------------------------------------------------------------------- */

/* Fills what an op gets (outputs, scratch) with NaN, what is no longer used with NaN again, and surrounds every tensor with a
 * pattern that must survive each op; INTERNAL names the op that broke it. Counts from the next planning on; host devices only. */
void dc_run_set_guard(dc_run *r, bool on);
void run_guard_begin(dc_run *r);       /* a pass begins: states */
void run_guard_new(dc_run *r, int id); /* slot `id` begins to live */
void run_guard_end(dc_run *r, int op); /* op `op` has run */

#endif
