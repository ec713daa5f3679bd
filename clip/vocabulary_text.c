/* vocabulary_text.c - a vocabulary as the files that transformers reads. */
#include "base/checked.h"
#include "clip/vocabulary.h"
#include <stdlib.h>

/* {"TOKEN":ID,..} in the order of ids. */
static bool put_tokens(dc_text *out, const dc_vocabulary *v)
{
    json_t *o = json_object();
    bool whole = o != NULL;
    for (int id = 0; whole && id < v->size - v->appended; id++) whole = json_object_set_new(o, v->token[id], json_integer(id)) == 0;
    char *text = whole ? json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    if (text) dc_text_printf(out, "%s", text);
    free(text);
    json_decref(o);
    return text && !out->failed;
}

/* "LEFT RIGHT" a line, in the order of ranks. */
static bool put_merges(dc_text *out, const dc_vocabulary *v)
{
    const dc_merge **by_rank = dc_calloc((size_t)v->merges, sizeof(*by_rank));
    if (!by_rank) return false;
    for (uint32_t i = 0; i <= v->pair_mask; i++)
        if (v->by_pair[i].rank >= 0) by_rank[v->by_pair[i].rank] = &v->by_pair[i];
    dc_text_printf(out, "#version: 0.2\n");
    for (int i = 0; i < v->merges; i++)
        if (by_rank[i]) dc_text_printf(out, "%s %s\n", v->token[by_rank[i]->pair >> 32], v->token[by_rank[i]->pair & 0xffffffffu]);
    free(by_rank);
    return !out->failed;
}

dc_status dc_vocabulary_text(const dc_vocabulary *v, dc_text *vocab, dc_text *merges, dc_error *e)
{
    return put_tokens(vocab, v) && put_merges(merges, v) ? DC_OK : dc_fail_memory(e, "a vocabulary", (unsigned long long)v->size * 32);
}
