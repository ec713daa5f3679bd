/* read.c - picture files: which format, orientation, channels. */
#include "base/checked.h"
#include "image/codec.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

dc_status dc_image_check(const char *name, uint64_t width, uint64_t height, dc_error *e)
{
    if (width < 1 || height < 1 || width > DC_IMAGE_SIDE || height > DC_IMAGE_SIDE || width * height > DC_IMAGE_PIXELS)
        return dc_fail(e, DC_DATA, "%s: picture: found %llux%llu, expected 1 to %d a side and at most %u pixels", name, (unsigned long long)width,
                       (unsigned long long)height, DC_IMAGE_SIDE, DC_IMAGE_PIXELS);
    return DC_OK;
}

dc_status dc_image_make(dc_image *out, const char *name, uint64_t width, uint64_t height, int channels, dc_error *e)
{
    dc_status s = dc_image_check(name, width, height, e);
    if (s) return s;
    *out = (dc_image){(int)width, (int)height, channels, dc_calloc(width * height, (size_t)channels)};
    return out->pixels ? DC_OK : dc_fail_memory(e, name, width * height * (unsigned)channels);
}

void dc_image_free(dc_image *m)
{
    if (!m) return;
    free(m->pixels);
    *m = (dc_image){0};
}

/* ---- upright -------------------------------------------------------------------------------------------------------- */

/* Where pixel (x, y) of the upright picture lies in the stored one. */
static size_t source_of(int orientation, int x, int y, int stored_w, int stored_h)
{
    int sx = x, sy = y;
    if (orientation >= 5) sx = y, sy = x; /* 5 transpose, 6 rotate right, 7 transverse, 8 rotate left */
    if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) sx = stored_w - 1 - sx;
    if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) sy = stored_h - 1 - sy;
    return (size_t)sy * (size_t)stored_w + (size_t)sx;
}

static dc_status turn_upright(dc_image *m, int orientation, const char *name, dc_error *e)
{
    if (orientation == 1) return DC_OK;
    dc_image up;
    bool swaps = orientation >= 5;
    dc_status s = dc_image_make(&up, name, (uint64_t)(swaps ? m->height : m->width), (uint64_t)(swaps ? m->width : m->height), m->channels, e);
    if (s) return s;
    size_t C = (size_t)m->channels;
    for (int y = 0; y < up.height; y++)
        for (int x = 0; x < up.width; x++)
            memcpy(up.pixels + ((size_t)y * (size_t)up.width + (size_t)x) * C, m->pixels + source_of(orientation, x, y, m->width, m->height) * C, C);
    dc_image_free(m);
    *m = up;
    return DC_OK;
}

/* ---- channels ------------------------------------------------------------------------------------------------------ */

