/* comfyui.c - the graph that ComfyUI puts into its pictures, read as the fields of an A1111 text. A graph in API form is an object of nodes,
 * {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0], ..}}, ..}: an input is a value, or a link to a node's output.
 * Graphs are anything: every walk is bounded by a budget of steps, so that loops end. */
#include "base/json.h"
#include "pipeline/infotext.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUDGET 4096 /* steps of all walks together; graphs in use take some tens */
#define STACK  64

typedef struct graph {
    const json_t *root;
    infotext *x;
    int steps;
    const char *sampler; /* the id of the one that is taken */
} graph;

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

static const char *class_of(const json_t *node)
{
    const char *c = json_string_value(json_object_get(node, "class_type"));
    return c ? c : "";
}

static const json_t *input(const json_t *node, const char *name) { return json_object_get(json_object_get(node, "inputs"), name); }

/* The id that a link names; NULL: a value. */
static const char *link_of(const json_t *v)
{
    return json_is_array(v) && json_array_size(v) == 2 && json_is_integer(json_array_get(v, 1)) ? json_string_value(json_array_get(v, 0)) : NULL;
}

/* The node behind a link; NULL when there is none, or the budget is spent. */
static const json_t *follow(graph *g, const json_t *v)
{
    const char *id = link_of(v);
    return id && g->steps++ < BUDGET ? json_object_get(g->root, id) : NULL;
}

/* The first of the inputs (names ending in NULL) that a node has. */
static const json_t *first_input(const json_t *node, const char *const *names)
{
    for (; *names; names++)
        if (input(node, *names)) return input(node, *names);
    return NULL;
}

static bool is_one_of(const char *word, const char *const *words)
{
    for (; *words; words++)
        if (!strcmp(word, *words)) return true;
    return false;
}

