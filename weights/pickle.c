/* pickle.c - the machine: opcodes in, descriptions out. */
#include "weights/pickle.h"
#include "base/checked.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AT_BITS = 26, SPARE = 12 << 20, FIRST_READ = 64 << 10 };
#define AT_MASK ((1u << AT_BITS) - 1) /* every byte of the largest pickle has a number that fits, and every word that it can pay for */
#define UNSET   UINT32_MAX

static dc_value value(dc_pickle_kind kind, uint64_t at) { return (uint32_t)kind << AT_BITS | (uint32_t)at; }
static uint32_t at_of(dc_value v) { return v & AT_MASK; }
dc_pickle_kind dc_pickle_kind_of(dc_value v) { return (dc_pickle_kind)(v >> AT_BITS); }
static bool is_kind(dc_value v, dc_pickle_kind kind) { return dc_pickle_kind_of(v) == kind; }

/* ---- globals ------------------------------------------------------------------------------------------------------- */

static const dc_global globals[] = {
    {"collections", "OrderedDict", DC_GLOBAL_DICT, 0},
    {"torch", "Size", DC_GLOBAL_SIZE, 0},
    {"torch._utils", "_rebuild_tensor", DC_GLOBAL_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor_v2", DC_GLOBAL_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor_v3", DC_GLOBAL_TYPED_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter", DC_GLOBAL_PARAMETER, 0},
    {"torch._utils", "_rebuild_parameter_with_state", DC_GLOBAL_PARAMETER, 0},
    {"torch._tensor", "_rebuild_from_type_v2", DC_GLOBAL_SUBCLASS, 0},
    {"torch", "DoubleStorage", DC_GLOBAL_STORAGE, DC_F64},
    {"torch", "FloatStorage", DC_GLOBAL_STORAGE, DC_F32},
    {"torch", "HalfStorage", DC_GLOBAL_STORAGE, DC_F16},
    {"torch", "BFloat16Storage", DC_GLOBAL_STORAGE, DC_BF16},
    {"torch", "LongStorage", DC_GLOBAL_STORAGE, DC_I64},
    {"torch", "IntStorage", DC_GLOBAL_STORAGE, DC_I32},
    {"torch", "ShortStorage", DC_GLOBAL_STORAGE, DC_I16},
    {"torch", "CharStorage", DC_GLOBAL_STORAGE, DC_I8},
    {"torch", "ByteStorage", DC_GLOBAL_STORAGE, DC_U8},
    {"torch", "BoolStorage", DC_GLOBAL_STORAGE, DC_BOOL},
    {"torch", "ComplexFloatStorage", DC_GLOBAL_STORAGE, DC_DTYPES},
    {"torch", "ComplexDoubleStorage", DC_GLOBAL_STORAGE, DC_DTYPES},
    {"torch.storage", "UntypedStorage", DC_GLOBAL_STORAGE, DC_U8},
    {"torch", "float64", DC_GLOBAL_DTYPE, DC_F64},
    {"torch", "float32", DC_GLOBAL_DTYPE, DC_F32},
    {"torch", "float16", DC_GLOBAL_DTYPE, DC_F16},
    {"torch", "bfloat16", DC_GLOBAL_DTYPE, DC_BF16},
    {"torch", "float8_e4m3fn", DC_GLOBAL_DTYPE, DC_F8_E4M3},
    {"torch", "float8_e5m2", DC_GLOBAL_DTYPE, DC_F8_E5M2},
    {"torch", "int64", DC_GLOBAL_DTYPE, DC_I64},
    {"torch", "int32", DC_GLOBAL_DTYPE, DC_I32},
    {"torch", "int16", DC_GLOBAL_DTYPE, DC_I16},
    {"torch", "int8", DC_GLOBAL_DTYPE, DC_I8},
    {"torch", "uint8", DC_GLOBAL_DTYPE, DC_U8},
    {"torch", "bool", DC_GLOBAL_DTYPE, DC_BOOL},
    {"torch", "uint16", DC_GLOBAL_DTYPE, DC_DTYPES},
    {"torch", "uint32", DC_GLOBAL_DTYPE, DC_DTYPES},
    {"torch", "uint64", DC_GLOBAL_DTYPE, DC_DTYPES},
    {"torch", "float8_e4m3fnuz", DC_GLOBAL_DTYPE, DC_DTYPES},
    {"torch", "float8_e5m2fnuz", DC_GLOBAL_DTYPE, DC_DTYPES},
};

const dc_global *dc_pickle_global(dc_value v) { return is_kind(v, DC_PICKLE_GLOBAL) ? &globals[at_of(v)] : NULL; }

/* ---- opcodes ----------------------------------------------------------------------------------------------------------- */

/* What follows an opcode: nothing, a fixed number of bytes, one or two lines, or a length of 1, 4 or 8 bytes and as many bytes. */
enum argument { UNKNOWN, PLAIN, BYTE1, BYTE2, BYTE4, BYTE8, LINE, LINES, COUNT1, COUNT4, COUNT8 };

static const uint8_t argument_of[256] = {
    ['F'] = LINE,    ['G'] = BYTE8,  ['I'] = LINE,    ['J'] = BYTE4,   ['K'] = BYTE1,  ['L'] = LINE,   ['M'] = BYTE2,   [0x8a] = COUNT1,
    [0x8b] = COUNT4, ['S'] = LINE,   ['T'] = COUNT4,  ['U'] = COUNT1,  ['V'] = LINE,   ['X'] = COUNT4, [0x8c] = COUNT1, [0x8d] = COUNT8,
    ['B'] = COUNT4,  ['C'] = COUNT1, [0x8e] = COUNT8, [0x96] = COUNT8, ['('] = PLAIN,  ['.'] = PLAIN,  ['0'] = PLAIN,   ['1'] = PLAIN,
    ['2'] = PLAIN,   [0x80] = BYTE1, [0x95] = BYTE8,  ['p'] = LINE,    ['q'] = BYTE1,  ['r'] = BYTE4,  [0x94] = PLAIN,  ['g'] = LINE,
    ['h'] = BYTE1,   ['j'] = BYTE4,  ['N'] = PLAIN,   [0x88] = PLAIN,  [0x89] = PLAIN, [')'] = PLAIN,  ['t'] = PLAIN,   [0x85] = PLAIN,
    [0x86] = PLAIN,  [0x87] = PLAIN, [']'] = PLAIN,   ['l'] = PLAIN,   ['a'] = PLAIN,  ['e'] = PLAIN,  ['}'] = PLAIN,   ['d'] = PLAIN,
    ['s'] = PLAIN,   ['u'] = PLAIN,  [0x8f] = PLAIN,  [0x90] = PLAIN,  [0x91] = PLAIN, ['c'] = LINES,  [0x93] = PLAIN,  ['i'] = LINES,
    ['o'] = PLAIN,   ['R'] = PLAIN,  [0x81] = PLAIN,  [0x92] = PLAIN,  ['b'] = PLAIN,  ['P'] = LINE,   ['Q'] = PLAIN,   [0x82] = BYTE1,
    [0x83] = BYTE2,  [0x84] = BYTE4,
};

/* The kind of what an opcode pushes that stands for itself; NONE: it does something else. */
static dc_pickle_kind atom_of(uint8_t op)
{
    static const struct {
        const char *opcodes;
        dc_pickle_kind kind;
    } atoms[] = {
        {"KJMIL\x8a\x8b", DC_PICKLE_INT},  /* BININT1, BININT, BININT2, INT, LONG, LONG1, LONG4 */
        {"X\x8cUTVS\x8d", DC_PICKLE_TEXT}, /* BINUNICODE, SHORT_BINUNICODE, SHORT_BINSTRING, BINSTRING, UNICODE, STRING, BINUNICODE8 */
        {"GF", DC_PICKLE_FLOAT},           /* BINFLOAT, FLOAT */
        {"BC\x8e\x96", DC_PICKLE_BYTES},   /* BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8 */
    };
    for (size_t i = 0; i < sizeof atoms / sizeof *atoms; i++)
        if (strchr(atoms[i].opcodes, op)) return atoms[i].kind;
    return DC_PICKLE_NONE;
}

static uint64_t number(const char *at, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;) v = v << 8 | (uint8_t)at[i];
    return v;
}

