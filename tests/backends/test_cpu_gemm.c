/* test_cpu_gemm.c - convolutions and linear layers of the CPU device at the sizes where their tiles, panels, stretches of channels and small
 * images begin and end, against sums in double, at every instruction set; the same bytes at any number of threads; stopping; memory. */
#include "backends/run.h"
#include "base/half.h"
#include "cpu_cases.h"

enum { LEVELS = 3 };

typedef struct matrix_case {
    int n, h, w, c, c2, out; /* input [n,h,w,c] joined with c2 more channels */
    int k, stride, pad;      /* kernel k x k; 0: a linear layer */
    int up_h, up_w;          /* resized to, or 0 */
    bool geglu, pre, rest;   /* pre: SiLU first; rest: residual, and an addend a channel and image where the op has one */
    dc_act act;
    dc_dtype type;
} matrix_case;

static const matrix_case convolutions[] = {
    /* several small images in a tile, more of them than it takes, each with its own addend */
    {.n = 2, .h = 8, .w = 8, .c = 70, .out = 72, .k = 3, .stride = 1, .pad = 1, .rest = true, .type = DC_F16},
    {.n = 5, .h = 8, .w = 8, .c = 130, .out = 65, .k = 3, .stride = 1, .pad = 1, .pre = true, .rest = true, .type = DC_F16},
    {.n = 7, .h = 5, .w = 9, .c = 20, .c2 = 12, .out = 130, .k = 3, .stride = 1, .pad = 1, .pre = true, .rest = true, .type = DC_BF16},
    {.n = 3, .h = 16, .w = 16, .c = 33, .out = 17, .k = 3, .stride = 1, .pad = 1, .rest = true, .type = DC_F32},
    /* tiles across and down with edges */
    {.n = 2, .h = 37, .w = 41, .c = 66, .out = 40, .k = 3, .stride = 1, .pad = 1, .rest = true, .act = DC_ACT_SILU, .type = DC_F16},
    {.n = 1, .h = 65, .w = 33, .c = 16, .c2 = 48, .out = 64, .k = 3, .stride = 2, .pad = 1, .pre = true, .type = DC_F32},
    {.n = 1, .h = 300, .w = 3, .c = 8, .out = 3, .k = 3, .stride = 1, .pad = 1, .type = DC_F16},
    {.n = 1, .h = 1, .w = 333, .c = 8, .out = 20, .k = 1, .stride = 2, .pad = 0, .type = DC_F16},
    {.n = 1, .h = 20, .w = 17, .c = 64, .out = 64, .k = 3, .stride = 1, .pad = 1, .up_h = 39, .up_w = 34, .pre = true, .type = DC_F16},
    /* stretches of channels: one short of a whole, whole, one more */
    {.n = 1, .h = 9, .w = 9, .c = 127, .out = 48, .k = 3, .stride = 1, .pad = 1, .type = DC_F16},
    {.n = 1, .h = 9, .w = 9, .c = 128, .out = 49, .k = 3, .stride = 1, .pad = 1, .type = DC_F16},
    {.n = 1, .h = 9, .w = 9, .c = 129, .out = 47, .k = 3, .stride = 1, .pad = 1, .type = DC_BF16},
    {.n = 1, .h = 9, .w = 9, .c = 63, .out = 31, .k = 5, .stride = 1, .pad = 2, .type = DC_F16},
    /* a kernel of many taps: the first layer of a vision tower */
    {.n = 2, .h = 70, .w = 42, .c = 3, .out = 70, .k = 14, .stride = 14, .pad = 0, .type = DC_F32},
    /* an input too wide for a whole tile to be copied */
    {.n = 1, .h = 16, .w = 16, .c = 3400, .out = 5, .k = 3, .stride = 1, .pad = 1, .pre = true, .type = DC_F32},
};

