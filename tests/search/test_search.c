/* Asking an index: grammar of queries, order, cuts, duplicates, sheets, vectors out and in. */
#include "base/half.h"
#include "base/npy.h"
#include "fake.h"
#include "image/image.h"
#include "search/knn.h"
#include "search/query.h"
#include "search/update.h"
#include <math.h>

static uint64_t random_state = 1;
static double random_double(void) /* uniform in [-1, 1) */
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(int32_t)(random_state >> 32) * 0x1p-31;
}

/* ---- exactly the nearest -------------------------------------------------------------------------------------------------- */

enum { ROWS = 9000, WIDTH = 64, QUERIES = 5 };

static void the_nearest_are_those_of_a_plain_loop(void **state)
{
    (void)state;
    uint16_t *rows = malloc(sizeof *rows * ROWS * WIDTH);
    uint8_t dead[ROWS / 8 + 1] = {0};
    float query[QUERIES * WIDTH];
    assert_non_null(rows);
    for (int i = 0; i < ROWS * WIDTH; i++) rows[i] = dc_f32_to_f16((float)random_double() / 8);
    for (int i = 0; i < QUERIES * WIDTH; i++) query[i] = (float)random_double() / 8;
    for (int i = 0; i < 50; i++) memcpy(rows + (100 + i * 150) * WIDTH, rows + 77 * WIDTH, 2 * WIDTH); /* ties */
    for (int k = 0; k < WIDTH; k++) query[k] = dc_f16_to_f32(rows[77 * WIDTH + k]);                    /* the first query is that row */
    for (int i = 0; i < ROWS; i += 7) dead[i / 8] |= (uint8_t)(1 << i % 8);
    dead[77 / 8] &= (uint8_t) ~(1 << 77 % 8);
    dc_device *d;
    assert_int_equal(dc_device_open(&d, &(dc_device_options){.threads = 2}, NULL), DC_OK);
    static const int tops[] = {1, 10, 51, 0};
    for (int t = 0; t < 4; t++) {
        dc_hits hits[QUERIES];
        const dc_knn k = {d, rows, ROWS, WIDTH, dead, query, QUERIES, tops[t], -2, 0, true};
        assert_int_equal(dc_knn_run(&k, hits, NULL), DC_OK);
        for (int q = 0; q < QUERIES; q++) {
            double last = INFINITY, sum = 0;
            int live = 0;
            for (int i = 0; i < hits[q].n; i++) {
                assert_false(dead[hits[q].hit[i].row / 8] >> hits[q].hit[i].row % 8 & 1);
                assert_true(hits[q].hit[i].score < last || (hits[q].hit[i].score == last && hits[q].hit[i].row > hits[q].hit[i - 1].row));
                last = hits[q].hit[i].score;
            }
            int better = 0; /* rows that are surely above the last score: all of them are there */
            for (int r = 0; r < ROWS; r++) {
                if (dead[r / 8] >> r % 8 & 1) continue;
                double dot = 0;
                for (int i = 0; i < WIDTH; i++) dot += (double)dc_f16_to_f32(rows[r * WIDTH + i]) * query[q * WIDTH + i];
                sum += dot;
                live++;
                better += dot > last + 1e-7;
            }
            assert_true(hits[q].n >= better && (!tops[t] ? hits[q].n == live : hits[q].n >= tops[t]));
            assert_true(better < (tops[t] ? tops[t] : live + 1));
            assert_int_equal(hits[q].live, live);
            assert_true(fabs(hits[q].mean - sum / live) < 1e-7);
            free(hits[q].hit);
        }
    }
    dc_hits one; /* ties of the last one wanted are all there */
    const dc_knn k = {d, rows, ROWS, WIDTH, NULL, query, 1, 3, -2, 0, false};
    assert_int_equal(dc_knn_run(&k, &one, NULL), DC_OK);
    assert_int_equal(one.n, 51);
    assert_int_equal(one.hit[0].row, 77);
    assert_int_equal(one.hit[50].row, 7450);
    free(one.hit);
    dc_device_close(d);
    free(rows);
}

