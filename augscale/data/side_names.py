"""File names that differ only in an ending for the side of the eye: a hint that patients have several photographs.

The hint takes no patient ids from names: whether such files show one patient is for the user to say, in a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from augscale import doc_pages
from augscale.data.image_records import ImageRecord

_ENDING = re.compile(r"(.*(?:[ _.-]|\d))(left|right|l|r|os|od)", re.IGNORECASE)
_LEFT = ("left", "l", "os")
_LEAST_PAIRS = 2
_LEAST_SHARE = 0.1
"""Of files, those in pairs."""


def side_hint(records: Iterable[ImageRecord]) -> str | None:
    """A line about pairs such as `P11_L.jpg` and `P11_R.jpg`; None if a patient id is known, or pairs are few."""
    names: dict[str, dict[bool, str]] = {}
    count = 0
    for record in records:
        if record.patient_id is not None:
            return None
        count += 1
        path = PurePosixPath(record.image_id)
        if found := _ENDING.fullmatch(path.stem):
            begin, end = found.groups()
            names.setdefault(str(path.parent / begin), {}).setdefault(end.lower() in _LEFT, path.name)
    pairs = [sides for sides in names.values() if len(sides) == 2]
    if len(pairs) < _LEAST_PAIRS or 2 * len(pairs) < _LEAST_SHARE * count:
        return None
    return (
        f"{len(pairs)} pairs of file names differ only in an ending for the side, e.g. {pairs[0][True]} and "
        f"{pairs[0][False]}: if they are the eyes of one patient, give both the same patient_id in a table "
        f"({doc_pages.TABLES})"
    )
