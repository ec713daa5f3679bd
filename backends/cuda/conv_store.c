#include "backends/cuda/conv_store.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "cudnn-92801-nvidia-h200.json"; NULL when memory is out */
static char *file_of(const gpu *g)
{
    char name[sizeof g->info.name];
    size_t n = 0;
    for (const char *c = g->info.name; *c; c++)
        if (isalnum((unsigned char)*c)) name[n++] = (char)tolower((unsigned char)*c);
        else if (n && name[n - 1] != '-') name[n++] = '-';
    name[n] = 0;
    return dc_format("%s/cudnn-%d-%s.json", g->plans, g->cudnn, name);
}

/* "8x64x64x320 320x3x3 stride 1 pad 1,1 BF16 act 1 add 8 bias residual" */
static void key_of(char *out, size_t size, const gpu_conv_shape *s)
{
    snprintf(out, size, "%dx%dx%dx%d %dx%dx%d stride %d pad %d,%d %s act %d add %d%s%s", s->n, s->h, s->w, s->c, s->k, s->r, s->s, s->stride,
             s->pad_h, s->pad_w, dc_dtype_name((dc_dtype)s->type), s->act, s->add, s->bias ? " bias" : "", s->residual ? " residual" : "");
}

static json_t *fresh(const gpu *g)
{
    return json_pack("{s:i, s:s, s:i, s:i, s:{}}", "format", 1, "gpu", g->info.name, "multiprocessors", g->info.multiprocessors, "cudnn", g->cudnn,
                     "plans");
}

/* Is the file's head that which it would be given now? */
static bool is_ours(const gpu *g, const json_t *root)
{
    json_t *head = fresh(g);
    bool ours = head && json_is_object(root) && json_is_object(json_object_get(root, "plans"));
    const char *key;
    json_t *value;
    if (ours) json_object_del(head, "plans");
    json_object_foreach(head, key, value) ours = ours && json_equal(value, json_object_get(root, key));
    json_decref(head);
    return ours;
}

/* The plans; NULL when memory is out. */
static json_t *plans_of(gpu *g, conv_store *s)
{
    if (!s->root) {
        dc_error e = {0};
        char *path = file_of(g);
        if (path && dc_is_file(path)) {
            dc_json_read(&s->root, path, DC_JSON_CONFIG_LIMIT, &e);
            if (!e.code && !is_ours(g, s->root)) dc_fail(&e, DC_DATA, "%s: found no plans of this GPU and cuDNN", path);
            if (e.code) {
                dc_log_write(&g->log, DC_LOG_NOTE, "cuda: %s: it is written anew", e.text);
                json_decref(s->root);
                s->root = NULL;
            }
        }
        free(path);
        if (!s->root) s->root = fresh(g);
    }
    return json_object_get(s->root, "plans");
}

/* One plan: {"engine": 37, "whole": true, "knobs": [[2, 3], ...]}; false: it has another form. */
static bool read_way(const json_t *plan, conv_way *way, bool *whole)
{
    const json_t *engine = json_object_get(plan, "engine"), *is_whole = json_object_get(plan, "whole"), *knobs = json_object_get(plan, "knobs");
    if (!json_is_integer(engine) || !json_is_boolean(is_whole) || !json_is_array(knobs) || json_array_size(knobs) > CONV_KNOBS) return false;
    *way = (conv_way){.engine = json_integer_value(engine), .n = (int)json_array_size(knobs)};
    *whole = json_is_true(is_whole);
    for (int i = 0; i < way->n; i++) {
        const json_t *knob = json_array_get(knobs, (size_t)i), *type = json_array_get(knob, 0), *value = json_array_get(knob, 1);
        if (!json_is_integer(type) || !json_is_integer(value) || json_integer_value(type) < 0 || json_integer_value(type) > 1000) return false;
        way->knob[i].type = (int32_t)json_integer_value(type);
        way->knob[i].value = json_integer_value(value);
    }
    return way->engine >= 0;
}

bool conv_store_find(gpu *g, conv_store *s, const gpu_conv_shape *shape, conv_way *way, bool *whole)
{
    if (!g->plans) return false;
    char key[192];
    key_of(key, sizeof key, shape);
    return read_way(json_object_get(plans_of(g, s), key), way, whole);
}

static void write_file(gpu *g, conv_store *s)
{
    dc_error e = {0};
    dc_out *out = NULL;
    char *path = file_of(g), *text = s->root ? json_dumps(s->root, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(4)) : NULL;
    if (!path || !text) dc_fail_memory(&e, "plans of convolutions", 0);
    else {
        dc_make_folders(path); /* where that is not enough, opening tells */
        if (!dc_out_open(&out, path, false, NULL, &e)) {
            dc_out_fleeting(out); /* what is lost can be measured again */
            if (dc_out_write(out, text, strlen(text), &e)) dc_out_abandon(out);
            else dc_out_commit(out, &e);
        }
    }
    if (e.code) {
        s->closed = true;
        dc_log_write(&g->log, DC_LOG_WARNING, "cuda: plans of convolutions are not kept: %s", e.text);
    }
    free(text);
    free(path);
}

void conv_store_add(gpu *g, conv_store *s, const gpu_conv_shape *shape, const conv_way *way, bool whole, double seconds)
{
    if (!g->plans || s->closed || way->n < 0) return;
    char key[192];
    key_of(key, sizeof key, shape);
    json_t *knobs = json_array();
    for (int i = 0; i < way->n; i++) json_array_append_new(knobs, json_pack("[i, I]", way->knob[i].type, (json_int_t)way->knob[i].value));
    json_t *plan = json_pack("{s:I, s:b, s:o, s:f}", "engine", (json_int_t)way->engine, "whole", whole, "knobs", knobs, "seconds", seconds);
    if (!json_object_set_new(plans_of(g, s), key, plan)) write_file(g, s);
}

void conv_store_free(conv_store *s)
{
    json_decref(s->root);
    *s = (conv_store){0};
}
