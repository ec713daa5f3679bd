/* clip_open.c - a folder or file becomes an open CLIP model: which library wrote it, its configuration, its towers, its tokenizer. */
#include "base/checked.h"
#include "base/file.h"
#include "clip/openclip.h"
#include "pipeline/clip.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What was found before anything is built of it. */
typedef struct source {
    json_t *config; /* in transformers' words: of a whole model (sections) or of one tower; NULL: told from shapes */
    char *path;     /* where it is from, for messages */
    json_t *own;    /* open_clip_config.json as it is, or preprocessor_config.json; NULL: none */
    char *own_path;
    bool openclip; /* the family whose preprocessing is followed: open_clip's, which is OpenAI's too */
    bool folder;   /* may have a tokenizer */
} source;

static void source_close(source *x)
{
    json_decref(x->config);
    json_decref(x->own);
    free(x->path);
    free(x->own_path);
}

/* ---- configurations ---------------------------------------------------------------------------------------------------- */

/* FOLDER/NAME into *root and *path; nothing when there is no such file. */
static dc_status read_beside(const char *folder, const char *name, json_t **root, char **path, dc_error *e)
{
    char *file = dc_path_join(folder, name);
    if (!file) return dc_fail_memory(e, "a path", strlen(folder));
    if (!dc_is_file(file)) {
        free(file);
        return DC_OK;
    }
    *path = file;
    return dc_json_read(root, file, DC_JSON_CONFIG_LIMIT, e);
}

/* Is it that of a CLIP model, or of one of its towers? */
static bool is_clip(const json_t *config)
{
    const char *type = json_string_value(json_object_get(config, "model_type"));
    return type && !strncmp(type, "clip", 4);
}

/* open_clip's configuration, read from the file that x->own_path names. */
static dc_status take_openclip(source *x, dc_error *e)
{
    x->openclip = true;
    x->path = dc_strdup(x->own_path);
    return x->path ? dc_openclip_config(&x->config, x->own, x->path, e) : dc_fail_memory(e, "a path", 0);
}

static void drop_config(source *x)
{
    json_decref(x->config);
    free(x->path);
    x->config = NULL, x->path = NULL;
}

/* ---- where the weights are ------------------------------------------------------------------------------------------------ */

/* The first of open_clip's names of a weight file that is there. */
static dc_status open_openclip_weights(diffc_clip *m, dc_error *e)
{
    static const char *const stems[] = {"open_clip_pytorch_model", "model", "open_clip_model"}; /* the last one's absence is told */
    dc_status s = dc_weights_open_folder(&m->file, m->path, "open_clip_model", e);
    for (int i = 0; s == DC_NO_INPUT && i < 3; i++) {
        *e = (dc_error){0};
        s = dc_weights_open_folder(&m->file, m->path, stems[i], e);
    }
    return s;
}

/* A folder of transformers, or of open_clip where that is no CLIP model of transformers (it may be both: LAION's are). */
static dc_status find_in_folder(diffc_clip *m, source *x, dc_error *e)
{
    x->folder = true;
    dc_status s = read_beside(m->path, "config.json", &x->config, &x->path, e);
    if (s) return s;
    if (is_clip(x->config)) {
        s = dc_weights_open_folder(&m->file, m->path, "model", e);
        if (!s) return read_beside(m->path, "preprocessor_config.json", &x->own, &x->own_path, e);
        if (s != DC_NO_INPUT) return s;
    }
    dc_error first = *e;
    *e = (dc_error){0};
    s = read_beside(m->path, "open_clip_config.json", &x->own, &x->own_path, e);
    if (!s && x->own) {
        drop_config(x);
        s = take_openclip(x, e);
        return s ? s : open_openclip_weights(m, e);
    }
    if (s) return s;
    if (first.code) return *e = first, first.code;
    const char *type = json_string_value(json_object_get(x->config, "model_type"));
    if (x->config) return dc_fail(e, DC_DATA, "%s: model_type: found %s, expected a CLIP model", x->path, type ? type : "none");
    s = dc_fail(e, DC_NO_INPUT, "%s: found neither config.json nor open_clip_config.json, expected a CLIP model", m->path);
    dc_hint(e, "Name a folder of transformers (CLIPModel) or open_clip, or a single file of weights.");
    return s;
}

