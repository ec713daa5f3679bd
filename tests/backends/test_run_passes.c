/* test_run_passes.c - what a pass promises: states, kept tensors, sticky errors, cancelling, taps, the profile, no allocation; and that the
 * guards which the other tests rely on can see a broken device. */
#include "backends/run.h"
#include "cpu_cases.h"

/* ---- counting allocations: the C library's own functions behind ours ------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define COUNTS 0
#endif
#endif
#if !defined(COUNTS) && defined(__GLIBC__)
#define COUNTS 1
#elif !defined(COUNTS)
#define COUNTS 0
#endif

static atomic_int allocations;
#if COUNTS
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void *malloc(size_t n) { return atomic_fetch_add(&allocations, 1), __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return atomic_fetch_add(&allocations, 1), __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return atomic_fetch_add(&allocations, 1), __libc_realloc(p, n); }
void *aligned_alloc(size_t align, size_t n) { return atomic_fetch_add(&allocations, 1), __libc_memalign(align, n); }
#endif

/* ---- a pass with every op ----------------------------------------------------------------------------------------- */

typedef struct everything {
    dc_params *set;
    dc_param *conv, *linear, *geglu, *norm, *table;
    int32_t ids[6], index[2];
    float x[2 * 6 * 5 * 16], times[2], out[2 * 6 * 5 * 16], vector[64];
    uint8_t pixels[2 * 6 * 5 * 3];
    dc_stats stats;
    atomic_int *cancel; /* raised in the middle of the pass */
    int bad_id;
} everything;

static dc_param *param(dc_params *set, dc_param_kind kind, int out, int in, int k, bool geglu, const float *data)
{
    return dc_params_add(set, &(dc_param_desc){.name = "FILE: layer",
                                               .kind = kind,
                                               .out = out,
                                               .in = in,
                                               .kh = k,
                                               .kw = k,
                                               .geglu = geglu,
                                               .n_weight = 1,
                                               .weight = {{data, DC_F32, out}}});
}

static void fill(everything *v, dc_device *d, float *data)
{
    *v = (everything){.set = dc_params_new(d, "everything"), .ids = {0, 3, 1, 2, 3, 3}, .index = {2, 0}, .times = {1, 999}};
    v->conv = param(v->set, DC_PARAM_CONV, 16, 16, 3, false, data);
    v->linear = param(v->set, DC_PARAM_LINEAR, 16, 16, 1, false, data);
    v->geglu = param(v->set, DC_PARAM_LINEAR, 32, 16, 1, true, data);
    v->norm = param(v->set, DC_PARAM_NORM, 16, 1, 1, false, data);
    v->table = param(v->set, DC_PARAM_TABLE, 4, 16, 1, false, data);
    for (int i = 0; i < 2 * 6 * 5 * 16; i++) v->x[i] = data[i];
    assert_int_equal(dc_params_prepare(v->set, NULL, NULL, NULL), DC_OK);
}

