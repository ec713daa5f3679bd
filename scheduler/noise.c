/* noise.c - scheduler_config.json, and the training schedule it describes. */
#include "base/checked.h"
#include "base/text.h"
#include "scheduler/rows.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TRAIN_STEPS 100000

void dc_noise_config_default(dc_noise_config *c)
{
    *c = (dc_noise_config){.train_steps = 1000,
                           .beta_start = 0.00085,
                           .beta_end = 0.012,
                           .beta_schedule = "scaled_linear",
                           .steps_offset = 1,
                           .set_alpha_to_one = 0,
                           .skip_prk_steps = 1,
                           .original_steps = 50,
                           .timestep_scaling = 10,
                           .predict_x0 = true,
                           .lower_order_final = -1,
                           .euler_at_final = -1};
}

void dc_noise_config_free(dc_noise_config *c)
{
    free(c->trained_betas);
    c->trained_betas = NULL;
}

/* One of the named values, copied into out. */
static void read_choice(const dc_config *f, const char *key, char *out, size_t size, const char *const *known, int n)
{
    const char *v = dc_config_string(f, key, NULL);
    if (!v) return;
    for (int i = 0; i < n; i++)
        if (!strcmp(v, known[i])) {
            snprintf(out, size, "%s", v);
            return;
        }
    dc_text all = {0};
    for (int i = 0; i < n; i++) dc_text_printf(&all, "%s%s", i ? i + 1 < n ? ", " : " or " : "", known[i]);
    dc_fail(f->e, DC_DATA, "%s: %s: found %s, expected %s", f->path, key, v, all.at ? all.at : "another");
    dc_text_free(&all);
}
#define CHOICE(key, field, ...)                                                                                                                      \
    do {                                                                                                                                             \
        static const char *const known[] = {__VA_ARGS__};                                                                                            \
        read_choice(&f, key, c->field, sizeof c->field, known, (int)(sizeof known / sizeof *known));                                                 \
    } while (0)

static int read_tri(const dc_config *f, const char *key) { return dc_config_has(f, key) ? dc_config_bool(f, key, false) : -1; }

static void read_betas(dc_noise_config *c, const dc_config *f)
{
    const json_t *v = json_object_get(f->root, "trained_betas");
    if (f->e->code || !v || json_is_null(v)) return;
    if (!json_is_array(v) || json_array_size(v) != (size_t)c->train_steps) {
        dc_fail(f->e, DC_DATA, "%s: trained_betas: found %zu values, expected num_train_timesteps (%d)", f->path, json_array_size(v), c->train_steps);
        return;
    }
    c->trained_betas = dc_calloc((size_t)c->train_steps, sizeof(double));
    if (!c->trained_betas) dc_fail_memory(f->e, "betas", (unsigned long long)c->train_steps * 8);
    for (int i = 0; c->trained_betas && i < c->train_steps; i++) {
        c->trained_betas[i] = json_number_value(json_array_get(v, (size_t)i));
        if (!(c->trained_betas[i] > 0 && c->trained_betas[i] < 1))
            dc_fail(f->e, DC_DATA, "%s: trained_betas: value %d: expected one between 0 and 1", f->path, i);
    }
}

/* UniPC's disable_corrector: a list of steps. */
static void read_uncorrected(dc_noise_config *c, const dc_config *f)
{
    const json_t *v = json_object_get(f->root, "disable_corrector"), *one;
    size_t i;
    if (f->e->code || !json_is_array(v)) return;
    json_array_foreach(v, i, one)
    {
        json_int_t step = json_integer_value(one);
        if (json_is_integer(one) && step >= 0 && step < 64) c->uncorrected |= 1ull << step;
        else dc_fail(f->e, DC_DATA, "%s: disable_corrector: value %zu: expected a step from 0 to 63", f->path, i + 1);
    }
}

/* Keys that would change every picture and mean something that is not there. */
static void refuse_others(const dc_noise_config *c, const dc_config *f)
{
    if (f->e->code) return;
    if (c->thresholding) dc_fail(f->e, DC_DATA, "%s: thresholding: found true, expected false (no latent model uses it)", f->path);
    else if (dc_config_bool(f, "use_flow_sigmas", false))
        dc_fail(f->e, DC_DATA, "%s: use_flow_sigmas: found true, expected false (flow matching is another kind of model)", f->path);
    else if (!strcmp(dc_config_string(f, "timestep_type", "discrete"), "continuous") && c->prediction == DC_PREDICT_V)
        dc_fail(f->e, DC_DATA, "%s: timestep_type: found continuous, expected discrete", f->path);
    else if (strcmp(dc_config_string(f, "interpolation_type", "linear"), "linear") != 0)
        dc_fail(f->e, DC_DATA, "%s: interpolation_type: found %s, expected linear", f->path, dc_config_string(f, "interpolation_type", ""));
}

