/* The reader of torch's checkpoints: files that torch wrote, in every wrapping, against the values that safetensors wrote; every refusal by
 * a file made for it (weights are data: nothing that a pickle names is called); and systematic damage. */
#include "tests/weights/archive.h"
#include "tests/weights/bounds.h"
#include "weights/pickle.h"
#include "weights/reader.h"
#include "weights/zip.h"
#include <sys/mman.h>

#define GOLDEN TEST_DATA "/golden/weights/torch/"

/* ---- torch's files ------------------------------------------------------------------------------------------------- */

enum naming { AS_IS, UNDERSCORES, SHARED_IN_MODULE };

static void same_as(const char *name, const char *reference, enum naming naming)
{
    char path[512], other[512], wanted[1100];
    dc_weights *w, *want;
    dc_error e = {0};
    snprintf(path, sizeof path, GOLDEN "%s", name);
    snprintf(other, sizeof other, GOLDEN "%s", reference);
    if (dc_weights_open(&w, path, &e) || dc_weights_open(&want, other, &e)) fail_msg("%s", e.text);
    assert_string_equal(dc_weights_format(w), "torch");
    assert_string_equal(dc_weights_format(want), "safetensors");
    assert_int_equal(dc_weights_count(w), dc_weights_count(want));
    for (int i = 0; i < dc_weights_count(want); i++) {
        const dc_stored *y = dc_weights_at(want, i);
        snprintf(wanted, sizeof wanted, "%s%s", naming == SHARED_IN_MODULE && !strncmp(y->name, "shared", 6) ? "module." : "", y->name);
        for (char *c = wanted; naming == UNDERSCORES && *c; c++) *c = *c == '.' ? '_' : *c;
        const dc_stored *x = dc_weights_find(w, wanted);
        if (!x) fail_msg("%s: no tensor %s", name, wanted);
        if (x->dtype != y->dtype || x->rank != y->rank || x->bytes != y->bytes) fail_msg("%s: %s has another type or size", name, wanted);
        assert_string_equal(x->file, path);
        for (int d = 0; d < x->rank; d++) assert_int_equal(x->dim[d], y->dim[d]);
        if (memcmp(x->data, y->data, x->bytes)) fail_msg("%s: %s has other values", name, wanted);
    }
    dc_weights_close(w);
    dc_weights_close(want);
}

static void reference_values(void **state)
{
    (void)state;
    static const char *const all[] = {"protocol2.pt", "protocol4.pt", "protocol5.pt", "legacy2.bin", "legacy4.bin"};
    static const char *const small[] = {"lightning.ckpt", "params_ema.pth", "parallel.pth", "parameters.pt", "attributes.pt"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) same_as(all[i], "want.safetensors", AS_IS);
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) same_as(small[i], "want_small.safetensors", AS_IS);
    same_as("half_parallel.pth", "want_small.safetensors", SHARED_IN_MODULE); /* "module." stays when not all names have it */
    same_as("module.bin", "want_small.safetensors", UNDERSCORES);
    same_as("module_legacy.bin", "want_small.safetensors", UNDERSCORES);
}

static void reference_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *name, *says, *hint;
    } files[] = {
        {"whole_model.pt", "data.pkl: found the global torch.nn.modules.linear Linear or what it makes, expected a dictionary of tensors",
         "state_dict()"},
        {"tensor.pt", "data.pkl: found a rebuilt tensor, expected a dictionary of tensors", NULL},
        {"complex.pt", "tensor b: dtype: found the global torch ComplexFloatStorage, expected float64", NULL},
        {"uint16.pt", "tensor a: dtype: found the global torch uint16, expected float64", NULL},
        {"negated.pt", "tensor a: metadata: found a dictionary, expected none", NULL},
        {"sparse.pt", "tensor b: value: found the global torch._utils _rebuild_sparse_tensor or what it makes, expected a plain tensor", NULL},
        {"big_endian.pt", "zip entry big_endian/byteorder: found big, expected little", NULL},
        {"big_endian.bin", "pickle: found numbers of a big-endian machine", NULL},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[512];
        dc_weights *w;
        dc_error e = {0};
        snprintf(path, sizeof path, GOLDEN "%s", files[i].name);
        assert_int_equal(dc_weights_open(&w, path, &e), DC_DATA);
        assert_error(&e, DC_DATA, files[i].says);
        if (files[i].hint && !strstr(e.hint, files[i].hint)) fail_msg("hint: found %s, expected %s", e.hint, files[i].hint);
    }
}

/* ---- made-up pickles -------------------------------------------------------------------------------------------------- */

/* In memory, for the many; valid until the next. */
static const char *hold_bytes(const void *bytes, size_t n)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) fd = memfd_create("torch", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, bytes, n, 0), n);
    return path;
}

static const char *hold_torch(const void *pickle, size_t n)
{
    archive a = {.described = true};
    archive_torch(&a, pickle, n);
    const char *path = hold_bytes(a.file.at, a.file.length);
    archive_free(&a);
    return path;
}

static const char *write_torch(const char *name, const void *pickle, size_t n)
{
    archive a = {.described = true};
    archive_torch(&a, pickle, n);
    const char *path = write_bytes(name, a.file.at, a.file.length);
    archive_free(&a);
    return path;
}

#define P                     "\x80\2"
#define PICKLE(text)          text, sizeof text - 1
#define DICT(value)           PICKLE(P "}" A value "s.")          /* {"a": value} */
#define BESIDE(value)         PICKLE(P "}(" B value A BYTES "u.") /* {"b": value, "a": a good tensor} */
#define BAD(at, size, stride) DICT(TENSOR(STORAGE("Float", "0", "\14"), at, size, stride))
#define LARGE                 "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f" /* 2^63-1 */
#define HALF                  "\x8a\x08\0\0\0\0\0\0\0\x40"               /* 2^62 */
#define TOUCH                 "cposix\nsystem\n" TEXT("\x10", "touch ./executed") "\x85R"

