/* Bringing an index up to date: what is read again and what is not, what moves, disappears or cannot be read; who may write. */
#include "fake.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>

static void only_what_is_new_is_read(void **state)
{
    (void)state;
    fake f = {0};
    put("a.jpg", "aaab"), put("b.png", "bbba"), put("note.txt", "cccc");
    put_folder("sub");
    put("sub/c.JPEG", "ccc");
    diffc_index_summary s = update(&f);
    assert_int_equal(s.found, 3), assert_int_equal(s.added, 3), assert_int_equal(s.embedded, 3);
    assert_string_equal(found("b", 2), "b.png a.jpg");
    assert_string_equal(found("c", 1), "sub/c.JPEG");

    s = update(&f);
    assert_int_equal(s.unchanged, 3), assert_int_equal(s.embedded + s.added + s.changed + s.removed, 0);
    assert_int_equal(f.read, 3);

    put_aged("a.jpg", "dddd", 30); /* same size, another time */
    s = update(&f);
    assert_int_equal(s.changed, 1), assert_int_equal(s.unchanged, 2), assert_int_equal(s.embedded, 1);
    assert_string_equal(found("d", 1), "a.jpg");

    put_aged("b.png", "bbba", 20); /* touched only */
    s = update(&f);
    assert_int_equal(s.unchanged, 3), assert_int_equal(s.embedded + s.changed + s.reused, 0);
    assert_int_equal(f.read, 4);
    expect_index(3, 0);
}

static void moved_and_copied_need_no_model(void **state)
{
    (void)state;
    fake f = {0};
    put("a.jpg", "aaab"), put("b.jpg", "bbbc"), put("twin.jpg", "aaab");
    diffc_index_summary s = update(&f);
    assert_int_equal(s.added, 3), assert_int_equal(s.embedded, 2), assert_int_equal(s.reused, 1);

    put_folder("new");
    assert_int_equal(rename(in_folder("b.jpg"), in_folder("new/moved.jpg")), 0);
    put("copy.jpg", "aaab");
    s = update(&f);
    assert_int_equal(s.added, 2), assert_int_equal(s.reused, 2), assert_int_equal(s.embedded, 0), assert_int_equal(s.removed, 1);
    assert_int_equal(f.embedded, 2);
    assert_string_equal(found("a", 3), "a.jpg copy.jpg twin.jpg"); /* one score: by path */
    assert_string_equal(found("b", 1), "new/moved.jpg");
    expect_index(4, 0);

    assert_int_equal(unlink(in_folder("new/moved.jpg")), 0);
    s = update(&f);
    assert_int_equal(s.removed, 1);
    expect_index(3, 0);
    put("again.jpg", "bbbc"); /* forgotten with its last file */
    s = update(&f);
    assert_int_equal(s.embedded, 1);
}

static char failures[1000];
static void on_failure(void *user, const char *path, const char *reason)
{
    (void)user;
    snprintf(failures + strlen(failures), sizeof failures - strlen(failures), "%s: %s\n", path, reason);
}

static void what_cannot_be_read_stops_nothing(void **state)
{
    (void)state;
    fake f = {0};
    put("a.jpg", "aaab"), put("bad.jpg", "BAD"), put("empty.jpg", "zzz");
    assert_int_equal(mkfifo(in_folder("pipe.jpg"), 0666), 0);
    assert_int_equal(symlink("nowhere.jpg", in_folder("dangling.jpg")), 0);
    failures[0] = 0;
    diffc_index_summary s = update_with(&f, (diffc_index_options){.on_failure = on_failure});
    assert_int_equal(s.found, 3), assert_int_equal(s.added, 1), assert_int_equal(s.failed, 2);
    assert_non_null(strstr(failures, "bad.jpg: picture: found BAD, expected letters\n"));
    assert_non_null(strstr(failures, "empty.jpg: vector: found numbers that are not finite, or all 0\n"));
    expect_index(3, 2);
    s = update(&f);
    assert_int_equal(s.unchanged, 3), assert_int_equal(s.failed, 0); /* not tried again */
    put_aged("bad.jpg", "ddd", 30);
    s = update(&f);
    assert_int_equal(s.changed, 1);
    expect_index(3, 1);
    put_aged("a.jpg", "BAD now", 20); /* loses its vector */
    s = update(&f);
    assert_int_equal(s.failed, 1);
    assert_string_equal(found("a", 9), "bad.jpg");
    expect_index(3, 2);
}

