/* prompts.c - pictures from a file, or a pipe, of prompts. */
#include "apps/cli/prompts.h"
#include "apps/cli/report.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST_LINE ((ssize_t)1 << 20)

int prompts_open(prompts *p, const char *path)
{
    *p = (prompts){.path = path, .file = !strcmp(path, "-") ? stdin : fopen(path, "rb")};
    return p->file ? 0 : report(DIFFC_NO_INPUT, "", "%s: cannot be read: %s", path, strerror(errno));
}

void prompts_close(prompts *p)
{
    if (p->file && p->file != stdin) fclose(p->file);
    free(p->text);
    *p = (prompts){0};
}

/* Splits a line in place: blanks part words, '...' is literal, in "..." and outside of quotes a backslash takes the next character as it is.
 * Returns the number of words, -1: a quote is not closed, -2: too many. */
static int split(char *line, char **word, int most)
{
    int n = 0;
    for (char *from = line, *to;;) {
        from += strspn(from, " \t\r\n");
        if (!*from) return n;
        if (n == most) return -2;
        word[n++] = to = from;
        for (char quote = 0; *from && (quote || !strchr(" \t\r\n", *from)); from++) {
            if (quote ? *from == quote : *from == '"' || *from == '\'') quote = quote ? 0 : *from;
            else if (*from == '\\' && quote != '\'' && from[1]) *to++ = *++from;
            else *to++ = *from;
            if (quote && !from[1]) return -1;
        }
        bool last = !*from;
        *to = 0;
        if (last) return n;
        from++;
    }
}

static int take_line(prompts *p, settings *out, char *line)
{
    if (*line != '-') {
        size_t n = strlen(line);
        while (n && strchr(" \t\r\n", line[n - 1])) n--;
        line[n] = 0;
        out->prompt = line;
        out->n_words = 0;
        return 0;
    }
    int most = (int)(sizeof p->word / sizeof *p->word), n = split(line, p->word, most);
    if (n == -1) return report(DIFFC_USAGE, "", "%s: found a quote that is not closed, expected its end in the same line", p->where);
    if (n < 0) return report(DIFFC_USAGE, "", "%s: found more than %d words, expected fewer", p->where, most);
    const char *prompt = out->n_words ? out->word[0] : out->prompt; /* of the command line, for lines without */
    out->prompt = NULL;
    int code = options_parse_line(out, p->where, n, p->word);
    if (!out->prompt && !out->n_words) out->prompt = prompt;
    return code;
}

int prompts_next(prompts *p, const settings *base, settings *out, bool *more)
{
    *more = true;
    for (;;) {
        ssize_t n = getline(&p->text, &p->room, p->file);
        if (n < 0) {
            *more = false;
            return ferror(p->file) && !signals_caught() ? report(DIFFC_NO_INPUT, "", "%s: cannot be read: %s", p->path, strerror(errno)) : 0;
        }
        snprintf(p->where, sizeof p->where, "%s:%d", !strcmp(p->path, "-") ? "stdin" : p->path, ++p->line);
        if (n > LONGEST_LINE) return report(DIFFC_USAGE, "", "%s: found a line of %zd bytes, expected at most %zd", p->where, n, LONGEST_LINE);
        if (memchr(p->text, 0, (size_t)n)) return report(DIFFC_USAGE, "", "%s: found a zero byte, expected text", p->where);
        char *line = p->text + strspn(p->text, " \t\r\n");
        if (!*line || *line == '#') continue;
        *out = *base;
        return take_line(p, out, line);
    }
}
