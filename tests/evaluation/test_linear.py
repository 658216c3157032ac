"""Protocol `linear`: converged, standardised, its penalty chosen on validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from toy_protocols import VIEW_SIZE, toy_config, toy_dataset, toy_encoder

from augscale.errors import DataError
from augscale.evaluation.features import FeatureStore
from augscale.evaluation.linear import Linear, fit_path, resample_counts
from augscale.evaluation.protocol_config import LinearConfig
from augscale.evaluation.selection import macro_auroc


def test_the_path_reaches_the_optimum_of_each_penalty() -> None:
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(60, 4)), np.arange(60) % 3
    features[:, 0] += labels
    config = LinearConfig(inverse_penalties=(0.01, 1.0, 100.0))
    for model in fit_path(features, labels, None, config):

        def loss(flat: np.ndarray, c: float = model.inverse_penalty) -> float:
            weight, bias = flat[:12].reshape(3, 4), flat[12:]
            logits = features @ weight.T + bias
            log_sum = np.log(np.exp(logits).sum(axis=1))
            return c * float((log_sum - logits[np.arange(60), labels]).sum()) + 0.5 * float((weight**2).sum())

        best = minimize(loss, np.zeros(15), method="BFGS", options={"gtol": 1e-7}).x
        assert model.converged
        np.testing.assert_allclose(model.weight, best[:12].reshape(3, 4), atol=2e-3)
        assert loss(np.concatenate([model.weight.ravel(), model.bias])) <= loss(best) + 1e-5


def test_the_protocol_equals_a_plain_pipeline_with_the_best_penalty(tmp_path: Path) -> None:
    store, dataset, encoder = FeatureStore(tmp_path, device="cpu"), toy_dataset(), toy_encoder()
    penalties = (1e-3, 1e-2, 0.1, 1.0)
    fitted = Linear(toy_config(linear={"inverse_penalties": penalties}), store).fit(encoder, dataset, seed=0)
    train, val, test = (store.evaluation(encoder, dataset, s, VIEW_SIZE).embedding for s in ("train", "val", "test"))
    pipelines = {
        c: make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-8, max_iter=10_000)).fit(
            train.astype(float), dataset.labels[:30]
        )
        for c in penalties
    }
    aurocs = {c: float(macro_auroc(dataset.labels[30:45], p.predict_proba(val))) for c, p in pipelines.items()}
    assert fitted.selection["inverse_penalty"] == max(aurocs, key=lambda c: aurocs[c])
    assert fitted.selection["validation_auroc"] == pytest.approx(max(aurocs.values()))
    assert fitted.selection["converged"]
    expected = pipelines[fitted.selection["inverse_penalty"]].predict_proba(test)
    np.testing.assert_allclose(fitted.predict(dataset, "test"), expected, atol=1e-4)


def test_a_regression_that_does_not_converge_is_called_so(tmp_path: Path) -> None:
    config = toy_config(linear={"max_iterations": 2, "inverse_penalties": [1.0]})
    fitted = Linear(config, FeatureStore(tmp_path, device="cpu")).fit(toy_encoder(), toy_dataset(), seed=0)
    assert fitted.selection["converged"] is False


def test_without_bootstrap_the_seed_changes_nothing_and_with_it_everything(tmp_path: Path) -> None:
    store, dataset, encoder = FeatureStore(tmp_path, device="cpu"), toy_dataset(), toy_encoder()
    plain = Linear(toy_config(), store)
    resampled = Linear(toy_config(linear={"bootstrap": True}), store)
    assert (plain.seeds_matter, resampled.seeds_matter) == (False, True)
    scores = [p.fit(encoder, dataset, seed=s).predict(dataset, "test") for p in (plain, resampled) for s in (0, 1, 0)]
    assert np.array_equal(scores[0], scores[1])
    assert np.array_equal(scores[3], scores[5])
    assert np.abs(scores[3] - scores[4]).max() > 1e-3


def test_a_resample_draws_whole_patients_as_often_as_there_are_patients() -> None:
    groups = np.repeat(np.arange(20), [1, 3] * 10)
    counts = resample_counts(np.arange(40) % 2, groups, seed=4)
    per_patient = [np.unique(counts[groups == patient]) for patient in range(20)]
    assert all(len(values) == 1 for values in per_patient)
    assert sum(int(values[0]) for values in per_patient) == 20
    assert not np.array_equal(counts, resample_counts(np.arange(40) % 2, groups, seed=5))


def test_resamples_that_always_have_one_class_are_refused() -> None:
    with pytest.raises(DataError, match=r"linear\.bootstrap: resamples of 1 training patients"):
        resample_counts(np.zeros(4, dtype=np.int64), np.zeros(4, dtype=np.int64), seed=0)
