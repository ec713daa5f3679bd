/* Decoding and encoding in strips: diffusers' picture, the bytes of the whole, and less memory. */
#include "tests/unet/shapes.h"
#include "vae/vae.h"

typedef struct fixture {
    golden g;
    dc_device *device;
    dc_weights *weights;
    dc_vae *vae;
    dc_vae_config c;
    int h, w; /* latents */
    dc_vae_strips how;
    float *latent, *picture, *decoded, *mean, *logvar;
} fixture;

/* The golden model on this device; NULL level: the best. False when this machine has not that level. */
static bool open_vae(fixture *f, const char *device, const char *level, bool exact)
{
    static const char config_path[] = TEST_DATA "/golden/models/sd1/vae/config.json";
    dc_error e = {0};
    json_t *config = read_json(config_path);
    *f = (fixture){.g = {.way = level ? level : device}};
    must(dc_vae_config_read(&f->c, config, config_path, &e), &e);
    json_decref(config);
    dc_status s = dc_device_open(&f->device, &(dc_device_options){.name = device, .threads = 2, .cpu_level = level, .exact = exact}, &e);
    if (s == DC_UNAVAILABLE && level) return false;
    must(s, &e);
    must(dc_weights_open_folder(&f->weights, TEST_DATA "/golden/models/sd1/vae", "diffusion_pytorch_model", &e), &e);
    must(dc_vae_open(&f->vae, &f->c, f->weights, true, f->device, NULL, &e), &e);
    must(dc_params_prepare(dc_vae_params(f->vae), NULL, NULL, &e), &e);
    must(dc_params_prepare(dc_vae_encoder_params(f->vae), NULL, NULL, &e), &e);
    return true;
}

static void close_vae(fixture *f)
{
    dc_vae_close(f->vae);
    dc_weights_close(f->weights);
    dc_device_close(f->device);
}

static void decode(void *ctx, dc_run *r)
{
    fixture *f = ctx;
    dc_tensor z = dc_upload(r, DC_F32, 4, (int64_t[4]){1, f->h, f->w, f->c.latent_channels}, f->latent);
    dc_download(r, dc_vae_decode_strips(f->vae, r, z, f->how), f->decoded);
}

static void encode(void *ctx, dc_run *r)
{
    fixture *f = ctx;
    dc_tensor x = dc_upload(r, DC_F32, 4, (int64_t[4]){1, f->h * f->c.factor, f->w * f->c.factor, 3}, f->picture);
    dc_vae_moments m = dc_vae_encode_strips(f->vae, r, x, f->how);
    dc_download(r, m.mean, f->mean);
    dc_download(r, m.logvar, f->logvar);
}

static void run_both(fixture *f)
{
    dc_run *r = dc_run_new(f->device);
    run_once(r, decode, f);
    run_once(r, encode, f);
    dc_run_free(r);
}

/* ---- against diffusers ------------------------------------------------------------------------------------------------ */

static void compare_out(fixture *f, const char *name, const float *got)
{
    const dc_stored *want = golden_find(&f->g, name);
    float *out = to_nchw(got, want->dim[0], want->dim[1], want->dim[2], want->dim[3]);
    compare(&f->g, name, out, want, tolerance_of(&f->g, name));
    free(out);
}

static float *golden_input(fixture *f, const char *name)
{
    const dc_stored *t = golden_find(&f->g, name);
    return to_nhwc(t->data, 1, t->dim[1], t->dim[2], t->dim[3], 0, t->dim[1]);
}

static void matches_diffusers(const char *device)
{
    fixture f;
    dc_error e = {0};
    open_vae(&f, device, NULL, false);
    must(dc_weights_open(&f.g.w, TEST_DATA "/golden/modules/sd1/vae.safetensors", &e), &e);
    f.g.root = read_json(TEST_DATA "/golden/modules/sd1/case.json");
    f.g.tolerance = json_object_get(json_object_get(f.g.root, "vae"), "tolerance");
    f.latent = golden_input(&f, "decode.in.scaled_latent");
    f.picture = golden_input(&f, "encode.in.image");
    const dc_stored *latent = golden_find(&f.g, "decode.in.scaled_latent"), *mean = golden_find(&f.g, "encode.mean");
    f.h = (int)latent->dim[2], f.w = (int)latent->dim[3];
    assert_true(f.h == 4 && mean->dim[2] == 4 && f.w == mean->dim[3]);
    f.decoded = malloc(golden_find(&f.g, "decode.out")->bytes);
    f.mean = malloc(mean->bytes);
    f.logvar = malloc(mean->bytes);
    f.how.rows = 2; /* lower than dc_vae_next_strips has them: the golden is small, and its tolerance has room for another tile of Winograd's */
    for (int again = 0; again < 2; again++) {
        f.how.again = again;
        run_both(&f);
        compare_out(&f, "decode.out", f.decoded);
        compare_out(&f, "encode.mean", f.mean);
        compare_out(&f, "encode.logvar", f.logvar);
    }
    free(f.latent), free(f.picture), free(f.decoded), free(f.mean), free(f.logvar);
    dc_weights_close(f.g.w);
    json_decref(f.g.root);
    close_vae(&f);
}

static void ref_matches_diffusers(void **state) { (void)state, matches_diffusers("ref"); }
static void cpu_matches_diffusers(void **state) { (void)state, matches_diffusers("cpu"); }

/* ---- against the whole ---------------------------------------------------------------------------------------------------- */

static float *random_numbers(size_t n, uint64_t seed)
{
    float *p = malloc(n * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        p[i] = (float)(int32_t)(seed >> 32) * 0x1p-31f;
    }
    return p;
}

