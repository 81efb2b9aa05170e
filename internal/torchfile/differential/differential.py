"""Holds internal/torchfile against the PyTorch that runs this: every file is read as the same tensors, or refused.

    go build -o /tmp/reader ./internal/torchfile/differential
    python internal/torchfile/differential/differential.py --reader /tmp/reader --files 100000 --seed 1

Of six files two are pickles composed of what trainers' files have and of tricks, in archives that are composed likewise; two are
files of torch.save in whose pickle an opcode or an argument was changed for another that is likely to be read; one is a file of
torch.save in whose pickle bytes were changed; one a file of which bytes were changed anywhere. (The sums of archives are made
right again but for the last.) What is read here is loaded by torch.load with weights_only and without. A difference is a file that
torch.load reads as other tensors in one of the two ways, or in neither. Nothing dangerous can run: names outside of a list of
harmless ones are not resolved.

PyTorch is asked in a child process, since some files make it crash; the next child goes on behind the file. File N of seed S is the
same in every run with the same PyTorch: --only N writes it to differential-N.pt and prints both answers. The exit status is 1 where
there is a difference.
"""
import argparse
import collections
import hashlib
import io
import json
import math
import os
import pickle
import pickletools
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib

import numpy as np
import torch

warnings.filterwarnings("ignore")
torch.set_num_threads(1)

# --- what torch.load gives -------------------------------------------------------------------------------------------------------

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


# --- pickles -----------------------------------------------------------------------------------------------------------------------

STORAGES = {"Float": 4, "Half": 2, "BFloat16": 2, "Double": 8, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1}


