/* torch.c - checkpoints of torch.save (.ckpt, .pt, .pth, .bin). Ref: torch/serialization.py (_save, _legacy_save), torch/_utils.py.
 *
 * Today's format is a zip: NAME/data.pkl is the pickle, NAME/data/KEY are the storages, NAME/byteorder says "little". That before 1.6 is
 * five pickles (a magic number, a version, the machine, the object, the storages' keys), then the storages, each behind its length.
 * Of the object, one dictionary of tensors is taken, see choose(); of a TorchScript, which is such a zip with code/ beside it, all of them, under
 * the names of its modules ("visual.proj"). Its code is not looked at. Its tensors are used in the file where they lie in row-major order
 * there, and else copied into it.
 *
 * The CRC of the pickle is verified, those of the storages are not: that would read gigabytes where only the pages in use are wanted. */
#include "base/checked.h"
#include "base/text.h"
#include "weights/pickle.h"
#include "weights/reader.h"
#include "weights/zip.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 128, TAR_MARK = 257 };

/* A storage of the old format. */
typedef struct place {
    const char *key; /* of the pickle, key_bytes of them */
    size_t key_bytes;
    uint64_t at, bytes, size; /* size: of an element; at 0: not in the list of keys */
} place;

typedef struct reading {
    dc_container *k;
    dc_zip zip;       /* no map: the old format */
    const char *name; /* of the pickle's entry; its first `prefix` bytes are NAME/ */
    int prefix;
    dc_pickle p;
    place *place; /* in the order of keys */
    int n_places;
    uint32_t turn; /* of walks through dictionaries */
    const char *path;
    dc_error *e;
} reading;

/* ---- one tensor ------------------------------------------------------------------------------------------------------ */

/* A tensor as the pickle describes it, its numbers checked. */
typedef struct layout {
    const char *name;
    size_t name_bytes;
    dc_dtype dtype;
    int rank;
    uint64_t dim[DC_MAX_RANK], stride[DC_MAX_RANK]; /* in elements */
    const uint8_t *data;                            /* the first element */
    uint64_t bytes;                                 /* of all elements, once each */
    bool dense;                                     /* row-major without gaps */
} layout;

static dc_status bad_tensor(reading *r, const layout *t, const char *format, ...) __attribute__((format(printf, 3, 4)));
static dc_status bad_tensor(reading *r, const layout *t, const char *format, ...)
{
    char what[400], name[204]; /* longer ones are cut anyway */
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    snprintf(name, sizeof name, "%.*s", (int)(t->name_bytes < sizeof name ? t->name_bytes : sizeof name), t->name);
    return dc_bad_tensor(r->e, r->path, name, "%s", what);
}

static dc_status unexpected(reading *r, const layout *t, const char *what, dc_value found, const char *expected)
{
    char text[160];
    return bad_tensor(r, t, "%s: found %s, expected %s", what, dc_pickle_describe(&r->p, found, text, sizeof text), expected);
}

/* A key as text: a tensor's name, or of a TorchScript the last part of it. */
static dc_status take_name(reading *r, dc_value key, layout *t)
{
    size_t *n = &t->name_bytes;
    if (!dc_pickle_text(&r->p, key, &t->name, n))
        return dc_fail(r->e, DC_DATA, "%s: tensor names: found one with escapes, expected plain text", r->path);
    if (*n > DC_MAX_NAME) return bad_tensor(r, t, "name: found %zu bytes, expected at most %d", *n, DC_MAX_NAME);
    if (memchr(t->name, 0, *n) || !dc_utf8_valid(t->name, *n))
        return bad_tensor(r, t, "name: found bytes that are no text, expected UTF-8 without NUL");
    return DC_OK;
}

/* A whole number of a tensor's arguments, 0 .. 2^63-1. */
static dc_status take_number(reading *r, const layout *t, const char *what, dc_value v, uint64_t *out)
{
    int64_t x;
    if (!dc_pickle_int(&r->p, v, &x)) return unexpected(r, t, what, v, "a whole number below 2^63");
    if (x < 0) return bad_tensor(r, t, "%s: found %lld, expected no negative number", what, (long long)x);
    *out = (uint64_t)x;
    return DC_OK;
}

static int by_key(const void *a, const void *b)
{
    const place *x = a, *y = b;
    int d = memcmp(x->key, y->key, x->key_bytes < y->key_bytes ? x->key_bytes : y->key_bytes);
    return d ? d : (x->key_bytes > y->key_bytes) - (x->key_bytes < y->key_bytes);
}

