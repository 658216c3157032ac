"""Rank correlations and regret against scipy and plain loops."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from augscale.errors import DataError
from augscale.statistics.ranking import rank_correlation
from augscale.statistics.regret import regret
from augscale.statistics.trial_rows import group_weights

ORACLES = {"spearman": stats.spearmanr, "kendall": stats.kendalltau}


def drawn_rows(weights, group_of):
    """The rows of one replicate, each as often as its group was drawn."""
    return np.repeat(np.arange(len(group_of)), weights[group_of].astype(int))


@pytest.mark.parametrize("kind", ORACLES)
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 30), st.integers(2, 12))
def test_values_with_ties_are_scipys(kind, seed, n, distinct):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, distinct, n), rng.integers(0, distinct, n)
    found = rank_correlation(x, y, kind=kind, bootstrap=0)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert found.value is None
        assert "same in all rows" in found.note
    else:
        assert found.value == pytest.approx(ORACLES[kind](x, y).statistic, abs=1e-12)
    assert found.interval is None


@pytest.mark.parametrize("kind", ORACLES)
@pytest.mark.parametrize("with_draws", [False, True])
def test_every_replicate_is_scipys_value_on_the_drawn_rows(kind, with_draws):
    rng = np.random.default_rng(1)
    groups = np.repeat([7, 3, 9, 1, 5, 2], [2, 1, 3, 2, 1, 2])
    group_of = np.repeat(np.arange(6), [2, 1, 3, 2, 1, 2])
    x, y = np.round(rng.normal(size=(2, 11)), 1)
    draws = np.round(y + 0.3 * rng.normal(size=(4, 11)), 1) if with_draws else y[None]
    found = rank_correlation(
        x, y, kind=kind, groups=groups, outcome_draws=draws if with_draws else None, bootstrap=50, seed=3
    )
    weights = group_weights(6, 50, 3)
    for b in range(50):
        rows = drawn_rows(weights[b], group_of)
        expected = ORACLES[kind](x[rows], draws[b % len(draws)][rows]).statistic
        assert found.replicates[b] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    low, high = np.percentile(found.replicates, (2.5, 97.5))
    assert found.interval == pytest.approx((low, high))


def test_groups_are_drawn_whole_and_evenly():
    weights = group_weights(10, 4000, 0)
    assert (weights.sum(axis=1) == 10).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(10), abs=0.06)
    assert weights.var(axis=0) == pytest.approx(np.full(10, 0.9), abs=0.12)
    assert (group_weights(10, 5, 0) == weights[:5]).all()


def test_intervals_cover_the_true_correlation_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    true = 6 / np.pi * np.arcsin(0.5 / 2)
    covered = 0
    for index in range(200):
        x, noise = rng.normal(size=(2, 20))
        interval = rank_correlation(x, 0.5 * x + np.sqrt(0.75) * noise, bootstrap=300, seed=index).interval
        covered += interval[0] <= true <= interval[1]
    assert 0.89 <= covered / 200 <= 0.99


def test_noisy_outcomes_widen_the_interval():
    rng = np.random.default_rng(0)
    x = np.arange(30.0)
    y = x + rng.normal(size=30)
    narrow = rank_correlation(x, y).interval
    wide = rank_correlation(x, y, outcome_draws=y + 8 * rng.normal(size=(100, 30))).interval
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


@pytest.mark.parametrize(
    ("scores", "outcomes", "groups", "note"),
    [
        ([1, 2, 3], [1, 2, 3], None, "3 rows; expected at least 4"),
        ([1, 1, 1, 1], [1, 2, 3, 4], None, "the score is the same in all rows"),
        ([1, 1, 1, 1], [2, 2, 2, 2], None, "the score and the outcome is the same in all rows"),
        ([1, 2, 3, 4], [1, 2, 3, 4], [0, 0, 1, 1], "no interval: 2 groups to resample; expected at least 4"),
    ],
)
def test_too_little_to_tell_says_why(scores, outcomes, groups, note):
    found = rank_correlation(scores, outcomes, groups=groups)
    assert found.note == note
    assert found.interval is None
    assert (found.value is None) == (groups is None)


def test_no_interval_where_most_replicates_are_constant():
    found = rank_correlation([0, 0, 0, 0, 0, 1], [0, 1, 2, 3, 4, 5])
    assert found.value == pytest.approx(stats.spearmanr([0, 0, 0, 0, 0, 1], range(6)).statistic)
    assert found.interval is None
    assert found.note.startswith("no interval: in 3")


def test_two_thousand_draws_of_sixty_trials_are_quick():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 60))
    draws = y + rng.normal(size=(200, 60))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        rank_correlation(x, y, outcome_draws=draws, bootstrap=2000)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": [1, np.nan, 3, 4]}, "scores: 1 of 4 values are not finite"),
        ({"outcomes": [1, 2, 3]}, "outcomes: 3 values for 4 scores; expected one each"),
        ({"scores": [[1, 2], [3, 4]]}, r"scores: shape \(2, 2\); expected one value per trial"),
        ({"groups": [0, 1]}, r"groups: shape \(2,\); expected \(4,\)"),
        ({"outcome_draws": [[1, 2, 3]]}, r"outcome_draws: shape \(1, 3\); expected \(draws, 4\)"),
        ({"outcome_draws": [[1, 2, 3, np.inf]]}, "outcome_draws: 1 values are not finite"),
    ],
)
@pytest.mark.parametrize("function", [rank_correlation, regret])
def test_bad_tables_are_refused(function, arguments, message):
    with pytest.raises(DataError, match=message):
        function(**({"scores": [1, 2, 3, 4], "outcomes": [4, 3, 2, 1]} | arguments))


NAMES = ["weak", "strong", "a", "b", "c"]
SCORES = [0.1, 0.2, 0.9, 0.8, 0.3]
OUTCOMES = [0.70, 0.72, 0.75, 0.80, 0.60]


def test_regret_of_a_small_table_by_hand():
    found = regret(SCORES, OUTCOMES, names=NAMES, bootstrap=0)
    assert (found.best, found.pick) == ("b", "a")
    assert found.regret == pytest.approx(0.05)
    others = {other.name: (other.outcome, other.regret, other.gain) for other in found.alternatives}
    assert others["strong"] == pytest.approx((0.72, 0.08, 0.03))
    assert others["weak"] == pytest.approx((0.70, 0.10, 0.05))
    assert others["random"] == pytest.approx((0.714, 0.086, 0.036))
    assert list(others) == ["strong", "weak", "random"]
    assert found.best_corrected is found.best_crossfitted is found.interval is None


def test_regret_replicates_by_plain_loops():
    rng = np.random.default_rng(4)
    draws = np.array(OUTCOMES) + 0.05 * rng.normal(size=(7, 5))
    found = regret(SCORES, OUTCOMES, names=NAMES, outcome_draws=draws, bootstrap=300, seed=1)
    weights = group_weights(5, 300, 1)
    regrets, gains = [], []
    for b in range(300):
        drawn = [i for i in range(5) if weights[b, i]]
        outcome = draws[b % 7]
        pick = max(drawn, key=lambda i: SCORES[i])
        regrets.append(max(outcome[i] for i in drawn) - outcome[pick])
        gains.append(outcome[pick] - outcome[1])
    assert found.interval == pytest.approx(np.percentile(regrets, (2.5, 97.5)))
    assert found.alternatives[0].gain_interval == pytest.approx(np.percentile(gains, (2.5, 97.5)))
    assert found.interval[0] >= 0


def test_a_choice_is_the_mean_over_its_seeds():
    found = regret(
        [1, 3, 2, 2.5], [0.9, 0.1, 0.6, 0.6], names=["x", "x", "y", "y"], groups=[5, 5, 2, 2], controls=["x"]
    )
    assert found.num_choices == 2
    assert (found.best, found.pick) == ("y", "y")
    assert found.alternatives[0].outcome == pytest.approx(0.5)
    assert found.note == "no intervals: 2 choices; expected 4"


def test_the_best_of_pure_noise_is_corrected_towards_the_truth():
    """Twenty choices of equal worth 0.5: the naive best is far above, both remedies are near."""
    rng = np.random.default_rng(5)
    naive, corrected, crossfitted = [], [], []
    for _ in range(200):
        halves = 0.5 + 0.03 * rng.normal(size=(1, 2, 20))
        outcomes = halves.mean(axis=(0, 1))
        draws = outcomes + 0.03 / np.sqrt(2) * rng.normal(size=(100, 20))
        found = regret(np.arange(20), outcomes, outcome_draws=draws, outcome_halves=halves, bootstrap=0)
        naive.append(found.best_outcome)
        corrected.append(found.best_corrected)
        crossfitted.append(found.best_crossfitted)
    assert np.mean(naive) > 0.535
    assert np.mean(crossfitted) == pytest.approx(0.5, abs=0.005)
    assert abs(np.mean(corrected) - 0.5) < 0.6 * (np.mean(naive) - 0.5)


def test_crossfitting_by_hand():
    halves = np.array([[[0.9, 0.5, 0.4], [0.6, 0.8, 0.4]]])
    # Best on the first half is 0, worth .6 on the second; best on the second is 1, worth .5 on the first.
    found = regret([0, 0, 1], [0.75, 0.65, 0.4], outcome_halves=halves)
    assert found.best_crossfitted == pytest.approx(0.55)
    assert found.regret_crossfitted == pytest.approx(0.15)


def test_one_choice_has_no_regret():
    found = regret([1.0, 2.0], [0.5, 0.6], groups=[0, 0])
    assert found.regret is None
    assert found.note == "1 choices; expected at least 2"


def test_names_must_agree_within_a_group():
    with pytest.raises(DataError, match="'a' and 'b' are in one group"):
        regret([1, 2], [1, 2], names=["a", "b"], groups=[0, 0])
    with pytest.raises(DataError, match="names: 1 names for 2 trials"):
        regret([1, 2], [1, 2], names=["a"])