static const struct {
    const char *pickle;
    size_t n;
    int tensors;
} accepted[] = {
    {DICT(FLOATS), 1},
    {BESIDE(FLOATS), 2},
    {BESIDE("N"), 1},
    {BESIDE(TOUCH), 1}, /* inert */
    {BESIDE(TEXT("\5", "posix") TEXT("\6", "system") "\x93" TEXT("\1", "x") "\x85R"), 1},
    {BESIDE("cbuiltins\neval\n" TEXT("\1", "1") "\x85R"), 1},
    {BESIDE("cbuiltins\nlist\n)\x81}b"), 1},
    {BESIDE("(S'touch ./executed'\niposix\nsystem\n"), 1},
    {BESIDE("(cposix\nsystem\n" TEXT("\1", "x") "o"), 1},
    {BESIDE("cpkgutil\nresolve_name\n" TEXT("\1", "x") "\x85R" TEXT("\1", "y") "\x85R"), 1},
    {BESIDE("cposix\nsystem\n)}\x92"), 1},
    {BESIDE("\x82\1"), 1},
    {BESIDE("Px\n"), 1},
    {BESIDE("NQ"), 1},
    {BESIDE("cx\ny\n"
            "(I1\nI2\nu"),
     1}, /* items of a foreign object */
    {BESIDE("cx\ny\n"
            "(I1\nI2\ne"),
     1},
    {BESIDE("c\n\n"), 1},
    {BESIDE("]q\0h\0a"), 1},      /* a list that holds itself */
    {BESIDE("}q\0" B "h\0s"), 1}, /* a dictionary that does */
    {BESIDE("\x8f(K\1K\2\x90"), 1},
    {BESIDE("(K\1K\2\x91"), 1},
    {BESIDE("(K\1K\2l"), 1},
    {BESIDE("(K\1K\2d"), 1},
    {BESIDE("\x8a\0"
            "0\x8a\x09"
            "123456789"),
     1},
    {BESIDE("\x8b\3\0\0\0abc"), 1},
    {BESIDE("F1.5\n0G\0\0\0\0\0\0\0\0"
            "0B\1\0\0\0x0C\1x0\x8e\1\0\0\0\0\0\0\0x0\x96\1\0\0\0\0\0\0\0x"),
     1},
    {BESIDE("(12"), 1}, /* DUP of the key */
    {BESIDE("\x95\1\0\0\0\0\0\0\0N"), 1},
    {PICKLE("(dp0\nVa\np1\n" BYTES "s."), 1}, /* protocol 0 */
    {PICKLE("}S'a'\n" BYTES "s."), 1},
    {PICKLE("}S\"a\"\n" BYTES "s."), 1},
    {PICKLE("}U\1a" BYTES "s."), 1},
    {PICKLE("}T\1\0\0\0a" BYTES "s."), 1},
    {PICKLE("}\x8c\1a" BYTES "s."), 1},
    {PICKLE("}\x8d\1\0\0\0\0\0\0\0a" BYTES "s."), 1},
    {PICKLE("}\x8c\1a\x94" BYTES "s\x94"
            "0h\1."),
     1}, /* MEMOIZE counts from 0 */
    {DICT(TENSOR(STORAGE("Float", "0", "\14"), "I0\n", "(I3\nL4L\nt", "(M\4\0J\1\0\0\0t")), 1},
    {DICT(TENSOR(STORED("ctorch.cuda\nFloatStorage\n", "0", "\14"), INT("\1"), INT("\13") "\x85", INT("\1") "\x85")), 1},
    {DICT(TENSOR(STORED("ctorch.storage\nUntypedStorage\n", "0", "\60"), INT("\0"), INT("\60") "\x85", INT("\1") "\x85")), 1},
    {DICT(TENSOR(STORAGE("Float", "0", "\14"), LARGE, INT("\0") "\x85", LARGE "\x85")), 1}, /* nothing of it is read */
    {DICT(TENSOR(STORAGE("Float", "0", "\14"), INT("\14"), ")", ")")), -1},                 /* one behind the last */
    {DICT(TENSOR(STORAGE("Float", "0", "\14"), INT("\13"), ")", ")")), 1},
    {DICT(TENSOR(STORAGE("Float", "0", "\14"), INT("\2"), "(K\2K\1K\3t", "(K\5" LARGE "K\2t")), 1}, /* the stride of one row is not used */
    {DICT("ctorch._utils\n_rebuild_parameter\n(" BYTES HOOKS "tR"), 1},
    {DICT("ctorch._utils\n_rebuild_tensor\n(" STORAGE("Byte", "1", "\4") INT("\0") INT("\4") "\x85" INT("\1") "\x85tR"), 1},
    {DICT(TENSOR(STORAGE("Byte", "1", "\4"), INT("\0"), "ctorch\nSize\n" INT("\4") "\x85\x85R", INT("\1") "\x85")), 1},
    {PICKLE(P "}" TEXT("\12", "state_dict") "}" A BYTES "ss."), 1},
    {PICKLE(P "}(" TEXT("\12", "state_dict") "}" B "K\1s" A BYTES "u."), 1}, /* one without tensors does not count */
    {PICKLE(P "}(" A BYTES B "}(" A BYTES B BYTES "uu."), 2},                /* most tensors */
    {PICKLE(P "}(K\1" BYTES A BYTES "u."), 1},                               /* a key that is no name */
};

#define REACH "offset, shape and strides: found them to reach beyond its storage of 12 elements"

