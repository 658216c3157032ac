"""The series of logistic regressions reaches scikit-learn's optima."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from augscale.evaluation.logistic import logistic_path
from augscale.evaluation.protocol_config import LinearConfig

PENALTIES = LinearConfig().inverse_penalties


def features_and_labels(count: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features, as a network's are, that say something about the labels."""
    generator = np.random.default_rng(count + width)
    labels = np.arange(count) % classes
    mixing = generator.normal(size=(width, width)) * 0.7 ** np.arange(width)[:, None] ** 0.5
    features = generator.normal(size=(count, width)) @ mixing + 0.5 * generator.normal(size=(classes, width))[labels]
    return (features - features.mean(axis=0)) / features.std(axis=0), labels


def mean_loss(
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    probabilities: np.ndarray,
    weight: np.ndarray,
    c: float,
) -> float:
    own = np.log(probabilities[np.arange(len(labels)), labels])
    return float(-(weights @ own) / weights.sum() + (weight**2).sum() / (2 * c * weights.sum()))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("count", "width", "classes"), [(40, 90, 4), (90, 30, 3), (40, 90, 2), (90, 30, 2), (30, 30, 3), (2, 5, 2)]
)
def test_losses_are_those_of_scikit_learn(count: int, width: int, classes: int, weighted: bool) -> None:
    features, labels = features_and_labels(count, width, classes)
    weights = np.random.default_rng(1).integers(1, 4, size=count).astype(float) if weighted else None
    times = np.ones(count) if weights is None else weights
    path = logistic_path(features, labels, weights, PENALTIES, tolerance=1e-6, max_iterations=5000)
    for model in path:
        c = model.inverse_penalty
        theirs = LogisticRegression(C=c, tol=1e-8, max_iter=20_000).fit(features, labels, sample_weight=weights)
        assert model.converged
        assert np.array_equal(model.classes, theirs.classes_)
        assert model.weight.shape == theirs.coef_.shape
        assert model.bias.shape == theirs.intercept_.shape
        found = mean_loss(features, labels, times, model.probabilities(features), model.weight, c)
        expected = mean_loss(features, labels, times, theirs.predict_proba(features), theirs.coef_, c)
        assert found == pytest.approx(expected, abs=1e-6)
        np.testing.assert_allclose(model.probabilities(features), theirs.predict_proba(features), atol=2e-3)


def test_a_penalty_alone_gives_what_it_gives_within_the_path() -> None:
    features, labels = features_and_labels(60, 100, 3)
    path = logistic_path(features, labels, None, PENALTIES, tolerance=1e-8, max_iterations=5000)
    for place in (2, 7, 14):
        (alone,) = logistic_path(
            features, labels, None, PENALTIES[place : place + 1], tolerance=1e-8, max_iterations=5000
        )
        np.testing.assert_allclose(path[place].probabilities(features), alone.probabilities(features), atol=1e-4)


def test_labels_need_not_be_consecutive() -> None:
    features, labels = features_and_labels(60, 10, 3)
    (model,) = logistic_path(features, labels * 2 + 1, None, [1.0], tolerance=1e-6, max_iterations=5000)
    assert model.classes.tolist() == [1, 3, 5]
    assert model.probabilities(features).sum(axis=1) == pytest.approx(np.ones(60))


def test_a_fit_that_is_stopped_is_not_called_converged() -> None:
    features, labels = features_and_labels(60, 10, 3)
    (model,) = logistic_path(features, labels, None, [1.0], tolerance=1e-6, max_iterations=2)
    assert not model.converged
