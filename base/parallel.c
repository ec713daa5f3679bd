#include "base/parallel.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- how many ------------------------------------------------------------------------------------------------ */

/* CPUs that a cgroup quota of "quota period" microseconds allows; 0: no limit. */
static int quota_cpus(double quota, double period) { return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0; }

static int cgroup_cpus(void)
{
    double quota = 0, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (f) {
        int n = fscanf(f, "%lf %lf", &quota, &period); /* "max 100000" reads nothing */
        fclose(f);
        return n == 2 ? quota_cpus(quota, period) : 0;
    }
    FILE *q = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r"), *p = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r");
    int n = q && p && fscanf(q, "%lf", &quota) == 1 && fscanf(p, "%lf", &period) == 1;
    if (q) fclose(q);
    if (p) fclose(p);
    return n ? quota_cpus(quota, period) : 0;
}

int dc_cpu_count(void)
{
    int n = (int)sysconf(_SC_NPROCESSORS_ONLN), limit = cgroup_cpus();
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) n = CPU_COUNT(&set);
    if (limit > 0 && limit < n) n = limit;
    return n > 0 ? n : 1;
}

/* ---- the pool -------------------------------------------------------------------------------------------------- */

/* A job is published by raising `round`; workers take indices from `next` until they run out and then count themselves
 * out in `busy`. Waiting is a spin of a third of a millisecond, then sleep on a condition: ops follow each other closely in a pass, and
 * waking up takes longer than many of them. */
#define SPINS 20000

struct dc_pool {
    int threads;
    pthread_t *worker; /* threads - 1 */
    int started;

    dc_task *task;
    void *ctx;
    int64_t n;
    const atomic_int *cancel;
    atomic_llong next;
    atomic_int busy;   /* workers that have not finished this round */
    atomic_uint round; /* changed under the mutex, read without */
    bool stop;

    pthread_mutex_t mutex;
    pthread_cond_t wake, done;
};

typedef struct worker_start {
    dc_pool *pool;
    int index;
} worker_start;

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void take_tasks(dc_pool *p, int thread)
{
    for (;;) {
        if (p->cancel && atomic_load_explicit(p->cancel, memory_order_relaxed)) return;
        int64_t i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (i >= p->n) return;
        p->task(p->ctx, i, thread);
    }
}

/* Waits until round differs from `seen`; returns the new one. */
static unsigned await_round(dc_pool *p, unsigned seen)
{
    for (int i = 0; i < SPINS; i++) {
        unsigned now = atomic_load_explicit(&p->round, memory_order_acquire);
        if (now != seen) return now;
        relax();
    }
    pthread_mutex_lock(&p->mutex);
    while (atomic_load_explicit(&p->round, memory_order_acquire) == seen) pthread_cond_wait(&p->wake, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
    return atomic_load_explicit(&p->round, memory_order_acquire);
}

static void *work(void *start)
{
    dc_pool *p = ((worker_start *)start)->pool;
    int index = ((worker_start *)start)->index;
    free(start);
    for (unsigned seen = 0;;) {
        seen = await_round(p, seen);
        if (p->stop) return NULL;
        take_tasks(p, index);
        if (atomic_fetch_sub_explicit(&p->busy, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&p->mutex);
            pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->mutex);
        }
    }
}

static void publish(dc_pool *p)
{
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add_explicit(&p->round, 1, memory_order_release);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
}

static void await_workers(dc_pool *p)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&p->busy, memory_order_acquire) == 0) return;
        relax();
    }
    pthread_mutex_lock(&p->mutex);
    while (atomic_load_explicit(&p->busy, memory_order_acquire) != 0) pthread_cond_wait(&p->done, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
}

dc_pool *dc_pool_new(int threads)
{
    if (threads <= 0) threads = dc_cpu_count();
    dc_pool *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->threads = threads;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    p->worker = calloc((size_t)threads, sizeof *p->worker);
    for (int i = 1; p->worker && i < threads; i++) {
        worker_start *start = malloc(sizeof *start);
        if (start) *start = (worker_start){p, i};
        if (!start || pthread_create(&p->worker[i - 1], NULL, work, start) != 0) {
            free(start);
            break;
        }
        p->started++;
    }
    if (p->worker && p->started == threads - 1) return p;
    dc_pool_free(p);
    return NULL;
}

void dc_pool_free(dc_pool *p)
{
    if (!p) return;
    p->stop = true;
    if (p->started) publish(p);
    for (int i = 0; i < p->started; i++) pthread_join(p->worker[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->done);
    pthread_mutex_destroy(&p->mutex);
    free(p->worker);
    free(p);
}

int dc_pool_threads(const dc_pool *p) { return p->threads; }

void dc_parallel_for(dc_pool *p, int64_t n, dc_task *task, void *ctx, const atomic_int *cancel)
{
    p->task = task;
    p->ctx = ctx;
    p->n = n;
    p->cancel = cancel;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    if (n > 1 && p->started) {
        atomic_store_explicit(&p->busy, p->started, memory_order_relaxed);
        publish(p);
        take_tasks(p, 0);
        await_workers(p);
    } else {
        take_tasks(p, 0);
    }
}
