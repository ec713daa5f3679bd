/* draws.c - the conventions, and drawing by them. Ref: A1111 modules/rng.py, processing.py, sd_samplers_common.py; ComfyUI comfy/sample.py,
 * comfy/k_diffusion/sampling.py; diffusers utils/torch_utils.py (randn_tensor). */
#include "scheduler/draws.h"
#include "base/checked.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- the table --------------------------------------------------------------------------------------------------- */

#define WHOLE_BATCH        .start = DC_RNG_CPU, .whole_batch = true, .label = "CPU"
#define APART(kind, delta) .apart = true, .steps = kind, .steps_delta = delta
#define BROWNIAN(kind)     .brownian = true, .tree = kind
static const dc_convention conventions[] = {
    {"cpu", "", .start = DC_RNG_CPU, .posterior = true, .label = "CPU"},
    {"cuda", "gpu|nv|philox", .start = DC_RNG_CUDA, .posterior = true},
    {"a1111", "webui|forge", .program = DC_A1111, .start = DC_RNG_CUDA, BROWNIAN(DC_RNG_CUDA)},
    {"a1111-cpu", "webui-cpu|forge-cpu", .program = DC_A1111, .start = DC_RNG_CPU, BROWNIAN(DC_RNG_CPU), .label = "CPU"},
    {"comfyui", "comfy", .program = DC_COMFYUI, WHOLE_BATCH, APART(DC_RNG_CUDA, 0), BROWNIAN(DC_RNG_CPU)},
    {"comfyui-gpu", "comfy-gpu", .program = DC_COMFYUI, WHOLE_BATCH, APART(DC_RNG_CUDA, 0), BROWNIAN(DC_RNG_CUDA)},
    {"comfyui-cpu", "comfy-cpu", .program = DC_COMFYUI, WHOLE_BATCH, APART(DC_RNG_CPU, 1), BROWNIAN(DC_RNG_CPU)},
    {"diffusers", "", WHOLE_BATCH, .posterior = true},
};
enum { CONVENTIONS = sizeof conventions / sizeof *conventions };

const dc_convention *dc_convention_find(const char *name)
{
    for (int i = 0; i < CONVENTIONS; i++) {
        if (!strcasecmp(name, conventions[i].name)) return &conventions[i];
        for (const char *a = conventions[i].aliases; *a;) {
            size_t n = strcspn(a, "|");
            if (strlen(name) == n && !strncasecmp(name, a, n)) return &conventions[i];
            a += n + (a[n] == '|');
        }
    }
    return NULL;
}

const char *const *dc_convention_names(int *n)
{
    static const char *const names[] = {"cpu", "cuda", "a1111", "a1111-cpu", "comfyui", "comfyui-gpu", "comfyui-cpu", "diffusers"};
    _Static_assert(sizeof names / sizeof *names == CONVENTIONS, "one name a row");
    *n = CONVENTIONS;
    return names;
}

/* ---- seeds ---------------------------------------------------------------------------------------------------------- */

uint64_t dc_wish_seed(const dc_noise_wish *q, int i, int batch)
{
    if (q->variation_strength != 0) return q->seed;
    return q->seed + (uint64_t)(q->convention->whole_batch ? i / batch * batch : i);
}

uint64_t dc_wish_variation_seed(const dc_noise_wish *q, int i) { return q->variation_seed + (uint64_t)i; }

/* What the generators of a batch begin with. */
static uint64_t seed_of(const dc_draws *s, int i) { return dc_wish_seed(&s->wish, s->first + i, 1); }
static int generators(const dc_draws *s) { return s->wish.convention->whole_batch ? 1 : s->n; }

dc_status dc_draws_make(dc_draws *s, const dc_noise_wish *q, int first, int n, int channels, int h, int w, double sigma_min, double sigma_max,
                        dc_error *e)
{
    const dc_convention *c = q->convention;
    *s = (dc_draws){.wish = *q, .first = first, .n = n, .channels = channels, .h = h, .w = w, .moves = c->brownian};
    s->latent = (size_t)channels * (size_t)h * (size_t)w;
    size_t small = (size_t)channels * (size_t)q->from_h * (size_t)q->from_w, once = c->whole_batch ? (size_t)n * s->latent : s->latent;
    size_t room = 3 * (once > small ? once : small);
    int count = generators(s);
    s->rng = dc_calloc((size_t)count, sizeof *s->rng);
    s->apart = dc_calloc(1, sizeof *s->apart);
    s->motion = dc_calloc((size_t)count, sizeof *s->motion);
    s->scratch = dc_calloc(room, sizeof *s->scratch);
    if (!s->rng || !s->apart || !s->motion || !s->scratch) {
        dc_draws_free(s);
        return dc_fail_memory(e, "noises", room * sizeof *s->scratch);
    }
    for (int i = 0; i < count; i++) {
        dc_rng_seed(&s->rng[i], c->start, seed_of(s, i));
        s->moves = s->moves && dc_brownian_make(&s->motion[i], c->tree, seed_of(s, i), sigma_min, sigma_max);
    }
    dc_rng_seed(s->apart, c->steps, seed_of(s, 0) + c->steps_delta);
    return DC_OK;
}

void dc_draws_free(dc_draws *s)
{
    free(s->rng);
    free(s->apart);
    free(s->motion);
    free(s->scratch);
    *s = (dc_draws){0};
}

