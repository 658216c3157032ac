"""Writing binary files so that a reader sees the old one or the new one, never a part."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from augscale.errors import CheckpointError


def write_atomic(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Writes to a temporary file beside `path`, forces it to disk, and puts it in place.

    Args:
        path: the file to make or replace.
        write: gets the open temporary file.
    Raises:
        CheckpointError: the folder cannot be written or the disk is full; the old file is intact.
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
        raise CheckpointError(f"{path}: cannot be written ({reason}); the previous file, if any, is intact") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
