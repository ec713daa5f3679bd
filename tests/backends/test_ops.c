/* test_ops.c - every op and option on every device and instruction set, against float64 results of torch (tests/gen/ops.py). Outputs,
 * scratch and everything dead are NaN before they are written, and nothing may be written outside of the tensors. */
#include "backends/run.h"
#include "ops_data.h"

typedef struct op_case {
    const json_t *o;
    const char *op;
    dc_param *k, *norm, *table, *positions;
    input x, x2, add, residual, q, key, v, guided, cond, term[8];
    int terms;
    dc_stats stats;
    uint8_t *out; /* of `bytes` */
    size_t bytes;
} op_case;

/* ---- one function an op: what it is called with --------------------------------------------------------------- */

static dc_pre pre_of(op_case *c, dc_run *r)
{
    return (dc_pre){.x2 = upload_input(r, &c->x2),
                    .norm = c->norm,
                    .groups = (int)integer(c->o, "groups"),
                    .eps = (float)number(c->o, "eps"),
                    .act = act_of(c->o, "pre_act"),
                    .h = (int)integer(c->o, "h"),
                    .w = (int)integer(c->o, "w")};
}

static dc_tensor conv2d(op_case *c, dc_run *r)
{
    dc_conv_opt o = {.pre = pre_of(c, r), .stride = (int)integer(c->o, "stride"), .act = act_of(c->o, "act")};
    for (size_t i = 0; i < 4; i++) o.pad[i] = (int)json_integer_value(json_array_get(json_object_get(c->o, "pad"), i));
    o.add = upload_input(r, &c->add);
    o.residual = upload_input(r, &c->residual);
    return dc_conv2d(r, upload_input(r, &c->x), c->k, o);
}

static dc_tensor linear(op_case *c, dc_run *r)
{
    dc_linear_opt o = {.pre = pre_of(c, r), .residual = upload_input(r, &c->residual), .act = act_of(c->o, "act")};
    return dc_linear(r, upload_input(r, &c->x), c->k, o);
}

static dc_tensor group_norm(op_case *c, dc_run *r)
{
    return dc_group_norm(r, upload_input(r, &c->x), c->norm, (int)integer(c->o, "groups"), (float)number(c->o, "eps"), act_of(c->o, "act"));
}

static dc_tensor layer_norm(op_case *c, dc_run *r) { return dc_layer_norm(r, upload_input(r, &c->x), c->norm, (float)number(c->o, "eps")); }

static dc_tensor attention(op_case *c, dc_run *r)
{
    dc_attention_opt o = {.heads = (int)integer(c->o, "heads"),
                          .scale = (float)number(c->o, "scale"),
                          .causal = flag(c->o, "causal"),
                          .keys = (int)integer(c->o, "keys")};
    dc_tensor q = upload_input(r, &c->q), k = upload_input(r, &c->key), v = upload_input(r, &c->v);
    return dc_attention(r, q, k, v, o);
}

/* A JSON array (of arrays) of numbers as an uploaded tensor. */
static dc_tensor upload_list(dc_run *r, const json_t *list, dc_dtype type)
{
    const json_t *first = json_array_get(list, 0);
    int64_t dim[2] = {(int64_t)json_array_size(list), (int64_t)json_array_size(first)}, per = dim[1] ? dim[1] : 1;
    int32_t ids[64];
    float floats[64];
    assert_true(dim[0] * per <= 64);
    for (int64_t i = 0; i < dim[0] * per; i++) {
        const json_t *row = json_array_get(list, (size_t)(i / per)), *v = dim[1] ? json_array_get(row, (size_t)(i % per)) : row;
        ids[i] = (int32_t)json_integer_value(v);
        floats[i] = (float)json_number_value(v);
    }
    return dc_upload(r, type, dim[1] ? 2 : 1, dim, type == DC_I32 ? (void *)ids : floats);
}

static dc_tensor embed(op_case *c, dc_run *r) { return dc_embed(r, upload_list(r, json_object_get(c->o, "ids"), DC_I32), c->table, c->positions); }
static dc_tensor gather_rows(op_case *c, dc_run *r)
{
    dc_tensor x = upload_input(r, &c->x);
    return dc_gather_rows(r, x, upload_list(r, json_object_get(c->o, "index"), DC_I32));
}

static dc_tensor timestep_embedding(op_case *c, dc_run *r)
{
    dc_timestep_opt o = {.dim = (int)integer(c->o, "dim"), .flip_sin_to_cos = flag(c->o, "flip"), .freq_shift = (float)number(c->o, "shift")};
    return dc_timestep_embedding(r, upload_list(r, json_object_get(c->o, "times"), DC_F32), o);
}

