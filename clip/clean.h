/* clean.h - texts as open_clip and OpenAI's CLIP clean them before they are tokenized; private to this folder. */
#ifndef DC_CLIP_CLEAN_H
#define DC_CLIP_CLEAN_H
#include "base/status.h"
#include <stddef.h>

/* Ref: open_clip tokenizer.py basic_clean: ftfy.fix_text, then html.unescape twice; blanks and capitals are dc_normalise's matter. Of ftfy what goes
 * character by character: curly quotes straight, ligatures taken apart, full and half width forms ordinary, C1 controls as Windows-1252 has them,
 * other control characters dropped. Not its guesses at text decoded in a wrong encoding, nor terminal colours. Of HTML's names those of Latin-1 and of
 * common signs (and all numbers), not the other 2,000. text: n bytes of UTF-8. A new string, with its length; the caller frees.
 * Errors: NO_MEMORY. */
dc_status dc_clean(char **out, size_t *length, const char *text, size_t n, dc_error *e);

#endif
