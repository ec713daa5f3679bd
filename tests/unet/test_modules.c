/* Every module of whole UNets against diffusers' (tests/golden/modules): with taps, and without (the fused form). */
#include "tests/unet/golden.h"
#include "unet/unet.h"

typedef struct fixture {
    golden g;
    dc_device *device;
    dc_weights *weights;
    dc_unet *unet;
    dc_unet_config c;
    int64_t n, h, w;
    float *x, *extra, *out;
} fixture;

static void open_fixture(fixture *f, const char *way, const char *model)
{
    char path[700], folder[512];
    dc_error e = {0};
    *f = (fixture){.g = {.prefix = "tap.", .way = way}};
    snprintf(path, sizeof path, TEST_DATA "/golden/modules/%s/unet.safetensors", model);
    must(dc_weights_open(&f->g.w, path, &e), &e);
    snprintf(path, sizeof path, TEST_DATA "/golden/modules/%s/case.json", model);
    f->g.root = read_json(path);
    f->g.tolerance = json_object_get(json_object_get(f->g.root, "unet"), "tolerance");

    snprintf(folder, sizeof folder, TEST_DATA "/golden/models/%s/unet", model);
    snprintf(path, sizeof path, "%s/config.json", folder);
    json_t *config = read_json(path);
    must(dc_unet_config_read(&f->c, config, path, &e), &e);
    json_decref(config);
    f->device = open_device(way);
    must(dc_weights_open_folder(&f->weights, folder, "diffusion_pytorch_model", &e), &e);
    must(dc_unet_open(&f->unet, &f->c, f->weights, f->device, NULL, &e), &e);
    must(dc_params_prepare(dc_unet_params(f->unet), NULL, NULL, &e), &e);

    const dc_stored *x = golden_find(&f->g, "in.sample");
    f->n = x->dim[0], f->h = x->dim[2], f->w = x->dim[3];
    f->x = to_nhwc(x->data, f->n, f->c.in_channels, f->h, f->w, 0, f->c.out_channels);
    f->extra = to_nhwc(x->data, f->n, f->c.in_channels, f->h, f->w, f->c.out_channels, f->c.in_channels - f->c.out_channels);
    f->out = malloc((size_t)(f->n * f->h * f->w * f->c.out_channels) * sizeof(float));
}

static void close_fixture(fixture *f)
{
    free(f->x), free(f->extra), free(f->out);
    dc_unet_close(f->unet);
    dc_weights_close(f->weights);
    dc_device_close(f->device);
    dc_weights_close(f->g.w);
    json_decref(f->g.root);
}

static void pass(void *ctx, dc_run *r)
{
    fixture *f = ctx;
    const dc_stored *text = golden_find(&f->g, "in.encoder_hidden_states"), *t = golden_find(&f->g, "in.timestep");
    int64_t image[4] = {f->n, f->h, f->w, f->c.out_channels}, extra[4] = {f->n, f->h, f->w, f->c.in_channels - f->c.out_channels};
    dc_unet_in in = {.x = dc_upload(r, DC_F32, 4, image, f->x),
                     .timestep = dc_upload(r, DC_F32, 1, t->dim, t->data),
                     .context = dc_upload(r, DC_F32, 3, text->dim, text->data)};
    if (extra[3]) in.extra = dc_upload(r, DC_F32, 4, extra, f->extra);
    if (f->c.text_time) {
        const dc_stored *pooled = golden_find(&f->g, "in.text_embeds"), *ids = golden_find(&f->g, "in.time_ids");
        in.pooled = dc_upload(r, DC_F32, 2, pooled->dim, pooled->data);
        in.time_ids = dc_upload(r, DC_F32, 2, ids->dim, ids->data);
    }
    dc_download(r, dc_unet_forward(f->unet, r, in), f->out);
}

/* narrow: 0, or how many times PyTorch's error in bfloat16 is allowed, in place of the golden's tolerance. */
static void check(const char *way, const char *model, bool taps, double narrow)
{
    fixture f;
    char part[32];
    open_fixture(&f, way, model);
    dc_run *r = dc_run_new(f.device);
    if (taps) dc_run_set_tap(r, golden_tap, &f.g);
    run_once(r, pass, &f);
    if (taps) assert_int_equal(f.g.compared, golden_count(&f.g)); /* every golden module was seen */
    float *out = to_nchw(f.out, f.n, f.c.out_channels, f.h, f.w);
    snprintf(part, sizeof part, "%s/unet", model);
    if (narrow > 0) compare_narrow(&f.g, part, "out", out, narrow);
    else compare(&f.g, "out", out, golden_find(&f.g, "out"), tolerance_of(&f.g, "out"));
    free(out);
    dc_run_free(r);
    close_fixture(&f);
}

static void modules(void **state) { check(way_of(state), "sd1", true, 0), check(*state, "sdxl", true, 0); }
static void fused(void **state) { check(way_of(state), "sd1", false, 0), check(*state, "sdxl", false, 0); }

/* bf16 (f16 is nearer) at most 1.25 times as far off as PyTorch's (0.53 measured); int8 2.1 measured. The small SDXL one says less: over random inputs
 * PyTorch's own error is 0.8 to 4.5 times that on the golden's; 1.9 and 1.7 measured. */
static void narrow(void **state)
{
    check(way_of(state), "sd1", false, strstr(*state, "int8") ? 3 : 1.25);
    check(*state, "sdxl", false, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {ON_EVERY_LEVEL(modules), ON_EVERY_LEVEL(fused), ON_NARROW(narrow), ON(narrow, "cpu int8"),
                                       ON(narrow, "cpu avx512vnni int8")};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
