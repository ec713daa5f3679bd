/* allocations.c - every allocation that the library asks for fails: the k-th alone, and all from the k-th on, in every piece of work below. It
 * says "out of memory" (71), or does without; nothing is left behind: no file, and no memory (which the address sanitizer tells at the end).
 * Afterwards the same model still makes the same picture.
 *
 *     allocations [--all] [WORK...]        without --all some of the k, evenly spread
 *
 * The calls of our own objects are wrapped by the linker (CMakeLists.txt has the list); libraries' own allocations are not: jansson asserts on
 * some of its. Their functions that hand out memory fail instead. */
#include "base/file.h"
#include "base/npy.h"
#include "clip/tokenizer.h"
#include "image/image.h"
#include "include/diffc.h"
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <jansson.h>
#include <png.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* ---- what fails ---------------------------------------------------------------------------------------------------- */

static atomic_bool armed;
static atomic_long calls, fails_at; /* 0: none */
static bool from_there_on;

static bool fails(void)
{
    if (!atomic_load(&armed)) return false;
    long k = atomic_fetch_add(&calls, 1) + 1, at = atomic_load(&fails_at);
    if (!at || (from_there_on ? k < at : k != at)) return false;
    errno = ENOMEM;
    return true;
}

#define WRAP(type, name, parameters, arguments, failed)                                                                                              \
    type __real_##name parameters;                                                                                                                   \
    type __wrap_##name parameters;                                                                                                                   \
    type __wrap_##name parameters { return fails() ? (failed) : __real_##name arguments; }

WRAP(void *, malloc, (size_t n), (n), NULL)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), NULL)
WRAP(void *, realloc, (void *p, size_t n), (p, n), NULL)
WRAP(void *, aligned_alloc, (size_t to, size_t n), (to, n), NULL)
WRAP(char *, strdup, (const char *s), (s), NULL)
WRAP(char *, strndup, (const char *s, size_t n), (s, n), NULL)
WRAP(int, vasprintf, (char **out, const char *format, va_list args), (out, format, args), -1)
WRAP(void *, mmap, (void *at, size_t n, int how, int flags, int fd, off_t from), (at, n, how, flags, fd, from), MAP_FAILED)
WRAP(char *, realpath, (const char *path, char *to), (path, to), NULL)
WRAP(DIR *, opendir, (const char *path), (path), NULL)
WRAP(gzFile, gzopen, (const char *path, const char *how), (path, how), NULL)
WRAP(json_t *, json_object, (void), (), NULL)
WRAP(json_t *, json_array, (void), (), NULL)
WRAP(json_t *, json_string, (const char *s), (s), NULL)
WRAP(json_t *, json_integer, (json_int_t v), (v), NULL)
WRAP(char *, json_dumps, (const json_t *o, size_t how), (o, how), NULL)
WRAP(json_t *, json_loadb, (const char *text, size_t n, size_t how, json_error_t *e), (text, n, how, e), (memset(e, 0, sizeof *e), NULL))
WRAP(png_structp, png_create_read_struct, (png_const_charp v, png_voidp w, png_error_ptr e, png_error_ptr m), (v, w, e, m), NULL)
WRAP(png_structp, png_create_write_struct, (png_const_charp v, png_voidp w, png_error_ptr e, png_error_ptr m), (v, w, e, m), NULL)
WRAP(png_infop, png_create_info_struct, (png_const_structrp p), (p), NULL)

/* ---- the pieces of work -------------------------------------------------------------------------------------------------- */

#define GOLDEN TEST_DATA "/golden/"
static char folder[] = "/tmp/diffc-failing-XXXXXX"; /* of the model, and in out/ what is written */
static diffc_model *model;
static uint64_t picture; /* sum of the last one */

static const char *inside(const char *name)
{
    static char path[8][512];
    static int next;
    char *at = path[next++ % 8];
    snprintf(at, sizeof path[0], "%s/%s", folder, name);
    return at;
}

static diffc_status open_model(diffc_error *e)
{
    diffc_model *m = NULL;
    diffc_status s = diffc_open(&m, &(diffc_options){.model = folder, .threads = 2}, e);
    diffc_close(m);
    return s;
}

