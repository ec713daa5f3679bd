/* k_schedules.c - lists of sigmas as k-diffusion, A1111 (sd_schedulers.py) and ComfyUI (samplers.py) build them. Where the two differ the
 * convention decides; diffusers' stands for A1111's. */
#include "scheduler/rows.h"
#include <math.h>
#include <string.h>

typedef struct range {
    double high, low;
} range;

/* The first n of `points` even timesteps over the range. */
static void uniform(const noise_table *T, range r, int n, int points, double *sigma)
{
    double first = noise_t_of_sigma(T, r.high), last = noise_t_of_sigma(T, r.low);
    for (int i = 0; i < n; i++) sigma[i] = noise_log_linear(T, points > 1 ? first + (double)i / (points - 1) * (last - first) : first);
}

/* k-diffusion's get_sigmas_polyexponential */
static void polyexponential(range r, double rho, int n, double *sigma)
{
    for (int i = 0; i < n; i++) sigma[i] = exp(log(r.low) + pow(n > 1 ? 1 - (double)i / (n - 1) : 1, rho) * log(r.high / r.low));
}

static int simple(const noise_table *T, int n, double *sigma)
{
    double step = (double)T->n / n;
    for (int i = 0; i < n; i++) sigma[i] = T->sigma[T->n - 1 - (int)(i * step)];
    return n;
}

/* Every T/n-th timestep from 1 on: mostly more than n. */
static int ddim_uniform(const noise_table *T, int n, double *sigma)
{
    int step = T->n / n > 1 ? T->n / n : 1, count = (T->n - 2) / step + 1;
    for (int i = 0; i < count; i++) sigma[i] = T->sigma[1 + (count - 1 - i) * step];
    return count;
}

/* Ref: Lee et al. 2024. ComfyUI rounds to timesteps and drops those that repeat. */
static int beta(const noise_table *T, range r, int n, bool comfy, double *sigma)
{
    if (!comfy) {
        shaped_sigmas(sigma, SHAPE_BETA, r.high, r.low, 0, n);
        return n;
    }
    int count = 0, last = -1;
    for (int i = 0; i < n; i++) {
        int t = (int)rint(beta_quantile(1 - (double)i / n, 0.6) * (T->n - 1));
        if (t != last) sigma[count++] = T->sigma[t];
        last = t;
    }
    return count;
}

/* Ref: Sabour et al. 2024, "Align Your Steps": ten steps found for the model, log-linear between for other counts. A1111 has the list with
 * three digits and spreads n points over it, ComfyUI n + 1 of which the last becomes 0. */
static void align_your_steps(bool sdxl, bool comfy, int n, double *sigma)
{
    static const double lists[2][2][11] = {{{14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029},
                                            {14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092, 0.9642583904,
                                             0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582}},
                                           {{14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029},
                                            {14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141, 0.5550693289,
                                             0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582}}};
    const double *list = lists[sdxl][comfy];
    int points = comfy ? n + 1 : n;
    for (int i = 0; i < n; i++) {
        double at = points > 1 ? 10.0 * i / (points - 1) : 10, whole = fmin(floor(at), 9);
        int k = (int)whole;
        sigma[i] = exp(log(list[k]) + (at - whole) * (log(list[k + 1]) - log(list[k])));
    }
}

/* Ref: A1111's KL Optimal (Sabour et al. 2024, theorem 3.1): even steps in the arc tangent of sigma. A1111's ends at the lowest sigma itself. */
static void kl_optimal(range r, bool comfy, int n, double *sigma, double *end)
{
    double high = atan(r.high), low = atan(r.low), steps = comfy ? fmax(n - 1, 1) : n;
    for (int i = 0; i < n; i++) sigma[i] = tan(high + i / steps * (low - high));
    if (!comfy) *end = r.low;
}

/* k-diffusion's get_sigmas_vp: the continuous schedule of Song et al. 2021b. */
static void variance_preserving(int n, double *sigma)
{
    for (int i = 0; i < n; i++) {
        double t = n > 1 ? 1 + (double)i / (n - 1) * (1e-3 - 1) : 1;
        sigma[i] = sqrt(expm1(19.9 * t * t / 2 + 0.1 * t));
    }
}

bool k_schedule_known(const char *name)
{
    static const char *const names[] = {"uniform", "normal",     "simple",   "sgm_uniform",   "ddim_uniform", "polyexponential",
                                        "ays",     "kl_optimal", "k_karras", "k_exponential", "k_beta",       "vp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], name)) return true;
    return false;
}

int k_schedule(const noise_table *T, const char *name, const dc_sampler_request *q, int n, double *sigma, double *end)
{
    bool comfy = q->program == DC_COMFYUI;
    range r = {q->sigma_max > 0 ? q->sigma_max : T->sigma[T->n - 1], q->sigma_min > 0 ? q->sigma_min : T->sigma[0]};
    *end = 0;
    if (!strncmp(name, "k_", 2)) name += 2;
    if (!strcmp(name, "karras")) shaped_sigmas(sigma, SHAPE_KARRAS, r.high, r.low, q->rho > 0 ? q->rho : 7, n);
    else if (!strcmp(name, "exponential")) shaped_sigmas(sigma, SHAPE_EXPONENTIAL, r.high, r.low, 0, n);
    else if (!strcmp(name, "polyexponential")) polyexponential(r, q->rho > 0 ? q->rho : 1, n, sigma);
    else if (!strcmp(name, "vp")) variance_preserving(n, sigma);
    else if (!strcmp(name, "beta")) return beta(T, r, n, comfy, sigma);
    else if (!strcmp(name, "sgm_uniform")) uniform(T, r, n, n + 1, sigma);
    else if (!strcmp(name, "simple")) return simple(T, n, sigma);
    else if (!strcmp(name, "ddim_uniform")) return ddim_uniform(T, n, sigma);
    else if (!strcmp(name, "ays")) align_your_steps(q->sdxl, comfy, n, sigma);
    else if (!strcmp(name, "kl_optimal")) kl_optimal(r, comfy, n, sigma, end);
    else uniform(T, r, n, n, sigma);
    return n;
}
