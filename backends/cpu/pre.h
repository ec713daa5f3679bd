/* pre.h - the prologue of convolutions and linear layers: join, group norm, activation, while rows are copied. */
#ifndef DC_BACKENDS_CPU_PRE_H
#define DC_BACKENDS_CPU_PRE_H
#include "backends/cpu/cpu.h"

typedef struct cpu_pre {
    const cpu_rows *rows;
    dc_tensor x, x2;
    dc_act act;
    int channels;
    const float *scale_shift; /* [N][2][channels], or NULL without a norm */
} cpu_pre;

/* Is there anything to do (else rows can be read where they are)? */
static inline bool cpu_pre_needed(const dc_pre *p) { return p->norm || !dc_is_none(p->scale) || p->act != DC_ACT_NONE || !dc_is_none(p->x2); }

uint64_t cpu_pre_scratch(dc_device *d, dc_tensor x, const dc_pre *p);
/* Takes its scratch from the beginning of `scratch`. */
dc_status cpu_pre_begin(cpu_pre *out, dc_device *d, dc_tensor x, const dc_pre *p, void *scratch);
/* `n` rows from row `from` on, all of image `image`, to `to` [n][channels]. */
void cpu_pre_rows(const cpu_pre *p, int64_t image, int64_t from, int64_t n, float *to);

static inline uint64_t cpu_round64(uint64_t n) { return (n + 63) / 64 * 64; }

#endif
