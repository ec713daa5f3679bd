/* vocabulary.c - reading and looking up tokens and merges. */
#include "clip/vocabulary.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAX_VOCABULARY (1 << 20)
#define ROOM           1024 /* tokens that may be appended */

/* ---- hash tables --------------------------------------------------------------------------------------------- */

static uint32_t hash_text(const char *s, size_t n)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h ^ h >> 15;
}

static uint32_t hash_pair(uint64_t p)
{
    p = (p ^ p >> 31) * 0x7fb5d329728ea185ull;
    p = (p ^ p >> 27) * 0x81dadef4bc2dd44dull;
    return (uint32_t)(p ^ p >> 33);
}

int32_t dc_vocabulary_find(const dc_vocabulary *v, const char *text, size_t n)
{
    if (!v->by_text) return -1;
    for (uint32_t at = hash_text(text, n) & v->text_mask; v->by_text[at] >= 0; at = (at + 1) & v->text_mask) {
        const char *token = v->token[v->by_text[at]];
        if (!strncmp(token, text, n) && !token[n]) return v->by_text[at];
    }
    return -1;
}

const dc_merge *dc_vocabulary_merge(const dc_vocabulary *v, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (uint32_t at = hash_pair(pair) & v->pair_mask; v->by_pair[at].rank >= 0; at = (at + 1) & v->pair_mask)
        if (v->by_pair[at].pair == pair) return &v->by_pair[at];
    return NULL;
}

static uint32_t table_size(int n)
{
    uint32_t size = 1024;
    while (size < 2u * (uint32_t)n) size *= 2;
    return size;
}

static void index_token(dc_vocabulary *v, int32_t id)
{
    uint32_t at = hash_text(v->token[id], strlen(v->token[id])) & v->text_mask;
    while (v->by_text[at] >= 0) at = (at + 1) & v->text_mask;
    v->by_text[at] = id;
}

static dc_status index_tokens(dc_vocabulary *v, const char *path, dc_error *e)
{
    uint32_t size = table_size(v->size + ROOM);
    v->text_mask = size - 1;
    v->by_text = malloc(size * sizeof *v->by_text);
    if (!v->by_text) return dc_fail_memory(e, path, size * sizeof *v->by_text);
    memset(v->by_text, 0xff, size * sizeof *v->by_text);
    for (int id = 0; id < v->size; id++) index_token(v, id);
    return DC_OK;
}

dc_status dc_vocabulary_append(dc_vocabulary *v, const char *text, int32_t *id, const char *path, dc_error *e)
{
    if (v->appended == ROOM) return dc_fail(e, DC_DATA, "%s: found more than %d tokens that the vocabulary lacks, expected fewer", path, ROOM);
    char **larger = realloc(v->token, ((size_t)v->size + 1) * sizeof *larger);
    if (!larger) return dc_fail_memory(e, path, ((size_t)v->size + 1) * sizeof *larger);
    v->token = larger;
    larger[v->size] = dc_strdup(text);
    if (!larger[v->size]) return dc_fail_memory(e, path, strlen(text));
    v->appended++;
    *id = v->size++;
    index_token(v, *id);
    return DC_OK;
}

static dc_status make_pairs(dc_vocabulary *v, int merges, const char *path, dc_error *e)
{
    uint32_t size = table_size(merges);
    v->pair_mask = size - 1;
    v->by_pair = malloc(size * sizeof *v->by_pair);
    if (!v->by_pair) return dc_fail_memory(e, path, size * sizeof *v->by_pair);
    for (uint32_t i = 0; i < size; i++) v->by_pair[i].rank = -1;
    return DC_OK;
}

/* A pair that comes twice keeps its last rank, as tokenizers' map does. */
static void add_merge(dc_vocabulary *v, int32_t left, int32_t right, int32_t result)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint32_t at = hash_pair(pair) & v->pair_mask;
    while (v->by_pair[at].rank >= 0 && v->by_pair[at].pair != pair) at = (at + 1) & v->pair_mask;
    v->by_pair[at] = (dc_merge){pair, v->merges++, result};
}

