/* jpeg.c - JPEG through libjpeg-turbo: RGB, gray or CMYK (turned into RGB), with EXIF's orientation. */
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

static void on_error(j_common_ptr c)
{
    jpeg_work *w = (jpeg_work *)c->err;
    char message[JMSG_LENGTH_MAX];
    w->manager.format_message(c, message);
    dc_status code = c->err->msg_code == JERR_OUT_OF_MEMORY ? DC_NO_MEMORY : DC_DATA;
    if (!w->failed) dc_fail(w->e, code, "%s: JPEG: %s", w->name, message);
    w->failed = true;
    longjmp(w->jump, 1);
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
    w->failed = true;
    longjmp(w->jump, 1);
}

static void find_orientation(const struct jpeg_decompress_struct *c, int *orientation)
{
    for (jpeg_saved_marker_ptr m = c->marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && !memcmp(m->data, "Exif\0\0", 6)) {
            *orientation = dc_exif_orientation(m->data, m->data_length);
            return;
        }
}

/* Adobe's CMYK is stored inverted: r = c * k / 255. */
static void cmyk_row(uint8_t *to, const uint8_t *from, int n)
{
    for (int i = 0; i < n; i++, from += 4)
        for (int c = 0; c < 3; c++) *to++ = (uint8_t)((from[c] * from[3] + 127) / 255);
}

static void read_picture(jpeg_work *w, struct jpeg_decompress_struct *c, dc_image *out, const uint8_t *bytes, size_t n, int *orientation)
{
    jpeg_mem_src(c, bytes, n);
    jpeg_save_markers(c, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(c, TRUE);
    bool cmyk = c->jpeg_color_space == JCS_CMYK || c->jpeg_color_space == JCS_YCCK;
    c->out_color_space = cmyk ? JCS_CMYK : c->jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
    find_orientation(c, orientation);
    if (dc_image_make(out, w->name, c->image_width, c->image_height, c->out_color_space == JCS_GRAYSCALE ? 1 : 3, w->e)) {
        w->failed = true;
        longjmp(w->jump, 1);
    }
    jpeg_start_decompress(c);
    JSAMPARRAY wide = cmyk ? c->mem->alloc_sarray((j_common_ptr)c, JPOOL_IMAGE, (JDIMENSION)(4 * out->width), 1) : NULL;
    while (c->output_scanline < c->output_height) {
        uint8_t *row = out->pixels + (size_t)c->output_scanline * (size_t)out->width * (size_t)out->channels;
        jpeg_read_scanlines(c, cmyk ? wide : &row, 1);
        if (cmyk) cmyk_row(row, wide[0], out->width);
    }
    jpeg_finish_decompress(c);
}

dc_status dc_jpeg_decode(dc_image *out, const char *name, const uint8_t *bytes, size_t n, int *orientation, dc_error *e)
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
        read_picture(&w, &c, out, bytes, n, orientation);
    }
    jpeg_destroy_decompress(&c);
    if (w.failed) dc_image_free(out);
    return w.failed ? w.e->code : DC_OK;
}
