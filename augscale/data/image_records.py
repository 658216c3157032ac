"""Records of images and of files that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from augscale.errors import DataError

MISSING = "no such file (named by a table, or a broken link)"
_REASONS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One photograph.

    Attributes:
        image_id: source and path below it, e.g. "aptos2019/000c1434d8d7.jpg"; free of absolute paths.
        path: the file; None for a built-in photograph.
        label, split: from tables or folders; pre-training does not use them.
        patient_id: comparable within `source` only.
        eye: "left", "right", or the text of the table.
        source: the folder that was asked for, or the folder below it that holds the table of this image.
        content: hash of the file's bytes, known after reading; equal for exact duplicates.
        origin: the source that was asked for; its files share a range of grey levels.
    """

    image_id: str
    path: Path | None
    label: str | None = None
    split: str | None = None
    patient_id: str | None = None
    eye: str | None = None
    source: str
    content: str | None = None
    origin: str = ""

    @property
    def name_below_source(self) -> str:
        """The path of the image below the source that was asked for."""
        return self.image_id.removeprefix(f"{self.origin}/") if self.origin else self.image_id


@dataclass(frozen=True, kw_only=True)
class BadFile:
    """A file that cannot be used, the reason, and its image id if it was listed as an image."""

    path: Path
    reason: str
    image_id: str | None = None


class UnusableImage(DataError):
    """The file cannot be used as an image; the message is the reason without the path."""


def first_reasons(bad: Sequence[BadFile]) -> str:
    """The first files that cannot be used, with reasons, in one line."""
    shown = "; ".join(f"{entry.path.name}: {entry.reason}" for entry in bad[:_REASONS_SHOWN])
    more = len(bad) - _REASONS_SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown
