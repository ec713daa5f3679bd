/* bounds.h - what a hostile file may cost its reader: at most twice its bytes and 16 MiB of memory, at most a second a MiB. */
#ifndef TESTS_WEIGHTS_BOUNDS_H
#define TESTS_WEIGHTS_BOUNDS_H
#include "tests/weights/files.h"
#include "weights/weights.h"
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

static inline uint64_t status_kib(const char *key)
{
    char line[256];
    unsigned long long v = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key))) sscanf(line + strlen(key), ": %llu", &v);
    if (f) fclose(f);
    return v;
}

/* Opens the file in a child that has no more data memory than allowed for n bytes read; its status must be `want`, its time below a
 * second a MiB (and a second; four times that with sanitizers). */
static inline void within_bounds(const char *path, uint64_t n, dc_status want, const char *says)
{
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    pid_t child = fork();
    if (!child) {
        rlim_t limit = status_kib("VmData") * 1024 + 2 * n + (16u << 20);
        struct rlimit r = {limit, limit};
        dc_weights *w;
        dc_error e = {0};
        if (!SANITIZED) setrlimit(RLIMIT_DATA, &r);
        dc_status s = dc_weights_open(&w, path, &e);
        if (s != want || !strstr(e.text, says)) fprintf(stderr, "%s: found %d \"%s\", expected %d \"%s\"\n", path, s, e.text, want, says);
        _exit(s != want || !strstr(e.text, says));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    clock_gettime(CLOCK_MONOTONIC, &b);
    double seconds = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
    assert_int_equal(status, 0);
    if (seconds > (SANITIZED ? 4 : 1) * (1 + (double)n / (1 << 20))) fail_msg("%s took %.2f s", path, seconds);
}

#endif
