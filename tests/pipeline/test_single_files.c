/* Published models as single files (names and shapes of the real ones, holes in place of data): every part is found under diffusers' names,
 * its configuration is told right from shapes alone, and every tensor binds. Expected: tests/gen/single_files.py, held against diffusers. */
#include "clip/text.h"
#include "pipeline/model.h"
#include "tests/pipeline/holes.h"
#include "unet/unet.h"
#include "vae/vae.h"
#include "weights/inspect.h"
#include "weights/parts.h"

/* The view has exactly these tensors; a file may have more text layers. 1x1 convolutions count as matrices. */
static void check_tensors(const dc_weights *part, const json_t *expected, const char *what)
{
    const char *name;
    json_t *shape;
    int found = 0;
    json_object_foreach((json_t *)expected, name, shape)
    {
        const dc_stored *t = dc_weights_find(part, name);
        if (!t) fail_msg("%s: no %s", what, name);
        int rank = t->rank;
        while (rank > 2 && t->dim[rank - 1] == 1 && (size_t)rank > json_array_size(shape)) rank--;
        assert_int_equal(rank, json_array_size(shape));
        for (int i = 0; i < rank; i++)
            if (t->dim[i] != json_integer_value(json_array_get(shape, (size_t)i))) fail_msg("%s: %s has another shape", what, name);
        found++;
    }
    for (int i = 0; i < dc_weights_count(part); i++) {
        const char *extra = dc_weights_at(part, i)->name;
        bool last_layer = strstr(extra, "text_model.encoder.layers.23.") != NULL, unused = !strcmp(extra, "text_projection.weight");
        if (!json_object_get(expected, extra) && !last_layer && !unused) fail_msg("%s: %s does not belong", what, extra);
    }
    assert_true(found > 0);
}

static void unused_tensor(void *user, dc_log_level level, const char *line)
{
    (void)level;
    if (strstr(line, "not used")) snprintf(user, 512, "%s", line);
}

/* The configuration read from `found` is the one read from `expected`; the part binds with it, leaving nothing over. */
static void check_part(dc_part p, const dc_weights *w, const json_t *found, const json_t *expected)
{
    char left_over[512] = "";
    dc_error e = {0};
    dc_log log = {unused_tensor, left_over};
    dc_device *d = open_device("ref");
    if (p == DC_PART_UNET) {
        dc_unet_config a, b;
        dc_unet *m = NULL;
        must(dc_unet_config_read(&a, found, "found", &e), &e);
        must(dc_unet_config_read(&b, expected, "expected", &e), &e);
        assert_memory_equal(&a, &b, sizeof a);
        must(dc_unet_open(&m, &a, w, d, &log, &e), &e);
        assert_string_equal(left_over, "");
        dc_unet_close(m);
    } else if (p == DC_PART_VAE) {
        dc_vae_config a, b;
        dc_vae *m = NULL;
        must(dc_vae_config_read(&a, found, "found", &e), &e);
        must(dc_vae_config_read(&b, expected, "expected", &e), &e);
        b.sample_size = a.sample_size; /* 1024 goes with XL: checked by hand below */
        assert_memory_equal(&a, &b, sizeof a);
        must(dc_vae_open(&m, &a, w, true, d, &log, &e), &e);
        assert_string_equal(left_over, "");
        dc_vae_close(m);
    } else {
        dc_clip_text_config a, b;
        dc_clip_text *m = NULL;
        must(dc_clip_text_config_read(&a, found, "found", &e), &e);
        must(dc_clip_text_config_read(&b, expected, "expected", &e), &e);
        assert_memory_equal(&a, &b, sizeof a);
        must(dc_clip_text_open(&m, &a, w, d, &log, &e), &e);
        dc_clip_text_close(m);
    }
    dc_device_close(d);
}