dc_status dc_noise_config_read(dc_noise_config *c, const json_t *root, const char *path, dc_error *e)
{
    dc_error own = {0};
    dc_config f = {root, path, e ? e : &own};
    char prediction[16] = "epsilon";
    dc_noise_config_default(c);
    if (!json_is_object(root)) return dc_fail(e, DC_DATA, "%s: found no JSON object, expected the configuration of a scheduler", path);
    /* Absent keys mean the scheduler class's defaults, which are DDPM's betas; files of Stable Diffusion always say theirs. */
    c->beta_start = 0.0001;
    c->beta_end = 0.02;
    strcpy(c->beta_schedule, "linear");
    snprintf(c->class_name, sizeof c->class_name, "%s", dc_config_string(&f, "_class_name", ""));
    c->train_steps = (int)dc_config_int(&f, "num_train_timesteps", 1000, 2, MAX_TRAIN_STEPS);
    c->beta_start = dc_config_real(&f, "beta_start", c->beta_start, 1e-12, 0.999);
    c->beta_end = dc_config_real(&f, "beta_end", c->beta_end, 1e-12, 0.999);
    CHOICE("beta_schedule", beta_schedule, "scaled_linear", "linear", "squaredcos_cap_v2");
    CHOICE("timestep_spacing", spacing, "leading", "trailing", "linspace");
    CHOICE("solver_type", solver_type, "midpoint", "heun", "bh1", "bh2", "logrho");
    CHOICE("final_sigmas_type", final_sigmas_type, "zero", "sigma_min");
    CHOICE("algorithm_type", algorithm_type, "dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver", "deis");
    const char *p = dc_config_string(&f, "prediction_type", "epsilon");
    snprintf(prediction, sizeof prediction, "%s", p);
    c->prediction = !strcmp(p, "v_prediction") ? DC_PREDICT_V : !strcmp(p, "sample") ? DC_PREDICT_SAMPLE : DC_PREDICT_EPSILON;
    if (c->prediction == DC_PREDICT_EPSILON && strcmp(p, "epsilon"))
        dc_fail(f.e, DC_DATA, "%s: prediction_type: found %s, expected epsilon, v_prediction or sample", path, p);
    c->steps_offset = (int)dc_config_int(&f, "steps_offset", 0, 0, 1000);
    c->set_alpha_to_one = read_tri(&f, "set_alpha_to_one");
    c->skip_prk_steps = read_tri(&f, "skip_prk_steps");
    c->rescale_zero_snr = dc_config_bool(&f, "rescale_betas_zero_snr", false);
    c->use_karras = dc_config_bool(&f, "use_karras_sigmas", false);
    c->use_exponential = dc_config_bool(&f, "use_exponential_sigmas", false);
    c->use_beta = dc_config_bool(&f, "use_beta_sigmas", false);
    c->use_lu = dc_config_bool(&f, "use_lu_lambdas", false);
    c->sigma_min = dc_config_real(&f, "sigma_min", 0, 0, 1e6);
    c->sigma_max = dc_config_real(&f, "sigma_max", 0, 0, 1e6);
    c->original_steps = (int)dc_config_int(&f, "original_inference_steps", 50, 1, c->train_steps);
    c->timestep_scaling = dc_config_real(&f, "timestep_scaling", 10, 1e-6, 1e6);
    c->solver_order = (int)dc_config_int(&f, "solver_order", 0, 0, 3);
    c->lower_order_final = read_tri(&f, "lower_order_final");
    c->euler_at_final = read_tri(&f, "euler_at_final");
    c->clip_sample = dc_config_bool(&f, "clip_sample", false);
    c->thresholding = dc_config_bool(&f, "thresholding", false);
    c->predict_x0 = dc_config_bool(&f, "predict_x0", true);
    read_betas(c, &f);
    read_uncorrected(c, &f);
    refuse_others(c, &f);
    return f.e->code;
}

/* ---- the table ---------------------------------------------------------------------------------------------------- */

/* Ref: Nichol & Dhariwal 2021, eq. 17 (squaredcos_cap_v2). */
static double cosine_bar(double t)
{
    double c = cos((t + 0.008) / 1.008 * M_PI / 2);
    return c * c;
}

