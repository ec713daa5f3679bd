#!/usr/bin/env python3
"""scheduler.py REFERENCE OUT: what the scheduler tests compare with, chosen from the reference set.

REFERENCE holds schedules/, trajectories/ and rng/ (timesteps and sigmas of diffusers' classes; states of their samplers on an
analytic denoiser, computed in float64; torch's random numbers). OUT becomes tests/golden/scheduler. Needs numpy."""
import json, os, shutil, sys

CLASSES = {"EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler", "DDIMScheduler", "PNDMScheduler",
           "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "LCMScheduler"}
LATER = ("algorithm_type",)  # samplers of a later time


def main():
    src, out = sys.argv[1:3]
    os.makedirs(out, exist_ok=True)
    keep = [e for e in json.load(open(f"{src}/schedules/diffusers_schedules.json"))
            if e["class"] in CLASSES and "error" not in e and not any(k in e["config"] for k in LATER)]
    with open(f"{out}/schedules.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e, separators=(",", ":")) for e in keep) + "\n]\n")
    chosen = []
    for e in json.load(open(f"{src}/trajectories/index.json")):
        c = e.get("config", {})
        if e["library"] != "diffusers" or e["class"] not in CLASSES or "sde" in c.get("algorithm_type", "") or c.get("algorithm_type") == "dpmsolver" or not c.get("predict_x0", True):
            continue
        chosen.append({k: e[k] for k in ("id", "class", "config", "step_arguments", "steps", "timesteps", "init_noise_sigma", "noises_used", "file_f8", "model_alpha_sigma") if k in e})
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
