/* Whole runs on the CUDA device: steps replayed as graphs, text encoder, VAE's encoder and decoder. */
#include "tests/pipeline/golden_runs.h"

static void matches(void **state) { run_on((diffc_options){.device = "cuda", .precision = *state}, *state); }
static void narrow(void **state) { run_narrow("cuda", *state); }

int main(void)
{
    const struct CMUnitTest tests[] = {ON(matches, "f32"), ON(narrow, "f16"), ON(narrow, "bf16")};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
