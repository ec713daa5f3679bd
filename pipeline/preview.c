/* preview.c - pictures on their way: the denoised estimate of a step as RGB, by a linear map, the tiny decoder, or the model's own. */
#include "base/checked.h"
#include "base/file.h"
#include "pipeline/model.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- latent to RGB --------------------------------------------------------------------------------------------- */

/* Of published latents, [C + 1][3], the last row the bias, colours in -1 to 1. Numbers: stable-diffusion.cpp (MIT), latent-preview.h. */
enum { KNOWN_CHANNELS = 4, KNOWN_FACTORS = 3 * (KNOWN_CHANNELS + 1) };
static const float sd_factors[KNOWN_FACTORS] = {0.337366f, 0.216344f,  0.257386f,  0.165636f,  0.386828f,  0.046994f,  -0.267803f, 0.237036f,
                                                0.223517f, -0.178022f, -0.200862f, -0.678514f, -0.017478f, -0.055834f, -0.105825f};
static const float sdxl_factors[KNOWN_FACTORS] = {0.258303f,  0.277640f,  0.329699f,  -0.299701f, 0.105446f, 0.014194f,  0.050522f, 0.186163f,
                                                  -0.143257f, -0.211938f, -0.149892f, -0.080036f, 0.144381f, -0.033313f, 0.007061f};

/* One row of three numbers; `what` is for messages. */
static dc_status read_row(const json_t *row, const char *path, const char *what, int i, float *to, dc_error *e)
{
    if (!json_is_array(row) || json_array_size(row) != 3)
        return dc_fail(e, DC_DATA, "%s: %s: found no list of 3 numbers at place %d, expected red, green, blue", path, what, i);
    for (size_t k = 0; k < 3; k++) {
        const json_t *v = json_array_get(row, k);
        const double x = json_is_number(v) ? json_number_value(v) : NAN;
        if (!(fabs(x) <= 1e6)) return dc_fail(e, DC_DATA, "%s: %s: found no number within 1e6 at place %d, expected one", path, what, i);
        to[k] = (float)x;
    }
    return DC_OK;
}

dc_status preview_factors(float *to, int channels, const json_t *root, const char *path, dc_error *e)
{
    dc_status s = DC_OK;
    const json_t *factors = json_object_get(root, "factors"), *bias = json_object_get(root, "bias");
    if (!json_is_array(factors) || json_array_size(factors) != (size_t)channels)
        s = dc_fail(e, DC_DATA, "%s: factors: found %zu rows, expected one for each of %d latent channels", path, json_array_size(factors), channels);
    for (int c = 0; !s && c < channels; c++) s = read_row(json_array_get(factors, (size_t)c), path, "factors", c, to + 3 * c, e);
    if (!s && bias) s = read_row(bias, path, "bias", 0, to + 3 * channels, e);
    return s;
}

static dc_status read_factors(float *to, int channels, const char *path, dc_error *e)
{
    json_t *root = NULL;
    dc_status s = dc_json_read(&root, path, DC_JSON_CONFIG_LIMIT, e);
    if (!s) s = preview_factors(to, channels, root, path, e);
    json_decref(root);
    return s;
}

/* Those of the latents that the UNet is known to have, by its VAE's scaling factor (a TAESD does not say); NULL: not known. */
static const float *known_factors(const diffc_model *m)
{
    const dc_vae_config *v = dc_vae_configuration(m->vae);
    const dc_unet_config *u = dc_unet_configuration(m->unet);
    const bool xl = v->tiny ? u->text_time : v->scaling_factor == 0.13025, sd = v->tiny ? !u->text_time : v->scaling_factor == 0.18215;
    return v->latent_channels != KNOWN_CHANNELS ? NULL : xl ? sdxl_factors : sd ? sd_factors : NULL;
}

