/* k_levels.c - the rules of A1111 and ComfyUI: which sigmas run, where they start, what image-to-image leaves out. Ref: A1111
 * sd_samplers_kdiffusion.py, sd_samplers_timesteps.py, sd_samplers_lcm.py; ComfyUI samplers.py (KSampler), model_sampling.py. */
#include "base/checked.h"
#include "scheduler/rows.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static bool named(const sampler_class *s, const char *name) { return !strcmp(s->name, name); }
static bool scheduled(const dc_sampler_request *q) { return q->schedule && strcmp(q->schedule, "model") != 0; }
static bool timestep_spacing(const dc_sampler_request *q) { return q->schedule && spacing_known(q->schedule); }

bool k_asked(const sampler_class *s, const dc_sampler_request *q)
{
    if (named(s, "tcd") || timestep_spacing(q)) return false;              /* diffusers has them alone */
    if (q->program != DC_DIFFUSERS || s->flags & OWN_LEVELS) return true;  /* no class of diffusers has these */
    if (q->n_sigmas > 0) return s->family == TIMESTEPS || named(s, "lcm"); /* the classes of these take no sigmas */
    return q->schedule && k_schedule_known(q->schedule);
}

void k_config(dc_noise_config *own, const sampler_class *s, const dc_sampler_request *q)
{
    bool unipc = !strncmp(s->name, "unipc", 5);
    own->solver_order = unipc && q->program != DC_DIFFUSERS ? 3 : 0;
    snprintf(own->solver_type, sizeof own->solver_type, "%s", unipc ? (named(s, "unipc") && q->program != DC_DIFFUSERS ? "bh1" : "bh2") : "");
    own->lower_order_final = unipc;
    own->euler_at_final = 0;
    own->predict_x0 = true;
    own->uncorrected = 0;
    own->timestep_scaling = 10;
}

/* ---- A1111's samplers with timesteps ------------------------------------------------------------------------------------------- */

/* DDIM's and PLMS's list, ascending: every 1000/steps-th timestep from 1 on. */
static int ddim_timesteps(const noise_table *T, int steps, double *t)
{
    int step = T->n / steps > 1 ? T->n / steps : 1, n = (T->n - 1) / step + 1;
    for (int i = 0; i < n; i++) t[i] = fmin(i * step + 1, T->n - 1);
    return n;
}

/* Level at a fractional timestep, linear in log alpha. Ref: UniPC's NoiseScheduleVP. */
static level log_alpha_level(const noise_table *T, double t)
{
    double x = fmin(fmax(t, 0), T->n - 1), whole = fmin(floor(x), T->n - 2);
    int i = (int)whole;
    double ac = exp(log(T->ac[i]) + (x - whole) * (log(T->ac[i + 1]) - log(T->ac[i])));
    return (level){sqrt(ac), sqrt(1 - ac), x};
}

static dc_status no_step(const dc_sampler_request *q, dc_error *e)
{
    return dc_fail(e, DC_USAGE, "strength: found %.6g, which leaves no step of %d, expected a larger one", q->strength, q->steps);
}

/* TRAP: these lists end above sigma 0, the first entry is only a target (20 steps make 19), and image-to-image begins one entry below the
 * one that its noise is for. All of this is A1111's. */
static dc_status fill_timesteps(k_levels *k, work *w, const sampler_class *s, const dc_sampler_request *q, dc_error *e)
{
    const noise_table *T = &w->table;
    int listed = ddim_timesteps(T, q->steps, w->t), top = listed - 1;
    bool unipc = !strncmp(s->name, "unipc", 5);
    k->c_noise = 1;
    if (q->image_start) {
        int kept = (int)(fmin(q->strength, 0.999) * q->steps);
        if (kept < (unipc ? 1 : 2)) return no_step(q, e);
        level start = level_of_t(T, w->t[kept]);
        k->c_image = start.a;
        k->c_noise = start.s;
        top = kept - 1;
    }
    k->n = unipc ? top + 1 : top;
    if (k->n < 1) return dc_fail(e, DC_USAGE, "steps: found %d, expected at least 2 (A1111 makes one less than that)", q->steps);
    if (unipc) {
        double high = q->image_start ? w->t[top] : T->n - 1; /* time t goes from 1 (or (timestep + 1)/1000) to 1/1000 */
        for (int i = 0; i <= k->n; i++) w->L[i] = log_alpha_level(T, high * (1 - (double)i / k->n));
    } else {
        for (int i = 0; i <= k->n; i++) w->L[i] = level_of_t(T, w->t[top - i]);
        if (named(s, "pndm")) k->make = build_plms;
        else if (named(s, "ddim")) k->make = build_first_order;
    }
    for (int i = 0; i < k->n; i++) w->sigma[i] = level_sigma(w->L[i]);
    k->end = level_sigma(w->L[k->n]);
    return DC_OK;
}

/* Timesteps of the distillation, fractional between them; the model is told the nearest. */
static void fill_lcm(k_levels *k, work *w, const dc_noise_config *c, int n)
{
    int count = c->original_steps, skip = w->table.n / count;
    for (int i = 0; i < n; i++) {
        double at = (count - 1) * (n > 1 ? 1 - (double)i / (n - 1) : 1), whole = fmin(floor(at), count - 2);
        const double *sigma = w->table.log_sigma + skip - 1;
        double low = sigma[(int)whole * skip], high = sigma[((int)whole + 1) * skip], f = at - whole;
        w->sigma[i] = exp(low + f * (high - low));
        w->t[i] = (whole + (f > 0.5)) * skip + skip - 1;
        w->L[i] = level_of_sigma(w->sigma[i], w->t[i]);
    }
    k->n = n;
    k->schedule = "model";
}