/* A counted argument's length; a negative one of LONG4 or BINSTRING is then beyond any pickle. */
static uint64_t count_at(const char *at, enum argument a) { return number(at, a == COUNT1 ? 1 : a == COUNT4 ? 4 : 8); }
static uint64_t count_bytes(enum argument a) { return a == COUNT1 ? 1 : a == COUNT4 ? 4 : 8; }

/* The bytes of an atom, behind its opcode and length; without the newline of a line. */
static const char *payload(const dc_pickle *p, uint32_t at, size_t *n)
{
    const char *x = p->text + at + 1;
    enum argument a = argument_of[(uint8_t)x[-1]];
    switch (a) {
    case BYTE1: *n = 1; return x;
    case BYTE2: *n = 2; return x;
    case BYTE4: *n = 4; return x;
    case BYTE8: *n = 8; return x;
    case COUNT1:
    case COUNT4:
    case COUNT8: *n = count_at(x, a); return x + count_bytes(a);
    default: *n = (size_t)((const char *)memchr(x, '\n', p->have - at - 1) - x); return x;
    }
}

bool dc_pickle_is_true(dc_value v) { return v == value(DC_PICKLE_BOOL, 1); }

bool dc_pickle_int(const dc_pickle *p, dc_value v, int64_t *out)
{
    if (!is_kind(v, DC_PICKLE_INT)) return false;
    size_t n;
    const char *at = payload(p, at_of(v), &n);
    char op = p->text[at_of(v)], line[24], *end;
    if (op == 'I' || op == 'L') {
        n -= n && at[n - 1] == 'L';
        if (!n || n >= sizeof line) return false;
        memcpy(line, at, n);
        line[n] = 0;
        errno = 0;
        *out = strtoll(line, &end, 10);
        return !*end && !errno;
    }
    if (n > 8) return false;
    uint64_t x = number(at, (int)n);
    bool negative = n && op != 'K' && op != 'M' && at[n - 1] & 0x80;
    if (negative && n < 8) x |= UINT64_MAX << 8 * n;
    *out = (int64_t)x;
    return true;
}

