/* exif.c - the few things that pictures say in EXIF: which way is up, and how they were made. Read by hand: a library would copy each of
 * the 65,535 entries that a directory may have, all pointing at the same bytes. */
#include "base/checked.h"
#include "image/codec.h"
#include <stdlib.h>
#include <string.h>

enum { ORIENTATION = 0x112, DESCRIPTION = 0x10e, MODEL = 0x110, EXIF_DIRECTORY = 0x8769, USER_COMMENT = 0x9286 };
enum { ASCII = 2, SHORT = 3, LONG = 4, UNDEFINED = 7 };

/* A TIFF block: "II*" or "MM*", and everything counted from there. */
typedef struct tiff {
    const uint8_t *at;
    size_t n;
    bool big;
} tiff;

static uint32_t get(const tiff *t, uint64_t at, int n)
{
    uint32_t v = 0;
    for (int i = 0; i < n; i++) v = v << 8 | t->at[at + (uint64_t)(t->big ? i : n - 1 - i)];
    return v;
}

/* *directory: where the first one begins. */
static bool open_tiff(tiff *t, uint32_t *directory, const uint8_t *bytes, size_t n)
{
    if (n >= 6 && !memcmp(bytes, "Exif\0\0", 6)) bytes += 6, n -= 6;
    if (n < 14 || (memcmp(bytes, "II*\0", 4) && memcmp(bytes, "MM\0*", 4))) return false;
    *t = (tiff){bytes, n, bytes[0] == 'M'};
    *directory = get(t, 4, 4);
    return true;
}

/* The first entry of that tag and type: its value's place and bytes. */
static bool find_entry(const tiff *t, uint32_t directory, uint32_t tag, uint32_t type, uint64_t *at, uint64_t *bytes)
{
    if (!dc_in_range(directory, 2, t->n)) return false;
    uint32_t entries = get(t, directory, 2);
    for (uint32_t i = 0; i < entries && dc_in_range(directory + 2 + 12ull * i, 12, t->n); i++) {
        uint64_t entry = directory + 2 + 12ull * i;
        if (get(t, entry, 2) != tag || get(t, entry + 2, 2) != type) continue;
        *bytes = (uint64_t)get(t, entry + 4, 4) * (type == SHORT ? 2 : type == LONG ? 4 : 1);
        *at = *bytes <= 4 ? entry + 8 : get(t, entry + 8, 4);
        return dc_in_range(*at, *bytes, t->n);
    }
    return false;
}

int dc_exif_orientation(const uint8_t *bytes, size_t n)
{
    tiff t;
    uint32_t directory;
    uint64_t at, size;
    if (!open_tiff(&t, &directory, bytes, n) || !find_entry(&t, directory, ORIENTATION, SHORT, &at, &size) || size < 2) return 1;
    uint32_t v = get(&t, at, 2);
    return v >= 1 && v <= 8 ? (int)v : 1;
}

/* ---- text ------------------------------------------------------------------------------------------------------- */

/* UTF-16 without a mark may be either way round: piexif's is big-endian, other programs take the block's. Most high bytes of text are 0. */
static bool is_big_endian(const uint8_t *p, size_t units)
{
    size_t high = 0, low = 0;
    if (units && p[0] == 0xfe && p[1] == 0xff) return true;
    if (units && p[0] == 0xff && p[1] == 0xfe) return false;
    for (size_t i = 0; i < units; i++) high += p[2 * i] == 0, low += p[2 * i + 1] == 0;
    return high >= low;
}

/* Up to a NUL; lone surrogates become U+FFFD. A mark at the beginning is left out. */
static char *from_utf16(const uint8_t *p, size_t units)
{
    char *out = malloc(3 * units + 1), *to = out;
    bool big = is_big_endian(p, units);
    for (size_t i = 0; out && i < units; i++) {
        uint32_t c = (uint32_t)(p[2 * i + !big] << 8 | p[2 * i + big]), low;
        if (!c) break;
        if (c == 0xfeff && i == 0) continue;
        if (c >= 0xd800 && c < 0xe000) {
            low = i + 1 < units ? (uint32_t)(p[2 * i + 2 + !big] << 8 | p[2 * i + 2 + big]) : 0;
            bool pair = c < 0xdc00 && low >= 0xdc00 && low < 0xe000;
            c = pair ? 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00) : 0xfffd;
            i += pair;
        }
        to = dc_utf8_encode(to, c);
    }
    if (out) *to = 0;
    return out;
}

