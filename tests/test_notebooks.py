"""Notebooks of the docs: their code runs, and gives what stands in them."""

import ast
import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs").rglob("*.ipynb"))


def run(source: str, names: dict[str, Any]) -> str:
    """What a cell shows: what it prints, and the value of an expression at its end."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    shown = io.StringIO()
    with redirect_stdout(shown):
        exec(compile(tree, "cell", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last is not None else None
    return shown.getvalue() + (repr(value) if value is not None else "")


def stored(cell: dict[str, Any]) -> str:
    """What the notebook holds as the text of a cell; pictures are left out."""
    texts = [
        "".join(one.get("text") or one["data"]["text/plain"])
        for one in cell["outputs"]
        if one["output_type"] in ("stream", "execute_result")
    ]
    return "".join(texts)


def without_figures(text: str) -> str:
    """Text without decimals, which differ between processors."""
    return re.sub(r"\d+\.\d+", "#", text)


@pytest.mark.long
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_and_shows_what_it_holds(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, Any] = {}
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        assert cell["outputs"] or "".join(cell["source"]).startswith("import"), "a cell was not run"
        said = run("".join(cell["source"]), names)
        if stored(cell):
            assert without_figures(said) == without_figures(stored(cell))
    dice = [float(one) for cell in cells for one in re.findall(r"Dice (\d\.\d\d)", stored(cell))]
    assert len(dice) == len(names["prompts"])
    assert min(dice) > 0.6


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS] == ["from-python.ipynb"]
