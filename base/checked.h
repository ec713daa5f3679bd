/* checked.h - arithmetic on numbers that came from outside. Every size derived from a file goes
 * through here: a function returns false instead of wrapping. */
#ifndef DC_BASE_CHECKED_H
#define DC_BASE_CHECKED_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool dc_add_u64(uint64_t a, uint64_t b, uint64_t *sum) { return !__builtin_add_overflow(a, b, sum); }
static inline bool dc_mul_u64(uint64_t a, uint64_t b, uint64_t *product) { return !__builtin_mul_overflow(a, b, product); }

/* [at, at + bytes) lies inside [0, size): by subtraction, so nothing can wrap. */
static inline bool dc_in_range(uint64_t at, uint64_t bytes, uint64_t size) { return at <= size && bytes <= size - at; }

/* x rounded up to a multiple of `to` (a power of two); false if that overflows. */
static inline bool dc_align_u64(uint64_t x, uint64_t to, uint64_t *up)
{
    if (!dc_add_u64(x, to - 1, up)) return false;
    *up &= ~(to - 1);
    return true;
}

/* Zeroed array of n elements; NULL when the product overflows or memory is out. n == 0 gives a freeable pointer. */
void *dc_calloc(size_t n, size_t size);
/* Room for one more element of `size` bytes behind `n`: grows *at by half, false when memory is out. */
bool dc_grow(void **at, int *room, int n, size_t size);

#endif
