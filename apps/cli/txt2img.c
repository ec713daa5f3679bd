/* txt2img.c - `diffc txt2img`: options to a request, pictures to files. */
#include "apps/cli/commands.h"
#include "apps/cli/report.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_OUTPUT "diffc-%04d.png"

/* ---- names of outputs --------------------------------------------------------------------------------------- */

/* The "%d", "%04d", ... in a pattern: where it begins, its length and its width; false when there is none. */
static bool find_number(const char *pattern, size_t *at, size_t *length, int *width)
{
    for (const char *p = strchr(pattern, '%'); p; p = strchr(p + 1, '%')) {
        size_t n = strspn(p + 1, "0123456789");
        if (p[n + 1] != 'd' || n > 3) continue;
        *at = (size_t)(p - pattern);
        *length = n + 2;
        *width = atoi(p + 1);
        return true;
    }
    return false;
}

/* Replaces {seed} and the number of `pattern`; number < 0 leaves the number alone. The caller frees. */
static char *make_name(const char *pattern, long number, uint64_t seed)
{
    size_t room = strlen(pattern) + 64, at, length;
    char *out = malloc(room);
    int width;
    if (!out) return NULL;
    if (number >= 0 && find_number(pattern, &at, &length, &width))
        snprintf(out, room, "%.*s%0*ld%s", (int)at, pattern, width > 20 ? 20 : width, number, pattern + at + length);
    else snprintf(out, room, "%s", pattern);
    char *mark = strstr(out, "{seed}");
    if (mark) {
        char digits[24], *rest = strdup(mark + 6);
        snprintf(digits, sizeof digits, "%llu", (unsigned long long)seed);
        if (rest) snprintf(mark, room - (size_t)(mark - out), "%s%s", digits, rest);
        free(rest);
    }
    return out;
}

/* Several pictures cannot share one name: "out.png" becomes "out-%04d.png" then. The caller frees. */
static char *pattern_for(const char *output, int count)
{
    size_t at, length;
    int width;
    if (count == 1 || !strcmp(output, "-") || find_number(output, &at, &length, &width) || strstr(output, "{seed}")) return strdup(output);
    const char *slash = strrchr(output, '/'), *dot = strrchr(output, '.');
    size_t stem = dot && (!slash || dot > slash) ? (size_t)(dot - output) : strlen(output), room = strlen(output) + 8;
    char *out = malloc(room);
    if (out) snprintf(out, room, "%.*s-%%04d%s", (int)stem, output, output + stem);
    return out;
}

/* ---- one run --------------------------------------------------------------------------------------------------- */

typedef struct output {
    const settings *s;
    char *pattern, *latent_pattern;
    long next;  /* number to try next */
    bool fixed; /* the name has no number: replaced, not counted */
    progress line;
    json_t *images;
    double began;
} output;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool on_progress(void *user, const diffc_progress *x)
{
    output *o = user;
    progress_tell(&o->line, x);
    return false;
}

/* Writes under the pattern's next free number (or replaces the fixed name); *path is the name taken, for the caller to free. */
static diffc_status write_picture(output *o, const diffc_result *r, char **path, diffc_error *error)
{
    for (;;) {
        bool exists = false;
        *path = make_name(o->pattern, o->fixed ? -1 : o->next, r->seed);
        if (!*path) return DIFFC_NO_MEMORY;
        diffc_error inner = {0};
        diffc_status s = diffc_png_write(*path, r->image, r->parameters, !o->fixed, &exists, &inner);
        if (!o->fixed) o->next++;
        if (s == DIFFC_OK || o->fixed || !exists) {
            if (s) *error = inner;
            return s;
        }
        free(*path);
    }
}

static diffc_status write_latent(output *o, const diffc_result *r, long number, diffc_error *error)
{
    if (!o->latent_pattern) return DIFFC_OK;
    const int64_t dim[4] = {1, r->latent_dim[0], r->latent_dim[1], r->latent_dim[2]};
    char *path = make_name(o->latent_pattern, number, r->seed);
    diffc_status s = path ? diffc_npy_write(path, r->latent, 4, dim, error) : DIFFC_NO_MEMORY;
    free(path);
    return s;
}

static diffc_status on_image(void *user, const diffc_result *r, diffc_error *error)
{
    output *o = user;
    char *path = NULL;
    diffc_status s = write_latent(o, r, r->index + 1, error); /* first: a full disk must not cost the latent's owner the picture's word */
    if (!s) s = write_picture(o, r, &path, error);
    if (!s) {
        progress_clear(&o->line);
        json_array_append_new(o->images, json_pack("{s:s,s:I,s:i,s:i}", "path", path, "seed", (json_int_t)r->seed, "width", r->image->width, "height",
                                                   r->image->height));
        FILE *to = !strcmp(path, "-") ? stderr : stdout;
        if (!o->s->json && !o->s->quiet)
            fprintf(to, "%s  seed %llu  %dx%d  %.1f s\n", path, (unsigned long long)r->seed, r->image->width, r->image->height, now() - o->began);
        fflush(to);
    }
    free(path);
    return s;
}

