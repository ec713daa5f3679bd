/* vocabulary.h - tokens and merges of a byte-level BPE; private to this folder. */
#ifndef DC_CLIP_VOCABULARY_H
#define DC_CLIP_VOCABULARY_H
#include "base/json.h"
#include "base/status.h"
#include "base/text.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DC_TOKEN_BYTES      4096        /* longest token or merge line */
#define DC_VOCABULARY_BYTES (64u << 20) /* largest vocab.json, merges.txt, tokenizer.json */

typedef struct dc_merge {
    uint64_t pair;
    int32_t rank, result;
} dc_merge; /* pair: left id << 32 | right id */

typedef struct dc_vocabulary {
    char **token; /* by id; NULL where the file has a gap (refused when read) */
    int size, appended;
    int32_t *by_text; /* hash table of ids, -1 empty */
    uint32_t text_mask;
    dc_merge *by_pair; /* hash table, rank -1 empty */
    uint32_t pair_mask;
    int merges;
    int32_t byte_id[256], byte_end_id[256]; /* a byte inside a word, and at its end */
} dc_vocabulary;

/* vocab.json and merges.txt of a folder; when both are missing, `tokenizer`: its parsed tokenizer.json (NULL: there is none).
 * Errors: NO_INPUT, DATA (ids not dense, a byte without a token, merges of unknown tokens, over the limits), NO_MEMORY. */
dc_status dc_vocabulary_read(dc_vocabulary *v, const char *folder, const json_t *tokenizer, dc_error *e);
/* A gzipped merge list; the vocabulary of `size` is 256 bytes, 256 with </w>, size - 514 merges, <|startoftext|>, <|endoftext|>. */
dc_status dc_vocabulary_from_merges(dc_vocabulary *v, const char *file, int size, dc_error *e);
void dc_vocabulary_free(dc_vocabulary *v);
/* As vocab.json and merges.txt (vocabulary_text.c). Errors: NO_MEMORY. */
dc_status dc_vocabulary_text(const dc_vocabulary *v, dc_text *vocab, dc_text *merges, dc_error *e);
/* A token behind all others, *id. `path` is for messages. Errors: DATA (too many of them), NO_MEMORY. */
dc_status dc_vocabulary_append(dc_vocabulary *v, const char *text, int32_t *id, const char *path, dc_error *e);
int32_t dc_vocabulary_find(const dc_vocabulary *v, const char *text, size_t n); /* -1: not there */
/* The merge of two neighbours; NULL: none. */
const dc_merge *dc_vocabulary_merge(const dc_vocabulary *v, int32_t left, int32_t right);

#endif
