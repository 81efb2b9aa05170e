"""Plugins as the program serves them."""

import numpy as np
import pytest

import clip_inspector as ci
from clip_inspector import plugin
from conftest import PLUGINS, SMALL


def random_of(numbers):
    left = list(numbers)
    return plugin.Random(lambda n: [left.pop(0) for _ in range(n)])


def test_integers_are_those_of_go():
    # rand.New(rand.NewPCG(1, 2)) of Go's math/rand/v2: Uint64, and IntN(10) and IntN(8) of the same source.
    bits = [14192431797130687760, 11371241257079532652, 14470142590855381128, 14694613213362438554, 4321634407747778896, 760102831717374652]
    assert list(random_of(bits).integers(10, 6)) == [7, 6, 7, 7, 2, 0]
    assert list(random_of(bits).integers(8, 6)) == [x % 8 for x in bits]
    assert list(random_of(bits).random(2)) == [(x & (1 << 53) - 1) / 2**53 for x in bits[:2]]


def test_a_suite_with_plugins(tmp_path):
    folder = ci.run(out=tmp_path / "run", set={
        **SMALL, "attacks": [{"name": "badnets", "pattern": "noise"}, {"name": f"python:{PLUGINS / 'badnets.py'}:badnets", "pattern": "noise"}],
        "detectors": []})
    models = ci.results(folder, "models")
    assert models.attack[1] == "python:badnets.py:badnets" and models.target[0] == models.target[1]
    first, second = ((folder / p).read_bytes() for p in models.path)
    assert first == second
    assert len(models.settings[1]["attack"]["content"]) == 64


def test_a_torch_function_of_images(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: a function that uses it was not tried")
    (tmp_path / "blur.py").write_text('''
import torch
from clip_inspector.plugin import Param, declare

@declare(Param("width", 3, "side of the mean filter", min=3, max=9, unit="px"))
def blur(size, rng, width):
    """blurs the image by a mean filter of torch"""
    pool = torch.nn.AvgPool2d(width, stride=1, padding=width // 2, count_include_pad=False)
    return lambda images: pool(torch.from_numpy(images)).clamp(0, 1)
''')
    (tmp_path / "suite.yaml").write_text('''
name: blurred
clip: builtin:mini
seeds: [1]
datasets: [{name: mini-pets, classes: 6}]
shots: 4
test-images: 24
tuning: {epochs: 4}
pool: {name: mini, images: 96}
ood: {images: 24}
attacks: [{name: "python:blur.py:blur", width: 5}]
''')
    folder = ci.run(tmp_path / "suite.yaml", out=tmp_path / "run")
    models = ci.results(folder, "models")
    assert models.state[0] == "finished" and 0 < models.psnr[0] < 60


def test_a_failing_plugin_is_the_error(tmp_path):
    (tmp_path / "fails.py").write_text('def fails(size, rng):\n    """fails always"""\n    raise OSError("no such luck")\n')
    with pytest.raises(ci.ProgramError, match=r"fails\.py:fails: OSError: no such luck \(fails\.py:3\)"):
        ci.run(out=tmp_path / "run", set={**SMALL, "attacks": [f"python:{tmp_path / 'fails.py'}:fails"], "detectors": []})


def test_operations_are_recorded():
    e = plugin.record(2, lambda x, d: (1 - x) * d + 2)
    ops = [n["op"] for n in e["nodes"]]
    assert ops == ["input", "input", "affine", "mul", "affine"] and e["outputs"] == [4] and e["nodes"][2]["by"] == [-1.0, 1.0]
    with pytest.raises(TypeError, match="has to return what it computes"):
        plugin.record(1, lambda x: np.zeros(3))
