/* view.c - `diffc view` and `txt2img --window`: the window is a module of its own, looked for and opened here. */
#include "apps/viewer/view.h"
#include "apps/cli/commands.h"
#include "apps/cli/names.h"
#include "apps/cli/replay.h"
#include "apps/cli/report.h"
#include "apps/cli/window.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef DIFFC_MODULE_DIR
#define DIFFC_MODULE_DIR "/usr/local/lib/diffc"
#endif

/* ---- the module ------------------------------------------------------------------------------------------------- */

/* Beside the program (as it is built), or where it is installed. NULL after telling why not. It stays open. */
static void *open_module(void)
{
    char program[PATH_MAX], path[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = 0;
    char *slash = strrchr(program, '/');
    if (slash) *slash = 0;
    const char *const folders[] = {"", "/../lib/diffc", DIFFC_MODULE_DIR};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        bool beside = i < 2;
        if (beside && !slash) continue;
        snprintf(path, sizeof path, "%s%s/" VIEW_MODULE, beside ? program : "", folders[i]);
        if (access(path, R_OK)) continue;
        void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!module)
            report(DIFFC_UNAVAILABLE, "Install SDL2, SDL2_ttf and fontconfig (Debian: libsdl2-2.0-0 libsdl2-ttf-2.0-0 libfontconfig1).", "window: %s",
                   dlerror());
        return module;
    }
    report(DIFFC_UNAVAILABLE, "It is built where SDL2, SDL2_ttf and fontconfig are found (Debian: libsdl2-dev libsdl2-ttf-dev libfontconfig-dev).",
           "window: found no " VIEW_MODULE " beside the program or in " DIFFC_MODULE_DIR);
    return NULL;
}

/* A function of the module as `f`, whose type the caller knows; ISO C has no conversion of a pointer to a function. */
static bool find_function(void *f, const char *name)
{
    void *module = open_module(), *found = module ? dlsym(module, name) : NULL;
    if (module && !found) report(DIFFC_UNAVAILABLE, "It is of another version of diffc.", "window: %s: found no %s", VIEW_MODULE, name);
    memcpy(f, &found, sizeof found);
    return found != NULL;
}

static int check_scale(const settings *s)
{
    return s->scale == 0 || (s->scale >= 0.5 && s->scale <= 4) ? 0 : report(DIFFC_USAGE, "", "scale: found %g, expected 0.5 to 4", s->scale);
}

/* ---- view ---------------------------------------------------------------------------------------------------------- */

static view_relay the_window; /* where messages go while it is open */

static void on_log(void *user, diffc_log_level level, const char *line)
{
    const settings *s = user;
    if (level == DIFFC_LOG_DEBUG || (level == DIFFC_LOG_NOTE && !s->verbose)) return;
    if (the_window.say) the_window.say(the_window.self, line);
    else if (!s->quiet) report_log(level, line);
}

static bool nothing_yet(void *user, const diffc_preview *p)
{
    (void)user, (void)p;
    return false;
}

void choose_preview(diffc_model *m, diffc_request *q)
{
    static const char *const kinds[] = {"tae", "proj", NULL};
    bool (*before)(void *, const diffc_preview *) = q->on_preview;
    diffc_plan plan;
    q->on_preview = nothing_yet;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        q->preview = kinds[i];
        if (diffc_plan_request(m, q, &plan, NULL) == DIFFC_OK) break;
    }
    q->on_preview = before;
}

/* The settings show what would be taken, not that it is left open. */
static int fill_sizes(diffc_model *m, diffc_request *q)
{
    diffc_error e = {0};
    diffc_plan plan;
    diffc_request own = *q;
    own.on_preview = nothing_yet;
    if (diffc_plan_request(m, &own, &plan, &e)) return report_error(&e);
    q->width = plan.width;
    q->height = plan.height;
    return 0;
}

static int run_window(diffc_model *m, const settings *s, const diffc_options *o, diffc_request *q, view_run_function *run)
{
    diffc_error e = {0};
    char *pattern = name_pattern(s->output ? s->output : "diffc-%04d.png", true, false);
    if (!pattern) return report(DIFFC_NO_MEMORY, "", "out of memory");
    const view_setup setup = {.model = m,
                              .options = o,
                              .request = q,
                              .begin = q->prompt != NULL,
                              .seed_given = s->has_seed || s->replay,
                              .live = s->live,
                              .light = s->light,
                              .few_steps = !s->model && !s->unet,
                              .scale = s->scale,
                              .output = pattern,
                              .style = {s->quality, s->lossless},
                              .index = s->index,
                              .event_log = s->event_log,
                              .relay = &the_window,
                              .stopped = signals_caught};
    diffc_status status = run(&setup, &e);
    free(pattern);
    return status ? report_error(&e) : signals_caught() ? signals_code() : 0;
}

int run_view(const settings *given)
{
    settings s = *given;
    diffc_model *m = NULL;
    diffc_image image = {0}, mask = {0};
    diffc_request q;
    diffc_error e = {0};
    double *sigmas = NULL;
    view_run_function *run = NULL;
    diffc_options o = model_options(&s);
    o.log = on_log;
    o.log_user = &s;
    int code = check_scale(&s);
    if (!code && !find_function(&run, "view_run")) code = DIFFC_UNAVAILABLE;
    if (!code) code = replay_read(&s);
    if (!code && diffc_open(&m, &o, &e)) code = report_error(&e);
    if (!code) code = fill_request(&q, m, &s, &image, &mask);
    if (!code && s.sigmas) {
        code = parse_sigmas(s.sigmas, &sigmas, &q.n_sigmas);
        q.sigmas = sigmas;
    }
    if (!code && !q.preview) choose_preview(m, &q);
    if (!code) code = fill_sizes(m, &q);
    if (!code) {
        signals_note();
        code = run_window(m, &s, &o, &q, run);
    }
    diffc_close(m);
    diffc_image_free(&image);
    diffc_image_free(&mask);
    diffc_replay_close(s.replay);
    free(sigmas);
    return code;
}

/* ---- txt2img --window ------------------------------------------------------------------------------------------------ */

typedef struct stopping {
    diffc_model *model;
    int (*work)(void *user, const view_hooks *hooks);
    void *user;
} stopping;

static int work(void *user, const view_hooks *hooks)
{
    stopping *x = user;
    return x->work(x->user, hooks);
}
static void cancel(void *user) { diffc_cancel(((stopping *)user)->model); }

int watch_in_window(diffc_model *m, const settings *s, const char *prompt, int (*what)(void *user, const view_hooks *hooks), void *user)
{
    diffc_error e = {0};
    stopping x = {m, what, user};
    view_watch_function *watch = NULL;
    int code = check_scale(s), result = 0;
    if (!code && !find_function(&watch, "view_watch")) code = DIFFC_UNAVAILABLE;
    if (code) return code;
    const view_watched watched = {.work = work,
                                  .user = &x,
                                  .prompt = prompt,
                                  .cancel = cancel,
                                  .light = s->light,
                                  .scale = s->scale,
                                  .event_log = s->event_log,
                                  .stopped = signals_caught};
    return watch(&watched, &result, &e) ? report_error(&e) : result;
}
