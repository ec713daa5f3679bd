/* test_cpu_math.c - exp and the activations over the whole float range, norms and element-wise ops at every instruction
 * set of this machine, against plain loops in double. */
#include "backends/cpu/act.h"
#include "backends/cpu/cpu.h"
#include "cpu_cases.h"

/* Runs `body` once for every level, on one and on five threads; the results must have the same bytes. */
typedef struct op_case {
    dc_pass_fn *pass;
    dc_params *params;
    dc_param *norm;
    const void *in[3];
    int64_t dim[4];
    int rank, groups;
    float eps;
    dc_act act;
    float *out;
    int64_t n; /* floats of out */
} op_case;

static dc_param *add_norm(dc_params *params, int channels, const float *w, const float *b)
{
    return dc_params_add(params, &(dc_param_desc){.name = "norm",
                                                  .kind = DC_PARAM_NORM,
                                                  .out = channels,
                                                  .in = 1,
                                                  .kh = 1,
                                                  .kw = 1,
                                                  .n_weight = 1,
                                                  .n_bias = 1,
                                                  .weight = {{w, DC_F32, channels}},
                                                  .bias = {{b, DC_F32, channels}}});
}

static void on_device(op_case *c, dc_device *d, const float *w, const float *b)
{
    c->params = dc_params_new(d, "test");
    if (w) {
        c->norm = add_norm(c->params, (int)c->dim[c->rank - 1], w, b);
        assert_int_equal(dc_params_prepare(c->params, NULL, NULL, NULL), DC_OK);
    }
    assert_int_equal(run_once(d, c->pass, c), DC_OK);
    dc_params_free(c->params);
}

/* c->out at this level; false when the machine has not the level. */
static bool run_case(op_case *c, const char *level, const float *w, const float *b)
{
    dc_device *one = cpu_open(level, 1, NULL), *many = cpu_open(level, 5, NULL);
    if (!one) return false;
    float *first = malloc(sizeof(float) * (size_t)c->n);
    on_device(c, one, w, b);
    memcpy(first, c->out, sizeof(float) * (size_t)c->n);
    on_device(c, many, w, b);
    assert_memory_equal(first, c->out, sizeof(float) * (size_t)c->n);
    free(first);
    dc_device_close(one), dc_device_close(many);
    return true;
}

/* ---- exp and activations ------------------------------------------------------------------------------------------- */

static double exact(dc_act act, double x)
{
    switch (act) {
    case DC_ACT_SILU: return x / (1 + exp(-x));
    case DC_ACT_GELU: return 0.5 * x * erfc(-x / sqrt(2));
    case DC_ACT_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    case DC_ACT_RELU: return x < 0 ? 0 : x;
    case DC_ACT_TANH3: return 3 * tanh(x / 3);
    default: return x;
    }
}

/* Floats of every exponent and sign: bit patterns `step` apart, with NaNs, infinities and denormals among them. */
static float *whole_range(int64_t n, uint32_t step)
{
    float *x = malloc(sizeof(float) * (size_t)n);
    for (int64_t i = 0; i < n; i++) x[i] = cpu_float_of_bits((uint32_t)i * step);
    const float special[] = {0.0f,      -0.0f,  INFINITY, -INFINITY, NAN,           0x1p-149f,     -0x1p-149f,
                             88.72283f, 88.73f, -103.97f, -104.0f,   3.4028235e38f, -3.4028235e38f};
    memcpy(x, special, sizeof special);
    return x;
}

static void test_exp(void **state)
{
    (void)state;
    const int64_t n = 1 << 21;
    float *x = whole_range(n, 2053), *y = malloc(sizeof(float) * (size_t)n);
    double *expected = malloc(sizeof(double) * (size_t)n);
    for (int64_t i = 0; i < n; i++) {
        y[i] = cpu_exp(x[i]);
        expected[i] = exp(x[i]);
    }
    check_close("exp", y, expected, n, 9e-8, 0x1p-149); /* one unit of the denormals */
    assert_true(y[2] == INFINITY && y[3] == 0 && y[0] == 1);
    free(x), free(y), free(expected);
}

static void activate(void *ctx, dc_run *r)
{
    op_case *c = ctx;
    dc_download(r, dc_activate(r, dc_upload(r, DC_F32, c->rank, c->dim, c->in[0]), c->act), c->out);
}

