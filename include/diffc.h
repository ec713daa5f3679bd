/* diffc.h - Stable Diffusion and CLIP in C: the library's public face.
 *
 *     diffc_model *model;
 *     diffc_error  error = {0};
 *     if (diffc_open(&model, &(diffc_options){.model = "path/to/folder"}, &error)) { puts(error.text); return error.code; }
 *     diffc_request request;
 *     diffc_request_defaults(model, &request);          // the model's own size, steps, guidance, sampler
 *     request.prompt = "a red apple";
 *     request.on_image = save;                          // called once a picture
 *     diffc_status s = diffc_generate(model, &request, &error);
 *     diffc_close(model);
 *
 * Rules: no globals, nothing is printed, nothing exits. Every function that can fail returns a diffc_status and
 * fills *error (NULL is fine). Strings are UTF-8. A model is used by one thread at a time, except diffc_cancel.
 *
 * Model files are mapped. One that is cut short or written to while it is in use gives DIFFC_IO, not a crash: opening
 * one installs a handler for SIGBUS, which passes on what is not about our files to the handler that was there before. */
#ifndef DIFFC_H
#define DIFFC_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DIFFC_API __attribute__((visibility("default")))

/* ---- results --------------------------------------------------------------------------------------- */

/* The values are also the program's exit codes (sysexits numbers). */
typedef enum diffc_status {
    DIFFC_OK = 0,
    DIFFC_USAGE = 64,       /* a value out of range, an unknown name                          */
    DIFFC_DATA = 65,        /* a file that is malformed, of the wrong kind, or not finite      */
    DIFFC_NO_INPUT = 66,    /* a file that is missing or unreadable                           */
    DIFFC_UNAVAILABLE = 69, /* device or instruction set not there                            */
    DIFFC_INTERNAL = 70,    /* a bug of diffc, or a non-finite result after the retry          */
    DIFFC_NO_MEMORY = 71,
    DIFFC_NO_CREATE = 73, /* output folder missing, read-only or not permitted              */
    DIFFC_IO = 74,        /* reading or writing failed, disk full                           */
    DIFFC_DENIED = 77,    /* a path in a file that leaves its folder                        */
    DIFFC_CANCELLED = 130
} diffc_status;

/* text: one line, "FILE: what: found X, expected Y"; hint: "" or at most two lines of advice. */
typedef struct diffc_error {
    diffc_status code;
    char text[1024];
    char hint[512];
} diffc_error;

DIFFC_API const char *diffc_version(void);    /* "0.1.0" */
DIFFC_API const char *diffc_build_info(void); /* compiler, CPU levels built in, devices */

/* ---- a model --------------------------------------------------------------------------------------- */

typedef struct diffc_model diffc_model;

typedef enum diffc_log_level { DIFFC_LOG_DEBUG, DIFFC_LOG_NOTE, DIFFC_LOG_WARNING } diffc_log_level;

/* Zero-initialise; every zero is a sensible default. */
typedef struct diffc_options {
    const char *model;  /* diffusers folder or a single file; NULL: the default model among the assets  */
    const char *config; /* diffusers folder that describes a single file (and has what the file lacks); NULL: told from the file */
    const char *unet;   /* replaces the model's UNet: a component folder or a file. So do the next four */
    const char *text_encoder, *text_encoder_2;
    const char *vae;
    const char *taesd;       /* AutoencoderTiny used for decoding (and encoding) instead of the VAE         */
    bool taesd_preview_only; /* it is for previews alone: the VAE decodes and encodes                        */
    const char *prediction;  /* "epsilon", "v", "sample": what the UNet predicts; NULL: as the model says    */
    const char *device;      /* "auto" (a GPU where there is one), "cpu", "cuda"                              */
    const char *cpu_level;   /* "auto", "portable", "avx2", "avx512", "avx512vnni", "avx512bf16": no higher  */
    const char *precision;   /* "auto", "f32"; "bf16", "f16", "int8" where the device has them                */
    bool exact;              /* only algorithms without approximation (direct convolutions)                  */
    bool deterministic;      /* a GPU's algorithms by rule, not by measuring: the same bytes on each GPU of a kind */
    uint64_t max_vram;       /* bytes of a GPU's memory that may be taken; 0: all                             */
    int threads;             /* 0: all usable CPUs                                                           */
    uint64_t max_memory;     /* bytes the plan may take (the VAE then runs in strips); 0: what the machine has */
    bool resident;           /* keep prepared weights of all stages between calls (a window, a server)       */
    bool fast_decode;        /* CLIP: JPEGs much larger than the model sees are decoded smaller (diffc_clip_image_read): other vectors, another id */
    void (*log)(void *user, diffc_log_level level, const char *line);
    void *log_user;
} diffc_options;

/* Maps and binds all parts; prepares nothing yet. Errors: NO_INPUT, DATA (one message lists every missing or mis-shaped
 * tensor), UNAVAILABLE, USAGE, NO_MEMORY. */
DIFFC_API diffc_status diffc_open(diffc_model **out, const diffc_options *options, diffc_error *error);
DIFFC_API void diffc_close(diffc_model *model); /* NULL is fine */
/* Stops whatever the model is doing, within a second: it returns DIFFC_CANCELLED. Safe from any thread and from a
 * signal handler; the next call works again. */
