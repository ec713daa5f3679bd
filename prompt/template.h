/* template.h - a prompt that is made anew for every seed: {a|b}, {2$$a|b|c}, __file__. Ref: the package dynamicprompts 0.31, whose random generator
 * makes the same choices from the same seed (Python's random.Random).
 *
 * Variants: {0.5::a|2::b} weights, {2$$..} or {1-3$$..} several different ones joined by ",", {2$$ and $$..} or by another text; they may
 * be nested. Wildcards: __colour__ is a line of FOLDER/colour.txt, __dir/colour__ of FOLDER/dir/colour.txt, __*__ of all files there (sorted, each
 * once); empty lines and those that begin with # are none, and lines may hold variants and wildcards again. \{ and \} are braces.
 * Not known: variables ${..}, %{..}, {@..} and comments; a $, % or # is text. */
#ifndef DC_PROMPT_TEMPLATE_H
#define DC_PROMPT_TEMPLATE_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

/* Has the text anything of a template in it? */
bool dc_prompt_is_template(const char *text);
/* The prompt of a seed, in a new string that the caller frees. folder: of the wildcard files; NULL: none, and __x__ stays as it is.
 * Errors: USAGE (braces, with the byte; too deep, too long), NO_INPUT (no such wildcard), DENIED (a path that leaves the folder), DATA
 * (a file that is too large or not UTF-8), IO, NO_MEMORY. */
dc_status dc_prompt_expand(char **out, const char *text, const char *folder, uint64_t seed, dc_error *e);

#endif
