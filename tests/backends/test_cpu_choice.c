/* test_cpu_choice.c - what the CPU device says of how it computes a layer (bench --plan) is what it does. */
#include "cpu_cases.h"

typedef struct layer {
    int h, w, in, out, side, stride;
    const char *algorithm, *exact; /* as it says */
} layer;

/* 1x1 pixel: Winograd's transforms are more than the plain sums. */
static const layer layers[] = {
    {16, 16, 64, 64, 3, 1, "winograd f4x4 f32", "direct f32"}, {9, 7, 32, 16, 3, 1, "winograd f4x4 f32", "direct f32"},
    {1, 1, 64, 64, 3, 1, "direct f32", "direct f32"},          {16, 16, 64, 64, 3, 2, "direct f32", "direct f32"},
    {16, 16, 32, 32, 5, 1, "direct f32", "direct f32"},        {16, 16, 64, 64, 1, 1, "gemm f32", "gemm f32"},
};

typedef struct pass_data {
    const layer *l;
    const dc_param *k;
    const float *x;
    float *y;
} pass_data;

static void pass(void *ctx, dc_run *r)
{
    const pass_data *p = ctx;
    const layer *l = p->l;
    const int pad = l->side / 2;
    dc_tensor x = dc_upload(r, DC_F32, 4, DIMS(1, l->h, l->w, l->in), p->x);
    dc_download(r, dc_conv2d(r, x, p->k, (dc_conv_opt){.stride = l->stride, .pad = {pad, pad, pad, pad}}), p->y);
}

/* Plans and runs the layer; its row of the plan. */
static dc_profile_row compute(dc_device *d, const layer *l, const float *x, const float *w, float *y)
{
    dc_error e = {0};
    dc_params *set = dc_params_new(d, "layer");
    pass_data p = {l, NULL, x, y};
    p.k = dc_params_add(set, &(dc_param_desc){.name = "k",
                                              .kind = DC_PARAM_CONV,
                                              .out = l->out,
                                              .in = l->in,
                                              .kh = l->side,
                                              .kw = l->side,
                                              .n_weight = 1,
                                              .weight = {{w, DC_F32, l->out}}});
    assert_int_equal(dc_params_prepare(set, NULL, NULL, &e), DC_OK);
    dc_run *r = dc_run_new(d);
    const dc_profile_row *rows, *found = NULL;
    dc_run_set_profile(r, true);
    assert_int_equal(dc_run_plan(r, pass, &p, &e), DC_OK);
    for (int i = 0, n = dc_run_profile(r, &rows); i < n; i++)
        if (rows[i].flops) found = &rows[i];
    assert_non_null(found);
    const dc_profile_row row = *found;
    assert_int_equal(dc_run_reserve(r, &e), DC_OK);
    assert_int_equal(dc_run_pass(r, pass, &p, &e), DC_OK);
    dc_run_free(r);
    dc_params_free(set);
    return row;
}

/* Winograd rounds in another way than the plain sums, so whether `exact` changes bytes tells which of the two ran. */
static void convolutions_say_what_they_do(void **state)
{
    (void)state;
    for (size_t v = 0; v < sizeof cpu_levels / sizeof *cpu_levels; v++) {
        dc_device *d = cpu_open(cpu_levels[v], 2, NULL);
        dc_device *exact = d ? cpu_open_with(&(dc_device_options){.name = "cpu", .threads = 2, .cpu_level = cpu_levels[v], .exact = true}) : NULL;
        for (size_t i = 0; d && i < sizeof layers / sizeof *layers; i++) {
            const layer *l = &layers[i];
            const int64_t n = (int64_t)l->h * l->w * l->out;
            float *x = random_floats((int64_t)l->h * l->w * l->in, 1, 0, 1), *w = random_floats((int64_t)l->out * l->in * l->side * l->side, 1, 0, 2);
            float *y = random_floats(n, 0, 0, 0), *z = random_floats(n, 0, 0, 0);
            const dc_profile_row row = compute(d, l, x, w, y), plain = compute(exact, l, x, w, z);
            assert_string_equal(row.choice.algorithm, l->algorithm);
            assert_string_equal(plain.choice.algorithm, l->exact);
            assert_true(row.choice.reason[0] && row.detail[0]);
            const bool same = !memcmp(y, z, sizeof *y * (size_t)n);
            if (same != !strcmp(row.choice.algorithm, plain.choice.algorithm))
                fail_msg("%s, layer %zu: says %s", cpu_levels[v], i, row.choice.algorithm);
            free(x), free(w), free(y), free(z);
        }
        dc_device_close(exact);
        dc_device_close(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(convolutions_say_what_they_do)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
