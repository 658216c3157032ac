"""The answer's comparison of the best with the networks before training."""

from __future__ import annotations

import numpy as np
import pytest

from augscale.records.answer import ContenderRecord
from augscale.records.panel import PanelRecord, UntrainedRecord
from augscale.searching.answer import Scored, versus_untrained

SEEDS = range(3)
STARTS = (0.96, 1.04, 1.19)


def _contender(gains, images=0.01, seed=0):
    rng = np.random.default_rng(seed)
    scores = {k: STARTS[k] + gains[k] for k in SEEDS}
    replicates = {k: (scores[k] + rng.normal(0, images, 200)).tolist() for k in SEEDS}
    return _scored(scores, replicates)


def _scored(scores, replicates):
    values = tuple(scores.values())
    record = ContenderRecord(name="a", kind="best", scales={}, confirm_scores=values, search_score=1.0)
    return Scored(record=record, scores=scores, replicates=replicates)


def _untrained(images=0.01):
    rng = np.random.default_rng(9)
    entries = [PanelRecord(score=s, bootstrap_scores=(s + rng.normal(0, images, 200)).tolist()) for s in STARTS]
    return UntrainedRecord(**dict(entries[0]), confirm=tuple(entries))


def test_each_network_is_compared_with_the_one_that_it_began_with():
    """A gain of .1 on every seed is found although networks before training differ by .23."""
    best, other = _contender((0.10, 0.11, 0.12)), _contender((0.06, 0.08, 0.07), seed=1)
    found = versus_untrained(0, [best, other], _untrained(), 0.0)
    assert found.difference == pytest.approx(0.11)
    assert found.score == pytest.approx(np.mean(STARTS))
    assert found.beaten
    assert found.seeds == 3
    assert 0 < found.interval[0] < 0.11 < found.interval[1]
    taken_off = versus_untrained(0, [best, other], _untrained(), 0.1)
    assert taken_off.difference == pytest.approx(0.01)
    assert not taken_off.beaten


def test_gains_that_differ_from_seed_to_seed_as_much_as_they_are_large_are_none():
    best = _contender((0.30, 0.01, 0.02))
    assert not versus_untrained(0, [best], _untrained(), 0.0).beaten


def test_networks_that_did_not_learn_beat_nothing():
    best = _contender((0.0, 0.0, 0.0), images=0.0)
    found = versus_untrained(0, [best], _untrained(images=0.0), 0.0)
    assert (found.difference, found.beaten) == (0.0, False)
    assert found.interval == pytest.approx((0.0, 0.0), abs=1e-9)


def test_the_best_of_equal_ones_seldom_beats_the_network_before_training():
    """Training that moves scores at random, four contenders, the best by its mean: at most about 5 of 200."""
    rng = np.random.default_rng(3)
    beaten = 0
    for _ in range(200):
        contenders = [_contender(rng.normal(0, 0.03, 3), images=0.0) for _ in range(4)]
        best = max(range(4), key=lambda place: np.mean(contenders[place].record.confirm_scores))
        beaten += versus_untrained(best, contenders, _untrained(images=0.0), 0.0).beaten
    assert beaten <= 12


def test_one_seed_has_an_interval_over_images_only():
    best = _contender((0.1, 0.1, 0.1))
    best = _scored({0: best.scores[0]}, {0: best.replicates[0]})
    found = versus_untrained(0, [best], _untrained(), 0.0)
    assert found.seeds == 1
    assert found.interval[0] == pytest.approx(0.1 - 1.96 * 0.01 * 2**0.5, abs=0.01)
    assert versus_untrained(0, [best], None, 0.0) is None
