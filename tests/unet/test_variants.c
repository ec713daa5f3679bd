/* UNets of every shape that configs ask for (tests/gen/unet_variants.py): output and modules against diffusers'. */
#include "tests/unet/golden.h"
#include "unet/unet.h"

static const char *const names[] = {"per-level", "odd-size", "lcm", "nested-depths", "no-mid", "only-cross", "eight-channels", "kernels"};

typedef struct fixture {
    golden g;
    dc_unet *unet;
    dc_unet_config c;
    float *x, *extra, *out;
} fixture;

static dc_tensor up(dc_run *r, const fixture *f, const char *name)
{
    const dc_stored *t = golden_find(&f->g, name);
    return dc_upload(r, DC_F32, t->rank, t->dim, t->data);
}

static void pass(void *ctx, dc_run *r)
{
    fixture *f = ctx;
    const dc_stored *x = golden_find(&f->g, "in.sample");
    int64_t dim[4] = {x->dim[0], x->dim[2], x->dim[3], f->c.out_channels};
    dc_unet_in in = {.x = dc_upload(r, DC_F32, 4, dim, f->x), .timestep = up(r, f, "in.timestep"), .context = up(r, f, "in.encoder_hidden_states")};
    dim[3] = f->c.in_channels - f->c.out_channels;
    if (dim[3]) in.extra = dc_upload(r, DC_F32, 4, dim, f->extra);
    if (f->c.text_time) in.pooled = up(r, f, "in.text_embeds"), in.time_ids = up(r, f, "in.time_ids");
    if (f->c.time_cond) in.guidance = up(r, f, "in.guidance");
    dc_download(r, dc_unet_forward(f->unet, r, in), f->out);
}

static void run(fixture *f, dc_device *d, bool taps)
{
    const dc_stored *out = golden_find(&f->g, "out");
    dc_run *r = dc_run_new(d);
    if (taps) dc_run_set_tap(r, golden_tap, &f->g);
    run_once(r, pass, f);
    if (taps) assert_int_equal(f->g.compared, golden_count(&f->g));
    float *got = to_nchw(f->out, out->dim[0], out->dim[1], out->dim[2], out->dim[3]);
    compare(&f->g, "out", got, out, tolerance_of(&f->g, "out"));
    free(got);
    dc_run_free(r);
}

static void check(const char *way, const char *name)
{
    char path[512];
    dc_error e = {0};
    fixture f = {.g = {.prefix = "tap.", .way = way}};
    snprintf(path, sizeof path, TEST_DATA "/golden/unet/%s.json", name);
    f.g.root = read_json(path);
    f.g.tolerance = json_object_get(f.g.root, "tolerance");
    must(dc_unet_config_read(&f.c, json_object_get(f.g.root, "config"), path, &e), &e);
    snprintf(path, sizeof path, TEST_DATA "/golden/unet/%s.safetensors", name);
    must(dc_weights_open(&f.g.w, path, &e), &e);
    dc_device *d = open_device(way);
    must(dc_unet_open(&f.unet, &f.c, f.g.w, d, NULL, &e), &e);
    must(dc_params_prepare(dc_unet_params(f.unet), NULL, NULL, &e), &e);

    const dc_stored *x = golden_find(&f.g, "in.sample");
    int C = f.c.in_channels, L = f.c.out_channels;
    f.x = to_nhwc(x->data, x->dim[0], C, x->dim[2], x->dim[3], 0, L);
    f.extra = to_nhwc(x->data, x->dim[0], C, x->dim[2], x->dim[3], L, C - L);
    f.out = malloc(golden_find(&f.g, "out")->bytes);
    print_message("%s\n", name);
    run(&f, d, true);
    run(&f, d, false);

    free(f.x), free(f.extra), free(f.out);
    dc_unet_close(f.unet);
    dc_device_close(d);
    dc_weights_close(f.g.w);
    json_decref(f.g.root);
}

static void variants(void **state)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check(way_of(state), names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {ON_EVERY_LEVEL(variants)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
