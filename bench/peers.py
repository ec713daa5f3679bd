#!/usr/bin/env python3
"""The programs diffc is compared with, on the same weights. run.py calls this; by hand only the export is needed:

    python peers.py export  -m MODEL -x EXPORTS unet vae taesd clip-text     # to OpenVINO's format, once a model
    python peers.py serve   -m MODEL -x EXPORTS --peer openvino-bf16 --what unet [--batch B] [--width W] [--height H] [--inputs FOLDER] [-o FILE.npy]
    python peers.py once    (the same) -o FILE.npy                               # one pass, its answer to a file
    python peers.py txt2img -m MODEL -x EXPORTS --peer openvino-f32 [--steps N] [--inputs FOLDER] -o FILE.png   # from process start to PNG

MODEL is a folder of make_weights.py, or any diffusers folder of Stable Diffusion 1.x with a taesd/ folder inside.
`serve` answers each line "go" with a line of JSON: the seconds of its passes; before that, one line about loading and the warm-up.
--inputs: 0.npy, 1.npy, .. of a part, or the first latent of a picture; without it they are drawn here.
"""
import argparse
import json
import os
import resource
import sys
import time

import numpy as np

WHATS = ("unet", "vae", "taesd", "clip-text", "clip-image", "index")
SIDE, INDEX_BATCH = 224, 32  # of ViT-B/32; pictures that a pass of indexing encodes together
ROUND_SECONDS = 1.0  # a short pass is repeated for as long as diffc bench repeats it here, and the median is the answer


