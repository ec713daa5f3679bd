/* malformed.c - good files of every format, damaged systematically: cut at each byte; each bit of the first 4 KiB flipped; each 2, 4 and 8 bytes of
 * them, and each decimal number, replaced by {0, 1, -1, 2^31-1, 2^31, 2^32-1, 2^63-1, 2^64-1, value+1, value-1}. Each is opened, and
 *   - nothing crashes or hangs, none takes more than a second of CPU time a MiB (at least 1; pictures 5),
 *   - none takes more memory than twice its bytes and 16 MiB (besides pixels; not measured under a sanitizer, which has its own allocator),
 *   - each refusal has code 65, 66, 71 or 77, and one line that names the file.
 *
 *     malformed [--all | --every=N] [FORMAT...]        --every=N: each N-th of them; prints a table
 *
 * A process for 10,000 of them; the one at which a process ends is written to ./malformed-FORMAT-SEED-NUMBER. */
#include "tests/malformed/formats.h"
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FIRST = 4096, BATCH = 10000, MOST_CODES = 256 };

/* ---- memory: the C library's allocator, counted ---------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTED 0
#endif
#endif
#ifndef COUNTED
#define COUNTED 1
#endif

static volatile size_t taken, peak;

#if COUNTED
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);
#define FOR_ALL __attribute__((visibility("default"))) /* the libraries' own calls come here, too */

static void *count(void *p)
{
    taken += p ? malloc_usable_size(p) : 0;
    if (taken > peak) peak = taken;
    return p;
}

FOR_ALL void *malloc(size_t n) { return count(__libc_malloc(n)); }
FOR_ALL void *calloc(size_t n, size_t size) { return count(__libc_calloc(n, size)); }
FOR_ALL void *realloc(void *p, size_t n)
{
    size_t before = p ? malloc_usable_size(p) : 0;
    void *q = __libc_realloc(p, n);
    if (q || !n) taken -= before;
    return q ? count(q) : q;
}
FOR_ALL void free(void *p)
{
    if (p) taken -= malloc_usable_size(p);
    __libc_free(p);
}
#endif

/* ---- the files ---------------------------------------------------------------------------------------------------------- */

/* A good file, and how many there are of each damage. */
typedef struct seed {
    uint8_t *bytes;
    size_t n, first; /* first: how many of them are damaged */
    size_t *number;  /* where decimal numbers begin */
    size_t n_numbers;
} seed;

enum { VALUES = 10 };
static uint64_t value(int i, uint64_t was)
{
    static const uint64_t fixed[] = {0, 1, UINT64_MAX, INT32_MAX, 1ull << 31, UINT32_MAX, INT64_MAX};
    return i < 7 ? fixed[i] : i == 7 ? 1ull << 63 : i == 8 ? was + 1 : was - 1;
}

static bool digit(uint8_t c) { return c >= '0' && c <= '9'; }

static seed read_seed(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    seed s = {.bytes = malloc(1 << 20)};
    s.n = fread(s.bytes, 1, 1 << 20, f);
    s.first = s.n < FIRST ? s.n : FIRST;
    s.number = malloc((s.first + 1) * sizeof *s.number);
    for (size_t i = 0; i < s.first; i++)
        if (digit(s.bytes[i]) && (!i || !digit(s.bytes[i - 1]))) s.number[s.n_numbers++] = i;
    fclose(f);
    return s;
}

/* Windows: width, order of bytes, place. */
static const struct window {
    size_t width;
    bool big;
} windows[] = {{8, false}, {4, false}, {4, true}, {2, true}};
enum { WINDOWS = sizeof windows / sizeof *windows };

static size_t window_places(const seed *s, int w) { return s->first >= windows[w].width ? s->first - windows[w].width + 1 : 0; }

static size_t cases_of(const seed *s)
{
    size_t all = s->first + 8 * s->first + VALUES * s->n_numbers;
    for (int w = 0; w < WINDOWS; w++) all += VALUES * window_places(s, w);
    return all;
}

