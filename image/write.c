/* write.c - picture files written: the format by its name, the file put in place when it is whole. */
#include "image/codec.h"
#include <string.h>
#include <strings.h>

dc_image_format dc_image_format_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    if (dot && (!strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg"))) return DC_IMAGE_JPEG;
    return dot && !strcasecmp(dot, ".webp") ? DC_IMAGE_WEBP : DC_IMAGE_PNG;
}

static dc_status encode(dc_out *to, const char *path, const dc_image *m, const dc_image_style *style, const char *parameters, dc_error *e)
{
    if (style->format == DC_IMAGE_JPEG) return dc_jpeg_encode(to, path, m, style->quality, parameters, e);
    if (style->format == DC_IMAGE_WEBP) return dc_webp_encode(to, path, m, style->quality, style->lossless, parameters, e);
    return dc_png_encode(to, path, m, parameters, e);
}

dc_status dc_image_write(const char *path, const dc_image *m, const dc_image_style *style, const char *parameters, bool exclusive, bool *exists,
                         dc_error *e)
{
    dc_error own = {0};
    dc_out *to = NULL;
    if (!e) e = &own;
    if (style->format != DC_IMAGE_PNG && !style->lossless && (style->quality < 1 || style->quality > 100))
        return dc_fail(e, DC_USAGE, "quality: found %d, expected 1 to 100", style->quality);
    dc_status s = dc_out_open(&to, path, exclusive, exists, e);
    if (!s && style->fleeting) dc_out_fleeting(to);
    if (!s) s = encode(to, path, m, style, parameters, e);
    if (s) {
        dc_out_abandon(to);
        return s;
    }
    s = dc_out_commit(to, e);
    if (exists && exclusive && s == DC_NO_CREATE && dc_is_file(path)) *exists = true; /* somebody took the name meanwhile */
    return s;
}
