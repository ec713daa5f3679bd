/* blocks.c - storage types that keep numbers in blocks: whole numbers of a few bits and scales that they share. Ref: ggml-quants.c and its
 * layouts (ggml-common.h); every product and sum is rounded as there, so the floats are the reference's bit for bit.
 *
 * Fields follow each other in the order given, without padding; d, m are float16, q the small whole numbers, number i of a block is x[i].
 * "nibbles" of 16 bytes: x[0..15] in the low halves, x[16..31] in the high ones.
 *     Q4_0  32 numbers in  18 bytes: d, q: nibbles                        x = d (q - 8)
 *     Q4_1  32            20         d, m, q: nibbles                     x = d q + m
 *     Q5_0  32            22         d, fifth bits of q (32), nibbles     x = d (q - 16)
 *     Q5_1  32            24         d, m, fifth bits, nibbles            x = d q + m
 *     Q8_0  32            34         d, q: int8                           x = d q
 * The others have 256 numbers, in eighths of 32 here: j = 0..7; s, t are scales of 16 or 32 numbers, whole numbers themselves:
 *     Q2_K  84   16 bytes of s (low half) and t (high half), one for 16 numbers; q (64); d, m       x = (d s) q - (m t)
 *                q: eighth j in bits 2 (j % 4), 2 of them, of the bytes 32 (j / 4) + 0..31
 *     Q3_K  110  third bits of q (32): bit j of byte i; two bits of q as in Q2_K (64); 12 bytes of s; d
 *                s of 6 bits, for 16 numbers: four of s[0..7], s[8..15] in the halves of bytes 0..7; two of s[k] in byte 8 + k % 4
 *                                                                                                   x = (d (s - 32)) (q - 4)
 *     Q4_K  144  d, m; 12 bytes of s, t of 6 bits, for 32 numbers; q (128)                          x = (d s) q - (m t)
 *                q: eighth j in half j % 2 of the bytes 32 (j / 2) + 0..31
 *                s[0..3] and t[0..3] in the low 6 bits of bytes 0..3 and 4..7; of s[4..7], t[4..7] four bits in the halves of bytes 8..11
 *                and two on top of those
 *     Q5_K  176  d, m; 12 bytes as in Q4_K; fifth bits (32): bit j of byte i; q as in Q4_K (128)    the same
 *     Q6_K  210  four bits of q (128): eighth j in half j % 4 / 2 of the bytes 64 (j / 4) + 32 (j % 2) + 0..31;
 *                two bits of q (64) as in Q2_K; 16 s: int8, for 16 numbers; d                       x = (d s) (q - 32)
 *
 * Decoded is always a piece of 32 numbers, so that a stretch of a row costs no more than itself, in loops of a fixed length, for vectors. */
#include "backends/backend.h"
#include "base/half.h"
#include <math.h>
#include <string.h>

enum { PIECE = 32 };

static float half_at(const uint8_t *at)
{
    uint16_t h;
    memcpy(&h, at, sizeof h);
    return dc_f16_to_f32(h);
}

/* ---- whole numbers ------------------------------------------------------------------------------------------------ */

static void nibbles(const uint8_t *at, uint8_t *q)
{
    for (int i = 0; i < PIECE / 2; i++) q[i] = at[i] & 15;
    for (int i = 0; i < PIECE / 2; i++) q[PIECE / 2 + i] = at[i] >> 4;
}

/* Bits `from` and on of 32 bytes: those under the mask. */
static void bits(const uint8_t *at, int from, uint8_t mask, uint8_t *q)
{
    for (int i = 0; i < PIECE; i++) q[i] = (uint8_t)(at[i] >> from) & mask;
}

/* The same, put on top of the `low` bits that are there. */
static void add_bits(const uint8_t *at, int from, uint8_t mask, int low, uint8_t *q)
{
    for (int i = 0; i < PIECE; i++) q[i] |= (uint8_t)(((at[i] >> from) & mask) << low);
}

/* Bit i of four bytes as bit 4 of number i: eight at once, each in a byte of its own. */
static void add_fifth_bits(const uint8_t *at, uint8_t *q)
{
    for (int i = 0; i < PIECE / 8; i++) {
        uint64_t x = at[i] * 0x0101010101010101u & 0x8040201008040201u, v;
        x = (x + 0x7f7f7f7f7f7f7f7fu) >> 3 & 0x1010101010101010u; /* any bit -> bit 7 -> bit 4 */
        memcpy(&v, q + 8 * i, sizeof v);
        v |= x;
        memcpy(q + 8 * i, &v, sizeof v);
    }
}

/* ---- with their scales ---------------------------------------------------------------------------------------------- */

static void scaled(const uint8_t *q, int zero, float d, float *out)
{
    for (int i = 0; i < PIECE; i++) out[i] = d * (float)(q[i] - zero);
}

static void scaled_and_moved(const uint8_t *q, float d, float m, float *out)
{
    for (int i = 0; i < PIECE; i++) out[i] = d * (float)q[i] + m;
}

/* A scale for each half of the piece. */
static void scaled_halves(const uint8_t *q, int zero, const float d[2], float *out)
{
    for (int i = 0; i < PIECE / 2; i++) out[i] = d[0] * (float)(q[i] - zero);
    for (int i = PIECE / 2; i < PIECE; i++) out[i] = d[1] * (float)(q[i] - zero);
}

/* ---- pieces: number 0 .. 31 of piece j of the block ---------------------------------------------------------------------- */

static void q4_0(const uint8_t *b, int j, float *out)
{
    (void)j;
    uint8_t q[PIECE];
    nibbles(b + 2, q);
    scaled(q, 8, half_at(b), out);
}

