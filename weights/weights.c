/* weights.c - tensors of one file, of shards, or of a component folder, found by name. */
#include "weights/weights.h"
#include "base/checked.h"
#include "base/text.h"
#include "weights/pull.h"
#include "weights/reader.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_SHARDS 1024
#define MAX_INDEX  (64u << 20)

struct dc_weights {
    char *path;
    dc_container *part;
    int n_parts;
    const dc_stored *tensor; /* of all parts, in name order: `joined`, or the one part's own */
    int n_tensors;
    dc_stored *joined;
    const dc_weights *of; /* a view: these hold the files */
    dc_weights *adopted;  /* the same, when the view owns it */
    char *names;          /* of a view */
    int64_t *dims;        /* of a view */
};

/* ---- one file ------------------------------------------------------------------------------------------------------ */

static bool is_gguf(const uint8_t *head, size_t n) { return n >= 4 && !memcmp(head, "GGUF", 4); }
static bool is_any(const uint8_t *head, size_t n) { return head && n <= DC_HEAD_BYTES; }

/* Formats by the bytes that their files begin with, one reader each, whose refusal is final; what is none of the others is read as
 * safetensors, which has no mark. */
static const struct {
    bool (*is)(const uint8_t *head, size_t n);
    dc_status (*open)(dc_container *k, const char *path, dc_error *e);
} formats[] = {
    {is_gguf, dc_gguf_open},
    {dc_torch_is, dc_torch_open},
    {is_any, dc_safetensors_open},
};

static dc_status open_container(dc_container *k, const char *path, dc_error *e)
{
    uint8_t head[DC_HEAD_BYTES] = {0};
    int i = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* what cannot be read, a folder for one, the last reader tells */
    ssize_t got = fd < 0 ? 0 : pread(fd, head, sizeof head, 0);
    if (fd >= 0) close(fd);
    while (!formats[i].is(head, got > 0 ? (size_t)got : 0)) i++;
    return formats[i].open(k, path, e);
}

/* ---- shards ----------------------------------------------------------------------------------------------------- */

/* One line of a weight_map. */
typedef struct place {
    const char *name, *file;
} place;

/* An index file: its text, and the weight_map ordered by file, then by name. */
typedef struct index_file {
    char *text;
    place *place;
    int n, room;
} index_file;

static int by_file(const void *a, const void *b)
{
    const place *x = a, *y = b;
    int d = strcmp(x->file, y->file);
    return d ? d : strcmp(x->name, y->name);
}

static dc_status take_map(index_file *x, dc_pull *p)
{
    if (x->place) return dc_pull_bad(p, "weight_map", "it once");
    if (!dc_grow((void **)&x->place, &x->room, 0, sizeof *x->place)) return dc_fail_memory(p->e, p->path, sizeof *x->place);
    if (!dc_pull_take(p, '{')) return dc_pull_bad(p, "weight_map", "an object");
    if (dc_pull_take(p, '}')) return DC_OK;
    do {
        place at;
        dc_status s = dc_pull_key(p, &at.name, "tensor name");
        if (!s) s = dc_pull_string(p, &at.file, "file name");
        if (s) return s;
        if (x->n == DC_MAX_TENSORS) return dc_pull_bad(p, "weight_map: more than 262144 tensors", "fewer");
        if (!dc_grow((void **)&x->place, &x->room, x->n, sizeof at)) return dc_fail_memory(p->e, p->path, (unsigned long long)x->room * sizeof at);
        x->place[x->n++] = at;
    } while (dc_pull_take(p, ','));
    return dc_pull_take(p, '}') ? DC_OK : dc_pull_bad(p, "weight_map", "',' or '}'");
}