void dc_vocabulary_free(dc_vocabulary *v)
{
    for (int i = 0; v->token && i < v->size; i++) free(v->token[i]);
    free(v->token);
    free(v->by_text);
    free(v->by_pair);
    *v = (dc_vocabulary){0};
}

/* ---- bytes as characters --------------------------------------------------------------------------------------------- */

/* GPT-2's map: printable Latin-1 stands for itself, the others get U+0100 and up, in order. */
static void byte_characters(uint32_t map[256])
{
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; b++) {
        bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        map[b] = printable ? b : next++;
    }
}

/* A character below U+0200 as UTF-8, with </w> behind it at the end of a word. */
static void byte_text(uint32_t c, bool ends, char out[12]) { strcpy(dc_utf8_encode(out, c), ends ? "</w>" : ""); }

static dc_status find_bytes(dc_vocabulary *v, const char *path, dc_error *e)
{
    char text[12];
    uint32_t map[256];
    byte_characters(map);
    for (int b = 0; b < 256; b++)
        for (int ends = 0; ends < 2; ends++) {
            byte_text(map[b], ends, text);
            int32_t id = dc_vocabulary_find(v, text, strlen(text));
            if (id < 0)
                return dc_fail(e, DC_DATA, "%s: vocabulary: found no token %s (byte %d), expected all 256 bytes with and without </w>", path, text,
                               b);
            (ends ? v->byte_end_id : v->byte_id)[b] = id;
        }
    return DC_OK;
}

/* ---- merges ------------------------------------------------------------------------------------------------------------- */

static dc_status take_merge(dc_vocabulary *v, const char *path, int line, const char *left, size_t n, const char *right, size_t m, dc_error *e)
{
    char joined[2 * DC_TOKEN_BYTES];
    if (!n || !m || n + m >= DC_TOKEN_BYTES)
        return dc_fail(e, DC_DATA, "%s: merge %d: found tokens of %zu and %zu bytes, expected two of together 2 to %d", path, line, n, m,
                       DC_TOKEN_BYTES - 1);
    memcpy(joined, left, n);
    memcpy(joined + n, right, m);
    int32_t a = dc_vocabulary_find(v, left, n), b = dc_vocabulary_find(v, right, m), result = dc_vocabulary_find(v, joined, n + m);
    if (a < 0 || b < 0 || result < 0)
        return dc_fail(e, DC_DATA, "%s: merge %d, of %.*s and %.*s: found a token that the vocabulary lacks, expected known ones", path, line,
                       (int)(n < 80 ? n : 80), left, (int)(m < 80 ? m : 80), right);
    add_merge(v, a, b, result);
    return DC_OK;
}

/* "left right" */
static dc_status take_line(dc_vocabulary *v, const char *path, int line, const char *text, size_t n, dc_error *e)
{
    const char *gap = memchr(text, ' ', n);
    if (!gap) return dc_fail(e, DC_DATA, "%s: line %d: found no blank, expected a merge of two tokens", path, line);
    size_t left = (size_t)(gap - text);
    return take_merge(v, path, line, text, left, gap + 1, n - left - 1, e);
}

/* All lines of a merge list (n bytes); "#version" at its beginning is skipped. */
static dc_status take_merges(dc_vocabulary *v, const char *path, const char *text, size_t n, dc_error *e)
{
    int lines = 1;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    if (lines > MAX_VOCABULARY) return dc_fail(e, DC_DATA, "%s: found more than %d lines, expected at most that", path, MAX_VOCABULARY);
    dc_status s = make_pairs(v, lines, path, e);
    int line = 1;
    for (size_t at = 0; !s && at < n; line++) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t size = end ? (size_t)(end - text) - at : n - at, kept = size;
        if (kept && text[at + kept - 1] == '\r') kept--;
        if (kept && !(line == 1 && !strncmp(text + at, "#version", kept < 8 ? kept : 8))) s = take_line(v, path, line, text + at, kept, e);
        at += size + 1;
    }
    return s;
}

/* ---- vocab.json ------------------------------------------------------------------------------------------------------------ */

