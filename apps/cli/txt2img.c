/* txt2img.c - `diffc txt2img`: options to a request, pictures to files. */
#include "apps/cli/best.h"
#include "apps/cli/commands.h"
#include "apps/cli/defaults.h"
#include "apps/cli/names.h"
#include "apps/cli/preview.h"
#include "apps/cli/prompts.h"
#include "apps/cli/replay.h"
#include "apps/cli/report.h"
#include "apps/cli/result.h"
#include "apps/cli/window.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DEFAULT_OUTPUT "diffc-%04d.png"

/* ---- one run --------------------------------------------------------------------------------------------------- */

typedef struct output {
    const settings *s; /* of the picture under way */
    const char *name;  /* -o as given */
    char *pattern, *latent_pattern;
    long next;                /* number to try next */
    long made;                /* pictures so far */
    bool fixed;               /* the name has no number: replaced, not counted */
    bool several;             /* a file of prompts */
    const view_hooks *window; /* --window; NULL */
    best *best;               /* --keep-best; NULL: every picture is written as it comes */
    previews previews;
    int batch; /* first picture of the batch under way */
    progress line;
    json_t *images, *replay; /* replay: the table of --from; NULL */
    double began;
} output;

static bool on_progress(void *user, const diffc_progress *x)
{
    output *o = user;
    o->batch = x->image;
    progress_tell(&o->line, x);
    if (o->window) o->window->progress(o->window->self, x);
    return false;
}

static bool on_preview(void *user, const diffc_preview *x)
{
    output *o = user;
    if (o->window) o->window->preview(o->window->self, x);
    previews_tell(&o->previews, &o->line, x, x->index == o->batch);
    return false;
}

static diffc_status write_latent(output *o, const diffc_result *r, diffc_error *error)
{
    if (!o->latent_pattern) return DIFFC_OK;
    const int64_t dim[4] = {1, r->latent_dim[0], r->latent_dim[1], r->latent_dim[2]};
    char *path = name_make(o->latent_pattern, o->made + 1, r);
    diffc_status s = path ? diffc_npy_write(path, r->latent, 4, dim, error) : DIFFC_NO_MEMORY;
    free(path);
    return s;
}

/* score: of --keep-best, else NULL. */
static diffc_status write_result(output *o, const diffc_result *r, const double *score, diffc_error *error)
{
    char *path = NULL;
    diffc_status s = write_latent(o, r, error); /* first: a full disk must not cost the latent's owner the picture's word */
    if (!s)
        s = result_write(r, o->pattern, o->fixed ? NULL : &o->next, &(diffc_image_style){.quality = o->s->quality, .lossless = o->s->lossless}, &path,
                         error);
    if (!s) {
        o->made++;
        progress_clear(&o->line);
        previews_finish(&o->previews, r->image);
        if (o->window) o->window->picture(o->window->self, r, path);
        json_t *told =
            json_pack("{s:s,s:I,s:i,s:i}", "path", path, "seed", (json_int_t)r->seed, "width", r->image->width, "height", r->image->height);
        if (score) json_object_set_new(told, "score", json_real(*score));
        json_array_append(o->images, told);
        progress_event(&o->line, "image", told);
        FILE *to = !strcmp(path, "-") ? stderr : stdout;
        if (!o->s->json && !o->s->quiet && o->line.kind != PROGRESS_JSON)
            fprintf(to, score ? "%s  seed %llu  %dx%d  %.1f s  score %.3f\n" : "%s  seed %llu  %dx%d  %.1f s\n", path, (unsigned long long)r->seed,
                    r->image->width, r->image->height, seconds_now() - o->began, score ? *score : 0);
        fflush(to);
    }
    free(path);
    return s;
}

static diffc_status on_image(void *user, const diffc_result *r, diffc_error *error)
{
    output *o = user;
    return o->best ? best_offer(o->best, r, error) : write_result(o, r, NULL, error);
}

