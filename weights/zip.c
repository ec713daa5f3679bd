/* zip.c - the central directory of a zip archive, checked against what lies at the entries. */
#include "weights/zip.h"
#include "base/checked.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { END = 22, LOCATOR = 20, END64 = 56, CENTRAL = 46, LOCAL = 30, DESCRIPTOR = 16, DESCRIPTOR64 = 24 }; /* bytes of the records */
enum { ENCRYPTED = 0x2041, DESCRIBED = 0x0008, KNOWN = 0x080e }; /* flags: a descriptor behind the data; deflate's level, UTF-8 names */
enum { STORED = 0, DEFLATED = 8, EXTRA64 = 1, WIDEST = 65535 };
#define WIDE 0xffffffffu /* "see the zip64 field" */

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }
static uint32_t get32(const uint8_t *at) { return get16(at) | (uint32_t)get16(at + 2) << 16; }
static uint64_t get64(const uint8_t *at) { return get32(at) | (uint64_t)get32(at + 4) << 32; }

/* "FILE: zip: ...", or "FILE: zip entry NAME: ..." with the name cut at 200 bytes. */
static dc_status bad(const dc_zip *z, const dc_zip_entry *x, dc_error *e, const char *format, ...) __attribute__((format(printf, 4, 5)));
static dc_status bad(const dc_zip *z, const dc_zip_entry *x, dc_error *e, const char *format, ...)
{
    char what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return dc_fail(e, DC_DATA, "%s: zip%s%.200s: %s", z->map->path, x ? " entry " : "", x ? x->name : "", what);
}

/* ---- the end of the archive ---------------------------------------------------------------------------------------- */

/* Where the directory lies. */
typedef struct span {
    uint64_t at, bytes, entries, ends;
} span;

/* The zip64 end record, found by its locator before the end record. Every number that has room in the end record is there, too. */
static dc_status read_end64(const dc_zip *z, const uint8_t *locator, const uint8_t *end, span *d, dc_error *e)
{
    uint8_t r[END64];
    uint64_t at = get64(locator + 8), before = z->map->size - END - LOCATOR;
    if (get32(locator + 4) || get32(locator + 16) > 1) return bad(z, NULL, e, "zip64 locator: found an archive in several parts, expected one");
    if (before < END64 || at != before - END64)
        return bad(z, NULL, e, "zip64 locator: found the end record at byte %llu, expected it %d bytes before the locator", (unsigned long long)at,
                   END64);
    dc_status s = dc_map_read(z->map, at, r, END64, "zip64 end record", e);
    if (s) return s;
    if (get32(r) != 0x06064b50 || get64(r + 4) != END64 - 12)
        return bad(z, NULL, e, "zip64 end record, byte %llu: found none", (unsigned long long)at);
    if (get32(r + 16) || get32(r + 20) || get64(r + 24) != get64(r + 32))
        return bad(z, NULL, e, "zip64 end record: found an archive in several parts, expected one");
    *d = (span){.at = get64(r + 48), .bytes = get64(r + 40), .entries = get64(r + 32), .ends = at};
    bool same = (get16(end + 10) == WIDEST || get16(end + 10) == d->entries) && (get32(end + 12) == WIDE || get32(end + 12) == d->bytes) &&
                (get32(end + 16) == WIDE || get32(end + 16) == d->at);
    return same ? DC_OK : bad(z, NULL, e, "end record: found other numbers than in the zip64 end record, expected the same");
}

