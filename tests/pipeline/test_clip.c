/* Whole CLIP models through the library's face: one model in three forms (a folder of transformers, a TorchScript of OpenAI's names, the same
 * with an open_clip configuration) against transformers and open_clip. Goldens: tests/gen/clip_models.py. */
#include "base/checked.h"
#include "base/file.h"
#include "include/diffc.h"
#include "tests/unet/golden.h"
#include <unistd.h>

#define TINY   TEST_DATA "/golden/clip/tiny/"
#define IMAGES TEST_DATA "/golden/image/"

enum { DIMS = 7, MOST = 40 };

static void ok(diffc_status s, const diffc_error *e)
{
    if (s) fail_msg("status %d: %s", (int)s, e->text);
}

static diffc_clip *open_clip(const char *path, const char *config, const char *precision)
{
    diffc_error e = {0};
    diffc_clip *m = NULL;
    ok(diffc_clip_open(&m, &(diffc_options){.model = path, .config = config, .precision = precision, .threads = 2}, &e), &e);
    return m;
}

/* Every row's cosine to the golden one is at least 1 - `off`, and its length 1. */
static void check_rows(const float *got, const json_t *want, double off, const char *what)
{
    size_t i, k;
    json_t *row, *v;
    json_array_foreach(want, i, row)
    {
        double dot = 0, length = 0;
        assert_int_equal(json_array_size(row), DIMS);
        json_array_foreach(row, k, v)
        {
            dot += json_number_value(v) * (double)got[i * DIMS + k];
            length += (double)got[i * DIMS + k] * (double)got[i * DIMS + k];
        }
        if (!(dot >= 1 - off) || !(fabs(length - 1) < 1e-6)) fail_msg("%s %zu: cosine %.9g, squared length %.9g", what, i, dot, length);
    }
}

static int take_texts(const json_t *list, const char **out)
{
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) out[i] = json_string_value(v);
    return (int)json_array_size(list);
}

static int read_pictures(const diffc_clip *m, const json_t *list, diffc_image *out)
{
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v)
    {
        char path[512];
        diffc_error e = {0};
        snprintf(path, sizeof path, IMAGES "%s", json_string_value(v));
        ok(diffc_clip_image_read(m, &out[i], path, &e), &e);
    }
    return (int)json_array_size(list);
}

static void check_model(const json_t *root, const char *form, const char *path, const char *config, const char *precision, double off)
{
    diffc_error e = {0};
    float rows[MOST * DIMS];
    const char *texts[MOST];
    diffc_image pictures[MOST];
    diffc_clip *m = open_clip(path, config, precision);
    const diffc_clip_info *about = diffc_clip_about(m);
    const json_t *want = json_object_get(root, form);
    print_message("%s: %s (%s)\n", form, about->summary, about->id);
    assert_int_equal(about->dims, DIMS);
    assert_int_equal(about->width, 20);
    assert_int_equal(about->pixels, 1200);
    assert_int_equal(about->tokens, 16);
    assert_true(about->has_text && about->has_images);
    assert_true(fabs(about->logit_scale / json_number_value(json_object_get(root, "logit_scale")) - 1) < 1e-6);

    int n = take_texts(json_object_get(root, "texts"), texts);
    ok(diffc_clip_embed_text(m, texts, n, rows, &e), &e);
    check_rows(rows, json_object_get(want, "texts"), off, "text");
    for (int i = 0; i < n; i++) /* one by one: what a text is embedded with says nothing */
        ok(diffc_clip_embed_text(m, texts + i, 1, rows + i * DIMS, &e), &e);
    check_rows(rows, json_object_get(want, "texts"), off, "text alone");

    n = read_pictures(m, json_object_get(root, "pictures"), pictures);
    ok(diffc_clip_embed_images(m, pictures, n, rows, &e), &e);
    check_rows(rows, json_object_get(want, "pictures"), off, "picture");
    float *pixels = malloc((size_t)n * about->pixels * sizeof *pixels);
    for (int i = 0; i < n; i++) ok(diffc_clip_preprocess(m, &pictures[i], pixels + (size_t)i * about->pixels, &e), &e);
    ok(diffc_clip_embed_pixels(m, pixels, n, rows, &e), &e);
    check_rows(rows, json_object_get(want, "pictures"), off, "pixels");
    free(pixels);
    for (int i = 0; i < n; i++) diffc_image_free(&pictures[i]);
    diffc_clip_close(m);
}

