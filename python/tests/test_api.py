"""The package does what the program does."""

import json
import math
import pathlib
import subprocess

import numpy as np
import pytest

import clip_inspector as ci
from clip_inspector._models import checkpoint
from clip_inspector._program import program
from clip_inspector._tensors import read, write
from conftest import BUDGET, LOOK, SMALL

CLASSES = ["Bulldog", "Beagle"]


def classes(model):
    raw = model.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return json.loads(header["__metadata__"]["model"])["classes"]


def test_a_run_gives_frames(run):
    folder, told = run
    models, detections, rows = (ci.results(folder, what) for what in ("models", "detections", "classes"))
    assert list(models.attack) == ["clean", "badnets"] and list(models.backdoored) == [False, True]
    assert math.isnan(models.asr[0]) and 0 <= models.asr[1] <= 1 and models.settings[0]["shots"] == 4
    assert len(detections) == 2 and set(detections.model) == set(models.model) and set(detections.verdict) <= {"clean", "backdoored", "cannot tell"}
    assert len(rows) == 18 and rows.groupby("detection")["index"].max().sort_index().equals(detections.set_index("detection")["index"].sort_index())
    assert any(p.total and 0 <= p.done <= p.total for p in told) and any("suite mini" in p.what for p in told)


def test_a_finished_run_is_not_run_again(run):
    before = (run[0] / "scores.jsonl").read_bytes()
    again = ci.run(out=run[0], set={**SMALL, "attacks": ["clean", {"name": "badnets", "side": 0.3}],
                                    "detectors": [{"name": "ci", "optimise": 64, "measure": 32, "batch": 16}]})
    assert again == run[0] and (run[0] / "scores.jsonl").read_bytes() == before


def test_inspect_is_the_report(model, tmp_path):
    told = []
    f = ci.inspect(model, detector="ci", set={**BUDGET, **LOOK}, out=tmp_path / "audit", progress=told.append)
    report = json.loads((tmp_path / "audit" / "report.json").read_text())
    assert f.raw == report and f.decision == report["decision"] and f.index == report["index"] and f.subject.class_names == classes(model)
    assert [c.class_name for c in f.classes] == classes(model) and max(c.index for c in f.classes) == f.index
    assert f.picture.exists() and f.backdoored == (f.decision == "backdoored")
    e = f.explanations[0]
    assert e.class_name == f.suspect and e.says and (f.folder / e.picture).exists() and e.kind in {"none", *(x.kind for x in e.families)}
    assert any(p.what == "inverting classes" and p.done == p.total for p in told)
    printed = subprocess.run([program(), "inspect", "--checkpoint", model, "--ood", "builtin:mini", "--detector", "ci", "--out", tmp_path / "again", "--classes-to-explain", "0",
                              *[x for k, v in BUDGET.items() for x in ("--set", f"{k}={v}")]], capture_output=True, text=True).stdout
    assert f"verdict: {f.decision}" in printed


def seen(*given):
    """What ci sees in a model, without a second look."""
    return ci.inspect(*given, detector="ci", set=BUDGET, classes_to_explain=0)


def test_contexts_as_they_are(model):
    by_path = seen(model)
    context = read(model)["ctx"]
    assert context.shape == (4, 128) and not by_path.explanations
    by_tensor = seen(context, classes(model))
    assert by_tensor.learner == "coop" and [c.index for c in by_tensor.classes] == [c.index for c in by_path.classes]
    each = seen(np.stack([context] * 9), classes(model))
    assert [round(c.loss, 3) for c in each.classes] == [round(c.loss, 3) for c in by_path.classes]


