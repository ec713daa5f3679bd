/* selftest.c - does this machine compute right? Cases of every op, and a model's parts, beside a device whose sums are trusted. */
#include "pipeline/selftest.h"
#include "base/checked.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one check ------------------------------------------------------------------------------------------------------- */

typedef struct check {
    diffc_selftest *t;
    diffc_check row;
    char name[48], farthest[1400];
    double began;
} check;

static void begin(check *k, diffc_selftest *t, const char *beside, const char *name)
{
    *k = (check){.t = t, .row = {.beside = beside}, .began = dc_seconds()};
    snprintf(k->name, sizeof k->name, "%s", name);
}

/* A case is there: how far it is off, beside its bound; did it give the same bytes again? NaN passes neither. */
static void judge(check *k, double error, double bound, bool steady, const char *what)
{
    diffc_check *row = &k->row;
    if (!row->cases++ || !(error / bound <= row->error / row->bound)) {
        row->error = error, row->bound = bound;
        snprintf(k->farthest, sizeof k->farthest, "%s", what);
    }
    row->wrong += !(error <= bound);
    row->unsteady += !steady;
}

/* A case that ended with an error is wrong, and the others go on; but not after Ctrl-C. */
static dc_status endure(check *k, dc_status s, double bound, const char *what, dc_error *e)
{
    char text[1400];
    if (!s || s == DC_CANCELLED) return s;
    snprintf(text, sizeof text, "%s: %s", what, e->text);
    judge(k, INFINITY, bound, true, text);
    *e = (dc_error){0};
    return DC_OK;
}

static void end(check *k)
{
    diffc_selftest *t = k->t;
    k->row.name = k->name, k->row.farthest = k->farthest;
    k->row.seconds = dc_seconds() - k->began;
    t->checks++;
    t->cases += k->row.cases;
    t->failed += k->row.wrong || k->row.unsteady;
    if (t->on_check) t->on_check(t->user, &k->row);
}

static dc_status go_on(const diffc_selftest *t, const char *name, int done, int total, dc_error *e)
{
    if (t->on_progress && t->on_progress(t->user, name, done, total)) return dc_fail(e, DC_CANCELLED, "stopped");
    return DC_OK;
}

/* ---- ops ------------------------------------------------------------------------------------------------------------- */

/* Twice in one run and, with everything made anew, once in another. */
static dc_status run_case(check *k, dc_device *d, dc_device *beside, const dc_case *c, dc_error *e)
{
    char text[320];
    const size_t n = (size_t)dc_case_count(c), bytes = n * sizeof(float);
    float *v = dc_calloc(4 * n, sizeof *v), *found = v, *again = v + n, *anew = v + 2 * n, *expected = v + 3 * n;
    dc_case_describe(c, text, sizeof text);
    dc_status s = v ? dc_case_run(d, c, found, again, NULL, e) : dc_fail_memory(e, "results", 4 * bytes);
    if (!s) s = dc_case_run(d, c, anew, NULL, NULL, e);
    if (!s) s = dc_case_run(beside, c, expected, NULL, NULL, e);
    if (!s) judge(k, dc_case_error(c, found, expected), dc_case_bound(c, d), !memcmp(found, again, bytes) && !memcmp(found, anew, bytes), text);
    free(v);
    return endure(k, s, dc_case_bound(c, d), text, e);
}

/* Random cases, then those of known sizes. */
dc_status selftest_op(diffc_selftest *t, dc_case_kind kind, dc_device *d, dc_device *beside, dc_error *e)
{
    const int random = t->quick ? 12 : 60;
    uint64_t rng = 1 + (uint64_t)kind;
    check k;
    begin(&k, t, dc_device_summary(beside), dc_case_name(kind));
    dc_status s = DC_OK;
    for (int i = 0; !s; i++) {
        dc_case c;
        if (i < random) dc_case_draw(&c, kind, &rng, t->quick ? DC_CASE_PRODUCTS / 10 : DC_CASE_PRODUCTS);
        else if (t->quick || !dc_case_known(&c, kind, i - random)) break;
        s = dc_case_make(&c, e);
        if (!s) s = run_case(&k, d, beside, &c, e);
        dc_case_free(&c);
        if (!s) s = go_on(t, k.name, i + 1, random, e);
    }
    if (!s) end(&k);
    return s;
}

/* ---- a model --------------------------------------------------------------------------------------------------------- */

typedef struct part {
    const char *what;
    int batch, width, height;
} part;

/* Errors of the library's public functions, which this calls. */
static dc_status inner(diffc_status s, const diffc_error *from, dc_error *e)
{
    if (!s) return DC_OK;
    dc_fail(e, (dc_status)s, "%s", from->text);
    dc_hint(e, "%s", from->hint);
    return (dc_status)s;
}

static void tell_model(const diffc_selftest *t, diffc_model *m)
{
    if (t->on_model) t->on_model(t->user, m);
}

