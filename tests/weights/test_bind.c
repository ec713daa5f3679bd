/* Binding tables against made-up files: what reaches the parameters, and the one message about all that is wrong. */
#include "backends/backend.h"
#include "base/log.h"
#include "tests/weights/files.h"
#include "weights/bind.h"
#include "weights/weights.h"
#include <stddef.h>

typedef struct layer {
    dc_param *a, *b, *c, *d;
} layer;

typedef struct fixture {
    dc_device *device;
    dc_params *params;
    dc_weights *w;
    dc_binder *b;
} fixture;

/* Names and shapes -> a file of F32 (or the dtype behind a ':') with bytes 0, 1, 2.. */
static void open_file(fixture *f, const char *const *tensors)
{
    dc_text head = {0};
    uint64_t at = 0;
    dc_error e = {0};
    for (; *tensors; tensors++) {
        char name[128], shape[64], dtype[16] = "F32";
        uint64_t bytes = 4;
        assert_true(sscanf(*tensors, "%127s %63[0-9,] %15s", name, shape, dtype) >= 2);
        if (strstr(dtype, "16")) bytes = 2;
        if (strstr(dtype, "64")) bytes = 8;
        for (char *p = shape; *p; p += *p == ',') bytes *= strtoull(p, &p, 10);
        dc_text_printf(&head, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}", head.length ? "," : "{", name, dtype, shape,
                       (unsigned long long)at, (unsigned long long)(at + bytes));
        at += bytes;
    }
    dc_text_printf(&head, "}");
    if (dc_weights_open(&f->w, write_tensors("bind.safetensors", head.at, at), &e)) fail_msg("%s", e.text);
    dc_text_free(&head);
    if (dc_device_open(&f->device, &(dc_device_options){.name = "ref"}, &e)) fail_msg("%s", e.text);
    f->params = dc_params_new(f->device, "test");
    f->b = dc_binder_new(f->w, f->params, "test model");
    assert_non_null(f->b);
}

static void close_file(fixture *f)
{
    dc_params_free(f->params);
    dc_device_close(f->device);
    dc_weights_close(f->w);
}

static dc_error finish(fixture *f, const dc_log *log)
{
    dc_error e = {0};
    dc_status s = dc_binder_finish(f->b, log, &e);
    assert_int_equal(s, e.code);
    return e;
}

static const void *data_of(const fixture *f, const char *name)
{
    const dc_stored *t = dc_weights_find(f->w, name);
    assert_non_null(t);
    return t->data;
}

/* ---- what arrives ---------------------------------------------------------------------------------------------------- */

static void kinds_and_sizes(void **state)
{
    (void)state;
    static const char *const file[] = {"x.3.norm.weight 8",
                                       "x.3.norm.bias 8",
                                       "x.3.conv.weight 6,8,3,1",
                                       "x.3.conv.bias 6 BF16",
                                       "x.3.lin.weight 4,8 F16",
                                       "x.3.table.weight 5,8",
                                       NULL};
    static const dc_bind rows[] = {{"norm", offsetof(layer, a), "I", 0},
                                   {"conv", offsetof(layer, b), "O I 3 1", 0},
                                   {"lin", offsetof(layer, c), "4 I", DC_BIND_NO_BIAS},
                                   {"table", offsetof(layer, d), "T I", DC_BIND_TABLE | DC_BIND_NO_BIAS}};
    fixture f;
    layer l = {0};
    open_file(&f, file);
    dc_bind_layers(f.b, &l, rows, 4, (dc_dims){.I = 8, .O = 6, .T = 5}, "x.%d", 3);
    assert_true(dc_bind_has(f.b, "x.%d.%s", 3, "conv.bias"));
    assert_false(dc_bind_has(f.b, "x.%d.%s", 3, "conv"));
    dc_error e = finish(&f, NULL);
    if (e.code) fail_msg("%s", e.text);
    assert_int_equal(l.a->desc.kind, DC_PARAM_NORM);
    assert_int_equal(l.b->desc.kind, DC_PARAM_CONV);
    assert_int_equal(l.c->desc.kind, DC_PARAM_LINEAR);
    assert_int_equal(l.d->desc.kind, DC_PARAM_TABLE);
    assert_true(l.b->desc.out == 6 && l.b->desc.in == 8 && l.b->desc.kh == 3 && l.b->desc.kw == 1);
    assert_true(l.a->desc.n_bias == 1 && l.c->desc.n_bias == 0 && l.d->desc.n_bias == 0);
    assert_true(l.c->desc.weight[0].dtype == DC_F16 && l.b->desc.bias[0].dtype == DC_BF16);
    assert_ptr_equal(l.b->desc.weight[0].data, data_of(&f, "x.3.conv.weight"));
    assert_ptr_equal(l.b->desc.bias[0].data, data_of(&f, "x.3.conv.bias"));
    assert_string_equal(strrchr(l.b->desc.name, '/') + 1, "bind.safetensors: x.3.conv");
    assert_int_equal(dc_params_count(f.params), 16 + 6 * 8 * 3 + 6 + 32 + 40);
    close_file(&f);
}

