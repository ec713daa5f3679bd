/* golden_runs.h - whole runs and their goldens: the final latent and the picture, within the tolerances that were measured for each case
 * (float64 runs and other thread counts of the reference). Golden: tests/gen/{models,inpaint,pipelines}.py. */
#ifndef TESTS_PIPELINE_GOLDEN_RUNS_H
#define TESTS_PIPELINE_GOLDEN_RUNS_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/npy.h"
#include "include/diffc.h"
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN TEST_DATA "/golden/"

/* A picture and a latent that on_image has kept. */
typedef struct kept {
    float *latent;
    size_t numbers;
    uint8_t *pixels;
    size_t bytes;
    char parameters[2048];
} kept;

static inline diffc_status keep(void *user, const diffc_result *r, diffc_error *error)
{
    (void)error;
    kept *k = user;
    k->numbers = (size_t)r->latent_dim[0] * (size_t)r->latent_dim[1] * (size_t)r->latent_dim[2];
    k->bytes = (size_t)r->image->width * (size_t)r->image->height * 3;
    k->latent = malloc(k->numbers * sizeof(float));
    k->pixels = malloc(k->bytes);
    memcpy(k->latent, r->latent, k->numbers * sizeof(float));
    memcpy(k->pixels, r->image->pixels, k->bytes);
    snprintf(k->parameters, sizeof k->parameters, "%s", r->parameters);
    return DIFFC_OK;
}

static inline void drop(kept *k)
{
    free(k->latent);
    free(k->pixels);
    *k = (kept){0};
}

static inline json_t *read_case(const char *folder)
{
    char path[1024];
    dc_error e = {0};
    json_t *root = NULL;
    snprintf(path, sizeof path, "%s/case.json", folder);
    if (dc_json_read(&root, path, 1u << 20, &e)) fail_msg("%s", e.text);
    return root;
}

/* Value of an option in the case's command line. */
static const char *argument(const json_t *args, const char *name)
{
    size_t i;
    json_t *v;
    json_array_foreach(args, i, v) if (!strcmp(json_string_value(v), name)) return json_string_value(json_array_get(args, i + 1));
    return NULL;
}

static inline diffc_image read_picture(const char *folder, const char *name, bool gray)
{
    char path[1024];
    diffc_error e = {0};
    diffc_image m;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (diffc_image_read(&m, path, gray, &e)) fail_msg("%s", e.text);
    return m;
}

/* Fills the request from either kind of case. */
static inline void fill_request(const json_t *c, const diffc_model *m, diffc_request *q)
{
    const json_t *args = json_object_get(c, "args");
    diffc_request_defaults(m, q);
    if (args) {
        q->prompt = argument(args, "-p");
        q->negative = argument(args, "-n");
        q->width = atoi(argument(args, "-W"));
        q->height = atoi(argument(args, "-H"));
        q->steps = atoi(argument(args, "--steps"));
        q->guidance = atof(argument(args, "--cfg-scale"));
        q->sampler = argument(args, "--sampler");
        q->schedule = argument(args, "--scheduler");
        q->seed = strtoull(argument(args, "-s"), NULL, 10);
    } else {
        q->prompt = json_string_value(json_object_get(c, "prompt"));
        q->negative = json_string_value(json_object_get(c, "negative"));
        q->steps = (int)json_integer_value(json_object_get(c, "steps"));
        q->guidance = json_number_value(json_object_get(c, "cfg"));
        q->sampler = json_string_value(json_object_get(c, "sampler"));
        q->seed = (uint64_t)json_integer_value(json_object_get(c, "seed"));
        q->strength = json_number_value(json_object_get(c, "strength"));
    }
}

static inline void run(const char *folder, const json_t *c, diffc_options o, kept *k)
{
    char path[1024];
    diffc_error e = {0};
    diffc_model *m;
    const char *model = json_object_get(c, "args") ? argument(json_object_get(c, "args"), "-m") : json_string_value(json_object_get(c, "model"));
    snprintf(path, sizeof path, GOLDEN "%s", model);
    o.model = path;
    if (diffc_open(&m, &o, &e)) fail_msg("%s", e.text);
    diffc_request q;
    diffc_image start = {0}, mask = {0};
    const char *kind = json_string_value(json_object_get(c, "kind"));
    fill_request(c, m, &q);
    if (strcmp(kind, "txt2img")) start = read_picture(folder, "init.png", false), q.image = &start;
    if (!strcmp(kind, "inpaint")) mask = read_picture(folder, "mask.png", true), q.mask = &mask;
    q.on_image = keep;
    q.user = k;
    if (diffc_generate(m, &q, &e)) fail_msg("%s: %s", folder, e.text);
    diffc_image_free(&start);
    diffc_image_free(&mask);
    diffc_close(m);
}