/* By pairs of bf16 or fours of int8: odd inputs, one output, gates, prologue, residual; and 1x1 convolutions that are a linear layer, and that are not. */
static const matrix_case narrow_layers[] = {
    {.n = 1, .h = 1, .w = 9, .c = 1, .out = 3, .type = DC_F16},
    {.n = 1, .h = 1, .w = 1, .c = 320, .out = 1280, .act = DC_ACT_SILU, .type = DC_F16},
    {.n = 2, .h = 1, .w = 1, .c = 129, .out = 63, .rest = true, .type = DC_F32},
    {.n = 1, .h = 1, .w = 77, .c = 767, .out = 200, .act = DC_ACT_QUICK_GELU, .type = DC_F16},
    {.n = 1, .h = 1, .w = 257, .c = 65, .out = 1, .rest = true, .type = DC_BF16},
    {.n = 3, .h = 10, .w = 10, .c = 51, .c2 = 30, .out = 96, .pre = true, .rest = true, .type = DC_F16},
    {.n = 1, .h = 1, .w = 520, .c = 257, .out = 2 * 90, .geglu = true, .type = DC_F16},
    {.n = 2, .h = 1, .w = 50, .c = 513, .out = 2 * 33, .geglu = true, .pre = true, .rest = true, .type = DC_F32},
    {.n = 1, .h = 1, .w = 260, .c = 9001, .out = 20, .pre = true, .type = DC_F16},
    {.n = 1, .h = 9, .w = 13, .c = 33, .out = 70, .k = 1, .stride = 1, .type = DC_F32},
    {.n = 1, .h = 9, .w = 13, .c = 333, .out = 70, .k = 1, .stride = 2, .pre = true, .type = DC_F32},
    {.n = 2, .h = 8, .w = 8, .c = 70, .out = 72, .k = 1, .stride = 1, .rest = true, .type = DC_F16},
};

/* In int8 larger kernels as well: images of one tile each with its own factor, tiles with edges, strides, odd channels. */
static const matrix_case int8_convolutions[] = {
    {.n = 5, .h = 8, .w = 8, .c = 130, .out = 65, .k = 3, .stride = 1, .pad = 1, .pre = true, .rest = true, .type = DC_F16},
    {.n = 7, .h = 5, .w = 9, .c = 20, .c2 = 13, .out = 130, .k = 3, .stride = 1, .pad = 1, .rest = true, .type = DC_BF16},
    {.n = 2, .h = 37, .w = 41, .c = 66, .out = 40, .k = 3, .stride = 1, .pad = 1, .rest = true, .act = DC_ACT_SILU, .type = DC_F16},
    {.n = 1, .h = 65, .w = 33, .c = 16, .c2 = 48, .out = 64, .k = 3, .stride = 2, .pad = 1, .type = DC_F32},
    {.n = 1, .h = 300, .w = 3, .c = 8, .out = 3, .k = 3, .stride = 1, .pad = 1, .type = DC_F16},
    {.n = 1, .h = 20, .w = 17, .c = 64, .out = 64, .k = 3, .stride = 1, .pad = 1, .up_h = 39, .up_w = 34, .type = DC_F16},
    {.n = 1, .h = 9, .w = 9, .c = 513, .out = 48, .k = 3, .stride = 1, .pad = 1, .type = DC_F16},
};

static const matrix_case linears[] = {
    {.n = 1, .h = 1, .w = 1, .c = 1, .out = 1, .type = DC_F16},
    {.n = 1, .h = 1, .w = 1, .c = 320, .out = 1280, .act = DC_ACT_SILU, .type = DC_F16},
    {.n = 2, .h = 1, .w = 1, .c = 129, .out = 63, .rest = true, .type = DC_F32},
    {.n = 1, .h = 1, .w = 3, .c = 128, .out = 64, .type = DC_BF16},
    {.n = 1, .h = 1, .w = 4, .c = 127, .out = 65, .type = DC_F16},
    {.n = 1, .h = 1, .w = 5, .c = 40, .out = 16, .type = DC_F16},
    {.n = 1, .h = 1, .w = 12, .c = 40, .out = 15, .type = DC_F32},
    {.n = 1, .h = 1, .w = 77, .c = 768, .out = 200, .act = DC_ACT_QUICK_GELU, .type = DC_F16},
    {.n = 1, .h = 16, .w = 16, .c = 257, .out = 130, .rest = true, .type = DC_F16},
    {.n = 1, .h = 1, .w = 257, .c = 64, .out = 33, .rest = true, .type = DC_F16},
    {.n = 3, .h = 10, .w = 10, .c = 50, .c2 = 30, .out = 96, .pre = true, .rest = true, .type = DC_F16},
    {.n = 1, .h = 1, .w = 520, .c = 90, .out = 2 * 90, .geglu = true, .type = DC_F16},
    {.n = 2, .h = 1, .w = 50, .c = 200, .out = 2 * 33, .geglu = true, .pre = true, .rest = true, .type = DC_F32},
    {.n = 1, .h = 1, .w = 7, .c = 20, .out = 2 * 5, .geglu = true, .type = DC_BF16},
    {.n = 1, .h = 1, .w = 150, .c = 9000, .out = 20, .pre = true, .type = DC_F16},
    {.n = 1, .h = 1, .w = 130, .c = 5120, .out = 24, .rest = true, .type = DC_F32},
};
enum {
    CONVOLUTIONS = sizeof convolutions / sizeof *convolutions,
    LINEARS = sizeof linears / sizeof *linears,
    NARROW = sizeof narrow_layers / sizeof *narrow_layers,
    INT8_CONVOLUTIONS = sizeof int8_convolutions / sizeof *int8_convolutions
};