static void stacked(void **state)
{
    (void)state;
    static const char *const file[] = {"q.weight 4,3", "q.bias 4", "k.weight 4,3", "k.bias 4", "v.weight 4,3", "v.bias 4", NULL};
    static const dc_bind row = {"q|k|v", offsetof(layer, a), "Q C", 0};
    fixture f;
    layer l = {0};
    open_file(&f, file);
    dc_bind_layers(f.b, &l, &row, 1, (dc_dims){.Q = 12, .C = 3}, "%s", "");
    assert_int_equal(finish(&f, NULL).code, DC_OK);
    assert_true(l.a->desc.n_weight == 3 && l.a->desc.n_bias == 3 && dc_param_out(l.a) == 12 && dc_param_in(l.a) == 3);
    static const char *const names[] = {"q", "k", "v"};
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "%s.weight", names[i]);
        assert_ptr_equal(l.a->desc.weight[i].data, data_of(&f, name));
        assert_int_equal(l.a->desc.weight[i].rows, 4);
        snprintf(name, sizeof name, "%s.bias", names[i]);
        assert_ptr_equal(l.a->desc.bias[i].data, data_of(&f, name));
    }
    close_file(&f);
}

static void flags(void **state)
{
    (void)state;
    static const char *const file[] = {"m.proj 3,4",           "m.geglu.weight 8,2", "m.geglu.bias 8",
                                       "m.one.weight 4,4,1,1", "m.two.weight 4,4",   "m.two.bias 4",
                                       "m.here.weight 2,2",    "m.here.bias 2",      NULL};
    static const dc_bind rows[] = {{"proj", offsetof(layer, a), "4 3", DC_BIND_BARE | DC_BIND_TRANSPOSED},
                                   {"geglu", offsetof(layer, b), "8 2", DC_BIND_GEGLU},
                                   {"one", offsetof(layer, c), "4 4", DC_BIND_AS_LINEAR | DC_BIND_BIAS_OPTIONAL},
                                   {"two", offsetof(layer, d), "4 4 1 1", DC_BIND_AS_LINEAR | DC_BIND_BIAS_OPTIONAL}};
    static const dc_bind more[] = {{"gone", offsetof(layer, a), "7 7", DC_BIND_OPTIONAL}, {"here", offsetof(layer, b), "2 2", DC_BIND_OPTIONAL}};
    fixture f;
    layer l = {0}, m;
    open_file(&f, file);
    memset(&m, 0xff, sizeof m);
    dc_bind_layers(f.b, &l, rows, 4, (dc_dims){.A = 1}, "m");
    dc_bind_layers(f.b, &m, more, 2, (dc_dims){.A = 1}, "m");
    dc_error e = finish(&f, NULL);
    if (e.code) fail_msg("%s", e.text);
    assert_true(l.a->desc.transposed && dc_param_out(l.a) == 4 && dc_param_in(l.a) == 3 && l.a->desc.weight[0].rows == 3 && l.a->desc.n_bias == 0);
    assert_true(l.b->desc.geglu && l.b->desc.n_bias == 1);
    assert_true(l.c->desc.kind == DC_PARAM_LINEAR && l.c->desc.n_bias == 0);
    assert_true(l.d->desc.kind == DC_PARAM_CONV && l.d->desc.kh == 1 && l.d->desc.n_bias == 1);
    assert_null(m.a);
    assert_true(m.b->desc.n_weight == 1 && m.b->desc.n_bias == 1);
    close_file(&f);
}

/* A file whose tensor is called exactly like the prefix. */
static void bare_prefix(void **state)
{
    (void)state;
    static const char *const file[] = {"emb.position 5,2", NULL};
    static const dc_bind row = {"", offsetof(layer, a), "5 2", DC_BIND_BARE | DC_BIND_TABLE};
    fixture f;
    layer l = {0};
    open_file(&f, file);
    dc_bind_layers(f.b, &l, &row, 1, (dc_dims){.A = 1}, "emb.%s", "position");
    assert_int_equal(finish(&f, NULL).code, DC_OK);
    assert_ptr_equal(l.a->desc.weight[0].data, data_of(&f, "emb.position"));
    close_file(&f);
}

