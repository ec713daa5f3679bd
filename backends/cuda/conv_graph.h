/* conv_graph.h - one convolution, alone or with what follows it, as cuDNN's backend API has it: a graph of operations, the ways in which the
 * library would run it (an engine and the values of its knobs), and a plan of one way. */
#ifndef DC_BACKENDS_CUDA_CONV_GRAPH_H
#define DC_BACKENDS_CUDA_CONV_GRAPH_H
#include "backends/cuda/gpu_private.h"

#define CONV_WORKSPACE (256u << 20) /* no plan may ask for more */

/* Descriptors with the first error among them; all end together. */
typedef struct conv_graph {
    cudnnBackendDescriptor_t all[32], graph; /* graph: one of them */
    int n;
    cudnnStatus_t status;
} conv_graph;

/* Pictures that come out. */
int64_t conv_out_h(const gpu_conv_shape *s);
int64_t conv_out_w(const gpu_conv_shape *s);
/* whole: with bias, addend, residual and activation. False: the library has no such graph (nothing to free). */
bool conv_graph_build(gpu *g, conv_graph *out, const gpu_conv_shape *s, bool whole);
void conv_graph_free(conv_graph *c); /* zeroed is fine */
/* Is there anything to do behind the convolution, and has cuDNN words for all of it? */
bool conv_has_more(const gpu_conv_shape *s);
bool conv_can_be_whole(const gpu_conv_shape *s);

#define CONV_KNOBS 64
typedef struct conv_way {
    int64_t engine;
    int n; /* knobs; -1: they cannot be told */
    struct {
        int32_t type;
        int64_t value;
    } knob[CONV_KNOBS];
} conv_way;
bool conv_same_way(const conv_way *a, const conv_way *b); /* false where it cannot be told */

typedef struct conv_plan {
    conv_way way;
    cudnnBackendDescriptor_t config, plan;
    uint64_t workspace;
} conv_plan;
/* The configurations the library proposes, best first, at most `room`, which the caller destroys. */
int conv_propose(gpu *g, const conv_graph *c, cudnnBackendHeurMode_t mode, cudnnBackendDescriptor_t *configs, int room);
/* A plan of a configuration, which becomes its own in any case; `s` says what arithmetic is allowed. compile: also of engines that make their
 * kernels now, which takes a second or ten. False: not supported, or not allowed, or in `skip` already. */
bool conv_plan_of_config(gpu *g, conv_plan *out, const gpu_conv_shape *s, cudnnBackendDescriptor_t config, bool compile, const conv_plan *skip,
                         int n_skip);
bool conv_plan_of_way(gpu *g, conv_plan *out, const gpu_conv_shape *s, const conv_graph *c, const conv_way *way);
void conv_plan_free(conv_plan *p); /* zeroed is fine */

dc_status conv_plan_run(gpu *g, const conv_plan *p, bool whole, const gpu_conv_shape *s, const gpu_conv_args *a);

#endif
