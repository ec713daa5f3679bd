/* api.c - the public functions that are thin: opening, cancelling, files, names, text. */
#include "base/file.h"
#include "base/npy.h"
#include "base/text.h"
#include "image/image.h"
#include "pipeline/infotext.h"
#include "pipeline/model.h"
#include "weights/inspect.h"
#include <stdlib.h>
#include <string.h>

#ifndef DIFFC_VERSION
#define DIFFC_VERSION "0.1.0"
#endif

_Static_assert((int)DIFFC_USAGE == (int)DC_USAGE && (int)DIFFC_DATA == (int)DC_DATA && (int)DIFFC_NO_INPUT == (int)DC_NO_INPUT &&
                   (int)DIFFC_UNAVAILABLE == (int)DC_UNAVAILABLE && (int)DIFFC_INTERNAL == (int)DC_INTERNAL &&
                   (int)DIFFC_NO_MEMORY == (int)DC_NO_MEMORY && (int)DIFFC_NO_CREATE == (int)DC_NO_CREATE && (int)DIFFC_IO == (int)DC_IO &&
                   (int)DIFFC_DENIED == (int)DC_DENIED && (int)DIFFC_CANCELLED == (int)DC_CANCELLED,
               "public and inner codes are one numbering");

diffc_status give_error(diffc_error *to, const dc_error *from)
{
    if (to) {
        to->code = (diffc_status)from->code;
        memcpy(to->text, from->text, sizeof to->text);
        memcpy(to->hint, from->hint, sizeof to->hint);
    }
    return (diffc_status)from->code;
}

const char *diffc_version(void) { return DIFFC_VERSION; }

const char *diffc_build_info(void)
{
    return "compiler " __VERSION__ ", devices cpu ref, cuda as a module, CPU levels portable"
#if defined(__x86_64__)
           " avx2 avx512"
#endif
        ;
}

diffc_status diffc_open(diffc_model **out, const diffc_options *o, diffc_error *error)
{
    static const diffc_options none;
    dc_error e = {0};
    model_open(out, o ? o : &none, &e);
    return give_error(error, &e);
}

void diffc_close(diffc_model *m) { model_close(m); }
void diffc_cancel(diffc_model *m) { atomic_store(&m->cancel, 1); }
const char *diffc_model_summary(const diffc_model *m) { return m->summary; }
const char *diffc_device_summary(const diffc_model *m) { return dc_device_summary(m->device); }
char *diffc_profile_text(const diffc_model *m) { return dc_strdup(m->profile.at ? m->profile.at : ""); }
void diffc_free(void *p) { free(p); }

const char *const *diffc_sampler_names(int *n) { return dc_sampler_names(n); }
const char *const *diffc_schedule_names(int *n) { return dc_schedule_names(n); }

void diffc_nearest_names(char *out, size_t size, const char *word, const char *const *names, int n) { dc_nearest_names(out, size, word, names, n); }

const char *diffc_escape(char *out, size_t size, const char *s) { return dc_escape(out, size, s); }

/* ---- pictures and files ------------------------------------------------------------------------------------ */

diffc_status diffc_image_read(diffc_image *out, const char *path, bool gray, diffc_error *error)
{
    dc_error e = {0};
    dc_image read = {0};
    dc_image_read(&read, path, gray ? 1 : 3, &e);
    *out = (diffc_image){read.width, read.height, read.channels, read.pixels};
    return give_error(error, &e);
}

void diffc_image_free(diffc_image *m)
{
    if (!m) return;
    free(m->pixels);
    *m = (diffc_image){0};
}

diffc_status diffc_image_write(const char *path, const diffc_image *m, const char *parameters, const diffc_image_style *style, bool exclusive,
                               bool *exists, diffc_error *error)
{
    dc_error e = {0};
    dc_image view = {m->width, m->height, m->channels, m->pixels};
    dc_image_style how = {dc_image_format_of(path), style && style->quality ? style->quality : 90, style && style->lossless,
                          style && style->fleeting};
    dc_image_write(path, &view, &how, parameters, exclusive, exists, &e);
    return give_error(error, &e);
}

diffc_status diffc_output_check(const char *path, diffc_error *error)
{
    dc_error e = {0};
    dc_out_check(path, &e);
    return give_error(error, &e);
}

void diffc_output_remove_pending(void) { dc_out_remove_pending(); }

diffc_status diffc_npy_write(const char *path, const float *data, int rank, const int64_t *dim, diffc_error *error)
{
    dc_error e = {0};
    dc_npy_write_f32(path, data, rank, dim, &e);
    return give_error(error, &e);
}

