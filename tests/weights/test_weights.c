/* Shards and component folders, written from the one copied model: the same tensors by every way, and every refusal. */
#include "base/file.h"
#include "tests/weights/archive.h"
#include "tests/weights/files.h"
#include "weights/reader.h"

#define MODEL TEST_DATA "/golden/models/sd1/unet"

/* ---- writing ------------------------------------------------------------------------------------------------------- */

/* Tensors [from, to) of w as a safetensors file. */
static void write_part(const char *name, const dc_weights *w, int from, int to)
{
    dc_text head = {0}, data = {0};
    uint64_t at = 0;
    dc_text_printf(&head, "{\"__metadata__\":{\"part\":\"%s\"}", name);
    for (int i = from; i < to; i++) {
        const dc_stored *t = dc_weights_at(w, i);
        dc_text_printf(&head, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name, dc_dtype_name(t->dtype));
        for (int k = 0; k < t->rank; k++) dc_text_printf(&head, k ? ",%lld" : "%lld", (long long)t->dim[k]);
        dc_text_printf(&head, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)(at + t->bytes));
        dc_text_append(&data, t->data, t->bytes);
        at += t->bytes;
    }
    dc_text_printf(&head, "}");
    dc_text whole = {0};
    for (int i = 0; i < 8; i++) dc_text_append(&whole, &(char){(char)((uint64_t)head.length >> 8 * i)}, 1);
    dc_text_append(&whole, head.at, head.length);
    if (data.length) dc_text_append(&whole, data.at, data.length);
    write_bytes(name, whole.at, whole.length);
    dc_text_free(&head);
    dc_text_free(&data);
    dc_text_free(&whole);
}

/* All of w in `parts` shards SUB/STEM-0000I-of-0000N.safetensors, and their index. */
static void write_shards(const char *sub, const char *stem, const char *index, const dc_weights *w, int parts)
{
    dc_text map = {0};
    int n = dc_weights_count(w);
    char path[256];
    for (int p = 0; p < parts; p++) {
        snprintf(path, sizeof path, "%s/%s-%05d-of-%05d.safetensors", sub, stem, p + 1, parts);
        write_part(path, w, n * p / parts, n * (p + 1) / parts);
        for (int i = n * p / parts; i < n * (p + 1) / parts; i++)
            dc_text_printf(&map, "%s\n  \"%s\": \"%s\"", map.length ? "," : "", dc_weights_at(w, i)->name, strrchr(path, '/') + 1);
    }
    dc_text text = {0};
    dc_text_printf(&text, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {%s\n}}\n", map.at);
    snprintf(path, sizeof path, "%s/%s", sub, index);
    write_text(path, text.at);
    dc_text_free(&map);
    dc_text_free(&text);
}

static dc_weights *open_model(void)
{
    dc_weights *w;
    dc_error e = {0};
    if (dc_weights_open_folder(&w, MODEL, "diffusion_pytorch_model", &e)) fail_msg("%s", e.text);
    assert_true(dc_weights_count(w) > 600);
    return w;
}

static void same_weights(const dc_weights *a, const dc_weights *b)
{
    assert_int_equal(dc_weights_count(a), dc_weights_count(b));
    for (int i = 0; i < dc_weights_count(a); i++) {
        const dc_stored *s = dc_weights_at(a, i), *t = dc_weights_find(b, s->name);
        if (!t || t != dc_weights_at(b, i)) fail_msg("tensor %s is not there, or not in order", s->name);
        assert_int_equal(s->dtype, t->dtype);
        assert_int_equal(s->rank, t->rank);
        assert_memory_equal(s->dim, t->dim, sizeof *s->dim * (size_t)s->rank);
        assert_int_equal(s->bytes, t->bytes);
        assert_memory_equal(s->data, t->data, s->bytes);
    }
}

/* ---- folders ---------------------------------------------------------------------------------------------------------- */