class Maker:
    """Composes the pickle of a checkpoint; trick() says when to be odd."""

    def __init__(self, r, legacy):
        self.r, self.legacy = r, legacy
        self.oddity = r.choice([0, 0.002, 0.005, 0.01, 0.03])
        self.out, self.memo = bytearray(), []  # kinds of what was put
        self.storages = {}
        self.protocol = r.choice([2, 2, 2, 3, 4, 5])

    def trick(self, share=1.0):
        return self.r.random() < self.oddity * share

    def op(self, *parts):
        for p in parts:
            self.out += p if isinstance(p, (bytes, bytearray)) else p.encode()

    def text(self, s):
        b = s.encode()
        if self.protocol >= 4 and len(b) < 256 and self.r.random() < 0.5:
            self.op(b"\x8c", bytes([len(b)]), b)
        elif self.trick(0.2):
            self.op(b"U", bytes([len(b) & 255]), b)
        else:
            self.op(b"X", struct.pack("<I", len(b)), b)

    def int(self, n):
        if self.trick(0.2):
            self.op(self.r.choice([b"\x88", b"\x89", b"G" + struct.pack(">d", n), b"\x8a\x01" + bytes([n & 255])]))
        elif 0 <= n < 256:
            self.op(b"K", bytes([n]))
        elif 0 <= n < 65536:
            self.op(b"M", struct.pack("<H", n))
        elif -1 << 31 <= n < 1 << 31:
            self.op(b"J", struct.pack("<i", n))
        else:
            self.op(b"\x8a\x09", n.to_bytes(9, "little", signed=True))

    def put(self, kind):
        if self.r.random() < 0.4 or kind in ("dict", "tensor") and self.r.random() < 0.5:
            if self.protocol >= 4 and self.r.random() < 0.5 or len(self.memo) > 250:
                self.op(b"\x94")
            else:
                self.op(b"q", bytes([len(self.memo)]))
            self.memo.append(kind)
        elif self.trick(0.1) and self.memo:
            at = self.r.randrange(len(self.memo))
            if at < 256:
                self.op(b"q", bytes([at]))
                self.memo[at] = kind

    def get(self, kind=None):
        """Pushes something from the memo; false where there is none."""
        at = [i for i, k in enumerate(self.memo) if kind in (None, k) and i < 256]
        if not at:
            return False
        self.op(b"h", bytes([self.r.choice(at)]))
        return True

    def name(self, s):
        module, name = s.split()
        if module == "builtins" and self.protocol < 3:
            module = "__builtin__"
        if self.protocol >= 4 and (self.r.random() < 0.5 or "." in name):
            self.text(module)
            self.text(name)
            self.op(b"\x93")
        else:
            self.op(f"c{module}\n{name}\n")

    def ordered(self):
        self.name("collections OrderedDict")
        self.op(b")R")

    def tuple(self, items):
        if self.trick(0.1):
            self.op(b"](" + b"".join(self.bytes_of(lambda i=i: self.int(i)) for i in items) + b"e")
        elif len(items) == 0:
            self.op(b")")
        elif len(items) <= 3 and self.r.random() < 0.7:
            for i in items:
                self.int(i)
            self.op(bytes([0x84 + len(items)]))
        else:
            self.op(b"(")
            for i in items:
                self.int(i)
            self.op(b"t")

    def bytes_of(self, f):
        keep, self.out = self.out, bytearray()
        f()
        got, self.out = self.out, keep
        return bytes(got)

    def storage(self):
        r = self.r
        if self.storages and r.random() < 0.3:
            key = r.choice(list(self.storages))
            kind, n, location = self.storages[key][:3]
        else:
            key, kind, n = str(len(self.storages)), r.choice(list(STORAGES)) if r.random() < 0.6 else "Float", r.choice([0, 1, 4, 6, 12, 12, 24])
            location = r.choice(["cpu", "cpu", "cuda:0"])
            data = bytes(r.getrandbits(1) for _ in range(n)) if kind == "Bool" else r.randbytes(n * STORAGES[kind])
            if kind in ("Float", "Half", "Double", "BFloat16") and r.random() < 0.8:
                data = np.array([r.uniform(-2, 2) for _ in range(n)], {"Float": "f4", "Half": "f2", "Double": "f8", "BFloat16": "f2"}[kind]).tobytes()
            self.storages[key] = (kind, n, location, data)
        if self.trick(0.5):
            kind = r.choice(list(STORAGES))
        if self.trick(0.3):
            n += r.choice([-1, 1, 1 << 20])
        if self.trick(0.3):
            location = r.choice(["meta", "cuda", "mps", "xla:0", "cpu:0", "", "CPU"])
        if self.trick(0.2):
            key = r.choice([key + " ", "0" + key, "-1", "x", "../0"])
        module = "torch.cuda" if self.trick(0.2) else "torch"
        self.op(b"(")
        self.text("storage")
        self.name(f"{module} {kind}Storage")
        self.text(key)
        self.text(location)
        self.int(n)
        if self.legacy != self.trick(0.2):
            self.op(b"N")
        self.op(b"tQ")
        return kind, n

    def tensor(self):
        r = self.r
        if r.random() < 0.1 and self.get("tensor"):
            return
        if self.trick(0.3) and self.get():
            return
        parameter = r.random() < 0.3
        state = self.trick(0.3)
        if parameter:
            self.name("torch._utils _rebuild_parameter_with_state" if state else "torch._utils _rebuild_parameter")
            if r.random() < 0.3:
                self.put("name")
            self.op(b"(")
        old = r.random() < 0.1
        self.name("torch._utils " + ("_rebuild_tensor" if old else "_rebuild_tensor_v2"))
        self.op(b"(")
        kind, n = self.storage()
        n = max(0, n)
        offset = r.choice([0, 0, 0, 0, 1, 2])
        shapes = [[], [n], [2, n // 2], [n // 3, 3], [1, n], [2, 2], [0], [0, 3], [2, 3, 2], [n // 4, 2, 2], [1, 1, 1], [2], [1, 3]]
        fitting = [s for s in shapes if math.prod(s) <= n - offset]
        shape = r.choice(shapes if self.trick() or not fitting else fitting)
        stride, step = [], 1
        for d in reversed(shape):
            stride.insert(0, step)
            step *= max(1, d)
        if r.random() < 0.2 and shape:
            order = list(range(len(shape)))
            r.shuffle(order)
            shape, stride = [shape[i] for i in order], [stride[i] for i in order]
        if r.random() < 0.01 or self.trick():
            shape = [d + r.choice([0, 0, 1, 7]) for d in shape]
        if r.random() < 0.02 or self.trick():
            stride = [s * r.choice([0, 1, 2, 1000]) - (r.random() < 0.05) for s in stride]
        if self.trick(0.3):
            offset = r.choice([-1, n, n + 1, 1 << 40, (1 << 63) - 1])
        self.int(offset)
        self.tuple(shape)
        self.tuple(stride)
        if not old:
            self.gradient(kind)
            if self.trick(0.3):
                self.op(r.choice([b"N", b"}", b"}X\x03\x00\x00\x00neg\x88s", b"}X\x04\x00\x00\x00conj\x88s"]))
        self.op(b"tR")
        self.put("tensor")
        if parameter:
            self.gradient(kind)
            if state:
                self.op(r.choice([b"}", b"N", b"}X\x04\x00\x00\x00data", b"}X\x01\x00\x00\x00x"]))
                if self.out[-1:] in b"ax":
                    self.value(3)
                    self.op(b"s")
            self.op(b"tR")
            self.put("tensor")
        if self.trick(0.2):
            self.op(r.choice([b"}b", b"K\x00K\x01s", b"N0", b"K\x01a", b"}X\x04\x00\x00\x00data"]))
            if self.out.endswith(b"data"):
                self.value(3)
                self.op(b"sb")

    def gradient(self, kind):
        wants = self.r.random() < 0.2 and (kind in ("Float", "Half", "BFloat16", "Double") or self.trick())
        self.op(b"\x88" if wants else b"\x89")
        if self.trick(0.2):
            self.op(self.r.choice([b"N", b"}", b"K\x00"]))
        elif self.trick(0.2) and self.get():
            pass
        else:
            self.ordered()
            if self.trick(0.2):
                self.op(b"K\x00N", b"s")
            self.put("dict")

    def call(self):
        """A call of something that is none of a checkpoint's business."""
        self.name(self.r.choice(TRICKS))
        self.op(b"(")
        for _ in range(self.r.choice([0, 1, 1, 2, 2, 3])):
            if self.r.random() < 0.7 and self.get(self.r.choice(["tensor", "dict", None])):
                continue
            self.value(3)
        self.op(b"t", self.r.choice([b"R", b"R", b"R", b"\x81"]))
        if self.r.random() < 0.3:
            self.op(b"}b")

    def value(self, depth):
        r = self.r
        if self.trick(0.5):
            return self.call()
        if self.trick(0.5) and self.get():
            return None
        kind = r.randrange(14 if depth < 3 else 6)
        if kind == 0:
            self.int(r.choice([0, 1, 7, 300, 70000, -5, 1 << 40]))
        elif kind == 1:
            self.text(r.choice(["", "a", "käse", "ctx"]))
        elif kind == 2:
            self.op(r.choice([b"N", b"\x88", b"\x89", b"G" + struct.pack(">d", 0.5)]))
        elif kind == 3:
            self.tuple([1, 2][: r.randrange(3)])
        elif kind == 4:
            self.number()
        elif kind == 5:
            self.tensor()
        elif kind in (6, 7):
            self.op(b"]")
            self.put("list")
            self.op(b"(")
            for _ in range(r.randrange(4)):
                self.value(depth + 1)
            self.op(b"e")
        elif kind in (8, 9):
            self.dict(depth + 1, [r.choice("abcdefgh") for _ in range(r.randrange(4))])
        elif kind == 10:
            self.thing(depth)
        elif kind == 11:
            self.name(r.choice(["collections defaultdict", "collections OrderedDict"]))
            self.op(b")R")
            self.put("dict")
        elif kind == 12:
            self.name(r.choice(SAFE))
        else:
            self.op(self.name_of("builtins set"), b"](K\x01K\x02e\x85R")

    def name_of(self, s):
        return self.bytes_of(lambda: self.name(s))

    def number(self):
        """A number of NumPy."""
        module = "numpy._core.multiarray" if np.__version__ >= "2" else "numpy.core.multiarray"
        self.name(module + " scalar")
        self.name("numpy dtype")
        self.op(b"(")
        self.text(self.r.choice(["f8", "f4", "i8"]) if not self.trick() else self.r.choice(["O8", "U3", "S2", "V4", "O"]))
        self.op(b"\x89\x88tR(K\x03")
        self.text("<")
        self.op(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
        if self.trick() and self.get():
            pass
        elif self.protocol < 3:
            self.name("_codecs encode")
            self.text("\x00" * 8)
            self.text("latin1")
            self.op(b"\x86R")
        else:
            self.op(b"C\x08" + bytes(8))
        self.op(b"\x86R")

    def thing(self, depth):
        """An object with a state: a namespace, an optimiser, a scheduler."""
        self.name(self.r.choice(["argparse Namespace", "torch.optim.sgd SGD", "torch.optim.adam Adam", "torch.optim.lr_scheduler StepLR"]))
        self.op(b")\x81")
        self.put("object")
        self.op(b"}(")
        for key in ["defaults", "state", "param_groups", "lr"]:
            self.text(key)
            if self.trick() and self.get():
                continue
            if key == "param_groups":
                self.op(b"](}(")
                self.text("params")
                self.op(b"](")
                self.tensor()
                self.op(b"eue")
            elif key == "lr":
                self.value(depth + 1)
            else:
                self.op(b"}")
        self.op(b"ub")

    def pairs(self, depth, names):
        for name in names:
            if name == "*":
                self.int(self.r.randrange(3))
            else:
                self.text(name)
            if depth <= 1 and self.r.random() < 0.8:
                self.tensor()
            else:
                self.value(depth)

    def dict(self, depth, names):
        names = list(names)
        if not self.trick():
            names = list(dict.fromkeys(names))
        if names and self.trick():
            n = self.r.choice(names)
            names.append(self.r.choice([n, n.upper(), "module." + n, "0." + n, "*"]))
        if self.r.random() < 0.5:
            self.ordered()
        else:
            self.op(b"}")
        self.put("dict")
        half = self.r.randrange(len(names) + 1) if self.r.random() < 0.3 else len(names)
        for part in (names[:half], names[half:]):
            if not part:
                continue
            if len(part) == 1:
                self.pairs(depth, part)
                self.op(b"s")
            else:
                self.op(b"(")
                self.pairs(depth, part)
                self.op(b"u")
        if self.trick(0.5) or self.out and self.r.random() < 0.1:
            self.op(b"}")
            self.text("_metadata" if not self.trick() else self.r.choice(["items", "get", "_metadata", "keys", "update", "x"]))
            if self.trick() and self.get():
                pass
            else:
                self.ordered()
            self.op(b"sb")

    def make(self):
        r = self.r
        names = ["ctx", "token_prefix", "token_suffix", "logit_scale", "meta_net.linear1.weight", "visual.proj", "module.x"][: r.randrange(1, 8)]
        r.shuffle(names)
        root = r.randrange(4)
        if root == 0:
            self.dict(1, names)
        elif root == 1 and r.random() < 0.3:
            self.tensor()
        else:
            self.op(b"}")
            self.put("dict")
            self.op(b"(")
            keys = ["state_dict", "epoch", "optimizer", "val_result"]
            if self.trick():
                keys.append(r.choice(["state_dict", "State_dict", "epoch"]))
            r.shuffle(keys)
            for key in keys:
                self.text(key)
                if key.lower() == "state_dict":
                    self.dict(1, names)
                else:
                    self.value(0)
            self.op(b"u")
        if self.trick(0.3):
            self.op(b"N0" if r.random() < 0.5 else b"2\x30")
        body = bytes(self.out) + b"."
        if self.protocol >= 4 and r.random() < 0.7:
            n = len(body) + (r.choice([-1, 1, 5]) if self.trick(0.3) else 0)
            body = b"\x95" + struct.pack("<Q", n) + body
        raw = b"\x80" + bytes([self.protocol]) + body
        return raw + (r.choice([b"N.", b"\0", b"."]) if self.trick(0.3) else b"")


# --- archives ---------------------------------------------------------------------------------------------------------------------

def archive(r, entries, oddity):
    """A zip file as torch.save writes it, or nearly."""
    trick = lambda share=1.0: r.random() < oddity * share
    entries = list(entries)
    if trick():
        r.shuffle(entries)
    if trick():
        entries.append(r.choice([("ARCHIVE/data.pkl", b"\x80\x02}."), ("archive/DATA.pkl", b"\x80\x02}."), ("archive/Data/0", b"\0" * 48), ("archive/other", b"x"),
                                 ("archive/byteorder", b"big"), ("archive/byteorder", b"little"), ("archive/constants.pkl", b"\x80\x02)."), ("archive/data/99", b"1234"),
                                 ("b/data.pkl", b"\x80\x02}."), ("archive/.data/version", b"3\n"), entries[0], ("", b""), ("archive/", b"")]))
        if r.random() < 0.3:
            entries.insert(0, entries.pop())
    if trick(0.3):
        entries = [e for e in entries if not e[0].endswith("version")]
    if trick(0.3):
        entries = [(n, b"%d\n" % r.choice([0, 1, 2, 10, 11, 99])) if n.endswith("/version") else (n, b) for n, b in entries]
    out, directory = bytearray(), bytearray()
    if trick(0.3):
        out += r.choice([b"PK\x03\x04", b"x", b"\0" * 512])
    stream, align = r.random() < 0.7, r.random() < 0.7
    for name, data in entries:
        name = name.encode()
        at, flags, method, body = len(out), 0x808 if stream else 0x800, 0, data
        if trick(0.2):
            flags ^= r.choice([1, 8, 0x800, 0x2000, 64])
        if trick(0.3):
            c = zlib.compressobj(9, zlib.DEFLATED, -15)
            method, body = 8, c.compress(data) + c.flush()
        sum_, size, stored = zlib.crc32(data), len(data), len(body)
        if trick(0.2):
            sum_ ^= 1
        if trick(0.2):
            size += r.choice([-1, 1, 4])
        if trick(0.2):
            stored += r.choice([-1, 1])
        size, stored = max(0, size), max(0, stored)
        extra = b""
        if align:
            pad = -(len(out) + 30 + len(name) + 4) % 64
            extra = b"FB" + struct.pack("<H", pad) + b"Z" * pad
        local = (sum_, stored, size) if not flags & 8 else (0, 0, 0)
        if trick(0.2):
            extra += r.choice([b"\x01\0\x10\0" + struct.pack("<QQ", 1, 2), b"x", b"\x75\x70\x05\0abcde"])
            if r.random() < 0.5:
                local = (sum_, 0xFFFFFFFF, 0xFFFFFFFF)
        shown = r.choice([name.upper(), name[:-1], name + b"x"]) if trick(0.2) else name
        noise = lambda bits: r.getrandbits(bits) if trick(0.3) else 0
        made, needed, hour, day, internal, external = noise(16), noise(16), noise(16), noise(16), noise(16), noise(32)
        out += struct.pack("<4sHHHHHIIIHH", b"PK\3\4", needed, flags, method, hour, day, *local, len(shown), len(extra)) + shown + extra + body
        if flags & 8 and not trick(0.2):
            out += struct.pack("<4sIII", b"PK\7\b", sum_, stored, size)
        if trick(0.1):
            out += r.choice([b"x", b"PK\7\b" + b"\0" * 12])
        wide = b""
        entry = [sum_, stored, size]
        if trick(0.2):
            wide = b"\x01\0\x18\0" + struct.pack("<QQQ", size, stored, at if r.random() < 0.7 else 0)
            entry = [sum_, 0xFFFFFFFF, 0xFFFFFFFF]
        comment = b"c" if trick(0.1) else b""
        place = 0xFFFFFFFF if wide else at + (r.choice([1, -1, 64]) if trick(0.1) else 0)
        directory += struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", made, needed, flags, method, hour, day, *entry, len(name), len(wide),
                                 len(comment), 0, internal, external, max(0, place)) + name + wide + comment
    at = len(out)
    out += directory
    count, size = len(entries), len(directory)
    if trick(0.2):
        count += r.choice([-1, 1])
    if trick(0.2):
        size += r.choice([-1, 1])
    count = max(0, count)
    if r.random() < 0.5:
        end64 = len(out) + (r.choice([-1, 1]) if trick(0.2) else 0)
        out += struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 0, 0, 0, 0, count, count, size, at + (r.choice([-1, 1, 8]) if trick(0.2) else 0))
        out += struct.pack("<4sIQI", b"PK\6\7", 0, end64, 1)
    comment = b"PK\5\6" + b"\0" * 18 if trick(0.2) else b""
    shown = 0xFFFFFFFF if b"PK\6\7" in out and r.random() < 0.2 else at
    out += struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, size, shown, len(comment) if r.random() < 0.8 else 0) + comment
    if trick(0.3):
        out += r.choice([b"\0", b"PK\5\6" + b"\0" * 18, bytes(out)])
    return bytes(out)


