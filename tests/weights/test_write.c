/* safetensors files as they are written, held byte for byte against the reference's writer and torch's rounding (tests/gen/write.py); every
 * refusal; and that nothing is left behind by one. */
#include "weights/write.h"
#include "tests/weights/files.h"
#include <dirent.h>
#include <math.h>

#define GOLDEN TEST_DATA "/golden/weights/write/"

static void must(dc_status s, const dc_error *e)
{
    if (s) fail_msg("%s", e->text);
}

static char *read_all(const char *path, size_t *n)
{
    char *bytes;
    dc_error e = {0};
    must(dc_read_file(path, 1u << 28, &bytes, n, &e), &e);
    return bytes;
}

static void same_file(const char *a, const char *b)
{
    size_t n, m;
    char *x = read_all(a, &n), *y = read_all(b, &m);
    if (n != m || memcmp(x, y, n) != 0) fail_msg("%s and %s differ", a, b);
    free(x);
    free(y);
}

static int files_there(void)
{
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *x; (x = readdir(d));) n += x->d_name[0] != '.' || strlen(x->d_name) > 2;
    closedir(d);
    return n;
}

static dc_write_list list_all(const dc_weights *w)
{
    dc_write_list l = {0};
    dc_error e = {0};
    for (int i = dc_weights_count(w); i-- > 0;) { /* in the wrong order */
        const dc_stored *t = dc_weights_at(w, i);
        if (!dc_write_add(&l, t->name, &t, 1, &e)) fail_msg("%s", e.text);
    }
    return l;
}

static void reference_bytes(void **state)
{
    static const char *const names[] = {"auto", "f32", "f16", "bf16"};
    (void)state;
    dc_weights *w;
    dc_error e = {0};
    must(dc_weights_open(&w, GOLDEN "in.safetensors", &e), &e);
    for (int type = 0; type < 4; type++) {
        char expected[512];
        dc_write_list l = list_all(w);
        snprintf(expected, sizeof expected, GOLDEN "%s.safetensors", names[type]);
        must(dc_safetensors_write(in_folder("out.safetensors"), &l, &(dc_write_options){.type = (dc_write_type)type}, &e), &e);
        same_file(in_folder("out.safetensors"), expected);
        dc_write_list_free(&l);
    }
    dc_weights_close(w);
}

/* A file with one tensor [rows, columns] of floats. */
static dc_weights *one_tensor(int rows, int columns, const float *v)
{
    char head[200];
    dc_weights *w;
    dc_error e = {0};
    dc_text t = {0};
    uint64_t bytes = (uint64_t)rows * (uint64_t)columns * 4;
    uint64_t n = (uint64_t)snprintf(head, sizeof head, "{\"x\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[0,%llu]}}", rows, columns,
                                    (unsigned long long)bytes);
    dc_text_append(&t, &n, 8);
    dc_text_append(&t, head, n);
    dc_text_append(&t, v, bytes);
    must(dc_weights_open(&w, write_bytes("in.safetensors", t.at, t.length), &e), &e);
    dc_text_free(&t);
    return w;
}

