/* decode.c - latent to picture. */
#include "base/checked.h"
#include "pipeline/model.h"
#include <stdlib.h>
#include <string.h>

typedef struct decode_pass { const job *j; const float *latent; uint8_t *pixels; dc_stats *stats; } decode_pass;

static void run_decode(void *ctx, dc_run *r)
{
    const decode_pass *p       = ctx;
    const job         *j       = p->j;
    dc_tensor          latent  = dc_upload(r, DC_F32, 4, (int64_t[4]){1, j->h, j->w, j->latent_channels}, p->latent);
    dc_tensor          picture = dc_vae_decode(j->m->vae, r, latent);
    dc_stats_of(r, picture, p->stats);
    dc_download(r, dc_to_rgb8(r, picture), p->pixels);
}

dc_status decode_plan(job *j)
{
    j->decode_run = dc_run_new(j->m->device);
    if (!j->decode_run) return dc_fail_memory(j->e, "a pass", 0);
    trace_attach(j, j->decode_run);
    dc_run_set_profile(j->decode_run, j->q->profile);
    decode_pass p = {.j = j};
    return dc_run_plan(j->decode_run, run_decode, &p, j->e);
}

dc_status decode_run(job *j, const float *latent, diffc_image *out)
{
    size_t   n     = (size_t)j->width * (size_t)j->height * 3;
    dc_stats stats = {0};
    *out           = (diffc_image){j->width, j->height, 3, dc_calloc(n, 1)};
    if (!out->pixels) return dc_fail_memory(j->e, "a picture", n);
    trace_part(j, "vae", -1);
    dc_status   s = dc_run_reserve(j->decode_run, j->e);
    decode_pass p = {j, latent, out->pixels, &stats};
    if (!s) s = dc_run_pass(j->decode_run, run_decode, &p, j->e);
    if (!s && stats.non_finite) {
        s = dc_fail(j->e, DC_INTERNAL, "%s: VAE: found %lld non-finite values in the picture, expected none", dc_weights_path(j->m->vae_weights), (long long)stats.non_finite);
        dc_hint(j->e, "The latent was finite and the arithmetic full float32: try another VAE with --vae.");
    }
    if (s) {
        free(out->pixels);
        *out = (diffc_image){0};
    }
    return s;
}
