#!/usr/bin/env python3
"""brownian.py OUT: noises of k-diffusion's BrownianTreeNoiseSampler over torchsde's BrownianTree: OUT/brownian.json and OUT/brownian.npy.

Needs torch, numpy, torchsde, and k-diffusion's file sampling.py with what it imports (0.1.1; the rest of that package is not loaded). The nodes' noises are
torch's CPU generator's, or, as AUTOMATIC1111's program has them, those of the one that counts as CUDA's does. OUT is tests/golden/scheduler."""
import importlib.util, json, math, sys, types
import numpy as np, torch
import torchsde._brownian.brownian_interval as interval


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


def main():
    out = sys.argv[1]
    sampling = load_sampling()
    cpu = interval._randn
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
        interval._randn = cpu if kind == "cpu" else lambda size, dtype, device, seed: torch.from_numpy(philox_normal(int(seed), math.prod(size)).reshape(size)).to(dtype)
        noise = sampling.BrownianTreeNoiseSampler(torch.zeros(shape), torch.tensor(low), torch.tensor(high), seed=seed)
        got = [noise(torch.tensor(float(a)), torch.tensor(float(b))).numpy().reshape(-1) for a, b in asked]
        index.append({"rng": kind, "seed": [str(s) for s in (seed if isinstance(seed, list) else [seed])], "n": math.prod(shape), "range": [low, high], "intervals": [[float(a), float(b)] for a, b in asked], "at": at})
        at += sum(len(g) for g in got)
        values += got
    with open(f"{out}/brownian.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e) for e in index) + "\n]\n")
    np.save(f"{out}/brownian.npy", np.concatenate(values).astype(np.float32))


main()
