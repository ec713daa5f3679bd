/* product.c - matrix products by cuBLASLt, which is column-major: our y [m,n] = a b' is its y' [n,m] = b a', so that its first matrix is b.
 * CUBLAS_COMPUTE_32F: of F32 plain float32 (TF32 would be another type), of F16 and BF16 tensor cores that add in float32. */
#include "backends/cuda/gpu_private.h"
#include "backends/cuda/kernels.h"
#include <stdlib.h>
#include <string.h>

/* All that decides how it is done; no pointers. */
typedef struct product_key {
    int64_t m, n, k, lda, ldb, ldc, ldy, step_a, step_b, step_y;
    int32_t batch;
    uint8_t in, out, b_rows, has_c, has_bias, align[4], align_bias; /* align: of a, b, c, y, as powers of two up to 256 bytes */
    uint8_t pad[2];
} product_key;
_Static_assert(sizeof(product_key) == 10 * sizeof(int64_t) + sizeof(int32_t) + 12, "keys are compared by their bytes");

typedef struct product {
    struct product *next;
    product_key key;
    cublasLtMatmulDescOpaque_t how;
    cublasLtMatrixLayoutOpaque_t a, b, c, y;
    cublasLtMatmulAlgo_t algorithm;
    bool epilogue; /* the bias is part of it; else another kernel adds it */
    dc_status failed;
} product;

#define BUCKETS 512
struct gpu_products {
    product *bucket[BUCKETS];
};

static cudaDataType_t data_type(uint8_t t) { return t == DC_F16 ? CUDA_R_16F : t == DC_BF16 ? CUDA_R_16BF : CUDA_R_32F; }
static uint8_t alignment(const void *p) { return p ? (uint8_t)__builtin_ctzll((uint64_t)(uintptr_t)p | 256) : 8; }

static product_key key_of(const gpu_product_args *x)
{
    product_key k = {.m = x->m,
                     .n = x->n,
                     .k = x->k,
                     .lda = x->lda,
                     .ldb = x->ldb,
                     .ldc = x->c ? x->ldc : x->ldy,
                     .ldy = x->ldy,
                     .batch = x->batch > 1 ? x->batch : 1,
                     .in = x->in,
                     .out = x->out,
                     .b_rows = x->b_rows,
                     .has_c = x->c != NULL,
                     .has_bias = x->bias != NULL,
                     .align = {alignment(x->a), alignment(x->b), alignment(x->c ? x->c : x->y), alignment(x->y)},
                     .align_bias = alignment(x->bias)};
    if (k.batch > 1) k.step_a = x->step_a, k.step_b = x->step_b, k.step_y = x->step_y;
    return k;
}

static uint32_t hash(const product_key *k)
{
    const unsigned char *p = (const unsigned char *)k;
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < sizeof *k; i++) h = (h ^ p[i]) * 16777619u;
    return (h ^ h >> 16) % BUCKETS;
}

/* ---- choosing ------------------------------------------------------------------------------------------------------- */