static const struct {
    const char *pickle;
    size_t n;
    const char *says;
} refused[] = {
    /* what a wanted tensor needs is foreign */
    {PICKLE(P TOUCH "."), "data.pkl: found the global posix system or what it makes, expected a dictionary of tensors"},
    {DICT("cposix\nsystem\n"), "data.pkl: found a dictionary without a tensor"},
    {DICT(TENSOR(TEXT("\10", "builtins") TEXT("\4", "eval") "\x93" TEXT("\1", "1") "\x85R", INT("\0"), ")", ")")),
     "tensor a: storage: found the global builtins eval or what it makes, expected one of torch's"},
    {DICT(TENSOR(STORED("cposix\nsystem\n", "0", "\1"), INT("\0"), ")", ")")),
     "class of its storage: found the global posix system or what it makes"},
    {DICT(TENSOR(STORED("ctorch\nFloatStorag\n", "0", "\1"), INT("\0"), ")", ")")), "class of its storage: found the global torch FloatStorag or"},
    {DICT(TENSOR(STORED("ctorch.x\nFloatStorage\n", "0", "\1"), INT("\0"), ")", ")")),
     "class of its storage: found the global torch.x FloatStorage or"},
    {DICT(TENSOR(STORED("ctorch\nfloat32\n", "0", "\1"), INT("\0"), ")", ")")), "class of its storage: found the global torch float32"},
    {DICT(TENSOR("N", INT("\0"), ")", ")")), "tensor a: storage: found None"},
    {DICT(TENSOR(TEXT("\1", "0") "Q", INT("\0"), ")", ")")), "tensor a: storage: found the global an unknown kind"},
    {DICT("ctorch._utils\n_rebuild_qtensor\n)R"), "found a dictionary without a tensor"},
    {BESIDE("ctorch._utils\n_rebuild_qtensor\n)R"), "tensor b: value: found the global torch._utils _rebuild_qtensor or what it makes"},
    /* a storage */
    {DICT(TENSOR(STORAGE("Float", "7", "\14"), INT("\0"), ")", ")")), "tensor a: storage 7: found none in the archive, expected the entry data/7"},
    {DICT(TENSOR(STORAGE("Float", "\0", "\14"), INT("\0"), ")", ")")), "found none in the archive"},
    {DICT(TENSOR("(" TEXT("\7", "storage") "ctorch\nFloatStorage\n" TEXT("\11", "../data/0") TEXT("\3", "cpu") "K\14tQ", INT("\0"), ")", ")")),
     "storage ../data/0: found none in the archive"},
    {DICT(TENSOR("(" TEXT("\7", "storage") "ctorch\nFloatStorage\nK\0" TEXT("\3", "cpu") "K\14tQ", INT("\0"), ")", ")")),
     "key of its storage: found a whole number, expected a text"},
    {DICT(TENSOR(STORAGE("Float", "0", "\15"), INT("\0"), ")", ")")), "storage 0: found 48 bytes, expected 13 elements of 4 bytes"},
    {DICT(TENSOR("(" TEXT("\7", "storage") "ctorch\nDoubleStorage\n" TEXT("\1", "0") "NJ\xff\xff\xff\xfftQ", INT("\0"), ")", ")")),
     "size of its storage: found -1, expected no negative number"},
    {DICT(TENSOR("(" TEXT("\7", "storage") "ctorch\nDoubleStorage\n" TEXT("\1", "0") "N" HALF "tQ", INT("\0"), ")", ")")),
     "found 48 bytes, expected 4611686018427387904 elements of 8 bytes"},
    {DICT(TENSOR("(" TEXT("\7", "storage") "ctorch\nByteStorage\n" TEXT("\1", "1") "NK\4(NK\2K\3ttQ", INT("\0"), ")", ")")),
     "view of its storage: found it to reach beyond 4 elements"},
    {DICT(TENSOR("(" TEXT("\7", "storage") "ctorch\nByteStorage\n" TEXT("\1", "1") "NK\4K\1tQ", INT("\0"), ")", ")")),
     "view of its storage: found a whole number"},
    /* numbers */
    {BAD("J\xff\xff\xff\xff", ")", ")"), "tensor a: offset: found -1, expected no negative number"},
    {BAD(INT("\0"), "J\xff\xff\xff\xff\x85", INT("\1") "\x85"), "tensor a: shape: found -1, expected no negative number"},
    {BAD(INT("\0"), INT("\1") "\x85", "J\xfe\xff\xff\xff\x85"), "tensor a: strides: found -2, expected no negative number"},
    {BAD(INT("\0"),
         "\x8a\x09"
         "\1\0\0\0\0\0\0\0\0\x85",
         INT("\1") "\x85"),
     "tensor a: shape: found a whole number, expected a whole number below 2^63"},
    {BAD("L99999999999999999999L\n", ")", ")"), "tensor a: offset: found a whole number, expected a whole number below 2^63"},
    {BAD("F0\n", ")", ")"), "tensor a: offset: found a float"},
    {BAD("\x89", ")", ")"), "tensor a: offset: found a truth value"},
    {BAD(INT("\0"), INT("\4"), INT("\1") "\x85"), "tensor a: shape: found a whole number, expected a tuple"},
    {BAD(INT("\0"), INT("\4") "\x85", ")"), "tensor a: strides: found a tuple, expected a tuple as long as its shape"},
    {BAD(INT("\0"), "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t"), "tensor a: shape: found 9 dimensions, expected at most 8"},
    {BAD(INT("\0"), INT("\15") "\x85", INT("\1") "\x85"), "tensor a: " REACH},
    {BAD(INT("\1"), INT("\14") "\x85", INT("\1") "\x85"), REACH},
    {BAD(INT("\0"), INT("\3") INT("\4") "\x86", INT("\4") INT("\2") "\x86"), REACH},
    {BAD(LARGE, INT("\2") "\x85", INT("\1") "\x85"), REACH},
    {BAD(HALF, ")", ")"), REACH},
    {BAD(INT("\0"), HALF HALF "\x86", INT("\0") INT("\0") "\x86"), "tensor a: shape: found more than 2^64 bytes or strides that reach farther"},
    {BAD(INT("\0"), LARGE "\x85", INT("\0") "\x85"), "shape: found more than 2^64 bytes"},
    {BAD(INT("\0"), "(K\5K\5K\1t", "(" LARGE LARGE "K\1t"), "shape: found more than 2^64 bytes or strides"},
    {BAD(INT("\0"), "J\0\0\0\1\x85", INT("\0") "\x85"), "strides: found tensors that are not in row-major order of more bytes than the file's"},
    {DICT("ctorch._utils\n_rebuild_tensor_v2\n)R"), "tensor a: found 0 arguments of _rebuild_tensor_v2, expected more"},
    {DICT("ctorch._utils\n_rebuild_tensor_v2\nNR"), "tensor a: found 0 arguments of _rebuild_tensor_v2"},
    {DICT("ctorch._utils\n_rebuild_tensor_v3\n(" STORAGE("Byte", "1", "\4") INT("\0") "))" HOOKS "NtR"),
     "tensor a: dtype: found None, expected one of torch's"},
    /* names and dictionaries */
    {PICKLE(P "]" BYTES "a."), "data.pkl: found a list, expected a dictionary of tensors"},
    {PICKLE(P "}."), "found a dictionary without a tensor"},
    {PICKLE(P "}(" A BYTES A BYTES "u."), "tensor a: name: found twice in the header, expected once"},
    {PICKLE(P "}(" TEXT("\10", "module.a") BYTES TEXT("\10", "module.a") BYTES "u."), "tensor a: name: found twice"},
    {PICKLE(P "}X\2\0\0\0a\xff" BYTES "s."), "tensor a\\xff: name: found bytes that are no text, expected UTF-8 without NUL"},
    {PICKLE(P "}X\3\0\0\0a\0b" BYTES "s."), "name: found bytes that are no text"},
    {PICKLE("}Va\\u0062\n" BYTES "s."), "tensor names: found one with escapes, expected plain text"},
    /* the machine */
    {PICKLE(""), "data.pkl, byte 0: found its end after 0 bytes, expected more of it"},
    {PICKLE(P), "data.pkl, byte 2: found its end after 2 bytes, expected more of it"},
    {PICKLE(P "}X\5\0\0\0a"), "data.pkl, byte 3: opcode 0x58: found its end after 9 bytes"},
    {PICKLE(P "}\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
              "a"),
     "byte 3: opcode 0x8d: found its end"},
    {PICKLE(P "\x8b\xff\xff\xff\xff"), "byte 2: opcode 0x8b: found its end"},
    {PICKLE(P "\x8a\xff"
              "a"),
     "byte 2: opcode 0x8a: found its end"},
    {PICKLE(P "cposix\nsystem"), "byte 2: opcode 0x63: found its end"},
    {PICKLE(P "I12"), "byte 2: opcode 0x49: found its end"},
    {PICKLE(P "\xff."), "data.pkl, byte 2: opcode 0xff: found one that torch does not write, expected an opcode of pickle"},
    {PICKLE(P "\x97."), "opcode 0x97: found one that torch does not write"}, /* NEXT_BUFFER */
    {PICKLE(P "\0."), "opcode 0x00: found one that torch does not write"},
    {PICKLE("\x80\6}."), "byte 0: opcode 0x80: found a protocol above 5, expected 0 to 5"},
    {PICKLE(P "\x95\xff\0\0\0\0\0\0\0}."), "opcode 0x95: found a frame longer than the pickle"},
    {PICKLE(P "NN."), "found another number of values on the stack, expected one result"},
    {PICKLE(P "(."), "found another number of values on the stack, expected one result"},
    {PICKLE(P "t."), "opcode 0x74: found no mark on the stack, expected one"},
    {PICKLE(P "(R."), "opcode 0x52: found too few values on the stack"},
    {PICKLE(P "(\x85."), "opcode 0x85: found too few values"},
    {PICKLE(P "((u."), "opcode 0x75: found a mark, expected a dictionary to set items of"},
    {PICKLE(P "(u."), "opcode 0x75: found too few values"},
    {PICKLE(P "](NNu."), "opcode 0x75: found a list, expected a dictionary to set items of"},
    {PICKLE(P "}(Ne."), "opcode 0x65: found a dictionary, expected a list to add to"},
    {PICKLE(P "}(Nu."), "opcode 0x75: found a key without a value, expected pairs"},
    {PICKLE(P "(Nd."), "opcode 0x64: found a key without a value"},
    {PICKLE(P "NNa."), "opcode 0x61: found None, expected a list"},
    {PICKLE(P "h\0."), "opcode 0x68: found a place of the memo that holds nothing"},
    {PICKLE(P "]q\1h\0."), "opcode 0x68: found a place of the memo that holds nothing"},
    {PICKLE(P "q\0."), "opcode 0x71: found too few values"},
    {PICKLE(P "Nr\0\0\x10\0."), "opcode 0x72: found a memo of more than 1048576 places"},
    {PICKLE(P "Nr\xff\xff\xff\xff."), "found a memo of more than 1048576 places"},
    {PICKLE(P "Np1x\n."), "opcode 0x70: found a place of the memo that is no short number"},
    {PICKLE(P "Np99999999999999999999\n."), "found a place of the memo that is no short number"},
    {PICKLE(P "o."), "opcode 0x6f: found no mark"},
    {PICKLE(P "(o."), "opcode 0x6f: found too few values"},
};

