/* Pictures made again: ComfyUI's graphs (written as its nodes write them) become fields, fields become requests, and every one is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "include/diffc.h"
#include "pipeline/infotext.h"
#include <stdlib.h>
#include <string.h>

static const char *text_of(const json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }

static void same(const char *id, const char *what, const char *got, const char *want)
{
    if (!got != !want || (want && strcmp(got, want)))
        fail_msg("%s: %s: found %s, expected %s", id, what, got ? got : "(none)", want ? want : "(none)");
}

static void graphs_become_fields(void **state)
{
    (void)state;
    dc_error e = {0};
    json_t *all, *c, *want;
    size_t i;
    const char *key;
    if (dc_json_read(&all, TEST_DATA "/golden/metadata/comfyui.json", 1u << 20, &e)) fail_msg("%s", e.text);
    json_array_foreach(all, i, c)
    {
        infotext x;
        char *graph = json_dumps(json_object_get(c, "graph"), JSON_PRESERVE_ORDER);
        if (comfyui_read(&x, "graph", graph, strlen(graph), &e)) fail_msg("%s: %s", text_of(c, "id"), e.text);
        same(text_of(c, "id"), "prompt", x.prompt, text_of(c, "prompt"));
        same(text_of(c, "id"), "negative", x.negative, text_of(c, "negative"));
        json_object_foreach(json_object_get(c, "fields"), key, want) same(text_of(c, "id"), key, info_get(&x, key), json_string_value(want));
        infotext_free(&x);
        free(graph);
    }
    json_decref(all);
}

/* What is no graph, and graphs that lead nowhere or in circles. */
static void odd_graphs_end(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        dc_status code;
        const char *prompt, *key, *value;
    } cases[] = {
        {"", DC_DATA, NULL, NULL, NULL},
        {"[]", DC_DATA, NULL, NULL, NULL},
        {"{}", DC_DATA, NULL, NULL, NULL},
        {"{\"nodes\": [], \"links\": []}", DC_DATA, NULL, NULL, NULL},
        {"{\"1\": {\"class_type\": \"VAEDecode\", \"inputs\": {}}}", DC_DATA, NULL, NULL, NULL},
        {"{\"1\": {\"class_type\": \"KSampler\"}}", DC_OK, "", NULL, NULL},
        {"{\"1\": {\"class_type\": \"KSampler\", \"inputs\": {\"seed\": 18446744073709551615, \"is_changed\": [NaN, -Infinity]}}}", DC_OK, "", "Seed",
         "18446744073709551615"},
        {"{\"1\": {\"class_type\": \"KSampler\", \"inputs\": {\"model\": [\"1\", 0], \"positive\": [\"1\", 0], \"negative\": [\"1\", 1], \"seed\": "
         "[\"1\", 0], "
         "\"latent_image\": [\"1\", 0]}}}",
         DC_OK, "", NULL, NULL},
        {"{\"1\": {\"class_type\": \"KSampler\", \"inputs\": {\"positive\": [\"2\", 0], \"cfg\": \"x\"}}, \"2\": {\"class_type\": "
         "\"CLIPTextEncode\", "
         "\"inputs\": {\"text\": [\"3\", 0], \"clip\": [\"2\", 0]}}, \"3\": {\"class_type\": \"StringConcatenate\", \"inputs\": {\"string_a\": "
         "\"a\", "
         "\"string_b\": [\"3\", 0]}}}",
         DC_OK, NULL, "CFG scale", "x"},
        {"{\"1\": {\"class_type\": \"KSampler\", \"inputs\": {\"positive\": [\"9\", 0], \"latent_image\": [\"2\"]}}}", DC_OK, "", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dc_error e = {0};
        infotext x;
        assert_int_equal(comfyui_read(&x, "graph", cases[i].text, strlen(cases[i].text), &e), cases[i].code);
        if (cases[i].prompt) same(cases[i].text, "prompt", x.prompt, cases[i].prompt);
        if (cases[i].key) same(cases[i].text, cases[i].key, info_get(&x, cases[i].key), cases[i].value);
        infotext_free(&x);
    }
}

static const diffc_field *field_of(const diffc_replay *r, const char *name)
{
    for (int i = 0; i < r->n_fields; i++)
        if (!strcmp(r->field[i].name, name)) return &r->field[i];
    fail_msg("no field %s", name);
    return NULL;
}