static void test_activations(void **state)
{
    (void)state;
    static const double tolerance[DC_ACTS] = {[DC_ACT_SILU] = 2.5e-7, [DC_ACT_GELU] = 4.8e-7, [DC_ACT_QUICK_GELU] = 2.5e-7, [DC_ACT_TANH3] = 2.5e-7};
    const int64_t n = 1 << 20;
    float *x = whole_range(n, 4099), *y = malloc(sizeof(float) * (size_t)n);
    double *expected = malloc(sizeof(double) * (size_t)n);
    for (dc_act act = DC_ACT_NONE; act < DC_ACTS; act++) {
        for (int64_t i = 0; i < n; i++) expected[i] = exact(act, x[i]);
        expected[3] = exact(act, -INFINITY); /* NaN for the sigmoid-like, as in torch */
        for (int l = 0; l < 3; l++) {
            op_case c = {.pass = activate, .in = {x}, .dim = {n}, .rank = 1, .act = act, .out = y, .n = n};
            char what[64];
            snprintf(what, sizeof what, "activation %d, %s", act, cpu_levels[l]);
            if (run_case(&c, cpu_levels[l], NULL, NULL)) check_close(what, y, expected, n, tolerance[act], 1e-37);
        }
    }
    free(x), free(y), free(expected);
}

/* ---- norms --------------------------------------------------------------------------------------------------------------- */

static void norm(void *ctx, dc_run *r)
{
    op_case *c = ctx;
    int64_t wide[4];
    dc_tensor x;
    memcpy(wide, c->dim, sizeof wide);
    wide[c->rank - 1] += 6; /* x is a slice of wider rows */
    x = dc_view_channels(dc_upload(r, DC_F32, c->rank, wide, c->in[0]), 5, c->dim[c->rank - 1]);
    dc_download(r, c->groups ? dc_group_norm(r, x, c->norm, c->groups, c->eps, c->act) : dc_layer_norm(r, x, c->norm, c->eps), c->out);
}

/* groups == 0: over each row. x has rows of C + 6, its channels begin at 5. */
static void expected_norm(const op_case *c, const float *w, const float *b, double *out)
{
    const int64_t C = c->dim[c->rank - 1], all = c->n / C, rows = c->groups ? all / c->dim[0] : 1, size = c->groups ? C / c->groups : C;
    const float *x = c->in[0];
    for (int64_t n = 0; n < all / rows; n++)
        for (int64_t from = 0; from < C; from += size) {
            double sum = 0, square = 0, count = (double)(rows * size);
            for (int64_t r = n * rows; r < (n + 1) * rows; r++)
                for (int64_t i = from; i < from + size; i++) sum += x[r * (C + 6) + 5 + i];
            for (int64_t r = n * rows; r < (n + 1) * rows; r++)
                for (int64_t i = from; i < from + size; i++) square += pow(x[r * (C + 6) + 5 + i] - sum / count, 2);
            for (int64_t r = n * rows; r < (n + 1) * rows; r++)
                for (int64_t i = from; i < from + size; i++)
                    out[r * C + i] = exact(c->act, (x[r * (C + 6) + 5 + i] - sum / count) / sqrt(square / count + c->eps) * w[i] + b[i]);
        }
}

