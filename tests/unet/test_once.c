/* What is done once in place of several times gives the same bytes: keys and values of the text made before the pass. Every module's
 * activation is compared, on UNets of every shape. (That those activations are diffusers' is the business of the other tests.) */
#include "tests/unet/golden.h"
#include "unet/unet.h"

enum { H = 12, W = 10, TEXT = 7, MOST_TAPS = 512 };

/* Activations of a pass, in their order. */
typedef struct taps {
    int n;
    struct {
        char name[128];
        size_t numbers;
        float *data;
    } at[MOST_TAPS];
} taps;

static void keep_tap(void *user, const char *name, const float *data, int rank, const int64_t *dim)
{
    taps *t = user;
    size_t n = 1;
    for (int i = 0; i < rank; i++) n *= (size_t)dim[i];
    assert_true(t->n < MOST_TAPS);
    snprintf(t->at[t->n].name, sizeof t->at->name, "%s", name);
    t->at[t->n].numbers = n;
    t->at[t->n].data = malloc(n * sizeof(float));
    memcpy(t->at[t->n++].data, data, n * sizeof(float));
}

static void drop(taps *t)
{
    for (int i = 0; i < t->n; i++) free(t->at[i].data);
    t->n = 0;
}

static void same(const taps *a, const taps *b, const char *what)
{
    assert_int_equal(a->n, b->n);
    for (int i = 0; i < a->n; i++) {
        assert_string_equal(a->at[i].name, b->at[i].name);
        assert_int_equal(a->at[i].numbers, b->at[i].numbers);
        if (memcmp(a->at[i].data, b->at[i].data, a->at[i].numbers * sizeof(float))) fail_msg("%s: %s differs", what, a->at[i].name);
    }
}

/* Numbers about as large as the real ones; the same every time. */
static float *numbers(size_t n, uint32_t seed)
{
    float *out = malloc((n + 1) * sizeof *out);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        out[i] = (float)((double)(seed >> 8) / (1 << 23) - 1.0) * 1.7f;
    }
    return out;
}

typedef struct fixture {
    const char *name;
    dc_device *device;
    dc_unet *unet;
    dc_unet_config c;
    int n; /* N */
    float *x, *extra, *context, *pooled, *ids, t, w;
    dc_tensor *text; /* made before the pass, or NULL */
    float *out;
} fixture;

static dc_tensor up(dc_run *r, int rank, int64_t a, int64_t b, int64_t c, int64_t d, const float *host)
{
    return dc_upload(r, DC_F32, rank, (int64_t[4]){a, b, c, d}, host);
}

static void text_pass(void *ctx, dc_run *r)
{
    fixture *f = ctx;
    dc_unet_text_forward(f->unet, r, up(r, 3, f->n, TEXT, f->c.context, 0, f->context), f->text);
}

static void pass(void *ctx, dc_run *r)
{
    fixture *f = ctx;
    const dc_unet_config *c = &f->c;
    dc_unet_in in = {.x = up(r, 4, f->n, H, W, c->out_channels, f->x), .timestep = up(r, 1, 1, 0, 0, 0, &f->t), .text = f->text};
    if (!f->text) in.context = up(r, 3, f->n, TEXT, c->context, 0, f->context);
    if (c->in_channels > c->out_channels) in.extra = up(r, 4, f->n, H, W, c->in_channels - c->out_channels, f->extra);
    if (c->text_time) in.pooled = up(r, 2, f->n, c->add_input - 6 * c->add_time_dim, 0, 0, f->pooled), in.time_ids = up(r, 2, f->n, 6, 0, 0, f->ids);
    if (c->time_cond) in.guidance = up(r, 1, 1, 0, 0, 0, &f->w);
    dc_download(r, dc_unet_forward(f->unet, r, in), f->out);
}

