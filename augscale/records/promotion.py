"""promotion.json: what `augscale promote` has pre-trained in full."""

from __future__ import annotations

from typing import ClassVar

from augscale.records.base import FileRecord, Record


class ContenderSummary(Record):
    """Outcome of one full pre-training."""

    steps: int
    epochs: float
    loss: float
    """Nats, of the last batch; so is `information`."""
    information: float
    score: float
    """On the probe panel, at the end."""
    score_name: str
    seconds: float


class PromotedContender(ContenderSummary):
    """An entry of promotion.json."""

    name: str
    weights: str
    """Relative to the folder of promotion.json."""


class PromotionRecord(FileRecord):
    """promotion.json."""

    writer: ClassVar[str] = "augscale promote"

    finished: str
    """Time, ISO 8601."""
    versions: dict[str, str]
    confirmation: str
    """Headline of the confirmation on fresh seeds."""
    contenders: tuple[PromotedContender, ...]
