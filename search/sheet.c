/* sheet.c - thumbnails with their scores on one picture. */
#include "base/checked.h"
#include "base/file.h"
#include "image/image.h"
#include "search/index.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 8, GLYPH_W = 5, GLYPH_H = 7, DOT = 2, LINE = GLYPH_H * DOT + 6, MOST_MATCHES = 10000 };

/* Rows of a glyph, top first, bit 4 left. */
static const struct {
    char c;
    uint8_t row[GLYPH_H];
} glyphs[] = {
    {'0', {14, 17, 19, 21, 25, 17, 14}}, {'1', {4, 12, 4, 4, 4, 4, 14}},    {'2', {14, 17, 1, 2, 4, 8, 31}},   {'3', {31, 2, 4, 2, 1, 17, 14}},
    {'4', {2, 6, 10, 18, 31, 2, 2}},     {'5', {31, 16, 30, 1, 1, 17, 14}}, {'6', {6, 8, 16, 30, 17, 17, 14}}, {'7', {31, 1, 2, 4, 8, 8, 8}},
    {'8', {14, 17, 17, 14, 17, 17, 14}}, {'9', {14, 17, 17, 15, 1, 2, 12}}, {'.', {0, 0, 0, 0, 0, 12, 12}},    {'-', {0, 0, 0, 31, 0, 0, 0}},
};

static void dot(diffc_image *m, int x, int y, uint8_t v)
{
    if (x >= 0 && y >= 0 && x < m->width && y < m->height) memset(m->pixels + ((size_t)y * (size_t)m->width + (size_t)x) * 3, v, 3);
}

static void draw_text(diffc_image *m, int x, int y, const char *text)
{
    for (; *text; text++, x += (GLYPH_W + 1) * DOT)
        for (size_t g = 0; g < sizeof glyphs / sizeof *glyphs; g++)
            for (int i = 0; glyphs[g].c == *text && i < GLYPH_W * DOT * GLYPH_H * DOT; i++) {
                const int dx = i % (GLYPH_W * DOT), dy = i / (GLYPH_W * DOT);
                if (glyphs[g].row[dy / DOT] >> (GLYPH_W - 1 - dx / DOT) & 1) dot(m, x + dx, y + dy, 0);
            }
}

static void draw_cross(diffc_image *m, int x, int y, int size)
{
    for (int i = 0; i < size; i++) {
        dot(m, x + i, y + i, 160);
        dot(m, x + size - 1 - i, y + i, 160);
        dot(m, x + i, y, 160), dot(m, x + i, y + size - 1, 160), dot(m, x, y + i, 160), dot(m, x + size - 1, y + i, 160);
    }
}

/* The picture, in the middle of a square at (x, y). Errors: NO_MEMORY only. */
static dc_status draw_picture(diffc_image *m, int x, int y, int size, const char *root, const char *path, dc_error *e)
{
    dc_image full = {0}, small = {0};
    dc_error why = {0};
    char *name = dc_path_join(root, path);
    if (!name) return dc_fail_memory(e, path, strlen(path));
    dc_status s = dc_image_read_reduced(&full, name, 3, 2 * size, &why);
    if (!s) {
        const double by = fmin(1, (double)size / (full.width > full.height ? full.width : full.height));
        const int w = (int)fmax(1, round(full.width * by)), h = (int)fmax(1, round(full.height * by));
        s = dc_image_resize(&small, &full, w, h, DC_FILTER_BICUBIC, &why);
    }
    for (int row = 0; row < small.height && !s; row++)
        memcpy(m->pixels + ((size_t)(y + (size - small.height) / 2 + row) * (size_t)m->width + (size_t)(x + (size - small.width) / 2)) * 3,
               small.pixels + (size_t)row * (size_t)small.width * 3, (size_t)small.width * 3);
    if (s) draw_cross(m, x, y, size);
    dc_image_free(&full);
    dc_image_free(&small);
    free(name);
    return s == DC_NO_MEMORY ? dc_fail(e, s, "%s", why.text) : DC_OK;
}

diffc_status diffc_contact_sheet(const char *root, const diffc_matches *matches, int columns, int size, diffc_image *out, diffc_error *error)
{
    dc_error e = {0};
    const int n = matches->n > MOST_MATCHES ? MOST_MATCHES : (int)matches->n;
    dc_status s = DC_OK;
    *out = (diffc_image){0};
    if (!size) size = 160;
    if (!columns) columns = (int)ceil(sqrt(n ? n : 1));
    if (columns > n && n) columns = n;
    const int64_t rows = n ? (n + columns - 1) / columns : 1, width = GAP + (int64_t)columns * (size + GAP),
                  height = GAP + rows * (size + LINE + GAP);
    if (size < 16 || size > 1024 || columns < 1 || width > 16384 || height > 16384 || width * height > 67108864)
        s = dc_fail(&e, DC_USAGE, "sheet: found %lldx%lld for %d pictures of %d, expected at most 16384 a side and 64 megapixels", (long long)width,
                    (long long)height, n, size);
    if (!s) *out = (diffc_image){(int)width, (int)height, 3, dc_calloc((size_t)width * (size_t)height, 3)};
    if (!s && !out->pixels) s = dc_fail_memory(&e, "a sheet", (uint64_t)width * (uint64_t)height * 3);
    if (!s) memset(out->pixels, 255, (size_t)width * (size_t)height * 3);
    for (int i = 0; i < n && !s; i++) {
        char text[24];
        const int x = GAP + i % columns * (size + GAP), y = GAP + i / columns * (size + LINE + GAP);
        s = draw_picture(out, x, y, size, root, matches->match[i].path, &e);
        snprintf(text, sizeof text, "%.3f", (double)matches->match[i].score);
        draw_text(out, x + (size - (int)strlen(text) * (GLYPH_W + 1) * DOT) / 2, y + size + 4, text);
    }
    if (s) diffc_image_free(out);
    dc_give_error(error, &e);
    return (diffc_status)e.code;
}
