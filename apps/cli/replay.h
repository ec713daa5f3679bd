/* replay.h - --from: a request filled from a picture's text, and the table of what became of its fields. */
#ifndef DC_CLI_REPLAY_H
#define DC_CLI_REPLAY_H
#include "apps/cli/options.h"
#include <jansson.h>

/* Reads the file that s->from names into s->replay; nothing without one. 0 or an exit code. Free with diffc_replay_close. */
int replay_read(settings *s);
/* Is the option's value to be taken? Without --from always; with it when it was given for this run. */
bool replay_lets(const settings *s, const char *name);
/* The fields of the replay as applied, with what the command line changed: [{"field", "value", "fate", "reason"}, ..]; NULL without one. */
json_t *replay_fields(const settings *s);
/* The same as a table on stderr. */
void replay_print(const settings *s);

#endif
