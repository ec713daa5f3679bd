/* png.c - PNG through libpng's ordinary interface (the simplified one has had most of its bugs). */
#include "base/checked.h"
#include "image/codec.h"
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

/* What libpng's callbacks work on. libpng reports errors by longjmp to `jump`. */
typedef struct png_work {
    jmp_buf jump;
    const char *name;
    dc_error *e;
    const uint8_t *at;
    size_t left;
    dc_out *out;
    bool failed; /* the error is already in e */
    png_bytep *rows;
} png_work;

static void on_error(png_structp png, png_const_charp message)
{
    png_work *w = png_get_error_ptr(png);
    bool memory = strstr(message, "ut of memory") || strstr(message, "nsufficient memory"); /* ours and libpng's words for it */
    if (!w->failed) dc_fail(w->e, memory ? DC_NO_MEMORY : DC_DATA, "%s: PNG: %s", w->name, message);
    w->failed = true;
    longjmp(w->jump, 1);
}
static void on_warning(png_structp png, png_const_charp message) { (void)png, (void)message; }

static void on_read(png_structp png, png_bytep to, size_t n)
{
    png_work *w = png_get_io_ptr(png);
    if (n > w->left) png_error(png, "found the end of the file, expected more data");
    memcpy(to, w->at, n);
    w->at += n;
    w->left -= n;
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

/* TRAP: libpng 1.6 allocates what a chunk's header claims (eXIf: up to 2 GB) before it looks whether the bytes are there. */
static void check_chunks(png_structp png, const png_work *w)
{
    uint64_t at = 8;
    if (w->left < 8 || png_sig_cmp(w->at, 0, 8)) return; /* libpng says so itself */
    while (dc_in_range(at, 8, w->left) && memcmp(w->at + at + 4, "IDAT", 4) != 0) {
        uint64_t length = png_get_uint_32(w->at + at);
        if (!dc_in_range(at + 8, length, w->left)) png_error(png, "a chunk goes beyond the end of the file");
        at += 12 + length;
    }
}

static void set_limits(png_structp png)
{
    png_set_user_limits(png, DC_IMAGE_SIDE, DC_IMAGE_SIDE);
    png_set_chunk_cache_max(png, 128);
    png_set_chunk_malloc_max(png, 8u << 20);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_WARN_DISCARD);
}

/* 8 bits, no palette, alpha kept: 1, 3 or 4 channels (gray with alpha becomes RGBA). */
static int set_transforms(png_structp png, png_infop info)
{
    int type = png_get_color_type(png, info);
    bool trans = png_get_valid(png, info, PNG_INFO_tRNS) != 0;
    if (png_get_bit_depth(png, info) == 16) png_set_strip_16(png);
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png);
    if (trans) png_set_tRNS_to_alpha(png);
    if (type == PNG_COLOR_TYPE_GRAY_ALPHA || (type == PNG_COLOR_TYPE_GRAY && trans)) png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    return png_get_channels(png, info);
}

static void read_picture(png_work *w, png_structp png, png_infop info, dc_image *out, int *orientation)
{
    png_set_read_fn(png, w, on_read);
    check_chunks(png, w);
    set_limits(png);
    png_read_info(png, info);
    int channels = set_transforms(png, info);
    if (dc_image_make(out, w->name, png_get_image_width(png, info), png_get_image_height(png, info), channels, w->e)) {
        w->failed = true;
        longjmp(w->jump, 1);
    }
    if (png_get_rowbytes(png, info) != (size_t)out->width * (size_t)channels) png_error(png, "rows of an unexpected size");
    w->rows = dc_calloc((size_t)out->height, sizeof *w->rows);
    if (!w->rows) png_error(png, "out of memory");
    for (int y = 0; y < out->height; y++) w->rows[y] = out->pixels + (size_t)y * (size_t)out->width * (size_t)channels;
    png_read_image(png, w->rows);
#ifdef PNG_eXIf_SUPPORTED
    png_bytep exif = NULL;
    png_uint_32 size = 0;
    if (png_get_eXIf_1(png, info, &size, &exif)) *orientation = dc_exif_orientation(exif, size);
#endif
    (void)orientation;
}

dc_status dc_png_decode(dc_image *out, const char *name, const uint8_t *bytes, size_t n, int *orientation, dc_error *e)
{
    dc_error own = {0};
    png_work w = {.name = name, .e = e ? e : &own, .at = bytes, .left = n};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &w, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        png_destroy_read_struct(&png, NULL, NULL);
        return dc_fail_memory(e, name, n);
    }
    if (!setjmp(w.jump)) read_picture(&w, png, info, out, orientation);
    png_destroy_read_struct(&png, &info, NULL);
    free(w.rows);
    if (w.failed) dc_image_free(out);
    return w.failed ? w.e->code : DC_OK;
}

