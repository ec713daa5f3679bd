/* embed.c - rows picked by number on the CPU: token embeddings and pooling. */
#include "backends/cpu/cpu.h"
#include <string.h>

enum { CHUNK = 512 };

typedef struct embed_job {
    const dc_embed_args *a;
    const cpu_gemm *g;
} embed_job;

/* n numbers of row i of a table, from channel `from` on; read where the file is mapped, in its storage type. */
static void table_values(const cpu_gemm *g, const dc_param *table, int64_t i, int64_t from, int64_t n, float *out)
{
    const dc_source *s = table->desc.weight;
    for (; i >= s->rows; s++) i -= s->rows;
    cpu_source_floats(g, s, i * table->desc.in + from, n, out);
}

static void embed_row(void *ctx, int64_t r, int thread)
{
    (void)thread;
    const embed_job *j = ctx;
    const dc_embed_args *a = j->a;
    const int64_t C = dc_channels(a->y), T = a->ids.dim[1];
    for (int64_t c = 0; c < C; c += CHUNK) {
        const int64_t n = C - c < CHUNK ? C - c : CHUNK;
        float *y = (float *)a->y.data + r * a->y.stride + c, position[CHUNK];
        table_values(j->g, a->table, ((const int32_t *)a->ids.data)[r], c, n, y);
        if (!a->positions) continue;
        table_values(j->g, a->positions, r % T, c, n, position);
        for (int64_t i = 0; i < n; i++) y[i] += position[i];
    }
}

/* Checks first: nothing is written when an id is out of range. */
dc_status cpu_embed(dc_device *d, const dc_embed_args *a)
{
    const int64_t rows = dc_rows(a->y);
    const int32_t *id = a->ids.data;
    for (int64_t r = 0; r < rows; r++)
        if (id[r] < 0 || id[r] >= a->table->desc.out) return DC_DATA;
    return cpu_for(d, rows, embed_row, &(embed_job){a, cpu_of(d)->gemm});
}

dc_status cpu_gather_rows(dc_device *d, const dc_gather_args *a)
{
    (void)d;
    const int32_t *index = a->index.data;
    for (int64_t n = 0; n < a->x.dim[0]; n++) {
        if (index[n] < 0 || index[n] >= a->x.dim[1]) return DC_DATA;
        const float *row = (const float *)a->x.data + (n * a->x.dim[1] + index[n]) * a->x.stride;
        memcpy((float *)a->y.data + n * a->y.stride, row, sizeof(float) * (size_t)dc_channels(a->x));
    }
    return DC_OK;
}