/* Turned matrices of all proportions: by elements. */
static void turned(void **state)
{
    static const int shapes[][2] = {{1, 1}, {3, 5}, {300, 700}, {2, 70000}, {70000, 2}, {0, 4}, {4, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int rows = shapes[i][0], columns = shapes[i][1];
        float *v = malloc((size_t)rows * (size_t)columns * sizeof *v + 1);
        dc_error e = {0};
        dc_write_list l = {0};
        for (int k = 0; k < rows * columns; k++) v[k] = (float)k;
        dc_weights *w = one_tensor(rows, columns, v), *out;
        const dc_stored *t = dc_weights_at(w, 0);
        dc_write_item *x = dc_write_add(&l, "x", &t, 1, &e);
        assert_non_null(x);
        x->dim[0] = columns, x->dim[1] = rows, x->turned = true;
        must(dc_safetensors_write(in_folder("out.safetensors"), &l, &(dc_write_options){0}, &e), &e);
        must(dc_weights_open(&out, in_folder("out.safetensors"), &e), &e);
        t = dc_weights_at(out, 0);
        assert_true(t->rank == 2 && t->dim[0] == columns && t->dim[1] == rows);
        for (int c = 0; c < columns; c++)
            for (int r = 0; r < rows; r++) {
                float got;
                memcpy(&got, (const char *)t->data + 4 * (size_t)(c * rows + r), 4);
                if (got != v[r * columns + c]) fail_msg("%d x %d: wrong at row %d", rows, columns, c);
            }
        dc_write_list_free(&l);
        dc_weights_close(out);
        dc_weights_close(w);
        free(v);
    }
}

static dc_status stop(void *ctx, uint64_t bytes, dc_error *e)
{
    uint64_t *written = ctx;
    *written += bytes;
    return *written > 100 ? dc_fail(e, DC_CANCELLED, "stopped") : DC_OK;
}

static void refused(void **state)
{
    static const struct {
        float value;
        dc_write_type type;
        const char *found; /* NULL: taken */
    } cases[] = {{NAN, DC_WRITE_AUTO, "found NaN at 70001"},
                 {INFINITY, DC_WRITE_F32, "found infinity at 70001"},
                 {-INFINITY, DC_WRITE_BF16, "found -infinity at 70001"},
                 {70000, DC_WRITE_F16, "found 70000 at 70001, expected at most 65504 in F16"},
                 {65520, DC_WRITE_F16, "expected at most 65504"},
                 {-1e38f, DC_WRITE_F16, "expected at most 65504"},
                 {65519, DC_WRITE_F16, NULL},
                 {70000, DC_WRITE_BF16, NULL},
                 {3.4028234e38f, DC_WRITE_BF16, "in BF16"},
                 {3.4028234e38f, DC_WRITE_F32, NULL}};
    float *v = calloc(80000, sizeof *v);
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        v[70001] = cases[i].value;
        dc_weights *w = one_tensor(2, 40000, v);
        dc_write_list l = list_all(w);
        dc_error e = {0};
        unlink(in_folder("out.safetensors"));
        dc_status s = dc_safetensors_write(in_folder("out.safetensors"), &l, &(dc_write_options){.type = cases[i].type}, &e);
        if (!cases[i].found) must(s, &e);
        else if (s != DC_DATA || !strstr(e.text, cases[i].found) || !strstr(e.text, "tensor x")) fail_msg("case %zu: %d %s", i, (int)s, e.text);
        assert_int_equal(files_there(), cases[i].found ? 1 : 2);
        dc_write_list_free(&l);
        dc_weights_close(w);
    }
    /* what was there stays when writing is stopped, refused, or two tensors have one name */
    v[70001] = 0;
    dc_weights *w = one_tensor(2, 40000, v);
    for (int turn = 0; turn < 2; turn++) {
        uint64_t written = 0;
        dc_write_list l = list_all(w);
        dc_error e = {0};
        const dc_stored *t = dc_weights_at(w, 0);
        write_text("out.safetensors", "old");
        if (turn && !dc_write_add(&l, "x", &t, 1, &e)) fail_msg("%s", e.text);
        dc_status s = dc_safetensors_write(in_folder("out.safetensors"), &l, &(dc_write_options){.tick = stop, .ctx = &written}, &e);
        assert_int_equal(s, turn ? DC_DATA : DC_CANCELLED);
        size_t n;
        char *text = read_all(in_folder("out.safetensors"), &n);
        assert_true(n == 3 && !memcmp(text, "old", 3));
        assert_int_equal(files_there(), 2);
        free(text);
        dc_write_list_free(&l);
    }
    dc_weights_close(w);
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(reference_bytes, make_folder, remove_folder),
                                       cmocka_unit_test_setup_teardown(turned, make_folder, remove_folder),
                                       cmocka_unit_test_setup_teardown(refused, make_folder, remove_folder)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
