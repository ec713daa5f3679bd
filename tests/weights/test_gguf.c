/* The GGUF reader: files of the reference package and their values, every refusal by a file made for it, what is at the limits, and
 * systematic damage: cut at every byte, every bit of the header flipped, every number of it replaced. */
#include "backends/backend.h"
#include "tests/weights/bounds.h"
#include "weights/inspect.h"
#include "weights/reader.h"
#include <sys/mman.h>

#define GOLDEN TEST_DATA "/golden/"

static dc_weights *open_weights(const char *path)
{
    dc_weights *w;
    dc_error e = {0};
    if (dc_weights_open(&w, path, &e)) fail_msg("%s", e.text);
    return w;
}

static int64_t numel(const dc_stored *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

/* ---- the reference's files ----------------------------------------------------------------------------------------- */

/* Every number has the bits that gguf.quants.dequantize gives it. */
static void reference_values(void **state)
{
    (void)state;
    dc_weights *w = open_weights(GOLDEN "gguf/types.gguf"), *floats = open_weights(GOLDEN "gguf/types.safetensors");
    assert_int_equal(dc_weights_count(w), 22);
    assert_int_equal(dc_weights_count(floats), 22);
    for (int i = 0; i < dc_weights_count(w); i++) {
        const dc_stored *t = dc_weights_at(w, i), *want = dc_weights_find(floats, t->name);
        const int64_t n = numel(t);
        float *found = malloc(sizeof(float) * (size_t)n);
        assert_non_null(want);
        assert_int_equal(t->rank, want->rank);
        assert_memory_equal(t->dim, want->dim, sizeof *t->dim * (size_t)t->rank);
        if (t->name[0] < 'a') assert_string_equal(dc_dtype_name(t->dtype), t->name);
        assert_int_equal(t->bytes, (size_t)(n / dc_dtype_block(t->dtype)) * dc_dtype_size(t->dtype));
        dc_source_floats(&(dc_source){t->data, t->dtype, 1, 0}, 0, n, found);
        if (memcmp(found, want->data, want->bytes)) fail_msg("%s: other numbers", t->name);
        free(found);
    }
    dc_weights_close(floats);
    dc_weights_close(w);
}

/* Of 8-bit floats all codes; torch's numbers. */
static void float8_values(void **state)
{
    (void)state;
    dc_weights *w = open_weights(GOLDEN "weights/float8.safetensors");
    static const char *const names[][2] = {{"e4m3", "e4m3.float"}, {"e5m2", "e5m2.float"}};
    for (int k = 0; k < 2; k++) {
        const dc_stored *t = dc_weights_find(w, names[k][0]), *want = dc_weights_find(w, names[k][1]);
        assert_true(t && want && t->dtype == (k ? DC_F8_E5M2 : DC_F8_E4M3) && t->bytes == 256);
        for (int i = 0; i < 256; i++) {
            float a, b = dc_source_value(&(dc_source){t->data, t->dtype, 1, 0}, i);
            memcpy(&a, (const char *)want->data + 4 * i, 4);
            if (memcmp(&a, &b, 4) && !(a != a && b != b)) fail_msg("%s, code %d: found %g, expected %g", t->name, i, (double)b, (double)a);
        }
    }
    dc_weights_close(w);
}

static void reference_pairs(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"general.alignment", "64"}, {"general.architecture", "test"},         {"test.empty", ""},
                                           {"test.f32", "0.100000001"}, {"test.f64", "0.10000000000000001"},      {"test.i16", "-30000"},
                                           {"test.i32", "-2000000000"}, {"test.i64", "-9000000000000000000"},     {"test.i8", "-100"},
                                           {"test.no", "false"},        {"test.text", "a \xc3\xa4 \xe2\x82\xac"}, {"test.u16", "60000"},
                                           {"test.u32", "4000000000"},  {"test.u64", "18000000000000000000"},     {"test.u8", "200"},
                                           {"test.yes", "true"}};
    const int n = sizeof pairs / sizeof *pairs;
    dc_weights *w = open_weights(GOLDEN "gguf/values.gguf");
    assert_int_equal(dc_weights_metadata_count(w), n);
    for (int i = 0; i < n; i++) {
        const char *key, *value;
        dc_weights_metadata_at(w, i, &key, &value);
        assert_string_equal(key, pairs[i][0]);
        assert_string_equal(value, pairs[i][1]);
    }
    const dc_stored *a = dc_weights_find(w, "a"), *b = dc_weights_find(w, "b");
    assert_true(a->rank == 2 && a->dim[0] == 2 && a->dim[1] == 3 && a->dtype == DC_F16);
    assert_true(b->rank == 3 && b->dim[0] == 3 && b->dim[1] == 1 && b->dim[2] == 1); /* flattened, and restored */
    assert_true(dc_source_value(&(dc_source){a->data, a->dtype, 2, 0}, 5) == 5 && dc_source_value(&(dc_source){b->data, b->dtype, 3, 0}, 2) == 2);
    assert_string_equal(dc_weights_format(w), "gguf");
    dc_weights_close(w);
}