static void opens(const char *sub, const char *stem, const dc_weights *want, const char *file)
{
    dc_weights *w;
    dc_error e = {0};
    if (dc_weights_open_folder(&w, in_folder(sub), stem, &e)) fail_msg("%s", e.text);
    if (!strstr(dc_weights_path(w), file)) fail_msg("opened %s, expected %s", dc_weights_path(w), file);
    if (want) same_weights(w, want);
    dc_weights_close(w);
}

static void refuses(const char *sub, const char *stem, dc_status code, const char *says, const char *hint)
{
    dc_weights *w = (dc_weights *)&w;
    dc_error e = {0};
    assert_int_equal(dc_weights_open_folder(&w, in_folder(sub), stem, &e), code);
    assert_null(w);
    assert_error(&e, code, says);
    if (hint ? !strstr(e.hint, hint) : e.hint[0] != 0) fail_msg("hint: found \"%s\", expected \"%s\"", e.hint, hint ? hint : "");
}

#define TINY "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}"

/* The best first: each file that is added is preferred to those before it. */
static void preference(void **state)
{
    (void)state;
    dc_weights *w = open_model();
    make_subfolder("p");
    refuses("p", "model", DC_NO_INPUT,
            "/p: weights: found none, expected model.safetensors, a variant of it (.fp16.) or model.safetensors.index.json", NULL);
    write_text("p/config.json", "{}");
    write_text("p/other.safetensors", "");
    write_text("p/model_old.safetensors", "");
    write_text("p/models.safetensors", "");
    refuses("p", "model", DC_NO_INPUT, "found none", NULL);
    write_text("p/openvino_model.bin", "");
    refuses("p", "model", DC_NO_INPUT, "found openvino_model.bin, expected model.safetensors", "get such a version of the model, or convert it");
    write_text("p/flax_model.msgpack", "");
    write_text("p/model.bin.index.json", "");
    refuses("p", "model", DC_NO_INPUT, "found flax_model.msgpack", "Read are safetensors and torch's .bin of those names");
    write_tensors("p/model-00001-of-00002.safetensors", TINY, 1);
    refuses("p", "model", DC_NO_INPUT, "found model-00001-of-00002.safetensors", "the index that lists them is missing");
    write_shards("p", "model", "model.safetensors.index.bf16.json", w, 2);
    opens("p", "model", w, "/p/model.safetensors.index.bf16.json");
    write_shards("p", "model", "model.safetensors.index.ema.json", w, 2);
    refuses("p", "model", DC_DATA,
            "found 2 variants, among them model.safetensors.index.bf16.json and model.safetensors.index.ema.json, expected one, or "
            "model.safetensors",
            NULL);
    write_shards("p", "model", "model.safetensors.index.fp16.json", w, 3);
    opens("p", "model", w, "/p/model.safetensors.index.fp16.json");
    write_shards("p", "model", "model.safetensors.index.json", w, 5);
    opens("p", "model", w, "/p/model.safetensors.index.json");
    write_tensors("p/model.ema.safetensors", TINY, 1);
    opens("p", "model", NULL, "/p/model.ema.safetensors");
    write_tensors("p/model.bf16.safetensors", TINY, 1);
    refuses("p", "model", DC_DATA, "found 2 variants, among them model.bf16.safetensors and model.ema.safetensors", NULL);
    write_part("p/model.fp16.safetensors", w, 0, dc_weights_count(w));
    opens("p", "model", w, "/p/model.fp16.safetensors");
    write_tensors("p/model.safetensors", TINY, 1);
    opens("p", "model", NULL, "/p/model.safetensors");
    dc_weights_close(w);
}

/* A torch file of one tensor, "a". */
static void write_bin(const char *name)
{
    static const char pickle[] = "\x80\2}" A BYTES "s.";
    archive a = {.described = true};
    archive_torch(&a, pickle, sizeof pickle - 1);
    write_bytes(name, a.file.at, a.file.length);
    archive_free(&a);
}