def legacy(r, program, storages, oddity):
    trick = lambda share=1.0: r.random() < oddity * share
    p = lambda v: pickle.dumps(v, 2)
    system = dict(protocol_version=1001, little_endian=not trick(0.3), type_sizes=dict(short=2, int=4, long=4))
    keys = sorted(storages)
    if trick():
        r.shuffle(keys)
    if trick(0.3) and keys:
        keys.append(r.choice(keys + ["77"]))
    if trick(0.3) and keys:
        keys.pop(0)
    items = b"".join(b"\x8c" + bytes([len(k)]) + k.encode() for k in keys)
    shown = p(keys) if not trick(0.2) else r.choice([p(tuple(keys)), b"\x80\x04\x8f(" + items + b"\x90.", b"\x80\x04(" + items + b"\x91."])
    out = p(0x1950A86A20F9469CFC6C) + p(1001 if not trick(0.2) else 1000) + p(system) + program + shown
    for k in keys:
        kind, n, _, data = storages.get(k, ("Byte", 1, "", b"1"))
        n = n if not trick(0.2) else max(0, n + r.choice([-1, 1]))
        out += struct.pack("<q", n) + data
    if trick(0.3):
        out += r.choice([b"\0", b"PK\5\6" + b"\0" * 18])
    if trick(0.3) and len(out) > 512:
        out = bytearray(out)
        out[148:156] = b" " * 8
        out[148:156] = b"%06o\0 " % sum(out[:512])
    return bytes(out)


