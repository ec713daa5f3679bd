/* names.c - the dialects in which files name the parts of a Stable Diffusion model and their tensors.
 * Facts: CompVis' latent-diffusion and Stability's generative-models (openaimodel.py, diffusionmodules/model.py), open_clip's
 * transformer.py, transformers' modeling_clip.py, and diffusers' loaders/single_file_utils.py, which the tests hold this against. */
#include "base/checked.h"
#include "base/text.h"
#include "weights/parts.h"
#include "weights/reader.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BLOCKS 64

const char *dc_part_folder(dc_part p)
{
    static const char *const folders[DC_PARTS] = {"text_encoder", "text_encoder_2", "unet", "vae"};
    return folders[p];
}

/* ---- alias rows ------------------------------------------------------------------------------------------------------ */

/* In `from`, '#' fits a number and a final '*' anything. In `to` they stand for what they fitted, in order; '^' is the number counted
 * from the other end, '<' one less, and '?' q, k and v in turn: a fused tensor becomes three. An apostrophe: a matrix stored as [in,out]. */
typedef struct alias {
    const char *from, *to;
} alias;

/* A tensor's new name. */
typedef struct renaming {
    char name[DC_MAX_NAME + 64];
    bool transposed;
} renaming;

/* Does `name` fit? Its numbers, and what is left for '*'. */
static bool fits(const char *from, const char *name, int *number, const char **rest)
{
    int n = 0;
    for (; *from && *from != '*'; from++) {
        if (*from != '#') {
            if (*name++ != *from) return false;
            continue;
        }
        char *end;
        if (*name < '0' || *name > '9') return false;
        long v = strtol(name, &end, 10);
        if (v < 0 || v > 100000 || end - name > 6) return false;
        number[n++] = (int)v;
        name = end;
    }
    *rest = name;
    return *from == '*' || !*name;
}

/* By the first row that fits; levels: what '^' counts from. False: no row fits. */
static bool by_alias(renaming *to, const char *head, const alias *rows, const char *name, int levels)
{
    for (const alias *a = rows; a->from; a++) {
        int number[4] = {0}, n = 0;
        const char *rest;
        if (!fits(a->from, name, number, &rest)) continue;
        size_t at = (size_t)snprintf(to->name, sizeof to->name, "%s", head);
        for (const char *c = a->to; *c && at < sizeof to->name - 12; c++) {
            if (*c == '#') at += (size_t)snprintf(to->name + at, 12, "%d", number[n++]);
            else if (*c == '^') at += (size_t)snprintf(to->name + at, 12, "%d", levels - 1 - number[n++]);
            else if (*c == '<') at += (size_t)snprintf(to->name + at, 12, "%d", number[n++] - 1);
            else if (*c == '\'') to->transposed = true;
            else if (*c == '*') at += (size_t)snprintf(to->name + at, sizeof to->name - at, "%s", rest);
            else to->name[at++] = *c;
        }
        to->name[at < sizeof to->name ? at : sizeof to->name - 1] = 0;
        return true;
    }
    return false;
}

/* ---- the dialects ------------------------------------------------------------------------------------------------------ */

