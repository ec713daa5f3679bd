/* The tokenizer against transformers 5's CLIPTokenizer. Golden: tests/golden/clip/ids.json, ids with start and end token, cut to 77. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h> /* wants those above first */

#include "base/json.h"
#include "clip/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MERGES ASSETS "/clip_merges.txt.gz"

static dc_tokenizer *open_merges(void)
{
    dc_error e = {0};
    dc_tokenizer *t = NULL;
    if (dc_tokenizer_open_merges(&t, MERGES, 49408, &e)) fail_msg("%s", e.text);
    return t;
}

static void check_ids(const dc_tokenizer *t, const char *text, const json_t *want)
{
    dc_error e = {0};
    int32_t *ids = NULL;
    int n = 0;
    if (dc_tokenize(t, text, strlen(text), &ids, &n, &e)) fail_msg("%s: %s", text, e.text);
    if (n > 75) n = 75;
    if ((size_t)n + 2 != json_array_size(want)) fail_msg("%s: %d ids, want %zu", text, n, json_array_size(want) - 2);
    for (int i = 0; i < n; i++)
        if (ids[i] != json_integer_value(json_array_get(want, (size_t)i + 1))) fail_msg("%s: id %d differs", text, i);
    free(ids);
}

static void ids_are_those_of_transformers(void **state)
{
    (void)state;
    dc_error e = {0};
    json_t *all = NULL, *entry;
    size_t i;
    dc_tokenizer *t = open_merges();
    if (dc_json_read(&all, TEST_DATA "/golden/clip/ids.json", 1u << 20, &e)) fail_msg("%s", e.text);
    assert_int_equal(json_array_size(all), 453);
    json_array_foreach(all, i, entry) check_ids(t, json_string_value(json_object_get(entry, "text")), json_object_get(entry, "ids"));
    json_decref(all);
    dc_tokenizer_close(t);
}

static void padding_and_cutting(void **state)
{
    (void)state;
    dc_error e = {0};
    int32_t out[77];
    int cut = -1;
    dc_tokenizer *t = open_merges();
    assert_int_equal(dc_tokenizer_max_length(t), 77);
    assert_int_equal(dc_tokenize_padded(t, "a red apple", 77, out, &cut, &e), DC_OK);
    const int32_t want[] = {49406, 320, 736, 3055, 49407};
    assert_memory_equal(out, want, sizeof want);
    for (int i = 5; i < 77; i++) assert_int_equal(out[i], dc_tokenizer_pad(t));
    assert_int_equal(cut, 0);
    assert_int_equal(dc_tokenize_padded(t, "one two three four five", 5, out, &cut, &e), DC_OK);
    assert_int_equal(out[0], 49406);
    assert_int_equal(out[4], 49407);
    assert_int_equal(cut, 2);
    dc_tokenizer_close(t);
}

static void long_words_take_no_long_time(void **state)
{
    (void)state;
    dc_error e = {0};
    enum { N = 60000 };
    char *text = malloc(N + 1);
    int32_t *ids;
    int n;
    dc_tokenizer *t = open_merges();
    for (int i = 0; i < N; i++) text[i] = "abcdefghij"[i * 7 % 10];
    text[N] = 0;
    clock_t began = clock();
    assert_int_equal(dc_tokenize(t, text, N, &ids, &n, &e), DC_OK);
    assert_true((double)(clock() - began) / CLOCKS_PER_SEC < 5); /* a quadratic merge takes minutes */
    assert_true(n > 1000);
    free(ids);
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
    }
    char *large = malloc(70000);
    memset(large, 'a', 70000);
    dc_error e = {0};
    assert_int_equal(dc_tokenize(t, large, 70000, &ids, &n, &e), DC_USAGE);
    free(large);
    dc_tokenizer_close(t);
}

/* ---- folders ------------------------------------------------------------------------------------------------------------- */

static void folders_read_as_transformers_reads_them(void **state)
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
    const int32_t want[] = {320, 736, 3055, 267, 578, 531, 1844}; /* transformers 5.23 */
    assert_int_equal(dc_tokenize(t, "a red apple, noto style", 23, &ids, &n, &e), DC_OK);
    assert_int_equal(n, 7);
    assert_memory_equal(ids, want, sizeof want);
    free(ids);
    dc_tokenizer_close(t);
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void remove_folder(const char *folder)
{
    char path[256];
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer_config.json"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void refused(const char *vocab, const char *merges, dc_status want)
{
    char folder[] = "/tmp/diffc-test-XXXXXX";
    dc_error e = {0};
    dc_tokenizer *t = NULL;
    assert_non_null(mkdtemp(folder));
    if (vocab) write_file(folder, "vocab.json", vocab);
    if (merges) write_file(folder, "merges.txt", merges);
    dc_status s = dc_tokenizer_open(&t, folder, &e);
    remove_folder(folder);
    if (s != want) fail_msg("%s / %s: status %d (%s), want %d", vocab ? vocab : "-", merges ? merges : "-", s, e.text, want);
    assert_true(strlen(e.text) > 10);
    assert_null(t);
}

static void broken_folders_are_refused(void **state)
{
    (void)state;
    refused(NULL, NULL, DC_NO_INPUT);
    refused("", "", DC_DATA);
    refused("[]", "", DC_DATA);
    refused("{\"a\": 0, \"b\": 0}", "", DC_DATA);
    refused("{\"a\": 0, \"b\": 2}", "", DC_DATA);
    refused("{\"a\": 0, \"b\": -1}", "", DC_DATA);
    refused("{\"a\": \"0\"}", "", DC_DATA);
    refused("{\"a\": 0, \"a\": 1}", "", DC_DATA);
    refused("{\"a\": 0}", "", DC_DATA); /* not all bytes */
}

/* The whole vocabulary as vocab.json, with the merges given. */
static void broken_merges_are_refused(void **state)
{
    (void)state;
    dc_tokenizer *t = open_merges();
    json_t *vocab = json_object();
    for (int id = 0; id < dc_tokenizer_vocab_size(t); id++) json_object_set_new(vocab, dc_tokenizer_token(t, id), json_integer(id));
    char *text = json_dumps(vocab, 0);
    refused(text, NULL, DC_NO_INPUT);
    refused(text, "#version: 0.2\nonlyone\n", DC_DATA);
    refused(text, "i nnnnnnn\n", DC_DATA);
    refused(text, "zzz qqq\n", DC_DATA);
    free(text);
    json_decref(vocab);
    dc_tokenizer_close(t);
    dc_error e = {0};
    assert_int_equal(dc_tokenizer_open_merges(&t, "/nonexistent.gz", 49408, &e), DC_NO_INPUT);
    e = (dc_error){0};
    assert_int_equal(dc_tokenizer_open_merges(&t, MERGES, 100, &e), DC_DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ids_are_those_of_transformers), cmocka_unit_test(padding_and_cutting), cmocka_unit_test(long_words_take_no_long_time),
                                       cmocka_unit_test(bad_texts_are_refused), cmocka_unit_test(folders_read_as_transformers_reads_them),
                                       cmocka_unit_test(broken_folders_are_refused), cmocka_unit_test(broken_merges_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
