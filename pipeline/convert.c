/* convert.c - a model written anew: from wherever its parts are into one safetensors file, or a diffusers folder (convert_folder.c). */
#include "pipeline/convert.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what both share ------------------------------------------------------------------------------------------------- */

enum { READ_AT_ONCE = 64 << 20 };

static dc_status tick(void *ctx, uint64_t bytes, dc_error *e)
{
    conversion *c = ctx;
    c->written += bytes;
    if (c->written - c->forgotten > READ_AT_ONCE) { /* what was read leaves memory, whatever the model's size */
        for (int p = 0; p < DC_PARTS; p++)
            if (c->part[p].weights) dc_weights_forget(c->part[p].weights);
        if (c->m->file) dc_weights_forget(c->m->file);
        c->forgotten = c->written;
    }
    if (!c->on_progress) return DC_OK;
    diffc_progress p = {.stage = DIFFC_STAGE_WRITE,
                        .what = c->what,
                        .done = c->written < c->total ? c->written : c->total,
                        .total = c->total,
                        .seconds = dc_seconds() - c->began,
                        .eta = -1};
    return c->on_progress(c->user, &p) ? dc_fail(e, DC_CANCELLED, "stopped; nothing was written") : DC_OK;
}

/* Was all that was read the files as they were opened? Asked before a file takes its name. */
static dc_status check_sources(void *ctx, dc_error *e)
{
    conversion *c = ctx;
    dc_status s = c->m->file ? dc_weights_check(c->m->file, e) : DC_OK;
    for (int p = 0; !s && p < DC_PARTS; p++)
        if (c->part[p].weights) s = dc_weights_check(c->part[p].weights, e);
    return s;
}

dc_status convert_write(conversion *c, const char *path, dc_write_list *l, const char *what)
{
    c->what = what;
    dc_status s = tick(c, 0, c->e);
    return s ? s : dc_safetensors_write(path, l, &c->w, c->e);
}

void convert_note(conversion *c, dc_part p, int tensors, uint64_t bytes)
{
    diffc_converted_part *x = &c->done->part[c->done->n_parts++];
    *x = (diffc_converted_part){.tensors = tensors, .bytes = bytes};
    snprintf(x->name, sizeof x->name, "%s", dc_part_folder(p));
}

dc_status convert_scheduler(conversion *c, json_t **root)
{
    static const char *const names[] = {[DC_PREDICT_EPSILON] = "epsilon", [DC_PREDICT_V] = "v_prediction", [DC_PREDICT_SAMPLE] = "sample"};
    const json_t *unet = c->part[DC_PART_UNET].config;
    dc_noise_config chosen = {0};
    char *path = NULL;
    bool unsure;
    dc_status s = scheduler_config(c->m, root, &path, unet, &unsure, c->e);
    if (!s && unsure && !c->o.prediction)
        dc_log_write(&c->m->log, DC_LOG_WARNING,
                     "%s: the file does not say what its UNet predicts; written is v (--prediction epsilon for 512-base models)", c->m->path);
    if (!s && !*root) s = dc_scheduler_config(root, NULL, c->part[DC_PART_UNET].weights, unet, c->e);
    if (!s) s = dc_prediction_set(&chosen, c->o.prediction, c->e);
    if (!s && c->o.prediction && json_object_set_new(*root, "prediction_type", json_string(names[chosen.prediction])) != 0)
        s = dc_fail_memory(c->e, "a configuration", 0);
    free(path);
    return s;
}

/* ---- one file --------------------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static const char *replaced_part(const diffc_options *o, dc_part p)
{
    const char *const paths[DC_PARTS] = {o->text_encoder, o->text_encoder_2, o->unet, o->vae};
    return paths[p];
}

/* 2.x has open_clip's tower, which is told by its exact GELU. */
static dc_file_kind kind_of(const conversion *c)
{
    if (c->part[DC_PART_TEXT_2].weights) return DC_FILE_XL;
    return !strcmp(text_of(c->part[DC_PART_TEXT].config, "hidden_act"), "gelu") ? DC_FILE_SD2 : DC_FILE_SD1;
}

