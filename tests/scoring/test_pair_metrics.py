"""Metrics of two samples of distances equal scipy, scikit-learn and plain loops; binned ones stay within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, wasserstein_distance
from sklearn.metrics import roc_auc_score

from augscale.errors import DataError
from augscale.scoring import pair_metrics
from augscale.scoring.bins import Bins
from augscale.scoring.pair_metrics import Counts

METRICS = ("gap", "ratio", "pair_auroc", "overlap", "ks", "wasserstein")


def _samples(seed: int, tied: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    near, far = rng.beta(2, 4, 37) * 2, rng.beta(4, 3, 90) * 2
    return (np.round(near, 1), np.round(far, 1)) if tied else (near, far)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_metrics_equal_their_libraries(seed: int, tied: bool) -> None:
    near, far = _samples(seed, tied)
    assert pair_metrics.gap(near, far) == pytest.approx(far.mean() - near.mean())
    assert pair_metrics.ratio(near, far) == pytest.approx(far.mean() / near.mean())
    label = np.repeat([0, 1], [len(near), len(far)])
    assert pair_metrics.pair_auroc(near, far) == pytest.approx(roc_auc_score(label, np.append(near, far)))
    assert pair_metrics.ks(near, far) == pytest.approx(ks_2samp(near, far).statistic)
    assert pair_metrics.wasserstein(near, far) == pytest.approx(wasserstein_distance(near, far))
    common = 0.0
    for low in np.arange(64) / 32:
        shares = [np.mean((low <= sample) & (sample < low + 1 / 32)) for sample in (near, far)]
        common += min(shares)
    assert pair_metrics.overlap(near, far) == pytest.approx(common)


def test_ks_sees_a_difference_in_either_direction() -> None:
    assert pair_metrics.ks([1.0, 1.1], [0.1, 0.2]) == 1
    assert pair_metrics.ks([0.1, 0.2], [1.0, 1.1]) == 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.01, 100))
def test_order_never_matters_and_scale_only_where_it_should(seed: int, factor: float) -> None:
    near, far = _samples(seed, tied=False)
    rng = np.random.default_rng(seed)
    for name in METRICS:
        function = getattr(pair_metrics, name)
        assert function(rng.permutation(near), rng.permutation(far)) == pytest.approx(function(near, far)), name
        # Every distance twice is the same distribution.
        assert function(np.tile(near, 2), np.tile(far, 2)) == pytest.approx(function(near, far)), name
    for name in ("ratio", "pair_auroc", "ks"):
        function = getattr(pair_metrics, name)
        assert function(near * factor, far * factor) == pytest.approx(function(near, far)), name
    for name in ("gap", "wasserstein"):
        function = getattr(pair_metrics, name)
        assert function(near * factor, far * factor) == pytest.approx(factor * function(near, far)), name


def test_equal_distances_say_nothing() -> None:
    near, far = np.zeros(4), np.zeros(6)
    values = {name: getattr(pair_metrics, name)(near, far) for name in METRICS}
    assert values == {"gap": 0, "ratio": None, "pair_auroc": 0.5, "overlap": 1, "ks": 0, "wasserstein": 0}


@pytest.mark.parametrize(
    ("near", "far", "message"),
    [
        ([], [1.0], "positive: no distances"),
        ([1.0], [], "negative: no distances"),
        ([1.0], [1.0, np.nan], "negative: 1 of 2 distances are not finite"),
    ],
)
def test_unusable_samples_are_refused(near: list[float], far: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        pair_metrics.ks(near, far)


@pytest.mark.parametrize("count", [256, 8192])
@pytest.mark.parametrize("tied", [False, True])
def test_counts_are_off_by_no_more_than_stated(count: int, tied: bool) -> None:
    near, far = _samples(3, tied)
    bins = Bins.covering(2.0, count)
    counts = Counts(positive=bins.histogram(near), negative=bins.histogram(far), bins=bins)
    shares = bins.histogram(near) / len(near), bins.histogram(far) / len(far)
    slack = 1e-12
    assert abs(counts.pair_auroc() - pair_metrics.pair_auroc(near, far)) <= (shares[0] * shares[1]).sum() / 2 + slack
    assert abs(counts.ks() - pair_metrics.ks(near, far)) <= np.maximum(*shares).max() + slack
    assert abs(counts.wasserstein() - pair_metrics.wasserstein(near, far)) <= bins.width + slack
    assert counts.overlap() == pytest.approx(pair_metrics.overlap(near, far))
    exact = np.log(np.mean(np.exp(-2 * far**2)))
    assert counts.uniformity() == pytest.approx(exact, abs=4 * bins.width)


def test_counts_take_many_resamples_at_once() -> None:
    bins = Bins.covering(2.0, 256)
    both = [_samples(seed, tied=False) for seed in (0, 1)]
    stacked = Counts(
        positive=np.stack([bins.histogram(near) for near, _ in both]),
        negative=np.stack([bins.histogram(far) for _, far in both]),
        bins=bins,
    )
    for name in ("pair_auroc", "overlap", "ks", "wasserstein", "uniformity"):
        alone = [
            getattr(Counts(positive=bins.histogram(near), negative=bins.histogram(far), bins=bins), name)()
            for near, far in both
        ]
        np.testing.assert_allclose(getattr(stacked, name)(), alone, rtol=1e-12)


@pytest.mark.parametrize("largest", [2.0, 1.9, 0.7, 1e-3, 0.0])
def test_fine_bins_add_up_to_the_shown_ones(largest: float) -> None:
    values = np.random.default_rng(0).uniform(0, largest, 1000)
    bins = Bins.covering(largest, 1024)
    assert bins.count <= 1025
    assert bins.edges[-1] >= largest
    np.testing.assert_array_equal(bins.shown(bins.histogram(values)), np.histogram(values, 64, (0, 2))[0])
    if largest:
        assert len(np.unique(bins.index(values))) > 150


def test_trimmed_bins_reach_just_beyond_what_was_counted() -> None:
    values = np.random.default_rng(1).uniform(0, 30, 500)
    bins = Bins.over(100.0, 4096)
    edges, (counts, none) = bins.trimmed(bins.histogram(values), np.zeros(4096, dtype=np.int64))
    np.testing.assert_array_equal(counts, np.histogram(values, edges)[0])
    assert values.max() < edges[-1] <= values.max() * 1.1
    assert none.sum() == 0
    assert (len(edges), len(counts)) == (65, 64)
