/* The search pane without a window: what is found is what diffc_search finds, the latest query counts, thumbnails come after, closing waits for nothing. */
#include "apps/viewer/finder.h"
#include <SDL.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#define TINY TEST_DATA "/golden/clip/tiny/hf"

static char folder[64], *index_folder;
static uint32_t event;

static const char *in_folder(const char *name)
{
    static char path[4][200];
    static int next;
    char *at = path[next++ % 4];
    snprintf(at, sizeof path[0], "%s/%s", folder, name);
    return at;
}

/* A picture of 8 vertical bars that go from black to a colour. */
static void put(const char *name, int width, int height, int r, int g, int b)
{
    diffc_image m = {width, height, 3, malloc((size_t)width * (size_t)height * 3)};
    diffc_error e = {0};
    assert_non_null(m.pixels);
    for (int i = 0; i < width * height; i++) {
        const int bar = i % width * 8 / width;
        m.pixels[3 * i] = (uint8_t)(r * bar / 7), m.pixels[3 * i + 1] = (uint8_t)(g * bar / 7), m.pixels[3 * i + 2] = (uint8_t)(b * bar / 7);
    }
    if (diffc_image_write(in_folder(name), &m, NULL, NULL, false, NULL, &e)) fail_msg("%s", e.text);
    diffc_image_free(&m);
    struct timeval t[2];
    gettimeofday(&t[0], NULL);
    t[0].tv_sec -= 60; /* old enough to be believed */
    t[1] = t[0];
    assert_int_equal(utimes(in_folder(name), t), 0);
}

static void update(void)
{
    diffc_clip *clip;
    diffc_error e = {0};
    if (diffc_clip_open(&clip, &(diffc_options){.model = TINY, .threads = 2}, &e)) fail_msg("%s", e.text);
    const diffc_embedder m = diffc_clip_embedder(clip);
    if (diffc_index_update(&(diffc_index_options){.root = folder, .model_path = TINY}, &m, &(diffc_index_summary){0}, &e)) fail_msg("%s", e.text);
    diffc_clip_close(clip);
}

static int make(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/diffc-finder-XXXXXX");
    if (!mkdtemp(folder) || asprintf(&index_folder, "%s/.diffc", folder) < 0) return -1;
    put("red.png", 64, 48, 255, 0, 0);
    put("green.png", 800, 200, 0, 255, 0);
    put("blue.jpg", 301, 1203, 0, 0, 255);
    put("gone.png", 50, 50, 255, 255, 0);
    put("damaged.png", 50, 50, 255, 0, 255);
    put("large.png", 3000, 2000, 255, 255, 255);
    update();
    remove(in_folder("gone.png"));
    assert_int_equal(truncate(in_folder("damaged.png"), 40), 0);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    char command[200];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    free(index_folder);
    return system(command);
}

/* Takes until the query `number` is answered and its thumbnails are there (or only answered), as a window does: woken by events. */
static void wait_for(finder *f, finder_result *r, uint64_t number, bool thumbnails)
{
    const uint64_t until = SDL_GetTicks64() + 20000;
    for (;;) {
        int missing = 0;
        for (int i = 0; i < r->n; i++) missing += !r->match[i].thumbnail.pixels && !r->match[i].failed;
        if (r->query == number && !(thumbnails && missing)) return;
        SDL_Event e;
        if (SDL_GetTicks64() > until) fail_msg("nothing after 20 s: answered %d of %d, %d thumbnails missing", (int)r->query, (int)number, missing);
        if (SDL_WaitEventTimeout(&e, 20000) && e.type == event) finder_take(f, r);
    }
}

/* The paths and scores that diffc_search gives for one term, or for one without another. */
static void expect_terms(const finder_result *r, const char *const *add, int n_add, const char *subtract, int top)
{
    const diffc_query q = {.add = add, .n_add = n_add, .subtract = &subtract, .n_subtract = subtract != NULL, .top = top, .threshold = -2};
    diffc_error e = {0};
    diffc_index *x;
    diffc_clip *clip;
    diffc_matches found;
    assert_int_equal(diffc_index_open(&x, index_folder, NULL, NULL, &e), DIFFC_OK);
    assert_int_equal(diffc_clip_open(&clip, &(diffc_options){.model = TINY}, &e), DIFFC_OK);
    const diffc_embedder m = diffc_clip_embedder(clip);
    assert_int_equal(diffc_search(x, &m, &q, 1, &found, &e), DIFFC_OK);
    assert_int_equal(r->n, found.n);
    for (int i = 0; i < r->n; i++) {
        assert_string_equal(r->match[i].path, in_folder(found.match[i].path));
        assert_true(r->match[i].score == found.match[i].score);
        assert_int_equal(r->match[i].width, found.match[i].width);
        assert_int_equal(r->match[i].height, found.match[i].height);
    }
    diffc_matches_free(&found);
    diffc_clip_close(clip);
    diffc_index_close(x);
}

