/* cpu.c - the CPU device: its table of functions, its threads and its instruction set. */
#include "backends/cpu/cpu.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- instruction sets ----------------------------------------------------------------------------------------- */

static const char *const level_names[CPU_LEVELS] = {"portable", "avx2", "avx512", "avx512vnni", "avx512bf16"};

#if defined(__x86_64__)
#include <cpuinfo.h>

/* The best level this CPU has; on other machines portable. */
static cpu_level best_level(void)
{
    if (!cpuinfo_initialize()) return CPU_PORTABLE;
    bool avx2 = cpuinfo_has_x86_avx2() && cpuinfo_has_x86_fma3() && cpuinfo_has_x86_f16c();
    bool avx512 = avx2 && cpuinfo_has_x86_avx512f() && cpuinfo_has_x86_avx512bw() && cpuinfo_has_x86_avx512dq() && cpuinfo_has_x86_avx512vl();
    bool vnni = avx512 && cpuinfo_has_x86_avx512vnni();
    if (vnni && cpuinfo_has_x86_avx512bf16()) return CPU_AVX512BF16;
    return vnni ? CPU_AVX512VNNI : avx512 ? CPU_AVX512 : avx2 ? CPU_AVX2 : CPU_PORTABLE;
}

static void take_kernels(cpu_device *c, dc_precision precision)
{
    static const cpu_gemm *const gemm[] = {&cpu_gemm_portable, &cpu_gemm_avx2, &cpu_gemm_avx512, &cpu_gemm_avx512, &cpu_gemm_avx512};
    static const cpu_rows *const rows[] = {&cpu_rows_portable, &cpu_rows_avx2, &cpu_rows_avx512, &cpu_rows_avx512, &cpu_rows_avx512};
    static const cpu_wino *const wino[] = {&cpu_wino_portable, &cpu_wino_avx2, &cpu_wino_avx512, &cpu_wino_avx512, &cpu_wino_avx512};
    static cpu_attn_fn *const attend[] = {cpu_attn_portable, cpu_attn_avx2, cpu_attn_avx512, cpu_attn_avx512, cpu_attn_avx512};
    static cpu_dots_fn *const dots[] = {cpu_dots_portable, cpu_dots_avx2, cpu_dots_avx512, cpu_dots_avx512, cpu_dots_avx512};
    c->dots = dots[c->level];
    c->gemm = gemm[c->level];
    c->rows = rows[c->level];
    c->wino = wino[c->level];
    c->attend = attend[c->level];
    if ((precision == DC_PRECISION_BF16 || precision == DC_PRECISION_INT8) && c->level == CPU_AVX512BF16) {
        c->bf16 = &cpu_gemm_bf16_avx512;
        c->attend = cpu_attn_bf16_avx512;
    }
    if (precision == DC_PRECISION_INT8 && c->level >= CPU_AVX512VNNI) c->int8 = &cpu_gemm_int8_avx512;
}
#else
static cpu_level best_level(void) { return CPU_PORTABLE; }

static void take_kernels(cpu_device *c, dc_precision precision)
{
    (void)precision;
    c->gemm = &cpu_gemm_portable;
    c->rows = &cpu_rows_portable;
    c->wino = &cpu_wino_portable;
    c->attend = cpu_attn_portable;
    c->dots = cpu_dots_portable;
}
#endif

static dc_status choose_level(cpu_device *c, const char *wanted, dc_error *e)
{
    cpu_level best = best_level();
    c->level = best;
    if (!wanted || !strcmp(wanted, "auto")) return DC_OK;
    for (int l = 0; l < CPU_LEVELS; l++)
        if (!strcmp(wanted, level_names[l])) {
            if ((cpu_level)l > best) return dc_fail(e, DC_UNAVAILABLE, "cpu level %s: this machine has %s at most", wanted, level_names[best]);
            c->level = (cpu_level)l;
            return DC_OK;
        }
    return dc_fail(e, DC_USAGE, "cpu level: found %s, expected auto, portable, avx2, avx512, avx512vnni or avx512bf16", wanted);
}

