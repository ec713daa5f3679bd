/* test_ops_random.c - the CPU against the reference device on random shapes and options, at every instruction set; and the same bytes
 * whatever the number of threads. The reference device itself is judged by test_ops.c. */
#include "backends/run.h"
#include "base/half.h"
#include "cpu_cases.h"

enum { CASES = 500, LEVELS = 3, THREADS = 4, MOST_PRODUCTS = 40000000 };
static const int thread_counts[THREADS] = {1, 2, 3, 7};

/* ---- random cases ---------------------------------------------------------------------------------------------- */

typedef enum op_kind { CONV, LINEAR, ATTENTION, GROUP_NORM, LAYER_NORM, LINCOMB, OP_KINDS } op_kind;

typedef struct random_case {
    op_kind op;
    int64_t n, h, w, c, c2, o; /* input [n,h,w,c], joined with c2 more channels */
    int kh, kw, stride, pad[4], up_h, up_w, groups, heads, head, keys, shared, slice;
    bool norm, residual, add, geglu, bias, causal, tokens;
    dc_act act, pre_act;
    dc_dtype type;
    uint64_t seed;
    float *in[6];       /* x, x2, add, residual (or: q, k, v; or: terms) */
    uint8_t *source[4]; /* weight, bias, scale, shift */
} random_case;

static int pick(uint64_t *rng, int n) { return (int)((random_float(rng) * 0.5f + 0.5f) * (float)n); }
#define PICK(rng, ...) ((const int[]){__VA_ARGS__}[pick(rng, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)))])
#define CHANNELS       1, 2, 3, 4, 5, 7, 8, 12, 16, 20, 24, 31, 32, 33, 48, 64, 77, 96, 100, 128, 160, 255, 320, 640, 1280

static int64_t joined(const random_case *c) { return c->c + c->c2; }
static int64_t rows_of(const random_case *c) { return c->n * c->h * c->w; }

/* A number of groups for c channels. Groups of a few numbers are left out: where all are equal, the deviation is that of eps, and the
 * CPU's x * scale + shift (as torch's) loses digits that the reference device keeps. */
static int divisor(uint64_t *rng, int64_t c, int64_t pixels)
{
    int g = PICK(rng, 1, 2, 3, 4, 5, 8, 16, 32, 1000000);
    if (g > c) g = (int)c;
    while (c % g || (g > 1 && c / g * pixels < 8)) g--;
    return g;
}

static int64_t products(const random_case *c)
{
    switch (c->op) {
    case CONV: return c->n * (c->up_h ? c->up_h : c->h) * (c->up_w ? c->up_w : c->w) * joined(c) * c->o * c->kh * c->kw;
    case LINEAR: return rows_of(c) * joined(c) * c->o;
    case ATTENTION: return 2 * c->n * c->h * c->w * c->heads * c->head;
    default: return rows_of(c) * c->c * 8;
    }
}

static void draw_matrix_op(random_case *c, uint64_t *rng)
{
    c->c = PICK(rng, CHANNELS);
    c->o = PICK(rng, CHANNELS);
    if (!pick(rng, 3)) c->c2 = PICK(rng, CHANNELS);
    c->norm = !pick(rng, 3) && joined(c) * c->h * c->w >= 8;
    c->groups = divisor(rng, joined(c), c->h * c->w);
    c->residual = pick(rng, 2);
    c->bias = pick(rng, 4);
    c->type = (dc_dtype)PICK(rng, DC_F32, DC_F32, DC_F16, DC_BF16);
    if (!pick(rng, 3)) c->act = (dc_act)pick(rng, DC_ACTS);
    if (!pick(rng, 2)) c->pre_act = (dc_act)pick(rng, DC_ACTS);
    c->kh = c->kw = 1;
    if (c->op == LINEAR) {
        c->tokens = pick(rng, 2);
        c->geglu = c->o % 2 == 0 && !pick(rng, 4);
        return;
    }
    c->kh = PICK(rng, 1, 3, 3, 3, 2, 5);
    c->kw = pick(rng, 4) ? c->kh : PICK(rng, 1, 3, 4);
    c->stride = PICK(rng, 1, 1, 1, 2, 3);
    c->add = pick(rng, 2);
    if (!pick(rng, 3)) c->up_h = (int)c->h * 2 - pick(rng, 2);
    if (!pick(rng, 3)) c->up_w = (int)c->w * 2 - pick(rng, 2);
    for (int i = 0; i < 4; i++) c->pad[i] = pick(rng, (i % 2 ? c->kw : c->kh) + 1);
    while ((c->up_h ? c->up_h : c->h) + c->pad[0] + c->pad[2] < c->kh) c->pad[0]++;
    while ((c->up_w ? c->up_w : c->w) + c->pad[1] + c->pad[3] < c->kw) c->pad[1]++;
}

