/* brownian.c - a Brownian motion by halving, seeded node by node as numpy's SeedSequence spawns. Ref: numpy/random/bit_generator.pyx and O'Neill 2015
 * (seed_seq_fe); torchsde/_brownian/brownian_interval.py. */
#include "scheduler/brownian.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- SeedSequence ---------------------------------------------------------------------------------------------- */

enum { POOL = 24 };

/* Two hashes share this step, each with a constant that walks on by its own factor. */
static uint32_t hash_word(uint32_t value, uint32_t *walk, uint32_t factor)
{
    value ^= *walk;
    *walk *= factor;
    value *= *walk;
    return value ^ (value >> 16);
}

static uint32_t mix_words(uint32_t x, uint32_t y)
{
    uint32_t r = 0xca01f9ddu * x - 0x4973f715u * y;
    return r ^ (r >> 16);
}

/* First word of SeedSequence(entropy, spawn_key).generate_state(). A spawned one pads its entropy to the pool with zeros, which is what missing
 * words count as: so only the key's words come after the pool. */
static uint32_t first_word(uint64_t entropy, const uint32_t *key, int n_key)
{
    uint32_t pool[POOL], walk = 0x43b0d7e5u;
    const uint32_t word[2] = {(uint32_t)entropy, (uint32_t)(entropy >> 32)};
    for (int i = 0; i < POOL; i++) pool[i] = hash_word(i < 2 ? word[i] : 0, &walk, 0x931e8875u);
    for (int from = 0; from < POOL; from++)
        for (int to = 0; to < POOL; to++)
            if (from != to) pool[to] = mix_words(pool[to], hash_word(pool[from], &walk, 0x931e8875u));
    for (int k = 0; k < n_key; k++)
        for (int to = 0; to < POOL; to++) pool[to] = mix_words(pool[to], hash_word(key[k], &walk, 0x931e8875u));
    walk = 0x8b51f9ddu;
    return hash_word(pool[0], &walk, 0x58f38dedu);
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */

enum { DEEPEST = 60 }; /* 60 halvings of any range of floats end below 1e-6 or below a float's spacing */

/* Part of the range: number `at` of the 2^depth of its level. W[n]: how far the motion goes in it. */
typedef struct node {
    double start, end;
    uint64_t at;
    uint32_t depth;
    float *W;
} node;

/* To 6 digits behind the point, correctly, as Python's round(x, 6). */
static double snap(double x)
{
    char text[400];
    snprintf(text, sizeof text, "%.6f", x);
    return strtod(text, NULL);
}

static double middle(const node *x) { return snap(0.5 * (x->end + x->start)); }

/* The noise that belongs to a seed. */
static void draw(const dc_brownian *b, uint32_t seed, float *out, size_t n)
{
    dc_rng g;
    dc_rng_seed(&g, b->kind, seed);
    dc_rng_normal(&g, out, n);
}

/* The whole range. */
static node root_of(const dc_brownian *b, float *W, size_t n)
{
    draw(b, first_word(b->seed, NULL, 0), W, n);
    float scale = (float)sqrt((double)b->high - (double)b->low);
    for (size_t k = 0; k < n; k++) W[k] *= scale;
    return (node){snap(b->low), snap(b->high), 0, 0, W};
}

/* x becomes its right half when `right`, else its left one; sum[n], unless NULL, is added how far the motion goes in the other half. */
static void halve(const dc_brownian *b, node *x, double mid, int right, float *sum, float *noise, size_t n)
{
    uint32_t key[3] = {(uint32_t)x->at, (uint32_t)(x->at >> 32), x->depth};
    int words = key[1] ? 3 : 2;
    if (words == 2) key[1] = key[2];
    draw(b, first_word(b->seed, key, words), noise, n);
    double before = mid - x->start, after = x->end - mid, inverse = 1 / (x->end - x->start);
    float share = (float)before, whole = (float)inverse, spread = (float)sqrt(before * after * inverse);
    for (size_t k = 0; k < n; k++) {
        float left = share * x->W[k] * whole + spread * noise[k], rest = x->W[k] - left;
        x->W[k] = right ? rest : left;
        if (sum) sum[k] += right ? left : rest;
    }
    *(right ? &x->start : &x->end) = mid;
    x->at = 2 * x->at + (uint64_t)right;
    x->depth++;
}

/* out += how far the motion goes in the part of x that ends (`right`: begins) at `point`. */
static void add_part(const dc_brownian *b, node x, double point, int right, float *out, float *noise, size_t n)
{
    while ((right ? x.start : x.end) != point && x.depth < DEEPEST) {
        double mid = middle(&x);
        int into = right ? point >= mid : point > mid;                 /* the half that the point is in, or ends */
        halve(b, &x, mid, into, into != right ? out : NULL, noise, n); /* the other half is wanted whole, or not at all */
    }
    for (size_t k = 0; k < n; k++) out[k] += x.W[k];
}

/* ---- the face --------------------------------------------------------------------------------------------------------- */

bool dc_brownian_make(dc_brownian *b, dc_rng_kind kind, uint64_t seed, double sigma_min, double sigma_max)
{
    *b = (dc_brownian){kind, seed, (float)sigma_min, (float)sigma_max};
    return b->low > 0 && b->low <= b->high && b->high <= 1e9f;
}

static double within(const dc_brownian *b, double x) { return snap(fmin(fmax(x, snap(b->low)), snap(b->high))); }

void dc_brownian_noise(const dc_brownian *b, double from, double to, float *out, size_t n, float *scratch)
{
    float *other = scratch + n, *noise = scratch + 2 * n, a = (float)from, z = (float)to;
    double low = within(b, fminf(a, z)), high = within(b, fmaxf(a, z));
    memset(out, 0, n * sizeof *out);
    if (low >= high) return;
    node x = root_of(b, scratch, n);
    while ((x.start != low || x.end != high) && x.depth < DEEPEST) {
        double mid = middle(&x);
        if (low < mid && mid < high) break;
        halve(b, &x, mid, low >= mid, NULL, noise, n);
    }
    if (x.start == low && x.end == high) {
        add_part(b, x, low, 1, out, noise, n);
    } else { /* some of both halves */
        node right = {middle(&x), x.end, 2 * x.at + 1, x.depth + 1, other};
        memset(other, 0, n * sizeof *other);
        halve(b, &x, right.start, 0, other, noise, n);
        add_part(b, x, low, 1, out, noise, n);
        add_part(b, right, high, 0, out, noise, n);
    }
    /* The motion runs from the lowest sigma up, a sampler comes down. */
    float scale = a > z ? -1.0f : 1.0f, length = sqrtf(fabsf(z - a));
    for (size_t k = 0; k < n; k++) out[k] = out[k] * scale / length;
}
