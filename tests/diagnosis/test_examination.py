"""Examination of a checkpoint: every failure is found, stated with its number, and comes with advice."""

from __future__ import annotations

import math

import numpy as np
import pytest

from augscale.diagnosis.examination import TrainingSigns, constant_dimensions, examine


@pytest.fixture
def spread() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((64, 16))


def test_spread_embeddings_are_healthy_and_need_no_advice(spread):
    found = examine(spread, mildest_auroc=0.9, versus_untrained=(0.1, 0.05, 0.15))
    assert found.verdict == "healthy"
    assert found.advice == ()
    assert any("effective rank" in line for line in found.evidence)


def test_equal_embeddings_are_collapsed(spread):
    found = examine(np.repeat(spread[:1], 64, axis=0))
    assert found.verdict == "collapsed"
    assert "16 of 16 dimensions are nearly constant" in " ".join(found.evidence)
    assert found.advice


def test_one_direction_is_collapsed_whatever_the_lengths(spread):
    found = examine(spread[:, :1] @ np.ones((1, 16)) + 5)
    assert found.verdict == "collapsed"
    assert found.evidence[0].startswith("effective rank")


def test_weights_with_nan_are_collapsed_without_looking_further():
    found = examine(np.full((4, 8), np.nan), non_finite=("blocks.0.mlp.fc1.weight",))
    assert found.verdict == "collapsed"
    assert "blocks.0.mlp.fc1.weight" in found.evidence[0]
    assert len(found.evidence) == 1


def test_embeddings_with_nan_from_finite_weights_are_said_so(spread):
    spread[3, 2] = np.inf
    found = examine(spread)
    assert found.verdict == "collapsed"
    assert "1 of 64 embeddings are not finite" in found.evidence[0]


@pytest.mark.parametrize(
    ("signs", "verdict", "words"),
    [
        (TrainingSigns(loss=math.log(4096) - 0.001, out_dim=4096), "collapsed", "stuck"),
        (TrainingSigns(information=0.02, loss=5.0, out_dim=4096), "collapsed", "0.020 nats"),
        (TrainingSigns(information=1.5, loss=5.0, out_dim=4096), "healthy", "1.500 nats"),
    ],
)
def test_a_stuck_loss_and_silent_outputs_are_seen(spread, signs, verdict, words):
    found = examine(spread, training=signs)
    assert found.verdict == verdict
    assert any(words in line for line in found.evidence)
    assert bool(found.advice) == (verdict != "healthy")


def test_no_better_than_before_training_is_suspicious_and_says_by_how_much(spread):
    found = examine(spread, versus_untrained=(-0.02, -0.05, 0.01))
    assert found.verdict == "suspicious"
    assert "-0.020" in found.evidence[0]
    assert any("train longer" in line for line in found.advice)


def test_poor_separation_at_the_mildest_level_is_suspicious(spread):
    assert examine(spread, mildest_auroc=0.52).verdict == "suspicious"


def test_a_network_before_training_gets_no_advice(spread):
    assert examine(spread, mildest_auroc=0.52, trained=False).advice == ()


def test_constant_dimensions_do_not_depend_on_the_scale_of_features(spread):
    spread[:, :5] = 1.0
    for factor in (1e-6, 1.0, 1e6):
        assert constant_dimensions(factor * spread) == 5
    assert constant_dimensions(np.zeros((4, 3))) == 3
