/* file.h - files: mapped for reading, replaced atomically when written. */
#ifndef DC_BASE_FILE_H
#define DC_BASE_FILE_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A whole regular file mapped read-only. TRAP: pages come from the file when touched. Where somebody has cut the file short meanwhile they
 * are zeros (not a SIGBUS: faults.h has the handler that maps install), and where somebody writes into it they change. So what was
 * read from `data` holds only once dc_map_check has been asked after reading. */
typedef struct dc_map {
    const uint8_t *data;
    uint64_t size;
    char *path;
    int fd, range; /* range: its number in faults.h, when there is data */
    int64_t modified[2];
} dc_map;

/* Errors: NO_INPUT (missing, unreadable, a folder), IO, NO_MEMORY. An empty file maps to data == NULL, size 0. */
dc_status dc_map_open(dc_map *m, const char *path, dc_error *e);
void dc_map_close(dc_map *m); /* zeroes *m; a zeroed map is fine */
/* Was all that was read up to now the file as it was opened? IO when it has been cut short, written to or could not be read meanwhile. */
dc_status dc_map_check(const dc_map *m, dc_error *e);
/* Have zeros been read in the place of pages that could not be had? For a file that may grow while it is mapped. */
bool dc_map_lost(const dc_map *m);
/* Copies n bytes from byte `at` of the file: read, not touched through the mapping, so that a file cut short meanwhile is an error and no
 * signal. The range lies inside the mapping; `part` names it in messages. Errors: DATA, IO. */
dc_status dc_map_read(const dc_map *m, uint64_t at, void *to, uint64_t n, const char *part, dc_error *e);
/* The range has been copied: its pages may leave memory (madvise). Safe for any range. */
void dc_map_forget(const void *at, size_t bytes);

/* Opens a regular file; *st is of it. NO_INPUT: missing, unreadable, a folder, device or pipe. */
struct stat;
dc_status dc_open_regular(int *fd, struct stat *st, const char *path, dc_error *e);
/* Reads a whole file of at most `limit` bytes into a new NUL-terminated buffer; the caller frees *out.
 * Errors: NO_INPUT, DATA (larger than limit), NO_MEMORY, IO. */
dc_status dc_read_file(const char *path, uint64_t limit, char **out, size_t *n, dc_error *e);

/* Writing. A target that is a regular file or does not exist is written under a temporary name in the same
 * folder, synced and renamed by dc_out_commit; a symbolic link is followed, so its target is replaced. Any other existing target (device, pipe, socket) is opened and
 * written in place. "-" is stdout. Before commit nothing carries the final name; dc_out_abandon removes the
 * temporary file. Also removed when the process is stopped by a signal that the program handles. */
typedef struct dc_out dc_out;
/* exclusive: fail with NO_CREATE and *exists = true (exists may be NULL) when the name is taken, instead of replacing.
 * Errors: NO_CREATE (folder missing, read-only, not permitted, is a folder), NO_MEMORY. */
dc_status dc_out_open(dc_out **out, const char *path, bool exclusive, bool *exists, dc_error *e);
dc_status dc_out_write(dc_out *o, const void *bytes, size_t n, dc_error *e); /* IO: disk full, ... */
dc_status dc_out_commit(dc_out *o, dc_error *e);                             /* write out, fsync, rename, fsync the folder; frees o */
void dc_out_fleeting(dc_out *o); /* commit need not sync: the file is whole or not there all the same, but after a power loss it may be either */
void dc_out_abandon(dc_out *o);  /* NULL is fine; frees o */
/* Would dc_out_open work for this path? Asked before long work, so that a missing folder is told at once. */
dc_status dc_out_check(const char *path, dc_error *e);

/* A folder that is written as a whole (folder.c): made under a temporary name beside `path`, renamed by commit. An empty folder of that name is
 * replaced. Errors: NO_CREATE (taken by a file or a folder that is not empty, folder around it missing, not permitted), NO_MEMORY. */
typedef struct dc_out_folder dc_out_folder;
dc_status dc_out_folder_open(dc_out_folder **out, const char *path, dc_error *e);
/* Makes the folder `name` in it. */
dc_status dc_out_folder_make(dc_out_folder *f, const char *name, dc_error *e);
/* *path: where the file `name` ("unet/config.json") is to be written with dc_out_open; valid while f is. */
dc_status dc_out_folder_file(dc_out_folder *f, const char *name, const char **path, dc_error *e);
dc_status dc_out_folder_commit(dc_out_folder *f, dc_error *e); /* frees f */
void dc_out_folder_abandon(dc_out_folder *f);                  /* removes what was made through it; NULL is fine; frees f */

/* Removes the temporary files and folders of all writes under way: only calls unlink and rmdir, so a signal handler may use it. */
void dc_out_remove_pending(void);
void dc_out_folder_remove_pending(void);  /* the part of it that is folders */
void dc_sync_folder_of(const char *path); /* fsync of the folder around `path`; folders that cannot be synced are let be */

/* path of `name` in `folder`; the caller frees. NULL when memory is out. */
char *dc_path_join(const char *folder, const char *name);
/* Where the user's caches are (XDG_CACHE_HOME or ~/.cache): "diffc/NAME" in it. NULL when there is no place, or no memory. The caller frees it. */
char *dc_cache_path(const char *name);
/* The folders that a path goes through, for the user alone. Where that is not enough, opening it tells. The path is as it was when this returns. */
void dc_make_folders(char *path);
/* Folder part of a path, "." without one; NULL when memory is out. The caller frees. */
char *dc_path_folder(const char *path);
bool dc_is_file(const char *path);
bool dc_is_folder(const char *path);
/* A relative path from a file (shard name, component folder) that stays inside its folder: not empty, not
 * absolute, no "..", no backslash, no drive letter, no control character. */
bool dc_is_safe_relative(const char *path);

#endif
