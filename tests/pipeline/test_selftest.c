/* test_selftest.c - does the self-test notice a device that is wrong, and let one pass that only rounds as its precision says? The devices are the
 * reference device, with something done to what its functions get and give. */
#include "backends/backend.h"
#include "pipeline/selftest.h"
#include "tests/unet/golden.h"
#include <math.h>

/* ---- a device that rounds --------------------------------------------------------------------------------------------- */

static int kept; /* bits of the mantissa behind the point: 7 bfloat16, 10 half precision */

static float rounded(float v)
{
    uint32_t u, below = 1u << (23 - kept);
    memcpy(&u, &v, sizeof u);
    if (!isfinite(v)) return v;
    u = (u + below / 2 - 1 + (u / below & 1)) & ~(below - 1);
    memcpy(&v, &u, sizeof u);
    return v;
}

static void round_tensor(dc_tensor t)
{
    for (int64_t i = 0, C = dc_channels(t); !dc_is_none(t) && i < dc_rows(t); i++)
        for (int64_t c = 0; c < C; c++) ((float *)t.data)[i * t.stride + c] = rounded(((float *)t.data)[i * t.stride + c]);
}

/* Weights but those of norms. */
static dc_status rounding_prepare(dc_device *d, dc_param *p, dc_error *e)
{
    dc_status s = dc_backend_ref.param_prepare(d, p, e);
    for (uint64_t i = 0; !s && p->desc.kind != DC_PARAM_NORM && i < p->form_bytes / sizeof(float); i++)
        ((float *)p->form)[i] = rounded(((float *)p->form)[i]);
    return s;
}

static dc_status rounding_conv2d(dc_device *d, const dc_conv_args *a, void *scratch)
{
    round_tensor(a->x), round_tensor(a->o.pre.x2), round_tensor(a->o.add), round_tensor(a->o.residual);
    round_tensor(a->o.strip.above), round_tensor(a->o.strip.below);
    dc_status s = dc_backend_ref.conv2d(d, a, scratch);
    return round_tensor(a->y), s;
}

static dc_status rounding_linear(dc_device *d, const dc_linear_args *a, void *scratch)
{
    round_tensor(a->x), round_tensor(a->o.pre.x2), round_tensor(a->o.residual);
    dc_status s = dc_backend_ref.linear(d, a, scratch);
    return round_tensor(a->y), s;
}

static dc_status rounding_attention(dc_device *d, const dc_attention_args *a, void *scratch)
{
    round_tensor(a->q), round_tensor(a->k), round_tensor(a->v);
    dc_status s = dc_backend_ref.attention(d, a, scratch);
    return round_tensor(a->y), s;
}

static dc_status rounding_norm(dc_device *d, const dc_norm_args *a, void *scratch)
{
    round_tensor(a->x);
    dc_status s = dc_backend_ref.norm(d, a, scratch);
    return round_tensor(a->y), s;
}

static dc_status rounding_activate(dc_device *d, const dc_act_args *a)
{
    round_tensor(a->x);
    dc_status s = dc_backend_ref.activate(d, a);
    return round_tensor(a->y), s;
}

/* ---- devices with one fault each -------------------------------------------------------------------------------------- */

typedef enum fault {
    NUDGED,
    MISSING,
    UNSTEADY,
    REFUSED,
    FAULTS
} fault; /* a number that is a little off, one that is NaN, one that changes; an error */
static fault the_fault;
static int calls;

static dc_status harm(dc_tensor y)
{
    const int64_t last = (dc_rows(y) - 1) * y.stride + dc_channels(y) - 1;
    float *v = (float *)y.data + last;
    if (the_fault == REFUSED) return DC_IO;
    if (y.dtype == DC_U8) ((uint8_t *)y.data)[last] = (uint8_t)(((uint8_t *)y.data)[last] ^ (the_fault == UNSTEADY ? calls++ & 1 : 0x80));
    else if (y.dtype == DC_F64) ((double *)y.data)[last] *= the_fault == NUDGED ? 1.5 : the_fault == MISSING ? NAN : 1 + 1e-3 * (calls++ & 1);
    else if (the_fault == NUDGED) *v += 0.02f;
    else if (the_fault == MISSING) *v = NAN;
    else *v += 1e-5f * (float)(calls++ & 1);
    return DC_OK;
}

