/* Previews: what diffusers' schedulers take the finished picture to be after each step, and that nothing else changes by them.
 * Golden: tests/gen/previews.py. */
#include "base/json.h"
#include "base/npy.h"
#include "include/diffc.h"
#include "tests/weights/files.h"
#include <math.h>

#define GOLDEN TEST_DATA "/golden/"

/* Everything on_preview and on_image were told. */
typedef struct shown {
    int n, index[400], step[400], steps, count, width, height, stop_at; /* stop_at: number of the call that stops; 0: none */
    uint8_t *pixels[400];
    uint8_t *picture[8]; /* finished ones */
    int n_pictures, pictures_before[400];
    size_t bytes;
} shown;

static uint8_t *copy(const diffc_image *m)
{
    const size_t n = 3 * (size_t)m->width * (size_t)m->height;
    uint8_t *out = malloc(n);
    assert_non_null(out);
    assert_int_equal(m->channels, 3);
    return memcpy(out, m->pixels, n);
}

static bool show(void *user, const diffc_preview *p)
{
    shown *s = user;
    assert_true(s->n < 400 && p->seconds >= 0);
    s->index[s->n] = p->index, s->step[s->n] = p->step, s->steps = p->steps, s->count = p->count;
    s->width = p->image->width, s->height = p->image->height;
    s->pictures_before[s->n] = s->n_pictures;
    s->pixels[s->n++] = copy(p->image);
    return s->n == s->stop_at;
}

static diffc_status keep(void *user, const diffc_result *r, diffc_error *error)
{
    (void)error;
    shown *s = user;
    assert_true(s->n_pictures < 8);
    s->bytes = 3 * (size_t)r->image->width * (size_t)r->image->height;
    s->picture[s->n_pictures++] = copy(r->image);
    return DIFFC_OK;
}

static void forget(shown *s)
{
    for (int i = 0; i < s->n; i++) free(s->pixels[i]);
    for (int i = 0; i < s->n_pictures; i++) free(s->picture[i]);
    *s = (shown){0};
}

static diffc_model *open_with(diffc_options o)
{
    diffc_error e = {0};
    diffc_model *m;
    o.threads = 1; /* the models are tiny, and the bytes do not depend on it */
    if (diffc_open(&m, &o, &e)) fail_msg("%s", e.text);
    return m;
}

static diffc_model *open_model(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s%s", strcmp(name, "default") ? GOLDEN "models/" : ASSETS "/", name);
    return open_with((diffc_options){.model = path});
}

static diffc_request ask(diffc_model *m, const char *preview, int steps, shown *s)
{
    diffc_request q;
    diffc_request_defaults(m, &q);
    q.prompt = "a house";
    q.steps = steps;
    q.seed = 5;
    q.preview = preview;
    q.preview_interval = 1;
    q.on_preview = show;
    q.on_image = keep;
    q.user = s;
    return q;
}

static void generate(diffc_model *m, const diffc_request *q)
{
    diffc_error e = {0};
    if (diffc_generate(m, q, &e)) fail_msg("%s", e.text);
}

static void refused(diffc_model *m, const diffc_request *q, diffc_status code, const char *text, const char *hint)
{
    diffc_error e = {0};
    diffc_plan p;
    assert_int_equal(diffc_plan_request(m, q, &p, &e), code); /* told before any work */
    e = (diffc_error){0};
    assert_int_equal(diffc_generate(m, q, &e), code);
    if (!strstr(e.text, text) || !strstr(e.hint, hint)) fail_msg("found \"%s\", \"%s\", expected %s, %s", e.text, e.hint, text, hint);
}

/* A copy of the model sd1 with links to its parts, its VAE's scaling factor, and a preview.json (NULL: none). */
static diffc_model *made_up(double scaling, const char *preview)
{
    static const char *const linked[] = {"model_index.json", "unet", "text_encoder", "scheduler"};
    static int number;
    char name[32], path[600], target[600];
    snprintf(name, sizeof name, "model-%d", ++number);
    const char *to = in_folder(name);
    assert_int_equal(mkdir(to, 0755), 0);
    for (size_t i = 0; i < sizeof linked / sizeof *linked; i++) {
        snprintf(path, sizeof path, "%s/%s", to, linked[i]);
        snprintf(target, sizeof target, GOLDEN "models/sd1/%s", linked[i]);
        assert_int_equal(symlink(target, path), 0);
    }
    json_t *vae = json_load_file(GOLDEN "models/sd1/vae/config.json", 0, NULL);
    json_object_set_new(vae, "scaling_factor", json_real(scaling));
    snprintf(path, sizeof path, "%s/vae", to);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/vae/config.json", to);
    assert_int_equal(json_dump_file(vae, path, 0), 0);
    json_decref(vae);
    snprintf(path, sizeof path, "%s/vae/diffusion_pytorch_model.safetensors", to);
    assert_int_equal(symlink(GOLDEN "models/sd1/vae/diffusion_pytorch_model.safetensors", path), 0);
    if (preview) {
        char file[64];
        snprintf(file, sizeof file, "%s/preview.json", name);
        write_bytes(file, preview, strlen(preview));
    }
    return open_with((diffc_options){.model = to});
}

