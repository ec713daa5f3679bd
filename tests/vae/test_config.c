/* What a VAE's config may say. */
#include "tests/unet/golden.h"
#include "vae/vae.h"

static dc_status read_text(const char *text, dc_vae_config *c, dc_error *e)
{
    json_t *root = NULL;
    *e = (dc_error){0};
    must(dc_json_parse(&root, "c.json", text, strlen(text), e), e);
    dc_status s = dc_vae_config_read(c, root, "c.json", e);
    json_decref(root);
    return s;
}

static void defaults(void **state)
{
    dc_vae_config c;
    dc_error e;
    (void)state;
    must(read_text("{}", &c, &e), &e);
    assert_true(!c.tiny && c.levels == 1 && c.width[0] == 64 && c.factor == 1 && c.layers == 1 && c.sample_size == 32);
    assert_true(c.scaling_factor == 0.18215 && c.shift_factor == 0 && c.quant_conv && c.post_quant_conv && c.mid_attention);
    must(read_text("{\"_class_name\": \"AutoencoderTiny\"}", &c, &e), &e);
    assert_true(c.tiny && c.levels == 4 && c.width[0] == 64 && c.factor == 8 && c.encoder_blocks[0] == 1 && c.decoder_blocks[0] == 3 &&
                c.decoder_blocks[3] == 1);
    assert_true(c.scaling_factor == 1 && c.act == DC_ACT_RELU);
    must(read_text("{\"num_decoder_blocks\": [3, 3, 3, 1]}", &c, &e), &e); /* told by its keys */
    assert_true(c.tiny);
}

static void refused(void **state)
{
    static const struct {
        const char *text, *named;
    } bad[] = {
        {"{\"_class_name\": \"VQModel\"}", "_class_name: found VQModel"},
        {"{\"block_out_channels\": [64, 128]}", "down_block_types"},
        {"{\"down_block_types\": [\"AttnDownEncoderBlock2D\"]}", "down_block_types: found AttnDownEncoderBlock2D"},
        {"{\"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}", "up_block_types: found 2 block types, expected 1"},
        {"{\"up_block_types\": [3]}", "up_block_types"},
        {"{\"act_fn\": \"gelu\"}", "act_fn: found gelu"},
        {"{\"norm_num_groups\": 24}", "norm_num_groups: found 24 groups for 64"},
        {"{\"latents_mean\": [0, 0, 0, 0]}", "latents_mean"},
        {"{\"out_channels\": 6}", "out_channels: found 6, expected 3"},
        {"{\"scaling_factor\": 0}", "scaling_factor"},
        {"{\"block_out_channels\": 64}", "block_out_channels"},
        {"{\"_class_name\": \"AutoencoderTiny\", \"upsample_fn\": \"bilinear\"}", "upsample_fn: found bilinear"},
        {"{\"_class_name\": \"AutoencoderTiny\", \"upsampling_scaling_factor\": 4}", "upsampling_scaling_factor"},
        {"{\"_class_name\": \"AutoencoderTiny\", \"act_fn\": \"mish\"}", "act_fn: found mish"},
        {"{\"_class_name\": \"AutoencoderTiny\", \"num_decoder_blocks\": [1, 1]}", "num_decoder_blocks: found 2 values, expected 4"},
        {"{\"_class_name\": \"AutoencoderTiny\", \"encoder_block_out_channels\": [64, 64, 32, 64]}", "block_out_channels"},
    };
    dc_vae_config c;
    dc_error e;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(read_text(bad[i].text, &c, &e), DC_DATA);
        if (strncmp(e.text, "c.json: ", 8) || !strstr(e.text, bad[i].named)) fail_msg("%s: %s", bad[i].text, e.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(defaults), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
