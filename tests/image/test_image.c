/* Pictures against Pillow: decoding, orientation, resizing to the byte; PNG written and read again. Golden: tests/gen/image.py,
 * image_resize.py, picture_text.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
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

/* The whole is Pillow's; a part of it is computed alone. */
static void parts_are_cut_from_the_whole(void **state)
{
    (void)state;
    static const int sizes[][4] = {{40, 30, 20, 15}, {61, 200, 50, 20}, {300, 17, 77, 17}, {33, 90, 33, 31}, {5, 4, 60, 50}, {20, 20, 20, 20}};
    uint64_t random = 5;
    for (int k = 0; k < 360; k++) {
        const int *v = sizes[k % 6], channels = (int[]){1, 3, 4}[k / 6 % 3], filter = k / 18 % 5;
        const size_t n = (size_t)(v[0] * v[1] * channels);
        dc_image in = {v[0], v[1], channels, malloc(n)}, whole, some;
        dc_error e = {0};
        int part[4];
        for (size_t i = 0; i < n; i++) in.pixels[i] = (uint8_t)(i * i * 31 >> 3);
        for (int i = 0; i < 4; i++) {
            random = random * 6364136223846793005ull + 1442695040888963407ull;
            part[i] = (int)(random >> 33) % (v[2 + i % 2] - (i < 2 ? 0 : part[i - 2])) + i / 2;
        }
        const dc_image_part p = {part[0], part[1], part[2], part[3]};
        if (dc_image_resize(&whole, &in, v[2], v[3], (dc_filter)filter, &e)) fail_msg("%s", e.text);
        if (dc_image_resize_part(&some, &in, v[2], v[3], &p, (dc_filter)filter, &e)) fail_msg("%s", e.text);
        assert_true(some.width == p.width && some.height == p.height && some.channels == channels);
        const size_t row = (size_t)(p.width * channels);
        for (int y = 0; y < p.height; y++)
            assert_memory_equal(some.pixels + (size_t)y * row, whole.pixels + (size_t)(((p.top + y) * v[2] + p.left) * channels), row);
        dc_image_free(&in);
        dc_image_free(&whole);
        dc_image_free(&some);
    }
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

/* What Pillow's draft mode gives; off by as much as whole ones, by other versions of libjpeg. */
static void reduced_as_pillows_draft_does(void **state)
{
    (void)state;
    json_t *all = read_json("reduced.json"), *row;
    size_t i;
    assert_true(json_array_size(all) >= 9);
    json_array_foreach(all, i, row)
    {
        dc_error e = {0};
        dc_image m;
        char path[512];
        int v[3], most = 0;
        uint32_t width, height;
        const char *name = json_string_value(json_array_get(row, 0)), *hex = json_string_value(json_array_get(row, 4));
        for (size_t k = 0; k < 3; k++) v[k] = (int)json_integer_value(json_array_get(row, k + 1));
        snprintf(path, sizeof path, GOLDEN "files/%s", name);
        if (dc_image_read_reduced(&m, path, 3, v[0], &e)) fail_msg("%s", e.text);
        if (m.width != v[1] || m.height != v[2]) fail_msg("%s, %d: %dx%d, not %dx%d", name, v[0], m.width, m.height, v[1], v[2]);
        for (int k = 0; k < 3 * m.width * m.height; k++) {
            unsigned want;
            assert_int_equal(sscanf(hex + 2 * k, "%2x", &want), 1);
            const int d = abs((int)want - m.pixels[k]);
            most = d > most ? d : most;
        }
        if (most > (strstr(name, "cmyk") ? 8 : 4)) fail_msg("%s, %d: off by %d levels", name, v[0], most);
        dc_image_free(&m);
        char *file;
        size_t n;
        if (dc_read_file(path, 1 << 20, &file, &n, &e)) fail_msg("%s", e.text);
        assert_true(dc_image_size((uint8_t *)file, n, &width, &height));
        const bool turned = strstr(name, "orientation6") != NULL; /* 37x29 as stored */
        assert_true(width == (turned ? 29 : 37) && height == (turned ? 37 : 29));
        free(file);
    }
    json_decref(all);
    dc_error e = {0};
    dc_image m; /* half of 29 is less than 15 */
    if (dc_image_read_reduced(&m, GOLDEN "files/baseline420.jpg", 3, 15, &e)) fail_msg("%s", e.text);
    assert_true(m.width == 37 && m.height == 29);
    dc_image_free(&m);
}

static const dc_image_style png = {.format = DC_IMAGE_PNG};

static void png_round_trip(const char *parameters)
{
    dc_error e = {0};
    uint8_t pixels[3 * 5 * 7];
    dc_image m = {5, 7, 3, pixels}, back;
    char path[] = "/tmp/diffc-test-XXXXXX.png", *got = NULL;
    int fd = mkstemps(path, 4);
    close(fd);
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 37);
    if (dc_image_write(path, &m, &png, parameters, false, NULL, &e)) fail_msg("%s", e.text);
    if (dc_image_read(&back, path, 0, &e)) fail_msg("%s", e.text);
    assert_int_equal(back.channels, 3);
    assert_memory_equal(back.pixels, pixels, sizeof pixels);
    if (dc_image_read_text(path, "parameters", &got, &e)) fail_msg("%s", e.text);
    assert_non_null(got);
    assert_string_equal(got, parameters);
    bool exists = false;
    assert_int_equal(dc_image_write(path, &m, &png, NULL, true, &exists, &e), DC_NO_CREATE);
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
    if (dc_image_read_text(GOLDEN "text/ztxt.png", "parameters", &got, &e)) fail_msg("%s", e.text);
    assert_non_null(got);
    assert_int_equal(strlen(got), 40 * 9 + 10);
    assert_memory_equal(got, "a caf\xc3\xa9, a", 9);
    free(got);
    if (dc_image_read_text(GOLDEN "text/itxt_compressed.png", "parameters", &got, &e)) fail_msg("%s", e.text);
    assert_string_equal(got, "\xe7\x8c\xab on a mat\nSteps: 20");
    free(got);
    if (dc_image_read_text(GOLDEN "text/ztxt.png", "prompt", &got, &e)) fail_msg("%s", e.text);
    assert_null(got);
    if (dc_image_read_text(GOLDEN "text/long_ztxt.png", "parameters", &got, &e)) fail_msg("%s", e.text);
    assert_null(got); /* five megabytes from five kilobytes */
    if (dc_image_read_text(GOLDEN "files/baseline420.jpg", "parameters", &got, &e)) fail_msg("%s", e.text);
    assert_null(got);
}

