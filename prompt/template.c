/* template.c - braces and wildcards to one of the texts they stand for. */
#include "prompt/template.h"
#include "base/checked.h"
#include "base/text.h"
#include "prompt/scan.h"
#include "prompt/wildcards.h"
#include "scheduler/rng.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { DEEP = 32, MOST_OPTIONS = 4096, MOST_CHOICES = 1024, MOST_BYTES = 64 * 1024, ALL = -1 };

typedef struct expansion {
    const char *folder;
    dc_rng rng;
    int choices; /* made up to now */
    dc_error *e;
} expansion;

typedef struct piece {
    const char *at;
    size_t n;
} piece;

typedef struct option {
    piece text;
    double weight;
} option;

/* What is between two braces. */
typedef struct variant {
    option *option;
    int n;
    long low, high;
    piece separator;
} variant;

static dc_status expand(expansion *x, piece text, int depth, dc_text *out); /* DEEP levels at most */

/* ---- reading ------------------------------------------------------------------------------------------------------- */

static bool escaped(piece p, size_t i) { return p.at[i] == '\\' && i + 1 < p.n && (p.at[i + 1] == '{' || p.at[i + 1] == '}'); }

/* Bytes up to and with the brace that closes the one at p.at[i]; 0: none does; TOO_DEEP. */
#define TOO_DEEP SIZE_MAX
static size_t braces(piece p, size_t i)
{
    size_t from = i, depth = 0;
    for (; i < p.n; i++) {
        if (escaped(p, i)) i++;
        else if (p.at[i] == '{' && ++depth > DEEP) return TOO_DEEP; /* which also keeps the work in all linear */
        else if (p.at[i] == '}' && --depth == 0) return i + 1 - from;
    }
    return 0;
}

/* Bytes of "__name__" at p.at[i], 0 when it is none. */
static size_t wildcard_length(piece p, size_t i)
{
    if (i + 4 >= p.n || p.at[i] != '_' || p.at[i + 1] != '_') return 0;
    const char *end = memmem(p.at + i + 2, p.n - i - 2, "__", 2);
    return end && end > p.at + i + 2 ? (size_t)(end + 2 - p.at) - i : 0;
}

static piece without(piece p, size_t n) { return (piece){p.at + n, p.n - n}; }
static piece without_blanks(piece p) { return without(p, scan_space(p.at, p.n)); }

static size_t digits(piece p, long *value)
{
    size_t i = 0;
    for (*value = 0; i < p.n && isdigit((unsigned char)p.at[i]); i++)
        if (*value < 1000000) *value = *value * 10 + (p.at[i] - '0');
    return i;
}

static bool is_at(piece p, const char *s) { return p.n >= 2 && !memcmp(p.at, s, 2); }

/* "2$$", "1-3$$", "-3$$", "1-$$", and " and $$" behind it. */
static piece read_bounds(piece p, variant *v)
{
    piece q = p;
    long low, high;
    size_t first = digits(q, &low);
    q = without(q, first);
    bool range = q.n && *q.at == '-';
    if (range) q = without(q, 1);
    size_t second = range ? digits(q, &high) : 0;
    q = without(q, second);
    if ((!first && !second) || !is_at(q, "$$")) return p;
    q = without(q, 2);
    v->low = first ? low : 1;
    v->high = !range ? low : second ? high : ALL;
    size_t n = 0;
    while (n < q.n && q.at[n] >= ' ' && q.at[n] <= '~' && !strchr("${}", q.at[n])) n++;
    if (n && is_at(without(q, n), "$$")) {
        v->separator = (piece){q.at, n};
        q = without(q, n + 2);
    }
    return q;
}

/* "0.5::" */
static option read_option(piece p)
{
    p = without_blanks(p);
    option o = {p, 1};
    const char *colons = memmem(p.at, p.n, "::", 2);
    if (!colons) return o;
    size_t n = (size_t)(colons - p.at);
    bool plain = n > 0;
    for (size_t i = 0; i < n; i++) plain = plain && (isdigit((unsigned char)p.at[i]) || p.at[i] == '.' || (!i && n > 1 && strchr("+-", *p.at)));
    if (plain && scan_number(p.at, n, false, &o.weight)) o.text = without(p, n + 2);
    return o;
}

static dc_status add_option(expansion *x, variant *v, piece p)
{
    if (v->n == MOST_OPTIONS) return dc_fail(x->e, DC_USAGE, "prompt: braces: found more than %d choices, expected fewer", MOST_OPTIONS);
    if (!(v->n & (v->n - 1))) {
        option *more = realloc(v->option, sizeof *more * (v->n ? 2 * (size_t)v->n : 1));
        if (!more) return dc_fail_memory(x->e, "a prompt's choices", (unsigned long long)v->n * sizeof *more);
        v->option = more;
    }
    v->option[v->n++] = read_option(p);
    return DC_OK;
}