static diffc_replay *replay_of(const char *text, diffc_request *q)
{
    diffc_error e = {0};
    diffc_replay *r;
    *q = (diffc_request){.steps = 1, .eta = -1, .seed = 12345};
    if (diffc_replay_memory(&r, "text", text, strlen(text), &e)) fail_msg("%s", e.text);
    if (diffc_replay_apply(r, NULL, q, &e)) fail_msg("%s", e.text);
    return r;
}

static void a1111s_text_becomes_a_request(void **state)
{
    (void)state;
    diffc_request q;
    diffc_replay *r =
        replay_of("a cat <lora:x:0.5>, sitting\nNegative prompt: dog\nSteps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, "
                  "Seed: 18446744073709551615, Size: 512x768, Model: m, Clip skip: 2, Hires upscale: 2, Denoising strength: 0.5, New thing: 3, "
                  "Version: v1.10.1",
                  &q);
    same("a1111", "source", r->source, "A1111");
    same("a1111", "prompt", q.prompt, "a cat , sitting");
    same("a1111", "negative", q.negative, "dog");
    same("a1111", "sampler", q.sampler, "dpm++2m");
    assert_non_null(strstr(q.schedule, "karras"));
    assert_true(q.steps == 25 && q.guidance == 6.5 && q.seed == UINT64_MAX && q.width == 512 && q.height == 768 && q.clip_skip == 2);
    assert_int_equal(field_of(r, "LoRA")->fate, DIFFC_IGNORED);
    assert_int_equal(field_of(r, "Hires upscale")->fate, DIFFC_IGNORED);
    assert_int_equal(field_of(r, "Denoising strength")->fate, DIFFC_IGNORED);
    assert_int_equal(field_of(r, "New thing")->fate, DIFFC_IGNORED);
    assert_int_equal(field_of(r, "Size")->fate, DIFFC_HONOURED);
    assert_int_equal(field_of(r, "RNG")->fate, DIFFC_HONOURED);
    assert_string_equal(field_of(r, "Seed")->member, "seed");
    diffc_replay_close(r);
}

/* What a sampler's name alone means has changed with A1111's versions. */
static void a1111s_schedule_is_told_from_its_version(void **state)
{
    (void)state;
    static const struct {
        const char *rest, *schedule; /* NULL: the sampler's own by the rules that come with the noise */
    } cases[] = {{"Sampler: DPM++ 2M, Schedule type: Automatic, Version: v1.10.1", NULL},
                 {"Sampler: DPM++ SDE, Version: f2.0.1v1.10.1-previous-313-g8a042934", NULL},
                 {"Sampler: LMS, Other: 1", NULL},
                 {"Sampler: DDIM, Version: v1.5.0", NULL},
                 {"Sampler: DDIM, Schedule type: Karras, Version: v1.10.0", NULL},
                 {"Sampler: DPM++ 2M Karras, Version: v1.6.0", "karras"},
                 {"Sampler: DPM++ 3M SDE Exponential, Version: 1.7.0", "exponential"},
                 {"Sampler: Euler, Schedule type: SGM Uniform, Version: v1.9.0", "sgm_uniform"},
                 {"Sampler: DPM++ 2M, Version: v1.6.0-2-g4afaaf8a", "uniform"},
                 {"Sampler: DPM++ SDE, Version: f0.0.17v1.8.0rc-latest", "uniform"}};
    char text[256];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        diffc_request q;
        snprintf(text, sizeof text, "x\nSteps: 20, Seed: 1, %s", cases[i].rest);
        diffc_replay *r = replay_of(text, &q);
        same(text, "schedule", q.schedule, cases[i].schedule);
        same(text, "rng", q.rng, "a1111");
        diffc_replay_close(r);
    }
}

static void noise_is_the_programs(void **state)
{
    (void)state;
    diffc_request q;
    diffc_replay *r = replay_of("x\nSteps: 20, Sampler: Euler a, Seed: 1, Variation seed: 18446744073709551615, Variation seed strength: 0.25, "
                                "Seed resize from: 512x384, ENSD: -31337, RNG: CPU, Sigma churn: 0.5, Schedule rho: 5, UniPC order: 2",
                                &q);
    same("a1111", "rng", q.rng, "a1111-cpu");
    assert_true(q.variation_seed == UINT64_MAX && q.variation_strength == 0.25 && q.seed_resize_width == 512 && q.seed_resize_height == 384);
    assert_true(q.ensd == -31337 && q.s_churn == 0.5 && q.rho == 5 && q.solver_order == 2);
    diffc_replay_close(r);
    r = replay_of("x\nSteps: 20, Sampler: Euler a, Seed: 5, RNG: CPU, RNG convention: comfyui, Batch size: 3, Batch pos: 1, Version: diffc 0.1.0",
                  &q);
    same("diffc", "rng", q.rng, "comfyui");
    assert_true(q.count == 3 && q.batch == 3);
    assert_int_equal(field_of(r, "Batch size")->fate, DIFFC_CHANGED);
    diffc_replay_close(r);
}

