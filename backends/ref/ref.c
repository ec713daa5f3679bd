/* ref.c - the reference device: plain loops, sums in double. Tests judge other devices with it (after it has been
 * judged by outside references itself), and a new device begins as a copy of this file: fill in one function after the
 * other, the tests in tests/backends run on every device that device.c lists.
 *
 * What a device gets and may do: backends/backend.h. Parameters are kept here as plain float arrays. */
#include "backends/backend.h"
#include "base/half.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- device and memory -------------------------------------------------------------------------------------- */

static dc_status ref_open(dc_device *d, const dc_device_options *o, dc_error *e)
{
    (void)o;
    if (d->precision == DC_PRECISION_AUTO) d->precision = DC_PRECISION_F32;
    if (d->precision != DC_PRECISION_F32) return dc_refuse_precision(d, "auto or f32", e);
    snprintf(d->summary, sizeof d->summary, "ref, 1 thread");
    return DC_OK;
}
static void ref_close(dc_device *d) { (void)d; }
static void *ref_alloc(dc_device *d, uint64_t bytes) { return (void)d, aligned_alloc(64, (bytes + 63) / 64 * 64); }
static void ref_free(dc_device *d, void *p, uint64_t bytes)
{
    (void)d, (void)bytes;
    free(p);
}
static dc_status ref_copy(dc_device *d, void *to, const void *from, uint64_t bytes)
{
    (void)d;
    memcpy(to, from, bytes);
    return DC_OK;
}

/* ---- parameters ------------------------------------------------------------------------------------------------ */

/* weight as the file orders it, [out][in*kh*kw] (transposed ones put right), then bias [out] (zeros without one). */
typedef struct form {
    const float *weight, *bias;
} form;

static int64_t row_size(const dc_param *p) { return (int64_t)p->desc.in * p->desc.kh * p->desc.kw; }
static form form_of(const dc_param *p) { return (form){p->form, (const float *)p->form + p->desc.out * row_size(p)}; }

static uint64_t ref_param_bytes(dc_device *d, const dc_param *p) { return (void)d, 4ull * (uint64_t)p->desc.out * (uint64_t)(row_size(p) + 1); }

static dc_status ref_param_prepare(dc_device *d, dc_param *p, dc_error *e)
{
    (void)d;
    const dc_param_desc *k = &p->desc;
    int64_t row = k->transposed ? k->out : row_size(p), at = 0;
    float *w = malloc(p->form_bytes), *b = w ? w + k->out * row_size(p) : NULL;
    if (!w) return dc_fail_memory(e, k->name, p->form_bytes);
    for (int i = 0; i < k->n_weight; at += k->weight[i++].rows) {
        if (!k->transposed) dc_source_floats(&k->weight[i], 0, k->weight[i].rows * row, w + at * row);
        for (int64_t r = 0; k->transposed && r < k->weight[i].rows; r++)
            for (int64_t c = 0; c < row; c++) w[c * k->in + at + r] = dc_source_value(&k->weight[i], r * row + c);
    }
    memset(b, 0, sizeof(float) * (size_t)k->out);
    at = 0;
    for (int i = 0; i < k->n_bias; at += k->bias[i++].rows) dc_source_floats(&k->bias[i], 0, k->bias[i].rows, b + at);
    p->form = w;
    return DC_OK;
}

static void ref_param_drop(dc_device *d, dc_param *p)
{
    (void)d;
    free(p->form);
}

/* ---- activations and prologues ------------------------------------------------------------------------------------ */

static double activate(double x, dc_act act)
{
    switch (act) {
    case DC_ACT_SILU: return x / (1 + exp(-x));
    case DC_ACT_GELU: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case DC_ACT_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    case DC_ACT_RELU: return x > 0 ? x : 0;
    case DC_ACT_TANH3: return 3 * tanh(x / 3);
    default: return x;
    }
}

static const float *row_of(dc_tensor t, int64_t row) { return (const float *)t.data + row * t.stride; }

/* Channel c of row `row` of x joined with x2. */
static float joined(dc_tensor x, dc_tensor x2, int64_t row, int64_t c)
{
    int64_t C = dc_channels(x);
    return c < C ? row_of(x, row)[c] : row_of(x2, row)[c - C];
}

