/* weights.c - tensors of one file, of shards, or of a component folder, found by name. */
#include "weights/weights.h"
#include "base/checked.h"
#include "base/json.h"
#include "base/text.h"
#include "weights/reader.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SHARDS 1024

struct dc_weights {
    char         *path;
    dc_container *part;
    int           n_parts;
    dc_stored    *tensor; /* of all parts, in name order; for a single file the part's own array */
    int           n_tensors;
};

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && !strcmp(s + n - k, tail);
}

/* ---- shards ----------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) { return strcmp(((const dc_stored *)a)->name, ((const dc_stored *)b)->name); }

/* Folder part of a path, "." without one. The caller frees. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? dc_format("%.*s", slash == path ? 1 : (int)(slash - path), path) : dc_strdup(".");
}

static dc_status open_shard(dc_weights *w, const char *folder, const char *name, dc_error *e)
{
    if (!dc_is_safe_relative(name)) return dc_fail(e, DC_DENIED, "%s: weight_map: found the file name %s, expected one inside the folder", w->path, name);
    if (w->n_parts >= MAX_SHARDS) return dc_fail(e, DC_DATA, "%s: weight_map: found more than %d files, expected fewer", w->path, MAX_SHARDS);
    char     *path = dc_path_join(folder, name);
    dc_status s    = path ? dc_safetensors_open(&w->part[w->n_parts], path, e) : dc_fail_memory(e, name, strlen(name));
    if (!s) w->n_parts++;
    free(path);
    return s;
}

/* The files of the weight_map, each once, in the order of their first tensor. */
static dc_status open_shards(dc_weights *w, const json_t *map, dc_error *e)
{
    const char *key;
    json_t     *value;
    char       *folder = folder_of(w->path);
    json_t     *seen   = json_object();
    dc_status   s      = folder && seen ? DC_OK : dc_fail_memory(e, w->path, 0);
    json_object_foreach((json_t *)map, key, value)
    {
        const char *name = json_string_value(value);
        if (s) break;
        if (!name) s = dc_fail(e, DC_DATA, "%s: weight_map: %s: found no string, expected a file name", w->path, key);
        else if (!json_object_get(seen, name)) {
            s = open_shard(w, folder, name, e);
            json_object_set_new(seen, name, json_integer(w->n_parts - 1));
        }
    }
    json_decref(seen);
    free(folder);
    return s;
}

static dc_status join_shards(dc_weights *w, dc_error *e)
{
    size_t n = 0;
    for (int i = 0; i < w->n_parts; i++) n += (size_t)w->part[i].n_tensors;
    if (n > DC_MAX_TENSORS) return dc_fail(e, DC_DATA, "%s: tensors: found %zu in all shards, expected at most %d", w->path, n, DC_MAX_TENSORS);
    w->tensor = dc_calloc(n, sizeof *w->tensor);
    if (!w->tensor) return dc_fail_memory(e, w->path, n * sizeof *w->tensor);
    for (int i = 0; i < w->n_parts; i++) {
        memcpy(w->tensor + w->n_tensors, w->part[i].tensor, (size_t)w->part[i].n_tensors * sizeof *w->tensor);
        w->n_tensors += w->part[i].n_tensors;
    }
    qsort(w->tensor, n, sizeof *w->tensor, by_name);
    for (int i = 1; i < w->n_tensors; i++)
        if (!strcmp(w->tensor[i - 1].name, w->tensor[i].name))
            return dc_fail(e, DC_DATA, "%s: tensor %s: found in %s and in %s, expected once", w->path, w->tensor[i].name, w->tensor[i - 1].file, w->tensor[i].file);
    return DC_OK;
}

/* Every tensor that the index names must be in the file that it names. */
static dc_status check_map(const dc_weights *w, const json_t *map, dc_error *e)
{
    const char *key;
    json_t     *value;
    json_object_foreach((json_t *)map, key, value)
    {
        const dc_stored *t = dc_weights_find(w, key);
        if (!t || !ends_with(t->file, json_string_value(value)))
            return dc_fail(e, DC_DATA, "%s: tensor %s: found %s%s, expected it in %s", w->path, key, t ? "it in " : "no such tensor", t ? t->file : "", json_string_value(value));
    }
    return DC_OK;
}

