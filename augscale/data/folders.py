"""Walks a folder of images: folders that are never searched, and the user's patterns of excluded files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import translate
from pathlib import Path, PurePosixPath

from augscale.data.file_types import OWN_FOLDERS, STORES, Kind
from augscale.errors import DataError

_SYSTEM_FOLDERS = frozenset(
    {"@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "__macosx", "$recycle.bin"}
    | {"system volume information", "lost+found", "__pycache__"}
)
"""Folders of operating systems and network storage, lower case; @eaDir holds thumbnails of every image."""
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"})
THUMBNAIL_FOLDERS = frozenset({"thumbs", "thumb", "thumbnails", "thumbnail", "_thumbs", "_thumbnails"})
"""Folders of smaller copies of images, lower case."""
_STORE_SUFFIXES = (".zarr", ".n5")
_OWN_FILES = (
    {"study.db"},
    {"study.toml", "manifest.json"},
    {"diagnosis.json"},
    {"evaluation.json"},
    {"validation.json"},
    {"promotion.json"},
)
"""A folder that holds one of these sets was written by augscale."""


def walk_files(root: Path, passed: dict[Path, Kind] | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Yields each real folder once with its sorted file names, without hidden names and system names.

    Args:
        root: the folder to start in.
        passed: collects folders that augscale wrote and array stores, which are not searched; None: search them, too.
    Raises:
        DataError: a folder cannot be listed.
    """
    seen = set()
    for name, folders, files in os.walk(root, followlinks=True, onerror=_refuse):
        folder, real = Path(name), os.path.realpath(name)
        kind = None if passed is None or folder == root else _kind_of_folder(folder, files)
        if passed is not None and kind is not None:
            passed[folder] = kind
        if real in seen or kind is not None:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f.lower() not in _SYSTEM_FOLDERS)
        yield folder, sorted(f for f in files if not f.startswith(".") and f.lower() not in _SYSTEM_FILES)


def is_thumbnail(inside: PurePosixPath) -> bool:
    """True for a file, by its path below the source, in a folder of thumbnails."""
    return any(part.lower() in THUMBNAIL_FOLDERS for part in inside.parts[:-1])


def _kind_of_folder(folder: Path, files: Sequence[str]) -> Kind | None:
    if folder.suffix.lower() in _STORE_SUFFIXES:
        return STORES
    return OWN_FOLDERS if any(own <= {*files} for own in _OWN_FILES) else None


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be listed ({error.strerror})")


class Exclusion:
    """Patterns of files to leave out, and the number of files that each has matched.

    A pattern is matched against the path below the source, with `/` between folders, against the name alone, and in
    the same two ways against every folder above the file: `*_mask.png`, `masks/*`, `masks`, `**/masks/*.png`. `*` also
    matches `/`; upper and lower case differ.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self.counts = dict.fromkeys(patterns, 0)
        self._compiled = {pattern: re.compile(_expression(pattern)) for pattern in self.counts}

    def hits(self, inside: PurePosixPath) -> bool:
        """True for an excluded file, by its path below the source without `.` or `..`; counts the file."""
        if not self._compiled:
            return False
        names = [text for path in (inside, *inside.parents) if path.parts for text in {str(path), path.name}]
        matching = [p for p, regex in self._compiled.items() if any(regex.match(name) for name in names)]
        for pattern in matching:
            self.counts[pattern] += 1
        return bool(matching)


def excluded_lines(counts: Mapping[str, int]) -> list[str]:
    """One line to print for each pattern, with the number of files that it has matched."""
    return [
        f"{count} file{'' if count == 1 else 's'} excluded by {pattern!r}"
        if count
        else f"no file is excluded by {pattern!r}: it matches no path below the sources and no name"
        for pattern, count in counts.items()
    ]


def _expression(pattern: str) -> str:
    plain = pattern.removeprefix("./").rstrip("/")
    anywhere = "(?:.*/)?" if plain.startswith("**/") else ""
    return anywhere + translate(plain.removeprefix("**/").replace("/**/", "/*"))