static dc_status lay_out(gpu *g, cublasLtMatrixLayout_t l, uint8_t type, int64_t rows, int64_t columns, int64_t ld, int32_t batch, int64_t step)
{
    dc_status s = GPU_BLAS(g, cublasLtMatrixLayoutInit, l, data_type(type), (uint64_t)rows, (uint64_t)columns, ld);
    if (s || batch == 1) return s;
    s = GPU_BLAS(g, cublasLtMatrixLayoutSetAttribute, l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
    return s ? s : GPU_BLAS(g, cublasLtMatrixLayoutSetAttribute, l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step);
}

static dc_status set_bias(gpu *g, product *p, const void *bias)
{
    return GPU_BLAS(g, cublasLtMatmulDescSetAttribute, &p->how, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
}

static dc_status describe(gpu *g, product *p, const void *bias)
{
    const product_key *k = &p->key;
    const int32_t transposed = k->b_rows ? CUBLAS_OP_N : CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    dc_status s = GPU_BLAS(g, cublasLtMatmulDescInit, &p->how, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (!s) s = GPU_BLAS(g, cublasLtMatmulDescSetAttribute, &p->how, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
    if (!s && p->epilogue) s = GPU_BLAS(g, cublasLtMatmulDescSetAttribute, &p->how, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (!s && p->epilogue) s = set_bias(g, p, bias);
    if (!s) s = lay_out(g, &p->b, k->in, k->b_rows ? k->n : k->k, k->b_rows ? k->k : k->n, k->ldb, k->batch, k->step_b);
    if (!s) s = lay_out(g, &p->a, k->in, k->k, k->m, k->lda, k->batch, k->step_a);
    if (!s) s = lay_out(g, &p->c, k->out, k->n, k->m, k->ldc, k->batch, k->step_y);
    if (!s) s = lay_out(g, &p->y, k->out, k->n, k->m, k->ldy, k->batch, k->step_y);
    return s;
}

/* The library's best guess. Its guesses could be measured here, where g does not record. */
static dc_status choose(gpu *g, product *p)
{
    const product_key *k = &p->key;
    cublasLtMatmulPreferenceOpaque_t wishes;
    const uint64_t workspace = GPU_PRODUCT_WORKSPACE;
    /* Pieces of a sum are added as float32, never as 16-bit outputs. */
    const uint32_t sums = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    static const cublasLtMatmulPreferenceAttributes_t name[4] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    dc_status s = GPU_BLAS(g, cublasLtMatmulPreferenceInit, &wishes);
    if (!s) s = GPU_BLAS(g, cublasLtMatmulPreferenceSetAttribute, &wishes, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    if (!s) s = GPU_BLAS(g, cublasLtMatmulPreferenceSetAttribute, &wishes, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &sums, sizeof sums);
    for (int i = 0; i < 4 && !s; i++) {
        const uint32_t bytes = 1u << k->align[i];
        s = GPU_BLAS(g, cublasLtMatmulPreferenceSetAttribute, &wishes, name[i], &bytes, sizeof bytes);
    }
    if (s) return s;
    cublasLtMatmulHeuristicResult_t found[4];
    int n = 0;
    cublasStatus_t r = cublasLtMatmulAlgoGetHeuristic(g->lt, &p->how, &p->b, &p->a, &p->c, &p->y, &wishes, 4, found, &n);
    for (int i = 0; r == CUBLAS_STATUS_SUCCESS && i < n; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS) {
            p->algorithm = found[i].algo;
            return DC_OK;
        }
    return r == CUBLAS_STATUS_SUCCESS || r == CUBLAS_STATUS_NOT_SUPPORTED ? DC_UNAVAILABLE : gpu_blas(g, "cublasLtMatmulAlgoGetHeuristic", r);
}

/* NULL when memory is out. What could not be chosen once is not tried again. */
static product *find(gpu *g, const gpu_product_args *x)
{
    const product_key k = key_of(x);
    if (!g->products && !(g->products = calloc(1, sizeof *g->products))) return NULL;
    product **at = &g->products->bucket[hash(&k)];
    for (product *p = *at; p; p = p->next)
        if (!memcmp(&p->key, &k, sizeof k)) return p;
    product *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->key = k;
    p->epilogue = k.has_bias && k.batch == 1;
    p->failed = describe(g, p, x->bias);
    if (!p->failed) p->failed = choose(g, p);
    if (p->failed && p->epilogue) {
        p->epilogue = false;
        p->failed = describe(g, p, NULL);
        if (!p->failed) p->failed = choose(g, p);
    }
    if (p->failed)
        dc_log_write(&g->log, DC_LOG_WARNING, "cuda: no way for the product %lld x %lld x %lld (%s to %s) of %d", (long long)k.m, (long long)k.n,
                     (long long)k.k, dc_dtype_name((dc_dtype)k.in), dc_dtype_name((dc_dtype)k.out), k.batch);
    p->next = *at;
    return *at = p;
}

void gpu_products_free(gpu *g)
{
    for (int i = 0; g->products && i < BUCKETS; i++)
        for (product *p = g->products->bucket[i], *next; p; p = next) {
            next = p->next;
            free(p);
        }
    free(g->products);
    g->products = NULL;
}

/* ---- doing ---------------------------------------------------------------------------------------------------------- */

dc_status gpu_product(gpu *g, const void *args)
{
    const gpu_product_args *x = args;
    product *p = find(g, x);
    if (!p) return DC_NO_MEMORY;
    dc_status s = p->failed;
    if (!s && p->epilogue) s = set_bias(g, p, x->bias);
    if (s) return s;
    const float beta = x->c ? 1 : 0;
    s = GPU_BLAS(g, cublasLtMatmul, g->lt, &p->how, &x->scale, x->b, &p->b, x->a, &p->a, &beta, x->c ? x->c : x->y, &p->c, x->y, &p->y, &p->algorithm,
                 g->workspace, GPU_PRODUCT_WORKSPACE, g->stream);
    if (s || !x->bias || p->epilogue) return s;
    const k_view y = {.data = x->y, .stride = x->ldy, .type = x->out};
    const k_view bias = {.data = (void *)(uintptr_t)x->bias, .stride = x->n, .type = x->out};
    const k_finish_args finish = {
        .x = y, .y = y, .add = bias, .rows = x->m, .rows_of_image = x->m, .c = (int32_t)x->n, .add_images = 1, .act = DC_ACT_NONE};
    return k_finish(g, &finish);
}
