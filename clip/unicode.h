/* unicode.h - characters as CLIP's tokenizer sees them; for this folder and prompt/.
 *
 * The reference (transformers 5 on the tokenizers library) mixes three versions of Unicode: its NFC knows 9.0, its letters and
 * numbers are of 16.0, its small letters of 17.0. utf8proc has one version, whatever the system's is; tables bridge the difference. */
#ifndef DC_CLIP_UNICODE_H
#define DC_CLIP_UNICODE_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool dc_is_space(int32_t c);  /* \s */
bool dc_is_letter(int32_t c); /* \p{L} */
bool dc_is_number(int32_t c); /* \p{N} */

/* Code points of `text` (n bytes of valid UTF-8): composed (NFC), each run of white space one blank, small letters.
 * The caller frees *out. Errors: NO_MEMORY. */
dc_status dc_normalise(const char *text, size_t n, int32_t **out, size_t *count, dc_error *e);

#endif
