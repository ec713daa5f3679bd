/* vision.c - the picture towers. Ref: Dosovitskiy et al. 2020, sec. 3.1; transformers models/clip/modeling_clip.py. */
#include "clip/vision.h"
#include "base/checked.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dc_clip_vision {
    dc_clip_vision_config config;
    dc_params *params;
    dc_param *class_token, *patches, *positions, *pre_norm, *post_norm, *projection;
    dc_clip_layer *layers;
    int32_t *numbers; /* 0 .. tokens-1 */
};

/* ---- config ------------------------------------------------------------------------------------------------------ */

dc_status dc_clip_vision_config_read(dc_clip_vision_config *c, const json_t *root, const char *path, dc_error *e)
{
    if (!json_is_object(root)) return dc_fail(e, DC_DATA, "%s: found no JSON object, expected the configuration of a picture encoder", path);
    bool inner;
    static const dc_clip_block absent = {768, 12, 12, 3072, 1e-5f, DC_ACT_QUICK_GELU}; /* transformers' CLIPVisionConfig */
    dc_config f = {dc_clip_section(root, "vision_config", &inner), path, e}, own = {root, path, e};
    const char *kind = dc_config_string(&f, "model_type", "clip_vision_model");
    *c = (dc_clip_vision_config){
        .image = (int)dc_config_int(&f, "image_size", 224, 1, 4096),
        .patch = (int)dc_config_int(&f, "patch_size", 32, 1, 256),
        .projection = (int)dc_config_int(inner ? &own : &f, "projection_dim", 512, 1, 16384),
        .pre_norm = dc_config_bool(&f, "diffc_pre_norm", true),
    };
    dc_clip_block_read(&c->block, &f, &absent);
    dc_config_int(&f, "num_channels", 3, 3, 3);
    c->must_project = dc_clip_has_architecture(root, "CLIPVisionModelWithProjection") || dc_clip_has_architecture(root, "CLIPModel");
    if (!e->code && strcmp(kind, "clip_vision_model") && strcmp(kind, "clip"))
        dc_fail(e, DC_DATA, "%s: model_type: found %s, expected clip_vision_model or clip", path, kind);
    if (!e->code && c->patch > c->image)
        dc_fail(e, DC_DATA, "%s: patch_size: found %d, expected at most the image_size of %d", path, c->patch, c->image);
    if (!e->code && dc_clip_vision_tokens(c) > 65536)
        dc_fail(e, DC_DATA, "%s: image_size: found %d patches, expected at most 65535", path, dc_clip_vision_tokens(c) - 1);
    return e->code;
}

