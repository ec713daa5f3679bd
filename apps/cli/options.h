/* options.h - one table of options: the parser, --help, the file of defaults, lines of prompts, man page and completions come from it. */
#ifndef DC_CLI_OPTIONS_H
#define DC_CLI_OPTIONS_H
#include "include/diffc.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Commands an option belongs to. CMD_LINE is none: the options that a line of --prompt-file may give to its picture. */
enum {
    CMD_TXT2IMG = 1,
    CMD_INSPECT = 2,
    CMD_TOKENIZE = 4,
    CMD_NOISE = 8,
    CMD_SCHEDULE = 16,
    CMD_BENCH = 32,
    CMD_VERSION = 64,
    CMD_CONVERT = 128,
    CMD_COMPLETION = 256,
    CMD_MAN = 512,
    CMD_LINE = 1024,
    CMD_EMBED = 2048,
    CMD_CLASSIFY = 4096,
    CMD_INDEX = 8192,
    CMD_SEARCH = 16384,
    CMD_VIEW = 32768,
    CMD_SELFTEST = 65536
};

typedef enum option_kind {
    FLAG,
    TEXT,
    INT,
    WHOLE,
    REAL,
    SEED,
    BYTES,
    SIZE,
    LIST
} option_kind; /* WHOLE: int64_t; SIZE: "WxH" into two ints; LIST: an item */

typedef struct option {
    const char *name; /* long name; further names after '|' are aliases (stable-diffusion.cpp, A1111) */
    char letter;      /* 0: none */
    option_kind kind;
    size_t offset; /* in settings */
    size_t has;    /* offset of the flag that tells it was given; (size_t)-1: no such flag */
    unsigned commands;
    const char *value; /* metavariable, or the possible words with '|' between; completions know FILE, PATH, FOLDER, SAMPLER, SCHEDULE */
    const char *help;
} option;
const option *options_table(int *n);
enum { MOST_OPTIONS = 160 };

struct settings;
typedef struct command {
    const char *name;
    unsigned bit;
    int (*run)(const struct settings *s);
    const char *arguments; /* for the usage line */
    const char *summary;
    const char *details; /* paragraphs for --help; may be NULL */
} command;

/* One of an option that may come several times, or (option NULL) a positional argument of a command that takes any number of them. */
typedef struct item {
    const char *option, *value; /* the option's first name */
} item;

/* Every option's value. Absent texts are NULL; `has` tells whether a number was given. */
typedef struct settings {
    const command *command;
    const char *where;    /* what is being read, for messages: "prompts.txt:3"; NULL: the command line */
    diffc_status bad;     /* what a bad value in it is: USAGE, in the file of defaults DATA */
    const char *word[16]; /* positional arguments */
    int n_words;
    item *item; /* in the order of the command line (owned) */
    int n_items, items_room;
    const char *prompt_syntax, *emphasis, *wildcards; /* how prompts are read */
    const char *model, *config, *unet, *text_encoder, *text_encoder_2, *vae, *taesd, *prompt, *negative, *image, *mask, *sampler, *schedule, *rng,
        *device, *cpu, *precision, *output, *save_latent, *trace, *sigmas, *tokenizer, *shape, *prediction, *prompt_file, *progress, *from,
        *from_stdin, *labels, *labels_file, *solver_type, *plot, *clip;
    const char *preview_kind, *preview_path;               /* previews while sampling; `preview` is search's */
    const char *index, *queries, *sheet, *export, *import; /* index, search */
    const char *event_log;                                 /* view */
    char *defaults;                                        /* text of the file of defaults, which values point into (owned) */
    int width, height, resize_width, resize_height, steps, count, batch, clip_skip, threads, quality, top, solver_order, keep_best, preview_interval;
    double guidance, rescale, strength, eta, seconds, variation_strength, s_churn, s_tmin, s_tmax, s_noise, sigma_min, sigma_max, rho;
    int64_t seed, variation_seed, ensd;
    uint64_t max_memory, max_vram;
    bool has_steps, has_guidance, has_seed, has_strength, has_variation_seed, has_keep_best;
    double threshold, distance, megapixels, scale;
    bool has_top, has_threshold, fast_decode, hidden, follow, rebuild, watch, check, automatic, only_paths, zero, duplicates, failures, preview,
        window, live, light, preview_terminal, show, taesd_preview_only;
    bool given[MOST_OPTIONS]; /* by place in the table: on the command line or in a line of prompts, not in the file of defaults */
    diffc_replay *replay;     /* of --from; NULL */
    bool quick, explain, lossless, vae_tiling, exact, deterministic, dry_run, profile, plan, hash, json, quiet, verbose, help, no_defaults;
} settings;

/* Fills *s from the file of defaults and argv (argv[1] is the command). Returns 0, or an exit code after telling what is wrong. Free with
 * options_free in any case. */
int options_parse(settings *s, const command *commands, int n_commands, int argc, char **argv);
void options_free(settings *s);
/* Options and words of one line over what *s has; only options of CMD_LINE. `where` is for messages: "prompts.txt:3". The values point into
 * the words. */
int options_parse_line(settings *s, const char *where, int n, char **words);
/* One "name = value" of the file of defaults (config.c), for what s->command has; `where` as above. The value must live as long as *s. */
int options_default(settings *s, const char *where, const char *name, const char *value);
/* Was txt2img's option of that name given on the command line (or in a line of prompts)? */
bool options_given(const settings *s, const char *name);
void options_help(const command *c);
/* "123", "4k", "2.5G" -> bytes; false when it is something else. */
bool parse_bytes(const char *text, uint64_t *out);

#endif