/* Names of open_clip and OpenAI. */
static bool named_openclip(const dc_weights *w)
{
    return dc_weights_find(w, "visual.class_embedding") || dc_weights_find(w, "positional_embedding") ||
           dc_weights_find(w, "text.positional_embedding");
}

/* OpenAI's files say what they are made for in tensors of their own. */
static bool named_openai(const dc_weights *w) { return dc_weights_find(w, "input_resolution") && dc_weights_find(w, "context_length"); }

/* A single file: described by `config` (a file or a folder), by what lies beside it, or by its shapes. */
static dc_status find_in_file(diffc_clip *m, source *x, const char *config, dc_error *e)
{
    dc_status s = dc_weights_open(&m->file, m->path, e);
    if (s) return s;
    x->openclip = named_openclip(m->file);
    bool told = config != NULL, whole = config && dc_is_file(config);
    char *folder = config ? dc_strdup(config) : dc_path_folder(m->path);
    if (!folder) return dc_fail_memory(e, "a path", strlen(m->path));
    if (whole) s = dc_json_read(&x->own, x->own_path = folder, DC_JSON_CONFIG_LIMIT, e), folder = NULL;
    else if (x->openclip && !named_openai(m->file)) s = read_beside(folder, "open_clip_config.json", &x->own, &x->own_path, e);
    else if (!x->openclip) {
        s = read_beside(folder, "config.json", &x->config, &x->path, e);
        if (!s && !told && !is_clip(x->config)) drop_config(x);
        if (!s && x->config) s = read_beside(folder, "preprocessor_config.json", &x->own, &x->own_path, e);
    }
    if (!s && x->own && (whole || x->openclip)) {
        if (is_clip(x->own)) x->config = x->own, x->path = x->own_path, x->own = NULL, x->own_path = NULL;
        else s = take_openclip(x, e);
    }
    if (!s && told && !x->config && !named_openai(m->file))
        s = dc_fail(e, DC_NO_INPUT, "%s: --config: found no configuration of a CLIP model there", config);
    free(folder);
    return s;
}

/* ---- what shapes tell -------------------------------------------------------------------------------------------------------- */

/* The number in a tensor of one; 0: there is none. */
static double single(const dc_weights *w, const char *name)
{
    const dc_stored *t = dc_weights_find(w, name);
    float v = 0;
    if (!t || !t->data || t->bytes < dc_dtype_size(t->dtype) || dc_dtype_block(t->dtype) != 1) return 0;
    if (t->dtype < DC_I64) dc_source_floats(&(dc_source){.data = t->data, .dtype = t->dtype, .rows = 1}, 0, 1, &v);
    for (int i = t->dtype == DC_I64 ? 7 : t->dtype == DC_I32 ? 3 : -1; i >= 0; i--) v = v * 256 + ((const uint8_t *)t->data)[i]; /* small ones */
    return (double)v;
}

/* Activations cannot be seen: OpenAI's are quick_gelu, those of open_clip's files without a configuration the exact one. */
static dc_status from_shapes(const diffc_clip *m, source *x, dc_error *e)
{
    json_t *text = NULL, *vision = NULL;
    dc_status s = m->text_part ? dc_part_config(&text, m->text_part, DC_PART_TEXT_2, NULL, e) : DC_OK;
    if (!s && m->vision_part) s = dc_part_config(&vision, m->vision_part, DC_PART_VISION, NULL, e);
    const json_t *either = text ? text : vision;
    const char *act = named_openai(m->file) ? "quick_gelu" : x->openclip ? "gelu" : json_string_value(json_object_get(either, "hidden_act"));
    if (!s)
        x->config = json_pack("{s:o*,s:o*,s:o}", "text_config", json_incref(text), "vision_config", json_incref(vision), "projection_dim",
                              json_incref(json_object_get(either, "projection_dim")));
    if (!s && x->config) {
        if (text) json_object_set_new(text, "hidden_act", json_string(act));
        if (text && x->openclip) json_object_set_new(text, "eos_token_id", json_integer(2));
        if (vision) json_object_set_new(vision, "hidden_act", json_string(act));
        const double side = single(m->file, "input_resolution"); /* where patches do not fill the picture, shapes say less than it has */
        if (vision && side >= 1 && side <= 4096) json_object_set_new(vision, "image_size", json_integer((int)side));
        dc_log_write(&m->log, DC_LOG_NOTE,
                     "%s: no configuration, its sizes are told from its weights; heads and %s are as published models have them", m->path, act);
    }
    json_decref(text);
    json_decref(vision);
    if (!s && (!x->config || !(x->path = dc_strdup(m->path)))) s = dc_fail_memory(e, "a configuration", 0);
    return s;
}

