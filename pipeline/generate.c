/* generate.c - a job from beginning to end: plan everything, then text, start image, sampling, decoding, one stage's
 * weights in memory at a time. */
#include "base/checked.h"
#include "pipeline/model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- progress, cancelling, residency ---------------------------------------------------------------------- */

void job_progress(job *j, diffc_stage stage, const char *what, uint64_t done, uint64_t total)
{
    if (!j->q->on_progress) return;
    int batches = (j->count + j->batch - 1) / j->batch;
    diffc_progress p = {.stage = stage,
                        .what = what,
                        .done = done,
                        .total = total,
                        .image = j->image,
                        .images = j->count,
                        .seconds = dc_seconds() - j->began,
                        .eta = -1};
    if (stage == DIFFC_STAGE_SAMPLE) {
        p.total = (uint64_t)batches * (uint64_t)job_steps(j);
        p.seconds = dc_seconds() - j->sample_began;
        if (done > 0) p.eta = p.seconds / (double)done * (double)(p.total - done);
    }
    if (j->q->on_progress(j->q->user, &p)) atomic_store(&j->m->cancel, 1);
}

int job_steps(const job *j) { return j->plan.adaptive ? 100 : j->plan.steps; }

dc_status job_cancelled(job *j)
{
    if (j->stop) return j->stop; /* the callback or the trace has filled the error */
    if (atomic_load(&j->m->cancel)) return dc_fail(j->e, DC_CANCELLED, "stopped");
    return DC_OK;
}

typedef struct preparing {
    job *j;
    const char *what;
    const dc_weights *from;
    uint64_t forgotten; /* bytes done when the files last left memory */
} preparing;

/* Files leave memory while they are packed, not after: else the peak of a run is twice its weights. */
static void tell_preparing(void *user, uint64_t done, uint64_t total)
{
    enum { FORGET_EACH = 64 << 20 };
    preparing *p = user;
    if (done - p->forgotten >= FORGET_EACH) {
        dc_weights_forget(p->from);
        p->forgotten = done;
    }
    job_progress(p->j, DIFFC_STAGE_LOAD, p->what, done, total);
}

dc_status job_prepare(job *j, dc_params *p, const dc_weights *from, const char *what)
{
    if (dc_params_ready(p)) return DC_OK;
    j->began = dc_seconds();
    dc_status s = dc_params_prepare(p, tell_preparing, &(preparing){.j = j, .what = what, .from = from}, j->e);
    if (!s && (s = dc_weights_check(from, j->e)) != DC_OK) dc_params_drop(p);
    dc_weights_forget(from);
    return s;
}

void job_drop(job *j, dc_params *p)
{
    if (!j->m->resident) dc_params_drop(p);
}

/* ---- the plan ------------------------------------------------------------------------------------------------ */

static void add_stage(diffc_plan *p, const char *name, const dc_params *weights, const dc_run *r, int passes)
{
    p->stage[p->n_stages++] = (diffc_plan_stage){.name = name,
                                                 .weights = dc_params_bytes(weights),
                                                 .least = dc_params_least(weights),
                                                 .buffers = dc_run_bytes(r),
                                                 .gflop = 1e-9 * (double)dc_run_flops(r),
                                                 .passes = passes};
}

/* Bytes of the job on the host beside the stages: latents and their copies, pictures, conditioning. */
static uint64_t host_bytes(const job *j)
{
    uint64_t latent = 4ull * (uint64_t)j->h * (uint64_t)j->w * (uint64_t)j->latent_channels, pixels = 3ull * (uint64_t)j->width * (uint64_t)j->height;
    uint64_t text = 0, width = 4ull * (uint64_t)j->cond.width, preview = j->preview.kind ? latent * (uint64_t)j->batch + pixels : 0;
    for (int s = 0; s < j->cond.n; s++) /* each text, and that of a step once a picture of the batch */
        text += (uint64_t)j->cond.tokens[j->cond.strand[s].negative] * width * (uint64_t)(j->cond.strand[s].schedule.n + j->batch);
    text += (uint64_t)j->cond.n_rows * (uint64_t)j->m->text[0].length * width;
    return latent * (uint64_t)j->batch * 5 + pixels * 2 + (j->picture ? pixels * 4 : 0) + (j->masked ? pixels * 4 : 0) + text + preview;
}

/* Prepared weights and buffers. With more than one batch the UNet stays prepared while a picture is decoded, and what makes previews is there
 * while it samples; a resident model keeps all. */