#define HARMED(op, args)                                                                                                                             \
    static dc_status harmed_##op(dc_device *d, const args *a)                                                                                        \
    {                                                                                                                                                \
        dc_status s = dc_backend_ref.op(d, a);                                                                                                       \
        return s ? s : harm(a->y);                                                                                                                   \
    }
#define HARMED_WITH_SCRATCH(op, args)                                                                                                                \
    static dc_status harmed_##op(dc_device *d, const args *a, void *scratch)                                                                         \
    {                                                                                                                                                \
        dc_status s = dc_backend_ref.op(d, a, scratch);                                                                                              \
        return s ? s : harm(a->y);                                                                                                                   \
    }
HARMED_WITH_SCRATCH(conv2d, dc_conv_args)
HARMED_WITH_SCRATCH(linear, dc_linear_args)
HARMED_WITH_SCRATCH(norm, dc_norm_args)
HARMED_WITH_SCRATCH(attention, dc_attention_args)
HARMED(group_sums, dc_group_sums_args)
HARMED(group_scale, dc_group_scale_args)
HARMED(embed, dc_embed_args)
HARMED(gather_rows, dc_gather_args)
HARMED(timestep_embedding, dc_timestep_args)
HARMED(lincomb, dc_lincomb_args)
HARMED(activate, dc_act_args)
HARMED(rescale_std, dc_rescale_args)
HARMED(to_rgb8, dc_rgb8_args)

static dc_status harmed_stats(dc_device *d, const dc_stats_args *a)
{
    dc_status s = dc_backend_ref.stats(d, a);
    if (the_fault == REFUSED) return DC_IO;
    a->host->mean += the_fault == NUDGED ? 0.01 : the_fault == MISSING ? NAN : 1e-5 * (calls++ & 1);
    return s;
}

/* ---- running ---------------------------------------------------------------------------------------------------------- */

static dc_device *reference(const dc_backend *be)
{
    dc_device *d = NULL;
    assert_int_equal(dc_device_open(&d, &(dc_device_options){.name = "ref"}, NULL), DC_OK);
    if (be) d->be = be;
    return d;
}

static bool say_failed; /* what is beyond its bound */
static void on_check(void *user, const diffc_check *c)
{
    double *most = user;
    if (c->cases) *most = fmax(*most, c->error / c->bound);
    if (say_failed && c->wrong) print_message("%s: %g, at most %g: %s\n", c->name, c->error, c->bound, c->farthest);
}

static int failures(const dc_backend *be, dc_precision precision, dc_case_kind from, dc_case_kind to, double *most)
{
    dc_device *d = reference(be), *ref = reference(NULL);
    diffc_selftest t = {.quick = true, .on_check = on_check, .user = most};
    dc_error e = {0};
    *most = 0;
    d->precision = precision;
    for (int k = from; k <= (int)to; k++) must(selftest_op(&t, (dc_case_kind)k, d, ref, &e), &e);
    dc_device_close(d);
    dc_device_close(ref);
    return t.failed;
}

static void test_itself(void **state)
{
    (void)state;
    double most;
    say_failed = true;
    assert_int_equal(failures(NULL, DC_PRECISION_F32, 0, DC_CASE_KINDS - 1, &most), 0);
    assert_float_equal(most, 0, 0);
    say_failed = false;
}

