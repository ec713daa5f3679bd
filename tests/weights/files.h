/* files.h - for the tests of weights: files made up as the test needs them, in a folder of its own. */
#ifndef TESTS_WEIGHTS_FILES_H
#define TESTS_WEIGHTS_FILES_H
#include "base/status.h"
#include "base/text.h"
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h> /* wants those above first */

static char folder[64]; /* made by make_folder, removed with all in it */

static inline int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/diffc-weights-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static inline int remove_folder(void **state)
{
    (void)state;
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* FOLDER/NAME; valid until four calls later. */
static inline const char *in_folder(const char *name)
{
    static char path[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static inline const char *write_bytes(const char *name, const void *bytes, size_t n)
{
    const char *path = in_folder(name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

static inline const char *write_text(const char *name, const char *text) { return write_bytes(name, text, strlen(text)); }

/* A safetensors file of this header and `data` bytes 0, 1, 2, ...; its length counts `more` bytes that are not there. */
static inline const char *write_header(const char *name, const char *header, size_t n, size_t data, int64_t more)
{
    dc_text t = {0};
    uint64_t len = (uint64_t)((int64_t)n + more);
    for (int i = 0; i < 8; i++) dc_text_append(&t, &(char){(char)(len >> 8 * i)}, 1);
    dc_text_append(&t, header, n);
    for (size_t i = 0; i < data; i++) dc_text_append(&t, &(char){(char)i}, 1);
    const char *path = write_bytes(name, t.at, t.length);
    dc_text_free(&t);
    return path;
}

static inline const char *write_tensors(const char *name, const char *header, size_t data)
{
    return write_header(name, header, strlen(header), data, 0);
}

static inline void make_subfolder(const char *name) { assert_int_equal(mkdir(in_folder(name), 0777), 0); }

/* The error is of this kind and says `text`. */
static inline void assert_error(const dc_error *e, dc_status code, const char *text)
{
    if (e->code != code || !strstr(e->text, text)) fail_msg("found %d \"%s\", expected %d \"..%s..\"", e->code, e->text, code, text);
    if (strchr(e->text, '\n')) fail_msg("more than one line: %s", e->text);
}

#endif
