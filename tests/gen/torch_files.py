#!/usr/bin/env python3
"""torch_files.py OUT: small checkpoints as torch.save writes them, one set of tensors in many wrappings, and want.safetensors, the same set as
safetensors writes it. OUT becomes tests/golden/weights/torch. Needs torch and safetensors."""
import collections, os, sys
import torch
from safetensors.torch import save_file

torch.manual_seed(1)
OUT = sys.argv[1]
os.makedirs(OUT, exist_ok=True)


def numbers(*shape):
    return torch.randn(*shape)


def state():
    """Every type that is read, and every way to lie in a storage."""
    w = collections.OrderedDict()
    base = numbers(4, 6)
    for name, type in dict(f64=torch.float64, f32=torch.float32, f16=torch.float16, bf16=torch.bfloat16, f8_e4m3=torch.float8_e4m3fn,
                           f8_e5m2=torch.float8_e5m2, i64=torch.int64, i32=torch.int32, i16=torch.int16, i8=torch.int8,
                           u8=torch.uint8, bool=torch.bool).items():
        x = base.abs() if type == torch.uint8 else base > 0 if type == torch.bool else base
        w["type." + name] = (x * 3).to(type)
    w["shape.scalar"] = torch.tensor(1.5)
    w["shape.empty"] = torch.zeros(3, 0, 2)
    w["shape.ones"] = numbers(1, 3, 1)
    w["shape.rank8"] = numbers(1, 2, 1, 2, 1, 2, 1, 2)
    w["view.transposed"] = numbers(3, 5).t()
    w["view.permuted"] = numbers(2, 3, 4).half().permute(2, 0, 1)
    w["view.channels_last"] = numbers(4, 3, 2, 2).to(memory_format=torch.channels_last)
    w["view.expanded"] = numbers(3, 1).expand(3, 4)
    w["view.slice"] = base[1:3]
    w["view.columns"] = base[:, 1:4]
    w["view.every_other"] = torch.arange(10, dtype=torch.int8)[1::2]
    w["view.double_steps"] = numbers(5, 2).double()[::2]
    w["shared.a"] = base
    w["shared.b"] = base.view(6, 4)
    w["namé with spaces, ünicode"] = numbers(2)
    return w


class Holder(torch.nn.Module):
    """Its state dict has a _metadata attribute, kept by BUILD."""

    def __init__(self, w):
        super().__init__()
        for k, v in w.items():
            self.register_parameter(k.replace(".", "_"), torch.nn.Parameter(v, requires_grad=v.is_floating_point()))


def save(name, what, **how):
    torch.save(what, os.path.join(OUT, name), **how)


w = state()
save_file({k: v.contiguous().clone() for k, v in w.items()}, os.path.join(OUT, "want.safetensors"))
for protocol in 2, 4, 5:
    save(f"protocol{protocol}.pt", w, pickle_protocol=protocol)
for protocol in 2, 4:
    save(f"legacy{protocol}.bin", dict(w), pickle_protocol=protocol, _use_new_zipfile_serialization=False)

small = collections.OrderedDict((k, v) for k, v in w.items() if k.startswith("shared") or k.startswith("type.f"))
save_file({k: v.contiguous().clone() for k, v in small.items()}, os.path.join(OUT, "want_small.safetensors"))
step = dict(step=torch.tensor(3.0), exp_avg=numbers(2), exp_avg_sq=numbers(2))
save("lightning.ckpt", {"epoch": 2, "global_step": 470000, "pytorch-lightning_version": "1.4.2", "state_dict": small,
     "callbacks": {torch.nn.Linear: {"best": numbers(3), "device": torch.device("cpu"), "size": torch.Size([1, 2])}},
     "optimizer_states": [{"state": {0: step, 1: step}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]}], "loops": None,
     "hyper_parameters": {"big": 2**70, "neg": -7, "many": {f"k{i}": numbers(1) for i in range(9)}, "bytes": b"\0\1", "set": {1, 2}, "none": None}})
save("params_ema.pth", {"params": {"a": numbers(1)}, "params_ema": dict(small), "iter": 5})
save("parallel.pth", {"model": {"module." + k: v for k, v in small.items()}, "optimizer": {"state": {0: step}}, "note": "module."})
save("half_parallel.pth", {("module." if k.startswith("shared") else "") + k: v for k, v in small.items()})
save("parameters.pt", {k: torch.nn.Parameter(v) for k, v in small.items()} | {"version": 3, "what": "a model"})
with_state = torch.nn.Parameter(small["type.f32"])
with_state.note = "an attribute"
buffer = small["type.f64"].clone()
buffer.note = [1, 2]
save("attributes.pt", dict(small) | {"type.f32": with_state, "type.f64": buffer})
held = Holder(small).state_dict(keep_vars=True)
assert held._metadata
save("module.bin", held)
save("module_legacy.bin", held, _use_new_zipfile_serialization=False)

# What is refused.
save("whole_model.pt", torch.nn.Linear(2, 2))
save("tensor.pt", numbers(2))
save("complex.pt", {"a": numbers(2), "b": torch.complex(numbers(2), numbers(2))})
save("negated.pt", {"a": torch._neg_view(numbers(2))})
save("sparse.pt", {"a": numbers(2), "b": torch.eye(2).to_sparse()})
save("uint16.pt", {"a": torch.ones(2, dtype=torch.uint16)})
torch.serialization.sys = type("sys", (), {"byteorder": "big", "version_info": sys.version_info})
save("big_endian.pt", {"a": numbers(2)})
save("big_endian.bin", {"a": numbers(2)}, _use_new_zipfile_serialization=False)
for name in os.listdir(OUT):
    os.chmod(os.path.join(OUT, name), 0o644)
