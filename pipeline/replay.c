/* replay.c - a picture made again: what its text says becomes a request, and what became of every field is told. */
#include "base/checked.h"
#include "base/file.h"
#include "image/image.h"
#include "pipeline/infotext.h"
#include "pipeline/model.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What diffc_replay_open hands out begins with what is shown of it. */
typedef struct replay {
    diffc_replay shown; /* first */
    infotext text;
    diffc_field *field;
    int n, room;
    char *prompt, *negative; /* as given on */
    double *sigmas;
    bool failed;
} replay;

/* One field being applied. */
typedef struct step {
    replay *r;
    diffc_model *m; /* NULL: none to compare with */
    diffc_request *q;
    const char *key, *value;
} step;

/* Adds a row of the table; member: of the request, NULL: none. */
__attribute__((format(printf, 4, 5))) static void tell(step *x, diffc_fate fate, const char *member, const char *format, ...)
{
    replay *r = x->r;
    char reason[512];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    if (r->n == r->room) {
        int room = r->room ? 2 * r->room : 32;
        diffc_field *more = realloc(r->field, (size_t)room * sizeof *more);
        if (!more) {
            r->failed = true;
            return;
        }
        r->field = more;
        r->room = room;
    }
    diffc_field *f = &r->field[r->n];
    *f = (diffc_field){.name = dc_strdup(x->key), .value = dc_strdup(x->value), .fate = fate, .reason = strdup(reason), .member = member};
    if (f->name && f->value && f->reason) {
        r->n++;
        return;
    }
    r->failed = true;
    free((char *)f->name), free((char *)f->value), free((char *)f->reason);
}
#define HONOURED(x, member) tell(x, DIFFC_HONOURED, member, "%s", "")

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

static bool read_real(step *x, double low, double high, double *out)
{
    char *end;
    double v = strtod(x->value, &end);
    end += strspn(end, " \t");
    bool good = end != x->value && !*end && v >= low && v <= high;
    if (good) *out = v;
    else tell(x, DIFFC_IGNORED, NULL, "expected a number from %.10g to %.10g", low, high);
    return good;
}

static bool read_int(step *x, int low, int high, int *out)
{
    double v;
    if (!read_real(x, low, high, &v)) return false;
    if (v != floor(v)) {
        tell(x, DIFFC_IGNORED, NULL, "expected a whole number");
        return false;
    }
    *out = (int)v;
    return true;
}

static bool read_seed(step *x, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(x->value, &end, 10);
    bool good = *x->value >= '0' && *x->value <= '9' && !errno && !end[strspn(end, " \t")];
    if (good) *out = v;
    else tell(x, DIFFC_IGNORED, NULL, "expected a whole number from 0 to 2^64-1");
    return good;
}

/* ---- prompts ----------------------------------------------------------------------------------------------------- */

/* Cuts <lora:..>, <lyco:..> and <hypernet:..> out, as A1111 does, and tells them. */
static void cut_networks(step *x, char *text)
{
    static const char *const kinds[] = {"<lora:", "<lyco:", "<hypernet:"};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (char *at = text, *end; (at = strstr(at, kinds[k])) && (end = strchr(at, '>'));) {
            char *tag = strndup(at, (size_t)(end + 1 - at));
            step network = {x->r, x->m, x->q, k == 2 ? "Hypernetwork" : "LoRA", tag};
            if (tag) tell(&network, DIFFC_IGNORED, NULL, "not there yet; cut out of the prompt");
            else x->r->failed = true;
            free(tag);
            memmove(at, end + 1, strlen(end + 1) + 1);
        }
}

static void take_prompts(step *x)
{
    replay *r = x->r;
    const char *empty = info_get(&r->text, "Empty negative");
    bool encoded = empty && !strcmp(empty, "encoded");
    r->prompt = strdup(r->text.prompt);
    r->negative = dc_strdup(r->text.negative ? r->text.negative : encoded ? "" : NULL);
    if (!r->prompt || (!r->negative && (r->text.negative || encoded))) {
        r->failed = true;
        return;
    }
    x->key = "Prompt";
    x->value = r->prompt;
    if (r->text.source == INFO_A1111 || r->text.source == INFO_SDCPP) cut_networks(x, r->prompt);
    x->q->prompt = r->prompt;
    if (r->text.source == INFO_COMFYUI) x->q->prompt_syntax = "comfyui"; /* stable-diffusion.cpp's is A1111's */
    tell(x, DIFFC_HONOURED, "prompt", "%s", "");
    if (r->negative) {
        x->key = "Negative prompt";
        x->value = r->negative;
        x->q->negative = r->negative;
        HONOURED(x, "negative");
    }
}

