/* search.c - the command search: pictures found by what they show. */
#include "apps/cli/commands.h"
#include "apps/cli/defaults.h"
#include "apps/cli/pictures.h"
#include "apps/cli/report.h"
#include "apps/cli/terminal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(void) { return report(DIFFC_NO_MEMORY, "", "out of memory"); }

/* ---- queries ------------------------------------------------------------------------------------------------------------- */

/* Terms of the queries: several of one query, or one of each of several. */
typedef struct asked {
    const char **add, **subtract, **templates;
    int n_add, n_subtract, n_templates, n;
    diffc_query *query;
    char *lines; /* of --queries */
} asked;

static void asked_free(asked *q)
{
    free(q->add);
    free(q->subtract);
    free(q->templates);
    free(q->query);
    free(q->lines);
}

/* QUERY, then "+ TERM", "- TERM", --add and --subtract as they come. */
static int take_terms(asked *q, const settings *s)
{
    const char *sign = NULL;
    bool first = true;
    for (int i = 0; i < s->n_items; i++) {
        const item *x = &s->item[i];
        const bool word = !x->option;
        if (!word && !strcmp(x->option, "template")) continue;
        if (word && !sign && (!strcmp(x->value, "+") || !strcmp(x->value, "-"))) {
            sign = x->value;
            continue;
        }
        const bool less = word ? sign && *sign == '-' : !strncmp(x->option, "subtract", 8);
        if (word && !sign && !first)
            return report(DIFFC_USAGE, "Put a query of several words in quotes; + and - join terms: \"red car\" + sunset - people",
                          "search: found \"%s\" after the query, expected + or - before it", x->value);
        if (word && !sign) first = false;
        if (less) q->subtract[q->n_subtract++] = x->value;
        else q->add[q->n_add++] = x->value;
        sign = word ? NULL : sign;
    }
    return sign ? report(DIFFC_USAGE, "", "search: found nothing after %s, expected a term", sign) : 0;
}

static diffc_query query_of(const settings *s, const asked *q)
{
    return (diffc_query){.templates = q->templates,
                         .n_templates = q->n_templates,
                         .threshold = s->has_threshold ? s->threshold : -2,
                         .automatic = s->automatic,
                         .top = s->has_top                         ? s->top
                                : s->has_threshold || s->automatic ? 0
                                                                   : 10};
}

/* A query a line. */
static int take_lines(asked *q, const settings *s)
{
    int code = text_read(&q->lines, s->queries);
    if (code) return code;
    int room = 1;
    for (const char *at = q->lines; *at; at++) room += *at == '\n';
    free(q->add);
    q->add = malloc((size_t)room * sizeof *q->add);
    q->query = malloc((size_t)room * sizeof *q->query);
    if (!q->add || !q->query) return no_memory();
    for (char *at = q->lines; *at;) {
        const size_t n = strcspn(at, "\r\n");
        char *next = at + n + strspn(at + n, "\r\n");
        at[n] = 0;
        if (n) {
            q->add[q->n] = at;
            q->query[q->n] = query_of(s, q);
            q->query[q->n].add = &q->add[q->n];
            q->query[q->n++].n_add = 1;
        }
        at = next;
    }
    return q->n ? 0 : report(DIFFC_USAGE, "", "%s: found no query, expected one a line", s->queries);
}

static int take_queries(asked *q, const settings *s)
{
    int n;
    q->add = item_values(s, NULL, &n);
    q->subtract = malloc(((size_t)s->n_items + 1) * sizeof *q->subtract);
    q->templates = item_values(s, "template", &q->n_templates);
    if (!q->add || !q->subtract || !q->templates) return no_memory();
    if (s->queries) return n ? report(DIFFC_USAGE, "", "search: found a query beside --queries, expected one of both") : take_lines(q, s);
    free(q->add);
    q->add = malloc(((size_t)s->n_items + 1) * sizeof *q->add);
    q->query = malloc(sizeof *q->query);
    int code = q->add && q->query ? take_terms(q, s) : no_memory();
    if (code) return code;
    if (q->n_add + q->n_subtract == 0)
        return report(DIFFC_USAGE, "For example: diffc search \"a dog on a beach\"", "search: found no query, expected a text or a picture");
    q->n = 1;
    q->query[0] = query_of(s, q);
    q->query[0].add = q->add;
    q->query[0].n_add = q->n_add;
    q->query[0].subtract = q->subtract;
    q->query[0].n_subtract = q->n_subtract;
    return 0;
}