/* ---- grammar ---------------------------------------------------------------------------------------------------------------- */

static void terms(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        double weight;
        bool image;
        const char *text;
    } good[] = {
        {"cat", 1, false, "cat"},
        {"2:cat", 2, false, "cat"},
        {"0.5:./x.jpg", 0.5, true, "./x.jpg"},
        {".25:a b", 0.25, false, "a b"},
        {"./cat", 1, true, "./cat"},
        {"/tmp/x", 1, true, "/tmp/x"},
        {"../x.png", 1, true, "../x.png"},
        {"@x.png", 1, true, "x.png"},
        {"3:@-", 3, true, "-"},
        {"nofile.jpg", 1, false, "nofile.jpg"},
        {"1.:cat", 1, false, "1.:cat"},
        {":cat", 1, false, ":cat"},
        {"12", 1, false, "12"},
        {"1:2:cat", 1, false, "2:cat"},
        {"-1:cat", 1, false, "-1:cat"},
        {"1e3:cat", 1, false, "1e3:cat"},
        {"0:cat", 0, false, "cat"},
        {"a@b", 1, false, "a@b"},
    };
    static const char *const bad[] = {"", "2:", "@", "2:@", "99999999999999999999:cat"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        dc_term_of_query t;
        dc_error e = {0};
        assert_int_equal(dc_term_parse(good[i].word, &t, &e), DC_OK);
        assert_true(t.weight == good[i].weight && t.image == good[i].image);
        assert_string_equal(t.text, good[i].text);
        assert_ptr_equal(diffc_term_picture(good[i].word), t.image ? t.text : NULL);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        dc_term_of_query t;
        dc_error e = {0};
        assert_int_equal(dc_term_parse(bad[i], &t, &e), DC_USAGE);
        assert_null(diffc_term_picture(bad[i]));
    }
}

static void sums_of_terms(void **state)
{
    (void)state;
    fake f = {0};
    diffc_embedder m = fake_embedder(&f);
    float v[LETTERS];
    dc_error e = {0};
    put("x.jpg", "cc");
    char picture[100];
    snprintf(picture, sizeof picture, "2:@%s", in_folder("x.jpg"));
    const char *add[] = {"aaaa", picture}, *subtract[] = {".5:b"}, *templates[] = {"{} d"};
    diffc_query q = {.add = add, .n_add = 2, .subtract = subtract, .n_subtract = 1};
    assert_int_equal(dc_query_vector(&q, &m, v, &e), DC_OK);
    const double length = sqrt(1 + 4 + 0.25);
    assert_true(fabs(v[0] - 1 / length) < 1e-6 && fabs(v[1] + 0.5 / length) < 1e-6 && fabs(v[2] - 2 / length) < 1e-6 && v[3] == 0);
    q = (diffc_query){.add = add, .n_add = 1, .templates = templates, .n_templates = 1};
    assert_int_equal(dc_query_vector(&q, &m, v, &e), DC_OK);
    assert_true(fabs(v[0] - 4 / sqrt(17)) < 1e-6 && fabs(v[3] - 1 / sqrt(17)) < 1e-6);

    const char *same[] = {"2:a"}, *twice[] = {"a", "a"}, *nothing[] = {"zzz"}, *missing[] = {"./nothing.jpg"}, *flat[] = {"no place"};
    assert_int_equal(dc_query_vector(&(diffc_query){.add = twice, .n_add = 2, .subtract = same, .n_subtract = 1}, &m, v, &e), DC_USAGE);
    assert_non_null(strstr(e.text, "cancel"));
    e = (dc_error){0};
    assert_int_equal(dc_query_vector(&(diffc_query){0}, &m, v, &e), DC_USAGE);
    e = (dc_error){0};
    assert_int_equal(dc_query_vector(&(diffc_query){.add = nothing, .n_add = 1}, &m, v, &e), DC_DATA);
    e = (dc_error){0};
    assert_int_equal(dc_query_vector(&(diffc_query){.add = missing, .n_add = 1}, &m, v, &e), DC_NO_INPUT);
    e = (dc_error){0};
    assert_int_equal(dc_query_vector(&(diffc_query){.add = add, .n_add = 1, .templates = flat, .n_templates = 1}, &m, v, &e), DC_USAGE);
    assert_non_null(strstr(e.text, "expected a text with {} in it"));
}