static void q4_1(const uint8_t *b, int j, float *out)
{
    (void)j;
    uint8_t q[PIECE];
    nibbles(b + 4, q);
    scaled_and_moved(q, half_at(b), half_at(b + 2), out);
}

static void q5_0(const uint8_t *b, int j, float *out)
{
    (void)j;
    uint8_t q[PIECE];
    nibbles(b + 6, q);
    add_fifth_bits(b + 2, q);
    scaled(q, 16, half_at(b), out);
}

static void q5_1(const uint8_t *b, int j, float *out)
{
    (void)j;
    uint8_t q[PIECE];
    nibbles(b + 8, q);
    add_fifth_bits(b + 4, q);
    scaled_and_moved(q, half_at(b), half_at(b + 2), out);
}

static void q8_0(const uint8_t *b, int j, float *out)
{
    (void)j;
    const float d = half_at(b);
    int8_t q[PIECE];
    memcpy(q, b + 2, sizeof q);
    for (int i = 0; i < PIECE; i++) out[i] = d * (float)q[i];
}

static void q2_k(const uint8_t *b, int j, float *out)
{
    const uint8_t *s = b + 2 * j;
    const float d = half_at(b + 80), m = half_at(b + 82);
    uint8_t q[PIECE];
    bits(b + 16 + 32 * (j / 4), 2 * (j % 4), 3, q);
    const float scale[2] = {d * (float)(s[0] & 15), d * (float)(s[1] & 15)}, least[2] = {m * (float)(s[0] >> 4), m * (float)(s[1] >> 4)};
    for (int i = 0; i < PIECE / 2; i++) out[i] = scale[0] * (float)q[i] - least[0];
    for (int i = PIECE / 2; i < PIECE; i++) out[i] = scale[1] * (float)q[i] - least[1];
}

static void q3_k(const uint8_t *b, int j, float *out)
{
    const uint8_t *s = b + 96;
    const float d = half_at(b + 108);
    float scale[2];
    uint8_t q[PIECE];
    bits(b + 32 + 32 * (j / 4), 2 * (j % 4), 3, q);
    add_bits(b, j, 1, 2, q);
    for (int i = 0; i < 2; i++) {
        const int k = 2 * j + i, low = k < 8 ? s[k] & 15 : s[k - 8] >> 4, high = s[8 + k % 4] >> 2 * (k / 4) & 3;
        scale[i] = d * (float)((low | high << 4) - 32);
    }
    scaled_halves(q, 4, scale, out);
}

/* x = (d s) q - (m t), of Q4_K and Q5_K. */
static void scale_and_least(const uint8_t *b, int j, const uint8_t *q, float *out)
{
    const uint8_t *s = b + 4;
    const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4, least = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
    scaled_and_moved(q, half_at(b) * (float)scale, -(half_at(b + 2) * (float)least), out);
}

static void q4_k(const uint8_t *b, int j, float *out)
{
    uint8_t q[PIECE];
    bits(b + 16 + 32 * (j / 2), 4 * (j % 2), 15, q);
    scale_and_least(b, j, q, out);
}

static void q5_k(const uint8_t *b, int j, float *out)
{
    uint8_t q[PIECE];
    bits(b + 48 + 32 * (j / 2), 4 * (j % 2), 15, q);
    add_bits(b + 16, j, 1, 4, q);
    scale_and_least(b, j, q, out);
}

static void q6_k(const uint8_t *b, int j, float *out)
{
    const int8_t *s = (const int8_t *)b + 192 + 2 * j;
    const float d = half_at(b + 208), scale[2] = {d * (float)s[0], d * (float)s[1]};
    uint8_t q[PIECE];
    bits(b + 64 * (j / 4) + 32 * (j % 2), 4 * (j % 4 / 2), 15, q);
    add_bits(b + 128 + 32 * (j / 4), 2 * (j % 4), 3, 4, q);
    scaled_halves(q, 32, scale, out);
}

/* ---- any stretch ------------------------------------------------------------------------------------------------------------ */

static const struct {
    void (*piece)(const uint8_t *block, int j, float *out);
    int halves_at, halves; /* d, m: all of the block that may be no number */
} kinds[DC_DTYPES] = {
    [DC_Q4_0] = {q4_0, 0, 1},  [DC_Q4_1] = {q4_1, 0, 2},   [DC_Q5_0] = {q5_0, 0, 1}, [DC_Q5_1] = {q5_1, 0, 2}, [DC_Q8_0] = {q8_0, 0, 1},
    [DC_Q2_K] = {q2_k, 80, 2}, [DC_Q3_K] = {q3_k, 108, 1}, [DC_Q4_K] = {q4_k, 0, 2}, [DC_Q5_K] = {q5_k, 0, 2}, [DC_Q6_K] = {q6_k, 208, 1},
};

void dc_block_floats(dc_dtype t, const void *data, int64_t from, int64_t n, float *out)
{
    const int64_t pieces = dc_dtype_block(t) / PIECE;
    while (n > 0) {
        const int64_t at = from / PIECE, skip = from % PIECE, block = at / pieces;
        const uint8_t *b = (const uint8_t *)data + (size_t)block * dc_dtype_size(t);
        const int j = (int)(at - block * pieces);
        int64_t taken = PIECE - skip < n ? PIECE - skip : n;
        if (taken == PIECE) {
            kinds[t].piece(b, j, out);
        } else {
            float v[PIECE];
            kinds[t].piece(b, j, v);
            memcpy(out, v + skip, (size_t)taken * sizeof *out);
        }
        from += taken;
        out += taken;
        n -= taken;
    }
}

bool dc_block_finite(dc_dtype t, const void *block)
{
    bool finite = true;
    for (int i = 0; i < kinds[t].halves; i++) finite = finite && isfinite(half_at((const uint8_t *)block + kinds[t].halves_at + 2 * i));
    return finite;
}
