/* formats.c - see formats.h. */
#include "tests/malformed/formats.h"
#include "base/json.h"
#include "base/npy.h"
#include "clip/openclip.h"
#include "clip/preprocess.h"
#include "clip/text.h"
#include "clip/tokenizer.h"
#include "clip/vision.h"
#include "image/image.h"
#include "include/diffc.h"
#include "pipeline/model.h"
#include "scheduler/sampler.h"
#include "unet/unet.h"
#include "vae/vae.h"
#include "weights/inspect.h"
#include "weights/parts.h"
#include "weights/weights.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- opening --------------------------------------------------------------------------------------------------------- */

/* The parts of a model under their names, and what their shapes tell. That no configuration can be told is no refusal of the file. */
static dc_status open_parts(const dc_weights *w, dc_error *e)
{
    dc_status s = DC_OK;
    for (int p = 0; !s && p < DC_PARTS; p++) {
        dc_weights *part = NULL;
        json_t *config = NULL;
        dc_error unclear = {0};
        s = dc_weights_part(&part, w, (dc_part)p, e);
        if (part && dc_part_config(&config, part, (dc_part)p, NULL, &unclear) == DC_NO_MEMORY) s = DC_NO_MEMORY;
        json_decref(config);
        dc_weights_close(part);
    }
    return s;
}

/* Everything a table of tensors says, and the ends of each tensor's data. */
static dc_status open_weights(const char *path, dc_error *e)
{
    dc_weights *w;
    dc_status s = dc_weights_open(&w, path, e);
    volatile uint8_t seen = 0;
    for (int i = 0; !s && i < dc_weights_count(w); i++) {
        const dc_stored *t = dc_weights_at(w, i);
        if (t->bytes) seen ^= ((const uint8_t *)t->data)[0] ^ ((const uint8_t *)t->data)[t->bytes - 1];
    }
    if (!s) s = open_parts(w, e);
    dc_weights_close(w);
    return s;
}

static dc_status inspect_folder(const char *path, dc_error *e)
{
    char folder[512];
    json_t *o;
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    dc_status s = dc_inspect(&o, folder, false, e);
    json_decref(o);
    return s;
}

#define CONFIG(name, type, read, end)                                                                                                                \
    static dc_status name(const char *path, dc_error *e)                                                                                             \
    {                                                                                                                                                \
        json_t *root;                                                                                                                                \
        type c;                                                                                                                                      \
        memset(&c, 0, sizeof c);                                                                                                                     \
        dc_status s = dc_json_read(&root, path, DC_JSON_CONFIG_LIMIT, e);                                                                            \
        if (!s) s = read(&c, root, path, e);                                                                                                         \
        json_decref(root);                                                                                                                           \
        end;                                                                                                                                         \
        return s;                                                                                                                                    \
    }
CONFIG(open_unet, dc_unet_config, dc_unet_config_read, (void)0)
CONFIG(open_vae, dc_vae_config, dc_vae_config_read, (void)0)
CONFIG(open_text, dc_clip_text_config, dc_clip_text_config_read, (void)0)
CONFIG(open_vision, dc_clip_vision_config, dc_clip_vision_config_read, (void)0)

static dc_status prepare_hf(dc_clip_preprocess *p, const json_t *root, const char *path, dc_error *e)
{
    return dc_clip_preprocess_read(p, root, 20, path, e);
}
CONFIG(open_preprocessor, dc_clip_preprocess, prepare_hf, (void)0)

/* Both halves of open_clip's. */
static dc_status read_openclip(dc_clip_preprocess *p, const json_t *root, const char *path, dc_error *e)
{
    json_t *o;
    dc_status s = dc_openclip_config(&o, root, path, e);
    json_decref(o);
    return s ? s : dc_clip_preprocess_read_openclip(p, root, 20, path, e);
}
CONFIG(open_openclip, dc_clip_preprocess, read_openclip, (void)0)

typedef struct factors {
    float row[5][3];
} factors;

static dc_status read_factors(factors *f, const json_t *root, const char *path, dc_error *e) { return preview_factors(f->row[0], 4, root, path, e); }
CONFIG(open_factors, factors, read_factors, (void)0)
CONFIG(open_scheduler, dc_noise_config, dc_noise_config_read, dc_noise_config_free(&c))

static dc_status open_npy(const char *path, dc_error *e)
{
    dc_npy n;
    dc_status s = dc_npy_read(&n, path, e);
    if (!s) free(n.data);
    return s;
}

static dc_status open_picture(const char *path, dc_error *e)
{
    dc_image m;
    dc_status s = dc_image_read(&m, path, 3, e);
    dc_image_free(&m);
    return s;
}

