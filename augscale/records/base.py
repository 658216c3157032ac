"""JSON files as typed records: one class writes a file and reads it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from augscale.errors import AugscaleError, DataError, StudyError
from augscale.runs.files import write_json

SCHEMA = 2
"""Version of the layout of files; older files have no version, and their known fields are read."""


class LaterVersion(DataError):
    """The file was written by a later version of augscale."""


class Record(BaseModel):
    """A JSON object with known fields. Immutable; numbers are finite; unknown fields of the file are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.model_dump(mode="json")


class FileRecord(Record):
    """A record with its own file."""

    writer: ClassVar[str] = "augscale"
    """The command that writes the file; named in error messages."""

    def write(self, path: Path, *, error_type: type[AugscaleError] = StudyError) -> None:
        """Writes the file whole or not at all, with its schema version.

        Args:
            error_type: raised if the folder cannot be written; the old file is intact then.
        """
        write_json(path, {"schema": SCHEMA} | self.to_dict(), error_type=error_type)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a file written by `write` of this or an earlier version.

        Raises:
            DataError: the file is missing, is not JSON, is of a later version, or has a field of the wrong type.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        except ValueError:
            raise DataError(f"{path}: not JSON; expected what {cls.writer} writes") from None
        return cls.parse(values, str(path))

    @classmethod
    def read_if_there(cls, path: Path) -> Self | None:
        """As `read`, but None if the file is missing or unreadable, e.g. after a crash.

        Raises:
            DataError: the file is of a later version, and must not be replaced.
        """
        try:
            return cls.read(path)
        except LaterVersion:
            raise
        except DataError:
            return None

    @classmethod
    def parse(cls, values: Any, source: str) -> Self:
        """Checks plain values, e.g. of a file that is already read.

        Raises:
            DataError: as `read`.
        """
        found = values.get("schema", SCHEMA) if isinstance(values, dict) else SCHEMA
        if not isinstance(found, int) or found > SCHEMA:
            raise LaterVersion(f"{source}: schema {found!r}; this version of augscale reads up to {SCHEMA}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "content"
            raise DataError(f"{source}: {where}: {first['msg']}; expected what {cls.writer} writes") from None
