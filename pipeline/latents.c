/* latents.c - start image and masked image through the VAE's encoder. */
#include "base/checked.h"
#include "pipeline/model.h"
#include <stdlib.h>
#include <string.h>

typedef struct encode_pass {
    const job *j;
    const float *picture;
    float *mean, *logvar;
} encode_pass;

static void run_encode(void *ctx, dc_run *r)
{
    const encode_pass *p = ctx;
    dc_tensor picture = dc_upload(r, DC_F32, 4, (int64_t[4]){1, p->j->height, p->j->width, 3}, p->picture);
    dc_vae_moments out = dc_vae_encode_strips(p->j->m->vae, r, picture, p->j->encode_strips);
    dc_download(r, out.mean, p->mean);
    if (!dc_is_none(out.logvar)) dc_download(r, out.logvar, p->logvar);
}

dc_status encode_plan(job *j)
{
    if (!j->encode_run) j->encode_run = dc_run_new(j->m->device);
    if (!j->encode_run) return dc_fail_memory(j->e, "a pass", 0);
    trace_attach(j, j->encode_run);
    encode_pass p = {.j = j};
    return dc_run_plan(j->encode_run, run_encode, &p, j->e);
}

static dc_status encode_picture(job *j, const float *picture, struct moments *out)
{
    size_t n = (size_t)j->h * (size_t)j->w * (size_t)j->latent_channels;
    bool tiny = dc_vae_configuration(j->m->vae)->tiny;
    out->mean = dc_calloc(n, sizeof(float));
    if (!tiny) out->logvar = dc_calloc(n, sizeof(float));
    if (!out->mean || (!tiny && !out->logvar)) return dc_fail_memory(j->e, "a latent", n * sizeof(float));
    encode_pass p = {j, picture, out->mean, out->logvar};
    return dc_run_pass(j->encode_run, run_encode, &p, j->e);
}

dc_status encode_run(job *j)
{
    dc_params *weights = dc_vae_encoder_params(j->m->vae);
    trace_part(j, "vae", -1);
    dc_status s = job_prepare(j, weights, j->m->vae_weights, "VAE encoder");
    if (!s) s = dc_run_reserve(j->encode_run, j->e);
    /* An inpaint model at full strength starts from noise alone: only the masked picture is needed then. */
    if (!s && j->plan.c_image != 0) s = encode_picture(j, j->picture, &j->moments);
    if (!s && j->masked) s = encode_picture(j, j->masked, &j->masked_moments);
    dc_run_release(j->encode_run);
    job_drop(j, weights);
    return s;
}