static diffc_status write_picture(void *user, const diffc_result *r, diffc_error *e)
{
    (void)user;
    for (int i = 0; i < r->image->width * r->image->height * 3; i++) picture = picture * 31 + r->image->pixels[i];
    return diffc_image_write(inside("out/picture.png"), r->image, r->parameters, NULL, false, NULL, e);
}

static bool look(void *user, const diffc_preview *p)
{
    (void)user, (void)p;
    return false;
}

static diffc_status generate(const diffc_request *more, diffc_error *e)
{
    diffc_request q;
    diffc_request_defaults(model, &q);
    q.prompt = more->prompt ? more->prompt : "a house";
    q.negative = "caf\xc3\xa9";
    q.width = q.height = 32;
    q.steps = 2;
    q.seed = 1;
    q.image = more->image;
    q.strength = 1;
    q.vae_tiling = more->vae_tiling;
    q.profile = more->profile;
    q.trace = more->trace;
    q.preview = more->preview;
    q.preview_interval = 1;
    q.on_preview = look;
    q.on_image = write_picture;
    picture = 0;
    return diffc_generate(model, &q, e);
}

static diffc_status txt2img(diffc_error *e) { return generate(&(diffc_request){0}, e); }
static diffc_status tiled(diffc_error *e) { return generate(&(diffc_request){.vae_tiling = true, .profile = true}, e); }
static diffc_status traced(diffc_error *e) { return generate(&(diffc_request){.trace = inside("trace")}, e); }
/* A model of its own: the tiny decoder and the factors are read when they are wanted first. */
static diffc_status previewed(diffc_error *e)
{
    diffc_model *usual = model;
    diffc_status s =
        diffc_open(&model, &(diffc_options){.model = folder, .taesd = GOLDEN "models/taesd", .taesd_preview_only = true, .threads = 2}, e);
    diffc_plan p;
    diffc_request q = {.steps = 0};
    if (!s) diffc_request_defaults(model, &q);
    q.preview = "proj", q.on_preview = look;
    if (!s) s = diffc_plan_request(model, &q, &p, e);
    if (!s) s = generate(&(diffc_request){.preview = "tae"}, e);
    if (model != usual) diffc_close(model);
    model = usual;
    return s;
}
static diffc_status composed(diffc_error *e)
{
    return generate(&(diffc_request){.prompt = "a (red:1.2) [house:lake:0.5] BREAK x AND [y|z] :0.5"}, e);
}
static diffc_status explain(diffc_error *e)
{
    char *text;
    diffc_status s = diffc_prompt_explain(NULL, "a (red:1.2) [house:lake:0.5] BREAK x AND [y|z] :0.5", NULL, NULL, 4, &text, e);
    diffc_free(text);
    return s;
}
static diffc_status expand(diffc_error *e)
{
    char *text;
    diffc_status s = diffc_prompt_expand("{2$$ and $$a|{b|c}} __*__ {1-2$$__color__} __furry__", GOLDEN "prompt/wildcards", 3, &text, e);
    diffc_free(text);
    return s;
}
static diffc_status img2img(diffc_error *e)
{
    uint8_t pixels[20 * 20 * 3];
    memset(pixels, 100, sizeof pixels);
    diffc_image start = {20, 20, 3, pixels}; /* resized */
    return generate(&(diffc_request){.image = &start}, e);
}

static diffc_status plan(diffc_error *e)
{
    diffc_request q;
    diffc_plan p;
    diffc_request_defaults(model, &q);
    q.prompt = "a house";
    return diffc_plan_request(model, &q, &p, e);
}

static diffc_status bench(diffc_error *e)
{
    diffc_bench b;
    diffc_status s = diffc_bench_run(model, "unet", 1, 32, 32, 0, true, &b, e);
    diffc_bench_free(&b);
    if (s) return s;
    s = diffc_bench_plan(model, "clip-text", 1, 32, 32, &b, e);
    diffc_bench_free(&b);
    return s;
}

static diffc_status inspect(const char *path, diffc_error *e)
{
    char *text;
    diffc_status s = diffc_inspect(path, true, &text, e);
    diffc_free(text);
    return s;
}
static diffc_status inspect_folder(diffc_error *e) { return inspect(folder, e); }
static diffc_status inspect_weights(diffc_error *e) { return inspect(GOLDEN "weights/all_dtypes.safetensors", e); }
static diffc_status inspect_index(diffc_error *e) { return inspect(inside("index.json"), e); }
static diffc_status inspect_npy(diffc_error *e) { return inspect(GOLDEN "base/f4_c.npy", e); }
static diffc_status inspect_picture(diffc_error *e) { return inspect(TEST_DATA "/malformed/seeds/text.png", e); }