static dc_tensor lincomb(op_case *c, dc_run *r)
{
    dc_term t[8];
    for (int i = 0; i < c->terms; i++)
        t[i] = (dc_term){(float)number(json_array_get(json_object_get(c->o, "terms"), (size_t)i), "k"), upload_input(r, &c->term[i])};
    if (!flag(c->o, "into")) return dc_lincomb(r, t, c->terms);
    dc_lincomb_into(r, t[0].x, t, c->terms);
    return t[0].x;
}

static dc_tensor activate(op_case *c, dc_run *r) { return dc_activate(r, upload_input(r, &c->x), act_of(c->o, "act")); }
static dc_tensor rescale_std(op_case *c, dc_run *r)
{
    dc_tensor guided = upload_input(r, &c->guided);
    return dc_rescale_std(r, guided, upload_input(r, &c->cond), (float)number(c->o, "phi"));
}
static dc_tensor to_rgb8(op_case *c, dc_run *r) { return dc_to_rgb8(r, upload_input(r, &c->x)); }
static dc_tensor stats(op_case *c, dc_run *r) { return dc_stats_of(r, upload_input(r, &c->x), &c->stats), DC_NONE; }

static void pass(void *ctx, dc_run *r)
{
    static const struct {
        const char *op;
        dc_tensor (*call)(op_case *c, dc_run *r);
    } ops[] = {{"conv2d", conv2d},       {"linear", linear},     {"group_norm", group_norm},   {"layer_norm", layer_norm},
               {"attention", attention}, {"embed", embed},       {"gather_rows", gather_rows}, {"timestep_embedding", timestep_embedding},
               {"lincomb", lincomb},     {"activate", activate}, {"rescale_std", rescale_std}, {"stats", stats},
               {"to_rgb8", to_rgb8}};
    op_case *c = ctx;
    size_t i = 0;
    while (strcmp(ops[i].op, c->op)) assert_true(++i < sizeof ops / sizeof *ops);
    dc_tensor y = ops[i].call(c, r);
    if (dc_is_none(y)) return;
    assert_int_equal((size_t)dc_numel(y) * (y.dtype == DC_U8 ? 1 : sizeof(float)), c->bytes); /* halves come as floats */
    dc_download(r, y, c->out);
}

/* ---- judging -------------------------------------------------------------------------------------------------------- */

/* Largest error of a number, in units of the tolerance of the RMS error: results of a hundred times the RMS are rare, and so are errors. */
enum { WORST = 16 };

/* |found - expected| relative to the RMS of `expected`; the tolerance is for the RMS error, and WORST of it for one number. */
static bool judge(const char *where, const char *name, const float *found, const uint8_t *expected, int64_t n, double tolerance, double *share)
{
    double square = 0, error = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        float e;
        memcpy(&e, expected + (size_t)i * 4, 4);
        double d = fabs((double)found[i] - e);
        square += (double)e * e;
        error += d * d;
        if (!(d <= worst)) worst = d; /* NaN stays */
    }
    double rms = square > 0 ? sqrt(square / (double)n) : 1;
    error = sqrt(error / (double)n) / rms;
    worst /= rms;
    if (tolerance > 0) *share = fmax(*share, fmax(error, worst / WORST) / tolerance);
    if (error <= tolerance && worst <= WORST * tolerance) return true;
    print_message("%s: %s: RMS error %.3g, worst %.3g; tolerance %.3g\n", where, name, error, worst, tolerance);
    return false;
}

/* Four numbers, each within the tolerance of itself. */
static bool judge_stats(const char *where, const char *name, const dc_stats *s, const uint8_t *expected, double tolerance)
{
    float e[4];
    memcpy(e, expected, sizeof e);
    bool good = fabs(s->mean - e[0]) <= tolerance * fabsf(e[0]) && fabs(s->deviation - e[1]) <= tolerance * e[1] &&
                fabs(s->absmax - e[2]) <= tolerance * e[2] && s->non_finite == 0;
    if (!good) print_message("%s: %s: found %g %g %g %lld\n", where, name, s->mean, s->deviation, s->absmax, (long long)s->non_finite);
    return good;
}