static dc_status read_end(const dc_zip *z, span *d, dc_error *e)
{
    uint8_t r[LOCATOR + END];
    uint64_t size = z->map->size, n = size < sizeof r ? size : sizeof r;
    const uint8_t *end = r + n - END;
    dc_status s = n < END ? DC_OK : dc_map_read(z->map, size - n, r, n, "end record", e);
    if (s) return s;
    if (n < END || get32(end) != 0x06054b50 || get16(end + 20)) { /* torch writes no comment, and one could hold a second end record */
        s = bad(z, NULL, e, "end record: found none in the last %d bytes of %llu, expected the file to end with it", END, (unsigned long long)size);
        dc_hint(e, "The file is cut short, as after an unfinished download, or something was added to it.");
        return s;
    }
    if (get16(end + 4) || get16(end + 6) || get16(end + 8) != get16(end + 10))
        return bad(z, NULL, e, "end record: found an archive in several parts, expected one");
    *d = (span){.at = get32(end + 16), .bytes = get32(end + 12), .entries = get16(end + 10), .ends = size - END};
    if (n == sizeof r && get32(r) == 0x07064b50) s = read_end64(z, r, end, d, e);
    if (s) return s;
    if (!dc_in_range(d->at, d->bytes, d->ends) || d->at + d->bytes != d->ends)
        return bad(z, NULL, e, "end record: found a directory of %llu bytes at byte %llu, expected it to end at byte %llu",
                   (unsigned long long)d->bytes, (unsigned long long)d->at, (unsigned long long)d->ends);
    if (d->entries > DC_ZIP_MAX_ENTRIES || d->bytes > DC_ZIP_MAX_INFLATED)
        return bad(z, NULL, e, "directory: found %llu entries in %llu bytes, expected at most %d in %u", (unsigned long long)d->entries,
                   (unsigned long long)d->bytes, DC_ZIP_MAX_ENTRIES, DC_ZIP_MAX_INFLATED);
    if (d->entries > d->bytes / CENTRAL)
        return bad(z, NULL, e, "directory: found %llu entries, expected at most the %llu that %llu bytes hold", (unsigned long long)d->entries,
                   (unsigned long long)(d->bytes / CENTRAL), (unsigned long long)d->bytes);
    return DC_OK;
}

/* ---- entries --------------------------------------------------------------------------------------------------------- */

/* The numbers of the zip64 extra field, taken in their order by those that are WIDE elsewhere. */
typedef struct wide {
    const uint8_t *at;
    size_t left;
    bool good;
} wide;

static wide find_wide(const uint8_t *extra, size_t n)
{
    wide w = {.good = true};
    while (n >= 4 && !w.at) { /* up to 3 bytes of padding may follow the fields */
        size_t field = get16(extra + 2);
        if (field > n - 4) return (wide){0};
        if (get16(extra) == EXTRA64) w = (wide){extra + 4, field, true};
        extra += 4 + field, n -= 4 + field;
    }
    return w;
}

static uint64_t take_wide(wide *w, uint32_t narrow)
{
    if (narrow != WIDE) return narrow;
    if (w->left < 8) {
        w->good = false;
        return 0;
    }
    w->at += 8, w->left -= 8;
    return get64(w->at - 8);
}