DIFFC_API void diffc_cancel(diffc_model *model);
/* One line each: "Stable Diffusion 1.x, epsilon", "cpu avx512, 2 threads". Valid while the model lives. */
DIFFC_API const char *diffc_model_summary(const diffc_model *model);
DIFFC_API const char *diffc_device_summary(const diffc_model *model);

/* ---- pictures --------------------------------------------------------------------------------------- */

/* 8-bit, interleaved rows without padding; channels 1, 3 or 4. */
typedef struct diffc_image {
    int width, height, channels;
    uint8_t *pixels;
} diffc_image;

/* PNG, JPEG or WebP (EXIF orientation applied), "-" is stdin; converted to RGB, or to gray with `gray`. Free with diffc_image_free. */
DIFFC_API diffc_status diffc_image_read(diffc_image *out, const char *path, bool gray, diffc_error *error);
DIFFC_API void diffc_image_free(diffc_image *image);
/* How JPEG and WebP are packed. */
typedef struct diffc_image_style {
    int quality;   /* 1..100; 0: 90. JPEG keeps the colours at full size from 90 on */
    bool lossless; /* WebP without loss */
    bool fleeting; /* soon replaced or of no weight, as a preview: whole or not there all the same, but not synced to the disk */
} diffc_image_style;
/* JPEG for names in .jpg and .jpeg, WebP for .webp, else PNG. Written under a temporary name and renamed when complete; "-" is stdout.
 * parameters: A1111's text, put where A1111 puts it (NULL: none); a JPEG has room for 32,739 characters. style: NULL is the default. exclusive: a
 * file that exists already is left alone: NO_CREATE, and *exists (may be NULL) is set. */
DIFFC_API diffc_status diffc_image_write(const char *path, const diffc_image *image, const char *parameters, const diffc_image_style *style,
                                         bool exclusive, bool *exists, diffc_error *error);
/* Could this path be written? Asked before long work. Errors: NO_CREATE. */
DIFFC_API diffc_status diffc_output_check(const char *path, diffc_error *error);
/* For signal handlers (async-signal-safe): removes temporary files of writes under way. */
DIFFC_API void diffc_output_remove_pending(void);

/* ---- generating ------------------------------------------------------------------------------------- */

typedef enum diffc_stage {
    DIFFC_STAGE_LOAD,
    DIFFC_STAGE_TEXT,
    DIFFC_STAGE_ENCODE,
    DIFFC_STAGE_SAMPLE,
    DIFFC_STAGE_DECODE,
    DIFFC_STAGE_WRITE
} diffc_stage;

/* What on_progress is told. In DIFFC_STAGE_SAMPLE `done` of `total` counts steps over all pictures. */
typedef struct diffc_progress {
    diffc_stage stage;
    const char *what; /* "text encoder", "unet", ... */
    uint64_t done, total;
    int image, images; /* picture (or batch) under way, from 0 */
    double seconds;    /* since the stage began */
    double eta;        /* seconds left in all of sampling; < 0: not known yet */
} diffc_progress;

/* A finished picture. Everything is valid during the call only. */
typedef struct diffc_result {
    int index; /* from 0, in seed order */
    int count; /* pictures in all */
    uint64_t seed;
    const diffc_image *image; /* RGB */
    const char *parameters;   /* A1111 text: prompt, negative prompt, settings */
    const float *latent;      /* [4, height/f, width/f] float32: scaled, as the VAE is given it */
    int latent_dim[3];
    const char *prompt, *model, *sampler, *schedule; /* as resolved; model: its name without folder and ending */
    int steps;
    double guidance;
} diffc_result;

/* A picture on its way. Everything is valid during the call only. */
typedef struct diffc_preview {
    int index, count;         /* which picture, from 0, of how many in all */
    int step, steps;          /* after step `step`, from 1, of `steps`; dpm_adaptive, which finds its own: percents */
    const diffc_image *image; /* RGB of the denoised estimate (x0); "proj": width and height by the VAE's factor smaller */
    double seconds;           /* that decoding it took */
} diffc_preview;

