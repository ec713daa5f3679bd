/* main.c - diffc's command line: finds the command, parses, runs. */
#include "apps/cli/commands.h"
#include "apps/cli/options.h"
#include "apps/cli/report.h"
#include <stdio.h>
#include <string.h>

static const command commands[] = {
    {"txt2img", CMD_TXT2IMG, run_txt2img, "PROMPT [options]", "Makes pictures from text (and, with -i, from a picture).",
     "Without -m the model that comes with diffc is used: 128x128 icons of plain things, as in \"a red apple\"; it knows 136 of them, listed in its "
     "README.md."},
    {"view", CMD_VIEW, run_view, "[PROMPT] [options]", "Opens a window: pictures while they form, settings, what was drawn.",
     "F1 lists its keys. It takes txt2img's options as what it begins with; -o is where pictures are saved to."},
    {"embed", CMD_EMBED, run_embed, "[-m MODEL] --text TEXT ... | --image FILE ... [options]", "Vectors of texts and pictures by a CLIP model.",
     "Rows come in the order of the command line and have length 1: the product of two rows is their similarity, -1 to 1."},
    {"classify", CMD_CLASSIFY, run_classify, "IMAGE ... --labels A,B,.. [options]", "Which of some labels fits a picture best, by a CLIP model.",
     NULL},
    {"index", CMD_INDEX, run_index, "[FOLDER] [-m MODEL] [options]", "Makes pictures below a folder searchable, and keeps them so.",
     "Run it again after changes: only what is new or changed is encoded. What is moved or copied is known by its content. It may be stopped, or\n"
     "killed, at any moment: the next run goes on."},
    {"search", CMD_SEARCH, run_search, "QUERY [+ TERM] [- TERM] [options]", "Finds pictures by what they show.",
     "A query is a text, or a picture: @FILE, ./FILE, or @- for one on stdin. The model is the index's own unless -m names where it is now."},
    {"convert", CMD_CONVERT, run_convert, "IN -o OUT [options]", "Writes a model as a diffusers folder or one safetensors file.",
     "IN: any model file or folder, or a file of one part. OUT: a name ending in .safetensors becomes one file (a single file keeps its\n"
     "names, a folder gets those that every program reads), any other a folder, which must not be there yet or be empty."},
    {"inspect", CMD_INSPECT, run_inspect, "PATH [--hash] [--json]", "Describes a model file or folder, a picture or a .npy file.", NULL},
    {"tokenize", CMD_TOKENIZE, run_tokenize, "[-m MODEL | --tokenizer FOLDER] TEXT", "Prints the token ids of a text as a JSON array.", NULL},
    {"noise", CMD_NOISE, run_noise, "--rng RNG -s SEED --shape 1,4,64,64 -o FILE.npy", "Writes torch's random numbers as .npy.", NULL},
    {"schedule", CMD_SCHEDULE, run_schedule,
     "--sampler NAME [--scheduler NAME[,NAME...]] --steps N [--rng RULES] [-m MODEL | --prediction KIND] [--plot FILE]",
     "Prints or draws the timesteps and sigmas of a sampler.", NULL},
    {"bench", CMD_BENCH, run_bench, "unet|vae|taesd|vae-encode|clip-text|clip-image [-m MODEL] [options]",
     "Times one part of a model on random input.", NULL},
    {"selftest", CMD_SELFTEST, run_selftest, "[--device DEVICE] [-m MODEL] [options]", "Checks that this machine computes right.",
     "Every operation on random shapes beside plain loops, then the parts of a model and a picture; everything twice, for the same bytes.\n"
     "A line a check: the error, relative, of the case that is farthest off by its bound. Exits with 70 when something is wrong."},
    {"completion", CMD_COMPLETION, run_completion, "bash|zsh|fish", "Prints what makes the shell complete diffc's commands and options.",
     "bash: source <(diffc completion bash)\nzsh: diffc completion zsh >_diffc, into a folder of $fpath\nfish: diffc completion fish | source"},
    {"man", CMD_MAN, run_man, "", "Prints the manual page: diffc man | man -l -", NULL},
    {"version", CMD_VERSION, run_version, "", "Prints version and build.", NULL},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

const command *command_table(int *n)
{
    *n = COMMANDS;
    return commands;
}

static int usage(FILE *to)
{
    fprintf(to, "diffc %s - Stable Diffusion and CLIP in C\n\nusage: diffc COMMAND [options]\n\n", diffc_version());
    for (int i = 0; i < COMMANDS; i++) fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(to, "\n`diffc COMMAND --help` lists a command's options. Start with: diffc txt2img \"a red apple\"\n");
    return to == stdout ? 0 : DIFFC_USAGE;
}

int main(int argc, char **argv)
{
    if (argc < 2) return usage(stderr);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) return usage(stdout);
    if (!strcmp(argv[1], "--version")) argv[1] = "version";
    signals_install();
    settings s;
    int code = options_parse(&s, commands, COMMANDS, argc, argv);
    if (!code && s.help) options_help(s.command);
    else if (!code) code = s.command->run(&s);
    options_free(&s);
    if (!code && (fflush(stdout) || ferror(stdout))) code = report(DIFFC_IO, "", "stdout: writing failed");
    return code;
}
