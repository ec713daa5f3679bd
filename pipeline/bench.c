/* bench.c - times one part of a model on random input: what `diffc bench` and the comparisons with other programs call. */
#include "base/checked.h"
#include "pipeline/clip.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROUNDS 1000

/* One part with its input; each pass uploads, runs forward and downloads, as in real use. `text`: what the UNet makes of the text once
 * for all steps, in a run of its own. */
typedef struct bench_pass {
    diffc_model *m;
    int n, h, w;
    float *in, *context, *pooled, *time_ids, *out;
    int32_t *ids;
    dc_tensor *text;
    bool whole;  /* with what is made once in the pass, too: for counting */
    bool encode; /* `in` is a picture */
    float t, lcm_w;
} bench_pass;

/* What is timed. */
typedef struct bench_part {
    const dc_weights *from;
    dc_params *weights;
    dc_pass_fn *once, *pass; /* once: NULL, or what comes before all passes */
    int rank;                /* of what it gives */
    int64_t dim[4];
    dc_device *device;
    void *ctx;   /* of the passes */
    bool *whole; /* told to ctx; NULL: the same either way */
    float **out; /* where ctx has what it gave */
} bench_part;

static dc_tensor up(dc_run *r, int rank, int64_t a, int64_t b, int64_t c, int64_t d, const float *host)
{
    return dc_upload(r, DC_F32, rank, (int64_t[4]){a, b, c, d}, host);
}

static int pooled_width(const dc_unet_config *c) { return c->text_time ? c->add_input - 6 * c->add_time_dim : 0; }

static void run_unet_text(void *ctx, dc_run *r)
{
    const bench_pass *p = ctx;
    int T = p->m->text[0].length, width = dc_unet_configuration(p->m->unet)->context;
    dc_unet_text_forward(p->m->unet, r, up(r, 3, p->n, T, width, 0, p->context), p->text);
}

static void run_unet(void *ctx, dc_run *r)
{
    const bench_pass *p = ctx;
    const dc_unet_config *c = dc_unet_configuration(p->m->unet);
    int n = p->n % 2 || p->whole ? p->n : p->n / 2; /* latents: the same for both halves of guidance */
    dc_unet_in in = {.n = p->n, .x = up(r, 4, n, p->h, p->w, c->in_channels, p->in), .timestep = up(r, 1, 1, 0, 0, 0, &p->t), .text = p->text};
    if (p->whole) in.context = up(r, 3, p->n, p->m->text[0].length, c->context, 0, p->context), in.text = NULL;
    if (c->text_time) {
        in.pooled = up(r, 2, p->n, pooled_width(c), 0, 0, p->pooled);
        in.time_ids = up(r, 2, p->n, 6, 0, 0, p->time_ids);
    }
    if (c->time_cond) in.guidance = up(r, 1, 1, 0, 0, 0, &p->lcm_w);
    dc_download(r, dc_unet_forward(p->m->unet, r, in), p->out);
}

static void run_vae(void *ctx, dc_run *r)
{
    const bench_pass *p = ctx;
    int L = dc_vae_configuration(p->m->vae)->latent_channels;
    dc_download(r, dc_vae_decode(p->m->vae, r, up(r, 4, p->n, p->h, p->w, L, p->in)), p->out);
}

static void run_encode(void *ctx, dc_run *r)
{
    const bench_pass *p = ctx;
    const int f = dc_vae_configuration(p->m->vae)->factor;
    dc_download(r, dc_vae_encode(p->m->vae, r, up(r, 4, p->n, (int64_t)p->h * f, (int64_t)p->w * f, 3, p->in)).mean, p->out);
}

static void run_text(void *ctx, dc_run *r)
{
    const bench_pass *p = ctx;
    dc_clip_text_out out = dc_clip_text_forward(p->m->text[0].model, r, p->ids, p->n, p->m->text[0].length, 0, true, false);
    dc_download(r, out.hidden, p->out);
}