static diffc_status inspect_webp(diffc_error *e) { return inspect(GOLDEN "image/text/sdcpp.webp", e); }

static diffc_status read_picture(const char *name, bool gray, diffc_error *e)
{
    char path[512];
    diffc_image m;
    snprintf(path, sizeof path, GOLDEN "image/files/%s", name);
    diffc_status s = diffc_image_read(&m, path, gray, e);
    diffc_image_free(&m);
    return s;
}
static diffc_status read_png(diffc_error *e) { return read_picture("exif_orientation6.png", true, e); }
static diffc_status read_jpeg(diffc_error *e) { return read_picture("exif_orientation6.jpg", true, e); }
static diffc_status read_cmyk(diffc_error *e) { return read_picture("cmyk.jpg", false, e); }

static diffc_status read_webp(diffc_error *e) { return read_picture("../text/turned.webp", true, e); }

static diffc_status resize(diffc_error *e)
{
    static uint8_t pixels[20 * 30 * 4];
    static const int sizes[][2] = {{7, 9}, {40, 50}, {7, 50}, {20, 50}, {20, 30}};
    for (int filter = DC_FILTER_BOX; filter <= DC_FILTER_NEAREST; filter++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            dc_error own = {0};
            dc_image out;
            dc_image_resize(&out, &(dc_image){20, 30, i % 2 ? 4 : 3, pixels}, sizes[i][0], sizes[i][1], (dc_filter)filter, &own);
            dc_image_free(&out);
            e->code = (diffc_status)own.code;
            memcpy(e->text, own.text, sizeof e->text);
            if (own.code) return e->code;
        }
    return DIFFC_OK;
}

static diffc_status write_png(diffc_error *e)
{
    uint8_t pixels[3] = {1, 2, 3};
    return diffc_image_write(inside("out/p.png"), &(diffc_image){1, 1, 3, pixels}, "\xe7\x8c\xab", NULL, true, NULL, e);
}

static diffc_status write_other(const char *name, diffc_error *e)
{
    uint8_t pixels[3] = {1, 2, 3};
    return diffc_image_write(inside(name), &(diffc_image){1, 1, 1, pixels}, "\xe7\x8c\xab", NULL, true, NULL, e);
}
static diffc_status write_jpeg(diffc_error *e) { return write_other("out/p.jpg", e); }
static diffc_status write_webp(diffc_error *e) { return write_other("out/p.webp", e); }

static diffc_status write_npy(diffc_error *e) { return diffc_npy_write(inside("out/a.npy"), (float[]){1, 2}, 1, (int64_t[]){2}, e); }

static diffc_status tokenize(const char *where, diffc_error *e)
{
    int32_t *ids;
    int n, cut;
    diffc_status s = diffc_tokenize(where, "a <new> house", &ids, &n, &cut, e);
    diffc_free(ids);
    return s;
}
static diffc_status tokenize_folder(diffc_error *e) { return tokenize(TEST_DATA "/malformed/seeds", e); }

/* The packed merges, of a small vocabulary; and a text that is cleaned. */
static diffc_status tokenize_packed(diffc_error *e)
{
    dc_error own = {0};
    dc_tokenizer *t = NULL;
    dc_tokenizer_open_merges(&t, TEST_DATA "/malformed/seeds/merges.txt.gz", 522, &own);
    if (!own.code) {
        static const char text[] = "a &amp; b \xef\xac\x83 \xef\xbd\xb6";
        int32_t *ids = NULL;
        int n;
        dc_tokenizer_clean_texts(t);
        dc_tokenize(t, text, sizeof text - 1, &ids, &n, &own);
        free(ids);
    }
    dc_tokenizer_close(t);
    e->code = (diffc_status)own.code;
    memcpy(e->text, own.text, sizeof e->text);
    return e->code;
}

