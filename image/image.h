/* image.h - pictures: 8-bit RGB(A) in memory, PNG files with text, resizing as Pillow does it. */
#ifndef DC_IMAGE_IMAGE_H
#define DC_IMAGE_IMAGE_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Interleaved rows without padding: height * width * channels bytes, channels 1, 3 or 4. */
typedef struct dc_image {
    int width, height, channels;
    uint8_t *pixels;
} dc_image;

/* Reads a picture file as 1 (gray), 3 (RGB) or 4 (RGBA) channels; `want` 0 keeps the file's, else converts as Pillow's convert()
 * does. PNG and JPEG (EXIF orientation applied); "-" is stdin. At most 16384 a side and 64 Mpixel.
 * Errors: NO_INPUT, DATA, NO_MEMORY. */
dc_status dc_image_read(dc_image *out, const char *path, int want, dc_error *e);
dc_status dc_image_read_memory(dc_image *out, const char *name, const uint8_t *bytes, size_t n, int want, dc_error *e);
void dc_image_free(dc_image *m); /* zeroes *m */

/* PNG text chunks: tEXt when the value fits Latin-1, else iTXt. */
typedef struct dc_png_text {
    const char *key, *value;
} dc_png_text;
/* Errors as dc_out_*; atomic. "-" is stdout. exclusive, exists: as dc_out_open. */
dc_status dc_png_write(const char *path, const dc_image *m, const dc_png_text *text, int n_text, bool exclusive, bool *exists, dc_error *e);

/* Value of a text chunk (tEXt, zTXt, iTXt) as UTF-8 in a new string; NULL in *out when there is none. The caller frees. Longer than 1 MiB:
 * DATA, or not found when it is compressed. */
dc_status dc_png_read_text(const char *path, const char *key, char **out, dc_error *e);

typedef enum dc_filter { DC_FILTER_BOX, DC_FILTER_BILINEAR, DC_FILTER_BICUBIC, DC_FILTER_LANCZOS, DC_FILTER_NEAREST } dc_filter;
/* Pillow 13's Image.resize for 8-bit data, byte for byte (fixed point, 8-bit intermediate rows; RGBA is premultiplied).
 * Errors: NO_MEMORY. */
dc_status dc_image_resize(dc_image *out, const dc_image *in, int width, int height, dc_filter filter, dc_error *e);

#endif