static void folders_that_cannot_be_read_keep_what_is_known(void **state)
{
    (void)state;
    fake f = {0};
    const bool root = !geteuid(); /* who reads everything */
    if (root) assert_int_equal(chown(folder, 65534, 65534) | seteuid(65534), 0);
    put_folder("sub"), put("sub/a.jpg", "aaa"), put("b.jpg", "bbb");
    update(&f);
    assert_int_equal(chmod(in_folder("sub"), 0), 0);
    diffc_index_summary s = update(&f);
    if (root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(s.unreadable, 1), assert_int_equal(s.removed, 0);
    expect_index(2, 0);
}

static void names_are_bytes(void **state)
{
    (void)state;
    fake f = {0};
    char longest[256], deep[4096] = "";
    memset(longest, 'x', sizeof longest);
    strcpy(longest + 251, ".jpg");
    put("new\nline.jpg", "aa"), put("\xff\xfe.jpg", "bb"), put("caf\xc3\xa9 \"'\\.jpg", "cc"), put("-.jpg", "dd"), put(longest, "ee");
    for (int i = 0; i < 20; i++) {
        memset(deep + strlen(deep), 'd', 100);
        put_folder(deep);
        strcat(deep, "/");
    }
    strcat(deep, "f.jpg");
    put(deep, "ff");
    diffc_index_summary s = update(&f);
    assert_int_equal(s.added, 6);
    assert_string_equal(found("a", 1), "new\nline.jpg");
    assert_string_equal(found("b", 1), "\xff\xfe.jpg");
    assert_string_equal(found("f", 1), deep);
    s = update(&f);
    assert_int_equal(s.unchanged, 6);
}

static void links_never_lead_in_circles(void **state)
{
    (void)state;
    fake f = {0};
    put_folder("real"), put_folder("real/sub"), put("real/sub/a.jpg", "aaa"), put("z.jpg", "bbb");
    assert_int_equal(symlink("..", in_folder("real/up")), 0);
    assert_int_equal(symlink("real", in_folder("alias")), 0);
    assert_int_equal(symlink("loop", in_folder("loop")), 0);
    assert_int_equal(symlink("z.jpg", in_folder("link.jpg")), 0);
    char outside[] = "/tmp/diffc-search-outside-XXXXXX", name[80];
    assert_non_null(mkdtemp(outside));
    snprintf(name, sizeof name, "%s/o.jpg", outside);
    FILE *o = fopen(name, "w");
    assert_true(o && fputs("ccc", o) >= 0 && !fclose(o));
    assert_int_equal(symlink(outside, in_folder("out")), 0);

    diffc_index_summary s = update(&f);
    assert_int_equal(s.found, 3); /* real/sub/a.jpg, z.jpg, link.jpg */
    s = update_with(&f, (diffc_index_options){.follow = true});
    assert_int_equal(s.found, 4); /* and out/o.jpg; nothing twice */
    assert_string_equal(found("a", 1), "real/sub/a.jpg");
    assert_string_equal(found("c", 1), "out/o.jpg");
    unlink(name), rmdir(outside);
}

static void what_is_left_out(void **state)
{
    (void)state;
    fake f = {0};
    const char *exclude[] = {"*.tmp.jpg", "raw/old*"};
    put(".hidden.jpg", "a"), put("a.jpg", "aa"), put("x.tmp.jpg", "ab");
    put_folder(".dot"), put(".dot/b.jpg", "b"), put_folder("node_modules"), put("node_modules/c.jpg", "c");
    put_folder("@eaDir"), put("@eaDir/d.jpg", "d"), put_folder("raw"), put_folder("raw/old1"), put("raw/old1/e.jpg", "e"), put("raw/f.jpg", "f");
    assert_int_equal(update(&f).found, 4);
    diffc_index_summary s = update_with(&f, (diffc_index_options){.exclude = exclude, .n_exclude = 2});
    assert_int_equal(s.found, 2), assert_int_equal(s.removed, 2);
    assert_int_equal(update_with(&f, (diffc_index_options){.hidden = true}).found, 6);
}

static void a_fresh_file_is_looked_at_again(void **state)
{
    (void)state;
    fake f = {0};
    put_aged("a.jpg", "aaa", 0);
    update(&f);
    put_aged("a.jpg", "bbb", 0); /* maybe in the same tick of the clock, and of the same size */
    diffc_index_summary s = update(&f);
    assert_int_equal(s.changed, 1);
    assert_string_equal(found("b", 1), "a.jpg");
}

static void a_model_that_fails_keeps_earlier_batches(void **state)
{
    (void)state;
    fake f = {.fails_at = 3};
    diffc_error e = {0};
    diffc_index_summary s;
    diffc_embedder m = fake_embedder(&f);
    for (int i = 0; i < 20; i++) {
        char name[20], text[20];
        snprintf(name, sizeof name, "%d.jpg", i);
        snprintf(text, sizeof text, "%.*s", i % 10 + 1, &"abcdefghijkl"[i / 10]);
        put(name, text);
    }
    diffc_index_options o = {.root = folder, .batch = 4};
    assert_int_equal(diffc_index_update(&o, &m, &s, &e), DIFFC_INTERNAL);
    assert_string_equal(e.text, "the model: found no way, expected one");
    expect_index(8, 0);
    s = update(&f);
    assert_int_equal(s.embedded, 12);
    expect_index(20, 0);
}

static bool stop_at_9(void *user, const diffc_index_progress *p)
{
    (void)user;
    return p->stage == DIFFC_INDEX_EMBED && p->done >= 9;
}

static void stopping_keeps_what_is_done(void **state)
{
    (void)state;
    fake f = {0};
    diffc_error e = {0};
    diffc_embedder m = fake_embedder(&f);
    for (int i = 0; i < 16; i++) {
        char name[20] = "a.jpg", text[2] = "a";
        name[0] = text[0] = (char)('a' + i);
        put(name, text);
    }
    diffc_index_options o = {.root = folder, .batch = 4, .on_progress = stop_at_9};
    assert_int_equal(diffc_index_update(&o, &m, NULL, &e), DIFFC_CANCELLED);
    expect_index(8, 0);
    assert_int_equal(update(&f).embedded, 8);
}

static void another_model_is_refused(void **state)
{
    (void)state;
    fake f = {0};
    diffc_error e = {0};
    put("a.jpg", "aaa");
    update(&f);
    diffc_embedder other = fake_embedder(&f);
    other.model = "other-2";
    diffc_index_options o = {.root = folder};
    assert_int_equal(diffc_index_update(&o, &other, NULL, &e), DIFFC_USAGE);
    assert_non_null(strstr(e.text, "found an index of fake-1"));
    assert_non_null(strstr(e.hint, "--rebuild"));
    diffc_index *x = open_index();
    const char *text = "a";
    diffc_query q = {.add = &text, .n_add = 1};
    diffc_matches r;
    e = (diffc_error){0};
    assert_int_equal(diffc_search(x, &other, &q, 1, &r, &e), DIFFC_USAGE);
    diffc_index_close(x);
    o.rebuild = true;
    e = (diffc_error){0};
    assert_int_equal(diffc_index_update(&o, &other, NULL, &e), DIFFC_OK);
    x = open_index();
    diffc_index_info i;
    assert_int_equal(diffc_index_about(x, &i, &e), DIFFC_OK);
    assert_string_equal(i.model, "other-2");
    diffc_index_close(x);
}

static void one_writes_others_read(void **state)
{
    (void)state;
    fake f = {0};
    diffc_error e = {0};
    put("a.jpg", "aaa");
    update(&f);
    dc_store *writer, *second;
    dc_error why = {0};
    const dc_store_identity is = {.model = "fake-1", .dims = LETTERS};
    assert_int_equal(dc_store_write(&writer, in_folder(".diffc"), &is, false, &why), DC_OK);
    assert_int_equal(dc_store_write(&second, in_folder(".diffc"), &is, false, &why), DC_UNAVAILABLE);
    assert_null(second);
    char expected[80];
    snprintf(expected, sizeof expected, "found another program that writes it, process %ld, ", (long)getpid());
    assert_non_null(strstr(why.text, expected));
    diffc_embedder m = fake_embedder(&f);
    assert_int_equal(diffc_index_update(&(diffc_index_options){.root = folder, .rebuild = true}, &m, NULL, &e), DIFFC_UNAVAILABLE);

    /* a reader sees the state in which it was opened */
    why = (dc_error){0};
    diffc_index *x = open_index();
    float unit[LETTERS] = {0, 1};
    int64_t row;
    const uint8_t hash[DC_HASH_BYTES] = {1};
    assert_int_equal(dc_store_begin(writer, &why), DC_OK);
    assert_int_equal(dc_store_add(writer, hash, unit, &row, &why), DC_OK);
    dc_record r = {.path = "b.jpg", .row = row, .size = 1};
    memcpy(r.hash, hash, sizeof hash);
    assert_int_equal(dc_store_put(writer, &r, &why), DC_OK);
    assert_string_equal(found("b", 1), "a.jpg"); /* not yet */
    assert_int_equal(dc_store_commit(writer, &why), DC_OK);
    assert_string_equal(found("b", 1), "b.jpg");
    diffc_index_info i;
    assert_int_equal(diffc_index_about(x, &i, &e), DIFFC_OK);
    assert_int_equal(i.files, 1);
    diffc_index_close(x);
    dc_store_close(writer);
}

static void rows_of_what_is_gone_are_given_back(void **state)
{
    (void)state;
    fake f = {0};
    char name[32], text[LETTERS * 12];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "%03d.jpg", i);
        int n = 0;
        for (int bit = 0; bit < 10; bit++)
            for (int k = 0; k < 1 + (i >> bit & 1); k++) text[n++] = (char)('a' + bit);
        text[n] = 0;
        put(name, text);
    }
    update(&f);
    struct stat st;
    assert_int_equal(stat(in_folder(".diffc/vectors.1"), &st), 0);
    assert_int_equal(st.st_size, 64 + 1000 * 64);
    diffc_index *before = open_index(); /* keeps the file it has mapped */
    for (int i = 0; i < 600; i++) {
        snprintf(name, sizeof name, "%03d.jpg", i);
        unlink(in_folder(name));
    }
    update(&f);
    assert_int_equal(stat(in_folder(".diffc/vectors.1"), &st), -1);
    assert_int_equal(stat(in_folder(".diffc/vectors.2"), &st), 0);
    assert_int_equal(st.st_size, 64 + 400 * 64);
    expect_index(400, 0);
    diffc_error e = {0};
    assert_int_equal(diffc_index_check(before, &e), DIFFC_OK);
    diffc_index_close(before);
    put("000.jpg", "kkk");
    update(&f);
    assert_string_equal(found("k", 1), "000.jpg");
    expect_index(401, 0);
}

