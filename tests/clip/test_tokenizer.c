/* The tokenizer against transformers' CLIPTokenizer. Goldens: tests/gen/clip.py. */
#include "tests/clip/folders.h"
#include <time.h>
#include <zlib.h>

/* JSON as it is: unlike our own reader it takes the NUL characters that some texts hold. */
static json_t *golden(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, TEST_DATA "/golden/clip/%s", name);
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, NULL);
    if (!root) fail_msg("%s cannot be read", path);
    return root;
}

/* `from`, `to`: which of the wanted ids count; at most `most` of ours. */
static void check_ids(const dc_tokenizer *t, const json_t *text, const json_t *want, size_t from, size_t to, int most, const char *what)
{
    dc_error e = {0};
    int32_t *ids = NULL;
    int n = 0;
    const char *s = json_string_value(text);
    if (dc_tokenize(t, s, json_string_length(text), &ids, &n, &e)) fail_msg("%s: \"%s\": %s", what, s, e.text);
    if (n > most) n = most;
    if ((size_t)n != to - from) fail_msg("%s: \"%s\": %d ids, expected %zu", what, s, n, to - from);
    for (int i = 0; i < n; i++) {
        int id = (int)json_integer_value(json_array_get(want, from + (size_t)i));
        if (ids[i] != id) fail_msg("%s: \"%s\": id %d is %d, expected %d", what, s, i, ids[i], id);
    }
    free(ids);
}

static void ids_are_those_of_transformers(void **state)
{
    (void)state;
    json_t *all = golden("tokens.json"), *entry;
    size_t i;
    dc_tokenizer *t = open_merges();
    assert_int_equal(json_array_size(all), 455);
    json_array_foreach(all, i, entry)
    {
        const json_t *want = json_array_get(entry, 1); /* with start and end, cut to 77 */
        check_ids(t, json_array_get(entry, 0), want, 1, json_array_size(want) - 1, 75, "tokens.json");
    }
    json_decref(all);
    dc_tokenizer_close(t);
}

static void odd_characters(void **state)
{
    (void)state;
    json_t *all = golden("unicode.json"), *entry;
    size_t i;
    dc_tokenizer *t = open_merges();
    assert_int_equal(json_array_size(all), 531);
    json_array_foreach(all, i, entry)
    {
        const json_t *want = json_array_get(entry, 1);
        check_ids(t, json_array_get(entry, 0), want, 0, json_array_size(want), INT32_MAX, "unicode.json");
    }
    json_decref(all);
    dc_tokenizer_close(t);
}

/* ---- special tokens, by what the files of a folder say ------------------------------------------------------------------ */

static void check_case(const dc_tokenizer *t, const json_t *texts, const json_t *c)
{
    const json_t *ids = json_object_get(c, "ids"), *text;
    size_t i;
    const char *name = json_string_value(json_object_get(c, "name"));
    if (dc_tokenizer_start(t) != json_integer_value(json_object_get(c, "start")) ||
        dc_tokenizer_end(t) != json_integer_value(json_object_get(c, "end")) ||
        dc_tokenizer_pad(t) != json_integer_value(json_object_get(c, "pad")) ||
        dc_tokenizer_vocab_size(t) != json_integer_value(json_object_get(c, "size")))
        fail_msg("%s: start %d, end %d, padding %d, %d tokens", name, dc_tokenizer_start(t), dc_tokenizer_end(t), dc_tokenizer_pad(t),
                 dc_tokenizer_vocab_size(t));
    json_array_foreach(texts, i, text) check_ids(t, text, json_array_get(ids, i), 0, json_array_size(json_array_get(ids, i)), INT32_MAX, name);
}

static void special_tokens_are_what_the_files_say(void **state)
{
    (void)state;
    json_t *root = golden("special.json"), *vocab = vocabulary(49408), *c, *content;
    const json_t *cases = json_object_get(root, "cases");
    dc_text merges = merge_lines(48894);
    size_t i;
    const char *file;
    assert_int_equal(json_array_size(cases), 15);
    json_array_foreach(cases, i, c)
    {
        write_json("vocab.json", vocab);
        write_bytes("merges.txt", merges.at, merges.length);
        json_object_foreach(json_object_get(c, "files"), file, content) write_text(file, json_string_value(content));
        dc_tokenizer *t = open_folder();
        check_case(t, json_object_get(root, "texts"), c);
        assert_int_equal(dc_tokenizer_max_length(t), json_integer_value(json_object_get(c, "length")));
        dc_tokenizer_close(t);
        empty_folder();
    }
    dc_text_free(&merges);
    json_decref(vocab);
    json_decref(root);
}

