/* unicode.c - classes, NFC and small letters. Ref: Unicode Standard Annex 15 (normalization forms), section 3.11 of the standard. */
#include "clip/unicode.h"
#include "base/text.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- tables ------------------------------------------------------------------------------------------------------ */

typedef struct range {
    int32_t first, last;
} range;

/* Letters and numbers that came with Unicode 15.1 and 16.0. */
static const range new_letters[] = {
    {0x1c89, 0x1c8a},   {0xa7cb, 0xa7cd},   {0xa7da, 0xa7dc},   {0x105c0, 0x105f3}, {0x10d4a, 0x10d65}, {0x10d6f, 0x10d85},
    {0x10ec2, 0x10ec4}, {0x11380, 0x11389}, {0x1138b, 0x1138b}, {0x1138e, 0x1138e}, {0x11390, 0x113b5}, {0x113b7, 0x113b7},
    {0x113d1, 0x113d1}, {0x113d3, 0x113d3}, {0x11bc0, 0x11be0}, {0x13460, 0x143fa}, {0x16100, 0x1611d}, {0x16d40, 0x16d6c},
    {0x18cff, 0x18cff}, {0x1e5d0, 0x1e5ed}, {0x1e5f0, 0x1e5f0}, {0x2ebf0, 0x2ee5d},
};
static const range new_numbers[] = {
    {0x10d40, 0x10d49}, {0x116d0, 0x116e3}, {0x11bf0, 0x11bf9}, {0x16130, 0x16139}, {0x16d70, 0x16d79}, {0x1ccf0, 0x1ccf9}, {0x1e5f1, 0x1e5fa},
};

/* Marks that came after Unicode 9.0: the reference's NFC leaves them where they are, as if they were letters. Then the later
 * scripts that have characters which decompose. */
static const range unordered[] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},     {0xd3b, 0xd3c},     {0xeba, 0xeba},
    {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},   {0xa82c, 0xa82c},   {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff},
    {0x10f46, 0x10f50}, {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x11380, 0x113ff}, {0x1145e, 0x1145e}, {0x11839, 0x1183a},
    {0x11930, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45},
    {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x16100, 0x1613f}, {0x16d40, 0x16d7f}, {0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136},
    {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef},
};

/* Small letters that came with Unicode 16.0 and 17.0: capital + `by`, every `step`th from first to last. */
static const struct {
    int32_t first, last, step, by;
} new_small[] = {
    {0x1c89, 0x1c89, 1, 1},    {0xa7cb, 0xa7cb, 1, 0x264 - 0xa7cb}, {0xa7cc, 0xa7d4, 2, 1},
    {0xa7da, 0xa7da, 1, 1},    {0xa7dc, 0xa7dc, 1, 0x19b - 0xa7dc}, {0x10d50, 0x10d65, 1, 32},
    {0x16ea0, 0x16eb8, 1, 27},
};

static bool within(const range *table, size_t n, int32_t c)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (table[middle].last < c) low = middle + 1;
        else high = middle;
    }
    return low < n && table[low].first <= c;
}

#define WITHIN(table, c) within(table, sizeof table / sizeof *table, c)

/* ---- classes ------------------------------------------------------------------------------------------------------ */

bool dc_is_space(int32_t c) /* Unicode's White_Space */
{
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool dc_is_letter(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) || WITHIN(new_letters, c);
}

bool dc_is_number(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO) || WITHIN(new_numbers, c);
}

/* ---- NFC ---------------------------------------------------------------------------------------------------------- */

static int combining_class(int32_t c) { return c < 0x300 || WITHIN(unordered, c) ? 0 : utf8proc_get_property(c)->combining_class; }

#define MOST_PARTS 4 /* of a canonical decomposition */

/* Decomposes c to out[MOST_PARTS]; returns the number of parts. */
static size_t decompose(int32_t c, int32_t *out)
{
    int boundary = 0;
    utf8proc_ssize_t n = 0;
    if (c >= 0xc0 && !WITHIN(unordered, c)) n = utf8proc_decompose_char(c, out, MOST_PARTS, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &boundary);
    if (n >= 1 && n <= MOST_PARTS) return (size_t)n;
    out[0] = c;
    return 1;
}

