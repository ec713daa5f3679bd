/* embed.c - the commands that ask a CLIP model: embed and classify. */
#include "apps/cli/commands.h"
#include "apps/cli/report.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 32 }; /* pictures that are read before they are embedded */

static int no_memory(void) { return report(DIFFC_NO_MEMORY, "", "out of memory"); }

/* ---- lines of files ------------------------------------------------------------------------------------------------------- */

/* Texts that are owned, in a list. */
typedef struct lines {
    char **at;
    int n, room;
} lines;

static void lines_free(lines *l)
{
    for (int i = 0; i < l->n; i++) free(l->at[i]);
    free(l->at);
    *l = (lines){0};
}

static bool lines_add(lines *l, const char *text, size_t n)
{
    if (l->n == l->room) {
        int room = l->room ? 2 * l->room : 64;
        char **more = realloc(l->at, (size_t)room * sizeof *more);
        if (!more) return false;
        l->at = more, l->room = room;
    }
    char *copy = strndup(text, n);
    if (copy) l->at[l->n++] = copy;
    return copy != NULL;
}

/* Lines of a file ("-": stdin) that are not empty, without their ends. 0 or an exit code. */
static int lines_read(lines *l, const char *path)
{
    FILE *f = strcmp(path, "-") ? fopen(path, "r") : stdin;
    char *line = NULL;
    size_t room = 0;
    bool whole = true;
    if (!f) return report(DIFFC_NO_INPUT, "", "%s: cannot be read", path);
    for (ssize_t n; whole && (n = getline(&line, &room, f)) >= 0;) {
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) n--;
        if (n > 0) whole = lines_add(l, line, (size_t)n);
    }
    bool failed = ferror(f);
    free(line);
    if (f != stdin) fclose(f);
    return failed ? report(DIFFC_IO, "", "%s: reading failed", path) : whole ? 0 : no_memory();
}

/* ---- vectors of pictures ----------------------------------------------------------------------------------------------------- */

/* n pictures read and embedded, one batch after the other. */
static int embed_files(diffc_clip *m, const char *const *files, int n, float *out)
{
    diffc_error e = {0};
    const diffc_clip_info *about = diffc_clip_about(m);
    float *pixels = malloc(BATCH * (about->pixels ? about->pixels : 1) * sizeof *pixels);
    int code = pixels ? 0 : no_memory();
    for (int first = 0; !code && first < n; first += BATCH) {
        int count = n - first < BATCH ? n - first : BATCH;
        for (int i = 0; !code && i < count; i++) {
            diffc_image image = {0};
            if (diffc_clip_image_read(m, &image, files[first + i], &e) || diffc_clip_preprocess(m, &image, pixels + (size_t)i * about->pixels, &e))
                code = report_error(&e);
            diffc_image_free(&image);
        }
        if (!code && diffc_clip_embed_pixels(m, pixels, count, out + (size_t)first * (size_t)about->dims, &e)) code = report_error(&e);
    }
    free(pixels);
    return code;
}

/* ---- embed ------------------------------------------------------------------------------------------------------------------------ */

/* What is embedded, in order. */
typedef struct request {
    const char **value;
    bool *image;
    int n;
} request;

static bool is_option(const item *x, const char *name) { return x->option && !strcmp(x->option, name); }

/* Arguments without an option are of the kind of the last one before them; names of files when there is none before. */
static int collect(request *q, const settings *s, const lines *more)
{
    bool image = true;
    int n = s->n_items + more->n;
    q->value = malloc(((size_t)n + 1) * sizeof *q->value);
    q->image = malloc(((size_t)n + 1) * sizeof *q->image);
    if (!q->value || !q->image) return no_memory();
    for (int i = 0; i < s->n_items; i++) {
        if (s->item[i].option) image = is_option(&s->item[i], "image");
        q->value[q->n] = s->item[i].value, q->image[q->n++] = image;
    }
    for (int i = 0; i < more->n; i++) q->value[q->n] = more->at[i], q->image[q->n++] = !strcmp(s->from_stdin, "image");
    if (!q->n)
        return report(DIFFC_USAGE, "Give it texts with --text, pictures with --image, or a list on stdin.",
                      "embed: found nothing to embed, expected texts or pictures");
    return 0;
}

