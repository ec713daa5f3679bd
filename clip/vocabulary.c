/* vocabulary.c - reading and looking up tokens and merges. */
#include "clip/vocabulary.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAX_VOCABULARY (1 << 20)
#define VOCABULARY_BYTES (64u << 20)

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

static dc_status index_tokens(dc_vocabulary *v, const char *path, dc_error *e)
{
    uint32_t size = table_size(v->size);
    v->text_mask  = size - 1;
    v->by_text    = malloc(size * sizeof *v->by_text);
    if (!v->by_text) return dc_fail_memory(e, path, size * sizeof *v->by_text);
    memset(v->by_text, 0xff, size * sizeof *v->by_text);
    for (int id = 0; id < v->size; id++) {
        uint32_t at = hash_text(v->token[id], strlen(v->token[id])) & v->text_mask;
        while (v->by_text[at] >= 0) at = (at + 1) & v->text_mask;
        v->by_text[at] = id;
    }
    return DC_OK;
}

static dc_status make_pairs(dc_vocabulary *v, int merges, const char *path, dc_error *e)
{
    uint32_t size = table_size(merges);
    v->pair_mask  = size - 1;
    v->by_pair    = malloc(size * sizeof *v->by_pair);
    if (!v->by_pair) return dc_fail_memory(e, path, size * sizeof *v->by_pair);
    for (uint32_t i = 0; i < size; i++) v->by_pair[i].rank = -1;
    return DC_OK;
}

/* A pair that comes twice keeps its last rank, as tokenizers' map does. */
static void add_merge(dc_vocabulary *v, int32_t left, int32_t right, int32_t result)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint32_t at   = hash_pair(pair) & v->pair_mask;
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
static uint32_t byte_character(int byte)
{
    uint32_t next = 256;
    for (int b = 0; b < 256; b++) {
        bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
        if (b == byte) return printable ? (uint32_t)b : next;
        next += !printable;
    }
    return 0;
}

/* The character of a byte as UTF-8, with </w> behind it at the end of a word. */
static void byte_text(int byte, bool ends, char out[12])
{
    uint32_t c = byte_character(byte);
    char    *p = out;
    if (c < 0x80) *p++ = (char)c;
    else *p++ = (char)(0xc0 | c >> 6), *p++ = (char)(0x80 | (c & 63));
    strcpy(p, ends ? "</w>" : "");
}

static dc_status find_bytes(dc_vocabulary *v, const char *path, dc_error *e)
{
    char text[12];
    for (int b = 0; b < 256; b++)
        for (int ends = 0; ends < 2; ends++) {
            byte_text(b, ends, text);
            int32_t id = dc_vocabulary_find(v, text, strlen(text));
            if (id < 0) return dc_fail(e, DC_DATA, "%s: vocabulary: found no token %s (byte %d), expected all 256 bytes with and without </w>", path, text, b);
            (ends ? v->byte_end_id : v->byte_id)[b] = id;
        }
    return DC_OK;
}

/* ---- merges ------------------------------------------------------------------------------------------------------------- */

/* One line "left right". */
static dc_status take_merge(dc_vocabulary *v, const char *path, int line, const char *text, size_t n, dc_error *e)
{
    const char *gap = memchr(text, ' ', n);
    char        joined[2 * DC_TOKEN_BYTES];
    if (!gap || n > DC_TOKEN_BYTES) return dc_fail(e, DC_DATA, "%s: line %d: found no merge, expected two tokens of at most %d bytes", path, line, DC_TOKEN_BYTES);
    size_t  a = (size_t)(gap - text), b = n - a - 1;
    int32_t left = dc_vocabulary_find(v, text, a), right = dc_vocabulary_find(v, gap + 1, b);
    memcpy(joined, text, a);
    memcpy(joined + a, gap + 1, b);
    int32_t result = dc_vocabulary_find(v, joined, a + b);
    if (left < 0 || right < 0 || result < 0)
        return dc_fail(e, DC_DATA, "%s: line %d: merge of %.*s: found a token that the vocabulary lacks, expected known ones", path, line, (int)(n < 80 ? n : 80), text);
    add_merge(v, left, right, result);
    return DC_OK;
}

/* All lines of a merge list (n bytes); "#version" at its beginning is skipped. */
static dc_status take_merges(dc_vocabulary *v, const char *path, const char *text, size_t n, dc_error *e)
{
    int lines = 1;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    if (lines > MAX_VOCABULARY) return dc_fail(e, DC_DATA, "%s: found %d lines, expected at most %d", path, lines, MAX_VOCABULARY);
    dc_status s = make_pairs(v, lines, path, e);
    int       line = 1;
    for (size_t at = 0; !s && at < n; line++) {
        const char *end  = memchr(text + at, '\n', n - at);
        size_t      size = end ? (size_t)(end - text) - at : n - at, kept = size;
        if (kept && text[at + kept - 1] == '\r') kept--;
        if (kept && !(line == 1 && !strncmp(text + at, "#version", kept < 8 ? kept : 8))) s = take_merge(v, path, line, text + at, kept, e);
        at += size + 1;
    }
    return s;
}

/* ---- vocab.json ------------------------------------------------------------------------------------------------------------ */

