#include "base/file.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- reading ------------------------------------------------------------------------------------------------ */

dc_status dc_open_regular(int *fd, struct stat *st, const char *path, dc_error *e)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return dc_fail(e, DC_NO_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    if (fstat(*fd, st) == 0 && S_ISREG(st->st_mode)) return DC_OK;
    dc_fail(e, DC_NO_INPUT, "%s: cannot be read: found %s, expected a file", path, S_ISDIR(st->st_mode) ? "a folder" : "a device or pipe");
    close(*fd);
    *fd = -1;
    return DC_NO_INPUT;
}

dc_status dc_read_file(const char *path, uint64_t limit, char **out, size_t *n, dc_error *e)
{
    struct stat st;
    int fd;
    *out = NULL;
    *n = 0;
    dc_status s = dc_open_regular(&fd, &st, path, e);
    if (s) return s;
    uint64_t size = (uint64_t)st.st_size;
    if (size > limit)
        s = dc_fail(e, DC_DATA, "%s: size: found %llu bytes, expected at most %llu", path, (unsigned long long)size, (unsigned long long)limit);
    if (!s && !(*out = malloc(size + 1))) s = dc_fail_memory(e, path, size);
    while (!s && *n < size) {
        ssize_t got = read(fd, *out + *n, size - *n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) s = dc_fail(e, DC_IO, "%s: reading failed: %s", path, strerror(errno));
        if (got <= 0) break;
        *n += (size_t)got;
    }
    close(fd);
    if (s) {
        free(*out);
        *out = NULL;
        *n = 0;
    } else {
        (*out)[*n] = 0;
    }
    return s;
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

struct dc_out {
    int fd;
    char *path;      /* the final name, links followed */
    char *shown;     /* as the caller wrote it, for messages */
    char *temporary; /* NULL: written in place */
    bool exclusive, regular, fleeting;
    int slot; /* among the pending ones, or -1 */
};

/* Names of temporary files being written, for dc_out_remove_pending. A full table only means that a signal leaves a file. */
#define PENDING 16
static _Atomic(const char *) pending[PENDING];

static int remember(const char *path)
{
    for (int i = 0; i < PENDING; i++) {
        const char *none = NULL;
        if (atomic_compare_exchange_strong(&pending[i], &none, path)) return i;
    }
    return -1;
}

void dc_out_remove_pending(void)
{
    for (int i = 0; i < PENDING; i++) {
        const char *path = atomic_load(&pending[i]);
        if (path) unlink(path);
    }
    dc_out_folder_remove_pending();
}

static void out_free(dc_out *o)
{
    if (o->slot >= 0) atomic_store(&pending[o->slot], NULL);
    if (o->fd > STDOUT_FILENO) close(o->fd);
    free(o->path);
    free(o->shown);
    free(o->temporary);
    free(o);
}

static dc_status cannot_create(const char *path, int number, dc_error *e)
{
    if (number == ENOMEM) return dc_fail_memory(e, path, strlen(path));
    dc_status code = number == ENOSPC || number == EDQUOT || number == EIO ? DC_IO : DC_NO_CREATE;
    dc_status s = dc_fail(e, code, "%s: cannot be written: %s", path, strerror(number));
    if (number == ENOENT) dc_hint(e, "The folder does not exist: make it first.");
    return s;
}

/* What a path names, links followed: *target is a new string with the name to replace. *regular: nothing there, or a file. */
static dc_status resolve(char **target, bool *regular, bool *there, const char *path, dc_error *e)
{
    struct stat st;
    *there = stat(path, &st) == 0;
    const int number = *there ? 0 : errno;
    *regular = !*there || S_ISREG(st.st_mode);
    *target = *there && *regular ? realpath(path, NULL) : dc_strdup(path);
    if (number && number != ENOENT) return cannot_create(path, number, e);
    if (*there && S_ISDIR(st.st_mode)) return cannot_create(path, EISDIR, e);
    if (!*target) return dc_fail_memory(e, path, strlen(path));
    if (*there || lstat(path, &st) != 0 || !S_ISLNK(st.st_mode)) return DC_OK;
    /* a link whose target is not there yet: the target is what will be made */
    char to[PATH_MAX];
    ssize_t n = readlink(path, to, sizeof to - 1);
    if (n <= 0) return cannot_create(path, n < 0 ? errno : ENOENT, e);
    to[n] = 0;
    char *slash = strrchr(*target, '/');
    char *whole = to[0] == '/' || !slash ? dc_strdup(to) : dc_format("%.*s/%s", (int)(slash - *target), *target, to);
    free(*target);
    *target = whole;
    return whole ? DC_OK : dc_fail_memory(e, path, strlen(path));
}

/* A new file beside `path`, with the permissions a plain open() would give it. */
static dc_status open_temporary(dc_out *o, dc_error *e)
{
    static atomic_uint serial;
    char *slash = strrchr(o->path, '/');
    for (int tries = 0; tries < 100; tries++) {
        unsigned id = atomic_fetch_add(&serial, 1);
        free(o->temporary);
        o->temporary = dc_format("%.*s.diffc-%ld-%u.partial", slash ? (int)(slash - o->path) + 1 : 0, o->path, (long)getpid(), id);
        if (!o->temporary) return dc_fail_memory(e, o->shown, strlen(o->path));
        o->fd = open(o->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (o->fd >= 0) {
            o->slot = remember(o->temporary);
            return DC_OK;
        }
        if (errno != EEXIST) break;
    }
    return cannot_create(o->shown, errno, e);
}

dc_status dc_out_open(dc_out **out, const char *path, bool exclusive, bool *exists, dc_error *e)
{
    *out = NULL;
    if (exists) *exists = false;
    dc_out *o = calloc(1, sizeof *o);
    if (!o) return dc_fail_memory(e, path, sizeof *o);
    *o = (dc_out){.fd = -1, .slot = -1, .exclusive = exclusive, .shown = dc_strdup(path)};
    bool there = false;
    dc_status s = o->shown ? DC_OK : dc_fail_memory(e, path, strlen(path));
    if (!s && !strcmp(path, "-")) {
        o->fd = STDOUT_FILENO;
    } else if (!s) {
        s = resolve(&o->path, &o->regular, &there, path, e);
        if (!s && exclusive && there) {
            if (exists) *exists = true;
            s = cannot_create(path, EEXIST, e);
        }
        if (!s && o->regular && there && access(o->path, W_OK) != 0) s = cannot_create(path, errno, e);
        if (!s && o->regular) s = open_temporary(o, e);
        if (!s && !o->regular && (o->fd = open(path, O_WRONLY | O_CLOEXEC)) < 0) s = cannot_create(path, errno, e);
    }
    if (s) out_free(o);
    else *out = o;
    return s;
}

static dc_status write_failed(const dc_out *o, int number, dc_error *e)
{
    dc_status s = dc_fail(e, DC_IO, "%s: writing failed: %s", strcmp(o->shown, "-") ? o->shown : "stdout", strerror(number));
    if (number == ENOSPC || number == EDQUOT) dc_hint(e, "The disk is full; nothing was changed under that name.");
    return s;
}

dc_status dc_out_write(dc_out *o, const void *bytes, size_t n, dc_error *e)
{
    const char *at = bytes;
    while (n) {
        ssize_t done = write(o->fd, at, n < (1u << 30) ? n : 1u << 30);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return write_failed(o, done < 0 ? errno : EIO, e);
        at += done;
        n -= (size_t)done;
    }
    return DC_OK;
}

/* So that the new name itself survives a power loss. */
void dc_sync_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? dc_format("%.*s", slash == path ? 1 : (int)(slash - path), path) : dc_strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

/* The temporary file takes its final name. An exclusive name is taken with link(), which never replaces. */
static dc_status take_name(dc_out *o, dc_error *e)
{
    if (!o->exclusive) return rename(o->temporary, o->path) == 0 ? DC_OK : cannot_create(o->shown, errno, e);
    if (link(o->temporary, o->path) == 0) {
        unlink(o->temporary);
        return DC_OK;
    }
    if (errno == EEXIST) return cannot_create(o->shown, EEXIST, e);
    if (renameat2(AT_FDCWD, o->temporary, AT_FDCWD, o->path, RENAME_NOREPLACE) == 0) return DC_OK; /* file systems without hard links */
    return cannot_create(o->shown, errno, e);
}

void dc_out_fleeting(dc_out *o) { o->fleeting = true; }

dc_status dc_out_commit(dc_out *o, dc_error *e)
{
    dc_status s = DC_OK;
    if (o->temporary) {
        struct stat st;
        if (stat(o->path, &st) == 0) fchmod(o->fd, st.st_mode & 07777); /* a replaced file keeps its permissions */
        if (!o->fleeting && fsync(o->fd) != 0 && errno != EINVAL && errno != EROFS) s = write_failed(o, errno, e);
    }
    if (o->fd > STDOUT_FILENO) {
        int fd = o->fd;
        o->fd = -1;
        if (close(fd) != 0 && !s) s = write_failed(o, errno, e);
    }
    if (!s && o->temporary) s = take_name(o, e);
    if (o->temporary) {
        if (s) unlink(o->temporary);
        else if (!o->fleeting) dc_sync_folder_of(o->path);
    }
    out_free(o);
    return s;
}

void dc_out_abandon(dc_out *o)
{
    if (!o) return;
    if (o->temporary) unlink(o->temporary);
    out_free(o);
}

dc_status dc_out_check(const char *path, dc_error *e)
{
    if (!strcmp(path, "-")) return DC_OK;
    char *target = NULL;
    bool regular, there;
    struct stat st;
    dc_status s = resolve(&target, &regular, &there, path, e);
    if (!s && there && access(target, W_OK) != 0) s = cannot_create(path, errno, e);
    if (!s && regular) {
        char *slash = strrchr(target, '/');
        char *folder = slash ? dc_format("%.*s", slash == target ? 1 : (int)(slash - target), target) : dc_strdup(".");
        if (!folder) s = dc_fail_memory(e, path, strlen(path));
        else if (stat(folder, &st) != 0) s = cannot_create(path, errno, e);
        else if (!S_ISDIR(st.st_mode)) s = cannot_create(path, ENOTDIR, e);
        else if (access(folder, W_OK | X_OK) != 0) s = cannot_create(path, errno, e);
        free(folder);
    }
    free(target);
    return s;
}

/* ---- paths -------------------------------------------------------------------------------------------------------- */

char *dc_path_join(const char *folder, const char *name)
{
    size_t n = strlen(folder);
    return dc_format("%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name);
}

char *dc_cache_path(const char *name)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *base = cache && *cache == '/' ? dc_strdup(cache) : home && *home == '/' ? dc_path_join(home, ".cache") : NULL;
    char *folder = base ? dc_path_join(base, "diffc") : NULL, *path = folder ? dc_path_join(folder, name) : NULL;
    free(base);
    free(folder);
    return path;
}

void dc_make_folders(char *path)
{
    for (char *at = path + 1; (at = strchr(at, '/')); *at++ = '/') {
        *at = 0;
        mkdir(path, 0700);
    }
}

char *dc_path_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? dc_format("%.*s", slash == path ? 1 : (int)(slash - path), path) : dc_strdup(".");
}

bool dc_is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool dc_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool dc_is_safe_relative(const char *path)
{
    if (!*path || *path == '/' || strchr(path, '\\') || strchr(path, ':') || strlen(path) > PATH_MAX / 2) return false;
    for (const unsigned char *c = (const unsigned char *)path; *c; c++)
        if (*c < 0x20 || *c == 0x7f) return false;
    for (const char *part = path; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
        if (!strcmp(part, "..") || !strncmp(part, "../", 3)) return false;
    return true;
}
