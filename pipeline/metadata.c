/* metadata.c - the "parameters" text that A1111 puts into its pictures, and that other programs read. */
#include "pipeline/model.h"
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ", Key: value", quoted as A1111's infotext_utils.quote: a value with a comma, a colon or a line break becomes a JSON string. */
static void add(dc_text *t, const char *key, const char *value)
{
    if (t->length && t->at[t->length - 1] != '\n') dc_text_append(t, ", ", 2);
    if (!strpbrk(value, ",:\n")) {
        dc_text_printf(t, "%s: %s", key, value);
        return;
    }
    json_t *string = json_string(value);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    if (quoted) dc_text_printf(t, "%s: %s", key, quoted);
    else t->failed = true;
    free(quoted);
    json_decref(string);
}

__attribute__((format(printf, 3, 4))) static void addf(dc_text *t, const char *key, const char *format, ...)
{
    char value[512];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    add(t, key, value);
}

/* As A1111 writes it. */
static const char *emphasis_label(const char *name)
{
    return !strcmp(name, "no-norm") ? "No norm" : !strcmp(name, "ignore") ? "Ignore" : !strcmp(name, "none") ? "None" : name;
}

char *parameters_text(job *j, int i)
{
    const diffc_request *q = j->q;
    dc_text t = {0};
    dc_text_printf(&t, "%s", q->prompt ? q->prompt : "");
    if (q->negative && *q->negative) dc_text_printf(&t, "\nNegative prompt: %s", q->negative);
    dc_text_append(&t, "\n", 1);

    addf(&t, "Steps", "%d", q->n_sigmas > 0 ? q->n_sigmas : q->steps);
    add(&t, "Sampler", dc_sampler_label(j->plan.sampler));
    if (j->plan.schedule && strcmp(j->plan.schedule, "model")) add(&t, "Schedule type", dc_schedule_label(j->plan.schedule));
    addf(&t, "CFG scale", "%.10g", j->guidance);
    addf(&t, "Seed", "%llu", (unsigned long long)dc_wish_seed(&j->noise, i, j->batch));
    addf(&t, "Size", "%dx%d", j->width, j->height);
    if (*model_hash(j->m)) add(&t, "Model hash", model_hash(j->m));
    add(&t, "Model", j->m->name);
    if (j->noise.variation_strength != 0) {
        addf(&t, "Variation seed", "%llu", (unsigned long long)dc_wish_variation_seed(&j->noise, i));
        addf(&t, "Variation seed strength", "%.10g", j->noise.variation_strength);
    }
    if (j->noise.from_w) addf(&t, "Seed resize from", "%dx%d", q->seed_resize_width, q->seed_resize_height);
    if (q->image) addf(&t, "Denoising strength", "%.10g", j->strength);
    if (q->clip_skip > 1) addf(&t, "Clip skip", "%d", q->clip_skip);
    if (j->noise.ensd) addf(&t, "ENSD", "%lld", (long long)j->noise.ensd);
    const dc_convention *rng = j->noise.convention;
    if (rng->label) add(&t, "RNG", rng->label);
    if (q->eta >= 0) addf(&t, "Eta", "%.10g", q->eta);
    if (j->rescale > 0) addf(&t, "Guidance rescale", "%.10g", j->rescale);
    if (strcmp(rng->name, "cpu") && strcmp(rng->name, "cuda")) add(&t, "RNG convention", rng->name);
    if (rng->whole_batch && j->batch > 1) { /* as A1111 named them when its batches were drawn at once */
        int first = i / j->batch * j->batch, n = j->count - first < j->batch ? j->count - first : j->batch;
        addf(&t, "Batch size", "%d", n);
        addf(&t, "Batch pos", "%d", i - first);
    }
    if (q->emphasis && strcmp(q->emphasis, "original")) add(&t, "Emphasis", emphasis_label(q->emphasis));
    if (q->prompt_syntax && strcmp(q->prompt_syntax, "a1111")) add(&t, "Prompt syntax", q->prompt_syntax);
    if (q->prompt_template) add(&t, "Template", q->prompt_template);
    if (q->negative_template) add(&t, "Negative Template", q->negative_template);
    addf(&t, "Version", "diffc %s", diffc_version());
    if (t.failed) dc_text_free(&t);
    return t.at;
}
