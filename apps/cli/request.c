/* request.c - options to a request: of txt2img, of its lines of prompts, of the window. */
#include "apps/cli/commands.h"
#include "apps/cli/replay.h"
#include "apps/cli/report.h"
#include <stdlib.h>

/* "14.6,9.1,4" -> numbers; the caller frees *out. */
int parse_sigmas(const char *text, double **out, int *n)
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

static int take_pictures(diffc_request *q, const settings *s, diffc_image *image, diffc_image *mask)
{
    diffc_error e = {0};
    if (s->image && diffc_image_read(image, s->image, false, &e)) return report_error(&e);
    if (s->mask && diffc_image_read(mask, s->mask, true, &e)) return report_error(&e);
    if (s->image) q->image = image;
    if (s->mask) q->mask = mask;
    return 0;
}

int fill_request(diffc_request *q, diffc_model *m, const settings *s, diffc_image *image, diffc_image *mask)
{
    diffc_error e = {0};
    diffc_request_defaults(m, q);
    int code = take_pictures(q, s, image, mask);
    if (code) return code;
    q->seed = random_seed();
    if (s->replay && diffc_replay_apply(s->replay, m, q, &e)) return report_error(&e);
    const char *prompt = s->prompt && replay_lets(s, "prompt") ? s->prompt : s->n_words ? s->word[0] : q->prompt;
    if (s->n_words > (s->prompt ? 0 : 1))
        return report(DIFFC_USAGE, "Put a prompt of several words in quotes.", "arguments: found \"%s\", expected one prompt",
                      s->word[s->prompt ? 0 : 1]);
    q->prompt = prompt;
    if (replay_lets(s, "negative-prompt")) q->negative = s->negative;
    if (s->width && (replay_lets(s, "size") || replay_lets(s, "width"))) q->width = s->width;
    if (s->height && (replay_lets(s, "size") || replay_lets(s, "height"))) q->height = s->height;
    if (s->has_steps && replay_lets(s, "steps")) q->steps = s->steps;
    if (s->has_guidance && replay_lets(s, "cfg-scale")) q->guidance = s->guidance;
    if (s->has_strength && replay_lets(s, "strength")) q->strength = s->strength;
    if (s->sampler && replay_lets(s, "sampler")) q->sampler = s->sampler;
    if (s->schedule && replay_lets(s, "scheduler")) q->schedule = s->schedule;
    fill_noise(q, s);
    if (replay_lets(s, "guidance-rescale")) q->guidance_rescale = s->rescale;
    if (replay_lets(s, "eta")) q->eta = s->eta;
    sampler_options(q, s);
    if (replay_lets(s, "batch-count")) q->count = s->count;
    if (replay_lets(s, "batch-size")) q->batch = s->batch;
    if (replay_lets(s, "clip-skip")) q->clip_skip = s->clip_skip;
    if (replay_lets(s, "prompt-syntax")) q->prompt_syntax = s->prompt_syntax;
    if (replay_lets(s, "emphasis")) q->emphasis = s->emphasis;
    if (replay_lets(s, "vae-tiling")) q->vae_tiling = s->vae_tiling;
    q->preview = s->preview_kind;
    q->preview_interval = s->preview_interval;
    q->trace = s->trace;
    q->profile = s->profile;
    return 0;
}