/* Attention: h queries, w keys of n images. */
static void draw_attention(random_case *c, uint64_t *rng)
{
    c->heads = PICK(rng, 1, 1, 2, 3, 5, 8);
    c->head = PICK(rng, 1, 4, 8, 13, 16, 40, 64, 80, 96, 160, 512);
    c->c = c->heads * c->head;
    c->h = PICK(rng, 1, 2, 7, 24, 48, 49, 77, 130, 256);
    c->w = PICK(rng, 1, 3, 8, 31, 64, 77, 100, 257, 600);
    c->causal = !pick(rng, 3);
    c->keys = pick(rng, 2) ? 0 : 1 + pick(rng, (int)c->w);
    c->shared = !pick(rng, 3);
}

static random_case draw(uint64_t *rng)
{
    random_case c;
    do {
        c = (random_case){.op = (op_kind)PICK(rng, CONV, CONV, CONV, LINEAR, LINEAR, ATTENTION, ATTENTION, GROUP_NORM, LAYER_NORM, LINCOMB),
                          .stride = 1};
        c.n = PICK(rng, 1, 1, 2, 3);
        c.h = PICK(rng, 1, 2, 3, 5, 7, 8, 9, 16, 33);
        c.w = PICK(rng, 1, 2, 4, 5, 7, 8, 15, 16, 30);
        c.slice = pick(rng, 2) * PICK(rng, 1, 5, 16);
        c.seed = *rng;
        if (c.op == CONV || c.op == LINEAR) draw_matrix_op(&c, rng);
        else if (c.op == ATTENTION) draw_attention(&c, rng);
        else
            c.c = PICK(rng, CHANNELS), c.groups = divisor(rng, c.c, c.h * c.w), c.act = c.op == GROUP_NORM ? (dc_act)pick(rng, DC_ACTS) : DC_ACT_NONE;
    } while (products(&c) > MOST_PRODUCTS || (c.op == GROUP_NORM && c.c * c.h * c.w < 8));
    return c;
}

static void describe(const random_case *c, char *out, size_t size)
{
    static const char *const names[OP_KINDS] = {"conv", "linear", "attention", "group_norm", "layer_norm", "lincomb"};
    snprintf(out, size, "%s %dx%dx%dx%d+%d->%d k%dx%d/%d pad %d,%d,%d,%d up %dx%d groups %d%s act %d/%d%s%s%s%s %s heads %dx%d keys %d%s%s slice %d",
             names[c->op], (int)c->n, (int)c->h, (int)c->w, (int)c->c, (int)c->c2, (int)c->o, c->kh, c->kw, c->stride, c->pad[0], c->pad[1],
             c->pad[2], c->pad[3], c->up_h, c->up_w, c->groups, c->norm ? " normed" : "", c->pre_act, c->act, c->residual ? " residual" : "",
             c->add ? " add" : "", c->geglu ? " geglu" : "", c->bias ? " bias" : "", dc_dtype_name(c->type), c->heads, c->head, c->keys,
             c->causal ? " causal" : "", c->shared ? " shared" : "", c->slice);
}

/* ---- data --------------------------------------------------------------------------------------------------------- */

/* Output size of a convolution. */
static int64_t out_size(int64_t in, int up, int before, int after, int k, int stride) { return ((up ? up : in) + before + after - k) / stride + 1; }
static int64_t out_h(const random_case *c) { return c->op == CONV ? out_size(c->h, c->up_h, c->pad[0], c->pad[2], c->kh, c->stride) : c->h; }
static int64_t out_w(const random_case *c) { return c->op == CONV ? out_size(c->w, c->up_w, c->pad[1], c->pad[3], c->kw, c->stride) : c->w; }
static int64_t out_channels(const random_case *c) { return c->geglu ? c->o / 2 : c->o ? c->o : c->c; }

static uint8_t *source(int64_t n, dc_dtype type, float scale, float shift, uint64_t seed)
{
    float *v = random_floats(n, scale, shift, seed);
    uint16_t *narrow = (uint16_t *)v;
    if (type == DC_F32) return (uint8_t *)v;
    for (int64_t i = 0; i < n; i++) narrow[i] = type == DC_F16 ? dc_f32_to_f16(v[i]) : dc_f32_to_bf16(v[i]); /* never ahead of the reading */
    return (uint8_t *)v;
}

