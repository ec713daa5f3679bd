/* text.h - growing byte strings and small text questions. */
#ifndef DC_BASE_TEXT_H
#define DC_BASE_TEXT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growing byte string, always NUL-terminated once non-empty. Zero-initialise it. After a failed
 * allocation `failed` stays set and further appends do nothing: check once, at the end. */
typedef struct dc_text {
    char *at;
    size_t length, capacity;
    bool failed;
} dc_text;

void dc_text_append(dc_text *t, const void *bytes, size_t n);
void dc_text_printf(dc_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void dc_text_free(dc_text *t); /* also resets it to the zero state */

/* strdup that survives NULL (returns NULL). The caller frees. */
char *dc_strdup(const char *s);
bool dc_ends_with(const char *s, const char *tail);
/* printf into a new string; NULL when memory is out. The caller frees. */
char *dc_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* True when the n bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool dc_utf8_valid(const char *s, size_t n);
/* Decodes one code point at s (n > 0 bytes left, valid UTF-8) and returns its length in bytes. */
int dc_utf8_decode(const char *s, size_t n, uint32_t *codepoint);
/* Writes a code point (not a surrogate) in one to four bytes at `to` and returns their end; no NUL. */
char *dc_utf8_encode(char *to, uint32_t codepoint);

/* Copies s into out[size], with control characters (C0, C1, DEL), bidi controls and invalid UTF-8 as \xNN,
 * cut to fit with "..." when it is too long. Returns out. */
char *dc_escape(char *out, size_t size, const char *s);

/* The closest of `names` (n of them) to `word`, case-insensitive edit distance; writes up to 3 as
 * "a, b or c" into out; "" when nothing is near. */
void dc_nearest_names(char *out, size_t size, const char *word, const char *const *names, int n);

#endif