def compose(r):
    old = r.random() < 0.3
    m = Maker(r, old)
    program = m.make()
    if old:
        return legacy(r, program, m.storages, m.oddity)
    entries = [("archive/data.pkl", program), ("archive/byteorder", b"little")]
    entries += [("archive/data/" + k, s[3]) for k, s in m.storages.items()] + [("archive/version", b"3\n")]
    if r.random() < 0.5:
        entries = [entries[0], ("archive/.format_version", b"1"), ("archive/.storage_alignment", b"64")] + entries[1:] + [
            ("archive/.data/serialization_id", b"0" * 40)]
    return archive(r, entries, m.oddity)


# --- files of torch.save, changed -------------------------------------------------------------------------------------------------

def bases():
    """What trainers write: each with torch.save's two formats."""
    torch.manual_seed(7)
    model = torch.nn.Module()
    model.ctx = torch.nn.Parameter(torch.randn(4, 8).half().float())
    model.register_buffer("token_prefix", torch.randn(3, 1, 8).half())
    model.register_buffer("brain", torch.randn(5).bfloat16())
    optimizer = torch.optim.SGD([model.ctx], lr=0.1, momentum=0.9)
    model.ctx.grad = torch.ones_like(model.ctx)
    optimizer.step()
    successor = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    x = torch.arange(24.0).reshape(4, 6)
    tied = torch.nn.Parameter(torch.randn(6))
    roots = [
        model.state_dict(), {"state_dict": model.state_dict(), "epoch": 3, "optimizer": optimizer.state_dict(), "val_result": np.float64(97.5)},
        {"state_dict": model.state_dict(), "scheduler": {"successor": successor, "last_epoch": 2}},
        collections.OrderedDict(t=x.t(), part=x[1:3, 2:4], long=x.long(), flag=x > 3, byte=x.byte(), double=x.double(), tied=tied, other=tied, empty=x[:0]),
        {"state_dict": {"ctx": tied}, "args": argparse.Namespace(lr=0.1, seeds=[1, 2])}, x,
        {"state_dict": {"a.b": x, "a.c": x[0]}, "pytorch-lightning_version": "2.0", "callbacks": {}, "hyper_parameters": {"lr": 1e-3}},
    ]
    out = []
    for root in roots:
        for kw in ({}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}):
            b = io.BytesIO()
            torch.save(root, b, **kw)
            out.append(b.getvalue() if b.getvalue()[:2] == b"PK" else steady(b.getvalue()))
    return out


