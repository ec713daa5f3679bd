/* A tokenizer's folder of any bytes, four parts with NUL between them: merges.txt, tokenizer_config.json, added_tokens.json, vocab.json.
 * It is refused with a message, or texts become ids of its vocabulary. Empty parts: {}, and a small good vocabulary. */
#include "base/json.h"
#include "clip/tokenizer.h"
#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

enum { PARTS = 4, GOOD = 560 };
static const char *const names[PARTS] = {"merges.txt", "tokenizer_config.json", "added_tokens.json", "vocab.json"};
static char folder[] = "/tmp/diffc-fuzz-XXXXXX"; /* holds links to files in memory */
static int files[PARTS];
static bool holds_good; /* the last of them, already */
static char *good;      /* the first 560 tokens of CLIP's vocabulary as JSON */

static void need(bool x)
{
    if (!x) abort();
}

/* jansson's memory, which is most of a run: handed out in line, taken back with the next run. A sanitizer still sees what is touched behind it or
 * after it was freed, and `live` what was not freed. */
enum { AREA = 8 << 20, GAP = 16 };
static char area[AREA] __attribute__((aligned(16)));
static uint32_t size_at[AREA / GAP];
static size_t used;
static int live;

static void *take(size_t n)
{
    const size_t whole = (n + GAP - 1) / GAP * GAP + GAP;
    char *p = area + used;
    if (whole > AREA - used) return NULL; /* as if there were no more memory */
    ASAN_UNPOISON_MEMORY_REGION(p, n);
    size_at[used / GAP] = (uint32_t)n;
    used += whole;
    live++;
    return p;
}

static void give_back(void *p)
{
    if (!p) return;
    ASAN_POISON_MEMORY_REGION(p, size_at[(size_t)((char *)p - area) / GAP]);
    live--;
}

static void remove_folder(void)
{
    char path[64];
    for (int i = 0; i < PARTS; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
    free(good);
}

static void make_folder(void)
{
    char path[1024], target[64];
    const char *assets = getenv("DIFFC_ASSETS");
    dc_error e = {0};
    dc_tokenizer *t;
    snprintf(path, sizeof path, "%s/clip_merges.txt.gz", assets ? assets : ASSETS);
    need(!dc_tokenizer_open_merges(&t, path, GOOD, &e));
    json_t *vocab = json_object();
    for (int id = 0; id < GOOD; id++) json_object_set_new(vocab, dc_tokenizer_token(t, id), json_integer(id));
    good = json_dumps(vocab, JSON_COMPACT);
    json_decref(vocab);
    dc_tokenizer_close(t);
    json_set_alloc_funcs(take, give_back);
    ASAN_POISON_MEMORY_REGION(area, sizeof area);
    need(good && mkdtemp(folder));
    atexit(remove_folder);
    for (int i = 0; i < PARTS; i++) {
        files[i] = memfd_create(names[i], 0);
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        snprintf(target, sizeof target, "/proc/self/fd/%d", files[i]);
        need(files[i] >= 0 && symlink(target, path) == 0);
    }
}

static void fill(int file, const void *bytes, size_t n) { need(ftruncate(file, 0) == 0 && pwrite(file, bytes, n, 0) == (ssize_t)n); }

static void try_texts(const dc_tokenizer *t)
{
    static const char *const texts[] = {"the thing in it's 100 houses!", "<|startoftext|>!<new> <|endoftext|></w>a\xcc\x81 ", ""};
    int size = dc_tokenizer_vocab_size(t), n;
    need(dc_tokenizer_pad(t) >= 0 && dc_tokenizer_pad(t) < size && dc_tokenizer_start(t) >= 0 && dc_tokenizer_end(t) >= 0);
    need(dc_tokenizer_max_length(t) >= 3 && dc_tokenizer_max_length(t) <= 4096);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        dc_error e = {0};
        int32_t *ids, padded[9];
        need(!dc_tokenize(t, texts[i], strlen(texts[i]), &ids, &n, &e));
        for (int k = 0; k < n; k++) need(dc_tokenizer_token(t, ids[k]) != NULL);
        free(ids);
        need(!dc_tokenize_padded(t, texts[i], 9, padded, NULL, &e));
        for (int k = 0; k < 9; k++) need(dc_tokenizer_token(t, padded[k]) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    dc_error e = {0};
    dc_tokenizer *t;
    if (!good) make_folder();
    need(live == 0);
    used = 0;
    for (int i = 0; i < PARTS; i++) {
        const uint8_t *end = n ? memchr(bytes, 0, n) : NULL;
        size_t size = end ? (size_t)(end - bytes) : n;
        const bool last = i == PARTS - 1;
        if (size || !i) fill(files[i], bytes, size);
        else if (!last) fill(files[i], "{}", 2);
        else if (!holds_good) fill(files[i], good, strlen(good));
        if (last) holds_good = !size;
        bytes += size + (end != NULL);
        n -= size + (end != NULL);
    }
    if (dc_tokenizer_open(&t, folder, &e)) {
        need(!t && e.code == DC_DATA && !strchr(e.text, '\n'));
        return 0;
    }
    try_texts(t);
    dc_tokenizer_close(t);
    return 0;
}