/* {"metadata": {..}, "weight_map": {TENSOR: FILE, ..}}; all but the weight_map is ignored. */
static dc_status read_index(index_file *x, const char *path, dc_error *e)
{
    size_t n = 0;
    dc_pull p;
    dc_status s = dc_read_file(path, MAX_INDEX, &x->text, &n, e);
    if (!s) s = dc_pull_begin(&p, path, "index", 0, x->text, n, e);
    if (s) return s;
    if (!dc_pull_take(&p, '{')) return dc_pull_bad(&p, "beginning", "'{'");
    if (!dc_pull_take(&p, '}')) {
        do {
            const char *key;
            s = dc_pull_key(&p, &key, "key");
            if (!s) s = strcmp(key, "weight_map") ? dc_pull_skip(&p) : take_map(x, &p);
            if (s) return s;
        } while (dc_pull_take(&p, ','));
        if (!dc_pull_take(&p, '}')) return dc_pull_bad(&p, "list of keys", "',' or '}'");
    }
    s = dc_pull_end(&p);
    if (!s && !x->place) s = dc_fail(e, DC_DATA, "%s: weight_map: found none, expected tensor names and their files", path);
    if (x->place && x->n > 1) qsort(x->place, (size_t)x->n, sizeof *x->place, by_file);
    return s;
}

/* The tensors of a shard are exactly those that the index places there (both in name order). */
static dc_status check_shard(const dc_weights *w, const dc_container *k, const place *at, int n, dc_error *e)
{
    for (int i = 0; i < n || i < k->n_tensors; i++) {
        int d = i == n ? 1 : i == k->n_tensors ? -1 : strcmp(at[i].name, k->tensor[i].name);
        if (i && i < n && !strcmp(at[i - 1].name, at[i].name))
            return dc_fail(e, DC_DATA, "%s: weight_map: found tensor %.200s twice, expected once", w->path, at[i].name);
        if (d < 0) return dc_fail(e, DC_DATA, "%s: weight_map: tensor %.200s: found no such tensor in %s", w->path, at[i].name, at->file);
        if (d > 0) return dc_fail(e, DC_DATA, "%s: weight_map: found nothing of tensor %.200s, which is in %s", w->path, k->tensor[i].name, at->file);
    }
    return DC_OK;
}

static dc_status open_shard(dc_weights *w, const char *folder, const place *at, int n, uint64_t *header_bytes, dc_error *e)
{
    dc_container *k = &w->part[w->n_parts];
    if (!dc_is_safe_relative(at->file))
        return dc_fail(e, DC_DENIED, "%s: weight_map: found the file name %s, expected one inside the folder", w->path, at->file);
    char *path = dc_path_join(folder, at->file);
    dc_status s = path ? open_container(k, path, e) : dc_fail_memory(e, at->file, strlen(at->file));
    free(path);
    if (s == DC_NO_INPUT) dc_hint(e, "The index %s names this file: a part of the model is missing.", w->path);
    if (s) return s;
    w->n_parts++;
    w->n_tensors += k->n_tensors;
    *header_bytes += k->header_bytes;
    if (*header_bytes > DC_MAX_HEADER)
        return dc_fail(e, DC_DATA, "%s: header lengths: found %llu bytes in all its files, expected at most %u", w->path,
                       (unsigned long long)*header_bytes, DC_MAX_HEADER);
    return check_shard(w, k, at, n, e);
}

/* Opens every file of the index once, in name order. */
static dc_status open_shards(dc_weights *w, const index_file *x, dc_error *e)
{
    int n_files = 0;
    uint64_t header_bytes = 0;
    for (int i = 0; i < x->n; i++) n_files += !i || strcmp(x->place[i - 1].file, x->place[i].file) != 0;
    if (n_files > MAX_SHARDS) return dc_fail(e, DC_DATA, "%s: weight_map: found %d files, expected at most %d", w->path, n_files, MAX_SHARDS);
    char *folder = dc_path_folder(w->path);
    dc_status s = DC_OK;
    w->part = dc_calloc((size_t)n_files, sizeof *w->part);
    if (!folder || !w->part) {
        free(folder);
        return dc_fail_memory(e, w->path, (unsigned long long)n_files * sizeof *w->part);
    }
    for (int from = 0, to; !s && from < x->n; from = to) {
        for (to = from + 1; to < x->n && !strcmp(x->place[from].file, x->place[to].file);) to++;
        s = open_shard(w, folder, &x->place[from], to - from, &header_bytes, e);
    }
    free(folder);
    return s;
}