/* out [rows, C] = act(group_norm(x|x2)), rows of one image after the other. Ref: torch GroupNorm, biased variance. */
static void group_norm(dc_tensor x, dc_tensor x2, const dc_param *norm, int groups, double eps, dc_act act, float *out)
{
    int64_t C = dc_channels(x) + (dc_is_none(x2) ? 0 : dc_channels(x2)), rows = dc_rows(x) / x.dim[0], size = C / groups;
    form f = form_of(norm);
    for (int64_t n = 0; n < x.dim[0]; n++)
        for (int64_t g = 0; g < groups; g++) {
            double sum = 0, square = 0, count = (double)(rows * size);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = g * size; c < (g + 1) * size; c++) sum += joined(x, x2, n * rows + r, c);
            double mean = sum / count;
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = g * size; c < (g + 1) * size; c++) square += pow(joined(x, x2, n * rows + r, c) - mean, 2);
            double scale = 1 / sqrt(square / count + eps);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = g * size; c < (g + 1) * size; c++)
                    out[(n * rows + r) * C + c] = (float)activate((joined(x, x2, n * rows + r, c) - mean) * scale * f.weight[c] + f.bias[c], act);
        }
}

/* Sums and sums of squares of x by block of rows and channel. */
static dc_status ref_group_sums(dc_device *d, const dc_group_sums_args *a)
{
    (void)d;
    const int64_t C = dc_channels(a->x), H = a->x.dim[1], W = a->x.dim[2], blocks = a->y.dim[1];
    double *out = a->y.data;
    memset(out, 0, sizeof *out * (size_t)dc_numel(a->y));
    for (int64_t row = 0; row < dc_rows(a->x); row++) {
        const int64_t n = row / (H * W), block = row / W % H / a->rows;
        double *sum = out + (n * blocks + block) * 2 * C, *square = sum + C;
        for (int64_t c = 0; c < C; c++) {
            const double v = row_of(a->x, row)[c];
            sum[c] += v;
            square[c] += v * v;
        }
    }
    return DC_OK;
}

/* A group norm as one factor and one addend a channel. */
static dc_status ref_group_scale(dc_device *d, const dc_group_scale_args *a)
{
    (void)d;
    const int64_t C = a->norm->desc.out, size = C / a->groups;
    const form f = form_of(a->norm);
    for (int64_t i = 0; i < a->y.dim[0] * a->groups; i++) {
        const int64_t n = i / a->groups, first = i % a->groups * size;
        double sum = 0, square = 0;
        for (int k = 0; k < a->n; k++)
            for (int64_t block = 0, blocks = a->sums[k].dim[1]; block < blocks; block++)
                for (int64_t c = first; c < first + size; c++) {
                    const double *at = (const double *)a->sums[k].data + (n * blocks + block) * 2 * C;
                    sum += at[c];
                    square += at[C + c];
                }
        const double count = (double)(a->pixels * size), mean = sum / count, deviation = sqrt(fmax(square / count - mean * mean, 0) + a->eps);
        for (int64_t c = first; c < first + size; c++) {
            float *scale = (float *)a->y.data + n * 2 * C;
            scale[c] = (float)(f.weight[c] / deviation);
            scale[C + c] = (float)(f.bias[c] - mean * f.weight[c] / deviation);
        }
    }
    return DC_OK;
}

/* out [rows, C] = the prologue of x, but for the resize. */
static void prologue(dc_tensor x, const dc_pre *pre, float *out)
{
    if (pre->norm) {
        group_norm(x, pre->x2, pre->norm, pre->groups, pre->eps, pre->act, out);
        return;
    }
    const bool scaled = !dc_is_none(pre->scale);
    int64_t C = dc_channels(x) + (dc_is_none(pre->x2) ? 0 : dc_channels(pre->x2));
    for (int64_t r = 0; r < dc_rows(x); r++) {
        const float *scale = scaled ? (const float *)pre->scale.data + r / (dc_rows(x) / x.dim[0]) * 2 * C : NULL;
        for (int64_t c = 0; c < C; c++) {
            const double v = joined(x, pre->x2, r, c);
            out[r * C + c] = (float)activate(scaled ? v * scale[c] + scale[C + c] : v, pre->act);
        }
    }
}

/* ---- convolution and linear --------------------------------------------------------------------------------------------- */

static uint64_t ref_conv2d_scratch(dc_device *d, const dc_conv_args *a)
{
    (void)d;
    return 4ull * (uint64_t)(dc_rows(a->x) + dc_rows(a->o.strip.above) + dc_rows(a->o.strip.below)) * (uint64_t)a->k->desc.in;
}

/* The prologue's results, at their own sizes. */
typedef struct conv_input {
    float *x, *above, *below;
} conv_input;

