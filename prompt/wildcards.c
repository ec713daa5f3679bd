/* wildcards.c - see wildcards.h. Ref: dynamicprompts wildcards/wildcard_manager.py, tree/build.py, collection/text_file.py. */
#include "prompt/wildcards.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/text.h"
#include "prompt/scan.h"
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FILES = 10000, MOST_LINES = 1 << 20, FOLDERS_DEEP = 8, FILE_BYTES = 8 << 20 };

/* A search under way. */
typedef struct search {
    wildcard_lines *w;
    const char *folder, *pattern;
    char **found; /* names of the files that match, without folder and ending */
    int n, room, seen;
    dc_error *e;
} search;

/* ---- lines ---------------------------------------------------------------------------------------------------------- */

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static dc_status add_line(wildcard_lines *w, char *line, size_t n, dc_error *e)
{
    size_t blank = scan_space(line, n);
    n = scan_trimmed(line, n);
    if (blank >= n || line[blank] == '#') return DC_OK;
    if (w->n == MOST_LINES) return dc_fail(e, DC_DATA, "wildcards: found more than %d lines, expected fewer", MOST_LINES);
    if (!(w->n & (w->n - 1))) { /* room for twice as many at each power of 2 */
        char **more = realloc(w->line, sizeof *more * (w->n ? 2 * (size_t)w->n : 1));
        if (!more) return dc_fail_memory(e, "wildcards", 16ull * (unsigned long long)w->n);
        w->line = more;
    }
    line[n] = 0;
    w->line[w->n++] = line + blank;
    return DC_OK;
}

static dc_status read_lines(wildcard_lines *w, const char *path, dc_error *e)
{
    size_t n = 0;
    char **files = realloc(w->file, sizeof *files * ((size_t)w->files + 1));
    if (!files) return dc_fail_memory(e, path, 8);
    w->file = files;
    w->file[w->files] = NULL;
    dc_status s = dc_read_file(path, FILE_BYTES, &w->file[w->files], &n, e);
    if (s) return s;
    char *at = w->file[w->files++], *end = at + n;
    if (n >= 3 && !memcmp(at, "\xef\xbb\xbf", 3)) at += 3;
    if (!dc_utf8_valid(at, (size_t)(end - at)) || memchr(at, 0, (size_t)(end - at)))
        return dc_fail(e, DC_DATA, "%s: found bytes that are not UTF-8, expected lines of text", path);
    while (!s && at < end) {
        size_t line = 0;
        while (at + line < end && at[line] != '\n' && at[line] != '\r') line++;
        s = add_line(w, at, line, e);
        at += line + 1;
    }
    return s;
}

static void sort_lines(wildcard_lines *w)
{
    int kept = 0;
    if (!w->n) return;
    qsort(w->line, (size_t)w->n, sizeof *w->line, by_bytes);
    for (int i = 1; i < w->n; i++)
        if (strcmp(w->line[i], w->line[kept])) w->line[++kept] = w->line[i];
    w->n = kept + 1;
}

/* ---- files ---------------------------------------------------------------------------------------------------------------- */

static dc_status take_file(search *x, const char *name)
{
    if (fnmatch(x->pattern, name, FNM_NOESCAPE)) return DC_OK;
    char *path = dc_format("%s/%s.txt", x->folder, name);
    dc_status s = path ? read_lines(x->w, path, x->e) : dc_fail_memory(x->e, "a path", strlen(name));
    free(path);
    return s;
}

/* `within`: the folder below the wildcards' folder, "" or ending in a slash. Goes FOLDERS_DEEP down at most. */
static dc_status walk(search *x, const char *within, int depth)
{
    char *path = dc_format("%s/%s", x->folder, within);
    DIR *d = path ? opendir(path) : NULL;
    dc_status s = path && (d || errno != ENOMEM) ? DC_OK : dc_fail_memory(x->e, "a path", strlen(within));
    for (struct dirent *f; !s && d && (f = readdir(d));) {
        size_t n = strlen(f->d_name);
        if (f->d_name[0] == '.') continue;
        if (++x->seen > MOST_FILES) s = dc_fail(x->e, DC_DATA, "%s: found more than %d files, expected fewer", x->folder, MOST_FILES);
        bool text = n > 4 && !strcmp(f->d_name + n - 4, ".txt");
        char *name = dc_format("%s%.*s%s", within, (int)(text ? n - 4 : n), f->d_name, text ? "" : "/");
        char *whole = name && !text ? dc_format("%s/%s", x->folder, name) : NULL;
        if (!s && (!name || (!text && !whole))) s = dc_fail_memory(x->e, "a path", n);
        if (!s && text) s = take_file(x, name);
        else if (!s && depth < FOLDERS_DEEP && whole && dc_is_folder(whole)) s = walk(x, name, depth + 1);
        free(name);
        free(whole);
    }
    if (d) closedir(d);
    free(path);
    return s;
}

/* NAME.txt itself, or all that match it as a pattern. */
static dc_status find(wildcard_lines *w, const char *folder, const char *pattern, dc_error *e)
{
    search x = {.w = w, .folder = folder, .pattern = pattern, .e = e};
    if (strpbrk(pattern, "*?[")) return walk(&x, "", 0);
    char *path = dc_format("%s/%s.txt", folder, pattern);
    dc_status s = path ? DC_OK : dc_fail_memory(e, "a path", strlen(pattern));
    if (!s && dc_is_file(path)) s = read_lines(w, path, e);
    free(path);
    return s;
}

dc_status wildcard_read(wildcard_lines *w, const char *folder, const char *name, dc_error *e)
{
    *w = (wildcard_lines){0};
    if (strstr(name, "..") || strchr(name, '\\') || *name == '/')
        return dc_fail(e, DC_DENIED, "wildcard: found the name %s, expected one inside the folder of the wildcards", name);
    dc_status s = dc_is_folder(folder) ? DC_OK : dc_fail(e, DC_NO_INPUT, "%s: found no folder, expected one of wildcard files", folder);
    if (!s) s = find(w, folder, name, e);
    if (!s && !w->n) {
        char *anywhere = dc_format("**/%s", name);
        s = anywhere ? find(w, folder, anywhere, e) : dc_fail_memory(e, "a name", strlen(name));
        free(anywhere);
    }
    sort_lines(w);
    if (s) wildcard_free(w);
    return s;
}

void wildcard_free(wildcard_lines *w)
{
    for (int i = 0; i < w->files; i++) free(w->file[i]);
    free(w->file);
    free(w->line);
    *w = (wildcard_lines){0};
}
