#include "weights/alias.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBERS = 6 };

/* What a name had in the places of its pattern. Numbers are the file's. */
typedef struct match {
    int number[NUMBERS], n;
    const char *rest;
    bool transposed, square;
    int letter, third;
} match;

static bool take_number(const char **name, int *v)
{
    char *end;
    if (**name < '0' || **name > '9') return false;
    long x = strtol(*name, &end, 10);
    if (x < 0 || x > 100000 || end - *name > 6) return false;
    *v = (int)x;
    *name = end;
    return true;
}

/* A number of the name, as `token` means it. */
static bool take(match *m, char token, const char **name, const dc_numbering *n)
{
    int v;
    if (!take_number(name, &v) || m->n + 2 > NUMBERS) return false;
    if (token == '@' || token == '%') {
        const struct dc_block *b = token == '@' ? n->down : n->up;
        if (v >= (token == '@' ? n->n_down : n->n_up)) return false;
        m->number[m->n++] = b[v].level;
        v = b[v].layer;
    }
    v = token == '^' ? n->levels - 1 - v : token == '<' ? v + 1 : v;
    m->number[m->n++] = v;
    return v >= 0;
}

static bool fits(match *m, const char *pattern, const char *name, const dc_numbering *n)
{
    const char *begin = name, *qkv = "qkv", *letter;
    *m = (match){.letter = -1, .third = -1};
    for (; *pattern && *pattern != '*'; pattern++) switch (*pattern) {
        case '#':
        case '@':
        case '%':
        case '^':
        case '<':
            if (!take(m, *pattern, &name, n)) return false;
            break;
        case '~':
            if (*name != '1' && *name != '2') return false;
            name++;
            break;
        case '?':
            if (!*name || !(letter = strchr(qkv, *name))) return false;
            m->letter = (int)(name++ - begin);
            m->third = (int)(letter - qkv);
            break;
        case '\'': m->transposed = true; break;
        case '"': m->square = true; break;
        default:
            if (*name++ != *pattern) return false;
        }
    m->rest = name;
    return *pattern == '*' || !*name;
}

/* The block of a level and a layer (< 0: the last of the level); -1: none. */
static int find_block(const struct dc_block *b, int n, int level, int layer)
{
    while (--n >= 0 && (b[n].level != level || (layer >= 0 && b[n].layer != layer))) {}
    return n;
}

/* The name that the pattern makes of a match; false when it has no such block. */
static bool spell(dc_renaming *to, const char *pattern, const match *m, const dc_numbering *n)
{
    size_t at = 0;
    int i = 0, block = 0;
    for (; *pattern && at < sizeof to->name - 12; pattern++) {
        char *end = to->name + at;
        switch (*pattern) {
        case '#': at += (size_t)snprintf(end, 12, "%d", m->number[i++]); break;
        case '^': at += (size_t)snprintf(end, 12, "%d", n->levels - 1 - m->number[i++]); break;
        case '<': at += (size_t)snprintf(end, 12, "%d", m->number[i++] - 1); break;
        case '@':
        case '%':
            block = *pattern == '@' ? find_block(n->down, n->n_down, m->number[i], i + 1 < m->n ? m->number[i + 1] : -1)
                                    : find_block(n->up, n->n_up, m->number[i], i + 1 < m->n ? m->number[i + 1] : -1);
            if (block < 0) return false;
            at += (size_t)snprintf(end, 12, "%d", block);
            i += 2;
            break;
        case '~': to->name[at++] = n->up[block].attends ? '2' : '1'; break;
        case '?': to->letter = (int)at, to->name[at++] = 'q'; break;
        case '\'': to->transposed = true; break;
        case '"': to->square = true; break;
        case '*': at += (size_t)snprintf(end, sizeof to->name - at, "%s", m->rest); break;
        default: *end = *pattern, at++;
        }
    }
    to->name[at < sizeof to->name ? at : sizeof to->name - 1] = 0;
    return true;
}

bool dc_alias_apply(dc_renaming *to, const dc_alias *rows, bool back, const char *name, const dc_numbering *n)
{
    for (; rows->file; rows++) {
        match m;
        dc_renaming inner;
        if (!fits(&m, back ? rows->ours : rows->file, name, n)) continue;
        *to = (dc_renaming){.transposed = m.transposed, .square = m.square, .letter = m.letter, .third = m.third};
        if (!rows->inside) {
            if (spell(to, back ? rows->file : rows->ours, &m, n)) return true;
            continue;
        }
        if (!dc_alias_apply(&inner, rows->inside, back, m.rest, n)) continue;
        to->transposed |= inner.transposed, to->square |= inner.square;
        const size_t before = (size_t)(m.rest - name);
        m.rest = inner.name;
        if (!spell(to, back ? rows->file : rows->ours, &m, n)) continue;
        if (inner.letter >= 0) { /* of the rest: counted from the beginning of the whole name */
            to->letter = inner.letter + (int)(back ? before : strlen(to->name) - strlen(inner.name));
            to->third = inner.third;
        }
        return true;
    }
    return false;
}