/* Every byte of every tensor can be read; returns a sum of them. */
static unsigned touch(const dc_container *k)
{
    unsigned sum = 0;
    for (int i = 0; i < k->n_tensors; i++)
        for (uint64_t j = 0; j < k->tensor[i].bytes; j++) sum += ((const uint8_t *)k->tensor[i].data)[j];
    return sum;
}

static void made_up(void **state)
{
    (void)state;
    char here[4096];
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(folder), 0);
    for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
        dc_error e = {0};
        dc_container k;
        dc_status s = dc_torch_open(&k, write_torch("x.pt", accepted[i].pickle, accepted[i].n), &e);
        if (accepted[i].tensors > 0 && s) fail_msg("%zu: %s", i, e.text);
        if (accepted[i].tensors <= 0) assert_error(&e, DC_DATA, "found");
        else assert_int_equal(k.n_tensors, accepted[i].tensors);
        touch(&k);
        dc_container_close(&k);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        dc_error e = {0};
        dc_container k;
        if (!dc_torch_open(&k, write_torch("x.pt", refused[i].pickle, refused[i].n), &e)) fail_msg("accepted: %s", refused[i].says);
        assert_error(&e, DC_DATA, refused[i].says);
        assert_error(&e, DC_DATA, "x.pt: ");
    }
    assert_int_equal(access("executed", F_OK), -1);
    assert_int_equal(chdir(here), 0);
}

/* Values are those of the places that the numbers name. */
static void contents(void **state)
{
    (void)state;
    dc_error e = {0};
    dc_container k;
    static const char pickle[] = P "}(" TEXT("\1", "z") TENSOR(STORAGE("Short", "0", "\30"), INT("\1"), "(K\2K\3t", "(K\1K\2t") TEXT("\1", "y")
        TENSOR(STORAGE("Char", "1", "\4"), INT("\1"), "(K\3t", "(K\1t") "u.";
    if (dc_torch_open(&k, write_torch("x.pt", pickle, sizeof pickle - 1), &e)) fail_msg("%s", e.text);
    assert_int_equal(k.n_tensors, 2);
    assert_string_equal(k.tensor[0].name, "y");
    assert_memory_equal(k.tensor[0].data, "\1\2\3", 3);
    assert_true((const uint8_t *)k.tensor[0].data > k.map.data && (const uint8_t *)k.tensor[0].data < k.map.data + k.map.size); /* in place */
    assert_string_equal(k.tensor[1].name, "z");
    assert_int_equal(k.tensor[1].dtype, DC_I16);
    assert_memory_equal(k.tensor[1].data, "\2\3\6\7\12\13\4\5\10\11\14\15", 12);
    dc_container_close(&k);
}

/* Each opcode on an empty stack, on one and on two values, with and without a mark: a refusal or a result, never more. */
static void every_opcode(void **state)
{
    (void)state;
    static const char *const before[] = {"",    "N",    "NN", "NNN", "(",        "(N",
                                         "](N", "}(NN", "]N", "}NN", "cx\ny\n)", "ctorch._utils\n_rebuild_tensor_v2\n)"};
    for (int op = 0; op < 256; op++)
        for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
            dc_text t = {0};
            dc_error e = {0};
            dc_container k;
            dc_text_append(&t, before[i], strlen(before[i]));
            dc_text_append(&t, &(char){(char)op}, 1);
            dc_text_append(&t, "\1\0\0\0\0\0\0\0\n1\n.", 12);
            assert_int_equal(dc_torch_open(&k, hold_torch(t.at, t.length), &e), DC_DATA); /* none of these is a dictionary of tensors */
            assert_error(&e, DC_DATA, "found");
            dc_text_free(&t);
        }
}

/* ---- limits -------------------------------------------------------------------------------------------------------------- */

static void append(dc_text *t, const char *bytes, size_t n, int times)
{
    for (int i = 0; i < times; i++) dc_text_append(t, bytes, n);
}

/* {"b": begin again*times end, "a": a tensor} within the bounds of memory and time. */
static void repeated(const char *begin, const char *again, size_t n, int times, const char *end, dc_status want, const char *says)
{
    dc_text t = {0};
    append(&t, P "}(" B, sizeof P "}(" B - 1, 1);
    append(&t, begin, strlen(begin), 1);
    append(&t, again, n, times);
    append(&t, end, strlen(end), 1);
    append(&t, A BYTES "u.", sizeof A BYTES "u." - 1, 1);
    within_bounds(write_torch("many.pt", t.at, t.length), t.length, want, says);
    dc_text_free(&t);
}