static void set_window(uint8_t *at, struct window w, int which)
{
    uint64_t was = 0;
    for (size_t i = 0; i < w.width; i++) was |= (uint64_t)at[w.big ? w.width - 1 - i : i] << 8 * i;
    uint64_t v = value(which, was);
    for (size_t i = 0; i < w.width; i++) at[w.big ? w.width - 1 - i : i] = (uint8_t)(v >> 8 * i);
}

static size_t set_decimal(const seed *s, size_t at, int which, uint8_t *to)
{
    uint64_t was = 0;
    size_t end = at;
    for (; end < s->n && digit(s->bytes[end]); end++) was = 10 * was + (uint64_t)(s->bytes[end] - '0');
    uint64_t v = value(which, was);
    memcpy(to, s->bytes, at);
    size_t n = at + (size_t)sprintf((char *)to + at, v == UINT64_MAX && which != 9 ? "-1" : "%" PRIu64, v);
    if (which == 2) n = at + (size_t)sprintf((char *)to + at, "18446744073709551615");
    memcpy(to + n, s->bytes + end, s->n - end);
    return n + s->n - end;
}

/* Damaged file number k of a seed, to `to` (room for 32 bytes more than the seed); its length. */
static size_t make(const seed *s, size_t k, uint8_t *to)
{
    if (k < s->first) { /* cut: at each of the first bytes, or spread over longer files */
        size_t n = s->n > s->first && k % 2 ? k * s->n / s->first : k;
        memcpy(to, s->bytes, n);
        return n;
    }
    k -= s->first;
    if (k >= 8 * s->first) {
        size_t d = k - 8 * s->first;
        if (d < VALUES * s->n_numbers) return set_decimal(s, s->number[d / VALUES], (int)(d % VALUES), to);
    }
    memcpy(to, s->bytes, s->n);
    if (k < 8 * s->first) {
        to[k / 8] ^= (uint8_t)(1u << k % 8);
        return s->n;
    }
    k -= 8 * s->first + VALUES * s->n_numbers;
    int w = 0;
    for (; k >= VALUES * window_places(s, w); w++) k -= VALUES * window_places(s, w);
    set_window(to + k / VALUES, windows[w], (int)(k % VALUES));
    return s->n;
}

/* ---- opening them ------------------------------------------------------------------------------------------------------------ */

/* What a process tells the one that waits for it. */
static struct told {
    size_t at; /* the file under way */
    uint64_t count[MOST_CODES];
    double most_seconds;
    uint64_t most_memory;
    uint64_t wrong;
} * told;

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void wrong(const char *what, const dc_error *e)
{
    if (told->wrong++ < 5) printf("WRONG: file %zu: %s: code %d, \"%s\"\n", told->at, what, e->code, e->text);
    fflush(stdout);
}

static void judge(const format *f, const char *folder, size_t n, dc_status s, const dc_error *e, double seconds, uint64_t memory)
{
    told->count[s & 255]++;
    if (seconds > told->most_seconds) told->most_seconds = seconds;
    if (memory > told->most_memory) told->most_memory = memory;
    if (s != e->code) wrong("the code returned is not the one told", e);
    if (s && s != DC_DATA && s != DC_NO_INPUT && s != DC_NO_MEMORY && s != DC_DENIED) wrong("a code that is none for a bad file", e);
    if (s && s != DC_NO_MEMORY && !strstr(e->text, folder)) wrong("the message does not name the file", e);
    if (s && (!*e->text || strchr(e->text, '\n'))) wrong("no message of one line", e);
    double allowed = f->beside >= 64u << 20 ? 5 : 1 + (double)n / (1 << 20);
    if (seconds > allowed * (COUNTED ? 1 : 10)) wrong("too slow", e);
    if (memory > 2 * n + (16u << 20) + f->beside) wrong("too much memory", e);
}

static void open_batch(const format *f, const char *folder, const char *path, int fd, const seed *s, size_t from, size_t to, size_t every)
{
    uint8_t *bytes = malloc(s->n + 32);
    for (size_t k = from; k < to; k += every) {
        told->at = k;
        size_t n = make(s, k, bytes);
        if (ftruncate(fd, 0) || pwrite(fd, bytes, n, 0) != (ssize_t)n) abort();
        dc_error e = {0};
        size_t before = peak = taken;
        alarm(60);
        double began = cpu_seconds();
        dc_status code = f->open(path, &e);
        judge(f, folder, n, code, &e, cpu_seconds() - began, peak - before);
        if (taken > before + 4096 && COUNTED && told->wrong < 5 && k > from + 8 * every) wrong("memory is left", &e);
    }
    free(bytes);
}

