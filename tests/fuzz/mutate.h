/* mutate.h - small changes of byte strings, in place, from a random state: for replay.c and for the mutators that know a format. */
#ifndef TESTS_FUZZ_MUTATE_H
#define TESTS_FUZZ_MUTATE_H
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static inline uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static inline size_t below(uint64_t *state, size_t n) { return n ? (size_t)(next_random(state) % n) : 0; }

/* Numbers that break things. */
static inline uint64_t odd_number(uint64_t *state)
{
    static const uint64_t odd[] = {0,     1,         2,        7,          8,          9,          255,       256,        65535,
                                   65536, INT32_MAX, 1u << 31, UINT32_MAX, 1ull << 32, 1ull << 53, INT64_MAX, 1ull << 63, UINT64_MAX};
    return odd[below(state, sizeof odd / sizeof *odd)];
}

/* Replaces [at, at + cut) of bytes[n] with `put` of them; the new n, or n where that does not fit. */
static inline size_t replace(uint8_t *bytes, size_t n, size_t max, size_t at, size_t cut, const void *with, size_t put)
{
    if (at + cut > n || n - cut + put > max) return n;
    memmove(bytes + at + put, bytes + at + cut, n - at - cut);
    if (put) memcpy(bytes + at, with, put);
    return n - cut + put;
}

static inline bool is_digit_at(const uint8_t *bytes, size_t n, size_t i) { return i < n && bytes[i] >= '0' && bytes[i] <= '9'; }

/* One of the decimal numbers of bytes[from, n) becomes another: odd, one more or less, or ten times. */
static inline size_t change_decimal(uint8_t *bytes, size_t from, size_t n, size_t max, uint64_t *state)
{
    size_t at = from + below(state, n - from), end;
    while (at < n && !is_digit_at(bytes, n, at)) at++;
    if (at == n) return n;
    while (at > from && is_digit_at(bytes, n, at - 1)) at--;
    uint64_t v = 0;
    for (end = at; is_digit_at(bytes, n, end); end++) v = 10 * v + (uint64_t)(bytes[end] - '0');
    const uint64_t values[] = {odd_number(state), v + 1, v - 1, v * 10, v / 2, v * 2};
    char text[32];
    int length = snprintf(text, sizeof text, "%" PRIu64, values[below(state, 6)]);
    return replace(bytes, n, max, at, end - at, text, (size_t)length);
}

/* One change without knowledge of any format. n > 0. */
static inline size_t change_bytes(uint8_t *bytes, size_t n, size_t max, uint64_t *state)
{
    size_t at = below(state, n), some = 1 + below(state, n - at < 32 ? n - at : 32);
    uint8_t block[32];
    uint64_t v;
    switch (below(state, 9)) {
    case 0: bytes[at] ^= (uint8_t)(1u << below(state, 8)); return n;
    case 1: bytes[at] = (uint8_t)next_random(state); return n;
    case 2: return replace(bytes, n, max, at, some, NULL, 0);
    case 3: memcpy(block, bytes + below(state, n - some + 1), some); return replace(bytes, n, max, at, 0, block, some);
    case 4: memcpy(block, bytes + below(state, n - some + 1), some); return replace(bytes, n, max, at, some, block, some);
    case 5: return at ? at : n; /* cut */
    case 6:                     /* a binary number, in either order of bytes */
        v = odd_number(state);
        if (next_random(state) & 1) v = __builtin_bswap64(v);
        some = n - at < 8 ? n - at : (next_random(state) & 1) ? 4 : 8;
        memcpy(bytes + at, (uint8_t *)&v + (8 - some) * (below(state, 2)), some);
        return n;
    default: return change_decimal(bytes, 0, n, max, state);
    }
}

#endif
