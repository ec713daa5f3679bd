/* test_kernels.c - the CUDA device's kernels, run by the emulator, against plain loops in double on random shapes: odd and even counts of
 * channels, slices, every mix of types, and what kernels.h says of each. */
#include "tests/cuda/kernels_data.h"

enum { ROUNDS = 24 };
static const matrix none;

/* ---- before and behind products ------------------------------------------------------------------------------------------ */

typedef struct picture {
    matrix m;
    int n, h, w;
} picture;
static picture make_picture(int type, int n, int h, int w, int c) { return (picture){make_any(type, (int64_t)n * h * w, c), n, h, w}; }
static double pixel(const picture *p, int n, int y, int x, int c) { return get(&p->m, ((int64_t)n * p->h + y) * p->w + x, c); }

typedef struct gathered {
    k_gather_args a;
    picture x, x2, above, below;
    float *scale;
} gathered;

/* Channel c of place (y,x) of the picture, as the header defines it. */
static double expected_gather(const gathered *t, int n, int y, int x, int c)
{
    const k_gather_args *a = &t->a;
    if (x < 0 || x >= a->in_w || c >= a->c + a->c2) return 0;
    const int ix = (int)floor((double)x * a->w / a->in_w), times = a->in_h / a->h;
    double v;
    if (y >= 0 && y < a->in_h) {
        const int iy = (int)floor((double)y * a->h / a->in_h);
        v = c < a->c ? pixel(&t->x, n, iy, ix, c) : pixel(&t->x2, n, iy, ix, c - a->c);
    } else {
        const picture *p = y < 0 ? &t->above : &t->below;
        const int iy = y < 0 ? y + p->h * times : y - a->in_h;
        if (!p->m.memory || iy < 0 || iy >= p->h * times) return 0;
        v = pixel(p, n, iy / times, ix, c);
    }
    if (t->scale) v = v * t->scale[n * 2 * (a->c + a->c2) + c] + t->scale[(n * 2 + 1) * (a->c + a->c2) + c];
    return activated(v, a->act);
}

static void one_gather(int round)
{
    const int kind = round % 4; /* plain, joined, with neighbours, resized */
    gathered t = {.a = {.n = 1 + below(2), .h = 1 + below(7), .w = 1 + below(9), .c = ONE_OF(3, 4, 8, 16, 40, 320), .act = below(DC_ACTS)}};
    k_gather_args *a = &t.a;
    a->c2 = kind == 1 ? ONE_OF(1, 8, 24) : 0;
    a->in_h = kind == 2 ? a->h * (1 + below(2)) : kind == 3 ? 1 + below(14) : a->h;
    a->in_w = kind == 2 ? a->w * (a->in_h / a->h) : kind == 3 ? 1 + below(18) : a->w;
    a->top = below(3), a->left = below(3);
    a->out_h = a->in_h + a->top + below(3), a->out_w = a->in_w + a->left + below(3);
    a->channels = a->c + a->c2 + ONE_OF(0, 0, 1, 4, 8);
    if (below(2)) a->channels = (a->channels + 7) / 8 * 8;
    t.x = make_picture(any_type(), a->n, a->h, a->w, a->c);
    if (kind == 1) t.x2 = make_picture(any_type(), a->n, a->h, a->w, a->c2);
    if (kind == 2) {
        a->above_h = 1 + below(3), a->below_h = 1 + below(3);
        if (below(3)) t.above = make_picture(any_type(), a->n, a->above_h, a->w, a->c);
        if (below(3)) t.below = make_picture(any_type(), a->n, a->below_h, a->w, a->c);
    }
    matrix y = make_dense(any_type(), (int64_t)a->n * a->out_h * a->out_w, a->channels);
    matrix scale = below(2) ? make_dense(DC_F32, a->n * 2, a->c + a->c2) : none;
    a->x = t.x.m.v, a->x2 = t.x2.m.v, a->above = t.above.m.v, a->below = t.below.m.v, a->y = y.v;
    a->scale = t.scale = scale.v.data;
    assert_int_equal(k_gather(NULL, a), DC_OK);
    for (int64_t r = 0; r < y.rows; r++)
        for (int c = 0; c < a->channels; c++) {
            const int n = (int)(r / a->out_w / a->out_h), oy = (int)(r / a->out_w % a->out_h), ox = (int)(r % a->out_w);
            check("gather", get(&y, r, c), a->y.type, expected_gather(&t, n, oy - a->top, ox - a->left, c), 6);
        }
    drop(t.x.m), drop(t.x2.m), drop(t.above.m), drop(t.below.m), drop(y), drop(scale);
}
static void test_gather(void **state)
{
    (void)state;
    for (int round = 0; round < 4 * ROUNDS; round++) one_gather(round);
}

