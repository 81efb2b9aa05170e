"""Safetensors files of float32 numbers, read and written with numpy alone."""

from __future__ import annotations

import json
import os
from typing import Any, Mapping

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]


def floats(x: Any) -> Floats:
    """Make a contiguous float32 array of what numpy takes, or of a tensor of torch."""
    if hasattr(x, "detach"):
        x = x.detach().to("cpu").float().numpy()
    return np.asarray(x, dtype="<f4", order="C")


def write(path: str | os.PathLike[str], tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as float32, in the order of their names."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    arrays = {name: floats(tensors[name]) for name in sorted(tensors)}
    at = 0
    for name, a in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for a in arrays.values():
            f.write(a.tobytes())


def read(path: str | os.PathLike[str]) -> dict[str, Floats]:
    """Read the tensors of a file, of float32 or float16, as float32."""
    with open(path, "rb") as f:
        raw = f.read()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    out: dict[str, Floats] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        kind = {"F32": "<f4", "F16": "<f2"}.get(entry["dtype"])
        if kind is None:
            raise ValueError(f"{path}: the tensor {name!r} has the type {entry['dtype']}, want F32 or F16")
        begin, end = entry["data_offsets"]
        numbers = np.frombuffer(raw[8 + size + begin : 8 + size + end], dtype=kind)
        out[name] = floats(numbers.reshape(entry["shape"]).copy())
    return out