/* Into m->factors: the folder's own (preview.json), else those of its kind of latents. */
static dc_status find_factors(diffc_model *m, dc_error *e)
{
    if (m->factors) return DC_OK;
    const int channels = dc_vae_configuration(m->vae)->latent_channels;
    const size_t n = 3 * ((size_t)channels + 1);
    const float *known = known_factors(m);
    char *path = m->folder ? dc_path_join(m->folder, "preview.json") : NULL;
    float *to = dc_calloc(n, sizeof *to);
    dc_status s = DC_OK;
    if (!to || (m->folder && !path)) s = dc_fail_memory(e, "preview factors", n * sizeof *to);
    else if (path && dc_is_file(path)) s = read_factors(to, channels, path, e);
    else if (known) memcpy(to, known, n * sizeof *to);
    else {
        s = dc_fail(e, DC_USAGE,
                    "%s: preview: the colours of its latents are not known: found no preview.json, expected one, or latents of Stable "
                    "Diffusion (scaling_factor 0.18215) or XL (0.13025)",
                    m->path);
        dc_hint(e, "Take --preview tae with --taesd FILE --taesd-preview-only, or --preview vae.");
    }
    free(path);
    if (s) free(to);
    else m->factors = to;
    return s;
}

/* x0 [area,C] -> pixels [area,3]. */
static void project(const float *factors, const float *x0, int area, int channels, uint8_t *pixels)
{
    for (int p = 0; p < area; p++)
        for (int k = 0; k < 3; k++) {
            double sum = factors[3 * channels + k];
            for (int c = 0; c < channels; c++) sum += (double)factors[3 * c + k] * x0[(size_t)p * (size_t)channels + (size_t)c];
            pixels[3 * (size_t)p + (size_t)k] = (uint8_t)lrint(255 * fmax(0, fmin(1, sum / 2 + 0.5)));
        }
}

/* ---- the decoder ------------------------------------------------------------------------------------------------- */

/* The tiny decoder: the one that decodes already, --taesd, or the folder's own, opened now. */
static dc_status find_tiny(job *j)
{
    diffc_model *m = j->m;
    const dc_vae_config *v = dc_vae_configuration(m->vae);
    if (v->tiny) {
        j->preview.with = &j->decode;
        return DC_OK;
    }
    char *path = m->folder ? dc_path_join(m->folder, "taesd") : NULL;
    dc_status s = m->folder && !path ? dc_fail_memory(j->e, "a path", strlen(m->folder)) : DC_OK;
    if (!s && !m->tiny && path && dc_is_folder(path)) s = autoencoder_open(m, &m->tiny, &m->tiny_weights, path, false, NULL, j->e);
    free(path);
    if (s) {
        dc_weights_close(m->tiny_weights);
        m->tiny_weights = NULL;
        return s;
    }
    if (!m->tiny) {
        s = dc_fail(j->e, DC_NO_INPUT, "%s: preview: found no tiny decoder (a folder taesd), expected one for tae", m->path);
        dc_hint(j->e, "Name one with --taesd FILE --taesd-preview-only, or take --preview proj or vae.");
        return s;
    }
    const int found = dc_vae_configuration(m->tiny)->latent_channels;
    if (found != v->latent_channels)
        return dc_fail(j->e, DC_DATA, "%s: preview: found a decoder of %d latent channels, expected %d", dc_weights_path(m->tiny_weights), found,
                       v->latent_channels);
    j->preview.own = (decoder){.vae = m->tiny, .weights = m->tiny_weights, .what = "preview decoder"};
    j->preview.with = &j->preview.own;
    return DC_OK;
}

/* Pixels by latent, of a side. */
static int factor(const job *j) { return j->preview.with ? dc_vae_configuration(j->preview.with->vae)->factor : 1; }

static const char *const kinds[] = {[PREVIEW_NONE] = "none", [PREVIEW_PROJ] = "proj", [PREVIEW_TAE] = "tae", [PREVIEW_VAE] = "vae"};
enum { KINDS = sizeof kinds / sizeof *kinds };

const char *const *diffc_preview_names(int *n)
{
    *n = KINDS;
    return kinds;
}

