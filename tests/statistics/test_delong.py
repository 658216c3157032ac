"""DeLong's test against its definition over all pairs, and against the bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from augscale.statistics.delong import auroc_parts, delong_test, delong_variance, structural_components
from augscale.statistics.stratified_bootstrap import resample_weights, resampled_metrics


def plain_components(positive, scores):
    """The O(mn) definition: mean of psi over the other side."""

    def psi(x, y):
        return 1.0 if y < x else 0.5 if y == x else 0.0

    p, q = scores[positive], scores[~positive]
    v10 = np.array([np.mean([psi(x, y) for y in q]) for x in p])
    v01 = np.array([np.mean([psi(x, y) for x in p]) for y in q])
    return v10, v01


def plain_binary_variance(positive, first, second):
    """Variance of the difference of two AUROCs from the covariance matrices S10 and S01 of DeLong et al."""
    a10, a01 = plain_components(positive, first)
    b10, b01 = plain_components(positive, second)
    covariance = np.cov(np.stack([a10, b10])) / len(a10) + np.cov(np.stack([a01, b01])) / len(a01)
    return covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]


def two_columns(scores):
    return np.stack([1 - scores, scores], axis=1)


def made(n, k, skill, seed):
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(9).integers(0, k, n)
    labels[: 2 * k] = np.repeat(np.arange(k), 2)
    z = np.exp(np.random.default_rng(8).normal(size=(n, k)) + 0.6 * rng.normal(size=(n, k)) + skill * np.eye(k)[labels])
    return labels, z / z.sum(axis=1, keepdims=True)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_mid_ranks_give_the_components_of_the_definition(seed, digits):
    rng = np.random.default_rng(seed)
    positive, scores = np.arange(25) < rng.integers(1, 25), np.round(rng.random(25), digits)
    for fast, plain in zip(structural_components(positive, scores), plain_components(positive, scores), strict=True):
        assert fast == pytest.approx(plain)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_for_two_classes_it_is_delongs_test(seed, digits):
    rng = np.random.default_rng(seed)
    labels = np.array([0, 0, 1, 1, *rng.integers(0, 2, 26)])
    first, second = (np.round(np.clip(0.3 * labels + 0.7 * rng.random(30), 0, 1), digits) for _ in range(2))
    test = delong_test(labels, auroc_parts(labels, [two_columns(first)]), auroc_parts(labels, [two_columns(second)]))
    variance = plain_binary_variance(labels == 1, first, second)
    difference = sk.roc_auc_score(labels, first) - sk.roc_auc_score(labels, second)
    if variance < 1e-20:
        assert test.p_value in (None, 1.0)
        return
    assert test.p_value == pytest.approx(2 * stats.norm.sf(abs(difference) / np.sqrt(variance)))
    assert sum(test.interval) / 2 == pytest.approx(difference)


@pytest.mark.parametrize("positives", [2, 3, 10])
def test_patients_of_one_image_each_change_nothing_also_in_small_classes(positives):
    positive = np.arange(60) < positives
    labels, scores = positive.astype(np.int64), np.random.default_rng(positives).random(60) * (1 + positive) / 2
    part = auroc_parts(labels, [two_columns(scores)])
    official = sum(np.var(component, ddof=1) / len(component) for component in plain_components(positive, scores))
    assert delong_variance(labels, part.contributions) == pytest.approx(official)
    assert delong_variance(labels, part.contributions, np.arange(60)) == pytest.approx(official)
    assert delong_variance(labels, part.contributions, np.where(positive, 0, np.arange(60))) is None


def test_macro_auroc_and_its_parts():
    labels, scores = made(200, 5, 1.0, 0)
    _, other = made(200, 5, 1.0, 1)
    parts = auroc_parts(labels, [scores, other])
    expected = [sk.roc_auc_score(labels, s, multi_class="ovr") for s in (scores, other)]
    assert parts.auroc == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("patients", [False, True])
def test_macro_variance_agrees_with_the_stratified_bootstrap(patients):
    labels, first = made(400, 4, 1.2, 0)
    _, second = made(400, 4, 1.0, 1)
    groups = np.argsort(np.argsort(labels, kind="stable")) // 2 if patients else None
    weights = resample_weights(labels, groups, resamples=1500)
    replicates = [resampled_metrics(labels, s, weights)["auroc"] for s in (first, second)]
    parts = [auroc_parts(labels, [s]) for s in (first, second)]
    for replicate, part in zip(replicates, parts, strict=True):
        variance = delong_variance(labels, part.contributions, groups)
        assert np.sqrt(variance) == pytest.approx(replicate.std(), rel=0.12)
    test = delong_test(labels, *parts, groups)
    low, high = np.percentile(replicates[0] - replicates[1], (2.5, 97.5))
    assert test.interval == pytest.approx((low, high), abs=0.15 * (high - low))
    assert test.covers == ("test images",)


def test_it_rejects_at_its_level_where_checkpoints_are_equal():
    rejected = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(3), 30)
        shared = rng.normal(size=(90, 3)) + np.eye(3)[labels]
        scores = [np.exp(shared + rng.normal(size=(90, 3))) for _ in range(2)]
        parts = [auroc_parts(labels, [s / s.sum(axis=1, keepdims=True)]) for s in scores]
        rejected += delong_test(labels, *parts).p_value < 0.05
    assert 2 <= rejected <= 20  # 200 at 5 %: 10 expected, SD 3.1


def test_equal_scores_are_not_distinguishable():
    labels, scores = made(50, 3, 1.0, 0)
    parts = auroc_parts(labels, [scores])
    assert delong_test(labels, parts, parts).p_value == 1


def test_a_class_of_one_image_and_a_single_class_have_no_test():
    labels, scores = np.array([0, 0, 0, 1, 1, 2]), made(6, 3, 1.0, 0)[1]
    parts = auroc_parts(labels, [scores])
    other = auroc_parts(labels, [scores[:, [1, 2, 0]]])
    test = delong_test(labels, parts, other)
    assert test.p_value is None
    assert "one test image" in test.reason
    assert auroc_parts(np.zeros(6, dtype=int), [scores]) is None
    assert "fewer than two classes" in delong_test(labels, None, parts).reason
