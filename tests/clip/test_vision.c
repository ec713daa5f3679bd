/* Picture towers against transformers: every hidden state, the pooled one and the embedding, with all layers whole (tapped) and with the last
 * one cut to what is needed; preprocessing to the bit; configurations of both libraries. Goldens: tests/gen/clip_models.py. */
#include "clip/openclip.h"
#include "clip/preprocess.h"
#include "clip/vision.h"
#include "tests/unet/golden.h"
#include "weights/parts.h"
#include <zlib.h>

#define TINY   TEST_DATA "/golden/clip/tiny/"
#define IMAGES TEST_DATA "/golden/image/"

/* ---- the tower -------------------------------------------------------------------------------------------------------- */

typedef struct tower {
    golden g;
    dc_weights *file, *part;
    dc_device *device;
    dc_clip_vision *m;
    float *patches, *out;
    int n;
} tower;

static void open_tower(tower *f, const char *way)
{
    dc_error e = {0};
    dc_clip_vision_config c;
    *f = (tower){.g.way = way, .g.root = read_json(TINY "golden.json"), .n = 2, .device = open_device(way)};
    f->g.tolerance = json_object_get(f->g.root, "tolerance");
    json_t *config = read_json(TINY "hf/config.json");
    must(dc_weights_open(&f->g.w, TINY "golden.safetensors", &e), &e);
    must(dc_weights_open_folder(&f->file, TINY "hf", "model", &e), &e);
    must(dc_weights_part(&f->part, f->file, DC_PART_VISION, &e), &e);
    must(dc_clip_vision_config_read(&c, config, "config.json", &e), &e);
    must(dc_clip_vision_open(&f->m, &c, f->part, f->device, NULL, &e), &e);
    must(dc_params_prepare(dc_clip_vision_params(f->m), NULL, NULL, &e), &e);
    const size_t values = dc_clip_vision_patch_values(&c), pixels = (size_t)(3 * c.image * c.image);
    f->patches = malloc(2 * values * sizeof(float));
    f->out = malloc(DC_CLIP_MOST_IMAGES * 7 * sizeof(float));
    for (size_t i = 0; i < 2; i++) dc_clip_vision_patches(&c, golden_data(&f->g, "pixels") + i * pixels, f->patches + i * values);
    json_decref(config);
}

static void close_tower(tower *f)
{
    dc_clip_vision_close(f->m);
    dc_device_close(f->device);
    dc_weights_close(f->part);
    dc_weights_close(f->file);
    dc_weights_close(f->g.w);
    json_decref(f->g.root);
    free(f->patches);
    free(f->out);
}

static void pass(void *ctx, dc_run *r)
{
    const tower *f = ctx;
    dc_download(r, dc_clip_vision_forward(f->m, r, f->patches, f->n), f->out);
}

static void towers(void **state)
{
    tower f;
    open_tower(&f, way_of(state));
    for (int taps = 1; taps >= 0; taps--) {
        dc_run *r = dc_run_new(f.device);
        if (taps) dc_run_set_tap(r, golden_tap, &f.g);
        run_once(r, pass, &f);
        compare(&f.g, "embeds", f.out, golden_find(&f.g, "embeds"), tolerance_of(&f.g, "embeds"));
        dc_run_free(r);
    }
    assert_int_equal(f.g.compared, 3 + 2 + 2); /* embeddings and two layers, pooled and embeds, and that without taps */
    close_tower(&f);
}

static void too_many(void **state)
{
    (void)state;
    tower f;
    open_tower(&f, "ref");
    for (f.n = 0; f.n <= DC_CLIP_MOST_IMAGES + 1; f.n += DC_CLIP_MOST_IMAGES + 1) {
        dc_error e = {0};
        dc_run *r = dc_run_new(f.device);
        assert_int_equal(dc_run_plan(r, pass, &f, &e), DC_USAGE);
        dc_run_free(r);
    }
    close_tower(&f);
}

/* ---- configurations ------------------------------------------------------------------------------------------------------ */