/* ---- what is wrong ------------------------------------------------------------------------------------------------------- */

typedef struct wrong {
    const char *file[4];
    dc_bind row;
    const char *says;
} wrong;

static void one_problem(void **state)
{
    (void)state;
    static const wrong cases[] = {
        {{"b.weight 4,4"}, {"a", 0, "4 4", DC_BIND_NO_BIAS}, "found 1 tensors missing and 0 of another shape or type: a.weight missing"},
        {{"a.weight 4,4"}, {"a", 0, "4 4", 0}, "found 1 tensors missing and 0 of another shape or type: a.bias missing"},
        {{"a.weight 4,5"},
         {"a", 0, "4 4", DC_BIND_NO_BIAS},
         "found 0 tensors missing and 1 of another shape or type: a.weight: found [4,5], expected [4,4]"},
        {{"a.weight 5,4"}, {"a", 0, "4 5", DC_BIND_NO_BIAS}, "a.weight: found [5,4], expected [4,5]"},
        {{"a.weight 20"}, {"a", 0, "4 5", DC_BIND_NO_BIAS}, "a.weight: found [20], expected [4,5]"},
        {{"a.weight 4,5,1,1"}, {"a", 0, "4 5", DC_BIND_NO_BIAS}, "a.weight: found [4,5,1,1], expected [4,5]"},
        {{"a.weight 4,5,1,2"}, {"a", 0, "4 5", DC_BIND_NO_BIAS | DC_BIND_AS_LINEAR}, "found [4,5,1,2], expected [4,5]"},
        {{"a.weight 4,5,1,1,1"}, {"a", 0, "4 4", DC_BIND_NO_BIAS | DC_BIND_AS_LINEAR}, "found [4,5,1,1,1], expected [4,4]"},
        {{"a.weight 4,4", "a.bias 4,1"}, {"a", 0, "4 4", 0}, "a.bias: found [4,1], expected [4]"},
        {{"a.weight 4,4", "a.bias 5"}, {"a", 0, "4 4", DC_BIND_BIAS_OPTIONAL}, "a.bias: found [5], expected [4]"},
        {{"a.weight 4,4 I64"}, {"a", 0, "4 4", DC_BIND_NO_BIAS}, "a.weight: found I64 values, expected real numbers"},
        {{"a.weight 4,4"}, {"a", 0, "4 4", DC_BIND_OPTIONAL}, "a.bias missing"}, /* an optional layer is there whole or not at all */
        {{"a.weight 4,5"}, {"a", 0, "4 4", DC_BIND_OPTIONAL | DC_BIND_NO_BIAS}, "a.weight: found [4,5]"},
        {{"q.weight 4,4", "k.weight 4,4"},
         {"q|k|v", 0, "12 4", DC_BIND_NO_BIAS},
         "found 1 tensors missing and 0 of another shape or type: v.weight missing"},
        {{"q.weight 4,4", "k.weight 6,4", "v.weight 4,4"}, {"q|k|v", 0, "12 4", DC_BIND_NO_BIAS}, "k.weight: found [6,4], expected [4,4]"},
        {{"t 4,3"}, {"t", 0, "4 3", DC_BIND_BARE | DC_BIND_TRANSPOSED}, "t: found [4,3], expected [3,4]"},
        {{"t.weight 4,3"}, {"t", 0, "4 3", DC_BIND_BARE}, "t missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f;
        layer l = {0};
        open_file(&f, cases[i].file);
        dc_bind_layers(f.b, &l, &cases[i].row, 1, (dc_dims){.A = 1}, "%s", "");
        dc_error e = finish(&f, NULL);
        assert_error(&e, DC_DATA, cases[i].says);
        assert_error(&e, DC_DATA, "bind.safetensors: test model: found");
        close_file(&f);
    }
}

/* All in one message, the first ones by name. */
static void many_problems(void **state)
{
    (void)state;
    static const char *const file[] = {"down_blocks.0.x.weight 4,5", NULL};
    static const dc_bind row = {"x", offsetof(layer, a), "4 4", DC_BIND_NO_BIAS};
    fixture f;
    layer l;
    open_file(&f, file);
    for (int i = 0; i < 500; i++) dc_bind_layers(f.b, &l, &row, 1, (dc_dims){.A = 1}, "down_blocks.%d", i);
    dc_error e = finish(&f, NULL);
    assert_error(&e, DC_DATA,
                 "found 499 tensors missing and 1 of another shape or type: down_blocks.0.x.weight: found [4,5], expected [4,4]; "
                 "down_blocks.1.x.weight missing; ");
    int named = 0, more = 0;
    for (const char *p = e.text; (p = strstr(p, "x.weight")); p++) named++;
    const char *rest = strstr(e.text, "; and ");
    assert_non_null(rest);
    assert_int_equal(sscanf(rest, "; and %d more", &more), 1);
    assert_int_equal(named + more, 500);
    assert_in_range(named, 5, 20);
    assert_string_equal(e.hint, "The file looks like a UNet, with 1 tensors.");
    close_file(&f);
}

/* A file of another kind is told as what it is. */
static void another_kind(void **state)
{
    (void)state;
    static const struct {
        const char *name, *hint;
    } kinds[] = {
        {"model.diffusion_model.input_blocks.0.0.weight", "looks like a whole Stable Diffusion model in one file (CompVis names)"},
        {"first_stage_model.decoder.conv_in.weight", "looks like a VAE in CompVis names"},
        {"decoder.mid.block_1.conv1.weight", "looks like a VAE in CompVis names"},
        {"decoder.mid_block.resnets.0.conv1.weight", "looks like a VAE"},
        {"decoder.layers.0.weight", "looks like a TAESD"},
        {"text_model.encoder.layers.0.mlp.fc1.weight", "looks like a CLIP text encoder"},
        {"vision_model.encoder.layers.0.mlp.fc1.weight", "looks like a CLIP model with its vision encoder"},
        {"lora_unet_down_blocks_0.lora_down.weight", "looks like a LoRA"},
        {"unet.down_blocks.0.attentions.0.to_q.lora_A.weight", "looks like a LoRA"},
        {"transformer.resblocks.0.attn.in_proj_weight", "looks like a text encoder in open_clip's names"},
        {"double_blocks.0.img_attn.qkv.weight", "looks like a Flux transformer"},
        {"mid_block.resnets.0.conv1.weight", "looks like a UNet"},
        {"controlnet_cond_embedding.conv_in.weight", "looks like a ControlNet"},
        {"whatever.weight", "has 2 tensors, and their names are not of a kind that is known"},
    };
    static const dc_bind row = {"conv_in", offsetof(layer, a), "4 4 3 3", 0};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char line[128];
        const char *const file[] = {"a 1", line, NULL};
        fixture f;
        layer l;
        snprintf(line, sizeof line, "%s 4", kinds[i].name);
        open_file(&f, file);
        dc_bind_layers(f.b, &l, &row, 1, (dc_dims){.A = 1}, "%s", "");
        dc_error e = finish(&f, NULL);
        assert_error(&e, DC_DATA, "found 2 tensors missing");
        if (!strstr(e.hint, kinds[i].hint)) fail_msg("%s: found \"%s\"", kinds[i].name, e.hint);
        close_file(&f);
    }
}

