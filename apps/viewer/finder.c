/* finder.c - the thread that searches. One query waits at most, one answer with its thumbnails; a mutex is around both. */
#include "apps/viewer/finder.h"
#include <SDL.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

enum { FRESH_MS = 5000, MOST_PIXELS = 64 << 20, MOST_MATCHES = 1000 };

struct finder {
    /* of the thread */
    char *folder;
    diffc_options options;
    diffc_index *index;
    uint64_t opened; /* the index, in SDL's milliseconds */
    char *root;
    char *model; /* path of the open clip; "": the default model */

    SDL_Thread *thread;
    SDL_mutex *mutex;
    SDL_cond *asked;
    uint32_t event;

    /* under the mutex */
    bool closing, working, told; /* told: the event was pushed, nothing taken since */
    diffc_clip *clip;            /* opened and closed by the thread alone */
    bool embedding;              /* it may be cancelled */
    char *query;                 /* NULL: none waits */
    int top;
    uint64_t number;       /* of the last query */
    bool fresh;            /* `list` was not taken yet */
    finder_result list;    /* thumbnails aside */
    finder_match *arrived; /* n_arrived: thumbnail and failed of the list's matches */
    int n_arrived;
};

/* ---- results ----------------------------------------------------------------------------------------------------------------- */

static void free_matches(finder_match *m, int n)
{
    for (int i = 0; i < n; i++) {
        free(m[i].path);
        free(m[i].thumbnail.pixels);
    }
    free(m);
}

void finder_result_free(finder_result *r)
{
    free_matches(r->match, r->n);
    free(r->error);
    *r = (finder_result){0};
}

/* With the mutex held: wakes the window, once until it takes. */
static void tell(finder *f)
{
    if (!f->told && f->event) f->told = SDL_PushEvent(&(SDL_Event){.type = f->event}) == 1; /* a full queue: the next one */
}

/* With the mutex held. */
static bool superseded(const finder *f) { return f->closing || f->query; }

static bool give_up(finder *f)
{
    SDL_LockMutex(f->mutex);
    const bool yes = superseded(f);
    SDL_UnlockMutex(f->mutex);
    return yes;
}

/* Puts a result in the place of the last one; false: nobody wants it any more. Takes what is in it. */
static bool publish(finder *f, finder_result *r)
{
    finder_match *arrived = calloc((size_t)r->n + 1, sizeof *arrived);
    SDL_LockMutex(f->mutex);
    const bool wanted = arrived && !superseded(f);
    if (wanted) {
        free_matches(f->arrived, f->n_arrived);
        finder_result_free(&f->list);
        f->list = *r;
        f->arrived = arrived;
        f->n_arrived = r->n;
        f->fresh = true;
        tell(f);
    }
    SDL_UnlockMutex(f->mutex);
    if (wanted) {
        *r = (finder_result){0};
    } else {
        free(arrived);
        finder_result_free(r);
    }
    return wanted;
}

bool finder_take(finder *f, finder_result *r)
{
    SDL_LockMutex(f->mutex);
    bool any = f->fresh;
    if (f->fresh) {
        finder_result_free(r);
        *r = f->list;
        f->list = (finder_result){0};
    }
    for (int i = 0; i < f->n_arrived && i < r->n; i++) {
        finder_match *from = &f->arrived[i];
        if (!from->thumbnail.pixels && !from->failed) continue;
        r->match[i].thumbnail = from->thumbnail;
        r->match[i].failed = from->failed;
        *from = (finder_match){0};
        any = true;
    }
    f->fresh = f->told = false;
    SDL_UnlockMutex(f->mutex);
    return any;
}

/* ---- thumbnails ---------------------------------------------------------------------------------------------------------------- */

/* A row or column of `size` RGB pixels, `step` values apart, to one of n < size: each the mean over the part of the line that it covers. */
static void shrink_line(const uint8_t *in, int size, size_t step, uint8_t *out, int n, size_t out_step)
{
    for (int x = 0; x < n; x++) {
        const int64_t from = (int64_t)x * size, to = from + size; /* in n-ths of a pixel: whole numbers */
        int64_t sum[3] = {0};
        for (int64_t i = from / n; i * n < to; i++) {
            const int64_t begin = i * n > from ? i * n : from, end = (i + 1) * n < to ? (i + 1) * n : to;
            for (int c = 0; c < 3; c++) sum[c] += (end - begin) * in[(size_t)i * step + (size_t)c];
        }
        for (int c = 0; c < 3; c++) out[(size_t)x * out_step + (size_t)c] = (uint8_t)((sum[c] + size / 2) / size);
    }
}

