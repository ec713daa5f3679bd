/* elementwise.c - what touches each number once on the CPU: linear combinations, activations, statistics, pixels, time
 * embeddings. Sums are in double over parts whose number depends on the length alone, added up in their order. */
#include "backends/cpu/act.h"
#include "backends/cpu/cpu.h"
#include <math.h>

enum { TASK_FLOATS = 16384, MOST_PARTS = 64, MOST_TERMS = 8 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static bool is_dense(dc_tensor t) { return t.stride == dc_channels(t); }

/* ---- linear combinations and activations ----------------------------------------------------------------------------- */

/* Runs of `length` floats that lie dense in every tensor: whole images when all are dense, rows otherwise. Short ones are
 * grouped and long ones cut to make tasks of about TASK_FLOATS. */
typedef struct runs {
    int64_t count, length, group, piece, pieces; /* runs in all; floats of each; runs of a task; floats of a piece; pieces of a run */
} runs;

static runs runs_of(int64_t count, int64_t length)
{
    runs r = {.count = count, .length = length, .group = 1, .piece = TASK_FLOATS};
    if (length < TASK_FLOATS) {
        r.group = TASK_FLOATS / (length ? length : 1);
        r.piece = length;
    }
    r.pieces = r.piece ? (length + r.piece - 1) / r.piece : 0;
    return r;
}
static int64_t tasks_of(const runs *r) { return (r->count + r->group - 1) / r->group * r->pieces; }

typedef struct lincomb_job {
    dc_device *d;
    const dc_lincomb_args *a;
    runs r;
    bool dense;
} lincomb_job;

/* Run i of t: its image, or its row; a tensor with one image serves all images. */
static float *run_of(dc_tensor t, int64_t i, const lincomb_job *j)
{
    const int64_t images = j->a->y.dim[0], each = j->r.count / images;
    if (t.dim[0] == 1 && images > 1) i %= each;
    return (float *)t.data + i * (j->dense ? j->r.length : t.stride);
}

static void lincomb_task(void *ctx, int64_t i, int thread)
{
    (void)thread;
    const lincomb_job *j = ctx;
    const int64_t first = i / j->r.pieces * j->r.group, end = least(first + j->r.group, j->r.count);
    const int64_t from = i % j->r.pieces * j->r.piece, n = least(j->r.piece, j->r.length - from);
    for (int64_t r = first; r < end; r++) {
        const float *x[MOST_TERMS];
        float k[MOST_TERMS];
        for (int t = 0; t < j->a->n; t++) {
            x[t] = run_of(j->a->term[t].x, r, j) + from;
            k[t] = j->a->term[t].k;
        }
        cpu_of(j->d)->rows->lincomb(run_of(j->a->y, r, j) + from, x, k, j->a->n, n);
    }
}

dc_status cpu_lincomb(dc_device *d, const dc_lincomb_args *a)
{
    lincomb_job j = {.d = d, .a = a, .dense = is_dense(a->y)};
    for (int t = 0; t < a->n; t++) j.dense = j.dense && is_dense(a->term[t].x);
    const int64_t images = a->y.dim[0], all = dc_numel(a->y);
    j.r = j.dense ? runs_of(images, images ? all / images : 0) : runs_of(dc_rows(a->y), dc_channels(a->y));
    return cpu_for(d, tasks_of(&j.r), lincomb_task, &j);
}

typedef struct act_job {
    dc_device *d;
    const dc_act_args *a;
    runs r;
} act_job;

static void act_task(void *ctx, int64_t i, int thread)
{
    (void)thread;
    const act_job *j = ctx;
    const dc_tensor x = j->a->x, y = j->a->y;
    const int64_t first = i / j->r.pieces * j->r.group, end = least(first + j->r.group, j->r.count);
    const int64_t from = i % j->r.pieces * j->r.piece, n = least(j->r.piece, j->r.length - from);
    for (int64_t r = first; r < end; r++)
        cpu_of(j->d)->rows->act((float *)y.data + r * y.stride + from, (const float *)x.data + r * x.stride + from, n, j->a->act);
}

dc_status cpu_activate(dc_device *d, const dc_act_args *a)
{
    const bool dense = is_dense(a->x) && is_dense(a->y);
    act_job j = {d, a, dense ? runs_of(1, dc_numel(a->x)) : runs_of(dc_rows(a->x), dc_channels(a->x))};
    return cpu_for(d, tasks_of(&j.r), act_task, &j);
}

/* ---- statistics ------------------------------------------------------------------------------------------------------------ */

typedef struct part {
    double sum, square, absmax;
    int64_t non_finite;
} part;

/* Around `centre` (square only): a first round finds the mean, a second the deviation from it. */
typedef struct stats_job {
    const float *x;
    int64_t n, size; /* numbers in all, of a part */
    double centre;
    part parts[MOST_PARTS];
} stats_job;

enum { LANES = 8 };

static void stats_task(void *ctx, int64_t i, int thread)
{
    (void)thread;
    stats_job *j = ctx;
    const float *x = j->x + i * j->size;
    const int64_t n = least(j->size, j->n - i * j->size);
    double sum[LANES] = {0}, square[LANES] = {0};
    float most[LANES] = {0};
    int32_t bad[LANES] = {0};
    part p = {0};
    for (int64_t k = 0; k < n; k += LANES)
        for (int l = 0; l < LANES && k + l < n; l++) {
            const double v = x[k + l] - j->centre;
            const float a = fabsf(x[k + l]);
            sum[l] += x[k + l];
            square[l] += v * v;
            most[l] = a > most[l] ? a : most[l];
            bad[l] += !(a <= 3.40282347e38f);
        }
    for (int l = 0; l < LANES; l++) {
        p.sum += sum[l];
        p.square += square[l];
        p.absmax = most[l] > p.absmax ? most[l] : p.absmax;
        p.non_finite += bad[l];
    }
    j->parts[i] = p;
}

/* One round over x; the parts lie in j until the next. */
static part stats_round(dc_device *d, stats_job *j, double centre)
{
    part all = {0};
    const int64_t parts = (j->n + j->size - 1) / j->size;
    j->centre = centre;
    dc_parallel_for(cpu_of(d)->pool, parts, stats_task, j, NULL);
    for (int64_t i = 0; i < parts; i++) {
        all.sum += j->parts[i].sum;
        all.square += j->parts[i].square;
        all.absmax = fmax(all.absmax, j->parts[i].absmax);
        all.non_finite += j->parts[i].non_finite;
    }
    return all;
}

/* mean, unbiased deviation (as torch.std) and the rest of n numbers */
static dc_stats stats_of(dc_device *d, const float *x, int64_t n)
{
    stats_job j = {.x = x, .n = n, .size = (n + MOST_PARTS - 1) / MOST_PARTS};
    j.size = j.size < 1024 ? 1024 : (j.size + LANES - 1) / LANES * LANES;
    const part first = stats_round(d, &j, 0);
    dc_stats s = {.mean = n ? first.sum / (double)n : 0, .absmax = first.absmax, .non_finite = first.non_finite};
    if (n > 1) s.deviation = sqrt(stats_round(d, &j, s.mean).square / (double)(n - 1));
    return s;
}

dc_status cpu_stats(dc_device *d, const dc_stats_args *a)
{
    *a->host = stats_of(d, a->x.data, dc_numel(a->x));
    return dc_cancelled(d) ? DC_CANCELLED : DC_OK;
}

dc_status cpu_rescale_std(dc_device *d, const dc_rescale_args *a)
{
    const int64_t images = a->guided.dim[0], each = dc_numel(a->guided) / images;
    for (int64_t n = 0; n < images; n++) {
        const float *guided = (const float *)a->guided.data + n * each, *cond = (const float *)a->cond.data + n * each;
        const double ratio = stats_of(d, cond, each).deviation / stats_of(d, guided, each).deviation;
        const float k = (float)(a->phi * ratio + (1 - (double)a->phi));
        cpu_of(d)->rows->lincomb((float *)a->y.data + n * each, &guided, &k, 1, each);
    }
    return dc_cancelled(d) ? DC_CANCELLED : DC_OK;
}

/* ---- pixels and time -------------------------------------------------------------------------------------------------------- */

typedef struct rgb8_job {
    const float *x;
    uint8_t *y;
    int64_t n;
} rgb8_job;

static void rgb8_task(void *ctx, int64_t i, int thread)
{
    (void)thread;
    const rgb8_job *j = ctx;
    const int64_t end = least((i + 1) * TASK_FLOATS, j->n);
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, half to even */
    for (int64_t k = i * TASK_FLOATS; k < end; k++) {
        float v = j->x[k] / 2 + 0.5f;
        v = v > 0 ? v : 0; /* NaN becomes 0 */
        v = v < 1 ? v : isinf(v) ? 0 : 1;
        j->y[k] = (uint8_t)(v * 255.0f + round - round);
    }
}

dc_status cpu_to_rgb8(dc_device *d, const dc_rgb8_args *a)
{
    rgb8_job j = {a->x.data, a->y.data, dc_numel(a->x)};
    return cpu_for(d, (j.n + TASK_FLOATS - 1) / TASK_FLOATS, rgb8_task, &j);
}

/* Frequencies and phases are rounded to float where diffusers rounds them: phases are large, their rounding shows.
 * Ref: diffusers get_timestep_embedding. */
dc_status cpu_timestep_embedding(dc_device *d, const dc_timestep_args *a)
{
    (void)d;
    const int half = a->o.dim / 2;
    for (int64_t n = 0; n < a->t.dim[0]; n++) {
        const float t = ((const float *)a->t.data)[n * (a->t.rank > 1 ? a->t.stride : 1)];
        float *y = (float *)a->y.data + n * a->y.stride;
        for (int i = 0; i < half; i++) {
            const float exponent = -(float)log(10000.0) * (float)i / ((float)half - a->o.freq_shift);
            const float phase = t * (float)exp(exponent);
            y[a->o.flip_sin_to_cos ? half + i : i] = (float)sin(phase);
            y[a->o.flip_sin_to_cos ? i : half + i] = (float)cos(phase);
        }
        if (a->o.dim % 2) y[a->o.dim - 1] = 0;
    }
    return DC_OK;
}
