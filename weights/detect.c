/* detect.c - configurations from the shapes of tensors, as diffusers' files would say it.
 * Facts: the published config.json files of Stable Diffusion 1.5, 2.1, XL, SSD-1B and tiny-sd; diffusers' single_file_utils.py. */
#include "base/text.h"
#include "weights/parts.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LEVELS = 8, LAYERS = 16 };

/* A part being looked at. Errors are sticky: the first tensor that is missing is told. */
typedef struct look {
    const dc_weights *w;
    dc_error *e;
    json_t *o;
    bool no_memory;
} look;

static const dc_stored *find(const look *l, const char *format, va_list args)
{
    char name[256];
    vsnprintf(name, sizeof name, format, args);
    return dc_weights_find(l->w, name);
}

static bool has(const look *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool has(const look *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const dc_stored *t = find(l, format, args);
    va_end(args);
    return t != NULL;
}

/* Dimension i of a tensor that must be there; 1 with an error. */
static int dim(look *l, int i, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int dim(look *l, int i, const char *format, ...)
{
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const dc_stored *t = dc_weights_find(l->w, name);
    if (t && i < t->rank && t->dim[i] > 0 && t->dim[i] < 1 << 24) return (int)t->dim[i];
    if (!l->e->code) {
        dc_fail(l->e, DC_DATA, "%s: %s: found %s, expected it with its size, to tell what is in the file", dc_weights_path(l->w), name,
                t ? "another shape" : "no such tensor");
        dc_hint(l->e, "Name a diffusers folder that describes the model with --config.");
    }
    return 1;
}

static void put(look *l, const char *key, json_t *v) { l->no_memory |= json_object_set_new(l->o, key, v) != 0; }
static void put_text(look *l, const char *key, const char *v) { put(l, key, json_string(v)); }
static void put_int(look *l, const char *key, int v) { put(l, key, json_integer(v)); }

/* One number when all are equal, else a list. */
static void put_ints(look *l, const char *key, const int *v, int n)
{
    bool same = true;
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        same &= v[i] == v[0];
        l->no_memory |= json_array_append_new(list, json_integer(v[i])) != 0;
    }
    if (same && n) {
        json_decref(list);
        list = json_integer(v[0]);
    }
    put(l, key, list);
}

static void put_repeated(look *l, const char *key, const char *v, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) l->no_memory |= json_array_append_new(list, json_string(v)) != 0;
    put(l, key, list);
}

/* ---- UNet ------------------------------------------------------------------------------------------------------------- */

/* One direction of the U: resnets a level, and the depth of the transformer behind each (0: none). */
typedef struct side {
    int levels, layers[LEVELS], depth[LEVELS][LAYERS];
} side;

static side read_side(look *l, const char *name)
{
    side s = {0};
    while (s.levels < LEVELS && has(l, "%s.%d.resnets.0.conv1.weight", name, s.levels)) {
        int i = s.levels++;
        while (s.layers[i] < LAYERS && has(l, "%s.%d.resnets.%d.conv1.weight", name, i, s.layers[i])) {
            int j = s.layers[i]++, *depth = &s.depth[i][j];
            while (*depth < 64 && has(l, "%s.%d.attentions.%d.transformer_blocks.%d.attn2.to_k.weight", name, i, j, *depth)) ++*depth;
        }
    }
    return s;
}

static bool attends(const side *s, int level) { return s->depth[level][0] > 0; }

static void put_types(look *l, const char *key, const side *s, const char *with, const char *without)
{
    json_t *list = json_array();
    for (int i = 0; i < s->levels; i++) l->no_memory |= json_array_append_new(list, json_string(attends(s, i) ? with : without)) != 0;
    put(l, key, list);
}

/* Transformer depths: a number a level, or a list a level where they differ within one. */
static void put_depths(look *l, const char *key, const side *s)
{
    json_t *levels = json_array();
    for (int i = 0; i < s->levels; i++) {
        bool same = true;
        json_t *one = json_array();
        for (int j = 0; j < s->layers[i]; j++) {
            same &= s->depth[i][j] == s->depth[i][0];
            l->no_memory |= json_array_append_new(one, json_integer(s->depth[i][j])) != 0;
        }
        if (same) {
            json_decref(one);
            one = json_integer(attends(s, i) ? s->depth[i][0] : 1);
        }
        l->no_memory |= json_array_append_new(levels, one) != 0;
    }
    put(l, key, levels);
}