static uint64_t most_at_once(const job *j, const diffc_plan *p)
{
    uint64_t most = 0, weights = 0;
    const diffc_plan_stage none = {0}, *preview = &none, *vae = &p->stage[p->n_stages - 1], *unet = vae;
    for (int i = 0; i < p->n_stages; i++) {
        const diffc_plan_stage *x = &p->stage[i];
        if (!strcmp(x->name, "unet")) unet = x;
        if (!strcmp(x->name, "preview")) preview = x;
        most = x->weights + x->buffers > most ? x->weights + x->buffers : most;
        weights += x->weights;
    }
    const bool shared = j->preview.with == &j->decode; /* its stage has nothing of its own */
    if (shared) preview = vae;
    if (j->m->resident) return weights + unet->buffers + vae->buffers + (shared ? 0 : preview->buffers);
    const uint64_t sampling = unet->weights + unet->buffers + preview->weights + preview->buffers;
    const uint64_t both = sampling + (shared ? 0 : vae->weights + vae->buffers);
    most = sampling > most ? sampling : most;
    return j->count > j->batch && both > most ? both : most;
}

/* The same with as few weights on the device as can be. */
static uint64_t least_at_once(const job *j, const diffc_plan *p)
{
    diffc_plan least = *p;
    for (int i = 0; i < p->n_stages; i++) least.stage[i].weights = p->stage[i].least;
    return most_at_once(j, &least);
}

static void tell_strips(const job *j, diffc_plan *p, dc_vae_strips how)
{
    p->stage[p->n_stages - 1].strip = how.rows * dc_vae_configuration(j->m->vae)->factor;
    p->stage[p->n_stages - 1].again = how.again;
}

/* What shows previews, before the stage that it is there with; the model's own decoder is counted where it decodes pictures. */
static void add_preview(const job *j, diffc_plan *p)
{
    const decoder *d = j->preview.with;
    if (!d) return;
    add_stage(p, "preview", dc_vae_params(d->vae), d->run, preview_passes(j));
    diffc_plan_stage *x = &p->stage[p->n_stages - 1];
    if (d == &j->decode) x->weights = x->least = x->buffers = 0;
    else if (d->finish) x->buffers += dc_run_bytes(d->finish);
}

static void fill_plan(const job *j, diffc_plan *p)
{
    diffc_model *m = j->m;
    *p = (diffc_plan){.width = j->width,
                      .height = j->height,
                      .steps = j->plan.adaptive ? 0 : j->plan.steps,
                      .rows = j->plan.adaptive ? 0 : j->plan.n_rows,
                      .sampler = j->plan.sampler,
                      .schedule = j->plan.schedule,
                      .mapped = m->mapped};
    for (int i = 0; i < m->n_text; i++) add_stage(p, m->text[i].name, dc_clip_text_params(m->text[i].model), j->text_run[i], text_passes(j));
    if (j->encodes) {
        add_stage(p, "vae encoder", dc_vae_encoder_params(m->vae), j->encode_run, 1);
        tell_strips(j, p, j->encode_strips);
    }
    add_stage(p, "unet", dc_unet_params(m->unet), j->unet_run, (j->count + j->batch - 1) / j->batch * j->plan.n_rows);
    p->stage[p->n_stages - 1].buffers += dc_run_bytes(j->unet_text_run);
    add_preview(j, p);
    add_stage(p, "vae decoder", dc_vae_params(m->vae), j->decode.run, j->count);
    tell_strips(j, p, j->decode.strips);
    if (j->decode.finish) p->stage[p->n_stages - 1].buffers += dc_run_bytes(j->decode.finish);
    p->peak = memory_anonymous() + host_bytes(j);
    p->available = memory_available(m->max_memory);
    p->device_available = dc_device_memory(m->device);
    *(p->device_available ? &p->device_peak : &p->peak) += most_at_once(j, p);
    if (p->device_peak <= p->device_available) return;
    p->peak += p->device_peak - p->device_available; /* weights that stay in the host's memory */
    p->device_peak = least_at_once(j, p);
    p->visits = true;
}

static bool fits(const diffc_plan *p) { return p->peak <= p->available && p->device_peak <= p->device_available && !p->visits; }

/* Over the limit that the user has set, or a GPU's memory, one half of the VAE, if it is what takes too much, runs in strips: lower and lower ones until it fits. */
static dc_status fit_strips(job *j, const char *stage, bool encode, dc_vae_strips *how, dc_status (*plan)(job *j))
{
    const dc_vae_config *c = dc_vae_configuration(j->m->vae);
    dc_status s = DC_OK;
    while (!s) {
        diffc_plan p, without;
        fill_plan(j, &p);
        without = p;
        for (int i = 0; i < p.n_stages; i++)
            if (!strcmp(p.stage[i].name, stage)) without.stage[i].buffers = 0;
        if (fits(&p) || most_at_once(j, &without) == most_at_once(j, &p) || !dc_vae_next_strips(c, j->h, encode, how)) break;
        s = plan(j);
    }
    if (how->rows)
        dc_log_write(&j->m->log, DC_LOG_NOTE, "%s: in strips of %d rows%s, to fit into memory", stage, how->rows * c->factor,
                     how->again ? ", some computed twice" : "");
    return s;
}

