/* parts.c - where the parts of a model are: in a diffusers folder, in a single file, or named one by one. */
#include "base/file.h"
#include "pipeline/model.h"
#include <stdlib.h>
#include <string.h>

static const char *part_name(dc_part p)
{
    static const char *const names[DC_PARTS] = {"text encoder", "second text encoder", "UNet", "VAE"};
    return names[p];
}

static const char *part_option(dc_part p)
{
    static const char *const options[DC_PARTS] = {"--text-encoder", "--text-encoder-2", "--unet", "--vae"};
    return options[p];
}

/* ---- the model's own file or folder ----------------------------------------------------------------------------- */

char *part_base_name(const char *path, bool ending)
{
    char *full = realpath(path, NULL);
    const char *slash = full ? strrchr(full, '/') : NULL;
    char *name = dc_strdup(slash && slash[1] ? slash + 1 : path), *dot = name && !ending && !dc_is_folder(path) ? strrchr(name, '.') : NULL;
    if (dot && dot > name) *dot = 0;
    free(full);
    return name;
}

/* "text encoder and VAE": the parts that are (or are not) in the model's file. */
static const char *list_parts(const dc_weights *w, bool there, char *out, size_t size)
{
    const char *found[DC_PARTS];
    int n = 0;
    dc_text t = {0};
    for (int p = 0; p < DC_PARTS; p++)
        if (p != DC_PART_TEXT_2 && dc_weights_has_part(w, (dc_part)p) == there) found[n++] = part_name((dc_part)p);
    for (int i = 0; i < n; i++) dc_text_printf(&t, "%s%s", i == 0 ? "" : i + 1 < n ? ", " : " and ", found[i]);
    snprintf(out, size, "%s", t.at ? t.at : "");
    dc_text_free(&t);
    return out;
}

/* A file with none of a model's parts is refused at once, by what it is instead. */
static dc_status check_file(const diffc_model *m, dc_error *e)
{
    for (int p = 0; p < DC_PARTS; p++)
        if (dc_weights_has_part(m->file, (dc_part)p)) return DC_OK;
    const char *like = dc_weights_looks_like(m->file);
    dc_status s =
        dc_fail(e, DC_DATA, "%s: found %s, expected a Stable Diffusion model or a part of one", m->path, like ? like : "names of no known kind");
    dc_hint(e, "`diffc inspect %s` lists its tensors.", m->path);
    return s;
}

static dc_status open_file(diffc_model *m, const char *config, dc_error *e)
{
    dc_status s = dc_weights_open(&m->file, m->path, e);
    if (!s) s = check_file(m, e);
    if (s || !config) return s;
    if (!dc_is_folder(config)) return dc_fail(e, DC_NO_INPUT, "%s: --config: found no such folder, expected a diffusers model", config);
    m->folder = dc_strdup(config);
    return m->folder ? DC_OK : dc_fail_memory(e, "a path", strlen(config));
}

dc_status source_open(diffc_model *m, const char *model, const char *config, dc_error *e)
{
    dc_status s = DC_OK;
    if (!model) s = asset_path(&m->path, "default", e);
    else if (!(m->path = dc_strdup(model))) s = dc_fail_memory(e, "a path", strlen(model));
    if (s) return s;
    size_t n = strlen(m->path);
    while (n > 1 && m->path[n - 1] == '/') m->path[--n] = 0;
    if (dc_is_file(m->path)) {
        s = open_file(m, config, e);
    } else if (!dc_is_folder(m->path)) {
        s = dc_fail(e, DC_NO_INPUT, "%s: not found, expected a model: a folder or a file", m->path);
    } else if (config) {
        s = dc_fail(e, DC_USAGE, "--config: found it beside the model folder %s, expected it with a single file", m->path);
    } else if (!(m->folder = dc_strdup(m->path))) {
        s = dc_fail_memory(e, "a path", n);
    }
    if (!s && !(m->name = part_base_name(m->path, false))) s = dc_fail_memory(e, "a name", 0);
    return s;
}

/* ---- one part ------------------------------------------------------------------------------------------------------ */

void part_close(model_part *x)
{
    dc_weights_close(x->weights);
    json_decref(x->config);
    free(x->config_path);
    *x = (model_part){0};
}

/* FOLDER/config.json. */
static dc_status read_config(model_part *x, const char *folder, dc_error *e)
{
    x->config_path = dc_path_join(folder, "config.json");
    return x->config_path ? dc_json_read(&x->config, x->config_path, DC_JSON_CONFIG_LIMIT, e) : dc_fail_memory(e, "a path", strlen(folder));
}

/* Text encoders of newer folders leave "text_model." out of their names: the part has them as everybody knows them. */
static dc_status usual_names(model_part *x, dc_error *e)
{
    dc_weights *named = NULL;
    dc_status s = dc_weights_part(&named, x->weights, DC_PART_TEXT, e);
    if (!named) return s;
    dc_weights_adopt(named, x->weights);
    x->weights = named;
    return s;
}

static dc_status from_folder(model_part *x, dc_part p, const char *folder, dc_error *e)
{
    dc_status s = read_config(x, folder, e);
    bool text = p == DC_PART_TEXT || p == DC_PART_TEXT_2;
    if (!s) s = dc_weights_open_folder(&x->weights, folder, text ? "model" : "diffusion_pytorch_model", e);
    return s || !text ? s : usual_names(x, e);
}

