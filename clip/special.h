/* special.h - tokens that are found in a text as they are, before words are made: <|startoftext|>, <|endoftext|>, the padding token
 * (SD 2's "!" is one), learned ones like <cat-toy>. Private to this folder. Ref: transformers 5 PreTrainedTokenizerBase._from_pretrained
 * and TokenizersBackend.__init__ (which files count and who wins), tokenizers AddedVocabulary (how they are found). */
#ifndef DC_CLIP_SPECIAL_H
#define DC_CLIP_SPECIAL_H
#include "base/json.h"
#include "clip/vocabulary.h"

typedef struct dc_special {
    char *text;
    size_t length;
    int32_t *small; /* its normalised form, when it is looked for in normalised text; else NULL */
    size_t small_length;
    int32_t id;
} dc_special;

typedef struct dc_specials {
    dc_special *at;
    int n;
    bool begins[256]; /* first bytes of those that are looked for in the text as it is */
    bool any_small;   /* some are looked for in normalised text */
    int32_t start, end, pad;
    int max_length; /* model_max_length; 77 when the folder does not say */
} dc_specials;

/* From tokenizer_config.json, special_tokens_map.json, added_tokens.json of a folder, which may all be missing, and tokenizer.json
 * (NULL: there is none). Tokens that the vocabulary lacks are added to it. Errors: DATA, NO_MEMORY. */
dc_status dc_specials_read(dc_specials *s, dc_vocabulary *v, const char *folder, const json_t *tokenizer, dc_error *e);
/* As the published SD 1.x folders say: <|startoftext|> is found in any case, <|endoftext|> in small letters and is the padding.
 * `file` is for messages. Errors: DATA (the vocabulary has them not), NO_MEMORY. */
dc_status dc_specials_usual(dc_specials *s, dc_vocabulary *v, const char *file, dc_error *e);
void dc_specials_free(dc_specials *s);

/* The longest special token that the text begins with; NULL: none. The first for texts as they are, the second for normalised ones. */
const dc_special *dc_special_in_text(const dc_specials *s, const char *text, size_t n);
const dc_special *dc_special_in_small(const dc_specials *s, const int32_t *c, size_t n);

#endif