class Anything(dict):
    """What every class and function of a pickle is to Storages."""

    def __init__(self, *args):
        pass

    __setstate__, __hash__ = __init__, object.__hash__


class Storages(pickle.Unpickler):
    """Finds the types of a pickle's storages by key."""

    def __init__(self, f):
        super().__init__(f)
        self.types = {}

    def find_class(self, module, name):
        return name.removesuffix("Storage") if name.endswith("Storage") else Anything

    def persistent_load(self, of):
        self.types.setdefault(of[2], of[1])


def steady(b):
    """A legacy file with keys in the order in which its pickle names them: torch.save takes addresses for keys."""
    f = io.BytesIO(b)
    for _ in range(3):
        pickle.load(f)
    at = f.tell()
    s = Storages(f)
    s.load()
    end = f.tell()
    keys, data = pickle.load(f), {}
    for k in keys:
        n, = struct.unpack("<q", f.read(8))
        data[k] = struct.pack("<q", n) + f.read(n * STORAGES[s.types[k]])
    program, names = b[at:end], {k: str(10 ** (len(k) - 1) + i) for i, k in enumerate(s.types)}
    for k, name in names.items():
        program = program.replace(k.encode(), name.encode())
    return b[:at] + program + pickle.dumps(list(names.values()), 2) + b"".join(data[k] for k in names)


