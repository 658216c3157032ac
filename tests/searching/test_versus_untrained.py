"""The answer's comparison of the best with the networks before training."""

from __future__ import annotations

import numpy as np
import pytest

from augscale.searching.answer import _versus_untrained

SEEDS = range(3)
STARTS = (0.96, 1.04, 1.19)


def _contender(gains, images=0.01, seed=0):
    rng = np.random.default_rng(seed)
    scores = {k: STARTS[k] + gains[k] for k in SEEDS}
    replicates = {k: (scores[k] + rng.normal(0, images, 200)).tolist() for k in SEEDS}
    return {"_scores": scores, "_replicates": replicates, "confirm_scores": [*scores.values()], "search_score": 1.0}


def _untrained(images=0.01):
    rng = np.random.default_rng(9)
    entries = [{"score": s, "bootstrap_scores": (s + rng.normal(0, images, 200)).tolist()} for s in STARTS]
    return entries[0] | {"confirm": entries}


def test_each_network_is_compared_with_the_one_that_it_began_with():
    """A gain of .1 on every seed is found although networks before training differ by .23."""
    best, other = _contender((0.10, 0.11, 0.12)), _contender((0.06, 0.08, 0.07), seed=1)
    found = _versus_untrained(best, [best, other], _untrained(), 0.0)
    assert found["difference"] == pytest.approx(0.11)
    assert found["score"] == pytest.approx(np.mean(STARTS))
    assert found["beaten"]
    assert 0 < found["interval"][0] < 0.11 < found["interval"][1]
    taken_off = _versus_untrained(best, [best, other], _untrained(), 0.1)
    assert taken_off["difference"] == pytest.approx(0.01)
    assert not taken_off["beaten"]


def test_gains_that_differ_from_seed_to_seed_as_much_as_they_are_large_are_none():
    best = _contender((0.30, 0.01, 0.02))
    assert not _versus_untrained(best, [best], _untrained(), 0.0)["beaten"]


def test_networks_that_did_not_learn_beat_nothing():
    best = _contender((0.0, 0.0, 0.0), images=0.0)
    found = _versus_untrained(best, [best], _untrained(images=0.0), 0.0)
    assert (found["difference"], found["beaten"]) == (0.0, False)
    assert found["interval"] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_the_best_of_equal_ones_seldom_beats_the_network_before_training():
    """Training that moves scores at random, four contenders, the best by its mean: at most about 5 of 200."""
    rng = np.random.default_rng(3)
    beaten = 0
    for _ in range(200):
        contenders = [_contender(rng.normal(0, 0.03, 3), images=0.0) for _ in range(4)]
        best = max(contenders, key=lambda c: np.mean(c["confirm_scores"]))
        beaten += _versus_untrained(best, contenders, _untrained(images=0.0), 0.0)["beaten"]
    assert beaten <= 12


def test_one_seed_has_an_interval_over_images_only():
    best = _contender((0.1, 0.1, 0.1))
    best["_scores"], best["_replicates"] = {0: best["_scores"][0]}, {0: best["_replicates"][0]}
    best["confirm_scores"] = [best["_scores"][0]]
    found = _versus_untrained(best, [best], _untrained(), 0.0)
    assert found["interval"][0] == pytest.approx(0.1 - 1.96 * 0.01 * 2**0.5, abs=0.01)
    assert _versus_untrained(best, [best], None, 0.0) is None
