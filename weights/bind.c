/* bind.c - binding tables against stored tensors. */
#include "weights/bind.h"
#include "base/checked.h"
#include "base/text.h"
#include "weights/weights.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMED      20  /* problems told by name; the others are counted */
#define NAMED_TEXT 640 /* and no more of them than fit in so many bytes: dc_error's line has 1,024 */

struct dc_binder {
    const dc_weights *w;
    dc_params *params;
    const char *what;
    bool *used; /* by index of the stored tensor */
    dc_text problems;
    int missing, misshaped, named;
    bool no_memory;
};

dc_binder *dc_binder_new(const dc_weights *w, dc_params *params, const char *what)
{
    dc_binder *b = dc_calloc(1, sizeof *b);
    if (!b) return NULL;
    *b = (dc_binder){.w = w, .params = params, .what = what, .used = dc_calloc((size_t)dc_weights_count(w), sizeof(bool))};
    if (b->used) return b;
    free(b);
    return NULL;
}

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

typedef struct shape {
    int rank, dim[4];
} shape;

/* "O I 3 3" with the letters' values. */
static shape read_shape(const char *text, const dc_dims *dims)
{
    shape s = {0};
    for (const char *at = text; *at;) {
        while (*at == ' ') at++;
        if (!*at) break;
        if (*at >= 'A' && *at <= 'Z') s.dim[s.rank++] = dims->at[*at++ - 'A'];
        else s.dim[s.rank++] = (int)strtol(at, (char **)&at, 10);
    }
    return s;
}

/* "[320,4,3,3]" */
static void shape_text(char *out, size_t size, const int64_t *dim, int rank)
{
    size_t at = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < rank && at < size; i++) at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? "," : "", (long long)dim[i]);
    if (at < size) snprintf(out + at, size - at, "]");
}

/* Does the stored tensor have the wanted shape? `loose`: trailing ones may be there or not (1x1 convolutions as linears). A table of one row
 * may be stored as that row. */
static bool fits(const dc_stored *t, const shape *s, bool loose)
{
    int most = t->rank > s->rank ? t->rank : s->rank;
    if (t->rank == 1 && s->rank == 2 && s->dim[0] == 1 && t->dim[0] == s->dim[1]) return true;
    if (!loose && t->rank != s->rank) return false;
    for (int i = 0; i < most; i++) {
        int64_t a = i < t->rank ? t->dim[i] : 1, b = i < s->rank ? s->dim[i] : 1;
        if (a != b) return false;
    }
    return true;
}

/* ---- one tensor ----------------------------------------------------------------------------------------------------- */

