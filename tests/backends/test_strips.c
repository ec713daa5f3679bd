/* test_strips.c - convolutions and group norms of a picture in strips: on every device what they are of the whole (which other tests judge),
 * wherever it is cut; and what is refused. */
#include "cpu_cases.h"

enum { W = 13, C = 24, O = 20, GROUPS = 4, MOST = 8 };

typedef struct shape {
    int h, side, stride, up; /* up: factor of a resize before it */
    int cut[MOST];           /* first rows of the strips, then h */
} shape;

/* A last strip of one row, strips lower than a tile of Winograd's, a kernel that sees two rows of a neighbour. */
static const shape shapes[] = {
    {17, 3, 1, 1, {0, 3, 8, 16, 17}}, {16, 3, 2, 1, {0, 4, 10, 16}}, {9, 3, 1, 2, {0, 4, 5, 9}},
    {12, 5, 1, 1, {0, 4, 8, 12}},     {6, 1, 1, 1, {0, 2, 6}},
};

typedef struct pass_data {
    const shape *s;
    const dc_param *k, *norm;
    float *x, *y;
    bool strips;
} pass_data;

static dc_conv_opt options(const shape *s, dc_tensor x)
{
    const int pad = s->side / 2;
    dc_conv_opt o = {.stride = s->stride, .pad = {pad, pad, s->stride > 1 ? 1 : pad, pad}};
    if (s->stride > 1) o.pad[0] = 0;
    o.pre.act = DC_ACT_SILU;
    if (s->up > 1) o.pre.h = s->up * (int)x.dim[1], o.pre.w = s->up * W;
    return o;
}

static void pass(void *ctx, dc_run *r)
{
    const pass_data *p = ctx;
    const shape *s = p->s;
    const dc_tensor x = dc_upload(r, DC_F32, 4, DIMS(1, s->h, W, C), p->x);
    dc_tensor strip[MOST], sums[MOST];
    int n = 0;
    if (!p->strips) {
        dc_conv_opt o = options(s, x);
        o.pre.norm = p->norm, o.pre.groups = GROUPS, o.pre.eps = 1e-5f;
        dc_download(r, dc_conv2d(r, x, p->k, o), p->y);
        return;
    }
    for (; s->cut[n] < s->h; n++) {
        strip[n] = dc_view_rows(x, s->cut[n], s->cut[n + 1] - s->cut[n]);
        sums[n] = dc_group_sums(r, strip[n], s->h);
    }
    const dc_tensor scale = dc_group_scale(r, sums, n, p->norm, GROUPS, 1e-5f, (int64_t)s->h * W);
    float *y = p->y;
    for (int i = 0; i < n; i++) {
        dc_conv_opt o = options(s, strip[i]);
        o.pre.scale = scale;
        o.strip = (dc_strip){i ? strip[i - 1] : DC_NONE, i + 1 < n ? strip[i + 1] : DC_NONE, s->h * s->up / s->stride};
        const dc_tensor out = dc_conv2d(r, strip[i], p->k, o);
        dc_download(r, out, y);
        y += dc_numel(out);
    }
}

static dc_param *add(dc_params *set, dc_param_kind kind, int out, int in, int side, const float *w, const float *b)
{
    return dc_params_add(set, &(dc_param_desc){.name = "k",
                                               .kind = kind,
                                               .out = out,
                                               .in = in,
                                               .kh = side,
                                               .kw = side,
                                               .n_weight = 1,
                                               .n_bias = 1,
                                               .weight = {{w, DC_F32, out}},
                                               .bias = {{b, DC_F32, out}}});
}

/* Plain sums are the same sums; a strip that cuts a tile of Winograd's is another rounding of them: up to 5 times the 2e-6 of the largest value
 * that the plain sums are allowed (cpu_cases.h), of values below 40. */
