/* Autoencoders of the shapes that configs and old files ask for (tests/gen/vae_variants.py), and tiles, against diffusers'. */
#include "tests/unet/golden.h"
#include "vae/tile.h"
#include "vae/vae.h"

typedef struct fixture {
    golden g;
    dc_device *device;
    dc_vae *vae;
    dc_vae_config c;
    int h, w; /* latents */
    float *latent, *picture, *mean, *logvar, *decoded;
} fixture;

static void open_fixture(fixture *f, const char *way, const char *name)
{
    char path[512];
    dc_error e = {0};
    *f = (fixture){.g = {.way = way}};
    snprintf(path, sizeof path, TEST_DATA "/golden/vae/%s.json", name);
    f->g.root = read_json(path);
    f->g.tolerance = json_object_get(f->g.root, "tolerance");
    must(dc_vae_config_read(&f->c, json_object_get(f->g.root, "config"), path, &e), &e);
    snprintf(path, sizeof path, TEST_DATA "/golden/vae/%s.safetensors", name);
    must(dc_weights_open(&f->g.w, path, &e), &e);
    f->device = open_device(way);
    bool encoder = strcmp(name, "tiny-original-names") != 0; /* such files hold one half */
    must(dc_vae_open(&f->vae, &f->c, f->g.w, encoder, f->device, NULL, &e), &e);
    must(dc_params_prepare(dc_vae_params(f->vae), NULL, NULL, &e), &e);
    if (encoder) must(dc_params_prepare(dc_vae_encoder_params(f->vae), NULL, NULL, &e), &e);
    else assert_null(dc_vae_encoder_params(f->vae));

    const dc_stored *z = golden_find(&f->g, "decode.in"), *p = golden_find(&f->g, "encode.in");
    f->h = (int)z->dim[2], f->w = (int)z->dim[3];
    assert_int_equal(f->h * f->c.factor, p->dim[2]);
    f->latent = to_nhwc(z->data, 1, z->dim[1], z->dim[2], z->dim[3], 0, z->dim[1]);
    f->picture = to_nhwc(p->data, 1, p->dim[1], p->dim[2], p->dim[3], 0, p->dim[1]);
    f->mean = malloc(z->bytes);
    f->logvar = malloc(z->bytes);
    f->decoded = malloc(p->bytes);
}

static void close_fixture(fixture *f)
{
    free(f->latent), free(f->picture), free(f->mean), free(f->logvar), free(f->decoded);
    dc_vae_close(f->vae);
    dc_device_close(f->device);
    dc_weights_close(f->g.w);
    json_decref(f->g.root);
}

static void compare_out(fixture *f, const char *name, const float *got)
{
    const dc_stored *want = golden_find(&f->g, name);
    float *out = to_nchw(got, want->dim[0], want->dim[1], want->dim[2], want->dim[3]);
    compare(&f->g, name, out, want, tolerance_of(&f->g, name));
    free(out);
}

static void decode_pass(void *ctx, dc_run *r)
{
    fixture *f = ctx;
    dc_download(r, dc_vae_decode(f->vae, r, dc_upload(r, DC_F32, 4, (int64_t[4]){1, f->h, f->w, f->c.latent_channels}, f->latent)), f->decoded);
}

static void encode_pass(void *ctx, dc_run *r)
{
    fixture *f = ctx;
    dc_vae_moments m = dc_vae_encode(f->vae, r, dc_upload(r, DC_F32, 4, (int64_t[4]){1, f->h * f->c.factor, f->w * f->c.factor, 3}, f->picture));
    dc_download(r, m.mean, f->mean);
    dc_download(r, m.logvar, f->logvar);
}

static void check(const char *way, const char *name)
{
    fixture f;
    open_fixture(&f, way, name);
    print_message("%s\n", name);
    dc_run *r = dc_run_new(f.device);
    run_once(r, decode_pass, &f);
    compare_out(&f, "decode.out", f.decoded);
    if (dc_vae_encoder_params(f.vae)) {
        run_once(r, encode_pass, &f);
        compare_out(&f, "encode.mean", f.mean);
        if (!f.c.tiny) compare_out(&f, "encode.logvar", f.logvar);
    }
    dc_run_free(r);
    close_fixture(&f);
}

static void variants(void **state)
{
    check(way_of(state), "bare");
    check(way_of(state), "old-names");
    check(way_of(state), "tiny");
    check(way_of(state), "tiny-original-names");
}

/* The mean change from one column to the next, where a tile begins, or where another latent does. */
static double step_at(const fixture *f, bool seams)
{
    int W = f->w * f->c.factor, H = f->h * f->c.factor, first = 24; /* a tile every 6 latents of 4 pixels */
    double sum = 0;
    int n = 0;
    for (int x = 1; x < W; x++) {
        if (x % 4 || (x % first == 0) != seams) continue;
        for (int i = 0; i < H * 3; i++)
            sum += fabs((double)f->decoded[(i / 3 * W + x) * 3 + i % 3] - (double)f->decoded[(i / 3 * W + x - 1) * 3 + i % 3]);
        n += H * 3;
    }
    return sum / n;
}

static void tiles(void **state)
{
    fixture f;
    dc_error e = {0};
    open_fixture(&f, way_of(state), "tiled");
    dc_run *whole = dc_run_new(f.device), *r = dc_run_new(f.device);
    assert_true(dc_vae_is_tiled(&f.c, f.h, f.w));
    assert_false(dc_vae_is_tiled(&f.c, 8, 8));

    fixture large = f;
    large.h = large.w = 64;
    must(dc_run_plan(whole, decode_pass, &large, &e), &e);
    must(dc_vae_tiled_plan(f.vae, r, false, 64, 64, &e), &e);
    assert_true(10 * dc_run_bytes(r) < dc_run_bytes(whole)); /* tiles of 8x8 */

    must(dc_vae_tiled_decode(f.vae, r, f.latent, f.h, f.w, f.decoded, &e), &e);
    compare_out(&f, "decode.out", f.decoded);
    assert_true(step_at(&f, true) < 1.25 * step_at(&f, false)); /* no seam to be seen */
    must(dc_vae_tiled_encode(f.vae, r, f.picture, f.h, f.w, f.mean, f.logvar, &e), &e);
    compare_out(&f, "encode.mean", f.mean);
    compare_out(&f, "encode.logvar", f.logvar);
    dc_run_free(whole);
    dc_run_free(r);
    close_fixture(&f);
}

/* A picture of one tile is what it is without tiles. */
static void one_tile(void **state)
{
    fixture f;
    dc_error e = {0};
    open_fixture(&f, way_of(state), "old-names");
    dc_run *r = dc_run_new(f.device);
    assert_false(dc_vae_is_tiled(&f.c, f.h, f.w));
    must(dc_vae_tiled_decode(f.vae, r, f.latent, f.h, f.w, f.decoded, &e), &e);
    compare_out(&f, "decode.out", f.decoded);
    dc_run_free(r);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {ON_EVERY_LEVEL(variants), ON_EVERY_LEVEL(tiles), ON_EVERY_LEVEL(one_tile)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
