/* ops.h - the compute vocabulary: the only compute header that models include.
 *
 *     dc_run *r = dc_run_new(device, &e);
 *     dc_run_plan(r, pass, ctx, &e);        // runs pass(ctx, r) without data: shapes, lifetimes, bytes
 *     dc_run_reserve(r, &e);                // one buffer
 *     dc_run_pass(r, pass, ctx, &e);        // the same code with data, as often as wanted; no malloc
 *
 * Ops are called one by one and say *what*; the device decides *how* (one fused kernel or three). Data is
 * channels-last, so an image [N,H,W,C] is also tokens [N,H*W,C]. Model code frees nothing: the planning pass
 * records which op reads which tensor, and the last reader ends a tensor's life.
 * Errors are sticky in the run: after the first one every op is a no-op that returns DC_NONE. */
#ifndef DC_BACKENDS_OPS_H
#define DC_BACKENDS_OPS_H
#include "base/log.h"
#include "base/status.h"
#ifdef __cplusplus /* tests and kernels that are C++ read it too */
#include <atomic>
using std::atomic_int;
#else
#include <stdatomic.h>
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- data ---------------------------------------------------------------------------------------- */

/* Element types. Activations are F32, on some devices F16 or BF16 (ids I32, pictures U8): a matrix op gives its device's type, a lincomb F32 as
 * soon as one term is, any other op the type of its input. The others appear as storage types of weights. The Q types keep numbers in
 * blocks that share scales (blocks.c): a tensor of them is a whole number of blocks, which run on over the ends of its rows. */
typedef enum dc_dtype {
    DC_F32,
    DC_F16,
    DC_BF16,
    DC_F64,
    DC_F8_E4M3,
    DC_F8_E5M2,
    DC_Q4_0,
    DC_Q4_1,
    DC_Q5_0,
    DC_Q5_1,
    DC_Q8_0,
    DC_Q2_K,
    DC_Q3_K,
    DC_Q4_K,
    DC_Q5_K,
    DC_Q6_K,
    DC_I64, /* whole numbers from here on */
    DC_I32,
    DC_I16,
    DC_I8,
    DC_U8,
    DC_BOOL,
    DC_DTYPES
} dc_dtype;
size_t dc_dtype_size(dc_dtype t);      /* bytes of a block */
int dc_dtype_block(dc_dtype t);        /* numbers in it: 1 but for the Q types */
const char *dc_dtype_name(dc_dtype t); /* "F32", as safetensors spells it; "Q4_K", as ggml does */

/* A view of device memory, by value; owns nothing. rank 4 [N,H,W,C], 3 [N,T,C], 2 [N,C], 1 [N].
 * Rows of the last axis are dense and `stride` elements apart (== last dim unless it is a channel slice);
 * all other axes follow without gaps. rank 0 is "none". */
typedef struct dc_tensor {
    void *data; /* NULL while planning */
    int64_t dim[4];
    int64_t stride;
    int32_t id; /* place in the plan of the run that made it; -1: outside of any plan */
    uint8_t rank, dtype;
} dc_tensor;
#define DC_NONE ((dc_tensor){0})
static inline bool dc_is_none(dc_tensor t) { return t.rank == 0; }
static inline int64_t dc_channels(dc_tensor t) { return t.rank ? t.dim[t.rank - 1] : 0; }
int64_t dc_rows(dc_tensor t); /* product of all dims but the last */
int64_t dc_numel(dc_tensor t);

/* Views (no op runs). They keep the tensor they look into alive. */
dc_tensor dc_view_tokens(dc_tensor image);                            /* [N,H,W,C] -> [N,H*W,C] */
dc_tensor dc_view_image(dc_tensor tokens, int64_t h, int64_t w);      /* [N,h*w,C] -> [N,h,w,C] */
dc_tensor dc_view_channels(dc_tensor t, int64_t from, int64_t count); /* last axis, strided     */
dc_tensor dc_view_batch(dc_tensor t, int64_t from, int64_t count);    /* first axis             */
dc_tensor dc_view_rows(dc_tensor image, int64_t from, int64_t count); /* second axis of [1,H,W,C] */
dc_tensor dc_view_flat(dc_tensor t);                                  /* [N,a,b..] -> [N,a*b..], dense only */
dc_tensor dc_view_as(dc_tensor t, int rank, const int64_t *dim);      /* another shape of as many numbers, dense only */