/* What a dialect must know of the file to name its tensors. */
typedef struct naming {
    const dc_weights *w;
    const char *prefix;
    struct place {
        int level, layer;
    } input[MAX_BLOCKS], output[MAX_BLOCKS]; /* CompVis UNet: where input_blocks.N and output_blocks.N belong */
    int levels;                              /* CompVis VAE */
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

static bool same_name(const naming *n, renaming *to, const char *name)
{
    (void)n;
    snprintf(to->name, sizeof to->name, "%s", name);
    return true;
}

/* input_blocks: 0 is conv_in, then `layers` blocks and a downsampler a level; output_blocks: layers + 1 blocks a level, the last one with
 * an upsampler. Ref: UNetModel.__init__. */
static void prepare_unet(naming *n)
{
    for (int i = 1, level = 0, layer = 0; i < MAX_BLOCKS; i++) {
        n->input[i] = (struct place){level, layer++};
        if (has(n, "input_blocks.%d.0.op.weight", i)) level++, layer = 0;
    }
    for (int i = 0, level = 0, layer = 0; i < MAX_BLOCKS; i++) {
        n->output[i] = (struct place){level, layer++};
        if (has(n, "output_blocks.%d.1.conv.weight", i) || has(n, "output_blocks.%d.2.conv.weight", i)) level++, layer = 0;
    }
}

static const alias unet_resnet[] = {{"in_layers.0.*", "norm1.*"},
                                    {"in_layers.2.*", "conv1.*"},
                                    {"emb_layers.1.*", "time_emb_proj.*"},
                                    {"out_layers.0.*", "norm2.*"},
                                    {"out_layers.3.*", "conv2.*"},
                                    {"skip_connection.*", "conv_shortcut.*"},
                                    {0}};

/* A tensor of block `side`.level, whose number is (level, layer). */
static bool compvis_block(renaming *to, const char *side, struct place at, const char *inside)
{
    char head[80];
    snprintf(head, sizeof head, "%s.%d.resnets.%d.", side, at.level, at.layer);
    if (by_alias(to, head, unet_resnet, inside, 0)) return true;
    snprintf(to->name, sizeof to->name, "%s.%d.attentions.%d.%s", side, at.level, at.layer, inside);
    return true;
}

static bool compvis_unet(const naming *n, renaming *to, const char *name)
{
    static const alias whole[] = {{"time_embed.0.*", "time_embedding.linear_1.*"},
                                  {"time_embed.2.*", "time_embedding.linear_2.*"},
                                  {"time_embed.cond_proj.*", "time_embedding.cond_proj.*"},
                                  {"label_emb.0.0.*", "add_embedding.linear_1.*"},
                                  {"label_emb.0.2.*", "add_embedding.linear_2.*"},
                                  {"input_blocks.0.0.*", "conv_in.*"},
                                  {"out.0.*", "conv_norm_out.*"},
                                  {"out.2.*", "conv_out.*"},
                                  {0}};
    int number[4];
    const char *inside;
    char head[64];
    if (by_alias(to, "", whole, name, 0)) return true;
    if (fits("input_blocks.#.#.*", name, number, &inside) && number[0] < MAX_BLOCKS) {
        struct place at = n->input[number[0]];
        if (strncmp(inside, "op.", 3) != 0) return compvis_block(to, "down_blocks", at, inside);
        snprintf(to->name, sizeof to->name, "down_blocks.%d.downsamplers.0.conv.%s", at.level, inside + 3);
        return true;
    }
    if (fits("output_blocks.#.#.*", name, number, &inside) && number[0] < MAX_BLOCKS) {
        struct place at = n->output[number[0]];
        if (strncmp(inside, "conv.", 5) != 0) return compvis_block(to, "up_blocks", at, inside);
        snprintf(to->name, sizeof to->name, "up_blocks.%d.upsamplers.0.%s", at.level, inside);
        return true;
    }
    if (!fits("middle_block.#.*", name, number, &inside)) return false;
    snprintf(head, sizeof head, "mid_block.resnets.%d.", number[0] / 2); /* resnet, transformer, resnet */
    if (!by_alias(to, head, unet_resnet, inside, 0)) snprintf(to->name, sizeof to->name, "mid_block.attentions.0.%s", inside);
    return true;
}

static void prepare_vae(naming *n)
{
    while (n->levels < MAX_BLOCKS && has(n, "decoder.up.%d.block.0.conv1.weight", n->levels)) n->levels++;
}

static bool compvis_vae(const naming *n, renaming *to, const char *name)
{
    static const alias half[] = {{"conv_in.*", "conv_in.*"},
                                 {"down.#.block.#.nin_shortcut.*", "down_blocks.#.resnets.#.conv_shortcut.*"},
                                 {"down.#.block.#.*", "down_blocks.#.resnets.#.*"},
                                 {"down.#.downsample.conv.*", "down_blocks.#.downsamplers.0.conv.*"},
                                 {"up.#.block.#.nin_shortcut.*", "up_blocks.^.resnets.#.conv_shortcut.*"},
                                 {"up.#.block.#.*", "up_blocks.^.resnets.#.*"},
                                 {"up.#.upsample.conv.*", "up_blocks.^.upsamplers.0.conv.*"},
                                 {"mid.block_#.*", "mid_block.resnets.<.*"},
                                 {"mid.attn_1.norm.*", "mid_block.attentions.0.group_norm.*"},
                                 {"mid.attn_1.q.*", "mid_block.attentions.0.to_q.*"},
                                 {"mid.attn_1.k.*", "mid_block.attentions.0.to_k.*"},
                                 {"mid.attn_1.v.*", "mid_block.attentions.0.to_v.*"},
                                 {"mid.attn_1.proj_out.*", "mid_block.attentions.0.to_out.0.*"},
                                 {"norm_out.*", "conv_norm_out.*"},
                                 {"conv_out.*", "conv_out.*"},
                                 {0}};
    static const alias whole[] = {{"quant_conv.*", "quant_conv.*"}, {"post_quant_conv.*", "post_quant_conv.*"}, {0}};
    if (!strncmp(name, "encoder.", 8) || !strncmp(name, "decoder.", 8)) {
        char head[16];
        snprintf(head, sizeof head, "%.8s", name);
        return by_alias(to, head, half, name + 8, n->levels);
    }
    return by_alias(to, "", whole, name, 0);
}

/* transformers left "text_model." out at times; position_ids are a buffer of old versions. */
static bool transformers_text(const naming *n, renaming *to, const char *name)
{
    static const alias whole[] = {{"text_model.embeddings.position_ids", ""},
                                  {"embeddings.position_ids", ""},
                                  {"embeddings.*", "text_model.embeddings.*"},
                                  {"encoder.*", "text_model.encoder.*"},
                                  {"final_layer_norm.*", "text_model.final_layer_norm.*"},
                                  {"text_model.*", "text_model.*"},
                                  {"text_projection.*", "text_projection.*"},
                                  {0}};
    (void)n;
    return by_alias(to, "", whole, name, 0) && *to->name;
}

static bool open_clip_text(const naming *n, renaming *to, const char *name)
{
    static const alias whole[] = {{"token_embedding.weight", "text_model.embeddings.token_embedding.weight"},
                                  {"positional_embedding", "text_model.embeddings.position_embedding.weight"},
                                  {"ln_final.*", "text_model.final_layer_norm.*"},
                                  {"text_projection", "text_projection.weight'"},
                                  {"text_projection.weight", "text_projection.weight"},
                                  {"transformer.resblocks.#.ln_1.*", "text_model.encoder.layers.#.layer_norm1.*"},
                                  {"transformer.resblocks.#.ln_2.*", "text_model.encoder.layers.#.layer_norm2.*"},
                                  {"transformer.resblocks.#.mlp.c_fc.*", "text_model.encoder.layers.#.mlp.fc1.*"},
                                  {"transformer.resblocks.#.mlp.c_proj.*", "text_model.encoder.layers.#.mlp.fc2.*"},
                                  {"transformer.resblocks.#.attn.in_proj_*", "text_model.encoder.layers.#.self_attn.?_proj.*"},
                                  {"transformer.resblocks.#.attn.out_proj.*", "text_model.encoder.layers.#.self_attn.out_proj.*"},
                                  {0}};
    (void)n;
    return by_alias(to, "", whole, name, 0);
}

/* One row: a part is there when `prefix` + `probe` is; the first that is, is taken. */
typedef struct dialect {
    dc_part part;
    const char *prefix, *probe;
    bool (*rename)(const naming *, renaming *, const char *below_prefix);
    void (*prepare)(naming *);
} dialect;

#define TRANSFORMERS(part, prefix)                                                                                                                   \
    {part, prefix, "text_model.embeddings.token_embedding.weight", transformers_text, NULL},                                                         \
    {                                                                                                                                                \
        part, prefix, "embeddings.token_embedding.weight", transformers_text, NULL                                                                   \
    }
#define OPEN_CLIP(part, prefix)                                                                                                                      \
    {                                                                                                                                                \
        part, prefix, "transformer.resblocks.0.attn.in_proj_weight", open_clip_text, NULL                                                            \
    }
#define COMPVIS_UNET(prefix)                                                                                                                         \
    {                                                                                                                                                \
        DC_PART_UNET, prefix, "input_blocks.0.0.weight", compvis_unet, prepare_unet                                                                  \
    }
#define COMPVIS_VAE(prefix)                                                                                                                          \
    {                                                                                                                                                \
        DC_PART_VAE, prefix, "decoder.mid.block_1.conv1.weight", compvis_vae, prepare_vae                                                            \
    }
#define DIFFUSERS_UNET(prefix)                                                                                                                       \
    {                                                                                                                                                \
        DC_PART_UNET, prefix, "conv_norm_out.weight", same_name, NULL                                                                                \
    }
#define DIFFUSERS_VAE(prefix)                                                                                                                        \
    {                                                                                                                                                \
        DC_PART_VAE, prefix, "decoder.mid_block.resnets.0.conv1.weight", same_name, NULL                                                             \
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
    {DC_PART_VAE, "", "decoder.layers.0.weight", same_name, NULL}, /* AutoencoderTiny, and TAESD's own names */
    {DC_PART_VAE, "", "1.weight", same_name, NULL},
    {DC_PART_VAE, "", "0.weight", same_name, NULL},
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
static dc_status keep_split(listing *l, const renaming *to, const dc_stored *t)
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
        *strchr(name, '?') = "qkv"[i];
        part.bytes = t->bytes / 3;
        part.data = t->data ? (const char *)t->data + part.bytes * (uint64_t)i : NULL;
        s = keep_as(l, name, part, dim);
    }
    return s;
}