static int inputs(const matrix_case *c) { return c->c + c->c2; }
static int outputs(const matrix_case *c) { return c->geglu ? c->out / 2 : c->out; }
static int side(const matrix_case *c, int in, int up) { return c->k ? ((up ? up : in) + 2 * c->pad - c->k) / c->stride + 1 : in; }
static int64_t out_rows(const matrix_case *c) { return (int64_t)c->n * side(c, c->h, c->up_h) * side(c, c->w, c->up_w); }
static int64_t terms(const matrix_case *c) { return (int64_t)inputs(c) * (c->k ? c->k * c->k : 1); }

/* ---- data, and the op ------------------------------------------------------------------------------------------------ */

typedef struct matrix_data {
    const matrix_case *c;
    float *x, *x2, *add, *residual, *weight, *bias; /* weight [out][in][k][k], all representable in 8 bits */
    void *stored;                                   /* the weight in its storage type */
    const dc_param *k;
    float *y;
} matrix_data;

static matrix_data make_data(const matrix_case *c)
{
    const int64_t rows = (int64_t)c->n * c->h * c->w, n = c->out * terms(c);
    matrix_data d = {.c = c, .x = random_floats(rows * c->c, 1, 0, 1), .bias = random_floats(c->out, 1, 0, 2)};
    d.x2 = random_floats(rows * c->c2, 1, 0, 3);
    d.add = random_floats((int64_t)c->n * c->out, 1, 0, 4);
    d.residual = random_floats(out_rows(c) * outputs(c), 1, 0, 5);
    d.weight = random_floats(n, 127, 0, 6);
    d.y = malloc(sizeof(float) * (size_t)(out_rows(c) * outputs(c)));
    uint16_t *narrow = d.stored = malloc(sizeof(float) * (size_t)n);
    for (int64_t i = 0; i < n; i++) {
        d.weight[i] = rintf(d.weight[i]) / 64;
        if (c->type == DC_F32) memcpy((float *)d.stored + i, &d.weight[i], sizeof(float));
        else narrow[i] = c->type == DC_F16 ? dc_f32_to_f16(d.weight[i]) : dc_f32_to_bf16(d.weight[i]);
    }
    return d;
}

static void free_data(matrix_data *d)
{
    free(d->x), free(d->x2), free(d->add), free(d->residual), free(d->weight), free(d->bias), free(d->stored), free(d->y);
}

static void pass(void *ctx, dc_run *r)
{
    const matrix_data *d = ctx;
    const matrix_case *c = d->c;
    dc_tensor x = dc_upload(r, DC_F32, 4, DIMS(c->n, c->h, c->w, c->c), d->x), residual = DC_NONE, y;
    dc_pre pre = {.act = c->pre ? DC_ACT_SILU : DC_ACT_NONE, .h = c->up_h, .w = c->up_w};
    if (c->c2) pre.x2 = dc_upload(r, DC_F32, 4, DIMS(c->n, c->h, c->w, c->c2), d->x2);
    if (c->rest) residual = dc_upload(r, DC_F32, 4, DIMS(c->n, side(c, c->h, c->up_h), side(c, c->w, c->up_w), outputs(c)), d->residual);
    if (c->k) {
        dc_conv_opt o = {.pre = pre, .stride = c->stride, .pad = {c->pad, c->pad, c->pad, c->pad}, .residual = residual, .act = c->act};
        if (c->rest) o.add = dc_upload(r, DC_F32, 2, DIMS(c->n, c->out), d->add);
        y = dc_conv2d(r, x, d->k, o);
    } else {
        y = dc_linear(r, x, d->k, (dc_linear_opt){.pre = pre, .residual = residual, .act = c->act});
    }
    dc_download(r, y, d->y);
}

