"""Neural Cleanse in Python: the same verdicts, to the bit, as the detector neural-cleanse of this program."""

import math

import numpy as np

from clip_inspector.plugin import ClassScore, Param, declare, patch

SCALE = 1 / (2 - 1e-7)  # tanh's range, a little wider than [0,1] after halving, as the authors have it


def unit(u):
    return u.tanh().affine(SCALE, 0.5)


def apply(images, mask, pattern):
    return images + unit(mask) * (unit(pattern) - images)


def size(mask, pattern):
    return unit(mask).total()


class Schedule:
    """The cost of the mask's size rises while the trigger works and falls while it does not; the smallest mask that works is kept."""

    def __init__(self, asr, patience, first, up, down, stop):
        self.asr, self.patience, self.first, self.up, self.down, self.stop = asr, patience, first, up, down, stop
        self.cost, self.reached = 0.0, False
        self.ups = self.downs = self.set = self.still = 0
        self.raised = self.lowered = False
        self.best = self.stop_best = math.inf

    def round(self, r):
        works, says = r.asr >= self.asr, ""
        if works and r.penalty < self.best:
            self.best, self.reached, says = r.penalty, True, "keep"
        if self.reached:
            self.still = self.still + 1 if self.best >= self.stop_best else 0
        self.stop_best = min(self.best, self.stop_best)
        if self.raised and self.lowered and self.still >= self.stop:
            return says + " done"
        if self.cost == 0 and works:
            self.set += 1
            if self.set >= self.patience:
                self.cost, self.ups, self.downs, self.raised, self.lowered = self.first, 0, 0, False, False
        else:
            self.set = 0
        self.ups, self.downs = (self.ups + 1, 0) if works else (0, self.downs + 1)
        if self.ups >= self.patience:
            self.ups, self.raised = 0, True
            self.cost = self.cost * self.up if self.cost else self.first
        elif self.downs >= self.patience:
            self.downs, self.lowered = 0, True
            self.cost /= self.down
        return says


@declare(
    Param("batch", 32, "images a step (authors: 32)", min=1, max=4096, unit="images"),
    Param("rate", 0.1, "Adam's learning rate (authors: 0.1)", min=1e-6, max=100),
    Param("asr", 0.99, "success rate that an inversion has to reach", min=0, max=1),
    Param("patience", 5, "rounds in a row before the cost changes", min=1, max=1e6, unit="rounds"),
    Param("cost", 1e-3, "initial weight of the trigger's size", min=0, max=1e3),
    Param("early-stop", 25, "a class is done after so many rounds without a smaller mask", min=1, max=1e6, unit="rounds"),
    Param("index", "mad", "how outliers are measured", choices=["mad", "studentized"]),
)
def neural_cleanse(look, batch, rate, asr, patience, cost, early_stop, index):
    """a mask and a pattern per class, the mask as small as the ASR allows (Neural Cleanse, Wang et al., S&P 2019)"""
    side = look.size

    def uniform(*shape):  # tanh of it, halved, is uniform in [0,1)
        draws = look.random.random(*shape).ravel()
        return np.array([min(8.0, max(-8.0, math.atanh((x - 0.5) / SCALE))) for x in draws]).reshape(shape)

    batch = min(batch, len(look.optimise))
    outcomes = look.invert(
        start=[uniform(1, side, side), uniform(3, side, side)],
        apply=apply, penalty=size, rates=[rate], batch=batch, rounds=len(look.optimise) // batch, betas=(0.5, 0.9), eps=1e-7,
        control=lambda: Schedule(asr, patience, cost, 2.0, 2.0**1.5, early_stop),
    )
    found = []
    for o in outcomes:
        mask, pattern = (np.clip(np.tanh(v.astype(np.float64)) * SCALE + 0.5, 0, 1).astype(np.float32) for v in o.variables)
        norm = float(np.cumsum(mask, dtype=np.float64)[-1])  # added one by one: np.sum pairs numbers
        found.append(ClassScore(norm, loss=o.loss, asr=o.asr, norm=norm, reached=o.reached, trigger=patch(mask[0], pattern)))
    return found
