/* emulate.cc - fibers, barriers, and what a warp does together. */
#include "tests/cuda/emulate.h"
#include <mutex>
#include <new>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
extern "C" {
#include "base/half.h"
}
#ifndef __x86_64__
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace
{

enum { STACK = 64 << 10, THREADS = 1024, COPIES = 256 };
enum state { READY, AT_WARP, AT_BLOCK, ENDED };

#ifdef __x86_64__
typedef void *context; /* its stack pointer; all else lies on its stack */
#else
typedef ucontext_t context;
#endif

struct copy {
    void *to;
    const void *from;
    int bytes, group;
};
struct fiber {
    context at;
    char *stack;
    state where;
    dim3 index;
    void *fake; /* AddressSanitizer's */
    copy copies[COPIES];
    int n_copies, groups;
};
struct warp {
    emulate_op *op;
    const char *what;
    void *lane[32];
    int count;
};

fiber *fibers;
warp warps[THREADS / 32];
context scheduler;
#ifdef __SANITIZE_ADDRESS__
void *scheduler_fake;
const void *scheduler_stack;
size_t scheduler_size;
#endif
int threads, current, at_block, ended;
void *shared_memory;
void (*thread_body)(void *);
void *thread_ctx;
std::mutex one_grid;
float halves[1 << 16]; /* of each half-precision number; the first grid fills it */

[[noreturn]] void die(const char *what, const char *more)
{
    fprintf(stderr, "emulate: block (%u,%u,%u), thread %d: %s%s\n", blockIdx.x, blockIdx.y, blockIdx.z, current, what, more);
    abort();
}

/* ---- switching ------------------------------------------------------------------------------------------------------------- */

#ifdef __x86_64__
extern "C" void emulate_switch(context *from, context to);
/* What a call must preserve goes onto the stack that is left, and comes from the one that is entered. */
asm(R"(
.text
.globl emulate_switch
.type emulate_switch, @function
emulate_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulate_switch, .-emulate_switch
)");
void change(context *from, context *to) { emulate_switch(from, *to); }
#else
void change(context *from, context *to) { swapcontext(from, to); }
#endif

/* From the running fiber back to the scheduler; `last`: for good. */
void leave(bool last)
{
    fiber *f = &fibers[current];
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(last ? NULL : &f->fake, scheduler_stack, scheduler_size);
#else
    (void)last;
#endif
    change(&f->at, &scheduler);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(f->fake, &scheduler_stack, &scheduler_size);
#endif
}

void first_step()
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &scheduler_stack, &scheduler_size);
#endif
    thread_body(thread_ctx);
    fiber *f = &fibers[current];
    if (f->n_copies) die("ends with copies it never waited for", "");
    f->where = ENDED;
    ended++;
    leave(true);
    abort();
}

void prepare(fiber *f)
{
#ifdef __x86_64__
    void **top = (void **)(f->stack + STACK);
    *--top = NULL; /* a call's return address would leave the stack so aligned */
    *--top = (void *)first_step;
    for (int i = 0; i < 6; i++) *--top = NULL;
    f->at = top;
#else
    getcontext(&f->at);
    f->at.uc_stack.ss_sp = f->stack;
    f->at.uc_stack.ss_size = STACK;
    f->at.uc_link = NULL;
    makecontext(&f->at, first_step, 0);
#endif
}

void resume(int i)
{
    fiber *f = &fibers[current = i];
    threadIdx = f->index;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&scheduler_fake, f->stack, STACK);
#endif
    change(&scheduler, &f->at);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(scheduler_fake, NULL, NULL);
#endif
}

void run_block(size_t shared)
{
    memset(shared_memory, 0xff, shared); /* NaN in every type */
    memset(warps, 0, sizeof warps);
    at_block = ended = 0;
    for (int i = 0; i < threads; i++) {
        fiber *f = &fibers[i];
        f->index = dim3((unsigned)i % blockDim.x, (unsigned)i / blockDim.x % blockDim.y, (unsigned)i / blockDim.x / blockDim.y);
        f->where = READY;
        f->n_copies = f->groups = 0;
        prepare(f);
    }
    while (ended < threads) {
        bool moved = false;
        for (int i = 0; i < threads; i++)
            if (fibers[i].where == READY) {
                resume(i);
                moved = true;
            }
        for (int i = 0; !moved && i < threads; i++) {
            current = i;
            if (fibers[i].where == AT_WARP) die("not all lanes of the warp come to its ", warps[i / 32].what);
            if (fibers[i].where == AT_BLOCK) die("not all threads of the block come to the barrier", "");
        }
    }
}

} // namespace

/* ---- threads ----------------------------------------------------------------------------------------------------------------- */

void emulate(dim3 grid, dim3 block, size_t shared, void (*body)(void *ctx), void *ctx)
{
    std::lock_guard<std::mutex> lock(one_grid);
    if (!fibers) {
        fibers = (fiber *)calloc(THREADS, sizeof *fibers);
        char *stacks = (char *)mmap(NULL, (size_t)STACK * THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (!fibers || stacks == MAP_FAILED) die("no memory", "");
        for (int i = 0; i < 1 << 16; i++) halves[i] = dc_f16_to_f32((uint16_t)i);
        for (int i = 0; i < THREADS; i++) fibers[i].stack = stacks + (size_t)i * STACK;
    }
    threads = (int)(block.x * block.y * block.z);
    if (threads < 1 || threads > THREADS || !grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535) die("a grid that CUDA refuses", "");
    shared_memory = aligned_alloc(16, (shared + 15) / 16 * 16);
    thread_body = body;
    thread_ctx = ctx;
    blockDim = block;
    gridDim = grid;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = dim3(x, y, z);
                run_block(shared);
            }
    free(shared_memory);
}