/* bf16: the linear layers and attention of a level that has it; the rest, and other levels, are more exact than asked for. int8: the layers
 * that are marked for it, and only with the instructions; the rest as in bf16. */
static dc_status choose_precision(dc_device *d, dc_error *e)
{
    const bool int8 = cpu_of(d)->level >= CPU_AVX512VNNI;
    if (d->precision == DC_PRECISION_AUTO) d->precision = DC_PRECISION_F32;
    if (d->precision <= DC_PRECISION_BF16 || (d->precision == DC_PRECISION_INT8 && int8)) return DC_OK;
    return dc_refuse_precision(d, int8 ? "auto, f32, bf16 or int8" : "auto, f32 or bf16 (int8 needs AVX512-VNNI)", e);
}

/* ---- device and memory --------------------------------------------------------------------------------------------- */

static void cpu_close(dc_device *d)
{
    cpu_device *c = cpu_of(d);
    if (c) dc_pool_free(c->pool);
    free(c);
}

static dc_status cpu_open(dc_device *d, const dc_device_options *o, dc_error *e)
{
    cpu_device *c = calloc(1, sizeof *c);
    if (!c) return dc_fail_memory(e, "the CPU device", sizeof *c);
    d->impl = c;
    dc_status s = choose_level(c, o->cpu_level, e);
    if (!s) s = choose_precision(d, e);
    if (!s && !(c->pool = dc_pool_new(o->threads))) s = dc_fail(e, DC_NO_MEMORY, "threads: cannot start %d of them", o->threads);
    if (s) {
        cpu_close(d);
        return s;
    }
    c->threads = dc_pool_threads(c->pool);
    take_kernels(c, d->precision);
    if (d->precision == DC_PRECISION_BF16 && !c->bf16)
        dc_log_write(d->log, DC_LOG_NOTE, "cpu %s has no bf16 arithmetic: computing in f32", level_names[c->level]);
    if (c->level == CPU_PORTABLE) cpu_gemm_portable_begin();
    snprintf(d->summary, sizeof d->summary, "cpu %s, %d thread%s, %s", level_names[c->level], c->threads, c->threads == 1 ? "" : "s",
             dc_precision_name(d->precision));
    return DC_OK;
}

static void *cpu_alloc(dc_device *d, uint64_t bytes) { return (void)d, cpu_memory(bytes); }

static void cpu_free(dc_device *d, void *p, uint64_t bytes)
{
    (void)d;
    cpu_memory_free(p, bytes);
}

static dc_status cpu_copy(dc_device *d, void *to, const void *from, uint64_t bytes)
{
    (void)d;
    memcpy(to, from, bytes);
    return DC_OK;
}

const dc_backend dc_backend_cpu = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_copy,
    .download = cpu_copy,
    .param_bytes = cpu_param_bytes,
    .param_prepare = cpu_param_prepare,
    .param_drop = cpu_param_drop,
    .conv2d_scratch = cpu_conv2d_scratch,
    .conv2d = cpu_conv2d,
    .linear_scratch = cpu_linear_scratch,
    .linear = cpu_linear,
    .norm_scratch = cpu_norm_scratch,
    .norm = cpu_norm,
    .group_sums = cpu_group_sums,
    .group_scale = cpu_group_scale,
    .attention_scratch = cpu_attention_scratch,
    .attention = cpu_attention,
    .conv2d_choice = cpu_conv2d_choice,
    .linear_choice = cpu_linear_choice,
    .attention_choice = cpu_attention_choice,
    .embed = cpu_embed,
    .gather_rows = cpu_gather_rows,
    .timestep_embedding = cpu_timestep_embedding,
    .lincomb = cpu_lincomb,
    .activate = cpu_activate,
    .rescale_std = cpu_rescale_std,
    .stats = cpu_stats,
    .to_rgb8 = cpu_to_rgb8,
    .dots = cpu_dots,
};
