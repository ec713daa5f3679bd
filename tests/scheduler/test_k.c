/* k-diffusion's samplers, and the rules by which A1111 and ComfyUI run them. Golden: tests/gen/scheduler.py (k-diffusion 0.1.1 in float64, step
 * by step), tests/gen/k_runs.py (both programs' own code, the last state). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mixture.h"

static double number_at(const json_t *o, const char *key, double otherwise)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}
static const char *text_at(const json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }

/* The request of an entry's sampler and options. */
static dc_sampler_request asked(const json_t *entry)
{
    const json_t *o = json_object_get(entry, "options");
    const char *carried;
    dc_sampler_request q = {.sampler = dc_sampler_find(text_at(entry, "sampler"), &carried),
                            .program = DC_A1111,
                            .steps = (int)number_at(entry, "steps", 0),
                            .strength = 1,
                            .eta = number_at(o, "eta", -1),
                            .s_churn = number_at(o, "s_churn", 0),
                            .s_tmin = number_at(o, "s_tmin", 0),
                            .s_tmax = number_at(o, "s_tmax", 0),
                            .s_noise = number_at(o, "s_noise", 0),
                            .order = (int)number_at(o, "order", 0),
                            .solver = text_at(o, "solver_type")};
    if (!q.sampler) fail_msg("%s is not known", text_at(entry, "sampler"));
    return q;
}

static dc_plan build(const dc_sampler_request *q, const char *label)
{
    dc_noise_config c;
    dc_plan p;
    dc_error e = {0};
    dc_noise_config_default(&c);
    if (dc_plan_build(&p, &c, q, &e)) fail_msg("%s: %s", label, e.text);
    return p;
}

/* dpm_adaptive: its trials, in double. State `at` of `states` is compared behind each, when there are states. Returns the noises drawn. */
static int run_trials(dc_plan *p, oracle by, const mixture *m, const float *noise, const json_t *trials, const double *ref, states *last)
{
    states reg[DC_REGS] = {0}, x, before, out[8];
    int used = start(p, noise, x), at = 1;
    memcpy(before, x, sizeof x);
    while (p->n_rows) {
        const dc_trial t = p->trial;
        dc_error e = {0};
        bool accepted;
        double sum = 0;
        memcpy(reg[DC_REG_X], x, sizeof x);
        run_rows(p, by, m, noise, &used, reg, out);
        for (int k = 0; k < ROWS * DIM; k++) { /* dc_trial_error's formula, for doubles */
            double high = ((double *)reg[DC_REG_X])[k] / t.a, low = ((double *)reg[DC_REG_S])[k] / t.a, old = ((double *)before)[k] / t.a_before;
            double d = (low - high) / fmax(t.atol, t.rtol * fmax(fabs(low), fabs(old)));
            sum += d * d;
        }
        double error = sqrt(sum / (ROWS * DIM));
        assert_int_equal(dc_plan_next(p, error, &accepted, &e), DC_OK);
        if (accepted) {
            for (int k = 0; k < ROWS * DIM; k++) ((double *)x)[k] = t.keep * ((double *)reg[DC_REG_X])[k] + t.noise * noise[used * ROWS * DIM + k];
            used++;
            memcpy(before, reg[DC_REG_S], sizeof x);
        }
        const json_t *trial = json_array_get(trials, (size_t)at - 1);
        if (trials && !(fabs(error - number_at(trial, "error", -1)) < 1e-6 * error + 1e-10))
            fail_msg("trial %d: error %.10g, want %.10g", at, error, number_at(trial, "error", -1));
        double scale = p->n_rows ? 1 / (accepted ? t.keep * t.a : 1) : 1; /* rejected ones are compared where they were */
        for (int k = 0; ref && accepted && k < ROWS * DIM; k++) {
            double d = fabs(((double *)x)[k] * scale - ref[at * ROWS * DIM + k]);
            if (!(d < 1e-8)) fail_msg("trial %d: off by %.3g", at, d);
        }
        at++;
    }
    if (trials) assert_int_equal(at - 1, json_array_size(trials));
    memcpy(last, x, sizeof x);
    return used - 1;
}