/* way: what is forced, for messages */
static inline void compare(const char *folder, const char *way, const json_t *c, const kept *k)
{
    char path[1024];
    dc_error e = {0};
    dc_npy want;
    const json_t *tolerance = json_object_get(c, "tolerance");
    snprintf(path, sizeof path, "%s/latent.npy", folder);
    if (dc_npy_read(&want, path, &e)) fail_msg("%s", e.text);
    assert_int_equal(want.bytes, k->numbers * sizeof(float));
    double most = 0, allowed = json_number_value(json_object_get(tolerance, "latent"));
    for (size_t i = 0; i < k->numbers; i++) most = fmax(most, fabs((double)k->latent[i] - ((float *)want.data)[i]));
    if (!(most <= allowed)) fail_msg("%s, %s: latent is off by %.3g, allowed %.3g", folder, way, most, allowed);
    free(want.data);

    diffc_image picture = read_picture(folder, "image.png", false);
    int levels = 0, off = 0;
    assert_int_equal((size_t)picture.width * (size_t)picture.height * 3, k->bytes);
    for (size_t i = 0; i < k->bytes; i++) {
        int d = abs(k->pixels[i] - picture.pixels[i]);
        levels = d > levels ? d : levels;
        off += d > 0;
    }
    if (levels > json_integer_value(json_object_get(tolerance, "png_levels"))) fail_msg("%s, %s: picture is off by %d levels", folder, way, levels);
    if ((double)off / (double)k->bytes > json_number_value(json_object_get(tolerance, "png_share")))
        fail_msg("%s, %s: %d values of the picture differ", folder, way, off);
    diffc_image_free(&picture);
}

static inline json_t *one_case(char folder[512], const char *name)
{
    snprintf(folder, 512, GOLDEN "txt2img/%s", name);
    return read_case(folder);
}

/* Can this machine compute so? */
static inline bool has(diffc_options o)
{
    diffc_error e = {0};
    diffc_model *m;
    o.model = GOLDEN "models/sd1";
    diffc_status s = diffc_open(&m, &o, &e);
    if (s == DIFFC_UNAVAILABLE) return false;
    if (s) fail_msg("%s", e.text);
    diffc_close(m);
    return true;
}

/* A case each of plain sizes, of an encoder and a mask, and of odd sizes; the test is named after the level. */
static inline void run_on(diffc_options o, const char *way)
{
    static const char *const names[] = {"sd1/euler-64x64", "sd1-inpaint/inpaint-ddim", "sdxl/euler-72x56-no-negative"};
    char folder[512];
    if (!has(o)) skip();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *c = one_case(folder, names[i]);
        kept k = {0};
        run(folder, c, o, &k);
        compare(folder, way, c, &k);
        drop(&k);
        json_decref(c);
    }
}

/* A whole run at f16, bf16 or int8: the difference of the latent over the golden, both in the root mean square. Allowed is twice what was measured
 * after these 8 steps (0.035 and 0.11); the model's weights are random, and its runs drift apart more than a trained one's. */
static inline void run_narrow(const char *device, const char *precision)
{
    const double allowed = strcmp(precision, "int8") ? 0.07 : 0.22;
    const diffc_options o = {.device = device, .precision = precision};
    char folder[512], path[1024];
    dc_error e = {0};
    dc_npy want;
    if (!has(o)) skip();
    json_t *c = one_case(folder, "sd1/euler-64x64");
    kept k = {0};
    run(folder, c, o, &k);
    snprintf(path, sizeof path, "%s/latent.npy", folder);
    if (dc_npy_read(&want, path, &e)) fail_msg("%s", e.text);
    double off = 0, all = 0;
    for (size_t i = 0; i < k.numbers; i++) {
        const double w = ((float *)want.data)[i];
        off += (k.latent[i] - w) * (k.latent[i] - w);
        all += w * w;
    }
    if (!(sqrt(off / all) <= allowed)) fail_msg("%s: latent is off by %.3g of its size, allowed %.3g", precision, sqrt(off / all), allowed);
    free(want.data);
    drop(&k);
    json_decref(c);
}

/* A test named after what is forced. */
#define ON(test, level)                                                                                                                              \
    {                                                                                                                                                \
        .name = #test " on " level, .test_func = test, .initial_state = level                                                                        \
    }

#endif
