/* names.c - what samplers and schedules are called elsewhere. A1111 also writes both in one name: "DPM++ 2M Karras". */
#include "scheduler/sampler.h"
#include <string.h>

typedef struct name_row {
    const char *canonical, *label; /* ours; A1111's */
    const char *aliases;           /* '|' between; compared without case, blanks, '-' and '_' */
} name_row;

static const name_row samplers[] = {
    {"euler", "Euler", "EulerDiscreteScheduler|k_euler|sample_euler"},
    {"euler_a", "Euler a", "euler_ancestral|EulerAncestralDiscreteScheduler|k_euler_a|k_euler_ancestral|sample_euler_ancestral"},
    {"heun", "Heun", "HeunDiscreteScheduler|k_heun|sample_heun"},
    {"dpm2", "DPM2", "dpm_2|KDPM2DiscreteScheduler|k_dpm_2|sample_dpm_2"},
    {"dpm2_a", "DPM2 a", "dpm_2_ancestral|KDPM2AncestralDiscreteScheduler|k_dpm_2_a|k_dpm_2_ancestral|sample_dpm_2_ancestral"},
    {"dpm++2s_a", "DPM++ 2S a", "dpmpp_2s_a|dpmpp_2s_ancestral|k_dpmpp_2s_a|dpm2s_a|sample_dpmpp_2s_ancestral"},
    {"dpm++sde", "DPM++ SDE", "dpmpp_sde|dpmpp_sde_gpu|DPMSolverSDEScheduler|k_dpmpp_sde|sample_dpmpp_sde"},
    {"dpm_fast", "DPM fast", "k_dpm_fast|sample_dpm_fast"},
    {"dpm_adaptive", "DPM adaptive", "k_dpm_ad|k_dpm_adaptive|sample_dpm_adaptive"},
    {"restart", "Restart", "restart_sampler"},
    {"heunpp2", "HeunPP2", "heun++2|sample_heunpp2"},
    {"lms", "LMS", "LMSDiscreteScheduler|k_lms|sample_lms"},
    {"ipndm", "IPNDM", "sample_ipndm"},
    {"ipndm_v", "IPNDM_V", "sample_ipndm_v"},
    {"deis", "DEIS", "DEISMultistepScheduler|sample_deis"},
    {"dpm++2m", "DPM++ 2M", "dpmpp_2m|DPMSolverMultistepScheduler|k_dpmpp_2m|sample_dpmpp_2m"},
    {"dpm++2mv2", "DPM++ 2M v2", "dpmpp_2m_v2|dpmpp2mv2"},
    {"dpm++2m_sde", "DPM++ 2M SDE", "dpmpp_2m_sde|dpmpp_2m_sde_gpu|k_dpmpp_2m_sde|dpm++2m_sde_bt|sample_dpmpp_2m_sde"},
    {"dpm++2m_sde_heun", "DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun|dpmpp_2m_sde_heun_gpu|k_dpmpp_2m_sde_heun"},
    {"dpm++3m_sde", "DPM++ 3M SDE", "dpmpp_3m_sde|dpmpp_3m_sde_gpu|k_dpmpp_3m_sde|sample_dpmpp_3m_sde"},
    {"dpm++2s", "DPM++ 2S", "dpmpp_2s|DPMSolverSinglestepScheduler"},
    {"dpm++3s", "DPM++ 3S", "dpmpp_3s"},
    {"dpm_solver", "DPM-Solver", "dpm_solver_2m|dpm2m"},
    {"unipc", "UniPC", "uni_pc|UniPCMultistepScheduler|uni_pc_bh1|sample_unipc"},
    {"unipc_bh2", "UniPC bh2", "uni_pc_bh2|sample_unipc_bh2"},
    {"res_multistep", "Res Multistep", "sample_res_multistep"},
    {"res_multistep_a", "Res Multistep a", "res_multistep_ancestral|sample_res_multistep_ancestral"},
    {"er_sde", "ER SDE", "sample_er_sde"},
    {"gradient_estimation", "Gradient Estimation", "euler_ge|sample_gradient_estimation"},
    {"euler_cfg_pp", "Euler CFG++", "sample_euler_cfg_pp"},
    {"euler_a_cfg_pp", "Euler a CFG++", "euler_ancestral_cfg_pp|sample_euler_ancestral_cfg_pp"},
    {"dpm++2m_cfg_pp", "DPM++ 2M CFG++", "dpmpp_2m_cfg_pp|sample_dpmpp_2m_cfg_pp"},
    {"dpm++2s_a_cfg_pp", "DPM++ 2S a CFG++", "dpmpp_2s_a_cfg_pp|dpmpp_2s_ancestral_cfg_pp|sample_dpmpp_2s_ancestral_cfg_pp"},
    {"ddim", "DDIM", "DDIMScheduler"},
    {"ddim_cfg_pp", "DDIM CFG++", "ddim_cfgpp"},
    {"ddpm", "DDPM", "DDPMScheduler"},
    {"pndm", "PLMS", "plms|PNDMScheduler"},
    {"lcm", "LCM", "LCMScheduler|k_lcm|sample_lcm"},
    {"tcd", "TCD", "TCDScheduler"},
};
/* A name with k_ is k-diffusion's schedule where the plain one means a flag of diffusers' classes; both have one label. */
static const name_row schedules[] = {
    {"model", "Automatic", "discrete|default|auto"},
    {"karras", "Karras", "use_karras_sigmas"},
    {"exponential", "Exponential", "use_exponential_sigmas"},
    {"beta", "Beta", "use_beta_sigmas"},
    {"uniform", "Uniform", ""},
    {"normal", "Normal", ""},
    {"simple", "Simple", ""},
    {"sgm_uniform", "SGM Uniform", ""},
    {"ddim_uniform", "DDIM", ""},
    {"polyexponential", "Polyexponential", ""},
    {"kl_optimal", "KL Optimal", ""},
    {"ays", "Align Your Steps", "AlignYourStepsScheduler"},
    {"vp", "VP", "get_sigmas_vp"},
    {"k_karras", "Karras", "get_sigmas_karras"},
    {"k_exponential", "Exponential", "get_sigmas_exponential"},
    {"k_beta", "Beta", ""},
    {"leading", "Leading", ""},
    {"trailing", "Trailing", ""},
    {"linspace", "Linspace", ""},
};
enum { SAMPLERS = sizeof samplers / sizeof *samplers, SCHEDULES = sizeof schedules / sizeof *schedules };

