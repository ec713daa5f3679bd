/* names.c - names of output files from patterns. */
#include "apps/cli/names.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LONGEST_MARK 100

/* The first "%d", "%04d", ...: where it begins, its length and its width; false when there is none. */
static bool find_number(const char *pattern, size_t *at, size_t *length, int *width)
{
    for (const char *p = strchr(pattern, '%'); p; p = strchr(p + 1, '%')) {
        size_t n = strspn(p + 1, "0123456789");
        if (p[n + 1] != 'd' || n > 3) continue;
        *at = (size_t)(p - pattern);
        *length = n + 2;
        *width = atoi(p + 1);
        return true;
    }
    return false;
}

bool name_has_number(const char *pattern)
{
    size_t at, length;
    int width;
    return find_number(pattern, &at, &length, &width);
}

char *name_pattern(const char *output, bool several, bool only_seeds)
{
    if (!several || !strcmp(output, "-") || name_has_number(output) || (only_seeds && strstr(output, "{seed}"))) return strdup(output);
    const char *slash = strrchr(output, '/'), *dot = strrchr(output, '.');
    size_t stem = dot && (!slash || dot > slash) ? (size_t)(dot - output) : strlen(output), room = strlen(output) + 8;
    char *out = malloc(room);
    if (out) snprintf(out, room, "%.*s-%%04d%s", (int)stem, output, output + stem);
    return out;
}

/* `text` as part of a file's name; cut at a whole character. */
static void safe(char out[LONGEST_MARK + 1], const char *text)
{
    size_t n = strlen(text);
    if (n > LONGEST_MARK)
        for (n = LONGEST_MARK; n && ((unsigned char)text[n] & 0xC0) == 0x80;) n--;
    for (size_t i = 0; i < n; i++) out[i] = text[i] == '/' || (unsigned char)text[i] < 32 || text[i] == 127 ? '_' : text[i];
    if (n && out[0] == '.') out[0] = '_'; /* neither hidden nor ".." */
    out[n] = 0;
}

/* What the mark `name` (n bytes) stands for; false: not a mark of ours, left as it is. */
static bool mark_value(char out[LONGEST_MARK + 1], const char *name, size_t n, const diffc_result *r)
{
    char number[8][32], day[16], hour[16];
    time_t t = time(NULL);
    struct tm now;
    localtime_r(&t, &now);
    strftime(day, sizeof day, "%Y-%m-%d", &now);
    strftime(hour, sizeof hour, "%H-%M-%S", &now);
    snprintf(number[0], sizeof *number, "%llu", (unsigned long long)r->seed);
    snprintf(number[1], sizeof *number, "%d", r->steps);
    snprintf(number[2], sizeof *number, "%.6g", r->guidance);
    snprintf(number[3], sizeof *number, "%d", r->image ? r->image->width : 0);
    snprintf(number[4], sizeof *number, "%d", r->image ? r->image->height : 0);
    const struct {
        const char *name, *value;
    } marks[] = {{"seed", number[0]}, {"steps", number[1]},  {"cfg", number[2]},      {"width", number[3]}, {"height", number[4]},    {"date", day},
                 {"time", hour},      {"prompt", r->prompt}, {"sampler", r->sampler}, {"model", r->model},  {"schedule", r->schedule}};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (strlen(marks[i].name) == n && !memcmp(marks[i].name, name, n)) {
            safe(out, marks[i].value ? marks[i].value : "");
            return true;
        }
    return false;
}

char *name_make(const char *pattern, long number, const diffc_result *r)
{
    size_t at = 0, length = 0;
    int width = 0;
    bool counted = number >= 0 && find_number(pattern, &at, &length, &width);
    size_t marks = 0;
    for (const char *p = pattern; *p; p++) marks += *p == '{';
    size_t room = strlen(pattern) + 32 + marks * LONGEST_MARK, k = 0;
    char *out = malloc(room);
    for (const char *p = pattern; out && *p;) {
        char value[LONGEST_MARK + 1];
        size_t n = *p == '{' ? strcspn(p + 1, "{}") : 0;
        if (counted && p == pattern + at) {
            k += (size_t)snprintf(out + k, room - k, "%0*ld", width > 20 ? 20 : width, number);
            p += length;
        } else if (n && p[n + 1] == '}' && mark_value(value, p + 1, n, r)) {
            k += (size_t)snprintf(out + k, room - k, "%s", value);
            p += n + 2;
        } else {
            out[k++] = *p++;
        }
    }
    if (out) out[k] = 0;
    return out;
}
