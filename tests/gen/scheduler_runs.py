#!/usr/bin/env python3
"""scheduler_runs.py OUT: diffusers' schedulers run in float64 on the analytic denoiser of OUT/mixture.json, with what the trajectories of
scheduler.py leave out: image-to-image (the tail of a schedule), odd step counts, keys of scheduler_config.json that change a run. Only
the last state is kept. Writes OUT/runs.json. Needs numpy, scipy, torch, diffusers 0.42."""
import importlib, json, math, sys
import numpy as np, torch
import diffusers.schedulers as DS, diffusers.utils.logging as log

log.set_verbosity_error()
torch.set_num_threads(1)
OUT = sys.argv[1]
MIX = {k: torch.tensor(v, dtype=torch.float64) for k, v in json.load(open(f"{OUT}/mixture.json")).items()}
NOISE = np.load(f"{OUT}/noise_f4.npy").astype(np.float64)
IMAGE = torch.tensor(NOISE[63] * 0.5)  # the start image; the last of the noises, which no run reaches


class Double:
    """Lets a scheduler module compute in double where it says float32."""
    def __init__(self, module): self.module = module
    def __getattr__(self, key): return getattr(self.module, "float64" if key == "float32" else key)


class Noise:
    def __init__(self): self.n = 1
    def next(self, *a, **k): self.n += 1; return torch.tensor(NOISE[self.n - 1])


def level(ac, t):
    """(a, s) of timestep t: the table at whole ones, log-linear in sigma between."""
    if t == int(t): return math.sqrt(ac[int(t)]), math.sqrt(1 - ac[int(t)])
    with np.errstate(divide="ignore"): ls = 0.5 * np.log((1 - ac) / ac)
    s = math.exp(np.interp(t, np.arange(len(ls)), ls))
    return 1 / math.hypot(1, s), s / math.hypot(1, s)


def denoise(x, a, s, prediction):
    d = x[:, None] - a * MIX["mu"]
    c = a * a * MIX["v"] + s * s
    r = torch.softmax(torch.log(MIX["w"] / MIX["w"].sum()) - 0.5 * (d * d / c + torch.log(c)).sum(-1), -1)[..., None]
    x0, eps = (r * (MIX["mu"] + a * MIX["v"] / c * d)).sum(1), (r * s / c * d).sum(1)
    return {"epsilon": eps, "v_prediction": a * eps - s * x0, "sample": x0}[prediction]


def run(cls, config, steps, strength, eta):
    s = getattr(DS, cls).from_config(config)
    s.set_timesteps(steps)
    ac, ts, x = s.alphas_cumprod.double().numpy(), s.timesteps, torch.tensor(NOISE[0])
    if strength is None: x = x * s.init_noise_sigma
    else:  # as the image-to-image pipelines
        k = max(steps - min(int(steps * strength), steps), 0) * s.order
        ts = ts[k:]
        if hasattr(s, "set_begin_index"): s.set_begin_index(k)
        x = s.add_noise(IMAGE, x, ts[:1])
    levels = [level(ac, float(t)) for t in ts]
    for t, (a, b) in zip(ts, levels):
        seen = s.scale_model_input(x, t) if hasattr(s, "scale_model_input") else x
        x = s.step(denoise(seen, a, b, s.config.prediction_type), t, x, **({} if eta is None else {"eta": eta}), return_dict=False)[0]
    return x, [float(t) for t in ts], levels


def double_run(cls, *args):
    torch.set_default_dtype(torch.float64)
    module, noise = importlib.import_module(getattr(DS, cls).__module__), Noise()
    old = {k: getattr(module, k) for k in ("torch", "np", "randn_tensor") if hasattr(module, k)}
    for k in old: setattr(module, k, noise.next if k == "randn_tensor" else Double(old[k]))
    try: x, ts, levels = run(cls, *args)
    finally:
        for k, v in old.items(): setattr(module, k, v)
        torch.set_default_dtype(torch.float32)
    short = lambda v, digits: float(f"%.{digits}g" % v)  # what the test's tolerances read
    return {"timesteps": [short(t, 14) for t in ts], "model_alpha_sigma": [[short(v, 14) for v in l] for l in levels], "noises_used": noise.n - 1,
            "final": [short(v, 12) for v in x.reshape(-1).tolist()]}


SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
EULER, EULER_A, HEUN, LMS = "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler"
DPM, UNIPC, DDIM, PNDM, LCM = "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DDIMScheduler", "PNDMScheduler", "LCMScheduler"
LEAD, TRAIL, LIN = ({"timestep_spacing": "leading", "steps_offset": 1}, {"timestep_spacing": "trailing"}, {"timestep_spacing": "linspace"})
V, SAMPLE, MIN = {"prediction_type": "v_prediction"}, {"prediction_type": "sample"}, {"final_sigmas_type": "sigma_min"}
PLMS, PLAIN = {"skip_prk_steps": True}, {"clip_sample": False}
CASES = []  # class, config, steps, strength, eta
for cls, own in ((EULER, {}), (EULER_A, {}), (HEUN, {}), (DPM, {}), (UNIPC, {}), (DDIM, PLAIN), (PNDM, PLMS), (LCM, {})):  # LMS there: see below
    CASES += [(cls, dict(own, **LEAD), 10, 0.6, None), (cls, dict(own, **LIN, **V), 7, 0.35, None), (cls, dict(own, **TRAIL), 3, 1.0, None)]
