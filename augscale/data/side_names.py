"""File names that differ only in an ending for the side of the eye: a hint that patients have several photographs.

The hint takes no patient ids from names: whether such files show one patient is for the user to say, by the option that
it proposes, or in a table.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import PurePosixPath

from augscale import doc_pages
from augscale.data.image_records import ImageRecord
from augscale.data.patient_names import with_patients
from augscale.errors import DataError

_ENDING = re.compile(r"(.*)(?:([ _.-])|(?<=\d))(left|right|l|r|os|od)", re.IGNORECASE)
_LEFT = ("left", "l", "os")
_LEAST_PAIRS = 2
_LEAST_SHARE = 0.1
"""Of files, those in pairs."""


def side_hint(records: Iterable[ImageRecord]) -> str | None:
    """A line about pairs such as `P11_L.jpg` and `P11_R.jpg`; None if a patient id is known, or pairs are few."""
    names: dict[str, dict[bool, str]] = {}
    endings: dict[str, set[str]] = {}
    records = list(records)
    for record in records:
        if record.patient_id is not None:
            return None
        path = PurePosixPath(record.image_id)
        if found := _ENDING.fullmatch(path.stem):
            begin, mark, end = found.groups(default="")
            key = f"{path.parent / begin}{mark}"
            names.setdefault(key, {}).setdefault(end.lower() in _LEFT, path.name)
            endings.setdefault(key, set()).add((mark.replace(".", r"\.") or r"(?<=\d)") + end)
    pairs = {key: sides for key, sides in names.items() if len(sides) == 2}
    if len(pairs) < _LEAST_PAIRS or 2 * len(pairs) < _LEAST_SHARE * len(records):
        return None
    left, right = (next(iter(pairs.values()))[side] for side in (True, False))
    pattern = rf"^(.+?)(?:{'|'.join(sorted(set().union(*(endings[key] for key in pairs))))})?\.\w+$"
    option = f"--patients-from {shlex.quote(pattern)} says so, or " if _fits(pattern, records) else ""
    return (
        f"{len(pairs)} pairs of file names differ only in an ending for the side, e.g. {left} and {right}: "
        f"if they are the eyes of one patient, {option}give both the same patient_id in a table ({doc_pages.TABLES})"
    )


def _fits(pattern: str, records: list[ImageRecord]) -> bool:
    """True if every name matches the pattern, and it joins the files of one side and the other and no others."""
    try:
        patients = {(record.source, record.patient_id) for record in with_patients(records, pattern)}
    except DataError:
        return False
    paths = [PurePosixPath(record.image_id) for record in records]
    begins = {path.parent / (found[1] if (found := _ENDING.fullmatch(path.stem)) else path.stem) for path in paths}
    return len(patients) == len(begins)