bool dc_pickle_text(const dc_pickle *p, dc_value v, const char **at, size_t *n)
{
    if (!is_kind(v, DC_PICKLE_TEXT)) return false;
    *at = payload(p, at_of(v), n);
    char op = p->text[at_of(v)];
    if (op == 'S') { /* in quotes */
        if (*n < 2 || (**at != '\'' && **at != '"') || (*at)[*n - 1] != **at) return false;
        ++*at, *n -= 2;
    }
    return (op != 'S' && op != 'V') || !memchr(*at, '\\', *n);
}

bool dc_pickle_is_long(const dc_pickle *p, dc_value v, const char *bytes, size_t n)
{
    size_t have = 0;
    const char *at = is_kind(v, DC_PICKLE_INT) ? payload(p, at_of(v), &have) : NULL;
    return have == n && !memcmp(at, bytes, n);
}

bool dc_pickle_is(const dc_pickle *p, dc_value v, const char *text)
{
    const char *at;
    size_t n;
    return dc_pickle_text(p, v, &at, &n) && n == strlen(text) && !memcmp(at, text, n);
}

/* ---- what is built ------------------------------------------------------------------------------------------------------- */

static dc_status bad(dc_pickle *p, const char *found, const char *expected)
{
    if (p->at >= p->have)
        return dc_fail(p->e, DC_DATA, "%s: %s, byte %llu: found %s, expected %s", p->path, p->part, (unsigned long long)(p->origin + p->at), found,
                       expected);
    return dc_fail(p->e, DC_DATA, "%s: %s, byte %llu: opcode 0x%02x: found %s, expected %s", p->path, p->part,
                   (unsigned long long)(p->origin + p->at), (uint8_t)p->text[p->at], found, expected);
}

dc_status dc_pickle_charge(dc_pickle *p, uint64_t bytes)
{
    if (bytes <= p->have + SPARE && p->held <= p->have + SPARE - bytes) {
        p->held += bytes;
        return DC_OK;
    }
    return dc_fail(p->e, DC_DATA, "%s: %s: found more objects than %llu bytes of it pay for, expected at most that and %d bytes of memory", p->path,
                   p->part, (unsigned long long)p->have, SPARE);
}

/* Room for n elements; grows by a quarter, because old and new are there at once. */
static dc_status room(dc_pickle *p, uint32_t **at, uint32_t *have, uint32_t n)
{
    if (n <= *have) return DC_OK;
    uint32_t next = *have + *have / 4 > n ? *have + *have / 4 : n < 256 ? 256 : n;
    dc_status s = dc_pickle_charge(p, (uint64_t)next * sizeof **at);
    if (s) return s;
    uint32_t *more = realloc(*at, next * sizeof **at);
    if (!more) return dc_fail_memory(p->e, p->path, next * sizeof **at);
    p->held -= (uint64_t)*have * sizeof **at;
    *at = more;
    *have = next;
    return DC_OK;
}

/* Room at the pool's end for a node of so many words. */
static dc_status node(dc_pickle *p, uint32_t words, uint32_t *at)
{
    *at = p->n_pool;
    if (p->nodes++ == DC_PICKLE_MAX_NODES) return bad(p, "more than 4194304 objects", "at most that");
    dc_status s = room(p, &p->pool, &p->pool_room, p->n_pool + words);
    if (!s) p->n_pool += words;
    return s;
}

static dc_status push(dc_pickle *p, dc_value v)
{
    dc_status s = room(p, &p->stack, &p->stack_room, p->n_stack + 1);
    if (!s) p->stack[p->n_stack++] = v;
    return s;
}

/* The top n values, none of them a mark; NULL: there are not so many. */
static dc_value *top(const dc_pickle *p, uint32_t n)
{
    for (uint32_t i = 1; i <= n; i++)
        if (i > p->n_stack || is_kind(p->stack[p->n_stack - i], DC_PICKLE_MARK)) return NULL;
    return p->stack + p->n_stack - n;
}

