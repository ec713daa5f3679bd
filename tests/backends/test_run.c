/* test_run.c - the plan of a pass: peaks counted by hand, memory shared in place, lives that end with the last reader; on the reference
 * device, whose scratch is known (rows x channels floats for convolutions and linears). */
#include "backends/run.h"
#include "cpu_cases.h"

typedef struct bench {
    dc_device *d;
    dc_run *r;
    dc_error e;
} bench;

static bench open_bench(void)
{
    bench b = {0};
    assert_int_equal(dc_device_open(&b.d, &(dc_device_options){.name = "ref"}, &b.e), DC_OK);
    b.r = dc_run_new(b.d);
    return b;
}

static void close_bench(bench *b)
{
    dc_run_free(b->r);
    dc_device_close(b->d);
}

/* Bytes of the plan; then the pass runs twice under guard. */
static uint64_t planned_bytes(dc_pass_fn *pass, void *ctx)
{
    bench b = open_bench();
    assert_int_equal(dc_run_plan(b.r, pass, ctx, &b.e), DC_OK);
    uint64_t bytes = dc_run_bytes(b.r);
    dc_run_set_guard(b.r, true);
    assert_int_equal(dc_run_plan(b.r, pass, ctx, &b.e), DC_OK);
    assert_int_equal(dc_run_reserve(b.r, &b.e), DC_OK);
    for (int i = 0; i < 2; i++)
        if (dc_run_pass(b.r, pass, ctx, &b.e)) fail_msg("%s", b.e.text);
    close_bench(&b);
    return bytes;
}

static float kilo[1024]; /* 4096 bytes of zeros */
static dc_tensor four_kb(dc_run *r) { return dc_upload(r, DC_F32, 4, DIMS(1, 8, 8, 16), kilo); }

/* Never in place. */
static dc_tensor copy(dc_run *r, dc_tensor x)
{
    dc_tensor y = dc_new(r, DC_F32, x.rank, x.dim);
    dc_lincomb_into(r, y, (dc_term[]){{1, x}}, 1);
    return y;
}

/* ---- peaks ------------------------------------------------------------------------------------------------------ */

static void chain_in_place(void *ctx, dc_run *r)
{
    dc_tensor x = four_kb(r);
    for (int i = 0; i < 50; i++) x = dc_activate(r, x, DC_ACT_RELU);
    dc_download(r, x, ctx);
}

static void chain_of_copies(void *ctx, dc_run *r)
{
    dc_tensor x = four_kb(r);
    for (int i = 0; i < 50; i++) x = copy(r, x);
    dc_download(r, x, ctx);
}

/* a is made while x lives, b in x, y in a. */
static void diamond(void *ctx, dc_run *r)
{
    dc_tensor x = four_kb(r), a = dc_activate(r, x, DC_ACT_RELU), b = dc_activate(r, x, DC_ACT_SILU);
    dc_download(r, dc_lincomb(r, (dc_term[]){{1, a}, {1, b}}, 2), ctx);
}

/* Skips as in a UNet: five copies wait and go again, last one first; the sums lie in them. */
static void skips(void *ctx, dc_run *r)
{
    dc_tensor skip[5], x = four_kb(r);
    for (int i = 0; i < 5; i++) x = skip[i] = copy(r, x);
    for (int i = 4; i >= 0; i--) x = dc_lincomb(r, (dc_term[]){{1, x}, {1, skip[i]}}, 2);
    dc_download(r, x, ctx);
}

static void parts(void *ctx, dc_run *r)
{
    (void)ctx;
    dc_tensor x = four_kb(r);
    for (int i = 0; i < 4; i++) copy(r, x); /* never read: gone at once */
}

static void test_peaks(void **state)
{
    (void)state;
    float out[1024];
    assert_int_equal(planned_bytes(chain_in_place, out), 4096);
    assert_int_equal(planned_bytes(chain_of_copies, out), 2 * 4096);
    assert_int_equal(planned_bytes(diamond, out), 2 * 4096);
    assert_int_equal(planned_bytes(skips, out), 5 * 4096);
    assert_int_equal(planned_bytes(parts, out), 2 * 4096);
}

/* Two 1x1 convolutions, 16 -> 32 -> 8 channels: x 4096, y 8192, z 2048 bytes; scratch 4096 and 8192.
 * First op x + y + scratch = 16384, second y + z + scratch = 18432. */
typedef struct convs {
    dc_param *up, *down;
    float *out;
} convs;
static void two_convs(void *ctx, dc_run *r)
{
    convs *c = ctx;
    dc_tensor y = dc_conv2d(r, four_kb(r), c->up, (dc_conv_opt){0});
    dc_download(r, dc_conv2d(r, y, c->down, (dc_conv_opt){0}), c->out);
}

