/* Mapped files that are cut short or written to while they are read: zeros and an error, never a signal that kills; and a SIGBUS that is not
 * about our files goes where it went before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/faults.h"
#include "base/file.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 64 };

/* A file in memory of `bytes` ones. */
static int ones(size_t bytes, char path[64])
{
    int fd = memfd_create("ones", 0);
    char *all = malloc(bytes);
    memset(all, 1, bytes);
    assert_int_equal(write(fd, all, bytes), bytes);
    free(all);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static uint64_t sum(const dc_map *m)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < m->size; i++) n += ((const volatile uint8_t *)m->data)[i];
    return n;
}

static void refused(const dc_map *m, const char *says)
{
    dc_error e = {0};
    assert_int_equal(dc_map_check(m, &e), DC_IO);
    if (!strstr(e.text, says) || strncmp(e.text, m->path, strlen(m->path)) || !*e.hint) fail_msg("found \"%s\", expected \"%s\"", e.text, says);
}

static void cut_short_reads_as_zeros(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = PAGES * page - 100;
    for (size_t left = 0; left < size; left += 3 * page + 17) {
        char path[64];
        int fd = ones(size, path);
        dc_error e = {0};
        dc_map m;
        assert_int_equal(dc_map_open(&m, path, &e), DC_OK);
        assert_int_equal(sum(&m), size);
        assert_int_equal(dc_map_check(&m, &e), DC_OK);
        assert_int_equal(ftruncate(fd, (off_t)left), 0);
        assert_int_equal(sum(&m), left);
        refused(&m, "found it cut short while in use");
        dc_map_forget(m.data, m.size);
        assert_int_equal(sum(&m), left);
        assert_int_equal(ftruncate(fd, (off_t)size), 0); /* grown again: what was read were zeros all the same */
        refused(&m, left < (PAGES - 1) * page ? "reading failed while in use" : "found it changed while in use");
        dc_map_close(&m);
        close(fd);
    }
}

static void written_to_is_noticed(void **state)
{
    (void)state;
    char path[64];
    int fd = ones(100, path);
    dc_error e = {0};
    dc_map m;
    assert_int_equal(dc_map_open(&m, path, &e), DC_OK);
    usleep(20000); /* clocks of file systems are coarse */
    assert_int_equal(pwrite(fd, "x", 1, 50), 1);
    refused(&m, "found it changed while in use");
    dc_map_close(&m);
    assert_int_equal(dc_map_open(&m, path, &e), DC_OK);
    assert_int_equal(ftruncate(fd, 101), 0);
    refused(&m, "found it changed while in use");
    dc_map_close(&m);
    close(fd);
}

static atomic_bool go;

static void *read_all(void *map)
{
    while (!atomic_load(&go)) {}
    for (int i = 0; i < 20; i++) sum(map);
    return NULL;
}

static void many_threads_at_once(void **state)
{
    (void)state;
    size_t size = PAGES * (size_t)sysconf(_SC_PAGESIZE);
    for (int round = 0; round < 50; round++) {
        char path[64];
        int fd = ones(size, path);
        dc_error e = {0};
        dc_map m;
        pthread_t thread[4];
        assert_int_equal(dc_map_open(&m, path, &e), DC_OK);
        atomic_store(&go, false);
        for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&thread[i], NULL, read_all, &m), 0);
        atomic_store(&go, true);
        if (round % 2) usleep(100);
        assert_int_equal(ftruncate(fd, round * 1000), 0);
        for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
        refused(&m, "found it cut short while in use");
        dc_map_close(&m);
        close(fd);
    }
}

/* ---- what is not ours ---------------------------------------------------------------------------------------------- */

static void exit_with_7(int number) { _exit(number == SIGBUS ? 7 : 8); }
static void exit_with_9(int number, siginfo_t *info, void *context) { _exit(number == SIGBUS && info->si_addr && context ? 9 : 8); }