static void test_finish(void **state)
{
    (void)state;
    for (int round = 0; round < 4 * ROUNDS; round++) {
        const int c = ONE_OF(1, 5, 8, 24, 40, 320), images = 1 + below(3), each = 1 + below(6);
        k_finish_args a = {.rows = images * each, .rows_of_image = each, .c = c, .act = below(DC_ACTS), .geglu = round % 4 == 3};
        matrix x = make_any(any_type(), a.rows, a.geglu ? 2 * c : c), y = make_any(any_type(), a.rows, c), bias = none, add = none, residual = none;
        if (below(2)) bias = make_dense(DC_F32, 1, a.geglu ? 2 * c : c);
        if (below(2) && !a.geglu) add = make_any(any_type(), a.add_images = below(2) ? images : 1, c);
        if (below(2)) residual = make_any(any_type(), a.rows, c);
        double *was_x = copy_of(&x), *was_residual = copy_of(&residual);
        matrix to = round % 3 == 1 && !a.geglu ? x : round % 3 == 2 && residual.memory ? residual : y;
        a.x = x.v, a.y = to.v, a.add = add.v, a.residual = residual.v, a.bias = bias.v.data;
        assert_int_equal(k_finish(NULL, &a), DC_OK);
        for (int64_t r = 0; r < a.rows; r++)
            for (int i = 0; i < c; i++) {
                double v = was_x[r * x.c + i] + (bias.memory ? get(&bias, 0, i) : 0);
                if (a.geglu) v *= activated(was_x[r * x.c + c + i] + (bias.memory ? get(&bias, 0, c + i) : 0), DC_ACT_GELU);
                if (add.memory) v += get(&add, a.add_images == 1 ? 0 : r / each, i);
                if (residual.memory) v += was_residual[r * c + i];
                check("finish", get(&to, r, i), to.v.type, activated(v, a.act), 16);
            }
        check_gaps(&to);
        drop(x), drop(y), drop(bias), drop(add), drop(residual), free(was_x), free(was_residual);
    }
}

static void test_pack(void **state)
{
    (void)state;
    for (int round = 0; round < 2 * ROUNDS; round++) {
        k_pack_args a = {.rows = 1 + below(40), .c = ONE_OF(1, 3, 4, 8, 20, 64), .area = ONE_OF(1, 4, 9), .scale = below(3) ? 0 : 0.37f};
        a.channels = below(2) ? (a.c + 7) / 8 * 8 : a.c + below(3);
        matrix from = make_dense(any_type(), a.rows, a.c * a.area);
        matrix y = make_dense(any_type(), a.rows * a.area, a.channels);
        a.from = from.v.data, a.from_type = from.v.type, a.y = y.v;
        a.y.stride = 12345; /* it is ignored */
        assert_int_equal(k_pack(NULL, &a), DC_OK);
        for (int64_t r = 0; r < y.rows; r++)
            for (int c = 0; c < a.channels; c++) {
                const int64_t row = r / a.area;
                const int spot = (int)(r % a.area);
                const double v = c >= a.c ? 0 : get(&from, row, c * a.area + spot);
                check("pack", get(&y, r, c), y.v.type, v * (a.scale != 0 ? a.scale : 1), 0);
            }
        drop(from), drop(y);
    }
}

/* ---- norms ------------------------------------------------------------------------------------------------------------------ */

