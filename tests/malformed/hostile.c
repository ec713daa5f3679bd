/* hostile.c - files made by hand to break readers, each with the code and the words that it must be refused with ("" and OK: it is read). Here is
 * what the tests of the rooms have not; docs/security.md says where each kind is. None may take 5 s of CPU time, and none may execute, connect or write (but in
 * sanitizer builds, which make calls of their own). */
#include "tests/malformed/filter.h"
#include "tests/malformed/formats.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#define MOST (20u << 20)
static uint8_t file[MOST];
static size_t length;
static off_t sparse; /* not 0: the file is so long, zeros at its end */

static void put(const void *bytes, size_t n)
{
    memcpy(file + length, bytes, n);
    length += n;
}
static void put_text(const char *s) { put(s, strlen(s)); }
static void repeat(const char *s, int times)
{
    while (times--) put_text(s);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------------- */

typedef struct text_case {
    const char *format, *text;
    dc_status code;
    const char *says;
} text_case;

static const text_case texts[] = {
    {"unet", "", DC_DATA, "JSON, line 1"},
    {"parameters", "", DC_OK, ""},
    {"parameters", "{", DC_DATA, "JSON, line 1"},
    {"parameters", "{\"1\": {\"class_type\": \"KSampler\", \"class_type\": \"KSampler\"}}", DC_DATA, "duplicate object key"},
    {"parameters", "{\"nodes\": []}", DC_DATA, "found the editor's form"},
    {"parameters",
     "{\"1\": {\"class_type\": \"KSampler\", \"inputs\": {\"latent_image\": [\"1\", 0], \"model\": [\"1\", 0], \"positive\": [\"1\", 0]}}}", DC_OK,
     ""},
    {"parameters", "x\nSteps: 1e999, Seed: 99999999999999999999, Size: 999999999999x1, Sampler: \\, Clip skip: 1e9", DC_OK, ""},
    {"unet", "\xef\xbb\xbf{}", DC_DATA, "JSON, line 1"},
    {"unet", "{} {}", DC_DATA, "end of file expected"},
    {"unet", "{\"in_channels\": 4, \"in_channels\": 9}", DC_DATA, "duplicate object key"},
    {"unet", "{\"in_channels\": 4, \"in\\u005fchannels\": 9}", DC_DATA, "duplicate object key"},
    {"unet", "{\"in_channels\": \"4\"}", DC_DATA, "in_channels: found a string, expected a whole number"},
    {"unet", "{\"in_channels\": 4.0}", DC_DATA, "in_channels: found a real number, expected a whole number"},
    {"unet", "{\"in_channels\": 1e3}", DC_DATA, "in_channels: found a real number"},
    {"unet", "{\"in_channels\": true}", DC_DATA, "in_channels: found true"},
    {"unet", "{\"in_channels\": -1}", DC_DATA, "in_channels: found -1, expected"},
    {"unet", "{\"in_channels\": 0}", DC_DATA, "in_channels: found 0, expected"},
    {"unet", "{\"in_channels\": 4294967300}", DC_DATA, "in_channels: found 4294967300, expected"},
    {"unet", "{\"in_channels\": 9007199254740993}", DC_DATA, "in_channels: found 9007199254740993, expected"},
    {"unet", "{\"in_channels\": 18446744073709551620}", DC_DATA, "too big integer"},
    {"unet", "{\"in_channels\": 04}", DC_DATA, "JSON, line 1"},
    {"unet", "{\"in_channels\": +4}", DC_DATA, "JSON, line 1"},
    {"unet", "{\"in_channels\": 0x4}", DC_DATA, "JSON, line 1"},
    {"unet", "{\"norm_eps\": NaN}", DC_DATA, "JSON, line 1"},
    {"unet", "{\"norm_eps\": Infinity}", DC_DATA, "JSON, line 1"},
    {"unet", "{\"norm_eps\": 1e999}", DC_DATA, "real number overflow"},
    {"unet", "{\"norm_eps\": -1}", DC_DATA, "norm_eps: found -1"},
    {"unet", "{\"_class_name\": \"\\ud800\"}", DC_DATA, "JSON, line 1"},
    {"unet", "{\"_class_name\": \"\\udc00\\ud800\"}", DC_DATA, "JSON, line 1"},
    {"unet", "{\"_class_name\": \"\\u0000\"}", DC_DATA, "JSON, line 1"},
    {"unet", "{\"_class_name\": \"\xed\xa0\x80\"}", DC_DATA, "JSON, line 1"},
    {"unet", "{'in_channels': 4}", DC_DATA, "JSON, line 1"},
    {"unet", "{\"in_channels\": 4, /* */ \"x\": 1}", DC_DATA, "JSON, line 1"},
    {"unet", "{\"in_channels\": 4,}", DC_DATA, "JSON, line 1"},
    {"unet", "[]", DC_DATA, "found no JSON object"},
    {"unet", "{\"block_out_channels\": []}", DC_DATA, "block_out_channels: found 0 values"},
    {"unet", "{\"block_out_channels\": [1,2,3,4,5,6,7,8,9,10]}", DC_DATA, "block_out_channels: found 10 values"},
    {"unet", "{\"block_out_channels\": [32, -32]}", DC_DATA, "block_out_channels: found -32"},
    {"unet", "{\"block_out_channels\": {}}", DC_DATA, "block_out_channels: found an object"},
    {"unet", "{\"norm_num_groups\": 0}", DC_DATA, "norm_num_groups: found 0"},
    {"unet", "{\"norm_num_groups\": 7}", DC_DATA, "expected a divisor"},
    {"unet", "{\"attention_head_dim\": 7}", DC_DATA, "expected a divisor"},
    {"unet", "{\"transformer_layers_per_block\": 1000000}", DC_DATA, "transformer_layers_per_block: found a block without a depth of 0 to 64"},
    {"unet", "{\"down_block_types\": [\"\\u001b[31mred\"]}", DC_DATA, "found \\x1b[31mred"},
    {"vae", "{\"block_out_channels\": [0]}", DC_DATA, "block_out_channels: found 0"},
    {"vae", "{\"layers_per_block\": -1}", DC_DATA, "layers_per_block: found -1"},
    {"vae", "{\"scaling_factor\": 0}", DC_DATA, "scaling_factor: found 0"},
    {"vae", "{\"scaling_factor\": \"0.18\"}", DC_DATA, "scaling_factor: found a string"},
    {"vae", "[]", DC_DATA, "found no JSON object"},
    {"text", "{\"hidden_size\": 768, \"num_attention_heads\": 7}", DC_DATA, "num_attention_heads"},
    {"text", "{\"vocab_size\": 2147483648}", DC_DATA, "vocab_size: found 2147483648"},
    {"text", "{\"num_hidden_layers\": 100000}", DC_DATA, "num_hidden_layers: found 100000"},
    {"text", "\"text\"", DC_DATA, "JSON, line 1"},
    {"scheduler", "{\"num_train_timesteps\": 0}", DC_DATA, "num_train_timesteps: found 0"},
    {"scheduler", "{\"num_train_timesteps\": 2147483647}", DC_DATA, "num_train_timesteps: found 2147483647"},
    {"scheduler", "{\"beta_start\": \"0.1\"}", DC_DATA, "beta_start: found a string"},
    {"scheduler", "{\"trained_betas\": [0.5, \"x\"]}", DC_DATA, "trained_betas"},
    {"scheduler", "{\"trained_betas\": [2.0]}", DC_DATA, "trained_betas"},
    {"scheduler", "[]", DC_DATA, "found no JSON object"},
    {"text", "[]", DC_DATA, "found no JSON object"},
    {"model", "{\"unet\": [\"diffusers\", \"UNet2DConditionModel\"], \"../../etc\": [\"x\", \"y\"]}", DC_OK, ""},
    {"model", "[]", DC_DATA, "expected a configuration"},
    {"index", "{\"weight_map\": {\"a\": \"a.safetensors\", \"b\": \"..\"}}", DC_DENIED, "found the file name .."},
    {"index", "{\"weight_map\": {\"a\": \"a.safetensors\\u0000.txt\"}}", DC_DATA, "NUL"},
    {"index", "{\"weight_map\": {\"a\": \"\\\\\\\\host\\\\share\"}}", DC_DENIED, "expected one inside the folder"},
    {"index", "{\"weight_map\": {\"a\": \"x.json\"}}", DC_DATA, "x.json"}, /* itself */
    {"npy", "\x93NUMPY", DC_DATA, "found no .npy file"},
    {"tokenizer_config", "{\"model_max_length\": \"77\"}", DC_DATA, "model_max_length"},
    {"tokenizer_config", "{\"model_max_length\": -1}", DC_OK, ""},
    {"added_tokens", "{\"<a>\": 9223372036854775807}", DC_DATA, "<a>"},
    {"added_tokens", "{\"\": 522}", DC_DATA, "0 bytes"},
    {"merges.txt", "#version: 0.2\nh o\nh o\n", DC_OK, ""},
    {"merges.txt", "#version: 0.2\nh  o\n", DC_DATA, "merges.txt"},
    {"merges.txt", "#version: 0.2\nq z\n", DC_DATA, "merges.txt"},
    {"vocab.json", "{\"a\": 0, \"b\": 0}", DC_DATA, "vocab.json"},
    {"vocab.json", "{\"a\": 2000000000}", DC_DATA, "vocab.json"},
    {"vocab.json", "[\"a\"]", DC_DATA, "vocab.json"},
};

static void deep(void) { repeat("[", 65); }
static void very_deep(void) { repeat("{\"a\":", 1 << 20); }
static void deep_and_closed(void)
{
    put_text("{\"x\":");
    repeat("[", 100);
    repeat("]", 100);
    put_text("}");
}
static void nul_byte(void) { put("{\"in_channels\": 4}\0", 19); }
static void large_config(void) { put_text("{"), repeat("                ", (17 << 20) / 16), put_text("}"); }
static void many_betas(void)
{
    put_text("{\"trained_betas\": [0.1");
    repeat(",0.1", 1 << 20);
    put_text("]}");
}
static void merges_at_limit(void) { put_text("#version: 0.2\n"), repeat("h o\n", (1 << 20) - 2); }
static void large_vocab(void) { put_text("{"), sparse = (64 << 20) + 1; }
static void deep_at_limit(void)
{
    put_text("{\"x\":");
    repeat("[", 63);
    repeat("]", 63);
    put_text("}");
}
static void many_merges(void) { put_text("#version: 0.2\n"), repeat("h o\n", (1 << 20) + 1); }
static void long_merge(void) { repeat("h", 5000), put_text(" o\n"); }
static void packed_bomb(void) /* 32 MiB of merges in some kilobytes */
{
    static uint8_t plain[1 << 16];
    z_stream z = {0};
    memset(plain, 'a', sizeof plain);
    if (deflateInit2(&z, 9, Z_DEFLATED, 31, 9, Z_DEFAULT_STRATEGY) != Z_OK) abort();
    z.next_out = file;
    z.avail_out = MOST;
    for (int i = 0; i < 512; i++) {
        z.next_in = plain;
        z.avail_in = sizeof plain;
        deflate(&z, i == 511 ? Z_FINISH : Z_NO_FLUSH);
    }
    length = z.total_out;
    deflateEnd(&z);
}

/* ---- pictures ------------------------------------------------------------------------------------------------------------- */

static void big(uint64_t v, int n)
{
    for (int i = n - 1; i >= 0; i--) file[length++] = (uint8_t)(v >> 8 * i);
}

static void chunk(const char *kind, const void *data, size_t n)
{
    big(n, 4);
    size_t begin = length;
    put(kind, 4);
    if (n) put(data, n);
    big(crc32(0, file + begin, (uInt)(length - begin)), 4);
}

static void png(uint32_t w, uint32_t h, int depth, int type, int interlace)
{
    uint8_t ihdr[13] = {0};
    put("\x89PNG\r\n\x1a\n", 8);
    for (int i = 0; i < 4; i++) ihdr[i] = (uint8_t)(w >> 8 * (3 - i)), ihdr[4 + i] = (uint8_t)(h >> 8 * (3 - i));
    ihdr[8] = (uint8_t)depth, ihdr[9] = (uint8_t)type, ihdr[12] = (uint8_t)interlace;
    chunk("IHDR", ihdr, 13);
}

/* Compressed data of n bytes of zeros. */
static void packed_chunk(const char *kind, const char *head, size_t head_bytes, size_t n)
{
    uLongf room = compressBound(n);
    uint8_t *zeros = calloc(n ? n : 1, 1), *out = malloc(head_bytes + room);
    memcpy(out, head, head_bytes);
    if (compress2(out + head_bytes, &room, zeros, n, 9) != Z_OK) abort();
    chunk(kind, out, head_bytes + room);
    free(zeros);
    free(out);
}

static void finish(size_t rows_bytes) { packed_chunk("IDAT", "", 0, rows_bytes), chunk("IEND", "", 0); }

static void png_none(void) { png(0, 0, 8, 2, 0), finish(1); }
static void png_side_at_limit(void) { png(16384, 1, 8, 0, 0), finish(16385); }
static void png_wide(void) { png(16385, 1, 8, 0, 0), finish(16386); }
static void png_huge(void) { png(0x7fffffff, 0x7fffffff, 8, 2, 0), finish(1); }
static void png_pixels(void) { png(16384, 4097, 8, 0, 0), finish(1); }
static void png_most_pixels_none_there(void) { png(16384, 4096, 8, 0, 0), finish(1); }
static void png_depth(void) { png(1, 1, 3, 0, 0), finish(2); }
static void png_type(void) { png(1, 1, 8, 5, 0), finish(2); }
static void png_interlace(void) { png(1, 1, 8, 0, 7), finish(2); }
static void png_no_palette(void) { png(1, 1, 8, 3, 0), finish(2); }
static void png_two_headers(void) { png(1, 1, 8, 0, 0), chunk("IHDR", "\0\0\0\2\0\0\0\2\10\0\0\0\0", 13), finish(2); }
static void png_no_header(void) { put("\x89PNG\r\n\x1a\n", 8), finish(2); }
static void png_critical(void) { png(1, 1, 8, 0, 0), chunk("ABCD", "x", 1), finish(2); }
static void png_no_data(void) { png(1, 1, 8, 0, 0), chunk("IEND", "", 0); }
static void png_rows_missing(void) { png(8, 8, 8, 0, 0), finish(10); }
static void png_bad_filter(void)
{
    png(1, 1, 8, 0, 0), chunk("IDAT", "\x78\x01\x01\x02\0\xfd\xff\x09\x7f\x00\x91\x00\x89", 13), chunk("IEND", "", 0);
}
static void png_no_zlib(void) { png(1, 1, 8, 0, 0), chunk("IDAT", "hello", 5), chunk("IEND", "", 0); }
static void png_idat_bomb(void) { png(1, 1, 8, 0, 0), finish(16 << 20); }
static void png_profile_bomb(void) { png(1, 1, 8, 0, 0), packed_chunk("iCCP", "p\0", 3, 16 << 20), finish(2); }
static void png_text_bombs(void)
{
    png(1, 1, 8, 0, 0);
    for (int i = 0; i < 10; i++) packed_chunk("zTXt", "parameters\0", 12, 4 << 20);
    finish(2);
}
static void png_many_chunks(void)
{
    png(1, 1, 8, 0, 0);
    for (int i = 0; i < 20000; i++) chunk("tEXt", "k\0v", 3);
    finish(2);
}
static void png_chunk_length(void) { png(1, 1, 8, 0, 0), big(0xffffffffu, 4), put_text("tEXtparameters"); }
static void png_chunk_beyond(void) { png(1, 1, 8, 0, 0), big(0x7ffffff0, 4), put_text("iTXtparameters"); }
static void png_exif(const char *tiff, size_t n) { png(2, 1, 8, 0, 0), chunk("eXIf", tiff, n), finish(3); }
static void exif_far(void) { png_exif("MM\0*\xff\xff\xff\xff\0\1\1\x12\0\3\0\0\0\1\0\6", 20); }
static void exif_itself(void) { png_exif("MM\0*\0\0\0\0\0\1\1\x12\0\3\0\0\0\1\0\6", 20); }
static void exif_entries(void) { png_exif("II*\0\10\0\0\0\xff\xff\x0f\1\3\0\1\0\0\0\6\0\0\0", 22); }
static void exif_nine(void) { png_exif("MM\0*\0\0\0\10\0\1\1\x12\0\3\0\0\0\1\0\11\0\0\0\0\0\0", 26); }
static void exif_type(void) { png_exif("MM\0*\0\0\0\10\0\1\1\x12\0\4\0\0\0\1\0\0\0\6\0\0\0\0", 26); }

static void read_seed(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/golden/image/files/%s", TEST_DATA, name);
    FILE *f = fopen(path, "rb");
    if (!f) abort();
    length = fread(file, 1, MOST, f);
    fclose(f);
}

/* Where a marker is; its segment follows. */
static size_t find_marker(uint8_t kind, bool last)
{
    size_t at = 0;
    for (size_t i = 0; i + 4 < length && (!at || last); i++)
        if (file[i] == 0xff && file[i + 1] == kind) at = i;
    if (!at) abort();
    return at;
}

static void jpeg_scans_of(int more) /* the last scan of a progressive picture, so many times more */
{
    static uint8_t scan[4096];
    read_seed("progressive.jpg");
    size_t from = find_marker(0xda, true), n = length - 2 - from;
    memcpy(scan, file + from, n);
    length -= 2;
    while (more--) put(scan, n);
    put("\xff\xd9", 2);
}
static int scans_of_seed(void)
{
    int n = 0;
    read_seed("progressive.jpg");
    for (size_t i = 0; i + 1 < length; i++) n += file[i] == 0xff && file[i + 1] == 0xda;
    return n;
}
static void jpeg_scans_at_limit(void) { jpeg_scans_of(100 - scans_of_seed()); }
static void jpeg_scans_over(void) { jpeg_scans_of(101 - scans_of_seed()); }
static void jpeg_scans(void) { jpeg_scans_of(500); }
static void large_picture(void) { put("\xff\xd8\xff", 3), sparse = (256 << 20) + 1; }
static void jpeg_size(const char *seed, uint8_t frame, unsigned w, unsigned h)
{
    read_seed(seed);
    size_t at = find_marker(frame, false) + 5;
    file[at] = (uint8_t)(h >> 8), file[at + 1] = (uint8_t)h, file[at + 2] = (uint8_t)(w >> 8), file[at + 3] = (uint8_t)w;
}
static void jpeg_huge(void) { jpeg_size("baseline420.jpg", 0xc0, 65535, 65535); }
static void jpeg_pixels(void) { jpeg_size("progressive.jpg", 0xc2, 16384, 4097); }
static void jpeg_no_rows(void) { jpeg_size("baseline420.jpg", 0xc0, 32, 0); }
static void jpeg_byte(const char *seed, uint8_t marker, size_t at, uint8_t v)
{
    read_seed(seed);
    file[find_marker(marker, false) + at] = v;
}
static void jpeg_precision(void) { jpeg_byte("baseline420.jpg", 0xc0, 4, 12); }
static void jpeg_components(void) { jpeg_byte("baseline420.jpg", 0xc0, 9, 200); }
static void jpeg_sampling(void) { jpeg_byte("baseline420.jpg", 0xc0, 11, 0xff); }
static void jpeg_table(void) { jpeg_byte("baseline420.jpg", 0xdb, 4, 0x0f); }
static void jpeg_huffman(void) { jpeg_byte("baseline420.jpg", 0xc4, 5, 0xff); }
static void jpeg_scan_table(void) { jpeg_byte("baseline420.jpg", 0xda, 6, 0x33); }
static void jpeg_lossless(void) { jpeg_byte("baseline420.jpg", 0xc0, 1, 0xc3); }
static void jpeg_length(void) { jpeg_byte("baseline420.jpg", 0xdb, 2, 0), file[find_marker(0xdb, false) + 3] = 0; }
static void jpeg_start_only(void) { put("\xff\xd8\xff", 3); }
static void jpeg_no_frame(void) { put("\xff\xd8\xff\xd9", 4); }

/* ---- WebP ---------------------------------------------------------------------------------------------------------------- */

static void little(uint32_t v, int n)
{
    for (int i = 0; i < n; i++) file[length++] = (uint8_t)(v >> 8 * i);
}
static void webp(uint32_t size) { put_text("RIFF"), little(size, 4), put_text("WEBP"); }
static void webp_lossy(unsigned w, unsigned h) /* a header of a key frame and nothing else */
{
    webp(22), put_text("VP8 "), little(10, 4), put("\x10\x01\0\x9d\x01\x2a", 6), little(w, 2), little(h, 2);
}
static void webp_start_only(void) { webp(4); }
static void webp_none(void) { webp_lossy(0, 0); }
static void webp_huge(void) { webp_lossy(16383, 16383); }
static void webp_no_data(void) { webp_lossy(64, 64); }
static void webp_lossless_huge(void) { webp(18), put_text("VP8L"), little(5, 4), put("\x2f\xff\xff\xff\x0f", 5), little(0, 1); }
static void webp_canvas(void) /* an extended header of 2^24 a side */
{
    webp(30), put_text("VP8X"), little(10, 4), little(0, 4), little(0xffffff, 3), little(0xffffff, 3), put_text("VP8 "), little(0, 4);
}
static void webp_chunk_length(void) { webp(0xfffffff6u), put_text("EXIF"), little(0xffffffffu, 4), put_text("MM"); }
static void webp_empty_chunks(void)
{
    webp(80000 + 4);
    for (int i = 0; i < 10000; i++) put_text("XMP_"), little(0, 4);
}
static void webp_xmp_open(void) { webp(30), put_text("XMP "), little(18, 4), put_text("<sdcpp:parameters>"); }

/* EXIF in a JPEG without a picture. */
static void jpeg_comment(const char *tiff, size_t n) { put("\xff\xd8\xff\xe1", 4), big((uint32_t)n + 8, 2), put("Exif\0\0", 6), put(tiff, n); }
static void comment_far(void) { jpeg_comment("MM\0*\0\0\0\10\0\1\x87\x69\0\4\0\0\0\1\xff\xff\xff\xff", 22); }
static void comment_itself(void) { jpeg_comment("MM\0*\0\0\0\10\0\1\x87\x69\0\4\0\0\0\1\0\0\0\10\0\0\0\0", 26); }
static void comment_long(void)
{
    jpeg_comment("MM\0*\0\0\0\10\0\1\x87\x69\0\4\0\0\0\1\0\0\0\32\0\0\0\0\0\1\x92\x86\0\7\xff\xff\xff\xff\0\0\0\50UNICODE\0", 48);
}
static void comment_cut(void) { put("\xff\xd8\xff\xfe\xff\xffparameters\0Steps", 22); }

/* ---- .npy ------------------------------------------------------------------------------------------------------------------- */

static void npy(const char *header)
{
    put("\x93NUMPY\1\0", 8);
    size_t n = strlen(header);
    file[length++] = (uint8_t)n, file[length++] = (uint8_t)(n >> 8);
    put_text(header);
}
static void npy_product(void) { npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }\n"); }
static void npy_wraps(void) { npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }\n"); }
static void npy_digits(void) { npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999999,), }\n"); }
static void npy_dims(void) { npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }\n"), put("\0\0\0\0", 4); }
static void npy_record(void) { npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n"), put("\0\0\0\0", 4); }
static void npy_twice(void) { npy("{'descr': '<f4', 'shape': (1,), 'fortran_order': False, 'shape': (2,), }\n"), put("\0\0\0\0", 4); }
static void npy_code(void) { npy("{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os').system('true'),), }\n"); }

typedef struct made_case {
    const char *format;
    void (*make)(void);
    dc_status code;
    const char *says;
} made_case;

static const made_case made[] = {
    {"unet", deep, DC_DATA, "more than 64 levels"},
    {"unet", very_deep, DC_DATA, "more than 64 levels"},
    {"index", deep_and_closed, DC_DATA, "at most 64 levels"},
    {"model", deep_and_closed, DC_DATA, "more than 64 levels"},
    {"unet", nul_byte, DC_DATA, "byte 18: found a NUL byte"},
    {"unet", large_config, DC_DATA, "expected at most 16777216"},
    {"scheduler", many_betas, DC_DATA, "trained_betas"},
    {"merges.txt", merges_at_limit, DC_OK, ""},
    {"vocab.json", large_vocab, DC_DATA, "found 67108865 bytes, expected at most 67108864"},
    {"unet", deep_at_limit, DC_OK, ""},
    {"merges.txt", many_merges, DC_DATA, "merges.txt"},
    {"merges.txt", long_merge, DC_DATA, "merges.txt"},
    {"merges.txt.gz", packed_bomb, DC_DATA, "merges.txt.gz"},
    {"png", png_none, DC_DATA, "x.png: PNG: "},
    {"png", png_side_at_limit, DC_OK, ""},
    {"png", png_wide, DC_DATA, "x.png: PNG: "},
    {"png", png_huge, DC_DATA, "x.png: PNG: "},
    {"png", png_pixels, DC_DATA, "picture: found 16384x4097"},
    {"png", png_most_pixels_none_there, DC_DATA, "x.png: PNG: "},
    {"png", png_depth, DC_DATA, "x.png: PNG: "},
    {"png", png_type, DC_DATA, "x.png: PNG: "},
    {"png", png_interlace, DC_DATA, "x.png: PNG: "},
    {"png", png_no_palette, DC_DATA, "x.png: PNG: "},
    {"png", png_two_headers, DC_DATA, "x.png: PNG: "},
    {"png", png_no_header, DC_DATA, "x.png: PNG: "},
    {"png", png_critical, DC_DATA, "x.png: PNG: "},
    {"png", png_no_data, DC_DATA, "x.png: PNG: "},
    {"png", png_rows_missing, DC_DATA, "x.png: PNG: "},
    {"png", png_bad_filter, DC_DATA, "x.png: PNG: "},
    {"png", png_no_zlib, DC_DATA, "x.png: PNG: "},
    {"png", png_idat_bomb, DC_OK, ""}, /* the one row is there; what follows is let be, as libpng does */
    {"png", png_profile_bomb, DC_OK, ""},
    {"png", png_text_bombs, DC_OK, ""},
    {"png", png_many_chunks, DC_OK, ""},
    {"png text", png_text_bombs, DC_OK, ""},
    {"png text", png_many_chunks, DC_OK, ""},
    {"png text", png_chunk_length, DC_DATA, "a chunk goes beyond the end of the file"},
    {"png text", png_chunk_beyond, DC_DATA, "a chunk goes beyond the end of the file"},
    {"png", exif_far, DC_OK, ""},
    {"png", exif_itself, DC_OK, ""},
    {"png", exif_entries, DC_OK, ""},
    {"png", exif_nine, DC_OK, ""},
    {"png", exif_type, DC_OK, ""},
    {"jpeg", jpeg_scans_at_limit, DC_OK, ""},
    {"jpeg", jpeg_scans_over, DC_DATA, "found more than 100 scans"},
    {"jpeg", large_picture, DC_DATA, "found 268435457 bytes, expected at most 268435456"},
    {"jpeg", jpeg_scans, DC_DATA, "found more than 100 scans"},
    {"jpeg", jpeg_huge, DC_DATA, "x.jpg: "},
    {"jpeg", jpeg_pixels, DC_DATA, "picture: found 16384x4097"},
    {"jpeg", jpeg_no_rows, DC_DATA, "x.jpg: JPEG: "},
    {"jpeg", jpeg_precision, DC_DATA, "x.jpg: JPEG: "},
    {"jpeg", jpeg_components, DC_DATA, "x.jpg: JPEG: "},
    {"jpeg", jpeg_sampling, DC_DATA, "x.jpg: JPEG: "},
    {"jpeg", jpeg_table, DC_DATA, "x.jpg: JPEG: "},
    {"jpeg", jpeg_huffman, DC_DATA, "x.jpg: JPEG: "},
    {"jpeg", jpeg_scan_table, DC_DATA, "x.jpg: JPEG: "},
    {"jpeg", jpeg_lossless, DC_DATA, "x.jpg: JPEG: "},
    {"jpeg", jpeg_length, DC_DATA, "x.jpg: JPEG: "},
    {"jpeg", jpeg_start_only, DC_DATA, "x.jpg: JPEG: "},
    {"jpeg", jpeg_no_frame, DC_DATA, "x.jpg: JPEG: "},
    {"webp", webp_start_only, DC_DATA, "x.webp: WebP: "},
    {"webp", webp_none, DC_DATA, "x.webp: WebP: "},
    {"webp", webp_huge, DC_DATA, "picture: found 16383x16383"},
    {"webp", webp_no_data, DC_DATA, "x.webp: WebP: "},
    {"webp", webp_lossless_huge, DC_DATA, "picture: found 16384x16384"},
    {"webp", webp_canvas, DC_DATA, "x.webp: "},
    {"webp", webp_chunk_length, DC_DATA, "x.webp: WebP: "},
    {"webp", webp_empty_chunks, DC_DATA, "x.webp: WebP: "},
    {"picture text", webp_chunk_length, DC_OK, ""}, /* nothing is found */
    {"picture text", webp_empty_chunks, DC_OK, ""},
    {"picture text", webp_xmp_open, DC_OK, ""},
    {"picture text", comment_far, DC_OK, ""},
    {"picture text", comment_itself, DC_OK, ""},
    {"picture text", comment_long, DC_OK, ""},
    {"picture text", comment_cut, DC_OK, ""},
    {"npy", npy_product, DC_DATA, "x.npy: .npy shape: too large"},
    {"npy", npy_wraps, DC_DATA, "x.npy: .npy "},
    {"npy", npy_digits, DC_DATA, "x.npy: .npy header"},
    {"npy", npy_dims, DC_DATA, "x.npy: .npy header"},
    {"npy", npy_record, DC_DATA, "x.npy: .npy header"},
    {"npy", npy_twice, DC_DATA, "x.npy: .npy header"},
    {"npy", npy_code, DC_DATA, "x.npy: .npy header"},
};

/* ---- trying --------------------------------------------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static int fd, bad;

static const format *find(const char *name)
{
    for (int i = 0; i < n_formats; i++)
        if (!strcmp(formats[i].name, name)) return &formats[i];
    abort();
}

/* The bytes in `file`, opened in a process of their own. */
static void try_one(const char *format_name, dc_status code, const char *says, const char *what, size_t number)
{
    const format *f = find(format_name);
    char path[512];
    if (ftruncate(fd, 0) || pwrite(fd, file, length, 0) != (ssize_t)length || (sparse && ftruncate(fd, sparse))) abort();
    sparse = 0;
    formats_place(f, fd, path);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        dc_error e = {0};
        struct timespec t;
        alarm(60);
        if (!SANITIZED && !forbid()) _exit(77);
        dc_status s = f->open(path, &e);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        bool good = s == code && e.code == s && strstr(e.text, says) && (!s || *e.text) && !strpbrk(e.text, "\n\x1b");
        if (!good) printf("WRONG: %s %zu as %s: found %d \"%s\", expected %d \"%s\"\n", what, number, f->name, s, e.text, code, says);
        if (t.tv_sec >= 5) printf("WRONG: %s %zu as %s: took %ld s\n", what, number, f->name, (long)t.tv_sec);
        fflush(stdout);
        _exit(!good || t.tv_sec >= 5);
    }
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) exit(77); /* there are no filters here */
    if (WIFSIGNALED(status)) printf("WRONG: %s %zu as %s: signal %d\n", what, number, f->name, WTERMSIG(status));
    bad += status != 0;
    formats_restore(f);
}

int main(void)
{
    formats_begin();
    fd = memfd_create("hostile", 0);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        length = 0;
        put_text(texts[i].text);
        try_one(texts[i].format, texts[i].code, texts[i].says, "text", i);
    }
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        length = 0;
        made[i].make();
        try_one(made[i].format, made[i].code, made[i].says, "made file", i);
    }
    formats_end();
    printf("%zu hostile files, %d WRONG\n", sizeof texts / sizeof *texts + sizeof made / sizeof *made, bad);
    return bad != 0;
}