/* ---- step by step against k-diffusion ----------------------------------------------------------------------------------- */

/* Its states are x0 + sigma eps at the beginning of each step, churned. */
static void states_match(const json_t *entry, const mixture *m, const float *noise)
{
    const char *id = text_at(entry, "id");
    const json_t *sigmas = json_object_get(entry, "sigmas");
    double list[64];
    int n = (int)json_array_size(sigmas) - 1, used;
    for (int i = 0; i <= n; i++) list[i] = json_number_value(json_array_get(sigmas, (size_t)i));
    dc_sampler_request q = asked(entry);
    bool ranged = list[n] > 0; /* dpm_fast and dpm_adaptive get the ends alone */
    if (ranged) q.schedule = "karras", q.sigma_max = list[0], q.sigma_min = list[1];
    else q.sigmas = list, q.n_sigmas = n;
    if (ranged && q.eta < 0) q.eta = 0;                        /* k-diffusion's default, which A1111's is not */
    if (!strcmp(q.sampler, "ipndm")) q.program = DC_DIFFUSERS; /* the entry's last step is of full order */
    dc_plan p = build(&q, id);
    dc_npy ref = read_npy(text_at(entry, "file_f8"));
    double most = 0;
    if (p.adaptive) {
        states last;
        used = run_trials(&p, (oracle){.what = 'e'}, m, noise, json_object_get(entry, "trials"), ref.data, &last);
    } else {
        states *out = calloc((size_t)p.n_rows + 1, sizeof *out);
        used = run(&p, (oracle){.what = 'e'}, m, noise, out);
        if (ref.dim[0] != p.steps + 1) fail_msg("%s: %d steps", id, p.steps);
        for (int i = 0, at = 0; i <= p.n_rows; i++) {
            if (i < p.n_rows && !p.rows[i].begins_step) continue;
            double scale = i < p.n_rows ? hypot(1, p.rows[i].sigma) : 1;
            for (int k = 0; k < ROWS * DIM; k++) most = fmax(most, fabs(((double *)out[i])[k] * scale - ((double *)ref.data)[at * ROWS * DIM + k]));
            at++;
        }
        free(out);
    }
    int want = (int)number_at(entry, "noises_used", 0);
    if (used != want) fail_msg("%s: %d noises drawn, want %d", id, used, want);
    if (!(most < 1e-9)) fail_msg("%s: off by %.3g", id, most);
    free(ref.data);
    dc_plan_free(&p);
}

static void k_trajectories_match(void **unused)
{
    (void)unused;
    mixture m = read_mixture();
    dc_npy noise = read_npy("noise_f4.npy");
    json_t *all = read_json("trajectories.json"), *entry;
    size_t i, n = 0;
    json_array_foreach(all, i, entry) if (!json_object_get(entry, "class")) n++, states_match(entry, &m, noise.data);
    assert_true(n >= 40);
    json_decref(all);
    free(noise.data);
}

/* ---- whole runs by the programs' rules -------------------------------------------------------------------------------------- */

/* Whether it does; all that do not are told. */
static bool run_matches(const json_t *entry, const mixture *m, const float *noise)
{
    dc_sampler_request q = asked(entry);
    const json_t *strength = json_object_get(entry, "strength");
    const char *schedule = text_at(entry, "schedule");
    char label[160];
    snprintf(label, sizeof label, "%s, %s, %s, %d steps%s", text_at(entry, "program"), q.sampler, schedule ? schedule : "its own", q.steps,
             json_is_number(strength) ? ", from an image" : "");
    if (!strcmp(text_at(entry, "program"), "comfyui")) q.program = DC_COMFYUI;
    if (json_is_number(strength)) q.image_start = true, q.strength = json_number_value(strength);
    if (schedule) q.schedule = dc_schedule_find(schedule);
    dc_plan p = build(&q, label);
    states *out = calloc((size_t)p.n_rows + 1, sizeof *out);
    double *last = (double *)out[p.n_rows];
    int used, want = (int)number_at(entry, "noises_used", 0);
    oracle by = {.told = true, .what = 'e'};
    if (p.adaptive) last = (double *)out[0], used = run_trials(&p, by, m, noise, NULL, NULL, &out[0]);
    else used = run(&p, by, m, noise, out);
    if (used && used < want) fail_msg("%s: %d noises drawn, want %d", label, used, want);
    double most = 0;
    for (size_t k = 0; k < ROWS * DIM; k++) most = fmax(most, fabs(last[k] - json_number_value(json_array_get(json_object_get(entry, "final"), k))));
    if (!(most < 1e-9)) print_error("%s: off by %.3g\n", label, most);
    free(out);
    dc_plan_free(&p);
    return most < 1e-9;
}