/* One output value: the sum over the kernel's window. */
static double window(const dc_conv_args *a, const conv_input *in, int64_t n, int64_t oy, int64_t ox, int64_t o)
{
    const dc_param_desc *k = &a->k->desc;
    const float *w = form_of(a->k).weight + o * row_size(a->k);
    double sum = 0;
    for (int ky = 0; ky < k->kh; ky++)
        for (int kx = 0; kx < k->kw; kx++) {
            int64_t y = oy * a->o.stride + ky - a->o.pad[0], x = ox * a->o.stride + kx - a->o.pad[1];
            int64_t sy, sx = x * a->x.dim[2] / a->in_w; /* nearest, as torch */
            const dc_tensor source = dc_conv_source(a, y, &sy);
            if (dc_is_none(source) || x < 0 || x >= a->in_w) continue;
            const float *from = y < 0 ? in->above : y >= a->in_h ? in->below : in->x;
            const float *p = from + ((n * source.dim[1] + sy) * source.dim[2] + sx) * k->in;
            for (int c = 0; c < k->in; c++) sum += (double)p[c] * w[(c * k->kh + ky) * k->kw + kx];
        }
    return sum;
}

static dc_status ref_conv2d(dc_device *d, const dc_conv_args *a, void *scratch)
{
    const dc_param_desc *k = &a->k->desc;
    const dc_tensor above = a->o.strip.above, below = a->o.strip.below;
    conv_input in = {.x = scratch};
    int64_t H = a->y.dim[1], W = a->y.dim[2];
    in.above = in.x + dc_rows(a->x) * k->in;
    in.below = in.above + dc_rows(above) * k->in;
    prologue(a->x, &a->o.pre, in.x);
    if (!dc_is_none(above)) prologue(above, &a->o.pre, in.above);
    if (!dc_is_none(below)) prologue(below, &a->o.pre, in.below);
    for (int64_t row = 0; row < dc_rows(a->y); row++) {
        int64_t n = row / (H * W), oy = row / W % H, ox = row % W;
        if (dc_cancelled(d)) return DC_CANCELLED;
        for (int64_t o = 0; o < k->out; o++) {
            double v = window(a, &in, n, oy, ox, o) + form_of(a->k).bias[o];
            if (!dc_is_none(a->o.add)) v += row_of(a->o.add, a->o.add.dim[0] == 1 ? 0 : n)[o];
            if (!dc_is_none(a->o.residual)) v += row_of(a->o.residual, row)[o];
            ((float *)a->y.data)[row * a->y.stride + o] = (float)activate(v, a->o.act);
        }
    }
    return DC_OK;
}

static uint64_t ref_linear_scratch(dc_device *d, const dc_linear_args *a)
{
    return (void)d, 4ull * (uint64_t)dc_rows(a->x) * (uint64_t)a->k->desc.in;
}

static double dot(const float *x, const float *w, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * w[i];
    return sum;
}

static dc_status ref_linear(dc_device *d, const dc_linear_args *a, void *scratch)
{
    const dc_param_desc *k = &a->k->desc;
    form f = form_of(a->k);
    float *in = scratch;
    int64_t O = dc_channels(a->y);
    prologue(a->x, &a->o.pre, in);
    for (int64_t r = 0; r < dc_rows(a->y); r++) {
        if (dc_cancelled(d)) return DC_CANCELLED;
        for (int64_t o = 0; o < O; o++) {
            double v = dot(in + r * k->in, f.weight + o * k->in, k->in) + f.bias[o];
            if (k->geglu) v *= activate(dot(in + r * k->in, f.weight + (O + o) * k->in, k->in) + f.bias[O + o], DC_ACT_GELU);
            if (!dc_is_none(a->o.residual)) v += row_of(a->o.residual, r)[o];
            ((float *)a->y.data)[r * a->y.stride + o] = (float)activate(v, a->o.act);
        }
    }
    return DC_OK;
}

/* ---- norms and attention -------------------------------------------------------------------------------------------------- */

static dc_status ref_norm(dc_device *d, const dc_norm_args *a, void *scratch)
{
    (void)d, (void)scratch;
    if (a->groups) {
        group_norm(a->x, DC_NONE, a->norm, a->groups, a->eps, a->act, a->y.data);
        return DC_OK;
    }
    int64_t C = dc_channels(a->x);
    form f = form_of(a->norm);
    for (int64_t r = 0; r < dc_rows(a->x); r++) {
        const float *x = row_of(a->x, r);
        double sum = 0, square = 0;
        for (int64_t c = 0; c < C; c++) sum += x[c];
        for (int64_t c = 0; c < C; c++) square += (x[c] - sum / (double)C) * (x[c] - sum / (double)C);
        double scale = 1 / sqrt(square / (double)C + a->eps);
        for (int64_t c = 0; c < C; c++)
            ((float *)a->y.data)[r * C + c] = (float)activate((x[c] - sum / (double)C) * scale * f.weight[c] + f.bias[c], a->act);
    }
    return DC_OK;
}