def test_modules_of_dassl(model, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: modules were not tried")
    subprocess.run([program(), "export", "--checkpoint", model, "--clip", "builtin:mini", "--to", tmp_path], check=True, capture_output=True)
    state = torch.load(tmp_path / "prompt_learner" / "model.pth.tar-1", weights_only=True)["state_dict"]

    class PromptLearner(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.ctx = torch.nn.Parameter(torch.empty_like(state["ctx"]))
            for name in ("token_prefix", "token_suffix"):
                self.register_buffer(name, torch.empty_like(state[name]))
            self.class_token_position = "end"

    class CustomCLIP(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.prompt_learner = PromptLearner()
            self.image_encoder = torch.nn.Linear(2, 2)

    module = CustomCLIP()
    module.prompt_learner.load_state_dict(state)
    assert [c.index for c in seen(module, classes(model)).classes] == [c.index for c in seen(model).classes]
    files = set()
    for i, given in enumerate((module, module.prompt_learner, module.prompt_learner.state_dict())):
        (tmp_path / str(i)).mkdir()
        path, hints = checkpoint(given, tmp_path / str(i))
        assert hints["learner"] == "coop"
        files.add(pathlib.Path(path).read_bytes())
    assert len(files) == 1


def test_cocoop_modules(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: modules were not tried")
    folder = ci.run(out=tmp_path / "run", set={**SMALL, "datasets": [{"name": "mini-pets", "classes": 5}], "learner": "cocoop", "tuning.epochs": 1, "shots": 2,
                                               "attacks": ["clean"], "detectors": []})
    path = folder / ci.results(folder, "models").path[0]
    params = read(path)

    class PromptLearner(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.ctx = torch.nn.Parameter(torch.from_numpy(params["ctx"]))
            hidden, d = params["meta_net.linear1.weight"].shape
            self.meta_net = torch.nn.Sequential()
            self.meta_net.add_module("linear1", torch.nn.Linear(d, hidden))
            self.meta_net.add_module("relu", torch.nn.ReLU())
            self.meta_net.add_module("linear2", torch.nn.Linear(hidden, params["ctx"].shape[1]))

    learner = PromptLearner()
    learner.load_state_dict({k: torch.from_numpy(v) for k, v in params.items()})
    by_path, f = seen(path), seen(learner, classes(path))
    assert f.learner == "cocoop" and [c.index for c in f.classes] == [c.index for c in by_path.classes]


def test_repair(model, tmp_path):
    r = ci.repair(model, shots="mini-pets", out=tmp_path / "repaired.safetensors", detector="ci", per_class=4,
                  set={**BUDGET, **LOOK, "repair.epochs": 3})
    assert [m.name for m in r.models] == ["delivered", "repaired", "control", "retuned"] and all(0 <= m.acc <= 1 and 0 <= m.asr <= 1 for m in r.models)
    assert r.written == tmp_path / "repaired.safetensors" and classes(r.written) == classes(model) and r.epochs == 3
    assert not np.array_equal(read(r.written)["ctx"], read(model)["ctx"]) and r.before.suspect in classes(model)


def test_errors_are_the_programs_line(tmp_path):
    with pytest.raises(ci.ProgramError, match="none.safetensors: no such file") as e:
        ci.inspect(tmp_path / "none.safetensors")
    assert e.value.status == 3 and "\n" not in str(e.value)
    with pytest.raises(ci.ProgramError, match='unknown attack "badnet"'):
        ci.run(set={"attacks": ["badnet"]}, out=tmp_path)
    with pytest.raises(ci.ProgramError, match="no results|no such file|holds no"):
        ci.results(tmp_path / "nowhere")
    for given, what in ((np.zeros(4), "shape"), ({"ctx": np.zeros((2, 2), dtype=np.int64)}, "int64"),
                        (np.full((2, 2), 1 + 2.0**-40), "more digits"), (5, "int")):
        with pytest.raises((ValueError, TypeError), match=what):
            ci.inspect(given, CLASSES)


def test_interrupted_runs_end(tmp_path):
    class Enough(Exception):
        pass

    def stop(_):
        raise Enough

    with pytest.raises(Enough):
        ci.run(out=tmp_path, set={**SMALL, "detectors": []}, progress=stop)


def test_safetensors_are_read_back(tmp_path):
    rng = np.random.default_rng()
    tensors = {"b": rng.normal(size=(2, 3)).astype(np.float32), "a": np.float32(3).reshape(()), "c.d": rng.normal(size=5).astype(np.float32)}
    write(tmp_path / "x.safetensors", tensors, {"key": "value"})
    back = read(tmp_path / "x.safetensors")
    assert back.keys() == tensors.keys() and all(np.array_equal(back[k], tensors[k]) and back[k].shape == tensors[k].shape for k in tensors)
