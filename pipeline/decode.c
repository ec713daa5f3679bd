/* decode.c - latent to picture, as a whole (in strips, where memory asks for it) or (--vae-tiling) in overlapping tiles. */
#include "base/checked.h"
#include "pipeline/model.h"
#include "vae/tile.h"
#include <stdlib.h>
#include <string.h>

/* latent [h,w,C] or, when tiles have made it already, picture [H,W,3] on the host. */
typedef struct decode_pass {
    const job *j;
    const decoder *d;
    const float *latent, *picture;
    uint8_t *pixels;
    dc_stats *stats;
} decode_pass;

static void finish(const decode_pass *p, dc_run *r, dc_tensor picture)
{
    dc_stats_of(r, picture, p->stats);
    dc_download(r, dc_to_rgb8(r, picture), p->pixels);
}

static void run_decode(void *ctx, dc_run *r)
{
    const decode_pass *p = ctx;
    const job *j = p->j;
    dc_tensor latent = dc_upload(r, DC_F32, 4, (int64_t[4]){1, j->h, j->w, j->latent_channels}, p->latent);
    finish(p, r, dc_vae_decode_strips(p->d->vae, r, latent, p->d->strips));
}

static void run_finish(void *ctx, dc_run *r)
{
    const decode_pass *p = ctx;
    const int64_t factor = dc_vae_configuration(p->d->vae)->factor;
    finish(p, r, dc_upload(r, DC_F32, 4, (int64_t[4]){1, factor * p->j->h, factor * p->j->w, 3}, p->picture));
}

static bool tiled(const job *j, const decoder *d) { return j->q->vae_tiling && dc_vae_is_tiled(dc_vae_configuration(d->vae), j->h, j->w); }

dc_status decoder_plan(job *j, decoder *d)
{
    decode_pass p = {.j = j, .d = d};
    if (!d->run) d->run = dc_run_new(j->m->device);
    if (!d->run) return dc_fail_memory(j->e, "a pass", 0);
    trace_attach(j, d->run);
    dc_run_set_profile(d->run, j->q->profile);
    if (!tiled(j, d)) return dc_run_plan(d->run, run_decode, &p, j->e);
    if (!d->finish) d->finish = dc_run_new(j->m->device);
    if (!d->finish) return dc_fail_memory(j->e, "a pass", 0);
    dc_status s = dc_vae_tiled_plan(d->vae, d->run, false, j->h, j->w, j->e);
    return s ? s : dc_run_plan(d->finish, run_finish, &p, j->e);
}

dc_status decode_plan(job *j) { return decoder_plan(j, &j->decode); }

static dc_status decode_tiles(job *j, decode_pass *p)
{
    const decoder *d = p->d;
    const size_t factor = (size_t)dc_vae_configuration(d->vae)->factor, n = factor * (size_t)j->w * factor * (size_t)j->h * 3;
    float *picture = dc_calloc(n, sizeof(float));
    dc_status s = picture ? DC_OK : dc_fail_memory(j->e, "a picture", n * sizeof(float));
    p->picture = picture;
    if (!s) s = dc_vae_tiled_decode(d->vae, d->run, p->latent, j->h, j->w, picture, j->e);
    if (!s) s = dc_run_reserve(d->finish, j->e);
    if (!s) s = dc_run_pass(d->finish, run_finish, p, j->e);
    dc_run_release(d->finish);
    free(picture);
    return s;
}

dc_status decoder_run(job *j, decoder *d, const float *latent, uint8_t *pixels, dc_stats *stats)
{
    decode_pass p = {j, d, latent, NULL, pixels, stats};
    if (tiled(j, d)) return decode_tiles(j, &p);
    dc_status s = dc_run_reserve(d->run, j->e);
    return s ? s : dc_run_pass(d->run, run_decode, &p, j->e);
}

void decoder_free(decoder *d)
{
    dc_run_free(d->run);
    dc_run_free(d->finish);
}

dc_status decode_run(job *j, const float *latent, diffc_image *out)
{
    size_t n = (size_t)j->width * (size_t)j->height * 3;
    dc_stats stats = {0};
    *out = (diffc_image){j->width, j->height, 3, dc_calloc(n, 1)};
    if (!out->pixels) return dc_fail_memory(j->e, "a picture", n);
    trace_part(j, "vae", -1);
    dc_status s = decoder_run(j, &j->decode, latent, out->pixels, &stats);
    if (!s && stats.non_finite) {
        s = dc_fail(j->e, DC_INTERNAL, "%s: VAE: found %lld non-finite values in the picture, expected none", dc_weights_path(j->decode.weights),
                    (long long)stats.non_finite);
        dc_hint(j->e, "The latent was finite and the arithmetic full float32: try another VAE with --vae.");
    }
    if (s) {
        free(out->pixels);
        *out = (diffc_image){0};
    }
    return s;
}