static dc_status take_tokens(dc_vocabulary *v, const char *path, const json_t *root, dc_error *e)
{
    const char *key;
    json_t     *value;
    size_t      n = json_object_size(root);
    if (!json_is_object(root) || n < 1 || n > MAX_VOCABULARY) return dc_fail(e, DC_DATA, "%s: found %zu tokens, expected 1 to %d", path, n, MAX_VOCABULARY);
    v->size  = (int)n;
    v->token = dc_calloc(n, sizeof *v->token);
    if (!v->token) return dc_fail_memory(e, path, n * sizeof *v->token);
    json_object_foreach((json_t *)root, key, value)
    {
        int64_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= v->size || v->token[id])
            return dc_fail(e, DC_DATA, "%s: token %s: found id %lld, expected each of 0 to %d once", path, key, (long long)id, v->size - 1);
        if (strlen(key) > DC_TOKEN_BYTES) return dc_fail(e, DC_DATA, "%s: token %lld: found %zu bytes, expected at most %d", path, (long long)id, strlen(key), DC_TOKEN_BYTES);
        v->token[id] = dc_strdup(key);
        if (!v->token[id]) return dc_fail_memory(e, path, strlen(key));
    }
    return index_tokens(v, path, e);
}

dc_status dc_vocabulary_read(dc_vocabulary *v, const char *folder, dc_error *e)
{
    *v           = (dc_vocabulary){0};
    char     *vocab = dc_path_join(folder, "vocab.json"), *merges = dc_path_join(folder, "merges.txt"), *text = NULL;
    json_t   *root = NULL;
    size_t    n    = 0;
    dc_status s    = vocab && merges ? DC_OK : dc_fail_memory(e, folder, strlen(folder));
    if (!s) s = dc_json_read(&root, vocab, VOCABULARY_BYTES, e);
    if (!s) s = take_tokens(v, vocab, root, e);
    json_decref(root);
    if (!s) s = find_bytes(v, vocab, e);
    if (!s) s = dc_read_file(merges, VOCABULARY_BYTES, &text, &n, e);
    if (!s) s = take_merges(v, merges, text, n, e);
    free(text);
    free(vocab);
    free(merges);
    if (s) dc_vocabulary_free(v);
    return s;
}

/* ---- the packed list --------------------------------------------------------------------------------------------------------- */

static dc_status inflate_file(const char *file, dc_text *out, dc_error *e)
{
    gzFile z = gzopen(file, "rb");
    char   block[16384];
    int    n;
    if (!z) return dc_fail(e, DC_NO_INPUT, "%s: cannot be read", file);
    while ((n = gzread(z, block, sizeof block)) > 0 && out->length < VOCABULARY_BYTES) dc_text_append(out, block, (size_t)n);
    bool bad = n != 0 || gzclose(z) != Z_OK;
    if (n != 0) gzclose(z);
    if (bad) return dc_fail(e, DC_DATA, "%s: damaged: expected a gzipped list of merges", file);
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

/* Tokens in the order that CLIP numbers them. */
static dc_status number_tokens(dc_vocabulary *v, const char *file, const dc_text *list, dc_error *e)
{
    int id = 0;
    for (int ends = 0; ends < 2; ends++)
        for (uint32_t c = 0; c < 512 && id < 256 * (ends + 1); c++) /* in the order of the characters, printable bytes first */
            for (int b = 0; b < 256; b++)
                if (byte_character(b) == c) {
                    char text[12];
                    byte_text(b, ends, text);
                    v->token[id++] = dc_strdup(text);
                }
    for (size_t at = 0; at < list->length;) {
        const char *end = memchr(list->at + at, '\n', list->length - at), *gap = memchr(list->at + at, ' ', (size_t)(end - list->at) - at);
        if (!gap) return dc_fail(e, DC_DATA, "%s: found a line without two tokens", file);
        v->token[id++] = dc_format("%.*s%.*s", (int)(gap - list->at - (long)at), list->at + at, (int)(end - gap - 1), gap + 1);
        at             = (size_t)(end - list->at) + 1;
    }
    v->token[id++] = dc_strdup("<|startoftext|>");
    v->token[id++] = dc_strdup("<|endoftext|>");
    for (int i = 0; i < v->size; i++)
        if (!v->token[i]) return dc_fail_memory(e, file, (unsigned long long)v->size);
    return index_tokens(v, file, e);
}

dc_status dc_vocabulary_from_merges(dc_vocabulary *v, const char *file, int size, dc_error *e)
{
    *v           = (dc_vocabulary){0};
    dc_text   list = {0};
    dc_status s    = inflate_file(file, &list, e);
    if (!s && (size < 514 || !cut_lines(&list, size - 514))) s = dc_fail(e, DC_DATA, "%s: a vocabulary of %d tokens cannot be made from it", file, size);
    if (!s) {
        v->size  = size;
        v->token = dc_calloc((size_t)size, sizeof *v->token);
        s        = v->token ? number_tokens(v, file, &list, e) : dc_fail_memory(e, file, (unsigned long long)size * sizeof *v->token);
    }
    if (!s) s = find_bytes(v, file, e);
    if (!s) s = take_merges(v, file, list.at ? list.at : "", list.length, e);
    dc_text_free(&list);
    if (s) dc_vocabulary_free(v);
    return s;
}
