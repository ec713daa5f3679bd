#include "backends/cuda/conv_graph.h"
#include <string.h>

typedef cudnnBackendDescriptor_t descriptor;
enum { X = 'x', W = 'w', Y = 'y', BIAS = 'b', ADD = 'a', RESIDUAL = 'r', BETWEEN = 1000 }; /* names of tensors */

/* ---- descriptors ---------------------------------------------------------------------------------------------------- */

static bool set(descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n, const void *value)
{
    return cudnnBackendSetAttribute(d, name, type, n, value) == CUDNN_STATUS_SUCCESS;
}
static bool get(descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t room, int64_t *n, void *value)
{
    return cudnnBackendGetAttribute(d, name, type, room, n, value) == CUDNN_STATUS_SUCCESS;
}
static descriptor make(cudnnBackendDescriptorType_t type)
{
    descriptor d = NULL;
    return cudnnBackendCreateDescriptor(type, &d) == CUDNN_STATUS_SUCCESS ? d : NULL;
}
static void destroy(descriptor d)
{
    if (d) cudnnBackendDestroyDescriptor(d);
}

/* The same for a graph: after the first error nothing is done. */
static descriptor add(conv_graph *c, cudnnBackendDescriptorType_t type)
{
    descriptor d = NULL;
    if (!c->status) c->status = cudnnBackendCreateDescriptor(type, &d);
    if (!c->status) c->all[c->n++] = d;
    return d;
}
static void give(conv_graph *c, descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n, const void *value)
{
    if (!c->status) c->status = cudnnBackendSetAttribute(d, name, type, n, value);
}
static void refer(conv_graph *c, descriptor d, cudnnBackendAttributeName_t name, descriptor to)
{
    give(c, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &to);
}
static descriptor finished(conv_graph *c, descriptor d)
{
    if (!c->status) c->status = cudnnBackendFinalize(d);
    return d;
}

/* ---- graphs --------------------------------------------------------------------------------------------------------- */

int64_t conv_out_h(const gpu_conv_shape *s) { return (s->h + 2 * s->pad_h - s->r) / s->stride + 1; }
int64_t conv_out_w(const gpu_conv_shape *s) { return (s->w + 2 * s->pad_w - s->s) / s->stride + 1; }

static cudnnDataType_t data_type(uint8_t t) { return t == DC_F16 ? CUDNN_DATA_HALF : t == DC_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT; }

