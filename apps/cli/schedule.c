/* schedule.c - `diffc schedule`: timesteps and sigmas as numbers, and as a picture. */
#include "apps/cli/commands.h"
#include "apps/cli/plot.h"
#include "apps/cli/replay.h"
#include "apps/cli/report.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16 };

void sampler_options(diffc_request *q, const settings *s)
{
    if (replay_lets(s, "solver-order")) q->solver_order = s->solver_order;
    if (replay_lets(s, "solver-type")) q->solver_type = s->solver_type;
    if (replay_lets(s, "s-churn")) q->s_churn = s->s_churn;
    if (replay_lets(s, "s-tmin")) q->s_tmin = s->s_tmin;
    if (replay_lets(s, "s-tmax")) q->s_tmax = s->s_tmax;
    if (replay_lets(s, "s-noise")) q->s_noise = s->s_noise;
    if (replay_lets(s, "sigma-min")) q->sigma_min = s->sigma_min;
    if (replay_lets(s, "sigma-max")) q->sigma_max = s->sigma_max;
    if (replay_lets(s, "rho")) q->rho = s->rho;
}

static void print_table(const diffc_schedule *t, int asked)
{
    printf("%s, %s schedule", t->sampler, t->schedule);
    if (t->steps && t->steps != asked) printf(", %d steps (asked for: %d)", t->steps, asked);
    printf("\n%4s %12s %12s\n", "", "timestep", "sigma");
    for (int i = 0; i < t->n_timesteps || i < t->n_sigmas; i++) {
        printf("%4d ", i);
        if (i < t->n_timesteps) printf("%12.4f", t->timesteps[i]);
        else printf("%12s", "");
        if (i < t->n_sigmas) printf(" %12.6f", t->sigmas[i]);
        putchar('\n');
    }
}

static json_t *as_json(const diffc_schedule *t)
{
    return json_pack("{s:s,s:s,s:i,s:o,s:o}", "sampler", t->sampler, "scheduler", t->schedule, "steps", t->steps, "timesteps",
                     json_reals(t->timesteps, t->n_timesteps), "sigmas", json_reals(t->sigmas, t->n_sigmas));
}

static int print_all(const diffc_schedule *t, int n)
{
    json_t *all = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(all, as_json(&t[i]));
    return print_json(all);
}

static int tell(const settings *s, const diffc_schedule *t, int n, int asked)
{
    plot_line lines[MOST];
    char title[160];
    if (s->plot) {
        for (int i = 0; i < n; i++) lines[i] = (plot_line){t[i].schedule, t[i].sigmas, t[i].n_sigmas};
        snprintf(title, sizeof title, "%s, %d steps%s%s", t->sampler, asked, s->rng ? ", " : "", s->rng ? s->rng : "");
        return plot_write(s->plot, title, lines, n);
    }
    if (s->json) return n > 1 ? print_all(t, n) : print_json(as_json(t));
    for (int i = 0; i < n; i++) print_table(&t[i], asked);
    return 0;
}

/* A schedule for each name of the list, into made[MOST]; *n counts them. */
static int make_all(const settings *s, diffc_request *q, char *names, diffc_schedule *made, int *n)
{
    diffc_error e = {0};
    char *rest = names, *name;
    while ((name = strsep(&rest, ","))) {
        if (*n == MOST) return report(DIFFC_USAGE, "", "scheduler: found a list of more than %d, expected at most as many", (int)MOST);
        q->schedule = *name ? name : NULL;
        if (diffc_schedule_make(s->model, s->prediction, q, &made[*n], &e)) return report_error(&e);
        ++*n;
    }
    return 0;
}

int run_schedule(const settings *s)
{
    diffc_schedule made[MOST] = {{0}};
    double *sigmas = NULL;
    int n = 0, code = 0;
    diffc_request q = {.sampler = s->sampler, .rng = s->rng, .steps = s->has_steps ? s->steps : 20, .eta = s->eta};
    sampler_options(&q, s);
    if (s->sigmas) code = parse_sigmas(s->sigmas, &sigmas, &q.n_sigmas);
    q.sigmas = sigmas;
    char *names = strdup(s->schedule ? s->schedule : "");
    if (!names && !code) code = report(DIFFC_NO_MEMORY, "", "scheduler: out of memory");
    if (!code) code = make_all(s, &q, names, made, &n);
    if (!code) code = tell(s, made, n, q.n_sigmas ? q.n_sigmas : q.steps);
    for (int i = 0; i < n; i++) {
        diffc_free(made[i].timesteps);
        diffc_free(made[i].sigmas);
    }
    free(sigmas);
    free(names);
    return code;
}
