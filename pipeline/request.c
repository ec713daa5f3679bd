/* request.c - a request becomes a job: defaults filled in, every value checked, pictures brought to size. */
#include "base/checked.h"
#include "base/file.h"
#include "image/image.h"
#include "pipeline/model.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SIDE   4096
#define MAX_PROMPT (64 * 1024)

void diffc_request_defaults(const diffc_model *m, diffc_request *q)
{
    *q = (diffc_request){.steps = m->default_steps,
                         .guidance = m->default_guidance,
                         .eta = -1,
                         .rng = "cpu",
                         .count = 1,
                         .batch = 1,
                         .strength = 0.75,
                         .sampler = m->default_sampler[0] ? m->default_sampler : NULL};
}

static dc_status check_range(const char *what, double v, double low, double high, dc_error *e)
{
    if (v >= low && v <= high) return DC_OK; /* false for NaN too */
    return dc_fail(e, DC_USAGE, "%s: found %.10g, expected %.10g to %.10g", what, v, low, high);
}

dc_status check_text(const char *what, const char *text, dc_error *e)
{
    size_t n = text ? strlen(text) : 0;
    if (n > MAX_PROMPT) return dc_fail(e, DC_USAGE, "%s: found %zu bytes, expected at most %d", what, n, MAX_PROMPT);
    if (n && !dc_utf8_valid(text, n)) return dc_fail(e, DC_USAGE, "%s: found bytes that are not UTF-8, expected UTF-8 text", what);
    return DC_OK;
}

/* Width and height: asked for, else the start image's, else the model's. */
static dc_status resolve_size(job *j, dc_error *e)
{
    const diffc_request *q = j->q;
    const dc_unet_config *u = dc_unet_configuration(j->m->unet);
    int factor = dc_vae_configuration(j->m->vae)->factor;
    bool given = q->width || q->height;
    int own = u->sample_size * factor;
    j->width = q->width ? q->width : q->image ? q->image->width : own;
    j->height = q->height ? q->height : q->image ? q->image->height : own;
    const struct {
        const char *name;
        int value;
    } side[] = {{"width", j->width}, {"height", j->height}};
    for (int i = 0; i < 2; i++) {
        int v = side[i].value;
        int down = v / factor * factor < factor ? factor : v / factor * factor;
        dc_status s = DC_OK;
        if (v < 8 || v > MAX_SIDE) s = dc_fail(e, DC_USAGE, "%s: found %d, expected 8 to %d", side[i].name, v, MAX_SIDE);
        else if (v % factor)
            s = dc_fail(e, DC_USAGE, "%s: found %d, expected a multiple of %d (%d or %d)", side[i].name, v, factor, down, down + factor);
        if (s && q->image && !given) dc_hint(e, "That is the start image's size; give the size wanted with -W and -H.");
        if (s) return s;
    }
    j->w = j->width / factor;
    j->h = j->height / factor;
    return DC_OK;
}

dc_status unknown_name(const char *what, const char *found, const char *const *names, int n, dc_error *e)
{
    char near[256];
    dc_nearest_names(near, sizeof near, found, names, n);
    dc_status s =
        dc_fail(e, DC_USAGE, "%s: found %s, expected a known name%s%s%s", what, found, *near ? " (did you mean " : "", near, *near ? "?)" : "");
    dc_text all = {0};
    for (int i = 0; i < n; i++) dc_text_printf(&all, "%s%s", i ? ", " : "", names[i]);
    if (!all.failed && all.at) dc_hint(e, "Known: %s.", all.at);
    dc_text_free(&all);
    return s;
}

dc_status resolve_sampler(const char *sampler, const char *schedule, dc_sampler_request *out, dc_error *e)
{
    const char *carried = NULL;
    int n;
    if (sampler) {
        out->sampler = dc_sampler_find(sampler, &carried);
        if (!out->sampler) {
            const char *const *names = dc_sampler_names(&n);
            return unknown_name("sampler", sampler, names, n, e);
        }
    }
    out->schedule = carried;
    if (schedule) {
        out->schedule = dc_schedule_find(schedule);
        if (!out->schedule) {
            const char *const *names = dc_schedule_names(&n);
            return unknown_name("scheduler", schedule, names, n, e);
        }
    }
    return DC_OK;
}

dc_status resolve_rows(const diffc_request *q, dc_program program, dc_sampler_request *out, dc_error *e)
{
    *out = (dc_sampler_request){.program = program,
                                .steps = q->steps,
                                .strength = 1,
                                .eta = q->eta,
                                .sigmas = q->sigmas,
                                .n_sigmas = q->n_sigmas,
                                .s_churn = q->s_churn,
                                .s_tmin = q->s_tmin,
                                .s_tmax = q->s_tmax,
                                .s_noise = q->s_noise,
                                .sigma_min = q->sigma_min,
                                .sigma_max = q->sigma_max,
                                .rho = q->rho,
                                .order = q->solver_order,
                                .solver = q->solver_type};
    dc_status s = check_range("s-churn", q->s_churn, 0, 1000, e);
    if (!s) s = check_range("s-tmin", q->s_tmin, 0, 1e6, e);
    if (!s) s = check_range("s-tmax", q->s_tmax, 0, 1e6, e);
    if (!s) s = check_range("s-noise", q->s_noise, 0, 10, e);
    if (!s) s = check_range("sigma-min", q->sigma_min, 0, 1e6, e);
    if (!s) s = check_range("sigma-max", q->sigma_max, 0, 1e6, e);
    if (!s) s = check_range("rho", q->rho, 0, 100, e);
    return s ? s : resolve_sampler(q->sampler, q->schedule, out, e);
}

