/* Tokenizer folders that are broken: each is refused with the right status and a message that says where. */
#include "tests/clip/folders.h"

/* The folder as it is now: `want` and a one-line message with `part`. */
static void refused_now(dc_status want, const char *part)
{
    dc_error e = {0};
    dc_tokenizer *t = NULL;
    dc_status s = dc_tokenizer_open(&t, folder, &e);
    if (s != want || e.code != want || !strstr(e.text, part)) fail_msg("status %d (%s), expected %d with \"%s\"", s, e.text, want, part);
    if (want == DC_DATA && !strstr(e.text, "JSON") && (!strstr(e.text, "found") || !strstr(e.text, "expected")))
        fail_msg("no \"found\" and \"expected\": %s", e.text);
    assert_null(strchr(e.text, '\n'));
    assert_null(t);
}

static void refused(const char *vocab, const char *merges, dc_status want, const char *part)
{
    empty_folder();
    if (vocab) write_text("vocab.json", vocab);
    if (merges) write_text("merges.txt", merges);
    refused_now(want, part);
    empty_folder();
}

/* A small good folder: 256 bytes, 256 with </w>, 86 merges, the special ones. */
static void write_good(void)
{
    json_t *vocab = vocabulary(600);
    dc_text merges = merge_lines(86);
    empty_folder();
    write_json("vocab.json", vocab);
    write_bytes("merges.txt", merges.at, merges.length);
    dc_text_free(&merges);
    json_decref(vocab);
}

static void bad_vocabularies(void **state)
{
    (void)state;
    refused(NULL, NULL, DC_NO_INPUT, "vocab.json");
    refused("", "", DC_DATA, "vocab.json");
    refused("{\"a\": 0", "", DC_DATA, "line 1");
    refused("[]", "", DC_DATA, "0 tokens");
    refused("{}", "", DC_DATA, "0 tokens");
    refused("{\"a\": 0, \"b\": 0}", "", DC_DATA, "id 0");
    refused("{\"a\": 0, \"b\": 2}", "", DC_DATA, "id 2");
    refused("{\"a\": 0, \"b\": -1}", "", DC_DATA, "id -1");
    refused("{\"a\": 0, \"b\": 4294967297}", "", DC_DATA, "id 4294967297");
    refused("{\"a\": \"0\"}", "", DC_DATA, "token a");
    refused("{\"a\": 0.0}", "", DC_DATA, "token a");
    refused("{\"a\": 0, \"a\": 1}", "", DC_DATA, "vocab.json");
    refused("{\"a\": 0}", "", DC_DATA, "all 256 bytes");
    json_t *vocab = vocabulary(600); /* one byte is missing: its place has another token */
    json_object_del(vocab, "~</w>");
    json_object_set_new(vocab, "nonsense", json_integer(256 + '~' - '!'));
    char *text = json_dumps(vocab, 0);
    refused(text, "", DC_DATA, "~</w>");
    free(text);
    json_decref(vocab);
}

static void tokens_of_any_length(void **state)
{
    (void)state;
    static char name[4098];
    for (int length = 4096; length <= 4097; length++) {
        write_good();
        json_t *vocab = vocabulary(600);
        memset(name, 'x', sizeof name);
        name[length] = 0;
        json_object_set_new(vocab, name, json_integer(600));
        write_json("vocab.json", vocab);
        json_decref(vocab);
        if (length > 4096) refused_now(DC_DATA, "4097 bytes");
        else dc_tokenizer_close(open_folder());
    }
    empty_folder();
}