/* torch's files in the same order, and all of them behind those of safetensors. */
static void preference_of_torch(void **state)
{
    (void)state;
    make_subfolder("t");
    write_bin("t/pytorch_model-00001-of-00001.bin");
    refuses("t", "model", DC_NO_INPUT, "found pytorch_model-00001-of-00001.bin, expected", "the index that lists them is missing");
    write_bin("t/model.bin"); /* not its name */
    write_text("t/pytorch_model.bin.index.bf16.json", "{\"weight_map\":{\"a\":\"pytorch_model-00001-of-00001.bin\"}}");
    opens("t", "model", NULL, "/t/pytorch_model.bin.index.bf16.json");
    write_text("t/pytorch_model.fp16.bin.index.json", "{\"weight_map\":{\"a\":\"pytorch_model-00001-of-00001.bin\"}}");
    opens("t", "model", NULL, "/t/pytorch_model.fp16.bin.index.json");
    write_text("t/pytorch_model.bin.index.json", "{\"weight_map\":{\"a\":\"pytorch_model-00001-of-00001.bin\"}}");
    opens("t", "model", NULL, "/t/pytorch_model.bin.index.json");
    write_bin("t/pytorch_model.ema.bin");
    opens("t", "model", NULL, "/t/pytorch_model.ema.bin");
    write_bin("t/pytorch_model.fp16.bin");
    opens("t", "model", NULL, "/t/pytorch_model.fp16.bin");
    write_bin("t/pytorch_model.bin");
    opens("t", "model", NULL, "/t/pytorch_model.bin");
    write_text("t/model.safetensors.index.bf16.json", "{\"weight_map\":{\"a\":\"pytorch_model.bin\"}}");
    opens("t", "model", NULL, "/t/model.safetensors.index.bf16.json"); /* what it names is told by its first bytes */
    write_tensors("t/model.ema.safetensors", TINY, 1);
    opens("t", "model", NULL, "/t/model.ema.safetensors");
    make_subfolder("d");
    write_bin("d/pytorch_model.bin"); /* not a name of this stem */
    refuses("d", "diffusion_pytorch_model", DC_NO_INPUT, "found pytorch_model.bin, expected diffusion_pytorch_model.safetensors",
            "get such a version");
    write_bin("d/diffusion_pytorch_model.fp16.bin");
    opens("d", "diffusion_pytorch_model", NULL, "/d/diffusion_pytorch_model.fp16.bin");
    write_bin("d/diffusion_pytorch_model.bin");
    opens("d", "diffusion_pytorch_model", NULL, "/d/diffusion_pytorch_model.bin");
    dc_weights *w;
    dc_error e = {0};
    assert_int_equal(dc_weights_open(&w, in_folder("d/diffusion_pytorch_model.bin"), &e), DC_OK);
    assert_string_equal(dc_weights_format(w), "torch");
    assert_memory_equal(dc_weights_find(w, "a")->data, "\0\1\2\3", 4);
    dc_weights_forget(w);
    assert_memory_equal(dc_weights_find(w, "a")->data, "\0\1\2\3", 4);
    dc_weights_close(w);
}

/* The other spelling of an index's variant, and links as a download cache makes them. */
static void links_and_spellings(void **state)
{
    (void)state;
    dc_weights *w = open_model();
    make_subfolder("s");
    make_subfolder("blobs");
    write_shards("s", "model.fp16", "model.fp16.safetensors.index.json", w, 2);
    opens("s", "model", w, "/s/model.fp16.safetensors.index.json");
    assert_int_equal(rename(in_folder("s/model.fp16-00002-of-00002.safetensors"), in_folder("blobs/0123")), 0);
    refuses("s", "model", DC_NO_INPUT, "/s/model.fp16-00002-of-00002.safetensors: cannot be read: No such file",
            "index.json names this file: a part of the model is missing");
    assert_int_equal(symlink("../blobs/0123", in_folder("s/model.fp16-00002-of-00002.safetensors")), 0);
    opens("s", "model", w, "/s/model.fp16.safetensors.index.json");
    assert_int_equal(symlink("../blobs/0123", in_folder("s/model.safetensors")), 0);
    opens("s", "model", NULL, "/s/model.safetensors");
    assert_int_equal(unlink(in_folder("blobs/0123")), 0); /* the link leads nowhere now, and nothing else is taken silently */
    refuses("s", "model", DC_NO_INPUT, "/s/model.safetensors: cannot be read: No such file", NULL);
    refuses("none", "model", DC_NO_INPUT, "/none: cannot be read: No such file", NULL);
    refuses("s/model.safetensors.index.json", "model", DC_NO_INPUT, "cannot be read", NULL);
    dc_weights_close(w);
}

