/* Pictures against Pillow: decoding, orientation, resizing to the byte; PNG written and read again. Golden: tests/gen/image.py,
 * image_resize.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/npy.h"
#include "image/image.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN TEST_DATA "/golden/image/"

static json_t *read_json(const char *name)
{
    dc_error e = {0};
    json_t *root = NULL;
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (dc_json_read(&root, path, 1u << 20, &e)) fail_msg("%s", e.text);
    return root;
}

static const char *text(const json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }

static dc_npy read_npy(const char *name)
{
    dc_error e = {0};
    dc_npy n;
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (dc_npy_read(&n, path, &e)) fail_msg("%s", e.text);
    return n;
}

/* Largest difference of a level. */
static int difference(const dc_image *m, const dc_npy *want)
{
    int most = 0;
    size_t n = (size_t)m->width * (size_t)m->height * (size_t)m->channels;
    if (want->bytes != n) return 256;
    for (size_t i = 0; i < n; i++) {
        int d = abs(m->pixels[i] - ((uint8_t *)want->data)[i]);
        if (d > most) most = d;
    }
    return most;
}

static const char *const filters[] = {"box", "bilinear", "bicubic", "lanczos", "nearest"}; /* in the order of dc_filter */

static void resizing_is_pillows_to_the_byte(void **state)
{
    (void)state;
    json_t *all = read_json("resize.json"), *entry;
    size_t i;
    assert_true(json_array_size(all) > 20);
    json_array_foreach(all, i, entry)
    {
        dc_error e = {0};
        dc_image in, out;
        char path[512];
        const char *mode = text(entry, "mode");
        int filter = 0;
        while (filter < 5 && strcmp(filters[filter], text(entry, "filter"))) filter++;
        snprintf(path, sizeof path, GOLDEN "%s", text(entry, "source"));
        if (dc_image_read(&in, path, !strcmp(mode, "L") ? 1 : (int)strlen(mode), &e)) fail_msg("%s", e.text);
        int w = (int)json_integer_value(json_array_get(json_object_get(entry, "size"), 0)),
            h = (int)json_integer_value(json_array_get(json_object_get(entry, "size"), 1));
        if (dc_image_resize(&out, &in, w, h, (dc_filter)filter, &e)) fail_msg("%s", e.text);
        dc_npy want = read_npy(text(entry, "file"));
        int d = difference(&out, &want);
        if (d) fail_msg("%s: off by %d levels", text(entry, "file"), d);
        free(want.data);
        dc_image_free(&in);
        dc_image_free(&out);
    }
    json_decref(all);
}

/* Sizes of every kind: the sums of what Pillow makes of pictures that a formula makes. */
static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
    }
    return ~c;
}

static void many_sizes_resize_as_pillow_does(void **state)
{
    (void)state;
    json_t *all = read_json("resize_crc.json"), *row;
    size_t i;
    assert_true(json_array_size(all) > 200);
    json_array_foreach(all, i, row)
    {
        int v[6], filter = 0;
        for (size_t k = 0; k < 6; k++) v[k] = (int)json_integer_value(json_array_get(row, k)); /* w h channels seed w' h' */
        const char *name = json_string_value(json_array_get(row, 6));
        while (filter < 5 && strcmp(filters[filter], name)) filter++;
        size_t n = (size_t)v[0] * (size_t)v[1] * (size_t)v[2];
        dc_image in = {v[0], v[1], v[2], malloc(n)}, out;
        dc_error e = {0};
        for (uint64_t k = 0; k < n; k++) in.pixels[k] = (uint8_t)((k * k * 31 + k * 7 + (uint64_t)v[3] * 13) >> 3);
        if (dc_image_resize(&out, &in, v[4], v[5], (dc_filter)filter, &e)) fail_msg("%s", e.text);
        uint32_t crc = crc32_of(out.pixels, (size_t)out.width * (size_t)out.height * (size_t)out.channels);
        if (crc != (uint32_t)json_integer_value(json_array_get(row, 7))) fail_msg("%dx%dx%d to %dx%d, %s", v[0], v[1], v[2], v[4], v[5], name);
        dc_image_free(&in);
        dc_image_free(&out);
    }
    json_decref(all);
}

static void tricky_files_read_as_pillow_reads_them(void **state)
{
    (void)state;
    json_t *all = read_json("files.json"), *entry;
    size_t i;
    assert_true(json_array_size(all) > 10);
    json_array_foreach(all, i, entry)
    {
        dc_error e = {0};
        dc_image m;
        char path[512];
        const char *rgb = text(entry, "rgb");
        snprintf(path, sizeof path, GOLDEN "%s", text(entry, "file"));
        dc_status s = dc_image_read(&m, path, 3, &e);
        if (!rgb) {
            if (s != DC_DATA) fail_msg("%s: read, though it is damaged", path);
            assert_null(m.pixels);
            continue;
        }
        if (s) fail_msg("%s", e.text);
        dc_npy want = read_npy(rgb);
        int d = difference(&m, &want);
        bool jpeg = strstr(path, ".jp") != NULL;
        int allowed = !jpeg ? 0 : strstr(path, "cmyk") ? 8 : 4; /* another inverse cosine transform and chroma upsampling */
        if (d > allowed) fail_msg("%s: off by %d levels, allowed %d", path, d, allowed);
        free(want.data);
        dc_image_free(&m);
    }
    json_decref(all);
}

