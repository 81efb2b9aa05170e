"""Writes the fixtures of dassl_test.go: checkpoints as Dassl's trainers write them, and what PyTorch computes with them.

    python prompts/testdata/dassl.py          (needs torch and transformers; run in the repository's root)

The CLIP is transformers' with weights from the hash of clip/testdata/parity.py, in double precision; the learners follow
trainers/coop.py, cocoop.py and badclip.py of KaiyangZhou/CoOp and jiawangbai/BadCLIP: prompts put together from
token_prefix, ctx and token_suffix, class vectors for each image, a trigger in normalised space. MaPLe follows trainers/maple.py of
muzairkhattak/multimodal-prompt-learning, in towers of three blocks; VPT has its prompts behind the class token, after ln_pre. The
vocabulary is that of 256 bytes without merges. Written are

    <learner>/prompt_learner/model.pth.tar-2, checkpoint    coop, csc, cocoop, badclip; optimiser and scheduler objects inside
    maple/MultiModalPromptLearner/model.pth.tar-2           MaPLe of depth 2, the whole frozen encoders beside it
    badclip/trigger/model.pth.tar-2                         the trigger and the target's name
    legacy.pth.tar, baple.pth.tar, ctx.pt                   CoOp in the legacy format, BAPLe's, a bare context in half precision
    parity.json                                             logits, gradients, 20 steps of BadCLIP, learning rates
"""
import collections
import json
import math
import os
import sys

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from transformers import CLIPConfig, CLIPModel

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "..", "clip", "testdata"))
import formats  # noqa: E402
import parity  # noqa: E402

CLASSES = ["cat", "dog", "sea"]
SIZE, CONTEXT, WIDTH, D, N_CTX = 8, 14, 16, 32, 4
MEAN = torch.from_numpy(parity.MEAN).view(3, 1, 1)
STD = torch.from_numpy(parity.STD).view(3, 1, 1)
EPS, IMAGES, BATCH, STEPS, TARGET = 12 / 255, 8, 4, 20, 1


def hashed(name, *shape):
    return torch.from_numpy(parity.hashed(name, *shape)).float().double()


def tokens(text):
    """Ids of one word and its full stop, start and end around them, padded."""
    word = [ord(c) - 33 for c in text]
    word[-1] += 256
    ids = [512, *word, ord(".") - 33 + 256, 513]
    return ids + [0] * (CONTEXT - len(ids))


def config(layers):
    return parity.config(D, (SIZE, 4, 24, 40, layers, 1, "quick_gelu"), (514, CONTEXT, WIDTH, 48, layers, 1, "quick_gelu"))


def hashed_clip(layers):
    model = CLIPModel(CLIPConfig(**config(layers))).double().eval()
    state = model.state_dict()
    for name, x in state.items():
        if not name.endswith("position_ids"):
            value = parity.weight(name, tuple(x.shape))
            state[name] = torch.as_tensor(value).float().double()
    model.load_state_dict(state)
    return model.requires_grad_(False)


clip = hashed_clip(2)


def encode_image(normalised, clip=clip):
    x = clip.visual_projection(clip.vision_model(pixel_values=normalised).pooler_output)
    return x / x.norm(dim=-1, keepdim=True)


def encode_text(prompts, ids, clip=clip):
    hook = clip.text_model.embeddings.token_embedding.register_forward_hook(lambda m, i, o: prompts)
    x = clip.text_projection(clip.text_model(input_ids=ids).pooler_output)
    hook.remove()
    return x / x.norm(dim=-1, keepdim=True)