static void every_op(void *ctx, dc_run *r)
{
    everything *v = ctx;
    dc_pre pre = {.norm = v->norm, .groups = 4, .eps = 1e-5f, .act = DC_ACT_SILU};
    dc_tensor x = dc_upload(r, DC_F32, 4, DIMS(2, 6, 5, 16), v->x), s = dc_state(r, DC_F32, 4, DIMS(2, 6, 5, 16));
    dc_scope(r, "block.%d", 0);
    dc_tensor t = dc_timestep_embedding(r, dc_upload(r, DC_F32, 1, DIMS(2), v->times), (dc_timestep_opt){.dim = 16, .flip_sin_to_cos = true});
    dc_tensor h = dc_conv2d(r, x, v->conv, (dc_conv_opt){.pre = pre, .pad = {1, 1, 1, 1}, .add = t, .residual = x});
    dc_tap(r, "conv", h);
    dc_tensor tokens = dc_view_tokens(h);
    tokens = dc_linear(r, dc_layer_norm(r, tokens, v->norm, 1e-5f), v->linear, (dc_linear_opt){.residual = tokens});
    if (v->cancel && !dc_run_planning(r)) atomic_store(v->cancel, 1);
    tokens = dc_linear(r, tokens, v->geglu, (dc_linear_opt){0});
    tokens = dc_attention(r, tokens, tokens, tokens, (dc_attention_opt){.heads = 2});
    dc_scope_end(r);
    h = dc_group_norm(r, dc_view_image(tokens, 6, 5), v->norm, 4, 1e-5f, DC_ACT_NONE);
    dc_tensor text = dc_embed(r, dc_upload(r, DC_I32, 2, DIMS(2, 3), v->ids), v->table, v->table);
    dc_tensor pooled = dc_gather_rows(r, text, dc_upload(r, DC_I32, 1, DIMS(2), v->index));
    dc_download(r, dc_activate(r, pooled, DC_ACT_GELU), v->vector);
    dc_lincomb_into(r, s, (dc_term[]){{1, s}, {0.5f, h}}, 2);
    h = dc_rescale_std(r, dc_lincomb(r, (dc_term[]){{1, s}, {2, h}}, 2), h, 0.5f);
    dc_stats_of(r, h, &v->stats);
    dc_tensor three = dc_new(r, DC_F32, 4, DIMS(2, 6, 5, 3));
    dc_lincomb_into(r, three, (dc_term[]){{1, dc_view_channels(h, 2, 3)}}, 1);
    dc_download(r, dc_to_rgb8(r, three), v->pixels);
    dc_download(r, h, v->out);
}

static float *some_data(void) { return random_floats(16 * 16 * 9, 0.5f, 0, 11); }

static void test_no_allocation(void **state)
{
    (void)state;
    if (!COUNTS) {
        print_message("skipped: allocations cannot be counted in this build\n");
        skip();
    }
    float *data = some_data();
    for (int i = 0; i < 4; i++) {
        dc_device *d = NULL;
        everything v;
        if (i == 0) assert_int_equal(dc_device_open(&d, &(dc_device_options){.name = "ref"}, NULL), DC_OK);
        else if (!(d = cpu_open(cpu_levels[i - 1], 3, NULL))) continue;
        fill(&v, d, data);
        dc_run *r = dc_run_new(d);
        dc_run_set_profile(r, true);
        assert_int_equal(dc_run_plan(r, every_op, &v, NULL), DC_OK);
        assert_int_equal(dc_run_reserve(r, NULL), DC_OK);
        const int before = atomic_load(&allocations);
        assert_int_equal(dc_run_pass(r, every_op, &v, NULL), DC_OK);
        assert_int_equal(atomic_load(&allocations), before);
        assert_true(before > 0); /* they are counted */
        dc_run_free(r);
        dc_params_free(v.set);
        dc_device_close(d);
    }
    free(data);
}

/* ---- states and kept tensors ---------------------------------------------------------------------------------------- */

typedef struct memory {
    float in[8], out[8];
    dc_tensor kept;
} memory;
static void add_up(void *ctx, dc_run *r)
{
    memory *m = ctx;
    dc_tensor s = dc_state(r, DC_F32, 1, DIMS(8)), x = dc_upload(r, DC_F32, 1, DIMS(8), m->in);
    dc_lincomb_into(r, s, (dc_term[]){{1, s}, {1, x}}, 2);
    m->kept = dc_lincomb(r, (dc_term[]){{2, s}}, 1);
    dc_keep(r, m->kept);
    for (int i = 0; i < 5; i++) x = dc_activate(r, dc_upload(r, DC_F32, 1, DIMS(8), m->in), DC_ACT_RELU); /* would use its memory */
    dc_download(r, s, m->out);
}

