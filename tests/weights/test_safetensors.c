/* The safetensors reader: files of the reference implementation and their values, every refusal by a file made for it, and
 * systematic damage: cut at every byte, every bit of the header flipped, every number of it replaced. */
#include "base/half.h"
#include "base/json.h"
#include "tests/weights/files.h"
#include "weights/reader.h"
#include <math.h>

#define GOLDEN TEST_DATA "/golden/weights/"

/* ---- the reference's files ----------------------------------------------------------------------------------------- */

static double value_at(const dc_stored *t, size_t i)
{
    const uint8_t *at = (const uint8_t *)t->data + i * dc_dtype_size(t->dtype);
    union {
        double f64;
        float f32;
        uint16_t u16;
        int16_t i16;
        int32_t i32;
        int64_t i64;
        int8_t i8;
    } v;
    memcpy(&v, at, dc_dtype_size(t->dtype));
    switch (t->dtype) {
    case DC_F64: return v.f64;
    case DC_F32: return v.f32;
    case DC_F16: return dc_f16_to_f32(v.u16);
    case DC_BF16: return dc_bf16_to_f32(v.u16);
    case DC_F8_E4M3: return dc_f8_e4m3_to_f32(*at);
    case DC_F8_E5M2: return dc_f8_e5m2_to_f32(*at);
    case DC_I64: return (double)v.i64;
    case DC_I32: return v.i32;
    case DC_I16: return v.i16;
    case DC_I8: return v.i8;
    default: return *at;
    }
}

static double number_of(const json_t *v)
{
    const char *s = json_string_value(v);
    if (s) return !strcmp(s, "nan") ? NAN : !strcmp(s, "inf") ? INFINITY : -INFINITY;
    return json_is_boolean(v) ? json_is_true(v) : json_number_value(v);
}

static void same_tensor(const dc_weights *w, const char *name, const json_t *want)
{
    const dc_stored *t = dc_weights_find(w, name);
    const json_t *shape = json_object_get(want, "shape"), *values = json_object_get(want, "values");
    if (!t) fail_msg("no tensor %s", name);
    assert_string_equal(dc_dtype_name(t->dtype), json_string_value(json_object_get(want, "dtype")));
    assert_int_equal(t->rank, json_array_size(shape));
    for (int i = 0; i < t->rank; i++) assert_int_equal(t->dim[i], json_integer_value(json_array_get(shape, (size_t)i)));
    assert_int_equal(t->bytes, json_array_size(values) * dc_dtype_size(t->dtype));
    for (size_t i = 0; i < json_array_size(values); i++) {
        double a = value_at(t, i), b = number_of(json_array_get(values, i));
        if (!(a == b && signbit(a) == signbit(b)) && !(isnan(a) && isnan(b))) fail_msg("%s[%zu]: found %.17g, expected %.17g", name, i, a, b);
    }
}

static void reference_values(void **state)
{
    (void)state;
    dc_error e = {0};
    json_t *root, *want;
    dc_weights *w;
    const char *key, *value;
    assert_int_equal(dc_json_read(&root, GOLDEN "safetensors.json", 1 << 20, &e), DC_OK);
    const json_t *all = json_object_get(root, "all"), *tensors = json_object_get(all, "tensors");
    assert_int_equal(dc_weights_open(&w, GOLDEN "all_dtypes.safetensors", &e), DC_OK);
    assert_int_equal(dc_weights_count(w), json_object_size(tensors));
    assert_true(dc_weights_count(w) > 15);
    json_object_foreach((json_t *)tensors, key, want) same_tensor(w, key, want);
    assert_int_equal(dc_weights_metadata_count(w), json_object_size(json_object_get(all, "metadata")));
    for (int i = 0; i < dc_weights_metadata_count(w); i++) {
        dc_weights_metadata_at(w, i, &key, &value);
        assert_string_equal(value, json_string_value(json_object_get(json_object_get(all, "metadata"), key)));
    }
    assert_string_equal(dc_weights_metadata(w, "format"), "pt");
    assert_null(dc_weights_metadata(w, "none"));
    assert_null(dc_weights_find(w, "none"));
    dc_weights_close(w);
    json_decref(root);
}

