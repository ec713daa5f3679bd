/* manual.c - the commands man and completion: the option table as a manual page, and for the shells' completion. */
#include "apps/cli/commands.h"
#include "apps/cli/report.h"
#include <stdio.h>
#include <string.h>

/* ---- the manual page ------------------------------------------------------------------------------------------ */

/* Text for roff: backslashes and dashes escaped, a line that begins with a dot or quote guarded. */
static void roff(const char *text)
{
    bool begins = true;
    for (const char *p = text; *p; p++) {
        if (begins && (*p == '.' || *p == '\'')) fputs("\\&", stdout);
        if (*p == '\\') fputs("\\e", stdout);
        else if (*p == '-') fputs("\\-", stdout);
        else putchar(*p);
        begins = *p == '\n';
    }
}

static void roff_option(const option *o)
{
    printf(".TP\n");
    if (o->letter) printf("\\fB\\-%c\\fR, ", o->letter);
    for (const char *name = o->name; *name;) {
        char one[64];
        size_t n = strcspn(name, "|");
        snprintf(one, sizeof one, "%s--%.*s", name == o->name ? "" : ", ", (int)n, name);
        printf("\\fB");
        roff(one);
        printf("\\fR");
        name += n + (name[n] == '|');
    }
    if (o->value) {
        printf(" \\fI");
        roff(o->value);
        printf("\\fR");
    }
    putchar('\n');
    roff(o->help);
    putchar('\n');
}

static const char *const codes[][2] = {{"0", "done"},
                                       {"64", "usage: an option or value"},
                                       {"65", "bad data, also in the file of defaults"},
                                       {"66", "missing or unreadable input"},
                                       {"69", "device or instruction set not there"},
                                       {"70", "a bug of diffc, or values that are not finite"},
                                       {"71", "out of memory"},
                                       {"73", "output cannot be created"},
                                       {"74", "reading or writing failed"},
                                       {"77", "a path that leaves its folder"},
                                       {"130, 143", "interrupted, terminated"}};

int run_man(const settings *s)
{
    int n, n_commands;
    const option *table = options_table(&n);
    const command *commands = command_table(&n_commands);
    (void)s;
    printf(".TH DIFFC 1 \"\" \"diffc %s\" \"User Commands\"\n.SH NAME\ndiffc \\- Stable Diffusion and CLIP in C\n.SH SYNOPSIS\n", diffc_version());
    for (int i = 0; i < n_commands; i++) {
        printf("%s.B diffc %s\n", i ? ".br\n" : "", commands[i].name);
        if (!*commands[i].arguments) continue;
        roff(commands[i].arguments);
        putchar('\n');
    }
    printf(".SH DESCRIPTION\nMakes pictures from text with Stable Diffusion models, and describes and converts such models.\n");
    for (int i = 0; i < n_commands; i++) {
        printf(".SH \"DIFFC %s\"\n", commands[i].name);
        roff(commands[i].summary);
        putchar('\n');
        if (commands[i].details) {
            printf(".PP\n");
            roff(commands[i].details);
            putchar('\n');
        }
        for (int k = 0; k < n; k++)
            if (table[k].commands & commands[i].bit) roff_option(&table[k]);
    }
    printf(".SH FILES\n.TP\n.I ~/.config/diffc/config\nDefaults of options, a line each: \\fIname\\fR = \\fIvalue\\fR, with the long option's name. "
           "What follows a "
           "line\n[\\fIcommand\\fR] is for that command alone; # begins a comment; a flag is true or false. $XDG_CONFIG_HOME is used where it is "
           "set.\n");
    printf(".SH ENVIRONMENT\n.TP\n.B DIFFC_CONFIG\nanother file of defaults; empty: none\n.TP\n.B DIFFC_ASSETS\nfolder of the default model and the "
           "vocabulary\n");
    printf(".SH EXIT STATUS\n");
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) printf(".TP\n.B %s\n%s\n", codes[i][0], codes[i][1]);
    printf(".SH EXAMPLES\n.nf\n");
    roff("diffc txt2img \"a red apple\"\n"
         "diffc txt2img \"a lighthouse at dusk\" -m model.safetensors -n blurry --steps 25 --sampler \"DPM++ 2M Karras\" -s 42\n"
         "diffc txt2img --prompt-file prompts.txt -o '{prompt}-%04d.png'\n"
         "diffc inspect model.ckpt --hash\n");
    printf(".fi\n");
    return 0;
}

/* ---- completion ----------------------------------------------------------------------------------------------- */

/* What may follow an option: words of its own, or files, or folders. */
typedef struct values {
    bool files, folders;
    char words[1024];
} values;

static void add_words(char *out, size_t size, const char *const *word, int n)
{
    for (int i = 0; i < n; i++) snprintf(out + strlen(out), size - strlen(out), "%s%s", *out ? " " : "", word[i]);
}

static values values_of(const option *o)
{
    values v = {0};
    int n;
    if (!o->value) return v;
    v.folders = !strcmp(o->value, "FOLDER");
    v.files = !strcmp(o->value, "FILE") || !strcmp(o->value, "PATH");
    if (!strcmp(o->value, "SAMPLER")) {
        const char *const *names = diffc_sampler_names(&n);
        add_words(v.words, sizeof v.words, names, n);
    } else if (!strcmp(o->value, "SCHEDULE")) {
        const char *const *names = diffc_schedule_names(&n);
        add_words(v.words, sizeof v.words, names, n);
    } else if (strchr(o->value, '|')) {
        snprintf(v.words, sizeof v.words, "%s", o->value);
        for (char *p = v.words; *p; p++)
            if (*p == '|') *p = ' ';
    }
    return v;
}

