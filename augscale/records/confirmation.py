"""`confirm/plan.json`: the contenders that are repeated on fresh seeds."""

from __future__ import annotations

from typing import Any, Literal

from augscale.records.base import FileRecord, Record


class PlannedContender(Record):
    """A trial that is repeated."""

    name: str
    kind: Literal["candidate", "control"]
    number: int
    scales: dict[str, Any]
    """Fields of `AugmentationScales`."""


class PlanRecord(FileRecord):
    """The contenders, and the settings that their choice depended on."""

    writer = "augscale search"

    trials: int | None = None
    """Number of trials started by then; None in plans of earlier versions, as are the next two."""
    top_k: int | None = None
    seeds: int | None = None
    contenders: tuple[PlannedContender, ...] = ()
