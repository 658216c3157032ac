"""Effective rank and feature spread: formulas, limits and invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import svdvals
from scipy.stats import entropy, ortho_group

from augscale.errors import DataError
from augscale.scoring.spectrum import (
    alpha_req,
    effective_rank,
    eigenvalue_shares,
    feature_sd,
    participation_ratio,
    stable_rank,
)


def _rows(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)) * np.geomspace(1, 0.01, dim)


@pytest.mark.parametrize(("n", "dim"), [(60, 12), (12, 60), (30, 30)])
@pytest.mark.parametrize("center", [False, True])
def test_effective_rank_is_the_exponential_of_the_entropy_of_singular_values(n: int, dim: int, center: bool) -> None:
    rows = _rows(n, dim) + 0.3
    singular = svdvals(rows - rows.mean(axis=0) if center else rows)
    expected = np.exp(entropy(singular / singular.sum()))
    # RankMe's epsilon of 1e-7 per singular value moves the result a little.
    assert effective_rank(rows, center=center) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_k_equal_orthogonal_directions_have_rank_k(k: int) -> None:
    rows = np.tile(np.eye(8)[:k], (5, 1))
    assert effective_rank(rows) == pytest.approx(k, rel=1e-4)


@pytest.mark.parametrize("value", [0.0, 1e-30, 7.0])
def test_equal_embeddings_have_rank_one(value: float) -> None:
    rows = np.full((20, 6), value, dtype=np.float32)
    assert effective_rank(rows) == pytest.approx(1, abs=1e-3)
    assert effective_rank(rows, center=True) == 1.0
    assert feature_sd(rows) == 0.0


def test_centring_sends_equal_rows_to_exactly_zero() -> None:
    # The mean of equal numbers need not be that number to the last bit.
    for n in range(2, 60):
        rows = np.full((n, 3), 0.1)
        assert effective_rank(rows, center=True) == 1.0
        assert feature_sd(rows) == 0.0


def test_a_common_offset_counts_unless_centred() -> None:
    rows = np.random.default_rng(1).standard_normal((200, 10))
    assert effective_rank(rows + 100) < 2
    assert effective_rank(rows + 100, center=True) == pytest.approx(effective_rank(rows, center=True), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(exponent=st.integers(-20, 20), seed=st.integers(0, 1000))
def test_scale_rotation_and_order_do_not_matter(exponent: int, seed: int) -> None:
    rows = _rows(20, 5, seed)
    changed = (rows @ ortho_group.rvs(5, random_state=seed))[::-1] * 10.0**exponent
    assert effective_rank(changed) == pytest.approx(effective_rank(rows), rel=1e-6)
    assert feature_sd(rows * 10.0**exponent) == pytest.approx(feature_sd(rows), rel=1e-9)


def test_evenly_spread_directions_have_feature_sd_one() -> None:
    assert feature_sd(np.random.default_rng(2).standard_normal((4000, 32))) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("function", [effective_rank, feature_sd])
@pytest.mark.parametrize("rows", [np.zeros(3), np.zeros((0, 3)), np.array([[1.0, np.nan]])])
def test_unusable_embeddings_are_refused(function: object, rows: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected"):
        function(rows)


@pytest.mark.parametrize(("n", "dim"), [(60, 12), (12, 60)])
def test_shares_and_ranks_equal_the_covariance(n: int, dim: int) -> None:
    rows = _rows(n, dim) + 5
    values = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    shares = eigenvalue_shares(rows)
    np.testing.assert_allclose(shares, (values / values.sum())[: min(n, dim)], atol=1e-9)
    assert (np.diff(shares) <= 0).all()
    assert stable_rank(shares) == pytest.approx(values.sum() / values[0])
    assert participation_ratio(shares) == pytest.approx(values.sum() ** 2 / np.square(values).sum())


def test_weights_stand_for_repeated_images() -> None:
    rows, weights = _rows(8, 5) + 3, np.array([2, 0, 1, 1, 3, 0, 1, 0])
    found = eigenvalue_shares(rows, weights=weights)
    np.testing.assert_allclose(found[:4], eigenvalue_shares(np.repeat(rows, weights, axis=0))[:4], atol=1e-9)


@pytest.mark.parametrize(("count", "exponent"), [(12, 0.7), (300, 1.0), (40, 2.0)])
def test_alpha_req_finds_the_exponent_of_a_power_law(count: int, exponent: float) -> None:
    shares = np.arange(1, count + 1) ** -exponent
    assert alpha_req(shares / shares.sum()) == pytest.approx(exponent)


def test_alpha_req_does_not_look_at_the_first_ten_nor_beyond_a_hundred() -> None:
    shares = np.arange(1.0, 301) ** -1.5
    shares[:10] *= 30
    shares[100:] *= 0.01
    assert alpha_req(shares / shares.sum()) == pytest.approx(1.5)


def test_ranks_of_shares_at_their_limits() -> None:
    assert stable_rank(np.full(7, 1 / 7)) == participation_ratio(np.full(7, 1 / 7)) == pytest.approx(7)
    assert stable_rank(np.array([1.0, 0, 0])) == participation_ratio(np.array([1.0, 0, 0])) == 1
    assert alpha_req(np.full(9, 1 / 9)) is None
    assert eigenvalue_shares(np.full((9, 4), 0.1)) is None
