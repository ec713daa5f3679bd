/* image.h - pictures: 8-bit RGB(A) in memory, PNG, JPEG and WebP files with text, resizing as Pillow does it. */
#ifndef DC_IMAGE_IMAGE_H
#define DC_IMAGE_IMAGE_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DC_IMAGE_FILE (256u << 20) /* bytes of a picture file */

/* Interleaved rows without padding: height * width * channels bytes, channels 1, 3 or 4. */
typedef struct dc_image {
    int width, height, channels;
    uint8_t *pixels;
} dc_image;

#define DC_IMAGE_ALPHA (-1)
/* Reads a picture file as 1 (gray), 3 (RGB) or 4 (RGBA) channels; `want` 0 keeps the file's, DC_IMAGE_ALPHA too but for transparent colours
 * (tRNS), which it ignores; else converts as Pillow's convert() does. PNG, JPEG and WebP (EXIF orientation applied); "-" is stdin. At most 16384 a
 * side and 64 Mpixel.
 * Errors: NO_INPUT, DATA, NO_MEMORY. */
dc_status dc_image_read(dc_image *out, const char *path, int want, dc_error *e);
dc_status dc_image_read_memory(dc_image *out, const char *name, const uint8_t *bytes, size_t n, int want, dc_error *e);
/* The same where less will do: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size, the smallest with at least `least` pixels a side. Not the same as
 * resizing it, but near. */
dc_status dc_image_read_reduced(dc_image *out, const char *path, int want, int least, dc_error *e);
/* Width and height as the header tells them before anything is decoded, upright where that is EXIF's matter in a JPEG or WebP; false: no PNG, JPEG
 * or WebP, or no header. */
bool dc_image_size(const uint8_t *bytes, size_t n, uint32_t *width, uint32_t *height);
void dc_image_free(dc_image *m); /* zeroes *m */

typedef enum dc_image_format { DC_IMAGE_UNKNOWN, DC_IMAGE_PNG, DC_IMAGE_JPEG, DC_IMAGE_WEBP } dc_image_format;
typedef struct dc_image_style {
    dc_image_format format;
    int quality;   /* JPEG, WebP: 1..100 */
    bool lossless; /* WebP */
    bool fleeting; /* as dc_out_fleeting */
} dc_image_style;
/* By the first bytes (12 are enough). */
dc_image_format dc_image_kind(const uint8_t *bytes, size_t n);
/* By the name's ending: .jpg, .jpeg and .webp in any case, else PNG. */
dc_image_format dc_image_format_of(const char *path);
/* parameters (NULL: none) goes where A1111 puts it: a PNG's text chunk of that name (tEXt when it fits Latin-1, else iTXt), the user comment of a JPEG's or
 * WebP's EXIF. Errors as dc_out_*;
 * USAGE: quality, or a text that a JPEG has no room for (DC_JPEG_TEXT). Atomic. "-" is stdout. exclusive, exists: as dc_out_open. */
dc_status dc_image_write(const char *path, const dc_image *m, const dc_image_style *style, const char *parameters, bool exclusive, bool *exists,
                         dc_error *e);
#define DC_JPEG_TEXT 65479 /* bytes of UTF-16 */

/* The text that a picture file carries, as UTF-8 in a new string (the caller frees); NULL in *out when there is none. key: of a PNG's text chunk
 * (tEXt, zTXt, iTXt); in JPEG and WebP "parameters" (EXIF's user comment, and where stable-diffusion.cpp puts it), "prompt" and
 * "workflow" (ComfyUI's). Longer than 1 MiB: DATA, or not found when it is compressed. */
dc_status dc_image_read_text(const char *path, const char *key, char **out, dc_error *e);
dc_status dc_image_find_text(const char *name, const uint8_t *bytes, size_t n, const char *key, char **out, dc_error *e);

typedef enum dc_filter { DC_FILTER_BOX, DC_FILTER_BILINEAR, DC_FILTER_BICUBIC, DC_FILTER_LANCZOS, DC_FILTER_NEAREST } dc_filter;
/* Pillow 13's Image.resize for 8-bit data, byte for byte (fixed point, 8-bit intermediate rows; RGBA is premultiplied).
 * Errors: NO_MEMORY. */
dc_status dc_image_resize(dc_image *out, const dc_image *in, int width, int height, dc_filter filter, dc_error *e);
/* Of that picture a part that lies in it, without computing the rest. */
typedef struct dc_image_part {
    int left, top, width, height;
} dc_image_part;
dc_status dc_image_resize_part(dc_image *out, const dc_image *in, int width, int height, const dc_image_part *part, dc_filter filter, dc_error *e);

#endif