static dc_status few(dc_pickle *p) { return bad(p, "too few values on the stack", "those that it takes"); }

/* The number of values above the topmost mark, which there must be. */
static dc_status marked(dc_pickle *p, uint32_t *n)
{
    for (*n = 0; *n < p->n_stack && !is_kind(p->stack[p->n_stack - 1 - *n], DC_PICKLE_MARK); ++*n) {}
    return *n < p->n_stack ? DC_OK : bad(p, "no mark on the stack", "one");
}

/* Drops n values and the mark below. */
static void drop_marked(dc_pickle *p, uint32_t n)
{
    p->n_stack -= n + 1;
    p->marks--;
}

/* The top n values become a tuple: [n, items..]. */
static dc_status make_tuple(dc_pickle *p, uint32_t n, dc_value *out)
{
    uint32_t at;
    dc_status s = node(p, n + 1, &at);
    if (s) return s;
    p->pool[at] = n;
    memcpy(p->pool + at + 1, p->stack + p->n_stack - n, n * sizeof *p->pool);
    *out = value(DC_PICKLE_TUPLE, at);
    return DC_OK;
}

/* An empty dict or list: [first chunk, last chunk, turn of the last visit]. */
static dc_status make_container(dc_pickle *p, dc_pickle_kind kind, dc_value *out)
{
    uint32_t at;
    dc_status s = node(p, 3, &at);
    if (s) return s;
    memset(p->pool + at, 0, 3 * sizeof *p->pool);
    *out = value(kind, at);
    return DC_OK;
}

/* n words more for a dict or list, as one chunk: [next, n, items..]. */
static dc_status extend(dc_pickle *p, dc_value v, const dc_value *items, uint32_t n)
{
    uint32_t at, last;
    if (!n) return DC_OK;
    dc_status s = node(p, n + 2, &at);
    if (s) return s;
    uint32_t *head = p->pool + at_of(v);
    p->pool[at] = 0, p->pool[at + 1] = n;
    memcpy(p->pool + at + 2, items, n * sizeof *items);
    last = head[1];
    head[1] = at;
    if (last) p->pool[last] = at;
    else head[0] = at;
    return DC_OK;
}

/* [a, b] under this kind. */
static dc_status make_pair(dc_pickle *p, dc_pickle_kind kind, dc_value a, dc_value b, dc_value *out)
{
    uint32_t at;
    dc_status s = node(p, 3, &at);
    if (s) return s;
    p->pool[at] = 2, p->pool[at + 1] = a, p->pool[at + 2] = b;
    *out = value(kind, at);
    return DC_OK;
}

uint32_t dc_pickle_count(const dc_pickle *p, dc_value v)
{
    dc_pickle_kind k = dc_pickle_kind_of(v);
    return k == DC_PICKLE_TUPLE || k == DC_PICKLE_STORAGE || k == DC_PICKLE_TENSOR ? p->pool[at_of(v)] : 0;
}

dc_value dc_pickle_item(const dc_pickle *p, dc_value v, uint32_t i) { return p->pool[at_of(v) + 1 + i]; }

bool dc_pickle_each(const dc_pickle *p, dc_value v, dc_pickle_cursor *c, dc_value *key, dc_value *item)
{
    if (!is_kind(v, DC_PICKLE_DICT) && !is_kind(v, DC_PICKLE_LIST)) return false;
    if (!c->chunk) *c = (dc_pickle_cursor){p->pool[at_of(v)], 0};
    else if (c->i == p->pool[c->chunk + 1]) *c = (dc_pickle_cursor){p->pool[c->chunk], 0};
    if (!c->chunk) return false;
    const uint32_t *at = p->pool + c->chunk + 2 + c->i;
    bool pair = is_kind(v, DC_PICKLE_DICT);
    if (pair) *key = at[0];
    *item = at[pair];
    c->i += 1 + pair;
    return true;
}

bool dc_pickle_visit(dc_pickle *p, dc_value dict, uint32_t turn)
{
    uint32_t *seen = &p->pool[at_of(dict) + 2], before = *seen;
    *seen = turn;
    return before != turn;
}

/* A foreign value: [2, module, name], both of them bytes of the pickle at which a line or an atom begins, with its kind. */
static dc_status make_foreign(dc_pickle *p, dc_value module, dc_value name, dc_value *out)
{
    return make_pair(p, DC_PICKLE_FOREIGN, module, name, out);
}

