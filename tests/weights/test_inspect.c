/* Descriptions of model files and folders, their keys and what they say of damaged and incomplete ones. */
#include "base/json.h"
#include "base/npy.h"
#include "tests/weights/archive.h"
#include "tests/weights/files.h"
#include "weights/inspect.h"
#include <time.h>

#define GOLDEN TEST_DATA "/golden/"

static json_t *inspect(const char *path)
{
    dc_error e = {0};
    json_t *o;
    if (dc_inspect(&o, path, false, &e)) fail_msg("%s", e.text);
    assert_string_equal(json_string_value(json_object_get(o, "path")), path);
    return o;
}

static void refuses(const char *path, dc_status code, const char *says)
{
    dc_error e = {0};
    json_t *o = (json_t *)&e;
    assert_int_equal(dc_inspect(&o, path, false, &e), code);
    assert_null(o);
    assert_error(&e, code, says);
}

/* The value at "a/b/c". */
static const json_t *at(const json_t *o, const char *path)
{
    char key[64];
    for (; o && *path; path += *path == '/') {
        size_t n = strcspn(path, "/");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        o = json_object_get(o, key);
        path += n;
    }
    return o;
}

static void says(const json_t *o, const char *path, const char *want)
{
    const char *found = json_string_value(at(o, path));
    if (!found || strcmp(found, want)) fail_msg("%s: found %s, expected %s", path, found ? found : "nothing", want);
}

static void counts(const json_t *o, const char *path, long long want)
{
    const json_t *v = at(o, path);
    if (!json_is_integer(v) || json_integer_value(v) != want)
        fail_msg("%s: found %lld, expected %lld", path, json_is_integer(v) ? (long long)json_integer_value(v) : -1, want);
}

static void a_file(void **state)
{
    (void)state;
    json_t *o = inspect(GOLDEN "weights/all_dtypes.safetensors"), *reference, *x;
    size_t i;
    assert_int_equal(dc_json_read(&reference, GOLDEN "weights/safetensors.json", 1 << 20, NULL), DC_OK);
    const json_t *all = at(reference, "all/tensors");
    says(o, "kind", "safetensors");
    says(o, "role", "unknown");
    says(o, "metadata/format", "pt");
    counts(o, "tensors", (long long)json_object_size(all));
    counts(o, "dtypes/F8_E4M3", 2);
    counts(o, "dtypes/F32", 4);
    assert_null(at(o, "files"));
    assert_int_equal(json_array_size(at(o, "tensor_list")), json_object_size(all));
    long long parameters = 0;
    json_array_foreach(at(o, "tensor_list"), i, x)
    {
        const json_t *want = json_object_get(all, json_string_value(json_object_get(x, "name")));
        assert_true(json_equal(json_object_get(x, "dtype"), json_object_get(want, "dtype")));
        assert_true(json_equal(json_object_get(x, "shape"), json_object_get(want, "shape")));
        parameters += (long long)json_array_size(json_object_get(want, "values"));
    }
    counts(o, "parameters", parameters);
    json_decref(o);
    json_decref(reference);
    dc_error e = {0}; /* a path that is not UTF-8 is still shown */
    assert_int_equal(dc_inspect(&o, write_tensors("x\xff", "{}", 0), false, &e), DC_OK);
    assert_non_null(strstr(json_string_value(at(o, "path")), "x\\xff"));
    json_decref(o);
    refuses(GOLDEN "weights/bad_hole.safetensors", DC_DATA, "bad_hole.safetensors");
    refuses(in_folder("none"), DC_NO_INPUT, "cannot be read");
}

