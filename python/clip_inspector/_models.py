"""Models that live in this process, written as the program reads them."""

from __future__ import annotations

import os
import pathlib
from typing import Any, Mapping

import numpy as np

from ._tensors import write


def checkpoint(model: Any, folder: pathlib.Path) -> tuple[str, dict[str, str]]:
    """Path of a model, and what its learner is where the file does not tell.

    A path is left as it is. A module of Dassl's, or its state_dict, is written with the tensors of its prompt_learner. A plain tensor is
    CoOp's context: [n,W] for all classes, or [K,n,W] with one for each.
    """
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model), {}
    hints: dict[str, str] = {}
    learner = getattr(model, "prompt_learner", model)
    position = getattr(learner, "class_token_position", None)
    if hasattr(learner, "state_dict"):
        state: Mapping[str, Any] = learner.state_dict()
    elif isinstance(learner, Mapping):
        state = learner
    elif hasattr(learner, "shape"):
        if len(learner.shape) not in (2, 3):
            raise ValueError(f"a tensor of contexts has the shape [n,W] or [K,n,W], this one {list(learner.shape)}")
        state = {"ctx": learner}
    else:
        raise TypeError(f"want a path, a module, a state_dict or a tensor of contexts, got {type(model).__name__}")
    for name, x in state.items():
        kind = str(getattr(x, "dtype", type(x).__name__)).removeprefix("torch.")
        if not kind.startswith(("float", "bfloat")):
            raise ValueError(f"the tensor {name!r} is of {kind}: want floating-point numbers alone")
        if kind == "float64" and not np.array_equal(np.asarray(x, dtype=np.float32).astype(np.float64), np.asarray(x)):
            raise ValueError(f"the tensor {name!r} is of float64 with more digits than float32 holds: the model would be another")
    names = {name.split(".")[-1] for name in state}
    if names <= {"ctx", "token_prefix", "token_suffix"}:
        hints["learner"] = "coop"
        if position:
            hints["class_position"] = str(position)
    elif any("meta_net" in name for name in state) and "ctx" in names:
        hints["learner"] = "cocoop"
    path = folder / "model.safetensors"
    write(path, dict(state))
    return str(path), hints