BITS = [b"N", b")", b"}", b"]", b"R", b"b", b"s", b"a", b"u", b"e", b"(", b"t", b"\x85", b"\x86", b"\x87", b"\x81", b"0", b"1", b"2", b"q\x01", b"h\x01", b"h\x00",
        b"h\x02", b"h\x05", b"\x94", b"\x88", b"\x89", b"K\x00", b"K\x01", b"Q", b"\x93", b"d", b"l", b"o", b"\x8f", b"\x90", b"\x91", b"\x92", b"."]


def changed(r, b):
    """Some bytes of b, changed; in half of the files none is added or taken away."""
    b = bytearray(b)
    kinds = r.choice([2, 7])
    for _ in range(r.choice([1, 1, 1, 2, 3, 8])):
        at = r.randrange(len(b) + 1)
        kind = r.randrange(kinds)
        if kind == 0 and at < len(b):
            b[at] ^= 1 << r.randrange(8)
        elif kind == 1 and at < len(b):
            b[at] = r.randrange(256)
        elif kind == 2:
            del b[at: at + r.choice([1, 1, 2, 4, 16])]
        elif kind == 3:
            b[at:at] = r.choice(BITS)
        elif kind == 4:
            other = r.randrange(len(b) + 1)
            b[at:at] = b[other: other + r.choice([1, 2, 4, 16, 64])]
        elif kind == 5 and at < len(b):
            b[at: at + 1] = r.choice(BITS)
        else:
            other, n = r.randrange(len(b) + 1), r.choice([1, 2, 4, 16])
            b[at: at + n] = b[other: other + n]
    return bytes(b)


