/* config.c - config.json of a UNet2DConditionModel, with diffusers' defaults. */
#include "unet/unet.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- every key of diffusers' class, and what becomes of it ------------------------------------------------------- */

/* must: the values we can run, separated by blanks; NULL: read below, or without effect on the block types that we run. */
static const struct {
    const char *key, *must;
} keys[] = {
    {"_class_name", "UNet2DConditionModel"},
    {"act_fn", "silu swish"},
    {"addition_embed_type", "null text_time"},
    {"addition_embed_type_num_heads", NULL}, /* of addition_embed_type "text" */
    {"addition_time_embed_dim", NULL},
    {"attention_head_dim", NULL},
    {"attention_type", "default"},
    {"block_out_channels", NULL},
    {"center_input_sample", "false"},
    {"class_embed_type", "null"},
    {"class_embeddings_concat", "false"},
    {"conv_in_kernel", NULL},
    {"conv_out_kernel", NULL},
    {"cross_attention_dim", NULL},
    {"cross_attention_norm", NULL}, /* of the SimpleCrossAttn blocks */
    {"down_block_types", NULL},
    {"downsample_padding", NULL},
    {"dropout", NULL},
    {"dual_cross_attention", "false"},
    {"encoder_hid_dim", "null"},
    {"encoder_hid_dim_type", "null"},
    {"flip_sin_to_cos", NULL},
    {"freq_shift", NULL},
    {"in_channels", NULL},
    {"layers_per_block", NULL},
    {"mid_block_only_cross_attention", NULL}, /* of UNetMidBlock2DSimpleCrossAttn: UNetMidBlock2DCrossAttn does not look at it */
    {"mid_block_scale_factor", "1"},
    {"mid_block_type", NULL},
    {"norm_eps", NULL},
    {"norm_num_groups", NULL},
    {"num_attention_heads", "null"}, /* diffusers refuses it, too: attention_head_dim is the number of heads */
    {"num_class_embeds", "null"},
    {"only_cross_attention", NULL},
    {"out_channels", NULL},
    {"projection_class_embeddings_input_dim", NULL},
    {"resnet_out_scale_factor", NULL}, /* of the ResnetDown/Upsample blocks */
    {"resnet_skip_time_act", NULL},    /* likewise */
    {"resnet_time_scale_shift", "default"},
    {"reverse_transformer_layers_per_block", NULL},
    {"sample_size", NULL},
    {"time_cond_proj_dim", NULL},
    {"time_embedding_act_fn", "null"},
    {"time_embedding_dim", NULL},
    {"time_embedding_type", "positional"},
    {"timestep_post_act", "null"},
    {"transformer_layers_per_block", NULL},
    {"up_block_types", NULL},
    {"upcast_attention", NULL}, /* all arithmetic is float32 or better */
    {"use_linear_projection", NULL},
};
enum { KEYS = sizeof keys / sizeof *keys };

/* Words of an unknown key that say that it is about the network, not about how somebody ran it. */
static const char *const network_words[] = {"attention", "attn",  "block",  "channels", "class", "concat", "cond",  "conv",
                                            "cross",     "depth", "embed",  "encoder",  "head",  "kernel", "layer", "mlp",
                                            "norm",      "proj",  "resnet", "sample",   "scale", "skip",   "time",  "transformer"};

static const char *value_text(const json_t *v, char *out, size_t size)
{
    switch (json_typeof(v)) {
    case JSON_STRING: snprintf(out, size, "%s", json_string_value(v)); break;
    case JSON_INTEGER:
    case JSON_REAL: snprintf(out, size, "%.10g", json_number_value(v)); break;
    case JSON_TRUE: snprintf(out, size, "true"); break;
    case JSON_FALSE: snprintf(out, size, "false"); break;
    case JSON_NULL: snprintf(out, size, "null"); break;
    default: snprintf(out, size, "%s", json_is_array(v) ? "a list" : "an object"); break;
    }
    return out;
}

static bool is_one_of(const char *word, const char *list)
{
    size_t n = strlen(word);
    for (const char *at = list; *at; at += strcspn(at, " "), at += *at == ' ')
        if (strcspn(at, " ") == n && !strncmp(at, word, n)) return true;
    return false;
}