static void limits(void **state)
{
    (void)state;
    static const char bomb[] = "h\1h\1\x86q\1";
    repeated("Nq\1", bomb, sizeof bomb - 1, 100, "", DC_OK, ""); /* 2^100 values, if the memo copied */
    repeated("(Nq\1", bomb, sizeof bomb - 1, 300000, "t", DC_OK, "");
    repeated("", "((", 2, 63,
             "1111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"
             "11111111N",
             DC_OK, "");
    repeated("", "((", 2, 64, "", DC_DATA, "found more than 128 open marks, expected a depth of at most that");
    repeated("N", "\x85", 1, 3000000, "", DC_DATA, "more objects than"); /* 8 bytes each */
    repeated("N", "\x85", 1, 500000, "", DC_OK, "");
    repeated("(", "]", 1, 5000000, "t", DC_DATA, "data.pkl: found more objects than 5000");
    repeated("(", "N", 1, 5000000, "t", DC_DATA, "data.pkl: found more objects than 5000");
    repeated("", "N0", 2, 2000000, "N", DC_OK, "");
    repeated("(",
             "N\x94"
             "0",
             3, 1048576, "t", DC_OK, "");
    repeated("(",
             "N\x94"
             "0",
             3, 1048577, "t", DC_DATA, "found a memo of more than 1048576 places");
    static const char paid[] = "N\x85"
                               "0C\x08"
                               "abcdefgh0"; /* an object, and enough bytes to pay for its memory */
    for (int over = 0; over < 2; over++) {
        dc_text t = {0};
        append(&t, P, 2, 1);
        append(&t, paid, sizeof paid - 1, (int)DC_PICKLE_MAX_NODES - 20 + 20 * over);
        append(&t, "}" A BYTES "s.", sizeof "}" A BYTES "s." - 1, 1);
        within_bounds(write_torch("nodes.pt", t.at, t.length), t.length, over ? DC_DATA : DC_OK, over ? "found more than 4194304 objects" : "");
        dc_text_free(&t);
    }
}

/* Dictionaries inside each other, to the depth of the limit, and the same one many times. */
static void nested(void **state)
{
    (void)state;
    for (int depth = 127; depth <= 128; depth++) {
        dc_text t = {0};
        append(&t, P, 2, 1);
        append(&t, "}" B, sizeof "}" B - 1, depth);
        append(&t, "}" A BYTES, sizeof "}" A BYTES - 1, 1);
        append(&t, "s", 1, depth + 1);
        append(&t, ".", 1, 1);
        within_bounds(write_torch("deep.pt", t.at, t.length), t.length, depth > 127 ? DC_DATA : DC_OK,
                      depth > 127 ? "found dictionaries more than 128 deep" : "");
        dc_text_free(&t);
    }
    dc_text t = {0}; /* 2^100 ways to the tensor */
    append(&t,
           P "}" A BYTES "sq\1"
             "0",
           sizeof P "}" A BYTES "sq\1"
                    "0" -
               1,
           1);
    append(&t,
           "}(" A "h\1" B "h\1uq\1"
           "0",
           sizeof "}(" A "h\1" B "h\1uq\1"
                  "0" -
               1,
           100);
    append(&t, "h\1.", 3, 1);
    within_bounds(write_torch("ways.pt", t.at, t.length), t.length, DC_OK, "");
    dc_text_free(&t);
}

/* n tensors in an archive of so many entries, within the bounds. */
static void many_tensors(int n, int entries, bool wide, dc_status want, const char *says)
{
    archive a = {.described = true, .wide = wide};
    dc_text t = {0};
    append(&t, P "}", 3, 1);
    for (int i = 0; i < n; i++) {
        char name[64], key[32];
        int k = snprintf(key, sizeof key, "%d", i);
        snprintf(name, sizeof name, "down_blocks.0.attentions.1.to_out.%07d", i);
        append(&t, "X", 1, 1);
        put_number(&t, strlen(name), 4);
        append(&t, name, strlen(name), 1);
        append(&t, REBUILD "((" TEXT("\7", "storage") "ctorch\nByteStorage\nX",
               sizeof REBUILD "((" TEXT("\7", "storage") "ctorch\nByteStorage\nX" - 1, 1);
        put_number(&t, (uint64_t)k, 4);
        append(&t, key, (size_t)k, 1);
        static const char rest[] = TEXT("\3", "cpu") "K\1tQK\0(K\1K\1K\1K\1t(K\1K\1K\1K\1t" HOOKS "tRs";
        append(&t, rest, sizeof rest - 1, 1);
    }
    append(&t, ".", 1, 1);
    archive_add(&a, "x/data.pkl", t.at, t.length, false);
    for (int i = 0; i < entries - 1; i++) {
        char name[64];
        snprintf(name, sizeof name, "x/data/%d", i);
        archive_add(&a, name, "!", 1, false);
    }
    archive_finish(&a);
    within_bounds(write_bytes("large.pt", a.file.at, a.file.length), t.length + 2 * a.directory.length, want, says);
    archive_free(&a);
    dc_text_free(&t);
}

static void number_of_entries(void **state)
{
    (void)state;
    many_tensors(65534, 65535, false, DC_OK, "");
    many_tensors(100000, DC_ZIP_MAX_ENTRIES, true, DC_OK, "");
    many_tensors(1, DC_ZIP_MAX_ENTRIES + 1, true, DC_DATA, "directory: found 262145 entries");
}

/* ---- archives that are wrong ------------------------------------------------------------------------------------------------ */

enum where { LOCAL_OF, CENTRAL_OF, DATA_OF, END };

