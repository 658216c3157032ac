"""`trial.json`: all results of one short pre-training: a trial, a confirmation run or a null run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from augscale.records.base import FileRecord, Record
from augscale.records.fields import Number, Numbers, Points
from augscale.records.panel import HealthRecord, PanelRecord

TRIAL_FILE = "trial.json"
State = Literal["RUNNING", "COMPLETE", "PRUNED", "FAIL"]
"""Optuna's words; a waiting trial has no record yet."""
RepeatKind = Literal["candidate", "control", "null"]
"""A confirmation run of a candidate or a control, or a null run."""
COLLAPSED = "COLLAPSED"
"""Shown instead of COMPLETE for a complete trial whose embeddings or outputs collapsed."""
_OF_REPEATS = {"name", "kind", "seed_index"}
_OPTIONAL = {"starts", "began_again"}


class RungRecord(Record):
    """The score at a rung."""

    step: int
    """Optimizer updates done."""
    fraction: Number = None
    """Share of the trial's length."""
    score: Number = None
    levels: dict[str, Number] = Field(default_factory=dict)
    """Separation by level of the panel."""
    effective_rank: Number = None
    information: Number = None
    loss: Number = None
    seconds: Number = None
    """Time for scoring; None in records of earlier versions."""


class MicroBatchChangeRecord(Record):
    """See `pretraining.micro_batches.MicroBatchChange`."""

    step: int
    before: int
    after: int
    cause: str
    message: str = ""


class MicroBatchesRecord(Record):
    """See `pretraining.micro_batches.MicroBatches`."""

    number: int
    size: int
    batch_norm: bool
    changes: tuple[MicroBatchChangeRecord, ...] = ()
    note: str | None = None


class TrialRecord(FileRecord):
    """One short pre-training."""

    writer = "augscale search"

    number: int
    """Number of the trial; for a confirmation run, of the repeated trial; for a null run, its index among null runs."""
    name: str
    """The control's name, else "trial N"; written for confirmation and null runs only."""
    kind: RepeatKind | None = None
    """None for trials of the search."""
    seed_index: int | None = None
    """Number of the fresh seed; None for trials of the search."""
    control: str | None = None
    params: Numbers = Field(default_factory=dict)
    """Optuna's parameters; empty for a control outside the space."""
    starts: int | None = None
    """Number of times that a worker started the trial."""
    began_again: str | None = None
    """Reason for a restart from the first step: the error in the saved state."""
    state: State = "RUNNING"
    scales: dict[str, Any]
    """Fields of `AugmentationScales`."""
    seed: int = 0
    threads: int | None = None
    """CPU threads."""
    rungs: tuple[RungRecord, ...] = ()
    final: PanelRecord | None = None
    """Score at full length."""
    health: HealthRecord | None = None
    """Verdict at the last rung reached."""
    reason: str | None = None
    """Reason for a failure."""
    pruned_at: int | None = None
    seconds: Number = None
    images_per_second: Number = None
    seconds_by_part: Numbers = Field(default_factory=dict)
    loss_history: Points = ()
    """Loss in nats over steps."""
    micro_batches: MicroBatchesRecord | None = None
    started: str | None = None
    finished: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return values | {"name": values.get("name") or values.get("control") or f"trial {values.get('number')}"}

    @classmethod
    def in_folder(cls, directory: Path) -> Self | None:
        """The record in the folder of a trial; None if there is no readable one."""
        return cls.read_if_there(directory / TRIAL_FILE)

    def keep(self, directory: Path) -> Self:
        """Writes the record into the folder of a trial; returns the record."""
        self.write(directory / TRIAL_FILE)
        return self

    def to_dict(self) -> dict[str, Any]:
        left_out = {name for name in _OPTIONAL if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude=left_out | (_OF_REPEATS if self.kind is None else set()))

    @property
    def has_ended(self) -> bool:
        """True if a confirmation or null run needs no further work."""
        return self.state in ("COMPLETE", "FAIL")

    @property
    def collapsed(self) -> bool:
        return self.health is not None and self.health.verdict == "collapsed"

    @property
    def shown_state(self) -> str:
        """The state, or COLLAPSED for a complete trial that may not win."""
        return COLLAPSED if self.state == "COMPLETE" and self.collapsed else self.state

    @property
    def score(self) -> float | None:
        """Score at full length; None for a trial that did not get there."""
        return self.final.score if self.final else None

    @property
    def last_score(self) -> float | None:
        """Score at the last rung reached; comparable only with others at the same rung."""
        if self.score is not None:
            return self.score
        return next((rung.score for rung in self.rungs[::-1] if rung.score is not None), None)

    @property
    def is_usable(self) -> bool:
        """True if complete and not collapsed, so that it may be the best."""
        return self.shown_state == "COMPLETE" and self.final is not None

    def rung(self, step: int) -> RungRecord | None:
        """The record of the rung at `step`; None if the trial did not get there."""
        return next((rung for rung in self.rungs if rung.step == step), None)
