/* hash.h - SHA-256 of model files, remembered between runs; and of samples of them. */
#ifndef DC_WEIGHTS_HASH_H
#define DC_WEIGHTS_HASH_H
#include "base/status.h"
#include "weights/weights.h"
#include <stdatomic.h>

#define DC_HASH_DIGITS  64 /* of SHA-256 */
#define DC_HASH_AUTO_V2 10 /* its first ones are what A1111 and Civitai call a model by (AutoV2) */

/* SHA-256 of a whole file, in lower-case hexadecimal. It is looked up and kept in hashes.json of the user's cache folder
 * (XDG_CACHE_HOME/diffc, ~/.cache/diffc), by device, inode, size and time of modification; without such a folder it is computed each time.
 * cancel (may be NULL): non-zero stops. Errors: NO_INPUT, IO, CANCELLED. A cache that cannot be read or written is no error. */
dc_status dc_file_sha256(char hex[DC_HASH_DIGITS + 1], const char *path, const atomic_int *cancel, dc_error *e);

/* Tells weights from others without reading them whole: SHA-256 of `also` (a text, NULL: nothing), and of each tensor of the sets its name,
 * type, shape and three samples of its bytes. Errors: IO (a file has changed meanwhile). */
dc_status dc_weights_fingerprint(char hex[DC_HASH_DIGITS + 1], const dc_weights *const *sets, int n, const char *also, dc_error *e);

#endif