/* Strings are borrowed for the call. Use diffc_request_defaults first, then set what differs. */
typedef struct diffc_request {
    const char *prompt;        /* NULL is "" */
    const char *negative;      /* NULL: none (SDXL then takes zeros, as its config says); "" is an empty prompt */
    const char *prompt_syntax; /* how the two are read (docs/prompts.md): NULL or "a1111": weights, BREAK, edits over the steps, AND, any length;
                                * "comfyui": its weights, any length; "plain": as they are, cut to the encoder's length (diffusers) */
    const char *emphasis;      /* what "a1111" does with weights: NULL or "original", "no-norm", "ignore", "none" (brackets are text) */
    const char *prompt_template, *negative_template; /* what the two came from (diffc_prompt_expand), for the picture's parameters; NULL */
    int width, height;                               /* multiples of the VAE factor, 8..4096; 0: the model's, or the start image's */
    int steps;                                       /* 1..1000 */
    double guidance;                                 /* classifier-free guidance scale; <= 1: one UNet pass a step */
    double guidance_rescale;                         /* 0..1 */
    const char *sampler;                             /* NULL: the model's */
    const char *schedule;                            /* NULL or "model": the model's; "karras", ... */
    double eta;                                      /* < 0: the sampler's own */
    const double *sigmas;                            /* own noise levels, descending, without the final 0; NULL */
    int n_sigmas;
    double s_churn, s_tmin, s_tmax;   /* churn of euler, heun, dpm2 between these sigmas (s_tmax 0: no limit), as k-diffusion */
    double s_noise;                   /* scale of the noise that a sampler adds; 0: 1 */
    double sigma_min, sigma_max, rho; /* range and exponent of k-diffusion's schedules; 0: theirs */
    int solver_order;                 /* 1..3 of deis, unipc, dpm++2m, ...; 0: the model's or sampler's */
    const char *solver_type;          /* "midpoint", "heun" or "bh1", "bh2"; NULL: the model's or sampler's */
    uint64_t seed;                    /* picture i uses seed + i, but see diffc_request_seed */
    /* Random numbers: "cpu" and "cuda", torch's generators, one a picture; or as a program draws them, "a1111" (on a GPU), "a1111-cpu", "comfyui"
     * (on a GPU), "comfyui-gpu" (its _gpu samplers), "comfyui-cpu", "diffusers" (one generator a batch). docs/noise.md has the rules. */
    const char *rng;
    /* A1111's variations: the start noise turned by a share of the angle towards that of another seed (picture i: variation_seed + i, and all
     * pictures `seed`). strength 0..1, 0: none. Not where a batch is drawn at once (comfyui*, diffusers), nor are the next two. */
    uint64_t variation_seed;
    double variation_strength;
    int seed_resize_width, seed_resize_height; /* start noise of a picture of that size in the middle; 0: none */
    int64_t ensd;             /* A1111's eta noise seed delta: noises of steps come from seed + ensd; 0: from where the start noise did */
    int count, batch;         /* pictures in all, pictures in one UNet pass */
    int clip_skip;            /* 1: last layer, 2: the one before; 0: the model's own */
    const diffc_image *image; /* start image (RGB); resized to width x height (Lanczos) */
    const diffc_image *mask;  /* with an inpaint model: white is painted anew (gray) */
    double strength;          /* with a start image: share of the steps that is run, (0,1] */
    bool vae_tiling;          /* decode in overlapping tiles: less memory, not exactly the same picture */
    /* Previews: what the UNet takes the finished picture to be, by the last evaluation of a step. NULL or "none"; "proj": colours by a linear map, a
     * pixel a latent, next to no work; "tae": the tiny decoder; "vae": the model's decoder. They change no byte of the picture; of the last step
     * there is none, since the picture follows. Needs on_preview. Errors, told before any work: USAGE (an unknown name, latents whose colours are
     * not known), NO_INPUT (no tiny decoder), DATA. */
    const char *preview;
    int preview_interval; /* every n-th step; 0: the first, then as often as takes a twelfth of the run's time at most */
    const char *trace;    /* folder for every named activation as .npy (NCHW); NULL */
    bool profile;         /* collect per-op times for diffc_profile_text */

    /* Return true to stop (DIFFC_CANCELLED). May be NULL. */
    bool (*on_progress)(void *user, const diffc_progress *progress);
    /* One call a picture of the batch; return true to stop (DIFFC_CANCELLED). May be NULL. */
    bool (*on_preview)(void *user, const diffc_preview *preview);
    /* Return non-zero to stop with that status; fill *error then. May be NULL. */
    diffc_status (*on_image)(void *user, const diffc_result *result, diffc_error *error);
    void *user;
} diffc_request;

DIFFC_API void diffc_request_defaults(const diffc_model *model, diffc_request *request);
/* The seed that picture `index` is made from: seed + index; with a variation, seed; where a batch is drawn at once, that of its first picture. */
DIFFC_API uint64_t diffc_request_seed(const diffc_request *request, int index);
/* Errors: USAGE (field, value, what is possible), NO_MEMORY (the plan does not fit: told before the first step), DATA, IO (also: a
 * model file has changed since it was opened), INTERNAL, CANCELLED, and whatever on_image returns. */
DIFFC_API diffc_status diffc_generate(diffc_model *model, const diffc_request *request, diffc_error *error);

/* ---- a picture made again ----------------------------------------------------------------------------- */

/* What became of one field of a picture's text. */
typedef enum diffc_fate {
    DIFFC_HONOURED, /* done as it says (with `reason`: how) */
    DIFFC_CHANGED,  /* done otherwise: the picture may be another */
    DIFFC_IGNORED   /* not done */
} diffc_fate;
typedef struct diffc_field {
    const char *name, *value; /* as A1111 names it, whatever program wrote it */
    diffc_fate fate;
    const char *reason; /* one line; "" */
    const char *member; /* of diffc_request, which it set ("steps"; "size": width and height); NULL */
} diffc_field;
typedef struct diffc_replay {
    const char *source; /* "A1111", "diffc", "stable-diffusion.cpp", "ComfyUI": whose text it is */
    const diffc_field *field;
    int n_fields; /* 0 before diffc_replay_apply */
} diffc_replay;

