/* The VAE of Stable Diffusion at its real size: every tensor has its place, the number of parameters is the published one, and
 * a 512x512 picture fits the memory it may take. */
#include "tests/unet/shapes.h"
#include "vae/tile.h"
#include "vae/vae.h"

static void decode(void *ctx, dc_run *r) { dc_vae_decode(ctx, r, dc_upload(r, DC_F32, 4, (int64_t[4]){1, 64, 64, 4}, NULL)); }
static void encode(void *ctx, dc_run *r) { dc_vae_encode(ctx, r, dc_upload(r, DC_F32, 4, (int64_t[4]){1, 512, 512, 3}, NULL)); }

static void published(void **state)
{
    dc_error e = {0};
    dc_weights *w = NULL;
    dc_vae *v = NULL;
    dc_vae_config c;
    dc_device *d = open_device("cpu");
    dc_run *r = dc_run_new(d);
    shapes s = shapes_write(TEST_DATA "/golden/vae/shapes-vae.txt");
    (void)state;
    must(dc_vae_config_read(&c, s.config, "config", &e), &e);
    must(dc_weights_open(&w, s.path, &e), &e);
    must(dc_vae_open(&v, &c, w, true, d, NULL, &e), &e);
    print_message("%llu + %llu parameters, published %llu\n", (unsigned long long)dc_params_count(dc_vae_params(v)),
                  (unsigned long long)dc_params_count(dc_vae_encoder_params(v)), s.count);
    assert_true(dc_params_count(dc_vae_params(v)) + dc_params_count(dc_vae_encoder_params(v)) == s.count);
    assert_true(c.factor == 8 && c.scaling_factor == 0.18215);

    must(dc_run_plan(r, decode, v, &e), &e);
    print_message("decode 512x512: %.1f MB, %.0f GFLOP\n", (double)dc_run_bytes(r) * 1e-6, (double)dc_run_flops(r) * 1e-9);
    assert_true(dc_run_bytes(r) <= 620000000u);
    must(dc_run_plan(r, encode, v, &e), &e);
    print_message("encode 512x512: %.1f MB, %.0f GFLOP\n", (double)dc_run_bytes(r) * 1e-6, (double)dc_run_flops(r) * 1e-9);
    assert_true(dc_run_bytes(r) <= 620000000u);
    /* the same for any larger picture in tiles of 512 */
    assert_true(dc_vae_is_tiled(&c, 65, 64) && !dc_vae_is_tiled(&c, 64, 64));
    must(dc_vae_tiled_plan(v, r, false, 256, 256, &e), &e);
    assert_true(dc_run_bytes(r) <= 620000000u);

    dc_run_free(r);
    dc_vae_close(v);
    dc_weights_close(w);
    dc_device_close(d);
    shapes_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(published)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