static void inspected(void **state)
{
    (void)state;
    json_t *o;
    dc_weights *floats = open_weights(GOLDEN "gguf/types.safetensors");
    int64_t n = 0;
    for (int i = 0; i < dc_weights_count(floats); i++) n += numel(dc_weights_at(floats, i));
    dc_weights_close(floats);
    assert_int_equal(dc_inspect(&o, GOLDEN "gguf/types.gguf", false, NULL), DC_OK);
    assert_string_equal(json_string_value(json_object_get(o, "kind")), "gguf");
    assert_int_equal(json_integer_value(json_object_get(o, "parameters")), n);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "dtypes"), "Q4_K")), 2);
    assert_string_equal(json_string_value(json_object_get(json_object_get(o, "metadata"), "general.architecture")), "test");
    assert_int_equal(json_array_size(json_object_get(o, "tensor_list")), 22);
    json_decref(o);
}

/* ---- made-up files -------------------------------------------------------------------------------------------------- */

/* A file from words: G the magic, N:V a number V of N bytes, s:TEXT a string with its length, b:TEXT bytes, p:N zeros up to a multiple of
 * N, z:N N of them, x:N N letters x. */
static dc_text make(const char *words)
{
    dc_text t = {0};
    for (const char *at = words; *at; at += strspn(at, " ")) {
        const size_t n = strcspn(at, " ");
        const uint64_t v = n > 2 ? strtoull(at + 2, NULL, 0) : 0, length = n - 2;
        if (*at == 'G') dc_text_append(&t, "GGUF", 4);
        else if (*at == 's') dc_text_append(&t, &length, 8), dc_text_append(&t, at + 2, length);
        else if (*at == 'b') dc_text_append(&t, at + 2, length);
        else if (*at >= '1' && *at <= '8') dc_text_append(&t, &v, (size_t)(*at - '0'));
        else
            for (uint64_t i = *at == 'p' ? (v - t.length % v) % v : v; i; i--) dc_text_append(&t, *at == 'x' ? "x" : "", 1);
        at += n;
    }
    return t;
}

static const char *write_words(const char *name, const char *words)
{
    dc_text t = make(words);
    const char *path = write_bytes(name, t.at, t.length);
    dc_text_free(&t);
    return path;
}

#define HEAD       "G 4:3 8:1 8:0 "           /* one tensor, no pairs */
#define PAIR       "G 4:3 8:0 8:1 "           /* a pair */
#define TENSOR     "s:a 4:2 8:3 8:2 4:0 8:0 " /* F32 [2,3], first of the data */
#define SHAPED     "G 4:3 8:1 8:1 s:comfy.gguf.orig_shape.a 4:9 "
#define SHAPED_END " s:a 4:1 8:6 4:24 8:0 p:32 z:6"