/* Reads how a picture was made: A1111's parameters (PNG text; EXIF of JPEG and WebP), ComfyUI's graph, stable-diffusion.cpp's text; or a file of
 * text that holds one of them. Errors: NO_INPUT (no such file, or nothing in it), DATA, NO_MEMORY. docs/metadata.md has the rules. */
DIFFC_API diffc_status diffc_replay_open(diffc_replay **out, const char *path, diffc_error *error);
DIFFC_API diffc_status diffc_replay_memory(diffc_replay **out, const char *name, const void *bytes, size_t n, diffc_error *error);
/* Sets in *request (with the model's defaults in it, and a start image when there is one) what the text says, and fills the table of fields. The
 * request then borrows strings from the replay. model: the one that will run, to compare names and hashes (reads its file); NULL: none is
 * compared. Errors: NO_MEMORY. */
DIFFC_API diffc_status diffc_replay_apply(diffc_replay *replay, diffc_model *model, diffc_request *request, diffc_error *error);
DIFFC_API void diffc_replay_close(diffc_replay *replay); /* NULL is fine */

/* What a request would take, without doing it: bytes of prepared weights and planned buffers by stage, and the peak. */
typedef struct diffc_plan_stage {
    const char *name;
    uint64_t weights, buffers;
    uint64_t least; /* of weights on a GPU, where not all fit */
    double gflop;
    int passes;
    int strip;  /* the VAE where memory is short: rows of the picture computed at a time; 0: all */
    bool again; /* and part of them more than once */
} diffc_plan_stage;
typedef struct diffc_plan {
    int n_stages;
    diffc_plan_stage stage[8];
    uint64_t peak;        /* most anonymous memory at once, everything counted */
    uint64_t mapped;      /* model files mapped (page cache, shared) */
    uint64_t available;   /* what the machine, its limits and max_memory leave */
    uint64_t device_peak; /* on a GPU: weights and buffers are in its memory. Both 0: there is none */
    uint64_t device_available;
    bool visits;                    /* weights that do not fit there stay in the host's memory and come for each use */
    int width, height, steps, rows; /* as resolved; rows: UNet passes a picture; both 0: dpm_adaptive, as many as it finds needed */
    const char *sampler, *schedule;
} diffc_plan;
DIFFC_API diffc_status diffc_plan_request(diffc_model *model, const diffc_request *request, diffc_plan *plan, diffc_error *error);
/* Table of the last profiled diffc_generate; free with diffc_free. */
DIFFC_API char *diffc_profile_text(const diffc_model *model);

/* ---- CLIP: texts and pictures as vectors ------------------------------------------------------------- */

typedef struct diffc_clip diffc_clip;

#define DIFFC_ID_FAST "-fast" /* ends the id of a model with fast_decode */

/* What an open CLIP model is. Valid while it lives. */
typedef struct diffc_clip_info {
    int dims;                  /* numbers of a vector                                                          */
    int width, height;         /* of the square that the picture encoder sees, in pixels                       */
    size_t pixels;             /* floats of one preprocessed picture: 3 * height * width, planes R, G, B       */
    int tokens;                /* that fit a text, start and end included; 0: the model has no text encoder    */
    bool has_text, has_images; /* an encoder may be missing: asking it to work is DIFFC_USAGE                  */
    double logit_scale;        /* logits are logit_scale * cosine (100 where the model does not say)           */
    const char *name;          /* last part of its path                                                        */
    const char *id;            /* "clip-512-1a2b3c4d5e": of vectors that can be compared; [a-z0-9-], below 128 bytes. Told from names, shapes
                                  and samples of the weights and from what is done with them, not from their path */
    const char *summary;       /* one line: "CLIP ViT-B/32 (quick_gelu), 512 numbers, 224x224, 151 M parameters" */
    const char *device;        /* one line: "cpu avx512, 2 threads, f32"                                       */
} diffc_clip_info;

/* model: a folder of transformers (CLIPModel, or either encoder with its projection), of open_clip (open_clip_config.json and weights), or a
 * single file of open_clip's or OpenAI's names (safetensors, .bin, .pt, also a TorchScript); NULL: the one among the assets. config: an
 * open_clip_config.json, or a folder with one, for a single file (else one beside the file is taken, else sizes are told from the weights).
 * Also taken of the options: device, cpu_level, precision, exact, threads, fast_decode, log. Weights are prepared at first use and kept.
 * Errors: NO_INPUT, DATA, UNAVAILABLE, USAGE, NO_MEMORY. */
DIFFC_API diffc_status diffc_clip_open(diffc_clip **out, const diffc_options *options, diffc_error *error);
DIFFC_API void diffc_clip_close(diffc_clip *clip); /* NULL is fine */
/* As diffc_cancel: whatever embeds returns DIFFC_CANCELLED. */
DIFFC_API void diffc_clip_cancel(diffc_clip *clip);
DIFFC_API const diffc_clip_info *diffc_clip_about(const diffc_clip *clip);

