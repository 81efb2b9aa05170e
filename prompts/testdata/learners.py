"""Writes learners/ and learners.json, the fixtures of learners_test.go: checkpoints of the authors' own learners, and their logits.

    python prompts/testdata/learners.py AUTHORS       (needs torch and transformers; run in the repository's root)

AUTHORS is a folder with checkouts of what people train prompts with, each under the name given here:

    maple      github.com/muzairkhattak/multimodal-prompt-learning   IVLP and VPT
    promptsrc  github.com/muzairkhattak/PromptSRC
    kgcoop     github.com/htyao89/KgCoOp, its folder KgCoOp           KgCoOp and ProGrad
    coop       github.com/KaiyangZhou/CoOp                            the class name in front and in the middle
    tcp        github.com/htyao89/Textual-based_Class-aware_prompt_tuning
    lora       github.com/MaxZanella/CLIP-LoRA
    plot       github.com/CHENGY12/PLOT, its folder plot-coop        PLOT, on a ResNet
    plotpp     the same, its folder plot-pp                          PLOT++, on a vision transformer

Their classes run unchanged, but for the weights, which come from the hash of clip/testdata/parity.py, the vocabulary, which is that
of 256 bytes without merges, and the width 512, which some have as a number. Learned tensors are numbers of half precision, to which
some of the authors' code rounds them. Encoders beside the prompts are left out, for size.
"""
import collections
import importlib
import json
import os
import re
import sys
import types
from unittest import mock

import torch
from torch import nn

here = os.path.dirname(os.path.abspath(__file__))
authors = os.path.abspath(sys.argv[1])
sys.path.insert(0, os.path.join(here, "..", "..", "clip", "testdata"))
import formats  # noqa: E402
import parity  # noqa: E402

CLASSES = ["cat", "dog", "sea"]
SIZE, CONTEXT, WIDTH, D, IMAGES = 8, 32, 64, 32, 8
N = types.SimpleNamespace
STUBS = ["dassl", "dassl.engine", "dassl.metrics", "dassl.utils", "dassl.optim", "scipy", "scipy.io", "scipy.optimize", "tqdm", "torchvision",
         "torchvision.transforms", "regex", "ftfy", "pkg_resources", "datasets", "datasets.utils"]
for name in STUBS:
    sys.modules[name] = mock.MagicMock()
sys.modules["pkg_resources"].packaging.version.parse = lambda version: 0
sys.modules["dassl.engine"].TRAINER_REGISTRY.register = lambda: lambda c: c
sys.modules["dassl.engine"].TrainerX = object
torch.Tensor.cuda = lambda self, *a, **k: self
nn.Module.cuda = lambda self, *a, **k: self


def encode(text):
    ids = []
    for word in re.findall(r"[a-z]+|[^\sa-z]+", text.lower().strip()):
        ids += [ord(c) - 33 for c in word]
        ids[-1] += 256
    return ids


def tokenize(texts, **_):
    rows = []
    for text in [texts] if isinstance(texts, str) else texts:
        ids = [512, *encode(text), 513]
        rows.append(ids + [0] * (CONTEXT - len(ids)))
    return torch.tensor(rows)


def hashed(name, *shape):
    return torch.from_numpy(parity.hashed(name, *shape)).float()


def weights(blocks):
    v = dict(hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=blocks, patch_size=4, image_size=SIZE)
    t = dict(hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=blocks, vocab_size=514, max_position_embeddings=CONTEXT)
    config = dict(projection_dim=D, vision_config=v, text_config=t)
    return formats.openai(config, lambda name, *shape: torch.as_tensor(parity.weight(name, shape)).float())


def enter(repository, patch_width=()):
    """Makes clip, trainers and loralib those of a repository."""
    for name in list(sys.modules):
        if name.split(".")[0] in ("clip", "trainers", "loralib"):
            del sys.modules[name]
    root = os.path.join(authors, repository)
    sys.path[:] = [p for p in sys.path if not p.startswith(authors)]
    sys.path.insert(0, root)
    package = types.ModuleType("trainers")
    package.__path__ = [os.path.join(root, "trainers")]
    sys.modules["trainers"] = package
    for name in patch_width:
        path = os.path.join(root, "trainers", name + ".py")
        module = types.ModuleType("trainers." + name)
        module.__package__, module.__file__ = "trainers", path
        sys.modules["trainers." + name] = module
        exec(compile(re.sub(r"\b512\b", str(WIDTH), open(path).read()), path, "exec"), module.__dict__)


def build(model, blocks, **design):
    m = model.CLIP(D, SIZE, blocks, WIDTH, 4, CONTEXT, 514, WIDTH, 1, blocks, **design).float()
    missing, unexpected = m.load_state_dict(weights(blocks), strict=False)
    assert not unexpected and all("VPT" in n for n in missing), (missing, unexpected)
    return m.requires_grad_(False).eval()


pixels = (hashed("pixels", IMAGES, 3, SIZE, SIZE) + 1) / 2
images = (pixels - torch.from_numpy(parity.MEAN).float().view(3, 1, 1)) / torch.from_numpy(parity.STD).float().view(3, 1, 1)
out = {}


