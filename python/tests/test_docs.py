"""The examples of docs/python.md run as they stand, one after the other; suites and audits on less data."""

import pathlib
import re
import shutil

import clip_inspector as ci
from conftest import BUDGET, LOOK, PLUGINS, SMALL

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "python.md"


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PLUGINS, tmp_path / "examples" / "plugins")
    run, inspect, repair = ci.run, ci.inspect, ci.repair
    less = {k: v for k, v in SMALL.items() if k != "datasets"}
    budget = {k.replace("detector.", "detectors.*."): v for k, v in BUDGET.items()}
    ran = []

    def small_run(config, set={}, **more):
        ran.append(config)
        few = {"detectors": ["separation"]} if config == "configs/mini.yaml" else {}
        return run(config, set={**less, **set, **few, **budget}, **more)

    monkeypatch.setattr(ci, "run", small_run)
    monkeypatch.setattr(ci, "inspect", lambda *a, **k: inspect(*a, **k, references=3, set={**BUDGET, **LOOK}))
    monkeypatch.setattr(ci, "repair", lambda *a, **k: repair(*a, **k, per_class=4, set={**BUDGET, "repair.epochs": 3}))
    names, files = {}, []
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.M | re.S):
        if own := re.match(r'"""(\w+\.py)"""', block):
            files.append(own[1])
            (tmp_path / own[1]).write_text(block)
        elif not kind:
            files.append("my_suite.yaml")
            (tmp_path / "my_suite.yaml").write_text(block)
        else:
            exec(compile(block, "docs/python.md", "exec"), names)
    assert files == ["my_attack.py", "my_detector.py", "my_suite.yaml"]
    assert ran == ["configs/mini.yaml", "my_suite.yaml", "examples/plugins/same.yaml"]