/* "14.6,9.1,4" -> numbers; the caller frees *out. */
static int parse_sigmas(const char *text, double **out, int *n)
{
    size_t room = 1;
    for (const char *p = text; *p; p++) room += *p == ',';
    *out = calloc(room, sizeof **out);
    *n = 0;
    for (const char *p = text; *out;) {
        char *end;
        (*out)[(*n)++] = strtod(p, &end);
        if (end == p || (*end && *end != ',')) return report(DIFFC_USAGE, "", "sigmas: found \"%s\", expected numbers separated by commas", text);
        if (!*end) return 0;
        p = end + 1;
    }
    return report(DIFFC_NO_MEMORY, "", "sigmas: out of memory");
}

static uint64_t random_seed(void)
{
    uint32_t v = 0;
    if (getrandom(&v, sizeof v, 0) != sizeof v) v = (uint32_t)time(NULL) ^ (uint32_t)getpid();
    return v; /* 32 bits, as other programs take them */
}

/* The options over the model's own defaults. Pictures read here belong to the caller. */
static int fill_request(diffc_request *q, const diffc_model *m, const settings *s, diffc_image *image, diffc_image *mask)
{
    diffc_error e = {0};
    diffc_request_defaults(m, q);
    q->prompt = s->prompt ? s->prompt : s->n_words ? s->word[0] : NULL;
    q->negative = s->negative;
    if (!q->prompt)
        return report(DIFFC_USAGE, "Example: diffc txt2img \"a red apple\"", "prompt: found none, expected one as the first argument or with -p");
    if (s->n_words > (s->prompt ? 0 : 1))
        return report(DIFFC_USAGE, "Put a prompt of several words in quotes.", "arguments: found \"%s\", expected one prompt",
                      s->word[s->prompt ? 0 : 1]);
    q->width = s->width, q->height = s->height;
    if (s->has_steps) q->steps = s->steps;
    if (s->has_guidance) q->guidance = s->guidance;
    if (s->has_strength) q->strength = s->strength;
    if (s->sampler) q->sampler = s->sampler;
    if (s->schedule) q->schedule = s->schedule;
    if (s->rng) q->rng = s->rng;
    q->guidance_rescale = s->rescale;
    q->eta = s->eta;
    q->seed = s->has_seed ? (uint64_t)s->seed : random_seed();
    q->count = s->count;
    q->batch = s->batch;
    q->clip_skip = s->clip_skip;
    q->vae_tiling = s->vae_tiling;
    q->trace = s->trace;
    q->profile = s->profile;
    if (s->image && diffc_image_read(image, s->image, false, &e)) return report_error(&e);
    if (s->mask && diffc_image_read(mask, s->mask, true, &e)) return report_error(&e);
    if (s->image) q->image = image;
    if (s->mask) q->mask = mask;
    return 0;
}

/* ---- --dry-run -------------------------------------------------------------------------------------------------- */

static double mb(uint64_t bytes) { return (double)bytes / 1e6; }