static void reference_refusals(void **state)
{
    (void)state;
    dc_error e = {0};
    json_t *root, *name;
    size_t i;
    dc_weights *w;
    assert_int_equal(dc_json_read(&root, GOLDEN "safetensors.json", 1 << 20, &e), DC_OK);
    json_t *bad = json_object_get(root, "must_be_refused");
    json_array_append(bad, json_array_get(json_object_get(root, "may_be_refused"), 0));
    assert_int_equal(json_array_size(bad), 14);
    json_array_foreach(bad, i, name)
    {
        char path[512];
        snprintf(path, sizeof path, GOLDEN "%s", json_string_value(name));
        e = (dc_error){0};
        assert_int_equal(dc_weights_open(&w, path, &e), DC_DATA);
        assert_null(w);
        assert_error(&e, DC_DATA, json_string_value(name));
    }
    json_decref(root);
    static const char *const good[] = {GOLDEN "ok_padded_header.safetensors", GOLDEN "ok_no_tensors.safetensors"};
    for (i = 0; i < 2; i++) {
        assert_int_equal(dc_weights_open(&w, good[i], NULL), DC_OK);
        assert_int_equal(dc_weights_count(w), i == 0);
        if (i == 0) assert_true(value_at(dc_weights_find(w, "a"), 0) == 1 && value_at(dc_weights_find(w, "a"), 1) == 2);
        dc_weights_close(w);
    }
}

/* ---- made-up headers ------------------------------------------------------------------------------------------------- */

#define A "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}" /* a good tensor of 4 bytes */

static const struct {
    const char *header;
    int data;
} accepted[] = {
    {"{}", 0},
    {" \t\r\n{" A "}\n  ", 4},
    {"{\"__metadata__\":{}," A "}", 4},
    {"{\"__metadata__\":null," A "}", 4},
    {"{" A ",\"__metadata__\":{\"x\":\"\\u0041\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\n\\r\\t\"}}", 4},
    {"{\"a\":{\"data_offsets\" : [ 0 , 4 ] , \"shape\":[2,1,2], \"dtype\":\"I8\"}}", 4},
    {"{\"a\":{\"dtype\":\"U8\",\"more\":[1,-2.5e+3,0,-0.5E2,1e9,{\"x\":[[],{}],\"y\":null},true,false,\"\"],\"shape\":[4],\"data_offsets\":"
     "[0,4]}}",
     4},
    {"{\"a\":{\"dtype\":\"U8\",\"x\":{},\"shape\":[4],\"y\":7,\"data_offsets\":[0,4]}}", 4},
    {"{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[4,5]}," A "}", 5}, /* not in the order of the data */
    {"{\"z\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[4,4]}," A ",\"y\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[0,0]}}",
     4}, /* empty ones between */
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4},
    {"{\"a\":{\"dtype\":\"F64\",\"shape\":[4611686018427387904,0],\"data_offsets\":[0,0]}}",
     0}, /* the product of the numbers fits, as in the reference */
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,2,1,1,2,1],\"data_offsets\":[0,4]}}", 4},
    {"{\"\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4},
};

