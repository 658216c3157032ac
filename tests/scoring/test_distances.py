"""Distances against scipy, nearest negatives against a dense search."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from augscale.errors import ConfigError, DataError
from augscale.scoring.distances import (
    BLOCK_ROWS,
    distance_matrix,
    nearest_negatives,
    pair_distances,
    unit_rows,
    upper_blocks,
)


def _rows(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def _relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    off = ~np.eye(len(expected), dtype=bool)
    return float((np.abs(found - expected)[off] / expected[off]).max())


@pytest.mark.parametrize("rows", [_rows(40, 17), _rows(BLOCK_ROWS + 30, 8)], ids=["one block", "several blocks"])
def test_distance_matrix_agrees_with_scipy(rows: np.ndarray) -> None:
    found = distance_matrix(rows)
    assert _relative_error(found, cdist(rows.astype(np.float64), rows.astype(np.float64))) < 1e-8
    assert np.array_equal(found, found.T)
    assert np.array_equal(np.diag(found), np.zeros(len(rows)))


@pytest.mark.parametrize("spread", [1e-1, 1e-3, 1e-6, 1e-9])
def test_distances_of_a_collapsing_network_keep_their_digits(spread: float) -> None:
    # All rows nearly equal: 2 - 2 cos would be rounding noise.
    offset = np.full(64, 3.0)
    rows = offset + spread * np.random.default_rng(1).standard_normal((50, 64))
    assert _relative_error(distance_matrix(rows), cdist(rows, rows)) < 1e-4


def test_one_pair_of_near_duplicates_among_distant_rows_keeps_its_digits() -> None:
    rows = _rows(30, 32).astype(np.float64)
    rows[1] = rows[0] + 1e-8
    assert _relative_error(distance_matrix(rows), cdist(rows, rows)) < 1e-4


def test_pair_distances_agree_with_scipy_and_are_symmetric() -> None:
    rows = _rows(20, 9)
    pairs = np.random.default_rng(2).integers(0, 20, (100, 2))
    expected = cdist(rows.astype(np.float64), rows.astype(np.float64))[pairs[:, 0], pairs[:, 1]]
    np.testing.assert_allclose(pair_distances(rows, pairs), expected, rtol=1e-12)
    np.testing.assert_array_equal(pair_distances(rows, pairs), pair_distances(rows, pairs[:, ::-1]))


def test_pair_distances_of_no_pairs_is_empty() -> None:
    assert pair_distances(_rows(3, 2), np.empty((0, 2), int)).shape == (0,)


@pytest.mark.parametrize("bad", [-1, 5])
def test_pair_index_outside_the_rows_is_refused(bad: int) -> None:
    with pytest.raises(DataError, match=r"expected \[0, 4\]"):
        pair_distances(_rows(5, 2), [[0, bad]])


def test_blocks_cover_every_pair_once() -> None:
    covered = np.zeros((23, 23), int)
    for a, b in upper_blocks(23, 5):
        covered[a, b] += 1
    assert (covered[np.triu_indices(23)] == 1).all()
    assert covered.max() == 1


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_unit_rows_have_length_one_and_report_their_norms(factor: float) -> None:
    rows = _rows(10, 6).astype(np.float64)
    unit, norms = unit_rows(rows * factor)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(norms, np.linalg.norm(rows, axis=1) * factor, rtol=1e-12)


def test_unit_rows_leave_a_zero_row_zero() -> None:
    unit, norms = unit_rows(np.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_array_equal(unit[0], 0.0)
    np.testing.assert_allclose(norms, [0.0, 5.0])


def _dense_nearest(rows: np.ndarray, groups: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    distances = cdist(rows.astype(np.float64), rows.astype(np.float64))
    distances[groups[:, None] == groups[None, :]] = np.inf
    indices = np.argsort(distances, axis=1)[:, :k]
    return indices, np.take_along_axis(distances, indices, axis=1)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("groups_of", [1, 2, 30], ids=["alone", "pairs", "large groups"])
def test_nearest_negatives_equal_a_dense_search(k: int, groups_of: int) -> None:
    rows = _rows(120, 12, seed=3)
    groups = np.random.default_rng(4).permutation(np.arange(120) // groups_of)
    found = nearest_negatives(rows, groups, k)
    indices, distances = _dense_nearest(rows, groups, k)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-10)


def test_nearest_negatives_never_belong_to_the_same_patient() -> None:
    # The nearest rows by far are those of the same patient.
    groups = np.repeat(np.arange(6), 4)
    rows = np.repeat(_rows(6, 8), 4, axis=0) + 1e-3 * _rows(24, 8, seed=1)
    found = nearest_negatives(rows, groups, k=3)
    assert (groups[found.indices] != groups[:, None]).all()


def test_nearest_negatives_of_almost_equal_rows_are_still_right() -> None:
    rows = 5.0 + 1e-5 * np.random.default_rng(6).standard_normal((60, 16))
    found = nearest_negatives(rows, np.arange(60))
    np.testing.assert_allclose(found.distances, _dense_nearest(rows, np.arange(60), 1)[1], rtol=1e-6)


def test_too_few_negatives_are_refused() -> None:
    with pytest.raises(DataError, match="3 of 4 embeddings belong to one group"):
        nearest_negatives(_rows(4, 3), np.array([0, 0, 0, 1]), k=2)


def test_missing_faiss_names_the_two_ways_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"pip install augscale\[cpu\].*pip install augscale\[gpu\]") as error:
        nearest_negatives(_rows(4, 3), np.arange(4))
    assert "\n" not in str(error.value)


def test_faiss_keeps_to_the_threads_of_the_worker() -> None:
    import faiss

    faiss.omp_set_num_threads(7)
    nearest_negatives(_rows(4, 3), np.arange(4))
    assert faiss.omp_get_max_threads() == torch.get_num_threads()