static void accepts(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        int tensors, pairs;
    } files[] = {
        {HEAD TENSOR "p:32 z:24", 1, 0},
        {HEAD TENSOR "p:32 z:32", 1, 0},                                                    /* padding behind the last one */
        {HEAD TENSOR "p:32 z:1000", 1, 0},                                                  /* and more, as ggml */
        {"G 4:2 8:1 8:0 " TENSOR "p:32 z:24", 1, 0},                                        /* version 2 */
        {"G 4:3 8:0 8:0", 0, 0},                                                            /* nothing */
        {HEAD "s:a 4:0 4:24 8:0 p:32 z:1", 1, 0},                                           /* rank 0 */
        {HEAD "s:a 4:2 8:0 8:5 4:2 8:0 p:32", 1, 0},                                        /* no rows of blocks */
        {"G 4:3 8:2 8:0 s:b 4:1 8:5 4:24 8:0 s:a 4:1 8:1 4:24 8:32 p:32 z:33", 2, 0},       /* in any order of names */
        {"G 4:3 8:1 8:1 s:general.alignment 4:4 4:1 " TENSOR "z:24", 1, 1},                 /* no padding */
        {"G 4:3 8:1 8:1 s:general.alignment 4:4 4:0x10000 " TENSOR "p:0x10000 z:24", 1, 1}, /* most */
        {PAIR "s:k 4:9 4:8 8:2 s:x s:yy", 0, 0},                                            /* lists are skipped */
        {PAIR "s:k 4:9 4:12 8:3 z:24", 0, 0},
        {"G 4:3 8:0 8:2 s:k 4:9 4:0 8:0 s:l 4:7 1:1", 0, 1},
        {SHAPED "4:5 8:2 4:2 4:3" SHAPED_END, 1, 0},
        {SHAPED "4:10 8:8 8:1 8:1 8:1 8:1 8:1 8:6 8:1 8:1" SHAPED_END, 1, 0},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        dc_error e = {0};
        dc_container k;
        if (dc_gguf_open(&k, write_words("x", files[i].words), &e)) fail_msg("%s: %s", files[i].words, e.text);
        assert_int_equal(k.n_tensors, files[i].tensors);
        assert_int_equal(k.n_metadata, files[i].pairs);
        dc_container_close(&k);
    }
}