/* Copies `in` (n bytes) in small letters, without blanks, '-' and '_'. */
static void fold(char *out, size_t size, const char *in, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n && k + 1 < size; i++)
        if (!strchr(" -_", in[i])) out[k++] = in[i] >= 'A' && in[i] <= 'Z' ? (char)(in[i] + 32) : in[i];
    out[k] = 0;
}

static const name_row *find(const name_row *rows, int n, const char *folded)
{
    char one[64];
    for (int i = 0; i < n; i++) {
        fold(one, sizeof one, rows[i].canonical, strlen(rows[i].canonical));
        if (!strcmp(one, folded)) return &rows[i];
        fold(one, sizeof one, rows[i].label, strlen(rows[i].label));
        if (!strcmp(one, folded)) return &rows[i];
        for (const char *a = rows[i].aliases; *a;) {
            size_t k = strcspn(a, "|");
            fold(one, sizeof one, a, k);
            if (!strcmp(one, folded)) return &rows[i];
            a += k + (a[k] == '|');
        }
    }
    return NULL;
}

const char *dc_schedule_find(const char *name)
{
    char folded[64];
    fold(folded, sizeof folded, name, strlen(name));
    const name_row *row = find(schedules, SCHEDULES, folded);
    return row ? row->canonical : NULL;
}

/* The sampler before a schedule's name at the end of `folded`, which is cut. */
static const name_row *find_before(char *folded, const char *schedule)
{
    size_t n = strlen(folded), k = strlen(schedule);
    if (n <= k || strcmp(folded + n - k, schedule)) return NULL;
    folded[n - k] = 0;
    const name_row *row = find(samplers, SAMPLERS, folded);
    if (!row) folded[n - k] = schedule[0];
    return row;
}

