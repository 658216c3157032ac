"""Separation against plain loops and scikit-learn, its invariances, and its degenerate cases."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group
from sklearn.metrics import roc_auc_score

from augscale.errors import DataError
from augscale.scoring.separation import Separation, separation

NUMBERS = (
    "dprime",
    "pair_auroc",
    "positive_mean",
    "positive_sd",
    "negative_mean",
    "negative_sd",
    "retrieval_error",
    "margin",
)


def clusters(n: int = 20, views: int = 2, dim: int = 8, noise: float = 0.7, seed: int = 0) -> np.ndarray:
    """Views scattered around one point per image, far from the origin; float32 (n, views, dim)."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, 1, dim)) + noise * rng.standard_normal((n, views, dim)) + 0.5
    return points.astype(np.float32)


def plain_loops(points: np.ndarray, groups: np.ndarray, *, normalise: bool = True) -> tuple[list[float], list[float]]:
    """Positive and negative distances, one pair after the other."""
    rows = points.astype(np.float64)
    if normalise:
        rows = rows / np.linalg.norm(rows, axis=2, keepdims=True)
    n, views, _ = rows.shape
    positives, negatives = [], []
    for i in range(n):
        for v in range(views):
            for w in range(v + 1, views):
                positives.append(float(np.linalg.norm(rows[i, v] - rows[i, w])))
            for j in range(i + 1, n):
                if groups[i] != groups[j]:
                    negatives += [float(np.linalg.norm(rows[i, v] - rows[j, w])) for w in range(views)]
    return positives, negatives


