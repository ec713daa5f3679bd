#include "base/json.h"
#include "base/file.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 64

/* jansson recurses, so the depth is counted first, without recursion. */
static bool too_deep(const char *text, size_t n)
{
    int depth = 0;
    bool string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (string) {
            if (c == '\\') i++;
            else if (c == '"') string = false;
        } else if (c == '"') {
            string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > MAX_DEPTH) return true;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return false;
}

dc_status dc_json_parse(json_t **out, const char *path, const char *text, size_t n, dc_error *e)
{
    *out = NULL;
    const char *nul = memchr(text, 0, n); /* jansson skips NUL between tokens */
    if (nul) return dc_fail(e, DC_DATA, "%s: JSON, byte %zu: found a NUL byte, expected text", path, (size_t)(nul - text));
    if (too_deep(text, n)) return dc_fail(e, DC_DATA, "%s: JSON: found more than %d levels of nesting, expected fewer", path, MAX_DEPTH);
    json_error_t bad;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES, &bad);
    if (*out) return DC_OK;
    if (!bad.text[0] || json_error_code(&bad) == json_error_out_of_memory) return dc_fail_memory(e, path, n); /* it says nothing, mostly */
    return dc_fail(e, DC_DATA, "%s: JSON, line %d column %d: %s", path, bad.line, bad.column, bad.text);
}

dc_status dc_json_read(json_t **out, const char *path, size_t limit, dc_error *e)
{
    char *text = NULL;
    size_t n = 0;
    *out = NULL;
    dc_status s = dc_read_file(path, limit, &text, &n, e);
    if (!s) s = dc_json_parse(out, path, text, n, e);
    free(text);
    return s;
}

/* The value of a key, NULL when absent, null or after an error. */
static const json_t *value(const dc_config *c, const char *key)
{
    const json_t *v = c->e && c->e->code ? NULL : json_object_get(c->root, key);
    return json_is_null(v) ? NULL : v;
}

static const char *kind(const json_t *v)
{
    static const char *const names[] = {"an object", "an array", "a string", "a whole number", "a real number", "true", "false", "null"};
    return v ? names[json_typeof(v)] : "nothing";
}

bool dc_config_has(const dc_config *c, const char *key) { return value(c, key) != NULL; }

static bool take_int(const dc_config *c, const char *key, const json_t *v, int64_t min, int64_t max, int64_t *out)
{
    if (!json_is_integer(v)) dc_fail(c->e, DC_DATA, "%s: %s: found %s, expected a whole number", c->path, key, kind(v));
    else if (json_integer_value(v) < min || json_integer_value(v) > max)
        dc_fail(c->e, DC_DATA, "%s: %s: found %lld, expected %lld to %lld", c->path, key, (long long)json_integer_value(v), (long long)min,
                (long long)max);
    else {
        *out = json_integer_value(v);
        return true;
    }
    return false;
}

int64_t dc_config_int(const dc_config *c, const char *key, int64_t absent, int64_t min, int64_t max)
{
    const json_t *v = value(c, key);
    int64_t out = absent;
    if (v) take_int(c, key, v, min, max, &out);
    return out;
}

double dc_config_real(const dc_config *c, const char *key, double absent, double min, double max)
{
    const json_t *v = value(c, key);
    if (!v) return absent;
    double x = json_number_value(v);
    if (!json_is_number(v)) dc_fail(c->e, DC_DATA, "%s: %s: found %s, expected a number", c->path, key, kind(v));
    else if (!(x >= min && x <= max)) dc_fail(c->e, DC_DATA, "%s: %s: found %.10g, expected %.10g to %.10g", c->path, key, x, min, max);
    else return x;
    return absent;
}

bool dc_config_bool(const dc_config *c, const char *key, bool absent)
{
    const json_t *v = value(c, key);
    if (!v) return absent;
    if (json_is_boolean(v)) return json_is_true(v);
    dc_fail(c->e, DC_DATA, "%s: %s: found %s, expected true or false", c->path, key, kind(v));
    return absent;
}

const char *dc_config_string(const dc_config *c, const char *key, const char *absent)
{
    const json_t *v = value(c, key);
    if (!v) return absent;
    if (json_is_string(v)) return json_string_value(v);
    dc_fail(c->e, DC_DATA, "%s: %s: found %s, expected a string", c->path, key, kind(v));
    return absent;
}

int dc_config_ints(const dc_config *c, const char *key, int *out, int max_n, int min, int max)
{
    const json_t *v = value(c, key);
    int64_t x;
    if (!v) return 0;
    if (!json_is_array(v)) {
        if (!take_int(c, key, v, min, max, &x)) return 0;
        for (int i = 0; i < max_n; i++) out[i] = (int)x;
        return 1;
    }
    size_t n = json_array_size(v);
    if (n < 1 || n > (size_t)max_n) {
        dc_fail(c->e, DC_DATA, "%s: %s: found %zu values, expected 1 to %d", c->path, key, n, max_n);
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (!take_int(c, key, json_array_get(v, i), min, max, &x)) return 0;
        out[i] = (int)x;
    }
    return (int)n;
}
