/* runtime.c - the device by the CUDA runtime: opening it, memory, copies, graphs, time. */
#include "backends/cuda/gpu_private.h"
#include "base/text.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- failures ------------------------------------------------------------------------------------------------------- */

static dc_status tell(gpu *g, dc_status status, const char *name, const char *reason)
{
    char line[sizeof g->told];
    snprintf(line, sizeof line, "%s: %s", name, reason);
    /* After a failure on the device every call fails for the same reason. */
    if (!g->quiet && strcmp(line, g->told) != 0) {
        memcpy(g->told, line, sizeof line);
        dc_log_write(&g->log, DC_LOG_WARNING, "cuda: %s: %s", name, reason);
    }
    return status;
}

dc_status gpu_cuda(gpu *g, const char *name, cudaError_t result)
{
    if (result == cudaSuccess) return DC_OK;
    cudaGetLastError(); /* else the next kernel is blamed for it */
    return tell(g, result == cudaErrorMemoryAllocation ? DC_NO_MEMORY : DC_IO, name, cudaGetErrorString(result));
}

dc_status gpu_blas(gpu *g, const char *name, cublasStatus_t result)
{
    if (result == CUBLAS_STATUS_SUCCESS) return DC_OK;
    return tell(g, result == CUBLAS_STATUS_ALLOC_FAILED ? DC_NO_MEMORY : DC_IO, name, cublasLtGetStatusString(result));
}

