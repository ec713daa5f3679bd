/* result.h - a finished picture that outlives the call that told it. */
#ifndef DC_CLI_RESULT_H
#define DC_CLI_RESULT_H
#include "include/diffc.h"

/* A result with its own copies of all that it points to, but for names that live as long as the model. */
typedef struct kept_result {
    diffc_result result; /* without its image: set that to &image where it is handed on */
    diffc_image image;
} kept_result;

/* False when memory is out: nothing is kept then. latent: keep that, too. Free with result_free. */
bool result_keep(kept_result *k, const diffc_result *r, bool latent);
void result_free(kept_result *k);

/* Writes the picture under the pattern's next free number from *next on, which becomes the one after it; NULL: the name has none, the file is
 * replaced. *path is the name taken, for the caller to free. */
diffc_status result_write(const diffc_result *r, const char *pattern, long *next, const diffc_image_style *style, char **path, diffc_error *error);

#endif