/* Orders `joined`; names are unique. */
static dc_status order_by_name(dc_weights *w, dc_error *e)
{
    if (w->n_tensors > 1) qsort(w->joined, (size_t)w->n_tensors, sizeof *w->joined, dc_stored_by_name);
    for (int i = 1; i < w->n_tensors; i++)
        if (!dc_stored_by_name(&w->joined[i - 1], &w->joined[i]))
            return dc_fail(e, DC_DATA, "%s: tensor %.200s: found in %s and in %s, expected once", w->path, w->joined[i].name, w->joined[i - 1].file,
                           w->joined[i].file);
    return DC_OK;
}

/* All tensors in one list, in name order. */
static dc_status join_shards(dc_weights *w, dc_error *e)
{
    int at = 0;
    w->joined = dc_calloc((size_t)w->n_tensors, sizeof *w->joined);
    if (!w->joined) return dc_fail_memory(e, w->path, (unsigned long long)w->n_tensors * sizeof *w->joined);
    for (int i = 0; i < w->n_parts; at += w->part[i++].n_tensors)
        if (w->part[i].n_tensors) memcpy(w->joined + at, w->part[i].tensor, (size_t)w->part[i].n_tensors * sizeof *w->joined);
    w->tensor = w->joined;
    return order_by_name(w, e);
}