static dc_params *make_params(dc_device *device, matrix_data *d, uint64_t *form_bytes)
{
    const matrix_case *c = d->c;
    const int k = c->k ? c->k : 1;
    dc_params *set = dc_params_new(device, "test");
    dc_param *p = dc_params_add(set, &(dc_param_desc){.name = "k",
                                                      .kind = c->k ? DC_PARAM_CONV : DC_PARAM_LINEAR,
                                                      .out = c->out,
                                                      .in = inputs(c),
                                                      .kh = k,
                                                      .kw = k,
                                                      .geglu = c->geglu,
                                                      .int8 = true,
                                                      .n_weight = 1,
                                                      .n_bias = 1,
                                                      .weight = {{d->stored, c->type, c->out}},
                                                      .bias = {{d->bias, DC_F32, c->out}}});
    d->k = p;
    *form_bytes = p->form_bytes;
    return set;
}

static void run_case(dc_device *device, matrix_data *d)
{
    dc_error e = {0};
    uint64_t bytes;
    dc_params *set = make_params(device, d, &bytes);
    dc_run *r = dc_run_new(device);
    dc_run_set_guard(r, true);
    memset(d->y, 0xff, sizeof(float) * (size_t)(out_rows(d->c) * outputs(d->c)));
    dc_status s = dc_params_prepare(set, NULL, NULL, &e);
    if (!s) s = dc_run_plan(r, pass, d, &e);
    if (!s) s = dc_run_reserve(r, &e);
    if (!s) s = dc_run_pass(r, pass, d, &e);
    if (s) fail_msg("%s: %s", dc_device_summary(device), e.text);
    dc_run_free(r);
    dc_params_free(set);
}

/* ---- the same in double ------------------------------------------------------------------------------------------------ */

static double activated(double x, dc_act act)
{
    switch (act) {
    case DC_ACT_SILU: return x / (1 + exp(-x));
    case DC_ACT_GELU: return x * 0.5 * erfc(-x * 0.70710678118654752440);
    case DC_ACT_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    default: return x;
    }
}

/* The input after join, activation and resize, zero outside. */
static double input_at(const matrix_data *d, int n, int y, int x, int channel)
{
    const matrix_case *c = d->c;
    const int H = c->up_h ? c->up_h : c->h, W = c->up_w ? c->up_w : c->w;
    if (y < 0 || x < 0 || y >= H || x >= W) return 0;
    const int64_t row = ((int64_t)n * c->h + (int64_t)y * c->h / H) * c->w + (int64_t)x * c->w / W;
    const double v = channel < c->c ? d->x[row * c->c + channel] : d->x2[row * c->c2 + channel - c->c];
    return c->pre ? activated(v, DC_ACT_SILU) : v;
}

/* All products of one place: sums [out]. in: room for terms() numbers. */
static void sum_place(const matrix_data *d, int n, int y, int x, double *in, double *sums)
{
    const matrix_case *c = d->c;
    const int k = c->k ? c->k : 1, stride = c->k ? c->stride : 1;
    int64_t count = terms(c), i = 0;
    for (int channel = 0; channel < inputs(c); channel++)
        for (int ky = 0; ky < k; ky++)
            for (int kx = 0; kx < k; kx++) in[i++] = input_at(d, n, y * stride - c->pad + ky, x * stride - c->pad + kx, channel);
    for (int o = 0; o < c->out; o++) {
        double sum = d->bias[o] + (c->k && c->rest ? d->add[(int64_t)n * c->out + o] : 0);
        for (i = 0; i < count; i++) sum += in[i] * d->weight[o * count + i];
        sums[o] = sum;
    }
}