/* Vectors of n texts or pictures (any n; batches are made inside), rows of `dims` floats in out, each of length 1. A text that is too long is
 * cut, with a warning in the log. One thread at a time. Errors: USAGE (not UTF-8; no such encoder), DATA, INTERNAL (not finite), IO, NO_MEMORY,
 * CANCELLED. */
DIFFC_API diffc_status diffc_clip_embed_text(diffc_clip *clip, const char *const *texts, int n, float *out, diffc_error *error);
DIFFC_API diffc_status diffc_clip_embed_images(diffc_clip *clip, const diffc_image *images, int n, float *out, diffc_error *error);
/* One row a text, the mean over templates, of which each is a text with {} in the place for it: normalised, added, normalised, as open_clip's
 * zero-shot classifier. n_templates 0: the texts as they are. */
DIFFC_API diffc_status diffc_clip_embed_prompts(diffc_clip *clip, const char *const *texts, int n, const char *const *templates, int n_templates,
                                                float *out, diffc_error *error);

/* The two halves of diffc_clip_embed_images. The first, and the reading of files, may be called by several threads at once, also while the model
 * works: out has `pixels` floats. Pictures have 1, 3 or 4 channels. Errors: USAGE (no picture encoder), NO_MEMORY. */
DIFFC_API diffc_status diffc_clip_preprocess(const diffc_clip *clip, const diffc_image *image, float *out, diffc_error *error);
DIFFC_API diffc_status diffc_clip_embed_pixels(diffc_clip *clip, const float *pixels, int n, float *out, diffc_error *error);
/* As diffc_image_read, with the channels that the model's preprocessing wants: open_clip's resizes transparency and then drops it, that of
 * transformers lays it on white. With fast_decode a JPEG comes at 1/2, 1/4 or 1/8 of its size, when that is still twice what the model sees. */
DIFFC_API diffc_status diffc_clip_image_read(const diffc_clip *clip, diffc_image *out, const char *path, diffc_error *error);

/* ---- searching pictures by what they show --------------------------------------------------------------- */

/* What turns pictures and texts into vectors that can be compared: functions of a CLIP model, or of anything else. They return a status and fill
 * *error as the functions of this file do. */
typedef struct diffc_embedder {
    void *self;
    const char *model; /* identifies the model: an index of another one is refused */
    int dims;          /* numbers of a vector */
    size_t pixels;     /* floats of a preprocessed picture */
    /* These two are called by several threads at once, also while the others work. A picture is freed with diffc_image_free. */
    diffc_status (*read)(void *self, diffc_image *out, const char *path, diffc_error *error);
    diffc_status (*preprocess)(void *self, const diffc_image *image, float *out, diffc_error *error);
    /* Rows of `dims` numbers, of any length but 0. templates: as diffc_clip_embed_prompts. */
    diffc_status (*embed_pixels)(void *self, const float *pixels, int n, float *out, diffc_error *error);
    diffc_status (*embed_texts)(void *self, const char *const *texts, int n, const char *const *templates, int n_templates, float *out,
                                diffc_error *error);
} diffc_embedder;
/* Of an open model, which must outlive it. */
DIFFC_API diffc_embedder diffc_clip_embedder(diffc_clip *clip);

typedef enum diffc_index_stage { DIFFC_INDEX_SCAN, DIFFC_INDEX_EMBED, DIFFC_INDEX_WAIT } diffc_index_stage;
typedef struct diffc_index_progress {
    diffc_index_stage stage;
    uint64_t done, total; /* SCAN: pictures found, 0; EMBED: of those that are new or changed; WAIT: nothing */
    uint64_t failed;      /* of them */
    double seconds, rate; /* since the stage began; pictures a second */
    double eta;           /* seconds; < 0: not known */
} diffc_index_progress;

/* Counts of pictures: files that by their names are some. */
typedef struct diffc_index_summary {
    uint64_t found, unchanged;
    uint64_t added, changed; /* paths that are new, or have another content */
    uint64_t embedded;       /* contents that needed the model */
    uint64_t reused;         /* of added and changed: moved or copied, the content was known */
    uint64_t removed;        /* gone, or excluded by now */
    uint64_t failed;         /* could not be read: recorded with the reason, tried again when they change */
    uint64_t unreadable;     /* folders: what was below them stays as it was */
    double seconds;
} diffc_index_summary;

/* Zero-initialise; every zero is a sensible default. */
typedef struct diffc_index_options {
    const char *root;           /* folder of pictures; NULL: "." */
    const char *index;          /* the index's folder; NULL: ".diffc" in the root */
    const char *model_path;     /* remembered, for diffc_index_about; NULL: the default model */
    const char *const *exclude; /* patterns (fnmatch) of names, or with a '/' of paths, besides .git, node_modules, @eaDir, ... */
    int n_exclude;
    bool hidden;           /* names that begin with '.', too */
    bool follow;           /* links to folders, too */
    bool rebuild;          /* forget what is there: another model, a damaged index */
    double max_megapixels; /* larger pictures are not read; 0: as large as diffc reads */
    int threads;           /* that read and decode; 0: all usable CPUs */
    int batch;             /* pictures that are encoded, and committed, together; 0: 32 */
    void *user;
    bool (*on_progress)(void *user, const diffc_index_progress *p);       /* true stops: CANCELLED */
    void (*on_failure)(void *user, const char *path, const char *reason); /* a picture (or folder) that cannot be read */
    void (*on_update)(void *user, const diffc_index_summary *summary);    /* diffc_index_watch: after each time something was done */
    void (*log)(void *user, diffc_log_level level, const char *line);
} diffc_index_options;