/* ---- fields that a request has ------------------------------------------------------------------------------------ */

static void take_steps(step *x)
{
    if (read_int(x, 1, 1000, &x->q->steps)) HONOURED(x, "steps");
}

static void take_guidance(step *x)
{
    if (read_real(x, 0, 1000, &x->q->guidance)) HONOURED(x, "guidance");
}

static void take_rescale(step *x)
{
    if (read_real(x, 0, 1, &x->q->guidance_rescale)) HONOURED(x, "guidance_rescale");
}

static void take_seed(step *x)
{
    if (read_seed(x, &x->q->seed)) HONOURED(x, "seed");
}

static void take_sampler(step *x)
{
    const char *carried, *found = dc_sampler_find(x->value, &carried);
    if (!found) {
        char near[128];
        int n;
        const char *const *names = dc_sampler_names(&n);
        dc_nearest_names(near, sizeof near, x->value, names, n);
        tell(x, DIFFC_IGNORED, NULL, "not known here%s%s; the model's own runs", *near ? ", near is " : "", near);
        return;
    }
    x->q->sampler = found;
    tell(x, DIFFC_HONOURED, "sampler", "--sampler %s", found);
}

/* Before 1.9 A1111 had no such field: a sampler without a schedule in its name ran on the uniform one. "v1.6.0-2-g4afaaf8a", "1.7.0"; forks
 * write their own version before it ("f0.0.17v1.8.0rc"). */
static bool is_before_1_9(const char *version)
{
    const char *v = version ? strrchr(version, 'v') : NULL;
    int minor;
    v = v && v[1] >= '0' && v[1] <= '9' ? v + 1 : version;
    return v && sscanf(v, "1.%d", &minor) == 1 && minor < 9;
}

static bool has_own_timesteps(const char *sampler)
{
    static const char *const names[] = {"ddim", "ddim_cfg_pp", "pndm", "unipc", "unipc_bh2", "lcm"};
    for (size_t i = 0; sampler && i < sizeof names / sizeof *names; i++)
        if (!strcmp(sampler, names[i])) return true;
    return false;
}