/* ---- devices ------------------------------------------------------------------------------------- */

/* Types of the arithmetic. BF16: inputs rounded to bfloat16, sums in float32. INT8: linear layers in whole numbers, the rest as BF16. Both are
 * the most that may be lost: a device takes float32 where that is as fast. */
typedef enum dc_precision { DC_PRECISION_AUTO, DC_PRECISION_F32, DC_PRECISION_BF16, DC_PRECISION_F16, DC_PRECISION_INT8 } dc_precision;

typedef struct dc_device dc_device;
typedef struct dc_device_options {
    const char *name;         /* "auto" (the GPU, where there is one), "cpu", "cuda", "ref" (plain loops, for tests) */
    int threads;              /* <= 0: all usable CPUs */
    const char *cpu_level;    /* NULL or "auto", "portable", "avx2", "avx512", ..: forces a lower instruction set */
    const char *precision;    /* NULL or "auto", "f32", "bf16", "f16", "int8" */
    bool exact;               /* no algorithm that rounds more than the plain sums do (Winograd's) */
    bool deterministic;       /* a GPU's algorithms by rule instead of by measuring */
    uint64_t max_vram;        /* bytes of a GPU's memory that may be taken; 0: all */
    const char *plans;        /* folder where a GPU's measured choices are kept; NULL: nowhere */
    const atomic_int *cancel; /* non-zero stops whatever runs; may be NULL */
    const dc_log *log;        /* may be NULL; must outlive the device */
} dc_device_options;
/* Errors: UNAVAILABLE (no such device, or an instruction set or precision it has not), USAGE (unknown name), NO_MEMORY. */
dc_status dc_device_open(dc_device **out, const dc_device_options *o, dc_error *e);
void dc_device_close(dc_device *d);
const char *dc_device_name(const dc_device *d);      /* "cpu" */
const char *dc_device_summary(const dc_device *d);   /* "cpu avx512, 2 threads, f32" */
const char *dc_device_precision(const dc_device *d); /* "f32": as settled when it was opened */
/* Bytes of memory of its own that may be in use at once; 0: it computes in the host's. */
uint64_t dc_device_memory(const dc_device *d);
/* On a device with memory of its own: what is prepared from now on leaves so many bytes there to buffers. Weights that do not fit beside them
 * stay in host memory, and come for each use. */
void dc_device_keep_free(dc_device *d, uint64_t bytes);

/* ---- rows and queries, outside of any pass ----------------------------------------------------------- */

/* y[q * stride + r] = rows[r] . query[q]: n rows of half-precision numbers in host memory (an index that is mapped), some queries of F32, all dense
 * and `width` numbers long, 1 to DC_DOTS_WIDTH and a multiple of 32. The same bytes for a pair whatever is asked with it, at any thread count.
 * Errors: CANCELLED, NO_MEMORY, INTERNAL (width). */
#define DC_DOTS_WIDTH 16384
typedef struct dc_dots_args {
    const uint16_t *rows;
    int64_t n;
    const float *query;
    int queries, width;
    float *y;
    int64_t stride;
} dc_dots_args;
dc_status dc_dots(dc_device *d, const dc_dots_args *a, dc_error *e);

/* ---- parameters ---------------------------------------------------------------------------------- */

typedef struct dc_params dc_params; /* all parameters of one model: prepared and dropped together (a stage) */
typedef struct dc_param dc_param;   /* one layer's weight and bias, opaque to models */

typedef enum dc_param_kind {
    DC_PARAM_LINEAR, /* weight [out,in], bias [out]                                            */
    DC_PARAM_CONV,   /* weight [out,in,kh,kw], bias [out]                                      */
    DC_PARAM_NORM,   /* weight [out], bias [out]: scale and shift of group and layer norms     */
    DC_PARAM_TABLE   /* weight [out,in]: rows to gather (token and position embeddings)        */
} dc_param_kind;

/* Part of a stored tensor: dense rows [rows, ...] at `data` in mapped memory (possibly unaligned). With a block type `data` is the beginning
 * of a block; the rows may end anywhere. */
