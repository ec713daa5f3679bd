/* decode.c - latent to picture, as a whole (in strips, where memory asks for it) or (--vae-tiling) in overlapping tiles. */
#include "base/checked.h"
#include "pipeline/model.h"
#include "vae/tile.h"
#include <stdlib.h>
#include <string.h>

/* latent [h,w,C] or, when tiles have made it already, picture [H,W,3] on the host. */
typedef struct decode_pass {
    const job *j;
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
    finish(p, r, dc_vae_decode_strips(j->m->vae, r, latent, j->decode_strips));
}

static void run_finish(void *ctx, dc_run *r)
{
    const decode_pass *p = ctx;
    finish(p, r, dc_upload(r, DC_F32, 4, (int64_t[4]){1, p->j->height, p->j->width, 3}, p->picture));
}

static bool tiled(const job *j) { return j->q->vae_tiling && dc_vae_is_tiled(dc_vae_configuration(j->m->vae), j->h, j->w); }

dc_status decode_plan(job *j)
{
    decode_pass p = {.j = j};
    if (!j->decode_run) j->decode_run = dc_run_new(j->m->device);
    if (!j->decode_run) return dc_fail_memory(j->e, "a pass", 0);
    trace_attach(j, j->decode_run);
    dc_run_set_profile(j->decode_run, j->q->profile);
    if (!tiled(j)) return dc_run_plan(j->decode_run, run_decode, &p, j->e);
    if (!j->finish_run) j->finish_run = dc_run_new(j->m->device);
    if (!j->finish_run) return dc_fail_memory(j->e, "a pass", 0);
    dc_status s = dc_vae_tiled_plan(j->m->vae, j->decode_run, false, j->h, j->w, j->e);
    return s ? s : dc_run_plan(j->finish_run, run_finish, &p, j->e);
}

static dc_status decode_tiles(job *j, decode_pass *p)
{
    size_t n = (size_t)j->width * (size_t)j->height * 3;
    float *picture = dc_calloc(n, sizeof(float));
    dc_status s = picture ? DC_OK : dc_fail_memory(j->e, "a picture", n * sizeof(float));
    p->picture = picture;
    if (!s) s = dc_vae_tiled_decode(j->m->vae, j->decode_run, p->latent, j->h, j->w, picture, j->e);
    if (!s) s = dc_run_reserve(j->finish_run, j->e);
    if (!s) s = dc_run_pass(j->finish_run, run_finish, p, j->e);
    dc_run_release(j->finish_run);
    free(picture);
    return s;
}

static dc_status decode_whole(job *j, decode_pass *p)
{
    dc_status s = dc_run_reserve(j->decode_run, j->e);
    return s ? s : dc_run_pass(j->decode_run, run_decode, p, j->e);
}

dc_status decode_run(job *j, const float *latent, diffc_image *out)
{
    size_t n = (size_t)j->width * (size_t)j->height * 3;
    dc_stats stats = {0};
    *out = (diffc_image){j->width, j->height, 3, dc_calloc(n, 1)};
    if (!out->pixels) return dc_fail_memory(j->e, "a picture", n);
    trace_part(j, "vae", -1);
    decode_pass p = {j, latent, NULL, out->pixels, &stats};
    dc_status s = tiled(j) ? decode_tiles(j, &p) : decode_whole(j, &p);
    if (!s && stats.non_finite) {
        s = dc_fail(j->e, DC_INTERNAL, "%s: VAE: found %lld non-finite values in the picture, expected none", dc_weights_path(j->m->vae_weights),
                    (long long)stats.non_finite);
        dc_hint(j->e, "The latent was finite and the arithmetic full float32: try another VAE with --vae.");
    }
    if (s) {
        free(out->pixels);
        *out = (diffc_image){0};
    }
    return s;
}
