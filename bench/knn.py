#!/usr/bin/env python3
"""Exact search beside numpy, in turn: python knn.py BENCH_KNN [--rows 1000000] [--width 512] [--pairs 5]. numpy has float32 rows in memory,
BLAS's product and argpartition for the best ten; diffc has float16 rows in mapped pages, and keeps the best ten as it goes."""
import argparse
import json
import os
import statistics
import subprocess
import time

import numpy as np


def seconds(rows, queries):
    began = time.perf_counter()
    scores = rows @ queries.T
    best = np.argpartition(scores, -10, axis=0)[-10:]
    assert best.shape == (10, len(queries))
    return time.perf_counter() - began


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("bench")
    p.add_argument("--rows", type=int, default=1000000)
    p.add_argument("--width", type=int, default=512)
    p.add_argument("--pairs", type=int, default=5)
    a = p.parse_args()
    g, threads = np.random.default_rng(0), str(len(os.sched_getaffinity(0)))
    rows, queries = g.standard_normal((a.rows, a.width), dtype=np.float32), g.standard_normal((32, a.width), dtype=np.float32)
    ratios = {"one": [], "many": []}
    for _ in range(a.pairs):
        ours = json.loads(subprocess.check_output([a.bench, threads, str(a.rows), str(a.width)]))
        theirs = {name: statistics.median(seconds(rows, queries[:n]) for _ in range(3)) for name, n in (("one", 1), ("many", ours["queries"]))}
        for name in ratios:
            ratios[name].append(theirs[name] / ours[name])
        print(f"# {ours}; numpy {theirs['one']:.4f} and {theirs['many']:.4f} s", flush=True)
    for name, r in ratios.items():
        print(f"numpy / diffc, {name}: {statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})")


if __name__ == "__main__":
    main()
