/* config.c - config.json of an AutoencoderKL or AutoencoderTiny, with diffusers' defaults. */
#include "vae/vae.h"
#include <string.h>

static bool is(const char *a, const char *b) { return !strcmp(a, b); }

/* An array with exactly `levels` values (any number and sets it, while *levels is 0); absent: the `n` defaults. */
static void per_level(const dc_config *c, const char *key, const int *absent, int n, int min, int max, int *levels, int *out)
{
    const json_t *v = json_object_get(c->root, key);
    for (int i = 0; i < n; i++) out[i] = absent[i];
    if (v && !json_is_null(v)) {
        n = dc_config_ints(c, key, out, DC_VAE_LEVELS, min, max);
        if (!json_is_array(v)) dc_fail(c->e, DC_DATA, "%s: %s: found a single value, expected a list", c->path, key);
    }
    if (*levels && n != *levels) dc_fail(c->e, DC_DATA, "%s: %s: found %d values, expected %d (one a level)", c->path, key, n, *levels);
    *levels = n;
}

/* A key that must have one value: another would be another network. */
static void must_be(const dc_config *c, const char *key, const char *absent, const char *value, const char *or_value)
{
    const char *found = dc_config_string(c, key, absent);
    if (!c->e->code && !is(found, value) && !is(found, or_value)) dc_fail(c->e, DC_DATA, "%s: %s: found %s, expected %s", c->path, key, found, value);
}

static void all_blocks(const dc_config *c, const char *key, const char *type, int levels)
{
    const json_t *v = json_object_get(c->root, key), *one;
    size_t i;
    if (!v) {
        if (levels != 1) dc_fail(c->e, DC_DATA, "%s: %s: found nothing, expected %d times %s", c->path, key, levels, type);
        return;
    }
    if (!json_is_array(v) || json_array_size(v) != (size_t)levels)
        dc_fail(c->e, DC_DATA, "%s: %s: found %zu block types, expected %d (one a level)", c->path, key, json_array_size(v), levels);
    json_array_foreach((json_t *)v, i, one)
    {
        const char *found = json_string_value(one);
        if (!found || !is(found, type)) dc_fail(c->e, DC_DATA, "%s: %s: found %s, expected %s", c->path, key, found ? found : "something else", type);
    }
}

static void read_kl(const dc_config *c, dc_vae_config *v)
{
    static const int widths[] = {64};
    int size[2] = {0, 0};
    per_level(c, "block_out_channels", widths, 1, 1, 16384, &v->levels, v->width);
    memcpy(v->decoder_width, v->width, sizeof v->width);
    all_blocks(c, "down_block_types", "DownEncoderBlock2D", v->levels);
    all_blocks(c, "up_block_types", "UpDecoderBlock2D", v->levels);
    must_be(c, "act_fn", "silu", "silu", "swish");
    v->act = DC_ACT_SILU;
    v->layers = (int)dc_config_int(c, "layers_per_block", 1, 1, 64);
    v->groups = (int)dc_config_int(c, "norm_num_groups", 32, 1, 16384);
    v->quant_conv = dc_config_bool(c, "use_quant_conv", true);
    v->post_quant_conv = dc_config_bool(c, "use_post_quant_conv", true);
    v->mid_attention = dc_config_bool(c, "mid_block_add_attention", true);
    v->force_upcast = dc_config_bool(c, "force_upcast", true);
    v->scaling_factor = dc_config_real(c, "scaling_factor", 0.18215, 1e-6, 1e6);
    v->shift_factor = dc_config_real(c, "shift_factor", 0, -1e6, 1e6);
    v->sample_size = dc_config_ints(c, "sample_size", size, 2, 1, 1 << 16) ? size[0] : 32;
    for (int i = 0; !c->e->code && i < v->levels; i++)
        if (v->width[i] % v->groups)
            dc_fail(c->e, DC_DATA, "%s: norm_num_groups: found %d groups for %d channels, expected a divisor", c->path, v->groups, v->width[i]);
    if (dc_config_has(c, "latents_mean") || dc_config_has(c, "latents_std"))
        dc_fail(c->e, DC_DATA, "%s: latents_mean, latents_std: found statistics for each channel, expected only scaling_factor and shift_factor",
                c->path);
}

