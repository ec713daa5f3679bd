/* Whole runs against diffusers: the final latent and the picture of txt2img, img2img and inpainting; threads, batches, stopping, plans. */
#include "golden_runs.h"

/* Calls `what` for every case folder; returns their number. */
static int for_all(void (*what)(const char *folder, const json_t *c))
{
    static const char *const models[] = {"sd1", "sd1-inpaint", "sd1-v", "sd1-zsnr", "sd1-turbo", "sdxl"};
    int n = 0;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[512], folder[800];
        snprintf(path, sizeof path, GOLDEN "txt2img/%s", models[i]);
        DIR *d = opendir(path);
        assert_non_null(d);
        for (struct dirent *x; (x = readdir(d));) {
            if (x->d_name[0] == '.') continue;
            snprintf(folder, sizeof folder, "%s/%s", path, x->d_name);
            json_t *c = read_case(folder);
            what(folder, c);
            json_decref(c);
            n++;
        }
        closedir(d);
    }
    return n;
}

static void check_on_cpu(const char *folder, const json_t *c)
{
    kept k = {0};
    run(folder, c, (diffc_options){0}, &k);
    compare(folder, "auto", c, &k);
    drop(&k);
}

static void runs_match_diffusers(void **state)
{
    (void)state;
    assert_true(for_all(check_on_cpu) >= 21);
}

static void level_matches(void **state) { run_on((diffc_options){.cpu_level = *state}, *state); }
static void level_exact_matches(void **state) { run_on((diffc_options){.cpu_level = *state, .exact = true}, *state); }
static void narrow(void **state) { run_narrow("cpu", *state); }

static void thread_count_does_not_change_a_byte(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 7};
    char folder[512];
    json_t *c = one_case(folder, "sd1/euler_a-64x64");
    kept first = {0};
    for (int i = 0; i < 4; i++) {
        kept k = {0};
        run(folder, c, (diffc_options){.threads = threads[i]}, &k);
        if (i == 0) {
            first = k;
            continue;
        }
        assert_memory_equal(k.latent, first.latent, k.numbers * sizeof(float));
        assert_memory_equal(k.pixels, first.pixels, k.bytes);
        assert_string_equal(k.parameters, first.parameters);
        drop(&k);
    }
    drop(&first);
    json_decref(c);
}

/* ---- more than one picture ------------------------------------------------------------------------------------------- */

typedef struct several {
    int n;
    uint64_t seed[8];
    float *latent[8];
    size_t numbers;
} several;

static diffc_status keep_several(void *user, const diffc_result *r, diffc_error *error)
{
    (void)error;
    several *s = user;
    s->numbers = (size_t)r->latent_dim[0] * (size_t)r->latent_dim[1] * (size_t)r->latent_dim[2];
    s->seed[s->n] = r->seed;
    s->latent[s->n] = malloc(s->numbers * sizeof(float));
    memcpy(s->latent[s->n++], r->latent, s->numbers * sizeof(float));
    return DIFFC_OK;
}

/* Pictures of a batch are those of single runs with seeds N, N+1, ... up to rounding. */
static void a_batch_is_its_single_pictures(void **state)
{
    (void)state;
    diffc_error e = {0};
    diffc_model *m;
    diffc_request q;
    several single = {0}, batch = {0};
    if (diffc_open(&m, &(diffc_options){.model = GOLDEN "models/sd1"}, &e)) fail_msg("%s", e.text);
    diffc_request_defaults(m, &q);
    q.prompt = "a house", q.steps = 3, q.seed = 100, q.count = 5, q.sampler = "euler_a", q.on_image = keep_several;
    q.user = &single;
    if (diffc_generate(m, &q, &e)) fail_msg("%s", e.text);
    q.batch = 2;
    q.user = &batch;
    if (diffc_generate(m, &q, &e)) fail_msg("%s", e.text);
    assert_int_equal(single.n, 5);
    assert_int_equal(batch.n, 5);
    for (int i = 0; i < 5; i++) {
        double most = 0, power = 0;
        assert_int_equal(batch.seed[i], 100 + i);
        for (size_t k = 0; k < single.numbers; k++) {
            most = fmax(most, fabs((double)single.latent[i][k] - batch.latent[i][k]));
            power += (double)single.latent[i][k] * single.latent[i][k];
        }
        assert_true(most < 1e-4 * sqrt(power / (double)single.numbers));
        free(single.latent[i]);
        free(batch.latent[i]);
    }
    diffc_close(m);
}

static bool stop_at_second_step(void *user, const diffc_progress *p)
{
    (void)user;
    return p->stage == DIFFC_STAGE_SAMPLE && p->done >= 2;
}

static void a_stopped_run_makes_nothing_and_the_next_one_works(void **state)
{
    (void)state;
    diffc_error e = {0};
    diffc_model *m;
    diffc_request q;
    kept k = {0};
    if (diffc_open(&m, &(diffc_options){.model = GOLDEN "models/sd1"}, &e)) fail_msg("%s", e.text);
    diffc_request_defaults(m, &q);
    q.prompt = "a house", q.steps = 4, q.on_image = keep, q.user = &k, q.on_progress = stop_at_second_step;
    assert_int_equal(diffc_generate(m, &q, &e), DIFFC_CANCELLED);
    assert_null(k.pixels);
    e = (diffc_error){0};
    q.on_progress = NULL;
    assert_int_equal(diffc_generate(m, &q, &e), DIFFC_OK);
    assert_non_null(k.pixels);
    drop(&k);
    diffc_close(m);
}

/* The plan's peak is what the run takes: checked by the program's own test (tests/cli); here that it is complete and stable. */
static void a_plan_tells_every_stage(void **state)
{
    (void)state;
    diffc_error e = {0};
    diffc_model *m;
    diffc_request q;
    diffc_plan p;
    if (diffc_open(&m, &(diffc_options){.model = GOLDEN "models/sd1"}, &e)) fail_msg("%s", e.text);
    diffc_request_defaults(m, &q);
    q.prompt = "a house";
    assert_int_equal(diffc_plan_request(m, &q, &p, &e), DIFFC_OK);
    assert_int_equal(p.n_stages, 3);
    for (int i = 0; i < 3; i++) assert_true(p.stage[i].buffers > 0 && p.stage[i].gflop > 0);
    assert_true(p.peak > p.stage[1].weights + p.stage[1].buffers);
    diffc_close(m);
    if (diffc_open(&m, &(diffc_options){.model = GOLDEN "models/sd1", .max_memory = 1000000}, &e)) fail_msg("%s", e.text);
    q.user = NULL;
    assert_int_equal(diffc_generate(m, &q, &e), DIFFC_NO_MEMORY);
    assert_non_null(strstr(e.text, "1000000 bytes"));
    diffc_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(runs_match_diffusers),
                                       ON(level_matches, "portable"),
                                       ON(level_matches, "avx2"),
                                       ON(level_matches, "avx512"),
                                       ON(level_exact_matches, "portable"),
                                       ON(level_exact_matches, "avx2"),
                                       ON(level_exact_matches, "avx512"),
                                       ON(narrow, "bf16"),
                                       ON(narrow, "int8"),
                                       cmocka_unit_test(thread_count_does_not_change_a_byte),
                                       cmocka_unit_test(a_batch_is_its_single_pictures),
                                       cmocka_unit_test(a_stopped_run_makes_nothing_and_the_next_one_works),
                                       cmocka_unit_test(a_plan_tells_every_stage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
