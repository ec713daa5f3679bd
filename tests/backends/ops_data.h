/* ops_data.h - the cases of tests/gen/ops.py: expected results from ops.safetensors, inputs and weights computed from their seeds. */
#ifndef TEST_OPS_DATA_H
#define TEST_OPS_DATA_H
#include "backends/ops.h"
#include "base/file.h"
#include "base/json.h"
#include "cpu_cases.h"

/* ---- the files ---------------------------------------------------------------------------------------------- */

typedef struct store {
    dc_map map;
    json_t *header, *cases;
} store;

static inline store store_open(void)
{
    store s = {0};
    dc_error e = {0};
    uint64_t n;
    assert_int_equal(dc_map_open(&s.map, TEST_DATA "/golden/backends/ops.safetensors", &e), DC_OK);
    memcpy(&n, s.map.data, 8);
    assert_int_equal(dc_json_parse(&s.header, "ops.safetensors", (const char *)s.map.data + 8, n, &e), DC_OK);
    assert_int_equal(dc_json_read(&s.cases, TEST_DATA "/golden/backends/ops.json", 1 << 20, &e), DC_OK);
    return s;
}

static inline void store_close(store *s)
{
    json_decref(s->header);
    json_decref(s->cases);
    dc_map_close(&s->map);
}

/* The bytes of a stored tensor (unaligned) and their number. */
static inline const uint8_t *stored(const store *s, const char *name, size_t *bytes)
{
    const json_t *at = json_object_get(json_object_get(s->header, name), "data_offsets");
    uint64_t n, from = (uint64_t)json_integer_value(json_array_get(at, 0)), to = (uint64_t)json_integer_value(json_array_get(at, 1));
    assert_true(json_is_array(at));
    memcpy(&n, s->map.data, 8);
    assert_true(8 + n + to <= s->map.size);
    *bytes = to - from;
    return s->map.data + 8 + n + from;
}

static inline int64_t integer(const json_t *o, const char *key) { return json_integer_value(json_object_get(o, key)); }
static inline double number(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }
static inline bool flag(const json_t *o, const char *key) { return json_is_true(json_object_get(o, key)); }

static inline dc_act act_of(const json_t *o, const char *key)
{
    static const char *const names[DC_ACTS] = {"", "silu", "gelu", "quick_gelu", "relu", "tanh3"};
    const char *name = json_string_value(json_object_get(o, key));
    for (int i = 0; name && i < DC_ACTS; i++)
        if (!strcmp(names[i], name)) return (dc_act)i;
    assert_null(name);
    return DC_ACT_NONE;
}

/* ---- numbers from seeds ----------------------------------------------------------------------------------------- */