/* `inspect` knows what it is, and what of it is used by no part. */
static void check_inspect(const char *path, const char *architecture, const char *prediction, int unused)
{
    json_t *o = NULL;
    dc_error e = {0};
    must(dc_inspect(&o, path, false, &e), &e);
    const json_t *model = json_object_get(o, "model");
    assert_string_equal(json_string_value(json_object_get(model, "architecture")), architecture);
    assert_string_equal(json_string_value(json_object_get(model, "prediction")), prediction);
    assert_int_equal(json_array_size(json_object_get(model, "missing")), 0);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(model, "unused"), "tensors")), unused);
    json_decref(o);
}

static void check_model(const char *name, const char *architecture, const char *prediction, int unused)
{
    char path[64];
    json_t *root = read_description(name), *unet = NULL;
    dc_weights *w = write_file(path, json_object_get(root, "file"), "");
    static const dc_part order[] = {DC_PART_UNET, DC_PART_VAE, DC_PART_TEXT, DC_PART_TEXT_2};
    for (int i = 0; i < DC_PARTS; i++) {
        dc_part p = order[i];
        const json_t *expected = json_object_get(json_object_get(root, "parts"), dc_part_folder(p));
        dc_error e = {0};
        dc_weights *part = NULL;
        json_t *config = NULL;
        assert_int_equal(dc_weights_has_part(w, p), expected != NULL);
        must(dc_weights_part(&part, w, p, &e), &e);
        if (!expected) continue;
        print_message("%s: %s\n", name, dc_part_folder(p));
        check_tensors(part, json_object_get(expected, "tensors"), name);
        must(dc_part_config(&config, part, p, unet, &e), &e);
        check_part(p, part, config, json_object_get(expected, "config"));
        if (p == DC_PART_UNET) unet = json_incref(config);
        json_decref(config);
        dc_weights_close(part);
    }
    check_inspect(path, architecture, prediction, unused);
    json_decref(unet);
    json_decref(root);
    dc_weights_close(w);
    unlink(path);
}

/* Unused: alphas_cumprod, position_ids, the averages' two counters; logit_scale of open_clip. */
static void published(void **state)
{
    (void)state;
    check_model("sd15", "Stable Diffusion 1.x", "epsilon", 4);
    check_model("sd21", "Stable Diffusion 2.x", "not told, taken is v", 4);
    check_model("sdxl", "Stable Diffusion XL", "epsilon", 3);
    check_model("ssd-1b", "Stable Diffusion XL", "epsilon", 3);
    check_model("tiny-sd", "Stable Diffusion 1.x", "epsilon", 4);
}

/* The same tensors below no prefix, as files of one part have them: the part is found, and no other. */
static void parts_alone(void **state)
{
    static const struct {
        const char *model, *prefix;
        dc_part part;
    } cases[] = {{"sd15", "model.diffusion_model.", DC_PART_UNET},
                 {"sd15", "first_stage_model.", DC_PART_VAE},
                 {"sd15", "cond_stage_model.transformer.", DC_PART_TEXT},
                 {"sd21", "cond_stage_model.model.", DC_PART_TEXT}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *root = read_description(cases[i].model), *some = json_object(), *shape;
        const char *name;
        char path[64];
        size_t n = strlen(cases[i].prefix);
        json_object_foreach(json_object_get(root, "file"), name, shape) if (!strncmp(name, cases[i].prefix, n))
            json_object_set(some, name + n, shape);
        dc_weights *w = write_file(path, some, "");
        for (int p = 0; p < DC_PARTS; p++) assert_int_equal(dc_weights_has_part(w, (dc_part)p), p == (int)cases[i].part);
        dc_error e = {0};
        dc_weights *part = NULL;
        must(dc_weights_part(&part, w, cases[i].part, &e), &e);
        check_tensors(part, json_object_get(json_object_get(json_object_get(root, "parts"), dc_part_folder(cases[i].part)), "tensors"), name);
        dc_weights_close(part);
        dc_weights_close(w);
        unlink(path);
        json_decref(some);
        json_decref(root);
    }
}

