/* codec.h - what the readers of single formats share; private to this folder. */
#ifndef DC_IMAGE_CODEC_H
#define DC_IMAGE_CODEC_H
#include "image/image.h"

#define DC_IMAGE_SIDE   16384
#define DC_IMAGE_PIXELS 67108864u
#define DC_IMAGE_FILE   (256u << 20)

/* Checks a size against the limits and allocates *out. */
dc_status dc_image_make(dc_image *out, const char *name, uint64_t width, uint64_t height, int channels, dc_error *e);
/* Decoders: the file's own channels (1, 3 or 4); *orientation is EXIF's 1..8 (1: none). */
dc_status dc_png_decode(dc_image *out, const char *name, const uint8_t *bytes, size_t n, int *orientation, dc_error *e);
dc_status dc_jpeg_decode(dc_image *out, const char *name, const uint8_t *bytes, size_t n, int *orientation, dc_error *e);
/* dc_png_read_text on a file in memory; on an error *out is NULL. */
dc_status dc_png_find_text(const char *name, const uint8_t *bytes, size_t n, const char *key, char **out, dc_error *e);
/* EXIF's orientation from a TIFF block ("II*" or "MM*"); 1 when absent or malformed. */
int dc_exif_orientation(const uint8_t *tiff, size_t n);

#endif
