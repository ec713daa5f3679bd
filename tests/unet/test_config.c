/* What a UNet's config may say: defaults are diffusers', and whatever would be another network is refused by its name. */
#include "tests/unet/golden.h"
#include "unet/unet.h"

static dc_status read_text(const char *text, dc_unet_config *c, dc_error *e)
{
    json_t *root = NULL;
    *e = (dc_error){0};
    must(dc_json_parse(&root, "c.json", text, strlen(text), e), e);
    dc_status s = dc_unet_config_read(c, root, "c.json", e);
    json_decref(root);
    return s;
}

/* Nothing given: Stable Diffusion 1.x but for the width of its text. */
static void defaults(void **state)
{
    dc_unet_config c;
    dc_error e;
    (void)state;
    must(read_text("{}", &c, &e), &e);
    assert_true(c.levels == 4 && c.width[0] == 320 && c.width[3] == 1280 && c.in_channels == 4 && c.context == 1280 && c.time_dim == 1280);
    assert_true(c.down[0].attention && !c.down[3].attention && !c.up[0].attention && c.up[3].attention);
    assert_true(c.down[0].resnets == 2 && c.up[0].resnets == 3 && c.mid.resnets == 2 && c.mid.attention && c.mid.depth[0] == 1);
    assert_true(c.down[2].heads == 8 && c.mid.heads == 8 && c.down[2].depth[1] == 1 && c.up[1].depth[2] == 1);
    assert_true(c.groups == 32 && c.flip_sin_to_cos && c.freq_shift == 0 && !c.linear_projection && c.sample_size == 64 && c.downsample_padding == 1);
}

/* diffusers: a null mid_block_type is no block, UNetMidBlock2D is one resnet (num_layers=0, add_attention=False). */
static void mid_blocks(void **state)
{
    dc_unet_config c;
    dc_error e;
    (void)state;
    must(read_text("{\"mid_block_type\": null}", &c, &e), &e);
    assert_int_equal(c.mid.resnets, 0);
    must(read_text("{\"mid_block_type\": \"UNetMidBlock2D\"}", &c, &e), &e);
    assert_true(c.mid.resnets == 1 && !c.mid.attention);
}

/* SSD-1B. */
static void depths(void **state)
{
    dc_unet_config c;
    dc_error e;
    (void)state;
    must(read_text("{\"block_out_channels\": [320, 640, 1280], \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\", "
                   "\"CrossAttnDownBlock2D\"],"
                   "\"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"], \"attention_head_dim\": [5, 10, 20],"
                   "\"transformer_layers_per_block\": [1, [2, 2], [4, 4]], \"reverse_transformer_layers_per_block\": [[4, 4, 10], [2, 1, 1], 1]}",
                   &c, &e),
         &e);
    assert_true(c.down[1].depth[0] == 2 && c.down[2].depth[1] == 4 && c.mid.depth[0] == 4);
    assert_true(c.up[0].depth[0] == 4 && c.up[0].depth[2] == 10 && c.up[1].depth[0] == 2 && c.up[1].depth[1] == 1 && c.up[0].heads == 20 &&
                c.up[1].heads == 10);
}