static int first_name(const option *o) { return (int)strcspn(o->name, "|"); }

/* "--steps|-s" and what follows, for `case`. */
static void sh_pattern(const option *o)
{
    for (const char *name = o->name; *name;) {
        size_t n = strcspn(name, "|");
        printf("%s--%.*s", name == o->name ? "" : "|", (int)n, name);
        name += n + (name[n] == '|');
    }
    if (o->letter) printf("|-%c", o->letter);
}

static void bash(const option *table, int n, const command *commands, int n_commands)
{
    printf(
        "# bash completion of diffc %s\n_diffc() {\n    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n    COMPREPLY=()\n",
        diffc_version());
    printf("    if [ \"$COMP_CWORD\" = 1 ]; then\n        COMPREPLY=($(compgen -W '");
    for (int i = 0; i < n_commands; i++) printf("%s%s", i ? " " : "", commands[i].name);
    printf("' -- \"$word\"))\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n");
    for (int i = 0; i < n_commands; i++) {
        printf("    %s)\n        case $before in\n", commands[i].name);
        for (int k = 0; k < n; k++) {
            const option *o = &table[k];
            if (!(o->commands & commands[i].bit) || o->kind == FLAG) continue;
            values v = values_of(o);
            printf("        ");
            sh_pattern(o);
            if (*v.words) printf(") COMPREPLY=($(compgen -W '%s' -- \"$word\")) ;;\n", v.words);
            else if (v.folders) printf(") COMPREPLY=($(compgen -d -- \"$word\")) ;;\n");
            else if (v.files) printf(") COMPREPLY=($(compgen -f -- \"$word\")) ;;\n");
            else printf(") ;;\n");
        }
        printf("        *)\n            case $word in\n            -*) COMPREPLY=($(compgen -W '");
        for (int k = 0; k < n; k++)
            if (table[k].commands & commands[i].bit) printf("--%.*s ", first_name(&table[k]), table[k].name);
        printf("' -- \"$word\")) ;;\n            *) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n            esac ;;\n        esac ;;\n");
    }
    printf("    esac\n}\ncomplete -o filenames -F _diffc diffc\n");
}

/* `text` within '...' of a shell; zsh's _arguments also wants [ ] and : escaped. */
static void quoted(const char *text, const char *escaped)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\'') fputs("'\\''", stdout);
        else {
            if (strchr(escaped, *p)) putchar('\\');
            putchar(*p);
        }
    }
}

static void zsh(const option *table, int n, const command *commands, int n_commands)
{
    printf("#compdef diffc\n# zsh completion of diffc %s\n_diffc() {\n    local -a commands=(\n", diffc_version());
    for (int i = 0; i < n_commands; i++) {
        printf("        '%s:", commands[i].name);
        quoted(commands[i].summary, ":");
        printf("'\n");
    }
    printf("    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n    local command=$words[2]\n"
           "    shift words\n    (( CURRENT-- ))\n    case $command in\n");
    for (int i = 0; i < n_commands; i++) {
        printf("    %s)\n        _arguments \\\n", commands[i].name);
        for (int k = 0; k < n; k++) {
            const option *o = &table[k];
            if (!(o->commands & commands[i].bit)) continue;
            values v = values_of(o);
            if (o->letter) printf("            {-%c,--%.*s}'[", o->letter, first_name(o), o->name);
            else printf("            '--%.*s[", first_name(o), o->name);
            quoted(o->help, "[]:");
            printf("]");
            if (o->value) {
                printf(":");
                quoted(*v.words ? "word" : o->value, "[]:");
                if (*v.words) printf(":(%s)", v.words);
                else printf(":%s", v.folders ? "_files -/" : v.files ? "_files" : " ");
            }
            printf("' \\\n");
        }
        printf("            '*:argument:_files' ;;\n");
    }
    printf("    esac\n}\n_diffc \"$@\"\n");
}

static void fish(const option *table, int n, const command *commands, int n_commands)
{
    printf("# fish completion of diffc %s\n", diffc_version());
    for (int i = 0; i < n_commands; i++) {
        printf("complete -c diffc -n __fish_use_subcommand -f -a %s -d '", commands[i].name);
        quoted(commands[i].summary, "");
        printf("'\n");
    }
    for (int i = 0; i < n_commands; i++)
        for (int k = 0; k < n; k++) {
            const option *o = &table[k];
            if (!(o->commands & commands[i].bit)) continue;
            values v = values_of(o);
            printf("complete -c diffc -n '__fish_seen_subcommand_from %s' -l %.*s", commands[i].name, first_name(o), o->name);
            if (o->letter) printf(" -s %c", o->letter);
            if (*v.words) printf(" -x -a '%s'", v.words);
            else if (v.folders) printf(" -x -a '(__fish_complete_directories)'");
            else if (v.files) printf(" -r");
            else if (o->value) printf(" -x");
            printf(" -d '");
            quoted(o->help, "");
            printf("'\n");
        }
}

int run_completion(const settings *s)
{
    static const struct {
        const char *name;
        void (*write)(const option *table, int n, const command *commands, int n_commands);
    } shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
    int n, n_commands;
    const option *table = options_table(&n);
    const command *commands = command_table(&n_commands);
    const char *shell = s->n_words ? s->word[0] : "nothing";
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        if (!strcmp(shells[i].name, shell)) {
            shells[i].write(table, n, commands, n_commands);
            return 0;
        }
    return report(DIFFC_USAGE, "Example: source <(diffc completion bash)", "completion: found \"%s\", expected bash, zsh or fish", shell);
}
