/* Decoding and encoding in strips: diffusers' picture, the bytes of the whole, and less memory. */
#include "opened.h"
#include "tests/unet/shapes.h"

typedef struct fixture {
    opened o;
    int h, w; /* latents */
    dc_vae_strips how;
    float *latent, *picture, *decoded, *mean, *logvar;
} fixture;

static void open_golden_model(fixture *f, const char *way)
{
    *f = (fixture){0};
    open_vae(&f->o, way, TEST_DATA "/golden/models/sd1/vae/config.json", TEST_DATA "/golden/models/sd1/vae", true);
}

static void decode(void *ctx, dc_run *r)
{
    fixture *f = ctx;
    dc_tensor z = dc_upload(r, DC_F32, 4, (int64_t[4]){1, f->h, f->w, f->o.c.latent_channels}, f->latent);
    dc_download(r, dc_vae_decode_strips(f->o.vae, r, z, f->how), f->decoded);
}

static void encode(void *ctx, dc_run *r)
{
    fixture *f = ctx;
    dc_tensor x = dc_upload(r, DC_F32, 4, (int64_t[4]){1, f->h * f->o.c.factor, f->w * f->o.c.factor, 3}, f->picture);
    dc_vae_moments m = dc_vae_encode_strips(f->o.vae, r, x, f->how);
    dc_download(r, m.mean, f->mean);
    dc_download(r, m.logvar, f->logvar);
}

static void run_both(fixture *f)
{
    dc_run *r = dc_run_new(f->o.device);
    run_once(r, decode, f);
    run_once(r, encode, f);
    dc_run_free(r);
}

/* ---- against diffusers ------------------------------------------------------------------------------------------------ */

static float *golden_input(fixture *f, const char *name)
{
    const dc_stored *t = golden_find(&f->o.g, name);
    return to_nhwc(t->data, 1, t->dim[1], t->dim[2], t->dim[3], 0, t->dim[1]);
}

static void matches_diffusers(void **state)
{
    fixture f;
    open_golden_model(&f, way_of(state));
    open_golden(&f.o, "sd1", "vae.safetensors", "vae");
    f.latent = golden_input(&f, "decode.in.scaled_latent");
    f.picture = golden_input(&f, "encode.in.image");
    const dc_stored *latent = golden_find(&f.o.g, "decode.in.scaled_latent"), *mean = golden_find(&f.o.g, "encode.mean");
    f.h = (int)latent->dim[2], f.w = (int)latent->dim[3];
    assert_true(f.h == 4 && mean->dim[2] == 4 && f.w == mean->dim[3]);
    f.decoded = malloc(golden_find(&f.o.g, "decode.out")->bytes);
    f.mean = malloc(mean->bytes);
    f.logvar = malloc(mean->bytes);
    f.how.rows = 2; /* lower than dc_vae_next_strips has them: the golden is small, and its tolerance has room for another tile of Winograd's */
    for (int again = 0; again < 2; again++) {
        f.how.again = again;
        run_both(&f);
        compare_out(&f.o, "decode.out", f.decoded, 0);
        compare_out(&f.o, "encode.mean", f.mean, 0);
        compare_out(&f.o, "encode.logvar", f.logvar, 0);
    }
    free(f.latent), free(f.picture), free(f.decoded), free(f.mean), free(f.logvar);
    close_opened(&f.o);
}

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
    const bool bytes = !strstr(f->o.g.way, "portable");
    double worst = 0;
    for (size_t i = 0; i < n; i++) worst = fmax(worst, fabs((double)found[i] - whole[i]));
    if (bytes ? memcmp(found, whole, n * sizeof *found) != 0 : !(worst < 1e-4))
        fail_msg("%s, %s of %dx%d in strips of %d: differs by %.3g", f->o.g.way, what, f->w, f->h, f->how.rows, worst);
}

/* Sizes whose last strip is lower, whose norms have blocks of several rows, whose width is odd. */
static void strips_are_the_whole(void **state)
{
#ifdef TEST_CUDA /* every thread of every kernel is emulated */
    static const int sizes[][2] = {{9, 3}};
#else
    static const int sizes[][2] = {{21, 5}, {9, 13}, {70, 2}};
#endif
    fixture f;
    open_golden_model(&f, way_of(state));
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        f.h = sizes[k][0], f.w = sizes[k][1], f.how = (dc_vae_strips){0};
        const size_t latent = (size_t)(f.h * f.w * f.o.c.latent_channels), picture = (size_t)(f.h * f.w * f.o.c.factor * f.o.c.factor * 3);
        int heights = 0;
        f.latent = random_numbers(latent, 1);
        f.picture = random_numbers(picture, 2);
        float *decoded = random_numbers(picture, 3), *mean = random_numbers(latent, 4), *logvar = random_numbers(latent, 5);
        f.decoded = decoded, f.mean = mean, f.logvar = logvar;
        run_both(&f);
        f.decoded = random_numbers(picture, 6), f.mean = random_numbers(latent, 7), f.logvar = random_numbers(latent, 8);
        for (dc_vae_strips how = {0}; dc_vae_next_strips(&f.o.c, f.h, false, &how); heights++)
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
    close_opened(&f.o);
}

/* ---- memory ------------------------------------------------------------------------------------------------------------------ */

static uint64_t planned(fixture *f, bool encoding, int h, dc_vae_strips how, double *gflop)
{
    dc_error e = {0};
    dc_run *r = dc_run_new(f->o.device);
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
    for (dc_vae_strips how = {0}; dc_vae_next_strips(&f->o.c, h, encoding, &how);) {
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
    f.o.device = open_device("cpu");
    must(dc_vae_config_read(&f.o.c, s.config, "config", &e), &e);
    must(dc_weights_open(&f.o.weights, s.path, &e), &e);
    must(dc_vae_open(&f.o.vae, &f.o.c, f.o.weights, true, f.o.device, NULL, &e), &e);
    for (int h = 64; h <= 256; h *= 2) {
        const double channel = 4.0 * 64 * h * h;
        assert_true((double)least(&f, false, h) < 1.6 * 128 * channel);
        assert_true((double)least(&f, true, h) < 1.35 * 128 * channel);
    }
    close_opened(&f.o);
    shapes_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef TEST_CUDA
        ON(matches_diffusers, "cuda f32"), ON(strips_are_the_whole, "cuda f32"),
#else
        ON(matches_diffusers, "ref"),
        ON(matches_diffusers, "cpu"),
        ON(strips_are_the_whole, "cpu portable"),
        ON(strips_are_the_whole, "cpu portable exact"),
        ON(strips_are_the_whole, "cpu avx2"),
        ON(strips_are_the_whole, "cpu avx2 exact"),
        ON(strips_are_the_whole, "cpu avx512"),
        ON(strips_are_the_whole, "cpu avx512 exact"),
#endif
        cmocka_unit_test(the_real_model_holds_one_activation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
