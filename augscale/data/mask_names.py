"""Usual names of masks and annotations: of files (`x_mask.png`, `x_seg.png`) and of folders (`masks/`).

A name alone excludes nothing: `labelled/` and `gt_camera/` may hold photographs. Clear words count by themselves, vague
words only together with a second sign.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

_CLEAR = frozenset({"mask", "masks", "seg", "segs", "segmentation", "segmentations", "groundtruth", "annotmask"})
_VAGUE = frozenset(
    {"gt", "label", "labels", "labelmap", "annotation", "annotations", "annot", "manual", "manual1", "manual2", "truth"}
)
_WORDS = re.compile(r"[a-z]+\d*|\d+")


def named_masks(names: Sequence[str], looks_like_mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Flags images that are named like masks; none if all are, because the names then carry no information.

    A vague word counts if an image of the same name without it exists, or if half of the images with vague words look
    like masks.

    Args:
        names: N paths below their source.
        looks_like_mask: bool, shape (N,), from the pixels.
    Returns:
        bool, shape (N,).
    """
    paths = [PurePosixPath(name) for name in names]
    words = [mask_words(path) for path in paths]
    clear = np.array([one for one, _ in words], dtype=bool)
    vague = np.array([other for _, other in words], dtype=bool) & ~clear
    if vague.any() and looks_like_mask[vague].mean() < 0.5:
        photographs = {plain_name(path) for path, odd in zip(paths, clear | vague, strict=True) if not odd}
        vague &= np.array([plain_name(path) in photographs for path in paths], dtype=bool)
    named = clear | vague
    return named if not named.all() else np.zeros(len(paths), dtype=bool)


def mask_words(path: PurePosixPath) -> tuple[bool, bool]:
    """Two flags for a path below the source: it contains a clear word for a mask; it contains a vague one.

    Only whole words count, so `unmasked_1.png` and `labelled/` contain none. A vague word in a folder counts only if
    the folder's name consists of such words.
    """
    words = set(_split(path.stem))
    folders = [set(_split(folder)) for folder in path.parts[:-1]]
    clear = bool(words & _CLEAR) or any(folder and folder & _CLEAR for folder in folders)
    vague = bool(words & _VAGUE) or any(folder and folder <= _VAGUE | {"ground"} for folder in folders)
    return clear, vague


def plain_name(path: PurePosixPath) -> str:
    """The stem without the words of masks, lower case: the name of the photograph that a mask would belong to."""
    words = [word for word in _split(path.stem) if word not in _CLEAR | _VAGUE | {"ground"}]
    return " ".join(words)


def exclude_pattern(masks: Sequence[str], others: Iterable[str]) -> str | None:
    """A simple pattern that matches all of the masks and nothing else, or None.

    Args:
        masks, others: paths below their source.
    """
    rest = [PurePosixPath(name) for name in others]
    paths = [PurePosixPath(name) for name in masks]
    folders = {path.parent for path in paths}
    if len(folders) == 1 and (folder := folders.pop()).parts and not any(p.is_relative_to(folder) for p in rest):
        return f"{folder}/*"
    endings = {re.sub(r".*(?=[_\-. ][A-Za-z]+\d*$)", "", path.stem) for path in paths}
    suffixes = {path.suffix for path in paths}
    if len(endings) == 1 and (ending := endings.pop()) not in {path.stem for path in paths}:
        pattern = f"*{ending}{suffixes.pop() if len(suffixes) == 1 else '.*'}"
        regex = re.compile(f".*{re.escape(ending)}\\.[^.]*$")
        return None if any(regex.match(path.name) for path in rest) else pattern
    return None


def _split(name: str) -> list[str]:
    """Words of a name, split at `_` and inner capitals; letters and the digits behind them stay together."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    joined = re.sub(r"ground[ _-]*truth", "groundtruth", spaced.lower())
    return _WORDS.findall(joined)
