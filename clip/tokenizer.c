/* tokenizer.c - text to ids as transformers' CLIPTokenizer does it: special tokens are cut out, the rest is brought to NFC, white space
 * becomes single blanks, letters become small, words are split by CLIP's pattern, and byte-level BPE joins what it can. */
#include "clip/clean.h"
#include "clip/tokenizer.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "clip/special.h"
#include "clip/unicode.h"
#include "clip/vocabulary.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define MAX_TEXT (64 * 1024)

struct dc_tokenizer {
    dc_vocabulary v;
    dc_specials special;
    bool clean; /* texts, before anything else */
};

/* ---- opening --------------------------------------------------------------------------------------------------- */

static dc_status read_tokenizer_json(json_t **out, const char *folder, dc_error *e)
{
    char *path = dc_path_join(folder, "tokenizer.json");
    dc_status s = path ? DC_OK : dc_fail_memory(e, folder, strlen(folder));
    if (!s && dc_is_file(path)) s = dc_json_read(out, path, DC_VOCABULARY_BYTES, e);
    free(path);
    return s;
}

dc_status dc_tokenizer_open(dc_tokenizer **out, const char *folder, dc_error *e)
{
    *out = NULL;
    dc_tokenizer *t = dc_calloc(1, sizeof *t);
    json_t *whole = NULL;
    dc_status s = t ? read_tokenizer_json(&whole, folder, e) : dc_fail_memory(e, "a tokenizer", sizeof *t);
    if (!s) s = dc_vocabulary_read(&t->v, folder, whole, e);
    if (!s) s = dc_specials_read(&t->special, &t->v, folder, whole, e);
    json_decref(whole);
    if (s) dc_tokenizer_close(t);
    else *out = t;
    return s;
}

dc_status dc_tokenizer_open_merges(dc_tokenizer **out, const char *file, int vocab_size, dc_error *e)
{
    *out = NULL;
    dc_tokenizer *t = dc_calloc(1, sizeof *t);
    if (!t) return dc_fail_memory(e, "a tokenizer", sizeof *t);
    dc_status s = dc_vocabulary_from_merges(&t->v, file, vocab_size, e);
    if (!s) s = dc_specials_usual(&t->special, &t->v, file, e);
    if (s) dc_tokenizer_close(t);
    else *out = t;
    return s;
}

void dc_tokenizer_close(dc_tokenizer *t)
{
    if (!t) return;
    dc_vocabulary_free(&t->v);
    dc_specials_free(&t->special);
    free(t);
}

int dc_tokenizer_start(const dc_tokenizer *t) { return t->special.start; }
int dc_tokenizer_end(const dc_tokenizer *t) { return t->special.end; }
int dc_tokenizer_pad(const dc_tokenizer *t) { return t->special.pad; }
void dc_tokenizer_pad_with(dc_tokenizer *t, int id) { t->special.pad = id; }
void dc_tokenizer_clean_texts(dc_tokenizer *t) { t->clean = true; }
int dc_tokenizer_vocab_size(const dc_tokenizer *t) { return t->v.size; }
int dc_tokenizer_max_length(const dc_tokenizer *t) { return t->special.max_length; }
dc_status dc_tokenizer_text(const dc_tokenizer *t, dc_text *vocab, dc_text *merges, dc_error *e)
{
    return dc_vocabulary_text(&t->v, vocab, merges, e);
}
const char *dc_tokenizer_token(const dc_tokenizer *t, int id) { return id >= 0 && id < t->v.size ? t->v.token[id] : NULL; }

/* ---- splitting -------------------------------------------------------------------------------------------------
 * <\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+, white space is dropped */

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
    if (dc_is_number(c[0])) return 1;
    bool letters = dc_is_letter(c[0]);
    for (i = 1; i < n && !dc_is_space(c[i]) && dc_is_letter(c[i]) == letters && !dc_is_number(c[i]); i++) continue;
    return i;
}

/* ---- BPE ------------------------------------------------------------------------------------------------------------------ */

/* Symbols of a word as a linked list, and a heap of possible merges: lowest rank first, then leftmost. */
typedef struct symbol {
    int32_t id, before, after;
} symbol;
typedef struct candidate {
    int32_t rank, at, left, right, result;
} candidate;
typedef struct word {
    symbol *s;
    candidate *heap;
    size_t n, room, heaped;
    bool failed;
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
    size_t i = 0;
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
    int32_t left = w->s[at].id, right = w->s[w->s[at].after].id;
    const dc_merge *m = dc_vocabulary_merge(v, left, right);
    if (m) heap_push(w, (candidate){m->rank, at, left, right, m->result});
}

