/* strips.c - cutting into strips, joining, and what runs over them. */
#include "vae/strips.h"

strips strips_cut(dc_tensor x, int rows)
{
    strips s = {.at = {x}, .n = 1, .height = (int)x.dim[1]};
    if (!rows || rows >= s.height) return s;
    s.n = 0;
    for (int y = 0; y < s.height && s.n < MOST_STRIPS; y += rows) s.at[s.n++] = dc_view_rows(x, y, rows < s.height - y ? rows : s.height - y);
    return s;
}

dc_tensor strips_join(dc_run *r, const strips *x)
{
    if (x->n == 1) return x->at[0];
    const dc_tensor first = x->at[0], y = dc_new(r, (dc_dtype)first.dtype, 4, (int64_t[4]){first.dim[0], x->height, first.dim[2], first.dim[3]});
    for (int i = 0, from = 0; i < x->n && dc_run_ok(r); from += (int)x->at[i++].dim[1])
        dc_lincomb_into(r, dc_view_rows(y, from, x->at[i].dim[1]), &(dc_term){1, x->at[i]}, 1);
    return y;
}

dc_tensor strips_conv(dc_run *r, const strips *x, int i, const dc_param *k, dc_conv_opt o)
{
    if (x->n > 1) {
        if (i > 0) o.strip.above = x->at[i - 1];
        if (i + 1 < x->n) o.strip.below = x->at[i + 1];
        o.strip.height = x->height;
        if (o.pre.h) o.strip.height = x->height * 2;
        if (o.stride) o.strip.height /= o.stride;
    }
    return dc_conv2d(r, x->at[i], k, o);
}

dc_tensor strips_sums(dc_run *r, const strips *x, int i) { return x->n > 1 ? dc_group_sums(r, x->at[i], x->height) : DC_NONE; }

dc_pre strips_norm_of(dc_run *r, const strips *x, const dc_tensor *sums, const dc_param *norm, int groups)
{
    if (x->n == 1) return (dc_pre){.norm = norm, .groups = groups, .eps = KL_EPS, .act = DC_ACT_SILU};
    return (dc_pre){.scale = dc_group_scale(r, sums, x->n, norm, groups, KL_EPS, x->height * x->at[0].dim[2]), .act = DC_ACT_SILU};
}

dc_tensor strips_up(dc_run *r, const strips *x, int i, const dc_param *k)
{
    const dc_pre twice = {.h = 2 * (int)x->at[i].dim[1], .w = 2 * (int)x->at[i].dim[2]};
    return strips_conv(r, x, i, k, (dc_conv_opt){.pre = twice, .pad = {1, 1, 1, 1}});
}

void strips_need(dc_run *r, strips *x, int i)
{
    for (; x->low && x->made <= i && x->made < x->n; x->made++) x->at[x->made] = strips_up(r, x->low, x->made, x->up);
}

dc_pre strips_norm(dc_run *r, strips *x, const dc_param *norm, int groups)
{
    dc_tensor sums[MOST_STRIPS];
    for (int i = 0; i < x->n; i++) {
        strips_need(r, x, i);
        sums[i] = strips_sums(r, x, i);
    }
    strips_rewind(x);
    return strips_norm_of(r, x, sums, norm, groups);
}