/* One wrong number in each result. */
static void test_faults(void **state)
{
    (void)state;
    double most;
    for (the_fault = 0; the_fault < FAULTS; the_fault++) {
#define CAUGHT(op, kind)                                                                                                                             \
    {                                                                                                                                                \
        dc_backend be = dc_backend_ref;                                                                                                              \
        be.op = harmed_##op;                                                                                                                         \
        if (failures(&be, DC_PRECISION_F32, kind, kind, &most) != 1) fail_msg("fault %d of " #op " was not noticed", the_fault);                     \
    }
        CAUGHT(conv2d, DC_CASE_CONV)
        CAUGHT(conv2d, DC_CASE_STRIPS)
        CAUGHT(group_sums, DC_CASE_STRIPS)
        CAUGHT(group_scale, DC_CASE_STRIPS)
        CAUGHT(linear, DC_CASE_LINEAR)
        CAUGHT(linear, DC_CASE_GEGLU)
        CAUGHT(attention, DC_CASE_ATTENTION)
        CAUGHT(norm, DC_CASE_GROUP_NORM)
        CAUGHT(norm, DC_CASE_LAYER_NORM)
        CAUGHT(embed, DC_CASE_EMBED)
        CAUGHT(gather_rows, DC_CASE_GATHER)
        CAUGHT(timestep_embedding, DC_CASE_TIMESTEP)
        CAUGHT(lincomb, DC_CASE_LINCOMB)
        CAUGHT(activate, DC_CASE_ACTIVATE)
        CAUGHT(rescale_std, DC_CASE_RESCALE)
        CAUGHT(stats, DC_CASE_STATS)
        CAUGHT(to_rgb8, DC_CASE_RGB8)
    }
}

static dc_backend rounding(void)
{
    dc_backend be = dc_backend_ref;
    be.param_prepare = rounding_prepare;
    be.conv2d = rounding_conv2d, be.linear = rounding_linear, be.norm = rounding_norm, be.attention = rounding_attention;
    be.activate = rounding_activate;
    return be;
}

/* The bounds of bf16 and f16 let their own roundings pass, and not those of a format with three bits less. */
static void test_rounding(void **state)
{
    (void)state;
    static const dc_precision precisions[] = {DC_PRECISION_BF16, DC_PRECISION_F16};
    static const int bits[] = {7, 10};
    const dc_backend be = rounding();
    for (int i = 0; i < 2; i++) {
        double most;
        kept = bits[i];
        say_failed = true;
        int failed = failures(&be, precisions[i], 0, DC_CASE_KINDS - 1, &most);
        print_message("%s: at most %.0f %% of the bound\n", dc_precision_name(precisions[i]), 100 * most);
        assert_int_equal(failed, 0);
        kept = bits[i] - 3;
        say_failed = false;
        failed = failures(&be, precisions[i], 0, DC_CASE_KINDS - 1, &most);
        print_message("with three bits less: %d checks fail\n", failed);
        assert_true(failed >= 6);
    }
}

/* The same with the parts of the default model and a picture; and what calls itself float32 but has ten bits, as NVIDIA's TF32, does not pass. */
static void test_model(void **state)
{
    (void)state;
    static const dc_precision precisions[] = {DC_PRECISION_BF16, DC_PRECISION_F16, DC_PRECISION_F32};
    static const int bits[] = {7, 10, 10};
    const dc_backend be = rounding();
    for (int i = 0; i < 3; i++) {
        double most = 0;
        diffc_selftest t = {.quick = true, .on_check = on_check, .user = &most};
        selftest_pair x = {.t = &t, .side = 64};
        diffc_error error = {0};
        dc_error e = {0};
        kept = bits[i];
        if (diffc_open(&x.m, &(diffc_options){.device = "ref"}, &error) || diffc_open(&x.beside, &(diffc_options){.device = "cpu"}, &error))
            fail_msg("%s", error.text);
        x.m->device->be = &be;
        x.m->device->precision = precisions[i];
        must(selftest_parts(&x, &e), &e);
        print_message("%s: at most %.0f %% of the bound, %d of %d checks fail\n", dc_precision_name(precisions[i]), 100 * most, t.failed, t.checks);
        if (i < 2) assert_int_equal(t.failed, 0);
        else assert_true(t.failed > 0);
        diffc_close(x.m);
        diffc_close(x.beside);
    }
}

/* It stops between cases when it is told to. */
static bool stop(void *user, const char *name, int done, int total) { return (void)user, (void)name, (void)total, done == 2; }
static void test_stop(void **state)
{
    (void)state;
    diffc_selftest t = {.quick = true, .on_progress = stop};
    diffc_error error = {0};
    assert_int_equal(diffc_selftest_run(&t, &(diffc_options){.device = "cpu"}, &error), DIFFC_CANCELLED);
    assert_int_equal(t.checks, 0);
    error = (diffc_error){0};
    assert_int_equal(diffc_selftest_run(&t, &(diffc_options){.device = "abacus"}, &error), DIFFC_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_itself), cmocka_unit_test(test_faults), cmocka_unit_test(test_rounding),
                                       cmocka_unit_test(test_model), cmocka_unit_test(test_stop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