/* What a file says of its prediction: keys, metadata, kind. */
static void predictions(void **state)
{
    static const struct {
        const char *more, *unet, *prediction;
        bool told, zero_snr;
    } cases[] = {
        {"", "{\"cross_attention_dim\":768,\"in_channels\":4}", "epsilon", true, false},
        {"", "{\"cross_attention_dim\":2048,\"in_channels\":4,\"addition_embed_type\":\"text_time\"}", "epsilon", true, false},
        {"", "{\"use_linear_projection\":true,\"in_channels\":4}", "v_prediction", false, false},
        {"", "{\"use_linear_projection\":true,\"in_channels\":9}", "epsilon", true, false},
        {",\"__metadata__\":{\"modelspec.prediction_type\":\"epsilon\"}", "{\"use_linear_projection\":true,\"in_channels\":4}", "epsilon", true,
         false},
        {",\"__metadata__\":{\"modelspec.prediction_type\":\"v\"}", "{\"cross_attention_dim\":768,\"in_channels\":4}", "v_prediction", true, false},
        {",\"v_pred\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[2,2]}", "{\"cross_attention_dim\":2048,\"in_channels\":4}", "v_prediction",
         true, false},
        {",\"v_pred\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[2,2]},\"ztsnr\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[2,2]}",
         "{\"cross_attention_dim\":2048,\"in_channels\":4,\"addition_embed_type\":\"text_time\"}", "v_prediction", true, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[64];
        dc_error e = {0};
        json_t *one = json_pack("{s:[i]}", "a", 1), *unet = json_loads(cases[i].unet, 0, NULL), *config = NULL;
        dc_weights *w = write_file(path, one, cases[i].more);
        dc_prediction_marks marks;
        must(dc_scheduler_config(&config, &marks, w, unet, &e), &e);
        assert_string_equal(json_string_value(json_object_get(config, "prediction_type")), cases[i].prediction);
        assert_int_equal(json_is_true(json_object_get(config, "rescale_betas_zero_snr")), cases[i].zero_snr);
        assert_int_equal(marks.v || marks.epsilon, cases[i].told);
        json_decref(config);
        json_decref(unet);
        json_decref(one);
        dc_weights_close(w);
        unlink(path);
    }
}

/* ---- open_clip: q, k and v in one tensor, the projection turned ---------------------------------------------------- */

/* A safetensors file under way: its header and its data. */
typedef struct writing {
    FILE *header, *data;
    uint64_t at;
} writing;

static void put_tensor(writing *f, const char *name, int rank, const int64_t *dim, const void *data, size_t bytes)
{
    fprintf(f->header, "%s\"%s\":{\"dtype\":\"F16\",\"shape\":[", f->at ? "," : "", name);
    for (int i = 0; i < rank; i++) fprintf(f->header, "%s%lld", i ? "," : "", (long long)dim[i]);
    fprintf(f->header, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)f->at, (unsigned long long)(f->at + bytes));
    fwrite(data, 1, bytes, f->data);
    f->at += bytes;
}

static void put_as(writing *f, const char *name, const dc_weights *w, const char *from)
{
    const dc_stored *t = dc_weights_find(w, from);
    if (!t || t->dtype != DC_F16) fail_msg("no float16 %s", from);
    put_tensor(f, name, t->rank, t->dim, t->data, t->bytes);
}

static void put_fused(writing *f, const dc_weights *w, int layer, const char *leaf)
{
    char name[200], *all = NULL;
    size_t size = 0;
    int64_t dim[2] = {0};
    const dc_stored *t = NULL;
    FILE *m = open_memstream(&all, &size);
    for (const char *x = "qkv"; *x; x++) {
        snprintf(name, sizeof name, "text_model.encoder.layers.%d.self_attn.%c_proj.%s", layer, *x, leaf);
        t = dc_weights_find(w, name);
        assert_non_null(t);
        fwrite(t->data, 1, t->bytes, m);
    }
    fclose(m);
    for (int i = 0; i < t->rank; i++) dim[i] = t->dim[i] * (i ? 1 : 3);
    snprintf(name, sizeof name, "conditioner.embedders.1.model.transformer.resblocks.%d.attn.in_proj_%s", layer, leaf);
    put_tensor(f, name, t->rank, dim, all, size);
    free(all);
}

