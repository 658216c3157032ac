"""Patient ids from file names, by a regular expression that the user gives (`data.patient_pattern`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from augscale.data.image_records import ImageRecord
from augscale.errors import DataError


def with_patients(records: Sequence[ImageRecord], pattern: str) -> list[ImageRecord]:
    """The records with patient ids from their names; an id that is known already, e.g. from a table, is kept.

    The pattern is searched in the file name with its ending, or, if it holds a slash, in the path below the source. As
    all patient ids, those from names are comparable within one source only.

    Args:
        records: images of all sources.
        pattern: a regular expression with one group, which is the id.
    Raises:
        DataError: names that do not match, or whose group is empty; the message has the first one and their number.
    """
    expression = re.compile(pattern)
    found, failed, tried = [], [], 0
    for record in records:
        if record.patient_id is not None:
            found.append(record)
            continue
        tried += 1
        name = record.name_below_source
        match = expression.search(name if "/" in pattern else PurePosixPath(name).name)
        patient = match[1].strip() if match and match[1] else ""
        if patient:
            found.append(replace(record, patient_id=patient))
        else:
            failed.append(record.image_id)
    if failed:
        where = "path" if "/" in pattern else "file name"
        raise DataError(
            f"data.patient_pattern = '{pattern}' finds no patient id in {len(failed)} of {tried} names, first "
            f"{min(failed)}; expected a pattern that every {where} matches, --exclude for other files, or a table"
        )
    return found
