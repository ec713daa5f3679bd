/* openclip.c - open_clip's configuration translated. */
#include "clip/openclip.h"
#include <string.h>

/* A section being read; `config.e` is sticky. */
typedef struct section {
    dc_config c;
    const char *name; /* "vision_cfg" */
} section;

/* A feature that is there only with another value than `usual`: refused by name. */
static void refuse(const section *s, const char *key, const char *found, const char *usual)
{
    if (s->c.e->code) return;
    dc_fail(s->c.e, DC_DATA, "%s: %s.%s: found %s, expected %s", s->c.path, s->name, key, found, usual);
    dc_hint(s->c.e, "diffc runs CLIP's own towers: ViT for pictures, a causal transformer for texts.");
}

static void need_word(const section *s, const char *key, const char *usual)
{
    const char *v = dc_config_string(&s->c, key, usual);
    if (strcmp(v, usual) != 0) refuse(s, key, v, usual);
}

/* Switches and settings that change the arithmetic when they are set to anything but false, 0 or null. */
static void need_unset(const section *s, const char *const *keys)
{
    for (; *keys; keys++) {
        const json_t *v = json_object_get(s->c.root, *keys);
        bool unset = !v || json_is_null(v) || json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0);
        if (!unset) refuse(s, *keys, json_is_string(v) ? json_string_value(v) : "it set", "it unset");
    }
}

/* {"eps": ..} */
static double norm_eps(const section *s)
{
    dc_config c = {json_object_get(s->c.root, "norm_kwargs"), s->c.path, s->c.e};
    return dc_config_real(&c, "eps", 1e-5, 1e-12, 1);
}

/* o with what is in `more`; takes both. NULL when memory is out. */
static json_t *with(json_t *o, json_t *more)
{
    if (o && more && !json_object_update_new(o, more)) return o;
    if (!o) json_decref(more);
    json_decref(o);
    return NULL;
}

static json_t *layers_of(const section *s, int width, int layers, int heads, bool quick, const char *kind)
{
    double ratio = dc_config_real(&s->c, "mlp_ratio", 4, 1.0 / 64, 64);
    return json_pack("{s:s,s:i,s:i,s:i,s:i,s:f,s:s}", "model_type", kind, "hidden_size", width, "num_hidden_layers", layers, "num_attention_heads",
                     heads, "intermediate_size", (int)(width * ratio), "layer_norm_eps", norm_eps(s), "hidden_act", quick ? "quick_gelu" : "gelu");
}

static json_t *vision(const section *s, int embed, bool quick)
{
    static const char *const others[] = {"timm_model_name", "ls_init_value",    "attentional_pool", "act_kwargs", "qk_norm", "scaled_cosine_attn",
                                         "scale_heads",     "scale_attn_inner", "scale_attn",       "scale_fc",   NULL};
    int image[2] = {224, 224}, patch[2] = {16, 16}, head = (int)dc_config_int(&s->c, "head_width", 64, 1, 16384);
    if (json_is_array(json_object_get(s->c.root, "layers"))) refuse(s, "layers", "a list: a ResNet", "a number: a ViT");
    need_unset(s, others);
    need_word(s, "pool_type", "tok");
    if (dc_config_ints(&s->c, "image_size", image, 2, 1, 4096) == 1) image[1] = image[0];
    if (dc_config_ints(&s->c, "patch_size", patch, 2, 1, 256) == 1) patch[1] = patch[0];
    if (image[0] != image[1]) refuse(s, "image_size", "two numbers", "a square");
    if (patch[0] != patch[1]) refuse(s, "patch_size", "two numbers", "a square");
    int width = (int)dc_config_int(&s->c, "width", 768, 1, 16384), layers = (int)dc_config_int(&s->c, "layers", 12, 1, 256);
    bool bare = dc_config_bool(&s->c, "no_ln_pre", false);
    return with(layers_of(s, width, layers, width / head ? width / head : 1, quick, "clip_vision_model"),
                json_pack("{s:i,s:i,s:i,s:b}", "image_size", image[0], "patch_size", patch[0], "projection_dim", embed, "diffc_pre_norm", !bare));
}

/* Pooling is at the largest id, which transformers calls an eos_token_id of 2. */
static json_t *text(const section *s, int embed, bool quick)
{
    static const char *const others[] = {"hf_model_name",
                                         "ls_init_value",
                                         "embed_cls",
                                         "no_causal_mask",
                                         "final_ln_after_pool",
                                         "act_kwargs",
                                         "qk_norm",
                                         "scaled_cosine_attn",
                                         "scale_heads",
                                         "scale_attn_inner",
                                         "scale_attn",
                                         "scale_fc",
                                         NULL};
    need_unset(s, others);
    need_word(s, "pool_type", "argmax");
    int width = (int)dc_config_int(&s->c, "width", 512, 1, 16384), layers = (int)dc_config_int(&s->c, "layers", 12, 1, 256);
    int heads = (int)dc_config_int(&s->c, "heads", 8, 1, 1024);
    return with(layers_of(s, width, layers, heads, quick, "clip_text_model"),
                json_pack("{s:i,s:i,s:i,s:i}", "vocab_size", (int)dc_config_int(&s->c, "vocab_size", 49408, 3, 1 << 20), "max_position_embeddings",
                          (int)dc_config_int(&s->c, "context_length", 77, 3, 4096), "projection_dim", embed, "eos_token_id", 2));
}

dc_status dc_openclip_config(json_t **out, const json_t *root, const char *path, dc_error *e)
{
    const json_t *model = json_object_get(root, "model_cfg");
    if (!model) model = root;
    const json_t *v = json_object_get(model, "vision_cfg"), *t = json_object_get(model, "text_cfg");
    *out = NULL;
    if (!json_is_object(v) || !json_is_object(t))
        return dc_fail(e, DC_DATA, "%s: model_cfg: found no vision_cfg and text_cfg in it, expected a configuration of open_clip", path);
    section own = {{model, path, e}, "model_cfg"}, pictures = {{v, path, e}, "vision_cfg"}, texts = {{t, path, e}, "text_cfg"};
    int embed = (int)dc_config_int(&own.c, "embed_dim", 512, 1, 16384);
    bool quick = dc_config_bool(&own.c, "quick_gelu", false);
    json_t *a = vision(&pictures, embed, quick), *b = text(&texts, embed, quick);
    if (!e->code && (!a || !b)) dc_fail_memory(e, "a configuration", 0);
    if (!e->code && !(*out = json_pack("{s:o,s:o,s:i}", "vision_config", json_incref(a), "text_config", json_incref(b), "projection_dim", embed)))
        dc_fail_memory(e, "a configuration", 0);
    json_decref(a);
    json_decref(b);
    return e->code;
}