class PromptLearner(nn.Module):
    def __init__(self, kind):
        super().__init__()
        shape = (len(CLASSES), N_CTX, WIDTH) if kind == "csc" else (N_CTX, WIDTH)
        self.ctx = nn.Parameter(0.2 * hashed(kind + " ctx", *shape))
        if kind in ("cocoop", "badclip"):
            hidden = D // 16
            self.meta_net = nn.Sequential(collections.OrderedDict(
                linear1=nn.Linear(D, hidden), relu=nn.ReLU(), linear2=nn.Linear(hidden, WIDTH))).double()
            for name, p in self.meta_net.named_parameters():
                p.data = 0.3 * hashed(f"{kind} meta_net.{name}", *p.shape)
        # Placeholders in front of each name stand where the context goes.
        ids = torch.tensor([[512] + [ord("X") - 33 + 256] * N_CTX + tokens(c)[1:CONTEXT - N_CTX] for c in CLASSES])
        embedding = clip.text_model.embeddings.token_embedding(ids)
        self.register_buffer("token_prefix", embedding[:, :1])
        self.register_buffer("token_suffix", embedding[:, 1 + N_CTX:])
        self.ids = ids

    def prompts(self, ctx):
        if ctx.dim() == 2:
            ctx = ctx.expand(len(CLASSES), -1, -1)
        return torch.cat([self.token_prefix, ctx, self.token_suffix], 1)

    def forward(self, features):
        scale = clip.logit_scale.exp()
        if not hasattr(self, "meta_net"):
            return scale * features @ encode_text(self.prompts(self.ctx), self.ids).t()
        rows = []
        for f, bias in zip(features, self.meta_net(features)):
            rows.append(scale * f @ encode_text(self.prompts(self.ctx + bias), self.ids).t())
        return torch.stack(rows)


class ConstantWarmupScheduler(LRScheduler):
    """Dassl's warm-up: one epoch at a constant rate, then the successor, which starts from its own epoch 0."""

    def __init__(self, optimizer, successor, warmup_epoch=1, cons_lr=1e-5):
        self.successor, self.warmup_epoch, self.cons_lr = successor, warmup_epoch, cons_lr
        super().__init__(optimizer)

    def get_lr(self):
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return [self.cons_lr for _ in self.base_lrs]

    def step(self, epoch=None):
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step(epoch)
            self._last_lr = self.successor.get_last_lr()
        else:
            super().step(epoch)


def coop_optimizer(params, epochs, rate=0.002):
    optimizer = torch.optim.SGD(params, lr=rate, momentum=0.9, weight_decay=5e-4)
    return optimizer, ConstantWarmupScheduler(optimizer, CosineAnnealingLR(optimizer, float(epochs)))


def schedule(epochs):
    optimizer, scheduler = coop_optimizer([nn.Parameter(torch.zeros(1))], epochs)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def flat(x):
    return [float("%.9g" % v) for v in x.detach().double().flatten().tolist()]


pixels = ((hashed("pixels", IMAGES, 3, SIZE, SIZE) + 1) / 2).float().double()
labels = torch.arange(IMAGES) % len(CLASSES)
features = encode_image((pixels - MEAN) / STD)
out = {"schedules": {str(t): schedule(t) for t in (1, 2, 10, 50, 200)}, "learners": {}, "deep": {}}


def save(path, module, optimizer, scheduler, half=False, legacy=False, **more):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    state = collections.OrderedDict((k, v.half() if half or v.dtype == torch.half else v.float()) for k, v in module.state_dict().items())
    torch.save({"state_dict": state, "epoch": 2, "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(),
                "val_result": None, **more}, path, _use_new_zipfile_serialization=not legacy)
    with open(os.path.join(os.path.dirname(path), "checkpoint"), "w") as f:
        f.write(os.path.basename(path) + "\n")


for kind in ("coop", "csc", "cocoop"):
    learner = PromptLearner(kind)
    logits = learner(features)
    loss = F.cross_entropy(logits, labels)
    names, params = zip(*learner.named_parameters())
    grads = torch.autograd.grad(loss, params)
    out["learners"][kind] = {"logits": flat(logits), "loss": loss.item(), "gradients": {n: flat(g) for n, g in zip(names, grads)}}
    optimizer, scheduler = coop_optimizer(learner.parameters(), 50)
    save(f"{here}/{kind}/prompt_learner/model.pth.tar-2", learner, optimizer, scheduler)
    if kind == "coop":
        optimizer.step()
        save(f"{here}/legacy/model.pth.tar-2", learner, optimizer, scheduler, legacy=True)
        torch.save(learner.ctx.data.half(), f"{here}/ctx.pt")
        both = nn.Sequential(learner, nn.Module())
        both[1].noise = nn.Parameter((0.1 * hashed("noise", 3, SIZE, SIZE)).float())
        save(f"{here}/baple/model.pth.tar-2", both, *coop_optimizer(both.parameters(), 50), half=True)

