#!/usr/bin/env python3
"""noises.py OUT: the noises of k-diffusion's BrownianTreeNoiseSampler over torchsde's BrownianTree (OUT/brownian.json, .npy), and what is drawn for
batches of pictures by the rules of several programs (OUT/draws.json, .npy), and whole runs of its samplers (OUT/noise_runs.json, .npy).

Needs torch, numpy, diffusers, torchsde, and k-diffusion's file sampling.py with what it imports (0.1.1; the rest of that package is not loaded). The nodes'
noises are torch's CPU generator's, or, as AUTOMATIC1111's program has them, those of the one that counts as CUDA's does. OUT is tests/golden/scheduler."""
import importlib.util, json, math, sys, types
import numpy as np, torch
import torchsde._brownian.brownian_interval as interval
from diffusers.utils.torch_utils import randn_tensor


def load_sampling():
    at = importlib.util.find_spec("k_diffusion").submodule_search_locations
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(at)
    sys.modules["k_diffusion"] = package
    return importlib.import_module("k_diffusion.sampling")


def philox_normal(seed, n, call=0):
    """One normal an element, counter (call, 0, element, 0), key the seed; Salmon et al. 2011."""
    c = [np.full(n, call, np.uint64), np.zeros(n, np.uint64), np.arange(n, dtype=np.uint64), np.zeros(n, np.uint64)]
    k, low = [seed & 0xffffffff, seed >> 32], np.uint64(0xffffffff)
    for _ in range(10):
        a, b = np.uint64(0xd2511f53) * c[0], np.uint64(0xcd9e8d57) * c[2]
        c = [(b >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]), b & low, (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]), a & low]
        k = [(k[0] + 0x9e3779b9) & 0xffffffff, (k[1] + 0xbb67ae85) & 0xffffffff]
    u, v = (c[0].astype(np.float64) + .5) * 2.0**-32, (c[1].astype(np.float64) + .5) * 2.0**-32 * 2 * math.pi
    return (np.sqrt(-2 * np.log(u)) * np.sin(v)).astype(np.float32)


def karras(n, low=0.0291675, high=14.614643):
    r = np.linspace(0, 1, n)
    return list((high**(1 / 7) + r * (low**(1 / 7) - high**(1 / 7)))**7)


TORCH_NODES = interval._randn


def nodes_drawn_by(kind):
    interval._randn = TORCH_NODES if kind == "cpu" else lambda size, dtype, device, seed: torch.from_numpy(philox_normal(int(seed), math.prod(size)).reshape(size)).to(dtype)


def brownian(sampling, out):
    steps = karras(7)
    pairs = list(zip(steps, steps[1:]))
    middles = [q for a, b in pairs for q in ((a, math.sqrt(a * b)), (a, b))]
    odd = [(14.614643, 0.0291675), (1, 1.000001), (1.000001, 1), (3, 2.999998), (7.321905, 2), (0.5, 8), (20, 3), (3, 0.001), (2, 2.0000001)]
    usual, wide, rough = (0.0291675, 14.614643), (0.03125, 4096.0), (0.0291675, 157.4)
    cases = [("cpu", s, [1, 4, 3, 5], usual, pairs) for s in (0, 1, 42, 2**32 - 1, 2**32 + 42, 2**63 + 5)]
    cases += [("cuda", s, [1, 4, 3, 5], usual, pairs[:3]) for s in (0, 7, 2**40 + 1)]
    cases += [("cpu", 5, [1, 5], usual, pairs), ("cpu", 5, [1, 17], usual, pairs), ("cuda", 5, [1, 5], usual, pairs), ("cpu", 123, [1, 1], usual, middles + odd),
              ("cpu", 123, [1, 16], usual, middles[::-1]), ("cuda", 123, [1, 3], usual, middles + odd), ("cpu", 9, [1, 18], (0.1, 10.0), [(10, 1), (1, 0.1), (10, 9.5)]),
              ("cpu", 9, [1, 18], wide, [(4096, 1000), (4096, 3999.123), (1000, 2), (2, 0.03125)]), ("cpu", 9, [1, 18], rough, [(157.4, 62.92927), (0.8312024, 62.92927)]), ("cpu", [11, 12, 13], [3, 2, 3, 3], usual, pairs[:4]),
              ("cuda", [11, 12], [2, 2, 3, 3], usual, pairs[:4]), ("cpu", 77, [3, 2, 3, 3], usual, pairs[:4])]
    index, values, at = [], [], 0
    for kind, seed, shape, (low, high), asked in cases:
        nodes_drawn_by(kind)
        noise = sampling.BrownianTreeNoiseSampler(torch.zeros(shape), torch.tensor(low), torch.tensor(high), seed=seed)
        got = [noise(torch.tensor(float(a)), torch.tensor(float(b))).numpy().reshape(-1) for a, b in asked]
        index.append({"rng": kind, "seed": [str(s) for s in (seed if isinstance(seed, list) else [seed])], "n": math.prod(shape), "range": [low, high], "intervals": [[float(a), float(b)] for a, b in asked], "at": at})
        at += sum(len(g) for g in got)
        values += got
    with open(f"{out}/brownian.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e) for e in index) + "\n]\n")
    np.save(f"{out}/brownian.npy", np.concatenate(values).astype(np.float32))



