/* commands.h - one function a subcommand; each returns the program's exit code. */
#ifndef DC_CLI_COMMANDS_H
#define DC_CLI_COMMANDS_H
#include "apps/cli/options.h"
#include <jansson.h>

int run_txt2img(const settings *s);
int run_view(const settings *s);
int run_embed(const settings *s);
int run_classify(const settings *s);
int run_index(const settings *s);
int run_search(const settings *s);
int run_convert(const settings *s);
int run_inspect(const settings *s);
int run_tokenize(const settings *s);
int run_noise(const settings *s);
int run_schedule(const settings *s);
int run_bench(const settings *s);
int run_selftest(const settings *s);
int run_version(const settings *s);
int run_man(const settings *s);
int run_completion(const settings *s);

/* All commands, in the order of --help (main.c). */
const command *command_table(int *n);

/* Opens the model that the options name (their messages go to stderr: warnings always but with -q, notes with -v). 0 or an exit code. */
int open_model(diffc_model **model, const settings *s);
int open_clip(diffc_clip **clip, const settings *s); /* the same for a CLIP model */

/* What the options say about random numbers, into q; seeds that are not given are rolled. */
void fill_noise(diffc_request *q, const settings *s);
uint64_t random_seed(void);

/* What of the options names a model and the parts that replace its own, and where its messages go. */
diffc_options model_options(const settings *s);

/* The options over the picture of --from, that over the model's own defaults. The prompt may be NULL. Pictures read here belong to the caller. 0 or an
 * exit code. (request.c) */
int fill_request(diffc_request *q, diffc_model *m, const settings *s, diffc_image *image, diffc_image *mask);
/* "14.6,5,1": the caller frees *out. 0 or an exit code. */
int parse_sigmas(const char *text, double **out, int *n);
/* What of the options says how a sampler works. (schedule.c) */
void sampler_options(diffc_request *q, const settings *s);

/* To stdout; takes the reference. Always 0. */
int print_json(json_t *o);
json_t *json_reals(const double *v, int n);

#endif