/* The config with vision_config.KEY set: the status of reading it and opening the tower. */
static void with(const char *key, json_t *value, dc_status want, const char *part)
{
    dc_error e = {0};
    dc_clip_vision_config c;
    dc_weights *file = NULL, *tower_part = NULL;
    dc_clip_vision *m = NULL;
    json_t *root = read_json(TINY "hf/config.json");
    json_object_set_new(json_object_get(root, "vision_config"), key, value);
    must(dc_weights_open_folder(&file, TINY "hf", "model", &e), &e);
    must(dc_weights_part(&tower_part, file, DC_PART_VISION, &e), &e);
    dc_device *d = open_device("ref");
    dc_status s = dc_clip_vision_config_read(&c, root, "config.json", &e);
    if (!s) s = dc_clip_vision_open(&m, &c, tower_part, d, NULL, &e);
    if (s != want || !strstr(e.text, part)) fail_msg("%s: status %d (%s), expected %d with \"%s\"", key, s, e.text, want, part);
    dc_clip_vision_close(m);
    dc_device_close(d);
    dc_weights_close(tower_part);
    dc_weights_close(file);
    json_decref(root);
}

static void configs(void **state)
{
    (void)state;
    with("num_attention_heads", json_integer(4), DC_OK, "");
    with("num_attention_heads", json_integer(5), DC_DATA, "multiple of num_attention_heads (5)");
    with("patch_size", json_integer(5), DC_DATA, "patch_embedding.weight: found [12,3,6,6], expected [12,3,5,5]");
    with("patch_size", json_integer(21), DC_DATA, "patch_size: found 21");
    with("patch_size", json_integer(0), DC_DATA, "patch_size");
    with("image_size", json_integer(23), DC_OK, ""); /* three patches a side, too */
    with("image_size", json_integer(24), DC_DATA, "position_embedding.weight");
    with("image_size", json_integer(1 << 20), DC_DATA, "image_size");
    with("num_channels", json_integer(4), DC_DATA, "num_channels");
    with("hidden_act", json_string("relu"), DC_DATA, "found relu");
    with("model_type", json_string("siglip_vision_model"), DC_DATA, "model_type");
    with("num_hidden_layers", json_integer(3), DC_DATA, "16 tensors missing");
}

/* open_clip's configuration with one key of a section set. */
static void openclip_with(const char *section, const char *key, json_t *value, dc_status want, const char *part)
{
    dc_error e = {0};
    json_t *out = NULL, *root = read_json(TINY "open_clip_config.json"), *model = json_object_get(root, "model_cfg");
    json_object_set_new(*section ? json_object_get(model, section) : model, key, value);
    dc_status s = dc_openclip_config(&out, root, "c.json", &e);
    if (s != want || !strstr(e.text, part)) fail_msg("%s: status %d (%s), expected %d with \"%s\"", key, s, e.text, want, part);
    assert_true((out != NULL) == (want == DC_OK));
    json_decref(out);
    json_decref(root);
}

static void openclip_configs(void **state)
{
    (void)state;
    openclip_with("vision_cfg", "ls_init_value", json_null(), DC_OK, "");
    openclip_with("vision_cfg", "ls_init_value", json_real(1e-5), DC_DATA, "vision_cfg.ls_init_value");
    openclip_with("vision_cfg", "layers", json_pack("[i,i,i,i]", 3, 4, 6, 3), DC_DATA, "a ResNet");
    openclip_with("vision_cfg", "timm_model_name", json_string("vit"), DC_DATA, "found vit");
    openclip_with("vision_cfg", "pool_type", json_string("avg"), DC_DATA, "found avg");
    openclip_with("vision_cfg", "image_size", json_pack("[i,i]", 20, 30), DC_DATA, "a square");
    openclip_with("vision_cfg", "image_size", json_pack("[i,i]", 20, 20), DC_OK, "");
    openclip_with("text_cfg", "hf_model_name", json_string("roberta"), DC_DATA, "found roberta");
    openclip_with("text_cfg", "pool_type", json_string("last"), DC_DATA, "found last");
    openclip_with("text_cfg", "width", json_string("wide"), DC_DATA, "width");
    openclip_with("", "text_cfg", json_null(), DC_DATA, "no vision_cfg and text_cfg");
    openclip_with("", "embed_dim", json_integer(0), DC_DATA, "embed_dim");
}