static void check_shape(dc_device *d, const shape *s)
{
    float *x = random_floats(s->h * W * C, 3, 1, 1), *w = random_floats((int64_t)O * C * s->side * s->side, 1, 0, 2), *b = random_floats(O, 1, 0, 3);
    float *scale = random_floats(C, 1, 0, 4), *shift = random_floats(C, 1, 0, 5);
    const int64_t n = (int64_t)(s->h * s->up / s->stride) * ((W * s->up + s->side / 2 * 2 - s->side) / s->stride + 1) * O;
    float *whole = random_floats(n, 0, 0, 6), *strips = random_floats(n, 0, 0, 7);
    double *expected = malloc(sizeof *expected * (size_t)n);
    dc_error e = {0};
    dc_params *set = dc_params_new(d, "strips");
    pass_data p = {.s = s, .x = x, .y = whole};
    p.k = add(set, DC_PARAM_CONV, O, C, s->side, w, b);
    p.norm = add(set, DC_PARAM_NORM, C, 1, 1, scale, shift);
    assert_int_equal(dc_params_prepare(set, NULL, NULL, &e), DC_OK);
    assert_int_equal(run_once(d, pass, &p), DC_OK);
    p.y = strips, p.strips = true;
    assert_int_equal(run_once(d, pass, &p), DC_OK);
    for (int64_t i = 0; i < n; i++) expected[i] = whole[i];
    check_close(dc_device_summary(d), strips, expected, n, 0, 40 * WINOGRAD_LOSS * 2e-6);
    dc_params_free(set);
    free(x), free(w), free(b), free(scale), free(shift), free(whole), free(strips), free(expected);
}

static void strips_are_the_whole(void **state)
{
    static const char *const levels[] = {NULL, "portable", "avx2", "avx512"};
    (void)state;
    for (size_t v = 0; v < sizeof levels / sizeof *levels; v++)
        for (int exact = 0; exact < 2; exact++) {
            dc_device *d = cpu_open_with(&(dc_device_options){
                .name = levels[v] ? "cpu" : "ref", .threads = 2, .cpu_level = levels[v] ? levels[v] : "portable", .exact = exact});
            for (size_t i = 0; d && i < sizeof shapes / sizeof *shapes; i++) check_shape(d, &shapes[i]);
            dc_device_close(d);
        }
}

/* ---- sums -------------------------------------------------------------------------------------------------------------- */

enum { TALL = 150, CUT = 88, BLOCKS = 38 }; /* blocks of 4 rows, of which the last has 2 */

typedef struct sums_data {
    const float *x;
    double whole[BLOCKS][2][C], strips[BLOCKS][2][C];
} sums_data;

static void sums_pass(void *ctx, dc_run *r)
{
    sums_data *p = ctx;
    const dc_tensor x = dc_upload(r, DC_F32, 4, DIMS(1, TALL, W, C), p->x);
    dc_download(r, dc_group_sums(r, x, TALL), p->whole);
    dc_download(r, dc_group_sums(r, dc_view_rows(x, 0, CUT), TALL), p->strips);
    dc_download(r, dc_group_sums(r, dc_view_rows(x, CUT, TALL - CUT), TALL), p->strips[CUT / 4]);
}

/* The strips' sums are the whole's, to the last bit: so is the norm. And they are what double sums over all rows give. */
static void sums_of_strips_are_those_of_the_whole(void **state)
{
    static const char *const devices[] = {"ref", "cpu"};
    static sums_data p;
    (void)state;
    float *x = random_floats(TALL * W * C, 1, 0.5f, 1);
    p.x = x;
    assert_int_equal(dc_norm_rows(64), 1);
    assert_int_equal(dc_norm_rows(TALL), 4);
    for (int i = 0; i < 2; i++) {
        dc_device *d = cpu_open_with(&(dc_device_options){.name = devices[i], .threads = 2, .cpu_level = "auto"});
        memset(p.strips, 0xff, sizeof p.strips);
        assert_int_equal(run_once(d, sums_pass, &p), DC_OK);
        assert_memory_equal(p.whole, p.strips, sizeof p.whole);
        for (int c = 0; c < C; c++) {
            double sum = 0, square = 0, found[2] = {0, 0};
            for (int k = 0; k < TALL * W; k++) sum += x[k * C + c], square += (double)x[k * C + c] * x[k * C + c];
            for (int k = 0; k < BLOCKS; k++) found[0] += p.whole[k][0][c], found[1] += p.whole[k][1][c];
            assert_true(fabs(found[0] - sum) < 1e-10 * TALL * W && fabs(found[1] - square) < 1e-10 * TALL * W);
        }
        dc_device_close(d);
    }
    free(x);
}