/* ---- results --------------------------------------------------------------------------------------------------------------- */

/* Where a picture is, from here; for the caller to free. */
static char *place_of(const char *root, const char *path)
{
    while (!strncmp(root, "./", 2)) root += 2;
    const bool here = !strcmp(root, ".");
    char *out = malloc(strlen(root) + strlen(path) + 2);
    if (out) sprintf(out, "%s%s%s", here ? "" : root, here ? "" : "/", path);
    return out;
}

static int print_match(const settings *s, const char *root, const diffc_match *m, const char *query)
{
    char *place = place_of(root, m->path), shown[1100];
    if (!place) return no_memory();
    if (s->zero || s->only_paths) {
        fputs(place, stdout);
        putchar(s->zero ? 0 : '\n');
    } else if (s->json) {
        json_t *o = json_object();
        if (query) json_object_set_new(o, "query", json_string(query));
        json_set_path(o, place);
        json_object_set_new(o, "score", json_real((double)m->score));
        if (m->width) json_object_set_new(o, "width", json_integer(m->width));
        if (m->width) json_object_set_new(o, "height", json_integer(m->height));
        json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(7));
        putchar('\n');
        json_decref(o);
    } else {
        if (query) printf("%s\t", query);
        printf("%.4f\t%s\n", (double)m->score, diffc_escape(shown, sizeof shown, place));
    }
    if (s->preview) {
        diffc_image picture;
        if (terminal_draws(stdout) && diffc_image_read(&picture, place, false, NULL) == DIFFC_OK) {
            terminal_show(stdout, &picture, 12);
            diffc_image_free(&picture);
        }
    }
    free(place);
    return 0;
}

static int write_sheet(const settings *s, const char *root, const diffc_matches *m)
{
    diffc_error e = {0};
    diffc_image sheet;
    if (diffc_contact_sheet(root, m, 0, 0, &sheet, &e)) return report_error(&e);
    diffc_status code = diffc_image_write(s->sheet, &sheet, NULL, NULL, false, NULL, &e);
    diffc_image_free(&sheet);
    return code ? report_error(&e) : 0;
}

static int search(const settings *s, diffc_index *x, const char *root, const diffc_embedder *m, const asked *q)
{
    diffc_error e = {0};
    diffc_matches *r = malloc((size_t)q->n * sizeof *r);
    if (!r) return no_memory();
    int code = diffc_search(x, m, q->query, q->n, r, &e) ? report_error(&e) : 0;
    bool any = false;
    for (int i = 0; i < q->n && !code; i++)
        for (size_t k = 0; k < r[i].n && !code; k++, any = true) code = print_match(s, root, &r[i].match[k], s->queries ? q->add[i] : NULL);
    if (!code && s->sheet) code = write_sheet(s, root, &r[0]);
    if (!code && !any && !s->quiet && !s->json) report_log(DIFFC_LOG_NOTE, "nothing found");
    for (int i = 0; i < q->n && !e.code; i++) diffc_matches_free(&r[i]);
    free(r);
    return code;
}

/* ---- duplicates, and out of the index ------------------------------------------------------------------------------------------ */

static bool on_part(void *user, double part)
{
    progress *p = user;
    progress_index(p, &(diffc_index_progress){.stage = DIFFC_INDEX_EMBED, .done = (uint64_t)(1000 * part), .total = 1000, .eta = -1});
    return signals_caught();
}

