#include "weights/inspect.h"
#include "base/file.h"
#include "base/npy.h"
#include "base/text.h"
#include "weights/weights.h"
#include <stdlib.h>
#include <string.h>

static json_t *shape_of(const int64_t *dim, int rank)
{
    json_t *a = json_array();
    for (int i = 0; i < rank; i++) json_array_append_new(a, json_integer(dim[i]));
    return a;
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static void describe_weights(json_t *o, const dc_weights *w, bool list)
{
    json_t  *dtypes = json_object(), *metadata = json_object(), *tensors = json_array();
    uint64_t bytes = 0, parameters = 0, count[DC_DTYPES] = {0};
    for (int i = 0; i < dc_weights_count(w); i++) {
        const dc_stored *t = dc_weights_at(w, i);
        bytes += t->bytes;
        parameters += t->bytes / dc_dtype_size(t->dtype);
        count[t->dtype]++;
        if (list) json_array_append_new(tensors, json_pack("{s:s,s:s,s:o}", "name", t->name, "dtype", dc_dtype_name(t->dtype), "shape", shape_of(t->dim, t->rank)));
    }
    for (int t = 0; t < DC_DTYPES; t++)
        if (count[t]) json_object_set_new(dtypes, dc_dtype_name((dc_dtype)t), json_integer((json_int_t)count[t]));
    for (int i = 0; i < dc_weights_metadata_count(w); i++) {
        const char *key, *value;
        dc_weights_metadata_at(w, i, &key, &value);
        json_object_set_new(metadata, key, json_string(value));
    }
    const char *role = dc_weights_looks_like(w);
    json_object_set_new(o, "role", json_string(role ? role : "unknown"));
    json_object_set_new(o, "bytes", json_integer((json_int_t)bytes));
    json_object_set_new(o, "tensors", json_integer(dc_weights_count(w)));
    json_object_set_new(o, "parameters", json_integer((json_int_t)parameters));
    json_object_set_new(o, "dtypes", dtypes);
    json_object_set_new(o, "metadata", metadata);
    if (list) json_object_set_new(o, "tensor_list", tensors);
    else json_decref(tensors);
}

static dc_status inspect_weights(json_t *o, const char *path, const char *kind, dc_error *e)
{
    dc_weights *w = NULL;
    dc_status   s = dc_weights_open(&w, path, e);
    if (s) return s;
    json_object_set_new(o, "kind", json_string(kind));
    describe_weights(o, w, true);
    dc_weights_close(w);
    return DC_OK;
}

/* ---- folders --------------------------------------------------------------------------------------------------------- */

/* config.json's keys that tell what a component is. */
static void describe_config(json_t *o, const json_t *config)
{
    static const char *const keys[] = {"_class_name", "architectures", "prediction_type", "sample_size", "in_channels", "cross_attention_dim", "scaling_factor", "hidden_size",
                                       "num_hidden_layers", "projection_dim", "beta_schedule", "timestep_spacing", "rescale_betas_zero_snr"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *v = json_object_get(config, keys[i]);
        if (v && !json_is_null(v)) json_object_set(o, keys[i][0] == '_' ? "class" : keys[i], v);
    }
}

static dc_status read_optional(json_t **out, const char *folder, const char *name, dc_error *e)
{
    char     *path = dc_path_join(folder, name);
    dc_status s    = path ? DC_OK : dc_fail_memory(e, folder, strlen(folder));
    *out           = NULL;
    if (!s && dc_is_file(path)) s = dc_json_read(out, path, DC_JSON_CONFIG_LIMIT, e);
    free(path);
    return s;
}

/* Stem of the weights that a component folder holds, or NULL for schedulers and tokenizers. */
static const char *stem_of(const char *name, const json_t *config)
{
    if (!strncmp(name, "text_encoder", 12) || !strcmp(name, "image_encoder") || !strcmp(name, "safety_checker")) return "model";
    if (!strcmp(name, "unet") || !strcmp(name, "vae") || json_object_get(config, "_class_name")) return "diffusion_pytorch_model";
    return json_object_get(config, "architectures") ? "model" : NULL;
}

static dc_status describe_component(json_t *o, const char *folder, const char *name, dc_error *e)
{
    json_t   *config = NULL;
    bool      scheduler = !strcmp(name, "scheduler");
    dc_status s = read_optional(&config, folder, scheduler ? "scheduler_config.json" : !strncmp(name, "tokenizer", 9) ? "tokenizer_config.json" : "config.json", e);
    if (!s) describe_config(o, config);
    const char *stem = s || scheduler || !strncmp(name, "tokenizer", 9) || !strcmp(name, "feature_extractor") ? NULL : stem_of(name, config);
    dc_weights *w    = NULL;
    dc_error    own  = {0};
    if (stem && dc_weights_open_folder(&w, folder, stem, &own)) {
        if (own.code != DC_NO_INPUT) s = dc_fail(e, own.code, "%s", own.text);
        else json_object_set_new(o, "missing", json_string(own.text));
    }
    if (w) {
        json_object_set_new(o, "file", json_string(dc_weights_path(w)));
        describe_weights(o, w, false);
    }
    dc_weights_close(w);
    json_decref(config);
    return s;
}

static dc_status inspect_model(json_t *o, const char *path, const json_t *index, dc_error *e)
{
    const char *key;
    json_t     *value, *components = json_object();
    dc_status   s = DC_OK;
    json_object_set_new(o, "kind", json_string("diffusers model"));
    json_object_set(o, "class", json_object_get(index, "_class_name"));
    json_object_set_new(o, "components", components);
    json_object_foreach((json_t *)index, key, value)
    {
        if (s || !json_is_array(value) || !json_is_string(json_array_get(value, 1))) continue;
        json_t *one = json_object();
        json_object_set_new(components, key, one);
        char *folder = dc_is_safe_relative(key) ? dc_path_join(path, key) : NULL;
        if (folder && dc_is_folder(folder)) s = describe_component(one, folder, key, e);
        else json_object_set_new(one, "missing", json_string("no such folder"));
        if (!json_object_get(one, "class")) json_object_set(one, "class", json_array_get(value, 1));
        free(folder);
    }
    const json_t *scheduler = json_object_get(components, "scheduler");
    json_t       *p         = json_object_get(scheduler, "prediction_type");
    if (p) json_object_set(o, "prediction", p);
    else json_object_set_new(o, "prediction", json_string("epsilon"));
    return s;
}

static dc_status inspect_folder(json_t *o, const char *path, dc_error *e)
{
    json_t   *index = NULL;
    dc_status s     = read_optional(&index, path, "model_index.json", e);
    if (!s && index) s = inspect_model(o, path, index, e);
    else if (!s) {
        json_t *config = NULL;
        json_object_set_new(o, "kind", json_string("component"));
        s = read_optional(&config, path, "config.json", e);
        if (!s && !config) {
            s = dc_fail(e, DC_NO_INPUT, "%s: found neither model_index.json nor config.json, expected a diffusers folder", path);
        } else if (!s) {
            const char *slash = strrchr(path, '/');
            s                 = describe_component(o, path, slash ? slash + 1 : path, e);
        }
        json_decref(config);
    }
    json_decref(index);
    return s;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------------ */

static dc_status inspect_npy(json_t *o, const char *path, dc_error *e)
{
    dc_npy    n;
    dc_status s = dc_npy_read(&n, path, e);
    if (s) return s;
    json_object_set_new(o, "kind", json_string("npy"));
    json_object_set_new(o, "dtype", json_string(n.kind));
    json_object_set_new(o, "shape", shape_of(n.dim, n.rank));
    free(n.data);
    return DC_OK;
}

static bool begins(const char *path, const char *magic, size_t n)
{
    dc_map m;
    bool   yes = dc_map_open(&m, path, NULL) == DC_OK && m.size >= n && !memcmp(m.data, magic, n);
    dc_map_close(&m);
    return yes;
}

dc_status dc_inspect(json_t **out, const char *path, dc_error *e)
{
    dc_error  own = {0};
    json_t   *o   = json_object();
    size_t    n   = strlen(path);
    dc_status s;
    if (!e) e = &own;
    *out = NULL;
    json_object_set_new(o, "path", json_string(path));
    if (dc_is_folder(path)) s = inspect_folder(o, path, e);
    else if (n > 11 && !strcmp(path + n - 11, ".index.json")) s = inspect_weights(o, path, "safetensors index", e);
    else if (begins(path, "\x93NUMPY", 6)) s = inspect_npy(o, path, e);
    else s = inspect_weights(o, path, "safetensors", e);
    if (s) json_decref(o);
    else *out = o;
    return s;
}
