/* filter.h - a seccomp filter, made by hand, that ends the process at the first call which executes, connects, or changes any file or folder;
 * writing to stdout and stderr stays possible. */
#ifndef TESTS_MALFORMED_FILTER_H
#define TESTS_MALFORMED_FILTER_H
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Ends the process. What is missing on an architecture has no number there. */
static const int forbidden[] = {
    SYS_execve,    SYS_execveat,     SYS_socket,   SYS_connect,   SYS_bind,      SYS_listen,          SYS_sendto,
    SYS_sendmsg,   SYS_ptrace,       SYS_openat2,  SYS_unlinkat,  SYS_renameat2, SYS_mkdirat,         SYS_linkat,
    SYS_symlinkat, SYS_mknodat,      SYS_truncate, SYS_ftruncate, SYS_fallocate, SYS_fchmod,          SYS_fchmodat,
    SYS_fchownat,  SYS_utimensat,    SYS_setxattr, SYS_pwrite64,  SYS_pwritev,   SYS_copy_file_range, SYS_sendfile,
    SYS_splice,    SYS_memfd_create, SYS_mount,    SYS_chroot,    SYS_kill,      SYS_tgkill,          SYS_process_vm_writev,
#ifdef SYS_open
    SYS_creat,     SYS_unlink,       SYS_rename,   SYS_renameat,  SYS_mkdir,     SYS_rmdir,           SYS_link,
    SYS_symlink,   SYS_mknod,        SYS_chmod,    SYS_chown,     SYS_fork,      SYS_vfork,
#endif
};

static struct sock_filter filter_program[512];
static unsigned short filter_length;

static void filter_put(unsigned short code, unsigned char yes, unsigned char no, unsigned k)
{
    filter_program[filter_length++] = (struct sock_filter){code, yes, no, k};
}
static void filter_load(size_t at) { filter_put(BPF_LD | BPF_W | BPF_ABS, 0, 0, (unsigned)at); }

enum { ARGUMENTS = offsetof(struct seccomp_data, args) };

/* Call `number` ends the process when argument `which` has one of these bits. */
static void forbid_bits(int number, int which, unsigned bits)
{
    filter_load(offsetof(struct seccomp_data, nr));
    filter_put(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, (unsigned)number);
    filter_load(ARGUMENTS + 8 * (size_t)which);
    filter_put(BPF_JMP | BPF_JSET | BPF_K, 0, 1, bits);
    filter_put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
}

/* Writing is for stdout and stderr. */
static void forbid_writing(int number)
{
    filter_load(offsetof(struct seccomp_data, nr));
    filter_put(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, (unsigned)number);
    filter_load(ARGUMENTS);
    filter_put(BPF_JMP | BPF_JGT | BPF_K, 0, 1, 2);
    filter_put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
}

static bool forbid(void)
{
    const unsigned writing = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND;
    filter_length = 0;
    forbid_bits(SYS_openat, 2, writing);
#ifdef SYS_open
    forbid_bits(SYS_open, 1, writing);
#endif
    forbid_writing(SYS_write);
    forbid_writing(SYS_writev);
    filter_load(offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
        filter_put(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, (unsigned)forbidden[i]);
        filter_put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
    }
    filter_put(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {filter_length, filter_program};
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

#endif