static uint64_t ref_attention_scratch(dc_device *d, const dc_attention_args *a) { return (void)d, 8ull * (uint64_t)a->o.keys; }

/* One query of one head: its scores, their softmax, the mean of the values. */
static void attend(const dc_attention_args *a, int64_t n, int64_t i, int64_t from, int64_t size, double *score)
{
    int64_t shared = a->k.dim[0] == 1 ? 0 : n, keys = a->o.causal && i + 1 < a->o.keys ? i + 1 : a->o.keys;
    const float *q = row_of(a->q, n * a->q.dim[1] + i) + from;
    float *y = (float *)a->y.data + (n * a->y.dim[1] + i) * a->y.stride + from;
    double most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < keys; j++) {
        score[j] = a->o.scale * dot(q, row_of(a->k, shared * a->k.dim[1] + j) + from, size);
        most = fmax(most, score[j]);
    }
    for (int64_t j = 0; j < keys; j++) sum += score[j] = exp(score[j] - most);
    for (int64_t c = 0; c < size; c++) {
        double v = 0;
        for (int64_t j = 0; j < keys; j++) v += score[j] * row_of(a->v, shared * a->v.dim[1] + j)[from + c];
        y[c] = (float)(v / sum);
    }
}

static dc_status ref_attention(dc_device *d, const dc_attention_args *a, void *scratch)
{
    int64_t size = dc_channels(a->q) / a->o.heads;
    for (int64_t n = 0; n < a->q.dim[0]; n++)
        for (int64_t h = 0; h < a->o.heads; h++)
            for (int64_t i = 0; i < a->q.dim[1]; i++) {
                if (dc_cancelled(d)) return DC_CANCELLED;
                attend(a, n, i, h * size, size, scratch);
            }
    return DC_OK;
}

/* ---- the rest ---------------------------------------------------------------------------------------------------------------- */

static dc_status ref_embed(dc_device *d, const dc_embed_args *a)
{
    (void)d;
    int64_t C = dc_channels(a->y), T = a->ids.dim[1];
    for (int64_t r = 0; r < dc_rows(a->y); r++) {
        int32_t id = ((const int32_t *)a->ids.data)[r];
        if (id < 0 || id >= a->table->desc.out) return DC_DATA;
        for (int64_t c = 0; c < C; c++)
            ((float *)a->y.data)[r * C + c] = form_of(a->table).weight[id * C + c] + (a->positions ? form_of(a->positions).weight[r % T * C + c] : 0);
    }
    return DC_OK;
}

static dc_status ref_gather_rows(dc_device *d, const dc_gather_args *a)
{
    (void)d;
    for (int64_t n = 0; n < a->x.dim[0]; n++) {
        int32_t i = ((const int32_t *)a->index.data)[n];
        if (i < 0 || i >= a->x.dim[1]) return DC_DATA;
        memcpy((float *)a->y.data + n * a->y.stride, row_of(a->x, n * a->x.dim[1] + i), sizeof(float) * (size_t)dc_channels(a->x));
    }
    return DC_OK;
}

/* In float where diffusers computes in float: the phases are large. Ref: get_timestep_embedding. */
static dc_status ref_timestep_embedding(dc_device *d, const dc_timestep_args *a)
{
    (void)d;
    int half = a->o.dim / 2;
    for (int64_t n = 0; n < a->t.dim[0]; n++) {
        float *y = (float *)a->y.data + n * a->y.stride, t = ((const float *)a->t.data)[n];
        for (int i = 0; i < half; i++) {
            float exponent = -(float)log(10000.0) * (float)i / ((float)half - a->o.freq_shift), phase = t * expf(exponent);
            y[a->o.flip_sin_to_cos ? half + i : i] = sinf(phase);
            y[a->o.flip_sin_to_cos ? i : half + i] = cosf(phase);
        }
        if (a->o.dim % 2) y[a->o.dim - 1] = 0;
    }
    return DC_OK;
}

