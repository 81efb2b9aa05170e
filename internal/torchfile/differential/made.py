"""The files that are compared: file N of seed S is the same in every run."""
import argparse
import collections
import io
import pickle
import pickletools
import random
import struct

import numpy as np
import torch

from archives import archive, legacy
from pickles import STORAGES, Maker


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
