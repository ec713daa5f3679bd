/* tokenizer.c - text to ids as transformers' CLIPTokenizer does it: special tokens are cut out, the rest is brought to NFC, white space
 * becomes single blanks, letters become small, words are split by CLIP's pattern, and byte-level BPE joins what it can. */
#include "clip/tokenizer.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "clip/vocabulary.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define MAX_TEXT (64 * 1024)

struct dc_tokenizer {
    dc_vocabulary v;
    int32_t       start, end, pad;
    int           max_length;
};

/* ---- opening --------------------------------------------------------------------------------------------------- */

static dc_status find_special(dc_tokenizer *t, const char *path, dc_error *e)
{
    t->start = dc_vocabulary_find(&t->v, "<|startoftext|>", 15);
    t->end   = dc_vocabulary_find(&t->v, "<|endoftext|>", 13);
    t->pad   = t->end;
    if (t->start >= 0 && t->end >= 0) return DC_OK;
    return dc_fail(e, DC_DATA, "%s: vocabulary: found no <|startoftext|> or <|endoftext|>, expected both", path);
}

/* pad_token is a string or an object with "content". */
static void read_pad(dc_tokenizer *t, const json_t *root)
{
    const json_t *pad  = json_object_get(root, "pad_token");
    const char   *text = json_is_object(pad) ? json_string_value(json_object_get(pad, "content")) : json_string_value(pad);
    int32_t       id   = text ? dc_vocabulary_find(&t->v, text, strlen(text)) : -1;
    if (id >= 0) t->pad = id;
}

static dc_status read_settings(dc_tokenizer *t, const char *folder, const char *name, bool *has_pad, dc_error *e)
{
    char     *path = dc_path_join(folder, name);
    json_t   *root = NULL;
    dc_status s    = path ? DC_OK : dc_fail_memory(e, folder, strlen(folder));
    if (!s && dc_is_file(path)) s = dc_json_read(&root, path, DC_JSON_CONFIG_LIMIT, e);
    if (!s && root) {
        double length = json_number_value(json_object_get(root, "model_max_length"));
        if (length >= 3 && length <= 4096) t->max_length = (int)length; /* 1e30 means: not limited */
        if (!*has_pad && json_object_get(root, "pad_token")) {
            read_pad(t, root);
            *has_pad = true;
        }
    }
    json_decref(root);
    free(path);
    return s;
}

dc_status dc_tokenizer_open(dc_tokenizer **out, const char *folder, dc_error *e)
{
    *out            = NULL;
    dc_tokenizer *t = dc_calloc(1, sizeof *t);
    bool          has_pad = false;
    if (!t) return dc_fail_memory(e, "a tokenizer", sizeof *t);
    t->max_length = 77;
    dc_status s   = dc_vocabulary_read(&t->v, folder, e);
    if (!s) s = find_special(t, folder, e);
    if (!s) s = read_settings(t, folder, "tokenizer_config.json", &has_pad, e);
    if (!s) s = read_settings(t, folder, "special_tokens_map.json", &has_pad, e);
    if (s) dc_tokenizer_close(t);
    else *out = t;
    return s;
}

dc_status dc_tokenizer_open_merges(dc_tokenizer **out, const char *file, int vocab_size, dc_error *e)
{
    *out            = NULL;
    dc_tokenizer *t = dc_calloc(1, sizeof *t);
    if (!t) return dc_fail_memory(e, "a tokenizer", sizeof *t);
    t->max_length = 77;
    dc_status s   = dc_vocabulary_from_merges(&t->v, file, vocab_size, e);
    if (!s) s = find_special(t, file, e);
    if (s) dc_tokenizer_close(t);
    else *out = t;
    return s;
}

void dc_tokenizer_close(dc_tokenizer *t)
{
    if (!t) return;
    dc_vocabulary_free(&t->v);
    free(t);
}

int         dc_tokenizer_start(const dc_tokenizer *t) { return t->start; }
int         dc_tokenizer_end(const dc_tokenizer *t) { return t->end; }
int         dc_tokenizer_pad(const dc_tokenizer *t) { return t->pad; }
int         dc_tokenizer_vocab_size(const dc_tokenizer *t) { return t->v.size; }
int         dc_tokenizer_max_length(const dc_tokenizer *t) { return t->max_length; }
const char *dc_tokenizer_token(const dc_tokenizer *t, int id) { return id >= 0 && id < t->v.size ? t->v.token[id] : NULL; }

/* ---- normalising -------------------------------------------------------------------------------------------------- */