/* What --keep-best has kept, best first; also of a run that ended early. */
static int write_best(output *o)
{
    diffc_error e = {0};
    for (int i = 0; i < o->best->n && !e.code; i++) {
        ranked *k = &o->best->at[i];
        k->kept.result.image = &k->kept.image;
        diffc_status s = write_result(o, &k->kept.result, &k->score, &e);
        if (s && !e.code) e.code = s;
    }
    best_forget(o->best);
    return e.code ? report_error(&e) : 0;
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
    json_t *o =
        json_pack("{s:i,s:i,s:i,s:i,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:b,s:o}", "width", p->width, "height", p->height, "steps", p->steps, "passes",
                  p->rows, "sampler", p->sampler, "scheduler", p->schedule ? p->schedule : "model", "peak_bytes", (json_int_t)p->peak, "mapped_bytes",
                  (json_int_t)p->mapped, "available_bytes", (json_int_t)p->available, "device_peak_bytes", (json_int_t)p->device_peak,
                  "device_available_bytes", (json_int_t)p->device_available, "weights_visit", p->visits, "stages", stages);
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
    printf("%s\n%s\n%dx%d, %s, %s schedule, ", diffc_model_summary(m), diffc_device_summary(m), p.width, p.height, p.sampler,
           p.schedule ? p.schedule : "model");
    if (p.steps) printf("%d steps (%d UNet passes a picture)\n\n", p.steps, p.rows);
    else printf("as many steps as it needs\n\n");
    printf("%-16s %12s %12s %12s %8s\n", "stage", "weights MB", "buffers MB", "GFLOP/pass", "passes");
    for (int i = 0; i < p.n_stages; i++)
        printf("%-16s %12.1f %12.1f %12.1f %8d\n", p.stage[i].name, mb(p.stage[i].weights), mb(p.stage[i].buffers), p.stage[i].gflop,
               p.stage[i].passes);
    for (int i = 0; i < p.n_stages; i++)
        if (p.stage[i].strip)
            printf("\n%s: in strips of %d rows%s, to fit into memory", p.stage[i].name, p.stage[i].strip,
                   p.stage[i].again ? ", some computed twice" : "");
    printf("\npeak memory %.1f MB (%llu bytes); model files mapped %.1f MB; available %.1f MB\n", mb(p.peak), (unsigned long long)p.peak,
           mb(p.mapped), mb(p.available));
    if (p.device_available)
        printf("GPU memory %.1f MB of %.1f MB%s\n", mb(p.device_peak), mb(p.device_available),
               p.visits ? " at least; weights that do not fit come from the host's for each use" : "");
    return 0;
}

/* ---- the command -------------------------------------------------------------------------------------------------- */

/* A JPEG's text has room for 32,739 characters, of which the settings take some hundred: told before the work, not after it. */
static int check_room(const char *pattern, const diffc_request *q)
{
    const char *dot = strrchr(pattern, '.'), *texts[] = {q->prompt, q->negative};
    size_t n = 0, most = 31000;
    if (!dot || (strcasecmp(dot, ".jpg") && strcasecmp(dot, ".jpeg"))) return 0;
    for (int i = 0; i < 2; i++)
        for (const char *p = texts[i]; p && *p; p++) n += ((*p & 0xc0) != 0x80) + ((*p & 0xf8) == 0xf0); /* UTF-16 */
    return n > most ? report(DIFFC_USAGE, "PNG and WebP have more room.", "prompt: found %zu characters, expected at most %zu for a JPEG", n, most)
                    : 0;
}

/* Missing folders and the like are told before any work; not where the folder's own name has a mark. */
static int check_output(const char *pattern, const diffc_request *q)
{
    diffc_error e = {0};
    const char *slash = strrchr(pattern, '/'), *mark = strchr(pattern, '{');
    if (mark && slash && mark < slash) return 0;
    char *first = name_make(pattern, 1, &(diffc_result){.seed = q->seed, .prompt = q->prompt});
    int code = !first ? report(DIFFC_NO_MEMORY, "", "out of memory") : diffc_output_check(first, &e) ? report_error(&e) : 0;
    free(first);
    return code;
}