/* ---- refused ----------------------------------------------------------------------------------------------------------- */

typedef struct wrong {
    const char *expected;
    void (*pass)(dc_run *r, const dc_param *k, const dc_param *norm, dc_tensor x);
} wrong;

static void norm_of_a_strip(dc_run *r, const dc_param *k, const dc_param *norm, dc_tensor x)
{
    dc_conv_opt o = {.pre = {.norm = norm, .groups = GROUPS}, .strip = {.height = 8}};
    dc_conv2d(r, dc_view_rows(x, 0, 4), k, o);
}
static void narrower_neighbour(dc_run *r, const dc_param *k, const dc_param *norm, dc_tensor x)
{
    (void)norm;
    dc_conv2d(r, x, k, (dc_conv_opt){.strip = {.below = dc_new(r, DC_F32, 4, DIMS(1, 8, W - 1, C)), .height = 16}});
}
static void uneven_resize(dc_run *r, const dc_param *k, const dc_param *norm, dc_tensor x)
{
    (void)norm;
    dc_conv2d(r, x, k, (dc_conv_opt){.pre = {.h = 12, .w = W}, .strip = {.height = 16}});
}
static void scale_of_other_channels(dc_run *r, const dc_param *k, const dc_param *norm, dc_tensor x)
{
    (void)norm;
    dc_conv2d(r, x, k, (dc_conv_opt){.pre = {.scale = dc_new(r, DC_F32, 3, DIMS(1, 2, C - 1))}});
}
static void sums_above_the_whole(dc_run *r, const dc_param *k, const dc_param *norm, dc_tensor x)
{
    (void)k, (void)norm;
    dc_group_sums(r, x, 7);
}
static void sums_of_nothing(dc_run *r, const dc_param *k, const dc_param *norm, dc_tensor x)
{
    (void)k, (void)x;
    dc_group_scale(r, NULL, 0, norm, GROUPS, 0, 1);
}

typedef struct refusal {
    const wrong *w;
    const dc_param *k, *norm;
} refusal;

static void wrong_pass(void *ctx, dc_run *r)
{
    const refusal *f = ctx;
    f->w->pass(r, f->k, f->norm, dc_new(r, DC_F32, 4, DIMS(1, 8, W, C)));
}

static void refused(void **state)
{
    static const wrong all[] = {
        {"conv2d: strip", norm_of_a_strip},         {"conv2d: neighbour strip", narrower_neighbour}, {"conv2d: strip", uneven_resize},
        {"conv2d: scale", scale_of_other_channels}, {"group_sums: input", sums_above_the_whole},     {"group_scale: sums", sums_of_nothing}};
    static const float zeros[O * C * 9];
    (void)state;
    dc_device *d = cpu_open("portable", 1, NULL);
    dc_params *set = dc_params_new(d, "strips");
    refusal f = {.k = add(set, DC_PARAM_CONV, O, C, 3, zeros, zeros), .norm = add(set, DC_PARAM_NORM, C, 1, 1, zeros, zeros)};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        dc_error e = {0};
        dc_run *r = dc_run_new(d);
        f.w = &all[i];
        assert_int_equal(dc_run_plan(r, wrong_pass, &f, &e), DC_INTERNAL);
        if (strncmp(e.text, all[i].expected, strlen(all[i].expected))) fail_msg("%s", e.text);
        dc_run_free(r);
    }
    dc_params_free(set);
    dc_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(strips_are_the_whole), cmocka_unit_test(sums_of_strips_are_those_of_the_whole),
                                       cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