static dc_status keep_transposed(listing *l, const renaming *to, const dc_stored *t)
{
    if (t->rank != 2) return keep(l, to->name, t); /* its shape will be refused under its name */
    dc_stored turned = *t;
    turned.transposed = !t->transposed;
    return keep_as(l, to->name, turned, (int64_t[]){t->dim[1], t->dim[0]});
}

/* The tensor's name in the part; false: it is not of that part. */
static bool rename_tensor(const dialect *d, const naming *n, const dc_stored *t, renaming *to)
{
    size_t head = strlen(d->prefix);
    return !strncmp(t->name, d->prefix, head) && d->rename(n, to, t->name + head);
}

static dc_status keep_renamed(listing *l, const dialect *d, const naming *n, const dc_stored *t)
{
    renaming to = {0};
    if (!rename_tensor(d, n, t, &to)) return DC_OK;
    if (strchr(to.name, '?') && d->rename == open_clip_text) return keep_split(l, &to, t);
    return to.transposed ? keep_transposed(l, &to, t) : keep(l, to.name, t);
}

static naming naming_of(const dialect *d, const dc_weights *w)
{
    naming n = {.w = w, .prefix = d->prefix};
    if (d->prepare) d->prepare(&n);
    return n;
}

void dc_weights_mark_parts(const dc_weights *w, bool *used)
{
    memset(used, 0, (size_t)dc_weights_count(w) * sizeof *used);
    for (int p = 0; p < DC_PARTS; p++) {
        const dialect *d = find_dialect(w, (dc_part)p);
        if (!d) continue;
        naming n = naming_of(d, w);
        renaming to = {0};
        for (int i = 0; i < dc_weights_count(w); i++) used[i] |= rename_tensor(d, &n, dc_weights_at(w, i), &to);
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

dc_status dc_weights_part(dc_weights **out, const dc_weights *w, dc_part p, dc_error *e)
{
    const dialect *d = find_dialect(w, p);
    *out = NULL;
    if (!d) return DC_OK;
    naming n = naming_of(d, w);
    listing l = {.w = w, .e = e};
    dc_status s = DC_OK;
    for (int i = 0; !s && i < dc_weights_count(w); i++) s = keep_renamed(&l, d, &n, dc_weights_at(w, i));
    if (!s) {
        settle(&l);
        return dc_weights_view(out, w, l.tensor, l.n, l.names.at, l.dims, e);
    }
    free(l.tensor);
    free(l.dims);
    dc_text_free(&l.names);
    return s;
}