/* stable-diffusion.cpp's schedules are k-diffusion's, where the plain names are diffusers' classes' ways. */
static const char *sdcpp_schedule(const char *name)
{
    static const char *const rows[][2] = {{"discrete", "uniform"}, {"karras", "k_karras"}, {"exponential", "k_exponential"}, {"beta", "k_beta"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(name, rows[i][0])) return rows[i][1];
    return name;
}

/* name NULL: the text says none. "Automatic" is the sampler's own, which --rng a1111 takes along. */
static void take_schedule(step *x, const char *name)
{
    const infotext *t = &x->r->text;
    const char *carried = NULL, *sampler = info_get(t, "Sampler"), *exact = info_get(t, "Schedule");
    bool a1111 = t->source == INFO_A1111, old = a1111 && !name && is_before_1_9(info_get(t, "Version"));
    if (sampler) sampler = dc_sampler_find(sampler, &carried);
    x->key = "Schedule type";
    x->value = name ? name : "(not said)";
    if (t->source == INFO_DIFFC && exact && dc_schedule_find(exact)) name = exact;
    if (!name && carried) name = carried;
    if (a1111 && has_own_timesteps(sampler) && name && strcasecmp(name, "Automatic") != 0) {
        tell(x, DIFFC_HONOURED, NULL, "A1111's %s has timesteps of its own", sampler);
        return;
    }
    if (old && !name && !has_own_timesteps(sampler)) name = "uniform"; /* that which the sampler's name carried stays */
    if (a1111 && (!name || !strcasecmp(name, "Automatic"))) {
        tell(x, DIFFC_HONOURED, NULL, "the sampler's own in A1111");
        return;
    }
    if (!name) return; /* the model's own */
    const char *found = dc_schedule_find(t->source == INFO_SDCPP ? sdcpp_schedule(name) : name);
    if (!found) {
        tell(x, DIFFC_IGNORED, NULL, "not known here; the %s own runs", a1111 || t->source == INFO_COMFYUI ? "sampler's" : "model's");
        return;
    }
    x->q->schedule = found;
    tell(x, DIFFC_HONOURED, "schedule", "%s--scheduler %s", old ? "before version 1.9: " : "", found);
}

static void take_given_schedule(step *x) { take_schedule(x, x->value); }

/* Whose random numbers, and with them schedules and starts? A1111's default is a GPU's. value NULL: the text says nothing. */
static void take_rng(step *x, const char *value)
{
    info_source source = x->r->text.source;
    const char *sampler = info_get(&x->r->text, "Sampler"), *rng = NULL, *own = info_get(&x->r->text, "RNG convention");
    x->key = "RNG";
    x->value = value ? value : source == INFO_COMFYUI ? "(ComfyUI's)" : "(not said: GPU)";
    bool gpu = !value || !strcasecmp(value, "GPU") || !strcasecmp(value, "NV") || !strcasecmp(value, "cuda"),
         cpu = value && !strcasecmp(value, "CPU");
    if (source == INFO_COMFYUI) rng = sampler && strstr(sampler, "_gpu") ? "comfyui-gpu" : "comfyui";
    else if (source == INFO_A1111) rng = gpu ? "a1111" : cpu ? "a1111-cpu" : NULL;
    else rng = gpu ? "cuda" : cpu ? "cpu" : NULL;
    if (source == INFO_DIFFC && own && dc_convention_find(own)) rng = dc_convention_find(own)->name;
    if (!rng) {
        tell(x, DIFFC_IGNORED, NULL, "not known here: the noise is another");
        return;
    }
    x->q->rng = rng;
    tell(x, DIFFC_HONOURED, "rng", "--rng %s", rng);
}

static void take_given_rng(step *x) { take_rng(x, x->value); }

/* The two halves of "WxH", told as one field. */
static void take_pair(step *x, const char *name, const char *second, int *width, int *height, const char *member)
{
    char both[64];
    const char *tall = info_get(&x->r->text, second);
    step h = *x, shown = *x;
    int w, v;
    h.value = tall ? tall : "";
    snprintf(both, sizeof both, "%.20sx%.20s", x->value, h.value);
    shown.key = name;
    shown.value = both;
    if (!read_int(x, 8, 4096, &w) || !read_int(&h, 8, 4096, &v)) return;
    *width = w;
    *height = v;
    HONOURED(&shown, member);
}

static void take_size(step *x) { take_pair(x, "Size", "Size-2", &x->q->width, &x->q->height, "size"); }
static void take_resize(step *x)
{
    take_pair(x, "Seed resize from", "Seed resize from-2", &x->q->seed_resize_width, &x->q->seed_resize_height, "seed_resize");
}

static void take_nothing(step *x) { (void)x; } /* told with another field */

/* A batch that is drawn at once has to be made at once. */
static void take_batch(step *x)
{
    int n;
    const char *pos = info_get(&x->r->text, "Batch pos");
    if (!read_int(x, 1, 64, &n)) return;
    x->q->count = x->q->batch = n;
    if (pos) tell(x, DIFFC_CHANGED, "count", "all %d pictures of its batch are made; it is the one after %.20s", n, pos);
    else tell(x, DIFFC_CHANGED, "count", "all %d pictures are made: the file does not say which of them it is", n);
}

static void take_variation_seed(step *x)
{
    if (read_seed(x, &x->q->variation_seed)) HONOURED(x, "variation_seed");
}

static void take_variation_strength(step *x)
{
    if (read_real(x, 0, 1, &x->q->variation_strength)) HONOURED(x, "variation_strength");
}

static void take_ensd(step *x)
{
    double v;
    if (!read_real(x, -9e15, 9e15, &v)) return;
    x->q->ensd = (int64_t)v;
    HONOURED(x, "ensd");
}

static void take_solver_type(step *x)
{
    static const char *const types[] = {"midpoint", "heun", "bh1", "bh2"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(x->value, types[i])) {
            x->q->solver_type = types[i];
            HONOURED(x, "solver_type");
            return;
        }
    tell(x, DIFFC_IGNORED, NULL, "not known here");
}

static void take_solver_order(step *x)
{
    if (read_int(x, 1, 3, &x->q->solver_order)) HONOURED(x, "solver_order");
}

/* Numbers of sampling that are 0 when they are not set. */
static void take_number(step *x)
{
    const struct {
        const char *key, *member;
        double *to, most;
    } rows[] = {{"Schedule max sigma", "sigma_max", &x->q->sigma_max, 1e6},
                {"Schedule min sigma", "sigma_min", &x->q->sigma_min, 1e6},
                {"Schedule rho", "rho", &x->q->rho, 100},
                {"Sigma churn", "s_churn", &x->q->s_churn, 1000},
                {"Sigma tmin", "s_tmin", &x->q->s_tmin, 1e6},
                {"Sigma tmax", "s_tmax", &x->q->s_tmax, 1e9},
                {"Sigma noise", "s_noise", &x->q->s_noise, 100}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(x->key, rows[i].key) && read_real(x, 0, rows[i].most, rows[i].to)) HONOURED(x, rows[i].member);
}

static void take_eta(step *x)
{
    const char *sampler = info_get(&x->r->text, "Sampler"), *carried;
    sampler = sampler ? dc_sampler_find(sampler, &carried) : NULL;
    bool uses = sampler && (!strcmp(sampler, "ddim") || !strcmp(sampler, "tcd"));
    double v;
    if (!read_real(x, 0, 10, &v)) return;
    if (x->r->text.source == INFO_SDCPP && !uses && !(v > 0)) {
        tell(x, DIFFC_IGNORED, NULL, "stable-diffusion.cpp writes 0 where the sampler does not use it");
        return;
    }
    x->q->eta = v;
    HONOURED(x, "eta");
}

static void take_clip_skip(step *x)
{
    int n;
    info_source source = x->r->text.source;
    if (!read_int(x, 1, 64, &n)) return;
    bool xl = x->m && x->m->n_text > 1, second = x->m && x->m->n_text == 1 && dc_clip_text_configuration(x->m->text[0].model)->width >= 1024;
    if (source == INFO_A1111 && (xl || second)) {
        tell(x, DIFFC_IGNORED, NULL, "A1111 does not apply it to Stable Diffusion %s", xl ? "XL" : "2.x");
        return;
    }
    x->q->clip_skip = n;
    HONOURED(x, "clip_skip");
}

static void take_strength(step *x)
{
    double v;
    const infotext *t = &x->r->text;
    if (info_get(t, "Hires upscale") || info_get(t, "Hires upscaler") || info_get(t, "Hires resize-1")) {
        tell(x, DIFFC_IGNORED, NULL, "of the hires pass");
    } else if (read_real(x, 0, 1, &v)) {
        if (v > 0) x->q->strength = v;
        if (x->q->image) HONOURED(x, "strength");
        else tell(x, DIFFC_IGNORED, "strength", "of a start image, which the file does not hold: give it with -i");
    }
}

static void take_sigmas(step *x)
{
    size_t n = 0, room = 2;
    for (const char *p = x->value; *p; p++) room += *p == ',';
    double *v = dc_calloc(room, sizeof *v);
    if (!v) {
        x->r->failed = true;
        return;
    }
    const char *p = x->value;
    for (char *end; *p; p = end + strspn(end, ", ")) {
        v[n++] = strtod(p, &end);
        if (end == p || !isfinite(v[n - 1]) || v[n - 1] < 0 || (*end && *end != ',')) break;
    }
    if (*p || !n) {
        free(v);
        tell(x, DIFFC_IGNORED, NULL, "expected numbers separated by commas");
        return;
    }
    while (n > 1 && v[n - 1] == 0) n--; /* stable-diffusion.cpp writes the final one */
    free(x->r->sigmas);
    x->q->sigmas = x->r->sigmas = v;
    x->q->n_sigmas = (int)n;
    HONOURED(x, "sigmas");
}

static void take_tiling(step *x)
{
    x->q->vae_tiling = !strcmp(x->value, "True");
    HONOURED(x, "vae_tiling");
}

/* ---- the model ---------------------------------------------------------------------------------------------------- */

/* A file's name without folders and ending. */
static void plain_name(char out[256], const char *name)
{
    static const char *const endings[] = {".safetensors", ".ckpt", ".gguf", ".pt", ".pth", ".bin"};
    const char *slash = strrchr(name, '/'), *back = strrchr(name, '\\');
    const char *from = back > slash ? back + 1 : slash ? slash + 1 : name;
    size_t n = strlen(from);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (n > strlen(endings[i]) && !strcasecmp(from + n - strlen(endings[i]), endings[i])) n -= strlen(endings[i]);
    snprintf(out, 256, "%.*s", (int)n, from);
}

static void compare_name(step *x, const char *running, const char *option)
{
    char there[256], here[256];
    plain_name(there, x->value);
    plain_name(here, running ? running : "");
    if (running && !strcasecmp(there, here)) HONOURED(x, NULL);
    else if (running) tell(x, DIFFC_CHANGED, NULL, "running %s: give another with %s", here, option);
    else tell(x, DIFFC_CHANGED, NULL, "the model's own: give another with %s", option);
}

static void take_model(step *x) { compare_name(x, x->m ? x->m->name : NULL, "-m"); }
static void take_vae(step *x) { compare_name(x, x->m ? x->m->vae_name : NULL, "--vae"); }

static void take_hash(step *x)
{
    if (!x->m) {
        tell(x, DIFFC_IGNORED, NULL, "not compared");
        return;
    }
    model_hash_begin(x->m);
    const char *running = model_hash(x->m);
    if (strlen(x->value) != DC_HASH_AUTO_V2) tell(x, DIFFC_IGNORED, NULL, "not of the kind that diffc computes");
    else if (!*running) tell(x, DIFFC_IGNORED, NULL, "not compared: the model is in several files");
    else if (!strcasecmp(running, x->value)) HONOURED(x, NULL);
    else if (!x->m->file && x->r->text.source != INFO_DIFFC) tell(x, DIFFC_CHANGED, NULL, "running %s, the hash of a folder's UNet", running);
    else tell(x, DIFFC_CHANGED, NULL, "differs: found %s, running %s", x->value, running);
}

static void take_precision(step *x)
{
    const char *running = x->m ? dc_device_precision(x->m->device) : NULL;
    if (running && !strcmp(running, x->value)) HONOURED(x, NULL);
    else tell(x, DIFFC_CHANGED, NULL, "running %s: give it with --precision", running ? running : "another");
}

static void take_version(step *x) { tell(x, DIFFC_HONOURED, NULL, "read as %s's", info_source_name(x->r->text.source)); }

static void take_emphasis(step *x)
{
    for (int i = 0; i < EMPHASES; i++)
        if (!strcmp(x->value, emphasis_names[i].label)) {
            x->q->emphasis = emphasis_names[i].name;
            HONOURED(x, "emphasis");
            return;
        }
    tell(x, DIFFC_IGNORED, NULL, "not known here");
}

static void take_syntax(step *x)
{
    for (int i = 0; i < SYNTAXES; i++)
        if (!strcmp(x->value, syntax_names[i])) {
            x->q->prompt_syntax = syntax_names[i];
            HONOURED(x, "prompt_syntax");
            return;
        }
    tell(x, DIFFC_IGNORED, NULL, "not known here");
}

/* ---- the table ---------------------------------------------------------------------------------------------------- */

typedef struct rule {
    const char *key; /* '*' at its end: all that begin so */
    void (*take)(step *x);
    const char *why; /* without a function: why it is ignored */
} rule;

static const rule rules[] = {
    {"Steps", take_steps, NULL},
    {"Sampler", take_sampler, NULL},
    {"Schedule type", take_given_schedule, NULL},
    {"Schedule", take_nothing, NULL},
    {"CFG scale", take_guidance, NULL},
    {"Guidance rescale", take_rescale, NULL},
    {"Seed", take_seed, NULL},
    {"Size-1", take_size, NULL},
    {"Size-2", take_nothing, NULL},
    {"Batch size", take_batch, NULL},
    {"Model hash", take_hash, NULL},
    {"Model", take_model, NULL},
    {"VAE", take_vae, NULL},
    {"VAE hash", NULL, "VAEs are compared by name"},
    {"Denoising strength", take_strength, NULL},
    {"Start image", NULL, "give it with -i"},
    {"Init image hash", NULL, "the start image is what -i gives"},
    {"Clip skip", take_clip_skip, NULL},
    {"Emphasis", take_emphasis, NULL},
    {"Prompt syntax", take_syntax, NULL},
    {"Template", NULL, "the prompt is what came of it"},
    {"Negative Template", NULL, "the negative prompt is what came of it"},
    {"Eta", take_eta, NULL},
    {"Eta DDIM", take_eta, NULL},
    {"RNG", take_given_rng, NULL},
    {"Sigmas", take_sigmas, NULL},
    {"Custom Sigmas", take_sigmas, NULL},
    {"VAE tiling", take_tiling, NULL},
    {"Precision", take_precision, NULL},
    {"Empty negative", take_nothing, NULL},
    {"Version", take_version, NULL},
    {"Variation seed", take_variation_seed, NULL},
    {"Variation seed strength", take_variation_strength, NULL},
    {"Seed resize from-1", take_resize, NULL},
    {"Seed resize from-2", take_nothing, NULL},
    {"ENSD", take_ensd, NULL},
    {"RNG convention", take_nothing, NULL},
    {"Batch pos", take_nothing, NULL},
    {"Solver order", take_solver_order, NULL},
    {"UniPC order", take_solver_order, NULL},
    {"Solver type", take_solver_type, NULL},
    {"UniPC variant", take_solver_type, NULL},
    {"Schedule max sigma", take_number, NULL},
    {"Schedule min sigma", take_number, NULL},
    {"Schedule rho", take_number, NULL},
    {"Sigma churn", take_number, NULL},
    {"Sigma tmin", take_number, NULL},
    {"Sigma tmax", take_number, NULL},
    {"Sigma noise", take_number, NULL},
    {"Image CFG scale", NULL, "InstructPix2Pix is not there yet"},
    {"Hires*", NULL, "not there yet: the picture is the first pass's"},
    {"Refiner*", NULL, "not there yet"},
    {"Face restoration", NULL, "not there"},
    {"Tiling", NULL, "not there yet"},
    {"Token merging ratio*", NULL, "not there yet"},
    {"NGMS", NULL, "guidance is applied at every step"},
    {"Skip Early CFG", NULL, "guidance is applied at every step"},
    {"Lora hashes", NULL, "no LoRA yet"},
    {"TI hashes", NULL, "no textual inversion yet"},
    {"TI", NULL, "no textual inversion yet"},
    {"Hypernet*", NULL, "not there"},
    {"Mask*", NULL, "the mask is what --mask gives"},
    {"Inpaint area", NULL, "the mask is what --mask gives"},
    {"Conditional mask weight", NULL, "not there"},
    {"Guidance", NULL, "of models that take guidance as an input"},
    {"Sampler RNG", NULL, "one source of noise for all"},
    {"TE", NULL, "give it with --text-encoder"},
    {"Unet", NULL, "give it with --unet"},
    {"SLG scale", NULL, "not there"},
    {"Skip layer*", NULL, "not there"},
    {"Start at step", NULL, "all steps are made"},
    {"End at step", NULL, "all steps are made"},
    {"User", NULL, "of no matter here"},
};

static const rule *find_rule(const char *key)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        size_t n = strlen(rules[i].key) - 1;
        if (rules[i].key[n] == '*' ? !strncmp(rules[i].key, key, n) : !strcmp(rules[i].key, key)) return &rules[i];
    }
    return NULL;
}