static dc_status open_index(dc_weights *w, dc_error *e)
{
    index_file x = {0};
    dc_status s = read_index(&x, w->path, e);
    if (!s) s = open_shards(w, &x, e);
    if (!s) s = join_shards(w, e);
    free(x.place);
    free(x.text);
    return s;
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static dc_status open_single(dc_weights *w, dc_error *e)
{
    w->part = dc_calloc(1, sizeof *w->part);
    if (!w->part) return dc_fail_memory(e, w->path, sizeof *w->part);
    dc_status s = open_container(w->part, w->path, e);
    if (s) return s;
    w->n_parts = 1;
    w->tensor = w->part->tensor;
    w->n_tensors = w->part->n_tensors;
    return DC_OK;
}

dc_status dc_weights_open(dc_weights **out, const char *path, dc_error *e)
{
    *out = NULL;
    dc_weights *w = dc_calloc(1, sizeof *w);
    if (!w) return dc_fail_memory(e, path, sizeof *w);
    w->path = dc_strdup(path);
    dc_status s = !w->path ? dc_fail_memory(e, path, strlen(path)) : dc_ends_with(path, ".json") ? open_index(w, e) : open_single(w, e);
    if (!s) s = dc_take_scales(w->joined ? w->joined : w->part->tensor, w->n_tensors, e);
    if (!s) s = dc_weights_check(w, e);
    if (s) dc_weights_close(w);
    else *out = w;
    return s;
}

void dc_weights_close(dc_weights *w)
{
    if (!w) return;
    for (int i = 0; i < w->n_parts; i++) dc_container_close(&w->part[i]);
    free(w->part);
    dc_weights_close(w->adopted);
    free(w->joined);
    free(w->names);
    free(w->dims);
    free(w->path);
    free(w);
}

dc_status dc_weights_view(dc_weights **out, const dc_weights *of, dc_stored *tensor, int n, char *names, int64_t *dims, dc_error *e)
{
    dc_weights *w = dc_calloc(1, sizeof *w);
    *out = NULL;
    if (!w) {
        free(tensor);
        free(names);
        free(dims);
        return dc_fail_memory(e, of->path, sizeof *w);
    }
    *w = (dc_weights){.of = of, .path = dc_strdup(of->path), .tensor = tensor, .n_tensors = n, .joined = tensor, .names = names, .dims = dims};
    dc_status s = w->path ? order_by_name(w, e) : dc_fail_memory(e, of->path, strlen(of->path));
    if (s) dc_weights_close(w);
    else *out = w;
    return s;
}

void dc_weights_adopt(dc_weights *view, dc_weights *w) { view->adopted = w; }

/* ---- component folders --------------------------------------------------------------------------------------------- */

/* How a file of the folder is wanted, the best first; all of torch's are behind all of safetensors. */
typedef enum rank {
    PLAIN,
    FP16,
    VARIANT,
    INDEX,
    INDEX_FP16,
    INDEX_VARIANT,
    TORCH, /* the same six again */
    SHARD = 2 * TORCH,
    FOREIGN,
    UNWANTED,
    RANKS
} rank;

/* STEM.TYPE, STEM.VARIANT.TYPE, STEM.TYPE.index.json, and an index's variant in both spellings: STEM.TYPE.index.VARIANT.json (diffusers,
 * transformers) and STEM.VARIANT.TYPE.index.json. */
static rank rank_of_type(const char *name, const char *stem, const char *type)
{
    char index[32], fp16[32];
    size_t n = strlen(stem);
    if (strncmp(name, stem, n) != 0) return UNWANTED;
    const char *rest = name + n;
    snprintf(index, sizeof index, "%s.index.", type);
    snprintf(fp16, sizeof fp16, ".fp16%s", type);
    if (dc_ends_with(rest, ".json") && strstr(rest, index) && *rest == '.') {
        const char *variant = strstr(rest, index) + strlen(index);
        if (!strncmp(rest, index, strlen(index)) && !strcmp(variant, "json")) return INDEX;
        bool of_plain = !strncmp(rest, index, strlen(index)) && !strcmp(variant, "fp16.json");
        return of_plain || (!strncmp(rest, fp16, strlen(fp16)) && !strcmp(variant, "json")) ? INDEX_FP16 : INDEX_VARIANT;
    }
    if (!dc_ends_with(rest, type)) return UNWANTED;
    if (strstr(rest, "-of-")) return SHARD;
    return !strcmp(rest, type) ? PLAIN : !strcmp(rest, fp16) ? FP16 : *rest == '.' ? VARIANT : UNWANTED;
}

/* torch's files are named as the safetensors, but pytorch_model where those are named model. */
static rank rank_of(const char *name, const char *stem)
{
    static const char *const foreign[] = {".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".onnx", ".h5", ".gguf", ".bin.index.json"};
    rank r = rank_of_type(name, stem, ".safetensors");
    if (r != UNWANTED) return r;
    r = rank_of_type(name, strcmp(stem, "model") ? stem : "pytorch_model", ".bin");
    if (r != UNWANTED) return r < TORCH ? TORCH + r : r;
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (dc_ends_with(name, foreign[i])) return FOREIGN;
    return UNWANTED;
}

/* The first name (in order) of each rank, and how many there are. */
typedef struct listing {
    char name[RANKS][256], second[RANKS][256];
    int count[RANKS];
} listing;

static void note_name(listing *l, const char *name, const char *stem)
{
    rank r = rank_of(name, stem);
    if (strlen(name) >= sizeof l->name[r]) return; /* longer than any file system's names */
    bool first = !l->count[r]++ || strcmp(name, l->name[r]) < 0;
    if (first) strcpy(l->second[r], l->name[r]);
    if (first) strcpy(l->name[r], name);
    else if (!*l->second[r] || strcmp(name, l->second[r]) < 0) strcpy(l->second[r], name);
}

static dc_status no_weights(const listing *l, const char *folder, const char *stem, dc_error *e)
{
    const char *found = l->count[SHARD] ? l->name[SHARD] : l->count[FOREIGN] ? l->name[FOREIGN] : "none";
    dc_status s = dc_fail(e, DC_NO_INPUT, "%s: weights: found %s, expected %s.safetensors, a variant of it (.fp16.) or %s.safetensors.index.json",
                          folder, found, stem, stem);
    if (l->count[SHARD]) dc_hint(e, "It is one of several shards; the index that lists them is missing.");
    else if (l->count[FOREIGN]) dc_hint(e, "Read are safetensors and torch's .bin of those names: get such a version of the model, or convert it.");
    return s;
}

dc_status dc_weights_open_folder(dc_weights **out, const char *folder, const char *stem, dc_error *e)
{
    *out = NULL;
    DIR *d = opendir(folder);
    if (!d && errno == ENOMEM) return dc_fail_memory(e, folder, 0);
    if (!d) return dc_fail(e, DC_NO_INPUT, "%s: cannot be read: %s", folder, strerror(errno));
    listing *l = dc_calloc(1, sizeof *l);
    for (struct dirent *x; l && (x = readdir(d));) note_name(l, x->d_name, stem);
    closedir(d);
    if (!l) return dc_fail_memory(e, folder, sizeof *l);
    int best = PLAIN;
    while (best < SHARD && !l->count[best]) best++;
    dc_status s;
    if (best == SHARD) {
        s = no_weights(l, folder, stem, e);
    } else if (l->count[best] > 1) {
        s = dc_fail(e, DC_DATA, "%s: weights: found %d variants, among them %s and %s, expected one, or %s.safetensors", folder, l->count[best],
                    l->name[best], l->second[best], stem);
    } else {
        char *path = dc_path_join(folder, l->name[best]);
        s = path ? dc_weights_open(out, path, e) : dc_fail_memory(e, folder, strlen(folder));
        free(path);
    }
    free(l);
    return s;
}

/* ---- asking ---------------------------------------------------------------------------------------------------------- */

static const dc_weights *files_of(const dc_weights *w) { return w->of ? w->of : w; }

void dc_weights_forget(const dc_weights *w)
{
    w = files_of(w);
    for (int i = 0; i < w->n_parts; i++) dc_map_forget(w->part[i].map.data, w->part[i].map.size);
}

dc_status dc_weights_check(const dc_weights *w, dc_error *e)
{
    dc_status s = DC_OK;
    w = files_of(w);
    for (int i = 0; !s && i < w->n_parts; i++) s = dc_map_check(&w->part[i].map, e);
    return s;
}

int dc_weights_count(const dc_weights *w) { return w->n_tensors; }
const dc_stored *dc_weights_at(const dc_weights *w, int i) { return &w->tensor[i]; }
const char *dc_weights_path(const dc_weights *w) { return w->path; }
const char *dc_weights_format(const dc_weights *w) { return files_of(w)->n_parts ? files_of(w)->part[0].format : "safetensors"; }

int dc_weights_file_count(const dc_weights *w) { return files_of(w)->n_parts; }
const char *dc_weights_file_at(const dc_weights *w, int i) { return files_of(w)->part[i].map.path; }

const dc_stored *dc_weights_find(const dc_weights *w, const char *name)
{
    dc_stored key = {.name = name};
    return w->n_tensors ? bsearch(&key, w->tensor, (size_t)w->n_tensors, sizeof key, dc_stored_by_name) : NULL;
}

int dc_weights_metadata_count(const dc_weights *w) { return files_of(w)->n_parts ? files_of(w)->part[0].n_metadata : 0; }

void dc_weights_metadata_at(const dc_weights *w, int i, const char **key, const char **value)
{
    const dc_pair *pair = &files_of(w)->part[0].metadata[i];
    *key = pair->key;
    *value = pair->value;
}

const char *dc_weights_metadata(const dc_weights *w, const char *key)
{
    for (int i = 0; i < dc_weights_metadata_count(w); i++)
        if (!strcmp(files_of(w)->part[0].metadata[i].key, key)) return files_of(w)->part[0].metadata[i].value;
    return NULL;
}