/* Dimensions in the order N, C, H, W; in memory the channels lie innermost. */
static descriptor tensor(conv_graph *c, int64_t id, cudnnDataType_t type, int64_t n, int64_t channels, int64_t h, int64_t w)
{
    const int64_t dim[4] = {n, channels, h, w}, stride[4] = {h * w * channels, 1, w * channels, channels}, align = 16;
    const bool between = id >= BETWEEN;
    descriptor d = add(c, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    give(c, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    give(c, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim);
    give(c, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
    give(c, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    give(c, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    if (between) give(c, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &between);
    return finished(c, d);
}

static descriptor convolution(conv_graph *c, const gpu_conv_shape *s, descriptor x, descriptor w, descriptor y)
{
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t two = 2, pad[2] = {s->pad_h, s->pad_w}, stride[2] = {s->stride, s->stride}, dilation[2] = {1, 1};
    const float one = 1, zero = 0;
    descriptor d = add(c, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    give(c, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    give(c, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    give(c, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    give(c, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    give(c, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    give(c, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    give(c, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    finished(c, d);
    descriptor op = add(c, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    refer(c, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    refer(c, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    refer(c, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    refer(c, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, d);
    give(c, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
    give(c, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    return finished(c, op);
}

/* y = mode(x, b), or mode(x) without b. */
static descriptor pointwise(conv_graph *c, cudnnPointwiseMode_t mode, descriptor x, descriptor b, descriptor y)
{
    const cudnnDataType_t math = CUDNN_DATA_FLOAT;
    descriptor d = add(c, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    give(c, d, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    give(c, d, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &math);
    if (mode == CUDNN_POINTWISE_RELU_FWD) { /* else a NaN becomes 0, and a failed pass looks well */
        const cudnnNanPropagation_t keep = CUDNN_PROPAGATE_NAN;
        give(c, d, CUDNN_ATTR_POINTWISE_NAN_PROPAGATION, CUDNN_TYPE_NAN_PROPOGATION, 1, &keep);
    }
    finished(c, d);
    descriptor op = add(c, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    refer(c, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, d);
    refer(c, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b) refer(c, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    refer(c, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    return finished(c, op);
}

/* GELU_FWD is the one by erf. */
static bool activation(uint8_t act, cudnnPointwiseMode_t *mode)
{
    *mode = act == DC_ACT_SILU ? CUDNN_POINTWISE_SWISH_FWD : act == DC_ACT_GELU ? CUDNN_POINTWISE_GELU_FWD : CUDNN_POINTWISE_RELU_FWD;
    return act == DC_ACT_SILU || act == DC_ACT_GELU || act == DC_ACT_RELU;
}
bool conv_has_more(const gpu_conv_shape *s) { return s->bias || s->residual || s->add || s->act != DC_ACT_NONE; }
bool conv_can_be_whole(const gpu_conv_shape *s)
{
    cudnnPointwiseMode_t mode;
    return s->act == DC_ACT_NONE || activation(s->act, &mode);
}

bool conv_graph_build(gpu *g, conv_graph *out, const gpu_conv_shape *s, bool whole)
{
    *out = (conv_graph){.status = CUDNN_STATUS_SUCCESS};
    const int64_t h = conv_out_h(s), w = conv_out_w(s);
    const cudnnDataType_t type = data_type(s->type);
    /* The order of the library's own fused kernels: residual, bias, activation. */
    struct {
        cudnnPointwiseMode_t mode;
        descriptor operand;
    } step[4];
    int steps = 0, ops = 0;
    if (whole && s->residual) step[steps].mode = CUDNN_POINTWISE_ADD, step[steps++].operand = tensor(out, RESIDUAL, type, s->n, s->k, h, w);
    if (whole && s->bias) step[steps].mode = CUDNN_POINTWISE_ADD, step[steps++].operand = tensor(out, BIAS, type, 1, s->k, 1, 1);
    if (whole && s->add) step[steps].mode = CUDNN_POINTWISE_ADD, step[steps++].operand = tensor(out, ADD, type, s->add, s->k, 1, 1);
    if (whole && activation(s->act, &step[steps].mode)) step[steps++].operand = NULL;

    descriptor op[5], x = tensor(out, X, type, s->n, s->c, s->h, s->w), weight = tensor(out, W, type, s->k, s->c, s->r, s->s);
    descriptor y = tensor(out, Y, type, s->n, s->k, h, w), at = steps ? tensor(out, BETWEEN, CUDNN_DATA_FLOAT, s->n, s->k, h, w) : y;
    op[ops++] = convolution(out, s, x, weight, at);
    for (int i = 0; i < steps; i++) {
        descriptor to = i + 1 < steps ? tensor(out, BETWEEN + 1 + i, CUDNN_DATA_FLOAT, s->n, s->k, h, w) : y;
        op[ops++] = pointwise(out, step[i].mode, at, step[i].operand, to);
        at = to;
    }
    out->graph = add(out, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    give(out, out->graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->dnn);
    give(out, out->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, ops, op);
    finished(out, out->graph);
    if (!out->status) return true;
    dc_log_write(&g->log, DC_LOG_DEBUG, "cuda: cuDNN takes no %s convolution of that shape: %s", whole ? "fused" : "bare",
                 cudnnGetErrorString(out->status));
    conv_graph_free(out);
    return false;
}

void conv_graph_free(conv_graph *c)
{
    while (c->n) destroy(c->all[--c->n]);
    *c = (conv_graph){0};
}

/* ---- ways ----------------------------------------------------------------------------------------------------------- */

bool conv_same_way(const conv_way *a, const conv_way *b)
{
    if (a->engine != b->engine || a->n != b->n || a->n < 0) return false;
    for (int i = 0; i < a->n; i++)
        if (a->knob[i].type != b->knob[i].type || a->knob[i].value != b->knob[i].value) return false;
    return true;
}

int conv_propose(gpu *g, const conv_graph *c, cudnnBackendHeurMode_t mode, cudnnBackendDescriptor_t *configs, int room)
{
    (void)g;
    int64_t n = 0;
    int made = 0;
    descriptor h = make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    if (h && set(h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &c->graph) &&
        set(h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode) && cudnnBackendFinalize(h) == CUDNN_STATUS_SUCCESS) {
        /* The results are written into descriptors that are there. */
        while (made < room && (configs[made] = make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR))) made++;
        if (!get(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, made, &n, configs)) n = 0;
    }
    destroy(h);
    if (n > made) n = made;
    while (made > n) destroy(configs[--made]);
    return made;
}

/* Sums in float32 of products of the numbers as they are: no TF32, no transform that rounds more (Winograd's, FFT). */
static bool allowed(const gpu *g, const gpu_conv_shape *s, descriptor engine, bool compile)
{
    cudnnBackendNumericalNote_t note[32];
    cudnnBackendBehaviorNote_t behavior[32];
    int64_t n = 0;
    if (!get(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, 32, &n, behavior)) return false;
    for (int64_t i = 0; i < n && i < 32; i++)
        if (behavior[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION && !compile) return false;
    if (!get(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 32, &n, note)) return false;
    for (int64_t i = 0; i < n && i < 32; i++) switch (note[i]) {
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
            if (s->type == DC_F32) return false;
            break;
        case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
            if (g->deterministic) return false;
            break;
        case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
        case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
        case CUDNN_NUMERICAL_NOTE_FFT:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13: return false;
        default: break;
        }
    return true;
}

static void read_knobs(conv_way *way, descriptor config)
{
    descriptor knob[CONV_KNOBS];
    int made = 0;
    int64_t n = 0;
    while (made < CONV_KNOBS && (knob[made] = make(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR))) made++;
    bool ok = get(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, made, &n, knob) && n <= made;
    for (int i = 0; ok && i < n; i++) {
        cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_COUNTS;
        int64_t one = 0;
        ok = get(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &one, &type) &&
             get(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &one, &way->knob[i].value);
        way->knob[i].type = (int32_t)type;
    }
    way->n = ok ? (int)n : -1;
    while (made) destroy(knob[--made]);
}

/* Fills out->way from out->config; false: not allowed. */
static bool read_way(const gpu *g, conv_plan *out, const gpu_conv_shape *s, bool compile)
{
    int64_t n = 0;
    descriptor engine = make(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    bool ok = engine && get(out->config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine) &&
              get(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n, &out->way.engine) && allowed(g, s, engine, compile);
    destroy(engine);
    if (ok) read_knobs(&out->way, out->config);
    return ok;
}

/* ---- plans ---------------------------------------------------------------------------------------------------------- */

static bool finish_plan(gpu *g, conv_plan *p)
{
    int64_t n = 0, bytes = 0;
    p->plan = make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (!p->plan) return false;
    set(p->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->dnn); /* early versions need it, late ones need not take it */
#if CUDNN_VERSION >= 92800
    const cudnnCudaGraphRetention_t none = CUDNN_CUDA_GRAPH_RETENTION_NONE; /* plans outlive the graphs they are recorded in */
    set(p->plan, CUDNN_ATTR_EXECUTION_PLAN_CUDA_GRAPH_RETENTION, CUDNN_TYPE_CUDA_GRAPH_RETENTION, 1, &none);
#endif
    if (!set(p->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &p->config)) return false;
    if (cudnnBackendFinalize(p->plan) != CUDNN_STATUS_SUCCESS ||
        !get(p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &bytes) || bytes < 0 || bytes > CONV_WORKSPACE)
        return false;
    p->workspace = (uint64_t)bytes;
    return true;
}

bool conv_plan_of_config(gpu *g, conv_plan *out, const gpu_conv_shape *s, cudnnBackendDescriptor_t config, bool compile, const conv_plan *skip,
                         int n_skip)
{
    *out = (conv_plan){.config = config};
    bool ok = read_way(g, out, s, compile);
    for (int i = 0; ok && i < n_skip; i++) ok = !conv_same_way(&skip[i].way, &out->way);
    if (ok && finish_plan(g, out)) return true;
    conv_plan_free(out);
    return false;
}

static bool set_knobs(descriptor config, const conv_way *way)
{
    descriptor knob[CONV_KNOBS];
    int made = 0;
    bool ok = true;
    for (; ok && made < way->n && (knob[made] = make(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)); made++) {
        const cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)way->knob[made].type;
        ok = set(knob[made], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type) &&
             set(knob[made], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &way->knob[made].value) &&
             cudnnBackendFinalize(knob[made]) == CUDNN_STATUS_SUCCESS;
    }
    ok = ok && made == way->n && (!made || set(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, made, knob));
    ok = ok && cudnnBackendFinalize(config) == CUDNN_STATUS_SUCCESS;
    while (made) destroy(knob[--made]);
    return ok;
}

bool conv_plan_of_way(gpu *g, conv_plan *out, const gpu_conv_shape *s, const conv_graph *c, const conv_way *way)
{
    *out = (conv_plan){0};
    descriptor engine = make(CUDNN_BACKEND_ENGINE_DESCRIPTOR), config = make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    bool ok = engine && config && way->n >= 0 && set(engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &c->graph) &&
              set(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &way->engine) &&
              cudnnBackendFinalize(engine) == CUDNN_STATUS_SUCCESS &&
              set(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine) && set_knobs(config, way);
    if (ok) ok = conv_plan_of_config(g, out, s, config, true, NULL, 0);
    else destroy(config);
    destroy(engine);
    return ok;
}

void conv_plan_free(conv_plan *p)
{
    destroy(p->plan);
    destroy(p->config);
    *p = (conv_plan){0};
}

/* ---- running -------------------------------------------------------------------------------------------------------- */

dc_status conv_plan_run(gpu *g, const conv_plan *p, bool whole, const gpu_conv_shape *s, const gpu_conv_args *a)
{
    const bool all[6] = {true, true, true, whole && s->bias, whole && s->add, whole && s->residual};
    const int64_t names[6] = {X, W, Y, BIAS, ADD, RESIDUAL};
    const void *const data[6] = {a->x, a->weight, a->y, a->bias, a->add, a->residual};
    int64_t id[6], n = 0;
    const void *at[6], *workspace = p->workspace ? a->workspace : NULL;
    for (int i = 0; i < 6; i++) {
        if (!all[i]) continue;
        if (!data[i] || (uintptr_t)data[i] % 16) return DC_INTERNAL; /* plans were made for addresses of 16 bytes */
        id[n] = names[i];
        at[n++] = data[i];
    }
    descriptor pack = make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    if (!pack) return DC_NO_MEMORY;
    cudnnStatus_t r = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, id);
    if (!r) r = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, at);
    if (!r) r = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (!r) r = cudnnBackendFinalize(pack);
    dc_status status = gpu_dnn(g, "cuDNN's arguments", r);
    if (!status) status = GPU_DNN(g, cudnnBackendExecute, g->dnn, p->plan, pack);
    destroy(pack);
    return status;
}
