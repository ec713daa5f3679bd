/* walk.c - all pictures below a folder. */
#include "search/walk.h"
#include "base/checked.h"
#include "base/text.h"
#include "search/store.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* What rclip leaves out: thumbnails of Synology, what programs keep, what Windows keeps. */
static const char *const usual[] = {"@eaDir", "node_modules", ".git", "System Volume Information", DC_INDEX_FOLDER};
static const char *const endings[] = {"jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pnm", "tga"};

typedef struct names {
    char **at;
    int n, room;
} names;

/* Folders that are known by what they are, so that links cannot lead round in circles. */
typedef struct place {
    dev_t device;
    ino_t node;
} place;

typedef struct walker {
    const dc_walk *w;
    int root;
    names stack, links; /* folders to be read, the next one last; links to folders, for when all folders have been read */
    place *seen;        /* open addressing, a power of two */
    size_t n_seen, room_seen;
    dc_error *e;
} walker;

bool dc_is_picture_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (!strcasecmp(dot + 1, endings[i])) return true;
    return false;
}

static bool excluded(const dc_walk *w, const char *path, const char *name)
{
    if (!w->hidden && name[0] == '.') return true;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        if (!strcmp(name, usual[i])) return true;
    for (int i = 0; i < w->n_exclude; i++)
        if (!fnmatch(w->exclude[i], strchr(w->exclude[i], '/') ? path : name, 0)) return true;
    return false;
}

static dc_status push(names *l, char *name, dc_error *e)
{
    if (!name || !dc_grow((void **)&l->at, &l->room, l->n, sizeof *l->at)) {
        free(name);
        return dc_fail_memory(e, "a list of files", sizeof *l->at * (size_t)l->n);
    }
    l->at[l->n++] = name;
    return DC_OK;
}

static void drop(names *l)
{
    for (int i = 0; i < l->n; i++) free(l->at[i]);
    free(l->at);
    *l = (names){0};
}

static size_t slot_of(const place *table, size_t room, place p)
{
    size_t i = (size_t)((p.node * 0x9e3779b97f4a7c15ull) ^ (p.device * 0xc2b2ae3d27d4eb4full)) & (room - 1);
    while (table[i].node && (table[i].node != p.node || table[i].device != p.device)) i = (i + 1) & (room - 1);
    return i;
}

/* *fresh: this folder has not been walked before. */
static dc_status remember(walker *k, const struct stat *st, bool *fresh)
{
    if (2 * k->n_seen >= k->room_seen) {
        size_t room = k->room_seen ? 2 * k->room_seen : 256;
        place *more = dc_calloc(room, sizeof *more);
        if (!more) return dc_fail_memory(k->e, "folders", room * sizeof *more);
        for (size_t i = 0; i < k->room_seen; i++)
            if (k->seen[i].node) more[slot_of(more, room, k->seen[i])] = k->seen[i];
        free(k->seen);
        k->seen = more;
        k->room_seen = room;
    }
    place p = {st->st_dev, st->st_ino ? st->st_ino : 1};
    size_t i = slot_of(k->seen, k->room_seen, p);
    *fresh = !k->seen[i].node;
    if (*fresh) {
        k->seen[i] = p;
        k->n_seen++;
    }
    return DC_OK;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static char *below(const char *folder, const char *name) { return dc_format("%s%s%s", folder, *folder ? "/" : "", name); }

/* Names in the folder, sorted; number: errno when it could not be read to its end. */
static dc_status read_names(DIR *d, names *out, int *number, dc_error *e)
{
    dc_status s = DC_OK;
    for (;;) {
        errno = 0;
        struct dirent *f = readdir(d);
        if (!f) break;
        if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, "..")) continue;
        s = push(out, dc_strdup(f->d_name), e);
        if (s) return s;
    }
    *number = errno;
    if (out->n) qsort(out->at, (size_t)out->n, sizeof *out->at, by_bytes);
    return DC_OK;
}

/* One name in a folder: a file is handed out, a folder noted. */
static dc_status look_at(walker *k, int folder, const char *path, const char *name, names *folders)
{
    const dc_walk *w = k->w;
    struct stat st;
    if (excluded(w, path, name)) return DC_OK;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? DC_OK : w->unreadable(w->ctx, path, errno, k->e); /* gone meanwhile: not there */
    const bool link = S_ISLNK(st.st_mode);
    if (link && fstatat(folder, name, &st, 0)) return DC_OK; /* to nowhere, or round in a circle */
    if (S_ISREG(st.st_mode)) return dc_is_picture_name(name) ? w->file(w->ctx, path, &st, k->e) : DC_OK;
    if (!S_ISDIR(st.st_mode) || (link && !w->follow)) return DC_OK;
    return push(link ? &k->links : folders, dc_strdup(path), k->e);
}

static dc_status read_folder(walker *k, const char *path)
{
    const dc_walk *w = k->w;
    struct stat st;
    bool fresh = true;
    names in = {0}, folders = {0};
    int number = 0, fd = openat(k->root, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        number = errno;
        if (fd >= 0) close(fd);
        return number == ENOENT ? DC_OK : number == ENOMEM ? dc_fail_memory(k->e, "a folder", 0) : w->unreadable(w->ctx, path, number, k->e);
    }
    dc_status s = fstat(fd, &st) ? DC_OK : remember(k, &st, &fresh);
    if (!s && fresh && w->folder) s = w->folder(w->ctx, path, k->e);
    if (!s && fresh) s = read_names(d, &in, &number, k->e);
    for (int i = 0; i < in.n && !s; i++) {
        char *below_it = below(path, in.at[i]);
        s = below_it ? look_at(k, fd, below_it, in.at[i], &folders) : dc_fail_memory(k->e, "a path", strlen(path));
        free(below_it);
    }
    if (!s && number) s = w->unreadable(w->ctx, path, number, k->e);
    while (folders.n && !s) s = push(&k->stack, folders.at[--folders.n], k->e);
    closedir(d);
    drop(&in);
    drop(&folders);
    return s;
}

dc_status dc_walk_run(const dc_walk *w, dc_error *e)
{
    walker k = {.w = w, .e = e, .root = open(w->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (k.root < 0) return dc_fail(e, DC_NO_INPUT, "%s: folder: cannot be read: %s", w->root, strerror(errno));
    dc_status s = push(&k.stack, dc_strdup(""), e);
    for (int link = 0; !s && (k.stack.n || link < k.links.n);) {
        if (!k.stack.n) { /* real folders first, so that a link never takes the name from one */
            s = push(&k.stack, k.links.at[link], e);
            k.links.at[link++] = NULL;
            if (s) break;
        }
        char *path = k.stack.at[--k.stack.n];
        s = read_folder(&k, path);
        free(path);
    }
    drop(&k.stack);
    drop(&k.links);
    free(k.seen);
    close(k.root);
    return s;
}
