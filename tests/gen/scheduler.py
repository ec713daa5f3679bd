#!/usr/bin/env python3
"""scheduler.py REFERENCE OUT: what the scheduler tests compare with, chosen from the reference set.

REFERENCE holds schedules/, trajectories/, convergence/ and rng/ (timesteps and sigmas of diffusers' classes and of k-diffusion's schedules; states of
their samplers on an analytic denoiser, computed in float64; the errors of k-diffusion's samplers for ever more steps; torch's random numbers). OUT
becomes tests/golden/scheduler. Numbers are cut to the digits that the tests' tolerances read. Needs numpy."""
import json, os, shutil, sys
import numpy as np

CLASSES = {f"{c}Scheduler" for c in ("EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "LMSDiscrete", "DDIM", "PNDM", "DPMSolverMultistep", "UniPCMultistep", "LCM",
           "TCD", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DEISMultistep", "DPMSolverSinglestep")}


def short(x, digits):
    """x with every float cut to that many digits."""
    if isinstance(x, float): return float(f"%.{digits}g" % x)
    if isinstance(x, dict): return {k: short(v, digits) for k, v in x.items()}
    return [short(v, digits) for v in x] if isinstance(x, list) else x


def write(path, rows):
    with open(path, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]\n")


def main():
    src, out = sys.argv[1:3]
    os.makedirs(out, exist_ok=True)
    keep = [e for e in json.load(open(f"{src}/schedules/diffusers_schedules.json")) if e["class"] in CLASSES and "error" not in e
            and not (e["steps"] == 1 and e["label"].startswith("deis_"))]  # there the class's only step leads from a sigma to itself
    write(f"{out}/schedules.json", [short(e, 8) for e in keep])
    write(f"{out}/k_schedules.json", [short({k: e[k] for k in ("scheduler", "variant", "steps", "sigmas")}, 13) for e in json.load(open(f"{src}/schedules/k_schedules.json"))])
    write(f"{out}/k_get_sigmas.json", [short({k: e[k] for k in ("fn", "n", "sigma_min", "sigma_max", "rho", "sigmas_f8" if "sigmas_f8" in e else "sigmas_f4") if k in e}, 13)
                                       for e in json.load(open(f"{src}/schedules/k_get_sigmas.json"))])
    table = json.load(open(f"{src}/convergence/table.json"))
    exact = np.load(f"{src}/convergence/exact_f8.npy")[table["sigma_grid"].index(min(s for s in table["sigma_grid"] if s > 0))]
    write(f"{out}/convergence.json", [{"exact": short(exact.reshape(-1).tolist(), 14)}] + [
        short({"series": k, "options": v["options"], "intervals": v["intervals_from_sigma_max_to_sigma_min"], "errors": v["error_at_sigma_min"]}, 6) for k, v in table["max_abs_error"].items()])
    chosen = []
    for e in json.load(open(f"{src}/trajectories/index.json")):
        if e["library"] == "diffusers" and e["class"] not in CLASSES:  # IPNDM on the unit circle is no sampler for these models
            continue
        if e.get("sampler") != "dpm_adaptive": e.pop("trials", None)
        chosen.append({k: e[k] for k in ("id", "class", "sampler", "options", "config", "step_arguments", "steps", "sigmas", "timesteps", "init_noise_sigma", "noises_used", "file_f8",
                                         "model_alpha_sigma", "nfe", "trials") if k in e and not (k in ("sigmas", "sampler") and e["library"] == "diffusers")})
        shutil.copyfile(f"{src}/trajectories/{e['file_f8']}", f"{out}/{e['file_f8']}")
    write(f"{out}/trajectories.json", [short(e, 15) for e in chosen])
    for name in ("mixture.json", "noise_f4.npy"):
        shutil.copyfile(f"{src}/trajectories/{name}", f"{out}/{name}")
    rng = [e for e in json.load(open(f"{src}/rng/index.json")) if e["dtype"] == "float32" and os.path.getsize(f"{src}/rng/{e['file']}") < 8192]
    for e in rng:
        shutil.copyfile(f"{src}/rng/{e['file']}", f"{out}/{e['file']}")
    with open(f"{out}/rng.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps({k: e[k] for k in ("seed", "shape", "rng", "calls", "file") if k in e}) for e in rng) + "\n]\n")


main()
