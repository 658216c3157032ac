"""Files that a table names and that do not exist as written: likely causes, and one repair that finds all of them.

A missing name is compared with the files on the disk in several ways, each of which ignores one kind of difference
(`STEPS`). A repair is used if it is the same for all missing names and leads each of them to exactly one file.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from augscale.errors import DataError

Steps = frozenset[str]

STEPS = {
    "folder": "other folder",
    "other extension": "other extension",
    "zeros": "leading zeros lost",
    "number": "12.0 for 12",
    "extension": "extension missing",
    "case": "other upper and lower case",
    "unicode": "other Unicode form (NFC, NFD)",
    "space": "spaces",
    "percent": "%20 for a space",
    "backslash": "backslashes",
}
"""Kinds of difference between a name in a table and a file, with its description in messages; least trusted first."""

_NOT_TAKEN = "other extension"
"""Named as a cause, never used as a repair: `a.png` beside `a.jpg` may be its mask."""

_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".dcm", ".dicom", ".ima", ".gif", ".jp2", ".ppm"}
)
_FLOAT_NUMBER = re.compile(r"(\d+)\.0*")
_SPACES = " \t\u00a0\u2007\u202f\u200b\ufeff"
_FILES_SEARCHED = 2_000_000
_LONGEST_SHOWN = 160


@dataclass(frozen=True, kw_only=True)
class FoundFiles:
    """Paths of the files that a table names.

    Attributes:
        paths: path of each name in the table, including files that are not found.
        reasons: likely cause, by name, for each file that is not found but has similar ones.
        notes: one line about the repair that was used, if any.
    """

    paths: dict[str, Path]
    reasons: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Option:
    """One file that a name may mean."""

    path: Path
    steps: Steps
    """The differences to ignore."""
    dropped: str
    """Folders at the front of the name that the path of the file lacks."""
    shared: int
    """Number of equal folders and names at the end."""


def find_files(table: Path, folder: Path, names: Sequence[str], *, must_exist: bool) -> FoundFiles:
    """The files that a table names, with one repair for all that do not exist as written.

    Args:
        table: for messages.
        folder: names are relative to it; files are searched in it and below.
        names: the names as written in the table.
        must_exist: refuse a table none of whose files can be found.
    Raises:
        DataError: two files fit a name, or no file exists.
    """
    paths = {name: folder / name for name in names}
    missing = [name for name, path in paths.items() if not _is_file(path)]
    if not missing:
        return FoundFiles(paths=paths, reasons={})
    right = {_parent(name) for name in {*names} - {*missing}}
    index = _Index(folder, missing)
    alike = {name: index.options(name) for name in missing}
    # A file that is missing from a folder with other files of the table is not taken from another folder.
    options = {
        name: [option for option in found if "folder" not in option.steps or _parent(name) not in right]
        for name, found in alike.items()
    }
    repair = _common_repair(table, options, everything=len(missing) == len(paths))
    causes = {name: _cause(folder, found) for name, found in alike.items() if found and name not in repair}
    if must_exist and len(missing) == len(paths) and not repair:
        raise DataError(_none_exists(table, folder, paths, causes, index.size))
    paths |= {name: option.path for name, option in repair.items()}
    notes = (_repair_note(table, folder, repair, len(paths)),) if repair else ()
    reasons = {name: f"there is {files} ({words})" for name, (files, words) in causes.items()}
    return FoundFiles(paths=paths, reasons=reasons, notes=notes)


class _Index:
    """Files below a folder and in the folders that the names point to, by a key that ignores all differences."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._by_key: dict[str, list[str]] = {}
        self.size = 0
        outside = {_parent(name) for name in names if "\0" not in name}
        for path in self._files({p for p in outside if os.path.isabs(p) or p.startswith("..")}):
            self._by_key.setdefault(_loose(os.path.basename(path)), []).append(path)

    def options(self, name: str) -> list[_Option]:
        """The files that a name may mean; of those in other folders, only those that share most trailing path parts."""
        base = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
        keys = {_loose(form) for form in (base, _unfloated(base), unquote(base))}
        found = dict.fromkeys(path for key in sorted(keys) for path in self._by_key.get(key, []))
        options = [self._option(name, path) for path in found]
        longest = max((option.shared for option in options if "folder" in option.steps), default=0)
        return [o for o in options if o.steps and ("folder" not in o.steps or o.shared == longest) and _is_file(o.path)]

    def _option(self, name: str, path: str) -> _Option:
        steps = frozenset(STEPS)
        for step in STEPS:
            first, second = _forms(name, path, steps - {step})
            if first == second:
                steps -= {step}
        ends = [[_loose(part) for part in Path(text.replace("\\", "/")).parts[:-1]] for text in (name, path)]
        shared = 0
        while shared < min(map(len, ends)) and ends[0][-1 - shared] == ends[1][-1 - shared]:
            shared += 1
        dropped = "/".join(ends[0][: len(ends[0]) - shared])
        return _Option(path=self._folder / path, steps=steps, dropped=dropped, shared=shared + 1)

    def _files(self, outside: Collection[str]) -> Iterator[str]:
        """Paths as a table would write them, without hidden ones: all below the folder, and those in `outside`."""
        seen = set()
        for here, folders, files in os.walk(self._folder, followlinks=True):
            real = os.path.realpath(here)
            if real in seen or self.size > _FILES_SEARCHED:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inside = os.path.relpath(here, self._folder)
            for name in sorted(name for name in files if not name.startswith(".")):
                self.size += 1
                yield name if inside == "." else f"{inside}/{name}"
        for other in sorted(outside):
            with suppress(OSError):  # missing, or without permission
                yield from sorted(f"{other}/{name}" for name in os.listdir(self._folder / other) if name[0] != ".")