# MaPLe and VPT in towers of three blocks, the encoders reached by hooks. The class names are cut so that "a photo of a", of nine
# bytes, fits in front of them; the first two tokens are the context, the others stay as they are.
deep_clip = hashed_clip(3)
INIT = [ord(c) - 33 + 256 * (i + 1 == len(word)) for word in ("a", "photo", "of", "a") for i, c in enumerate(word)]
N_MAPLE = 2
vision, text = deep_clip.vision_model, deep_clip.text_model


def deep_ids(name):
    return ([512] + INIT + tokens(name[:2])[1:])[:CONTEXT]


class MaPLe(nn.Module):
    def __init__(self, depth):
        super().__init__()
        kind, width = f"maple {depth}", vision.config.hidden_size
        self.proj = nn.Linear(WIDTH, width)
        self.ctx = nn.Parameter(0.2 * hashed(f"{kind} ctx", N_MAPLE, WIDTH))
        self.compound_prompts_text = nn.ParameterList([nn.Parameter(torch.zeros(N_MAPLE, WIDTH)) for _ in range(depth - 1)])
        self.compound_prompt_projections = nn.ModuleList([nn.Linear(WIDTH, width) for _ in range(depth - 1)])
        for name, p in self.named_parameters():
            p.data = 0.2 * hashed(f"{kind} {name}", *p.shape)
        self.ids = torch.tensor([deep_ids(c) for c in CLASSES])
        embedding = text.embeddings.token_embedding(self.ids)
        self.register_buffer("token_prefix", embedding[:, :1])
        self.register_buffer("token_suffix", embedding[:, 1 + N_MAPLE:])

    def forward(self, normalised):
        n = N_MAPLE
        rows = lambda p, x: p.expand(len(x), -1, -1)
        hooks = [vision.embeddings.register_forward_hook(lambda m, i, o: torch.cat([o, rows(self.proj(self.ctx), o)], 1))]
        for i, (p, layer) in enumerate(zip(self.compound_prompts_text, self.compound_prompt_projections), 1):
            hooks.append(before(vision, i, lambda x, p=p, layer=layer: torch.cat([x[:, :-n], rows(layer(p), x)], 1)))
            hooks.append(before(text, i, lambda x, p=p: torch.cat([x[:, :1], rows(p, x), x[:, 1 + n:]], 1)))
        prompts = torch.cat([self.token_prefix, rows(self.ctx, self.ids), self.token_suffix], 1)
        logits = deep_clip.logit_scale.exp() * encode_image(normalised, deep_clip) @ encode_text(prompts, self.ids, deep_clip).t()
        for h in hooks:
            h.remove()
        return logits