static const struct {
    enum where where;
    int entry, at; /* entries: the pickle, byteorder, data/0, data/1, version */
    const char *bytes;
    size_t n;
    const char *says;
} spoiled[] = {
    {LOCAL_OF, 2, 0, "PK\3\5", 4, "zip entry x/data/0: local header, byte"},
    {LOCAL_OF, 2, 30, "y", 1, "zip entry x/data/0: local header: found another name"},
    {LOCAL_OF, 2, 26, "\7", 1, "zip entry x/data/0: local header: found another name"},
    {LOCAL_OF, 2, 8, "\10", 1, "zip entry x/data/0: local header: found method 8, expected the directory's 0"},
    {LOCAL_OF, 2, 6, "\1", 1, "zip entry x/data/0: local header: found flags 0x0801, expected the directory's 0x0800"},
    {LOCAL_OF, 2, 6, "\10", 1, "local header: found flags 0x0808"},
    {LOCAL_OF, 2, 18, "\61", 1, "zip entry x/data/0: local header: found sizes 49 and 48, expected the directory's 48 and 48"},
    {LOCAL_OF, 2, 22, "\0", 1, "local header: found sizes 48 and 0"},
    {LOCAL_OF, 2, 22, "\xff\xff\xff\xff", 4, "local header: found no zip64 numbers"},
    {LOCAL_OF, 2, 14, "\1\2\3\4", 4, "local header: found CRC 04030201, expected the directory's"},
    {LOCAL_OF, 4, 28, "\xff\xff", 2, "zip entry x/version: local header: found its end at byte"},
    {LOCAL_OF, 4, 28, "\1", 1, "zip entry x/version: found 2 bytes at byte"},
    {LOCAL_OF, 3, 28, "\1", 1, "zip entry x/version: found its beginning at byte"}, /* data/1 reaches into it */
    {CENTRAL_OF, 0, 0, "PK\1\3", 4, "zip: directory, entry 0: found no record"},
    {CENTRAL_OF, 1, 8, "\1", 1, "zip entry x/byteorder: found it encrypted"},
    {CENTRAL_OF, 1, 8, "\x41", 1, "found it encrypted"},
    {CENTRAL_OF, 1, 9, "\x28", 1, "found it encrypted"}, /* of the directory itself */
    {CENTRAL_OF, 1, 8, "\x20", 1, "flags: found 0x0820, expected none but 0x080e"},
    {CENTRAL_OF, 1, 10, "\14", 1, "method: found 12, expected 0 (stored) or 8 (deflated)"},
    {CENTRAL_OF, 2, 10, "\10", 1, "local header: found method 0, expected the directory's 8"},
    {CENTRAL_OF, 2, 20, "\61", 1, "zip entry x/data/0: sizes: found 48 bytes stored as 49"},
    {CENTRAL_OF, 2, 24, "\xff\xff\xff\xff", 4, "extra field: found no zip64 numbers"},
    {CENTRAL_OF, 2, 28, "\0\0", 2, "directory, entry 2: name: found 0 bytes, expected 1 to 1024"},
    {CENTRAL_OF, 2, 28, "\1\4", 2, "directory, entry 2: found a record of"},
    {CENTRAL_OF, 2, 34, "\1", 1, "found it in part 1 of the archive"},
    {CENTRAL_OF, 2, 42, "\xff\xff\xff\x7f", 4, "local header: found its place at byte 2147483647"},
    {CENTRAL_OF, 2, 42, "\0\0\0\0", 4, "zip entry x/data/0: found its beginning at byte 0, expected it behind x/data.pkl"}, /* the pickle's */
    {CENTRAL_OF, 2, 46, "\0", 1, "directory, entry 2: name: found 8 bytes, expected 1 to 1024 without NUL"},
    {CENTRAL_OF, 0, 16, "\0\0\0\0", 4, "local header: found CRC"},
    {DATA_OF, 0, 0, "\x81", 1, "zip entry x/data.pkl: CRC: found"},
    {DATA_OF, 1, 0, "L", 1, "zip entry x/byteorder: CRC: found"},
    {END, 0, 0, "PK\5\7", 4, "zip: end record: found none in the last 22 bytes"},
    {END, 0, 20, "\1", 1, "zip: end record: found none in the last 22 bytes"},
    {END, 0, 4, "\1", 1, "end record: found an archive in several parts"},
    {END, 0, 8, "\4", 1, "end record: found an archive in several parts"},
    {END, 0, 8, "\4\0\4", 3, "directory: found 55 bytes behind its 4 entries"},
    {END, 0, 8, "\6\0\6", 3, "directory, entry 5: found no record"},
    {END, 0, 8, "\xff\0\xff", 3, "directory: found 255 entries, expected at most the"},
    {END, 0, 12, "\0", 1, "end record: found a directory of"},
    {END, 0, 16, "\0\0\0\0", 4, "end record: found a directory of"},
    {END, 0, 16, "\xff\xff\xff\xff", 4, "end record: found a directory of"},
};

/* A good checkpoint, its places noted. */
static void make_good(archive *a, bool described, bool wide)
{
    static const char pickle[] = P "}(" A FLOATS B BYTES "u.";
    *a = (archive){.described = described, .wide = wide};
    archive_torch(a, pickle, sizeof pickle - 1);
}

static void refuse_archive(const archive *a, const char *says)
{
    dc_error e = {0};
    dc_container k;
    if (!dc_torch_open(&k, write_bytes("z.pt", a->file.at, a->file.length), &e)) fail_msg("accepted: %s", says);
    assert_error(&e, DC_DATA, says);
    assert_error(&e, DC_DATA, "z.pt: ");
}

static void accept_archive(const archive *a)
{
    dc_error e = {0};
    dc_container k;
    if (dc_torch_open(&k, write_bytes("z.pt", a->file.at, a->file.length), &e)) fail_msg("%s", e.text);
    assert_int_equal(k.n_tensors, 2);
    assert_memory_equal(k.tensor[1].data, "\0\1\2\3", 4);
    dc_container_close(&k);
}

static void wrong_archives(void **state)
{
    (void)state;
    archive a;
    for (int kind = 0; kind < 4; kind++) {
        make_good(&a, kind & 1, kind & 2);
        accept_archive(&a);
        archive_free(&a);
    }
    for (size_t i = 0; i < sizeof spoiled / sizeof *spoiled; i++) {
        make_good(&a, false, false);
        const size_t *places[] = {a.local, a.central, a.data, &a.end};
        memcpy(a.file.at + places[spoiled[i].where][spoiled[i].entry] + spoiled[i].at, spoiled[i].bytes, spoiled[i].n);
        refuse_archive(&a, spoiled[i].says);
        archive_free(&a);
    }
    for (int at = 0; at < 16; at += 4) { /* torch's descriptor, any number of it */
        make_good(&a, true, false);
        a.file.at[a.data[2] + 48 + (size_t)at] ^= 1;
        refuse_archive(&a, "zip entry x/data/0: descriptor, byte");
        archive_free(&a);
    }
    static const struct {
        int at; /* before the end record */
        const char *says;
    } wide[] = {{-16, "zip64 locator: found an archive in several parts"},
                {-12, "zip64 locator: found the end record at byte"},
                {-3, "in several parts"},
                {-76, "zip64 end record, byte"},
                {-72, "zip64 end record, byte"},
                {-60, "in several parts"},
                {-52, "in several parts"},
                {-36, "end record: found a directory of"},
                {-28, "end record: found a directory of"}};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        make_good(&a, false, true);
        a.file.at[a.end + (size_t)wide[i].at] ^= 2;
        refuse_archive(&a, wide[i].says);
        archive_free(&a);
    }
    make_good(&a, false, true);
    memcpy(a.file.at + a.end + 8, "\4\0\4\0", 4);
    refuse_archive(&a, "end record: found other numbers than in the zip64 end record");
    archive_free(&a);
}

/* Two entries on the same bytes: the second one's header lies in the first one's data. */
static void overlapping_entries(void **state)
{
    (void)state;
    archive inner = {0}, a = {0};
    static const char pickle[] = P "}" A BYTES "s.";
    archive_add(&inner, "x/data/1", "1234", 4, false);
    archive_add(&a, "x/data.pkl", pickle, sizeof pickle - 1, false);
    archive_add(&a, "x/data/0", inner.file.at, inner.file.length, false);
    archive_add(&a, "x/data/1", "1234", 4, false);
    size_t place = a.data[1];
    memcpy(a.directory.at + a.central[2] + 42, &place, 4);
    archive_finish(&a);
    refuse_archive(&a, "zip entry x/data/1: found its beginning at byte");
    archive_free(&a);
    archive_free(&inner);
}

