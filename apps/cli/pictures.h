/* pictures.h - what the commands about an index of pictures share. */
#ifndef DC_CLI_PICTURES_H
#define DC_CLI_PICTURES_H
#include "apps/cli/options.h"
#include <jansson.h>

/* The values of an option that may come several times, in a new array of *n for the caller to free; name NULL: positional arguments. NULL when
 * memory is out. */
const char **item_values(const settings *s, const char *name, int *n);
/* "FILE.npy" -> "FILE.paths"; for the caller to free. */
char *paths_beside(const char *npy);
/* A path as JSON: bytes that are no UTF-8 as \xNN, and then "path_hex" has all of them. */
void json_set_path(json_t *o, const char *path);

#endif