static void forms(void **state)
{
    (void)state;
    json_t *root = read_json(TINY "golden.json");
    for (int i = 0; i < 2; i++) { /* cosines to the libraries within float's rounding; half of bfloat16's 0.9995 */
        const char *precision = i ? "bf16" : "f32";
        double off = i ? 2.5e-4 : 1e-6;
        check_model(root, "hf", TINY "hf", NULL, precision, off);
        check_model(root, "openai", TINY "script.pt", NULL, precision, off);
        check_model(root, "open_clip", TINY "script.pt", TINY "open_clip_config.json", precision, off);
    }
    json_decref(root);
}

/* A folder of open_clip; more pictures than one pass takes. */
static void openclip_folder(void **state)
{
    (void)state;
    char folder[] = "/tmp/diffc-clip-XXXXXX", path[64], weights[96];
    assert_non_null(mkdtemp(folder));
    json_t *root = read_json(TINY "golden.json");
    snprintf(path, sizeof path, "%s/open_clip_config.json", folder);
    snprintf(weights, sizeof weights, "%s/open_clip_pytorch_model.bin", folder);
    assert_int_equal(symlink(TINY "open_clip_config.json", path) | symlink(TINY "script.pt", weights), 0);
    check_model(root, "open_clip", folder, NULL, NULL, 1e-6);

    diffc_error e = {0};
    diffc_clip *m = open_clip(folder, NULL, NULL);
    diffc_image one[8], many[MOST];
    float rows[MOST * DIMS], alone[DIMS];
    int n = read_pictures(m, json_object_get(root, "pictures"), one);
    for (int i = 0; i < MOST; i++) many[i] = one[i % n];
    ok(diffc_clip_embed_images(m, many, MOST, rows, &e), &e);
    ok(diffc_clip_embed_images(m, &many[MOST - 1], 1, alone, &e), &e);
    for (int k = 0; k < DIMS; k++) assert_true(fabs((double)alone[k] - (double)rows[(MOST - 1) * DIMS + k]) < 1e-5);
    for (int i = 0; i < n; i++) diffc_image_free(&one[i]);
    diffc_clip_close(m);
    unlink(path);
    unlink(weights);
    rmdir(folder);
    json_decref(root);
}

/* Labels by templates, and a model's probabilities for pictures. */
static void zero_shot(void **state)
{
    (void)state;
    diffc_error e = {0};
    float labels[8 * DIMS], rows[8 * DIMS];
    const char *names[8], *templates[8];
    diffc_image pictures[8];
    json_t *root = read_json(TINY "golden.json"), *want = json_object_get(root, "probabilities");
    diffc_clip *m = open_clip(TINY "hf/", NULL, NULL);
    const double scale = diffc_clip_about(m)->logit_scale;
    int n = take_texts(json_object_get(root, "labels"), names), t = take_texts(json_object_get(root, "templates"), templates);
    ok(diffc_clip_embed_prompts(m, names, n, templates, t, labels, &e), &e);
    int k = read_pictures(m, json_object_get(root, "pictures"), pictures);
    ok(diffc_clip_embed_images(m, pictures, k, rows, &e), &e);
    for (int i = 0; i < k; i++) {
        double p[8], sum = 0;
        for (int j = 0; j < n; j++) {
            double dot = 0;
            for (int d = 0; d < DIMS; d++) dot += (double)rows[i * DIMS + d] * (double)labels[j * DIMS + d];
            sum += p[j] = exp(scale * dot);
        }
        for (int j = 0; j < n; j++) {
            double w = json_number_value(json_array_get(json_array_get(want, (size_t)i), (size_t)j));
            if (!(fabs(p[j] / sum - w) < 1e-5)) fail_msg("picture %d, %s: probability %.7g, expected %.7g", i, names[j], p[j] / sum, w);
        }
        diffc_image_free(&pictures[i]);
    }
    diffc_clip_close(m);
    json_decref(root);
}

