/* jpeg.c - JPEG through libjpeg-turbo: reads RGB, gray and CMYK (turned into RGB), writes RGB and gray. */
#include "base/checked.h"
#include "image/codec.h"
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#define MAX_SCANS 100

typedef struct jpeg_work {
    struct jpeg_error_mgr manager; /* first: libjpeg hands out a pointer to it */
    jmp_buf jump;
    const char *name;
    dc_error *e;
    bool failed;
} jpeg_work;

static void stop(jpeg_work *w)
{
    w->failed = true;
    longjmp(w->jump, 1);
}

static void on_error(j_common_ptr c)
{
    jpeg_work *w = (jpeg_work *)c->err;
    char message[JMSG_LENGTH_MAX];
    w->manager.format_message(c, message);
    dc_status code = c->err->msg_code == JERR_OUT_OF_MEMORY ? DC_NO_MEMORY : DC_DATA;
    if (!w->failed) dc_fail(w->e, code, "%s: JPEG: %s", w->name, message);
    stop(w);
}

/* Warnings are let be, but for a file that ends too early: half a picture is not a picture. */
static void on_message(j_common_ptr c, int level)
{
    if (level < 0 && (c->err->msg_code == JWRN_JPEG_EOF || c->err->msg_code == JWRN_HIT_MARKER)) on_error(c);
}

/* A file with thousands of scans costs time out of all proportion. */
static void on_progress(j_common_ptr c)
{
    jpeg_work *w = (jpeg_work *)c->err;
    if (!c->is_decompressor || ((j_decompress_ptr)c)->input_scan_number <= MAX_SCANS) return;
    dc_fail(w->e, DC_DATA, "%s: JPEG: found more than %d scans, expected fewer", w->name, MAX_SCANS);
    stop(w);
}

/* Adobe's CMYK is stored inverted: r = c * k / 255. */
static void cmyk_row(uint8_t *to, const uint8_t *from, int n)
{
    for (int i = 0; i < n; i++, from += 4)
        for (int c = 0; c < 3; c++) *to++ = (uint8_t)((from[c] * from[3] + 127) / 255);
}

/* The largest divisor that leaves `least` pixels a side, as Pillow's Image.draft chooses it; 0: 1. */
static unsigned reduction(const struct jpeg_decompress_struct *c, int least)
{
    const unsigned side = c->image_width < c->image_height ? c->image_width : c->image_height, most = least > 0 ? side / (unsigned)least : 1;
    return most >= 8 ? 8 : most >= 4 ? 4 : most >= 2 ? 2 : 1;
}

static void read_picture(jpeg_work *w, struct jpeg_decompress_struct *c, dc_image *out, const uint8_t *bytes, size_t n, int least)
{
    jpeg_mem_src(c, bytes, n);
    jpeg_read_header(c, TRUE);
    bool cmyk = c->jpeg_color_space == JCS_CMYK || c->jpeg_color_space == JCS_YCCK;
    c->out_color_space = cmyk ? JCS_CMYK : c->jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
    if (dc_image_check(w->name, c->image_width, c->image_height, w->e)) stop(w);
    c->scale_denom = reduction(c, least);
    jpeg_calc_output_dimensions(c);
    if (dc_image_make(out, w->name, c->output_width, c->output_height, c->out_color_space == JCS_GRAYSCALE ? 1 : 3, w->e)) stop(w);
    jpeg_start_decompress(c);
    JSAMPARRAY wide = cmyk ? c->mem->alloc_sarray((j_common_ptr)c, JPOOL_IMAGE, (JDIMENSION)(4 * out->width), 1) : NULL;
    while (c->output_scanline < c->output_height) {
        uint8_t *row = out->pixels + (size_t)c->output_scanline * (size_t)out->width * (size_t)out->channels;
        jpeg_read_scanlines(c, cmyk ? wide : &row, 1);
        if (cmyk) cmyk_row(row, wide[0], out->width);
    }
    jpeg_finish_decompress(c);
}

/* The frame header is behind segments that say their own length. */
bool dc_jpeg_size(const uint8_t *b, size_t n, uint32_t *width, uint32_t *height)
{
    for (size_t at = 2; dc_in_range(at, 9, n);) {
        const uint8_t kind = b[at + 1];
        if (b[at] != 0xff) return false;
        if (kind == 0xff) {
            at++;
        } else if (kind >= 0xc0 && kind <= 0xcf && kind != 0xc4 && kind != 0xc8 && kind != 0xcc) {
            *height = (uint32_t)(b[at + 5] << 8 | b[at + 6]);
            *width = (uint32_t)(b[at + 7] << 8 | b[at + 8]);
            return true;
        } else {
            at += kind >= 0xd0 && kind <= 0xd8 ? 2 : 2 + (size_t)(b[at + 2] << 8 | b[at + 3]);
        }
    }
    return false;
}