static const struct {
    const char *words, *says;
} refused[] = {
    /* the beginning */
    {"b:GGUX 4:3 8:0 8:0", "header, byte 0: beginning: found another kind of file"},
    {"b:GG", "header, byte 0: beginning: found 2 bytes up to the end of the file, expected 4"},
    {"G 4:3 8:0", "header, byte 16: number of pairs: found 0 bytes up to the end of the file, expected 8"},
    {"G 4:0 8:0 8:0", "header, byte 4: version: found 0, expected 2 or 3"},
    {"G 4:1 4:0 4:0", "version: found 1, expected 2 or 3"},
    {"G 4:4 8:0 8:0", "version: found 4, expected 2 or 3"},
    {"G 4:0x03000000 8:0 8:0", "version: found 3 in big-endian order, expected 2 or 3 in little-endian"},
    {"G 4:3 8:-1 8:0", "number of tensors: found 18446744073709551615, expected at most "},
    {"G 4:3 8:0x8000000000000000 8:0", "number of tensors: found 9223372036854775808"},
    {"G 4:3 8:2 8:0 z:47", "number of tensors: found 2, expected at most the 1 that fit into the rest of the file"},
    {"G 4:3 8:262145 8:0 z:6291480", "number of tensors: found 262145, expected at most 262144"},
    {"G 4:3 8:0 8:-1", "header, byte 16: number of pairs: found 18446744073709551615, expected at most "},
    {"G 4:3 8:0 8:2 z:27", "number of pairs: found 2, expected at most the 1 that fit into the rest of the file"},
    {"G 4:3 8:0 8:65537 z:917518", "number of pairs: found 65537, expected at most 65536"},
    /* keys */
    {PAIR "8:0 4:0 1:0 z:10", "header, byte 24: key: found an empty one"},
    {PAIR "8:100 b:k 4:0 1:0", "header, byte 32: key: found 6 bytes up to the end of the file, expected 100"},
    {PAIR "8:-1 b:k 4:0 1:0", "key: found 18446744073709551615 bytes, expected at most 65535"},
    {PAIR "8:65536 x:65536 4:0 1:0", "key: found 65536 bytes, expected at most 65535"},
    {PAIR "8:3 b:k 1:0 b:l 4:0 1:0", "key: found a NUL"},
    {PAIR "s:k\xff 4:0 1:0", "key: found \"k\\xff\", expected UTF-8"},
    {"G 4:3 8:0 8:3 s:k 4:0 1:0 s:l 4:9 4:0 8:0 s:k 4:9 4:0 8:0", "pairs: k: found twice, expected once"},
    /* values */
    {PAIR "s:k 4:13 8:0 8:0", "k: found a value of type 13, expected 0 to 12"},
    {PAIR "s:k 4:-1 8:0 8:0", "k: found a value of type 4294967295"},
    {PAIR "s:k 4:10 4:0", "value: found 4 bytes up to the end of the file, expected 8"},
    {PAIR "s:k 4:8 8:9 x:8", "string: found 8 bytes up to the end of the file, expected 9"},
    {PAIR "s:k 4:8 8:67108865 x:8", "string: found 67108865 bytes, expected at most 67108864"},
    {PAIR "s:k 4:8 8:-8 x:8", "string: found 18446744073709551608 bytes"},
    {PAIR "s:k 4:8 s:\xc0\x80", "expected UTF-8"},
    {PAIR "s:k 4:9 4:9 8:1 4:0 8:1 1:0", "k: found a list of values of type 9, expected 0 to 12 and no list of lists"},
    {PAIR "s:k 4:9 4:13 8:0", "k: found a list of values of type 13"},
    {PAIR "s:k 4:9 4:4 8:3 z:11", "k: found a list of 3 values, expected at most the 2 that fit into the rest of the file"},
    {PAIR "s:k 4:9 4:10 8:0x2000000000000001 z:8", "k: found a list of 2305843009213693953 values, expected at most the 1"},
    {PAIR "s:k 4:9 4:8 8:3 z:23", "k: found a list of 3 values, expected at most the 2"},
    {PAIR "s:k 4:9 4:8 8:2 s:x 8:5 b:abcd", "string in a list: found 4 bytes up to the end of the file, expected 5"},
    {PAIR "s:k 4:9 4:8 8:2 8:-1 8:0", "string in a list: found 8 bytes up to the end of the file, expected 18446744073709551615"},
    /* alignment */
    {PAIR "s:general.alignment 4:10 8:32", "general.alignment: found a value of type 10, expected a whole number of 32 bits"},
    {PAIR "s:general.alignment 4:8 s:32", "general.alignment: found a value of type 8"},
    {PAIR "s:general.alignment 4:9 4:4 8:1 4:32", "general.alignment: found a value of type 9"},
    {PAIR "s:general.alignment 4:4 4:0", "general.alignment: found 0, expected a power of two up to 65536"},
    {PAIR "s:general.alignment 4:4 4:24", "general.alignment: found 24"},
    {PAIR "s:general.alignment 4:4 4:0x20000", "general.alignment: found 131072"},
    {PAIR "s:general.alignment 4:4 4:0x80000000", "general.alignment: found 2147483648"},
    /* names and shapes */
    {"G 4:3 8:3 8:0 s:a 4:0 4:24 8:0 s:b 4:0 4:24 8:32 s:a 4:0 4:24 8:64 p:32 z:65", "tensor a: name: found twice in the header, expected once"},
    {HEAD "8:1025 x:1025 4:0 4:24 8:0 p:32 z:1", "tensor name: found 1025 bytes, expected at most 1024"},
    {HEAD "8:2 b:a 1:0 4:0 4:24 8:0 p:32 z:1", "tensor name: found a NUL"},
    {HEAD "s:\xed\xa0\x80 4:0 4:24 8:0 p:32 z:1", "expected UTF-8"},
    {HEAD "s:a 4:5 8:1 8:1 8:1 8:1 8:1 4:24 8:0 p:32 z:1", "tensor a: shape: found 5 dimensions, expected at most 4 (header, byte 24)"},
    {HEAD "s:a 4:-1 8:1 8:1", "tensor a: shape: found 4294967295 dimensions"},
    {HEAD "s:a 4:4 8:1 8:1", "shape: found 16 bytes up to the end of the file, expected 32"},
    {HEAD "s:a 4:1 8:-1 4:24 8:0 p:32 z:1", "tensor a: shape: found a size of 18446744073709551615, expected at most 2^63-1"},
    {HEAD "s:a 4:2 8:0x100000000 8:0x80000000 4:24 8:0 p:32 z:1", "tensor a: shape: found more than 2^63-1 numbers"},
    {HEAD "s:a 4:2 8:0x100000000 8:0x100000000 4:24 8:0 p:32 z:1", "tensor a: shape: found more than 2^63-1 numbers"},
    {HEAD "s:a 4:3 8:0 8:0x100000000 8:0x100000000 4:24 8:0 p:32", "tensor a: shape: found more than 2^63-1 numbers"}, /* in any order */
    {HEAD "s:a 4:1 8:0x7fffffffffffffff 4:0 8:0 p:32 z:1", "tensor a: shape: found more than 2^64 bytes"},
    {HEAD "s:a 4:1 8:0x7fffffffffffffff 4:24 8:0 p:32 z:1", "tensor a: data: found a file of 65 bytes, expected 9223372036854775871"},
    {HEAD "s:a 4:1 8:33 4:2 8:0 p:32 z:64", "tensor a: shape: found rows of 33 numbers, expected whole blocks of 32 (Q4_0)"},
    {HEAD "s:a 4:2 8:32 8:8 4:12 8:0 p:32 z:144", "tensor a: shape: found rows of 32 numbers, expected whole blocks of 256 (Q4_K)"},
    {HEAD "s:a 4:0 4:8 8:0 p:32 z:34", "tensor a: shape: found rows of 1 numbers, expected whole blocks of 32 (Q8_0)"},
    /* types */
    {HEAD "s:a 4:1 8:256 4:23 8:0 p:32 z:136", "tensor a: type: found IQ4_XS, expected F32, F16, BF16"},
    {HEAD "s:a 4:1 8:256 4:34 8:0 p:32 z:136", "tensor a: type: found TQ1_0"},
    {HEAD "s:a 4:1 8:32 4:39 8:0 p:32 z:136", "tensor a: type: found MXFP4"},
    {HEAD "s:a 4:1 8:32 4:4 8:0 p:32 z:136", "tensor a: type: found Q4_2"},
    {HEAD "s:a 4:1 8:32 4:42 8:0 p:32 z:136", "tensor a: type: found number 42"},
    {HEAD "s:a 4:1 8:32 4:-1 8:0 p:32 z:136", "tensor a: type: found number 4294967295"},
    /* offsets */
    {HEAD "s:a 4:1 8:8 4:24 8:32 p:32 z:64", "tensor a: offset: found 32, expected 0, where the one before ends"},
    {HEAD "s:a 4:1 8:8 4:24 8:-32 p:32 z:64", "tensor a: offset: found 18446744073709551584, expected 0"},
    {"G 4:3 8:2 8:0 s:a 4:1 8:8 4:24 8:0 s:b 4:1 8:8 4:24 8:0 p:32 z:64", "tensor b: offset: found 0, expected 32"},
    {"G 4:3 8:2 8:0 s:a 4:1 8:8 4:24 8:0 s:b 4:1 8:8 4:24 8:8 p:32 z:64", "tensor b: offset: found 8, expected 32"},
    {"G 4:3 8:2 8:0 s:a 4:1 8:8 4:24 8:0 s:b 4:1 8:8 4:24 8:64 p:32 z:99", "tensor b: offset: found 64, expected 32"},
    {"G 4:3 8:2 8:0 s:a 4:1 8:0x7fffffffffffffff 4:24 8:0 s:b 4:1 8:0x7fffffffffffffff 4:24 8:0x8000000000000000",
     "tensor b: offset: found an end behind byte 2^64"},
    /* data */
    {HEAD TENSOR "p:32 z:23", "tensor a: data: found a file of 119 bytes, expected 120"},
    {HEAD TENSOR, "tensor a: data: found a file of 65 bytes, expected 120"},
    {HEAD "s:a 4:2 8:3 8:2 4:0", "offset of a tensor: found 0 bytes up to the end of the file, expected 8"},
    {"G 4:3 8:2 8:0 s:a 4:1 8:8 4:24 8:0 s:b 4:1 8:8 4:24 8:32 p:32 z:39", "tensor b: data: found a file of 135 bytes, expected 136"},
    /* comfy.gguf.orig_shape */
    {SHAPED "4:5 8:2 4:2 4:4" SHAPED_END, "tensor a: orig_shape: found 8 numbers, expected the tensor's 6"},
    {SHAPED "4:5 8:0" SHAPED_END, "tensor a: orig_shape: found 1 numbers, expected the tensor's 6"},
    {SHAPED "4:10 8:3 8:0x100000000 8:0x100000000 8:6" SHAPED_END, "tensor a: orig_shape: found more than 2^63-1 numbers"},
    {SHAPED "4:5 8:9 4:1 4:1 4:1 4:1 4:1 4:1 4:1 4:1 4:6" SHAPED_END, "orig_shape.a: found 9 dimensions, expected at most 8"},
    {SHAPED "4:5 8:2 4:-2 4:-3" SHAPED_END, "orig_shape.a: found -2, expected sizes from 0 on"},
    {SHAPED "4:10 8:1 8:-1" SHAPED_END, "orig_shape.a: found 18446744073709551615, expected sizes"},
    {SHAPED "4:6 8:1 4:6" SHAPED_END, "orig_shape.a: found values of type 6, expected whole numbers"},
    {SHAPED "4:8 8:1 s:6" SHAPED_END, "orig_shape.a: found values of type 8, expected whole numbers"},
    {"G 4:3 8:1 8:1 s:comfy.gguf.orig_shape.a 4:4 4:6" SHAPED_END, "orig_shape.a: found a value of type 4, expected a list"},
};

