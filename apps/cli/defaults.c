/* defaults.c - the user's file of defaults. */
#include "apps/cli/defaults.h"
#include "apps/cli/report.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST_TEXT ((size_t)1 << 20)

int text_read(char **out, const char *path)
{
    bool in = !strcmp(path, "-");
    FILE *f = in ? stdin : fopen(path, "rb");
    if (!f) return report(DIFFC_NO_INPUT, "", "%s: cannot be read: %s", path, strerror(errno));
    *out = malloc(LONGEST_TEXT + 1);
    size_t n = *out ? fread(*out, 1, LONGEST_TEXT + 1, f) : 0;
    int code = 0;
    if (!*out) code = report(DIFFC_NO_MEMORY, "", "%s: out of memory", path);
    else if (ferror(f)) code = report(DIFFC_NO_INPUT, "", "%s: cannot be read: %s", path, strerror(errno));
    else if (n > LONGEST_TEXT) code = report(DIFFC_DATA, "", "%s: found more than %zu bytes, expected a text of at most that", path, LONGEST_TEXT);
    else if (memchr(*out, 0, n)) code = report(DIFFC_DATA, "", "%s: found a zero byte, expected text", path);
    if (!in) fclose(f);
    if (code) {
        free(*out);
        *out = NULL;
        return code;
    }
    (*out)[n] = 0;
    char *fitting = realloc(*out, n + 1);
    if (fitting) *out = fitting;
    return 0;
}

char *defaults_path(void)
{
    const char *named = getenv("DIFFC_CONFIG"), *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    char *path = NULL;
    if (named) return *named ? strdup(named) : NULL;
    if (xdg && xdg[0] == '/') return asprintf(&path, "%s/diffc/config", xdg) < 0 ? NULL : path; /* others are to be ignored, says XDG */
    if (home && *home) return asprintf(&path, "%s/.config/diffc/config", home) < 0 ? NULL : path;
    return NULL;
}

/* Without blanks at both ends; in place. */
static char *trimmed(char *s)
{
    s += strspn(s, " \t\r");
    size_t n = strlen(s);
    while (n && strchr(" \t\r", s[n - 1])) n--;
    s[n] = 0;
    return s;
}

/* One line; *applies tells whether the section it is in is for s->command. */
static int take_line(settings *s, const command *commands, int n_commands, const char *where, char *line, bool *applies)
{
    line = trimmed(line);
    size_t n = strlen(line);
    if (!n || *line == '#' || *line == ';') return 0;
    if (*line == '[' && line[n - 1] == ']') {
        line[n - 1] = 0;
        const char *name = trimmed(line + 1);
        *applies = !strcmp(name, s->command->name);
        for (int i = 0; i < n_commands; i++)
            if (!strcmp(commands[i].name, name)) return 0;
        return report(DIFFC_DATA, "", "%s: found [%s], expected the name of a command", where, name);
    }
    char *equals = strchr(line, '=');
    if (!equals) return report(DIFFC_DATA, "", "%s: found \"%s\", expected \"name = value\"", where, line);
    *equals = 0;
    char *value = trimmed(equals + 1);
    n = strlen(value);
    if (n > 1 && value[0] == '"' && value[n - 1] == '"') {
        value[n - 1] = 0;
        value++;
    }
    return *applies ? options_default(s, where, trimmed(line), value) : 0;
}

int defaults_read(settings *s, const command *commands, int n_commands)
{
    char *path = defaults_path();
    FILE *there = path ? fopen(path, "rb") : NULL;
    if (there) fclose(there);
    if (!path || (!there && !getenv("DIFFC_CONFIG"))) {
        free(path);
        return 0;
    }
    int code = text_read(&s->defaults, path), number = 1;
    bool applies = true;
    for (char *line = s->defaults; !code && line; number++) {
        char *end = strchr(line, '\n'), where[1100];
        if (end) *end = 0;
        snprintf(where, sizeof where, "%s:%d", path, number);
        code = take_line(s, commands, n_commands, where, line, &applies);
        line = end ? end + 1 : NULL;
    }
    free(path);
    return code;
}