/* Every merge pushes at most two more, so 3n candidates are enough. */
static bool word_room(word *w, size_t n)
{
    if (n <= w->room) return true;
    free(w->s);
    free(w->heap);
    w->s = malloc(n * sizeof *w->s);
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
        symbol *a = &w->s[c.at];
        if (a->id != c.left || a->after < 0 || w->s[a->after].id != c.right) continue; /* merged away meanwhile */
        symbol *b = &w->s[a->after];
        a->id = c.result;
        a->after = b->after;
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

/* Characters of "<|startoftext|>" or "<|endoftext|>" at c: 0, when it is none. (As special tokens they were cut out already, unless
 * the folder says that they are found in small letters only, and these were capitals.) */
static size_t bracketed(const int32_t *c, size_t n)
{
    static const char *const texts[] = {"<|startoftext|>", "<|endoftext|>"};
    for (int k = 0; k < 2; k++) {
        size_t i = 0, size = strlen(texts[k]);
        while (i < size && i < n && c[i] == texts[k][i]) i++;
        if (i == size) return size;
    }
    return 0;
}

/* Words of normalised text without special tokens. */
static dc_status encode_plain(const dc_tokenizer *t, const int32_t *c, size_t n, word *w, int32_t *ids, size_t *count, dc_error *e)
{
    dc_status s = DC_OK;
    for (size_t i = 0; !s && i < n;) {
        size_t k = c[i] == '<' ? bracketed(c + i, n - i) : 0;
        if (k) { /* one piece of the pattern, which the byte-level step splits into three */
            s = encode_word(t, c + i, 2, w, ids, count, e);
            if (!s) s = encode_word(t, c + i + 2, k - 4, w, ids, count, e);
            if (!s) s = encode_word(t, c + i + k - 2, 2, w, ids, count, e);
        } else if (dc_is_space(c[i])) {
            k = 1;
        } else {
            k = word_length(c + i, n - i);
            s = encode_word(t, c + i, k, w, ids, count, e);
        }
        i += k;
    }
    return s;
}

/* Normalised text; words end where special tokens begin. */
static dc_status encode_small(const dc_tokenizer *t, const int32_t *c, size_t n, word *w, int32_t *ids, size_t *count, dc_error *e)
{
    dc_status s = DC_OK;
    while (!s && n) {
        const dc_special *found = NULL;
        size_t plain = 0, used;
        while (plain < n && !(found = dc_special_in_small(&t->special, c + plain, n - plain))) plain++;
        s = encode_plain(t, c, plain, w, ids, count, e);
        used = plain + (found ? found->small_length : 0);
        if (found) ids[(*count)++] = found->id;
        c += used;
        n -= used;
    }
    return s;
}

/* ---- the face ---------------------------------------------------------------------------------------------------------------- */

static dc_status tokenize(const dc_tokenizer *t, const char *text, size_t n, int32_t **ids, int *count, dc_error *e)
{
    /* NFC makes at most 3 times as many bytes (Unicode's own bound), small letters half as many again, each byte at most one id */
    int32_t *out = malloc(sizeof(int32_t) * (5 * n + 1));
    size_t made = 0;
    word w = {0};
    dc_status s = out ? DC_OK : dc_fail_memory(e, "token ids", 20 * n);
    while (!s && n) {
        const dc_special *found = NULL;
        size_t plain = 0, used, length = 0;
        int32_t *c = NULL;
        while (plain < n && !(found = dc_special_in_text(&t->special, text + plain, n - plain))) plain++;
        if (plain) s = dc_normalise(text, plain, &c, &length, e);
        if (!s) s = encode_small(t, c, length, &w, out, &made, e);
        free(c);
        if (found) out[made++] = found->id;
        used = plain + (found ? found->length : 0);
        text += used;
        n -= used;
    }
    free(w.s);
    free(w.heap);
    if (s) {
        free(out);
        return s;
    }
    *ids = out;
    *count = (int)made;
    return DC_OK;
}

dc_status dc_tokenize(const dc_tokenizer *t, const char *text, size_t n, int32_t **ids, int *count, dc_error *e)
{
    char *cleaned = NULL;
    *ids = NULL;
    *count = 0;
    if (n > MAX_TEXT) return dc_fail(e, DC_USAGE, "prompt: found %zu bytes, expected at most %d", n, MAX_TEXT);
    if (!dc_utf8_valid(text, n)) return dc_fail(e, DC_USAGE, "prompt: found bytes that are not UTF-8, expected UTF-8 text");
    dc_status s = t->clean ? dc_clean(&cleaned, &n, text, n, e) : DC_OK;
    if (!s) s = tokenize(t, cleaned ? cleaned : text, n, ids, count, e);
    free(cleaned);
    return s;
}

dc_status dc_tokenize_padded(const dc_tokenizer *t, const char *text, int length, int32_t *out, int *cut, dc_error *e)
{
    int32_t *ids = NULL;
    int n = 0;
    if (cut) *cut = 0;
    if (length < 2) return dc_fail(e, DC_USAGE, "prompt: found room for %d tokens, expected at least 2 (start and end)", length);
    dc_status s = dc_tokenize(t, text, strlen(text), &ids, &n, e);
    if (s) return s;
    int kept = n < length - 2 ? n : length - 2;
    if (cut) *cut = n - kept;
    out[0] = t->special.start;
    memcpy(out + 1, ids, (size_t)kept * sizeof *out);
    out[kept + 1] = t->special.end;
    for (int i = kept + 2; i < length; i++) out[i] = t->special.pad;
    free(ids);
    return DC_OK;
}