/* Unicode's White_Space, which is what \s means there. */
static bool is_space(int32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

static bool is_letter(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

static bool is_number(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

/* Code points of `text` (n bytes of valid UTF-8), composed (NFC), in small letters, white space as blanks. *out: the caller frees. */
static dc_status normalise(const char *text, size_t n, int32_t **out, size_t *count, dc_error *e)
{
    utf8proc_uint8_t *composed = NULL;
    utf8proc_ssize_t  length   = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &composed, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    *out                       = length < 0 ? NULL : malloc(sizeof(int32_t) * (2 * (size_t)length + 1));
    *count                     = 0;
    if (!*out) {
        free(composed);
        return length == UTF8PROC_ERROR_NOMEM || length >= 0 ? dc_fail_memory(e, "a prompt", n) : dc_fail(e, DC_USAGE, "prompt: %s", utf8proc_errmsg(length));
    }
    for (utf8proc_ssize_t at = 0; at < length;) {
        utf8proc_int32_t c;
        at += utf8proc_iterate(composed + at, length - at, &c);
        if (is_space(c)) c = ' ';
        if (c == 0x130) { /* the one letter whose small form is two characters */
            (*out)[(*count)++] = 'i';
            c                  = 0x307;
        }
        (*out)[(*count)++] = utf8proc_tolower(c);
    }
    free(composed);
    return DC_OK;
}

/* ---- splitting: 's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+ ---------------------------------------------- */

static size_t contraction(const int32_t *c, size_t n)
{
    static const char *const endings[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    for (size_t k = 0; c[0] == '\'' && k < sizeof endings / sizeof *endings; k++) {
        size_t i = 0, size = strlen(endings[k]);
        while (i < size && i + 1 < n && c[i + 1] == endings[k][i]) i++;
        if (i == size) return size + 1;
    }
    return 0;
}

/* Characters of the word that begins at c (not white space). */
static size_t word_length(const int32_t *c, size_t n)
{
    size_t i = contraction(c, n);
    if (i) return i;
    if (is_number(c[0])) return 1;
    bool letters = is_letter(c[0]);
    for (i = 1; i < n && !is_space(c[i]) && is_letter(c[i]) == letters && !is_number(c[i]); i++) continue;
    return i;
}

/* ---- BPE ------------------------------------------------------------------------------------------------------------------ */

/* Symbols of a word as a linked list, and a heap of possible merges: lowest rank first, then leftmost. */
typedef struct symbol { int32_t id, before, after; } symbol;
typedef struct candidate { int32_t rank, at, left, right, result; } candidate;
typedef struct word {
    symbol    *s;
    candidate *heap;
    size_t     n, room, heaped;
    bool       failed;
} word;

static bool sooner(candidate a, candidate b) { return a.rank != b.rank ? a.rank < b.rank : a.at < b.at; }

static void heap_push(word *w, candidate c)
{
    size_t i = w->heaped++;
    for (; i && sooner(c, w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static candidate heap_pop(word *w)
{
    candidate top = w->heap[0], last = w->heap[--w->heaped];
    size_t    i   = 0;
    for (size_t child; (child = 2 * i + 1) < w->heaped; i = child) {
        if (child + 1 < w->heaped && sooner(w->heap[child + 1], w->heap[child])) child++;
        if (!sooner(w->heap[child], last)) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

/* The merge of symbol `at` with its right neighbour, if there is one. */
static void consider(const dc_vocabulary *v, word *w, int32_t at)
{
    if (at < 0 || w->s[at].after < 0) return;
    int32_t         left = w->s[at].id, right = w->s[w->s[at].after].id;
    const dc_merge *m    = dc_vocabulary_merge(v, left, right);
    if (m) heap_push(w, (candidate){m->rank, at, left, right, m->result});
}

/* Every merge pushes at most two more, so 3n candidates are enough. */
static bool word_room(word *w, size_t n)
{
    if (n <= w->room) return true;
    free(w->s);
    free(w->heap);
    w->s    = malloc(n * sizeof *w->s);
    w->heap = malloc(3 * n * sizeof *w->heap);
    w->room = w->s && w->heap ? n : 0;
    return w->room > 0;
}

static void merge_all(const dc_vocabulary *v, word *w)
{
    w->heaped = 0;
    for (size_t i = 0; i < w->n; i++) consider(v, w, (int32_t)i);
    while (w->heaped) {
        candidate c = heap_pop(w);
        symbol   *a = &w->s[c.at];
        if (a->id != c.left || a->after < 0 || w->s[a->after].id != c.right) continue; /* merged away meanwhile */
        symbol *b = &w->s[a->after];
        a->id     = c.result;
        a->after  = b->after;
        if (b->after >= 0) w->s[b->after].before = c.at;
        b->id = -1;
        consider(v, w, a->before);
        consider(v, w, c.at);
    }
}

/* Ids of one word (code points) to the end of *ids. */
static dc_status encode_word(const dc_tokenizer *t, const int32_t *c, size_t n, word *w, int32_t *ids, size_t *count, dc_error *e)
{
    if (!word_room(w, 4 * n)) return dc_fail_memory(e, "a word", 4 * n * sizeof(symbol));
    w->n = 0;
    for (size_t i = 0; i < n; i++) {
        utf8proc_uint8_t bytes[4];
        utf8proc_ssize_t size = utf8proc_encode_char(c[i], bytes);
        for (utf8proc_ssize_t k = 0; k < size; k++, w->n++) w->s[w->n] = (symbol){t->v.byte_id[bytes[k]], (int32_t)w->n - 1, (int32_t)w->n + 1};
        if (i + 1 == n) w->s[w->n - 1] = (symbol){t->v.byte_end_id[bytes[size - 1]], (int32_t)w->n - 2, -1};
    }
    merge_all(&t->v, w);
    for (int32_t at = 0; at >= 0; at = w->s[at].after) ids[(*count)++] = w->s[at].id;
    return DC_OK;
}

/* "<|startoftext|>" at c: its length, else 0. */
static size_t start_token(const int32_t *c, size_t n)
{
    static const char text[] = "<|startoftext|>";
    size_t            i = 0, size = sizeof text - 1;
    while (i < size && i < n && c[i] == text[i]) i++;
    return i == size ? size : 0;
}

/* Words and start tokens of normalised text. */
static dc_status encode_normalised(const dc_tokenizer *t, const int32_t *c, size_t n, int32_t *ids, size_t *count, dc_error *e)
{
    word      w    = {0};
    dc_status s    = DC_OK;
    size_t    next = 0; /* where the next start token begins; words end there */
    for (size_t i = 0; !s && i < n;) {
        if (next <= i && !start_token(c + i, n - i))
            for (next = i + 1; next < n && !start_token(c + next, n - next);) next++;
        size_t special = start_token(c + i, n - i);
        if (special) {
            ids[(*count)++] = t->start;
            i += special;
        } else if (is_space(c[i])) {
            i++;
        } else {
            size_t k = word_length(c + i, next - i);
            s        = encode_word(t, c + i, k, &w, ids, count, e);
            i += k;
        }
    }
    free(w.s);
    free(w.heap);
    return s;
}

/* ---- the face ---------------------------------------------------------------------------------------------------------------- */

/* Special tokens follow transformers 5: <|endoftext|> is found in the text as it is, <|startoftext|> after normalising, so in capitals
 * as well. */
dc_status dc_tokenize(const dc_tokenizer *t, const char *text, size_t n, int32_t **ids, int *count, dc_error *e)
{
    *ids   = NULL;
    *count = 0;
    if (n > MAX_TEXT) return dc_fail(e, DC_USAGE, "prompt: found %zu bytes, expected at most %d", n, MAX_TEXT);
    if (!dc_utf8_valid(text, n)) return dc_fail(e, DC_USAGE, "prompt: found bytes that are not UTF-8, expected UTF-8 text");
    /* NFC makes at most 3 times as many bytes (Unicode's own bound), and each byte at most one id */
    int32_t  *out  = malloc(sizeof(int32_t) * (4 * n + 1));
    size_t    made = 0;
    dc_status s    = out ? DC_OK : dc_fail_memory(e, "token ids", 16 * n);
    while (!s && n) {
        const char *end    = memmem(text, n, "<|endoftext|>", 13);
        size_t      plain  = end ? (size_t)(end - text) : n, length = 0;
        int32_t    *c      = NULL;
        if (plain) s = normalise(text, plain, &c, &length, e);
        if (!s) s = encode_normalised(t, c, length, out, &made, e);
        free(c);
        if (!s && end) out[made++] = t->end;
        size_t used = plain + (end ? 13 : 0);
        text += used;
        n -= used;
    }
    if (s) {
        free(out);
        return s;
    }
    *ids   = out;
    *count = (int)made;
    return DC_OK;
}

dc_status dc_tokenize_padded(const dc_tokenizer *t, const char *text, int length, int32_t *out, int *cut, dc_error *e)
{
    int32_t  *ids = NULL;
    int       n   = 0;
    dc_status s   = dc_tokenize(t, text, strlen(text), &ids, &n, e);
    if (cut) *cut = 0;
    if (s) return s;
    int kept = n < length - 2 ? n : length - 2;
    if (cut) *cut = n - kept;
    out[0] = t->start;
    memcpy(out + 1, ids, (size_t)kept * sizeof *out);
    out[kept + 1] = t->end;
    for (int i = kept + 2; i < length; i++) out[i] = t->pad;
    free(ids);
    return DC_OK;
}