static float *random_floats(size_t n, uint64_t seed)
{
    float *out = dc_calloc(n ? n : 1, sizeof(float));
    dc_rng g;
    if (!out) return NULL;
    dc_rng_seed(&g, DC_RNG_CPU, seed);
    dc_rng_normal(&g, out, n);
    return out;
}

static size_t numbers(const bench_part *part)
{
    size_t n = 1;
    for (int i = 0; i < part->rank; i++) n *= (size_t)part->dim[i];
    return n;
}

/* The same in every build and on every machine, so that another program can be given them: run.py in bench/ does. */
static dc_status fill_inputs(bench_pass *p, size_t out, dc_error *e)
{
    const diffc_model *m = p->m;
    const dc_unet_config *c = dc_unet_configuration(m->unet);
    size_t n = (size_t)p->n, area = (size_t)p->h * (size_t)p->w, T = (size_t)m->text[0].length, f = (size_t)dc_vae_configuration(m->vae)->factor;
    p->in = random_floats(n * area * (p->encode ? 3 * f * f : (size_t)c->in_channels), 1);
    p->context = random_floats(n * T * (size_t)c->context, 2);
    p->pooled = random_floats(n * (size_t)pooled_width(c), 3);
    p->time_ids = random_floats(n * 6, 4);
    p->ids = dc_calloc(n * T, sizeof(int32_t));
    p->text = dc_calloc((size_t)dc_unet_texts(m->unet) + 1, sizeof *p->text);
    p->out = dc_calloc(out, sizeof(float));
    if (!p->in || !p->context || !p->pooled || !p->time_ids || !p->ids || !p->text || !p->out)
        return dc_fail_memory(e, "bench data", out * sizeof(float));
    for (size_t i = 0; i < n * T; i++) p->ids[i] = (int32_t)(i * 37 % (size_t)dc_clip_text_configuration(m->text[0].model)->vocab_size);
    p->t = 500, p->lcm_w = 7;
    return DC_OK;
}

