/* replay.c - --from: what was read from a picture, and what the command line made of it. */
#include "apps/cli/replay.h"
#include "apps/cli/report.h"
#include <stdio.h>
#include <string.h>

int replay_read(settings *s)
{
    diffc_error e = {0};
    if (!s->from) return 0;
    return diffc_replay_open(&s->replay, s->from, &e) ? report_error(&e) : 0;
}

bool replay_lets(const settings *s, const char *name) { return !s->replay || options_given(s, name); }

/* The options that take a member of the request; the first that was given, NULL: none. */
static const char *option_over(const settings *s, const char *member)
{
    static const char *const table[][2] = {{"negative", "negative-prompt"},
                                           {"guidance", "cfg-scale"},
                                           {"guidance_rescale", "guidance-rescale"},
                                           {"schedule", "scheduler"},
                                           {"size", "size"},
                                           {"size", "width"},
                                           {"size", "height"},
                                           {"count", "batch-count"},
                                           {"count", "batch-size"},
                                           {"clip_skip", "clip-skip"},
                                           {"prompt_syntax", "prompt-syntax"},
                                           {"vae_tiling", "vae-tiling"}};
    if (!member) return NULL;
    if (!strcmp(member, "prompt") && s->n_words) return "prompt";
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(member, table[i][0]) && options_given(s, table[i][1])) return table[i][1];
    return options_given(s, member) ? member : NULL;
}

typedef struct shown {
    const char *fate;
    char reason[560];
} shown;

static shown show(const settings *s, const diffc_field *f)
{
    static const char *const fates[] = {"honoured", "changed", "ignored"};
    const char *over = option_over(s, f->member);
    shown out = {.fate = over ? fates[DIFFC_CHANGED] : fates[f->fate]};
    if (over && !strcmp(over, "prompt")) snprintf(out.reason, sizeof out.reason, "another one is given");
    else if (over) snprintf(out.reason, sizeof out.reason, "--%s is given", over);
    else snprintf(out.reason, sizeof out.reason, "%s", f->reason);
    return out;
}

json_t *replay_fields(const settings *s)
{
    json_t *list = s->replay ? json_array() : NULL;
    for (int i = 0; list && i < s->replay->n_fields; i++) {
        const diffc_field *f = &s->replay->field[i];
        shown x = show(s, f);
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s}", "field", f->name, "value", f->value, "fate", x.fate, "reason", x.reason));
    }
    return list;
}

/* At most n characters on one line, control characters as dots. */
static void put_value(const char *v, int n)
{
    bool cut = false;
    int width = 0;
    char line[4 * 64 + 1], *to = line;
    for (; *v && !cut; v++) {
        if ((*v & 0xc0) != 0x80 && width++ == n) cut = true;
        else *to++ = (unsigned char)*v < 0x20 || *v == 0x7f ? ' ' : *v;
    }
    *to = 0;
    fprintf(stderr, "%s%s%*s", line, cut ? ".." : "", cut ? 1 : n + 3 - width, "");
}

void replay_print(const settings *s)
{
    if (!s->replay) return;
    fprintf(stderr, "%s, as %s wrote it:\n", s->from, s->replay->source);
    for (int i = 0; i < s->replay->n_fields; i++) {
        const diffc_field *f = &s->replay->field[i];
        shown x = show(s, f);
        fprintf(stderr, "  ");
        put_value(f->name, 24);
        put_value(f->value, 34);
        fprintf(stderr, "%s%s%s\n", x.fate, *x.reason ? ": " : "", x.reason);
    }
}