/* The same bytes; but for the portable level, whose OpenBLAS adds up in an order that may depend on how many rows there are: there what float
 * sums may differ by (the goldens' tolerance of the same model is 1e-4). */
static void compare_whole(const fixture *f, const char *what, const float *found, const float *whole, size_t n)
{
    const bool bytes = strcmp(f->g.way, "portable") != 0;
    double worst = 0;
    for (size_t i = 0; i < n; i++) worst = fmax(worst, fabs((double)found[i] - whole[i]));
    if (bytes ? memcmp(found, whole, n * sizeof *found) != 0 : !(worst < 1e-4))
        fail_msg("%s, %s of %dx%d in strips of %d: differs by %.3g", f->g.way, what, f->w, f->h, f->how.rows, worst);
}

/* Sizes whose last strip is lower, whose norms have blocks of several rows, whose width is odd. */
static void every_strip_height_gives_the_bytes_of_the_whole(const char *level, bool exact)
{
    static const int sizes[][2] = {{21, 5}, {9, 13}, {70, 2}};
    fixture f;
    if (!open_vae(&f, "cpu", level, exact)) return;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        f.h = sizes[k][0], f.w = sizes[k][1], f.how = (dc_vae_strips){0};
        const size_t latent = (size_t)(f.h * f.w * f.c.latent_channels), picture = (size_t)(f.h * f.w * f.c.factor * f.c.factor * 3);
        int heights = 0;
        f.latent = random_numbers(latent, 1);
        f.picture = random_numbers(picture, 2);
        float *decoded = random_numbers(picture, 3), *mean = random_numbers(latent, 4), *logvar = random_numbers(latent, 5);
        f.decoded = decoded, f.mean = mean, f.logvar = logvar;
        run_both(&f);
        f.decoded = random_numbers(picture, 6), f.mean = random_numbers(latent, 7), f.logvar = random_numbers(latent, 8);
        for (dc_vae_strips how = {0}; dc_vae_next_strips(&f.c, f.h, false, &how); heights++)
            for (int again = 0; again < 2; again++) {
                f.how = (dc_vae_strips){how.rows, again};
                run_both(&f);
                compare_whole(&f, "picture", f.decoded, decoded, picture);
                compare_whole(&f, "mean", f.mean, mean, latent);
                compare_whole(&f, "logvar", f.logvar, logvar, latent);
            }
        assert_true(heights > 0);
        free(f.latent), free(f.picture), free(decoded), free(mean), free(logvar), free(f.decoded), free(f.mean), free(f.logvar);
    }
    close_vae(&f);
}

static void strips_are_the_whole(void **state)
{
    static const char *const levels[] = {"portable", "avx2", "avx512"};
    (void)state;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        for (int exact = 0; exact < 2; exact++) every_strip_height_gives_the_bytes_of_the_whole(levels[i], exact);
}

/* ---- memory ------------------------------------------------------------------------------------------------------------------ */

static uint64_t planned(fixture *f, bool encoding, int h, dc_vae_strips how, double *gflop)
{
    dc_error e = {0};
    dc_run *r = dc_run_new(f->device);
    f->h = f->w = h;
    f->how = how;
    must(dc_run_plan(r, encoding ? encode : decode, f, &e), &e);
    const uint64_t bytes = dc_run_bytes(r);
    *gflop = 1e-9 * (double)dc_run_flops(r);
    print_message("%s %dx%d, strips of %d%s: %.1f MB, %.0f GFLOP\n", encoding ? "encode" : "decode", 8 * h, 8 * h, how.rows,
                  how.again ? ", again" : "", 1e-6 * (double)bytes, *gflop);
    dc_run_free(r);
    return bytes;
}

/* Each step takes less, for the work that vae.h says. */
static uint64_t least(fixture *f, bool encoding, int h)
{
    double whole, gflop;
    uint64_t bytes = planned(f, encoding, h, (dc_vae_strips){0}, &whole);
    for (dc_vae_strips how = {0}; dc_vae_next_strips(&f->c, h, encoding, &how);) {
        const uint64_t before = bytes;
        bytes = planned(f, encoding, h, how, &gflop);
        assert_true(bytes <= before);
        assert_true(how.again ? gflop < (encoding ? 1.15 : 1.4) * whole : gflop == whole);
    }
    return bytes;
}

/* Of the real model: what is there at once in the end is 128 channels of the picture, and a few strips, which are a smaller part of larger ones. */
static void the_real_model_holds_one_activation(void **state)
{
    fixture f = {0};
    dc_error e = {0};
    shapes s = shapes_write(TEST_DATA "/golden/vae/shapes-vae.txt");
    (void)state;
    f.device = open_device("cpu");
    must(dc_vae_config_read(&f.c, s.config, "config", &e), &e);
    must(dc_weights_open(&f.weights, s.path, &e), &e);
    must(dc_vae_open(&f.vae, &f.c, f.weights, true, f.device, NULL, &e), &e);
    for (int h = 64; h <= 256; h *= 2) {
        const double channel = 4.0 * 64 * h * h;
        assert_true((double)least(&f, false, h) < 1.6 * 128 * channel);
        assert_true((double)least(&f, true, h) < 1.35 * 128 * channel);
    }
    close_vae(&f);
    shapes_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ref_matches_diffusers), cmocka_unit_test(cpu_matches_diffusers),
                                       cmocka_unit_test(strips_are_the_whole), cmocka_unit_test(the_real_model_holds_one_activation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
