"""The notebook runs from above to its picture."""

import ast
import json
import pathlib

NOTEBOOK = pathlib.Path(__file__).parents[2] / "examples" / "first.ipynb"


def test_the_notebook_ends_in_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, last = {}, None
    cells = ["".join(c["source"]) for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    assert cells[0].startswith("%pip install")  # what runs this test is installed
    for text in cells[1:]:
        tree = ast.parse(text)
        shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), names)
        last = eval(compile(ast.Expression(shown.value), "cell", "eval"), names) if shown else None
    assert last._repr_png_().startswith(b"\x89PNG") and last.decision == "backdoored"
    assert last.suspect == last.subject.class_names[names["models"].target[1]]
