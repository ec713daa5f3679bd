/* probe.c - what a UNet predicts, for files that do not say it: told from its answer to one input, as A1111 does for Stable Diffusion 2.x.
 * At timestep 999 the noisy latent is nearly all noise: a UNet that predicts the noise answers with about its input, one that predicts v
 * with about minus the picture. */
#include "base/checked.h"
#include "pipeline/model.h"
#include <stdlib.h>

enum { SIDE = 8, TOKENS = 2 };

typedef struct probe {
    const dc_unet *unet;
    const float *halves; /* 0.5, as many as any input needs; NULL while planning */
    float *answer;       /* [1,8,8,out_channels] */
} probe;

static void run_probe(void *ctx, dc_run *r)
{
    const probe *p = ctx;
    const dc_unet_config *c = dc_unet_configuration(p->unet);
    const float t = 999;
    dc_tensor x = dc_upload(r, DC_F32, 4, (int64_t[4]){1, SIDE, SIDE, c->in_channels}, p->halves);
    dc_tensor context = dc_upload(r, DC_F32, 3, (int64_t[3]){1, TOKENS, c->context}, p->halves);
    dc_unet_in in = {.n = 1, .x = x, .context = context, .timestep = dc_upload(r, DC_F32, 1, (int64_t[1]){1}, &t)};
    dc_download(r, dc_unet_forward(p->unet, r, in), p->answer);
}

dc_status probe_prediction(diffc_model *m, dc_prediction *out, dc_error *e)
{
    const dc_unet_config *c = dc_unet_configuration(m->unet);
    dc_params *weights = dc_unet_params(m->unet);
    size_t latent = (size_t)SIDE * SIDE * (size_t)c->in_channels, text = (size_t)TOKENS * (size_t)c->context, most = latent > text ? latent : text;
    size_t answers = (size_t)SIDE * SIDE * (size_t)c->out_channels;
    float *halves = dc_calloc(most, sizeof(float)), *answer = dc_calloc(answers, sizeof(float));
    dc_run *r = dc_run_new(m->device);
    probe p = {.unet = m->unet};
    dc_status s = halves && answer && r ? DC_OK : dc_fail_memory(e, "a test of the UNet", (most + answers) * sizeof(float));
    for (size_t i = 0; !s && i < most; i++) halves[i] = 0.5f;
    if (!s) s = dc_run_plan(r, run_probe, &p, e);
    if (!s) s = dc_params_prepare(weights, NULL, NULL, e);
    if (!s) s = dc_run_reserve(r, e);
    p.halves = halves;
    p.answer = answer;
    if (!s) s = dc_run_pass(r, run_probe, &p, e);
    if (!s) s = dc_weights_check(m->unet_weights, e);
    double mean = 0;
    for (size_t i = 0; !s && i < answers; i++) mean += (answer[i] - 0.5) / (double)answers;
    *out = mean < -1 ? DC_PREDICT_V : DC_PREDICT_EPSILON; /* not finite: epsilon; sampling will tell */
    dc_run_free(r);
    dc_params_drop(weights);
    dc_weights_forget(m->unet_weights);
    free(halves);
    free(answer);
    return s;
}