/* Is it a picture that we read? By its first bytes. */
static dc_status is_picture(bool *yes, const char *path, dc_error *e)
{
    dc_map m;
    *yes = false;
    if (dc_is_folder(path)) return DC_OK;
    dc_status s = dc_map_open(&m, path, e);
    *yes = !s && m.size && dc_image_kind(m.data, m.size < 12 ? m.size : 12) != DC_IMAGE_UNKNOWN;
    dc_map_close(&m);
    return s;
}

/* {"Prompt": .., "Steps": "20", ..}; a note stands in the place of a value that has none. */
static json_t *fields_of(const infotext *x)
{
    json_t *o = json_pack("{s:s?,s:s?}", "Prompt", x->prompt, "Negative prompt", x->negative);
    for (int i = 0; o && i < x->n; i++) {
        const info_field *f = &x->field[i];
        json_object_set_new(o, f->key, f->note && !*f->value ? json_sprintf("(%s)", f->note) : json_string(f->value));
    }
    return o;
}

static dc_status inspect_picture(json_t **out, const char *path, dc_error *e)
{
    dc_image m = {0};
    infotext x = {0};
    char *file = NULL, *text = NULL;
    size_t n;
    dc_error none = {0};
    dc_status s = dc_read_file(path, DC_IMAGE_FILE, &file, &n, e);
    if (!s) s = dc_image_read_memory(&m, path, (const uint8_t *)file, n, 0, e);
    dc_status t = s ? s : picture_recipe(&x, &text, path, file, n, &none);
    if (!s && t == DC_NO_MEMORY) s = dc_fail(e, t, "%s", none.text);
    if (!s) {
        json_t *fields = t ? NULL : fields_of(&x);
        *out = json_pack("{s:s,s:s,s:i,s:i,s:i,s:s*,s:s*,s:o*}", "path", path, "kind", "picture", "width", m.width, "height", m.height, "channels",
                         m.channels, "parameters", text, "source", t ? NULL : info_source_name(x.source), "fields", fields);
        if (!*out || (!t && !fields)) s = dc_fail_memory(e, path, 0);
    }
    infotext_free(&x);
    free(text);
    free(file);
    dc_image_free(&m);
    return s;
}

diffc_status diffc_inspect(const char *path, bool hashes, char **json, diffc_error *error)
{
    dc_error e = {0};
    json_t *root = NULL;
    *json = NULL;
    bool picture;
    dc_status s = is_picture(&picture, path, &e);
    if (!s) s = picture ? inspect_picture(&root, path, &e) : dc_inspect(&root, path, hashes, &e);
    if (!s) {
        *json = json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        if (!*json) dc_fail_memory(&e, "the description", 0);
    }
    json_decref(root);
    return give_error(error, &e);
}

/* ---- tokens, noise, schedules -------------------------------------------------------------------------------- */

dc_status find_tokenizer(dc_tokenizer **t, const char *folder, dc_error *e)
{
    char *path = NULL;
    dc_status s;
    if (!folder || dc_is_file(folder)) {
        s = asset_path(&path, "clip_merges.txt.gz", e);
        if (!s) s = dc_tokenizer_open_merges(t, path, 49408, e);
    } else {
        path = dc_path_join(folder, "tokenizer");
        s = path ? dc_tokenizer_open(t, dc_is_folder(path) ? path : folder, e) : dc_fail_memory(e, "a path", strlen(folder));
    }
    free(path);
    return s;
}

diffc_status diffc_tokenize(const char *folder, const char *text, int32_t **ids, int *n, int *cut, diffc_error *error)
{
    dc_error e = {0};
    dc_tokenizer *t = NULL;
    *ids = NULL;
    *n = *cut = 0;
    dc_status s = find_tokenizer(&t, folder, &e);
    if (!s) {
        int length = dc_tokenizer_max_length(t), inner = 0;
        *ids = calloc((size_t)length, sizeof **ids);
        s = *ids ? dc_tokenize_padded(t, text, length, *ids, cut, &e) : dc_fail_memory(&e, "ids", (size_t)length * 4);
        int32_t *plain = NULL; /* the padded form does not tell padding from end tokens, so its length comes from the plain one */
        if (!s) s = dc_tokenize(t, text, strlen(text), &plain, &inner, &e);
        free(plain);
        *n = inner + 2 < length ? inner + 2 : length;
    }
    if (s) {
        free(*ids);
        *ids = NULL;
    }
    dc_tokenizer_close(t);
    return give_error(error, &e);
}

const char *const *diffc_rng_names(int *n) { return dc_convention_names(n); }