static void odd_archives(void **state)
{
    (void)state;
    static const char good[] = P "}(" A FLOATS B BYTES "u.", zeros[20000];
    static const struct {
        const char *pickle, *more, *says;
        bool deflated, deflated_data;
    } cases[] = {
        {"x/data.pkl", "x/y", NULL, false, false},
        {"x/data.pkl", "x/y", NULL, true, false},
        {"x/data.pkl", "y/data.pkl", "zip: found x/data.pkl and y/data.pkl, expected one data.pkl", false, false},
        {"x/data.pkl", "x/code/data.pkl", "expected one data.pkl", false, false},
        {"x/data.pkl", "x/data.pkl", "zip entry x/data.pkl: name: found twice in the directory", false, false},
        {"data.pkl", "x/y", "zip: found no entry NAME/data.pkl", false, false},
        {"x/data.pkl2", "x/xdata.pkl", "zip: found no entry NAME/data.pkl", false, false},
        {"y/data.pkl", "x/y", "storage 0: found none in the archive", false, false},
        {"x/data.pkl", "x/y", "zip entry x/data/0: found it deflated, expected it stored as torch does", false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        archive a = {0};
        archive_add(&a, cases[i].pickle, good, sizeof good - 1, cases[i].deflated);
        archive_add(&a, cases[i].more, "", 0, false);
        archive_add(&a, "x/data/0", zeros, 48, cases[i].deflated_data);
        archive_add(&a, "x/data/1", "\0\1\2\3", 4, false);
        archive_finish(&a);
        if (cases[i].says) refuse_archive(&a, cases[i].says);
        else accept_archive(&a);
        archive_free(&a);
    }
    static const struct {
        int at, by; /* of the size in the headers, and what is added to it */
        const char *says;
    } lies[] = {{0, 1, "deflated data: found damage or another length"},
                {0, -1, "deflated data: found damage or another length"},
                {3, 1, "expected at most 1032 times as many"},
                {3, 64, "size: found 1073761824 bytes, expected at most 67108864"}};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) { /* bombs: more comes out, or should, than is said or can be */
        archive a = {0};
        archive_add(&a, "x/data.pkl", zeros, sizeof zeros, true);
        a.file.at[a.local[0] + 22 + (size_t)lies[i].at] += (char)lies[i].by;
        a.directory.at[a.central[0] + 24 + (size_t)lies[i].at] += (char)lies[i].by;
        archive_finish(&a);
        refuse_archive(&a, lies[i].says);
        archive_free(&a);
    }
    archive a = {0};
    archive_add(&a, "x/data.pkl", zeros, sizeof zeros, true);
    a.file.at[a.data[0] + 5] ^= 8;
    archive_finish(&a);
    refuse_archive(&a, "zip entry x/data.pkl: ");
    archive_free(&a);
    a = (archive){0};
    archive_finish(&a);
    dc_error e = {0};
    dc_container k;
    assert_int_equal(dc_torch_open(&k, write_bytes("z.pt", a.file.at, a.file.length), &e),
                     DC_DATA); /* an empty archive: of no mark of ours, and no pickle */
    archive_free(&a);
}

/* ---- the format before 1.6, and what is no file of torch's --------------------------------------------------------------------- */

#define MAGIC                    P "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
#define VERSION                  P "M\xe9\3."
#define MACHINE                  P "}" TEXT("\15", "little_endian") "\x88s."
#define LEGACY                   MAGIC VERSION MACHINE
#define OLD(class, key, n, view) "(" TEXT("\7", "storage") class TEXT("\1", key) "N" INT(n) view "tQ"
#define OLD_BYTES(view, n)       TENSOR(OLD("ctorch\nByteStorage\n", "k", "\4", view), INT("\0"), INT(n) "\x85", INT("\1") "\x85")
#define KEYS                     P "]" TEXT("\1", "k") "a."
#define FOUR                     "\4\0\0\0\0\0\0\0"

static void old_format(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *says; /* NULL: accepted */
    } files[] = {
        {PICKLE(LEGACY P "}" A OLD_BYTES("N", "\4") "s." KEYS FOUR "\0\1\2\3"), NULL},
        {PICKLE(LEGACY P "}" A OLD_BYTES("(NK\0K\4t", "\4") "s." KEYS FOUR "\0\1\2\3"), NULL},
        {PICKLE(LEGACY P "}" A OLD_BYTES("(NK\1K\2t", "\4") "s." KEYS FOUR "\0\1\2\3"), "reach beyond its storage of 2 elements"},
        {PICKLE(LEGACY P "}" A OLD_BYTES("N", "\4") "s." KEYS FOUR "\0\1\2"), "storage k, byte"},
        {PICKLE(LEGACY P "}" A OLD_BYTES("N", "\4") "s." KEYS "\4\0\0"), "found 0 elements of 1 bytes, expected them to end inside the file"},
        {PICKLE(LEGACY P "}" A OLD_BYTES("N", "\4") "s." KEYS "\xff\xff\xff\xff\xff\xff\xff\xff"), "found 18446744073709551615 elements of 1 bytes"},
        {PICKLE(LEGACY P "}" A OLD_BYTES("N", "\4") "s." KEYS FOUR "\0\1\2\3x"), "storages: found 1 bytes behind the last"},
        {PICKLE(LEGACY P "}" A OLD_BYTES("N", "\4") "s." KEYS "\3\0\0\0\0\0\0\0"
                                                    "\0\1\2"),
         "tensor a: storage k: found 3 bytes, expected 4 elements"},
        {PICKLE(LEGACY P "}" A OLD_BYTES("N", "\4") "s." P "]."), "tensor a: storage k: found none in the file"},
        {PICKLE(LEGACY P "}" A OLD_BYTES("N", "\4") "s." P "]" B "a." FOUR "\0\1\2\3"), "list of storages: found one that the object does not have"},
        {PICKLE(LEGACY P "}" A OLD_BYTES("N", "\4") "s." P "](" TEXT("\1", "k") TEXT("\1", "k") "e." FOUR "\0\1\2\3" FOUR "\0\1\2\3"),
         "list of storages: found one twice"},
        {PICKLE(LEGACY P "}" A OLD_BYTES("N", "\4") "s." P "}."), "found no list of storages behind the object"},
        {PICKLE(LEGACY P "}(" A OLD_BYTES("N", "\4") B OLD("ctorch\nHalfStorage\n", "k", "\1", "N") "u." KEYS FOUR "\0\1\2\3"),
         "storage k: found elements of 1 and of 2 bytes, expected one size"},
        {PICKLE(LEGACY P OLD("ctorch\nx\n", "k", "\1", "N") "." KEYS), "found a storage of no class or key of torch's"},
        {PICKLE(LEGACY P OLD("ctorch\nComplexFloatStorage\n", "k", "\1", "N") "." KEYS), "found a ComplexFloatStorage"},
        {PICKLE(LEGACY P "}"), "pickle, byte 48: found its end after 48 bytes"},
        {PICKLE(MAGIC P "M\xe8\3."), "found its end"},
        {PICKLE(MAGIC P "M\xe8\3." MACHINE), "found another version of the format, expected 1001"},
        {PICKLE(MAGIC VERSION P "}" TEXT("\15", "little_endian") "\x89s."), "found numbers of a big-endian machine"},
        {PICKLE(P "}" A "K\1s."), "pickle: found one without torch's magic number, expected a file of torch.save"},
        {PICKLE("\x80\4\x95\2\0\0\0\0\0\0\0}."), "pickle: found one without torch's magic number"},
        {PICKLE("\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x18."), "without torch's magic number"},
        {PICKLE(P "cposix\nsystem\nX\1\0\0\0x\x85R."), "without torch's magic number"},
        {PICKLE("\x80\2}"), "pickle, byte 3: found its end after 3 bytes"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        dc_error e = {0};
        dc_weights *w;
        dc_status s = dc_weights_open(&w, write_bytes("old.bin", files[i].bytes, files[i].n), &e);
        if (files[i].says) assert_error(&e, DC_DATA, files[i].says);
        else if (s) fail_msg("%zu: %s", i, e.text);
        if (!s) assert_memory_equal(dc_weights_at(w, 0)->data, "\0\1\2\3", 4);
        dc_weights_close(w);
    }
    char tar[1024] = "sys_info";
    strcpy(tar + 257, "ustar");
    dc_error e = {0};
    dc_weights *w;
    assert_int_equal(dc_weights_open(&w, write_bytes("old.pt", tar, sizeof tar), &e), DC_DATA);
    assert_error(&e, DC_DATA, "found a tar archive of a torch before 0.1.9");
}