/* ---- against diffusers ------------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *c, const char *key) { return json_string_value(json_object_get(c, key)); }
static int number_of(const json_t *c, const char *key) { return (int)json_integer_value(json_object_get(c, key)); }

static bool start_images(const json_t *c, diffc_image *init, diffc_image *mask)
{
    char path[600];
    const char *from = text_of(c, "init");
    if (!from) return false;
    snprintf(path, sizeof path, GOLDEN "txt2img/%s/init.png", from);
    assert_int_equal(diffc_image_read(init, path, false, NULL), DIFFC_OK);
    snprintf(path, sizeof path, GOLDEN "txt2img/%s/mask.png", from);
    if (json_is_true(json_object_get(c, "mask"))) assert_int_equal(diffc_image_read(mask, path, true, NULL), DIFFC_OK);
    return true;
}

/* Pixels of one preview, every n-th each way, beside those wanted: rounding may fall to either side, and float32 runs of diffusers itself are up to
 * 0.02 levels from its float64 ones (previews.py prints it), but where a solver takes differences of estimates. */
static void compare(const char *name, const uint8_t *found, const uint8_t *want, const int shape[3], int every, int width)
{
    int off = 0;
    for (int y = 0; y < shape[1]; y++)
        for (int x = 0; x < shape[2]; x++)
            for (int k = 0; k < 3; k++) {
                const int d = abs(found[3 * (y * every * width + x * every) + k] - want[3 * (y * shape[2] + x) + k]);
                if (d > 1)
                    fail_msg("%s: pixel %d,%d: found %d, expected %d", name, x, y, found[3 * (y * every * width + x * every) + k],
                             want[3 * (y * shape[2] + x) + k]);
                off += d;
            }
    if (off > shape[1] * shape[2] * 3 / 20) fail_msg("%s: %d values differ", name, off);
}

static size_t check_case(const json_t *c, const uint8_t *want)
{
    const json_t *s = json_object_get(c, "shape");
    const int shape[3] = {(int)json_integer_value(json_array_get(s, 0)), (int)json_integer_value(json_array_get(s, 1)),
                          (int)json_integer_value(json_array_get(s, 2))};
    const int only = number_of(c, "only"), every = only ? number_of(c, "every") : 1;
    const size_t one = 3 * (size_t)shape[1] * (size_t)shape[2];
    const char *model = text_of(c, "model");
    char name[200];
    shown seen = {0};
    diffc_image init = {0}, mask = {0};
    char *factors = json_object_get(c, "own") ? json_dumps(json_object_get(c, "own"), 0) : NULL;
    diffc_model *m = factors ? made_up(0.18215, factors) : open_model(model);
    diffc_request q = ask(m, text_of(c, "preview"), number_of(c, "steps"), &seen);
    const bool own = !strcmp(model, "default");
    q.prompt = own ? "a red apple" : "a photograph of a small wooden house by a lake at sunset";
    q.negative = own ? NULL : "blurry, low quality";
    q.sampler = text_of(c, "sampler");
    q.guidance = json_number_value(json_object_get(c, "cfg"));
    q.seed = (uint64_t)number_of(c, "seed");
    q.width = number_of(c, "width"), q.height = number_of(c, "height");
    if (start_images(c, &init, &mask)) q.image = &init, q.strength = json_number_value(json_object_get(c, "strength"));
    if (mask.pixels) q.mask = &mask;
    generate(m, &q);
    assert_int_equal(seen.n, only ? seen.steps - 1 : shape[0]);
    assert_int_equal(seen.n_pictures, 1);
    for (int i = 0; i < seen.n; i++) {
        assert_int_equal(seen.step[i], i + 1);
        snprintf(name, sizeof name, "%s, %s, %s, step %d", model, q.sampler, q.preview, i + 1);
        if (!only || i + 1 == only) compare(name, seen.pixels[i], want + (only ? 0 : (size_t)i * one), shape, every, seen.width);
    }
    assert_int_equal(seen.width, shape[2] * every);
    diffc_image_free(&init);
    diffc_image_free(&mask);
    diffc_close(m);
    forget(&seen);
    free(factors);
    return (size_t)shape[0] * one;
}

