/* test_emulate.cc - that the emulator notices what a GPU would do wrong: kernels that are wrong on purpose, each in a process of its own. */
#include "tests/cuda/emulate.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static float result[256];
alignas(16) static const float source[4] = {1, 2, 3, 4};

static float *shared(void) { return (float *)emulate_shared(); }
static int thread(void) { return (int)threadIdx.x; }

/* ---- right ------------------------------------------------------------------------------------------------------------------- */

static void reverses(void *)
{
    shared()[thread()] = (float)thread();
    __syncthreads();
    result[thread()] = shared()[63 - thread()];
}
static void sums(void *)
{
    float v = (float)thread();
    for (int lanes = 16; lanes; lanes /= 2) v += __shfl_xor_sync(0xffffffffu, v, lanes);
    result[thread()] = v;
}
static void copies(void *)
{
    if (thread() == 0) copy_async(shared(), source, 16), copy_async(shared() + 4, source, 0);
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    if (thread() < 8) result[thread()] = shared()[thread()];
}

/* ---- wrong: what is read is NaN ------------------------------------------------------------------------------------------------- */

static void reads_unwritten(void *) { result[thread()] = shared()[thread()]; }
static void forgets_barrier(void *)
{
    shared()[thread()] = (float)thread();
    result[thread()] = shared()[63 - thread()];
}
static void waits_too_little(void *)
{
    if (thread() == 0) copy_async(shared(), source, 16);
    copy_commit();
    copy_wait<1>();
    result[thread()] = thread() == 0 ? shared()[0] : 0;
    copy_wait<0>();
}

/* ---- wrong: it ends the program ---------------------------------------------------------------------------------------------------- */

static void some_at_barrier(void *)
{
    if (thread() < 40) __syncthreads();
}
static void lane_missing(void *)
{
    if (thread() != 5) __syncwarp();
}
static void lanes_apart(void *)
{
    if (thread() % 2) __syncwarp();
    else result[thread()] = __shfl_sync(0xffffffffu, 1.0f, 0);
}
static void never_waits(void *) { copy_async(shared() + 4 * thread(), source, 16); }
static void unaligned(void *)
{
    copy_async(shared() + 1, source, 16);
    copy_wait<0>();
}

static bool dies(void (*kernel)(void *))
{
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(2);
        emulate(1, 64, 64 * 16, kernel, NULL);
        _exit(0);
    }
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
static bool some_nan(void (*kernel)(void *))
{
    emulate(1, 64, 64 * 16, kernel, NULL);
    for (int i = 0; i < 64; i++)
        if (isnan(result[i])) return true;
    return false;
}

#define CHECK(what) ((what) ? 0 : (printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #what), failures++))

int main(void)
{
    int failures = 0;
    emulate(1, 64, 64 * 4, reverses, NULL);
    for (int i = 0; i < 64; i++) CHECK(result[i] == (float)(63 - i));
    emulate(1, 64, 0, sums, NULL);
    for (int i = 0; i < 64; i++) CHECK(result[i] == (i < 32 ? 496.0f : 1520.0f));
    emulate(1, 64, 32, copies, NULL);
    for (int i = 0; i < 8; i++) CHECK(result[i] == (i < 4 ? source[i] : 0));
    CHECK(some_nan(reads_unwritten));
    CHECK(some_nan(forgets_barrier));
    CHECK(some_nan(waits_too_little));
    CHECK(dies(some_at_barrier));
    CHECK(dies(lane_missing));
    CHECK(dies(lanes_apart));
    CHECK(dies(never_waits));
    CHECK(dies(unaligned));
    return failures != 0;
}