/* "0aff.." of what a test knows the size of. */
static void unhex(uint8_t *to, const char *hex)
{
    for (unsigned v; sscanf(hex, "%2x", &v) == 1; hex += 2) *to++ = (uint8_t)v;
}

static void check_text(const char *path, const json_t *row, const char *key)
{
    dc_error e = {0};
    char *got = NULL;
    const char *want = text(row, key);
    if (dc_image_read_text(path, key, &got, &e)) fail_msg("%s", e.text);
    if (!want != !got || (want && strcmp(want, got))) fail_msg("%s: %s: found \"%s\", expected \"%s\"", path, key, got, want);
    free(got);
}

static void check_ends(const dc_image *m, const json_t *row)
{
    uint8_t want[512];
    size_t k = (size_t)m->width * (size_t)m->channels;
    assert_int_equal(m->width, json_integer_value(json_array_get(json_object_get(row, "size"), 0)));
    assert_int_equal(m->height, json_integer_value(json_array_get(json_object_get(row, "size"), 1)));
    assert_int_equal(m->channels, strlen(text(row, "mode")));
    unhex(want, text(row, "ends"));
    assert_memory_equal(m->pixels, want, k);
    assert_memory_equal(m->pixels + k * (size_t)(m->height - 1), want + k, k);
}

/* JPEG and WebP as A1111 (Pillow with piexif), ComfyUI and stable-diffusion.cpp write them. */
static void pictures_of_other_programs_are_read(void **state)
{
    (void)state;
    json_t *all = read_json("text/pictures.json"), *row;
    size_t i;
    assert_true(json_array_size(all) > 10);
    json_array_foreach(all, i, row)
    {
        dc_error e = {0};
        dc_image m;
        char path[512];
        if (!text(row, "file")) continue;
        snprintf(path, sizeof path, GOLDEN "text/%s", text(row, "file"));
        dc_status s = dc_image_read(&m, path, 0, &e);
        if (json_object_get(row, "error")) {
            assert_int_equal(s, DC_DATA);
            continue;
        }
        if (s) fail_msg("%s", e.text);
        if (text(row, "ends")) check_ends(&m, row);
        dc_image_free(&m);
        check_text(path, row, "parameters");
        check_text(path, row, "prompt");
        check_text(path, row, "workflow");
    }
    json_decref(all);
}

static char *read_whole(const char *path, size_t *n)
{
    dc_error e = {0};
    char *bytes;
    if (dc_read_file(path, 1u << 20, &bytes, n, &e)) fail_msg("%s", e.text);
    return bytes;
}