static void estimates_are_those_of_diffusers(void **state)
{
    (void)state;
    dc_error e = {0};
    json_t *cases, *c;
    dc_npy want;
    size_t i, at = 0;
    if (dc_json_read(&cases, GOLDEN "previews.json", 1u << 20, &e) || dc_npy_read(&want, GOLDEN "previews.npy", &e)) fail_msg("%s", e.text);
    assert_true(json_array_size(cases) >= 11);
    json_array_foreach(cases, i, c)
    {
        at += check_case(c, (uint8_t *)want.data + at);
        assert_true(at <= want.bytes);
    }
    assert_int_equal(at, want.bytes);
    free(want.data);
    json_decref(cases);
}

/* ---- nothing else changes -------------------------------------------------------------------------------------------------- */

/* Previews or not, of any kind: the same bytes, on samplers of all kinds, and as many previews as steps but one. */
static void pictures_keep_their_bytes(void **state)
{
    (void)state;
    static const char *const samplers[] = {"euler_a", "heun",         "dpm++sde",     "unipc", "pndm",
                                           "restart", "dpm_adaptive", "euler_cfg_pp", "lcm",   "dpm_fast"};
    static const char *const kinds[] = {"none", "proj", "tae", "vae"};
    diffc_model *m = open_with((diffc_options){.model = GOLDEN "models/sd1", .taesd = GOLDEN "models/taesd", .taesd_preview_only = true});
    for (size_t i = 0; i < sizeof samplers / sizeof *samplers; i++) {
        uint8_t *plain = NULL;
        for (int k = 0; k < 4; k++) {
            shown s = {0};
            diffc_request q = ask(m, kinds[k], 4, &s);
            q.sampler = samplers[i];
            generate(m, &q);
            assert_int_equal(s.n_pictures, 1);
            if (k == 0) {
                assert_int_equal(s.n, 0);
                plain = s.picture[0];
                s.picture[0] = NULL;
            } else {
                assert_memory_equal(s.picture[0], plain, s.bytes);
                assert_true(s.n > 0 && s.step[s.n - 1] < s.steps);
                assert_int_equal(s.width, k == 1 ? 8 : 64);
            }
            forget(&s);
        }
        free(plain);
    }
    diffc_close(m);
}

/* The model's decoder in strips, tiles and plain; a tiny decoder in the VAE's place; all of it kept, or not. */
static void ways_of_decoding(void **state)
{
    (void)state;
    const diffc_options options[] = {{.model = GOLDEN "models/sd1", .taesd = GOLDEN "models/taesd", .taesd_preview_only = true},
                                     {.model = GOLDEN "models/sd1", .taesd = GOLDEN "models/taesd", .taesd_preview_only = true, .resident = true},
                                     {.model = GOLDEN "models/sd1", .taesd = GOLDEN "models/taesd"}};
    for (int o = 0; o < 3; o++)
        for (int way = 0; way < 8; way += o ? 7 : 1) { /* all ways once, then the plainest and the one with everything */
            diffc_model *m = open_with(options[o]);
            shown s = {0}, plain = {0};
            diffc_request q = ask(m, way & 1 ? "vae" : "tae", 3, &s);
            q.vae_tiling = way & 2;
            q.width = way & 2 ? 96 : 72, q.height = 56;
            q.count = 3, q.batch = way & 4 ? 2 : 1;
            generate(m, &q);
            generate(m, &q); /* nothing is left that hinders the next */
            q.preview = NULL, q.user = &plain;
            generate(m, &q);
            assert_int_equal(s.n, 12);
            for (int i = 0; i < 6; i++) assert_memory_equal(s.picture[i], plain.picture[i % 3], s.bytes);
            for (int i = 0; i < 6; i++) assert_memory_equal(s.pixels[i], s.pixels[6 + i], s.bytes);
            forget(&s);
            forget(&plain);
            diffc_close(m);
        }
}

