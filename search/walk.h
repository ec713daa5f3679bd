/* walk.h - all pictures below a folder, by their names. Private to this folder. */
#ifndef DC_SEARCH_WALK_H
#define DC_SEARCH_WALK_H
#include "base/status.h"
#include <stdbool.h>
#include <sys/stat.h>

/* Paths are relative to the root, bytes as the file system has them. */
typedef struct dc_walk {
    const char *root;
    const char *const *exclude; /* patterns of fnmatch(3): of a name, or with a '/' of a path; besides the usual ones */
    int n_exclude;
    bool hidden; /* names that begin with '.', too */
    bool follow; /* links to folders; links to files are always followed. A folder is never walked twice */
    void *ctx;
    /* A file that by its name is a picture. Non-zero stops. */
    dc_status (*file)(void *ctx, const char *path, const struct stat *st, dc_error *e);
    /* A folder before it is read ("" is the root); may be NULL. */
    dc_status (*folder)(void *ctx, const char *path, dc_error *e);
    /* One that cannot be read, or not to its end: nothing is known of what is below. */
    dc_status (*unreadable)(void *ctx, const char *path, int number, dc_error *e);
} dc_walk;

/* Names in order of their bytes; files of a folder before those below it. Errors: NO_INPUT (the root cannot be read), NO_MEMORY, those of calls. */
dc_status dc_walk_run(const dc_walk *w, dc_error *e);
/* By its ending: a format that diffc reads, or tells why not. */
bool dc_is_picture_name(const char *name);

#endif
