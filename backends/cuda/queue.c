/* queue.c - calls in an arena whose bytes are their identity; staging; graphs. */
#include "backends/cuda/queue.h"
#include <stdlib.h>
#include <string.h>

enum { STAGING = 4 << 20, FEW = 8 };

typedef struct call {
    gpu_work *work;
    uint64_t bytes; /* of the arguments behind it, a multiple of 8 */
} call;

dc_status queue_open(queue *q, gpu *g)
{
    *q = (queue){.g = g, .staging = gpu_alloc_host(g, STAGING)};
    return q->staging ? DC_OK : DC_NO_MEMORY;
}

static void forget(queue *q, queue_seen *s)
{
    gpu_graph_free(q->g, s->graph);
    free(s->calls);
    *s = (queue_seen){0};
}

void queue_close(queue *q)
{
    for (int i = 0; i < QUEUE_GRAPHS; i++) forget(q, &q->seen[i]);
    free(q->calls);
    gpu_free_host(q->g, q->staging);
    *q = (queue){0};
}

static void keep(queue *q, dc_status s)
{
    if (!q->status) q->status = s;
}

void queue_call(queue *q, gpu_work *work, const void *args, size_t bytes)
{
    const call c = {work, (bytes + 7) / 8 * 8};
    const size_t need = q->bytes + sizeof c + c.bytes;
    if (need > q->room) {
        const size_t room = 2 * need + 4096;
        uint8_t *calls = realloc(q->calls, room);
        if (!calls) return keep(q, DC_NO_MEMORY);
        q->calls = calls;
        q->room = room;
    }
    uint8_t *at = q->calls + q->bytes;
    memcpy(at, &c, sizeof c);
    memcpy(at + sizeof c, args, bytes);
    memset(at + sizeof c + bytes, 0, c.bytes - bytes);
    q->bytes = need;
    q->count++;
}

/* Gives every call to the GPU; the first failure. */
static dc_status call_all(queue *q)
{
    call c;
    for (size_t at = 0; at < q->bytes; at += sizeof c + c.bytes) {
        memcpy(&c, q->calls + at, sizeof c);
        dc_status s = c.work(q->g, q->calls + at + sizeof c);
        if (s) return s;
    }
    return DC_OK;
}

/* These calls among those seen before, or a new entry in place of the one that lies idle longest. NULL when memory is out. */
static queue_seen *look_up(queue *q)
{
    queue_seen *oldest = &q->seen[0];
    for (int i = 0; i < QUEUE_GRAPHS; i++) {
        queue_seen *s = &q->seen[i];
        if (s->calls && s->bytes == q->bytes && !memcmp(s->calls, q->calls, q->bytes)) return s;
        if (s->used < oldest->used) oldest = s;
    }
    uint8_t *calls = malloc(q->bytes);
    if (!calls) return NULL;
    forget(q, oldest);
    memcpy(calls, q->calls, q->bytes);
    *oldest = (queue_seen){.calls = calls, .bytes = q->bytes};
    return oldest;
}

/* Calls are made one by one the first time, when the libraries still load their code; the second time they are recorded. */
static dc_status give(queue *q)
{
    queue_seen *s = q->count > FEW ? look_up(q) : NULL;
    if (!s) return call_all(q);
    s->used = ++q->flushes;
    if (++s->times == 2 && !gpu_record(q->g)) {
        dc_status called = call_all(q), ended = gpu_record_end(q->g, &s->graph);
        if ((called || ended) && s->graph) {
            gpu_graph_free(q->g, s->graph);
            s->graph = NULL;
        }
    }
    if (!s->graph) return call_all(q);
    q->replays++;
    return gpu_replay(q->g, s->graph);
}

dc_status queue_wait(queue *q)
{
    if (q->bytes && !q->status) keep(q, give(q));
    keep(q, gpu_wait(q->g));
    q->bytes = q->staged = 0;
    q->count = 0;
    dc_status s = q->status;
    q->status = DC_OK;
    return s;
}

void queue_upload(queue *q, void *to, const void *host, size_t bytes)
{
    if (bytes > STAGING - q->staged) {
        keep(q, queue_wait(q));
        if (bytes > STAGING) return keep(q, gpu_write(q->g, to, host, bytes));
    }
    const gpu_copy_args a = {.to = to, .from = q->staging + q->staged, .bytes = bytes};
    memcpy(q->staging + q->staged, host, bytes);
    q->staged += (bytes + 63) / 64 * 64;
    QUEUE(q, gpu_copy, a);
}
