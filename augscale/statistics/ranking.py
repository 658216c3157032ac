"""Agreement of a score with a downstream outcome over trials, and what choosing by the score costs.

Two kinds of chance are in the intervals: which trials were run (whole groups, e.g. the seeds of one setting, are drawn
with replacement) and, where the outcomes of resampled test images are given, which images the outcome was measured
on. Replicate b pairs draw b of the groups with draw b (modulo their number) of the images, and depends on the seed and
the number of groups only: two scores compared on the same trials see the same replicates, so differences of their
`replicates` are paired.

Intervals are percentile intervals. Resampled images add the noise of an outcome a second time, which pulls the
replicates of a correlation towards 0: intervals over trials and images lean to "no agreement", not away from it.

Axes: n rows (trials), G groups, B replicates, R draws of the test images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from augscale.errors import DataError
from augscale.seeding import counter_uniforms, derive_seed
from augscale.statistics.trial_rows import (
    Floats,
    group_means,
    group_names,
    group_numbers,
    outcome_versions,
    value_rows,
)
from augscale.statistics.weighted_ranks import kendall, spearman

Interval = tuple[float, float]
Kind = Literal["spearman", "kendall"]

MIN_ROWS = 4
"""Fewer rows (or groups) say nothing: with three, a third of all orders agree perfectly or are perfectly opposed."""
BOOTSTRAP = 2000
MIN_DEFINED = 0.9
"""An interval needs at least this share of replicates in which the correlation is defined."""


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """How far a score ranks as an outcome does: 1 the same order, -1 the opposite, 0 none."""

    value: float | None
    """In [-1, 1]; None where `note` says why."""
    interval: Interval | None
    """95 %, over groups and, if given, test images."""
    n: int
    num_groups: int
    note: str
    """Why a value or interval is missing; else empty."""
    replicates: Floats = field(repr=False, compare=False)
    """float64, shape (B,); NaN where a replicate is undefined; empty without value or bootstrap."""


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """Another way to choose: a control, or a trial at random."""

    name: str
    outcome: float
    regret: float
    """Outcome of the best by labels minus this one."""
    regret_interval: Interval | None
    gain: float
    """Outcome of the score's pick minus this one: above 0 the score was worth following."""
    gain_interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Regret:
    """What choosing by the score costs against choosing by labels; outcomes in their own unit, higher is better."""

    best: str | None
    best_outcome: float | None
    """Of the choice with the highest outcome: too high, because the luckiest of several noisy values is taken."""
    best_corrected: float | None
    """The same less the optimism that the image draws show; None without draws."""
    best_crossfitted: float | None
    """Chosen on one half of the images and judged on the other; None without halves."""
    pick: str | None
    """The choice with the highest score."""
    pick_outcome: float | None
    regret: float | None
    """`best_outcome` - `pick_outcome`, at least 0."""
    regret_corrected: float | None
    regret_crossfitted: float | None
    """Can be below 0: then choosing by labels of half the images was worse than the score's pick."""
    interval: Interval | None
    """Of `regret`."""
    alternatives: tuple[Alternative, ...]
    """The controls in the order given, then "random"."""
    num_choices: int
    note: str


def rank_correlation(
    scores: npt.ArrayLike,
    outcomes: npt.ArrayLike,
    *,
    kind: Kind = "spearman",
    groups: npt.ArrayLike | None = None,
    outcome_draws: npt.ArrayLike | None = None,
    bootstrap: int = BOOTSTRAP,
    seed: int = 0,
) -> Correlation:
    """Spearman's rho or Kendall's tau-b of a score with an outcome, with a bootstrap interval.

    Ties get average ranks (rho) or are corrected for (tau-b): values equal `scipy.stats.spearmanr` and `kendalltau`.

    Args:
        scores: float, shape (n,).
        outcomes: float, shape (n,).
        kind: "spearman" or "kendall".
        groups: int, shape (n,): rows with one number are resampled together; None: each row alone.
        outcome_draws: float, shape (R, n): the outcomes on resampled test images, the same images for all rows.
        bootstrap: B; 0 gives no interval.
        seed: any integer.
    Raises:
        DataError: shapes differ, or a value is not finite.
    """
    x, y = value_rows(scores, "scores"), value_rows(outcomes, "outcomes")
    n = len(x)
    group_of, num_groups = group_numbers(groups, n)
    draws = outcome_versions(outcome_draws, n)
    if y.shape != x.shape:
        raise DataError(f"outcomes: {len(y)} values for {n} scores; expected one each")
    correlate = {"spearman": spearman, "kendall": kendall}[kind]
    note = _undefined(x, y)
    if note:
        return Correlation(
            value=None, interval=None, n=n, num_groups=num_groups, note=note, replicates=np.empty(0, np.float64)
        )
    value = float(correlate(np.ones((1, n)), x, y[None])[0])
    replicates, interval = np.empty(0, np.float64), None
    if num_groups < MIN_ROWS:
        note = f"no interval: {num_groups} groups to resample; expected at least {MIN_ROWS}"
    elif bootstrap:
        weights = group_weights(num_groups, bootstrap, seed)[:, group_of]
        replicates = correlate(weights, x, y[None] if draws is None else draws)
        interval, note = _interval(replicates)
    return Correlation(value=value, interval=interval, n=n, num_groups=num_groups, note=note, replicates=replicates)


