"""What a run folder holds, as frozen typed objects; `results.read_run` fills them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Interval = tuple[float, float]

COLLAPSED = "COLLAPSED"
"""Shown instead of COMPLETE for a trial that ran to its end but whose embeddings or outputs collapsed."""
STATES = ("COMPLETE", "PRUNED", "FAIL", "RUNNING")
"""Optuna's words; a waiting trial has no record yet."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """Pair distances at one level of the panel."""

    name: str
    dprime: float | None
    pair_auroc: float | None
    positive_mean: float | None
    negative_mean: float | None
    positive_histogram: tuple[float, ...]
    """Counts of L2-normalised Euclidean distances, one per bin."""
    negative_histogram: tuple[float, ...]
    histogram_edges: tuple[float, ...]
    """One more than the counts, rising."""

    def separation(self, score_name: str) -> float | None:
        return self.pair_auroc if score_name == "pair_auroc" else self.dprime


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether a run collapsed, and what says so."""

    verdict: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PanelResult:
    """The score of one backbone on the fixed panel."""

    score: float
    interval: Interval | None
    levels: tuple[Level, ...]
    effective_rank: float | None
    information: float | None


@dataclass(frozen=True, kw_only=True)
class Rung:
    """The score on the way."""

    step: int
    score: float | None
    effective_rank: float | None
    information: float | None
    loss: float | None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One short pre-training: a trial of the search or a confirmation run."""

    number: int
    name: str
    state: str
    control: str | None
    scales: Mapping[str, Any]
    params: Mapping[str, float]
    seed_index: int | None
    rungs: tuple[Rung, ...]
    final: PanelResult | None
    health: Health | None
    reason: str | None
    seconds: float | None
    loss_history: tuple[tuple[int, float], ...]

    @property
    def shown_state(self) -> str:
        """The state, or COLLAPSED for a complete trial that may not win."""
        collapsed = self.health is not None and self.health.verdict == "collapsed"
        return COLLAPSED if self.state == "COMPLETE" and collapsed else self.state

    @property
    def score(self) -> float | None:
        """At full length; None for a trial that did not get there."""
        return self.final.score if self.final else None

    @property
    def last_score(self) -> float | None:
        """At the last rung reached; comparable only with others at the same rung."""
        return (
            self.score
            if self.score is not None
            else next((r.score for r in self.rungs[::-1] if r.score is not None), None)
        )

    @property
    def is_usable(self) -> bool:
        """Complete and not collapsed: may be the best."""
        return self.shown_state == "COMPLETE" and self.final is not None


@dataclass(frozen=True, kw_only=True)
class Versus:
    """A contender's score minus the best's, paired by seed."""

    difference: float
    interval: Interval
    distinguishable: bool


@dataclass(frozen=True, kw_only=True)
class VersusUntrained:
    """The best's score minus that of the network before training."""

    score: float
    """Of the network before training."""
    difference: float
    interval: Interval | None
    beaten: bool
    """Where not, training taught nothing that the score sees, and there is no answer."""


@dataclass(frozen=True, kw_only=True)
class NullRuns:
    """What runs with learning rate 0 scored."""

    scores: Mapping[str, float]
    """By the scales of the run; those that ended."""
    still: bool
    """Whether every one scored what the network before training scores."""
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One of the scales that were compared at the end."""

    name: str
    kind: str
    number: int | None
    scales: Mapping[str, Any]
    description: str
    search_score: float | None
    search_interval: Interval | None
    confirm_scores: tuple[float, ...]
    confirm_mean: float | None
    confirm_interval: Interval | None
    versus_best: Versus | None
    health: Health | None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the search concluded, in its own words."""

    headline: str
    caveats: tuple[str, ...]
    best: Contender | None
    contenders: tuple[Contender, ...]
    """In the order of the file; the best is among them."""
    untrained: VersusUntrained | None
    null: NullRuns | None
    """None where learning was switched off in no run."""
    importance: Mapping[str, float]
    facts: Mapping[str, Any]
    """Everything else of the file: study, versions, device, data, backbone, steps, counts, seconds."""

    def contender(self, name: str) -> Contender | None:
        return next((c for c in self.contenders if c.name == name), None)


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """All that a report shows."""

    path: Path
    answer: Answer | None
    """None while the search goes on."""
    trials: tuple[Trial, ...]
    """By number."""
    confirmations: tuple[Trial, ...]
    """By number and seed."""
    untrained: PanelResult | None
    """The network that every trial starts from, on the same panel."""
    study: Mapping[str, Any]
    """The resolved study file, or empty."""
    manifest: Mapping[str, Any]
    """What the run was prepared with (data, device, versions), or empty."""
    has_card: bool
    """Whether best.toml exists."""
    notes: tuple[str, ...]
    """What could not be read, a line each."""

    @property
    def score_name(self) -> str:
        named = self.answer.facts.get("score_name") if self.answer else None
        return str(named or self.setting("probe", "score") or "dprime")

    def setting(self, section: str, key: str) -> Any:
        """A setting of the study, or None where the file does not say."""
        table = self.study.get(section)
        return table.get(key) if isinstance(table, Mapping) else None

    @property
    def best_trial(self) -> Trial | None:
        """The trial of the answer's best; before there is an answer the usable one with the highest score."""
        if self.answer:
            return self._trial(self.answer.best.number) if self.answer.best else None
        return max((t for t in self.trials if t.is_usable), key=lambda t: (t.score, -t.number), default=None)

    @property
    def controls(self) -> tuple[Trial, ...]:
        """Trials of fixed scales, such as strong and weak."""
        return tuple(t for t in self.trials if t.control is not None)

    @property
    def best_and_controls(self) -> tuple[Trial, ...]:
        """The trials that figures name, the best first."""
        best = self.best_trial
        return (() if best is None else (best,)) + tuple(t for t in self.controls if t is not best)

    def count(self, shown_state: str) -> int:
        return sum(t.shown_state == shown_state for t in self.trials)

    def _trial(self, number: int | None) -> Trial | None:
        return next((t for t in self.trials if t.number == number), None)
