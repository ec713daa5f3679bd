/* run.h - what ops.c needs of a pass; private to this folder. */
#ifndef DC_BACKENDS_RUN_H
#define DC_BACKENDS_RUN_H
#include "backends/backend.h"

dc_device *run_device(dc_run *r);
/* Begins an op: false when the op must do nothing (an error is set, or the pass is cancelled). */
bool run_begin_op(dc_run *r, const char *op);
/* The op reads (or writes again) t: it must live until now. */
void run_use(dc_run *r, dc_tensor t);
/* A new tensor, made by the op under way; it may take the memory of `instead` (or DC_NONE) if that dies here. */
dc_tensor run_new(dc_run *r, dc_dtype t, int rank, const int64_t *dim, dc_tensor instead);
/* Memory that lives for this op only. NULL while planning, or for 0 bytes. */
void *run_scratch(dc_run *r, uint64_t bytes);
/* Ends an op: while planning notes its cost; else takes the device's status. y describes its shape in the profile. */
void run_end_op(dc_run *r, dc_status s, dc_tensor y, uint64_t flops);
/* True when the op is really to be executed now (not planning, no error). */
bool run_executes(const dc_run *r);
/* For tests: a guard behind every tensor, and outputs filled with NaN first. Set before planning; host devices only. */
void dc_run_set_guard(dc_run *r, bool on);

#endif