uint64_t diffc_request_seed(const diffc_request *request, int index)
{
    dc_noise_wish q;
    int batch = request->batch < 1 ? 1 : request->batch < request->count ? request->batch : request->count;
    return resolve_noise(request, 1, &q, NULL) ? request->seed + (uint64_t)index : dc_wish_seed(&q, index, batch);
}

diffc_status diffc_noise(const char *rng, uint64_t seed, float *out, size_t n, diffc_error *error)
{
    dc_error e = {0};
    dc_noise_wish q;
    dc_rng g;
    if (!resolve_noise(&(diffc_request){.rng = rng}, 1, &q, &e)) {
        dc_rng_seed(&g, q.convention->start, seed);
        dc_rng_normal(&g, out, n);
    }
    return give_error(error, &e);
}

diffc_status diffc_start_noise(const diffc_request *request, int n, int channels, int h, int w, float *out, diffc_error *error)
{
    dc_error e = {0};
    dc_noise_wish q;
    dc_draws s;
    if (n < 1 || channels < 1 || h < 1 || w < 1 || (double)channels * h * w > 1 << 28)
        dc_fail(&e, DC_USAGE, "start noise: found %d pictures of [%d,%d,%d], expected at least 1 each, and at most 2^28 numbers a picture", n,
                channels, h, w);
    else if (!resolve_noise(request, 8, &q, &e) && !dc_draws_make(&s, &q, 0, n, channels, h, w, 0, 0, &e)) {
        dc_draws_start(&s, out);
        dc_draws_free(&s);
    }
    return give_error(error, &e);
}

/* What a model in one file tells of its schedule. */
static dc_status noise_of_file(json_t **root, const char *path, dc_error *e)
{
    dc_weights *w = NULL, *unet = NULL;
    json_t *config = NULL;
    dc_status s = dc_weights_open(&w, path, e);
    if (!s) s = dc_weights_part(&unet, w, DC_PART_UNET, e);
    if (!s && !unet) s = dc_fail(e, DC_DATA, "%s: found no UNet in it, expected one, to tell its schedule", path);
    if (!s) s = dc_part_config(&config, unet, DC_PART_UNET, NULL, e);
    if (!s) s = dc_scheduler_config(root, NULL, w, config, e);
    json_decref(config);
    dc_weights_close(unet);
    dc_weights_close(w);
    return s;
}

/* scheduler_config.json of a model folder, the file or scheduler folder itself, or what a single file tells. */
static dc_status read_noise_config(dc_noise_config *c, const char *model, dc_error *e)
{
    dc_noise_config_default(c);
    if (!model) return DC_OK;
    size_t n = strlen(model);
    json_t *root = NULL;
    dc_status s = DC_OK;
    char *path = NULL;
    if (dc_is_file(model)) {
        path = dc_strdup(model);
        if (!path) s = dc_fail_memory(e, "a path", n);
        else s = n > 5 && !strcmp(model + n - 5, ".json") ? dc_json_read(&root, path, DC_JSON_CONFIG_LIMIT, e) : noise_of_file(&root, path, e);
    } else {
        path = dc_path_join(model, "scheduler/scheduler_config.json");
        if (path && !dc_is_file(path)) {
            free(path);
            path = dc_path_join(model, "scheduler_config.json");
        }
        s = path ? dc_json_read(&root, path, DC_JSON_CONFIG_LIMIT, e) : dc_fail_memory(e, "a path", n);
    }
    if (!s) s = dc_noise_config_read(c, root, path, e);
    json_decref(root);
    free(path);
    return s;
}

diffc_status diffc_schedule_make(const char *model, const char *prediction, const diffc_request *request, diffc_schedule *out, diffc_error *error)
{
    dc_error e = {0};
    dc_noise_config c;
    dc_noise_wish noise;
    dc_plan p = {0};
    dc_sampler_request q;
    *out = (diffc_schedule){0};
    dc_status s = read_noise_config(&c, model, &e);
    if (!s) s = dc_prediction_set(&c, prediction, &e);
    if (!s && (request->steps < 1 || request->steps > 1000)) s = dc_fail(&e, DC_USAGE, "steps: found %d, expected 1 to 1000", request->steps);
    if (!s) s = resolve_noise(request, 1, &noise, &e);
    if (!s) s = resolve_rows(request, noise.convention->program, &q, &e);
    if (!s) s = dc_plan_build(&p, &c, &q, &e);
    if (!s) {
        *out = (diffc_schedule){p.timesteps, p.sigmas, p.n_timesteps, p.n_sigmas, p.adaptive ? 0 : p.steps, p.sampler, p.schedule};
        p.timesteps = p.sigmas = NULL; /* handed over */
    }
    dc_plan_free(&p);
    dc_noise_config_free(&c);
    return give_error(error, &e);
}
