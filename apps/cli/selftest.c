/* selftest.c - the command selftest: a line a check, and what came of all. */
#include "apps/cli/commands.h"
#include "apps/cli/report.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct telling {
    const settings *s;
    const diffc_selftest *test;
    json_t *rows;   /* with --json */
    bool bar, head; /* progress on stderr; the first line is there */
    double last;
} telling;

static bool on_progress(void *user, const char *name, int done, int total)
{
    telling *t = user;
    const double now = seconds_now();
    if (t->bar && now - t->last > 0.1) {
        fprintf(stderr, "\r\033[K%s %d/%d", name, done, total);
        fflush(stderr);
        t->last = now;
    }
    return signals_caught();
}

static void on_check(void *user, const diffc_check *c)
{
    telling *t = user;
    const bool fine = !c->wrong && !c->unsteady;
    if (t->bar) fprintf(stderr, "\r\033[K");
    if (t->rows) {
        /* JSON has no infinity */
        json_array_append_new(t->rows,
                              json_pack("{s:s,s:s,s:i,s:i,s:i,s:o,s:f,s:s,s:f,s:b}", "name", c->name, "beside", c->beside, "cases", c->cases, "wrong",
                                        c->wrong, "unsteady", c->unsteady, "error", isfinite(c->error) ? json_real(c->error) : json_null(), "bound",
                                        c->bound, "farthest", c->farthest, "seconds", c->seconds, "ok", fine));
        return;
    }
    if (!t->head) printf("%s\n%-18s %5s %9s %9s %8s  %-7s %s\n", t->test->device, "check", "cases", "error", "bound", "seconds", "", "beside");
    t->head = true;
    printf("%-18s %5d %9.1e %9.1e %8.2f  %-7s %s\n", c->name, c->cases, c->error, c->bound, c->seconds, fine ? "ok" : "FAILED", c->beside);
    if (c->wrong) printf("    %d of %d are beyond their bound; farthest: %s\n", c->wrong, c->cases, c->farthest);
    if (c->unsteady) printf("    %d of %d gave other bytes the second time\n", c->unsteady, c->cases);
    fflush(stdout);
}

/* Ctrl-C ends a pass, too. */
static void on_model(void *user, diffc_model *m)
{
    (void)user;
    signals_model(m);
}

int run_selftest(const settings *s)
{
    diffc_error e = {0};
    const diffc_options o = model_options(s);
    diffc_selftest test = {.quick = s->quick, .on_progress = on_progress, .on_check = on_check, .on_model = on_model};
    telling t = {.s = s, .test = &test, .rows = s->json ? json_array() : NULL, .bar = !s->quiet && isatty(STDERR_FILENO)};
    test.user = &t;
    if (s->n_words) return report(DIFFC_USAGE, "", "selftest: found \"%s\", expected options only", s->word[0]);
    signals_note();
    const diffc_status status = diffc_selftest_run(&test, &o, &e);
    if (t.bar) fprintf(stderr, "\r\033[K");
    if (t.rows)
        print_json(json_pack("{s:s,s:i,s:i,s:i,s:f,s:b,s:o}", "device", test.device, "checks", test.checks, "failed", test.failed, "cases",
                             test.cases, "seconds", test.seconds, "ok", !status, "rows", t.rows));
    else if (!status) printf("%d checks of %d cases, all right; %.1f s\n", test.checks, test.cases, test.seconds);
    return status == DIFFC_CANCELLED ? (report_error(&e), signals_code()) : status ? report_error(&e) : 0;
}