static dc_status open_index(dc_weights *w, dc_error *e)
{
    json_t   *root = NULL;
    dc_status s    = dc_json_read(&root, w->path, 64u << 20, e);
    const json_t *map = json_object_get(root, "weight_map");
    if (!s && !json_is_object(map)) s = dc_fail(e, DC_DATA, "%s: weight_map: found none, expected tensor names and their files", w->path);
    if (!s && !(w->part = dc_calloc(MAX_SHARDS, sizeof *w->part))) s = dc_fail_memory(e, w->path, MAX_SHARDS * sizeof *w->part);
    if (!s) s = open_shards(w, map, e);
    if (!s) s = join_shards(w, e);
    if (!s) s = check_map(w, map, e);
    json_decref(root);
    return s;
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static dc_status open_single(dc_weights *w, dc_error *e)
{
    w->part = dc_calloc(1, sizeof *w->part);
    if (!w->part) return dc_fail_memory(e, w->path, sizeof *w->part);
    dc_status s = dc_safetensors_open(w->part, w->path, e);
    if (s) return s;
    w->n_parts   = 1;
    w->tensor    = w->part->tensor;
    w->n_tensors = w->part->n_tensors;
    return DC_OK;
}

dc_status dc_weights_open(dc_weights **out, const char *path, dc_error *e)
{
    *out          = NULL;
    dc_weights *w = dc_calloc(1, sizeof *w);
    if (!w) return dc_fail_memory(e, path, sizeof *w);
    w->path     = dc_strdup(path);
    dc_status s = !w->path ? dc_fail_memory(e, path, strlen(path)) : ends_with(path, ".index.json") ? open_index(w, e) : open_single(w, e);
    if (s) dc_weights_close(w);
    else *out = w;
    return s;
}

void dc_weights_close(dc_weights *w)
{
    if (!w) return;
    if (w->n_parts != 1 || w->tensor != w->part->tensor) free(w->tensor);
    for (int i = 0; i < w->n_parts; i++) dc_container_close(&w->part[i]);
    free(w->part);
    free(w->path);
    free(w);
}

/* How much a file name of the folder is wanted for `stem`: 5 STEM.safetensors, 4 STEM.fp16.safetensors, 3 another variant, 2 the index, 1 a
 * variant's index; 0: not at all. */
static int preference(const char *name, const char *stem)
{
    size_t n = strlen(stem);
    if (strncmp(name, stem, n) || name[n] != '.') return 0;
    const char *rest = name + n;
    if (!strcmp(rest, ".safetensors")) return 5;
    if (ends_with(rest, ".safetensors.index.json") || ends_with(rest, ".index.json")) return !strcmp(rest, ".safetensors.index.json") ? 2 : ends_with(rest, ".bin.index.json") ? 0 : 1;
    if (!ends_with(rest, ".safetensors")) return 0;
    if (!strcmp(rest, ".fp16.safetensors")) return 4;
    return strstr(rest, "-of-") ? 0 : 3; /* shards are reached through their index */
}

/* Is it something of torch's that we do not read here? */
static bool is_torch(const char *name) { return ends_with(name, ".bin") || ends_with(name, ".pt") || ends_with(name, ".ckpt") || ends_with(name, ".pth"); }

dc_status dc_weights_open_folder(dc_weights **out, const char *folder, const char *stem, dc_error *e)
{
    char  best[256] = "", torch[256] = "";
    int   most = 0;
    *out       = NULL;
    DIR *d     = opendir(folder);
    if (!d) return dc_fail(e, DC_NO_INPUT, "%s: cannot be read, expected a folder with %s.safetensors", folder, stem);
    for (struct dirent *x; (x = readdir(d));) {
        int p = strlen(x->d_name) < sizeof best ? preference(x->d_name, stem) : 0;
        if (p > most || (p && p == most && strcmp(x->d_name, best) < 0)) {
            most = p;
            strcpy(best, x->d_name);
        }
        if (is_torch(x->d_name) && strlen(x->d_name) < sizeof torch) strcpy(torch, x->d_name);
    }
    closedir(d);
    if (!most) {
        dc_status s = dc_fail(e, DC_NO_INPUT, "%s: weights: found %s, expected %s.safetensors, a variant of it (.fp16.) or %s.safetensors.index.json", folder,
                              *torch ? torch : "none", stem, stem);
        if (*torch) dc_hint(e, "Torch's .bin files are not read here; get the safetensors version of the model.");
        return s;
    }
    char     *path = dc_path_join(folder, best);
    dc_status s    = path ? dc_weights_open(out, path, e) : dc_fail_memory(e, folder, strlen(folder));
    free(path);
    return s;
}

/* ---- asking ---------------------------------------------------------------------------------------------------------- */

int              dc_weights_count(const dc_weights *w) { return w->n_tensors; }
const dc_stored *dc_weights_at(const dc_weights *w, int i) { return &w->tensor[i]; }
const char      *dc_weights_path(const dc_weights *w) { return w->path; }

const dc_stored *dc_weights_find(const dc_weights *w, const char *name)
{
    dc_stored key = {.name = name};
    return w->n_tensors ? bsearch(&key, w->tensor, (size_t)w->n_tensors, sizeof key, by_name) : NULL;
}

int dc_weights_metadata_count(const dc_weights *w) { return w->n_parts ? w->part[0].n_metadata : 0; }

void dc_weights_metadata_at(const dc_weights *w, int i, const char **key, const char **value)
{
    *key   = w->part[0].metadata[i].key;
    *value = w->part[0].metadata[i].value;
}

const char *dc_weights_metadata(const dc_weights *w, const char *key)
{
    for (int i = 0; i < dc_weights_metadata_count(w); i++)
        if (!strcmp(w->part[0].metadata[i].key, key)) return w->part[0].metadata[i].value;
    return NULL;
}
