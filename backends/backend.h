/* backend.h - the seam: what a device fills in. Included by ops.c, params.c and the devices, by nobody else.
 *
 * Arguments arrive checked: shapes agree, dtypes are right, tensors are where the plan put them. A device
 * never allocates in an op: it asks for scratch bytes while planning (same args, data pointers NULL) and
 * gets them when it runs. Outputs may hold anything (tests fill them with NaN). y may lie exactly where one input
 * lies: residual (conv2d, linear), x (norm, activate), any term (lincomb); it overlaps nothing else.
 *
 * On a device whose activations are halves (dc_device.type) any input may be F32, F16 or BF16: the models' uploads and the sampler's registers
 * are F32, and a model of wide numbers has BF16 among others of F16. */
#ifndef DC_BACKENDS_BACKEND_H
#define DC_BACKENDS_BACKEND_H
#include "backends/ops.h"

/* Bytes of a file that go to a device's own memory at once, but for rows that are longer. */
#define DC_PIECE (1u << 20)

/* One layer's parameters as devices see them. */
struct dc_param {
    dc_param_desc desc;  /* desc.name is owned by the set */
    dc_dtype type;       /* of what its matrix op gives, and of the arithmetic's inputs: the device's, or a wider one */
    void *form;          /* the device's own, made by param_prepare; NULL when dropped */
    uint64_t form_bytes; /* from param_bytes */
};

typedef struct dc_conv_args {
    dc_tensor y, x;
    const dc_param *k;
    dc_conv_opt o;  /* o.stride >= 1 */
    int in_h, in_w; /* size of the convolved input after pre (the resize target, or x's) */
} dc_conv_args;
/* Where row y of the input (after the resize) lies: in row *row of the tensor returned, x or a neighbouring strip; DC_NONE: outside. */
dc_tensor dc_conv_source(const dc_conv_args *a, int64_t y, int64_t *row);
typedef struct dc_linear_args {
    dc_tensor y, x;
    const dc_param *k;
    dc_linear_opt o;
} dc_linear_args;
typedef struct dc_norm_args {
    dc_tensor y, x;
    const dc_param *norm;
    int groups; /* 0: layer norm */
    float eps;
    dc_act act;
} dc_norm_args;
typedef struct dc_group_sums_args {
    dc_tensor y, x;
    int rows; /* of a block; the last one may have fewer */
} dc_group_sums_args;
typedef struct dc_group_scale_args {
    dc_tensor y;
    const dc_tensor *sums;
    int n;
    const dc_param *norm;
    int groups;
    float eps;
    int64_t pixels; /* that the sums are of */
} dc_group_scale_args;
typedef struct dc_attention_args {
    dc_tensor y, q, k, v;
    dc_attention_opt o; /* scale and keys filled in */
} dc_attention_args;
typedef struct dc_embed_args {
    dc_tensor y, ids;
    const dc_param *table, *positions;
} dc_embed_args;
typedef struct dc_gather_args {
    dc_tensor y, x, index;
} dc_gather_args;
typedef struct dc_timestep_args {
    dc_tensor y, t;
    dc_timestep_opt o;
} dc_timestep_args;
typedef struct dc_lincomb_args {
    dc_tensor y;
    dc_term term[8];
    int n;
} dc_lincomb_args; /* no zero coefficients; n may be 0: y = 0 */
typedef struct dc_act_args {
    dc_tensor y, x;
    dc_act act;
} dc_act_args;
typedef struct dc_rescale_args {
    dc_tensor y, guided, cond;
    float phi;
} dc_rescale_args;
typedef struct dc_stats_args {
    dc_tensor x;
    dc_stats *host;
} dc_stats_args;
typedef struct dc_rgb8_args {
    dc_tensor y, x;
} dc_rgb8_args;

