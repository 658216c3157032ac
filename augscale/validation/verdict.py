"""The sentences of a validation: a headline about one cell that was fixed beforehand, and further sentences."""

from __future__ import annotations

from collections.abc import Sequence

from augscale.records.validation import Chance, CorrelationCell, NetworkRow, OutcomeColumn, Regret

NOTABLE_RELIABILITY = 0.5
"""Below this, more than half of the spread between trials comes from the choice of test images."""


def headline(cell: CorrelationCell, outcome: OutcomeColumn, *, adaptive: bool = False) -> str:
    """States the agreement of the study's score with the primary outcome.

    Args:
        cell: the correlation.
        outcome: the primary outcome.
        adaptive: True if trials were chosen by the scores of earlier ones. Such trials cluster, so that unrelated
            scores and outcomes often agree or disagree (docs/experiments.md); the sentence then makes no statement
            about chance.
    """
    what = outcome.label
    if cell.spearman is None:
        return f"Whether the score's rank agrees with {what} cannot be told: {cell.note}."
    numbers = f"Spearman {_signed(cell.spearman)}{_bounds(cell.spearman_interval)}, {cell.n} trials"
    if cell.spearman_interval is None:
        return f"On this data the score's rank against {what}: {numbers}; {cell.note}."
    low, high = cell.spearman_interval
    # Both are required: percentile intervals of a few trials are rough, and the permutation p ignores test images.
    clear = cell.p_value is not None and cell.p_value < 0.05
    unknown = "whether by chance cannot be told, see the notes"
    if clear and low > 0:
        chance = unknown if adaptive else "better than chance"
        return f"On this data the score's rank agrees with {what}: {numbers}: {chance}."
    if clear and high < 0:
        chance = unknown if adaptive else "worse than chance"
        return f"On this data the score ranks trials against {what}: {numbers}: {chance}."
    return f"On this data the score's rank is not shown to agree with {what} better than chance does: {numbers}."


def regret_sentence(found: Regret, outcome: OutcomeColumn) -> str:
    """The loss of choosing by the score instead of by labels, and the gain over the alternatives."""
    if found.regret is None:
        return f"No regret in {outcome.label}: {found.note}."
    corrected = ""
    if found.regret_crossfitted is not None:
        corrected = (
            f"; {_signed(found.regret_crossfitted)} if the best is chosen on half of the test images and judged on the "
            "other"
        )
    elif found.regret_corrected is not None:
        corrected = f"; {_signed(found.regret_corrected)} corrected for the luck of the best"
    gains = ", ".join(
        f"{_signed(other.gain)}{_bounds(other.gain_interval)} over "
        f"{'a trial at random' if other.name == 'random' else other.name}"
        for other in found.alternatives
    )
    return (
        f"{outcome.label}: the score picks {found.pick} ({_number(found.pick_outcome)}), labels would pick "
        f"{found.best} ({_number(found.best_outcome)}): regret {_number(found.regret)}{corrected}. "
        f"The pick gains {gains}."
    )


def reference_sentence(rows: Sequence[NetworkRow], outcome: OutcomeColumn) -> str:
    """Number of trials that beat each reference."""
    trials = sum(row.used for row in rows)
    parts = [f"{count} of {trials} trials are above {name}" for name, count in outcome.above.items()]
    return f"{outcome.label}: {', '.join(parts)}." if parts else ""


def reliability_sentence(outcome: OutcomeColumn) -> str:
    """The highest possible correlation, if the choice of test images limits it; else ""."""
    if outcome.reliability is None or outcome.reliability >= NOTABLE_RELIABILITY:
        return ""
    ceiling = outcome.reliability**0.5
    return (
        f"{outcome.label}: {outcome.reliability:.0%} of the spread between trials is more than chance of the test "
        f"images, so that even a perfect score would correlate by about {ceiling:.2f} only. More test images or longer "
        "trials would tell more."
    )


def chance_sentence(chance: Chance, num_metrics: int, num_outcomes: int) -> str:
    """Number of cells that would stand out by chance."""
    if not chance.cells or chance.largest is None or chance.largest_by_chance is None:
        return ""
    beyond = "stands out" if chance.largest > chance.largest_by_chance else "does not stand out"
    return (
        f"{num_metrics} metrics x {num_outcomes} outcomes are {chance.cells} correlations, which go together. "
        f"{chance.observed} have p below 0.05; with trials shuffled {chance.expected:.0f} do on average, and up to "
        f"{chance.most} in 95 % of shuffles. The largest, {chance.largest:.2f} in size, {beyond}: chance alone "
        f"gives one of {chance.largest_by_chance:.2f} or more in 5 % (p {chance.p_value:.3f} corrected for all)."
    )


def selection_note(num_used: int, num_finished: int, keep_weights: str) -> str:
    """Note that correlations over kept weights differ from those over all trials; "" if all weights were kept."""
    if num_used >= num_finished or keep_weights != "best":
        return ""
    return (
        "the kept weights are those of the controls and of the best trials by this score: correlations over such a "
        "selection are not those over all trials"
    )


def adaptive_note() -> str:
    """Note that the trials of a TPE search cannot show that a score is better than chance."""
    return (
        "these trials were chosen by the scores of earlier ones and crowd together: intervals, p-values and shuffles, "
        "which take trials for independent, find agreement or disagreement too often (in simulations in 12 to 28 % of "
        'searches instead of 5 %). Trials of search.sampler = "random" or "qmc" can be tested'
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}" if abs(value) < 0.1 else f"{value:+.2f}"


def _bounds(bounds: tuple[float, float] | None) -> str:
    if not bounds:
        return ""
    digits = 3 if max(map(abs, bounds)) < 0.1 else 2
    return f" [{bounds[0]:+.{digits}f}, {bounds[1]:+.{digits}f}]"
