/* cuda.c - the device's table: memory, passes as queued work, and the small ops. See queue.h for how a pass becomes a graph, gpu.h and kernels.h
 * for what it is made of. Activations are F16 (models of wide numbers: BF16), BF16 or F32, as the precision says. */
#include "backends/cuda/cuda.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- device and memory ------------------------------------------------------------------------------------------------------------- */

void *cuda_alloc(dc_device *d, uint64_t bytes)
{
    cuda *c = cuda_of(d);
    if (bytes > c->limit || c->held > c->limit - bytes) return NULL;
    void *p = gpu_alloc(c->g, bytes);
    if (p) c->held += bytes;
    return p;
}

void cuda_free(dc_device *d, void *p, uint64_t bytes)
{
    if (!p) return;
    cuda_wait(d);
    gpu_free(cuda_of(d)->g, p);
    cuda_of(d)->held -= bytes;
}

static uint64_t cuda_memory(const dc_device *d) { return cuda_of(d)->limit; }
static void cuda_keep_free(dc_device *d, uint64_t bytes) { cuda_of(d)->kept_free = bytes; }

dc_status cuda_wait(dc_device *d)
{
    cuda_of(d)->next_factor = 0;
    return queue_wait(cuda_queue(d));
}

static void cuda_close(dc_device *d)
{
    cuda *c = cuda_of(d);
    if (c->q.g) queue_close(&c->q);
    if (c->g) {
        gpu_free(c->g, c->factors);
        gpu_free(c->g, c->stats);
        gpu_free(c->g, c->temporary);
        gpu_free(c->g, c->visitor);
        gpu_close(c->g);
    }
    free(c);
}

static dc_status settle_precision(dc_device *d, dc_error *e)
{
    if (d->precision == DC_PRECISION_AUTO) d->precision = DC_PRECISION_F16;
    if (d->precision == DC_PRECISION_INT8) return dc_refuse_precision(d, "auto, f16, bf16 or f32", e);
    d->type = d->precision == DC_PRECISION_F32 ? DC_F32 : d->precision == DC_PRECISION_BF16 ? DC_BF16 : DC_F16;
    return DC_OK;
}

static dc_status cuda_open(dc_device *d, const dc_device_options *o, dc_error *e)
{
    dc_status s = settle_precision(d, e);
    if (s) return s;
    cuda *c = d->impl = calloc(1, sizeof *c);
    if (!c) return dc_fail_memory(e, "a device", sizeof *c);
    s = gpu_open(&c->g, &(gpu_options){.deterministic = o->deterministic, .plans = o->plans, .log = o->log}, e);
    if (!s) s = queue_open(&c->q, c->g);
    if (!s) {
        c->factors = gpu_alloc(c->g, CUDA_FACTORS * 8 * sizeof(float));
        c->stats = gpu_alloc(c->g, K_STATS * 4 * sizeof(double));
        if (!c->factors || !c->stats) s = DC_NO_MEMORY;
    }
    if (s) {
        dc_fail(e, s, "device cuda: no memory on the GPU"); /* unless a better message is there */
        cuda_close(d);
        return s;
    }
    const gpu_info *about = gpu_about(c->g);
    const uint64_t free_now = about->free - about->free / 32; /* the libraries load kernels as they need them */
    c->limit = o->max_vram && o->max_vram < free_now ? o->max_vram : free_now;
    snprintf(d->summary, sizeof d->summary, "cuda %.48s, %s%s", about->name, dc_precision_name(d->precision), d->type == DC_F16 ? " (VAE bf16)" : "");
    dc_log_write(d->log, DC_LOG_NOTE, "%s: %s, %llu of %llu MiB free", about->name, about->libraries, (unsigned long long)(about->free >> 20),
                 (unsigned long long)(about->memory >> 20));
    return DC_OK;
}

static dc_status cuda_upload(dc_device *d, void *to, const void *host, uint64_t bytes)
{
    queue_upload(cuda_queue(d), to, host, bytes);
    return DC_OK;
}

static dc_status cuda_download(dc_device *d, void *host, const void *from, uint64_t bytes)
{
    dc_status s = cuda_wait(d);
    return s ? s : gpu_read(cuda_of(d)->g, host, from, bytes);
}

/* ---- gathering and embedding ----------------------------------------------------------------------------------------------------------- */

/* DATA: one of the ids is not in [0, limit). Waits: texts are encoded once a prompt. */
static dc_status check_ids(dc_device *d, dc_tensor ids, int64_t limit)
{
    const int64_t n = dc_numel(ids);
    int32_t *host = malloc(sizeof *host * (size_t)n + 1);
    if (!host) return DC_NO_MEMORY;
    dc_status s = cuda_download(d, host, ids.data, sizeof *host * (uint64_t)n);
    for (int64_t i = 0; !s && i < n; i++)
        if (host[i] < 0 || host[i] >= limit) s = DC_DATA;
    free(host);
    return s;
}

static k_view table_of(dc_device *d, const dc_param *p)
{
    return p ? (k_view){.data = cuda_form_of(d, p).weight, .stride = p->desc.in, .type = p->type} : (k_view){0};
}

static dc_status cuda_embed(dc_device *d, const dc_embed_args *a)
{
    dc_status s = check_ids(d, a->ids, a->table->desc.out);
    k_embed_args e = {
        .y = cuda_view(a->y), .table = table_of(d, a->table), .positions = table_of(d, a->positions), .ids = a->ids.data, .rows = dc_numel(a->ids)};
    e.t = (int32_t)a->ids.dim[1];
    e.c = a->table->desc.in;
    if (!s) QUEUE(cuda_queue(d), k_embed, e);
    return s;
}