static void make(random_case *c)
{
    const int64_t I = joined(c), k = I * c->kh * c->kw, rows = rows_of(c), O = out_channels(c);
    const float size = c->op == CONV || c->op == LINEAR ? (c->norm ? 2 : 4) / sqrtf((float)k) : 2;
    if (c->op == ATTENTION) {
        for (int i = 0; i < 3; i++) c->in[i] = random_floats(c->n * (i ? c->w : c->h) * (c->c + c->slice), 1.5f, 0, c->seed + (uint64_t)i);
        return;
    }
    c->in[0] = random_floats(rows * (c->c + c->slice), c->norm ? 2 : size, c->norm ? 0.5f : 0, c->seed);
    c->in[1] = random_floats(rows * (c->op == LINCOMB ? c->c : c->c2 + 1), c->norm ? 1 : size, 0, c->seed + 1);
    c->in[2] = random_floats(c->n * O, 1, 0, c->seed + 2);
    c->in[3] = random_floats(c->n * out_h(c) * out_w(c) * (O + c->slice), 1, 0, c->seed + 3);
    c->source[0] = source(c->o * k + 1, c->type, c->norm ? size : 1, 0, c->seed + 4);
    c->source[1] = source(c->o + 1, c->type, 1, 0, c->seed + 5);
    c->source[2] = source(I, DC_F32, 0.5f, 1, c->seed + 6);
    c->source[3] = source(I, DC_F32, 0.5f, 0, c->seed + 7);
}

static void drop(random_case *c)
{
    for (int i = 0; i < 6; i++) free(c->in[i]);
    for (int i = 0; i < 4; i++) free(c->source[i]);
}

/* ---- the pass --------------------------------------------------------------------------------------------------------- */

typedef struct job {
    const random_case *c;
    dc_param *k, *norm;
    float *out;
    int64_t count;
} job;

/* [n,h,w,c] (or [n,h*w,c]), the first c of c + slice channels. */
static dc_tensor up(const random_case *c, dc_run *r, int64_t h, int64_t w, int64_t channels, int slice, const float *host)
{
    dc_tensor t = dc_upload(r, DC_F32, 4, (int64_t[4]){c->n, h, w, channels + slice}, host);
    t = dc_view_channels(t, slice, channels);
    return c->tokens ? dc_view_tokens(t) : t;
}

static dc_tensor matrix_op(const job *j, dc_run *r)
{
    const random_case *c = j->c;
    dc_tensor x = up(c, r, c->h, c->w, c->c, c->slice, c->in[0]), residual = DC_NONE;
    dc_pre pre = {.norm = j->norm, .groups = c->groups, .eps = 1e-5f, .act = c->pre_act, .h = c->up_h, .w = c->up_w};
    if (c->c2) pre.x2 = up(c, r, c->h, c->w, c->c2, 0, c->in[1]);
    if (c->residual) residual = up(c, r, out_h(c), out_w(c), out_channels(c), c->slice, c->in[3]);
    if (c->op == LINEAR) return dc_linear(r, x, j->k, (dc_linear_opt){.pre = pre, .residual = residual, .act = c->act});
    dc_conv_opt o = {.pre = pre, .stride = c->stride, .residual = residual, .act = c->act};
    memcpy(o.pad, c->pad, sizeof o.pad);
    if (c->add) o.add = dc_upload(r, DC_F32, 2, (int64_t[2]){c->n, c->o}, c->in[2]);
    return dc_conv2d(r, x, j->k, o);
}

static dc_tensor attention(const random_case *c, dc_run *r)
{
    dc_tensor t[3];
    for (int i = 0; i < 3; i++) {
        t[i] = dc_upload(r, DC_F32, 3, (int64_t[3]){c->n, i ? c->w : c->h, c->c + c->slice}, c->in[i]);
        t[i] = dc_view_channels(t[i], i == 2 ? 0 : c->slice, c->c);
        if (i && c->shared) t[i] = dc_view_batch(t[i], c->n - 1, 1);
    }
    return dc_attention(r, t[0], t[1], t[2], (dc_attention_opt){.heads = c->heads, .causal = c->causal, .keys = c->keys});
}

static void pass(void *ctx, dc_run *r)
{
    const job *j = ctx;
    const random_case *c = j->c;
    dc_tensor y;
    if (c->op == CONV || c->op == LINEAR) y = matrix_op(j, r);
    else if (c->op == ATTENTION) y = attention(c, r);
    else {
        dc_tensor x = up(c, r, c->h, c->w, c->c, c->slice, c->in[0]);
        if (c->op == GROUP_NORM) y = dc_group_norm(r, x, j->norm, c->groups, 1e-5f, c->act);
        else if (c->op == LAYER_NORM) y = dc_layer_norm(r, x, j->norm, 1e-5f);
        else y = dc_lincomb(r, (dc_term[]){{0.3f, x}, {-1.7f, up(c, r, c->h, c->w, c->c, 0, c->in[1])}}, 2);
    }
    assert_true(!dc_run_ok(r) || dc_numel(y) == j->count);
    dc_download(r, y, j->out);
}

