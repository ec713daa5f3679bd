/* inspect.c - descriptions of model files and folders as JSON. */
#include "weights/inspect.h"
#include "base/file.h"
#include "base/npy.h"
#include "base/text.h"
#include "weights/hash.h"
#include "weights/parts.h"
#include <stdlib.h>
#include <string.h>

/* The description being made. Memory that ran out is noted once, at the end. */
typedef struct sheet {
    bool failed;
    bool hashes; /* wanted */
    dc_error *e;
} sheet;

static void put(sheet *d, json_t *o, const char *key, json_t *value) { d->failed |= json_object_set_new(o, key, value) != 0; }
static void add(sheet *d, json_t *array, json_t *value) { d->failed |= json_array_append_new(array, value) != 0; }

/* Any bytes as a JSON string: what is not UTF-8 becomes \xNN. */
static json_t *text(const char *s)
{
    char shown[4200];
    return dc_utf8_valid(s, strlen(s)) ? json_string(s) : json_string(dc_escape(shown, sizeof shown, s));
}

static json_t *shape_of(sheet *d, const int64_t *dim, int rank)
{
    json_t *a = json_array();
    for (int i = 0; i < rank; i++) add(d, a, json_integer(dim[i]));
    return a;
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static json_t *dtypes_of(sheet *d, const dc_weights *w)
{
    json_t *o = json_object();
    int count[DC_DTYPES] = {0};
    for (int i = 0; i < dc_weights_count(w); i++) count[dc_weights_at(w, i)->dtype]++;
    for (int t = 0; t < DC_DTYPES; t++)
        if (count[t]) put(d, o, dc_dtype_name((dc_dtype)t), json_integer(count[t]));
    return o;
}

static json_t *metadata_of(sheet *d, const dc_weights *w)
{
    json_t *o = json_object();
    for (int i = 0; i < dc_weights_metadata_count(w); i++) {
        const char *key, *value;
        dc_weights_metadata_at(w, i, &key, &value);
        put(d, o, key, json_string(value));
    }
    return o;
}

static uint64_t parameters_of(const dc_weights *w)
{
    uint64_t n = 0;
    for (int i = 0; i < dc_weights_count(w); i++) {
        const dc_stored *t = dc_weights_at(w, i);
        n += t->bytes / dc_dtype_size(t->dtype) * (uint64_t)dc_dtype_block(t->dtype);
    }
    return n;
}

/* Names of the shards, without their folder. */
static json_t *files_of(sheet *d, const dc_weights *w)
{
    json_t *files = json_array();
    for (int i = 0; i < dc_weights_file_count(w); i++) {
        const char *file = dc_weights_file_at(w, i), *slash = strrchr(file, '/');
        add(d, files, text(slash ? slash + 1 : file));
    }
    return files;
}

static json_t *list_of(sheet *d, const dc_weights *w)
{
    json_t *list = json_array();
    for (int i = 0; i < dc_weights_count(w); i++) {
        const dc_stored *t = dc_weights_at(w, i);
        json_t *one = json_object();
        put(d, one, "name", json_string(t->name));
        put(d, one, "dtype", json_string(dc_dtype_name(t->dtype)));
        put(d, one, "shape", shape_of(d, t->dim, t->rank));
        add(d, list, one);
    }
    return list;
}

static void describe_weights(sheet *d, json_t *o, const dc_weights *w)
{
    const char *path = dc_weights_path(w), *role = dc_weights_looks_like(w);
    size_t n = strlen(path);
    uint64_t bytes = 0;
    for (int i = 0; i < dc_weights_count(w); i++) bytes += dc_weights_at(w, i)->bytes;
    put(d, o, "role", json_string(role ? role : "unknown"));
    put(d, o, "bytes", json_integer((json_int_t)bytes));
    put(d, o, "tensors", json_integer(dc_weights_count(w)));
    put(d, o, "parameters", json_integer((json_int_t)parameters_of(w)));
    put(d, o, "dtypes", dtypes_of(d, w));
    put(d, o, "metadata", metadata_of(d, w));
    if (n > 5 && !strcmp(path + n - 5, ".json")) put(d, o, "files", files_of(d, w));
}

/* SHA-256 of the file, when it was asked for and there is one file. */
static dc_status describe_hashes(sheet *d, json_t *o, const dc_weights *w)
{
    char hex[DC_HASH_DIGITS + 1];
    if (!d->hashes || dc_weights_file_count(w) != 1) return DC_OK;
    dc_status s = dc_file_sha256(hex, dc_weights_file_at(w, 0), NULL, d->e);
    if (s) return s;
    put(d, o, "sha256", json_string(hex));
    put(d, o, "autov2", json_stringn(hex, DC_HASH_AUTO_V2));
    return DC_OK;
}

/* ---- a model, or parts of one, in one file ------------------------------------------------------------------------------- */

/* The config's keys that tell what a component is. */
static void describe_config(sheet *d, json_t *o, const json_t *config)
{
    static const char *const keys[] = {
        "_class_name",         "tokenizer_class",        "architectures",   "prediction_type",   "sample_size",    "in_channels",
        "cross_attention_dim", "scaling_factor",         "hidden_size",     "num_hidden_layers", "projection_dim", "beta_schedule",
        "timestep_spacing",    "rescale_betas_zero_snr", "model_max_length"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *v = json_object_get(config, keys[i]);
        if (v && !json_is_null(v)) put(d, o, i < 2 ? "class" : keys[i], json_incref(v));
    }
}

static json_t *architecture_of(const json_t *unet)
{
    const char *kind = json_is_string(json_object_get(unet, "addition_embed_type"))   ? "Stable Diffusion XL"
                       : json_is_true(json_object_get(unet, "use_linear_projection")) ? "Stable Diffusion 2.x"
                                                                                      : "Stable Diffusion 1.x";
    return json_sprintf("%s%s", kind, json_integer_value(json_object_get(unet, "in_channels")) == 9 ? ", inpaint" : "");
}

static void describe_prediction(sheet *d, json_t *o, const dc_weights *w, const json_t *unet)
{
    json_t *scheduler = NULL;
    dc_prediction_marks m;
    put(d, o, "architecture", architecture_of(unet));
    d->failed |= dc_scheduler_config(&scheduler, &m, w, unet, NULL) != DC_OK;
    json_decref(scheduler);
    put(d, o, "prediction", json_string(m.v ? "v" : m.epsilon ? "epsilon" : "not told, taken is v"));
    if (m.v || m.epsilon) put(d, o, "prediction_from", json_string(m.from));
    if (m.zero_snr) put(d, o, "zero_terminal_snr", json_true());
}

/* One part; NULL: not in the file. A shape that tells no configuration is described as far as it goes. *config is its own. */
static json_t *part_of(sheet *d, const dc_weights *w, dc_part p, const json_t *unet, json_t **config, dc_status *s)
{
    dc_weights *part = NULL;
    dc_error unclear = {0};
    *config = NULL;
    if (!*s) *s = dc_weights_part(&part, w, p, d->e);
    if (!part) return NULL;
    json_t *one = json_object();
    if (!dc_part_config(config, part, p, unet, &unclear)) describe_config(d, one, *config);
    else put(d, one, "unclear", text(unclear.text));
    put(d, one, "tensors", json_integer(dc_weights_count(part)));
    put(d, one, "parameters", json_integer((json_int_t)parameters_of(part)));
    dc_weights_close(part);
    return one;
}

/* Tensors that belong to no part: how many, and the first of them. */
static json_t *unused_of(sheet *d, const dc_weights *w)
{
    json_t *o = json_object(), *names = json_array();
    bool *used = calloc((size_t)dc_weights_count(w) + 1, sizeof *used);
    int n = 0;
    d->failed |= !used;
    if (used) dc_weights_mark_parts(w, used);
    for (int i = 0; used && i < dc_weights_count(w); i++)
        if (!used[i] && n++ < 20) add(d, names, json_string(dc_weights_at(w, i)->name));
    put(d, o, "tensors", json_integer(n));
    put(d, o, "names", names);
    free(used);
    return o;
}

static dc_status describe_model(sheet *d, json_t *o, const dc_weights *w)
{
    static const dc_part order[DC_PARTS] = {DC_PART_UNET, DC_PART_VAE, DC_PART_TEXT, DC_PART_TEXT_2};
    json_t *model = json_object(), *parts = json_object(), *missing = json_array(), *unet = NULL, *config = NULL;
    dc_status s = DC_OK;
    for (int i = 0; i < DC_PARTS; i++) {
        json_t *one = part_of(d, w, order[i], unet, &config, &s);
        bool xl = json_is_string(json_object_get(unet, "addition_embed_type"));
        if (one) put(d, parts, dc_part_folder(order[i]), one);
        else if (order[i] != DC_PART_TEXT_2 || xl) add(d, missing, json_string(dc_part_folder(order[i])));
        if (order[i] == DC_PART_UNET) unet = config;
        else json_decref(config);
    }
    if (unet) describe_prediction(d, model, w, unet);
    bool any = json_object_size(parts) > 0;
    const char *like = dc_weights_looks_like(w);
    bool clip = like && strstr(like, "vision encoder"); /* whole in itself: nothing of a Stable Diffusion is missing */
    put(d, model, "parts", parts);
    if (!clip) put(d, model, "missing", json_incref(missing));
    if (!clip) put(d, model, "unused", unused_of(d, w));
    json_decref(missing);
    if (any) put(d, o, "model", json_incref(model));
    json_decref(model);
    json_decref(unet);
    return s;
}

/* suffix: of the kind, behind the format. */
static dc_status inspect_weights(sheet *d, json_t *o, const char *path, const char *suffix)
{
    dc_weights *w = NULL;
    dc_status s = dc_weights_open(&w, path, d->e);
    if (s) return s;
    put(d, o, "kind", json_sprintf("%s%s", dc_weights_format(w), suffix));
    describe_weights(d, o, w);
    s = describe_model(d, o, w);
    if (!s) s = describe_hashes(d, o, w);
    put(d, o, "tensor_list", list_of(d, w));
    dc_weights_close(w);
    return s;
}

/* ---- folders --------------------------------------------------------------------------------------------------------- */

/* FOLDER/NAME parsed, NULL when there is none. */
static dc_status read_optional(json_t **out, const char *folder, const char *name, dc_error *e)
{
    char *path = dc_path_join(folder, name);
    dc_status s = path ? DC_OK : dc_fail_memory(e, folder, strlen(folder));
    *out = NULL;
    if (!s && dc_is_file(path)) s = dc_json_read(out, path, DC_JSON_CONFIG_LIMIT, e);
    if (!s && *out && !json_is_object(*out)) s = dc_fail(e, DC_DATA, "%s: found no object, expected a configuration", path);
    if (s) json_decref(*out), *out = NULL;
    free(path);
    return s;
}

/* The component's config; *weighty: of a kind that has weights beside it. */
static dc_status read_config(json_t **out, bool *weighty, const char *folder, dc_error *e)
{
    static const char *const names[] = {"config.json", "scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json"};
    dc_status s = DC_OK;
    *out = NULL;
    for (size_t i = 0; !s && !*out && i < sizeof names / sizeof *names; i++) {
        s = read_optional(out, folder, names[i], e);
        *weighty = i == 0;
    }
    return s;
}

/* transformers' models have `architectures` in their config, diffusers' have not. */
static dc_status describe_component(sheet *d, json_t *o, const char *folder)
{
    json_t *config = NULL;
    bool weighty = false;
    dc_status s = read_config(&config, &weighty, folder, d->e);
    if (s) return s;
    describe_config(d, o, config);
    const char *stem = json_object_get(config, "architectures") ? "model" : "diffusion_pytorch_model";
    dc_weights *w = NULL;
    dc_error own = {0};
    if (!config) put(d, o, "missing", json_string("no config.json"));
    if (config && weighty) s = dc_weights_open_folder(&w, folder, stem, &own);
    if (s == DC_NO_INPUT) {
        put(d, o, "missing", text(own.text));
        s = DC_OK;
    } else if (s) {
        dc_fail(d->e, own.code, "%s", own.text);
        dc_hint(d->e, "%s", own.hint);
    }
    if (w) {
        put(d, o, "file", text(dc_weights_path(w)));
        describe_weights(d, o, w);
        if (!s) s = describe_hashes(d, o, w);
    }
    dc_weights_close(w);
    json_decref(config);
    return s;
}

static dc_status inspect_model(sheet *d, json_t *o, const char *path, const json_t *index)
{
    const char *key;
    json_t *value, *components = json_object();
    dc_status s = DC_OK;
    put(d, o, "kind", json_string("diffusers model"));
    if (json_object_get(index, "_class_name")) put(d, o, "class", json_incref(json_object_get(index, "_class_name")));
    json_object_foreach((json_t *)index, key, value)
    {
        json_t *class = json_array_get(value, 1); /* [library, class]; [null, null]: not part of this model */
        if (s || !json_is_string(class)) continue;
        json_t *one = json_object();
        char *folder = dc_is_safe_relative(key) ? dc_path_join(path, key) : NULL;
        put(d, one, "class", json_incref(class));
        if (folder && dc_is_folder(folder)) s = describe_component(d, one, folder);
        else put(d, one, "missing", json_string("no such folder"));
        put(d, components, key, one);
        free(folder);
    }
    json_t *prediction = json_object_get(json_object_get(components, "scheduler"), "prediction_type");
    put(d, o, "prediction", prediction ? json_incref(prediction) : json_string("epsilon"));
    put(d, o, "components", components);
    return s;
}

static dc_status inspect_folder(sheet *d, json_t *o, const char *path)
{
    json_t *index = NULL, *config = NULL;
    bool weighty;
    dc_status s = read_optional(&index, path, "model_index.json", d->e);
    if (!s && !index) s = read_config(&config, &weighty, path, d->e);
    if (!s && index) {
        s = inspect_model(d, o, path, index);
    } else if (!s && config) {
        put(d, o, "kind", json_string("component"));
        s = describe_component(d, o, path);
    } else if (!s) {
        s = dc_fail(d->e, DC_NO_INPUT, "%s: found neither model_index.json nor config.json, expected a diffusers model or one of its components",
                    path);
    }
    json_decref(config);
    json_decref(index);
    return s;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------------ */

static dc_status inspect_npy(sheet *d, json_t *o, const char *path)
{
    dc_npy n;
    dc_status s = dc_npy_read(&n, path, d->e);
    if (s) return s;
    put(d, o, "kind", json_string("npy"));
    put(d, o, "dtype", json_string(n.kind));
    put(d, o, "shape", shape_of(d, n.dim, n.rank));
    free(n.data);
    return DC_OK;
}

static dc_status begins(bool *yes, const char *path, const char *magic, size_t n, dc_error *e)
{
    dc_map m;
    dc_status s = dc_map_open(&m, path, e);
    *yes = !s && m.size >= n && !memcmp(m.data, magic, n);
    dc_map_close(&m);
    return s;
}

dc_status dc_inspect(json_t **out, const char *path, bool hashes, dc_error *e)
{
    dc_error own = {0};
    sheet d = {.hashes = hashes, .e = e ? e : &own};
    size_t n = strlen(path);
    json_t *o = json_object();
    bool npy;
    dc_status s;
    *out = NULL;
    put(&d, o, "path", text(path));
    if (dc_is_folder(path)) s = inspect_folder(&d, o, path);
    else if (n > 5 && !strcmp(path + n - 5, ".json")) s = inspect_weights(&d, o, path, " index");
    else if ((s = begins(&npy, path, "\x93NUMPY", 6, d.e)) == DC_OK) s = npy ? inspect_npy(&d, o, path) : inspect_weights(&d, o, path, "");
    if (!s && d.failed) s = dc_fail_memory(d.e, "the description", 0);
    if (s) json_decref(o);
    else *out = o;
    return s;
}