/* Adds to the list of problems while there is room. */
static void note(dc_binder *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(dc_binder *b, const char *format, ...)
{
    char line[NAMED_TEXT];
    va_list args;
    va_start(args, format);
    size_t n = (size_t)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    bool room = b->named < NAMED && (b->problems.length + n < NAMED_TEXT || !b->named);
    if (room && ++b->named) dc_text_printf(&b->problems, "%s%s", b->problems.length ? "; " : "", line);
}

static void note_missing(dc_binder *b, const char *name)
{
    b->missing++;
    note(b, "%s missing", name);
}

static void note_misshaped(dc_binder *b, const dc_stored *t, const shape *want)
{
    char found[200], expected[64];
    int64_t dim[4];
    for (int i = 0; i < want->rank; i++) dim[i] = want->dim[i];
    shape_text(found, sizeof found, t->dim, t->rank);
    shape_text(expected, sizeof expected, dim, want->rank);
    b->misshaped++;
    note(b, "%s: found %s, expected %s", t->name, found, expected);
}

/* Whole numbers and truth values are no weights. */
static bool is_real(dc_dtype t) { return t < DC_I64; }

/* Finds NAME; NULL when it is missing or mis-shaped (noted, unless `optional` and missing). alone: no others are stacked with it, and it is
 * no table; then it may lie transposed. */
static const dc_stored *find(dc_binder *b, const char *name, const shape *want, bool loose, bool optional, bool alone)
{
    const dc_stored *t = dc_weights_find(b->w, name);
    if (!t) {
        if (!optional) note_missing(b, name);
        return NULL;
    }
    b->used[t - dc_weights_at(b->w, 0)] = true;
    if (!fits(t, want, loose)) {
        note_misshaped(b, t, want);
        return NULL;
    }
    if (t->transposed && (want->rank != 2 || !alone)) {
        b->misshaped++;
        note(b, "%s: found it transposed, expected it upright", name);
        return NULL;
    }
    if (is_real(t->dtype)) return t;
    b->misshaped++;
    note(b, "%s: found %s values, expected real numbers", name, dc_dtype_name(t->dtype));
    return NULL;
}

/* ---- one layer --------------------------------------------------------------------------------------------------------- */

/* The parts of "a|b|c" below the prefix, each with `tail` (".weight"); their number. Sources are filled for those found. */
static int find_parts(dc_binder *b, const char *prefix, const dc_bind *row, const char *tail, shape want, bool loose, bool optional, dc_source *out,
                      const dc_stored **first)
{
    int parts = 1, found = 0, at = 0;
    for (const char *p = row->name; *p; p++) parts += *p == '|';
    assert(parts <= DC_MAX_PARTS && want.dim[0] % parts == 0);
    bool transposed = row->flags & DC_BIND_TRANSPOSED && want.rank == 2;
    want.dim[0] /= parts;
    shape stored = transposed ? (shape){2, {want.dim[1], want.dim[0]}} : want;
    for (const char *name = row->name; at < parts; at++) {
        size_t n = strcspn(name, "|");
        char full[1200];
        snprintf(full, sizeof full, "%s%s%.*s%s", prefix, *prefix && n ? "." : "", (int)n, name, tail);
        const dc_stored *t = find(b, full, &stored, loose, optional, parts == 1 && !(row->flags & DC_BIND_TABLE));
        if (t) {
            if (!found && first) *first = t;
            out[found++] = (dc_source){t->data, t->dtype, stored.dim[0], t->scale};
        }
        name += n + (name[n] == '|');
    }
    return found == parts ? found : 0;
}

static dc_param_kind kind_of(const shape *s, unsigned flags)
{
    if (flags & DC_BIND_TABLE) return DC_PARAM_TABLE;
    if (flags & DC_BIND_FLAT) return DC_PARAM_LINEAR;
    return s->rank == 4 ? DC_PARAM_CONV : s->rank == 2 ? DC_PARAM_LINEAR : DC_PARAM_NORM;
}

static void bind_layer(dc_binder *b, void *layer, const dc_bind *row, const dc_dims *dims, const char *prefix)
{
    shape want = read_shape(row->shape, dims), bias = {1, {want.dim[0]}};
    bool bare = row->flags & DC_BIND_BARE, optional = row->flags & DC_BIND_OPTIONAL;
    const dc_stored *first = NULL;
    char name[1400];
    dc_param **field = (dc_param **)((char *)layer + row->offset);
    *field = NULL;
    dc_param_desc d = {.kind = kind_of(&want, row->flags),
                       .out = want.dim[0],
                       .in = want.rank > 1 ? want.dim[1] : 1,
                       .kh = want.rank > 2 ? want.dim[2] : 1,
                       .kw = want.rank > 3 ? want.dim[3] : 1,
                       .geglu = row->flags & DC_BIND_GEGLU,
                       .transposed = (row->flags & DC_BIND_TRANSPOSED) != 0,
                       .int8 = (row->flags & DC_BIND_INT8) != 0};
    if (row->flags & DC_BIND_FLAT) d.in *= d.kh * d.kw, d.kh = d.kw = 1;
    d.n_weight = find_parts(b, prefix, row, bare ? "" : ".weight", want, row->flags & DC_BIND_AS_LINEAR, optional, d.weight, &first);
    bool biased = !bare && !(row->flags & DC_BIND_NO_BIAS);
    if (optional && !d.n_weight) biased = false; /* the whole layer is missing */
    if (biased) d.n_bias = find_parts(b, prefix, row, ".bias", bias, false, row->flags & DC_BIND_BIAS_OPTIONAL, d.bias, NULL);
    if (!d.n_weight) return;
    if (biased && !d.n_bias && !(row->flags & DC_BIND_BIAS_OPTIONAL)) return; /* noted as missing */
    if (first->transposed) {                                                  /* its shape is told as it is meant, its rows as they lie */
        d.transposed = !d.transposed;
        d.weight[0].rows = d.transposed ? d.in : d.out;
    }
    snprintf(name, sizeof name, "%s: %s%s%s", first->file, prefix, *prefix && *row->name ? "." : "", row->name);
    d.name = name;
    *field = dc_params_add(b->params, &d);
    if (!*field) b->no_memory = true;
}

void dc_bind_layers(dc_binder *b, void *layer, const dc_bind *rows, int n, dc_dims dims, const char *prefix_format, ...)
{
    char prefix[512];
    va_list args;
    va_start(args, prefix_format);
    vsnprintf(prefix, sizeof prefix, prefix_format, args);
    va_end(args);
    for (int i = 0; i < n; i++) bind_layer(b, layer, &rows[i], &dims, prefix);
}

bool dc_bind_has(const dc_binder *b, const char *format, ...)
{
    char name[512];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return dc_weights_find(b->w, name) != NULL;
}

/* ---- the verdict ------------------------------------------------------------------------------------------------------------ */

/* Beginnings (or, with '*' first, parts) of names that tell what a file is; the special before the general. */
static const struct {
    const char *name, *is;
} kinds[] = {
    {"model.diffusion_model.double_blocks.", "a whole Flux model in one file"},
    {"model.diffusion_model.joint_blocks.", "a whole Stable Diffusion 3 model in one file"},
    {"conditioner.embedders.0.model.", "the refiner of Stable Diffusion XL, which is not supported"},
    {"model.diffusion_model.", "a whole Stable Diffusion model in one file (CompVis names)"},
    {"first_stage_model.", "a VAE in CompVis names"},
    {"cond_stage_model.", "a text encoder in CompVis names"},
    {"conditioner.embedders.", "the text encoders of an SDXL model in one file"},
    {"lora_", "a LoRA"},
    {"*.lora_A.", "a LoRA"},
    {"*.lora_down.", "a LoRA"},
    {"*.lora.down.", "a LoRA"},
    {"*.hada_w1_a", "a LoHa"},
    {"*.lokr_w1", "a LoKr"},
    {"control_model.", "a ControlNet in CompVis names"},
    {"controlnet_cond_embedding.", "a ControlNet"},
    {"down_blocks.", "a UNet"},
    {"mid_block.", "a UNet"},
    {"input_blocks.", "a UNet in CompVis names"},
    {"decoder.mid.block_1.", "a VAE in CompVis names"},
    {"encoder.mid.block_1.", "a VAE in CompVis names"},
    {"decoder.layers.", "a TAESD"},
    {"decoder.mid_block.", "a VAE"},
    {"encoder.mid_block.", "a VAE"},
    {"encoder.block.0.layer.0.SelfAttention.", "a T5 text encoder"},
    {"*vision_model.", "a CLIP model with its vision encoder"},
    {"text_model.", "a CLIP text encoder"},
    {"encoder.layers.0.self_attn.", "a CLIP text encoder"},
    {"visual.", "a CLIP model in OpenAI's or open_clip's names"},
    {"transformer.resblocks.", "a text encoder in open_clip's names"},
    {"joint_transformer_blocks.", "a Stable Diffusion 3 transformer"},
    {"double_blocks.", "a Flux transformer"},
    {"transformer_blocks.", "a diffusion transformer"},
    {"emb_params", "a textual inversion"},
    {"1.conv.0.", "a half of TAESD in its original names"},
    {"3.conv.0.", "a half of TAESD in its original names"},
};

const char *dc_weights_looks_like(const dc_weights *w)
{
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int i = 0; i < dc_weights_count(w); i++) {
            const char *name = dc_weights_at(w, i)->name, *part = kinds[k].name;
            if (*part == '*' ? strstr(name, part + 1) != NULL : !strncmp(name, part, strlen(part))) return kinds[k].is;
        }
    return NULL;
}