static dc_status take_tokens(dc_vocabulary *v, const char *path, const json_t *root, dc_error *e)
{
    const char *key;
    json_t *value;
    size_t n = json_object_size(root);
    if (!json_is_object(root) || n < 1 || n > MAX_VOCABULARY)
        return dc_fail(e, DC_DATA, "%s: found %zu tokens, expected 1 to %d", path, n, MAX_VOCABULARY);
    v->size = (int)n;
    v->token = dc_calloc(n, sizeof *v->token);
    if (!v->token) return dc_fail_memory(e, path, n * sizeof *v->token);
    json_object_foreach((json_t *)root, key, value)
    {
        int64_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= v->size || v->token[id])
            return dc_fail(e, DC_DATA, "%s: token %s: found id %lld, expected each of 0 to %d once", path, key, (long long)id, v->size - 1);
        if (strlen(key) > DC_TOKEN_BYTES)
            return dc_fail(e, DC_DATA, "%s: token %lld: found %zu bytes, expected at most %d", path, (long long)id, strlen(key), DC_TOKEN_BYTES);
        v->token[id] = dc_strdup(key);
        if (!v->token[id]) return dc_fail_memory(e, path, strlen(key));
    }
    return index_tokens(v, path, e);
}

/* ["left right", ...] or [["left", "right"], ...] */
static dc_status take_merge_array(dc_vocabulary *v, const char *path, const json_t *list, dc_error *e)
{
    size_t i, n = json_array_size(list);
    const json_t *x;
    if (!json_is_array(list) || n > MAX_VOCABULARY)
        return dc_fail(e, DC_DATA, "%s: model.merges: found %zu merges, expected an array of at most %d", path, n, MAX_VOCABULARY);
    dc_status s = make_pairs(v, (int)n + 1, path, e);
    json_array_foreach(list, i, x)
    {
        const char *line = json_string_value(x), *left = json_string_value(json_array_get(x, 0)), *right = json_string_value(json_array_get(x, 1));
        int at = (int)i + 1;
        if (s) return s;
        if (line) s = take_line(v, path, at, line, strlen(line), e);
        else if (left && right && json_array_size(x) == 2) s = take_merge(v, path, at, left, strlen(left), right, strlen(right), e);
        else s = dc_fail(e, DC_DATA, "%s: merge %d: found something else, expected two tokens", path, at);
    }
    return s;
}

/* Only CLIP's kind of tokenizer.json: byte-level BPE with </w>. */
static dc_status read_whole(dc_vocabulary *v, const char *path, const json_t *root, dc_error *e)
{
    const json_t *model = json_object_get(root, "model");
    const char *type = json_string_value(json_object_get(model, "type")), *suffix = json_string_value(json_object_get(model, "end_of_word_suffix"));
    if ((type && strcmp(type, "BPE")) || !suffix || strcmp(suffix, "</w>"))
        return dc_fail(e, DC_DATA, "%s: model: found type %s and end_of_word_suffix %s, expected BPE and </w>", path, type ? type : "(none)",
                       suffix ? suffix : "(none)");
    dc_status s = take_tokens(v, path, json_object_get(model, "vocab"), e);
    if (!s) s = find_bytes(v, path, e);
    return s ? s : take_merge_array(v, path, json_object_get(model, "merges"), e);
}

static dc_status read_files(dc_vocabulary *v, const char *vocab, const char *merges, dc_error *e)
{
    json_t *root = NULL;
    char *text = NULL;
    size_t n = 0;
    dc_status s = dc_json_read(&root, vocab, DC_VOCABULARY_BYTES, e);
    if (!s) s = take_tokens(v, vocab, root, e);
    json_decref(root);
    if (!s) s = find_bytes(v, vocab, e);
    if (!s) s = dc_read_file(merges, DC_VOCABULARY_BYTES, &text, &n, e);
    if (!s) s = take_merges(v, merges, text, n, e);
    free(text);
    return s;
}

dc_status dc_vocabulary_read(dc_vocabulary *v, const char *folder, const json_t *tokenizer, dc_error *e)
{
    *v = (dc_vocabulary){0};
    char *vocab = dc_path_join(folder, "vocab.json"), *merges = dc_path_join(folder, "merges.txt"), *whole = dc_path_join(folder, "tokenizer.json");
    dc_status s = vocab && merges && whole ? DC_OK : dc_fail_memory(e, folder, strlen(folder));
    if (!s) s = tokenizer && !dc_is_file(vocab) && !dc_is_file(merges) ? read_whole(v, whole, tokenizer, e) : read_files(v, vocab, merges, e);
    free(vocab);
    free(merges);
    free(whole);
    if (s) dc_vocabulary_free(v);
    return s;
}