/* p: what is between the braces. */
static dc_status read_variant(expansion *x, piece p, variant *v)
{
    *v = (variant){.low = 1, .high = 1, .separator = {",", 1}};
    p = without_blanks(p);
    if (p.n && (*p.at == '~' || *p.at == '!')) p = without(p, 1);
    p = without_blanks(read_bounds(p, v));
    dc_status s = DC_OK;
    size_t from = 0;
    for (size_t i = 0; !s && i < p.n; i++) {
        size_t inner = p.at[i] == '{' ? braces(p, i) : 0;
        if (escaped(p, i)) i++;
        else if (inner) i += inner - 1;
        else if (p.at[i] == '|') s = add_option(x, v, (piece){p.at + from, i - from}), from = i + 1;
    }
    if (!s) s = add_option(x, v, (piece){p.at + from, p.n - from});
    if (v->high == ALL) v->high = v->n;
    if (v->low > v->high) {
        long held = v->low;
        v->low = v->high;
        v->high = held;
    }
    return s;
}

/* ---- choosing -------------------------------------------------------------------------------------------------------------- */

/* random.choices(options, weights)[0] */
static dc_status choose(expansion *x, const double *weight, int n, int *chosen)
{
    double total = 0, sum = 0;
    for (int i = 0; i < n; i++) total += weight[i];
    if (!(total > 0)) return dc_fail(x->e, DC_USAGE, "prompt: braces: weights: found a sum of %g, expected one above 0", total);
    double at = dc_rng_python_random(&x->rng) * total;
    for (*chosen = 0; *chosen < n - 1; ++*chosen)
        if (at < (sum += weight[*chosen])) break;
    return DC_OK;
}

/* Several different ones. TRAP: as the reference does, an option takes along the first weight that is equal to its own, and of equal options
 * the first one goes. */
static dc_status choose_several(expansion *x, const variant *v, long count, piece *taken)
{
    double *weight = dc_calloc((size_t)v->n, sizeof *weight);
    piece *left = dc_calloc((size_t)v->n, sizeof *left);
    dc_status s = weight && left ? DC_OK : dc_fail_memory(x->e, "a prompt's choices", 0);
    int n = v->n, chosen = 0;
    for (int i = 0; !s && i < n; i++) left[i] = v->option[i].text, weight[i] = v->option[i].weight;
    for (long k = 0; !s && k < count; k++) {
        if ((s = choose(x, weight, n, &chosen)) != DC_OK) break;
        taken[k] = left[chosen];
        int first = 0, same = 0;
        while (left[first].n != taken[k].n || memcmp(left[first].at, taken[k].at, taken[k].n)) first++;
        while (weight[same] != weight[first]) same++;
        n--;
        memmove(weight + same, weight + same + 1, sizeof *weight * (size_t)(n - same));
        memmove(left + first, left + first + 1, sizeof *left * (size_t)(n - first));
    }
    free(weight);
    free(left);
    return s;
}

/* The texts joined; of several, one separator at the beginning and the end of the whole goes. */
static dc_status join(expansion *x, const variant *v, const piece *taken, long count, int depth, dc_text *out)
{
    dc_text all = {0};
    dc_status s = DC_OK;
    for (long k = 0; !s && k < count; k++) {
        if (k) dc_text_append(&all, v->separator.at, v->separator.n);
        s = expand(x, taken[k], depth + 1, &all);
    }
    if (!s && all.failed) s = dc_fail_memory(x->e, "a prompt", all.length);
    piece p = {all.at, all.length}, sep = v->separator;
    if (count > 1 && p.n >= sep.n && !memcmp(p.at, sep.at, sep.n)) p = without(p, sep.n);
    if (count > 1 && p.n >= sep.n && !memcmp(p.at + p.n - sep.n, sep.at, sep.n)) p.n -= sep.n;
    if (!s && p.n) dc_text_append(out, p.at, p.n);
    dc_text_free(&all);
    return s;
}

static dc_status pick(expansion *x, const variant *v, int depth, dc_text *out)
{
    if (v->n == 1) return expand(x, v->option[0].text, depth + 1, out);
    long low = v->low < v->n ? v->low : v->n, high = v->high < v->n ? v->high : v->n;
    long count = low + (long)dc_rng_python_below(&x->rng, (uint32_t)(high - low + 1));
    piece *taken = dc_calloc((size_t)count + 1, sizeof *taken);
    dc_status s = taken ? choose_several(x, v, count, taken) : dc_fail_memory(x->e, "a prompt's choices", 0);
    if (!s) s = join(x, v, taken, count, depth, out);
    free(taken);
    return s;
}

/* ---- wildcards ------------------------------------------------------------------------------------------------------------------ */

/* The lines of "__name__"; *name: as it came out, for the caller to free. */
static dc_status wildcard(expansion *x, piece p, int depth, wildcard_lines *lines, char **name)
{
    dc_text text = {0};
    piece inner = {p.at + 2, p.n - 4};
    if (inner.n > 1 && strchr("~!", *inner.at)) inner = without(inner, 1);
    dc_status s = expand(x, inner, depth + 1, &text);
    if (!s && (text.failed || !text.at)) s = dc_fail_memory(x->e, "a wildcard", inner.n);
    if (!s) s = wildcard_read(lines, x->folder, text.at, x->e);
    if (!s && !lines->n)
        s = dc_fail(x->e, DC_NO_INPUT, "%s: wildcard __%s__: found no file %s.txt with lines in it, expected one", x->folder, text.at, text.at);
    *name = text.at;
    return s;
}