/* The words of a global: a text, or a line, which is known by being a MARK here. */
static bool word(const dc_pickle *p, dc_value v, const char **at, size_t *n)
{
    if (!is_kind(v, DC_PICKLE_MARK)) return dc_pickle_text(p, v, at, n);
    *at = p->text + at_of(v);
    *n = (size_t)((const char *)memchr(*at, '\n', p->have - at_of(v)) - *at);
    return true;
}

static bool same_word(const dc_pickle *p, dc_value v, const char *text)
{
    const char *at;
    size_t n;
    return word(p, v, &at, &n) && n == strlen(text) && !memcmp(at, text, n);
}

/* torch.cuda's storages are torch's, on another device. */
static dc_status make_global(dc_pickle *p, dc_value module, dc_value name, dc_value *out)
{
    bool cuda = same_word(p, module, "torch.cuda");
    for (uint32_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        const dc_global *g = &globals[i];
        bool of = cuda ? g->role == DC_GLOBAL_STORAGE && !strcmp(g->module, "torch") : same_word(p, module, g->module);
        if (of && same_word(p, name, g->name)) {
            *out = value(DC_PICKLE_GLOBAL, i);
            return DC_OK;
        }
    }
    return make_foreign(p, module, name, out);
}

bool dc_pickle_is_of(const dc_pickle *p, dc_value v, const char *module)
{
    return is_kind(v, DC_PICKLE_FOREIGN) && same_word(p, dc_pickle_item(p, v, 0), module);
}

/* What a module compiled by TorchScript is an object of: __torch__, or __torch__.PATH. */
static bool is_script(const dc_pickle *p, dc_value v)
{
    static const char root[] = "__torch__";
    const size_t k = sizeof root - 1;
    const char *at;
    size_t n;
    return is_kind(v, DC_PICKLE_FOREIGN) && word(p, dc_pickle_item(p, v, 0), &at, &n) && n >= k && !memcmp(at, root, k) && (n == k || at[k] == '.');
}

const char *dc_pickle_describe(const dc_pickle *p, dc_value v, char *out, size_t size)
{
    static const char *const names[] = {"None",   "a truth value", "a whole number", "a float",   "a text",           "bytes", "a tuple",
                                        "a list", "a dictionary",  "a global",       "a storage", "a rebuilt tensor", "",      "a mark"};
    const dc_global *g = dc_pickle_global(v);
    if (g) {
        snprintf(out, size, "the global %s %s", g->module, g->name);
        return out;
    }
    if (!is_kind(v, DC_PICKLE_FOREIGN)) {
        snprintf(out, size, "%s", names[dc_pickle_kind_of(v)]);
        return out;
    }
    const char *at[2] = {"an unknown", "kind"};
    size_t n[2] = {10, 4};
    for (uint32_t i = 0; i < 2; i++) word(p, dc_pickle_item(p, v, i), &at[i], &n[i]);
    snprintf(out, size, "the global %.*s %.*s or what it makes", (int)(n[0] < 60 ? n[0] : 60), at[0], (int)(n[1] < 60 ? n[1] : 60), at[1]);
    return out;
}

/* ---- what Python would call ------------------------------------------------------------------------------------------------ */

/* What f(args..) would be, as a description. */
static dc_status describe_call(dc_pickle *p, dc_value f, dc_value args, dc_value *out)
{
    const dc_global *g = dc_pickle_global(f);
    uint32_t n = dc_pickle_count(p, args);
    dc_value first = n ? dc_pickle_item(p, args, 0) : value(DC_PICKLE_NONE, 0);
    if (g && g->role == DC_GLOBAL_SUBCLASS && n == 4) { /* the function of a plain tensor inside */
        const dc_global *inner = dc_pickle_global(first);
        dc_value plain = dc_pickle_item(p, args, 2);
        if (inner && inner->role != DC_GLOBAL_SUBCLASS && is_kind(plain, DC_PICKLE_TUPLE)) {
            f = first, g = inner, args = plain, n = dc_pickle_count(p, args);
            first = n ? dc_pickle_item(p, args, 0) : value(DC_PICKLE_NONE, 0);
        }
    }
    if (g && (g->role == DC_GLOBAL_TENSOR || g->role == DC_GLOBAL_TYPED_TENSOR)) return make_pair(p, DC_PICKLE_TENSOR, f, args, out);
    if (g && g->role == DC_GLOBAL_DICT) return make_container(p, DC_PICKLE_DICT, out);
    bool inner_tensor = g && g->role == DC_GLOBAL_PARAMETER && (is_kind(first, DC_PICKLE_TENSOR) || is_kind(first, DC_PICKLE_FOREIGN));
    bool inner_size = g && g->role == DC_GLOBAL_SIZE && is_kind(first, DC_PICKLE_TUPLE);
    if (inner_tensor || inner_size) *out = first;
    else if (is_kind(f, DC_PICKLE_FOREIGN)) *out = f;
    else return make_foreign(p, value(DC_PICKLE_NONE, 0), value(DC_PICKLE_NONE, 0), out);
    return DC_OK;
}