/* *m (RGB) as large as a thumbnail may be, in its own proportions; smaller ones stay as they are. False: memory is out. */
static bool shrink(diffc_image *m)
{
    const int long_side = m->width > m->height ? m->width : m->height;
    if (long_side <= FINDER_SIDE) return true;
    const int w = (int)(((int64_t)m->width * FINDER_SIDE + long_side / 2) / long_side),
              h = (int)(((int64_t)m->height * FINDER_SIDE + long_side / 2) / long_side);
    diffc_image out = {w ? w : 1, h ? h : 1, 3, NULL};
    uint8_t *wide = malloc((size_t)out.width * (size_t)m->height * 3);
    out.pixels = malloc((size_t)out.width * (size_t)out.height * 3);
    const bool ok = wide && out.pixels;
    const size_t row = (size_t)out.width * 3;
    for (int y = 0; y < m->height && ok; y++)
        shrink_line(m->pixels + (size_t)y * (size_t)m->width * 3, m->width, 3, wide + (size_t)y * row, out.width, 3);
    for (int x = 0; x < out.width && ok; x++) shrink_line(wide + (size_t)x * 3, m->height, row, out.pixels + (size_t)x * 3, out.height, row);
    free(wide);
    if (!ok) free(out.pixels);
    if (!ok) return false;
    diffc_image_free(m);
    *m = out;
    return true;
}

/* Only of files: a pipe that has come in a picture's place would keep its reader. */
static bool thumbnail(diffc_image *out, const finder_match *m)
{
    struct stat st;
    *out = (diffc_image){0};
    if (!m->path || (int64_t)m->width * m->height > MOST_PIXELS || stat(m->path, &st) || !S_ISREG(st.st_mode)) return false;
    if (diffc_image_read(out, m->path, false, NULL)) return false;
    if (shrink(out)) return true;
    diffc_image_free(out);
    return false;
}

static void send_thumbnails(finder *f, const finder_match *m, int n)
{
    for (int i = 0; i < n; i++) {
        if (give_up(f)) return;
        diffc_image small;
        const bool ok = thumbnail(&small, &m[i]);
        SDL_LockMutex(f->mutex);
        f->arrived[i] = (finder_match){.thumbnail = small, .failed = !ok};
        tell(f);
        SDL_UnlockMutex(f->mutex);
    }
}

/* ---- queries ------------------------------------------------------------------------------------------------------------------- */

static void close_index(finder *f)
{
    diffc_index_close(f->index);
    free(f->root);
    f->index = NULL;
    f->root = NULL;
}

static void set_clip(finder *f, diffc_clip *clip)
{
    SDL_LockMutex(f->mutex);
    f->clip = clip;
    SDL_UnlockMutex(f->mutex);
}

static diffc_status no_memory(diffc_error *e)
{
    *e = (diffc_error){.code = DIFFC_NO_MEMORY, .text = "out of memory"};
    return e->code;
}

/* The index's own model where it was when the index was made. */
static diffc_status open_clip(finder *f, const char *path, diffc_error *e)
{
    diffc_clip *clip = f->clip;
    if (!path) path = "";
    if (clip && !strcmp(path, f->model)) return DIFFC_OK;
    set_clip(f, NULL);
    diffc_clip_close(clip);
    free(f->model);
    f->model = strdup(path);
    if (!f->model) return no_memory(e);
    diffc_options o = f->options;
    o.model = *path ? path : NULL;
    if (!diffc_clip_open(&clip, &o, e)) set_clip(f, clip);
    return e->code;
}

