#!/usr/bin/env python3
"""Makes fixture.safetensors with the reference implementation (pip install safetensors numpy torch)."""
import os
import torch
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
x = torch.arange(6, dtype=torch.float32).reshape(2, 3) / 3 - 1
save_file(
    {
        "f32": x,
        "f16": torch.tensor([0.0, -0.0, 1 / 3, 65504.0, 6e-8, 6.2e-5, float("inf")], dtype=torch.float16),
        "bf16": x.to(torch.bfloat16),
        "scalar": torch.tensor(4.6052),
        "position_ids": torch.arange(5)[None],
    },
    os.path.join(HERE, "fixture.safetensors"),
    metadata={"format": "pt"},
)
save_file({"b": x, "a<&": x[0].clone(), "s": torch.tensor(2.5)}, os.path.join(HERE, "f32.safetensors"), metadata={"format": "pt"})
