/* transformer.c - attention over the pixels of a picture (tokens) and from them to the text. */
#include "base/checked.h"
#include "unet/layers.h"
#include <stdlib.h>

static const float GROUP_EPS = 1e-6f, LAYER_EPS = 1e-5f; /* fixed in Transformer2DModel and BasicTransformerBlock; not norm_eps */

/* C: width; stored as [C,C] or [C,C,1,1], whatever use_linear_projection says. */
static const dc_bind transformer_binds[] = {
    {"norm", offsetof(unet_transformer, norm), "C", 0},
    {"proj_in", offsetof(unet_transformer, proj_in), "C C", DC_BIND_AS_LINEAR | DC_BIND_INT8},
    {"proj_out", offsetof(unet_transformer, proj_out), "C C", DC_BIND_AS_LINEAR | DC_BIND_INT8},
};
/* C: width, D: 2 C, X: text width, F: 4 C, G: 2 F (values and gates), Q: 3 C. */
static const dc_bind layer_binds[] = {
    {"norm1", offsetof(unet_layer, norm1), "C", 0},
    {"attn1.to_out.0", offsetof(unet_layer, out1), "C C", DC_BIND_INT8},
    {"norm2", offsetof(unet_layer, norm2), "C", 0},
    {"attn2.to_q", offsetof(unet_layer, q2), "C C", DC_BIND_NO_BIAS | DC_BIND_INT8},
    {"attn2.to_k|attn2.to_v", offsetof(unet_layer, kv2), "D X", DC_BIND_NO_BIAS},
    {"attn2.to_out.0", offsetof(unet_layer, out2), "C C", DC_BIND_INT8},
    {"norm3", offsetof(unet_layer, norm3), "C", 0},
    {"ff.net.0.proj", offsetof(unet_layer, ff1), "G C", DC_BIND_GEGLU | DC_BIND_INT8},
    {"ff.net.2", offsetof(unet_layer, ff2), "C F", DC_BIND_INT8},
};
static const dc_bind self_binds[] = {
    {"attn1.to_q|attn1.to_k|attn1.to_v", offsetof(unet_layer, qkv1), "Q C", DC_BIND_NO_BIAS | DC_BIND_INT8},
};
static const dc_bind only_cross_binds[] = {
    {"attn1.to_q", offsetof(unet_layer, q1), "C C", DC_BIND_NO_BIAS | DC_BIND_INT8},
    {"attn1.to_k|attn1.to_v", offsetof(unet_layer, kv1), "D X", DC_BIND_NO_BIAS},
};
#define ROWS(table) table, (int)(sizeof table / sizeof *table)

bool unet_transformer_bind(unet_transformer *m, dc_binder *b, const dc_unet_config *c, const dc_unet_block *block, const char *prefix, int index,
                           int width)
{
    const dc_dims dims = {.C = width, .D = 2 * width, .F = 4 * width, .G = 8 * width, .Q = 3 * width, .X = c->context};
    m->heads = block->heads;
    m->depth = block->depth[index];
    m->layers = dc_calloc((size_t)m->depth, sizeof *m->layers);
    if (!m->layers) return false;
    dc_bind_layers(b, m, ROWS(transformer_binds), dims, "%s.attentions.%d", prefix, index);
    for (int i = 0; i < m->depth; i++) {
        unet_layer *layer = &m->layers[i];
        dc_bind_layers(b, layer, ROWS(layer_binds), dims, "%s.attentions.%d.transformer_blocks.%d", prefix, index, i);
        if (block->only_cross) dc_bind_layers(b, layer, ROWS(only_cross_binds), dims, "%s.attentions.%d.transformer_blocks.%d", prefix, index, i);
        else dc_bind_layers(b, layer, ROWS(self_binds), dims, "%s.attentions.%d.transformer_blocks.%d", prefix, index, i);
    }
    return true;
}

void unet_transformer_free(unet_transformer *m) { free(m->layers); }

int unet_transformer_number(unet_transformer *m, int first)
{
    for (int i = 0; i < m->depth; i++) {
        m->layers[i].text = first;
        first += m->layers[i].kv1 ? 2 : 1;
    }
    return first;
}

/* ---- forward -------------------------------------------------------------------------------------------------------- */

void unet_transformer_text_forward(const unet_transformer *m, dc_run *r, dc_tensor context, dc_tensor *text)
{
    for (int i = 0; i < m->depth; i++) {
        const unet_layer *layer = &m->layers[i];
        text[layer->text] = dc_linear(r, context, layer->kv2, (dc_linear_opt){0});
        if (layer->kv1) text[layer->text + 1] = dc_linear(r, context, layer->kv1, (dc_linear_opt){0});
    }
}

/* x W' + bias + residual. The name is that of the module that ends with this layer; diffusers adds the residual outside of
 * it, so its tap has not got it. */