typedef struct dc_source {
    const void *data;
    dc_dtype dtype;
    int64_t rows;
    float scale; /* of every number; 0: none */
} dc_source;
/* n values from `from` on, converted; handles unaligned data and any part of a block. */
void dc_source_floats(const dc_source *s, int64_t from, int64_t n, float *out);
#define DC_MAX_PARTS 4
typedef struct dc_param_desc {
    const char *name; /* for messages, "FILE: down_blocks.0.resnets.0.conv1"; copied */
    dc_param_kind kind;
    int out, in, kh, kw;  /* kh = kw = 1 but for convolutions; in = 1 for norms          */
    bool geglu;           /* LINEAR: rows [0,out/2) are values, the others their gates   */
    bool transposed;      /* LINEAR: stored as [in,out]; then n_weight == 1              */
    bool int8;            /* at precision int8 weights and inputs may be rounded so far  */
    int n_weight, n_bias; /* parts, stacked along `out`; n_bias 0: no bias               */
    dc_source weight[DC_MAX_PARTS], bias[DC_MAX_PARTS];
} dc_param_desc;

/* name: the model's, for messages. Sources must outlive the set. */
dc_params *dc_params_new(dc_device *d, const char *name);
void dc_params_free(dc_params *p); /* NULL is fine */
/* Before any is added: numbers past float16's 65504 pass through this model, so where activations are F16, its are BF16. */
void dc_params_wide(dc_params *p);
dc_param *dc_params_add(dc_params *p, const dc_param_desc *desc); /* NULL when memory is out */
/* Device forms (packed panels, ...): made when a stage begins, dropped when it ends, as often as wanted.
 * Kept in the storage type of the file (fp16 stays fp16). progress(user, done, total) may be NULL.
 * Errors: DATA (a non-finite weight: file, tensor, index), NO_MEMORY, CANCELLED. */
dc_status dc_params_prepare(dc_params *p, void (*progress)(void *user, uint64_t done, uint64_t total), void *user, dc_error *e);
void dc_params_drop(dc_params *p);
bool dc_params_ready(const dc_params *p);
uint64_t dc_params_bytes(const dc_params *p); /* of the device forms, known without preparing */
/* On a device with memory of its own: what must lie there when weights come for their use: norms and tables, the largest matrix, and a piece of a
 * file on its way. */
uint64_t dc_params_least(const dc_params *p);
uint64_t dc_params_count(const dc_params *p); /* numbers in all weights and biases */
int dc_param_out(const dc_param *p);
int dc_param_in(const dc_param *p);

/* ---- a pass -------------------------------------------------------------------------------------- */

typedef struct dc_run dc_run;
typedef void dc_pass_fn(void *ctx, dc_run *r);