static void shards(void **state)
{
    (void)state;
    dc_weights *w = open_model(), *s;
    dc_error e = {0};
    make_subfolder("n");
    write_shards("n", "x", "x.json", w, 7);
    assert_int_equal(dc_weights_open(&s, in_folder("n/x.json"), &e), DC_OK);
    same_weights(s, w);
    assert_int_equal(dc_weights_file_count(s), 7);
    assert_true(strstr(dc_weights_file_at(s, 6), "/n/x-00007-of-00007.safetensors") != NULL);
    assert_string_equal(dc_weights_metadata(s, "part"), "n/x-00001-of-00007.safetensors");
    assert_string_equal(dc_weights_path(s), in_folder("n/x.json"));
    dc_weights_close(s);
    dc_weights_close(w);
    dc_weights_close(NULL);
}

/* ---- indexes that are wrong -------------------------------------------------------------------------------------------- */

#define U8(name, at) "\"" name "\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[" at "]}"

static void wrong_indexes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        dc_status code;
        const char *says;
    } indexes[] = {
        {"", DC_DATA, "index, byte 0: beginning: found its end, expected '{'"},
        {"[]", DC_DATA, "beginning: found '[]'"},
        {"{}", DC_DATA, "weight_map: found none, expected tensor names and their files"},
        {"{\"metadata\":{}}", DC_DATA, "weight_map: found none"},
        {"{\"metadata\":{},}", DC_DATA, "key: found '}', expected a string"},
        {"{\"metadata\":{]}", DC_DATA, "key: found ']}', expected a string"},
        {"{\"metadata\":0 1}", DC_DATA, "list of keys: found '1}', expected ',' or '}'"},
        {"{\"weight_map\":[]}", DC_DATA, "weight_map: found '[]}', expected an object"},
        {"{\"weight_map\":{},\"weight_map\":{}}", DC_DATA, "weight_map: found '{}}', expected it once"},
        {"{\"weight_map\":{}} x", DC_DATA, "behind the closing brace: found 'x'"},
        {"{\"weight_map\":{\"a\":1}}", DC_DATA, "file name: found '1}}', expected a string"},
        {"{\"weight_map\":{\"a\"}}", DC_DATA, "tensor name: found '}}', expected ':'"},
        {"{\"weight_map\":{\"a\":\"one\"", DC_DATA, "weight_map: found its end, expected ',' or '}'"},
        {"{\"weight_map\":{\"a\":\"\xff\"}}", DC_DATA, "text: found '\\xff"},
        {"{\"weight_map\":{\"a\":\"../one\"}}", DC_DENIED, "weight_map: found the file name ../one, expected one inside the folder"},
        {"{\"weight_map\":{\"a\":\"x/../../one\"}}", DC_DENIED, "expected one inside"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", DC_DENIED, "/etc/passwd"},
        {"{\"weight_map\":{\"a\":\"..\\\\one\"}}", DC_DENIED, "..\\one"},
        {"{\"weight_map\":{\"a\":\"c:one\"}}", DC_DENIED, "c:one"},
        {"{\"weight_map\":{\"a\":\"\"}}", DC_DENIED, "found the file name , expected"},
        {"{\"weight_map\":{\"a\":\"o\\u0007ne\"}}", DC_DENIED, "o\\x07ne"},
        {"{\"weight_map\":{\"a\":\"none\"}}", DC_NO_INPUT, "/none: cannot be read"},
        {"{\"weight_map\":{\"a\":\"broken\"}}", DC_DATA, "/broken: size: found 3 bytes"},
        {"{\"weight_map\":{\"a\":\".\"}}", DC_NO_INPUT, "found a folder"},
        {"{\"weight_map\":{\"a\":\"one\",\"b\":\"one\",\"x\":\"one\"}}", DC_DATA, "tensor x: found no such tensor in one"},
        {"{\"weight_map\":{\"A\":\"one\",\"a\":\"one\",\"b\":\"one\"}}", DC_DATA, "tensor A: found no such tensor in one"},
        {"{\"weight_map\":{\"a\":\"one\"}}", DC_DATA, "found nothing of tensor b, which is in one"},
        {"{\"weight_map\":{\"b\":\"one\"}}", DC_DATA, "found nothing of tensor a, which is in one"},
        {"{\"weight_map\":{\"a\":\"one\",\"a\":\"one\",\"b\":\"one\"}}", DC_DATA, "found tensor a twice"},
        {"{\"weight_map\":{\"a\":\"one\",\"b\":\"two\",\"c\":\"two\"}}", DC_DATA, "found nothing of tensor b, which is in one"},
        {"{\"weight_map\":{\"a\":\"one\",\"b\":\"one\",\"c\":\"two\"}}", DC_DATA, "found nothing of tensor b, which is in two"},
        {"{\"weight_map\":{\"a\":\"one\",\"b\":\"one\",\"c\":\"two\",\"b\":\"two\"}}", DC_DATA, "tensor b: found in"}, /* in both files */
        {"{\"weight_map\":{\"a\":\"one\",\"b\":\"./one\"}}", DC_DATA, "found nothing of tensor a, which is in ./one"},
    };
    write_tensors("one", "{" U8("a", "0,1") "," U8("b", "1,2") "}", 2);
    write_tensors("two", "{" U8("b", "0,1") "," U8("c", "1,2") "}", 2);
    write_tensors("empty", "{}", 0);
    write_text("broken", "abc");
    dc_weights *w;
    for (size_t i = 0; i < sizeof indexes / sizeof *indexes; i++) {
        dc_error e = {0};
        if (dc_weights_open(&w, write_text("i.json", indexes[i].text), &e) == DC_OK) fail_msg("accepted: %s", indexes[i].text);
        assert_null(w);
        assert_error(&e, indexes[i].code, indexes[i].says);
    }
    dc_error e = {0};
    assert_int_equal(dc_weights_open(&w, write_text("i.json", " {\"weight_map\":{} }\n"), &e), DC_OK);
    assert_int_equal(dc_weights_count(w), 0);
    assert_null(dc_weights_find(w, "a"));
    assert_int_equal(dc_weights_metadata_count(w), 0);
    dc_weights_close(w);
    assert_int_equal(dc_weights_open(&w, write_text("i.json", "{\"x\":[{}],\"weight_map\":{\"b\":\"one\",\"a\":\"one\"},\"y\":null}"), &e), DC_OK);
    assert_int_equal(dc_weights_count(w), 2);
    assert_memory_equal(dc_weights_find(w, "b")->data, "\1", 1);
    dc_weights_close(w);
}

/* A path without a folder: the shards lie in the working folder. */
static void bare_path(void **state)
{
    (void)state;
    dc_weights *w;
    dc_error e = {0};
    char here[4096];
    write_tensors("one", "{" U8("a", "0,1") "," U8("b", "1,2") "}", 2);
    write_text("i.json", "{\"weight_map\":{\"b\":\"one\",\"a\":\"one\"}}");
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(folder), 0);
    dc_status s = dc_weights_open(&w, "i.json", &e);
    assert_int_equal(chdir(here), 0);
    if (s) fail_msg("%s", e.text);
    assert_int_equal(dc_weights_count(w), 2);
    dc_weights_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(preference), cmocka_unit_test(preference_of_torch), cmocka_unit_test(links_and_spellings),
        cmocka_unit_test(shards),     cmocka_unit_test(wrong_indexes),       cmocka_unit_test(bare_path),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
