/* forms.c - parameters on the device: bytes of the file go there as they are, and k_pack orders and rounds them. Types that it does not know
 * (blocks, 8 bits, whole numbers) become floats on their way. */
#include "backends/cuda/cuda.h"
#include <stdlib.h>

enum { PIECE = 32 << 20 }; /* bytes that go at once */

static bool is_matrix(const dc_param *p) { return p->desc.kind == DC_PARAM_LINEAR || p->desc.kind == DC_PARAM_CONV; }
static int32_t filled_up(int32_t n) { return (n + CUDA_CHANNELS - 1) / CUDA_CHANNELS * CUDA_CHANNELS; }
int32_t cuda_channels_of(const dc_param *p) { return is_matrix(p) ? filled_up(p->desc.in) : p->desc.in; }
int32_t cuda_rows_of(const dc_param *p) { return is_matrix(p) ? filled_up(p->desc.out) : p->desc.out; }
static dc_dtype type_of(const dc_param *p) { return p->desc.kind == DC_PARAM_NORM ? DC_F32 : p->type; }

static uint64_t weight_bytes(const dc_param *p)
{
    return dc_dtype_size(type_of(p)) * (uint64_t)cuda_rows_of(p) * (uint64_t)cuda_channels_of(p) * (uint64_t)p->desc.kh * (uint64_t)p->desc.kw;
}

uint64_t cuda_param_bytes(dc_device *d, const dc_param *p)
{
    (void)d;
    const uint64_t rows = (uint64_t)cuda_rows_of(p);
    return cuda_up(weight_bytes(p)) + cuda_up(rows * dc_dtype_size(type_of(p))) + cuda_up(rows * sizeof(float));
}

/* ---- on their way ------------------------------------------------------------------------------------------------------------ */

static dc_status room_for(dc_device *d, uint64_t bytes)
{
    cuda *c = cuda_of(d);
    if (bytes <= c->temporary_bytes) return DC_OK;
    dc_status s = cuda_wait(d);
    cuda_free(d, c->temporary, c->temporary_bytes);
    c->temporary_bytes = 0;
    c->temporary = cuda_alloc(d, bytes);
    if (!c->temporary) return DC_NO_MEMORY;
    c->temporary_bytes = bytes;
    return s;
}

/* Numbers [from, from + n) of a source, in the device's temporary memory, as *type. */
static dc_status bring(dc_device *d, const dc_source *s, int64_t from, int64_t n, dc_dtype *type, float *scale)
{
    const bool known = s->dtype == DC_F32 || s->dtype == DC_F16 || s->dtype == DC_BF16;
    *type = known ? s->dtype : DC_F32;
    *scale = known ? s->scale : 0;
    const uint64_t bytes = (uint64_t)n * dc_dtype_size(*type);
    dc_status status = room_for(d, bytes);
    if (!status) status = cuda_wait(d); /* the piece before has been packed */
    if (status || known)
        return status ? status
                      : gpu_write(cuda_of(d)->g, cuda_of(d)->temporary, (const char *)s->data + (uint64_t)from * dc_dtype_size(*type), bytes);
    float *floats = malloc(bytes + 1);
    if (!floats) return DC_NO_MEMORY;
    dc_source_floats(s, from, n, floats);
    status = gpu_write(cuda_of(d)->g, cuda_of(d)->temporary, floats, bytes);
    free(floats);
    return status;
}