/* A part of the input file keeps the names that it has there: *own must live as long as the list. */
static dc_status add_part(conversion *c, dc_write_list *l, dc_part p, dc_weights **own)
{
    int left_out = 0;
    dc_status s = DC_OK;
    if (c->m->file && !replaced_part(&c->o, p)) s = dc_weights_part_as_is(own, c->m->file, p, c->e);
    if (s) return s;
    for (int i = 0; *own && !s && i < dc_weights_count(*own); i++) {
        const dc_stored *t = dc_weights_at(*own, i);
        if (!dc_write_add(l, t->name, &t, 1, c->e)) s = DC_NO_MEMORY;
    }
    if (*own || s) return s;
    if (!strcmp(text_of(c->part[p].config, "_class_name"), "AutoencoderTiny"))
        return dc_fail(c->e, DC_DATA, "%s: found an AutoencoderTiny, expected a VAE: single files have no other", c->part[p].config_path);
    s = dc_write_add_part(l, c->part[p].weights, p, kind_of(c), &left_out, c->e);
    if (!s && left_out == dc_weights_count(c->part[p].weights))
        return dc_fail(c->e, DC_DATA, "%s: found no tensor that has a name in a single file, expected a %s", dc_weights_path(c->part[p].weights),
                       dc_part_folder(p));
    if (!s && left_out)
        dc_log_write(&c->m->log, DC_LOG_WARNING, "%s: %d tensors have no name in a single file and are left out", dc_weights_path(c->part[p].weights),
                     left_out);
    return s;
}

/* What says that the UNet predicts v, and that the schedule ends at pure noise: the file's own marks, or what its schedule asks for. */
static dc_status add_marks(conversion *c, dc_write_list *l, const char **prediction)
{
    static const char *const names[] = {"v_pred", "ztsnr"};
    bool own = c->m->file && !c->o.prediction, marked[2] = {false};
    json_t *schedule = NULL;
    *prediction = NULL;
    dc_status s = own || !c->part[DC_PART_UNET].weights ? DC_OK : convert_scheduler(c, &schedule);
    if (schedule) {
        const char *type = text_of(schedule, "prediction_type");
        marked[0] = !strcmp(type, "v_prediction");
        marked[1] = json_is_true(json_object_get(schedule, "rescale_betas_zero_snr"));
        *prediction = marked[0] ? "v" : strcmp(type, "sample") ? "epsilon" : "sample";
    }
    for (int i = 0; !s && i < 2; i++) {
        const dc_stored *t = own ? dc_weights_find(c->m->file, names[i]) : NULL;
        if ((t || marked[i]) && !dc_write_add(l, names[i], &t, t ? 1 : 0, c->e)) s = DC_NO_MEMORY;
    }
    json_decref(schedule);
    return s;
}

/* The input file's, without what conversion makes untrue; and what is predicted. The caller frees *pairs. */
static dc_status list_metadata(conversion *c, const char *prediction, dc_pair **pairs)
{
    static const char *const untrue[] = {"modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash"};
    bool kept = c->m->file && !strcmp(dc_weights_format(c->m->file), "safetensors"); /* GGUF's are of another kind */
    int n = kept ? dc_weights_metadata_count(c->m->file) : 0, k = 0;
    *pairs = calloc((size_t)n + 1, sizeof **pairs);
    if (!*pairs) return dc_fail_memory(c->e, "metadata", (unsigned long long)(n + 1) * sizeof **pairs);
    for (int i = 0; i < n; i++) {
        dc_pair *x = &(*pairs)[k];
        dc_weights_metadata_at(c->m->file, i, &x->key, &x->value);
        bool drop = prediction && !strcmp(x->key, "modelspec.prediction_type");
        for (size_t j = 0; j < sizeof untrue / sizeof *untrue; j++) drop |= !strcmp(x->key, untrue[j]);
        k += !drop;
    }
    if (prediction) (*pairs)[k++] = (dc_pair){"modelspec.prediction_type", prediction};
    c->w.metadata = *pairs;
    c->w.n_metadata = k;
    return DC_OK;
}

static dc_status convert_to_file(conversion *c, const char *path)
{
    dc_write_list l = {0};
    dc_weights *own[DC_PARTS] = {NULL};
    dc_pair *pairs = NULL;
    const char *prediction = NULL;
    dc_status s = DC_OK;
    for (int p = 0; !s && p < DC_PARTS; p++) {
        int before = l.n;
        if (!c->part[p].weights) continue;
        s = add_part(c, &l, (dc_part)p, &own[p]);
        if (!s) convert_note(c, (dc_part)p, l.n - before, dc_write_bytes(&l, before, c->w.type));
    }
    if (!s) s = add_marks(c, &l, &prediction);
    if (!s) s = list_metadata(c, prediction, &pairs);
    c->total = dc_write_bytes(&l, 0, c->w.type);
    if (!s) s = convert_write(c, path, &l, "file");
    c->w.n_metadata = 0;
    free(pairs);
    for (int p = 0; p < DC_PARTS; p++) dc_weights_close(own[p]);
    dc_write_list_free(&l);
    return s;
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------- */

static dc_status read_type(dc_write_type *type, const char *name, dc_error *e)
{
    static const char *const names[] = {[DC_WRITE_AUTO] = "auto", [DC_WRITE_F32] = "f32", [DC_WRITE_F16] = "f16", [DC_WRITE_BF16] = "bf16"};
    static const char *const others[] = {[DC_WRITE_AUTO] = "keep", [DC_WRITE_F32] = "fp32", [DC_WRITE_F16] = "fp16", [DC_WRITE_BF16] = "bfloat16"};
    *type = DC_WRITE_AUTO;
    if (!name) return DC_OK;
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i]) || !strcmp(name, others[i])) {
            *type = (dc_write_type)i;
            return DC_OK;
        }
    return dc_fail(e, DC_USAGE, "precision: found %s, expected auto (as stored), f32, f16 or bf16", name);
}

