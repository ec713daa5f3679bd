/* scan.h - small questions about characters, as Python's re asks them of a str; private to this folder. */
#ifndef DC_PROMPT_SCAN_H
#define DC_PROMPT_SCAN_H
#include <stdbool.h>
#include <stddef.h>

size_t scan_space(const char *s, size_t n);   /* bytes of white space (\s) that s begins with */
size_t scan_trimmed(const char *s, size_t n); /* bytes of s without the white space at its end */
/* \bWORD\b: the first place at or behind `from` where the word (ASCII letters) stands alone; n when there is none. */
size_t scan_word(const char *s, size_t n, size_t from, const char *word);

/* A number with white space around it and nothing else: [+-] digits, of which one may be a point, and an exponent if the caller allows it. */
bool scan_number(const char *s, size_t n, bool exponent, double *out);

#endif
