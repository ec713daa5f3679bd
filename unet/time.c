/* time.c - what the UNet is told besides picture and text: the timestep, SDXL's sizes and pooled text, LCM's guidance. */
#include "unet/layers.h"

/* I: in, O: out and hidden, G: guidance embedding. */
static const dc_bind mlp_binds[] = {
    {"linear_1", offsetof(unet_mlp, linear_1), "O I", 0},
    {"linear_2", offsetof(unet_mlp, linear_2), "O O", 0},
    {"cond_proj", offsetof(unet_mlp, cond), "I G", DC_BIND_NO_BIAS},
};

void unet_time_bind(unet_time *m, dc_binder *b, const dc_unet_config *c)
{
    dc_bind_layers(b, &m->time, mlp_binds, c->time_cond ? 3 : 2, (dc_dims){.I = c->width[0], .O = c->time_dim, .G = c->time_cond}, "time_embedding");
    if (c->text_time) dc_bind_layers(b, &m->add, mlp_binds, 2, (dc_dims){.I = c->add_input, .O = c->time_dim}, "add_embedding");
}

/* Linear, SiLU, linear. x2: channels behind x's, or DC_NONE. Ref: diffusers TimestepEmbedding. */
static dc_tensor mlp(const unet_mlp *m, dc_run *r, dc_tensor x, dc_tensor x2)
{
    dc_tensor h = dc_linear(r, x, m->linear_1, (dc_linear_opt){.pre.x2 = x2, .act = DC_ACT_SILU});
    return dc_linear(r, h, m->linear_2, (dc_linear_opt){0});
}

/* The same numbers in another shape: [a,b..] -> [rows,columns] (columns 1: [rows]). */
static dc_tensor reshape(dc_tensor t, int64_t rows, int64_t columns)
{
    if (dc_is_none(t)) return t;
    t.rank = columns == 1 ? 1 : 2;
    t.dim[0] = rows;
    t.dim[1] = columns;
    t.stride = columns == 1 ? rows : columns;
    return t;
}

/* The guidance weight as sinusoids, 1000 w in place of a timestep. Ref: diffusers LatentConsistencyModelPipeline
 * .get_guidance_scale_embedding: sines first, frequencies over dim/2 - 1. */
static dc_tensor guidance_embedding(dc_run *r, const dc_unet_config *c, dc_tensor w)
{
    dc_tensor scaled = dc_lincomb(r, &(dc_term){1000, w}, 1);
    return dc_timestep_embedding(r, scaled, (dc_timestep_opt){.dim = c->time_cond, .freq_shift = 1});
}

/* Each of the six sizes as sinusoids, behind the pooled text. */
static dc_tensor text_time(const unet_time *m, dc_run *r, const dc_unet_config *c, const dc_unet_in *in)
{
    int64_t n = in->time_ids.dim[0], ids = dc_channels(in->time_ids);
    dc_tensor sines =
        dc_timestep_embedding(r, reshape(in->time_ids, n * ids, 1), (dc_timestep_opt){c->add_time_dim, c->flip_sin_to_cos, c->freq_shift});
    return mlp(&m->add, r, in->pooled, reshape(sines, n, ids * c->add_time_dim));
}

dc_tensor unet_time_forward(const unet_time *m, dc_run *r, const dc_unet_config *c, const dc_unet_in *in)
{
    dc_tensor t = dc_timestep_embedding(r, in->timestep, (dc_timestep_opt){c->width[0], c->flip_sin_to_cos, c->freq_shift});
    dc_tap(r, "time_proj", t);
    if (c->time_cond && !dc_is_none(in->guidance)) {
        dc_tensor g = dc_linear(r, guidance_embedding(r, c, in->guidance), m->time.cond, (dc_linear_opt){0});
        t = dc_lincomb(r, (dc_term[]){{1, t}, {1, g}}, 2);
    }
    t = mlp(&m->time, r, t, DC_NONE);
    dc_tap(r, "time_embedding", t);
    if (c->text_time) {
        dc_tensor a = text_time(m, r, c, in);
        dc_tap(r, "add_embedding", a);
        t = dc_lincomb(r, (dc_term[]){{1, t}, {1, a}}, 2);
    }
    return dc_activate(r, t, DC_ACT_SILU);
}
