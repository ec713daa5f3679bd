/* tools.c - the small commands: inspect, tokenize, noise, version; and opening the model for all. */
#include "apps/cli/commands.h"
#include "apps/cli/replay.h"
#include "apps/cli/report.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* ---- the model ------------------------------------------------------------------------------------------------ */

static void on_log(void *user, diffc_log_level level, const char *line)
{
    const settings *s = user;
    if (s->quiet || (level < DIFFC_LOG_WARNING && !s->verbose)) return;
    report_log(level, line);
}

static bool has_template(const settings *s)
{
    const char *prompt = s->prompt ? s->prompt : s->n_words ? s->word[0] : "";
    return diffc_prompt_is_template(prompt) || (s->negative && diffc_prompt_is_template(s->negative));
}

diffc_options model_options(const settings *s)
{
    return (diffc_options){.model = s->model,
                           .config = s->config,
                           .unet = s->unet,
                           .text_encoder = s->text_encoder,
                           .text_encoder_2 = s->text_encoder_2,
                           .vae = s->vae,
                           .taesd = s->taesd,
                           .taesd_preview_only = s->taesd_preview_only,
                           .prediction = s->prediction,
                           .device = s->device,
                           .cpu_level = s->cpu,
                           .precision = s->precision,
                           .exact = s->exact,
                           .deterministic = s->deterministic,
                           .max_vram = s->max_vram,
                           .fast_decode = s->fast_decode,
                           .threads = s->threads,
                           .max_memory = s->max_memory,
                           .resident =
                               s->prompt_file || (s->count > 1 && has_template(s)) || s->command->bit == CMD_VIEW, /* then several requests follow */
                           .log = on_log,
                           .log_user = (void *)s};
}

static int check_threads(const settings *s)
{
    if (s->threads >= 0 && s->threads <= 1024) return 0;
    return report(DIFFC_USAGE, "", "threads: found %d, expected 1 to 1024 (0: all usable CPUs)", s->threads);
}

int open_clip(diffc_clip **clip, const settings *s)
{
    diffc_error e = {0};
    diffc_options o = model_options(s);
    int code = check_threads(s);
    if (code) return code;
    if (diffc_clip_open(clip, &o, &e)) return report_error(&e);
    signals_clip(*clip);
    if (s->verbose) report_log(DIFFC_LOG_NOTE, diffc_clip_about(*clip)->summary);
    return 0;
}

int open_model(diffc_model **model, const settings *s)
{
    diffc_error e = {0};
    diffc_options o = model_options(s);
    int code = check_threads(s);
    if (code) return code;
    if (diffc_open(model, &o, &e)) return report_error(&e);
    signals_model(*model);
    return 0;
}

