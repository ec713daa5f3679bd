/* gemm_finish.h - epilogues, plain loops that every level compiles for itself. */
INLINE float activated(float x, const dc_act act)
{
    switch (act) {
    case DC_ACT_SILU: return cpu_silu(x);
    case DC_ACT_GELU: return cpu_gelu(x);
    case DC_ACT_QUICK_GELU: return cpu_quick_gelu(x);
    case DC_ACT_RELU: return cpu_relu(x);
    case DC_ACT_TANH3: return cpu_tanh3(x);
    default: return x;
    }
}

INLINE void finish_as(float *y, const float *acc, const float *bias, const float *add, const float *residual, int n, const dc_act act)
{
    static const float none[CPU_PANEL];
    if (!bias) bias = none;
    if (!add) add = none;
    if (residual)
        for (int i = 0; i < n; i++) y[i] = activated(acc[i] + bias[i] + add[i] + residual[i], act);
    else
        for (int i = 0; i < n; i++) y[i] = activated(acc[i] + bias[i] + add[i], act);
}

static void gemm_finish(float *y, const float *acc, const float *bias, const float *add, const float *residual, int n, dc_act act)
{
    switch (act) {
    case DC_ACT_NONE: finish_as(y, acc, bias, add, residual, n, DC_ACT_NONE); break;
    case DC_ACT_SILU: finish_as(y, acc, bias, add, residual, n, DC_ACT_SILU); break;
    case DC_ACT_GELU: finish_as(y, acc, bias, add, residual, n, DC_ACT_GELU); break;
    case DC_ACT_QUICK_GELU: finish_as(y, acc, bias, add, residual, n, DC_ACT_QUICK_GELU); break;
    case DC_ACT_RELU: finish_as(y, acc, bias, add, residual, n, DC_ACT_RELU); break;
    default: finish_as(y, acc, bias, add, residual, n, DC_ACT_TANH3); break;
    }
}

static void gemm_finish_geglu(float *y, const float *value, const float *gate, const float *bias, const float *gate_bias, const float *residual,
                              int n, dc_act act)
{
    static const float none[CPU_PANEL];
    if (!bias) bias = gate_bias = none;
    if (!residual) residual = none;
    for (int i = 0; i < n; i++) y[i] = (value[i] + bias[i]) * cpu_gelu(gate[i] + gate_bias[i]) + residual[i];
    if (act != DC_ACT_NONE) gemm_finish(y, y, NULL, NULL, NULL, n, act);
}
