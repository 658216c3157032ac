"""The notebook of the tutorial: its cells run in order at toy size, and results show themselves."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import matplotlib as mpl
import pytest
from document_blocks import ROOT
from tiny_runs import worker_in_this_process

NOTEBOOK = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
SMALLER = {
    "TRIALS = 6": "TRIALS = 4",
    '{"pretrain.steps": 8, "confirm.seeds": 2}': (
        '{"pretrain.steps": 4, "confirm.seeds": 0, "probe.bootstrap": 5, "search.null_trials": 0, '
        '"search.controls": ["weak", "strong"], "search.prune": False}'
    ),
    "num_patients=24": "num_patients=16",
    "render(record.image_id, 0, 96)": "render(record.image_id, 0, 40)",
    "images=16, views=2, bootstrap=50": "images=8, views=2, bootstrap=5, size=32, allow_bad=True",
    "quiet=True": "quiet=True, workers=1, device='cpu', allow_bad=True",
    "images=3,": "images=2, allow_bad=True,",
}
"""Parts of cells, and what stands in their place in the test."""


def _last_value(source: str, names: dict[str, Any]) -> Any:
    """Runs a cell and returns the value of its last line, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr):
        exec(source, names)
        return None
    tree.body = tree.body[:-1]
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_the_notebook_is_committed_without_outputs():
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert NOTEBOOK["nbformat"] == 4


def test_its_links_lead_somewhere():
    text = "".join("".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []


@pytest.mark.timeout(900)
def test_its_cells_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    sources = list(CODE)
    for part, smaller in SMALLER.items():
        assert sum(part in source for source in sources) == 1, part
        sources = [source.replace(part, smaller) for source in sources]
    names: dict[str, Any] = {}
    with worker_in_this_process():
        values = [_last_value(source, names) for source in sources]
    shown = [value._repr_html_() for value in values if hasattr(value, "_repr_html_")]
    assert len(shown) == 3  # preview, search, diagnosis
    assert "data:image/png" in shown[0]
    assert "2 networks on the same views" in shown[2]
    assert [(3, 224, 224), (3, 224, 224), (3, 96, 96), (3, 96, 96)] in values
    assert (tmp_path / "runs" / "tutorial" / "best.toml").is_file()
