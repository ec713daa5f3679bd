/* The limits of the safetensors reader and of indexes: what is at a limit is read, what is over it is refused; and what a hostile
 * header may cost: at most twice its bytes and 16 MiB of memory, at most a second a MiB. */
#include "tests/weights/bounds.h"
#include "weights/reader.h"
#include <sys/mman.h>

/* A file in memory being written: the length of the header comes last. */
typedef struct maker {
    int fd;
    FILE *f;
    char path[64];
    uint64_t data;
} maker;

static void begin(maker *m, const char *name)
{
    m->fd = memfd_create(name, 0);
    m->f = m->fd < 0 ? NULL : fdopen(m->fd, "wb");
    if (!m->f) fail_msg("no file in memory");
    m->data = 0;
    snprintf(m->path, sizeof m->path, "/proc/self/fd/%d", m->fd);
    fwrite("\0\0\0\0\0\0\0", 1, 8, m->f);
}

/* Returns the header's length. */
static uint64_t finish(maker *m)
{
    fflush(m->f);
    uint64_t n = (uint64_t)ftell(m->f) - 8;
    assert_int_equal(pwrite(m->fd, &n, 8, 0), 8);
    assert_int_equal(ftruncate(m->fd, (off_t)(8 + n + m->data)), 0);
    return n;
}

static void fill(maker *m, char c, uint64_t n)
{
    char block[4096];
    memset(block, c, sizeof block);
    for (; n; n -= n < sizeof block ? n : sizeof block) fwrite(block, 1, n < sizeof block ? n : sizeof block, m->f);
}

/* count tensors of one byte each, their names unlike from the first letter on or only at the end, shapes of this rank */
static void tensors(int count, int rank, const char *name, dc_status want, const char *says)
{
    maker m;
    begin(&m, "tensors");
    fputc('{', m.f);
    for (int i = 0; i < count; i++) {
        fprintf(m.f, "%s\"", i ? "," : "");
        fprintf(m.f, name, i);
        fprintf(m.f, "\":{\"dtype\":\"U8\",\"shape\":[");
        for (int k = 0; k < rank; k++) fprintf(m.f, k ? ",1" : "1");
        fprintf(m.f, "],\"data_offsets\":[%d,%d]}", i, i + 1);
    }
    fputc('}', m.f);
    m.data = (uint64_t)count;
    within_bounds(m.path, finish(&m), want, says);
    fclose(m.f);
}

static void number_of_tensors(void **state)
{
    (void)state;
    tensors(DC_MAX_TENSORS, 0, "%x", DC_OK, "");
    tensors(DC_MAX_TENSORS, 8, "%x", DC_OK, "");
    tensors(DC_MAX_TENSORS + 1, 0, "%x", DC_DATA, "found more than 262144 tensors");
}

static void long_alike_names(void **state)
{
    (void)state;
    char name[320]; /* sorting them compares to the end */
    memset(name, 'n', 300);
    strcpy(name + 300, "%d");
    tensors(100000, 0, name, DC_OK, "");
}

static void header_length(void **state)
{
    (void)state;
    maker m;
    begin(&m, "spaces");
    fputc('{', m.f);
    fill(&m, ' ', DC_MAX_HEADER - 2);
    fputc('}', m.f);
    assert_int_equal(finish(&m), DC_MAX_HEADER);
    within_bounds(m.path, DC_MAX_HEADER, DC_OK, "");
    fseek(m.f, 0, SEEK_END);
    fputc(' ', m.f);
    assert_int_equal(finish(&m), DC_MAX_HEADER + 1);
    within_bounds(m.path, 0, DC_DATA, "header length: found 100000001 bytes, expected at most 100000000");
    fclose(m.f);
}

static void metadata(void **state)
{
    (void)state;
    for (int n = DC_MAX_METADATA; n <= DC_MAX_METADATA + 1; n++) {
        maker m;
        begin(&m, "metadata");
        fprintf(m.f, "{\"__metadata__\":{");
        for (int i = 0; i < n; i++) fprintf(m.f, "%s\"%x\":\"\"", i ? "," : "", i);
        fprintf(m.f, "}}");
        within_bounds(m.path, finish(&m), n > DC_MAX_METADATA ? DC_DATA : DC_OK, n > DC_MAX_METADATA ? "__metadata__: more than 65536 entries" : "");
        fclose(m.f);
    }
    maker m;
    begin(&m, "one value");
    fprintf(m.f, "{\"__metadata__\":{\"x\":\"");
    fill(&m, 'x', 90000000);
    fprintf(m.f, "\"}}");
    within_bounds(m.path, finish(&m), DC_OK, "");
    fclose(m.f);
}

