"""Reads a run folder; whatever is missing or broken is left out and said so.

Nothing here computes a result: scores, intervals and verdicts are those that the search wrote. A search may still
be running while it is read, and a crash may have left half a file, so every file is optional.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from augscale.reporting.search.records import (
    STATES,
    Answer,
    Contender,
    Health,
    Interval,
    Level,
    NullRuns,
    PanelResult,
    Rung,
    RunResults,
    Trial,
    Versus,
    VersusUntrained,
)
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder

T = TypeVar("T")


def read_run(run_dir: Path) -> RunResults:
    """Reads what is there of a run folder.

    Args:
        run_dir: the folder; of the files in it each may be missing, partial or broken.
    """
    run = RunFolder(run_dir)
    notes: list[str] = []
    trials = _read_all(sorted((run.path / "trials").glob("*/trial.json")), run.path, notes)
    confirmations = _read_all(sorted(run.confirm_dir.glob("*/trial.json")), run.path, notes)
    return RunResults(
        path=run.path,
        answer=_read(run.answer_file, _answer, run.path, notes) if run.answer_file.exists() else None,
        trials=tuple(sorted(trials, key=lambda t: t.number)),
        confirmations=tuple(sorted(confirmations, key=lambda t: (t.number, t.seed_index or 0))),
        untrained=_read(run.untrained_file, _panel, run.path, notes) if run.untrained_file.exists() else None,
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
    parsed = ("headline", "caveats", "best", "contenders", "untrained", "null", "null_sentence", "importance")
    importance = {str(k): v for k, x in _table(values.get("importance")).items() if (v := _number(x)) is not None}
    return Answer(
        headline=str(values["headline"]),
        caveats=tuple(str(caveat) for caveat in values.get("caveats") or ()),
        best=next((c for c in contenders if c.name == values["best"]), None),
        contenders=contenders,
        untrained=_versus_untrained(values.get("untrained")),
        null=_null(values.get("null"), values.get("null_sentence")),
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


def _null(values: Any, sentence: Any) -> NullRuns | None:
    if not isinstance(values, Mapping):
        return None
    runs = [entry for entry in values.get("runs") or () if isinstance(entry, Mapping)]
    scores = {str(entry.get("name")): score for entry in runs if (score := _number(entry.get("score"))) is not None}
    return NullRuns(scores=scores, still=bool(values.get("still")), sentence=str(sentence or ""))


def _versus_untrained(values: Any) -> VersusUntrained | None:
    score, difference = (_number(_table(values).get(key)) for key in ("score", "difference"))
    if score is None or difference is None:
        return None
    interval, beaten = _interval(values.get("interval")), bool(values["beaten"])
    return VersusUntrained(score=score, difference=difference, interval=interval, beaten=beaten)


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