static dc_status ref_lincomb(dc_device *d, const dc_lincomb_args *a)
{
    (void)d;
    int64_t C = dc_channels(a->y), rows = dc_rows(a->y);
    if (a->y.rank == 1) rows = a->y.dim[0], C = 1;
    int64_t stride = a->y.rank == 1 ? 1 : a->y.stride;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < C; c++) {
            double sum = 0;
            for (int i = 0; i < a->n; i++) {
                dc_tensor x = a->term[i].x;
                int64_t own = x.rank == 1 ? x.dim[0] : dc_rows(x);
                sum += (double)a->term[i].k * ((const float *)x.data)[r % own * (x.rank == 1 ? 1 : x.stride) + c];
            }
            ((float *)a->y.data)[r * stride + c] = (float)sum;
        }
    return DC_OK;
}

static dc_status ref_activate(dc_device *d, const dc_act_args *a)
{
    (void)d;
    int64_t C = dc_channels(a->x);
    for (int64_t r = 0; r < dc_rows(a->x); r++)
        for (int64_t c = 0; c < C; c++) ((float *)a->y.data)[r * C + c] = (float)activate(row_of(a->x, r)[c], a->act);
    return DC_OK;
}

/* Standard deviation as torch's: divided by n - 1. */
static double deviation(const float *x, int64_t n, double *mean)
{
    double sum = 0, square = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    *mean = n ? sum / (double)n : 0;
    for (int64_t i = 0; i < n; i++) square += (x[i] - *mean) * (x[i] - *mean);
    return n > 1 ? sqrt(square / (double)(n - 1)) : 0;
}

static dc_status ref_rescale_std(dc_device *d, const dc_rescale_args *a)
{
    (void)d;
    int64_t each = dc_numel(a->guided) / a->guided.dim[0];
    double mean;
    for (int64_t n = 0; n < a->guided.dim[0]; n++) {
        const float *g = (const float *)a->guided.data + n * each, *c = (const float *)a->cond.data + n * each;
        double ratio = deviation(c, each, &mean) / deviation(g, each, &mean), k = a->phi * ratio + (1 - (double)a->phi);
        for (int64_t i = 0; i < each; i++) ((float *)a->y.data)[n * each + i] = (float)(k * g[i]);
    }
    return DC_OK;
}

static dc_status ref_stats(dc_device *d, const dc_stats_args *a)
{
    (void)d;
    const float *x = a->x.data;
    int64_t n = dc_numel(a->x);
    *a->host = (dc_stats){0};
    for (int64_t i = 0; i < n; i++) {
        a->host->non_finite += !isfinite(x[i]);
        a->host->absmax = fmax(a->host->absmax, fabs(x[i]));
    }
    a->host->deviation = deviation(x, n, &a->host->mean);
    return DC_OK;
}

static dc_status ref_to_rgb8(dc_device *d, const dc_rgb8_args *a)
{
    (void)d;
    for (int64_t i = 0; i < dc_numel(a->x); i++) {
        float v = ((const float *)a->x.data)[i] / 2 + 0.5f;
        v = isfinite(v) ? fmaxf(0, fminf(v, 1)) : 0;
        ((uint8_t *)a->y.data)[i] = (uint8_t)rintf(v * 255.0f);
    }
    return DC_OK;
}

static dc_status ref_dots(dc_device *d, const dc_dots_args *a)
{
    for (int q = 0; q < a->queries; q++)
        for (int64_t r = 0; r < a->n; r++) {
            double sum = 0;
            for (int k = 0; k < a->width; k++) sum += (double)dc_f16_to_f32(a->rows[r * a->width + k]) * a->query[(int64_t)q * a->width + k];
            a->y[q * a->stride + r] = (float)sum;
        }
    return dc_cancelled(d) ? DC_CANCELLED : DC_OK;
}

const dc_backend dc_backend_ref = {
    .name = "ref",
    .open = ref_open,
    .close = ref_close,
    .alloc = ref_alloc,
    .free = ref_free,
    .upload = ref_copy,
    .download = ref_copy,
    .param_bytes = ref_param_bytes,
    .param_prepare = ref_param_prepare,
    .param_drop = ref_param_drop,
    .conv2d_scratch = ref_conv2d_scratch,
    .conv2d = ref_conv2d,
    .linear_scratch = ref_linear_scratch,
    .linear = ref_linear,
    .norm = ref_norm,
    .group_sums = ref_group_sums,
    .group_scale = ref_group_scale,
    .attention_scratch = ref_attention_scratch,
    .attention = ref_attention,
    .embed = ref_embed,
    .gather_rows = ref_gather_rows,
    .timestep_embedding = ref_timestep_embedding,
    .lincomb = ref_lincomb,
    .activate = ref_activate,
    .rescale_std = ref_rescale_std,
    .stats = ref_stats,
    .to_rgb8 = ref_to_rgb8,
    .dots = ref_dots,
};
