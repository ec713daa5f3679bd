/* Any JSON as each of the configs of a model: refused with a message that names the file, or numbers within their limits, from which a plan of
 * sampling can be made. */
#include "base/json.h"
#include "clip/openclip.h"
#include "clip/preprocess.h"
#include "clip/text.h"
#include "clip/vision.h"
#include "scheduler/sampler.h"
#include "unet/unet.h"
#include "vae/vae.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void need(bool x)
{
    if (!x) abort();
}

static bool read_well(dc_status s, const dc_error *e)
{
    need(s == e->code && (!s || ((s == DC_DATA || s == DC_USAGE) && !strncmp(e->text, "c.json: ", 8) && !strchr(e->text, '\n'))));
    return !s;
}

static void as_unet(const json_t *root)
{
    dc_error e = {0};
    dc_unet_config c;
    if (!read_well(dc_unet_config_read(&c, root, "c.json", &e), &e)) return;
    need(c.levels >= 1 && c.in_channels >= 1 && c.out_channels >= 1 && c.groups >= 1 && c.sample_size >= 1);
    for (int i = 0; i < c.levels; i++) need(c.width[i] >= 1 && c.width[i] % c.groups == 0);
}

static void as_vae(const json_t *root)
{
    dc_error e = {0};
    dc_vae_config c;
    if (read_well(dc_vae_config_read(&c, root, "c.json", &e), &e)) need(c.latent_channels >= 1 && c.factor >= 1 && c.factor <= 4096);
}

static void as_text(const json_t *root)
{
    dc_error e = {0};
    dc_clip_text_config c;
    if (read_well(dc_clip_text_config_read(&c, root, "c.json", &e), &e)) need(c.width >= 1 && c.vocab_size >= 1 && c.positions >= 1);
}

static void as_vision(const json_t *root)
{
    dc_error e = {0};
    dc_clip_vision_config c;
    if (read_well(dc_clip_vision_config_read(&c, root, "c.json", &e), &e)) need(c.block.width % c.block.heads == 0 && c.patch <= c.image);
}

/* open_clip's configuration, in transformers' words, is one that both towers can read. */
static void as_openclip(const json_t *root)
{
    dc_error e = {0};
    json_t *o = NULL;
    if (read_well(dc_openclip_config(&o, root, "c.json", &e), &e)) as_text(o), as_vision(o);
    json_decref(o);
}

/* A small picture can be prepared as it says. */
static void as_preprocessor(const json_t *root)
{
    static uint8_t pixels[5 * 3 * 4] = {1, 2, 3};
    static float out[3 * 9 * 9];
    for (int i = 0; i < 2; i++) {
        dc_error e = {0};
        dc_clip_preprocess p;
        dc_status s = i ? dc_clip_preprocess_read_openclip(&p, root, 9, "c.json", &e) : dc_clip_preprocess_read(&p, root, 9, "c.json", &e);
        if (!read_well(s, &e)) continue;
        need(!p.fit || (p.size <= 16384 && p.width <= 16384 && p.height <= 16384));
        if (p.size <= 512 && p.width <= 512 && p.height <= 512) need(!dc_clip_preprocess_run(&p, &(dc_image){5, 3, 4, pixels}, out, &e));
    }
}

static void as_scheduler(const json_t *root)
{
    dc_error e = {0};
    dc_noise_config c;
    dc_noise_config_default(&c);
    if (read_well(dc_noise_config_read(&c, root, "c.json", &e), &e)) {
        static const char *const samplers[] = {"euler", "ddim", "dpm++2m", "lcm"};
        for (size_t i = 0; i < sizeof samplers / sizeof *samplers; i++) {
            dc_plan p = {0};
            dc_sampler_request q = {.sampler = samplers[i], .steps = 3, .strength = 1.0, .eta = -1};
            dc_error own = {0};
            dc_status s = dc_plan_build(&p, &c, &q, &own);
            need(s == own.code && (s == DC_OK || s == DC_USAGE || s == DC_DATA));
            dc_plan_free(&p);
        }
    }
    dc_noise_config_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    dc_error e = {0};
    json_t *root;
    if (dc_json_parse(&root, "c.json", (const char *)bytes, n, &e)) return 0;
    as_unet(root);
    as_vae(root);
    as_text(root);
    as_vision(root);
    as_openclip(root);
    as_preprocessor(root);
    as_scheduler(root);
    json_decref(root);
    return 0;
}
