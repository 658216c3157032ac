"""Sentences and numbers of a diagnosis, the same on the page and on the terminal."""

from __future__ import annotations

from augscale.records.diagnosis import LADDER, CheckpointRecord, Comparison, DiagnosisRecord, Metric
from augscale.reporting.shared.wording import NOTHING, interval, number, signed
from augscale.settings import joined

MAIN = "pair_auroc"
PAPER_SILHOUETTES = {"strong": 0.117, "weak": 0.201, "weak+med": 0.130}
PAPER_REMARK = (
    "The paper's own silhouettes of view groups: strong 0.117, weak 0.201, weak+med 0.130. It does not state the image "
    "set, the layer or the distance, so they are a rough orientation only."
)
SCOPE = (
    "All metrics are label-free or use frozen features: better separated pairs do not promise better fine-tuning. "
    "Intervals cover the choice of patients, not the randomness of training.",
    "A checkpoint separates views like its training views more easily, so compare the levels with each other.",
)


def digits(value: float) -> int:
    """Decimals that keep three to four significant figures."""
    return 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 3 if abs(value) >= 0.001 or value == 0 else 5


def value_text(value: float | None, *, places: int | None = None) -> str:
    """A metric's value, or a dash."""
    if value is None:
        return NOTHING
    return number(value, digits(value) if places is None else places)


def metric_text(metric: Metric | None, *, places: int | None = None) -> tuple[str, str]:
    """Value and interval, in the same decimals; the interval is empty where there is none."""
    if metric is None or metric.value is None:
        return NOTHING, ""
    places = digits(metric.value) if places is None else places
    return number(metric.value, places), interval(metric.interval, digits=places)


def usable(diagnosis: DiagnosisRecord) -> list[CheckpointRecord]:
    """Checkpoints that are not collapsed and have a value of the main metric, the highest first."""
    found = [c for c in diagnosis.checkpoints if not c.is_collapsed and _main(c) is not None]
    return sorted(found, key=lambda c: -(_main(c) or 0.0))


def where_words(diagnosis: DiagnosisRecord) -> str:
    """Phrase for the levels over which the main metric is averaged, e.g. "on the ladder"."""
    names = diagnosis.ladder_levels
    if any(level.kind == LADDER for level in diagnosis.levels):
        return "on the ladder"
    return f"at {names[0]}" if len(names) == 1 else "over all levels"


def verdict_words(checkpoint: CheckpointRecord) -> str:
    """The verdict, or "not judged"."""
    return checkpoint.health.verdict or "not judged"


def headline(diagnosis: DiagnosisRecord) -> str:
    """The main finding in one sentence."""
    checkpoints, ranked = diagnosis.checkpoints, usable(diagnosis)
    label, where = diagnosis.meaning(MAIN).label, where_words(diagnosis)
    if not checkpoints:
        return "No checkpoint has been diagnosed"
    if len(checkpoints) == 1:
        return f"{checkpoints[0].name} {_is(checkpoints[0])}"
    if all(c.is_collapsed for c in checkpoints):
        return f"All {len(checkpoints)} checkpoints have collapsed"
    if not ranked:
        return f"{len(checkpoints)} checkpoints; none could be compared by {label} {where}"
    leader, others = ranked[0], ranked[1:]
    found = {c.name: comparison(diagnosis, leader.name, c.name) for c in others}
    if not others:
        rest = "the others have collapsed" if len(checkpoints) > 2 else "the other has collapsed"
        return f"{leader.name} is the only checkpoint that separates pairs at all; {rest}"
    if any(c is None for c in found.values()):
        return f"{leader.name} has the highest {label} {where}; whether the difference is due to chance was not tested"
    alike = [name for name, c in found.items() if c and not c.distinguishable]
    if not alike:
        return f"{leader.name} separates pairs best, by {label} {where}"
    return f"{leader.name} has the highest {label} {where}, but is not distinguishable from {joined(alike)}"


def comparison(diagnosis: DiagnosisRecord, a: str, b: str, metric: str = MAIN) -> Comparison | None:
    """The comparison of two checkpoints on the ladder, with `a` as the first of the two."""
    for found in diagnosis.comparisons:
        if found.metric != metric or not is_over_ladder(found):
            continue
        if (found.a, found.b) == (a, b):
            return found
        if (found.a, found.b) == (b, a):
            return turned(found)
    return None


def is_over_ladder(found: Comparison) -> bool:
    """True for means over the ladder; comparisons without a level count as such."""
    return found.level in (LADDER, "")


def turned(found: Comparison) -> Comparison:
    """The same comparison with both checkpoints swapped."""
    bounds = (-found.interval[1], -found.interval[0]) if found.interval else None
    changes = {"a": found.b, "b": found.a, "difference": -found.difference, "interval": bounds}
    return found.model_copy(update=changes)


def comparison_words(diagnosis: DiagnosisRecord, found: Comparison) -> str:
    """better, worse, or not distinguishable; higher or lower where neither is better."""
    if not found.distinguishable:
        return "not distinguishable"
    direction = diagnosis.meaning(found.metric).direction
    up = found.difference > 0
    if direction == "none":
        return "higher" if up else "lower"
    return "better" if up == (direction == "higher") else "worse"


def difference_text(found: Comparison) -> str:
    """`+0.300 (+0.100 to +0.500)`."""
    bounds = interval(found.interval, sign=True)
    return f"{signed(found.difference)} ({bounds})" if bounds else signed(found.difference)


def _main(checkpoint: CheckpointRecord) -> float | None:
    return checkpoint.ladder.get(MAIN, Metric()).value


def _is(checkpoint: CheckpointRecord) -> str:
    if checkpoint.is_collapsed:
        return "has collapsed"
    return "looks healthy" if checkpoint.health.verdict == "healthy" else f"is {verdict_words(checkpoint)}"