/* ---- results ------------------------------------------------------------------------------------------------------------------ */

static diffc_matches ask(diffc_query q, const char *text)
{
    diffc_index *x = open_index();
    fake f = {0};
    diffc_embedder m = fake_embedder(&f);
    diffc_matches r;
    diffc_error e = {0};
    q.add = &text;
    q.n_add = 1;
    if (diffc_search(x, &m, &q, 1, &r, &e)) fail_msg("%d: %s", e.code, e.text);
    diffc_index_close(x);
    return r;
}

static void cuts(void **state)
{
    (void)state;
    fake f = {0};
    put("a1.jpg", "aaaaaaaaab"), put("a2.jpg", "aaaaaaaab"), put("a3.jpg", "aaaaaaab");
    for (int i = 0; i < 40; i++) {
        char name[20], text[40] = "";
        snprintf(name, sizeof name, "x%02d.jpg", i);
        for (int k = 0; k < 12; k++) text[k] = (char)('b' + (i * 7 + k * (1 + i % 5)) % 12);
        put(name, text);
    }
    update(&f);
    diffc_matches r = ask((diffc_query){.top = 2, .threshold = -2}, "a");
    assert_int_equal(r.n, 2);
    assert_string_equal(r.match[0].path, "a1.jpg");
    assert_true(fabs(r.match[0].score - 9 / sqrt(82)) < 1e-3); /* rows are half precision */
    diffc_matches_free(&r);
    r = ask((diffc_query){.threshold = 0.98}, "a");
    assert_int_equal(r.n, 3);
    diffc_matches_free(&r);
    r = ask((diffc_query){.threshold = 0.993}, "a");
    assert_int_equal(r.n, 1);
    diffc_matches_free(&r);
    r = ask((diffc_query){.threshold = -2, .automatic = true}, "a");
    assert_int_equal(r.n, 3);
    diffc_matches_free(&r);
    r = ask((diffc_query){.threshold = -2}, "a");
    assert_int_equal(r.n, 43);
    for (size_t i = 1; i < r.n; i++)
        assert_true(r.match[i - 1].score > r.match[i].score ||
                    (r.match[i - 1].score == r.match[i].score && strcmp(r.match[i - 1].path, r.match[i].path) < 0));
    diffc_matches_free(&r);
}

static void an_empty_index(void **state)
{
    (void)state;
    fake f = {0};
    update(&f);
    diffc_matches r = ask((diffc_query){.threshold = -2}, "a");
    assert_int_equal(r.n, 0);
    diffc_matches_free(&r);
    diffc_duplicates d;
    diffc_error e = {0};
    diffc_index *x = open_index();
    assert_int_equal(diffc_index_duplicates(x, 0.1, NULL, NULL, &d, &e), DIFFC_OK);
    assert_int_equal(d.n_groups, 0);
    diffc_duplicates_free(&d);
    assert_int_equal(diffc_index_export(x, in_folder("v.npy"), in_folder("v.paths"), '\n', &e), DIFFC_OK);
    diffc_index_close(x);
}

static void several_queries_at_once(void **state)
{
    (void)state;
    fake f = {0};
    for (int i = 0; i < 16; i++) {
        char name[20] = "a.jpg", text[4] = "aap";
        name[0] = text[0] = text[1] = (char)('a' + i);
        put(name, text);
    }
    update(&f);
    diffc_index *x = open_index();
    diffc_embedder m = fake_embedder(&f);
    const char *text[4] = {"a", "f", "b", "k"};
    diffc_query q[4];
    diffc_matches r[4];
    diffc_error e = {0};
    for (int i = 0; i < 4; i++) q[i] = (diffc_query){.add = &text[i], .n_add = 1, .top = 1 + i, .threshold = i == 3 ? 0.5 : -2};
    assert_int_equal(diffc_search(x, &m, q, 4, r, &e), DIFFC_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(r[i].n, i == 3 ? 1 : 1 + i);
        assert_int_equal(r[i].match[0].path[0], text[i][0]);
        diffc_matches_free(&r[i]);
    }
    diffc_index_close(x);
}

