/* options.c - the option table and what reads it. */
#include "apps/cli/options.h"
#include "apps/cli/defaults.h"
#include "apps/cli/report.h"
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NONE           ((size_t)-1)
#define AT(field)      offsetof(settings, field)
#define REQUEST        (CMD_TXT2IMG | CMD_LINE | CMD_VIEW)
#define MODEL_COMMANDS (CMD_TXT2IMG | CMD_BENCH | CMD_VIEW)
#define COMPUTING      (MODEL_COMMANDS | CMD_SELFTEST)
#define PARTS_COMMANDS (MODEL_COMMANDS | CMD_CONVERT)
#define CLIP_COMMANDS  (CMD_EMBED | CMD_CLASSIFY | CMD_INDEX | CMD_SEARCH)
#define MANY_WORDS     CLIP_COMMANDS /* positional arguments are items, any number of them */

static const option table[] = {
    {"model", 'm', TEXT, AT(model), NONE, COMPUTING | CMD_TOKENIZE | CMD_SCHEDULE, "PATH",
     "model: a diffusers folder or a single file (default: the model that comes with diffc)"},
    {"model", 'm', TEXT, AT(model), NONE, CLIP_COMMANDS, "PATH",
     "CLIP model: a folder of transformers or open_clip, or a single file (default: the model that comes with diffc)"},
    {"config", 0, TEXT, AT(config), NONE, CLIP_COMMANDS, "PATH", "an open_clip_config.json, or a folder with one, for a single file"},
    {"fast-decode", 0, FLAG, AT(fast_decode), NONE, CLIP_COMMANDS & ~CMD_SEARCH, NULL,
     "read large JPEGs at 1/2, 1/4 or 1/8 of their size: quicker, nearly the same vectors"},
    {"text", 0, LIST, NONE, NONE, CMD_EMBED, "TEXT", "a text; comes as often as wanted, and more may follow it"},
    {"image", 'i', LIST, NONE, NONE, CMD_EMBED, "FILE", "a picture (- is stdin); likewise"},
    {"stdin", 0, TEXT, AT(from_stdin), NONE, CMD_EMBED, "text|image", "also a text, or a picture's file name, a line from stdin"},
    {"labels", 'l', TEXT, AT(labels), NONE, CMD_CLASSIFY, "A,B,..", "what the picture may show, separated by commas"},
    {"labels-file", 0, TEXT, AT(labels_file), NONE, CMD_CLASSIFY, "FILE", "the same, one a line; - is stdin"},
    {"template", 0, LIST, NONE, NONE, CMD_CLASSIFY, "TEXT",
     "text about a label, which stands for {}; several are averaged (default \"a photo of a {}.\")"},
    {"top", 0, INT, AT(top), NONE, CMD_CLASSIFY, "N", "only the N best labels of a picture"},
    {"index", 0, TEXT, AT(index), NONE, CMD_INDEX | CMD_SEARCH | CMD_VIEW, "FOLDER",
     "the index's own folder (default: .diffc in the folder of pictures; search: the nearest one from here upwards)"},
    {"exclude|exclude-dir", 0, LIST, NONE, NONE, CMD_INDEX, "PATTERN",
     "names, or with a / paths, to leave out, as *.tmp.jpg or raw/*; besides .git, node_modules, @eaDir, ..."},
    {"hidden|include-hidden", 0, FLAG, AT(hidden), NONE, CMD_INDEX, NULL, "also names that begin with a dot"},
    {"follow", 0, FLAG, AT(follow), NONE, CMD_INDEX, NULL, "also folders that links lead to"},
    {"max-image-megapixels", 0, REAL, AT(megapixels), NONE, CMD_INDEX, "MP", "do not read larger pictures (default 67)"},
    {"batch-size|batch|indexing-batch-size", 'b', INT, AT(batch), NONE, CMD_INDEX, "N",
     "pictures that are encoded, and committed, together (default 32)"},
    {"rebuild", 0, FLAG, AT(rebuild), NONE, CMD_INDEX, NULL, "forget what is there: another model, a damaged index"},
    {"watch", 0, FLAG, AT(watch), NONE, CMD_INDEX, NULL, "go on, and look again whenever something changes; Ctrl-C ends it"},
    {"check", 0, FLAG, AT(check), NONE, CMD_INDEX, NULL, "read the whole index and tell whether it is sound; change nothing"},
    {"failures", 0, FLAG, AT(failures), NONE, CMD_INDEX, NULL, "list pictures that could not be read, and why; change nothing"},
    {"import", 0, TEXT, AT(import), NONE, CMD_INDEX, "FILE.npy", "vectors made elsewhere by the same model, of the paths in FILE.paths"},
    {"add", 'a', LIST, NONE, NONE, CMD_SEARCH, "TERM", "more of this, too; or + TERM. Before a term may be its weight, 2:cat"},
    {"subtract|sub", 's', LIST, NONE, NONE, CMD_SEARCH, "TERM", "less of this; or - TERM"},
    {"top", 't', INT, AT(top), AT(has_top), CMD_SEARCH, "N", "the N best (default 10; 0, and with --threshold: all)"},
    {"threshold", 0, REAL, AT(threshold), AT(has_threshold), CMD_SEARCH, "S", "only scores of S and more"},
    {"auto", 0, FLAG, AT(automatic), NONE, CMD_SEARCH, NULL, "cut the list where this query's scores fall most"},
    {"template", 0, LIST, NONE, NONE, CMD_SEARCH, "TEXT", "text about a term, which stands for {}; several are averaged"},
    {"queries", 0, TEXT, AT(queries), NONE, CMD_SEARCH, "FILE", "a query a line, all at once; - is stdin"},
    {"filepath-only|files", 'f', FLAG, AT(only_paths), NONE, CMD_SEARCH, NULL, "only paths, as they are, one a line"},
    {"null", '0', FLAG, AT(zero), NONE, CMD_INDEX | CMD_SEARCH, NULL, "only paths, each ended by a zero byte; also for --export and --import"},
    {"sheet", 0, TEXT, AT(sheet), NONE, CMD_SEARCH, "FILE.png", "also a sheet of thumbnails with their scores"},
    {"preview", 'p', FLAG, AT(preview), NONE, CMD_SEARCH, NULL, "also the pictures, in the terminal"},
    {"duplicates", 0, FLAG, AT(duplicates), NONE, CMD_SEARCH, NULL, "instead of a query: groups of the same pictures, then of similar ones"},
    {"distance", 0, REAL, AT(distance), NONE, CMD_SEARCH, "D", "with --duplicates: pictures are similar up to this cosine distance (default 0.05)"},
    {"export", 0, TEXT, AT(export), NONE, CMD_SEARCH, "FILE.npy", "instead of a query: all vectors, float32, and their paths as FILE.paths"},
    {"config", 0, TEXT, AT(config), NONE, PARTS_COMMANDS, "FOLDER",
     "diffusers folder that describes a single file of unusual shape, and has the parts that it lacks"},
    {"prompt", 'p', TEXT, AT(prompt), NONE, REQUEST, "TEXT", "the prompt (or as the first argument); - reads it from stdin"},
    {"prompt-file", 0, TEXT, AT(prompt_file), NONE, CMD_TXT2IMG, "FILE",
     "a prompt a line, - is stdin; a line that begins with - has options: -p \"a red apple\" -s 3 --steps 8"},
    {"from", 0, TEXT, AT(from), NONE, CMD_TXT2IMG | CMD_VIEW, "FILE",
     "make a picture again: what a picture of diffc, A1111, ComfyUI or sd.cpp (or a text of parameters) says; other options win over it"},
    {"negative-prompt|negative|neg-prompt", 'n', TEXT, AT(negative), NONE, REQUEST, "TEXT", "what the picture should not show"},
    {"prompt-syntax", 0, TEXT, AT(prompt_syntax), NONE, REQUEST | CMD_TOKENIZE, "NAME",
     "how prompts are read: a1111 (default: (weights:1.2), [edits:over:0.5] steps, BREAK, AND), comfyui, plain"},
    {"emphasis", 0, TEXT, AT(emphasis), NONE, REQUEST | CMD_TOKENIZE, "KIND",
     "what weights do: original (default), no-norm, ignore, none (brackets are text)"},
    {"wildcards", 0, TEXT, AT(wildcards), NONE, REQUEST | CMD_TOKENIZE, "FOLDER",
     "__name__ in a prompt is a line of FOLDER/name.txt, another one with every seed"},
    {"explain", 0, FLAG, AT(explain), NONE, CMD_TOKENIZE, NULL, "show what the prompt comes to: texts by step, tokens, weights, chunks"},
    {"init-img|image|init-image", 'i', TEXT, AT(image), NONE, REQUEST, "FILE", "start image (PNG, JPEG, WebP): img2img"},
    {"mask", 0, TEXT, AT(mask), NONE, REQUEST, "FILE", "with an inpaint model and -i: white is painted anew"},
    {"strength|denoising-strength", 0, REAL, AT(strength), AT(has_strength), REQUEST, "S",
     "with -i: share of the steps that is run, over 0 to 1 (default 0.75)"},
    {"width", 'W', INT, AT(width), NONE, MODEL_COMMANDS | CMD_LINE, "PIXELS", "width, a multiple of the VAE factor (default: the model's)"},
    {"height", 'H', INT, AT(height), NONE, MODEL_COMMANDS | CMD_LINE, "PIXELS", "height"},
    {"size|res", 0, SIZE, AT(width), NONE, MODEL_COMMANDS | CMD_LINE, "WxH", "both at once"},
    {"steps", 0, INT, AT(steps), AT(has_steps), REQUEST | CMD_SCHEDULE | CMD_TOKENIZE, "N", "sampling steps, 1 to 1000 (default: the model's)"},
    {"cfg-scale|cfg|guidance-scale", 'g', REAL, AT(guidance), AT(has_guidance), REQUEST, "C",
     "classifier-free guidance; 1 or less: none, half the work"},
    {"guidance-rescale", 0, REAL, AT(rescale), NONE, REQUEST, "R",
     "0 to 1: rescale guided output to the deviation of the unguided (Lin et al. 2023)"},
    {"sampler|sampling-method", 0, TEXT, AT(sampler), NONE, REQUEST | CMD_SCHEDULE, "SAMPLER",
     "spellings of A1111, ComfyUI and diffusers are taken too"},
    {"scheduler|schedule", 0, TEXT, AT(schedule), NONE, REQUEST | CMD_SCHEDULE, "SCHEDULE",
     "noise levels: model (the model's own), karras, ...; schedule takes several, separated by commas"},
    {"sigmas", 0, TEXT, AT(sigmas), NONE, REQUEST | CMD_SCHEDULE, "LIST", "own noise levels, descending, separated by commas"},
    {"eta", 0, REAL, AT(eta), NONE, REQUEST, "E", "share of fresh noise a step (ddim, euler_a)"},
    {"solver-order", 0, INT, AT(solver_order), NONE, REQUEST | CMD_SCHEDULE, "N", "1 to 3, of the solvers that have a choice (unipc, dpm++2m, deis)"},
    {"solver-type", 0, TEXT, AT(solver_type), NONE, REQUEST | CMD_SCHEDULE, "midpoint|heun|bh1|bh2", "of dpm++2m and its kin, or of unipc"},
    {"s-churn", 0, REAL, AT(s_churn), NONE, REQUEST | CMD_SCHEDULE, "C", "churn of euler, heun, dpm2 (Karras et al. 2022)"},
    {"s-tmin", 0, REAL, AT(s_tmin), NONE, REQUEST | CMD_SCHEDULE, "SIGMA", "no churn below this noise level"},
    {"s-tmax", 0, REAL, AT(s_tmax), NONE, REQUEST | CMD_SCHEDULE, "SIGMA", "no churn above it; 0: no limit"},
    {"s-noise", 0, REAL, AT(s_noise), NONE, REQUEST | CMD_SCHEDULE, "F", "scale of the noise that a sampler adds; 0 is 1"},
    {"sigma-min", 0, REAL, AT(sigma_min), NONE, REQUEST | CMD_SCHEDULE, "SIGMA", "lowest level of k-diffusion's schedules; 0: the model's"},
    {"sigma-max", 0, REAL, AT(sigma_max), NONE, REQUEST | CMD_SCHEDULE, "SIGMA", "highest level of k-diffusion's schedules; 0: the model's"},
    {"rho", 0, REAL, AT(rho), NONE, REQUEST | CMD_SCHEDULE, "R", "exponent of k_karras and polyexponential; 0: 7 and 1"},
    {"plot", 0, TEXT, AT(plot), NONE, CMD_SCHEDULE, "FILE", "draw the noise levels, those of all schedules named, as a picture"},
    {"seed", 's', SEED, AT(seed), AT(has_seed), REQUEST | CMD_NOISE | CMD_TOKENIZE, "N",
     "seed of the first picture; -1: random (default), always printed"},
    {"rng", 0, TEXT, AT(rng), NONE, REQUEST | CMD_NOISE | CMD_SCHEDULE, "cpu|cuda|a1111|a1111-cpu|comfyui|comfyui-gpu|comfyui-cpu|diffusers",
     "random numbers: one of torch's generators a picture (default cpu), or as a program draws them"},
    {"variation-seed|subseed", 0, SEED, AT(variation_seed), AT(has_variation_seed), REQUEST | CMD_NOISE, "N",
     "seed of the first picture's variation; -1: random (default)"},
    {"variation-strength|subseed-strength", 0, REAL, AT(variation_strength), NONE, REQUEST | CMD_NOISE, "S",
     "0 to 1: how far the start noise is turned towards the variation's"},
    {"seed-resize-from", 0, SIZE, AT(resize_width), NONE, REQUEST | CMD_NOISE, "WxH", "start noise of a picture of that size in the middle"},
    {"ensd", 0, WHOLE, AT(ensd), NONE, REQUEST, "N", "eta noise seed delta: noises of steps come from seed + N"},
    {"batch-count|count", 'b', INT, AT(count), NONE, REQUEST, "N", "pictures to make, with seeds N, N+1, ..."},
    {"batch-size|batch", 0, INT, AT(batch), NONE, MODEL_COMMANDS | CMD_LINE, "N",
     "pictures in one pass, 1 to 64 (bench unet: with guidance each counts twice)"},
    {"keep-best", 0, INT, AT(keep_best), AT(has_keep_best), CMD_TXT2IMG, "K",
     "write only the K pictures of each prompt that are most like it, best first (by cosine of CLIP, with -b N)"},
    {"clip", 0, TEXT, AT(clip), NONE, CMD_TXT2IMG, "PATH", "with --keep-best: the CLIP model (default: the one that comes with diffc)"},
    {"clip-skip", 0, INT, AT(clip_skip), NONE, REQUEST, "N", "text layer counted from the last: 1 last, 2 the one before"},
    {"unet|diffusion-model", 0, TEXT, AT(unet), NONE, PARTS_COMMANDS, "PATH", "another UNet: a component folder or a file"},
    {"text-encoder|clip_l", 0, TEXT, AT(text_encoder), NONE, PARTS_COMMANDS, "PATH", "another text encoder"},
    {"text-encoder-2|clip_g", 0, TEXT, AT(text_encoder_2), NONE, PARTS_COMMANDS, "PATH", "another second text encoder (SDXL)"},
    {"vae", 0, TEXT, AT(vae), NONE, PARTS_COMMANDS, "PATH", "another VAE: a component folder or a file"},
    {"taesd|tae", 0, TEXT, AT(taesd), NONE, MODEL_COMMANDS, "PATH", "a TAESD (AutoencoderTiny) in place of the VAE: faster, less exact"},
    {"taesd-preview-only", 0, FLAG, AT(taesd_preview_only), NONE, MODEL_COMMANDS & ~CMD_BENCH, NULL, "the TAESD is for previews; the VAE decodes"},
    {"preview|preview-method", 0, TEXT, AT(preview_kind), NONE, REQUEST, "none|proj|tae|vae",
     "previews while sampling: a pixel a latent (proj), by the tiny decoder (tae), by the VAE; default none, or where one is asked for by an option "
     "below the best that the model has"},
    {"preview-path", 0, TEXT, AT(preview_path), NONE, REQUEST & ~CMD_VIEW, "FILE",
     "where to, replaced by the next (default preview.png); of a batch its first picture, or each with %d in the name"},
    {"preview-interval", 0, INT, AT(preview_interval), NONE, REQUEST, "N",
     "a preview every N steps; 0 (default): as often as takes a twelfth of the time at most; none of the last"},
    {"preview-terminal", 0, FLAG, AT(preview_terminal), NONE, CMD_TXT2IMG, NULL,
     "draw previews, and the pictures, in the terminal (of a batch its first)"},
    {"show", 0, FLAG, AT(show), NONE, CMD_TXT2IMG, NULL, "draw the pictures in the terminal, when they are finished"},
    {"vae-tiling", 0, FLAG, AT(vae_tiling), NONE, REQUEST, NULL, "decode in overlapping tiles: less memory, not the same bytes"},
    {"precision|type", 0, TEXT, AT(precision), NONE, COMPUTING, "auto|f32|bf16|f16|int8",
     "arithmetic: auto is f32, on a GPU f16; bf16 (linear layers, attention), int8 (the UNet's linear layers)"},
    {"precision|type", 0, TEXT, AT(precision), NONE, CMD_CONVERT, "auto|f32|f16|bf16",
     "type of the numbers; auto: as stored, but f16 for what is narrower than 16 bits"},
    {"precision|type", 0, TEXT, AT(precision), NONE, CLIP_COMMANDS, "auto|f32|bf16|f16", "arithmetic: auto is f32, on a GPU f16"},
    {"device", 0, TEXT, AT(device), NONE, COMPUTING | CLIP_COMMANDS, "auto|cpu|cuda", "what computes: auto is an NVIDIA GPU where there is one"},
    {"cpu", 0, TEXT, AT(cpu), NONE, COMPUTING | CLIP_COMMANDS, "auto|portable|avx2|avx512|avx512vnni|avx512bf16",
     "instruction set: no higher than this"},
    {"deterministic", 0, FLAG, AT(deterministic), NONE, COMPUTING | CLIP_COMMANDS, NULL, "on a GPU: algorithms by rule, not the fastest measured"},
    {"max-vram", 0, BYTES, AT(max_vram), NONE, COMPUTING | CLIP_COMMANDS, "BYTES", "most memory to take of a GPU, e.g. 6G"},
    {"exact", 0, FLAG, AT(exact), NONE, COMPUTING, NULL, "only algorithms without approximation"},
    {"threads", 0, INT, AT(threads), NONE, CMD_SEARCH, "N", "threads (default: all usable CPUs)"},
    {"threads", 't', INT, AT(threads), NONE, COMPUTING | (CLIP_COMMANDS & ~CMD_SEARCH), "N",
     "threads (default: all usable CPUs); the result does not depend on it"},
    {"max-memory", 0, BYTES, AT(max_memory), NONE, CMD_TXT2IMG | CMD_VIEW, "BYTES",
     "refuse a plan that takes more (suffixes k, M, G); to fit, the VAE works in strips, with the same result"},
    {"save-latent", 0, TEXT, AT(save_latent), NONE, REQUEST & ~CMD_VIEW, "FILE",
     "also the final latent as .npy, float32 [1,C,h,w], as the VAE is given it"},
    {"trace", 0, TEXT, AT(trace), NONE, CMD_TXT2IMG, "FOLDER", "every named activation as FOLDER/PART/NAME.npy (NCHW)"},
    {"window", 0, FLAG, AT(window), NONE, CMD_TXT2IMG, NULL, "show the pictures while they form in a window; it stays until it is closed"},
    {"live", 0, FLAG, AT(live), NONE, CMD_VIEW, NULL, "draw while you type (F2)"},
    {"light", 0, FLAG, AT(light), NONE, CMD_VIEW | CMD_TXT2IMG, NULL, "the window in light colours (Ctrl+T)"},
    {"scale", 0, REAL, AT(scale), NONE, CMD_VIEW | CMD_TXT2IMG, "F", "of everything in the window (F9, F10; default: as the screen asks)"},
    {"event-log", 0, TEXT, AT(event_log), NONE, CMD_VIEW | CMD_TXT2IMG, "FILE", "what happens in the window and when, an object a line"},
    {"dry-run", 0, FLAG, AT(dry_run), NONE, CMD_TXT2IMG, NULL, "print what it would take, do nothing"},
    {"profile", 0, FLAG, AT(profile), NONE, MODEL_COMMANDS & ~CMD_VIEW, NULL, "print the time of every kind of layer"},
    {"plan", 0, FLAG, AT(plan), NONE, CMD_BENCH, NULL, "print how each layer would be computed, and why; run nothing"},
    {"quick", 0, FLAG, AT(quick), NONE, CMD_SELFTEST, NULL, "fewer and smaller cases"},
    {"hash", 0, FLAG, AT(hash), NONE, CMD_INSPECT, NULL, "also SHA-256 and AutoV2 of each model file"},
    {"seconds", 0, REAL, AT(seconds), NONE, CMD_BENCH, "S", "how long to measure (default 5; at least 3 rounds, 1 with 0)"},
    {"tokenizer", 0, TEXT, AT(tokenizer), NONE, CMD_TOKENIZE, "FOLDER", "a tokenizer folder (vocab.json, merges.txt)"},
    {"shape", 0, TEXT, AT(shape), NONE, CMD_NOISE, "A,B,..", "shape of the array, e.g. 1,4,64,64"},
    {"prediction", 0, TEXT, AT(prediction), NONE, PARTS_COMMANDS | CMD_SCHEDULE, "epsilon|v|sample", "what the UNet predicts (default: the model's)"},
    {"output|out", 'o', TEXT, AT(output), NONE, CMD_EMBED, "FILE", "the vectors as .npy, float32 [N,numbers], rows of length 1; - is stdout"},
    {"output|out", 'o', TEXT, AT(output), NONE, REQUEST | CMD_NOISE | CMD_BENCH | CMD_CONVERT, "FILE",
     "where to; - is stdout. Pictures: .png, .jpg or .webp; %04d is the next free number; {seed}, {prompt}, {model}, {sampler}, {steps}, {cfg}, "
     "{width}, {height}, "
     "{date}, {time} (default diffc-%04d.png). bench: what came out, .npy"},
    {"quality", 0, INT, AT(quality), NONE, REQUEST, "N", "of JPEG and WebP, 1 to 100 (default 90)"},
    {"lossless", 0, FLAG, AT(lossless), NONE, REQUEST, NULL, "WebP without loss"},
    {"json", 0, FLAG, AT(json), NONE, CLIP_COMMANDS, NULL, "results as JSON, an object a line (and errors)"},
    {"json", 0, FLAG, AT(json), NONE,
     CMD_TXT2IMG | CMD_INSPECT | CMD_SCHEDULE | CMD_BENCH | CMD_VERSION | CMD_TOKENIZE | CMD_NOISE | CMD_CONVERT | CMD_SELFTEST, NULL,
     "results (and errors) as JSON"},
    {"progress", 0, TEXT, AT(progress), NONE, (PARTS_COMMANDS & ~CMD_BENCH & ~CMD_VIEW) | CMD_INDEX | CMD_SEARCH, "auto|bar|json|none",
     "on stderr; auto: a bar on a terminal; json: an object a line, errors too"},
    {"quiet", 'q', FLAG, AT(quiet), NONE, PARTS_COMMANDS | CLIP_COMMANDS | CMD_SELFTEST, NULL, "errors only"},
    {"verbose", 'v', FLAG, AT(verbose), NONE, PARTS_COMMANDS | CLIP_COMMANDS | CMD_SELFTEST, NULL, "also notes"},
    {"no-defaults", 0, FLAG, AT(no_defaults), NONE, ~0u, NULL, "do not read the file of defaults"},
    {"help", 'h', FLAG, AT(help), NONE, ~0u, NULL, "this text"},
};
enum { OPTIONS = sizeof table / sizeof *table };
_Static_assert((int)OPTIONS <= (int)MOST_OPTIONS, "room in settings.given");

