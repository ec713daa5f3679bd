/* What is drawn for batches of pictures, by the rules of each program. Golden: tests/gen/noises.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/npy.h"
#include "scheduler/draws.h"
#include "scheduler/sampler.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TEST_DATA "/golden/scheduler/"

static int whole(const json_t *e, const char *key) { return (int)json_integer_value(json_object_get(e, key)); }
static int whole_at(const json_t *e, const char *key, size_t i) { return (int)json_integer_value(json_array_get(json_object_get(e, key), i)); }

static dc_noise_wish wish_of(const json_t *e)
{
    dc_noise_wish q = {.convention = dc_convention_find(json_string_value(json_object_get(e, "convention"))),
                       .seed = (uint64_t)whole(e, "seed"),
                       .variation_seed = (uint64_t)whole(e, "variation_seed"),
                       .variation_strength = json_number_value(json_object_get(e, "variation_strength")),
                       .ensd = whole(e, "ensd"),
                       .from_h = whole_at(e, "from", 0),
                       .from_w = whole_at(e, "from", 1)};
    assert_non_null(q.convention);
    return q;
}

/* As batch_make has it: the posterior's noise, the start noise, two steps'. Returns how many numbers. */
static size_t draw_all(const json_t *e, int first, int n, float *out)
{
    dc_error error = {0};
    dc_draws s;
    dc_noise_wish q = wish_of(e);
    bool moves = json_is_true(json_object_get(e, "brownian"));
    if (dc_draws_make(&s, &q, first, n, whole_at(e, "shape", 0), whole_at(e, "shape", 1), whole_at(e, "shape", 2), moves ? 0.0291675 : 0,
                      moves ? 14.614643 : 0, &error))
        fail_msg("%s", error.text);
    assert_int_equal(s.moves, moves);
    size_t all = s.latent * (size_t)n, done = 0;
    if (q.convention->posterior) dc_draws_posterior(&s, out), done += all;
    dc_draws_start(&s, out + done), done += all;
    dc_draws_step(&s, 14.614643, 2.25, out + done), done += all;
    dc_draws_step(&s, 2.25, 0.0291675, out + done), done += all;
    dc_draws_free(&s);
    return done;
}

static void batches_match_the_programs(void **state)
{
    (void)state;
    dc_error e = {0};
    json_t *all = NULL, *entry;
    dc_npy want;
    size_t i, compared = 0;
    if (dc_json_read(&all, GOLDEN "draws.json", 1u << 20, &e) || dc_npy_read(&want, GOLDEN "draws.npy", &e)) fail_msg("%s", e.text);
    json_array_foreach(all, i, entry)
    {
        float got[1024];
        const float *expected = (const float *)want.data + whole(entry, "at");
        size_t n = draw_all(entry, whole(entry, "first"), whole(entry, "n"), got);
        /* torch works out arcs in float32, and divides by the sine of an angle that may be close to pi where columns are this short */
        float allowed = json_object_get(entry, "variation_strength") ? 2e-5f : 3e-6f;
        for (size_t k = 0; k < n; k++)
            if (!(fabsf(got[k] - expected[k]) <= allowed)) fail_msg("case %zu: number %zu: %.9g, want %.9g", i, k, got[k], expected[k]);
        compared += n;
    }
    assert_int_equal(compared, want.bytes / sizeof(float));
    free(want.data);
    json_decref(all);
}

/* Where each picture has generators of its own, it is the one that is made alone. */
static void a_picture_does_not_depend_on_its_batch(void **state)
{
    (void)state;
    dc_error e = {0};
    json_t *all = NULL, *entry;
    size_t i;
    if (dc_json_read(&all, GOLDEN "draws.json", 1u << 20, &e)) fail_msg("%s", e.text);
    json_array_foreach(all, i, entry)
    {
        float batch[1024], alone[1024];
        int first = whole(entry, "first"), n = whole(entry, "n");
        size_t latent = (size_t)(whole_at(entry, "shape", 0) * whole_at(entry, "shape", 1) * whole_at(entry, "shape", 2));
        if (wish_of(entry).convention->whole_batch) continue;
        size_t parts = draw_all(entry, first, n, batch) / latent / (size_t)n;
        for (int p = 0; p < n; p++) {
            draw_all(entry, first + p, 1, alone);
            for (size_t k = 0; k < parts; k++)
                assert_memory_equal(alone + k * latent, batch + (k * (size_t)n + (size_t)p) * latent, latent * sizeof(float));
        }
    }
    json_decref(all);
}

/* ---- whole runs: plan and noises together ------------------------------------------------------- */

enum { RUN = 2 * 2 * 3 * 5 }; /* two pictures */