/* Brings the index up to date, or makes it. Stopped at any moment, also by kill -9 or a power cut, it has lost the batch under way at most, and
 * the next call goes on. Errors: UNAVAILABLE (another program writes it), USAGE (it is of another model), NO_INPUT, NO_CREATE, DATA, IO, NO_MEMORY,
 * CANCELLED, those of the embedder. */
DIFFC_API diffc_status diffc_index_update(const diffc_index_options *options, const diffc_embedder *embedder, diffc_index_summary *out,
                                          diffc_error *error);
/* The same, and again whenever something changes below the root, until on_progress (called twice a second at least) stops it. */
DIFFC_API diffc_status diffc_index_watch(const diffc_index_options *options, const diffc_embedder *embedder, diffc_error *error);

/* An index open for reading: one state of it, whatever is written meanwhile. By one thread at a time. */
typedef struct diffc_index diffc_index;
/* folder: the index's own; NULL: ".diffc" in `from` (NULL: ".") or in the nearest folder around it. cpu_level, threads of `options` (NULL: the
 * defaults) are what compares. Errors: NO_INPUT (none there), DATA, UNAVAILABLE, NO_MEMORY, IO. */
DIFFC_API diffc_status diffc_index_open(diffc_index **out, const char *folder, const char *from, const diffc_options *options, diffc_error *error);
DIFFC_API void diffc_index_close(diffc_index *index); /* NULL is fine */
typedef struct diffc_index_info {
    const char *folder, *root; /* root: of the pictures, as a path that can be opened */
    const char *model, *model_path;
    int dims;
    bool fast_decode; /* its model had it: pictures that ask are to be read so, too */
    uint64_t vectors, files, failed;
} diffc_index_info;
DIFFC_API diffc_status diffc_index_about(diffc_index *index, diffc_index_info *out, diffc_error *error);
/* Reads everything in it: DATA tells the first fault. */
DIFFC_API diffc_status diffc_index_check(diffc_index *index, diffc_error *error);
/* Calls `each` with every picture that could not be read; true stops. */
DIFFC_API diffc_status diffc_index_failures(diffc_index *index, bool (*each)(void *user, const char *path, const char *reason), void *user,
                                            diffc_error *error);

/* A query: the terms added less those subtracted. A term is a text, or a picture: "@PATH" ("@-": stdin), a path that begins with "/", "./" or "../",
 * or the name of a file that is there and has the ending of one; before it there may be a weight: "2:cat", "0.5:./cat.jpg". Each term is a vector of
 * length 1 times its weight; their sum is made to length 1. */
typedef struct diffc_query {
    const char *const *add, *const *subtract;
    int n_add, n_subtract;
    const char *const *templates; /* of texts, each with {} */
    int n_templates;
    int top;          /* most results; 0: all */
    double threshold; /* least cosine; -2: none */
    bool automatic;   /* cut where the scores of this query fall most (docs/search.md) */
} diffc_query;

/* The path of the picture that a term names ("-": stdin), in the term; NULL: it is a text, or no term. */
DIFFC_API const char *diffc_term_picture(const char *term);

typedef struct diffc_match {
    const char *path; /* relative to the root, bytes as in the file system */
    float score;      /* cosine */
    int width, height;
} diffc_match;
/* In order of score, then of path. */
typedef struct diffc_matches {
    diffc_match *match;
    size_t n;
    char *text; /* what the paths point to */
} diffc_matches;
/* out: n of them, each for diffc_matches_free. Errors: USAGE (terms, templates, another model's index), NO_INPUT and DATA (a term's picture; a damaged
 * index), IO, NO_MEMORY, those of the embedder. */
DIFFC_API diffc_status diffc_search(diffc_index *index, const diffc_embedder *embedder, const diffc_query *queries, int n, diffc_matches *out,
                                    diffc_error *error);
DIFFC_API void diffc_matches_free(diffc_matches *matches);

/* Pictures that are the same or nearly so. Groups of the same content come first, in order of their first path; then groups of contents that are linked by
 * cosines of at least 1 - distance. score: cosine to the first of the group, 1 in groups of one content. Free with diffc_duplicates_free. */
typedef struct diffc_duplicates {
    diffc_matches matches;
    size_t *first; /* n_groups + 1: where a group begins in matches */
    size_t n_groups, n_exact;
} diffc_duplicates;
DIFFC_API diffc_status diffc_index_duplicates(diffc_index *index, double distance, bool (*on_progress)(void *user, double part), void *user,
                                              diffc_duplicates *out, diffc_error *error);
DIFFC_API void diffc_duplicates_free(diffc_duplicates *d);