/* Does the option carry this long name (length n)? */
static bool named(const option *o, const char *name, size_t n)
{
    for (const char *at = o->name; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (!strncmp(at, name, n) && (at[n] == 0 || at[n] == '|')) return true;
    return false;
}

static const option *find_long(const char *name, size_t n, unsigned bit)
{
    for (int i = 0; i < OPTIONS; i++)
        if ((table[i].commands & bit) && named(&table[i], name, n)) return &table[i];
    return NULL;
}

static const option *find_letter(char letter, unsigned bit)
{
    for (int i = 0; i < OPTIONS; i++)
        if ((table[i].commands & bit) && table[i].letter == letter) return &table[i];
    return NULL;
}

bool parse_bytes(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    double unit = 1;
    if (end == text || errno || !(v >= 0)) return false;
    switch (*end) {
    case 'k':
    case 'K':
        unit = 1024.0;
        end++;
        break;
    case 'm':
    case 'M':
        unit = 1024.0 * 1024;
        end++;
        break;
    case 'g':
    case 'G':
        unit = 1024.0 * 1024 * 1024;
        end++;
        break;
    default: break;
    }
    if (*end == 'i') end++;
    if (*end == 'B') end++;
    if (*end || v * unit >= 1.8e19) return false;
    *out = (uint64_t)(v * unit);
    return true;
}

static int bad_value(const settings *s, const option *o, const char *found, const char *expected)
{
    return report(s->bad, "", "%s%s%.*s: found \"%s\", expected %s", s->where ? s->where : "", s->where ? ": " : "", (int)strcspn(o->name, "|"),
                  o->name, found, expected);
}

/* from: the option; NULL for a positional argument. */
static int add_item(settings *s, const char *from, const char *value)
{
    if (s->n_items == s->items_room) {
        int room = s->items_room ? 2 * s->items_room : 16;
        item *more = realloc(s->item, (size_t)room * sizeof *more);
        if (!more) return report(DIFFC_NO_MEMORY, "", "arguments: out of memory");
        s->item = more, s->items_room = room;
    }
    s->item[s->n_items++] = (item){from, value};
    return 0;
}

static int store(settings *s, const option *o, const char *text)
{
    if (o->kind == LIST) return add_item(s, o->name, text);
    char *at = (char *)s + o->offset, *end;
    errno = 0;
    switch (o->kind) {
    case FLAG: *(bool *)at = true; break;
    case TEXT: *(const char **)at = text; break;
    case REAL:
        *(double *)at = strtod(text, &end);
        if (end == text || *end || errno || !isfinite(*(double *)at)) return bad_value(s, o, text, "a number");
        break;
    case INT: {
        long v = strtol(text, &end, 10);
        if (end == text || *end) return bad_value(s, o, text, "a whole number");
        if (errno || v > 1000000000L || v < -1000000000L) return bad_value(s, o, text, "a number of this world");
        *(int *)at = (int)v;
        break;
    }
    case WHOLE:
        *(int64_t *)at = strtoll(text, &end, 10);
        if (end == text || *end || errno) return bad_value(s, o, text, "a whole number");
        break;
    case SEED: {
        bool negative = text[0] == '-';
        if (negative) *(int64_t *)at = strtoll(text, &end, 10);
        else *(int64_t *)at = (int64_t)strtoull(text, &end, 10);
        if (end == text || *end || errno || (negative && *(int64_t *)at != -1))
            return bad_value(s, o, text, "a whole number from 0 to 2^64-1, or -1 for a random one");
        s->given[o - table] |= s->bad == DIFFC_USAGE;
        if (negative) return 0; /* random: as if not given */
        break;
    }
    case SIZE: {
        int used = 0;
        if (sscanf(text, "%dx%d%n", (int *)at, (int *)at + 1, &used) != 2 || text[used])
            return bad_value(s, o, text, "WIDTHxHEIGHT, such as 512x768");
        break;
    }
    case LIST: break; /* was added above */
    case BYTES:
        if (!parse_bytes(text, (uint64_t *)at)) return bad_value(s, o, text, "bytes, such as 800M or 2.5G");
        break;
    }
    if (o->has != NONE) *(bool *)((char *)s + o->has) = true;
    s->given[o - table] |= s->bad == DIFFC_USAGE;
    return 0;
}

bool options_given(const settings *s, const char *name)
{
    const option *o = find_long(name, strlen(name), CMD_TXT2IMG);
    return o && s->given[o - table];
}

/* What of the table belongs to `bit`, as "--name" (dashes) or "name", near `word`; into near. */
static void near_options(char *near, size_t size, const char *word, unsigned bit, const char *dashes)
{
    const char *names[OPTIONS];
    char held[OPTIONS][40];
    int k = 0;
    for (int i = 0; i < OPTIONS; i++)
        if (table[i].commands & bit) {
            snprintf(held[k], sizeof held[k], "%s%.*s", dashes, (int)strcspn(table[i].name, "|"), table[i].name);
            names[k] = held[k];
            k++;
        }
    diffc_nearest_names(near, size, word, names, k);
}

static int unknown_option(const settings *s, const char *found, size_t n, unsigned bit)
{
    char word[64], near[256], hint[400];
    snprintf(word, sizeof word, "%.*s", (int)(n < 60 ? n : 60), found);
    near_options(near, sizeof near, word, bit, "--");
    snprintf(hint, sizeof hint, *near ? "Did you mean %s? `diffc %s --help` lists all." : "%s`diffc %s --help` lists all options.", near,
             s->command->name);
    if (bit == CMD_LINE) return report(DIFFC_USAGE, hint, "%s: option: found %s, expected one that a single picture can have", s->where, word);
    return report(DIFFC_USAGE, hint, "option: found %s, which %s does not have", word, s->command->name);
}

/* words[*i] is an option of `bit`; takes its value too. */
static int take_option(settings *s, unsigned bit, int n_words, char **words, int *i)
{
    const char *word = words[*i];
    bool dashes = word[1] == '-';
    const char *equals = dashes ? strchr(word, '=') : NULL;
    size_t n = dashes ? (equals ? (size_t)(equals - word) : strlen(word)) : 2;
    const option *o = dashes ? find_long(word + 2, n - 2, bit) : find_letter(word[1], bit);
    if (!o) return unknown_option(s, word, n, bit);
    const char *value = equals ? equals + 1 : !dashes && word[2] ? word + 2 : NULL;
    if (o->kind == FLAG) {
        if (equals || value) return bad_value(s, o, value, "no value");
        return store(s, o, NULL);
    }
    if (!value && *i + 1 >= n_words)
        return report(DIFFC_USAGE, "", "%s%s%.*s: found nothing after it, expected %s", s->where ? s->where : "", s->where ? ": " : "", (int)n, word,
                      o->value);
    if (!value) value = words[++*i];
    return store(s, o, value);
}

static int take_words(settings *s, unsigned bit, int n, char **words)
{
    bool only_words = false;
    for (int i = 0; i < n; i++) {
        const char *word = words[i];
        if (!only_words && !strcmp(word, "--")) {
            only_words = true;
        } else if (!only_words && word[0] == '-' && word[1]) {
            int code = take_option(s, bit, n, words, &i);
            if (code) return code;
        } else if (bit & MANY_WORDS) {
            int code = add_item(s, NULL, word);
            if (code) return code;
        } else if (s->n_words < (int)(sizeof s->word / sizeof *s->word)) {
            s->word[s->n_words++] = word;
        } else {
            return report(DIFFC_USAGE, "Put a prompt of several words in quotes.", "arguments: found more than %d, expected fewer", s->n_words);
        }
    }
    return 0;
}

static const command *find_command(const command *commands, int n, const char *word)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(commands[i].name, word)) return &commands[i];
    return NULL;
}

