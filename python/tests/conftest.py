"""A small run of the program that the tests share."""

import os
import pathlib

import pytest

import clip_inspector as ci

if "CLIPINSPECTOR_PROGRAM" not in os.environ:
    built = pathlib.Path(__file__).parents[2] / "bin" / "clip-inspector"
    if built.exists():
        os.environ["CLIPINSPECTOR_PROGRAM"] = str(built)

PLUGINS = pathlib.Path(__file__).parents[2] / "examples" / "plugins"
BUDGET = {"detector.optimise": 32, "detector.measure": 32, "detector.batch": 16}
LOOK = {"explain.draws": 4, "explain.images": 4, "explain.optimise": 32, "explain.measure": 16, "explain.others": 1}  # a second look
SMALL = {"datasets": ["mini-pets"], "shots": 4, "test-images": 24, "tuning.epochs": 20, "learner": {"name": "coop", "context": 4}, "pool.images": 96,
         "ood.images": 24, "seeds": [1]}


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A clean and a backdoored model and what ci sees in them, with all that was told on the way."""
    told = []
    folder = ci.run(out=tmp_path_factory.mktemp("run"), progress=told.append, set={
        **SMALL, "attacks": ["clean", {"name": "badnets", "side": 0.3}], "detectors": [{"name": "ci", "optimise": 64, "measure": 32, "batch": 16}]})
    return folder, told


@pytest.fixture(scope="session")
def model(run):
    """The backdoored model's file."""
    models = ci.results(run[0], "models")
    return run[0] / models[models.backdoored].path.iloc[0]