def _common_repair(table: Path, options: dict[str, list[_Option]], *, everything: bool) -> dict[str, _Option]:
    """The one repair that finds a file for every name, by name; empty if there is none.

    If no file exists as written, a repair that finds more than half of them is accepted, too.

    Raises:
        DataError: two files fit a name.
    """
    sets = {option.steps for found in options.values() for option in found if _NOT_TAKEN not in option.steps}
    best: dict[str, list[_Option]] = {}
    for steps in sorted(sets, key=lambda steps: (len(steps), sorted(steps))):
        fits = {name: nearest for name, found in options.items() if (nearest := _nearest(found, steps))}
        moved = {option.dropped for found in fits.values() for option in found if "folder" in option.steps}
        if len(moved) <= 1 and len(fits) > len(best):
            best = fits
    if len(best) < len(options) and not (everything and 2 * len(best) > len(options)):
        return {}
    for name, found in best.items():
        if len(found) > 1:
            first, second = sorted(str(option.path) for option in found)[:2]
            raise DataError(
                f"{table}: {name!r} does not exist as written, and two files fit: {first} and {second}; "
                "expected the path of one, relative to the table"
            )
    return {name: found[0] for name, found in best.items()}


def _nearest(options: Iterable[_Option], steps: Steps = frozenset(STEPS)) -> list[_Option]:
    """The options with the fewest differences among those that differ only in `steps`."""
    fits = [option for option in options if option.steps <= steps]
    least = min((len(option.steps) for option in fits), default=0)
    return [option for option in fits if len(option.steps) == least]


