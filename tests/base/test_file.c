/* Files: what carries a final name is whole, or it is the old one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h> /* wants those above first */

#include "base/file.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/diffc-test-XXXXXX");
    return mkdtemp(folder) ? chdir(folder) : 1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return chdir("/") || system(command);
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void holds(const char *name, const char *text)
{
    dc_error e = {0};
    char *got = NULL;
    size_t n;
    if (dc_read_file(name, 1 << 20, &got, &n, &e)) fail_msg("%s", e.text);
    assert_string_equal(got, text);
    free(got);
}

static dc_status write_text(const char *name, const char *text, bool exclusive, bool *exists, dc_error *e)
{
    dc_out *o = NULL;
    dc_status s = dc_out_open(&o, name, exclusive, exists, e);
    if (!s) s = dc_out_write(o, text, strlen(text), e);
    if (!s) return dc_out_commit(o, e);
    dc_out_abandon(o);
    return s;
}

static void names_are_taken_and_replaced(void **state)
{
    (void)state;
    dc_error e = {0};
    bool exists = false;
    assert_int_equal(write_text("a", "one", false, NULL, &e), DC_OK);
    holds("a", "one");
    assert_int_equal(write_text("a", "two", true, &exists, &e), DC_NO_CREATE);
    assert_true(exists);
    holds("a", "one");
    e = (dc_error){0};
    assert_int_equal(write_text("a", "two", false, NULL, &e), DC_OK);
    holds("a", "two");
    assert_int_equal(write_text("b", "new", true, &exists, &e), DC_OK);
    assert_int_equal(symlink("a", "link"), 0);
    assert_int_equal(write_text("link", "three", false, NULL, &e), DC_OK);
    holds("a", "three");
    struct stat st;
    assert_true(lstat("link", &st) == 0 && S_ISLNK(st.st_mode));
    assert_int_equal(chmod("a", 0600), 0);
    assert_int_equal(write_text("a", "four", false, NULL, &e), DC_OK);
    assert_true(stat("a", &st) == 0 && (st.st_mode & 0777) == 0600);
}

static int files_here(void)
{
    FILE *p = popen("ls -A | wc -l", "r");
    int n = -1;
    assert_int_equal(fscanf(p, "%d", &n), 1);
    pclose(p);
    return n;
}

static void abandoned_and_failed_writes_leave_nothing(void **state)
{
    (void)state;
    dc_error e = {0};
    dc_out *o;
    put("kept", "old");
    int before = files_here();
    assert_int_equal(dc_out_open(&o, "kept", false, NULL, &e), DC_OK);
    assert_int_equal(dc_out_write(o, "half", 4, &e), DC_OK);
    assert_int_equal(files_here(), before + 1);
    dc_out_abandon(o);
    assert_int_equal(files_here(), before);
    holds("kept", "old");
    dc_out_abandon(NULL);
    assert_int_equal(dc_out_open(&o, "no/such/folder", false, NULL, &e), DC_NO_CREATE);
    e = (dc_error){0};
    assert_int_equal(dc_out_open(&o, folder, false, NULL, &e), DC_NO_CREATE);
    e = (dc_error){0};
    assert_int_equal(write_text("/dev/full", "x", false, NULL, &e), DC_IO);
    assert_int_equal(write_text("/dev/null", "x", false, NULL, &(dc_error){0}), DC_OK);
    struct stat st;
    assert_true(stat("/dev/full", &st) == 0 && S_ISCHR(st.st_mode) && stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode));
    assert_int_equal(dc_out_check("kept", &(dc_error){0}), DC_OK);
    assert_int_equal(dc_out_check("new", &(dc_error){0}), DC_OK);
    assert_int_equal(dc_out_check("no/new", &(dc_error){0}), DC_NO_CREATE);
}

/* A child that is killed in mid-write, or that runs into a file size limit. */
static void a_killed_writer_leaves_the_old_file(void **state)
{
    (void)state;
    put("victim", "old");
    pid_t child = fork();
    if (child == 0) {
        dc_out *o;
        dc_error e = {0};
        if (dc_out_open(&o, "victim", false, NULL, &e) == DC_OK) dc_out_write(o, "new", 3, &e);
        raise(SIGKILL);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    holds("victim", "old");
    child = fork();
    if (child == 0) {
        struct rlimit r = {4096, 4096};
        char block[8192] = {0};
        dc_out *o;
        dc_error e = {0};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &r);
        dc_status s = dc_out_open(&o, "victim", false, NULL, &e);
        if (!s) s = dc_out_write(o, block, sizeof block, &e);
        dc_out_abandon(o);
        _exit(s == DC_IO ? 0 : 1);
    }
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    holds("victim", "old");
}

static void pending_files_can_be_removed(void **state)
{
    (void)state;
    dc_error e = {0};
    dc_out *o;
    int before = files_here();
    assert_int_equal(dc_out_open(&o, "pending", false, NULL, &e), DC_OK);
    assert_int_equal(files_here(), before + 1);
    dc_out_remove_pending(); /* as a signal handler would */
    assert_int_equal(files_here(), before);
    dc_out_abandon(o);
}

static void mapping(void **state)
{
    (void)state;
    dc_error e = {0};
    dc_map m;
    put("m", "mapped");
    assert_int_equal(dc_map_open(&m, "m", &e), DC_OK);
    assert_true(m.size == 6 && !memcmp(m.data, "mapped", 6));
    assert_int_equal(dc_map_check(&m, &e), DC_OK);
    assert_int_equal(truncate("m", 2), 0);
    assert_int_equal(dc_map_check(&m, &e), DC_IO);
    dc_map_close(&m);
    dc_map_close(&m);
    e = (dc_error){0};
    assert_int_equal(dc_map_open(&m, "missing", &e), DC_NO_INPUT);
    e = (dc_error){0};
    assert_int_equal(dc_map_open(&m, folder, &e), DC_NO_INPUT);
    put("empty", "");
    e = (dc_error){0};
    assert_int_equal(dc_map_open(&m, "empty", &e), DC_OK);
    assert_true(m.size == 0 && !m.data);
    dc_map_close(&m);
    char *text;
    size_t n;
    put("long", "0123456789");
    assert_int_equal(dc_read_file("long", 9, &text, &n, &e), DC_DATA);
}

static void paths_from_files(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "a/b.safetensors", "a..b", "..a", "model-00001-of-00002.safetensors"};
    static const char *const bad[] = {"", "/a", "..", "../a", "a/../b", "a/..", "a\\b", "C:a", "a\nb", "\x7f"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(dc_is_safe_relative(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(dc_is_safe_relative(bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_are_taken_and_replaced),
                                       cmocka_unit_test(abandoned_and_failed_writes_leave_nothing),
                                       cmocka_unit_test(a_killed_writer_leaves_the_old_file),
                                       cmocka_unit_test(pending_files_can_be_removed),
                                       cmocka_unit_test(mapping),
                                       cmocka_unit_test(paths_from_files)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
