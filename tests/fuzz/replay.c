/* replay.c - a fuzz target without libFuzzer: runs it on every file of the folders given, so that what has been found stays found, and then
 * on changed copies of them, as its own mutator or mutate.h changes them. The same numbers give the same inputs on every machine.
 *
 *     fuzz_X [-runs=N] [-seconds=N] [-seed=N] FOLDER...      changed copies: at most so many, for at most so long
 *
 * An input at which the target dies, or that takes 10 s, is written to ./crash-SEED-NUMBER. */
#include "mutate.h"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MOST_FILES 4096
#define MOST_BYTES 65536

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t max, unsigned seed) __attribute__((weak));
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n, size_t max);
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static struct input {
    uint8_t *bytes;
    size_t n;
} corpus[MOST_FILES];
static int files;

/* ---- what is under way, for the case that it does not return ------------------------------------------------------------- */

static const uint8_t *running;
static size_t running_bytes;
static uint64_t seed = 1, number;

static void write_input(void)
{
    char name[64];
    if (!running) return;
    snprintf(name, sizeof name, "crash-%" PRIu64 "-%" PRIu64, seed, number);
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0 && write(fd, running, running_bytes) == (ssize_t)running_bytes) fprintf(stderr, "the input is in %s\n", name);
    running = NULL;
}

static void on_signal(int signal_number)
{
    fprintf(stderr, "%s\n", signal_number == SIGALRM ? "took more than 10 s" : "stopped by a signal");
    write_input();
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* Exactly as large as the input, so that a sanitizer sees the end. */
static void run(const uint8_t *bytes, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy) abort();
    if (n) memcpy(copy, bytes, n);
    running = copy;
    running_bytes = n;
    alarm(10);
    LLVMFuzzerTestOneInput(copy, n);
    alarm(0);
    running = NULL;
    free(copy);
}

/* ---- the corpus ---------------------------------------------------------------------------------------------------------------- */

static bool take_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END)) return false;
    long n = ftell(f);
    struct input *x = &corpus[files];
    x->bytes = malloc(n > 0 ? (size_t)n : 1);
    x->n = (size_t)n;
    rewind(f);
    bool good = x->bytes && fread(x->bytes, 1, x->n, f) == x->n;
    fclose(f);
    files += good;
    return good;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static bool take_folder(const char *folder)
{
    struct dirent **list;
    int n = scandir(folder, &list, NULL, by_name);
    bool good = n >= 0;
    for (int i = 0; i < n; i++) {
        char path[4096];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name);
        if (good && files < MOST_FILES && stat(path, &st) == 0 && S_ISREG(st.st_mode) && !take_file(path)) good = false;
        free(list[i]);
    }
    if (n >= 0) free(list);
    return good;
}

/* ---- changed copies ------------------------------------------------------------------------------------------------------------ */

static uint64_t state;

size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n, size_t max)
{
    if (!n) {
        bytes[0] = (uint8_t)next_random(&state);
        return 1;
    }
    for (size_t times = 1 + below(&state, 4); times && n; times--) n = change_bytes(bytes, n, max, &state);
    return n;
}

static void run_changed(void)
{
    static uint8_t bytes[MOST_BYTES];
    const struct input *a = &corpus[below(&state, (size_t)files)], *b = &corpus[below(&state, (size_t)files)];
    size_t n = a->n < MOST_BYTES / 2 ? a->n : MOST_BYTES / 2;
    memcpy(bytes, a->bytes, n);
    if (below(&state, 8) == 0 && n && b->n) { /* the beginning of one, the end of another */
        size_t head = below(&state, n), from = below(&state, b->n), tail = b->n - from < MOST_BYTES / 2 ? b->n - from : MOST_BYTES / 2;
        memcpy(bytes + head, b->bytes + from, tail);
        n = head + tail;
    }
    if (LLVMFuzzerCustomMutator) n = LLVMFuzzerCustomMutator(bytes, n, MOST_BYTES, (unsigned)next_random(&state));
    else n = LLVMFuzzerMutate(bytes, n, MOST_BYTES);
    run(bytes, n);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    uint64_t runs = 0;
    double seconds = 1e9;
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "-runs=", 6)) runs = strtoull(argv[i] + 6, NULL, 10);
        else if (!strncmp(argv[i], "-seconds=", 9)) seconds = strtod(argv[i] + 9, NULL);
        else if (!strncmp(argv[i], "-seed=", 6)) seed = strtoull(argv[i] + 6, NULL, 10);
        else if (!take_folder(argv[i])) {
            fprintf(stderr, "%s: cannot be read\n", argv[i]);
            return 1;
        }
    }
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(write_input);
    for (int i = 0; i < files; i++) run(corpus[i].bytes, corpus[i].n);
    double began = now();
    state = seed;
    while (files && number < runs && now() - began < seconds) {
        number++;
        run_changed();
    }
    printf("%d inputs, %" PRIu64 " changed ones in %.1f s\n", files, number, now() - began);
    for (int i = 0; i < files; i++) free(corpus[i].bytes);
    return files == 0;
}