/* "model_max_length" of files that mean "no limit"; numbers in strings and with fractions stay. */
static void numbers_without_end(void **state)
{
    (void)state;
    json_t *vocab = vocabulary(600);
    dc_text merges = merge_lines(86);
    write_json("vocab.json", vocab);
    write_bytes("merges.txt", merges.at, merges.length);
    static const struct {
        const char *text;
        int length;
    } cases[] = {
        {"{\"model_max_length\": 1000000000000000019884624838656}", 77},
        {"{\"model_max_length\":1000000000000000019884624838656}", 77},
        {"{\"x\": \"\\\"1000000000000000019884624838656\", \"model_max_length\": 20}", 20},
        {"{\"x\": [0.12345678901234567890123, -12345678901234567890123], \"model_max_length\": 21.0}", 21},
        {"{\"model_max_length\": 2}", 77},
        {"{}", 77},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text("tokenizer_config.json", cases[i].text);
        dc_tokenizer *t = open_folder();
        assert_int_equal(dc_tokenizer_max_length(t), cases[i].length);
        dc_tokenizer_close(t);
    }
    empty_folder();
    dc_text_free(&merges);
    json_decref(vocab);
}

/* tokenizer.json alone: merges as lines and as pairs; its special tokens count. */
static void one_file_for_all(void **state)
{
    (void)state;
    json_t *root = golden("special.json"), *c, *usual = NULL;
    size_t i;
    json_array_foreach(json_object_get(root, "cases"), i, c) if (!strcmp(json_string_value(json_object_get(c, "name")), "SD 2")) usual = c;
    assert_non_null(usual);
    for (int pairs = 0; pairs < 2; pairs++) {
        dc_text merges = merge_lines(48894);
        json_t *list = json_array();
        for (char *line = strtok(merges.at, "\n"); line; line = strtok(NULL, "\n")) {
            const char *gap = strchr(line, ' ');
            json_array_append_new(list, pairs ? json_pack("[s%,s]", line, (size_t)(gap - line), gap + 1) : json_string(line));
        }
        json_t *whole = json_pack("{s:{s:s,s:s,s:o,s:o},s:[{s:i,s:s,s:b,s:b},{s:i,s:s,s:b,s:b},{s:i,s:s,s:b,s:b}]}", "model", "type", "BPE",
                                  "end_of_word_suffix", "</w>", "vocab", vocabulary(49408), "merges", list, "added_tokens", "id", 0, "content", "!",
                                  "normalized", 0, "special", 1, "id", 49406, "content", "<|startoftext|>", "normalized", 1, "special", 1, "id",
                                  49407, "content", "<|endoftext|>", "normalized", 1, "special", 1);
        assert_non_null(whole);
        write_json("tokenizer.json", whole);
        write_text("tokenizer_config.json", "{\"pad_token\": \"!\"}");
        dc_tokenizer *t = open_folder();
        check_case(t, json_object_get(root, "texts"), usual);
        dc_tokenizer_close(t);
        empty_folder();
        json_decref(whole);
        dc_text_free(&merges);
    }
    json_decref(root);
}

/* The default model's own, smaller vocabulary. */
static void the_default_model(void **state)
{
    (void)state;
    dc_error e = {0};
    dc_tokenizer *t = NULL;
    int32_t *ids;
    int n;
    if (dc_tokenizer_open(&t, ASSETS "/default/tokenizer", &e)) fail_msg("%s", e.text);
    assert_int_equal(dc_tokenizer_max_length(t), 24);
    assert_int_equal(dc_tokenizer_start(t), 8190);
    assert_int_equal(dc_tokenizer_end(t), 8191);
    assert_int_equal(dc_tokenizer_vocab_size(t), 8192);
    assert_string_equal(dc_tokenizer_token(t, 8191), "<|endoftext|>");
    assert_null(dc_tokenizer_token(t, 8192));
    assert_null(dc_tokenizer_token(t, -1));
    const int32_t want[] = {320, 736, 3055, 267, 578, 531, 1844}; /* transformers 5.23 */
    assert_int_equal(dc_tokenize(t, "a red apple, noto style", 23, &ids, &n, &e), DC_OK);
    assert_int_equal(n, 7);
    assert_memory_equal(ids, want, sizeof want);
    free(ids);
    dc_tokenizer_close(t);
}