def plain_retrieval(points: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Retrieval error and margin by a dense search."""
    rows = points.astype(np.float64) / np.linalg.norm(points.astype(np.float64), axis=2, keepdims=True)
    n, views, dim = rows.shape
    distances = cdist(rows.reshape(-1, dim), rows.reshape(-1, dim))
    wrong, margins = [], []
    for i in range(n):
        others = np.repeat(groups != groups[i], views)
        for v in range(views):
            nearest = distances[i * views + v][others].min()
            for w in range(views):
                if w != v:
                    positive = distances[i * views + v, i * views + w]
                    wrong.append(nearest <= positive)
                    margins.append(nearest - positive)
    return float(np.mean(wrong)), float(np.mean(margins))


@pytest.mark.parametrize("views", [2, 4])
@pytest.mark.parametrize("patients", [None, 7])
def test_scores_agree_with_plain_loops(views: int, patients: int | None) -> None:
    points = clusters(views=views)
    groups = np.arange(20) if patients is None else np.random.default_rng(1).integers(0, patients, 20)
    found = separation(points, None if patients is None else groups)
    positives, negatives = plain_loops(points, groups)
    expected = (np.mean(negatives) - np.mean(positives)) / math.sqrt((np.var(negatives) + np.var(positives)) / 2)
    assert found.dprime == pytest.approx(expected, rel=1e-9)
    assert found.positive_mean == pytest.approx(np.mean(positives), rel=1e-9)
    assert found.negative_mean == pytest.approx(np.mean(negatives), rel=1e-9)
    assert found.positive_sd == pytest.approx(np.std(positives), rel=1e-9)
    assert found.negative_sd == pytest.approx(np.std(negatives), rel=1e-9)
    truth = [0] * len(positives) + [1] * len(negatives)
    assert found.pair_auroc == pytest.approx(roc_auc_score(truth, positives + negatives), abs=1e-12)
    edges = np.linspace(0, 2, 65)
    assert list(found.positive_histogram) == np.histogram(positives, edges)[0].tolist()
    assert list(found.negative_histogram) == np.histogram(negatives, edges)[0].tolist()


@pytest.mark.parametrize("views", [2, 3])
def test_hard_negatives_agree_with_a_dense_search(views: int) -> None:
    points = clusters(n=24, views=views, noise=0.5)
    groups = np.arange(24) // 2
    found = separation(points, groups)
    error, margin = plain_retrieval(points, groups)
    assert 0 < error < 1
    assert found.retrieval_error == pytest.approx(error, abs=1e-12)
    assert found.margin == pytest.approx(margin, abs=1e-9)


def test_raw_means_are_those_of_unnormalised_embeddings() -> None:
    points = clusters() * np.linspace(1, 30, 20, dtype=np.float32)[:, None, None]
    positives, negatives = plain_loops(points, np.arange(20), normalise=False)
    found = separation(points)
    assert found.raw_positive_mean == pytest.approx(np.mean(positives), rel=1e-9)
    assert found.raw_negative_mean == pytest.approx(np.mean(negatives), rel=1e-9)


def test_overlap_is_the_common_area_of_the_histograms() -> None:
    found = separation(clusters())
    positive, negative = (np.array(h) / sum(h) for h in (found.positive_histogram, found.negative_histogram))
    assert found.overlap == pytest.approx(np.minimum(positive, negative).sum())


def test_images_of_one_patient_are_never_negatives() -> None:
    # Both eyes of a patient look alike. Counted as negatives they would be the nearest by far.
    points = np.repeat(clusters(n=8, noise=0.2), 2, axis=0) + 1e-3 * clusters(n=16, seed=5)
    patients = np.repeat(np.arange(8), 2)
    by_patient, by_image = separation(points, patients), separation(points)
    assert sum(by_patient.negative_histogram) == 8 * 7 // 2 * 16
    assert sum(by_image.negative_histogram) == 16 * 15 // 2 * 4
    assert by_patient.retrieval_error == 0
    assert by_image.retrieval_error == 1


def test_groups_may_be_names() -> None:
    points = clusters(n=6)
    names = np.array(["b", "a", "b", "c", "c", "d"])
    assert separation(points, names) == separation(points, np.array([1, 0, 1, 2, 2, 3]))


def _numbers(result: Separation) -> np.ndarray:
    return np.array([getattr(result, name) for name in NUMBERS])


shapes = st.tuples(st.integers(3, 12), st.integers(2, 4), st.integers(2, 9), st.integers(0, 10**6))


@settings(max_examples=25, deadline=None)
@given(shape=shapes, exponent=st.integers(-12, 12))
def test_multiplying_all_features_changes_nothing(shape: tuple[int, int, int, int], exponent: int) -> None:
    n, views, dim, seed = shape
    points = clusters(n, views, dim, seed=seed).astype(np.float64)
    scaled = separation(points * 10.0**exponent)
    np.testing.assert_allclose(_numbers(scaled), _numbers(separation(points)), atol=1e-6)
    # A power of two is exact in floating point, so every digit stays.
    assert separation(points.astype(np.float32) * np.float32(8)).dprime == separation(points.astype(np.float32)).dprime


@settings(max_examples=25, deadline=None)
@given(shape=shapes)
def test_rotating_the_features_changes_nothing(shape: tuple[int, int, int, int]) -> None:
    n, views, dim, seed = shape
    points = clusters(n, views, dim, seed=seed).astype(np.float64)
    rotation = ortho_group.rvs(dim, random_state=seed)
    np.testing.assert_allclose(_numbers(separation(points @ rotation)), _numbers(separation(points)), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(shape=shapes)
def test_the_order_of_images_and_views_changes_nothing(shape: tuple[int, int, int, int]) -> None:
    n, views, dim, seed = shape
    rng = np.random.default_rng(seed)
    points = clusters(n, views, dim, seed=seed)
    groups = np.append(rng.integers(0, 3, n - 2), [0, 1])
    order = rng.permutation(n)
    shuffled = points[order][:, rng.permutation(views)]
    np.testing.assert_allclose(
        _numbers(separation(shuffled, groups[order])), _numbers(separation(points, groups)), atol=1e-9
    )


def test_scores_rise_as_views_come_closer() -> None:
    results = [separation(clusters(noise=noise)) for noise in (2.0, 1.0, 0.5, 0.1)]
    for name, sign in (("dprime", 1), ("pair_auroc", 1), ("margin", 1), ("retrieval_error", -1), ("overlap", -1)):
        values = [sign * getattr(result, name) for result in results]
        assert values == sorted(values), name
        assert values[0] < values[-1], name


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, 1e20])
def test_equal_embeddings_score_nothing_and_are_flagged(value: float) -> None:
    found = separation(np.full((10, 3, 17), value, dtype=np.float32), bootstrap=20)
    assert (found.dprime, found.pair_auroc, found.degenerate) == (0.0, 0.5, True)
    assert (found.retrieval_error, found.margin, found.overlap) == (1.0, 0.0, 1.0)
    assert found.dprime_interval == (0.0, 0.0)
    assert found.pair_auroc_interval == (0.5, 0.5)


def test_rounding_noise_of_a_constant_network_is_no_signal() -> None:
    # Views of an image agree to the last bit, images differ in the last bit: AUROC of the noise would be 1.
    one = np.ones((12, 1, 64)) + 6e-8 * np.random.default_rng(0).standard_normal((12, 1, 64))
    found = separation(np.repeat(one.astype(np.float32), 2, axis=1))
    assert (found.dprime, found.pair_auroc, found.degenerate) == (0.0, 0.5, True)


def test_perfect_views_of_equidistant_images_score_finitely() -> None:
    found = separation(np.repeat(np.eye(5, dtype=np.float32)[:, None], 2, axis=1))
    assert math.isfinite(found.dprime)
    assert found.dprime > 1e5
    assert found.pair_auroc == 1.0
    assert found.degenerate


def test_one_zero_embedding_does_not_spoil_the_others() -> None:
    points = clusters()
    points[3, 1] = 0
    assert np.isfinite(_numbers(separation(points))).all()


@pytest.mark.parametrize(
    ("points", "groups", "message"),
    [
        (clusters(n=1), None, r"1 image\(s\); expected at least 3"),
        (clusters(n=2), None, r"2 image\(s\); expected at least 3"),
        (clusters(views=1), None, r"1 view\(s\) per image; expected at least 2"),
        (clusters(n=4), [5, 5, 5, 5], "all 4 images belong to one; expected at least 2"),
        (clusters(n=4), [0, 1], r"groups: shape \(2,\); expected one group per image, \(4,\)"),
        (clusters()[:, 0], None, r"shape \(20, 8\); expected floats of shape \(images, views, features\)"),
        (np.zeros((4, 2, 3), dtype=np.int64), None, "int64 of shape"),
        (np.zeros((4, 2, 0)), None, r"shape \(4, 2, 0\); expected .* at least 1 each"),
        (np.where(np.arange(160).reshape(5, 4, 8) == 9, np.nan, clusters(5, 4)), None, "1 of 20 are not finite"),
        (np.full((4, 2, 3), np.inf), None, "8 of 8 are not finite"),
    ],
)
def test_unusable_embeddings_are_refused_in_one_line(points: np.ndarray, groups: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        separation(points, groups)
    assert "\n" not in str(error.value)


def test_result_is_plain_json() -> None:
    values = json.loads(json.dumps(separation(clusters(), bootstrap=5).to_dict(), allow_nan=False))
    assert len(values["histogram_edges"]) == 65
    assert len(values["positive_histogram"]) == len(values["negative_histogram"]) == 64
    assert len(values["dprime_interval"]) == len(values["pair_auroc_interval"]) == 2
    assert separation(clusters()).to_dict()["dprime_interval"] is None