/* ("storage", class, key, place, count, ..) is a storage; any other id is foreign. */
static dc_status describe_persistent(dc_pickle *p, dc_value id, dc_value *out)
{
    if (!is_kind(id, DC_PICKLE_TUPLE) || dc_pickle_count(p, id) < 5 || !dc_pickle_is(p, dc_pickle_item(p, id, 0), "storage"))
        return make_foreign(p, value(DC_PICKLE_NONE, 0), value(DC_PICKLE_NONE, 0), out);
    *out = value(DC_PICKLE_STORAGE, at_of(id));
    return p->persistent ? extend(p, p->persistent, out, 1) : DC_OK;
}

/* ---- the memo ------------------------------------------------------------------------------------------------------------- */

static dc_status put_memo(dc_pickle *p, uint64_t i)
{
    const dc_value *v = top(p, 1);
    if (!v) return few(p);
    if (i >= DC_PICKLE_MAX_MEMO) return bad(p, "a memo of more than 1048576 places", "at most that");
    uint32_t old = p->n_memo;
    dc_status s = room(p, &p->memo, &p->memo_room, (uint32_t)i + 1);
    if (s) return s;
    if (i >= p->n_memo) {
        p->n_memo = (uint32_t)i + 1;
        memset(p->memo + old, 0xff, (p->n_memo - old) * sizeof *p->memo);
    }
    p->memo_set += p->memo[i] == UNSET;
    p->memo[i] = *v;
    return DC_OK;
}

static dc_status get_memo(dc_pickle *p, uint64_t i)
{
    if (i >= p->n_memo || p->memo[i] == UNSET) return bad(p, "a place of the memo that holds nothing", "one that was set before");
    return push(p, p->memo[i]);
}

/* ---- the text ------------------------------------------------------------------------------------------------------------ */

/* Are there n bytes behind byte `at`? Reads more of the file if it must. */
static dc_status need(dc_pickle *p, uint64_t at, uint64_t n)
{
    if (dc_in_range(at, n, p->have)) return DC_OK;
    if (!dc_in_range(at, n, p->size)) {
        char found[64];
        bool limit = p->size == DC_PICKLE_MAX_BYTES;
        snprintf(found, sizeof found, limit ? "a pickle of more than 67108864 bytes" : "its end after %llu bytes", (unsigned long long)p->size);
        return bad(p, found, limit ? "at most that" : "more of it");
    }
    uint64_t want = at + n > 2 * p->have ? at + n : 2 * p->have;
    if (want < FIRST_READ) want = FIRST_READ;
    if (want > p->size) want = p->size;
    char *more = realloc(p->text, want + 1);
    if (!more) return dc_fail_memory(p->e, p->path, want + 1);
    p->text = more;
    dc_status s = dc_map_read(p->map, p->origin + p->have, p->text + p->have, want - p->have, p->part, p->e);
    if (!s) p->have = want;
    return s;
}

/* Where the line that begins at byte `at` ends: behind its newline. */
static dc_status line_end(dc_pickle *p, uint64_t at, uint64_t *end)
{
    for (uint64_t from = at;; from = p->have) {
        const char *newline = memchr(p->text + from, '\n', p->have - from);
        if (newline) {
            *end = (uint64_t)(newline - p->text) + 1;
            return DC_OK;
        }
        dc_status s = need(p, p->have, 1);
        if (s) return s;
    }
}

/* Where the opcode at p->at ends, with what follows it, all of it there. */
static dc_status find_end(dc_pickle *p, uint64_t *end)
{
    dc_status s = need(p, p->at, 1);
    if (s) return s;
    enum argument a = argument_of[(uint8_t)p->text[p->at]];
    uint64_t at = p->at + 1, n = a == BYTE1 ? 1 : a == BYTE2 ? 2 : a == BYTE4 ? 4 : a == BYTE8 ? 8 : 0;
    *end = at + n;
    if (a == UNKNOWN) return bad(p, "one that torch does not write", "an opcode of pickle");
    if (a == LINE || a == LINES) s = line_end(p, at, end);
    if (!s && a == LINES) s = line_end(p, *end, end);
    if (a == COUNT1 || a == COUNT4 || a == COUNT8) {
        n = count_bytes(a);
        s = need(p, at, n);
        if (s) return s;
        uint64_t count = count_at(p->text + at, a);
        *end = at + n + count;
        return need(p, at + n, count);
    }
    return s ? s : need(p, at, n);
}

