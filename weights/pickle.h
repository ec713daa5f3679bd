/* pickle.h - Python pickles as descriptions; private to this folder. Ref: pickletools.py (protocols 0 to 5), torch/_utils.py.
 *
 * A stack machine that builds and calls nothing. Numbers and texts stay where they stand in the pickle, the closed list of globals below
 * is known by name, an object of a module of TorchScript (__torch__) is the dictionary that it is built from, and what any other global would make is one inert value: an error only for who needs it. The memo holds
 * references, nothing recurses, and all that is built takes at most the pickle's own size and 12 MiB. */
#ifndef DC_WEIGHTS_PICKLE_H
#define DC_WEIGHTS_PICKLE_H
#include "backends/ops.h"
#include "base/file.h"

#define DC_PICKLE_MAX_BYTES (64u << 20)
#define DC_PICKLE_MAX_NODES (4u << 20) /* containers, tensors and foreign values; numbers and texts are none */
#define DC_PICKLE_MAX_MARKS 128        /* open at a time */
#define DC_PICKLE_MAX_MEMO  (1u << 20)

typedef enum dc_pickle_kind {
    DC_PICKLE_NONE,
    DC_PICKLE_BOOL,
    DC_PICKLE_INT,
    DC_PICKLE_FLOAT,
    DC_PICKLE_TEXT,
    DC_PICKLE_BYTES,
    DC_PICKLE_TUPLE,
    DC_PICKLE_LIST, /* or a set */
    DC_PICKLE_DICT,
    DC_PICKLE_GLOBAL,  /* of the list */
    DC_PICKLE_STORAGE, /* items: those of its persistent id, a tuple */
    DC_PICKLE_TENSOR,  /* items: [0] the function that rebuilds it, a GLOBAL, [1] its arguments, a tuple */
    DC_PICKLE_FOREIGN, /* any other global, and whatever it would make */
    DC_PICKLE_MARK
} dc_pickle_kind;

/* A kind and where to find it: a byte of the pickle, a word of the pool, or the number itself. */
typedef uint32_t dc_value;

/* What the known globals are to us. */
typedef enum dc_global_role {
    DC_GLOBAL_DICT,         /* collections OrderedDict */
    DC_GLOBAL_SIZE,         /* torch Size: its argument */
    DC_GLOBAL_TENSOR,       /* torch._utils _rebuild_tensor, _rebuild_tensor_v2: (storage, offset, size, stride, ..) */
    DC_GLOBAL_TYPED_TENSOR, /* _rebuild_tensor_v3: the same, its dtype at [6] */
    DC_GLOBAL_PARAMETER,    /* _rebuild_parameter: its first argument */
    DC_GLOBAL_SUBCLASS,     /* torch._tensor _rebuild_from_type_v2: (function, class, arguments, state) */
    DC_GLOBAL_STORAGE,      /* torch FloatStorage, .. */
    DC_GLOBAL_DTYPE         /* torch float8_e4m3fn, .. */
} dc_global_role;

typedef struct dc_global {
    const char *module, *name;
    dc_global_role role;
    dc_dtype dtype; /* of STORAGE and DTYPE; DC_DTYPES: one that we cannot hold */
} dc_global;

/* Zeroed, then filled by dc_pickle_begin. */
typedef struct dc_pickle {
    const char *path, *part; /* for messages, with `origin` */
    uint64_t origin;         /* byte of the file at which the text begins */
    char *text;              /* `have` bytes of `size`, and room for one more; owned */
    uint64_t at, have, size;
    const dc_map *map; /* where more of the text comes from; NULL: all is there */
    uint32_t *pool, *stack, *memo;
    uint32_t n_pool, n_stack, n_memo, memo_set, pool_room, stack_room, memo_room;
    uint32_t nodes, marks;
    bool script;         /* an object of TorchScript was met: it is the dictionary of its attributes */
    uint64_t held;       /* bytes of the three above, and what dc_pickle_charge added */
    dc_value persistent; /* LIST of all storages met, when the text is read from the file */
    dc_error *e;
} dc_pickle;

/* The text is `text` (size bytes and one more, malloc'ed, owned from now on), or, when that is NULL, read from m as far as needed,
 * beginning at its byte `origin`. Errors: NO_MEMORY, DATA (over the limit). dc_pickle_end in any case. */
dc_status dc_pickle_begin(dc_pickle *p, const dc_map *m, const char *part, uint64_t origin, char *text, uint64_t size, dc_error *e);
void dc_pickle_end(dc_pickle *p);
/* Runs one pickle, up to its STOP; the next one begins behind it. Values of those before stay valid.
 * Errors: DATA ("FILE: PART, byte N: opcode: found ..., expected ..."), NO_MEMORY, IO. */
dc_status dc_pickle_next(dc_pickle *p, dc_value *root);
/* Counts bytes that the caller is about to hold because of the pickle: DATA when it has not paid for them. */
dc_status dc_pickle_charge(dc_pickle *p, uint64_t bytes);

dc_pickle_kind dc_pickle_kind_of(dc_value v);
bool dc_pickle_is_true(dc_value v);
bool dc_pickle_int(const dc_pickle *p, dc_value v, int64_t *out); /* false: no whole number, or one of more than 8 bytes */
/* False: no text, or one with escapes (protocol 0). Points into p->text. */
bool dc_pickle_text(const dc_pickle *p, dc_value v, const char **at, size_t *n);
bool dc_pickle_is(const dc_pickle *p, dc_value v, const char *text);
/* Is it this whole number, little-endian? For those of any length. */
bool dc_pickle_is_long(const dc_pickle *p, dc_value v, const char *bytes, size_t n);
bool dc_pickle_is_of(const dc_pickle *p, dc_value v, const char *module); /* FOREIGN, of a global of this module */
const dc_global *dc_pickle_global(dc_value v);                            /* NULL: not one of the list */
/* Of TUPLE, STORAGE and TENSOR: how many items, and item i (0 <= i < count). Other kinds: none. */
uint32_t dc_pickle_count(const dc_pickle *p, dc_value v);
dc_value dc_pickle_item(const dc_pickle *p, dc_value v, uint32_t i);
/* Goes through a DICT (key, value) or LIST (value alone, key NULL). Begin with a zeroed cursor. */
typedef struct dc_pickle_cursor {
    uint32_t chunk, i;
} dc_pickle_cursor;
bool dc_pickle_each(const dc_pickle *p, dc_value v, dc_pickle_cursor *c, dc_value *key, dc_value *value);
/* The first time for this DICT in this turn (1 and up, each greater than the last)? For walks that may meet one again. */
bool dc_pickle_visit(dc_pickle *p, dc_value dict, uint32_t turn);
/* "a text", "the global os system", ... Returns out. */
const char *dc_pickle_describe(const dc_pickle *p, dc_value v, char *out, size_t size);

#endif