static void put_turned(writing *f, const char *name, const dc_stored *t)
{
    int64_t rows = t->dim[0], columns = t->dim[1];
    uint16_t *turned = malloc(t->bytes);
    for (int64_t y = 0; y < rows; y++)
        for (int64_t x = 0; x < columns; x++) memcpy(&turned[x * rows + y], (const uint16_t *)t->data + y * columns + x, 2);
    put_tensor(f, name, 2, (int64_t[]){columns, rows}, turned, t->bytes);
    free(turned);
}

/* A text encoder of transformers' in open_clip's names, as a file; to be unlinked. */
static dc_weights *write_open_clip(char *path, const dc_weights *w, int layers)
{
    static const char *const renamed[][2] = {{"ln_1", "layer_norm1"},
                                             {"ln_2", "layer_norm2"},
                                             {"mlp.c_fc", "mlp.fc1"},
                                             {"mlp.c_proj", "mlp.fc2"},
                                             {"attn.out_proj", "self_attn.out_proj"}};
    char *head = NULL, *body = NULL, name[200], from[200];
    size_t head_size = 0, body_size = 0;
    writing f = {open_memstream(&head, &head_size), open_memstream(&body, &body_size), 0};
    dc_weights *out = NULL;
    dc_error e = {0};
    fprintf(f.header, "{");
    put_as(&f, "conditioner.embedders.1.model.token_embedding.weight", w, "text_model.embeddings.token_embedding.weight");
    put_as(&f, "conditioner.embedders.1.model.positional_embedding", w, "text_model.embeddings.position_embedding.weight");
    put_turned(&f, "conditioner.embedders.1.model.text_projection", dc_weights_find(w, "text_projection.weight"));
    for (int leaf = 0; leaf < 2; leaf++) {
        const char *end = leaf ? "bias" : "weight";
        snprintf(name, sizeof name, "conditioner.embedders.1.model.ln_final.%s", end);
        snprintf(from, sizeof from, "text_model.final_layer_norm.%s", end);
        put_as(&f, name, w, from);
        for (int i = 0; i < layers; i++) {
            put_fused(&f, w, i, end);
            for (int k = 0; k < 5; k++) {
                snprintf(name, sizeof name, "conditioner.embedders.1.model.transformer.resblocks.%d.%s.%s", i, renamed[k][0], end);
                snprintf(from, sizeof from, "text_model.encoder.layers.%d.%s.%s", i, renamed[k][1], end);
                put_as(&f, name, w, from);
            }
        }
    }
    fprintf(f.header, "}");
    fclose(f.header);
    fclose(f.data);
    strcpy(path, "/tmp/diffc-parts-XXXXXX.safetensors");
    int fd = mkstemps(path, (int)strlen(".safetensors"));
    uint64_t n = head_size;
    assert_true(fd >= 0 && write(fd, &n, 8) == 8 && write(fd, head, head_size) == (ssize_t)head_size &&
                write(fd, body, body_size) == (ssize_t)body_size);
    close(fd);
    free(head);
    free(body);
    must(dc_weights_open(&out, path, &e), &e);
    return out;
}

typedef struct encoding {
    dc_clip_text *m;
    float *out; /* pooled */
    size_t n;
} encoding;

static void encode(void *ctx, dc_run *r)
{
    static const int32_t ids[8] = {1, 2, 3, 5, 8, 13, 21, 34};
    encoding *x = ctx;
    dc_clip_text_out out = dc_clip_text_forward(x->m, r, ids, 1, 8, 0, true, true);
    dc_download(r, out.pooled, x->out);
}