static void bad_merges(void **state)
{
    (void)state;
    json_t *vocab = vocabulary(600);
    char *text = json_dumps(vocab, 0);
    refused(text, NULL, DC_NO_INPUT, "merges.txt");
    refused(text, "#version: 0.2\nonlyone\n", DC_DATA, "line 2");
    refused(text, "i n\n\nt hh\n", DC_DATA, "merge 3, of t and hh");
    refused(text, "i nnnnnnn\n", DC_DATA, "lacks");
    refused(text, "zzz qqq\n", DC_DATA, "lacks");
    refused(text, "~ }\n", DC_DATA, "lacks"); /* both known, not what they make */
    refused(text, " n\n", DC_DATA, "0 and 1 bytes");
    refused(text, "n \n", DC_DATA, "1 and 0 bytes");
    refused(text, "i n g\n", DC_DATA, "lacks");

    static char line[2 * 1000 * 1000];
    memset(line, 'x', 5000);
    line[2500] = ' ';
    refused(text, line, DC_DATA, "2500 and 2499 bytes");
    memset(line, '\n', (1 << 20) + 1); /* empty lines are fine, but not so many */
    line[(1 << 20) + 1] = 0;
    refused(text, line, DC_DATA, "lines");
    free(text);
    json_decref(vocab);
}

/* CR LF, "#version", empty lines and a missing last line feed change nothing. */
static void merges_of_any_shape(void **state)
{
    (void)state;
    static const char *const shapes[] = {"i n\nt h\na n\n", "#version: 0.2\ni n\nt h\na n", "i n\r\nt h\r\n\r\na n\r\n"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        dc_error e = {0};
        int32_t *ids;
        int n;
        write_good();
        write_text("merges.txt", shapes[i]);
        dc_tokenizer *t = open_folder();
        assert_int_equal(dc_tokenize(t, "thin", 4, &ids, &n, &e), DC_OK);
        assert_int_equal(n, 3); /* th, i, n</w>: the list ends with "in" inside a word */
        assert_string_equal(dc_tokenizer_token(t, ids[0]), "th");
        assert_string_equal(dc_tokenizer_token(t, ids[2]), "n</w>");
        free(ids);
        assert_int_equal(dc_tokenize(t, "anx", 3, &ids, &n, &e), DC_OK);
        assert_int_equal(n, 2);
        free(ids);
        dc_tokenizer_close(t);
    }
    empty_folder();
}