/* A node that changes the picture and is not followed: a field of its class, with what it says and why not. */
static void tell_node(graph *g, const json_t *node, const char *value, const char *why)
{
    char key[128];
    snprintf(key, sizeof key, "%.100s", *class_of(node) ? class_of(node) : "a node without a class");
    const char *before = info_get(g->x, key);
    if (before && value && !strstr(before, value) && strlen(before) < 1000) { /* several LoRAs */
        dc_text both = {0};
        dc_text_printf(&both, "%s, %s", before, value);
        if (both.at) info_set(g->x, key, both.at, why);
        else g->x->failed = true;
        dc_text_free(&both);
        return;
    }
    if (!before) info_set(g->x, key, value ? value : "", why);
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* A number or name, through the nodes that only hold one. NULL: something else. */
static const json_t *value_of(graph *g, const json_t *v)
{
    static const char *const holds[] = {"value", "seed", "noise_seed", "int", "float", "number", "Number", "INT", "FLOAT", "string", "text", NULL};
    for (int i = 0; i < STACK && link_of(v); i++) v = first_input(follow(g, v), holds);
    return json_is_number(v) || json_is_string(v) ? v : NULL;
}

static void take_value(graph *g, const char *key, const json_t *v)
{
    char real[64];
    v = value_of(g, v);
    if (json_is_string(v)) info_set(g->x, key, json_string_value(v), NULL);
    else if (json_is_integer(v)) info_setf(g->x, key, "%lld", (long long)json_integer_value(v));
    else if (v) info_real(real, json_real_value(v)), info_set(g->x, key, real, NULL);
}

static double number_of(graph *g, const json_t *v, double absent)
{
    v = value_of(g, v);
    return json_is_number(v) ? json_number_value(v) : absent;
}

/* A text, through the nodes that hold one or put several together. */
static void take_text(graph *g, const json_t *v, dc_text *out)
{
    static const char *const holds[] = {"value", "string", "text", "populated_text", "prompt", "STRING", NULL};
    static const char *const joins[] = {"string_a", "text_a",  "text1",  "string1", "string_b", "text_b",
                                        "text2",    "string2", "text_c", "text3",   "text_d",   "text4"};
    const json_t *stack[STACK];
    int n = 0;
    stack[n++] = v;
    while (n && out->length < 1u << 20) {
        v = stack[--n];
        if (json_is_string(v)) {
            dc_text_append(out, json_string_value(v), json_string_length(v));
            continue;
        }
        const json_t *node = follow(g, v), *between = input(node, "delimiter");
        int first = n;
        for (int i = (int)(sizeof joins / sizeof *joins) - 1; i >= 0; i--) {
            if (!input(node, joins[i]) || n + 2 > STACK) continue;
            if (n > first && json_is_string(between)) stack[n++] = between;
            stack[n++] = input(node, joins[i]);
        }
        const json_t *held = first_input(node, holds);
        if (n == first && held && n < STACK) stack[n++] = held;
    }
}

/* ---- the model, its text encoder and VAE -------------------------------------------------------------------------- */

static const char *const lora_classes[] = {"LoraLoader", "LoraLoaderModelOnly", NULL};

static void walk_model(graph *g, const json_t *link)
{
    static const char *const names[] = {"ckpt_name", "unet_name", "model_name", NULL};
    for (const json_t *node; (node = follow(g, link)); link = input(node, "model")) {
        const json_t *name = first_input(node, names);
        if (name && !input(node, "model")) {
            take_value(g, "Model", name);
            return;
        }
        if (is_one_of(class_of(node), lora_classes)) tell_node(g, node, json_string_value(input(node, "lora_name")), "no LoRA yet");
        else tell_node(g, node, json_string_value(input(node, "sampling")), "a change of the model that is not there yet");
    }
}

static void walk_clip(graph *g, const json_t *link)
{
    for (const json_t *node; (node = follow(g, link)); link = input(node, "clip")) {
        double layer = number_of(g, input(node, "stop_at_clip_layer"), 0);
        if (!strcmp(class_of(node), "CLIPSetLastLayer") && layer <= -1 && layer >= -64) {
            if (!info_get(g->x, "Clip skip")) info_setf(g->x, "Clip skip", "%d", (int)-layer);
        } else if (is_one_of(class_of(node), lora_classes)) {
            tell_node(g, node, json_string_value(input(node, "lora_name")), "no LoRA yet");
        } else if (!input(node, "ckpt_name")) {
            tell_node(g, node, json_string_value(input(node, "clip_name")), "another text encoder: give it with --text-encoder");
        }
    }
}

/* The VAE that decodes what the sampler made. */
static void find_vae(graph *g)
{
    const char *id;
    json_t *node;
    json_object_foreach((json_t *)g->root, id, node)
    {
        const char *from = link_of(input(node, "samples"));
        if (strncmp(class_of(node), "VAEDecode", 9) || !from || strcmp(from, g->sampler)) continue;
        const json_t *vae = follow(g, input(node, "vae"));
        if (json_is_string(input(vae, "vae_name"))) take_value(g, "VAE", input(vae, "vae_name"));
        return;
    }
}

/* ---- prompts ----------------------------------------------------------------------------------------------------- */

/* *out: the text that a conditioning comes from, in a new string; NULL: none, or it is zeros. */
static void walk_conditioning(graph *g, const json_t *link, char **out)
{
    static const char *const texts[] = {"text", "text_g", "text_l", NULL};
    static const char *const on[] = {"conditioning", "conditioning_to", "conditioning_1", "cond", NULL};
    *out = NULL;
    for (const json_t *node; (node = follow(g, link));) {
        if (!strncmp(class_of(node), "CLIPTextEncode", 14) && first_input(node, texts)) {
            dc_text one = {0}, other = {0};
            take_text(g, first_input(node, texts), &one);
            if (input(node, "text_l") && input(node, "text_g")) take_text(g, input(node, "text_l"), &other);
            if (other.at && strcmp(other.at, one.at ? one.at : "") != 0) tell_node(g, node, other.at, "a second text for CLIP-L: both get the first");
            *out = strndup(one.at ? one.at : "", one.length);
            g->x->failed |= !*out || one.failed || other.failed;
            walk_clip(g, input(node, "clip"));
            dc_text_free(&one);
            dc_text_free(&other);
            return;
        }
        if (!strcmp(class_of(node), "ConditioningZeroOut")) return;
        tell_node(g, node, NULL, "a change of the conditioning that is not there yet");
        bool second = json_integer_value(json_array_get(link, 1)) == 1;
        const json_t *next = first_input(node, on);
        link = next ? next : input(node, second ? "negative" : "positive");
    }
}

/* ---- samplers ---------------------------------------------------------------------------------------------------- */

static const char *const sampler_classes[] = {"KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced", NULL};

/* Where a sampler's latents come from. */
typedef enum origin { FROM_NOTHING, FROM_SAMPLER, FROM_PICTURE, FROM_NOISE } origin;

static origin origin_of(graph *g, const json_t *sampler, const json_t **at)
{
    static const char *const on[] = {"samples", "latent", "latent_image", "samples1", "samples_to", NULL};
    const json_t *link = input(sampler, "latent_image");
    for (const json_t *node; (node = follow(g, link)); link = first_input(node, on)) {
        *at = node;
        if (is_one_of(class_of(node), sampler_classes)) return FROM_SAMPLER;
        if (input(node, "pixels")) return FROM_PICTURE;
        if (!strncmp(class_of(node), "Empty", 5) || (input(node, "width") && input(node, "height") && !first_input(node, on))) return FROM_NOISE;
    }
    return FROM_NOTHING;
}

/* The ids of all that the nodes whose class has `word` in it come from, as the keys of an object. */
static json_t *reached_from(graph *g, const char *word)
{
    json_t *seen = json_object(), *node, *v;
    const char *id, *name;
    size_t n = 0, room = json_object_size(g->root);
    const char **stack = calloc(room + 1, sizeof *stack);
    g->x->failed |= !seen || !stack;
    if (seen && stack) json_object_foreach((json_t *)g->root, id, node) if (strstr(class_of(node), word))
        {
            json_object_set_new(seen, id, json_true());
            stack[n++] = id;
        }
    while (n) {
        node = json_object_get(json_object_get(g->root, stack[--n]), "inputs");
        json_object_foreach(node, name, v)
        {
            id = link_of(v);
            if (!id || json_object_get(seen, id) || !json_object_get(g->root, id)) continue;
            json_object_set_new(seen, id, json_true());
            stack[n++] = id;
        }
    }
    free(stack);
    return seen;
}

/* Of all samplers the one that a saved picture comes from and that begins with noise, or else with a picture; the others become fields. */
static const json_t *choose_sampler(graph *g)
{
    json_t *saved = reached_from(g, "Save"), *shown = reached_from(g, "Preview"), *node;
    const json_t *best = NULL, *at;
    const char *id;
    int most = -1;
    json_object_foreach((json_t *)g->root, id, node)
    {
        if (!is_one_of(class_of(node), sampler_classes)) continue;
        int worth = (int)origin_of(g, node, &at) + (json_object_get(saved, id) ? 20 : json_object_get(shown, id) ? 10 : 0);
        if (worth > most) most = worth, best = node, g->sampler = id;
    }
    json_object_foreach((json_t *)g->root, id, node)
    {
        char key[64];
        if (node == best || !is_one_of(class_of(node), sampler_classes) || !(json_object_get(saved, id) || json_object_get(shown, id))) continue;
        snprintf(key, sizeof key, "%s %.20s", class_of(node), id);
        info_set(g->x, key, "", "another pass, not there yet: the picture is the first pass's");
    }
    json_decref(saved);
    json_decref(shown);
    return best;
}

static void take_latent(graph *g, const json_t *sampler)
{
    const json_t *at = NULL;
    switch (origin_of(g, sampler, &at)) {
    case FROM_NOISE:
        take_value(g, "Size-1", input(at, "width"));
        take_value(g, "Size-2", input(at, "height"));
        if (number_of(g, input(at, "batch_size"), 1) > 1) take_value(g, "Batch size", input(at, "batch_size"));
        break;
    case FROM_PICTURE:
        at = follow(g, input(at, "pixels"));
        info_set(g->x, "Start image", json_is_string(input(at, "image")) ? json_string_value(input(at, "image")) : "", NULL);
        break;
    case FROM_SAMPLER: tell_node(g, at, NULL, "an earlier pass, which is not made"); break;
    case FROM_NOTHING: break;
    }
}

/* SamplerCustom's sigmas come from a node of their own. */
static void take_sigmas(graph *g, const json_t *link)
{
    static const struct {
        const char *class, *schedule;
    } known[] = {{"KarrasScheduler", "karras"},     {"ExponentialScheduler", "exponential"}, {"PolyexponentialScheduler", "polyexponential"},
                 {"BetaSamplingScheduler", "beta"}, {"AlignYourStepsScheduler", "ays"},      {"SDTurboScheduler", "sgm_uniform"}};
    for (const json_t *node; (node = follow(g, link)); link = input(node, "sigmas")) {
        take_value(g, "Schedule type", input(node, "scheduler"));
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (!strcmp(class_of(node), known[i].class)) info_set(g->x, "Schedule type", known[i].schedule, NULL);
        take_value(g, "Steps", input(node, "steps"));
        if (number_of(g, input(node, "denoise"), 1) < 1) take_value(g, "Denoising strength", input(node, "denoise"));
        if (input(node, "sigmas")) tell_node(g, node, NULL, "a change of the noise levels that is not there yet");
    }
}

static void take_sampler(graph *g, const json_t *s)
{
    const json_t *guider = follow(g, input(s, "guider")), *named = follow(g, input(s, "sampler")), *from = guider ? guider : s;
    double start = number_of(g, input(s, "start_at_step"), 0), end = number_of(g, input(s, "end_at_step"), 10000);
    take_value(g, "Steps", input(s, "steps"));
    take_value(g, "Sampler", input(s, "sampler_name") ? input(s, "sampler_name") : input(named, "sampler_name"));
    if (named && !strncmp(class_of(named), "Sampler", 7)) info_set(g->x, "Sampler", class_of(named) + 7, NULL); /* SamplerEulerAncestral, .. */
    if (named && input(named, "eta")) take_value(g, "Eta", input(named, "eta"));
    take_value(g, "Schedule type", input(s, "scheduler"));
    take_sigmas(g, input(s, "sigmas"));
    if (input(from, "cfg")) take_value(g, "CFG scale", input(from, "cfg"));
    else if (guider) info_set(g->x, "CFG scale", "1", NULL);
    const json_t *noise = follow(g, input(s, "noise"));
    take_value(g, "Seed", input(s, "seed") ? input(s, "seed") : input(s, "noise_seed") ? input(s, "noise_seed") : input(noise, "noise_seed"));
    take_latent(g, s);
    if (number_of(g, input(s, "denoise"), 1) < 1 || info_get(g->x, "Start image")) take_value(g, "Denoising strength", input(s, "denoise"));
    walk_model(g, input(from, "model"));
    find_vae(g);
    if (start > 0) info_setf(g->x, "Start at step", "%d", start < 1e6 ? (int)start : 1000000);
    if (end < number_of(g, input(s, "steps"), 0)) info_setf(g->x, "End at step", "%d", end > 0 ? (int)end : 0);
    walk_conditioning(g, input(from, "positive") ? input(from, "positive") : input(from, "conditioning"), &g->x->prompt);
    walk_conditioning(g, input(from, "negative"), &g->x->negative);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

/* Python writes what JSON has not (NaN), and whole numbers beyond 2^63, which our JSON has not: they become null and strings. */
static void relax(dc_text *out, const char *text, size_t n)
{
    for (size_t i = 0, from; i < n;) {
        from = i;
        if (text[i] == '"') {
            for (i++; i < n && text[i] != '"'; i++) i += text[i] == '\\';
            i = i < n ? i + 1 : n;
            dc_text_append(out, text + from, i - from);
            continue;
        }
        size_t k = strspn(text + i, "0123456789"), skip = text[i] == '-' ? 1 : 0;
        bool real = k && text[i + k] && strchr(".eE", text[i + k]);
        if (!strncmp(text + i + skip, "Infinity", 8) || !strncmp(text + i, "NaN", 3)) {
            i += text[i] == 'N' ? 3 : 8 + skip;
            dc_text_append(out, "null", 4);
        } else if (k > 18 && !real && (!i || !strchr(".-+eE", text[i - 1]))) {
            dc_text_printf(out, "\"%.*s\"", (int)k, text + i);
            i += k;
        } else {
            i += k ? k : 1;
            dc_text_append(out, text + from, i - from);
        }
    }
}

static dc_status read_graph(infotext *x, const char *name, const json_t *root, dc_error *e)
{
    graph g = {.root = root, .x = x};
    if (json_is_array(json_object_get(root, "nodes"))) {
        dc_fail(e, DC_DATA, "%s: ComfyUI graph: found the editor's form, expected the API's", name);
        dc_hint(e, "ComfyUI's menu exports it: Workflow > Export (API). Pictures of it hold it too.");
        return DC_DATA;
    }
    const json_t *sampler = json_is_object(root) ? choose_sampler(&g) : NULL;
    if (x->failed) return dc_fail_memory(e, name, 0);
    if (!sampler) return dc_fail(e, DC_DATA, "%s: ComfyUI graph: found no sampler, expected KSampler, KSamplerAdvanced or SamplerCustom", name);
    take_sampler(&g, sampler);
    if (!x->prompt && !(x->prompt = strdup(""))) x->failed = true;
    return x->failed ? dc_fail_memory(e, name, 0) : DC_OK;
}

dc_status comfyui_read(infotext *x, const char *name, const char *text, size_t n, dc_error *e)
{
    dc_text plain = {0};
    json_t *root = NULL;
    *x = (infotext){.source = INFO_COMFYUI};
    if (n > 1u << 20) return dc_fail(e, DC_DATA, "%s: ComfyUI graph: found %zu bytes, expected at most %u", name, n, 1u << 20);
    relax(&plain, text, strnlen(text, n));
    dc_status s = plain.failed ? dc_fail_memory(e, name, n) : dc_json_parse(&root, name, plain.at ? plain.at : "", plain.length, e);
    if (!s) s = read_graph(x, name, root, e);
    json_decref(root);
    dc_text_free(&plain);
    return s;
}
