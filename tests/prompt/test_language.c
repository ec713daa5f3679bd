/* Prompts against what AUTOMATIC1111's web UI, ComfyUI and dynamicprompts make of them (tests/gen/prompt_language.py). */
#include "base/json.h"
#include "prompt/chunks.h"
#include "prompt/schedule.h"
#include "prompt/template.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { STEPS = 10 };

static json_t *cases(const char *name)
{
    char path[600];
    dc_error e = {0};
    json_t *root;
    snprintf(path, sizeof path, TEST_DATA "/golden/prompt/%s.json", name);
    if (dc_json_read(&root, path, 1 << 20, &e)) fail_msg("%s", e.text);
    return root;
}

static const char *text_of(const json_t *c, const char *key) { return json_string_value(json_object_get(c, key)); }
static double real(const json_t *v) { return json_number_value(v); }

/* ---- edits, AND, weights ------------------------------------------------------------------------------------------- */

static void check_schedule(const json_t *c, const char *text)
{
    dc_error e = {0};
    dc_prompt_schedule s;
    const json_t *want = json_object_get(c, "schedule");
    if (dc_prompt_schedule_make(&s, text, strlen(text), true, STEPS, &e)) fail_msg("%s: %s", text, e.text);
    if (s.entries != (int)json_array_size(want)) fail_msg("%s: found %d entries, expected %d", text, s.entries, (int)json_array_size(want));
    for (int i = 0; i < s.entries; i++) {
        const json_t *entry = json_array_get(want, (size_t)i);
        const char *there = json_string_value(json_array_get(entry, 1));
        if (s.entry[i].end != (int)real(json_array_get(entry, 0)) || strcmp(s.text[s.entry[i].text], there))
            fail_msg("%s: entry %d: found %d \"%s\", expected %g \"%s\"", text, i, s.entry[i].end, s.text[s.entry[i].text],
                     real(json_array_get(entry, 0)), there);
    }
    dc_prompt_schedule_free(&s);
}

static void check_parts(const json_t *c, const char *text)
{
    dc_error e = {0};
    dc_prompt_part part[DC_PROMPT_PARTS];
    int n;
    const json_t *want = json_object_get(c, "parts");
    if (dc_prompt_parts(part, &n, text, &e)) fail_msg("%s: %s", text, e.text);
    if (n != (int)json_array_size(want)) fail_msg("%s: found %d parts, expected %d", text, n, (int)json_array_size(want));
    for (int i = 0; i < n; i++) {
        const json_t *p = json_array_get(want, (size_t)i);
        const char *there = json_string_value(json_array_get(p, 0));
        if (part[i].n != strlen(there) || memcmp(text + part[i].from, there, part[i].n) || part[i].weight != real(json_array_get(p, 1)))
            fail_msg("%s: part %d: found \"%.*s\" of %g, expected \"%s\" of %g", text, i, (int)part[i].n, text + part[i].from, part[i].weight, there,
                     real(json_array_get(p, 1)));
    }
}

static void check_spans(const json_t *c, const char *text)
{
    dc_error e = {0};
    dc_prompt_spans s;
    const json_t *want = json_object_get(c, "spans");
    dc_status status = dc_prompt_spans_make(&s, text, strlen(text), DC_PROMPT_A1111, &e);
    if (json_is_null(want)) { /* a weight of several points: there an exception, here an error that says where */
        assert_int_equal(status, DC_USAGE);
        assert_non_null(strstr(e.text, "byte"));
        return;
    }
    if (status) fail_msg("%s: %s", text, e.text);
    if (s.n != (int)json_array_size(want)) fail_msg("%s: found %d spans, expected %d", text, s.n, (int)json_array_size(want));
    for (int i = 0; i < s.n; i++) {
        const json_t *p = json_array_get(want, (size_t)i);
        const char *there = json_string_value(json_array_get(p, 0));
        if (s.at[i].n != strlen(there) || memcmp(s.text + s.at[i].from, there, s.at[i].n) || s.at[i].weight != real(json_array_get(p, 1)))
            fail_msg("%s: span %d: found \"%.*s\" of %.17g, expected \"%s\" of %.17g", text, i, (int)s.at[i].n, s.text + s.at[i].from, s.at[i].weight,
                     there, real(json_array_get(p, 1)));
    }
    dc_prompt_spans_free(&s);
}