/* ---- duplicates ------------------------------------------------------------------------------------------------------------------ */

static void groups_of_the_same(void **state)
{
    (void)state;
    fake f = {0};
    put("z.jpg", "ab"), put("y.jpg", "ab"), put("k1.jpg", "kkkkkkkkkl"), put("k2.jpg", "kkkkkkkkkkl"), put("k3.jpg", "kkkkkkkkkkkl"),
        put("c.jpg", "ccd");
    put("b.jpg", "ooop"), put("b2.jpg", "ooop"), put("m.jpg", "m"), put("m2.jpg", "mn");
    update(&f);
    diffc_index *x = open_index();
    diffc_duplicates d;
    diffc_error e = {0};
    assert_int_equal(diffc_index_duplicates(x, 0.01, NULL, NULL, &d, &e), DIFFC_OK);
    assert_int_equal(d.n_groups, 3), assert_int_equal(d.n_exact, 2);
    static const char *const expected[] = {"b.jpg", "b2.jpg", "y.jpg", "z.jpg", "k1.jpg", "k2.jpg", "k3.jpg"};
    assert_int_equal(d.matches.n, 7);
    assert_int_equal(d.first[1], 2), assert_int_equal(d.first[2], 4), assert_int_equal(d.first[3], 7);
    for (int i = 0; i < 4; i++) assert_string_equal(d.matches.match[i].path, expected[i]);
    for (int i = 0; i < 4; i++) assert_true(d.matches.match[i].score == 1);
    for (int i = 4; i < 7; i++) assert_true(d.matches.match[i].path[0] == 'k' && d.matches.match[i].score > 0.99f);
    diffc_duplicates_free(&d);
    assert_int_equal(diffc_index_duplicates(x, 0.3, NULL, NULL, &d, &e), DIFFC_OK); /* m and mn too: 0.707 */
    assert_int_equal(d.n_groups, 4);
    diffc_duplicates_free(&d);
    assert_int_equal(diffc_index_duplicates(x, -1, NULL, NULL, &d, &e), DIFFC_USAGE);
    diffc_index_close(x);
}

/* Against all pairs in double, over more rows than a block has. */
static void groups_are_those_of_all_pairs(void **state)
{
    (void)state;
    enum { N = 6000, NEAR = 300 };
    dc_store *s;
    dc_error why = {0};
    diffc_error e = {0};
    const dc_store_identity is = {.model = "fake-1", .dims = LETTERS};
    assert_int_equal(dc_store_write(&s, in_folder(".diffc"), &is, false, &why), DC_OK);
    assert_int_equal(dc_store_begin(s, &why), DC_OK);
    static float v[N][LETTERS];
    for (int i = 0; i < N; i++) {
        double length = 0;
        for (int k = 0; k < LETTERS; k++) v[i][k] = (float)(i >= N - NEAR ? v[i - N + NEAR][k] + 0.002 * random_double() : random_double());
        for (int k = 0; k < LETTERS; k++) length += (double)v[i][k] * v[i][k];
        for (int k = 0; k < LETTERS; k++) v[i][k] = dc_f16_to_f32(dc_f32_to_f16((float)(v[i][k] / sqrt(length))));
        char name[20];
        int64_t row;
        uint8_t hash[DC_HASH_BYTES] = {(uint8_t)i, (uint8_t)(i >> 8)};
        snprintf(name, sizeof name, "%05d.jpg", i);
        assert_int_equal(dc_store_add(s, hash, v[i], &row, &why), DC_OK);
        dc_record r = {.path = name, .row = row};
        memcpy(r.hash, hash, sizeof hash);
        assert_int_equal(dc_store_put(s, &r, &why), DC_OK);
    }
    assert_int_equal(dc_store_commit(s, &why), DC_OK);
    dc_store_close(s);
    diffc_index *x = open_index();
    diffc_duplicates d;
    assert_int_equal(diffc_index_duplicates(x, 1e-4, NULL, NULL, &d, &e), DIFFC_OK);
    int pairs = 0;
    for (int i = 0; i < N; i++)
        for (int j = i + 1; j < N; j++) {
            double dot = 0, a = 0, b = 0;
            for (int k = 0; k < LETTERS; k++) dot += (double)v[i][k] * v[j][k], a += (double)v[i][k] * v[i][k], b += (double)v[j][k] * v[j][k];
            pairs += dot / sqrt(a * b) >= 1 - 1e-4;
        }
    assert_int_equal(pairs, NEAR); /* so that groups are pairs */
    assert_int_equal(d.n_exact, 0);
    assert_int_equal(d.n_groups, pairs);
    for (size_t g = 0; g < d.n_groups; g++) {
        assert_int_equal(d.first[g + 1] - d.first[g], 2);
        assert_int_equal(atoi(d.matches.match[2 * g].path) + N - NEAR, atoi(d.matches.match[2 * g + 1].path));
    }
    diffc_duplicates_free(&d);
    diffc_index_close(x);
}