static double *expected_of(const matrix_data *d)
{
    const matrix_case *c = d->c;
    const int H = side(c, c->h, c->up_h), W = side(c, c->w, c->up_w), O = outputs(c);
    double *all = malloc(sizeof(double) * (size_t)(out_rows(c) * O)), *in = malloc(sizeof(double) * (size_t)terms(c));
    double *sums = malloc(sizeof(double) * (size_t)c->out);
    for (int64_t row = 0; row < out_rows(c); row++) {
        sum_place(d, (int)(row / (H * W)), (int)(row / W % H), (int)(row % W), in, sums);
        for (int o = 0; o < O; o++) {
            double v = c->geglu ? sums[o] * activated(sums[O + o], DC_ACT_GELU) : sums[o];
            if (c->rest) v += d->residual[row * O + o];
            all[row * O + o] = activated(v, c->act);
        }
    }
    free(in), free(sums);
    return all;
}

/* ---- tests ---------------------------------------------------------------------------------------------------------------- */

/* Against the double sums: the roundings of n products added one after the other are a random walk, 2^-24 sqrt(n / 6) of the result's RMS;
 * twice that, and some roundings before and after. A gate multiplies two such sums. Single values may be eight times as far off. */
static void check_values(const char *level, bool exact, int at, const matrix_data *d, const double *expected)
{
    const int64_t n = out_rows(d->c) * outputs(d->c);
    const double tolerance = (d->c->geglu                                   ? 2
                              : !exact && d->c->k == 3 && d->c->stride == 1 ? WINOGRAD_LOSS
                                                                            : 1) *
                             (6e-7 + 0x1p-23 * sqrt((double)terms(d->c) / 6));
    double square = 0, error = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        const double off = fabs(d->y[i] - expected[i]);
        square += expected[i] * expected[i];
        error += off * off;
        if (!(off <= worst)) worst = off;
    }
    const double rms = sqrt(square / (double)n), relative = sqrt(error / (double)n) / rms;
    if (!(relative <= tolerance) || !(worst <= 8 * tolerance * rms))
        fail_msg("%s%s, case %d (%dx%d inputs, %d outputs): error %.3g, at most %.3g of the RMS; allowed %.3g", level, exact ? ", exact" : "", at,
                 (int)out_rows(d->c), (int)terms(d->c), d->c->out, relative, worst / rms, tolerance);
}

static void check_cases(const matrix_case *cases, int n)
{
    static const int threads[] = {1, 2, 3, 16};
    for (int i = 0; i < n; i++) {
        matrix_data d = make_data(&cases[i]);
        double *expected = expected_of(&d);
        const size_t bytes = sizeof(float) * (size_t)(out_rows(d.c) * outputs(d.c));
        float *first = malloc(bytes);
        for (int l = 0; l < 2 * LEVELS; l++)
            for (int t = 0; t < 4; t++) {
                const char *level = cpu_levels[l / 2];
                const bool exact = l % 2;
                dc_device *device = cpu_open_with(&(dc_device_options){.name = "cpu", .threads = threads[t], .cpu_level = level, .exact = exact});
                if (!device) continue;
                run_case(device, &d);
                if (t == 0) {
                    check_values(level, exact, i, &d, expected);
                    memcpy(first, d.y, bytes);
                } else if (memcmp(first, d.y, bytes)) {
                    fail_msg("%s, case %d: other bytes with %d threads", level, i, threads[t]);
                }
                dc_device_close(device);
            }
        free(first), free(expected);
        free_data(&d);
    }
}

/* A device of precision bf16 or int8, or NULL when this machine has none that computes in it. */
static dc_device *narrow_open(const char *precision, const char *level, int threads)
{
    dc_device *d = NULL;
    dc_error e = {0};
    dc_status s = dc_device_open(&d, &(dc_device_options){.name = "cpu", .threads = threads, .cpu_level = level, .precision = precision}, &e);
    if (s == DC_UNAVAILABLE) return NULL;
    assert_int_equal(s, DC_OK);
    assert_non_null(strstr(dc_device_summary(d), precision));
    return d;
}

static void round_all(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = dc_bf16_to_f32(dc_f32_to_bf16(x[i]));
}

/* Error of y against expected, of the RMS of expected. */
static double relative_error(const float *y, const double *expected, int64_t n)
{
    double square = 0, error = 0;
    for (int64_t i = 0; i < n; i++) {
        square += expected[i] * expected[i];
        error += (y[i] - expected[i]) * (y[i] - expected[i]);
    }
    return sqrt(error / square);
}

