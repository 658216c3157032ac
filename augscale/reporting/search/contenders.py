"""The contenders of a search as rows, the same on the terminal, at the top of the report and in notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from augscale.records.answer import AnswerRecord, ContenderRecord, NullRun, Outcome, UntrainedComparison
from augscale.reporting.shared.wording import NOTHING, UNTRAINED, field_value, interval, number, signed

_ONE_SEED = " (search only)"
"""Follows a score that no fresh seed repeated."""

NO_VERDICT = "no verdict"
"""Verdict where one seed was run."""

_FIRST: dict[Outcome, str] = {
    "best found": "best",
    "no verdict": "highest",
    "training taught nothing": "highest",
    "not finished": "highest",
    "no searched scales": "highest",
    "no usable trial": NOTHING,
}
"""The first row's verdict: the highest is not called best if training did not raise it or the search goes on."""


@dataclass(frozen=True, kw_only=True)
class ContenderRow:
    """Scales, score and verdict in words."""

    name: str
    global_area: str = ""
    local_area: str | None = ""
    """Areas of the crops, whole percents of the image; None in all rows of a search that drew no local crops."""
    jitter: str = ""
    score: str = NOTHING
    verdict: str = NOTHING
    kind: str = ""
    """"best", "clear" (worse or better beyond chance), "level" (not distinguishable), or "" (not compared)."""

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of `heads`."""
        areas = (self.global_area,) if self.local_area is None else (self.global_area, self.local_area)
        return self.name, *areas, self.jitter, self.score, self.verdict


def heads(answer: AnswerRecord) -> tuple[str, ...]:
    """Names of the columns."""
    seeds = max((len(contender.confirm_scores) for contender in answer.contenders), default=0)
    where = f"score, {seeds} fresh seed{'s' * (seeds > 1)}" if seeds else "score in the search"
    areas = ("global", "local") if answer.local_crops else ("global",)
    return "", *areas, "jitter", where, "verdict"


def contender_rows(answer: AnswerRecord) -> list[ContenderRow]:
    """The best, the other contenders, the network before training, and the runs with learning rate 0."""
    confirmed = any(contender.confirm_scores for contender in answer.contenders)
    rows = [_contender(contender, answer, confirmed) for contender in _ordered(answer.contenders, answer)]
    rows += [_untrained(answer.untrained, judged=answer.untrained_judged)] if answer.untrained else []
    if answer.null:
        ended = [run for run in answer.null.runs if run.score is not None]
        rows += [_null(run, answer, confirmed, alone=len(ended) == 1) for run in ended]
    return rows if answer.local_crops else [replace(row, local_area=None) for row in rows]


def leader_word(answer: AnswerRecord) -> str:
    """What the leading contender is called in every table: "best", or "highest" where nothing shows that it is."""
    best = answer.best_contender
    one_seed = best is not None and len(best.confirm_scores) < 2 and len(answer.contenders) > 1
    return "highest" if one_seed else _FIRST[answer.outcome]


def verdict_legend(answer: AnswerRecord) -> str:
    """What the verdicts rest on, or why there are none; with fresh seeds, what untrained has on the search's seed.

    Last, whether local crops were drawn.
    """
    null = answer.null
    before = null.untrained if null and any(contender.confirm_scores for contender in answer.contenders) else None
    start = "" if before is None else f" Untrained on the seed of the search, with which null began: {number(before)}."
    if not answer.local_crops:
        start += " Trials drew no local crops."
    if answer.judged:
        return f"Verdicts are differences to the {leader_word(answer)}, paired by seed.{start}"
    more = "the same command goes on" if answer.unfinished else "confirm.seeds = 2 or more does"
    return f"One seed allows no verdict; {more}.{start}"


def _contender(contender: ContenderRecord, answer: AnswerRecord, confirmed: bool) -> ContenderRow:
    scales = contender.scales
    verdict, kind = verdict_on(contender, answer)
    return ContenderRow(
        name=contender.name,
        global_area=_area(scales.get("global_crops_scale")),
        local_area=_area(scales.get("local_crops_scale")),
        jitter=field_value("brightness", scales.get("brightness")),
        score=_score(contender, confirmed),
        verdict=verdict,
        kind=kind,
    )


def verdict_on(contender: ContenderRecord, answer: AnswerRecord) -> tuple[str, str]:
    """The verdict in words, and `ContenderRow.kind`. One seed allows none; the highest is not called the best then."""
    best, versus = answer.best_contender, contender.versus_best
    seeds = len(best.confirm_scores) if best else 0
    if not contender.usable:
        return ("not ended" if contender.state == "RUNNING" else "cannot be used"), ""
    if contender is best:
        return leader_word(answer), "best"
    if versus is None:
        # Beside contenders that were repeated, one that was not is marked as such in the column of scores.
        return (NO_VERDICT if seeds < 2 or contender.confirm_scores else NOTHING), ""
    if not versus.distinguishable:
        return versus.verdict, "level"
    return f"{versus.verdict} by {number(abs(versus.difference))}", "clear"


def _score(contender: ContenderRecord, confirmed: bool) -> str:
    if contender.confirm_mean is not None:
        return _with_bounds(contender.confirm_mean, contender.confirm_interval)
    if confirmed:
        return NOTHING if contender.search_score is None else number(contender.search_score) + _ONE_SEED
    return _with_bounds(contender.search_score, contender.search_interval)


def _untrained(untrained: UntrainedComparison, *, judged: bool) -> ContenderRow:
    if not judged:
        return ContenderRow(name=UNTRAINED, score=number(untrained.score), verdict=NO_VERDICT)
    clear = untrained.beaten
    return ContenderRow(
        name=UNTRAINED,
        score=number(untrained.score),
        verdict=f"worse by {number(untrained.difference)}" if clear else "not worse",
        kind="clear" if clear else "level",
    )


def _null(run: NullRun, answer: AnswerRecord, confirmed: bool, *, alone: bool) -> ContenderRow:
    """A run with learning rate 0, compared with the network that it began with."""
    before = answer.null.untrained if answer.null else None
    shift = None if run.score is None or before is None else run.score - before
    still = before is not None and answer.null is not None and answer.null.still
    return ContenderRow(
        name="null" if alone else f"null {run.name}",
        score=number(run.score) + (_ONE_SEED if confirmed else ""),
        verdict=f"equals its start, {number(before)}"
        if still
        else "moves"
        if shift is None
        else f"moves by {signed(shift)}",
    )


def _ordered(contenders: Sequence[ContenderRecord], answer: AnswerRecord) -> list[ContenderRecord]:
    """The best first, then as in the file."""
    return sorted(contenders, key=lambda contender: contender is not answer.best_contender)


def _area(value: Any) -> str:
    """`93–100`; one decimal below 10 %, where a whole percent would be coarse."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return NOTHING
    low, high = (f"{100 * part:.2g}" if 100 * part < 10 else f"{100 * part:.0f}" for part in map(float, value))
    return low if low == high else f"{low}{NOTHING}{high}"


def _with_bounds(value: float | None, bounds: tuple[float, float] | None) -> str:
    return f"{number(value)} ({interval(bounds)})" if bounds else number(value)