/* Where this picture goes: its own -o, or the whole run's. */
static int choose_names(output *o, const settings *s, const diffc_request *q)
{
    bool seeds = q->count < 2 || diffc_request_seed(q, 1) != q->seed; /* each picture has one of its own */
    const char *name = s->output ? s->output : DEFAULT_OUTPUT;
    int count = o->best && o->best->most < q->count ? o->best->most : q->count;
    bool own = o->several && o->name && strcmp(name, o->name) != 0, several = (o->several && !own) || count > 1;
    char *pattern = name_pattern(name, several, seeds && (!o->several || own));
    if (pattern && (!o->pattern || strcmp(pattern, o->pattern) != 0)) o->next = 1;
    free(o->pattern);
    free(o->latent_pattern);
    o->pattern = pattern;
    o->latent_pattern = s->save_latent ? name_pattern(s->save_latent, o->several || count > 1, seeds && !o->several) : NULL;
    if (!o->pattern || (s->save_latent && !o->latent_pattern)) return report(DIFFC_NO_MEMORY, "", "out of memory");
    o->fixed = !name_has_number(o->pattern);
    return 0;
}

/* Where the pictures of a request go, told to be impossible before any work. */
static int prepare_names(const diffc_request *q, output *o)
{
    int code = choose_names(o, o->s, q);
    if (!code) code = check_output(o->pattern, q);
    if (!code) code = check_room(o->pattern, q);
    if (!code && o->latent_pattern) code = check_output(o->latent_pattern, q);
    return code;
}

static int generate(diffc_model *m, diffc_request *q, output *o)
{
    diffc_error e = {0};
    q->on_progress = on_progress;
    q->on_image = on_image;
    q->user = o;
    o->began = seconds_now();
    diffc_status status = diffc_generate(m, q, &e);
    progress_clear(&o->line);
    terminal_leave(&o->previews.place); /* of a run that was stopped */
    if (o->s->profile) {
        char *table = diffc_profile_text(m);
        fprintf(stderr, "%s", table ? table : "");
        diffc_free(table);
    }
    return status ? report_error(&e) : 0;
}

/* ---- templates --------------------------------------------------------------------------------------------------- */

/* What --from says is a prompt that was made already. */
static bool is_template(const settings *s, const diffc_request *q, bool negative)
{
    const char *text = negative ? q->negative : q->prompt;
    bool plain = q->prompt_syntax && !strcmp(q->prompt_syntax, "plain");
    bool given = negative ? replay_lets(s, "negative-prompt") : replay_lets(s, "prompt") || s->n_words;
    return text && given && !plain && diffc_prompt_is_template(text);
}

/* Prompt and negative prompt of the request's seed; *prompt and *negative are for the caller to free. */
static int expand(diffc_request *q, const settings *s, char **prompt, char **negative)
{
    diffc_error e = {0};
    const char *from = q->prompt, *from_negative = q->negative;
    if (is_template(s, q, false)) {
        if (diffc_prompt_expand(from, s->wildcards, q->seed, prompt, &e)) return report_error(&e);
        q->prompt = *prompt, q->prompt_template = from;
    }
    if (is_template(s, q, true)) {
        if (diffc_prompt_expand(from_negative, s->wildcards, q->seed, negative, &e)) return report_error(&e);
        q->negative = *negative, q->negative_template = from_negative;
    }
    return 0;
}

/* A template is another prompt for every seed, so its pictures are made one by one. */
static int make_pictures(diffc_model *m, diffc_request *q, output *o)
{
    const settings *s = o->s;
    bool template = is_template(s, q, false) || is_template(s, q, true);
    int code = s->dry_run ? 0 : prepare_names(q, o);
    if (!code) code = previews_begin(&o->previews, s, o->window, &o->line);
    if (!code && (o->window || previews_wanted(&o->previews))) {
        q->on_preview = on_preview;
        if (!q->preview) choose_preview(m, q);
    }
    for (int i = 0; !code && i < (template ? q->count : 1); i++) {
        char *prompt = NULL, *negative = NULL;
        diffc_request one = *q;
        if (template) one.seed += (uint64_t)i, one.count = 1;
        code = template ? expand(&one, s, &prompt, &negative) : 0;
        if (!code && s->dry_run) code = dry_run(m, &one, s->json);
        else if (!code) code = generate(m, &one, o);
        diffc_free(prompt);
        diffc_free(negative);
        if (s->dry_run) break;
    }
    int written = o->best && o->pattern ? write_best(o) : 0;
    return code ? code : written;
}