/* Where the storage of this key lies. */
static dc_status find_storage(reading *r, const layout *t, const char *key, size_t n, uint64_t *at, uint64_t *bytes)
{
    char name[DC_ZIP_MAX_NAME + 1];
    if (!r->zip.map) {
        const place *x = r->n_places ? bsearch(&(place){.key = key, .key_bytes = n}, r->place, (size_t)r->n_places, sizeof *x, by_key) : NULL;
        if (!x || !x->at) return bad_tensor(r, t, "storage %.*s: found none in the file", (int)(n < 40 ? n : 40), key);
        *at = x->at, *bytes = x->bytes;
        return DC_OK;
    }
    bool fits = n < sizeof name && !memchr(key, 0, n);
    if (fits) fits = snprintf(name, sizeof name, "%.*sdata/%.*s", r->prefix, r->name, (int)n, key) < (int)sizeof name;
    const dc_zip_entry *x = fits ? dc_zip_find(&r->zip, name) : NULL;
    if (!x)
        return bad_tensor(r, t, "storage %.*s: found none in the archive, expected the entry data/%.*s", (int)(n < 40 ? n : 40), key,
                          (int)(n < 40 ? n : 40), key);
    if (x->deflated) return bad_tensor(r, t, "zip entry %.100s: found it deflated, expected it stored as torch does", x->name);
    *at = x->at, *bytes = x->bytes;
    return DC_OK;
}

/* The storage ("storage", class, key, place, elements[, view]): its first byte in the file, its elements, their type. */
static dc_status take_storage(reading *r, layout *t, dc_value v, uint64_t *at, uint64_t *elements, dc_dtype *dtype)
{
    dc_pickle *p = &r->p;
    if (dc_pickle_kind_of(v) != DC_PICKLE_STORAGE) return unexpected(r, t, "storage", v, "one of torch's");
    const dc_global *class = dc_pickle_global(dc_pickle_item(p, v, 1));
    if (!class || class->role != DC_GLOBAL_STORAGE) return unexpected(r, t, "class of its storage", dc_pickle_item(p, v, 1), "one of torch's");
    const char *key;
    size_t n;
    uint64_t bytes = 0, need, offset, size = class->dtype < DC_DTYPES ? dc_dtype_size(class->dtype) : 1;
    *dtype = class->dtype;
    if (!dc_pickle_text(p, dc_pickle_item(p, v, 2), &key, &n)) return unexpected(r, t, "key of its storage", dc_pickle_item(p, v, 2), "a text");
    dc_status s = take_number(r, t, "size of its storage", dc_pickle_item(p, v, 4), elements);
    if (!s) s = find_storage(r, t, key, n, at, &bytes);
    if (s) return s;
    if (!dc_mul_u64(*elements, size, &need) || need > bytes)
        return bad_tensor(r, t, "storage %.*s: found %llu bytes, expected %llu elements of %llu bytes", (int)(n < 40 ? n : 40), key,
                          (unsigned long long)bytes, (unsigned long long)*elements, (unsigned long long)size);
    if (dc_pickle_count(p, v) < 6 || dc_pickle_kind_of(dc_pickle_item(p, v, 5)) == DC_PICKLE_NONE) return DC_OK;
    dc_value view = dc_pickle_item(p, v, 5); /* (key, offset, elements): a part of it, before torch 0.4 */
    if (dc_pickle_kind_of(view) != DC_PICKLE_TUPLE || dc_pickle_count(p, view) != 3)
        return unexpected(r, t, "view of its storage", view, "None or three numbers");
    need = *elements;
    s = take_number(r, t, "view of its storage", dc_pickle_item(p, view, 1), &offset);
    if (!s) s = take_number(r, t, "view of its storage", dc_pickle_item(p, view, 2), elements);
    if (!s && !dc_in_range(offset, *elements, need))
        s = bad_tensor(r, t, "view of its storage: found it to reach beyond %llu elements", (unsigned long long)need);
    if (!s) *at += offset * size;
    return s;
}

