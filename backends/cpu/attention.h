/* attention.h - what the driver (attention.c) and the kernels of the instruction sets share. */
#ifndef DC_BACKENDS_CPU_ATTENTION_H
#define DC_BACKENDS_CPU_ATTENTION_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CPU_ATTN_QUERIES = 576, /* at most, in a tile; a multiple of every level's group (48, 24, 12) */
    CPU_ATTN_KEYS = 128     /* at most, in a step: their scores for one group stay in the first-level cache */
};

/* Up to CPU_ATTN_QUERIES queries of one head of one image. The *_tile buffers are scratch, 64-byte aligned. */
typedef struct cpu_attn_tile {
    const float *q, *k, *v; /* this head's first query of the tile, first key, first value */
    float *y;
    int64_t q_stride, k_stride, v_stride, y_stride;
    int64_t queries, keys;
    int64_t step;  /* keys a step, at most CPU_ATTN_KEYS; bytes depend on it, so it follows from the number of keys alone */
    int64_t first; /* number of the first query, for the causal mask */
    int d;         /* channels of the head */
    float scale;   /* softmax scale times log2(e): scores times it are exponents of 2 */
    bool causal;
    const atomic_int *cancel; /* may be NULL; polled between steps, the tile is then left unfinished */
    float *q_tile, *o_tile;   /* [queries / group][d][group]; pairs of bf16 need less than the room given here */
    float *state;             /* [queries / group][3][group] */
    float *k_tile, *v_tile;   /* [step][k_ld], [step][v_ld] */
    float *s_tile;            /* [step][group] */
    int64_t k_ld, v_ld;
} cpu_attn_tile;

typedef void cpu_attn_fn(const cpu_attn_tile *t);
cpu_attn_fn cpu_attn_portable, cpu_attn_avx2, cpu_attn_avx512, cpu_attn_bf16_avx512;

#endif
