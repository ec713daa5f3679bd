/* metadata.c - the "parameters" text of a picture, as A1111 writes its own: the same fields in the same order, and behind them what only diffc
 * has, so that its pictures can be made again to the byte. */
#include "pipeline/infotext.h"
#include "pipeline/model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_FIELDS 48

/* The fields of one picture; a field that is not wanted is not added. */
typedef struct sheet {
    info_value v[MOST_FIELDS];
    int n;
} sheet;

static void add(sheet *s, info_value v)
{
    if (s->n < MOST_FIELDS) s->v[s->n++] = v;
}
static void add_text(sheet *s, const char *key, const char *value) { add(s, (info_value){.key = key, .kind = INFO_TEXT, .text = value}); }
static void add_int(sheet *s, const char *key, int64_t value) { add(s, (info_value){.key = key, .kind = INFO_INT, .integer = value}); }
/* Whole numbers without a point, as A1111's sliders give them. */
static void add_real(sheet *s, const char *key, double v)
{
    if (v == floor(v) && fabs(v) < 1e15) add_int(s, key, (int64_t)v);
    else add(s, (info_value){.key = key, .kind = INFO_REAL, .real = v});
}

/* "14.6, 9.1"; NULL when memory is out. */
static char *list(const double *v, int n)
{
    dc_text t = {0};
    char one[64];
    for (int i = 0; i < n; i++) info_real(one, v[i]), dc_text_printf(&t, "%s%s", i ? ", " : "", one);
    if (t.failed) dc_text_free(&t);
    return t.at;
}

/* A1111's settings of sampling, which it writes where they are not its defaults. */
static void add_sampling(sheet *s, const diffc_request *q)
{
    const struct {
        const char *key;
        double value;
    } rows[] = {{"Schedule max sigma", q->sigma_max},
                {"Schedule min sigma", q->sigma_min},
                {"Schedule rho", q->rho},
                {"Sigma churn", q->s_churn},
                {"Sigma tmin", q->s_tmin},
                {"Sigma tmax", q->s_tmax},
                {"Sigma noise", q->s_noise}};
    if (q->eta >= 0) add_real(s, "Eta", q->eta);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].value != 0) add_real(s, rows[i].key, rows[i].value);
}

/* What A1111 has no field for. */
static void add_own(sheet *s, const job *j, const char *sigmas)
{
    const diffc_request *q = j->q;
    const char *schedule = j->plan.schedule, *precision = dc_device_precision(j->m->device), *found;
    if (j->rescale > 0) add_real(s, "Guidance rescale", j->rescale);
    if (!sigmas && schedule && (found = dc_schedule_find(dc_schedule_label(schedule))) && strcmp(found, schedule)) add_text(s, "Schedule", schedule);
    if (sigmas) add_text(s, "Sigmas", sigmas);
    if (q->solver_order) add_int(s, "Solver order", q->solver_order);
    if (q->solver_type) add_text(s, "Solver type", q->solver_type);
    if (q->vae_tiling) add(s, (info_value){.key = "VAE tiling", .kind = INFO_BOOL, .yes = true});
    if (q->negative && !*q->negative && j->guided && j->m->zero_empty_negative) add_text(s, "Empty negative", "encoded");
    if (strcmp(precision, "f32")) add_text(s, "Precision", precision);
}

/* Whose noise, where that is more than which generator. */
static void add_noise(sheet *s, const job *j, int i)
{
    const dc_convention *rng = j->noise.convention;
    if (strcmp(rng->name, "cpu") && strcmp(rng->name, "cuda")) add_text(s, "RNG convention", rng->name);
    if (rng->whole_batch && j->batch > 1) { /* as A1111 named them when its batches were drawn at once */
        int first = i / j->batch * j->batch;
        add_int(s, "Batch size", j->count - first < j->batch ? j->count - first : j->batch);
        add_int(s, "Batch pos", i - first);
    }
}

/* How the prompts were read and what they came from, as A1111 and its extension for templates write it. */
static void add_prompts(sheet *s, const diffc_request *q)
{
    for (int i = EMPHASIS_ORIGINAL + 1; q->emphasis && i < EMPHASES; i++)
        if (!strcmp(q->emphasis, emphasis_names[i].name)) add_text(s, "Emphasis", emphasis_names[i].label);
    if (q->prompt_syntax && strcmp(q->prompt_syntax, syntax_names[DC_PROMPT_A1111])) add_text(s, "Prompt syntax", q->prompt_syntax);
    if (q->prompt_template) add_text(s, "Template", q->prompt_template);
    if (q->negative_template) add_text(s, "Negative Template", q->negative_template);
}

char *parameters_text(job *j, int i)
{
    const diffc_request *q = j->q;
    sheet s = {.n = 0};
    char size[32], from[32], version[64], *sigmas = q->n_sigmas > 0 ? list(q->sigmas, q->n_sigmas) : NULL;
    if (q->n_sigmas > 0 && !sigmas) return NULL;
    snprintf(size, sizeof size, "%dx%d", j->width, j->height);
    snprintf(from, sizeof from, "%dx%d", q->seed_resize_width, q->seed_resize_height);
    snprintf(version, sizeof version, "diffc %s", diffc_version());

    add_int(&s, "Steps", q->n_sigmas > 0 ? q->n_sigmas : q->steps);
    add_text(&s, "Sampler", dc_sampler_label(j->plan.sampler));
    if (!sigmas && j->plan.schedule && strcmp(j->plan.schedule, "model")) add_text(&s, "Schedule type", dc_schedule_label(j->plan.schedule));
    add_real(&s, "CFG scale", j->guidance);
    add(&s, (info_value){.key = "Seed", .kind = INFO_UINT, .natural = dc_wish_seed(&j->noise, i, j->batch)});
    add_text(&s, "Size", size);
    if (*model_hash(j->m)) add_text(&s, "Model hash", model_hash(j->m));
    add_text(&s, "Model", j->m->name);
    if (j->m->vae_name) add_text(&s, "VAE", j->m->vae_name);
    if (j->noise.variation_strength != 0) {
        add(&s, (info_value){.key = "Variation seed", .kind = INFO_UINT, .natural = dc_wish_variation_seed(&j->noise, i)});
        add_real(&s, "Variation seed strength", j->noise.variation_strength);
    }
    if (j->noise.from_w) add_text(&s, "Seed resize from", from);
    if (q->image) add_real(&s, "Denoising strength", j->strength);
    if (q->clip_skip > 1) add_int(&s, "Clip skip", q->clip_skip);
    if (j->noise.ensd) add_int(&s, "ENSD", j->noise.ensd);
    if (j->noise.convention->label) add_text(&s, "RNG", j->noise.convention->label);
    add_sampling(&s, q);
    add_prompts(&s, q);
    add_own(&s, j, sigmas);
    add_noise(&s, j, i);
    add_text(&s, "Version", version);
    char *text = infotext_write(q->prompt, q->negative, s.v, s.n);
    free(sigmas);
    return text;
}