static void test_language(void **state)
{
    (void)state;
    size_t i;
    json_t *c, *root = cases("language");
    assert_true(json_array_size(root) > 300);
    json_array_foreach(root, i, c)
    {
        const char *text = text_of(c, "text");
        check_schedule(c, text);
        check_parts(c, text);
        check_spans(c, text);
    }
    json_decref(root);
}

/* Where the web UI's parser goes one way or the other by chance, an edit is an edit. */
static void test_edit_before_stray_bracket(void **state)
{
    (void)state;
    static const char *const texts[] = {"[x:3][", "[x:3]:", "[x:3])", "[x:3]]"};
    for (int i = 0; i < 4; i++) {
        dc_error e = {0};
        dc_prompt_schedule s;
        assert_int_equal(dc_prompt_schedule_make(&s, texts[i], strlen(texts[i]), true, STEPS, &e), DC_OK);
        assert_int_equal(s.entries, 2);
        assert_int_equal(s.text[1][0], 'x');
        /* the first entry ends with step 3, and evaluation 3, the fourth, still has it */
        assert_int_equal(dc_prompt_schedule_at(&s, 3), 0);
        assert_int_equal(dc_prompt_schedule_at(&s, 4), 1);
        assert_int_equal(dc_prompt_schedule_at(&s, 100), 1);
        dc_prompt_schedule_free(&s);
    }
}

/* ---- chunks ------------------------------------------------------------------------------------------------------------ */

static dc_tokenizer *tokenizer(void)
{
    dc_tokenizer *t;
    dc_error e = {0};
    if (dc_tokenizer_open_merges(&t, ASSETS "/clip_merges.txt.gz", 49408, &e)) fail_msg("%s", e.text);
    return t;
}

static void check_chunks(const json_t *want, const char *text, dc_prompt_syntax syntax, const dc_tokenizer *t)
{
    dc_error e = {0};
    dc_prompt_spans s;
    dc_prompt_chunks c;
    if (dc_prompt_spans_make(&s, text, strlen(text), syntax, &e) || dc_prompt_chunks_make(&c, &s, syntax, t, 77, &e))
        fail_msg("%s: %s", text, e.text);
    if (c.n != (int)json_array_size(want)) fail_msg("%s: found %d chunks, expected %d", text, c.n, (int)json_array_size(want));
    for (int k = 0; k < c.n; k++) {
        const json_t *chunk = json_array_get(want, (size_t)k), *run;
        size_t i;
        int at = 0;
        for (int p = 0; p < 77; p++)
            if (c.ids[k * 77 + p] != (int)real(json_array_get(json_object_get(chunk, "ids"), (size_t)p)))
                fail_msg("%s: chunk %d: token %d: found %d, expected %g", text, k, p, c.ids[k * 77 + p],
                         real(json_array_get(json_object_get(chunk, "ids"), (size_t)p)));
        json_array_foreach(json_object_get(chunk, "weights"), i, run) for (int n = (int)real(json_array_get(run, 1)); n--;
                                                                           at++) if (c.weights[k * 77 + at] != (float)real(json_array_get(run, 0)))
            fail_msg("%s: chunk %d: weight %d: found %.9g, expected %.9g", text, k, at, (double)c.weights[k * 77 + at], real(json_array_get(run, 0)));
        assert_int_equal(at, 77);
    }
    dc_prompt_chunks_free(&c);
    dc_prompt_spans_free(&s);
}

static void test_chunks(void **state)
{
    (void)state;
    size_t i;
    json_t *c, *root = cases("chunks");
    dc_tokenizer *t = tokenizer();
    assert_true(json_array_size(root) > 30);
    json_array_foreach(root, i, c)
    {
        dc_tokenizer_pad_with(t, (int)real(json_object_get(c, "pad")));
        check_chunks(json_object_get(c, "a1111"), text_of(c, "text"), DC_PROMPT_A1111, t);
        check_chunks(json_object_get(c, "comfyui"), text_of(c, "text"), DC_PROMPT_COMFYUI, t);
    }
    dc_tokenizer_close(t);
    json_decref(root);
}

/* ---- templates ------------------------------------------------------------------------------------------------------------ */

#define WILDCARDS TEST_DATA "/golden/prompt/wildcards"