static float *encode_with(const dc_clip_text_config *c, const dc_weights *w, const char *way, size_t *n)
{
    dc_error e = {0};
    dc_device *d = open_device(way);
    encoding x = {.out = calloc(4096, sizeof(float))};
    must(dc_clip_text_open(&x.m, c, w, d, NULL, &e), &e);
    *n = (size_t)dc_clip_text_configuration(x.m)->projection;
    must(dc_params_prepare(dc_clip_text_params(x.m), NULL, NULL, &e), &e);
    dc_run *r = dc_run_new(d);
    run_once(r, encode, &x);
    dc_run_free(r);
    dc_clip_text_close(x.m);
    dc_device_close(d);
    return x.out;
}

/* The same numbers under both spellings give the same bytes, on the plain loops and on the CPU's kernels. */
static void open_clip_names(void **state)
{
    static const char *const ways[] = {"ref", "cpu"};
    char path[64];
    dc_error e = {0};
    dc_weights *w = NULL, *part = NULL;
    dc_clip_text_config c;
    json_t *root = read_json(TEST_DATA "/golden/models/sdxl/text_encoder_2/config.json");
    (void)state;
    must(dc_clip_text_config_read(&c, root, "config", &e), &e);
    must(dc_weights_open(&w, TEST_DATA "/golden/models/sdxl/text_encoder_2/model.safetensors", &e), &e);
    dc_weights *file = write_open_clip(path, w, c.layers);
    must(dc_weights_part(&part, file, DC_PART_TEXT_2, &e), &e);
    assert_non_null(part);
    for (int i = 0; i < 2; i++) {
        size_t n, m;
        float *a = encode_with(&c, w, ways[i], &n), *b = encode_with(&c, part, ways[i], &m);
        assert_true(n == m && n > 0);
        assert_memory_equal(a, b, n * sizeof *a);
        assert_true(a[0] != 0);
        free(a);
        free(b);
    }
    dc_weights_close(part);
    dc_weights_close(file);
    dc_weights_close(w);
    json_decref(root);
    unlink(path);
}

/* transformers 5 writes a text encoder's folder without "text_model.": its part has the usual names, so that it can be written into a file. */
static void newer_folder(void **state)
{
    char folder[] = "/tmp/diffc-parts-XXXXXX", path[64], config[64];
    static const char skipped[] = "text_model.";
    char *head = NULL, *body = NULL;
    size_t head_size = 0, body_size = 0, n = sizeof skipped - 1;
    dc_error e = {0};
    dc_weights *w = NULL;
    (void)state;
    must(dc_weights_open(&w, TEST_DATA "/golden/models/sd1/text_encoder/model.safetensors", &e), &e);
    writing f = {open_memstream(&head, &head_size), open_memstream(&body, &body_size), 0};
    fprintf(f.header, "{");
    for (int i = 0; i < dc_weights_count(w); i++) {
        const char *name = dc_weights_at(w, i)->name;
        put_as(&f, name + (strncmp(name, skipped, n) ? 0 : n), w, name);
    }
    fprintf(f.header, "}");
    fclose(f.header);
    fclose(f.data);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    snprintf(config, sizeof config, "%s/config.json", folder);
    FILE *out = fopen(path, "w");
    uint64_t length = head_size;
    assert_true(fwrite(&length, 8, 1, out) && fwrite(head, head_size, 1, out) && fwrite(body, body_size, 1, out) && !fclose(out));
    out = fopen(config, "w");
    assert_true(fputs("{}", out) >= 0 && !fclose(out));

    diffc_model m = {.path = folder};
    model_part x;
    must(part_open(&x, &m, DC_PART_TEXT, folder, NULL, &e), &e);
    assert_int_equal(dc_weights_count(x.weights), dc_weights_count(w));
    for (int i = 0; i < dc_weights_count(w); i++) assert_string_equal(dc_weights_at(x.weights, i)->name, dc_weights_at(w, i)->name);
    part_close(&x);
    dc_weights_close(w);
    unlink(path);
    unlink(config);
    rmdir(folder);
    free(head);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(published), cmocka_unit_test(parts_alone), cmocka_unit_test(predictions),
                                       cmocka_unit_test(open_clip_names), cmocka_unit_test(newer_folder)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
