/* webp.c - WebP through libwebp. Its container is plain RIFF: the chunk with the text is put around the encoder's picture by hand. */
#include "image/codec.h"
#include <stdlib.h>
#include <string.h>

#include <webp/decode.h>
#include <webp/encode.h>

static dc_status bad(const char *name, VP8StatusCode code, dc_error *e)
{
    static const char *const what[] = {"",
                                       "out of memory",
                                       "a wrong parameter",
                                       "the data is damaged",
                                       "something that the library does not read",
                                       "",
                                       "",
                                       "found the end of the file, expected more data"};
    if (code == VP8_STATUS_OUT_OF_MEMORY) return dc_fail_memory(e, name, 0);
    return dc_fail(e, DC_DATA, "%s: WebP: %s", name, code > 0 && code < 8 && *what[code] ? what[code] : "cannot be read");
}

dc_status dc_webp_decode(dc_image *out, const char *name, const uint8_t *bytes, size_t n, int *orientation, dc_error *e)
{
    WebPDecoderConfig c;
    size_t size;
    if (!WebPInitDecoderConfig(&c)) return dc_fail(e, DC_INTERNAL, "%s: WebP: found another version of the library than was built with", name);
    VP8StatusCode code = WebPGetFeatures(bytes, n, &c.input);
    if (code) return bad(name, code, e);
    if (c.input.has_animation) return dc_fail(e, DC_DATA, "%s: WebP: found an animation, expected one picture", name);
    int channels = c.input.has_alpha ? 4 : 3;
    dc_status s = dc_image_make(out, name, (uint64_t)c.input.width, (uint64_t)c.input.height, channels, e);
    if (s) return s;
    c.output.colorspace = channels == 4 ? MODE_RGBA : MODE_RGB;
    c.output.is_external_memory = 1;
    c.output.u.RGBA = (WebPRGBABuffer){out->pixels, out->width * channels, (size_t)out->width * (size_t)out->height * (size_t)channels};
    code = WebPDecode(bytes, n, &c);
    WebPFreeDecBuffer(&c.output);
    if (code) {
        dc_image_free(out);
        return bad(name, code, e);
    }
    const uint8_t *exif = dc_webp_chunk(bytes, n, "EXIF", &size);
    if (exif) *orientation = dc_exif_orientation(exif, size);
    return DC_OK;
}

bool dc_webp_size(const uint8_t *bytes, size_t n, uint32_t *width, uint32_t *height)
{
    int w, h;
    if (!WebPGetInfo(bytes, n, &w, &h)) return false;
    *width = (uint32_t)w, *height = (uint32_t)h;
    return true;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static void put(dc_text *to, uint32_t v, int n) /* little-endian */
{
    for (int i = 0; i < n; i++) dc_text_append(to, &(uint8_t){(uint8_t)(v >> 8 * i)}, 1);
}

static void put_chunk(dc_text *to, const char *kind, const void *data, size_t n)
{
    dc_text_append(to, kind, 4);
    put(to, (uint32_t)n, 4);
    dc_text_append(to, data, n);
    if (n & 1) dc_text_append(to, "", 1);
}

/* The encoder's file (RIFF, size, WEBP and one chunk) with an extended header and the text behind the picture. */
static void extend(dc_text *to, const uint8_t *file, size_t n, const dc_image *m, const char *text)
{
    dc_text exif = {0};
    dc_exif_write(&exif, text);
    dc_text_append(to, "RIFF", 4), put(to, 0, 4), dc_text_append(to, "WEBPVP8X", 8), put(to, 10, 4);
    put(to, 0x08, 4); /* EXIF, no alpha */
    put(to, (uint32_t)m->width - 1, 3), put(to, (uint32_t)m->height - 1, 3);
    dc_text_append(to, file + 12, n - 12);
    put_chunk(to, "EXIF", exif.at, exif.length);
    to->failed |= exif.failed;
    for (int i = 0; !to->failed && i < 4; i++) to->at[4 + i] = (char)((to->length - 8) >> 8 * i);
    dc_text_free(&exif);
}

/* Gray becomes RGB. */
static bool import(WebPPicture *p, const dc_image *m)
{
    if (m->channels > 1)
        return m->channels == 4 ? WebPPictureImportRGBX(p, m->pixels, 4 * m->width) : WebPPictureImportRGB(p, m->pixels, 3 * m->width);
    size_t n = (size_t)m->width * (size_t)m->height;
    uint8_t *rgb = malloc(3 * n);
    for (size_t i = 0; rgb && i < n; i++) memset(rgb + 3 * i, m->pixels[i], 3);
    bool good = rgb && WebPPictureImportRGB(p, rgb, 3 * m->width);
    free(rgb);
    return good;
}

dc_status dc_webp_encode(dc_out *to, const char *name, const dc_image *m, int quality, bool lossless, const char *text, dc_error *e)
{
    WebPConfig c;
    WebPPicture p;
    WebPMemoryWriter w;
    dc_text file = {0};
    if (!WebPConfigInit(&c) || !WebPPictureInit(&p))
        return dc_fail(e, DC_INTERNAL, "%s: WebP: found another version of the library than was built with", name);
    if (lossless) WebPConfigLosslessPreset(&c, 6);
    else c.quality = (float)quality;
    WebPMemoryWriterInit(&w);
    p.use_argb = lossless;
    p.width = m->width;
    p.height = m->height;
    p.writer = WebPMemoryWrite;
    p.custom_ptr = &w;
    dc_status s = DC_OK;
    if (m->width > WEBP_MAX_DIMENSION || m->height > WEBP_MAX_DIMENSION)
        s = dc_fail(e, DC_USAGE, "%s: WebP: found a picture of %dx%d, expected at most %d a side", name, m->width, m->height, WEBP_MAX_DIMENSION);
    else if (!import(&p, m) || !WebPEncode(&c, &p)) s = dc_fail_memory(e, name, (uint64_t)m->width * (uint64_t)m->height * 4);
    if (!s && text) extend(&file, w.mem, w.size, m, text);
    if (!s && file.failed) s = dc_fail_memory(e, name, w.size);
    if (!s) s = text ? dc_out_write(to, file.at, file.length, e) : dc_out_write(to, w.mem, w.size, e);
    dc_text_free(&file);
    WebPMemoryWriterClear(&w);
    WebPPictureFree(&p);
    return s;
}
