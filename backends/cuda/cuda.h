/* cuda.h - the inside of the CUDA device: what its files need of each other. Private to this folder. */
#ifndef DC_BACKENDS_CUDA_CUDA_H
#define DC_BACKENDS_CUDA_CUDA_H
#include "backends/backend.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/queue.h"

typedef struct cuda {
    gpu *g;
    queue q;
    uint64_t held, limit, kept_free; /* bytes on the device, how many there may be, and how many weights leave to buffers */
    void *factors;                   /* of lincombs: CUDA_FACTORS slots of 8 floats */
    int next_factor;
    double *stats;   /* K_STATS x 4 */
    void *temporary; /* weights on their way */
    uint64_t temporary_bytes;
    void *visitor; /* room for the weights of one op that come for its use */
    uint64_t visitor_bytes;
} cuda;

#define CUDA_FACTORS 4096
#define CUDA_ALIGN   256u
static inline uint64_t cuda_up(uint64_t bytes) { return (bytes + CUDA_ALIGN - 1) / CUDA_ALIGN * CUDA_ALIGN; }
static inline cuda *cuda_of(const dc_device *d) { return d->impl; }
static inline queue *cuda_queue(const dc_device *d) { return &cuda_of(d)->q; }

/* NULL: out of memory, or past the limit. */
void *cuda_alloc(dc_device *d, uint64_t bytes);
void cuda_free(dc_device *d, void *p, uint64_t bytes);
/* Queued work is done, and what follows begins a new piece of it. */
dc_status cuda_wait(dc_device *d);

static inline k_view cuda_view(dc_tensor t)
{
    return dc_is_none(t) ? (k_view){0} : (k_view){.data = t.data, .stride = t.rank == 1 ? 1 : t.stride, .type = t.dtype};
}
/* Of a tensor of rank 1 every number is a row. */
static inline int64_t cuda_rows(dc_tensor t) { return t.rank == 1 ? t.dim[0] : dc_rows(t); }
/* The picture that a tensor of rank 3 or 4 is; of tokens each is a row. */
static inline int32_t cuda_height(dc_tensor t) { return (int32_t)t.dim[1]; }
static inline int32_t cuda_width(dc_tensor t) { return t.rank == 4 ? (int32_t)t.dim[2] : 1; }
static inline int64_t cuda_pixels(dc_tensor t) { return dc_rows(t) / (t.dim[0] ? t.dim[0] : 1); }

/* ---- forms.c: parameters on the device ---------------------------------------------------------------------------------- */

/* Matrix weights [rows][area][channels] in the param's type, rows and channels filled up with zeros to a multiple of CUDA_CHANNELS; bias in
 * that type and as F32, `rows` of each (zeros without one). Tables: [out][in]. Norms: weight and bias in F32. */
#define CUDA_CHANNELS 8
typedef struct cuda_form {
    void *weight, *bias; /* weight: the beginning of the form's memory */
    float *bias32;
    int32_t rows, channels;
    void *host; /* NULL: it lies on the device; else page-locked memory, from which it comes for each use */
} cuda_form;
/* Where it lies now: one that lives in host memory is sent for, to a place that the next one takes. So an op uses one matrix at a time (norms and
 * tables always lie on the device). */
cuda_form cuda_form_of(dc_device *d, const dc_param *p);
int32_t cuda_channels_of(const dc_param *p); /* known before the form is there */
int32_t cuda_rows_of(const dc_param *p);

uint64_t cuda_param_bytes(dc_device *d, const dc_param *p);
dc_status cuda_param_prepare(dc_device *d, dc_param *p, dc_error *e);
void cuda_param_drop(dc_device *d, dc_param *p);

/* ---- norms.c ------------------------------------------------------------------------------------------------------------- */

/* Bytes for the group norm of x (joined with x2) as factors and addends, and the calls that make them, F32 [N,2,C], at the beginning of
 * `scratch`. */
uint64_t cuda_group_bytes(dc_tensor x, dc_tensor x2);
const float *cuda_group(dc_device *d, dc_tensor x, dc_tensor x2, const dc_param *norm, int groups, float eps, void *scratch);

uint64_t cuda_norm_scratch(dc_device *d, const dc_norm_args *a);
dc_status cuda_norm(dc_device *d, const dc_norm_args *a, void *scratch);
dc_status cuda_group_sums(dc_device *d, const dc_group_sums_args *a);
dc_status cuda_group_scale(dc_device *d, const dc_group_scale_args *a);

/* ---- matrix.c, attention.c: products ---------------------------------------------------------------------------------------- */

uint64_t cuda_conv2d_scratch(dc_device *d, const dc_conv_args *a);
dc_status cuda_conv2d(dc_device *d, const dc_conv_args *a, void *scratch);
void cuda_conv2d_choice(dc_device *d, const dc_conv_args *a, dc_choice *out);
uint64_t cuda_linear_scratch(dc_device *d, const dc_linear_args *a);
dc_status cuda_linear(dc_device *d, const dc_linear_args *a, void *scratch);
uint64_t cuda_attention_scratch(dc_device *d, const dc_attention_args *a);
dc_status cuda_attention(dc_device *d, const dc_attention_args *a, void *scratch);
void cuda_attention_choice(dc_device *d, const dc_attention_args *a, dc_choice *out);

#endif