static void test_sums(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        k_sums_args a = {.n = 1 + below(2), .h = 1 + below(20), .w = ONE_OF(1, 7, 33, 200), .c = ONE_OF(1, 5, 8, 40, 72), .rows = 1 << below(4)};
        a.blocks = (a.h + a.rows - 1) / a.rows, a.from = below(2) * 3, a.total = a.from + a.c + below(4);
        matrix x = make_any(any_type(), (int64_t)a.n * a.h * a.w, a.c);
        const int count = a.n * a.blocks * 2 * a.total;
        double *sums = calloc((size_t)count, 8), *y = malloc((size_t)count * 8);
        memset(y, 0xff, (size_t)count * 8);
        a.x = x.v, a.y = y;
        assert_int_equal(k_sums(NULL, &a), DC_OK);
        for (int64_t r = 0; r < x.rows; r++)
            for (int c = 0; c < a.c; c++) {
                const double v = get(&x, r, c);
                double *at = sums + (r / a.w / a.h * a.blocks + r / a.w % a.h / a.rows) * 2 * a.total + a.from + c;
                at[0] += v, at[a.total] += v * v;
            }
        for (int i = 0; i < count; i++) {
            if (i % a.total < a.from || i % a.total >= a.from + a.c) assert_true(isnan(y[i])); /* another source's channels */
            else if (!(fabs(y[i] - sums[i]) <= 1e-6 * (double)(a.rows * a.w))) fail_msg("sum %d: %.9g, expected %.9g", i, y[i], sums[i]);
        }
        drop(x), free(sums), free(y);
    }
}

static double *random_sums(int n, int blocks, int c)
{
    double *s = malloc(sizeof *s * (size_t)(n * blocks * 2 * c));
    for (int i = 0; i < n * blocks * 2; i++)
        for (int k = 0; k < c; k++) s[i * c + k] = i % 2 ? uniform(10, 20) : uniform(-3, 3);
    return s;
}

/* Also: the same bytes however the blocks are distributed over parts. */
static void test_scale(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        k_scale_args a = {.parts = 1 + below(5), .n = 1 + below(2), .groups = ONE_OF(1, 4, 32), .eps = 1e-5f}, whole;
        const int size = ONE_OF(1, 3, 10, 80), blocks = 13, pixels = 5;
        a.c = a.groups * size, a.count = (double)(blocks * pixels * size);
        double *all = random_sums(a.n, blocks, a.c), *parts[5];
        matrix weight = make_dense(DC_F32, 1, a.c), bias = make_dense(DC_F32, 1, a.c);
        float *y = malloc(sizeof *y * (size_t)(a.n * 2 * a.c)), *again = malloc(sizeof *y * (size_t)(a.n * 2 * a.c));
        a.weight = weight.v.data, a.bias = bias.v.data, a.y = y;
        for (int p = 0, before = 0; p < a.parts; before += a.blocks[p++]) {
            a.blocks[p] = p + 1 < a.parts ? blocks / a.parts : blocks - before;
            const size_t block = sizeof(double) * 2 * (size_t)a.c;
            a.sums[p] = parts[p] = malloc((size_t)(a.n * a.blocks[p]) * block);
            for (int n = 0; n < a.n; n++)
                memcpy(parts[p] + n * a.blocks[p] * 2 * a.c, all + (n * blocks + before) * 2 * a.c, (size_t)a.blocks[p] * block);
        }
        whole = a, whole.parts = 1, whole.sums[0] = all, whole.blocks[0] = blocks, whole.y = again;
        assert_int_equal(k_scale(NULL, &a), DC_OK);
        assert_int_equal(k_scale(NULL, &whole), DC_OK);
        assert_memory_equal(y, again, sizeof *y * (size_t)(a.n * 2 * a.c));
        for (int n = 0; n < a.n; n++)
            for (int c = 0; c < a.c; c++) {
                double sum = 0, square = 0;
                for (int b = 0; b < blocks; b++)
                    for (int k = c / size * size; k < (c / size + 1) * size; k++) {
                        sum += all[(n * blocks + b) * 2 * a.c + k];
                        square += all[((n * blocks + b) * 2 + 1) * a.c + k];
                    }
                const double mean = sum / a.count, k = get(&weight, 0, c) / sqrt(square / a.count - mean * mean + a.eps);
                check("scale: factor", y[n * 2 * a.c + c], DC_F32, k, 0);
                check("scale: addend", y[(n * 2 + 1) * a.c + c], DC_F32, get(&bias, 0, c) - mean * k, 0);
            }
        for (int p = 0; p < a.parts; p++) free(parts[p]);
        drop(weight), drop(bias), free(all), free(y), free(again);
    }
}