static void refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        dc_error e = {0};
        dc_container k;
        if (!dc_gguf_open(&k, write_words("x", refused[i].words), &e)) fail_msg("accepted: %s", refused[i].words);
        assert_error(&e, DC_DATA, refused[i].says);
        assert_null(k.tensor);
    }
}

/* The first bytes decide; a refusal is final. */
static void told_by_its_beginning(void **state)
{
    (void)state;
    dc_error e = {0};
    dc_weights *w = open_weights(write_words("model.safetensors", HEAD TENSOR "p:32 z:24"));
    assert_string_equal(dc_weights_format(w), "gguf");
    dc_weights_close(w);
    assert_int_equal(dc_weights_open(&w, write_words("x", "G 4:9"), &e), DC_DATA);
    assert_error(&e, DC_DATA, "version: found 9, expected 2 or 3");
    e = (dc_error){0};
    assert_int_equal(dc_weights_open(&w, write_words("x", "b:GGU"), &e), DC_DATA);
    assert_error(&e, DC_DATA, "expected a safetensors file");
    e = (dc_error){0};
    assert_int_equal(dc_weights_open(&w, write_words("x", HEAD "s:\x1b[2J 4:1 8:32 4:16 8:0"), &e), DC_DATA);
    assert_error(&e, DC_DATA, "tensor \\x1b[2J: type: found IQ2_XXS");
    assert_non_null(strstr(e.hint, "Q8_0"));
}