static void keep_line(void *user, dc_log_level level, const char *line)
{
    (void)level;
    snprintf(user, 256, "%s", line);
}

static void unused(void **state)
{
    (void)state;
    static const char *const file[] = {"a.weight 4,4", "a.more 1", "z.more 1", NULL};
    static const dc_bind row = {"a", offsetof(layer, a), "4 4", DC_BIND_NO_BIAS};
    for (int n = 1; n <= 3; n += 2) {
        char line[256] = "";
        fixture f;
        layer l;
        open_file(&f, n == 1 ? (const char *const[]){"a.weight 4,4", NULL} : file);
        dc_bind_layers(f.b, &l, &row, 1, (dc_dims){.A = 1}, "%s", "");
        assert_int_equal(finish(&f, &(dc_log){keep_line, line}).code, DC_OK);
        if (n == 1) assert_string_equal(line, "");
        else if (!strstr(line, "bind.safetensors: 2 tensors are not used by the test model, the first is a.more")) fail_msg("found \"%s\"", line);
        close_file(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_and_sizes), cmocka_unit_test(stacked),       cmocka_unit_test(flags),        cmocka_unit_test(bare_prefix),
        cmocka_unit_test(one_problem),     cmocka_unit_test(many_problems), cmocka_unit_test(another_kind), cmocka_unit_test(unused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
