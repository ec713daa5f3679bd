/* holes.h - files with the names and shapes of published models and holes in place of data. */
#ifndef TESTS_PIPELINE_HOLES_H
#define TESTS_PIPELINE_HOLES_H
#include "tests/unet/golden.h"
#include "weights/parts.h"
#include <unistd.h>
#include <zlib.h>

static inline json_t *read_description(const char *name)
{
    char path[512], *text = malloc(4 << 20);
    json_t *root = NULL;
    dc_error e = {0};
    snprintf(path, sizeof path, TEST_DATA "/golden/weights/file-%s.json.gz", name);
    gzFile f = gzopen(path, "rb");
    int n = f && text ? gzread(f, text, 4 << 20) : -1;
    if (n < 0) fail_msg("%s cannot be read", path);
    gzclose(f);
    must(dc_json_parse(&root, path, text, (size_t)n, &e), &e);
    free(text);
    return root;
}

/* A tensor's entry behind `at` bytes of others; returns the bytes behind it. */
static inline uint64_t put_entry(FILE *out, const char *name, const json_t *shape, uint64_t at)
{
    uint64_t n = 1;
    fprintf(out, "%s\"%s\":{\"dtype\":\"F16\",\"shape\":[", at ? "," : "", name);
    for (size_t i = 0; i < json_array_size(shape); i++) {
        json_int_t d = json_integer_value(json_array_get(shape, i));
        fprintf(out, "%s%lld", i ? "," : "", (long long)d);
        n *= (uint64_t)d;
    }
    fprintf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)(at + 2 * n));
    return at + 2 * n;
}

/* A file with these tensors below `prefix`, and `more`, into path[64]; to be unlinked. */
static inline dc_weights *write_file(char *path, const json_t *tensors, const char *more)
{
    char *text = NULL;
    size_t size = 0;
    uint64_t data = 0;
    const char *name;
    json_t *shape;
    dc_error e = {0};
    dc_weights *w = NULL;
    FILE *header = open_memstream(&text, &size);
    fprintf(header, "{");
    json_object_foreach((json_t *)tensors, name, shape) data = put_entry(header, name, shape, data);
    fprintf(header, "%s}", more);
    fclose(header);
    strcpy(path, "/tmp/diffc-parts-XXXXXX.safetensors");
    int fd = mkstemps(path, (int)strlen(".safetensors"));
    uint64_t n = size;
    assert_true(fd >= 0 && write(fd, &n, 8) == 8 && write(fd, text, size) == (ssize_t)size);
    assert_int_equal(ftruncate(fd, (off_t)(8 + size + data)), 0);
    close(fd);
    free(text);
    must(dc_weights_open(&w, path, &e), &e);
    return w;
}

#endif