/* ---- limits ------------------------------------------------------------------------------------------------------------- */

static void put(FILE *f, uint64_t v, size_t n) { fwrite(&v, 1, n, f); }

/* A file in memory being written, and its path. */
typedef struct maker {
    FILE *f;
    char path[64];
} maker;

static maker begin(uint64_t tensors, uint64_t pairs)
{
    maker m;
    const int fd = memfd_create("gguf", 0);
    m.f = fd < 0 ? NULL : fdopen(fd, "wb");
    assert_non_null(m.f);
    snprintf(m.path, sizeof m.path, "/proc/self/fd/%d", fd);
    fputs("GGUF", m.f);
    put(m.f, 3, 4), put(m.f, tensors, 8), put(m.f, pairs, 8);
    return m;
}

/* With `data` bytes behind the header, which are not written, the file is opened within the bounds for it. */
static void check(maker *m, uint64_t data, dc_status want, const char *says)
{
    fflush(m->f);
    const uint64_t n = (uint64_t)ftell(m->f);
    if (data) assert_int_equal(ftruncate(fileno(m->f), (off_t)((n + 31) / 32 * 32 + data)), 0);
    within_bounds(m->path, n, want, says);
    fclose(m->f);
}

static void put_name(FILE *f, const char *format, int i)
{
    char name[400];
    const int n = snprintf(name, sizeof name, format, i);
    put(f, (uint64_t)n, 8);
    fputs(name, f);
}