static void test_layer_norm(void **state)
{
    (void)state;
    for (int round = 0; round < 2 * ROUNDS; round++) {
        k_layer_norm_args a = {.rows = 1 + below(20), .c = ONE_OF(1, 7, 8, 77, 320, 640, 1280, 1664), .eps = 1e-5f};
        matrix x = make_any(any_type(), a.rows, a.c), y = make_any(any_type(), a.rows, a.c), weight = make_dense(DC_F32, 1, a.c);
        matrix bias = make_dense(DC_F32, 1, a.c), to = round % 2 ? x : y;
        for (int64_t r = 0; r < a.rows; r++)
            for (int c = 0; c < a.c; c++) set(&x, r, c, get(&x, r, c) + 30); /* the variance must not be a difference of large numbers */
        double *was = copy_of(&x);
        a.x = x.v, a.y = to.v, a.weight = weight.v.data, a.bias = bias.v.data;
        assert_int_equal(k_layer_norm(NULL, &a), DC_OK);
        for (int64_t r = 0; r < a.rows; r++) {
            double mean = 0, square = 0;
            for (int c = 0; c < a.c; c++) mean += was[r * a.c + c] / a.c;
            for (int c = 0; c < a.c; c++) square += pow(was[r * a.c + c] - mean, 2) / a.c;
            for (int c = 0; c < a.c; c++) {
                const double v = (was[r * a.c + c] - mean) / sqrt(square + a.eps) * get(&weight, 0, c) + get(&bias, 0, c);
                check("layer norm", get(&to, r, c), to.v.type, v, a.c == 1 ? 1 : 64); /* x - mean has the rounding of 30 */
            }
        }
        check_gaps(&to);
        drop(x), drop(y), drop(weight), drop(bias), free(was);
    }
}

static void test_softmax(void **state)
{
    (void)state;
    for (int round = 0; round < 2 * ROUNDS; round++) {
        const int queries = 1 + below(9);
        k_softmax_args a = {
            .rows = queries * (1 + below(3)), .ld = ONE_OF(1, 5, 80, 128, 1100, 2304), .queries = queries, .first = below(4), .causal = round % 2};
        a.keys = 1 + below(a.ld);
        matrix s = make_dense(DC_F32, a.rows, a.ld), p = make_dense(any_type(), a.rows, a.ld);
        for (int64_t r = 0; r < a.rows; r++)
            for (int j = 0; j < a.ld; j++) set(&s, r, j, j < a.keys ? get(&s, r, j) * 20 : NAN); /* what is behind the keys does not count */
        a.s = s.v.data, a.p = p.v;
        assert_int_equal(k_softmax(NULL, &a), DC_OK);
        for (int64_t r = 0; r < a.rows; r++) {
            const int seen = (int)(r % queries) + a.first + 1, keys = a.causal && seen < a.keys ? seen : a.keys;
            double most = -INFINITY, sum = 0;
            for (int j = 0; j < keys; j++) most = fmax(most, get(&s, r, j));
            for (int j = 0; j < keys; j++) sum += exp(get(&s, r, j) - most);
            for (int j = 0; j < a.ld; j++) check("softmax", get(&p, r, j), p.v.type, j < keys ? exp(get(&s, r, j) - most) / sum : 0, 0.5);
        }
        drop(s), drop(p);
    }
}

/* ---- element-wise ------------------------------------------------------------------------------------------------------------- */

