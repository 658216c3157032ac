"""Metrics of views as clusters equal scikit-learn and plain loops."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh
from scipy.spatial.distance import cdist, pdist
from scipy.stats import ortho_group
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_samples

from augscale.diagnosis import clusters
from augscale.errors import DataError
from augscale.scoring.separation import separation


def _views(n: int = 24, views: int = 3, dim: int = 7, noise: float = 0.5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 1, dim)) + noise * rng.standard_normal((n, views, dim)) + 0.5


def _unit(points: np.ndarray) -> np.ndarray:
    return points / np.linalg.norm(points, axis=-1, keepdims=True)


@pytest.mark.parametrize(("n", "views"), [(24, 3), (2, 2), (300, 2), (700, 3)])
@pytest.mark.parametrize("normalize", [True, False])
def test_silhouette_equals_scikit_learn(n: int, views: int, normalize: bool) -> None:
    points = _views(n, views)
    rows = (_unit(points) if normalize else points).reshape(n * views, -1)
    expected = silhouette_samples(rows, np.repeat(np.arange(n), views)).reshape(n, views)
    np.testing.assert_allclose(clusters.silhouette_values(points, normalize=normalize), expected, atol=1e-9)


def test_silhouette_of_a_default_panel_takes_less_than_two_seconds() -> None:
    points = _views(256, 4, 384)
    start = time.process_time()
    clusters.silhouette_values(points)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("normalize", [True, False])
def test_cluster_indices_equal_scikit_learn(normalize: bool) -> None:
    points = _views()
    rows, label = (_unit(points) if normalize else points).reshape(72, -1), np.repeat(np.arange(24), 3)
    assert clusters.davies_bouldin(points, normalize=normalize) == pytest.approx(davies_bouldin_score(rows, label))
    expected = calinski_harabasz_score(rows, label)
    assert clusters.calinski_harabasz(points, normalize=normalize) == pytest.approx(expected)


def test_weights_of_calinski_harabasz_stand_for_repeated_images() -> None:
    points, weights = _views(9), np.array([[2, 0, 1, 1, 3, 0, 1, 0, 1], np.ones(9)])
    repeated = np.repeat(points, weights[0].astype(int), axis=0)
    found = clusters.calinski_harabasz(points, weights=weights)
    assert found[0] == pytest.approx(clusters.calinski_harabasz(repeated))
    assert found[1] == pytest.approx(clusters.calinski_harabasz(points))


def test_alignment_and_uniformity_equal_their_formulas() -> None:
    points = _views(10, 4)
    unit = _unit(points)
    assert clusters.alignment(points) == pytest.approx(np.mean([np.mean(pdist(image) ** 2) for image in unit]))
    distances = pdist(unit[:, 0])
    # The authors' code: torch.pdist(x, p=2).pow(2).mul(-2).exp().mean().log()
    assert clusters.uniformity(distances) == pytest.approx(np.log(np.exp(-2 * distances**2).mean()))


def _plain_recall(points: np.ndarray, groups: np.ndarray, k: int) -> float:
    unit, found = _unit(points), []
    for i in range(len(points)):
        for v in range(points.shape[1]):
            candidates = []
            for j in range(len(points)):
                for w in range(points.shape[1]):
                    if (j, w) != (i, v) and (j == i or groups[j] != groups[i]):
                        candidates.append((np.linalg.norm(unit[i, v] - unit[j, w]), j == i))
            found.append(any(own for _, own in sorted(candidates)[:k]))
    return float(np.mean(found))


@pytest.mark.parametrize("k", [1, 5])
def test_recall_equals_a_plain_loop(k: int) -> None:
    points, groups = _views(12, 3, 4, noise=1.0), np.arange(12) // 3
    assert 0 < _plain_recall(points, groups, k) < 1
    assert clusters.retrieval_values(points, groups)[f"recall_at_{k}"].mean() == pytest.approx(
        _plain_recall(points, groups, k)
    )


def test_other_images_of_the_patient_do_not_spoil_recall() -> None:
    points = np.repeat(_views(8, 2, noise=0.1), 2, axis=0)
    points[1::2] += 1e-4
    assert clusters.retrieval_values(points, np.arange(16) // 2)["recall_at_1"].mean() == 1
    assert clusters.retrieval_values(points, None)["recall_at_1"].mean() < 1


def test_margin_and_retrieval_error_are_those_of_separation() -> None:
    points, groups = _views(15, 3, 4, noise=1.0), np.arange(15) // 2
    values, expected = clusters.retrieval_values(points, groups), separation(points, groups)
    assert values["margin"].mean() == pytest.approx(expected.margin)
    assert values["retrieval_error"].mean() == pytest.approx(expected.retrieval_error)


@pytest.mark.parametrize(("n", "dim"), [(30, 6), (5, 12)])
def test_lidar_equals_the_generalised_eigenvalue_problem(n: int, dim: int) -> None:
    points = _views(n, 4, dim)
    means = points.mean(axis=1)
    between = np.cov(means.T, bias=True)
    within = sum(np.outer(d, d) for d in (points - means[:, None]).reshape(-1, dim)) / (4 * n)
    values = eigh(between, within + 1e-4 * np.trace(within) / dim * np.eye(dim), eigvals_only=True).clip(0)
    shares = values / values.sum() + 1e-7
    assert clusters.lidar(points) == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-5)


def test_lidar_counts_the_directions_that_tell_images_apart() -> None:
    rng = np.random.default_rng(0)
    signal = np.zeros((400, 1, 8))
    signal[:, 0, :3] = rng.standard_normal((400, 3)) * 100
    assert clusters.lidar(signal + rng.standard_normal((400, 10, 8))) == pytest.approx(3, abs=0.1)


def test_weights_of_lidar_stand_for_repeated_images() -> None:
    points, weights = _views(9), np.array([2, 0, 1, 1, 3, 0, 1, 0, 1])
    assert clusters.lidar(points, weights=weights) == pytest.approx(clusters.lidar(np.repeat(points, weights, axis=0)))


def _all(points: np.ndarray) -> np.ndarray:
    retrieval = clusters.retrieval_values(points, None)
    return np.array(
        [
            clusters.alignment(points),
            clusters.silhouette_values(points).mean(),
            clusters.silhouette_values(points, normalize=False).mean(),
            clusters.davies_bouldin(points),
            clusters.calinski_harabasz(points),
            clusters.lidar(points),
            *[values.mean() for values in retrieval.values()],
        ]
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.integers(-12, 12))
def test_scale_rotation_and_order_do_not_matter(seed: int, exponent: int) -> None:
    points, rng = _views(9, 3, 5, seed=seed), np.random.default_rng(seed)
    changed = points[rng.permutation(9)][:, rng.permutation(3)] @ ortho_group.rvs(5, random_state=seed)
    np.testing.assert_allclose(_all(changed * 10.0**exponent), _all(points), rtol=1e-5, atol=1e-8)


def test_views_of_equal_images_have_no_clusters() -> None:
    points = np.ones((6, 3, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert clusters.silhouette_values(points).tolist() == [[0.0] * 3] * 6
        assert clusters.davies_bouldin(points) is None
        assert clusters.calinski_harabasz(points) is None
        assert clusters.lidar(points) is None
        assert clusters.retrieval_values(points)["recall_at_1"].mean() == 0


def test_fewer_negatives_than_k_find_their_own() -> None:
    assert clusters.retrieval_values(_views(2, 2))["recall_at_5"].tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((3, 2)), r"shape \(3, 2\)"),
        (np.zeros((1, 2, 3)), r"1 image\(s\) with 2 view\(s\)"),
        (np.zeros((3, 1, 3)), r"3 image\(s\) with 1 view\(s\)"),
        (np.full((3, 2, 3), np.nan), "6 of 6 are not finite"),
    ],
)
def test_unusable_embeddings_are_refused(points: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        clusters.silhouette_values(points)


def test_positive_distances_equal_cdist() -> None:
    points = _views(5, 4)
    for found, image in zip(clusters.positive_distances(points), points, strict=True):
        np.testing.assert_allclose(np.where(np.eye(4), 0, found), cdist(image, image), atol=1e-12)