/* ---- towers ------------------------------------------------------------------------------------------------------------------- */

static dc_status find_towers(diffc_clip *m, dc_error *e)
{
    dc_status s = dc_weights_part(&m->text_part, m->file, DC_PART_TEXT, e);
    if (!s) s = dc_weights_part(&m->vision_part, m->file, DC_PART_VISION, e);
    if (s || m->vision_part) return s;
    for (int i = 0; i < dc_weights_count(m->file); i++) {
        const char *name = dc_weights_at(m->file, i)->name;
        if (!strncmp(name, "visual.", 7) || !strncmp(name, "vision_model.", 13))
            return dc_fail(e, DC_DATA, "%s: picture encoder: found one with %s, expected a ViT of CLIP", m->path, name);
    }
    if (m->text_part) return DC_OK;
    const char *like = dc_weights_looks_like(m->file);
    return dc_fail(e, DC_DATA, "%s: found %s, expected a CLIP model", m->path, like ? like : "names of no known kind");
}

static dc_status open_towers(diffc_clip *m, const source *x, dc_error *e)
{
    dc_clip_text_config text;
    dc_clip_vision_config vision;
    dc_status s = DC_OK;
    if (m->text_part) {
        s = dc_clip_text_config_read(&text, x->config, x->path, e);
        if (!s) s = dc_clip_text_open(&m->text, &text, m->text_part, m->device, &m->log, e);
    }
    if (!s && m->vision_part) {
        s = dc_clip_vision_config_read(&vision, x->config, x->path, e);
        if (!s) s = dc_clip_vision_open(&m->vision, &vision, m->vision_part, m->device, &m->log, e);
        if (!s && x->openclip) s = dc_clip_preprocess_read_openclip(&m->prepare, x->own, vision.image, x->own_path ? x->own_path : m->path, e);
        else if (!s) s = dc_clip_preprocess_read(&m->prepare, x->own, vision.image, x->own_path ? x->own_path : m->path, e);
    }
    return s;
}

/* The folder's own, or CLIP's. */
static dc_status open_tokenizer(diffc_clip *m, const source *x, dc_error *e)
{
    const dc_clip_text_config *c = dc_clip_text_configuration(m->text);
    char *vocab = dc_path_join(m->path, "vocab.json"), *whole = dc_path_join(m->path, "tokenizer.json"), *merges = NULL;
    bool own = x->folder && !x->openclip && vocab && whole && (dc_is_file(vocab) || dc_is_file(whole));
    dc_status s = vocab && whole ? DC_OK : dc_fail_memory(e, "a path", strlen(m->path));
    free(vocab);
    free(whole);
    if (!s && own) s = dc_tokenizer_open(&m->tokenizer, m->path, e);
    else if (!s) {
        s = asset_path(&merges, "clip_merges.txt.gz", e);
        if (!s) s = dc_tokenizer_open_merges(&m->tokenizer, merges, c->vocab_size < 49408 ? c->vocab_size : 49408, e);
        if (!s && x->openclip) {
            dc_tokenizer_pad_with(m->tokenizer, 0);
            dc_tokenizer_clean_texts(m->tokenizer);
        }
    }
    if (!s && dc_tokenizer_vocab_size(m->tokenizer) > c->vocab_size)
        s = dc_fail(e, DC_DATA, "%s: vocabulary: found %d tokens, expected at most the %d of the text encoder", own ? m->path : merges,
                    dc_tokenizer_vocab_size(m->tokenizer), c->vocab_size);
    free(merges);
    if (s) return s;
    m->tokens = dc_tokenizer_max_length(m->tokenizer);
    if (m->tokens > c->positions) m->tokens = c->positions;
    return DC_OK;
}

