/* Any bytes as a picture file: refused, or pixels within the limits; and as a PNG with text. Tiny headers may promise large pictures, so
 * only those of up to a megapixel are turned and converted again. */
#include "image/codec.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void look_at(const dc_image *m, int want)
{
    if (m->width < 1 || m->height < 1 || m->width > DC_IMAGE_SIDE || m->height > DC_IMAGE_SIDE) abort();
    if (want ? m->channels != want : m->channels != 1 && m->channels != 3 && m->channels != 4) abort();
    volatile uint8_t last = m->pixels[(size_t)m->width * (size_t)m->height * (size_t)m->channels - 1];
    (void)last;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const int wants[] = {0, 1, 3, 4};
    for (int i = 0; i < 4; i++) {
        dc_error e = {0};
        dc_image m;
        dc_status s = dc_image_read_memory(&m, "fuzz", data, n, wants[i], &e);
        if (s != DC_OK && s != DC_DATA && s != DC_NO_MEMORY) abort();
        if ((s == DC_OK) != (m.pixels != NULL) || (s && !*e.text)) abort();
        if (s == DC_OK) look_at(&m, wants[i]);
        bool large = s == DC_OK && (size_t)m.width * (size_t)m.height > 1u << 20;
        dc_image_free(&m);
        if (s || large) break;
    }
    char *text = NULL;
    dc_error e = {0};
    if (dc_image_find_text("fuzz", data, n, "parameters", &text, &e) != DC_OK && text) abort();
    free(text);
    return 0;
}