static void refused(void **state)
{
    static const struct {
        const char *text, *named;
    } bad[] = {
        {"{\"_class_name\": \"AutoencoderKL\"}", "_class_name: found AutoencoderKL"},
        {"{\"addition_embed_type\": \"text_image\"}", "addition_embed_type: found text_image"},
        {"{\"addition_embed_type\": \"text_time\"}", "projection_class_embeddings_input_dim"},
        {"{\"class_embed_type\": \"projection\"}", "class_embed_type: found projection"},
        {"{\"num_class_embeds\": 1000}", "num_class_embeds: found 1000, expected null"},
        {"{\"encoder_hid_dim_type\": \"ip_image_proj\"}", "encoder_hid_dim_type: found ip_image_proj"},
        {"{\"encoder_hid_dim\": 4096}", "encoder_hid_dim: found 4096"},
        {"{\"dual_cross_attention\": true}", "dual_cross_attention: found true, expected false"},
        {"{\"attention_type\": \"gated\"}", "attention_type: found gated"},
        {"{\"num_attention_heads\": [5, 10, 20, 20]}", "num_attention_heads: found a list"},
        {"{\"resnet_time_scale_shift\": \"scale_shift\"}", "resnet_time_scale_shift: found scale_shift"},
        {"{\"time_embedding_type\": \"fourier\"}", "time_embedding_type: found fourier"},
        {"{\"time_embedding_act_fn\": \"gelu\"}", "time_embedding_act_fn: found gelu"},
        {"{\"timestep_post_act\": \"silu\"}", "timestep_post_act: found silu"},
        {"{\"center_input_sample\": true}", "center_input_sample: found true"},
        {"{\"mid_block_scale_factor\": 1.5}", "mid_block_scale_factor: found 1.5"},
        {"{\"act_fn\": \"gelu\"}", "act_fn: found gelu"},
        {"{\"mid_block_type\": \"UNetMidBlock2DSimpleCrossAttn\"}", "mid_block_type: found UNetMidBlock2DSimpleCrossAttn"},
        {"{\"down_block_types\": [\"SimpleCrossAttnDownBlock2D\"]}", "down_block_types: found SimpleCrossAttnDownBlock2D"},
        {"{\"up_block_types\": [\"KUpBlock2D\", \"UpBlock2D\", \"UpBlock2D\", \"UpBlock2D\"]}", "up_block_types: found KUpBlock2D"},
        {"{\"up_block_types\": [\"UpBlock2D\"]}", "1 up_block_types"},
        {"{\"down_block_types\": [7]}", "down_block_types"},
        {"{\"down_block_types\": \"DownBlock2D\"}", "down_block_types"},
        {"{\"block_out_channels\": [320, 640]}", "2 block_out_channels"},
        {"{\"block_out_channels\": [320, 640, 1280, 1000000]}", "block_out_channels: found 1000000"},
        {"{\"block_out_channels\": [320, 640, 1280, 1300]}", "norm_num_groups: found 32 groups for 1300"},
        {"{\"attention_head_dim\": 7}", "attention_head_dim: found 7 heads for 320"},
        {"{\"attention_head_dim\": [5, 10]}", "attention_head_dim: found 2 values, expected 4"},
        {"{\"layers_per_block\": 16}", "layers_per_block: found 16"},
        {"{\"layers_per_block\": \"2\"}", "layers_per_block"},
        {"{\"transformer_layers_per_block\": [1, 2]}", "transformer_layers_per_block: found 2 values, expected 4"},
        {"{\"transformer_layers_per_block\": [1, [2], 3, 4]}", "transformer_layers_per_block"},
        {"{\"transformer_layers_per_block\": 1000}", "transformer_layers_per_block"},
        {"{\"reverse_transformer_layers_per_block\": 3}", "reverse_transformer_layers_per_block"},
        {"{\"only_cross_attention\": [true]}", "only_cross_attention"},
        {"{\"cross_attention_dim\": [768, 768, 768, 1024]}", "cross_attention_dim: found 768 and 1024"},
        {"{\"norm_num_groups\": null}", "norm_num_groups: found null"},
        {"{\"norm_eps\": 0}", "norm_eps"},
        {"{\"in_channels\": -4}", "in_channels: found -4"},
        {"{\"conv_in_kernel\": 4}", "conv_in_kernel: found 4, expected an odd number"},
        {"{\"downsample_padding\": 2}", "downsample_padding: found 2"},
        {"{\"attention_bias_type\": \"new\"}", "attention_bias_type: found new, expected no such key"}, /* unknown, and of the network */
        {"[]", "found no JSON object"},
    };
    dc_unet_config c;
    dc_error e;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(read_text(bad[i].text, &c, &e), DC_DATA);
        if (strncmp(e.text, "c.json: ", 8) || !strstr(e.text, bad[i].named)) fail_msg("%s: %s", bad[i].text, e.text);
    }
}

/* Keys without effect here, and keys of other people. */
static void accepted(void **state)
{
    static const char *const good[] = {
        "{\"_note\": \"attention!\", \"licence\": \"x\", \"quantization_config\": {\"bits\": 8}}",
        "{\"some_new_attention\": false, \"new_embedding\": null}",
        "{\"dropout\": 0.1, \"upcast_attention\": true, \"resnet_out_scale_factor\": 2, \"mid_block_only_cross_attention\": true}",
        "{\"mid_block_scale_factor\": 1.0, \"act_fn\": \"swish\", \"num_attention_heads\": null}",
        "{\"cross_attention_dim\": [768, 768, 768, 768], \"sample_size\": [96, 64], \"layers_per_block\": [2, 2, 1, 2]}"};
    dc_unet_config c;
    dc_error e;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) must(read_text(good[i], &c, &e), &e);
    assert_true(c.context == 768 && c.sample_size == 96 && c.down[2].resnets == 1 && c.up[1].resnets == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(defaults), cmocka_unit_test(mid_blocks), cmocka_unit_test(depths), cmocka_unit_test(refused),
                                       cmocka_unit_test(accepted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