static void bad_settings(void **state)
{
    (void)state;
    static const struct {
        const char *file, *text, *part;
    } cases[] = {
        {"tokenizer_config.json", "{", "line 1"},
        {"tokenizer_config.json", "[]", "expected an object"},
        {"tokenizer_config.json", "{\"pad_token\": 7}", "pad_token"},
        {"tokenizer_config.json", "{\"pad_token\": {\"text\": \"!\"}}", "pad_token"},
        {"tokenizer_config.json", "{\"pad_token\": \"\"}", "0 bytes"},
        {"tokenizer_config.json", "{\"pad_token\": {\"content\": \"!\", \"single_word\": true}}", "single_word"},
        {"tokenizer_config.json", "{\"additional_special_tokens\": [3]}", "additional_special_tokens"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"!\"}}}", "found x"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"-1\": {\"content\": \"!\"}}}", "found -1"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"5\": {\"content\": \"!\"}}}", "id 5"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"602\": {\"content\": \"<new>\"}}}", "id 602"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"99999999999999999999\": {\"content\": \"<new>\"}}}", "<new>"},
        {"special_tokens_map.json", "{\"eos_token\": []}", "eos_token"},
        {"added_tokens.json", "{\"<new>\": \"600\"}", "<new>"},
        {"added_tokens.json", "{\"<new>\": 601}", "id 601"},
        {"added_tokens.json", "{\"<new>\": -600}", "<new>"},
        {"tokenizer.json", "{\"added_tokens\": [{\"content\": \"<new>\"}]}", "added_tokens"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_good();
        dc_tokenizer_close(open_folder());
        write_text(cases[i].file, cases[i].text);
        refused_now(DC_DATA, cases[i].part);
    }
    empty_folder();
}

static void too_many_special_tokens(void **state)
{
    (void)state;
    for (int more = 0; more < 2; more++) {
        json_t *added = json_object();
        char name[32];
        for (int i = 0; i < 1022 + more; i++) {
            snprintf(name, sizeof name, "<new-%d>", i);
            json_object_set_new(added, name, json_integer(600 + i));
        }
        write_good();
        write_json("added_tokens.json", added);
        json_decref(added);
        if (more) {
            refused_now(DC_DATA, "1024");
        } else {
            dc_error e = {0};
            int32_t *ids;
            int n;
            dc_tokenizer *t = open_folder();
            assert_int_equal(dc_tokenizer_vocab_size(t), 1622);
            assert_int_equal(dc_tokenize(t, "<NEW-1021>s", 11, &ids, &n, &e), DC_OK);
            assert_int_equal(n, 2);
            assert_int_equal(ids[0], 1621);
            free(ids);
            dc_tokenizer_close(t);
        }
    }
    empty_folder();
}

static void bad_tokenizer_json(void **state)
{
    (void)state;
    static const struct {
        const char *type, *suffix, *merges, *part;
    } cases[] = {
        {"WordPiece", "</w>", "[]", "WordPiece"}, {"BPE", "", "[]", "end_of_word_suffix"},     {"BPE", "</w>", "{}", "array"},
        {"BPE", "</w>", "[\"in\"]", "line 1"},    {"BPE", "</w>", "[[\"i\"]]", "merge 1"},     {"BPE", "</w>", "[[\"i\",\"n\",\"g\"]]", "merge 1"},
        {"BPE", "</w>", "[7]", "merge 1"},        {"BPE", "</w>", "[[\"~\",\"}\"]]", "lacks"}, {"BPE", "</w>", "[\"i n\"]", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *merges = json_loads(cases[i].merges, 0, NULL);
        json_t *whole = json_pack("{s:{s:s,s:s,s:o,s:o}}", "model", "type", cases[i].type, "end_of_word_suffix", cases[i].suffix, "vocab",
                                  vocabulary(600), "merges", merges);
        empty_folder();
        write_json("tokenizer.json", whole);
        json_decref(whole);
        if (cases[i].part) refused_now(DC_DATA, cases[i].part);
        else dc_tokenizer_close(open_folder());
    }
    empty_folder();
    write_text("tokenizer.json", "{}");
    refused_now(DC_DATA, "BPE");
    empty_folder();
}

/* ---- the packed list -------------------------------------------------------------------------------------------------------- */

static void packed(const char *what, const char *path, int size, dc_status want)
{
    dc_error e = {0};
    dc_tokenizer *t = NULL;
    dc_status s = dc_tokenizer_open_merges(&t, path, size, &e);
    if (s != want) fail_msg("%s: status %d (%s), expected %d", what, s, e.text, want);
    assert_true((t != NULL) == (want == DC_OK));
    dc_tokenizer_close(t);
}

static void bad_packed_lists(void **state)
{
    (void)state;
    char path[128];
    static char bytes[300000];
    packed("missing", "/nonexistent.gz", 49408, DC_NO_INPUT);
    packed("no room for bytes", MERGES, 513, DC_DATA);
    packed("no merges", MERGES, 514, DC_OK);
    packed("all", MERGES, 49408, DC_OK);
    packed("one too many", MERGES, 49409, DC_DATA);
    packed("absurd", MERGES, INT32_MAX, DC_DATA);
    packed("negative", MERGES, -1, DC_DATA);

    FILE *f = fopen(MERGES, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_true(n > 100000 && n < sizeof bytes);
    snprintf(path, sizeof path, "%s/merges.gz", folder);
    write_bytes("merges.gz", bytes, n);
    packed("a copy", path, 600, DC_OK);
    write_bytes("merges.gz", bytes, n - 1); /* even when what is wanted came before the end */
    packed("cut short", path, 600, DC_DATA);
    write_bytes("merges.gz", bytes, n / 2);
    packed("cut in half", path, 600, DC_DATA);
    bytes[n / 2] ^= 1;
    write_bytes("merges.gz", bytes, n);
    packed("a bit flipped", path, 600, DC_DATA);
    write_bytes("merges.gz", "i n\nnonsense\n", 13);
    packed("a line without two tokens", path, 516, DC_DATA);
    write_bytes("merges.gz", "", 0);
    packed("empty", path, 515, DC_DATA);
    empty_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_vocabularies),    cmocka_unit_test(tokens_of_any_length), cmocka_unit_test(bad_merges),
        cmocka_unit_test(merges_of_any_shape), cmocka_unit_test(bad_settings),         cmocka_unit_test(too_many_special_tokens),
        cmocka_unit_test(bad_tokenizer_json),  cmocka_unit_test(bad_packed_lists),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
