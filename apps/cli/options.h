/* options.h - one table of options: the parser, --help and (later) man page and completions come from it. */
#ifndef DC_CLI_OPTIONS_H
#define DC_CLI_OPTIONS_H
#include "include/diffc.h"
#include <stdbool.h>
#include <stdint.h>

/* Commands an option belongs to. */
enum { CMD_TXT2IMG = 1, CMD_INSPECT = 2, CMD_TOKENIZE = 4, CMD_NOISE = 8, CMD_SCHEDULE = 16, CMD_BENCH = 32, CMD_VERSION = 64, CMD_CONVERT = 128 };

struct settings;
typedef struct command {
    const char *name;
    unsigned bit;
    int (*run)(const struct settings *s);
    const char *arguments; /* for the usage line */
    const char *summary;
    const char *details; /* paragraphs for --help; may be NULL */
} command;

/* Every option's value. Absent texts are NULL; `has` tells whether a number was given. */
typedef struct settings {
    const command *command;
    const char *word[16]; /* positional arguments */
    int n_words;
    const char *model, *config, *unet, *text_encoder, *text_encoder_2, *vae, *taesd, *prompt, *negative, *image, *mask, *sampler, *schedule, *rng,
        *device, *cpu, *precision, *output, *save_latent, *trace, *sigmas, *tokenizer, *shape, *prediction, *size;
    int width, height, steps, count, batch, clip_skip, threads;
    double guidance, rescale, strength, eta, seconds;
    int64_t seed;
    uint64_t max_memory;
    bool has_steps, has_guidance, has_seed, has_strength;
    bool vae_tiling, exact, dry_run, profile, plan, hash, json, quiet, verbose, help;
} settings;

/* Fills *s from argv (argv[1] is the command). Returns 0, or DIFFC_USAGE after telling what is wrong. */
int options_parse(settings *s, const command *commands, int n_commands, int argc, char **argv);
void options_help(const command *c);
/* "123", "4k", "2.5G" -> bytes; false when it is something else. */
bool parse_bytes(const char *text, uint64_t *out);

#endif
