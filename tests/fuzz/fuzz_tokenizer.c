/* Any bytes as a prompt: refused, or ids of the vocabulary; the padded form has its start and end. The vocabulary comes from the
 * assets (DIFFC_ASSETS, else the folder the build was made from). */
#include "clip/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static dc_tokenizer *the_tokenizer(bool cleans)
{
    static dc_tokenizer *both[2]; /* opened once: they are read-only */
    dc_tokenizer *t = both[cleans];
    char path[1024];
    const char *folder = getenv("DIFFC_ASSETS");
    dc_error e = {0};
    snprintf(path, sizeof path, "%s/clip_merges.txt.gz", folder ? folder : ASSETS);
    if (!t && dc_tokenizer_open_merges(&t, path, 49408, &e)) abort();
    if (cleans && !both[1]) dc_tokenizer_clean_texts(t);
    return both[cleans] = t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    dc_tokenizer *t = the_tokenizer(n & 1);
    dc_error e = {0};
    int32_t *ids = NULL, padded[77];
    int count = 0, cut = 0;
    dc_status s = dc_tokenize(t, (const char *)data, n, &ids, &count, &e);
    if (s != DC_OK && s != DC_USAGE) abort();
    for (int i = 0; !s && i < count; i++)
        if (ids[i] < 0 || ids[i] >= 49408) abort();
    free(ids);
    char *text = malloc(n + 1);
    memcpy(text, data, n);
    text[n] = 0;
    e = (dc_error){0};
    if (dc_tokenize_padded(t, text, 77, padded, &cut, &e) == DC_OK && (padded[0] != 49406 || cut < 0)) abort();
    free(text);
    return 0;
}