static void borrow(void *ctx, dc_run *r)
{
    memory *m = ctx;
    dc_tensor y = dc_lincomb(r, (dc_term[]){{1, dc_borrow(m->kept)}}, 1);
    dc_download(r, y, m->out);
}

static void test_state(void **state)
{
    (void)state;
    dc_device *d = cpu_open("portable", 1, NULL);
    dc_run *a = dc_run_new(d), *b = dc_run_new(d);
    memory m = {.in = {1, 2, 3, 4, 5, 6, 7, 8}};
    dc_run_set_guard(a, true);
    dc_run_set_guard(b, true);
    assert_int_equal(dc_run_plan(a, add_up, &m, NULL), DC_OK);
    assert_int_equal(dc_run_reserve(a, NULL), DC_OK);
    for (int pass = 1; pass <= 3; pass++) {
        assert_int_equal(dc_run_pass(a, add_up, &m, NULL), DC_OK);
        for (int i = 0; i < 8; i++) assert_true(m.out[i] == (float)pass * m.in[i]); /* zero before the first */
    }
    assert_int_equal(dc_run_plan(b, borrow, &m, NULL), DC_OK);
    assert_int_equal(dc_run_reserve(b, NULL), DC_OK);
    assert_int_equal(dc_run_pass(b, borrow, &m, NULL), DC_OK);
    for (int i = 0; i < 8; i++) assert_true(m.out[i] == 6 * m.in[i]);
    dc_run_release(a);
    assert_int_equal(dc_run_reserve(a, NULL), DC_OK); /* a new buffer begins anew */
    assert_int_equal(dc_run_pass(a, add_up, &m, NULL), DC_OK);
    for (int i = 0; i < 8; i++) assert_true(m.out[i] == m.in[i]);
    dc_run_free(a);
    dc_run_free(b);
    dc_device_close(d);
}

/* ---- errors ------------------------------------------------------------------------------------------------------------ */

typedef struct wrong {
    int what;
    everything v;
} wrong;

/* Each breaks one rule; the text that must be in the message. */
static const char *const complaints[] = {
    "conv2d: input: found 2x30x16 F32, expected F32 [N,H,W,C], in unet.down",
    "conv2d: FILE: layer: found an input of 3 channels, expected 16",
    "conv2d: residual: found 2x30x16 F32, expected 2x6x5x16",
    "conv2d: add: found 2x15 F32 (a channel slice), expected 2x16",
    "conv2d: second input: found 2x30x16 F32, expected 2x6x5x16",
    "conv2d: group norm before it: found an input of 2x6x5x16 with 16 channels in all, expected [N,..,16] in 3 groups",
    "picture too small: found 3x2 where FILE: layer needs 3x3 at least",
    "linear: FILE: layer: found an input of 5 channels, expected 16",
    "linear: residual: found 2x6x5x16 F32, expected 2x30x16",
    "linear: input: found nothing , expected F32 [..,C]",
    "group_norm: input: found 2x6x5x16, expected [..,16] in 5 groups",
    "layer_norm: input: found 2x30x15, expected [..,16] in 0 groups",
    "attention: queries: found 2x30x16 F32, expected F32 [N,Tq,C], heads dividing C",
    "attention: keys: found 2x6x5x16 F32, expected F32 [N,Tk,C], N and C as the queries'",
    "attention: values: found 2x30x8 F32 (a channel slice), expected 2x30x16",
    "attention: keys that count: found 2x30x16 F32, expected as many keys",
    "embed: ids: found 2x30x16 F32, expected I32 [N,T]",
    "embed: positions: found 4x16, expected 5x16 at least",
    "gather_rows: index: found 3 I32, expected I32 [N]",
    "timestep_embedding: size: found 2 F32, expected 2 or more",
    "lincomb: term: found 2x30x16 F32, expected 2x6x5x16",
    "lincomb: terms: found nothing , expected 1 to 8",
    "rescale_std: cond: found 2x30x16 F32, expected 2x6x5x16",
    "to_rgb8: picture: found 2x6x5x16 F32, expected F32 [N,H,W,3], dense",
    "stats: input: found 2x6x5x8 F32 (a channel slice), expected F32, dense",
};
enum { COMPLAINTS = sizeof complaints / sizeof *complaints };

