#!/usr/bin/env python3
"""k_runs.py COMFYUI FORGE K_DIFFUSION OUT: the samplers of k-diffusion's users run in float64 on the analytic denoiser of OUT/mixture.json.

COMFYUI, FORGE: folders of ComfyUI (read at a125cd84) and stable-diffusion-webui-forge (dfdcbab6, whose modules/sd_*.py are A1111's), K_DIFFUSION: the package's
folder (0.1.1). ComfyUI's runs go through its KSampler and sampler objects; for A1111's its few lines of rules (which sigmas, where image-to-image
begins) are repeated in a1111(), for they cannot be imported without the web interface. Only the last state is kept. Writes OUT/k_runs.json and
OUT/k_lists.json (sigmas of the schedules). Needs numpy, scipy, torch, tqdm."""
import importlib, importlib.util, inspect, json, math, os, sys, types
from unittest import mock
import numpy as np, torch

COMFY, FORGE, KD, OUT = sys.argv[1:5]
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double
MIX = {k: torch.tensor(v, dtype=torch.float64) for k, v in json.load(open(f"{OUT}/mixture.json")).items()}
NOISE = np.load(f"{OUT}/noise_f4.npy").astype(np.float64)
IMAGE = torch.tensor(NOISE[63] * 0.5)
AC = np.cumprod(1 - np.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000) ** 2)
SIGMAS = torch.tensor(np.sqrt((1 - AC) / AC))
COMPONENTS = len(MIX["w"])


def denoise(x, a, s, part=COMPONENTS):
    """(x0, eps) for x = a x0 + s eps; the first `part` of the mixture: the half is what stands for the model without a prompt."""
    mu, v, w = MIX["mu"][:part], MIX["v"][:part], MIX["w"][:part]
    d = x[:, None] - a * mu
    c = a * a * v + s * s
    r = torch.softmax(torch.log(w) - 0.5 * (d * d / c + torch.log(c)).sum(-1), -1)[..., None]
    return (r * (mu + a * v / c * d)).sum(1), (r * s / c * d).sum(1)


def level(t):
    """(a, s) of timestep t: the table at whole ones, log-linear in sigma between."""
    s = math.exp(np.interp(t, np.arange(1000), np.log(SIGMAS.numpy())))
    return 1 / math.hypot(1, s), s / math.hypot(1, s)


class Draws:
    n = 0
    @classmethod
    def next(cls, *a, **k):
        cls.n += 1
        return torch.tensor(NOISE[cls.n])
    @classmethod
    def sampler(cls, *a, **k): return cls.next


class Torch:
    """torch with the noises of this file, and double where the libraries say float."""
    randn_like = randn = staticmethod(lambda x, *a, **k: Draws.next().reshape(x.shape if hasattr(x, "shape") else x))
    FloatTensor = staticmethod(lambda x: torch.tensor([float(v) for v in x], dtype=torch.float64))
    float32 = torch.float64
    float = torch.float64
    def __getattr__(self, key): return getattr(torch, key)


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    m = importlib.util.module_from_spec(spec)
    sys.modules[name] = m
    spec.loader.exec_module(m)
    return m


def package(name, path):
    m = types.ModuleType(name)
    m.__path__ = [path]
    sys.modules[name] = m
    return m


for missing in ("torchsde", "torchdiffeq", "torchvision", "torchvision.transforms", "clip", "einops", "skimage"):
    sys.modules.setdefault(missing, mock.MagicMock())

# ---- ComfyUI ------------------------------------------------------------------------------------------------------------------
comfy = package("comfy", COMFY + "/comfy")
for name in ("model_management", "model_patcher", "model_base", "utils", "hooks", "patcher_extension", "context_windows", "sampler_helpers", "conds", "controlnet", "ldm",
             "ldm.modules", "ldm.modules.diffusionmodules", "ldm.modules.diffusionmodules.util", "memory_management"):
    m = sys.modules["comfy." + name] = mock.MagicMock()
    if "." not in name: setattr(comfy, name, m)
sys.modules["comfy.ldm.modules.diffusionmodules.util"].make_beta_schedule = lambda *a, **k: torch.tensor(1 - np.append(AC[:1], AC[1:] / AC[:-1]))
from tqdm.auto import trange
sys.modules["comfy.utils"].model_trange = trange


def post_cfg(options, function, **k):
    return dict(options, post_cfg=function)


