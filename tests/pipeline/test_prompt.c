/* Weighted, edited, composed and long prompts against transformers and diffusers (tests/gen/prompt_conditions.py), on every instruction set; and
 * what must not depend on how a prompt is read. */
#include "base/json.h"
#include "include/diffc.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define GOLDEN TEST_DATA "/golden/"
enum { LATENT = 4 * 8 * 8 };

typedef struct kept {
    float latent[LATENT];
    char parameters[2048];
} kept;

static diffc_status keep(void *user, const diffc_result *r, diffc_error *e)
{
    (void)e;
    kept *k = user;
    assert_int_equal(r->latent_dim[0] * r->latent_dim[1] * r->latent_dim[2], LATENT);
    memcpy(k->latent, r->latent, sizeof k->latent);
    snprintf(k->parameters, sizeof k->parameters, "%s", r->parameters);
    return DIFFC_OK;
}

static diffc_model *open_model(const char *name)
{
    char path[600];
    diffc_error e = {0};
    diffc_model *m;
    snprintf(path, sizeof path, GOLDEN "models/%s", name);
    if (diffc_open(&m, &(diffc_options){.model = path, .resident = true, .threads = 1}, &e)) fail_msg("%s", e.text);
    return m;
}

static diffc_request request(const diffc_model *m, const char *prompt, const char *negative, kept *k)
{
    diffc_request q;
    diffc_request_defaults(m, &q);
    q.prompt = prompt, q.negative = negative, q.width = q.height = 64, q.steps = 4, q.guidance = 5, q.seed = 11, q.sampler = "ddim";
    q.on_image = keep, q.user = k;
    return q;
}

static void generate(diffc_model *m, const diffc_request *q)
{
    diffc_error e = {0};
    if (diffc_generate(m, q, &e)) fail_msg("%s: %s", q->prompt, e.text);
}

static const char *text_of(const json_t *c, const char *key) { return json_string_value(json_object_get(c, key)); }

static void test_conditions(void **state)
{
    (void)state;
    dc_error e = {0};
    json_t *root, *c;
    size_t i;
    if (dc_json_read(&root, GOLDEN "prompt/conditions.json", 1 << 20, &e)) fail_msg("%s", e.text);
    json_array_foreach(root, i, c)
    {
        kept k;
        diffc_model *m = open_model(text_of(c, "model"));
        diffc_request q = request(m, text_of(c, "prompt"), text_of(c, "negative"), &k);
        q.sampler = text_of(c, "sampler"), q.steps = (int)json_integer_value(json_object_get(c, "steps"));
        q.prompt_syntax = text_of(c, "syntax"), q.emphasis = text_of(c, "emphasis");
        generate(m, &q);
        double worst = 0, allowed = json_number_value(json_object_get(c, "tolerance"));
        for (size_t p = 0; p < LATENT; p++)
            worst = fmax(worst, fabs(k.latent[p] - json_number_value(json_array_get(json_object_get(c, "latent"), p))));
        if (worst > allowed || worst != worst) fail_msg("%s: off by %.3g, allowed are %.3g", q.prompt, worst, allowed);
        diffc_close(m);
    }
    json_decref(root);
}

/* A short prompt without special characters is the same picture however it is read. */
static void test_plain_words(void **state)
{
    (void)state;
    static const char *const syntax[] = {"a1111", "comfyui", "plain", NULL};
    kept k[4];
    diffc_model *m = open_model("sd1");
    for (int i = 0; i < 4; i++) {
        diffc_request q = request(m, "a small wooden house, by a lake", "blurry", &k[i]);
        q.prompt_syntax = syntax[i];
        generate(m, &q);
        assert_memory_equal(k[i].latent, k[0].latent, sizeof k[0].latent);
    }
    diffc_close(m);
}

/* Pictures of a batch are those made one by one, also with edits, parts and prompts of two lengths. */
static void test_batches(void **state)
{
    (void)state;
    kept alone, last;
    diffc_model *m = open_model("sd1");
    diffc_request q = request(m, "a [cat|dog] BREAK by a lake AND (red:1.3) :0.4", "[x:y:2]", &last);
    q.count = 3, q.batch = 3; /* the last one is kept */
    generate(m, &q);
    q.count = q.batch = 1, q.seed += 2, q.user = &alone;
    generate(m, &q);
    for (size_t i = 0; i < LATENT; i++) assert_float_equal(alone.latent[i], last.latent[i], 1e-4);
    diffc_close(m);
}

static void test_metadata(void **state)
{
    (void)state;
    kept k;
    diffc_model *m = open_model("sd1");
    diffc_request q = request(m, "a (red:1.2) [house:lake:0.5] AND x", NULL, &k);
    q.emphasis = "no-norm", q.prompt_template = "a ({red|blue}:1.2) [house:lake:0.5] AND x";
    generate(m, &q);
    assert_memory_equal(k.parameters, "a (red:1.2) [house:lake:0.5] AND x\nSteps: 4", 43);
    assert_non_null(strstr(k.parameters, ", Emphasis: No norm, Template: \"a ({red|blue}:1.2) [house:lake:0.5] AND x\", Version"));
    diffc_close(m);
}

static void refused(diffc_model *m, const char *prompt, const char *syntax, const char *emphasis, const char *says)
{
    kept k;
    diffc_error e = {0};
    diffc_request q = request(m, prompt, NULL, &k);
    q.prompt_syntax = syntax, q.emphasis = emphasis;
    assert_int_equal(diffc_generate(m, &q, &e), DIFFC_USAGE);
    if (!strstr(e.text, says)) fail_msg("found \"%s\", expected \"%s\" in it", e.text, says);
}

static void test_refused(void **state)
{
    (void)state;
    char long_prompt[40000];
    memset(long_prompt, 'a', sizeof long_prompt);
    for (size_t i = 1; i < sizeof long_prompt; i += 2) long_prompt[i] = ' ';
    long_prompt[sizeof long_prompt - 1] = 0;
    diffc_model *m = open_model("sd1");
    refused(m, "a", "novelai", NULL, "prompt-syntax: found novelai");
    refused(m, "a", NULL, "strong", "emphasis: found strong");
    refused(m, "a", "plain", "none", "emphasis: found none");
    refused(m, "a (b:1..2) c", NULL, NULL, "byte 5: weight: found \"1..2\"");
    refused(m, long_prompt, NULL, NULL, "more than 64 chunks");
    refused(m, "a AND a AND a AND a AND a AND a AND a AND a AND a AND a AND a AND a AND a AND a AND a AND a AND a", NULL, NULL,
            "more than 16 prompts");
    diffc_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conditions), cmocka_unit_test(test_plain_words), cmocka_unit_test(test_batches),
        cmocka_unit_test(test_metadata),   cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