/* Shape and strides; *last: the farthest element that they reach, from the first one. */
static dc_status take_shape(reading *r, layout *t, dc_value size, dc_value stride, uint64_t *count, uint64_t *last)
{
    dc_pickle *p = &r->p;
    uint32_t n = dc_pickle_count(p, size);
    if (dc_pickle_kind_of(size) != DC_PICKLE_TUPLE) return unexpected(r, t, "shape", size, "a tuple");
    if (dc_pickle_kind_of(stride) != DC_PICKLE_TUPLE || dc_pickle_count(p, stride) != n)
        return unexpected(r, t, "strides", stride, "a tuple as long as its shape");
    if (n > DC_MAX_RANK) return bad_tensor(r, t, "shape: found %u dimensions, expected at most %d", n, DC_MAX_RANK);
    t->rank = (int)n;
    *count = 1, *last = 0;
    bool fits = true;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t reach;
        dc_status s = take_number(r, t, "shape", dc_pickle_item(p, size, i), &t->dim[i]);
        if (!s) s = take_number(r, t, "strides", dc_pickle_item(p, stride, i), &t->stride[i]);
        if (s) return s;
        fits = fits && dc_mul_u64(*count, t->dim[i], count);
        fits = fits && (!t->dim[i] || (dc_mul_u64(t->dim[i] - 1, t->stride[i], &reach) && dc_add_u64(*last, reach, last)));
    }
    if (!fits || !dc_mul_u64(*count, dc_dtype_size(t->dtype), &t->bytes))
        return bad_tensor(r, t, "shape: found more than 2^64 bytes or strides that reach farther, expected fewer");
    uint64_t step = 1;
    t->dense = true;
    for (int i = t->rank; *count && i-- > 0; step *= t->dim[i]) t->dense = t->dense && (t->dim[i] == 1 || t->stride[i] == step);
    return DC_OK;
}

/* Goes through the tensors of a dictionary, and (deep) through those of the dictionaries in it, each once. */
typedef struct walk {
    bool deep;
    int depth; /* < 0: over */
    struct {
        dc_value dict;
        dc_pickle_cursor at;
        size_t prefix; /* of the name: "visual.ln_pre." */
    } level[MAX_DEPTH];
    char name[DC_MAX_NAME + 1];
    size_t name_bytes;
    dc_value value;
} walk;

/* The arguments of _rebuild_tensor and its successors: (storage, offset, size, stride, requires_grad, hooks, [v3: dtype,] metadata). */
static dc_status take_tensor(reading *r, const walk *w, layout *t)
{
    dc_pickle *p = &r->p;
    const dc_value v = w->value;
    const dc_global *f = dc_pickle_global(dc_pickle_item(p, v, 0));
    dc_value args = dc_pickle_item(p, v, 1);
    uint32_t n = dc_pickle_count(p, args), typed = f->role == DC_GLOBAL_TYPED_TENSOR;
    uint64_t at = 0, have = 0, offset = 0, count = 0, last = 0, size;
    dc_dtype stored = DC_F32;
    *t = (layout){.name = w->name, .name_bytes = w->name_bytes};
    dc_status s;
    if (dc_pickle_kind_of(args) != DC_PICKLE_TUPLE || n < (typed ? 7 : 4))
        return bad_tensor(r, t, "found %u arguments of %s, expected more", n, f->name);
    s = take_storage(r, t, dc_pickle_item(p, args, 0), &at, &have, &stored);
    if (s) return s;
    const dc_global *type = typed ? dc_pickle_global(dc_pickle_item(p, args, 6)) : NULL;
    if (typed && (!type || type->role != DC_GLOBAL_DTYPE)) return unexpected(r, t, "dtype", dc_pickle_item(p, args, 6), "one of torch's");
    t->dtype = typed ? type->dtype : stored;
    if (t->dtype == DC_DTYPES)
        return unexpected(r, t, "dtype", dc_pickle_item(p, typed ? args : dc_pickle_item(p, args, 0), typed ? 6 : 1),
                          "float64, float32, float16, bfloat16, float8_e4m3fn, float8_e5m2, int64, int32, int16, int8, uint8 or bool");
    if (n > 6 + typed) { /* of torch's own tensors, only that they are conjugated or negated */
        dc_value metadata = dc_pickle_item(p, args, 6 + typed), k, x;
        if (dc_pickle_each(p, metadata, &(dc_pickle_cursor){0}, &k, &x))
            return unexpected(r, t, "metadata", metadata, "none: such as a negated view is not read");
    }
    s = take_number(r, t, "offset", dc_pickle_item(p, args, 1), &offset);
    if (!s) s = take_shape(r, t, dc_pickle_item(p, args, 2), dc_pickle_item(p, args, 3), &count, &last);
    if (s) return s;
    size = dc_dtype_size(t->dtype);
    have = have * (stored < DC_DTYPES ? dc_dtype_size(stored) : 1) / size; /* take_storage has checked the product */
    bool inside = !count || (dc_add_u64(last, offset, &last) && last < have);
    if (!inside)
        return bad_tensor(r, t, "offset, shape and strides: found them to reach beyond its storage of %llu elements", (unsigned long long)have);
    t->data = r->k->map.data + at + (count ? offset * size : 0);
    return DC_OK;
}

