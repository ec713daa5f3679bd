/* queue.h - the work of a pass: noted call by call, then given to the GPU whole. What comes for the third time with the same bytes (a sampler's
 * step) is replayed as one graph: one launch in place of a thousand. What changes from step to step (uploads, factors) is data in staging
 * memory, never an argument. */
#ifndef DC_BACKENDS_CUDA_QUEUE_H
#define DC_BACKENDS_CUDA_QUEUE_H
#include "backends/cuda/gpu.h"

#define QUEUE_GRAPHS 16

/* Work that was seen before. */
typedef struct queue_seen {
    uint8_t *calls;
    size_t bytes;
    int times;
    gpu_graph *graph; /* NULL: it cannot be one, or was not yet */
    uint64_t used;    /* when, in flushes */
} queue_seen;

typedef struct queue {
    gpu *g;
    uint8_t *calls; /* function, size, arguments of each, one behind the other */
    size_t bytes, room;
    int count;
    uint8_t *staging; /* page-locked */
    size_t staged;
    queue_seen seen[QUEUE_GRAPHS];
    uint64_t flushes, replays; /* replays: for tests */
    dc_status status;          /* the first failure since the last wait */
} queue;

dc_status queue_open(queue *q, gpu *g); /* NO_MEMORY */
void queue_close(queue *q);
/* args: `bytes` of plain values, without bytes that say nothing. Never fails at once: queue_wait tells. */
void queue_call(queue *q, gpu_work *work, const void *args, size_t bytes);
#define QUEUE(q, work, args) queue_call(q, work, &(args), sizeof(args))
/* `to` gets what is at `host` now. */
void queue_upload(queue *q, void *to, const void *host, size_t bytes);
/* All is done when it returns. IO, NO_MEMORY. */
dc_status queue_wait(queue *q);

#endif
