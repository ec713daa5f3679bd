/* pull.c - JSON of a known shape, in place. Ref: RFC 8259. */
#include "weights/pull.h"
#include "base/checked.h"
#include "base/text.h"
#include <stdio.h>
#include <string.h>

#define MAX_DEPTH 64

dc_status dc_pull_begin(dc_pull *p, const char *path, const char *part, uint64_t origin, char *text, uint64_t n, dc_error *e)
{
    *p = (dc_pull){path, part, origin, text, text, text + n, e};
    if (dc_utf8_valid(text, n)) return DC_OK;
    uint64_t good = 0; /* where the first bad byte is: one character more at a time, of 1 to 4 bytes */
    for (uint64_t k = 1; good < n && k <= 4 && k <= n - good; k++)
        if (dc_utf8_valid(text + good, k)) good += k, k = 0;
    p->at = text + good;
    return dc_pull_bad(p, "text", "UTF-8");
}

static void skip_space(dc_pull *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r')) p->at++;
}

uint64_t dc_pull_byte(dc_pull *p)
{
    skip_space(p);
    return p->origin + (uint64_t)(p->at - p->begin);
}

dc_status dc_pull_bad(dc_pull *p, const char *what, const char *expected)
{
    char found[32] = "its end";
    ptrdiff_t left = p->end - p->at;
    if (left > 0) snprintf(found, sizeof found, "'%.*s'", (int)(left < 12 ? left : 12), p->at);
    if (left > 0 && !*p->at) snprintf(found, sizeof found, "a NUL byte");
    return dc_fail(p->e, DC_DATA, "%s: %s, byte %llu: %s: found %s, expected %s", p->path, p->part,
                   (unsigned long long)(p->origin + (uint64_t)(p->at - p->begin)), what, found, expected);
}

bool dc_pull_take(dc_pull *p, char c)
{
    skip_space(p);
    if (p->at >= p->end || *p->at != c) return false;
    p->at++;
    return true;
}

static bool take_word(dc_pull *p, const char *word)
{
    size_t n = strlen(word);
    skip_space(p);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, word, n) != 0) return false;
    p->at += n;
    return true;
}

bool dc_pull_take_null(dc_pull *p) { return take_word(p, "null"); }

/* ---- strings ----------------------------------------------------------------------------------------------------- */

static int hex4(const char *at, const char *end)
{
    int v = 0;
    if (end - at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char d = at[i];
        int n = d >= '0' && d <= '9' ? d - '0' : d >= 'a' && d <= 'f' ? d - 'a' + 10 : d >= 'A' && d <= 'F' ? d - 'A' + 10 : -1;
        if (n < 0) return -1;
        v = 16 * v + n;
    }
    return v;
}

