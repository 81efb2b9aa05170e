"""Pickles composed of what trainers' files have, and of tricks."""
import math
import struct

import numpy as np

from loaded import SAFE, TRICKS

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