static diffc_status open_index(finder *f, diffc_error *e)
{
    const uint64_t now = SDL_GetTicks64();
    if (f->index && f->clip && now - f->opened < FRESH_MS) return DIFFC_OK;
    close_index(f);
    diffc_index_info i;
    if (diffc_index_open(&f->index, f->folder, NULL, &f->options, e) || diffc_index_about(f->index, &i, e)) return e->code;
    f->root = strdup(i.root);
    if (!f->root) return no_memory(e);
    f->opened = now;
    return open_clip(f, i.model_path, e);
}

/* Marks what may be cancelled from outside; false: do not begin. */
static bool embedding(finder *f, bool on)
{
    SDL_LockMutex(f->mutex);
    f->embedding = on && !superseded(f);
    const bool is = f->embedding;
    SDL_UnlockMutex(f->mutex);
    return is;
}

/* ---- terms ---------------------------------------------------------------------------------------------------------------------- */

enum { MOST_TERMS = 16 };
typedef struct terms {
    const char *add[MOST_TERMS], *subtract[MOST_TERMS]; /* in the text they are made of */
    int n_add, n_subtract;
} terms;

/* Whether the blank at `at` ends the term: a sign that stands alone follows. Blanks and signs belong to paths, too, until these name a file. */
static bool ends_term(const char *term, char *at)
{
    if (at[0] != ' ' || (at[1] != '+' && at[1] != '-') || (at[2] && at[2] != ' ')) return false;
    *at = 0;
    const char *path = diffc_term_picture(term);
    const bool ends = !path || access(path, F_OK) == 0;
    *at = ' ';
    return ends;
}

/* "red car + sunset - people", as on the command line. Cuts `text`. A sign at the end waits for its term. false: too many. */
static bool split(char *text, terms *t)
{
    *t = (terms){0};
    for (char sign = '+'; *text;) {
        text += strspn(text, " ");
        char *end = text;
        while (*end && !ends_term(text, end)) end++;
        const char next = *end ? end[1] : 0;
        char *after = next ? end + 2 : end;
        while (end > text && end[-1] == ' ') end--;
        *end = 0;
        if (t->n_add + t->n_subtract == MOST_TERMS) return false;
        if (*text && sign == '+') t->add[t->n_add++] = text;
        else if (*text) t->subtract[t->n_subtract++] = text;
        sign = next;
        text = after;
    }
    return true;
}

/* "@-" is a picture from stdin, which is not the window's. */
static bool asks_stdin(const char *const *term, int n)
{
    for (int i = 0; i < n; i++) {
        const char *path = diffc_term_picture(term[i]);
        if (path && !strcmp(path, "-")) return true;
    }
    return false;
}

/* A cancel that comes just behind the end of one query would stop the next: that is asked again. */
static diffc_status search(finder *f, const terms *t, int top, diffc_matches *out, diffc_error *e)
{
    const diffc_embedder m = diffc_clip_embedder(f->clip);
    const diffc_query q = {.add = t->add,
                           .n_add = t->n_add,
                           .subtract = t->subtract,
                           .n_subtract = t->n_subtract,
                           .top = SDL_clamp(top, 1, MOST_MATCHES),
                           .threshold = -2};
    do {
        *e = (diffc_error){.code = DIFFC_CANCELLED};
        if (!embedding(f, true)) break;
        *e = (diffc_error){0};
        diffc_search(f->index, &m, &q, 1, out, e);
        embedding(f, false);
    } while (e->code == DIFFC_CANCELLED);
    return e->code;
}

static bool take_matches(finder_result *r, const char *root, const diffc_matches *found)
{
    r->match = calloc(found->n + 1, sizeof *r->match);
    for (size_t i = 0; i < found->n && r->match; i++) {
        const diffc_match *from = &found->match[i];
        const size_t n = strlen(root) + strlen(from->path) + 2;
        char *path = malloc(n);
        if (!path) return false;
        snprintf(path, n, "%s/%s", root, from->path);
        r->match[r->n++] = (finder_match){.path = path, .score = from->score, .width = from->width, .height = from->height};
    }
    return r->match;
}

static void fail(finder_result *r, const diffc_error *e)
{
    const size_t n = strlen(e->text) + strlen(e->hint) + 2;
    r->error = malloc(n);
    if (r->error) snprintf(r->error, n, "%s%s%s", e->text, *e->hint ? "\n" : "", e->hint);
}

