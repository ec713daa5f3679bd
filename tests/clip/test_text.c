/* Text towers against transformers: every hidden state, the normed top and the pooled state. Golden: tests/gen/models.py. */
#include "../unet/golden.h"
#include "clip/text.h"

typedef struct text_job {
    const dc_clip_text *m;
    const int32_t *ids;
    int n, t, skip;
    bool normed;
    float *hidden, *pooled;
} text_job;

static void pass(void *ctx, dc_run *r)
{
    const text_job *j = ctx;
    dc_clip_text_out out = dc_clip_text_forward(j->m, r, j->ids, j->n, j->t, j->skip, j->normed, true);
    dc_download(r, out.hidden, j->hidden);
    dc_download(r, out.pooled, j->pooled);
}

/* Compares a whole result with a tensor of the golden file. */
static void same(golden *g, const char *name, const float *got) { compare(g, name, got, golden_find(g, name), tolerance_of(g, name)); }

static void run(golden *g, text_job *j, dc_device *d, bool taps)
{
    dc_error e = {0};
    dc_run *r = dc_run_new(d);
    if (taps) dc_run_set_tap(r, golden_tap, g);
    must(dc_run_plan(r, pass, j, &e), &e);
    must(dc_run_reserve(r, &e), &e);
    must(dc_run_pass(r, pass, j, &e), &e);
    dc_run_free(r);
}

static void check(const char *device, const char *model, const char *part, const char *file, const char *section)
{
    char path[512];
    dc_error e = {0};
    golden g = {.device = device};
    dc_clip_text_config c;
    dc_weights *w = NULL;
    dc_clip_text *m = NULL;
    dc_device *d = NULL;
    json_t *config = NULL;
    snprintf(path, sizeof path, TEST_DATA "/golden/modules/%s/case.json", model);
    must(dc_json_read(&g.root, path, 1u << 20, &e), &e);
    g.tolerance = json_object_get(json_object_get(g.root, section), "tolerance");
    snprintf(path, sizeof path, TEST_DATA "/golden/modules/%s/%s", model, file);
    must(dc_weights_open(&g.w, path, &e), &e);
    snprintf(path, sizeof path, TEST_DATA "/golden/models/%s/%s/config.json", model, part);
    must(dc_json_read(&config, path, 1u << 20, &e), &e);
    must(dc_clip_text_config_read(&c, config, path, &e), &e);
    snprintf(path, sizeof path, TEST_DATA "/golden/models/%s/%s", model, part);
    must(dc_weights_open_folder(&w, path, "model", &e), &e);
    must(dc_device_open(&d, &(dc_device_options){.name = device}, &e), &e);
    must(dc_clip_text_open(&m, &c, w, d, NULL, &e), &e);
    must(dc_params_prepare(dc_clip_text_params(m), NULL, NULL, &e), &e);

    const dc_stored *stored = golden_find(&g, "input_ids");
    int n = (int)stored->dim[0], t = (int)stored->dim[1], width = c.width;
    int32_t *ids = calloc((size_t)(n * t), sizeof *ids);
    for (int i = 0; i < n * t; i++) ids[i] = (int32_t)((const int64_t *)stored->data)[i];
    text_job j = {
        .m = m, .ids = ids, .n = n, .t = t, .normed = true, .hidden = calloc((size_t)(n * t * width), 4), .pooled = calloc((size_t)(n * 4096), 4)};
    run(&g, &j, d, true);
    assert_true(g.compared >= c.layers + 3); /* embeddings, each layer, top, pooled */
    run(&g, &j, d, false);
    same(&g, "last_hidden_state", j.hidden);
    same(&g, "pooled", j.pooled);
    char name[32];
    for (j.skip = 1, j.normed = false; j.skip <= c.layers; j.skip++) {
        snprintf(name, sizeof name, "hidden.%d", c.layers - j.skip);
        run(&g, &j, d, false);
        same(&g, name, j.hidden);
    }
    free(ids);
    free(j.hidden);
    free(j.pooled);
    json_decref(config);
    json_decref(g.root);
    dc_clip_text_close(m);
    dc_device_close(d);
    dc_weights_close(w);
    dc_weights_close(g.w);
}

static void on(const char *device)
{
    check(device, "sd1", "text_encoder", "text.safetensors", "text");
    check(device, "sdxl", "text_encoder_2", "text_2.safetensors", "text_2"); /* gelu, projection */
}
static void on_ref(void **state) { (void)state, on("ref"); }
static void on_cpu(void **state) { (void)state, on("cpu"); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(on_ref), cmocka_unit_test(on_cpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