/* ---- padding, limits ------------------------------------------------------------------------------------------------------ */

static void padding_and_cutting(void **state)
{
    (void)state;
    dc_error e = {0};
    int32_t out[78];
    int cut = -1;
    dc_tokenizer *t = open_merges();
    assert_int_equal(dc_tokenizer_max_length(t), 77);
    out[77] = -5;
    assert_int_equal(dc_tokenize_padded(t, "a red apple", 77, out, &cut, &e), DC_OK);
    const int32_t want[] = {49406, 320, 736, 3055, 49407};
    assert_memory_equal(out, want, sizeof want);
    for (int i = 5; i < 77; i++) assert_int_equal(out[i], 49407);
    assert_int_equal(out[77], -5);
    assert_int_equal(cut, 0);

    assert_int_equal(dc_tokenize_padded(t, "a red apple", 5, out, &cut, &e), DC_OK); /* just fits */
    assert_memory_equal(out, want, sizeof want);
    assert_int_equal(cut, 0);
    assert_int_equal(dc_tokenize_padded(t, "a red apple", 4, out, &cut, &e), DC_OK);
    const int32_t shorter[] = {49406, 320, 736, 49407};
    assert_memory_equal(out, shorter, sizeof shorter);
    assert_int_equal(cut, 1);
    assert_int_equal(dc_tokenize_padded(t, "a red apple", 2, out, NULL, &e), DC_OK);
    assert_int_equal(out[0], 49406);
    assert_int_equal(out[1], 49407);
    assert_int_equal(dc_tokenize_padded(t, "", 3, out, &cut, &e), DC_OK);
    assert_int_equal(out[1], 49407);
    assert_int_equal(out[2], 49407);
    assert_int_equal(dc_tokenize_padded(t, "a", 1, out, &cut, &e), DC_USAGE);
    dc_tokenizer_close(t);
}

static void sd2_pads_with_zero(void **state)
{
    (void)state;
    json_t *vocab = vocabulary(600);
    dc_text merges = merge_lines(86);
    dc_error e = {0};
    int32_t out[6];
    write_json("vocab.json", vocab);
    write_bytes("merges.txt", merges.at, merges.length);
    write_text("tokenizer_config.json", "{\"pad_token\": {\"content\": \"!\"}}");
    dc_tokenizer *t = open_folder();
    assert_int_equal(dc_tokenize_padded(t, "b", 6, out, NULL, &e), DC_OK);
    const int32_t want[] = {598, 321, 599, 0, 0, 0};
    assert_memory_equal(out, want, sizeof want);
    dc_tokenizer_close(t);
    empty_folder();
    dc_text_free(&merges);
    json_decref(vocab);
}

/* 64 KiB of anything takes no noticeable time: quadratic work here would be billions of steps. */
static void long_texts_take_no_long_time(void **state)
{
    (void)state;
    enum { N = 64 * 1024 };
    static const struct {
        const char *unit;
        int ids; /* of the whole text; 0: not looked at */
    } cases[] = {
        {"a", 0},
        {"abdgachjei", 0},
        {"a ", N / 2},
        {"<", 0},
        {"'", 0},
        {"<|startoftext", 0},
        {"\xcc\x81\xcc\xa3", 0},
        {"\xf0\x9f\x98\x80", 0},
        {"<|endoftext|>", N / 13},
        {"\xef\xac\xac", 0},
    };
    dc_tokenizer *t = open_merges();
    char *text = malloc(N);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        dc_error e = {0};
        int32_t *ids;
        int n;
        size_t size = strlen(cases[k].unit), length = 0;
        for (; length + size <= N; length += size) memcpy(text + length, cases[k].unit, size);
        clock_t began = clock();
        if (dc_tokenize(t, text, length, &ids, &n, &e)) fail_msg("%s", e.text);
        double seconds = (double)(clock() - began) / CLOCKS_PER_SEC;
        if (seconds > 0.5) fail_msg("%s...: %.2f s", cases[k].unit, seconds);
        if (cases[k].ids) assert_int_equal(n, cases[k].ids);
        assert_true(n > 100);
        free(ids);
    }
    free(text);
    dc_tokenizer_close(t);
}