static void runs_match_the_programs(void **unused)
{
    (void)unused;
    mixture m = read_mixture();
    dc_npy noise = read_npy("noise_f4.npy");
    json_t *all = read_json("k_runs.json"), *entry;
    size_t i;
    assert_true(json_array_size(all) > 100);
    bool fine = true;
    json_array_foreach(all, i, entry) fine &= run_matches(entry, &m, noise.data);
    assert_true(fine);
    json_decref(all);
    free(noise.data);
}

/* ---- lists of sigmas -------------------------------------------------------------------------------------------------------- */

static void list_matches(dc_sampler_request q, const json_t *sigmas, const char *label, double tolerance)
{
    q.sampler = "euler";
    q.strength = 1;
    q.eta = -1;
    dc_plan p = build(&q, label);
    compare_list("sigmas", label, sigmas, p.sigmas, p.n_sigmas, tolerance, 1e-12);
    dc_plan_free(&p);
}

static void lists_match_the_programs(void **unused)
{
    (void)unused;
    json_t *all = read_json("k_lists.json"), *entry;
    size_t i;
    char label[96];
    json_array_foreach(all, i, entry)
    {
        bool comfy = !strcmp(text_at(entry, "program"), "comfyui");
        dc_sampler_request q = {.program = comfy ? DC_COMFYUI : DC_A1111,
                                .schedule = dc_schedule_find(text_at(entry, "schedule")),
                                .steps = (int)number_at(entry, "steps", 0)};
        snprintf(label, sizeof label, "%s, %s, %d steps", text_at(entry, "program"), q.schedule, q.steps);
        list_matches(q, json_object_get(entry, "sigmas"), label, 1e-9);
    }
    json_decref(all);
}

/* From the definitions, at more step counts. A variant says whose, where they differ. */
static void lists_match_their_definitions(void **unused)
{
    (void)unused;
    json_t *all = read_json("k_schedules.json"), *entry;
    size_t i;
    char label[96];
    json_array_foreach(all, i, entry)
    {
        const char *variant = text_at(entry, "variant");
        dc_sampler_request q = {.program = !strncmp(variant, "comfy", 5) ? DC_COMFYUI : DC_A1111,
                                .schedule = dc_schedule_find(text_at(entry, "scheduler")),
                                .sdxl = strstr(variant, "sdxl") != NULL,
                                .rho = !strcmp(variant, "rho0.7") ? 0.7 : 0,
                                .steps = (int)number_at(entry, "steps", 0)};
        snprintf(label, sizeof label, "%s, %s, %d steps", variant, q.schedule, q.steps);
        list_matches(q, json_object_get(entry, "sigmas"), label, 1e-9);
    }
    json_decref(all);
    all = read_json("k_get_sigmas.json");
    json_array_foreach(all, i, entry)
    {
        dc_sampler_request q = {.program = DC_A1111,
                                .schedule = dc_schedule_find(text_at(entry, "fn")),
                                .steps = (int)number_at(entry, "n", 0),
                                .sigma_min = number_at(entry, "sigma_min", 0),
                                .sigma_max = number_at(entry, "sigma_max", 0),
                                .rho = number_at(entry, "rho", 0)};
        const json_t *exact = json_object_get(entry, "sigmas_f8"); /* some are known in float32 alone */
        list_matches(q, exact ? exact : json_object_get(entry, "sigmas_f4"), text_at(entry, "fn"), exact ? 1e-9 : 1e-3);
    }
    json_decref(all);
}

