#!/usr/bin/env python3
"""scheduler.py REFERENCE OUT: what the scheduler tests compare with, chosen from the reference set.

REFERENCE holds schedules/, trajectories/ and rng/ (timesteps and sigmas of diffusers' classes; states of their samplers on an
analytic denoiser, computed in float64; torch's random numbers). OUT becomes tests/golden/scheduler. Needs numpy."""
import json, os, shutil, sys

CLASSES = {f"{c}Scheduler" for c in ("EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "LMSDiscrete", "DDIM", "PNDM", "DPMSolverMultistep", "UniPCMultistep", "LCM",
           "TCD", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DEISMultistep", "DPMSolverSinglestep")}
LATER = ("dpm_fast", "dpm_adaptive")  # samplers that build their own levels


def main():
    src, out = sys.argv[1:3]
    os.makedirs(out, exist_ok=True)
    keep = [e for e in json.load(open(f"{src}/schedules/diffusers_schedules.json")) if e["class"] in CLASSES and "error" not in e
            and not (e["steps"] == 1 and e["label"].startswith("deis_"))]  # there the class's only step leads from a sigma to itself
    with open(f"{out}/schedules.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e, separators=(",", ":")) for e in keep) + "\n]\n")
    chosen = []
    for e in json.load(open(f"{src}/trajectories/index.json")):
        if e["class"] not in CLASSES if e["library"] == "diffusers" else e["sampler"] in LATER or e.get("options", {}).get("s_churn") or e.get("options", {}).get("s_noise"):
            continue
        chosen.append({k: e[k] for k in ("id", "class", "sampler", "options", "config", "step_arguments", "steps", "sigmas", "timesteps", "init_noise_sigma", "noises_used", "file_f8",
                                         "model_alpha_sigma") if k in e and not (k in ("sigmas", "sampler") and e["library"] == "diffusers")})
        shutil.copyfile(f"{src}/trajectories/{e['file_f8']}", f"{out}/{e['file_f8']}")
    with open(f"{out}/trajectories.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e, separators=(",", ":")) for e in chosen) + "\n]\n")
    for name in ("mixture.json", "noise_f4.npy"):
        shutil.copyfile(f"{src}/trajectories/{name}", f"{out}/{name}")
    rng = [e for e in json.load(open(f"{src}/rng/index.json")) if e["dtype"] == "float32" and os.path.getsize(f"{src}/rng/{e['file']}") < 8192]
    for e in rng:
        shutil.copyfile(f"{src}/rng/{e['file']}", f"{out}/{e['file']}")
    with open(f"{out}/rng.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps({k: e[k] for k in ("seed", "shape", "rng", "calls", "file") if k in e}) for e in rng) + "\n]\n")


main()