/* Much text that would make a tree of many nodes or of great depth. */
static void hostile_text(void **state)
{
    (void)state;
    static const struct {
        const char *begin;
        const char *again, *end;
        int times;
        dc_status want;
        const char *says;
    } texts[] = {
        {"{\"a\":{\"x\":", "[", "", 20000000, DC_DATA, "nesting: found '[[[[[[[[[[[[', expected at most 64 levels"},
        {"{\"a\":{\"x\":", "{\"a\":", "", 4000000, DC_DATA, "at most 64 levels"},
        {"{\"a\":{\"x\":[0", ",0", "],\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 20000000, DC_OK, ""},
        {"{\"a\":{\"x\":[0", ",{}", "],\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 15000000, DC_OK, ""},
        {"{\"a\":{\"x\":{\"\":0", ",\"\":\"\"", "},\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 8000000, DC_OK, ""},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0", ",0", "],\"data_offsets\":[0,0]}}", 20000000, DC_DATA, "more than 8 dimensions"},
        {"{\"", "\\u0041", "\":{}}", 8000000, DC_DATA, "found 8000000 bytes, expected at most 1024"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        maker m;
        begin(&m, "text");
        fputs(texts[i].begin, m.f);
        for (int k = 0; k < texts[i].times; k++) fputs(texts[i].again, m.f);
        fputs(texts[i].end, m.f);
        within_bounds(m.path, finish(&m), texts[i].want, texts[i].says);
        fclose(m.f);
    }
}

/* ---- indexes ---------------------------------------------------------------------------------------------------------------- */

static uint64_t index_of(const char *name, int n, const char *line)
{
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    fprintf(f, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
    for (int i = 0; i < n; i++) {
        fprintf(f, i ? "," : "");
        fprintf(f, line, i, i);
    }
    fprintf(f, "}}");
    uint64_t size = (uint64_t)ftell(f);
    fclose(f);
    return size;
}

static void indexes(void **state)
{
    (void)state;
    uint64_t n = index_of("many.json", DC_MAX_TENSORS, "\"%x\":\"m\"");
    within_bounds(in_folder("many.json"), n, DC_NO_INPUT, "/m: cannot be read");
    n = index_of("more.json", DC_MAX_TENSORS + 1, "\"%x\":\"m\"");
    within_bounds(in_folder("more.json"), n, DC_DATA, "weight_map: more than 262144 tensors");
    n = index_of("files.json", 1025, "\"%x\":\"%x\"");
    within_bounds(in_folder("files.json"), n, DC_DATA, "weight_map: found 1025 files, expected at most 1024");
    n = index_of("large.json", 5000000, "\"%x\":\"%x\"");
    within_bounds(in_folder("large.json"), n, DC_DATA, "");
    assert_int_equal(truncate(in_folder("large.json"), (64 << 20) + 1), 0);
    within_bounds(in_folder("large.json"), 0, DC_DATA, "size: found 67108865 bytes, expected at most 67108864");
}

/* Headers of all shards together are held to the limit of one. */
static void header_lengths(void **state)
{
    (void)state;
    for (int last = 9999000; last <= 10001000; last += 2000) {
        uint64_t sum = 0;
        maker m[4];
        FILE *f = fopen(in_folder("sum.json"), "wb");
        assert_non_null(f);
        fprintf(f, "{\"weight_map\":{");
        for (int i = 0; i < 4; i++) {
            char name[16], target[64];
            begin(&m[i], "shard");
            fprintf(m[i].f, "{\"__metadata__\":{\"x\":\"");
            fill(&m[i], 'x', i < 3 ? 30000000 : (uint64_t)last);
            fprintf(m[i].f, "\"},\"t%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", i);
            sum += finish(&m[i]);
            snprintf(name, sizeof name, "shard%d", i);
            snprintf(target, sizeof target, "/proc/self/fd/%d", m[i].fd);
            unlink(in_folder(name));
            assert_int_equal(symlink(target, in_folder(name)), 0);
            fprintf(f, "%s\"t%d\":\"shard%d\"", i ? "," : "", i, i);
        }
        fprintf(f, "}}");
        fclose(f);
        bool over = sum > DC_MAX_HEADER;
        within_bounds(in_folder("sum.json"), sum, over ? DC_DATA : DC_OK,
                      over ? "header lengths: found 100001312 bytes in all its files, expected at most 100000000" : "");
        assert_int_equal(over, last > 10000000);
        for (int i = 0; i < 4; i++) fclose(m[i].f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(number_of_tensors), cmocka_unit_test(long_alike_names), cmocka_unit_test(header_length),  cmocka_unit_test(metadata),
        cmocka_unit_test(hostile_text),      cmocka_unit_test(indexes),          cmocka_unit_test(header_lengths),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