/* least: the tolerance of ops whose own is smaller; loss: how many times the tolerance convolutions may be off. */
static bool run_case(dc_device *d, const store *s, const json_t *o, double least, double loss, double *share)
{
    const char *name = json_string_value(json_object_get(o, "name")), *where = dc_device_summary(d);
    owned memory = {0};
    dc_params *set = dc_params_new(d, "ops");
    dc_error e = {0};
    op_case c = {.o = o, .op = json_string_value(json_object_get(o, "op"))};
    const uint8_t *expected = stored(s, name, &c.bytes);
    struct {
        const char *key;
        dc_param **param;
    } params[] = {{"param", &c.k}, {"norm", &c.norm}, {"table", &c.table}, {"positions", &c.positions}};
    struct {
        const char *key;
        input *in;
    } inputs[] = {{"x", &c.x},   {"x2", &c.x2}, {"add", &c.add},       {"residual", &c.residual}, {"q", &c.q},
                  {"k", &c.key}, {"v", &c.v},   {"guided", &c.guided}, {"cond", &c.cond}};
    for (size_t i = 0; i < sizeof params / sizeof *params; i++) *params[i].param = param_of(s, json_object_get(o, params[i].key), set, &memory);
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) *inputs[i].in = input_of(json_object_get(o, inputs[i].key));
    c.terms = (int)json_array_size(json_object_get(o, "terms"));
    for (int i = 0; i < c.terms; i++) c.term[i] = input_of(json_array_get(json_object_get(o, "terms"), (size_t)i));
    c.out = malloc(c.bytes);
    memset(c.out, 0xff, c.bytes);

    dc_run *r = dc_run_new(d);
    dc_run_set_guard(r, true);
    dc_status status = dc_params_prepare(set, NULL, NULL, &e);
    if (!status) status = dc_run_plan(r, pass, &c, &e);
    if (!status) status = dc_run_reserve(r, &e);
    if (!status) status = dc_run_pass(r, pass, &c, &e);
    bool good = status == DC_OK;
    if (!good) print_message("%s: %s: %s\n", where, name, e.text);
    else if (!strcmp(c.op, "stats")) good = judge_stats(where, name, &c.stats, expected, fmax(least, number(o, "tolerance")));
    else if (!strcmp(c.op, "to_rgb8")) good = !memcmp(c.out, expected, c.bytes);
    else
        good = judge(where, name, (const float *)c.out, expected, (int64_t)c.bytes / 4,
                     (strcmp(c.op, "conv2d") ? 1 : loss) * fmax(least, number(o, "tolerance")), share);

    dc_run_free(r);
    dc_params_free(set);
    for (int i = 0; i < memory.n; i++) free(memory.at[i]);
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) free(inputs[i].in->data);
    for (int i = 0; i < c.terms; i++) free(c.term[i].data);
    free(c.out);
    return good;
}

/* All cases on one device. */
static void run_on(const dc_device_options *options, double least, double loss)
{
    dc_device *d = NULL;
    dc_error e = {0};
    dc_status status = dc_device_open(&d, options, &e);
    if (status == DC_UNAVAILABLE) {
        print_message("skipped: %s\n", e.text);
        skip();
    }
    assert_int_equal(status, DC_OK);
    store s = store_open();
    int failed = 0;
    double share = 0;
    for (size_t i = 0; i < json_array_size(s.cases); i++) failed += !run_case(d, &s, json_array_get(s.cases, i), least, loss, &share);
    print_message("%s: %d cases, %d failed, at most %.0f %% of the tolerance\n", dc_device_summary(d), (int)json_array_size(s.cases), failed,
                  100 * share);
    assert_true(json_array_size(s.cases) > 150);
    store_close(&s);
    dc_device_close(d);
    assert_int_equal(failed, 0);
}

#ifdef TEST_CUDA
/* The CUDA device of the module beside this program. Its halves: inputs and weights are rounded once, and what comes out; the error of sums of
 * many products averages out to about one rounding (2^-12 and 2^-9 of a number on average), of few to some. */
static void test_f32(void **state) { (void)state, run_on(&(dc_device_options){.name = "cuda", .precision = "f32"}, 0, 1); }
static void test_f16(void **state) { (void)state, run_on(&(dc_device_options){.name = "cuda", .precision = "f16"}, 0x1p-10, 1); }
static void test_bf16(void **state) { (void)state, run_on(&(dc_device_options){.name = "cuda", .precision = "bf16"}, 0x1p-7, 1); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32), cmocka_unit_test(test_f16), cmocka_unit_test(test_bf16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
static void run_all(const char *device, const char *level, int threads, bool exact)
{
    run_on(&(dc_device_options){.name = device, .threads = threads, .cpu_level = level, .exact = exact}, 0, exact ? 1 : WINOGRAD_LOSS);
}
static void test_ref(void **state) { (void)state, run_all("ref", NULL, 1, true); }
static void test_portable(void **state) { (void)state, run_all("cpu", "portable", 2, true), run_all("cpu", "portable", 2, false); }
static void test_avx2(void **state) { (void)state, run_all("cpu", "avx2", 2, true), run_all("cpu", "avx2", 2, false); }
static void test_avx512(void **state) { (void)state, run_all("cpu", "avx512", 2, true), run_all("cpu", "avx512", 2, false); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ref), cmocka_unit_test(test_portable), cmocka_unit_test(test_avx2),
                                       cmocka_unit_test(test_avx512)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
