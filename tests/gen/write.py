"""Files that `convert` is to write, by the reference implementation: one input of every type, and what torch and safetensors make of it.

    python3 tests/gen/write.py tests/golden        (torch, safetensors)

Writes weights/write/{in,auto,f32,f16,bf16}.safetensors."""
import os, sys
import torch
from safetensors.torch import save_file

out = f'{sys.argv[1]}/weights/write'
os.makedirs(out, exist_ok=True)
torch.manual_seed(0)
f = torch.float32
# ties and their neighbours in f16 and bf16, its subnormals, the largest that still rounds to 65504
edges = [0.0, -0.0, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 + 2**-20, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 2**-24, 2**-25, 3 * 2**-25, 2**-25 + 2**-40,
         -2**-14 + 2**-26, 6.1e-5, 65504, -65519.996, 1e-30, 2**-149, 2**-133, 3 * 2**-134, 0.1, -1 / 3]
tensors = {
    'edges': torch.tensor(edges, dtype=f),
    'wide': torch.randn(3, 5, 2, 2, dtype=f) * 100,
    'small': torch.randn(7, 9, dtype=f) * 1e-6,
    'double': torch.randn(11, dtype=torch.float64),
    'half': torch.randn(5, 3).half(),
    'brain': torch.randn(5, 3).bfloat16(),
    'e4m3': torch.randn(13).to(torch.float8_e4m3fn),
    'e5m2': torch.randn(13).to(torch.float8_e5m2),
    'ids': torch.arange(6)[None], 'i32': torch.arange(3, dtype=torch.int32), 'i16': torch.arange(3, dtype=torch.int16), 'i8': torch.arange(3, dtype=torch.int8),
    'u8': torch.arange(3, dtype=torch.uint8), 'flags': torch.tensor([True, False, True]),
    'scalar': torch.tensor(2.5), 'none': torch.zeros(0, 4),
    'a "name" with \\ and \n, grün': torch.ones(2),
}
keep = (torch.float32, torch.float16, torch.bfloat16)
auto = lambda t: t if t.dtype in keep or not t.is_floating_point() else t.float() if t.dtype == torch.float64 else t.half()
to = lambda d: lambda t: t.to(d) if t.is_floating_point() else t
for name, change in dict(auto=auto, f32=to(torch.float32), f16=to(torch.float16), bf16=to(torch.bfloat16), **{'in': lambda t: t}).items():
    save_file({k: change(t).contiguous() for k, t in tensors.items()}, f'{out}/{name}.safetensors', metadata={'format': 'pt'})
