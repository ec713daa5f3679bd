/* kill -9 at random moments of bringing an index up to date, while files come, change, move and go: afterwards the index is whole, every vector in
 * it is that of its content, and the next run completes. 24 times; 1,000 with DIFFC_LONG=1. */
#include "base/half.h"
#include "fake.h"
#include <math.h>
#include <signal.h>
#include <sys/wait.h>

enum { FILES = 700 };

static uint64_t random_state = 7;
static unsigned random_below(unsigned n)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(random_state >> 33) % n;
}

static bool there[FILES];
static int files;

/* A text of its own for every draw of 2^20. */
static void write_picture(int i)
{
    char name[20], text[LETTERS * 4];
    int n = 0;
    unsigned what = random_below(1u << 20);
    for (int k = 0; k < 10; k++, what >>= 2)
        for (unsigned times = 0; times <= (what & 3); times++) text[n++] = (char)('a' + k);
    text[n] = 0;
    snprintf(name, sizeof name, "%03d.jpg", i);
    put_aged(name, text, 10 + (int)random_below(100000));
    files += !there[i];
    there[i] = true;
}

static void change_folder(void)
{
    const unsigned most = random_below(8) ? 60 : FILES; /* now and then so many that the vectors are written anew */
    for (unsigned i = random_below(most); i; i--) {
        const int at = (int)random_below(FILES), to = (int)random_below(FILES);
        char name[20], other[20];
        snprintf(name, sizeof name, "%03d.jpg", at);
        snprintf(other, sizeof other, "%03d.jpg", to);
        const unsigned what = random_below(4);
        if (!there[at] || what < 1) {
            write_picture(at);
        } else if (what < 3) {
            files -= !unlink(in_folder(name));
            there[at] = false;
        } else if (at != to) {
            assert_int_equal(rename(in_folder(name), in_folder(other)), 0);
            there[at] = false;
            files -= there[to];
            there[to] = true;
        }
    }
}

static dc_status is_intact(void *ctx, const dc_record *r, dc_error *e)
{
    dc_store *s = ctx;
    (void)e;
    assert_true(r->row >= 0);
    char *text;
    size_t n;
    if (dc_read_file(in_folder(r->path), 1000, &text, &n, NULL)) return DC_OK; /* gone since */
    struct stat st;
    assert_int_equal(stat(in_folder(r->path), &st), 0);
    if (r->modified == st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec && r->size == st.st_size) {
        float v[LETTERS];
        double length = 0;
        fake_count(text, n, v);
        for (int i = 0; i < LETTERS; i++) length += (double)v[i] * v[i];
        for (int i = 0; i < LETTERS; i++)
            assert_true(fabs(dc_f16_to_f32(dc_store_rows(s)[r->row * dc_store_about(s)->width + i]) - v[i] / sqrt(length)) < 1e-3);
    }
    free(text);
    return DC_OK;
}

static void expect_whole(void)
{
    dc_store *s;
    dc_error e = {0};
    if (dc_store_open(&s, in_folder(".diffc"), &e)) { /* killed before there was one */
        assert_true(e.code == DC_NO_INPUT || strstr(e.text, "found an empty database"));
        return;
    }
    if (dc_store_check(s, &e) || dc_store_each(s, is_intact, s, &e)) fail_msg("%d: %s", e.code, e.text);
    dc_store_close(s);
}

static void run_and_kill(unsigned most_us)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        fake f = {.slow = 300};
        diffc_error e = {0};
        diffc_embedder m = fake_embedder(&f);
        diffc_index_options o = {.root = folder, .batch = 8, .threads = 2};
        _exit(diffc_index_update(&o, &m, NULL, &e) ? 9 : 0);
    }
    usleep(random_below(most_us));
    kill(child, SIGKILL);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) || (WIFEXITED(status) && !WEXITSTATUS(status)));
}

static void killed_at_any_moment(void **state)
{
    (void)state;
    const bool longer = getenv("DIFFC_LONG") != NULL;
    for (int i = 0; i < FILES; i++) write_picture(i);
    for (int round = 0; round < (longer ? 1000 : 24); round++) {
        run_and_kill(round % 3 ? 60000 : 400000);
        expect_whole();
        if (round % 6 == 5) {
            fake f = {0};
            assert_int_equal(update(&f).found, files);
            expect_index((uint64_t)files, 0);
        }
        change_folder();
    }
    fake f = {0};
    update(&f);
    expect_index((uint64_t)files, 0);
    diffc_index_summary s = update(&f);
    assert_int_equal(s.unchanged, files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(killed_at_any_moment, folder_make, folder_remove)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