static void break_rule(void *ctx, dc_run *r)
{
    wrong *w = ctx;
    everything *v = &w->v;
    dc_tensor x = dc_upload(r, DC_F32, 4, DIMS(2, 6, 5, 16), v->x), t = dc_view_tokens(x), ids = dc_upload(r, DC_I32, 2, DIMS(1, 5), v->ids);
    dc_tensor times = dc_upload(r, DC_F32, 1, DIMS(2), v->times), add = dc_upload(r, DC_F32, 2, DIMS(2, 16), v->x);
    dc_scope(r, "unet");
    dc_scope(r, "down");
    switch (w->what) {
    case 0: dc_conv2d(r, t, v->conv, (dc_conv_opt){0}); break;
    case 1: dc_conv2d(r, dc_view_channels(x, 0, 3), v->conv, (dc_conv_opt){0}); break;
    case 2: dc_conv2d(r, x, v->conv, (dc_conv_opt){.residual = t, .pad = {1, 1, 1, 1}}); break;
    case 3: dc_conv2d(r, x, v->conv, (dc_conv_opt){.add = dc_view_channels(add, 0, 15)}); break;
    case 4: dc_conv2d(r, x, v->conv, (dc_conv_opt){.pre.x2 = t}); break;
    case 5: dc_conv2d(r, x, v->conv, (dc_conv_opt){.pre = {.norm = v->norm, .groups = 3}}); break;
    case 6: dc_conv2d(r, dc_upload(r, DC_F32, 4, DIMS(1, 2, 3, 16), v->x), v->conv, (dc_conv_opt){0}); break;
    case 7: dc_linear(r, dc_view_channels(t, 1, 5), v->linear, (dc_linear_opt){0}); break;
    case 8: dc_linear(r, t, v->linear, (dc_linear_opt){.residual = x}); break;
    case 9: dc_linear(r, DC_NONE, v->linear, (dc_linear_opt){0}); break;
    case 10: dc_group_norm(r, x, v->norm, 5, 1e-5f, DC_ACT_NONE); break;
    case 11: dc_layer_norm(r, dc_view_channels(t, 0, 15), v->norm, 1e-5f); break;
    case 12: dc_attention(r, t, t, t, (dc_attention_opt){.heads = 3}); break;
    case 13: dc_attention(r, t, x, t, (dc_attention_opt){.heads = 2}); break;
    case 14: dc_attention(r, t, t, dc_view_channels(t, 0, 8), (dc_attention_opt){.heads = 2}); break;
    case 15: dc_attention(r, t, t, t, (dc_attention_opt){.heads = 2, .keys = 31}); break;
    case 16: dc_embed(r, t, v->table, NULL); break;
    case 17: dc_embed(r, ids, v->table, v->table); break;
    case 18: dc_gather_rows(r, t, dc_upload(r, DC_I32, 1, DIMS(3), v->ids)); break;
    case 19: dc_timestep_embedding(r, times, (dc_timestep_opt){.dim = 1}); break;
    case 20: dc_lincomb(r, (dc_term[]){{1, x}, {1, t}}, 2); break;
    case 21: dc_lincomb(r, NULL, 0); break;
    case 22: dc_rescale_std(r, x, t, 1); break;
    case 23: dc_to_rgb8(r, x); break;
    case 24: dc_stats_of(r, dc_view_channels(x, 0, 8), &v->stats); break;
    default: fail();
    }
    assert_false(dc_run_ok(r));
    dc_to_rgb8(r, x); /* sticky: this mistake is not told */
    assert_true(dc_is_none(dc_activate(r, x, DC_ACT_RELU)));
    dc_scope_end(r);
    dc_scope_end(r);
}

