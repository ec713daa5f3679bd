/* fp8 weights with a factor each, as ComfyUI writes them. Expected: the values of the fp8 codes (OCP 8-bit floating point) times the factor. */
#include "tests/weights/files.h"
#include "weights/write.h"

static void must(dc_status s, const dc_error *e)
{
    if (s) fail_msg("%s", e->text);
}

/* A file of the header's tensors over these bytes. */
static dc_status open_bytes(dc_weights **w, const char *header, const void *data, size_t n, dc_error *e)
{
    const char *path = in_folder("f.safetensors");
    uint64_t length = strlen(header);
    FILE *f = fopen(path, "wb");
    fwrite(&length, 8, 1, f);
    fwrite(header, 1, length, f);
    fwrite(data, 1, n, f);
    fclose(f);
    return dc_weights_open(w, path, e);
}

#define CODES "\x38\x40\xb8\x30" /* e4m3: 1, 2, -1, 0.5; e5m2: 0.5, 2, -0.5, 0.125 */

static void factors(void **state)
{
    static const float expected[3][4] = {{0.3f, 0.6f, -0.3f, 0.15f}, {1.5f, 6, -1.5f, 0.375f}, {1, 2, -1, 0.5f}};
    static const char *const names[3] = {"a.weight", "b.weight", "c.weight"};
    struct {
        float a, b;
        char codes[12];
    } data = {0.3f, 3, CODES CODES};
    dc_weights *w, *back;
    dc_write_list l = {0};
    dc_error e = {0};
    (void)state;
    memcpy(data.codes + 8, CODES, 4);
    must(open_bytes(&w,
                    "{\"a.scale_weight\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                    "\"b.weight_scale\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]},"
                    "\"a.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,2],\"data_offsets\":[8,12]},"
                    "\"b.weight\":{\"dtype\":\"F8_E5M2\",\"shape\":[2,2],\"data_offsets\":[12,16]},"
                    "\"c.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,2],\"data_offsets\":[16,20]}}",
                    &data, sizeof data, &e),
         &e);
    for (int i = 0; i < 3; i++) {
        const dc_stored *t = dc_weights_find(w, names[i]);
        assert_non_null(dc_write_add(&l, names[i], &t, 1, &e));
    }
    must(dc_safetensors_write(in_folder("wide.safetensors"), &l, &(dc_write_options){.type = DC_WRITE_F32}, &e), &e);
    dc_write_list_free(&l);
    dc_weights_close(w);
    must(dc_weights_open(&back, in_folder("wide.safetensors"), &e), &e);
    for (int i = 0; i < 3; i++) {
        const dc_stored *t = dc_weights_find(back, names[i]);
        float found[4];
        assert_int_equal(t->bytes, sizeof found);
        memcpy(found, t->data, sizeof found);
        for (int k = 0; k < 4; k++)
            if (found[k] != expected[i][k]) fail_msg("%s[%d]: %.9g, expected %.9g", names[i], k, (double)found[k], (double)expected[i][k]);
    }
    dc_weights_close(back);
}

static void refused_with(const char *shape, int n, const float *factor, const char *words)
{
    char header[400], data[12];
    dc_weights *w;
    dc_error e = {0};
    memcpy(data, factor, (size_t)n * 4);
    memcpy(data + n * 4, CODES, 4);
    snprintf(header, sizeof header,
             "{\"a.scale_weight\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[0,%d]},"
             "\"a.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,2],\"data_offsets\":[%d,%d]}}",
             shape, n * 4, n * 4, n * 4 + 4);
    assert_int_equal(open_bytes(&w, header, data, (size_t)n * 4 + 4, &e), DC_DATA);
    if (!strstr(e.text, words)) fail_msg("no \"%s\" in %s", words, e.text);
}

static void refused(void **state)
{
    (void)state;
    refused_with("[2]", 2, (float[]){1, 2}, "found 2 values of F32, expected one");
    refused_with("[1]", 1, (float[]){0.0f / 0.0f}, "nan, expected a finite factor");
    refused_with("[]", 1, (float[]){0}, "found 0, expected a finite factor");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(factors), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
