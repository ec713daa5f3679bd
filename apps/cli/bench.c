/* bench.c - the command bench: how long one part of a model takes, or (--plan) how each of its layers would be computed. */
#include "apps/cli/commands.h"
#include "apps/cli/report.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- --plan -------------------------------------------------------------------------------------------------------- */

static json_t *layers_json(const diffc_bench *b)
{
    json_t *all = json_array();
    for (int i = 0; i < b->n_layers; i++) {
        const diffc_layer *l = &b->layer[i];
        json_array_append_new(all, json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:f}", "op", l->op, "shape", l->shape, "detail", l->detail, "algorithm",
                                             l->algorithm, "reason", l->reason, "scope", l->scope, "multiply_adds", l->multiply_adds));
    }
    return all;
}

static bool is_alike(const diffc_layer *a, const diffc_layer *b)
{
    return !strcmp(a->op, b->op) && !strcmp(a->shape, b->shape) && !strcmp(a->detail, b->detail) && !strcmp(a->algorithm, b->algorithm) &&
           !strcmp(a->reason, b->reason);
}

/* Layers that are alike on one line, where the first of them runs; multiply-adds are of all of them. */
static void print_layers(const diffc_bench *b)
{
    printf("%6s %9s  %-9s  %-17s %-27s %-18s %s\n", "layers", "Gmadd", "op", "gives", "from", "algorithm", "why");
    for (int i = 0; i < b->n_layers; i++) {
        const diffc_layer *l = &b->layer[i];
        int before = 0, alike = 0;
        for (int k = 0; k < b->n_layers; k++) {
            if (!is_alike(l, &b->layer[k])) continue;
            before += k < i;
            alike++;
        }
        if (!before)
            printf("%6d %9.3f  %-9s  %-17s %-27s %-18s %s\n", alike, 1e-9 * alike * l->multiply_adds, l->op, l->shape, l->detail, l->algorithm,
                   l->reason);
    }
}

static int tell_plan(const settings *s, const char *device, const diffc_bench *b)
{
    if (s->json)
        return print_json(json_pack("{s:s,s:s,s:f,s:I,s:I,s:o}", "what", s->word[0], "device", device, "gflop", b->gflop, "weight_bytes",
                                    (json_int_t)b->weight_bytes, "buffer_bytes", (json_int_t)b->buffer_bytes, "layers", layers_json(b)));
    printf("%s on %s: %.1f GFLOP; weights %.1f MB, buffers %.1f MB\n", s->word[0], device, b->gflop, (double)b->weight_bytes / 1e6,
           (double)b->buffer_bytes / 1e6);
    print_layers(b);
    return 0;
}

/* ---- times ----------------------------------------------------------------------------------------------------------- */

static int tell_times(const settings *s, const char *device, const diffc_bench *b)
{
    if (s->json)
        return print_json(json_pack("{s:s,s:s,s:f,s:f,s:i,s:f,s:f,s:I,s:I,s:o}", "what", s->word[0], "device", device, "seconds", b->best, "median",
                                    b->median, "rounds", b->n, "gflop", b->gflop, "once", b->once, "weight_bytes", (json_int_t)b->weight_bytes,
                                    "buffer_bytes", (json_int_t)b->buffer_bytes, "all", json_reals(b->seconds, b->n)));
    printf("%s on %s: best %.4f s, median %.4f s of %d; %.1f GFLOP, %.1f GFLOP/s; weights %.1f MB, buffers %.1f MB\n", s->word[0], device, b->best,
           b->median, b->n, b->gflop, b->gflop / b->best, (double)b->weight_bytes / 1e6, (double)b->buffer_bytes / 1e6);
    if (b->once > 0) printf("once before, for all passes with the same text: %.4f s\n", b->once);
    if (b->profile) printf("%s", b->profile);
    return 0;
}

/* -o: the numbers of the last pass. 0 or an exit code. */
static int save_output(const settings *s, const diffc_bench *b)
{
    diffc_error e = {0};
    return s->output && diffc_npy_write(s->output, b->output, b->rank, b->dim, &e) ? report_error(&e) : 0;
}

static int tell(const settings *s, const char *device, const diffc_bench *b)
{
    if (s->plan) return tell_plan(s, device, b);
    int code = save_output(s, b);
    return code ? code : tell_times(s, device, b);
}

/* A part of a CLIP model. */
static int bench_clip(const settings *s)
{
    diffc_error e = {0};
    diffc_clip *m = NULL;
    diffc_bench b = {0};
    int code = open_clip(&m, s);
    if (!code)
        code = (s->plan ? diffc_clip_bench_plan(m, s->batch, &b, &e) : diffc_clip_bench_run(m, s->batch, s->seconds, s->profile, &b, &e))
                   ? report_error(&e)
                   : tell(s, diffc_clip_about(m)->device, &b);
    diffc_bench_free(&b);
    signals_clip(NULL);
    diffc_clip_close(m);
    return code;
}

int run_bench(const settings *s)
{
    diffc_error e = {0};
    diffc_model *m = NULL;
    diffc_bench b = {0};
    if (s->n_words != 1)
        return report(DIFFC_USAGE, "", "bench: found %d parts, expected one of unet, vae, taesd, vae-encode, clip-text, clip-image", s->n_words);
    if (!strcmp(s->word[0], "clip-image")) return bench_clip(s);
    int code = open_model(&m, s);
    if (!code)
        code = (s->plan ? diffc_bench_plan(m, s->word[0], s->batch, s->width, s->height, &b, &e)
                        : diffc_bench_run(m, s->word[0], s->batch, s->width, s->height, s->seconds, s->profile, &b, &e))
                   ? report_error(&e)
                   : tell(s, diffc_device_summary(m), &b);
    diffc_bench_free(&b);
    signals_model(NULL);
    diffc_close(m);
    return code;
}
