/* profile.c - per-op times as a table: the same layers of one shape together, the slowest first. */
#include "pipeline/model.h"
#include <stdlib.h>
#include <string.h>

typedef struct line {
    const dc_profile_row *row;
    double seconds, flops;
    int calls;
} line;

static int slower_first(const void *a, const void *b)
{
    const line *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

void profile_table(dc_text *out, const char *name, const dc_run *r)
{
    const dc_profile_row *rows;
    int n = dc_run_profile(r, &rows), used = 0;
    line *sum = calloc(n > 0 ? (size_t)n : 1, sizeof *sum);
    double all = 0;
    for (int i = 0; sum && i < n; i++) {
        int k = 0;
        while (k < used && (strcmp(sum[k].row->op, rows[i].op) || strcmp(sum[k].row->shape, rows[i].shape))) k++;
        if (k == used) sum[used++] = (line){.row = &rows[i]};
        sum[k].seconds += rows[i].seconds;
        sum[k].flops += (double)rows[i].flops * rows[i].calls;
        sum[k].calls += rows[i].calls;
        all += rows[i].seconds;
    }
    if (!sum || !used) {
        out->failed |= !sum;
        free(sum);
        return;
    }
    qsort(sum, (size_t)used, sizeof *sum, slower_first);
    dc_text_printf(out, "%s: %.3f s\n%9s %6s %6s %8s  %-18s %s\n", name, all, "ms", "share", "calls", "GFLOP/s", "op", "shape");
    for (int k = 0; k < used; k++)
        dc_text_printf(out, "%9.2f %5.1f%% %6d %8.1f  %-18s %s\n", 1e3 * sum[k].seconds, 100 * sum[k].seconds / (all > 0 ? all : 1), sum[k].calls,
                       sum[k].seconds > 0 ? 1e-9 * sum[k].flops / sum[k].seconds : 0, sum[k].row->op, sum[k].row->shape);
    free(sum);
}
