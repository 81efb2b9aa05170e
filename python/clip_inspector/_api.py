"""inspect, repair, run and results."""

from __future__ import annotations

import json
import os
import pathlib
import re
import tempfile
from typing import TYPE_CHECKING, Any, Mapping, Sequence, Union

from ._models import checkpoint
from ._program import ProgramError, Shown, call, options, settings
from ._reports import Finding, Repair

if TYPE_CHECKING:
    import pandas

Path = Union[str, "os.PathLike[str]"]


def _audit(
    verb: str, model: Any, class_names: Sequence[str] | Path | None, out: Path, progress: Shown, statuses: Sequence[int],
    given: Mapping[str, Any] | None, learner: str | None, class_position: str | None, **more: Any,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="clip-inspector-") as name:
        folder = pathlib.Path(name)
        path, hints = checkpoint(model, folder)
        if class_names is not None and not isinstance(class_names, (str, os.PathLike)):
            (folder / "classes.json").write_text(json.dumps(list(class_names)), encoding="utf-8")
            class_names = folder / "classes.json"
        args = [verb, "--format", "json", *options(checkpoint=path, classes=class_names, out=out, learner=learner or hints.get("learner"),
                                                   class_position=class_position or hints.get("class_position"), **more)]
        text = call([*args, *settings(given)], progress, statuses)
    try:
        report: dict[str, Any] = json.loads(text)
    except ValueError:
        raise ProgramError(f"{verb} ended without a report", statuses[-1]) from None
    return report


def inspect(
    model: Any,
    class_names: Sequence[str] | Path | None = None,
    *,
    clip: Path = "builtin:mini",
    ood: Path = "builtin:mini",
    shots: Path | None = None,
    detector: str = "separation",
    learner: str | None = None,
    class_position: str | None = None,
    init: str | None = None,
    per_class: int = 16,
    references: int = 0,
    classes_to_explain: int = 1,
    seed: int = 1,
    set: Mapping[str, Any] | None = None,
    max_time: str | None = None,
    device: str = "cpu",
    threads: int = 0,
    out: Path | None = None,
    progress: Shown = None,
) -> Finding:
    """Say whether a delivered model is backdoored.

    model is a checkpoint's path, a module of Dassl's with a prompt_learner, its state_dict, or a tensor of CoOp's contexts [n,W] or
    [K,n,W]. class_names are in the order of the labels, or a file of them; a file of this project has its own. ood are unlabelled images
    that show none of the classes, shots labelled ones: folders. classes_to_explain is how many classes, the suspect first, are looked at
    once more for the kind of trigger that they answer to. set are settings such as {"detector.epsilon": 0.05}. out is the folder for
    report and pictures; a new temporary one where it is None. progress=True shows bars, a function gets each Progress.
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix="clip-inspector-") if out is None else out)
    report = _audit(
        "inspect", model, class_names, folder, progress, (0, 1, 2), set, learner, class_position, clip=clip, ood=ood, shots=shots,
        detector=detector, init=init, per_class=per_class, references=references,
        classes_to_explain=classes_to_explain, seed=seed, max_time=max_time, device=device, threads=threads,
    )
    return Finding.of(report, folder)


def repair(
    model: Any,
    class_names: Sequence[str] | Path | None = None,
    *,
    shots: Path,
    out: Path,
    clip: Path = "builtin:mini",
    ood: Path = "builtin:mini",
    detector: str = "separation",
    learner: str | None = None,
    class_position: str | None = None,
    init: str | None = None,
    per_class: int = 16,
    seed: int = 1,
    set: Mapping[str, Any] | None = None,
    max_time: str | None = None,
    device: str = "cpu",
    threads: int = 0,
    progress: Shown = None,
) -> Repair:
    """Inspect a delivered model, and fine-tune it until its recovered trigger no longer works; see inspect.

    out is the repaired model: a file *.safetensors, or a folder in Dassl's layout.
    """
    return Repair.of(_audit(
        "repair", model, class_names, out, progress, (0,), set, learner, class_position, clip=clip, ood=ood, shots=shots,
        detector=detector, init=init, per_class=per_class, seed=seed, max_time=max_time, device=device, threads=threads,
    ))


def run(
    config: Path | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    out: Path | None = None,
    workers: int = 0,
    device: str = "cpu",
    threads: int = 0,
    progress: Shown = None,
) -> pathlib.Path:
    """Run a suite, or the default one, and return the folder of its results.

    set are settings such as {"attacks": ["clean", "badnets"], "tuning.epochs": 20}. What is finished never runs again.
    """
    args = ["run", *([os.fspath(config)] if config is not None else []), *options(out=out, workers=workers, device=device, threads=threads)]
    text = call([*args, *settings(set)], progress)
    told = re.match(r"table: (.*)[/\\]table\.md ", text)
    if not told:
        raise ProgramError(f"the run ended without a table: {text.strip()}", 0)
    return pathlib.Path(told[1])


def results(folder: Path, what: str = "detections", *, suite: str | None = None) -> pandas.DataFrame:
    """The results of a suite as a frame with one row for each of its models, detections, or classes.

    Figures that do not exist are NaN. The column settings holds dictionaries.
    """
    import pandas

    rows = json.loads(call(["table", "--rows", what, *options(out=folder, suite=suite)]))
    frame = pandas.DataFrame(rows)
    if "settings" in frame:
        frame["settings"] = frame["settings"].map(json.loads)
    figures = [c for c in ("acc", "asr", "asr_ood", "psnr", "ssim", "seconds", "index", "score", "loss", "norm") if c in frame]
    return frame.astype({c: "float64" for c in figures})
