/* test_attention.c - k_attention, run by the emulator, against the plain definition in double. */
#include "tests/cuda/kernels_data.h"

typedef struct problem {
    k_attention_args a;
    matrix q, k, v, y;
} problem;

/* q, k and v are slices of wider rows, as those of one product; keys that do not count, and what is between slices, are NaN. */
static problem pose(int n, int kn, int tq, int tk, int keys, int heads, int d, int type, bool causal)
{
    problem p = {.a = {.n = n, .kn = kn, .tq = tq, .tk = tk, .keys = keys, .heads = heads, .d = d, .causal = causal}};
    const int c = heads * d, gap = 8 * below(3);
    p.a.scale = (float)(uniform(0.5, 1.5) / sqrt(d));
    p.q = make(type, (int64_t)n * tq, c, gap, 8 * below(2)), p.y = make(type, (int64_t)n * tq, c, 8 * below(2), 8 * below(2));
    p.k = make(type, (int64_t)kn * tk, c, gap, 8 * below(2)), p.v = make(type, (int64_t)kn * tk, c, gap, 8 * below(2));
    for (int64_t r = 0; r < (int64_t)kn * tk; r++)
        for (int i = 0; r % tk >= keys && i < c; i++) set(&p.k, r, i, NAN), set(&p.v, r, i, NAN);
    p.a.q = p.q.v, p.a.k = p.k.v, p.a.v = p.v.v, p.a.y = p.y.v;
    return p;
}
static void end(problem p) { drop(p.q), drop(p.k), drop(p.v), drop(p.y); }

/* One query of one head. Powers are rounded to the type before they weigh the values, results to the type: half a unit of each. */
static void judge(const problem *p, int n, int row, int head)
{
    const k_attention_args *a = &p->a;
    const int keys = a->causal && row + 1 < a->keys ? row + 1 : a->keys, from = head * a->d;
    const int64_t query = (int64_t)n * a->tq + row, first = a->kn == 1 ? 0 : (int64_t)n * a->tk;
    double *s = malloc(sizeof *s * (size_t)keys), most = -INFINITY, sum = 0;
    for (int j = 0; j < keys; j++) {
        s[j] = 0;
        for (int c = from; c < from + a->d; c++) s[j] += get(&p->q, query, c) * get(&p->k, first + j, c);
        s[j] *= a->scale;
        most = fmax(most, s[j]);
    }
    for (int j = 0; j < keys; j++) sum += s[j] = exp(s[j] - most);
    for (int c = from; c < from + a->d; c++) {
        double y = 0, size = 0;
        for (int j = 0; j < keys; j++) {
            y += s[j] / sum * get(&p->v, first + j, c);
            size += s[j] / sum * fabs(get(&p->v, first + j, c));
        }
        const double found = get(&p->y, query, c), tolerance = rounding(a->q.type) * (fabs(y) + size) + 1e-5 * size + 0x1p-24;
        if (!(fabs(found - y) <= tolerance))
            fail_msg("d %d, image %d, query %d of %d, head %d, channel %d: %.7g, expected %.7g within %.2g", a->d, n, row, a->tq, head, c - from,
                     found, y, tolerance);
    }
    free(s);
}

static void run(problem *p)
{
    assert_true(k_attention_takes(&p->a));
    assert_int_equal(k_attention(NULL, &p->a), DC_OK);
    check_gaps(&p->y);
}

static void test_shapes(void **state)
{
    (void)state;
    static const int dims[] = {8, 32, 40, 48, 64, 72, 80, 88, 96, 112, 128, 136, 160};
    for (int round = 0; round < 2 * (int)(sizeof dims / sizeof *dims); round++) {
        const int n = 1 + below(2), tk = ONE_OF(1, 15, 64, 77, 130, 200), tq = ONE_OF(1, 16, 63, 64, 65, 130);
        problem p =
            pose(n, below(2) ? 1 : n, tq, tk, below(2) ? tk : 1 + below(tk), 1 + below(3), dims[round / 2], round % 2 ? DC_F16 : DC_BF16, below(2));
        run(&p);
        for (int i = 0; i < n * tq * p.a.heads; i++) judge(&p, i / tq / p.a.heads, i % tq, i / tq % p.a.heads);
        end(p);
    }
}

/* Enough blocks for the larger ones; then a part of it alone, in smaller ones: the same bytes. */
static void test_many_heads(void **state)
{
    (void)state;
    static const int dims[] = {24, 40, 64, 80};
    for (int round = 0; round < 4; round++) {
        const int d = dims[round], n = 3, heads = 90, tq = ONE_OF(65, 128), tk = ONE_OF(90, 150);
        problem p = pose(n, 1, tq, tk, tk - below(4), heads, d, round % 2 ? DC_F16 : DC_BF16, round >= 2);
        run(&p);
        for (int i = 0; i < 400; i++) judge(&p, below(n), below(tq), below(heads));
        problem part = p;
        part.y = make(p.y.v.type, (int64_t)n * tq, 2 * d, 0, 0);
        part.a.y = part.y.v, part.a.heads = 2;
        run(&part);
        for (int64_t r = 0; r < n * tq; r++)
            assert_memory_equal((uint16_t *)part.y.v.data + r * 2 * d, (uint16_t *)p.y.v.data + r * p.y.v.stride, 2 * (size_t)(2 * d));
        drop(part.y), end(p);
    }
}

/* Scores far apart: all weight on one key, and none lost where the largest comes last. */
static void test_large_scores(void **state)
{
    (void)state;
    for (int last = 0; last < 2; last++) {
        problem p = pose(1, 1, 16, 150, 150, 1, 40, DC_F16, false);
        p.a.scale = 20;
        for (int c = 0; c < 40; c++)
            for (int r = 0; r < 16; r++) set(&p.q, r, c, 2), set(&p.k, last ? 149 : 3, c, 2.5);
        run(&p);
        for (int r = 0; r < 16; r++)
            for (int c = 0; c < 40; c++) assert_true(get(&p.y, r, c) == get(&p.v, last ? 149 : 3, c));
        end(p);
    }
}

static void test_takes(void **state)
{
    (void)state;
    problem p = pose(1, 1, 4, 4, 4, 2, 40, DC_BF16, false);
    assert_true(k_attention_takes(&p.a));
    k_attention_args a = p.a;
    a.q.data = (char *)a.q.data + 2;
    assert_false(k_attention_takes(&a));
    a = p.a, a.k.stride += 4;
    assert_false(k_attention_takes(&a));
    a = p.a, a.v.type = DC_F16;
    assert_false(k_attention_takes(&a));
    a = p.a, a.d = 168;
    assert_false(k_attention_takes(&a));
    a = p.a, a.d = 36;
    assert_false(k_attention_takes(&a));
    a = p.a, a.q.type = a.k.type = a.v.type = a.y.type = DC_F32;
    assert_false(k_attention_takes(&a));
    end(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_many_heads), cmocka_unit_test(test_large_scores),
                                       cmocka_unit_test(test_takes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
