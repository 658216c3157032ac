"""A run folder read into frozen typed objects; whatever is missing or broken is left out and said so.

Nothing here computes a result: scores, intervals and verdicts are those that the search wrote. A search may still
be running while it is read, and a crash may have left half a file, so every file is optional.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from augscale.runs import RunFolder, read_json

Interval = tuple[float, float]
T = TypeVar("T")

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
        return str(named or _table(self.study.get("probe")).get("score") or "dprime")

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


def read_run(run_dir: Path) -> RunResults:
    """Reads what is there of a run folder.

    Args:
        run_dir: the folder; of the files in it each may be missing, partial or broken.
    """
    run, notes = RunFolder(run_dir), []
    trials = _read_all(sorted((run.path / "trials").glob("*/trial.json")), run.path, notes)
    confirmations = _read_all(sorted(run.confirm_dir.glob("*/trial.json")), run.path, notes)
    return RunResults(
        path=run.path,
        answer=_read(run.answer_file, _answer, run.path, notes) if run.answer_file.exists() else None,
        trials=tuple(sorted(trials, key=lambda t: t.number)),
        confirmations=tuple(sorted(confirmations, key=lambda t: (t.number, t.seed_index or 0))),
        study=_study(run.study_file, notes),
        manifest=_table(read_json(run.manifest_file)),
        has_card=run.best_card.exists(),
        notes=tuple(notes),
    )


def parse_answer(values: Mapping[str, Any]) -> Answer:
    """The typed form of the content of answer.json.

    Raises:
        KeyError, TypeError, ValueError: a part that nothing can be shown without is missing or of another type.
    """
    return _answer(values)


def _read_all(paths: list[Path], root: Path, notes: list[str]) -> list[Trial]:
    return [trial for path in paths if (trial := _read(path, _trial, root, notes))]


def _read(path: Path, parse: Callable[[Any], T], root: Path, notes: list[str]) -> T | None:
    where, content = path.relative_to(root), read_json(path)
    if not isinstance(content, dict):
        notes.append(f"{where} could not be read and is left out")
        return None
    try:
        return parse(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"no key {error}" if isinstance(error, KeyError) else str(error)
        notes.append(f"{where} is incomplete and is left out ({problem})")
        return None


def _study(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} could not be read ({error}); settings are not shown")
        return {}


def _trial(values: Mapping[str, Any]) -> Trial:
    number, control, state = int(values["number"]), values.get("control"), str(values["state"])
    if state not in STATES:
        raise ValueError(f"state {state!r}; expected {', '.join(STATES)}")
    return Trial(
        number=number,
        name=str(values.get("name") or control or f"trial {number}"),
        state=state,
        control=None if control is None else str(control),
        scales=dict(values["scales"]),
        params={str(k): v for k, value in _table(values.get("params")).items() if (v := _number(value)) is not None},
        seed_index=values.get("seed_index"),
        rungs=tuple(_rung(rung) for rung in values.get("rungs") or ()),
        final=_panel(values["final"]) if values.get("final") else None,
        health=_health(values.get("health")),
        reason=str(values["reason"]) if values.get("reason") else None,
        seconds=_number(values.get("seconds")),
        loss_history=tuple(
            (int(step), loss)
            for step, value in values.get("loss_history") or ()
            if (loss := _number(value)) is not None
        ),
    )


def _rung(values: Mapping[str, Any]) -> Rung:
    numbers = {name: _number(values.get(name)) for name in ("score", "effective_rank", "information", "loss")}
    return Rung(step=int(values["step"]), **numbers)


def _panel(values: Mapping[str, Any]) -> PanelResult:
    score = _number(values["score"])
    if score is None:
        raise ValueError(f"score {values['score']!r}; expected a finite number")
    return PanelResult(
        score=score,
        interval=_interval(values.get("interval")),
        levels=tuple(_level(str(name), level) for name, level in _table(values.get("levels")).items()),
        effective_rank=_number(values.get("effective_rank")),
        information=_number(values.get("information")),
    )


def _level(name: str, values: Mapping[str, Any]) -> Level:
    def counts(key: str) -> tuple[float, ...]:
        return tuple(float(x) for x in values.get(key) or ())

    return Level(
        name=name,
        dprime=_number(values.get("dprime")),
        pair_auroc=_number(values.get("pair_auroc")),
        positive_mean=_number(values.get("positive_mean")),
        negative_mean=_number(values.get("negative_mean")),
        positive_histogram=counts("positive_histogram"),
        negative_histogram=counts("negative_histogram"),
        histogram_edges=counts("histogram_edges"),
    )


def _answer(values: Mapping[str, Any]) -> Answer:
    contenders = tuple(_contender(entry) for entry in values["contenders"])
    parsed = ("headline", "caveats", "best", "contenders", "importance")
    importance = {str(k): v for k, x in _table(values.get("importance")).items() if (v := _number(x)) is not None}
    return Answer(
        headline=str(values["headline"]),
        caveats=tuple(str(caveat) for caveat in values.get("caveats") or ()),
        best=next((c for c in contenders if c.name == values["best"]), None),
        contenders=contenders,
        importance=importance,
        facts={name: value for name, value in values.items() if name not in parsed},
    )


def _contender(values: Mapping[str, Any]) -> Contender:
    scores = (_number(score) for score in values.get("confirm_scores") or ())
    return Contender(
        name=str(values["name"]),
        kind=str(values["kind"]),
        number=values.get("number"),
        scales=dict(values["scales"]),
        description=str(values.get("description") or ""),
        search_score=_number(values.get("search_score")),
        search_interval=_interval(values.get("search_interval")),
        confirm_scores=tuple(score for score in scores if score is not None),
        confirm_mean=_number(values.get("confirm_mean")),
        confirm_interval=_interval(values.get("confirm_interval")),
        versus_best=_versus(values.get("versus_best")),
        health=_health(values.get("health")),
    )


def _versus(values: Any) -> Versus | None:
    difference, interval = _number(_table(values).get("difference")), _interval(_table(values).get("interval"))
    if difference is None or interval is None:
        return None
    return Versus(difference=difference, interval=interval, distinguishable=bool(values["distinguishable"]))


def _health(values: Any) -> Health | None:
    if not isinstance(values, Mapping) or "verdict" not in values:
        return None
    return Health(verdict=str(values["verdict"]), evidence=tuple(str(line) for line in values.get("evidence") or ()))


def _interval(values: Any) -> Interval | None:
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        return None
    low, high = _number(values[0]), _number(values[1])
    return None if low is None or high is None else (low, high)


def _number(value: Any) -> float | None:
    """A finite number, else None; JSON readers also pass NaN and Infinity."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
