/* open.c - a folder or file becomes an open model: parts found (parts.c), configs read, weights mapped and bound.
 * Nothing is prepared here: that is a stage's business (job_prepare). */
#include "base/checked.h"
#include "base/file.h"
#include "pipeline/model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void index_close(model_index *x)
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

dc_status index_read(model_index *x, const char *folder, dc_error *e)
{
    x->path = dc_path_join(folder, "model_index.json");
    if (!x->path) return dc_fail_memory(e, "a path", strlen(folder));
    if (!dc_is_file(x->path)) return DC_OK; /* folders of parts without an index are accepted */
    dc_status s = dc_json_read(&x->root, x->path, DC_JSON_CONFIG_LIMIT, e);
    if (s) return s;
    if (!json_is_object(x->root)) return dc_fail(e, DC_DATA, "%s: found no JSON object, expected the parts of a model", x->path);
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

static uint64_t stored_bytes(const dc_weights *w)
{
    uint64_t sum = 0;
    for (int i = 0; i < dc_weights_count(w); i++) sum += dc_weights_at(w, i)->bytes;
    return sum;
}

/* ---- the parts --------------------------------------------------------------------------------------- */

/* The tokenizer of text encoder i, or CLIP's own vocabulary when no folder has one. In single files, open_clip's towers (exact GELU) were
 * trained on texts padded with id 0. */
static dc_status open_tokenizer(diffc_model *m, text_encoder *t, int i, dc_error *e)
{
    const dc_clip_text_config *c = dc_clip_text_configuration(t->model);
    char *folder = m->folder ? dc_path_join(m->folder, i ? "tokenizer_2" : "tokenizer") : NULL, *merges = NULL;
    dc_status s;
    if (m->folder && !folder) return dc_fail_memory(e, "a path", strlen(m->folder));
    if (folder && dc_is_folder(folder)) {
        s = dc_tokenizer_open(&t->tokenizer, folder, e);
    } else {
        s = asset_path(&merges, "clip_merges.txt.gz", e);
        if (!s) s = dc_tokenizer_open_merges(&t->tokenizer, merges, c->vocab_size, e);
        if (!s && m->file && c->act == DC_ACT_GELU) dc_tokenizer_pad_with(t->tokenizer, 0);
        if (!s && folder) dc_log_write(&m->log, DC_LOG_NOTE, "%s: no folder of that name, taking CLIP's own vocabulary", folder);
    }
    if (!s) {
        int n = dc_tokenizer_vocab_size(t->tokenizer);
        if (n > c->vocab_size)
            s = dc_fail(e, DC_DATA, "%s: vocabulary: found %d tokens, expected at most the %d of %s", folder ? folder : merges, n, c->vocab_size,
                        t->name);
        t->length = dc_tokenizer_max_length(t->tokenizer);
        if (t->length > c->positions) t->length = c->positions;
    }
    free(folder);
    free(merges);
    return s;
}

/* Text encoder i (0 or 1), which may be another than the model's. */
static dc_status open_text(diffc_model *m, int i, const char *replaced, dc_error *e)
{
    static const dc_part parts[MAX_TEXT] = {DC_PART_TEXT, DC_PART_TEXT_2};
    text_encoder *t = &m->text[i];
    model_part x;
    dc_clip_text_config c;
    t->name = dc_part_folder(parts[i]);
    dc_status s = part_open(&x, m, parts[i], replaced, NULL, e);
    t->weights = x.weights;
    x.weights = NULL;
    if (!s) s = dc_clip_text_config_read(&c, x.config, x.config_path, e);
    if (!s) s = dc_clip_text_open(&t->model, &c, t->weights, m->device, &m->log, e);
    if (!s) s = open_tokenizer(m, t, i, e);
    if (!s) m->mapped += stored_bytes(t->weights);
    part_close(&x);
    return s;
}

/* *config: the UNet's, for what else is to be told by it. */
static dc_status open_unet(diffc_model *m, const char *replaced, json_t **config, dc_error *e)
{
    model_part x;
    dc_unet_config c;
    dc_status s = part_open(&x, m, DC_PART_UNET, replaced, NULL, e);
    m->unet_weights = x.weights;
    x.weights = NULL;
    if (!s) s = dc_unet_config_read(&c, x.config, x.config_path, e);
    if (!s) s = dc_unet_open(&m->unet, &c, m->unet_weights, m->device, &m->log, e);
    if (!s) m->mapped += stored_bytes(m->unet_weights);
    *config = json_incref(x.config);
    part_close(&x);
    return s;
}

/* Files with only the decoding half are common (and enough for txt2img). */
static bool has_encoder(const dc_weights *w) { return dc_weights_find(w, "encoder.conv_in.weight") || dc_weights_find(w, "encoder.layers.0.weight"); }

dc_status autoencoder_open(diffc_model *m, dc_vae **vae, dc_weights **weights, const char *replaced, bool encoder, const json_t *unet, dc_error *e)
{
    model_part x;
    dc_vae_config c;
    dc_status s = part_open(&x, m, DC_PART_VAE, replaced, unet, e);
    *weights = x.weights;
    x.weights = NULL;
    if (!s) s = dc_vae_config_read(&c, x.config, x.config_path, e);
    if (!s) s = dc_vae_open(vae, &c, *weights, encoder && has_encoder(*weights), m->device, &m->log, e);
    if (!s) m->mapped += stored_bytes(*weights);
    part_close(&x);
    return s;
}

dc_status scheduler_config(const diffc_model *m, json_t **root, char **path, const json_t *unet, bool *unsure, dc_error *e)
{
    dc_prediction_marks marks;
    *unsure = false;
    *root = NULL;
    *path = m->folder ? dc_format("%s/scheduler/scheduler_config.json", m->folder) : dc_strdup(m->path);
    if (!*path) return dc_fail_memory(e, "a path", 0);
    if (m->folder && dc_is_file(*path)) return dc_json_read(root, *path, DC_JSON_CONFIG_LIMIT, e);
    if (m->folder && !m->file) {
        dc_log_write(&m->log, DC_LOG_NOTE, "%s: not there, taking Stable Diffusion's noise schedule (epsilon)", *path);
        return DC_OK;
    }
    dc_status s = dc_scheduler_config(root, &marks, m->file, unet, e);
    *unsure = !s && !marks.v && !marks.epsilon;
    if (!s && !*unsure)
        dc_log_write(&m->log, DC_LOG_NOTE, "%s: %s prediction%s, by %s", m->path, marks.v ? "v" : "epsilon",
                     marks.zero_snr ? ", zero terminal SNR" : "", marks.from);
    return s;
}

static dc_status open_scheduler(diffc_model *m, const char *prediction, const json_t *unet, dc_error *e)
{
    json_t *root;
    char *path;
    bool unsure;
    dc_noise_config_default(&m->noise);
    dc_status s = scheduler_config(m, &root, &path, unet, &unsure, e);
    if (!s && root) s = dc_noise_config_read(&m->noise, root, path, e);
    json_decref(root);
    free(path);
    if (!s && unsure && !prediction) {
        s = probe_prediction(m, &m->noise.prediction, e);
        if (!s)
            dc_log_write(&m->log, DC_LOG_NOTE, "%s: the file does not say what its UNet predicts; by its answer to a test input it is %s", m->path,
                         m->noise.prediction == DC_PREDICT_V ? "v" : "epsilon");
    }
    if (!s) s = dc_prediction_set(&m->noise, prediction, e);
    if (!s && *m->noise.class_name && !dc_sampler_of_class(m->noise.class_name))
        dc_log_write(&m->log, DC_LOG_WARNING, "%s: scheduler class %s is not known here, the default sampler is euler", m->path, m->noise.class_name);
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
        return dc_fail(e, DC_DATA, "%s: text and UNet do not fit: found text %d wide, expected cross_attention_dim %d", m->path, width, u->context);
    if (v->latent_channels != u->out_channels)
        return dc_fail(e, DC_DATA, "%s: VAE and UNet do not fit: found %d latent channels, expected %d", m->path, v->latent_channels,
                       u->out_channels);
    if (u->text_time) {
        const dc_clip_text_config *last = dc_clip_text_configuration(m->text[m->n_text - 1].model);
        int pooled = last->projection ? last->projection : last->width;
        if (pooled + 6 * u->add_time_dim != u->add_input)
            return dc_fail(e, DC_DATA, "%s: text_encoder_2 and UNet do not fit: found %d pooled + 6 x %d sizes, expected %d", m->path, pooled,
                           u->add_time_dim, u->add_input);
    }
    int extra = u->in_channels - u->out_channels;
    if (extra != 0 && extra != v->latent_channels + 1 && extra != v->latent_channels)
        return dc_fail(e, DC_DATA, "%s: UNet with %d input channels: expected %d, or %d for inpainting", m->path, u->in_channels, u->out_channels,
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

dc_status model_device(dc_device **out, const diffc_options *o, const atomic_int *cancel, const dc_log *log, dc_error *e)
{
    char *plans = dc_cache_path("cuda");
    const dc_device_options d = {.name = o->device ? o->device : "auto",
                                 .threads = o->threads,
                                 .cpu_level = o->cpu_level,
                                 .precision = o->precision,
                                 .exact = o->exact,
                                 .deterministic = o->deterministic,
                                 .max_vram = o->max_vram,
                                 .plans = plans,
                                 .cancel = cancel,
                                 .log = log};
    dc_status s = dc_device_open(out, &d, e);
    free(plans);
    return s;
}

/* Has it a second text encoder? */
static bool has_second_text(const diffc_model *m, const model_index *x, const diffc_options *o, const json_t *unet)
{
    if (o->text_encoder_2 || (m->file && dc_weights_has_part(m->file, DC_PART_TEXT_2))) return true;
    if (m->file && !json_is_string(json_object_get(unet, "addition_embed_type"))) return false;
    return m->folder && part_listed(x, m->folder, "text_encoder_2");
}

static dc_status open_parts(diffc_model *m, const model_index *x, const diffc_options *o, dc_error *e)
{
    json_t *unet = NULL;
    dc_status s = open_unet(m, o->unet, &unet, e);
    if (!s) s = open_text(m, m->n_text++, o->text_encoder, e);
    if (!s && has_second_text(m, x, o, unet)) s = open_text(m, m->n_text++, o->text_encoder_2, e);
    const char *vae = decoder_option(o);
    if (!s) s = autoencoder_open(m, &m->vae, &m->vae_weights, vae, true, unet, e);
    if (!s && vae && !(m->vae_name = part_base_name(vae, true))) s = dc_fail_memory(e, "a name", strlen(vae));
    if (!s && o->taesd && o->taesd_preview_only) s = autoencoder_open(m, &m->tiny, &m->tiny_weights, o->taesd, false, unet, e);
    if (!s) s = check_fit(m, e);
    if (!s) s = open_scheduler(m, o->prediction, unet, e);
    json_decref(unet);
    return s;
}

dc_status model_find(diffc_model **out, const diffc_options *o, dc_error *e)
{
    diffc_model *m = *out = dc_calloc(1, sizeof *m);
    if (!m) return dc_fail_memory(e, "a model", sizeof *m);
    m->log = (dc_log){forward_log, m};
    m->log_fn = o->log;
    m->log_user = o->log_user;
    return source_open(m, o->model, o->config, e);
}

dc_status model_open(diffc_model **out, const diffc_options *o, dc_error *e)
{
    model_index x = {0};
    diffc_model *m;
    *out = NULL;
    dc_status s = model_find(&m, o, e);
    if (!m) return s;
    m->resident = o->resident;
    m->max_memory = o->max_memory;
    if (!s) s = model_device(&m->device, o, &m->cancel, &m->log, e);
    if (!s && m->folder) s = index_read(&x, m->folder, e);
    if (!s) s = parts_check(m, o, e);
    if (!s) s = open_parts(m, &x, o, e);
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
    model_hash_end(m);
    for (int i = 0; i < m->n_text; i++) {
        dc_clip_text_close(m->text[i].model);
        dc_tokenizer_close(m->text[i].tokenizer);
        dc_weights_close(m->text[i].weights);
    }
    dc_unet_close(m->unet);
    dc_vae_close(m->vae);
    dc_vae_close(m->tiny);
    dc_weights_close(m->unet_weights);
    dc_weights_close(m->vae_weights);
    dc_weights_close(m->tiny_weights);
    dc_weights_close(m->file);
    dc_noise_config_free(&m->noise);
    dc_device_close(m->device);
    dc_text_free(&m->profile);
    free(m->path);
    free(m->folder);
    free(m->name);
    free(m->vae_name);
    free(m->factors);
    free(m);
}
