"""Prints a constraints file for pip that pins every dependency of pyproject.toml to its lower bound (`make oldest`)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_LOWER_BOUND = re.compile(r"([A-Za-z0-9._-]+)(?:\[.*?\])?>=([0-9.]+)")


def lower_bounds(pyproject: Path) -> list[str]:
    """One line `name==version` for each requirement, those of the extras included; a name's highest bound counts.

    A bound of two numbers stands for the newest patch of that release: `2.3` becomes `2.3.*`, as 2.3.0 may have been
    withdrawn. faiss-gpu is left out: it cannot be installed beside faiss-cpu.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    requirements = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    bounds: dict[str, str] = {}
    for requirement in requirements:
        match = _LOWER_BOUND.match(requirement)
        if match is None:
            raise SystemExit(f"{pyproject}: {requirement!r} has no lower bound; expected name>=version")
        name, version = match[1], match[2]
        if not name.startswith("faiss-gpu"):
            bounds[name] = max(bounds.get(name, version), version, key=_numbers)
    return [f"{name}=={_patches(version)}" for name, version in sorted(bounds.items())]


def _patches(version: str) -> str:
    numbers = version.split(".")
    return version if len(numbers) > 2 else ".".join([*numbers, "0", "*"] if len(numbers) == 1 else [*numbers, "*"])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


if __name__ == "__main__":
    print("\n".join(lower_bounds(Path(__file__).parents[1] / "pyproject.toml")))