/* Written and read again; what is written holds piexif's block byte for byte. */
static void style_round_trip(dc_image_style style, int channels, const char *parameters, const char *exif_hex, int allowed)
{
    dc_error e = {0};
    uint8_t pixels[24 * 17 * 4], block[1024];
    dc_image m = {24, 17, channels, pixels}, back;
    char path[] = "/tmp/diffc-test-XXXXXX", *got = NULL;
    close(mkstemp(path));
    for (size_t i = 0; i < 24 * 17; i++) /* gray, so that JPEG's colours lose nothing */
        for (size_t c = 0; c < (size_t)channels; c++) pixels[i * (size_t)channels + c] = (uint8_t)(c == 3 ? 255 : i / 24 * 12 + i % 24);
    if (dc_image_write(path, &m, &style, parameters, false, NULL, &e)) fail_msg("%s", e.text);
    if (dc_image_read(&back, path, 1, &e)) fail_msg("%s", e.text);
    assert_true(back.width == 24 && back.height == 17);
    for (size_t i = 0; i < 24 * 17; i++) assert_in_range(abs(back.pixels[i] - pixels[i * (size_t)channels]), 0, allowed);
    if (dc_image_read_text(path, "parameters", &got, &e)) fail_msg("%s", e.text);
    if (!parameters) assert_null(got);
    else assert_string_equal(got, parameters);
    if (exif_hex) {
        size_t n, k = strlen(exif_hex) / 2;
        char *file = read_whole(path, &n);
        unhex(block, exif_hex);
        assert_non_null(memmem(file, n, style.format == DC_IMAGE_JPEG ? block : block + 6, style.format == DC_IMAGE_JPEG ? k : k - 6));
        free(file);
    }
    unlink(path);
    free(got);
    dc_image_free(&back);
}

static void jpeg_and_webp_keep_text(void **state)
{
    (void)state;
    const dc_image_style styles[] = {
        {DC_IMAGE_JPEG, 80, false, false}, {DC_IMAGE_JPEG, 95, false, true}, {DC_IMAGE_WEBP, 80, false, false}, {DC_IMAGE_WEBP, 0, true, true}};
    json_t *all = read_json("text/pictures.json"), *last = json_array_get(all, json_array_size(all) - 1);
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++)
        for (int channels = 1; channels <= 4; channels += channels == 1 ? 2 : 1) {
            int allowed = styles[i].lossless ? 0 : 6;
            style_round_trip(styles[i], channels, text(last, "text"), text(last, "exif"), allowed);
            style_round_trip(styles[i], channels, NULL, NULL, allowed);
            style_round_trip(styles[i], channels, "odd", NULL, allowed);
        }
    json_decref(all);
}

static void names_tell_formats(void **state)
{
    (void)state;
    assert_int_equal(dc_image_format_of("a.JPG"), DC_IMAGE_JPEG);
    assert_int_equal(dc_image_format_of("a.b/c.jpeg"), DC_IMAGE_JPEG);
    assert_int_equal(dc_image_format_of("x.WebP"), DC_IMAGE_WEBP);
    assert_int_equal(dc_image_format_of("x.png"), DC_IMAGE_PNG);
    assert_int_equal(dc_image_format_of("-"), DC_IMAGE_PNG);
}

/* A JPEG's segment has 16 bits of length. */
static void jpeg_has_room_for_so_much_text(void **state)
{
    (void)state;
    uint8_t pixel[3] = {1, 2, 3};
    dc_image m = {1, 1, 3, pixel};
    dc_image_style style = {DC_IMAGE_JPEG, 80, false, false};
    enum { FITS = DC_JPEG_TEXT / 2 };
    char path[] = "/tmp/diffc-test-XXXXXX", *got = NULL, *value = malloc(FITS + 2);
    close(mkstemp(path));
    memset(value, 'x', FITS + 1);
    value[FITS + 1] = 0;
    for (int longer = 0; longer < 2; longer++) {
        dc_error e = {0};
        assert_int_equal(dc_image_write(path, &m, &style, value + !longer, false, NULL, &e), longer ? DC_USAGE : DC_OK);
        if (longer) continue;
        if (dc_image_read_text(path, "parameters", &got, &e)) fail_msg("%s", e.text);
        assert_string_equal(got, value + 1);
        free(got);
    }
    style.quality = 101;
    dc_error e = {0};
    assert_int_equal(dc_image_write(path, &m, &style, "x", false, NULL, &e), DC_USAGE);
    unlink(path);
    free(value);
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
        if (dc_image_write(path, &m, &png, value + !longer, false, NULL, &e)) fail_msg("%s", e.text);
        assert_int_equal(dc_image_read_text(path, "parameters", &got, &e), longer ? DC_DATA : DC_OK);
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
                                       cmocka_unit_test(parts_are_cut_from_the_whole),
                                       cmocka_unit_test(reduced_as_pillows_draft_does),
                                       cmocka_unit_test(compressed_text_is_read),
                                       cmocka_unit_test(pictures_of_other_programs_are_read),
                                       cmocka_unit_test(jpeg_and_webp_keep_text),
                                       cmocka_unit_test(jpeg_has_room_for_so_much_text),
                                       cmocka_unit_test(names_tell_formats),
                                       cmocka_unit_test(long_text_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