dc_status gpu_dnn(gpu *g, const char *name, cudnnStatus_t result)
{
    if (result == CUDNN_STATUS_SUCCESS) return DC_OK;
    bool memory = result == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED || result == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    return tell(g, memory ? DC_NO_MEMORY : DC_IO, name, cudnnGetErrorString(result));
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

static const char cpu_instead[] = "--device cpu does without a GPU.";

static dc_status find_device(dc_error *e)
{
    int driver = 0, runtime = 0, count = 0;
    cudaError_t r = cudaDriverGetVersion(&driver);
    if (r != cudaSuccess || !driver) {
        dc_status s = dc_fail(e, DC_UNAVAILABLE, "device cuda: found no NVIDIA driver, expected one for CUDA %d or newer", CUDART_VERSION / 1000);
        dc_hint(e, "nvidia-smi tells whether a driver is there. In a container: start it with its GPUs (docker run --gpus all). %s", cpu_instead);
        return s;
    }
    cudaRuntimeGetVersion(&runtime);
    r = cudaGetDeviceCount(&count);
    if (r == cudaErrorInsufficientDriver || r == cudaErrorCompatNotSupportedOnDevice) {
        dc_status s = dc_fail(e, DC_UNAVAILABLE, "device cuda: NVIDIA driver: found one for CUDA %d.%d, expected %d.0 or newer", driver / 1000,
                              driver % 1000 / 10, runtime / 1000);
        dc_hint(e, "A newer driver, or diffc built with the CUDA of this one, would do. %s", cpu_instead);
        return s;
    }
    if (r == cudaErrorNoDevice || (r == cudaSuccess && !count)) {
        dc_status s = dc_fail(e, DC_UNAVAILABLE, "device cuda: found a driver but no GPU");
        dc_hint(e, "nvidia-smi lists GPUs; CUDA_VISIBLE_DEVICES may hide them. %s", cpu_instead);
        return s;
    }
    if (r == cudaSuccess) r = cudaSetDevice(0);
    if (r == cudaSuccess) return DC_OK;
    dc_status s = dc_fail(e, DC_UNAVAILABLE, "device cuda: the driver's answer: %s", cudaGetErrorString(r));
    dc_hint(e, "%s", cpu_instead);
    return s;
}

static dc_status describe(gpu *g, dc_error *e)
{
    struct cudaDeviceProp p;
    size_t free = 0, total = 0;
    dc_status s = GPU_CUDA(g, cudaGetDeviceProperties, &p, 0);
    if (s) return dc_fail(e, DC_UNAVAILABLE, "device cuda: the GPU does not tell its properties");
    dc_escape(g->info.name, sizeof g->info.name, p.name);
    g->info.capability = p.major * 10 + p.minor;
    g->info.multiprocessors = p.multiProcessorCount;
    if (g->info.capability < 80) {
        s = dc_fail(e, DC_UNAVAILABLE, "device cuda: %s: found compute capability %d.%d, expected 8.0 or newer", g->info.name, p.major, p.minor);
        dc_hint(e, "%s", cpu_instead);
        return s;
    }
    s = GPU_CUDA(g, cudaMemGetInfo, &free, &total); /* makes the context, too: what it takes is no longer free */
    if (s) return dc_fail(e, DC_UNAVAILABLE, "device cuda: %s cannot be used now", g->info.name);
    g->info.memory = total;
    g->info.free = free;
    int runtime = 0, lt[2] = {0}, dnn[2] = {0};
    cudaRuntimeGetVersion(&runtime);
    cublasLtGetProperty(MAJOR_VERSION, &lt[0]);
    cublasLtGetProperty(MINOR_VERSION, &lt[1]);
    cudnnGetProperty(MAJOR_VERSION, &dnn[0]);
    cudnnGetProperty(MINOR_VERSION, &dnn[1]);
    g->cudnn = (int)cudnnGetVersion();
    snprintf(g->info.libraries, sizeof g->info.libraries, "CUDA %d.%d, cuBLASLt %d.%d, cuDNN %d.%d", runtime / 1000, runtime % 1000 / 10, lt[0],
             lt[1], dnn[0], dnn[1]);
    return DC_OK;
}

static dc_status open_libraries(gpu *g, dc_error *e)
{
    const char *what = g->info.libraries;
    if (GPU_CUDA(g, cudaStreamCreateWithFlags, &g->stream, cudaStreamNonBlocking) || GPU_CUDA(g, cudaEventCreate, &g->mark[0]) ||
        GPU_CUDA(g, cudaEventCreate, &g->mark[1]))
        return dc_fail(e, DC_UNAVAILABLE, "device cuda: %s: no stream can be made", what);
    cublasStatus_t blas = cublasLtCreate(&g->lt);
    if (blas) return dc_fail(e, DC_UNAVAILABLE, "device cuda: cuBLASLt of %s: %s", what, cublasLtGetStatusString(blas));
    if (!(g->workspace = gpu_alloc(g, GPU_PRODUCT_WORKSPACE))) return dc_fail_memory(e, "the GPU's workspace", GPU_PRODUCT_WORKSPACE);
    cudnnStatus_t dnn = cudnnCreate(&g->dnn);
    if (!dnn) dnn = cudnnSetStream(g->dnn, g->stream);
    if (!dnn) return DC_OK;
    dc_status s = dc_fail(e, DC_UNAVAILABLE, "device cuda: cuDNN of %s: %s", what, cudnnGetErrorString(dnn));
    dc_hint(e, "cuDNN is several libraries, libcudnn_*.so.%d: all of one version must lie beside each other.", CUDNN_MAJOR);
    return s;
}

dc_status gpu_open(gpu **out, const gpu_options *o, dc_error *e)
{
    *out = NULL;
    dc_status s = find_device(e);
    if (s) return s;
    gpu *g = calloc(1, sizeof *g);
    if (!g) return dc_fail_memory(e, "a device", sizeof *g);
    g->deterministic = o->deterministic;
    if (o->log) g->log = *o->log;
    if (o->plans && !o->deterministic && !(g->plans = dc_strdup(o->plans))) s = dc_fail_memory(e, "a device", strlen(o->plans));
    if (!s) s = describe(g, e);
    if (!s) s = open_libraries(g, e);
    if (s) gpu_close(g);
    else *out = g;
    return s;
}

void gpu_close(gpu *g)
{
    if (!g) return;
    g->quiet = true; /* what fails now has failed before */
    if (g->stream) cudaStreamSynchronize(g->stream);
    gpu_conv_found_free(g);
    gpu_products_free(g);
    if (g->dnn) cudnnDestroy(g->dnn);
    if (g->lt) cublasLtDestroy(g->lt);
    cudaFree(g->workspace);
    for (int i = 0; i < 2; i++)
        if (g->mark[i]) cudaEventDestroy(g->mark[i]);
    if (g->stream) cudaStreamDestroy(g->stream);
    free(g->plans);
    free(g);
}

const gpu_info *gpu_about(const gpu *g) { return &g->info; }
void *gpu_stream(gpu *g) { return g->stream; }

/* ---- memory and copies ---------------------------------------------------------------------------------------------- */

/* That memory is out is for the caller to tell: it knows what for. */
static void *allocated(gpu *g, const char *name, cudaError_t result, void *p)
{
    if (result == cudaSuccess) return p;
    if (result == cudaErrorMemoryAllocation) cudaGetLastError();
    else gpu_cuda(g, name, result);
    return NULL;
}

void *gpu_alloc(gpu *g, uint64_t bytes)
{
    void *p = NULL;
    cudaError_t r = cudaMalloc(&p, bytes ? bytes : 1);
    return allocated(g, "cudaMalloc", r, p);
}

void gpu_free(gpu *g, void *p)
{
    if (!p) return;
    gpu_wait(g);
    GPU_CUDA(g, cudaFree, p);
}

void *gpu_alloc_host(gpu *g, uint64_t bytes)
{
    void *p = NULL;
    cudaError_t r = cudaHostAlloc(&p, bytes ? bytes : 1, cudaHostAllocDefault);
    return allocated(g, "cudaHostAlloc", r, p);
}

void gpu_free_host(gpu *g, void *p)
{
    if (!p) return;
    gpu_wait(g);
    GPU_CUDA(g, cudaFreeHost, p);
}

dc_status gpu_wait(gpu *g) { return GPU_CUDA(g, cudaStreamSynchronize, g->stream) ? DC_IO : DC_OK; }

static dc_status move(gpu *g, void *to, const void *from, uint64_t bytes, enum cudaMemcpyKind kind)
{
    return bytes ? GPU_CUDA(g, cudaMemcpyAsync, to, from, bytes, kind, g->stream) : DC_OK;
}

static dc_status move_now(gpu *g, void *to, const void *from, uint64_t bytes, enum cudaMemcpyKind kind)
{
    dc_status s = move(g, to, from, bytes, kind), waited = gpu_wait(g);
    return s ? s : waited;
}

dc_status gpu_write(gpu *g, void *to, const void *host, uint64_t bytes) { return move_now(g, to, host, bytes, cudaMemcpyHostToDevice); }
dc_status gpu_read(gpu *g, void *host, const void *from, uint64_t bytes) { return move_now(g, host, from, bytes, cudaMemcpyDeviceToHost); }

dc_status gpu_copy(gpu *g, const void *args)
{
    const gpu_copy_args *a = args;
    return move(g, a->to, a->from, a->bytes, cudaMemcpyDefault); /* addresses tell which way */
}

/* ---- graphs --------------------------------------------------------------------------------------------------------- */

struct gpu_graph {
    cudaGraphExec_t exec;
};

/* Relaxed: a library may load a kernel it has not used yet. */
dc_status gpu_record(gpu *g)
{
    dc_status s = GPU_CUDA(g, cudaStreamBeginCapture, g->stream, cudaStreamCaptureModeRelaxed);
    g->recording = !s;
    return s;
}

dc_status gpu_record_end(gpu *g, gpu_graph **out)
{
    *out = NULL;
    cudaGraph_t graph = NULL;
    g->recording = false;
    dc_status s = GPU_CUDA(g, cudaStreamEndCapture, g->stream, &graph);
    gpu_graph *made = s || !graph ? NULL : calloc(1, sizeof *made);
    if (!made && !s) s = graph ? DC_NO_MEMORY : DC_IO;
    if (!s) s = GPU_CUDA(g, cudaGraphInstantiateWithFlags, &made->exec, graph, 0);
    if (!s) GPU_CUDA(g, cudaGraphUpload, made->exec, g->stream); /* else the first replay does it */
    if (graph) cudaGraphDestroy(graph);
    if (s) free(made);
    else *out = made;
    return s;
}

dc_status gpu_replay(gpu *g, gpu_graph *graph) { return GPU_CUDA(g, cudaGraphLaunch, graph->exec, g->stream); }

void gpu_graph_free(gpu *g, gpu_graph *graph)
{
    if (!graph) return;
    gpu_wait(g);
    GPU_CUDA(g, cudaGraphExecDestroy, graph->exec);
    free(graph);
}

/* ---- time ----------------------------------------------------------------------------------------------------------- */

void gpu_mark(gpu *g, int which) { GPU_CUDA(g, cudaEventRecord, g->mark[which], g->stream); }

double gpu_seconds(gpu *g)
{
    float ms = 0;
    if (GPU_CUDA(g, cudaEventSynchronize, g->mark[1]) || GPU_CUDA(g, cudaEventElapsedTime, &ms, g->mark[0], g->mark[1])) return INFINITY;
    return ms / 1e3;
}