def _forms(name: str, path: str, steps: Steps) -> tuple[str, str]:
    """A name and a path without the differences in `steps`."""
    if "backslash" in steps:
        name = name.replace("\\", "/")
    if not os.path.isabs(name):
        name = os.path.normpath(name)
    if "percent" in steps:
        name = unquote(name)
    both = [name, path]
    if "folder" in steps:
        both = [text.rpartition("/")[2] for text in both]
    if "unicode" in steps:
        both = [unicodedata.normalize("NFC", text) for text in both]
    if "space" in steps:
        both = ["/".join(_trimmed(part) for part in text.split("/")) for text in both]
    if "case" in steps:
        both = [text.casefold() for text in both]
    if "number" in steps:
        head, slash, base = both[0].rpartition("/")
        both[0] = head + slash + _unfloated(base)
    if "extension" in steps and not _suffix(both[0]):
        both[1] = both[1].removesuffix(_suffix(both[1]))
    if "other extension" in steps:
        both = [text.removesuffix(_suffix(text)) for text in both]
    if "zeros" in steps:
        both = [_without_zeros(text) for text in both]
    return both[0], both[1]


def _loose(name: str) -> str:
    """A key that is equal for all names that `_forms` can make equal."""
    text = _trimmed(unicodedata.normalize("NFC", name)).casefold()
    return _without_zeros(_trimmed(text.removesuffix(_suffix(text))))


def _trimmed(part: str) -> str:
    """Without spaces around name and extension."""
    part = part.strip(_SPACES)
    suffix = _suffix(part)
    return part.removesuffix(suffix).strip(_SPACES) + suffix


def _suffix(name: str) -> str:
    """The extension as written if it is an image's, else an empty string."""
    suffix = os.path.splitext(name)[1]
    return suffix if suffix.lower() in _SUFFIXES else ""


def _unfloated(base: str) -> str:
    """`12` for `12.0`, `12.jpg` for `12.0.jpg`."""
    suffix = _suffix(base)
    match = _FLOAT_NUMBER.fullmatch(base.removesuffix(suffix))
    return match[1] + suffix if match else base


def _without_zeros(text: str) -> str:
    head, slash, base = text.rpartition("/")
    stem, suffix = base.removesuffix(_suffix(base)), _suffix(base)
    return head + slash + ((stem.lstrip("0") or "0") if stem.isdecimal() else stem) + suffix


def _parent(name: str) -> str:
    return os.path.dirname(os.path.normpath(name.replace("\\", "/")))


def _is_file(path: Path) -> bool:
    try:
        return os.path.isfile(path)
    except ValueError:  # a NUL byte in the name
        return False


def _words(steps: Steps) -> str:
    return ", ".join(words for step, words in reversed(STEPS.items()) if step in steps)


def _cause(folder: Path, options: Sequence[_Option]) -> tuple[str, str]:
    """The files most similar to a name that is not found, and the likely cause."""
    like = sorted(_nearest(options), key=lambda option: option.path)
    return " and ".join(_below(option.path, folder) for option in like[:2]), _words(like[0].steps)


def _below(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _repair_note(table: Path, folder: Path, repair: dict[str, _Option], total: int) -> str:
    name, option = next(iter(repair.items()))
    steps = frozenset().union(*(option.steps for option in repair.values()))
    return (
        f"{table.name}: {len(repair)} of {total} files do not exist as written and were found by one repair "
        f"({_words(steps)}), e.g. {_below(option.path, folder)} for {name}"
    )


def _none_exists(
    table: Path, folder: Path, paths: dict[str, Path], causes: dict[str, tuple[str, str]], size: int
) -> str:
    name = next(iter(paths))
    cause = f"no file in or below {folder} has a similar name ({size or 'no'} files there)"
    for above in list(folder.absolute().parents)[:2]:
        if _is_file(above / name):
            cause = f"it is there below {above}; move the table to that folder"
            break
    if causes:
        words, count = Counter(words for _, words in causes.values()).most_common(1)[0]
        name, files = next((name, files) for name, (files, found) in causes.items() if found == words)
        cause = f"there is {files} ({words}{f', as for {count} of them' if count > 1 else ''})"
    return (
        f"{table}: {len(paths)} of {len(paths)} files do not exist, e.g. {_short(name)} (looked for as "
        f"{_short(str(paths[name]))}): {cause}; expected paths relative to the table"
    )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN // 2]}...{text[-_LONGEST_SHOWN // 2 :]}"
