/* archive.h - zip archives and torch's pickles, made up byte by byte: for the tests of the torch reader and its fuzz target. */
#ifndef TESTS_WEIGHTS_ARCHIVE_H
#define TESTS_WEIGHTS_ARCHIVE_H
#include "base/text.h"
#include <string.h>
#include <zlib.h>

/* ---- zip ------------------------------------------------------------------------------------------------------------- */

#define MAX_NOTED 32

/* Zero-initialise; add entries; finish. Where the headers of the first ones stand is noted, so that a test can spoil them. */
typedef struct archive {
    dc_text file, directory;
    bool described; /* entries as torch writes them: sizes and CRC behind the data, zeros before */
    bool wide;      /* zip64 numbers wherever they can stand */
    int n;
    size_t local[MAX_NOTED], central[MAX_NOTED], data[MAX_NOTED], end;
} archive;

static inline void put_number(dc_text *t, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) dc_text_append(t, &(char){(char)(i < 8 ? v >> 8 * i : 0)}, 1);
}

static inline void put_sizes(dc_text *t, uint32_t crc, uint64_t packed, uint64_t bytes, bool wide)
{
    put_number(t, crc, 4);
    put_number(t, wide ? UINT32_MAX : packed, 4);
    put_number(t, wide ? UINT32_MAX : bytes, 4);
}

static inline void archive_add(archive *a, const char *name, const void *data, size_t bytes, bool deflated)
{
    dc_text packed = {0};
    dc_text *f = &a->file, *d = &a->directory;
    size_t at = f->length, n = strlen(name), flags = a->described && bytes ? 0x808 : 0x800;
    uint32_t crc = (uint32_t)crc32(0, data, (unsigned)bytes);
    if (deflated) {
        unsigned char piece[4096];
        z_stream z = {.next_in = (unsigned char *)data, .avail_in = (unsigned)bytes};
        deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
        for (int r = Z_OK; r == Z_OK;) {
            z.next_out = piece, z.avail_out = sizeof piece;
            r = deflate(&z, Z_FINISH);
            dc_text_append(&packed, piece, sizeof piece - z.avail_out);
        }
        deflateEnd(&z);
    } else {
        dc_text_append(&packed, data, bytes);
    }
    if (a->n < MAX_NOTED) a->local[a->n] = at, a->central[a->n] = d->length;
    dc_text_append(f, "PK\3\4\0\0", 6);
    put_number(f, flags, 2);
    put_number(f, deflated ? 8 : 0, 2);
    put_number(f, 0, 4);
    bool later = flags & 8;
    put_sizes(f, later ? 0 : crc, later ? 0 : packed.length, later ? 0 : bytes, a->wide && !later);
    put_number(f, n, 2);
    put_number(f, a->wide && !later ? 20 : 0, 2);
    dc_text_append(f, name, n);
    if (a->wide && !later) {
        put_number(f, 1 | 16 << 16, 4);
        put_number(f, bytes, 8);
        put_number(f, packed.length, 8);
    }
    if (a->n < MAX_NOTED) a->data[a->n] = f->length;
    if (packed.length) dc_text_append(f, packed.at, packed.length);
    if (later) {
        dc_text_append(f, "PK\7\10", 4);
        put_number(f, crc, 4);
        put_number(f, packed.length, a->wide ? 8 : 4);
        put_number(f, bytes, a->wide ? 8 : 4);
    }
    dc_text_append(d, "PK\1\2\0\0\0\0", 8);
    put_number(d, flags, 2);
    put_number(d, deflated ? 8 : 0, 2);
    put_number(d, 0, 4);
    put_sizes(d, crc, packed.length, bytes, a->wide);
    put_number(d, n, 2);
    put_number(d, a->wide ? 28 : 0, 2);
    put_number(d, 0, 10);
    put_number(d, a->wide ? UINT32_MAX : at, 4);
    dc_text_append(d, name, n);
    if (a->wide) {
        put_number(d, 1 | 24 << 16, 4);
        put_number(d, bytes, 8);
        put_number(d, packed.length, 8);
        put_number(d, at, 8);
    }
    a->n++;
    dc_text_free(&packed);
}

/* The directory and its end; `wide`: behind a zip64 end record. */
static inline void archive_finish(archive *a)
{
    dc_text *f = &a->file;
    size_t at = f->length;
    for (int i = 0; i < a->n && i < MAX_NOTED; i++) a->central[i] += at;
    if (a->n) dc_text_append(f, a->directory.at, a->directory.length);
    size_t end = f->length;
    if (a->wide) {
        dc_text_append(f, "PK\6\6\x2c\0\0\0\0\0\0\0\0\0\0\0", 16);
        put_number(f, 0, 8);
        put_number(f, (uint64_t)a->n, 8);
        put_number(f, (uint64_t)a->n, 8);
        put_number(f, a->directory.length, 8);
        put_number(f, at, 8);
        dc_text_append(f, "PK\6\7\0\0\0\0", 8);
        put_number(f, end, 8);
        put_number(f, 1, 4);
    }
    a->end = f->length;
    dc_text_append(f, "PK\5\6\0\0\0\0", 8);
    put_number(f, a->wide ? 0xffff : (uint64_t)a->n, 2);
    put_number(f, a->wide ? 0xffff : (uint64_t)a->n, 2);
    put_number(f, a->wide ? UINT32_MAX : a->directory.length, 4);
    put_number(f, a->wide ? UINT32_MAX : at, 4);
    put_number(f, 0, 2);
}

static inline void archive_free(archive *a)
{
    dc_text_free(&a->file);
    dc_text_free(&a->directory);
}

/* A checkpoint of this pickle and two storages, 0 of 48 bytes 0, 1, 2, .. and 1 of 4 bytes. */
static inline void archive_torch(archive *a, const void *pickle, size_t n)
{
    static const char data[] = "\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20\21\22\23\24\25\26\27\30\31\32\33\34\35\36\37 !\"#$%&'()*+,-./";
    archive_add(a, "x/data.pkl", pickle, n, false);
    archive_add(a, "x/byteorder", "little", 6, false);
    archive_add(a, "x/data/0", data, 48, false);
    archive_add(a, "x/data/1", data, 4, false);
    archive_add(a, "x/version", "3\n", 2, false);
    archive_finish(a);
}

/* ---- pickles, as string literals: n is a length or a number as one character, "\3" ------------------------------------------- */

#define TEXT(n, text)         "X" n "\0\0\0" text
#define INT(n)                "K" n
#define STORED(class, key, n) "(" TEXT("\7", "storage") class TEXT("\1", key) TEXT("\3", "cpu") INT(n) "tQ"
#define STORAGE(type, key, n) STORED("ctorch\n" type "Storage\n", key, n)
#define REBUILD               "ctorch._utils\n_rebuild_tensor_v2\n"
#define HOOKS                                                                                                                                        \
    "\x89"                                                                                                                                           \
    "ccollections\nOrderedDict\n)R"
#define TENSOR(storage, at, size, stride) REBUILD "(" storage at size stride HOOKS "tR"
#define FLOATS                            TENSOR(STORAGE("Float", "0", "\14"), INT("\0"), INT("\3") INT("\4") "\x86", INT("\4") INT("\1") "\x86") /* [3,4] */
#define BYTES                             TENSOR(STORAGE("Byte", "1", "\4"), INT("\0"), INT("\4") "\x85", INT("\1") "\x85") /* [4] */
#define A                                 TEXT("\1", "a")
#define B                                 TEXT("\1", "b")

#endif