/* Rows of a kind that follow each other are embedded together. */
static int embed_all(diffc_clip *m, const request *q, float *out)
{
    diffc_error e = {0};
    const size_t dims = (size_t)diffc_clip_about(m)->dims;
    int code = 0;
    for (int from = 0, to; !code && from < q->n; from = to) {
        for (to = from + 1; to < q->n && q->image[to] == q->image[from];) to++;
        float *rows = out + (size_t)from * dims;
        if (q->image[from]) code = embed_files(m, q->value + from, to - from, rows);
        else if (diffc_clip_embed_text(m, q->value + from, to - from, rows, &e)) code = report_error(&e);
    }
    return code;
}

/* A name as JSON; bytes that are no UTF-8 become question marks. */
static json_t *json_name(const char *name)
{
    json_t *o = json_string(name);
    if (o) return o;
    char *copy = strdup(name);
    for (char *c = copy; c && *c; c++)
        if (*c & 0x80) *c = '?';
    o = copy ? json_string(copy) : NULL;
    free(copy);
    return o;
}

/* One object a line. */
static void print_line(json_t *o)
{
    json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(o);
}

static void print_rows(const request *q, const float *rows, int dims)
{
    for (int i = 0; i < q->n; i++, rows += dims) {
        json_t *v = json_array();
        for (int k = 0; k < dims; k++) json_array_append_new(v, json_real((double)rows[k]));
        print_line(json_pack("{s:o,s:o}", q->image[i] ? "image" : "text", json_name(q->value[i]), "embedding", v));
    }
}

static int embed(const settings *s, diffc_clip *m, const request *q)
{
    diffc_error e = {0};
    const int dims = diffc_clip_about(m)->dims;
    float *rows = malloc((size_t)q->n * (size_t)dims * sizeof *rows);
    int code = rows ? embed_all(m, q, rows) : no_memory();
    if (!code && s->output && diffc_npy_write(s->output, rows, 2, (int64_t[]){q->n, dims}, &e)) code = report_error(&e);
    if (!code && s->json) print_rows(q, rows, dims);
    free(rows);
    return code;
}

int run_embed(const settings *s)
{
    diffc_error e = {0};
    diffc_clip *m = NULL;
    request q = {0};
    lines more = {0};
    if (!s->output && !s->json) return report(DIFFC_USAGE, "", "embed: found no place for the vectors, expected -o FILE.npy or --json");
    if (s->from_stdin && strcmp(s->from_stdin, "text") && strcmp(s->from_stdin, "image"))
        return report(DIFFC_USAGE, "", "stdin: found \"%s\", expected text or image", s->from_stdin);
    if (s->output && diffc_output_check(s->output, &e)) return report_error(&e);
    int code = s->from_stdin ? lines_read(&more, "-") : 0;
    if (!code) code = collect(&q, s, &more);
    if (!code) code = open_clip(&m, s);
    if (!code) code = embed(s, m, &q);
    signals_clip(NULL);
    diffc_clip_close(m);
    lines_free(&more);
    free(q.value);
    free(q.image);
    return code;
}

/* ---- classify --------------------------------------------------------------------------------------------------------------------- */

/* "a, b ,c" without the blanks around. */
static int split_labels(lines *l, const char *text)
{
    for (;; text++) {
        size_t n = strcspn(text, ",");
        const char *from = text + strspn(text, " \t"), *to = text + n;
        while (to > from && (to[-1] == ' ' || to[-1] == '\t')) to--;
        if (to > from && !lines_add(l, from, (size_t)(to - from))) return no_memory();
        text += n;
        if (!*text) return 0;
    }
}

typedef struct score {
    double cosine, probability;
    int label;
} score;

static int by_score(const void *a, const void *b)
{
    const score *x = a, *y = b;
    if (x->cosine != y->cosine) return x->cosine < y->cosine ? 1 : -1;
    return x->label - y->label;
}

