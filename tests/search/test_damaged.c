/* Index files that are cut, changed, or made to do harm: refused with a message or read as what they say, never a crash; --rebuild helps always. */
#include "fake.h"
#include <fcntl.h>
#include <sqlite3.h>

static void make_index(void)
{
    fake f = {0};
    for (int i = 0; i < 20; i++) {
        char name[20], text[40];
        snprintf(name, sizeof name, "%02d.jpg", i);
        snprintf(text, sizeof text, "%.*s%c", 1 + i % 5, "aaaaaaaa", 'b' + i % 14);
        put(name, text);
    }
    update(&f);
}

/* Everything that reads. The first error, and its text. */
static char said[1024];
static diffc_status use(void)
{
    diffc_index *x;
    diffc_error e = {0};
    said[0] = 0;
    diffc_status s = diffc_index_open(&x, NULL, folder, &(diffc_options){.threads = 1}, &e);
    if (!s) {
        fake f = {0};
        diffc_embedder m = fake_embedder(&f);
        const char *text = "ab";
        diffc_query q = {.add = &text, .n_add = 1, .threshold = -2};
        diffc_matches r = {0};
        diffc_duplicates d = {0};
        diffc_index_info i;
        s = diffc_search(x, &m, &q, 1, &r, &e);
        if (!s) s = diffc_index_about(x, &i, &e);
        if (!s) s = diffc_index_duplicates(x, 0.01, NULL, NULL, &d, &e);
        if (!s) s = diffc_index_check(x, &e);
        diffc_matches_free(&r);
        diffc_duplicates_free(&d);
    }
    diffc_index_close(x);
    assert_int_equal(s, e.code);
    assert_true(!s || strstr(e.text, folder));
    snprintf(said, sizeof said, "%s", e.text);
    return s;
}

static diffc_status use_writing(bool rebuild)
{
    fake f = {0};
    diffc_error e = {0};
    diffc_embedder m = fake_embedder(&f);
    return diffc_index_update(&(diffc_index_options){.root = folder, .rebuild = rebuild}, &m, NULL, &e);
}

static void expect_helped(void)
{
    assert_int_equal(use_writing(true), DIFFC_OK);
    assert_int_equal(use(), DIFFC_OK);
    expect_index(20, 0);
}

static bool expected_code(diffc_status s) { return s == DIFFC_DATA || s == DIFFC_IO || s == DIFFC_NO_INPUT || s == DIFFC_DENIED || s == DIFFC_USAGE; }

static void write_bytes(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(in_folder(name), "wb");
    assert_true(f && fwrite(bytes, 1, n, f) == n && !fclose(f));
}

static void vectors_cut_or_changed(void **state)
{
    (void)state;
    char *whole;
    size_t n;
    make_index();
    assert_int_equal(dc_read_file(in_folder(".diffc/vectors.1"), 1 << 20, &whole, &n, NULL), DC_OK);
    assert_int_equal(n, 64 + 20 * 64);
    static const size_t cut[] = {0, 1, 63, 64, 65, 64 + 19 * 64, 64 + 20 * 64 - 1};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        write_bytes(".diffc/vectors.1", whole, cut[i]);
        assert_int_equal(use(), DIFFC_DATA);
        assert_non_null(strstr(said, cut[i] < 64 ? "another header" : "expected at least 1344 for 20 vectors"));
        assert_int_equal(use_writing(false), DIFFC_DATA);
    }
    for (size_t at = 0; at < n; at += at < 64 ? 1 : 37) { /* a bit, anywhere */
        whole[at] ^= 4;
        write_bytes(".diffc/vectors.1", whole, n);
        whole[at] ^= 4;
        assert_int_equal(use(), DIFFC_DATA);
    }
    write_bytes(".diffc/vectors.1", whole, n);
    assert_int_equal(use(), DIFFC_OK);
    FILE *f = fopen(in_folder(".diffc/vectors.1"), "ab"); /* rows that were never counted */
    assert_true(f && fwrite(whole, 1, 500, f) == 500 && !fclose(f));
    assert_int_equal(use(), DIFFC_OK);
    assert_int_equal(use_writing(false), DIFFC_OK);
    struct stat st;
    assert_int_equal(stat(in_folder(".diffc/vectors.1"), &st), 0);
    assert_int_equal(st.st_size, n);
    unlink(in_folder(".diffc/vectors.1"));
    assert_int_equal(use(), DIFFC_NO_INPUT);
    assert_int_equal(use_writing(false), DIFFC_DATA);
    expect_helped();
    free(whole);
}

