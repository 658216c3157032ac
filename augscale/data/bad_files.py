"""Files that cannot be used, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MISSING = "no such file (named by a table, or a broken link)"
_REASONS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class BadFile:
    """A file that cannot be used, and why; with its image id where it was listed as an image."""

    path: Path
    reason: str
    image_id: str | None = None


def first_reasons(bad: Sequence[BadFile]) -> str:
    """The first files set aside, in one line."""
    shown = "; ".join(f"{entry.path.name}: {entry.reason}" for entry in bad[:_REASONS_SHOWN])
    more = len(bad) - _REASONS_SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown
