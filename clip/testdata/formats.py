"""Writes one CLIP in the three formats in which CLIPs are published, with a real PyTorch, and what it computes.

    python clip/testdata/formats.py                        formats/* and parity-formats.json, a tiny model
    python clip/testdata/formats.py FOLDER tiny|b32|b16    the files alone

openai.pt is a TorchScript archive laid out as OpenAI's: half precision but for LayerNorms and embeddings, three integers as
buffers. open_clip.pt is a training checkpoint under the same names, wrapped for several devices. model-*.safetensors are
Hugging Face's, in two parts. The numbers are those of parity.py, rounded to half precision, so that all three hold the same.
"""
import collections
import json
import os
import sys

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

import parity


class Attention(nn.Module):
    """The parameters of nn.MultiheadAttention, without its thousand lines of TorchScript."""

    def __init__(self, width):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor):
        return x


class Block(nn.Module):
    def __init__(self, width, mlp):
        super().__init__()
        self.attn = Attention(width)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(collections.OrderedDict(c_fc=nn.Linear(width, mlp), gelu=nn.Sigmoid(), c_proj=nn.Linear(mlp, width)))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor):
        return x


class Transformer(nn.Module):
    def __init__(self, width, mlp, layers):
        super().__init__()
        self.resblocks = nn.Sequential(*[Block(width, mlp) for _ in range(layers)])

    def forward(self, x: torch.Tensor):
        return x


class Visual(nn.Module):
    def __init__(self, c, projection):
        super().__init__()
        width, patch = c["hidden_size"], c["patch_size"]
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((c["image_size"] // patch) ** 2 + 1, width))
        self.proj = nn.Parameter(torch.zeros(width, projection))
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, c["intermediate_size"], c["num_hidden_layers"])
        self.ln_post = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor):
        return x


class CLIP(nn.Module):
    """The parameters of OpenAI's CLIP under their names; it computes nothing."""

    def __init__(self, c):
        super().__init__()
        t = c["text_config"]
        width = t["hidden_size"]
        self.positional_embedding = nn.Parameter(torch.zeros(t["max_position_embeddings"], width))
        self.text_projection = nn.Parameter(torch.zeros(width, c["projection_dim"]))
        self.logit_scale = nn.Parameter(torch.zeros([]))
        self.visual = Visual(c["vision_config"], c["projection_dim"])
        self.transformer = Transformer(width, t["intermediate_size"], t["num_hidden_layers"])
        self.token_embedding = nn.Embedding(t["vocab_size"], width)
        self.ln_final = nn.LayerNorm(width)
        self.register_buffer("input_resolution", torch.tensor(c["vision_config"]["image_size"]))
        self.register_buffer("context_length", torch.tensor(t["max_position_embeddings"]))
        self.register_buffer("vocab_size", torch.tensor(t["vocab_size"]))

    def forward(self, x: torch.Tensor):
        return x


def number(name, *shape):
    return torch.from_numpy(np.asarray(parity.weight(name, shape)).astype(np.float32).astype(np.float16))


