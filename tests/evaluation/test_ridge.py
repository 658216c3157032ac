"""Cross-validated ridge regression against scikit-learn and plain formulas."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from augscale.evaluation.ridge import PENALTIES, draw_folds, out_of_fold_scores, patients_by_class, ridge_scores


def test_ridge_is_that_of_scikit_learn_at_the_penalty_with_the_least_generalised_error() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(50, 8)) * rng.uniform(0.1, 5, size=8)
    y = np.eye(3)[rng.integers(0, 3, size=50)]
    queries = rng.normal(size=(7, 8))

    scores, penalty = ridge_scores(x, y, queries)

    mean, scale = x.mean(axis=0), x.std(axis=0)
    standard = (x - mean) / scale
    errors = []
    for candidate in PENALTIES:
        fitted = standard @ np.linalg.solve(standard.T @ standard + candidate * np.eye(8), standard.T @ (y - y.mean(0)))
        hat = standard @ np.linalg.solve(standard.T @ standard + candidate * np.eye(8), standard.T)
        errors.append(np.square(y - y.mean(0) - fitted).sum() / (50 - 1 - np.trace(hat)) ** 2)
    assert penalty == PENALTIES[int(np.argmin(errors))]
    expected = Ridge(alpha=penalty).fit(standard, y).predict((queries - mean) / scale)
    np.testing.assert_allclose(scores, expected, atol=1e-9)


def test_ridge_of_constant_and_more_features_than_images_is_finite() -> None:
    x = np.concatenate([np.ones((6, 1)), np.random.default_rng(4).normal(size=(6, 20))], axis=1)

    scores, _ = ridge_scores(x, np.eye(2)[[0, 1, 0, 1, 0, 1]], x)

    assert np.isfinite(scores).all()


def test_the_dual_problem_has_the_same_solution() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(20, 40)), np.eye(2)[rng.integers(0, 2, size=20)]
    queries = rng.normal(size=(6, 40))

    scores, penalty = ridge_scores(x, y, queries)

    mean, scale = x.mean(axis=0), x.std(axis=0)
    standard = (x - mean) / scale
    errors = []
    for candidate in PENALTIES:
        hat = standard @ np.linalg.solve(standard.T @ standard + candidate * np.eye(40), standard.T)
        errors.append(np.square(y - y.mean(0) - hat @ (y - y.mean(0))).sum() / max(20 - 1 - np.trace(hat), 1e-9) ** 2)
    assert penalty == PENALTIES[int(np.argmin(errors))]
    expected = Ridge(alpha=penalty).fit(standard, y).predict((queries - mean) / scale)
    np.testing.assert_allclose(scores, expected, atol=1e-9)


def test_every_image_is_predicted_by_regressions_that_have_not_seen_its_patient() -> None:
    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(30), 2)
    labels = np.repeat(rng.integers(0, 3, size=30), 2)
    features = rng.normal(size=(60, 4)) + labels[:, None]

    folds = draw_folds(labels, groups)
    scores, _ = out_of_fold_scores(features, labels, folds)

    assert folds.shape == (3, 60)
    assert (folds[:, ::2] == folds[:, 1::2]).all(), "both images of a patient are in one fold"
    assert len({tuple(row) for row in folds}) == 3, "every repeat has folds of its own"
    held_out = folds[1] == 2
    expected, _ = ridge_scores(features[~held_out], np.eye(3)[labels[~held_out]], features[held_out])
    np.testing.assert_array_equal(scores[1, held_out], expected)


def test_small_and_single_classes_have_folds_without_warnings() -> None:
    labels = np.array([0] * 12 + [1] * 3 + [2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = draw_folds(labels, np.arange(16))
    assert set(folds[0]) == {0, 1, 2}, "as many folds as the second largest class has patients"
    scores, _ = out_of_fold_scores(np.random.default_rng(7).normal(size=(16, 5)), labels, folds)
    assert scores.shape == (3, 16, 3)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("labels", [np.array([0, 0, 1, 1, 2]), np.array([2, 0, 0, 1, 1])])
def test_patients_of_each_class_are_counted_once(labels: np.ndarray) -> None:
    groups = np.array([0, 0, 1, 2, 3])
    counts = patients_by_class(labels, groups)
    assert counts.sum() == len({*zip(labels.tolist(), groups.tolist(), strict=True)})
