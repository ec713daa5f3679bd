/* model.h - what the files of the pipeline share: an open model, and one generation under way. */
#ifndef DC_PIPELINE_MODEL_H
#define DC_PIPELINE_MODEL_H
#include "backends/ops.h"
#include "base/clock.h"
#include "base/status.h"
#include "base/text.h"
#include "clip/text.h"
#include "clip/tokenizer.h"
#include "include/diffc.h"
#include "prompt/chunks.h"
#include "prompt/schedule.h"
#include "scheduler/sampler.h"
#include "scheduler/draws.h"
#include "unet/unet.h"
#include "vae/vae.h"
#include "weights/hash.h"
#include "weights/parts.h"
#include "weights/weights.h"
#include <pthread.h>

#define MAX_TEXT 2 /* SDXL has two text encoders */

typedef struct text_encoder {
    const char *name; /* "text_encoder", "text_encoder_2": folder and trace name */
    dc_weights *weights;
    dc_tokenizer *tokenizer;
    dc_clip_text *model;
    int length; /* tokens of a prompt, start and end included */
} text_encoder;

struct diffc_model {
    char *path;       /* of the model, as named: a folder or a file */
    char *folder;     /* diffusers folder: the model itself, or what describes a single file; NULL: none */
    dc_weights *file; /* the single file; NULL: a folder */
    char *name;       /* last part of the path, of a file without its ending: "Model" in the picture's parameters */
    char *vae_name;   /* the same of what replaces its VAE; NULL: nothing does */
    dc_device *device;
    atomic_int cancel;
    dc_log log;
    void (*log_fn)(void *user, diffc_log_level level, const char *line);
    void *log_user;
    bool resident;
    uint64_t max_memory;
    int n_text;
    text_encoder text[MAX_TEXT];
    dc_weights *unet_weights, *vae_weights;
    dc_unet *unet;
    dc_vae *vae;
    dc_weights *tiny_weights;
    dc_vae *tiny;   /* for previews alone: --taesd, or (opened when it is wanted) the folder's own; NULL */
    float *factors; /* preview.c: latent to RGB, [C + 1][3], the last row the bias; NULL: not wanted yet */
    dc_noise_config noise;
    bool zero_empty_negative; /* SDXL: no negative prompt conditions on zeros, not on "" */
    int default_steps;
    double default_guidance;
    char default_sampler[32]; /* "": of the scheduler's class */
    uint64_t mapped;          /* bytes of model files */
    char summary[160];
    dc_text profile;
    pthread_t hash_thread; /* hash.c */
    bool hashing;
    atomic_int hash_stop;
    char hash[DC_HASH_DIGITS + 1];
};

/* ---- open.c */
/* The device that the options ask for. */
dc_status model_device(dc_device **out, const diffc_options *o, const atomic_int *cancel, const dc_log *log, dc_error *e);
dc_status model_open(diffc_model **out, const diffc_options *o, dc_error *e);
void model_close(diffc_model *m);
/* A model of which only model, config and log of the options are taken: its file or folder, no part. For model_close even after an error. */
dc_status model_find(diffc_model **out, const diffc_options *o, dc_error *e);

/* What model_index.json says about the whole. */
typedef struct model_index {
    json_t *root; /* NULL: no such file */
    char *path;
} model_index;
dc_status index_read(model_index *x, const char *folder, dc_error *e); /* DATA for pipelines that we do not run */
void index_close(model_index *x);

/* scheduler_config.json of the model's folder, else what its single file tells; *root NULL: neither says anything. *path is for messages,
 * free it. unet: the UNet's configuration. *unsure: what the UNet predicts (v was taken) is not said anywhere. */
dc_status scheduler_config(const diffc_model *m, json_t **root, char **path, const json_t *unet, bool *unsure, dc_error *e);

/* The autoencoder `replaced` (NULL: the model's own) with its weights; encoder: also the encoding half, where there is one. */
dc_status autoencoder_open(diffc_model *m, dc_vae **vae, dc_weights **weights, const char *replaced, bool encoder, const json_t *unet, dc_error *e);

/* ---- probe.c: what the UNet of an open model predicts, by its answer to one input; epsilon or v. Prepares its weights and drops them. */
dc_status probe_prediction(diffc_model *m, dc_prediction *out, dc_error *e);

/* ---- parts.c: where each part of a model is */