/* ---- the dictionary ------------------------------------------------------------------------------------------------------- */

static bool is_tensor_row(const reading *r, dc_value key, dc_value v)
{
    return dc_pickle_kind_of(v) == DC_PICKLE_TENSOR && dc_pickle_kind_of(key) == DC_PICKLE_TEXT && dc_pickle_count(&r->p, v) == 2;
}

static int count_tensors(const reading *r, dc_value dict)
{
    int n = 0;
    dc_pickle_cursor c = {0};
    for (dc_value key, v; dc_pickle_each(&r->p, dict, &c, &key, &v);) n += is_tensor_row(r, key, v);
    return n;
}

static dc_status no_tensors(reading *r, dc_value root)
{
    char found[160];
    dc_pickle_kind kind = dc_pickle_kind_of(root);
    dc_status s = dc_fail(r->e, DC_DATA, "%s: %s: found %s%s, expected a dictionary of tensors", r->path, r->p.part,
                          dc_pickle_describe(&r->p, root, found, sizeof found), kind == DC_PICKLE_DICT ? " without a tensor" : "");
    if (kind == DC_PICKLE_FOREIGN) dc_hint(r->e, "A whole model was saved, or a TorchScript: save the model's state_dict() instead.");
    return s;
}

/* The state dict: "state_dict" of the outermost dictionary, as Lightning and the first Stable Diffusion have it, if there are tensors in it;
 * else of all dictionaries inside each other the one with most tensors, the outermost and first of equals. So "model", "module", "params"
 * and "params_ema" are found, and optimizers, which keep few tensors in each of many dictionaries, are not. */
static dc_status choose(reading *r, dc_value root, dc_value *best, int *most)
{
    struct {
        dc_value dict;
        dc_pickle_cursor at;
    } level[MAX_DEPTH];
    dc_pickle *p = &r->p;
    dc_value key, v;
    *best = root, *most = 0;
    if (dc_pickle_kind_of(root) != DC_PICKLE_DICT) return no_tensors(r, root);
    for (dc_pickle_cursor c = {0}; dc_pickle_each(p, root, &c, &key, &v);)
        if (dc_pickle_is(p, key, "state_dict") && (*most = count_tensors(r, v)) > 0) {
            *best = v;
            return DC_OK;
        }
    *most = count_tensors(r, root);
    level[0].dict = root, level[0].at = (dc_pickle_cursor){0};
    dc_pickle_visit(p, root, ++r->turn);
    for (int depth = 0; depth >= 0;) {
        if (!dc_pickle_each(p, level[depth].dict, &level[depth].at, &key, &v)) {
            depth--;
            continue;
        }
        if (dc_pickle_kind_of(v) != DC_PICKLE_DICT || !dc_pickle_visit(p, v, r->turn)) continue;
        if (++depth == MAX_DEPTH)
            return dc_fail(r->e, DC_DATA, "%s: %s: found dictionaries more than %d deep, expected at most that", r->path, p->part, MAX_DEPTH);
        level[depth].dict = v, level[depth].at = (dc_pickle_cursor){0};
        int n = count_tensors(r, v);
        if (n > *most) *best = v, *most = n;
    }
    return *most ? DC_OK : no_tensors(r, root);
}

static void walk_begin(walk *w, reading *r, dc_value dict)
{
    w->deep = r->p.script, w->depth = 0, w->name_bytes = 0;
    w->level[0].dict = dict, w->level[0].at = (dc_pickle_cursor){0}, w->level[0].prefix = 0;
    dc_pickle_visit(&r->p, dict, ++r->turn);
}

/* The name of `key` below the level's prefix, with `tail` behind it. */
static dc_status spell(walk *w, reading *r, dc_value key, const char *tail)
{
    layout t = {0};
    const size_t prefix = w->level[w->depth].prefix, k = strlen(tail);
    dc_status s = take_name(r, key, &t);
    if (s) return s;
    if (prefix + t.name_bytes + k > DC_MAX_NAME)
        return bad_tensor(r, &t, "name: found more than %d bytes with its modules, expected fewer", DC_MAX_NAME);
    memcpy(w->name + prefix, t.name, t.name_bytes);
    memcpy(w->name + prefix + t.name_bytes, tail, k + 1);
    w->name_bytes = prefix + t.name_bytes + k;
    return DC_OK;
}

/* The next tensor: w->name, w->value. A value of one of torch's functions that we do not know is a tensor of some other kind; anything else is
 * none: a number of steps, a version, ... */
