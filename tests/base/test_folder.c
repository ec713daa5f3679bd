/* Folders that are written as a whole: what carries the final name is whole, and nothing else stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h> /* wants those above first */

#include "base/file.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static int entries(const char *path)
{
    int n = 0;
    DIR *d = opendir(path);
    while (readdir(d)) n++;
    closedir(d);
    return n - 2;
}

static void put(dc_out_folder *f, const char *name)
{
    const char *path;
    dc_out *out;
    assert_int_equal(dc_out_folder_file(f, name, &path, NULL), DC_OK);
    assert_int_equal(dc_out_open(&out, path, false, NULL, NULL), DC_OK);
    assert_int_equal(dc_out_write(out, "x", 1, NULL), DC_OK);
    assert_int_equal(dc_out_commit(out, NULL), DC_OK);
}

static dc_out_folder *filled(const char *name)
{
    dc_out_folder *f;
    dc_error e = {0};
    if (dc_out_folder_open(&f, name, &e)) fail_msg("%s", e.text);
    assert_int_equal(dc_out_folder_make(f, "a", NULL), DC_OK);
    put(f, "a/one");
    put(f, "two");
    return f;
}

static void committed_and_abandoned(void **state)
{
    (void)state;
    dc_out_folder *f = filled("new/");
    assert_int_equal(access("new", F_OK), -1);
    assert_int_equal(dc_out_folder_commit(f, NULL), DC_OK);
    assert_int_equal(entries("new"), 2);
    assert_int_equal(access("new/a/one", F_OK), 0);
    assert_int_equal(mkdir("empty", 0700), 0);
    assert_int_equal(symlink("empty", "link"), 0);
    assert_int_equal(dc_out_folder_commit(filled("link"), NULL), DC_OK); /* the folder that the link means */
    assert_int_equal(entries("empty"), 2);
    dc_out_folder_abandon(filled("other"));
    dc_out_folder_abandon(NULL);
    assert_int_equal(entries("."), 3);
}

static void taken(void **state)
{
    static const struct {
        const char *name, *why;
    } cases[] = {{"full", "not empty"}, {"file", "a file of that name"}, {"nowhere/x", "No such file"}, {"dangling", "link to nothing"}};
    (void)state;
    dc_out_folder *f;
    assert_int_equal(system("mkdir full; touch full/x file; ln -s gone dangling"), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dc_error e = {0};
        assert_int_equal(dc_out_folder_open(&f, cases[i].name, &e), DC_NO_CREATE);
        if (!strstr(e.text, cases[i].why)) fail_msg("%s", e.text);
    }
    assert_int_equal(entries("."), 3);
    /* taken meanwhile: the newcomer stays */
    f = filled("late");
    assert_int_equal(system("mkdir late; touch late/x"), 0);
    assert_int_equal(dc_out_folder_commit(f, NULL), DC_NO_CREATE);
    assert_int_equal(entries("late"), 1);
    assert_int_equal(entries("."), 4);
}

static void pending_folders_can_be_removed(void **state)
{
    (void)state;
    pid_t child = fork();
    if (!child) {
        filled("a");
        dc_out_folder_abandon(filled("b"));
        filled("c");
        dc_out_remove_pending();
        _exit(0);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(entries("."), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(committed_and_abandoned, setup, teardown),
                                       cmocka_unit_test_setup_teardown(taken, setup, teardown),
                                       cmocka_unit_test_setup_teardown(pending_folders_can_be_removed, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
