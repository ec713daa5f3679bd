/* codec.h - what the readers of single formats share; private to this folder. */
#ifndef DC_IMAGE_CODEC_H
#define DC_IMAGE_CODEC_H
#include "base/file.h"
#include "base/text.h"
#include "image/image.h"

#define DC_IMAGE_SIDE   16384
#define DC_IMAGE_PIXELS 67108864u
#define DC_IMAGE_TEXT   (1u << 20)

/* Checks a size against the limits; and allocates *out. */
dc_status dc_image_check(const char *name, uint64_t width, uint64_t height, dc_error *e);
dc_status dc_image_make(dc_image *out, const char *name, uint64_t width, uint64_t height, int channels, dc_error *e);
/* Decoders: the file's own channels (1, 3 or 4); *orientation is EXIF's 1..8 (1: none). least: as dc_image_read_reduced. */
dc_status dc_png_decode(dc_image *out, const char *name, const uint8_t *bytes, size_t n, int *orientation, dc_error *e);
dc_status dc_jpeg_decode(dc_image *out, const char *name, const uint8_t *bytes, size_t n, int least, int *orientation, dc_error *e);
dc_status dc_webp_decode(dc_image *out, const char *name, const uint8_t *bytes, size_t n, int *orientation, dc_error *e);
/* Sizes as stored, from headers alone. */
bool dc_jpeg_size(const uint8_t *bytes, size_t n, uint32_t *width, uint32_t *height);
bool dc_webp_size(const uint8_t *bytes, size_t n, uint32_t *width, uint32_t *height);
/* Encoders, into a file that is open; `text` (NULL: none) as A1111 puts it there. JPEG and WebP hold RGB or gray: alpha is left out. */
dc_status dc_png_encode(dc_out *to, const char *name, const dc_image *m, const char *text, dc_error *e);
dc_status dc_jpeg_encode(dc_out *to, const char *name, const dc_image *m, int quality, const char *text, dc_error *e);
dc_status dc_webp_encode(dc_out *to, const char *name, const dc_image *m, int quality, bool lossless, const char *text, dc_error *e);
/* dc_image_find_text for PNG; on an error *out is NULL. */
dc_status dc_png_find_text(const char *name, const uint8_t *bytes, size_t n, const char *key, char **out, dc_error *e);
/* A JPEG's EXIF segment (from "Exif" on), a WebP's first chunk of a kind ("EXIF", "XMP "); NULL: none. */
const uint8_t *dc_jpeg_exif(const uint8_t *bytes, size_t n, size_t *size);
const uint8_t *dc_webp_chunk(const uint8_t *bytes, size_t n, const char *kind, size_t *size);

/* ---- exif.c: on a TIFF block ("II*" or "MM*"), with or without "Exif" before it */
/* EXIF's orientation; 1 when absent or malformed. */
int dc_exif_orientation(const uint8_t *tiff, size_t n);
/* "parameters": the user comment; "prompt", "workflow": ComfyUI's. *out: UTF-8 in a new string, NULL: none. */
dc_status dc_exif_text(char **out, const char *name, const uint8_t *tiff, size_t n, const char *key, dc_error *e);
/* Appends a block that holds a user comment. */
void dc_exif_write(dc_text *to, const char *text);

/* A new string; NULL when memory is out. */
char *dc_from_latin1(const char *s, size_t n);

#endif
