/* pull.h - reads JSON of a known shape, value by value and in place; private to this folder.
 *
 * For headers and indexes that can be large and hostile: nothing is built, strings are decoded inside the text's own buffer, so memory
 * is the text and what the caller keeps; nothing recurses. Every byte is checked as strictly as a whole parser would. */
#ifndef DC_WEIGHTS_PULL_H
#define DC_WEIGHTS_PULL_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct dc_pull {
    const char *path; /* for messages, with `part` ("header") and the byte in the file */
    const char *part;
    uint64_t origin;        /* byte of the file at which the text begins */
    char *begin, *at, *end; /* end[0] is 0 */
    dc_error *e;
} dc_pull;

/* The n bytes of `text` (writable, text[n] == 0, owned by the caller and kept while strings are used).
 * DATA when they are not UTF-8. */
dc_status dc_pull_begin(dc_pull *p, const char *path, const char *part, uint64_t origin, char *text, uint64_t n, dc_error *e);
/* Byte of the file at which the next token stands. */
uint64_t dc_pull_byte(dc_pull *p);
/* DATA: "PATH: PART, byte N: what: found '...', expected ..." at the present place. */
dc_status dc_pull_bad(dc_pull *p, const char *what, const char *expected);
/* Takes the character if it is the next token. */
bool dc_pull_take(dc_pull *p, char c);
bool dc_pull_take_null(dc_pull *p);
/* A string without NUL; *out points into the text. */
dc_status dc_pull_string(dc_pull *p, const char **out, const char *what);
/* "key" and the colon behind it. */
dc_status dc_pull_key(dc_pull *p, const char **out, const char *what);
/* A whole number 0 .. 2^63-1, without sign, fraction or exponent. */
dc_status dc_pull_number(dc_pull *p, uint64_t *out, const char *what);
/* Skips one value of any kind, at most 64 levels deep. */
dc_status dc_pull_skip(dc_pull *p);
/* Only white space may follow. */
dc_status dc_pull_end(dc_pull *p);

#endif