static dc_param *conv_param(dc_params *set, int in, int out)
{
    return dc_params_add(
        set, &(dc_param_desc){
                 .name = "conv", .kind = DC_PARAM_CONV, .out = out, .in = in, .kh = 1, .kw = 1, .n_weight = 1, .weight = {{kilo, DC_F32, out}}});
}

static void test_scratch(void **state)
{
    (void)state;
    bench b = open_bench();
    dc_params *set = dc_params_new(b.d, "test");
    float out[512];
    convs c = {conv_param(set, 16, 32), conv_param(set, 32, 8), out};
    assert_int_equal(dc_params_prepare(set, NULL, NULL, &b.e), DC_OK);
    assert_int_equal(dc_run_plan(b.r, two_convs, &c, &b.e), DC_OK);
    assert_int_equal(dc_run_bytes(b.r), 18432);
    assert_int_equal(dc_run_flops(b.r), 2 * 64 * (16 * 32 + 32 * 8));
    assert_int_equal(dc_run_reserve(b.r, &b.e), DC_OK);
    memset(out, 0xff, sizeof out);
    assert_int_equal(dc_run_pass(b.r, two_convs, &c, &b.e), DC_OK);
    for (int i = 0; i < 512; i++) assert_true(out[i] == 0);
    dc_params_free(set);
    close_bench(&b);
}

/* ---- in place ------------------------------------------------------------------------------------------------------ */

typedef struct place {
    int what;
    dc_tensor borrowed, x, y;
    dc_param *square, *norm;
    float out[4096];
} place;
enum {
    DIES,
    NORM,
    RESIDUAL,
    LIN_SECOND,
    SAME_TWICE,
    IN_PLACES,
    /* from here on never: */ USED_LATER = IN_PLACES,
    KEPT,
    STATE,
    BORROWED,
    HALF,
    SLICE,
    ALSO_INPUT,
    REPEATED,
    READ_LATER_AS_VIEW,
    PLACES
};

/* y is made of x; IN_PLACES of them may lie where x lies. */
static void one_place(void *ctx, dc_run *r)
{
    place *p = ctx;
    static const float two[2048];
    dc_tensor x = p->what == STATE ? dc_state(r, DC_F32, 4, DIMS(1, 8, 8, 16)) : p->what == BORROWED ? p->borrowed : four_kb(r), other = DC_NONE;
    if (p->what == HALF) x = dc_view_batch(dc_upload(r, DC_F32, 4, DIMS(2, 8, 8, 16), two), 1, 1);
    if (p->what == SLICE) x = dc_view_channels(dc_upload(r, DC_F32, 4, DIMS(1, 8, 8, 32), two), 0, 16);
    if (p->what == LIN_SECOND || p->what == RESIDUAL) other = four_kb(r);
    p->x = x;
    if (p->what == KEPT) dc_keep(r, x);
    switch (p->what) {
    case NORM: p->y = dc_group_norm(r, x, p->norm, 4, 1e-5f, DC_ACT_NONE); break;
    case RESIDUAL: p->y = dc_conv2d(r, other, p->square, (dc_conv_opt){.residual = x}); break;
    case ALSO_INPUT: p->y = dc_conv2d(r, x, p->square, (dc_conv_opt){.residual = x}); break;
    case LIN_SECOND: p->y = dc_lincomb(r, (dc_term[]){{1, other}, {2, x}}, 2); break;
    case SAME_TWICE: p->y = dc_lincomb(r, (dc_term[]){{1, x}, {2, x}}, 2); break;
    case REPEATED: /* the first image is added to both: must not be overwritten before the second reads it */
        p->x = x = dc_upload(r, DC_F32, 2, DIMS(2, 512), kilo);
        p->y = dc_lincomb(r, (dc_term[]){{1, x}, {1, dc_view_batch(x, 0, 1)}}, 2);
        break;
    default: p->y = dc_activate(r, x, DC_ACT_RELU);
    }
    if (p->what == LIN_SECOND) dc_download(r, other, p->out);
    if (p->what == USED_LATER) dc_download(r, x, p->out);
    if (p->what == READ_LATER_AS_VIEW) dc_download(r, dc_view_channels(dc_view_tokens(x), 3, 2), p->out);
    dc_download(r, p->y, p->out);
}

static void keep_kilo(void *ctx, dc_run *r)
{
    place *p = ctx;
    p->borrowed = four_kb(r);
    dc_keep(r, p->borrowed);
}

