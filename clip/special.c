/* special.c - special tokens of a tokenizer's folder, and finding them. */
#include "clip/special.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/text.h"
#include "clip/unicode.h"
#include <stdlib.h>
#include <string.h>

#define MOST_SPECIALS 1024

/* One as the files say. A plain string and an object that say the same count as two (the later one decides). */
typedef struct said {
    const char *text;
    int64_t id; /* that it must get; -1: any */
    bool plain, normalised;
} said;

typedef struct reading {
    const char *folder;
    const json_t *config, *map, *added, *tokenizer; /* NULL: no such file */
    bool modern;                                    /* config has added_tokens_decoder: then it alone decides */
    said list[MOST_SPECIALS];
    int n, n_numbered; /* the first ones come with an id */
    dc_error *e;
} reading;

/* ---- what the files say ------------------------------------------------------------------------------------------------ */

static bool flag(const json_t *o, const char *key, bool absent)
{
    const json_t *v = json_object_get(o, key);
    return json_is_boolean(v) ? json_is_true(v) : absent;
}

/* A string, or {"content": string, "normalized": bool, ...}. `what` is for messages. False on error. */
static bool parse(reading *r, const json_t *v, const char *what, int64_t id, said *out)
{
    const char *text = json_is_object(v) ? json_string_value(json_object_get(v, "content")) : json_string_value(v);
    if (!text) dc_fail(r->e, DC_DATA, "%s: %s: found neither a string nor an object with content, expected one of them", r->folder, what);
    else if (!*text || strlen(text) > DC_TOKEN_BYTES)
        dc_fail(r->e, DC_DATA, "%s: %s: found a token of %zu bytes, expected 1 to %d", r->folder, what, strlen(text), DC_TOKEN_BYTES);
    else if (json_is_object(v) && flag(v, "single_word", false))
        dc_fail(r->e, DC_DATA, "%s: %s: found single_word true, expected false", r->folder, what);
    if (r->e->code) return false;
    bool special = json_is_string(v) || flag(v, "special", false);
    *out = (said){.text = text, .id = id, .plain = json_is_string(v), .normalised = json_is_object(v) && flag(v, "normalized", !special)};
    return true;
}

static bool push(reading *r, said s)
{
    if (r->n == MOST_SPECIALS)
        return dc_fail(r->e, DC_DATA, "%s: found more than %d special tokens, expected fewer", r->folder, MOST_SPECIALS), false;
    r->list[r->n++] = s;
    return true;
}

/* One that comes with an id; a later file replaces what an earlier one said about this id. */
static bool push_numbered(reading *r, said s)
{
    for (int i = 0; i < r->n; i++)
        if (r->list[i].id == s.id) return r->list[i] = s, true;
    return push(r, s);
}

static int by_id(const void *a, const void *b)
{
    const said *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* config's {"49406": {...}, ...} */
static void read_decoder(reading *r)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)json_object_get(r->config, "added_tokens_decoder"), key, value)
    {
        char *end;
        long long id = strtoll(key, &end, 10);
        said s;
        if (*end || end == key || *key < '0' || *key > '9')
            dc_fail(r->e, DC_DATA, "%s: added_tokens_decoder: found %s, expected an id", r->folder, key);
        if (r->e->code || !parse(r, value, "added_tokens_decoder", id, &s) || !push_numbered(r, s)) return;
    }
}

/* The value of a named token like "pad_token"; NULL: the files are silent. */
static const json_t *named(const reading *r, const char *key)
{
    const json_t *v = r->modern ? NULL : json_object_get(r->map, key);
    if (!v || json_is_null(v)) v = json_object_get(r->config, key);
    return json_is_null(v) ? NULL : v;
}

static const struct {
    const char *key, *absent;
} names[] = {
    {"bos_token", "<|startoftext|>"},
    {"eos_token", "<|endoftext|>"},
    {"unk_token", "<|endoftext|>"},
    {"sep_token", NULL},
    {"pad_token", "<|endoftext|>"},
    {"cls_token", NULL},
    {"mask_token", NULL},
};
enum { N_NAMES = sizeof names / sizeof *names };

/* False: not said and without a default, or an error. */
static bool parse_name(reading *r, int k, said *out)
{
    const json_t *v = named(r, names[k].key);
    *out = (said){.text = names[k].absent, .id = -1, .plain = true};
    return v ? parse(r, v, names[k].key, -1, out) : out->text != NULL;
}

/* Is it one of the named ones? (Objects in tokenizer_config.json do not count there.) */
static bool is_named(const reading *r, const char *text)
{
    for (int k = 0; k < N_NAMES; k++) {
        const json_t *v = named(r, names[k].key), *in_map = json_object_get(r->map, names[k].key);
        const char *content = json_is_object(v) && v == in_map ? json_string_value(json_object_get(v, "content")) : json_string_value(v);
        if (content && !strcmp(content, text)) return true;
    }
    return false;
}