static void test_templates(void **state)
{
    (void)state;
    size_t i;
    json_t *c, *root = cases("templates");
    assert_true(json_array_size(root) >= 150);
    json_array_foreach(root, i, c)
    {
        dc_error e = {0};
        char *made;
        if (dc_prompt_expand(&made, text_of(c, "template"), WILDCARDS, (uint64_t)json_integer_value(json_object_get(c, "seed")), &e))
            fail_msg("%s", e.text);
        if (strcmp(made, text_of(c, "prompt"))) fail_msg("%s: found \"%s\", expected \"%s\"", text_of(c, "template"), made, text_of(c, "prompt"));
        free(made);
    }
    json_decref(root);
}

static void test_what_a_template_is(void **state)
{
    (void)state;
    assert_true(dc_prompt_is_template("a {b|c}"));
    assert_true(dc_prompt_is_template("{ {b}"));
    assert_true(dc_prompt_is_template("a __b__ c"));
    assert_false(dc_prompt_is_template("a {b"));
    assert_false(dc_prompt_is_template("a } b __ c"));
    dc_error e = {0};
    char *made;
    assert_int_equal(dc_prompt_expand(&made, "\\{a\\} { __x__ _ __", NULL, 1, &e), DC_OK); /* no folder: wildcards are text */
    assert_string_equal(made, "{a} { __x__ _ __");
    free(made);
}

/* ---- what is refused -------------------------------------------------------------------------------------------------------- */

static void refused(const char *text, const char *folder, dc_status code)
{
    dc_error e = {0};
    char *made;
    assert_int_equal(dc_prompt_expand(&made, text, folder, 1, &e), code);
    assert_null(made);
    assert_int_equal(e.code, code);
}

static char *repeated(const char *s, int n)
{
    size_t size = strlen(s);
    char *out = malloc(size * (size_t)n + 1);
    for (int i = 0; i < n; i++) memcpy(out + (size_t)i * size, s, size);
    out[size * (size_t)n] = 0;
    return out;
}

static void test_refused_templates(void **state)
{
    (void)state;
    refused("__../color__", WILDCARDS, DC_DENIED);
    refused("__/etc/passwd__", WILDCARDS, DC_DENIED);
    refused("__a\\b__", WILDCARDS, DC_DENIED);
    refused("__nothing__", WILDCARDS, DC_NO_INPUT);
    refused("__color__", WILDCARDS "/none", DC_NO_INPUT);
    refused("{0::a|0::b}", NULL, DC_USAGE);
    char *deep = repeated("{", 60000), *many = repeated("{a|b}", 5000);
    refused(deep, NULL, DC_USAGE);
    refused(many, NULL, DC_USAGE);
    free(deep);
    free(many);
}

/* Brackets by the ten thousand take no time and no stack. */
static void test_much_of_everything(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "(", "[", ")", "]", ":", "|", "\\", "[a:", "[a|", "(a:1.1", "[a:b:3]", "AND ", "BREAK ", "((a)", "[[a:3]:3]", "a,"};
    dc_tokenizer *t = tokenizer();
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        char *text = repeated(pieces[i], 65000 / (int)strlen(pieces[i]));
        dc_error e = {0};
        dc_prompt_schedule s;
        dc_prompt_part part[DC_PROMPT_PARTS];
        int n;
        if (!dc_prompt_schedule_make(&s, text, strlen(text), true, 1000, &e)) dc_prompt_schedule_free(&s);
        dc_prompt_parts(part, &n, text, &e);
        for (int syntax = DC_PROMPT_A1111; syntax <= DC_PROMPT_PLAIN; syntax++) {
            dc_prompt_spans spans;
            dc_prompt_chunks c;
            dc_error inner = {0};
            if (dc_prompt_spans_make(&spans, text, strlen(text), (dc_prompt_syntax)syntax, &inner)) continue;
            if (!dc_prompt_chunks_make(&c, &spans, (dc_prompt_syntax)syntax, t, 77, &inner)) dc_prompt_chunks_free(&c);
            dc_prompt_spans_free(&spans);
        }
        free(text);
    }
    dc_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_language),           cmocka_unit_test(test_edit_before_stray_bracket), cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_templates),          cmocka_unit_test(test_what_a_template_is),        cmocka_unit_test(test_refused_templates),
        cmocka_unit_test(test_much_of_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
