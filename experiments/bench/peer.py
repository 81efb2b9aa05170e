"""CLIP's towers in PyTorch, forward and back to their input, and the tuning of prompts: the peer of
`clip-inspector bench --peer PYTHON`.

Reads cases as JSON from standard input and prints, for each, a line of JSON as soon as it is known:
the seconds of the fastest pass (or of a whole tuning) over eager and compiled mode, on the CPU over
thread counts, on a GPU with bf16 autocast or in the precision asked for. Weights are frozen: only
the input gets a gradient.
"""
import json
import sys
import time

import torch
import torch.nn.functional as F


class Block(torch.nn.Module):
    def __init__(self, width, mlp, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.fc, self.proj = torch.nn.Linear(width, mlp), torch.nn.Linear(mlp, width)

    def forward(self, x):
        b, s, w = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(b, s, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(a.transpose(1, 2).reshape(b, s, w))
        h = self.fc(self.ln_2(x))
        return x + self.proj(h * torch.sigmoid(1.702 * h))


class Tower(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        w, p = c["width"], c["patch"]
        self.conv = torch.nn.Conv2d(3, w, p, p, bias=False)
        self.token = torch.nn.Parameter(torch.randn(w) * 0.02)
        self.position = torch.nn.Parameter(torch.randn((c["size"] // p) ** 2 + 1, w) * 0.02)
        self.pre, self.post = torch.nn.LayerNorm(w), torch.nn.LayerNorm(w)
        self.blocks = torch.nn.ModuleList(Block(w, c["mlp"], c["heads"], False) for _ in range(c["layers"]))
        self.proj = torch.nn.Linear(w, c["projection"], bias=False)

    def forward(self, x):
        x = self.conv(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], 1, -1), x], 1) + self.position
        x = self.pre(x)
        for block in self.blocks:
            x = block(x)
        return F.normalize(self.proj(self.post(x[:, 0])), dim=-1)


class Texts(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        w = c["width"]
        self.position = torch.nn.Parameter(torch.randn(c["tokens"], w) * 0.02)
        self.blocks = torch.nn.ModuleList(Block(w, c["mlp"], c["heads"], True) for _ in range(c["layers"]))
        self.post = torch.nn.LayerNorm(w)
        self.proj = torch.nn.Linear(w, c["projection"], bias=False)

    def forward(self, x):
        x = x + self.position
        for block in self.blocks:
            x = block(x)
        return F.normalize(self.proj(self.post(x[:, -1])), dim=-1)


def build(c, device, compiled):
    tower = (Texts if c["tokens"] else Tower)(c).requires_grad_(False).to(device)
    return torch.compile(tower) if compiled else tower


def passes(c, device, precision, compiled):
    """What makes one pass."""
    t = c["tower"]
    tower = build(t, device, compiled)
    shape = (t["tokens"], t["width"]) if t["tokens"] else (3, t["size"], t["size"])
    x = torch.rand(c["batch"], *shape, device=device, requires_grad=True)

    def step():
        x.grad = None
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            y = tower(x)
        y.float().square().sum().backward()

    return step


def tuning(c, device, precision, compiled):
    """What tunes one model: the images go through the tower once, then all steps."""
    t = c["text"]
    image, text = build(c["tower"], device, compiled), build(t, device, compiled)
    n, batch, classes, context = c["images"], c["batch"], c["classes"], c["context"]
    pixels = torch.rand(n, 3, c["tower"]["size"], c["tower"]["size"], device=device)
    labels = torch.arange(n, device=device) % classes
    first = torch.randn(classes, 1, t["width"], device=device) * 0.02
    rest = torch.randn(classes, t["tokens"] - 1 - context, t["width"], device=device) * 0.02

    def tune():
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            features = torch.cat([image(x) for x in pixels.split(batch)])
        ctx = (torch.randn(classes, context, t["width"], device=device) * 0.02).requires_grad_()
        adam = torch.optim.Adam([ctx], lr=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, c["epochs"])
        for _ in range(c["epochs"]):
            for rows in torch.randperm(n, device=device).split(batch):
                adam.zero_grad()
                with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
                    vectors = text(torch.cat([first, ctx, rest], 1))
                F.cross_entropy(100 * features[rows].float() @ vectors.float().T, labels[rows]).backward()
                adam.step()
            schedule.step()

    return tune


def measure(c, device, precision, threads, compiled):
    if device == "cpu":
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    step = (tuning if c["text"] else passes)(c, device, precision, compiled)
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    for _ in range(1 if c["text"] else 3):
        step()
    wait()
    best = float("inf")
    for _ in range(4):
        start, n = time.perf_counter(), 0
        while n == 0 or time.perf_counter() - start < c["seconds"] / 4:
            step()
            n += 1
            if n % 8 == 0:
                wait()  # else a GPU's queue grows without end
        wait()
        best = min(best, (time.perf_counter() - start) / n)
    return best


def main():
    request = json.load(sys.stdin)
    device, precision = request.get("device", "cpu"), request.get("precision", "fp32")
    for c in request["cases"]:
        best = {"version": torch.__version__, "seconds": float("inf")}
        for threads in range(1, request["threads"] + 1) if device == "cpu" else [0]:
            for compiled in (False, True):
                try:
                    s = measure(c, device, precision, threads, compiled)
                except Exception as e:  # torch.compile needs a compiler; eager mode does not
                    if not compiled:
                        raise
                    print(f"torch.compile: {type(e).__name__}", file=sys.stderr)
                    continue
                mode = "compiled" if compiled else "eager"
                best.setdefault("all", {})[mode] = min(s, best.get("all", {}).get(mode, float("inf")))
                if s < best["seconds"]:
                    best.update(seconds=s, mode=mode, threads=threads)
        print(json.dumps(best), flush=True)


main()