/* A part as found. */
typedef struct model_part {
    dc_weights *weights;
    json_t *config;
    char *config_path; /* for messages */
} model_part;
/* The weights and configuration of one part: from `replaced` (a component folder, or a file; NULL: not), the model's file, or the
 * model's folder. unet: the UNet's configuration where it is known. Errors: NO_INPUT (the part is missing, with what to do), DATA. */
dc_status part_open(model_part *out, const diffc_model *m, dc_part p, const char *replaced, const json_t *unet, dc_error *e);
/* Is there such a part: `replaced`, or in the model's file or folder? Errors: NO_MEMORY. */
dc_status part_there(bool *there, const diffc_model *m, dc_part p, const char *replaced, dc_error *e);
/* Has the model all the parts that it needs, beside those that the options replace? Asked before any is opened. Errors: NO_INPUT. */
dc_status parts_check(const diffc_model *m, const diffc_options *o, dc_error *e);
const char *decoder_option(const diffc_options *o); /* what replaces the model's VAE: --taesd, --vae; NULL: nothing */
void part_close(model_part *x);                     /* also after its weights were taken (set to NULL) */
/* Last part of a path, resolved so that "." has a name too; of a file with its ending or without. The caller frees; NULL: out of memory. */
char *part_base_name(const char *path, bool ending);
/* Opens the file or folder that -m names (NULL: the default among the assets), and the folder that describes it (--config; NULL: none). */
dc_status source_open(diffc_model *m, const char *model, const char *config, dc_error *e);

/* ---- hash.c: AutoV2 of the file that the UNet is in. Begun on a thread of its own, once a model; waited for when a picture is to name it. */
void model_hash_begin(diffc_model *m);
const char *model_hash(diffc_model *m); /* "": not begun, or not to be had */
void model_hash_end(diffc_model *m);    /* stops it */

/* ---- assets.c: the data folder. The caller frees; NULL with NO_INPUT when it is not there. */
dc_status asset_path(char **out, const char *name, dc_error *e);

/* ---- prompt.c, emphasis.c: text to conditioning */

typedef enum emphasis { EMPHASIS_ORIGINAL, EMPHASIS_NO_NORM, EMPHASIS_IGNORE, EMPHASIS_NONE } emphasis;
enum { SYNTAXES = DC_PROMPT_PLAIN + 1, EMPHASES = EMPHASIS_NONE + 1 };
/* The values' names in requests; label: in parameters, as the web UI writes it. */
extern const char *const syntax_names[SYNTAXES];
typedef struct emphasis_name {
    const char *name, *label;
} emphasis_name;
extern const emphasis_name emphasis_names[EMPHASES];

/* One text that some step is conditioned on. */
typedef struct encoded_text {
    dc_prompt_chunks chunks[MAX_TEXT]; /* by encoder                                                */
    int *row;                          /* [strand's chunks] place of each chunk among all that are encoded */
    float *context, *pooled;           /* [tokens, width], [pooled_width]                           */
} encoded_text;

/* One prompt over the steps: the negative one, or a part of the prompt (A1111's AND). A row of the UNet's batch for every picture. */
typedef struct strand {
    dc_prompt_schedule schedule;
    double weight;
    bool negative, zeros; /* zeros: in place of the text (SDXL without a negative prompt) */
    int first;            /* texts first .. first + schedule.n - 1 are its own           */
    int chunks;           /* all of them have as many                                     */
} strand;

/* What the UNet is conditioned on, on the host. */
typedef struct conditioning {
    int n; /* strands: with guidance the negative one and the parts of the prompt, else the parts (one) */
    strand strand[DC_PROMPT_PARTS + 1];
    dc_prompt_syntax syntax;
    emphasis emphasis;
    int n_texts;
    encoded_text *text;
    int n_rows, n_negative;  /* different chunks: those of the negative prompt first          */
    int32_t *ids[MAX_TEXT];  /* [n_rows, length]                                              */
    int empty[2];            /* row of the empty chunk for positive, negative; -1: not needed */
    int tokens[2];           /* of a positive, of a negative text                             */
    int width, pooled_width; /* pooled_width 0: none                                          */
} conditioning;
void conditioning_free(conditioning *c);
/* Names to values, NULL: the defaults. Errors: USAGE. */
dc_status prompt_syntax(const char *syntax, const char *kind, dc_prompt_syntax *how, emphasis *weights, dc_error *e);
/* The rows' hidden states [n_rows, length, width] of encoder i into columns `from`.. of every text's context, weighted. */
void emphasis_apply(conditioning *c, int i, const float *hidden, int from, int width);