/* The decimal of PUT and GET. */
static dc_status memo_place(dc_pickle *p, uint64_t *i)
{
    const char *at = p->text + p->at + 1;
    *i = 0;
    for (int n = 0; at[n] != '\n'; n++) {
        if (at[n] < '0' || at[n] > '9' || n == 9) return bad(p, "a place of the memo that is no short number", "digits");
        *i = *i * 10 + (uint64_t)(at[n] - '0');
    }
    return DC_OK;
}

/* ---- the machine --------------------------------------------------------------------------------------------------------- */

/* Adds the top n values to the container below them (and below the mark, if there is one), and drops them. */
static dc_status add_items(dc_pickle *p, dc_pickle_kind kind, uint32_t n, bool mark)
{
    if (p->n_stack < n + mark + 1) return few(p);
    dc_value to = p->stack[p->n_stack - n - mark - 1];
    char what[160];
    if (!is_kind(to, kind) && !is_kind(to, DC_PICKLE_FOREIGN))
        return bad(p, dc_pickle_describe(p, to, what, sizeof what), kind == DC_PICKLE_DICT ? "a dictionary to set items of" : "a list to add to");
    if (kind == DC_PICKLE_DICT && n % 2) return bad(p, "a key without a value", "pairs");
    dc_status s = is_kind(to, kind) ? extend(p, to, p->stack + p->n_stack - n, n) : DC_OK;
    if (mark) drop_marked(p, n);
    else p->n_stack -= n;
    return s;
}

/* The n values on top (and the mark below) give way to v. */
static dc_status replace(dc_pickle *p, uint32_t n, bool mark, dc_status s, dc_value v)
{
    if (s) return s;
    if (mark) drop_marked(p, n);
    else p->n_stack -= n;
    return push(p, v);
}

/* Tuples, lists, dicts and sets, whole or growing. */
static dc_status run_container(dc_pickle *p, uint8_t op)
{
    dc_value v = 0;
    uint32_t n = op == 0x85 ? 1 : op == 0x86 ? 2 : 3;
    bool mark = strchr("tldeu\x90\x91", op) != NULL;
    dc_status s = mark ? marked(p, &n) : DC_OK;
    if (s) return s;
    switch (op) {
    case ')': return push(p, value(DC_PICKLE_TUPLE, 0));
    case 't': s = make_tuple(p, n, &v); break;
    case 0x85:
    case 0x86:
    case 0x87: s = top(p, n) ? make_tuple(p, n, &v) : few(p); break;
    case ']':
    case 0x8f: s = make_container(p, DC_PICKLE_LIST, &v), n = 0; break;
    case '}': s = make_container(p, DC_PICKLE_DICT, &v), n = 0; break;
    case 'l':
    case 0x91:
        s = make_container(p, DC_PICKLE_LIST, &v);
        if (!s) s = extend(p, v, p->stack + p->n_stack - n, n);
        break;
    case 'd':
        if (n % 2) return bad(p, "a key without a value", "pairs");
        s = make_container(p, DC_PICKLE_DICT, &v);
        if (!s) s = extend(p, v, p->stack + p->n_stack - n, n);
        break;
    case 'a': return top(p, 2) ? add_items(p, DC_PICKLE_LIST, 1, false) : few(p);
    case 's': return top(p, 3) ? add_items(p, DC_PICKLE_DICT, 2, false) : few(p);
    case 'u': return add_items(p, DC_PICKLE_DICT, n, true);
    default: return add_items(p, DC_PICKLE_LIST, n, true); /* APPENDS, ADDITEMS */
    }
    return replace(p, n, mark, s, v);
}

/* What Python would import, make, call or change. */
static dc_status run_call(dc_pickle *p, uint8_t op)
{
    dc_value v = 0, nothing = value(DC_PICKLE_NONE, 0);
    const dc_value *x;
    uint32_t n = op == 0x92 ? 3 : op == 'Q' ? 1 : 2;
    uint64_t second;
    dc_status s;
    switch (op) {
    case 'c':
    case 'i': /* INST takes arguments up to a mark, too */
        n = 0;
        s = line_end(p, p->at + 1, &second);
        if (!s && op == 'i') s = marked(p, &n);
        if (!s) s = make_global(p, value(DC_PICKLE_MARK, p->at + 1), value(DC_PICKLE_MARK, second), &v);
        if (!s && op == 'i') s = describe_call(p, v, nothing, &v);
        return replace(p, n, op == 'i', s, v);
    case 'o':
        s = marked(p, &n);
        if (s || !n) return s ? s : few(p);
        return replace(p, n, true, describe_call(p, p->stack[p->n_stack - n], nothing, &v), v);
    case 'P':
    case 0x82:
    case 0x83:
    case 0x84: return replace(p, 0, false, make_foreign(p, nothing, nothing, &v), v);
    default:
        x = top(p, n);
        if (!x) return few(p);
        if (op == 'b') { /* an object's state is not kept, but of TorchScript's */
            bool script = is_script(p, x[0]) && is_kind(x[1], DC_PICKLE_DICT);
            p->script |= script;
            return replace(p, 2, false, DC_OK, x[script]);
        }
        s = op == 0x93  ? make_global(p, x[0], x[1], &v)
            : op == 'Q' ? describe_persistent(p, x[0], &v)
                        : describe_call(p, x[0], x[1], &v); /* REDUCE, NEWOBJ, NEWOBJ_EX */
        return replace(p, n, false, s, v);
    }
}