int print_json(json_t *o)
{
    json_dumpf(o, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
    putchar('\n');
    json_decref(o);
    return 0;
}

/* ---- inspect --------------------------------------------------------------------------------------------------- */

/* JSON as indented "key: value" text; long lists of tensors one a line. */
static void print_value(const json_t *v, int indent);

static void print_scalar(const json_t *v)
{
    char *s = json_is_string(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_PRESERVE_ORDER);
    printf("%s", json_is_string(v) ? json_string_value(v) : s ? s : "");
    free(s);
}

static bool is_flat(const json_t *v)
{
    size_t i;
    json_t *x;
    const char *key;
    if (json_is_array(v)) json_array_foreach(v, i, x) if (json_is_object(x) || json_is_array(x)) return false;
    if (json_is_object(v)) json_object_foreach((json_t *)v, key, x) if (json_is_object(x)) return false;
    return true;
}

/* One row of a list of objects: its scalars side by side. */
static void print_row(const json_t *v)
{
    const char *key;
    json_t *x;
    int i = 0;
    json_object_foreach((json_t *)v, key, x)
    {
        printf("%s", i++ ? "  " : "");
        print_scalar(x);
    }
}

static void print_value(const json_t *v, int indent)
{
    const char *key;
    json_t *x;
    size_t i;
    if (json_is_object(v)) {
        json_object_foreach((json_t *)v, key, x)
        {
            bool nested = (json_is_object(x) || json_is_array(x)) && !(json_is_array(x) && is_flat(x));
            printf("%*s%s:%s", indent, "", key, nested ? "\n" : " ");
            if (nested) print_value(x, indent + 2);
            else print_scalar(x), putchar('\n');
        }
    } else if (json_is_array(v)) {
        json_array_foreach(v, i, x)
        {
            printf("%*s", indent, "");
            if (json_is_object(x) && is_flat(x)) print_row(x), putchar('\n');
            else if (json_is_object(x)) putchar('\n'), print_value(x, indent + 2);
            else print_scalar(x), putchar('\n');
        }
    }
}

int run_inspect(const settings *s)
{
    diffc_error e = {0};
    char *text = NULL;
    if (s->n_words != 1) return report(DIFFC_USAGE, "", "inspect: found %d paths, expected one", s->n_words);
    if (diffc_inspect(s->word[0], s->hash, &text, &e)) return report_error(&e);
    json_t *root = s->json ? NULL : json_loads(text, 0, NULL);
    if (root) print_value(root, 0);
    else printf("%s\n", text);
    json_decref(root);
    diffc_free(text);
    return 0;
}

/* ---- tokenize, noise ------------------------------------------------------------------------------------ */

static void print_chunk(const json_t *chunk)
{
    const json_t *token = json_object_get(chunk, "tokens"), *x;
    size_t i;
    json_array_foreach(token, i, x)
    {
        double weight = json_number_value(json_object_get(x, "weight"));
        printf("%s%s", i ? " " : "      ", json_string_value(json_object_get(x, "token")));
        if (weight != 1) printf(":%.6g", weight);
    }
    printf("\n      %d of %d tokens\n", (int)json_array_size(token), (int)json_integer_value(json_object_get(chunk, "room")));
}

/* The JSON of diffc_prompt_explain as text. */
static void print_explained(const json_t *root)
{
    const json_t *part, *text, *chunk;
    size_t i, k, c, parts = json_array_size(json_object_get(root, "parts"));
    json_array_foreach(json_object_get(root, "parts"), i, part)
    {
        double weight = json_number_value(json_object_get(part, "weight"));
        if (parts > 1 || weight != 1) printf("part %d, weight %.6g\n", (int)i + 1, weight);
        json_array_foreach(json_object_get(part, "texts"), k, text)
        {
            char *steps = json_dumps(json_object_get(text, "steps"), JSON_COMPACT);
            if (json_array_size(json_object_get(part, "texts")) > 1) printf("  steps %s\n", steps ? steps : "");
            printf("  \"%s\"\n", json_string_value(json_object_get(text, "text")));
            free(steps);
            json_array_foreach(json_object_get(text, "chunks"), c, chunk)
            {
                printf("    chunk %d\n", (int)c + 1);
                print_chunk(chunk);
            }
        }
    }
}

static int explain(const settings *s, const char *prompt)
{
    diffc_error e = {0};
    char *text = NULL;
    if (diffc_prompt_explain(s->tokenizer ? s->tokenizer : s->model, prompt, s->prompt_syntax, s->emphasis, s->has_steps ? s->steps : 20, &text, &e))
        return report_error(&e);
    json_t *root = s->json ? NULL : json_loads(text, 0, NULL);
    if (root) print_explained(root);
    else printf("%s\n", text);
    json_decref(root);
    diffc_free(text);
    return 0;
}

int run_tokenize(const settings *s)
{
    diffc_error e = {0};
    int32_t *ids = NULL;
    char *prompt = NULL;
    int n = 0, cut = 0, code = 0;
    if (s->n_words != 1) return report(DIFFC_USAGE, "Put a text of several words in quotes.", "tokenize: found %d texts, expected one", s->n_words);
    if (s->explain) {
        if (diffc_prompt_expand(s->word[0], s->wildcards, s->has_seed ? (uint64_t)s->seed : 0, &prompt, &e)) return report_error(&e);
        code = explain(s, prompt);
        diffc_free(prompt);
        return code;
    }
    if (diffc_tokenize(s->tokenizer ? s->tokenizer : s->model, s->word[0], &ids, &n, &cut, &e)) return report_error(&e);
    putchar('[');
    for (int i = 0; i < n; i++) printf("%s%d", i ? ", " : "", ids[i]);
    printf("]\n");
    if (cut) fprintf(stderr, "diffc: warning: the last %d tokens do not fit and were cut off\n", cut);
    diffc_free(ids);
    return 0;
}

/* "1,4,8,8" -> dims; 0 or an exit code. */
static int parse_shape(const char *text, int64_t *dim, int *rank, size_t *n)
{
    *rank = 0;
    *n = 1;
    for (const char *p = text;; p++) {
        char *end;
        long long v = strtoll(p, &end, 10);
        if (end == p || v < 1 || *rank >= 8 || (size_t)v > ((size_t)1 << 31) / *n)
            return report(DIFFC_USAGE, "", "shape: found \"%s\", expected up to 8 whole numbers such as 1,4,64,64, at most 2^31 values", text);
        dim[(*rank)++] = v;
        *n *= (size_t)v;
        if (!*end) return 0;
        if (*end != ',' && *end != 'x') return report(DIFFC_USAGE, "", "shape: found \"%s\", expected whole numbers separated by commas", text);
        p = end;
    }
}

uint64_t random_seed(void)
{
    uint32_t v = 0;
    if (getrandom(&v, sizeof v, 0) != sizeof v) v = (uint32_t)time(NULL) ^ (uint32_t)getpid();
    return v; /* 32 bits, as other programs take them */
}

void fill_noise(diffc_request *q, const settings *s)
{
    if (s->rng && replay_lets(s, "rng")) q->rng = s->rng;
    if (replay_lets(s, "seed")) q->seed = s->has_seed ? (uint64_t)s->seed : random_seed();
    if (replay_lets(s, "variation-strength")) q->variation_strength = s->variation_strength;
    if (replay_lets(s, "variation-seed")) q->variation_seed = s->has_variation_seed ? (uint64_t)s->variation_seed : random_seed();
    if (replay_lets(s, "seed-resize-from")) q->seed_resize_width = s->resize_width, q->seed_resize_height = s->resize_height;
    if (replay_lets(s, "ensd")) q->ensd = s->ensd;
}

/* torch.randn of that shape, or, for the rules of a program and whatever changes start noise, pictures [n,C,h,w]. */
static diffc_status draw_noise(const settings *s, const int64_t *dim, int rank, float *out, size_t n, diffc_error *e)
{
    diffc_request q = {.rng = "cpu"};
    fill_noise(&q, s);
    bool plain = !strcmp(q.rng, "cpu") || !strcmp(q.rng, "cuda"), changed = q.variation_strength != 0 || q.seed_resize_width;
    if (rank != 4 || (plain && !changed)) return diffc_noise(q.rng, q.seed, out, n, e);
    q.count = q.batch = (int)dim[0];
    return diffc_start_noise(&q, (int)dim[0], (int)dim[1], (int)dim[2], (int)dim[3], out, e);
}

int run_noise(const settings *s)
{
    diffc_error e = {0};
    int64_t dim[8];
    int rank;
    size_t n;
    if (!s->shape || !s->output || !s->has_seed) return report(DIFFC_USAGE, "", "noise: expected --shape, -s SEED and -o FILE");
    int code = parse_shape(s->shape, dim, &rank, &n);
    if (code) return code;
    float *data = malloc(n * sizeof *data);
    if (!data) return report(DIFFC_NO_MEMORY, "", "noise: out of memory (%zu bytes)", n * sizeof *data);
    if (draw_noise(s, dim, rank, data, n, &e) || diffc_npy_write(s->output, data, rank, dim, &e)) code = report_error(&e);
    free(data);
    return code;
}

json_t *json_reals(const double *v, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_real(v[i]));
    return a;
}

/* ---- version ---------------------------------------------------------------------------------------------------------------- */

int run_version(const settings *s)
{
    if (s->json) return print_json(json_pack("{s:s,s:s}", "version", diffc_version(), "build", diffc_build_info()));
    printf("diffc %s (%s)\n", diffc_version(), diffc_build_info());
    return 0;
}