static void usage(diffc_error *e, const char *why)
{
    *e = (diffc_error){.code = DIFFC_USAGE};
    snprintf(e->text, sizeof e->text, "query: %s", why);
}

static void answer(finder *f, char *query, int top, uint64_t number)
{
    terms t;
    diffc_error e = {0};
    diffc_matches found = {0};
    finder_result r = {.query = number};
    if (!split(query, &t)) usage(&e, "found more than 16 terms, expected fewer");
    else if (asks_stdin(t.add, t.n_add) || asks_stdin(t.subtract, t.n_subtract)) usage(&e, "found @-, expected a text or a picture's path");
    else if (t.n_add + t.n_subtract && !open_index(f, &e) && !search(f, &t, top, &found, &e) && !take_matches(&r, f->root, &found)) no_memory(&e);
    diffc_matches_free(&found);
    if (e.code && e.code != DIFFC_USAGE && e.code != DIFFC_CANCELLED) close_index(f); /* the next query finds it mended, perhaps */
    if (e.code) {
        free_matches(r.match, r.n);
        r.match = NULL, r.n = 0;
        fail(&r, &e);
    }
    const int n = r.n;
    finder_match *list = calloc((size_t)n + 1, sizeof *list); /* what the thumbnails are of, when the window has the result */
    for (int i = 0; i < n && list; i++) {
        list[i] = r.match[i];
        list[i].path = strdup(r.match[i].path);
    }
    if (publish(f, &r) && list) send_thumbnails(f, list, n);
    free_matches(list, list ? n : 0);
}

static int run(void *user)
{
    finder *f = user;
    SDL_LockMutex(f->mutex);
    while (!f->closing) {
        if (!f->query) {
            f->working = false;
            SDL_CondWait(f->asked, f->mutex);
            continue;
        }
        char *query = f->query;
        const int top = f->top;
        const uint64_t number = f->number;
        f->query = NULL;
        f->working = true;
        SDL_UnlockMutex(f->mutex);
        answer(f, query, top, number);
        free(query);
        SDL_LockMutex(f->mutex);
    }
    SDL_UnlockMutex(f->mutex);
    return 0;
}

/* ---- from outside ---------------------------------------------------------------------------------------------------------------- */

finder *finder_open(const char *index, const diffc_options *options, uint32_t event)
{
    finder *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    if (options)
        f->options = (diffc_options){.device = options->device,
                                     .cpu_level = options->cpu_level,
                                     .precision = options->precision,
                                     .exact = options->exact,
                                     .threads = options->threads};
    f->event = event;
    f->folder = index ? strdup(index) : NULL;
    f->mutex = SDL_CreateMutex();
    f->asked = SDL_CreateCond();
    if ((!index || f->folder) && f->mutex && f->asked) f->thread = SDL_CreateThread(run, "finder", f);
    if (f->thread) return f;
    finder_close(f);
    return NULL;
}

uint64_t finder_ask(finder *f, const char *query, int top)
{
    char *copy = strdup(query);
    if (!copy) return 0;
    SDL_LockMutex(f->mutex);
    free(f->query);
    f->query = copy;
    f->top = top;
    const uint64_t number = ++f->number;
    if (f->embedding) diffc_clip_cancel(f->clip);
    SDL_CondSignal(f->asked);
    SDL_UnlockMutex(f->mutex);
    return number;
}

bool finder_busy(finder *f)
{
    SDL_LockMutex(f->mutex);
    const bool busy = f->working || f->query;
    SDL_UnlockMutex(f->mutex);
    return busy;
}

void finder_close(finder *f)
{
    if (!f) return;
    if (f->thread) {
        SDL_LockMutex(f->mutex);
        f->closing = true;
        if (f->embedding) diffc_clip_cancel(f->clip);
        SDL_CondSignal(f->asked);
        SDL_UnlockMutex(f->mutex);
        SDL_WaitThread(f->thread, NULL);
    }
    close_index(f);
    diffc_clip_close(f->clip);
    free_matches(f->arrived, f->n_arrived);
    finder_result_free(&f->list);
    free(f->query);
    free(f->model);
    free(f->folder);
    SDL_DestroyCond(f->asked);
    SDL_DestroyMutex(f->mutex);
    free(f);
}