/* The composition of two characters, 0 when there is none. */
static int32_t compose(int32_t a, int32_t b)
{
    if (b < 0x300 || WITHIN(unordered, a) || WITHIN(unordered, b)) return 0;
    utf8proc_int32_t pair[3] = {a, b};
    return utf8proc_normalize_utf32(pair, 2, UTF8PROC_STABLE | UTF8PROC_COMPOSE) == 1 ? pair[0] : 0;
}

/* Marks by their class, those of one class in their order: a counting sort, as a text may be nothing but marks. */
static void sort_marks(int32_t *c, size_t n, int32_t *scratch)
{
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++) start[combining_class(c[i]) + 1]++;
    for (int k = 0; k < 256; k++) start[k + 1] += start[k];
    for (size_t i = 0; i < n; i++) scratch[start[combining_class(c[i])]++] = c[i];
    memcpy(c, scratch, n * sizeof *c);
}

static void order_marks(int32_t *c, size_t n, int32_t *scratch)
{
    for (size_t i = 0; i < n; i++) {
        size_t from = i;
        while (i < n && combining_class(c[i])) i++;
        if (i - from > 1) sort_marks(c + from, i - from, scratch);
    }
}

/* Composes in place; returns the new length. A mark joins the last letter unless a mark of its class or higher lies between. */
static size_t compose_all(int32_t *c, size_t n)
{
    size_t made = 0, letter = SIZE_MAX;
    int last = 0;
    for (size_t i = 0; i < n; i++) {
        int k = combining_class(c[i]);
        bool joins = letter != SIZE_MAX && (made == letter + 1 || last < k);
        int32_t joined = joins ? compose(c[letter], c[i]) : 0;
        if (joined) {
            c[letter] = joined;
            continue;
        }
        if (!k) letter = made;
        last = k;
        c[made++] = c[i];
    }
    return made;
}

/* ---- small letters, blanks ------------------------------------------------------------------------------------------ */

static int32_t small(int32_t c)
{
    for (size_t i = 0; c >= 0x1c89 && i < sizeof new_small / sizeof *new_small; i++)
        if (c >= new_small[i].first && c <= new_small[i].last && (c - new_small[i].first) % new_small[i].step == 0 && utf8proc_tolower(c) == c)
            return c + new_small[i].by;
    return utf8proc_tolower(c);
}

static size_t finish(const int32_t *c, size_t n, int32_t *out)
{
    size_t made = 0;
    for (size_t i = 0; i < n; i++) {
        if (dc_is_space(c[i])) {
            if (!i || !dc_is_space(c[i - 1])) out[made++] = ' ';
        } else if (c[i] == 0x130) { /* the one letter whose small form is two characters */
            out[made++] = 'i';
            out[made++] = 0x307;
        } else {
            out[made++] = small(c[i]);
        }
    }
    return made;
}

dc_status dc_normalise(const char *text, size_t n, int32_t **out, size_t *count, dc_error *e)
{
    int32_t *parts = malloc((MOST_PARTS * n + 1) * sizeof *parts);
    size_t made = 0;
    *count = 0;
    *out = malloc((MOST_PARTS * n + 1) * sizeof **out); /* also the scratch of sorting */
    if (!parts || !*out) {
        free(parts);
        free(*out);
        *out = NULL;
        return dc_fail_memory(e, "a prompt", 2 * (MOST_PARTS * n + 1) * sizeof *parts);
    }
    for (size_t at = 0; at < n;) {
        uint32_t c;
        at += (size_t)dc_utf8_decode(text + at, n - at, &c);
        made += decompose((int32_t)c, parts + made);
    }
    order_marks(parts, made, *out);
    *count = finish(parts, compose_all(parts, made), *out);
    free(parts);
    return DC_OK;
}
