/* open.c - a diffusers folder becomes an open model: parts found, configs read, weights mapped and bound.
 * Nothing is prepared here: that is a stage's business (job_prepare). */
#include "base/checked.h"
#include "base/file.h"
#include "pipeline/model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What model_index.json says about the whole. */
typedef struct model_index {
    json_t *root; /* NULL: no such file */
    char *path;
} model_index;

static void index_close(model_index *x)
{
    json_decref(x->root);
    free(x->path);
}

/* Pipelines whose parts we run; a name not in this list is refused by name. */
static bool known_pipeline(const char *class_name)
{
    static const char *const known[] = {"StableDiffusionPipeline",        "StableDiffusionImg2ImgPipeline",       "StableDiffusionInpaintPipeline",
                                        "StableDiffusionXLPipeline",      "StableDiffusionXLImg2ImgPipeline",     "StableDiffusionXLInpaintPipeline",
                                        "LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(class_name, known[i])) return true;
    return false;
}

static dc_status index_read(model_index *x, const char *folder, dc_error *e)
{
    x->path = dc_path_join(folder, "model_index.json");
    if (!x->path) return dc_fail_memory(e, "a path", strlen(folder));
    if (!dc_is_file(x->path)) return DC_OK; /* folders of parts without an index are accepted */
    dc_status s = dc_json_read(&x->root, x->path, DC_JSON_CONFIG_LIMIT, e);
    if (s) return s;
    dc_config c = {x->root, x->path, e};
    const char *class_name = dc_config_string(&c, "_class_name", "StableDiffusionPipeline");
    if (e->code) return e->code;
    if (known_pipeline(class_name)) return DC_OK;
    s = dc_fail(e, DC_DATA, "%s: _class_name: found %s, expected a Stable Diffusion 1.x, 2.x or XL pipeline", x->path, class_name);
    dc_hint(e, "diffc runs StableDiffusion, StableDiffusionXL and LatentConsistencyModel pipelines.");
    return s;
}

/* Does the index name this part as present (["library", "Class"], not [null, null])? Without an index: is there such a folder? */
static bool part_listed(const model_index *x, const char *folder, const char *part)
{
    if (x->root) {
        const json_t *entry = json_object_get(x->root, part);
        return json_is_array(entry) && json_is_string(json_array_get(entry, 1));
    }
    char *path = dc_path_join(folder, part);
    bool there = path && dc_is_folder(path);
    free(path);
    return there;
}

/* FOLDER/PART as a new string, checked to be a folder. */
static dc_status part_folder(char **out, const char *folder, const char *part, const char *hint, dc_error *e)
{
    *out = dc_path_join(folder, part);
    if (!*out) return dc_fail_memory(e, "a path", strlen(folder));
    if (dc_is_folder(*out)) return DC_OK;
    dc_status s = dc_fail(e, DC_NO_INPUT, "%s: part missing: found no folder %s, expected one of a diffusers model", folder, part);
    if (hint) dc_hint(e, "%s", hint);
    return s;
}

/* FOLDER/config.json. */
static dc_status read_config(json_t **root, char **path, const char *folder, dc_error *e)
{
    *root = NULL;
    *path = dc_path_join(folder, "config.json");
    return *path ? dc_json_read(root, *path, DC_JSON_CONFIG_LIMIT, e) : dc_fail_memory(e, "a path", strlen(folder));
}

static uint64_t stored_bytes(const dc_weights *w)
{
    uint64_t sum = 0;
    for (int i = 0; i < dc_weights_count(w); i++) sum += dc_weights_at(w, i)->bytes;
    return sum;
}

/* ---- the parts --------------------------------------------------------------------------------------- */

/* The tokenizer of text encoder i, or CLIP's own vocabulary when the folder has none of that size. */
static dc_status open_tokenizer(diffc_model *m, text_encoder *t, int i, dc_error *e)
{
    char *folder = dc_path_join(m->folder, i ? "tokenizer_2" : "tokenizer");
    if (!folder) return dc_fail_memory(e, "a path", strlen(m->folder));
    dc_status s;
    if (dc_is_folder(folder)) {
        s = dc_tokenizer_open(&t->tokenizer, folder, e);
    } else {
        char *merges = NULL;
        s = asset_path(&merges, "clip_merges.txt.gz", e);
        if (!s) s = dc_tokenizer_open_merges(&t->tokenizer, merges, dc_clip_text_configuration(t->model)->vocab_size, e);
        if (!s) dc_log_write(&m->log, DC_LOG_NOTE, "%s: no folder of that name, taking CLIP's own vocabulary", folder);
        free(merges);
    }
    if (!s) {
        const dc_clip_text_config *c = dc_clip_text_configuration(t->model);
        int n = dc_tokenizer_vocab_size(t->tokenizer);
        if (n > c->vocab_size)
            s = dc_fail(e, DC_DATA, "%s: vocabulary: found %d tokens, expected at most the %d of %s", folder, n, c->vocab_size, t->name);
        t->length = dc_tokenizer_max_length(t->tokenizer);
        if (t->length > c->positions) t->length = c->positions;
    }
    free(folder);
    return s;
}

static dc_status open_text(diffc_model *m, int i, dc_error *e)
{
    text_encoder *t = &m->text[i];
    t->name = i ? "text_encoder_2" : "text_encoder";
    char *folder = NULL, *path = NULL;
    json_t *root = NULL;
    dc_clip_text_config c;
    dc_status s = part_folder(&folder, m->folder, t->name, NULL, e);
    if (!s) s = read_config(&root, &path, folder, e);
    if (!s) s = dc_clip_text_config_read(&c, root, path, e);
    if (!s) s = dc_weights_open_folder(&t->weights, folder, "model", e);
    if (!s) s = dc_clip_text_open(&t->model, &c, t->weights, m->device, &m->log, e);
    if (!s) s = open_tokenizer(m, t, i, e);
    if (!s) m->mapped += stored_bytes(t->weights);
    json_decref(root);
    free(folder);
    free(path);
    return s;
}

static dc_status open_unet(diffc_model *m, dc_error *e)
{
    char *folder = NULL, *path = NULL;
    json_t *root = NULL;
    dc_unet_config c;
    dc_status s = part_folder(&folder, m->folder, "unet", NULL, e);
    if (!s) s = read_config(&root, &path, folder, e);
    if (!s) s = dc_unet_config_read(&c, root, path, e);
    if (!s) s = dc_weights_open_folder(&m->unet_weights, folder, "diffusion_pytorch_model", e);
    if (!s) s = dc_unet_open(&m->unet, &c, m->unet_weights, m->device, &m->log, e);
    if (!s) m->mapped += stored_bytes(m->unet_weights);
    json_decref(root);
    free(folder);
    free(path);
    return s;
}

/* Names of an AutoencoderTiny: diffusers', or the original's. */
static bool tiny_names(const dc_weights *w)
{
    return dc_weights_find(w, "decoder.layers.0.weight") || dc_weights_find(w, "encoder.layers.0.weight") || dc_weights_find(w, "1.weight") ||
           dc_weights_find(w, "0.weight");
}

/* The config that goes with a VAE given as a file: config.json beside it, else the published TAESD's or the model's own VAE's. */
static dc_status vae_file_config(json_t **root, char **path, const char *file, bool tiny, const char *model_folder, dc_error *e)
{
    char *folder = dc_strdup(file);
    if (!folder) return dc_fail_memory(e, "a path", strlen(file));
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = 0;
    char *beside = slash ? dc_path_join(folder, "config.json") : dc_strdup("config.json");
    char *own = dc_path_join(model_folder, "vae");
    dc_status s;
    if (beside && dc_is_file(beside)) {
        *path = dc_strdup(beside);
        s = *path ? dc_json_read(root, *path, DC_JSON_CONFIG_LIMIT, e) : dc_fail_memory(e, "a path", strlen(beside));
    } else if (tiny) {
        static const char taesd[] = "{\"_class_name\": \"AutoencoderTiny\"}";
        *path = dc_strdup(file);
        s = *path ? dc_json_parse(root, file, taesd, sizeof taesd - 1, e) : dc_fail_memory(e, "a path", strlen(file));
    } else {
        s = own ? read_config(root, path, own, e) : dc_fail_memory(e, "a path", strlen(model_folder));
    }
    free(folder);
    free(beside);
    free(own);
    return s;
}

/* Files with only the decoding half are common (and enough for txt2img). */
static bool has_encoder(const dc_weights *w) { return dc_weights_find(w, "encoder.conv_in.weight") || dc_weights_find(w, "encoder.layers.0.weight"); }

/* replaced: --vae or --taesd, a component folder or a file; NULL: the model's own. */
static dc_status open_vae(diffc_model *m, const char *replaced, dc_error *e)
{
    char *folder = NULL, *path = NULL;
    json_t *root = NULL;
    dc_vae_config c;
    dc_status s = DC_OK;
    if (replaced && !dc_is_folder(replaced)) {
        s = dc_weights_open(&m->vae_weights, replaced, e);
        if (!s) s = vae_file_config(&root, &path, replaced, tiny_names(m->vae_weights), m->folder, e);
    } else {
        if (replaced) folder = dc_strdup(replaced);
        else s = part_folder(&folder, m->folder, "vae", "Name another VAE with --vae FOLDER, or a TAESD with --taesd FOLDER.", e);
        if (!s && !folder) s = dc_fail_memory(e, "a path", 0);
        if (!s) s = read_config(&root, &path, folder, e);
        if (!s) s = dc_weights_open_folder(&m->vae_weights, folder, "diffusion_pytorch_model", e);
    }
    if (!s) s = dc_vae_config_read(&c, root, path, e);
    if (!s) s = dc_vae_open(&m->vae, &c, m->vae_weights, has_encoder(m->vae_weights), m->device, &m->log, e);
    if (!s) m->mapped += stored_bytes(m->vae_weights);
    json_decref(root);
    free(folder);
    free(path);
    return s;
}

static dc_status open_scheduler(diffc_model *m, dc_error *e)
{
    dc_noise_config_default(&m->noise);
    char *path = dc_format("%s/scheduler/scheduler_config.json", m->folder);
    if (!path) return dc_fail_memory(e, "a path", strlen(m->folder));
    dc_status s = DC_OK;
    if (dc_is_file(path)) {
        json_t *root = NULL;
        s = dc_json_read(&root, path, DC_JSON_CONFIG_LIMIT, e);
        if (!s) s = dc_noise_config_read(&m->noise, root, path, e);
        json_decref(root);
    } else {
        dc_log_write(&m->log, DC_LOG_NOTE, "%s: not there, taking Stable Diffusion's noise schedule (epsilon)", path);
    }
    free(path);
    if (!s && *m->noise.class_name && !dc_sampler_of_class(m->noise.class_name))
        dc_log_write(&m->log, DC_LOG_WARNING, "%s: scheduler class %s is not known here, the default sampler is euler", m->folder,
                     m->noise.class_name);
    return s;
}

/* ---- the whole ---------------------------------------------------------------------------------------- */

/* Do the parts fit each other? Each answer names both. */
static dc_status check_fit(const diffc_model *m, dc_error *e)
{
    const dc_unet_config *u = dc_unet_configuration(m->unet);
    const dc_vae_config *v = dc_vae_configuration(m->vae);
    int width = 0;
    for (int i = 0; i < m->n_text; i++) width += dc_clip_text_configuration(m->text[i].model)->width;
    if (width != u->context)
        return dc_fail(e, DC_DATA, "%s: text and UNet do not fit: found text %d wide, expected cross_attention_dim %d", m->folder, width, u->context);
    if (v->latent_channels != u->out_channels)
        return dc_fail(e, DC_DATA, "%s: VAE and UNet do not fit: found %d latent channels, expected %d", m->folder, v->latent_channels,
                       u->out_channels);
    if (u->text_time) {
        const dc_clip_text_config *last = dc_clip_text_configuration(m->text[m->n_text - 1].model);
        int pooled = last->projection ? last->projection : last->width;
        if (pooled + 6 * u->add_time_dim != u->add_input)
            return dc_fail(e, DC_DATA, "%s: text_encoder_2 and UNet do not fit: found %d pooled + 6 x %d sizes, expected %d", m->folder, pooled,
                           u->add_time_dim, u->add_input);
    }
    int extra = u->in_channels - u->out_channels;
    if (extra != 0 && extra != v->latent_channels + 1 && extra != v->latent_channels)
        return dc_fail(e, DC_DATA, "%s: UNet with %d input channels: expected %d, or %d for inpainting", m->folder, u->in_channels, u->out_channels,
                       u->out_channels + v->latent_channels + 1);
    return DC_OK;
}

/* Ref: StableDiffusionPipeline.__init__ (not its XL kin): a scheduler file from before steps_offset is read as if it said 1. */
static void amend_old_scheduler(diffc_model *m)
{
    if (!dc_unet_configuration(m->unet)->text_time) m->noise.steps_offset = 1;
}

/* Steps, guidance and sampler that suit the model: "diffc_defaults" in its model_index.json, else by its kind. */
static void read_defaults(diffc_model *m, const model_index *x, dc_error *e)
{
    const dc_unet_config *u = dc_unet_configuration(m->unet);
    bool lcm = u->time_cond > 0 || !strcmp(m->noise.class_name, "LCMScheduler");
    const json_t *own = x->root ? json_object_get(x->root, "diffc_defaults") : NULL;
    dc_config c = {own, x->path, e}, index = {x->root, x->path, e};
    m->default_steps = lcm ? 4 : 20;
    m->default_guidance = lcm ? 8.0 : u->text_time ? 5.0 : 7.5;
    if (x->root) m->zero_empty_negative = dc_config_bool(&index, "force_zeros_for_empty_prompt", u->text_time);
    else m->zero_empty_negative = u->text_time;
    if (json_is_object(own)) {
        m->default_steps = (int)dc_config_int(&c, "steps", m->default_steps, 1, 1000);
        m->default_guidance = dc_config_real(&c, "guidance_scale", m->default_guidance, 0, 1000);
        const char *sampler = dc_config_string(&c, "sampler", "");
        const char *name = *sampler ? dc_sampler_find(sampler, &(const char *){NULL}) : "";
        if (name) snprintf(m->default_sampler, sizeof m->default_sampler, "%s", name);
        else dc_fail(e, DC_DATA, "%s: diffc_defaults: found the unknown sampler %s", x->path, sampler);
    }
}

static void describe(diffc_model *m)
{
    const dc_unet_config *u = dc_unet_configuration(m->unet);
    static const char *const prediction[] = {"epsilon", "v", "sample"};
    const char *kind = u->text_time ? "Stable Diffusion XL" : u->linear_projection ? "Stable Diffusion 2.x shape" : "Stable Diffusion 1.x shape";
    int size = u->sample_size * dc_vae_configuration(m->vae)->factor;
    snprintf(m->summary, sizeof m->summary, "%s: %s, %s prediction, %dx%d%s, %.0f M parameters", m->name, kind, prediction[m->noise.prediction], size,
             size, u->in_channels > u->out_channels ? ", inpaint" : "", (double)dc_params_count(dc_unet_params(m->unet)) * 1e-6);
}

static void forward_log(void *user, dc_log_level level, const char *line)
{
    diffc_model *m = user;
    if (m->log_fn) m->log_fn(m->log_user, (diffc_log_level)level, line);
}

static dc_status open_device(diffc_model *m, const diffc_options *o, dc_error *e)
{
    dc_device_options d = {.name = o->device ? o->device : "auto",
                           .threads = o->threads,
                           .cpu_level = o->cpu_level,
                           .precision = o->precision,
                           .exact = o->exact,
                           .cancel = &m->cancel,
                           .log = &m->log};
    return dc_device_open(&m->device, &d, e);
}

/* Last part of the path, resolved so that "." has a name too. */
static char *base_name(const char *folder)
{
    char *full = realpath(folder, NULL);
    const char *slash = full ? strrchr(full, '/') : NULL;
    char *name = dc_strdup(slash && slash[1] ? slash + 1 : folder);
    free(full);
    return name;
}

/* The model's folder: what -m names, or the default among the assets; refuses what is not a folder by saying what it is. */
static dc_status find_folder(diffc_model *m, const char *model, dc_error *e)
{
    if (!model) return asset_path(&m->folder, "default", e);
    m->folder = dc_strdup(model);
    if (!m->folder) return dc_fail_memory(e, "a path", strlen(model));
    size_t n = strlen(m->folder);
    while (n > 1 && m->folder[n - 1] == '/') m->folder[--n] = 0;
    if (dc_is_folder(m->folder)) return DC_OK;
    dc_status s;
    if (dc_is_file(m->folder)) {
        s = dc_fail(e, DC_DATA, "%s: found a single file, expected a diffusers folder (model_index.json, unet/, vae/, text_encoder/)", model);
        dc_hint(e, "`diffc inspect %s` tells what it holds.", model);
    } else {
        s = dc_fail(e, DC_NO_INPUT, "%s: not found, expected a model folder", model);
    }
    return s;
}

dc_status model_open(diffc_model **out, const diffc_options *o, dc_error *e)
{
    *out = NULL;
    diffc_model *m = dc_calloc(1, sizeof *m);
    if (!m) return dc_fail_memory(e, "a model", sizeof *m);
    m->log = (dc_log){forward_log, m};
    m->log_fn = o->log;
    m->log_user = o->log_user;
    m->resident = o->resident;
    m->max_memory = o->max_memory;

    model_index x = {0};
    dc_status s = find_folder(m, o->model, e);
    if (!s) s = (m->name = base_name(m->folder)) ? DC_OK : dc_fail_memory(e, "a name", 0);
    if (!s) s = open_device(m, o, e);
    if (!s) s = index_read(&x, m->folder, e);
    if (!s) s = open_scheduler(m, e);
    if (!s) s = open_text(m, m->n_text++, e);
    if (!s && part_listed(&x, m->folder, "text_encoder_2")) s = open_text(m, m->n_text++, e);
    if (!s) s = open_unet(m, e);
    if (!s) s = open_vae(m, o->taesd ? o->taesd : o->vae, e);
    if (!s) s = check_fit(m, e);
    if (!s) {
        amend_old_scheduler(m);
        read_defaults(m, &x, e);
        s = e->code;
    }
    index_close(&x);
    if (s) {
        model_close(m);
        return s;
    }
    describe(m);
    *out = m;
    return DC_OK;
}

void model_close(diffc_model *m)
{
    if (!m) return;
    for (int i = 0; i < m->n_text; i++) {
        dc_clip_text_close(m->text[i].model);
        dc_tokenizer_close(m->text[i].tokenizer);
        dc_weights_close(m->text[i].weights);
    }
    dc_unet_close(m->unet);
    dc_vae_close(m->vae);
    dc_weights_close(m->unet_weights);
    dc_weights_close(m->vae_weights);
    dc_noise_config_free(&m->noise);
    dc_device_close(m->device);
    dc_text_free(&m->profile);
    free(m->folder);
    free(m->name);
    free(m);
}
