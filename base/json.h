/* json.h - jansson with the strict rules of untrusted input: UTF-8, no duplicate keys, depth <= 64, size
 * limits, no trailing data; and typed getters that write one clear error. */
#ifndef DC_BASE_JSON_H
#define DC_BASE_JSON_H
#include "base/status.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DC_JSON_CONFIG_LIMIT (16u << 20)

/* Parses n bytes; `path` is only for messages. Errors: DATA with line and column. Release with json_decref. */
dc_status dc_json_parse(json_t **out, const char *path, const char *text, size_t n, dc_error *e);
/* Reads and parses a file of at most `limit` bytes. */
dc_status dc_json_read(json_t **out, const char *path, size_t limit, dc_error *e);

/* A config object being read: the getters below note the first error in e and afterwards return defaults,
 * so a reader checks e->code once, at its end. Absent key or null: the default. */
typedef struct dc_config {
    const json_t *root;
    const char *path;
    dc_error *e;
} dc_config;

int64_t dc_config_int(const dc_config *c, const char *key, int64_t absent, int64_t min, int64_t max);
double dc_config_real(const dc_config *c, const char *key, double absent, double min, double max);
bool dc_config_bool(const dc_config *c, const char *key, bool absent);
const char *dc_config_string(const dc_config *c, const char *key, const char *absent); /* owned by root */
/* An array of ints, or one int (then all `max_n` values are that int and 1 is returned).
 * Returns the number of values; 0 when absent. At most max_n, each within min..max, or an error. */
int dc_config_ints(const dc_config *c, const char *key, int *out, int max_n, int min, int max);
bool dc_config_has(const dc_config *c, const char *key); /* present and not null */

#endif
