/* kernels.c - one call of each kernel class at a small size, for counting instructions under callgrind: run.sh collects between the entry and
 * the return of `measured` and dumps there, so the dumps follow the order of the names printed here. AVX2, one thread: valgrind knows no AVX-512,
 * and the kernels of all levels are one source. */
#include "backends/ops.h"
#include <stdio.h>
#include <stdlib.h>

enum { LARGEST = 1 << 19, HEADS = 4 };

typedef enum op { LINEAR, CONV, ATTENTION, GROUP_NORM, LAYER_NORM, ACTIVATE } op;

typedef struct kernel {
    const char *name;
    op op;
    dc_dtype type;                   /* of the weights */
    int h, w, in, out, side, stride; /* side and stride: 0 means 1 */
    bool exact, geglu, normed;       /* normed: by groups and SiLU before it */
    dc_act act;
} kernel;

static const kernel kernels[] = {
    {"linear-f32", LINEAR, DC_F32, 8, 16, 160, .out = 320},
    {"linear-f16", LINEAR, DC_F16, 8, 16, 160, .out = 320},
    {"linear-geglu", LINEAR, DC_F16, 8, 16, 160, .out = 640, .geglu = true},
    {"linear-normed", LINEAR, DC_F16, 8, 16, 160, .out = 160, .normed = true},
    {"linear-one-row", LINEAR, DC_F16, 1, 1, 640, .out = 640},
    {"conv-plain", CONV, DC_F16, 16, 16, 64, .out = 64, .side = 3, .exact = true},
    {"conv-plain-normed", CONV, DC_F16, 16, 16, 64, .out = 64, .side = 3, .exact = true, .normed = true},
    {"conv-down", CONV, DC_F16, 16, 16, 64, .out = 64, .side = 3, .stride = 2},
    {"conv-to-rgb", CONV, DC_F16, 16, 16, 128, .out = 3, .side = 3, .exact = true},
    {"conv-winograd", CONV, DC_F16, 16, 16, 64, .out = 64, .side = 3},
    {"conv-winograd-normed", CONV, DC_F16, 16, 16, 64, .out = 64, .side = 3, .normed = true},
    {"attention-40", ATTENTION, DC_F32, 16, 16, HEADS * 40, .act = DC_ACT_NONE},
    {"attention-80", ATTENTION, DC_F32, 8, 16, HEADS * 80, .act = DC_ACT_NONE},
    {"group-norm-silu", GROUP_NORM, DC_F32, 32, 32, 320, .act = DC_ACT_SILU},
    {"layer-norm", LAYER_NORM, DC_F32, 32, 32, 320, .act = DC_ACT_NONE},
    {"silu", ACTIVATE, DC_F32, 32, 32, 320, .act = DC_ACT_SILU},
    {"gelu", ACTIVATE, DC_F32, 32, 32, 320, .act = DC_ACT_GELU},
    {"quick-gelu", ACTIVATE, DC_F32, 32, 32, 320, .act = DC_ACT_QUICK_GELU},
};

static float numbers[LARGEST];
static uint16_t halves[LARGEST];

static void fill_numbers(void)
{
    uint64_t state = 1;
    for (int i = 0; i < LARGEST; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        numbers[i] = (float)(int32_t)(state >> 32) * 0x1p-31f;
        halves[i] = (uint16_t)(0x2c00 | (state >> 40 & 0x83ff)); /* a sixteenth to an eighth, of either sign */
    }
}

typedef struct pass_data {
    const kernel *k;
    const dc_param *weight, *norm;
} pass_data;

static void call(const pass_data *p, dc_run *r, dc_tensor x)
{
    const kernel *k = p->k;
    const dc_tensor tokens = dc_view_tokens(x);
    dc_pre pre = {0};
    if (k->normed) pre = (dc_pre){.norm = p->norm, .groups = 32, .eps = 1e-5f, .act = DC_ACT_SILU};
    const int pad = k->side / 2;
    switch (k->op) {
    case LINEAR: dc_linear(r, tokens, p->weight, (dc_linear_opt){.pre = pre}); break;
    case CONV: dc_conv2d(r, x, p->weight, (dc_conv_opt){.pre = pre, .stride = k->stride, .pad = {pad, pad, pad, pad}}); break;
    case ATTENTION: dc_attention(r, tokens, tokens, tokens, (dc_attention_opt){.heads = HEADS}); break;
    case GROUP_NORM: dc_group_norm(r, x, p->norm, 32, 1e-5f, k->act); break;
    case LAYER_NORM: dc_layer_norm(r, tokens, p->norm, 1e-5f); break;
    case ACTIVATE: dc_activate(r, x, k->act); break;
    }
}

/* What callgrind counts. */
__attribute__((noinline, used)) static void measured(const pass_data *p, dc_run *r, dc_tensor x)
{
    call(p, r, x);
    __asm__ volatile("" ::: "memory"); /* a call, not a jump to its end */
}

static void pass(void *ctx, dc_run *r)
{
    const pass_data *p = ctx;
    const dc_tensor x = dc_upload(r, DC_F32, 4, (int64_t[]){1, p->k->h, p->k->w, p->k->in}, numbers);
    if (dc_run_planning(r)) call(p, r, x);
    else measured(p, r, x);
}

static dc_param *add(dc_params *set, dc_param_kind kind, dc_dtype type, int out, int in, int side, bool geglu)
{
    const void *data = type == DC_F16 ? (const void *)halves : numbers;
    dc_param_desc d = {.name = "k", .kind = kind, .out = out, .in = in, .kh = side, .kw = side, .geglu = geglu, .n_weight = 1, .n_bias = 1};
    d.weight[0] = (dc_source){data, type, out, 0};
    d.bias[0] = (dc_source){data, type, out, 0};
    return dc_params_add(set, &d);
}

static dc_status run_kernel(dc_device *d, const kernel *k, dc_error *e)
{
    dc_params *set = dc_params_new(d, "kernels");
    dc_run *r = dc_run_new(d);
    if (!set || !r) return dc_fail_memory(e, "kernels", 0);
    pass_data p = {.k = k, .norm = add(set, DC_PARAM_NORM, DC_F32, k->in, 1, 1, false)};
    if (k->out) p.weight = add(set, k->op == CONV ? DC_PARAM_CONV : DC_PARAM_LINEAR, k->type, k->out, k->in, k->side ? k->side : 1, k->geglu);
    dc_status s = dc_params_prepare(set, NULL, NULL, e);
    if (!s) s = dc_run_plan(r, pass, &p, e);
    if (!s) s = dc_run_reserve(r, e);
    if (!s) s = dc_run_pass(r, pass, &p, e);
    if (!s) printf("%s\n", k->name);
    dc_run_free(r);
    dc_params_free(set);
    return s;
}

int main(void)
{
    dc_error e = {0};
    dc_device *device[2] = {NULL, NULL};
    dc_status s = DC_OK;
    fill_numbers();
    for (int exact = 0; !s && exact < 2; exact++)
        s = dc_device_open(&device[exact], &(dc_device_options){.name = "cpu", .threads = 1, .cpu_level = "avx2", .exact = exact}, &e);
    for (size_t i = 0; !s && i < sizeof kernels / sizeof *kernels; i++) s = run_kernel(device[kernels[i].exact], &kernels[i], &e);
    if (s) fprintf(stderr, "%s\n", e.text);
    for (int i = 0; i < 2; i++) dc_device_close(device[i]);
    return s;
}
