"""What the program reports, as dataclasses that mirror its JSON. A figure that does not exist is None."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")


def made(cls: type[T], data: dict[str, Any], **more: Any) -> T:
    """An instance of what the JSON has for its fields; what this version does not know stays in Finding.raw."""
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    return cls(**{k: v for k, v in data.items() if k in known}, **more)


@dataclass(frozen=True)
class ClassReport:
    """What the detector found out about a class."""

    class_name: str
    index: float | None
    score: float | None
    loss: float | None
    asr: float | None  # of the recovered trigger, on the pool
    norm: float | None  # size of the recovered trigger

    @staticmethod
    def of(data: dict[str, Any]) -> ClassReport:
        return made(ClassReport, data, class_name=data["class"])


@dataclass(frozen=True)
class ReferenceFinding:
    """What the model was held against."""

    count: int
    source: str
    accuracy: float
    p: float  # probability of the model's evidence on a clean model
    p_of_references: list[float | None] = field(default_factory=list)  # that of each reference beside the others


@dataclass(frozen=True)
class Family:
    """What speaks for one kind of trigger."""

    kind: str
    evidence: float | None
    lift: float | None
    gain: float | None
    asr: float | None


@dataclass(frozen=True)
class Explanation:
    """Which kind of trigger a class answers to."""

    class_name: str
    kind: str  # patch, blend, perturbation, warp, wave or none
    says: str  # that in words
    strongest: str  # kind of the recovered trigger, whether it explains the class or not
    families: list[Family]
    size: float | None
    unit: str
    asr: float | None  # of the recovered trigger, on pool images that it was not fitted to
    zero_shot_asr: float | None
    other_classes_asr: float | None  # the same inversion, aimed at other classes: the largest
    zero_shot_inversion_asr: float | None
    psnr: float | None
    ssim: float | None
    picture: str  # file of the finding's folder
    trigger: str  # likewise
    place: str = ""
    anywhere: bool = False

    @staticmethod
    def of(data: dict[str, Any]) -> Explanation:
        rest = {k: v for k, v in data.items() if k != "families"}
        return made(Explanation, rest, class_name=data["class"], families=[made(Family, f) for f in data["families"] or []])


@dataclass(frozen=True)
class Delivered:
    """How the encoders in the checkpoint compare with the CLIP that was given."""

    found: str  # "not contained", "same", "different" or "tuned"
    tensors: int
    rounded: int = 0
    different: list[dict[str, Any]] = field(default_factory=list)
    tuned: str = ""


@dataclass(frozen=True)
class ReadFile:
    """A file and what was in it."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Subject:
    """What the verdict is about."""

    files: list[ReadFile]
    tensors: list[dict[str, Any]]
    class_names: list[str]
    audited: ReadFile  # the model to deploy where the verdict is clean
    other_checkpoints: list[str] = field(default_factory=list)

    @staticmethod
    def of(data: dict[str, Any]) -> Subject:
        rest = {k: v for k, v in data.items() if k not in ("files", "audited")}
        return made(Subject, rest, files=[made(ReadFile, f) for f in data["files"] or []], audited=made(ReadFile, data["audited"]))


@dataclass(frozen=True)
class Finding:
    """What an audit says of one model: the report.json that it wrote."""

    decision: str  # "clean", "backdoored" or "cannot tell"
    why: str
    index: float | None
    k: float
    suspect: str  # the most suspicious class, whether flagged or not; empty for none
    classes: list[ClassReport]
    twins: list[list[str]]
    encoder: ClassReport | None
    references: ReferenceFinding | None
    explanations: list[Explanation]  # of the suspect, and of as many more classes as were asked for
    checkpoint: str
    clip: str  # fingerprint of the encoders
    delivered_encoders: Delivered
    subject: Subject
    notes: list[str]
    learner: str
    pool: str
    pool_images: int
    pool_fingerprint: str
    detector: dict[str, Any]
    seed: int
    engine: str
    image_passes: int
    seconds: float
    source_class: str = ""  # where the evidence is of images of one class alone, that class
    folder: pathlib.Path | None = None  # of report.json, verdict.png, trigger.png, trigger.safetensors, audited.safetensors
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def backdoored(self) -> bool:
        """Whether the verdict is backdoored. A model of which nothing can be told is not: see decision."""
        return self.decision == "backdoored"

    @property
    def picture(self) -> pathlib.Path | None:
        """verdict.png."""
        return self.folder / "verdict.png" if self.folder else None

    def _repr_png_(self) -> bytes | None:
        """A notebook shows the finding as its picture."""
        return self.picture.read_bytes() if self.picture and self.picture.exists() else None

    @staticmethod
    def of(data: dict[str, Any], folder: pathlib.Path | None = None) -> Finding:
        """The finding of a report.json."""
        nested = {
            "classes": [ClassReport.of(c) for c in data.get("classes") or []],
            "twins": data.get("twins") or [],
            "notes": data.get("notes") or [],
            "encoder": ClassReport.of(data["encoder"]) if data.get("encoder") else None,
            "references": made(ReferenceFinding, data["references"]) if data.get("references") else None,
            "explanations": [Explanation.of(e) for e in data.get("explanations") or []],
            "delivered_encoders": made(Delivered, data["delivered_encoders"]),
            "subject": Subject.of(data["subject"]),
        }
        return made(Finding, {k: v for k, v in data.items() if k not in nested}, folder=folder, raw=data, **nested)


@dataclass(frozen=True)
class AfterRepair:
    """What the detector makes of the repaired model."""

    decision: str
    why: str
    index: float | None
    suspect: str


@dataclass(frozen=True)
class RepairedModel:
    """One of the models that a repair compares, on labelled images that were held back."""

    name: str  # delivered, repaired, control or retuned
    acc: float
    asr: float  # of the recovered trigger


@dataclass(frozen=True)
class Repair:
    """What a repair did."""

    before: Finding
    after: AfterRepair
    models: list[RepairedModel]
    images: int
    epochs: int
    written: pathlib.Path

    @staticmethod
    def of(data: dict[str, Any]) -> Repair:
        return Repair(Finding.of(data["before"]), made(AfterRepair, data["after"]), [made(RepairedModel, m) for m in data["models"]],
                      data["images"], data["epochs"], pathlib.Path(data["written"]))
