/* Whole runs on the CUDA device: steps replayed as graphs, text encoder, VAE's encoder and decoder. */
#include "tests/pipeline/golden_runs.h"

static void matches(void **state) { run_on((diffc_options){.device = "cuda", .precision = *state}, *state); }
static void narrow(void **state) { run_narrow("cuda", *state); }

/* With less memory than the model takes, weights stay outside and come for each use: the same bytes. With next to none it is told. */
static void little_memory(void **state)
{
    (void)state;
    kept all = {0}, some = {0};
    diffc_options o = {.device = "cuda", .precision = "f32"};
    diffc_error e = {0};
    diffc_model *m;
    diffc_request q;
    diffc_plan p;
    for (int i = 0; i < 3; i++) {
        if (diffc_open(&m, &o, &e)) fail_msg("%s", e.text);
        diffc_request_defaults(m, &q);
        q.prompt = "a red apple", q.width = q.height = 64, q.steps = 2, q.on_image = keep, q.user = i ? &some : &all;
        if (diffc_plan_request(m, &q, &p, &e)) fail_msg("%s", e.text);
        assert_true(i == 0 ? !p.visits && p.device_peak < p.device_available : p.visits);
        assert_int_equal(diffc_generate(m, &q, &e), i < 2 ? DIFFC_OK : DIFFC_NO_MEMORY);
        o.max_vram = i ? p.device_peak * 9 / 10 : p.device_peak * 2 / 3;
        diffc_close(m);
    }
    assert_non_null(strstr(e.text, "memory of the GPU"));
    assert_memory_equal(all.latent, some.latent, all.numbers * sizeof(float));
    assert_memory_equal(all.pixels, some.pixels, all.bytes);
    drop(&all);
    drop(&some);
}

int main(void)
{
    const struct CMUnitTest tests[] = {ON(matches, "f32"), ON(narrow, "f16"), ON(narrow, "bf16"), cmocka_unit_test(little_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