/* ---- orders of convergence ------------------------------------------------------------------------------------------------------ */

/* Largest difference from the exact solution at the lowest sigma of the table, where the last row begins (dpm_fast ends there). */
static double error_after(const char *series, int intervals, const mixture *m, const float *noise, const json_t *exact)
{
    char name[64], label[96];
    const char *slash = strchr(series, '/'), *carried;
    snprintf(name, sizeof name, "%.*s", (int)(slash - series), series);
    snprintf(label, sizeof label, "%s, %d intervals", series, intervals);
    bool fast = !strcmp(name, "dpm_fast");
    dc_sampler_request q = {.sampler = dc_sampler_find(name, &carried),
                            .schedule = strcmp(slash, "/exponential") ? "k_karras" : "k_exponential",
                            .steps = fast ? intervals : intervals + 1,
                            .strength = 1};
    dc_plan p = build(&q, label);
    states *out = calloc((size_t)p.n_rows + 1, sizeof *out);
    run(&p, (oracle){.what = 'e'}, m, noise, out);
    int at = fast ? p.n_rows : p.n_rows - 1;
    double most = 0, scale = fast ? 1 : hypot(1, p.rows[at].sigma);
    for (int k = 0; k < ROWS * DIM; k++)
        most = fmax(most, fabs(((double *)out[at])[k] * scale - json_number_value(json_array_get(exact, (size_t)k))));
    free(out);
    dc_plan_free(&p);
    return most;
}

static void errors_fall_as_they_should(void **unused)
{
    (void)unused;
    mixture m = read_mixture();
    static float silence[64 * ROWS * DIM]; /* the start's noise and no other */
    dc_npy noise = read_npy("noise_f4.npy");
    memcpy(silence, noise.data, ROWS * DIM * sizeof(float));
    json_t *all = read_json("convergence.json"), *exact = json_object_get(json_array_get(all, 0), "exact");
    for (size_t i = 1; i < json_array_size(all); i++) {
        const json_t *entry = json_array_get(all, i), *counts = json_object_get(entry, "intervals");
        const char *series = text_at(entry, "series");
        for (size_t k = 0; k < json_array_size(counts); k++) {
            const json_t *count = json_array_get(counts, k);
            int n = json_is_string(count) ? atoi(json_string_value(count) + 4) : (int)json_integer_value(count);
            double want = json_number_value(json_array_get(json_object_get(entry, "errors"), k));
            if (n > 192) continue;
            double got = error_after(series, n, &m, silence, exact);
            if (!(fabs(got - want) < 1e-3 * want + 1e-9))
                fail_msg("%s, %d intervals: off by %.6g from the exact solution, want %.6g", series, n, got, want);
        }
    }
    json_decref(all);
    free(noise.data);
}

/* ---- what is told and refused ------------------------------------------------------------------------------------------------ */

static void a_schedule_tells_its_steps(void **unused)
{
    (void)unused;
    dc_plan p = build(&(dc_sampler_request){.sampler = "euler", .schedule = "ddim_uniform", .steps = 30, .strength = 1, .eta = -1}, "ddim_uniform");
    assert_int_equal(p.steps, 31);
    assert_string_equal(p.schedule, "ddim_uniform");
    dc_plan_free(&p);
    p = build(&(dc_sampler_request){.sampler = "dpm++2m", .program = DC_A1111, .steps = 20, .strength = 1, .eta = -1}, "automatic");
    assert_string_equal(p.schedule, "karras");
    dc_plan_free(&p);
}