/* ---- text ------------------------------------------------------------------------------------------------------------ */

static void read_text(png_work *w, png_structp png, png_infop info, const char *key, char **out)
{
    png_textp text;
    int n = 0;
    png_set_read_fn(png, w, on_read);
    check_chunks(png, w);
    set_limits(png);
    png_set_chunk_malloc_max(png, DC_IMAGE_TEXT);
    png_read_info(png, info);
    png_get_text(png, info, &text, &n);
    for (int i = 0; i < n && !*out; i++) {
        if (strcmp(text[i].key, key)) continue;
        bool utf8 = text[i].compression >= PNG_ITXT_COMPRESSION_NONE;
        size_t length = utf8 ? text[i].itxt_length : text[i].text_length;
        if (length > DC_IMAGE_TEXT) png_error(png, "a text chunk of more than 1 MiB");
        if (utf8 && !dc_utf8_valid(text[i].text, length)) png_error(png, "a text chunk that is not UTF-8");
        *out = utf8 ? strndup(text[i].text, length) : dc_from_latin1(text[i].text, length);
        if (!*out) png_error(png, "out of memory");
    }
}

dc_status dc_png_find_text(const char *name, const uint8_t *bytes, size_t n, const char *key, char **out, dc_error *e)
{
    dc_error own = {0};
    png_work w = {.name = name, .e = e ? e : &own, .at = bytes, .left = n};
    *out = NULL;
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &w, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    dc_status s = info ? DC_OK : dc_fail_memory(e, name, n);
    if (!s && !setjmp(w.jump)) read_text(&w, png, info, key, out);
    png_destroy_read_struct(&png, info ? &info : NULL, NULL);
    return w.failed ? w.e->code : s;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------ */

static void on_write(png_structp png, png_bytep from, size_t n)
{
    png_work *w = png_get_io_ptr(png);
    if (dc_out_write(w->out, from, n, w->e)) {
        w->failed = true;
        longjmp(w->jump, 1);
    }
}
static void on_flush(png_structp png) { (void)png; }

/* The Latin-1 form of UTF-8 text, or NULL when it has other characters (*failed tells apart out of memory). */
static char *to_latin1(const char *s, bool *failed)
{
    size_t n = strlen(s);
    char *out = malloc(n + 1), *p = out;
    *failed = !out;
    for (size_t i = 0; out && i < n;) {
        uint32_t c;
        i += (size_t)dc_utf8_decode(s + i, n - i, &c);
        if (c > 0xff) {
            free(out);
            return NULL;
        }
        *p++ = (char)c;
    }
    if (out) *p = 0;
    return out;
}

static void write_text(png_work *w, png_structp png, png_infop info, const char *text)
{
    bool failed;
    char *latin = to_latin1(text, &failed);
    png_text chunk = {.compression = latin ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE,
                      .key = (png_charp) "parameters",
                      .text = latin ? latin : (png_charp)text};
    if (latin) chunk.text_length = strlen(latin);
    else chunk.itxt_length = strlen(text);
    if (!failed) png_set_text(png, info, &chunk, 1); /* copies */
    free(latin);
    if (failed) {
        dc_fail_memory(w->e, w->name, strlen(text));
        w->failed = true;
        longjmp(w->jump, 1);
    }
}

static void write_picture(png_work *w, png_structp png, png_infop info, const dc_image *m, const char *text)
{
    int type = m->channels == 1 ? PNG_COLOR_TYPE_GRAY : m->channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_RGBA;
    png_set_write_fn(png, w, on_write, on_flush);
    png_set_compression_level(png, 6);
    png_set_IHDR(png, info, (png_uint_32)m->width, (png_uint_32)m->height, 8, type, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    if (text) write_text(w, png, info, text);
    png_write_info(png, info);
    for (int y = 0; y < m->height; y++) png_write_row(png, m->pixels + (size_t)y * (size_t)m->width * (size_t)m->channels);
    png_write_end(png, info);
}

dc_status dc_png_encode(dc_out *to, const char *name, const dc_image *m, const char *text, dc_error *e)
{
    dc_error own = {0};
    png_work w = {.name = name, .out = to, .e = e ? e : &own};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &w, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    dc_status s = info ? DC_OK : dc_fail_memory(e, name, sizeof w);
    if (!s && !setjmp(w.jump)) write_picture(&w, png, info, m, text);
    png_destroy_write_struct(&png, info ? &info : NULL);
    return w.failed ? w.e->code : s;
}
