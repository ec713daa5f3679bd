/* faults.c - see faults.h. */
#include "base/faults.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

/* from: 0 free, 1 being filled in. A fixed table of atomics, because the handler may take no lock and no memory. */
static struct range {
    _Atomic uintptr_t from, to;
    atomic_bool lost;
} ranges[DC_FAULT_RANGES];

/* The handler below ours: a new one goes into the other place, so that none changes while it is called. */
static struct sigaction below[2];
static atomic_int current;
static pthread_mutex_t installing = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uintptr_t page;
/* This thread is in a handler below ours. One that passes on to us in turn would do so for ever. */
static _Thread_local volatile sig_atomic_t passing __attribute__((tls_model("initial-exec")));

/* Zero pages from the fault to the end of its range: what lies before it is still the file's. */
static bool cover(uintptr_t at)
{
    for (int i = 0; i < DC_FAULT_RANGES; i++) {
        uintptr_t from = atomic_load(&ranges[i].from), to = atomic_load(&ranges[i].to), begin = at / atomic_load(&page) * atomic_load(&page);
        if (from <= 1 || at < from || at >= to) continue;
        atomic_store(&ranges[i].lost, true);
        return mmap((void *)begin, to - begin, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
    }
    return false;
}

static void pass_on(int number, siginfo_t *info, void *context)
{
    const struct sigaction *next = &below[atomic_load(&current)];
    bool handled = next->sa_flags & SA_SIGINFO || (next->sa_handler != SIG_DFL && next->sa_handler != SIG_IGN), sent = info->si_code <= 0;
    if (handled && !passing) {
        passing = 1;
        if (next->sa_flags & SA_SIGINFO) next->sa_sigaction(number, info, context);
        else next->sa_handler(number);
        passing = 0;
    } else if (!sent || handled || next->sa_handler == SIG_DFL) { /* a fault comes again when this returns, and then ends the process */
        signal(number, SIG_DFL);
        if (sent) raise(number);
    }
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    int kept = errno;
    bool ours = info->si_code > 0 && cover((uintptr_t)info->si_addr); /* <= 0: sent by somebody */
    errno = kept;
    if (!ours) pass_on(number, info, context);
}

static void install(void)
{
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK}, now;
    sigemptyset(&ours.sa_mask);
    pthread_mutex_lock(&installing);
    atomic_store(&page, (uintptr_t)sysconf(_SC_PAGESIZE));
    sigaction(SIGBUS, NULL, &now);
    if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != on_fault) {
        int next = !atomic_load(&current);
        below[next] = now;
        atomic_store(&current, next);
        sigaction(SIGBUS, &ours, NULL);
    }
    pthread_mutex_unlock(&installing);
}

int dc_fault_watch(const void *at, uint64_t bytes)
{
    install();
    const uintptr_t size = atomic_load(&page);
    for (int i = 0; i < DC_FAULT_RANGES; i++) {
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong(&ranges[i].from, &none, 1)) continue;
        atomic_store(&ranges[i].lost, false);
        atomic_store(&ranges[i].to, ((uintptr_t)at + bytes + size - 1) / size * size);
        atomic_store(&ranges[i].from, (uintptr_t)at);
        return i;
    }
    return -1;
}

bool dc_fault_seen(int range) { return atomic_load(&ranges[range].lost); }

void dc_fault_unwatch(int range) { atomic_store(&ranges[range].from, 0); }
