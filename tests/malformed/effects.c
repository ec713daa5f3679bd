/* effects.c - opening a file executes nothing, connects nowhere and writes nothing. Every good and hostile file, every fuzzing input and every
 * golden model is opened in a process that the kernel ends at the first call of that kind (a seccomp filter, made by hand).
 *
 * First the filter itself is tried: processes that do such things must be ended. */
#include "include/diffc.h"
#include "tests/malformed/formats.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the filter ------------------------------------------------------------------------------------------------------- */

/* Ends the process. What is missing on an architecture has no number there. */
static const int forbidden[] = {
    SYS_execve, SYS_execveat, SYS_socket, SYS_connect, SYS_bind, SYS_listen, SYS_sendto, SYS_sendmsg, SYS_ptrace, SYS_openat2, SYS_unlinkat, SYS_renameat2,
    SYS_mkdirat, SYS_linkat, SYS_symlinkat, SYS_mknodat, SYS_truncate, SYS_ftruncate, SYS_fallocate, SYS_fchmod, SYS_fchmodat, SYS_fchownat,
    SYS_utimensat, SYS_setxattr, SYS_pwrite64, SYS_pwritev, SYS_copy_file_range, SYS_sendfile, SYS_splice, SYS_memfd_create, SYS_mount, SYS_chroot,
    SYS_kill, SYS_tgkill, SYS_process_vm_writev,
#ifdef SYS_open
    SYS_creat, SYS_unlink, SYS_rename, SYS_renameat, SYS_mkdir, SYS_rmdir, SYS_link, SYS_symlink, SYS_mknod, SYS_chmod, SYS_chown, SYS_fork, SYS_vfork,
#endif
};

static struct sock_filter program[512];
static unsigned short length;

static void put(unsigned short code, unsigned char yes, unsigned char no, unsigned k) { program[length++] = (struct sock_filter){code, yes, no, k}; }
static void load(size_t at) { put(BPF_LD | BPF_W | BPF_ABS, 0, 0, (unsigned)at); }

enum { ARGUMENTS = offsetof(struct seccomp_data, args) };

/* Call `number` ends the process when argument `which` has one of these bits. */
static void forbid_bits(int number, int which, unsigned bits)
{
    load(offsetof(struct seccomp_data, nr));
    put(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, (unsigned)number);
    load(ARGUMENTS + 8 * (size_t)which);
    put(BPF_JMP | BPF_JSET | BPF_K, 0, 1, bits);
    put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
}

/* Writing is for stdout and stderr. */
static void forbid_writing(int number)
{
    load(offsetof(struct seccomp_data, nr));
    put(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, (unsigned)number);
    load(ARGUMENTS);
    put(BPF_JMP | BPF_JGT | BPF_K, 0, 1, 2);
    put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
}

static bool forbid(void)
{
    const unsigned writing = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND;
    length = 0;
    forbid_bits(SYS_openat, 2, writing);
#ifdef SYS_open
    forbid_bits(SYS_open, 1, writing);
#endif
    forbid_writing(SYS_write);
    forbid_writing(SYS_writev);
    load(offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
        put(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, (unsigned)forbidden[i]);
        put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
    }
    put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {length, program};
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

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
static void starts_another(void)
{
    if (system("true")) return;
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
    static void (*const acts[])(void) = {executes, opens_to_write, opens_both_ways, connects, removes, renames, makes_a_folder, writes, starts_another};
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
        /* system() forks first: its child is the one that is ended */
        if (r != -1 && acts[i] != starts_another) printf("WRONG: act %zu is let through (%d)\n", i, r), good = false;
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
        if (diffc_inspect(folder, &text, &e) || diffc_tokenize(NULL, "a house", &ids, &n, &cut, &e)) _exit(3);
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
    } also[] = {{"safetensors", "golden/weights"},       {"safetensors", "fuzz/corpus/safetensors"}, {"index", "fuzz/corpus/json"}, {"png", "golden/image/files"},
                {"jpeg", "fuzz/corpus/image"},           {"png text", "golden/image"},               {"npy", "golden/base"},        {"unet", "fuzz/corpus/config"},
                {"scheduler", "fuzz/corpus/config"},     {"merges.txt", "fuzz/corpus/vocabulary"},   {"vocab.json", "fuzz/corpus/json"}};
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
