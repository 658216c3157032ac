"""Short names for checkpoints, different from each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePath

TIMM_PREFIX = "timm:"
UNTRAINED_PREFIX = "random:"
TRIAL_WEIGHTS = "teacher.safetensors"
"""The weights that a finished trial leaves in its folder, which then gives it its name."""


def unique_names(specs: Sequence[str | Path]) -> list[str]:
    """The shortest names that tell checkpoints apart.

    A file is called by its name without the suffix, a trial by its folder ("0002"), "timm:NAME" by NAME and
    "random:ARCH" "untrained ARCH"; where that is not enough, parent folders are put in front, suffixes behind, and for
    the same checkpoint given twice a count.

    Args:
        specs: as `load_checkpoint` takes them.
    Returns:
        One name for each, all different.
    """
    parts = [_parts(str(spec)) for spec in specs]
    suffixes = [_suffix(str(spec)) for spec in specs]
    lengths = [1] * len(parts)
    while True:
        names = [_joined(part, length) for part, length in zip(parts, lengths, strict=True)]
        longer = [
            min(length + 1, len(part)) if names.count(name) > 1 else length
            for name, part, length in zip(names, parts, lengths, strict=True)
        ]
        if longer == lengths:
            break
        lengths = longer
    # What no parent tells apart lies in one folder: shortest again, then the suffix.
    twins = [names.count(name) > 1 for name in names]
    short = [_joined(part, 1) + suffix if twin else name for part, suffix, twin, name in
             zip(parts, suffixes, twins, names, strict=True)]  # fmt: skip
    if len(set(short)) < len(short):
        short = [name + suffix if twin else name for name, suffix, twin in zip(names, suffixes, twins, strict=True)]
    return _counted(short)


def _parts(spec: str) -> tuple[str, ...]:
    if spec.startswith(TIMM_PREFIX):
        return (spec.removeprefix(TIMM_PREFIX),)
    if spec.startswith(UNTRAINED_PREFIX):
        inner = (
            _parts(spec.removeprefix(UNTRAINED_PREFIX)) if _is_path(spec) else (spec.removeprefix(UNTRAINED_PREFIX),)
        )
        return (*inner[:-1], f"untrained {inner[-1]}")
    path = PurePath(os.path.abspath(spec))
    if path.name == TRIAL_WEIGHTS and path.parent.name:
        path = path.parent
    elif not Path(spec).is_dir():
        path = path.with_suffix("")
    return tuple(part for part in path.parts if part != path.anchor) or (spec,)


def _is_path(spec: str) -> bool:
    return Path(spec.removeprefix(UNTRAINED_PREFIX)).exists()


def _suffix(spec: str) -> str:
    path = PurePath(spec)
    named = spec.startswith((TIMM_PREFIX, UNTRAINED_PREFIX)) or path.name == TRIAL_WEIGHTS or Path(spec).is_dir()
    return "" if named else path.suffix


def _joined(parts: tuple[str, ...], length: int) -> str:
    return "/".join(parts[-length:])


def _counted(names: list[str]) -> list[str]:
    counted: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in counted or (number > 1 and unique in names):
            number += 1
            unique = f"{name} ({number})"
        counted.append(unique)
    return counted
