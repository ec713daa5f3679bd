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

/* One object a line on stderr. */
static void print_line(const json_t *o)
{
    char *s = o ? json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9)) : NULL;
    fprintf(stderr, "%s\n", s ? s : "{\"error\":{\"code\":71}}");
    free(s);
}

static int tell(diffc_status code, const char *text, const char *hint)
{
    if (as_json) {
        json_t *o = json_pack("{s:{s:i,s:s,s:s}}", "error", "code", (int)code, "message", text, "hint", hint);
        print_line(o);
        json_decref(o);
    } else {
        fprintf(stderr, "diffc: %s\n", text);
        if (*hint) fprintf(stderr, "%s\n", hint);
    }
    return (int)code;
}

void report_log(diffc_log_level level, const char *line)
{
    if (as_json) {
        json_t *o = json_pack("{s:s}", level == DIFFC_LOG_WARNING ? "warning" : "note", line);
        print_line(o);
        json_decref(o);
    } else {
        fprintf(stderr, "diffc: %s%s\n", level == DIFFC_LOG_WARNING ? "warning: " : "", line);
    }
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

double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int progress_begin(progress *p, const char *word, bool silent)
{
    *p = (progress){.kind = PROGRESS_NONE};
    if (!word || !strcmp(word, "auto")) p->kind = !silent && isatty(STDERR_FILENO) ? PROGRESS_BAR : PROGRESS_NONE;
    else if (!strcmp(word, "bar")) p->kind = PROGRESS_BAR;
    else if (!strcmp(word, "json")) p->kind = PROGRESS_JSON;
    else if (strcmp(word, "none") != 0) return report(DIFFC_USAGE, "", "progress: found \"%s\", expected auto, bar, json or none", word);
    return 0;
}

void progress_clear(progress *p)
{
    if (p->kind == PROGRESS_BAR && p->last > 0) fprintf(stderr, "\r\033[K");
    p->last = 0;
}

void progress_event(const progress *p, const char *event, json_t *o)
{
    if (p->kind == PROGRESS_JSON) {
        json_t *line = json_pack("{s:s}", "event", event);
        json_object_update(line, o);
        print_line(line);
        json_decref(line);
    }
    json_decref(o);
}

static const char *const stages[] = {"load", "text", "encode", "sample", "decode", "write"};

static void tell_json(const progress *p, const diffc_progress *x)
{
    json_t *o = json_pack("{s:s,s:s,s:I,s:I,s:i,s:i,s:f}", "stage", stages[x->stage], "what", x->what ? x->what : "", "done", (json_int_t)x->done,
                          "total", (json_int_t)x->total, "image", x->image, "images", x->images, "seconds", x->seconds);
    if (x->eta >= 0) json_object_set_new(o, "eta", json_real(x->eta));
    progress_event(p, "progress", o);
}

static void tell_bar(const diffc_progress *x)
{
    static const char *const stage[] = {"loading", "reading the prompt", "encoding the start image", "sampling", "decoding", "writing"};
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

void progress_tell(progress *p, const diffc_progress *x)
{
    double t = seconds_now();
    bool every = (x->total > 0 && x->done == x->total) || (p->kind == PROGRESS_JSON && x->stage == DIFFC_STAGE_SAMPLE);
    if (p->kind == PROGRESS_NONE || (p->last > 0 && !every && t - p->last < 0.1)) return;
    p->last = t;
    p->shown = *x;
    if (p->kind == PROGRESS_JSON) tell_json(p, x);
    else tell_bar(x);
}

void progress_again(const progress *p)
{
    if (p->kind == PROGRESS_BAR && p->last > 0) tell_bar(&p->shown);
}

static const char *const index_stages[] = {"scan", "embed", "wait"};

void progress_index(progress *p, const diffc_index_progress *x)
{
    const double t = seconds_now();
    const bool last = x->total > 0 && x->done == x->total;
    if (p->kind == PROGRESS_NONE || x->stage == DIFFC_INDEX_WAIT || (p->last > 0 && !last && t - p->last < 0.2)) return;
    p->last = t;
    if (p->kind == PROGRESS_JSON) {
        json_t *o = json_pack("{s:s,s:I,s:I,s:I,s:f,s:f}", "stage", index_stages[x->stage], "done", (json_int_t)x->done, "total",
                              (json_int_t)x->total, "failed", (json_int_t)x->failed, "seconds", x->seconds, "rate", x->rate);
        if (x->eta >= 0) json_object_set_new(o, "eta", json_real(x->eta));
        progress_event(p, "progress", o);
        return;
    }
    fprintf(stderr, "\r\033[K");
    if (x->stage == DIFFC_INDEX_SCAN) fprintf(stderr, "looking: %llu pictures", (unsigned long long)x->done);
    else fprintf(stderr, "reading %llu/%llu  %.1f pictures/s", (unsigned long long)x->done, (unsigned long long)x->total, x->rate);
    const unsigned long long left = x->eta >= 0 ? (unsigned long long)(x->eta + 0.5) : 0;
    if (x->eta >= 0)
        fprintf(stderr, left >= 3600 ? "  %llu h %02llu min left" : "  %llu:%02llu left", left / (left >= 3600 ? 3600 : 60),
                left >= 3600 ? left % 3600 / 60 : left % 60);
    fflush(stderr);
}

/* ---- signals ---------------------------------------------------------------------------------------------- */

static diffc_model *volatile running; /* read by the handler */
static diffc_clip *volatile embedding;
static volatile sig_atomic_t caught, noted;

static void stop(int number)
{
    if (!caught && (running || embedding || noted)) {
        caught = number;
        if (embedding) diffc_clip_cancel(embedding);
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
void signals_clip(diffc_clip *clip) { embedding = clip; }
void signals_note(void) { noted = 1; }
bool signals_caught(void) { return caught != 0; }
int signals_code(void) { return caught ? 128 + caught : DIFFC_CANCELLED; }