/* The result on d, into out. */
static void run_on(dc_device *d, const random_case *c, float *out, int64_t count)
{
    dc_params *set = dc_params_new(d, "random");
    dc_error e = {0};
    job j = {.c = c, .out = out, .count = count};
    if (c->o)
        j.k = dc_params_add(set, &(dc_param_desc){.name = "k",
                                                  .kind = c->op == CONV ? DC_PARAM_CONV : DC_PARAM_LINEAR,
                                                  .out = (int)c->o,
                                                  .in = (int)joined(c),
                                                  .kh = c->kh,
                                                  .kw = c->kw,
                                                  .geglu = c->geglu,
                                                  .n_weight = 1,
                                                  .n_bias = c->bias,
                                                  .weight = {{c->source[0], c->type, c->o}},
                                                  .bias = {{c->source[1], c->type, c->o}}});
    if (c->norm || c->op == GROUP_NORM || c->op == LAYER_NORM)
        j.norm = dc_params_add(set, &(dc_param_desc){.name = "norm",
                                                     .kind = DC_PARAM_NORM,
                                                     .out = (int)joined(c),
                                                     .in = 1,
                                                     .kh = 1,
                                                     .kw = 1,
                                                     .n_weight = 1,
                                                     .n_bias = 1,
                                                     .weight = {{c->source[2], DC_F32, joined(c)}},
                                                     .bias = {{c->source[3], DC_F32, joined(c)}}});
    dc_run *r = dc_run_new(d);
    dc_run_set_guard(r, true);
    dc_status s = dc_params_prepare(set, NULL, NULL, &e);
    if (!s) s = dc_run_plan(r, pass, &j, &e);
    if (!s) s = dc_run_reserve(r, &e);
    if (!s) s = dc_run_pass(r, pass, &j, &e);
    if (s) fail_msg("%s: %s", dc_device_summary(d), e.text);
    dc_run_free(r);
    dc_params_free(set);
}

/* Float sums against sums in double, relative to the RMS of the result: a random walk of the roundings of K products added one after the
 * other, 2^-24 sqrt(K / 6), twice that for bad luck; some roundings before and after; scores of attention are sums of their own. */
static double tolerance(const random_case *c)
{
    double k = c->op == ATTENTION ? c->head + (double)c->w : c->op == CONV || c->op == LINEAR ? (double)joined(c) * c->kh * c->kw : 1;
    const bool winograd = c->op == CONV && c->kh == 3 && c->kw == 3 && c->stride == 1;
    return (winograd ? WINOGRAD_LOSS : 1) * (6e-7 + 0x1p-23 * sqrt(k / 6));
}

static double error_of(const float *found, const float *expected, int64_t n)
{
    double square = 0, error = 0;
    for (int64_t i = 0; i < n; i++) {
        error += ((double)found[i] - expected[i]) * ((double)found[i] - expected[i]);
        square += (double)expected[i] * expected[i];
    }
    return error == 0 ? 0 : sqrt(error / (square > 0 ? square : 1));
}

static void test_random(void **state)
{
    (void)state;
    dc_device *ref = NULL, *cpu[LEVELS][THREADS];
    uint64_t rng = 20;
    double most = 0;
    int failed = 0;
    assert_int_equal(dc_device_open(&ref, &(dc_device_options){.name = "ref"}, NULL), DC_OK);
    for (int l = 0; l < LEVELS; l++)
        for (int t = 0; t < THREADS; t++) cpu[l][t] = cpu_open(cpu_levels[l], thread_counts[t], NULL);
    for (int i = 0; i < CASES; i++) {
        random_case c = draw(&rng);
        int64_t count = c.n * out_h(&c) * (c.op == ATTENTION ? 1 : out_w(&c)) * out_channels(&c);
        size_t bytes = sizeof(float) * (size_t)count;
        float *expected = malloc(bytes), *first = malloc(bytes), *other = malloc(bytes);
        char text[320];
        make(&c);
        describe(&c, text, sizeof text);
        run_on(ref, &c, expected, count);
        for (int l = 0; l < LEVELS; l++) {
            if (!cpu[l][0]) continue;
            run_on(cpu[l][0], &c, first, count);
            double share = error_of(first, expected, count) / tolerance(&c);
            if (!(share <= 1)) failed++, print_message("%s: %s: %.2f of the tolerance\n", cpu_levels[l], text, share);
            most = fmax(most, share);
            for (int t = 1; t < THREADS; t++) {
                run_on(cpu[l][t], &c, other, count);
                if (memcmp(first, other, bytes))
                    failed++, print_message("%s: %s: other bytes with %d threads\n", cpu_levels[l], text, thread_counts[t]);
            }
        }
        free(expected), free(first), free(other);
        drop(&c);
    }
    print_message("%d cases, at most %.0f %% of the tolerance\n", CASES, 100 * most);
    for (int l = 0; l < LEVELS; l++)
        for (int t = 0; t < THREADS; t++) dc_device_close(cpu[l][t]);
    dc_device_close(ref);
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