static dc_status plan_passes(job *j)
{
    dc_status s = text_plan(j);
    if (!s && j->encodes) s = encode_plan(j);
    if (!s) s = sample_plan(j);
    if (!s) s = decode_plan(j);
    if (!s) s = preview_plan(j);
    if (s || (!j->m->max_memory && !dc_device_memory(j->m->device)) || j->q->trace) return s; /* a trace shows whole activations */
    if (!j->decode.finish) s = fit_strips(j, "vae decoder", false, &j->decode.strips, decode_plan);
    if (!s && j->encodes) s = fit_strips(j, "vae encoder", true, &j->encode_strips, encode_plan);
    return s;
}

/* Told before anything is prepared. */
static dc_status check_memory(const job *j)
{
    diffc_plan p;
    fill_plan(j, &p);
    const bool there = p.device_peak > p.device_available;
    if (p.peak <= p.available && !there) return DC_OK;
    const diffc_plan_stage *worst = &p.stage[0];
    for (int i = 1; i < p.n_stages; i++)
        if (p.stage[i].weights + p.stage[i].buffers > worst->weights + worst->buffers) worst = &p.stage[i];
    char strip[48] = "";
    if (worst->strip) snprintf(strip, sizeof strip, " in strips of %d rows", worst->strip);
    dc_status s =
        dc_fail(j->e, DC_NO_MEMORY, "memory%s: found %llu bytes available, expected at least %llu (%s%s: %llu of weights, %llu of activations)",
                there ? " of the GPU" : "", (unsigned long long)(there ? p.device_available : p.available),
                (unsigned long long)(there ? p.device_peak : p.peak), worst->name, strip, (unsigned long long)worst->weights,
                (unsigned long long)worst->buffers);
    dc_hint(j->e, "A smaller size or --batch-size needs less%s; --dry-run prints the whole plan.",
            j->q->vae_tiling ? "" : ", --vae-tiling less for the VAE");
    return s;
}

/* ---- running --------------------------------------------------------------------------------------------------- */

static dc_status encode_prompt(job *j)
{
    j->began = dc_seconds();
    job_progress(j, DIFFC_STAGE_TEXT, "text encoder", 0, 1);
    dc_status s = text_run(j);
    if (!s) job_progress(j, DIFFC_STAGE_TEXT, "text encoder", 1, 1);
    return s ? s : job_cancelled(j);
}

static dc_status encode_images(job *j)
{
    if (!j->encodes) return DC_OK;
    j->began = dc_seconds();
    job_progress(j, DIFFC_STAGE_ENCODE, "VAE encoder", 0, 1);
    dc_status s = encode_run(j);
    if (!s) job_progress(j, DIFFC_STAGE_ENCODE, "VAE encoder", 1, 1);
    return s ? s : job_cancelled(j);
}

/* Channels-last to the [C,h,w] that everybody else writes. */
static void to_channels_first(const job *j, const float *latent, float *out)
{
    int C = j->latent_channels, area = j->h * j->w;
    for (int c = 0; c < C; c++)
        for (int p = 0; p < area; p++) out[(size_t)c * (size_t)area + (size_t)p] = latent[(size_t)p * (size_t)C + (size_t)c];
}

static dc_status deliver(job *j, int i, const float *latent, const diffc_image *image)
{
    if (!j->q->on_image) return DC_OK;
    size_t n = (size_t)j->h * (size_t)j->w * (size_t)j->latent_channels;
    float *planes = dc_calloc(n, sizeof(float));
    char *parameters = parameters_text(j, i);
    dc_status s = planes && parameters ? DC_OK : dc_fail_memory(j->e, "a picture's text", n * sizeof(float));
    diffc_error inner = {0};
    diffc_result result = {.index = i,
                           .count = j->count,
                           .seed = dc_wish_seed(&j->noise, i, j->batch),
                           .image = image,
                           .parameters = parameters,
                           .latent = planes,
                           .latent_dim = {j->latent_channels, j->h, j->w},
                           .prompt = j->q->prompt ? j->q->prompt : "",
                           .model = j->m->name,
                           .sampler = j->plan.sampler,
                           .schedule = j->plan.schedule,
                           .steps = j->plan.steps,
                           .guidance = j->guidance};
    if (!s) {
        to_channels_first(j, latent, planes);
        s = (dc_status)j->q->on_image(j->q->user, &result, &inner);
        if (s) {
            dc_fail(j->e, s, "%s", *inner.text ? inner.text : "stopped by the program's own callback");
            if (*inner.hint) dc_hint(j->e, "%s", inner.hint);
        }
    }
    free(planes);
    free(parameters);
    return s;
}