/* ---- drawing -------------------------------------------------------------------------------------------------------- */

static void draw(dc_draws *s, dc_rng *rng, float *out)
{
    size_t once = s->wish.convention->whole_batch ? (size_t)s->n * s->latent : s->latent;
    for (int i = 0; i < generators(s); i++) dc_rng_normal(&rng[i], out + (size_t)i * once, once);
}

void dc_draws_posterior(dc_draws *s, float *out)
{
    if (!s->wish.convention->whole_batch) {
        draw(s, s->rng, out);
        return;
    }
    /* diffusers encodes the one picture once, and repeats it */
    dc_rng_normal(s->rng, out, s->latent);
    for (int i = 1; i < s->n; i++) memcpy(out + (size_t)i * s->latent, out, s->latent * sizeof *out);
}

/* Cosine of the angle between two columns of h numbers, w apart. */
static double cosine(const float *a, const float *b, int h, int w)
{
    double aa = 0, bb = 0, ab = 0;
    for (int y = 0; y < h; y++, a += w, b += w) {
        aa += (double)*a * *a;
        bb += (double)*b * *b;
        ab += (double)*a * *b;
    }
    return fmin(fmax(ab / sqrt(aa * bb), -1), 1);
}

/* low becomes what lies at `share` of the way to high: along the arc in each column (torch.norm over axis 1 of [C,h,w]), or, where the two all
 * but agree, along the chord, there with the weights in each other's place. */
static void turn(float *low, const float *high, double share, int channels, int h, int w)
{
    double mean = 0;
    for (int c = 0; c < channels; c++)
        for (int x = 0; x < w; x++) mean += cosine(low + c * h * w + x, high + c * h * w + x, h, w) / (channels * w);
    for (int c = 0; c < channels; c++)
        for (int x = 0; x < w; x++) {
            float *a = low + c * h * w + x;
            const float *b = high + c * h * w + x;
            double angle = acos(cosine(a, b, h, w)), sine = sin(angle), keep = share, take = 1 - share;
            if (mean <= 0.9995 && sine > 0) keep = sin((1 - share) * angle) / sine, take = sin(share * angle) / sine;
            for (int y = 0; y < h; y++, a += w, b += w) *a = (float)(keep * *a + take * *b);
        }
}

/* small [C,from_h,from_w] into the middle of out [C,h,w], what is too large cut off at both sides. */
static void put_in_the_middle(const dc_draws *s, const float *small, float *out)
{
    int h = s->wish.from_h, w = s->wish.from_w, top = (s->h - h) / 2, left = (s->w - w) / 2;
    /* Python's // rounds down, and twice the shift is taken off. */
    if (s->h < h) top = -((h - s->h + 1) / 2);
    if (s->w < w) left = -((w - s->w + 1) / 2);
    int rows = top >= 0 ? h : h + 2 * top, columns = left >= 0 ? w : w + 2 * left;
    for (int c = 0; c < s->channels; c++)
        for (int y = 0; y < rows; y++) {
            const float *from = small + ((size_t)c * (size_t)h + (size_t)(y + (top < 0 ? -top : 0))) * (size_t)w + (left < 0 ? -left : 0);
            float *to = out + ((size_t)c * (size_t)s->h + (size_t)(y + (top > 0 ? top : 0))) * (size_t)s->w + (left > 0 ? left : 0);
            memcpy(to, from, (size_t)columns * sizeof *to);
        }
}

static void draw_with(dc_rng_kind kind, uint64_t seed, float *out, size_t n)
{
    dc_rng g;
    dc_rng_seed(&g, kind, seed);
    dc_rng_normal(&g, out, n);
}

void dc_draws_start(dc_draws *s, float *out)
{
    const dc_noise_wish *q = &s->wish;
    dc_rng_kind kind = q->convention->start;
    bool resized = q->from_h > 0 && q->from_w > 0 && (q->from_h != s->h || q->from_w != s->w);
    int h = resized ? q->from_h : s->h, w = resized ? q->from_w : s->w;
    size_t n = (size_t)s->channels * (size_t)h * (size_t)w;
    float *other = s->scratch, *small = s->scratch + n;
    draw(s, s->rng, out);
    for (int i = 0; i < generators(s); i++) {
        float *own = out + (size_t)i * s->latent, *noise = resized ? small : own;
        if (resized) draw_with(kind, seed_of(s, i), small, n);
        if (q->variation_strength != 0) {
            draw_with(kind, dc_wish_variation_seed(q, s->first + i), other, n);
            turn(noise, other, q->variation_strength, s->channels, h, w);
        }
        if (resized) put_in_the_middle(s, small, own);
        if (q->ensd) dc_rng_seed(&s->rng[i], kind, seed_of(s, i) + (uint64_t)q->ensd);
    }
}

void dc_draws_step(dc_draws *s, double from, double to, float *out)
{
    const dc_convention *c = s->wish.convention;
    size_t once = c->whole_batch ? (size_t)s->n * s->latent : s->latent;
    if (!s->moves || from == to) draw(s, c->apart ? s->apart : s->rng, out);
    else
        for (int i = 0; i < generators(s); i++) dc_brownian_noise(&s->motion[i], from, to, out + (size_t)i * once, once, s->scratch);
}
