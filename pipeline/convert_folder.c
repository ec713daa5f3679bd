/* convert_folder.c - a diffusers folder: for each part its configuration and weights, the noise schedule, tokenizers, model_index.json. */
#include "pipeline/convert.h"
#include <stdlib.h>
#include <string.h>

/* ---- small files ------------------------------------------------------------------------------------------------------ */

static dc_status put_bytes(conversion *c, const char *name, const char *bytes, size_t n)
{
    const char *path;
    dc_out *out = NULL;
    dc_status s = dc_out_folder_file(c->folder, name, &path, c->e);
    if (!s) s = dc_out_open(&out, path, false, NULL, c->e);
    if (!s) s = dc_out_write(out, bytes, n, c->e);
    if (s) {
        dc_out_abandon(out);
        return s;
    }
    c->written += n;
    return dc_out_commit(out, c->e);
}

static dc_status put_json(conversion *c, const char *name, const json_t *root)
{
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    dc_status s = text ? put_bytes(c, name, text, strlen(text)) : dc_fail_memory(c->e, name, 0);
    free(text);
    return s;
}

/* ---- parts ------------------------------------------------------------------------------------------------------------- */

static bool is_text(dc_part p) { return p == DC_PART_TEXT || p == DC_PART_TEXT_2; }

static const char *class_of(const conversion *c, dc_part p)
{
    static const char *const usual[DC_PARTS] = {"CLIPTextModel", "CLIPTextModelWithProjection", "UNet2DConditionModel", "AutoencoderKL"};
    const json_t *config = c->part[p].config;
    const char *name =
        json_string_value(is_text(p) ? json_array_get(json_object_get(config, "architectures"), 0) : json_object_get(config, "_class_name"));
    return name ? name : usual[p];
}

/* Single files have text layers that diffusers' classes leave out: the last one of 2.x, and a projection that is not used. */
static bool is_used(const conversion *c, dc_part p, const char *name)
{
    int layer;
    const json_t *layers = json_object_get(c->part[p].config, "num_hidden_layers");
    if (!is_text(p)) return true;
    if (!strcmp(name, "text_projection.weight")) return !strcmp(class_of(c, p), "CLIPTextModelWithProjection");
    return sscanf(name, "text_model.encoder.layers.%d.", &layer) != 1 || !json_is_integer(layers) || layer < json_integer_value(layers);
}

static dc_status list_part(conversion *c, dc_part p, dc_write_list *l)
{
    const dc_weights *w = c->part[p].weights;
    if (p == DC_PART_VAE && !dc_weights_find(w, "decoder.conv_in.weight") && !dc_weights_find(w, "decoder.layers.0.weight")) {
        dc_status s = dc_fail(c->e, DC_DATA, "%s: found one half of a TAESD, expected both for a folder", dc_weights_path(w));
        dc_hint(c->e, "A name ending in .safetensors keeps it as it is.");
        return s;
    }
    for (int i = 0; i < dc_weights_count(w); i++) {
        const dc_stored *t = dc_weights_at(w, i);
        if (is_used(c, p, t->name) && !dc_write_add(l, t->name, &t, 1, c->e)) return DC_NO_MEMORY;
    }
    convert_note(c, p, l->n, dc_write_bytes(l, 0, c->w.type));
    return DC_OK;
}

/* config.json of a text encoder names the type of its weights. */
static dc_status name_type(const conversion *c, json_t *config)
{
    static const char *const names[] = {[DC_WRITE_F32] = "float32", [DC_WRITE_F16] = "float16", [DC_WRITE_BF16] = "bfloat16"};
    static const char *const keys[] = {"torch_dtype", "dtype"};
    for (int i = 0; i < 2; i++)
        if (c->w.type != DC_WRITE_AUTO && json_is_string(json_object_get(config, keys[i])) &&
            json_object_set_new(config, keys[i], json_string(names[c->w.type])) != 0)
            return dc_fail_memory(c->e, "a configuration", 0);
    return DC_OK;
}

/* Into the folder `below` ("unet/", or "" for the whole folder). */
static dc_status put_part(conversion *c, dc_part p, const char *below, dc_write_list *l)
{
    char name[80];
    const char *path;
    snprintf(name, sizeof name, "%sconfig.json", below);
    dc_status s = name_type(c, c->part[p].config);
    if (!s) s = put_json(c, name, c->part[p].config);
    snprintf(name, sizeof name, "%s%s.safetensors", below, is_text(p) ? "model" : "diffusion_pytorch_model");
    if (!s) s = dc_out_folder_file(c->folder, name, &path, c->e);
    return s ? s : convert_write(c, path, l, dc_part_folder(p));
}