static void vectors_cut_while_they_are_mapped(void **state)
{
    (void)state;
    fake f = {0};
    put("a.jpg", "ab"), put("b.jpg", "bc");
    update(&f);
    diffc_index *x = open_index();
    diffc_embedder m = fake_embedder(&f);
    const char *text = "ab";
    diffc_query q = {.add = &text, .n_add = 1, .threshold = -2};
    diffc_matches r;
    diffc_error e = {0};
    assert_int_equal(truncate(in_folder(".diffc/vectors.1"), 0), 0);
    assert_int_equal(diffc_search(x, &m, &q, 1, &r, &e), DIFFC_IO);
    diffc_index_close(x);
}

static void a_database_cut_or_changed(void **state)
{
    (void)state;
    char *whole;
    size_t n;
    uint64_t random = 3;
    make_index();
    assert_int_equal(dc_read_file(in_folder(".diffc/index.sqlite"), 1 << 20, &whole, &n, NULL), DC_OK);
    for (size_t cut = 0; cut < n; cut += cut < 200 ? 20 : 1999) {
        write_bytes(".diffc/index.sqlite", whole, cut);
        assert_true(expected_code(use()));
        const diffc_status s =
            use_writing(false); /* an empty file is an empty database, and a run with nothing to do may miss a page that is missing */
        assert_true(!s || expected_code(s));
        unlink(in_folder(".diffc/index.sqlite-wal")), unlink(in_folder(".diffc/index.sqlite-shm"));
    }
    for (int i = 0; i < 400; i++) {
        char *changed = malloc(n);
        assert_non_null(changed);
        memcpy(changed, whole, n);
        for (int k = i % 4; k >= 0; k--) {
            random = random * 6364136223846793005ull + 1442695040888963407ull;
            const size_t page = (size_t)(random >> 40) % (n / 4096),
                         at = (size_t)(random >> 20) % (k % 2 ? 4096 : 64); /* headers of pages more often */
            changed[page * 4096 + at] = (char)(random >> 11);
        }
        write_bytes(".diffc/index.sqlite", changed, n);
        diffc_status s = use();
        assert_true(!s || expected_code(s));
        if (i % 4 == 0) {
            s = use_writing(false);
            assert_true(!s || expected_code(s) || s == DIFFC_NO_CREATE || s == DIFFC_INTERNAL);
            unlink(in_folder(".diffc/index.sqlite-wal")), unlink(in_folder(".diffc/index.sqlite-shm"));
        }
        free(changed);
    }
    write_bytes(".diffc/index.sqlite", "this is not a database, however long one looks at it", 50);
    assert_int_equal(use(), DIFFC_DATA);
    assert_non_null(strstr(said, "found a damaged index"));
    expect_helped();
    free(whole);
}

