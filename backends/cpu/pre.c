#include "backends/cpu/pre.h"
#include <string.h>

static int joined_channels(dc_tensor x, dc_tensor x2) { return (int)(dc_channels(x) + (dc_is_none(x2) ? 0 : dc_channels(x2))); }

uint64_t cpu_pre_scratch(dc_device *d, dc_tensor x, const dc_pre *p)
{
    if (!p->norm) return 0;
    return cpu_round64(sizeof(float) * 2 * (uint64_t)joined_channels(x, p->x2) * (uint64_t)x.dim[0]) + cpu_round64(cpu_group_scratch(d, x, p->x2));
}

dc_status cpu_pre_begin(cpu_pre *out, dc_device *d, dc_tensor x, const dc_pre *p, void *scratch)
{
    *out = (cpu_pre){.rows = cpu_of(d)->rows, .x = x, .x2 = p->x2, .act = p->act, .channels = joined_channels(x, p->x2)};
    if (!dc_is_none(p->scale)) out->scale_shift = p->scale.data;
    if (!p->norm) return DC_OK;
    out->scale_shift = scratch;
    char *rest = (char *)scratch + cpu_round64(sizeof(float) * 2 * (uint64_t)out->channels * (uint64_t)x.dim[0]);
    return cpu_group_scale_shift(d, x, p->x2, p->norm, p->groups, p->eps, scratch, rest);
}

/* One source's channels [first, first + its channels) of the joined rows. */
static void copy_source(const cpu_pre *p, dc_tensor t, int first, int64_t image, int64_t from, int64_t n, float *to)
{
    const float *x = (const float *)t.data + from * t.stride;
    int64_t C = dc_channels(t);
    if (p->scale_shift) {
        const float *scale = p->scale_shift + image * 2 * p->channels;
        p->rows->scale_shift(to + first, p->channels, x, t.stride, n, C, scale + first, scale + p->channels + first, p->act);
        return;
    }
    for (int64_t r = 0; r < n; r++, x += t.stride) {
        float *y = to + r * p->channels + first;
        if (p->act != DC_ACT_NONE) p->rows->act(y, x, C, p->act);
        else memcpy(y, x, (size_t)C * sizeof(float));
    }
}

void cpu_pre_rows(const cpu_pre *p, int64_t image, int64_t from, int64_t n, float *to)
{
    copy_source(p, p->x, 0, image, from, n, to);
    if (!dc_is_none(p->x2)) copy_source(p, p->x2, (int)dc_channels(p->x), image, from, n, to);
}