/* XXXX behind \u, surrogate pairs joined; 0 when malformed, a lone surrogate or NUL. */
static uint32_t take_hex(dc_pull *p)
{
    int v = hex4(p->at, p->end);
    if (v <= 0 || (v >= 0xdc00 && v <= 0xdfff)) return 0;
    p->at += 4;
    if (v < 0xd800 || v > 0xdbff) return (uint32_t)v;
    if (p->end - p->at < 6 || p->at[0] != '\\' || p->at[1] != 'u') return 0;
    int low = hex4(p->at + 2, p->end);
    if (low < 0xdc00 || low > 0xdfff) return 0;
    p->at += 6;
    return 0x10000u + ((uint32_t)(v - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
}

/* One escape, behind its backslash; its character goes to *to, which never overtakes p->at. */
static dc_status take_escape(dc_pull *p, char **to, const char *what)
{
    static const char written[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *known = p->at < p->end && *p->at ? strchr(written, *p->at) : NULL;
    if (known) {
        *(*to)++ = meant[known - written];
        p->at++;
        return DC_OK;
    }
    if (p->at >= p->end || *p->at != 'u') return dc_pull_bad(p, what, "an escape of JSON");
    p->at++;
    uint32_t c = take_hex(p);
    if (!c) return dc_pull_bad(p, what, "four hex digits of a character that is not NUL");
    *to = dc_utf8_encode(*to, c);
    return DC_OK;
}

dc_status dc_pull_string(dc_pull *p, const char **out, const char *what)
{
    if (!dc_pull_take(p, '"')) return dc_pull_bad(p, what, "a string");
    char *to = p->at;
    *out = to;
    while (p->at < p->end && *p->at != '"') {
        if ((unsigned char)*p->at < 0x20) return dc_pull_bad(p, what, "no control character");
        if (*p->at != '\\') {
            *to++ = *p->at++;
            continue;
        }
        p->at++;
        dc_status s = take_escape(p, &to, what);
        if (s) return s;
    }
    if (p->at >= p->end) return dc_pull_bad(p, what, "a closing quote");
    p->at++;
    *to = 0; /* at the closing quote or before it */
    return DC_OK;
}

dc_status dc_pull_key(dc_pull *p, const char **out, const char *what)
{
    dc_status s = dc_pull_string(p, out, what);
    return !s && !dc_pull_take(p, ':') ? dc_pull_bad(p, what, "':'") : s;
}

/* ---- numbers ------------------------------------------------------------------------------------------------------ */

static bool is_digit(const dc_pull *p) { return p->at < p->end && *p->at >= '0' && *p->at <= '9'; }

dc_status dc_pull_number(dc_pull *p, uint64_t *out, const char *what)
{
    skip_space(p);
    char *from = p->at;
    uint64_t v = 0;
    bool fits = true;
    for (; is_digit(p); p->at++) fits = fits && dc_mul_u64(v, 10, &v) && dc_add_u64(v, (uint64_t)(*p->at - '0'), &v) && v <= INT64_MAX;
    bool whole = p->at > from && (*from != '0' || p->at - from == 1) && (p->at == p->end || !*p->at || !strchr(".eE+-", *p->at));
    *out = v;
    if (whole && fits) return DC_OK;
    p->at = from;
    return dc_pull_bad(p, what, whole ? "a number below 2^63" : "a whole number");
}

static bool skip_digits(dc_pull *p)
{
    char *from = p->at;
    while (is_digit(p)) p->at++;
    return p->at > from;
}

/* Any number of JSON. */
static bool skip_number(dc_pull *p)
{
    if (p->at < p->end && *p->at == '-') p->at++;
    if (p->at < p->end && *p->at == '0') p->at++;
    else if (!skip_digits(p)) return false;
    if (p->at < p->end && *p->at == '.') {
        p->at++;
        if (!skip_digits(p)) return false;
    }
    if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
        p->at++;
        if (p->at < p->end && (*p->at == '+' || *p->at == '-')) p->at++;
        if (!skip_digits(p)) return false;
    }
    return true;
}

/* ---- values of no interest ------------------------------------------------------------------------------------------- */

static dc_status skip_scalar(dc_pull *p)
{
    const char *ignored;
    skip_space(p);
    if (p->at < p->end && *p->at == '"') return dc_pull_string(p, &ignored, "string");
    if (take_word(p, "true") || take_word(p, "false") || take_word(p, "null") || skip_number(p)) return DC_OK;
    return dc_pull_bad(p, "value", "one of JSON");
}

dc_status dc_pull_skip(dc_pull *p)
{
    bool object[MAX_DEPTH]; /* is the level an object? */
    int depth = 0;
    const char *ignored;
    for (;;) { /* a value begins here */
        bool opens = false;
        dc_status s = DC_OK;
        skip_space(p);
        if (p->at < p->end && (*p->at == '{' || *p->at == '[')) {
            if (depth == MAX_DEPTH) return dc_pull_bad(p, "nesting", "at most 64 levels");
            object[depth] = *p->at++ == '{';
            opens = !dc_pull_take(p, object[depth] ? '}' : ']');
            if (opens && object[depth]) s = dc_pull_key(p, &ignored, "key");
            depth += opens;
        } else {
            s = skip_scalar(p);
        }
        if (s) return s;
        if (opens) continue;
        while (depth > 0 && !dc_pull_take(p, ',')) { /* a value has ended, and with it perhaps the levels around it */
            if (!dc_pull_take(p, object[depth - 1] ? '}' : ']')) return dc_pull_bad(p, "value", object[depth - 1] ? "',' or '}'" : "',' or ']'");
            depth--;
        }
        if (!depth) return DC_OK;
        if (object[depth - 1] && (s = dc_pull_key(p, &ignored, "key")) != DC_OK) return s;
    }
}

dc_status dc_pull_end(dc_pull *p)
{
    skip_space(p);
    return p->at == p->end ? DC_OK : dc_pull_bad(p, "behind the closing brace", "only white space");
}
