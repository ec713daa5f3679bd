/* fake.h - a folder of "pictures" and an embedder without a model: a picture is a text file whose vector is how often each of the letters a to p is
 * in it. So is a query's. One that begins with BAD cannot be read. */
#ifndef FAKE_H
#define FAKE_H
#include "base/file.h"
#include "include/diffc.h"
#include "search/store.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

enum { LETTERS = 16 };

typedef struct fake {
    atomic_int read, embedded; /* pictures */
    int batches;
    int fails_at; /* batch that fails; 0: none */
    useconds_t slow;
} fake;

static inline diffc_status fake_fail(diffc_error *error, diffc_status code, const char *text)
{
    *error = (diffc_error){.code = code};
    snprintf(error->text, sizeof error->text, "%s", text);
    return code;
}

static inline diffc_status fake_read(void *self, diffc_image *out, const char *path, diffc_error *error)
{
    fake *f = self;
    dc_error e = {0};
    char *text;
    size_t n;
    atomic_fetch_add(&f->read, 1);
    if (dc_read_file(path, 1 << 20, &text, &n, &e)) return fake_fail(error, (diffc_status)e.code, e.text);
    if (!strncmp(text, "BAD", 3)) {
        free(text);
        return fake_fail(error, DIFFC_DATA, "picture: found BAD, expected letters");
    }
    *out = (diffc_image){(int)n, 1, 1, (uint8_t *)text};
    return DIFFC_OK;
}

static inline void fake_count(const char *text, size_t n, float *out)
{
    for (int i = 0; i < LETTERS; i++) out[i] = 0;
    for (size_t i = 0; i < n; i++)
        if (text[i] >= 'a' && text[i] < 'a' + LETTERS) out[text[i] - 'a']++;
}

static inline diffc_status fake_preprocess(void *self, const diffc_image *image, float *out, diffc_error *error)
{
    (void)self, (void)error;
    fake_count((const char *)image->pixels, (size_t)image->width, out);
    return DIFFC_OK;
}

static inline diffc_status fake_embed_pixels(void *self, const float *pixels, int n, float *out, diffc_error *error)
{
    fake *f = self;
    if (f->slow) usleep(f->slow);
    if (++f->batches == f->fails_at) return fake_fail(error, DIFFC_INTERNAL, "the model: found no way, expected one");
    memcpy(out, pixels, (size_t)n * LETTERS * sizeof *out);
    atomic_fetch_add(&f->embedded, n);
    return DIFFC_OK;
}

static inline diffc_status fake_embed_texts(void *self, const char *const *texts, int n, const char *const *templates, int n_templates, float *out,
                                            diffc_error *error)
{
    (void)self, (void)error;
    for (int i = 0; i < n; i++, out += LETTERS) {
        fake_count(texts[i], strlen(texts[i]), out);
        for (int t = 0; t < n_templates; t++) /* a template adds its letters */
            for (const char *at = templates[t]; *at; at++)
                if (*at >= 'a' && *at < 'a' + LETTERS) out[*at - 'a']++;
    }
    return DIFFC_OK;
}

static inline diffc_embedder fake_embedder(fake *f)
{
    return (diffc_embedder){f, "fake-1", LETTERS, LETTERS, fake_read, fake_preprocess, fake_embed_pixels, fake_embed_texts};
}

/* ---- a folder ---------------------------------------------------------------------------------------------------------- */

static char folder[64]; /* under /tmp; every test makes its own */

static inline int folder_make(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/diffc-search-XXXXXX");
    return !mkdtemp(folder);
}

static inline int folder_remove(void **state)
{
    (void)state;
    char command[200];
    snprintf(command, sizeof command, "chmod -R u+rwx %s; rm -rf %s", folder, folder);
    return system(command);
}

static inline const char *in_folder(const char *name)
{
    static char path[8][4400];
    static int next;
    char *at = path[next++ % 8];
    snprintf(at, sizeof path[0], "%s/%s", folder, name);
    return at;
}

/* A file that is old enough to be believed: a minute, or `age` seconds. */
static inline void put_aged(const char *name, const char *text, int age)
{
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
    struct timeval t[2];
    gettimeofday(&t[0], NULL);
    t[0].tv_sec -= age;
    t[1] = t[0];
    assert_int_equal(utimes(in_folder(name), t), 0);
}
static inline void put(const char *name, const char *text) { put_aged(name, text, 60); }
static inline void put_folder(const char *name) { assert_int_equal(mkdir(in_folder(name), 0777), 0); }

/* ---- an index of it ------------------------------------------------------------------------------------------------------ */

static inline diffc_index_summary update_with(fake *f, diffc_index_options o)
{
    diffc_index_summary sum;
    diffc_error e = {0};
    diffc_embedder m = fake_embedder(f);
    o.root = folder;
    if (diffc_index_update(&o, &m, &sum, &e)) fail_msg("%d: %s", e.code, e.text);
    return sum;
}
static inline diffc_index_summary update(fake *f) { return update_with(f, (diffc_index_options){0}); }

static inline diffc_index *open_index(void)
{
    diffc_index *x;
    diffc_error e = {0};
    if (diffc_index_open(&x, NULL, folder, &(diffc_options){.threads = 2}, &e)) fail_msg("%d: %s", e.code, e.text);
    return x;
}

/* The index is whole, and has this many pictures with and without a vector. */
static inline void expect_index(uint64_t files, uint64_t failed)
{
    diffc_index *x = open_index();
    diffc_error e = {0};
    diffc_index_info i;
    if (diffc_index_check(x, &e) || diffc_index_about(x, &i, &e)) fail_msg("%d: %s", e.code, e.text);
    assert_int_equal(i.files, files);
    assert_int_equal(i.failed, failed);
    diffc_index_close(x);
}

/* The paths found for one text, joined by spaces, best first. */
static inline const char *found(const char *text, int top)
{
    static char line[4096];
    diffc_index *x = open_index();
    fake f = {0};
    diffc_embedder m = fake_embedder(&f);
    diffc_matches r;
    diffc_error e = {0};
    diffc_query q = {.add = &text, .n_add = 1, .top = top, .threshold = -2};
    if (diffc_search(x, &m, &q, 1, &r, &e)) fail_msg("%d: %s", e.code, e.text);
    line[0] = 0;
    for (size_t i = 0; i < r.n; i++) snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", i ? " " : "", r.match[i].path);
    diffc_matches_free(&r);
    diffc_index_close(x);
    return line;
}

#endif