/* The error on random numbers beside `allowed` of the RMS, and the same bytes at any number of threads. */
static void check_narrow(const char *precision, const char *level, int at, matrix_data *d, double allowed)
{
    static const int threads[] = {1, 2, 3, 16};
    const int64_t n = out_rows(d->c) * outputs(d->c);
    double *expected = expected_of(d);
    float *first = malloc(sizeof(float) * (size_t)n);
    for (int t = 0; t < 4; t++) {
        dc_device *device = narrow_open(precision, level, threads[t]);
        if (!device) continue;
        run_case(device, d);
        if (t) assert_memory_equal(first, d->y, sizeof(float) * (size_t)n);
        memcpy(first, d->y, sizeof(float) * (size_t)n);
        const double error = relative_error(d->y, expected, n);
        if (!(error <= allowed)) fail_msg("%s, case %d: error %.3g, allowed %.3g", precision, at, error, allowed);
        dc_device_close(device);
    }
    free(first), free(expected);
}

/* Where rounding changes no input, what is left is that of sums in float, or in int8 of a whole number to float. */
static void check_exact_inputs(const char *precision, const char *level, int at, matrix_data *d)
{
    dc_device *device = narrow_open(precision, level, 2);
    if (!device) return;
    double *expected = expected_of(d);
    run_case(device, d);
    check_values(precision, true, at, d, expected);
    free(expected);
    dc_device_close(device);
}

/* The weights are of 8 bits, so that only inputs are rounded: at most 2^-8 / 2 of each, evenly spread, and the errors of a sum are as
 * independent as its terms. Both are allowed for in full: 2^-9 of each factor, and a gate is a second sum. */
static void test_bf16(void **state)
{
    (void)state;
    for (int i = 0; i < NARROW; i++) {
        const matrix_case *c = &narrow_layers[i];
        matrix_data d = make_data(c);
        check_narrow("bf16", "avx512bf16", i, &d, (c->geglu ? 2 : 1) * 2 * 0x1p-9);
        round_all(d.x, (int64_t)c->n * c->h * c->w * c->c), round_all(d.x2, (int64_t)c->n * c->h * c->w * c->c2);
        if (!c->pre) check_exact_inputs("bf16", "avx512bf16", i, &d);
        free_data(&d);
    }
}

/* Whole numbers up to 127, which the first of each row of `per` is. */
static void make_whole(float *x, int64_t n, int64_t per)
{
    for (int64_t i = 0; i < n; i++) x[i] = i % per ? rintf(x[i] * 100) : 127;
}

/* A number of a row is off by up to half of 1/127 of its largest: evenly spread, with numbers even in [-1, 1), by 1/127 / 2 of the RMS; so both of
 * inputs and of weights, together 5.6e-3. Half as much again for shorter tails (SiLU) and bad luck; a gate is a second sum. */
static void test_int8(void **state)
{
    (void)state;
    for (int i = 0; i < NARROW + INT8_CONVOLUTIONS; i++) {
        const matrix_case *c = i < NARROW ? &narrow_layers[i] : &int8_convolutions[i - NARROW];
        matrix_data d = make_data(c);
        check_narrow("int8", "avx512vnni", i, &d, (c->geglu ? 2 : 1) * 1.5 * 5.6e-3);
        make_whole(d.x, (int64_t)c->n * c->h * c->w * c->c, c->c);
        for (int64_t o = 0; o < c->out; o++) {
            d.weight[o * terms(c)] = 127.0f / 64;
            if (c->type == DC_F32) ((float *)d.stored)[o * terms(c)] = 127.0f / 64;
            else ((uint16_t *)d.stored)[o * terms(c)] = c->type == DC_F16 ? dc_f32_to_f16(127.0f / 64) : dc_f32_to_bf16(127.0f / 64);
        }
        for (int64_t k = 0; k < (int64_t)c->n * c->h * c->w * c->c2; k++) d.x2[k] = rintf(d.x2[k] * 100);
        if (!c->pre) check_exact_inputs("int8", "avx512vnni", i, &d);
        free_data(&d);
    }
}

