#include "base/npy.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/text.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

dc_status dc_npy_write_f32(const char *path, const float *data, int rank, const int64_t *dim, dc_error *e)
{
    char shape[256] = "";
    size_t at = 0, n = 1;
    for (int i = 0; i < rank; i++) {
        at += (size_t)snprintf(shape + at, sizeof shape - at, "%lld%s", (long long)dim[i], rank == 1 || i + 1 < rank ? "," : "");
        n *= (size_t)dim[i];
    }
    char header[512];
    int length = snprintf(header, sizeof header, "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", shape);
    int padded = (10 + length + 1 + 63) / 64 * 64; /* data begins at a multiple of 64 */
    char *block = dc_calloc((size_t)padded, 1);
    if (!block) return dc_fail_memory(e, path, (unsigned long long)padded);
    memcpy(block, "\x93NUMPY\x01\x00", 8);
    block[8] = (char)((padded - 10) & 255);
    block[9] = (char)((padded - 10) >> 8);
    memset(block + 10, ' ', (size_t)padded - 10);
    memcpy(block + 10, header, (size_t)length);
    block[padded - 1] = '\n';

    dc_out *o = NULL;
    dc_status s = dc_out_open(&o, path, false, NULL, e);
    if (!s) s = dc_out_write(o, block, (size_t)padded, e);
    if (!s) s = dc_out_write(o, data, n * sizeof(float), e);
    if (s) dc_out_abandon(o);
    else s = dc_out_commit(o, e);
    free(block);
    return s;
}

/* ---- reading: the header is a Python dict literal of three known keys ------------------------------------------ */

typedef struct cursor {
    const char *at, *end;
} cursor;

static void skip_space(cursor *c)
{
    while (c->at < c->end && strchr(" \t\n", *c->at)) c->at++;
}

static bool take(cursor *c, const char *word)
{
    skip_space(c);
    size_t n = strlen(word);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n)) return false;
    c->at += n;
    return true;
}

/* A quoted word of at most size-1 bytes. */
static bool take_string(cursor *c, char *out, size_t size)
{
    skip_space(c);
    if (c->at >= c->end || (*c->at != '\'' && *c->at != '"')) return false;
    char quote = *c->at++;
    size_t n = 0;
    while (c->at < c->end && *c->at != quote) {
        if (n + 1 >= size) return false;
        out[n++] = *c->at++;
    }
    out[n] = 0;
    return c->at++ < c->end;
}

static bool take_shape(cursor *c, dc_npy *n)
{
    if (!take(c, "(")) return false;
    n->rank = 0;
    while (!take(c, ")")) {
        int64_t v = 0;
        int digits = 0;
        skip_space(c);
        for (; c->at < c->end && *c->at >= '0' && *c->at <= '9' && digits < 18; digits++) v = 10 * v + (*c->at++ - '0');
        if (!digits || n->rank >= DC_NPY_MAX_RANK) return false;
        take(c, "L"); /* Python 2 wrote these */
        n->dim[n->rank++] = v;
        if (!take(c, ",")) {
            if (!take(c, ")") || n->rank == 1) return false; /* (5) is no tuple */
            return true;
        }
    }
    return true;
}

static bool parse_header(cursor c, dc_npy *n, char *descr, size_t size, bool *fortran)
{
    int seen = 0;
    char key[24];
    if (!take(&c, "{")) return false;
    while (!take(&c, "}")) {
        if (!take_string(&c, key, sizeof key) || !take(&c, ":")) return false;
        int bit = !strcmp(key, "descr") ? 1 : !strcmp(key, "fortran_order") ? 2 : !strcmp(key, "shape") ? 4 : 0;
        if (!bit || (seen & bit)) return false;
        seen |= bit;
        if (bit == 1 && !take_string(&c, descr, size)) return false;
        if (bit == 2 && !(*fortran = take(&c, "True")) && !take(&c, "False")) return false;
        if (bit == 4 && !take_shape(&c, n)) return false;
        if (!take(&c, ",") && !(take(&c, "}") && (c.at--, 1))) return false;
    }
    skip_space(&c);
    return seen == 7 && c.at == c.end;
}

/* Bytes of an element of "<f4" and the like; 0: not one of ours. */
static size_t element_size(const char *descr, char kind[4])
{
    static const char *const known[] = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"};
    if (strlen(descr) != 3 || !strchr("<|", descr[0]) || (descr[0] == '|') != (descr[2] == '1')) return 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(descr + 1, known[i])) {
            memcpy(kind, descr + 1, 3);
            return (size_t)(descr[2] - '0');
        }
    return 0;
}

static dc_status parse_npy(dc_npy *n, const char *path, const uint8_t *file, size_t size, dc_error *e)
{
    if (size < 10 || memcmp(file, "\x93NUMPY", 6))
        return dc_fail(e, DC_DATA, "%s: found no .npy file, expected one (it begins with \\x93NUMPY)", path);
    if (file[6] < 1 || file[6] > 3) return dc_fail(e, DC_DATA, "%s: .npy version: found %d, expected 1 to 3", path, file[6]);
    size_t before = file[6] == 1 ? 10 : 12;
    if (size < before) return dc_fail(e, DC_DATA, "%s: .npy header: found %zu bytes, expected at least %zu", path, size, before);
    uint64_t length = file[6] == 1 ? (uint64_t)(file[8] | file[9] << 8)
                                   : (uint64_t)file[8] | (uint64_t)file[9] << 8 | (uint64_t)file[10] << 16 | (uint64_t)file[11] << 24;
    if (!dc_in_range(before, length, size))
        return dc_fail(e, DC_DATA, "%s: .npy header: found %llu bytes, expected at most the %zu of the file", path, (unsigned long long)length,
                       size - before);

    char descr[16] = "";
    bool fortran = false;
    cursor c = {(const char *)file + before, (const char *)file + before + length};
    if (!parse_header(c, n, descr, sizeof descr, &fortran))
        return dc_fail(e, DC_DATA, "%s: .npy header: cannot be read, expected descr, fortran_order and shape", path);
    size_t one = element_size(descr, n->kind);
    if (!one) return dc_fail(e, DC_DATA, "%s: .npy type: found %s, expected a little-endian float, integer or bool", path, descr);
    if (fortran) return dc_fail(e, DC_DATA, "%s: .npy order: found Fortran order, expected C order", path);

    uint64_t bytes = one, data = before + length;
    for (int i = 0; i < n->rank; i++)
        if (!dc_mul_u64(bytes, (uint64_t)n->dim[i], &bytes)) return dc_fail(e, DC_DATA, "%s: .npy shape: too large", path);
    if (bytes != size - data)
        return dc_fail(e, DC_DATA, "%s: .npy data: found %llu bytes, expected %llu", path, (unsigned long long)(size - data),
                       (unsigned long long)bytes);
    n->bytes = bytes;
    n->data = dc_calloc(bytes ? bytes : 1, 1);
    if (!n->data) return dc_fail_memory(e, path, bytes);
    memcpy(n->data, file + data, bytes);
    return DC_OK;
}

dc_status dc_npy_read(dc_npy *n, const char *path, dc_error *e)
{
    dc_map m;
    *n = (dc_npy){0};
    dc_status s = dc_map_open(&m, path, e);
    if (!s) s = parse_npy(n, path, m.data, m.size, e);
    if (!s && (s = dc_map_check(&m, e)) != DC_OK) {
        free(n->data);
        *n = (dc_npy){0};
    }
    dc_map_close(&m);
    return s;
}
