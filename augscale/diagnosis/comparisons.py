"""Means over the ladder, and differences between checkpoints."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from augscale.diagnosis.measure import LevelMeasures
from augscale.records.diagnosis import LADDER, Comparison
from augscale.statistics.panel_bootstrap import Measured, measured, paired_difference

COMPARED = ("dprime", "pair_auroc")
"""Metrics whose difference between two checkpoints gets an interval."""


def ladder_means(levels: Mapping[str, LevelMeasures], names: Sequence[str]) -> dict[str, Measured]:
    """Mean over the ladder's levels of every metric, with its interval; a metric missing at a level is left out."""
    means: dict[str, Measured] = {}
    rungs = [levels[name].metrics for name in names if name in levels]
    for metric in rungs[0] if rungs else ():
        values = [rung[metric] for rung in rungs]
        numbers = [v.value for v in values if v.value is not None]
        if len(numbers) == len(values):
            means[metric] = measured(float(np.mean(numbers)), np.mean([v.replicates for v in values], axis=0))
    return means


def difference(a: Measured | None, b: Measured | None) -> tuple[float, float, float] | None:
    """The value of a minus that of b, and its interval; None if there is no interval."""
    if a is None or b is None or a.value is None or b.value is None:
        return None
    interval = paired_difference(a, b)
    return None if interval is None else (a.value - b.value, *interval)


def compare(ladders: Mapping[str, Mapping[str, Measured]]) -> tuple[Comparison, ...]:
    """Differences between the ladder means of every two checkpoints, paired resample by resample.

    Args:
        ladders: ladder means by checkpoint.
    """
    found = []
    for (a, b), metric in itertools.product(itertools.combinations(ladders, 2), COMPARED):
        between = difference(ladders[a].get(metric), ladders[b].get(metric))
        if between is not None:
            value, low, high = between
            found.append(
                Comparison(
                    level=LADDER,
                    metric=metric,
                    a=a,
                    b=b,
                    difference=value,
                    interval=(low, high),
                    distinguishable=not low <= 0 <= high,
                )
            )
    return tuple(found)


def disagreements(comparisons: Sequence[Comparison]) -> list[str]:
    """Sentences on pairs of checkpoints that the two compared metrics order differently, each distinguishably."""
    by_pair: dict[tuple[str, str], dict[str, Comparison]] = {}
    for comparison in comparisons:
        by_pair.setdefault((comparison.a, comparison.b), {})[comparison.metric] = comparison
    notes = []
    for (a, b), found in by_pair.items():
        auroc, gap = found.get("pair_auroc"), found.get("dprime")
        if auroc and gap and auroc.distinguishable and gap.distinguishable and auroc.difference * gap.difference < 0:
            higher = a if auroc.difference > 0 else b
            notes.append(
                f"{a} and {b}: pair AUROC is higher for {higher}, d' for the other. A few photographs far from all "
                "others widen the spread that d' divides by; the AUROC counts order only"
            )
    return notes
