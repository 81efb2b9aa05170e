"""What torch.load gives for a file."""
import hashlib
import os
import pickle
import warnings

import numpy as np
import torch

warnings.filterwarnings("ignore")
torch.set_num_threads(1)

# Callables of the tricks: harmless, and some of them change what was built.
TRICKS = ["collections OrderedDict.update", "collections OrderedDict.__setitem__", "collections OrderedDict.clear", "torch Tensor.copy_",
          "torch Tensor.zero_", "torch Tensor.add_", "torch Tensor.t", "torch Tensor.clone", "operator setitem", "operator add", "copy copy",
          "builtins len", "builtins list", "builtins dict", "builtins reversed", "builtins setattr", "torch add", "torch zeros_like",
          "torch.nn.parameter Parameter", "torch Tensor", "torch.nn Parameter", "torch._utils _rebuild_parameter_with_state",
          "torch._utils _rebuild_sparse_tensor", "torch._tensor _rebuild_from_type_v2", "collections UserDict", "collections ChainMap",
          "torch Tensor.set_", "torch Tensor.resize_", "builtins vars", "types MappingProxyType", "functools partial"]
SAFE = ["collections OrderedDict", "collections defaultdict", "collections Counter", "collections deque", "builtins set", "builtins frozenset",
        "builtins complex", "builtins bytearray", "builtins int", "builtins float", "builtins str", "builtins bool", "builtins bytes",
        "builtins tuple", "builtins object", "_codecs encode", "numpy dtype", "numpy ndarray", "numpy.core.multiarray scalar",
        "numpy.core.multiarray _reconstruct", "numpy._core.multiarray scalar", "numpy._core.multiarray _reconstruct", "argparse Namespace",
        "types SimpleNamespace", "datetime timedelta", "pathlib PosixPath", "torch device", "torch Size", "torch float32", "torch int64",
        "torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch.optim.sgd SGD",
        "torch.optim.adam Adam", "torch.optim.adamw AdamW", "torch.optim.lr_scheduler CosineAnnealingLR", "torch.optim.lr_scheduler StepLR",
        "torch.jit._pickle restore_type_tag", "torch.jit._pickle build_intlist"]
KNOWN = {tuple(n.split()) for n in TRICKS + SAFE}


class Harmless(pickle.Unpickler):
    def find_class(self, module, name):
        module = {"__builtin__": "builtins"}.get(module, module)
        if module in ("torch", "torch.cuda") and name.endswith("Storage") or (module, name) in KNOWN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not resolved")


class harmless:
    """The module pickle, with Harmless for its Unpickler."""
    Unpickler = Harmless
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(f, **kw):
        return Harmless(f, **kw).load()


NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64", torch.int32: "I32",
         torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL", torch.complex64: "C64"}


def summary(t):
    if t.layout != torch.strided or t.device.type != "cpu":
        return [str(t.layout), str(t.device)]
    if t.numel() > 1 << 20:
        return ["large"]
    x = t.detach().resolve_conj().resolve_neg().contiguous()
    if x.dtype == torch.bool:
        x = x.view(torch.uint8) if x.dim() else x.reshape(1).view(torch.uint8)
    with np.errstate(all="ignore"):
        if x.dtype != torch.complex64:
            x = x.to(torch.float32)
        b = x.numpy().copy().reshape(-1)
        if b.dtype == np.float32:
            b.view(np.uint32)[np.isnan(b)] = 0x7FC00000
    return [NAMES.get(t.dtype, str(t.dtype)), list(t.shape), hashlib.sha256(b.tobytes()).hexdigest()]


def answer(path, only):
    """The tensors of a file as torch.load has them, None where it fails."""
    try:
        root = torch.load(path, map_location="cpu", **({"weights_only": True} if only else {"weights_only": False, "pickle_module": harmless}))
        if isinstance(root, torch.Tensor):
            return {"": summary(root)}
        if "state_dict" in root:
            root = root["state_dict"]
        return {k: summary(v) for k, v in root.items() if isinstance(v, torch.Tensor)}
    except Exception as e:  # whatever a hostile file makes of it
        if os.environ.get("VERBOSE"):
            print(repr(e)[:300])
        return None
