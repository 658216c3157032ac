"""The scores that choose on validation, against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, f1_score, roc_auc_score

from augscale.evaluation.selection import macro_auroc, pick, retfound_score


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("decimals", [1, 9], ids=["many ties", "no ties"])
def test_macro_auroc_is_that_of_scikit_learn_for_every_leading_row(num_classes: int, decimals: int) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, num_classes, 60)
    scores = generator.random((4, 60, num_classes)).round(decimals)
    found = macro_auroc(labels, scores)
    assert found.shape == (4,)
    for row, values in zip(found, scores, strict=True):
        each = [roc_auc_score(labels == c, values[:, c]) for c in range(num_classes)]
        assert row == pytest.approx(np.mean(each), abs=1e-12)


def test_classes_that_nobody_or_everybody_has_are_left_out() -> None:
    labels = np.array([0, 0, 2, 2, 0])
    scores = np.random.default_rng(1).random((5, 3))
    expected = np.mean([roc_auc_score(labels == c, scores[:, c]) for c in (0, 2)])
    assert macro_auroc(labels, scores) == pytest.approx(expected)
    assert math.isnan(macro_auroc(np.zeros(5, dtype=np.int64), scores))
    assert math.isnan(macro_auroc(np.zeros(0, dtype=np.int64), np.zeros((0, 3))))


def test_retfound_score_is_the_mean_of_f1_auroc_and_kappa() -> None:
    generator = np.random.default_rng(2)
    labels, scores = generator.integers(0, 4, 80), generator.dirichlet(np.ones(4), 80)
    predicted = scores.argmax(axis=1)
    auroc = roc_auc_score(labels, scores, multi_class="ovr", average="macro")
    parts = [f1_score(labels, predicted, average="macro"), auroc, cohen_kappa_score(labels, predicted)]
    assert retfound_score(labels, scores) == pytest.approx(np.mean(parts))


def test_retfound_score_of_one_class_is_what_is_defined_and_of_nothing_is_undefined() -> None:
    scores = np.tile([0.9, 0.1], (3, 1))
    assert retfound_score(np.zeros(3, dtype=np.int64), scores) == 1.0, "F1 alone"
    assert math.isnan(retfound_score(np.zeros(0, dtype=np.int64), np.zeros((0, 2))))


def test_pick_takes_the_first_of_equals_and_says_when_nothing_is_defined() -> None:
    assert pick("abc", [0.5, 0.7, 0.7], otherwise="z") == ("b", {"validation_auroc": 0.7})
    assert pick("abc", [math.nan, 0.1, math.nan], otherwise="z")[0] == "b"
    chosen, facts = pick("abc", [math.nan] * 3, otherwise="z")
    assert chosen == "z"
    assert facts["validation_auroc"] is None
    assert "undefined" in facts["note"]