/* One record of the directory, n bytes to its end; *used: the bytes of it. */
static dc_status take_record(dc_zip *z, dc_zip_entry *x, uint8_t *at, uint64_t n, uint64_t *used, dc_error *e)
{
    if (n < CENTRAL || get32(at) != 0x02014b50) return bad(z, NULL, e, "directory, entry %d: found no record", z->n);
    size_t name = get16(at + 28), extra = get16(at + 30);
    *used = (uint64_t)CENTRAL + name + extra + get16(at + 32);
    if (*used > n)
        return bad(z, NULL, e, "directory, entry %d: found a record of %llu bytes, expected at most the %llu left", z->n, (unsigned long long)*used,
                   (unsigned long long)n);
    if (!name || name > DC_ZIP_MAX_NAME || memchr(at + CENTRAL, 0, name))
        return bad(z, NULL, e, "directory, entry %d: name: found %zu bytes, expected 1 to %d without NUL", z->n, name, DC_ZIP_MAX_NAME);
    wide w = find_wide(at + CENTRAL + name, extra);
    unsigned method = get16(at + 10), disk = get16(at + 34);
    *x = (dc_zip_entry){.flags = get16(at + 8), .crc = get32(at + 16), .deflated = method == DEFLATED};
    x->bytes = take_wide(&w, get32(at + 24));
    x->packed = take_wide(&w, get32(at + 20));
    x->local = take_wide(&w, get32(at + 42));
    if (disk == WIDEST && w.left >= 4) disk = get32(w.at);
    x->name = memmove(at + CENTRAL - 1, at + CENTRAL, name); /* makes room for the NUL; what lay there has been read */
    at[CENTRAL - 1 + name] = 0;
    if (!w.good) return bad(z, x, e, "extra field: found no zip64 numbers, expected them for its sizes");
    if (x->flags & ENCRYPTED) return bad(z, x, e, "found it encrypted, expected plain data");
    if (x->flags & ~KNOWN) return bad(z, x, e, "flags: found 0x%04x, expected none but 0x%04x", x->flags, KNOWN);
    if (method != STORED && method != DEFLATED) return bad(z, x, e, "method: found %u, expected 0 (stored) or 8 (deflated)", method);
    if (disk) return bad(z, x, e, "found it in part %u of the archive, expected one part", disk);
    if (method == STORED && x->packed != x->bytes)
        return bad(z, x, e, "sizes: found %llu bytes stored as %llu, expected the same", (unsigned long long)x->bytes, (unsigned long long)x->packed);
    return DC_OK;
}

static dc_status read_directory(dc_zip *z, const span *d, dc_error *e)
{
    z->directory_bytes = d->bytes;
    z->directory = malloc(d->bytes + 1);
    z->entry = dc_calloc(d->entries, sizeof *z->entry);
    if (!z->directory || !z->entry) return dc_fail_memory(e, z->map->path, d->bytes + d->entries * sizeof *z->entry);
    dc_status s = dc_map_read(z->map, d->at, z->directory, d->bytes, "directory", e);
    uint64_t at = 0, used = 0;
    for (; !s && z->n < (int)d->entries; at += used) {
        s = take_record(z, &z->entry[z->n], (uint8_t *)z->directory + at, d->bytes - at, &used, e);
        z->n += !s;
    }
    if (!s && at != d->bytes)
        s = bad(z, NULL, e, "directory: found %llu bytes behind its %d entries, expected none", (unsigned long long)(d->bytes - at), z->n);
    return s;
}

/* ---- what lies at the entries ------------------------------------------------------------------------------------------- */

/* A size in a local header may be 0 when a descriptor follows the data. */
static bool agrees(const dc_zip_entry *x, uint64_t local, uint64_t central) { return local == central || (!local && x->flags & DESCRIBED); }

/* The local header is that of the directory. Sets where the data begin. */
static dc_status check_local(dc_zip *z, dc_zip_entry *x, uint64_t limit, dc_error *e)
{
    uint8_t h[LOCAL + DC_ZIP_MAX_NAME], extra[WIDEST];
    size_t name = strlen(x->name);
    if (!dc_in_range(x->local, LOCAL + name, limit))
        return bad(z, x, e, "local header: found its place at byte %llu, expected it before the directory at byte %llu", (unsigned long long)x->local,
                   (unsigned long long)limit);
    dc_status s = dc_map_read(z->map, x->local, h, LOCAL + name, "local header", e);
    if (s) return s;
    if (get32(h) != 0x04034b50) return bad(z, x, e, "local header, byte %llu: found none", (unsigned long long)x->local);
    if (get16(h + 26) != name || memcmp(h + LOCAL, x->name, name) != 0)
        return bad(z, x, e, "local header: found another name, expected the directory's");
    if (get16(h + 8) != (x->deflated ? DEFLATED : STORED))
        return bad(z, x, e, "local header: found method %u, expected the directory's %d", get16(h + 8), x->deflated ? DEFLATED : STORED);
    if (get16(h + 6) != x->flags) return bad(z, x, e, "local header: found flags 0x%04x, expected the directory's 0x%04x", get16(h + 6), x->flags);
    uint64_t extra_bytes = get16(h + 28), packed = get32(h + 18), bytes = get32(h + 22);
    x->at = x->local + LOCAL + name + extra_bytes;
    if (x->at > limit)
        return bad(z, x, e, "local header: found its end at byte %llu, expected it before byte %llu", (unsigned long long)x->at,
                   (unsigned long long)limit);
    if (packed == WIDE || bytes == WIDE) {
        s = dc_map_read(z->map, x->at - extra_bytes, extra, extra_bytes, "local header", e);
        if (s) return s;
        wide w = find_wide(extra, extra_bytes);
        bytes = take_wide(&w, (uint32_t)bytes), packed = take_wide(&w, (uint32_t)packed);
        if (!w.good) return bad(z, x, e, "local header: found no zip64 numbers, expected them for its sizes");
    }
    if (!agrees(x, packed, x->packed) || !agrees(x, bytes, x->bytes))
        return bad(z, x, e, "local header: found sizes %llu and %llu, expected the directory's %llu and %llu", (unsigned long long)packed,
                   (unsigned long long)bytes, (unsigned long long)x->packed, (unsigned long long)x->bytes);
    if (!agrees(x, get32(h + 14), x->crc)) return bad(z, x, e, "local header: found CRC %08x, expected the directory's %08x", get32(h + 14), x->crc);
    return DC_OK;
}