def draw(kind, module):
    for name, p in module.named_parameters():
        p.data = (0.2 * hashed(f"{kind} {name}", *p.shape)).half().float()


def finish(kind, model, state, folder, **more):
    with torch.no_grad():
        logits = model(images)
    logits = logits[0] if isinstance(logits, tuple) else logits
    out[kind] = [float("%.9g" % x) for x in logits.flatten().tolist()]
    path = os.path.join(here, "learners", kind, folder)
    os.makedirs(path, exist_ok=True)
    learned = collections.OrderedDict((n, x.half()) for n, x in state.items())
    torch.save({"state_dict": learned, "epoch": 2, "optimizer": None, "scheduler": None, "val_result": None}, os.path.join(path, "model.pth.tar-2"))
    with open(os.path.join(path, "checkpoint"), "w") as f:
        f.write("model.pth.tar-2\n")


def trainer(name, clip_name="clip.clip"):
    t = importlib.import_module("trainers." + name)
    importlib.import_module(clip_name).tokenize = tokenize
    t.clip.tokenize = tokenize
    t._tokenizer = N(encode=encode)
    return t


def mine(state):
    """The tensors of a CustomCLIP that are no frozen encoder's."""
    return {n: x for n, x in state.items() if "VPT" in n or n.startswith("prompt_learner.") and "ZS_image" not in n}


# IVLP and VPT, PromptSRC
for repository, name, section in (("maple", "independentVL", "IVLP"), ("maple", "vpt", "VPT"), ("promptsrc", "promptsrc", "PROMPTSRC")):
    enter(repository)
    t = trainer(name)
    details = {"trainer": "VPT" if name == "vpt" else "IVLP", "vision_depth": 3, "language_depth": 0 if name == "vpt" else 2,
               "vision_ctx": 3, "language_ctx": 0 if name == "vpt" else 2}
    zero = {"trainer": "IVLP", "vision_depth": 0, "language_depth": 0, "vision_ctx": 0, "language_ctx": 0}
    t.load_clip_to_cpu = lambda cfg, zs=False: build(importlib.import_module("clip.model"), 3, design_details=zero if zs else details)
    settings = N(N_CTX_TEXT=2, CTX_INIT="a photo of a", PROMPT_DEPTH_TEXT=2, PROMPT_DEPTH_VISION=3, N_CTX_VISION=3)
    cfg = N(TRAINER=N(**{section: settings}), INPUT=N(SIZE=[SIZE]), OPTIM=N(MAX_EPOCH=5))
    if name == "promptsrc":
        t.IMAGENET_TEMPLATES = t.IMAGENET_TEMPLATES[:1]
    m = t.CustomCLIP(cfg, CLASSES, t.load_clip_to_cpu(cfg)).eval()
    kind = {"independentVL": "ivlp"}.get(name, name)
    for n, p in m.named_parameters():
        if "VPT" in n or n == "prompt_learner.ctx":
            p.data = (0.2 * hashed(f"{kind} {n}", *p.shape)).half().float()
    finish(kind, m, mine(m.state_dict()), "prompt_learner" if name == "vpt" else "VLPromptLearner")

# CoOp with the class name elsewhere, KgCoOp, ProGrad
coop = lambda **k: N(**{**dict(N_CTX=4, CTX_INIT="", CSC=False, CLASS_TOKEN_POSITION="end", W=1.0, PREC="fp32"), **k})
config = lambda **k: N(TRAINER=N(COOP=coop(**k), COCOOP=N(PREC="fp32")), INPUT=N(SIZE=[SIZE]), DATASET=N(NAME="OxfordPets"))
for kind, repository, name, changes in (("front", "coop", "coop", dict(CLASS_TOKEN_POSITION="front")), ("middle", "coop", "coop", dict(CLASS_TOKEN_POSITION="middle")),
                                        ("kgcoop", "kgcoop", "kgcoop", {}), ("prograd", "kgcoop", "prograd", {})):
    enter(repository, ["kgcoop"] if name == "kgcoop" else [])
    t = trainer(name)
    t.load_clip_to_cpu = lambda cfg: build(importlib.import_module("clip.model"), 3)
    m = t.CustomCLIP(config(**changes), CLASSES, t.load_clip_to_cpu(None)).eval()
    draw(kind, m.prompt_learner)
    finish(kind, m, m.prompt_learner.state_dict(), "prompt_learner")

# TCP, in nine blocks, since its prompts enter the ninth
enter("tcp", ["tcp"])
t = trainer("tcp", "trainers.clip_text.clip")
text_model = importlib.import_module("trainers.clip_text.model")
sys.modules["clip.clip"].tokenize = tokenize
t.load_clip_to_cpu = lambda cfg: build(text_model, 9)
m = t.CustomCLIP(config(), CLASSES, t.load_clip_to_cpu(None)).eval()
draw("tcp", m.prompt_learner)
finish("tcp", m, m.prompt_learner.state_dict(), "prompt_learner")

