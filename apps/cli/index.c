/* index.c - the command index: pictures below a folder made searchable. */
#include "apps/cli/commands.h"
#include "apps/cli/pictures.h"
#include "apps/cli/report.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what index and search share ---------------------------------------------------------------------------------------- */

const char **item_values(const settings *s, const char *name, int *n)
{
    const char **out = malloc(((size_t)s->n_items + 1) * sizeof *out);
    *n = 0;
    for (int i = 0; out && i < s->n_items; i++) {
        const char *of = s->item[i].option;
        if (name ? of && !strncmp(of, name, strlen(name)) && (of[strlen(name)] == 0 || of[strlen(name)] == '|') : !of) out[(*n)++] = s->item[i].value;
    }
    return out;
}

char *paths_beside(const char *npy)
{
    size_t n = strlen(npy);
    if (n > 4 && !strcmp(npy + n - 4, ".npy")) n -= 4;
    char *out = malloc(n + sizeof ".paths");
    if (out) sprintf(out, "%.*s.paths", (int)n, npy);
    return out;
}

void json_set_path(json_t *o, const char *path)
{
    json_t *text = json_string(path);
    if (!text) {
        const size_t n = strlen(path);
        char *shown = malloc(4 * n + 1), *hex = malloc(2 * n + 1);
        if (shown && hex) {
            for (size_t i = 0; i < n; i++) sprintf(hex + 2 * i, "%02x", (unsigned char)path[i]);
            text = json_string(diffc_escape(shown, 4 * n + 1, path));
            json_object_set_new(o, "path_hex", json_string(hex));
        }
        free(shown);
        free(hex);
    }
    json_object_set_new(o, "path", text);
}

/* ---- telling --------------------------------------------------------------------------------------------------------------- */

typedef struct telling {
    const settings *s;
    progress p;
    const char *root;
} telling;

static bool on_progress(void *user, const diffc_index_progress *p)
{
    telling *t = user;
    progress_index(&t->p, p);
    return signals_caught();
}

static void on_failure(void *user, const char *path, const char *reason)
{
    telling *t = user;
    char line[1200], shown[600];
    if (t->s->quiet) return;
    progress_clear(&t->p);
    snprintf(line, sizeof line, "%s: %s", diffc_escape(shown, sizeof shown, path), reason);
    report_log(DIFFC_LOG_WARNING, line);
}

static void on_log(void *user, diffc_log_level level, const char *line)
{
    telling *t = user;
    if (t->s->quiet || (level < DIFFC_LOG_WARNING && !t->s->verbose)) return;
    progress_clear(&t->p);
    report_log(level, line);
}

static void tell_summary(void *user, const diffc_index_summary *x)
{
    telling *t = user;
    progress_clear(&t->p);
    if (t->s->json) {
        json_t *o = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f}", "found", (json_int_t)x->found, "unchanged", (json_int_t)x->unchanged,
                              "added", (json_int_t)x->added, "changed", (json_int_t)x->changed, "embedded", (json_int_t)x->embedded, "reused",
                              (json_int_t)x->reused, "removed", (json_int_t)x->removed, "failed", (json_int_t)x->failed, "unreadable_folders",
                              (json_int_t)x->unreadable, "seconds", x->seconds);
        json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(o);
    } else if (!t->s->quiet) {
        printf("%s: %llu pictures: %llu new, %llu changed, %llu gone, %llu as they were; %llu encoded, %llu known by their content", t->root,
               (unsigned long long)x->found, (unsigned long long)x->added, (unsigned long long)x->changed, (unsigned long long)x->removed,
               (unsigned long long)x->unchanged, (unsigned long long)x->embedded, (unsigned long long)x->reused);
        if (x->failed) printf(", %llu could not be read", (unsigned long long)x->failed);
        printf("; %.1f s", x->seconds);
        if (x->embedded && x->seconds > 0) printf(", %.1f a second", (double)x->embedded / x->seconds);
        putchar('\n');
    }
    fflush(stdout);
}

/* ---- looking only ------------------------------------------------------------------------------------------------------------- */

static bool tell_failure(void *user, const char *path, const char *reason)
{
    const settings *s = user;
    char shown[600];
    if (s->zero) {
        fputs(path, stdout);
        putchar(0);
    } else if (s->json) {
        json_t *o = json_object();
        json_set_path(o, path);
        json_object_set_new(o, "reason", json_string(reason));
        json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
        putchar('\n');
        json_decref(o);
    } else {
        printf("%s: %s\n", diffc_escape(shown, sizeof shown, path), reason);
    }
    return signals_caught();
}