static void test_lincomb(void **state)
{
    (void)state;
    for (int round = 0; round < 2 * ROUNDS; round++) {
        float k[8];
        const int each = 1 + below(6), images = 1 + below(3);
        k_lincomb_args a = {.rows = each * images, .k = k, .n = round % 9, .c = ONE_OF(1, 4, 8, 40, 77)};
        matrix x[8], y = make_any(any_type(), a.rows, a.c);
        double *was[8];
        for (int t = 0; t < a.n; t++) {
            a.repeat[t] = below(2) ? a.rows : each;
            x[t] = make_any(any_type(), a.repeat[t], a.c);
            k[t] = below(4) ? (float)uniform(-1, 1) : 0;
            for (int64_t r = 0; k[t] == 0 && r < a.repeat[t]; r++) set(&x[t], r, 0, NAN); /* such a term does not count at all */
            was[t] = copy_of(&x[t]);
            a.x[t] = x[t].v;
        }
        matrix to = a.n && a.repeat[0] == a.rows && below(2) ? x[0] : y;
        a.y = to.v;
        assert_int_equal(k_lincomb(NULL, &a), DC_OK);
        for (int64_t r = 0; r < a.rows; r++)
            for (int c = 0; c < a.c; c++) {
                double sum = 0;
                for (int t = 0; t < a.n; t++) sum += k[t] != 0 ? k[t] * was[t][r % a.repeat[t] * a.c + c] : 0;
                check("lincomb", get(&to, r, c), to.v.type, sum, 2);
            }
        check_gaps(&to);
        for (int t = 0; t < a.n; t++) drop(x[t]), free(was[t]);
        drop(y);
    }
}

static double deviation(const double *x, int64_t n)
{
    double mean = 0, square = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i] / (double)n;
    for (int64_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
    return sqrt(square / (double)(n - 1));
}
static void test_rescale(void **state)
{
    (void)state;
    for (int round = 0; round < 6; round++) {
        k_rescale_args a = {.size = 2 + below(4000), .images = 1 + below(2), .phi = 0.7f};
        matrix guided = make_dense(any_type(), a.images, (int)a.size), cond = make_dense(any_type(), a.images, (int)a.size);
        matrix y = make_dense(any_type(), a.images, (int)a.size), to = round % 2 ? guided : y;
        double *was = copy_of(&guided), *other = copy_of(&cond);
        a.guided = guided.v, a.cond = cond.v, a.y = to.v;
        assert_int_equal(k_rescale(NULL, &a), DC_OK);
        for (int64_t i = 0; i < a.images * a.size; i++) {
            const int64_t n = i / a.size;
            const double ratio = deviation(other + n * a.size, a.size) / deviation(was + n * a.size, a.size);
            check("rescale", get(&to, n, (int)(i % a.size)), to.v.type, (a.phi * ratio + 1 - a.phi) * was[i], 0);
        }
        drop(guided), drop(cond), drop(y), free(was), free(other);
    }
}

static void test_stats(void **state)
{
    (void)state;
    for (int round = 0; round < 8; round++) {
        const int n = ONE_OF(1, 7, 255, 2049, 20000);
        matrix x = make_dense(any_type(), 1, n);
        if (round % 2) set(&x, 0, below(n), NAN), set(&x, 0, below(n), -INFINITY);
        double y[K_STATS][4], sum = 0, square = 0, most = 0, bad = 0, found[4] = {0};
        assert_int_equal(k_stats(NULL, &(k_stats_args){.x = x.v, .y = y[0], .n = n}), DC_OK);
        for (int i = 0; i < n; i++) {
            const double v = get(&x, 0, i);
            if (isfinite(v)) sum += v, square += v * v, most = fmax(most, fabs(v));
            else bad++;
        }
        for (int p = 0; p < K_STATS; p++)
            for (int i = 0; i < 4; i++) found[i] = i == 2 ? fmax(found[i], y[p][i]) : found[i] + y[p][i];
        assert_true(fabs(found[0] - sum) < 1e-9 * n && fabs(found[1] - square) < 1e-9 * n && found[2] == most && found[3] == bad);
        drop(x);
    }
}