/* The descriptor behind the data, if there should be one: with sizes of 32 bits or of 64. *end: where the entry ends. */
static dc_status check_end(dc_zip *z, const dc_zip_entry *x, uint64_t limit, uint64_t *end, dc_error *e)
{
    uint8_t d[DESCRIPTOR64];
    if (!dc_in_range(x->at, x->packed, limit))
        return bad(z, x, e, "found %llu bytes at byte %llu, expected their end before byte %llu", (unsigned long long)x->packed,
                   (unsigned long long)x->at, (unsigned long long)limit);
    *end = x->at + x->packed;
    if (!(x->flags & DESCRIBED)) return DC_OK;
    uint64_t n = limit - *end < sizeof d ? limit - *end : sizeof d;
    dc_status s = dc_map_read(z->map, *end, d, n, "descriptor", e);
    if (s) return s;
    bool begins = n >= DESCRIPTOR && get32(d) == 0x08074b50 && get32(d + 4) == x->crc;
    if (begins && get32(d + 8) == x->packed && get32(d + 12) == x->bytes) *end += DESCRIPTOR;
    else if (begins && n == DESCRIPTOR64 && get64(d + 8) == x->packed && get64(d + 16) == x->bytes) *end += DESCRIPTOR64;
    else return bad(z, x, e, "descriptor, byte %llu: found other numbers, expected the directory's CRC and sizes", (unsigned long long)*end);
    return DC_OK;
}

static int by_name(const void *a, const void *b) { return strcmp(((const dc_zip_entry *)a)->name, ((const dc_zip_entry *)b)->name); }

static int by_local(const void *a, const void *b)
{
    const dc_zip_entry *x = a, *y = b;
    if (x->local != y->local) return x->local < y->local ? -1 : 1;
    return by_name(a, b);
}

/* Every entry ends before the next begins, and the last before the directory. */
static dc_status check_places(dc_zip *z, uint64_t directory, dc_error *e)
{
    uint64_t end = 0;
    if (z->n > 1) qsort(z->entry, (size_t)z->n, sizeof *z->entry, by_local);
    for (int i = 0; i < z->n; i++) {
        dc_zip_entry *x = &z->entry[i];
        if (x->local < end)
            return bad(z, x, e, "found its beginning at byte %llu, expected it behind %.200s, which ends at byte %llu", (unsigned long long)x->local,
                       x[-1].name, (unsigned long long)end);
        dc_status s = check_local(z, x, directory, e);
        if (!s) s = check_end(z, x, directory, &end, e);
        if (s) return s;
    }
    if (z->n > 1) qsort(z->entry, (size_t)z->n, sizeof *z->entry, by_name);
    for (int i = 1; i < z->n; i++)
        if (!by_name(&z->entry[i - 1], &z->entry[i])) return bad(z, &z->entry[i], e, "name: found twice in the directory, expected once");
    return DC_OK;
}