enum way { PLAIN, WITH_INFO, DEFAULT, SENT, SENT_IGNORED };

/* A process with this handler of its own and then a mapped file, which touches a page that somebody else's mapping has lost. */
static int foreign_fault(enum way way)
{
    pid_t child = fork();
    if (!child) {
        struct sigaction own = {.sa_handler = way == PLAIN ? exit_with_7 : way == SENT_IGNORED ? SIG_IGN : SIG_DFL};
        if (way == WITH_INFO) own = (struct sigaction){.sa_sigaction = exit_with_9, .sa_flags = SA_SIGINFO};
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        sigaction(SIGBUS, &own, NULL);
        char path[64];
        int fd = ones(100, path), other = ones(100, (char[64]){0});
        dc_map m;
        volatile char *p = mmap(NULL, 100, PROT_READ, MAP_SHARED, other, 0);
        if (dc_map_open(&m, path, NULL) || p == MAP_FAILED || ftruncate(fd, 0) || ftruncate(other, 0)) _exit(1);
        if (sum(&m)) _exit(2); /* ours is dealt with */
        if (way == SENT || way == SENT_IGNORED) raise(SIGBUS);
        else (void)*p;
        _exit(way == SENT_IGNORED && !sum(&m) ? 0 : 3);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void foreign_faults_pass_on(void **state)
{
    (void)state;
    int status = foreign_fault(PLAIN);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    status = foreign_fault(WITH_INFO);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 9);
    status = foreign_fault(DEFAULT);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    status = foreign_fault(SENT);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    status = foreign_fault(SENT_IGNORED);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A handler that is installed after ours and passes on to it, and ours on top of that one again: no endless round. */
static struct sigaction inner;
static void to_inner(int number, siginfo_t *info, void *context) { inner.sa_sigaction(number, info, context); }

static void handlers_in_a_ring(void **state)
{
    (void)state;
    pid_t child = fork();
    if (!child) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGBUS, SIG_DFL);
        char path[64];
        int fd = ones(100, path), other = ones(100, (char[64]){0});
        dc_map m, again;
        volatile char *p = mmap(NULL, 100, PROT_READ, MAP_SHARED, other, 0);
        if (dc_map_open(&m, path, NULL)) _exit(1);
        sigaction(SIGBUS, &(struct sigaction){.sa_sigaction = to_inner, .sa_flags = SA_SIGINFO}, &inner);
        if (dc_map_open(&again, path, NULL) || ftruncate(fd, 0) || ftruncate(other, 0) || sum(&m) || sum(&again)) _exit(2);
        (void)*p;
        _exit(3);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

/* More files than the table has places: refused, and possible again once some are closed. */
static void too_many_files(void **state)
{
    (void)state;
    char path[64];
    int fd = ones(1, path), n = 0;
    dc_error e = {0};
    dc_map m[8] = {{0}}, extra;
    int *watched = malloc(DC_FAULT_RANGES * sizeof *watched);
    for (; n < 8; n++) assert_int_equal(dc_map_open(&m[n], path, &e), DC_OK);
    int k = 0;
    while ((watched[k] = dc_fault_watch(&m, 1)) >= 0) k++;
    assert_int_equal(k, DC_FAULT_RANGES - 8);
    assert_int_equal(dc_map_open(&extra, path, &e), DC_IO);
    assert_non_null(strstr(e.text, "4096 files mapped already"));
    while (k) dc_fault_unwatch(watched[--k]);
    e = (dc_error){0};
    assert_int_equal(dc_map_open(&extra, path, &e), DC_OK);
    dc_map_close(&extra);
    while (n) dc_map_close(&m[--n]);
    free(watched);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(foreign_faults_pass_on), cmocka_unit_test(handlers_in_a_ring),   cmocka_unit_test(cut_short_reads_as_zeros),
        cmocka_unit_test(written_to_is_noticed),  cmocka_unit_test(many_threads_at_once), cmocka_unit_test(too_many_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
