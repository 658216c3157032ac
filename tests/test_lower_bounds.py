"""`make oldest` installs the lower bounds of pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

from lower_bounds import lower_bounds

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_every_dependency_is_pinned_to_its_lower_bound():
    dependencies = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    pinned = dict(line.split("==") for line in lower_bounds(PYPROJECT))
    for dependency in dependencies:
        name, _, bound = dependency.split(",")[0].partition(">=")
        assert pinned[name].removesuffix(".*").startswith(bound), dependency


def test_the_highest_of_several_bounds_counts_and_patches_are_free(tmp_path):
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[project]\ndependencies = ["a>=2.9", "b>=1"]\noptional-dependencies = {x = ["a[y]>=2.10", "c>=1.0.2,<3"]}\n'
    )
    assert lower_bounds(file) == ["a==2.10.*", "b==1.0.*", "c==1.0.2"]