static dc_status walk_next(walk *w, reading *r, bool *more)
{
    dc_value key, v;
    while (w->depth >= 0) {
        if (!dc_pickle_each(&r->p, w->level[w->depth].dict, &w->level[w->depth].at, &key, &v)) {
            w->depth--;
            continue;
        }
        *more = true;
        w->value = v;
        if (is_tensor_row(r, key, v)) return spell(w, r, key, "");
        layout t = {0};
        if (dc_pickle_is_of(&r->p, v, "torch._utils") && dc_pickle_text(&r->p, key, &t.name, &t.name_bytes))
            return unexpected(r, &t, "value", v, "a plain tensor");
        bool inside = w->deep && dc_pickle_kind_of(v) == DC_PICKLE_DICT && dc_pickle_kind_of(key) == DC_PICKLE_TEXT;
        if (!inside || !dc_pickle_visit(&r->p, v, r->turn)) continue;
        if (w->depth + 1 == MAX_DEPTH)
            return dc_fail(r->e, DC_DATA, "%s: %s: found modules more than %d deep, expected at most that", r->path, r->p.part, MAX_DEPTH);
        dc_status s = spell(w, r, key, ".");
        if (s) return s;
        w->depth++;
        w->level[w->depth].dict = v, w->level[w->depth].at = (dc_pickle_cursor){0}, w->level[w->depth].prefix = w->name_bytes;
    }
    *more = false;
    return DC_OK;
}

/* Memory for the tensors of the dictionary, their shapes and names, which the pickle must have paid for. */
static dc_status make_room(walk *w, reading *r, dc_value dict)
{
    dc_container *k = r->k;
    uint64_t dims = 0, names = 0, n = 0;
    bool more;
    for (walk_begin(w, r, dict);; n++) {
        dc_status s = walk_next(w, r, &more);
        if (s) return s;
        if (!more) break;
        if (n == DC_MAX_TENSORS)
            return dc_fail(r->e, DC_DATA, "%s: %s: found more than %d tensors, expected at most that", r->path, r->p.part, DC_MAX_TENSORS);
        dc_value args = dc_pickle_item(&r->p, w->value, 1);
        if (dc_pickle_count(&r->p, args) > 2) dims += dc_pickle_count(&r->p, dc_pickle_item(&r->p, args, 2));
        names += w->name_bytes + 1;
    }
    if (!n) return no_tensors(r, dict);
    k->header_bytes = names + r->p.have + r->zip.directory_bytes;
    dc_status s = dc_pickle_charge(&r->p, n * sizeof *k->tensor + dims * sizeof *k->dims + names);
    if (s) return s;
    k->tensor = dc_calloc((size_t)n, sizeof *k->tensor);
    k->dims = dc_calloc(dims, sizeof *k->dims);
    k->header = malloc(names);
    return k->tensor && k->dims && k->header ? DC_OK : dc_fail_memory(r->e, r->path, n * sizeof *k->tensor + names);
}

/* Fills the container's tensors; those that have to be copied have no data yet, and *copies is their sum. */
static dc_status list_tensors(walk *w, reading *r, dc_value dict, uint64_t *copies)
{
    dc_container *k = r->k;
    int64_t *dim = k->dims;
    char *name = k->header;
    walk_begin(w, r, dict);
    for (bool more;;) {
        layout t;
        dc_status s = walk_next(w, r, &more);
        if (s || !more) return s;
        s = take_tensor(r, w, &t);
        if (s) return s;
        if (!t.dense && (!dc_add_u64(*copies, t.bytes, copies) || *copies > k->map.size))
            return bad_tensor(r, &t, "strides: found tensors that are not in row-major order of more bytes than the file's %llu, expected fewer",
                              (unsigned long long)k->map.size);
        k->tensor[k->n_tensors++] = (dc_stored){
            .name = name, .file = k->map.path, .dtype = t.dtype, .rank = t.rank, .dim = dim, .data = t.dense ? t.data : NULL, .bytes = t.bytes};
        memcpy(name, w->name, w->name_bytes + 1);
        name += w->name_bytes + 1;
        for (int i = 0; i < t.rank; i++) *dim++ = (int64_t)t.dim[i];
    }
}

#define COPY_ROW(bytes)                                                                                                                              \
    for (uint64_t i = 0; i < n; i++, to += (bytes)) memcpy(to, from + i * step, bytes)