static void tensors(int count, int rank, const char *name, dc_status want, const char *says)
{
    maker m = begin((uint64_t)count, 0);
    for (int i = 0; i < count; i++) {
        put_name(m.f, name, i);
        put(m.f, (uint64_t)rank, 4);
        for (int k = 0; k < rank; k++) put(m.f, 1, 8);
        put(m.f, 24, 4), put(m.f, 32 * (uint64_t)i, 8);
    }
    check(&m, 32 * (uint64_t)count, want, says);
}

static void pairs(int count, const char *key, int type, dc_status want, const char *says)
{
    maker m = begin(0, (uint64_t)count);
    for (int i = 0; i < count; i++) {
        put_name(m.f, key, i);
        put(m.f, (uint64_t)type, 4);
        if (type == 9) put(m.f, 10, 4), put(m.f, 8, 8);
        for (int k = 0; k < (type == 9 ? 8 : 1); k++) put(m.f, 1, type == 7 ? 1 : 8);
    }
    check(&m, 0, want, says);
}

static void limits(void **state)
{
    (void)state;
    char name[320]; /* sorting them compares to the end */
    memset(name, 'n', 300);
    strcpy(name + 300, "%d");
    tensors(DC_MAX_TENSORS, 0, "%x", DC_OK, "");
    tensors(DC_MAX_TENSORS, 4, "%x", DC_OK, "");
    tensors(DC_MAX_TENSORS + 1, 0, "%x", DC_DATA, "found 262145, expected at most 262144");
    tensors(100000, 1, name, DC_OK, "");
    pairs(DC_MAX_METADATA, "%x", 7, DC_OK, "");
    pairs(DC_MAX_METADATA, "%x", 12, DC_OK, "");
    pairs(DC_MAX_METADATA, "comfy.gguf.orig_shape.%x", 9, DC_OK, "");
    pairs(DC_MAX_METADATA + 1, "%x", 7, DC_DATA, "found 65537, expected at most 65536");
}

/* One pair whose string, or list of strings of one letter, has so many bytes; 48 bytes of header stand before them. */
static void long_value(bool list, uint64_t n, dc_status want, const char *says)
{
    static char block[1 << 16];
    maker m = begin(0, 1);
    put_name(m.f, "k", 0);
    put(m.f, list ? 9 : 8, 4);
    if (list) put(m.f, 8, 4);
    put(m.f, list ? n / 9 : n, 8);
    memset(block, 'x', sizeof block);
    for (uint64_t left = n; !list && left; left -= left < sizeof block ? left : sizeof block)
        fwrite(block, 1, left < sizeof block ? left : sizeof block, m.f);
    for (uint64_t i = 0; list && i < n / 9; i++) put(m.f, 1, 8), fputc('x', m.f);
    check(&m, 0, want, says);
}