def openai(c, number=number):
    """OpenAI's state dict of the model whose parameters under Hugging Face's names number() makes."""
    out = {"logit_scale": number("logit_scale")}
    d, t, v = c["projection_dim"], c["text_config"], c["vision_config"]

    def tower(to, of, width, mlp, layers):
        for i in range(layers):
            a, b = f"{to}transformer.resblocks.{i}.", f"{of}.encoder.layers.{i}."
            out[a + "attn.in_proj_weight"] = torch.cat([number(f"{b}self_attn.{x}_proj.weight", width, width) for x in "qkv"])
            out[a + "attn.in_proj_bias"] = torch.cat([number(f"{b}self_attn.{x}_proj.bias", width) for x in "qkv"])
            out[a + "attn.out_proj.weight"] = number(b + "self_attn.out_proj.weight", width, width)
            out[a + "attn.out_proj.bias"] = number(b + "self_attn.out_proj.bias", width)
            for n in "12":
                for x in ("weight", "bias"):
                    out[a + f"ln_{n}.{x}"] = number(b + f"layer_norm{n}.{x}", width)
            out[a + "mlp.c_fc.weight"], out[a + "mlp.c_fc.bias"] = number(b + "mlp.fc1.weight", mlp, width), number(b + "mlp.fc1.bias", mlp)
            out[a + "mlp.c_proj.weight"], out[a + "mlp.c_proj.bias"] = number(b + "mlp.fc2.weight", width, mlp), number(b + "mlp.fc2.bias", width)

    width, patch = v["hidden_size"], v["patch_size"]
    tower("visual.", "vision_model", width, v["intermediate_size"], v["num_hidden_layers"])
    out["visual.class_embedding"] = number("vision_model.embeddings.class_embedding", width)
    out["visual.conv1.weight"] = number("vision_model.embeddings.patch_embedding.weight", width, 3, patch, patch)
    positions = (v["image_size"] // patch) ** 2 + 1
    out["visual.positional_embedding"] = number("vision_model.embeddings.position_embedding.weight", positions, width)
    out["visual.proj"] = number("visual_projection.weight", d, width).T.contiguous()
    for x in ("weight", "bias"):
        out["visual.ln_pre." + x] = number("vision_model.pre_layrnorm." + x, width)
        out["visual.ln_post." + x] = number("vision_model.post_layernorm." + x, width)
    width = t["hidden_size"]
    tower("", "text_model", width, t["intermediate_size"], t["num_hidden_layers"])
    out["token_embedding.weight"] = number("text_model.embeddings.token_embedding.weight", t["vocab_size"], width)
    out["positional_embedding"] = number("text_model.embeddings.position_embedding.weight", t["max_position_embeddings"], width)
    out["text_projection"] = number("text_projection.weight", d, width).T.contiguous()
    for x in ("weight", "bias"):
        out["ln_final." + x] = number("text_model.final_layer_norm." + x, width)
    return out


def write(folder, c):
    state = openai(c)
    model = CLIP(c).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and sorted(missing) == ["context_length", "input_resolution", "vocab_size"], (missing, unexpected)
    for name, p in model.named_parameters():
        full = "ln_" in name or "embedding" in name or name == "logit_scale"
        p.data = p.data if full else p.data.half()
        p.requires_grad = False
    torch.jit.script(model).save(folder + "/openai.pt")

    checkpoint = {"epoch": 3, "name": "run", "state_dict": collections.OrderedDict(("module." + k, x) for k, x in state.items()),
                  "optimizer": torch.optim.AdamW([nn.Parameter(torch.zeros(2))]).state_dict()}
    torch.save(checkpoint, folder + "/open_clip.pt")

    from transformers import CLIPConfig, CLIPModel
    shapes = {k: tuple(p.shape) for k, p in CLIPModel(CLIPConfig(**c)).state_dict().items() if not k.endswith("position_ids")}
    parts, where = [{}, {}], {}
    for i, name in enumerate(sorted(shapes)):
        parts[i % 2][name] = number(name, *shapes[name])
        where[name] = f"model-{i % 2}.safetensors"
    for i, part in enumerate(parts):
        save_file(part, f"{folder}/model-{i}.safetensors")
    with open(folder + "/model.safetensors.index.json", "w") as f:
        json.dump({"metadata": {"total_size": 1}, "weight_map": where}, f)
    with open(folder + "/config.json", "w") as f:
        json.dump(dict(c, model_type="clip"), f)


# One head a tower, since OpenAI's files do not say how many there are.
TINY = parity.config(12, (8, 4, 24, 40, 2, 1, "quick_gelu"), (514, 10, 16, 48, 2, 1, "quick_gelu"))

if __name__ == "__main__":
    if len(sys.argv) == 3:
        write(sys.argv[1], {"tiny": TINY, "b32": parity.vit(32), "b16": parity.vit(16)}[sys.argv[2]])
    else:
        folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "formats")
        os.makedirs(folder, exist_ok=True)
        write(folder, TINY)
        parity.run("parity-formats.json", TINY, 3, 4, 9, np.float16)