/* A name ending in .safetensors, stdout and devices are files, all else a folder; but nobody wants a folder model.ckpt. */
static dc_status read_output(const char *path, bool *file, dc_error *e)
{
    static const char *const other[] = {".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx", ".sft"};
    const char *dot = strrchr(path, '.');
    *file = (dot && !strcmp(dot, ".safetensors")) || !strcmp(path, "-") || (access(path, F_OK) == 0 && !dc_is_file(path) && !dc_is_folder(path));
    for (size_t i = 0; dot && !*file && i < sizeof other / sizeof *other; i++)
        if (!strcmp(dot, other[i])) return dc_fail(e, DC_USAGE, "output: found %s, expected a folder or a name ending in .safetensors", path);
    return *path ? DC_OK : dc_fail(e, DC_USAGE, "output: found nothing, expected a folder or a name ending in .safetensors");
}

/* A second text encoder of the folder that describes a file counts only with a UNet that asks for it. */
static bool is_wanted(const conversion *c, dc_part p)
{
    const json_t *unet = c->part[DC_PART_UNET].config;
    bool in_file = c->m->file && dc_weights_has_part(c->m->file, p);
    return p != DC_PART_TEXT_2 || replaced_part(&c->o, p) || in_file || !unet || *text_of(unet, "addition_embed_type");
}

static dc_status open_parts(conversion *c)
{
    static const dc_part order[] = {DC_PART_UNET, DC_PART_TEXT, DC_PART_TEXT_2, DC_PART_VAE}; /* what the UNet is tells of the others */
    bool there[DC_PARTS] = {false};
    int n = 0;
    dc_status s = DC_OK;
    for (int p = 0; !s && p < DC_PARTS; p++) {
        s = part_there(&there[p], c->m, (dc_part)p, replaced_part(&c->o, (dc_part)p), c->e);
        n += there[p];
    }
    c->alone = c->m->file && n == 1;
    if (!s && !c->alone) s = parts_check(c->m, &c->o, c->e);
    for (int i = 0; !s && i < DC_PARTS; i++) {
        dc_part p = order[i];
        const char *named = c->alone ? c->m->path : replaced_part(&c->o, p); /* alone: as if it were named, for the config.json beside it */
        if (there[p] && is_wanted(c, p)) s = part_open(&c->part[p], c->m, p, named, c->part[DC_PART_UNET].config, c->e);
    }
    return s;
}

static dc_status convert(conversion *c, const char *output)
{
    bool file;
    dc_status s = read_type(&c->w.type, c->o.precision, c->e);
    if (!s) s = read_output(output, &file, c->e);
    if (!s) s = model_find(&c->m, &c->o, c->e);
    if (!s && file) s = dc_out_check(output, c->e);
    if (!s && !file) s = dc_out_folder_open(&c->folder, output, c->e);
    if (!s) s = open_parts(c);
    if (!s) s = file ? convert_to_file(c, output) : convert_to_folder(c);
    c->done->folder = !s && !file;
    c->done->bytes = c->written;
    if (!s && c->folder) {
        s = dc_out_folder_commit(c->folder, c->e);
        c->folder = NULL;
    }
    return s;
}

diffc_status diffc_convert(const diffc_options *o, const char *output, bool (*on_progress)(void *user, const diffc_progress *progress), void *user,
                           diffc_conversion *out, diffc_error *error)
{
    dc_error e = {0};
    diffc_conversion own;
    conversion c = {.o = *o, .on_progress = on_progress, .user = user, .done = out ? out : &own, .began = dc_seconds(), .e = &e};
    c.o.taesd = NULL;
    c.w = (dc_write_options){.tick = tick, .check = check_sources, .ctx = &c};
    *c.done = (diffc_conversion){0};
    convert(&c, output);
    dc_out_folder_abandon(c.folder);
    for (int p = 0; p < DC_PARTS; p++) part_close(&c.part[p]);
    model_close(c.m);
    return give_error(error, &e);
}
