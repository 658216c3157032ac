"""Regret: the outcome lost by choosing a trial by its score instead of by labels. Resamples as in `ranking`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augscale.errors import DataError
from augscale.records.validation import Alternative, Regret
from augscale.statistics.arrays import Floats, Integers
from augscale.statistics.stratified_bootstrap import percentile_interval
from augscale.statistics.trial_rows import BOOTSTRAP, MIN_ROWS, group_weights, trial_rows

RANDOM = "random"


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

    A choice is a group (a setting): its score and outcome are means over its rows. A tie goes to the first.

    The best by labels is the maximum of noisy outcomes, so it is too high on average. Two corrections are given:
    `best_corrected` subtracts the bootstrap's estimate of that optimism (Efron & Tibshirani 1993, ch. 17), the mean
    over image draws of the draw's own maximum minus the outcome, on all images, of the choice that attains it;
    `best_crossfitted` chooses on one half of the images and judges on the other, both ways, mean over the splits. The
    score's pick, the controls and the random pick do not look at outcomes and need no correction.

    In a replicate only drawn choices can be the best, the pick, or part of the random mean; a control is always there.
    The bootstrap of a maximum is rough (it misses the best choice in 37 % of replicates): read intervals of `regret` as
    orders of magnitude, those of `gain` as intervals.

    Args:
        scores, outcomes, groups, outcome_draws, bootstrap, seed: see `rank_correlation`.
        names: names of the rows, length n, the same for all rows of a group. None: numbers of the groups.
        controls: names of controls; those that do not occur are left out.
        outcome_halves: float, shape (S, 2, n): outcomes on two disjoint halves of the test images, S splits.
    Raises:
        DataError: shapes differ, a value is not finite, or names within a group differ.
    """
    rows = trial_rows(scores, outcomes, groups, outcome_draws)
    halves = None if outcome_halves is None else _halves(outcome_halves, len(rows.scores))
    choices = _choice_names(names, rows.group_of, rows.num_groups)
    if len(choices) < 2:
        return Regret(num_choices=len(choices), note=f"{len(choices)} choices; expected at least 2")
    x, y = _group_means(rows.scores, rows.group_of), _group_means(rows.outcomes, rows.group_of)
    draws = None if rows.draws is None else _group_means(rows.draws, rows.group_of)
    pick, best = int(np.argmax(x)), int(np.argmax(y))
    corrected = None if draws is None else float(y[best] - _optimism(y, draws))
    crossfitted = None if halves is None else _crossfitted(_group_means(halves, rows.group_of))
    replicated = _replicates(x, y, draws, bootstrap, seed) if bootstrap and len(choices) >= MIN_ROWS else None
    return Regret(
        best=choices[best],
        best_outcome=float(y[best]),
        best_corrected=corrected,
        best_crossfitted=crossfitted,
        pick=choices[pick],
        pick_outcome=float(y[pick]),
        regret=float(y[best] - y[pick]),
        regret_corrected=None if corrected is None else corrected - float(y[pick]),
        regret_crossfitted=None if crossfitted is None else crossfitted - float(y[pick]),
        interval=percentile_interval(replicated.best - replicated.pick) if replicated else None,
        alternatives=tuple(_alternatives(controls, choices, y, best, pick, replicated)),
        num_choices=len(choices),
        note="" if replicated or not bootstrap else f"no intervals: {len(choices)} choices; expected {MIN_ROWS}",
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Replicates:
    """Outcome of each kind of choice in each replicate, shape (B,); `outcomes` of all choices, shape (B, G)."""

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


def _alternatives(
    controls: Sequence[str], choices: list[str], y: Floats, best: int, pick: int, replicated: _Replicates | None
) -> Iterator[Alternative]:
    for name in [*(control for control in controls if control in choices), RANDOM]:
        index = None if name == RANDOM else choices.index(name)
        outcome = float(y.mean() if index is None else y[index])
        regret_interval = gain_interval = None
        if replicated is not None:
            others = replicated.random if index is None else replicated.outcomes[:, index]
            regret_interval = percentile_interval(replicated.best - others)
            gain_interval = percentile_interval(replicated.pick - others)
        yield Alternative(
            name=name,
            outcome=outcome,
            regret=float(y[best]) - outcome,
            regret_interval=regret_interval,
            gain=float(y[pick]) - outcome,
            gain_interval=gain_interval,
        )


def _optimism(y: Floats, draws: Floats) -> float:
    """Mean over image draws of the draw's maximum minus the outcome, on all images, of the choice that attains it."""
    return float(np.mean(draws.max(axis=1) - y[draws.argmax(axis=1)]))


def _crossfitted(halves: Floats) -> float:
    judged = np.take_along_axis(halves[:, ::-1], halves.argmax(axis=2)[:, :, None], axis=2)
    return float(judged.mean())


def _halves(values: npt.ArrayLike, n: int) -> Floats:
    halves = np.asarray(values, np.float64)
    if halves.ndim != 3 or halves.shape[1:] != (2, n) or not np.isfinite(halves).all():
        raise DataError(f"outcome_halves: shape {halves.shape}; expected finite values of shape (splits, 2, {n})")
    return halves


def _group_means(values: Floats, group_of: Integers) -> Floats:
    """Means over the rows of each group along the last axis."""
    member = np.zeros((values.shape[-1], int(group_of.max(initial=-1)) + 1))
    member[np.arange(len(group_of)), group_of] = 1.0
    return (values @ member) / member.sum(axis=0)


def _choice_names(names: Sequence[str] | None, group_of: Integers, num_groups: int) -> list[str]:
    if names is None:
        return [str(index) for index in range(num_groups)]
    if len(names) != len(group_of):
        raise DataError(f"names: {len(names)} names for {len(group_of)} trials; expected one each")
    found: dict[int, str] = {}
    for name, group in zip(names, group_of.tolist(), strict=True):
        if found.setdefault(group, name) != name:
            raise DataError(f"names: {found[group]!r} and {name!r} are in one group; expected one name per group")
    return [found[index] for index in range(num_groups)]