/* All rows of a source [rows,c,area] behind row `first` of y [..,area,channels]. */
static dc_status pack(dc_device *d, const dc_source *s, k_view y, int64_t first, int32_t c, int32_t area, int32_t channels)
{
    const int64_t row = (int64_t)c * area, most = PIECE / 4 / row > 0 ? PIECE / 4 / row : 1;
    char *to = (char *)y.data + (uint64_t)(first * area) * (uint64_t)channels * dc_dtype_size((dc_dtype)y.type);
    for (int64_t at = 0; at < s->rows; at += most) {
        const int64_t n = s->rows - at < most ? s->rows - at : most;
        k_pack_args a = {.from = NULL, .rows = n, .row_step = row, .c = c, .area = area, .channels = channels};
        dc_dtype type;
        dc_status status = bring(d, s, at * row, n * row, &type, &a.scale);
        if (status) return status;
        a.from = cuda_of(d)->temporary;
        a.from_type = type;
        a.y = (k_view){.data = to + (uint64_t)(at * area) * (uint64_t)channels * dc_dtype_size((dc_dtype)y.type), .type = y.type};
        QUEUE(cuda_queue(d), k_pack, a);
    }
    return DC_OK;
}

/* The whole of a source stored as [in,out]. */
static dc_status pack_transposed(dc_device *d, const dc_param *p, k_view y)
{
    const int64_t in = p->desc.in, out = p->desc.out;
    k_pack_args a = {.y = y, .rows = out, .row_step = out, .c = p->desc.in, .area = 1, .channels = cuda_channels_of(p), .transposed = true};
    dc_dtype type;
    dc_status s = bring(d, &p->desc.weight[0], 0, in * out, &type, &a.scale);
    a.from = cuda_of(d)->temporary;
    a.from_type = type;
    if (!s) QUEUE(cuda_queue(d), k_pack, a);
    return s;
}

/* ---- a form ------------------------------------------------------------------------------------------------------------------- */

static dc_status zero(dc_device *d, void *at, uint64_t bytes)
{
    k_lincomb_args a = {.y = {.data = at, .stride = 4, .type = DC_F32}, .rows = (int64_t)(bytes / 16), .c = 4};
    QUEUE(cuda_queue(d), k_lincomb, a);
    return DC_OK;
}

static dc_status fill(dc_device *d, const dc_param *p, const cuda_form *f)
{
    const dc_param_desc *k = &p->desc;
    const int32_t area = k->kh * k->kw;
    const k_view weight = {.data = f->weight, .type = type_of(p)}, bias = {.data = f->bias, .type = type_of(p)},
                 bias32 = {.data = f->bias32, .type = DC_F32};
    dc_status s = zero(d, f->weight, p->form_bytes);
    if (!s && k->transposed) s = pack_transposed(d, p, weight);
    for (int64_t i = 0, at = 0; !s && !k->transposed && i < k->n_weight; at += k->weight[i++].rows)
        s = pack(d, &k->weight[i], weight, at, k->in, area, f->channels);
    for (int64_t i = 0, at = 0; !s && i < k->n_bias; at += k->bias[i++].rows) {
        s = pack(d, &k->bias[i], bias, at, 1, 1, 1);
        if (!s) s = pack(d, &k->bias[i], bias32, at, 1, 1, 1);
    }
    dc_status done = cuda_wait(d);
    return s ? s : done;
}

dc_status cuda_param_prepare(dc_device *d, dc_param *p, dc_error *e)
{
    cuda_form *f = malloc(sizeof *f);
    char *at = f ? cuda_alloc(d, p->form_bytes) : NULL;
    if (!at) {
        free(f);
        dc_status s = dc_fail_memory(e, p->desc.name, p->form_bytes);
        dc_hint(e, "The GPU's memory is full: try a smaller model, or --device cpu.");
        return s;
    }
    *f = (cuda_form){.weight = at, .rows = cuda_rows_of(p), .channels = cuda_channels_of(p)};
    f->bias = at + cuda_up(weight_bytes(p));
    f->bias32 = (float *)(void *)((char *)f->bias + cuda_up((uint64_t)f->rows * dc_dtype_size(type_of(p))));
    dc_status s = fill(d, p, f);
    p->form = f;
    if (s) cuda_param_drop(d, p);
    if (s) p->form = NULL;
    return s;
}

void cuda_param_drop(dc_device *d, dc_param *p)
{
    cuda_form *f = p->form;
    cuda_free(d, f->weight, p->form_bytes);
    free(f);
}
