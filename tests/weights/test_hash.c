/* Hashes of files: FIPS 180-4's examples, and when they are remembered. */
#include "base/file.h"
#include "weights/hash.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64], file[96], cache[96];

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int begin(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/diffc-hash-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(file, sizeof file, "%s/file", folder);
    snprintf(cache, sizeof cache, "%s/diffc/hashes.json", folder);
    return setenv("XDG_CACHE_HOME", folder, 1);
}

static int end(void **state)
{
    char path[96];
    (void)state;
    unlink(file);
    unlink(cache);
    snprintf(path, sizeof path, "%s/diffc", folder);
    rmdir(path);
    return rmdir(folder);
}

static void expect(const char *hash)
{
    char hex[DC_HASH_DIGITS + 1];
    dc_error e = {0};
    assert_int_equal(dc_file_sha256(hex, file, NULL, &e), DC_OK);
    assert_string_equal(hex, hash);
}

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define ABC   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define OTHER "0000000000000000000000000000000000000000000000000000000000000000"

static void known_answers(void **state)
{
    (void)state;
    write_text(file, "");
    expect(EMPTY);
    write_text(file, "abc");
    expect(ABC);
    expect(ABC);
}

/* What is in the cache is believed, until the file changes; a damaged cache is made anew. */
static void remembered(void **state)
{
    char *text = NULL;
    size_t n;
    dc_error e = {0};
    (void)state;
    write_text(file, "abc");
    expect(ABC);
    assert_int_equal(dc_read_file(cache, 1 << 20, &text, &n, &e), DC_OK);
    for (char *at = text; (at = strstr(at, ABC)); at++) memcpy(at, OTHER, strlen(OTHER));
    write_text(cache, text);
    free(text);
    expect(OTHER);
    write_text(file, "");
    expect(EMPTY);
    write_text(cache, "{\"a\":");
    write_text(file, "abc");
    expect(ABC);
}

static void refused(void **state)
{
    char hex[DC_HASH_DIGITS + 1];
    dc_error e = {0};
    atomic_int stop = 1;
    (void)state;
    assert_int_equal(dc_file_sha256(hex, "/nowhere/at/all", NULL, &e), DC_NO_INPUT);
    e = (dc_error){0};
    assert_int_equal(dc_file_sha256(hex, folder, NULL, &e), DC_NO_INPUT);
    e = (dc_error){0};
    write_text(file, "not yet seen");
    assert_int_equal(dc_file_sha256(hex, file, &stop, &e), DC_CANCELLED);
    assert_string_equal(hex, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_answers), cmocka_unit_test(remembered), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, begin, end);
}
