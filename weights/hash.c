/* hash.c - SHA-256 by nettle, and the file that remembers it. */
#include "weights/hash.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CACHE_LIMIT = 1 << 20, CACHE_ENTRIES = 4096, BLOCK = 1 << 20 };

/* ---- the cache ----------------------------------------------------------------------------------------------------- */

/* What a file is known by: a file that was changed has another. */
static void identity(char out[128], const struct stat *st)
{
    snprintf(out, 128, "%llx:%llx:%llu:%lld.%09ld", (unsigned long long)st->st_dev, (unsigned long long)st->st_ino, (unsigned long long)st->st_size,
             (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

/* The remembered hashes, an object {identity: hex}; empty when there are none, or the file is damaged. */
static json_t *cache_read(const char *path)
{
    json_t *root = NULL;
    dc_error ignored = {0};
    if (dc_is_file(path)) dc_json_read(&root, path, CACHE_LIMIT, &ignored);
    if (root && json_is_object(root) && json_object_size(root) < CACHE_ENTRIES) return root;
    json_decref(root);
    return json_object();
}

static bool is_hash(const char *s) { return s && strlen(s) == DC_HASH_DIGITS && strspn(s, "0123456789abcdef") == DC_HASH_DIGITS; }

static bool recall(const char *key, char hex[DC_HASH_DIGITS + 1])
{
    char *path = dc_cache_path("hashes.json");
    json_t *root = path ? cache_read(path) : NULL;
    const char *found = json_string_value(json_object_get(root, key));
    bool known = is_hash(found);
    if (known) strcpy(hex, found);
    json_decref(root);
    free(path);
    return known;
}

static void remember(const char *key, const char *hex)
{
    char *path = dc_cache_path("hashes.json");
    json_t *root = path ? cache_read(path) : NULL;
    json_object_set_new(root, key, json_string(hex));
    char *text = root ? json_dumps(root, JSON_INDENT(0)) : NULL;
    dc_out *out = NULL;
    dc_error ignored = {0};
    if (text) dc_make_folders(path);
    if (text && !dc_out_open(&out, path, false, NULL, &ignored)) {
        if (dc_out_write(out, text, strlen(text), &ignored)) dc_out_abandon(out);
        else dc_out_commit(out, &ignored);
    }
    free(text);
    json_decref(root);
    free(path);
}

/* ---- hashing --------------------------------------------------------------------------------------------------------- */

static void finish(struct sha256_ctx *sha, char hex[DC_HASH_DIGITS + 1])
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(sha, sizeof digest, digest);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static dc_status hash_open_file(char hex[DC_HASH_DIGITS + 1], int fd, const char *path, const atomic_int *cancel, dc_error *e)
{
    struct sha256_ctx sha;
    uint8_t *block = malloc(BLOCK);
    dc_status s = block ? DC_OK : dc_fail_memory(e, path, BLOCK);
    sha256_init(&sha);
    for (ssize_t n; !s;) {
        if (cancel && atomic_load(cancel)) s = dc_fail(e, DC_CANCELLED, "stopped");
        else if ((n = read(fd, block, BLOCK)) > 0) sha256_update(&sha, (size_t)n, block);
        else if (n == 0) break;
        else if (errno != EINTR) s = dc_fail(e, DC_IO, "%s: reading failed: %s", path, strerror(errno));
    }
    finish(&sha, hex);
    free(block);
    return s;
}

dc_status dc_file_sha256(char hex[DC_HASH_DIGITS + 1], const char *path, const atomic_int *cancel, dc_error *e)
{
    struct stat before, after;
    char key[128], still[128];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    *hex = 0;
    if (fd < 0 || fstat(fd, &before) || !S_ISREG(before.st_mode)) {
        dc_status s = dc_fail(e, DC_NO_INPUT, "%s: cannot be read: %s", path, fd < 0 ? strerror(errno) : "no regular file");
        if (fd >= 0) close(fd);
        return s;
    }
    identity(key, &before);
    dc_status s = DC_OK;
    if (!recall(key, hex)) {
        s = hash_open_file(hex, fd, path, cancel, e);
        if (!s && !fstat(fd, &after)) {
            identity(still, &after);
            if (!strcmp(key, still)) remember(key, hex);
        }
    }
    close(fd);
    if (s) *hex = 0;
    return s;
}

/* ---- samples of tensors -------------------------------------------------------------------------------------------------- */

enum { SAMPLE = 64 }; /* bytes at a tensor's beginning, middle and end */

static void sample(struct sha256_ctx *sha, const dc_stored *t)
{
    const uint64_t n = t->bytes < SAMPLE ? t->bytes : SAMPLE, at[3] = {0, (t->bytes - n) / 2, t->bytes - n};
    const char *type = dc_dtype_name(t->dtype);
    sha256_update(sha, strlen(t->name) + 1, (const uint8_t *)t->name);
    sha256_update(sha, strlen(type) + 1, (const uint8_t *)type);
    sha256_update(sha, (size_t)t->rank * sizeof *t->dim, (const uint8_t *)t->dim);
    for (int i = 0; i < 3 && n; i++) sha256_update(sha, n, (const uint8_t *)t->data + at[i]);
}

dc_status dc_weights_fingerprint(char hex[DC_HASH_DIGITS + 1], const dc_weights *const *sets, int n, const char *also, dc_error *e)
{
    struct sha256_ctx sha;
    dc_status s = DC_OK;
    sha256_init(&sha);
    if (also) sha256_update(&sha, strlen(also), (const uint8_t *)also);
    for (int k = 0; k < n; k++)
        for (int i = 0; sets[k] && i < dc_weights_count(sets[k]); i++) sample(&sha, dc_weights_at(sets[k], i));
    for (int k = 0; !s && k < n; k++)
        if (sets[k]) s = dc_weights_check(sets[k], e);
    finish(&sha, hex);
    return s;
}