/* Stack, memo and what stands for itself. */
static dc_status run_simple(dc_pickle *p, uint8_t op)
{
    const char *argument = p->text + p->at + 1;
    uint64_t i = 0;
    uint32_t n;
    dc_status s = op == 'p' || op == 'g' ? memo_place(p, &i) : DC_OK;
    if (s) return s;
    switch (op) {
    case 'N': return push(p, value(DC_PICKLE_NONE, 0));
    case 0x88:
    case 0x89: return push(p, value(DC_PICKLE_BOOL, op == 0x88));
    case '(':
        if (p->marks++ == DC_PICKLE_MAX_MARKS) return bad(p, "more than 128 open marks", "a depth of at most that");
        return push(p, value(DC_PICKLE_MARK, 0));
    case '0':
        if (!p->n_stack) return few(p);
        p->marks -= is_kind(p->stack[--p->n_stack], DC_PICKLE_MARK);
        return DC_OK;
    case '1':
        s = marked(p, &n);
        if (!s) drop_marked(p, n);
        return s;
    case '2': return top(p, 1) ? push(p, *top(p, 1)) : few(p);
    case 'p': return put_memo(p, i);
    case 'q': return put_memo(p, number(argument, 1));
    case 'r': return put_memo(p, number(argument, 4));
    case 0x94: return put_memo(p, p->memo_set);
    case 'g': return get_memo(p, i);
    case 'h': return get_memo(p, number(argument, 1));
    case 'j': return get_memo(p, number(argument, 4));
    case 0x80: return number(argument, 1) <= 5 ? DC_OK : bad(p, "a protocol above 5", "0 to 5");
    case 0x95: /* FRAME only helps who reads from a stream */
        return number(argument, 8) <= p->size - p->at - 9 ? DC_OK : bad(p, "a frame longer than the pickle", "one inside");
    default: return bad(p, "one that torch does not write", "an opcode of pickle");
    }
}

static dc_status run_opcode(dc_pickle *p, uint8_t op)
{
    dc_pickle_kind atom = atom_of(op);
    if (atom != DC_PICKLE_NONE) return push(p, value(atom, p->at));
    if (strchr(")t]lae}dsu\x85\x86\x87\x8f\x90\x91", op)) return run_container(p, op);
    if (strchr("cioRbPQ\x81\x82\x83\x84\x92\x93", op)) return run_call(p, op);
    return run_simple(p, op);
}

dc_status dc_pickle_next(dc_pickle *p, dc_value *root)
{
    uint64_t end;
    p->n_stack = p->n_memo = p->memo_set = p->marks = 0;
    for (;; p->at = end) {
        dc_status s = find_end(p, &end);
        uint8_t op = s ? 0 : (uint8_t)p->text[p->at];
        if (!s && op == '.') {
            if (p->n_stack != 1 || p->marks) return bad(p, "another number of values on the stack", "one result");
            *root = p->stack[0];
            p->at = end;
            return DC_OK;
        }
        if (!s) s = run_opcode(p, op);
        if (s) return s;
    }
}

dc_status dc_pickle_begin(dc_pickle *p, const dc_map *m, const char *part, uint64_t origin, char *text, uint64_t size, dc_error *e)
{
    *p = (dc_pickle){.path = m->path, .part = part, .origin = origin, .text = text, .size = size, .have = text ? size : 0, .map = m, .e = e};
    if (!text && p->size > DC_PICKLE_MAX_BYTES) p->size = DC_PICKLE_MAX_BYTES;
    if (p->size > DC_PICKLE_MAX_BYTES)
        return dc_fail(e, DC_DATA, "%s: %s: found %llu bytes, expected at most %u", p->path, part, (unsigned long long)size, DC_PICKLE_MAX_BYTES);
    uint32_t at;
    dc_status s = node(p, 1, &at); /* the empty tuple, at 0, so that 0 is no chunk either */
    if (s) return s;
    p->pool[at] = 0;
    return text ? DC_OK : make_container(p, DC_PICKLE_LIST, &p->persistent);
}

void dc_pickle_end(dc_pickle *p)
{
    free(p->text);
    free(p->pool);
    free(p->stack);
    free(p->memo);
    *p = (dc_pickle){0};
}