/* Element i of stream `seed`: an integer of `bits` bits, from 0; minus 2^(bits-1), over 2^(bits-1), it is the number. */
static inline uint64_t drawn(uint64_t seed, uint64_t i, int bits)
{
    uint64_t z = ((seed << 32) + i + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return (z ^ z >> 31) >> (64 - bits);
}

static inline double drawn_number(uint64_t seed, uint64_t i, int bits)
{
    return ((double)drawn(seed, i, bits) - (double)(1ull << (bits - 1))) / (double)(1ull << (bits - 1));
}

/* ---- inputs --------------------------------------------------------------------------------------------------------- */

/* A tensor of a case in host memory: all of it, of which [from, from + dim[rank-1]) are the channels that the op sees. */
typedef struct input {
    float *data;
    int64_t dim[4], wide[4], from;
    int rank;
} input;

static inline input input_of(const json_t *o)
{
    input t = {0};
    if (!o) return t;
    const json_t *dims = json_object_get(o, "dims"), *slice = json_object_get(o, "slice");
    int64_t n = 1, rows = integer(o, "rows"), C, W;
    t.rank = (int)json_array_size(dims);
    for (int i = 0; i < t.rank; i++) t.dim[i] = t.wide[i] = json_integer_value(json_array_get(dims, (size_t)i));
    C = W = t.dim[t.rank - 1];
    if (slice) {
        t.from = json_integer_value(json_array_get(slice, 0));
        W = t.wide[t.rank - 1] = json_integer_value(json_array_get(slice, 1));
    }
    for (int i = 0; i < t.rank; i++) n *= t.wide[i];
    t.data = malloc(sizeof(float) * (size_t)n);
    assert_non_null(t.data);
    for (int64_t i = 0; i < n; i++) {
        int64_t row = i / W, c = i % W - t.from;
        bool seen = c >= 0 && c < C && !flag(o, "nan") && !(rows && row % t.dim[1] >= rows);
        t.data[i] =
            seen ? (float)(drawn_number((uint64_t)integer(o, "seed"), (uint64_t)(row * C + c), 24) * number(o, "scale") + number(o, "shift")) : NAN;
    }
    return t;
}

static inline dc_tensor upload_input(dc_run *r, const input *t)
{
    if (!t->data) return DC_NONE;
    return dc_view_channels(dc_upload(r, DC_F32, t->rank, t->wide, t->data), t->from, t->dim[t->rank - 1]);
}

/* ---- parameters ------------------------------------------------------------------------------------------------------- */

enum { MOST_SOURCES = 3 * 2 * DC_MAX_PARTS };
typedef struct owned {
    void *at[MOST_SOURCES];
    int n;
} owned; /* memory of the sources, one byte off alignment on purpose */

static inline dc_source source_of(const store *s, const json_t *o, int64_t row, owned *memory)
{
    static const struct {
        const char *name;
        dc_dtype type;
        int bits;
    } types[] = {{"F32", DC_F32, 24},  {"F64", DC_F64, 40},        {"F16", DC_F16, 11},
                 {"BF16", DC_BF16, 8}, {"F8_E4M3", DC_F8_E4M3, 4}, {"F8_E5M2", DC_F8_E5M2, 3}};
    const char *name = json_string_value(json_object_get(o, "dtype"));
    size_t t = 0, size, code_bytes;
    while (strcmp(types[t].name, name)) assert_true(++t < sizeof types / sizeof *types);
    int64_t rows = integer(o, "rows"), n = rows * row;
    uint64_t seed = (uint64_t)integer(o, "seed");
    size = dc_dtype_size(types[t].type);
    uint8_t *all = malloc((size_t)n * size + 1), *to = all + 1;
    char codes[32];
    assert_non_null(all);
    snprintf(codes, sizeof codes, "codes.%s", name);
    const uint8_t *code = types[t].bits < 24 ? stored(s, codes, &code_bytes) : NULL;
    for (int64_t i = 0; i < n; i++, to += size) {
        double v = drawn_number(seed, (uint64_t)i, types[t].bits) * number(o, "scale") + number(o, "shift");
        float narrow = (float)v;
        if (code) memcpy(to, code + drawn(seed, (uint64_t)i, types[t].bits) * size, size);
        else if (size == 4) memcpy(to, &narrow, 4);
        else memcpy(to, &v, 8);
    }
    assert_true(memory->n < MOST_SOURCES);
    memory->at[memory->n++] = all;
    return (dc_source){all + 1, types[t].type, rows, 0};
}

static inline dc_param *param_of(const store *s, const json_t *o, dc_params *set, owned *memory)
{
    if (!o) return NULL;
    const char *kind = json_string_value(json_object_get(o, "kind"));
    dc_param_desc d = {.name = "ops.py: parameter",
                       .out = (int)integer(o, "out"),
                       .in = (int)integer(o, "in"),
                       .kh = (int)integer(o, "kh"),
                       .kw = (int)integer(o, "kw"),
                       .geglu = flag(o, "geglu"),
                       .transposed = flag(o, "transposed")};
    d.kind = !strcmp(kind, "linear") ? DC_PARAM_LINEAR
             : !strcmp(kind, "conv") ? DC_PARAM_CONV
             : !strcmp(kind, "norm") ? DC_PARAM_NORM
                                     : DC_PARAM_TABLE;
    const json_t *weight = json_object_get(o, "weight"), *bias = json_object_get(o, "bias");
    d.n_weight = (int)json_array_size(weight);
    d.n_bias = (int)json_array_size(bias);
    for (int i = 0; i < d.n_weight; i++)
        d.weight[i] = source_of(s, json_array_get(weight, (size_t)i), d.transposed ? d.out : (int64_t)d.in * d.kh * d.kw, memory);
    for (int i = 0; i < d.n_bias; i++) d.bias[i] = source_of(s, json_array_get(bias, (size_t)i), 1, memory);
    return dc_params_add(set, &d);
}

#endif