static diffc_status embed(diffc_error *e)
{
    static uint8_t pixels[30 * 24 * 4];
    diffc_clip *m = NULL;
    float row[7];
    const diffc_image image = {30, 24, 4, pixels};
    diffc_status s = diffc_clip_open(
        &m, &(diffc_options){.model = GOLDEN "clip/tiny/script.pt", .config = GOLDEN "clip/tiny/open_clip_config.json", .threads = 2}, e);
    if (!s) s = diffc_clip_embed_prompts(m, (const char *const[]){"cat"}, 1, (const char *const[]){"a {}.", "{}"}, 2, row, e);
    if (!s) s = diffc_clip_embed_images(m, &image, 1, row, e);
    diffc_clip_close(m);
    return s;
}

static diffc_status embed_folder(diffc_error *e)
{
    diffc_clip *m = NULL;
    diffc_status s = diffc_clip_open(&m, &(diffc_options){.model = GOLDEN "clip/tiny/hf", .threads = 1}, e);
    diffc_clip_close(m);
    return s;
}

static diffc_status schedule(diffc_error *e)
{
    static const char *const samplers[] = {"euler", "dpm++2m", "unipc", "dpm_adaptive"};
    diffc_status s = DIFFC_OK;
    for (int i = 0; !s && i < 4; i++) {
        diffc_schedule out;
        diffc_request q = {.sampler = samplers[i], .schedule = i < 2 ? "karras" : i == 2 ? "k_beta" : NULL, .steps = 5, .eta = -1};
        s = diffc_schedule_make(folder, NULL, &q, &out, e);
        diffc_free(out.timesteps);
        diffc_free(out.sigmas);
    }
    return s;
}

static diffc_status convert(const char *from, const char *to, diffc_error *e)
{
    return diffc_convert(&(diffc_options){.model = from, .precision = "f16"}, to, NULL, NULL, NULL, e);
}
static diffc_status convert_to_file(diffc_error *e) { return convert(folder, inside("out/one.safetensors"), e); }
static diffc_status convert_to_folder(diffc_error *e) { return convert(folder, inside("out/model"), e); }

static diffc_status replay(const char *path, diffc_error *e)
{
    diffc_replay *r;
    diffc_request q = {.steps = 1};
    diffc_status s = diffc_replay_open(&r, path, e);
    if (!s) s = diffc_replay_apply(r, model, &q, e);
    diffc_replay_close(r);
    return s;
}
static diffc_status replay_text(diffc_error *e) { return replay(TEST_DATA "/malformed/seeds/parameters.txt", e); }
static diffc_status replay_sdcpp(diffc_error *e) { return replay(TEST_DATA "/malformed/seeds/sdcpp.txt", e); }
static diffc_status replay_graph(diffc_error *e) { return replay(TEST_DATA "/malformed/seeds/graph.json", e); }
static diffc_status replay_webp(diffc_error *e) { return replay(GOLDEN "image/text/a1111.webp", e); }

/* An embedder that needs no model: how often each of 16 values is in a picture. */
static diffc_status embed_read(void *self, diffc_image *out, const char *path, diffc_error *e)
{
    (void)self;
    return diffc_image_read(out, path, true, e);
}
static diffc_status embed_prepare(void *self, const diffc_image *m, float *out, diffc_error *e)
{
    (void)self, (void)e;
    for (int i = 0; i < 16; i++) out[i] = 1;
    for (int i = 0; i < m->width * m->height; i++) out[m->pixels[i] >> 4]++;
    return DIFFC_OK;
}
static diffc_status embed_pictures(void *self, const float *pixels, int n, float *out, diffc_error *e)
{
    (void)self, (void)e;
    memcpy(out, pixels, (size_t)n * 16 * sizeof *out);
    return DIFFC_OK;
}
static diffc_status embed_text(void *self, const char *const *texts, int n, const char *const *templates, int n_templates, float *out, diffc_error *e)
{
    (void)self, (void)templates, (void)n_templates, (void)e;
    for (int i = 0; i < 16 * n; i++) out[i] = (float)(texts[i / 16][0] + i % 3);
    return DIFFC_OK;
}
static const diffc_embedder embedder = {NULL, "test", 16, 16, embed_read, embed_prepare, embed_pictures, embed_text};

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