/* ---- out, in, and on a sheet -------------------------------------------------------------------------------------------------------- */

static void vectors_out_and_in(void **state)
{
    (void)state;
    fake f = {0};
    put_folder("one"), put("one/a.jpg", "aaab"), put("one/new\nline.jpg", "bb"), put("one/twin.jpg", "aaab"), put("one/bad.jpg", "BAD");
    char root[100], npy[100], paths[100];
    snprintf(root, sizeof root, "%s", in_folder("one"));
    snprintf(npy, sizeof npy, "%s", in_folder("v.npy"));
    snprintf(paths, sizeof paths, "%s", in_folder("v.paths"));
    diffc_error e = {0};
    diffc_embedder m = fake_embedder(&f);
    diffc_index *x;
    assert_int_equal(diffc_index_update(&(diffc_index_options){.root = root}, &m, NULL, &e), DIFFC_OK);
    assert_int_equal(diffc_index_open(&x, NULL, root, NULL, &e), DIFFC_OK);
    assert_int_equal(diffc_index_export(x, npy, paths, '\n', &e), DIFFC_USAGE);
    e = (diffc_error){0};
    assert_int_equal(diffc_index_export(x, npy, paths, 0, &e), DIFFC_OK);
    diffc_index_close(x);
    dc_npy a;
    assert_int_equal(dc_npy_read(&a, npy, NULL), DC_OK);
    assert_true(a.rank == 2 && a.dim[0] == 3 && a.dim[1] == LETTERS);
    free(a.data);

    /* the same vectors for the same pictures elsewhere, without the model */
    char command[400];
    snprintf(command, sizeof command, "cp -rp %s %s && rm -r %s/.diffc", root, in_folder("two"), in_folder("two"));
    assert_int_equal(system(command), 0);
    snprintf(root, sizeof root, "%s", in_folder("two"));
    f = (fake){0};
    diffc_index_summary s;
    diffc_index_options o = {.root = root};
    assert_int_equal(diffc_index_import(&o, &m, npy, paths, 0, &s, &e), DIFFC_OK);
    assert_int_equal(s.added, 3), assert_int_equal(s.reused, 1), assert_int_equal(s.failed, 0);
    assert_int_equal(diffc_index_update(&o, &m, &s, &e), DIFFC_OK);
    assert_int_equal(s.unchanged, 3), assert_int_equal(s.failed, 1), assert_int_equal(s.embedded, 0);

    /* what does not fit */
    assert_int_equal(diffc_index_import(&o, &m, npy, paths, '\n', &s, &e), DIFFC_DATA);
    e = (diffc_error){0};
    assert_int_equal(diffc_index_import(&o, &m, paths, paths, 0, &s, &e), DIFFC_DATA);
    const float wrong[2][3] = {{1, 0, 0}, {0, 1, 0}};
    assert_int_equal(dc_npy_write_f32(npy, wrong[0], 2, (int64_t[]){2, 3}, NULL), DC_OK);
    e = (diffc_error){0};
    assert_int_equal(diffc_index_import(&o, &m, npy, paths, 0, &s, &e), DIFFC_DATA);
    assert_non_null(strstr(e.text, "expected floats [n, 16]"));
}