/* ---- generate.c and its parts */

/* Something that makes pictures of latents, and its passes. */
typedef struct decoder {
    dc_vae *vae;
    const dc_weights *weights; /* where it came from */
    const char *what;          /* for progress and messages */
    dc_run *run, *finish;      /* finish: tiles to pixels; NULL: not in tiles */
    dc_vae_strips strips;      /* where memory asks for them */
} decoder;

/* Pictures on their way; kind NONE: none are wanted. */
typedef struct previews {
    enum { PREVIEW_NONE, PREVIEW_PROJ, PREVIEW_TAE, PREVIEW_VAE } kind;
    int interval;              /* 0: as time allows */
    double began, spent, last; /* s: when the run did; what previews took, all and the last one */
    float *x0;                 /* [batch][h,w,C], of the evaluation that was last: the sampler's pass writes it */
    uint8_t *pixels;           /* of one */
    decoder own;               /* the tiny decoder's, where that is not the job's */
    decoder *with;             /* NULL: proj */
} previews;

/* A request with every default filled in and every value checked. */
typedef struct job {
    diffc_model *m;
    const diffc_request *q;
    int width, height, h, w, latent_channels; /* h, w: latent size */
    int count, batch, clip_skip;
    bool guided;     /* the negative prompt is a row of the UNet, too */
    double guidance; /* as asked for, */
    double scale;    /* and as the outputs are mixed */
    double rescale, strength;
    dc_noise_wish noise;
    dc_plan plan;   /* the sampler's rows */
    bool encodes;   /* start image or masked image goes through the VAE encoder */
    float *picture; /* [height,width,3] in [-1,1]: start image, resized; or NULL */
    float *masked;  /* the same with the masked part at 0; or NULL */
    float *mask;    /* [h,w] 0 or 1 on the latent grid; or NULL */
    struct moments {
        float *mean, *logvar;
    } moments, masked_moments; /* [h,w,C], VAE units (TAESD: latent units, no logvar) */
    conditioning cond;
    dc_run *text_run[MAX_TEXT], *unet_run, *encode_run;
    dc_run *unet_text_run;       /* when another text's turn is: fills */
    dc_tensor *unet_text;        /* [2, dc_unet_texts], in that run's buffer: of all texts, or of the positive; of negative ones of another length */
    dc_vae_strips encode_strips; /* of the VAE, where memory asks for them */
    decoder decode;
    previews preview;
    double began; /* of the stage, for progress */
    double sample_began;
    int image;              /* first picture of the batch under way */
    const char *trace_part; /* subfolder of the trace folder */
    int trace_step;         /* < 0: not a step */
    dc_status stop;         /* what a callback asked for */
    dc_error *e;
} job;

dc_status job_begin(job *j, diffc_model *m, const diffc_request *q, dc_error *e); /* request.c: resolves and checks */
void job_end(job *j);
/* "WHAT: found X, expected a known name (did you mean Y?)", and the names. Returns USAGE. */
dc_status unknown_name(const char *what, const char *found, const char *const *names, int n, dc_error *e);
dc_status check_text(const char *what, const char *text, dc_error *e); /* NULL is fine. Errors: USAGE (not UTF-8, too long) */
/* Names (any accepted spelling, NULL: the model's own) to canonical ones; USAGE with near misses and the list. */
dc_status resolve_sampler(const char *sampler, const char *schedule, dc_sampler_request *out, dc_error *e);
/* What a request says of its rows, but for a start image and the model. */
dc_status resolve_rows(const diffc_request *q, dc_program program, dc_sampler_request *out, dc_error *e);
/* Steps of a batch, for progress; dpm_adaptive, which finds its own as it goes, tells percents. */
int job_steps(const job *j);
/* Tells on_progress; when it asks to stop, raises the model's cancel flag. */
void job_progress(job *j, diffc_stage stage, const char *what, uint64_t done, uint64_t total);
/* Prepared weights of one part, with progress (the files they came `from` may leave memory then); and their end, but for a
 * resident model. */
dc_status job_prepare(job *j, dc_params *p, const dc_weights *from, const char *what);
void job_drop(job *j, dc_params *p);
dc_status job_cancelled(job *j); /* CANCELLED (and a message) when it is time to stop, else OK */