static void expect_same(const finder_result *r, const char *query, int top) { expect_terms(r, &query, 1, NULL, top); }

static const finder_match *match_of(const finder_result *r, const char *name)
{
    for (int i = 0; i < r->n; i++)
        if (!strcmp(r->match[i].path, in_folder(name))) return &r->match[i];
    fail_msg("%s is not among %d", name, r->n);
    return NULL;
}

static void finds_what_a_search_finds(void **state)
{
    (void)state;
    finder *f = finder_open(index_folder, NULL, event);
    finder_result r = {0};
    assert_non_null(f);
    assert_false(finder_take(f, &r));
    assert_false(finder_busy(f));
    uint64_t number = finder_ask(f, "a red \u732B", 4);
    assert_true(finder_busy(f));
    wait_for(f, &r, number, false);
    assert_null(r.error);
    expect_same(&r, "a red \u732B", 4);
    number = finder_ask(f, in_folder("green.png"), 10); /* a picture */
    wait_for(f, &r, number, true);
    expect_same(&r, in_folder("green.png"), 10);
    assert_string_equal(r.match[0].path, in_folder("green.png"));

    const struct {
        const char *name;
        int width, height;
    } sizes[] = {{"red.png", 64, 48}, {"green.png", 160, 40}, {"blue.jpg", 40, 160}, {"large.png", 160, 107}};
    for (int i = 0; i < 4; i++) {
        const finder_match *m = match_of(&r, sizes[i].name);
        assert_int_equal(m->thumbnail.width, sizes[i].width);
        assert_int_equal(m->thumbnail.height, sizes[i].height);
        assert_int_equal(m->thumbnail.channels, 3);
    }
    const uint8_t *green = match_of(&r, "green.png")->thumbnail.pixels; /* bars of 100 pixels are 20 now, with edges as sharp as before */
    for (int y = 0; y < 40; y++)
        for (int x = 0; x < 160; x++)
            assert_true(!green[3 * (160 * y + x)] && green[3 * (160 * y + x) + 1] == 255 * (x / 20) / 7 && !green[3 * (160 * y + x) + 2]);
    assert_true(match_of(&r, "gone.png")->failed && match_of(&r, "damaged.png")->failed);
    while (finder_busy(f)) SDL_Delay(1);
    assert_false(finder_take(f, &r));

    number = finder_ask(f, "", 10);
    wait_for(f, &r, number, true);
    assert_true(r.n == 0 && !r.error);
    finder_result_free(&r);
    finder_close(f);
}

/* Signs that stand alone join terms; in a path they do so only behind the name of a file. */
static void terms_are_joined(void **state)
{
    (void)state;
    finder *f = finder_open(index_folder, NULL, event);
    finder_result r = {0};
    wait_for(f, &r, finder_ask(f, "red car +  2:sunset - people", 4), false);
    expect_terms(&r, (const char *[]){"red car", "2:sunset"}, 2, "people", 4);
    wait_for(f, &r, finder_ask(f, "well-known x-y -", 4), false); /* on the way to a second one */
    expect_same(&r, "well-known x-y", 4);
    wait_for(f, &r, finder_ask(f, "a - b", 4), false);
    expect_terms(&r, (const char *[]){"a"}, 1, "b", 4);

    char name[200], query[450], at[250];
    snprintf(name, sizeof name, "%s", in_folder("one - two.png"));
    put("one - two.png", 64, 64, 9, 9, 9);
    wait_for(f, &r, finder_ask(f, name, 4), false);
    expect_same(&r, name, 4);
    snprintf(query, sizeof query, "0.5:@%s - a cat", name);
    snprintf(at, sizeof at, "0.5:@%s", name);
    wait_for(f, &r, finder_ask(f, query, 4), false);
    expect_terms(&r, (const char *[]){at}, 1, "a cat", 4);
    remove(name);

    wait_for(f, &r, finder_ask(f, "a + 2:@-", 4), false);
    assert_true(r.n == 0 && r.error && strstr(r.error, "found @-"));
    char many[17 * 4 + 1] = "";
    for (int i = 0; i < 17; i++) strcat(many, i ? " + x" : "x");
    wait_for(f, &r, finder_ask(f, many, 4), false);
    assert_true(r.n == 0 && r.error && strstr(r.error, "more than 16 terms"));
    finder_result_free(&r);
    finder_close(f);
}