/* The first bytes of a safetensors file can be any of the marks: its brace tells. */
static void marks(void **state)
{
    (void)state;
    assert_true(dc_torch_is((const uint8_t *)"PK\3\4\0\0\0\0\0\0", 10));
    assert_true(dc_torch_is((const uint8_t *)"PK\3\4\0\0\10\10\0\0", 10));
    assert_false(dc_torch_is((const uint8_t *)"PK\3\4\0\0\0\0{\"", 10));
    assert_false(dc_torch_is((const uint8_t *)"\x80\2\0\0\0\0\0\0{\"", 10));
    assert_false(dc_torch_is((const uint8_t *)"\x80\2\0\0\0\0\0\0 {", 10));
    assert_true(dc_torch_is((const uint8_t *)"\x80\2}q\0(X\1\0\0", 10));
    assert_true(dc_torch_is((const uint8_t *)"\x80\2}.", 4));
    assert_false(dc_torch_is((const uint8_t *)"\x80", 1));
    assert_false(dc_torch_is((const uint8_t *)"\x80\6}.", 4));
    assert_false(dc_torch_is((const uint8_t *)"GGUF\3\0\0\0", 8));
    assert_false(dc_torch_is(NULL, 0));
}

/* ---- systematic damage ------------------------------------------------------------------------------------------------------------ */

/* Refused with a message, or accepted with every tensor readable. Returns whether it was accepted. */
static bool well_behaved(const char *bytes, size_t n)
{
    dc_container k;
    dc_error e = {0};
    const char *path = hold_bytes(bytes, n);
    if (dc_torch_open(&k, path, &e)) {
        if (e.code != DC_DATA || strncmp(e.text, path, strlen(path)) || !strstr(e.text, "found")) fail_msg("found %d %s", e.code, e.text);
        return false;
    }
    touch(&k);
    dc_container_close(&k);
    return true;
}

static void damage(const char *bytes, size_t n, bool stored_bits_pass)
{
    char *copy = malloc(n);
    int kept = 0;
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    assert_true(well_behaved(copy, n));
    for (size_t i = 0; i < n; i++)
        if (well_behaved(copy, i)) fail_msg("accepted a file cut to %zu of %zu bytes", i, n);
    for (size_t i = 0; i < 8 * n; i++) {
        copy[i / 8] ^= (char)(1 << i % 8);
        kept += well_behaved(copy, n);
        copy[i / 8] ^= (char)(1 << i % 8);
    }
    if (stored_bits_pass != (kept > 0)) fail_msg("%d of %zu flips accepted", kept, 8 * n);
    free(copy);
}

static void cut_and_flipped(void **state)
{
    (void)state;
    archive a;
    make_good(&a, true, false);
    damage(a.file.at, a.file.length, true);
    archive_free(&a);
    make_good(&a, false, true);
    damage(a.file.at, a.file.length, true);
    archive_free(&a);
    static const char old[] = LEGACY P "}" A OLD_BYTES("N", "\4") "s." KEYS FOUR "\0\1\2\3";
    damage(old, sizeof old - 1, true);
}

/* Each bit of a pickle, in an archive with the right CRC. */
static void flipped_pickles(void **state)
{
    (void)state;
    char pickle[] = P "}(" TEXT("\1", "z") TENSOR(STORAGE("Short", "0", "\30"), INT("\1"), "(K\2K\3t", "(K\1K\2t") A
        "ctorch._utils\n_rebuild_parameter\n(" FLOATS HOOKS "tR" B "}q\1"
        "h\1\x86q\2u.";
    size_t n = sizeof pickle - 1;
    for (size_t i = 0; i < 8 * n; i++) {
        pickle[i / 8] ^= (char)(1 << i % 8);
        archive a = {.described = true};
        archive_torch(&a, pickle, n);
        well_behaved(a.file.at, a.file.length);
        archive_free(&a);
        pickle[i / 8] ^= (char)(1 << i % 8);
    }
    for (size_t i = 0; i < n; i++) {
        archive a = {.described = true};
        archive_torch(&a, pickle, i);
        if (well_behaved(a.file.at, a.file.length)) fail_msg("accepted a pickle cut to %zu of %zu bytes", i, n);
        archive_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_values),
        cmocka_unit_test(reference_refusals),
        cmocka_unit_test(made_up),
        cmocka_unit_test(contents),
        cmocka_unit_test(every_opcode),
        cmocka_unit_test(limits),
        cmocka_unit_test(nested),
        cmocka_unit_test(number_of_entries),
        cmocka_unit_test(wrong_archives),
        cmocka_unit_test(overlapping_entries),
        cmocka_unit_test(odd_archives),
        cmocka_unit_test(old_format),
        cmocka_unit_test(marks),
        cmocka_unit_test(cut_and_flipped),
        cmocka_unit_test(flipped_pickles),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
