"""Writes the fixtures of parity_test.go: what Hugging Face's CLIPModel computes, in double precision.

    python clip/testdata/parity.py        (needs torch and transformers; run in the repository's root)

Weights and inputs come from an integer hash that the Go test computes too, so the fixtures hold results only. The features
of images and texts, the logits, and the gradients of sum(logits * R) to pixels and token embeddings: their norms and the
entries at evenly spread places.
"""
import json
import os

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip import modeling_clip

# The library's own mask cannot be made in double precision.
modeling_clip._create_4d_causal_attention_mask = lambda shape, dtype, device: torch.full(
    (shape[1], shape[1]), -1e30, dtype=dtype).triu(1).expand(shape[0], 1, shape[1], shape[1])

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])


def fnv(name):
    h = 2166136261
    for b in name.encode():
        h = (h ^ b) * 16777619 & 0xFFFFFFFF
    return h


def hashed(name, *shape):
    """Numbers in [-1, 1), the same on every machine."""
    n = int(np.prod(shape, dtype=np.int64))
    x = (np.arange(n, dtype=np.uint64) * 2654435761 + fnv(name)).astype(np.uint32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return ((x >> np.uint32(8)).astype(np.float64) / (1 << 23) - 1).reshape(shape)


def weight(name, shape):
    if name == "logit_scale":
        return np.array(3.0)
    r = hashed(name, *shape)
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.25 * r
    if len(shape) == 1 or "embedding" in name and "patch" not in name:
        return 0.1 * r
    return r / np.sqrt(np.prod(shape[1:]) / 3)


def run(file, config, images, texts, length, rounding=np.float32):
    model = CLIPModel(CLIPConfig(**config)).double().eval()
    state = model.state_dict()
    for name, t in state.items():
        if not name.endswith("position_ids"):
            value = weight(name, tuple(t.shape)).astype(np.float32).astype(rounding)
            state[name] = torch.from_numpy(np.asarray(value).astype(np.float64))
    model.load_state_dict(state)
    v, t = config["vision_config"], config["text_config"]
    s = v["image_size"]
    pixels = ((hashed("pixels", images, 3, s, s) + 1) / 2).astype(np.float32)
    pixels = torch.from_numpy(pixels.astype(np.float64)).requires_grad_()
    embeddings = (0.2 * hashed("prompts", texts, length, t["hidden_size"])).astype(np.float32)
    embeddings = torch.from_numpy(embeddings.astype(np.float64)).requires_grad_()
    ids = torch.zeros(texts, length, dtype=torch.long)
    for i in range(texts):
        ids[i, length - 1 - 2 * i] = t["vocab_size"] - 1  # the end of text
    hook = model.text_model.embeddings.token_embedding.register_forward_hook(lambda m, i, o: embeddings)
    normal = (pixels - torch.from_numpy(MEAN).view(1, 3, 1, 1)) / torch.from_numpy(STD).view(1, 3, 1, 1)
    out = model(input_ids=ids, pixel_values=normal)
    hook.remove()
    logits = out.logits_per_image
    (logits * torch.from_numpy(hashed("objective", images, texts))).sum().backward()
    fixture = {
        "image_features": flat(out.image_embeds), "text_features": flat(out.text_embeds), "logits": flat(logits),
        "pixel_gradient": sample(pixels.grad), "prompt_gradient": sample(embeddings.grad),
    }
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), file)
    with open(path, "w") as f:
        json.dump(fixture, f)
        f.write("\n")
    print(path, os.path.getsize(path), "bytes")


def flat(x):
    return [float("%.8g" % v) for v in x.detach().numpy().ravel()]


def sample(x, n=2000):
    x = x.numpy().ravel()
    step = max(1, len(x) // n)
    return {"norm": float(np.linalg.norm(x)), "max": float(np.abs(x).max()), "step": step,
            "values": [float("%.8g" % v) for v in x[::step]]}


def config(projection, vision, text):
    v = dict(zip(("image_size", "patch_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                  "num_attention_heads", "hidden_act"), vision))
    t = dict(zip(("vocab_size", "max_position_embeddings", "hidden_size", "intermediate_size", "num_hidden_layers",
                  "num_attention_heads", "hidden_act"), text))
    t.update(bos_token_id=t["vocab_size"] - 2, eos_token_id=t["vocab_size"] - 1)
    return dict(projection_dim=projection, vision_config=v, text_config=t)


def vit(patch):
    return config(512, (224, patch, 768, 3072, 12, 12, "quick_gelu"), (49408, 77, 512, 2048, 12, 8, "quick_gelu"))


if __name__ == "__main__":
    run("parity-tiny.json", config(12, (8, 4, 24, 40, 2, 3, "gelu"), (40, 10, 16, 48, 3, 2, "quick_gelu")), 3, 4, 9)
    run("parity-b32.json", vit(32), 2, 3, 20)
    run("parity-b16.json", vit(16), 1, 2, 12)