static void take_field(step *x, const info_field *f)
{
    const rule *r = find_rule(f->key);
    x->key = f->key;
    x->value = f->value;
    if (f->note) tell(x, DIFFC_IGNORED, NULL, "%s", f->note);
    else if (!r) tell(x, DIFFC_IGNORED, NULL, "diffc does not know it");
    else if (!r->take) tell(x, DIFFC_IGNORED, NULL, "%s", r->why);
    else r->take(x);
}

static void clear_fields(replay *r)
{
    for (int i = 0; i < r->n; i++) free((char *)r->field[i].name), free((char *)r->field[i].value), free((char *)r->field[i].reason);
    r->n = 0;
    free(r->prompt), free(r->negative), free(r->sigmas);
    r->prompt = r->negative = NULL;
    r->sigmas = NULL;
}

/* ---- public ------------------------------------------------------------------------------------------------------ */

diffc_status diffc_replay_apply(diffc_replay *shown, diffc_model *m, diffc_request *q, diffc_error *error)
{
    replay *r = (replay *)shown;
    dc_error e = {0};
    clear_fields(r);
    step x = {.r = r, .m = m, .q = q};
    take_prompts(&x);
    for (int i = 0; i < r->text.n && !r->failed; i++) take_field(&x, &r->text.field[i]);
    if (!info_get(&r->text, "Schedule type")) take_schedule(&x, NULL);
    if (!info_get(&r->text, "RNG")) take_rng(&x, NULL);
    r->shown.field = r->field;
    r->shown.n_fields = r->n;
    if (r->failed) dc_fail_memory(&e, "a table of fields", 0);
    return give_error(error, &e);
}