static int print_group(const settings *s, const char *root, const diffc_duplicates *d, size_t g)
{
    json_t *files = json_array();
    int code = 0;
    if (!s->json && !s->zero && !s->only_paths) printf("%s%s\n", g ? "\n" : "", g < d->n_exact ? "the same" : "similar");
    for (size_t i = d->first[g]; i < d->first[g + 1] && !code; i++) {
        if (!s->json) {
            code = print_match(s, root, &d->matches.match[i], NULL);
            continue;
        }
        char *place = place_of(root, d->matches.match[i].path);
        json_t *o = json_object();
        if (place) json_set_path(o, place);
        json_object_set_new(o, "score", json_real((double)d->matches.match[i].score));
        json_array_append_new(files, o);
        free(place);
    }
    if (s->json) {
        json_t *o = json_pack("{s:s,s:O}", "kind", g < d->n_exact ? "same" : "similar", "files", files);
        json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(7));
        putchar('\n');
        json_decref(o);
    } else if (s->zero || s->only_paths) {
        putchar(s->zero ? 0 : '\n'); /* an empty name ends a group */
    }
    json_decref(files);
    return code;
}

static int duplicates(const settings *s, diffc_index *x, const char *root)
{
    diffc_error e = {0};
    diffc_duplicates d;
    progress p;
    int code = progress_begin(&p, s->progress, s->quiet || s->json);
    if (code) return code;
    diffc_status failed = diffc_index_duplicates(x, s->distance, on_part, &p, &d, &e);
    progress_clear(&p);
    if (failed) return report_error(&e);
    for (size_t g = 0; g < d.n_groups && !code; g++) code = print_group(s, root, &d, g);
    diffc_duplicates_free(&d);
    return code;
}

static int export(const settings *s, diffc_index *x)
{
    diffc_error e = {0};
    char *paths = paths_beside(s->export);
    if (!paths) return no_memory();
    diffc_status code = diffc_index_export(x, s->export, paths, s->zero ? 0 : '\n', &e);
    free(paths);
    return code ? report_error(&e) : 0;
}

/* ---- the command ------------------------------------------------------------------------------------------------------------------ */

/* The model that -m names, or else the index's own where it was when the index was made. */
static int ask_model(const settings *s, diffc_index *x, const diffc_index_info *i, const asked *q)
{
    settings with = *s;
    diffc_clip *clip;
    with.fast_decode = i->fast_decode;
    if (!s->model && i->model_path && *i->model_path) with.model = i->model_path;
    int code = open_clip(&clip, &with);
    if (code) return code;
    const diffc_embedder m = diffc_clip_embedder(clip);
    code = search(s, x, i->root, &m, q);
    signals_clip(NULL);
    diffc_clip_close(clip);
    return code;
}

int run_search(const settings *s)
{
    diffc_error e = {0};
    diffc_index *x = NULL;
    diffc_index_info i;
    asked q = {0};
    const bool ask = !s->duplicates && !s->export;
    if (s->has_top && s->top < 0) return report(DIFFC_USAGE, "", "top: found %d, expected 0 or more", s->top);
    if (s->sheet && (!ask || s->queries)) return report(DIFFC_USAGE, "", "sheet: found no single query, expected one to make a sheet of");
    if (!ask && s->n_items) return report(DIFFC_USAGE, "", "search: found a query beside --%s, expected none", s->export ? "export" : "duplicates");
    if (s->sheet && diffc_output_check(s->sheet, &e)) return report_error(&e);
    signals_note();
    int code = ask ? take_queries(&q, s) : 0;
    diffc_options o = model_options(s);
    if (!code && (diffc_index_open(&x, s->index, NULL, &o, &e) || diffc_index_about(x, &i, &e))) code = report_error(&e);
    if (!code) code = ask ? ask_model(s, x, &i, &q) : s->export ? export(s, x) : duplicates(s, x, i.root);
    diffc_index_close(x);
    asked_free(&q);
    return code;
}
