"""Every metric against scikit-learn or a plain loop, on random and degenerate predictions."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from augscale.errors import DataError
from augscale.evaluation.metrics import evaluate_scores, pr_points, reliability, roc_points
from augscale.records.metrics import EVALUATION_METRICS

NAMES = ("normal", "mild", "moderate", "severe", "proliferative", "other")


@st.composite
def predictions(draw, *, all_classes=False):
    """Labels and scores; scores are rounded, so that ties are common."""
    k = draw(st.integers(2, 6))
    n = draw(st.integers(k if all_classes else 1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, k, n)
    if all_classes:
        labels[:k] = range(k)
    counts = rng.integers(0, draw(st.sampled_from([2, 4, 50])), (n, k)) + np.eye(k, dtype=int)[rng.integers(0, k, n)]
    return labels, counts / counts.sum(axis=1, keepdims=True), NAMES[:k]


@settings(max_examples=30, deadline=None)
@given(predictions(all_classes=True))
def test_with_every_class_present_all_metrics_are_scikit_learns(made):
    labels, scores, classes = made
    values = evaluate_scores(labels, scores, classes, ordered=True).values
    predicted = scores.argmax(axis=1)
    multi = len(classes) > 2
    expected = {
        "auroc": sk.roc_auc_score(labels, scores, multi_class="ovr") if multi else
        np.mean([sk.roc_auc_score(labels == c, scores[:, c]) for c in (0, 1)]),
        "aupr": sk.average_precision_score(np.eye(len(classes))[labels], scores),
        "sensitivity": sk.recall_score(labels, predicted, average="macro", zero_division=0),
        "f1": sk.f1_score(labels, predicted, average="macro", zero_division=0),
        "accuracy": sk.accuracy_score(labels, predicted),
        "kappa": sk.cohen_kappa_score(labels, predicted, weights="quadratic"),
    }  # fmt: skip
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert values["sensitivity"] == pytest.approx(sk.balanced_accuracy_score(labels, predicted))


@settings(max_examples=30, deadline=None)
@given(predictions())
def test_absent_classes_are_left_out_of_every_mean(made):
    labels, scores, classes = made
    found = evaluate_scores(labels, scores, classes, ordered=True)
    predicted, present = scores.argmax(axis=1), np.unique(labels)
    absent = [name for index, name in enumerate(classes) if index not in present]
    assert [c.name for c in found.per_class if c.support == 0] == absent
    assert bool(absent) == any("no test image of class" in note for note in found.notes)
    if len(present) == 1:
        assert found.values["auroc"] is None
        assert found.values["aupr"] is None
        assert "every test image is of class" in found.reasons["auroc"]
    else:
        curves = [sk.roc_auc_score(labels == c, scores[:, c]) for c in present]
        areas = [sk.average_precision_score(labels == c, scores[:, c]) for c in present]
        assert found.values["auroc"] == pytest.approx(np.mean(curves), abs=1e-12)
        assert found.values["aupr"] == pytest.approx(np.mean(areas), abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found.values["sensitivity"] == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    f1 = sk.f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    assert found.values["f1"] == pytest.approx(f1)
    assert all((found.values[name] is None) == (name in found.reasons) for name in EVALUATION_METRICS)


@settings(max_examples=20, deadline=None)
@given(predictions(all_classes=True))
def test_sensitivity_and_accuracy_of_the_released_script_skip_class_0(made):
    labels, scores, classes = made
    predicted = scores.argmax(axis=1)
    recalls, accuracies = [], []
    for c in range(1, len(classes)):
        tp = sum(p == c and t == c for p, t in zip(predicted, labels, strict=True))
        tn = sum(p != c and t != c for p, t in zip(predicted, labels, strict=True))
        fn = sum(p != c and t == c for p, t in zip(predicted, labels, strict=True))
        recalls.append(tp / (tp + fn))
        accuracies.append((tp + tn) / len(labels))
    values = evaluate_scores(labels, scores, classes).values
    assert values["paper_sensitivity"] == pytest.approx(np.mean(recalls))
    assert values["released_accuracy"] == pytest.approx(np.mean(accuracies))


def test_always_saying_normal_looks_good_only_in_the_released_accuracy():
    labels = np.array([0] * 90 + [1] * 5 + [2] * 5)
    scores = np.tile([0.8, 0.1, 0.1], (100, 1))
    values = evaluate_scores(labels, scores, NAMES[:3]).values
    assert values["released_accuracy"] == pytest.approx(0.95)
    assert values["paper_sensitivity"] == 0
    assert values["sensitivity"] == pytest.approx(1 / 3)
    assert values["auroc"] == 0.5


@settings(max_examples=20, deadline=None)
@given(predictions())
def test_reliability_has_the_bins_of_scikit_learn(made):
    labels, scores, classes = made
    bins = [b for b in reliability(labels, scores) if b.count]
    right, confidence = scores.argmax(axis=1) == labels, scores.max(axis=1)
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=15)
    assert [b.accuracy for b in bins] == pytest.approx(accuracy)
    assert [b.confidence for b in bins] == pytest.approx(mean_confidence)
    gaps = [b.count * abs(a - c) for b, a, c in zip(bins, accuracy, mean_confidence, strict=True)]
    assert evaluate_scores(labels, scores, classes).values["ece"] == pytest.approx(sum(gaps) / len(labels))


def test_scores_that_mean_what_they_say_have_no_calibration_error():
    labels = np.array([0, 0, 0, 1] * 5)
    assert evaluate_scores(labels, np.tile([0.75, 0.25], (20, 1)), NAMES[:2]).values["ece"] == 0


def test_areas_under_the_points_are_the_metrics():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 3, 80), rng.dirichlet(np.ones(3), 80)
    found = evaluate_scores(labels, scores, NAMES[:3])
    for c in range(3):
        false_rate, true_rate = roc_points(labels, scores, c)
        recall, precision = pr_points(labels, scores, c)
        assert sk.auc(false_rate, true_rate) == pytest.approx(found.per_class[c].auroc)
        assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(found.per_class[c].aupr)


def test_curves_of_an_absent_class_and_of_a_single_class_are_none():
    labels, scores = np.zeros(4, dtype=int), np.full((4, 2), 0.5)
    assert roc_points(labels, scores, 0) is None
    assert pr_points(labels, scores, 1) is None


def test_no_test_images_give_no_values_and_one_reason():
    found = evaluate_scores(np.zeros(0, dtype=int), np.zeros((0, 3)), NAMES[:3], ordered=True)
    assert set(found.values.values()) == {None}
    assert found.notes == ("there are no test images",)


def test_one_image_per_class_is_measured():
    values = evaluate_scores(np.arange(3), np.eye(3), NAMES[:3], ordered=True).values
    assert {values[name] for name in EVALUATION_METRICS if name != "ece"} == {1.0}
    assert values["ece"] == 0


def test_kappa_needs_an_order_and_two_classes():
    labels, scores = np.array([0, 0]), np.array([[0.9, 0.1], [0.8, 0.2]])
    assert "order" in evaluate_scores(labels, scores, NAMES[:2]).reasons["kappa"]
    assert "one class" in evaluate_scores(labels, scores, NAMES[:2], ordered=True).reasons["kappa"]


def test_a_test_set_of_normal_images_has_no_paper_sensitivity():
    found = evaluate_scores(np.zeros(3, dtype=int), np.tile([0.9, 0.1], (3, 1)), NAMES[:2])
    assert found.values["paper_sensitivity"] is None
    assert "skips class 0 (normal)" in found.reasons["paper_sensitivity"]
    assert found.values["sensitivity"] == 1


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], r"1 of 2 images are not finite \(first: row 1\)"),
        ([0, 1], [[0.5, 0.5], [np.inf, 0.5]], "not finite"),
        ([0, 1], [[0.5, 0.5], [0.2, 0.3]], "row 1 sum to 0.5"),
        ([0, 1], [[0.5, 0.5], [1.5, -0.5]], "smallest -0.5"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "label 2 is not a class; expected 0 to 1"),
        ([0, -1], [[0.5, 0.5], [0.5, 0.5]], "label -1 is not a class"),
        ([0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]], "expected whole numbers"),
        ([0], [[0.5, 0.5], [0.5, 0.5]], r"expected \(N,\) labels and \(N, 2\) scores"),
    ],
)
def test_unusable_predictions_are_refused_with_what_was_found(labels, scores, message):
    with pytest.raises(DataError, match=message):
        evaluate_scores(np.array(labels), np.array(scores), NAMES[:2])
