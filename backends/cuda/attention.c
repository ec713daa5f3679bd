/* attention.c - flash attention where the kernel takes it; else (float32, wide heads as the VAE's 512) scores of some queries at a time: product,
 * softmax, product. */
#include "backends/cuda/cuda.h"

enum { MOST_SCORES = 64 << 20 }; /* bytes of scores at a time */

static k_attention_args flash_args(const dc_attention_args *a)
{
    return (k_attention_args){.q = cuda_view(a->q),
                              .k = cuda_view(a->k),
                              .v = cuda_view(a->v),
                              .y = cuda_view(a->y),
                              .n = (int32_t)a->q.dim[0],
                              .kn = (int32_t)a->k.dim[0],
                              .tq = (int32_t)a->q.dim[1],
                              .tk = (int32_t)a->k.dim[1],
                              .keys = a->o.keys,
                              .heads = a->o.heads,
                              .d = (int32_t)(dc_channels(a->q) / a->o.heads),
                              .scale = a->o.scale,
                              .causal = a->o.causal};
}

/* By strides and types alone: while planning there are no addresses. */
static bool is_flash(const dc_attention_args *a)
{
    k_attention_args f = flash_args(a);
    f.q.data = f.k.data = f.v.data = f.y.data = NULL;
    return k_attention_takes(&f);
}

/* ---- by products -------------------------------------------------------------------------------------------------------------- */

typedef struct chunked {
    dc_dtype type;     /* of all that is multiplied */
    int64_t ld, chunk; /* numbers of a row of scores, rows at a time */
    uint64_t scores, chances, q, k, v;
} chunked;

static uint64_t copy_bytes(dc_tensor t, dc_dtype type) { return t.dtype == type ? 0 : cuda_up((uint64_t)dc_numel(t) * dc_dtype_size(type)); }

static chunked chunks_of(const dc_attention_args *a)
{
    chunked c = {.type = (dc_dtype)a->q.dtype, .ld = (a->o.keys + 7) / 8 * 8};
    if (a->k.dtype != c.type || a->v.dtype != c.type) c.type = DC_F32;
    const int64_t row = a->o.heads * c.ld * 4, most = MOST_SCORES / row > 0 ? MOST_SCORES / row : 1;
    c.chunk = most < a->q.dim[1] ? most : a->q.dim[1];
    c.scores = cuda_up((uint64_t)(c.chunk * row));
    c.chances = cuda_up((uint64_t)(c.chunk * row / 4) * dc_dtype_size(c.type));
    c.q = copy_bytes(a->q, c.type);
    c.k = copy_bytes(a->k, c.type);
    c.v = copy_bytes(a->v, c.type);
    return c;
}

/* t in another type, at `at`; t itself when it has it. */
static k_view in_type(dc_device *d, dc_tensor t, dc_dtype type, void *at)
{
    if (t.dtype == type) return cuda_view(t);
    k_finish_args f = {.x = cuda_view(t), .y = {.data = at, .stride = dc_channels(t), .type = type}, .rows = dc_rows(t), .rows_of_image = 1};
    f.c = (int32_t)dc_channels(t);
    QUEUE(cuda_queue(d), k_finish, f);
    return f.y;
}

static void *number(k_view v, int64_t i) { return (char *)v.data + i * (int64_t)dc_dtype_size((dc_dtype)v.type); }

/* Queries [first, first + rows) of image n. */
static void chunk(dc_device *d, const dc_attention_args *a, const chunked *c, const k_view qkv[3], int64_t n, int64_t first, int64_t rows,
                  char *scratch)
{
    const int64_t head = dc_channels(a->q) / a->o.heads, Tq = a->q.dim[1], Tk = a->k.dim[1], key_image = a->k.dim[0] == 1 ? 0 : n;
    const k_view q = qkv[0], k = qkv[1], v = qkv[2], y = cuda_view(a->y), p = {.data = scratch + c->scores, .stride = c->ld, .type = c->type};
    gpu_product_args s = {
        .y = scratch, .a = number(q, (n * Tq + first) * q.stride), .b = number(k, key_image * Tk * k.stride), .lda = q.stride, .ldb = k.stride};
    s.m = rows;
    s.n = a->o.keys;
    s.k = head;
    s.ldy = c->ld;
    s.step_a = s.step_b = head;
    s.step_y = rows * c->ld;
    s.scale = a->o.scale;
    s.batch = a->o.heads;
    s.in = (uint8_t)c->type;
    s.out = DC_F32;
    QUEUE(cuda_queue(d), gpu_product, s);
    k_softmax_args m = {
        .p = p, .s = (float *)(void *)scratch, .rows = a->o.heads * rows, .ld = (int32_t)c->ld, .keys = a->o.keys, .queries = (int32_t)rows};
    m.first = (int32_t)first;
    m.causal = a->o.causal;
    QUEUE(cuda_queue(d), k_softmax, m);
    gpu_product_args o = {
        .y = number(y, (n * Tq + first) * y.stride), .a = p.data, .b = number(v, key_image * Tk * v.stride), .lda = c->ld, .ldb = v.stride};
    o.m = rows;
    o.n = head;
    o.k = a->o.keys;
    o.ldy = y.stride;
    o.step_a = rows * c->ld;
    o.step_b = o.step_y = head;
    o.scale = 1;
    o.batch = a->o.heads;
    o.in = (uint8_t)c->type;
    o.out = (uint8_t)y.type;
    o.b_rows = true;
    QUEUE(cuda_queue(d), gpu_product, o);
}

uint64_t cuda_attention_scratch(dc_device *d, const dc_attention_args *a)
{
    (void)d;
    if (is_flash(a)) return 0;
    const chunked c = chunks_of(a);
    return c.scores + c.chances + c.q + c.k + c.v;
}

dc_status cuda_attention(dc_device *d, const dc_attention_args *a, void *scratch)
{
    if (is_flash(a)) {
        k_attention_args f = flash_args(a);
        if (!k_attention_takes(&f)) return DC_INTERNAL; /* a slice that begins within 16 bytes: no model has one */
        QUEUE(cuda_queue(d), k_attention, f);
        return DC_OK;
    }
    const chunked c = chunks_of(a);
    char *at = (char *)scratch + c.scores + c.chances;
    const k_view qkv[3] = {in_type(d, a->q, c.type, at), in_type(d, a->k, c.type, at + c.q), in_type(d, a->v, c.type, at + c.q + c.k)};
    for (int64_t n = 0; n < a->q.dim[0]; n++)
        for (int64_t first = 0; first < a->q.dim[1]; first += c.chunk)
            chunk(d, a, &c, qkv, n, first, a->q.dim[1] - first < c.chunk ? a->q.dim[1] - first : c.chunk, scratch);
    return DC_OK;
}

void cuda_attention_choice(dc_device *d, const dc_attention_args *a, dc_choice *out)
{
    (void)d;
    if (is_flash(a)) dc_choose(out, "flash", "heads of %d", (int)(dc_channels(a->q) / a->o.heads));
    else dc_choose(out, "products", "%d queries at a time", (int)chunks_of(a).chunk);
}
