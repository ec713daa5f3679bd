/* gpu.h - what this device asks of NVIDIA's libraries: memory, one stream whose work can be recorded as a graph, matrix products, convolutions.
 * runtime.c (CUDA), product.c (cuBLASLt) and convolve.c (cuDNN) answer; tests/cuda answers with plain loops, so that all the rest of
 * the device runs on machines without a GPU.
 *
 * Work is queued on the one stream and done in its order. A function that queues has the type gpu_work and never waits; it takes a struct of
 * plain values, whose bytes say all about it. Errors of queued work come from gpu_wait. */
#ifndef DC_BACKENDS_CUDA_GPU_H
#define DC_BACKENDS_CUDA_GPU_H
#include "backends/ops.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct gpu gpu;
typedef struct gpu_options {
    bool deterministic; /* the first plan of a convolution that gives the same bytes each time, in place of the fastest */
    const char *plans;  /* folder where found plans of convolutions are kept; NULL: nowhere */
    const dc_log *log;  /* may be NULL */
} gpu_options;
typedef struct gpu_info {
    char name[96];      /* "NVIDIA H200" */
    char libraries[96]; /* "CUDA 13.0, cuBLASLt 13.0, cuDNN 9.10" */
    int capability;     /* 90: 9.0 */
    int multiprocessors;
    uint64_t memory, free; /* bytes */
} gpu_info;
/* Errors: UNAVAILABLE (no driver, no GPU, one older than 8.0, a library that cannot be used: says which), NO_MEMORY. */
dc_status gpu_open(gpu **out, const gpu_options *o, dc_error *e);
void gpu_close(gpu *g); /* NULL is fine */
const gpu_info *gpu_about(const gpu *g);
void *gpu_stream(gpu *g); /* a cudaStream_t, for the kernels */

void *gpu_alloc(gpu *g, uint64_t bytes);      /* at multiples of 256; NULL when out */
void gpu_free(gpu *g, void *p);               /* waits first; NULL is fine */
void *gpu_alloc_host(gpu *g, uint64_t bytes); /* page-locked, from which copies need no help of the CPU; NULL when out */
void gpu_free_host(gpu *g, void *p);
dc_status gpu_wait(gpu *g); /* IO: something queued failed, and is told in the log */
/* Both wait for what is queued; host memory of any kind. */
dc_status gpu_write(gpu *g, void *to, const void *host, uint64_t bytes);
dc_status gpu_read(gpu *g, void *host, const void *from, uint64_t bytes);

/* What is queued from gpu_record on is kept instead, as a graph that gpu_replay queues whole. No waiting in between. */
typedef struct gpu_graph gpu_graph;
dc_status gpu_record(gpu *g);
dc_status gpu_record_end(gpu *g, gpu_graph **out); /* IO: and *out is NULL */
dc_status gpu_replay(gpu *g, gpu_graph *graph);
void gpu_graph_free(gpu *g, gpu_graph *graph); /* NULL is fine */

/* Seconds between two marks in the stream, for choosing among ways (not while recording). Waits. */
void gpu_mark(gpu *g, int which); /* 0 or 1 */
double gpu_seconds(gpu *g);

typedef dc_status gpu_work(gpu *g, const void *args);

/* To and from page-locked host memory, or within the device. */
typedef struct gpu_copy_args {
    void *to;
    const void *from;
    uint64_t bytes;
} gpu_copy_args;
gpu_work gpu_copy;

/* y[m,n] = scale * a[m,k] b' + bias + c, sums in float32 (of F32 as well: no TF32). Rows are `ld..` numbers apart. b is [n,k]; with
 * b_rows [k,n]. `batch` products with their matrices `step..` numbers apart (0: the same one). c may be y. */
typedef struct gpu_product_args {
    void *y;
    const void *a, *b, *c, *bias; /* c: like y, NULL: none; bias: [n] of y's type, NULL: none, and none with a batch */
    int64_t m, n, k, lda, ldb, ldc, ldy;
    int64_t step_a, step_b, step_y;
    float scale;
    int32_t batch;
    uint8_t in, out; /* dc_dtype: F32, F16, BF16 of a and b; of y, c and bias the same, or F32 */
    bool b_rows;
} gpu_product_args;
gpu_work gpu_product;

/* A convolution of dense NHWC by a weight [k,r,s,c], c a multiple of 8 (of 4 in F32), k as well, all in `type`, sums in float32. */
typedef struct gpu_conv_shape {
    int32_t n, h, w, c, k, r, s, stride, pad_h, pad_w;
    int32_t add;       /* images of the addend [add,k]: 0 (none), 1 or n */
    uint8_t type, act; /* dc_dtype, dc_act */
    bool bias, residual;
} gpu_conv_shape;
typedef struct gpu_conv_plan gpu_conv_plan;
/* How it is done: found once a shape, kept by g. Measures on the device where there is a choice: not while recording. *whole: bias, addend,
 * residual and activation are part of it; else y is the bare convolution. Errors: UNAVAILABLE (none of the library's ways takes it). */
dc_status gpu_conv_find(gpu *g, const gpu_conv_shape *shape, const gpu_conv_plan **out, bool *whole, uint64_t *workspace, dc_error *e);
const char *gpu_conv_name(const gpu_conv_plan *p); /* "cudnn engine 37, fused" */
/* y = act(conv(x) + bias + add + residual), or conv(x) when the plan is not whole; y is dense [n,h',w',k] and lies on no input. */
typedef struct gpu_conv_args {
    const gpu_conv_plan *plan;
    void *y;
    const void *x, *weight, *bias, *add, *residual; /* all of the shape's type; NULL: none */
    void *workspace;
} gpu_conv_args;
gpu_work gpu_conv;

#ifdef __cplusplus
}
#endif
#endif