class Generator:
    """torch.Generator of a device; the CUDA one by its definition."""
    def __init__(self, kind, seed):
        self.kind, self.seed, self.calls = kind, seed, 0
        self.cpu = torch.Generator("cpu").manual_seed(seed) if kind == "cpu" else None

    def randn(self, shape):
        if self.cpu: return torch.randn(shape, generator=self.cpu)
        self.calls += 1
        return torch.from_numpy(philox_normal(self.seed, math.prod(shape), self.calls - 1).reshape(shape))


def arc(share, low, high):
    """A1111's way from one noise to another: along the arc within each column (norms over axis 1), by a chord of changed weights when close."""
    unit = lambda t: t / torch.norm(t, dim=1, keepdim=True)
    dot = (unit(low) * unit(high)).sum(1)
    if dot.mean() > 0.9995: return low * share + high * (1 - share)
    angle = torch.acos(dot)
    part = lambda f: (torch.sin(f * angle) / torch.sin(angle)).unsqueeze(1)
    return part(1.0 - share) * low + part(share) * high


def a1111(kind, e):
    """Per picture: its own generator, seeded seed + i (or seed, when a variation tells the pictures apart)."""
    n, shape, share, delta = e["n"], tuple(e["shape"]), e.get("variation_strength", 0), e.get("ensd", 0)
    seeds = [e["seed"] + (0 if share else e["first"] + i) for i in range(n)]
    own = [Generator(kind, s) for s in seeds]
    small = (shape[0], e["from"][0], e["from"][1]) if "from" in e else shape
    start = []
    for i in range(n):
        noise = Generator(kind, seeds[i]).randn(small) if small != shape else own[i].randn(shape)
        if share: noise = arc(share, noise, Generator(kind, e["variation_seed"] + e["first"] + i).randn(small))
        if small != shape:
            x = own[i].randn(shape)
            dx, dy = (shape[2] - small[2]) // 2, (shape[1] - small[1]) // 2
            w, h = small[2] + min(2 * dx, 0), small[1] + min(2 * dy, 0)
            x[:, max(dy, 0):max(dy, 0) + h, max(dx, 0):max(dx, 0) + w] = noise[:, max(-dy, 0):max(-dy, 0) + h, max(-dx, 0):max(-dx, 0) + w]
            noise = x
        start.append(noise)
    if delta: own = [Generator(kind, s + delta) for s in seeds]
    return seeds, torch.stack(start), lambda: torch.stack([g.randn(shape) for g in own])


def drawn(sampling, e):
    """What one batch draws, in order: the posterior's noise where there is one, the start noise, two steps'."""
    rule, n, whole = e["convention"], e["n"], (e["n"], *e["shape"])
    between = [(14.614643, 2.25), (2.25, 0.0291675)]
    if rule in ("a1111", "a1111-cpu"):
        kind = "cpu" if rule == "a1111-cpu" else "cuda"
        seeds, start, step = a1111(kind, e)
        tree = (kind, seeds)
        out = [start]
    elif rule.startswith("comfyui"):
        seed = e["seed"] + e["first"]
        out = [torch.randn(whole, generator=torch.manual_seed(seed))]
        apart = Generator("cpu", seed + 1) if rule == "comfyui-cpu" else Generator("cuda", seed)
        step = lambda: apart.randn(whole)
        tree = ("cuda" if rule == "comfyui-gpu" else "cpu", seed)
    elif rule == "diffusers":
        one = torch.Generator("cpu").manual_seed(e["seed"] + e["first"])
        step = lambda: randn_tensor(whole, generator=one)
        out = [randn_tensor((1, *e["shape"]), generator=one).expand(whole), step()]
    elif rule == "cpu":
        each = [torch.Generator("cpu").manual_seed(e["seed"] + e["first"] + i) for i in range(n)]
        step = lambda: randn_tensor(whole, generator=each)
        out = [step(), step()]
    else:
        each = [Generator("cuda", e["seed"] + e["first"] + i) for i in range(n)]
        step = lambda: torch.stack([g.randn(tuple(e["shape"])) for g in each])
        out = [step(), step()]
    if e.get("brownian"):
        nodes_drawn_by(tree[0])
        sampler = sampling.BrownianTreeNoiseSampler(torch.zeros(whole), torch.tensor(0.0291675), torch.tensor(14.614643), seed=tree[1])
        return out + [sampler(torch.tensor(a), torch.tensor(b)) for a, b in between]
    return out + [step() for _ in between]


