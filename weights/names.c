/* names.c - the dialects in which files name the parts of a Stable Diffusion or CLIP model and their tensors.
 * Facts: CompVis' latent-diffusion and Stability's generative-models (openaimodel.py, diffusionmodules/model.py), open_clip's
 * transformer.py, transformers' modeling_clip.py, and diffusers' loaders/single_file_utils.py, which the tests hold this against. */
#include "base/checked.h"
#include "base/text.h"
#include "weights/alias.h"
#include "weights/parts.h"
#include "weights/write.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *dc_part_folder(dc_part p)
{
    static const char *const folders[] = {"text_encoder", "text_encoder_2", "unet", "vae", "image_encoder"};
    return folders[p];
}

/* ---- the dialects ------------------------------------------------------------------------------------------------------ */

/* What a dialect must know of the tensors to name them. */
typedef struct naming {
    const dc_weights *w;
    const char *prefix;
    dc_numbering number;
} naming;

static bool has(const naming *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool has(const naming *n, const char *format, ...)
{
    char name[256];
    va_list args;
    int k = snprintf(name, sizeof name, "%s", n->prefix);
    va_start(args, format);
    vsnprintf(name + k, sizeof name - (size_t)k, format, args);
    va_end(args);
    return dc_weights_find(n->w, name) != NULL;
}

static const dc_alias diffusers[] = {{"*", "*", NULL}, {0}};

/* input_blocks: 0 is conv_in, then `layers` blocks and a downsampler a level; output_blocks: layers + 1 blocks a level, the last one with
 * an upsampler. Ref: UNetModel.__init__. */
static void number_unet(naming *n)
{
    struct dc_block *down = n->number.down, *up = n->number.up;
    n->number.n_down = n->number.n_up = DC_MAX_BLOCKS;
    for (int i = 1, level = 0, layer = 0; i < DC_MAX_BLOCKS; i++) {
        down[i] = (struct dc_block){.level = level, .layer = layer++};
        if (has(n, "input_blocks.%d.0.op.weight", i)) level++, layer = 0;
    }
    for (int i = 0, level = 0, layer = 0; i < DC_MAX_BLOCKS; i++) {
        up[i] = (struct dc_block){.level = level, .layer = layer++};
        if (has(n, "output_blocks.%d.1.conv.weight", i) || has(n, "output_blocks.%d.2.conv.weight", i)) level++, layer = 0;
    }
}

static void add_block(struct dc_block *blocks, int *n, int level, int layer, bool attends)
{
    if (*n < DC_MAX_BLOCKS) blocks[(*n)++] = (struct dc_block){level, layer, attends};
}

/* The same from diffusers' names. */
static void renumber_unet(naming *n)
{
    dc_numbering *x = &n->number;
    *x = (dc_numbering){.n_down = 1, .down[0].level = -1};
    for (int level = 0, layer; has(n, "down_blocks.%d.resnets.0.conv1.weight", level); level++) {
        for (layer = 0; has(n, "down_blocks.%d.resnets.%d.conv1.weight", level, layer); layer++) add_block(x->down, &x->n_down, level, layer, false);
        if (has(n, "down_blocks.%d.downsamplers.0.conv.weight", level)) add_block(x->down, &x->n_down, level, layer, false);
    }
    for (int level = 0; has(n, "up_blocks.%d.resnets.0.conv1.weight", level); level++)
        for (int layer = 0; has(n, "up_blocks.%d.resnets.%d.conv1.weight", level, layer); layer++)
            add_block(x->up, &x->n_up, level, layer, has(n, "up_blocks.%d.attentions.%d.proj_in.weight", level, layer));
}

static const dc_alias unet_resnet[] = {{"in_layers.0.*", "norm1.*", NULL},
                                       {"in_layers.2.*", "conv1.*", NULL},
                                       {"emb_layers.1.*", "time_emb_proj.*", NULL},
                                       {"out_layers.0.*", "norm2.*", NULL},
                                       {"out_layers.3.*", "conv2.*", NULL},
                                       {"skip_connection.*", "conv_shortcut.*", NULL},
                                       {0}};
static const dc_alias compvis_unet[] = {{"time_embed.0.*", "time_embedding.linear_1.*", NULL},
                                        {"time_embed.2.*", "time_embedding.linear_2.*", NULL},
                                        {"time_embed.cond_proj.*", "time_embedding.cond_proj.*", NULL},
                                        {"label_emb.0.0.*", "add_embedding.linear_1.*", NULL},
                                        {"label_emb.0.2.*", "add_embedding.linear_2.*", NULL},
                                        {"input_blocks.0.0.*", "conv_in.*", NULL},
                                        {"out.0.*", "conv_norm_out.*", NULL},
                                        {"out.2.*", "conv_out.*", NULL},
                                        {"input_blocks.@.0.op.*", "down_blocks.#.downsamplers.0.conv.*", NULL},
                                        {"input_blocks.@.0.*", "down_blocks.#.resnets.#.*", unet_resnet},
                                        {"input_blocks.@.1.*", "down_blocks.#.attentions.#.*", NULL},
                                        {"output_blocks.%.0.*", "up_blocks.#.resnets.#.*", unet_resnet},
                                        {"output_blocks.%.~.conv.*", "up_blocks.#.upsamplers.0.conv.*", NULL},
                                        {"output_blocks.%.1.*", "up_blocks.#.attentions.#.*", NULL},
                                        {"middle_block.0.*", "mid_block.resnets.0.*", unet_resnet},
                                        {"middle_block.1.*", "mid_block.attentions.0.*", NULL},
                                        {"middle_block.2.*", "mid_block.resnets.1.*", unet_resnet},
                                        {0}};

static void number_vae(naming *n)
{
    while (n->number.levels < DC_MAX_BLOCKS && has(n, "decoder.up.%d.block.0.conv1.weight", n->number.levels)) n->number.levels++;
}

static void renumber_vae(naming *n)
{
    while (n->number.levels < DC_MAX_BLOCKS && has(n, "decoder.up_blocks.%d.resnets.0.conv1.weight", n->number.levels)) n->number.levels++;
}

/* The rows behind to_out.0 are for diffusers' own older names. */
static const dc_alias vae_half[] = {{"conv_in.*", "conv_in.*", NULL},
                                    {"down.#.block.#.nin_shortcut.*", "down_blocks.#.resnets.#.conv_shortcut.*", NULL},
                                    {"down.#.block.#.*", "down_blocks.#.resnets.#.*", NULL},
                                    {"down.#.downsample.conv.*", "down_blocks.#.downsamplers.0.conv.*", NULL},
                                    {"up.#.block.#.nin_shortcut.*", "up_blocks.^.resnets.#.conv_shortcut.*", NULL},
                                    {"up.#.block.#.*", "up_blocks.^.resnets.#.*", NULL},
                                    {"up.#.upsample.conv.*", "up_blocks.^.upsamplers.0.conv.*", NULL},
                                    {"mid.block_#.*", "mid_block.resnets.<.*", NULL},
                                    {"mid.attn_1.norm.*", "mid_block.attentions.0.group_norm.*", NULL},
                                    {"mid.attn_1.q.*", "\"mid_block.attentions.0.to_q.*", NULL},
                                    {"mid.attn_1.k.*", "\"mid_block.attentions.0.to_k.*", NULL},
                                    {"mid.attn_1.v.*", "\"mid_block.attentions.0.to_v.*", NULL},
                                    {"mid.attn_1.proj_out.*", "\"mid_block.attentions.0.to_out.0.*", NULL},
                                    {"mid.attn_1.q.*", "\"mid_block.attentions.0.query.*", NULL},
                                    {"mid.attn_1.k.*", "\"mid_block.attentions.0.key.*", NULL},
                                    {"mid.attn_1.v.*", "\"mid_block.attentions.0.value.*", NULL},
                                    {"mid.attn_1.proj_out.*", "\"mid_block.attentions.0.proj_attn.*", NULL},
                                    {"norm_out.*", "conv_norm_out.*", NULL},
                                    {"conv_out.*", "conv_out.*", NULL},
                                    {0}};
static const dc_alias compvis_vae[] = {{"encoder.*", "encoder.*", vae_half},
                                       {"decoder.*", "decoder.*", vae_half},
                                       {"quant_conv.*", "quant_conv.*", NULL},
                                       {"post_quant_conv.*", "post_quant_conv.*", NULL},
                                       {0}};

/* transformers left "text_model." out at times; position_ids are a buffer of old versions. */
static const dc_alias transformers[] = {
    {"text_model.embeddings.position_ids", "", NULL}, {"embeddings.position_ids", "", NULL},
    {"text_model.*", "text_model.*", NULL},           {"embeddings.*", "text_model.embeddings.*", NULL},
    {"encoder.*", "text_model.encoder.*", NULL},      {"final_layer_norm.*", "text_model.final_layer_norm.*", NULL},
    {"text_projection.*", "text_projection.*", NULL}, {0}};
static const dc_alias open_clip_layer[] = {{"ln_1.*", "layer_norm1.*", NULL},
                                           {"ln_2.*", "layer_norm2.*", NULL},
                                           {"mlp.c_fc.*", "mlp.fc1.*", NULL},
                                           {"mlp.c_proj.*", "mlp.fc2.*", NULL},
                                           {"attn.in_proj_*", "self_attn.?_proj.*", NULL},
                                           {"attn.out_proj.*", "self_attn.out_proj.*", NULL},
                                           {0}};
static const dc_alias open_clip[] = {{"token_embedding.weight", "text_model.embeddings.token_embedding.weight", NULL},
                                     {"positional_embedding", "text_model.embeddings.position_embedding.weight", NULL},
                                     {"ln_final.*", "text_model.final_layer_norm.*", NULL},
                                     {"text_projection", "text_projection.weight'", NULL},
                                     {"text_projection.*", "text_projection.*", NULL},
                                     {"transformer.resblocks.#.*", "text_model.encoder.layers.#.*", open_clip_layer},
                                     {0}};

/* The towers for pictures; "pre_layrnorm" is transformers' spelling. Newer folders of that tower alone leave "vision_model." out. */
static const dc_alias transformers_vision[] = {{"vision_model.embeddings.position_ids", "", NULL},
                                               {"embeddings.position_ids", "", NULL},
                                               {"vision_model.*", "vision_model.*", NULL},
                                               {"embeddings.*", "vision_model.embeddings.*", NULL},
                                               {"pre_layrnorm.*", "vision_model.pre_layrnorm.*", NULL},
                                               {"encoder.*", "vision_model.encoder.*", NULL},
                                               {"post_layernorm.*", "vision_model.post_layernorm.*", NULL},
                                               {"visual_projection.*", "visual_projection.*", NULL},
                                               {0}};
static const dc_alias open_clip_vision[] = {{"class_embedding", "vision_model.embeddings.class_embedding", NULL},
                                            {"positional_embedding", "vision_model.embeddings.position_embedding.weight", NULL},
                                            {"conv1.*", "vision_model.embeddings.patch_embedding.*", NULL},
                                            {"ln_pre.*", "vision_model.pre_layrnorm.*", NULL},
                                            {"ln_post.*", "vision_model.post_layernorm.*", NULL},
                                            {"proj", "visual_projection.weight'", NULL},
                                            {"transformer.resblocks.#.*", "vision_model.encoder.layers.#.*", open_clip_layer},
                                            {0}};

/* One row: a part is there when `prefix` + `probe` is; the first that is, is taken. */
typedef struct dialect {
    dc_part part;
    const char *prefix, *probe;
    const dc_alias *rows;
    void (*number)(naming *);   /* blocks, from the file's names ... */
    void (*renumber)(naming *); /* ... and from diffusers' */
} dialect;

#define TRANSFORMERS(part, prefix)                                                                                                                   \
    {part, prefix, "text_model.embeddings.token_embedding.weight", transformers, NULL, NULL},                                                        \
    {                                                                                                                                                \
        part, prefix, "embeddings.token_embedding.weight", transformers, NULL, NULL                                                                  \
    }
#define OPEN_CLIP(part, prefix)                                                                                                                      \
    {                                                                                                                                                \
        part, prefix, "transformer.resblocks.0.attn.in_proj_weight", open_clip, NULL, NULL                                                           \
    }
#define COMPVIS_UNET(prefix)                                                                                                                         \
    {                                                                                                                                                \
        DC_PART_UNET, prefix, "input_blocks.0.0.weight", compvis_unet, number_unet, renumber_unet                                                    \
    }
#define COMPVIS_VAE(prefix)                                                                                                                          \
    {                                                                                                                                                \
        DC_PART_VAE, prefix, "decoder.mid.block_1.conv1.weight", compvis_vae, number_vae, renumber_vae                                               \
    }
#define DIFFUSERS_UNET(prefix)                                                                                                                       \
    {                                                                                                                                                \
        DC_PART_UNET, prefix, "conv_norm_out.weight", diffusers, NULL, NULL                                                                          \
    }
#define DIFFUSERS_VAE(prefix)                                                                                                                        \
    {                                                                                                                                                \
        DC_PART_VAE, prefix, "decoder.mid_block.resnets.0.conv1.weight", diffusers, NULL, NULL                                                       \
    }
static const dialect dialects[] = {
    TRANSFORMERS(DC_PART_TEXT, "cond_stage_model.transformer."), /* SD 1.x */
    OPEN_CLIP(DC_PART_TEXT, "cond_stage_model.model."),          /* SD 2.x */
    TRANSFORMERS(DC_PART_TEXT, "conditioner.embedders.0.transformer."),
    TRANSFORMERS(DC_PART_TEXT, "text_encoders.clip_l.transformer."), /* ComfyUI */
    TRANSFORMERS(DC_PART_TEXT, "text_encoder."),
    TRANSFORMERS(DC_PART_TEXT, ""),
    OPEN_CLIP(DC_PART_TEXT, ""),
    OPEN_CLIP(DC_PART_TEXT, "text."),
    OPEN_CLIP(DC_PART_TEXT_2, "conditioner.embedders.1.model."), /* SDXL */
    TRANSFORMERS(DC_PART_TEXT_2, "conditioner.embedders.1.transformer."),
    TRANSFORMERS(DC_PART_TEXT_2, "text_encoders.clip_g.transformer."),
    TRANSFORMERS(DC_PART_TEXT_2, "text_encoder_2."),
    COMPVIS_UNET("model.diffusion_model."),
    DIFFUSERS_UNET("model.diffusion_model."),
    COMPVIS_UNET("diffusion_model."),
    DIFFUSERS_UNET("unet."),
    COMPVIS_UNET(""),
    DIFFUSERS_UNET(""),
    COMPVIS_VAE("first_stage_model."),
    DIFFUSERS_VAE("first_stage_model."),
    COMPVIS_VAE("vae."),
    DIFFUSERS_VAE("vae."),
    COMPVIS_VAE(""),
    DIFFUSERS_VAE(""),
    {DC_PART_VAE, "", "decoder.layers.0.weight", diffusers, NULL, NULL}, /* AutoencoderTiny, and TAESD's own names */
    {DC_PART_VAE, "", "1.weight", diffusers, NULL, NULL},
    {DC_PART_VAE, "", "0.weight", diffusers, NULL, NULL},
    {DC_PART_VISION, "", "vision_model.embeddings.class_embedding", transformers_vision, NULL, NULL},
    {DC_PART_VISION, "", "embeddings.class_embedding", transformers_vision, NULL, NULL},
    {DC_PART_VISION, "visual.", "class_embedding", open_clip_vision, NULL, NULL},
};

/* ---- a part --------------------------------------------------------------------------------------------------------------- */

static const dialect *find_dialect(const dc_weights *w, dc_part p)
{
    for (size_t i = 0; i < sizeof dialects / sizeof *dialects; i++) {
        naming n = {.w = w, .prefix = dialects[i].prefix};
        if (dialects[i].part == p && has(&n, "%s", dialects[i].probe)) return &dialects[i];
    }
    return NULL;
}

bool dc_weights_has_part(const dc_weights *w, dc_part p) { return find_dialect(w, p) != NULL; }

/* The list under way: names and dims are offsets until it has stopped moving. */
typedef struct listing {
    const dc_weights *w;
    dc_stored *tensor;
    int n, room;
    int64_t *dims;
    int n_dims, dims_room;
    dc_text names;
    dc_error *e;
} listing;

static dc_status keep(listing *l, const char *name, const dc_stored *t)
{
    if (!dc_grow((void **)&l->tensor, &l->room, l->n, sizeof *l->tensor)) return dc_fail_memory(l->e, dc_weights_path(l->w), sizeof *l->tensor);
    l->tensor[l->n] = *t;
    l->tensor[l->n++].name = (const char *)l->names.length;
    dc_text_append(&l->names, name, strlen(name) + 1);
    return l->names.failed ? dc_fail_memory(l->e, dc_weights_path(l->w), l->names.length) : DC_OK;
}

/* A tensor with other dimensions than it has in the file. */
static dc_status keep_as(listing *l, const char *name, dc_stored t, const int64_t *dim)
{
    if (!dc_grow((void **)&l->dims, &l->dims_room, l->n_dims + DC_MAX_RANK, sizeof *l->dims))
        return dc_fail_memory(l->e, dc_weights_path(l->w), sizeof *l->dims);
    memcpy(l->dims + l->n_dims, dim, (size_t)t.rank * sizeof *dim);
    l->n_dims += t.rank;
    t.dim = NULL;
    return keep(l, name, &t);
}

/* Rows of q, k and v in one tensor become three. */
static dc_status keep_split(listing *l, const dc_renaming *to, const dc_stored *t)
{
    int64_t dim[DC_MAX_RANK];
    dc_status s = DC_OK;
    if (t->rank < 1 || t->dim[0] % 3 || t->bytes % (3 * dc_dtype_size(t->dtype)))
        return dc_fail(l->e, DC_DATA, "%s: tensor %s: found %lld rows of %s, expected q, k and v of equal size, in whole blocks", t->file, t->name,
                       t->rank ? (long long)t->dim[0] : 0, dc_dtype_name(t->dtype));
    memcpy(dim, t->dim, (size_t)t->rank * sizeof *dim);
    dim[0] /= 3;
    for (int i = 0; !s && i < 3; i++) {
        char name[sizeof to->name];
        dc_stored part = *t;
        strcpy(name, to->name);
        name[to->letter] = "qkv"[i];
        part.bytes = t->bytes / 3;
        part.data = t->data ? (const char *)t->data + part.bytes * (uint64_t)i : NULL;
        s = keep_as(l, name, part, dim);
    }
    return s;
}

static dc_status keep_transposed(listing *l, const dc_renaming *to, const dc_stored *t)
{
    if (t->rank != 2) return keep(l, to->name, t); /* its shape will be refused under its name */
    dc_stored turned = *t;
    turned.transposed = !t->transposed;
    return keep_as(l, to->name, turned, (int64_t[]){t->dim[1], t->dim[0]});
}

/* What a tensor is called below the prefix; false: it is of no part, or of no use. */
static bool name_of(dc_renaming *to, const dialect *d, const naming *n, const dc_stored *t)
{
    size_t head = strlen(d->prefix);
    return !strncmp(t->name, d->prefix, head) && dc_alias_apply(to, d->rows, false, t->name + head, &n->number) && *to->name;
}

static dc_status keep_renamed(listing *l, const dialect *d, const naming *n, const dc_stored *t)
{
    dc_renaming to;
    if (!name_of(&to, d, n, t)) return DC_OK;
    if (to.letter >= 0) return keep_split(l, &to, t);
    if (to.square && t->rank == 4 && t->dim[2] == 1 && t->dim[3] == 1) {
        dc_stored matrix = *t;
        matrix.rank = 2;
        return keep(l, to.name, &matrix);
    }
    return to.transposed ? keep_transposed(l, &to, t) : keep(l, to.name, t);
}

static naming naming_of(const dialect *d, const dc_weights *w)
{
    naming n = {.w = w, .prefix = d->prefix};
    if (d->number) d->number(&n);
    return n;
}

void dc_weights_mark_parts(const dc_weights *w, bool *used)
{
    for (int i = 0; i < dc_weights_count(w); i++) used[i] = dc_is_scale(dc_weights_at(w, i)->name);
    for (int p = 0; p < DC_PARTS; p++) {
        const dialect *d = find_dialect(w, (dc_part)p);
        if (!d) continue;
        naming n = naming_of(d, w);
        dc_renaming to;
        for (int i = 0; i < dc_weights_count(w); i++) used[i] |= name_of(&to, d, &n, dc_weights_at(w, i));
    }
}

/* Offsets become pointers. */
static void settle(listing *l)
{
    const int64_t *dim = l->dims;
    for (int i = 0; i < l->n; i++) {
        l->tensor[i].name = l->names.at + (size_t)l->tensor[i].name;
        if (l->tensor[i].dim || !l->tensor[i].rank) continue;
        l->tensor[i].dim = dim;
        dim += l->tensor[i].rank;
    }
}

/* own: under the names that the file has for them. */
static dc_status list_part(dc_weights **out, const dc_weights *w, dc_part p, bool own, dc_error *e)
{
    const dialect *d = find_dialect(w, p);
    *out = NULL;
    if (!d) return DC_OK;
    naming n = naming_of(d, w);
    listing l = {.w = w, .e = e};
    dc_status s = DC_OK;
    for (int i = 0; !s && i < dc_weights_count(w); i++) {
        const dc_stored *t = dc_weights_at(w, i);
        dc_renaming to;
        if (!own) s = keep_renamed(&l, d, &n, t);
        else if (name_of(&to, d, &n, t)) s = keep(&l, t->name, t);
    }
    if (!s) {
        settle(&l);
        return dc_weights_view(out, w, l.tensor, l.n, l.names.at, l.dims, e);
    }
    free(l.tensor);
    free(l.dims);
    dc_text_free(&l.names);
    return s;
}

dc_status dc_weights_part(dc_weights **out, const dc_weights *w, dc_part p, dc_error *e) { return list_part(out, w, p, false, e); }
dc_status dc_weights_part_as_is(dc_weights **out, const dc_weights *w, dc_part p, dc_error *e) { return list_part(out, w, p, true, e); }

/* ---- a part in a file for all ----------------------------------------------------------------------------------------------- */

static const dialect *dialect_of_kind(dc_part p, dc_file_kind kind)
{
    static const char *const text[] = {"cond_stage_model.transformer.", "cond_stage_model.model.", "conditioner.embedders.0.transformer."};
    static const char *const others[DC_PARTS] = {
        [DC_PART_TEXT_2] = "conditioner.embedders.1.model.", [DC_PART_UNET] = "model.diffusion_model.", [DC_PART_VAE] = "first_stage_model."};
    const char *prefix = p == DC_PART_TEXT ? text[kind] : others[p];
    const dialect *d = dialects;
    while (d->part != p || strcmp(d->prefix, prefix) != 0) d++; /* the first of that prefix is the one that all read */
    return d;
}

/* q, k and v are one tensor there: told at q. */
static dc_status add_fused(dc_write_list *l, const char *name, const dc_renaming *to, const dc_weights *part, const dc_stored *t, dc_error *e)
{
    const dc_stored *from[3];
    char one[DC_MAX_NAME + 1];
    snprintf(one, sizeof one, "%s", t->name);
    for (int i = 0; i < 3; i++) {
        one[to->letter] = "qkv"[i];
        from[i] = dc_weights_find(part, one);
        bool same = from[i] && from[i]->rank == t->rank && t->rank && t->dim[0] <= INT64_MAX / 3 && from[i]->dtype == t->dtype;
        for (int k = 0; same && k < t->rank; k++) same = from[i]->dim[k] == t->dim[k];
        if (!same) return dc_fail(e, DC_DATA, "%s: tensor %s: found none like %s, expected q, k and v of one shape and type", t->file, one, t->name);
    }
    if (to->third) return DC_OK;
    dc_write_item *x = dc_write_add(l, name, from, 3, e);
    return x ? DC_OK : DC_NO_MEMORY;
}

dc_status dc_write_add_part(dc_write_list *l, const dc_weights *part, dc_part p, dc_file_kind kind, int *left_out, dc_error *e)
{
    const dialect *d = dialect_of_kind(p, kind);
    naming n = {.w = part, .prefix = ""};
    dc_status s = DC_OK;
    *left_out = 0;
    if (d->renumber) d->renumber(&n);
    for (int i = 0; !s && i < dc_weights_count(part); i++) {
        const dc_stored *t = dc_weights_at(part, i);
        dc_renaming to;
        char name[sizeof to.name + 64];
        if (!dc_alias_apply(&to, d->rows, true, t->name, &n.number)) {
            *left_out += !strstr(t->name, "position_ids");
            continue;
        }
        snprintf(name, sizeof name, "%s%s", d->prefix, to.name);
        if (to.letter >= 0) {
            s = add_fused(l, name, &to, part, t, e);
            continue;
        }
        dc_write_item *x = dc_write_add(l, name, &t, 1, e);
        s = x ? DC_OK : DC_NO_MEMORY;
        if (x && to.square && x->rank == 2) {
            x->dim[2] = x->dim[3] = 1;
            x->rank = 4;
        } else if (x && to.transposed && x->rank == 2) {
            x->dim[0] = t->dim[1], x->dim[1] = t->dim[0];
            x->turned = true;
        }
    }
    return s;
}