dc_run *dc_run_new(dc_device *d); /* NULL when memory is out */
void dc_run_free(dc_run *r);      /* NULL is fine */
/* Errors: INTERNAL (a shape rule broken: our bug), USAGE (a size the model cannot take), NO_MEMORY. */
dc_status dc_run_plan(dc_run *r, dc_pass_fn *pass, void *ctx, dc_error *e);
uint64_t dc_run_bytes(const dc_run *r);           /* of the planned buffer, scratch included */
uint64_t dc_run_flops(const dc_run *r);           /* 2 a multiply-add; convolutions, linears, attention */
dc_status dc_run_reserve(dc_run *r, dc_error *e); /* NO_MEMORY names the bytes */
void dc_run_release(dc_run *r);                   /* gives the buffer back, keeps the plan */
/* Errors: CANCELLED, DATA / INTERNAL / IO from ops. */
dc_status dc_run_pass(dc_run *r, dc_pass_fn *pass, void *ctx, dc_error *e);
bool dc_run_ok(const dc_run *r);
bool dc_run_planning(const dc_run *r);
void dc_run_fail(dc_run *r, dc_status code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Named activations. With a tap function set, dc_tap hands it float32 data in NCHW ([N,C,H,W]; tokens
 * [N,T,C] and vectors as they are); otherwise it costs nothing. Names are those of diffusers' modules, made
 * of the open scopes: scope "down_blocks.0", scope "resnets.1", tap "conv1" -> "down_blocks.0.resnets.1.conv1".
 * dc_tap with "" is the scope itself. Set the tap before planning. */
typedef void dc_tap_fn(void *user, const char *name, const float *data, int rank, const int64_t *dim);
void dc_run_set_tap(dc_run *r, dc_tap_fn *fn, void *user);
bool dc_tapping(const dc_run *r);
void dc_scope(dc_run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void dc_scope_end(dc_run *r);
void dc_tap(dc_run *r, const char *name, dc_tensor t);

/* How a device does an op, and what decided it: "winograd f4x4 f32", "0.31 of the plain multiply-adds". "": it does not say. */
typedef struct dc_choice {
    char algorithm[32], reason[64];
} dc_choice;

/* Per-op times of the passes since it was switched on. A planned pass already has the rows, without times. */
typedef struct dc_profile_row {
    const char *op;
    char shape[96];  /* of what comes out */
    char detail[64]; /* of matrix ops: "3x3 of 320 channels" */
    char scope[160];
    dc_choice choice;
    double seconds;
    uint64_t flops;
    int calls;
} dc_profile_row;
void dc_run_set_profile(dc_run *r, bool on);                      /* before planning */
int dc_run_profile(const dc_run *r, const dc_profile_row **rows); /* in op order; owned by r */

/* ---- tensors in and out --------------------------------------------------------------------------- */

/* A tensor filled from host memory when the pass runs (dense). */
dc_tensor dc_upload(dc_run *r, dc_dtype t, int rank, const int64_t *dim, const void *host);
/* Copies to host memory, dense, when the pass runs, F16 and BF16 as F32; host data is complete when dc_run_pass returns. Nothing for DC_NONE. */
void dc_download(dc_run *r, dc_tensor t, void *host);
/* Uninitialised tensor, and one whose content survives from pass to pass (zero before the first). */
dc_tensor dc_new(dc_run *r, dc_dtype t, int rank, const int64_t *dim);
dc_tensor dc_state(dc_run *r, dc_dtype t, int rank, const int64_t *dim);
/* t outlives the pass: its bytes stay valid until the next pass of this run, also for other runs, which use it
 * through dc_borrow (the run it came from must be reserved and have run before the other one runs). */
void dc_keep(dc_run *r, dc_tensor t);
dc_tensor dc_borrow(dc_tensor t);

/* ---- the ops --------------------------------------------------------------------------------------- */

typedef enum dc_act {
    DC_ACT_NONE,
    DC_ACT_SILU,
    DC_ACT_GELU /* erf */,
    DC_ACT_QUICK_GELU,
    DC_ACT_RELU,
    DC_ACT_TANH3 /* 3 tanh(x/3) */,
    DC_ACTS
} dc_act;

/* What happens to the input first, in this order: join x2's channels behind x's; group norm over the joined
 * channels (norm != NULL, or its factors and addends in `scale`, from dc_group_scale); activation; nearest resize to h x w (0: as it is;
 * floor(i * in / out) as torch). */
typedef struct dc_pre {
    dc_tensor x2, scale;
    const dc_param *norm;
    int groups;
    float eps;
    dc_act act;
    int h, w;
} dc_pre;

/* x is some rows of a picture that is computed strip by strip: the strips next to it, read where there would be zero padding (DC_NONE at the
 * picture's edge), and the rows that all strips of y have together, by which algorithms are chosen. pre is applied to the neighbours as well;
 * it takes `scale` for a norm and no x2, and a resize multiplies the rows by a whole number. */
typedef struct dc_strip {
    dc_tensor above, below;
    int height; /* 0: x is the whole picture */
} dc_strip;

/* y = act(conv(pre(x)) + bias + add + residual); x [N,H,W,I] -> y [N,H',W',O]. Zero padding comes after `pre`. */
typedef struct dc_conv_opt {
    dc_pre pre;
    int stride;         /* 0 means 1 */
    int pad[4];         /* top, left, bottom, right */
    dc_tensor add;      /* [N,O]: per image and channel (time embedding) */
    dc_tensor residual; /* like y; y may take its memory */
    dc_act act;
    dc_strip strip;
} dc_conv_opt;
dc_tensor dc_conv2d(dc_run *r, dc_tensor x, const dc_param *k, dc_conv_opt o);

/* y = act(pre(x) W' + bias + residual); x [..,I] -> y [..,O]. With a geglu parameter y [..,O/2] =
 * (value + bias) * gelu(gate + bias), then residual. pre.norm needs x [N,H,W,C] or [N,T,C]; pre.h/w unused. */
typedef struct dc_linear_opt {
    dc_pre pre;
    dc_tensor residual;
    dc_act act;
} dc_linear_opt;
dc_tensor dc_linear(dc_run *r, dc_tensor x, const dc_param *k, dc_linear_opt o);

/* Group norm over [N,H,W,C] (or [N,T,C]), then activation. Ref: torch GroupNorm, biased variance. */
dc_tensor dc_group_norm(dc_run *r, dc_tensor x, const dc_param *norm, int groups, float eps, dc_act act);
/* The same in two parts, for a picture in strips: sums of each strip x [N,h,W,C], F64 [N,blocks,2,C]; then of all n of them, from top to
 * bottom, the norm as factors and addends, [N,2,C] (dc_pre.scale). A block has dc_norm_rows(height of the whole) rows; strips must begin at
 * one. The sums are those of the norm of the whole picture, added in the same order. */
int dc_norm_rows(int64_t height); /* a power of 2: 64 blocks at most, of as many rows */
dc_tensor dc_group_sums(dc_run *r, dc_tensor x, int64_t height);
dc_tensor dc_group_scale(dc_run *r, const dc_tensor *sums, int n, const dc_param *norm, int groups, float eps, int64_t pixels);
/* Over the last axis. */
dc_tensor dc_layer_norm(dc_run *r, dc_tensor x, const dc_param *norm, float eps);

/* softmax(scale q k' + mask) v per head, streaming: never a score matrix. q [N,Tq,C], k, v [N,Tk,C] (channel
 * slices welcome), heads divide C; -> [N,Tq,C]. scale 0: 1/sqrt(C/heads). causal: key j <= query i. keys > 0: only
 * the first `keys` keys count. k and v may have N == 1 against a larger q batch (shared). */
typedef struct dc_attention_opt {
    int heads;
    float scale;
    bool causal;
    int keys;
} dc_attention_opt;
dc_tensor dc_attention(dc_run *r, dc_tensor q, dc_tensor k, dc_tensor v, dc_attention_opt o);

/* ids [N,T] I32 -> rows of `table` [N,T,C], plus row t of `positions` (may be NULL). DATA error: an id out of range. */
dc_tensor dc_embed(dc_run *r, dc_tensor ids, const dc_param *table, const dc_param *positions);
/* x [N,T,C], index [N] I32 -> [N,C]: row index[n] of image n (pooling at the end token). */
dc_tensor dc_gather_rows(dc_run *r, dc_tensor x, dc_tensor index);
/* t [N] F32 -> [N,dim] sinusoids. Ref: diffusers get_timestep_embedding (max_period 10000). */
typedef struct dc_timestep_opt {
    int dim;
    bool flip_sin_to_cos;
    float freq_shift;
} dc_timestep_opt;
dc_tensor dc_timestep_embedding(dc_run *r, dc_tensor t, dc_timestep_opt o);

/* y = sum k[i] * x[i]; terms with k == 0 are skipped, never read. A term with first dim 1 is repeated over y's.
 * y has the shape of the largest term (or is given: _into; y may be one of the terms). n <= 8. */
typedef struct dc_term {
    float k;
    dc_tensor x;
} dc_term;
dc_tensor dc_lincomb(dc_run *r, const dc_term *terms, int n);
void dc_lincomb_into(dc_run *r, dc_tensor y, const dc_term *terms, int n);
/* y = act(x) */
dc_tensor dc_activate(dc_run *r, dc_tensor x, dc_act act);
/* Rescales `guided` image by image to the standard deviation of `cond`, mixed: phi * (guided * std(cond)/std(guided)) +
 * (1-phi) * guided. Ref: diffusers rescale_noise_cfg (Lin et al. 2023, sec. 3.4); std is unbiased, as torch's. */
dc_tensor dc_rescale_std(dc_run *r, dc_tensor guided, dc_tensor cond, float phi);
/* Fixed-order statistics of x, valid when the pass returns. */
typedef struct dc_stats {
    double mean, deviation, absmax;
    int64_t non_finite;
} dc_stats;
void dc_stats_of(dc_run *r, dc_tensor x, dc_stats *host);
/* [-1,1] F32 [N,H,W,3] -> U8, round(255 * clamp(x/2 + 1/2)) half to even as numpy's; non-finite -> 0. */
dc_tensor dc_to_rgb8(dc_run *r, dc_tensor x);

#endif
