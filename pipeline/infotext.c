/* infotext.c - A1111's "parameters" text, written and read. */
#include "pipeline/infotext.h"
#include "base/json.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define MAX_TEXT_BYTES (1u << 20)

/* ---- characters, as Python counts them --------------------------------------------------------------------------- */

/* str.isspace: what strip() takes off and \s matches. */
static bool is_space(uint32_t c)
{
    if (c < 0x80) return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

/* \w: letters and numbers of any script, and the low line. */
static bool is_word(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return c == '_' || (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) || (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

/* A piece of the text. */
typedef struct span {
    const char *at;
    size_t n;
} span;

static span strip(span s)
{
    uint32_t c;
    while (s.n) {
        int k = dc_utf8_decode(s.at, s.n, &c);
        if (!is_space(c)) break;
        s.at += k, s.n -= (size_t)k;
    }
    for (size_t k = 1; s.n && k <= s.n;) { /* back to the last character's first byte */
        if ((s.at[s.n - k] & 0xc0) == 0x80) {
            k++;
            continue;
        }
        dc_utf8_decode(s.at + s.n - k, k, &c);
        if (!is_space(c)) break;
        s.n -= k;
        k = 1;
    }
    return s;
}

static bool begins(span s, const char *with) { return s.n >= strlen(with) && !memcmp(s.at, with, strlen(with)); }

static bool is(span s, const char *what) { return s.n == strlen(what) && !memcmp(s.at, what, s.n); }

/* ---- writing ----------------------------------------------------------------------------------------------------- */

void info_real(char out[64], double v)
{
    char digits[32], *p = out;
    int precision = 0, exponent;
    if (!isfinite(v)) {
        snprintf(out, 64, "%s", isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
        return;
    }
    do snprintf(digits, sizeof digits, "%.*e", precision, v);
    while (strtod(digits, NULL) != v && ++precision < 17);
    exponent = atoi(strchr(digits, 'e') + 1);
    if (*digits == '-') *p++ = '-';
    char only[24]; /* the digits alone: the point may be another character in another locale */
    int n = 0;
    for (const char *d = digits; *d != 'e'; d++)
        if (*d >= '0' && *d <= '9') only[n++] = *d;
    while (n > 1 && only[n - 1] == '0') n--;
    only[n] = 0;
    if (exponent >= 16 || exponent < -4) snprintf(p, 60, "%c%s%se%+03d", *only, n > 1 ? "." : "", only + 1, exponent);
    else if (exponent < 0) snprintf(p, 60, "0.%.*s%s", -exponent - 1, "000", only);
    else if (n <= exponent + 1) snprintf(p, 60, "%s%.*s.0", only, exponent + 1 - n, "0000000000000000");
    else snprintf(p, 60, "%.*s.%s", exponent + 1, only, only + exponent + 1);
}

/* json.dumps(.., ensure_ascii=False) */
static void put_json(dc_text *t, const char *s)
{
    static const char shorts[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
    dc_text_append(t, "\"", 1);
    for (; *s; s++) {
        const char *at = strchr(shorts, *s);
        if (at) dc_text_printf(t, "\\%c", letters[at - shorts]);
        else if ((unsigned char)*s < 0x20) dc_text_printf(t, "\\u%04x", (unsigned)*s);
        else dc_text_append(t, s, 1);
    }
    dc_text_append(t, "\"", 1);
}

static void put_value(dc_text *t, const info_value *v)
{
    char number[64];
    const char *text = number;
    switch (v->kind) {
    case INFO_TEXT: text = v->text; break;
    case INFO_INT: snprintf(number, sizeof number, "%lld", (long long)v->integer); break;
    case INFO_UINT: snprintf(number, sizeof number, "%llu", (unsigned long long)v->natural); break;
    case INFO_REAL: info_real(number, v->real); break;
    case INFO_BOOL: text = v->yes ? "True" : "False"; break;
    case INFO_NONE: return;
    }
    if (v->kind == INFO_TEXT && !strcmp(text, v->key)) {
        dc_text_printf(t, "%s", text);
        return;
    }
    dc_text_printf(t, "%s: ", v->key);
    if (strpbrk(text, ",:\n")) put_json(t, text);
    else dc_text_printf(t, "%s", text);
}

char *infotext_write(const char *prompt, const char *negative, const info_value *v, int n)
{
    dc_text t = {0};
    dc_text_printf(&t, "%s", prompt ? prompt : "");
    if (negative && *negative) dc_text_printf(&t, "\nNegative prompt: %s", negative);
    dc_text_append(&t, "\n", 1);
    for (int i = 0, put = 0; i < n; i++) {
        if (v[i].kind == INFO_NONE || (v[i].kind == INFO_TEXT && !v[i].text)) continue;
        if (put++) dc_text_append(&t, ", ", 2);
        put_value(&t, &v[i]);
    }
    span s = t.failed ? (span){"", 0} : strip((span){t.at, t.length});
    char *out = t.failed ? NULL : strndup(s.at, s.n);
    dc_text_free(&t);
    return out;
}

/* ---- fields ------------------------------------------------------------------------------------------------------ */

static info_field *find(const infotext *x, const char *key, size_t n)
{
    for (int i = 0; i < x->n; i++)
        if (!strncmp(x->field[i].key, key, n) && !x->field[i].key[n]) return &x->field[i];
    return NULL;
}

const char *info_source_name(info_source s)
{
    static const char *const names[] = {"A1111", "diffc", "stable-diffusion.cpp", "ComfyUI"};
    return names[s];
}

const char *info_get(const infotext *x, const char *key)
{
    const info_field *f = find(x, key, strlen(key));
    return f ? f->value : NULL;
}

#define MAX_FIELDS 256 /* finding one is a walk over all */

/* A place for one more; NULL: none. */
static info_field *new_field(infotext *x)
{
    if (x->n == MAX_FIELDS) {
        x->many = true;
        return NULL;
    }
    if (x->n == x->room) {
        int room = x->room ? 2 * x->room : 32;
        info_field *more = realloc(x->field, (size_t)room * sizeof *more);
        if (!more) {
            x->failed = true;
            return NULL;
        }
        x->field = more;
        x->room = room;
    }
    x->field[x->n] = (info_field){0};
    return &x->field[x->n];
}

/* A field is changed or added as a whole, or not. */
static void set(infotext *x, span key, span value, const char *note)
{
    info_field *there = find(x, key.at, key.n), *f = there ? there : new_field(x);
    info_field made = {there ? NULL : strndup(key.at, key.n), strndup(value.at, value.n), dc_strdup(note)};
    bool good = f && made.value && (there || made.key) && (!note || made.note);
    if (good) {
        if (there) made.key = there->key;
        else x->n++;
        free(f->value);
        free(f->note);
        *f = made;
        return;
    }
    x->failed |= f != NULL;
    free(made.key);
    free(made.value);
    free(made.note);
}

void info_set(infotext *x, const char *key, const char *value, const char *note)
{
    set(x, (span){key, strlen(key)}, (span){value, strlen(value)}, note);
}

void info_setf(infotext *x, const char *key, const char *format, ...)
{
    char value[256];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    info_set(x, key, value, NULL);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* A1111's expression, \s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$), from *at on, in linear time: where a run of key characters is not
 * followed by a colon, no part of it is. */
static bool next_pair(span line, size_t *at, span *key, span *value)
{
    for (size_t i = *at; i < line.n;) {
        uint32_t c;
        size_t begin = i, length = 0;
        int k = dc_utf8_decode(line.at + i, line.n - i, &c);
        if (!is_word(c)) {
            i += (size_t)k;
            continue;
        }
        for (; i < line.n; i += (size_t)k, length++) {
            k = dc_utf8_decode(line.at + i, line.n - i, &c);
            if (!is_word(c) && c != ' ' && c != '-' && c != '/') break;
        }
        if (length < 2 || i == line.n || line.at[i] != ':') continue;
        *key = (span){line.at + begin, i - begin};
        span rest = {line.at + i + 1, line.n - i - 1};
        for (; rest.n; rest.at += k, rest.n -= (size_t)k) {
            k = dc_utf8_decode(rest.at, rest.n, &c);
            if (!is_space(c)) break;
        }
        size_t end = 1;
        if (rest.n && *rest.at == '"')
            while (end < rest.n && rest.at[end] != '"') end += rest.at[end] == '\\' ? 2 : 1;
        bool quoted = rest.n && *rest.at == '"' && end > 1 && end < rest.n && (end + 1 == rest.n || rest.at[end + 1] == ',');
        const char *comma = quoted ? rest.at + end + 1 : memchr(rest.at, ',', rest.n);
        *value = (span){rest.at, quoted ? end + 1 : comma ? (size_t)(comma - rest.at) : rest.n};
        *at = (size_t)(value->at + value->n - line.at) + 1;
        return true;
    }
    return false;
}

/* A value in quotes that is a JSON string becomes what it says, in a new string; anything else stays: NULL. */
static char *unquote(infotext *x, span v)
{
    dc_error e = {0};
    json_t *array = NULL;
    char *out = NULL;
    if (v.n < 2 || v.at[0] != '"' || v.at[v.n - 1] != '"') return NULL;
    char *text = dc_format("[%.*s]", (int)v.n, v.at);
    dc_status s = text ? dc_json_parse(&array, "value", text, v.n + 2, &e) : DC_NO_MEMORY;
    bool one = !s && json_array_size(array) == 1 && json_is_string(json_array_get(array, 0));
    if (one) out = dc_strdup(json_string_value(json_array_get(array, 0)));
    x->failed |= s == DC_NO_MEMORY || (one && !out);
    json_decref(array);
    free(text);
    return out;
}

static size_t digits(const char *s) { return strspn(s, "0123456789"); }

static void take_pair(infotext *x, span key, span value)
{
    char name[256], *plain = unquote(x, value), *text = plain ? plain : strndup(value.at, value.n);
    size_t w = text ? digits(text) : 0, h = w && text[w] == 'x' ? digits(text + w + 1) : 0;
    x->failed |= !text;
    if (text && h && !text[w + 1 + h] && key.n < 250) {
        snprintf(name, sizeof name, "%.*s-1", (int)key.n, key.at);
        set(x, (span){name, key.n + 2}, (span){text, w}, NULL);
        name[key.n + 1] = '2';
        set(x, (span){name, key.n + 2}, (span){text + w + 1, h}, NULL);
    } else if (text) {
        char **prompt = is(key, "Prompt") ? &x->prompt : is(key, "Negative prompt") ? &x->negative : NULL;
        if (prompt) { /* all in one line, from elsewhere; A1111 takes them too */
            free(*prompt);
            *prompt = text;
            return;
        }
        set(x, key, (span){text, strlen(text)}, NULL);
    }
    free(text);
}

static int count_pairs(span line, int most)
{
    span key, value;
    size_t at = 0;
    int n = 0;
    while (n < most && next_pair(line, &at, &key, &value)) n++;
    return n;
}

/* The lines above the fields: the prompt, and from "Negative prompt:" on the negative one. Each is stripped. */
static void read_prompts(infotext *x, span text)
{
    static const char mark[] = "Negative prompt:";
    dc_text part[2] = {{0}, {0}};
    int k = 0;
    while (text.n) {
        const char *end = memchr(text.at, '\n', text.n);
        size_t n = end ? (size_t)(end - text.at) : text.n;
        span line = strip((span){text.at, n});
        text.at += n + (end != NULL), text.n -= n + (end != NULL);
        if (begins(line, mark)) {
            k = 1;
            line = strip((span){line.at + sizeof mark - 1, line.n - (sizeof mark - 1)});
        }
        if (part[k].length) dc_text_append(&part[k], "\n", 1);
        dc_text_append(&part[k], line.at, line.n);
    }
    for (int i = 0; i < 2; i++) {
        span s = part[i].at ? strip((span){part[i].at, part[i].length}) : (span){"", 0};
        char **to = i ? &x->negative : &x->prompt;
        if (i <= k && !(*to = strndup(s.at, s.n))) x->failed = true;
        x->failed |= part[i].failed;
        dc_text_free(&part[i]);
    }
}

/* ---- stable-diffusion.cpp's dialect ------------------------------------------------------------------------------ */

static const char sdcpp_mark[] = "Version: stable-diffusion.cpp";

/* Its PNG has UTF-8 in a chunk for Latin-1, so what was read has two characters for one. NULL: that is not so. */
static char *undo_latin1(infotext *x, span s)
{
    char *out = malloc(s.n + 1), *p = out;
    bool plain = true;
    for (uint32_t c; out && s.n;) {
        int k = dc_utf8_decode(s.at, s.n, &c);
        s.at += k, s.n -= (size_t)k;
        if (c > 0xff) break;
        plain &= c < 0x80;
        *p++ = (char)c;
    }
    x->failed |= !out;
    if (out) *p = 0;
    if (!out || s.n || plain || !dc_utf8_valid(out, (size_t)(p - out))) {
        free(out);
        return NULL;
    }
    return out;
}

/* A list in brackets has commas without quotes. */
static void take_list(infotext *x, span line, const char *key)
{
    const char *at = memmem(line.at, line.n, key, strlen(key));
    span list = {at ? at + strlen(key) : line.at, at ? (size_t)(line.at + line.n - at) - strlen(key) : 0};
    if (!begins(list, ": [")) return;
    const char *end = memchr(list.at, ']', list.n);
    if (end) set(x, (span){key, strlen(key)}, (span){list.at + 3, (size_t)(end - list.at) - 3}, NULL);
}

/* "euler_a karras" names two things; the JSON that follows the version repeats all. */
static void read_sdcpp(infotext *x, span line)
{
    const char *sampler = info_get(x, "Sampler"), *blank = sampler ? strrchr(sampler, ' ') : NULL;
    take_list(x, line, "Custom Sigmas");
    take_list(x, line, "Skip layers");
    if (blank) {
        char *both = strdup(sampler);
        size_t n = (size_t)(blank - sampler);
        x->failed |= !both;
        if (both) {
            set(x, (span){"Schedule type", 13}, (span){both + n + 1, strlen(both) - n - 1}, NULL);
            set(x, (span){"Sampler", 7}, (span){both, n}, NULL);
        }
        free(both);
    }
    x->source = INFO_SDCPP;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static void read_text(infotext *x, span text)
{
    text = strip(text);
    const char *newline = memrchr(text.at, '\n', text.n);
    size_t above = newline ? (size_t)(newline - text.at) + 1 : 0;
    span line = {text.at + above, text.n - above}, key, value;
    const char *mark = memmem(line.at, line.n, sdcpp_mark, sizeof sdcpp_mark - 1);
    if (mark) line.n = (size_t)(mark - line.at) + sizeof sdcpp_mark - 1;
    bool fields = count_pairs(line, 3) == 3;
    read_prompts(x, fields ? (span){text.at, above} : text);
    for (size_t at = 0; fields && !x->many && next_pair(line, &at, &key, &value);) take_pair(x, key, value);
    const char *version = info_get(x, "Version");
    x->source = version && !strncmp(version, "diffc ", 6) ? INFO_DIFFC : INFO_A1111;
    if (mark && fields) read_sdcpp(x, line);
}

dc_status infotext_read(infotext *x, const char *name, const char *text, size_t n, dc_error *e)
{
    *x = (infotext){0};
    if (n > MAX_TEXT_BYTES) return dc_fail(e, DC_DATA, "%s: parameters: found %zu bytes, expected at most %u", name, n, MAX_TEXT_BYTES);
    if (memchr(text, 0, n) || !dc_utf8_valid(text, n)) return dc_fail(e, DC_DATA, "%s: parameters: found bytes that are not UTF-8 text", name);
    bool sdcpp = memmem(text, n, sdcpp_mark, sizeof sdcpp_mark - 1) != NULL;
    char *again = sdcpp ? undo_latin1(x, (span){text, n}) : NULL;
    read_text(x, again ? (span){again, strlen(again)} : (span){text, n});
    free(again);
    if (x->failed) return dc_fail_memory(e, name, n);
    return x->many ? dc_fail(e, DC_DATA, "%s: parameters: found more than %d fields, expected fewer", name, MAX_FIELDS) : DC_OK;
}

void infotext_free(infotext *x)
{
    for (int i = 0; i < x->n; i++) free(x->field[i].key), free(x->field[i].value), free(x->field[i].note);
    free(x->field);
    free(x->prompt);
    free(x->negative);
    *x = (infotext){0};
}
