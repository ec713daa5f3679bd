/* report.c - errors, progress and signals of the program. */
#include "apps/cli/report.h"
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool as_json; /* the one switch of the program: set once, before anything is told */

void report_as_json(bool on) { as_json = on; }

static int tell(diffc_status code, const char *text, const char *hint)
{
    if (as_json) {
        json_t *o = json_pack("{s:{s:i,s:s,s:s}}", "error", "code", (int)code, "message", text, "hint", hint);
        char *s = o ? json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
        fprintf(stderr, "%s\n", s ? s : "{\"error\":{\"code\":70}}");
        free(s);
        json_decref(o);
    } else {
        fprintf(stderr, "diffc: %s\n", text);
        if (*hint) fprintf(stderr, "%s\n", hint);
    }
    return (int)code;
}

int report(diffc_status code, const char *hint, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return tell(code, text, hint);
}

int report_error(const diffc_error *e) { return tell(e->code == DIFFC_CANCELLED ? (diffc_status)signals_code() : e->code, e->text, e->hint); }

/* ---- progress -------------------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_begin(progress *p, bool wanted) { *p = (progress){.on = wanted && isatty(STDERR_FILENO)}; }

void progress_clear(progress *p)
{
    if (p->on && p->last > 0) fprintf(stderr, "\r\033[K");
    p->last = 0;
}

void progress_tell(progress *p, const diffc_progress *x)
{
    static const char *const stage[] = {"loading", "reading the prompt", "encoding the start image", "sampling", "decoding", "writing"};
    double t = now();
    bool ends = x->total > 0 && x->done == x->total;
    if (!p->on || (p->last > 0 && !ends && t - p->last < 0.1)) return;
    p->last = t;
    fprintf(stderr, "\r\033[K%s", stage[x->stage]);
    if (x->stage == DIFFC_STAGE_LOAD || x->stage == DIFFC_STAGE_WRITE) {
        fprintf(stderr, " %s %3.0f%%", x->what, x->total ? 100.0 * (double)x->done / (double)x->total : 100.0);
    } else if (x->stage == DIFFC_STAGE_SAMPLE) {
        fprintf(stderr, " %llu/%llu", (unsigned long long)x->done, (unsigned long long)x->total);
        double rate = x->seconds > 0 ? (double)x->done / x->seconds : 0;
        if (rate >= 1) fprintf(stderr, "  %.2f it/s", rate);
        else if (rate > 0) fprintf(stderr, "  %.2f s/it", 1 / rate);
        if (x->eta >= 0) fprintf(stderr, "  %d:%02d left", (int)(x->eta + 0.5) / 60, (int)(x->eta + 0.5) % 60);
    } else if (x->total > 1) {
        fprintf(stderr, " %llu/%llu", (unsigned long long)x->done, (unsigned long long)x->total);
    }
    fflush(stderr);
}

/* ---- signals ---------------------------------------------------------------------------------------------- */

static diffc_model *volatile running; /* read by the handler */
static volatile sig_atomic_t caught, noted;

static void stop(int number)
{
    if (!caught && (running || noted)) {
        caught = number;
        if (running) diffc_cancel(running); /* only stores a flag */
        return;
    }
    diffc_output_remove_pending();
    _exit(128 + number);
}

void signals_install(void)
{
    struct sigaction a = {.sa_handler = stop};
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGHUP, &a, NULL);
    struct sigaction ignore = {.sa_handler = SIG_IGN}; /* writing to a closed pipe is an error with a message, not a death */
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* likewise a file over RLIMIT_FSIZE */
}

void signals_model(diffc_model *model) { running = model; }
void signals_note(void) { noted = 1; }
bool signals_caught(void) { return caught != 0; }
int signals_code(void) { return caught ? 128 + caught : DIFFC_CANCELLED; }
