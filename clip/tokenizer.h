/* tokenizer.h - text to token ids, exactly as transformers' CLIPTokenizer (byte-level BPE with "</w>"). */
#ifndef DC_CLIP_TOKENIZER_H
#define DC_CLIP_TOKENIZER_H
#include "base/status.h"
#include "base/text.h"
#include <stdint.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct dc_tokenizer dc_tokenizer; /* read-only after opening: threads may share it */

/* folder: vocab.json + merges.txt, or tokenizer.json; tokenizer_config.json, special_tokens_map.json, added_tokens.json say which
 * tokens are special (found in a text before words are made), which one pads, and model_max_length. Learned tokens get ids behind the
 * vocabulary and count in its size.
 * Errors: NO_INPUT, DATA (ids not dense, merge of unknown tokens, over the limits), NO_MEMORY. */
dc_status dc_tokenizer_open(dc_tokenizer **out, const char *folder, dc_error *e);
/* CLIP's published merge list in packed form (assets/clip_merges.*), cut to `vocab_size` entries (49408: all);
 * special tokens and padding (with the end token) as SD 1.x has them. Errors: NO_INPUT, DATA, NO_MEMORY. */
dc_status dc_tokenizer_open_merges(dc_tokenizer **out, const char *file, int vocab_size, dc_error *e);
void dc_tokenizer_close(dc_tokenizer *t);
/* Pads with another token from now on: open_clip's towers were trained with id 0. */
void dc_tokenizer_pad_with(dc_tokenizer *t, int id);
/* Cleans texts from now on as open_clip and OpenAI do: HTML's escapes, curly quotes, ligatures, ... (clean.h has the rules). */
void dc_tokenizer_clean_texts(dc_tokenizer *t);

int dc_tokenizer_start(const dc_tokenizer *t);
int dc_tokenizer_end(const dc_tokenizer *t);
int dc_tokenizer_pad(const dc_tokenizer *t);
int dc_tokenizer_vocab_size(const dc_tokenizer *t);
int dc_tokenizer_max_length(const dc_tokenizer *t);            /* model_max_length, 77 when not said */
const char *dc_tokenizer_token(const dc_tokenizer *t, int id); /* as in vocab.json; NULL: no such id */
/* Its vocab.json and merges.txt, appended. Errors: NO_MEMORY. */
dc_status dc_tokenizer_text(const dc_tokenizer *t, dc_text *vocab, dc_text *merges, dc_error *e);

/* Ids of `text` (n bytes) without start, end and padding, in a new array; the caller frees *ids.
 * Errors: USAGE (not UTF-8, over 64 KiB), NO_MEMORY. */
dc_status dc_tokenize(const dc_tokenizer *t, const char *text, size_t n, int32_t **ids, int *count, dc_error *e);
/* start + at most length-2 ids + end, then padding up to `length`: out[length]. *cut (may be NULL): how many ids were cut off. */
dc_status dc_tokenize_padded(const dc_tokenizer *t, const char *text, int length, int32_t *out, int *cut, dc_error *e);

#endif
