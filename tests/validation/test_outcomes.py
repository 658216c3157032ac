"""Outcomes of networks: areas against scikit-learn, halves that are halves, and what reliability means."""

import numpy as np
import pytest
from sklearn import metrics as sk

from augscale.evaluation.predictions import Predictions
from augscale.seeding import derive_seed
from augscale.statistics.stratified_bootstrap import resample_weights
from augscale.validation.outcomes import NUM_HALVES, half_weights, macro_areas, network_outcomes, reliability


def made(name="set", n=90, seed=0, groups=True, protocol="linear"):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) // 2 % 3
    scores = rng.dirichlet(np.ones(3), n) + 0.3 * np.eye(3)[labels]
    return Predictions(
        protocol=protocol,
        checkpoint="a",
        trained_on=name,
        tested_on=name,
        seed=0,
        classes=("x", "y", "z"),
        image_ids=tuple(map(str, range(n))),
        labels=labels,
        scores=scores / scores.sum(axis=1, keepdims=True),
        groups=np.arange(n) // 2 if groups else None,
    )


def by_key(predictions, **options):
    found = network_outcomes(predictions, **({"resamples": 30, "seed": 5} | options))
    return {name.key: outcome for name, outcome in found.items()}


def sklearn_areas(p, weights=None):
    member = np.eye(3)[p.labels]
    each = {"average": "macro", "sample_weight": weights}
    return sk.roc_auc_score(member, p.scores, **each), sk.average_precision_score(member, p.scores, **each)


def test_values_and_draws_are_scikit_learns():
    p = made()
    found = by_key([p])
    assert (found["set/linear/auroc"].value, found["set/linear/aupr"].value) == pytest.approx(sklearn_areas(p))
    weights = resample_weights(p.labels, p.groups, resamples=30, seed=derive_seed(5, "validation", "set"))
    for b in (0, 13, 29):
        expected = sklearn_areas(p, weights[:, b])
        drawn = (found["set/linear/auroc"].draws[b], found["set/linear/aupr"].draws[b])
        assert drawn == pytest.approx(expected)


def test_halves_are_scored_on_their_own_images():
    p = made()
    found = by_key([p])["set/linear/auroc"].halves
    weights = half_weights(p.labels, p.groups, seed=derive_seed(5, "validation", "set"))
    assert found.shape == (NUM_HALVES, 2)
    for side in (0, 1):
        inside = weights[:, 2 * 7 + side] > 0
        expected = sk.roc_auc_score(np.eye(3)[p.labels[inside]], p.scores[inside], average="macro")
        assert found[7, side] == pytest.approx(expected)


def test_halves_are_disjoint_complete_even_and_keep_patients_together():
    labels, groups = np.repeat([0, 0, 0, 1, 1, 2, 2, 2, 2], 3), np.repeat(np.arange(9), 3)
    weights = half_weights(labels, groups, seed=1)
    pairs = weights.reshape(len(labels), NUM_HALVES, 2)
    assert (pairs.sum(axis=2) == 1).all()
    for patient in range(9):
        assert (pairs[groups == patient] == pairs[groups == patient][0]).all()
    for c, patients in ((0, 3), (1, 2), (2, 4)):
        sizes = pairs[labels == c].sum(axis=0) / 3
        assert (np.abs(sizes[:, 0] - sizes[:, 1]) <= patients % 2).all()
    assert (pairs[:, 0] != pairs[:, 1]).any()


def test_a_class_of_one_patient_has_no_halves():
    assert half_weights(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 3, 3])) is None


def test_the_mean_over_datasets_is_the_mean_draw_by_draw():
    found = by_key([made("a", seed=1), made("b", n=60, seed=2, groups=False)])
    mean, a, b = (found[f"{name}/linear/auroc"] for name in ("mean", "a", "b"))
    assert mean.value == pytest.approx((a.value + b.value) / 2)
    assert mean.draws == pytest.approx((a.draws + b.draws) / 2)
    assert mean.halves == pytest.approx((a.halves + b.halves) / 2)
    assert mean.interval[0] < mean.value < mean.interval[1]


def test_one_dataset_has_no_mean_and_a_protocol_needs_all_datasets():
    assert not any(key.startswith("mean") for key in by_key([made("a")]))
    found = by_key([made("a"), made("b"), made("a", protocol="knn")])
    assert [key for key in found if key.startswith("mean")] == ["mean/linear/auroc", "mean/linear/aupr"]


def test_draws_belong_to_the_test_set_and_not_to_the_network():
    first, second = made(seed=1), made(seed=2)
    shared = macro_areas(second.labels, second.scores, resample_weights(
        second.labels, second.groups, resamples=30, seed=derive_seed(5, "validation", "set")))  # fmt: skip
    assert by_key([second])["set/linear/auroc"].draws == pytest.approx(shared["auroc"])
    assert by_key([first])["set/linear/auroc"].draws != pytest.approx(shared["auroc"])


def test_reliability_is_the_share_of_true_spread():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        true = 0.02 * rng.normal(size=20)
        observed = true + 0.02 * rng.normal(size=20)
        # Noise that all trials share moves no ranks, and must not count.
        draws = observed + 0.02 * rng.normal(size=(100, 20)) + rng.normal(size=(100, 1))
        found.append(reliability(observed, draws))
    assert np.mean(found) == pytest.approx(0.5, abs=0.08)


def test_reliability_is_undefined_without_spread():
    assert reliability(np.ones(5), np.ones((10, 5))) is None
    assert reliability(np.array([1.0, 2.0]), np.ones((10, 2))) is None