static void test_in_place(void **state)
{
    (void)state;
    static place p;
    bench from = open_bench();
    dc_params *set = dc_params_new(from.d, "test");
    p.square = conv_param(set, 16, 16);
    p.norm = dc_params_add(
        set,
        &(dc_param_desc){.name = "norm", .kind = DC_PARAM_NORM, .out = 16, .in = 1, .kh = 1, .kw = 1, .n_weight = 1, .weight = {{kilo, DC_F32, 16}}});
    assert_int_equal(dc_params_prepare(set, NULL, NULL, &from.e), DC_OK);
    assert_int_equal(dc_run_plan(from.r, keep_kilo, &p, &from.e), DC_OK);
    assert_int_equal(dc_run_reserve(from.r, &from.e), DC_OK);
    assert_int_equal(dc_run_pass(from.r, keep_kilo, &p, &from.e), DC_OK);
    p.borrowed = dc_borrow(p.borrowed);
    for (p.what = 0; p.what < PLACES; p.what++) {
        bench b = open_bench();
        assert_int_equal(dc_run_plan(b.r, one_place, &p, &b.e), DC_OK);
        assert_int_equal(dc_run_reserve(b.r, &b.e), DC_OK);
        assert_int_equal(dc_run_pass(b.r, one_place, &p, &b.e), DC_OK);
        if ((p.x.data == p.y.data) != (p.what < IN_PLACES))
            fail_msg("case %d: output %s its input", p.what, p.x.data == p.y.data ? "lies in" : "does not lie in");
        close_bench(&b);
    }
    dc_params_free(set);
    close_bench(&from);
}

/* A whole first image whose rounded size is that of both: sizes are compared exactly. */
static void rounded(void *ctx, dc_run *r)
{
    float in[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    dc_tensor x = dc_view_batch(dc_upload(r, DC_F32, 2, DIMS(2, 5), in), 1, 1);
    dc_download(r, dc_lincomb(r, (dc_term[]){{2, x}}, 1), ctx);
}

static void test_rounded_sizes(void **state)
{
    (void)state;
    float out[5];
    assert_int_equal(planned_bytes(rounded, out), 2 * 64);
    for (int i = 0; i < 5; i++) assert_true(out[i] == 2.0f * (float)(6 + i));
}

/* ---- random graphs ---------------------------------------------------------------------------------------------------- */

enum { NODES = 120, ROWS = 3 };
typedef struct node {
    int kind, n, input[3], width, first, last;
    float k[3], value[ROWS * 40];
} node;
typedef struct graph {
    node node[NODES];
    bool wanted[NODES];
    float out[NODES][ROWS * 40];
} graph;
enum { LEAF, COMBINE, RELU, COPY };

/* Node i of width w from earlier nodes of that width; values as the reference device computes them (double, rounded once). */
static void draw_node(graph *g, int i, uint64_t *rng)
{
    node *x = &g->node[i];
    *x = (node){.width = 8 * (1 + (int)(fabsf(random_float(rng)) * 5)), .first = i, .last = i};
    int candidates[NODES], n = 0;
    for (int j = i > 25 ? i - 25 : 0; j < i; j++)
        if (g->node[j].width == x->width) candidates[n++] = j;
    x->kind = n ? 1 + (int)(fabsf(random_float(rng)) * 3) : LEAF;
    x->n = x->kind == COMBINE ? 1 + (int)(fabsf(random_float(rng)) * 3) : x->kind == LEAF ? 0 : 1;
    for (int t = 0; t < x->n; t++) {
        x->input[t] = candidates[(int)(fabsf(random_float(rng)) * (float)n)];
        x->k[t] = random_float(rng);
        g->node[x->input[t]].last = i;
    }
    for (int e = 0; e < ROWS * x->width; e++) {
        double v = 0;
        for (int t = 0; t < x->n; t++) v += (x->kind == COMBINE ? (double)x->k[t] : 1) * g->node[x->input[t]].value[e];
        x->value[e] = x->kind == LEAF ? random_float(rng) : x->kind == RELU ? (float)(v > 0 ? v : 0) : (float)v;
    }
}

static void run_graph(void *ctx, dc_run *r)
{
    graph *g = ctx;
    dc_tensor t[NODES];
    for (int i = 0; i < NODES; i++) {
        node *x = &g->node[i];
        dc_term terms[3];
        for (int k = 0; k < x->n; k++) terms[k] = (dc_term){x->k[k], t[x->input[k]]};
        if (x->kind == LEAF) t[i] = dc_upload(r, DC_F32, 2, DIMS(ROWS, x->width), x->value);
        else if (x->kind == RELU) t[i] = dc_activate(r, t[x->input[0]], DC_ACT_RELU);
        else if (x->kind == COPY) t[i] = copy(r, t[x->input[0]]);
        else t[i] = dc_lincomb(r, terms, x->n);
        for (int j = 0; j <= i; j++)
            if (g->wanted[j] && g->node[j].last == i) dc_download(r, t[j], g->out[j]);
    }
}

static uint64_t block_bytes(const node *x) { return (ROWS * (uint64_t)x->width * 4 + 63) / 64 * 64; }

/* No plan can be smaller: what lives at a node, less the input that the node may take over. */
static uint64_t least_bytes(const graph *g)
{
    uint64_t most = 0;
    for (int i = 0; i < NODES; i++) {
        uint64_t sum = 0;
        bool gives = false;
        for (int j = 0; j <= i; j++)
            if (g->node[j].last >= i) sum += block_bytes(&g->node[j]);
        for (int t = 0; t < g->node[i].n; t++) {
            int j = g->node[i].input[t];
            gives |= g->node[i].kind != COPY && g->node[j].last == i && !g->wanted[j];
        }
        if (gives) sum -= block_bytes(&g->node[i]);
        if (sum > most) most = sum;
    }
    return most;
}

static void test_random_graphs(void **state)
{
    (void)state;
    graph *g = calloc(1, sizeof *g);
    uint64_t rng = 3;
    double worst = 0, sum = 0;
    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < NODES; i++) draw_node(g, i, &rng);
        for (int i = 0; i < NODES; i++) g->wanted[i] = i == NODES - 1 || random_float(&rng) > 0.5f;
        memset(g->out, 0xff, sizeof g->out);
        double ratio = (double)planned_bytes(run_graph, g) / (double)least_bytes(g);
        for (int i = 0; i < NODES; i++)
            for (int e = 0; g->wanted[i] && e < ROWS * g->node[i].width; e++)
                if (g->out[i][e] != g->node[i].value[e])
                    fail_msg("round %d node %d: found %g, expected %g", round, i, g->out[i][e], g->node[i].value[e]);
        assert_true(ratio >= 1);
        worst = fmax(worst, ratio);
        sum += ratio / 60;
    }
    print_message("plans are %.3f times the least possible, %.3f at worst\n", sum, worst);
    assert_true(sum < 1.15 && worst < 1.3); /* measured; the UNets and VAEs of published models have no gap at all */
    free(g);
}