/* added_tokens.json: {"<cat-toy>": 49408}; found in any case unless it is a named one. */
static void read_added(reading *r)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)r->added, key, value)
    {
        said s = {.text = key, .id = json_is_integer(value) ? json_integer_value(value) : -1, .normalised = !is_named(r, key)};
        if (s.id < 0) dc_fail(r->e, DC_DATA, "%s/added_tokens.json: %s: found no id, expected a number from 0 up", r->folder, key);
        if (!*key || strlen(key) > DC_TOKEN_BYTES)
            dc_fail(r->e, DC_DATA, "%s/added_tokens.json: found a token of %zu bytes, expected 1 to %d", r->folder, strlen(key), DC_TOKEN_BYTES);
        if (r->e->code || !push_numbered(r, s)) return;
    }
}

static void read_tokenizer(reading *r)
{
    const json_t *list = json_object_get(r->tokenizer, "added_tokens"), *v;
    size_t i;
    json_array_foreach(list, i, v)
    {
        const json_t *id = json_object_get(v, "id");
        said s;
        if (!json_is_integer(id) || json_integer_value(id) < 0)
            dc_fail(r->e, DC_DATA, "%s/tokenizer.json: added_tokens: found no id, expected a number from 0 up", r->folder);
        if (r->e->code || !parse(r, v, "added_tokens", json_integer_value(id), &s) || !push_numbered(r, s)) return;
    }
}

/* A token without an id joins the list unless one with an id has its text, or the list has just the same. */
static void join(reading *r, said s)
{
    for (int i = 0; i < r->n; i++) {
        const said *o = &r->list[i];
        if (!strcmp(o->text, s.text) && (i < r->n_numbered || (o->plain == s.plain && o->normalised == s.normalised))) return;
    }
    push(r, s);
}

static void collect(reading *r)
{
    said s;
    const json_t *extra = json_object_get(r->config, "additional_special_tokens"), *v;
    size_t i;
    r->modern = json_is_object(json_object_get(r->config, "added_tokens_decoder"));
    if (r->modern) {
        read_decoder(r);
    } else {
        read_added(r);
        read_tokenizer(r);
    }
    qsort(r->list, (size_t)r->n, sizeof *r->list, by_id);
    r->n_numbered = r->n;
    for (int k = 0; k < N_NAMES && !r->e->code; k++)
        if (parse_name(r, k, &s)) join(r, s);
    json_array_foreach(extra, i, v) if (!r->e->code && parse(r, v, "additional_special_tokens", -1, &s)) join(r, s);
}

/* ---- taking them ---------------------------------------------------------------------------------------------------------- */

static dc_special *slot_of(dc_specials *s, int32_t id)
{
    int i = 0;
    while (i < s->n && s->at[i].id != id) i++;
    if (i == s->n) s->n++;
    free(s->at[i].text);
    free(s->at[i].small);
    s->at[i] = (dc_special){.id = id};
    return &s->at[i];
}

static dc_status take(dc_specials *s, dc_vocabulary *v, const char *path, said x, dc_error *e)
{
    size_t n = strlen(x.text);
    int32_t id = dc_vocabulary_find(v, x.text, n);
    dc_status st = DC_OK;
    if (id < 0) st = dc_vocabulary_append(v, x.text, &id, path, e);
    if (!st && x.id >= 0 && x.id != id)
        st = dc_fail(e, DC_DATA, "%s: special token %s: found id %lld, expected %d, where the vocabulary has it", path, x.text, (long long)x.id,
                     (int)id);
    if (st) return st;
    dc_special *t = slot_of(s, id);
    t->text = dc_strdup(x.text);
    t->length = n;
    if (!t->text) return dc_fail_memory(e, path, n);
    return x.normalised ? dc_normalise(x.text, n, &t->small, &t->small_length, e) : DC_OK;
}

static dc_status take_all(dc_specials *s, dc_vocabulary *v, reading *r)
{
    if (r->e->code) return r->e->code;
    s->at = dc_calloc((size_t)r->n, sizeof *s->at);
    if (!s->at) return dc_fail_memory(r->e, r->folder, (unsigned long long)r->n * sizeof *s->at);
    for (int i = 0; i < r->n; i++)
        if (take(s, v, r->folder, r->list[i], r->e)) return r->e->code;
    for (int i = 0; i < s->n; i++) {
        if (s->at[i].small) s->any_small = true;
        else s->begins[(unsigned char)s->at[i].text[0]] = true;
    }
    static const int which[] = {0, 1, 4}; /* bos, eos, pad in `names` */
    int32_t *const ids[] = {&s->start, &s->end, &s->pad};
    for (int k = 0; k < 3; k++) {
        said x;
        if (!parse_name(r, which[k], &x)) return r->e->code;
        *ids[k] = dc_vocabulary_find(v, x.text, strlen(x.text));
    }
    return DC_OK;
}

