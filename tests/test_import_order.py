"""The folders of the package import in one direction only (CONTRIBUTING.md lists them from low to high)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "augscale"
LOW_TO_HIGH = (
    ("errors", "settings", "seeding", "doc_pages"),
    ("system",),
    ("config", "pretrain_config"),
    ("runs",),
    ("records",),
    ("statistics",),
    ("data", "demo"),
    ("augmentation",),
    ("networks",),
    ("pretraining",),
    ("scoring",),
    ("diagnosis",),
    ("evaluation",),
    ("searching",),
    ("validation", "promotion"),
    ("reporting",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LOW_TO_HIGH) for name in names}


def _imports(module: Path) -> Iterator[str]:
    """The parts of the package that a module imports; `reporting` may be imported inside a function."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("augscale."):
            part = str(node.module).split(".")[1]
            if part != "reporting" or node in tree.body:
                yield part


def _part(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


def test_every_part_of_the_package_has_a_place_in_the_order():
    parts = {_part(module) for module in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert parts == set(RANK)


def test_no_part_imports_one_that_is_higher():
    climbing = {
        (_part(module), imported): str(module.relative_to(PACKAGE))
        for module in PACKAGE.rglob("*.py")
        if _part(module) in RANK
        for imported in _imports(module)
        if RANK[imported] > RANK[_part(module)]
    }
    assert climbing == {}