static dc_tensor add_branch(const unet_pass *p, dc_tensor residual, dc_tensor x, const dc_param *k, const char *name)
{
    if (x.dim[0] != residual.dim[0]) residual = unet_each_half(p, residual);
    if (!dc_tapping(p->r)) return dc_linear(p->r, x, k, (dc_linear_opt){.residual = residual});
    dc_tensor branch = dc_linear(p->r, x, k, (dc_linear_opt){0});
    unet_tap(p, name, branch);
    return dc_lincomb(p->r, (dc_term[]){{1, branch}, {1, residual}}, 2);
}

/* text [N,T,2 C]: keys, then values. */
static dc_tensor attend(dc_run *r, dc_tensor queries, dc_tensor text, int heads)
{
    int64_t C = dc_channels(queries);
    return dc_attention(r, queries, dc_view_channels(text, 0, C), dc_view_channels(text, C, C), (dc_attention_opt){.heads = heads});
}

/* Images whose texts are of two lengths: each has its own keys, none is padded. */
static dc_tensor attend_two(const unet_pass *p, dc_tensor queries, int place, int heads)
{
    const int64_t first = p->text_first[place].dim[0];
    dc_tensor out = dc_new(p->r, (dc_dtype)queries.dtype, 3, queries.dim);
    dc_tensor one = attend(p->r, dc_view_batch(queries, 0, first), p->text_first[place], heads);
    dc_lincomb_into(p->r, dc_view_batch(out, 0, first), &(dc_term){1, one}, 1);
    dc_tensor other = attend(p->r, dc_view_batch(queries, first, p->n - first), p->text[place], heads);
    dc_lincomb_into(p->r, dc_view_batch(out, first, p->n - first), &(dc_term){1, other}, 1);
    return out;
}

/* Queries from the picture; keys and values from the text, if they were not made before. Here the parts of guidance part. */
static dc_tensor cross_attention(const unet_pass *p, dc_tensor x, const dc_param *q, const dc_param *kv, int place, int heads)
{
    dc_tensor queries = unet_each_half(p, dc_linear(p->r, x, q, (dc_linear_opt){0}));
    if (!dc_run_ok(p->r)) return DC_NONE;
    if (p->text_first) return attend_two(p, queries, place, heads);
    return attend(p->r, queries, p->text ? p->text[place] : dc_linear(p->r, p->context, kv, (dc_linear_opt){0}), heads);
}

static dc_tensor self_attention(dc_run *r, dc_tensor x, const dc_param *qkv, int heads)
{
    dc_tensor all = dc_linear(r, x, qkv, (dc_linear_opt){0});
    int64_t C = dc_param_in(qkv);
    return dc_attention(r, dc_view_channels(all, 0, C), dc_view_channels(all, C, C), dc_view_channels(all, 2 * C, C),
                        (dc_attention_opt){.heads = heads});
}

/* x [M,T,C] -> [N,T,C]. Ref: diffusers BasicTransformerBlock, norm_type "layer_norm", GEGLU. */
static dc_tensor layer_forward(const unet_layer *m, const unet_pass *p, dc_tensor x, int heads)
{
    dc_run *r = p->r;
    dc_tensor h = dc_layer_norm(r, x, m->norm1, LAYER_EPS);
    h = m->qkv1 ? self_attention(r, h, m->qkv1, heads) : cross_attention(p, h, m->q1, m->kv1, m->text + 1, heads);
    x = add_branch(p, x, h, m->out1, "attn1");

    h = dc_layer_norm(r, x, m->norm2, LAYER_EPS);
    h = cross_attention(p, h, m->q2, m->kv2, m->text, heads);
    x = add_branch(p, x, h, m->out2, "attn2");

    h = dc_layer_norm(r, x, m->norm3, LAYER_EPS);
    h = dc_linear(r, h, m->ff1, (dc_linear_opt){0});
    return add_branch(p, x, h, m->ff2, "ff");
}

dc_tensor unet_transformer_forward(const unet_transformer *m, const unet_pass *p, dc_tensor x)
{
    const dc_pre norm = {.norm = m->norm, .groups = p->c->groups, .eps = GROUP_EPS};
    dc_tensor tokens = dc_view_tokens(x);
    dc_tensor h = dc_linear(p->r, tokens, m->proj_in, (dc_linear_opt){.pre = norm});
    for (int i = 0; i < m->depth; i++) {
        dc_scope(p->r, "transformer_blocks.%d", i);
        h = layer_forward(&m->layers[i], p, h, m->heads);
        unet_tap(p, "", h);
        dc_scope_end(p->r);
    }
    if (h.dim[0] != tokens.dim[0]) tokens = unet_each_half(p, tokens);
    h = dc_linear(p->r, h, m->proj_out, (dc_linear_opt){.residual = tokens});
    return dc_view_image(h, x.dim[1], x.dim[2]);
}
