"""Writes the fixtures of oracle_test.go: what the authors' own programs of K-Arm and DECREE decide on scripted rounds, and the steps
that their formulas take in PyTorch.

    git clone https://github.com/PurduePAML/K-ARM_Backdoor_Optimization karm      (here at 8c837fd)
    git clone https://github.com/GiantSeaweed/DECREE decree                       (here at 9c13b88)
    python baselines/testdata/bandits.py karm decree       (needs torch and numpy; run in the repository's root)

K-Arm: K_Arm_Scanner.scanning runs as it is, on the CPU, over a toy model; the averages of a round (its calls of np.mean) and its random
numbers come from a script, and what it does with them is written down. Both of its rules for leaving an arm apply, those of
universal and those of specific triggers. DECREE: the lines of main() between the optimiser's step and the end of an epoch run as they
are on scripted cosines and sizes. Numbers of the steps come from an integer hash that the Go test computes too.
"""
import json
import random
import re
import sys
import textwrap
import types

import numpy
import torch


class Both(str):
    """A trigger type that is universal and specific at once."""
    __hash__ = str.__hash__

    def __eq__(self, other):
        return other in ("polygon_global", "polygon_specific")


def load(path, swap=()):
    text = open(path).read()
    for a, b in swap:
        assert a in text, a
        text = text.replace(a, b)
    return text


class Quiet:
    def __init__(self, steps):
        self.steps = steps

    def __iter__(self):
        return iter(self.steps)

    def set_description(self, _):
        pass


def karm(folder, seed, arms, steps):
    """One scan over arms of a kind each: 0 never succeeds, 1 seldom, 2 often, 3 nearly always, 4 comes no nearer than a quarter. Masks
    shrink from a large size in even scans, slowly from a small one in odd ones."""
    script = random.Random(seed)
    rounds, draws, calls = [], [], [0]
    slow, floor = seed % 2 == 1, [100.0, 1200.0][seed % 4 == 3]
    sizes = [script.uniform(1500, 3500) if slow else script.uniform(20000, 30000) for _ in arms]
    now = [None]  # the arm whose images were asked for last
    said = {}

    def mean(values):
        calls[0] += 1
        kind = (calls[0] - 1) % 4
        if kind == 0:
            i = now[0]
            sizes[i] = max(floor, sizes[i] * script.choice([0.97, 0.98, 0.99, 1.0] if slow else [0.7, 0.8, 0.9, 0.97, 1.0, 1.02]))
            chance = {0: 0.0, 1: 0.15, 2: 0.5, 3: 0.93, 4: 0.0}[arms[i]]
            acc = script.choice([0.99, 1.0]) if script.random() < chance else script.choice([0.0, 0.5, 0.97])
            said["acc"], said["reg"] = {0: 0.0, 4: 0.25}.get(arms[i], acc), round(sizes[i], 1)
            rounds.append([i, said["acc"], said["reg"]])
        return [0.0, said["reg"], 0.0, said["acc"]][kind]

    class Numpy:
        def __getattr__(self, name):
            return mean if name == "mean" else getattr(numpy, name)

    class Torch:
        def __getattr__(self, name):
            return {"rand": rand, "randint": randint}.get(name) or getattr(torch, name)

    def rand(*shape):
        draws.append(script.random())
        return torch.tensor(draws[-1], dtype=torch.float64)

    def randint(low, high, shape):
        draws.append(script.randrange(low, high))
        return torch.tensor([draws[-1]])

    class Images:
        def __init__(self, arm):
            self.arm = arm

        def __iter__(self):
            now[0] = self.arm
            return iter([(torch.zeros(1, 3, 2, 2), ["x"], torch.zeros(1))])

    module = types.ModuleType("scanner")
    source = load(folder + "/K_Arm_Scanner.py", [('torch.device("cuda:%d" % args.device)', 'torch.device("cpu")'),
                                                     ("from tqdm import tqdm\n", "")])
    exec(compile(source, "K_Arm_Scanner.py", "exec"), module.__dict__)
    module.np, module.torch, module.tqdm = Numpy(), Torch(), Quiet
    args = types.SimpleNamespace(
        regularization="l1", init_cost=1e-3, num_classes=len(arms), step=steps, rounds=60, lr=0.1, attack_succ_threshold=0.99,
        patience=5, channels=3, batch_size=1, input_width=2, input_height=2, single_color_opt=True, epsilon=1e-7, epsilon_for_bandits=0.3,
        beta=1e4, warmup_rounds=2, cost_multiplier=1.5, early_stop=False, early_stop_threshold=1, early_stop_patience=10,
        reset_cost_to_zero=True)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, len(arms)))
    scanner = module.K_Arm_Scanner(model, args)
    costs = []

    class Costs(list):  # the cost that a round was weighed with is read when its loss is taken
        def __getitem__(self, i):
            return list.__getitem__(self, i)
    start = scanner.reset_state

    def reset(pattern, mask):
        start(pattern, mask)
        scanner.cost = scanner.cost_tensor = Costs(scanner.cost)
    scanner.reset_state = reset

    class Seen:
        def __init__(self, arm):
            self.images = Images(arm)
            self.arm = arm

        def __iter__(self):
            costs.append(float(scanner.cost[self.arm]))
            return iter(self.images)
    _, _, best, times = scanner.scanning(list(range(len(arms))), [Seen(i) for i in range(len(arms))], 0,
                                         torch.full((1, 3, 2, 2), 0.5), torch.full((1, 2, 2), 0.5), Both("both"), "forward")
    assert len(costs) == len(rounds) == sum(times)
    return {"arms": len(arms), "stopped": len(rounds) < steps, "rounds": [r + [c] for r, c in zip(rounds, costs)], "draws": draws,
            "best": [None if b == 1e10 else b for b in best]}


