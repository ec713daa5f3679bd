/* scan.c - see scan.h. */
#include "prompt/scan.h"
#include "base/text.h"
#include "clip/unicode.h"
#include <stdlib.h>
#include <string.h>

static bool is_space(uint32_t c) { return dc_is_space((int32_t)c) || (c >= 0x1c && c <= 0x1f); }
static bool is_word(uint32_t c) { return c == '_' || dc_is_letter((int32_t)c) || dc_is_number((int32_t)c); }

/* The code point before s[at], at > 0; *length: its bytes. */
static uint32_t before(const char *s, size_t at, size_t *length)
{
    uint32_t c;
    size_t from = at - 1;
    while (from > 0 && at - from < 4 && ((unsigned char)s[from] & 0xc0) == 0x80) from--;
    *length = at - from;
    dc_utf8_decode(s + from, *length, &c);
    return c;
}

size_t scan_space(const char *s, size_t n)
{
    size_t i = 0;
    uint32_t c;
    while (i < n) {
        int length = dc_utf8_decode(s + i, n - i, &c);
        if (!is_space(c)) break;
        i += (size_t)length;
    }
    return i;
}

size_t scan_trimmed(const char *s, size_t n)
{
    size_t length;
    while (n && is_space(before(s, n, &length))) n -= length;
    return n;
}

size_t scan_word(const char *s, size_t n, size_t from, const char *word)
{
    size_t size = strlen(word), length;
    uint32_t c;
    for (const char *at; from + size <= n && (at = memmem(s + from, n - from, word, size)); from++) {
        from = (size_t)(at - s);
        bool alone = !from || !is_word(before(s, from, &length));
        if (alone && from + size < n) {
            dc_utf8_decode(s + from + size, n - from - size, &c);
            alone = !is_word(c);
        }
        if (alone) return from;
    }
    return n;
}

static size_t digits(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && s[i] >= '0' && s[i] <= '9') i++;
    return i;
}

bool scan_number(const char *s, size_t n, bool exponent, double *out)
{
    char held[64];
    size_t from = scan_space(s, n);
    n = scan_trimmed(s, n);
    if (from >= n) return false;
    s += from;
    n -= from;
    size_t i = *s == '+' || *s == '-', whole = digits(s + i, n - i), part = 0;
    i += whole;
    if (i < n && s[i] == '.') {
        part = digits(s + i + 1, n - i - 1);
        i += 1 + part;
    }
    if (!whole && !part) return false;
    if (exponent && i + 1 < n && (s[i] | 32) == 'e') {
        size_t sign = s[i + 1] == '+' || s[i + 1] == '-', power = digits(s + i + 1 + sign, n - i - 1 - sign);
        if (power) i += 1 + sign + power;
    }
    if (i != n || n >= sizeof held) return false;
    memcpy(held, s, n);
    held[n] = 0;
    *out = strtod(held, NULL);
    return true;
}
