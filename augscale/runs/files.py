"""Atomic writing of files: a reader sees the old or the new content, never a part of it, even after a crash."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from augscale.errors import AugscaleError, CheckpointError, StudyError


def write_atomic(
    path: Path, write: Callable[[IO[bytes]], object], *, error_type: type[AugscaleError] = CheckpointError
) -> None:
    """Writes to a temporary file beside `path`, forces it to disk, and renames it.

    Args:
        path: the file to make or replace.
        write: writes the content to the open temporary file that it is given.
        error_type: raised if the folder cannot be written or the disk is full; the old file is intact then.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except (OSError, RuntimeError) as error:
        # torch's own writer reports a full disk as a RuntimeError.
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise error_type(f"{path}: cannot be written ({reason}); the previous file, if any, is intact") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_bytes_atomic(path: Path, content: bytes, *, error_type: type[AugscaleError] = StudyError) -> None:
    """Writes a binary file, see `write_atomic`."""
    write_atomic(path, lambda file: file.write(content), error_type=error_type)


def write_text_atomic(path: Path, text: str, *, error_type: type[AugscaleError] = StudyError) -> None:
    r"""Writes a UTF-8 file, see `write_atomic`; bytes of file names that are not UTF-8 become \xNN."""
    write_bytes_atomic(path, text.encode("utf-8", "backslashreplace"), error_type=error_type)


def write_json(path: Path, value: Any, *, error_type: type[AugscaleError] = StudyError) -> None:
    """Writes JSON, see `write_atomic`; non-finite numbers are refused, because other programs cannot read them."""
    write_text_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n", error_type=error_type)


def read_json(path: Path) -> Any:
    """The parsed file; None if it is missing or unreadable."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