/* A key we do not know switches something on, and its name speaks of the network. */
static bool changes_network(const char *key, const json_t *v)
{
    if (key[0] == '_' || json_is_null(v) || json_is_false(v)) return false;
    for (size_t i = 0; i < sizeof network_words / sizeof *network_words; i++)
        if (strstr(key, network_words[i])) return true;
    return false;
}

static dc_status refuse(const dc_config *c, const char *key, const char *found, const char *expected)
{
    dc_status s = dc_fail(c->e, DC_DATA, "%s: %s: found %s, expected %s", c->path, key, found, expected);
    dc_hint(c->e, "The UNets of Stable Diffusion 1.x, 2.x, SDXL and those distilled from them are supported; this one is built otherwise.");
    return s;
}

static void check_keys(const dc_config *c)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)c->root, key, v)
    {
        char found[80];
        int i = 0;
        while (i < KEYS && strcmp(keys[i].key, key)) i++;
        if (i < KEYS && keys[i].must && !json_is_null(v) && !is_one_of(value_text(v, found, sizeof found), keys[i].must))
            refuse(c, key, found, keys[i].must);
        else if (i == KEYS && changes_network(key, v)) refuse(c, key, value_text(v, found, sizeof found), "no such key");
    }
}

/* ---- values a level, or one for all ---------------------------------------------------------------------------------- */

static void per_level(const dc_config *c, const char *key, int levels, int absent, int min, int max, int *out)
{
    for (int i = 0; i < levels; i++) out[i] = absent;
    int n = dc_config_ints(c, key, out, levels, min, max);
    if (n && n != levels && json_is_array(json_object_get(c->root, key)))
        dc_fail(c->e, DC_DATA, "%s: %s: found %d values, expected %d (one a level)", c->path, key, n, levels);
}

/* true or false, or a list of them. */
static bool bool_of_level(const dc_config *c, const char *key, int levels, int level)
{
    const json_t *v = json_object_get(c->root, key);
    if (!json_is_array(v)) return dc_config_bool(c, key, false);
    const json_t *one = json_array_get(v, (size_t)level);
    if (json_array_size(v) != (size_t)levels || !json_is_boolean(one))
        dc_fail(c->e, DC_DATA, "%s: %s: found a list of %zu values, expected true or false for each of %d levels", c->path, key, json_array_size(v),
                levels);
    return json_is_true(one);
}