/* A number that is not finite shows in its row, and only there; a row of zeros gives the bias. */
static void test_int8_rows(void **state)
{
    (void)state;
    static const matrix_case c = {.n = 1, .h = 1, .w = 4, .c = 70, .out = 40, .type = DC_F16};
    dc_device *device = narrow_open("int8", "avx512vnni", 1);
    if (!device) return;
    matrix_data d = make_data(&c);
    d.x[3] = NAN, d.x[70 + 69] = -INFINITY;
    memset(d.x + 2 * 70, 0, sizeof(float) * 70);
    run_case(device, &d);
    for (int i = 0; i < 40; i++) {
        assert_true(isnan(d.y[i]) && isnan(d.y[40 + i]));
        assert_true(d.y[80 + i] == d.bias[i]);
        assert_true(isfinite(d.y[120 + i]));
    }
    free_data(&d);
    dc_device_close(device);
}

/* Two bytes a weight whatever the file has; levels without bf16 arithmetic compute in float. */
static void test_bf16_forms(void **state)
{
    (void)state;
    for (int i = 0; i < NARROW; i++) {
        dc_device *device = narrow_open("bf16", "avx512bf16", 1), *other = narrow_open("bf16", "portable", 1);
        matrix_data d = make_data(&narrow_layers[i]);
        const uint64_t row = (uint64_t)(terms(d.c) + 1) / 2 * 4, outs = (uint64_t)d.c->out;
        uint64_t bytes;
        if (device) {
            dc_params_free(make_params(device, &d, &bytes));
            assert_true(bytes >= row * outs + sizeof(float) * outs);
            assert_true(bytes < row * (outs + (d.c->geglu ? 30 : 15)) + sizeof(float) * outs + 256);
            dc_device_close(device);
        }
        double *expected = expected_of(&d);
        run_case(other, &d);
        check_values("portable, bf16 asked for", false, i, &d, expected);
        free(expected);
        free_data(&d);
        dc_device_close(other);
    }
}

static void test_convolutions(void **state) { (void)state, check_cases(convolutions, CONVOLUTIONS); }
static void test_linears(void **state) { (void)state, check_cases(linears, LINEARS); }

/* A stopped device returns at once and leaves y alone. */
static void test_stopped(void **state)
{
    (void)state;
    atomic_int cancel = 0;
    for (int l = 0; l < LEVELS; l++)
        for (int kind = 0; kind < 2; kind++) {
            dc_device *device = cpu_open(cpu_levels[l], 2, &cancel);
            if (!device) continue;
            matrix_data d = make_data(kind ? &linears[8] : &convolutions[4]);
            uint64_t bytes;
            dc_params *set = make_params(device, &d, &bytes);
            assert_int_equal(dc_params_prepare(set, NULL, NULL, NULL), DC_OK);
            dc_run *r = dc_run_new(device);
            assert_int_equal(dc_run_plan(r, pass, &d, NULL), DC_OK);
            assert_int_equal(dc_run_reserve(r, NULL), DC_OK);
            assert_int_equal(dc_run_pass(r, pass, &d, NULL), DC_OK);
            const dc_backend *be = device->be;
            const matrix_case *c = d.c;
            const int H = side(c, c->h, 0), W = side(c, c->w, 0);
            dc_tensor x = {.data = d.x, .dim = {c->n, c->h, c->w, c->c}, .stride = c->c, .rank = 4, .dtype = DC_F32};
            dc_tensor y = {.data = d.y, .dim = {c->n, H, W, c->out}, .stride = c->out, .rank = 4, .dtype = DC_F32};
            dc_conv_args conv = {.y = y, .x = x, .k = d.k, .o = {.stride = 1, .pad = {1, 1, 1, 1}}, .in_h = c->h, .in_w = c->w};
            dc_linear_args linear = {.y = y, .x = x, .k = d.k};
            const uint64_t size = kind ? be->linear_scratch(device, &linear) : be->conv2d_scratch(device, &conv);
            void *scratch = be->alloc(device, size);
            d.y[0] = 12345;
            atomic_store(&cancel, 1);
            assert_int_equal(kind ? be->linear(device, &linear, scratch) : be->conv2d(device, &conv, scratch), DC_CANCELLED);
            assert_true(d.y[0] == 12345);
            atomic_store(&cancel, 0);
            assert_int_equal(kind ? be->linear(device, &linear, scratch) : be->conv2d(device, &conv, scratch), DC_OK);
            assert_true(d.y[0] != 12345);
            be->free(device, scratch, size);
            dc_run_free(r);
            dc_params_free(set);
            free_data(&d);
            dc_device_close(device);
        }
}