static char *from_bytes(const uint8_t *p, size_t n)
{
    n = strnlen((const char *)p, n);
    return dc_utf8_valid((const char *)p, n) ? strndup((const char *)p, n) : dc_from_latin1((const char *)p, n);
}

/* A1111's place: the user comment, behind eight bytes that name its encoding. */
static bool find_comment(const tiff *t, uint32_t directory, const uint8_t **p, size_t *n)
{
    uint64_t at, bytes;
    if (!find_entry(t, directory, EXIF_DIRECTORY, LONG, &at, &bytes) || bytes < 4) return false;
    if (!find_entry(t, get(t, at, 4), USER_COMMENT, UNDEFINED, &at, &bytes) || bytes < 8) return false;
    *p = t->at + at;
    *n = bytes;
    return true;
}

/* ComfyUI's place: "prompt:{..." in the tags from the model's name downwards. */
static bool find_prefixed(const tiff *t, uint32_t directory, const char *key, const uint8_t **p, size_t *n)
{
    size_t k = strlen(key);
    uint64_t at, bytes;
    for (uint32_t tag = MODEL; tag >= DESCRIPTION; tag--) {
        if (!find_entry(t, directory, tag, ASCII, &at, &bytes) || bytes < k + 1) continue;
        if (memcmp(t->at + at, key, k) || t->at[at + k] != ':') continue;
        *p = t->at + at + k + 1;
        *n = bytes - k - 1;
        return true;
    }
    return false;
}

dc_status dc_exif_text(char **out, const char *name, const uint8_t *bytes, size_t n, const char *key, dc_error *e)
{
    tiff t;
    uint32_t directory;
    const uint8_t *p = NULL;
    size_t k = 0;
    *out = NULL;
    if (!open_tiff(&t, &directory, bytes, n)) return DC_OK;
    bool comment = !strcmp(key, "parameters");
    if (!(comment ? find_comment(&t, directory, &p, &k) : find_prefixed(&t, directory, key, &p, &k))) return DC_OK;
    if (k > DC_IMAGE_TEXT) return dc_fail(e, DC_DATA, "%s: EXIF text: found %zu bytes, expected at most %u", name, k, DC_IMAGE_TEXT);
    if (!comment) *out = from_bytes(p, k);
    else if (!memcmp(p, "UNICODE\0", 8)) *out = from_utf16(p + 8, (k - 8) / 2);
    else *out = from_bytes(p + 8, k - 8);
    return *out ? DC_OK : dc_fail_memory(e, name, k);
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static void put(dc_text *to, uint32_t v, int n)
{
    for (int i = n - 1; i >= 0; i--) dc_text_append(to, &(uint8_t){(uint8_t)(v >> 8 * i)}, 1);
}

static uint32_t utf16_bytes(const char *text)
{
    uint32_t n = 0, c;
    for (size_t left = strlen(text); left;) {
        int k = dc_utf8_decode(text, left, &c);
        text += k, left -= (size_t)k;
        n += c >= 0x10000 ? 4 : 2;
    }
    return n;
}

/* Byte for byte what piexif writes for a user comment alone: big-endian, one entry a directory, and no link behind the second. */
void dc_exif_write(dc_text *to, const char *text)
{
    dc_text_append(to, "MM\0*\0\0\0\10", 8);
    put(to, 1, 2), put(to, EXIF_DIRECTORY, 2), put(to, LONG, 2), put(to, 1, 4), put(to, 26, 4), put(to, 0, 4);
    put(to, 1, 2), put(to, USER_COMMENT, 2), put(to, UNDEFINED, 2), put(to, 8 + utf16_bytes(text), 4), put(to, 40, 4);
    dc_text_append(to, "UNICODE\0", 8);
    for (size_t left = strlen(text); left;) {
        uint32_t c;
        int k = dc_utf8_decode(text, left, &c);
        text += k, left -= (size_t)k;
        if (c >= 0x10000) put(to, 0xd800 + ((c - 0x10000) >> 10), 2), put(to, 0xdc00 + ((c - 0x10000) & 0x3ff), 2);
        else put(to, c, 2);
    }
}
