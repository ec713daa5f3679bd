/* wino_kernel.h - the functions of wino.h for one instruction set: wino_LEVEL.c defines WINO_NAME and WINO_WIDTH. */
#include "backends/cpu/act.h"
#include "backends/cpu/vec.h"
#include "backends/cpu/wino.h"

/* ---- kernels: 3x3 -> 6x6 -------------------------------------------------------------------------------------- */

/* G without its fractions: rows (1 0 0) (1 1 1) (1 -1 1) (1 2 4) (1 -2 4) (0 0 1). */
INLINE void kernel_points(vec u[6], vec g0, vec g1, vec g2)
{
    const vec two = vec_splat(2), even = g0 + g2, far = vec_fma(vec_splat(4), g2, g0);
    u[0] = g0;
    u[1] = even + g1;
    u[2] = even - g1;
    u[3] = vec_fma(two, g1, far);
    u[4] = vec_fma(-two, g1, far);
    u[5] = g2;
}

INLINE size_t dc_size(const dc_dtype t) { return t == DC_F32 ? 4 : 2; }

INLINE void weights_of(const cpu_wino_weights *w, const dc_dtype type)
{
    for (int c = 0; c < w->k; c++)
        for (int o = 0; o < w->width; o += LANES) {
            const size_t at = (size_t)c * w->line + (size_t)o;
            float *u = w->u + (size_t)c * (size_t)w->width + o;
            vec g[3][6], e[6];
            if ((size_t)o * dc_size(type) % 64 == 0)
                UNROLL for (int t = 0; t < 9; t++)
                    __builtin_prefetch((const char *)w->from + (at + (size_t)t * w->tap + (size_t)w->k * w->line) * dc_size(type), 0, 2);
            UNROLL for (int x = 0; x < 3; x++)
                kernel_points(g[x], vec_widen(w->from, type, at + (size_t)x * w->tap), vec_widen(w->from, type, at + (size_t)(3 + x) * w->tap),
                              vec_widen(w->from, type, at + (size_t)(6 + x) * w->tap));
            UNROLL for (int i = 0; i < 6; i++)
            {
                kernel_points(e, g[0][i], g[1][i], g[2][i]);
                UNROLL for (int j = 0; j < 6; j++) vec_store(u + (size_t)(i * 6 + j) * w->plane, e[j]);
            }
        }
}

static void wino_weights(const cpu_wino_weights *w)
{
    if (w->type == DC_F16) weights_of(w, DC_F16);
    else if (w->type == DC_BF16) weights_of(w, DC_BF16);
    else weights_of(w, DC_F32);
}

/* ---- inputs: 6x6 -> 6x6 --------------------------------------------------------------------------------------- */

/* B': rows (4 0 -5 0 1 0) (0 -4 -4 1 1 0) (0 4 -4 -1 1 0) (0 -2 -1 2 1 0) (0 2 -1 -2 1 0) (0 4 0 -5 0 1). */
INLINE void input_points(vec o[6], const vec d[6])
{
    const vec four = vec_splat(4), five = vec_splat(5), two = vec_splat(2);
    const vec a = vec_fma(-four, d[2], d[4]), b = vec_fma(-four, d[1], d[3]), c = d[4] - d[2], e = d[3] - d[1];
    o[0] = vec_fma(four, d[0], vec_fma(-five, d[2], d[4]));
    o[1] = a + b;
    o[2] = a - b;
    o[3] = vec_fma(two, e, c);
    o[4] = vec_fma(-two, e, c);
    o[5] = vec_fma(four, d[1], vec_fma(-five, d[3], d[5]));
}