static void a_sheet(void **state)
{
    (void)state;
    diffc_image red = {20, 10, 3, malloc(600)}, sheet;
    diffc_error e = {0};
    for (int i = 0; i < 600; i++) red.pixels[i] = i % 3 ? 0 : 255;
    assert_int_equal(diffc_image_write(in_folder("red.png"), &red, NULL, NULL, false, NULL, &e), DIFFC_OK);
    diffc_match match[3] = {{"red.png", 0.987f, 20, 10}, {"nothing.png", -0.25f, 0, 0}, {"red.png", 0.5f, 20, 10}};
    diffc_matches r = {match, 3, NULL};
    assert_int_equal(diffc_contact_sheet(folder, &r, 0, 0, &sheet, &e), DIFFC_OK);
    assert_int_equal(sheet.width, 8 + 2 * 168), assert_int_equal(sheet.height, 8 + 2 * (160 + 20 + 8));
    const uint8_t *middle = sheet.pixels + ((size_t)(8 + 80) * (size_t)sheet.width + 8 + 80) * 3;
    assert_true(middle[0] == 255 && middle[1] == 0 && middle[2] == 0); /* not enlarged, in the middle */
    int black = 0;
    for (int i = 0; i < sheet.width * sheet.height; i++) black += !sheet.pixels[3 * i] && !sheet.pixels[3 * i + 1] && !sheet.pixels[3 * i + 2];
    /* dots of 0.987, -0.250, 0.500: 4 a dot */
    assert_int_equal(black % 4, 0);
    assert_true(black > 4 * 100);
    diffc_image_free(&sheet);
    assert_int_equal(diffc_contact_sheet(folder, &r, 2000, 0, &sheet, &e), DIFFC_OK); /* no more columns than pictures */
    diffc_image_free(&sheet);
    assert_int_equal(diffc_contact_sheet(folder, &r, 1, 5000, &sheet, &e), DIFFC_USAGE);
    diffc_image_free(&red);
}

static void sizes_of_pictures(void **state)
{
    (void)state;
    static const uint8_t png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x12\x34\0\0\x01\x02";
    static const uint8_t jpeg[] = "\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xff\xc2\0\x11\x08\x01\x02\x12\x34\x03";
    uint32_t w = 0, h = 0;
    assert_true(dc_image_size(png, sizeof png - 1, &w, &h) && w == 0x1234 && h == 0x102);
    w = h = 0;
    assert_true(dc_image_size(jpeg, sizeof jpeg - 1, &w, &h) && w == 0x1234 && h == 0x102);
    for (size_t n = 0; n < 24; n++) assert_false(dc_image_size(png, n, &w, &h) || dc_image_size(jpeg, n, &w, &h));
    assert_false(dc_image_size((const uint8_t *)"\xff\xd8\xff\xd8\xff\xd8\xff\xd8\xff\xd8\xff\xd8\xff\xd8", 14, &w, &h));

    fake f = {0};
    put("small.jpg", "aaa");
    FILE *o = fopen(in_folder("large.png"), "wb");
    assert_true(o && fwrite(png, sizeof png - 1, 1, o) == 1 && !fclose(o));
    diffc_index_summary s = update_with(&f, (diffc_index_options){.max_megapixels = 1});
    assert_int_equal(s.failed, 1);
    assert_int_equal(f.read, 1); /* the other was not decoded */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nearest_are_those_of_a_plain_loop),
        cmocka_unit_test(terms),
        TEST(sums_of_terms),
        TEST(cuts),
        TEST(an_empty_index),
        TEST(several_queries_at_once),
        TEST(groups_of_the_same),
        TEST(groups_are_those_of_all_pairs),
        TEST(vectors_out_and_in),
        TEST(a_sheet),
        TEST(sizes_of_pictures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
