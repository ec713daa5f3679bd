/* names.h - names of output files from patterns. */
#ifndef DC_CLI_NAMES_H
#define DC_CLI_NAMES_H
#include "include/diffc.h"
#include <stdbool.h>

/* Has the pattern a "%d", "%04d", ...? */
bool name_has_number(const char *pattern);
/* Several pictures cannot share one name: "out.png" becomes "out-%04d.png", but for names with a number and, when all that differs is the
 * seed, with {seed}. The caller frees; NULL when memory is out. */
char *name_pattern(const char *output, bool several, bool only_seeds);
/* The pattern with its number (< 0: left alone) and its marks filled in: {seed}, {prompt}, {model}, {sampler}, {schedule}, {steps}, {cfg},
 * {width}, {height}, {date}, {time}. What a mark gives has no '/', no control characters, and at most 100 bytes. The caller frees; NULL
 * when memory is out. */
char *name_make(const char *pattern, long number, const diffc_result *r);

#endif
