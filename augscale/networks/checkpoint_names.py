"""Short names for checkpoints, different from each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePath

TIMM_PREFIX = "timm:"
UNTRAINED_PREFIX = "random:"
TRIAL_WEIGHTS = "teacher.safetensors"
"""The weights that a finished trial leaves in its folder, which then gives it its name."""
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The weights in a folder of Hugging Face or timm, beside its config.json."""


def is_checkpoint_path(spec: str) -> bool:
    """A file, or the folder of a finished trial or of Hugging Face."""
    if not spec:
        return False
    path = Path(spec)
    in_folder = any((path / name).is_file() for name in HUB_WEIGHTS) and (path / "config.json").is_file()
    return path.is_file() or (path / TRIAL_WEIGHTS).is_file() or in_folder


def unique_names(specs: Sequence[str | Path]) -> list[str]:
    """The shortest names that tell checkpoints apart.

    A file is called by its name without the suffix, a trial by its folder ("0002"), "timm:NAME" by NAME and
    "random:ARCH" "untrained ARCH"; where that is not enough, parent folders are put in front; for files of one folder
    that differ in their suffix, that suffix behind; and for the same checkpoint given twice, a count.

    Args:
        specs: as `load_checkpoint` takes them.
    Returns:
        One name for each, all different.
    """
    places = [_place(str(spec)) for spec in specs]
    different = list(dict.fromkeys(places))
    names = _shortest([(*folders, stem) for folders, stem, _ in different])
    if len(set(names)) < len(names):
        with_suffix = _shortest([(*folders, stem + suffix) for folders, stem, suffix in different])
        names = [long if names.count(name) > 1 else name for name, long in zip(names, with_suffix, strict=True)]
    found = dict(zip(different, names, strict=True))
    return _counted([found[place] for place in places])


def _place(spec: str) -> tuple[tuple[str, ...], str, str]:
    """Folders, name and suffix of a checkpoint."""
    if spec.startswith(TIMM_PREFIX):
        return (), spec.removeprefix(TIMM_PREFIX), ""
    if spec.startswith(UNTRAINED_PREFIX):
        arch = spec.removeprefix(UNTRAINED_PREFIX)
        folders, stem, suffix = _place(arch) if is_checkpoint_path(arch) else ((), arch, "")
        return folders, f"untrained {stem}", suffix
    path = PurePath(os.path.abspath(spec))
    if path.name == TRIAL_WEIGHTS and path.parent.name:
        path = path.parent
        return path.parts[1:-1], path.name, ""
    if Path(spec).is_dir():
        return path.parts[1:-1], path.name, ""
    return path.parts[1:-1], path.stem, path.suffix


def _shortest(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """Each path's last parts, as many as no other path shares."""
    lengths = [1] * len(paths)
    while True:
        names = ["/".join(path[-length:]) for path, length in zip(paths, lengths, strict=True)]
        longer = [
            min(length + 1, len(path)) if names.count(name) > 1 else length
            for name, path, length in zip(names, paths, lengths, strict=True)
        ]
        if longer == lengths:
            return names
        lengths = longer


def _counted(names: list[str]) -> list[str]:
    counted: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in counted or (number > 1 and unique in names):
            number += 1
            unique = f"{name} ({number})"
        counted.append(unique)
    return counted
