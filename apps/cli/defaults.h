/* defaults.h - the user's file of defaults, and reading small text files. */
#ifndef DC_CLI_DEFAULTS_H
#define DC_CLI_DEFAULTS_H
#include "apps/cli/options.h"

/* The file of defaults: lines "name = value" with the names of long options, or "[command]" for what follows; "#" begins a comment, a value
 * may be in double quotes. It is $DIFFC_CONFIG (empty: none), else $XDG_CONFIG_HOME/diffc/config, else ~/.config/diffc/config. No such file
 * is fine, but where DIFFC_CONFIG names it. Returns 0, NO_INPUT, or DATA after telling line, found and expected. */
int defaults_read(settings *s, const command *commands, int n_commands);
/* Where that file is looked for, NULL: nowhere; for the caller to free. */
char *defaults_path(void);

/* A whole text of at most 1 MiB without zero bytes; path "-" is stdin. *out is for the caller to free. Returns 0 or an exit code. */
int text_read(char **out, const char *path);

#endif
