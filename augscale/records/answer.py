"""`answer.json`: the conclusion of a search."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from augscale.records.base import FileRecord, Record
from augscale.records.fields import Interval, Number, Numbers
from augscale.records.manifest import DataRecord, LabelledRecord
from augscale.records.panel import HealthRecord

Outcome = Literal[
    "best found", "no verdict", "training taught nothing", "not finished", "no searched scales", "no usable trial"
]


class VersusRecord(Record):
    """A contender's score minus the best's, paired by seed."""

    difference: float
    interval: tuple[float, float]
    """95 % interval, simultaneous for all pairs of contenders."""
    distinguishable: bool

    @property
    def verdict(self) -> Literal["better", "worse", "not distinguishable"]:
        """The contender compared with the best."""
        if not self.distinguishable:
            return "not distinguishable"
        return "better" if self.difference > 0 else "worse"


class ContenderRecord(Record):
    """One of the scales that were compared at the end."""

    name: str
    kind: Literal["best", "runner-up", "control", "candidate"]
    """Contenders other than controls are candidates until the best is known."""
    number: int | None = None
    state: str = "COMPLETE"
    usable: bool = True
    """Complete and not collapsed."""
    scales: dict[str, Any]
    """Fields of `AugmentationScales`."""
    description: str = ""
    search_score: Number = None
    search_interval: Interval = None
    health: HealthRecord | None = None
    confirm_scores: tuple[float, ...] = ()
    """Scores on fresh seeds, in their order; failed and collapsed runs are left out."""
    confirm_missing: int = 0
    """Confirmation runs that failed, collapsed or have not ended."""
    confirm_mean: Number = None
    confirm_interval: Interval = None
    versus_best: VersusRecord | None = None


class UntrainedComparison(Record):
    """The best's score minus that of the networks before training."""

    score: float
    """Mean of the networks before training."""
    difference: float
    interval: Interval = None
    beaten: bool
    """False if training taught nothing that the score measures; there is no answer then."""
    seeds: int | None = None
    """Number of seeds that the difference rests on; one allows no verdict. None in files of earlier versions."""


class NullRun(Record):
    """A run with learning rate 0."""

    name: str
    """Name of the run's scales."""
    state: str = "missing"
    score: Number = None


class NullRecord(Record):
    """Scores of the runs with learning rate 0."""

    runs: tuple[NullRun, ...] = ()
    untrained: Number = None
    """Score of the network that they began with."""
    shift: Number = None
    """Largest score of a null run minus `untrained`; None if no run has ended."""
    still: bool = False
    """True if every run has the score of the network before training."""

    @property
    def gain(self) -> float:
        """Rise of a score without learning; 0 if the null runs have the score of the network before training."""
        return 0.0 if self.still or self.shift is None else max(0.0, self.shift)


class FailureRecord(Record):
    """Failed trials with the same reason, apart from numbers in it."""

    reason: str
    """First line of the first trial's reason."""
    trials: tuple[int, ...] = ()
    advice: str = ""

    def __str__(self) -> str:
        return f"{len(self.trials)} x {self.reason}"


class UnfinishedRecord(Record):
    """What a search has not done, because its time budget ended."""

    trials: int
    """Trials that were wanted and have not ended."""
    wanted: int
    """Trials that were wanted."""
    confirmations: int
    """Confirmation runs that have not ended, of those that would follow if no further trial began."""
    planned: int
    """Confirmation runs in all."""
    nulls: int = 0
    """Runs with learning rate 0 that have not ended."""
    searched: bool = True
    """False if no searched scales have been tried, only controls."""
    budget: str | None = None
    """`--budget` of the call, as it was given."""


class BackboneRecord(Record):
    """The settings of the backbone, and its size."""

    model_config = ConfigDict(extra="allow")

    name: str | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    init: str | None = None
    parameters: int | None = None


class AnswerRecord(FileRecord):
    """The contenders, their comparison, and its caveats."""

    writer = "augscale search"

    study: str | None = None
    finished: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    device: str | None = None
    data: DataRecord | None = None
    backbone: BackboneRecord | None = None
    steps: int | None = None
    batch_size: int | None = None
    score_name: str = "dprime"
    local_crops: bool = True
    """False if the trials drew no local crops, so that nothing is known of their scales."""
    labels_used: tuple[LabelledRecord, ...] = ()
    best: str | None
    """Name of the best contender; None if no trial completed without collapsing."""
    headline: str
    sentences: tuple[str, ...] = ()
    untrained: UntrainedComparison | None = None
    null: NullRecord | None = None
    """None if no run had learning switched off."""
    null_sentence: str = ""
    caveats: tuple[str, ...] = ()
    contenders: tuple[ContenderRecord, ...]
    importance: Numbers = Field(default_factory=dict)
    """Share of each searched parameter; they add up to 1."""
    importance_by_chance: Number = None
    """95th percentile of the largest share if the score depends on no parameter."""
    counts: dict[str, int] = Field(default_factory=dict)
    """Trials by Optuna's state."""
    failures: tuple[FailureRecord, ...] = ()
    unfinished: UnfinishedRecord | None = None
    """None if the search has run to its end."""
    seconds: Numbers = Field(default_factory=dict)

    @field_validator("labels_used", "caveats", "sentences", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return value or ()

    @property
    def best_contender(self) -> ContenderRecord | None:
        return self.contender(self.best) if self.best is not None else None

    @property
    def outcome(self) -> Outcome:
        if self.best_contender is None:
            return "no usable trial"
        if self.unfinished and not self.unfinished.searched:
            return "no searched scales"
        # Trials that are left do not change what the confirmation has found about those that were made.
        if self.unfinished and (self.unfinished.confirmations or self.unfinished.nulls):
            return "not finished"
        if self.untrained and not self.untrained.beaten:
            return "training taught nothing"
        return "best found" if self.judged else "no verdict"

    @property
    def judged(self) -> bool:
        """True if the best has two or more fresh seeds; fewer allow no verdict."""
        return self.best_contender is not None and len(self.best_contender.confirm_scores) >= 2

    @property
    def untrained_judged(self) -> bool:
        """True if the best was compared with the networks before training on two or more seeds."""
        if self.untrained is None:
            return False
        seeds = self.untrained.seeds
        if seeds is None and self.best_contender:
            seeds = len(self.best_contender.confirm_scores)
        return (seeds or 0) >= 2

    def contender(self, name: str) -> ContenderRecord | None:
        return next((contender for contender in self.contenders if contender.name == name), None)
