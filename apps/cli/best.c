/* best.c - --keep-best: the pictures most like their prompts. */
#include "apps/cli/best.h"
#include "apps/cli/commands.h"
#include "apps/cli/report.h"
#include <stdlib.h>

void best_forget(best *b)
{
    for (int i = 0; i < b->n; i++) result_free(&b->at[i].kept);
    b->n = 0;
}

void best_close(best *b)
{
    best_forget(b);
    diffc_clip_close(b->clip);
    free(b->at);
    *b = (best){0};
}

int best_open(best *b, const settings *s)
{
    diffc_error e = {0};
    settings own = *s;
    *b = (best){.most = s->keep_best};
    if (s->keep_best < 1 || s->keep_best > 10000) return report(DIFFC_USAGE, "", "keep-best: found %d, expected 1 to 10000", s->keep_best);
    own.model = s->clip;
    own.config = NULL;
    diffc_options o = model_options(&own);
    if (diffc_clip_open(&b->clip, &o, &e)) return report_error(&e);
    const diffc_clip_info *about = diffc_clip_about(b->clip);
    if (!about->has_text || !about->has_images)
        return report(DIFFC_USAGE, "", "keep-best: found a CLIP model without its %s encoder, expected both", about->has_text ? "picture" : "text");
    b->at = calloc((size_t)b->most, sizeof *b->at);
    return b->at ? 0 : report(DIFFC_NO_MEMORY, "", "keep-best: out of memory");
}

static diffc_status score_of(best *b, const diffc_result *r, double *score, diffc_error *error)
{
    int dims = diffc_clip_about(b->clip)->dims;
    float *v = calloc(2 * (size_t)dims, sizeof *v);
    const char *prompt = r->prompt;
    if (!v) return DIFFC_NO_MEMORY;
    diffc_status s = diffc_clip_embed_text(b->clip, &prompt, 1, v, error);
    if (!s) s = diffc_clip_embed_images(b->clip, r->image, 1, v + dims, error);
    *score = 0;
    for (int i = 0; !s && i < dims; i++) *score += (double)v[i] * v[dims + i];
    free(v);
    return s;
}

diffc_status best_offer(best *b, const diffc_result *r, diffc_error *error)
{
    double score;
    ranked k;
    diffc_status s = score_of(b, r, &score, error);
    if (s) return s;
    if (b->n == b->most && score <= b->at[b->n - 1].score) return DIFFC_OK;
    k.score = score;
    if (!result_keep(&k.kept, r, true)) return DIFFC_NO_MEMORY;
    if (b->n == b->most) result_free(&b->at[--b->n].kept);
    int i = b->n++;
    for (; i > 0 && b->at[i - 1].score < score; i--) b->at[i] = b->at[i - 1];
    b->at[i] = k;
    return DIFFC_OK;
}