/* ---- those with sigmas ------------------------------------------------------------------------------------------------------------ */

static const char *default_schedule(const sampler_class *s, const dc_sampler_request *q)
{
    if (q->program == DC_COMFYUI) return "normal";
    bool ranged = s->flags & OWN_LEVELS; /* txt2img hands these the table's range, whatever the schedule */
    return s->automatic && !ranged ? s->automatic : "uniform";
}

/* Samplers for which the last sigma above 0 is left out, and a step more is asked for. */
static bool discards(const sampler_class *s, const dc_sampler_request *q)
{
    if (q->program == DC_A1111) return s->flags & A1111_DISCARDS;
    return q->program == DC_COMFYUI && (s->flags & COMFY_DISCARDS);
}

/* Steps of the schedule, which image-to-image runs only the end of. ComfyUI makes it longer, so that as many as were asked for are run. */
static int schedule_steps(const dc_sampler_request *q)
{
    if (q->program != DC_COMFYUI || !q->image_start || q->strength > 0.9999) return q->steps;
    return q->strength * 100000 > q->steps ? (int)(q->steps / q->strength) : 100000;
}

static int left_out(const dc_sampler_request *q, int asked, int n)
{
    if (!q->image_start) return 0;
    int skip = n - (int)(asked * q->strength);
    if (q->program == DC_A1111) skip = asked - (int)(fmin(q->strength, 0.999) * asked) - 1;
    if (q->program == DC_COMFYUI && q->n_sigmas == 0) skip = q->strength > 0.9999 ? 0 : n - asked;
    return skip > 0 ? skip : 0;
}

static dc_status fill_sigmas(k_levels *k, work *w, const sampler_class *s, const dc_sampler_request *q, dc_error *e)
{
    const noise_table *T = &w->table;
    int asked = q->n_sigmas > 0 ? q->n_sigmas : q->steps;
    k->n = q->n_sigmas;
    if (q->n_sigmas > 0) memcpy(w->sigma, q->sigmas, (size_t)k->n * sizeof *w->sigma);
    else k->n = k_schedule(T, k->schedule, q, schedule_steps(q) + discards(s, q), w->sigma, &k->end);
    if (q->n_sigmas == 0 && discards(s, q) && k->n > 1) k->n--;
    k->skip = left_out(q, asked, k->n);
    if (k->skip >= k->n) return no_step(q, e);
    bool comfy_unipc = q->program == DC_COMFYUI && !strncmp(s->name, "unipc", 5);
    if (comfy_unipc && k->end < 0.001) k->end = 0.001;
    for (int i = 0; i < k->n; i++) w->t[i] = noise_t_of_sigma(T, w->sigma[i]);
    for (int i = 0; i < k->n; i++) w->L[i] = level_of_sigma(w->sigma[i], w->t[i]);
    w->L[k->n] = (level){1, k->end, 0};
    level first = w->L[k->skip];
    double sigma = w->sigma[k->skip], high = T->sigma[T->n - 1];
    k->c_image = q->image_start ? first.a : 0;
    k->c_noise = first.s;
    /* at the table's end ComfyUI gives x the variance of noise and picture together */
    if (q->program == DC_COMFYUI && (sigma > high || fabs(sigma - high) <= 1e-5 * fmax(sigma, high))) k->c_noise = 1;
    return DC_OK;
}

dc_status k_fill(k_levels *k, work *w, const sampler_class *s, const dc_noise_config *c, const dc_sampler_request *q, dc_error *e)
{
    *k = (k_levels){.schedule = scheduled(q) ? q->schedule : default_schedule(s, q)};
    w->table.nearest = q->program == DC_COMFYUI;
    dc_status st = work_allocate(w, (schedule_steps(q) > w->table.n ? schedule_steps(q) : w->table.n) + 2, e);
    if (st) return st;
    bool a1111 = q->program == DC_A1111 && q->n_sigmas == 0;
    bool timesteps = a1111 && (s->flags & A1111_TIMESTEPS);
    if ((timesteps || (a1111 && named(s, "lcm"))) && scheduled(q)) {
        st = dc_fail(e, DC_USAGE, "scheduler: found %s with the sampler %s, which has its own timesteps in A1111", q->schedule, s->name);
        dc_hint(e, "Leave --scheduler out.");
        return st;
    }
    if (named(s, "pndm")) k->make = build_plms;
    if (timesteps) {
        k->schedule = "model";
        return fill_timesteps(k, w, s, q, e);
    }
    if (a1111 && named(s, "lcm")) {
        fill_lcm(k, w, c, q->steps);
        w->L[k->n] = (level){1, 0, 0};
        k->skip = left_out(q, q->steps, k->n);
        k->c_image = q->image_start ? w->L[k->skip].a : 0;
        k->c_noise = w->L[k->skip].s;
        return DC_OK;
    }
    return fill_sigmas(k, w, s, q, e);
}