static void an_index_elsewhere(void **state)
{
    (void)state;
    fake f = {0};
    put_folder("pictures"), put("pictures/a.jpg", "aaa"), put_folder("other");
    diffc_error e = {0};
    diffc_embedder m = fake_embedder(&f);
    char root[100], index[100];
    snprintf(root, sizeof root, "%s", in_folder("pictures"));
    snprintf(index, sizeof index, "%s", in_folder("index"));
    diffc_index_options o = {.root = root, .index = index, .model_path = "some/model"};
    assert_int_equal(diffc_index_update(&o, &m, NULL, &e), DIFFC_OK);
    diffc_index *x;
    diffc_index_info i;
    assert_int_equal(diffc_index_open(&x, index, NULL, NULL, &e), DIFFC_OK);
    assert_int_equal(diffc_index_about(x, &i, &e), DIFFC_OK);
    assert_string_equal(i.root, root);
    assert_string_equal(i.model_path, "some/model");
    diffc_index_close(x);
    o.root = in_folder("other");
    assert_int_equal(diffc_index_update(&o, &m, NULL, &e), DIFFC_USAGE);
    e = (diffc_error){0};
    assert_int_equal(diffc_index_open(&x, NULL, root, NULL, &e), DIFFC_NO_INPUT);
    o.root = in_folder("nowhere");
    e = (diffc_error){0};
    assert_int_equal(diffc_index_update(&o, &m, NULL, &e), DIFFC_NO_INPUT);
}