/* Activations, or (t NULL) the output alone, from the form without taps. */
static float *forward(fixture *f, taps *t)
{
    size_t bytes = (size_t)f->n * H * W * (size_t)f->c.out_channels * sizeof(float);
    dc_run *r = dc_run_new(f->device);
    f->out = malloc(bytes);
    if (t) dc_run_set_tap(r, keep_tap, t);
    run_once(r, pass, f);
    dc_run_free(r);
    return f->out;
}

static void text_before(fixture *f)
{
    size_t bytes = (size_t)f->n * H * W * (size_t)f->c.out_channels * sizeof(float);
    taps here = {0}, before = {0};
    dc_run *r = dc_run_new(f->device);
    float *fused = forward(f, NULL), *tapped = forward(f, &here);
    f->text = calloc((size_t)dc_unet_texts(f->unet) + 1, sizeof *f->text);
    run_once(r, text_pass, f);
    for (int i = 0; i < 2; i++) { /* twice: the first pass must not have touched them */
        float *fused_after = forward(f, NULL), *tapped_after = forward(f, &before);
        assert_memory_equal(fused, fused_after, bytes);
        assert_memory_equal(tapped, tapped_after, bytes);
        same(&here, &before, f->name);
        drop(&before);
        free(fused_after), free(tapped_after);
    }
    assert_true(here.n > 20);
    drop(&here);
    free(fused), free(tapped), free(f->text);
    f->text = NULL;
    dc_run_free(r);
}

static void check(const char *device, const char *name, const json_t *config, dc_weights *w)
{
    dc_error e = {0};
    fixture f = {.name = name, .device = open_device(device), .n = 2, .t = 321, .w = 5};
    must(dc_unet_config_read(&f.c, config, name, &e), &e);
    must(dc_unet_open(&f.unet, &f.c, w, f.device, NULL, &e), &e);
    must(dc_params_prepare(dc_unet_params(f.unet), NULL, NULL, &e), &e);
    print_message("%s on %s\n", name, device);
    size_t n = (size_t)f.n, area = H * W;
    f.x = numbers(n * area * (size_t)f.c.out_channels, 1);
    f.extra = numbers(n * area * (size_t)(f.c.in_channels - f.c.out_channels), 2);
    f.context = numbers(n * TEXT * (size_t)f.c.context, 3);
    f.pooled = numbers(n * (size_t)f.c.add_input, 4);
    f.ids = numbers(n * 6, 5);
    text_before(&f);
    free(f.x), free(f.extra), free(f.context), free(f.pooled), free(f.ids);
    dc_unet_close(f.unet);
    dc_device_close(f.device);
}

static void all(const char *device)
{
    static const char *const variants[] = {"per-level", "odd-size", "lcm", "nested-depths", "no-mid", "only-cross", "eight-channels", "kernels"};
    static const char *const models[] = {"sd1", "sd1-inpaint", "sdxl"};
    char path[512];
    dc_error e = {0};
    dc_weights *w = NULL;
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        snprintf(path, sizeof path, TEST_DATA "/golden/unet/%s.safetensors", variants[i]);
        must(dc_weights_open(&w, path, &e), &e);
        snprintf(path, sizeof path, TEST_DATA "/golden/unet/%s.json", variants[i]);
        json_t *root = read_json(path);
        check(device, variants[i], json_object_get(root, "config"), w);
        json_decref(root);
        dc_weights_close(w);
    }
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        snprintf(path, sizeof path, TEST_DATA "/golden/models/%s/unet", models[i]);
        must(dc_weights_open_folder(&w, path, "diffusion_pytorch_model", &e), &e);
        snprintf(path, sizeof path, TEST_DATA "/golden/models/%s/unet/config.json", models[i]);
        json_t *root = read_json(path);
        check(device, models[i], root, w);
        json_decref(root);
        dc_weights_close(w);
    }
}

static void on_ref(void **state) { (void)state, all("ref"); }
static void on_cpu(void **state) { (void)state, all("cpu"); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(on_ref), cmocka_unit_test(on_cpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
