/* Samplers and schedules against diffusers and k-diffusion: timesteps, sigmas, and whole trajectories on an analytic denoiser.
 * Golden: tests/gen/scheduler.py, scheduler_runs.py (float64 runs of diffusers 0.42.1 and k-diffusion 0.1.1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mixture.h"

/* The class's config over Stable Diffusion's betas, which the list leaves out. */
static void read_config(dc_noise_config *c, const json_t *entry)
{
    dc_error e = {0};
    json_t *conf = json_deep_copy(json_object_get(entry, "config"));
    if (!json_object_get(conf, "beta_start")) json_object_set_new(conf, "beta_start", json_real(0.00085));
    if (!json_object_get(conf, "beta_end")) json_object_set_new(conf, "beta_end", json_real(0.012));
    if (!json_object_get(conf, "beta_schedule")) json_object_set_new(conf, "beta_schedule", json_string("scaled_linear"));
    json_object_set(conf, "_class_name", json_object_get(entry, "class"));
    if (dc_noise_config_read(c, conf, "config", &e)) fail_msg("%s", e.text);
    json_decref(conf);
}

/* The plan of an entry's class; strength: image-to-image when the entry has one. */
static dc_plan build(const json_t *entry, double eta)
{
    dc_noise_config c;
    dc_error e = {0};
    dc_plan p;
    const json_t *strength = json_object_get(entry, "strength");
    dc_sampler_request q = {.steps = (int)json_integer_value(json_object_get(entry, "steps")), .strength = 1, .eta = eta};
    if (json_is_number(strength)) q.image_start = true, q.strength = json_number_value(strength);
    read_config(&c, entry);
    if (dc_plan_build(&p, &c, &q, &e)) fail_msg("%s", e.text);
    dc_noise_config_free(&c);
    return p;
}

static void schedules_match_diffusers(void **state)
{
    (void)state;
    json_t *all = read_json("schedules.json"), *entry;
    size_t i;
    assert_true(json_array_size(all) > 100);
    json_array_foreach(all, i, entry)
    {
        dc_plan p = build(entry, -1);
        char label[96];
        const char *sampler = json_string_value(json_object_get(entry, "label"));
        snprintf(label, sizeof label, "%s, %d steps, %s", sampler, (int)json_integer_value(json_object_get(entry, "steps")),
                 json_string_value(json_object_get(json_object_get(entry, "config"), "timestep_spacing")));
        /* diffusers' tables are float32: sigma moves by up to 1.3e-5, the fractional timestep of a sigma with it */
        compare_list("timesteps", label, json_object_get(entry, "timesteps"), p.timesteps, p.n_timesteps, 1e-6, 2e-2);
        if (json_object_get(entry, "sigmas")) compare_list("sigmas", label, json_object_get(entry, "sigmas"), p.sigmas, p.n_sigmas, 3e-5, 1e-9);
        dc_plan_free(&p);
    }
    json_decref(all);
}

/* ---- trajectories ----------------------------------------------------------------------------------------------------- */

/* States of the reference are in its own space: sigma-space classes keep x = x0 + sigma eps, ours have unit variance. */
static void trajectory_matches(const json_t *entry, const mixture *m, const float *noise)
{
    const char *id = json_string_value(json_object_get(entry, "id"));
    double eta = json_number_value(json_object_get(json_object_get(entry, "step_arguments"), "eta"));
    dc_plan p = build(entry, json_object_get(json_object_get(entry, "step_arguments"), "eta") ? eta : -1);
    dc_npy ref = read_npy(json_string_value(json_object_get(entry, "file_f8")));
    char what = *json_string_value(json_object_get(json_object_get(entry, "config"), "prediction_type"));
    bool own = json_number_value(json_object_get(entry, "init_noise_sigma")) != 1.0;
    states *out = calloc((size_t)p.n_rows + 1, sizeof *out);
    int used = run(&p, (oracle){.levels = json_object_get(entry, "model_alpha_sigma"), .what = what}, m, noise, out);
    if (ref.dim[0] != p.n_rows + 1) fail_msg("%s: %d rows, want %d", id, p.n_rows, (int)ref.dim[0] - 1);
    if (used != json_integer_value(json_object_get(entry, "noises_used")))
        fail_msg("%s: %d noises drawn, want %d", id, used, (int)json_integer_value(json_object_get(entry, "noises_used")));
    double most = 0;
    for (int i = 0; i <= p.n_rows; i++)
        for (int k = 0; k < ROWS * DIM; k++) {
            double scale = own && i < p.n_rows ? hypot(1, p.rows[i].sigma) : 1; /* the end is in the class's own units */
            most = fmax(most, fabs(((double *)out[i])[k] * scale - ((double *)ref.data)[i * ROWS * DIM + k]));
        }
    /* measured 1e-13 to 1e-11; Euler at zero SNR starts at sigma 4096 */
    if (!(most < 1e-9)) fail_msg("%s: off by %.3g", id, most);
    free(out);
    free(ref.data);
    dc_plan_free(&p);
}