static const struct {
    const char *header;
    int data;
    const char *says;
} refused[] = {
    /* the text */
    {"", 0, "beginning: found its end"},
    {"[]", 0, "header, byte 8: beginning: found '[]', expected '{'"},
    {"{", 0, "tensor name: found its end, expected a string"},
    {"{" A, 4, "list of tensors: found its end"},
    {"{" A ",}", 4, "tensor name: found '}', expected a string"},
    {"{" A "}}", 4, "header, byte 61: behind the closing brace: found '}'"},
    {"{\"a\" 1}", 0, "tensor name: found '1}', expected ':'"},
    {"{\"a\":1}", 0, "entry of a tensor: found '1}', expected an object"},
    {"{\"\xff\":{}}", 0, "header, byte 10: text: found '\\xff"},
    {"{\"\xc3\xa9\xc3(\":{}}", 0, "header, byte 12: text: found '\\xc3("},
    {"{\"a\nb\":{}}", 0, "tensor name: found '\\x0ab"},
    {"{\"a", 0, "tensor name: found its end, expected a closing quote"},
    {"{\"a\\x\":{}}", 0, "found 'x\":{}}', expected an escape of JSON"},
    {"{\"a\\", 0, "found its end, expected an escape of JSON"},
    {"{\"a\\u00g0\":{}}", 0, "expected four hex digits"},
    {"{\"a\\u00\":{}}", 0, "expected four hex digits"},
    {"{\"a\\u004", 0, "expected four hex digits"},
    {"{\"a\\u0000\":{}}", 0, "expected four hex digits of a character that is not NUL"},
    {"{\"\\ud800\":{}}", 0, "expected four hex digits"},
    {"{\"\\udc00\":{}}", 0, "expected four hex digits"},
    {"{\"\\ud800\\u0041\":{}}", 0, "expected four hex digits"},
    {"{\"\\ud800\\n    \":{}}", 0, "expected four hex digits"},
    /* an entry */
    {"{\"a\":{}}", 0, "tensor a: entry (header, byte 9): found no dtype"},
    {"{\"a\":{\"dtype\":\"U8\"}}", 0, "found no shape"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, "found no data_offsets"},
    {"{\"a\":{\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "found no dtype"},
    {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 0, "found dtype twice"},
    {"{\"a\":{\"shape\":[],\"shape\":[]}}", 0, "found shape twice"},
    {"{\"a\":{\"data_offsets\":[0,0],\"data_offsets\":[0,0]}}", 0, "found data_offsets twice"},
    {"{\"a\":{\"dtype\"}}", 0, "key of a tensor: found '}}', expected ':'"},
    {"{\"a\":{1}}", 0, "key of a tensor: found '1}}', expected a string"},
    {"{\"a\":{\"dtype\":\"U8\" \"shape\":[]}}", 0, "expected ',' or '}'"},
    {"{\"a\":{\"dtype\":7}}", 0, "dtype: found '7}}', expected a string"},
    {"{\"a\":{\"dtype\":\"F4\"}}", 0, "tensor a: dtype (header, byte 9): found F4, expected F64"},
    {"{\"a\":{\"dtype\":\"F8_E8M0\"}}", 0, "found F8_E8M0, expected"},
    {"{\"a\":{\"dtype\":\"f32\"}}", 0, "found f32, expected"},
    {"{\"a\":{\"dtype\":\"F32\\u000a\"}}", 0, "found F32\\x0a, expected"},
    {"{\"a\":{\"shape\":4}}", 0, "shape: found '4}}', expected an array"},
    {"{\"a\":{\"shape\":[4}}", 0, "shape: found '}}', expected ',' or ']'"},
    {"{\"a\":{\"shape\":[4,]}}", 0, "shape: found ']}}', expected a whole number"},
    {"{\"a\":{\"shape\":[-4]}}", 0, "shape: found '-4]}}', expected a whole number"},
    {"{\"a\":{\"shape\":[+4]}}", 0, "expected a whole number"},
    {"{\"a\":{\"shape\":[4.0]}}", 0, "shape: found '4.0]}}', expected a whole number"},
    {"{\"a\":{\"shape\":[4e0]}}", 0, "expected a whole number"},
    {"{\"a\":{\"shape\":[04]}}", 0, "expected a whole number"},
    {"{\"a\":{\"shape\":[\"4\"]}}", 0, "expected a whole number"},
    {"{\"a\":{\"shape\":[null]}}", 0, "expected a whole number"},
    {"{\"a\":{\"shape\":[9223372036854775808]}}", 0, "expected a number below 2^63"},
    {"{\"a\":{\"shape\":[18446744073709551617]}}", 0, "expected a number below 2^63"},
    {"{\"a\":{\"shape\":[1", 0, "shape: found its end"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
     "tensor a: shape (header, byte 9): found more than 8 dimensions"},
    {"{\"a\":{\"data_offsets\":0}}", 0, "data_offsets: found '0}}', expected an array"},
    {"{\"a\":{\"data_offsets\":[]}}", 0, "data_offsets: found ']}}', expected a whole number"},
    {"{\"a\":{\"data_offsets\":[0]}}", 0, "data_offsets: found ']}}', expected ',' and the end"},
    {"{\"a\":{\"data_offsets\":[0,x]}}", 0, "expected a whole number"},
    {"{\"a\":{\"data_offsets\":[0,1,2]}}", 0, "data_offsets: found ',2]}}', expected ']'"},
    /* keys that nobody knows are still JSON */
    {"{\"a\":{\"x\":}}", 0, "value: found '}}', expected one of JSON"},
    {"{\"a\":{\"x\":nul}}", 0, "expected one of JSON"},
    {"{\"a\":{\"x\":01}}", 0, "expected ',' or '}'"},
    {"{\"a\":{\"x\":1.}}", 0, "expected one of JSON"},
    {"{\"a\":{\"x\":1e}}", 0, "expected one of JSON"},
    {"{\"a\":{\"x\":-}}", 0, "expected one of JSON"},
    {"{\"a\":{\"x\":[1,]}}", 0, "expected one of JSON"},
    {"{\"a\":{\"x\":[1 2]}}", 0, "value: found '2]}}', expected ',' or ']'"},
    {"{\"a\":{\"x\":[1}}", 0, "value: found '}}', expected ',' or ']'"},
    {"{\"a\":{\"x\":{\"y\":1]}}", 0, "value: found ']}}', expected ',' or '}'"},
    {"{\"a\":{\"x\":{\"y\"}}}", 0, "key: found '}}}', expected ':'"},
    {"{\"a\":{\"x\":{1:2}}}", 0, "key: found '1:2}}}', expected a string"},
    {"{\"a\":{\"x\":{\"y\":1,2}}}", 0, "key: found '2}}}', expected a string"},
    {"{\"a\":{\"x\":[\"\\q\"]}}", 0, "expected an escape of JSON"},
    {"{\"a\":{\"x\":[", 0, "value: found its end"},
    /* metadata */
    {"{\"__metadata__\":[]}", 0, "__metadata__: found '[]}', expected an object"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "value in __metadata__: found '1}}', expected a string"},
    {"{\"__metadata__\":{\"a\"}}", 0, "key of __metadata__: found '}}', expected ':'"},
    {"{\"__metadata__\":{\"a\":\"b\"", 0, "__metadata__: found its end"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__: found '{}}', expected it once"},
    {"{\"__metadata__\":{\"k\":\"1\",\"j\":\"\",\"k\":\"2\"}}", 0, "__metadata__: k: found twice"},
    /* sizes and places */
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
     "tensor a: shape (header, byte 9): found more than 2^64 bytes"},
    {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0, "found more than 2^64 bytes"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296,0],\"data_offsets\":[0,0]}}", 0, "found more than 2^64 bytes"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}", 4,
     "tensor a: data_offsets (header, byte 9): found [4, 0], expected an end behind the beginning"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "found 4 bytes, expected 8 (F16 and the shape)"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,4]}}", 4, "found 4 bytes, expected 3"},
    {"{" A "}", 3, "tensor a: data: found a file of 64 bytes, expected 61 and 4"},
    {"{" A "}", 5, "data: found 1 bytes behind the last tensor, expected the file to end at byte 65"},
    {"{}", 1, "data: found 1 bytes behind the last tensor"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[9223372036854775807],\"data_offsets\":[0,9223372036854775807]}}", 4, "expected 97 and 9223372036854775807"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[1,4]}}", 4,
     "tensor a: data_offsets: found a beginning at 1, expected 0 (a hole behind the header)"},
    {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[5,7]}}", 7,
     "tensor b: data_offsets: found a beginning at 5, expected 4 (a hole behind a)"},
    {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}", 5,
     "tensor b: data_offsets: found a beginning at 3, expected 4 (an overlap behind a)"},
    {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "an overlap"},
    {"{\"e\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}," A "}", 4, "an overlap"}, /* an empty tensor inside another */
    {"{" A ",\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]}}", 6, "tensor a: name: found twice"},
    {"{" A ",\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]}}", 6,
     "tensor a: name: found twice"}, /* the same name, written otherwise */
};

