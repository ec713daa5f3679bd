/* convert.c - the command convert. */
#include "apps/cli/commands.h"
#include "apps/cli/report.h"
#include <stdio.h>
#include <string.h>

static bool on_progress(void *user, const diffc_progress *p)
{
    progress_tell(user, p);
    return signals_caught();
}

static json_t *parts_json(const diffc_conversion *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->n_parts; i++)
        json_array_append_new(
            list, json_pack("{s:s,s:i,s:I}", "name", c->part[i].name, "tensors", c->part[i].tensors, "bytes", (json_int_t)c->part[i].bytes));
    return list;
}

int run_convert(const settings *s)
{
    diffc_error e = {0};
    diffc_conversion done;
    progress p;
    if (s->n_words != 1) return report(DIFFC_USAGE, "", "convert: found %d models, expected one", s->n_words);
    if (!s->output) return report(DIFFC_USAGE, "", "convert: found no -o, expected -o FOLDER or -o FILE.safetensors");
    diffc_options o = model_options(s);
    o.model = s->word[0];
    if (progress_begin(&p, s->progress, s->quiet || s->json)) return DIFFC_USAGE;
    signals_note();
    diffc_status code = diffc_convert(&o, s->output, on_progress, &p, &done, &e);
    progress_clear(&p);
    if (code) return report_error(&e);
    FILE *to = strcmp(s->output, "-") ? stdout : stderr; /* where the model itself does not go */
    if (s->json) {
        json_t *root = json_pack("{s:s,s:s,s:I,s:o}", "output", s->output, "kind", done.folder ? "folder" : "file", "bytes", (json_int_t)done.bytes,
                                 "parts", parts_json(&done));
        json_dumpf(root, to, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        fputc('\n', to);
        json_decref(root);
    } else if (!s->quiet) {
        for (int i = 0; i < done.n_parts; i++)
            fprintf(to, "%-16s %5d tensors %14llu bytes\n", done.part[i].name, done.part[i].tensors, (unsigned long long)done.part[i].bytes);
        fprintf(to, "%s: written, %llu bytes\n", s->output, (unsigned long long)done.bytes);
    }
    return 0;
}