/* Text that is no picture: a graph when it begins with a brace. */
static dc_status read_plain(infotext *x, const char *name, const char *text, size_t n, dc_error *e)
{
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) text += 3, n -= 3;
    if (n <= 1u << 20 && dc_utf8_valid(text, n))
        return text[strspn(text, " \t\r\n")] == '{' ? comfyui_read(x, name, text, n, e) : infotext_read(x, name, text, n, e);
    return dc_fail(e, DC_DATA, "%s: found neither a picture nor text of up to 1 MiB, expected a PNG, JPEG or WebP, or a text of parameters", name);
}

dc_status picture_recipe(infotext *x, char **raw, const char *name, const char *bytes, size_t n, dc_error *e)
{
    char *graph = NULL, *text = NULL;
    dc_error first = {0};
    *x = (infotext){0};
    if (raw) *raw = NULL;
    if (dc_image_kind((const uint8_t *)bytes, n) == DC_IMAGE_UNKNOWN) return read_plain(x, name, bytes, n, e);
    dc_status s = dc_image_find_text(name, (const uint8_t *)bytes, n, "prompt", &graph, e);
    if (!s) s = dc_image_find_text(name, (const uint8_t *)bytes, n, "parameters", &text, e);
    dc_status g = s || !graph ? DC_NO_INPUT : comfyui_read(x, name, graph, strlen(graph), &first);
    if (!s && g == DC_NO_MEMORY) {
        s = dc_fail(e, g, "%s", first.text);
    } else if (!s && g && text) { /* other programs write a prompt too */
        infotext_free(x);
        s = infotext_read(x, name, text, strlen(text), e);
    } else if (!s && g && graph) {
        s = dc_fail(e, g, "%s", first.text);
        dc_hint(e, "%s", first.hint);
    } else if (!s && g) {
        s = dc_fail(e, DC_NO_INPUT, "%s: found no text in it, expected A1111's parameters or ComfyUI's graph", name);
    }
    if (raw) *raw = text, text = NULL;
    free(graph);
    free(text);
    return s;
}

