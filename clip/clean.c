/* clean.c - what is done to texts for open_clip's models. Ref: ftfy 6.3 fixes.py, chardata.py; Python's html.unescape. */
#include "clip/clean.h"
#include "base/text.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static void put(dc_text *to, uint32_t c)
{
    char bytes[4];
    dc_text_append(to, bytes, (size_t)(dc_utf8_encode(bytes, c) - bytes));
}

/* ---- HTML -------------------------------------------------------------------------------------------------------------- */

/* From U+00A0 on; these may come without a semicolon. */
static const char latin1[] =
    "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 sup3 acute micro para middot cedil sup1 ordm "
    "raquo "
    "frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring AElig Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde "
    "Ograve "
    "Oacute Ocirc Otilde Ouml times Oslash Ugrave Uacute Ucirc Uuml Yacute THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave "
    "eacute "
    "ecirc euml igrave iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute thorn yuml ";
static const struct {
    const char *name;
    uint32_t c;
    bool alone; /* also without a semicolon */
} others[] = {{"amp", '&', true},       {"AMP", '&', true},        {"lt", '<', true},         {"LT", '<', true},        {"gt", '>', true},
              {"GT", '>', true},        {"quot", '"', true},       {"QUOT", '"', true},       {"COPY", 0xa9, true},     {"REG", 0xae, true},
              {"apos", '\'', false},    {"ndash", 0x2013, false},  {"mdash", 0x2014, false},  {"lsquo", 0x2018, false}, {"rsquo", 0x2019, false},
              {"sbquo", 0x201a, false}, {"ldquo", 0x201c, false},  {"rdquo", 0x201d, false},  {"bdquo", 0x201e, false}, {"dagger", 0x2020, false},
              {"bull", 0x2022, false},  {"hellip", 0x2026, false}, {"euro", 0x20ac, false},   {"trade", 0x2122, false}, {"larr", 0x2190, false},
              {"rarr", 0x2192, false},  {"minus", 0x2212, false},  {"hearts", 0x2665, false}, {"star", 0x2606, false},  {"num", '#', false},
              {"excl", '!', false},     {"comma", ',', false},     {"period", '.', false},    {"colon", ':', false},    {"semi", ';', false},
              {"lpar", '(', false},     {"rpar", ')', false},      {"lsqb", '[', false},      {"rsqb", ']', false},     {"sol", '/', false},
              {"percnt", '%', false},   {"equals", '=', false},    {"plus", '+', false},      {"ast", '*', false},      {"lowbar", '_', false}};

/* What Windows-1252 has at 0x80 to 0x9f. */
static const uint16_t windows[32] = {0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021, 0x2c6,  0x2030, 0x160,
                                     0x2039, 0x152,  0x8d,   0x17d,  0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
                                     0x2013, 0x2014, 0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178};

/* The longest name at p (n bytes), its semicolon included: its length; 0: none. */
static size_t named(const char *p, size_t n, uint32_t *c)
{
    size_t best = 0;
    uint32_t number = 0xa0;
    if (!n || (uint8_t)((p[0] | 0x20) - 'a') > 25) return 0; /* as all names do */
    for (const char *at = latin1; *at; number++) {
        const size_t k = strcspn(at, " ");
        if (k <= n && k > best && !memcmp(at, p, k)) best = k, *c = number;
        at += k + 1;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const size_t k = strlen(others[i].name);
        if (k <= n && k > best && !memcmp(others[i].name, p, k) && (others[i].alone || (k < n && p[k] == ';'))) best = k, *c = others[i].c;
    }
    return best + (best && best < n && p[best] == ';');
}

/* "#65;", "#x41;" at p: its length, 0: none. *c: 0 for nothing at all. */
static size_t numbered(const char *p, size_t n, uint32_t *c)
{
    const bool hex = n > 1 && (p[1] == 'x' || p[1] == 'X');
    size_t i = hex ? 2 : 1;
    const size_t first = i;
    uint32_t v = 0;
    for (; i < n; i++) {
        const char d = p[i];
        const int digit = d >= '0' && d <= '9'          ? d - '0'
                          : hex && d >= 'a' && d <= 'f' ? d - 'a' + 10
                          : hex && d >= 'A' && d <= 'F' ? d - 'A' + 10
                                                        : -1;
        if (digit < 0) break;
        if (v < 0x1000000) v = v * (hex ? 16 : 10) + (uint32_t)digit;
    }
    if (i == first) return 0;
    const bool control = v < 9 || v == 0xb || (v >= 0xe && v < 0x20) || v == 0x7f,
               no_character = (v >= 0xfdd0 && v <= 0xfdef) || (v & 0xfffe) == 0xfffe;
    if (v == 0 || v > 0x10ffff || (v >= 0xd800 && v < 0xe000)) *c = 0xfffd;
    else *c = v >= 0x80 && v < 0xa0 ? windows[v - 0x80] : control || no_character ? 0 : v;
    return i + (i < n && p[i] == ';');
}

