"""The two sides of a comparison: each has time(), one turn's seconds, and afterwards tells its memory, CPU seconds and answer."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers.py")
PROMPT = "a photo of a cat"  # peers.py has its token ids

# What keeps a peer from instructions that a CPU of that level lacks: oneDNN, OpenVINO's own kernels (both must be set), ATen, MKL.
LIMITS = {"avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "OV_CPU_MAX_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}}


def precision_of(peer):
    """sd.cpp: products of fp16 weights, sums in float32."""
    return "f16" if peer == "sd.cpp" else peer.split("-")[1]


def environment(a):
    return {**os.environ, **LIMITS.get(a.isa, {})}


def whole_process(command, env=None):
    """(seconds, what it took, what it printed) of a program from start to end."""
    with tempfile.TemporaryFile("w+") as out:
        began = time.perf_counter()
        p = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env)
        _, status, usage = os.wait4(p.pid, 0)
        seconds = time.perf_counter() - began
        p.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if p.returncode:
        sys.exit(f"{' '.join(command)}\n{text[-2000:]}")
    return seconds, usage, text


class Side:
    def __init__(self, name, precision, answer):
        self.name, self.precision, self.answer = name, precision, answer  # answer: the file with what came out
        self.peak_gib, self.gflop, self.cpu_seconds = 0, 0, 0

    def took(self, usage):
        self.peak_gib = max(self.peak_gib, usage.ru_maxrss / 2**20)
        self.cpu_seconds = usage.ru_utime + usage.ru_stime


class Diffc(Side):
    """A fresh process each time, as its bench loads, packs and warms up by itself; the seconds are its median pass."""

    def __init__(self, a, folder):
        super().__init__("diffc " + a.precision, a.precision, os.path.join(folder, "diffc.npy"))
        self.command = [a.diffc, "bench", a.what, "-m", a.model, "--batch-size", str(a.batch), "-W", str(a.width), "-H", str(a.height),
                        "--precision", a.precision, "-t", str(a.threads), "--seconds", str(a.seconds), "--json", "-o", self.answer]
        self.command += ["--taesd", os.path.join(a.model, "taesd")] if a.what == "taesd" else []
        self.command += ["--cpu", a.isa] if a.isa else []

    def time(self):
        _, usage, text = whole_process(self.command)
        self.took(usage)
        d = json.loads(text[text.index("{"):])
        self.gflop = d["gflop"]
        return d["median"]


class Index(Side):
    """A fresh process and a fresh index each time; the seconds are its own count, from looking at the folder to the last commit, preparing the
    weights among them."""

    def __init__(self, a, folder):
        super().__init__("diffc " + a.precision, a.precision, os.path.join(folder, "diffc.npy"))
        self.index, self.diffc = os.path.join(folder, "index"), a.diffc
        self.command = [a.diffc, "index", a.pictures, "--index", self.index, "-m", a.model, "--precision", a.precision, "-t", str(a.threads), "--json"]
        self.command += (["--cpu", a.isa] if a.isa else [])

    def time(self):
        shutil.rmtree(self.index, ignore_errors=True)
        _, usage, text = whole_process(self.command)
        self.took(usage)
        whole_process([self.diffc, "search", "--index", self.index, "--export", self.answer])
        rows, paths = np.load(self.answer), open(self.answer[:-3] + "paths").read().splitlines()
        np.save(self.answer, rows[np.argsort(paths)])
        return json.loads(text[text.index("{"):])["seconds"]


class Peer(Side):
    """A process of peers.py that stays loaded and warm between its turns."""

    def __init__(self, a, folder):
        super().__init__(a.peer, precision_of(a.peer), os.path.join(folder, "peer.npy"))
        self.p = subprocess.Popen([sys.executable, PEERS, "serve", "-m", a.model, "-x", a.exports, "--peer", a.peer, "--what", a.what,
                                   "--batch", str(a.batch), "--width", str(a.width), "--height", str(a.height), "--threads", str(a.threads),
                                   "--inputs", folder, "-o", self.answer] + (["--pictures", a.pictures] if a.what == "index" else []),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(a))
        self.line()

    def line(self):
        for line in self.p.stdout:
            if line.startswith("{"):
                return json.loads(line)
        sys.exit("the peer has ended; its error is above")

    def used(self):
        with open(f"/proc/{self.p.pid}/stat") as f:
            user, system = f.read().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def time(self):
        used = self.used()
        self.p.stdin.write("go\n")
        self.p.stdin.flush()
        d = self.line()
        self.peak_gib, self.cpu_seconds = max(self.peak_gib, d["peak_gib"]), self.used() - used
        return d["seconds"]


class Whole(Side):
    """A whole picture from process start to PNG."""

    def __init__(self, name, precision, answer, command, env=None):
        super().__init__(name, precision, answer)
        self.command, self.env = command, env

    def time(self):
        seconds, usage, _ = whole_process(self.command, self.env)
        self.took(usage)
        return seconds


def our_picture(a, folder):
    png = os.path.join(folder, "diffc.png")
    command = [a.diffc, "txt2img", PROMPT, "-m", a.model, "-W", str(a.width), "-H", str(a.height), "--steps", str(a.steps), "-g", "7", "--sampler", "euler",
               "-s", "1", "--rng", "cpu", "--precision", a.precision, "-t", str(a.threads), "-q", "-o", png]
    return Whole("diffc " + a.precision, a.precision, png, command + (["--cpu", a.isa] if a.isa else []))


def peer_picture(a, folder):
    png = os.path.join(folder, "peer.png")
    if a.peer == "sd.cpp":
        command = [a.sd, "-m", a.sd_model, "-p", PROMPT, "-W", str(a.width), "-H", str(a.height), "--steps", str(a.steps), "--cfg-scale", "7",
                   "--sampling-method", "euler", "-s", "1", "--rng", "cpu", "-t", str(a.threads), "-o", png] + a.sd_args.split()
    else:
        command = [sys.executable, PEERS, "txt2img", "-m", a.model, "-x", a.exports, "--peer", a.peer, "--width", str(a.width), "--height", str(a.height),
                   "--steps", str(a.steps), "--threads", str(a.threads), "--inputs", folder, "-o", png]
    return Whole(a.peer, precision_of(a.peer), png, command, environment(a))


def both(a, folder):
    if a.what == "index":
        return Index(a, folder), Peer(a, folder)
    return (our_picture(a, folder), peer_picture(a, folder)) if a.what == "e2e" else (Diffc(a, folder), Peer(a, folder))
