"""TwoNN finds the dimension of flat and curved surfaces and equals a plain fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group

from augscale.diagnosis.intrinsic import dimension_of, intrinsic_dimension, log_ratios


def _plain(rows: np.ndarray) -> float:
    """Facco et al. 2017, the steps 1 to 5 of their algorithm."""
    ratios = []
    for row in cdist(rows, rows):
        _, first, second = np.sort(row)[:3]
        ratios.append(second / first)
    ratios = sorted(ratios)
    count = len(ratios)
    points = [(np.log(ratio), -np.log(1 - (i + 1) / count)) for i, ratio in enumerate(ratios[: int(0.9 * count)])]
    return sum(x * y for x, y in points) / sum(x * x for x, _ in points)


@pytest.mark.parametrize("seed", [0, 1])
def test_dimension_equals_the_plain_fit(seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((200, 4))
    assert intrinsic_dimension(rows) == pytest.approx(_plain(rows))


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_dimension_of_a_flat_surface_in_a_larger_space(dimension: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.uniform(size=(2000, dimension)) @ rng.standard_normal((dimension, 12))
    assert intrinsic_dimension(rows) == pytest.approx(dimension, rel=0.12)


def test_dimension_of_a_sphere() -> None:
    rows = np.random.default_rng(1).standard_normal((2000, 3))
    assert intrinsic_dimension(rows / np.linalg.norm(rows, axis=1, keepdims=True)) == pytest.approx(2, rel=0.1)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), exponent=st.integers(-9, 9))
def test_scale_rotation_and_order_do_not_matter(seed: int, exponent: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((40, 3))
    changed = (rows @ ortho_group.rvs(3, random_state=seed))[::-1] * 10.0**exponent
    assert intrinsic_dimension(changed) == pytest.approx(intrinsic_dimension(rows), rel=1e-6)


def test_duplicates_are_left_out() -> None:
    rows = np.random.default_rng(2).standard_normal((50, 3))
    doubled = np.append(rows, rows[:5], axis=0)
    assert np.isnan(log_ratios(doubled)).sum() == 10
    assert intrinsic_dimension(doubled) is not None
    assert intrinsic_dimension(np.append(rows, rows, axis=0)) is None
    assert intrinsic_dimension(np.ones((9, 2))) is None
    assert intrinsic_dimension(rows[:4]) is None


def test_weights_of_one_change_nothing() -> None:
    ratios = log_ratios(np.random.default_rng(3).standard_normal((100, 4)))
    assert dimension_of(ratios, np.ones(100)) == pytest.approx(dimension_of(ratios))
    assert dimension_of(ratios, np.full(100, 3.0)) == pytest.approx(dimension_of(ratios))
