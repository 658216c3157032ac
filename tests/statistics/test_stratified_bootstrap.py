"""Resamples of the test images: what is drawn, and metrics of all resamples at once."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from augscale.evaluation.metrics import evaluate_scores
from augscale.statistics.stratified_bootstrap import (
    RESAMPLED,
    bootstrap_p,
    percentile_interval,
    resample_notes,
    resample_weights,
    resampled_metrics,
    weighted_areas,
)

LABELS = np.array([0] * 20 + [1] * 5 + [2])


def made(n=150, k=4, seed=0, digits=2):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    scores = np.round(rng.dirichlet(np.ones(k), n) + 0.4 * np.eye(k)[labels], digits) + 1e-3
    return labels, scores / scores.sum(axis=1, keepdims=True)


def test_every_class_keeps_its_number_of_images():
    weights = resample_weights(LABELS, resamples=50)
    for c, count in ((0, 20), (1, 5), (2, 1)):
        assert weights[c == LABELS].sum(axis=0) == pytest.approx(np.full(50, count))
    assert weights.std(axis=1)[:25].min() > 0


def test_images_are_drawn_evenly():
    weights = resample_weights(np.zeros(10, dtype=int), resamples=4000)
    assert weights.mean(axis=1) == pytest.approx(np.ones(10), abs=0.06)
    assert weights.var(axis=1) == pytest.approx(np.full(10, 1.0), abs=0.12)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_the_mean_of_few_values_varies_as_the_textbook_says(count):
    values = np.random.default_rng(count).normal(size=count)
    weights = resample_weights(np.zeros(count, dtype=int), resamples=20_000)
    means = (values[:, None] * weights).sum(axis=0) / weights.sum(axis=0)
    assert means.var() == pytest.approx(values.var(ddof=1) / count, rel=0.05)


def test_a_resample_depends_on_its_number_only():
    assert (resample_weights(LABELS, resamples=7) == resample_weights(LABELS, resamples=30)[:, :7]).all()
    assert (resample_weights(LABELS, resamples=7, seed=1) != resample_weights(LABELS, resamples=7)).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_patients_are_drawn_whole_and_no_class_vanishes(seed):
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 4, 40), rng.integers(0, 15, 40)
    weights = resample_weights(labels, groups, resamples=40, seed=seed)
    for patient in np.unique(groups):
        of_patient = weights[groups == patient]
        assert (of_patient == of_patient[0]).all()
    for c in np.unique(labels):
        assert weights[labels == c].sum(axis=0).min() > 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_weighted_areas_are_scikit_learns_with_sample_weight(seed, digits):
    rng = np.random.default_rng(seed)
    n = 40
    positive = np.arange(n) < rng.integers(1, n)
    scores = np.round(rng.random(n), digits)
    weights = rng.integers(0, 3, (n, 6)) * rng.choice([1.0, 1.5], (n, 1))
    weights[positive.argmax()] = weights[positive.argmin()] = 1
    auroc, aupr = weighted_areas(positive, scores, weights)
    for b in range(6):
        assert auroc[b] == pytest.approx(sk.roc_auc_score(positive, scores, sample_weight=weights[:, b]))
        assert aupr[b] == pytest.approx(sk.average_precision_score(positive, scores, sample_weight=weights[:, b]))


@pytest.mark.parametrize("patients", [False, True])
def test_each_resample_has_the_metrics_of_its_images_written_out(patients):
    labels, scores = made()
    groups = np.arange(len(labels)) // 3 if patients else None
    weights = resample_weights(labels, groups, resamples=5)
    # Whole numbers, so that the images can be written out.
    weights = np.round(weights)
    found = resampled_metrics(labels, scores, weights, ordered=True)
    assert set(found) == set(RESAMPLED)
    for b in range(5):
        drawn = np.repeat(np.arange(len(labels)), weights[:, b].astype(int))
        expected = evaluate_scores(labels[drawn], scores[drawn], "abcd", ordered=True).values
        assert {n: found[n][b] for n in RESAMPLED} == pytest.approx({n: expected[n] for n in RESAMPLED}, abs=1e-12)


def test_absent_classes_and_single_class_sets():
    labels, scores = made()
    kept = labels != 2
    weights = np.ones((kept.sum(), 1), dtype=np.float32)
    found = resampled_metrics(labels[kept], scores[kept], weights, ordered=True)
    expected = evaluate_scores(labels[kept], scores[kept], "abcd", ordered=True).values
    assert {n: found[n][0] for n in RESAMPLED} == pytest.approx({n: expected[n] for n in RESAMPLED})
    only = labels == 0
    found = resampled_metrics(labels[only], scores[only], np.ones((only.sum(), 1), dtype=np.float32))
    undefined = {name for name, values in found.items() if np.isnan(values).all()}
    assert undefined == {"auroc", "aupr", "paper_sensitivity", "released_accuracy", "kappa"}


def test_few_images_or_patients_of_a_class_are_noted():
    assert resample_notes(LABELS, None, "abc") == (
        "fewer than 5 test images of c (1): intervals over test images are too narrow there",
    )
    assert "patients of b (1), c (1)" in resample_notes(LABELS, np.where(LABELS == 0, np.arange(26), 99), "abc")[0]
    assert resample_notes(np.repeat([0, 1], 5), None, "ab") == ()


def test_percentile_interval_and_p_value():
    values = np.arange(1000.0)
    assert percentile_interval(values) == pytest.approx((24.975, 974.025))
    assert percentile_interval(np.array([1.0, np.nan])) is None
    assert bootstrap_p(np.full(999, 0.1)) == pytest.approx(2 / 1000)
    assert bootstrap_p(np.zeros(999)) == 1
    assert bootstrap_p(np.array([np.nan])) is None
    assert bootstrap_p(np.linspace(-1, 3, 999)) == pytest.approx(0.5, abs=0.01)


def test_a_thousand_resamples_of_the_largest_test_set_take_seconds():
    labels, scores = made(n=1100, k=5, digits=6)
    start = time.process_time()
    resampled_metrics(labels, scores, resample_weights(labels, resamples=1000))
    assert time.process_time() - start < 5