/* ---- a pass that is not its plan ------------------------------------------------------------------------------------------ */

typedef struct change {
    int what;
    bool real;
    float out[2048];
} change;
static void changing(void *ctx, dc_run *r)
{
    change *c = ctx;
    int now = c->real ? c->what : 0;
    dc_tensor x = dc_upload(r, DC_F32, 2, DIMS(2, now == 1 ? 33 : 32), kilo), y;
    y = now == 2 ? copy(r, x) : dc_activate(r, x, DC_ACT_RELU);
    if (now != 3) dc_download(r, y, c->out);
    if (now == 4) copy(r, x);
    if (now == 5) dc_state(r, DC_F32, 1, DIMS(7));
}

static void test_replay(void **state)
{
    (void)state;
    static const char *const text[] = {"",
                                       "tensor 0: found 264 bytes, expected 256",
                                       "at op 1: found new, expected activate",
                                       "found 2 ops, expected 3",
                                       "at op 3: found new, expected the end",
                                       "at op 3: found state, expected the end"};
    for (int what = 0; what < 6; what++) {
        bench b = open_bench();
        change c = {.what = what};
        assert_int_equal(dc_run_plan(b.r, changing, &c, &b.e), DC_OK);
        assert_int_equal(dc_run_reserve(b.r, &b.e), DC_OK);
        c.real = true;
        assert_int_equal(dc_run_pass(b.r, changing, &c, &b.e), what ? DC_INTERNAL : DC_OK);
        if (!strstr(b.e.text, text[what])) fail_msg("found '%s', expected '%s'", b.e.text, text[what]);
        c.real = false; /* the run is not spoilt */
        b.e = (dc_error){0};
        assert_int_equal(dc_run_pass(b.r, changing, &c, &b.e), DC_OK);
        close_bench(&b);
    }
}

/* A second plan takes the place of the first. */
static void sized(void *ctx, dc_run *r)
{
    int64_t n = *(int64_t *)ctx;
    dc_tensor s = dc_state(r, DC_F32, 1, DIMS(n));
    dc_lincomb_into(r, s, (dc_term[]){{1, s}, {1, dc_activate(r, dc_upload(r, DC_F32, 1, &n, kilo), DC_ACT_RELU)}}, 2);
}

static void test_second_plan(void **state)
{
    (void)state;
    bench b = open_bench();
    for (int64_t n = 16; n <= 1024; n *= 8) {
        assert_int_equal(dc_run_plan(b.r, sized, &n, &b.e), DC_OK);
        assert_int_equal(dc_run_bytes(b.r), 8 * n);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(dc_run_reserve(b.r, &b.e), DC_OK);
            assert_int_equal(dc_run_pass(b.r, sized, &n, &b.e), DC_OK);
            dc_run_release(b.r); /* keeps the plan */
        }
    }
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peaks),         cmocka_unit_test(test_scratch),       cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_rounded_sizes), cmocka_unit_test(test_random_graphs), cmocka_unit_test(test_replay),
        cmocka_unit_test(test_second_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