static dc_status decode_batch(job *j, int first, int n, const float *latents)
{
    size_t one = (size_t)j->h * (size_t)j->w * (size_t)j->latent_channels;
    dc_status s = job_prepare(j, dc_vae_params(j->decode.vae), j->decode.weights, j->decode.what);
    for (int i = 0; !s && i < n; i++) {
        diffc_image image = {0};
        j->image = first + i;
        job_progress(j, DIFFC_STAGE_DECODE, "VAE decoder", (uint64_t)(first + i), (uint64_t)j->count);
        s = decode_run(j, latents + (size_t)i * one, &image);
        if (!s) s = job_cancelled(j);
        if (!s) s = deliver(j, first + i, latents + (size_t)i * one, &image);
        if (!s) job_progress(j, DIFFC_STAGE_DECODE, "VAE decoder", (uint64_t)(first + i + 1), (uint64_t)j->count);
        free(image.pixels);
    }
    dc_run_release(j->decode.run);
    if (j->preview.with != &j->decode || first + n >= j->count) job_drop(j, dc_vae_params(j->m->vae)); /* else the next batch shows itself by it */
    return s;
}

static dc_status sample_and_decode(job *j)
{
    size_t one = (size_t)j->h * (size_t)j->w * (size_t)j->latent_channels;
    float *latents = dc_calloc((size_t)j->batch * one, sizeof(float));
    dc_params *unet = dc_unet_params(j->m->unet);
    if (!latents) return dc_fail_memory(j->e, "latents", (size_t)j->batch * one * sizeof(float));
    if (j->q->on_image) model_hash_begin(j->m);
    dc_status s = job_prepare(j, unet, j->m->unet_weights, "UNet");
    if (!s) s = preview_prepare(j);
    j->sample_began = dc_seconds();
    for (int first = 0; !s && first < j->count; first += j->batch) {
        int n = j->count - first < j->batch ? j->count - first : j->batch;
        j->image = first;
        if (first == 0) job_progress(j, DIFFC_STAGE_SAMPLE, "unet", 0, 0);
        s = sample_run(j, first, n, latents);
        dc_run_release(j->unet_run);
        dc_run_release(j->unet_text_run);
        preview_rest(j, first + n >= j->count);
        if (first + n >= j->count) job_drop(j, unet);
        if (!s) s = decode_batch(j, first, n, latents);
    }
    job_drop(j, unet);
    free(latents);
    return s;
}

/* On a GPU: weights take what buffers leave; with room for all they need not look. */
static void share_device(const job *j)
{
    diffc_plan p;
    fill_plan(j, &p);
    dc_device_keep_free(j->m->device, p.visits ? p.device_peak : 0);
    if (p.visits) dc_log_write(&j->m->log, DC_LOG_NOTE, "weights: not all fit into the GPU's memory, so some come from the host's for each use");
}

static dc_status generate(job *j, diffc_model *m, const diffc_request *q, dc_error *e)
{
    dc_status s = job_begin(j, m, q, e);
    if (!s) s = plan_passes(j);
    if (!s) s = check_memory(j);
    if (!s) s = job_cancelled(j);
    if (!s) share_device(j);
    if (!s) s = encode_prompt(j);
    if (!s) s = encode_images(j);
    if (!s) s = sample_and_decode(j);
    return s;
}

/* ---- the public face ---------------------------------------------------------------------------------------------- */

/* Per-op times of the passes that were profiled, as text. */
static void keep_profile(diffc_model *m, const job *j)
{
    const struct {
        const char *name;
        const dc_run *r;
    } part[] = {{"unet, once a text", j->unet_text_run}, {"unet", j->unet_run}, {"preview", j->preview.own.run}, {"vae decoder", j->decode.run}};
    dc_text_free(&m->profile);
    for (size_t i = 0; j->q->profile && i < sizeof part / sizeof *part; i++)
        if (part[i].r) profile_table(&m->profile, part[i].name, part[i].r);
}

diffc_status diffc_generate(diffc_model *m, const diffc_request *q, diffc_error *error)
{
    dc_error e = {0};
    job j;
    dc_status s = generate(&j, m, q, &e);
    if (s == DC_CANCELLED && e.code == DC_OK) dc_fail(&e, s, "stopped");
    keep_profile(m, &j);
    job_end(&j);
    atomic_store(&m->cancel, 0);
    return give_error(error, &e);
}

diffc_status diffc_plan_request(diffc_model *m, const diffc_request *q, diffc_plan *plan, diffc_error *error)
{
    dc_error e = {0};
    job j;
    dc_status s = job_begin(&j, m, q, &e);
    if (!s) s = plan_passes(&j);
    if (!s) fill_plan(&j, plan);
    job_end(&j);
    return give_error(error, &e);
}
