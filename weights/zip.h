/* zip.h - a mapped zip archive by its central directory; private to this folder. Ref: PKWARE APPNOTE 6.3.9.
 *
 * Strict where readers of zip differ, because there two of them see two contents in one file: the directory ends where its end record
 * begins, nothing follows that, every local header says the same as the directory, and no two entries overlap. What is stored, not
 * deflated, can be used in place. */
#ifndef DC_WEIGHTS_ZIP_H
#define DC_WEIGHTS_ZIP_H
#include "base/file.h"

#define DC_ZIP_MAX_ENTRIES  262144
#define DC_ZIP_MAX_NAME     1024
#define DC_ZIP_MAX_INFLATED (64u << 20) /* bytes of all entries read by dc_zip_read, and of the directory */

typedef struct dc_zip_entry {
    const char *name;       /* without NUL inside */
    uint64_t local;         /* byte of the file where its local header begins */
    uint64_t at;            /* byte where its data begin */
    uint64_t packed, bytes; /* in the file, and inflated */
    uint32_t crc;           /* of the inflated bytes, as the directory says */
    uint16_t flags;
    bool deflated;
} dc_zip_entry;

typedef struct dc_zip {
    const dc_map *map;
    char *directory;     /* names live here */
    dc_zip_entry *entry; /* in name order, names unique */
    int n;
    uint64_t directory_bytes, read_bytes;
} dc_zip;

/* Reads the directory of m, which outlives *z, and checks the entries; no data but that between entries is read, and so no CRC checked.
 * Errors: DATA (broken, encrypted, in several parts, over a limit), IO, NO_MEMORY; *z can be closed then, too. */
dc_status dc_zip_open(dc_zip *z, const dc_map *m, dc_error *e);
void dc_zip_close(dc_zip *z);
const dc_zip_entry *dc_zip_find(const dc_zip *z, const char *name); /* NULL: not there */
/* The entry's bytes, inflated and their CRC verified, in a new NUL-terminated buffer that the caller frees. Errors as above. */
dc_status dc_zip_read(dc_zip *z, const dc_zip_entry *x, char **out, dc_error *e);

#endif
