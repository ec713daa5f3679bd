/* A prompt of any bytes, its first byte the number of steps: refused with a message, or parts, texts, weighted pieces and chunks come out that keep
 * what their headers say, in every syntax; and it is expanded as a template. */
#include "base/text.h"
#include "prompt/chunks.h"
#include "prompt/schedule.h"
#include "prompt/template.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

enum { LENGTH = 12 };

static void need(bool x)
{
    if (!x) abort();
}

static void need_refusal(const dc_error *e) { need(e->code == DC_USAGE && *e->text && !strchr(e->text, '\n')); }

static dc_tokenizer *tokenizer(void)
{
    static dc_tokenizer *t;
    char path[1024];
    const char *assets = getenv("DIFFC_ASSETS");
    dc_error e = {0};
    if (t) return t;
    snprintf(path, sizeof path, "%s/clip_merges.txt.gz", assets ? assets : ASSETS);
    need(!dc_tokenizer_open_merges(&t, path, 1000, &e));
    return t;
}

static void try_chunks(const char *text, dc_prompt_syntax syntax)
{
    dc_error e = {0};
    dc_prompt_spans s;
    dc_prompt_chunks c;
    if (dc_prompt_spans_make(&s, text, strlen(text), syntax, &e)) {
        need_refusal(&e);
        return;
    }
    need(s.n >= 1);
    for (int i = 0; i < s.n; i++) need(isfinite(s.at[i].weight) && s.at[i].from + s.at[i].n <= strlen(s.text));
    if (dc_prompt_chunks_make(&c, &s, syntax, tokenizer(), LENGTH, &e)) {
        need_refusal(&e);
    } else {
        need(c.n >= 1 && c.n <= DC_PROMPT_CHUNKS);
        for (int i = 0; i < c.n * LENGTH; i++) need(dc_tokenizer_token(tokenizer(), c.ids[i]) != NULL);
        for (int i = 0; i < c.n; i++) need(c.ids[i * LENGTH] == dc_tokenizer_start(tokenizer()) && c.weights[i * LENGTH] == 1);
        dc_prompt_chunks_free(&c);
    }
    dc_prompt_spans_free(&s);
}

static void try_steps(const char *text, size_t n, int steps)
{
    dc_error e = {0};
    dc_prompt_schedule s;
    if (dc_prompt_schedule_make(&s, text, n, true, steps, &e)) {
        need_refusal(&e);
        return;
    }
    need(s.n >= 1 && s.n <= DC_PROMPT_TEXTS && s.entries >= s.n && s.entry[s.entries - 1].end == steps);
    for (int i = 0; i < s.n; i++) need(strlen(s.text[i]) <= n && dc_utf8_valid(s.text[i], strlen(s.text[i])) && dc_prompt_schedule_count(&s, i) > 0);
    for (int i = 0; i <= steps; i++) need(dc_prompt_schedule_at(&s, i) < s.n);
    for (int i = 0; i < s.n && i < 3; i++)
        for (int syntax = DC_PROMPT_A1111; syntax <= DC_PROMPT_PLAIN; syntax++) try_chunks(s.text[i], (dc_prompt_syntax)syntax);
    dc_prompt_schedule_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    if (!n) return 0;
    char *text = strndup((const char *)bytes + 1, n - 1), *made;
    size_t size = strlen(text);
    dc_error e = {0};
    dc_prompt_part part[DC_PROMPT_PARTS];
    int parts = 0;
    if (dc_utf8_valid(text, size)) {
        if (dc_prompt_parts(part, &parts, text, &e)) need_refusal(&e);
        for (int i = 0; i < parts; i++) try_steps(text + part[i].from, part[i].n, 1 + bytes[0]);
        dc_error refusal = {0};
        if (dc_prompt_expand(&made, text, NULL, bytes[0], &refusal)) need_refusal(&refusal);
        else need(dc_utf8_valid(made, strlen(made)));
        free(made);
    }
    free(text);
    return 0;
}