static dc_status one_pass(const diffc_selftest *t, diffc_model *m, diffc_clip *clip, const part *p, diffc_bench *out, dc_error *e)
{
    diffc_error error = {0};
    if (!clip) tell_model(t, m);
    const diffc_status s = clip ? diffc_clip_bench_run(clip, p->batch, 0, false, out, &error)
                                : diffc_bench_run(m, p->what, p->batch, p->width, p->height, 0, false, out, &error);
    tell_model(t, NULL);
    return inner(s, &error, e);
}

/* Of a pass through a model (docs/selftest.md); through a VAE, where float16 is too narrow. */
static double pass_bound(const selftest_pair *x, bool vae)
{
    return vae && !strcmp(dc_device_precision(x->m->device), "f16") ? 4 * 4 * 0x1p-8 : 4 * dc_error_bound(x->m->device, 2880, true);
}

static size_t numbers(const diffc_bench *b)
{
    size_t n = 1;
    for (int i = 0; i < b->rank; i++) n *= (size_t)b->dim[i];
    return n;
}

static dc_status check_part(const selftest_pair *x, const part *p, dc_error *e)
{
    const bool clip = !strcmp(p->what, "clip-image");
    diffc_bench found = {0}, again = {0}, expected = {0};
    char name[48];
    check k;
    snprintf(name, sizeof name, p->width ? "%s %dx%d" : "%s", p->what, p->width, p->height);
    begin(&k, x->t, clip ? diffc_clip_about(x->clip_beside)->device : diffc_device_summary(x->beside), name);
    dc_status s = go_on(x->t, name, 0, 1, e);
    if (!s) s = one_pass(x->t, x->m, clip ? x->clip : NULL, p, &found, e);
    if (!s) s = one_pass(x->t, x->m, clip ? x->clip : NULL, p, &again, e);
    if (!s) s = one_pass(x->t, x->beside, clip ? x->clip_beside : NULL, p, &expected, e);
    if (!s) {
        const size_t n = numbers(&expected);
        judge(&k, dc_relative_error(found.output, expected.output, (int64_t)n, 0), pass_bound(x, p->what[0] == 'v'),
              !memcmp(found.output, again.output, n * sizeof(float)), name);
    }
    s = endure(&k, s, pass_bound(x, false), name, e);
    if (!s) end(&k);
    diffc_bench_free(&found);
    diffc_bench_free(&again);
    diffc_bench_free(&expected);
    return s;
}

/* A picture as numbers from 0 to 2, and its latent. */
typedef struct drawn {
    diffc_selftest *t;
    float *latent, *pixels;
    int64_t n_latent, n_pixels;
} drawn;

static diffc_status take(void *user, const diffc_result *r, diffc_error *error)
{
    drawn *d = user;
    dc_error e = {0};
    d->n_latent = (int64_t)r->latent_dim[0] * r->latent_dim[1] * r->latent_dim[2];
    d->n_pixels = (int64_t)r->image->width * r->image->height * r->image->channels;
    d->latent = dc_calloc((size_t)d->n_latent, sizeof(float));
    d->pixels = dc_calloc((size_t)d->n_pixels, sizeof(float));
    if (!d->latent || !d->pixels) return dc_fail_memory(&e, "a picture", (unsigned long long)d->n_pixels), give_error(error, &e);
    memcpy(d->latent, r->latent, (size_t)d->n_latent * sizeof(float));
    for (int64_t i = 0; i < d->n_pixels; i++) d->pixels[i] = (float)r->image->pixels[i] / 128;
    return DIFFC_OK;
}

static bool on_step(void *user, const diffc_progress *p)
{
    const diffc_selftest *t = ((const drawn *)user)->t;
    return t->on_progress && t->on_progress(t->user, "picture", (int)p->done, (int)p->total);
}

static dc_status draw(diffc_model *m, const selftest_pair *x, drawn *out, dc_error *e)
{
    diffc_error error = {0};
    diffc_request q;
    diffc_request_defaults(m, &q);
    *out = (drawn){.t = x->t};
    q.prompt = "a red apple", q.negative = "", q.seed = 1;
    q.width = q.height = x->t->quick ? x->side / 2 : x->side;
    q.steps = x->t->quick ? 2 : 4;
    q.on_image = take, q.on_progress = on_step, q.user = out;
    tell_model(x->t, m);
    const diffc_status s = diffc_generate(m, &q, &error);
    tell_model(x->t, NULL);
    return inner(s, &error, e);
}

static void drawn_free(drawn *d)
{
    free(d->latent);
    free(d->pixels);
}

static dc_status check_picture(const selftest_pair *x, dc_error *e)
{
    drawn found = {0}, again = {0}, expected = {0};
    check k;
    begin(&k, x->t, diffc_device_summary(x->beside), "picture");
    dc_status s = draw(x->m, x, &found, e);
    if (!s) s = draw(x->m, x, &again, e);
    if (!s) s = draw(x->beside, x, &expected, e);
    if (!s) {
        const bool steady = !memcmp(found.latent, again.latent, (size_t)found.n_latent * sizeof(float)) &&
                            !memcmp(found.pixels, again.pixels, (size_t)found.n_pixels * sizeof(float));
        judge(&k, dc_relative_error(found.latent, expected.latent, found.n_latent, 0), 4 * pass_bound(x, false), steady, "latent");
        judge(&k, dc_relative_error(found.pixels, expected.pixels, found.n_pixels, 0), 4 * pass_bound(x, true) + 1.0 / 256, steady, "pixels");
    }
    s = endure(&k, s, 4 * pass_bound(x, false), "picture", e);
    if (!s) end(&k);
    drawn_free(&found);
    drawn_free(&again);
    drawn_free(&expected);
    return s;
}