static void made_up(void **state)
{
    (void)state;
    dc_container k;
    for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
        dc_error e = {0};
        if (dc_safetensors_open(&k, write_tensors("x.safetensors", accepted[i].header, (size_t)accepted[i].data), &e))
            fail_msg("%s: %s", accepted[i].header, e.text);
        dc_container_close(&k);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        dc_error e = {0};
        if (!dc_safetensors_open(&k, write_tensors("x.safetensors", refused[i].header, (size_t)refused[i].data), &e))
            fail_msg("accepted: %s", refused[i].header);
        assert_error(&e, DC_DATA, refused[i].says);
        assert_error(&e, DC_DATA, "x.safetensors: ");
    }
}

/* What is read is what was written. */
static void contents(void **state)
{
    (void)state;
    dc_container k;
    dc_error e = {0};
    assert_int_equal(dc_safetensors_open(&k,
                                         write_tensors("x.safetensors",
                                                       "{\"z\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[6,7]},\"__metadata__\":{"
                                                       "\"q\":\"\\u00e9\\ud83d\\ude00\\n\",\"b\":\"\"},"
                                                       "\"m\\\"\":{\"dtype\":\"I16\",\"shape\":[3,1],\"data_offsets\":[0,6]}}",
                                                       7),
                                         &e),
                     DC_OK);
    assert_int_equal(k.n_tensors, 2);
    assert_string_equal(k.tensor[0].name, "m\"");
    assert_int_equal(k.tensor[0].rank, 2);
    assert_int_equal(k.tensor[0].dim[0], 3);
    assert_int_equal(k.tensor[0].dim[1], 1);
    assert_int_equal(k.tensor[0].bytes, 6);
    assert_memory_equal(k.tensor[0].data, "\0\1\2\3\4\5", 6);
    assert_string_equal(k.tensor[1].name, "z");
    assert_int_equal(k.tensor[1].rank, 0);
    assert_memory_equal(k.tensor[1].data, "\6", 1);
    assert_int_equal(k.n_metadata, 2);
    assert_string_equal(k.metadata[0].key, "b");
    assert_string_equal(k.metadata[1].value, "\xc3\xa9\xf0\x9f\x98\x80\n");
    dc_container_close(&k);
}

