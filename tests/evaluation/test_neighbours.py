"""Protocol `knn` against scikit-learn's classifier with DINO's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from toy_protocols import VIEW_SIZE, toy_config, toy_dataset, toy_encoder

from augscale.evaluation.features import FeatureStore
from augscale.evaluation.neighbours import Knn, knn_scores, unit_rows
from augscale.evaluation.selection import macro_auroc


def _sklearn(train: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int, temperature: float) -> np.ndarray:
    """Euclidean neighbours of unit rows, whose cosine is 1 - d^2 / 2, with weight exp(cosine / T)."""
    model = KNeighborsClassifier(
        k, algorithm="brute", weights=lambda distance: np.exp((1 - distance**2 / 2 - 1) / temperature)
    )
    return model.fit(train.astype(float), labels).predict_proba(queries.astype(float))


@pytest.mark.parametrize("k", [1, 7, 40])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_scores_are_those_of_scikit_learn(k: int, num_classes: int) -> None:
    generator = np.random.default_rng(3)
    train = unit_rows(generator.normal(size=(40, 6)).astype(np.float32))
    labels = np.arange(40) % num_classes
    queries = unit_rows(generator.normal(size=(25, 6)).astype(np.float32))
    found = knn_scores(train, labels, queries, neighbours=k, temperature=0.07, num_classes=num_classes)
    np.testing.assert_allclose(found, _sklearn(train, labels, queries, k, 0.07), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


def test_of_equally_near_images_the_first_listed_count() -> None:
    train = np.ones((99, 1), dtype=np.float32)
    labels = np.array([2, 0] + [1] * 97)
    scores = knn_scores(train, labels, train[:1], neighbours=2, temperature=0.07, num_classes=3)
    np.testing.assert_allclose(scores, [[0.5, 0, 0.5]])


def test_more_neighbours_than_images_are_all_images() -> None:
    train = unit_rows(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    labels = np.array([0, 1, 0, 1, 1])
    few = knn_scores(train, labels, train, neighbours=5, temperature=0.5, num_classes=2)
    assert np.array_equal(few, knn_scores(train, labels, train, neighbours=99, temperature=0.5, num_classes=2))


def test_a_row_of_zeros_stays_finite() -> None:
    assert np.array_equal(unit_rows(np.zeros((1, 4), dtype=np.float32)), np.zeros((1, 4)))


def test_the_protocol_takes_the_k_that_is_best_on_validation(tmp_path: Path) -> None:
    store, dataset, encoder = FeatureStore(tmp_path, device="cpu"), toy_dataset(), toy_encoder()
    protocol = Knn(toy_config(knn={"neighbours": [1, 3, 9, 20, 50]}), store)
    assert not protocol.seeds_matter
    fitted = protocol.fit(encoder, dataset, seed=0)
    train = unit_rows(store.evaluation(encoder, dataset, "train", VIEW_SIZE).embedding)
    parts = {
        split: unit_rows(store.evaluation(encoder, dataset, split, VIEW_SIZE).embedding) for split in ("val", "test")
    }
    aurocs = {
        k: float(macro_auroc(dataset.labels[30:45], _sklearn(train, dataset.labels[:30], parts["val"], k, 0.07)))
        for k in (1, 3, 9, 20)
    }
    assert fitted.selection["offered"] == [1, 3, 9, 20], "50 is more than there are"
    assert fitted.selection["neighbours"] == max(aurocs, key=lambda k: aurocs[k])
    assert fitted.selection["validation_auroc"] == pytest.approx(max(aurocs.values()))
    scores = fitted.predict(dataset, "test")
    np.testing.assert_allclose(
        scores, _sklearn(train, dataset.labels[:30], parts["test"], fitted.selection["neighbours"], 0.07), atol=1e-4
    )
    assert np.array_equal(scores, protocol.fit(encoder, dataset, seed=7).predict(dataset, "test"))
