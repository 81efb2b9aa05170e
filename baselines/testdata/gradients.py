"""Writes gradients.json, the fixture of gradients_test.go: what PyTorch computes for a step of the baselines, in double precision.

    python baselines/testdata/gradients.py        (needs torch and numpy; run in the repository's root)

The objectives follow bolunwang/backdoor visualizer.py and Gwinhen/PixelBackdoor src/inversion_torch.py. A linear classifier
stands for the model; weights, images and the variables of each step come from the hash of clip/testdata/parity.py.
"""
import json
import os

import numpy as np
import torch
from torch.nn import functional as F

SIZE, IMAGES, CLASSES, TARGET, EPSILON = 6, 5, 4, 2, 1e-7
COSTS = (0.0, 1e-3, 0.1)


def hashed(name, *shape):
    """Numbers in [-1, 1), as in clip/testdata/parity.py."""
    h = 2166136261
    for b in name.encode():
        h = (h ^ b) * 16777619 & 0xFFFFFFFF
    x = (np.arange(int(np.prod(shape)), dtype=np.uint64) * 2654435761 + h).astype(np.uint32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return torch.from_numpy(((x >> np.uint32(8)).astype(np.float64) / (1 << 23) - 1).reshape(shape))


weight = hashed("weight", CLASSES, 3 * SIZE * SIZE)
images = (hashed("pixels", IMAGES, 3, SIZE, SIZE) + 1) / 2


def unit(u):
    return torch.tanh(u) / (2 - EPSILON) + 0.5


def neural_cleanse(mask, pattern):
    m = unit(mask)
    return (1 - m) * images + m * unit(pattern), m.abs().sum()


def pixel_backdoor(positive, negative):
    x = (images + positive.clamp(0, 1) - negative.clamp(0, 1)).clamp(0, 1)
    return x, sum((unit(v / 10)).max(0)[0].sum() for v in (positive, negative))


out = {}
for name, objective, channels in (("neural-cleanse", neural_cleanse, (1, 3)), ("pixel-backdoor", pixel_backdoor, (3, 3))):
    out[name] = []
    for step, cost in enumerate(COSTS):
        v = [hashed(f"{name} {step} {i}", c, SIZE, SIZE).requires_grad_() for i, c in enumerate(channels)]
        x, penalty = objective(*v)
        ce = F.cross_entropy(x.flatten(1) @ weight.t(), torch.full((IMAGES,), TARGET))
        grads = torch.autograd.grad(ce + cost * penalty, v)
        out[name].append({"cost": cost, "loss": ce.item(), "penalty": penalty.item(),
                          "gradients": [[float("%.9g" % g) for g in x.flatten().tolist()] for x in grads]})
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "gradients.json"), "w") as f:
    json.dump(out, f)
    f.write("\n")