# CLIP-LoRA
enter("lora")
utils = importlib.import_module("loralib.utils")
for kind, encoder, params in (("lora", "both", ["q", "k", "v", "o"]), ("lora-text", "text", ["q", "v"])):
    m = build(importlib.import_module("clip.model"), 3)
    args = N(encoder=encoder, position="all", backbone="ViT-B/16", params=params, r=2, alpha=3, dropout_rate=0.25, dataset="pets", shots=1, seed=1,
             filename="lora_weights", save_path=os.path.join(here, "learners", kind))
    layers = utils.apply_lora(args, m)
    for n, p in m.named_parameters():
        if "lora_" in n:
            p.data = (0.2 * hashed(f"{kind} {n}", *p.shape)).half().float()
    m.eval()
    with torch.no_grad():
        texts = m.encode_text(tokenize([f"a photo of a {c}, a type of pet." for c in CLASSES]))
        features = m.encode_image(images)
        cosines = (features / features.norm(dim=-1, keepdim=True)) @ (texts / texts.norm(dim=-1, keepdim=True)).t()
    out[kind] = [float("%.9g" % x) for x in (m.logit_scale.exp() * cosines).detach().flatten().tolist()]
    utils.save_lora(args, layers)
    saved = os.path.join(args.save_path, "vitb16", "pets", "1shots", "seed1", "lora_weights.pt")
    os.replace(saved, os.path.join(args.save_path, "lora_weights.pt"))
    os.removedirs(os.path.dirname(saved))

# PLOT on the ResNet of clip/testdata/resnet.py, and on a vision transformer whose tower gives all of its tokens, as theirs does not.
# Logits are those of one image at a time; that is what the fixtures hold, and what a batch adds is printed.
def resnet_weights(m):
    state = m.state_dict()
    for n, x in state.items():
        if n.startswith("visual.") and not n.endswith("num_batches_tracked"):
            name = "vision_model." + n[len("visual."):]
            r = parity.hashed(name, *x.shape)
            if n.endswith("running_var") or ("bn" in n or "downsample.1" in n) and n.endswith(".weight"):
                r = 1 + 0.25 * r
            elif x.dim() == 1 or "embedding" in n:
                r = 0.1 * r
            else:
                r = r / (x[0].numel() / 3) ** 0.5
            state[n] = torch.from_numpy(r).float()
    m.load_state_dict(state)
    return m


def every_token(visual, x):
    """VisionTransformer.forward, but that ln_post and proj see all tokens: [1+P, B, D], as the authors' ResNet returns them."""
    x = visual.conv1(x).flatten(2).permute(0, 2, 1)
    x = torch.cat([visual.class_embedding.expand(x.shape[0], 1, -1), x], dim=1) + visual.positional_embedding
    x = visual.transformer(visual.ln_pre(x).permute(1, 0, 2))
    return visual.ln_post(x) @ visual.proj


class Config(N):
    __getitem__ = N.__getattribute__


for kind, repository in (("plot", "plot"), ("plot-vit", "plot"), ("plotpp", "plotpp")):
    enter(repository)
    t = trainer(repository)
    model = importlib.import_module("clip.model")
    size, inputs = SIZE, images
    if kind == "plot":
        size = 64
        frozen = model.CLIP(D, size, (1, 1, 1, 1), 2, None, CONTEXT, 514, WIDTH, 1, 3).float()
        frozen.load_state_dict({n: x for n, x in weights(3).items() if not n.startswith("visual.")}, strict=False)
        frozen = resnet_weights(frozen).requires_grad_(False).eval()
        inputs = (hashed("pixels", 3, 3, size, size) + 1) / 2
        inputs = (inputs - torch.from_numpy(parity.MEAN).float().view(3, 1, 1)) / torch.from_numpy(parity.STD).float().view(3, 1, 1)
    else:
        frozen = build(model, 3)
    if kind == "plot-vit":
        frozen.visual.forward = types.MethodType(every_token, frozen.visual)
    if kind == "plotpp":
        source = re.sub(r"\b768\b", str(WIDTH), open(t.__file__).read())
        exec(compile(source, t.__file__, "exec"), t.__dict__)
        t.clip.tokenize, t._tokenizer = tokenize, N(encode=encode)
    plotpp = N(N_CTX=5, N_CTX_V=2, CTX_INIT=True, M=3, N=4, TRADE_OFF=False)
    cfg = Config(TRAINER=N(PLOT=N(**vars(coop(N_CTX=3)), N=4), PLOTPP=plotpp), INPUT=N(SIZE=[size]), DATASET=N(NAME="OxfordPets"), DEVICE="cpu")
    m = t.CustomCLIP(cfg, CLASSES, frozen).eval()
    draw(kind, m.prompt_learner)
    with torch.no_grad():
        batch = m(inputs)
        alone = torch.cat([m(inputs[i:i + 1]) for i in range(len(inputs))])
    print(f"{kind}: in a batch logits differ from those alone by {(batch - alone).abs().max():.2g} of {alone.abs().max():.3g}")
    state = m.state_dict() if kind == "plotpp" else m.prompt_learner.state_dict()
    finish(kind, lambda _: alone, mine(state) if kind == "plotpp" else state, "prompt_learner")

with open(os.path.join(here, "learners.json"), "w") as f:
    json.dump(out, f, indent=0)