static void keep_file(const format *f, int which, const seed *s, size_t k)
{
    char name[256];
    uint8_t *bytes = malloc(s->n + 32);
    size_t n = make(s, k, bytes);
    snprintf(name, sizeof name, "malformed-%s-%d-%zu", f->name, which, k);
    FILE *out = fopen(name, "wb");
    if (out && fwrite(bytes, 1, n, out) == n) printf("the file is in %s\n", name);
    if (out) fclose(out);
    free(bytes);
}

/* All damaged files of one seed; false when anything is wrong. */
static bool try_seed(const format *f, int which, size_t every, const char *folder, struct told *sum)
{
    char path[512];
    seed s = read_seed(f->seed[which]);
    int fd = memfd_create("file", 0);
    bool good = true;
    formats_place(f, fd, path);
    size_t all = cases_of(&s), start = every > 1 ? (size_t)which * 37 % every : 0;
    for (size_t from = start; from < all && good; from += BATCH * every) {
        size_t to = from + BATCH * every < all ? from + BATCH * every : all;
        *told = (struct told){0};
        fflush(stdout);
        pid_t child = fork();
        if (!child) {
            open_batch(f, folder, path, fd, &s, from, to, every);
            _exit(0);
        }
        int status;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
        if (status) {
            printf("WRONG: %s: file %zu of %s: the process ended with %s %d\n", f->name, told->at, f->seed[which],
                   WIFSIGNALED(status) ? "signal" : "code", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            keep_file(f, which, &s, told->at);
        } else if (told->wrong) {
            printf("       %s of %s\n", f->name, f->seed[which]);
        }
        good = !status && !told->wrong;
        for (int i = 0; i < MOST_CODES; i++) sum->count[i] += told->count[i];
        if (told->most_seconds > sum->most_seconds) sum->most_seconds = told->most_seconds;
        if (told->most_memory > sum->most_memory) sum->most_memory = told->most_memory;
    }
    formats_restore(f);
    close(fd);
    free(s.bytes);
    free(s.number);
    return good;
}

static bool wanted(const format *f, int argc, char **argv)
{
    bool any = false, named = false;
    for (int i = 1; i < argc; i++) {
        any |= argv[i][0] != '-';
        named |= !strcmp(argv[i], f->name);
    }
    return named || !any;
}

int main(int argc, char **argv)
{
    size_t every = 1;
    bool good = true;
    uint64_t all = 0;
    for (int i = 1; i < argc; i++)
        if (!strncmp(argv[i], "--every=", 8)) every = strtoul(argv[i] + 8, NULL, 10);
    const char *folder = formats_begin();
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED || !every) return 1;
    printf("%-17s %5s %9s %9s %9s %5s %5s %5s %8s %9s\n", "format", "seeds", "files", "accepted", "65", "66", "71", "77", "most ms", "most KiB");
    for (int i = 0; i < n_formats; i++) {
        const format *f = &formats[i];
        struct told sum = {0};
        int seeds = 0;
        uint64_t files = 0;
        if (!wanted(f, argc, argv)) continue;
        for (; f->seed[seeds]; seeds++) good &= try_seed(f, seeds, every, folder, &sum);
        for (int c = 0; c < MOST_CODES; c++) files += sum.count[c];
        printf("%-17s %5d %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %5" PRIu64 " %5" PRIu64 " %5" PRIu64 " %8.1f %9" PRIu64 "\n", f->name, seeds, files,
               sum.count[0], sum.count[DC_DATA], sum.count[DC_NO_INPUT], sum.count[DC_NO_MEMORY], sum.count[DC_DENIED], 1e3 * sum.most_seconds,
               sum.most_memory >> 10);
        all += files;
    }
    printf("%" PRIu64 " files%s\n", all, good ? "" : ", SOME ARE WRONG");
    formats_end();
    return !good;
}
