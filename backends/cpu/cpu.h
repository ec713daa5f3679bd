/* cpu.h - what the files of the CPU device share. */
#ifndef DC_BACKENDS_CPU_CPU_H
#define DC_BACKENDS_CPU_CPU_H
#include "backends/backend.h"
#include "backends/cpu/attention.h"
#include "backends/cpu/dots.h"
#include "backends/cpu/gemm.h"
#include "backends/cpu/rows.h"
#include "backends/cpu/wino.h"
#include "base/parallel.h"

/* Instruction sets, in rising order. Kernel files are compiled once for each, with its flags (levels.cmake). */
typedef enum cpu_level { CPU_PORTABLE, CPU_AVX2, CPU_AVX512, CPU_AVX512VNNI, CPU_AVX512BF16, CPU_LEVELS } cpu_level;

enum {
    CPU_MOST_INT8 = 1 << 16, /* products whose sum in int8 is sure to fit in 32 bits: 2^31 / (255 * 127) */
    CPU_MOST_TAPS = 9        /* of a kernel in int8 */
};

typedef struct cpu_device {
    dc_pool *pool;
    int threads;
    cpu_level level;
    const cpu_gemm *gemm;
    const cpu_gemm *bf16, *int8; /* for the layers that these precisions are meant for, or NULL */
    const cpu_rows *rows;
    const cpu_wino *wino;
    cpu_attn_fn *attend;
    cpu_dots_fn *dots;
} cpu_device;
static inline cpu_device *cpu_of(dc_device *d) { return d->impl; }
/* The kernels that a layer's weights are packed for. In bf16 those of linear layers and 1x1 convolutions: larger ones are faster by Winograd. */
static inline const cpu_gemm *cpu_gemm_of(const cpu_device *c, const dc_param_desc *k)
{
    if (c->int8 && k->int8 && k->kh * k->kw <= CPU_MOST_TAPS && (int64_t)k->in * k->kh * k->kw <= CPU_MOST_INT8) return c->int8;
    return c->bf16 && k->kh * k->kw == 1 ? c->bf16 : c->gemm;
}

static inline int cpu_pieces(int64_t n, int64_t size) { return (int)((n + size - 1) / size); }

/* task(ctx, i, thread) on the device's threads; CANCELLED when the cancel flag came up. */
static inline dc_status cpu_for(dc_device *d, int64_t n, dc_task *task, void *ctx)
{
    dc_parallel_for(cpu_of(d)->pool, n, task, ctx, d->cancel);
    return dc_cancelled(d) ? DC_CANCELLED : DC_OK;
}

/* Memory in whole pages for what is large, so that it returns to the system when it is freed. */
void *cpu_memory(uint64_t bytes); /* 64-byte aligned; NULL when out */
void cpu_memory_free(void *p, uint64_t bytes);

/* ---- parameters (pack.c) */
uint64_t cpu_param_bytes(dc_device *d, const dc_param *p);
dc_status cpu_param_prepare(dc_device *d, dc_param *p, dc_error *e);
void cpu_param_drop(dc_device *d, dc_param *p);
/* Numbers [from, from + n) of a source as floats: dc_source_floats with this level's vectors. */
void cpu_source_floats(const cpu_gemm *g, const dc_source *s, int64_t from, int64_t n, float *out);
/* Scale [C] and shift [C] of a norm. */
static inline const float *cpu_norm_scale(const dc_param *p) { return p->form; }
static inline const float *cpu_norm_shift(const dc_param *p) { return (const float *)p->form + p->desc.out; }
/* Tables have no form: embed.c reads their rows where the file is mapped. */

/* ---- ops: args as in backend.h */
uint64_t cpu_conv2d_scratch(dc_device *d, const dc_conv_args *a); /* conv.c */
dc_status cpu_conv2d(dc_device *d, const dc_conv_args *a, void *scratch);
void cpu_conv2d_choice(dc_device *d, const dc_conv_args *a, dc_choice *out);
uint64_t cpu_linear_scratch(dc_device *d, const dc_linear_args *a); /* linear.c */
dc_status cpu_linear(dc_device *d, const dc_linear_args *a, void *scratch);
void cpu_linear_choice(dc_device *d, const dc_linear_args *a, dc_choice *out);
uint64_t cpu_norm_scratch(dc_device *d, const dc_norm_args *a); /* norm.c */
dc_status cpu_norm(dc_device *d, const dc_norm_args *a, void *scratch);
/* The group norm of x joined with x2 (or none) as one factor and one addend a channel: out [N][2][C] (scale, then shift). */
uint64_t cpu_group_scratch(dc_device *d, dc_tensor x, dc_tensor x2);
dc_status cpu_group_scale_shift(dc_device *d, dc_tensor x, dc_tensor x2, const dc_param *norm, int groups, float eps, float *out, void *scratch);
dc_status cpu_group_sums(dc_device *d, const dc_group_sums_args *a);
dc_status cpu_group_scale(dc_device *d, const dc_group_scale_args *a);
uint64_t cpu_attention_scratch(dc_device *d, const dc_attention_args *a); /* attention.c */
dc_status cpu_attention(dc_device *d, const dc_attention_args *a, void *scratch);
void cpu_attention_choice(dc_device *d, const dc_attention_args *a, dc_choice *out);
dc_status cpu_embed(dc_device *d, const dc_embed_args *a); /* embed.c */
dc_status cpu_gather_rows(dc_device *d, const dc_gather_args *a);
dc_status cpu_timestep_embedding(dc_device *d, const dc_timestep_args *a); /* elementwise.c */
dc_status cpu_lincomb(dc_device *d, const dc_lincomb_args *a);
dc_status cpu_activate(dc_device *d, const dc_act_args *a);
dc_status cpu_rescale_std(dc_device *d, const dc_rescale_args *a);
dc_status cpu_stats(dc_device *d, const dc_stats_args *a);
dc_status cpu_to_rgb8(dc_device *d, const dc_rgb8_args *a);
dc_status cpu_dots(dc_device *d, const dc_dots_args *a); /* dots.c */

#endif