/* A folder of the model's, or of the folder that describes it; *out NULL: there is none. */
static dc_status own_folder(char **out, const diffc_model *m, dc_part p, dc_error *e)
{
    *out = NULL;
    if (!m->folder) return DC_OK;
    char *path = dc_path_join(m->folder, dc_part_folder(p));
    if (!path) return dc_fail_memory(e, "a path", strlen(m->folder));
    if (dc_is_folder(path)) *out = path;
    else free(path);
    return DC_OK;
}

/* The configuration of weights that come from a file: config.json beside it (of a part in a file of its own), the one in the model's
 * folder, or what their shapes tell. A TAESD is not described by the model's VAE. */
static dc_status describe_file(model_part *x, const diffc_model *m, dc_part p, const char *alone, const json_t *unet, dc_error *e)
{
    char *around = alone ? dc_path_folder(alone) : NULL, *beside = around ? dc_path_join(around, "config.json") : NULL, *folder;
    dc_status s = own_folder(&folder, m, p, e);
    if (!s && alone && !beside) s = dc_fail_memory(e, "a path", strlen(alone));
    bool tiny = p == DC_PART_VAE && !dc_weights_find(x->weights, "decoder.conv_in.weight"), read_beside = beside && dc_is_file(beside);
    bool read = read_beside || (folder && !tiny);
    if (!s) {
        x->config_path = !read ? dc_strdup(dc_weights_path(x->weights)) : read_beside ? dc_strdup(beside) : dc_path_join(folder, "config.json");
        if (!x->config_path) s = dc_fail_memory(e, "a path", 0);
        else if (read) s = dc_json_read(&x->config, x->config_path, DC_JSON_CONFIG_LIMIT, e);
        else s = dc_part_config(&x->config, x->weights, p, unet, e);
    }
    free(around);
    free(beside);
    free(folder);
    return s;
}

static dc_status missing(const diffc_model *m, dc_part p, dc_error *e)
{
    char found[120], lacks[120];
    const char *like = m->file ? dc_weights_looks_like(m->file) : NULL;
    dc_status s;
    if (!m->file) s = dc_fail(e, DC_NO_INPUT, "%s: part missing: found no folder %s, expected one of a diffusers model", m->path, dc_part_folder(p));
    else
        s = dc_fail(e, DC_NO_INPUT, "%s: part missing: found only %s in it, expected also %s", m->path,
                    list_parts(m->file, true, found, sizeof found),
                    p == DC_PART_TEXT_2 ? part_name(p) : list_parts(m->file, false, lacks, sizeof lacks));
    dc_hint(e, "%s%s%sName it with %s PATH%s.", like ? "The file looks like " : "", like ? like : "", like ? ". " : "", part_option(p),
            m->file ? ", or a diffusers folder that has it with --config FOLDER" : "");
    return s;
}

/* A part that the user named: a file with it, perhaps among other parts. */
static dc_status from_named_file(model_part *x, const diffc_model *m, dc_part p, const char *file, const json_t *unet, dc_error *e)
{
    dc_weights *w = NULL;
    dc_status s = dc_weights_open(&w, file, e);
    /* a second text encoder on its own looks like any other */
    dc_part as = p == DC_PART_TEXT_2 && !s && !dc_weights_has_part(w, p) ? DC_PART_TEXT : p;
    if (!s) s = dc_weights_part(&x->weights, w, as, e);
    if (!s && !x->weights) {
        const char *like = dc_weights_looks_like(w);
        s = dc_fail(e, DC_DATA, "%s: found %s, expected a %s", file, like ? like : "names of no known kind", part_name(p));
    }
    if (x->weights) dc_weights_adopt(x->weights, w);
    else dc_weights_close(w);
    return s ? s : describe_file(x, m, p, file, unet, e);
}

dc_status part_open(model_part *x, const diffc_model *m, dc_part p, const char *replaced, const json_t *unet, dc_error *e)
{
    *x = (model_part){0};
    if (replaced && dc_is_folder(replaced)) return from_folder(x, p, replaced, e);
    if (replaced) return from_named_file(x, m, p, replaced, unet, e);
    dc_status s = m->file ? dc_weights_part(&x->weights, m->file, p, e) : DC_OK;
    if (s) return s;
    if (x->weights) return describe_file(x, m, p, NULL, unet, e);
    char *folder;
    s = own_folder(&folder, m, p, e);
    if (s) return s;
    if (folder && m->file) dc_log_write(&m->log, DC_LOG_NOTE, "%s: the %s is taken from %s", m->path, part_name(p), folder);
    s = folder ? from_folder(x, p, folder, e) : missing(m, p, e);
    free(folder);
    return s;
}

dc_status part_there(bool *there, const diffc_model *m, dc_part p, const char *replaced, dc_error *e)
{
    char *folder;
    dc_status s = own_folder(&folder, m, p, e);
    *there = replaced || folder || (m->file && dc_weights_has_part(m->file, p));
    free(folder);
    return s;
}

const char *decoder_option(const diffc_options *o) { return o->taesd && !o->taesd_preview_only ? o->taesd : o->vae; }

dc_status parts_check(const diffc_model *m, const diffc_options *o, dc_error *e)
{
    const char *const replaced[DC_PARTS] = {[DC_PART_TEXT] = o->text_encoder, [DC_PART_UNET] = o->unet, [DC_PART_VAE] = decoder_option(o)};
    dc_status s = DC_OK;
    for (int p = 0; !s && p < DC_PARTS; p++) {
        bool there;
        s = part_there(&there, m, (dc_part)p, replaced[p], e);
        if (!s && p != DC_PART_TEXT_2 && !there) s = missing(m, (dc_part)p, e);
    }
    return s;
}
