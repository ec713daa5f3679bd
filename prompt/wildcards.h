/* wildcards.h - the lines of wildcard files; private to this folder. */
#ifndef DC_PROMPT_WILDCARDS_H
#define DC_PROMPT_WILDCARDS_H
#include "base/status.h"
#include <stddef.h>

typedef struct wildcard_lines {
    char **line; /* sorted by bytes, each once */
    int n;
    char **file; /* the text that the lines lie in */
    int files;
} wildcard_lines;
/* Of all files FOLDER/NAME.txt; NAME may have *, ? and [..], which match a slash, too. When there is none, of those of that name in
 * any folder below. None found is no error.
 * Errors: DENIED (a name that leaves the folder), DATA (too large, too many, not UTF-8), NO_INPUT, IO, NO_MEMORY. */
dc_status wildcard_read(wildcard_lines *w, const char *folder, const char *name, dc_error *e);
void wildcard_free(wildcard_lines *w);

#endif