dc_status prompt_begin(job *j); /* prompt.c: reads the prompts; says whether there is guidance. Needs j->plan */
int text_passes(const job *j);  /* of each encoder, after text_plan */
dc_status text_plan(job *j);    /* tokenises, plans the text encoders' passes */
dc_status text_run(job *j);     /* fills j->cond */

dc_status sample_plan(job *j); /* sample.c: plans the UNet's passes for j->batch pictures */
/* Samples pictures first .. first+n-1 (n <= batch): latents [n][h,w,C] channels-last, scaled. Leaves the UNet's buffers reserved. */
dc_status sample_run(job *j, int first, int n, float *latents);

/* Plans the VAE's passes, also once more with other strips. */
dc_status encode_plan(job *j);                                       /* latents.c */
dc_status encode_run(job *j);                                        /* start image and masked image -> moments */
dc_status decode_plan(job *j);                                       /* decode.c */
dc_status decode_run(job *j, const float *latent, diffc_image *out); /* latent [h,w,C] -> RGB picture (free it) */
dc_status decoder_plan(job *j, decoder *d);                          /* the same of any decoder */
/* Into RGB pixels; what is not finite is 0 and counted in *stats. Leaves the buffers reserved. */
dc_status decoder_run(job *j, decoder *d, const float *latent, uint8_t *pixels, dc_stats *stats);
void decoder_free(decoder *d);

/* ---- preview.c: pictures on their way */
/* preview.json, {"factors": [C][3], "bias": [3] (or none)}: RGB in -1 to 1 = bias + sum of latent channel times its factors. to [C + 1][3], zeros;
 * the bias is the last row. Errors: DATA. */
dc_status preview_factors(float *to, int channels, const json_t *root, const char *path, dc_error *e);
dc_status preview_begin(job *j); /* reads and checks what the request asks for; needs the job's sizes. Errors: as diffc_request says */
dc_status preview_plan(job *j);
dc_status preview_prepare(job *j); /* its decoder's weights: before sampling */
/* After step `nth` (from 1) of pictures first .. first+n-1, whose estimates are in j->preview.x0. step of job_steps(j) is what is told. */
dc_status preview_step(job *j, int first, int n, int nth, int step);
int preview_passes(const job *j); /* of its decoder */
/* Gives its working memory back while finished pictures are decoded; last: no more pictures follow, its weights go, too. */
void preview_rest(job *j, bool last);
void preview_end(job *j);

/* ---- trace.c: taps to files; set on a run before planning when the request has a trace folder */
void trace_attach(job *j, dc_run *r);
/* Which part and step the next taps belong to: "unet", 3 -> DIR/unet/step-003/NAME.npy. */
void trace_part(job *j, const char *part, int step);

/* What a request says about its noises; latents are `factor` times smaller than pictures. Errors: USAGE. */
dc_status resolve_noise(const diffc_request *q, int factor, dc_noise_wish *out, dc_error *e);

/* ---- api.c: the tokenizer of a folder, of a model (FOLDER/tokenizer), or (NULL, a single file) CLIP's own. Errors: NO_INPUT, DATA, NO_MEMORY. */
dc_status find_tokenizer(dc_tokenizer **t, const char *folder, dc_error *e);

/* ---- metadata.c: A1111's "parameters" text of picture i; NULL when memory is out. The caller frees. */
char *parameters_text(job *j, int i);

/* ---- replay.c */
struct infotext;
/* What a picture file (or a text, with a NUL behind its n bytes) says of how it was made, of whatever program. *raw (may be NULL): A1111's text as
 * it is, for the caller to free; NULL: none. x is for infotext_free even after an error. Errors: NO_INPUT (a picture without), DATA, NO_MEMORY. */
dc_status picture_recipe(struct infotext *x, char **raw, const char *name, const char *bytes, size_t n, dc_error *e);

/* ---- profile.c: appends a table of r's profile. */
void profile_table(dc_text *out, const char *name, const dc_run *r);

/* ---- memory.c */
uint64_t memory_available(uint64_t limit); /* what the machine, its control group, address-space limit and `limit` (0: none) leave */
uint64_t memory_anonymous(void);           /* of this process now */

/* Copies the inner error to the public one and returns its code. */
diffc_status give_error(diffc_error *to, const dc_error *from);

#endif
