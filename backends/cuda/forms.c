/* forms.c - parameters on the device: bytes of the file go there as they are, and k_pack orders and rounds them. Types that it does not know
 * (blocks, 8 bits, whole numbers) become floats on their way. */
#include "backends/cuda/cuda.h"
#include <stdlib.h>

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
    if (status) return status;
    if (known) return gpu_write(cuda_of(d)->g, cuda_of(d)->temporary, (const char *)s->data + (uint64_t)from * dc_dtype_size(*type), bytes);
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
    const int64_t row = (int64_t)c * area, most = DC_PIECE / 4 / row > 0 ? DC_PIECE / 4 / row : 1;
    const uint64_t to_row = (uint64_t)area * (uint64_t)channels * dc_dtype_size((dc_dtype)y.type);
    for (int64_t at = 0; at < s->rows; at += most) {
        k_pack_args a = {.rows = s->rows - at < most ? s->rows - at : most, .c = c, .area = area, .channels = channels};
        dc_dtype type;
        dc_status status = bring(d, s, at * row, a.rows * row, &type, &a.scale);
        if (status) return status;
        a.from = cuda_of(d)->temporary;
        a.from_type = type;
        a.y = (k_view){.data = (char *)y.data + (uint64_t)(first + at) * to_row, .type = y.type};
        QUEUE(cuda_queue(d), k_pack, a);
    }
    return DC_OK;
}

/* A source stored as [in,out]: put right on its way. Only small projections are stored so. */
static dc_status pack_transposed(dc_device *d, const dc_param *p, k_view y)
{
    const int64_t in = p->desc.in, out = p->desc.out;
    float *stored = malloc(sizeof *stored * (size_t)(2 * in * out) + 1), *right = stored + in * out;
    if (!stored) return DC_NO_MEMORY;
    dc_source_floats(&p->desc.weight[0], 0, in * out, stored);
    for (int64_t i = 0; i < in; i++)
        for (int64_t o = 0; o < out; o++) right[o * in + i] = stored[i * out + o];
    dc_status s = pack(d, &(dc_source){.data = right, .dtype = DC_F32, .rows = out}, y, 0, p->desc.in, 1, cuda_channels_of(p));
    free(stored);
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

static cuda_form form_at(const dc_param *p, void *at)
{
    cuda_form f = {.weight = at, .rows = cuda_rows_of(p), .channels = cuda_channels_of(p)};
    f.bias = (char *)at + cuda_up(weight_bytes(p));
    f.bias32 = (float *)(void *)((char *)f.bias + cuda_up((uint64_t)f.rows * dc_dtype_size(type_of(p))));
    return f;
}

/* Room on the device for the largest of the forms that come for their use. */
static bool room_for_visitor(dc_device *d, uint64_t bytes)
{
    cuda *c = cuda_of(d);
    if (bytes <= c->visitor_bytes) return true;
    cuda_free(d, c->visitor, c->visitor_bytes);
    c->visitor_bytes = 0;
    c->visitor = cuda_alloc(d, bytes);
    if (c->visitor) c->visitor_bytes = bytes;
    return c->visitor != NULL;
}

/* Filled in the visitors' room, and kept in host memory. */
static dc_status prepare_in_host(dc_device *d, const dc_param *p, cuda_form *f)
{
    gpu *g = cuda_of(d)->g;
    if (!room_for_visitor(d, p->form_bytes)) return DC_NO_MEMORY;
    *f = form_at(p, cuda_of(d)->visitor);
    dc_status s = fill(d, p, f);
    if (!s && !(f->host = gpu_alloc_host(g, p->form_bytes))) s = DC_NO_MEMORY;
    return s ? s : gpu_read(g, f->host, f->weight, p->form_bytes);
}

static dc_status prepare_here(dc_device *d, const dc_param *p, cuda_form *f)
{
    void *at = cuda_alloc(d, p->form_bytes);
    *f = form_at(p, at);
    return at ? fill(d, p, f) : DC_NO_MEMORY;
}

dc_status cuda_param_prepare(dc_device *d, dc_param *p, dc_error *e)
{
    const cuda *c = cuda_of(d);
    cuda_form *f = calloc(1, sizeof *f);
    if (!f) return dc_fail_memory(e, p->desc.name, sizeof *f);
    p->form = f;
    dc_status s = DC_NO_MEMORY;
    const bool fits = c->held + p->form_bytes + c->kept_free <= c->limit;
    if (fits || !is_matrix(p)) s = prepare_here(d, p, f);
    else s = prepare_in_host(d, p, f);
    if (!s) return DC_OK;
    cuda_param_drop(d, p);
    p->form = NULL;
    if (s == DC_NO_MEMORY) dc_fail_memory(e, p->desc.name, p->form_bytes);
    if (s == DC_NO_MEMORY) dc_hint(e, "The GPU's memory is full: try a smaller model or size, or --device cpu.");
    return s;
}

void cuda_param_drop(dc_device *d, dc_param *p)
{
    cuda_form *f = p->form;
    if (f->host) cuda_wait(d);
    gpu_free_host(cuda_of(d)->g, f->host);
    if (!f->host && f->weight != cuda_of(d)->visitor) cuda_free(d, f->weight, p->form_bytes);
    free(f);
}

cuda_form cuda_form_of(dc_device *d, const dc_param *p)
{
    const cuda_form *f = p->form;
    if (!f->host) return *f;
    const gpu_copy_args come = {.to = cuda_of(d)->visitor, .from = f->host, .bytes = p->form_bytes};
    QUEUE(cuda_queue(d), gpu_copy, come);
    return form_at(p, come.to);
}
