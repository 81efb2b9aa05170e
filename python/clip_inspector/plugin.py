"""Attacks and detectors in Python: what a plugin file imports. See docs/python.md."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Protocol, Sequence, TypeVar

import numpy as np

from ._tensors import Floats, floats

__all__ = [
    "Param", "declare", "Random", "Trigger", "patch", "perturbation", "warp", "dynamic",
    "Look", "ClassScore", "Unsure", "Value", "Outcome", "Round", "Controller",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Param:
    """A setting: a number with a range, true or false, or a word. Its default decides its type."""

    name: str  # in kebab-case; the plugin gets it with _ for -
    default: float | int | bool | str
    doc: str  # one line
    min: float = 0
    max: float = 0
    unit: str = ""
    choices: Sequence[str] = ()


def declare(*params: Param, draws: str = "") -> Callable[[T], T]:
    """Declare the settings of an attack or a detector, a function or a class.

    draws is the name under which target and trigger are drawn; its own name where it is empty.
    """

    def mark(thing: T) -> T:
        setattr(thing, "params", params)
        setattr(thing, "draws", draws)
        return thing

    return mark


class Random:
    """The random numbers of one model or detection. They come from the program: the same cell gives the same numbers."""

    def __init__(self, uint64: Callable[[int], list[int]]) -> None:
        self.uint64 = uint64  # so many numbers of 64 bits

    def random(self, *shape: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Numbers uniform in [0,1), as Go's rand.Float64 draws them."""
        bits = np.array(self.uint64(math.prod(shape)), dtype=np.uint64)
        return ((bits & np.uint64((1 << 53) - 1)).astype(np.float64) / (1 << 53)).reshape(shape)

    def integers(self, high: int, *shape: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Numbers from 0 to high-1, as Go's rand.IntN draws them; high is at most 2**31."""
        if not 0 < high <= 1 << 31:
            raise ValueError(f"integers below {high}: want 1 to 2**31")
        n = math.prod(shape)
        if high & (high - 1) == 0:
            return np.array([x & (high - 1) for x in self.uint64(n)], dtype=np.int64).reshape(shape)
        out: list[int] = []
        least = (1 << 32) % high  # products below it are drawn again
        while len(out) < n:
            for x in self.uint64(n - len(out)):
                product = (x >> 32) * high
                if product & 0xFFFFFFFF >= least:
                    out.append(product >> 32)
        return np.array(out, dtype=np.int64).reshape(shape)

    def generator(self) -> np.random.Generator:
        """A generator of numpy, from two numbers of this one."""
        return np.random.default_rng(self.uint64(2))


@dataclass(frozen=True)
class Trigger:
    """A trigger by its tensors: see patch, perturbation, warp, dynamic."""

    kind: str
    tensors: Mapping[str, Any]


def patch(mask: Any, pattern: Any) -> Trigger:
    """x' = (1-m)x + m*p, with a mask [S,S] and a pattern [3,S,S], both in [0,1]."""
    return Trigger("masked", {"mask": mask, "pattern": pattern})


def perturbation(delta: Any) -> Trigger:
    """x' = clip(x + d, 0, 1), with d [3,S,S] in [-1,1]."""
    return Trigger("additive", {"delta": delta})


def warp(grid: Any) -> Trigger:
    """x' = x sampled at a grid [S,S,2] of (x,y) in [-1,1] between the centres of the corner pixels."""
    return Trigger("warp", {"grid": grid})


def dynamic(keys: Any, patterns: Any) -> Trigger:
    """x' = clip(x + sum_p clip(key_p . (x - 1/2), -1, 1) pattern_p, 0, 1), with keys and patterns [P,3,S,S]."""
    return Trigger("dynamic", {"keys": keys, "patterns": patterns})


@dataclass
class ClassScore:
    """What a detector found out about one class. Lower scores are more suspicious; what is not measured is None."""

    score: float
    index: float | None = None  # of all classes or of none: else it follows from the scores
    loss: float | None = None
    asr: float | None = None
    norm: float | None = None
    reached: bool = False
    trigger: Trigger | None = None


@dataclass(frozen=True)
class Unsure:
    """What a detector returns that cannot tell."""

    why: str


class Trace:
    """The operations that Values record, for the program to replay."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []

    def value(self, op: str, *of: Value, by: Sequence[float] = ()) -> Value:
        self.nodes.append({"op": op, "of": [v.at for v in of], "by": [float(x) for x in by]})
        return Value(self, len(self.nodes) - 1)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor on the program's device. Arithmetic on it is recorded once, and replayed with its gradient in every step."""

    trace: Trace
    at: int

    def affine(self, scale: float, shift: float) -> Value:
        """scale*x + shift."""
        return self.trace.value("affine", self, by=(scale, shift))

    def clamp(self, low: float, high: float) -> Value:
        """x within [low,high]."""
        return self.trace.value("clamp", self, by=(low, high))

    def tanh(self) -> Value:
        """The hyperbolic tangent."""
        return self.trace.value("tanh", self)

    def relu(self) -> Value:
        """max(x, 0)."""
        return self.trace.value("relu", self)

    def exp(self) -> Value:
        """e to the x."""
        return self.trace.value("exp", self)

    def square(self) -> Value:
        """x*x."""
        return self.trace.value("square", self)

    def total(self) -> Value:
        """The sum of each class's numbers: [C,...] becomes [C,1]."""
        return self.trace.value("total", self)

    def cross_entropy(self, target: Value) -> Value:
        """Of each row of logits [R,K], with the class that it aims at [R]."""
        return self.trace.value("cross-entropy", self, target)

    def margin(self, target: Value, margin: float) -> Value:
        """max(0, margin + largest other logit - the target's), of each row of logits [R,K]."""
        return self.trace.value("margin", self, target, by=(margin,))

    def __add__(self, other: Value | float) -> Value:
        return self.trace.value("add", self, other) if isinstance(other, Value) else self.affine(1, other)

    def __sub__(self, other: Value | float) -> Value:
        return self.trace.value("sub", self, other) if isinstance(other, Value) else self.affine(1, -other)

    def __mul__(self, other: Value | float) -> Value:
        return self.trace.value("mul", self, other) if isinstance(other, Value) else self.affine(other, 0)

    def __truediv__(self, other: Value | float) -> Value:
        return self.trace.value("div", self, other) if isinstance(other, Value) else self.affine(1 / other, 0)

    def __radd__(self, other: float) -> Value:
        return self.affine(1, other)

    def __rsub__(self, other: float) -> Value:
        return self.affine(-1, other)

    def __rmul__(self, other: float) -> Value:
        return self.affine(other, 0)


def record(inputs: int, f: Callable[..., Any]) -> dict[str, Any]:
    """Record f of so many inputs, as the program reads it."""
    trace = Trace()
    out = f(*(trace.value("input", by=(i,)) for i in range(inputs)))
    outputs = list(out) if isinstance(out, (list, tuple)) else [out]
    if not all(isinstance(v, Value) and v.trace is trace for v in outputs):
        raise TypeError(f"{getattr(f, '__name__', f)} has to return what it computes of its arguments")
    return {"nodes": trace.nodes, "outputs": [v.at for v in outputs]}


@dataclass(frozen=True)
class Round:
    """How a round of an inversion went for one class: means over its steps, each taken before the step's update."""

    loss: float  # without the penalty
    penalty: float
    asr: float


class Controller(Protocol):
    """Follows the inversion of one class and steers it."""

    cost: float  # weight of the penalty in the next round
    reached: bool  # whether the method's own bound on the ASR was reached

    def round(self, r: Round) -> str:
        """Say what follows a round: "keep" keeps the variables as they are now, "done" ends the class, "" neither.

        "keep done" does both. What was kept last is the outcome; where nothing was, the last variables are.
        """
        ...


@dataclass(frozen=True)
class Outcome:
    """The inversion of one class: its variables, and loss and ASR on the images to measure on."""

    variables: list[Floats]
    loss: float
    asr: float
    reached: bool
    rounds: int


@dataclass
class Look:
    """What a detector may look at: one delivered model, the pool, a seed, its settings."""

    classes: list[str]
    learner: str
    clip: str  # fingerprint of the encoders
    size: int  # side of the images in pixels
    seed: int
    settings: dict[str, Any]  # all, by their declared names
    optimise: list[int]  # which pool images to optimise on, and which to measure on: both are random
    measure: list[int]
    random: Random
    ask: Callable[..., Any] = field(repr=False)
    _pool: Floats | None = field(default=None, repr=False)
    _model: str | None = field(default=None, repr=False)

    @property
    def pool(self) -> Floats:
        """The unlabelled images [N,3,S,S] in [0,1]."""
        if self._pool is None:
            self._pool = self.ask("pool")["pool"]
        return self._pool

    @property
    def model(self) -> str:
        """Folder of the model in Dassl's layout, or a safetensors file of a learner that has none there."""
        if self._model is None:
            self._model = str(self.ask("model"))
        return self._model

    def logits(self, images: Any) -> Floats:
        """Logits [N,K] of images [N,3,S,S]."""
        out: Floats = self.ask("logits", tensors={"images": images})["logits"]
        return out

    def gradient(self, images: Any, weights: Any) -> Floats:
        """The gradient [N,3,S,S] of the sum of weights [N,K] times logits in the images [N,3,S,S]."""
        out: Floats = self.ask("gradient", tensors={"images": images, "weights": weights})["gradient"]
        return out

    def progress(self, done: int, total: int) -> None:
        """Say how far it is. A detector that says nothing for long is stopped."""
        self.ask("progress", done=done, total=total)

    def invert(
        self,
        start: Sequence[Any],
        apply: Callable[..., Value],
        *,
        rates: Sequence[float],
        batch: int,
        rounds: int,
        steps: int = 1,
        loss: Callable[[Value, Value], Value] = Value.cross_entropy,
        penalty: Callable[..., Value] | None = None,
        project: Callable[..., Sequence[Value]] | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        control: Callable[[], Controller] | None = None,
        optimise: Sequence[int] | None = None,
        measure: Sequence[int] | None = None,
    ) -> list[Outcome]:
        """Invert every class with the program's own loop: Adam on the mean loss plus cost times penalty.

        start are each class's first variables. apply gets images [1,B,3,S,S] and variables [C,1,...], and gives the
        triggered images [C,B,3,S,S]; penalty gets variables [C,...] and gives [C,1]; project brings variables back into
        bounds after a step; loss gets logits [R,K] and targets [R]. The last of the rates repeats. The order of the images is
        drawn from self.random.
        """
        n = len(start)
        controllers: dict[int, Controller] = {}

        def steer(told: dict[str, Any]) -> dict[str, Any]:
            c = int(told["class"])
            if control is None:
                raise RuntimeError("the program asks for a controller that there is none of")
            if c not in controllers:
                controllers[c] = control()
            says = controllers[c].round(Round(told["loss"], told["penalty"], told["asr"])).split() if "loss" in told else []
            return {"cost": float(controllers[c].cost), "keep": "keep" in says, "done": "done" in says, "reached": bool(controllers[c].reached)}

        answer = self.ask(
            "invert",
            tensors={f"start.{i}": v for i, v in enumerate(start)},
            variables=n,
            apply=record(1 + n, apply),
            loss=record(2, loss),
            penalty=record(n, penalty) if penalty else None,
            project=record(n, project) if project else None,
            rates=[float(r) for r in rates], batch=batch, steps=steps, rounds=rounds, betas=list(betas), eps=eps,
            controlled=control is not None,
            optimise=[int(i) for i in (self.optimise if optimise is None else optimise)],
            measure=[int(i) for i in (self.measure if measure is None else measure)],
            steer=steer,
        )
        outcomes = []
        for c, o in enumerate(answer["classes"]):
            variables = [answer["tensors"][f"{c}.{i}"].reshape(floats(v).shape) for i, v in enumerate(start)]
            outcomes.append(Outcome(variables, o["loss"], o["asr"], o["reached"], o["rounds"]))
        return outcomes