/* Means over areas as numpy has them: np.repeat(a, 160, 1).reshape(2, 160, 330, 3).mean((0, 2)). */
static void thumbnails_are_means(void **state)
{
    (void)state;
    diffc_image m = {330, 2, 3, malloc(330 * 2 * 3)};
    for (int i = 0; i < 660 * 3; i++) m.pixels[i] = (uint8_t)(i * 37 % 251);
    assert_int_equal(diffc_image_write(in_folder("means.png"), &m, NULL, NULL, false, NULL, NULL), DIFFC_OK);
    diffc_image_free(&m);
    finder *f = finder_open(index_folder, NULL, event);
    finder_result r = {0};
    update();
    wait_for(f, &r, finder_ask(f, in_folder("means.png"), 1), true);
    assert_string_equal(r.match[0].path, in_folder("means.png"));
    const diffc_image *t = &r.match[0].thumbnail;
    assert_true(t->width == 160 && t->height == 1);
    static const uint8_t first[] = {113, 86, 119, 144, 124, 89, 114, 151, 82, 85, 122, 159},
                         last[] = {153, 159, 97, 123, 160, 121, 93, 130, 159, 124, 100, 137};
    for (int i = 0; i < 12; i++) {
        assert_true(abs(t->pixels[i] - first[i]) <= 1);
        assert_true(abs(t->pixels[468 + i] - last[i]) <= 1);
    }
    finder_result_free(&r);
    finder_close(f);
    remove(in_folder("means.png"));
    update();
}

static void the_latest_query_counts(void **state)
{
    (void)state;
    finder *f = finder_open(index_folder, &(diffc_options){.threads = 2}, event);
    finder_result r = {0};
    uint64_t number = 0, taken = 0;
    for (int round = 0; round < 60; round++) {
        char query[40];
        for (int i = 0; i <= round % 4; i++) {
            snprintf(query, sizeof query, "query %d %d", round, i);
            assert_int_equal(finder_ask(f, query, 3), ++number);
            if (round % 3) SDL_Delay((Uint32)(round * 7 % 13));
            if (finder_take(f, &r)) {
                assert_true(r.query >= taken && r.query <= number);
                taken = r.query;
            }
        }
        if (round % 5 == 4) {
            wait_for(f, &r, number, round % 2);
            expect_same(&r, query, 3);
        }
    }
    finder_result_free(&r);
    finder_close(f);
}

static void errors_are_told(void **state)
{
    (void)state;
    finder_result r = {0};
    finder *f = finder_open(in_folder("nowhere"), NULL, event);
    wait_for(f, &r, finder_ask(f, "a cat", 3), true);
    assert_non_null(strstr(r.error, "nowhere: index: found none"));
    assert_non_null(strstr(r.error, "diffc index FOLDER"));
    assert_int_equal(r.n, 0);
    assert_int_equal(rename(index_folder, in_folder("nowhere")), 0); /* it is made meanwhile */
    wait_for(f, &r, finder_ask(f, "a cat", 3), false);
    assert_null(r.error);
    assert_int_equal(r.n, 3);
    finder_close(f);
    assert_int_equal(rename(in_folder("nowhere"), index_folder), 0);

    f = finder_open(index_folder, NULL, event);
    static const struct {
        const char *query, *error;
    } wrong[] = {{"\xff", "UTF-8"}, {"2:", "empty term"}, {"@-", "@-"}, {"2.5:@-", "@-"}, {"/nowhere.png", "nowhere.png"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        wait_for(f, &r, finder_ask(f, wrong[i].query, 3), true);
        assert_non_null(r.error);
        if (!strstr(r.error, wrong[i].error)) fail_msg("%s", r.error);
        wait_for(f, &r, finder_ask(f, "a cat", 2), false);
        assert_int_equal(r.n, 2);
    }
    finder_close(f);
    f = finder_open(index_folder, &(diffc_options){.device = "abacus"}, event);
    for (int i = 0; i < 2; i++) {
        wait_for(f, &r, finder_ask(f, "a cat", 3), true);
        assert_non_null(strstr(r.error, "abacus"));
    }
    finder_close(f);
    finder_result_free(&r);
}

static void closing_waits_for_nothing(void **state)
{
    (void)state;
    for (int round = 0; round < 40; round++) {
        finder *f = finder_open(index_folder, NULL, round % 2 ? event : 0);
        for (int i = 0; i < round % 3; i++) finder_ask(f, "a picture of everything", 10);
        SDL_Delay((Uint32)(round * 11 % 40));
        finder_result r = {0};
        if (round % 4 == 3) finder_take(f, &r);
        const uint64_t from = SDL_GetTicks64();
        finder_close(f);
        assert_true(SDL_GetTicks64() - from < 1000);
        finder_result_free(&r);
    }
    finder_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_a_search_finds), cmocka_unit_test(terms_are_joined), cmocka_unit_test(thumbnails_are_means),
        cmocka_unit_test(the_latest_query_counts),   cmocka_unit_test(errors_are_told),  cmocka_unit_test(closing_waits_for_nothing),
    };
    if (SDL_Init(SDL_INIT_EVENTS)) return 1;
    event = SDL_RegisterEvents(1);
    const int failed = cmocka_run_group_tests(tests, make, clean);
    SDL_Quit();
    return failed;
}
