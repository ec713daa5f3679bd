/* text.c - the text towers. Ref: Radford et al. 2021, sec. 2.4; transformers models/clip/modeling_clip.py. */
#include "clip/text.h"
#include "base/checked.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dc_clip_text {
    dc_clip_text_config config;
    dc_params *params;
    dc_param *tokens, *positions, *final_norm, *projection;
    dc_clip_block block; /* of the config */
    dc_clip_layer *layers;
};

/* ---- config ------------------------------------------------------------------------------------------------------ */

dc_status dc_clip_text_config_read(dc_clip_text_config *c, const json_t *root, const char *path, dc_error *e)
{
    if (!json_is_object(root)) return dc_fail(e, DC_DATA, "%s: found no JSON object, expected the configuration of a text encoder", path);
    bool inner;
    dc_clip_block b;
    static const dc_clip_block absent = {512, 12, 8, 2048, 1e-5f, DC_ACT_QUICK_GELU}; /* transformers' CLIPTextConfig */
    dc_config f = {dc_clip_section(root, "text_config", &inner), path, e}, own = {root, path, e};
    const char *kind = dc_config_string(&f, "model_type", "clip_text_model");
    dc_clip_block_read(&b, &f, &absent);
    *c = (dc_clip_text_config){
        .width = b.width,
        .layers = b.layers,
        .heads = b.heads,
        .inner = b.inner,
        .norm_eps = b.norm_eps,
        .act = b.act,
        .vocab_size = (int)dc_config_int(&f, "vocab_size", 49408, 3, 1 << 20),
        .positions = (int)dc_config_int(&f, "max_position_embeddings", 77, 3, 4096),
        .projection = (int)dc_config_int(inner ? &own : &f, "projection_dim", 512, 1, 16384),
        .eos_token_id = (int)dc_config_int(&f, "eos_token_id", 49407, 0, 1 << 20),
    };
    c->must_project = dc_clip_has_architecture(root, "CLIPTextModelWithProjection") || dc_clip_has_architecture(root, "CLIPModel");
    if (!e->code && strcmp(kind, "clip_text_model") && strcmp(kind, "clip"))
        dc_fail(e, DC_DATA, "%s: model_type: found %s, expected clip_text_model or clip", path, kind);
    return e->code;
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static void bind_all(dc_clip_text *m, dc_binder *b)
{
    static const dc_bind whole[] = {
        {"embeddings.token_embedding", offsetof(dc_clip_text, tokens), "V C", DC_BIND_TABLE | DC_BIND_NO_BIAS},
        {"embeddings.position_embedding", offsetof(dc_clip_text, positions), "P C", DC_BIND_TABLE | DC_BIND_NO_BIAS},
        {"final_layer_norm", offsetof(dc_clip_text, final_norm), "C", 0},
    };
    static const dc_bind projection[] = {{"text_projection", offsetof(dc_clip_text, projection), "O C", DC_BIND_BIAS_OPTIONAL}};
    const dc_clip_text_config *c = &m->config;
    bool bare = dc_bind_has(b, "embeddings.token_embedding.weight"); /* newer files leave "text_model." out */
    dc_dims d = {.V = c->vocab_size, .C = c->width, .P = c->positions, .O = c->projection};
    dc_bind_layers(b, m, whole, 3, d, "%s", bare ? "" : "text_model");
    dc_clip_layers_bind(m->layers, &m->block, b, bare ? "" : "text_model.");
    if (c->must_project || dc_bind_has(b, "text_projection.weight")) dc_bind_layers(b, m, projection, 1, d, "%s", "");
    else m->config.projection = 0;
}

dc_status dc_clip_text_open(dc_clip_text **out, const dc_clip_text_config *c, const dc_weights *w, dc_device *d, const dc_log *log, dc_error *e)
{
    *out = NULL;
    dc_clip_text *m = dc_calloc(1, sizeof *m);
    if (!m) return dc_fail_memory(e, "a text encoder", sizeof *m);
    m->config = *c;
    m->block = (dc_clip_block){c->width, c->layers, c->heads, c->inner, c->norm_eps, c->act};
    m->params = dc_params_new(d, "text encoder");
    m->layers = dc_calloc((size_t)c->layers, sizeof *m->layers);
    dc_binder *b = m->params && m->layers ? dc_binder_new(w, m->params, "text encoder") : NULL;
    if (!b) {
        dc_clip_text_close(m);
        return dc_fail_memory(e, "a text encoder", sizeof *m->layers * (unsigned long long)c->layers);
    }
    bind_all(m, b);
    dc_status s = dc_binder_finish(b, log, e);
    if (s) dc_clip_text_close(m);
    else *out = m;
    return s;
}

void dc_clip_text_close(dc_clip_text *m)
{
    if (!m) return;
    dc_params_free(m->params);
    free(m->layers);
    free(m);
}

dc_params *dc_clip_text_params(dc_clip_text *m) { return m->params; }
const dc_clip_text_config *dc_clip_text_configuration(const dc_clip_text *m) { return &m->config; }

/* ---- forward --------------------------------------------------------------------------------------------------------- */

/* Where a text ends: at its first end token; in old configs (eos_token_id 2) at its largest id. */
static int end_of(const dc_clip_text_config *c, const int32_t *ids, int t)
{
    int best = 0;
    for (int i = 0; i < t; i++) {
        if (c->eos_token_id != 2 && ids[i] == c->eos_token_id) return i;
        if (c->eos_token_id == 2 && ids[i] > ids[best]) best = i;
    }
    return best;
}

#define MOST_TEXTS 128

static dc_tensor pooled_forward(const dc_clip_text *m, dc_run *r, dc_tensor top, const int32_t *ids, int n, int t)
{
    int32_t at[MOST_TEXTS] = {0};
    for (int i = 0; i < n && ids; i++) at[i] = end_of(&m->config, ids + (size_t)i * (size_t)t, t);
    dc_tensor index = dc_upload(r, DC_I32, 1, (int64_t[4]){n, 0, 0, 0}, at);
    dc_tensor pooled = dc_gather_rows(r, top, index);
    if (m->projection) pooled = dc_linear(r, pooled, m->projection, (dc_linear_opt){0});
    dc_tap(r, "pooled", pooled);
    return pooled;
}

dc_clip_text_out dc_clip_text_forward(const dc_clip_text *m, dc_run *r, const int32_t *ids, int n, int t, int skip, bool normed, bool want_pooled)
{
    const dc_clip_text_config *c = &m->config;
    dc_clip_text_out out = {0};
    char name[32];
    if (n < 1 || n > MOST_TEXTS || t < 1 || t > c->positions || skip < 0 || skip > c->layers) {
        dc_run_fail(r, DC_USAGE, "text encoder: found %d texts of %d tokens and layer %d from the top, expected up to %d of %d and %d", n, t, skip,
                    MOST_TEXTS, c->positions, c->layers);
        return out;
    }
    dc_tensor x = dc_embed(r, dc_upload(r, DC_I32, 2, (int64_t[4]){n, t, 0, 0}, ids), m->tokens, m->positions);
    dc_tap(r, "hidden.0", x);
    if (skip == c->layers) out.hidden = x;
    bool to_top = want_pooled || dc_tapping(r); /* layers above the wanted one matter only for these */
    for (int i = 0; i < (to_top ? c->layers : c->layers - skip); i++) {
        x = dc_clip_layer_forward(&m->layers[i], &m->block, r, x, true, DC_NONE);
        snprintf(name, sizeof name, "hidden.%d", i + 1);
        dc_tap(r, name, x);
        if (i + 1 == c->layers - skip) out.hidden = x;
    }
    if (normed) out.hidden = dc_layer_norm(r, out.hidden, m->final_norm, c->norm_eps);
    if (!to_top) return out;
    dc_tensor top = normed && skip == 0 ? out.hidden : dc_layer_norm(r, x, m->final_norm, c->norm_eps);
    dc_tap(r, "last_hidden_state", top);
    dc_tensor pooled = pooled_forward(m, r, top, ids, n, t);
    if (want_pooled) out.pooled = pooled;
    return out;
}