static int unknown_command(const char *found, const command *commands, int n)
{
    const char *names[32];
    char near[256], hint[400];
    for (int i = 0; i < n; i++) names[i] = commands[i].name;
    diffc_nearest_names(near, sizeof near, found, names, n);
    snprintf(hint, sizeof hint, *near ? "Did you mean %s? `diffc --help` lists all." : "%s`diffc --help` lists the commands.", near);
    return report(DIFFC_USAGE, hint, "command: found %s, which diffc does not have", found);
}

int options_parse(settings *s, const command *commands, int n_commands, int argc, char **argv)
{
    *s = (settings){.eta = -1, .strength = 0.75, .seconds = 5, .count = 1, .batch = 1, .distance = 0.05};
    s->command = find_command(commands, n_commands, argv[1]);
    if (!s->command) return unknown_command(argv[1], commands, n_commands);
    bool defaults = true;
    for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (!strcmp(argv[i], "--json")) report_as_json(true); /* what is told about the other options too */
        if (!strcmp(argv[i], "--no-defaults")) defaults = false;
    }
    int code = defaults ? defaults_read(s, commands, n_commands) : 0;
    s->where = NULL;
    s->bad = DIFFC_USAGE;
    if (!code) code = take_words(s, s->command->bit, argc - 2, argv + 2);
    if (s->json || (s->progress && !strcmp(s->progress, "json"))) report_as_json(true);
    return code;
}