static void print_plan_json(const diffc_plan *p)
{
    json_t *stages = json_array();
    for (int i = 0; i < p->n_stages; i++)
        json_array_append_new(stages,
                              json_pack("{s:s,s:I,s:I,s:f,s:i,s:i,s:b}", "stage", p->stage[i].name, "weights", (json_int_t)p->stage[i].weights,
                                        "buffers", (json_int_t)p->stage[i].buffers, "gflop", p->stage[i].gflop, "passes", p->stage[i].passes,
                                        "strip_rows", p->stage[i].strip, "again", p->stage[i].again));
    json_t *o = json_pack("{s:i,s:i,s:i,s:i,s:s,s:s,s:I,s:I,s:I,s:o}", "width", p->width, "height", p->height, "steps", p->steps, "passes", p->rows,
                          "sampler", p->sampler, "scheduler", p->schedule ? p->schedule : "model", "peak_bytes", (json_int_t)p->peak, "mapped_bytes",
                          (json_int_t)p->mapped, "available_bytes", (json_int_t)p->available, "stages", stages);
    json_dumpf(o, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(o);
}

static int dry_run(diffc_model *m, const diffc_request *q, bool json)
{
    diffc_error e = {0};
    diffc_plan p;
    if (diffc_plan_request(m, q, &p, &e)) return report_error(&e);
    if (json) {
        print_plan_json(&p);
        return 0;
    }
    printf("%s\n%s\n%dx%d, %s, %s schedule, %d steps (%d UNet passes a picture)\n\n", diffc_model_summary(m), diffc_device_summary(m), p.width,
           p.height, p.sampler, p.schedule ? p.schedule : "model", p.steps, p.rows);
    printf("%-16s %12s %12s %12s %8s\n", "stage", "weights MB", "buffers MB", "GFLOP/pass", "passes");
    for (int i = 0; i < p.n_stages; i++)
        printf("%-16s %12.1f %12.1f %12.1f %8d\n", p.stage[i].name, mb(p.stage[i].weights), mb(p.stage[i].buffers), p.stage[i].gflop,
               p.stage[i].passes);
    for (int i = 0; i < p.n_stages; i++)
        if (p.stage[i].strip)
            printf("\n%s: in strips of %d rows%s, to fit into --max-memory", p.stage[i].name, p.stage[i].strip,
                   p.stage[i].again ? ", some computed twice" : "");
    printf("\npeak memory %.1f MB (%llu bytes); model files mapped %.1f MB; available %.1f MB\n", mb(p.peak), (unsigned long long)p.peak,
           mb(p.mapped), mb(p.available));
    return 0;
}

/* ---- the command -------------------------------------------------------------------------------------------------- */

/* Missing folders and the like are told before any work. */
static int check_outputs(const output *o, const diffc_request *q)
{
    diffc_error e = {0};
    char *first = make_name(o->pattern, o->fixed ? -1 : 1, q->seed);
    char *latent = o->latent_pattern ? make_name(o->latent_pattern, 1, q->seed) : NULL;
    int code = 0;
    if (!first) code = report(DIFFC_NO_MEMORY, "", "out of memory");
    else if (diffc_output_check(first, &e) || (latent && diffc_output_check(latent, &e))) code = report_error(&e);
    free(first);
    free(latent);
    return code;
}

static void print_result(const output *o, const diffc_model *m, double seconds)
{
    json_t *r = json_pack("{s:s,s:s,s:s,s:f,s:O}", "version", diffc_version(), "model", diffc_model_summary(m), "device", diffc_device_summary(m),
                          "seconds", seconds, "images", o->images);
    FILE *to = !strcmp(o->pattern, "-") ? stderr : stdout;
    json_dumpf(r, to, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    fputc('\n', to);
    json_decref(r);
}

static int generate(diffc_model *m, diffc_request *q, output *o)
{
    const settings *s = o->s;
    diffc_error e = {0};
    int code = check_outputs(o, q);
    if (code) return code;
    q->on_progress = on_progress;
    q->on_image = on_image;
    q->user = o;
    progress_begin(&o->line, !s->quiet && !s->json);
    if (s->verbose) fprintf(stderr, "%s\n%s\n", diffc_model_summary(m), diffc_device_summary(m));
    diffc_status status = diffc_generate(m, q, &e);
    progress_clear(&o->line);
    if (s->profile) {
        char *table = diffc_profile_text(m);
        fprintf(stderr, "%s", table ? table : "");
        diffc_free(table);
    }
    if (status) return report_error(&e);
    if (s->json) print_result(o, m, now() - o->began);
    return 0;
}

int run_txt2img(const settings *s)
{
    diffc_model *m = NULL;
    diffc_image image = {0}, mask = {0};
    diffc_request q;
    double *sigmas = NULL;
    size_t at, length;
    int width;
    output o = {.s = s, .next = 1, .began = now(), .images = json_array()};
    int code = open_model(&m, s);
    if (!code) code = fill_request(&q, m, s, &image, &mask);
    if (!code && s->sigmas) {
        code = parse_sigmas(s->sigmas, &sigmas, &q.n_sigmas);
        q.sigmas = sigmas;
    }
    if (!code && s->dry_run) {
        code = dry_run(m, &q, s->json);
    } else if (!code) {
        o.pattern = pattern_for(s->output ? s->output : DEFAULT_OUTPUT, q.count);
        o.latent_pattern = s->save_latent ? pattern_for(s->save_latent, q.count) : NULL;
        o.fixed = o.pattern && !find_number(o.pattern, &at, &length, &width);
        if (!o.pattern || (s->save_latent && !o.latent_pattern)) code = report(DIFFC_NO_MEMORY, "", "out of memory");
        else code = generate(m, &q, &o);
    }
    signals_model(NULL);
    diffc_close(m);
    diffc_image_free(&image);
    diffc_image_free(&mask);
    json_decref(o.images);
    free(sigmas);
    free(o.pattern);
    free(o.latent_pattern);
    return code;
}
