/* prompts.h - pictures from a file, or a pipe, of prompts: one a line. */
#ifndef DC_CLI_PROMPTS_H
#define DC_CLI_PROMPTS_H
#include "apps/cli/options.h"
#include <stdio.h>

typedef struct prompts {
    const char *path;
    FILE *file;
    int line; /* number of the line read last */
    char *text, where[1100];
    size_t room;
    char *word[64];
} prompts;

/* Errors: NO_INPUT. Close in any case. */
int prompts_open(prompts *p, const char *path);
void prompts_close(prompts *p);
/* The next line: *out is `base` with what the line says (pointing into p, until the next call). A line that begins with '-' has options
 * and words, with quotes as in a shell; empty lines and those that begin with '#' are skipped; any other is a prompt. *more is false at the
 * end of the file. Returns 0 or an exit code after telling what is wrong; a bad line does not hinder the next. */
int prompts_next(prompts *p, const settings *base, settings *out, bool *more);

#endif