/* The block types of one direction; `with` has a transformer after every resnet, `without` has not. */
static int read_types(const dc_config *c, const char *key, const char *without, const char *with, dc_unet_block *blocks)
{
    static const char *const defaults[][4] = {{"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"},
                                              {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"}};
    const json_t *v = json_object_get(c->root, key);
    size_t n = json_is_array(v) ? json_array_size(v) : 4;
    if ((v && !json_is_array(v)) || n < 1 || n > DC_UNET_LEVELS) {
        dc_fail(c->e, DC_DATA, "%s: %s: found %s, expected a list of 1 to %d block types", c->path, key,
                json_is_array(v) ? "a list of another length" : "something else", DC_UNET_LEVELS);
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        const char *type = v ? json_string_value(json_array_get(v, i)) : defaults[with[9] == 'U'][i];
        char expected[80];
        snprintf(expected, sizeof expected, "%s or %s", without, with);
        blocks[i].attention = type && !strcmp(type, with);
        if (!blocks[i].attention && (!type || strcmp(type, without))) refuse(c, key, type ? type : "something else", expected);
    }
    return (int)n;
}

/* Transformer depths of one block: one number for all its transformers, or a list with one for each. */
static void block_depth(const dc_config *c, const char *key, const json_t *v, int transformers, dc_unet_block *b)
{
    for (int j = 0; j < transformers; j++) {
        const json_t *one = json_is_array(v) ? json_array_get(v, (size_t)j) : v;
        json_int_t n = json_integer_value(one);
        if (!json_is_integer(one) || n < 0 || n > 64) {
            dc_fail(c->e, DC_DATA, "%s: %s: found a block without a depth of 0 to 64 for transformer %d, expected one for each of %d", c->path, key,
                    j, transformers);
            return;
        }
        b->depth[j] = (int)n;
    }
}

/* transformer_layers_per_block is one int, or a value a level: an int or (SSD-1B) a list a block. Up blocks have the same in
 * reverse, unless reverse_transformer_layers_per_block gives theirs. Ref: UNet2DConditionModel.__init__. */
static void read_depths(const dc_config *c, dc_unet_config *u)
{
    static const char *const KEY = "transformer_layers_per_block", *const REVERSE = "reverse_transformer_layers_per_block";
    const json_t *down = json_object_get(c->root, KEY), *up = json_object_get(c->root, REVERSE);
    json_t *one = json_integer(1);
    if (!down || json_is_null(down)) down = one;
    bool has_up = up && !json_is_null(up);
    if (json_is_array(down) && json_array_size(down) != (size_t)u->levels)
        dc_fail(c->e, DC_DATA, "%s: %s: found %zu values, expected %d (one a level)", c->path, KEY, json_array_size(down), u->levels);
    if (has_up && (!json_is_array(up) || json_array_size(up) != (size_t)u->levels))
        dc_fail(c->e, DC_DATA, "%s: %s: found %zu values, expected a list of %d (one a level)", c->path, REVERSE, json_array_size(up), u->levels);
    for (int i = 0; i < u->levels; i++) {
        int mirror = u->levels - 1 - i;
        const json_t *d = json_is_array(down) ? json_array_get(down, (size_t)i) : down,
                     *m = json_is_array(down) ? json_array_get(down, (size_t)mirror) : down;
        if (u->down[i].attention) block_depth(c, KEY, d, u->down[i].resnets, &u->down[i]);
        if (u->up[i].attention) block_depth(c, has_up ? REVERSE : KEY, has_up ? json_array_get(up, (size_t)i) : m, u->up[i].resnets, &u->up[i]);
        if (u->mid.attention && !mirror) block_depth(c, KEY, d, 1, &u->mid);
    }
    json_decref(one);
}

/* ---- the three parts -------------------------------------------------------------------------------------------------- */

/* TRAP: without the key there is a mid block with attention; with null there is none. */
static void read_mid(const dc_config *c, dc_unet_config *u)
{
    const json_t *v = json_object_get(c->root, "mid_block_type");
    const char *type = v ? json_string_value(v) : "UNetMidBlock2DCrossAttn";
    char found[80];
    if (json_is_null(v)) return;
    u->mid.attention = type && !strcmp(type, "UNetMidBlock2DCrossAttn");
    u->mid.resnets = u->mid.attention ? 2 : 1; /* diffusers builds UNetMidBlock2D with num_layers=0: one resnet, nothing else */
    if (!u->mid.attention && (!type || strcmp(type, "UNetMidBlock2D")))
        refuse(c, "mid_block_type", value_text(v, found, sizeof found), "UNetMidBlock2DCrossAttn, UNetMidBlock2D or null");
}

static void read_blocks(const dc_config *c, dc_unet_config *u)
{
    static const int widths[] = {320, 640, 1280, 1280};
    int layers[DC_UNET_LEVELS], heads[DC_UNET_LEVELS];
    u->levels = read_types(c, "down_block_types", "DownBlock2D", "CrossAttnDownBlock2D", u->down);
    int up = read_types(c, "up_block_types", "UpBlock2D", "CrossAttnUpBlock2D", u->up);
    memcpy(u->width, widths, sizeof widths);
    int n = dc_config_has(c, "block_out_channels") ? dc_config_ints(c, "block_out_channels", u->width, DC_UNET_LEVELS, 2, 16384) : 4;
    if (up != u->levels || n != u->levels)
        dc_fail(c->e, DC_DATA, "%s: levels: found %d down_block_types, %d up_block_types and %d block_out_channels, expected the same number",
                c->path, u->levels, up, n);
    if (c->e->code) return;

    per_level(c, "layers_per_block", u->levels, 2, 1, DC_UNET_LAYERS - 1, layers);
    per_level(c, "attention_head_dim", u->levels, 8, 1, 1024, heads);
    for (int i = 0; i < u->levels; i++) {
        dc_unet_block *d = &u->down[i], *p = &u->up[u->levels - 1 - i];
        d->resnets = layers[i], p->resnets = layers[i] + 1;
        d->heads = p->heads = heads[i];
        d->only_cross = p->only_cross = bool_of_level(c, "only_cross_attention", u->levels, i);
        if (heads[i] > 0 && u->width[i] % heads[i] && (d->attention || p->attention))
            dc_fail(c->e, DC_DATA, "%s: attention_head_dim: found %d heads for %d channels, expected a divisor", c->path, heads[i], u->width[i]);
    }
    read_mid(c, u);
    u->mid.heads = heads[u->levels - 1];
    read_depths(c, u);
}

static void read_time(const dc_config *c, dc_unet_config *u)
{
    const char *addition = dc_config_string(c, "addition_embed_type", NULL);
    u->flip_sin_to_cos = dc_config_bool(c, "flip_sin_to_cos", true);
    u->freq_shift = (float)dc_config_real(c, "freq_shift", 0, 0, 1);
    u->time_dim = (int)dc_config_int(c, "time_embedding_dim", 4 * (int64_t)u->width[0], 1, 1 << 20);
    u->time_cond = (int)dc_config_int(c, "time_cond_proj_dim", 0, 4, 1 << 16);
    u->text_time = addition && !strcmp(addition, "text_time");
    if (!u->text_time) return;
    u->add_time_dim = (int)dc_config_int(c, "addition_time_embed_dim", 0, 2, 1 << 16);
    u->add_input = (int)dc_config_int(c, "projection_class_embeddings_input_dim", 0, 1, 1 << 20);
    if (!c->e->code && (!u->add_time_dim || u->add_input <= 6 * u->add_time_dim))
        dc_fail(c->e, DC_DATA, "%s: projection_class_embeddings_input_dim: found %d, expected more than 6 x addition_time_embed_dim %d", c->path,
                u->add_input, u->add_time_dim);
}

/* cross_attention_dim: one width, or the same for every level. */
static void read_context(const dc_config *c, dc_unet_config *u)
{
    int width[DC_UNET_LEVELS];
    per_level(c, "cross_attention_dim", u->levels, 1280, 1, 1 << 16, width);
    u->context = width[0];
    for (int i = 1; i < u->levels; i++)
        if (width[i] != width[0])
            dc_fail(c->e, DC_DATA, "%s: cross_attention_dim: found %d and %d, expected the same for all levels", c->path, width[0], width[i]);
}

static int odd(const dc_config *c, const char *key)
{
    int n = (int)dc_config_int(c, key, 3, 1, 31);
    if (n % 2 == 0) dc_fail(c->e, DC_DATA, "%s: %s: found %d, expected an odd number", c->path, key, n);
    return n;
}

/* What the blocks need of the widths. */
static void check_widths(const dc_config *c, const dc_unet_config *u)
{
    if (json_is_null(json_object_get(c->root, "norm_num_groups"))) refuse(c, "norm_num_groups", "null", "a number");
    for (int i = 0; i < u->levels; i++)
        if (u->width[i] % u->groups)
            dc_fail(c->e, DC_DATA, "%s: norm_num_groups: found %d groups for %d channels, expected a divisor", c->path, u->groups, u->width[i]);
}

dc_status dc_unet_config_read(dc_unet_config *u, const json_t *root, const char *path, dc_error *e)
{
    dc_error own = {0};
    dc_config c = {root, path, e ? e : &own};
    int size[2] = {0, 0};
    *u = (dc_unet_config){0};
    if (!json_is_object(root)) return dc_fail(e, DC_DATA, "%s: found no JSON object, expected the configuration of a UNet", path);
    check_keys(&c);
    if (!c.e->code) read_blocks(&c, u);
    if (c.e->code) return c.e->code;

    u->in_channels = (int)dc_config_int(&c, "in_channels", 4, 1, 1024);
    u->out_channels = (int)dc_config_int(&c, "out_channels", 4, 1, 1024);
    u->groups = (int)dc_config_int(&c, "norm_num_groups", 32, 1, 16384);
    u->norm_eps = (float)dc_config_real(&c, "norm_eps", 1e-5, 1e-12, 1);
    u->linear_projection = dc_config_bool(&c, "use_linear_projection", false);
    u->downsample_padding = (int)dc_config_int(&c, "downsample_padding", 1, 0, 1);
    u->conv_in_kernel = odd(&c, "conv_in_kernel");
    u->conv_out_kernel = odd(&c, "conv_out_kernel");
    read_time(&c, u);
    read_context(&c, u);
    u->sample_size = dc_config_ints(&c, "sample_size", size, 2, 1, 4096) ? size[0] : u->text_time ? 128 : 64;
    if (!c.e->code) check_widths(&c, u);
    return c.e->code;
}
