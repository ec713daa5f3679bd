/* JSON on any bytes: the strict parser and its getters, the pull reader (both must have the same opinion), and indexes of shards. */
#include "base/json.h"
#include "weights/pull.h"
#include "weights/weights.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void need(bool x)
{
    if (!x) abort();
}

/* A string that ends where the input ends, for the sanitizer. */
static char *copy_of(const uint8_t *bytes, size_t n)
{
    char *text = malloc(n + 1);
    need(text != NULL);
    if (n) memcpy(text, bytes, n);
    text[n] = 0;
    return text;
}

static bool pull_accepts(const uint8_t *bytes, size_t n, dc_error *e)
{
    dc_pull p;
    char *text = copy_of(bytes, n);
    dc_status s = dc_pull_begin(&p, "file", "text", 0, text, n, e);
    if (!s) s = dc_pull_skip(&p);
    if (!s) s = dc_pull_end(&p);
    need(s == e->code && (!s || (s == DC_DATA && strstr(e->text, "found"))));
    free(text);
    return !s;
}

/* Jansson refuses numbers that are too large for it, and lets NUL bytes between tokens and deeper nesting pass. */
static void same_opinion(const uint8_t *bytes, size_t n)
{
    dc_error e = {0};
    json_error_t why;
    bool pull = pull_accepts(bytes, n, &e);
    json_t *whole = json_loadb((const char *)bytes, n, JSON_DECODE_ANY, &why);
    if (pull) need(whole || json_error_code(&why) == json_error_numeric_overflow);
    else need(!whole || strstr(e.text, "64 levels") || memchr(bytes, 0, n));
    json_decref(whole);
}

static void getters(const uint8_t *bytes, size_t n)
{
    static const char *const keys[] = {"a", "attention_head_dim", "_class_name", "block_out_channels", ""};
    dc_error e = {0};
    json_t *root;
    int ints[4];
    if (dc_json_parse(&root, "file", (const char *)bytes, n, &e)) {
        need(e.code == DC_DATA && !root);
        return;
    }
    need(pull_accepts(bytes, n, &e)); /* what is stricter accepts no more */
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        dc_error own = {0};
        dc_config c = {root, "file", &own};
        int64_t v = dc_config_int(&c, keys[i], 5, -10, 10);
        double x = dc_config_real(&c, keys[i], 0.5, 0, 1);
        need(v >= -10 && v <= 10 && x >= 0 && x <= 1);
        c.e = &(dc_error){0};
        dc_config_bool(&c, keys[i], true);
        c.e = &(dc_error){0};
        need(dc_config_string(&c, keys[i], "absent") != NULL);
        c.e = &(dc_error){0};
        int k = dc_config_ints(&c, keys[i], ints, 4, 0, 100);
        need(k >= 0 && k <= 4);
        for (int j = 0; j < k; j++) need(ints[j] >= 0 && ints[j] <= 100);
    }
    json_decref(root);
}

static char folder[] = "/tmp/diffc-fuzz-XXXXXX"; /* holds the links "s" and "x.json" to files in memory */

static void remove_folder(void)
{
    char path[64];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, i ? "s" : "x.json");
        unlink(path);
    }
    rmdir(folder);
}

/* The bytes as an index beside one shard "s" with the tensors a and b. */
static void as_index(const uint8_t *bytes, size_t n)
{
    static const char shard[] = "\x67\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\","
                                "\"shape\":[],\"data_offsets\":[1,2]}}xy";
    static char path[64], target[64];
    static int file = -1;
    if (file < 0) {
        int other = memfd_create("shard", 0);
        file = memfd_create("index", 0);
        need(mkdtemp(folder) && write(other, shard, sizeof shard - 1) == sizeof shard - 1);
        atexit(remove_folder);
        snprintf(path, sizeof path, "%s/s", folder);
        snprintf(target, sizeof target, "/proc/self/fd/%d", other);
        need(symlink(target, path) == 0);
        snprintf(path, sizeof path, "%s/x.json", folder);
        snprintf(target, sizeof target, "/proc/self/fd/%d", file);
        need(symlink(target, path) == 0);
    }
    dc_weights *w;
    dc_error e = {0};
    need(ftruncate(file, 0) == 0 && pwrite(file, bytes, n, 0) == (ssize_t)n);
    if (dc_weights_open(&w, path, &e)) {
        need(!w && (e.code == DC_DATA || e.code == DC_NO_INPUT || e.code == DC_DENIED));
        return;
    }
    need(dc_weights_count(w) == 0 || (dc_weights_count(w) == 2 && *(const char *)dc_weights_find(w, "b")->data == 'y'));
    dc_weights_close(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    same_opinion(bytes, n);
    getters(bytes, n);
    as_index(bytes, n);
    return 0;
}
