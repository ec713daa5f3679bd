/* folder.c - folders written as a whole: files made one by one under a temporary name, which becomes the final one at the end. */
#include "base/file.h"
#include "base/text.h"
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What was made, the newest first: a folder comes behind all that is in it. Only ever grows, so that a signal handler can read it. */
typedef struct made {
    struct made *next;
    char path[];
} made;

struct dc_out_folder {
    char *path, *shown, *temporary;
    _Atomic(made *) made;
    int slot;
};

/* Those under way, for a signal handler. A full table only means that a signal leaves a folder. */
#define PENDING 4
static _Atomic(dc_out_folder *) pending[PENDING];

static void remove_made(dc_out_folder *f)
{
    for (made *x = atomic_load(&f->made); x; x = x->next)
        if (unlink(x->path) != 0) rmdir(x->path);
}

void dc_out_folder_remove_pending(void)
{
    for (int i = 0; i < PENDING; i++) {
        dc_out_folder *f = atomic_load(&pending[i]);
        if (f) remove_made(f);
    }
}

static void folder_free(dc_out_folder *f)
{
    if (f->slot >= 0) atomic_store(&pending[f->slot], NULL);
    for (made *x = atomic_load(&f->made), *next; x; x = next) {
        next = x->next;
        free(x);
    }
    free(f->path);
    free(f->shown);
    free(f->temporary);
    free(f);
}

static dc_status cannot_create(const dc_out_folder *f, int number, dc_error *e)
{
    bool taken = number == EEXIST || number == ENOTEMPTY || number == ENOTDIR;
    dc_status s =
        dc_fail(e, number == ENOSPC || number == EDQUOT || number == EIO ? DC_IO : DC_NO_CREATE, "%s: folder cannot be written: %s", f->shown,
                taken && dc_is_file(f->path) ? "found a file of that name"
                : taken                      ? "found one that is not empty"
                                             : strerror(number));
    if (taken) dc_hint(e, "Name another, or remove it first.");
    if (number == ENOENT) dc_hint(e, "The folder around it does not exist: make it first.");
    return s;
}

/* path + "/" + name is remembered before it is made: it is there to be removed at any moment. NULL: no memory. */
static const char *remember(dc_out_folder *f, const char *name)
{
    size_t n = strlen(f->temporary), k = strlen(name);
    made *x = malloc(sizeof *x + n + k + 2);
    if (!x) return NULL;
    snprintf(x->path, n + k + 2, "%s%s%s", f->temporary, k ? "/" : "", name);
    x->next = atomic_load(&f->made);
    atomic_store(&f->made, x);
    return x->path;
}

static dc_status make_temporary(dc_out_folder *f, dc_error *e)
{
    static atomic_uint serial;
    char *slash = strrchr(f->path, '/');
    for (int tries = 0; tries < 100; tries++) {
        free(f->temporary);
        f->temporary =
            dc_format("%.*s.diffc-%ld-%u.partial", slash ? (int)(slash - f->path) + 1 : 0, f->path, (long)getpid(), atomic_fetch_add(&serial, 1));
        if (!f->temporary) return dc_fail_memory(e, f->shown, strlen(f->path));
        if (mkdir(f->temporary, 0777) == 0) return remember(f, "") ? DC_OK : dc_fail_memory(e, f->shown, strlen(f->path));
        if (errno != EEXIST) break;
    }
    return cannot_create(f, errno, e);
}

/* Links followed, no slash at the end; and it is free to be taken. */
static dc_status check_target(dc_out_folder *f, dc_error *e)
{
    struct stat st;
    char *full = realpath(f->path, NULL);
    if (!full && lstat(f->path, &st) == 0 && S_ISLNK(st.st_mode))
        return dc_fail(e, DC_NO_CREATE, "%s: folder cannot be written: found a link to nothing", f->shown);
    if (!full && errno != ENOENT) return cannot_create(f, errno, e);
    if (!full) return DC_OK;
    free(f->path);
    f->path = full;
    DIR *d = opendir(full);
    if (!d) return cannot_create(f, errno, e);
    int entries = 0;
    while (entries < 3 && readdir(d)) entries++; /* "." and ".." */
    closedir(d);
    return entries < 3 ? DC_OK : cannot_create(f, ENOTEMPTY, e);
}

dc_status dc_out_folder_open(dc_out_folder **out, const char *path, dc_error *e)
{
    *out = NULL;
    dc_out_folder *f = calloc(1, sizeof *f);
    if (!f) return dc_fail_memory(e, path, sizeof *f);
    f->slot = -1;
    f->path = dc_strdup(path);
    f->shown = dc_strdup(path);
    for (size_t n = f->path ? strlen(f->path) : 0; n > 1 && f->path[n - 1] == '/';) f->path[--n] = 0;
    dc_status s = f->path && f->shown ? check_target(f, e) : dc_fail_memory(e, path, strlen(path));
    if (!s) s = make_temporary(f, e);
    if (s) {
        if (f->temporary) rmdir(f->temporary);
        folder_free(f);
        return s;
    }
    for (int i = 0; f->slot < 0 && i < PENDING; i++) {
        dc_out_folder *none = NULL;
        if (atomic_compare_exchange_strong(&pending[i], &none, f)) f->slot = i;
    }
    *out = f;
    return DC_OK;
}

dc_status dc_out_folder_make(dc_out_folder *f, const char *name, dc_error *e)
{
    const char *path = remember(f, name);
    if (!path) return dc_fail_memory(e, f->shown, strlen(name));
    return mkdir(path, 0777) == 0 ? DC_OK : cannot_create(f, errno, e);
}

dc_status dc_out_folder_file(dc_out_folder *f, const char *name, const char **path, dc_error *e)
{
    *path = remember(f, name);
    return *path ? DC_OK : dc_fail_memory(e, f->shown, strlen(name));
}

dc_status dc_out_folder_commit(dc_out_folder *f, dc_error *e)
{
    if (rename(f->temporary, f->path) != 0) {
        dc_status s = cannot_create(f, errno, e);
        dc_out_folder_abandon(f);
        return s;
    }
    dc_sync_folder_of(f->path);
    folder_free(f);
    return DC_OK;
}

void dc_out_folder_abandon(dc_out_folder *f)
{
    if (!f) return;
    remove_made(f);
    folder_free(f);
}