def regret(
    scores: npt.ArrayLike,
    outcomes: npt.ArrayLike,
    *,
    names: Sequence[str] | None = None,
    controls: Sequence[str] = ("strong", "weak"),
    groups: npt.ArrayLike | None = None,
    outcome_draws: npt.ArrayLike | None = None,
    outcome_halves: npt.ArrayLike | None = None,
    bootstrap: int = BOOTSTRAP,
    seed: int = 0,
) -> Regret:
    """The outcome of the best choice by labels minus that of the score's pick, of each control and of a random pick.

    What is chosen is a group (a setting): its score and outcome are means over its rows. A tie goes to the first.

    The best by labels is the maximum of noisy outcomes and so too good on average. Two remedies stand beside it:
    `best_corrected` subtracts the bootstrap's estimate of that optimism (Efron & Tibshirani 1993, ch. 17), the mean
    over image draws of the draw's own maximum minus the outcome, on all images, of the choice that attains it;
    `best_crossfitted` chooses on one half of the images and judges on the other, both ways, mean over the splits. The
    score's pick, the controls and the random pick do not look at outcomes and need no correction.

    In a replicate only drawn choices can be the best, the pick, or part of the random mean; a control is always there.
    The bootstrap of a maximum is rough (it misses the best choice in 37 % of replicates): read intervals of `regret` as
    orders of magnitude, those of `gain` as intervals.

    Args:
        scores, outcomes, groups, outcome_draws, bootstrap, seed: see `rank_correlation`.
        names: of the rows, length n; rows of one group share theirs. None: their numbers.
        controls: names that are compared with; those that do not occur are left out.
        outcome_halves: float, shape (S, 2, n): outcomes on two disjoint halves of the test images, S splits.
    Raises:
        DataError: shapes differ, a value is not finite, or names within a group differ.
    """
    x, y = value_rows(scores, "scores"), value_rows(outcomes, "outcomes")
    n = len(x)
    group_of, num_groups = group_numbers(groups, n)
    draws = outcome_versions(outcome_draws, n)
    halves = None if outcome_halves is None else np.asarray(outcome_halves, np.float64)
    if y.shape != x.shape:
        raise DataError(f"outcomes: {len(y)} values for {n} scores; expected one each")
    if halves is not None and (halves.ndim != 3 or halves.shape[1:] != (2, n) or not np.isfinite(halves).all()):
        raise DataError(f"outcome_halves: shape {halves.shape}; expected finite values of shape (splits, 2, {n})")
    choice_names = group_names(names, group_of, num_groups)
    if num_groups < 2:
        return _no_regret(num_groups, f"{num_groups} choices; expected at least 2")
    x, y = group_means(x, group_of), group_means(y, group_of)
    pick, best = int(np.argmax(x)), int(np.argmax(y))
    corrected = crossfitted = None
    if draws is not None:
        draws = group_means(draws, group_of)
        lucky = draws.argmax(axis=1)
        corrected = float(y[best] - np.mean(draws.max(axis=1) - y[lucky]))
    if halves is not None:
        choose = group_means(halves, group_of)
        judged = np.take_along_axis(choose[:, ::-1], choose.argmax(axis=2)[:, :, None], axis=2)
        crossfitted = float(judged.mean())
    replicated = _replicates(x, y, draws, bootstrap, seed) if bootstrap and num_groups >= MIN_ROWS else None
    alternatives = []
    for name in [*controls, "random"]:
        if name != "random" and name not in choice_names:
            continue
        index = None if name == "random" else choice_names.index(name)
        outcome = float(y.mean() if index is None else y[index])
        others = None
        if replicated is not None:
            others = replicated.random if index is None else replicated.outcomes[:, index]
        alternatives.append(
            Alternative(
                name=name,
                outcome=outcome,
                regret=float(y[best]) - outcome,
                regret_interval=_percentiles(replicated.best - others) if replicated and others is not None else None,
                gain=float(y[pick]) - outcome,
                gain_interval=_percentiles(replicated.pick - others) if replicated and others is not None else None,
            )
        )
    return Regret(
        best=choice_names[best],
        best_outcome=float(y[best]),
        best_corrected=corrected,
        best_crossfitted=crossfitted,
        pick=choice_names[pick],
        pick_outcome=float(y[pick]),
        regret=float(y[best] - y[pick]),
        regret_corrected=None if corrected is None else corrected - float(y[pick]),
        regret_crossfitted=None if crossfitted is None else crossfitted - float(y[pick]),
        interval=_percentiles(replicated.best - replicated.pick) if replicated else None,
        alternatives=tuple(alternatives),
        num_choices=num_groups,
        note="" if replicated or not bootstrap else f"no intervals: {num_groups} choices; expected {MIN_ROWS}",
    )