static void test_rules(void **state)
{
    (void)state;
    float *data = some_data();
    dc_device *d = cpu_open("portable", 1, NULL);
    wrong w;
    fill(&w.v, d, data);
    for (w.what = 0; w.what < COMPLAINTS; w.what++) {
        dc_error e = {0};
        dc_run *r = dc_run_new(d);
        assert_int_equal(dc_run_plan(r, break_rule, &w, &e), w.what == 6 ? DC_USAGE : DC_INTERNAL);
        if (!strstr(e.text, complaints[w.what])) fail_msg("found '%s', expected '%s'", e.text, complaints[w.what]);
        if (!strstr(e.text, ", in unet.down")) fail_msg("no scope in '%s'", e.text);
        dc_run_free(r);
    }
    dc_params_free(w.v.set);
    dc_device_close(d);
    free(data);
}

/* Ids are data: wrong ones are found when the pass runs. */
static void test_ids(void **state)
{
    (void)state;
    float *data = some_data();
    for (int i = 0; i < 2; i++) {
        dc_device *d = NULL;
        assert_int_equal(dc_device_open(&d, &(dc_device_options){.name = i ? "cpu" : "ref"}, NULL), DC_OK);
        everything v;
        dc_error e = {0};
        fill(&v, d, data);
        dc_run *r = dc_run_new(d);
        assert_int_equal(dc_run_plan(r, every_op, &v, &e), DC_OK);
        assert_int_equal(dc_run_reserve(r, &e), DC_OK);
        v.ids[4] = 4;
        assert_int_equal(dc_run_pass(r, every_op, &v, &e), DC_DATA);
        assert_string_equal(e.text, "embed: token 4: found 4, expected 0 to 3");
        e = (dc_error){0};
        v.ids[4] = 3;
        v.index[1] = -1;
        assert_int_equal(dc_run_pass(r, every_op, &v, &e), DC_DATA);
        assert_string_equal(e.text, "gather_rows: index 1: found -1, expected 0 to 2");
        v.index[1] = 0;
        assert_int_equal(dc_run_pass(r, every_op, &v, NULL), DC_OK); /* and the run goes on */
        dc_run_free(r);
        dc_params_free(v.set);
        dc_device_close(d);
    }
    free(data);
}

static void too_large(void *ctx, dc_run *r) { dc_new(r, DC_F32, 2, DIMS(*(int64_t *)ctx, 1 << 20)); }

static void test_no_memory(void **state)
{
    (void)state;
    dc_device *d = cpu_open("portable", 1, NULL);
    dc_run *r = dc_run_new(d);
    dc_error e = {0};
    int64_t rows = 1 << 24; /* 64 TiB: a plan may be that large, memory is not */
    assert_int_equal(dc_run_plan(r, too_large, &rows, &e), DC_OK);
    assert_int_equal(dc_run_reserve(r, &e), DC_NO_MEMORY);
    assert_string_equal(e.text, "out of memory: the working memory needs 70368744177664 bytes");
    rows = INT64_MAX / 2;
    e = (dc_error){0};
    assert_int_equal(dc_run_plan(r, too_large, &rows, &e), DC_NO_MEMORY);
    dc_run_free(r);
    dc_device_close(d);
}

static void test_cancel(void **state)
{
    (void)state;
    float *data = some_data();
    atomic_int cancel = 0;
    for (int i = 0; i < 2; i++) {
        dc_device *d = NULL;
        everything v;
        dc_error e = {0};
        cancel = 0;
        assert_int_equal(dc_device_open(&d, &(dc_device_options){.name = i ? "cpu" : "ref", .cancel = &cancel}, NULL), DC_OK);
        fill(&v, d, data);
        v.cancel = &cancel;
        v.out[0] = v.vector[0] = 77;
        dc_run *r = dc_run_new(d);
        assert_int_equal(dc_run_plan(r, every_op, &v, &e), DC_OK);
        assert_int_equal(dc_run_reserve(r, &e), DC_OK);
        assert_int_equal(dc_run_pass(r, every_op, &v, &e), DC_CANCELLED);
        assert_true(v.out[0] == 77 && v.vector[0] == 77); /* nothing after it ran */
        assert_int_equal(dc_run_plan(r, every_op, &v, &e), DC_CANCELLED);
        dc_run_free(r);
        dc_params_free(v.set);
        dc_device_close(d);
    }
    free(data);
}