def nudged(r, b):
    """A pickle with an opcode or two of it changed for what is likely to be read."""
    places = [at for _, _, at in pickletools.genops(b)] + [len(b)]
    ops = [b[i:j] for i, j in zip(places, places[1:])]
    for _ in range(r.choice([1, 1, 1, 2, 3])):
        at = r.randrange(1, len(ops) - 1)
        alike = [i for i, op in enumerate(ops) if op[:1] == ops[at][:1] and i != at]
        kind = r.randrange(10)
        if kind < 4 and alike:  # the argument of another one
            ops[at] = ops[r.choice(alike)]
        elif kind < 6 and alike:
            i = r.choice(alike)
            ops[at], ops[i] = ops[i], ops[at]
        elif kind == 6:
            i = r.randrange(1, len(ops) - 1)
            ops[at: at + 1], ops[i: i + 1] = ops[i: i + 1], ops[at: at + 1]
        elif kind == 7:
            ops[at] = {b"K": b"K" + bytes([r.randrange(30)]), b"\x88": b"\x89", b"\x89": b"\x88", b"h": b"h" + bytes([r.randrange(20)])}.get(ops[at][:1], ops[at])
        elif kind == 8:
            n = r.choice([1, 1, 2, 3, 5])
            ops[at:at] = ops[at: at + n] if r.random() < 0.5 else [r.choice([b"q\x07", b"q\xf0", b"\x94", b"N", b"K\x01", b")", b"}", b"]"])]
        else:
            del ops[at]
    b = b"".join(ops)
    if b[2:3] == b"\x95" and r.random() < 0.95:  # the frame
        b = b[:3] + struct.pack("<Q", len(b) - 11) + b[11:]
    return b


def program_of(b):
    """Where the object's pickle of a legacy file begins and ends."""
    f = io.BytesIO(b)
    for _ in range(3):
        pickle.load(f)
    begin = f.tell()
    for _ in pickletools.genops(f):
        pass
    return begin, f.tell()


def entries_of(b):
    """The entries of a zip file as torch.save writes it, by its directory."""
    at, = struct.unpack("<I", b[-6:-2])
    count, = struct.unpack("<H", b[-12:-10])
    out = []
    for _ in range(count):
        size, = struct.unpack("<I", b[at + 24: at + 28])
        name, extra, comment = struct.unpack("<HHH", b[at + 28: at + 34])
        place, = struct.unpack("<I", b[at + 42: at + 46])
        n, e = struct.unpack("<HH", b[place + 26: place + 30])
        begin = place + 30 + n + e
        out.append((b[at + 46: at + 46 + name].decode(), b[begin: begin + size]))
        at += 46 + name + extra + comment
    return out


BASES = bases()