static void read_tiny(const dc_config *c, dc_vae_config *v)
{
    static const int widths[] = {64, 64, 64, 64}, encoder[] = {1, 3, 3, 3}, decoder[] = {3, 3, 3, 1};
    per_level(c, "encoder_block_out_channels", widths, 4, 1, 16384, &v->levels, v->width);
    per_level(c, "decoder_block_out_channels", widths, 4, 1, 16384, &v->levels, v->decoder_width);
    per_level(c, "num_encoder_blocks", encoder, 4, 0, 64, &v->levels, v->encoder_blocks);
    per_level(c, "num_decoder_blocks", decoder, 4, 0, 64, &v->levels, v->decoder_blocks);
    for (int i = 1; !c->e->code && i < v->levels; i++)
        if (v->width[i] != v->width[0] || v->decoder_width[i] != v->decoder_width[0])
            dc_fail(c->e, DC_DATA, "%s: block_out_channels: found different widths, expected one for all levels", c->path);
    const char *act = dc_config_string(c, "act_fn", "relu");
    v->act = is(act, "relu") ? DC_ACT_RELU : is(act, "gelu") ? DC_ACT_GELU : DC_ACT_SILU;
    if (v->act == DC_ACT_SILU) must_be(c, "act_fn", "relu", "silu", "swish");
    must_be(c, "upsample_fn", "nearest", "nearest", "nearest");
    if (dc_config_int(c, "upsampling_scaling_factor", 2, 1, 64) != 2)
        dc_fail(c->e, DC_DATA, "%s: upsampling_scaling_factor: found another than 2, expected 2", c->path);
    v->scaling_factor = dc_config_real(c, "scaling_factor", 1, 1e-6, 1e6);
    v->shift_factor = dc_config_real(c, "shift_factor", 0, -1e6, 1e6);
    v->sample_size = 512; /* as diffusers tiles it */
    if (v->shift_factor != 0) dc_fail(c->e, DC_DATA, "%s: shift_factor: found %g, expected 0 in an AutoencoderTiny", c->path, v->shift_factor);
    if (!c->e->code && v->image_channels != 3) dc_fail(c->e, DC_DATA, "%s: in_channels: found %d, expected 3", c->path, v->image_channels);
}

dc_status dc_vae_config_read(dc_vae_config *v, const json_t *root, const char *path, dc_error *e)
{
    dc_error own = {0};
    dc_config c = {root, path, e ? e : &own};
    *v = (dc_vae_config){0};
    if (!json_is_object(root)) return dc_fail(e, DC_DATA, "%s: found no JSON object, expected the configuration of a VAE", path);
    bool tiny = dc_config_has(&c, "num_decoder_blocks") || dc_config_has(&c, "decoder_block_out_channels");
    const char *class = dc_config_string(&c, "_class_name", tiny ? "AutoencoderTiny" : "AutoencoderKL");
    v->tiny = !c.e->code && is(class, "AutoencoderTiny");
    if (!c.e->code && !v->tiny && !is(class, "AutoencoderKL"))
        return dc_fail(c.e, DC_DATA, "%s: _class_name: found %s, expected AutoencoderKL or AutoencoderTiny", path, class);

    v->image_channels = (int)dc_config_int(&c, "in_channels", 3, 1, 1024);
    v->latent_channels = (int)dc_config_int(&c, "latent_channels", 4, 1, 1024);
    int out = (int)dc_config_int(&c, "out_channels", 3, 1, 1024);
    if (out != v->image_channels) dc_fail(c.e, DC_DATA, "%s: out_channels: found %d, expected %d as in_channels", path, out, v->image_channels);
    if (v->tiny) read_tiny(&c, v);
    else read_kl(&c, v);
    if (!c.e->code) v->factor = 1 << (v->levels - 1);
    return c.e->code;
}
