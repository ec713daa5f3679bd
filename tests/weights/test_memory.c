/* Every allocation fails once: each way to open, bind and describe weights says "out of memory" and leaks nothing. Folders are left out of
 * the descriptions: jansson's parser asserts when memory runs out within a string. */
#include "backends/ops.h"
#include "base/json.h"
#include "tests/weights/files.h"
#include "weights/bind.h"
#include "weights/inspect.h"
#include "weights/weights.h"
#include <errno.h>

#define MODEL TEST_DATA "/golden/models/sd1"

/* ---- the allocator: the C library's, told to fail ---------------------------------------------------------------- */

static volatile bool armed; /* the compiler believes that malloc touches none of these */
static volatile long calls, fails_at, live;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define REPLACED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define REPLACED 0
#endif
#endif
#ifndef REPLACED
#define REPLACED 1

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

#define FOR_ALL __attribute__((visibility("default"))) /* the C library's own calls come here, too */

static bool fails(void)
{
    if (!armed || ++calls != fails_at) return false;
    errno = ENOMEM;
    return true;
}

static void *counted(void *p)
{
    live += armed && p;
    return p;
}

FOR_ALL void *malloc(size_t n) { return fails() ? NULL : counted(__libc_malloc(n)); }
FOR_ALL void *calloc(size_t n, size_t size) { return fails() ? NULL : counted(__libc_calloc(n, size)); }
FOR_ALL void *realloc(void *p, size_t n)
{
    if (fails()) return NULL;
    void *q = __libc_realloc(p, n);
    live += armed && q && !p;
    return q;
}
FOR_ALL void free(void *p)
{
    live -= armed && p;
    __libc_free(p);
}
#endif

/* ---- what is tried ----------------------------------------------------------------------------------------------------- */

static dc_status open_path(const char *path, dc_error *e)
{
    dc_weights *w;
    dc_status s = dc_weights_open(&w, path, e);
    dc_weights_close(w);
    return s;
}

static dc_status open_gguf(dc_error *e) { return open_path(TEST_DATA "/golden/gguf/values.gguf", e); }
static dc_status open_file(dc_error *e) { return open_path(TEST_DATA "/golden/weights/all_dtypes.safetensors", e); }
static dc_status open_torch(dc_error *e) { return open_path(TEST_DATA "/golden/weights/torch/protocol2.pt", e); }
static dc_status open_old_torch(dc_error *e) { return open_path(TEST_DATA "/golden/weights/torch/legacy2.bin", e); }

static dc_status open_folder(dc_error *e)
{
    dc_weights *w;
    dc_status s = dc_weights_open_folder(&w, MODEL "/unet", "diffusion_pytorch_model", e);
    dc_weights_close(w);
    return s;
}

static dc_status open_index(dc_error *e) { return open_path(in_folder("index.json"), e); }

static dc_status inspect(const char *path, dc_error *e)
{
    json_t *o;
    dc_status s = dc_inspect(&o, path, false, e);
    json_decref(o);
    return s;
}

static dc_status inspect_file(dc_error *e) { return inspect(TEST_DATA "/golden/weights/all_dtypes.safetensors", e); }
static dc_status inspect_index(dc_error *e) { return inspect(in_folder("index.json"), e); }

/* Binds conv_in to params of the plain device; a problem is noted as well. */
static dc_status bind(dc_error *e)
{
    static const dc_bind row = {"conv_in", 0, "16 4 3 3", 0}, none = {"none", 0, "O", DC_BIND_OPTIONAL};
    dc_param *p = NULL;
    dc_weights *w = NULL;
    dc_device *d = NULL;
    dc_status s = dc_device_open(&d, &(dc_device_options){.name = "ref", .threads = 1}, e);
    dc_params *params = s ? NULL : dc_params_new(d, "x");
    if (!s && !params) s = dc_fail_memory(e, "params", 0);
    if (!s) s = dc_weights_open_folder(&w, MODEL "/unet", "diffusion_pytorch_model", e);
    dc_binder *b = s ? NULL : dc_binder_new(w, params, "unet");
    if (!s && !b) s = dc_fail_memory(e, "binder", 0);
    if (b) {
        dc_bind_layers(b, &p, &row, 1, (dc_dims){.O = 1}, "%s", "");
        dc_bind_layers(b, &p, &none, 1, (dc_dims){.O = 1}, "%s", "");
        s = dc_binder_finish(b, NULL, e);
    }
    dc_params_free(params);
    dc_device_close(d);
    dc_weights_close(w);
    return s;
}

static dc_status bind_badly(dc_error *e)
{
    static const dc_bind row = {"conv_in", 0, "16 5 3 3", 0};
    dc_param *p;
    dc_weights *w = NULL;
    dc_status s = dc_weights_open_folder(&w, MODEL "/unet", "diffusion_pytorch_model", e);
    dc_binder *b = s ? NULL : dc_binder_new(w, NULL, "unet");
    if (!s && !b) s = dc_fail_memory(e, "binder", 0);
    if (b) {
        dc_bind_layers(b, &p, &row, 1, (dc_dims){.O = 1}, "%s", "");
        s = dc_binder_finish(b, NULL, e);
    }
    dc_weights_close(w);
    return s;
}

static void fail_each(dc_status (*what)(dc_error *e), dc_status at_last, long at_least)
{
    long n = 0, got_by = 0;
    for (;; n++) {
        dc_error e = {0};
        calls = live = 0;
        fails_at = n + 1;
        armed = true;
        dc_status s = what(&e);
        armed = false;
        if (live) fail_msg("allocation %ld: %ld blocks are left", n + 1, live);
        if (calls < fails_at) {
            assert_int_equal(s, at_last);
            break;
        }
        if (s == at_last && s == e.code) { /* vasprintf gets by without its last realloc */
            got_by++;
            continue;
        }
        if (s != DC_NO_MEMORY || e.code != DC_NO_MEMORY) fail_msg("allocation %ld: found %d %s", n + 1, s, e.text);
    }
    if (n < at_least || got_by > n / 4) fail_msg("%ld allocations, %ld of them not needed", n, got_by);
}

static void every_allocation(void **state)
{
    (void)state;
    if (!REPLACED) skip();
    write_tensors("a", "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
    write_tensors("b", "{\"y\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
    write_text("index.json", "{\"weight_map\":{\"x\":\"a\",\"y\":\"b\"}}");
    fail_each(open_file, DC_OK, 6);
    fail_each(open_gguf, DC_OK, 10);
    fail_each(open_torch, DC_OK, 10);
    fail_each(open_old_torch, DC_OK, 10);
    fail_each(open_folder, DC_OK, 10);
    fail_each(open_index, DC_OK, 14);
    fail_each(bind, DC_OK, 15);
    fail_each(bind_badly, DC_DATA, 10);
    fail_each(inspect_file, DC_OK, 50);
    fail_each(inspect_index, DC_OK, 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
