/* text.c - what picture files say about themselves in words: PNG's text chunks, EXIF in JPEG and WebP, and where stable-diffusion.cpp
 * puts it there (a comment, XMP). */
#include "base/checked.h"
#include "image/codec.h"
#include <stdlib.h>
#include <string.h>

char *dc_from_latin1(const char *s, size_t n)
{
    char *out = malloc(2 * n + 1), *p = out;
    if (!out) return NULL;
    for (size_t i = 0; i < n; i++) p = dc_utf8_encode(p, (unsigned char)s[i]);
    *p = 0;
    return out;
}

/* ---- containers ------------------------------------------------------------------------------------------------- */

/* The first segment of that marker that begins with `head`; up to the picture's data, since what we look for comes before it. */
static const uint8_t *jpeg_segment(const uint8_t *bytes, size_t n, int marker, const char *head, size_t head_bytes, size_t *size)
{
    for (size_t at = 2; at < n;) {
        const uint8_t *ff = memchr(bytes + at, 0xff, n - at);
        if (!ff) return NULL;
        at = (size_t)(ff - bytes);
        while (at < n && bytes[at] == 0xff) at++;
        if (at >= n || bytes[at] == 0xda || bytes[at] == 0xd9) return NULL;
        int found = bytes[at++];
        if (found <= 0x01 || (found >= 0xd0 && found <= 0xd7)) continue; /* without a length */
        if (n - at < 2) return NULL;
        size_t length = (size_t)bytes[at] << 8 | bytes[at + 1];
        if (length < 2 || length > n - at) return NULL;
        if (found == marker && length - 2 >= head_bytes && !memcmp(bytes + at + 2, head, head_bytes)) {
            *size = length - 2;
            return bytes + at + 2;
        }
        at += length;
    }
    return NULL;
}

const uint8_t *dc_jpeg_exif(const uint8_t *bytes, size_t n, size_t *size) { return jpeg_segment(bytes, n, 0xe1, "Exif\0\0", 6, size); }

const uint8_t *dc_webp_chunk(const uint8_t *bytes, size_t n, const char *kind, size_t *size)
{
    for (uint64_t at = 12; dc_in_range(at, 8, n);) {
        const uint8_t *p = bytes + at;
        uint64_t length = (uint64_t)p[7] << 24 | (uint64_t)p[6] << 16 | (uint64_t)p[5] << 8 | p[4];
        if (!dc_in_range(at + 8, length, n)) return NULL;
        if (!memcmp(p, kind, 4)) {
            *size = length;
            return p + 8;
        }
        at += 8 + length + (length & 1);
    }
    return NULL;
}

/* ---- stable-diffusion.cpp's places ------------------------------------------------------------------------------ */

/* What stands between <sdcpp:parameters> and the next tag. */
static const uint8_t *xmp_element(const uint8_t *packet, size_t *n)
{
    static const char open[] = "<sdcpp:parameters>";
    const uint8_t *at = packet ? memmem(packet, *n, open, sizeof open - 1) : NULL;
    if (!at) return NULL;
    at += sizeof open - 1;
    const uint8_t *end = memchr(at, '<', (size_t)(packet + *n - at));
    *n = (size_t)(end - at);
    return end ? at : NULL;
}

/* Replaces XML's five entities, in place. */
static void unescape(char *text)
{
    static const char *const entity[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"};
    char *to = text;
    while (*text) {
        int k = 0;
        while (k < 5 && strncmp(text, entity[k], strlen(entity[k])) != 0) k++;
        *to++ = k < 5 ? "&<>\"'"[k] : *text;
        text += k < 5 ? strlen(entity[k]) : 1;
    }
    *to = 0;
}

static dc_status other_place(char **out, const char *name, const uint8_t *bytes, size_t n, bool jpeg, dc_error *e)
{
    static const char head[] = "parameters"; /* with its NUL */
    size_t size = 0;
    const uint8_t *p = jpeg ? jpeg_segment(bytes, n, 0xfe, head, sizeof head, &size) : dc_webp_chunk(bytes, n, "XMP ", &size);
    if (jpeg && p) p += sizeof head, size -= sizeof head;
    if (!jpeg) p = xmp_element(p, &size);
    if (p) size = strnlen((const char *)p, size);
    if (!p || !dc_utf8_valid((const char *)p, size)) return DC_OK; /* nothing, cut within a character, or not text */
    if (size > DC_IMAGE_TEXT) return dc_fail(e, DC_DATA, "%s: XMP text: found %zu bytes, expected at most %u", name, size, DC_IMAGE_TEXT);
    *out = strndup((const char *)p, size);
    if (!*out) return dc_fail_memory(e, name, size);
    if (!jpeg) unescape(*out);
    return DC_OK;
}

/* ---- the whole -------------------------------------------------------------------------------------------------- */

dc_image_format dc_image_kind(const uint8_t *bytes, size_t n)
{
    if (n >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1a\n", 8)) return DC_IMAGE_PNG;
    if (n >= 3 && !memcmp(bytes, "\xff\xd8\xff", 3)) return DC_IMAGE_JPEG;
    if (n >= 12 && !memcmp(bytes, "RIFF", 4) && !memcmp(bytes + 8, "WEBP", 4)) return DC_IMAGE_WEBP;
    return DC_IMAGE_UNKNOWN;
}

dc_status dc_image_find_text(const char *name, const uint8_t *bytes, size_t n, const char *key, char **out, dc_error *e)
{
    dc_image_format kind = dc_image_kind(bytes, n);
    size_t size = 0;
    *out = NULL;
    if (kind == DC_IMAGE_PNG) return dc_png_find_text(name, bytes, n, key, out, e);
    if (kind == DC_IMAGE_UNKNOWN) return dc_fail(e, DC_DATA, "%s: found no PNG, JPEG or WebP, expected a picture with text", name);
    bool jpeg = kind == DC_IMAGE_JPEG;
    const uint8_t *exif = jpeg ? dc_jpeg_exif(bytes, n, &size) : dc_webp_chunk(bytes, n, "EXIF", &size);
    dc_status s = exif ? dc_exif_text(out, name, exif, size, key, e) : DC_OK;
    if (!s && !*out && !strcmp(key, "parameters")) s = other_place(out, name, bytes, n, jpeg, e);
    return s;
}

dc_status dc_image_read_text(const char *path, const char *key, char **out, dc_error *e)
{
    char *file = NULL;
    size_t n = 0;
    *out = NULL;
    dc_status s = dc_read_file(path, DC_IMAGE_FILE, &file, &n, e);
    if (!s) s = dc_image_find_text(path, (const uint8_t *)file, n, key, out, e);
    free(file);
    return s;
}