static void test_norms(void **state)
{
    (void)state;
    static const struct {
        int rank;
        int64_t dim[4];
        int groups;
        float eps, shift;
        dc_act act;
    } cases[] = {
        {4, {2, 8, 8, 320}, 32, 1e-5f, 0, DC_ACT_SILU}, {4, {1, 37, 41, 96}, 32, 1e-6f, 3, DC_ACT_NONE}, {4, {3, 1, 1, 40}, 8, 1e-5f, 0, DC_ACT_GELU},
        {3, {2, 300, 64}, 32, 1e-6f, 100, DC_ACT_SILU}, {3, {1, 9000, 6}, 3, 1e-6f, 0, DC_ACT_NONE},     {4, {2, 5, 7, 21}, 7, 1e-5f, 1, DC_ACT_RELU},
        {3, {2, 77, 768}, 0, 1e-5f, 0.5f, DC_ACT_NONE}, {3, {1, 50, 1280}, 0, 1e-5f, 300, DC_ACT_NONE},  {3, {1, 3, 5}, 0, 1e-5f, 0, DC_ACT_NONE},
        {2, {4, 33}, 0, 1e-5f, -2, DC_ACT_NONE},        {3, {1, 1000, 320}, 0, 1e-5f, 0, DC_ACT_NONE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        op_case c = {.pass = norm, .rank = cases[i].rank, .groups = cases[i].groups, .eps = cases[i].eps, .act = cases[i].act, .n = 1};
        memcpy(c.dim, cases[i].dim, sizeof c.dim);
        for (int k = 0; k < c.rank; k++) c.n *= c.dim[k];
        const int64_t C = c.dim[c.rank - 1];
        float *x = random_floats(c.n / C * (C + 6), 1, cases[i].shift, i), *w = random_floats(C, 1, 0.5f, 7), *b = random_floats(C, 1, 0, 8);
        double *expected = malloc(sizeof(double) * (size_t)c.n);
        c.in[0] = x;
        c.out = malloc(sizeof(float) * (size_t)c.n);
        expected_norm(&c, w, b, expected);
        for (int l = 0; l < 3; l++) {
            char what[64];
            snprintf(what, sizeof what, "norm %d, %s", (int)i, cpu_levels[l]);
            /* scale and shift of a group are floats: what they lose grows with mean / deviation; a layer norm loses nothing */
            const double loss = cases[i].groups ? fabs((double)cases[i].shift) * 2e-7 : 0;
            if (run_case(&c, cpu_levels[l], w, b)) check_close(what, c.out, expected, c.n, 5e-7, 5e-7 + loss);
        }
        free(x), free(w), free(b), free(expected), free(c.out);
    }
}

/* The prologue's form, over two joined inputs whose border cuts a group in two: x * scale + shift is the norm. */
static void test_joined_groups(void **state)
{
    (void)state;
    enum { N = 2, P = 333, A = 22, B = 14, C = A + B, GROUPS = 4 };
    float *a = random_floats(N * P * (A + 2), 1, 0.5f, 1), *b = random_floats(N * P * B, 2, -0.5f, 2), w[C], bias[C], out[N][2][C];
    double *scratch = NULL, worst = 0;
    for (int c = 0; c < C; c++) w[c] = 0.5f + 0.1f * (float)c, bias[c] = 1 - 0.05f * (float)c;
    for (int l = 0; l < 3; l++) {
        dc_device *d = cpu_open(cpu_levels[l], 3, NULL);
        if (!d) continue;
        dc_params *params = dc_params_new(d, "test");
        const dc_param *k = add_norm(params, C, w, bias);
        assert_int_equal(dc_params_prepare(params, NULL, NULL, NULL), DC_OK);
        const dc_tensor x = {.data = a, .dim = {N, P, A}, .stride = A + 2, .id = -1, .rank = 3},
                        x2 = {.data = b, .dim = {N, P, B}, .stride = B, .id = -1, .rank = 3};
        scratch = malloc(cpu_group_scratch(d, x, x2));
        assert_int_equal(cpu_group_scale_shift(d, x, x2, k, GROUPS, 1e-5f, &out[0][0][0], scratch), DC_OK);
        for (int n = 0; n < N; n++)
            for (int c = 0; c < C; c++) {
                const int from = c / (C / GROUPS) * (C / GROUPS), to = from + C / GROUPS;
                double sum = 0, square = 0;
                for (int round = 0; round < 2; round++)
                    for (int r = n * P; r < (n + 1) * P; r++)
                        for (int i = from; i < to; i++) {
                            const double v = i < A ? a[r * (A + 2) + i] : b[r * B + i - A];
                            if (round) square += (v - sum) * (v - sum);
                            else sum += v / (P * (C / GROUPS));
                        }
                const double scale = w[c] / sqrt(square / (P * (C / GROUPS)) + 1e-5);
                worst = fmax(worst, fmax(fabs(out[n][0][c] - scale), fabs(out[n][1][c] - (bias[c] - sum * scale))));
            }
        assert_true(worst < 3e-7);
        free(scratch);
        dc_params_free(params);
        dc_device_close(d);
    }
    free(a), free(b);
}

/* ---- linear combinations ----------------------------------------------------------------------------------------------------- */

/* y = 2 a - 0.3 b + 0.7 s with s one image for all; then in place y = y + 0.1 a; then a strided slice of both. */
static void lincomb(void *ctx, dc_run *r)
{
    op_case *c = ctx;
    dc_tensor a = dc_upload(r, DC_F32, c->rank, c->dim, c->in[0]), b = dc_upload(r, DC_F32, c->rank, c->dim, c->in[1]);
    int64_t one[4];
    memcpy(one, c->dim, sizeof one);
    one[0] = 1;
    dc_tensor s = dc_upload(r, DC_F32, c->rank, one, c->in[2]);
    dc_tensor y = dc_lincomb(r, (dc_term[]){{0.7f, s}, {2.0f, a}, {-0.3f, b}, {0.0f, b}}, 4);
    dc_lincomb_into(r, y, (dc_term[]){{1.0f, y}, {0.1f, a}}, 2);
    const int64_t C = dc_channels(y);
    if (c->rank > 1 && C > 3)
        dc_lincomb_into(r, dc_view_channels(y, 1, C - 2), (dc_term[]){{1.0f, dc_view_channels(y, 1, C - 2)}, {1.0f, dc_view_channels(s, 0, C - 2)}},
                        2);
    dc_download(r, y, c->out);
}

static void expected_lincomb(const op_case *c, double *out)
{
    const float *a = c->in[0], *b = c->in[1], *s = c->in[2];
    const int64_t each = c->n / c->dim[0], C = c->dim[c->rank - 1];
    for (int64_t i = 0; i < c->n; i++) {
        out[i] = 2.0 * a[i] - (double)0.3f * b[i] + (double)0.7f * s[i % each];
        out[i] += (double)0.1f * a[i];
        if (c->rank > 1 && C > 3 && i % C >= 1 && i % C < C - 1) out[i] += s[i % each - 1];
    }
}

static void test_lincomb(void **state)
{
    (void)state;
    static const struct {
        int rank;
        int64_t dim[4];
    } cases[] = {{4, {2, 64, 64, 4}}, {4, {1, 9, 7, 5}}, {3, {3, 50, 1000}}, {2, {5, 33}}, {1, {70}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        op_case c = {.pass = lincomb, .rank = cases[i].rank, .n = 1};
        memcpy(c.dim, cases[i].dim, sizeof c.dim);
        for (int k = 0; k < c.rank; k++) c.n *= c.dim[k];
        float *a = random_floats(c.n, 1, 0, 1), *b = random_floats(c.n, 1, 0, 2), *s = random_floats(c.n / c.dim[0], 1, 0, 3);
        double *expected = malloc(sizeof(double) * (size_t)c.n);
        c.in[0] = a, c.in[1] = b, c.in[2] = s;
        c.out = malloc(sizeof(float) * (size_t)c.n);
        expected_lincomb(&c, expected);
        for (int l = 0; l < 3; l++)
            if (run_case(&c, cpu_levels[l], NULL, NULL))
                check_close(cpu_levels[l], c.out, expected, c.n, 0, 8e-7); /* three roundings of numbers below 4 */
        free(a), free(b), free(s), free(expected), free(c.out);
    }
}

/* ---- statistics ------------------------------------------------------------------------------------------------------------------ */

typedef struct stats_pass {
    int64_t n;
    const float *x;
    dc_stats s;
} stats_pass;
static void stats(void *ctx, dc_run *r)
{
    stats_pass *p = ctx;
    dc_stats_of(r, dc_upload(r, DC_F32, 1, &p->n, p->x), &p->s);
}

static void test_stats(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 7, 1023, 1025, 100003, 2000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int64_t n = sizes[i];
        float *x = random_floats(n, 3, 500, i);
        double mean = 0, square = 0, most = 0;
        for (int64_t k = 0; k < n; k++) mean += x[k] / (double)n, most = fmax(most, fabs(x[k]));
        for (int64_t k = 0; k < n; k++) square += (x[k] - mean) * (x[k] - mean);
        dc_stats before = {0};
        for (int threads = 1; threads <= 3; threads += 2) {
            stats_pass p = {.n = n, .x = x};
            dc_device *d = cpu_open("portable", threads, NULL);
            assert_int_equal(run_once(d, stats, &p), DC_OK);
            assert_true(fabs(p.s.mean - mean) < 1e-10);
            assert_true(fabs(p.s.deviation - (n > 1 ? sqrt(square / (double)(n - 1)) : 0)) < 1e-9);
            assert_true(p.s.absmax == most && p.s.non_finite == 0);
            if (threads > 1) assert_memory_equal(&before, &p.s, sizeof before);
            before = p.s;
            x[n / 2] = NAN, x[n - 1] = INFINITY, x[0] = -INFINITY;
            assert_int_equal(run_once(d, stats, &p), DC_OK);
            assert_int_equal(p.s.non_finite, n < 3 ? n : 3);
            free(x);
            x = random_floats(n, 3, 500, i);
            dc_device_close(d);
        }
        free(x);
    }
}

static void rescale(void *ctx, dc_run *r)
{
    op_case *c = ctx;
    dc_tensor g = dc_upload(r, DC_F32, c->rank, c->dim, c->in[0]), k = dc_upload(r, DC_F32, c->rank, c->dim, c->in[1]);
    dc_download(r, dc_rescale_std(r, g, k, 0.7f), c->out);
}

static double deviation(const float *x, int64_t n)
{
    double mean = 0, square = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i] / (double)n;
    for (int64_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
    return sqrt(square / (double)(n - 1));
}

static void test_rescale(void **state)
{
    (void)state;
    op_case c = {.pass = rescale, .rank = 4, .dim = {3, 40, 30, 4}, .n = 3 * 4800};
    float *g = random_floats(c.n, 2, 0.1f, 1), *k = random_floats(c.n, 1, 0, 2);
    double *expected = malloc(sizeof(double) * (size_t)c.n);
    for (int64_t i = 0; i < 4800; i++) k[i] *= 5; /* images differ */
    for (int64_t n = 0; n < 3; n++) {
        const double ratio = deviation(k + n * 4800, 4800) / deviation(g + n * 4800, 4800);
        for (int64_t i = n * 4800; i < (n + 1) * 4800; i++) expected[i] = (double)0.7f * (g[i] * ratio) + (1 - (double)0.7f) * g[i];
    }
    c.in[0] = g, c.in[1] = k;
    c.out = malloc(sizeof(float) * (size_t)c.n);
    for (int l = 0; l < 3; l++)
        if (run_case(&c, cpu_levels[l], NULL, NULL)) check_close(cpu_levels[l], c.out, expected, c.n, 2e-7, 0);
    free(g), free(k), free(expected), free(c.out);
}

/* ---- pixels, time, rows ---------------------------------------------------------------------------------------------------------- */

typedef struct rgb_pass {
    int64_t dim[4];
    const float *x;
    uint8_t *y;
} rgb_pass;
static void to_rgb(void *ctx, dc_run *r)
{
    rgb_pass *p = ctx;
    dc_download(r, dc_to_rgb8(r, dc_upload(r, DC_F32, 4, p->dim, p->x)), p->y);
}

static void test_rgb8(void **state)
{
    (void)state;
    rgb_pass p = {.dim = {1, 100, 200, 3}};
    float *x = random_floats(60000, 1.3f, 0, 5);
    p.x = x;
    p.y = malloc(60000);
    const float special[] = {NAN, INFINITY, -INFINITY, -1, 1, 0, -0.0f, 7, -7, 1 / 255.0f, -1 / 255.0f};
    const uint8_t expected[] = {0, 0, 0, 0, 255, 128, 128, 255, 0, 128, 127}; /* 127.5 goes to the even 128 */
    memcpy(x, special, sizeof special);
    for (int k = 0; k < 255; k++) x[11 + k] = (float)(2 * (k + 0.5) / 255 - 1); /* halfway between two bytes, or next to it */
    dc_device *d = cpu_open("portable", 3, NULL);
    assert_int_equal(run_once(d, to_rgb, &p), DC_OK);
    assert_memory_equal(p.y, expected, sizeof expected);
    int ties = 0;
    for (int i = 11; i < 60000; i++) { /* as numpy: float32 all the way, then round half to even */
        float v = x[i] / 2 + 0.5f;
        v = v < 0 ? 0 : v > 1 ? 1 : v;
        ties += v * 255.0f - floorf(v * 255.0f) == 0.5f && (int)(v * 255.0f) % 2 == 0;
        assert_int_equal(p.y[i], (int)nearbyint((double)(v * 255.0f)));
    }
    assert_true(ties > 50); /* the even side was down */
    free(x), free(p.y);
    dc_device_close(d);
}

typedef struct time_pass {
    dc_timestep_opt o;
    int64_t n;
    const float *t;
    float *y;
} time_pass;
static void embed_time(void *ctx, dc_run *r)
{
    time_pass *p = ctx;
    dc_download(r, dc_timestep_embedding(r, dc_upload(r, DC_F32, 1, &p->n, p->t), p->o), p->y);
}

static void test_timesteps(void **state)
{
    (void)state;
    static const float t[] = {0, 1, 13.5f, 999};
    static const dc_timestep_opt options[] = {{320, true, 0}, {320, false, 1}, {7, true, 0}, {2, false, 0}};
    dc_device *d = cpu_open("portable", 1, NULL);
    for (int i = 0; i < 4; i++) {
        float y[4 * 320];
        time_pass p = {options[i], 4, t, y};
        const int dim = p.o.dim, half = dim / 2;
        assert_int_equal(run_once(d, embed_time, &p), DC_OK);
        for (int n = 0; n < 4; n++) {
            for (int k = 0; k < half; k++) {
                const double phase = t[n] * exp(-log(10000.0) * k / (half - p.o.freq_shift));
                const double tolerance = 1e-7 + phase * 1e-6; /* frequencies are floats there: exponents up to 9.2 */
                assert_true(fabs(y[n * dim + (p.o.flip_sin_to_cos ? half + k : k)] - sin(phase)) <= tolerance);
                assert_true(fabs(y[n * dim + (p.o.flip_sin_to_cos ? k : half + k)] - cos(phase)) <= tolerance);
            }
            if (dim % 2) assert_true(y[n * dim + dim - 1] == 0);
        }
    }
    dc_device_close(d);
}

typedef struct embed_pass {
    dc_param *table, *positions;
    int32_t ids[6], index[2];
    float y[6 * 5], rows[2 * 5];
} embed_pass;
static void embed(void *ctx, dc_run *r)
{
    embed_pass *p = ctx;
    dc_tensor y = dc_embed(r, dc_upload(r, DC_I32, 2, DIMS(2, 3), p->ids), p->table, p->positions);
    dc_download(r, y, p->y);
    dc_download(r, dc_gather_rows(r, y, dc_upload(r, DC_I32, 1, DIMS(2), p->index)), p->rows);
}

static void test_embed(void **state)
{
    (void)state;
    float *table = random_floats(9 * 5, 1, 0, 1), *positions = random_floats(4 * 5, 1, 0, 2);
    dc_device *d = cpu_open("portable", 2, NULL);
    dc_params *params = dc_params_new(d, "test");
    dc_param_desc k = {.name = "table",
                       .kind = DC_PARAM_TABLE,
                       .out = 9,
                       .in = 5,
                       .kh = 1,
                       .kw = 1,
                       .n_weight = 2,
                       .weight = {{table, DC_F32, 4}, {table + 20, DC_F32, 5}}};
    embed_pass p = {.ids = {8, 0, 3, 3, 4, 7}, .index = {2, 0}};
    p.table = dc_params_add(params, &k);
    k.out = 4, k.n_weight = 1, k.weight[0] = (dc_source){positions, DC_F32, 4, 0};
    p.positions = dc_params_add(params, &k);
    assert_int_equal(dc_params_prepare(params, NULL, NULL, NULL), DC_OK);
    assert_int_equal(run_once(d, embed, &p), DC_OK);
    for (int i = 0; i < 6; i++)
        for (int c = 0; c < 5; c++) assert_true(p.y[i * 5 + c] == table[p.ids[i] * 5 + c] + positions[i % 3 * 5 + c]);
    assert_memory_equal(p.rows, p.y + 2 * 5, 5 * sizeof(float));
    assert_memory_equal(p.rows + 5, p.y + 3 * 5, 5 * sizeof(float));
    const int32_t wrong[] = {-1, 9, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 4; i++) {
        embed_pass bad = p;
        bad.ids[5] = wrong[i];
        assert_int_equal(run_once(d, embed, &bad), DC_DATA);
        bad = p;
        bad.index[1] = i == 1 ? 3 : wrong[i];
        assert_int_equal(run_once(d, embed, &bad), DC_DATA);
    }
    dc_params_free(params);
    dc_device_close(d);
    free(table), free(positions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),       cmocka_unit_test(test_activations), cmocka_unit_test(test_norms),   cmocka_unit_test(test_joined_groups),
        cmocka_unit_test(test_lincomb),   cmocka_unit_test(test_stats),       cmocka_unit_test(test_rescale), cmocka_unit_test(test_rgb8),
        cmocka_unit_test(test_timesteps), cmocka_unit_test(test_embed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