/* Golden: tests/gen/clip_clean.py; of ids their sum, little-endian. */
static void texts_are_cleaned_as_open_clip_does(void **state)
{
    (void)state;
    json_t *all = golden("clean.json"), *row;
    size_t i;
    dc_tokenizer *t = open_merges();
    dc_tokenizer_clean_texts(t);
    assert_int_equal(json_array_size(all), 120);
    json_array_foreach(all, i, row)
    {
        dc_error e = {0};
        int32_t *ids = NULL;
        int n = 0;
        const char *s = json_string_value(json_array_get(row, 0));
        if (dc_tokenize(t, s, json_string_length(json_array_get(row, 0)), &ids, &n, &e)) fail_msg("\"%s\": %s", s, e.text);
        uLong crc = crc32(0, NULL, 0);
        for (int k = 0; k < n; k++) {
            const uint32_t v = (uint32_t)ids[k];
            crc = crc32(crc, (const Bytef[]){(Bytef)v, (Bytef)(v >> 8), (Bytef)(v >> 16), (Bytef)(v >> 24)}, 4);
        }
        if (n != json_integer_value(json_array_get(row, 1)) || crc != (uLong)json_integer_value(json_array_get(row, 2)))
            fail_msg("\"%s\": %d ids, or others than expected", s, n);
        free(ids);
    }
    json_decref(all);
    static const char *const units[] = {"&amp;amp;", "&#111", "\xce\xa3'", "a\xce\xa3''", "\xef\xac\x83", "\xef\xbd\xb6", "&"};
    char *text = malloc(65536);
    for (size_t k = 0; k < sizeof units / sizeof *units; k++) {
        dc_error e = {0};
        int32_t *ids;
        int n;
        size_t size = strlen(units[k]), length = 0;
        for (; length + size <= 65536; length += size) memcpy(text + length, units[k], size);
        clock_t began = clock();
        if (dc_tokenize(t, text, length, &ids, &n, &e)) fail_msg("%s", e.text);
        double seconds = (double)(clock() - began) / CLOCKS_PER_SEC;
        print_message("%s...: %.2f s\n", units[k], seconds);
        if (seconds > 5) fail_msg("%s...: %.2f s, as what grows with the square of the length takes", units[k], seconds);
        free(ids);
    }
    free(text);
    dc_tokenizer_close(t);
}

static void bad_texts_are_refused(void **state)
{
    (void)state;
    dc_tokenizer *t = open_merges();
    int32_t *ids;
    int n;
    static const char *const bad[] = {"\xff", "caf\xe9", "\xed\xa0\x80", "\xc0\x80", "abc\xf0\x9f\x8d"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        dc_error e = {0};
        assert_int_equal(dc_tokenize(t, bad[i], strlen(bad[i]), &ids, &n, &e), DC_USAGE);
        assert_null(ids);
        assert_non_null(strstr(e.text, "UTF-8"));
    }
    char *large = malloc(65537);
    memset(large, ' ', 65537);
    dc_error e = {0};
    assert_int_equal(dc_tokenize(t, large, 65537, &ids, &n, &e), DC_USAGE);
    assert_non_null(strstr(e.text, "65537"));
    e = (dc_error){0};
    assert_int_equal(dc_tokenize(t, large, 65536, &ids, &n, &e), DC_OK);
    assert_int_equal(n, 0);
    free(ids);
    free(large);
    dc_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_transformers),
        cmocka_unit_test(odd_characters),
        cmocka_unit_test(special_tokens_are_what_the_files_say),
        cmocka_unit_test(numbers_without_end),
        cmocka_unit_test(one_file_for_all),
        cmocka_unit_test(the_default_model),
        cmocka_unit_test(padding_and_cutting),
        cmocka_unit_test(sd2_pads_with_zero),
        cmocka_unit_test(long_texts_take_no_long_time),
        cmocka_unit_test(texts_are_cleaned_as_open_clip_does),
        cmocka_unit_test(bad_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
