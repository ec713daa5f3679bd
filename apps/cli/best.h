/* best.h - --keep-best: of many pictures, those that a CLIP model finds most like their prompts. */
#ifndef DC_CLI_BEST_H
#define DC_CLI_BEST_H
#include "apps/cli/options.h"
#include "apps/cli/result.h"

typedef struct ranked {
    kept_result kept;
    double score; /* cosine of picture and prompt, -1 to 1 */
} ranked;

typedef struct best {
    diffc_clip *clip;
    int most, n;
    ranked *at; /* n of them, best first; of equal ones the earlier first */
} best;

/* Opens the CLIP model (--clip; NULL: the one that comes with diffc). Closes with best_close in any case. Errors: USAGE, and those of diffc_clip_open. */
int best_open(best *b, const settings *s);
void best_close(best *b);
/* Keeps a copy of the result when it is among the best so far. */
diffc_status best_offer(best *b, const diffc_result *r, diffc_error *error);
void best_forget(best *b); /* what is kept, not the model */

#endif