const char *dc_sampler_find(const char *name, const char **schedule)
{
    char folded[64], last[64];
    *schedule = NULL;
    fold(folded, sizeof folded, name, strlen(name));
    const name_row *row = find(samplers, SAMPLERS, folded);
    if (row) return row->canonical;
    for (int i = 1; i < SCHEDULES; i++) { /* "dpm++2mkarras" */
        fold(last, sizeof last, schedules[i].canonical, strlen(schedules[i].canonical));
        *schedule = schedules[i].canonical;
        if ((row = find_before(folded, last))) return row->canonical;
    }
    if ((row = find_before(folded, "ka"))) *schedule = "karras"; /* A1111's aliases, "k_dpmpp_2m_ka" */
    else if ((row = find_before(folded, "exp"))) *schedule = "exponential";
    else *schedule = NULL;
    return row ? row->canonical : NULL;
}

static const char *label(const name_row *rows, int n, const char *canonical)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(rows[i].canonical, canonical)) return rows[i].label;
    return canonical;
}
const char *dc_sampler_label(const char *canonical) { return label(samplers, SAMPLERS, canonical); }
const char *dc_schedule_label(const char *canonical) { return label(schedules, SCHEDULES, canonical); }

const char *const *dc_sampler_names(int *n)
{
    static const char *const names[] = {"euler",
                                        "euler_a",
                                        "heun",
                                        "dpm2",
                                        "dpm2_a",
                                        "dpm++2s_a",
                                        "dpm++sde",
                                        "dpm_fast",
                                        "dpm_adaptive",
                                        "restart",
                                        "heunpp2",
                                        "lms",
                                        "ipndm",
                                        "ipndm_v",
                                        "deis",
                                        "dpm++2m",
                                        "dpm++2mv2",
                                        "dpm++2m_sde",
                                        "dpm++2m_sde_heun",
                                        "dpm++3m_sde",
                                        "dpm++2s",
                                        "dpm++3s",
                                        "dpm_solver",
                                        "unipc",
                                        "unipc_bh2",
                                        "res_multistep",
                                        "res_multistep_a",
                                        "er_sde",
                                        "gradient_estimation",
                                        "euler_cfg_pp",
                                        "euler_a_cfg_pp",
                                        "dpm++2m_cfg_pp",
                                        "dpm++2s_a_cfg_pp",
                                        "ddim",
                                        "ddim_cfg_pp",
                                        "ddpm",
                                        "pndm",
                                        "lcm",
                                        "tcd"};
    _Static_assert(sizeof names / sizeof *names == SAMPLERS, "one name a row");
    *n = SAMPLERS;
    return names;
}

const char *const *dc_schedule_names(int *n)
{
    static const char *const names[] = {"model",         "karras",       "exponential",     "beta",       "uniform", "normal", "simple",
                                        "sgm_uniform",   "ddim_uniform", "polyexponential", "kl_optimal", "ays",     "vp",     "k_karras",
                                        "k_exponential", "k_beta",       "leading",         "trailing",   "linspace"};
    _Static_assert(sizeof names / sizeof *names == SCHEDULES, "one name a row");
    *n = SCHEDULES;
    return names;
}

const char *dc_sampler_of_class(const char *class_name)
{
    const char *schedule;
    return *class_name ? dc_sampler_find(class_name, &schedule) : NULL;
}

dc_status dc_prediction_set(dc_noise_config *c, const char *name, dc_error *e)
{
    static const struct {
        const char *name;
        dc_prediction value;
    } known[] = {{"epsilon", DC_PREDICT_EPSILON},
                 {"eps", DC_PREDICT_EPSILON},
                 {"v", DC_PREDICT_V},
                 {"v_prediction", DC_PREDICT_V},
                 {"sample", DC_PREDICT_SAMPLE}};
    for (size_t i = 0; name && i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name)) {
            c->prediction = known[i].value;
            return DC_OK;
        }
    return name ? dc_fail(e, DC_USAGE, "prediction: found %s, expected epsilon, v or sample", name) : DC_OK;
}