/* Of each picture of a batch, in order, before the batch is decoded. */
static void every_picture_of_a_batch_is_shown(void **state)
{
    (void)state;
    static const int index[] = {0, 1, 0, 1, 2, 2}, step[] = {1, 1, 2, 2, 1, 2}, before[] = {0, 0, 0, 0, 2, 2};
    diffc_model *m = open_model("sd1");
    shown s = {0}, single = {0};
    diffc_request q = ask(m, "proj", 3, &s);
    q.count = 3, q.batch = 2;
    generate(m, &q);
    assert_int_equal(s.n, 6);
    assert_int_equal(s.count, 3);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(s.index[i], index[i]);
        assert_int_equal(s.step[i], step[i]);
        assert_int_equal(s.pictures_before[i], before[i]);
    }
    q.count = q.batch = 1, q.seed++, q.user = &single;
    generate(m, &q);
    for (int i = 0; i < 192; i++) assert_true(abs(single.pixels[1][i] - s.pixels[3][i]) <= 1);
    forget(&s);
    forget(&single);
    diffc_close(m);
}

static void an_interval_leaves_steps_out(void **state)
{
    (void)state;
    diffc_model *m = open_model("sd1");
    shown all = {0}, s = {0};
    diffc_request q = ask(m, "proj", 9, &all);
    generate(m, &q);
    q.user = &s, q.preview_interval = 4;
    generate(m, &q);
    assert_int_equal(all.n, 8);
    assert_int_equal(s.n, 2);
    assert_int_equal(s.step[0], 4);
    assert_int_equal(s.step[1], 8);
    assert_int_equal(s.steps, 9);
    assert_memory_equal(s.pixels[0], all.pixels[3], 192);
    forget(&all);
    forget(&s);
    q = ask(m, "proj", 9, &s);
    q.preview_interval = 9;
    generate(m, &q);
    assert_int_equal(s.n, 0); /* the last step's is the picture */
    q.preview_interval = -1;
    refused(m, &q, DIFFC_USAGE, "preview-interval: found -1", "");
    forget(&s);
    diffc_close(m);
}

/* The share of the way, in percents; never the last. */
static void an_adaptive_sampler_tells_percents(void **state)
{
    (void)state;
    diffc_model *m = open_model("sd1");
    shown s = {0};
    diffc_request q = ask(m, "proj", 4, &s);
    q.sampler = "dpm_adaptive";
    generate(m, &q);
    assert_int_equal(s.steps, 100);
    assert_true(s.n > 2);
    for (int i = 0; i < s.n; i++) assert_true(s.step[i] < 100 && (i == 0 || s.step[i] >= s.step[i - 1]));
    forget(&s);
    diffc_close(m);
}

static void a_preview_can_stop_the_run(void **state)
{
    (void)state;
    diffc_error e = {0};
    diffc_model *m = open_model("sd1");
    shown s = {.stop_at = 2};
    diffc_request q = ask(m, "vae", 6, &s);
    q.count = q.batch = 2;
    assert_int_equal(diffc_generate(m, &q, &e), DIFFC_CANCELLED);
    assert_int_equal(s.n, 2);
    assert_int_equal(s.n_pictures, 0);
    s.stop_at = 0;
    generate(m, &q);
    assert_int_equal(s.n_pictures, 2);
    forget(&s);
    diffc_close(m);
}

/* ---- what is not there ------------------------------------------------------------------------------------------------------ */

static void a_missing_or_unknown_kind_is_told_at_once(void **state)
{
    (void)state;
    diffc_model *m = open_model("sd1");
    shown s = {0};
    diffc_request q = ask(m, "tae", 3, &s);
    refused(m, &q, DIFFC_NO_INPUT, "no tiny decoder", "--taesd FILE --taesd-preview-only");
    q.preview = "prog";
    refused(m, &q, DIFFC_USAGE, "did you mean proj?", "none, proj, tae, vae");
    assert_int_equal(s.n + s.n_pictures, 0);
    q.preview = "none";
    generate(m, &q);
    q.preview = "vae", q.on_preview = NULL; /* nobody looks */
    generate(m, &q);
    assert_int_equal(s.n, 0);
    forget(&s);
    diffc_close(m);
}