/* The transformer that tells the width of the context and how it is projected. */
static bool first_transformer(const look *l, const side *down, char *out, size_t size)
{
    for (int i = 0; i < down->levels; i++)
        if (attends(down, i)) {
            snprintf(out, size, "down_blocks.%d.attentions.0", i);
            return true;
        }
    snprintf(out, size, "mid_block.attentions.0");
    return has(l, "%s.proj_in.weight", out);
}

/* diffusers' attention_head_dim is the number of heads: 8 everywhere in 1.x (convolutions as projections), else 64 channels each. */
static void put_heads(look *l, bool linear, const int *width, int levels)
{
    int heads[LEVELS];
    for (int i = 0; i < levels; i++) heads[i] = linear ? width[i] / 64 ? width[i] / 64 : 1 : 8;
    put_ints(l, "attention_head_dim", heads, levels);
}

static void put_context(look *l, const side *down, const int *width)
{
    char at[64];
    if (!first_transformer(l, down, at, sizeof at)) {
        dc_fail(l->e, DC_DATA, "%s: UNet: found no transformer in it, expected one that is conditioned on text", dc_weights_path(l->w));
        return;
    }
    const dc_stored *in = dc_weights_find(l->w, strcat(at, ".proj_in.weight"));
    bool linear = in && in->rank == 2;
    at[strlen(at) - strlen(".proj_in.weight")] = 0;
    int context = dim(l, 1, "%s.transformer_blocks.0.attn2.to_k.weight", at);
    put_int(l, "cross_attention_dim", context);
    put(l, "use_linear_projection", json_boolean(linear));
    put_heads(l, linear, width, down->levels);
    put_int(l, "sample_size", context > 1024 ? 128 : context == 1024 ? 96 : 64);
}

/* SDXL's size embedding: six numbers of 256 behind the pooled text. */
static void put_added(look *l)
{
    if (has(l, "time_embedding.cond_proj.weight")) put_int(l, "time_cond_proj_dim", dim(l, 1, "time_embedding.cond_proj.weight"));
    if (!has(l, "add_embedding.linear_1.weight")) return;
    put_text(l, "addition_embed_type", "text_time");
    put_int(l, "addition_time_embed_dim", 256);
    put_int(l, "projection_class_embeddings_input_dim", dim(l, 1, "add_embedding.linear_1.weight"));
}

static void unet_config(look *l)
{
    side down = read_side(l, "down_blocks"), up = read_side(l, "up_blocks");
    int width[LEVELS];
    for (int i = 0; i < down.levels; i++) width[i] = dim(l, 0, "down_blocks.%d.resnets.0.conv1.weight", i);
    bool mirrored = down.levels == up.levels;
    for (int i = 0; i < down.levels && mirrored; i++) {
        const int *d = down.depth[i], *u = up.depth[up.levels - 1 - i];
        for (int j = 0; j < LAYERS - 1; j++) mirrored &= j >= down.layers[i] || (d[j] == d[0] && u[j + 1] == d[0] && u[0] == d[0]);
    }
    put_text(l, "_class_name", "UNet2DConditionModel");
    put_int(l, "in_channels", dim(l, 1, "conv_in.weight"));
    put_int(l, "out_channels", dim(l, 0, "conv_out.weight"));
    json_t *widths = json_array();
    for (int i = 0; i < down.levels; i++) l->no_memory |= json_array_append_new(widths, json_integer(width[i])) != 0;
    put(l, "block_out_channels", widths);
    put_ints(l, "layers_per_block", down.layers, down.levels);
    put_types(l, "down_block_types", &down, "CrossAttnDownBlock2D", "DownBlock2D");
    put_types(l, "up_block_types", &up, "CrossAttnUpBlock2D", "UpBlock2D");
    put_depths(l, "transformer_layers_per_block", &down);
    if (!mirrored) put_depths(l, "reverse_transformer_layers_per_block", &up);
    if (!has(l, "mid_block.resnets.0.conv1.weight")) put(l, "mid_block_type", json_null());
    else put_text(l, "mid_block_type", has(l, "mid_block.attentions.0.proj_in.weight") ? "UNetMidBlock2DCrossAttn" : "UNetMidBlock2D");
    put_context(l, &down, width);
    put_added(l);
}

