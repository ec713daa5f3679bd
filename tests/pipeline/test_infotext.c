/* A1111's parameters text against Python: fields to text byte for byte, and text to fields. Golden: tests/gen/infotext.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "pipeline/infotext.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Whole numbers beyond 2^63 - 1 are read as real ones, and what Python prints differs then: they are looked up in the text. */
static json_t *read_cases(void)
{
    dc_error e = {0};
    char *text;
    size_t n;
    if (dc_read_file(TEST_DATA "/golden/metadata/parameters.json", 1u << 20, &text, &n, &e)) fail_msg("%s", e.text);
    for (char *at; (at = strstr(text, ",18446744073709551615"));) memcpy(at, ",-77                 ", 21); /* a mark */
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    free(text);
    return root;
}

static info_value value_of(const json_t *pair)
{
    const json_t *v = json_array_get(pair, 1);
    info_value out = {.key = json_string_value(json_array_get(pair, 0))};
    switch (json_typeof(v)) {
    case JSON_STRING: out.kind = INFO_TEXT, out.text = json_string_value(v); break;
    case JSON_INTEGER: out.kind = INFO_INT, out.integer = json_integer_value(v); break;
    case JSON_REAL: out.kind = INFO_REAL, out.real = json_real_value(v); break;
    case JSON_TRUE:
    case JSON_FALSE: out.kind = INFO_BOOL, out.yes = json_is_true(v); break;
    default: out.kind = INFO_NONE;
    }
    if (out.kind == INFO_INT && out.integer == -77) out.kind = INFO_UINT, out.natural = UINT64_MAX;
    return out;
}

static void fields_become_pythons_text(void **state)
{
    (void)state;
    json_t *all = read_cases(), *c;
    size_t i;
    int written = 0;
    json_array_foreach(all, i, c)
    {
        info_value v[64];
        json_t *fields = json_object_get(c, "fields");
        int n = (int)json_array_size(fields);
        if (!fields) continue;
        for (int k = 0; k < n; k++) v[k] = value_of(json_array_get(fields, (size_t)k));
        char *got = infotext_write(json_string_value(json_object_get(c, "prompt")), json_string_value(json_object_get(c, "negative")), v, n);
        const char *want = json_string_value(json_object_get(c, "text"));
        assert_non_null(got);
        if (strcmp(got, want)) fail_msg("case %zu:\nfound    %s\nexpected %s", i, got, want);
        free(got);
        written++;
    }
    assert_true(written >= 26);
    json_decref(all);
}

static void text_becomes_pythons_fields(void **state)
{
    (void)state;
    json_t *all = read_cases(), *c, *want;
    size_t i;
    const char *key;
    json_array_foreach(all, i, c)
    {
        dc_error e = {0};
        infotext x;
        const char *text = json_string_value(json_object_get(c, "text"));
        if (infotext_read(&x, "case", text, strlen(text), &e)) fail_msg("%s", e.text);
        json_t *parsed = json_object_get(c, "parsed");
        int fields = 0;
        json_object_foreach(parsed, key, want)
        {
            const char *got = !strcmp(key, "Prompt")            ? x.prompt
                              : !strcmp(key, "Negative prompt") ? (x.negative ? x.negative : "")
                                                                : info_get(&x, key);
            fields += !strcmp(key, "Prompt") || !strcmp(key, "Negative prompt") ? 0 : 1;
            if (x.source == INFO_SDCPP && (!strcmp(key, "Sampler"))) continue; /* taken apart: below */
            if (!got || strcmp(got, json_string_value(want)))
                fail_msg("case %zu, %s: found \"%s\", expected \"%s\"\n%s", i, key, got ? got : "(nothing)", json_string_value(want), text);
        }
        if (x.source != INFO_SDCPP && fields != x.n) fail_msg("case %zu: found %d fields, expected %d\n%s", i, x.n, fields, text);
        infotext_free(&x);
    }
    json_decref(all);
}

static void expect(const char *text, size_t n, dc_status code)
{
    dc_error e = {0};
    infotext x;
    assert_int_equal(infotext_read(&x, "f", text, n, &e), code);
    infotext_free(&x);
}

static void what_is_no_text_is_refused(void **state)
{
    (void)state;
    dc_text t = {0};
    expect("a\0b", 3, DC_DATA);
    expect("a\xff", 2, DC_DATA);
    expect("", 0, DC_OK);
    expect("\n", 1, DC_OK);
    for (int i = 0; i < 256; i++) dc_text_printf(&t, "k%d: 1,", i);
    expect(t.at, t.length, DC_OK);
    dc_text_printf(&t, "k256: 1,");
    expect(t.at, t.length, DC_DATA);
    dc_text_free(&t);
    char *large = malloc((1 << 20) + 1);
    memset(large, 'a', (1 << 20) + 1); /* one run of key characters: linear, not quadratic */
    expect(large, 1 << 20, DC_OK);
    expect(large, (1 << 20) + 1, DC_DATA);
    for (int i = 0; i < 1 << 20; i++) large[i] = ":\" "[i % 3];
    expect(large, 1 << 20, DC_OK);
    free(large);
}

static void check(const infotext *x, const char *key, const char *want)
{
    const char *got = info_get(x, key);
    if (!got || strcmp(got, want)) fail_msg("%s: found \"%s\", expected \"%s\"", key, got ? got : "(nothing)", want);
}

/* As its get_image_params writes it, in UTF-8 that was taken for Latin-1. */
static void the_other_dialect_is_read(void **state)
{
    (void)state;
    static const char text[] =
        "caf\xc3\x83\xc2\xa9 <lora:x:1>\nNegative prompt: dog\nSteps: 20, CFG scale: 7.000000, SLG scale: 2.500000, Skip layers: [7, 8, 9, ], "
        "Guidance: 3.500000, Eta: 0.000000, Seed: 42, Size: 512x768, Model: sd15.safetensors, RNG: cuda, Sampler: dpm++2m, Custom "
        "Sigmas: [14.6100, 3.0000, 0.0000], VAE: v.safetensors, Clip skip: 2, Version: stable-diffusion.cpp, SDCPP: "
        "{\"seed\": 43, \"prompt\": {\"positive\": \"Steps: 1, Seed: 2, Size: 3x4\"}}";
    dc_error e = {0};
    infotext x;
    if (infotext_read(&x, "f", text, sizeof text - 1, &e)) fail_msg("%s", e.text);
    assert_int_equal(x.source, INFO_SDCPP);
    assert_string_equal(x.prompt, "caf\xc3\xa9 <lora:x:1>");
    assert_string_equal(x.negative, "dog");
    check(&x, "Sampler", "dpm++2m");
    check(&x, "Custom Sigmas", "14.6100, 3.0000, 0.0000");
    check(&x, "Skip layers", "7, 8, 9, ");
    check(&x, "Seed", "42");
    check(&x, "Size-2", "768");
    check(&x, "Clip skip", "2");
    infotext_free(&x);
    static const char shorter[] = "a\nSteps: 2, Seed: 1, Sampler: euler_a karras, Version: stable-diffusion.cpp";
    if (infotext_read(&x, "f", shorter, sizeof shorter - 1, &e)) fail_msg("%s", e.text);
    check(&x, "Sampler", "euler_a");
    check(&x, "Schedule type", "karras");
    infotext_free(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fields_become_pythons_text), cmocka_unit_test(text_becomes_pythons_fields),
                                       cmocka_unit_test(what_is_no_text_is_refused), cmocka_unit_test(the_other_dialect_is_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