static dc_status cuda_gather_rows(dc_device *d, const dc_gather_args *a)
{
    dc_status s = check_ids(d, a->index, a->x.dim[1]);
    k_pick_args p = {.y = cuda_view(a->y), .x = cuda_view(a->x), .index = a->index.data, .rows = a->x.dim[0], .t = (int32_t)a->x.dim[1]};
    p.c = (int32_t)dc_channels(a->x);
    if (!s) QUEUE(cuda_queue(d), k_pick, p);
    return s;
}

static dc_status cuda_timestep_embedding(dc_device *d, const dc_timestep_args *a)
{
    k_timestep_args t = {
        .y = a->y.data, .t = a->t.data, .n = (int32_t)a->t.dim[0], .dim = a->o.dim, .shift = a->o.freq_shift, .flip = a->o.flip_sin_to_cos};
    QUEUE(cuda_queue(d), k_timestep, t);
    return DC_OK;
}

/* ---- elementwise ---------------------------------------------------------------------------------------------------------------------------- */

/* The factors go to a place of their own, so that a step's arguments are those of the step before. */
static dc_status cuda_lincomb(dc_device *d, const dc_lincomb_args *a)
{
    cuda *c = cuda_of(d);
    k_lincomb_args l = {.y = cuda_view(a->y), .rows = cuda_rows(a->y), .n = a->n, .c = a->y.rank == 1 ? 1 : (int32_t)dc_channels(a->y)};
    float k[8] = {0};
    if (c->next_factor == CUDA_FACTORS && cuda_wait(d)) return DC_IO;
    float *factors = (float *)c->factors + 8 * c->next_factor++;
    for (int i = 0; i < a->n; i++) {
        k[i] = a->term[i].k;
        l.x[i] = cuda_view(a->term[i].x);
        l.repeat[i] = cuda_rows(a->term[i].x);
    }
    l.k = factors;
    queue_upload(&c->q, factors, k, sizeof k);
    QUEUE(&c->q, k_lincomb, l);
    return DC_OK;
}

static dc_status cuda_activate(dc_device *d, const dc_act_args *a)
{
    k_finish_args f = {.x = cuda_view(a->x), .y = cuda_view(a->y), .rows = cuda_rows(a->x), .rows_of_image = 1, .act = a->act};
    f.c = a->x.rank == 1 ? 1 : (int32_t)dc_channels(a->x);
    QUEUE(cuda_queue(d), k_finish, f);
    return DC_OK;
}

static dc_status cuda_rescale_std(dc_device *d, const dc_rescale_args *a)
{
    k_rescale_args r = {
        .y = cuda_view(a->y), .guided = cuda_view(a->guided), .cond = cuda_view(a->cond), .images = (int32_t)a->guided.dim[0], .phi = a->phi};
    r.size = dc_numel(a->guided) / a->guided.dim[0];
    QUEUE(cuda_queue(d), k_rescale, r);
    return DC_OK;
}

static dc_status cuda_stats(dc_device *d, const dc_stats_args *a)
{
    double part[K_STATS][4], sum = 0, square = 0;
    k_stats_args k = {.x = cuda_view(a->x), .y = cuda_of(d)->stats, .n = dc_numel(a->x)};
    QUEUE(cuda_queue(d), k_stats, k);
    dc_status s = cuda_download(d, part, k.y, sizeof part);
    *a->host = (dc_stats){0};
    if (s) return s;
    for (int i = 0; i < K_STATS; i++) {
        sum += part[i][0];
        square += part[i][1];
        a->host->absmax = fmax(a->host->absmax, part[i][2]);
        a->host->non_finite += (int64_t)part[i][3];
    }
    const double n = (double)k.n;
    if (k.n) a->host->mean = sum / n;
    if (k.n > 1) a->host->deviation = sqrt(fmax(square - sum * sum / n, 0) / (n - 1));
    return DC_OK;
}

static dc_status cuda_to_rgb8(dc_device *d, const dc_rgb8_args *a)
{
    k_rgb8_args r = {.x = cuda_view(a->x), .y = a->y.data, .n = dc_numel(a->x)};
    QUEUE(cuda_queue(d), k_rgb8, r);
    return DC_OK;
}

static const dc_backend backend = {
    .name = "cuda",
    .open = cuda_open,
    .close = cuda_close,
    .conv_apart = true,
    .memory = cuda_memory,
    .keep_free = cuda_keep_free,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .sync = cuda_wait,
    .param_bytes = cuda_param_bytes,
    .param_prepare = cuda_param_prepare,
    .param_drop = cuda_param_drop,
    .conv2d_scratch = cuda_conv2d_scratch,
    .conv2d = cuda_conv2d,
    .conv2d_choice = cuda_conv2d_choice,
    .linear_scratch = cuda_linear_scratch,
    .linear = cuda_linear,
    .norm_scratch = cuda_norm_scratch,
    .norm = cuda_norm,
    .group_sums = cuda_group_sums,
    .group_scale = cuda_group_scale,
    .attention_scratch = cuda_attention_scratch,
    .attention = cuda_attention,
    .attention_choice = cuda_attention_choice,
    .embed = cuda_embed,
    .gather_rows = cuda_gather_rows,
    .timestep_embedding = cuda_timestep_embedding,
    .lincomb = cuda_lincomb,
    .activate = cuda_activate,
    .rescale_std = cuda_rescale_std,
    .stats = cuda_stats,
    .to_rgb8 = cuda_to_rgb8,
};

__attribute__((visibility("default"))) const dc_backend *diffc_cuda_backend(const char *version);
const dc_backend *diffc_cuda_backend(const char *version) { return strcmp(version, DIFFC_VERSION) ? NULL : &backend; }