/* Pillow's convert("L"): ITU-R 601-2 in 16-bit fixed point. */
static uint8_t luma(const uint8_t *p) { return (uint8_t)((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16); }

static dc_status convert(dc_image *m, int want, const char *name, dc_error *e)
{
    if (!want || want == m->channels) return DC_OK;
    dc_image to;
    dc_status s = dc_image_make(&to, name, (uint64_t)m->width, (uint64_t)m->height, want, e);
    if (s) return s;
    size_t n = (size_t)m->width * (size_t)m->height;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = m->pixels + i * (size_t)m->channels;
        uint8_t *q = to.pixels + i * (size_t)want;
        if (want == 1) *q = m->channels == 1 ? *p : luma(p);
        else {
            for (int c = 0; c < 3; c++) q[c] = m->channels == 1 ? *p : p[c];
            if (want == 4) q[3] = m->channels == 4 ? p[3] : 255;
        }
    }
    dc_image_free(m);
    *m = to;
    return DC_OK;
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

static const char *other_format(const uint8_t *b, size_t n)
{
    static const struct {
        size_t at;
        const char *magic, *name;
    } known[] = {
        {0, "GIF8", "GIF"},      {0, "BM", "BMP"},        {0, "II*", "TIFF"}, {0, "MM", "TIFF"},
        {4, "ftypheic", "HEIC"}, {4, "ftypavif", "AVIF"}, {0, "P6", "PPM"},   {0, "P5", "PGM"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n >= known[i].at + strlen(known[i].magic) && !memcmp(b + known[i].at, known[i].magic, strlen(known[i].magic))) return known[i].name;
    return NULL;
}

/* Is the transparency of a picture that has some in a channel of its own? In a PNG by its colour type, else always. */
static bool has_alpha(const uint8_t *bytes, size_t n) { return dc_image_kind(bytes, n) != DC_IMAGE_PNG || (n > 25 && bytes[25] & 4); }

static dc_status read_memory(dc_image *out, const char *name, const uint8_t *bytes, size_t n, int want, int least, dc_error *e)
{
    int orientation = 1;
    dc_status s = DC_OK;
    const char *other;
    *out = (dc_image){0};
    switch (dc_image_kind(bytes, n)) {
    case DC_IMAGE_PNG: s = dc_png_decode(out, name, bytes, n, &orientation, e); break;
    case DC_IMAGE_JPEG: s = dc_jpeg_decode(out, name, bytes, n, least, &orientation, e); break;
    case DC_IMAGE_WEBP: s = dc_webp_decode(out, name, bytes, n, &orientation, e); break;
    case DC_IMAGE_UNKNOWN:
        other = other_format(bytes, n);
        s = dc_fail(e, DC_DATA, "%s: picture: found %s, expected PNG, JPEG or WebP", name, other ? other : n ? "an unknown format" : "an empty file");
    }
    if (!s) s = turn_upright(out, orientation, name, e);
    if (!s && want == DC_IMAGE_ALPHA) want = out->channels == 4 && !has_alpha(bytes, n) ? 3 : 0;
    if (!s) s = convert(out, want, name, e);
    if (s) dc_image_free(out);
    return s;
}

dc_status dc_image_read_memory(dc_image *out, const char *name, const uint8_t *bytes, size_t n, int want, dc_error *e)
{
    return read_memory(out, name, bytes, n, want, 0, e);
}

/* All of stdin, at most the size of a picture file. */
static dc_status read_stdin(dc_text *t, dc_error *e)
{
    char block[65536];
    size_t n;
    while ((n = fread(block, 1, sizeof block, stdin)) > 0 && t->length <= DC_IMAGE_FILE) dc_text_append(t, block, n);
    if (ferror(stdin)) return dc_fail(e, DC_IO, "stdin: reading failed");
    return t->failed ? dc_fail_memory(e, "stdin", t->length) : DC_OK;
}

dc_status dc_image_read_reduced(dc_image *out, const char *path, int want, int least, dc_error *e)
{
    *out = (dc_image){0};
    dc_text t = {0};
    dc_status s;
    if (!strcmp(path, "-")) {
        s = read_stdin(&t, e);
        if (!s) s = read_memory(out, "stdin", (const uint8_t *)(t.at ? t.at : ""), t.length, want, least, e);
    } else {
        s = dc_read_file(path, DC_IMAGE_FILE, &t.at, &t.length, e);
        if (!s) s = read_memory(out, path, (const uint8_t *)t.at, t.length, want, least, e);
    }
    dc_text_free(&t);
    return s;
}

dc_status dc_image_read(dc_image *out, const char *path, int want, dc_error *e) { return dc_image_read_reduced(out, path, want, 0, e); }

/* ---- headers ---------------------------------------------------------------------------------------------------------- */

static uint32_t big(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

bool dc_image_size(const uint8_t *bytes, size_t n, uint32_t *width, uint32_t *height)
{
    const dc_image_format kind = dc_image_kind(bytes, n);
    size_t size;
    if (kind == DC_IMAGE_PNG && n >= 24) *width = big(bytes + 16), *height = big(bytes + 20);
    if (kind == DC_IMAGE_PNG || kind == DC_IMAGE_UNKNOWN) return kind == DC_IMAGE_PNG && n >= 24;
    const bool jpeg = kind == DC_IMAGE_JPEG;
    if (!(jpeg ? dc_jpeg_size : dc_webp_size)(bytes, n, width, height)) return false;
    const uint8_t *exif = jpeg ? dc_jpeg_exif(bytes, n, &size) : dc_webp_chunk(bytes, n, "EXIF", &size);
    if (exif && dc_exif_orientation(exif, size) >= 5) {
        const uint32_t w = *width;
        *width = *height, *height = w;
    }
    return true;
}
