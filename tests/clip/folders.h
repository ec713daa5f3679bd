/* folders.h - for the tests of the tokenizer: tokenizer folders made as a test needs them. */
#ifndef TESTS_CLIP_FOLDERS_H
#define TESTS_CLIP_FOLDERS_H
#include "base/json.h"
#include "base/text.h"
#include "clip/tokenizer.h"
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h> /* wants those above first */

#define MERGES ASSETS "/clip_merges.txt.gz"

static char folder[64]; /* made by make_folder, emptied by empty_folder, removed by remove_folder */

static inline int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/diffc-clip-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind;
    return at->level ? remove(path) : 0;
}

static inline void empty_folder(void) { nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS); }

static inline int remove_folder(void **state)
{
    (void)state;
    empty_folder();
    return rmdir(folder);
}

static inline void write_bytes(const char *name, const void *bytes, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void write_text(const char *name, const char *text) { write_bytes(name, text, strlen(text)); }

static inline void write_json(const char *name, const json_t *x)
{
    char *text = json_dumps(x, 0);
    write_text(name, text);
    free(text);
}

static inline dc_tokenizer *open_merges(void)
{
    dc_error e = {0};
    dc_tokenizer *t = NULL;
    if (dc_tokenizer_open_merges(&t, MERGES, 49408, &e)) fail_msg("%s", e.text);
    return t;
}

static inline dc_tokenizer *open_folder(void)
{
    dc_error e = {0};
    dc_tokenizer *t = NULL;
    if (dc_tokenizer_open(&t, folder, &e)) fail_msg("%s", e.text);
    return t;
}

/* {token: id}: the first `size` - 2 tokens of CLIP's vocabulary and the two special ones. */
static inline json_t *vocabulary(int size)
{
    dc_error e = {0};
    dc_tokenizer *t = NULL;
    if (dc_tokenizer_open_merges(&t, MERGES, size, &e)) fail_msg("%s", e.text);
    json_t *vocab = json_object();
    for (int id = 0; id < size; id++) json_object_set_new(vocab, dc_tokenizer_token(t, id), json_integer(id));
    assert_int_equal(json_object_size(vocab), size);
    dc_tokenizer_close(t);
    return vocab;
}

/* CLIP's merges, the first `n` lines of the packed list. */
static inline dc_text merge_lines(int n)
{
    dc_text lines = {0};
    char line[4096];
    gzFile z = gzopen(MERGES, "rb");
    assert_non_null(z);
    for (int i = 0; i < n && gzgets(z, line, sizeof line); i++) dc_text_append(&lines, line, strlen(line));
    assert_int_equal(gzclose_r(z), Z_OK);
    assert_non_null(lines.at);
    return lines;
}

#endif