/* html.unescape */
static void unescape(dc_text *to, const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        const size_t k = p[i] != '&' || i + 1 == n ? 0 : (p[i + 1] == '#' ? numbered : named)(p + i + 1, n - i - 1, &c);
        if (k && c) put(to, c);
        if (!k) dc_text_append(to, p + i, 1);
        i += k + 1;
    }
}

/* ---- characters ---------------------------------------------------------------------------------------------------------- */

static void fix_character(dc_text *to, uint32_t c)
{
    static const char *const first[] = {"D\u017d", "D\u017e", "d\u017e", "LJ", "Lj", "lj", "NJ", "Nj", "nj"}; /* U+01C4 */
    static const char *const second[] = {"DZ", "Dz", "dz"};                                                   /* U+01F1 */
    static const char *const third[] = {"ff", "fi", "fl", "ffi", "ffl", "\u017ft", "st"};                     /* U+FB00 */
    const char *more = c == 0x132                   ? "IJ"
                       : c == 0x133                 ? "ij"
                       : c == 0x149                 ? "'n" /* by way of U+02BC */
                       : c >= 0x1c4 && c <= 0x1cc   ? first[c - 0x1c4]
                       : c >= 0x1f1 && c <= 0x1f3   ? second[c - 0x1f1]
                       : c >= 0xfb00 && c <= 0xfb06 ? third[c - 0xfb00]
                       : c == 0x3000                ? " "
                                                    : NULL;
    if (c >= 0x80 && c < 0xa0) c = windows[c - 0x80];
    const bool control = (c < 0x20 && c != '\t' && c != '\n' && c != '\f' && c != '\r') || c == 0x7f || (c >= 0x206a && c <= 0x206f) || c == 0xfeff ||
                         (c >= 0xfff9 && c <= 0xfffc);
    if (more) {
        dc_text_append(to, more, strlen(more));
    } else if (c == 0x2bc || (c >= 0x2018 && c <= 0x201f)) {
        put(to, c >= 0x201c ? '"' : '\'');
    } else if (c > 0xff00 && c < 0xfff0) {
        utf8proc_uint8_t bytes[5] = {0}, *made = NULL;
        dc_utf8_encode((char *)bytes, c);
        utf8proc_map(bytes, 0, &made, UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_COMPOSE);
        if (made) dc_text_append(to, made, strlen((const char *)made));
        else to->failed = true;
        free(made);
    } else if (!control) {
        put(to, c);
    }
}

static void fix(dc_text *to, const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t c;
        i += (size_t)dc_utf8_decode(p + i, n - i, &c);
        fix_character(to, c);
    }
}

/* ---- Python's small sigma ------------------------------------------------------------------------------------------------- */

enum { CASED = 1, IGNORED = 2 };

/* About as Unicode's Cased and Case_Ignorable have it. */
static int case_of(uint32_t c)
{
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    if (k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT) return CASED;
    if (k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK)
        return IGNORED;
    return c == '\'' || c == '.' || c == ':' || c == 0xb7 || c == 0x2019 ? IGNORED : 0;
}

/* Of the characters that follow p (n bytes), is the first that counts a letter? */
static bool letter_follows(const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t c;
        i += (size_t)dc_utf8_decode(p + i, n - i, &c);
        const int kind = case_of(c);
        if (kind != IGNORED) return kind == CASED;
    }
    return false;
}

/* A capital one at the end of a word becomes the small one that ends words (U+03C2), before all letters become small one by one. */
static void end_words(char *p, size_t n)
{
    bool letter = false; /* the last character that counts was one */
    for (size_t i = 0; i < n;) {
        uint32_t c;
        const size_t k = (size_t)dc_utf8_decode(p + i, n - i, &c);
        if (c == 0x3a3 && letter && !letter_follows(p + i + k, n - i - k)) dc_utf8_encode(p + i, 0x3c2);
        const int kind = case_of(c);
        letter = kind == IGNORED ? letter : kind == CASED;
        i += k;
    }
}

dc_status dc_clean(char **out, size_t *length, const char *text, size_t n, dc_error *e)
{
    dc_text a = {0}, b = {0};
    *out = NULL;
    *length = 0;
    if (memchr(text, '<', n)) dc_text_append(&a, text, n); /* then ftfy takes it for HTML and lets it be */
    else unescape(&a, text, n);
    fix(&b, a.at, a.length);
    bool failed = a.failed;
    for (int i = 0; i < 2; i++) {
        const dc_text from = b;
        dc_text_free(&a);
        unescape(&a, from.at, from.length);
        failed = failed || from.failed;
        b = a;
        a = from;
    }
    dc_text_free(&a);
    dc_text_append(&b, "", 0); /* a string, if there is nothing in it */
    if (failed || b.failed) {
        dc_text_free(&b);
        return dc_fail_memory(e, "a text", n);
    }
    end_words(b.at, b.length);
    *out = b.at;
    *length = b.length;
    return DC_OK;
}