/* The index as FILE.npy, float32 [n, dims], and FILE.paths: a path a row, each ended by `end` ('\n' or 0). USAGE: a path with a newline in it. */
DIFFC_API diffc_status diffc_index_export(diffc_index *index, const char *npy, const char *paths, char end, diffc_error *error);
/* Vectors of pictures made elsewhere, by the model that the embedder is of, into the index that options name. Pictures below the root that are not there
 * count as failed. */
DIFFC_API diffc_status diffc_index_import(const diffc_index_options *options, const diffc_embedder *embedder, const char *npy, const char *paths,
                                          char end, diffc_index_summary *out, diffc_error *error);

/* A sheet of thumbnails with their scores, `columns` wide (0: chosen). What cannot be read is a crossed square. Free with diffc_image_free. */
DIFFC_API diffc_status diffc_contact_sheet(const char *root, const diffc_matches *matches, int columns, int size, diffc_image *out,
                                           diffc_error *error);

/* ---- converting --------------------------------------------------------------------------------------- */

/* What was written. */
typedef struct diffc_converted_part {
    char name[24]; /* "unet", ... */
    int tensors;
    uint64_t bytes;
} diffc_converted_part;
typedef struct diffc_conversion {
    bool folder;
    int n_parts;
    diffc_converted_part part[4];
    uint64_t bytes; /* of all */
} diffc_conversion;

/* Writes a model anew, atomically. options: what is read (model, config, unet, text_encoder, ..., prediction, log) and, as precision, the type of
 * numbers: "auto" (as stored; float64 becomes f32, what is narrower than 16 bits f16), "f32", "f16", "bf16". output: a name ending in
 * .safetensors, or "-": one file that every program reads (a single file keeps its names); anything else: a diffusers folder. A file of one
 * part becomes a file, or a component folder, of that part. A file of that name is replaced, a folder must be empty or not there.
 * on_progress (may be NULL) as in a request; out may be NULL. Errors: USAGE, NO_INPUT, DATA (also numbers that are not finite or too large for
 * the type), NO_CREATE, IO, NO_MEMORY, CANCELLED: then nothing is left behind. */
DIFFC_API diffc_status diffc_convert(const diffc_options *options, const char *output,
                                     bool (*on_progress)(void *user, const diffc_progress *progress), void *user, diffc_conversion *out,
                                     diffc_error *error);

/* ---- parts, for tools and tests ----------------------------------------------------------------------- */

DIFFC_API void diffc_free(void *p); /* what the functions below hand out */

/* Canonical names, with the spellings of A1111, ComfyUI, stable-diffusion.cpp and diffusers accepted everywhere. */
DIFFC_API const char *const *diffc_sampler_names(int *n);
DIFFC_API const char *const *diffc_schedule_names(int *n);
DIFFC_API const char *const *diffc_preview_names(int *n); /* of a request's preview: "none" first */

/* The closest of n names to `word`, "a, b or c", into out; "" when nothing is near. For messages. */
DIFFC_API void diffc_nearest_names(char *out, size_t size, const char *word, const char *const *names, int n);

/* s as it can be shown: control characters and invalid UTF-8 as \\xNN, cut to fit out[size] with "...". Returns out. */
DIFFC_API const char *diffc_escape(char *out, size_t size, const char *s);

/* Token ids of `text` as the model conditions on it: start, ids cut to fit, end (no padding). folder: a model or a tokenizer
 * folder; NULL: CLIP's own vocabulary among the assets. *cut: ids that did not fit. */
DIFFC_API diffc_status diffc_tokenize(const char *folder, const char *text, int32_t **ids, int *n, int *cut, diffc_error *error);

/* Names for diffc_request.rng. */
DIFFC_API const char *const *diffc_rng_names(int *n);

/* What a prompt comes to, as JSON text (free with diffc_free): its parts (AND) with weights, the texts of each over `steps` steps, and each text's
 * tokens and weights in chunks as the encoder is given them. tokenizer: as `folder` of diffc_tokenize. syntax, emphasis: as in a request. */
DIFFC_API diffc_status diffc_prompt_explain(const char *tokenizer, const char *prompt, const char *syntax, const char *emphasis, int steps,
                                            char **json, diffc_error *error);
/* Templates (docs/prompts.md): {a|b} and __file__ stand for another text with every seed. *out is free'd with diffc_free. folder: of the wildcard
 * files NAME.txt; NULL: __name__ stays as it is. Errors: USAGE, NO_INPUT (no such file), DENIED (a name that leaves the folder), DATA, IO, NO_MEMORY. */
DIFFC_API bool diffc_prompt_is_template(const char *prompt);
DIFFC_API diffc_status diffc_prompt_expand(const char *prompt, const char *folder, uint64_t seed, char **out, diffc_error *error);

/* n values of torch.randn, from the generator that draws the start noise by these rules. */
DIFFC_API diffc_status diffc_noise(const char *rng, uint64_t seed, float *out, size_t n, diffc_error *error);

/* Start noise [n][channels,h,w] of pictures 0 .. n - 1 of a request, as one batch: of its fields, those about random numbers count. */
DIFFC_API diffc_status diffc_start_noise(const diffc_request *request, int n, int channels, int h, int w, float *out, diffc_error *error);