static void an_index(void **state)
{
    (void)state;
    write_tensors("b", "{\"down_blocks.0\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4);
    write_tensors("a", "{\"x\":{\"dtype\":\"U8\",\"shape\":[0,3],\"data_offsets\":[0,0]}}", 0);
    json_t *o = inspect(write_text("index.json", "{\"weight_map\":{\"down_blocks.0\":\"b\",\"x\":\"a\"}}"));
    says(o, "kind", "safetensors index");
    says(o, "role", "a UNet");
    counts(o, "bytes", 4);
    counts(o, "parameters", 2);
    char *files = json_dumps(at(o, "files"), JSON_COMPACT);
    assert_string_equal(files, "[\"a\",\"b\"]");
    free(files);
    json_decref(o);
    refuses(write_text("index.json", "{\"weight_map\":{\"a\":\"b\",\"down_blocks.0\":\"b\"}}"), DC_DATA, "no such tensor in b");
}

static void a_checkpoint(void **state)
{
    (void)state;
    json_t *o = inspect(GOLDEN "weights/torch/lightning.ckpt");
    says(o, "kind", "torch");
    says(o, "role", "unknown");
    counts(o, "tensors", 7);
    counts(o, "bytes", 576);
    assert_int_equal(json_object_size(at(o, "metadata")), 0);
    json_decref(o);
    write_text("index.json", "{\"weight_map\":{\"a\":\"b.bin\"}}");
    archive a = {0};
    static const char pickle[] = "\x80\2}" A BYTES "s.";
    archive_torch(&a, pickle, sizeof pickle - 1);
    write_bytes("b.bin", a.file.at, a.file.length);
    archive_free(&a);
    o = inspect(in_folder("index.json"));
    says(o, "kind", "torch index");
    json_decref(o);
}

static void an_npy(void **state)
{
    (void)state;
    const float data[6] = {0};
    assert_int_equal(dc_npy_write_f32(in_folder("x.npy"), data, 2, (const int64_t[]){2, 3}, NULL), DC_OK);
    json_t *o = inspect(in_folder("x.npy"));
    says(o, "kind", "npy");
    says(o, "dtype", "f4");
    assert_int_equal(json_array_size(at(o, "shape")), 2);
    assert_int_equal(json_integer_value(json_array_get(at(o, "shape"), 1)), 3);
    json_decref(o);
}

static void a_model(void **state)
{
    (void)state;
    json_t *o = inspect(GOLDEN "models/sd1");
    says(o, "kind", "diffusers model");
    says(o, "class", "StableDiffusionPipeline");
    says(o, "prediction", "epsilon");
    says(o, "components/unet/class", "UNet2DConditionModel");
    says(o, "components/unet/role", "a UNet");
    says(o, "components/unet/file", GOLDEN "models/sd1/unet/diffusion_pytorch_model.safetensors");
    counts(o, "components/unet/tensors", 684);
    counts(o, "components/unet/dtypes/F16", 684);
    counts(o, "components/unet/parameters", 813652); /* torch: sum(p.numel() for p in unet.parameters()) */
    says(o, "components/vae/role", "a VAE");
    says(o, "components/text_encoder/class", "CLIPTextModel");
    says(o, "components/text_encoder/role", "a CLIP text encoder");
    counts(o, "components/text_encoder/hidden_size", 16);
    says(o, "components/scheduler/class", "PNDMScheduler");
    says(o, "components/tokenizer/class", "CLIPTokenizer");
    assert_null(at(o, "components/unet/tensor_list"));
    assert_null(at(o, "components/unet/missing"));
    assert_null(at(o, "components/scheduler/missing"));
    json_decref(o);
    o = inspect(ASSETS "/default");
    says(o, "prediction", "v_prediction");
    json_decref(o);
}

static void components(void **state)
{
    (void)state;
    static const struct {
        const char *path, *class, *role;
    } parts[] = {
        {GOLDEN "models/sd1/unet", "UNet2DConditionModel", "a UNet"},
        {GOLDEN "models/sd1/unet/", "UNet2DConditionModel", "a UNet"},
        {GOLDEN "models/sd1/vae", "AutoencoderKL", "a VAE"},
        {GOLDEN "models/taesd", "AutoencoderTiny", "a TAESD"},
        {GOLDEN "models/sd1/text_encoder", NULL, "a CLIP text encoder"},
        {GOLDEN "models/sd1/scheduler", "PNDMScheduler", NULL},
        {ASSETS "/default/tokenizer", "CLIPTokenizer", NULL},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        json_t *o = inspect(parts[i].path);
        says(o, "kind", "component");
        if (parts[i].class) says(o, "class", parts[i].class);
        if (parts[i].role) says(o, "role", parts[i].role);
        else assert_null(at(o, "role"));
        json_decref(o);
    }
}

static void incomplete(void **state)
{
    (void)state;
    make_subfolder("m");
    refuses(in_folder("m"), DC_NO_INPUT, "/m: found neither model_index.json nor config.json");
    write_text("m/model_index.json",
               "{\"_class_name\":\"P\",\"unet\":[\"diffusers\",\"U\"],\"vae\":[\"diffusers\",\"V\"],\"text_encoder\":[\"transformers\",\"T\"],"
               "\"safety_checker\":[null,null],\"..\":[\"x\",\"y\"],\"scheduler\":[\"diffusers\",\"S\"]}");
    make_subfolder("m/vae");
    make_subfolder("m/text_encoder");
    write_text("m/text_encoder/config.json", "{\"architectures\":[\"T2\"]}");
    write_text("m/text_encoder/flax_model.msgpack", "");
    make_subfolder("m/scheduler");
    write_text("m/scheduler/scheduler_config.json", "{\"_class_name\":\"S\",\"prediction_type\":\"v_prediction\"}");
    json_t *o = inspect(in_folder("m"));
    assert_int_equal(json_object_size(at(o, "components")), 5);
    says(o, "prediction", "v_prediction");
    says(o, "components/unet/missing", "no such folder");
    says(o, "components/unet/class", "U");
    says(o, "components/vae/missing", "no config.json");
    assert_true(strstr(json_string_value(at(o, "components/text_encoder/missing")), "found flax_model.msgpack, expected model.safetensors") != NULL);
    const json_t *outside = json_object_get(at(o, "components"), ".."); /* a name that leaves the folder is not followed */
    says(outside, "missing", "no such folder");
    json_decref(o);
    write_text("m/vae/config.json", "{\"_class_name\":\"V\"");
    refuses(in_folder("m"), DC_DATA, "/m/vae/config.json: JSON");
    write_text("m/vae/config.json", "[]");
    refuses(in_folder("m"), DC_DATA, "/m/vae/config.json: found no object");
    write_text("m/vae/config.json", "{}");
    write_text("m/vae/diffusion_pytorch_model.safetensors", "x");
    refuses(in_folder("m"), DC_DATA, "/m/vae/diffusion_pytorch_model.safetensors: size: found 1 bytes");
    write_text("m/model_index.json", "{");
    refuses(in_folder("m"), DC_DATA, "/m/model_index.json: JSON");
}

/* As many tensors as SDXL's UNet has; only the header may be read, so the data can be a hole of 5 GB. */
/* A part of a model in a file: what it is, what a whole model would need besides, its hash (by sha256sum). */
static void a_part(void **state)
{
    (void)state;
    const char *path = GOLDEN "models/sd1/unet/diffusion_pytorch_model.safetensors";
    dc_error e = {0};
    json_t *o;
    assert_int_equal(dc_inspect(&o, path, true, &e), DC_OK);
    says(o, "model/architecture", "Stable Diffusion 1.x");
    says(o, "model/prediction", "epsilon");
    says(o, "model/parts/unet/class", "UNet2DConditionModel");
    counts(o, "model/parts/unet/tensors", json_integer_value(at(o, "tensors")));
    counts(o, "model/parts/unet/cross_attention_dim", 16);
    counts(o, "model/unused/tensors", 0);
    assert_int_equal(json_array_size(at(o, "model/missing")), 2);
    says(o, "sha256", "e59ea943e036e1f1b55c49b3fa9f370f7787ec76f54d8032613bd2ebe37b26cf");
    says(o, "autov2", "e59ea943e0");
    json_decref(o);
}

static void large_files_are_fast(void **state)
{
    (void)state;
    dc_text head = {0};
    uint64_t end = 0;
    for (int i = 0; i < 1680; i++, end += 3000000)
        dc_text_printf(&head,
                       "%s\"down_blocks.%d.attentions.1.transformer_blocks.%d.attn1.to_out.0.weight\":{\"dtype\":\"F16\",\"shape\":[1500,"
                       "1000],\"data_offsets\":[%llu,%llu]}",
                       i ? "," : "{", i, i, (unsigned long long)end, (unsigned long long)end + 3000000);
    dc_text_printf(&head, "}");
    const char *path = write_tensors("large.safetensors", head.at, 0);
    assert_int_equal(truncate(path, (off_t)(8 + head.length + end)), 0);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    json_t *o = inspect(path);
    clock_gettime(CLOCK_MONOTONIC, &b);
    counts(o, "parameters", 1680LL * 1500000);
    json_decref(o);
    dc_text_free(&head);
    double seconds = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
    if (seconds > 0.5) fail_msg("took %.2f s", seconds); /* 0.01 s; the rest is for a busy machine and sanitizers */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file),       cmocka_unit_test(a_part),     cmocka_unit_test(an_index),
        cmocka_unit_test(a_checkpoint), cmocka_unit_test(an_npy),     cmocka_unit_test(a_model),
        cmocka_unit_test(components),   cmocka_unit_test(incomplete), cmocka_unit_test(large_files_are_fast),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