/* ---- tokenizers -------------------------------------------------------------------------------------------------------- */

static dc_status copy_tokenizer(conversion *c, const char *from, const char *to)
{
    static const char *const files[] = {"vocab.json",        "merges.txt",    "tokenizer_config.json", "special_tokens_map.json",
                                        "added_tokens.json", "tokenizer.json"};
    dc_status s = DC_OK;
    for (size_t i = 0; !s && i < sizeof files / sizeof *files; i++) {
        char *path = dc_path_join(from, files[i]), name[64], *bytes = NULL;
        size_t n = 0;
        snprintf(name, sizeof name, "%s/%s", to, files[i]);
        if (!path) s = dc_fail_memory(c->e, from, strlen(from));
        else if (dc_is_file(path)) {
            s = dc_read_file(path, 64u << 20, &bytes, &n, c->e);
            if (!s) s = put_bytes(c, name, bytes, n);
        }
        free(bytes);
        free(path);
    }
    return s;
}

static json_t *special_token(const char *text)
{
    return json_pack("{s:s, s:b, s:b, s:b, s:b}", "content", text, "lstrip", 0, "normalized", 1, "rstrip", 0, "single_word", 0);
}

/* The files beside the vocabulary, as the published folders of 1.x have them. */
static dc_status put_token_settings(conversion *c, const char *to, const dc_tokenizer *t)
{
    char name[64];
    const char *pad = dc_tokenizer_token(t, dc_tokenizer_pad(t)), *end = dc_tokenizer_token(t, dc_tokenizer_end(t));
    json_t *special = json_pack("{s:o, s:o, s:o, s:s}", "bos_token", special_token(dc_tokenizer_token(t, dc_tokenizer_start(t))), "eos_token",
                                special_token(end), "unk_token", special_token(end), "pad_token", pad);
    json_t *config = json_pack("{s:b, s:b, s:s, s:i, s:s}", "add_prefix_space", 0, "do_lower_case", 1, "errors", "replace", "model_max_length",
                               dc_tokenizer_max_length(t), "tokenizer_class", "CLIPTokenizer");
    json_t *value;
    const char *key;
    bool whole = special && config;
    if (whole) json_object_foreach(special, key, value)
        {
            json_t *copy = json_deep_copy(value);
            if (json_is_object(copy)) whole &= json_object_set_new(copy, "__type", json_string("AddedToken")) == 0;
            whole &= json_object_set_new(config, key, copy) == 0;
        }
    dc_status s = whole ? DC_OK : dc_fail_memory(c->e, "a tokenizer", 0);
    snprintf(name, sizeof name, "%s/special_tokens_map.json", to);
    if (!s) s = put_json(c, name, special);
    snprintf(name, sizeof name, "%s/tokenizer_config.json", to);
    if (!s) s = put_json(c, name, config);
    json_decref(special);
    json_decref(config);
    return s;
}

/* CLIP's own vocabulary, cut to the encoder's. */
static dc_status make_tokenizer(conversion *c, dc_part p, const char *to)
{
    const json_t *config = c->part[p].config;
    dc_config x = {config, c->part[p].config_path, c->e};
    int size = (int)dc_config_int(&x, "vocab_size", 49408, 1, 1 << 24);
    char *merges = NULL, name[64];
    dc_tokenizer *t = NULL;
    dc_text vocab = {0}, list = {0};
    dc_status s = c->e->code ? c->e->code : asset_path(&merges, "clip_merges.txt.gz", c->e);
    if (!s) s = dc_tokenizer_open_merges(&t, merges, size, c->e);
    if (!s && c->m->file && !strcmp(dc_config_string(&x, "hidden_act", "quick_gelu"), "gelu")) dc_tokenizer_pad_with(t, 0); /* as open.c */
    if (!s) s = dc_tokenizer_text(t, &vocab, &list, c->e);
    snprintf(name, sizeof name, "%s/vocab.json", to);
    if (!s) s = put_bytes(c, name, vocab.at, vocab.length);
    snprintf(name, sizeof name, "%s/merges.txt", to);
    if (!s) s = put_bytes(c, name, list.at, list.length);
    if (!s) s = put_token_settings(c, to, t);
    dc_text_free(&vocab);
    dc_text_free(&list);
    dc_tokenizer_close(t);
    free(merges);
    return s;
}