/* Made anew every time, elsewhere than where nothing may be left: an index is whole after any failure, and stays. */
static diffc_status index_pictures(diffc_error *e)
{
    const char *exclude[] = {"*cmyk*"};
    nftw(inside("index"), remove_one, 8, FTW_DEPTH | FTW_PHYS);
    const diffc_index_options o = {.root = GOLDEN "image/files", .index = inside("index"), .exclude = exclude, .n_exclude = 1, .threads = 2};
    return diffc_index_update(&o, &embedder, NULL, e);
}

static diffc_status search(diffc_error *e)
{
    diffc_index *x;
    diffc_matches r = {0};
    diffc_duplicates d = {0};
    diffc_image sheet = {0};
    const char *terms[] = {"2:cat", "@" GOLDEN "image/files/exif_orientation6.png"}, *text = "dog";
    const diffc_query q = {.add = terms, .n_add = 2, .subtract = &text, .n_subtract = 1, .threshold = -2};
    diffc_status s = diffc_index_open(&x, inside("index"), NULL, &(diffc_options){.threads = 1}, e);
    if (!s) s = diffc_search(x, &embedder, &q, 1, &r, e);
    if (!s) s = diffc_contact_sheet(GOLDEN "image/files", &r, 3, 16, &sheet, e);
    if (!s) s = diffc_index_duplicates(x, 0.1, NULL, NULL, &d, e);
    if (!s) s = diffc_index_check(x, e);
    diffc_image_free(&sheet);
    diffc_matches_free(&r);
    diffc_duplicates_free(&d);
    diffc_index_close(x);
    return s;
}

static diffc_status export_vectors(diffc_error *e)
{
    diffc_index *x;
    diffc_status s = diffc_index_open(&x, inside("index"), NULL, &(diffc_options){.threads = 1}, e);
    if (!s) s = diffc_index_export(x, inside("v.npy"), inside("v.paths"), 0, e);
    diffc_index_close(x);
    return s;
}

typedef struct work {
    const char *name;
    diffc_status (*run)(diffc_error *e);
    int some;   /* of the k are tried without --all */
    bool draws; /* a picture, which must be the right one when it works */
} work;

static const work works[] = {
    {"open", open_model, 100, false},
    {"txt2img", txt2img, 40, true},
    {"img2img", img2img, 25, true},
    {"composed", composed, 25, true},
    {"explain", explain, 100, false},
    {"expand", expand, 100, false},
    {"tiled", tiled, 25, true},
    {"traced", traced, 10, true},
    {"previewed", previewed, 60, true},
    {"plan", plan, 60, false},
    {"bench", bench, 30, false},
    {"convert-to-file", convert_to_file, 40, false},
    {"convert-to-folder", convert_to_folder, 40, false},
    {"inspect-folder", inspect_folder, 200, false},
    {"inspect-weights", inspect_weights, 200, false},
    {"inspect-index", inspect_index, 200, false},
    {"inspect-npy", inspect_npy, 200, false},
    {"inspect-picture", inspect_picture, 200, false},
    {"read-png", read_png, 200, false},
    {"read-jpeg", read_jpeg, 200, false},
    {"read-cmyk", read_cmyk, 200, false},
    {"read-webp", read_webp, 200, false},
    {"inspect-webp", inspect_webp, 200, false},
    {"resize", resize, 500, false},
    {"write-png", write_png, 200, false},
    {"write-jpeg", write_jpeg, 200, false},
    {"write-webp", write_webp, 200, false},
    {"write-npy", write_npy, 200, false},
    {"replay-text", replay_text, 200, false},
    {"replay-sdcpp", replay_sdcpp, 200, false},
    {"replay-graph", replay_graph, 200, false},
    {"replay-webp", replay_webp, 200, false},
    {"tokenize-folder", tokenize_folder, 100, false},
    {"tokenize-packed", tokenize_packed, 200, false},
    {"embed", embed, 60, false},
    {"embed-folder", embed_folder, 60, false},
    {"schedule", schedule, 200, false},
    {"index", index_pictures, 150, false},
    {"search", search, 300, false},
    {"export", export_vectors, 200, false},
};

/* ---- trying -------------------------------------------------------------------------------------------------------------------- */

static int bad;

static void wrong(const work *w, long k, const char *what, diffc_status s, const diffc_error *e)
{
    if (bad++ < 20) printf("WRONG: %s, allocation %ld%s: %s: %d \"%s\"\n", w->name, k, from_there_on ? " and on" : "", what, s, e->text);
}