/* Its elements, in row-major order. */
static void gather(const layout *t, uint8_t *to)
{
    uint64_t at[DC_MAX_RANK] = {0}, size = dc_dtype_size(t->dtype), n = t->dim[t->rank - 1], step = t->stride[t->rank - 1] * size;
    for (int d = 0; d >= 0;) {
        const uint8_t *from = t->data;
        for (int i = 0; i < t->rank - 1; i++) from += at[i] * t->stride[i] * size;
        if (size == 2) COPY_ROW(2);
        else if (size == 4) COPY_ROW(4);
        else COPY_ROW(size);
        for (d = t->rank - 2; d >= 0 && ++at[d] == t->dim[d]; d--) at[d] = 0;
    }
}

/* The second time through the dictionary, in the same order. */
static dc_status copy_tensors(walk *w, reading *r, dc_value dict, uint64_t bytes)
{
    dc_container *k = r->k;
    bool more;
    dc_status s = dc_map_check(&k->map, r->e);
    if (s || !bytes) return s;
    uint8_t *to = k->copies = malloc(bytes);
    if (!to) return dc_fail_memory(r->e, r->path, bytes);
    walk_begin(w, r, dict);
    for (int i = 0; i < k->n_tensors; i++) {
        layout t;
        s = walk_next(w, r, &more);
        if (!s) s = take_tensor(r, w, &t);
        if (s) return s;
        if (t.dense) continue;
        gather(&t, to);
        k->tensor[i].data = to;
        to += t.bytes;
    }
    return DC_OK;
}

/* In name order. A beginning "module." that all names have, from a model saved inside its DataParallel, is dropped. */
static dc_status order_names(reading *r)
{
    dc_container *k = r->k;
    static const char wrapper[] = "module.";
    size_t n = sizeof wrapper - 1;
    bool wrapped = true;
    for (int i = 0; i < k->n_tensors; i++) wrapped = wrapped && !strncmp(k->tensor[i].name, wrapper, n) && k->tensor[i].name[n];
    for (int i = 0; wrapped && i < k->n_tensors; i++) k->tensor[i].name += n;
    return dc_container_sort(k, "metadata", r->e);
}

static dc_status take_object(reading *r, dc_value root)
{
    dc_value dict = root;
    int n;
    uint64_t copies = 0;
    bool script = r->p.script && dc_pickle_kind_of(root) == DC_PICKLE_DICT;
    walk *w = malloc(sizeof *w);
    if (!w) return dc_fail_memory(r->e, r->path, sizeof *w);
    dc_status s = script ? DC_OK : choose(r, root, &dict, &n);
    if (!s) s = make_room(w, r, dict);
    if (!s) s = list_tensors(w, r, dict, &copies);
    if (!s) s = copy_tensors(w, r, dict, copies);
    if (!s) s = order_names(r);
    free(w);
    return s;
}

/* ---- the zip --------------------------------------------------------------------------------------------------------------- */

/* The only entry data.pkl of any folder. */
static dc_status find_pickle(reading *r, const dc_zip_entry **out)
{
    static const char tail[] = "/data.pkl";
    *out = NULL;
    for (int i = 0; i < r->zip.n; i++) {
        const dc_zip_entry *x = &r->zip.entry[i];
        size_t n = strlen(x->name), k = sizeof tail - 1;
        if (n <= k || strcmp(x->name + n - k, tail) != 0) continue;
        if (*out) return dc_fail(r->e, DC_DATA, "%s: zip: found %.200s and %.200s, expected one data.pkl", r->path, (*out)->name, x->name);
        *out = x;
    }
    if (*out) return DC_OK;
    dc_status s = dc_fail(r->e, DC_DATA, "%s: zip: found no entry NAME/data.pkl, expected that of a torch file", r->path);
    dc_hint(r->e, "It is a zip archive, but not one of torch.save.");
    return s;
}

/* Numbers of the machine that wrote: little-endian where nothing is said, as torch assumes. */
static dc_status check_byte_order(reading *r)
{
    char name[DC_ZIP_MAX_NAME + 1], *text = NULL;
    if (snprintf(name, sizeof name, "%.*sbyteorder", r->prefix, r->name) >= (int)sizeof name) return DC_OK;
    const dc_zip_entry *x = dc_zip_find(&r->zip, name);
    dc_status s = x ? dc_zip_read(&r->zip, x, &text, r->e) : DC_OK;
    if (text && strcmp(text, "little") != 0) s = dc_fail(r->e, DC_DATA, "%s: zip entry %.200s: found %.20s, expected little", r->path, name, text);
    free(text);
    return s;
}