/* "model_max_length": 1000000000000000019884624838656 (2^100, say: no limit) is common and no number for a strict reader: whole
 * numbers of more than 18 digits become 1e30 and blanks, in place. */
static void shorten_numbers(char *text)
{
    bool string = false;
    for (char *p = text; *p; p++) {
        if (*p == '"') string = !string;
        if (string && *p == '\\' && p[1]) p++;
        if (string || *p < '0' || *p > '9') continue;
        size_t n = strspn(p, "0123456789"), all = strspn(p, "0123456789.eE+-");
        if (n == all && n > 18) {
            size_t made = (size_t)sprintf(p, "%ce%zu", *p, n - 1);
            memset(p + made, ' ', n - made);
        }
        p += all - 1;
    }
}

/* An object in FOLDER/NAME; NULL when there is no such file. */
static dc_status read_object(json_t **out, const char *folder, const char *name, dc_error *e)
{
    *out = NULL;
    size_t n = 0;
    char *path = dc_path_join(folder, name), *text = NULL;
    dc_status s = path ? DC_OK : dc_fail_memory(e, folder, strlen(folder));
    if (!s && dc_is_file(path)) s = dc_read_file(path, DC_JSON_CONFIG_LIMIT, &text, &n, e);
    if (text) {
        shorten_numbers(text);
        s = dc_json_parse(out, path, text, n, e);
    }
    if (!s && *out && !json_is_object(*out)) s = dc_fail(e, DC_DATA, "%s: found something else, expected an object", path);
    free(text);
    free(path);
    return s;
}

dc_status dc_specials_read(dc_specials *s, dc_vocabulary *v, const char *folder, const json_t *tokenizer, dc_error *e)
{
    json_t *config = NULL, *map = NULL, *added = NULL;
    reading *r = dc_calloc(1, sizeof *r);
    dc_status st = r ? DC_OK : dc_fail_memory(e, folder, sizeof *r);
    *s = (dc_specials){.max_length = 77};
    if (!st) st = read_object(&config, folder, "tokenizer_config.json", e);
    if (!st) st = read_object(&map, folder, "special_tokens_map.json", e);
    if (!st) st = read_object(&added, folder, "added_tokens.json", e);
    if (!st) {
        r->folder = folder, r->config = config, r->map = map, r->added = added, r->tokenizer = tokenizer, r->e = e;
        collect(r);
        st = take_all(s, v, r);
        const json_t *most = json_object_get(config, "model_max_length");
        double length = json_number_value(most);
        if (!st && most && !json_is_number(most) && !json_is_null(most))
            st = dc_fail(e, DC_DATA, "%s/tokenizer_config.json: model_max_length: found no number, expected one", folder);
        if (length >= 3 && length <= 4096) s->max_length = (int)length; /* 1e30 means: not limited */
    }
    json_decref(config);
    json_decref(map);
    json_decref(added);
    free(r);
    if (st) dc_specials_free(s);
    return st;
}

dc_status dc_specials_usual(dc_specials *s, dc_vocabulary *v, const char *file, dc_error *e)
{
    static const said usual[] = {{"<|startoftext|>", -1, false, true}, {"<|endoftext|>", -1, true, false}};
    reading *r = dc_calloc(1, sizeof *r);
    if (!r) return dc_fail_memory(e, file, sizeof *r);
    *s = (dc_specials){.max_length = 77};
    r->folder = file, r->e = e;
    for (int i = 0; i < 2; i++) join(r, usual[i]);
    dc_status st = take_all(s, v, r);
    free(r);
    if (st) dc_specials_free(s);
    return st;
}

void dc_specials_free(dc_specials *s)
{
    for (int i = 0; i < s->n; i++) {
        free(s->at[i].text);
        free(s->at[i].small);
    }
    free(s->at);
    *s = (dc_specials){0};
}

/* ---- finding them -------------------------------------------------------------------------------------------------------- */

const dc_special *dc_special_in_text(const dc_specials *s, const char *text, size_t n)
{
    const dc_special *best = NULL;
    if (!n || !s->begins[(unsigned char)text[0]]) return NULL;
    for (int i = 0; i < s->n; i++) {
        const dc_special *t = &s->at[i];
        if (!t->small && t->length <= n && (!best || t->length > best->length) && !memcmp(t->text, text, t->length)) best = t;
    }
    return best;
}

const dc_special *dc_special_in_small(const dc_specials *s, const int32_t *c, size_t n)
{
    const dc_special *best = NULL;
    for (int i = 0; s->any_small && i < s->n; i++) {
        const dc_special *t = &s->at[i];
        if (t->small_length && t->small_length <= n && t->small[0] == c[0] && (!best || t->small_length > best->small_length) &&
            !memcmp(t->small, c, t->small_length * sizeof *c))
            best = t;
    }
    return best;
}