/* Databases that are whole, and not what diffc writes. */
static void made_to_do_harm(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        diffc_status code; /* of reading; of writing it is not 0 either, but for what a run repairs */
        bool repaired;
    } tricks[] = {
        {"CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM vectors; END", DIFFC_DATA, false},
        {"CREATE VIEW v AS SELECT 1", DIFFC_DATA, false},
        {"CREATE TABLE more(x)", DIFFC_DATA, false},
        {"DROP INDEX files_row", DIFFC_DATA, false},
        {"DROP TABLE dead; CREATE VIEW dead AS SELECT 1 AS row", DIFFC_DATA, false},
        {"DROP TABLE meta", DIFFC_DATA, false},
        {"UPDATE meta SET value = 4611686018427387904 WHERE key = 'rows'", DIFFC_DATA, false},
        {"UPDATE meta SET value = -1 WHERE key = 'rows'", DIFFC_DATA, false},
        {"UPDATE meta SET value = 21 WHERE key = 'rows'", DIFFC_DATA, false},
        {"UPDATE meta SET value = 'many' WHERE key = 'rows'", DIFFC_DATA, false},
        {"UPDATE meta SET value = 5 WHERE key = 'rows'", DIFFC_DATA, false},
        {"UPDATE meta SET value = 0 WHERE key = 'dims'", DIFFC_DATA, false},
        {"UPDATE meta SET value = 2147483647 WHERE key = 'dims'", DIFFC_DATA, false},
        {"UPDATE meta SET value = 17 WHERE key = 'dims'", DIFFC_DATA, false},
        {"UPDATE meta SET value = 2 WHERE key = 'generation'", DIFFC_NO_INPUT, false},
        {"UPDATE meta SET value = -1 WHERE key = 'generation'", DIFFC_DATA, false},
        {"DELETE FROM meta WHERE key = 'model'", DIFFC_DATA, false},
        {"UPDATE meta SET value = NULL WHERE key = 'model'", DIFFC_DATA, false},
        {"UPDATE meta SET value = x'660061' WHERE key = 'model'", DIFFC_DATA, false},
        {"UPDATE meta SET value = zeroblob(900000) WHERE key = 'model'", DIFFC_DATA, false},
        {"UPDATE meta SET value = 'other' WHERE key = 'model'", DIFFC_USAGE, false},
        {"UPDATE files SET path = CAST('../../etc/passwd' AS BLOB) WHERE id = 1", DIFFC_DENIED, false},
        {"UPDATE files SET path = CAST('/etc/passwd' AS BLOB) WHERE id = 1", DIFFC_DENIED, false},
        {"UPDATE files SET path = CAST('a/./b' AS BLOB) WHERE id = 1", DIFFC_DENIED, false},
        {"UPDATE files SET path = x'610062' WHERE id = 1", DIFFC_DATA, false},
        {"UPDATE files SET path = x'' WHERE id = 1", DIFFC_DATA, false},
        {"UPDATE files SET path = zeroblob(100000) WHERE id = 1", DIFFC_DATA, false},
        {"UPDATE files SET row = 20 WHERE id = 1", DIFFC_DATA, false},
        {"UPDATE files SET row = -2 WHERE id = 1", DIFFC_DATA, false},
        {"UPDATE files SET row = 9223372036854775807 WHERE id = 1", DIFFC_DATA, false},
        {"UPDATE files SET hash = x'00' WHERE id = 1", DIFFC_DATA, true},
        {"UPDATE vectors SET hash = x'00' WHERE row = 1", DIFFC_DATA, true},
        {"UPDATE vectors SET row = 1000 WHERE row = 1", DIFFC_DATA, true},
        {"UPDATE vectors SET sum = 'x' WHERE row = 1", DIFFC_DATA, true},
        {"DELETE FROM vectors", DIFFC_DATA, true},
        {"INSERT INTO dead VALUES(1)", DIFFC_DATA, true},
        {"INSERT INTO dead VALUES(20)", DIFFC_DATA, true},
        {"INSERT INTO dead VALUES(-1)", DIFFC_DATA, true},
        {"INSERT INTO dead VALUES(9223372036854775807)", DIFFC_DATA, true},
        {"UPDATE files SET id = 9223372036854775807 WHERE id = 20", DIFFC_OK, true},
        {"UPDATE files SET id = -id", DIFFC_OK, true},
        {"UPDATE files SET size = -1, modified = 1e300, width = -5, height = 99999999999, error = zeroblob(10) WHERE id = 1", DIFFC_OK, true},
        {"UPDATE files SET row = NULL, error = NULL WHERE id = 1; INSERT INTO dead VALUES(0)", DIFFC_OK, true},
        {"PRAGMA user_version = 7", DIFFC_OK, true},
    };
    char *whole, *vectors;
    size_t n, n_vectors;
    make_index();
    assert_int_equal(dc_read_file(in_folder(".diffc/index.sqlite"), 1 << 20, &whole, &n, NULL), DC_OK);
    assert_int_equal(dc_read_file(in_folder(".diffc/vectors.1"), 1 << 20, &vectors, &n_vectors, NULL), DC_OK);
    for (size_t i = 0; i < sizeof tricks / sizeof *tricks; i++) {
        sqlite3 *db;
        char *why = NULL;
        write_bytes(".diffc/index.sqlite", whole, n);
        write_bytes(".diffc/vectors.1", vectors, n_vectors);
        assert_int_equal(sqlite3_open(in_folder(".diffc/index.sqlite"), &db), SQLITE_OK);
        if (sqlite3_exec(db, tricks[i].sql, NULL, NULL, &why)) fail_msg("%s: %s", tricks[i].sql, why);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        diffc_status s = use();
        if (s != tricks[i].code) fail_msg("%s: %d %s", tricks[i].sql, s, said);
        s = use_writing(false);
        if (tricks[i].repaired ? s && s != DIFFC_DATA : !s) fail_msg("writing: %s: %d", tricks[i].sql, s);
    }
    expect_helped();
    free(whole), free(vectors);
}

static void what_is_in_the_place_of_an_index(void **state)
{
    (void)state;
    diffc_index *x;
    diffc_error e = {0};
    assert_int_equal(diffc_index_open(&x, NULL, folder, NULL, &e), DIFFC_NO_INPUT);
    assert_non_null(strstr(e.text, "found no .diffc there or in a folder around it"));
    assert_non_null(strstr(e.hint, "diffc index"));
    put(".diffc", "a file");
    e = (diffc_error){0};
    assert_int_equal(diffc_index_open(&x, in_folder(".diffc"), NULL, NULL, &e), DIFFC_NO_INPUT);
    assert_int_equal(use_writing(false), DIFFC_NO_CREATE);
    unlink(in_folder(".diffc"));
    put_folder(".diffc"), put_folder(".diffc/index.sqlite");
    assert_true(expected_code(use()));
    assert_int_not_equal(use_writing(false), DIFFC_OK);
    assert_int_equal(use_writing(true), DIFFC_NO_CREATE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(vectors_cut_or_changed), TEST(vectors_cut_while_they_are_mapped), TEST(a_database_cut_or_changed),
        TEST(made_to_do_harm),        TEST(what_is_in_the_place_of_an_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
