"""Intervals over seeds, tests of differences, Holm's correction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from augscale.statistics.intervals import (
    combined_test,
    holm,
    paired_t_test,
    seed_interval_normal,
    seed_interval_t,
    verdict,
)

FIRST, SECOND = [0.84, 0.85, 0.83, 0.86, 0.84], [0.82, 0.84, 0.83, 0.83, 0.82]


def test_the_two_intervals_of_the_paper():
    t, normal = seed_interval_t(FIRST), seed_interval_normal(FIRST)
    mean, error = np.mean(FIRST), stats.sem(FIRST)
    assert t == pytest.approx(stats.t.interval(0.95, 4, loc=mean, scale=error))
    assert normal == pytest.approx(stats.norm.interval(0.95, loc=mean, scale=error))
    # What tells the paper's versions apart.
    assert (normal[1] - normal[0]) / (t[1] - t[0]) == pytest.approx(1.960 / 2.776, abs=1e-3)


def test_one_seed_has_no_interval():
    assert seed_interval_t([0.8]) is None
    assert seed_interval_normal([0.8]) is None


def test_the_paired_t_test_is_the_papers_anova_on_two_conditions():
    table = np.array([FIRST, SECOND])
    seeds, conditions = table.mean(axis=0), table.mean(axis=1)
    effect = 5 * ((conditions - table.mean()) ** 2).sum()
    residual = ((table - seeds - conditions[:, None] + table.mean()) ** 2).sum() / 4
    test = paired_t_test(FIRST, SECOND)
    assert test.p_value == pytest.approx(stats.f.sf(effect / residual, 1, 4))
    assert test.p_value == pytest.approx(stats.ttest_rel(FIRST, SECOND).pvalue)
    assert test.covers == ("head seeds",)


def test_seeds_that_change_nothing_cannot_be_tested():
    test = paired_t_test([0.8, 0.8, 0.8], [0.7, 0.7, 0.7])
    assert test.p_value is None
    assert "same for every seed" in test.reason
    assert paired_t_test([0.8], [0.7]).reason == "needs at least two seeds"


def test_the_combined_test_adds_both_variances():
    differences = np.subtract(FIRST, SECOND)
    replicates = np.random.default_rng(0).normal(differences.mean(), 0.01, 4000)
    test = combined_test(differences, replicates)
    variance = replicates.var(ddof=1) + differences.var(ddof=1) / 5
    low, high = test.interval
    assert test.covers == ("test images", "head seeds")
    assert (low + high) / 2 == pytest.approx(differences.mean())
    assert (high - low) / 2 > 1.96 * np.sqrt(variance)
    assert (test.p_value < 0.05) == (low > 0)


def test_with_one_seed_it_is_the_normal_test_over_images():
    replicates = np.random.default_rng(0).normal(0.02, 0.01, 4000)
    test = combined_test([0.02], replicates)
    assert test.p_value == pytest.approx(2 * stats.norm.sf(0.02 / replicates.std(ddof=1)))
    assert test.covers == ("test images",)


def test_without_image_variance_it_is_not_called_certain():
    assert combined_test([0.1, 0.1], np.full(100, 0.1)).p_value is None
    assert combined_test([0.1, 0.2], np.full(100, 0.15)).p_value is None
    assert combined_test([0.0, 0.0], np.zeros(100)).p_value == 1


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, then made monotone.
    assert holm([0.04, 0.01, None, 0.03, 0.02]) == pytest.approx((0.06, 0.04, None, 0.06, 0.06))
    assert holm([]) == ()
    assert holm([None]) == (None,)
    assert holm([0.9, 0.8]) == (1.0, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_raw_and_the_bonferroni_p(p_values):
    adjusted = holm(p_values)
    for p, a in zip(p_values, adjusted, strict=True):
        assert p <= a <= min(1.0, p * len(p_values)) + 1e-15
    order = np.argsort(p_values, kind="stable")
    assert all(np.diff([adjusted[i] for i in order]) >= 0)


def test_verdicts_do_not_overclaim():
    assert verdict(0.1, 0.049) == "better"
    assert verdict(-0.1, 0.049) == "worse"
    assert verdict(0.1, 0.05) == "not distinguishable"
    assert verdict(0.1, None) == "not distinguishable"
