"""k-NN and silhouette of labels equal scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, silhouette_samples
from sklearn.neighbors import KNeighborsClassifier

from augscale.diagnosis import labels as metrics
from augscale.diagnosis.labels import Labelled
from augscale.errors import DataError


def _case(n: int = 60, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    own = np.append(np.arange(classes), rng.integers(0, classes, n - classes))
    return rng.standard_normal((n, 6)) + 1.2 * rng.standard_normal((classes, 6))[own], own


def _unit(points: np.ndarray) -> np.ndarray:
    return points / np.linalg.norm(points, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 7, 20, 500])
def test_votes_equal_scikit_learn_trained_on_the_other_patients(k: int) -> None:
    points, own = _case()
    groups = np.arange(60) // 2
    votes = metrics.knn_votes(points, own, groups, k=k)
    unit = _unit(points)
    for row in range(60):
        others = groups != groups[row]
        # Euclidean on the unit sphere: cosine = 1 - d^2 / 2.
        model = KNeighborsClassifier(
            min(k, others.sum()), weights=lambda d: np.exp((1 - d**2 / 2) / 0.07), algorithm="brute"
        )
        expected = model.fit(unit[others], own[others]).predict_proba(unit[row : row + 1])[0]
        np.testing.assert_allclose(votes[row], expected, atol=1e-9)


def test_a_duplicate_of_the_same_patient_does_not_vote() -> None:
    points, own = _case(40)
    doubled, twice = np.repeat(points, 2, axis=0), np.random.default_rng(1).permutation(np.repeat(own, 2))
    by_patient = metrics.knn_votes(doubled, twice, np.repeat(np.arange(40), 2), k=1)
    by_image = metrics.knn_votes(doubled, twice, k=1)
    twin = twice.reshape(-1, 2)[:, ::-1].ravel()
    assert (by_image.argmax(axis=1) == twin).all()
    assert (by_patient.argmax(axis=1) == twin).mean() < 0.8


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_macro_auroc_equals_scikit_learn(classes: int) -> None:
    points, own = _case(50, classes)
    votes = metrics.knn_votes(points, own, k=5)
    one_hot = np.eye(classes)[own]
    expected = np.mean([roc_auc_score(one_hot[:, c], votes[:, c]) for c in range(classes)])
    assert metrics.macro_auroc(votes, own) == pytest.approx(expected)
    if classes > 2:
        assert metrics.macro_auroc(votes, own) == pytest.approx(roc_auc_score(own, votes, multi_class="ovr"))


def test_resampled_auroc_equals_repeated_images() -> None:
    points, own = _case(40)
    votes = np.round(metrics.knn_votes(points, own, k=5), 1)
    weights = np.random.default_rng(2).multinomial(40, np.full(40, 1 / 40), size=6).astype(float)
    found = metrics.resampled_macro_auroc(votes, own, weights)
    for area, row in zip(found, weights, strict=True):
        rows = np.repeat(np.arange(40), row.astype(int))
        assert area == pytest.approx(metrics.macro_auroc(votes[rows], own[rows]))


def test_class_silhouette_equals_scikit_learn_also_with_a_class_of_one() -> None:
    points, own = _case(30)
    own[own == 2] = 1
    own[4] = 2
    expected = silhouette_samples(_unit(points), own)
    np.testing.assert_allclose(metrics.class_silhouette_values(points, own), expected, atol=1e-9)
    assert expected[4] == 0


def test_separated_classes_score_best_and_random_labels_chance() -> None:
    own = np.repeat(np.arange(3), 100)
    points = np.eye(3)[own] + 0.01 * np.random.default_rng(0).standard_normal((300, 3))
    votes = metrics.knn_votes(points, own)
    assert metrics.knn_correct(votes, own).mean() == 1
    assert metrics.macro_auroc(votes, own) == 1
    assert metrics.class_silhouette_values(points, own).min() > 0.9
    shuffled = np.random.default_rng(1).permutation(own)
    votes = metrics.knn_votes(np.random.default_rng(2).standard_normal((300, 3)), shuffled)
    assert metrics.macro_auroc(votes, shuffled) == pytest.approx(0.5, abs=0.07)


def test_scale_and_order_do_not_matter() -> None:
    points, own = _case()
    order = np.random.default_rng(3).permutation(60)
    votes = metrics.knn_votes(points, own)
    np.testing.assert_allclose(metrics.knn_votes(points[order] * 1e6, own[order]), votes[order], atol=1e-9)


def test_a_row_without_neighbours_votes_for_all() -> None:
    points, own = _case(4, 2)
    assert metrics.knn_votes(points, own, np.zeros(4)).tolist() == [[0.5, 0.5]] * 4


def test_unknown_labels_are_left_out() -> None:
    known = Labelled.of(["b", None, "a", 3, None, "b"])
    assert known.rows.tolist() == [0, 2, 3, 5]
    assert known.classes == ("3", "a", "b")
    assert known.labels.tolist() == [2, 1, 0, 2]
    assert known.sizes.tolist() == [1, 1, 2]
    assert Labelled.of([None, None]).classes == ()


def test_one_class_has_no_silhouette() -> None:
    with pytest.raises(DataError, match=r"1 class\(es\); expected at least 2"):
        metrics.class_silhouette_values(np.zeros((3, 2)), [1, 1, 1])
