"""Resampled scores against explicit resampling, their alignment between models, and the coverage of intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from augscale.scoring.separation import separation
from augscale.statistics.panel_bootstrap import group_starts, percentile_interval, resample_weights


def _population(n: int, rng: np.random.Generator, noise: float = 0.8, dim: int = 6) -> np.ndarray:
    return rng.standard_normal((n, 1, dim)) + noise * rng.standard_normal((n, 2, dim))


def _explicit(points: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """d' and AUROC with a weight for every pair, from its definition."""
    rows = points / np.linalg.norm(points, axis=2, keepdims=True)
    positives = np.linalg.norm(rows[:, 0] - rows[:, 1], axis=1)
    i, j = np.nonzero(groups[:, None] < groups[None, :])
    negatives = np.linalg.norm(rows[i, :, None] - rows[j, None, :], axis=3).reshape(len(i), -1)
    positive_weights = weights[groups]
    negative_weights = np.repeat((weights[groups[i]] * weights[groups[j]])[:, None], 4, axis=1)
    means, variances = [], []
    for values, w in ((positives, positive_weights), (negatives, negative_weights)):
        mean = np.average(values, weights=w)
        means.append(mean)
        variances.append(np.average((values - mean) ** 2, weights=w))
    auroc = roc_auc_score(
        np.r_[np.zeros(positives.size), np.ones(negatives.size)],
        np.r_[positives, negatives.ravel()],
        sample_weight=np.r_[positive_weights, negative_weights.ravel()],
    )
    return (means[1] - means[0]) / math.sqrt(sum(variances) / 2), auroc


def test_replicates_equal_explicit_resampling_of_patients() -> None:
    rng = np.random.default_rng(0)
    groups = np.sort(np.r_[np.arange(40), rng.integers(0, 40, 20)])
    points = _population(60, rng)
    found = separation(points, groups, bootstrap=60, seed=3)
    weights = resample_weights(40, 60, 3)
    expected = np.array([_explicit(points, groups, w) for w in weights])
    np.testing.assert_allclose(found.dprime_replicates, expected[:, 0], rtol=1e-9)
    # The AUROC's replicates leave out a term of order 1/n; their spread is what the interval needs.
    difference = found.pair_auroc_replicates - expected[:, 1]
    assert np.abs(difference.mean()) < 0.1 * expected[:, 1].std()
    assert difference.std() < 0.15 * expected[:, 1].std()


def test_weights_count_draws_and_do_not_depend_on_how_many_replicates_there_are() -> None:
    weights = resample_weights(30, 200, 5)
    assert (weights.sum(axis=1) == 30).all()
    assert np.array_equal(weights, np.rint(weights))
    assert np.array_equal(resample_weights(30, 17, 5), weights[:17])
    assert not np.array_equal(resample_weights(30, 200, 6), weights)
    # A multinomial weight has mean 1 and variance 1 - 1/G.
    assert weights.mean() == 1
    assert weights.var() == pytest.approx(29 / 30, rel=0.1)


def test_a_resample_always_holds_two_patients() -> None:
    weights = resample_weights(2, 300, 0)
    assert ((weights > 0).sum(axis=1) == 2).all()


def test_group_starts_are_where_groups_begin() -> None:
    assert group_starts(np.array([0, 0, 3, 3, 3, 4])).tolist() == [0, 2, 5]


def test_percentile_interval_holds_the_middle_95_percent() -> None:
    assert percentile_interval(np.arange(1001) / 10) == pytest.approx((2.5, 97.5))


def test_replicates_of_two_models_are_aligned() -> None:
    # A second model that differs little: what varies with the images must vary alike in both.
    rng = np.random.default_rng(1)
    points = _population(80, rng)
    other = points + 0.1 * rng.standard_normal(points.shape)
    first, second = (separation(p, bootstrap=300, seed=9).dprime_replicates for p in (points, other))
    assert np.corrcoef(first, second)[0, 1] > 0.9
    unaligned = separation(other, bootstrap=300, seed=10).dprime_replicates
    assert (first - second).std() < 0.5 * (first - unaligned).std()


def test_same_seed_same_replicates() -> None:
    points = _population(20, np.random.default_rng(2))
    first, second = (separation(points, bootstrap=10, seed=4).dprime_replicates for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_replicates_have_the_spread_of_fresh_samples_and_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(7)
    truth = separation(_population(3000, rng))
    results = [separation(_population(60, rng), bootstrap=150, seed=0) for _ in range(80)]
    for name, true_value in (("dprime", truth.dprime), ("pair_auroc", truth.pair_auroc)):
        estimates = np.array([getattr(r, name) for r in results])
        bootstrap_sd = np.mean([getattr(r, f"{name}_replicates").std() for r in results])
        assert bootstrap_sd == pytest.approx(estimates.std(), rel=0.25)
        covered = np.mean(
            [getattr(r, f"{name}_interval")[0] <= true_value <= getattr(r, f"{name}_interval")[1] for r in results]
        )
        # Nominal 0.95; 80 simulations leave a standard error of 0.024.
        assert 0.85 <= covered <= 1.0


def test_photographs_of_one_patient_do_not_count_as_independent() -> None:
    # Every image five times: the interval by patient is as wide as without copies, by image much narrower.
    rng = np.random.default_rng(3)
    points = _population(40, rng)
    copies, patients = np.repeat(points, 5, axis=0), np.repeat(np.arange(40), 5)
    alone = separation(points, bootstrap=300).dprime_replicates.std()
    by_patient = separation(copies, patients, bootstrap=300).dprime_replicates.std()
    assert by_patient == pytest.approx(alone, rel=1e-6)