static double beta_at(const dc_noise_config *c, int i)
{
    double u = c->train_steps > 1 ? (double)i / (c->train_steps - 1) : 0;
    if (c->trained_betas) return c->trained_betas[i];
    if (!strcmp(c->beta_schedule, "linear")) return c->beta_start + u * (c->beta_end - c->beta_start);
    if (!strcmp(c->beta_schedule, "squaredcos_cap_v2"))
        return fmin(1 - cosine_bar((i + 1.0) / c->train_steps) / cosine_bar((double)i / c->train_steps), 0.999);
    double root = sqrt(c->beta_start) + u * (sqrt(c->beta_end) - sqrt(c->beta_start));
    return root * root;
}

/* Shifts and scales sqrt(ac) so that the last is 0 and the first stays. Ref: Lin et al. 2023, algorithm 1. */
static void rescale_zero_snr(double *ac, int n)
{
    double first = sqrt(ac[0]), last = sqrt(ac[n - 1]);
    for (int i = 0; i < n; i++) {
        double r = (sqrt(ac[i]) - last) * first / (first - last);
        ac[i] = r * r;
    }
}

dc_status noise_table_make(noise_table *t, const dc_noise_config *c, zero_snr zero, dc_error *e)
{
    *t = (noise_table){.n = c->train_steps, .ac = dc_calloc((size_t)c->train_steps, 3 * sizeof(double))};
    if (!t->ac) return dc_fail_memory(e, "the noise schedule", (unsigned long long)c->train_steps * 24);
    t->sigma = t->ac + t->n;
    t->log_sigma = t->sigma + t->n;
    double product = 1;
    for (int i = 0; i < t->n; i++) t->ac[i] = product *= 1 - beta_at(c, i);
    if (c->rescale_zero_snr && zero != ZERO_SNR_IGNORED) {
        rescale_zero_snr(t->ac, t->n);
        t->ac[t->n - 1] = zero == ZERO_SNR_FLOORED ? 0x1p-24 : zero == ZERO_SNR_K ? 4.8973451890853435e-08 : 0;
    }
    for (int i = 0; i < t->n; i++) {
        t->sigma[i] = t->ac[i] > 0 ? sqrt((1 - t->ac[i]) / t->ac[i]) : INFINITY;
        t->log_sigma[i] = log(t->sigma[i]);
    }
    return DC_OK;
}

void noise_table_free(noise_table *t)
{
    free(t->ac);
    *t = (noise_table){0};
}

double noise_t_of_sigma(const noise_table *t, double sigma)
{
    double x = log(fmax(sigma, 1e-10));
    int i = 0;
    if (x <= t->log_sigma[0]) return 0;
    if (x >= t->log_sigma[t->n - 1]) return t->n - 1;
    while (i + 2 < t->n && t->log_sigma[i + 1] < x) i++;
    double at = i + (x - t->log_sigma[i]) / (t->log_sigma[i + 1] - t->log_sigma[i]);
    return t->nearest ? rint(at) : at;
}

double noise_sigma_of_t(const noise_table *t, double timestep)
{
    double x = fmin(fmax(timestep, 0), t->n - 1), whole = floor(x);
    int i = (int)whole;
    if (x == whole || i + 1 >= t->n) return t->sigma[i];
    return t->sigma[i] + (x - whole) * (t->sigma[i + 1] - t->sigma[i]);
}

double noise_log_linear(const noise_table *t, double timestep)
{
    double x = fmin(fmax(timestep, 0), t->n - 1), whole = floor(x);
    int i = (int)whole;
    if (x == whole) return t->sigma[i];
    return exp(t->log_sigma[i] + (x - whole) * (t->log_sigma[i + 1] - t->log_sigma[i]));
}

level level_of_sigma(double sigma, double t)
{
    if (isinf(sigma)) return (level){0, 1, t};
    double r = hypot(1, sigma);
    return (level){1 / r, sigma / r, t};
}

level level_of_t(const noise_table *t, double timestep)
{
    int i = (int)fmin(fmax(timestep, 0), t->n - 1);
    double ac = t->ac[i];
    return (level){sqrt(ac), sqrt(1 - ac), timestep};
}

level level_between(const noise_table *table, double sigma) { return level_of_sigma(sigma, noise_t_of_sigma(table, sigma)); }

double level_lambda(level l) { return log(l.a / l.s); }
