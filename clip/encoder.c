/* encoder.c - the layers of both towers. Ref: transformers models/clip/modeling_clip.py. */
#include "clip/encoder.h"
#include <stddef.h>
#include <string.h>

/* ---- config ------------------------------------------------------------------------------------------------------ */

const json_t *dc_clip_section(const json_t *root, const char *key, bool *inner)
{
    char old[64];
    snprintf(old, sizeof old, "%s_dict", key);
    const json_t *section = json_object_get(root, old);
    if (!json_is_object(section)) section = json_object_get(root, key);
    *inner = json_is_object(section);
    return *inner ? section : root;
}

bool dc_clip_has_architecture(const json_t *root, const char *name)
{
    const json_t *list = json_object_get(root, "architectures"), *v;
    size_t i;
    json_array_foreach(list, i, v) if (json_is_string(v) && !strcmp(json_string_value(v), name)) return true;
    return false;
}

void dc_clip_block_read(dc_clip_block *c, const dc_config *f, const dc_clip_block *absent)
{
    const char *act = dc_config_string(f, "hidden_act", absent->act == DC_ACT_GELU ? "gelu" : "quick_gelu");
    *c = (dc_clip_block){
        .width = (int)dc_config_int(f, "hidden_size", absent->width, 1, 16384),
        .layers = (int)dc_config_int(f, "num_hidden_layers", absent->layers, 1, 256),
        .heads = (int)dc_config_int(f, "num_attention_heads", absent->heads, 1, 1024),
        .inner = (int)dc_config_int(f, "intermediate_size", absent->inner, 1, 65536),
        .norm_eps = (float)dc_config_real(f, "layer_norm_eps", absent->norm_eps, 1e-12, 1),
        .act = !strcmp(act, "gelu") ? DC_ACT_GELU : DC_ACT_QUICK_GELU,
    };
    if (!f->e->code && strcmp(act, "gelu") && strcmp(act, "quick_gelu"))
        dc_fail(f->e, DC_DATA, "%s: hidden_act: found %s, expected quick_gelu or gelu", f->path, act);
    if (!f->e->code && c->width % c->heads)
        dc_fail(f->e, DC_DATA, "%s: hidden_size: found %d, expected a multiple of num_attention_heads (%d)", f->path, c->width, c->heads);
}

/* ---- weights ------------------------------------------------------------------------------------------------------ */

void dc_clip_layers_bind(dc_clip_layer *layers, const dc_clip_block *c, dc_binder *b, const char *prefix)
{
    static const dc_bind rows[] = {
        {"layer_norm1", offsetof(dc_clip_layer, norm1), "C", 0},
        {"self_attn.q_proj|self_attn.k_proj|self_attn.v_proj", offsetof(dc_clip_layer, qkv), "Q C", 0},
        {"self_attn.out_proj", offsetof(dc_clip_layer, out), "C C", 0},
        {"layer_norm2", offsetof(dc_clip_layer, norm2), "C", 0},
        {"mlp.fc1", offsetof(dc_clip_layer, fc1), "I C", 0},
        {"mlp.fc2", offsetof(dc_clip_layer, fc2), "C I", 0},
    };
    dc_dims d = {.C = c->width, .Q = 3 * c->width, .I = c->inner};
    for (int i = 0; i < c->layers; i++) dc_bind_layers(b, &layers[i], rows, 6, d, "%sencoder.layers.%d", prefix, i);
}

/* ---- forward --------------------------------------------------------------------------------------------------------- */

/* Of each image its row index[n], as one token: [N,T,C] -> [N,1,C]. */
static dc_tensor pick(dc_run *r, dc_tensor x, dc_tensor index)
{
    const int64_t dim[3] = {x.dim[0], 1, dc_channels(x)};
    return dc_view_as(dc_gather_rows(r, x, index), 3, dim);
}

dc_tensor dc_clip_layer_forward(const dc_clip_layer *m, const dc_clip_block *c, dc_run *r, dc_tensor x, bool causal, dc_tensor only)
{
    const int64_t C = c->width;
    dc_tensor h = dc_layer_norm(r, x, m->norm1, c->norm_eps);
    dc_tensor qkv = dc_linear(r, h, m->qkv, (dc_linear_opt){0});
    if (!dc_run_ok(r)) return DC_NONE;
    dc_tensor q = dc_view_channels(qkv, 0, C);
    if (!dc_is_none(only)) {
        q = pick(r, q, only);
        x = pick(r, x, only);
    }
    h = dc_attention(r, q, dc_view_channels(qkv, C, C), dc_view_channels(qkv, 2 * C, C), (dc_attention_opt){.heads = c->heads, .causal = causal});
    x = dc_linear(r, h, m->out, (dc_linear_opt){.residual = x});

    h = dc_layer_norm(r, x, m->norm2, c->norm_eps);
    h = dc_linear(r, h, m->fc1, (dc_linear_opt){.act = c->act});
    return dc_linear(r, h, m->fc2, (dc_linear_opt){.residual = x});
}