static dc_status build_rows(job *j, dc_error *e)
{
    dc_sampler_request r;
    dc_status s = resolve_rows(j->q, j->noise.convention->program, &r, e);
    r.strength = j->strength;
    r.sdxl = dc_unet_configuration(j->m->unet)->text_time;
    /* An inpaint model at full strength starts from pure noise, as diffusers' inpaint pipeline does. */
    r.image_start = j->q->image && !(j->masked && j->strength >= 1.0);
    return s ? s : dc_plan_build(&j->plan, &j->m->noise, &r, e);
}

/* ---- start image and mask ------------------------------------------------------------------------------ */

/* in (any size, `channels` wanted) -> out, width x height. */
static dc_status fit_picture(const job *j, dc_image *out, const diffc_image *in, int channels, dc_error *e)
{
    dc_image view = {in->width, in->height, in->channels, in->pixels};
    if (in->channels != channels || in->width < 1 || in->height < 1 || !in->pixels)
        return dc_fail(e, DC_USAGE, "start image or mask: found %dx%d with %d channels, expected %d channels", in->width, in->height, in->channels,
                       channels);
    return dc_image_resize(out, &view, j->width, j->height, DC_FILTER_LANCZOS, e);
}

static dc_status fit_start_image(job *j, dc_error *e)
{
    dc_image fitted = {0};
    size_t n = (size_t)j->width * (size_t)j->height * 3;
    dc_status s = fit_picture(j, &fitted, j->q->image, 3, e);
    if (!s && !(j->picture = dc_calloc(n, sizeof(float)))) s = dc_fail_memory(e, "the start image", n * sizeof(float));
    for (size_t i = 0; !s && i < n; i++) j->picture[i] = 2.0f * ((float)fitted.pixels[i] / 255.0f) - 1.0f; /* as VaeImageProcessor */
    dc_image_free(&fitted);
    return s;
}

/* Ref: diffusers StableDiffusionInpaintPipeline.prepare_mask_latents: white (>= 0.5) is repainted and black in the masked
 * picture; the mask goes to the latent grid by nearest. */
static dc_status fit_mask(job *j, dc_error *e)
{
    dc_image fitted = {0};
    size_t pixels = (size_t)j->width * (size_t)j->height;
    dc_status s = fit_picture(j, &fitted, j->q->mask, 1, e);
    if (!s) {
        j->mask = dc_calloc((size_t)j->w * (size_t)j->h, sizeof(float));
        j->masked = dc_calloc(pixels * 3, sizeof(float));
        if (!j->mask || !j->masked) s = dc_fail_memory(e, "the mask", pixels * 3 * sizeof(float));
    }
    for (size_t p = 0; !s && p < pixels; p++)
        for (size_t c = 0; c < 3; c++) j->masked[3 * p + c] = (float)fitted.pixels[p] / 255.0f < 0.5f ? j->picture[3 * p + c] : 0.0f;
    for (int y = 0; !s && y < j->h; y++)
        for (int x = 0; x < j->w; x++) {
            size_t at = (size_t)(y * j->height / j->h) * (size_t)j->width + (size_t)(x * j->width / j->w);
            j->mask[y * j->w + x] = (float)fitted.pixels[at] / 255.0f < 0.5f ? 0.0f : 1.0f;
        }
    dc_image_free(&fitted);
    return s;
}

static dc_status resolve_images(job *j, dc_error *e)
{
    const diffc_request *q = j->q;
    const dc_unet_config *u = dc_unet_configuration(j->m->unet);
    int extra = u->in_channels - u->out_channels;
    bool inpaint = extra == j->latent_channels + 1;
    dc_status s = DC_OK;
    if (extra && !inpaint) {
        s = dc_fail(e, DC_DATA, "%s: UNet with %d input channels: expected one for txt2img or inpainting", j->m->path, u->in_channels);
        dc_hint(e, "This looks like an InstructPix2Pix model, which diffc does not run yet.");
    } else if (q->mask && !q->image) {
        s = dc_fail(e, DC_USAGE, "mask: found one without a start image, expected both");
    } else if (inpaint && !(q->image && q->mask)) {
        s = dc_fail(e, DC_USAGE, "%s: an inpaint model: found no %s, expected a start image (-i) and a mask (--mask)", j->m->path,
                    q->image ? "mask" : "start image");
    } else if (q->mask && !inpaint) {
        s = dc_fail(e, DC_USAGE, "mask: %s has %d input channels, expected an inpaint model with %d", j->m->path, u->in_channels,
                    u->out_channels + j->latent_channels + 1);
    }
    if (!s && q->image && !dc_vae_encoder_params(j->m->vae))
        s = dc_fail(e, DC_DATA, "%s: VAE without an encoder: found only the decoding half, expected both for a start image",
                    dc_weights_path(j->m->vae_weights));
    if (!s && q->image) s = fit_start_image(j, e);
    if (!s && q->mask) s = fit_mask(j, e);
    j->encodes = q->image != NULL;
    return s;
}

