/* rng.h - random numbers as torch draws them. */
#ifndef DC_SCHEDULER_RNG_H
#define DC_SCHEDULER_RNG_H
#include <stddef.h>
#include <stdint.h>

typedef enum dc_rng_kind {
    DC_RNG_CPU, /* torch's CPU generator: MT19937, low 32 bits of the seed; other path below 16 elements */
    DC_RNG_CUDA /* torch's CUDA generator: Philox4x32-10, one counter step a call (A1111 "NV")           */
} dc_rng_kind;

/* A generator; plain data, copy it to fork the stream. */
typedef struct dc_rng {
    dc_rng_kind kind;
    uint32_t mt[624];
    int mt_at;
    int have_normal; /* CPU, n < 16: the cached second normal */
    double next_normal;
    uint64_t seed, calls; /* Philox */
} dc_rng;

void dc_rng_seed(dc_rng *g, dc_rng_kind kind, uint64_t seed);
/* out[n]: torch.randn(n) float32 from this generator; consecutive calls continue the stream. */
void dc_rng_normal(dc_rng *g, float *out, size_t n);

/* Python's random.Random(seed) on the same Mersenne twister: random.seed, random.random, random.randrange(n) (n >= 1). */
void dc_rng_seed_python(dc_rng *g, uint64_t seed);
double dc_rng_python_random(dc_rng *g);
uint32_t dc_rng_python_below(dc_rng *g, uint32_t n);

#endif
