/* opened.h - for the tests of autoencoders: one on a device, and its golden. */
#ifndef TESTS_VAE_OPENED_H
#define TESTS_VAE_OPENED_H
#include "tests/unet/golden.h"
#include "vae/vae.h"

typedef struct opened {
    golden g;
    dc_device *device;
    dc_weights *weights;
    dc_vae *vae;
    dc_vae_config c;
} opened;

static inline void open_vae(opened *o, const char *way, const char *config_path, const char *weights, bool encoder)
{
    dc_error e = {0};
    json_t *config = read_json(config_path);
    must(dc_vae_config_read(&o->c, config, config_path, &e), &e);
    json_decref(config);
    o->device = open_device(way);
    if (strstr(weights, ".safetensors")) must(dc_weights_open(&o->weights, weights, &e), &e);
    else must(dc_weights_open_folder(&o->weights, weights, "diffusion_pytorch_model", &e), &e);
    must(dc_vae_open(&o->vae, &o->c, o->weights, encoder, o->device, NULL, &e), &e);
    if (dc_vae_params(o->vae)) must(dc_params_prepare(dc_vae_params(o->vae), NULL, NULL, &e), &e);
    if (encoder) must(dc_params_prepare(dc_vae_encoder_params(o->vae), NULL, NULL, &e), &e);
    o->g.way = way;
}

static inline void open_golden(opened *o, const char *model, const char *file, const char *section)
{
    char path[512];
    dc_error e = {0};
    snprintf(path, sizeof path, TEST_DATA "/golden/modules/%s/%s", model, file);
    must(dc_weights_open(&o->g.w, path, &e), &e);
    snprintf(path, sizeof path, TEST_DATA "/golden/modules/%s/case.json", model);
    o->g.root = read_json(path);
    o->g.tolerance = json_object_get(json_object_get(o->g.root, section), "tolerance");
}

/* Both, or the one of them that is open. */
static inline void close_opened(opened *o)
{
    dc_vae_close(o->vae);
    dc_weights_close(o->weights);
    dc_device_close(o->device);
    dc_weights_close(o->g.w);
    json_decref(o->g.root);
}

/* narrow: 0, or how many times PyTorch's error in bfloat16 is allowed, in place of the golden's tolerance. */
static inline void compare_out(opened *o, const char *name, const float *got, double narrow)
{
    const dc_stored *want = golden_find(&o->g, name);
    float *out = to_nchw(got, want->dim[0], want->dim[1], want->dim[2], want->dim[3]);
    if (narrow > 0) compare_narrow(&o->g, "sd1/vae", name, out, narrow);
    else compare(&o->g, name, out, want, tolerance_of(&o->g, name));
    free(out);
}

#endif