static dc_status open_picture_text(const char *path, dc_error *e)
{
    char *text;
    dc_status s = dc_image_read_text(path, "parameters", &text, e);
    free(text);
    return s;
}

/* How a picture was made, as a request: through the public face, whose error has the same shape. */
static dc_status open_replay(const char *path, dc_error *e)
{
    diffc_error own = {0};
    diffc_replay *r = NULL;
    diffc_request q = {.steps = 1};
    diffc_status s = diffc_replay_open(&r, path, &own);
    if (!s) s = diffc_replay_apply(r, NULL, &q, &own);
    diffc_replay_close(r);
    return s ? dc_fail(e, (dc_status)s, "%s", own.text) : DC_OK;
}

static dc_status open_tokenizer(const char *path, dc_error *e)
{
    char folder[512];
    dc_tokenizer *t = NULL;
    int32_t ids[16];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    dc_status s = dc_tokenizer_open(&t, folder, e);
    if (!s) s = dc_tokenize_padded(t, "a <new> house, it's 12 caf\xc3\xa9", 16, ids, NULL, e);
    dc_tokenizer_close(t);
    return s;
}

static dc_status open_merges(const char *path, dc_error *e)
{
    dc_tokenizer *t = NULL;
    dc_status s = dc_tokenizer_open_merges(&t, path, 522, e);
    dc_tokenizer_close(t);
    return s;
}

/* ---- the table ---------------------------------------------------------------------------------------------------------- */

#define WEIGHTS "golden/weights/"
#define TORCH   WEIGHTS "torch/"
#define FILES   "golden/image/files/"
#define TEXT    "golden/image/text/"
#define MODELS  "golden/models/"
#define SMALL   "malformed/seeds/"
enum { MIB = 1 << 20, PIXELS = 64 * MIB * 8 }; /* the largest picture, decoded and converted, with the coefficients of a progressive JPEG */

