/* effects.c - opening a file executes nothing, connects nowhere and writes nothing. Every good file, every fuzzing input and every golden model
 * is opened in a process that the kernel ends at the first call of that kind (a seccomp filter, made by hand).
 *
 * First the filter itself is tried: processes that do such things must be ended. */
#include "include/diffc.h"
#include "tests/malformed/filter.h"
#include "tests/malformed/formats.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- that it works -------------------------------------------------------------------------------------------------------- */

static void executes(void) { execl("/bin/true", "true", NULL); }
static void opens_to_write(void) { open("/tmp/diffc-effects", O_WRONLY | O_CREAT, 0600); }
static void opens_both_ways(void) { fopen("/dev/null", "r+"); }
static void connects(void) { socket(AF_INET, SOCK_STREAM, 0); }
static void removes(void) { unlink("/tmp/diffc-effects"); }
static void renames(void) { rename("/tmp/diffc-effects", "/tmp/diffc-effects-2"); }
static void makes_a_folder(void) { mkdir("/tmp/diffc-effects-3", 0700); }
static void writes(void)
{
    if (write(7, "x", 1) < 0) return;
}

/* 0: the child came to its end; -1: it was ended by the filter; else what it exited with. */
static int result(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS ? -1 : WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static bool filter_works(void)
{
    static void (*const acts[])(void) = {executes, opens_to_write, opens_both_ways, connects, removes, renames, makes_a_folder, writes};
    bool good = true;
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        pid_t child = fork();
        if (!child) {
            if (!forbid()) _exit(77);
            acts[i]();
            _exit(0);
        }
        int r = result(child);
        if (r == 77) {
            printf("there are no seccomp filters here\n");
            exit(77);
        }
        if (r != -1) printf("WRONG: act %zu is let through (%d)\n", i, r), good = false;
    }
    return good;
}

/* ---- opening under it ----------------------------------------------------------------------------------------------------- */

static long files;

/* All files of a folder and those below, one after the other in the process that is watched; named when it ends. */
static void open_all(const format *f, const char *path)
{
    struct stat st;
    char link[512];
    if (stat(path, &st)) return;
    if (S_ISDIR(st.st_mode)) {
        DIR *d = opendir(path);
        for (struct dirent *x; d && (x = readdir(d));) {
            char below[2048];
            if (x->d_name[0] == '.') continue;
            snprintf(below, sizeof below, "%s/%s", path, x->d_name);
            open_all(f, below);
        }
        if (d) closedir(d);
        return;
    }
    int fd = open(path, O_RDONLY);
    if (fd < 0) return;
    formats_place(f, fd, link);
    pid_t child = fork();
    if (!child) {
        dc_error e = {0};
        if (!forbid()) _exit(1);
        f->open(link, &e);
        _exit(0);
    }
    int r = result(child);
    if (r) {
        printf("WRONG: %s as %s: %s %d\n", path, f->name, r < 0 ? "the filter ended it" : "ended with", r);
        exit(1);
    }
    files++;
    close(fd);
}

static void open_model(const char *folder)
{
    pid_t child = fork();
    if (!child) {
        diffc_model *m;
        diffc_error e = {0};
        char *text;
        int32_t *ids;
        int n, cut;
        if (!forbid()) _exit(1);
        if (diffc_open(&m, &(diffc_options){.model = folder, .threads = 1}, &e)) fprintf(stderr, "%s\n", e.text), _exit(2);
        diffc_close(m);
        if (diffc_inspect(folder, false, &text, &e) || diffc_tokenize(NULL, "a house", &ids, &n, &cut, &e)) _exit(3);
        _exit(0);
    }
    int r = result(child);
    if (r) {
        printf("WRONG: %s: %s %d\n", folder, r < 0 ? "the filter ended it" : "ended with", r);
        exit(1);
    }
    files++;
}

int main(void)
{
    static const char *const models[] = {"sd1", "sd1-inpaint", "sd1-turbo", "sd1-v", "sd1-zsnr", "sdxl"};
    static const struct {
        const char *format, *folder;
    } also[] = {{"safetensors", "golden/weights"},
                {"safetensors", "fuzz/corpus/safetensors"},
                {"gguf", "fuzz/corpus/gguf"},
                {"index", "fuzz/corpus/json"},
                {"png", "golden/image/files"},
                {"jpeg", "fuzz/corpus/image"},
                {"webp", "fuzz/corpus/image"},
                {"picture text", "golden/image/text"},
                {"png text", "golden/image"},
                {"npy", "golden/base"},
                {"unet", "fuzz/corpus/config"},
                {"scheduler", "fuzz/corpus/config"},
                {"merges.txt", "fuzz/corpus/vocabulary"},
                {"vocab.json", "fuzz/corpus/json"}};
    char path[512];
    if (!filter_works()) return 1;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        snprintf(path, sizeof path, "%s/golden/models/%s", TEST_DATA, models[i]);
        open_model(path);
    }
    formats_begin();
    for (int i = 0; i < n_formats; i++) {
        for (int k = 0; formats[i].seed[k]; k++) {
            snprintf(path, sizeof path, "%s/%s", TEST_DATA, formats[i].seed[k]);
            open_all(&formats[i], path);
        }
        for (size_t k = 0; k < sizeof also / sizeof *also; k++) {
            if (strcmp(also[k].format, formats[i].name)) continue;
            snprintf(path, sizeof path, "%s/%s", TEST_DATA, also[k].folder);
            open_all(&formats[i], path);
        }
        formats_restore(&formats[i]);
    }
    formats_end();
    printf("%ld files opened, nothing executed, connected or written\n", files);
    return files < 300;
}