typedef struct dc_backend {
    const char *name;
    bool conv_apart;                                                          /* conv2d's y may not lie where its residual does */
    dc_status (*open)(dc_device *d, const dc_device_options *o, dc_error *e); /* fills d->impl, d->precision, d->summary */
    void (*close)(dc_device *d);

    /* Bytes of its own memory that may be taken at once, and how many of them weights leave to buffers; both NULL: it computes in the host's. */
    uint64_t (*memory)(const dc_device *d);
    void (*keep_free)(dc_device *d, uint64_t bytes);
    void *(*alloc)(dc_device *d, uint64_t bytes); /* 64-byte aligned at least; NULL when out */
    void (*free)(dc_device *d, void *p, uint64_t bytes);
    dc_status (*upload)(dc_device *d, void *to, const void *host, uint64_t bytes);
    dc_status (*download)(dc_device *d, void *host, const void *from, uint64_t bytes);
    dc_status (*sync)(dc_device *d); /* all ops so far have finished; optional */

    uint64_t (*param_bytes)(dc_device *d, const dc_param *p);
    dc_status (*param_prepare)(dc_device *d, dc_param *p, dc_error *e);
    void (*param_drop)(dc_device *d, dc_param *p);

    /* *_scratch may be NULL: none needed. */
    uint64_t (*conv2d_scratch)(dc_device *d, const dc_conv_args *a);
    dc_status (*conv2d)(dc_device *d, const dc_conv_args *a, void *scratch);
    uint64_t (*linear_scratch)(dc_device *d, const dc_linear_args *a);
    dc_status (*linear)(dc_device *d, const dc_linear_args *a, void *scratch);
    uint64_t (*norm_scratch)(dc_device *d, const dc_norm_args *a);
    dc_status (*norm)(dc_device *d, const dc_norm_args *a, void *scratch);
    dc_status (*group_sums)(dc_device *d, const dc_group_sums_args *a);
    dc_status (*group_scale)(dc_device *d, const dc_group_scale_args *a);
    uint64_t (*attention_scratch)(dc_device *d, const dc_attention_args *a);
    dc_status (*attention)(dc_device *d, const dc_attention_args *a, void *scratch);
    /* Say how the op would be done, by what decides it when it is done. Asked while planning; may be NULL. */
    void (*conv2d_choice)(dc_device *d, const dc_conv_args *a, dc_choice *out);
    void (*linear_choice)(dc_device *d, const dc_linear_args *a, dc_choice *out);
    void (*attention_choice)(dc_device *d, const dc_attention_args *a, dc_choice *out);
    dc_status (*embed)(dc_device *d, const dc_embed_args *a); /* DATA: id out of range */
    dc_status (*gather_rows)(dc_device *d, const dc_gather_args *a);
    dc_status (*timestep_embedding)(dc_device *d, const dc_timestep_args *a);
    dc_status (*lincomb)(dc_device *d, const dc_lincomb_args *a);
    dc_status (*activate)(dc_device *d, const dc_act_args *a);
    dc_status (*rescale_std)(dc_device *d, const dc_rescale_args *a);
    dc_status (*stats)(dc_device *d, const dc_stats_args *a);
    dc_status (*to_rgb8)(dc_device *d, const dc_rgb8_args *a);
    dc_status (*dots)(dc_device *d, const dc_dots_args *a); /* NULL: not there */
} dc_backend;

struct dc_device {
    const dc_backend *be;
    void *impl;
    dc_precision precision; /* as asked for when it is opened; `open` settles AUTO */
    dc_dtype type;          /* of activations: F32, or F16 or BF16, which `open` says */
    bool exact;
    char summary[128];
    const atomic_int *cancel; /* may be NULL; devices poll it between tiles */
    const dc_log *log;
};
static inline bool dc_cancelled(const dc_device *d) { return d->cancel && atomic_load_explicit(d->cancel, memory_order_relaxed) != 0; }

const char *dc_precision_name(dc_precision p);                                 /* "bf16" */
dc_status dc_find_precision(const char *name, dc_precision *out, dc_error *e); /* NULL: AUTO. USAGE: unknown */
/* For `open`: this device has no such precision. */
dc_status dc_refuse_precision(const dc_device *d, const char *expected, dc_error *e);

extern const dc_backend dc_backend_ref; /* backends/ref: plain loops, and the commented template for a new device */
extern const dc_backend dc_backend_cpu;

/* For a device's answers: the algorithm's name, and the reason by a format. */
void dc_choose(dc_choice *out, const char *algorithm, const char *reason, ...) __attribute__((format(printf, 3, 4)));

/* weight value i of a source, as float (any float or integer storage type) */
float dc_source_value(const dc_source *s, int64_t i);
/* dc_source_floats of a block type (blocks.c); and are all numbers of a block finite? Else none is. */
void dc_block_floats(dc_dtype t, const void *data, int64_t from, int64_t n, float *out);
bool dc_block_finite(dc_dtype t, const void *block);

#endif