/* Files and folders in out/, which are removed; those under a temporary name count for *partial. */
static int sweep(int *partial)
{
    int n = 0;
    DIR *d = opendir(inside("out"));
    for (struct dirent *x; d && (x = readdir(d));) {
        char path[800];
        if (!strcmp(x->d_name, ".") || !strcmp(x->d_name, "..")) continue;
        n++;
        *partial += strstr(x->d_name, ".partial") != NULL;
        snprintf(path, sizeof path, "%s/%s", inside("out"), x->d_name);
        nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    }
    if (d) closedir(d);
    return n;
}

/* One run; returns how many allocations there were. */
static long once(const work *w, long k, uint64_t want, diffc_status *status)
{
    diffc_error e = {0};
    int partial = 0;
    atomic_store(&calls, 0);
    atomic_store(&fails_at, k);
    atomic_store(&armed, true);
    diffc_status s = *status = w->run(&e);
    atomic_store(&armed, false);
    int files = sweep(&partial);
    if (s != e.code || (s && !*e.text)) wrong(w, k, "the code returned is not the one told", s, &e);
    if (s && s != DIFFC_NO_MEMORY) wrong(w, k, "another code than 71", s, &e);
    if (s && files) wrong(w, k, "a file is left", s, &e);
    if (partial) wrong(w, k, "a temporary file is left", s, &e);
    if (!s && w->draws && want && picture != want) wrong(w, k, "another picture", s, &e);
    return atomic_load(&calls);
}

static void try_all(const work *w, bool all)
{
    diffc_status s;
    from_there_on = false;
    once(w, 0, 0, &s); /* what stays prepared afterwards is not counted */
    long n = once(w, 0, 0, &s), step = all || n <= w->some ? 1 : n / w->some, tried = 0, refused = 0;
    const uint64_t want = picture;
    if (s) wrong(w, 0, "fails by itself", s, &(diffc_error){0});
    for (int on = 0; on < 2; on++)
        for (long k = 1; k <= n; k += on ? 2 * step : step, tried++) {
            from_there_on = on;
            once(w, k, want, &s);
            refused += s != DIFFC_OK;
        }
    from_there_on = false;
    once(w, 0, want, &s); /* and it still works */
    if (s) wrong(w, 0, "does not work any more", s, &(diffc_error){0});
    printf("%-16s %6ld allocations, %6ld runs, %6ld out of memory\n", w->name, n, tried, refused);
    if (n < 2 || refused < tried / 2) wrong(w, 0, "hardly ever fails", s, &(diffc_error){0});
}

static void make_folder(void)
{
    static const char *const parts[] = {"unet", "vae", "text_encoder", "scheduler", "model_index.json"};
    char target[512];
    if (!mkdtemp(folder) || mkdir(inside("out"), 0755)) abort();
    for (int i = 0; i < 5; i++) {
        snprintf(target, sizeof target, GOLDEN "models/sd1/%s", parts[i]);
        if (symlink(target, inside(parts[i]))) abort();
    }
    if (symlink(TEST_DATA "/malformed/seeds", inside("tokenizer")) || symlink(TEST_DATA "/malformed/seeds/index.json", inside("index.json")) ||
        symlink(GOLDEN "weights/ok_padded_header.safetensors", inside("a.safetensors")) ||
        symlink(TEST_DATA "/malformed/seeds/names.safetensors", inside("b.safetensors")))
        abort();
}

int main(int argc, char **argv)
{
    bool all = false, named = false;
    diffc_error e = {0};
    char command[64];
    for (int i = 1; i < argc; i++) {
        all |= !strcmp(argv[i], "--all");
        named |= argv[i][0] != '-';
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    make_folder();
    setenv("XDG_CACHE_HOME", folder, 1); /* hashes are remembered there */
    if (diffc_open(&model, &(diffc_options){.model = folder, .threads = 1}, &e)) {
        printf("%s\n", e.text);
        return 1;
    }
    for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
        bool wanted = !named;
        for (int k = 1; k < argc; k++) wanted |= !strcmp(argv[k], works[i].name);
        if (wanted) try_all(&works[i], all);
    }
    diffc_close(model);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command)) return 1;
    if (bad) printf("%d WRONG\n", bad);
    return bad != 0;
}