for cls, own in ((EULER, {}), (HEUN, {}), (LMS, {}), (DPM, {}), (UNIPC, {}), (DDIM, PLAIN), (LCM, {})):
    CASES += [(cls, dict(own, **SAMPLE), 8, None, None), (cls, dict(own, beta_schedule="linear"), 5, None, None)]
for cls in (EULER, HEUN, LMS, DPM, UNIPC):
    CASES += [(cls, {flag: True, **LEAD}, 6, None, None) for flag in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")]
CASES += [(EULER, MIN, 6, None, None), (EULER, {"sigma_min": 0.1, "sigma_max": 10.0, "use_karras_sigmas": True}, 6, None, None)]
CASES += [(DPM, c, 6, None, None) for c in (MIN, dict(MIN, solver_order=3, lower_order_final=False), {"solver_order": 1}, {"use_lu_lambdas": True},
                                            {"solver_type": "heun"}, dict(MIN, euler_at_final=True), {"beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": True})]
CASES += [(DPM, {}, n, None, None) for n in (1, 2, 15, 30)] + [(UNIPC, {}, 30, None, None)]  # 30: numpy's linspace is below 499.5 in the middle
CASES += [(UNIPC, c, 6, None, None) for c in (dict(MIN, predict_x0=False), {"disable_corrector": [0, 1]}, {"solver_order": 3, "solver_type": "bh1", **MIN})]
CASES += [(DDIM, dict(PLAIN, **LEAD, set_alpha_to_one=a), 7, None, e) for a in (True, False) for e in (0.0, 0.4, 1.0)]
CASES += [(cls, dict(own, **TRAIL, **V, rescale_betas_zero_snr=True), 6, None, None) for cls, own in ((DPM, {}), (UNIPC, {}), (LMS, {}), (HEUN, {}), (DDIM, PLAIN), (PNDM, PLMS), (LCM, {}))]
CASES += [(DDIM, dict(PLAIN, trained_betas=[0.02 + 0.001 * i for i in range(50)], num_train_timesteps=50), 5, None, None)]
KDPM2, KDPM2_A, DEIS, TCD, DDPM, SINGLE = ("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DEISMultistepScheduler", "TCDScheduler", "DDPMScheduler", "DPMSolverSinglestepScheduler")
SDE = {"algorithm_type": "sde-dpmsolver++"}
for cls, own in ((KDPM2, {}), (KDPM2_A, {}), (DEIS, {"solver_order": 3}), (TCD, {}), (DDPM, PLAIN), (SINGLE, {}), (SINGLE, {"solver_order": 3}), (SINGLE, SDE), (DPM, SDE),
                 (DPM, {"algorithm_type": "dpmsolver", "solver_order": 3, **MIN})):
    CASES += [(cls, dict(own, **LEAD), 10, 0.6, None), (cls, dict(own, **TRAIL, **V), 7, None, None), (cls, dict(own, **LIN), 16, None, None)]
CASES += [(cls, {"use_karras_sigmas": True}, 6, None, None) for cls in (KDPM2, KDPM2_A, DEIS, SINGLE)]
CASES += [(SINGLE, dict(MIN, **c), n, None, None) for n in (6, 7) for c in ({}, {"lower_order_final": True}, {"solver_order": 3}, {"solver_order": 3, "lower_order_final": True})]
CASES += [(DPM, dict(SDE, solver_type="heun"), 6, None, None), (DPM, {"algorithm_type": "dpmsolver", "solver_type": "heun", **MIN}, 6, None, None)]
CASES += [(DPM, dict(TRAIL), 48, None, None), (DPM, dict(MIN, solver_order=3), 15, None, None), (DPM, dict(MIN, solver_order=3), 20, 0.5, None),
          (DPM, dict(MIN, euler_at_final=True), 16, None, None)]  # arange's rounding; where lower orders end a run
CASES += [(TCD, {}, 4, None, e) for e in (0.0, 0.5, 1.0)]

rows = []
for cls, config, steps, strength, eta in CASES:
    config = dict(SD, **config)
    rows.append({"class": cls, "config": config, "steps": steps, "strength": strength, "eta": eta, **double_run(cls, config, steps, strength, eta)})
    assert all(map(math.isfinite, rows[-1]["final"])), rows[-1]
with open(f"{OUT}/runs.json", "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]\n")
print(len(rows), "runs")