/* ---- what it is ----------------------------------------------------------------------------------------------------------------- */

static dc_status check_fit(diffc_clip *m, dc_error *e)
{
    const dc_clip_text_config *t = m->text ? dc_clip_text_configuration(m->text) : NULL;
    const dc_clip_vision_config *v = m->vision ? dc_clip_vision_configuration(m->vision) : NULL;
    const int texts = t ? t->projection ? t->projection : t->width : 0, pictures = v ? v->projection ? v->projection : v->block.width : 0;
    if (t && v && texts != pictures)
        return dc_fail(e, DC_DATA, "%s: encoders do not fit: found vectors of %d numbers for texts and of %d for pictures, expected one length",
                       m->path, texts, pictures);
    m->info.dims = t ? texts : pictures;
    return DC_OK;
}

static dc_status read_logit_scale(diffc_clip *m, dc_error *e)
{
    const double v = single(m->file, "logit_scale");
    m->info.logit_scale = 100;
    if (!dc_weights_find(m->file, "logit_scale")) return DC_OK;
    if (!(v > -20 && v < 20)) return dc_fail(e, DC_DATA, "%s: logit_scale: found %g, expected a logarithm of about 4.6", m->path, v);
    m->info.logit_scale = exp(v);
    return dc_weights_check(m->file, e);
}

/* What decides about the vectors beside the weights, as a text to be hashed. */
static void describe_rest(const diffc_clip *m, dc_text *out)
{
    if (m->text) {
        const dc_clip_text_config *c = dc_clip_text_configuration(m->text);
        dc_text_printf(out, "text %d %d %d %.9g %d\n", c->heads, c->projection, (int)c->act, (double)c->norm_eps, m->tokens);
    }
    if (!m->vision) return;
    const dc_clip_vision_config *c = dc_clip_vision_configuration(m->vision);
    const dc_clip_preprocess *p = &m->prepare;
    dc_text_printf(out, "pictures %d %d %d %.9g %d %d %d\n", c->block.heads, c->projection, (int)c->block.act, (double)c->block.norm_eps, c->image,
                   c->patch, c->pre_norm);
    dc_text_printf(out, "%d %d %d %d %d %d %d %d %d %d\n", p->openclip, (int)p->fit, p->size, p->width, p->height, (int)p->filter, p->crop,
                   p->fill[0], p->fill[1], p->fill[2]);
    for (int i = 0; i < 3; i++) dc_text_printf(out, "%.9g %.9g\n", (double)p->value[i][0], (double)p->value[i][255]);
}

static dc_status make_id(diffc_clip *m, dc_error *e)
{
    char hex[DC_HASH_DIGITS + 1];
    dc_text rest = {0};
    describe_rest(m, &rest);
    dc_status s = rest.failed ? dc_fail_memory(e, "a name", rest.length)
                              : dc_weights_fingerprint(hex, (const dc_weights *const[]){m->text_part, m->vision_part}, 2, rest.at, e);
    dc_text_free(&rest);
    if (s) return s;
    snprintf(m->id, sizeof m->id, "clip-%d-%.10s%s", m->info.dims, hex, m->vision && m->fast_decode ? DIFFC_ID_FAST : "");
    return DC_OK;
}