static void long_values(void **state)
{
    (void)state;
    long_value(false, 64 << 20, DC_OK, "");
    long_value(false, (64 << 20) + 1, DC_DATA, "string: found 67108865 bytes, expected at most 67108864");
    long_value(true, 9 * (uint64_t)10000000, DC_OK, "");
    long_value(true, 9 * (uint64_t)12000000, DC_DATA, "found a header of more than 100000000 bytes");
}

/* ---- systematic damage ---------------------------------------------------------------------------------------------------- */

static const char seed[] = "G 4:3 8:3 8:5 s:general.architecture 4:8 s:sd1 s:n 4:4 4:7 s:general.alignment 4:4 4:8 s:t 4:9 4:8 8:2 s:a s:bc "
                           "s:comfy.gguf.orig_shape.w 4:9 4:5 8:2 4:4 4:16 s:w 4:1 8:64 4:2 8:0 s:b 4:2 8:2 8:1 4:0 8:40 s:e 4:0 4:24 8:48 p:8";
enum { SEED_DATA = 49 };

static dc_text seed_bytes(size_t *head)
{
    dc_text t = make(seed);
    *head = t.length;
    for (int i = 0; i < SEED_DATA; i++) dc_text_append(&t, "", 1);
    return t;
}

/* Refused with a message, or accepted with every tensor inside the file. Returns whether it was accepted. */
static bool well_behaved(const char *bytes, size_t n)
{
    dc_container k;
    dc_error e = {0};
    const char *path = write_bytes("damaged", bytes, n);
    if (dc_gguf_open(&k, path, &e)) {
        if (e.code != DC_DATA || strncmp(e.text, path, strlen(path)) || !strstr(e.text, "found")) fail_msg("found %d %s", e.code, e.text);
        return false;
    }
    for (int i = 0; i < k.n_tensors; i++) {
        const dc_stored *t = &k.tensor[i];
        const uint8_t *at = t->data;
        assert_true(at >= k.map.data + 24 && at <= k.map.data + k.map.size && t->bytes <= (uint64_t)(k.map.data + k.map.size - at));
        assert_int_equal((uint64_t)numel(t) / (uint64_t)dc_dtype_block(t->dtype) * dc_dtype_size(t->dtype), t->bytes);
        for (uint64_t j = 0; j < t->bytes; j++) assert_true(at[j] == 0 || at[j] == 1 || n > 0);
    }
    dc_container_close(&k);
    return true;
}

static void damage(void **state)
{
    (void)state;
    static const uint64_t values[] = {0,
                                      1,
                                      2,
                                      31,
                                      32,
                                      33,
                                      (uint64_t)-1,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffffu,
                                      0x100000000,
                                      0x7fffffffffffffff,
                                      0x8000000000000000,
                                      0xfffffffffffffff8,
                                      0xffffffffffffffe0};
    size_t head;
    dc_text t = seed_bytes(&head);
    int good = 0;
    assert_true(well_behaved(t.at, t.length));
    for (size_t n = 0; n < t.length; n++)
        if (well_behaved(t.at, n)) fail_msg("accepted a file cut to %zu of %zu bytes", n, t.length);
    for (size_t i = 0; i < head; i++)
        for (int bit = 0; bit < 8; bit++) {
            t.at[i] ^= (char)(1 << bit);
            good += well_behaved(t.at, t.length);
            t.at[i] ^= (char)(1 << bit);
        }
    assert_in_range(good, 200, 900); /* another letter in a name or a value is fine, most is not */
    for (size_t i = 0; i + 8 <= head; i++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++)
            for (int n = 4; n <= 8; n += 4) {
                char was[8];
                memcpy(was, t.at + i, 8);
                memcpy(t.at + i, &values[v], (size_t)n);
                well_behaved(t.at, t.length);
                memcpy(t.at + i, was, 8);
            }
    dc_text_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_values), cmocka_unit_test(float8_values), cmocka_unit_test(reference_pairs),       cmocka_unit_test(inspected),
        cmocka_unit_test(accepts),          cmocka_unit_test(refuses),       cmocka_unit_test(told_by_its_beginning), cmocka_unit_test(limits),
        cmocka_unit_test(long_values),      cmocka_unit_test(damage),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
