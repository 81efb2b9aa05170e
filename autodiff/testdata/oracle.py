"""Writes oracle.json: what PyTorch says about every case of cases_test.go and about the optimisers.

    pip install torch numpy && python oracle.py > oracle.json

Inputs come from the integer hash that cases_test.go also has, so none are stored. Everything runs in float64. A tensor is
stored as every k-th number (at most 16) and two weighted sums over all of its numbers.
"""
import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F

SEED = 1
MASK = (1 << 64) - 1
torch.set_default_dtype(torch.float64)


def hash24(seed, i):
    z = ((seed << 32 | i) + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
    return (z ^ z >> 31) >> 40


def uniform(seed, i):
    return hash24(seed, i) / (1 << 23) - 1


def numbers(kind, seed):
    kind, shape, w, h = kind
    n = math.prod(shape)
    order = sorted(range(n), key=lambda i: hash24(seed + 500, i))
    rank = [0] * n
    for r, i in enumerate(order):
        rank[i] = r
    x = []
    for i in range(n):
        u = uniform(seed, i)
        if kind == "uniform":
            v = u
        elif kind == "positive":
            v = 1.25 + 0.75 * u
        elif kind == "away":
            v = u + math.copysign(0.25, u)
        elif kind == "distinct":
            v = (rank[i] - n // 2) / 16 + 1 / 32 + u / 128
        elif kind == "index":
            v = hash24(seed, i) % w
        elif kind == "grid":
            size = h if i % 2 else w
            cell = hash24(seed + 500, i) % (size + 2) - 2
            v = (cell + 0.5 + 0.25 * u) / (size - 1) * 2 - 1
        x.append(float(np.float32(v)))
    return torch.tensor(x).reshape(shape)


def uni(*s): return ("uniform", s, 0, 0)
def pos(*s): return ("positive", s, 0, 0)
def away(*s): return ("away", s, 0, 0)
def distinct(*s): return ("distinct", s, 0, 0)
def index(n, *s): return ("index", s, n, 0)
def grid(w, h, *s): return ("grid", s, w, h)


cases = {}


def add(name, f, *ins):
    assert name not in cases
    cases[name] = (f, ins)


def transpose(f):
    """The transpose of the linear map f of x, applied to y."""
    return lambda x, y: torch.autograd.grad(f(x), x, y, create_graph=True)[0]


def quickgelu(x): return x * torch.sigmoid(1.702 * x)


add("affine", lambda x: -2.5 * x + 0.75, uni(3, 5))
add("scale", lambda x: 3 * x, uni(7))
add("clamp", lambda x: x.clamp(-0.5, 0.25), distinct(4, 6))
for name, f, k in [("quickgelu", quickgelu, uni), ("gelu", F.gelu, uni), ("relu", F.relu, distinct), ("tanh", torch.tanh, uni),
                   ("sigmoid", torch.sigmoid, uni), ("exp", torch.exp, uni), ("log", torch.log, pos), ("abs", torch.abs, distinct),
                   ("sign", torch.sign, distinct), ("square", torch.square, uni), ("sqrt", torch.sqrt, pos),
                   ("reciprocal", torch.reciprocal, away)]:
    add("apply-" + name, f, k(4, 5))
for name, f, k in [("quickgelu", quickgelu, uni), ("tanh", torch.tanh, uni), ("relu", F.relu, distinct), ("exp", torch.exp, uni),
                   ("square", torch.square, uni)]:
    add("method-" + name, lambda x, f=f: f(6 * x), k(24))
for name, f, den in [("add", torch.add, uni), ("sub", torch.sub, uni), ("mul", torch.mul, uni), ("div", torch.div, away)]:
    add(name + "-same", f, uni(2, 3, 4), den(2, 3, 4))
    add(name + "-last", f, uni(2, 3, 4), den(4))
    add(name + "-first", f, uni(4), den(2, 3, 4))
    add(name + "-outer", f, uni(3, 1), den(1, 5))
    add(name + "-middle", f, uni(2, 3, 4), den(2, 1, 4))
    add(name + "-scalar", f, uni(2, 5), den(1))
    add(name + "-channel", f, uni(2, 3, 2, 2), den(1, 3, 1, 1))
    add(name + "-classes", f, uni(1, 2, 3, 2, 3), den(3, 1, 1, 2, 3))
    add(name + "-mask", f, uni(2, 2, 3, 2, 2), den(2, 1, 1, 2, 2))
    add(name + "-rank6", f, uni(2, 1, 2, 1, 3, 1), den(1, 2, 2, 2, 1, 3))
    add(name + "-self", lambda x, f=f: f(x, x), den(3, 4))
add("equal", lambda x, a, b: x * (a == b), uni(2, 6), index(3, 2, 6), index(3, 6))
add("greater-equal", lambda x, a: x * (x >= a), distinct(3, 4), uni(1))
add("sumto-rows", lambda x: x.sum(0, keepdim=True), uni(3, 4))
add("sumto-columns", lambda x: x.sum(1, keepdim=True), uni(3, 4))
add("sumto-mixed", lambda x: x.sum((0, 2), keepdim=True), uni(2, 3, 4, 2))
add("sumto-all", lambda x: x.sum((0, 1, 2), keepdim=True), uni(2, 3, 4))
add("sumto-none", lambda x: x * x, uni(2, 3))
add("meanto-space", lambda x: x.mean((2, 3), keepdim=True), uni(2, 3, 4, 2))
add("meanto-batch", lambda x: x.mean(0, keepdim=True), uni(5, 3))
add("broadcastto", lambda x: x.expand(2, 3, 4), uni(2, 1, 4))
add("broadcastto-all", lambda x: x.expand(3, 4), uni(1, 1))
add("mean", lambda x: (x * x).mean().reshape(1), uni(3, 4))
add("sum", lambda x: (x * x).sum().reshape(1), uni(3, 4))
add("max-channel", lambda x: x.max(1, keepdim=True)[0], distinct(2, 3, 2, 3))
add("max-last", lambda x: x.max(-1, keepdim=True)[0], distinct(4, 5))
add("max-first", lambda x: x.max(0, keepdim=True)[0], distinct(4, 5))
add("slice-first", lambda x: x[1:3], uni(4, 3))
add("slice-middle", lambda x: x[:, 2:3], uni(2, 4, 3))
add("slice-last", lambda x: x[..., 0:2], uni(2, 4, 3))
add("pad", lambda x: F.pad(x, (0, 0, 1, 1)), uni(2, 3, 2))
add("slice-twice", lambda x: x[:, 0:3] * x[:, 1:4], uni(3, 4))
add("slice-transpose", transpose(lambda x: x[:, 1:3]), uni(3, 4), uni(3, 2))
add("concat-first", lambda *x: torch.cat(x, 0), uni(2, 3), uni(1, 3), uni(3, 3))
add("concat-middle", lambda *x: torch.cat(x, 1), uni(2, 1, 3), uni(2, 2, 3), uni(2, 1, 3))
add("concat-last", lambda *x: torch.cat(x, 2), uni(2, 2, 3), uni(2, 2, 1))
add("concat-repeat", lambda x, y: torch.cat((x, y, x), 1), uni(2, 2), uni(2, 1))
add("permute-2", lambda x: x.permute(1, 0), uni(3, 4))
add("permute-4", lambda x: x.permute(2, 0, 3, 1), uni(2, 3, 4, 2))
add("permute-5", lambda x: x.permute(4, 1, 0, 3, 2), uni(2, 3, 1, 2, 3))
add("gather", lambda t, i: t[i.long()], uni(4, 3), index(4, 2, 5))
add("gather-transpose", lambda t, i, y: transpose(lambda t: t[i.long()])(t, y), uni(4, 3), index(4, 6), uni(6, 3))
add("gather-argmax", lambda t, x: t[x.argmax(-1)], uni(5, 3), distinct(4, 5))
add("argmax", lambda x: x.argmax(-1).double(), distinct(4, 5))
add("reshape", lambda x: (x * x).reshape(4, 3, 1), uni(2, 2, 3))
add("detach", lambda x, y: x * x.detach() + y.detach() ** 2, uni(2, 3), uni(3))
for name, ta, tb in [("nn", 0, 0), ("nt", 0, 1), ("tn", 1, 0), ("tt", 1, 1)]:
    def mm(a, b, ta=ta, tb=tb, alpha=0.5):
        return alpha * torch.matmul(a.mT if ta else a, b.mT if tb else b)

    def shape(t, lead, r, c): return uni(*lead, *((c, r) if t else (r, c)))
    add("matmul-" + name, mm, shape(ta, (), 3, 4), shape(tb, (), 4, 5))
    add("matmul-" + name + "-batch", mm, shape(ta, (2, 2), 3, 4), shape(tb, (2, 2), 4, 5))
    add("matmul-" + name + "-shared", mm, shape(ta, (3,), 3, 4), shape(tb, (), 4, 5))
    add("matmul-" + name + "-one", mm, shape(ta, (1,), 3, 4), shape(tb, (1,), 4, 2))
    add("matmul-" + name + "-self", lambda x, mm=mm: mm(x, x, alpha=1), uni(2, 3, 3))
add("matmul-method", torch.matmul, uni(2, 3, 4), uni(2, 4, 5))
add("matmult-method", lambda a, b: a @ b.mT, uni(3, 4), uni(5, 4))
add("matmul-vector", torch.matmul, uni(1, 4), uni(4, 1))
add("linear", F.linear, uni(2, 3, 4), uni(5, 4), uni(5))
add("linear-nobias", F.linear, uni(3, 4), uni(5, 4))
add("linear-bias2d", lambda x, w, b: F.linear(x, w, b[0]), uni(3, 4), uni(2, 4), uni(1, 2))
add("linear-vector", F.linear, uni(4), uni(3, 4), uni(3))
for name, heads, causal, b, s, w, big in [
        ("attention", 2, False, 2, 5, 6, 3), ("attention-causal", 2, True, 2, 5, 6, 3), ("attention-1head", 1, False, 1, 4, 5, 1),
        ("attention-4heads", 4, False, 2, 3, 4, 1), ("attention-causal-3heads", 3, True, 1, 7, 6, 2),
        ("attention-1token", 2, True, 3, 1, 4, 1)]:
    def attention(x, heads=heads, causal=causal, big=big):
        b, s, w3 = x.shape
        q, k, v = (big * x).reshape(b, s, 3, heads, w3 // 3 // heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return y.permute(0, 2, 1, 3).reshape(b, s, w3 // 3)
    add(name, attention, uni(b, s, 3 * w))


def ln(x, g, b): return F.layer_norm(x, g.shape, g, b, 1e-5)


def addln(x, r, g, b):
    h = x + r.reshape(x.shape)
    return ln(h, g, b), h


def mixed(y, h): return y * h + h * h


def chain(x, r, g, b):
    y, h = addln(x, r, g, b)
    y, h = addln(y * y, h, g, b)
    return y * h


gb = (pos(6), uni(6))
add("layernorm", ln, uni(2, 3, 6), *gb)
add("layernorm-offset", lambda x, g, b: ln(0.5 * x + 20, g, b), uni(4, 6), *gb)
add("addlayernorm", addln, uni(2, 3, 6), uni(2, 3, 6), *gb)
add("addlayernorm-y", lambda *a: addln(*a)[0], uni(3, 6), uni(3, 6), *gb)
add("addlayernorm-h", lambda *a: addln(*a)[1], uni(3, 6), uni(3, 6), *gb)
add("addlayernorm-mixed", lambda *a: mixed(*addln(*a)), uni(3, 6), uni(3, 6), *gb)
add("addlayernorm-self", lambda x, g, b: (addln(x, x, g, b)[0], 4 * x * x), uni(3, 6), *gb)
add("addlayernorm-shapes", addln, uni(2, 3, 6), uni(6, 6), *gb)
add("addlayernorm-shapes-h", lambda *a: addln(*a)[1] ** 2, uni(2, 3, 6), uni(6, 6), *gb)
add("addlayernorm-chain", chain, uni(3, 6), uni(3, 6), *gb)
add("normalize", lambda x: F.normalize(x, dim=-1), uni(2, 3, 4))
add("softmax", lambda x: F.softmax(4 * x, -1), uni(2, 3, 5))
add("crossentropy", lambda x, t: F.cross_entropy(8 * x, t.long(), reduction="none"), uni(4, 6), index(6, 4))
add("crossentropy-argmax", lambda x: F.cross_entropy(x, x.argmax(-1)).reshape(1), distinct(4, 6))


def margin(m):
    def f(x, t):
        hot = F.one_hot(t.long(), x.shape[1]).bool()
        return F.relu(m + x.masked_fill(hot, -math.inf).max(1)[0] - x[hot])
    return f


add("margin", margin(1 / 32), distinct(8, 3), index(3, 8))
add("margin-wide", margin(1 + 1 / 32), distinct(6, 5), index(5, 6))


def patchify(p): return lambda x: F.unfold(x, p, stride=p).mT  # rows [C*p*p], as a convolution's weights


add("patchify", patchify(2), uni(2, 3, 4, 6))
add("patchify-transpose", transpose(patchify(2)), uni(1, 2, 4, 2), uni(1, 2, 8))
add("convolution", lambda x, w: F.conv2d(x, w.reshape(5, 3, 2, 2), stride=2).flatten(2).mT, uni(2, 3, 4, 2), uni(5, 12))


def gridsample(x, g):
    return F.grid_sample(x, g.expand(x.shape[0], -1, -1, -1), mode="bilinear", padding_mode="zeros", align_corners=True)


add("gridsample-shared", gridsample, uni(2, 2, 3, 4), grid(4, 3, 1, 3, 3, 2))
add("gridsample-batch", gridsample, uni(2, 3, 4, 5), grid(5, 4, 2, 2, 3, 2))


def crop(h, w, *boxes):
    def f(x):
        out = []
        for image, (left, top, width, height, mirror) in zip(x.detach(), boxes):
            part = F.interpolate(image[None, :, top:top + height, left:left + width], (h, w), mode="bicubic", antialias=True)
            out.append(part.flip(3) if mirror else part)
        return torch.cat(out)
    return f


add("crop-magnify", crop(16, 16, (2, 1, 5, 7, 0), (10, 8, 1, 1, 0)), uni(2, 2, 9, 11))
add("crop-shrink", crop(3, 4, (0, 0, 11, 9, 0), (1, 2, 10, 6, 1)), uni(2, 2, 9, 11))
add("crop-mixed", crop(8, 6, (3, 0, 4, 9, 1), (0, 5, 11, 4, 1)), uni(2, 2, 9, 11))


def uses(x):
    a = x.tanh()
    return (a * a + x) * a - x.reshape(4, 3).T + a[1:2]


add("multiple-uses", uses, uni(3, 4))
add("perceptron", lambda x, w, b, v, t: F.cross_entropy(quickgelu(x @ w.T + b) @ v.T, t.long()).reshape(1),
    uni(4, 5), uni(6, 5), uni(6), uni(3, 6), index(3, 4))


def short(v): return float(f"{v:.10g}")


def digest(x):
    x = x.detach().double().flatten().tolist()
    step = (len(x) + 15) // 16
    sums = [sum(v * uniform(7000 + k, i) for i, v in enumerate(x)) for k in range(2)]
    return {"n": len(x), "every": [short(v) for v in x[::step]], "sums": [short(v) for v in sums]}


def run(f, kinds):
    ins = [numbers(k, SEED + i).requires_grad_(k[0] != "index") for i, k in enumerate(kinds)]
    outs = f(*ins)
    outs = outs if isinstance(outs, tuple) else (outs,)
    loss = sum((o * numbers(uni(*o.shape), SEED + 100 + i)).sum() for i, o in enumerate(outs))
    wrt = [x for x in ins if x.requires_grad]
    grads = torch.autograd.grad(loss, wrt, allow_unused=True) if loss.requires_grad else []
    grads = [torch.zeros_like(x) if g is None else g for x, g in zip(wrt, grads)]
    return {"out": [digest(o) for o in outs], "grads": [digest(g) for g in grads]}


def optimise(make, sched, steps=20):
    """Minimises sum w*(p^2-a)^2 with a learning rate from sched for each step; the last one repeats."""
    p = numbers(uni(12), 40).requires_grad_()
    a, w = numbers(uni(12), 41), numbers(pos(12), 42)
    opt = make([p])
    path = []
    for t in range(steps):
        for g in opt.param_groups:
            g["lr"] = float(np.float32(sched[min(t, len(sched) - 1)]))
        opt.zero_grad()
        (w * (p * p - a) ** 2).sum().backward()
        opt.step()
        if t in (0, 1, 2, steps - 1):
            path.append([short(v) for v in p.detach().tolist()])
    return path


def cosine(rate, steps):
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    s = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps)
    return rates(opt, s.step, steps)


def rates(opt, step, n):
    r = []
    for _ in range(n):
        r.append(short(opt.param_groups[0]["lr"]))
        opt.step()
        step()
    return r


def warm(rate, steps, warmup):
    """PyTorch's linear warm-up followed by its cosine."""
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    L = torch.optim.lr_scheduler
    up = L.LinearLR(opt, 1 / warmup, (warmup) / warmup, warmup - 1)
    s = L.SequentialLR(opt, [up, L.CosineAnnealingLR(opt, steps - warmup)], [warmup])
    return rates(opt, s.step, steps)


def coop(rate, epochs):
    """Dassl's ConstantWarmupScheduler (warm-up 1 epoch at 1e-5, recount) around PyTorch's cosine."""
    class Warmup(torch.optim.lr_scheduler.LRScheduler):
        def __init__(self, opt, successor):
            self.successor = successor
            super().__init__(opt)

        def get_lr(self):
            return self.successor.get_last_lr() if self.last_epoch >= 1 else [1e-5]

        def step(self, epoch=None):
            if self.last_epoch >= 1:
                self.successor.step()
                self._last_lr = self.successor.get_last_lr()
            else:
                super().step()
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    s = Warmup(opt, torch.optim.lr_scheduler.CosineAnnealingLR(opt, epochs))
    return rates(opt, s.step, epochs)


O = torch.optim
sched = [0.05, 0.04, 0.03, 0.02, 0.01]
optimisers = {
    "sgd": lambda p: O.SGD(p, lr=1),
    "sgd-decay": lambda p: O.SGD(p, lr=1, weight_decay=0.1),
    "sgd-momentum": lambda p: O.SGD(p, lr=1, momentum=0.9),
    "sgd-momentum-decay": lambda p: O.SGD(p, lr=1, momentum=0.9, weight_decay=5e-4),
    "adam": lambda p: O.Adam(p),
    "adam-decay": lambda p: O.Adam(p, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
    "adamw": lambda p: O.AdamW(p, weight_decay=0),
    "adamw-decay": lambda p: O.AdamW(p, betas=(0.5, 0.9), eps=1e-6, weight_decay=0.2),
}
fixture = {
    "cases": {name: run(*c) for name, c in cases.items()},
    "optimisers": {name: optimise(make, sched) for name, make in optimisers.items()},
    "schedules": {"cosine 0.1 10": cosine(0.1, 10), "cosine 0.1 13 3": warm(0.1, 13, 3),
                  "coop 0.002 50": coop(0.002, 50), "coop 0.002 10": coop(0.002, 10), "coop 0.002 200": coop(0.002, 200)},
}
sep = ""
print("{", end="")
for part, entries in fixture.items():
    print(sep + json.dumps(part) + ":{", end="")
    print(",".join("\n" + json.dumps(k) + ":" + json.dumps(v, separators=(",", ":")) for k, v in entries.items()), end="}")
    sep = ",\n"
print("}")
print(f"{len(cases)} cases, torch {torch.__version__}", file=sys.stderr)