/* ---- the packed list --------------------------------------------------------------------------------------------------------- */

static dc_status inflate_file(const char *file, dc_text *out, dc_error *e)
{
    errno = 0;
    gzFile z = gzopen(file, "rb");
    char block[16384];
    int n, code = Z_OK;
    if (!z && (!errno || errno == ENOMEM)) return dc_fail_memory(e, file, sizeof block);
    if (!z) return dc_fail(e, DC_NO_INPUT, "%s: cannot be read: %s", file, strerror(errno));
    while ((n = gzread(z, block, sizeof block)) > 0 && out->length < DC_VOCABULARY_BYTES && !out->failed) dc_text_append(out, block, (size_t)n);
    gzerror(z, &code);
    bool whole = gzclose(z) == Z_OK && n == 0; /* closing tells of a file that ends early */
    if (code == Z_MEM_ERROR) return dc_fail_memory(e, file, sizeof block);
    if (!whole && !out->failed) return dc_fail(e, DC_DATA, "%s: found damaged or too much data, expected a gzipped list of merges", file);
    return out->failed ? dc_fail_memory(e, file, out->length) : DC_OK;
}

/* First `merges` lines of the list; false when there are fewer. */
static bool cut_lines(dc_text *list, int merges)
{
    size_t at = 0;
    for (int i = 0; i < merges; i++) {
        const char *end = list->at ? memchr(list->at + at, '\n', list->length - at) : NULL;
        if (!end) return false;
        at = (size_t)(end - list->at) + 1;
    }
    list->length = at;
    return true;
}

/* Tokens in the order that CLIP numbers them: printable bytes, the other bytes, both again with </w>, merges, special ones. */
static dc_status number_tokens(dc_vocabulary *v, const char *file, const dc_text *list, dc_error *e)
{
    int id = 0;
    char text[12];
    uint32_t map[256];
    byte_characters(map);
    for (int turn = 0; turn < 4; turn++)
        for (uint32_t b = 0; b < 256; b++)
            if ((map[b] == b) == (turn % 2 == 0)) {
                byte_text(map[b], turn >= 2, text);
                v->token[id++] = dc_strdup(text);
            }
    for (size_t at = 0; at < list->length;) {
        const char *line = list->at + at, *end = memchr(line, '\n', list->length - at), *gap = memchr(line, ' ', (size_t)(end - line));
        if (!gap || end - line > DC_TOKEN_BYTES) return dc_fail(e, DC_DATA, "%s: token %d: found no merge, expected two tokens", file, id);
        v->token[id++] = dc_format("%.*s%.*s", (int)(gap - line), line, (int)(end - gap - 1), gap + 1);
        at += (size_t)(end - line) + 1;
    }
    v->token[id++] = dc_strdup("<|startoftext|>");
    v->token[id++] = dc_strdup("<|endoftext|>");
    for (int i = 0; i < v->size; i++)
        if (!v->token[i]) return dc_fail_memory(e, file, (unsigned long long)v->size);
    return index_tokens(v, file, e);
}

dc_status dc_vocabulary_from_merges(dc_vocabulary *v, const char *file, int size, dc_error *e)
{
    *v = (dc_vocabulary){0};
    dc_text list = {0};
    dc_status s = inflate_file(file, &list, e);
    if (!s && (size < 514 || !cut_lines(&list, size - 514)))
        s = dc_fail(e, DC_DATA, "%s: found fewer merges, expected enough for a vocabulary of %d tokens", file, size);
    if (!s) {
        v->size = size;
        v->token = dc_calloc((size_t)size, sizeof *v->token);
        s = v->token ? number_tokens(v, file, &list, e) : dc_fail_memory(e, file, (unsigned long long)size * sizeof *v->token);
    }
    if (!s) s = find_bytes(v, file, e);
    if (!s) s = take_merges(v, file, list.at ? list.at : "", list.length, e);
    dc_text_free(&list);
    if (s) dc_vocabulary_free(v);
    return s;
}