static void factors_are_the_folders_or_of_known_latents(void **state)
{
    (void)state;
    shown s = {0};
    diffc_model *m = made_up(0.5, NULL);
    diffc_request q = ask(m, "proj", 2, &s);
    refused(m, &q, DIFFC_USAGE, "no preview.json", "--taesd FILE --taesd-preview-only");
    diffc_close(m);
    m = made_up(0.5, "{\"factors\":[[0,0,0],[0,0,0],[0,0,0],[0,0,0]],\"bias\":[-1,0.5,7]}");
    generate(m, &q);
    assert_int_equal(s.n, 1);
    for (int p = 0; p < 64; p++) assert_true(s.pixels[0][3 * p] == 0 && s.pixels[0][3 * p + 1] == 191 && s.pixels[0][3 * p + 2] == 255);
    forget(&s);
    diffc_close(m);
}

static void malformed_factors_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "[]",
                                      "{}",
                                      "{\"factors\":3}",
                                      "{\"factors\":[[0,0,0],[0,0,0],[0,0,0]]}",
                                      "{\"factors\":[[0,0,0],[0,0,0],[0,0,0],[0,0,0],[0,0,0]]}",
                                      "{\"factors\":[[0,0,0],[0,0],[0,0,0],[0,0,0]]}",
                                      "{\"factors\":[[0,0,0],[0,\"1\",0],[0,0,0],[0,0,0]]}",
                                      "{\"factors\":[[0,0,0],[0,1e300,0],[0,0,0],[0,0,0]]}",
                                      "{\"factors\":[[0,0,0],[0,1e999,0],[0,0,0],[0,0,0]]}",
                                      "{\"factors\":[[0,0,0],[0,NaN,0],[0,0,0],[0,0,0]]}",
                                      "{\"factors\":[[0,0,0],[0,0,0],[0,0,0],[0,0,0]],\"bias\":[1,2]}",
                                      "{\"factors\":[[0,0,0],[0,0,0],[0,0,0],[0,0,0]],\"bias\":{}}",
                                      "{\"factors\":[[0,0,0],[0,0,0],[0,0,0],[0,0,0]],\"factors\":[]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        shown s = {0};
        diffc_model *m = made_up(0.18215, bad[i]);
        diffc_request q = ask(m, "proj", 2, &s);
        refused(m, &q, DIFFC_DATA, "preview.json", "");
        q.preview = "vae"; /* which asks nobody */
        generate(m, &q);
        assert_int_equal(s.n, 1);
        forget(&s);
        diffc_close(m);
    }
}

/* What a preview takes is in the plan: its weights and working memory beside the UNet's, and a limit below that is told before any work. */
static void a_plan_counts_previews(void **state)
{
    (void)state;
    diffc_error e = {0};
    diffc_plan none, tae;
    shown s = {0};
    diffc_options o = {.model = GOLDEN "models/sd1", .taesd = GOLDEN "models/taesd", .taesd_preview_only = true};
    diffc_model *m = open_with(o);
    diffc_request q = ask(m, NULL, 5, &s);
    q.count = 2, q.preview_interval = 2;
    assert_int_equal(diffc_plan_request(m, &q, &none, &e), DIFFC_OK);
    q.preview = "tae";
    assert_int_equal(diffc_plan_request(m, &q, &tae, &e), DIFFC_OK);
    assert_int_equal(tae.n_stages, none.n_stages + 1);
    const diffc_plan_stage *x = &tae.stage[tae.n_stages - 2];
    assert_string_equal(x->name, "preview");
    assert_true(x->weights > 0 && x->buffers > 0);
    assert_int_equal(x->passes, 4);
    assert_true(tae.peak >= none.peak + x->weights + x->buffers - 65536); /* what the process has at that moment varies a little */
    diffc_close(m);
    o.max_memory = tae.stage[tae.n_stages - 3].weights + x->weights;
    m = open_with(o);
    assert_int_equal(diffc_generate(m, &q, &e), DIFFC_NO_MEMORY);
    assert_int_equal(s.n, 0);
    diffc_close(m);
}

int main(int argc, char **argv)
{
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(estimates_are_those_of_diffusers),
                                       cmocka_unit_test(pictures_keep_their_bytes),
                                       cmocka_unit_test(ways_of_decoding),
                                       cmocka_unit_test(every_picture_of_a_batch_is_shown),
                                       cmocka_unit_test(an_interval_leaves_steps_out),
                                       cmocka_unit_test(an_adaptive_sampler_tells_percents),
                                       cmocka_unit_test(a_preview_can_stop_the_run),
                                       cmocka_unit_test(a_missing_or_unknown_kind_is_told_at_once),
                                       cmocka_unit_test(factors_are_the_folders_or_of_known_latents),
                                       cmocka_unit_test(malformed_factors_are_refused),
                                       cmocka_unit_test(a_plan_counts_previews)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