def inputs(what, batch, width, height):
    """Random inputs by a fixed seed: the work does not depend on the values, but zeros or denormals would."""
    g = np.random.default_rng(0)

    def normal(*shape):
        return g.standard_normal(shape, dtype=np.float32)

    latent = (batch, 4, height // 8, width // 8)
    if what == "unet":
        return [normal(*latent), np.full((batch,), 500, np.int64), normal(batch, 77, 768)]
    if what == "clip-image":
        return [normal(batch, 3, SIDE, SIDE)]
    if what == "clip-text":
        ids = g.integers(1, 40000, (batch, 77)).astype(np.int64)
        ids[:, 0], ids[:, 20:] = 49406, 49407
        return [ids]
    return [normal(*latent)]


def chosen_inputs(a):
    if not a.inputs:
        return inputs(a.what, a.batch, a.width, a.height)
    return [np.load(os.path.join(a.inputs, f"{i}.npy")) for i in range(3 if a.what == "unet" else 1)]


def torch_model(what, model):
    """The part as a torch module of plain tensors, its weights in float32."""
    import torch
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection

    folder = {"clip-text": "text_encoder", "clip-image": ""}.get(what, what)
    kind = {"clip-image": CLIPVisionModelWithProjection, "unet": UNet2DConditionModel, "vae": AutoencoderKL, "taesd": AutoencoderTiny, "clip-text": CLIPTextModel}[what]
    m = kind.from_pretrained(os.path.join(model, folder), torch_dtype=torch.float32).eval()

    class Part(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.m = m

        if what == "unet":
            def forward(self, x, t, context):
                return self.m(x, t, context, return_dict=False)[0]
        elif what in ("clip-text", "clip-image"):
            def forward(self, x):
                return self.m(x)[0]
        else:
            def forward(self, x):
                return self.m.decode(x, return_dict=False)[0]

    return Part().eval()


def export(a):
    import openvino
    import torch

    os.makedirs(a.exports, exist_ok=True)
    for what in a.parts or WHATS[:4]:
        example = tuple(torch.from_numpy(x) for x in inputs(what, 1, 128, 128))  # sizes stay free: small is quick to trace
        with torch.no_grad():
            m = openvino.convert_model(torch_model(what, a.model), example_input=example)
        openvino.save_model(m, os.path.join(a.exports, what + ".xml"), compress_to_fp16=what != "clip-image")  # as the weights are stored
        print(what, "exported", flush=True)


def openvino_request(a, core, what, precision, shapes):
    """The exported part compiled for these shapes; the model's own copy of the weights is given up again."""
    m = core.read_model(os.path.join(a.exports, what + ".xml"))
    m.reshape(dict(enumerate(shapes)))
    options = {"INFERENCE_NUM_THREADS": a.threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    return core.compile_model(m, "CPU", options).create_infer_request()


def openvino_pass(a, precision):
    import openvino

    xs = chosen_inputs(a)
    r = openvino_request(a, openvino.Core(), a.what, precision, [list(x.shape) for x in xs])
    for i, x in enumerate(xs):
        r.set_input_tensor(i, openvino.Tensor(x))

    def once():
        r.infer()
        return r.get_output_tensor(0).data

    return once


def torch_pass(a, precision):
    import torch

    torch.set_num_threads(a.threads)
    torch.set_grad_enabled(False)
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    m = torch_model(a.what, a.model).to(kind)
    xs = [torch.from_numpy(x) for x in chosen_inputs(a)]
    xs = [x.to(kind) if x.is_floating_point() else x for x in xs]
    return lambda: m(*xs).float().numpy()


# ---- indexing: JPEG files to vectors of length 1 -------------------------------------------------------------------------------


def prepared(path):
    """As transformers prepares a picture for CLIP: Pillow decodes, resizes the shorter side to 224 and cuts out the middle."""
    from PIL import Image

    m = Image.open(path).convert("RGB")
    short = min(m.size)
    m = m.resize([SIDE * x // short for x in m.size], Image.BICUBIC)
    left, top = ((x - SIDE) // 2 for x in m.size)
    x = np.asarray(m.crop((left, top, left + SIDE, top + SIDE)), np.float32) / np.float32(255)
    mean, std = (np.array(v, np.float32) for v in ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]))
    return ((x - mean) / std).transpose(2, 0, 1)


class Pictures:
    """torch's DataLoader takes anything with these two."""

    def __init__(self, files):
        self.files = files

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return prepared(self.files[i])


def index_pass(a, program, precision):
    """openvino: threads prepare pictures while the model encodes; torch: its DataLoader with processes, as programs on open_clip do it."""
    files = sorted(os.path.join(a.pictures, f) for f in os.listdir(a.pictures) if f.endswith(".jpg"))
    groups = range(0, len(files), INDEX_BATCH)

    if program == "openvino":
        import openvino
        from concurrent.futures import ThreadPoolExecutor

        m = openvino.Core().read_model(os.path.join(a.exports, "clip-image.xml"))
        m.reshape({0: [-1, 3, SIDE, SIDE]})
        options = {"INFERENCE_NUM_THREADS": a.threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        r = openvino.Core().compile_model(m, "CPU", options).create_infer_request()

        def rows():
            with ThreadPoolExecutor(a.threads) as pool:
                ready = [pool.submit(prepared, f) for f in files]
                return [r.infer([np.stack([f.result() for f in ready[i:i + INDEX_BATCH]])])[0].copy() for i in groups]
    else:
        import torch

        torch.set_num_threads(a.threads)
        torch.set_grad_enabled(False)
        kind = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
        m = torch_model("clip-image", a.model).to(kind)

        def rows():
            loader = torch.utils.data.DataLoader(Pictures(files), batch_size=INDEX_BATCH, num_workers=a.threads,
                                                 collate_fn=lambda xs: torch.from_numpy(np.stack(xs)))
            return [m(x.to(kind)).float().numpy() for x in loader]

    def once():
        y = np.concatenate(rows())
        return y / np.linalg.norm(y, axis=-1, keepdims=True)

    return once


def peak_gib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def the_pass(a):
    program, precision = a.peer.split("-")
    if a.what == "index":
        return index_pass(a, program, precision)
    return {"openvino": openvino_pass, "torch": torch_pass}[program](a, precision)


def once(a):
    np.save(a.output, np.asarray(the_pass(a)(), np.float32))


def serve(a):
    began = time.perf_counter()
    one = the_pass(a)
    loaded = time.perf_counter() - began
    y = np.asarray(one(), np.float32)  # the warm-up
    if a.output:
        np.save(a.output, y)
    print(json.dumps(dict(load=loaded, shape=list(y.shape), std=float(y.std()))), flush=True)
    for line in sys.stdin:
        if line.strip() != "go":
            break
        seconds = []
        while sum(seconds) < ROUND_SECONDS and len(seconds) < 1000:
            t = time.perf_counter()
            one()
            seconds.append(time.perf_counter() - t)
        print(json.dumps(dict(seconds=float(np.median(seconds)), passes=len(seconds), peak_gib=peak_gib())), flush=True)


def token_ids():
    """Nothing, and "a photo of a cat": neither model folder nor program needs a tokenizer."""
    ids = np.full((2, 77), 49407, np.int64)
    ids[:, 0] = 49406
    ids[1, 1:6] = 320, 1125, 539, 320, 2368
    return ids


def first_noise(a):
    if a.inputs:
        return np.load(os.path.join(a.inputs, "0.npy"))
    return np.random.default_rng(1).standard_normal((1, 4, a.height // 8, a.width // 8), dtype=np.float32)


def openvino_picture(a, precision):
    """The leanest program a user of OpenVINO could write: text, Euler with guidance 7, decode, PNG; no torch, no diffusers."""
    import openvino
    from PIL import Image

    core = openvino.Core()
    h, w = a.height // 8, a.width // 8
    text = openvino_request(a, core, "clip-text", precision, [[2, 77]])
    unet = openvino_request(a, core, "unet", precision, [[2, 4, h, w], [2], [2, 77, 768]])
    vae = openvino_request(a, core, "vae", precision, [[1, 4, h, w]])

    context = text.infer([token_ids()])[0].copy()
    kept = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    steps = np.linspace(999, 0, a.steps)
    sigma = np.append(np.interp(steps, np.arange(1000), ((1 - kept) / kept) ** 0.5), 0)
    x = first_noise(a) * sigma[0]  # as diffusers does with linspace
    for i, t in enumerate(steps):
        scaled = np.repeat(x / (sigma[i] ** 2 + 1) ** 0.5, 2, 0).astype(np.float32)
        without, given = unet.infer([scaled, np.full(2, round(t), np.int64), context])[0]
        x = x + (without + 7 * (given - without)) * (sigma[i + 1] - sigma[i])
    y = vae.infer([(x / 0.18215).astype(np.float32)])[0][0]
    picture = (y.transpose(1, 2, 0).clip(-1, 1) + 1) * 127.5
    Image.fromarray(picture.round().astype(np.uint8)).save(a.output)


def torch_picture(a, precision):
    """diffusers' own pipeline, as its documentation has it."""
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    torch.set_num_threads(a.threads)
    torch.set_grad_enabled(False)
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]

    def part(cls, name):
        return cls.from_pretrained(os.path.join(a.model, name), torch_dtype=kind).eval()

    text = part(CLIPTextModel, "text_encoder")
    p = StableDiffusionPipeline(vae=part(AutoencoderKL, "vae"), text_encoder=text, tokenizer=None, unet=part(UNet2DConditionModel, "unet"),
                                scheduler=EulerDiscreteScheduler.from_pretrained(os.path.join(a.model, "scheduler")), safety_checker=None,
                                feature_extractor=None, requires_safety_checker=False)
    without, given = text(torch.from_numpy(token_ids()))[0].split(1)
    p(prompt_embeds=given, negative_prompt_embeds=without, num_inference_steps=a.steps, guidance_scale=7, width=a.width, height=a.height,
      latents=torch.from_numpy(first_noise(a)).to(kind)).images[0].save(a.output)


def txt2img(a):
    program, precision = a.peer.split("-")
    {"openvino": openvino_picture, "torch": torch_picture}[program](a, precision)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", choices=("export", "serve", "once", "txt2img"))
    p.add_argument("parts", nargs="*")
    p.add_argument("-m", "--model")
    p.add_argument("-x", "--exports")
    p.add_argument("--peer", choices=[f"{x}-{y}" for x in ("openvino", "torch") for y in ("f32", "bf16")])
    p.add_argument("--what", choices=WHATS)
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--width", type=int, default=512)
    p.add_argument("--height", type=int, default=512)
    p.add_argument("--steps", type=int, default=4)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--inputs")
    p.add_argument("--pictures", help="index: a folder of JPEG files")
    p.add_argument("-o", "--output")
    a = p.parse_intermixed_args()
    {"export": export, "serve": serve, "once": once, "txt2img": txt2img}[a.command](a)


if __name__ == "__main__":
    main()