static dc_status read_zip(reading *r)
{
    const dc_zip_entry *x;
    dc_value root;
    char *text = NULL;
    dc_status s = dc_zip_open(&r->zip, &r->k->map, r->e);
    if (!s) s = find_pickle(r, &x);
    if (s) return s;
    r->name = x->name;
    r->prefix = (int)strlen(x->name) - (int)strlen("data.pkl");
    s = check_byte_order(r);
    if (!s) s = dc_zip_read(&r->zip, x, &text, r->e);
    if (!s) s = dc_pickle_begin(&r->p, &r->k->map, "data.pkl", 0, text, x->bytes, r->e);
    if (!s) s = dc_pickle_next(&r->p, &root);
    if (!s) s = take_object(r, root);
    return s;
}

/* ---- the format before 1.6 ---------------------------------------------------------------------------------------------------- */

/* The storages that the object's pickle named, in the order of keys, each once. */
static dc_status list_storages(reading *r)
{
    dc_pickle *p = &r->p;
    dc_pickle_cursor c = {0};
    dc_value key, v;
    int n = 0, kept = 0;
    while (dc_pickle_each(p, p->persistent, &c, &key, &v)) n++;
    dc_status s = dc_pickle_charge(p, (uint64_t)n * sizeof *r->place);
    if (s) return s;
    if (!(r->place = dc_calloc((size_t)n, sizeof *r->place))) return dc_fail_memory(r->e, r->path, (uint64_t)n * sizeof *r->place);
    for (c = (dc_pickle_cursor){0}; dc_pickle_each(p, p->persistent, &c, &key, &v);) {
        const dc_global *class = dc_pickle_global(dc_pickle_item(p, v, 1));
        place *x = &r->place[r->n_places];
        if (!class || class->role != DC_GLOBAL_STORAGE || !dc_pickle_text(p, dc_pickle_item(p, v, 2), &x->key, &x->key_bytes))
            return dc_fail(r->e, DC_DATA, "%s: %s: found a storage of no class or key of torch's", r->path, p->part);
        if (class->dtype == DC_DTYPES)
            return dc_fail(r->e, DC_DATA, "%s: %s: found a %s, expected storages of types that are read", r->path, p->part, class->name);
        x->size = dc_dtype_size(class->dtype);
        r->n_places++;
    }
    if (n > 1) qsort(r->place, (size_t)n, sizeof *r->place, by_key);
    for (int i = 0; i < n; i++) {
        bool again = kept && !by_key(&r->place[kept - 1], &r->place[i]);
        if (again && r->place[kept - 1].size != r->place[i].size)
            return dc_fail(r->e, DC_DATA, "%s: %s: storage %.*s: found elements of %d and of %d bytes, expected one size", r->path, p->part,
                           (int)(r->place[i].key_bytes < 40 ? r->place[i].key_bytes : 40), r->place[i].key, (int)r->place[kept - 1].size,
                           (int)r->place[i].size);
        if (!again) r->place[kept++] = r->place[i];
    }
    r->n_places = kept;
    return DC_OK;
}

/* Behind the pickles: of each key of the list the number of elements in 8 bytes, and the elements. */
static dc_status find_places(reading *r, dc_value keys)
{
    dc_pickle_cursor c = {0};
    dc_value none, v;
    uint64_t at = r->p.origin + r->p.at, size = r->k->map.size;
    if (dc_pickle_kind_of(keys) != DC_PICKLE_LIST)
        return dc_fail(r->e, DC_DATA, "%s: %s: found no list of storages behind the object", r->path, r->p.part);
    while (dc_pickle_each(&r->p, keys, &c, &none, &v)) {
        place key;
        uint8_t count[8] = {0};
        bool text = dc_pickle_text(&r->p, v, &key.key, &key.key_bytes);
        place *x = text && r->n_places ? bsearch(&key, r->place, (size_t)r->n_places, sizeof key, by_key) : NULL;
        if (!x || x->at)
            return dc_fail(r->e, DC_DATA, "%s: %s: list of storages: found one %s, expected those of the object, each once", r->path, r->p.part,
                           x ? "twice" : "that the object does not have");
        dc_status s = dc_in_range(at, 8, size) ? dc_map_read(&r->k->map, at, count, 8, "storage", r->e) : DC_OK;
        if (s) return s;
        uint64_t elements = 0;
        for (int i = 7; i >= 0; i--) elements = elements << 8 | count[i];
        if (!dc_in_range(at, 8, size) || !dc_mul_u64(elements, x->size, &x->bytes) || !dc_in_range(at + 8, x->bytes, size)) {
            s = dc_fail(r->e, DC_DATA,
                        "%s: storage %.*s, byte %llu: found %llu elements of %d bytes, expected them to end inside the file of %llu bytes", r->path,
                        (int)(x->key_bytes < 40 ? x->key_bytes : 40), x->key, (unsigned long long)at, (unsigned long long)elements, (int)x->size,
                        (unsigned long long)size);
            dc_hint(r->e, "The file is cut short, as after an unfinished download, or damaged.");
            return s;
        }
        x->at = at + 8;
        at += 8 + x->bytes;
    }
    if (at == size) return DC_OK;
    return dc_fail(r->e, DC_DATA, "%s: storages: found %llu bytes behind the last, expected the file to end at byte %llu", r->path,
                   (unsigned long long)(size - at), (unsigned long long)at);
}