/* ---- pictures ---------------------------------------------------------------------------------------------------------- */

static void preprocess(void **state)
{
    (void)state;
    size_t i;
    json_t *root = read_json(TINY "golden.json"), *row, *crc;
    json_array_foreach(json_object_get(root, "preprocess"), i, row)
    {
        dc_error e = {0};
        dc_clip_preprocess p;
        const char *name;
        const bool openclip = !strcmp(json_string_value(json_array_get(row, 0)), "open_clip");
        const int side = (int)json_integer_value(json_array_get(row, 1));
        must((openclip ? dc_clip_preprocess_read_openclip : dc_clip_preprocess_read)(&p, json_array_get(row, 2), side, "c.json", &e), &e);
        float *out = malloc((size_t)(3 * side * side) * sizeof *out);
        json_object_foreach(json_array_get(row, 3), name, crc)
        {
            char path[512];
            dc_image m;
            snprintf(path, sizeof path, IMAGES "%s", name);
            must(dc_image_read(&m, path, openclip ? DC_IMAGE_ALPHA : 0, &e), &e);
            must(dc_clip_preprocess_run(&p, &m, out, &e), &e);
            const uint32_t found = (uint32_t)crc32(0, (const Bytef *)out, (uInt)(3 * side * side) * 4);
            if (found != (uint32_t)json_integer_value(crc))
                fail_msg("row %zu (%s, %d): %s differs", i, openclip ? "open_clip" : "transformers", side, name);
            dc_image_free(&m);
        }
        free(out);
    }
    assert_int_equal(i, 12);
    json_decref(root);
}

static void refused(const char *text, bool openclip, const char *part)
{
    dc_error e = {0};
    dc_clip_preprocess p;
    json_t *root = json_loads(text, 0, NULL);
    dc_status s = (openclip ? dc_clip_preprocess_read_openclip : dc_clip_preprocess_read)(&p, root, 32, "c.json", &e);
    if (s != DC_DATA || !strstr(e.text, part)) fail_msg("%s: status %d (%s), expected \"%s\"", text, s, e.text, part);
    json_decref(root);
}

static void preprocess_configs(void **state)
{
    (void)state;
    refused("[]", false, "no JSON object");
    refused("{\"size\": {\"shortest_edge\": 32, \"longest_edge\": 64}}", false, "size");
    refused("{\"size\": {\"width\": 32}}", false, "size");
    refused("{\"size\": -1}", false, "size");
    refused("{\"crop_size\": 31}", false, "crop_size: found 31x31");
    refused("{\"do_center_crop\": false}", false, "do_center_crop");
    refused("{\"do_center_crop\": false, \"size\": {\"width\": 32, \"height\": 33}}", false, "size: found 32x33");
    refused("{\"image_mean\": [1, 2]}", false, "image_mean");
    refused("{\"image_std\": [1, 0, 1]}", false, "image_std");
    refused("{\"resample\": 5}", false, "resample");
    refused("{\"preprocess_cfg\": {\"resize_mode\": \"widest\"}}", true, "found widest");
    refused("{\"preprocess_cfg\": {\"interpolation\": \"nearest\"}}", true, "found nearest");
    refused("{\"preprocess_cfg\": {\"fill_color\": 256}}", true, "fill_color");
    refused("{\"preprocess_cfg\": {\"std\": 0}}", true, "std");
}

int main(void)
{
    const struct CMUnitTest tests[] = {ON_EVERY_LEVEL(towers),
                                       ON(towers, "cpu bf16"),
                                       cmocka_unit_test(too_many),
                                       cmocka_unit_test(configs),
                                       cmocka_unit_test(openclip_configs),
                                       cmocka_unit_test(preprocess),
                                       cmocka_unit_test(preprocess_configs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