/* ---- VAE ------------------------------------------------------------------------------------------------------------------ */

/* The VAEs of 1.x, 2.x and XL have one shape; what their latents are scaled by goes with the UNet. */
static void vae_config(look *l, const json_t *unet)
{
    bool xl = json_is_string(json_object_get(unet, "addition_embed_type"));
    if (!has(l, "decoder.conv_in.weight")) { /* TAESD: its class' defaults are its shape */
        put_text(l, "_class_name", "AutoencoderTiny");
        return;
    }
    int levels = 0, layers = 0, width[LEVELS];
    while (levels < LEVELS && has(l, "decoder.up_blocks.%d.resnets.0.conv1.weight", levels)) levels++;
    while (layers < LAYERS && has(l, "decoder.up_blocks.0.resnets.%d.conv1.weight", layers)) layers++;
    json_t *widths = json_array();
    for (int i = 0; i < levels; i++) {
        width[i] = dim(l, 0, "decoder.up_blocks.%d.resnets.0.conv1.weight", levels - 1 - i);
        l->no_memory |= json_array_append_new(widths, json_integer(width[i])) != 0;
    }
    put_text(l, "_class_name", "AutoencoderKL");
    put_int(l, "in_channels", dim(l, 0, "decoder.conv_out.weight"));
    put_int(l, "out_channels", dim(l, 0, "decoder.conv_out.weight"));
    put_int(l, "latent_channels", dim(l, 1, "decoder.conv_in.weight"));
    put(l, "block_out_channels", widths);
    put_repeated(l, "down_block_types", "DownEncoderBlock2D", levels);
    put_repeated(l, "up_block_types", "UpDecoderBlock2D", levels);
    put_int(l, "layers_per_block", layers > 1 ? layers - 1 : 1);
    put(l, "use_quant_conv", json_boolean(has(l, "quant_conv.weight")));
    put(l, "use_post_quant_conv", json_boolean(has(l, "post_quant_conv.weight")));
    put(l, "mid_block_add_attention", json_boolean(has(l, "decoder.mid_block.attentions.0.group_norm.weight")));
    put_int(l, "sample_size", xl ? 1024 : 512);
    put(l, "scaling_factor", json_real(xl ? 0.13025 : 0.18215));
}

/* ---- text and pictures ------------------------------------------------------------------------------------------------------ */

/* What both towers of CLIP say of their layers, below `tower`. */
static void put_layers(look *l, const char *tower, int width, int head, bool quick)
{
    int layers = 0;
    while (layers < 256 && has(l, "%s.encoder.layers.%d.layer_norm1.weight", tower, layers)) layers++;
    put_int(l, "hidden_size", width);
    put_int(l, "num_hidden_layers", layers);
    put_int(l, "intermediate_size", dim(l, 0, "%s.encoder.layers.0.mlp.fc1.weight", tower));
    put_int(l, "num_attention_heads", width / head ? width / head : 1);
    put_text(l, "hidden_act", quick ? "quick_gelu" : "gelu");
}

/* CLIP-L (768 wide) has the quick GELU, OpenCLIP's H and bigG have the exact one; all have heads of 64 channels. */
static void text_config(look *l, dc_part p)
{
    int width = dim(l, 1, "text_model.embeddings.token_embedding.weight");
    bool projects = has(l, "text_projection.weight");
    put(l, "architectures", json_pack("[s]", projects && p == DC_PART_TEXT_2 ? "CLIPTextModelWithProjection" : "CLIPTextModel"));
    put_text(l, "model_type", "clip_text_model");
    put_layers(l, "text_model", width, 64, width <= 768);
    put_int(l, "vocab_size", dim(l, 0, "text_model.embeddings.token_embedding.weight"));
    put_int(l, "max_position_embeddings", dim(l, 0, "text_model.embeddings.position_embedding.weight"));
    put_int(l, "projection_dim", projects ? dim(l, 0, "text_projection.weight") : width);
    /* SD 2.x conditions on the layer before the last: diffusers' copies leave the last one out, single files have all 24. */
    if (p == DC_PART_TEXT && width == 1024 && has(l, "text_model.encoder.layers.23.layer_norm1.weight") &&
        !has(l, "text_model.encoder.layers.24.layer_norm1.weight"))
        put_int(l, "num_hidden_layers", 23);
    put_int(l, "eos_token_id", 49407);
}

