/* Files of the shape of Stable Diffusion 2.x that do not say what their UNet predicts. */
#include "include/diffc.h"
#include "tests/pipeline/holes.h"
#include "tests/weights/files.h"
#include "weights/write.h"

#define MODELS TEST_DATA "/golden/models/"

/* A tiny model of the shape of 2.x, of which no file says what its UNet predicts; its answers are about `bias` everywhere.
 * Ref: A1111 takes for v what answers a latent of 0.5 with a mean below -0.5. */
static void unsure(float bias, const char *told, const char *expected)
{
    static const struct {
        dc_part part;
        const char *folder, *stem;
    } parts[] = {
        {DC_PART_UNET, "unet", "diffusion_pytorch_model"}, {DC_PART_VAE, "vae", "diffusion_pytorch_model"}, {DC_PART_TEXT, "text_encoder", "model"}};
    const float answer[4] = {bias, bias, bias, bias};
    const int64_t dim[1] = {4};
    const dc_stored constant = {.dtype = DC_F32, .rank = 1, .dim = dim, .data = answer, .bytes = sizeof answer}, *constants = &constant;
    const char *file = in_folder("unsure.safetensors"), *config = in_folder("shape");
    dc_write_list l = {0};
    dc_weights *w[3];
    dc_error e = {0};
    for (int i = 0; i < 3; i++) {
        char path[512];
        int left_out;
        snprintf(path, sizeof path, MODELS "sd1/%s", parts[i].folder);
        must(dc_weights_open_folder(&w[i], path, parts[i].stem, &e), &e);
        must(dc_write_add_part(&l, w[i], parts[i].part, DC_FILE_SD1, &left_out, &e), &e);
    }
    for (int i = 0; i < l.n; i++) {
        if (!strcmp(l.item[i].name, "model.diffusion_model.out.2.bias")) l.item[i].from[0] = constants;
        if (strstr(l.item[i].name, "proj_in.weight") || strstr(l.item[i].name, "proj_out.weight")) l.item[i].rank = 2; /* [C,C,1,1] */
    }
    must(dc_safetensors_write(file, &l, &(dc_write_options){0}, &e), &e);
    diffc_model *m;
    diffc_error error = {0};
    if (diffc_open(&m, &(diffc_options){.model = file, .config = config, .prediction = told}, &error)) fail_msg("%s", error.text);
    if (!strstr(diffc_model_summary(m), expected)) fail_msg("found %s, expected %s", diffc_model_summary(m), expected);
    diffc_close(m);
    dc_write_list_free(&l);
    for (int i = 0; i < 3; i++) dc_weights_close(w[i]);
}

/* sd1 as it is, but for linear projections, and no word about noise. */
static void write_shape(const char *to)
{
    static const char *const linked[] = {"model_index.json", "vae", "text_encoder", "tokenizer"};
    char path[512], target[512];
    json_t *unet = json_load_file(MODELS "sd1/unet/config.json", 0, NULL);
    assert_non_null(unet);
    json_object_set_new(unet, "use_linear_projection", json_true());
    assert_int_equal(mkdir(to, 0755), 0);
    for (size_t i = 0; i < sizeof linked / sizeof *linked; i++) {
        snprintf(path, sizeof path, "%s/%s", to, linked[i]);
        snprintf(target, sizeof target, MODELS "sd1/%s", linked[i]);
        assert_int_equal(symlink(target, path), 0);
    }
    snprintf(path, sizeof path, "%s/unet", to);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/unet/config.json", to);
    assert_int_equal(json_dump_file(unet, path, 0), 0);
    json_decref(unet);
}

static void probed(void **state)
{
    (void)state;
    write_shape(in_folder("shape"));
    unsure(0, NULL, "epsilon prediction");
    unsure(-3, NULL, "v prediction");
    unsure(-3, "epsilon", "epsilon prediction");
    unsure(3, NULL, "epsilon prediction");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(probed)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