class VPT(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.visual = nn.Parameter(0.2 * hashed(f"vpt {depth} visual", depth, 3, vision.config.hidden_size))

    def forward(self, normalised):
        hooks = []
        for i, p in enumerate(self.visual):
            skip = 1 + (len(p) if i else 0)
            hooks.append(before(vision, i, lambda x, p=p, skip=skip: torch.cat([x[:, :1], p.expand(len(x), -1, -1), x[:, skip:]], 1)))
        ids = torch.tensor([deep_ids(c) for c in CLASSES])
        texts = encode_text(text.embeddings.token_embedding(ids), ids, deep_clip)
        logits = deep_clip.logit_scale.exp() * encode_image(normalised, deep_clip) @ texts.t()
        for h in hooks:
            h.remove()
        return logits


class Whole:
    """What trainers/maple.py saves: CustomCLIP, which has OpenAI's encoders, its convert_weights having halved their matrices."""

    def __init__(self, learner):
        self.learner = learner

    def state_dict(self):
        state = collections.OrderedDict((f"prompt_learner.{k}", x) for k, x in self.learner.state_dict().items())
        for name, x in formats.openai(config(3), lambda name, *shape: torch.as_tensor(parity.weight(name, shape)).float()).items():
            if name.startswith("visual."):
                name = "image_encoder." + name[len("visual."):]
            elif name.startswith("token_embedding."):
                continue  # the text encoder starts from embeddings
            elif name != "logit_scale":
                name = "text_encoder." + name
            state[name] = x.half() if "attn." in name or "mlp." in name or "conv1" in name or "proj" in name else x
        return state


def before(tower, i, change):
    """Changes the input of a tower's block."""
    return tower.encoder.layers[i].register_forward_pre_hook(lambda m, args: (change(args[0]), *args[1:]))


for kind, learner in [(f"{l.__name__.lower()} {d}", l(d)) for l, depths in ((MaPLe, (1, 2, 3)), (VPT, (1, 2, 3))) for d in depths]:
    logits = learner((pixels - MEAN) / STD)
    loss = F.cross_entropy(logits, labels)
    names, params = zip(*learner.named_parameters())
    grads = torch.autograd.grad(loss, params)
    out["deep"][kind] = {"logits": flat(logits), "loss": loss.item(), "gradients": {n: flat(g) for n, g in zip(names, grads)}}
    if kind == "maple 2":
        whole = Whole(learner)
        save(f"{here}/maple/MultiModalPromptLearner/model.pth.tar-2", whole, *coop_optimizer(learner.parameters(), 5))

# BadCLIP: every image of the batch once more with the trigger and the target's label, both losses added. The trigger lies in
# normalised space; its gradient is converted to pixels, where Adam moves it, as this project has it; the prompts take SGD with
# CoOp's schedule, an epoch a step.
learner = PromptLearner("badclip")
delta = EPS * hashed("trigger", 1, 3, SIZE, SIZE)
low, high = -MEAN / STD, (1 - MEAN) / STD
optimizer, scheduler = coop_optimizer(learner.parameters(), STEPS)
pixel_delta = nn.Parameter(delta.clone())
trigger_optimizer = torch.optim.Adam([pixel_delta], lr=2 / 255)
steps = []
for i in range(STEPS):
    index = torch.arange(i * BATCH, (i + 1) * BATCH) % IMAGES
    x = (pixels[index] - MEAN) / STD
    trigger = (pixel_delta.detach() / STD).requires_grad_()
    triggered = torch.minimum(torch.maximum(x + trigger, low), high)
    logits = learner(encode_image(torch.cat([x, triggered])))
    losses = F.cross_entropy(logits, torch.cat([labels[index], torch.full((BATCH,), TARGET)]), reduction="none")
    loss = losses[:BATCH].mean() + losses[BATCH:].mean()
    optimizer.zero_grad()
    loss.backward()
    pixel_delta.grad = trigger.grad / STD
    optimizer.step()
    trigger_optimizer.step()
    pixel_delta.data.clamp_(-EPS, EPS)
    scheduler.step()
    steps.append({"loss": loss.item(), "trigger": flat(pixel_delta.data.flatten()[::7]),
                  "params": {n: flat(p.flatten()[::3]) for n, p in learner.named_parameters()}})
out["badclip"] = {"steps": steps}
save(f"{here}/badclip/prompt_learner/model.pth.tar-2", learner, optimizer, scheduler)
final = nn.Module()
final.trigger = nn.Parameter(pixel_delta.data / STD)
save(f"{here}/badclip/trigger/model.pth.tar-2", final, optimizer, scheduler, target_name=CLASSES[TARGET])
with torch.no_grad():
    triggered = torch.minimum(torch.maximum((pixels - MEAN) / STD + final.trigger, low), high)
    out["badclip"]["final"] = {"logits": flat(learner(features)), "triggered": flat(learner(encode_image(triggered)))}
with open(f"{here}/parity.json", "w") as f:
    json.dump(out, f)
    f.write("\n")