dc_status preview_begin(job *j)
{
    previews *p = &j->preview;
    int kind = 0;
    while (j->q->preview && kind < KINDS && strcmp(j->q->preview, kinds[kind]) != 0) kind++;
    if (kind == KINDS) return unknown_name("preview", j->q->preview, kinds, KINDS, j->e);
    if (!j->q->on_preview) return DC_OK;
    dc_status s = kind == PREVIEW_PROJ ? find_factors(j->m, j->e) : kind == PREVIEW_TAE ? find_tiny(j) : DC_OK;
    if (s || kind == PREVIEW_NONE) return s;
    if (kind == PREVIEW_VAE) p->with = &j->decode;
    const size_t latents = (size_t)j->batch * (size_t)j->h * (size_t)j->w * (size_t)j->latent_channels, f = (size_t)factor(j);
    p->interval = j->q->preview_interval;
    p->began = dc_seconds();
    p->x0 = dc_calloc(latents, sizeof *p->x0);
    p->pixels = dc_calloc(f * (size_t)j->h * f * (size_t)j->w, 3);
    if (!p->x0 || !p->pixels) return dc_fail_memory(j->e, "previews", latents * sizeof *p->x0);
    p->kind = kind;
    return DC_OK;
}

dc_status preview_plan(job *j) { return j->preview.with && j->preview.with != &j->decode ? decoder_plan(j, j->preview.with) : DC_OK; }

int preview_passes(const job *j) { return j->plan.adaptive ? 0 : (j->plan.steps - 1) / (j->preview.interval ? j->preview.interval : 1) * j->count; }

dc_status preview_prepare(job *j)
{
    const decoder *d = j->preview.with;
    return d ? job_prepare(j, dc_vae_params(d->vae), d->weights, d->what) : DC_OK;
}

static dc_status make(job *j, const float *x0)
{
    previews *p = &j->preview;
    if (p->with) return decoder_run(j, p->with, x0, p->pixels, &(dc_stats){0}); /* what is not finite early may be so later */
    project(j->m->factors, x0, j->h * j->w, j->latent_channels, p->pixels);
    return DC_OK;
}

/* As time allows: the first, then such as leave previews a twelfth of the run's time. */
static bool is_due(const previews *p, int nth)
{
    if (p->interval) return nth % p->interval == 0;
    return !p->last || 12 * (p->spent + p->last) <= dc_seconds() - p->began;
}

dc_status preview_step(job *j, int first, int n, int nth, int step)
{
    previews *p = &j->preview;
    if (p->kind == PREVIEW_NONE || !is_due(p, nth) || step >= job_steps(j)) return DC_OK;
    const size_t one = (size_t)j->h * (size_t)j->w * (size_t)j->latent_channels;
    const diffc_image image = {factor(j) * j->w, factor(j) * j->h, 3, p->pixels};
    dc_status s = DC_OK;
    const double start = dc_seconds();
    trace_part(j, "preview", nth);
    for (int i = 0; !s && i < n; i++) {
        const double began = dc_seconds();
        s = make(j, p->x0 + (size_t)i * one);
        if (s) return s;
        const diffc_preview x = {
            .index = first + i, .count = j->count, .step = step, .steps = job_steps(j), .image = &image, .seconds = dc_seconds() - began};
        if (j->q->on_preview(j->q->user, &x)) atomic_store(&j->m->cancel, 1);
        s = job_cancelled(j);
    }
    p->last = dc_seconds() - start; /* with what was done with them */
    p->spent += p->last;
    return s;
}

void preview_rest(job *j, bool last)
{
    const decoder *d = j->preview.with;
    if (!d || d == &j->decode) return;
    dc_run_release(d->run);
    if (last) job_drop(j, dc_vae_params(d->vae));
}

void preview_end(job *j)
{
    decoder_free(&j->preview.own);
    free(j->preview.x0);
    free(j->preview.pixels);
}
