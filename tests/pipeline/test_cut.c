/* Model files cut short, emptied or written to while a model is in use: at each moment of a run, in this process, and at random moments by
 * another one. Either the run fails with IO and names the file, or its picture is the right one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "include/diffc.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GOLDEN TEST_DATA "/golden/models/sd1/"

static char folder[] = "/tmp/diffc-test-XXXXXX";
static const char *const parts[] = {"text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
                                    "vae/diffusion_pytorch_model.safetensors"};
static const char *const others[] = {"model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "unet/config.json",
                                     "vae/config.json"};

static const char *inside(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* A new file each time: mappings of the old one keep it. */
static void copy(const char *name)
{
    char from[512], block[65536];
    snprintf(from, sizeof from, GOLDEN "%s", name);
    unlink(inside(name));
    int in = open(from, O_RDONLY), out = open(inside(name), O_WRONLY | O_CREAT | O_EXCL, 0644);
    assert_true(in >= 0 && out >= 0);
    for (ssize_t n; (n = read(in, block, sizeof block)) > 0;) assert_int_equal(write(out, block, (size_t)n), n);
    close(in);
    close(out);
}

static int make_folder(void **state)
{
    (void)state;
    static const char *const below[] = {"scheduler", "text_encoder", "unet", "vae"};
    if (!mkdtemp(folder)) return -1;
    setenv("XDG_CACHE_HOME", folder, 1); /* hashes are remembered there */
    for (int i = 0; i < 4; i++) mkdir(inside(below[i]), 0755);
    for (int i = 0; i < 5; i++) copy(others[i]);
    for (int i = 0; i < 3; i++) copy(parts[i]);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* ---- damage ---------------------------------------------------------------------------------------------------------- */

enum { CUT, EMPTY, GROWN_AGAIN, WRITTEN, WAYS };

static void damage(const char *path, int way)
{
    struct stat st;
    if (stat(path, &st)) return;
    if (way == WRITTEN) {
        char zeros[4096] = {0};
        int fd = open(path, O_WRONLY);
        for (off_t at = st.st_size / 2; at < st.st_size - (off_t)sizeof zeros; at += (off_t)sizeof zeros)
            if (pwrite(fd, zeros, sizeof zeros, at) < 0) break;
        close(fd);
        return;
    }
    if (truncate(path, way == EMPTY ? 0 : way == CUT ? st.st_size * 2 / 3 : 100)) return;
    if (way == GROWN_AGAIN && truncate(path, st.st_size)) return;
}

typedef struct run {
    int at, calls; /* damage at this call of on_progress; < 0: never */
    const char *victim;
    int way;
    uint64_t sum; /* of the picture */
    int pictures;
} run;

static bool progress(void *user, const diffc_progress *p)
{
    (void)p;
    run *r = user;
    if (r->calls++ == r->at) damage(r->victim, r->way);
    return false;
}

static diffc_status keep(void *user, const diffc_result *result, diffc_error *error)
{
    (void)error;
    run *r = user;
    r->pictures++;
    for (int i = 0; i < result->image->width * result->image->height * 3; i++) r->sum = r->sum * 31 + result->image->pixels[i];
    return DIFFC_OK;
}

static diffc_status generate(diffc_model *m, run *r, diffc_error *e)
{
    diffc_request q;
    diffc_request_defaults(m, &q);
    q.prompt = "a house";
    q.width = q.height = 32;
    q.steps = 2;
    q.seed = 1;
    q.on_progress = progress;
    q.on_image = keep;
    q.user = r;
    r->calls = r->pictures = 0;
    r->sum = 0;
    return diffc_generate(m, &q, e);
}

static diffc_model *open_model(diffc_error *e)
{
    diffc_model *m = NULL;
    diffc_open(&m, &(diffc_options){.model = folder, .threads = 1}, e);
    return m;
}

static run right(void)
{
    diffc_error e = {0};
    run r = {.at = -1};
    diffc_model *m = open_model(&e);
    if (!m || generate(m, &r, &e)) fail_msg("%s", e.text);
    diffc_close(m);
    assert_int_equal(r.pictures, 1);
    return r;
}

/* One file at one moment. Does it fail? */
static bool try_one(const run *want, const char *part, int at, int way)
{
    diffc_error e = {0};
    char victim[512];
    snprintf(victim, sizeof victim, "%s", inside(part));
    run r = {.at = at, .victim = victim, .way = way};
    copy(part);
    usleep(way == WRITTEN ? 8000 : 0); /* clocks of file systems are coarse */
    diffc_model *m = open_model(&e);
    if (!m) fail_msg("%s", e.text);
    if (at < 0) damage(victim, way); /* between opening and the run */
    diffc_status s = generate(m, &r, &e);
    if (s && (s != DIFFC_IO || !strstr(e.text, part) || !strstr(e.text, "while in use") || r.pictures))
        fail_msg("%s, call %d, way %d: found %d \"%s\", %d pictures", part, at, way, s, e.text, r.pictures);
    if (!s && r.sum != want->sum) fail_msg("%s, call %d, way %d: another picture", part, at, way);
    diffc_close(m);
    copy(part);
    return s != DIFFC_OK;
}

static void at_every_moment(void **state)
{
    (void)state;
    const run want = right();
    int step = getenv("DIFFC_LONG") || want.calls < 12 ? 1 : want.calls / 12;
    for (int i = 0; i < 3; i++) {
        int failed = 0, n = 0;
        for (int way = 0; way < WAYS; way++)
            if (!try_one(&want, parts[i], -1, way)) fail_msg("%s, way %d: damaged before the run, and still a picture", parts[i], way);
        for (int at = want.calls - 1; at >= 0; at -= step, n++) failed += try_one(&want, parts[i], at, n % WAYS);
        if (!failed || failed == n) fail_msg("%s: %d of %d runs failed", parts[i], failed, n);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static pid_t damage_later(const char *path, int way, long us)
{
    pid_t child = fork();
    if (child) return child;
    nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
    damage(path, way);
    _exit(0);
}

/* Another process does it, at any time from opening on: opening may then refuse what it finds as well. */
static void by_another_process(void **state)
{
    (void)state;
    const run want = right();
    const double began = now();
    right();
    const long most = (long)(1.2e6 * (now() - began)); /* us: some come too late */
    int failed = 0, runs = getenv("DIFFC_LONG") ? 1000 : 30;
    srand(1);
    for (int k = 0; k < runs; k++) {
        const char *part = parts[k % 3];
        copy(part);
        long delay = rand() % most;
        int way = k / 3 % WRITTEN; /* written to before it is opened, a file is just another one */
        bool open_first = k % 2;   /* else it may be damaged while it is opened */
        diffc_error e = {0};
        run r = {.at = -1};
        diffc_model *m = open_first ? open_model(&e) : NULL;
        pid_t child = damage_later(inside(part), way, open_first ? delay / 4 : delay);
        if (!open_first) m = open_model(&e);
        diffc_status s = m ? generate(m, &r, &e) : e.code;
        if (s && ((s != DIFFC_IO && (m || s != DIFFC_DATA)) || !strstr(e.text, part)))
            fail_msg("%s after %ld us, way %d: found %d \"%s\"", part, delay, way, s, e.text);
        if (!s && (r.sum != want.sum || r.pictures != 1)) fail_msg("%s after %ld us, way %d: another picture", part, delay, way);
        failed += s != 0;
        diffc_close(m);
        waitpid(child, NULL, 0);
        copy(part);
    }
    printf("%d of %d runs failed, as they should\n", failed, runs);
    assert_true(failed > runs / 20);
}

/* A model that keeps its prepared weights does not need the files of the UNet and the VAE again. */
static void resident_models_go_on(void **state)
{
    (void)state;
    const run want = right();
    diffc_error e = {0};
    diffc_model *m = NULL;
    run r = {.at = -1};
    if (diffc_open(&m, &(diffc_options){.model = folder, .threads = 2, .resident = true}, &e) || generate(m, &r, &e)) fail_msg("%s", e.text);
    damage(inside(parts[1]), EMPTY);
    damage(inside(parts[2]), EMPTY);
    if (generate(m, &r, &e)) fail_msg("%s", e.text);
    assert_true(r.sum == want.sum);
    damage(inside(parts[0]), EMPTY); /* its tables are looked up in the file */
    assert_int_equal(generate(m, &r, &e), DIFFC_IO);
    assert_int_equal(r.pictures, 0);
    diffc_close(m);
    for (int i = 0; i < 3; i++) copy(parts[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(at_every_moment), cmocka_unit_test(by_another_process),
                                       cmocka_unit_test(resident_models_go_on)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