static int look(const settings *s, const char *root)
{
    diffc_error e = {0};
    diffc_index *x;
    diffc_index_info i;
    char own[PATH_MAX];
    if (snprintf(own, sizeof own, "%s/.diffc", root) >= (int)sizeof own) return report(DIFFC_USAGE, "", "%s: too long a name", root);
    diffc_options o = model_options(s);
    if (diffc_index_open(&x, s->index ? s->index : own, NULL, &o, &e)) return report_error(&e);
    int code = 0;
    if (s->failures && diffc_index_failures(x, tell_failure, (void *)s, &e)) code = report_error(&e);
    if (!code && s->check && diffc_index_check(x, &e)) code = report_error(&e);
    if (!code && s->check) {
        if (diffc_index_about(x, &i, &e)) code = report_error(&e);
        else if (s->json)
            print_json(json_pack("{s:b,s:s,s:i,s:I,s:I,s:I}", "sound", 1, "model", i.model, "dims", i.dims, "files", (json_int_t)i.files, "vectors",
                                 (json_int_t)i.vectors, "failed", (json_int_t)i.failed));
        else
            printf("%s: sound: %llu pictures, %llu vectors of %d numbers by %s, %llu without one\n", i.folder, (unsigned long long)i.files,
                   (unsigned long long)i.vectors, i.dims, i.model, (unsigned long long)i.failed);
    }
    diffc_index_close(x);
    return code;
}

/* ---- indexing -------------------------------------------------------------------------------------------------------------------- */

static int work(const settings *s, const diffc_index_options *o, const diffc_embedder *m, telling *t)
{
    diffc_error e = {0};
    diffc_index_summary sum;
    diffc_status code;
    if (s->watch) {
        code = diffc_index_watch(o, m, &e);
        progress_clear(&t->p);
        return code == DIFFC_CANCELLED ? signals_code() : report_error(&e); /* that is how it ends */
    }
    if (s->import) {
        char *paths = paths_beside(s->import);
        if (!paths) return report(DIFFC_NO_MEMORY, "", "out of memory");
        code = diffc_index_import(o, m, s->import, paths, s->zero ? 0 : '\n', &sum, &e);
        free(paths);
    } else {
        code = diffc_index_update(o, m, &sum, &e);
    }
    progress_clear(&t->p);
    if (code) return report_error(&e);
    tell_summary(t, &sum);
    return 0;
}

static int check(const settings *s, int n_roots)
{
    if (n_roots > 1) return report(DIFFC_USAGE, "", "index: found %d folders, expected one", n_roots);
    if (s->batch < 1 || s->batch > 1024) return report(DIFFC_USAGE, "", "batch-size: found %d, expected 1 to 1024", s->batch);
    if (s->megapixels < 0) return report(DIFFC_USAGE, "", "max-image-megapixels: found %g, expected more than 0", s->megapixels);
    return 0;
}

static int index_folder(const settings *s, const char *root, const char *const *exclude, int n_exclude)
{
    telling t = {.s = s, .root = root};
    diffc_clip *clip;
    char *model = s->model ? realpath(s->model, NULL) : NULL;
    int code = progress_begin(&t.p, s->progress, s->quiet || s->json);
    if (!code) code = open_clip(&clip, s);
    if (!code) {
        const diffc_embedder m = diffc_clip_embedder(clip);
        const diffc_index_options o = {.root = root,
                                       .index = s->index,
                                       .model_path = model ? model : "",
                                       .exclude = exclude,
                                       .n_exclude = n_exclude,
                                       .hidden = s->hidden,
                                       .follow = s->follow,
                                       .rebuild = s->rebuild,
                                       .max_megapixels = s->megapixels,
                                       .threads = s->threads,
                                       .batch = s->batch > 1 ? s->batch : 0,
                                       .user = &t,
                                       .on_progress = on_progress,
                                       .on_failure = on_failure,
                                       .on_update = tell_summary,
                                       .log = on_log};
        code = work(s, &o, &m, &t);
        signals_clip(NULL);
        diffc_clip_close(clip);
    }
    free(model);
    return code;
}

int run_index(const settings *s)
{
    int n, n_exclude;
    const char **roots = item_values(s, NULL, &n), **exclude = item_values(s, "exclude", &n_exclude);
    int code = roots && exclude ? check(s, n) : report(DIFFC_NO_MEMORY, "", "out of memory");
    const char *root = n ? roots[0] : ".";
    signals_note();
    if (!code) code = s->check || s->failures ? look(s, root) : index_folder(s, root, exclude, n_exclude);
    free(roots);
    free(exclude);
    return code;
}
