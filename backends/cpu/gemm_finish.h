/* gemm_finish.h - the epilogue, plain loops that every level compiles for itself; PANEL: outputs of a full panel of this level. */

/* Rows of y lie far apart: each is fetched for writing this many rows before its turn. */
enum { FINISH_AHEAD = 16 };

typedef int32_t whole_sum __attribute__((may_alias));

INLINE float settled(const cpu_outputs *o, int r, int half, const float *acc, int i)
{
#ifdef GEMM_WHOLE
    return (float)(((const whole_sum *)acc)[i] - o->offset[half][i]) * (o->factor[r] * o->scale[half][i]);
#else
    (void)o, (void)r, (void)half;
    return acc[i];
#endif
}

/* n: a constant for full panels, so that the loop becomes straight vector code. */
INLINE void finish_row(const cpu_outputs *o, int r, float *y, const float *residual, const int n)
{
    static const float none[CPU_PANEL];
    const float *acc = o->acc + (int64_t)r * o->width, *bias = o->bias[0] ? o->bias[0] : none;
    if (o->add) {
        const float *add = o->add + r / o->add_rows * o->add_stride;
        CPU_VECTOR_LOOP for (int i = 0; i < n; i++) y[i] = settled(o, r, 0, acc, i) + bias[i] + add[i] + (residual ? residual[i] : 0.0f);
    } else if (residual) {
        CPU_VECTOR_LOOP for (int i = 0; i < n; i++) y[i] = settled(o, r, 0, acc, i) + bias[i] + residual[i];
    } else {
        CPU_VECTOR_LOOP for (int i = 0; i < n; i++) y[i] = settled(o, r, 0, acc, i) + bias[i];
    }
}

INLINE void finish_gated_row(const cpu_outputs *o, int r, float *y, const float *residual, const int n)
{
    static const float none[CPU_PANEL];
    const float *value = o->acc + (int64_t)r * o->width, *gate = value + o->width / 2;
    const float *bias = o->bias[0] ? o->bias[0] : none, *gate_bias = o->bias[1] ? o->bias[1] : none;
    if (!residual) residual = none;
    CPU_VECTOR_LOOP for (int i = 0; i < n; i++) y[i] =
        (settled(o, r, 0, value, i) + bias[i]) * cpu_gelu(settled(o, r, 1, gate, i) + gate_bias[i]) + residual[i];
}

static void gemm_finish(const cpu_outputs *o)
{
    for (int r = 0; r < o->rows; r++) {
        float *y = o->y + o->to[r] * o->y_stride;
        const float *residual = o->residual ? o->residual + o->to[r] * o->residual_stride : NULL;
        const float *later = o->y + o->to[r + FINISH_AHEAD < o->rows ? r + FINISH_AHEAD : r] * o->y_stride;
        for (int i = 0; i < o->outs; i += 16) __builtin_prefetch(later + i, 1);
        if (o->geglu && o->outs == PANEL / 2) finish_gated_row(o, r, y, residual, PANEL / 2);
        else if (o->geglu) finish_gated_row(o, r, y, residual, o->outs);
        else if (o->outs == PANEL) finish_row(o, r, y, residual, PANEL);
        else finish_row(o, r, y, residual, o->outs);
        if (o->act != DC_ACT_NONE) cpu_act_row(y, y, o->outs, o->act);
    }
}