static void trajectories_match(void **unused)
{
    (void)unused;
    mixture m = read_mixture();
    dc_npy noise = read_npy("noise_f4.npy");
    json_t *all = read_json("trajectories.json"), *entry;
    size_t i;
    assert_true(json_array_size(all) > 110);
    json_array_foreach(all, i, entry) if (json_object_get(entry, "class")) trajectory_matches(entry, &m, noise.data);
    json_decref(all);
    free(noise.data);
}

/* Image-to-image, odd step counts and the rarer keys of scheduler_config.json: the last state, in the class's own units. */
static void run_matches(const json_t *entry, const mixture *m, const float *noise)
{
    const json_t *config = json_object_get(entry, "config"), *eta = json_object_get(entry, "eta"), *final = json_object_get(entry, "final");
    const char *prediction = json_string_value(json_object_get(config, "prediction_type"));
    char *name = json_dumps(config, JSON_COMPACT), label[600];
    snprintf(label, sizeof label, "%s, %d steps, %.500s", json_string_value(json_object_get(entry, "class")),
             (int)json_integer_value(json_object_get(entry, "steps")), name);
    free(name);
    dc_plan p = build(entry, json_is_number(eta) ? json_number_value(eta) : -1);
    compare_list("timesteps", label, json_object_get(entry, "timesteps"), p.timesteps, p.n_timesteps, 0, 1e-9);
    states *out = calloc((size_t)p.n_rows + 1, sizeof *out);
    int used = run(&p, (oracle){.levels = json_object_get(entry, "model_alpha_sigma"), .what = prediction ? *prediction : 'e'}, m, noise, out);
    if (used != json_integer_value(json_object_get(entry, "noises_used"))) fail_msg("%s: %d noises drawn", label, used);
    compare_list("final state", label, final, (double *)out[p.n_rows], ROWS * DIM, 0, 1e-8);
    free(out);
    dc_plan_free(&p);
}

static void runs_match_diffusers(void **unused)
{
    (void)unused;
    mixture m = read_mixture();
    dc_npy noise = read_npy("noise_f4.npy");
    json_t *all = read_json("runs.json"), *entry;
    size_t i;
    assert_true(json_array_size(all) > 120);
    json_array_foreach(all, i, entry) run_matches(entry, &m, noise.data);
    json_decref(all);
    free(noise.data);
}

/* ---- names and refusals ------------------------------------------------------------------------------------------------ */

static void names_of_other_programs_are_known(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"Euler a", "euler_a", NULL},
        {"euler_ancestral", "euler_a", NULL},
        {"DPM++ 2M Karras", "dpm++2m", "karras"},
        {"dpmpp_2m", "dpm++2m", NULL},
        {"PLMS", "pndm", NULL},
        {"UniPC", "unipc", NULL},
        {"uni_pc_bh2", "unipc_bh2", NULL},
        {"LMS Karras", "lms", "karras"},
        {"DDIMScheduler", "ddim", NULL},
        {"dpm++2m", "dpm++2m", NULL},
        {"Heun", "heun", NULL},
        {"LCM", "lcm", NULL},
        {"DPM2 a Karras", "dpm2_a", "karras"},
        {"DPM++ 2S a", "dpm++2s_a", NULL},
        {"dpmpp_3m_sde_gpu", "dpm++3m_sde", NULL},
        {"DPM++ 2M SDE Exponential", "dpm++2m_sde", "exponential"},
        {"KDPM2AncestralDiscreteScheduler", "dpm2_a", NULL},
        {"k_dpmpp_sde", "dpm++sde", NULL},
        {"ipndm", "ipndm", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *schedule, *got = dc_sampler_find(rows[i][0], &schedule);
        assert_non_null(got);
        assert_string_equal(got, rows[i][1]);
        if (rows[i][2]) assert_string_equal(schedule, rows[i][2]);
        else assert_null(schedule);
    }
    int n;
    const char *schedule, *const *names = dc_sampler_names(&n); /* every name is found, by itself and by its label */
    for (int i = 0; i < n; i++) {
        assert_string_equal(dc_sampler_find(names[i], &schedule), names[i]);
        assert_string_equal(dc_sampler_find(dc_sampler_label(names[i]), &schedule), names[i]);
    }
    assert_null(dc_sampler_find("eulre", &schedule));
    assert_null(dc_sampler_find("karras", &schedule));
    assert_string_equal(dc_schedule_find("Karras"), "karras");
}