int dc_clip_vision_tokens(const dc_clip_vision_config *c)
{
    const int side = c->image / c->patch;
    return side * side + 1;
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static void bind_all(dc_clip_vision *m, dc_binder *b)
{
    static const dc_bind rows[] = {
        {"vision_model.embeddings.class_embedding", offsetof(dc_clip_vision, class_token), "1 C", DC_BIND_TABLE | DC_BIND_BARE},
        {"vision_model.embeddings.patch_embedding", offsetof(dc_clip_vision, patches), "C 3 P P", DC_BIND_FLAT | DC_BIND_BIAS_OPTIONAL},
        {"vision_model.embeddings.position_embedding", offsetof(dc_clip_vision, positions), "T C", DC_BIND_TABLE | DC_BIND_NO_BIAS},
        {"vision_model.post_layernorm", offsetof(dc_clip_vision, post_norm), "C", 0},
    };
    static const dc_bind first[] = {{"vision_model.pre_layrnorm", offsetof(dc_clip_vision, pre_norm), "C", 0}};
    static const dc_bind last[] = {{"visual_projection", offsetof(dc_clip_vision, projection), "O C", DC_BIND_NO_BIAS}};
    const dc_clip_vision_config *c = &m->config;
    const dc_dims d = {.C = c->block.width, .P = c->patch, .T = dc_clip_vision_tokens(c), .O = c->projection};
    dc_bind_layers(b, m, rows, 4, d, "%s", "");
    if (c->pre_norm) dc_bind_layers(b, m, first, 1, d, "%s", "");
    dc_clip_layers_bind(m->layers, &c->block, b, "vision_model.");
    if (c->must_project || dc_bind_has(b, "visual_projection.weight")) dc_bind_layers(b, m, last, 1, d, "%s", "");
    else m->config.projection = 0;
}

dc_status dc_clip_vision_open(dc_clip_vision **out, const dc_clip_vision_config *c, const dc_weights *w, dc_device *d, const dc_log *log, dc_error *e)
{
    const size_t tokens = (size_t)dc_clip_vision_tokens(c);
    *out = NULL;
    dc_clip_vision *m = dc_calloc(1, sizeof *m);
    if (!m) return dc_fail_memory(e, "a picture encoder", sizeof *m);
    m->config = *c;
    m->params = dc_params_new(d, "picture encoder");
    m->layers = dc_calloc((size_t)c->block.layers, sizeof *m->layers);
    m->numbers = dc_calloc(tokens, sizeof *m->numbers);
    dc_binder *b = m->params && m->layers && m->numbers ? dc_binder_new(w, m->params, "picture encoder") : NULL;
    if (!b) {
        dc_clip_vision_close(m);
        return dc_fail_memory(e, "a picture encoder", sizeof *m->layers * (unsigned long long)c->block.layers);
    }
    for (size_t i = 0; i < tokens; i++) m->numbers[i] = (int32_t)i;
    bind_all(m, b);
    dc_status s = dc_binder_finish(b, log, e);
    if (s) dc_clip_vision_close(m);
    else *out = m;
    return s;
}

void dc_clip_vision_close(dc_clip_vision *m)
{
    if (!m) return;
    dc_params_free(m->params);
    free(m->layers);
    free(m->numbers);
    free(m);
}

dc_params *dc_clip_vision_params(dc_clip_vision *m) { return m->params; }
const dc_clip_vision_config *dc_clip_vision_configuration(const dc_clip_vision *m) { return &m->config; }

/* ---- forward --------------------------------------------------------------------------------------------------------- */

size_t dc_clip_vision_patch_values(const dc_clip_vision_config *c)
{
    return (size_t)dc_clip_vision_tokens(c) * 3 * (size_t)c->patch * (size_t)c->patch;
}

void dc_clip_vision_patches(const dc_clip_vision_config *c, const float *planes, float *patches)
{
    const size_t S = (size_t)c->image, P = (size_t)c->patch, side = S / P;
    memset(patches, 0, 3 * P * P * sizeof *patches);
    patches += 3 * P * P;
    for (size_t y = 0; y < side; y++)
        for (size_t x = 0; x < side; x++)
            for (size_t row = 0; row < 3 * P; row++, patches += P) /* of each plane P rows */
                memcpy(patches, planes + (row / P * S + y * P + row % P) * S + x * P, P * sizeof *patches);
}

/* What is added to the patches of every picture: positions, and the class to the first: [1,T,C]. */
static dc_tensor place_forward(const dc_clip_vision *m, dc_run *r)
{
    const int64_t T = dc_clip_vision_tokens(&m->config), C = m->config.block.width;
    dc_tensor place = dc_embed(r, dc_upload(r, DC_I32, 2, (int64_t[2]){T, 1}, m->numbers), m->positions, NULL);
    dc_tensor class_token = dc_embed(r, dc_upload(r, DC_I32, 2, (int64_t[2]){1, 1}, m->numbers), m->class_token, NULL);
    if (!dc_run_ok(r)) return DC_NONE;
    dc_tensor first = dc_view_batch(place, 0, 1);
    dc_lincomb_into(r, first, (dc_term[]){{1, first}, {1, class_token}}, 2);
    return dc_view_as(place, 3, (int64_t[3]){1, T, C});
}

dc_tensor dc_clip_vision_forward(const dc_clip_vision *m, dc_run *r, const float *patches, int n)
{
    static const int32_t zeros[DC_CLIP_MOST_IMAGES];
    const dc_clip_vision_config *c = &m->config;
    const int64_t T = dc_clip_vision_tokens(c);
    char name[32];
    if (n < 1 || n > DC_CLIP_MOST_IMAGES) {
        dc_run_fail(r, DC_USAGE, "picture encoder: found %d pictures, expected 1 to %d", n, DC_CLIP_MOST_IMAGES);
        return DC_NONE;
    }
    dc_tensor x = dc_upload(r, DC_F32, 3, (int64_t[3]){n, T, 3 * (int64_t)c->patch * c->patch}, patches);
    x = dc_linear(r, x, m->patches, (dc_linear_opt){0});
    x = dc_lincomb(r, (dc_term[]){{1, x}, {1, place_forward(m, r)}}, 2);
    if (m->pre_norm) x = dc_layer_norm(r, x, m->pre_norm, c->block.norm_eps);
    dc_tap(r, "hidden.0", x);

    dc_tensor top = dc_upload(r, DC_I32, 1, (int64_t[1]){n}, zeros); /* the class token: of the last layer no other is needed */
    for (int i = 0; i < c->block.layers; i++) {
        const bool last = i + 1 == c->block.layers && !dc_tapping(r);
        x = dc_clip_layer_forward(&m->layers[i], &c->block, r, x, false, last ? top : DC_NONE);
        snprintf(name, sizeof name, "hidden.%d", i + 1);
        dc_tap(r, name, x);
    }
    x = dc_gather_rows(r, x, top);
    x = dc_layer_norm(r, x, m->post_norm, c->block.norm_eps);
    dc_tap(r, "pooled", x);
    if (m->projection) x = dc_linear(r, x, m->projection, (dc_linear_opt){0});
    dc_tap(r, "embeds", x);
    return x;
}