sys.modules["comfy.model_patcher"].set_model_options_post_cfg_function = post_cfg
comfy.model_sampling = load("comfy.model_sampling", COMFY + "/comfy/model_sampling.py")
import comfy.k_diffusion.sampling as CS, comfy.extra_samplers.uni_pc as CU, comfy.samplers as C
for m in (CS, CU, C): m.torch = Torch()
CS.BrownianTreeNoiseSampler = Draws.sampler


class Sampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS): pass


MS = Sampling()
MS.sigmas, MS.log_sigmas = SIGMAS, SIGMAS.log()


class Model:
    """What ComfyUI's CFGGuider is to a sampler."""
    def __init__(self):
        self.inner_model = self.model_patcher = self
        self.model_sampling = MS
        self.load_device = "cpu"
    def get_model_object(self, name): return MS
    def __call__(self, x, sigma, model_options={}, seed=None):
        a, s = level(float(MS.timestep(sigma)[0]))
        xc = MS.calculate_input(sigma, x)
        out = [x - sigma[:, None] * denoise(xc, a, s, part)[1] for part in (COMPONENTS, COMPONENTS // 2)]
        if "post_cfg" in model_options: model_options["post_cfg"]({"denoised": out[0], "uncond_denoised": out[1]})
        return out[0]


def comfyui(sampler, scheduler, steps, strength=None, options={}):
    Draws.n = 0
    k = C.KSampler(Model(), steps, "cpu", sampler, scheduler, strength)
    s = C.sampler_object(sampler)
    s.extra_options = dict(options)
    image = torch.zeros_like(IMAGE) if strength is None else IMAGE
    x = s.sample(Model(), k.sigmas, {"model_options": {}, "seed": 0}, None, torch.tensor(NOISE[0]), image, None, True)
    return x


# ---- A1111 --------------------------------------------------------------------------------------------------------------------
package("k_diffusion", KD)
K, KE = importlib.import_module("k_diffusion.sampling"), importlib.import_module("k_diffusion.external")
K.torch = Torch()
for name in ("", ".shared", ".devices", ".sd_samplers_cfg_denoiser", ".sd_samplers_kdiffusion", ".sd_samplers_common", ".models", ".models.diffusion", ".torch_utils"):
    sys.modules["modules" + name] = mock.MagicMock()
sys.modules["modules"].__path__ = [FORGE + "/modules"]
sys.modules["modules.torch_utils"].float64 = lambda x: torch.float64
shared = sys.modules["modules"].shared = sys.modules["modules.shared"]
shared.sd_model.is_sdxl = False
shared.opts.beta_dist_alpha = shared.opts.beta_dist_beta = 0.6
shared.opts.uni_pc_variant, shared.opts.uni_pc_skip_type, shared.opts.uni_pc_order, shared.opts.uni_pc_lower_order_final = "bh1", "time_uniform", 3, True
U = package("modules.models.diffusion.uni_pc", FORGE + "/modules/models/diffusion/uni_pc")
U.uni_pc = importlib.import_module("modules.models.diffusion.uni_pc.uni_pc")
sys.modules["modules.models.diffusion"].uni_pc = U
SCHEDULES, TS, LCM, EXTRA = (load("modules." + n, f"{FORGE}/modules/{n}.py") for n in ("sd_schedulers", "sd_samplers_timesteps_impl", "sd_samplers_lcm", "sd_samplers_extra"))
for m in (SCHEDULES, TS, LCM, EXTRA): m.torch = Torch()


class Latent(torch.nn.Module):
    """LatentDiffusion: eps of x at unit variance and a timestep."""
    def __init__(self):
        super().__init__()
        self.alphas_cumprod = torch.tensor(AC)
        self.forge_objects = types.SimpleNamespace(unet=types.SimpleNamespace(model=types.SimpleNamespace(predictor=types.SimpleNamespace(sigmas=SIGMAS))))
        self.inner_model = self
    def eps(self, x, t, part=COMPONENTS): return denoise(x.reshape(len(x), -1), *level(float(torch.as_tensor(t).reshape(-1)[0])), part)[1].reshape(x.shape)
    def apply_model(self, x, t, **k): return self.eps(x, t)
    def forward(self, x, t, **k):  # A1111's samplers with timesteps
        self.last_noise_uncond = self.eps(x, t, COMPONENTS // 2)
        return self.eps(x, t)


class Denoiser(KE.DiscreteEpsDDPMDenoiser):
    def get_eps(self, *a, **k): return self.inner_model.apply_model(*a, **k)


WRAP = Denoiser(Latent(), torch.tensor(AC), quantize=False)
LCM_WRAP = LCM.LCMCompVisDenoiser(Latent())
DISCARD = ("dpm_2", "dpm_2_ancestral", "dpmpp_3m_sde")
AUTOMATIC = {"dpm_2": "karras", "dpm_2_ancestral": "karras", "dpmpp_2s_ancestral": "karras", "dpmpp_sde": "karras", "dpmpp_2m": "karras", "dpmpp_2m_sde": "exponential",
             "dpmpp_2m_sde_heun": "exponential", "dpmpp_3m_sde": "exponential", "restart": "karras"}


def a1111_sigmas(scheduler, n):
    s = {x.name: x for x in SCHEDULES.schedulers}[scheduler]
    if s.function is None: return WRAP.get_sigmas(n)
    kwargs = {"sigma_min": WRAP.sigmas[0].item(), "sigma_max": WRAP.sigmas[-1].item(), "device": "cpu"}
    if s.need_inner_model: kwargs["inner_model"] = WRAP
    if "rho" in inspect.signature(s.function).parameters: kwargs["rho"] = s.default_rho
    return s.function(n=n, **kwargs)


def a1111_timesteps(sampler, steps, strength):
    """CompVisSampler: get_timesteps, sample, sample_img2img."""
    ts = torch.clip(torch.asarray(list(range(0, 1000, 1000 // steps))) + 1, 0, 999)
    x, kwargs = torch.tensor(NOISE[0]), {}
    if strength is not None:
        t_enc = int(min(strength, 0.999) * steps)
        ac = torch.tensor(AC)[ts[t_enc]]
        x, ts = IMAGE * ac.sqrt() + x * (1 - ac).sqrt(), ts[:t_enc]
    f = {"ddim": TS.ddim, "ddim_cfgpp": TS.ddim_cfgpp, "plms": TS.plms, "unipc": TS.unipc}[sampler]
    if sampler == "unipc": kwargs["is_img2img"] = strength is not None
    return f(Latent(), x[..., None, None], ts, extra_args={}, disable=True, callback=lambda d: None, **kwargs)


def a1111(sampler, scheduler, steps, strength=None, options={}):
    Draws.n = 0
    if sampler in ("ddim", "ddim_cfgpp", "plms", "unipc"): return a1111_timesteps(sampler, steps, strength)
    discard = sampler in DISCARD
    wrap = LCM_WRAP if sampler == "lcm" else WRAP
    sigmas = LCM_WRAP.get_sigmas(steps) if sampler == "lcm" else a1111_sigmas(scheduler or AUTOMATIC.get(sampler, "uniform"), steps + discard)
    if discard: sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
    x = torch.tensor(NOISE[0])
    if strength is None: x = x * sigmas[0]
    else:
        sigmas = sigmas[steps - int(min(strength, 0.999) * steps) - 1:]
        x = IMAGE + x * sigmas[0]
    f = {"restart": EXTRA.restart_sampler, "lcm": LCM.sample_lcm, "dpmpp_2m_sde_heun": K.sample_dpmpp_2m_sde}.get(sampler) or getattr(K, "sample_" + sampler)
    known, kwargs = inspect.signature(f).parameters, dict(options)
    if "noise_sampler" in known: kwargs["noise_sampler"] = Draws.next
    if sampler == "dpmpp_2m_sde_heun": kwargs["solver_type"] = "heun"
    if "eta" in known: kwargs.setdefault("eta", 1.0)  # A1111 hands its own setting to all that have one, dpm_fast and dpm_adaptive too
    if "sigma_min" in known:
        low, high = (WRAP.sigmas[0], WRAP.sigmas[-1]) if strength is None else (sigmas[-2], sigmas[0])
        kwargs.update(sigma_min=float(low), sigma_max=float(high))
        if "n" in known: kwargs["n"] = steps if strength is None else len(sigmas) - 1
    else: kwargs["sigmas"] = sigmas
    return f(wrap, x, disable=True, **kwargs)


# ---- what is run ----------------------------------------------------------------------------------------------------------------
COMFY_SAMPLERS = ["euler", "euler_ancestral", "heun", "heunpp2", "dpm_2", "dpm_2_ancestral", "lms", "dpm_fast", "dpm_adaptive", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m",
                  "dpmpp_2m_sde", "dpmpp_3m_sde", "ddpm", "lcm", "ipndm", "ipndm_v", "res_multistep", "res_multistep_ancestral", "gradient_estimation", "er_sde", "ddim", "uni_pc",
                  "uni_pc_bh2", "euler_cfg_pp", "euler_ancestral_cfg_pp", "dpmpp_2m_cfg_pp", "dpmpp_2s_ancestral_cfg_pp"]
A1111_SAMPLERS = ["euler", "euler_ancestral", "heun", "dpm_2", "dpm_2_ancestral", "lms", "dpm_fast", "dpm_adaptive", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m", "dpmpp_2m_sde",
                  "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "restart", "ddim", "ddim_cfgpp", "plms", "unipc", "lcm"]
COMFY_SCHEDULES = ["normal", "karras", "exponential", "sgm_uniform", "simple", "ddim_uniform", "beta", "kl_optimal"]
A1111_SCHEDULES = {"uniform": "uniform", "karras": "karras", "exponential": "exponential", "polyexponential": "polyexponential", "sgm_uniform": "sgm_uniform", "kl_optimal": "kl_optimal",
                   "align_your_steps": "ays", "simple": "simple", "normal": "normal", "ddim": "ddim_uniform", "beta": "beta"}
CASES = []  # program, sampler, schedule, steps, strength, options
for i, s in enumerate(COMFY_SAMPLERS):
    schedule = COMFY_SCHEDULES[i % len(COMFY_SCHEDULES)]  # step counts that put no timestep half way between two, where a last bit would decide
    CASES += [("comfyui", s, schedule, 7 if schedule == "sgm_uniform" or s.startswith("uni_pc") else 8, None, {}), ("comfyui", s, "karras", 6, 0.6, {})]
for i, s in enumerate(A1111_SAMPLERS):
    own = s in ("ddim", "ddim_cfgpp", "plms", "unipc", "lcm")
    CASES += [("a1111", s, None, 7, None, {}), ("a1111", s, None if own else list(A1111_SCHEDULES)[i % 11], 10, 0.55, {})]
CASES += [("a1111", "restart", None, 22, None, {}), ("a1111", "restart", None, 37, None, {}), ("a1111", "dpm_fast", None, 9, None, {"eta": 0.5}), ("a1111", "dpm_fast", None, 2, None, {}),
          ("a1111", "euler", None, 8, None, {"s_churn": 4.0, "s_tmin": 0.3, "s_tmax": 8.0, "s_noise": 1.01}), ("comfyui", "euler", "normal", 8, None, {"s_churn": 4.0, "s_tmin": 0.3, "s_tmax": 8.0}),
          ("comfyui", "heunpp2", "normal", 8, None, {"s_churn": 2.0}), ("a1111", "dpm_2", None, 8, None, {"s_churn": 3.0}), ("a1111", "dpm_adaptive", None, 7, None, {"order": 2}),
          ("a1111", "dpm_adaptive", None, 7, None, {"eta": 1.0}), ("comfyui", "dpmpp_sde", "beta", 9, None, {"eta": 0.4, "s_noise": 0.9})]


def short(x): return float("%.13g" % x)


def main():
    runs, lists = [], []
    for program, sampler, schedule, steps, strength, options in CASES:
        x = globals()[program](sampler, schedule, steps, strength, options)
        entry = {"program": program, "sampler": sampler, "schedule": A1111_SCHEDULES.get(schedule, schedule) if program == "a1111" else schedule, "steps": steps, "strength": strength, "options": options,
                 "noises_used": Draws.n, "final": [short(v) for v in x.reshape(-1).tolist()]}
        assert all(map(math.isfinite, entry["final"])), entry
        runs.append(entry)
    for n in (1, 2, 7, 30):
        for s in COMFY_SCHEDULES:
            if s == "kl_optimal" and n == 1: continue  # 0/0 there
            lists.append({"program": "comfyui", "schedule": s, "steps": n, "sigmas": [short(v) for v in C.calculate_sigmas(MS, s, n).tolist()]})
        for s in A1111_SCHEDULES: lists.append({"program": "a1111", "schedule": A1111_SCHEDULES[s], "steps": n, "sigmas": [short(float(v)) for v in a1111_sigmas(s, n)]})
    for name, rows in (("k_runs", runs), ("k_lists", lists)):
        with open(f"{OUT}/{name}.json", "w") as f: f.write("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]\n")
    print(len(runs), "runs,", len(lists), "lists")


main()
