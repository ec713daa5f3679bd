/* formats.h - every kind of file that is read, one row each: where good ones are, and how one is opened. For the programs that damage files
 * (malformed.c) and that watch what opening them does (effects.c). A new format is a row in formats.c. */
#ifndef TESTS_MALFORMED_FORMATS_H
#define TESTS_MALFORMED_FORMATS_H
#include "base/status.h"
#include <stdint.h>

#define MOST_SEEDS 12

typedef struct format {
    const char *name;
    const char *file;                                 /* its name in the folder that formats_begin makes; other files that it needs lie there too */
    dc_status (*open)(const char *path, dc_error *e); /* opens, looks, closes */
    uint64_t beside;                                  /* bytes it may take beside 2 x the file's + 16 MiB: pixels of a picture, ... */
    const char *seed[MOST_SEEDS + 1];                 /* good files, below the folder of the tests */
} format;

extern const format formats[];
extern const int n_formats;

/* Makes a folder with all that the formats need, and formats_end removes it. Its name. */
const char *formats_begin(void);
void formats_end(void);
/* FOLDER/FILE of a format as a link to the file descriptor `fd`, for damaged contents; its path is kept in path[512]. */
void formats_place(const format *f, int fd, char *path);
void formats_restore(const format *f); /* the first good file again */

#endif