/* ---- the archive ------------------------------------------------------------------------------------------------------------ */

dc_status dc_zip_open(dc_zip *z, const dc_map *m, dc_error *e)
{
    span d = {0};
    *z = (dc_zip){.map = m};
    dc_status s = read_end(z, &d, e);
    if (!s) s = read_directory(z, &d, e);
    if (!s) s = check_places(z, d.at, e);
    return s;
}

void dc_zip_close(dc_zip *z)
{
    free(z->directory);
    free(z->entry);
    *z = (dc_zip){0};
}

const dc_zip_entry *dc_zip_find(const dc_zip *z, const char *name)
{
    dc_zip_entry key = {.name = name};
    return z->n ? bsearch(&key, z->entry, (size_t)z->n, sizeof key, by_name) : NULL;
}

/* Exactly x->bytes come out of exactly x->packed, which are read piece by piece. */
static dc_status inflate_entry(dc_zip *z, const dc_zip_entry *x, char *out, dc_error *e)
{
    uint8_t piece[16384];
    z_stream f = {.next_out = (Bytef *)out, .avail_out = (uInt)x->bytes};
    if (inflateInit2(&f, -MAX_WBITS) != Z_OK) return dc_fail_memory(e, "inflate", x->bytes);
    int r = Z_OK;
    dc_status s = DC_OK;
    for (uint64_t done = 0; !s && r == Z_OK && done < x->packed; done += f.total_in - done) {
        uint64_t n = x->packed - done < sizeof piece ? x->packed - done : sizeof piece;
        s = dc_map_read(z->map, x->at + done, piece, n, x->name, e);
        f.next_in = piece, f.avail_in = (uInt)n;
        if (!s) r = inflate(&f, Z_NO_FLUSH);
        if (r == Z_OK && f.avail_in) break; /* more would come out than there is room for */
    }
    bool whole = r == Z_STREAM_END && f.total_in == x->packed && f.total_out == x->bytes;
    inflateEnd(&f);
    if (s || whole) return s;
    if (r == Z_MEM_ERROR) return dc_fail_memory(e, "inflate", x->bytes);
    return bad(z, x, e, "deflated data: found damage or another length, expected %llu bytes from %llu", (unsigned long long)x->bytes,
               (unsigned long long)x->packed);
}

dc_status dc_zip_read(dc_zip *z, const dc_zip_entry *x, char **out, dc_error *e)
{
    *out = NULL;
    if (x->bytes > DC_ZIP_MAX_INFLATED || x->bytes > DC_ZIP_MAX_INFLATED - z->read_bytes)
        return bad(z, x, e, "size: found %llu bytes, expected at most %u with what was read before", (unsigned long long)x->bytes,
                   DC_ZIP_MAX_INFLATED);
    if (x->deflated && x->bytes / 1032 > x->packed) /* deflate's best */
        return bad(z, x, e, "deflated data: found %llu bytes from %llu, expected at most 1032 times as many", (unsigned long long)x->bytes,
                   (unsigned long long)x->packed);
    char *bytes = malloc(x->bytes + 1);
    if (!bytes) return dc_fail_memory(e, x->name, x->bytes + 1);
    bytes[x->bytes] = 0;
    dc_status s = x->deflated ? inflate_entry(z, x, bytes, e) : dc_map_read(z->map, x->at, bytes, x->bytes, x->name, e);
    uint32_t crc = s ? 0 : (uint32_t)crc32_z(0, (const Bytef *)bytes, x->bytes);
    if (!s && crc != x->crc) s = bad(z, x, e, "CRC: found %08x, expected %08x", crc, x->crc);
    z->read_bytes += x->bytes;
    if (s) free(bytes);
    else *out = bytes;
    return s;
}