static void the_nearest_index_is_found(void **state)
{
    (void)state;
    fake f = {0};
    put_folder("a"), put_folder("a/b"), put("a/x.jpg", "aaa");
    update(&f);
    diffc_index *x;
    diffc_index_info i;
    diffc_error e = {0};
    assert_int_equal(diffc_index_open(&x, NULL, in_folder("a/b"), NULL, &e), DIFFC_OK);
    assert_int_equal(diffc_index_about(x, &i, &e), DIFFC_OK);
    assert_string_equal(i.root, in_folder("a/b/../.."));
    diffc_index_close(x);
}

/* What a watch does is driven by what it tells: a file comes, goes, and comes in a new folder. */
typedef struct watched {
    int updates;
    bool stop;
    time_t began;
} watched;

static void on_update(void *user, const diffc_index_summary *s)
{
    watched *w = user;
    switch (w->updates++) {
    case 0:
        assert_int_equal(s->added, 1);
        put("b.jpg", "bbb");
        break;
    case 1:
        assert_int_equal(s->added, 1);
        unlink(in_folder("a.jpg"));
        break;
    case 2:
        assert_int_equal(s->removed, 1);
        put_folder("sub"), put("sub/c.jpg", "ccc");
        break;
    case 3:
        assert_int_equal(s->added, 1);
        put("sub/d.jpg", "ddd"); /* in a folder that was not there when the watch began */
        break;
    default: assert_int_equal(s->added, 1); w->stop = true;
    }
}

