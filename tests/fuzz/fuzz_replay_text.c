/* Any bytes as a text of parameters and as ComfyUI's graph: what is read is UTF-8, a request made of it is within its limits, and what is written
 * of its fields is read again as the same. */
#include "include/diffc.h"
#include "pipeline/infotext.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void need(bool x)
{
    if (!x) abort();
}

static void look_at(const infotext *x)
{
    need(x->prompt && dc_utf8_valid(x->prompt, strlen(x->prompt)) && x->n <= 256);
    for (int i = 0; i < x->n; i++) {
        need(x->field[i].key && x->field[i].value && strlen(x->field[i].key) < 1u << 20);
        need(info_get(x, x->field[i].key) == x->field[i].value);
    }
}

/* The same fields from what is written of them: those whose values are not taken apart, and the prompts without lines that mean something. */
static void write_again(const infotext *x)
{
    info_value v[256];
    dc_error e = {0};
    infotext back;
    int n = 0;
    for (int i = 0; i < x->n; i++) v[n++] = (info_value){.key = x->field[i].key, .kind = INFO_TEXT, .text = x->field[i].value};
    char *text = infotext_write(x->prompt, x->negative, v, n);
    need(text && dc_utf8_valid(text, strlen(text)));
    dc_status s = infotext_read(&back, "again", text, strlen(text), &e);
    need(s == e.code && (!s || s == DC_DATA));
    infotext_free(&back);
    free(text);
}

static void as_request(const char *text, size_t n)
{
    diffc_error e = {0};
    diffc_replay *r;
    diffc_request q = {.steps = 1, .count = 1, .batch = 1, .strength = 0.5, .eta = -1};
    if (diffc_replay_memory(&r, "text", text, n, &e)) {
        need(!r && (e.code == DIFFC_DATA || e.code == DIFFC_NO_INPUT) && *e.text);
        return;
    }
    need(!diffc_replay_apply(r, NULL, &q, &e) && q.prompt);
    need(q.steps >= 1 && q.steps <= 1000 && q.guidance >= 0 && q.guidance <= 1000 && q.count >= 1 && q.count <= 64 && q.clip_skip >= 0);
    need(q.clip_skip <= 64 && q.strength > 0 && q.strength <= 1 && q.width >= 0 && q.width <= 4096 && q.height >= 0 && q.height <= 4096);
    need(!q.n_sigmas || (q.sigmas && q.sigmas[0] >= 0));
    for (int i = 0; i < r->n_fields; i++) need(r->field[i].name && r->field[i].value && r->field[i].reason);
    need(!diffc_replay_apply(r, NULL, &q, &e)); /* again */
    diffc_replay_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char *text = malloc(n + 1);
    need(text != NULL);
    if (n) memcpy(text, bytes, n);
    text[n] = 0;
    for (int graph = 0; graph < 2; graph++) {
        dc_error e = {0};
        infotext x;
        dc_status s = graph ? comfyui_read(&x, "text", text, n, &e) : infotext_read(&x, "text", text, n, &e);
        need(s == e.code && (!s || (s == DC_DATA && !strncmp(e.text, "text: ", 6))));
        if (!s) look_at(&x), write_again(&x);
        infotext_free(&x);
    }
    as_request(text, n);
    free(text);
    return 0;
}