/* Heads of 64 channels, but in open_clip's g, H and bigG. The picture is a square. */
static void vision_config(look *l)
{
    static const int others[][2] = {{1280, 80}, {1408, 88}, {1664, 104}};
    int width = dim(l, 0, "vision_model.embeddings.patch_embedding.weight"), patch = dim(l, 3, "vision_model.embeddings.patch_embedding.weight");
    int tokens = dim(l, 0, "vision_model.embeddings.position_embedding.weight"), grid = 1, head = 64;
    bool projects = has(l, "visual_projection.weight");
    while ((grid + 1) * (grid + 1) < tokens) grid++;
    for (int i = 0; i < 3; i++)
        if (width == others[i][0]) head = others[i][1];
    put_text(l, "model_type", "clip_vision_model");
    put_layers(l, "vision_model", width, head, head == 64);
    put_int(l, "patch_size", patch);
    put_int(l, "image_size", grid * patch);
    put_int(l, "projection_dim", projects ? dim(l, 0, "visual_projection.weight") : width);
    put(l, "diffc_pre_norm", json_boolean(has(l, "vision_model.pre_layrnorm.weight")));
}

/* ---- a part -------------------------------------------------------------------------------------------------------------------- */

dc_status dc_part_config(json_t **out, const dc_weights *part, dc_part p, const json_t *unet, dc_error *e)
{
    dc_error own = {0};
    look l = {.w = part, .e = e ? e : &own, .o = json_object()};
    *out = NULL;
    if (p == DC_PART_UNET) unet_config(&l);
    else if (p == DC_PART_VAE) vae_config(&l, unet);
    else if (p == DC_PART_VISION) vision_config(&l);
    else text_config(&l, p);
    if (!l.e->code && (l.no_memory || !l.o)) dc_fail_memory(l.e, "a configuration", 0);
    if (l.e->code) json_decref(l.o);
    else *out = l.o;
    return l.e->code;
}

/* ---- the noise schedule ------------------------------------------------------------------------------------------------------------ */

/* two: the shape of 2.x, of which some predict v (768) and some epsilon (512-base, inpainting). */
static void find_marks(dc_prediction_marks *m, const dc_weights *w, bool two, int in_channels)
{
    const char *told = dc_weights_metadata(w, "modelspec.prediction_type");
    *m = (dc_prediction_marks){.from = "its kind"};
    m->zero_snr = dc_weights_find(w, "ztsnr") != NULL;
    if (dc_weights_find(w, "v_pred")) m->v = true, m->from = "its key v_pred";
    else if (told && (!strcmp(told, "v") || !strcmp(told, "v_prediction"))) m->v = true, m->from = "modelspec.prediction_type";
    else if (told && (!strcmp(told, "epsilon") || !strcmp(told, "eps"))) m->epsilon = true, m->from = "modelspec.prediction_type";
    else if (!two || in_channels != 4) m->epsilon = true;
}

dc_status dc_scheduler_config(json_t **out, dc_prediction_marks *marks, const dc_weights *w, const json_t *unet_config, dc_error *e)
{
    bool xl = json_is_string(json_object_get(unet_config, "addition_embed_type")); /* diffusers writes null elsewhere */
    bool two = !xl && json_is_true(json_object_get(unet_config, "use_linear_projection"));
    dc_prediction_marks own, *m = marks ? marks : &own;
    find_marks(m, w, two, (int)json_integer_value(json_object_get(unet_config, "in_channels")));
    *out = json_pack("{s:s, s:f, s:f, s:s, s:i, s:b, s:b, s:i, s:b, s:s, s:b}", "_class_name",
                     xl    ? "EulerDiscreteScheduler"
                     : two ? "DDIMScheduler"
                           : "PNDMScheduler",
                     "beta_start", 0.00085, "beta_end", 0.012, "beta_schedule", "scaled_linear", "num_train_timesteps", 1000, "clip_sample", 0,
                     "set_alpha_to_one", 0, "steps_offset", 1, "skip_prk_steps", 1, "prediction_type", m->epsilon ? "epsilon" : "v_prediction",
                     "rescale_betas_zero_snr", m->zero_snr);
    if (!*out) return dc_fail_memory(e, "a configuration", 0);
    if (xl || m->zero_snr) json_object_set_new(*out, "timestep_spacing", json_string(m->zero_snr ? "trailing" : "leading"));
    return DC_OK;
}
