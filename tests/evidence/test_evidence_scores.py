"""Scores and outcomes of the evidence study against the package's own, scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from augscale.diagnosis.clusters import alignment, silhouette_values
from augscale.scoring.separation import separation
from benchmarks.evidence.baselines import colour_features, pixel_features
from benchmarks.evidence.outcomes import macro_areas
from benchmarks.evidence.scores import METRICS, START_METRICS, level_scores, natural_scores, start_scores


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(40, 1, 12)) + 2.0
    return (centers + 0.6 * rng.normal(size=(40, 2, 12))).astype(np.float32)


@pytest.fixture(scope="module")
def groups() -> np.ndarray:
    return np.repeat(np.arange(20), 2)


def test_pair_metrics_are_those_of_the_package(points: np.ndarray, groups: np.ndarray) -> None:
    found = level_scores(points, groups)
    expected = separation(points, groups)

    assert set(found) == set(METRICS) - set(START_METRICS)
    for name in ("dprime", "pair_auroc", "margin", "retrieval_error"):
        assert found[name] == pytest.approx(getattr(expected, name), abs=1e-9)
    assert found["gap"] == pytest.approx(expected.negative_mean - expected.positive_mean, abs=1e-9)
    assert found["raw_gap"] == pytest.approx(expected.raw_negative_mean - expected.raw_positive_mean, abs=1e-6)
    assert found["alignment"] == pytest.approx(alignment(points), abs=1e-9)
    assert found["silhouette"] == pytest.approx(silhouette_values(points).mean(), abs=1e-9)
    raw = silhouette_values(points, normalize=False).mean()
    assert found["raw_silhouette"] == pytest.approx(raw, abs=1e-6)


def test_raw_metrics_are_those_of_distances_by_plain_loops(points: np.ndarray, groups: np.ndarray) -> None:
    near = [np.linalg.norm(first - second) for first, second in points.astype(float)]
    flat, own = points.reshape(80, -1).astype(float), np.repeat(groups, 2)
    far = [np.linalg.norm(flat[i] - flat[j]) for i in range(80) for j in range(i) if own[i] != own[j]]
    labels = [0] * len(near) + [1] * len(far)

    found = level_scores(points, groups)

    assert found["raw_pair_auroc"] == pytest.approx(roc_auc_score(labels, near + far), abs=1e-9)
    spread = np.sqrt((np.var(near) + np.var(far)) / 2)
    assert found["raw_dprime"] == pytest.approx((np.mean(far) - np.mean(near)) / spread, abs=1e-9)


def test_natural_pairs_are_images_of_one_patient() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(30, 5)).astype(np.float32)
    groups = rng.integers(0, 12, size=30)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    pairs = [(np.linalg.norm(unit[i] - unit[j]), groups[i] != groups[j]) for i in range(30) for j in range(i)]

    found = natural_scores(points, groups)

    expected = roc_auc_score([label for _, label in pairs], [distance for distance, _ in pairs])
    assert found["pair_auroc"] == pytest.approx(expected, abs=1e-6)


def test_macro_areas_are_those_of_scikit_learn_with_the_weights_given() -> None:
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(0, 3, size=60), rng.normal(size=(60, 3))
    weights = np.concatenate([np.ones((60, 1)), rng.integers(0, 3, size=(60, 2))], axis=1).astype(np.float32)

    auroc, aupr = macro_areas(labels, scores, weights)

    for column in range(3):
        expected = [
            (
                roc_auc_score(labels == k, scores[:, k], sample_weight=weights[:, column]),
                average_precision_score(labels == k, scores[:, k], sample_weight=weights[:, column]),
            )
            for k in range(3)
        ]
        assert (auroc[column], aupr[column]) == pytest.approx(tuple(np.mean(expected, axis=0)), abs=1e-9)


def test_colours_know_nothing_of_places() -> None:
    images = np.random.default_rng(5).integers(0, 256, size=(2, 16, 16, 3), dtype=np.uint8)
    shuffled = images.reshape(2, -1, 3)[:, np.random.default_rng(6).permutation(256)].reshape(images.shape)

    features = colour_features(images)

    assert features.shape == (2, 54)
    np.testing.assert_allclose(features, colour_features(shuffled), atol=1e-6)
    np.testing.assert_allclose(features[:, :16], [np.histogram(one[..., 0], 16, (0, 256))[0] / 256 for one in images])


def test_pixels_are_means_over_areas() -> None:
    images = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    images[:, :8] = 255

    features = pixel_features(images, 2)

    assert features.shape == (1, 12)
    assert features[0, 0] > 0.85 > 0.15 > features[0, 2]


def test_likeness_to_the_start_knows_rotations_and_unrelated_embeddings() -> None:
    rng = np.random.default_rng(7)
    start = rng.normal(size=(200, 6)).astype(np.float32)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]

    assert start_scores(start, start) == pytest.approx({"cka_to_start": 1.0, "cosine_to_start": 1.0})
    rotated = start_scores((3 * start @ rotation).astype(np.float32), start)
    assert rotated["cka_to_start"] == pytest.approx(1.0, abs=1e-5)
    assert abs(rotated["cosine_to_start"]) < 0.9
    unrelated = start_scores(rng.normal(size=(200, 6)).astype(np.float32), start)
    assert unrelated["cka_to_start"] < 0.1
    # The plain formula: HSIC of linear kernels.
    other = (start + rng.normal(size=start.shape)).astype(np.float32)
    x, y = (values.astype(np.float64) - values.astype(np.float64).mean(axis=0) for values in (other, start))
    kernels = x @ x.T, y @ y.T
    plain = (kernels[0] * kernels[1]).sum() / (np.linalg.norm(kernels[0]) * np.linalg.norm(kernels[1]))
    assert start_scores(other, start)["cka_to_start"] == pytest.approx(plain)