static void test_rgb8(void **state)
{
    (void)state;
    for (int round = 0; round < 6; round++) {
        enum { N = 1000 };
        matrix x = make_dense(any_type(), 1, N);
        uint8_t y[N];
        set(&x, 0, 5, NAN), set(&x, 0, 6, INFINITY), set(&x, 0, 7, -INFINITY), set(&x, 0, 8, -1), set(&x, 0, 9, 1), set(&x, 0, 10, 0);
        assert_int_equal(k_rgb8(NULL, &(k_rgb8_args){.x = x.v, .y = y, .n = N}), DC_OK);
        for (int i = 0; i < N; i++) {
            const float v = (float)get(&x, 0, i) / 2 + 0.5f;
            assert_int_equal(y[i], isfinite(v) ? (int)rintf(fmaxf(0, fminf(v, 1)) * 255.0f) : 0);
        }
        drop(x);
    }
}

static void test_embed_and_pick(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        int32_t ids[64];
        const int c = ONE_OF(1, 6, 8, 40), t = 1 + below(7), images = 1 + below(3), words = 30;
        k_embed_args a = {.ids = ids, .rows = t * images, .t = t, .c = c};
        matrix table = make_any(any_type(), words, c), positions = round % 2 ? make_any(any_type(), t, c) : none, y = make_any(any_type(), a.rows, c);
        for (int i = 0; i < a.rows; i++) ids[i] = below(words);
        a.table = table.v, a.positions = positions.v, a.y = y.v;
        assert_int_equal(k_embed(NULL, &a), DC_OK);
        for (int64_t r = 0; r < a.rows; r++)
            for (int i = 0; i < c; i++)
                check("embed", get(&y, r, i), y.v.type, get(&table, ids[r], i) + (positions.memory ? get(&positions, r % t, i) : 0), 0);
        check_gaps(&y);
        matrix z = make_any(any_type(), images, c);
        for (int i = 0; i < images; i++) ids[i] = below(t);
        assert_int_equal(k_pick(NULL, &(k_pick_args){.y = z.v, .x = y.v, .index = ids, .rows = images, .t = t, .c = c}), DC_OK);
        for (int r = 0; r < images; r++)
            for (int i = 0; i < c; i++) check("pick", get(&z, r, i), z.v.type, get(&y, r * t + ids[r], i), 0);
        check_gaps(&z);
        drop(table), drop(positions), drop(y), drop(z);
    }
}

/* Exponents and phases are floats, as in diffusers: an exponent's rounding (2 times, 2^-24 each) is its frequency's relative error. */
static void test_timestep(void **state)
{
    (void)state;
    const float t[3] = {0, 1.5f, 981};
    for (int round = 0; round < 4; round++) {
        float y[3 * 320];
        k_timestep_args a = {.y = y, .t = t, .n = 3, .dim = round == 3 ? 7 : 320, .shift = round == 1 ? 1 : 0, .flip = round % 2 == 0};
        assert_int_equal(k_timestep(NULL, &a), DC_OK);
        for (int i = 0; i < a.n * a.dim; i++) {
            const int half = a.dim / 2, k = i % a.dim;
            const double exponent = log(10000) * (k % half) / ((double)half - a.shift), phase = t[i / a.dim] * exp(-exponent);
            const double expected = k == 2 * half ? 0 : (k < half) == a.flip ? cos(phase) : sin(phase);
            if (!(fabs(y[i] - expected) <= 1e-7 + phase * 0x1p-23 * (1 + exponent)))
                fail_msg("timestep %d: %.9g, expected %.9g", i, (double)y[i], expected);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gather),   cmocka_unit_test(test_finish),     cmocka_unit_test(test_pack),    cmocka_unit_test(test_sums),
        cmocka_unit_test(test_scale),    cmocka_unit_test(test_layer_norm), cmocka_unit_test(test_softmax), cmocka_unit_test(test_lincomb),
        cmocka_unit_test(test_rescale),  cmocka_unit_test(test_stats),      cmocka_unit_test(test_rgb8),    cmocka_unit_test(test_embed_and_pick),
        cmocka_unit_test(test_timestep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