def draws(sampling, out):
    usual = {"seed": 40, "first": 0, "n": 2, "shape": [2, 3, 5]}
    cases = [{"convention": c, **usual} for c in ("cpu", "cuda", "a1111", "a1111-cpu", "comfyui", "comfyui-gpu", "comfyui-cpu", "diffusers")]
    cases += [{"convention": c, **usual, "brownian": True} for c in ("a1111", "a1111-cpu", "comfyui", "comfyui-gpu")]
    cases += [{"convention": c, **usual, "first": 4, "n": 3} for c in ("a1111", "comfyui", "diffusers")]
    cases += [{"convention": c, **usual, "shape": [1, 3, 3]} for c in ("cpu", "diffusers")]
    varied = {"variation_seed": 1000, "variation_strength": 0.3}
    cases += [{"convention": "a1111", **usual, **varied, "first": 2, "n": 2}, {"convention": "a1111-cpu", **usual, **varied},
              {"convention": "a1111-cpu", **usual, **varied, "variation_strength": 1.0, "brownian": True}, {"convention": "a1111-cpu", **usual, "variation_seed": 40, "variation_strength": 0.25, "n": 1},
              {"convention": "a1111", **usual, "ensd": 31337}, {"convention": "a1111-cpu", **usual, "ensd": -7, "n": 2},
              {"convention": "a1111-cpu", **usual, "from": [5, 2]}, {"convention": "a1111", **usual, "from": [6, 8]}, {"convention": "a1111-cpu", **usual, **varied, "from": [7, 4], "ensd": 1}]
    values, at = [], 0
    for e in cases:
        e["at"] = at
        values += [t.reshape(-1).numpy() for t in drawn(sampling, e)]
        at = sum(len(v) for v in values)
    with open(f"{out}/draws.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e) for e in cases) + "\n]\n")
    np.save(f"{out}/draws.npy", np.concatenate(values).astype(np.float32))


def runs(sampling, out):
    """Whole runs of k-diffusion's samplers that add noise, as A1111 and ComfyUI call them, of pictures whose data is normal with variance 1/4: the best denoiser of it is linear."""
    model = lambda x, sigma: x * (0.25 / (0.25 + sigma.reshape(-1, 1, 1, 1)**2))
    sigmas = torch.tensor(karras(8) + [0.0], dtype=torch.float32)
    index, values = [], []
    for name, call in (("dpm++sde", sampling.sample_dpmpp_sde), ("dpm++2m_sde", sampling.sample_dpmpp_2m_sde), ("dpm++3m_sde", sampling.sample_dpmpp_3m_sde),
                       ("euler_a", sampling.sample_euler_ancestral), ("dpm2_a", sampling.sample_dpm_2_ancestral), ("dpm++2s_a", sampling.sample_dpmpp_2s_ancestral)):
        for kind, rule in (("cuda", "a1111"), ("cpu", "a1111-cpu"), ("cpu", "comfyui")):
            e = {"sampler": name, "convention": rule, "seed": 80, "first": 0, "n": 2, "shape": [2, 3, 5], "sigmas": [float(v) for v in sigmas[:-1]], "at": 60 * len(values)}
            seeds, start, step = a1111(kind, e)
            if rule == "comfyui":
                seeds, start, apart = e["seed"], torch.randn(start.shape, generator=torch.manual_seed(e["seed"])), Generator("cuda", e["seed"])
                step = lambda: apart.randn(start.shape)
            nodes_drawn_by(kind)
            noise = tree = sampling.BrownianTreeNoiseSampler(start, sigmas[sigmas > 0].min(), sigmas.max(), seed=seeds)
            if rule == "comfyui":  # asks with the schedule's own sigmas where k-diffusion has made them from their logarithms
                own = lambda sigma: min(sigmas, key=lambda s: abs(s - sigma)) if min(abs(sigmas - sigma)) < 1e-6 * sigma else sigma
                noise = lambda a, b: tree(own(a), own(b))
            if "sde" not in name: noise = lambda a, b: step()
            scale = (1 + sigmas[0]**2)**0.5 if rule == "comfyui" else sigmas[0]  # its start where the schedule begins at the top
            values.append(call(model, start * scale, sigmas, noise_sampler=noise, disable=True).reshape(-1).numpy())
            index.append(e)
    with open(f"{out}/noise_runs.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e) for e in index) + "\n]\n")
    np.save(f"{out}/noise_runs.npy", np.concatenate(values).astype(np.float32))


sampling = load_sampling()
runs(sampling, sys.argv[1])
brownian(sampling, sys.argv[1])
draws(sampling, sys.argv[1])