/* Timesteps (one a model evaluation) and sigmas of a sampler. model: a model folder, NULL: Stable Diffusion's schedule. prediction:
 * "epsilon", "v", "sample", NULL: the model's. Free the two arrays with diffc_free. */
typedef struct diffc_schedule {
    double *timesteps, *sigmas;
    int n_timesteps, n_sigmas;
    int steps; /* as many as run, which need not be as many as were asked for; 0: dpm_adaptive */
    const char *sampler, *schedule;
} diffc_schedule;
/* Of the request count the sampler, schedule, steps, and what else changes them (eta, sigmas, rng, ...); an eta below 0 is the sampler's own. */
DIFFC_API diffc_status diffc_schedule_make(const char *model, const char *prediction, const diffc_request *request, diffc_schedule *out,
                                           diffc_error *error);

/* Any model file or folder, PNG or .npy, described as JSON text (free with diffc_free). Reads no tensor data, but with `hashes`: SHA-256 of
 * each file. */
DIFFC_API diffc_status diffc_inspect(const char *path, bool hashes, char **json, diffc_error *error);

/* .npy, float32, C order. */
DIFFC_API diffc_status diffc_npy_write(const char *path, const float *data, int rank, const int64_t *dim, diffc_error *error);

/* A convolution, linear layer or attention as it is computed: shape is of what comes out, detail says what goes in; algorithm, and the
 * reason for it, in the device's words. */
typedef struct diffc_layer {
    char op[24], shape[96], detail[64], algorithm[32], reason[64];
    char scope[160]; /* diffusers' name of the module around it */
    double multiply_adds;
} diffc_layer;

/* Times one part on the model's weights with random input: what is "unet", "vae", "taesd", "vae-encode", "clip-text". Warm-up, then rounds until
 * `seconds` have passed (at least 3; 1 when they are 0). out: seconds of each round, in a new array; gflop: of a direct pass that makes
 * everything, also what is made once. */
typedef struct diffc_bench {
    double *seconds;
    int n;
    double best, median, gflop;
    double once; /* seconds of what comes once before all rounds (UNet: keys and values of the text); 0: nothing */
    uint64_t weight_bytes, buffer_bytes;
    float *output; /* of the last pass, channels last */
    int rank;
    int64_t dim[4];
    char *profile;
    diffc_layer *layer; /* of diffc_bench_plan */
    int n_layers;
} diffc_bench;
DIFFC_API diffc_status diffc_bench_run(diffc_model *model, const char *what, int batch, int width, int height, double seconds, bool profile,
                                       diffc_bench *out, diffc_error *error);
/* The layers in the order they run, work and memory of such a pass, without running it. */
DIFFC_API diffc_status diffc_bench_plan(diffc_model *model, const char *what, int batch, int width, int height, diffc_bench *out, diffc_error *error);
/* The same of a CLIP model's picture encoder, from pixels to vectors that are not normalised: output [batch, dims]. */
DIFFC_API diffc_status diffc_clip_bench_run(diffc_clip *clip, int batch, double seconds, bool profile, diffc_bench *out, diffc_error *error);
DIFFC_API diffc_status diffc_clip_bench_plan(diffc_clip *clip, int batch, diffc_bench *out, diffc_error *error);
DIFFC_API void diffc_bench_free(diffc_bench *bench);

/* ---- does this machine compute right? ------------------------------------------------------------------ */

/* One check: cases of an op, or a part of the model. Strings are valid during the call only. */
typedef struct diffc_check {
    const char *name;     /* "conv2d", "unet 72x56" */
    const char *beside;   /* the device it is compared with: "ref, 1 thread" */
    int cases;            /* that were run */
    int wrong, unsteady;  /* of them: farther off than the bound; gave other bytes when they were asked again */
    double error, bound;  /* relative, of the case that is farthest off by its bound (docs/selftest.md) */
    const char *farthest; /* that case, in words */
    double seconds;
} diffc_check;

typedef struct diffc_selftest {
    bool quick; /* fewer and smaller cases */
    void *user;
    bool (*on_progress)(void *user, const char *name, int done, int total); /* true stops: CANCELLED. May be NULL; so may the next */
    void (*on_check)(void *user, const diffc_check *check);
    void (*on_model)(void *user, diffc_model *model); /* it begins to work, for diffc_cancel; NULL: it has ended */
    /* What came of it, filled as it goes: */
    char device[128]; /* "cpu avx2, 2 threads, f32": before the first call */
    int checks, failed, cases;
    double seconds;
} diffc_selftest;

/* Every op on random shapes beside the reference device (plain loops, sums in double), then the parts of a model and a picture beside that device or, where
 * it would take too long, beside the CPU's plain float32; everything twice, for the same bytes. options: device, cpu_level, precision, exact, threads say
 * what is tested, the others name the model. Errors: INTERNAL (something is wrong), those of diffc_open, diffc_bench_run and diffc_generate. */
DIFFC_API diffc_status diffc_selftest_run(diffc_selftest *test, const diffc_options *options, diffc_error *error);

#ifdef __cplusplus
}
#endif
#endif
