"""All negative pairs in float32 tiles equal scipy's distances, whatever the tiles, threads, groups and scale."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from augscale.errors import DataError
from augscale.scoring.pair_stream import stream_pairs


def _rows(n: int = 150, dim: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, dim)) * rng.uniform(1, 9, (n, 1)) + 0.5).astype(np.float32), rng.integers(0, 40, n)


def _dense(points: np.ndarray) -> np.ndarray:
    rows = points.astype(np.float64)
    return cdist(rows, rows)


def _unit(points: np.ndarray) -> np.ndarray:
    return points.astype(np.float64) / np.linalg.norm(points.astype(np.float64), axis=1, keepdims=True)


@pytest.mark.parametrize(("tile_rows", "threads"), [(7, 1), (32, 3), (512, 1)])
def test_sums_and_histograms_equal_the_dense_computation(tile_rows: int, threads: int) -> None:
    points, groups = _rows()
    found = stream_pairs(points, groups, row_histograms=True, tile_rows=tile_rows, threads=threads)
    negative = groups[:, None] != groups[None]
    upper = np.triu(negative)
    np.testing.assert_array_equal(found.row_counts, negative.sum(axis=1))
    assert found.count == upper.sum()
    for sums, distances in ((found.unit, _dense(_unit(points))), (found.raw, _dense(points))):
        sample = distances[upper]
        assert sums.mean == pytest.approx(sample.mean(), rel=1e-6)
        assert sums.sd == pytest.approx(sample.std(), rel=1e-5)
        moved = np.where(negative, distances - sample.mean(), 0)
        np.testing.assert_allclose(sums.row_sums, moved.sum(axis=1), atol=1e-4 * sample.mean())
        np.testing.assert_allclose(sums.row_squares, np.square(moved).sum(axis=1), rtol=1e-4)
        # A distance within rounding of an edge may fall to either side.
        expected = np.cumsum(sums.bins.histogram(sample))
        assert np.abs(np.cumsum(sums.histogram) - expected).max() <= 3
        assert sums.histogram.sum() == found.count
    unit = _dense(_unit(points))
    assert found.smallest == pytest.approx(unit[upper].min(), rel=1e-4)
    assert found.largest == pytest.approx(unit[upper].max(), rel=1e-4)
    rows = np.stack([found.coarse.histogram(unit[row][negative[row]]) for row in range(len(points))])
    assert np.abs(np.cumsum(found.row_histograms - rows, axis=1)).max() <= 1


def test_single_distances_agree_with_scipy_to_one_in_ten_thousand() -> None:
    rng = np.random.default_rng(3)
    points = rng.standard_normal((2000, 64)) * rng.uniform(0.1, 10, (2000, 1))
    # From all but equal to far away.
    points[1:300] = points[0] + np.geomspace(1e-6, 1, 299)[:, None] * points[1:300]
    # Every row but the first has one negative, so that its sum is a distance.
    found = stream_pairs(points, np.arange(2000) > 0)
    unit = _dense(_unit(points))[0, 1:]
    np.testing.assert_allclose(found.unit.row_sums[1:] + found.unit.mean, unit, rtol=1e-4, atol=2e-7)
    raw = _dense(points)[0, 1:]
    np.testing.assert_allclose(found.raw.row_sums[1:] + found.raw.mean, raw, rtol=1e-4, atol=1e-7 * raw.max())


@settings(max_examples=20, deadline=None)
@given(exponent=st.integers(-25, 25), seed=st.integers(0, 1000))
def test_scale_and_order_do_not_matter(exponent: int, seed: int) -> None:
    points, groups = _rows(40, 5, seed)
    order = np.random.default_rng(seed).permutation(40)
    base, changed = stream_pairs(points, groups), stream_pairs(points[order] * 10.0**exponent, groups[order])
    assert changed.unit.mean == pytest.approx(base.unit.mean, rel=1e-6)
    assert changed.unit.sd == pytest.approx(base.unit.sd, rel=1e-5)
    assert changed.raw.mean == pytest.approx(base.raw.mean * 10.0**exponent, rel=1e-6)
    np.testing.assert_allclose(changed.unit.row_sums, base.unit.row_sums[order], atol=1e-4)


@pytest.mark.parametrize("spread", [1e-2, 1e-4, 1e-6])
def test_distances_of_a_collapsing_encoder_keep_their_digits(spread: float) -> None:
    # As float32 vectors of length 1 their squared distances are of the size of rounding.
    rng = np.random.default_rng(1)
    points = np.ones((80, 16)) + spread * rng.standard_normal((80, 16))
    found, sample = stream_pairs(points), _dense(_unit(points))[np.triu_indices(80, 1)]
    assert found.unit.mean == pytest.approx(sample.mean(), rel=1e-5)
    assert found.unit.sd == pytest.approx(sample.std(), rel=1e-4)
    assert found.smallest == pytest.approx(sample.min(), rel=1e-4)
    assert len(np.flatnonzero(found.unit.histogram)) > 500


@pytest.mark.parametrize("gap", [0.0, 1e-3, 1e-5])
def test_near_duplicates_are_measured_directly(gap: float) -> None:
    points = np.random.default_rng(2).standard_normal((60, 24))
    points[1] = points[0] + gap * points[2]
    expected = _dense(_unit(points))[0, 1]
    assert stream_pairs(points).smallest == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_equal_rows_have_no_distance() -> None:
    found = stream_pairs(np.full((30, 4), 0.1, dtype=np.float32))
    assert (found.unit.mean, found.unit.sd, found.smallest, found.largest) == (0, 0, 0, 0)
    assert found.unit.histogram[0] == found.count == 435


def test_one_zero_row_and_one_far_row_do_not_spoil_the_others() -> None:
    points = _rows(50)[0].astype(np.float64)
    points[3], points[7] = 0, points[7] * 1e3
    found = stream_pairs(points)
    distances = _dense(points)[np.triu_indices(50, 1)]
    assert found.raw.mean == pytest.approx(distances.mean(), rel=1e-5)


def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    points = np.random.default_rng(1).standard_normal((4000, 8)).astype(np.float32)
    tracemalloc.start()
    try:
        stream_pairs(points, tile_rows=128)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 4000 * 4000 / 10


def test_the_number_of_threads_of_torch_is_put_back() -> None:
    before = torch.get_num_threads()
    stream_pairs(_rows(20)[0], threads=2)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("points", "groups", "message"),
    [
        (np.zeros(3), None, r"shape \(3,\)"),
        (np.array([[1.0], [np.inf], [np.nan]]), None, "2 of 3 are not finite"),
        (np.zeros((3, 2)), [1, 1, 1], "all 3 rows belong to one"),
        (np.zeros((3, 2)), [1, 2], r"groups: shape \(2,\)"),
    ],
)
def test_unusable_rows_are_refused(points: np.ndarray, groups: list[int] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        stream_pairs(points, groups)
