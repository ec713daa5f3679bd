/* schedule.h - a prompt over the steps of a picture, as AUTOMATIC1111's web UI reads it: parts joined by AND, and in each of them
 * [from:to:when], [to:when], [from::when] and [a|b|c]. Ref: modules/prompt_parser.py (re_AND, re_weight, schedule_parser), v1.10.
 *
 * The grammar, which knows no errors but one: brackets pair up only around text in which everything pairs up; one with up to two colons of
 * which the last is followed by nothing but a number is an edit, one with bars is an alternation, all others stay as they are, for spans.h.
 * A bar outside of an alternation, or a backslash at the end of the text or a line, and the whole text stays as it is. */
#ifndef DC_PROMPT_SCHEDULE_H
#define DC_PROMPT_SCHEDULE_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

enum { DC_PROMPT_PARTS = 16, DC_PROMPT_TEXTS = 256 };

/* One part of "a AND b:0.5": bytes [from, from + n) of the prompt, without the weight and the white space before it. */
typedef struct dc_prompt_part {
    size_t from, n;
    double weight;
    bool weighed; /* the weight is written there */
} dc_prompt_part;
/* *n of them, at least one. Errors: USAGE (more than DC_PROMPT_PARTS). */
dc_status dc_prompt_parts(dc_prompt_part part[DC_PROMPT_PARTS], int *n, const char *prompt, dc_error *e);

typedef struct dc_prompt_entry {
    int end, text; /* text `text` up to and with step `end` */
} dc_prompt_entry;
typedef struct dc_prompt_schedule {
    int n, entries;
    char **text;            /* [n] distinct ones, in the order in which they come */
    dc_prompt_entry *entry; /* [entries], ascending */
} dc_prompt_schedule;
/* Over `steps` steps, >= 1; a number of `when` with a point is a share of them. Without `edits` the text stays as it is.
 * Errors: USAGE (more than DC_PROMPT_TEXTS texts), NO_MEMORY. */
dc_status dc_prompt_schedule_make(dc_prompt_schedule *s, const char *text, size_t n, bool edits, int steps, dc_error *e);
void dc_prompt_schedule_free(dc_prompt_schedule *s);
/* The text that evaluation k of the model is given, from 0. TRAP: the web UI compares k itself with the ends, so the first of them comes a
 * time too late. Behind the last step it goes back to the first text; here the last one stays. */
int dc_prompt_schedule_at(const dc_prompt_schedule *s, int k);
/* In how many entries is the text? */
int dc_prompt_schedule_count(const dc_prompt_schedule *s, int text);

#endif