static void wino_input(const float *x, int64_t pixel, int64_t row, int channels, float *v, size_t plane)
{
    for (int c = 0; c < channels; c += LANES) {
        vec t[6][6], d[6], o[6]; /* t: points down, columns */
        UNROLL for (int p = 0; p < 36; p++) __builtin_prefetch(v + (size_t)p * plane + c + LANES, 1, 3);
        UNROLL for (int j = 0; j < 6; j++)
        {
            UNROLL for (int i = 0; i < 6; i++) d[i] = vec_load(x + i * row + j * pixel + c);
            input_points(o, d);
            UNROLL for (int i = 0; i < 6; i++) t[i][j] = o[i];
        }
        UNROLL for (int i = 0; i < 6; i++)
        {
            input_points(o, t[i]);
            UNROLL for (int j = 0; j < 6; j++) vec_store(v + (size_t)(i * 6 + j) * plane + c, o[j]);
        }
    }
}

/* ---- outputs: 6x6 -> 4x4 -------------------------------------------------------------------------------------- */

/* A': rows (1 1 1 1 1 0) (0 1 -1 2 -2 0) (0 1 1 4 4 0) (0 1 -1 8 -8 1), columns times G's fractions (1/4 -1/6 -1/6 1/24 1/24 1). */
INLINE void output_points(vec y[4], const vec m[6])
{
    const vec p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], s = m[3] - m[4], sixth = vec_splat(-1.0f / 6);
    const vec even = sixth * p, odd = sixth * q;
    y[0] = vec_fma(vec_splat(0.25f), m[0], vec_fma(vec_splat(1.0f / 24), r, even));
    y[1] = vec_fma(vec_splat(1.0f / 12), s, odd);
    y[2] = vec_fma(vec_splat(1.0f / 6), r, even);
    y[3] = vec_fma(vec_splat(1.0f / 3), s, odd) + m[5];
}

INLINE vec load_some(const float *p, int n)
{
    float v[LANES] = {0};
    if (n >= LANES) return vec_load(p);
    memcpy(v, p, (size_t)n * sizeof *v);
    return vec_load(v);
}

INLINE void store_some(float *p, vec v, int n)
{
    float to[LANES];
    if (n >= LANES) {
        vec_store(p, v);
        return;
    }
    vec_store(to, v);
    memcpy(p, to, (size_t)n * sizeof *p);
}

enum { AHEAD = 12 };

static void wino_output(const cpu_wino_output *o)
{
    for (int c = 0; c < o->outs; c += LANES) {
        const int n = o->outs - c;
        vec t[4][6], m[6], y[4], constant = vec_splat(0);
        UNROLL for (int j = 0; j < 6; j++)
        {
            UNROLL for (int i = 0; i < 6; i++) m[i] = vec_load(o->m + (size_t)(i * 6 + j) * o->plane + c);
            output_points(y, m);
            UNROLL for (int i = 0; i < 4; i++) t[i][j] = y[i];
        }
        if (o->bias) constant = load_some(o->bias + c, n);
        if (o->add) constant = constant + load_some(o->add + c, n);
        for (int i = 0; i < o->h; i++) {
            output_points(y, t[i]);
            float *to = o->y + i * o->y_row + c;
            const float *residual = o->residual ? o->residual + i * o->r_row + c : NULL;
            if (!o->stream) UNROLL for (int j = 0; j < 4; j++) __builtin_prefetch(to + (j + AHEAD) * o->y_pixel, 1, 3);
            if (residual) UNROLL for (int j = 0; j < 4; j++) __builtin_prefetch(residual + (j + AHEAD) * o->r_pixel, 0, 3);
            UNROLL for (int j = 0; j < 4; j++)
            {
                if (j >= o->w) break;
                vec v = y[j] + constant;
                if (residual) v = v + load_some(residual + j * o->r_pixel, n);
                if (o->stream && n >= LANES) vec_stream(to + j * o->y_pixel, v);
                else store_some(to + j * o->y_pixel, v, n);
            }
        }
    }
    if (o->act == DC_ACT_NONE) return;
    for (int i = 0; i < o->h; i++)
        for (int j = 0; j < o->w; j++) {
            float *y = o->y + i * o->y_row + j * o->y_pixel;
            cpu_act_row(y, y, o->outs, o->act);
        }
}

const cpu_wino WINO_NAME = {WINO_WIDTH, wino_weights, wino_input, wino_output};