/* The machine that wrote it. */
static dc_status check_machine(reading *r, dc_value version, dc_value machine)
{
    int64_t x;
    dc_pickle_cursor c = {0};
    dc_value key, v;
    if (!dc_pickle_int(&r->p, version, &x) || x != 1001)
        return dc_fail(r->e, DC_DATA, "%s: %s: found another version of the format, expected 1001", r->path, r->p.part);
    while (dc_pickle_each(&r->p, machine, &c, &key, &v))
        if (dc_pickle_is(&r->p, key, "little_endian") && !dc_pickle_is_true(v))
            return dc_fail(r->e, DC_DATA, "%s: %s: found numbers of a big-endian machine, expected little_endian", r->path, r->p.part);
    return DC_OK;
}

static dc_status read_pickles(reading *r)
{
    static const char magic[] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    dc_value number, version, machine, root, keys;
    dc_status s = dc_pickle_begin(&r->p, &r->k->map, "pickle", 0, NULL, r->k->map.size, r->e);
    if (!s) s = dc_pickle_next(&r->p, &number);
    if (!s && !dc_pickle_is_long(&r->p, number, magic, sizeof magic - 1))
        s = dc_fail(r->e, DC_DATA, "%s: pickle: found one without torch's magic number, expected a file of torch.save", r->path);
    if (s == DC_DATA)
        dc_hint(r->e, "A bare pickle cannot hold a model in a way that is safe to read: save its state dict with torch.save, or as safetensors.");
    if (!s) s = dc_pickle_next(&r->p, &version);
    if (!s) s = dc_pickle_next(&r->p, &machine);
    if (!s) s = check_machine(r, version, machine);
    if (!s) s = dc_pickle_next(&r->p, &root);
    if (!s) s = dc_pickle_next(&r->p, &keys);
    if (!s) s = list_storages(r);
    if (!s) s = find_places(r, keys);
    if (!s) s = take_object(r, root);
    return s;
}

/* ---- the file -------------------------------------------------------------------------------------------------------------------- */

static bool is_tar(const uint8_t *head, size_t n) { return n >= TAR_MARK + 5 && !memcmp(head + TAR_MARK, "ustar", 5); }

/* The length that a safetensors file begins with could be any of our marks: that of a header which can be, and its brace, are no mark. */
bool dc_torch_is(const uint8_t *head, size_t n)
{
    uint64_t length = 0;
    for (int i = 7; n > 8 && i >= 0; i--) length = length << 8 | head[i];
    if (n > 8 && length <= DC_MAX_HEADER && memchr("{ \t\r\n", head[8], 5)) return false;
    return (n >= 4 && !memcmp(head, "PK\3\4", 4)) || (n >= 2 && head[0] == 0x80 && head[1] <= 5) || is_tar(head, n);
}

dc_status dc_torch_open(dc_container *k, const char *path, dc_error *e)
{
    reading r = {.k = k, .path = path, .e = e};
    uint8_t head[TAR_MARK + 5];
    *k = (dc_container){.map.fd = -1, .format = "torch"};
    dc_status s = dc_map_open(&k->map, path, e);
    size_t n = k->map.size < sizeof head ? k->map.size : sizeof head;
    if (!s) s = dc_map_read(&k->map, 0, head, n, "head", e);
    if (!s && is_tar(head, n)) {
        s = dc_fail(e, DC_DATA, "%s: found a tar archive of a torch before 0.1.9, expected a later one's file", path);
        dc_hint(e, "Load it with torch and save it again, or get the safetensors version of the model.");
    } else if (!s) {
        s = n && head[0] == 'P' ? read_zip(&r) : read_pickles(&r);
    }
    dc_zip_close(&r.zip);
    dc_pickle_end(&r.p);
    free(r.place);
    if (s) dc_container_close(k);
    return s;
}
