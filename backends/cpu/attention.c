/* attention.c - attention on the CPU: cuts the work into (image, head, query tile) and hands it to the level's kernel
 * (attention_kernel.h). A query's result does not depend on the tile it falls in, so tiles may follow the number of
 * threads. Scratch is one tile a thread: never a score matrix, never a copy of all keys. */
#include "backends/cpu/cpu.h"

typedef struct plan {
    int head;               /* channels of one head */
    int64_t queries;        /* of a tile */
    int64_t tiles;          /* of one head of one image */
    int64_t step;           /* keys: equal steps, so that the last one is not a few keys only */
    int64_t k_ld, v_ld;     /* floats from key (or pair of them) to key in a packed tile */
    size_t q, state, kv, s; /* floats of the scratch's parts */
    size_t thread;          /* floats of all of them */
} plan;

enum { TILE_FLOATS = 32 << 10 }; /* of a tile's queries, and of its results */

static int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }
static int64_t round_up(int64_t n, int64_t to) { return pieces(n, to) * to; }

static plan plan_of(dc_device *d, const dc_attention_args *a)
{
    const int64_t smallest = 48, T = a->q.dim[1];
    plan p = {.head = (int)(dc_channels(a->q) / a->o.heads)};
    /* Every tile packs all keys, so many queries; they and their results stay in the second-level cache. */
    int64_t fit = TILE_FLOATS / p.head / smallest * smallest;
    if (fit > CPU_ATTN_QUERIES) fit = CPU_ATTN_QUERIES;
    while (fit > smallest && a->q.dim[0] * a->o.heads * pieces(T, fit) < 4 * cpu_of(d)->threads) fit = fit / 2 / smallest * smallest;
    if (fit < smallest) fit = smallest;
    p.queries = round_up(pieces(T, pieces(T, fit)), smallest);
    p.tiles = pieces(T, p.queries);
    const int64_t most = p.head <= 160 ? CPU_ATTN_KEYS : CPU_ATTN_KEYS / 2; /* K and V of a step stay in the second-level cache */
    p.step = round_up(pieces(a->o.keys, pieces(a->o.keys, most)), 8);
    /* Floats lie in rows of vectors, but not of four, that would share cache sets; pairs lie densely. */
    const int64_t row = round_up(p.head, 16) + (round_up(p.head, 16) % 64 ? 0 : 16);
    p.k_ld = cpu_of(d)->bf16 ? round_up(p.head, 2) / 2 : row;
    p.v_ld = cpu_of(d)->bf16 ? p.head : row;
    p.q = (size_t)p.queries * (size_t)p.head;
    p.state = 3 * (size_t)p.queries;
    p.kv = (size_t)p.step * (size_t)row;
    p.s = (size_t)p.step * (size_t)smallest;
    p.thread = 2 * p.q + p.state + 2 * p.kv + p.s;
    return p;
}

uint64_t cpu_attention_scratch(dc_device *d, const dc_attention_args *a)
{
    return sizeof(float) * (uint64_t)plan_of(d, a).thread * (uint64_t)cpu_of(d)->threads;
}

typedef struct job {
    dc_device *d;
    const dc_attention_args *a;
    plan p;
    float *scratch;
} job;

static float *row_of(dc_tensor t, int64_t image, int64_t row) { return (float *)t.data + (image * t.dim[1] + row) * t.stride; }

static void attention_task(void *ctx, int64_t i, int thread)
{
    const job *j = ctx;
    const dc_attention_args *a = j->a;
    const plan *p = &j->p;
    const int64_t n = i / p->tiles / a->o.heads, h = i / p->tiles % a->o.heads, first = i % p->tiles * p->queries;
    const int64_t left = a->q.dim[1] - first, c = h * p->head;
    float *s = j->scratch + (size_t)thread * p->thread;
    cpu_attn_tile t = {
        .q = row_of(a->q, n, first) + c,
        .q_stride = a->q.stride,
        .y = row_of(a->y, n, first) + c,
        .y_stride = a->y.stride,
        .k = row_of(a->k, a->k.dim[0] == 1 ? 0 : n, 0) + c,
        .k_stride = a->k.stride,
        .v = row_of(a->v, a->v.dim[0] == 1 ? 0 : n, 0) + c,
        .v_stride = a->v.stride,
        .queries = left < p->queries ? left : p->queries,
        .keys = a->o.keys,
        .step = p->step,
        .first = first,
        .d = p->head,
        .scale = (float)(a->o.scale * 1.4426950408889634),
        .causal = a->o.causal,
        .cancel = j->d->cancel,
        .k_ld = p->k_ld,
        .v_ld = p->v_ld,
    };
    t.k_tile = s;
    t.v_tile = t.k_tile + p->kv;
    t.s_tile = t.v_tile + p->kv;
    t.q_tile = t.s_tile + p->s;
    t.o_tile = t.q_tile + p->q;
    t.state = t.o_tile + p->q;
    cpu_of(j->d)->attend(&t);
}

void cpu_attention_choice(dc_device *d, const dc_attention_args *a, dc_choice *out)
{
    const plan p = plan_of(d, a);
    dc_choose(out, cpu_of(d)->bf16 ? "streaming bf16" : "streaming f32", "%lld queries at a time, %lld keys a step", (long long)p.queries,
              (long long)p.step);
}

dc_status cpu_attention(dc_device *d, const dc_attention_args *a, void *scratch)
{
    job j = {d, a, plan_of(d, a), scratch};
    return cpu_for(d, a->q.dim[0] * a->o.heads * j.p.tiles, attention_task, &j);
}
