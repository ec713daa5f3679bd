/* check.c - the portable CPU device against the reference device, as a program that needs nothing but libc: it is cross-compiled and run under
 * an emulator, where no test library is at hand. The level's BLAS is replaced by plain loops here, since what is checked is our code. */
#include "backends/ops.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cblas.h>

void openblas_set_num_threads(int n) { (void)n; }

/* Row-major C = alpha A B + beta C, as gemm_portable.c calls it. */
void cblas_sgemm(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE ta, enum CBLAS_TRANSPOSE tb, blasint m, blasint n, blasint k, float alpha,
                 const float *a, blasint lda, const float *b, blasint ldb, float beta, float *c, blasint ldc)
{
    if (order != CblasRowMajor || ta != CblasNoTrans || tb != CblasNoTrans) abort();
    for (blasint i = 0; i < m; i++)
        for (blasint j = 0; j < n; j++) {
            float sum = 0;
            for (blasint q = 0; q < k; q++) sum += a[i * lda + q] * b[q * ldb + j];
            c[i * ldc + j] = alpha * sum + (beta == 0 ? 0 : beta * c[i * ldc + j]);
        }
}

enum { N = 2, H = 13, W = 10, C = 48, O = 40, HEADS = 3 };

static float x[N * H * W * C], kernel[O * C * 9], matrix[3 * C * C], conv_out[N * H * W * O], attention_out[N * H * W * C];

typedef struct check {
    const dc_param *conv, *linear;
} check;

static void fill(float *p, size_t n, uint64_t seed, float scale)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        p[i] = (float)(int32_t)(seed >> 32) * 0x1p-31f * scale;
    }
}

static void pass(void *ctx, dc_run *r)
{
    const check *k = ctx;
    dc_tensor in = dc_upload(r, DC_F32, 4, (int64_t[]){N, H, W, C}, x);
    dc_download(r, dc_conv2d(r, in, k->conv, (dc_conv_opt){.pre.act = DC_ACT_SILU, .pad = {1, 1, 1, 1}}), conv_out);
    dc_tensor all = dc_linear(r, dc_view_tokens(in), k->linear, (dc_linear_opt){0});
    dc_download(r,
                dc_attention(r, dc_view_channels(all, 0, C), dc_view_channels(all, C, C), dc_view_channels(all, 2 * C, C),
                             (dc_attention_opt){.heads = HEADS}),
                attention_out);
}

static int run(const dc_device_options *o, float *conv, float *attention)
{
    dc_error e = {0};
    dc_device *d = NULL;
    check k;
    if (dc_device_open(&d, o, &e)) return fprintf(stderr, "%s\n", e.text), 1;
    dc_params *set = dc_params_new(d, "check");
    k.conv = dc_params_add(
        set,
        &(dc_param_desc){.name = "conv", .kind = DC_PARAM_CONV, .out = O, .in = C, .kh = 3, .kw = 3, .n_weight = 1, .weight = {{kernel, DC_F32, O}}});
    k.linear = dc_params_add(
        set,
        &(dc_param_desc){
            .name = "qkv", .kind = DC_PARAM_LINEAR, .out = 3 * C, .in = C, .kh = 1, .kw = 1, .n_weight = 1, .weight = {{matrix, DC_F32, 3 * C}}});
    dc_run *r = dc_run_new(d);
    dc_status s = dc_params_prepare(set, NULL, NULL, &e);
    if (!s) s = dc_run_plan(r, pass, &k, &e);
    if (!s) s = dc_run_reserve(r, &e);
    if (!s) s = dc_run_pass(r, pass, &k, &e);
    if (s) fprintf(stderr, "%s: %s\n", dc_device_summary(d), e.text);
    memcpy(conv, conv_out, sizeof conv_out);
    memcpy(attention, attention_out, sizeof attention_out);
    dc_run_free(r);
    dc_params_free(set);
    dc_device_close(d);
    return s;
}

/* 2e-5 of the RMS: some ten times what the CPU tests measure between the devices on such sizes, a thousandth of what a wrong index gives. */
static int far_off(const char *what, const float *found, const float *expected, size_t n)
{
    double error = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        error += pow((double)found[i] - expected[i], 2);
        square += pow(expected[i], 2);
    }
    const double relative = sqrt(error / square);
    printf("%s: %.3g of the RMS\n", what, relative);
    return !(relative < 2e-5);
}

int main(void)
{
    static float expected_conv[N * H * W * O], expected_attention[N * H * W * C], conv[N * H * W * O], attention[N * H * W * C];
    fill(x, sizeof x / sizeof *x, 1, 2);
    fill(kernel, sizeof kernel / sizeof *kernel, 2, 0.1f);
    fill(matrix, sizeof matrix / sizeof *matrix, 3, 0.5f);
    int bad = run(&(dc_device_options){.name = "ref", .threads = 1}, expected_conv, expected_attention);
    for (int exact = 0; !bad && exact < 2; exact++) {
        bad = run(&(dc_device_options){.name = "cpu", .threads = 3, .cpu_level = "portable", .exact = exact}, conv, attention);
        bad |= far_off(exact ? "convolution, plain" : "convolution, Winograd", conv, expected_conv, sizeof conv / sizeof *conv);
        bad |= far_off("attention", attention, expected_attention, sizeof attention / sizeof *attention);
    }
    return bad;
}
