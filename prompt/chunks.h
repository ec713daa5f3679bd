/* chunks.h - weighted text as rows of tokens, each as long as the text encoder takes: start token, text, end token, padding. */
#ifndef DC_PROMPT_CHUNKS_H
#define DC_PROMPT_CHUNKS_H
#include "clip/tokenizer.h"
#include "prompt/spans.h"

enum { DC_PROMPT_CHUNKS = 64 }; /* of one text */

typedef struct dc_prompt_chunks {
    int n, length;
    int32_t *ids;   /* [n, length] */
    float *weights; /* [n, length] */
    bool weighted;  /* some weight is not 1 */
    int cut;        /* plain syntax: tokens that did not fit */
} dc_prompt_chunks;
/* A1111 (modules/sd_hijack_clip.py, tokenize_line): chunks are filled with end tokens, or with the padding token from the first end token on where
 * that is another; BREAK ends one; text behind a comma among the last 20 tokens goes to the next chunk with what follows.
 * ComfyUI (comfy/sd1_clip.py, tokenize_with_weights): words of fewer than 8 tokens are not torn. Plain: one chunk, the rest is cut off.
 * length >= 3: of the encoder. Errors: USAGE (more than DC_PROMPT_CHUNKS), NO_MEMORY. */
dc_status dc_prompt_chunks_make(dc_prompt_chunks *c, const dc_prompt_spans *s, dc_prompt_syntax syntax, const dc_tokenizer *t, int length,
                                dc_error *e);
void dc_prompt_chunks_free(dc_prompt_chunks *c);
/* The chunk of no text: ids [length]. */
void dc_prompt_empty_chunk(const dc_tokenizer *t, int length, int32_t *ids);

#endif