const format formats[] = {
    {"safetensors",
     "x.safetensors",
     open_weights,
     0,
     {WEIGHTS "all_dtypes.safetensors", WEIGHTS "ok_padded_header.safetensors", WEIGHTS "ok_no_tensors.safetensors", WEIGHTS "bad_hole.safetensors",
      WEIGHTS "bad_overlap.safetensors", WEIGHTS "bad_duplicate_key.safetensors", SMALL "names.safetensors", "golden/clip/one-token.safetensors",
      "golden/vae/tiny-original-names.safetensors", "golden/clip/sd2v.safetensors", "golden/vae/old-names.safetensors"}},
    {"gguf", "x.gguf", open_weights, 0, {"golden/gguf/types.gguf", "golden/gguf/values.gguf"}},
    {"torch",
     "x.ckpt",
     open_weights,
     0,
     {TORCH "protocol2.pt", TORCH "protocol4.pt", TORCH "lightning.ckpt", TORCH "parameters.pt", TORCH "half_parallel.pth",
      "golden/clip/tiny/script.pt"}},
    {"legacy", "x.bin", open_weights, 0, {TORCH "legacy2.bin", TORCH "legacy4.bin", TORCH "module_legacy.bin"}},
    {"index", "index/x.json", open_weights, 0, {SMALL "index.json", SMALL "index-escaped.json"}},
    {"model", "model/model_index.json", inspect_folder, 0, {MODELS "sd1/model_index.json", MODELS "sdxl/model_index.json"}},
    {"unet", "unet.json", open_unet, 0, {MODELS "sd1/unet/config.json", MODELS "sdxl/unet/config.json"}},
    {"vae", "vae.json", open_vae, 0, {MODELS "sd1/vae/config.json", MODELS "taesd/config.json"}},
    {"text", "text.json", open_text, 0, {MODELS "sd1/text_encoder/config.json", MODELS "sdxl/text_encoder_2/config.json"}},
    {"vision", "vision.json", open_vision, 0, {"golden/clip/tiny/hf/config.json"}},
    {"preprocessor", "preprocessor.json", open_preprocessor, 0, {"golden/clip/tiny/hf/preprocessor_config.json"}},
    {"open_clip", "open_clip.json", open_openclip, 0, {"golden/clip/tiny/open_clip_config.json"}},
    {"preview", "preview.json", open_factors, 0, {"../assets/default/preview.json"}},
    {"scheduler",
     "scheduler.json",
     open_scheduler,
     MIB,
     {MODELS "sd1/scheduler/scheduler_config.json", MODELS "sd1-turbo/scheduler/scheduler_config.json",
      MODELS "sd1-zsnr/scheduler/scheduler_config.json", MODELS "sdxl/scheduler/scheduler_config.json"}},
    {"npy",
     "x.npy",
     open_npy,
     0,
     {"golden/base/f4_c.npy", "golden/base/f4_v2.npy", "golden/base/f4_v3.npy", "golden/base/b1.npy", "golden/base/f8_c.npy",
      "golden/base/f4_scalar.npy", "golden/base/f4_empty.npy"}},
    {"png",
     "x.png",
     open_picture,
     PIXELS,
     {FILES "one_pixel.png", FILES "gray1.png", FILES "palette4_trns_interlaced.png", FILES "rgb8_gama_srgb.png", FILES "exif_orientation6.png",
      FILES "rgb8_allfilters.png", FILES "gray8_trns.png", FILES "trailing_bytes.png", FILES "graya8.png", FILES "rgb8_interlaced.png",
      FILES "rgba8_interlaced.png", FILES "gray16.png"}},
    {"png text", "text.png", open_picture_text, MIB, {"golden/image/text/ztxt.png", "golden/image/text/itxt_compressed.png", SMALL "text.png"}},
    {"jpeg",
     "x.jpg",
     open_picture,
     PIXELS,
     {FILES "baseline420.jpg", FILES "progressive.jpg", FILES "gray.jpg", FILES "restart.jpg", FILES "exif_orientation5.jpg", FILES "cmyk.jpg",
      FILES "baseline444.jpg", FILES "optimized.jpg", FILES "trailing_bytes.jpg"}},
    {"webp",
     "x.webp",
     open_picture,
     PIXELS,
     {TEXT "a1111.webp", TEXT "lossless.webp", TEXT "alpha.webp", TEXT "turned.webp", TEXT "gray.webp", TEXT "animated.webp"}},
    {"picture text",
     "text.jpg",
     open_picture_text,
     MIB,
     {TEXT "a1111.jpg", TEXT "little.jpg", TEXT "sdcpp.jpg", TEXT "sdcpp.webp", TEXT "comfyui.webp"}},
    {"parameters", "x.txt", open_replay, MIB, {SMALL "parameters.txt", SMALL "sdcpp.txt", SMALL "graph.json", TEXT "a1111.jpg", TEXT "comfyui.webp"}},
    {"vocab.json", "tokenizer/vocab.json", open_tokenizer, 4 * MIB, {SMALL "vocab.json"}},
    {"merges.txt", "tokenizer/merges.txt", open_tokenizer, 4 * MIB, {SMALL "merges.txt"}},
    {"tokenizer_config", "tokenizer/tokenizer_config.json", open_tokenizer, 4 * MIB, {SMALL "tokenizer_config.json"}},
    {"added_tokens", "tokenizer/added_tokens.json", open_tokenizer, 4 * MIB, {SMALL "added_tokens.json"}},
    {"merges.txt.gz", "merges.txt.gz", open_merges, 4 * MIB, {SMALL "merges.txt.gz"}},
};
const int n_formats = sizeof formats / sizeof *formats;

/* ---- the folder ------------------------------------------------------------------------------------------------------------ */

static char folder[] = "/tmp/diffc-malformed-XXXXXX";

static void link_to(const char *name, const char *target)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
    if (symlink(target, path)) abort();
}

static void link_seed(const char *name, const char *seed)
{
    char target[512];
    snprintf(target, sizeof target, "%s/%s", TEST_DATA, seed);
    link_to(name, target);
}

const char *formats_begin(void)
{
    static const char *const folders[] = {"index", "model", "tokenizer"};
    static const char *const parts[] = {"unet", "vae", "text_encoder", "scheduler"};
    static const char *const token_files[] = {"vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json"};
    char path[512], name[64];
    if (!mkdtemp(folder)) abort();
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, folders[i]);
        if (mkdir(path, 0755)) abort();
    }
    link_seed("index/a.safetensors", WEIGHTS "ok_padded_header.safetensors");
    link_seed("index/b.safetensors", SMALL "names.safetensors");
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, MODELS "sd1/%s", parts[i]);
        snprintf(name, sizeof name, "model/%s", parts[i]);
        link_seed(name, path);
        snprintf(path, sizeof path, SMALL "%s", token_files[i]);
        snprintf(name, sizeof name, "tokenizer/%s", token_files[i]);
        link_seed(name, path);
    }
    return folder;
}

void formats_end(void)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command)) abort();
}

void formats_place(const format *f, int fd, char *path)
{
    char target[64];
    snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
    link_to(f->file, target);
    snprintf(path, 512, "%s/%s", folder, f->file);
}

void formats_restore(const format *f) { link_seed(f->file, f->seed[0]); }