static void impossible_requests_are_refused(void **unused)
{
    (void)unused;
    dc_noise_config c;
    dc_noise_config_default(&c);
    const dc_sampler_request requests[] = {
        {.sampler = "euler_a", .steps = 8, .strength = 1, .s_churn = 2},
        {.sampler = "euler", .steps = 8, .strength = 1, .order = 2},
        {.sampler = "unipc", .steps = 8, .strength = 1, .order = 4},
        {.sampler = "unipc", .steps = 8, .strength = 1, .solver = "heun"},
        {.sampler = "dpm++2m", .steps = 8, .strength = 1, .solver = "bh1"},
        {.sampler = "tcd", .schedule = "simple", .steps = 4, .strength = 1},
        {.sampler = "lcm", .schedule = "trailing", .steps = 4, .strength = 1},
        {.sampler = "ddim", .schedule = "karras", .program = DC_A1111, .steps = 8, .strength = 1},
        {.sampler = "ddim", .program = DC_A1111, .steps = 8, .image_start = true, .strength = 0.1},
        {.sampler = "ddim", .program = DC_A1111, .steps = 1, .strength = 1},
        {.sampler = "euler", .schedule = "simple", .steps = 8, .image_start = true, .strength = 0.05},
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        dc_error e = {0};
        dc_plan p;
        if (dc_plan_build(&p, &c, &requests[i], &e) != DC_USAGE) fail_msg("request %zu was taken", i);
        assert_true(strlen(e.text) > 10);
        assert_null(p.rows);
    }
}

/* Every sampler under every convention and schedule makes finite rows, or a refusal. */
static void all_combinations_are_finite(void **unused)
{
    (void)unused;
    static const int counts[] = {1, 2, 3, 4, 7, 20, 50, 333, 999, 1000};
    int samplers, schedules;
    const char *const *sampler = dc_sampler_names(&samplers), *const *schedule = dc_schedule_names(&schedules);
    dc_noise_config c;
    dc_noise_config_default(&c);
    for (int k = 0; k < samplers * schedules * 10; k++) {
        dc_sampler_request q = {.sampler = sampler[k / schedules / 10], .schedule = schedule[k / 10 % schedules], .steps = counts[k % 10], .eta = -1};
        for (int how = 0; how < 6; how++) {
            q.program = (dc_program)(how % 3);
            q.image_start = how > 2;
            q.strength = how > 2 ? 0.6 : 1;
            dc_error e = {0};
            dc_plan p;
            if (dc_plan_build(&p, &c, &q, &e)) {
                assert_int_equal(e.code, DC_USAGE);
                continue;
            }
            for (int i = 0; i < p.n_rows; i++) {
                double sum = p.rows[i].kx + p.rows[i].km;
                for (int j = 0; j < DC_REGS; j++) sum += p.rows[i].x[j] + p.rows[i].s[j];
                if (!isfinite(sum)) fail_msg("%s, %s, %d steps, way %d: row %d is not finite", q.sampler, q.schedule, q.steps, how, i);
                if (!(p.rows[i].t >= 0 && p.rows[i].t <= 999))
                    fail_msg("%s, %s, %d steps, way %d: timestep %g", q.sampler, q.schedule, q.steps, how, p.rows[i].t);
            }
            dc_plan_free(&p);
        }
    }
}

/* A1111 and ComfyUI's txt2img hand these the range of k-diffusion's table of Stable Diffusion, 0.0292 to 14.6146, whatever the spacing. */
static void own_levels_take_the_tables_range(void **unused)
{
    static const char *const samplers[] = {"dpm_fast", "dpm_adaptive"};
    (void)unused;
    dc_noise_config c;
    dc_noise_config_default(&c);
    strcpy(c.spacing, "trailing");
    for (int i = 0; i < 2; i++) {
        dc_error e = {0};
        dc_plan p;
        if (dc_plan_build(&p, &c, &(dc_sampler_request){.sampler = samplers[i], .steps = 5, .strength = 1, .eta = -1}, &e)) fail_msg("%s", e.text);
        assert_true(fabs(p.sigma_min - 0.029167) < 1e-5 && fabs(p.sigma_max - 14.61464) < 1e-4);
        dc_plan_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(k_trajectories_match),
                                       cmocka_unit_test(runs_match_the_programs),
                                       cmocka_unit_test(lists_match_the_programs),
                                       cmocka_unit_test(lists_match_their_definitions),
                                       cmocka_unit_test(errors_fall_as_they_should),
                                       cmocka_unit_test(a_schedule_tells_its_steps),
                                       cmocka_unit_test(impossible_requests_are_refused),
                                       cmocka_unit_test(own_levels_take_the_tables_range),
                                       cmocka_unit_test(all_combinations_are_finite)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