/* ---- files that are something else ------------------------------------------------------------------------------------- */

static void other_files(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *says, *hint;
    } files[] = {
        {"", 0, "size: found 0 bytes, expected a safetensors file of at least 8", "cut short"},
        {"\2\0\0\0\0\0\0", 7, "size: found 7 bytes", "cut short"},
        {"\2\0\0\0\0\0\0\0", 8, "header length: found 2 bytes, expected at most the 0 that follow", "cut short"},
        {"\2\0\0\0\0\0\0\0{", 9, "found 2 bytes, expected at most the 1", "cut short"},
        {"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "found 18446744073709551615 bytes, expected at most 100000000", "not a safetensors file"},
        {"\xf8\xff\xff\xff\xff\xff\xff\xff{}", 10, "found 18446744073709551608 bytes", "not a safetensors file"},
        {"\x01\xe1\xf5\x05\0\0\0\0{}", 10, "header length: found 100000001 bytes, expected at most 100000000", "not a safetensors file"},
        {"\x00\xe1\xf5\x05\0\0\0\0{}", 10, "header length: found 100000000 bytes, expected at most the 2", "cut short"},
        {"PK\3\4\0\0\0\0\0\0\0\0", 12, "zip: end record: found none", "cut short"},
        {"\x80\2}q\0X\1\0\0\0", 10, "pickle, byte", "safetensors"},
        {"version https://git-lfs.github.com/spec/v1\noid", 46, "header length", "LFS"},
        {"<!DOCTYPE html>", 15, "header length", "web page"},
        {"{\"weight_map\":{}}", 17, "header length", "JSON"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        dc_error e = {0};
        dc_weights *w;
        assert_int_equal(dc_weights_open(&w, write_bytes("x", files[i].bytes, files[i].n), &e), DC_DATA);
        assert_error(&e, DC_DATA, files[i].says);
        if (!strstr(e.hint, files[i].hint)) fail_msg("hint: found %s, expected %s", e.hint, files[i].hint);
    }
    dc_error e = {0};
    dc_weights *w;
    assert_int_equal(dc_weights_open(&w, in_folder("none"), &e), DC_NO_INPUT);
    e = (dc_error){0};
    assert_int_equal(dc_weights_open(&w, folder, &e), DC_NO_INPUT);
    assert_error(&e, DC_NO_INPUT, "found a folder");
}

/* Names from the file drive no terminal and push nothing out of the line. */
static void hostile_names(void **state)
{
    (void)state;
    dc_error e = {0};
    dc_container k;
    char header[3000], name[1100];
    assert_int_equal(dc_safetensors_open(&k, write_tensors("x", "{\"\\u001b[2J\\u202e\":{}}", 0), &e), DC_DATA);
    assert_error(&e, DC_DATA, "tensor \\x1b[2J\\xe2\\x80\\xae: entry");
    for (int n = 1024; n <= 1025; n++) {
        memset(name, 'n', sizeof name);
        name[n] = 0;
        e = (dc_error){0};
        snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", name);
        dc_status s = dc_safetensors_open(&k, write_tensors("x", header, 1), &e);
        assert_int_equal(s, n > 1024 ? DC_DATA : DC_OK);
        if (s) assert_error(&e, s, "nnn...: name (header, byte 9): found 1025 bytes, expected at most 1024");
        dc_container_close(&k);
        snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,1]}}", name);
        e = (dc_error){0};
        if (n == 1024) assert_int_equal(dc_safetensors_open(&k, write_tensors("x", header, 1), &e), DC_DATA);
        if (n == 1024) assert_error(&e, DC_DATA, "nnn...: data_offsets (header, byte 9): found 1 bytes, expected 2");
    }
}