dc_status dc_jpeg_decode(dc_image *out, const char *name, const uint8_t *bytes, size_t n, int least, int *orientation, dc_error *e)
{
    dc_error own = {0};
    jpeg_work w = {.name = name, .e = e ? e : &own};
    struct jpeg_decompress_struct c = {.err = jpeg_std_error(&w.manager)};
    struct jpeg_progress_mgr progress = {.progress_monitor = on_progress};
    w.manager.error_exit = on_error;
    w.manager.emit_message = on_message;
    if (!setjmp(w.jump)) {
        jpeg_create_decompress(&c);
        c.progress = &progress;
        c.mem->max_memory_to_use = 512l << 20;
        read_picture(&w, &c, out, bytes, n, least);
    }
    jpeg_destroy_decompress(&c);
    if (w.failed) dc_image_free(out);
    size_t size;
    const uint8_t *exif = w.failed ? NULL : dc_jpeg_exif(bytes, n, &size);
    if (exif) *orientation = dc_exif_orientation(exif, size);
    return w.failed ? w.e->code : DC_OK;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

typedef struct jpeg_sink {
    struct jpeg_destination_mgr manager; /* first */
    jpeg_work *work;
    dc_out *out;
    JOCTET block[16384];
} jpeg_sink;

static void sink_write(j_compress_ptr c, size_t n)
{
    jpeg_sink *s = (jpeg_sink *)c->dest;
    if (dc_out_write(s->out, s->block, n, s->work->e)) {
        s->work->failed = true;
        longjmp(s->work->jump, 1);
    }
    s->manager.next_output_byte = s->block;
    s->manager.free_in_buffer = sizeof s->block;
}
static void sink_begin(j_compress_ptr c) { sink_write(c, 0); }
static boolean sink_full(j_compress_ptr c)
{
    sink_write(c, sizeof((jpeg_sink *)c->dest)->block);
    return TRUE;
}
static void sink_end(j_compress_ptr c) { sink_write(c, sizeof((jpeg_sink *)c->dest)->block - c->dest->free_in_buffer); }

/* Chroma at half the size but from quality 90 on: there a fine red line is to stay one. */
static void write_picture(struct jpeg_compress_struct *c, const dc_image *m, int quality, const dc_text *exif)
{
    c->image_width = (JDIMENSION)m->width;
    c->image_height = (JDIMENSION)m->height;
    c->input_components = m->channels;
    c->in_color_space = m->channels == 1 ? JCS_GRAYSCALE : m->channels == 3 ? JCS_RGB : JCS_EXT_RGBX;
    jpeg_set_defaults(c);
    jpeg_set_quality(c, quality, TRUE);
    c->optimize_coding = TRUE;
    if (quality >= 90 && m->channels > 1) c->comp_info[0].h_samp_factor = c->comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(c, TRUE);
    if (exif->length) jpeg_write_marker(c, JPEG_APP0 + 1, (const JOCTET *)exif->at, (unsigned)exif->length);
    while (c->next_scanline < c->image_height) {
        uint8_t *row = m->pixels + (size_t)c->next_scanline * (size_t)m->width * (size_t)m->channels;
        jpeg_write_scanlines(c, &row, 1);
    }
    jpeg_finish_compress(c);
}

dc_status dc_jpeg_encode(dc_out *to, const char *name, const dc_image *m, int quality, const char *text, dc_error *e)
{
    dc_error own = {0};
    jpeg_work w = {.name = name, .e = e ? e : &own};
    jpeg_sink sink = {{.init_destination = sink_begin, .empty_output_buffer = sink_full, .term_destination = sink_end}, .work = &w, .out = to};
    struct jpeg_compress_struct c = {.err = jpeg_std_error(&w.manager)};
    dc_text exif = {0};
    if (text) dc_text_append(&exif, "Exif\0\0", 6), dc_exif_write(&exif, text);
    if (exif.failed) return dc_fail_memory(e, name, strlen(text));
    if (exif.length > 65533) {
        dc_text_free(&exif);
        return dc_fail(e, DC_USAGE, "%s: text: found too much of it, expected at most %d bytes of UTF-16 in a JPEG", name, DC_JPEG_TEXT);
    }
    w.manager.error_exit = on_error;
    if (!setjmp(w.jump)) {
        jpeg_create_compress(&c);
        c.dest = &sink.manager;
        write_picture(&c, m, quality, &exif);
    }
    jpeg_destroy_compress(&c);
    dc_text_free(&exif);
    return w.failed ? w.e->code : DC_OK;
}
