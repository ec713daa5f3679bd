/* rng.c - torch's generators. Ref: torch aten/src/ATen/native/cpu/DistributionTemplates.h (normal_fill), MT19937RNGEngine.h;
 * Salmon et al. 2011 (Philox). */
#include "scheduler/rng.h"
#include <math.h>

/* ---- MT19937 ------------------------------------------------------------------------------------------------- */

static void mt_seed(dc_rng *g, uint32_t seed)
{
    g->mt[0] = seed;
    for (uint32_t i = 1; i < 624; i++) g->mt[i] = 1812433253u * (g->mt[i - 1] ^ (g->mt[i - 1] >> 30)) + i;
    g->mt_at = 624;
}

static void mt_refill(dc_rng *g)
{
    for (int i = 0; i < 624; i++) {
        uint32_t y = (g->mt[i] & 0x80000000u) | (g->mt[(i + 1) % 624] & 0x7fffffffu);
        g->mt[i] = g->mt[(i + 397) % 624] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    g->mt_at = 0;
}

static uint32_t mt_next(dc_rng *g)
{
    if (g->mt_at >= 624) mt_refill(g);
    uint32_t y = g->mt[g->mt_at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* CPython Modules/_randommodule.c: init_by_array with the seed's 32-bit digits, lowest first. */
void dc_rng_seed_python(dc_rng *g, uint64_t seed)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t i = 1, keys = key[1] ? 2 : 1;
    *g = (dc_rng){.kind = DC_RNG_CPU};
    mt_seed(g, 19650218u);
    for (uint32_t k = 0; k < 624; k++) {
        g->mt[i] = (g->mt[i] ^ ((g->mt[i - 1] ^ (g->mt[i - 1] >> 30)) * 1664525u)) + key[k % keys] + k % keys;
        if (++i == 624) g->mt[0] = g->mt[623], i = 1;
    }
    for (uint32_t k = 0; k < 623; k++) {
        g->mt[i] = (g->mt[i] ^ ((g->mt[i - 1] ^ (g->mt[i - 1] >> 30)) * 1566083941u)) - i;
        if (++i == 624) g->mt[0] = g->mt[623], i = 1;
    }
    g->mt[0] = 0x80000000u;
}

double dc_rng_python_random(dc_rng *g)
{
    uint32_t a = mt_next(g) >> 5, b = mt_next(g) >> 6;
    return (a * 67108864.0 + b) * 0x1p-53;
}

/* As many bits as n has, until they are fewer than n. */
uint32_t dc_rng_python_below(dc_rng *g, uint32_t n)
{
    int bits = 0;
    while (bits < 32 && n >> bits) bits++;
    uint32_t v;
    do v = mt_next(g) >> (32 - bits);
    while (v >= n);
    return v;
}

static float uniform24(dc_rng *g) { return (float)(mt_next(g) & 0xffffffu) * 0x1p-24f; }

/* 53 bits from two draws, the first one the high word. */
static double uniform53(dc_rng *g)
{
    uint64_t high = mt_next(g), low = mt_next(g);
    return (double)((high << 32 | low) & ((1ull << 53) - 1)) * 0x1p-53;
}

/* Fewer than 16 numbers: one by one in double, the sine half kept for the next. */
static float normal_one(dc_rng *g)
{
    if (g->have_normal) {
        g->have_normal = 0;
        return (float)g->next_normal;
    }
    double u1 = uniform53(g), u2 = uniform53(g), r = sqrt(-2.0 * log1p(-u2)), theta = 2.0 * M_PI * u1;
    g->next_normal = r * sin(theta);
    g->have_normal = 1;
    return (float)(r * cos(theta));
}

/* 16 uniforms become 16 normals: j and j+8 are a Box-Muller pair. In float as torch, whose 2 pi u2 is rounded to float. */
static void normal_block(float *x)
{
    for (int j = 0; j < 8; j++) {
        float u1 = 1.0f - x[j], u2 = x[j + 8], r = sqrtf(-2.0f * logf(u1)), theta = 2.0f * (float)M_PI * u2;
        x[j] = r * cosf(theta);
        x[j + 8] = r * sinf(theta);
    }
}

/* 16 and more: all uniforms first, then blocks; a ragged end draws its last 16 anew. */
static void normal_many(dc_rng *g, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = uniform24(g);
    for (size_t i = 0; i + 16 <= n; i += 16) normal_block(out + i);
    if (n % 16 == 0) return;
    float *last = out + n - 16;
    for (int i = 0; i < 16; i++) last[i] = uniform24(g);
    normal_block(last);
}

/* ---- Philox4x32-10 ------------------------------------------------------------------------------------------------ */

static void philox(const uint32_t counter[4], uint64_t seed, uint32_t out[4])
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32), c[4] = {counter[0], counter[1], counter[2], counter[3]};
    for (int round = 0; round < 10; round++) {
        uint64_t a = 0xd2511f53ull * c[0], b = 0xcd9e8d57ull * c[2];
        uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k0, (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k1, (uint32_t)a};
        for (int i = 0; i < 4; i++) c[i] = next[i];
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    for (int i = 0; i < 4; i++) out[i] = c[i];
}

/* One element a thread, the sine half of Box-Muller. */
static void normal_cuda(dc_rng *g, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t counter[4] = {(uint32_t)g->calls, (uint32_t)(g->calls >> 32), (uint32_t)i, (uint32_t)((uint64_t)i >> 32)}, v[4];
        philox(counter, g->seed, v);
        double u = v[0] * 2.3283064365386963e-10 + 2.3283064365386963e-10 / 2,
               w = v[1] * (2.3283064365386963e-10 * 2 * M_PI) + 2.3283064365386963e-10 * M_PI;
        out[i] = (float)(sqrt(-2.0 * log(u)) * sin(w));
    }
    g->calls++;
}

/* ---- the face --------------------------------------------------------------------------------------------------------- */

void dc_rng_seed(dc_rng *g, dc_rng_kind kind, uint64_t seed)
{
    g->kind = kind;
    g->seed = seed;
    g->calls = 0;
    g->have_normal = 0;
    mt_seed(g, (uint32_t)seed); /* torch's CPU generator keeps the low 32 bits */
}

void dc_rng_normal(dc_rng *g, float *out, size_t n)
{
    if (g->kind == DC_RNG_CUDA) normal_cuda(g, out, n);
    else if (n >= 16) normal_many(g, out, n);
    else
        for (size_t i = 0; i < n; i++) out[i] = normal_one(g);
}