def group_weights(num_groups: int, bootstrap: int, seed: int) -> Floats:
    """How often each group is drawn in each replicate: whole numbers, shape (B, G), rows sum to G.

    Row b depends on the seed, b and G only.
    """
    uniforms = counter_uniforms(derive_seed(seed, "trials"), np.arange(bootstrap), num_groups)
    cells = np.arange(bootstrap)[:, None] * num_groups + (uniforms * num_groups).astype(np.int64)
    counts = np.bincount(cells.ravel(), minlength=bootstrap * num_groups)
    return counts.reshape(bootstrap, num_groups).astype(np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Replicates:
    """Outcomes of what each way to choose would have chosen, each (B,); `outcomes` of every choice, (B, G)."""

    best: Floats
    pick: Floats
    random: Floats
    outcomes: Floats


def _replicates(x: Floats, y: Floats, draws: Floats | None, bootstrap: int, seed: int) -> _Replicates:
    weights = group_weights(len(x), bootstrap, seed)
    outcomes = np.broadcast_to(y, weights.shape) if draws is None else draws[np.arange(bootstrap) % len(draws)]
    drawn = weights > 0
    picks = np.where(drawn, x, -np.inf).argmax(axis=1)
    return _Replicates(
        best=np.where(drawn, outcomes, -np.inf).max(axis=1),
        pick=outcomes[np.arange(bootstrap), picks],
        random=(weights * outcomes).sum(axis=1) / weights.sum(axis=1),
        outcomes=outcomes,
    )


def _interval(replicates: Floats) -> tuple[Interval | None, str]:
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < MIN_DEFINED * len(replicates):
        share = 1 - len(defined) / len(replicates)
        return None, f"no interval: in {share:.0%} of the replicates a column is constant"
    return _percentiles(defined), ""


def _percentiles(replicates: Floats) -> Interval:
    low, high = np.percentile(replicates, (2.5, 97.5))
    return float(low), float(high)


def _undefined(x: Floats, y: Floats) -> str:
    if len(x) < MIN_ROWS:
        return f"{len(x)} rows; expected at least {MIN_ROWS}"
    constant = [name for name, values in (("score", x), ("outcome", y)) if np.ptp(values) == 0]
    return f"the {' and the '.join(constant)} is the same in all rows" if constant else ""


def _no_regret(num_choices: int, note: str) -> Regret:
    return Regret(
        best=None,
        best_outcome=None,
        best_corrected=None,
        best_crossfitted=None,
        pick=None,
        pick_outcome=None,
        regret=None,
        regret_corrected=None,
        regret_crossfitted=None,
        interval=None,
        alternatives=(),
        num_choices=num_choices,
        note=note,
    )
