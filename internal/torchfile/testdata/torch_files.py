"""Writes the files that torchfile_test.go reads, with a real PyTorch: python torch_files.py FOLDER

numbers-zip.pt, numbers-legacy.pt: tensors of every type and layout. script.pt: a TorchScript archive. dassl-zip.pt and
dassl-legacy.pt: a checkpoint as Dassl's trainer writes it, whose scheduler's "successor" is a whole object that holds the whole
optimiser (dassl/utils/torchtools.py and dassl/optim/lr_scheduler.py).
"""
import collections
import sys

import torch

folder = sys.argv[1]


def numbers():
    x = (torch.arange(12, dtype=torch.float32) / 4 - 1).reshape(3, 4)
    d = collections.OrderedDict()
    for name in "float32 float16 bfloat16 float64 int64 int32 int16 int8".split():
        d[name] = (x if "float" in name else 4 * x).to(getattr(torch, name))
    d["uint8"] = torch.arange(12, dtype=torch.uint8).reshape(3, 4)
    d["bool"] = x > 0
    d["transposed"] = x.t()
    d["part"] = x[1:, 1:3]
    d["every other"] = x[:, ::2]
    d["permuted"] = x.reshape(3, 2, 2).permute(2, 0, 1)
    d["parameter"] = torch.nn.Parameter(x)
    d["scalar"] = torch.tensor(2.5)
    d["empty"] = torch.zeros(0, 3)
    return d


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter((torch.arange(6) / 8).reshape(2, 3).half(), requires_grad=False)
        self.register_buffer("size", torch.tensor(7))

    def forward(self, x):
        return x @ self.weight.float()


class Outer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.Sequential(Block(), torch.nn.LayerNorm(3))
        self.scale = torch.nn.Parameter(torch.tensor(4.5))

    def forward(self, x):
        return self.scale * self.blocks(x)


class ConstantWarmupScheduler(torch.optim.lr_scheduler.LRScheduler):
    """A warm-up as Dassl's: its state_dict() holds the successor, an object."""

    def __init__(self, optimizer, successor):
        self.successor = successor
        super().__init__(optimizer)

    def get_lr(self):
        return [1e-5 for _ in self.base_lrs]


def dassl():
    torch.manual_seed(1)
    learner = torch.nn.Module()
    learner.ctx = torch.nn.Parameter((torch.arange(16) / 64).reshape(2, 8).half())
    learner.register_buffer("token_prefix", torch.zeros(3, 1, 8).half())
    optimizer = torch.optim.SGD([learner.ctx], lr=0.002, momentum=0.9, weight_decay=5e-4)
    learner.ctx.grad = torch.ones_like(learner.ctx) / 1024
    optimizer.step()
    successor = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50.0)
    scheduler = ConstantWarmupScheduler(optimizer, successor)
    return {"state_dict": learner.state_dict(), "epoch": 50, "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(), "val_result": 97.5}


for legacy in (False, True):
    kind = "legacy" if legacy else "zip"
    torch.save(numbers(), f"{folder}/numbers-{kind}.pt", _use_new_zipfile_serialization=not legacy)
    torch.save(dassl(), f"{folder}/dassl-{kind}.pt", _use_new_zipfile_serialization=not legacy)
torch.jit.script(Outer().eval()).save(f"{folder}/script.pt")
