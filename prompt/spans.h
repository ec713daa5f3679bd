/* spans.h - a prompt as pieces of text with weights: (x:1.2), (x), [x] and BREAK of AUTOMATIC1111's web UI (modules/prompt_parser.py,
 * parse_prompt_attention, v1.10), or (x:1.2) and (x) of ComfyUI (comfy/sd1_clip.py, token_weights). */
#ifndef DC_PROMPT_SPANS_H
#define DC_PROMPT_SPANS_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

enum { DC_PROMPT_NESTING = 256 }; /* most brackets open at a time */

typedef enum dc_prompt_syntax { DC_PROMPT_A1111, DC_PROMPT_COMFYUI, DC_PROMPT_PLAIN } dc_prompt_syntax;

typedef struct dc_prompt_span {
    size_t from, n; /* bytes of `text` */
    double weight;
} dc_prompt_span;
typedef struct dc_prompt_spans {
    char *text; /* the prompt without its brackets and backslashes */
    dc_prompt_span *at;
    int n; /* at least 1 */
} dc_prompt_spans;
/* Plain: one span of weight 1. Errors: USAGE (nested deeper than DC_PROMPT_NESTING, a weight that is no finite number: with the byte), NO_MEMORY. */
dc_status dc_prompt_spans_make(dc_prompt_spans *s, const char *text, size_t n, dc_prompt_syntax syntax, dc_error *e);
void dc_prompt_spans_free(dc_prompt_spans *s);
/* Does a chunk end here? A1111's rule: text "BREAK" of weight -1. Brackets multiply that weight, too, so in (a BREAK b) it is a word. */
bool dc_prompt_is_break(const dc_prompt_spans *s, int i);

#endif
