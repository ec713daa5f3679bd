/* The UNets of published models: their configs are understood, every tensor of the real file has its place and shape, the
 * number of parameters is the published one, and a 512x512 step of SD 1.5 fits the memory it may take. */
#include "tests/unet/shapes.h"
#include "unet/unet.h"

static void unused(void *user, dc_log_level level, const char *line)
{
    (void)level;
    if (strstr(line, "not used")) snprintf(user, 512, "%s", line);
}

static void check(const char *name)
{
    char path[512], left_over[512] = "";
    dc_error e = {0};
    dc_log log = {unused, left_over};
    dc_weights *w = NULL;
    dc_unet *u = NULL;
    dc_unet_config c;
    dc_device *d = open_device("ref");
    snprintf(path, sizeof path, TEST_DATA "/golden/unet/shapes-%s.txt", name);
    shapes s = shapes_write(path);
    must(dc_unet_config_read(&c, s.config, path, &e), &e);
    must(dc_weights_open(&w, s.path, &e), &e);
    must(dc_unet_open(&u, &c, w, d, &log, &e), &e);
    print_message("%s: %llu parameters\n", name, s.count);
    assert_true(dc_params_count(dc_unet_params(u)) == s.count);
    assert_string_equal(left_over, "");
    dc_unet_close(u);
    dc_weights_close(w);
    dc_device_close(d);
    shapes_close(&s);
}

static void published(void **state)
{
    static const char *const names[] = {"sd15", "sd21", "sdxl", "ssd-1b", "vega", "bk-sdm-small", "tiny-sd"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check(names[i]);
}

static void step(void *ctx, dc_run *r)
{
    dc_unet_in in = {.x = dc_upload(r, DC_F32, 4, (int64_t[4]){1, 64, 64, 4}, NULL),
                     .timestep = dc_upload(r, DC_F32, 1, (int64_t[4]){1}, NULL),
                     .context = dc_upload(r, DC_F32, 3, (int64_t[4]){1, 77, 768}, NULL)};
    dc_unet_forward(ctx, r, in);
}

static void text(void *ctx, dc_run *r)
{
    dc_tensor keys[64];
    assert_true(dc_unet_texts(ctx) <= 64);
    dc_unet_text_forward(ctx, r, dc_upload(r, DC_F32, 3, (int64_t[4]){1, 77, 768}, NULL), keys);
}

static void memory(void **state)
{
    dc_error e = {0};
    dc_weights *w = NULL;
    dc_unet *u = NULL;
    dc_unet_config c;
    dc_device *d = open_device("cpu");
    dc_run *r = dc_run_new(d);
    shapes s = shapes_write(TEST_DATA "/golden/unet/shapes-sd15.txt");
    (void)state;
    must(dc_unet_config_read(&c, s.config, "config", &e), &e);
    must(dc_weights_open(&w, s.path, &e), &e);
    must(dc_unet_open(&u, &c, w, d, NULL, &e), &e);
    must(dc_run_plan(r, step, u, &e), &e);
    print_message("SD 1.5 at 512x512: %.1f MB, %.1f GFLOP\n", (double)dc_run_bytes(r) * 1e-6, (double)dc_run_flops(r) * 1e-9);
    assert_true(dc_run_bytes(r) <= 90000000u);
    assert_true(dc_run_flops(r) > 670e9 && dc_run_flops(r) < 830e9); /* 2 x 339 to 410 GMAC, as published counters put it */
    /* Keys and values of the text: 2 x 12480 channels of 77 tokens, the text itself and what else the layers need. */
    must(dc_run_plan(r, text, u, &e), &e);
    print_message("keys and values of the text: %.1f MB\n", (double)dc_run_bytes(r) * 1e-6);
    assert_true(dc_run_bytes(r) >= 77u * 24960u * 4u && dc_run_bytes(r) <= 9000000u);
    dc_run_free(r);
    dc_unet_close(u);
    dc_weights_close(w);
    dc_device_close(d);
    shapes_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(published), cmocka_unit_test(memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
