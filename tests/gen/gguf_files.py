#!/usr/bin/env python3
"""gguf_files.py GOLDEN: GGUF files by the reference package, and what their tensors hold, into GOLDEN/gguf.

types.gguf         a tensor of every type that diffc reads; blocks of random bytes, with finite scales
types.safetensors  the same tensors in float32, by gguf.quants.dequantize
values.gguf        a pair of every type, lists, an alignment of 64, comfy.gguf.orig_shape
Needs gguf (0.19 or later), numpy, safetensors."""
import os
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, GGUFValueType as V, GGUFWriter
from gguf.quants import dequantize
from safetensors.numpy import save_file

rng = np.random.default_rng(20)
# Bytes at which a block has its halves: d, m.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2],
          T.Q6_K: [208]}
PLAIN = {T.F32: np.float32, T.F16: np.float16, T.F64: np.float64, T.I8: np.int8, T.I16: np.int16, T.I32: np.int32, T.I64: np.int64}


def blocks(t, rows, count):
    """[rows, bytes of count blocks]: any bytes but for the halves, of which one is subnormal."""
    b = rng.integers(0, 256, (rows, count, GGML_QUANT_SIZES[t][1]), dtype=np.uint8)
    for at in HALVES[t]:
        h = rng.normal(0, 0.02, (rows, count)).astype(np.float16)
        h[0, 0] = 1e-6
        b[:, :, at:at + 2] = h[:, :, None].view(np.uint8)
    return b.reshape(rows, -1)


def types(folder):
    w = GGUFWriter(os.path.join(folder, "types.gguf"), "test")
    floats = {}
    for t in HALVES:
        size = GGML_QUANT_SIZES[t][0]
        data = blocks(t, 3, 512 // size)
        w.add_tensor(t.name, data, raw_dtype=t)
        floats[t.name] = dequantize(data, t).reshape(3, 512)
    for t, numpy in PLAIN.items():
        data = rng.integers(-100, 100, (2, 3, 5)).astype(numpy) if numpy in (np.int8, np.int16, np.int32, np.int64) else rng.normal(0, 1, (2, 3, 5)).astype(numpy)
        w.add_tensor(t.name, data)
        floats[t.name] = data.astype(np.float32)
    bf16 = (rng.normal(0, 1, 7).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    w.add_tensor("BF16", bf16.view(np.uint8), raw_dtype=T.BF16)
    floats["BF16"] = (bf16.astype(np.uint32) << 16).view(np.float32)
    for name, t, shape in (("conv", T.Q4_0, (8, 4, 3, 3)), ("narrow", T.Q8_0, (4, 8, 3)), ("super", T.Q4_K, (16, 8, 2, 2)), ("one", T.Q5_1, (32,))):
        n = int(np.prod(shape))
        data = blocks(t, 1, n // GGML_QUANT_SIZES[t][0])
        w.add_array("comfy.gguf.orig_shape." + name, shape)
        w.add_tensor(name, data, raw_dtype=t)
        floats[name] = dequantize(data, t).reshape(shape)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    save_file(floats, os.path.join(folder, "types.safetensors"))


def values(folder):
    w = GGUFWriter(os.path.join(folder, "values.gguf"), "test")
    w.add_custom_alignment(64)
    for name, t, v in (("u8", V.UINT8, 200), ("i8", V.INT8, -100), ("u16", V.UINT16, 60000), ("i16", V.INT16, -30000), ("u32", V.UINT32, 4000000000),
                       ("i32", V.INT32, -2000000000), ("u64", V.UINT64, 18000000000000000000), ("i64", V.INT64, -9000000000000000000),
                       ("f32", V.FLOAT32, 0.1), ("f64", V.FLOAT64, 0.1), ("yes", V.BOOL, True), ("no", V.BOOL, False), ("text", V.STRING, "a \u00e4 \u20ac"),
                       ("empty", V.STRING, "")):
        w.add_key_value("test." + name, v, t)
    w.add_array("tokenizer.ggml.tokens", ["a", "", "b" * 20000, "\u20ac"])
    w.add_array("tokenizer.ggml.scores", [0.5, -1.0])
    w.add_array("comfy.gguf.orig_shape.b", [3, 1, 1])
    w.add_array("comfy.gguf.orig_shape.not there", [7])
    w.add_tensor("b", np.arange(3, dtype=np.float32))
    w.add_tensor("a", np.arange(6, dtype=np.float16).reshape(2, 3))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def main():
    folder = os.path.join(sys.argv[1], "gguf")
    os.makedirs(folder, exist_ok=True)
    types(folder)
    values(folder)


if __name__ == "__main__":
    main()