/* text[n] is 0. */
static dc_status open_bytes(diffc_replay **out, const char *name, const char *text, size_t n, dc_error *e)
{
    replay *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return dc_fail_memory(e, name, sizeof *r);
    dc_status s = picture_recipe(&r->text, NULL, name, text, n, e);
    r->shown.source = info_source_name(r->text.source);
    if (s) diffc_replay_close(&r->shown);
    else *out = &r->shown;
    return s;
}

diffc_status diffc_replay_memory(diffc_replay **out, const char *name, const void *bytes, size_t n, diffc_error *error)
{
    dc_error e = {0};
    char *copy = n < SIZE_MAX ? malloc(n + 1) : NULL;
    *out = NULL;
    if (copy) {
        if (n) memcpy(copy, bytes, n);
        copy[n] = 0;
        open_bytes(out, name, copy, n, &e);
    } else {
        dc_fail_memory(&e, name, n);
    }
    free(copy);
    return give_error(error, &e);
}

diffc_status diffc_replay_open(diffc_replay **out, const char *path, diffc_error *error)
{
    dc_error e = {0};
    char *file;
    size_t n;
    *out = NULL;
    if (!dc_read_file(path, DC_IMAGE_FILE, &file, &n, &e)) {
        open_bytes(out, path, file, n, &e);
        free(file);
    }
    return give_error(error, &e);
}

void diffc_replay_close(diffc_replay *shown)
{
    replay *r = (replay *)shown;
    if (!r) return;
    clear_fields(r);
    free(r->field);
    infotext_free(&r->text);
    free(r);
}
