/* Chunks of a PNG made of any bytes, with the right checksums, so that they come to where they are understood: text in its three forms, EXIF and
 * whatever else. Input: for each chunk a byte that tells its kind, two of length, and what is in it. */
#include "image/codec.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void need(bool x)
{
    if (!x) abort();
}

static uint8_t file[1 << 20];
static size_t length;

static void put_number(uint32_t v)
{
    for (int i = 3; i >= 0; i--) file[length++] = (uint8_t)(v >> 8 * i);
}

static void put_chunk(const char *kind, const uint8_t *data, size_t n)
{
    if (length + n + 64 > sizeof file) return;
    put_number((uint32_t)n);
    size_t begin = length;
    memcpy(file + length, kind, 4);
    length += 4;
    if (n) memcpy(file + length, data, n);
    length += n;
    put_number((uint32_t)crc32(0, file + begin, (uInt)(length - begin)));
}

/* "parameters" NUL method ... : a text chunk with the keyword that is looked for, compressed here when `packed`. */
static void put_text(const char *kind, const char *head, size_t head_bytes, bool packed, const uint8_t *data, size_t n)
{
    static uint8_t text[1 << 17];
    uLongf room = sizeof text - head_bytes;
    memcpy(text, head, head_bytes);
    if (packed && compress(text + head_bytes, &room, data, n) != Z_OK) return;
    if (!packed) memcpy(text + head_bytes, data, n), room = n;
    put_chunk(kind, text, head_bytes + room);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const uint8_t header[] = {0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0}, pixel[] = {0x78, 0x9c, 0x63, 0x60, 0, 0, 0, 2, 0, 1};
    static const char *const kinds[] = {"tEXt", "zTXt", "iTXt", "eXIf", "PLTE", "tRNS", "gAMA", "iCCP", "pHYs", "tIME", "prIv"};
    memcpy(file, "\x89PNG\r\n\x1a\n", 8);
    length = 8;
    put_chunk("IHDR", header, sizeof header);
    while (n >= 3) {
        size_t is = bytes[0] % 16, size = (size_t)bytes[1] << 8 | bytes[2];
        bytes += 3, n -= 3;
        if (size > n) size = n;
        if (is < 11) put_chunk(kinds[is], bytes, size);
        else if (is == 11) put_text("tEXt", "parameters", 11, false, bytes, size);
        else if (is == 12) put_text("zTXt", "parameters\0", 12, true, bytes, size);
        else if (is == 13) put_text("iTXt", "parameters\0\0\0\0", 15, false, bytes, size);
        else if (is == 14) put_text("iTXt", "parameters\0\1\0\0", 15, true, bytes, size);
        else put_text("zTXt", "parameters\0", 12, false, bytes, size);
        bytes += size, n -= size;
    }
    put_chunk("IDAT", pixel, sizeof pixel);
    put_chunk("IEND", NULL, 0);

    dc_error e = {0};
    char *text = NULL;
    dc_status s = dc_png_find_text("f.png", file, length, "parameters", &text, &e);
    need(s == e.code && (!s || (s == DC_DATA && !text && !strncmp(e.text, "f.png: ", 7))) && (!text || strlen(text) <= 2u << 20));
    free(text);
    dc_image m;
    e = (dc_error){0};
    s = dc_image_read_memory(&m, "f.png", file, length, 3, &e);
    need(s == e.code && (s ? s == DC_DATA && !m.pixels : m.width == 1 && m.height == 1));
    dc_image_free(&m);
    return 0;
}