static dc_status put_tokenizer(conversion *c, dc_part p)
{
    const char *name = p == DC_PART_TEXT ? "tokenizer" : "tokenizer_2";
    char *from = c->m->folder ? dc_path_join(c->m->folder, name) : NULL;
    dc_status s = c->m->folder && !from ? dc_fail_memory(c->e, "a path", 0) : dc_out_folder_make(c->folder, name, c->e);
    if (!s) s = from && dc_is_folder(from) ? copy_tokenizer(c, from, name) : make_tokenizer(c, p, name);
    free(from);
    return s;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------------ */

static dc_status put_scheduler(conversion *c, char *class_name, size_t size)
{
    json_t *root = NULL;
    dc_status s = dc_out_folder_make(c->folder, "scheduler", c->e);
    if (!s) s = convert_scheduler(c, &root);
    if (!s) s = put_json(c, "scheduler/scheduler_config.json", root);
    const char *name = json_string_value(json_object_get(root, "_class_name"));
    snprintf(class_name, size, "%s", name ? name : "PNDMScheduler");
    json_decref(root);
    return s;
}

static const char *pipeline_of(const conversion *c)
{
    const json_t *unet = c->part[DC_PART_UNET].config;
    bool xl = c->part[DC_PART_TEXT_2].weights != NULL, inpaint = json_integer_value(json_object_get(unet, "in_channels")) == 9;
    if (json_is_integer(json_object_get(unet, "time_cond_proj_dim")) && !xl) return "LatentConsistencyModelPipeline";
    if (xl) return inpaint ? "StableDiffusionXLInpaintPipeline" : "StableDiffusionXLPipeline";
    return inpaint ? "StableDiffusionInpaintPipeline" : "StableDiffusionPipeline";
}

/* The index of the folder that the model is or is described by, or a new one; it lists what is written here, and nothing else. */
static dc_status put_index(conversion *c, const char *scheduler)
{
    model_index x = {0};
    dc_status s = c->m->folder ? index_read(&x, c->m->folder, c->e) : DC_OK;
    json_t *index = x.root ? json_incref(x.root) : json_pack("{s:s}", "_class_name", pipeline_of(c)), *value;
    const char *key;
    bool whole = index != NULL;
    json_object_foreach(index, key, value) if (json_is_array(value) && json_array_size(value) == 2) whole &=
        json_array_set_new(value, 0, json_null()) == 0 && json_array_set_new(value, 1, json_null()) == 0;
    for (int p = 0; whole && p < DC_PARTS; p++)
        if (c->part[p].weights)
            whole = json_object_set_new(index, dc_part_folder((dc_part)p),
                                        json_pack("[s,s]", is_text((dc_part)p) ? "transformers" : "diffusers", class_of(c, (dc_part)p))) == 0;
    whole = whole && json_object_set_new(index, "scheduler", json_pack("[s,s]", "diffusers", scheduler)) == 0 &&
            json_object_set_new(index, "tokenizer", json_pack("[s,s]", "transformers", "CLIPTokenizer")) == 0;
    if (c->part[DC_PART_TEXT_2].weights)
        whole = whole && json_object_set_new(index, "tokenizer_2", json_pack("[s,s]", "transformers", "CLIPTokenizer")) == 0;
    else
        whole = whole && json_object_set_new(index, "safety_checker", json_pack("[n,n]")) == 0 &&
                json_object_set_new(index, "feature_extractor", json_pack("[n,n]")) == 0 &&
                json_object_set_new(index, "requires_safety_checker", json_false()) == 0;
    if (!s) s = whole ? put_json(c, "model_index.json", index) : dc_fail_memory(c->e, "model_index.json", 0);
    json_decref(index);
    index_close(&x);
    return s;
}

dc_status convert_to_folder(conversion *c)
{
    dc_write_list l[DC_PARTS] = {{0}};
    char below[32], scheduler[64];
    dc_status s = DC_OK;
    for (int p = 0; !s && p < DC_PARTS; p++) {
        if (c->part[p].weights) s = list_part(c, (dc_part)p, &l[p]);
        c->total += dc_write_bytes(&l[p], 0, c->w.type);
    }
    for (int p = 0; !s && p < DC_PARTS; p++) {
        if (!c->part[p].weights) continue;
        snprintf(below, sizeof below, "%s%s", c->alone ? "" : dc_part_folder((dc_part)p), c->alone ? "" : "/");
        if (!c->alone) s = dc_out_folder_make(c->folder, dc_part_folder((dc_part)p), c->e);
        if (!s) s = put_part(c, (dc_part)p, below, &l[p]);
        if (!s && is_text((dc_part)p) && !c->alone) s = put_tokenizer(c, (dc_part)p);
    }
    if (!s && !c->alone) s = put_scheduler(c, scheduler, sizeof scheduler);
    if (!s && !c->alone) s = put_index(c, scheduler);
    for (int p = 0; p < DC_PARTS; p++) dc_write_list_free(&l[p]);
    return s;
}
