"""The streamed pass over negative pairs equals the dense computation and stays within its memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from augscale.scoring.bins import SHOWN
from augscale.scoring.negatives import NegativePairs, PositiveRanks, negative_pairs


def _dense(points: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Distances (n, V, n, V) of L2-normalised rows."""
    rows = points.astype(np.float64) / np.linalg.norm(points.astype(np.float64), axis=2, keepdims=True)
    n, views, dim = rows.shape
    return cdist(rows.reshape(-1, dim), rows.reshape(-1, dim)).reshape(n, views, n, views)


@pytest.fixture(scope="module")
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 14, 30))
    return rng.standard_normal((30, 3, 6)), groups, rng.uniform(0.3, 1.9, (30, 3))


@pytest.mark.parametrize("block_rows", [3, 12, 30, 512])
def test_streaming_equals_the_dense_computation(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], block_rows: int
) -> None:
    points, groups, positives = case
    found = negative_pairs(points, groups, positives, keep_image_pairs=True, block_rows=block_rows)
    distances = _dense(points, groups)
    upper = groups[:, None] < groups[None, :]
    negatives = distances.transpose(0, 2, 1, 3)[upper]
    assert found.count == negatives.size
    assert found.mean == pytest.approx(negatives.mean(), rel=1e-12)
    assert found.variance == pytest.approx(negatives.var(), rel=1e-10)
    np.testing.assert_array_equal(found.histogram, np.histogram(negatives, 64, (0, 2))[0])
    farther = (negatives.ravel()[None, :] > positives.ravel()[:, None]).mean(axis=1)
    np.testing.assert_allclose(found.above_positive.ravel(), farther, atol=1e-12)
    assert found.above == pytest.approx(farther.mean(), abs=1e-12)
    sums = np.where(upper, (distances - found.image_pairs.shift).sum(axis=(1, 3)), 0)
    np.testing.assert_allclose(found.image_pairs.shifted, sums, atol=1e-9)


def test_a_tie_counts_half_for_each_positive_pair() -> None:
    # All negative distances are 0: they tie with one positive pair and are nearer than the other.
    found = negative_pairs(np.ones((4, 2, 3)), np.arange(4), np.array([0.0, 1.0, 0.0, 1.0]))
    assert found.above_positive.tolist() == [0.5, 0.0, 0.5, 0.0]
    assert found.above == 0.25


def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    points = np.random.default_rng(1).standard_normal((1500, 2, 8)).astype(np.float32)
    tracemalloc.start()
    try:
        _stream(points, block_rows=128)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    dense_bytes = 8 * 3000 * 3000
    assert peak < dense_bytes / 10


def _stream(points: np.ndarray, block_rows: int) -> NegativePairs:
    positives = np.linalg.norm(points[:, 0] - points[:, 1], axis=1)
    return negative_pairs(points, np.arange(len(points)), positives, block_rows=block_rows)


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1.0])
def test_ranks_equal_a_binary_search_with_ties(scale: float) -> None:
    rng = np.random.default_rng(2)
    # Whole multiples tie exactly; some distances lie beyond every positive, some on the largest.
    positives = rng.integers(0, 40, 200) * scale
    distances = rng.integers(0, 60, (7, 300)) * scale
    smaller, not_larger = PositiveRanks(positives)(distances)
    ordered = np.sort(positives)
    np.testing.assert_array_equal(smaller, np.searchsorted(ordered, distances, side="left"))
    np.testing.assert_array_equal(not_larger, np.searchsorted(ordered, distances, side="right"))


def test_ranks_among_zeros() -> None:
    smaller, not_larger = PositiveRanks(np.zeros(5))(np.array([0.0, 1.0]))
    assert smaller.tolist() == [0, 5]
    assert not_larger.tolist() == [5, 5]


def test_histogram_counts_the_largest_distance_in_the_last_bin() -> None:
    counts = SHOWN.histogram(np.array([0.0, 1 / 32, 2.0, 2.0 + 1e-12]))
    assert (counts[0], counts[1], counts[63]) == (1, 1, 2)