/* The one loop of scheduler/sampler.h in float64, with the best denoiser of normal data of variance 1/4. */
static void run_rows(const dc_plan *p, dc_draws *d, double *x)
{
    double reg[DC_REGS][RUN] = {{0}}, old[DC_REGS][RUN];
    float noise[RUN];
    dc_draws_start(d, noise);
    for (int k = 0; k < RUN; k++) reg[DC_REG_X][k] = p->c_noise * noise[k];
    for (int i = 0; i < p->n_rows; i++) {
        const dc_row *r = &p->rows[i];
        double a = 1 / hypot(1, r->sigma), s = r->sigma * a;
        if (r->draw) dc_draws_step(d, r->sigma_from, r->sigma_to, noise);
        for (int k = 0; k < RUN; k++) {
            double now = reg[DC_REG_X][k], x0 = now / a * (0.25 / (0.25 + r->sigma * r->sigma));
            reg[DC_REG_O][k] = r->kx * now + r->km * (now - a * x0) / s;
            reg[DC_REG_Z][k] = noise[k];
        }
        memcpy(old, reg, sizeof old);
        for (int k = 0; k < RUN; k++) {
            double next = 0, saved = 0;
            for (int n = 0; n < DC_REGS; n++) {
                if (r->x[n] != 0) next += r->x[n] * old[n][k];
                if (r->save && r->s[n] != 0) saved += r->s[n] * old[n][k];
            }
            reg[DC_REG_X][k] = next;
            if (r->save) reg[DC_REG_S][k] = saved;
            if (r->slot >= 0) reg[DC_REG_H0 + r->slot][k] = old[DC_REG_O][k];
        }
    }
    memcpy(x, reg[DC_REG_X], sizeof reg[DC_REG_X]);
}

static void samplers_run_as_in_k_diffusion(void **state)
{
    (void)state;
    dc_error e = {0};
    json_t *all = NULL, *entry;
    dc_npy want;
    size_t i;
    if (dc_json_read(&all, GOLDEN "noise_runs.json", 1u << 20, &e) || dc_npy_read(&want, GOLDEN "noise_runs.npy", &e)) fail_msg("%s", e.text);
    json_array_foreach(all, i, entry)
    {
        double sigmas[32], x[RUN], worst = 0;
        int n = (int)json_array_size(json_object_get(entry, "sigmas"));
        for (int k = 0; k < n; k++) sigmas[k] = json_number_value(json_array_get(json_object_get(entry, "sigmas"), (size_t)k));
        const char *sampler = json_string_value(json_object_get(entry, "sampler"));
        dc_noise_config c;
        dc_noise_config_default(&c);
        dc_noise_wish wish = wish_of(entry);
        dc_sampler_request q = {.sampler = sampler, .program = wish.convention->program, .strength = 1, .eta = -1, .sigmas = sigmas, .n_sigmas = n};
        dc_plan p;
        dc_draws d;
        if (dc_plan_build(&p, &c, &q, &e) || dc_draws_make(&d, &wish, 0, 2, 2, 3, 5, p.brownian ? p.sigma_min : 0, p.brownian ? p.sigma_max : 0, &e))
            fail_msg("%s", e.text);
        assert_true(p.brownian == (strstr(sampler, "sde") != NULL) && d.moves == p.brownian);
        run_rows(&p, &d, x);
        for (int k = 0; k < RUN; k++) worst = fmax(worst, fabs(x[k] - ((const float *)want.data)[whole(entry, "at") + k]));
        if (getenv("DIFFC_PRINT")) print_message("%s %s: %.3g\n", sampler, wish.convention->name, worst);
        /* a logarithm that a libm rounds otherwise would move a sigma by 1e-6, and dpm++sde by 3e-4 */
        if (!(worst < 3e-6)) fail_msg("%s: off by %g", sampler, worst);
        dc_draws_free(&d);
        dc_plan_free(&p);
    }
    free(want.data);
    json_decref(all);
}

static void seeds_of_pictures(void **state)
{
    (void)state;
    dc_noise_wish q = {.convention = dc_convention_find("A1111"), .seed = 5, .variation_seed = 9};
    assert_int_equal(dc_wish_seed(&q, 3, 2), 8);
    q.variation_strength = 0.1;
    assert_int_equal(dc_wish_seed(&q, 3, 2), 5);
    assert_int_equal(dc_wish_variation_seed(&q, 3), 12);
    q = (dc_noise_wish){.convention = dc_convention_find("comfy-GPU"), .seed = 5};
    assert_string_equal(q.convention->name, "comfyui-gpu");
    assert_int_equal(dc_wish_seed(&q, 3, 2), 7);
    assert_null(dc_convention_find("nvidia"));
    assert_null(dc_convention_find(""));
    int n;
    const char *const *names = dc_convention_names(&n);
    for (int i = 0; i < n; i++) assert_string_equal(dc_convention_find(names[i])->name, names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(batches_match_the_programs), cmocka_unit_test(a_picture_does_not_depend_on_its_batch),
                                       cmocka_unit_test(samplers_run_as_in_k_diffusion), cmocka_unit_test(seeds_of_pictures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