static void values_that_cannot_be_are_told(void **state)
{
    (void)state;
    diffc_request q;
    diffc_replay *r =
        replay_of("\nSteps: many, CFG scale: -1, Seed: -1, Size: 4x99999, Sampler: Foo, Schedule type: Bar, Clip skip: 1.5, RNG: dice, Eta: nan, "
                  "Sigmas: \"1, x\", Batch size: 1000",
                  &q);
    static const char *const names[] = {"Steps", "CFG scale", "Seed", "Sampler", "Schedule type", "Clip skip", "RNG", "Eta", "Sigmas", "Batch size"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) assert_int_equal(field_of(r, names[i])->fate, DIFFC_IGNORED);
    assert_true(q.steps == 1 && q.seed == 12345 && !q.sampler && !q.schedule && !q.rng && !q.width && q.eta == -1 && !q.sigmas);
    diffc_replay_close(r);
}

static void the_other_dialects_become_requests(void **state)
{
    (void)state;
    diffc_request q;
    diffc_replay *r =
        replay_of("a\nSteps: 4, CFG scale: 1.500000, Eta: 0.000000, Seed: 42, Size: 512x512, Model: m.gguf, RNG: cpu, Sampler: euler_a, Custom "
                  "Sigmas: [14.5000, 2.0000, 0.0000], Version: stable-diffusion.cpp, SDCPP: {}",
                  &q);
    same("sdcpp", "source", r->source, "stable-diffusion.cpp");
    assert_true(q.n_sigmas == 2 && q.sigmas[0] == 14.5 && q.sigmas[1] == 2 && q.eta == -1 && q.guidance == 1.5);
    same("sdcpp", "rng", q.rng, "cpu");
    assert_null(q.schedule);
    diffc_replay_close(r);

    r = replay_of(
        "{\"3\": {\"class_type\": \"KSampler\", \"inputs\": {\"seed\": 9, \"steps\": 3, \"sampler_name\": \"dpmpp_2m\", \"scheduler\": \"karras\", "
        "\"positive\": [\"6\", 0], \"negative\": [\"6\", 0]}}, \"6\": {\"class_type\": \"CLIPTextEncode\", \"inputs\": {\"text\": \"\"}}}",
        &q);
    same("comfyui", "source", r->source, "ComfyUI");
    assert_true(q.seed == 9 && q.steps == 3 && !strcmp(q.sampler, "dpm++2m"));
    same("comfyui", "negative", q.negative, ""); /* encoded, not zeros */
    same("comfyui", "rng", q.rng, "comfyui");
    diffc_replay_close(r);
}

static void what_has_no_text_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        diffc_status code;
    } cases[] = {{"/golden/image/files/one_pixel.png", DIFFC_NO_INPUT},
                 {"/golden/image/files/baseline420.jpg", DIFFC_NO_INPUT},
                 {"/golden/base/f4_c.npy", DIFFC_DATA},
                 {"/nothing", DIFFC_NO_INPUT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512];
        diffc_error e = {0};
        diffc_replay *r;
        snprintf(path, sizeof path, "%s%s", TEST_DATA, cases[i].path);
        assert_int_equal(diffc_replay_open(&r, path, &e), cases[i].code);
        assert_null(r);
    }
    diffc_replay_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(graphs_become_fields),
                                       cmocka_unit_test(odd_graphs_end),
                                       cmocka_unit_test(a1111s_text_becomes_a_request),
                                       cmocka_unit_test(a1111s_schedule_is_told_from_its_version),
                                       cmocka_unit_test(noise_is_the_programs),
                                       cmocka_unit_test(values_that_cannot_be_are_told),
                                       cmocka_unit_test(the_other_dialects_become_requests),
                                       cmocka_unit_test(what_has_no_text_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