/* ---- systematic damage ---------------------------------------------------------------------------------------------------- */

static const char seed[] =
    "{\"__metadata__\":{\"format\":\"pt\",\"e\":\"\\u00e9\"},\"a.weight\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
    "\"b\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]},\"c\":{\"dtype\":\"F8_E4M3\",\"shape\":[0],\"data_offsets\":[16,16]}}  ";
#define SEED_HEAD (8 + sizeof seed - 1)
#define SEED_SIZE (SEED_HEAD + 16)

static void seed_bytes(char *out)
{
    FILE *f = fopen(write_tensors("seed", seed, 16), "rb");
    assert_non_null(f);
    assert_int_equal(fread(out, 1, SEED_SIZE, f), SEED_SIZE);
    fclose(f);
}

/* Refused with a message, or accepted with every tensor inside the file. Returns whether it was accepted. */
static bool well_behaved(const char *bytes, size_t n)
{
    dc_container k;
    dc_error e = {0};
    const char *path = write_bytes("damaged", bytes, n);
    if (dc_safetensors_open(&k, path, &e)) {
        if (e.code != DC_DATA || strncmp(e.text, path, strlen(path)) || !strstr(e.text, "found")) fail_msg("found %d %s", e.code, e.text);
        return false;
    }
    uint64_t sum = 0;
    for (int i = 0; i < k.n_tensors; i++) {
        const uint8_t *at = k.tensor[i].data;
        assert_true(at >= k.map.data + 8 && at <= k.map.data + k.map.size && k.tensor[i].bytes <= (uint64_t)(k.map.data + k.map.size - at));
        for (uint64_t j = 0; j < k.tensor[i].bytes; j++) sum += at[j];
    }
    assert_true(sum < 256 * SEED_SIZE);
    dc_container_close(&k);
    return true;
}

static void cut_at_every_byte(void **state)
{
    (void)state;
    char bytes[SEED_SIZE];
    seed_bytes(bytes);
    for (size_t n = 0; n < SEED_SIZE; n++)
        if (well_behaved(bytes, n)) fail_msg("accepted a file cut to %zu of %zu bytes", n, SEED_SIZE);
    assert_true(well_behaved(bytes, SEED_SIZE));
}

static void every_bit_flipped(void **state)
{
    (void)state;
    char bytes[SEED_SIZE];
    int good = 0;
    seed_bytes(bytes);
    for (size_t i = 0; i < SEED_HEAD; i++)
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (char)(1 << bit);
            good += well_behaved(bytes, SEED_SIZE);
            bytes[i] ^= (char)(1 << bit);
        }
    assert_in_range(good, 100, 300); /* another letter in a name or a value is fine, most is not */
}

static void every_number_replaced(void **state)
{
    (void)state;
    static const char *const values[] = {"0",
                                         "1",
                                         "-1",
                                         "2147483647",
                                         "2147483648",
                                         "4294967296",
                                         "9223372036854775807",
                                         "9223372036854775808",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "1e3",
                                         "1.0",
                                         "\"4\"",
                                         "null",
                                         "99999999999999999999999999999999",
                                         "",
                                         "[0]"};
    int numbers = 0;
    for (const char *p = seed; *p; p++) {
        if (!strchr("[,", *p) || p[1] < '0' || p[1] > '9') continue;
        size_t head = (size_t)(p + 1 - seed), n = strspn(p + 1, "0123456789");
        numbers++;
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            char header[sizeof seed + 64];
            dc_container k;
            dc_error e = {0};
            snprintf(header, sizeof header, "%.*s%s%s", (int)head, seed, values[v], seed + head + n);
            dc_status s = dc_safetensors_open(&k, write_tensors("x", header, 16), &e);
            bool same = strlen(values[v]) == n && !strncmp(values[v], p + 1, n);
            if (s != (same ? DC_OK : DC_DATA)) fail_msg("status %d %s: %s", s, e.text, header);
            if (!s) dc_container_close(&k);
        }
    }
    assert_int_equal(numbers, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_values),  cmocka_unit_test(reference_refusals), cmocka_unit_test(made_up),
        cmocka_unit_test(contents),          cmocka_unit_test(other_files),        cmocka_unit_test(hostile_names),
        cmocka_unit_test(cut_at_every_byte), cmocka_unit_test(every_bit_flipped),  cmocka_unit_test(every_number_replaced),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