/* Weights stay in their storage type: no more memory than they take, outputs rounded up to a vector of 16, bias and a header. */
static void test_bytes(void **state)
{
    (void)state;
    for (int l = 0; l < LEVELS; l++)
        for (int i = 0; i < CONVOLUTIONS + LINEARS; i++) {
            dc_device *device = cpu_open(cpu_levels[l], 1, NULL);
            if (!device) continue;
            matrix_data d = make_data(i < CONVOLUTIONS ? &convolutions[i] : &linears[i - CONVOLUTIONS]);
            const uint64_t row = (uint64_t)terms(d.c) * dc_dtype_size(d.c->type), outs = (uint64_t)d.c->out;
            uint64_t bytes;
            dc_params *set = make_params(device, &d, &bytes);
            assert_true(bytes >= row * outs + sizeof(float) * outs);
            assert_true(bytes < row * (outs + (d.c->geglu ? 30 : 15)) + sizeof(float) * outs + 256);
            dc_params_free(set);
            free_data(&d);
            dc_device_close(device);
        }
}

/* What an op needs besides its tensors is a few MB a thread at the widest layers of the models, and at a wider one; Winograd's transformed
 * input, shared by the threads, 12 MB or that of 96 tiles, and the input it is made from besides. */
static void check_scratch(bool exact)
{
    static const matrix_case wide[] = {
        {.n = 1, .h = 64, .w = 64, .c = 960, .out = 320, .k = 3, .stride = 1, .pad = 1, .pre = true, .type = DC_F16},
        {.n = 2, .h = 16, .w = 16, .c = 2560, .out = 1280, .k = 3, .stride = 1, .pad = 1, .pre = true, .type = DC_F16},
        {.n = 1, .h = 16, .w = 16, .c = 8000, .out = 320, .k = 3, .stride = 1, .pad = 1, .pre = true, .type = DC_F16},
        {.n = 1, .h = 512, .w = 512, .c = 256, .out = 128, .k = 3, .stride = 1, .pad = 1, .pre = true, .type = DC_F16},
        {.n = 2, .h = 64, .w = 64, .c = 320, .out = 2560, .geglu = true, .type = DC_F16},
        {.n = 2, .h = 64, .w = 64, .c = 1280, .out = 320, .type = DC_F16},
    };
    dc_device *device = cpu_open_with(&(dc_device_options){.name = "cpu", .threads = 2, .cpu_level = "auto", .exact = exact});
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        const matrix_case *c = &wide[i];
        const struct dc_param k = {.desc = {.out = c->out, .in = c->c, .kh = c->k ? c->k : 1, .kw = c->k ? c->k : 1, .geglu = c->geglu}};
        dc_tensor x = {.dim = {c->n, c->h, c->w, c->c}, .stride = c->c, .rank = 4}, y = x;
        y.dim[3] = y.stride = outputs(c);
        const dc_conv_args conv = {
            .y = y, .x = x, .k = &k, .o = {.stride = 1, .pad = {1, 1, 1, 1}, .pre = {.act = DC_ACT_SILU}}, .in_h = c->h, .in_w = c->w};
        const dc_linear_args linear = {.y = y, .x = x, .k = &k};
        const uint64_t size = c->k ? device->be->conv2d_scratch(device, &conv) : device->be->linear_scratch(device, &linear);
        const uint64_t tiles = 96 * (36 + 36) * sizeof(float) * (uint64_t)c->c, chunk = 2 * (12u << 20);
        assert_true(size > 0 && size <= 2 * (5u << 20) + (!exact && c->k ? tiles > chunk ? tiles : chunk : 0));
    }
    dc_device_close(device);
}

static void test_scratch(void **state) { (void)state, check_scratch(true), check_scratch(false); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolutions), cmocka_unit_test(test_linears),   cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_int8),         cmocka_unit_test(test_int8_rows), cmocka_unit_test(test_bf16_forms),
        cmocka_unit_test(test_stopped),      cmocka_unit_test(test_bytes),     cmocka_unit_test(test_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
