"""Finds the weights file that a user's path means, and short names for display."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from augscale.errors import CheckpointError
from augscale.networks.tensor_files import listed, read_json_object, read_tensors

TIMM_PREFIX = "timm:"
UNTRAINED_PREFIX = "random:"
TRIAL_WEIGHTS = "teacher.safetensors"
"""The weights in the folder of a finished trial; the folder's name is the name of the checkpoint."""
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The weights in a folder of Hugging Face or timm, beside its config.json."""
HUB_INDEX = "model.safetensors.index.json"
"""Lists the weights files of such a folder if there are several."""
HUB_CONFIG = "config.json"

_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
_LISTED = 5


def is_checkpoint_path(spec: str) -> bool:
    """True if `spec` names a file, or the folder of a finished trial or of Hugging Face."""
    if not spec:
        return False
    path = Path(spec)
    in_folder = any((path / name).is_file() for name in HUB_WEIGHTS) and (path / HUB_CONFIG).is_file()
    return path.is_file() or (path / TRIAL_WEIGHTS).is_file() or in_folder


def weights_file(path: Path) -> Path:
    """The file to read; for a folder, the weights file in it.

    Raises:
        CheckpointError: a folder that is neither a trial's nor Hugging Face's.
    """
    if not path.is_dir():
        return path
    for name in (TRIAL_WEIGHTS, *HUB_WEIGHTS, HUB_INDEX):
        if (path / name).is_file() and (name == TRIAL_WEIGHTS or (path / HUB_CONFIG).is_file()):
            return path / name
    if kind := _sharded_state(path):
        raise CheckpointError(f"{path}: is {kind}")
    found = sorted(file.name for file in path.iterdir() if file.suffix in _WEIGHT_SUFFIXES)
    hint = f"; it holds {listed(found, _LISTED)}" if found else ""
    raise CheckpointError(
        f"{path}: is a folder without {TRIAL_WEIGHTS}; expected a weights file or the folder of a finished trial, "
        f"or of Hugging Face with {HUB_CONFIG} and {HUB_WEIGHTS[0]}{hint}"
    )


def read_weights(path: Path) -> dict[Any, Any]:
    """The content of a weights file, or of all files that an index names.

    Raises:
        CheckpointError: see `read_tensors`; or the index names files outside of its folder.
    """
    if path.name != HUB_INDEX:
        return read_tensors(path)
    parts = read_json_object(path).get("weight_map")
    names = sorted({str(name) for name in parts.values()}) if isinstance(parts, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise CheckpointError(f"{path}: weight_map does not name the weights files of this folder")
    content: dict[Any, Any] = {}
    for name in names:
        content |= read_tensors(path.parent / name)
    return content


def unique_names(specs: Sequence[str | Path]) -> list[str]:
    """The shortest distinct names of checkpoints.

    A file is named by its name without the suffix, a trial by its folder ("0002"), "timm:NAME" by NAME, and
    "random:ARCH" by "untrained ARCH". If these are equal, parent folders are put in front. Files of one folder that
    differ only in their suffix keep it. A checkpoint given twice gets a count.

    Args:
        specs: as `load_checkpoint` takes them.
    """
    places = [_place(str(spec)) for spec in specs]
    different = list(dict.fromkeys(places))
    names = _shortest([(*folders, stem) for folders, stem, _ in different])
    if len(set(names)) < len(names):
        with_suffix = _shortest([(*folders, stem + suffix) for folders, stem, suffix in different])
        names = [long if names.count(name) > 1 else name for name, long in zip(names, with_suffix, strict=True)]
    found = dict(zip(different, names, strict=True))
    return _counted([found[place] for place in places])


def _sharded_state(folder: Path) -> str | None:
    """The kind of a folder of sharded training state, with advice; None for any other."""
    if (folder / ".metadata").is_file() and any(folder.glob("*.distcp")):
        return (
            "a distributed checkpoint of PyTorch; make one file of it: "
            "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        )
    if (folder / "latest").is_file() and (folder / "zero_to_fp32.py").is_file():
        return "a checkpoint of DeepSpeed; make one file of it: python zero_to_fp32.py . FILE, in that folder"
    return None


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
        return path.parent.parts[1:-1], path.parent.name, ""
    if Path(spec).is_dir():
        return path.parts[1:-1], path.name, ""
    return path.parts[1:-1], path.stem, path.suffix


def _shortest(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The last parts of each path, as many as no other path shares."""
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