/* ---- taps and profile ------------------------------------------------------------------------------------------------------ */

typedef struct tapped {
    int n;
    char name[8][64];
    int rank[8];
    int64_t dim[8][4];
    float data[8][64];
} tapped;
static void on_tap(void *user, const char *name, const float *data, int rank, const int64_t *dim)
{
    tapped *t = user;
    int64_t n = 1;
    assert_true(t->n < 8);
    snprintf(t->name[t->n], sizeof t->name[0], "%s", name);
    for (int i = 0; i < rank; i++) n *= t->dim[t->n][i] = dim[i];
    t->rank[t->n] = rank;
    memcpy(t->data[t->n++], data, sizeof(float) * (size_t)n);
}

static void with_taps(void *ctx, dc_run *r)
{
    float host[24];
    for (int i = 0; i < 24; i++) host[i] = -(float)i;
    dc_tensor x = dc_upload(r, DC_F32, 4, DIMS(1, 2, 3, 4), host), y = x;
    dc_tap(r, "input", x);
    dc_scope(r, "down_blocks.%d", 0);
    dc_scope(r, "resnets.%d", 1);
    for (int i = 0; i < 3; i++) y = dc_activate(r, y, DC_ACT_RELU); /* in place, but for the last reader of x */
    dc_tap(r, "slice", dc_view_channels(x, 1, 2));
    dc_scope_end(r);
    dc_tap(r, "", dc_view_tokens(y));
    dc_scope_end(r);
    dc_download(r, y, ctx);
}

static void test_taps(void **state)
{
    (void)state;
    dc_device *d = cpu_open("portable", 1, NULL);
    dc_run *r = dc_run_new(d);
    tapped t = {0};
    float out[24];
    assert_int_equal(dc_run_plan(r, with_taps, out, NULL), DC_OK);
    const uint64_t without = dc_run_bytes(r);
    assert_int_equal(without, 128);
    dc_run_set_tap(r, on_tap, &t);
    assert_int_equal(dc_run_plan(r, with_taps, out, NULL), DC_OK);
    assert_int_equal(dc_run_bytes(r), 2 * without); /* the tap of x is a reader */
    dc_run_set_guard(r, true);
    assert_int_equal(dc_run_plan(r, with_taps, out, NULL), DC_OK);
    assert_int_equal(t.n, 0);
    assert_int_equal(dc_run_reserve(r, NULL), DC_OK);
    assert_int_equal(dc_run_pass(r, with_taps, out, NULL), DC_OK);
    assert_int_equal(t.n, 3);
    assert_string_equal(t.name[0], "input");
    assert_string_equal(t.name[1], "down_blocks.0.resnets.1.slice");
    assert_string_equal(t.name[2], "down_blocks.0");
    assert_int_equal(t.rank[0], 4);
    assert_true(t.dim[0][0] == 1 && t.dim[0][1] == 4 && t.dim[0][2] == 2 && t.dim[0][3] == 3);
    for (int c = 0; c < 4; c++)
        for (int p = 0; p < 6; p++) assert_true(t.data[0][c * 6 + p] == -(float)(p * 4 + c));
    assert_true(t.dim[1][1] == 2 && t.data[1][0] == -1 && t.data[1][6] == -2 && t.data[1][11] == -22);
    assert_true(t.rank[2] == 3 && t.dim[2][1] == 6 && t.dim[2][2] == 4 && t.data[2][23] == 0 && t.data[2][5] == 0);
    dc_run_free(r);
    dc_device_close(d);
}