/* Probabilities of the labels for one picture, the best first: softmax of logit_scale times the cosines. */
static void rank(score *out, const float *image, const float *labels, int n, int dims, double scale)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double dot = 0;
        for (int k = 0; k < dims; k++) dot += (double)image[k] * (double)labels[(size_t)i * (size_t)dims + (size_t)k];
        out[i] = (score){.cosine = dot, .label = i};
    }
    qsort(out, (size_t)n, sizeof *out, by_score);
    for (int i = 0; i < n; i++) sum += out[i].probability = exp(scale * (out[i].cosine - out[0].cosine));
    for (int i = 0; i < n; i++) out[i].probability /= sum;
}

static void print_scores(const settings *s, const char *file, const score *x, int n, const lines *labels)
{
    if (!s->json) {
        printf("%s\n", file);
        for (int i = 0; i < n; i++) printf("  %6.2f %%  %s\n", 100 * x[i].probability, labels->at[x[i].label]);
        return;
    }
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(
            list, json_pack("{s:o,s:f,s:f}", "label", json_name(labels->at[x[i].label]), "probability", x[i].probability, "cosine", x[i].cosine));
    print_line(json_pack("{s:o,s:o}", "image", json_name(file), "labels", list));
}

/* Vectors of the labels, one row each. */
static int embed_labels(diffc_clip *m, const settings *s, const lines *labels, float *out)
{
    diffc_error e = {0};
    const char **templates = malloc(((size_t)s->n_items + 1) * sizeof *templates);
    int n = 0;
    if (!templates) return no_memory();
    for (int i = 0; i < s->n_items; i++)
        if (is_option(&s->item[i], "template")) templates[n++] = s->item[i].value;
    if (!n) templates[n++] = "a photo of a {}.";
    int code = 0;
    for (int i = 0; !code && i < n; i++)
        if (!strstr(templates[i], "{}")) code = report(DIFFC_USAGE, "", "template: found \"%s\", expected {} in it, for the label", templates[i]);
    if (!code && diffc_clip_embed_prompts(m, (const char *const *)labels->at, labels->n, templates, n, out, &e)) code = report_error(&e);
    free(templates);
    return code;
}

/* Pictures are told one after the other, a batch at a time. */
static int classify(const settings *s, diffc_clip *m, const lines *labels, const char *const *files, int n)
{
    const diffc_clip_info *about = diffc_clip_about(m);
    const size_t dims = (size_t)about->dims;
    float *rows = malloc(((size_t)labels->n + BATCH) * dims * sizeof *rows), *pictures = rows ? rows + (size_t)labels->n * dims : NULL;
    score *scores = malloc((size_t)labels->n * sizeof *scores);
    int code = rows && scores ? embed_labels(m, s, labels, rows) : no_memory(), shown = s->top && s->top < labels->n ? s->top : labels->n;
    for (int first = 0; !code && first < n; first += BATCH) {
        int count = n - first < BATCH ? n - first : BATCH;
        code = embed_files(m, files + first, count, pictures);
        for (int i = 0; !code && i < count; i++) {
            rank(scores, pictures + (size_t)i * dims, rows, labels->n, about->dims, about->logit_scale);
            print_scores(s, files[first + i], scores, shown, labels);
        }
    }
    free(rows);
    free(scores);
    return code;
}

int run_classify(const settings *s)
{
    diffc_clip *m = NULL;
    lines labels = {0};
    const char **files = malloc(((size_t)s->n_items + 1) * sizeof *files);
    int code = files ? 0 : no_memory(), n = 0;
    for (int i = 0; !code && i < s->n_items; i++)
        if (!s->item[i].option) files[n++] = s->item[i].value;
    if (!code && s->labels) code = split_labels(&labels, s->labels);
    if (!code && s->labels_file) code = lines_read(&labels, s->labels_file);
    if (!code && !n) code = report(DIFFC_USAGE, "", "classify: found no picture, expected at least one");
    if (!code && !labels.n) code = report(DIFFC_USAGE, "", "classify: found no labels, expected --labels A,B,.. or --labels-file FILE");
    if (!code && s->top < 0) code = report(DIFFC_USAGE, "", "top: found %d, expected 1 or more", s->top);
    if (!code) code = open_clip(&m, s);
    if (!code) code = classify(s, m, &labels, files, n);
    signals_clip(NULL);
    diffc_clip_close(m);
    lines_free(&labels);
    free(files);
    return code;
}
