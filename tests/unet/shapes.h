/* shapes.h - published models as names and shapes: a safetensors file of the real size with a hole in place of its data. */
#ifndef TESTS_UNET_SHAPES_H
#define TESTS_UNET_SHAPES_H
#include "tests/unet/golden.h"
#include <unistd.h>

typedef struct shapes {
    unsigned long long count; /* parameters */
    json_t *config;
    char path[64]; /* of the file written; to be unlinked */
} shapes;

/* One tensor a line: shared length, rest of the name, dimensions. Returns the bytes of data (F16). */
static inline uint64_t shapes_header(FILE *list, FILE *out)
{
    char line[512], name[512] = "";
    uint64_t at = 0;
    while (fgets(line, sizeof line, list)) {
        int shared = 0, used = 0;
        char rest[256];
        uint64_t n = 1, d;
        if (sscanf(line, "%d %255s%n", &shared, rest, &used) != 2) fail_msg("a bad line: %s", line);
        snprintf(name + shared, sizeof name - (size_t)shared, "%s", rest);
        fprintf(out, "%s\"%s\":{\"dtype\":\"F16\",\"shape\":[", at ? "," : "{", name);
        char *p = line + used, *end;
        for (int i = 0; d = strtoull(p, &end, 10), end != p; p = end, i++) {
            fprintf(out, "%s%llu", i ? "," : "", (unsigned long long)d);
            n *= d;
        }
        fprintf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)(at + 2 * n));
        at += 2 * n;
    }
    fputc('}', out);
    return at;
}

static inline shapes shapes_write(const char *list_path)
{
    shapes s = {0};
    char line[4096], *text = NULL;
    size_t size = 0;
    dc_error e = {0};
    FILE *list = fopen(list_path, "r"), *header = open_memstream(&text, &size);
    if (!list || !fgets(line, sizeof line, list)) fail_msg("%s cannot be read", list_path);
    s.count = strtoull(line, NULL, 10);
    if (!fgets(line, sizeof line, list)) fail_msg("%s has no config", list_path);
    must(dc_json_parse(&s.config, list_path, line, strlen(line), &e), &e);
    uint64_t data = shapes_header(list, header);
    fclose(header);
    fclose(list);

    snprintf(s.path, sizeof s.path, "/tmp/diffc-shapes-XXXXXX.safetensors");
    int fd = mkstemps(s.path, (int)strlen(".safetensors"));
    assert_true(fd >= 0);
    uint64_t n = size;
    assert_true(write(fd, &n, 8) == 8 && write(fd, text, size) == (ssize_t)size);
    assert_int_equal(ftruncate(fd, (off_t)(8 + size + data)), 0);
    close(fd);
    free(text);
    return s;
}

static inline void shapes_close(shapes *s)
{
    unlink(s->path);
    json_decref(s->config);
}

#endif