/* Ids name the weights and how they are used, not the path. */
static void ids(void **state)
{
    (void)state;
    char folder[] = "/tmp/diffc-clip-XXXXXX", link[64], id[4][128];
    assert_non_null(mkdtemp(folder));
    snprintf(link, sizeof link, "%s/hf", folder);
    assert_int_equal(symlink(TINY "hf", link), 0);
    const char *const models[4][2] = {{TINY "hf"}, {link}, {TINY "script.pt"}, {TINY "script.pt", TINY "open_clip_config.json"}};
    for (int i = 0; i < 4; i++) {
        diffc_clip *m = open_clip(models[i][0], models[i][1], NULL);
        snprintf(id[i], sizeof id[i], "%s", diffc_clip_about(m)->id);
        assert_int_equal(strspn(id[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"), strlen(id[i]));
        diffc_clip_close(m);
    }
    assert_string_equal(id[0], id[1]);
    assert_string_not_equal(id[0], id[2]);
    assert_string_not_equal(id[2], id[3]);
    unlink(link);
    rmdir(folder);
}

static void refused(const char *path, const char *config, diffc_status want, const char *part)
{
    diffc_error e = {0};
    diffc_clip *m = NULL;
    diffc_status s = diffc_clip_open(&m, &(diffc_options){.model = path, .config = config}, &e);
    if (s != want || !strstr(e.text, part)) fail_msg("%s: status %d (%s), expected %d with \"%s\"", path, (int)s, e.text, (int)want, part);
    assert_null(m);
}

static void refusals(void **state)
{
    (void)state;
    diffc_error e = {0};
    float row[DIMS];
    refused("/nonexistent/model", NULL, DIFFC_NO_INPUT, "not found");
    refused(TEST_DATA, NULL, DIFFC_NO_INPUT, "neither config.json nor open_clip_config.json");
    refused(TEST_DATA "/golden/models/sd1/unet", NULL, DIFFC_DATA, "model_type: found none");
    refused(TEST_DATA "/golden/models/sd1/unet/diffusion_pytorch_model.safetensors", NULL, DIFFC_DATA, "expected a CLIP model");
    refused(TINY "hf", TINY "open_clip_config.json", DIFFC_USAGE, "--config");
    refused(TINY "golden.safetensors", NULL, DIFFC_DATA, "expected a CLIP model");
    diffc_clip *m = open_clip(TEST_DATA "/golden/models/sd1/text_encoder", NULL, NULL); /* a text encoder alone */
    assert_int_equal(diffc_clip_embed_pixels(m, row, 1, row, &e), DIFFC_USAGE);
    assert_non_null(strstr(e.text, "no encoder of pictures"));
    diffc_clip_close(m);
    m = open_clip(TINY "hf", NULL, NULL);
    assert_int_equal(diffc_clip_embed_text(m, (const char *const[]){"\xff"}, 1, row, &e), DIFFC_USAGE);
    diffc_clip_cancel(m);
    assert_int_equal(diffc_clip_embed_text(m, (const char *const[]){"a"}, 1, row, &e), DIFFC_CANCELLED);
    ok(diffc_clip_embed_text(m, (const char *const[]){"a"}, 1, row, &e), &e); /* the next one works again */
    diffc_clip_close(m);
    diffc_clip_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(forms), cmocka_unit_test(openclip_folder), cmocka_unit_test(zero_shot), cmocka_unit_test(ids),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