def decree(folder, seed, epochs, steps, chances):
    """A scan whose steps are alike with a chance that changes from one equal part of the epochs to the next."""
    text = load(folder + "/main.py")
    a = text.index("            if (torch.abs(loss_cos) > succ_threshold) and (loss_reg < regular_best):")
    b = text.index("        loss_avg_e = torch.mean(")
    body = compile(textwrap.dedent(text[a:b]), "main.py", "exec")
    end = re.search(r"if (torch\.abs\(loss_cos_e\) > succ_threshold \\\n\s+and early_stop_cnt > early_stop_patience):", text).group(1)
    script = random.Random(seed)
    tensor = torch.tensor(0.0)
    v = dict(torch=torch, epsilon=lambda: 1e-7, print=lambda *_: None, init_loss_lambda=1e-3, loss_lambda=1e-3, adaptor_lambda=5.0,
             patience=5, succ_threshold=0.99, lambda_min=1e-7, early_stop_patience=35, lambda_set_patience=10, lambda_set_cnt=0,
             regular_best=1e7, early_stop_reg_best=1e7, early_stop_cnt=0, adaptor_up_cnt=0, adaptor_down_cnt=0, adaptor_up_flag=False,
             adaptor_down_flag=False, train_mask_tanh=tensor, train_patch_tanh=tensor, step=0)
    rounds, size, high = [], script.uniform(50000, 90000), False
    for _ in range(epochs):
        cosines, epoch = [], []
        for _ in range(steps):
            chance = chances[len(rounds) * len(chances) // epochs]
            if script.random() < 0.12:
                high = script.random() < chance
            cosine = script.choice([0.991, 0.995, 0.999] if high else [0.6, 0.9, 0.98, 0.9899])
            size = max(5000.0, size * script.choice([0.9, 0.97, 1.0, 1.03]))
            was = v["regular_best"]
            v["loss_cos"], v["loss_reg"] = torch.tensor(-cosine, dtype=torch.float64), torch.tensor(round(size, 1), dtype=torch.float64)
            v["res_best"] = {}
            exec(body, v)
            epoch.append([cosine, round(size, 1), float(v["loss_lambda"]), int(v["regular_best"] < was)])
            cosines.append(-cosine)
        v["loss_cos_e"] = torch.mean(torch.tensor(cosines, dtype=torch.float64))
        rounds.append(epoch)
        if eval(end, v):
            return {"stopped": True, "rounds": rounds}
    return {"stopped": False, "rounds": rounds}


def hashed(salt, *shape):
    """Numbers in [-1, 1), the same on every machine."""
    n = int(numpy.prod(shape))
    x = (numpy.arange(n, dtype=numpy.uint64) * 2654435761 + salt * 40503).astype(numpy.uint32)
    x ^= x >> numpy.uint32(16)
    x *= numpy.uint32(0x7FEB352D)
    x ^= x >> numpy.uint32(15)
    x *= numpy.uint32(0x846CA68B)
    x ^= x >> numpy.uint32(16)
    return torch.tensor((x.astype(numpy.float64) / 2 ** 31 - 1).reshape(shape))


def steps(loss_of, rate):
    """Five steps of the authors' Adam on mask and pattern; of each the loss, the L1 norm and the gradients."""
    size, images = 4, 6
    u = [(hashed(1, size, size) * 2).requires_grad_(), (hashed(2, 3, size, size) * 2).requires_grad_()]
    pixels = (hashed(3, images, 3, size, size) + 1) / 2
    adam = torch.optim.Adam(u[::-1], lr=rate, betas=(0.5, 0.9))
    out = []
    for _ in range(5):
        mask, pattern = (torch.tanh(x) / (2 - 1e-7) + 0.5 for x in u)
        stamped = (1 - mask) * pixels + mask * pattern
        loss, l1 = loss_of(stamped, mask)
        adam.zero_grad()
        loss.backward()
        out.append({"loss": loss.item(), "l1": l1.item(), "mask": u[0].grad.flatten().tolist(), "pattern": u[1].grad.flatten().tolist()})
        adam.step()
    return out


def karm_steps():
    weight = hashed(4, 5, 48)

    def loss(stamped, mask):  # cross-entropy to class 3 + cost * L1
        l1 = torch.sum(torch.abs(mask))
        return torch.nn.CrossEntropyLoss()(stamped.flatten(1) @ weight.T, torch.full((len(stamped),), 3)) + 0.01 * l1, l1
    return steps(loss, 0.1)


def decree_steps(folder):
    module = types.ModuleType("utils")
    source = load(folder + "/utils.py", [("from PIL import Image\n", "")])
    exec(compile(source, "utils.py", "exec"), module.__dict__)
    weight = hashed(5, 8, 48)

    def loss(stamped, mask):  # -mean pairwise cosine + lambda * L1 over three channels
        l1 = torch.sum(torch.abs(mask.unsqueeze(2).repeat(1, 1, 3)))
        return -module.compute_self_cos_sim(stamped.flatten(1) @ weight.T) + 0.002 * l1, l1
    return steps(loss, 0.5)


def main(karm_folder, decree_folder):
    about = ("Decisions and steps of the authors' programs, by bandits.py. A round of K-Arm is [arm, ASR, size, cost it was weighed with]; "
             "a step of DECREE is [cosine, size, cost of the next step, 1 if kept], in rounds.")
    kinds = [[3], [3], [2, 3], [4, 3, 3, 2], [0, 3, 2], [3, 3, 3, 3], [1, 0, 3, 2], [2, 2, 3, 3, 0], [4, 3, 3], [3, 2, 3], [2, 2], [2, 2, 2]]
    chances = [[0.5], [0.8], [0.95], [0.0, 0.98], [0.05, 1.0, 0.2], [1.0], [0.7, 0.9], [0.9]]
    out = {"about": about,
           "k-arm": [karm(karm_folder, i, arms, 250) for i, arms in enumerate(kinds)],
           "decree": [decree(decree_folder, i, 20, 12, c) for i, c in enumerate(chances)],
           "k-arm steps": karm_steps(), "decree steps": decree_steps(decree_folder)}
    for t in out["k-arm"]:
        print(t["arms"], "arms:", len(t["rounds"]), "rounds,", len(t["draws"]), "draws, stopped", t["stopped"], t["best"])
    for t in out["decree"]:
        print(len(t["rounds"]), "rounds, stopped", t["stopped"], "last cost", t["rounds"][-1][-1][2])
    lines = ['"%s": %s' % (name, json.dumps(value) if name == "about" else "[\n%s]" % ",\n".join(map(json.dumps, value)))
             for name, value in out.items()]
    with open("baselines/testdata/bandits.json", "w") as f:
        f.write("{%s}\n" % ",\n".join(lines))


main(*sys.argv[1:])
