/* Conversions: the names of published models there and back, tiny models from folder to file and back with the same bytes and the same
 * pictures. What is written is held against the reference's writer in tests/weights/test_write.c. */
#include "clip/tokenizer.h"
#include "include/diffc.h"
#include "tests/pipeline/holes.h"
#include "tests/weights/files.h"
#include "weights/write.h"

#define MODELS TEST_DATA "/golden/models/"

/* ---- names --------------------------------------------------------------------------------------------------------------- */

/* Tensors of a file that no part has: buffers and averages. */
static bool is_left_out(const char *name)
{
    static const char *const ends[] = {".position_ids", ".logit_scale"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (strlen(name) > strlen(ends[i]) && !strcmp(name + strlen(name) - strlen(ends[i]), ends[i])) return true;
    return !strncmp(name, "alphas_", 7) || !strncmp(name, "model_ema.", 10);
}

/* The item is this tensor of the file: shape, and data at the place where they lie (the rows of q, k and v one behind the other). */
static void check_item(const dc_write_item *x, const dc_stored *t)
{
    const char *at = t->data;
    assert_int_equal(x->rank, t->rank);
    for (int i = 0; i < x->rank; i++) assert_int_equal(x->dim[i], t->dim[i]);
    for (int i = 0; i < x->n_from; i++) {
        if ((const char *)x->from[i]->data != at) fail_msg("%s: other data", x->name);
        at += x->from[i]->bytes;
    }
    assert_true(at == (const char *)t->data + t->bytes);
    assert_int_equal(x->turned, x->from[0]->transposed);
}

static void check_names(const char *name, dc_file_kind kind)
{
    char path[64];
    json_t *root = read_description(name);
    dc_weights *w = write_file(path, json_object_get(root, "file"), ""), *part[DC_PARTS];
    dc_write_list l = {0};
    dc_error e = {0};
    int expected = 0, left_out;
    for (int p = 0; p < DC_PARTS; p++) {
        must(dc_weights_part(&part[p], w, (dc_part)p, &e), &e);
        if (part[p]) must(dc_write_add_part(&l, part[p], (dc_part)p, kind, &left_out, &e), &e);
        if (part[p]) assert_int_equal(left_out, 0);
    }
    for (int i = 0; i < dc_weights_count(w); i++) expected += !is_left_out(dc_weights_at(w, i)->name);
    for (int i = 0; i < l.n; i++) {
        const dc_stored *t = dc_weights_find(w, l.item[i].name);
        if (!t) fail_msg("%s: no %s in it", name, l.item[i].name);
        check_item(&l.item[i], t);
    }
    assert_int_equal(l.n, expected);
    print_message("%s: %d names\n", name, l.n);
    dc_write_list_free(&l);
    for (int p = 0; p < DC_PARTS; p++) dc_weights_close(part[p]);
    dc_weights_close(w);
    json_decref(root);
    unlink(path);
}

static void names(void **state)
{
    (void)state;
    check_names("sd15", DC_FILE_SD1);
    check_names("sd21", DC_FILE_SD2);
    check_names("sdxl", DC_FILE_XL);
    check_names("ssd-1b", DC_FILE_XL);
    check_names("tiny-sd", DC_FILE_SD1);
}

/* ---- whole models ----------------------------------------------------------------------------------------------------------- */

static void converted(const char *from, const char *config, const char *to, const char *type)
{
    diffc_error e = {0};
    diffc_conversion done;
    if (diffc_convert(&(diffc_options){.model = from, .config = config, .precision = type}, to, NULL, NULL, &done, &e)) fail_msg("%s", e.text);
    assert_true(done.n_parts >= 3 && done.bytes > 0);
}

/* Same names, shapes, types and bytes. */
static void same_tensors(const dc_weights *a, const dc_weights *b)
{
    assert_int_equal(dc_weights_count(a), dc_weights_count(b));
    for (int i = 0; i < dc_weights_count(a); i++) {
        const dc_stored *x = dc_weights_at(a, i), *y = dc_weights_at(b, i);
        assert_string_equal(x->name, y->name);
        if (x->dtype != y->dtype || x->rank != y->rank || x->bytes != y->bytes || memcmp(x->data, y->data, x->bytes)) fail_msg("%s differs", x->name);
        assert_memory_equal(x->dim, y->dim, (size_t)x->rank * sizeof *x->dim);
    }
}

static void same_folders(const char *a, const char *b, bool xl)
{
    for (int p = 0; p < DC_PARTS; p++) {
        const char *stem = p == DC_PART_UNET || p == DC_PART_VAE ? "diffusion_pytorch_model" : "model";
        char path[512];
        dc_weights *x, *y;
        dc_error e = {0};
        if (p == DC_PART_TEXT_2 && !xl) continue;
        snprintf(path, sizeof path, "%s/%s", a, dc_part_folder((dc_part)p));
        must(dc_weights_open_folder(&x, path, stem, &e), &e);
        snprintf(path, sizeof path, "%s/%s", b, dc_part_folder((dc_part)p));
        must(dc_weights_open_folder(&y, path, stem, &e), &e);
        same_tensors(x, y);
        dc_weights_close(x);
        dc_weights_close(y);
    }
}

static void same_files(const char *a, const char *b)
{
    dc_weights *x, *y;
    dc_error e = {0};
    must(dc_weights_open(&x, a, &e), &e);
    must(dc_weights_open(&y, b, &e), &e);
    same_tensors(x, y);
    dc_weights_close(x);
    dc_weights_close(y);
}

static void there_and_back(const char *name, bool xl)
{
    char model[512];
    snprintf(model, sizeof model, MODELS "%s", name);
    converted(model, NULL, in_folder("one.safetensors"), NULL);
    converted(model, NULL, in_folder("folder"), NULL);
    same_folders(model, in_folder("folder"), xl);
    converted(in_folder("one.safetensors"), model, in_folder("back"), NULL);
    same_folders(model, in_folder("back"), xl);
    converted(in_folder("back"), NULL, in_folder("again.safetensors"), NULL);
    same_files(in_folder("one.safetensors"), in_folder("again.safetensors"));
    converted(in_folder("one.safetensors"), model, in_folder("kept.safetensors"), "auto"); /* a file keeps its names */
    same_files(in_folder("one.safetensors"), in_folder("kept.safetensors"));
    /* float32 holds all of float16 */
    converted(model, NULL, in_folder("wide"), "f32");
    converted(in_folder("wide"), NULL, in_folder("narrow"), "f16");
    same_folders(model, in_folder("narrow"), xl);
}

static void sd1_there_and_back(void **state)
{
    (void)state;
    there_and_back("sd1", false);
}

static void sdxl_there_and_back(void **state)
{
    (void)state;
    there_and_back("sdxl", true);
}

typedef struct picture {
    uint8_t pixels[64 * 64 * 3];
    float latent[64];
} picture;

static diffc_status keep(void *user, const diffc_result *r, diffc_error *e)
{
    picture *p = user;
    (void)e;
    assert_int_equal(r->image->width * r->image->height, 64 * 64);
    memcpy(p->pixels, r->image->pixels, sizeof p->pixels);
    memcpy(p->latent, r->latent, sizeof p->latent);
    return DIFFC_OK;
}

static picture *draw(const char *model, const char *config)
{
    diffc_model *m;
    diffc_error e = {0};
    diffc_request q;
    picture *p = calloc(1, sizeof *p);
    if (diffc_open(&m, &(diffc_options){.model = model, .config = config}, &e)) fail_msg("%s", e.text);
    diffc_request_defaults(m, &q);
    q.prompt = "a red apple";
    q.width = q.height = 64;
    q.steps = 2;
    q.seed = 5;
    q.on_image = keep;
    q.user = p;
    if (diffc_generate(m, &q, &e)) fail_msg("%s", e.text);
    diffc_close(m);
    return p;
}

static void same_picture(const picture *a, const char *model, const char *config)
{
    picture *b = draw(model, config);
    if (memcmp(a, b, sizeof *b)) fail_msg("%s makes another picture", model);
    free(b);
}

static void pictures(void **state)
{
    (void)state;
    picture *a = draw(MODELS "sd1", NULL);
    converted(MODELS "sd1", NULL, in_folder("one.safetensors"), NULL);
    converted(MODELS "sd1", NULL, in_folder("folder"), "f32");
    converted(in_folder("one.safetensors"), MODELS "sd1", in_folder("back"), NULL);
    same_picture(a, in_folder("one.safetensors"), MODELS "sd1");
    same_picture(a, in_folder("folder"), NULL);
    same_picture(a, in_folder("back"), NULL);
    free(a);
    /* the folder for XL in the tests has no tokenizers, and converting makes those */
    converted(MODELS "sdxl", NULL, in_folder("xl"), NULL);
    a = draw(in_folder("xl"), NULL);
    converted(in_folder("xl"), NULL, in_folder("xl.safetensors"), NULL);
    same_picture(a, in_folder("xl.safetensors"), in_folder("xl"));
    free(a);
}

/* ---- what is said of the prediction ------------------------------------------------------------------------------------------ */

static void check_scheduler(const char *file, const char *key, const char *expected)
{
    json_t *root = read_json(file);
    const json_t *v = json_object_get(root, key);
    assert_string_equal(json_is_string(v) ? json_string_value(v) : json_is_true(v) ? "true" : "false", expected);
    json_decref(root);
}

/* v and zero terminal SNR go into a file as keys and metadata, and come back out of it. */
static void marks(void **state)
{
    (void)state;
    dc_weights *w;
    dc_error e = {0};
    /* the folder has a schedule only; its parts are the other model's */
    diffc_error x = {0};
    diffc_options o = {.model = MODELS "sd1-zsnr", .unet = MODELS "sd1/unet", .text_encoder = MODELS "sd1/text_encoder", .vae = MODELS "sd1/vae"};
    if (diffc_convert(&o, in_folder("v.safetensors"), NULL, NULL, NULL, &x)) fail_msg("%s", x.text);
    must(dc_weights_open(&w, in_folder("v.safetensors"), &e), &e);
    assert_non_null(dc_weights_find(w, "v_pred"));
    assert_non_null(dc_weights_find(w, "ztsnr"));
    assert_string_equal(dc_weights_metadata(w, "modelspec.prediction_type"), "v");
    assert_string_equal(dc_weights_metadata(w, "format"), "pt");
    dc_weights_close(w);
    char file[512];
    snprintf(file, sizeof file, "%s", in_folder("v.safetensors"));
    o = (diffc_options){.model = file};
    if (diffc_convert(&o, in_folder("v"), NULL, NULL, NULL, &x)) fail_msg("%s", x.text);
    check_scheduler(in_folder("v/scheduler/scheduler_config.json"), "prediction_type", "v_prediction");
    check_scheduler(in_folder("v/scheduler/scheduler_config.json"), "rescale_betas_zero_snr", "true");
    converted(in_folder("v.safetensors"), NULL, in_folder("kept.safetensors"), NULL);
    same_files(in_folder("v.safetensors"), in_folder("kept.safetensors"));
    o.prediction = "epsilon";
    if (diffc_convert(&o, in_folder("eps.safetensors"), NULL, NULL, NULL, &x)) fail_msg("%s", x.text);
    must(dc_weights_open(&w, in_folder("eps.safetensors"), &e), &e);
    assert_null(dc_weights_find(w, "v_pred"));
    assert_string_equal(dc_weights_metadata(w, "modelspec.prediction_type"), "epsilon");
    dc_weights_close(w);
}

/* ---- stopping ------------------------------------------------------------------------------------------------------------------- */

typedef struct fuse {
    int left;
} fuse;

static bool burn(void *user, const diffc_progress *p)
{
    assert_true(p->done <= p->total && p->stage == DIFFC_STAGE_WRITE);
    return --((fuse *)user)->left < 0;
}

static void stopped(void **state)
{
    static const char *const to[] = {"out", "out.safetensors"};
    (void)state;
    for (int i = 0; i < 2; i++)
        for (int n = 0; n < 900; n = n * 2 + 1) {
            diffc_error e = {0};
            fuse f = {n};
            assert_int_equal(diffc_convert(&(diffc_options){.model = MODELS "sd1"}, in_folder(to[i]), burn, &f, NULL, &e), DIFFC_CANCELLED);
            assert_int_equal(rmdir(folder), 0); /* nothing is left */
            assert_int_equal(mkdir(folder, 0700), 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names),
                                       cmocka_unit_test_setup_teardown(sd1_there_and_back, make_folder, remove_folder),
                                       cmocka_unit_test_setup_teardown(sdxl_there_and_back, make_folder, remove_folder),
                                       cmocka_unit_test_setup_teardown(pictures, make_folder, remove_folder),
                                       cmocka_unit_test_setup_teardown(marks, make_folder, remove_folder),
                                       cmocka_unit_test_setup_teardown(stopped, make_folder, remove_folder)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