static void describe(diffc_clip *m)
{
    char tower[64] = "text encoder alone";
    const dc_clip_vision_config *v = m->vision ? dc_clip_vision_configuration(m->vision) : NULL;
    const char *act = (v ? v->block.act : dc_clip_text_configuration(m->text)->act) == DC_ACT_GELU ? "gelu" : "quick_gelu";
    uint64_t n = (m->text ? dc_params_count(dc_clip_text_params(m->text)) : 0) + (m->vision ? dc_params_count(dc_clip_vision_params(m->vision)) : 0);
    if (v)
        snprintf(tower, sizeof tower, "ViT %d wide, %d layers, patches of %d%s", v->block.width, v->block.layers, v->patch, m->text ? "" : ", alone");
    snprintf(m->summary, sizeof m->summary, "%.60s: CLIP, %s, %s, %d numbers, %.0f M parameters", m->name, tower, act, m->info.dims,
             (double)n * 1e-6);
    m->info.width = m->info.height = v ? v->image : 0;
    m->info.pixels = v ? (size_t)v->image * (size_t)v->image * 3 : 0;
    m->info.tokens = m->tokens;
    m->info.has_text = m->text, m->info.has_images = m->vision;
    m->info.name = m->name, m->info.id = m->id, m->info.summary = m->summary;
    m->info.device = dc_device_summary(m->device);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------------------- */

static void forward_log(void *user, dc_log_level level, const char *line)
{
    diffc_clip *m = user;
    if (m->log_fn) m->log_fn(m->log_user, (diffc_log_level)level, line);
}

static dc_status find_path(diffc_clip *m, const diffc_options *o, dc_error *e)
{
    dc_status s = DC_OK;
    if (!o->model) {
        s = asset_path(&m->path, "default/clip", e);
        if (s == DC_NO_INPUT) dc_hint(e, "diffc comes without a CLIP model here: name one with -m.");
    } else if (!(m->path = dc_strdup(o->model))) s = dc_fail_memory(e, "a path", strlen(o->model));
    if (s) return s;
    for (size_t n = strlen(m->path); n > 1 && m->path[n - 1] == '/';) m->path[--n] = 0;
    if (!(m->name = part_base_name(m->path, false))) return dc_fail_memory(e, "a name", 0);
    if (dc_is_file(m->path)) return DC_OK;
    if (!dc_is_folder(m->path)) return dc_fail(e, DC_NO_INPUT, "%s: not found, expected a CLIP model: a folder or a file", m->path);
    if (o->config) return dc_fail(e, DC_USAGE, "--config: found it beside the model folder %s, expected it with a single file", m->path);
    return DC_OK;
}

static dc_status open_all(diffc_clip *m, source *x, const diffc_options *o, dc_error *e)
{
    dc_status s = find_path(m, o, e);
    if (!s) s = dc_is_file(m->path) ? find_in_file(m, x, o->config, e) : find_in_folder(m, x, e);
    if (!s) s = find_towers(m, e);
    if (!s && !x->config) s = from_shapes(m, x, e);
    if (!s) s = model_device(&m->device, o, &m->cancel, &m->log, e);
    if (!s) s = open_towers(m, x, e);
    if (!s && m->text) s = open_tokenizer(m, x, e);
    if (!s) s = check_fit(m, e);
    if (!s) s = read_logit_scale(m, e);
    if (!s) s = make_id(m, e);
    if (!s) describe(m);
    return s;
}

dc_status clip_open(diffc_clip **out, const diffc_options *o, dc_error *e)
{
    source x = {0};
    *out = NULL;
    diffc_clip *m = dc_calloc(1, sizeof *m);
    if (!m) return dc_fail_memory(e, "a model", sizeof *m);
    m->log = (dc_log){forward_log, m};
    m->log_fn = o->log;
    m->log_user = o->log_user;
    m->fast_decode = o->fast_decode;
    dc_status s = open_all(m, &x, o, e);
    source_close(&x);
    if (s) clip_close(m);
    else *out = m;
    return s;
}

void clip_close(diffc_clip *m)
{
    if (!m) return;
    dc_run_free(m->text_run);
    dc_run_free(m->vision_run);
    dc_clip_text_close(m->text);
    dc_clip_vision_close(m->vision);
    dc_tokenizer_close(m->tokenizer);
    dc_weights_close(m->text_part);
    dc_weights_close(m->vision_part);
    dc_weights_close(m->file);
    dc_device_close(m->device);
    free(m->patches);
    free(m->path);
    free(m->name);
    free(m);
}