/* The pictures of one prompt. */
static int run_prompt(diffc_model *m, const settings *s, output *o)
{
    diffc_image image = {0}, mask = {0};
    diffc_request q;
    double *sigmas = NULL;
    o->s = s;
    int code = fill_request(&q, m, s, &image, &mask);
    if (!code && !q.prompt)
        code = report(DIFFC_USAGE, "Example: diffc txt2img \"a red apple\"", "prompt: found none, expected one as the first argument or with -p");
    if (!code && s->sigmas && replay_lets(s, "sigmas")) {
        code = parse_sigmas(s->sigmas, &sigmas, &q.n_sigmas);
        q.sigmas = sigmas;
    }
    if (!code && !o->replay && (o->replay = replay_fields(s))) {
        progress_event(&o->line, "replay", json_pack("{s:s,s:O}", "source", s->replay->source, "fields", o->replay));
        if (!s->json && !s->quiet && o->line.kind != PROGRESS_JSON) replay_print(s);
    }
    if (!code) code = make_pictures(m, &q, o);
    diffc_image_free(&image);
    diffc_image_free(&mask);
    free(sigmas);
    return code;
}

/* A line that fails does not hinder the next, but for Ctrl-C; the first failure's code is the run's. */
static int run_lines(diffc_model *m, const settings *s, output *o)
{
    prompts p;
    int first = prompts_open(&p, s->prompt_file);
    for (bool more = !first; more && !signals_caught();) {
        settings line;
        int code = prompts_next(&p, s, &line, &more);
        if (!code && more) code = run_prompt(m, &line, o);
        if (code && !first) first = code;
    }
    prompts_close(&p);
    return signals_caught() ? signals_code() : first;
}

static void print_result(const output *o, const diffc_model *m, double seconds)
{
    json_t *r = json_pack("{s:s,s:s,s:s,s:f,s:O,s:O*}", "version", diffc_version(), "model", diffc_model_summary(m), "device",
                          diffc_device_summary(m), "seconds", seconds, "images", o->images, "replay", o->replay);
    FILE *to = !strcmp(o->pattern, "-") ? stderr : stdout;
    json_dumpf(r, to, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    fputc('\n', to);
    json_decref(r);
}

/* --window: the same on another thread, beside the window. */
typedef struct shown_run {
    diffc_model *m;
    const settings *s;
    output *o;
} shown_run;

static int run_shown(void *user, const view_hooks *hooks)
{
    shown_run *x = user;
    x->o->window = hooks;
    int code = x->o->several ? run_lines(x->m, x->s, x->o) : run_prompt(x->m, x->s, x->o);
    x->o->window = NULL;
    return code;
}

int run_txt2img(const settings *given)
{
    diffc_model *m = NULL;
    best kept_best = {0};
    settings s = *given;
    char *text = NULL;
    output o = {.name = s.output, .next = 1, .images = json_array(), .several = s.prompt_file != NULL};
    double began = seconds_now();
    int code = progress_begin(&o.line, s.progress, s.quiet || s.json);
    if (!code && s.prompt && !strcmp(s.prompt, "-")) {
        code = s.prompt_file && !strcmp(s.prompt_file, "-") ? report(DIFFC_USAGE, "", "stdin: found two readers, expected --prompt or --prompt-file")
                                                            : text_read(&text, "-");
        for (size_t n = text ? strlen(text) : 0; n && (text[n - 1] == '\n' || text[n - 1] == '\r');) text[--n] = 0;
        s.prompt = text;
    }
    if (!code) code = replay_read(&s);
    if (!code && s.has_keep_best) code = best_open(o.best = &kept_best, &s);
    if (!code) code = open_model(&m, &s);
    if (!code && s.verbose) fprintf(stderr, "%s\n%s\n", diffc_model_summary(m), diffc_device_summary(m));
    shown_run shown = {m, &s, &o};
    const char *title = s.prompt ? s.prompt : s.n_words ? s.word[0] : s.prompt_file;
    if (!code) code = s.window ? watch_in_window(m, &s, title, run_shown, &shown) : run_shown(&shown, NULL);
    if (o.pattern && s.json && (!code || o.several)) print_result(&o, m, seconds_now() - began);
    if (o.pattern) progress_event(&o.line, "done", json_pack("{s:i,s:f}", "images", (int)o.made, "seconds", seconds_now() - began));
    signals_model(NULL);
    diffc_close(m);
    best_close(&kept_best);
    json_decref(o.images);
    json_decref(o.replay);
    diffc_replay_close(s.replay);
    free(o.pattern);
    free(o.latent_pattern);
    free(text);
    return code;
}
