#include "base/text.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- growing strings ------------------------------------------------------------------------------------- */

static bool make_room(dc_text *t, size_t more)
{
    if (t->failed) return false;
    if (more > SIZE_MAX / 4 - t->length) return !(t->failed = true);
    size_t need = t->length + more + 1;
    if (need <= t->capacity) return true;
    size_t capacity = t->capacity ? t->capacity : 64;
    while (capacity < need) capacity *= 2;
    char *at = realloc(t->at, capacity);
    if (!at) return !(t->failed = true);
    t->at = at;
    t->capacity = capacity;
    return true;
}

void dc_text_append(dc_text *t, const void *bytes, size_t n)
{
    if (!make_room(t, n)) return;
    if (n) memcpy(t->at + t->length, bytes, n);
    t->length += n;
    t->at[t->length] = 0;
}

void dc_text_printf(dc_text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    if (n < 0) t->failed = true;
    else if (make_room(t, (size_t)n)) {
        vsnprintf(t->at + t->length, (size_t)n + 1, format, again);
        t->length += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

void dc_text_free(dc_text *t)
{
    free(t->at);
    *t = (dc_text){0};
}

char *dc_strdup(const char *s) { return s ? strdup(s) : NULL; }

char *dc_format(const char *format, ...)
{
    char *out = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&out, format, args);
    va_end(args);
    return n < 0 ? NULL : out;
}

/* ---- UTF-8 ------------------------------------------------------------------------------------------------ */

/* Length of the well-formed sequence at s (n bytes left), or 0. Ref: Unicode table 3-7. */
static int sequence(const unsigned char *s, size_t n)
{
    if (n == 0) return 0;
    if (s[0] < 0x80) return 1;
    int length = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : s[0] >= 0xe0 && s[0] <= 0xef ? 3 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;
    if (!length || (size_t)length > n) return 0;
    for (int i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (s[0] == 0xe0 && s[1] < 0xa0) return 0; /* overlong */
    if (s[0] == 0xed && s[1] > 0x9f) return 0; /* surrogate */
    if (s[0] == 0xf0 && s[1] < 0x90) return 0; /* overlong */
    if (s[0] == 0xf4 && s[1] > 0x8f) return 0; /* above U+10FFFF */
    return length;
}

bool dc_utf8_valid(const char *s, size_t n)
{
    const unsigned char *at = (const unsigned char *)s;
    while (n) {
        int length = sequence(at, n);
        if (!length) return false;
        at += length;
        n -= (size_t)length;
    }
    return true;
}

int dc_utf8_decode(const char *s, size_t n, uint32_t *codepoint)
{
    const unsigned char *u = (const unsigned char *)s;
    int k = sequence(u, n);
    switch (k) {
    case 2: *codepoint = (uint32_t)(u[0] & 0x1f) << 6 | (u[1] & 0x3f); break;
    case 3: *codepoint = (uint32_t)(u[0] & 0x0f) << 12 | (uint32_t)(u[1] & 0x3f) << 6 | (u[2] & 0x3f); break;
    case 4: *codepoint = (uint32_t)(u[0] & 0x07) << 18 | (uint32_t)(u[1] & 0x3f) << 12 | (uint32_t)(u[2] & 0x3f) << 6 | (u[3] & 0x3f); break;
    default: *codepoint = u[0]; k = 1;
    }
    return k;
}

char *dc_utf8_encode(char *to, uint32_t c)
{
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    *to++ = (char)(lead[n] | c >> 6 * (n - 1));
    for (int i = n - 2; i >= 0; i--) *to++ = (char)(0x80 | (c >> 6 * i & 63));
    return to;
}

/* Characters that could move a terminal's cursor or turn text around. */
static bool harmful(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x061c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

char *dc_escape(char *out, size_t size, const char *s)
{
    size_t at = 0, n = strlen(s), room = size > 4 ? size - 4 : 0; /* "..." and the end */
    while (n) {
        uint32_t c;
        int k = sequence((const unsigned char *)s, n);
        char piece[20];
        size_t length = 0;
        if (k) dc_utf8_decode(s, n, &c);
        if (k && !harmful(c)) {
            memcpy(piece, s, (size_t)k);
            length = (size_t)k;
        } else {
            if (!k) k = 1;
            for (int i = 0; i < k; i++) length += (size_t)snprintf(piece + length, sizeof piece - length, "\\x%02x", (unsigned char)s[i]);
        }
        if (at + length > room) {
            if (size > 3) memcpy(out + at, "...", 3), at += 3;
            break;
        }
        memcpy(out + at, piece, length);
        at += length;
        s += k;
        n -= (size_t)k;
    }
    if (size) out[at] = 0;
    return out;
}

/* ---- near misses ------------------------------------------------------------------------------------------- */

#define LONGEST 64

static int lower(char c) { return c >= 'A' && c <= 'Z' ? c + 32 : (unsigned char)c; }

/* Optimal string alignment distance (insert, delete, replace, swap of neighbours), letters' case ignored. */
static int distance(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b), row[3][LONGEST + 1];
    if (n > LONGEST || m > LONGEST) return LONGEST;
    for (int j = 0; j <= m; j++) row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 3], *before = row[(i + 2) % 3], *two = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int same = lower(a[i - 1]) == lower(b[j - 1]), best = before[j - 1] + !same;
            if (before[j] + 1 < best) best = before[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]) && two[j - 2] + 1 < best)
                best = two[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[n % 3][m];
}

static bool starts_with(const char *s, const char *prefix)
{
    for (; *prefix; s++, prefix++)
        if (lower(*s) != lower(*prefix)) return false;
    return true;
}

void dc_nearest_names(char *out, size_t size, const char *word, const char *const *names, int n)
{
    const char *best[3] = {NULL, NULL, NULL};
    int score[3] = {0}, found = 0, length = (int)strlen(word), limit = length / 3 + 1;
    for (int i = 0; i < n; i++) {
        int d = distance(word, names[i]);
        if (length >= 3 && d > limit && starts_with(names[i], word)) d = limit; /* a beginning counts as near */
        if (d > limit) continue;
        int at = found < 3 ? found : 3;
        while (at > 0 && score[at - 1] > d) at--;
        if (at >= 3) continue;
        for (int k = found < 3 ? found : 2; k > at; k--) best[k] = best[k - 1], score[k] = score[k - 1];
        best[at] = names[i];
        score[at] = d;
        if (found < 3) found++;
    }
    size_t at = 0;
    if (size) out[0] = 0;
    for (int i = 0; i < found && at < size; i++) {
        const char *join = i == 0 ? "" : i == found - 1 ? " or " : ", ";
        int k = snprintf(out + at, size - at, "%s%s", join, best[i]);
        at += k > 0 ? (size_t)k : 0;
    }
}

bool dc_ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && !strcmp(s + n - k, tail);
}