/* {2$$__name__}: each line is an option. */
static dc_status pick_lines(expansion *x, variant *v, int depth, dc_text *out)
{
    wildcard_lines lines = {0};
    char *name = NULL;
    piece p = v->option[0].text;
    variant of_lines = {.low = v->low, .high = v->high, .separator = v->separator};
    dc_status s = wildcard(x, p, depth, &lines, &name);
    if (!s && lines.n > MOST_OPTIONS) s = dc_fail(x->e, DC_USAGE, "prompt: braces: found more than %d choices, expected fewer", MOST_OPTIONS);
    if (!s && !(of_lines.option = dc_calloc((size_t)lines.n, sizeof *of_lines.option))) s = dc_fail_memory(x->e, "a prompt's choices", 0);
    for (int i = 0; !s && i < lines.n; i++) of_lines.option[of_lines.n++] = (option){{lines.line[i], strlen(lines.line[i])}, 1};
    if (!s) s = pick(x, &of_lines, depth, out);
    free(of_lines.option);
    wildcard_free(&lines);
    free(name);
    return s;
}

static dc_status one_line(expansion *x, piece p, int depth, dc_text *out)
{
    wildcard_lines lines = {0};
    char *name = NULL;
    dc_status s = wildcard(x, p, depth, &lines, &name);
    if (!s) {
        const char *line = lines.line[dc_rng_python_below(&x->rng, (uint32_t)lines.n)];
        s = expand(x, (piece){line, strlen(line)}, depth + 1, out);
    }
    wildcard_free(&lines);
    free(name);
    return s;
}

/* ---- the text ------------------------------------------------------------------------------------------------------------------------- */

static dc_status expand_braces(expansion *x, piece inner, int depth, dc_text *out)
{
    variant v;
    dc_status s = read_variant(x, inner, &v);
    if (!s && v.n == 1 && x->folder && v.option[0].text.n && wildcard_length(v.option[0].text, 0) == v.option[0].text.n)
        s = pick_lines(x, &v, depth, out);
    else if (!s) s = pick(x, &v, depth, out);
    free(v.option);
    return s;
}

static dc_status too_deep(expansion *x)
{
    return dc_fail(x->e, DC_USAGE, "prompt: found braces and wildcards nested deeper than %d, expected less", DEEP);
}

static dc_status expand(expansion *x, piece p, int depth, dc_text *out)
{
    if (depth > DEEP) return too_deep(x);
    dc_status s = DC_OK;
    for (size_t i = 0, used; !s && i < p.n; i += used) {
        size_t inner = p.at[i] == '{' ? braces(p, i) : 0, name = x->folder ? wildcard_length(p, i) : 0;
        used = 1;
        if (inner == TOO_DEEP) return too_deep(x);
        if (inner || name) {
            used = inner ? inner : name;
            if (++x->choices > MOST_CHOICES)
                return dc_fail(x->e, DC_USAGE, "prompt: found more than %d choices to make, expected fewer", MOST_CHOICES);
            s = inner ? expand_braces(x, (piece){p.at + i + 1, inner - 2}, depth, out) : one_line(x, (piece){p.at + i, name}, depth, out);
        } else if (escaped(p, i)) {
            used = 2;
            dc_text_append(out, p.at + i + 1, 1);
        } else {
            while (i + used < p.n && !strchr("{_\\", p.at[i + used])) used++;
            dc_text_append(out, p.at + i, used);
        }
        if (!s && out->length > MOST_BYTES)
            s = dc_fail(x->e, DC_USAGE, "prompt: braces: found more than %d bytes behind them, expected fewer", MOST_BYTES);
    }
    return s;
}

bool dc_prompt_is_template(const char *text)
{
    const piece p = {text, strlen(text)};
    for (size_t i = 0; i < p.n; i++) {
        if (escaped(p, i) || wildcard_length(p, i)) return true;
        if (p.at[i] == '{' && braces(p, i)) return true;
    }
    return false;
}

dc_status dc_prompt_expand(char **out, const char *text, const char *folder, uint64_t seed, dc_error *e)
{
    expansion *x = dc_calloc(1, sizeof *x);
    dc_text made = {0};
    *out = NULL;
    if (!x) return dc_fail_memory(e, "a prompt", sizeof *x);
    *x = (expansion){.folder = folder, .e = e};
    dc_rng_seed_python(&x->rng, seed);
    dc_status s = expand(x, (piece){text, strlen(text)}, 0, &made);
    dc_text_append(&made, "", 0);
    if (!s && (made.failed || !made.at)) s = dc_fail_memory(e, "a prompt", made.length);
    if (s) dc_text_free(&made);
    *out = made.at;
    free(x);
    return s;
}