static void png_round_trip(const char *parameters)
{
    dc_error e = {0};
    uint8_t pixels[3 * 5 * 7];
    dc_image m = {5, 7, 3, pixels}, back;
    dc_png_text chunk = {"parameters", parameters};
    char path[] = "/tmp/diffc-test-XXXXXX.png", *got = NULL;
    int fd = mkstemps(path, 4);
    close(fd);
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 37);
    if (dc_png_write(path, &m, &chunk, 1, false, NULL, &e)) fail_msg("%s", e.text);
    if (dc_image_read(&back, path, 0, &e)) fail_msg("%s", e.text);
    assert_int_equal(back.channels, 3);
    assert_memory_equal(back.pixels, pixels, sizeof pixels);
    if (dc_png_read_text(path, "parameters", &got, &e)) fail_msg("%s", e.text);
    assert_non_null(got);
    assert_string_equal(got, parameters);
    bool exists = false;
    assert_int_equal(dc_png_write(path, &m, NULL, 0, true, &exists, &e), DC_NO_CREATE);
    assert_true(exists);
    unlink(path);
    free(got);
    dc_image_free(&back);
}

static void png_keeps_pixels_and_text(void **state)
{
    (void)state;
    png_round_trip("a red apple\nSteps: 20, Seed: 1");
    png_round_trip("caf\xc3\xa9");                       /* Latin-1: tEXt */
    png_round_trip("\xe7\x8c\xab and \xf0\x9f\x8d\x8e"); /* iTXt */
}

/* Written by Pillow. */
static void compressed_text_is_read(void **state)
{
    (void)state;
    dc_error e = {0};
    char *got = NULL;
    if (dc_png_read_text(GOLDEN "text/ztxt.png", "parameters", &got, &e)) fail_msg("%s", e.text);
    assert_non_null(got);
    assert_int_equal(strlen(got), 40 * 9 + 10);
    assert_memory_equal(got, "a caf\xc3\xa9, a", 9);
    free(got);
    if (dc_png_read_text(GOLDEN "text/itxt_compressed.png", "parameters", &got, &e)) fail_msg("%s", e.text);
    assert_string_equal(got, "\xe7\x8c\xab on a mat\nSteps: 20");
    free(got);
    if (dc_png_read_text(GOLDEN "text/ztxt.png", "prompt", &got, &e)) fail_msg("%s", e.text);
    assert_null(got);
    if (dc_png_read_text(GOLDEN "text/long_ztxt.png", "parameters", &got, &e)) fail_msg("%s", e.text);
    assert_null(got); /* five megabytes from five kilobytes */
    assert_int_equal(dc_png_read_text(GOLDEN "files/baseline420.jpg", "parameters", &got, &e), DC_DATA);
    assert_null(got);
}

static void long_text_is_refused(void **state)
{
    (void)state;
    dc_error e = {0};
    uint8_t pixel[3] = {1, 2, 3};
    dc_image m = {1, 1, 3, pixel};
    char path[] = "/tmp/diffc-test-XXXXXX.png", *got = NULL, *value = malloc((1 << 20) + 2);
    close(mkstemps(path, 4));
    memset(value, 'x', (1 << 20) + 1);
    value[(1 << 20) + 1] = 0;
    for (int longer = 0; longer < 2; longer++) {
        dc_png_text chunk = {"parameters", value + !longer};
        if (dc_png_write(path, &m, &chunk, 1, false, NULL, &e)) fail_msg("%s", e.text);
        assert_int_equal(dc_png_read_text(path, "parameters", &got, &e), longer ? DC_DATA : DC_OK);
        assert_int_equal(got != NULL, !longer);
        free(got);
    }
    unlink(path);
    free(value);
}

static void wrong_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
    } files[] = {
        {"", 0},
        {"GIF89a", 6},
        {"\x89PNG\r\n\x1a\n", 8},
        {"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\0\0\0\0\0\0\0", 33},
        {"\xff\xd8\xff\xe0", 4},
        {"hello", 5},
        {"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde\x40\0\0\0eXIfMM", 43}, /* claims a gigabyte */
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        dc_error e = {0};
        dc_image m;
        assert_int_equal(dc_image_read_memory(&m, "x", (const uint8_t *)files[i].bytes, files[i].n, 3, &e), DC_DATA);
        assert_true(strlen(e.text) > 5);
        assert_null(m.pixels);
    }
    dc_error e = {0};
    dc_image m;
    assert_int_equal(dc_image_read(&m, "/nonexistent/picture.png", 3, &e), DC_NO_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(resizing_is_pillows_to_the_byte),
                                       cmocka_unit_test(tricky_files_read_as_pillow_reads_them),
                                       cmocka_unit_test(png_keeps_pixels_and_text),
                                       cmocka_unit_test(wrong_files_are_refused),
                                       cmocka_unit_test(many_sizes_resize_as_pillow_does),
                                       cmocka_unit_test(compressed_text_is_read),
                                       cmocka_unit_test(long_text_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
