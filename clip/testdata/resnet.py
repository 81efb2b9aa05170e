"""Writes parity-resnet.json, the fixture of resnet_test.go: what OpenAI's own model code computes, in double precision.

    python clip/testdata/resnet.py CLIP        (needs torch; run in the repository's root)

CLIP is a checkout of github.com/openai/CLIP. Its ModifiedResNet runs unchanged, but that its attention pool is also asked by every
place, as PLOT's authors ask it (tokens). Weights and pixels come from the hash of parity.py, under the names of clip/resnet.go.
"""
import importlib.util
import json
import os
import sys

import numpy as np
import torch

import parity

here = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location("model", os.path.join(sys.argv[1], "clip", "model.py"))
model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model)

STAGES, WIDTH, SIZE, D, HEADS, IMAGES = (2, 1, 2, 1), 4, 64, 12, 2, 3


def weight(name, shape):
    r = parity.hashed(name, *shape)
    if name.endswith("running_var") or "bn" in name and name.endswith(".weight") or name.endswith("downsample.1.weight"):
        return 1 + 0.25 * r
    if len(shape) == 1 or "embedding" in name:
        return 0.1 * r
    return r / np.sqrt(np.prod(shape[1:]) / 3)


net = model.ModifiedResNet(STAGES, D, HEADS, SIZE, WIDTH).double().eval()
state = net.state_dict()
for name, t in state.items():
    if not name.endswith("num_batches_tracked"):
        state[name] = torch.from_numpy(weight("vision_model." + name, tuple(t.shape)).astype(np.float32).astype(np.float64))
net.load_state_dict(state)

pixels = ((parity.hashed("pixels", IMAGES, 3, SIZE, SIZE) + 1) / 2).astype(np.float32).astype(np.float64)
pixels = torch.from_numpy(pixels).requires_grad_()
normal = (pixels - torch.from_numpy(parity.MEAN).view(1, 3, 1, 1)) / torch.from_numpy(parity.STD).view(1, 3, 1, 1)
features = net(normal)
unit = features / features.norm(dim=-1, keepdim=True)
(unit * torch.from_numpy(parity.hashed("objective", IMAGES, D))).sum().backward()

places = {}
net.attnpool.register_forward_hook(lambda m, i, o: places.update(x=i[0]))
net(normal)
x = places["x"].flatten(2).permute(2, 0, 1)
x = torch.cat([x.mean(0, keepdim=True), x]) + net.attnpool.positional_embedding[:, None]
pool = net.attnpool
tokens, _ = torch.nn.functional.multi_head_attention_forward(
    x, x, x, x.shape[-1], HEADS, None, torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]), None, None, False, 0,
    pool.c_proj.weight, pool.c_proj.bias, use_separate_proj_weight=True, q_proj_weight=pool.q_proj.weight,
    k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight, training=False, need_weights=False)
assert torch.allclose(tokens[0], features)
with open(os.path.join(here, "parity-resnet.json"), "w") as f:
    json.dump({"image_features": parity.flat(unit), "tokens": parity.flat(tokens.permute(1, 0, 2)), "pixel_gradient": parity.sample(pixels.grad)}, f)
    f.write("\n")