def make(seed, n):
    r = random.Random(f"{seed} {n}")
    kind = n % 6
    if kind < 2:
        return compose(r)
    b = r.choice(BASES)
    if kind == 5:
        return changed(r, b)
    change = changed if kind == 4 else nudged
    if b[:2] == b"PK":
        entries = [(name, change(r, data) if name.endswith("data.pkl") else data) for name, data in entries_of(b)]
        return archive(r, entries, r.choice([0, 0, 0.003, 0.01]))
    begin, end = program_of(b)
    return b[:begin] + change(r, b[begin:end]) + b[end:]


# --- the comparison ------------------------------------------------------------------------------------------------------------------

def here(reader, files):
    """What the project reads of each file, None where it refuses it, and why."""
    p = subprocess.run([reader], input=b"".join(struct.pack("<Q", len(raw)) + raw for raw in files), capture_output=True, check=True)
    out = []
    for line in p.stdout.splitlines():
        a = json.loads(line)
        ours = None if "Error" in a else {k: [t["DType"], t["Shape"], t["Sum"]] for k, t in (a.get("Tensors") or {}).items()}
        out.append((ours, a.get("Error", "")))
    return out


def compare(path, raw, ours):
    """Loads a file that is read here; returns whether PyTorch loads it, whether as something else, and what torch.load gives."""
    with open(path, "wb") as f:
        f.write(raw)
    theirs = {only: answer(path, only) for only in (True, False)}
    loaded = [t for t in theirs.values() if t is not None]
    return "read-loaded" if loaded else "read-failed", not loaded or any(t != ours for t in loaded), theirs


def child(o, first, path, fd):
    """Says of each file its number and "refused", or "asked" and, once PyTorch survived it, its number, what it counts as and whether
    that is a difference. Each in one write: a crash loses no line."""
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    say = lambda *words: os.write(fd, (" ".join(map(str, words)) + "\n").encode())
    for begin in range(first, o.files, 200):
        batch = range(begin, min(o.files, begin + 200))
        files = [make(o.seed, n) for n in batch]
        for n, raw, (ours, _) in zip(batch, files, here(o.reader, files)):
            if ours is None:
                say(n, "refused", 0)
                continue
            say(n, "asked")
            signal.setitimer(signal.ITIMER_PROF, 30)  # seconds of the processor; then it counts as a crash
            word, wrong, _ = compare(path, raw, ours)
            signal.setitimer(signal.ITIMER_PROF, 0)
            say(n, word, int(wrong))


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--reader", required=True, help="the program that `go build ./internal/torchfile/differential` makes")
    a.add_argument("--files", type=int, default=1000)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--first", type=int, default=0)
    a.add_argument("--only", type=int)
    o = a.parse_args()
    if o.only is not None:
        path, raw = f"differential-{o.only}.pt", make(o.seed, o.only)
        os.environ["VERBOSE"] = "1"
        ours, why = here(o.reader, [raw])[0]
        word, wrong, theirs = compare(path, raw, ours)
        if ours is None:
            word, wrong = "refused", False
        print(word, "DIFFERENCE" if wrong else "", "\nhere:", ours, why, "\ntorch, weights_only:", theirs[True], "\ntorch:", theirs[False])
        return None
    counts, differences, n, begin = collections.Counter(), [], o.first, time.time()
    folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    path = os.path.join(folder.name, "file.pt")

    def count(word, wrong):
        nonlocal n
        counts[word] += 1
        if wrong:
            differences.append(n)
            print("DIFFERENCE: file", n, word, flush=True)
        n += 1
        if n % 1000 == 0:
            print(f"{n} files, {time.time() - begin:.0f} s, {dict(sorted(counts.items()))}", flush=True)

    while n < o.files:
        ours, its = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            try:
                child(o, n, path, its)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(its)
        before, asked = n, False
        with os.fdopen(ours) as lines:
            for line in lines:
                number, word, *wrong = line.split()
                if int(number) != n:
                    raise SystemExit(f"file {n}: the child says {line!r}")
                asked = not wrong
                if wrong:
                    count(word, wrong == ["1"])
        os.waitpid(pid, 0)
        if asked:
            count("read-crashed", True)
        elif n == before:
            raise SystemExit(f"the child does not begin with file {n}")
    print(f"torch {torch.__version__}, seed {o.seed}: {o.files - o.first} files in {time.time() - begin:.0f} s, "
          f"{dict(sorted(counts.items()))}, {len(differences)} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