static void test_profile(void **state)
{
    (void)state;
    float *data = some_data();
    dc_device *d = cpu_open("portable", 2, NULL);
    dc_run *r = dc_run_new(d);
    const dc_profile_row *rows = NULL;
    everything v;
    fill(&v, d, data);
    assert_int_equal(dc_run_profile(r, &rows), 0);
    dc_run_set_profile(r, true);
    assert_int_equal(dc_run_plan(r, every_op, &v, NULL), DC_OK);
    assert_int_equal(dc_run_reserve(r, NULL), DC_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(dc_run_pass(r, every_op, &v, NULL), DC_OK);
    const int n = dc_run_profile(r, &rows);
    uint64_t flops = 0;
    int convs = 0;
    for (int i = 0; i < n; i++) {
        assert_int_equal(rows[i].calls, 3);
        assert_true(rows[i].seconds >= 0 && rows[i].seconds < 60);
        flops += rows[i].flops;
        if (strcmp(rows[i].op, "conv2d")) continue;
        convs++;
        assert_string_equal(rows[i].shape, "2x6x5x16");
        assert_string_equal(rows[i].scope, "block.0");
        assert_int_equal(rows[i].flops, 2 * 60 * 16 * 16 * 9);
        assert_true(rows[i].seconds > 0);
    }
    assert_int_equal(convs, 1);
    assert_int_equal(flops, dc_run_flops(r));
    assert_int_equal(flops, 2 * 60 * 16 * (16 * 9 + 16 + 32) + 4 * 60 * 30 * 16);
    dc_run_free(r);
    dc_params_free(v.set);
    dc_device_close(d);
    free(data);
}

/* ---- guards ------------------------------------------------------------------------------------------------------------------ */

static int broken; /* how the device below is: 1 writes one float behind y, 2 one before it, 3 forgets the last number */
static dc_status broken_activate(dc_device *d, const dc_act_args *a)
{
    float *y = a->y.data;
    const int64_t n = dc_numel(a->y);
    dc_status s = dc_backend_ref.activate(d, a);
    if (broken == 1) y[n] = 1;
    if (broken == 2) y[-1] = 1;
    if (broken == 3) memset(&y[n - 1], 0xff, sizeof *y);
    return s;
}

static void one_act(void *ctx, dc_run *r)
{
    float in[5] = {1, 2, 3, 4, 5};
    dc_scope(r, "scope");
    dc_download(r, dc_activate(r, dc_upload(r, DC_F32, 1, DIMS(5), in), DC_ACT_RELU), ctx);
    dc_scope_end(r);
}

static void test_guards(void **state)
{
    (void)state;
    dc_backend be = dc_backend_ref;
    dc_device d = {.be = &be};
    be.activate = broken_activate;
    for (broken = 0; broken < 4; broken++) {
        float out[5];
        dc_error e = {0};
        dc_run *r = dc_run_new(&d);
        dc_run_set_guard(r, true);
        assert_int_equal(dc_run_plan(r, one_act, out, &e), DC_OK);
        assert_int_equal(dc_run_reserve(r, &e), DC_OK);
        assert_int_equal(dc_run_pass(r, one_act, out, &e), broken == 1 || broken == 2 ? DC_INTERNAL : DC_OK);
        if (e.code) assert_non_null(strstr(e.text, "activate (op 1) wrote outside of its tensors"));
        else assert_int_equal(isnan(out[4]) != 0, broken == 3);
        dc_run_free(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_allocation), cmocka_unit_test(test_state),     cmocka_unit_test(test_rules),
        cmocka_unit_test(test_ids),           cmocka_unit_test(test_no_memory), cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_taps),          cmocka_unit_test(test_profile),   cmocka_unit_test(test_guards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