/* A side of about so much, that is an odd number of latents. */
static int odd(int latents, int factor) { return (latents > 1 ? (latents - 1) | 1 : 1) * factor; }

dc_status selftest_parts(const selftest_pair *x, dc_error *e)
{
    const int f = dc_vae_configuration(x->m->vae)->factor, side = x->t->quick ? x->side / 2 : x->side, L = side / f;
    const part all[] = {{"clip-text", 2, 0, 0},
                        {"unet", 2, side, side},
                        {"unet", 2, odd(L / 2 + 1, f), odd(L / 2 - 1, f)},
                        {dc_vae_configuration(x->m->vae)->tiny ? "taesd" : "vae", 1, side, odd(L / 2, f)},
                        {"vae-encode", 1, side, odd(L / 2, f)},
                        {"clip-image", 2, 0, 0}};
    dc_status s = DC_OK;
    for (size_t i = 0; !s && i < sizeof all / sizeof *all; i++) {
        if (!strcmp(all[i].what, "vae-encode") && !dc_vae_encoder_params(x->m->vae)) continue;
        if (!strcmp(all[i].what, "clip-image") && !x->clip) continue;
        s = check_part(x, &all[i], e);
    }
    return s ? s : check_picture(x, e);
}

/* The plain loops where a picture is some work for them, else plain sums in float32 without any instruction set. */
static dc_status choose_beside(const diffc_model *m, int side, bool *ref, dc_error *e)
{
    diffc_error error = {0};
    diffc_bench plan = {0};
    dc_status s = inner(diffc_bench_plan((diffc_model *)m, "unet", 2, side, side, &plan, &error), &error, e);
    *ref = plan.gflop < 20;
    diffc_bench_free(&plan);
    return s;
}

/* The same model, computed otherwise. The default model has an encoder of pictures among its kin. */
static dc_status open_pair(selftest_pair *x, const diffc_options *o, dc_error *e)
{
    diffc_error error = {0};
    diffc_options beside = *o;
    bool ref = false;
    dc_status s = inner(diffc_open(&x->m, o, &error), &error, e);
    if (!s) {
        x->side = dc_unet_configuration(x->m->unet)->sample_size * dc_vae_configuration(x->m->vae)->factor;
        s = choose_beside(x->m, x->side, &ref, e);
    }
    beside.device = ref ? "ref" : "cpu", beside.cpu_level = "portable", beside.precision = "f32", beside.exact = true;
    if (!s) s = inner(diffc_open(&x->beside, &beside, &error), &error, e);
    if (!s && !o->model) s = inner(diffc_clip_open(&x->clip, o, &error), &error, e);
    if (!s && !o->model) s = inner(diffc_clip_open(&x->clip_beside, &beside, &error), &error, e);
    return s;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------- */

/* The ops, on a device of their own. */
static dc_status check_ops(diffc_selftest *t, const diffc_options *o, dc_error *e)
{
    dc_device *d = NULL, *ref = NULL;
    dc_status s = model_device(&d, o, NULL, NULL, e);
    if (!s) s = dc_device_open(&ref, &(dc_device_options){.name = "ref"}, e);
    for (int kind = 0; !s && kind < DC_CASE_KINDS; kind++) s = selftest_op(t, (dc_case_kind)kind, d, ref, e);
    dc_device_close(ref);
    dc_device_close(d);
    return s;
}

static void selftest(diffc_selftest *t, const diffc_options *o, dc_error *e)
{
    selftest_pair x = {.t = t};
    dc_status s = open_pair(&x, o, e); /* first, so that a model that is not there is told before the work */
    if (!s) snprintf(t->device, sizeof t->device, "%s", diffc_device_summary(x.m));
    if (!s) s = check_ops(t, o, e);
    if (!s) selftest_parts(&x, e);
    diffc_close(x.m);
    diffc_close(x.beside);
    diffc_clip_close(x.clip);
    diffc_clip_close(x.clip_beside);
}

diffc_status diffc_selftest_run(diffc_selftest *t, const diffc_options *o, diffc_error *error)
{
    static const diffc_options none;
    dc_error e = {0};
    const double began = dc_seconds();
    t->device[0] = 0;
    t->checks = t->failed = t->cases = 0;
    selftest(t, o ? o : &none, &e);
    t->seconds = dc_seconds() - began;
    if (!e.code && t->failed) dc_fail(&e, DC_INTERNAL, "%s: %d of %d checks failed", t->device, t->failed, t->checks);
    return give_error(error, &e);
}