/* ---- the whole ------------------------------------------------------------------------------------------ */

static dc_status check_values(job *j, dc_error *e)
{
    const diffc_request *q = j->q;
    dc_status s = check_text("prompt", q->prompt, e);
    if (!s) s = check_text("negative prompt", q->negative, e);
    if (!s) s = check_range("steps", q->steps, 1, 1000, e);
    if (!s) s = check_range("cfg-scale", q->guidance, 0, 1000, e);
    if (!s) s = check_range("guidance-rescale", q->guidance_rescale, 0, 1, e);
    if (!s) s = check_range("count", q->count, 1, 1000000, e);
    if (!s) s = check_range("batch-size", q->batch, 1, 64, e);
    if (!s) s = check_range("clip-skip", q->clip_skip, 0, 64, e);
    if (!s) s = check_range("preview-interval", q->preview_interval, 0, 1000, e);
    if (!s && q->image) s = check_range("strength", q->strength, 1e-6, 1, e);
    if (!s && isnan(q->eta)) s = check_range("eta", q->eta, 0, 1, e);
    if (!s && q->eta >= 0) s = check_range("eta", q->eta, 0, 10, e);
    for (int i = 0; !s && i < j->m->n_text && q->clip_skip > 0; i++) {
        int layers = dc_clip_text_configuration(j->m->text[i].model)->layers;
        s = check_range("clip-skip", q->clip_skip, 1, layers, e);
    }
    return s;
}

dc_status resolve_noise(const diffc_request *q, int factor, dc_noise_wish *out, dc_error *e)
{
    int n, w = q->seed_resize_width, h = q->seed_resize_height;
    const char *const *names = dc_convention_names(&n), *name = q->rng ? q->rng : "cpu";
    *out = (dc_noise_wish){.convention = dc_convention_find(name),
                           .seed = q->seed,
                           .variation_seed = q->variation_seed,
                           .variation_strength = q->variation_strength,
                           .ensd = q->ensd};
    if (!out->convention) return unknown_name("rng", name, names, n, e);
    dc_status s = check_range("variation-strength", q->variation_strength, 0, 1, e);
    if (!s && w | h) s = check_range("seed-resize-from: width", w, factor, MAX_SIDE, e);
    if (!s && w | h) s = check_range("seed-resize-from: height", h, factor, MAX_SIDE, e);
    if (s) return s;
    out->from_w = w / factor;
    out->from_h = h / factor;
    const char *what = q->variation_strength != 0 ? "variation-strength" : w ? "seed-resize-from" : q->ensd ? "ensd" : NULL;
    if (!what || !out->convention->whole_batch) return DC_OK;
    s = dc_fail(e, DC_USAGE, "%s: found it with rng %s, expected an rng with a generator for each picture", what, out->convention->name);
    dc_hint(e, "Variations are A1111's: take --rng a1111 (or a1111-cpu, cpu, cuda).");
    return s;
}

dc_status job_begin(job *j, diffc_model *m, const diffc_request *q, dc_error *e)
{
    *j = (job){.m = m, .q = q, .e = e, .trace_step = -1, .decode = {.vae = m->vae, .weights = m->vae_weights, .what = "VAE decoder"}};
    dc_status s = check_values(j, e);
    if (s) return s;
    j->latent_channels = dc_vae_configuration(m->vae)->latent_channels;
    j->guidance = q->guidance;
    j->strength = q->image ? q->strength : 1.0;
    j->count = q->count;
    j->batch = q->batch < q->count ? q->batch : q->count;
    j->clip_skip = q->clip_skip;
    s = resolve_noise(q, dc_vae_configuration(m->vae)->factor, &j->noise, e);
    if (!s) s = resolve_size(j, e);
    if (!s) s = resolve_images(j, e);
    if (!s) s = build_rows(j, e);
    if (!s) s = prompt_begin(j);
    j->rescale = j->guided ? q->guidance_rescale : 0.0;
    if (j->plan.adaptive) j->batch = 1; /* each picture finds its own steps */
    return s ? s : preview_begin(j);
}

void job_end(job *j)
{
    for (int i = 0; i < MAX_TEXT; i++) dc_run_free(j->text_run[i]);
    dc_run_free(j->unet_run);
    dc_run_free(j->unet_text_run);
    free(j->unet_text);
    dc_run_free(j->encode_run);
    decoder_free(&j->decode);
    preview_end(j);
    conditioning_free(&j->cond);
    dc_plan_free(&j->plan);
    free(j->moments.mean);
    free(j->moments.logvar);
    free(j->masked_moments.mean);
    free(j->masked_moments.logvar);
    free(j->picture);
    free(j->masked);
    free(j->mask);
}