static void impossible_requests_are_refused(void **state)
{
    (void)state;
    dc_noise_config c;
    dc_noise_config_default(&c);
    double bad[] = {5, 7};
    const dc_sampler_request requests[] = {
        {.sampler = "euler", .steps = 0, .strength = 1},
        {.sampler = "euler", .steps = 1001, .strength = 1},
        {.sampler = "ddim", .schedule = "karras", .steps = 5, .strength = 1},
        {.sampler = "lcm", .steps = 51, .strength = 1},
        {.sampler = "nothing", .steps = 5, .strength = 1},
        {.sampler = "euler", .steps = 5, .strength = 1, .eta = 0.5},
        {.sampler = "pndm", .schedule = "beta", .steps = 5, .strength = 1},
        {.sampler = "euler", .schedule = "nothing", .steps = 5, .strength = 1},
        {.sampler = "euler", .steps = 5, .image_start = true, .strength = 0.1},
        {.sampler = "euler", .sigmas = bad, .n_sigmas = 2, .strength = 1},
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        dc_error e = {0};
        dc_plan p;
        assert_int_equal(dc_plan_build(&p, &c, &requests[i], &e), DC_USAGE);
        assert_true(strlen(e.text) > 10);
        assert_null(p.rows);
    }
}

/* Every step count of every sampler makes finite coefficients, or a refusal. */
static void all_step_counts_are_finite(void **state)
{
    (void)state;
    static const char *const spacings[] = {"leading", "trailing", "linspace"};
    int n_names;
    const char *const *names = dc_sampler_names(&n_names);
    dc_noise_config c;
    dc_noise_config_default(&c);
    for (int k = 0; k < n_names * 6; k++) {
        strcpy(c.spacing, spacings[k % 3]);
        c.steps_offset = k % 2;
        for (int n = 1; n <= 1000; n += n < 24 || n > 996 ? 1 : 17) {
            dc_error e = {0};
            dc_plan p;
            dc_sampler_request q = {.sampler = names[k / 6], .steps = n, .strength = 1, .eta = -1};
            dc_status s = dc_plan_build(&p, &c, &q, &e);
            if (s && !(s == DC_USAGE && n > 50 && strstr(e.text, "distillation"))) fail_msg("%s, %d steps: %s", q.sampler, n, e.text);
            for (int i = 0; i < p.n_rows; i++) {
                double sum = p.rows[i].kx + p.rows[i].km;
                for (int j = 0; j < DC_REGS; j++) sum += p.rows[i].x[j] + p.rows[i].s[j];
                if (!isfinite(sum)) fail_msg("%s, %d steps, row %d is not finite", q.sampler, n, i);
                if (!(p.rows[i].t >= 0 && p.rows[i].t <= 999)) fail_msg("%s, %d steps, row %d: timestep %g", q.sampler, n, i, p.rows[i].t);
            }
            dc_plan_free(&p);
        }
    }
}

static void zero_snr_needs_v(void **state)
{
    (void)state;
    dc_error e = {0};
    dc_plan p;
    dc_noise_config c;
    dc_noise_config_default(&c);
    c.rescale_zero_snr = true;
    strcpy(c.spacing, "trailing");
    dc_sampler_request q = {.sampler = "ddim", .steps = 10, .strength = 1, .eta = -1};
    assert_int_equal(dc_plan_build(&p, &c, &q, &e), DC_USAGE);
    assert_non_null(strstr(e.text, "timestep 999"));
    c.prediction = DC_PREDICT_V;
    assert_int_equal(dc_plan_build(&p, &c, &q, &e), DC_OK);
    assert_true(isinf(p.rows[0].sigma));
    dc_plan_free(&p);
}

static void keys_that_mean_another_model_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"{\"use_flow_sigmas\": true}",
                                      "{\"thresholding\": true}",
                                      "{\"beta_schedule\": \"sigmoid\"}",
                                      "{\"prediction_type\": \"flow_prediction\"}",
                                      "{\"interpolation_type\": \"log_linear\"}",
                                      "{\"timestep_type\": \"continuous\", \"prediction_type\": \"v_prediction\"}",
                                      "{\"trained_betas\": [0.1]}",
                                      "{\"disable_corrector\": [99]}",
                                      "{\"num_train_timesteps\": 0}",
                                      "{\"beta_start\": \"x\"}",
                                      "{\"timestep_spacing\": \"even\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        dc_error e = {0};
        dc_noise_config c;
        json_t *root = NULL;
        assert_int_equal(dc_json_parse(&root, "config", bad[i], strlen(bad[i]), &e), DC_OK);
        if (dc_noise_config_read(&c, root, "config", &e) != DC_DATA) fail_msg("%s was taken", bad[i]);
        assert_true(strlen(e.text) > 10);
        dc_noise_config_free(&c);
        json_decref(root);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(schedules_match_diffusers),
                                       cmocka_unit_test(trajectories_match),
                                       cmocka_unit_test(runs_match_diffusers),
                                       cmocka_unit_test(all_step_counts_are_finite),
                                       cmocka_unit_test(zero_snr_needs_v),
                                       cmocka_unit_test(keys_that_mean_another_model_are_refused),
                                       cmocka_unit_test(names_of_other_programs_are_known),
                                       cmocka_unit_test(impossible_requests_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