int options_parse_line(settings *s, const char *where, int n, char **words)
{
    s->where = where;
    s->bad = DIFFC_USAGE;
    s->n_words = 0;
    return take_words(s, CMD_LINE, n, words);
}

int options_default(settings *s, const char *where, const char *name, const char *value)
{
    static const char *const truth[][2] = {{"true", "false"}, {"yes", "no"}, {"on", "off"}, {"1", "0"}};
    size_t n = strlen(name);
    const option *o = find_long(name, n, s->command->bit);
    s->where = where;
    if (!o && find_long(name, n, ~0u)) return 0; /* another command's */
    if (!o) {
        char near[256], hint[400];
        near_options(near, sizeof near, name, ~0u, "");
        snprintf(hint, sizeof hint, *near ? "Did you mean %s?" : "%sThe names are those of the long options, without dashes.", near);
        return report(DIFFC_DATA, hint, "%s: found %s, expected the name of an option", where, name);
    }
    s->bad = DIFFC_DATA;
    if (o->kind != FLAG) return store(s, o, value);
    for (size_t i = 0; i < sizeof truth / sizeof *truth; i++) {
        if (!strcmp(value, truth[i][0])) return store(s, o, NULL);
        if (!strcmp(value, truth[i][1])) return 0;
    }
    return bad_value(s, o, value, "true or false");
}

const option *options_table(int *n)
{
    *n = OPTIONS;
    return table;
}

void options_free(settings *s)
{
    free(s->defaults);
    free(s->item);
}

void options_help(const command *c)
{
    printf("usage: diffc %s %s\n%s\n", c->name, c->arguments, c->summary);
    if (c->details) printf("\n%s\n", c->details);
    printf("\noptions:\n");
    for (int i = 0; i < OPTIONS; i++) {
        const option *o = &table[i];
        if (!(o->commands & c->bit)) continue;
        char left[80];
        snprintf(left, sizeof left, "%s%c%s--%.*s%s%s", o->letter ? "-" : " ", o->letter ? o->letter : ' ', o->letter ? ", " : "  ",
                 (int)strcspn(o->name, "|"), o->name, o->value ? " " : "", o->value ? o->value : "");
        if (strlen(left) > 32) printf("  %s\n  %-32s %s\n", left, "", o->help);
        else printf("  %-32s %s\n", left, o->help);
    }
}
