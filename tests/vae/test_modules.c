/* Whole autoencoders, both ways, against diffusers' (tests/golden/modules): with taps, and without (the fused form). */
#include "tests/unet/golden.h"
#include "vae/vae.h"

typedef struct fixture {
    golden g;
    dc_device *device;
    dc_weights *weights;
    dc_vae *vae;
    dc_vae_config c;
    const dc_stored *in; /* latent or picture */
    float *x, *out, *logvar;
} fixture;

static void open_vae(fixture *f, const char *way, const char *config_path, const char *weights, bool encoder)
{
    dc_error e = {0};
    json_t *config = read_json(config_path);
    must(dc_vae_config_read(&f->c, config, config_path, &e), &e);
    json_decref(config);
    f->device = open_device(way);
    if (strstr(weights, ".safetensors")) must(dc_weights_open(&f->weights, weights, &e), &e);
    else must(dc_weights_open_folder(&f->weights, weights, "diffusion_pytorch_model", &e), &e);
    must(dc_vae_open(&f->vae, &f->c, f->weights, encoder, f->device, NULL, &e), &e);
    if (dc_vae_params(f->vae)) must(dc_params_prepare(dc_vae_params(f->vae), NULL, NULL, &e), &e);
    if (encoder) must(dc_params_prepare(dc_vae_encoder_params(f->vae), NULL, NULL, &e), &e);
    f->g.way = way;
}

static void open_golden(fixture *f, const char *model, const char *file, const char *section)
{
    char path[512];
    dc_error e = {0};
    snprintf(path, sizeof path, TEST_DATA "/golden/modules/%s/%s", model, file);
    must(dc_weights_open(&f->g.w, path, &e), &e);
    snprintf(path, sizeof path, TEST_DATA "/golden/modules/%s/case.json", model);
    f->g.root = read_json(path);
    f->g.tolerance = json_object_get(json_object_get(f->g.root, section), "tolerance");
}

static void close_fixture(fixture *f)
{
    dc_vae_close(f->vae);
    dc_weights_close(f->weights);
    dc_device_close(f->device);
    dc_weights_close(f->g.w);
    json_decref(f->g.root);
}

static dc_tensor input(fixture *f, dc_run *r)
{
    return dc_upload(r, DC_F32, 4, (int64_t[4]){f->in->dim[0], f->in->dim[2], f->in->dim[3], f->in->dim[1]}, f->x);
}
static void decode_pass(void *ctx, dc_run *r) { dc_download(r, dc_vae_decode(((fixture *)ctx)->vae, r, input(ctx, r)), ((fixture *)ctx)->out); }
static void encode_pass(void *ctx, dc_run *r)
{
    fixture *f = ctx;
    dc_vae_moments m = dc_vae_encode(f->vae, r, input(f, r));
    dc_download(r, m.mean, f->out);
    dc_download(r, m.logvar, f->logvar);
}

/* narrow: 0, or how many times PyTorch's error in bfloat16 is allowed, in place of the golden's tolerance. */
static void compare_out(fixture *f, const char *name, const float *got, double narrow)
{
    const dc_stored *want = golden_find(&f->g, name);
    float *out = to_nchw(got, want->dim[0], want->dim[1], want->dim[2], want->dim[3]);
    if (narrow > 0) compare_narrow(&f->g, "sd1/vae", name, out, narrow);
    else compare(&f->g, name, out, want, tolerance_of(&f->g, name));
    free(out);
}

/* One way: `in` and `out` are the golden's names; logvar NULL when there is none. */
static void check(fixture *f, bool encode, bool taps, const char *in, const char *out, const char *logvar, double narrow)
{
    dc_run *r = dc_run_new(f->device);
    f->in = golden_find(&f->g, in);
    f->x = to_nhwc(f->in->data, f->in->dim[0], f->in->dim[1], f->in->dim[2], f->in->dim[3], 0, f->in->dim[1]);
    f->out = malloc(golden_find(&f->g, out)->bytes);
    f->logvar = malloc(golden_find(&f->g, out)->bytes);
    f->g.compared = 0;
    snprintf(f->g.prefix, sizeof f->g.prefix, "%s.tap.", encode ? "encode" : "decode");
    if (taps) dc_run_set_tap(r, golden_tap, &f->g);
    run_once(r, encode ? encode_pass : decode_pass, f);
    if (taps) assert_int_equal(f->g.compared, golden_count(&f->g)); /* every golden module was seen */
    compare_out(f, out, f->out, narrow);
    if (logvar) compare_out(f, logvar, f->logvar, 0);
    free(f->x), free(f->out), free(f->logvar);
    dc_run_free(r);
}

static void kl(const char *way, bool taps, double narrow)
{
    fixture f = {0};
    open_golden(&f, "sd1", "vae.safetensors", "vae");
    open_vae(&f, way, TEST_DATA "/golden/models/sd1/vae/config.json", TEST_DATA "/golden/models/sd1/vae", true);
    check(&f, false, taps, "decode.in.scaled_latent", "decode.out", NULL, narrow);
    check(&f, true, taps, "encode.in.image", "encode.mean", narrow > 0 ? NULL : "encode.logvar", narrow);
    close_fixture(&f);
}

static void tiny(const char *way)
{
    fixture f = {0};
    open_golden(&f, "taesd", "taesd.safetensors", "taesd");
    open_vae(&f, way, TEST_DATA "/golden/models/taesd/config.json", TEST_DATA "/golden/models/taesd", true);
    check(&f, false, false, "decode.in.latent", "decode.out", NULL, 0);
    check(&f, true, false, "encode.in.image", "encode.out", NULL, 0);
    close_fixture(&f);
}

static void kl_modules(void **state) { kl(way_of(state), true, 0); }
static void kl_fused(void **state) { kl(way_of(state), false, 0); }
static void kl_narrow(void **state) { kl(way_of(state), false, 1.25); } /* 0.41 measured for decoding */
static void taesd(void **state) { tiny(way_of(state)); }

int main(void)
{
    const struct CMUnitTest tests[] = {ON_EVERY_LEVEL(kl_modules), ON_EVERY_LEVEL(kl_fused), ON_EVERY_LEVEL(taesd), ON(kl_narrow, "cpu bf16")};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
