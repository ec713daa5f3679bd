/* parallel.h - the thread pool. Work is split by output tiles, never by reduction order, so results do not
 * depend on the number of threads. */
#ifndef DC_BASE_PARALLEL_H
#define DC_BASE_PARALLEL_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

typedef struct dc_pool dc_pool;

/* Usable CPUs of this process: affinity mask and cgroup quota considered; at least 1. */
int dc_cpu_count(void);

/* threads <= 0: dc_cpu_count(). The calling thread is one of them. NULL when threads or memory are out. */
dc_pool *dc_pool_new(int threads);
void dc_pool_free(dc_pool *p); /* NULL is fine */
int dc_pool_threads(const dc_pool *p);

/* task(ctx, i, thread) for every i in [0, n), thread in [0, threads). Tasks are handed out dynamically.
 * Not reentrant: one caller at a time, and a task must not call it on the same pool.
 * When *cancel becomes non-zero, tasks not yet begun are skipped (cancel may be NULL). */
typedef void dc_task(void *ctx, int64_t i, int thread);
void dc_parallel_for(dc_pool *p, int64_t n, dc_task *task, void *ctx, const atomic_int *cancel);

#endif