static void free_inputs(bench_pass *p)
{
    free(p->in);
    free(p->context);
    free(p->pooled);
    free(p->time_ids);
    free(p->ids);
    free(p->text);
    free(p->out);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Plans both passes. What is counted is the work of a pass that makes everything, as other programs do. */
static dc_status plan_part(dc_run *once, dc_run *r, const bench_part *part, diffc_bench *out, dc_error *e)
{
    if (part->whole) *part->whole = true;
    dc_status s = dc_run_plan(r, part->pass, part->ctx, e);
    out->gflop = 1e-9 * (double)dc_run_flops(r);
    if (part->whole) *part->whole = false;
    if (!s && part->once) s = dc_run_plan(once, part->once, part->ctx, e);
    return s || !part->whole ? s : dc_run_plan(r, part->pass, part->ctx, e);
}

/* One warm-up, then rounds until `seconds` have passed, at least 3; one round when they are 0. */
static dc_status time_rounds(dc_run *r, dc_pass_fn *pass, void *p, double seconds, diffc_bench *out, dc_error *e)
{
    dc_status s = dc_run_pass(r, pass, p, e);
    double began = dc_seconds();
    while (!s && out->n < MAX_ROUNDS && (out->n < (seconds > 0 ? 3 : 1) || dc_seconds() - began < seconds)) {
        double t = dc_seconds();
        s = dc_run_pass(r, pass, p, e);
        out->seconds[out->n++] = dc_seconds() - t;
    }
    if (s) return s;
    double *sorted = dc_calloc((size_t)out->n, sizeof *sorted);
    if (!sorted) return dc_fail_memory(e, "timings", 0);
    memcpy(sorted, out->seconds, (size_t)out->n * sizeof *sorted);
    qsort(sorted, (size_t)out->n, sizeof *sorted, by_size);
    out->best = sorted[0];
    out->median = 0.5 * (sorted[(out->n - 1) / 2] + sorted[out->n / 2]);
    free(sorted);
    return s;
}

/* The pass that comes before all rounds, in a run that stays; its seconds are of the second time. */
static dc_status run_once(dc_run *r, dc_pass_fn *pass, void *p, diffc_bench *out, dc_error *e)
{
    dc_status s = dc_run_reserve(r, e);
    if (!s) s = dc_run_pass(r, pass, p, e);
    out->once = dc_seconds();
    if (!s) s = dc_run_pass(r, pass, p, e);
    out->once = dc_seconds() - out->once;
    return s;
}

static dc_status choose(bench_pass *p, const char *what, bench_part *part, dc_error *e)
{
    const diffc_model *m = p->m;
    const dc_vae_config *v = dc_vae_configuration(m->vae);
    const dc_unet_config *u = dc_unet_configuration(m->unet);
    if (!strcmp(what, "unet")) {
        *part = (bench_part){.from = m->unet_weights,
                             .weights = dc_unet_params(m->unet),
                             .once = run_unet_text,
                             .pass = run_unet,
                             .rank = 4,
                             .dim = {p->n, p->h, p->w, u->out_channels}};
    } else if (!strcmp(what, "vae") || !strcmp(what, "taesd")) {
        if (v->tiny != !strcmp(what, "taesd")) {
            dc_status s = dc_fail(e, DC_USAGE, "bench %s: found %s in the model, expected %s", what, v->tiny ? "a TAESD" : "an AutoencoderKL",
                                  v->tiny ? "an AutoencoderKL" : "a TAESD");
            dc_hint(e, "Name the part with --vae FOLDER or --taesd FOLDER.");
            return s;
        }
        *part = (bench_part){.from = m->vae_weights,
                             .weights = dc_vae_params(m->vae),
                             .pass = run_vae,
                             .rank = 4,
                             .dim = {p->n, (int64_t)p->h * v->factor, (int64_t)p->w * v->factor, 3}};
    } else if (!strcmp(what, "vae-encode")) {
        if (!dc_vae_encoder_params(m->vae)) return dc_fail(e, DC_USAGE, "bench %s: found no encoder in the model's VAE, expected one", what);
        p->encode = true;
        *part = (bench_part){.from = m->vae_weights,
                             .weights = dc_vae_encoder_params(m->vae),
                             .pass = run_encode,
                             .rank = 4,
                             .dim = {p->n, p->h, p->w, v->latent_channels}};
    } else if (!strcmp(what, "clip-text")) {
        dc_clip_text *t = m->text[0].model;
        *part = (bench_part){.from = m->text[0].weights,
                             .weights = dc_clip_text_params(t),
                             .pass = run_text,
                             .rank = 3,
                             .dim = {p->n, m->text[0].length, dc_clip_text_configuration(t)->width, 0}};
    } else {
        return dc_fail(e, DC_USAGE, "bench: found %s, expected unet, vae, taesd, vae-encode, clip-text or clip-image", what);
    }
    part->device = m->device, part->ctx = p, part->whole = &p->whole, part->out = &p->out;
    return DC_OK;
}

/* What comes of the plans; the layers when only they are wanted. */
static dc_status tell_plan(const dc_run *run, bool layers, diffc_bench *out, dc_error *e)
{
    const dc_profile_row *rows;
    const int n = layers ? dc_run_profile(run, &rows) : 0;
    if (!n) return DC_OK;
    diffc_layer *grown = realloc(out->layer, ((size_t)out->n_layers + (size_t)n) * sizeof *out->layer);
    if (!grown) return dc_fail_memory(e, "a table of layers", (size_t)n * sizeof *out->layer);
    out->layer = grown;
    for (int i = 0; i < n; i++) {
        if (!rows[i].flops) continue;
        diffc_layer *l = &out->layer[out->n_layers++];
        *l = (diffc_layer){.multiply_adds = 0.5 * (double)rows[i].flops};
        snprintf(l->op, sizeof l->op, "%s", rows[i].op);
        memcpy(l->shape, rows[i].shape, sizeof l->shape);
        memcpy(l->detail, rows[i].detail, sizeof l->detail);
        memcpy(l->algorithm, rows[i].choice.algorithm, sizeof l->algorithm);
        memcpy(l->reason, rows[i].choice.reason, sizeof l->reason);
        memcpy(l->scope, rows[i].scope, sizeof l->scope);
    }
    return DC_OK;
}

typedef struct wanted {
    const char *what;
    int batch, width, height;
    double seconds;
    bool profile, plan; /* plan: only that */
} wanted;

/* Times the part in runs that are planned. */
static dc_status time_part(dc_run *once, dc_run *r, const bench_part *part, const wanted *w, diffc_bench *out, dc_error *e)
{
    dc_status s = dc_params_prepare(part->weights, NULL, NULL, e);
    if (!s && part->once) s = run_once(once, part->once, part->ctx, out, e);
    if (!s) s = dc_run_reserve(r, e);
    if (!s) s = time_rounds(r, part->pass, part->ctx, w->seconds, out, e);
    if (!s) s = dc_weights_check(part->from, e);
    if (!s && w->profile) {
        dc_text table = {0};
        profile_table(&table, w->what, r);
        out->profile = table.at;
        if (table.failed) s = dc_fail_memory(e, "a table of times", table.length);
    }
    return s;
}

static dc_status bench_the_part(const bench_part *part, const wanted *w, diffc_bench *out, dc_error *e)
{
    dc_run *r = dc_run_new(part->device), *once = dc_run_new(part->device);
    dc_status s = r && once ? DC_OK : dc_fail_memory(e, "a pass", 0);
    if (!s && !(out->seconds = dc_calloc(MAX_ROUNDS, sizeof(double)))) s = dc_fail_memory(e, "timings", 0);
    if (!s && (w->profile || w->plan)) {
        dc_run_set_profile(r, true);
        dc_run_set_profile(once, true);
    }
    if (!s) s = plan_part(once, r, part, out, e);
    if (!s && part->once) s = tell_plan(once, w->plan, out, e);
    if (!s) s = tell_plan(r, w->plan, out, e);
    if (!s && !w->plan) s = time_part(once, r, part, w, out, e);
    if (!s && !w->plan) {
        out->output = *part->out, *part->out = NULL;
        out->rank = part->rank;
        memcpy(out->dim, part->dim, sizeof out->dim);
    }
    out->weight_bytes = dc_params_bytes(part->weights);
    out->buffer_bytes = r && once ? dc_run_bytes(r) + dc_run_bytes(once) : 0;
    dc_run_free(r);
    dc_run_free(once);
    return s;
}

static dc_status check_size(const diffc_model *m, wanted *w, dc_error *e)
{
    int factor = dc_vae_configuration(m->vae)->factor, own = dc_unet_configuration(m->unet)->sample_size * factor;
    if (!w->width) w->width = own;
    if (!w->height) w->height = own;
    if (w->batch < 1 || w->batch > 64) return dc_fail(e, DC_USAGE, "batch: found %d, expected 1 to 64", w->batch);
    if (w->width < factor || w->height < factor || w->width > 4096 || w->height > 4096 || w->width % factor || w->height % factor)
        return dc_fail(e, DC_USAGE, "size: found %dx%d, expected multiples of %d up to 4096", w->width, w->height, factor);
    return DC_OK;
}

static dc_status bench(diffc_model *m, wanted w, diffc_bench *out, dc_error *e)
{
    dc_status s = check_size(m, &w, e);
    if (s) return s;
    const int factor = dc_vae_configuration(m->vae)->factor;
    bench_pass p = {.m = m, .n = w.batch, .h = w.height / factor, .w = w.width / factor};
    bench_part part = {0};
    s = choose(&p, w.what, &part, e);
    if (!s) s = fill_inputs(&p, numbers(&part), e);
    if (!s) s = bench_the_part(&part, &w, out, e);
    free_inputs(&p);
    return s;
}

/* Nothing is handed out with an error, and the next call works again. */
static diffc_status end_bench(diffc_bench *out, atomic_int *cancel, const dc_error *e, diffc_error *error)
{
    if (e->code) diffc_bench_free(out);
    atomic_store(cancel, 0);
    return give_error(error, e);
}

static diffc_status run_wanted(diffc_model *m, wanted w, diffc_bench *out, diffc_error *error)
{
    dc_error e = {0};
    *out = (diffc_bench){0};
    bench(m, w, out, &e);
    return end_bench(out, &m->cancel, &e, error);
}

diffc_status diffc_bench_run(diffc_model *m, const char *what, int batch, int width, int height, double seconds, bool profile, diffc_bench *out,
                             diffc_error *error)
{
    return run_wanted(m, (wanted){what, batch, width, height, seconds, profile, false}, out, error);
}

diffc_status diffc_bench_plan(diffc_model *m, const char *what, int batch, int width, int height, diffc_bench *out, diffc_error *error)
{
    return run_wanted(m, (wanted){what, batch, width, height, .plan = true}, out, error);
}

/* ---- CLIP's pictures ------------------------------------------------------------------------------------------------- */

typedef struct clip_pass {
    const diffc_clip *m;
    int n;
    float *patches, *out;
} clip_pass;

static void run_pictures(void *ctx, dc_run *r)
{
    const clip_pass *p = ctx;
    dc_download(r, dc_clip_vision_forward(p->m->vision, r, p->patches, p->n), p->out);
}

static dc_status bench_clip(diffc_clip *m, wanted w, diffc_bench *out, dc_error *e)
{
    if (!m->vision) return dc_fail(e, DC_USAGE, "%s: found no encoder of pictures in it, expected a model that has one", m->path);
    if (w.batch < 1 || w.batch > DC_CLIP_MOST_IMAGES) return dc_fail(e, DC_USAGE, "batch: found %d, expected 1 to %d", w.batch, DC_CLIP_MOST_IMAGES);
    const dc_clip_vision_config *c = dc_clip_vision_configuration(m->vision);
    const size_t n = (size_t)w.batch, values = dc_clip_vision_patch_values(c);
    float *pixels = random_floats(n * m->info.pixels, 1);
    clip_pass p = {m, w.batch, dc_calloc(n * values, sizeof(float)), dc_calloc(n * (size_t)m->info.dims, sizeof(float))};
    bench_part part = {m->vision_part, dc_clip_vision_params(m->vision), NULL, run_pictures, 2, {w.batch, m->info.dims}, m->device, &p, NULL, &p.out};
    dc_status s = pixels && p.patches && p.out ? DC_OK : dc_fail_memory(e, "bench data", n * values * sizeof(float));
    for (size_t i = 0; !s && i < n; i++) dc_clip_vision_patches(c, pixels + i * m->info.pixels, p.patches + i * values);
    if (!s) s = bench_the_part(&part, &w, out, e);
    free(pixels);
    free(p.patches);
    free(p.out);
    return s;
}

static diffc_status run_clip(diffc_clip *m, wanted w, diffc_bench *out, diffc_error *error)
{
    dc_error e = {0};
    *out = (diffc_bench){0};
    bench_clip(m, w, out, &e);
    return end_bench(out, &m->cancel, &e, error);
}

diffc_status diffc_clip_bench_run(diffc_clip *m, int batch, double seconds, bool profile, diffc_bench *out, diffc_error *error)
{
    return run_clip(m, (wanted){"clip-image", batch, 0, 0, seconds, profile, false}, out, error);
}

diffc_status diffc_clip_bench_plan(diffc_clip *m, int batch, diffc_bench *out, diffc_error *error)
{
    return run_clip(m, (wanted){"clip-image", batch, .plan = true}, out, error);
}

void diffc_bench_free(diffc_bench *b)
{
    free(b->seconds);
    free(b->output);
    free(b->profile);
    free(b->layer);
    *b = (diffc_bench){0};
}