static bool stop_watching(void *user, const diffc_index_progress *p)
{
    const watched *w = user;
    (void)p;
    return w->stop || time(NULL) - w->began > 120;
}

static void a_watched_folder(void **state)
{
    (void)state;
    fake f = {0};
    watched w = {.began = time(NULL)};
    diffc_error e = {0};
    diffc_embedder m = fake_embedder(&f);
    put("a.jpg", "aaa");
    diffc_index_options o = {.root = folder, .user = &w, .on_update = on_update, .on_progress = stop_watching};
    assert_int_equal(diffc_index_watch(&o, &m, &e), DIFFC_CANCELLED);
    assert_int_equal(w.updates, 5);
    expect_index(3, 0);
}

static void an_index_that_cannot_be_written(void **state)
{
    (void)state;
    fake f = {0};
    diffc_error e = {0};
    put("a.jpg", "aaa"), put("b.jpg", "bbb");
    const bool root = !geteuid();
    if (root) assert_int_equal(chown(folder, 65534, 65534) | seteuid(65534), 0);
    update(&f);
    assert_int_equal(chmod(in_folder(".diffc"), 0555) | chmod(in_folder(".diffc/lock"), 0444) | chmod(in_folder(".diffc/index.sqlite"), 0444), 0);
    diffc_embedder m = fake_embedder(&f);
    const diffc_status s = diffc_index_update(&(diffc_index_options){.root = folder}, &m, NULL, &e);
    const char *first = found("b", 1); /* as on a medium that cannot be written */
    if (root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(s, DIFFC_NO_CREATE);
    assert_string_equal(first, "b.jpg");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_what_is_new_is_read),
        TEST(moved_and_copied_need_no_model),
        TEST(what_cannot_be_read_stops_nothing),
        TEST(folders_that_cannot_be_read_keep_what_is_known),
        TEST(names_are_bytes),
        TEST(links_never_lead_in_circles),
        TEST(what_is_left_out),
        TEST(a_fresh_file_is_looked_at_again),
        TEST(a_model_that_fails_keeps_earlier_batches),
        TEST(stopping_keeps_what_is_done),
        TEST(another_model_is_refused),
        TEST(one_writes_others_read),
        TEST(rows_of_what_is_gone_are_given_back),
        TEST(an_index_elsewhere),
        TEST(the_nearest_index_is_found),
        TEST(a_watched_folder),
        TEST(an_index_that_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