static void note_unused(const dc_binder *b, const dc_log *log)
{
    int n = 0;
    const char *first = "";
    for (int i = 0; i < dc_weights_count(b->w); i++)
        if (!b->used[i] && n++ == 0) first = dc_weights_at(b->w, i)->name;
    if (n) dc_log_write(log, DC_LOG_DEBUG, "%s: %d tensors are not used by the %s, the first is %s", dc_weights_path(b->w), n, b->what, first);
}

dc_status dc_binder_finish(dc_binder *b, const dc_log *log, dc_error *e)
{
    dc_status s = DC_OK;
    int problems = b->missing + b->misshaped;
    if (b->no_memory || b->problems.failed) {
        s = dc_fail_memory(e, b->what, 0);
    } else if (problems) {
        if (problems > b->named) dc_text_printf(&b->problems, "; and %d more", problems - b->named);
        s = dc_fail(e, DC_DATA, "%s: %s: found %d tensors missing and %d of another shape or type: %s", dc_weights_path(b->w), b->what, b->missing,
                    b->misshaped, b->problems.at);
        const char *like = dc_weights_looks_like(b->w);
        if (like) dc_hint(e, "The file looks like %s, with %d tensors.", like, dc_weights_count(b->w));
        else dc_hint(e, "The file has %d tensors, and their names are not of a kind that is known.", dc_weights_count(b->w));
    } else {
        note_unused(b, log);
    }
    dc_text_free(&b->problems);
    free(b->used);
    free(b);
    return s;
}