void *emulate_shared(void) { return shared_memory; }
int emulate_lane(void) { return current % 32; }

void __syncthreads(void)
{
    if (++at_block < threads) {
        fibers[current].where = AT_BLOCK;
        leave(false);
        return;
    }
    at_block = 0;
    for (int i = 0; i < threads; i++) fibers[i].where = READY;
}

void emulate_warp(emulate_op *op, void *mine, const char *what)
{
    warp *w = &warps[current / 32];
    if (w->count && w->op != op) die("other lanes of the warp are at a ", w->what);
    w->op = op;
    w->what = what;
    w->lane[current % 32] = mine;
    if (++w->count < 32) {
        fibers[current].where = AT_WARP;
        leave(false);
        return;
    }
    op(w->lane);
    w->count = 0;
    for (int i = current / 32 * 32; i < current / 32 * 32 + 32; i++) fibers[i].where = READY;
}

static void nothing(void **) {}
void __syncwarp(void) { emulate_warp(nothing, NULL, "barrier"); }

/* ---- numbers ------------------------------------------------------------------------------------------------------------------ */

float f16_float(uint16_t h) { return halves[h]; }
uint32_t f16_pair(float lo, float hi) { return dc_f32_to_f16(lo) | (uint32_t)dc_f32_to_f16(hi) << 16; }
uint32_t bf16_pair(float lo, float hi) { return dc_f32_to_bf16(lo) | (uint32_t)dc_f32_to_bf16(hi) << 16; }

/* ---- copies -------------------------------------------------------------------------------------------------------------------- */

void copy_async(void *shared, const void *global, int bytes)
{
    fiber *f = &fibers[current];
    if (f->n_copies == COPIES) die("more copies under way than the emulator keeps", "");
    if ((uintptr_t)shared % 16 || (bytes && (uintptr_t)global % 16)) die("a copy that is not aligned", "");
    memset(shared, 0xff, 16); /* whoever reads it too early, or still reads what was there, gets NaN */
    f->copies[f->n_copies++] = {shared, global, bytes, f->groups};
}

void copy_commit(void) { fibers[current].groups++; }

void emulate_copy_wait(int left)
{
    fiber *f = &fibers[current];
    int kept = 0;
    for (int i = 0; i < f->n_copies; i++) {
        const copy c = f->copies[i];
        if (c.group >= f->groups - left) {
            f->copies[kept++] = c;
            continue;
        }
        memset(c.to, 0, 16);
        if (c.bytes) memcpy(c.to, c.from, (size_t)c.bytes);
    }
    f->n_copies = kept;
}

/* ---- matrices ------------------------------------------------------------------------------------------------------------------ */

namespace
{
struct load {
    uint32_t *r;
    const uint16_t *row;
};
} // namespace

/* Lane l gets numbers 2 (l % 4) and the next of row l / 4 of each matrix; transposed, of column l / 4. */
template <bool TRANSPOSED> static void load_op(void **lane)
{
    for (int l = 0; l < 32; l++)
        for (int m = 0; m < 4; m++) {
            const int row = l / 4, k = l % 4 * 2;
            const auto at = [&](int r, int c) { return (uint32_t)((load *)lane[m * 8 + r])->row[c]; };
            ((load *)lane[l])->r[m] = TRANSPOSED ? at(k, row) | at(k + 1, row) << 16 : at(row, k) | at(row, k + 1) << 16;
        }
}
void load_matrices(uint32_t r[4], const void *shared)
{
    load x = {r, (const uint16_t *)shared};
    if ((uintptr_t)shared % 16) die("a matrix that is not aligned", "");
    emulate_warp(load_op<false>, &x, "load of matrices");
}
void load_matrices_transposed(uint32_t r[4], const void *shared)
{
    load x = {r, (const uint16_t *)shared};
    if ((uintptr_t)shared % 16) die("a matrix that is not aligned", "");
    emulate_warp(load_op<true>, &x, "load of transposed matrices");
}

namespace
{
struct product {
    float *d;
    const uint32_t *a;
    uint32_t b[2];
};
} // namespace

/* PTX ISA, "Matrix fragments for mma.m16n8k16": with g = lane / 4 and t = lane % 4, register i of A holds row g + 8 (i % 2), columns
 * 2t + 8 (i / 2) and the next; of B rows 2t + 8 i and the next, column g; number i of D row g + 8 (i / 2), column 2t + i % 2. */
template <bool BF16> static void multiply_op(void **lane)
{
    const auto number = [](uint32_t pair, int which) {
        const uint16_t h = (uint16_t)(pair >> 16 * which);
        return BF16 ? dc_bf16_to_f32(h) : halves[h];
    };
    float a[16][16], b[16][8], d[16][8] = {{0}};
    for (int l = 0; l < 32; l++) {
        const product *p = (product *)lane[l];
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 2; j++) a[l / 4 + i % 2 * 8][l % 4 * 2 + i / 2 * 8 + j] = number(p->a[i], j);
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 2; j++) b[l % 4 * 2 + i * 8 + j][l / 4] = number(p->b[i], j);
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) ((product *)lane[l])->d[i] += d[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
}
template <bool BF16> void multiply(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    product p = {d, a, {b0, b1}};
    emulate_warp(multiply_op<BF16>, &p, "multiplication of matrices");
}
template void multiply<true>(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1);
template void multiply<false>(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1);
